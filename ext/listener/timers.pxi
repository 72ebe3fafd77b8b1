# When each peer is looked at because time has passed: a wheel of slots, a tick of 33.6 ms each, 34 s around.
#
# A peer stands in one slot, in a list that runs through the peers. Putting it there, taking it out and moving it cost a few stores.
# What is due later than the wheel reaches is looked at once a turn and put back; so is what was moved later meanwhile,
# which is not followed: only a move to an earlier time is done at once. 20,000 idle connections are 600 looks a second.
#
# A tick is passed when its time has come, and a peer stands in the first tick after its due time: never early, at most a
# tick late.

cdef enum:
    WHEEL_SLOTS = 1024
    WHEEL_WORDS = 16                # of 64 bits: which slots have somebody
    TICK_SHIFT = 25                 # 33,554,432 ns
    NOT_IN_WHEEL = 0xFFFFFFFF

cdef struct Wheel:
    int64_t tick                    # the next that has not been passed
    uint32_t heads[WHEEL_SLOTS]
    uint64_t occupied[WHEEL_WORDS]


cdef inline Wheel* wheel_of(Loop* loop) noexcept nogil:
    return <Wheel*>loop.timers


cdef bint timers_begin(Loop* loop) noexcept nogil:
    cdef Wheel* wheel = <Wheel*>malloc(sizeof(Wheel))
    cdef uint32_t i
    loop.timers = wheel
    if wheel == NULL:
        return False
    memset(wheel, 0, sizeof(Wheel))
    wheel.tick = loop.now >> TICK_SHIFT
    for i in range(WHEEL_SLOTS):
        wheel.heads[i] = NONE
    return True


cdef void timers_end(Loop* loop) noexcept nogil:
    free(loop.timers)
    loop.timers = NULL


cdef void timer_unlink(Loop* loop, Peer* peer) noexcept nogil:
    """Out of its list, if it is in one."""
    cdef Wheel* wheel = wheel_of(loop)
    cdef uint32_t place = peer.timer_place
    if place == NOT_IN_WHEEL:
        return
    if peer.timer_next != NONE:
        loop.peers[peer.timer_next].timer_previous = peer.timer_previous
    if peer.timer_previous != NONE:
        loop.peers[peer.timer_previous].timer_next = peer.timer_next
    else:
        USHER_ASSERT(wheel.heads[place] == peer.slot)
        wheel.heads[place] = peer.timer_next
        if peer.timer_next == NONE:
            wheel.occupied[place // 64] &= ~(<uint64_t>1 << (place % 64))
    peer.timer_place = <uint32_t>NOT_IN_WHEEL


cdef void timer_link(Loop* loop, Peer* peer, int64_t due) noexcept nogil:
    """Into the slot of a time, or the farthest that the wheel reaches. `due` INT64_MAX: into none."""
    cdef Wheel* wheel = wheel_of(loop)
    cdef int64_t tick
    cdef uint32_t place
    peer.timer_due = due
    if due == INT64_MAX:
        return
    tick = min(max((due >> TICK_SHIFT) + 1, wheel.tick), wheel.tick + WHEEL_SLOTS - 2)
    place = <uint32_t>(tick % WHEEL_SLOTS)
    peer.timer_place = place
    peer.timer_previous = NONE
    peer.timer_next = wheel.heads[place]
    if peer.timer_next != NONE:
        loop.peers[peer.timer_next].timer_previous = peer.slot
    wheel.heads[place] = peer.slot
    wheel.occupied[place // 64] |= <uint64_t>1 << (place % 64)


cdef inline void timer_review(Loop* loop, Peer* peer) noexcept nogil:
    """After anything that may have moved its due time: followed only to an earlier one."""
    cdef int64_t due = peer_due(peer)
    if due < peer.timer_due:
        timer_unlink(loop, peer)
        timer_link(loop, peer, due)


cdef void timers_pass_tick(Loop* loop) noexcept nogil:
    """Looks at everybody in the slot of the next tick, and puts each back where it then belongs."""
    cdef Wheel* wheel = wheel_of(loop)
    cdef uint32_t place = <uint32_t>(wheel.tick % WHEEL_SLOTS)
    cdef Peer* peer
    wheel.tick += 1
    while wheel.heads[place] != NONE:
        peer = loop.peers[wheel.heads[place]]
        timer_unlink(loop, peer)
        if peer_due(peer) <= loop.now:
            peer_on_time(loop, peer)
        timer_link(loop, peer, peer_due(peer))


cdef void timers_run(Loop* loop) noexcept nogil:
    """Everything that is due by now. After a long stop each slot is looked at once."""
    cdef Wheel* wheel = wheel_of(loop)
    cdef int64_t last = (loop.now >> TICK_SHIFT)
    wheel.tick = max(wheel.tick, last - WHEEL_SLOTS + 1)
    while wheel.tick <= last:
        timers_pass_tick(loop)


cdef int64_t timers_due(Loop* loop) noexcept nogil:
    """When timers_run has somebody to look at; INT64_MAX: there is nobody."""
    cdef Wheel* wheel = wheel_of(loop)
    cdef uint32_t start = <uint32_t>(wheel.tick % WHEEL_SLOTS)
    cdef uint64_t word = wheel.occupied[start // 64] >> (start % 64) << (start % 64)
    cdef uint32_t i
    cdef uint32_t place
    for i in range(WHEEL_WORDS + 1):
        if word != 0:
            place = (start // 64 + i) % WHEEL_WORDS * 64 + lowest_bit(word)
            return (wheel.tick + (place - start + WHEEL_SLOTS) % WHEEL_SLOTS) << TICK_SHIFT
        word = wheel.occupied[(start // 64 + i + 1) % WHEEL_WORDS]
    return INT64_MAX
