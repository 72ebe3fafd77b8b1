# Segments of the log directory: the spare one made ahead, the next one begun, old ones removed, the last run's end settled.
#
# A file gets a segment's name only when its header is on the disk, and events only when its name is: so a named segment always has a
# header that verifies, and no event that was told as committed can hang on a name that a crash takes back.

cdef extern from *:
    """
    #define USHER_SPARE_NAME "spare"
    #define USHER_SPARE_RETRY_NS 1000000000LL
    static unsigned char usher_zeros[1048576];  /* SPARE_SLICE_SIZE; never written to */
    """
    const char* SPARE_NAME "USHER_SPARE_NAME"
    const long long RETRY_NS "USHER_SPARE_RETRY_NS"
    const uint8_t* ZEROS "usher_zeros"



# --- a spare one ---------------------------------------------------------------------------------------------------------------

cdef int64_t spare_failed(Committer* c, int64_t error) noexcept nogil:
    """Not fatal as long as the segment at hand has room: tried again in a second."""
    if c.spare.file >= 0:
        c.disk.close_file(c.disk, c.spare.file)
        c.disk.remove_file(c.disk, SPARE_NAME)
    c.spare.file = -1
    c.spare.errno_value = -error
    c.spare.retry_due = c.disk.clock(c.disk) + RETRY_NS
    return error


cdef int64_t spare_open(Committer* c) noexcept nogil:
    """A file of a segment's size, its room taken on the disk."""
    cdef int64_t error
    c.spare.file = c.disk.open_file(c.disk, SPARE_NAME, OPEN_NEW)
    if c.spare.file < 0:
        return spare_failed(c, c.spare.file)
    error = c.disk.allocate(c.disk, c.spare.file, c.writer.segment_size)
    if error < 0:
        return spare_failed(c, error)
    c.spare.filled = 0
    c.spare.is_ready = False
    c.spare.errno_value = 0
    return 0


cdef int64_t spare_fill(Committer* c) noexcept nogil:
    """A slice of zeros, synced: writing over blocks that were written once needs no change of the file's map at each commit."""
    cdef uint64_t size = min(<uint64_t>SPARE_SLICE_SIZE, c.writer.segment_size - c.spare.filled)
    cdef int64_t error = write_all(c.disk, c.spare.file, ZEROS, size, c.spare.filled)
    if error == 0:
        error = c.disk.sync_data(c.disk, c.spare.file)
    if error < 0:
        return spare_failed(c, error)
    c.spare.filled += size
    c.spare.is_ready = c.spare.filled == c.writer.segment_size
    return 0


cdef bint spare_step(Committer* c) noexcept nogil:
    """One step towards a spare segment; False: there is one, or it is not the time."""
    if c.spare.is_ready or (c.spare.file < 0 and c.spare.errno_value and c.disk.clock(c.disk) < c.spare.retry_due):
        return False
    if c.spare.file < 0:
        spare_open(c)
    else:
        spare_fill(c)
    return True


# --- the next one --------------------------------------------------------------------------------------------------------------

cdef int64_t segment_start(Committer* c) noexcept nogil:
    """Begins a segment at the writer's position; what was the spare is it. 0, or -errno: then nothing may be written any more."""
    cdef uint8_t header[SEGMENT_HEADER_SIZE]
    cdef char name[FILE_NAME_SIZE]
    cdef int64_t error = 0
    cdef LogWriter fresh = c.writer
    if c.segment_count == LOG_FILES_MAX:
        return -EOVERFLOW
    if not c.spare.is_ready:
        c.totals.rolls_without_spare += 1
    if c.spare.file < 0:
        error = spare_open(c)
    if error < 0:
        return error
    writer_next_segment(&fresh, header)
    segment_name(name, fresh.first)
    error = write_all(c.disk, c.spare.file, header, SEGMENT_HEADER_SIZE, 0)
    if error == 0:
        error = c.disk.sync_data(c.disk, c.spare.file)
    if error >= 0:
        error = c.disk.rename_file(c.disk, SPARE_NAME, name)
    if error >= 0:
        error = c.disk.sync_names(c.disk)
    if error < 0:
        return error
    segment_take(c, &fresh)
    return 0


cdef void segment_take(Committer* c, const LogWriter* fresh) noexcept nogil:
    """The spare file is the segment at hand. One of the same name had no event, and has been replaced."""
    if c.file >= 0:
        c.disk.close_file(c.disk, c.file)
    c.file = c.spare.file
    c.spare.file = -1
    c.spare.is_ready = False
    c.writer = fresh[0]
    if c.segment_count == 0 or c.firsts[c.segment_count - 1] != fresh.first:
        c.firsts[c.segment_count] = fresh.first
        store_u32(&c.segment_count, c.segment_count + 1)
    c.totals.rolls += 1
    c.totals.written_size += SEGMENT_HEADER_SIZE


# --- old ones --------------------------------------------------------------------------------------------------------------------

cdef bint retire_step(Committer* c) noexcept nogil:
    """Removes the oldest segment if nobody needs it: the next one begins at or before the position asked for. One that cannot be removed
    is left, and tried again with the next request."""
    cdef char name[FILE_NAME_SIZE]
    cdef uint64_t below = load_u64(&c.retire_below)
    if c.segment_count < 2 or c.firsts[1] > below:
        return False
    segment_name(name, c.firsts[0])
    if c.disk.remove_file(c.disk, name) < 0:
        store_u64(&c.retire_below, 0)
        return False
    memmove(c.firsts, c.firsts + 1, (c.segment_count - 1) * sizeof(uint64_t))
    store_u32(&c.segment_count, c.segment_count - 1)
    store_u64(&c.oldest, c.firsts[0])
    c.totals.retired += 1
    return True


# --- the last run's end ------------------------------------------------------------------------------------------------------------

cdef int64_t aside_put(Committer* c, const LogReader* r, const uint8_t* torn) noexcept nogil:
    """A torn tail, kept for who wants to look at it: torn-<position>-<generation>."""
    cdef char name[FILE_NAME_SIZE]
    cdef int64_t file, error
    snprintf(name, FILE_NAME_SIZE, "torn-%016llx-%llu", <unsigned long long>r.position, <unsigned long long>r.generation)
    file = c.disk.open_file(c.disk, name, OPEN_NEW)
    if file < 0:
        return file
    error = write_all(c.disk, file, torn, r.torn_size, 0)
    if error == 0:
        error = c.disk.sync_data(c.disk, file)
    c.disk.close_file(c.disk, file)
    return error if error < 0 else c.disk.sync_names(c.disk)


cdef int64_t tail_settle(Committer* c, const LogReader* r, int64_t file) noexcept nogil:
    """Cuts a torn tail, and writes the last block again before the sync: it was read, but perhaps only from memory whose write had failed,
    which a sync alone would call clean."""
    cdef uint8_t* data = <uint8_t*>malloc(r.size + 1)
    cdef int64_t error = -ENOMEM
    if data != NULL:
        error = read_all(c.disk, file, data, r.size, 0)
    if error >= 0 and <uint64_t>error != r.size:
        error = -EIO
    if error >= 0 and r.torn_size:
        error = aside_put(c, r, data + r.offset)
        memset(data + r.offset, 0, r.torn_size)
        crash_here(c.crash, CRASH_MID_RECOVERY)
        if error >= 0:
            error = write_all(c.disk, file, data + r.offset, r.torn_size, r.offset)
    if error >= 0 and r.block_offset:
        error = write_all(c.disk, file, data + r.block_offset, r.offset - r.block_offset, r.block_offset)
    free(data)
    crash_here(c.crash, CRASH_MID_RECOVERY)
    return error if error < 0 else c.disk.sync_data(c.disk, file)


cdef int64_t log_settle(Committer* c, const LogReader* r) noexcept nogil:
    """What was recovered is durable before anything builds on it; its names are with that of the segment that comes next. 0, or -errno."""
    cdef char name[FILE_NAME_SIZE]
    cdef int64_t error = 0
    cdef int64_t file
    if r.is_begun:
        segment_name(name, r.name)
        file = c.disk.open_file(c.disk, name, OPEN_TO_WRITE)
        if file < 0:
            return file
        error = tail_settle(c, r, file)
        c.disk.close_file(c.disk, file)
    return error
