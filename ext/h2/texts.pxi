# The words of HTTP/2 and gRPC that are compared and sent, as C literals with their sizes; header values read and written.

cdef extern from *:
    """
    #define USHER_NAMED(name, size, text) ((size) == sizeof(text) - 1 && memcmp((name), (text), sizeof(text) - 1) == 0)
    #define USHER_STARTS(name, size, text) ((size) >= sizeof(text) - 1 && memcmp((name), (text), sizeof(text) - 1) == 0)
    static const char usher_status_texts[17][3] = {
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"};
    static const char usher_base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char usher_hex[] = "0123456789ABCDEF";
    """
    bint is_named "USHER_NAMED"(const uint8_t* name, size_t size, const char* text) noexcept nogil
    bint starts_with "USHER_STARTS"(const uint8_t* name, size_t size, const char* text) noexcept nogil
    const char status_texts "usher_status_texts"[17][3]
    const char base64_letters "usher_base64"[65]
    const char hex_letters "usher_hex"[17]


cdef inline void nv_set(nghttp2_nv* nv, const char* name, const void* value, size_t value_size) noexcept nogil:
    """One header; the name is a literal, which nghttp2 need not copy. The value is copied."""
    nv.name = <uint8_t*>name
    nv.namelen = strlen(name)
    nv.value = <uint8_t*>value
    nv.valuelen = value_size
    nv.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME


cdef inline void nv_literal(nghttp2_nv* nv, const char* name, const char* value) noexcept nogil:
    """One header of which nothing need be copied."""
    nv_set(nv, name, value, strlen(value))
    nv.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE


cdef int64_t timeout_read(const uint8_t* text, size_t size) noexcept nogil:
    """grpc-timeout in nanoseconds: 1 to 8 digits and a unit of H M S m u n; -1 when it is none."""
    cdef int64_t amount = 0
    cdef size_t i
    cdef uint8_t unit
    if size < 2 or size > 9:
        return -1
    for i in range(size - 1):
        if text[i] < c'0' or text[i] > c'9':
            return -1
        amount = amount * 10 + (text[i] - c'0')
    unit = text[size - 1]
    if unit == c'n':
        return amount
    if unit == c'u':
        return amount * 1000
    if unit == c'm':
        return amount * 1000000
    if unit == c'S':
        return amount * NS_PER_SECOND
    if unit == c'M':
        return amount * (60 * NS_PER_SECOND)
    if unit == c'H':
        return min(amount, <int64_t>1000000) * (3600 * NS_PER_SECOND)  # a century, so that it still fits
    return -1


cdef uint32_t percent_encode(const uint8_t* text, uint32_t size, uint8_t* target) noexcept nogil:
    """grpc-message: all but printable ASCII as %XX; up to three times the size."""
    cdef uint32_t i, fill = 0
    cdef uint8_t byte
    for i in range(size):
        byte = text[i]
        if byte >= 0x20 and byte <= 0x7E and byte != c'%':
            target[fill] = byte
            fill += 1
        else:
            target[fill] = c'%'
            target[fill + 1] = hex_letters[byte >> 4]
            target[fill + 2] = hex_letters[byte & 15]
            fill += 3
    return fill


cdef uint32_t base64_encode(const uint8_t* data, uint32_t size, uint8_t* target) noexcept nogil:
    """Of a -bin header: without padding, as gRPC recommends."""
    cdef uint32_t i, j, group, count, fill = 0
    for i in range(0, size, 3):
        count = min(size - i, <uint32_t>3)
        group = 0
        for j in range(3):
            group = (group << 8) | (data[i + j] if j < count else 0)
        for j in range(count + 1):
            target[fill] = base64_letters[(group >> (18 - 6 * j)) & 63]
            fill += 1
    return fill


cdef inline uint32_t cut_at_character(const uint8_t* text, uint32_t size, uint32_t size_max) noexcept nogil:
    """The size of the text cut to the bound, never inside a UTF-8 character."""
    if size <= size_max:
        return size
    while size_max > 0 and (text[size_max] & 0xC0) == 0x80:
        size_max -= 1
    return size_max
