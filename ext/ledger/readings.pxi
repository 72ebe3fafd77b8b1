# What can be read of the ledger: copied under the mutex, made into plain values of broker.model without it.

cdef struct PieceOfSession:         # one row of a listing
    uint64_t fence
    int64_t age
    int64_t ends_in
    uint8_t block[TEXT_HEADER + TEXT_SIZE_MAX]
    uint32_t first_lease
    uint32_t lease_count


cdef uint32_t copy_leases(State* s, uint32_t number, LeaseOut* leases) noexcept nogil:
    """All lease records of a session, ended ones included; how many."""
    cdef uint32_t count = 0
    cdef uint32_t lease = session_at(s, number).first_lease
    while lease != NONE:
        lease_view(s, lease, &leases[count])
        count += 1
        lease = lease_at(s, lease).next_of_session
    return count


cdef uint32_t copy_sessions(State* s, uint32_t* place, uint32_t wanted, PieceOfSession* pieces, LeaseOut* leases) noexcept nogil:
    """Rows of live sessions from *place on; *place becomes where to go on, 0 at the end."""
    cdef uint32_t count = 0
    cdef uint32_t scanned = 0
    cdef uint32_t lease_count = 0
    cdef Session* session
    while place[0] < s.sessions.high and count < wanted and scanned < SCAN_MAX:
        session = session_at(s, place[0])
        place[0] += 1
        scanned += 1
        if not session_is_live(s, place[0] - 1):
            continue
        pieces[count].fence = session.fence
        pieces[count].age = s.now - session.opened
        pieces[count].ends_in = session.deadline - s.now
        memcpy(pieces[count].block, s.texts.base + session.text, TEXT_HEADER + text_size_of(s.texts.base + session.text))
        pieces[count].first_lease = lease_count
        pieces[count].lease_count = session.lease_count
        lease_count += copy_leases(s, place[0] - 1, leases + lease_count)
        count += 1
    if place[0] >= s.sessions.high:
        place[0] = 0
    return count


cdef _session_view(Ledger ledger, const PieceOfSession* piece, const LeaseOut* leases):
    cdef uint32_t start = TEXT_HEADER
    cdef uint32_t i
    texts = []
    for i in range(TEXT_PARTS):
        texts.append((<const char*>piece.block + start)[:piece.block[i]])
        start += piece.block[i]
    user, host, app, label, instance_id, identity = texts
    return SessionView(
        fence=piece.fence, user=user, host=host, app=app, label=label, instance_id=instance_id, identity=identity,
        age_ns=piece.age, ends_in_ns=piece.ends_in,
        leases=tuple([_lease_view(ledger, &leases[piece.first_lease + i]) for i in range(piece.lease_count)]),
    )


cdef _pool_view(Ledger ledger, uint32_t number, const Pool* pool):
    product, terms, is_emulated = ledger.pool_terms[number]
    return PoolView(
        pool=number, product=product, terms=terms, is_emulated=is_emulated, is_starting=bool(pool.is_starting),
        capacity=pool.capacity, grace_seats=pool.grace_seats, in_use=pool.used, in_use_peak=pool.used_peak,
        deficit=deficit_of(pool), charge_count=pool.charge_count, lingering_count=pool.lingering_count,
        key_grace_count=pool.grace_count, lease_count=pool.lease_count, charge_total=pool.charge_total,
    )
