# Where events come from: the ledger's ring, or a queue that a test or a simulation fills.
#
# The room of what was read is given back only when it is committed, so that what a failed disk did not take is never overwritten.

cdef struct LedgerSource:
    const LedgerPort* port
    EventCursor cursor


cdef int64_t ledger_read(EventSource* source, uint8_t* target, uint64_t size_max) noexcept nogil:
    """The events behind the cursor. A loss is final: what is missing in the log cannot be recovered."""
    cdef LedgerSource* ledger = <LedgerSource*>source.inner
    cdef uint64_t size = ledger.port.read_events(ledger.port, &ledger.cursor, target, size_max)
    if ledger.cursor.lost_size or ledger.cursor.position - size != source.position:
        return -1
    source.position = ledger.cursor.position
    return <int64_t>size


cdef void ledger_release(EventSource* source, uint64_t position) noexcept nogil:
    """Moves the ring's head, before which the ledger may overwrite."""
    cdef LedgerSource* ledger = <LedgerSource*>source.inner
    ledger.port.release_events(ledger.port, position)


cdef uint64_t ledger_head(const LedgerPort* port) noexcept nogil:
    """Where the events begin that nobody has drained."""
    cdef uint64_t head
    pthread_mutex_lock(<pthread_mutex_t*>port.mutex)
    head = port.state.ring.head
    pthread_mutex_unlock(<pthread_mutex_t*>port.mutex)
    return head


# --- a queue ----------------------------------------------------------------------------------------------------------------

cdef struct QueueSource:            # a ring; positions only grow
    pthread_mutex_t mutex
    uint8_t* base
    uint64_t size
    uint64_t head                   # released up to here
    uint64_t tail


cdef void ring_take(const QueueSource* queue, uint64_t position, uint8_t* target, uint64_t size) noexcept nogil:
    cdef uint64_t start = position % queue.size
    cdef uint64_t first = min(size, queue.size - start)
    memcpy(target, queue.base + start, first)
    memcpy(target + first, queue.base, size - first)


cdef bint queue_put(QueueSource* queue, const uint8_t* events, uint64_t size) noexcept nogil:
    """False: no room until more is committed."""
    cdef uint64_t start, first
    cdef bint has_room
    pthread_mutex_lock(&queue.mutex)
    has_room = queue.size - (queue.tail - queue.head) >= size
    if has_room:
        start = queue.tail % queue.size
        first = min(size, queue.size - start)
        memcpy(queue.base + start, events, first)
        memcpy(queue.base, events + first, size - first)
        queue.tail += size
    pthread_mutex_unlock(&queue.mutex)
    return has_room


cdef int64_t queue_read(EventSource* source, uint8_t* target, uint64_t size_max) noexcept nogil:
    cdef QueueSource* queue = <QueueSource*>source.inner
    cdef uint64_t size
    pthread_mutex_lock(&queue.mutex)
    size = min(queue.tail - source.position, size_max)
    ring_take(queue, source.position, target, size)
    pthread_mutex_unlock(&queue.mutex)
    size = whole_size(target, size, size)
    source.position += size
    return <int64_t>size


cdef void queue_release(EventSource* source, uint64_t position) noexcept nogil:
    cdef QueueSource* queue = <QueueSource*>source.inner
    pthread_mutex_lock(&queue.mutex)
    queue.head = position
    pthread_mutex_unlock(&queue.mutex)
