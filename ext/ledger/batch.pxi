# Batches: commands made ready once, executed in order under one hold of the mutex, without the GIL.
#
# Memory is waited for in parallel, by a pipeline: while one group of commands runs, the lines of the next groups are on
# their way, each stage one group behind the one whose answer it reads: session (asked for while sealing already),
# leases, charges, their neighbours. Each stage asks for a whole group in one go, so that the waits for address
# translation overlap too. The stages only read, and a guess gone stale costs a wasted line, no more. At a million
# sessions this is the difference between one cache miss after the other and ten at a time.

cdef enum:
    STAGE_GROUP = 6
    STAGES = 4


cdef inline void prefetch_bucket(const Index* index, uint32_t hashed) noexcept nogil:
    prefetch(home_bucket(index, hashed))


cdef inline void prefetch_fresh(const Slab* slab, uint32_t ahead) noexcept nogil:
    """The record that the ahead-th taking from now will get."""
    cdef uint32_t number
    if ahead < slab.free_count:
        number = slab.free_numbers[slab.free_count - 1 - ahead]
    else:
        number = slab.high + ahead - slab.free_count
    if number < slab.count_max:
        prefetch(slab.base + <uint64_t>number * slab.record_size)


cdef enum:
    SEAL_GROUP = 32


cdef inline void prefetch_places(State* s, const Command* commands, uint32_t count) noexcept nogil:
    """The records that the ids name, believed for the moment. In one go: the waits for address translation overlap."""
    cdef uint32_t i, place
    for i in range(count):
        place = session_id_place(commands[i].session_id)
        if commands[i].verb != VERB_OPEN and place < s.sessions.count_max:
            prefetch(session_at(s, place))


cdef void seal_all(State* s, Command* commands, uint32_t count) noexcept nogil:
    """Before the mutex: hashing hides the wait for the lines asked for. Asking needs no mutex, reading would."""
    cdef uint32_t start = 0
    cdef uint32_t i, group
    while start < count:
        group = min(count - start, <uint32_t>SEAL_GROUP)
        prefetch_places(s, commands + start, group)
        for i in range(start, start + group):
            seal(s, &commands[i])
        for i in range(start, start + group):
            if commands[i].verb != VERB_RENEW:
                prefetch_bucket(&s.by_request, <uint32_t>commands[i].lookup[0])
        start += group


cdef struct Pipeline:
    uint32_t pending_opens          # of commands looked at and not yet run
    uint32_t pending_items
    uint32_t pending_requests
    uint32_t numbers[BATCH_MAX]     # the session that each command may end or change; NONE


cdef void prefetch_takings(State* s, Pipeline* line, const Command* command) noexcept nogil:
    """Where a new session will be entered, and the records that it will get."""
    cdef uint32_t i
    if command.verb == VERB_CLOSE:
        return
    prefetch_fresh(&s.requests, line.pending_requests)
    line.pending_requests += 1
    if command.verb != VERB_OPEN and command.verb != VERB_ACQUIRE:
        return
    for i in range(command.item_count):
        prefetch_fresh(&s.leases, line.pending_items + i)
        prefetch_fresh(&s.charges, line.pending_items + i)
    if command.verb == VERB_OPEN:
        prefetch_fresh(&s.sessions, line.pending_opens)
        line.pending_opens += 1
    line.pending_items += command.item_count


cdef inline void takings_done(Pipeline* line, const Command* command) noexcept nogil:
    if command.verb == VERB_RENEW or command.verb == VERB_CLOSE:
        return
    line.pending_requests -= 1
    line.pending_opens -= command.verb == VERB_OPEN
    if command.verb == VERB_OPEN or command.verb == VERB_ACQUIRE:
        line.pending_items -= command.item_count


cdef void prefetch_of_leases(State* s, uint32_t number, bint is_neighbours) noexcept nogil:
    """The charges of the first two leases, or, once these are here, their neighbours in the pool's order."""
    cdef uint32_t lease = session_at(s, number).first_lease
    cdef int seen = 0
    if session_at(s, number).state != SESSION_LIVE:
        return  # an earlier command of the batch has ended it
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


cdef inline void prefetch_stage(State* s, Pipeline* line, const Command* command, uint32_t i, int stage) noexcept nogil:
    if stage == 0:
        line.numbers[i] = NONE
        if command.verb == VERB_RENEW:
            return  # it touches no more than the session
        prefetch_takings(s, line, command)
        if command.fence and command.place < s.sessions.high:
            line.numbers[i] = command.place
    elif line.numbers[i] == NONE:
        return
    elif stage == 1:
        if session_at(s, line.numbers[i]).state == SESSION_LIVE and session_at(s, line.numbers[i]).first_lease != NONE:
            prefetch(lease_at(s, session_at(s, line.numbers[i]).first_lease))
        else:
            line.numbers[i] = NONE
    else:
        prefetch_of_leases(s, line.numbers[i], stage == 3)


cdef void execute_all(State* s, int64_t now, const Command* commands, Outcome* outcomes, Workspace* space, uint32_t count) noexcept nogil:
    """Under the mutex. In each step one group runs, and the groups after it are each prepared by one stage more."""
    cdef Pipeline line
    cdef uint32_t group_count = (count + STAGE_GROUP - 1) // STAGE_GROUP
    cdef uint32_t step, stage, i
    enter(s, now)
    if count == 1:
        execute_one(s, commands, space, outcomes)
        return
    line.pending_opens = line.pending_items = line.pending_requests = 0
    for step in range(group_count + STAGES):
        for stage in range(STAGES):
            if stage <= step < group_count + stage:
                for i in range((step - stage) * STAGE_GROUP, min(count, (step - stage + 1) * STAGE_GROUP)):
                    prefetch_stage(s, &line, &commands[i], i, stage)
        if step >= STAGES:
            for i in range((step - STAGES) * STAGE_GROUP, min(count, (step - STAGES + 1) * STAGE_GROUP)):
                takings_done(&line, &commands[i])
                execute_one(s, &commands[i], space, &outcomes[i])


cdef void sign_all(State* s, Outcome* outcomes, uint32_t count) noexcept nogil:
    """Session ids are made after the mutex is free again."""
    cdef uint32_t i
    for i in range(count):
        if outcomes[i].status == STATUS_GRANTED:
            session_id_make(s, outcomes[i].fence, outcomes[i].place, outcomes[i].session_id)
