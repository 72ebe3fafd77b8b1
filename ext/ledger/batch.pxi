# Batches: commands made ready once, executed in order under one hold of the mutex, without the GIL.
#
# Memory is waited for in parallel: before a group of commands runs, what it will touch is asked for in stages, index
# cells, then records, then what those name. At a million sessions this is the difference between one cache miss after
# the other and ten at a time.

cdef enum:
    PREFETCH_GROUP = 24


cdef inline void prefetch_bucket(const Index* index, uint32_t hashed) noexcept nogil:
    prefetch(&index.buckets[hashed & index.mask])


cdef inline uint32_t glance(const Index* index, uint32_t hashed) noexcept nogil:
    """The first record that may have the hash, without looking at it; NONE. A guess, for prefetching."""
    cdef const Bucket* bucket = &index.buckets[hashed & index.mask]
    cdef uint32_t matches = match_tags(bucket.tags, tag_of(hashed))
    return bucket.numbers[count_trailing_zeros(matches)] if matches else NONE


cdef inline void prefetch_fresh(const Slab* slab, uint32_t ahead) noexcept nogil:
    """The record that the ahead-th taking from now will get."""
    cdef uint32_t number
    if ahead < slab.free_count:
        number = slab.free_numbers[slab.free_count - 1 - ahead]
    else:
        number = slab.high + ahead - slab.free_count
    if number < slab.count_max:
        prefetch(slab.base + <uint64_t>number * slab.record_size)


cdef void seal_all(State* s, Command* commands, uint32_t count) noexcept nogil:
    """Before the mutex: hashing hides the wait for the index lines that it asks for."""
    cdef uint32_t i
    for i in range(count):
        seal(s, &commands[i])
        if commands[i].fence:
            prefetch_bucket(&s.by_fence, hash_of_fence(commands[i].fence))
        if commands[i].verb != VERB_RENEW:
            prefetch_bucket(&s.by_request, <uint32_t>commands[i].lookup[0])


cdef void prefetch_takings(State* s, const Command* commands, uint32_t count) noexcept nogil:
    """Where new sessions will be entered, and the records that they will get."""
    cdef uint32_t i, j
    cdef uint32_t opens = 0, items = 0
    for i in range(count):
        if commands[i].verb == VERB_RENEW or commands[i].verb == VERB_RELEASE:
            continue
        prefetch_fresh(&s.requests, i)
        if commands[i].verb == VERB_CLOSE:
            continue
        prefetch_bucket(&s.by_fence, hash_of_fence(s.fence_next + items + opens))
        prefetch_fresh(&s.sessions, opens)
        for j in range(commands[i].item_count):
            prefetch_fresh(&s.leases, items + j)
            prefetch_fresh(&s.charges, items + j)
        items += commands[i].item_count
        opens += commands[i].verb == VERB_OPEN


cdef void prefetch_of_session(State* s, uint32_t number) noexcept nogil:
    """What the record of a session that may end names."""
    cdef Session* session = session_at(s, number)
    if session.first_lease != NONE:
        prefetch(lease_at(s, session.first_lease))
    if session.heap_position < s.deadlines.count:
        prefetch(&s.deadlines.times[session.heap_position])
        prefetch(&s.deadlines.numbers[session.heap_position])
    prefetch(request_at(s, session.request))
    prefetch(s.texts.base + session.text)


cdef void prefetch_of_leases(State* s, uint32_t number, bint is_neighbours) noexcept nogil:
    """The charges of the first two leases, or, once these are here, their neighbours in the pool's order."""
    cdef uint32_t lease = session_at(s, number).first_lease
    cdef int seen = 0
    cdef Charge* charge
    while lease != NONE and seen < 2:
        if lease_at(s, lease).charge != NONE:
            charge = charge_at(s, lease_at(s, lease).charge)
            if not is_neighbours:
                prefetch(charge)
            else:
                if charge.newer != NONE:
                    prefetch(charge_at(s, charge.newer))
                if charge.older != NONE:
                    prefetch(charge_at(s, charge.older))
        lease = lease_at(s, lease).next_of_session
        seen += 1


cdef void prefetch_group(State* s, const Command* commands, uint32_t count) noexcept nogil:
    """In stages, each over the whole group: what a stage reads was asked for by the one before."""
    cdef uint32_t numbers[PREFETCH_GROUP]
    cdef uint32_t ending[PREFETCH_GROUP]
    cdef uint32_t ending_count = 0
    cdef uint32_t i
    prefetch_takings(s, commands, count)
    for i in range(count):
        numbers[i] = glance(&s.by_fence, hash_of_fence(commands[i].fence)) if commands[i].fence else NONE
        if numbers[i] != NONE:
            prefetch(session_at(s, numbers[i]))
            if commands[i].verb != VERB_RENEW:
                ending[ending_count] = numbers[i]
                ending_count += 1
    for i in range(ending_count):
        prefetch_of_session(s, ending[i])
    for i in range(ending_count):
        prefetch_of_leases(s, ending[i], False)
    for i in range(ending_count):
        prefetch_of_leases(s, ending[i], True)


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
