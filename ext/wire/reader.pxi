# Reading protobuf: varints, tags, spans, and the skipping of what is not known.
#
# What is taken and what is refused is what protobuf's own decoder (upb) takes and refuses: tags and sizes of at most 5
# bytes, values of at most 10, of which the bits over 64 are dropped; field number 0 (which upb overlooks inside a group, and so do we), wire types 6 and 7, a group that does
# not end where and as it should, and anything that runs over its end are malformed. A known field of an unexpected wire type is an
# unknown one. Groups are only ever skipped: no message of ours has one. Nothing here recurses.

cdef enum:
    WIRE_VARINT = 0
    WIRE_FIXED64 = 1
    WIRE_SIZED = 2
    WIRE_GROUP = 3
    WIRE_GROUP_END = 4
    WIRE_FIXED32 = 5
    TAG_SIZE_MAX = 5
    VALUE_SIZE_MAX = 10


cdef inline void reader_begin(Reader* reader, const uint8_t* data, uint32_t size) noexcept nogil:
    reader.at = data
    reader.end = data + size
    reader.depth = WIRE_NESTING_MAX
    reader.is_bad = False


cdef inline void reader_enter(Reader* outer, const Span* span, Reader* inner) noexcept nogil:
    """A message inside the message."""
    inner.at = span.bytes
    inner.end = span.bytes + span.size
    inner.depth = outer.depth - 1
    inner.is_bad = inner.depth < 0


cdef inline void reader_leave(Reader* outer, const Reader* inner) noexcept nogil:
    outer.is_bad = outer.is_bad or inner.is_bad


cdef inline bint read_varint(Reader* reader, int size_max, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef int i
    cdef uint8_t byte
    for i in range(size_max):
        if reader.at == reader.end:
            return False
        byte = reader.at[0]
        reader.at += 1
        result |= <uint64_t>(byte & 0x7F) << (7 * i)
        if byte < 0x80:
            value[0] = result
            return True
    return False


cdef inline bint read_tag(Reader* reader, uint32_t* number, uint32_t* wire_type) noexcept nogil:
    cdef uint64_t tag = 0
    """The number may be 0: whether that is malformed is the caller's to know."""
    if not read_varint(reader, TAG_SIZE_MAX, &tag) or tag > UINT32_MAX:
        return False
    number[0] = <uint32_t>tag >> 3
    wire_type[0] = <uint32_t>tag & 7
    return True


cdef inline bint read_span(Reader* reader, Span* span) noexcept nogil:
    cdef uint64_t size = 0
    if not read_varint(reader, TAG_SIZE_MAX, &size) or size > <uint64_t>(reader.end - reader.at):
        return False
    span.bytes = reader.at
    span.size = <uint32_t>size
    reader.at += size
    return True


cdef inline bint skip_bytes(Reader* reader, int size) noexcept nogil:
    if reader.end - reader.at < size:
        return False
    reader.at += size
    return True


cdef bint skip_value(Reader* reader, uint32_t wire_type) noexcept nogil:
    """A value that is no group."""
    cdef uint64_t value
    cdef Span span
    if wire_type == WIRE_VARINT:
        return read_varint(reader, VALUE_SIZE_MAX, &value)
    if wire_type == WIRE_SIZED:
        return read_span(reader, &span)
    if wire_type == WIRE_FIXED64:
        return skip_bytes(reader, 8)
    return wire_type == WIRE_FIXED32 and skip_bytes(reader, 4)


cdef bint skip_group(Reader* reader, uint32_t number) noexcept nogil:
    """To behind the end of a group whose beginning was read. `open_numbers`: the groups that are open, outermost first."""
    cdef uint32_t open_numbers[WIRE_NESTING_MAX]
    cdef int32_t count = 1
    cdef uint32_t wire_type = 0
    if reader.depth < 1:
        return False
    open_numbers[0] = number
    while count:
        if not read_tag(reader, &number, &wire_type):
            return False
        if wire_type == WIRE_GROUP:
            if count >= reader.depth:
                return False
            open_numbers[count] = number
            count += 1
        elif wire_type == WIRE_GROUP_END:
            count -= 1
            if open_numbers[count] != number:
                return False
        elif not skip_value(reader, wire_type):
            return False
    return True


cdef inline bint next_field(Reader* reader, Field* field) noexcept nogil:
    """The next field that is a varint or a span; False at the end and when the message is bad, which `is_bad` tells apart."""
    while reader.at != reader.end and not reader.is_bad:
        if not read_tag(reader, &field.number, &field.wire_type) or field.number == 0:
            break
        if field.wire_type == WIRE_SIZED:
            if read_span(reader, &field.span):
                return True
            break
        if field.wire_type == WIRE_VARINT:
            if read_varint(reader, VALUE_SIZE_MAX, &field.value):
                return True
            break
        if field.wire_type == WIRE_GROUP:
            if not skip_group(reader, field.number):
                break
        elif not skip_value(reader, field.wire_type):
            break
    else:
        return False
    reader.is_bad = True
    return False


# --- UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing over U+10FFFF ---------------------------------------------

cdef inline bint is_continuation(uint8_t byte) noexcept nogil:
    return byte & 0xC0 == 0x80


cdef uint32_t utf8_sequence_size(const uint8_t* text, uint32_t size) noexcept nogil:
    """Of the sequence that the text begins with, which is not ASCII; 0 if it is none."""
    cdef uint8_t first = text[0]
    if first < 0xC2 or size < 2 or not is_continuation(text[1]):
        return 0
    if first < 0xE0:
        return 2
    if size < 3 or not is_continuation(text[2]):
        return 0
    if first < 0xF0:
        if (first == 0xE0 and text[1] < 0xA0) or (first == 0xED and text[1] > 0x9F):
            return 0
        return 3
    if first > 0xF4 or size < 4 or not is_continuation(text[3]):
        return 0
    if (first == 0xF0 and text[1] < 0x90) or (first == 0xF4 and text[1] > 0x8F):
        return 0
    return 4


cdef bint is_utf8(const Span* span) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t step
    cdef uint64_t word
    while i < span.size:
        if span.size - i >= 8:
            memcpy(&word, span.bytes + i, 8)
            if word & <uint64_t>0x8080808080808080u == 0:
                i += 8
                continue
        if span.bytes[i] < 0x80:
            i += 1
            continue
        step = utf8_sequence_size(span.bytes + i, span.size - i)
        if step == 0:
            return False
        i += step
    return True
