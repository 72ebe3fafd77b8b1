# The committer: events from a source into the log, one write and one sync a group, then everybody who waits is told.
#
# One round: read what the source has, at most a group; begin the next segment if it does not fit; write; sync; publish the
# position; give the source its room back. Groups grow by themselves: while one is synced the events of the next gather.
# With nothing to read it does one chore (a slice of the spare segment, one old segment removed), else it sleeps.
#
# The first error of a write, a sync or a new segment is the last thing that happens: errno and step are kept, `is_failed` is set, the failure
# descriptor is written, the loop ends. Nothing is tried again, for a sync that follows a failed one proves nothing; what is committed
# stays as it was. The broker ends the process; the next start settles what is on the disk.

cdef enum:
    ROUND_IDLE = 0
    ROUND_WORKED = 1
    ROUND_FAILED = 2


cdef int committer_fail(Committer* c, uint8_t step, int64_t error) noexcept nogil:
    c.failure.step = step
    c.failure.errno_value = -error
    c.failure.position = c.committed
    exchange_u8(&c.is_failed, True)
    eventfd_tell(c.failure_fd)
    return ROUND_FAILED


cdef void sync_count(JournalTotals* totals, int64_t elapsed) noexcept nogil:
    """Buckets of 16 µs, doubling."""
    cdef int bucket = 0
    elapsed = max(elapsed, <int64_t>0)
    if elapsed > 16000:
        bucket = log2_u64(<uint64_t>(elapsed - 1) // 16000) + 1
    totals.syncs += 1
    totals.sync_ns += <uint64_t>elapsed
    totals.sync_buckets[min(bucket, SYNC_BUCKET_COUNT - 1)] += 1


cdef void delay(int64_t duration_ns) noexcept nogil:
    cdef nap rest
    rest.tv_sec = duration_ns // 1_000_000_000
    rest.tv_nsec = duration_ns % 1_000_000_000
    while nanosleep(&rest, &rest) < 0 and errno == EINTR:
        pass


cdef int64_t group_sync(Committer* c) noexcept nogil:
    cdef int64_t begun = c.disk.clock(c.disk)
    cdef int64_t error = c.disk.sync_data(c.disk, c.file)
    if c.sync_delay_ns:
        delay(c.sync_delay_ns)
    sync_count(&c.totals, c.disk.clock(c.disk) - begun)
    return error


cdef int group_commit(Committer* c, uint64_t size) noexcept nogil:
    """The events in `group`, written, synced, told."""
    cdef int64_t error
    cdef uint64_t offset
    if not writer_has_room(&c.writer, size):
        error = segment_start(c)
        if error < 0:
            return committer_fail(c, STEP_SEGMENT, error)
    crash_here(c.crash, CRASH_BEFORE_APPEND)
    offset = writer_block(&c.writer, c.group, size)
    error = write_all(c.disk, c.file, c.group, BLOCK_HEADER_SIZE + size, offset)
    if error < 0:
        return committer_fail(c, STEP_WRITE, error)
    crash_here(c.crash, CRASH_AFTER_APPEND)
    error = group_sync(c)
    if error < 0:
        return committer_fail(c, STEP_SYNC, error)
    crash_here(c.crash, CRASH_AFTER_SYNC)
    group_committed(c, size)
    return ROUND_WORKED


cdef void group_committed(Committer* c, uint64_t size) noexcept nogil:
    """It is on the disk: who waits is told, and the source has its room back."""
    writer_written(&c.writer, size)
    group_count(&c.totals, size)
    store_u64(&c.committed, c.writer.position)
    crash_here(c.crash, CRASH_BEFORE_ANSWER)
    watchers_tell(c)
    c.source.release(c.source, c.writer.position - c.base)


cdef void group_count(JournalTotals* totals, uint64_t size) noexcept nogil:
    totals.groups += 1
    totals.event_size += size
    totals.written_size += BLOCK_HEADER_SIZE + size
    totals.largest_group_size = max(totals.largest_group_size, size)


cdef int chore(Committer* c) noexcept nogil:
    """One step of what can wait."""
    c.groups_since_chores = 0
    return ROUND_WORKED if retire_step(c) or spare_step(c) else ROUND_IDLE


cdef int committer_round(Committer* c) noexcept nogil:
    """One group, or one chore."""
    cdef int64_t size
    if c.is_failed:
        return ROUND_FAILED
    size = c.source.read(c.source, c.group + BLOCK_HEADER_SIZE, c.group_size_max)
    if size < 0:
        return committer_fail(c, STEP_SOURCE, -EIO)
    if size == 0:
        return ROUND_IDLE if load_u8(&c.is_stopping) else chore(c)
    c.groups_since_chores += 1
    if c.groups_since_chores > GROUPS_BETWEEN_CHORES:
        chore(c)
    return group_commit(c, <uint64_t>size)


cdef void committer_run(Committer* c) noexcept nogil:
    """Until stopped and nothing is left to commit, or failed. Who asks to stop is heard before the last look for events."""
    cdef bint is_last
    cdef int done
    while True:
        is_last = load_u8(&c.is_stopping)
        done = committer_round(c)
        if done == ROUND_IDLE and not is_last:
            exchange_u8(&c.is_waiting, True)
            done = committer_round(c)
            if done == ROUND_IDLE and not load_u8(&c.is_stopping):
                committer_sleep(c)
            exchange_u8(&c.is_waiting, False)
            is_last = False
        if done == ROUND_FAILED or (done == ROUND_IDLE and is_last):
            return


cdef bint committer_begin(Committer* c) noexcept nogil:
    """Room, descriptors, mutex; False: none, see errno. `disk` stands there already."""
    c.file = c.spare.file = -1
    c.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    c.failure_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    c.firsts = <uint64_t*>malloc(LOG_FILES_MAX * sizeof(uint64_t))
    c.watchers_mutex = malloc(sizeof(pthread_mutex_t))
    if c.watchers_mutex != NULL:
        pthread_mutex_init(<pthread_mutex_t*>c.watchers_mutex, NULL)
    return c.wake_fd >= 0 and c.failure_fd >= 0 and c.firsts != NULL and c.watchers_mutex != NULL


cdef void committer_end(Committer* c) noexcept nogil:
    if c.file >= 0:
        c.disk.close_file(c.disk, c.file)
    if c.spare.file >= 0:
        c.disk.close_file(c.disk, c.spare.file)
    if c.wake_fd >= 0:
        close_fd(c.wake_fd)
    if c.failure_fd >= 0:
        close_fd(c.failure_fd)
    if c.watchers_mutex != NULL:
        pthread_mutex_destroy(<pthread_mutex_t*>c.watchers_mutex)
    free(c.watchers_mutex)
    free(c.firsts)
    free(c.group)
