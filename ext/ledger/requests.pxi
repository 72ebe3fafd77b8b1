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

cdef inline uint32_t* link_next(State* s, uint32_t link) noexcept nogil:
    if link & SESSION_LINK:
        return &session_at(s, link & ~SESSION_LINK).first_lease
    return &request_at(s, link).next


cdef inline int64_t link_expires(State* s, uint32_t link) noexcept nogil:
    return session_at(s, link & ~SESSION_LINK).deadline if link & SESSION_LINK else request_at(s, link).expires


cdef void queue_add(State* s, Queue* queue, uint32_t link) noexcept nogil:
    """The thing already knows when it expires, which is not before the others."""
    link_next(s, link)[0] = NONE
    if queue.tail == NONE:
        queue.head = link
    else:
        link_next(s, queue.tail)[0] = link
    queue.tail = link


cdef void queue_drop_first(State* s, Queue* queue) noexcept nogil:
    queue.head = link_next(s, queue.head)[0]
    if queue.head == NONE:
        queue.tail = NONE


cdef inline bint is_forgettable(State* s, const Queue* queue) noexcept nogil:
    return queue.head != NONE and link_expires(s, queue.head) <= s.now


cdef uint32_t request_remember(State* s, const Command* command, RequestKind kind, uint64_t owner) noexcept nogil:
    cdef uint32_t number = request_add(s, command, kind, owner)
    request_at(s, number).expires = s.now + s.request_window
    queue_add(s, &s.requests_to_forget, number)
    return number


cdef void denial_remember(State* s, const Command* command, const DenialRecord* denial) noexcept nogil:
    cdef uint32_t record = slab_take(&s.denials)
    cdef uint32_t number
    denial_at(s, record)[0] = denial[0]
    number = request_add(s, command, REQUEST_DENIED, record)
    request_at(s, number).expires = s.now + s.denial_window
    queue_add(s, &s.denials_to_forget, number)


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
    queue_drop_first(s, &s.requests_to_forget)
    session.fence = 0
    session.state = SESSION_FREE
    slab_give(&s.sessions, number)


cdef void forget_first(State* s, Queue* queue) noexcept nogil:
    cdef uint32_t link = queue.head
    if link & SESSION_LINK:
        session_forget(s, link & ~SESSION_LINK)
        return
    queue_drop_first(s, queue)
    if request_at(s, link).kind == REQUEST_DENIED:
        slab_give(&s.denials, <uint32_t>request_at(s, link).owner)
    request_drop(s, link)
