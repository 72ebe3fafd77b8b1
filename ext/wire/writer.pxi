# Writing protobuf, from the end of the room to its front: what is inside a message stands before its length is needed.
#
# Fields are therefore put in falling order of their numbers, and repeated ones last to first. Numbers that are 0 and texts that
# are empty are left out, as proto3 does; a message that is set is written even when it is empty. All field numbers of Sessions are
# under 16, so a tag takes one byte. Whoever makes a Writer gives it room for the largest answer (WIRE_ANSWER_SIZE_MAX);
# running over is our bug and ends the process.

cdef inline void writer_begin(Writer* writer, uint8_t* room, uint32_t size) noexcept nogil:
    writer.start = room
    writer.at = writer.end = room + size


cdef inline uint32_t written_size(const Writer* writer) noexcept nogil:
    return <uint32_t>(writer.end - writer.at)


cdef inline void put_bytes(Writer* writer, const void* data, uint32_t size) noexcept nogil:
    USHER_ASSERT(<uint64_t>(writer.at - writer.start) >= size)
    writer.at -= size
    memcpy(writer.at, data, size)


cdef inline void put_varint(Writer* writer, uint64_t value) noexcept nogil:
    cdef uint8_t digits[10]
    cdef uint32_t size = 0
    if value < 0x80 and writer.at != writer.start:
        writer.at -= 1
        writer.at[0] = <uint8_t>value
        return
    while value >= 0x80:
        digits[size] = <uint8_t>(value | 0x80)
        value >>= 7
        size += 1
    digits[size] = <uint8_t>value
    put_bytes(writer, digits, size + 1)


cdef inline void put_tag(Writer* writer, uint32_t number, uint32_t wire_type) noexcept nogil:
    USHER_ASSERT(writer.at != writer.start and number < 16)
    writer.at -= 1
    writer.at[0] = <uint8_t>(number << 3 | wire_type)


cdef inline void put_number(Writer* writer, uint32_t number, uint64_t value) noexcept nogil:
    """Any integer, enum or bool: negative ones are sign-extended to 64 bits by the caller's cast to int64_t."""
    if value:
        put_varint(writer, value)
        put_tag(writer, number, WIRE_VARINT)


cdef inline void put_length(Writer* writer, uint32_t number, const uint8_t* end) noexcept nogil:
    """Makes a message of what was put since the writer stood at `end`."""
    put_varint(writer, <uint64_t>(end - writer.at))
    put_tag(writer, number, WIRE_SIZED)


cdef inline void put_text(Writer* writer, uint32_t number, const void* text, uint32_t size) noexcept nogil:
    """A string or bytes."""
    cdef const uint8_t* end = writer.at
    if size:
        put_bytes(writer, text, size)
        put_length(writer, number, end)


cdef inline void put_duration(Writer* writer, uint32_t number, int64_t duration_ns) noexcept nogil:
    """google.protobuf.Duration. What answers tell is never below zero: the ledger sees to it."""
    cdef const uint8_t* end = writer.at
    cdef int64_t seconds = duration_ns // NS_PER_SECOND
    cdef int64_t nanos = duration_ns - seconds * NS_PER_SECOND
    USHER_ASSERT(duration_ns >= 0)
    put_number(writer, 2, <uint64_t>nanos)
    put_number(writer, 1, <uint64_t>seconds)
    put_length(writer, number, end)
