# The loop: connects, sets up, warms up, measures, finishes, cleans up. One thread, no GIL, no Python.
#
#     CONNECT ─► PREPARE ─► WARM ─► RUN ─► FINISH ─► CLEAN ─► OVER
#
# Closed loop: a slot whose call is over begins the next one in the same round. Open loop: slots wait in a ring for
# arrivals; an arrival that finds no slot is sent as soon as there is one, and its latency counts from when it was meant to
# be sent. In FINISH late arrivals are still sent and half-done cycles ended; calls that nothing answers are given up
# when no answer at all has come for `patience`.

cdef bint is_open_loop(const Storm* storm) noexcept nogil:
    return storm.plan.interval > 0


# --- phases ------------------------------------------------------------------------------------------------------------------

cdef void phase_enter(Storm* storm, uint8_t phase) noexcept nogil:
    storm.phase = phase
    storm.phase_begun = storm.now
    storm.last_answer = storm.now
    slots_wake(storm)
    if phase == PHASE_WARM:
        storm.run_begin = storm.now + storm.plan.warmup
        storm.run_end = storm.run_begin + storm.plan.duration
        arrivals_begin(storm, &storm.lead)
        arrivals_begin(storm, &storm.trail)
    elif phase == PHASE_RUN:
        storm.cpu_begin = clock_ns(CLOCK_THREAD_CPUTIME_ID)
        storm.watched_begin = clock_ns(storm.plan.watched_clock) if storm.plan.watched_clock else 0
        storm.window_begin = storm.now
        if not is_open_loop(storm):     # arrivals are measured from the planned instant
            storm.run_end += storm.now - storm.run_begin
            storm.run_begin = storm.now
    elif phase == PHASE_OVER:
        storm.counts.unsent_at_end = storm.counts.arrived - storm.counts.taken
    storm.timer_due = INT64_MIN


cdef void run_over(Storm* storm) noexcept nogil:
    storm.cpu_end = clock_ns(CLOCK_THREAD_CPUTIME_ID)
    if storm.plan.watched_clock:
        storm.watched_end = clock_ns(storm.plan.watched_clock)
    arrivals_count(storm)
    storm.window_end = storm.now
    storm.run_end = min(storm.run_end, storm.now)
    phase_enter(storm, PHASE_FINISH)


cdef bint is_quiet(const Storm* storm) noexcept nogil:
    """No call in flight, and no slot has anything to do."""
    return storm.resting == storm.slot_count


cdef bint are_links_up(const Storm* storm) noexcept nogil:
    cdef uint32_t i
    if storm.counts.links_up < storm.plan.link_count:
        return False
    for i in range(storm.plan.link_count):
        if not storm.links[i].is_settled:
            return False
    return True


cdef void phase_look(Storm* storm) noexcept nogil:
    """Whether the next phase begins."""
    cdef bint is_silent = storm.now - storm.last_answer > storm.plan.patience
    if storm.stop_count >= 2:
        phase_enter(storm, PHASE_OVER)
    elif storm.phase == PHASE_CONNECT:
        if are_links_up(storm):
            phase_enter(storm, PHASE_PREPARE if is_pooled(storm) else PHASE_WARM)
        elif storm.now - storm.phase_begun > storm.plan.connect_limit or storm.stop_count:
            fault_text(storm, FAULT_CONNECT, b"not all connections were up in time")
            phase_enter(storm, PHASE_OVER)
    elif storm.phase == PHASE_PREPARE:
        if storm.pool_asked == storm.plan.sessions and is_quiet(storm):
            phase_enter(storm, PHASE_WARM if storm.pool_count else PHASE_OVER)
        elif is_silent:
            phase_enter(storm, PHASE_OVER)
        elif storm.stop_count:
            phase_enter(storm, PHASE_FINISH)
    elif storm.phase == PHASE_WARM:
        if storm.stop_count:
            storm.run_begin = storm.run_end = storm.now
            phase_enter(storm, PHASE_FINISH)
        elif storm.now >= storm.run_begin:
            phase_enter(storm, PHASE_RUN)
    elif storm.phase == PHASE_RUN:
        if storm.now >= storm.run_end or storm.stop_count:
            run_over(storm)
    elif storm.phase == PHASE_FINISH:
        finish_look(storm, is_silent)
    elif storm.phase == PHASE_CLEAN:
        if is_silent or (storm.pool_closed == storm.pool_count and is_quiet(storm)):
            phase_enter(storm, PHASE_OVER)


cdef void finish_look(Storm* storm, bint is_silent) noexcept nogil:
    cdef bint is_late = storm.now - storm.phase_begun > max(storm.plan.duration, FINISH_NS)
    if not is_silent and not (is_late and storm.counts.taken < storm.counts.arrived):
        if not is_quiet(storm) or storm.counts.taken < storm.counts.arrived:
            return
        if is_pooled(storm) and storm.plan.closes_sessions:
            phase_enter(storm, PHASE_CLEAN)
            return
    phase_enter(storm, PHASE_OVER)


# --- pacing -----------------------------------------------------------------------------------------------------------------

cdef void slot_begin(Storm* storm, Slot* slot) noexcept nogil:
    """Its request goes out, or waits for its link."""
    if slot.link.place != LINK_UP or not call_begin(storm, slot):
        slot.place = SLOT_PARKED
        if slot.link.place == LINK_UP:          # no stream ids are left
            storm.counts.links_up -= 1
            slot.link.place = LINK_GOING
            link_touch(storm, slot.link)


cdef bint slot_next(Storm* storm, Slot* slot) noexcept nogil:
    """The next request of a slot; False: it rests."""
    slot.started = storm.now
    if slot.link.is_fresh:
        slot.link.is_fresh = 0
        slot.started = slot.link.due    # when its connection was begun
    if storm.phase == PHASE_FINISH and not slot.has_session:
        if storm.counts.taken >= storm.counts.arrived:
            slot_rest(storm, slot)
            return False
    if not cycle_step(storm, slot):
        slot_rest(storm, slot)
        return False
    storm.busy += 1
    return True


cdef void slot_rest(Storm* storm, Slot* slot) noexcept nogil:
    slot.place = SLOT_RESTING
    storm.resting += 1


cdef bint must_wait_for_arrival(const Storm* storm) noexcept nogil:
    """An open loop sends what arrives, and at the end what its half-done cycles need."""
    return is_open_loop(storm) and (
        storm.phase == PHASE_WARM or storm.phase == PHASE_RUN or (
            storm.phase == PHASE_FINISH and storm.counts.taken < storm.counts.arrived))


cdef void pace(Storm* storm) noexcept nogil:
    """Begins all that can begin now."""
    cdef uint32_t count = storm.again.tail - storm.again.head
    while count:
        slot_begin(storm, &storm.slots[ring_take(&storm.again)])
        count -= 1
    if storm.phase == PHASE_CONNECT or storm.phase == PHASE_OVER:
        return
    if storm.phase == PHASE_WARM or storm.phase == PHASE_RUN:
        arrivals_count(storm)
    count = storm.ready.tail - storm.ready.head
    while count and (not must_wait_for_arrival(storm) or storm.counts.taken < storm.counts.arrived):
        pace_one(storm, &storm.slots[ring_take(&storm.ready)])
        count -= 1


cdef void pace_one(Storm* storm, Slot* slot) noexcept nogil:
    """A ready slot and, in an open loop, the oldest arrival."""
    cdef bint is_arrival = must_wait_for_arrival(storm)
    if slot.link.is_done and slot.link.place == LINK_UP:
        slot.place = SLOT_PARKED
        link_reopen(storm, slot.link)
        return
    if slot.link.place != LINK_UP:
        slot.place = SLOT_PARKED
        return
    if not slot_next(storm, slot):
        return
    if is_arrival:
        slot.started = arrivals_due(&storm.trail)
        arrivals_step(&storm.trail, &storm.plan)
        storm.counts.taken += 1
    slot_begin(storm, slot)


cdef bint is_churning(const Storm* storm) noexcept nogil:
    """Connections last for one cycle."""
    return storm.plan.cycle == CYCLE_CHURN and (storm.phase == PHASE_WARM or storm.phase == PHASE_RUN)


# --- waiting ----------------------------------------------------------------------------------------------------------------

cdef int64_t next_due(Storm* storm) noexcept nogil:
    """When the loop must look again even if nothing comes."""
    cdef int64_t due = storm.now + LOOK_NS
    if not ring_is_empty(&storm.again):
        return storm.now
    if storm.phase == PHASE_WARM:
        due = min(due, storm.run_begin)
    if storm.phase == PHASE_RUN:
        due = min(due, storm.run_end)
    if is_open_loop(storm) and (storm.phase == PHASE_WARM or storm.phase == PHASE_RUN):
        due = min(due, arrivals_due(&storm.lead))
    if storm.first_down != NO_LINK and storm.opening < STORM_OPENING_MAX:
        due = min(due, storm.links[storm.first_down].due)
    return due


cdef int timer_set(Storm* storm) noexcept nogil:
    """Arms the timer; what epoll_wait is told: 0 when something is due already, else -1."""
    cdef itimerspec due
    cdef int64_t wanted = next_due(storm)
    if wanted <= storm.now:
        return 0
    if wanted < storm.timer_due or storm.timer_due <= storm.now:
        storm.timer_due = wanted
        due.it_interval.tv_sec = due.it_interval.tv_nsec = 0
        due.it_value.tv_sec = wanted // NS_A_SECOND
        due.it_value.tv_nsec = wanted % NS_A_SECOND
        timerfd_settime(storm.timer_fd, TFD_TIMER_ABSTIME, &due, NULL)
    return -1


cdef void link_event(Storm* storm, Link* link, uint32_t events) noexcept nogil:
    if link.place == LINK_CONNECTING:
        link_connected(storm, link)
    elif link.place == LINK_SHAKING_HANDS:
        link_shake_hands(storm, link)
    elif link.place >= LINK_UP:
        if events & EPOLLOUT and link_push_unsent(storm, link):
            link_touch(storm, link)
        if events & ~EPOLLOUT and link.place >= LINK_UP:
            link_read(storm, link)


cdef void events_take(Storm* storm, epoll_event* events) noexcept nogil:
    cdef int wait_ms = timer_set(storm)
    cdef int count = epoll_wait(storm.epoll_fd, events, STORM_EVENTS_MAX, wait_ms)
    cdef uint64_t unused
    cdef int i
    storm.now = clock_ns(CLOCK_MONOTONIC)
    for i in range(count):
        if events[i].data.u64 < storm.plan.link_count:
            link_event(storm, &storm.links[events[i].data.u64], events[i].events)
        elif events[i].data.u64 == MARK_TIMER:
            read(storm.timer_fd, &unused, 8)
        else:
            read(storm.wake_fd, &unused, 8)


cdef void drive(Storm* storm) noexcept nogil:
    """The whole storm."""
    cdef epoll_event events[STORM_EVENTS_MAX]
    cdef uint32_t i
    storm.now = clock_ns(CLOCK_MONOTONIC)
    for i in range(storm.plan.link_count):
        link_down(storm, &storm.links[i], storm.now)
    phase_enter(storm, PHASE_CONNECT)
    while storm.phase != PHASE_OVER:
        storm.counts.rounds += 1
        links_open(storm)
        pace(storm)
        links_flush(storm)
        events_take(storm, events)
        phase_look(storm)
    drive_end(storm)


cdef void drive_end(Storm* storm) noexcept nogil:
    """Counts what never came, and lets all connections go."""
    cdef uint32_t i
    for i in range(storm.slot_count):
        if storm.slots[i].place == SLOT_FLYING:
            storm.counts.unanswered_at_end += 1
            fault_of(storm, &storm.slots[i], FAULT_UNANSWERED, b"no answer in the end", 0)
    if storm.counts.unsent_at_end:
        fault_text(storm, FAULT_UNSENT, b"the rate was not reached: calls were never sent")
        storm.counts.faults[FAULT_UNSENT] += storm.counts.unsent_at_end - 1
    storm.counts.links_at_end = storm.counts.links_up
    for i in range(storm.plan.link_count):
        link_close(storm, &storm.links[i], storm.plan.link_count > 256)
