# The reader: the events of segments given one after the other, or exactly where and why it stops. No I/O.
#
#     reader_segment(r, name, bytes, size, is_last)   for each, in the order of their names
#         while reader_span(r, &span): ...            its events
#     r.stop: STOP_SEGMENT: the next one, please; else the end
#
# Nothing is believed that does not verify: a block counts if its checksum under the segment's salt is right, its position is the
# expected one, and it holds whole events. What does not verify is judged by what is behind it (the verdicts of _journal.pyx).

cdef void reader_begin(LogReader* r, const uint8_t* broker_id, uint64_t wanted) noexcept nogil:
    memset(r, 0, sizeof(LogReader))
    memcpy(r.broker_id, broker_id, 8)
    r.wanted = r.position = wanted


cdef bint reader_stops(LogReader* r, uint8_t stop) noexcept nogil:
    r.stop = stop
    return False


cdef uint8_t segment_verdict(LogReader* r, const SegmentHeader* header) noexcept nogil:
    """Whether a segment with this header may come now."""
    if memcmp(header.broker_id, r.broker_id, 8):
        return STOP_BROKER
    if header.first != r.name:
        return STOP_MISNAMED
    if header.first > r.position:
        return STOP_GAP
    if r.is_begun and header.first < r.position:
        return STOP_DUPLICATE
    if header.generation < r.generation:
        return STOP_GENERATION
    return STOP_NONE


cdef bint reader_segment(LogReader* r, uint64_t name, const uint8_t* data, uint64_t size, bint is_last) noexcept nogil:
    """Goes on with a segment, whose bytes stay the caller's and stay there; False: refused, see `stop`."""
    cdef SegmentHeader header
    r.name = name
    r.bytes = data
    r.size = size
    r.is_last = is_last
    r.offset = 0
    r.block_offset = r.torn_size = 0
    r.is_whole = False
    r.stop = header_take(data, size, &header, LOG_MAGIC)
    if r.stop == STOP_NONE:
        r.found = header.first
        r.stop = segment_verdict(r, &header)
    if r.stop != STOP_NONE:
        return False
    if not r.is_begun:
        r.position = header.first
    r.is_begun = True
    r.generation = header.generation
    r.first = header.first
    r.salt = header.salt
    r.offset = SEGMENT_HEADER_SIZE
    return True


cdef bint reader_span(LogReader* r, EventSpan* span) noexcept nogil:
    """The next events at or behind the wanted position; False: no more here, see `stop`."""
    cdef BlockHeader block
    while r.stop == STOP_NONE:
        if not block_at(r.bytes, r.size, r.offset, r.salt, 0, &block):
            return reader_stops(r, end_verdict(r))
        if block.position != r.position:
            r.found = block.position
            return reader_stops(r, STOP_GAP if block.position > r.position else STOP_DUPLICATE)
        if whole_size(r.bytes + r.offset + BLOCK_HEADER_SIZE, block.size, block.size) != block.size:
            return reader_stops(r, STOP_EVENTS)
        if take_block(r, &block, span):
            return True
    return False


cdef bint take_block(LogReader* r, const BlockHeader* block, EventSpan* span) noexcept nogil:
    """Goes behind a verified block; whether it holds events that are wanted: then these."""
    cdef uint64_t skipped = 0
    span.position = r.position
    span.offset = r.offset + BLOCK_HEADER_SIZE
    span.size = block.size
    if r.wanted >= r.position + block.size:
        skipped = block.size
    elif r.wanted > r.position:
        skipped = whole_size(r.bytes + span.offset, block.size, r.wanted - r.position)
        if skipped != r.wanted - r.position:
            return reader_stops(r, STOP_POSITION)
    r.block_offset = r.offset
    r.offset += BLOCK_HEADER_SIZE + block.size
    r.position += block.size
    span.position += skipped
    span.offset += skipped
    span.size -= skipped
    return span.size != 0


cdef uint8_t end_verdict(LogReader* r) noexcept nogil:
    """What it means that no block stands at `offset`."""
    if stands_behind(r):
        return STOP_DAMAGED
    if not r.is_last:
        return STOP_SEGMENT
    r.torn_size = used_size(r.bytes + r.offset, r.size - r.offset)
    if r.torn_size == 0:
        return STOP_END if r.position >= r.wanted else STOP_SHORT
    r.is_whole = seems_whole(r)
    return STOP_TORN if r.position >= r.wanted else STOP_SHORT


cdef bint stands_behind(const LogReader* r) noexcept nogil:
    """Whether a valid block of this segment lies anywhere behind: blocks begin at multiples of 8."""
    cdef BlockHeader block
    cdef uint64_t at = r.offset + 8
    while at + BLOCK_HEADER_SIZE <= r.size:
        if block_at(r.bytes, r.size, at, r.salt, r.position, &block):
            return True
        at += 8
    return False


cdef uint64_t used_size(const uint8_t* data, uint64_t size) noexcept nogil:
    """Up to the last byte that is not zero."""
    cdef uint64_t word
    while size >= 8:
        memcpy(&word, data + size - 8, 8)
        if word:
            break
        size -= 8
    while size and data[size - 1] == 0:
        size -= 1
    return size


cdef bint seems_whole(const LogReader* r) noexcept nogil:
    """Whether the torn block has its header, and something up to the end of each of its sectors: a write that a crash cut short looks otherwise.
    Events do not end in, or have between them, so many zeros."""
    cdef BlockHeader block
    cdef uint64_t at, end, sector_end
    if r.offset + BLOCK_HEADER_SIZE > r.size:
        return False
    memcpy(&block, r.bytes + r.offset, BLOCK_HEADER_SIZE)
    if block.position != r.position or block.size < EVENT_SIZE_MIN or block.size > r.size - r.offset - BLOCK_HEADER_SIZE:
        return False
    at = r.offset
    end = r.offset + BLOCK_HEADER_SIZE + block.size
    while at < end:
        sector_end = min(end, (at & ~<uint64_t>(SECTOR_SIZE - 1)) + SECTOR_SIZE)
        if sector_end - at - used_size(r.bytes + at, sector_end - at) >= ZERO_RUN_SIZE_MIN:
            return False
        at = sector_end
    return True
