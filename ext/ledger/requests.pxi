# Remembered requests: the same request_id gets the same answer and takes nothing more (semantics rule 11).
#
# An Open's entry lives with its session and one request window more; those of Acquire, Release and Close live one
# request window; a denial's lives one denial window. Each window is a constant, so what is forgotten first was put to
# expire first: a queue each, no heap. None is forgotten early: at the bound new requests are refused.


cdef inline uint32_t remembered_count(State* s) noexcept nogil:
    return s.requests.live - s.denials.live


cdef inline bint can_remember_grant(State* s) noexcept nogil:
    return remembered_count(s) < s.requests.count_max - s.denials.count_max


cdef inline bint can_remember(State* s) noexcept nogil:
    """Whatever the decision will be: the answer to it is remembered."""
    return can_remember_grant(s) and s.denials.live < s.denials.count_max


cdef uint32_t request_add(State* s, const Command* command, RequestKind kind, uint64_t owner, uint8_t detail) noexcept nogil:
    cdef uint32_t number = slab_take(&s.requests)
    cdef Request* request = request_at(s, number)
    request.lookup[0] = command.lookup[0]
    request.lookup[1] = command.lookup[1]
    request.fingerprint = command.fingerprint
    request.owner = owner
    request.kind = kind
    request.detail = detail
    request.next = NONE
    index_add(&s.by_request, <uint32_t>command.lookup[0], number)
    return number


cdef void request_expires(State* s, Queue* queue, uint32_t number, int64_t expires) noexcept nogil:
    cdef Request* request = request_at(s, number)
    request.expires = expires
    request.next = NONE
    if queue.tail == NONE:
        queue.head = number
    else:
        USHER_ASSERT(request_at(s, queue.tail).expires <= expires)
        request_at(s, queue.tail).next = number
    queue.tail = number


cdef void request_remember(State* s, const Command* command, RequestKind kind, uint64_t owner, uint8_t detail) noexcept nogil:
    cdef uint32_t number = request_add(s, command, kind, owner, detail)
    request_expires(s, &s.requests_to_forget, number, s.now + s.request_window)


cdef void denial_remember(State* s, const Command* command, const DenialRecord* denial) noexcept nogil:
    cdef uint32_t record = slab_take(&s.denials)
    cdef uint32_t number
    denial_at(s, record)[0] = denial[0]
    number = request_add(s, command, REQUEST_DENIED, record, 0)
    request_expires(s, &s.denials_to_forget, number, s.now + s.denial_window)


cdef void request_forget_first(State* s, Queue* queue) noexcept nogil:
    cdef uint32_t number = queue.head
    cdef Request* request = request_at(s, number)
    queue.head = request.next
    if queue.head == NONE:
        queue.tail = NONE
    index_remove(&s.by_request, <uint32_t>request.lookup[0], number)
    if request.kind == REQUEST_DENIED:
        slab_give(&s.denials, <uint32_t>request.owner)
    slab_give(&s.requests, number)


cdef inline bint is_forgettable(State* s, const Queue* queue) noexcept nogil:
    return queue.head != NONE and request_at(s, queue.head).expires <= s.now
