# Charges and the leases that stand on them: sharing groups, linger and minimum hold.
#
# A group is a keyed hash of the user, the host or both; when each session is its own group it is the session's fence and
# one lease fills the charge. A group's charges with room are a list, in the order in which they got it; the newest of them is joined.
# by_group finds the list's end: one cell a group that has room, so no call walks it.


cdef void group_of_texts(State* s, uint8_t sharing, const uint8_t* user, uint32_t user_size, const uint8_t* host, uint32_t host_size, uint64_t* group) noexcept nogil:
    """group[0..1]: the sizes go in front, so that no two holders give the same bytes."""
    cdef uint8_t message[4 + USER_SIZE_MAX + HOST_SIZE_MAX]
    cdef uint32_t size = 4
    if sharing == SHARING_HOST:
        user_size = 0
    if sharing == SHARING_USER:
        host_size = 0
    message[0] = DOMAIN_GROUP
    message[1] = sharing
    message[2] = user_size
    message[3] = host_size
    memcpy(message + size, user, user_size)
    size += user_size
    memcpy(message + size, host, host_size)
    siphash128(s.secret, message, size + host_size, group)


cdef inline uint32_t hash_of_group(uint32_t pool_number, const uint64_t* group) noexcept nogil:
    return mixed_hash(group[0] + pool_number)


cdef inline uint32_t share_max_of(const Pool* pool) noexcept nogil:
    return 1 if pool.sharing == SHARING_SESSION else pool.share_max


cdef inline bint has_share_room(const Pool* pool, const Charge* charge) noexcept nogil:
    cdef uint32_t share_max = share_max_of(pool)
    return share_max == 0 or charge.lease_count < share_max


cdef uint32_t roomy_charge(State* s, uint32_t pool_number, const uint64_t* group) noexcept nogil:
    """The group's charge that a lease may join; NONE."""
    cdef Probe probe
    cdef Charge* charge
    cdef uint32_t number
    probe_begin(&probe, &s.by_group, hash_of_group(pool_number, group))
    number = probe_next(&probe)
    while number != NONE:
        charge = charge_at(s, number)
        if charge.pool == pool_number and charge.group[0] == group[0] and charge.group[1] == group[1]:
            break
        number = probe_next(&probe)
    return number


cdef void roomy_add(State* s, uint32_t number) noexcept nogil:
    cdef Charge* charge = charge_at(s, number)
    cdef uint32_t hashed = hash_of_group(charge.pool, charge.group)
    cdef uint32_t latest = roomy_charge(s, charge.pool, charge.group)
    charge.is_roomy = 1
    charge.roomy_earlier = latest
    charge.roomy_later = NONE
    if latest != NONE:
        charge_at(s, latest).roomy_later = number
        index_remove(&s.by_group, hashed, latest)
    index_add(&s.by_group, hashed, number)


cdef void roomy_remove(State* s, uint32_t number) noexcept nogil:
    cdef Charge* charge = charge_at(s, number)
    cdef uint32_t hashed = hash_of_group(charge.pool, charge.group)
    if charge.roomy_later != NONE:
        charge_at(s, charge.roomy_later).roomy_earlier = charge.roomy_earlier
    else:
        index_remove(&s.by_group, hashed, number)
        if charge.roomy_earlier != NONE:
            index_add(&s.by_group, hashed, charge.roomy_earlier)
    if charge.roomy_earlier != NONE:
        charge_at(s, charge.roomy_earlier).roomy_later = charge.roomy_later
    charge.is_roomy = 0


cdef inline void roomy_update(State* s, uint32_t number) noexcept nogil:
    """After a lease came or went: in the list exactly while there is room."""
    cdef Charge* charge = charge_at(s, number)
    cdef bint has_room = has_share_room(&s.pools[charge.pool], charge)
    if has_room and not charge.is_roomy:
        roomy_add(s, number)
    elif not has_room and charge.is_roomy:
        roomy_remove(s, number)


# --- charges ---------------------------------------------------------------------------------------------------------

cdef uint32_t charge_put(State* s, uint64_t fence, int64_t granted, uint32_t pool_number, uint8_t priority, const uint64_t* group) noexcept nogil:
    """A charge without leases yet."""
    cdef uint32_t number = slab_take(&s.charges)
    cdef Charge* charge = charge_at(s, number)
    charge.fence = fence
    charge.group[0] = group[0]
    charge.group[1] = group[1]
    charge.granted = granted
    charge.first_lease = NONE
    charge.lease_count = 0
    charge.heap_position = NONE
    charge.pool = pool_number
    charge.priority = priority
    charge.is_roomy = 0
    pool_charge(s, number)
    return number


cdef uint32_t charge_take(State* s, uint32_t pool_number, uint8_t priority, const uint64_t* group) noexcept nogil:
    """A new one, within the capacity."""
    cdef uint32_t number = charge_put(s, s.fence_next, s.now, pool_number, priority, group)
    s.fence_next += 1
    USHER_ASSERT(s.pools[pool_number].used <= s.pools[pool_number].capacity)
    return number


cdef void charge_free(State* s, uint32_t number, uint8_t reason) noexcept nogil:
    cdef Charge* charge = charge_at(s, number)
    USHER_ASSERT(charge.lease_count == 0 and charge.heap_position == NONE)
    if charge.is_roomy:
        roomy_remove(s, number)
    emit_charge(s, EVENT_CHARGE_FREED, reason, charge, s.pools[charge.pool].weight)
    pool_uncharge(s, number)
    charge.fence = 0
    slab_give(&s.charges, number)


cdef void charge_stop_lingering(State* s, uint32_t number) noexcept nogil:
    cdef Charge* charge = charge_at(s, number)
    heap_remove(s, &s.lingers, charge.heap_position)
    charge.heap_position = NONE
    s.pools[charge.pool].lingering_count -= 1


cdef void charge_emptied(State* s, uint32_t number, uint8_t reason) noexcept nogil:
    """Its last lease ended: it lingers after a holder's own end, else it is free at once (semantics rule 18)."""
    cdef Charge* charge = charge_at(s, number)
    cdef Pool* pool = &s.pools[charge.pool]
    cdef int64_t free_at = max(s.now + pool.linger, charge.granted + pool.min_hold)
    if (reason != END_CLOSED and reason != END_EXPIRED) or free_at <= s.now:
        charge_free(s, number, reason)
        return
    pool.lingering_count += 1
    roomy_update(s, number)
    heap_add(s, &s.lingers, free_at, number)
    emit_charge(s, EVENT_CHARGE_LINGERS, END_NONE, charge, pool.weight)


# --- leases ------------------------------------------------------------------------------------------------------------

cdef void charge_link(State* s, uint32_t charge_number, uint32_t lease_number) noexcept nogil:
    cdef Charge* charge = charge_at(s, charge_number)
    cdef Lease* lease = lease_at(s, lease_number)
    lease.charge = charge_number
    lease.previous_of_charge = NONE
    lease.next_of_charge = charge.first_lease
    if charge.first_lease != NONE:
        lease_at(s, charge.first_lease).previous_of_charge = lease_number
    charge.first_lease = lease_number
    charge.lease_count += 1
    s.pools[charge.pool].lease_count += 1


cdef void charge_unlink(State* s, uint32_t lease_number) noexcept nogil:
    cdef Lease* lease = lease_at(s, lease_number)
    cdef Charge* charge = charge_at(s, lease.charge)
    if lease.previous_of_charge != NONE:
        lease_at(s, lease.previous_of_charge).next_of_charge = lease.next_of_charge
    else:
        charge.first_lease = lease.next_of_charge
    if lease.next_of_charge != NONE:
        lease_at(s, lease.next_of_charge).previous_of_charge = lease.previous_of_charge
    charge.lease_count -= 1
    s.pools[charge.pool].lease_count -= 1


cdef inline uint32_t lease_add(State* s, uint32_t session_number, uint32_t product, uint32_t charge_number) noexcept nogil:
    """A new lease at the end of the session's, on no list of the charge yet."""
    cdef uint32_t number = lease_take(s, session_number, product, charge_at(s, charge_number).pool)
    lease_at(s, number).charge = charge_number
    return number


cdef uint32_t lease_take(State* s, uint32_t session_number, uint32_t product, uint32_t pool) noexcept nogil:
    cdef uint32_t number = slab_take(&s.leases)
    cdef Lease* lease = lease_at(s, number)
    cdef Session* session = session_at(s, session_number)
    cdef uint32_t last = session.first_lease
    lease.session = session_number
    lease.charge = NONE
    lease.next_of_session = NONE
    lease.next_of_charge = NONE
    lease.previous_of_charge = NONE
    lease.changed_version = 0
    lease.product = product
    lease.pool = pool
    lease.state = LEASE_ACTIVE
    lease.end_reason = END_NONE
    session.lease_count += 1
    s.products[product].lease_total += 1
    if last == NONE:
        session.first_lease = number
        return number
    while lease_at(s, last).next_of_session != NONE:
        last = lease_at(s, last).next_of_session
    lease_at(s, last).next_of_session = number
    return number


cdef void lease_replace(State* s, uint32_t old_number, uint32_t new_number) noexcept nogil:
    """The new lease takes the old one's place on its charge (a session was superseded)."""
    cdef Lease* old = lease_at(s, old_number)
    cdef Lease* lease = lease_at(s, new_number)
    lease.next_of_charge = old.next_of_charge
    lease.previous_of_charge = old.previous_of_charge
    if lease.previous_of_charge != NONE:
        lease_at(s, lease.previous_of_charge).next_of_charge = new_number
    else:
        charge_at(s, lease.charge).first_lease = new_number
    if lease.next_of_charge != NONE:
        lease_at(s, lease.next_of_charge).previous_of_charge = new_number


cdef void lease_drop(State* s, uint32_t number) noexcept nogil:
    """Forgets a record that stands on no charge any more."""
    cdef Lease* lease = lease_at(s, number)
    cdef Session* session = session_at(s, lease.session)
    cdef uint32_t* link = &session.first_lease
    while link[0] != number:
        USHER_ASSERT(link[0] != NONE)
        link = &lease_at(s, link[0]).next_of_session
    link[0] = lease.next_of_session
    session.lease_count -= 1
    session.ended_count -= lease.state == LEASE_ENDED
    slab_give(&s.leases, number)


cdef void lease_end(State* s, uint32_t number, uint8_t reason) noexcept nogil:
    """The lease leaves its charge; its record stays, ended. With a change version its holder is told of it, and the record waits for that."""
    cdef Lease* lease = lease_at(s, number)
    cdef uint32_t charge_number = lease.charge
    cdef Charge* charge = charge_at(s, charge_number)
    emit_lease(s, EVENT_LEASE_ENDED, reason, lease.session, charge, 0, lease.changed_version)
    s.products[lease.product].end_totals[reason] += 1
    charge_unlink(s, number)
    lease.charge = NONE
    lease.state = LEASE_ENDED
    lease.end_reason = reason
    session_at(s, lease.session).ended_count += 1
    if charge.lease_count == 0:
        charge_emptied(s, charge_number, reason)
    else:
        roomy_update(s, charge_number)
