# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The wire codec under any bytes and any outcomes, for sanitizers: a C unit in which Python never starts.

Built and run by tools/fuzz.py. The first byte of an input chooses: a request is read, a KeepAlive message is read and answered,
or an outcome is written. Besides what the sanitizers see, these must hold:

* a request that is taken stands in its bounds, is read the same twice, and written out again and read is itself;
* every fault and every failure has its words within WIRE_ANSWER_SIZE_MAX;
* what is written can be read, whole, and has as many leases and denials as the outcome.
"""

from libc.stdint cimport UINT32_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset, strchr, strlen

from limits cimport *
from records cimport *
from siphash cimport siphash128
from wire cimport *
from words cimport *

cdef extern from "usher_assert.h" nogil:
    void USHER_ASSERT(bint condition) noexcept

cdef extern from *:
    """
    #define USHER_NS_PER_SECOND 1000000000LL
    static const char *const harness_names[4] = {"platform", "crm", "p", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
    static const uint64_t harness_secret[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    """
    const long long NS_PER_SECOND "USHER_NS_PER_SECOND"
    const char* const NAMES "harness_names"[4]
    const uint64_t SECRET "harness_secret"[2]

include "reader.pxi"
include "spans.pxi"
include "intake.pxi"
include "writer.pxi"
include "sentences.pxi"
include "refusals.pxi"
include "answers.pxi"
include "script.pxi"

cdef enum:
    AGAIN_SIZE_MAX = 8192           # of a request written out again


cdef struct Taken:                  # a request as it was read
    uint8_t* room
    Command command
    Extras extras
    WireError error


# --- requests in -----------------------------------------------------------------------------------------------------

cdef uint8_t take_request(Taken* taken, uint8_t message, const uint8_t* data, uint32_t size, const Span* identity) noexcept nogil:
    """By its own intake, into a room of exactly its size."""
    taken.room = <uint8_t*>malloc(WIRE_TEXT_ROOM)
    memset(taken.room, 0xA5, WIRE_TEXT_ROOM)
    if message == MESSAGE_OPEN or message == MESSAGE_OPEN_WAITING:
        return open_intake(message, data, size, identity, SECRET, taken.room, &taken.command, &taken.extras, &taken.error)
    if message == MESSAGE_RENEW:
        return renew_intake(data, size, &taken.command, &taken.extras, &taken.error)
    return in_session_intake(message, data, size, SECRET, taken.room, &taken.command, &taken.extras, &taken.error)


cdef bint is_in_room(const Taken* taken, const uint8_t* data, uint32_t size) noexcept nogil:
    return taken.room <= data and data + size <= taken.room + WIRE_TEXT_ROOM


cdef void check_bounds(const Taken* taken, uint8_t message) noexcept nogil:
    cdef const Command* command = &taken.command
    cdef uint32_t size = 0
    cdef uint32_t i
    for i in range(TEXT_PARTS):
        size += command.sizes[i]
    USHER_ASSERT(size == command.text_size and size <= WIRE_TEXT_SIZE_MAX)
    USHER_ASSERT(command.names.count <= ITEMS_MAX and command.optional < (1u << command.names.count) or command.optional == 0)
    for i in range(command.names.count):
        USHER_ASSERT(1 <= command.names.sizes[i] <= PRODUCT_SIZE_MAX)
        USHER_ASSERT(is_in_room(taken, command.names.bytes[i], command.names.sizes[i]))
    USHER_ASSERT(taken.extras.nonce_size <= CLIENT_NONCE_SIZE_MAX and 0 <= taken.extras.wait_limit <= TTL_MAX_NS)
    USHER_ASSERT(0 <= command.ttl <= TTL_MAX_NS and taken.error.fault == FAULT_NONE)
    USHER_ASSERT(command.verb == (VERB_OPEN if message == MESSAGE_OPEN_WAITING else message))


cdef void check_same(const Taken* one, const Taken* other, bint is_salt_too) noexcept nogil:
    cdef const Command* a = &one.command
    cdef const Command* b = &other.command
    cdef uint32_t i
    USHER_ASSERT(a.verb == b.verb and a.invalid == b.invalid and a.text_size == b.text_size and a.optional == b.optional)
    USHER_ASSERT(memcmp(a.sizes, b.sizes, TEXT_PARTS) == 0 and a.ttl == b.ttl and a.change_version == b.change_version)
    USHER_ASSERT(memcmp(a.session_id, b.session_id, SESSION_ID_SIZE) == 0)
    USHER_ASSERT(memcmp(a.request_id, b.request_id, REQUEST_ID_SIZE) == 0)
    USHER_ASSERT(a.text_size == 0 or memcmp(a.text, b.text, a.text_size) == 0)
    USHER_ASSERT(a.names.count == b.names.count)
    for i in range(a.names.count):
        USHER_ASSERT(a.names.sizes[i] == b.names.sizes[i])
        USHER_ASSERT(memcmp(a.names.bytes[i], b.names.bytes[i], a.names.sizes[i]) == 0)
    USHER_ASSERT(one.extras.wait_limit == other.extras.wait_limit and one.extras.active == other.extras.active)
    USHER_ASSERT(one.extras.nonce_size == other.extras.nonce_size)
    USHER_ASSERT(memcmp(one.extras.nonce, other.extras.nonce, one.extras.nonce_size) == 0)
    if is_salt_too:
        USHER_ASSERT(memcmp(a.salt, b.salt, 16) == 0)


cdef void put_products(Writer* writer, const Command* command) noexcept nogil:
    cdef uint32_t i = command.names.count
    cdef const uint8_t* end
    while i:
        i -= 1
        end = writer.at
        put_number(writer, 2, (command.optional >> i) & 1)
        put_text(writer, 1, command.names.bytes[i], command.names.sizes[i])
        put_length(writer, 3, end)


cdef void put_request(Writer* writer, const Taken* taken) noexcept nogil:
    """The message that the command was made of; what only went into the salt (machine identifiers) is lost."""
    cdef const Command* command = &taken.command
    cdef const uint8_t* end
    cdef const uint8_t* text = command.text
    cdef uint32_t starts[TEXT_PARTS]
    cdef uint32_t i
    cdef uint32_t size = 0
    if command.verb == VERB_RENEW:
        if taken.extras.active != ACTIVE_UNKNOWN:
            put_varint(writer, taken.extras.active == ACTIVE_YES)
            put_tag(writer, 3, WIRE_VARINT)
        put_number(writer, 2, command.change_version)
        put_text(writer, 1, command.session_id, SESSION_ID_SIZE)
    elif command.verb == VERB_OPEN:
        for i in range(TEXT_PARTS):
            starts[i] = size
            size += command.sizes[i]
        put_text(writer, 7, taken.extras.nonce, taken.extras.nonce_size)
        put_duration(writer, 6, command.ttl)
        put_duration(writer, 5, taken.extras.wait_limit)
        put_text(writer, 4, text + starts[TEXT_INSTANCE], command.sizes[TEXT_INSTANCE])
        put_products(writer, command)
        end = writer.at
        for i in range(TEXT_LABEL + 1):
            put_text(writer, TEXT_LABEL + 1 - i, text + starts[TEXT_LABEL - i], command.sizes[TEXT_LABEL - i])
        put_length(writer, 2, end)
        put_text(writer, 1, command.request_id, REQUEST_ID_SIZE)
    else:
        if command.verb == VERB_ACQUIRE:
            put_text(writer, 4, taken.extras.nonce, taken.extras.nonce_size)
            put_products(writer, command)
        elif command.verb == VERB_RELEASE:
            put_text(writer, 3, command.names.bytes[0], command.names.sizes[0])
        put_text(writer, 2, command.request_id, REQUEST_ID_SIZE)
        put_text(writer, 1, command.session_id, SESSION_ID_SIZE)


cdef void check_again(const Taken* taken, uint8_t message, const Span* identity) noexcept nogil:
    """Written out and read again it is the same."""
    cdef uint8_t* again = <uint8_t*>malloc(AGAIN_SIZE_MAX)
    cdef Writer writer
    cdef const uint8_t* end
    cdef Taken other
    writer_begin(&writer, again, AGAIN_SIZE_MAX)
    end = writer.at
    put_request(&writer, taken)
    if message == MESSAGE_OPEN_WAITING:
        put_length(&writer, 1, end)
    USHER_ASSERT(take_request(&other, message, writer.at, written_size(&writer), identity) == FAULT_NONE)
    check_same(taken, &other, False)
    free(other.room)
    free(again)


cdef void check_fault(const WireError* error) noexcept nogil:
    """It has words, and they fit."""
    cdef Failure failure
    cdef uint8_t* room = <uint8_t*>malloc(WIRE_ANSWER_SIZE_MAX)
    cdef Writer writer
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    fail_fault(&failure, error)
    put_failure(&writer, &failure)
    USHER_ASSERT(failure.code != CODE_OK and failure.message.size != 0)
    check_readable(writer.at, written_size(&writer))
    free(room)


cdef void try_request(Script* script) noexcept nogil:
    cdef uint8_t message = 1 + take_byte(script) % 6
    cdef Span identity
    cdef Taken taken
    cdef Taken twin
    cdef WireError error
    message = MESSAGE_OPEN_WAITING if message == MESSAGE_KEEP_ALIVE else message
    identity.bytes = <const uint8_t*>NAMES[3]
    identity.size = take_byte(script) % 33
    if take_request(&taken, message, script.at, <uint32_t>(script.end - script.at), &identity):
        USHER_ASSERT(taken.error.fault != FAULT_NONE and taken.error.message == message)
        check_fault(&taken.error)
        free(taken.room)
        return
    check_bounds(&taken, message)
    USHER_ASSERT(take_request(&twin, message, script.at, <uint32_t>(script.end - script.at), &identity) == FAULT_NONE)
    check_same(&taken, &twin, True)
    if taken.command.invalid == INVALID_NONE:
        check_again(&taken, message, &identity)
    if message == MESSAGE_OPEN_WAITING:
        error_begin(&error, message)
        if check_unasked(&taken.command, &error):
            check_fault(&error)
        else:
            USHER_ASSERT(first_required(&taken.command) < taken.command.names.count)
    free(twin.room)
    free(taken.room)


# --- answers out -----------------------------------------------------------------------------------------------------

cdef uint32_t count_fields(const uint8_t* data, uint32_t size, uint32_t number) noexcept nogil:
    """How often the message has the span of that number; it must be readable to its end."""
    cdef Reader reader
    cdef Field field
    cdef uint32_t count = 0
    reader_begin(&reader, data, size)
    while next_field(&reader, &field):
        USHER_ASSERT(1 <= field.number < 16)
        count += is_span(&field, number)
    USHER_ASSERT(not reader.is_bad)
    return count


cdef void check_readable(const uint8_t* data, uint32_t size) noexcept nogil:
    count_fields(data, size, 0)


cdef bint find_span(const uint8_t* data, uint32_t size, uint32_t number, Span* found) noexcept nogil:
    cdef Reader reader
    cdef Field field
    reader_begin(&reader, data, size)
    while next_field(&reader, &field):
        if is_span(&field, number):
            found[0] = field.span
            return True
    return False


cdef struct Material:               # an outcome with all that its answer needs
    AnswerContext context
    Command command
    Outcome outcome
    Workspace space
    Product products[4]
    LeaseOut leases[LEASES_OF_SESSION_MAX]
    DenialRecord unavailable[ITEMS_MAX]


cdef int64_t take_duration(Script* script) noexcept nogil:
    """As the ledger gives them: never below zero, at most its largest ttl."""
    return <int64_t>(<uint64_t>take_long(script) % <uint64_t>(TTL_MAX_NS + 1))


cdef void take_denial(Script* script, DenialRecord* denial) noexcept nogil:
    memset(denial, 0, sizeof(DenialRecord))
    denial.item = <uint8_t>take_below(script, ITEMS_MAX)
    denial.reason = <uint8_t>take_below(script, DENIAL_REASON_COUNT)
    denial.capacity = <int32_t>take_long(script)
    denial.in_use = <int32_t>take_long(script)
    denial.reserved = <int32_t>take_long(script)
    denial.withheld = <int32_t>take_long(script)
    denial.deficit = <int32_t>take_long(script)
    denial.waiters = <int32_t>take_long(script)
    denial.retry_after = take_duration(script)


cdef void take_lease(Script* script, LeaseOut* lease) noexcept nogil:
    cdef uint8_t flags = take_byte(script)
    memset(lease, 0, sizeof(LeaseOut))
    lease.product = flags & 3
    lease.state = 1 + ((flags >> 2) & 3) % LEASE_ENDED
    lease.is_shared = (flags >> 4) & 1
    lease.is_emulated = (flags >> 5) & 1
    lease.end_reason = <uint8_t>take_below(script, END_REASON_COUNT)
    lease.seats = <int32_t>take_long(script)
    lease.key_grace = take_duration(script)
    lease.fence = <uint64_t>take_long(script) >> 1


cdef void material_begin(Material* m, Script* script) noexcept nogil:
    cdef uint32_t i
    memset(m, 0, sizeof(Material))
    for i in range(4):
        m.products[i].name_size = <uint8_t>strlen(NAMES[i])
        memcpy(m.products[i].name, NAMES[i], m.products[i].name_size)
    for i in range(ITEMS_MAX):
        m.command.names.bytes[i] = <const uint8_t*>NAMES[i & 3]
        m.command.names.sizes[i] = <uint8_t>strlen(NAMES[i & 3])
    m.command.names.count = ITEMS_MAX
    m.context.products = m.products
    m.context.renew_grace = 10 * NS_PER_SECOND
    m.space.leases = m.leases
    m.space.unavailable = m.unavailable
    m.command.fence = <uint64_t>take_long(script) >> 1
    m.outcome.fence = <uint64_t>take_long(script) >> 1
    m.outcome.ttl = take_duration(script)
    m.outcome.change_version = <uint64_t>take_long(script)
    m.outcome.end_reason = <uint8_t>take_below(script, END_REASON_COUNT)
    m.outcome.is_replayed = take_byte(script) & 1
    m.outcome.lease_count = <uint8_t>take_below(script, LEASES_OF_SESSION_MAX + 1)
    m.outcome.unavailable_count = <uint8_t>take_below(script, ITEMS_MAX)
    for i in range(m.outcome.lease_count):
        take_lease(script, &m.leases[i])
    for i in range(m.outcome.unavailable_count):
        take_denial(script, &m.unavailable[i])


cdef uint8_t success_of(uint8_t verb) noexcept nogil:
    if verb == VERB_OPEN:
        return STATUS_GRANTED
    if verb == VERB_RENEW:
        return STATUS_RENEWED
    if verb == VERB_ACQUIRE:
        return STATUS_ACQUIRED
    return STATUS_RELEASED if verb == VERB_RELEASE else STATUS_CLOSED


cdef uint8_t take_status(Script* script, uint8_t verb, Outcome* outcome) noexcept nogil:
    """One that this verb can have, with a detail that it can have."""
    cdef uint32_t choice = take_below(script, 10)
    outcome.detail = take_byte(script)
    if choice < 3:
        outcome.detail &= 1
        return success_of(verb)
    if choice == 3 and verb != VERB_RENEW and verb != VERB_CLOSE:
        return STATUS_DENIED
    if choice == 4 and verb == VERB_OPEN:
        return STATUS_ENDED
    if choice == 5 and verb != VERB_RENEW:
        outcome.detail = 1 + outcome.detail % INVALID_PRIORITY
        return STATUS_INVALID
    if choice == 6 and verb != VERB_RENEW:
        outcome.detail = 1 + outcome.detail % BOUND_LEASES_OF_SESSION
        return STATUS_OVERLOADED
    if choice == 7 and verb != VERB_RENEW:
        return STATUS_REQUEST_ID_REUSED if outcome.detail & 1 or verb != VERB_OPEN else STATUS_DRAINING
    return STATUS_EVENTS_FULL if choice == 8 else STATUS_NOT_FOUND


cdef void check_answer(const Material* m, const Writer* writer) noexcept nogil:
    """As many leases and denials as there were."""
    cdef Span inner
    cdef uint32_t lease_field = 6
    cdef uint32_t denial_field = 7
    check_readable(writer.at, written_size(writer))
    if m.outcome.status == STATUS_RENEWED:
        USHER_ASSERT(count_fields(writer.at, written_size(writer), 4) == m.outcome.lease_count)
    elif m.outcome.status == STATUS_GRANTED or m.outcome.status == STATUS_ACQUIRED:
        if m.outcome.status == STATUS_ACQUIRED:
            lease_field = 1
            denial_field = 2
        USHER_ASSERT(find_span(writer.at, written_size(writer), 1, &inner))
        USHER_ASSERT(count_fields(inner.bytes, inner.size, lease_field) == m.outcome.lease_count)
        USHER_ASSERT(count_fields(inner.bytes, inner.size, denial_field) == m.outcome.unavailable_count)


cdef void try_answer(Script* script) noexcept nogil:
    cdef uint8_t verb = <uint8_t>(1 + take_below(script, 5))
    cdef bint is_waiting = take_byte(script) & 1
    cdef uint8_t* room = <uint8_t*>malloc(WIRE_ANSWER_SIZE_MAX)
    cdef Writer writer
    cdef Failure failure
    cdef Material m
    material_begin(&m, script)
    m.command.verb = verb
    m.outcome.status = take_status(script, verb, &m.outcome)
    take_denial(script, &m.outcome.denial)
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    if is_waiting and verb == VERB_OPEN:
        put_open_waiting_answer(&writer, &m.context, &m.command.names, &m.outcome, &m.space, take_duration(script))
        check_readable(writer.at, written_size(&writer))
    elif answer_or_failure(&writer, &m.context, &m.command, &m.outcome, &m.space, &failure) == CODE_OK:
        check_answer(&m, &writer)
    else:
        USHER_ASSERT(failure.message.size != 0)
        check_readable(writer.at, written_size(&writer))
    free(room)


# --- KeepAlive -------------------------------------------------------------------------------------------------------

cdef uint32_t put_result(Writer* writer, Script* choices, const Command* command) noexcept nogil:
    """A result of any kind, or a notice in its place."""
    cdef Material m
    cdef uint32_t kind = take_below(choices, 4)
    material_begin(&m, choices)
    m.command.verb = VERB_RENEW
    memcpy(m.command.session_id, command.session_id, SESSION_ID_SIZE)
    if kind == 2:
        return put_ended_notice(writer, command.session_id, m.command.fence, m.outcome.end_reason)
    if kind == 3:
        return put_leases_notice(
            writer, &m.context, command.session_id, m.leases, m.outcome.lease_count, m.outcome.change_version)
    m.outcome.status = STATUS_RENEWED if kind == 0 else STATUS_NOT_FOUND
    return put_keep_alive_result(writer, &m.context, &m.command, &m.outcome, &m.space)


cdef void try_keep_alive(Script* script) noexcept nogil:
    """The first part of the input chooses the results, the rest is the message."""
    cdef KeepAliveItems items
    cdef WireError error
    cdef Command command
    cdef Extras extras
    cdef Span forgotten
    cdef Script choices
    cdef Writer writer
    cdef uint8_t* room
    cdef uint32_t count = 0
    cdef uint32_t part_size = 0
    cdef uint32_t size
    cdef const uint8_t* start = NULL
    size = take_span(script, take_byte(script), &start)
    script_begin(&choices, start, size)
    if keep_alive_intake(script.at, <uint32_t>(script.end - script.at), &items, &error):
        check_fault(&error)
        return
    room = <uint8_t*>malloc(WIRE_ANSWER_SIZE_MAX)
    while next_forget(&items, &forgotten):
        USHER_ASSERT(forgotten.size == SESSION_ID_SIZE and script.at <= forgotten.bytes <= script.end - SESSION_ID_SIZE)
    while next_renewal(&items, &command, &extras):
        count += 1
        writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
        size = put_result(&writer, &choices, &command)
        USHER_ASSERT(written_size(&writer) <= size + STREAM_ITEM_FRAME_SIZE)
        check_readable(writer.at, written_size(&writer))
        part_size = 0 if is_over_message(part_size, size) else part_size
        part_size += size + STREAM_ITEM_FRAME_SIZE
        USHER_ASSERT(part_size <= STREAM_ANSWER_SIZE_MAX)
    USHER_ASSERT(count == items.renewal_count and count <= RENEWALS_PER_MESSAGE_MAX)
    free(room)


cdef public int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) noexcept nogil:
    cdef Script script
    cdef uint32_t kind
    script_begin(&script, data, size)
    kind = take_below(&script, 3)
    if kind == 0:
        try_request(&script)
    elif kind == 1:
        try_answer(&script)
    else:
        try_keep_alive(&script)
    return 0
