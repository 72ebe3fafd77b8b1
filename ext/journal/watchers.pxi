# Who is told how far the log is committed: positions stored, descriptors written. And who wakes the committer.

cdef bint watch_add(Committer* c, uint64_t* committed, const int* descriptors, uint32_t count) noexcept nogil:
    """From the next commit on; False: there are COMMIT_WATCHERS_MAX already."""
    cdef CommitWatcher* watcher
    cdef uint32_t i
    cdef bint has_room
    USHER_ASSERT(count <= LOOPS_MAX)
    pthread_mutex_lock(<pthread_mutex_t*>c.watchers_mutex)
    has_room = c.watcher_count < COMMIT_WATCHERS_MAX
    if has_room:
        watcher = &c.watchers[c.watcher_count]
        watcher.committed = committed
        watcher.descriptor_count = count
        for i in range(count):
            watcher.descriptors[i] = descriptors[i]
        c.watcher_count += 1
        watcher_tell(c, watcher)
    pthread_mutex_unlock(<pthread_mutex_t*>c.watchers_mutex)
    return has_room


cdef void watch_remove(Committer* c, const uint64_t* committed, int descriptor) noexcept nogil:
    """The watcher of this place; with NULL, the one of this descriptor. After it returns nobody touches them."""
    cdef CommitWatcher* watcher
    cdef uint32_t i = 0
    pthread_mutex_lock(<pthread_mutex_t*>c.watchers_mutex)
    while i < c.watcher_count:
        watcher = &c.watchers[i]
        if watcher.committed == committed and (committed != NULL or watcher.descriptors[0] == descriptor):
            c.watcher_count -= 1
            watcher[0] = c.watchers[c.watcher_count]
        else:
            i += 1
    pthread_mutex_unlock(<pthread_mutex_t*>c.watchers_mutex)


cdef void watcher_tell(const Committer* c, const CommitWatcher* watcher) noexcept nogil:
    cdef uint32_t i
    if watcher.committed != NULL and c.is_begun:
        store_max(watcher.committed, c.committed - c.base)
    for i in range(watcher.descriptor_count):
        eventfd_tell(watcher.descriptors[i])


cdef void watchers_tell(Committer* c) noexcept nogil:
    cdef uint32_t i
    pthread_mutex_lock(<pthread_mutex_t*>c.watchers_mutex)
    for i in range(c.watcher_count):
        watcher_tell(c, &c.watchers[i])
    pthread_mutex_unlock(<pthread_mutex_t*>c.watchers_mutex)


cdef void eventfd_tell(int descriptor) noexcept nogil:
    """A full counter (EAGAIN) has been told already."""
    cdef uint64_t one = 1
    write_fd(descriptor, &one, 8)


# --- sleeping and waking -------------------------------------------------------------------------------------------------

cdef void committer_wake(Committer* c) noexcept nogil:
    """Events were written, or something is asked of it: a load, unless it sleeps."""
    fence_all()
    if load_u8(&c.is_waiting) and exchange_u8(&c.is_waiting, False):
        eventfd_tell(c.wake_fd)


cdef void committer_sleep(Committer* c) noexcept nogil:
    """Until somebody wakes it; `is_waiting` was set before it looked for work the last time."""
    cdef pollfd waited
    cdef uint64_t count
    waited.fd = c.wake_fd
    waited.events = POLLIN
    waited.revents = 0
    if poll(&waited, 1, IDLE_WAIT_MS) > 0:
        read_fd(c.wake_fd, &count, 8)
        c.totals.wakes += 1


cdef void port_wake(const JournalPort* port) noexcept nogil:
    committer_wake(port.committer)


cdef bint port_watch(const JournalPort* port, uint64_t* committed, const int* descriptors, uint32_t count) noexcept nogil:
    return watch_add(port.committer, committed, descriptors, count)


cdef void port_unwatch(const JournalPort* port, const uint64_t* committed) noexcept nogil:
    watch_remove(port.committer, committed, -1)
