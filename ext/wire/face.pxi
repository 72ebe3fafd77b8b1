# The Python face of the codec, for tests: bytes in, plain values out, and back. The data plane never comes here.

import time

MESSAGE_NUMBERS = {
    "OpenRequest": MESSAGE_OPEN, "RenewRequest": MESSAGE_RENEW, "AcquireRequest": MESSAGE_ACQUIRE,
    "ReleaseRequest": MESSAGE_RELEASE, "CloseRequest": MESSAGE_CLOSE, "KeepAliveRequest": MESSAGE_KEEP_ALIVE,
    "OpenWaitingRequest": MESSAGE_OPEN_WAITING,
}

cdef enum:
    FACE_ROOM = 2 * WIRE_ANSWER_SIZE_MAX
    FACE_PRODUCTS_MAX = LEASES_OF_SESSION_MAX


class Refused(Exception):
    """A status other than OK: its code, its sentence, its google.rpc.Status as bytes."""

    def __init__(self, code, message, details):
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


# --- in ------------------------------------------------------------------------------------------------------------------------

cdef bytes _bytes_of(const Span* span):
    return PyBytes_FromStringAndSize(<const char*>span.bytes, span.size)


cdef _refused_by(Failure* failure):
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    put_failure(&writer, failure)
    details = PyBytes_FromStringAndSize(<char*>writer.at, written_size(&writer))
    return Refused(failure.code, failure.message.bytes[:failure.message.size].decode(), details)


cdef _raise_fault(const WireError* error):
    cdef Failure failure
    fail_fault(&failure, error)
    raise _refused_by(&failure)


cdef list _texts_of(const Command* command):
    cdef list texts = []
    cdef const uint8_t* at = command.text
    cdef int i
    for i in range(TEXT_PARTS):
        texts.append(PyBytes_FromStringAndSize(<const char*>at, command.sizes[i]))
        at += command.sizes[i]
    return texts


cdef tuple _products_of(const Command* command):
    cdef uint32_t i
    return tuple([
        (PyBytes_FromStringAndSize(<const char*>command.names.bytes[i], command.names.sizes[i]).decode(), bool((command.optional >> i) & 1))
        for i in range(command.names.count)
    ])


cdef tuple _value_of(const Command* command, const Extras* extras):
    """All of the command that was filled in, and what else was said."""
    return (
        command.verb, command.invalid, tuple(_texts_of(command)) if command.verb == VERB_OPEN else (),
        _products_of(command), command.session_id[:SESSION_ID_SIZE], command.request_id[:REQUEST_ID_SIZE],
        command.change_version, command.ttl, (<const uint8_t*>command.salt)[:16], extras.wait_limit,
        extras.nonce[:extras.nonce_size], (None, False, True)[extras.active],
    )


cdef uint8_t _intake(uint8_t message, bytes data, const Span* identity, const uint64_t* secret, uint8_t* room, Command* command, Extras* extras, WireError* error):
    cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef uint32_t size = len(data)
    if message == MESSAGE_OPEN or message == MESSAGE_OPEN_WAITING:
        return open_intake(message, start, size, identity, secret, room, command, extras, error)
    if message == MESSAGE_RENEW:
        return renew_intake(start, size, command, extras, error)
    return in_session_intake(message, start, size, secret, room, command, extras, error)


def decode(str message, bytes data, *, bytes secret=bytes(16), bytes identity=b"", is_unasked=False):
    """One request as a tuple; see broker/_wire.pyi."""
    cdef uint64_t words[2]
    cdef uint8_t room[WIRE_TEXT_ROOM]
    cdef Command command
    cdef Extras extras
    cdef WireError error
    cdef Span who
    if len(secret) != 16:
        raise ValueError(f"secret has {len(secret)} bytes; it needs 16")
    memcpy(words, PyBytes_AS_STRING(secret), 16)
    who.bytes = <const uint8_t*>PyBytes_AS_STRING(identity)
    who.size = len(identity)
    if message == "KeepAliveRequest":
        raise ValueError("a KeepAliveRequest is many commands: decode_keep_alive")
    if _intake(MESSAGE_NUMBERS[message], data, &who, words, room, &command, &extras, &error):
        _raise_fault(&error)
    if is_unasked:
        if check_unasked(&command, &error):
            _raise_fault(&error)
        return _products_of(&command)[first_required(&command)][0]
    return _value_of(&command, &extras)


def decode_keep_alive(bytes data):
    """(renewals as of decode, session ids to forget)."""
    cdef KeepAliveItems items
    cdef WireError error
    cdef Command command
    cdef Extras extras
    cdef Span forgotten
    if keep_alive_intake(<const uint8_t*>PyBytes_AS_STRING(data), len(data), &items, &error):
        _raise_fault(&error)
    renewals = []
    forgets = []
    while next_forget(&items, &forgotten):
        forgets.append(_bytes_of(&forgotten))
    while next_renewal(&items, &command, &extras):
        renewals.append(_value_of(&command, &extras))
    return renewals, forgets


# --- out -----------------------------------------------------------------------------------------------------------------------

cdef class _Material:
    """One outcome with all that an answer to it needs, in C."""

    cdef Outcome outcome
    cdef Workspace space
    cdef Command command
    cdef AnswerContext context
    cdef LeaseOut leases[LEASES_OF_SESSION_MAX]
    cdef DenialRecord unavailable[ITEMS_MAX]
    cdef Product products[FACE_PRODUCTS_MAX]
    cdef list kept                  # the names that the command points to
    cdef list product_names

    def __init__(self, answer, *, renew_grace_ns, fence):
        self.kept = []
        self.product_names = []
        self.space.leases = self.leases
        self.space.unavailable = self.unavailable
        self.context.products = self.products
        self.context.renew_grace = renew_grace_ns
        self.command.fence = fence
        self._set_outcome(answer)
        for index, lease in enumerate(answer.leases):
            self._set_lease(&self.leases[index], lease)
        for index, denial in enumerate(answer.unavailable):
            self._set_denial(&self.unavailable[index], denial)
        if answer.denial is not None:
            self._set_denial(&self.outcome.denial, answer.denial)

    cdef _set_outcome(self, answer):
        if len(answer.leases) > LEASES_OF_SESSION_MAX or len(answer.unavailable) >= ITEMS_MAX:
            raise ValueError("more leases or denials than an answer can hold")
        self.outcome.status = answer.status
        self.outcome.end_reason = answer.end_reason
        self.outcome.is_replayed = answer.is_replayed
        self.outcome.detail = answer.detail
        self.outcome.fence = answer.fence
        self.outcome.change_version = answer.change_version
        self.outcome.ttl = answer.ttl_ns
        self.outcome.lease_count = len(answer.leases)
        self.outcome.unavailable_count = len(answer.unavailable)
        if answer.session_id:
            memcpy(self.outcome.session_id, PyBytes_AS_STRING(answer.session_id), SESSION_ID_SIZE)

    cdef _set_lease(self, LeaseOut* target, lease):
        cdef bytes name = lease.product.encode()
        cdef Product* product
        if name not in self.product_names:
            product = &self.products[len(self.product_names)]
            memcpy(product.name, PyBytes_AS_STRING(name), len(name))
            product.name_size = len(name)
            self.product_names.append(name)
        target.product = self.product_names.index(name)
        target.key_grace = lease.key_grace_ns
        target.fence = lease.fence
        target.seats = lease.seats
        target.state = lease.state
        target.end_reason = lease.end_reason
        target.is_shared = lease.is_shared
        target.is_emulated = lease.is_emulated

    cdef _set_denial(self, DenialRecord* target, denial):
        cdef bytes name = denial.product.encode()
        cdef Names* names = &self.command.names
        self.kept.append(name)
        names.bytes[names.count] = <const uint8_t*>PyBytes_AS_STRING(name)
        names.sizes[names.count] = len(name)
        target.item = names.count
        names.count += 1
        target.reason = denial.reason
        target.capacity = denial.capacity
        target.in_use = denial.in_use
        target.reserved = denial.reserved
        target.withheld = denial.withheld
        target.deficit = denial.deficit
        target.waiters = denial.waiters
        target.retry_after = denial.retry_after_ns


cdef bytes _written(const Writer* writer):
    return PyBytes_FromStringAndSize(<char*>writer.at, written_size(writer))


def encode(str message, answer, *, renew_grace_ns=0, uint64_t fence=0, offer_hold_ns=0):
    """The response to a request of that message; see broker/_wire.pyi."""
    cdef _Material material = _Material(answer, renew_grace_ns=renew_grace_ns, fence=fence)
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    cdef Failure failure
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    if message == "OpenWaitingRequest":
        if put_open_waiting_answer(&writer, &material.context, &material.command.names, &material.outcome, &material.space, offer_hold_ns):
            return _written(&writer)
        fail_outcome(&failure, &material.outcome, fence)
        raise _refused_by(&failure)
    material.command.verb = MESSAGE_NUMBERS[message]
    if answer_or_failure(&writer, &material.context, &material.command, &material.outcome, &material.space, &failure) == CODE_OK:
        return _written(&writer)
    raise Refused(failure.code, failure.message.bytes[:failure.message.size].decode(), _written(&writer))


def encode_keep_alive(results, *, renew_grace_ns=0):
    """The KeepAliveResponses that carry these results, each (session_id, fence, answer)."""
    cdef _Material material
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    cdef uint32_t part_size = 0
    cdef uint32_t size
    cdef bytes message = b""
    messages = []
    for session_id, fence, answer in results:
        material = _Material(answer, renew_grace_ns=renew_grace_ns, fence=fence)
        memcpy(material.command.session_id, PyBytes_AS_STRING(session_id), SESSION_ID_SIZE)
        writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
        size = put_keep_alive_result(&writer, &material.context, &material.command, &material.outcome, &material.space)
        if is_over_message(part_size, size):
            messages.append(message)
            message = b""
            part_size = 0
        message += _written(&writer)
        part_size += size + STREAM_ITEM_FRAME_SIZE
    return [*messages, message]


def encode_notice(bytes session_id, uint64_t fence, answer):
    """A KeepAliveResponse with one Notice: of the session's end if the answer has a reason, else of its leases."""
    cdef _Material material = _Material(answer, renew_grace_ns=0, fence=fence)
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    cdef const uint8_t* who = <const uint8_t*>PyBytes_AS_STRING(session_id)
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    if answer.end_reason:
        put_ended_notice(&writer, who, fence, answer.end_reason)
    else:
        put_leases_notice(&writer, &material.context, who, material.leases, material.outcome.lease_count, material.outcome.change_version)
    return _written(&writer)


def is_text(bytes data):
    """Whether the bytes are UTF-8 as protobuf wants it."""
    cdef Span span
    span.bytes = <const uint8_t*>PyBytes_AS_STRING(data)
    span.size = len(data)
    return is_utf8(&span)


# --- how fast ------------------------------------------------------------------------------------------------------------------

def decode_cost_ns(str message, bytes data, uint32_t times):
    """Mean nanoseconds of one decode."""
    cdef uint64_t words[2]
    cdef uint8_t room[WIRE_TEXT_ROOM]
    cdef Command command
    cdef Extras extras
    cdef WireError error
    cdef Span who
    cdef uint8_t kind = MESSAGE_NUMBERS[message]
    cdef uint32_t i
    words[0] = words[1] = 0
    who.bytes = NULL
    who.size = 0
    started = time.perf_counter_ns()
    for i in range(times):
        _intake(kind, data, &who, words, room, &command, &extras, &error)
    return (time.perf_counter_ns() - started) / times


def encode_cost_ns(str message, answer, uint32_t times):
    """Mean nanoseconds of one encode of an answer or a failure."""
    cdef _Material material = _Material(answer, renew_grace_ns=10**10, fence=answer.fence)
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    cdef Failure failure
    cdef uint32_t i
    material.command.verb = MESSAGE_NUMBERS[message]
    started = time.perf_counter_ns()
    for i in range(times):
        writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
        answer_or_failure(&writer, &material.context, &material.command, &material.outcome, &material.space, &failure)
    return (time.perf_counter_ns() - started) / times
