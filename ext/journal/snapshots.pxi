# Snapshots: written beside the log while it grows, and read with everything verified. The format is drawn at the head of _journal.pyx.
#
# Who writes one is never waited for by the committer; it syncs every few MiB, so that no sync of the log queues behind a long one. A file gets
# a snapshot's name when all of it is on the disk.

cdef extern from *:
    """
    #define USHER_SNAPSHOT_NEW_NAME "snapshot-new"
    """
    const char* SNAPSHOT_NEW_NAME "USHER_SNAPSHOT_NEW_NAME"


# --- written -------------------------------------------------------------------------------------------------------------------

cdef int64_t snapshot_begin(SnapshotFile* s) noexcept nogil:
    """An empty file with room for its header; 0, or -errno."""
    s.file = s.disk.open_file(s.disk, SNAPSHOT_NEW_NAME, OPEN_NEW)
    s.offset = SEGMENT_HEADER_SIZE
    s.size = s.unsynced_size = 0
    return s.file if s.file < 0 else 0


cdef int64_t snapshot_block(SnapshotFile* s, const uint8_t* events, uint64_t size) noexcept nogil:
    """One block of whole events. 0, or -errno: then it is abandoned."""
    cdef BlockHeader block
    cdef int64_t error
    USHER_ASSERT(EVENT_SIZE_MIN <= size <= GROUP_SIZE_CEILING and size % 8 == 0)
    block.size = <uint32_t>size
    block.position = s.size
    memcpy(s.block + BLOCK_HEADER_SIZE, events, size)
    block.crc = block_crc(s.salt, &block, s.block + BLOCK_HEADER_SIZE)
    memcpy(s.block, &block, BLOCK_HEADER_SIZE)
    error = write_all(s.disk, s.file, s.block, BLOCK_HEADER_SIZE + size, s.offset)
    s.offset += BLOCK_HEADER_SIZE + size
    s.size += size
    s.unsynced_size += size
    crash_here(s.crash, CRASH_MID_SNAPSHOT)
    return snapshot_sync(s) if error == 0 and s.unsynced_size >= SNAPSHOT_SYNC_SIZE else error


cdef int64_t snapshot_sync(SnapshotFile* s) noexcept nogil:
    s.unsynced_size = 0
    return s.disk.sync_data(s.disk, s.file)


cdef int64_t snapshot_write(SnapshotFile* s, const uint8_t* events, uint64_t size) noexcept nogil:
    """As many blocks as it takes; -EINVAL: these are not whole events."""
    cdef uint64_t done = 0
    cdef uint64_t part
    cdef int64_t error = 0
    while done < size and error >= 0:
        part = whole_size(events + done, size - done, min(size - done, <uint64_t>GROUP_SIZE_CEILING))
        error = snapshot_block(s, events + done, part) if part else -EINVAL
        done += part
    return error


cdef int64_t snapshot_commit(SnapshotFile* s, const SegmentHeader* facts) noexcept nogil:
    """Header, sync, name; 0, or -errno. `facts` are broker id, generation and position."""
    cdef uint8_t header_bytes[SEGMENT_HEADER_SIZE]
    cdef char name[FILE_NAME_SIZE]
    cdef SegmentHeader header = facts[0]
    cdef int64_t error
    header.segment_size = s.offset
    header.salt = s.salt
    header_put(header_bytes, &header, SNAPSHOT_MAGIC)
    snapshot_name(name, header.first)
    error = write_all(s.disk, s.file, header_bytes, SEGMENT_HEADER_SIZE, 0)
    crash_here(s.crash, CRASH_MID_SNAPSHOT)
    if error >= 0:
        error = snapshot_sync(s)
    crash_here(s.crash, CRASH_MID_SNAPSHOT)
    if error >= 0:
        error = s.disk.rename_file(s.disk, SNAPSHOT_NEW_NAME, name)
    crash_here(s.crash, CRASH_MID_SNAPSHOT)
    return error if error < 0 else s.disk.sync_names(s.disk)


cdef void snapshot_end(SnapshotFile* s, bint is_abandoned) noexcept nogil:
    if s.file >= 0:
        s.disk.close_file(s.disk, s.file)
        if is_abandoned:
            s.disk.remove_file(s.disk, SNAPSHOT_NEW_NAME)
    s.file = -1


# --- read ------------------------------------------------------------------------------------------------------------------------

cdef uint64_t snapshot_take(SnapshotCursor* s, uint64_t at, uint64_t size, uint64_t offset) noexcept nogil:
    """Reads into `block` from its byte `at` on; how much there was, 0 and `error` if the disk does not give it."""
    cdef int64_t took = read_all(s.disk, s.file, s.block + at, size, offset)
    if took < 0:
        s.error = took
        return 0
    return <uint64_t>took


cdef uint8_t snapshot_head(SnapshotCursor* s, const uint8_t* broker_id, uint64_t named, SegmentHeader* header) noexcept nogil:
    """STOP_NONE, or why it is none of ours: of its header and size only."""
    cdef uint8_t stop
    cdef int64_t size
    stop = header_take(s.block, snapshot_take(s, 0, SEGMENT_HEADER_SIZE, 0), header, SNAPSHOT_MAGIC)
    if stop != STOP_NONE:
        return stop
    if memcmp(header.broker_id, broker_id, 8):
        return STOP_BROKER
    if header.first != named:
        return STOP_MISNAMED
    size = s.disk.file_size(s.disk, s.file)
    s.error = min(size, <int64_t>0)
    s.salt = header.salt
    s.file_size = header.segment_size
    snapshot_rewind(s)
    return STOP_NONE if <uint64_t>max(size, <int64_t>0) == header.segment_size else STOP_SHORT


cdef void snapshot_rewind(SnapshotCursor* s) noexcept nogil:
    s.position = 0
    s.offset = SEGMENT_HEADER_SIZE


cdef uint8_t snapshot_step(SnapshotCursor* s) noexcept nogil:
    """The next block, verified, stands in `block`; STOP_END behind the last one; else where it is damaged: at `offset`."""
    cdef BlockHeader block
    if s.offset == s.file_size:
        return STOP_END
    if snapshot_take(s, 0, min(<uint64_t>BLOCK_HEADER_SIZE, s.file_size - s.offset), s.offset) != BLOCK_HEADER_SIZE:
        return STOP_DAMAGED
    memcpy(&block, s.block, BLOCK_HEADER_SIZE)
    if block.size < EVENT_SIZE_MIN or block.size > GROUP_SIZE_CEILING or block.size > s.file_size - s.offset - BLOCK_HEADER_SIZE:
        return STOP_DAMAGED
    if snapshot_take(s, BLOCK_HEADER_SIZE, block.size, s.offset + BLOCK_HEADER_SIZE) != block.size:
        return STOP_DAMAGED
    if block.position != s.position or block.crc != block_crc(s.salt, &block, s.block + BLOCK_HEADER_SIZE):
        return STOP_DAMAGED
    if whole_size(s.block + BLOCK_HEADER_SIZE, block.size, block.size) != block.size:
        return STOP_EVENTS
    s.size = block.size
    s.position += block.size
    s.offset += BLOCK_HEADER_SIZE + block.size
    return STOP_NONE


cdef uint8_t snapshot_verify(SnapshotCursor* s) noexcept nogil:
    """STOP_END if all of it verifies; the cursor stands at the beginning again."""
    cdef uint8_t stop = STOP_NONE
    while stop == STOP_NONE:
        stop = snapshot_step(s)
    if stop == STOP_END:
        snapshot_rewind(s)
    return stop
