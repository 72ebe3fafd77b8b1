# Batches: commands made ready once, executed in order under one hold of the mutex, without the GIL.
#
# Memory is waited for in parallel, by a pipeline: while one command runs, the lines of the next ones are on their way,
# each stage STAGE_DISTANCE commands behind the one whose answer it reads: session (asked for while sealing already),
# leases, charges, their neighbours. The stages only read, and a guess gone stale costs a wasted line, no
# more. At a million sessions this is the difference between one cache miss after the other and ten at a time.

cdef enum:
    STAGE_DISTANCE = 8
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


cdef void seal_all(State* s, Command* commands, uint32_t count) noexcept nogil:
    """Before the mutex: hashing hides the wait for the lines that it asks for. Asking needs no mutex, reading would."""
    cdef uint32_t i
    for i in range(count):
        seal(s, &commands[i])
        if commands[i].fence and commands[i].place < s.sessions.count_max:
            prefetch(session_at(s, commands[i].place))
        if commands[i].verb != VERB_RENEW:
            prefetch_bucket(&s.by_request, <uint32_t>commands[i].lookup[0])


cdef struct Pipeline:
    uint32_t pending_opens          # of commands looked at and not yet run
    uint32_t pending_items
    uint32_t pending_requests
    uint32_t numbers[BATCH_MAX]     # the session that each command may end or change; NONE


cdef void prefetch_takings(State* s, Pipeline* line, const Command* command) noexcept nogil:
    """Where a new session will be entered, and the records that it will get."""
    cdef uint32_t i
    prefetch_fresh(&s.requests, line.pending_requests)
    line.pending_requests += 1
    if command.verb != VERB_OPEN and command.verb != VERB_ACQUIRE:
        return
    for i in range(command.item_count):
        prefetch_fresh(&s.leases, line.pending_items + i)
        prefetch_fresh(&s.charges, line.pending_items + i)
    if command.verb == VERB_OPEN:
        prefetch_bucket(&s.by_fence, hash_of_fence(s.fence_next + line.pending_items + line.pending_opens))
        prefetch_fresh(&s.sessions, line.pending_opens)
        line.pending_opens += 1
    line.pending_items += command.item_count


cdef inline void takings_done(Pipeline* line, const Command* command) noexcept nogil:
    if command.verb == VERB_RENEW:
        return
    line.pending_requests -= 1
    line.pending_opens -= command.verb == VERB_OPEN
    if command.verb == VERB_OPEN or command.verb == VERB_ACQUIRE:
        line.pending_items -= command.item_count


cdef void prefetch_of_heap(const Heap* heap, uint32_t position) noexcept nogil:
    """What removing the entry compares: its parent and its children."""
    prefetch(&heap.times[position])
    prefetch(&heap.numbers[position])
    prefetch(&heap.times[(position - 1) >> 2 if position else 0])
    if position * 4 + 1 < heap.count:
        prefetch(&heap.times[position * 4 + 1])
        prefetch(&heap.times[position * 4 + 4])
        prefetch(&heap.numbers[position * 4 + 1])


cdef void prefetch_of_children(State* s, uint32_t position) noexcept nogil:
    """The sessions of the children, whose fences break a tie of equal deadlines."""
    cdef uint32_t child
    for child in range(position * 4 + 1, min(position * 4 + 5, s.deadlines.count)):
        prefetch(session_at(s, s.deadlines.numbers[child]))


cdef void prefetch_of_session(State* s, uint32_t number) noexcept nogil:
    """What the record of a session that may end names."""
    cdef Session* session = session_at(s, number)
    if session.first_lease != NONE:
        prefetch(lease_at(s, session.first_lease))
    if session.heap_position < s.deadlines.count:
        prefetch_of_heap(&s.deadlines, session.heap_position)
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


cdef inline void prefetch_stage(State* s, Pipeline* line, const Command* command, uint32_t i, int stage) noexcept nogil:
    if stage == 0:
        line.numbers[i] = NONE
        if command.verb == VERB_RENEW:
            return  # it touches no more than the session
        prefetch_takings(s, line, command)
        if command.fence and command.place < s.sessions.high:
            line.numbers[i] = command.place
            prefetch(session_at(s, command.place))
            prefetch_bucket(&s.by_fence, hash_of_fence(command.fence))
    elif line.numbers[i] == NONE:
        return
    elif stage == 1:
        prefetch_of_session(s, line.numbers[i])
    else:
        prefetch_of_leases(s, line.numbers[i], stage == 3)
        if stage == 2:
            prefetch_of_children(s, session_at(s, line.numbers[i]).heap_position)


cdef void execute_all(State* s, int64_t now, const Command* commands, Outcome* outcomes, Workspace* space, uint32_t count) noexcept nogil:
    """Under the mutex. Step i looks ahead for command i, and runs command i - STAGES * STAGE_DISTANCE."""
    cdef Pipeline line
    cdef uint32_t i
    cdef int64_t place
    cdef int stage
    enter(s, now)
    if count == 1:
        execute_one(s, commands, space, outcomes)
        return
    line.pending_opens = line.pending_items = line.pending_requests = 0
    for i in range(count + STAGES * STAGE_DISTANCE):
        for stage in range(STAGES):
            place = <int64_t>i - stage * STAGE_DISTANCE
            if 0 <= place < count:
                prefetch_stage(s, &line, &commands[place], <uint32_t>place, stage)
        place = <int64_t>i - STAGES * STAGE_DISTANCE
        if place >= 0:
            takings_done(&line, &commands[place])
            execute_one(s, &commands[place], space, &outcomes[place])


cdef void sign_all(State* s, Outcome* outcomes, uint32_t count) noexcept nogil:
    """Session ids are made after the mutex is free again."""
    cdef uint32_t i
    for i in range(count):
        if outcomes[i].status == STATUS_GRANTED:
            session_id_make(s, outcomes[i].fence, outcomes[i].place, outcomes[i].session_id)
