# Batches: commands made ready once, executed in order under one hold of the mutex, without the GIL.
#
# Memory is waited for in parallel: before a group of commands runs, what it will touch is asked for in stages, index
# cells, then records, then what those name. At a million sessions this is the difference between one cache miss after
# the other and ten at a time.

cdef enum:
    PREFETCH_GROUP = 24


cdef inline void prefetch_cell(const Index* index, uint32_t hashed) noexcept nogil:
    prefetch(&index.cells[hashed & index.mask])


cdef inline uint32_t glance(const Index* index, uint32_t hashed) noexcept nogil:
    """The record that the first matching cell names; a guess, for prefetching."""
    cdef uint64_t position = hashed & index.mask
    cdef int tries = 0
    while index.cells[position] and tries < 4:
        if <uint32_t>(index.cells[position] >> 32) == hashed:
            return <uint32_t>index.cells[position] - 1
        position = (position + 1) & index.mask
        tries += 1
    return NONE


cdef inline void prefetch_fresh(const Slab* slab, uint32_t ahead) noexcept nogil:
    """The record that the ahead-th taking from now will get."""
    cdef uint32_t number
    if ahead < slab.free_count:
        number = slab.free_numbers[slab.free_count - 1 - ahead]
    else:
        number = slab.high + ahead - slab.free_count
    if number < slab.count_max:
        prefetch(slab.base + <uint64_t>number * slab.record_size)


cdef void prefetch_group(State* s, const Command* commands, uint32_t count) noexcept nogil:
    cdef uint32_t i, opens = 0, items = 0, j
    cdef uint32_t sessions[PREFETCH_GROUP]
    cdef const Command* command
    cdef Session* session
    cdef Lease* lease
    cdef Charge* charge
    for i in range(count):
        command = &commands[i]
        if command.fence:
            prefetch_cell(&s.by_fence, hash_of_fence(command.fence))
        if command.verb != VERB_RENEW:
            prefetch_cell(&s.by_request, <uint32_t>command.lookup[0])
        if command.verb == VERB_OPEN:
            prefetch_cell(&s.by_fence, hash_of_fence(s.fence_next + items + opens))
            prefetch_fresh(&s.sessions, opens)
            prefetch_fresh(&s.requests, opens)
            for j in range(command.item_count):
                prefetch_fresh(&s.leases, items + j)
                prefetch_fresh(&s.charges, items + j)
            items += command.item_count
            opens += 1
    for i in range(count):
        sessions[i] = glance(&s.by_fence, hash_of_fence(commands[i].fence)) if commands[i].fence else NONE
        if sessions[i] != NONE:
            prefetch(session_at(s, sessions[i]))
    for i in range(count):
        if sessions[i] == NONE or commands[i].verb == VERB_RENEW:
            continue
        session = session_at(s, sessions[i])
        if session.first_lease != NONE:
            prefetch(lease_at(s, session.first_lease))
        prefetch(&s.deadlines.times[session.heap_position])
        prefetch(&s.deadlines.numbers[session.heap_position])
        prefetch(request_at(s, session.request))
        prefetch(s.texts.base + session.text)
    for i in range(count):
        if sessions[i] == NONE or commands[i].verb == VERB_RENEW or session_at(s, sessions[i]).first_lease == NONE:
            continue
        lease = lease_at(s, session_at(s, sessions[i]).first_lease)
        if lease.charge != NONE:
            prefetch(charge_at(s, lease.charge))
        if lease.next_of_session != NONE:
            lease = lease_at(s, lease.next_of_session)
            if lease.charge != NONE:
                prefetch(charge_at(s, lease.charge))
    for i in range(count):
        if sessions[i] == NONE or commands[i].verb == VERB_RENEW or session_at(s, sessions[i]).first_lease == NONE:
            continue
        j = session_at(s, sessions[i]).first_lease
        opens = 0
        while j != NONE and opens < 2:
            lease = lease_at(s, j)
            if lease.charge != NONE:
                charge = charge_at(s, lease.charge)
                if charge.newer != NONE:
                    prefetch(charge_at(s, charge.newer))
                if charge.older != NONE:
                    prefetch(charge_at(s, charge.older))
            j = lease.next_of_session
            opens += 1


cdef void execute_all(State* s, int64_t now, const Command* commands, Outcome* outcomes, Workspace* space, uint32_t count) noexcept nogil:
    """Under the mutex."""
    cdef uint32_t i = 0
    cdef uint32_t j, group
    enter(s, now)
    while i < count:
        group = min(count - i, <uint32_t>PREFETCH_GROUP)
        if count > 1:
            prefetch_group(s, &commands[i], group)
        for j in range(group):
            execute_one(s, &commands[i + j], space, &outcomes[i + j])
        i += group


cdef void sign_all(State* s, Outcome* outcomes, uint32_t count) noexcept nogil:
    """Session ids are made after the mutex is free again."""
    cdef uint32_t i
    for i in range(count):
        if outcomes[i].status == STATUS_GRANTED:
            session_id_make(s, outcomes[i].fence, outcomes[i].session_id)
