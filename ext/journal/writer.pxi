# The writer: which bytes of a group of events go to which offset of which segment. No I/O.
#
#     if not writer_has_room(w, size): header = writer_next_segment(w)   → a new file with this header
#     offset = writer_block(w, block, size)                               → written there, synced
#     writer_written(w, size)                                             → only then
#
# One group is one block, and a block is written only when the one before it is on the disk: so a crash can damage no more than the
# last block, and whatever does not verify with something valid behind it is damage, not a crash.

cdef void writer_begin(LogWriter* w, const uint8_t* broker_id, uint64_t generation, uint64_t salt_seed, uint64_t segment_size, uint64_t position) noexcept nogil:
    memset(w, 0, sizeof(LogWriter))
    memcpy(w.broker_id, broker_id, 8)
    w.generation = generation
    w.salt_seed = salt_seed
    w.segment_size = segment_size
    w.position = position


cdef bint writer_has_room(const LogWriter* w, uint64_t size) noexcept nogil:
    return w.offset != 0 and w.offset + BLOCK_HEADER_SIZE + size <= w.segment_size


cdef void writer_next_segment(LogWriter* w, uint8_t* header_bytes) noexcept nogil:
    """A segment that begins with the next event; its header."""
    cdef SegmentHeader header
    w.first = w.position
    w.salt = word_mix(word_mix(w.salt_seed ^ w.generation) ^ w.first)
    w.offset = SEGMENT_HEADER_SIZE
    memcpy(header.broker_id, w.broker_id, 8)
    header.segment_size = w.segment_size
    header.generation = w.generation
    header.first = w.first
    header.salt = w.salt
    header_put(header_bytes, &header, LOG_MAGIC)


cdef uint64_t writer_block(const LogWriter* w, uint8_t* block_bytes, uint64_t size) noexcept nogil:
    """Fills the block's header before its events, which stand there already; the offset where the block goes."""
    cdef BlockHeader block
    USHER_ASSERT(writer_has_room(w, size) and EVENT_SIZE_MIN <= size <= GROUP_SIZE_CEILING and size % 8 == 0)
    block.size = <uint32_t>size
    block.position = w.position
    block.crc = block_crc(w.salt, &block, block_bytes + BLOCK_HEADER_SIZE)
    memcpy(block_bytes, &block, BLOCK_HEADER_SIZE)
    return w.offset


cdef void writer_written(LogWriter* w, uint64_t size) noexcept nogil:
    w.offset += BLOCK_HEADER_SIZE + size
    w.position += size
