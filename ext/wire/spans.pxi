# The messages of Sessions as spans and numbers: proto/broker/v1/sessions.proto and types.proto, field by field.
#
# The last one of a field wins; a message that comes twice is merged, so its spans are filled by both. Texts are checked for UTF-8
# wherever they stand, even those that a later one replaces. Bounds are not looked at here: see intake.pxi.

cdef inline bint is_span(const Field* field, uint32_t number) noexcept nogil:
    return field.number == number and field.wire_type == WIRE_SIZED


cdef inline bint is_varint(const Field* field, uint32_t number) noexcept nogil:
    return field.number == number and field.wire_type == WIRE_VARINT


cdef inline void take_text(Reader* reader, const Field* field, Span* target) noexcept nogil:
    target[0] = field.span
    if not is_utf8(target):
        reader.is_bad = True


cdef void parse_duration(Reader* outer, const Span* span, DurationParts* parts) noexcept nogil:
    """google.protobuf.Duration."""
    cdef Reader reader
    cdef Field field
    reader_enter(outer, span, &reader)
    while next_field(&reader, &field):
        if is_varint(&field, 1):
            parts.seconds = <int64_t>field.value
        elif is_varint(&field, 2):
            parts.nanos = <int32_t><uint32_t>field.value
    reader_leave(outer, &reader)


cdef void parse_holder(Reader* outer, const Span* span, Span* texts) noexcept nogil:
    """Holder: user 1, host 2, app 3, label 4, which is the ledger's order of texts."""
    cdef Reader reader
    cdef Field field
    reader_enter(outer, span, &reader)
    while next_field(&reader, &field):
        if field.wire_type == WIRE_SIZED and field.number <= TEXT_LABEL + 1:
            take_text(&reader, &field, &texts[field.number - 1])
    reader_leave(outer, &reader)


cdef void parse_item(Reader* outer, const Span* span, ItemSpans* items) noexcept nogil:
    """ProductRequest. Those over the bound are checked, counted and not kept."""
    cdef Reader reader
    cdef Field field
    cdef Span name
    cdef bint is_optional = False
    name.bytes = NULL
    name.size = 0
    reader_enter(outer, span, &reader)
    while next_field(&reader, &field):
        if is_span(&field, 1):
            take_text(&reader, &field, &name)
        elif is_varint(&field, 2):
            is_optional = field.value != 0
    reader_leave(outer, &reader)
    if items.count < ITEMS_MAX:
        items.names[items.count] = name
        items.optional |= <uint16_t>(is_optional << items.count)
    items.count += 1


cdef void take_identifier(Reader* reader, const Field* field, OpenSpans* spans) noexcept nogil:
    cdef Span identifier
    take_text(reader, field, &identifier)
    if identifier.size > MACHINE_IDENTIFIER_SIZE_MAX:
        spans.is_identifier_too_long = True
    if spans.identifier_count < MACHINE_IDENTIFIER_COUNT_MAX:
        spans.identifiers[spans.identifier_count] = identifier
    spans.identifier_count += 1


cdef void parse_open(Reader* reader, OpenSpans* spans) noexcept nogil:
    """OpenRequest, into spans that were zeroed or filled by an earlier one."""
    cdef Field field
    while next_field(reader, &field):
        if field.wire_type != WIRE_SIZED:
            continue
        if field.number == 1:
            spans.request_id = field.span
        elif field.number == 2:
            parse_holder(reader, &field.span, spans.texts)
        elif field.number == 3:
            parse_item(reader, &field.span, &spans.items)
        elif field.number == 4:
            take_text(reader, &field, &spans.texts[TEXT_INSTANCE])
        elif field.number == 5:
            parse_duration(reader, &field.span, &spans.wait_limit)
        elif field.number == 6:
            parse_duration(reader, &field.span, &spans.ttl)
        elif field.number == 7:
            spans.client_nonce = field.span
        elif field.number == 8:
            take_identifier(reader, &field, spans)


cdef void parse_open_waiting(Reader* reader, OpenSpans* spans) noexcept nogil:
    """OpenWaitingRequest."""
    cdef Field field
    cdef Reader inner
    while next_field(reader, &field):
        if is_span(&field, 1):
            reader_enter(reader, &field.span, &inner)
            parse_open(&inner, spans)
            reader_leave(reader, &inner)


cdef inline void parse_renew(Reader* reader, RenewSpans* spans) noexcept nogil:
    """RenewRequest."""
    cdef Field field
    spans.session_id.bytes = NULL
    spans.session_id.size = 0
    spans.change_version = 0
    spans.active = ACTIVE_UNKNOWN
    while next_field(reader, &field):
        if is_span(&field, 1):
            spans.session_id = field.span
        elif is_varint(&field, 2):
            spans.change_version = <int64_t>field.value
        elif is_varint(&field, 3):
            spans.active = ACTIVE_YES if field.value != 0 else ACTIVE_NO


cdef void parse_acquire(Reader* reader, InSessionSpans* spans) noexcept nogil:
    """AcquireRequest."""
    cdef Field field
    while next_field(reader, &field):
        if field.wire_type != WIRE_SIZED:
            continue
        if field.number == 1:
            spans.session_id = field.span
        elif field.number == 2:
            spans.request_id = field.span
        elif field.number == 3:
            parse_item(reader, &field.span, &spans.items)
        elif field.number == 4:
            spans.client_nonce = field.span


cdef void parse_release(Reader* reader, InSessionSpans* spans) noexcept nogil:
    """ReleaseRequest."""
    cdef Field field
    while next_field(reader, &field):
        if field.wire_type != WIRE_SIZED:
            continue
        if field.number == 1:
            spans.session_id = field.span
        elif field.number == 2:
            spans.request_id = field.span
        elif field.number == 3:
            take_text(reader, &field, &spans.product)


cdef void parse_close(Reader* reader, InSessionSpans* spans) noexcept nogil:
    """CloseRequest."""
    cdef Field field
    while next_field(reader, &field):
        if is_span(&field, 1):
            spans.session_id = field.span
        elif is_span(&field, 2):
            spans.request_id = field.span
