# Segment headers and blocks as bytes: written, and verified. The format is drawn at the head of _journal.pyx.

cdef extern from *:
    """
    static const char usher_log_magic[9] = "USHERLOG";
    static const char usher_snapshot_magic[9] = "USHERSNP";
    """
    const char* LOG_MAGIC "usher_log_magic"
    const char* SNAPSHOT_MAGIC "usher_snapshot_magic"


cdef inline uint64_t word_mix(uint64_t word) noexcept nogil:
    """splitmix64's last step: neighbouring words give unlike ones."""
    word += <uint64_t>0x9E3779B97F4A7C15
    word = (word ^ (word >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    word = (word ^ (word >> 27)) * <uint64_t>0x94D049BB133111EB
    return word ^ (word >> 31)


cdef void segment_name(char* name, uint64_t first) noexcept nogil:
    snprintf(name, FILE_NAME_SIZE, "%016llx.log", <unsigned long long>first)


cdef void snapshot_name(char* name, uint64_t position) noexcept nogil:
    snprintf(name, FILE_NAME_SIZE, "%016llx.snap", <unsigned long long>position)


cdef bint position_named(const char* name, const char* ending, uint64_t* first) noexcept nogil:
    """Whether the name is 16 small hexadecimal digits and this ending."""
    cdef uint64_t number = 0
    cdef int i
    cdef char letter
    for i in range(16):
        letter = name[i]
        if 48 <= letter <= 57:
            number = number << 4 | <uint64_t>(letter - 48)
        elif 97 <= letter <= 102:
            number = number << 4 | <uint64_t>(letter - 87)
        else:
            return False
    first[0] = number
    return strcmp(name + 16, ending) == 0


cdef void header_put(uint8_t* target, SegmentHeader* header, const char* magic) noexcept nogil:
    """SEGMENT_HEADER_SIZE bytes; sets magic, version, size of the header, checksum."""
    memset(target, 0, SEGMENT_HEADER_SIZE)
    memcpy(header.magic, magic, 8)
    header.version = LOG_VERSION
    header.header_size = SEGMENT_HEADER_SIZE
    header.flags = 0
    header.crc = crc32c(0, header, SEGMENT_HEADER_USED - 4)
    memcpy(target, header, SEGMENT_HEADER_USED)


cdef uint8_t header_take(const uint8_t* data, uint64_t size, SegmentHeader* header, const char* magic) noexcept nogil:
    """STOP_NONE, or why it is none of ours."""
    if size < SEGMENT_HEADER_SIZE:
        return STOP_HEADER
    memcpy(header, data, SEGMENT_HEADER_USED)
    if memcmp(header.magic, magic, 8) or header.crc != crc32c(0, data, SEGMENT_HEADER_USED - 4):
        return STOP_HEADER
    if header.version != LOG_VERSION:
        return STOP_VERSION
    return STOP_HEADER if header.header_size != SEGMENT_HEADER_SIZE else STOP_NONE


cdef uint32_t block_crc(uint64_t salt, const BlockHeader* block, const uint8_t* events) noexcept nogil:
    """Of salt, position, size and events, in this order."""
    cdef uint64_t words[3]
    words[0] = salt
    words[1] = block.position
    words[2] = block.size
    return crc32c(crc32c(0, words, sizeof(words)), events, block.size)


cdef bint block_at(const uint8_t* data, uint64_t size, uint64_t offset, uint64_t salt, uint64_t position_min, BlockHeader* block) noexcept nogil:
    """Whether a block of this salt and of such a position stands there, whole. What is no block is told without a checksum, nearly always."""
    if offset + BLOCK_HEADER_SIZE > size:
        return False
    memcpy(block, data + offset, BLOCK_HEADER_SIZE)
    if block.size < EVENT_SIZE_MIN or block.size % 8 or block.size > GROUP_SIZE_CEILING or block.size > size - offset - BLOCK_HEADER_SIZE:
        return False
    if block.position < position_min:
        return False
    return block.crc == block_crc(salt, block, data + offset + BLOCK_HEADER_SIZE)


cdef uint64_t whole_size(const uint8_t* events, uint64_t size, uint64_t size_max) noexcept nogil:
    """Bytes of the events that end at or before size_max; what is no event ends it."""
    cdef uint64_t at = 0
    cdef uint32_t event_size
    while at < size_max and size - at >= EVENT_SIZE_MIN:
        memcpy(&event_size, events + at, 4)
        if event_size < EVENT_SIZE_MIN or event_size % 8 or event_size > size - at or event_size > size_max - at:
            break
        at += event_size
    return at
