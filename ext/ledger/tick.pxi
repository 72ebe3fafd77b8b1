# Time passing: what is due, in one order, at most BATCH_MAX items a call.
#
# It stops where the event ring has no room for the next item: what waits is not dropped, and nothing overtakes it.


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
        trail_add(s, TRAIL_TIME, 0, <uint64_t>now, TRAIL_HEAD_SIZE)
    USHER_ASSERT(s.phase == PHASE_RUNNING)
    sources_pass(s)


cdef struct Progress:               # of one advance
    int budget                      # items still to be done
    int rekeys                      # deadlines still to be put right
    bint is_blocked                 # the next item's events find no room: nothing overtakes it


cdef inline bint may_go_on(const Progress* progress) noexcept nogil:
    return progress.budget > 0 and progress.rekeys > 0 and not progress.is_blocked


cdef inline bint begin_item(State* s, Progress* progress, uint64_t size) noexcept nogil:
    """Whether the item may be done, and then it counts."""
    if not has_room(s, size):
        progress.is_blocked = True
        return False
    progress.budget -= 1
    return True


cdef void advance_memory(State* s, Queue* queue, Progress* progress) noexcept nogil:
    cdef uint32_t done = 0
    while may_go_on(progress) and queue_due(s, queue) <= s.now:
        forget_ahead(s, queue, done)
        forget_first(s, queue)
        progress.budget -= 1
        done += 1


cdef bint deadline_is_right(State* s) noexcept nogil:
    """Puts an entry right whose session was renewed or ended since it was made; whether there was nothing to put right."""
    cdef uint32_t number = s.deadlines.numbers[0]
    cdef Session* session = session_at(s, number)
    if session.state != SESSION_LIVE:
        heap_remove(s, &s.deadlines, 0)
        session.heap_position = NONE
        return False
    if session.deadline == s.deadlines.times[0]:
        return True
    heap_sink(s, &s.deadlines, 0, session.deadline, number)
    return False


cdef void advance_sessions(State* s, Progress* progress) noexcept nogil:
    cdef uint32_t number
    while may_go_on(progress) and s.deadlines.count and s.deadlines.times[0] <= s.now:
        if not deadline_is_right(s):
            progress.rekeys -= 1
            continue
        number = s.deadlines.numbers[0]
        if begin_item(s, progress, session_end_size(s, number)):
            session_end(s, number, END_EXPIRED, 0, False)
            unit_end(s)


cdef void advance_lingers(State* s, Progress* progress) noexcept nogil:
    cdef uint32_t number
    while may_go_on(progress) and s.lingers.count and s.lingers.times[0] <= s.now:
        if begin_item(s, progress, EVENT_SIZE * 3):
            number = s.lingers.numbers[0]
            charge_stop_lingering(s, number)
            charge_free(s, number, END_NONE)
            unit_end(s)


cdef void advance_denials(State* s, Progress* progress) noexcept nogil:
    cdef DenialBucket* bucket
    cdef uint32_t i
    for i in range(s.product_count + 1):
        bucket = &s.products[i].bucket if i < s.product_count else &s.unknown_bucket
        if bucket.pending_count == 0 or s.now // NS_PER_SECOND == bucket.second:
            continue
        if not may_go_on(progress) or not begin_item(s, progress, EVENT_SIZE):
            return
        flush_denials(s, bucket, <int32_t>i if i < s.product_count else -1)
        unit_end(s)


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


cdef void advance_pool(State* s, Pool* pool, Progress* progress) noexcept nogil:
    """First forced ends, while more is charged than keys and key grace cover; then the set moves toward the deficit. Nothing while the
    keys are still being tried: what was recovered is given up when it is known that they are gone."""
    if pool.is_starting:
        return
    while may_go_on(progress) and pool.used > pool.capacity + pool.grace_seats:
        if begin_item(s, progress, EVENT_SIZE * 3):
            forced_end(s, pool)
            unit_end(s)
    while may_go_on(progress) and pool.grace_count != grace_target(pool):
        if not begin_item(s, progress, EVENT_SIZE * 3):
            return
        if pool.grace_count < grace_target(pool):
            grace_grow(s, pool)
        else:
            grace_shrink(s, pool)
        unit_end(s)


cdef bint is_pool_due(const Pool* pool) noexcept nogil:
    return not pool.is_starting and (
        pool.grace_count != grace_target(pool) or pool.used > pool.capacity + pool.grace_seats
    )


cdef bint advance(State* s) noexcept nogil:
    """Whether the budget was spent, so that more may be due."""
    cdef Progress progress
    cdef uint32_t i
    cdef TrailHead* head = trail_add(s, TRAIL_ADVANCE, 0, 0, TRAIL_HEAD_SIZE)
    progress.budget = BATCH_MAX
    progress.rekeys = REKEYS_MAX
    progress.is_blocked = False
    advance_memory(s, &s.requests_to_forget, &progress)
    advance_memory(s, &s.denials_to_forget, &progress)
    advance_sessions(s, &progress)
    advance_lingers(s, &progress)
    advance_denials(s, &progress)
    for i in range(s.pool_count):
        advance_pool(s, &s.pools[i], &progress)
    head.number = BATCH_MAX - progress.budget
    if head.number == 0:
        trail_drop(s, head)
    return progress.budget == 0 or progress.rekeys == 0


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
        if is_pool_due(&s.pools[i]):
            return s.raw
    due = min(due, queue_due(s, &s.requests_to_forget))
    due = min(due, queue_due(s, &s.denials_to_forget))
    if s.deadlines.count:
        due = min(due, s.deadlines.times[0])
    if s.lingers.count:
        due = min(due, s.lingers.times[0])
    if due != INT64_MAX:
        due += s.skipped
    return max(s.raw, min(due, s.next_source_due))
