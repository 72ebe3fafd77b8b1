# Sessions: found by a genuine id, alive until their deadline, ended once.


cdef inline bint session_is_live(State* s, uint32_t number) noexcept nogil:
    """Whether it is open and its time is not over."""
    return session_at(s, number).state == SESSION_LIVE and session_at(s, number).deadline > s.now


cdef inline uint32_t live_or_ended(State* s, uint32_t number, bint* is_full) noexcept nogil:
    """The session if it lives; NONE. One whose deadline has passed ends here and now, if the event ring has room for
    that: else is_full."""
    is_full[0] = False
    if number == NONE or session_at(s, number).state != SESSION_LIVE:
        return NONE
    if session_at(s, number).deadline > s.now:
        return number
    if not has_room(s, session_end_size(s, number)):
        is_full[0] = True
        return NONE
    session_end(s, number, END_EXPIRED, 0, False)
    return NONE


cdef inline uint32_t session_placed(State* s, uint64_t fence, uint32_t place) noexcept nogil:
    """The record of the fence, be it live or over; NONE."""
    if fence and place < s.sessions.high and session_at(s, place).fence == fence:
        return place
    return NONE


cdef inline uint32_t session_of_command(State* s, const Command* command, bint* is_full) noexcept nogil:
    """The live session that the command's id names; NONE."""
    return live_or_ended(s, session_placed(s, command.fence, command.place), is_full)


cdef uint32_t session_scan(State* s, uint64_t fence, uint32_t* place) noexcept nogil:
    """Looks for a fence without a place, SCAN_MAX records a call: only admins do. *place goes on, and is NONE at the end."""
    cdef uint32_t scanned
    for scanned in range(SCAN_MAX):
        if place[0] >= s.sessions.high:
            place[0] = NONE
            return NONE
        place[0] += 1
        if fence and session_at(s, place[0] - 1).fence == fence:
            return place[0] - 1
    return NONE


cdef uint32_t active_lease_count(State* s, uint32_t number) noexcept nogil:
    cdef uint32_t count = 0
    cdef uint32_t lease = session_at(s, number).first_lease
    while lease != NONE:
        count += lease_at(s, lease).state == LEASE_ACTIVE
        lease = lease_at(s, lease).next_of_session
    return count


cdef inline uint64_t session_end_size(State* s, uint32_t number) noexcept nogil:
    """Each lease: its end, its charge, one charge leaving key grace; then the session's own."""
    return EVENT_SIZE * (3 * active_lease_count(s, number) + 1)


cdef uint32_t active_lease(State* s, uint32_t number, uint32_t product) noexcept nogil:
    """The session's lease of the product; NONE."""
    cdef uint32_t lease
    if number == NONE or product == NO_PRODUCT:
        return NONE
    lease = session_at(s, number).first_lease
    while lease != NONE:
        if lease_at(s, lease).product == product and lease_at(s, lease).state == LEASE_ACTIVE:
            return lease
        lease = lease_at(s, lease).next_of_session
    return NONE


cdef void session_put(State* s, uint32_t number, uint64_t fence, const Command* command) noexcept nogil:
    """A session opened now, in a record that is taken already."""
    cdef Session* session = session_at(s, number)
    session.fence = fence
    session.deadline = s.now + <int64_t>command.ttl_ms * NS_PER_MS + s.renew_grace
    session.opened = s.now
    session.text = text_store(s, command.sizes, command.text, command.text_size)
    session.ttl_ms = command.ttl_ms
    session.change_version = 1
    session.first_lease = NONE
    session.instance_hash = command.instance_hash
    session.lease_count = 0
    session.ended_count = 0
    session.priority = command.priority
    session.state = SESSION_LIVE
    session.end_reason = END_NONE
    session.is_close_remembered = 0
    session.heap_position = NONE
    session.request = request_add(s, command, REQUEST_OPENED, number)
    if command.instance_hash:
        index_add(&s.by_instance, command.instance_hash, number)
    s.session_count += 1
    s.totals.opened += 1


cdef uint32_t session_add(State* s, const Command* command) noexcept nogil:
    cdef uint32_t number = slab_take(&s.sessions)
    session_put(s, number, s.fence_next, command)
    s.fence_next += 1
    heap_add(s, &s.deadlines, session_at(s, number).deadline, number)
    return number


cdef void session_end(State* s, uint32_t number, uint8_t reason, uint64_t close_hash, bint is_close_remembered) noexcept nogil:
    """Ends the session and all that it holds; its record stays until its Open is forgotten, and so does its entry in the
    heap. The caller has made sure of room for the events, and for a Close that is to be remembered."""
    cdef Session* session = session_at(s, number)
    cdef uint32_t lease = session.first_lease
    cdef uint32_t following
    USHER_ASSERT(session.state == SESSION_LIVE)
    while lease != NONE:
        following = lease_at(s, lease).next_of_session
        if lease_at(s, lease).state == LEASE_ACTIVE:
            lease_end(s, lease, reason)
        slab_give(&s.leases, lease)
        lease = following
    emit(s, EVENT_SESSION_ENDED, reason, session.fence, 0, -1, -1, 0, number, close_hash, FLAG_CLOSE if is_close_remembered else 0)
    s.totals.ended[reason] += 1
    s.session_count -= 1
    if session.instance_hash:
        index_remove(&s.by_instance, session.instance_hash, number)
    session.state = SESSION_OVER
    session.end_reason = reason
    session.deadline = s.now + s.request_window
    queue_add(&s.requests_to_forget, number | SESSION_LINK)
    if is_close_remembered:  # in the record itself
        session.opened = <int64_t>close_hash
        session.is_close_remembered = 1
        s.close_count += 1


cdef inline bint is_remembered_close(State* s, uint32_t number, const Command* command) noexcept nogil:
    cdef Session* session = session_at(s, number)
    return session.is_close_remembered and session.opened == <int64_t>command.lookup[0]


cdef bint is_same_instance(State* s, uint32_t number, const Command* command) noexcept nogil:
    """Equal identity, holder and instance id: the whole text, byte for byte."""
    cdef const uint8_t* block = s.texts.base + session_at(s, number).text
    return (
        memcmp(block, command.sizes, TEXT_PARTS) == 0
        and memcmp(block + TEXT_HEADER, command.text, command.text_size) == 0
    )


cdef uint32_t session_of_instance(State* s, const Command* command) noexcept nogil:
    """The session that the same instance of the same holder has open; NONE."""
    cdef Probe probe
    cdef uint32_t number
    if command.instance_hash == 0:
        return NONE
    probe_begin(&probe, &s.by_instance, command.instance_hash)
    number = probe_next(&probe)
    while number != NONE and not is_same_instance(s, number, command):
        number = probe_next(&probe)
    return number


# --- how a holder sees its leases ----------------------------------------------------------------------------------------

cdef void lease_view(State* s, uint32_t number, LeaseOut* out) noexcept nogil:
    cdef Lease* lease = lease_at(s, number)
    cdef Pool* pool = &s.pools[lease.pool]
    cdef Charge* charge
    memset(out, 0, sizeof(LeaseOut))
    out.product = lease.product
    out.pool = lease.pool
    out.is_emulated = pool.is_emulated
    out.state = lease.state
    out.end_reason = lease.end_reason
    if lease.state == LEASE_ENDED:
        return
    charge = charge_at(s, lease.charge)
    out.seats = pool.weight
    out.fence = charge.fence
    out.is_shared = charge.lease_count > 1
    if is_in_grace(s, pool, charge):
        out.state = LEASE_KEY_GRACE
        out.key_grace = key_grace_left(s, lease.pool)
