# An input as a script: a source of choices that never runs dry. At its end everything is 0, so each input is a whole run.
#
# Any bytes are a script, which is what lets a fuzzer cut, join and change them without learning a format first.

cdef struct Script:
    const uint8_t* at
    const uint8_t* end


cdef inline void script_begin(Script* script, const uint8_t* data, size_t size) noexcept nogil:
    script.at = data
    script.end = data + size


cdef inline bint is_over(const Script* script) noexcept nogil:
    return script.at == script.end


cdef inline uint8_t take_byte(Script* script) noexcept nogil:
    cdef uint8_t byte
    if script.at == script.end:
        return 0
    byte = script.at[0]
    script.at += 1
    return byte


cdef inline uint32_t take_below(Script* script, uint32_t bound) noexcept nogil:
    """Less than `bound`, from one byte."""
    return take_byte(script) % bound


cdef inline uint32_t take_short(Script* script) noexcept nogil:
    cdef uint32_t low = take_byte(script)
    return low | <uint32_t>take_byte(script) << 8


cdef inline int64_t take_long(Script* script) noexcept nogil:
    """Any number: mostly small, by a width that is a choice too."""
    cdef uint32_t width = take_below(script, 9)
    cdef uint64_t number = 0
    cdef uint32_t i
    for i in range(width):
        number |= <uint64_t>take_byte(script) << (8 * i)
    return <int64_t>number


cdef inline uint32_t take_span(Script* script, uint32_t size, const uint8_t** data) noexcept nogil:
    """At most `size` of the bytes that are left."""
    cdef uint32_t taken = <uint32_t>min(<size_t>size, <size_t>(script.end - script.at))
    data[0] = script.at
    script.at += taken
    return taken
