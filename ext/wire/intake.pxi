# From messages to commands of the ledger: what is checked, in which order, and the salt.
#
# The same checks in the same order, and byte for byte the same command, as broker/verbs/requests.py with Batch.add_...: a retry that
# comes over the other data plane is the same request. A broken bound of what the ledger keeps is marked in
# `Command.invalid` and left for the ledger to answer, in its order and with its counters; all else is a Fault. Every intake gives
# FAULT_NONE or the fault, which stands in `error` with its facts. `room` holds WIRE_TEXT_ROOM bytes and lives as long as
# the command.

cdef inline uint8_t mark_fault(WireError* error, uint8_t fault, uint64_t number) noexcept nogil:
    error.fault = fault
    error.number = number
    return fault


cdef inline void error_begin(WireError* error, uint8_t message) noexcept nogil:
    error.fault = FAULT_NONE
    error.message = message
    error.index = -1
    error.number = 0


cdef inline void command_begin(Command* command, uint8_t verb, uint8_t* room, Extras* extras) noexcept nogil:
    memset(command, 0, sizeof(Command))
    extras.wait_limit = 0
    extras.active = ACTIVE_UNKNOWN
    extras.nonce_size = 0
    command.verb = verb
    command.text = room


# --- durations, nonce, salt ------------------------------------------------------------------------------------------------

cdef inline bint is_duration(const DurationParts* parts) noexcept nogil:
    return parts.seconds >= 0 and 0 <= parts.nanos < <int32_t>NS_PER_SECOND


cdef inline int64_t duration_of(const DurationParts* parts) noexcept nogil:
    """In nanoseconds, longer ones as TTL_MAX_NS."""
    if parts.seconds > TTL_MAX_NS // NS_PER_SECOND:
        return TTL_MAX_NS
    return min(parts.seconds * NS_PER_SECOND + parts.nanos, <int64_t>TTL_MAX_NS)


cdef inline uint8_t take_nonce(const Span* nonce, Extras* extras, WireError* error) noexcept nogil:
    if nonce.size > CLIENT_NONCE_SIZE_MAX:
        return mark_fault(error, FAULT_CLIENT_NONCE, nonce.size)
    extras.nonce_size = <uint8_t>nonce.size
    if nonce.size:
        memcpy(extras.nonce, nonce.bytes, nonce.size)
    return FAULT_NONE


cdef struct Salt:
    uint32_t size
    uint8_t bytes[1 + CLIENT_NONCE_SIZE_MAX + 1 + MACHINE_IDENTIFIER_COUNT_MAX * (1 + MACHINE_IDENTIFIER_SIZE_MAX) + 8]


cdef inline void salt_add(Salt* salt, const uint8_t* data, uint32_t size) noexcept nogil:
    """u8 size, bytes."""
    USHER_ASSERT(size < 256 and salt.size + 1 + size <= sizeof(salt.bytes))
    salt.bytes[salt.size] = <uint8_t>size
    if size:
        memcpy(&salt.bytes[salt.size + 1], data, size)
    salt.size += 1 + size


cdef void salt_command(const uint64_t* secret, const Extras* extras, const Span* identifiers, uint32_t count, Command* command) noexcept nogil:
    """The layout is that of the head comment of broker/verbs/requests.py; all unset: no salt."""
    cdef Salt salt
    cdef uint32_t i
    if extras.nonce_size == 0 and count == 0 and extras.wait_limit == 0:
        return
    salt.size = 0
    salt_add(&salt, extras.nonce, extras.nonce_size)
    salt.bytes[salt.size] = <uint8_t>count
    salt.size += 1
    for i in range(count):
        salt_add(&salt, identifiers[i].bytes, identifiers[i].size)
    memcpy(&salt.bytes[salt.size], &extras.wait_limit, 8)
    salt.size += 8
    siphash128(secret, salt.bytes, salt.size, command.salt)


# --- texts and products ------------------------------------------------------------------------------------------------------

cdef inline uint32_t text_bound(int part) noexcept nogil:
    if part <= TEXT_HOST:
        return USER_SIZE_MAX if part == TEXT_USER else HOST_SIZE_MAX
    if part <= TEXT_LABEL:
        return APP_SIZE_MAX if part == TEXT_APP else LABEL_SIZE_MAX
    return INSTANCE_ID_SIZE_MAX if part == TEXT_INSTANCE else IDENTITY_SIZE_MAX


cdef void put_texts(Command* command, uint8_t* target, const Span* texts, const Span* identity) noexcept nogil:
    """Sizes and bytes of the six texts, up to the first that breaks its bounds."""
    cdef const Span* part
    cdef int i
    for i in range(TEXT_PARTS):
        part = identity if i == TEXT_IDENTITY else &texts[i]
        if part.size > text_bound(i) or (i <= TEXT_HOST and part.size == 0):
            command.invalid = INVALID_USER + i
            return
        if part.size:
            memcpy(target + command.text_size, part.bytes, part.size)
        command.sizes[i] = <uint8_t>part.size
        command.text_size += <uint16_t>part.size


cdef bint are_items_bounded(const ItemSpans* items) noexcept nogil:
    cdef uint32_t i
    if not 1 <= items.count <= ITEMS_MAX:
        return False
    for i in range(items.count):
        if not 1 <= items.names[i].size <= PRODUCT_SIZE_MAX:
            return False
    return True


cdef void put_name(Command* command, uint8_t* target, const Span* name) noexcept nogil:
    cdef Names* names = &command.names
    memcpy(target, name.bytes, name.size)
    names.bytes[names.count] = target
    names.sizes[names.count] = <uint8_t>name.size
    names.count += 1


cdef void put_items(Command* command, uint8_t* target, const ItemSpans* items) noexcept nogil:
    """The ids behind each other, or the mark that they break their bounds."""
    cdef uint32_t i
    if not are_items_bounded(items):
        if command.invalid == INVALID_NONE:
            command.invalid = INVALID_PRODUCTS
        return
    command.optional = items.optional
    for i in range(items.count):
        put_name(command, target, &items.names[i])
        target += items.names[i].size


# --- open -----------------------------------------------------------------------------------------------------------------------

cdef uint8_t check_open(const OpenSpans* spans, Extras* extras, WireError* error) noexcept nogil:
    """What the ledger will not see."""
    if spans.request_id.size != REQUEST_ID_SIZE:
        return mark_fault(error, FAULT_REQUEST_ID, spans.request_id.size)
    if not is_duration(&spans.ttl):
        return mark_fault(error, FAULT_TTL, 0)
    if not is_duration(&spans.wait_limit):
        return mark_fault(error, FAULT_WAIT_LIMIT, 0)
    if take_nonce(&spans.client_nonce, extras, error):
        return error.fault
    if spans.identifier_count > MACHINE_IDENTIFIER_COUNT_MAX:
        return mark_fault(error, FAULT_IDENTIFIER_COUNT, spans.identifier_count)
    if spans.is_identifier_too_long:
        return mark_fault(error, FAULT_IDENTIFIER_SIZE, 0)
    return FAULT_NONE


cdef uint8_t open_intake(
    uint8_t message, const uint8_t* data, uint32_t size, const Span* identity, const uint64_t* secret,
    uint8_t* room, Command* command, Extras* extras, WireError* error,
) noexcept nogil:
    """OpenRequest, or the one inside an OpenWaitingRequest. `identity`: whom the connection is authenticated as; empty: nobody."""
    cdef OpenSpans spans
    cdef Reader reader
    error_begin(error, message)
    command_begin(command, VERB_OPEN, room, extras)
    memset(&spans, 0, sizeof(OpenSpans))
    reader_begin(&reader, data, size)
    if message == MESSAGE_OPEN_WAITING:
        parse_open_waiting(&reader, &spans)
    else:
        parse_open(&reader, &spans)
    if reader.is_bad:
        return mark_fault(error, FAULT_MESSAGE, 0)
    if check_open(&spans, extras, error):
        return error.fault
    extras.wait_limit = duration_of(&spans.wait_limit)
    memcpy(command.request_id, spans.request_id.bytes, REQUEST_ID_SIZE)
    put_texts(command, room, spans.texts, identity)
    put_items(command, room + WIRE_TEXT_SIZE_MAX, &spans.items)
    command.ttl = duration_of(&spans.ttl)
    salt_command(secret, extras, spans.identifiers, spans.identifier_count, command)
    return FAULT_NONE


cdef bint is_name_repeated(const Names* names, uint32_t index) noexcept nogil:
    cdef uint32_t i
    for i in range(index):
        if names.sizes[i] == names.sizes[index] and memcmp(names.bytes[i], names.bytes[index], names.sizes[i]) == 0:
            return True
    return False


cdef uint8_t check_unasked(const Command* command, WireError* error) noexcept nogil:
    """What the ledger would check of an Open that it is not asked for: one that would wait, while no waitlist is kept."""
    cdef const Names* names = &command.names
    cdef uint32_t i
    if command.invalid and command.invalid != INVALID_IDENTITY:
        return mark_fault(error, FAULT_FIELD, command.invalid)
    if names.count == 0 or command.optional == (1u << names.count) - 1:
        return mark_fault(error, FAULT_FIELD, INVALID_PRODUCTS)
    for i in range(names.count):
        if is_name_repeated(names, i):
            return mark_fault(error, FAULT_FIELD, INVALID_PRODUCTS)
    return FAULT_NONE


cdef uint32_t first_required(const Command* command) noexcept nogil:
    """The item that a denial of the whole request names. There is one: check_unasked has looked."""
    cdef uint32_t i = 0
    while (command.optional >> i) & 1:
        i += 1
    USHER_ASSERT(i < command.names.count)
    return i


# --- in a session ---------------------------------------------------------------------------------------------------------------

cdef inline uint8_t take_renewal(const RenewSpans* spans, Command* command, Extras* extras, WireError* error) noexcept nogil:
    if spans.session_id.size != SESSION_ID_SIZE:
        return mark_fault(error, FAULT_SESSION_ID, spans.session_id.size)
    if spans.change_version < 0:
        return mark_fault(error, FAULT_CHANGE_VERSION, 0)
    memcpy(command.session_id, spans.session_id.bytes, SESSION_ID_SIZE)
    command.change_version = <uint64_t>spans.change_version
    extras.active = spans.active
    return FAULT_NONE


cdef uint8_t renew_intake(const uint8_t* data, uint32_t size, Command* command, Extras* extras, WireError* error) noexcept nogil:
    """RenewRequest: no texts, so no room is needed."""
    cdef RenewSpans spans
    cdef Reader reader
    error_begin(error, MESSAGE_RENEW)
    command_begin(command, VERB_RENEW, NULL, extras)
    reader_begin(&reader, data, size)
    parse_renew(&reader, &spans)
    if reader.is_bad:
        return mark_fault(error, FAULT_MESSAGE, 0)
    return take_renewal(&spans, command, extras, error)


cdef uint8_t take_ids(const InSessionSpans* spans, Command* command, WireError* error) noexcept nogil:
    if spans.session_id.size != SESSION_ID_SIZE:
        return mark_fault(error, FAULT_SESSION_ID, spans.session_id.size)
    if spans.request_id.size != REQUEST_ID_SIZE:
        return mark_fault(error, FAULT_REQUEST_ID, spans.request_id.size)
    memcpy(command.session_id, spans.session_id.bytes, SESSION_ID_SIZE)
    memcpy(command.request_id, spans.request_id.bytes, REQUEST_ID_SIZE)
    return FAULT_NONE


cdef uint8_t in_session_intake(
    uint8_t message, const uint8_t* data, uint32_t size, const uint64_t* secret,
    uint8_t* room, Command* command, Extras* extras, WireError* error,
) noexcept nogil:
    """AcquireRequest, ReleaseRequest or CloseRequest."""
    cdef InSessionSpans spans
    cdef Reader reader
    error_begin(error, message)
    command_begin(command, message, room, extras)
    memset(&spans, 0, sizeof(InSessionSpans))
    reader_begin(&reader, data, size)
    if message == MESSAGE_ACQUIRE:
        parse_acquire(&reader, &spans)
    elif message == MESSAGE_RELEASE:
        parse_release(&reader, &spans)
    else:
        USHER_ASSERT(message == MESSAGE_CLOSE)
        parse_close(&reader, &spans)
    if reader.is_bad:
        return mark_fault(error, FAULT_MESSAGE, 0)
    if take_ids(&spans, command, error) or take_nonce(&spans.client_nonce, extras, error):
        return error.fault
    if message == MESSAGE_ACQUIRE:
        put_items(command, room, &spans.items)
        salt_command(secret, extras, NULL, 0, command)
    elif message == MESSAGE_RELEASE:
        if not 1 <= spans.product.size <= PRODUCT_SIZE_MAX:
            return mark_fault(error, FAULT_PRODUCT, 0)
        put_name(command, room, &spans.product)
    return FAULT_NONE


# --- keep alive -------------------------------------------------------------------------------------------------------------------
# A message is checked whole before anything of it is done: keep_alive_intake reads it through, then next_forget and
# next_renewal walk it again without a chance to fail.

cdef void parse_keep_alive(Reader* reader, uint32_t* renewal_count, WireError* error) noexcept nogil:
    """The first fault of a renewal, the first of a forget behind them all; either may stand before the other in the bytes."""
    cdef WireError found
    cdef Field field
    cdef Reader inner
    cdef RenewSpans spans
    found.fault = FAULT_NONE
    found.number = 0
    renewal_count[0] = 0
    while next_field(reader, &field):
        if is_span(&field, 1):
            reader_enter(reader, &field.span, &inner)
            parse_renew(&inner, &spans)
            reader_leave(reader, &inner)
            if error.fault == FAULT_NONE:
                check_renewal(&spans, renewal_count[0], error)
            renewal_count[0] += 1
        elif is_span(&field, 2) and field.span.size != SESSION_ID_SIZE and found.fault == FAULT_NONE:
            mark_fault(&found, FAULT_FORGET, field.span.size)
    if error.fault == FAULT_NONE and found.fault:
        mark_fault(error, found.fault, found.number)


cdef void check_renewal(const RenewSpans* spans, uint32_t index, WireError* error) noexcept nogil:
    if spans.session_id.size != SESSION_ID_SIZE:
        mark_fault(error, FAULT_SESSION_ID, spans.session_id.size)
    elif spans.change_version < 0:
        mark_fault(error, FAULT_CHANGE_VERSION, 0)
    if error.fault:
        error.index = <int32_t>index


cdef uint8_t keep_alive_intake(const uint8_t* data, uint32_t size, KeepAliveItems* items, WireError* error) noexcept nogil:
    """KeepAliveRequest. The items borrow its bytes."""
    cdef Reader reader
    error_begin(error, MESSAGE_KEEP_ALIVE)
    reader_begin(&reader, data, size)
    items.renewals = items.forgets = reader
    parse_keep_alive(&reader, &items.renewal_count, error)
    if reader.is_bad:
        error.index = -1
        return mark_fault(error, FAULT_MESSAGE, 0)
    if items.renewal_count > RENEWALS_PER_MESSAGE_MAX:
        error.index = -1
        return mark_fault(error, FAULT_RENEWALS, items.renewal_count)
    return error.fault


cdef bint next_renewal(KeepAliveItems* items, Command* command, Extras* extras) noexcept nogil:
    """The next session to renew, as a command; False behind the last."""
    cdef WireError error
    cdef Field field
    cdef Reader inner
    cdef RenewSpans spans
    while next_field(&items.renewals, &field):
        if is_span(&field, 1):
            reader_enter(&items.renewals, &field.span, &inner)
            parse_renew(&inner, &spans)
            command_begin(command, VERB_RENEW, NULL, extras)
            error_begin(&error, MESSAGE_KEEP_ALIVE)
            take_renewal(&spans, command, extras, &error)
            USHER_ASSERT(not inner.is_bad and error.fault == FAULT_NONE)
            return True
    return False


cdef bint next_forget(KeepAliveItems* items, Span* session_id) noexcept nogil:
    """The next session that the stream no longer speaks for: a span of 32 bytes; False behind the last."""
    cdef Field field
    while next_field(&items.forgets, &field):
        if is_span(&field, 2):
            session_id[0] = field.span
            return True
    return False
