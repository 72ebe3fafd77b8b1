# The five verbs of a client, each a command in and an outcome out, under the mutex.
#
# Every verb first looks whether the request was seen before, then whether there is room for the worst that can follow,
# then decides, then acts. A verb that answers anything but success has changed nothing.


cdef inline LeaseOut* answer_lease(Workspace* space, Outcome* outcome) noexcept nogil:
    if outcome.lease_count == 0:
        outcome.first_lease = space.lease_count
    outcome.lease_count += 1
    space.lease_count += 1
    return &space.leases[space.lease_count - 1]


cdef inline void answer_unavailable(Workspace* space, Outcome* outcome, const DenialRecord* denial) noexcept nogil:
    if outcome.unavailable_count == 0:
        outcome.first_unavailable = space.unavailable_count
    outcome.unavailable_count += 1
    space.unavailable[space.unavailable_count] = denial[0]
    space.unavailable_count += 1


# --- refusals ----------------------------------------------------------------------------------------------------------

cdef void refuse_events_full(State* s, Outcome* outcome) noexcept nogil:
    outcome.status = STATUS_EVENTS_FULL
    s.totals.events_full += 1


cdef void refuse_not_found(State* s, const Command* command, Outcome* outcome) noexcept nogil:
    """With the reason of its end while its record is kept. One whose time was over has ended by now, as EXPIRED."""
    cdef uint32_t number = session_placed(s, command.fence, command.place)
    outcome.status = STATUS_NOT_FOUND
    outcome.end_reason = session_at(s, number).end_reason if number != NONE else END_NONE
    outcome.position = session_position(s, session_at(s, number)) if number != NONE else 0
    s.totals.not_found += 1


cdef void refuse_not_alive(State* s, const Command* command, bint is_full, Outcome* outcome) noexcept nogil:
    """It is over; or it is due to end, and the event ring has no room to say so."""
    if is_full:
        refuse_events_full(s, outcome)
    else:
        refuse_not_found(s, command, outcome)


cdef void refuse_reused(State* s, Outcome* outcome) noexcept nogil:
    outcome.status = STATUS_REQUEST_ID_REUSED
    s.totals.reused += 1


cdef bint refuse_invalid(State* s, const Command* command, Outcome* outcome) noexcept nogil:
    if command.invalid == INVALID_NONE:
        return False
    outcome.status = STATUS_INVALID
    outcome.detail = command.invalid
    s.totals.invalid += 1
    return True


cdef bint refuse_overloaded(State* s, Outcome* outcome, uint8_t bound) noexcept nogil:
    if bound == BOUND_NONE:
        return False
    outcome.status = STATUS_OVERLOADED
    outcome.detail = bound
    s.totals.overloaded += 1
    return True


cdef bint refuse_not_writable(State* s, Outcome* outcome) noexcept nogil:
    if not s.is_read_only:
        return False
    outcome.status = STATUS_NOT_WRITABLE
    s.totals.not_writable += 1
    return True


cdef inline void mark_replayed(State* s, Outcome* outcome) noexcept nogil:
    outcome.is_replayed = 1
    s.totals.replayed += 1


cdef void deny(State* s, const Command* command, const DenialRecord* denial, Outcome* outcome) noexcept nogil:
    outcome.status = STATUS_DENIED
    outcome.denial = denial[0]
    s.totals.denied += 1
    if denial.product != NO_PRODUCT:
        s.products[denial.product].denial_totals[denial.reason] += 1
    denial_remember(s, command, denial)
    record_denial(s, denial)


cdef void replay_denial(State* s, const Request* request, Outcome* outcome) noexcept nogil:
    outcome.status = STATUS_DENIED
    outcome.denial = denial_at(s, <uint32_t>request.owner)[0]
    mark_replayed(s, outcome)


# --- open ---------------------------------------------------------------------------------------------------------------

cdef uint8_t open_bound(State* s, const Command* command) noexcept nogil:
    """The bound that the request would break; BOUND_NONE. Asked before deciding: a denial is remembered too."""
    if not can_remember(s):
        return BOUND_REMEMBERED_REQUESTS
    if s.session_count >= s.session_count_max:
        return BOUND_SESSIONS
    if slab_free_count(&s.leases) < command.item_count:
        return BOUND_LEASES
    if slab_free_count(&s.charges) < command.item_count:
        return BOUND_CHARGES
    if text_find_room(s, text_class(command.text_size)) == NO_TEXT_ROOM:
        return BOUND_TEXT
    return BOUND_NONE


cdef void replay_grant(State* s, uint32_t number, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef Session* session = session_at(s, number)
    cdef uint32_t lease = session.first_lease
    outcome.status = STATUS_GRANTED
    outcome.fence = session.fence
    outcome.place = number
    outcome.ttl = max(<int64_t>0, session.deadline - s.renew_grace - s.now)
    outcome.change_version = session.change_version
    while lease != NONE:
        if lease_at(s, lease).state == LEASE_ACTIVE:
            lease_view(s, lease, answer_lease(space, outcome))
        lease = lease_at(s, lease).next_of_session
    mark_replayed(s, outcome)


cdef void replay_open(State* s, const Command* command, uint32_t number, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef Request* request = request_at(s, number)
    cdef uint32_t session
    cdef bint is_full = False
    if request.fingerprint != command.fingerprint:
        refuse_reused(s, outcome)
        return
    if request.kind == REQUEST_DENIED:
        replay_denial(s, request, outcome)
        return
    number = <uint32_t>request.owner
    session = live_or_ended(s, number, &is_full)
    if is_full:
        refuse_events_full(s, outcome)
    elif session != NONE:
        replay_grant(s, session, space, outcome)
    else:
        outcome.status = STATUS_ENDED
        outcome.fence = session_at(s, number).fence
        outcome.end_reason = session_at(s, number).end_reason
        mark_replayed(s, outcome)


cdef void grant(State* s, const Command* command, Decision* decision, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef uint32_t number = session_add(s, command)
    emit_opened(s, decision.fence, number, command)
    items_take(s, command, decision, number, space, outcome)
    if decision.old != NONE:
        session_end(s, decision.old, END_SUPERSEDED, 0, False)
    outcome.status = STATUS_GRANTED
    outcome.fence = decision.fence
    outcome.place = number
    outcome.ttl = <int64_t>command.ttl_ms * NS_PER_MS
    outcome.change_version = 1


cdef inline void decision_begin(Decision* decision, uint64_t fence, uint32_t session, uint32_t old, uint8_t priority, const uint8_t* sizes, const uint8_t* text) noexcept nogil:
    decision.fence = fence
    decision.session = session
    decision.old = old
    decision.priority = priority
    decision.user = text
    decision.user_size = sizes[TEXT_USER]
    decision.host = text + sizes[TEXT_USER]
    decision.host_size = sizes[TEXT_HOST]


cdef void verb_open(State* s, const Command* command, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef Decision decision
    cdef bint is_full = False
    cdef uint64_t size
    cdef uint32_t old, number
    if refuse_invalid(s, command, outcome):
        return
    number = request_by_lookup(s, command.lookup)
    if number != NONE:
        replay_open(s, command, number, space, outcome)
        return
    if s.is_draining:
        outcome.status = STATUS_DRAINING
        s.totals.drained += 1
        return
    if refuse_not_writable(s, outcome) or refuse_overloaded(s, outcome, open_bound(s, command)):
        return
    old = session_of_instance(s, command)
    size = opened_size(command.text_size) + EVENT_SIZE * (2 * command.item_count + 2)
    if old != NONE:
        old = live_or_ended(s, old, &is_full)
    if old != NONE:
        size += EVENT_SIZE * (3 * active_lease_count(s, old) + 1)
    if is_full or not has_room(s, size):
        refuse_events_full(s, outcome)
        return
    decision_begin(&decision, s.fence_next, NONE, old, command.priority, command.sizes, command.text)
    decide(s, command, &decision)
    if decision.denied_item >= 0:
        deny(s, command, &decision.items[decision.denied_item].denial, outcome)
    else:
        grant(s, command, &decision, space, outcome)


# --- renew ----------------------------------------------------------------------------------------------------------------

cdef uint32_t drop_acknowledged(State* s, Session* session, uint32_t version) noexcept nogil:
    """Ended leases of which the holder has heard; how many."""
    cdef uint32_t number = session.first_lease
    cdef uint32_t count = 0
    cdef uint32_t following
    while number != NONE:
        following = lease_at(s, number).next_of_session
        if lease_at(s, number).state == LEASE_ENDED and lease_at(s, number).changed_version <= version:
            lease_drop(s, number)
            count += 1
        number = following
    return count


cdef void report_changes(State* s, uint32_t place, uint32_t version, Workspace* space, Outcome* outcome) noexcept nogil:
    """What the holder does not know yet. Ends that it has acknowledged are forgotten, if there is room for the event that says so."""
    cdef Session* session = session_at(s, place)
    cdef uint32_t number
    cdef Lease* lease
    if session.ended_count and has_room(s, EVENT_SIZE) and drop_acknowledged(s, session, version):
        emit(s, EVENT_LEASES_ACKNOWLEDGED, END_NONE, session.fence, 0, -1, -1, 0, place, version, 0)
    number = session.first_lease
    while number != NONE:
        lease = lease_at(s, number)
        if lease.state == LEASE_ENDED:
            if lease.changed_version > version:
                lease_view(s, number, answer_lease(space, outcome))
        elif is_in_grace(s, &s.pools[lease.pool], charge_at(s, lease.charge)):
            lease_view(s, number, answer_lease(space, outcome))
        number = lease.next_of_session


cdef void verb_renew(State* s, const Command* command, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef bint is_full = False
    cdef uint32_t number = session_of_command(s, command, &is_full)
    cdef Session* session
    if number == NONE:
        refuse_not_alive(s, command, is_full, outcome)
        return
    session = session_at(s, number)
    session.deadline = s.now + <int64_t>session.ttl_ms * NS_PER_MS + s.renew_grace
    if session.ended_count or s.grace_total:
        report_changes(s, number, <uint32_t>min(command.change_version, <uint64_t>session.change_version), space, outcome)
    outcome.status = STATUS_RENEWED
    outcome.fence = session.fence
    outcome.ttl = <int64_t>session.ttl_ms * NS_PER_MS
    outcome.change_version = session.change_version
    outcome.position = session_position(s, session)
    s.totals.renewed += 1


# --- acquire --------------------------------------------------------------------------------------------------------------

cdef uint8_t acquire_bound(State* s, const Command* command, const Session* session) noexcept nogil:
    if not can_remember(s):
        return BOUND_REMEMBERED_REQUESTS
    if slab_free_count(&s.leases) < command.item_count:
        return BOUND_LEASES
    if slab_free_count(&s.charges) < command.item_count:
        return BOUND_CHARGES
    if session.lease_count + command.item_count > LEASES_OF_SESSION_MAX:
        return BOUND_LEASES_OF_SESSION
    return BOUND_NONE


cdef void replay_acquire(State* s, const Command* command, uint32_t request_number, uint32_t number, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef Request* request = request_at(s, request_number)
    cdef uint32_t lease
    cdef int i
    if request.fingerprint != command.fingerprint:
        refuse_reused(s, outcome)
        return
    if request.kind == REQUEST_DENIED:
        replay_denial(s, request, outcome)
        return
    for i in range(command.item_count):
        lease = active_lease(s, number, command.products[i])
        if lease != NONE:
            lease_view(s, lease, answer_lease(space, outcome))
    outcome.status = STATUS_ACQUIRED
    outcome.fence = session_at(s, number).fence
    outcome.change_version = session_at(s, number).change_version
    mark_replayed(s, outcome)


cdef void drop_ended(State* s, uint32_t number, const Command* command, const Decision* decision) noexcept nogil:
    """The record of an ended lease gives way to the new lease of the same product."""
    cdef uint32_t lease, following
    cdef int i
    for i in range(command.item_count):
        if decision.items[i].how != HOW_JOIN and decision.items[i].how != HOW_NEW:
            continue
        lease = session_at(s, number).first_lease
        while lease != NONE:
            following = lease_at(s, lease).next_of_session
            if lease_at(s, lease).state == LEASE_ENDED and lease_at(s, lease).product == command.products[i]:
                lease_drop(s, lease)
            lease = following


cdef void verb_acquire(State* s, const Command* command, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef Decision decision
    cdef bint is_full = False
    cdef uint32_t number, request
    cdef Session* session
    number = session_of_command(s, command, &is_full)
    if number == NONE:
        refuse_not_alive(s, command, is_full, outcome)
        return
    if refuse_invalid(s, command, outcome):
        return
    request = request_by_lookup(s, command.lookup)
    if request != NONE:
        replay_acquire(s, command, request, number, space, outcome)
        return
    session = session_at(s, number)
    if refuse_not_writable(s, outcome) or refuse_overloaded(s, outcome, acquire_bound(s, command, session)):
        return
    if not has_room(s, EVENT_SIZE * (2 * command.item_count + 2) + REQUEST_EVENT_SIZE):
        refuse_events_full(s, outcome)
        return
    decision_begin(&decision, session.fence, number, NONE, session.priority, s.texts.base + session.text, s.texts.base + session.text + TEXT_HEADER)
    decide(s, command, &decision)
    if decision.denied_item >= 0:
        deny(s, command, &decision.items[decision.denied_item].denial, outcome)
        return
    drop_ended(s, number, command, &decision)
    items_take(s, command, &decision, number, space, outcome)
    request = request_remember(s, command, REQUEST_ACQUIRED, session.fence)
    emit_request(s, request_at(s, request), number)
    outcome.status = STATUS_ACQUIRED
    outcome.fence = session.fence
    outcome.change_version = session.change_version
    s.totals.acquired += 1


# --- release and close -------------------------------------------------------------------------------------------------

cdef void answer_released(State* s, const Session* session, uint8_t was_held, Outcome* outcome) noexcept nogil:
    outcome.status = STATUS_RELEASED
    outcome.fence = session.fence
    outcome.change_version = session.change_version
    outcome.detail = was_held


cdef void verb_release(State* s, const Command* command, Outcome* outcome) noexcept nogil:
    cdef bint is_full = False
    cdef uint32_t number = session_of_command(s, command, &is_full)
    cdef uint32_t request, lease
    if number == NONE:
        refuse_not_alive(s, command, is_full, outcome)
        return
    request = request_by_lookup(s, command.lookup)
    if request != NONE:
        if request_at(s, request).fingerprint != command.fingerprint:
            refuse_reused(s, outcome)
            return
        answer_released(s, session_at(s, number), request_at(s, request).was_held, outcome)
        mark_replayed(s, outcome)
        return
    if not can_remember(s):
        refuse_overloaded(s, outcome, BOUND_REMEMBERED_REQUESTS)
        return
    if not has_room(s, EVENT_SIZE * 3 + REQUEST_EVENT_SIZE):
        refuse_events_full(s, outcome)
        return
    lease = active_lease(s, number, command.products[0])
    if lease != NONE:
        lease_end(s, lease, END_CLOSED)
        lease_drop(s, lease)
    request = request_remember(s, command, REQUEST_RELEASED, session_at(s, number).fence)
    request_at(s, request).was_held = lease != NONE
    emit_request(s, request_at(s, request), number)
    answer_released(s, session_at(s, number), lease != NONE, outcome)
    s.totals.released += 1


cdef void answer_closed(const Command* command, uint8_t reason, Outcome* outcome) noexcept nogil:
    outcome.status = STATUS_CLOSED
    outcome.fence = command.fence
    outcome.end_reason = reason


cdef void verb_close(State* s, const Command* command, Outcome* outcome) noexcept nogil:
    cdef bint is_full = False
    cdef uint32_t place = session_placed(s, command.fence, command.place)
    cdef uint32_t number = live_or_ended(s, place, &is_full)
    if is_full:
        refuse_events_full(s, outcome)
    elif number == NONE and place != NONE and is_remembered_close(s, place, command):
        answer_closed(command, session_at(s, place).end_reason, outcome)
        mark_replayed(s, outcome)
    elif number == NONE:
        refuse_not_found(s, command, outcome)
    elif request_by_lookup(s, command.lookup) != NONE:
        refuse_reused(s, outcome)
    elif not has_room(s, session_end_size(s, number)):
        refuse_events_full(s, outcome)
    else:
        session_end(s, number, END_CLOSED, command.lookup[0], can_remember_grant(s))
        answer_closed(command, END_CLOSED, outcome)


# --- an admin's ------------------------------------------------------------------------------------------------------------

cdef bint revoke_session(State* s, uint32_t place, uint8_t reason) noexcept nogil:
    cdef bint is_full = False
    cdef uint32_t number
    if place == NONE:
        return False
    trail_reasoned(s, TRAIL_REVOKE, reason, 0, session_at(s, place).fence)
    number = live_or_ended(s, place, &is_full)
    if number != NONE and not has_room(s, session_end_size(s, number)):
        is_full = True
    if is_full:
        s.totals.events_full += 1
    if number == NONE or is_full:
        return False
    session_end(s, number, reason, 0, False)
    return True


cdef inline void execute_one(State* s, const Command* command, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef TrailHead* head = trail_command(s, command)
    memset(outcome, 0, <size_t>(<char*>outcome.session_id - <char*>outcome))  # the rest is only read where it is set
    if command.verb == VERB_RENEW:
        verb_renew(s, command, space, outcome)
    elif command.verb == VERB_OPEN:
        verb_open(s, command, space, outcome)
    elif command.verb == VERB_CLOSE:
        verb_close(s, command, outcome)
    elif command.verb == VERB_ACQUIRE:
        verb_acquire(s, command, space, outcome)
    else:
        USHER_ASSERT(command.verb == VERB_RELEASE)
        verb_release(s, command, outcome)
    unit_end(s)
    trail_answered(head, outcome)
