# Remembered requests: the same request_id gets the same answer and takes nothing more (semantics rule 11).
#
# An Open is remembered while its session lives and one request window more; Acquire, Release and Close one request
# window; a denial one denial window. Each window is a constant, so what is forgotten first was put to expire first: a
# queue each, no heap. A session that is over keeps its record until then: it remembers how it ended, and the Close that
# ended it, so that a Close touches little memory. None is forgotten early: at the bound new requests are refused.


cdef inline uint32_t remembered_count(State* s) noexcept nogil:
    """Denials are counted apart."""
    return s.requests.live - s.denials.live + s.close_count


cdef inline bint can_remember_grant(State* s) noexcept nogil:
    return remembered_count(s) < s.requests.count_max - s.denials.count_max


cdef inline bint can_remember(State* s) noexcept nogil:
    """Whatever the decision will be: the answer to it is remembered."""
    return can_remember_grant(s) and s.denials.live < s.denials.count_max


cdef uint32_t request_add(State* s, const Command* command, RequestKind kind, uint64_t owner) noexcept nogil:
    cdef uint32_t number = slab_take(&s.requests)
    cdef Request* request = request_at(s, number)
    request.lookup[0] = command.lookup[0]
    request.lookup[1] = command.lookup[1]
    request.fingerprint = command.fingerprint
    request.owner = owner
    request.kind = kind
    request.was_held = 0
    index_add(&s.by_request, <uint32_t>command.lookup[0], number)
    return number


cdef void request_drop(State* s, uint32_t number) noexcept nogil:
    index_remove(&s.by_request, <uint32_t>request_at(s, number).lookup[0], number)
    slab_give(&s.requests, number)


# --- the queues ----------------------------------------------------------------------------------------------------------
# Rings of numbers, not chained records: what will be forgotten next can be seen, and its memory asked for, ahead.

cdef bint queue_reserve(State* s, Queue* queue, uint64_t count_max) noexcept nogil:
    queue.links = <uint32_t*>region_reserve(s, 4 * count_max)
    queue.count_max = <uint32_t>count_max
    return queue.links != NULL


cdef void queue_release(Queue* queue) noexcept nogil:
    if queue.links != NULL:
        munmap(queue.links, <uint64_t>4 * queue.count_max)


cdef inline uint32_t queue_at(const Queue* queue, uint32_t index) noexcept nogil:
    return queue.links[(<uint64_t>queue.first + index) % queue.count_max]


cdef inline void queue_add(Queue* queue, uint32_t link) noexcept nogil:
    """The thing already knows when it expires, which is not before the others."""
    USHER_ASSERT(queue.count < queue.count_max)
    queue.links[(<uint64_t>queue.first + queue.count) % queue.count_max] = link
    queue.count += 1


cdef inline void queue_drop_first(Queue* queue) noexcept nogil:
    queue.first = (queue.first + 1) % queue.count_max
    queue.count -= 1


cdef inline int64_t queue_due(State* s, const Queue* queue) noexcept nogil:
    """When the first is forgotten; INT64_MAX if there is none."""
    cdef uint32_t link
    if queue.count == 0:
        return INT64_MAX
    link = queue_at(queue, 0)
    return session_at(s, link & ~SESSION_LINK).deadline if link & SESSION_LINK else request_at(s, link).expires


cdef uint32_t request_remember(State* s, const Command* command, RequestKind kind, uint64_t owner) noexcept nogil:
    cdef uint32_t number = request_add(s, command, kind, owner)
    request_at(s, number).expires = s.now + s.request_window
    queue_add(&s.requests_to_forget, number)
    return number


cdef void denial_remember(State* s, const Command* command, const DenialRecord* denial) noexcept nogil:
    cdef uint32_t record = slab_take(&s.denials)
    cdef uint32_t number
    denial_at(s, record)[0] = denial[0]
    number = request_add(s, command, REQUEST_DENIED, record)
    request_at(s, number).expires = s.now + s.denial_window
    queue_add(&s.denials_to_forget, number)


# --- forgetting -----------------------------------------------------------------------------------------------------------

cdef void session_forget(State* s, uint32_t number) noexcept nogil:
    """The Open of a session that is over, and, as the next thing, the Close; with the last of them the record is free."""
    cdef Session* session = session_at(s, number)
    if session.state == SESSION_OVER:
        request_drop(s, session.request)
        text_free(s, session.text)
        if session.heap_position != NONE:
            heap_remove(s, &s.deadlines, session.heap_position)
            session.heap_position = NONE
        if session.is_close_remembered:
            session.state = SESSION_CLOSE_ONLY
            return
    else:
        s.close_count -= 1
    queue_drop_first(&s.requests_to_forget)
    session.fence = 0
    session.state = SESSION_FREE
    slab_give(&s.sessions, number)


cdef void forget_first(State* s, Queue* queue) noexcept nogil:
    cdef uint32_t link = queue_at(queue, 0)
    if link & SESSION_LINK:
        session_forget(s, link & ~SESSION_LINK)
        return
    queue_drop_first(queue)
    if request_at(s, link).kind == REQUEST_DENIED:
        slab_give(&s.denials, <uint32_t>request_at(s, link).owner)
    request_drop(s, link)


# --- looking ahead ---------------------------------------------------------------------------------------------------------
# As in batches: stages, each over a group in one go, each reading what the one before asked for.

cdef enum:
    FORGET_GROUP = 8
    FORGET_STAGES = 3


cdef void prefetch_forgetting(State* s, uint32_t link, int stage) noexcept nogil:
    """Stage 0: the record; 1: what a session's record names, or a request's bucket; 2: the bucket of a session's Open."""
    cdef Session* session = session_at(s, link & ~SESSION_LINK)
    if stage == 0:
        prefetch(session if link & SESSION_LINK else <void*>request_at(s, link))
    elif not link & SESSION_LINK:
        prefetch(home_bucket(&s.by_request, <uint32_t>request_at(s, link).lookup[0]))
    elif stage == 1:
        prefetch(request_at(s, session.request))
        prefetch(s.texts.base + session.text)
        if session.heap_position != NONE:
            prefetch(&s.deadlines.times[session.heap_position])
            prefetch(&s.deadlines.numbers[session.heap_position])
    else:
        prefetch(home_bucket(&s.by_request, <uint32_t>request_at(s, session.request).lookup[0]))


cdef void forget_ahead(State* s, const Queue* queue, uint32_t done) noexcept nogil:
    """Called before each item: at the beginning of each group, the groups after it go one stage further."""
    cdef int stage
    cdef uint32_t i, start
    if done % FORGET_GROUP:
        return
    for stage in range(FORGET_STAGES):
        start = (FORGET_STAGES - stage) * FORGET_GROUP
        for i in range(start, min(start + FORGET_GROUP, queue.count)):
            prefetch_forgetting(s, queue_at(queue, i), stage)
