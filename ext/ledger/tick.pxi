# Time passing: what is due, in one order, at most BATCH_MAX items a call.
#
# Each step stops early when the event ring has no room for its next item: expiries wait, they are never dropped.


cdef void enter(State* s, int64_t now) noexcept nogil:
    """The beginning of every call: time moves forward, and capacity whose proof has ended is gone."""
    cdef int64_t gap = now - s.raw
    if gap > 0:
        if s.stall_limit and gap > s.stall_limit:
            s.skipped += gap
            s.stalled += gap
            s.totals.stalls += 1
        s.raw = now
        s.now = now - s.skipped
    sources_pass(s)


cdef void advance_memory(State* s, Queue* queue, int* budget) noexcept nogil:
    while budget[0] and is_forgettable(s, queue):
        request_forget_first(s, queue)
        budget[0] -= 1


cdef bint deadline_is_right(State* s) noexcept nogil:
    """Puts a deadline right that was renewed since it was entered; whether there was none to put right."""
    cdef uint32_t number = s.deadlines.numbers[0]
    cdef int64_t deadline = session_at(s, number).deadline
    if deadline == s.deadlines.times[0]:
        return True
    heap_sink(s, &s.deadlines, 0, deadline, number)
    return False


cdef void advance_sessions(State* s, int* budget, int* rekeys) noexcept nogil:
    cdef uint32_t number
    while budget[0] and s.deadlines.count and s.deadlines.times[0] <= s.now:
        if not deadline_is_right(s):
            rekeys[0] -= 1
            if rekeys[0] == 0:
                return
            continue
        number = s.deadlines.numbers[0]
        if not has_room(s, session_end_size(s, number)):
            return
        session_end(s, number, END_EXPIRED)
        budget[0] -= 1


cdef void advance_lingers(State* s, int* budget) noexcept nogil:
    cdef uint32_t number
    while budget[0] and s.lingers.count and s.lingers.times[0] <= s.now:
        if not has_room(s, EVENT_SIZE * 3):
            return
        number = s.lingers.numbers[0]
        charge_stop_lingering(s, number)
        charge_free(s, number, END_NONE)
        budget[0] -= 1


cdef void advance_denials(State* s, int* budget) noexcept nogil:
    cdef DenialBucket* bucket
    cdef uint32_t i
    for i in range(s.product_count + 1):
        bucket = &s.products[i].bucket if i < s.product_count else &s.unknown_bucket
        if bucket.pending_count == 0 or s.now // NS_PER_SECOND == bucket.second:
            continue
        if budget[0] == 0 or not has_room(s, EVENT_SIZE):
            return
        flush_denials(s, bucket, <int32_t>i if i < s.product_count else -1)
        budget[0] -= 1


cdef void forced_end(State* s, Pool* pool) noexcept nogil:
    """The first charge in the order loses its newest lease, or its linger; the session lives on and is told."""
    cdef uint32_t number = newest_from(pool, 0)
    cdef Charge* charge = charge_at(s, number)
    cdef Lease* lease
    cdef Session* session
    if charge.lease_count == 0:
        charge_stop_lingering(s, number)
        charge_free(s, number, pool.loss_cause)
        return
    lease = lease_at(s, charge.first_lease)
    session = session_at(s, lease.session)
    session.change_version += 1
    lease.changed_version = session.change_version
    lease_end(s, charge.first_lease, pool.loss_cause)


cdef void advance_pool(State* s, uint32_t pool_number, int* budget) noexcept nogil:
    """First forced ends, while more is charged than keys and key grace cover; then the set moves toward the deficit."""
    cdef Pool* pool = &s.pools[pool_number]
    while budget[0] and pool.used > pool.capacity + pool.grace_seats and has_room(s, EVENT_SIZE * 3):
        forced_end(s, pool)
        budget[0] -= 1
    while budget[0] and pool.grace_count != grace_target(pool) and has_room(s, EVENT_SIZE * 3):
        if pool.grace_count < grace_target(pool):
            grace_grow(s, pool)
        else:
            grace_shrink(s, pool)
        budget[0] -= 1


cdef bint advance(State* s) noexcept nogil:
    """Whether the budget was spent, so that more may be due."""
    cdef int budget = BATCH_MAX
    cdef int rekeys = REKEYS_MAX
    cdef uint32_t i
    advance_memory(s, &s.requests_to_forget, &budget)
    advance_memory(s, &s.denials_to_forget, &budget)
    advance_sessions(s, &budget, &rekeys)
    advance_lingers(s, &budget)
    advance_denials(s, &budget)
    for i in range(s.pool_count):
        advance_pool(s, i, &budget)
    return budget == 0 or rekeys == 0


cdef int64_t denials_due(State* s) noexcept nogil:
    """When the first pending count of denials can be recorded: as soon as its second is over."""
    cdef DenialBucket* bucket
    cdef int64_t due = INT64_MAX
    cdef uint32_t i
    for i in range(s.product_count + 1):
        bucket = &s.products[i].bucket if i < s.product_count else &s.unknown_bucket
        if bucket.pending_count:
            due = min(due, (bucket.second + 1) * NS_PER_SECOND)
    return due


cdef int64_t next_due(State* s) noexcept nogil:
    """When `advance` has something to do again, in raw time; s.raw if at once. Lazy deadlines may make it early."""
    cdef int64_t due = denials_due(s)
    cdef uint32_t i
    for i in range(s.pool_count):
        if s.pools[i].grace_count != grace_target(&s.pools[i]) or s.pools[i].used > s.pools[i].capacity + s.pools[i].grace_seats:
            return s.raw
    if s.requests_to_forget.head != NONE:
        due = min(due, request_at(s, s.requests_to_forget.head).expires)
    if s.denials_to_forget.head != NONE:
        due = min(due, request_at(s, s.denials_to_forget.head).expires)
    if s.deadlines.count:
        due = min(due, s.deadlines.times[0])
    if s.lingers.count:
        due = min(due, s.lingers.times[0])
    if due != INT64_MAX:
        due += s.skipped
    return max(s.raw, min(due, s.next_source_due))
