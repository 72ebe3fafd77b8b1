# Replay: the events of a log done again, so that the ledger is as it was (RULES.md, "Restart"). Pure: no clock, and nothing is emitted.
#
#     LOADING ── STATE_END ──► REPLAYING ── resume ──► RUNNING
#        ▲ STATE_BEGIN            ▲ the first event
#        └────── a new ledger ────┘
#
# Each event is done by the functions that did it the first time, as far as they do not decide: a lease that ends takes its charge along,
# and the CHARGE_FREED behind it is then only compared. Nothing is believed: a log is a file. Every number is held against its bound and every
# name against what it names before it is used; the first event that cannot be ends the replay, and the ledger is then of no use.
#
# A command is done when its last event is there (flag 1). What is left at the end is half a command that nobody was told of.
# What time alone does is not in the log: requests are forgotten here as soon as an event's time lies behind theirs.

cdef enum Fault:
    FAULT_NONE = 0
    FAULT_SIZE = 1
    FAULT_KIND = 2
    FAULT_SEQUENCE = 3
    FAULT_TIME = 4
    FAULT_PHASE = 5
    FAULT_EXPECTED = 6
    FAULT_UNIT = 7
    FAULT_NUMBER = 8
    FAULT_VALUE = 9
    FAULT_SESSION = 10
    FAULT_PLACE = 11
    FAULT_FENCE = 12
    FAULT_LEASE = 13
    FAULT_CHARGE = 14
    FAULT_REQUEST = 15
    FAULT_GENERATION = 16
    FAULT_VERSION = 17
    FAULT_MISSING = 18
    FAULT_SESSIONS_MAX = 19
    FAULT_LEASES_MAX = 20
    FAULT_CHARGES_MAX = 21
    FAULT_REQUESTS_MAX = 22
    FAULT_TEXT_MAX = 23
    STOP_AT_NOTE = 64               # no fault: Python keeps the notes

cdef enum:
    TIME_CEILING_BITS = 62
    FLAG_ALONE = 4                  # STATE_CHARGE: it has room, and no other charge of its group has


# --- asking ------------------------------------------------------------------------------------------------------------------

cdef inline uint32_t replay_session(State* s, const EventHeader* e) noexcept nogil:
    """The live session that the event names by fence and place; NONE."""
    cdef uint32_t place = <uint32_t>e.deficit
    if place < s.sessions.high and session_at(s, place).state == SESSION_LIVE and session_at(s, place).fence == e.fence:
        return place
    return NONE


cdef inline bint is_pool_named(State* s, const EventHeader* e) noexcept nogil:
    return <uint32_t>e.pool < s.pool_count and s.pools[e.pool].product == e.product


cdef inline bint is_time(int64_t time) noexcept nogil:
    return 0 <= time < (<int64_t>1 << TIME_CEILING_BITS)


cdef void group_of_session(State* s, uint32_t pool_number, uint32_t session_number, uint64_t* group) noexcept nogil:
    """Of a charge of this pool that the session takes or joins."""
    cdef Session* session = session_at(s, session_number)
    cdef const uint8_t* block = s.texts.base + session.text
    cdef const uint8_t* user = block + TEXT_HEADER
    if s.pools[pool_number].sharing == SHARING_SESSION:
        group[0] = session.fence
        group[1] = 0
    else:
        group_of_texts(s, s.pools[pool_number].sharing, user, block[TEXT_USER], user + block[TEXT_USER], block[TEXT_HOST], group)


cdef uint32_t charge_to_join(State* s, const EventHeader* e, uint32_t session_number) noexcept nogil:
    """The charge that the event names, if it is the one that the session's group would join; NONE."""
    cdef uint64_t group[2]
    cdef uint32_t number
    group_of_session(s, <uint32_t>e.pool, session_number, group)
    number = roomy_charge(s, <uint32_t>e.pool, group)
    if number != NONE and charge_at(s, number).fence == e.charge:
        return number
    return NONE


cdef uint32_t lease_named(State* s, const EventHeader* e, uint32_t session_number) noexcept nogil:
    """The session's active lease on the product and charge that the event names; NONE."""
    cdef uint32_t lease
    if session_number == NONE or not is_pool_named(s, e):
        return NONE
    lease = active_lease(s, session_number, <uint32_t>e.product)
    if lease == NONE or lease_at(s, lease).charge == NONE or charge_at(s, lease_at(s, lease).charge).fence != e.charge:
        return NONE
    return lease if lease_at(s, lease).pool == e.pool else NONE


cdef uint32_t lingering_named(State* s, const EventHeader* e) noexcept nogil:
    """A lingering charge that is freed: by time the first of all, by force the first of its pool. NONE."""
    cdef uint32_t number = NONE
    if not is_pool_named(s, e):
        return NONE
    if s.lingers.count and charge_at(s, s.lingers.numbers[0]).fence == e.charge:
        number = s.lingers.numbers[0]
    else:
        number = newest_from(&s.pools[e.pool], 0)
        if number != NONE and (charge_at(s, number).fence != e.charge or charge_at(s, number).heap_position == NONE):
            number = NONE
    return number if number != NONE and charge_at(s, number).pool == e.pool else NONE


cdef inline void expect(State* s, uint32_t kind, uint64_t charge) noexcept nogil:
    s.replay.expected_kind = kind
    s.replay.expected_charge = charge


# --- sessions ------------------------------------------------------------------------------------------------------------------

cdef void slab_take_at(Slab* slab, uint32_t number) noexcept nogil:
    """A record by its number. Which ones are free is looked up again when the run begins."""
    slab.free_count = 0
    slab.high = max(slab.high, number + 1)
    slab.live += 1


cdef bint place_clear(State* s, uint32_t place) noexcept nogil:
    """Forgets, in their order, what must have been forgotten when the place was taken; whether it is free."""
    while place < s.sessions.high and session_at(s, place).state != SESSION_FREE:
        if session_at(s, place).state == SESSION_LIVE:
            return False
        forget_first(s, &s.requests_to_forget)
    return True


cdef uint8_t opened_read(State* s, const EventHeader* e, const OpenedBody* body, const uint8_t* text, uint32_t text_room, Command* command) noexcept nogil:
    """The command that the session was opened with, as far as it matters afterwards."""
    cdef int bounds[TEXT_PARTS]
    cdef int i
    bounds[TEXT_USER] = USER_SIZE_MAX
    bounds[TEXT_HOST] = HOST_SIZE_MAX
    bounds[TEXT_APP] = APP_SIZE_MAX
    bounds[TEXT_LABEL] = LABEL_SIZE_MAX
    bounds[TEXT_INSTANCE] = INSTANCE_ID_SIZE_MAX
    bounds[TEXT_IDENTITY] = IDENTITY_SIZE_MAX
    command.verb = VERB_OPEN
    command.text_size = 0
    for i in range(TEXT_PARTS):
        if body.sizes[i] > bounds[i]:
            return FAULT_VALUE
        command.text_size += body.sizes[i]
    if command.text_size > text_room:
        return FAULT_SIZE
    if body.priority >= PRIORITY_LEVELS or body.ttl_ms == 0 or body.ttl_ms > TTL_MAX_NS // NS_PER_MS or body.place != <uint32_t>e.deficit:
        return FAULT_VALUE
    memcpy(command.sizes, body.sizes, TEXT_PARTS)
    command.text = text
    command.priority = body.priority
    command.ttl_ms = body.ttl_ms
    memcpy(command.lookup, body.lookup, 16)
    command.fingerprint = body.fingerprint
    command.instance_hash = 0
    if command.sizes[TEXT_INSTANCE]:
        seal_instance(s, command)
    return FAULT_NONE


cdef uint8_t opened_put(State* s, const EventHeader* e, const Command* command) noexcept nogil:
    cdef uint32_t place = <uint32_t>e.deficit
    if place >= s.sessions.count_max:
        return FAULT_REQUESTS_MAX
    if not place_clear(s, place):
        return FAULT_PLACE
    if s.session_count >= s.session_count_max:
        return FAULT_SESSIONS_MAX
    if not can_remember_grant(s):
        return FAULT_REQUESTS_MAX
    if text_find_room(s, text_class(command.text_size)) == NO_TEXT_ROOM:
        return FAULT_TEXT_MAX
    if request_by_lookup(s, command.lookup) != NONE:
        return FAULT_REQUEST
    slab_take_at(&s.sessions, place)
    session_put(s, place, e.fence, command)
    return FAULT_NONE


cdef uint8_t replay_opened(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    cdef OpenedBody body
    cdef Command command
    cdef uint8_t fault
    if e.size < OPENED_FIXED_SIZE:
        return FAULT_SIZE
    memcpy(&body, data + EVENT_SIZE, sizeof(OpenedBody))
    fault = opened_read(s, e, &body, data + OPENED_FIXED_SIZE, e.size - OPENED_FIXED_SIZE, &command)
    if fault:
        return fault
    if e.fence <= s.replay.fence_max:
        return FAULT_FENCE
    s.replay.fence_max = e.fence
    return opened_put(s, e, &command)


cdef uint8_t replay_session_ended(State* s, const EventHeader* e) noexcept nogil:
    cdef uint32_t number = replay_session(s, e)
    cdef bint is_closed = e.flags & FLAG_CLOSE
    if number == NONE:
        return FAULT_SESSION
    if active_lease_count(s, number):
        return FAULT_LEASE
    if not 0 < e.reason < END_REASON_COUNT:
        return FAULT_VALUE
    if is_closed and not can_remember_grant(s):
        return FAULT_REQUESTS_MAX
    session_end(s, number, e.reason, e.detail if is_closed else 0, is_closed)
    return FAULT_NONE


cdef uint8_t replay_acknowledged(State* s, const EventHeader* e) noexcept nogil:
    cdef uint32_t number = replay_session(s, e)
    if number == NONE:
        return FAULT_SESSION
    if e.detail > session_at(s, number).change_version:
        return FAULT_VALUE
    drop_acknowledged(s, session_at(s, number), <uint32_t>e.detail)
    return FAULT_NONE


# --- leases and charges ------------------------------------------------------------------------------------------------------------

cdef void drop_ended_of(State* s, uint32_t session_number, uint32_t product) noexcept nogil:
    """The record of an ended lease gives way to the new lease of the same product."""
    cdef uint32_t lease = session_at(s, session_number).first_lease
    cdef uint32_t following
    while lease != NONE:
        following = lease_at(s, lease).next_of_session
        if lease_at(s, lease).state == LEASE_ENDED and lease_at(s, lease).product == product:
            lease_drop(s, lease)
        lease = following


cdef uint8_t lease_bound(State* s, uint32_t session_number) noexcept nogil:
    if session_at(s, session_number).lease_count >= LEASES_OF_SESSION_MAX:
        return FAULT_LEASE
    return FAULT_NONE if slab_free_count(&s.leases) else FAULT_LEASES_MAX


cdef uint8_t charge_begin(State* s, const EventHeader* e, uint32_t session_number, uint32_t* number) noexcept nogil:
    """The charge of a lease that takes seats."""
    cdef uint64_t group[2]
    if e.charge <= s.replay.fence_max:
        return FAULT_FENCE
    if e.seats != s.pools[e.pool].weight:
        return FAULT_VALUE
    if slab_free_count(&s.charges) == 0:
        return FAULT_CHARGES_MAX
    s.replay.fence_max = e.charge
    group_of_session(s, <uint32_t>e.pool, session_number, group)
    number[0] = charge_put(s, e.charge, s.now, <uint32_t>e.pool, session_at(s, session_number).priority, group)
    return FAULT_NONE


cdef uint8_t replay_lease_started(State* s, const EventHeader* e, bint is_expected) noexcept nogil:
    cdef uint32_t session = replay_session(s, e)
    cdef uint32_t charge = NONE
    cdef uint8_t fault
    if session == NONE:
        return FAULT_SESSION
    if not is_pool_named(s, e):
        return FAULT_NUMBER
    if active_lease(s, session, <uint32_t>e.product) != NONE:
        return FAULT_NONE if is_expected and e.seats == 0 and lease_named(s, e, session) != NONE else FAULT_LEASE
    drop_ended_of(s, session, <uint32_t>e.product)
    fault = lease_bound(s, session)
    if fault == FAULT_NONE and e.seats:
        fault = charge_begin(s, e, session, &charge)
    if fault:
        return fault
    if e.seats == 0:
        charge = charge_to_join(s, e, session)
    if charge == NONE or charge_at(s, charge).heap_position != NONE:
        return FAULT_CHARGE
    charge_link(s, charge, lease_add(s, session, <uint32_t>e.product, charge))
    roomy_update(s, charge)
    return FAULT_NONE


cdef uint8_t replay_lease_ended(State* s, const EventHeader* e) noexcept nogil:
    cdef uint32_t session = replay_session(s, e)
    cdef uint32_t number = lease_named(s, e, session)
    cdef uint32_t charge
    cdef Lease* lease
    cdef bint is_last
    if number == NONE:
        return FAULT_SESSION if session == NONE else FAULT_LEASE
    if not 0 < e.reason < END_REASON_COUNT or (e.detail and e.detail != <uint64_t>session_at(s, session).change_version + 1):
        return FAULT_VALUE
    lease = lease_at(s, number)
    charge = lease.charge
    is_last = charge_at(s, charge).lease_count == 1
    if e.detail:
        session_at(s, session).change_version += 1
        lease.changed_version = session_at(s, session).change_version
    lease_end(s, number, e.reason)
    if is_last:
        expect(s, EVENT_CHARGE_FREED if charge_at(s, charge).fence != e.charge else EVENT_CHARGE_LINGERS, e.charge)
    if e.detail == 0:
        lease_drop(s, number)
    return FAULT_NONE


cdef uint8_t replay_charge_freed(State* s, const EventHeader* e) noexcept nogil:
    """By itself: the end of a linger."""
    cdef uint32_t number = lingering_named(s, e)
    if number == NONE:
        return FAULT_CHARGE
    if e.reason >= END_REASON_COUNT:
        return FAULT_VALUE
    charge_stop_lingering(s, number)
    charge_free(s, number, e.reason)
    return FAULT_NONE


cdef uint8_t replay_charge_moved(State* s, const EventHeader* e) noexcept nogil:
    """A lingering charge is retaken, or one goes over from a session that is superseded."""
    cdef uint32_t session = replay_session(s, e)
    cdef uint32_t charge
    if session == NONE:
        return FAULT_SESSION
    if not is_pool_named(s, e):
        return FAULT_NUMBER
    expect(s, EVENT_LEASE_STARTED, e.charge)
    if e.detail:
        return replay_taken_over(s, e, session)
    charge = charge_to_join(s, e, session)
    if charge == NONE or charge_at(s, charge).heap_position == NONE:
        return FAULT_CHARGE
    charge_stop_lingering(s, charge)
    return FAULT_NONE


cdef uint8_t replay_taken_over(State* s, const EventHeader* e, uint32_t session) noexcept nogil:
    cdef uint32_t old = <uint32_t>min(e.detail - 1, <uint64_t>NONE)
    cdef uint32_t lease
    cdef uint8_t fault
    if old >= s.sessions.high or old == session or session_at(s, old).state != SESSION_LIVE:
        return FAULT_SESSION
    lease = lease_named(s, e, old)
    if lease == NONE or active_lease(s, session, <uint32_t>e.product) != NONE:
        return FAULT_LEASE
    fault = lease_bound(s, session)
    if fault == FAULT_NONE:
        lease_move(s, lease, session)
    return fault


# --- requests, what the site declares, runs -----------------------------------------------------------------------------------

cdef uint8_t request_read(State* s, const EventHeader* e, const uint8_t* data, RequestBody* body) noexcept nogil:
    if e.size != REQUEST_EVENT_SIZE:
        return FAULT_SIZE
    memcpy(body, data + EVENT_SIZE, sizeof(RequestBody))
    if not can_remember_grant(s):
        return FAULT_REQUESTS_MAX
    return FAULT_NONE if request_by_lookup(s, body.lookup) == NONE else FAULT_REQUEST


cdef uint8_t request_put(State* s, const EventHeader* e, const RequestBody* body, int64_t expires) noexcept nogil:
    """An Acquire or a Release, remembered."""
    cdef Command command
    cdef uint32_t number
    if body.kind != REQUEST_ACQUIRED and body.kind != REQUEST_RELEASED or not 0 <= e.seats <= 1:
        return FAULT_VALUE
    memcpy(command.lookup, body.lookup, 16)
    command.fingerprint = body.fingerprint
    number = request_remember(s, &command, <RequestKind>body.kind, e.fence)
    request_at(s, number).was_held = <uint8_t>e.seats
    request_at(s, number).expires = expires
    return FAULT_NONE


cdef uint8_t replay_request(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    cdef RequestBody body
    cdef uint8_t fault = request_read(s, e, data, &body)
    if fault == FAULT_NONE and replay_session(s, e) == NONE:
        fault = FAULT_SESSION
    return fault if fault else request_put(s, e, &body, s.now + s.request_window)


cdef uint8_t replay_product(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    if <uint32_t>e.product != s.product_count or s.product_count >= PRODUCTS_MAX:
        return FAULT_NUMBER
    if not 1 <= e.seats <= PRODUCT_SIZE_MAX:
        return FAULT_VALUE
    if e.size != EVENT_SIZE + padded(<uint32_t>e.seats):
        return FAULT_SIZE
    if product_find(s, data + EVENT_SIZE, <uint32_t>e.seats) != NO_PRODUCT:
        return FAULT_NUMBER
    product_add(s, data + EVENT_SIZE, <uint32_t>e.seats)
    return FAULT_NONE


cdef uint8_t replay_pool(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    cdef PoolBody body
    cdef Pool pool
    if <uint32_t>e.pool != s.pool_count or s.pool_count >= POOLS_MAX or <uint32_t>e.product >= s.product_count:
        return FAULT_NUMBER
    if e.size != EVENT_SIZE + sizeof(PoolBody):
        return FAULT_SIZE
    memcpy(&body, data + EVENT_SIZE, sizeof(PoolBody))
    if body.model > 3 or body.sharing > SHARING_USER_HOST or body.is_emulated > 1 or body.share_max > 0x80000000u:
        return FAULT_VALUE
    if not (1 <= e.seats <= WEIGHT_MAX and 0 <= body.linger <= TTL_MAX_NS and 0 <= body.min_hold <= TTL_MAX_NS):
        return FAULT_VALUE
    if s.products[e.product].pool_count >= POOLS_OF_PRODUCT_MAX:
        return FAULT_NUMBER
    pool_init(&pool, <uint32_t>e.product, e.seats, &body)
    pool_add(s, &pool)
    return FAULT_NONE


cdef uint8_t replay_run_started(State* s, const EventHeader* e) noexcept nogil:
    if not 0 < e.seats < 1 << 23 or <uint32_t>e.seats <= s.replay.generation or <uint64_t>e.seats > s.fence_next >> 40:
        return FAULT_GENERATION
    s.replay.generation = <uint32_t>e.seats
    s.replay.is_ended = False
    return replay_wall(s, e)


cdef uint8_t replay_wall(State* s, const EventHeader* e) noexcept nogil:
    if not is_time(<int64_t>e.detail):
        return FAULT_VALUE
    s.replay.wall_max = max(s.replay.wall_max, <int64_t>e.detail)
    return FAULT_NONE


# --- one event ------------------------------------------------------------------------------------------------------------------

cdef uint8_t replay_one(State* s, const EventHeader* e, const uint8_t* data, bint is_expected) noexcept nogil:
    if e.kind == EVENT_SESSION_OPENED:
        return replay_opened(s, e, data)
    if e.kind == EVENT_LEASE_STARTED:
        return replay_lease_started(s, e, is_expected)
    if e.kind == EVENT_LEASE_ENDED:
        return replay_lease_ended(s, e)
    if e.kind == EVENT_SESSION_ENDED:
        return replay_session_ended(s, e)
    if e.kind == EVENT_REQUEST_DONE:
        return replay_request(s, e, data)
    if e.kind == EVENT_CHARGE_FREED:
        return FAULT_NONE if is_expected else replay_charge_freed(s, e)
    if e.kind == EVENT_CHARGE_LINGERS:
        return FAULT_NONE if is_expected else FAULT_CHARGE
    if e.kind == EVENT_CHARGE_MOVED:
        return replay_charge_moved(s, e)
    if e.kind == EVENT_LEASES_ACKNOWLEDGED:
        return replay_acknowledged(s, e)
    return replay_of_site(s, e, data)


cdef uint8_t replay_of_site(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    """The control plane's, and what changes nothing that lasts: denials, capacity and key grace are of a run."""
    if e.kind == EVENT_PRODUCT_DECLARED:
        return replay_product(s, e, data)
    if e.kind == EVENT_POOL_DECLARED:
        return replay_pool(s, e, data)
    if e.kind == EVENT_WALL_CLOCK:
        return replay_wall(s, e)
    if e.kind == EVENT_RUN_STARTED:
        return replay_run_started(s, e)
    if e.kind == EVENT_RUN_ENDED:
        s.replay.is_ended = True
        return FAULT_NONE
    if e.kind == EVENT_DENIED or EVENT_CAPACITY_CHANGED <= e.kind <= EVENT_KEY_GRACE_ENDED:
        return FAULT_NONE
    return FAULT_KIND


cdef void forget_due(State* s) noexcept nogil:
    """Requests whose time has come by the event at hand."""
    while queue_due(s, &s.requests_to_forget) <= s.now:
        forget_first(s, &s.requests_to_forget)


cdef uint8_t replay_event(State* s, const uint8_t* data) noexcept nogil:
    """A whole event of a whole command."""
    cdef EventHeader e
    cdef bint is_expected
    memcpy(&e, data, sizeof(EventHeader))
    s.now = e.time
    forget_due(s)
    is_expected = s.replay.expected_kind != 0
    if is_expected and (e.kind != s.replay.expected_kind or e.charge != s.replay.expected_charge):
        return FAULT_EXPECTED
    s.replay.expected_kind = 0
    return replay_one(s, &e, data, is_expected)


# --- a stream of them ----------------------------------------------------------------------------------------------------------------

cdef uint8_t replay_unit(State* s, const uint8_t* data, uint64_t size) noexcept nogil:
    """All events of one command."""
    cdef uint64_t at = 0
    cdef uint32_t event_size
    cdef uint8_t fault
    while at < size:
        fault = replay_event(s, data + at)
        if fault:
            return fault
        memcpy(&event_size, data + at, 4)
        at += event_size
    return FAULT_EXPECTED if s.replay.expected_kind else FAULT_NONE


cdef uint8_t event_accept(State* s, const EventHeader* e, uint64_t size) noexcept nogil:
    """Whether it is the next one, whatever it says. The time is that of the last event seen, be it done or not."""
    if e.size < EVENT_SIZE or e.size % 8 or e.size > size or e.size > UNIT_SIZE_MAX:
        return FAULT_SIZE
    if e.sequence != s.ring.sequence + 1:
        return FAULT_SEQUENCE
    if not is_time(e.time) or e.time < s.replay.time:
        return FAULT_TIME
    s.ring.sequence = e.sequence
    s.replay.time = e.time
    return FAULT_NONE


cdef uint8_t replay_gathered(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    """An event of a command of several."""
    cdef uint8_t fault = FAULT_NONE
    if s.replay.pending_size + e.size > UNIT_SIZE_MAX:
        return FAULT_UNIT
    memcpy(s.replay.pending + s.replay.pending_size, data, e.size)
    s.replay.pending_size += e.size
    if e.flags & FLAG_LAST:
        fault = replay_unit(s, s.replay.pending, s.replay.pending_size)
        s.replay.pending_size = 0
    return fault


cdef uint8_t replay_next(State* s, const EventHeader* e, const uint8_t* data, uint64_t size) noexcept nogil:
    """A new run begins with what was whole in the one before."""
    cdef uint8_t fault
    if s.phase == PHASE_LOADING or e.kind >= STATE_BEGIN:
        return load_next(s, e, data, size)
    fault = event_accept(s, e, size)
    if fault:
        return fault
    if e.kind == EVENT_RUN_STARTED:
        s.replay.pending_size = 0
    if e.kind == EVENT_NOTE and s.replay.pending_size:
        return FAULT_UNIT
    if e.kind == EVENT_NOTE:
        s.now = e.time
        forget_due(s)
        return STOP_AT_NOTE
    if s.replay.pending_size == 0 and e.flags & FLAG_LAST:
        return replay_unit(s, data, e.size)
    return replay_gathered(s, e, data)


cdef uint8_t replay_stream(State* s, const uint8_t* data, uint64_t size, uint64_t* at) noexcept nogil:
    """Events from *at on, which stands at the one that cannot be, or that is a note, or at the end."""
    cdef EventHeader e
    cdef uint8_t fault
    while at[0] < size:
        if size - at[0] < EVENT_SIZE:
            return FAULT_SIZE
        memcpy(&e, data + at[0], sizeof(EventHeader))
        if s.phase == PHASE_RUNNING:
            if s.ring.sequence or s.pool_count or s.product_count:
                return FAULT_PHASE
            s.phase = PHASE_LOADING if e.kind == STATE_BEGIN else PHASE_REPLAYING
            s.replay.time = 0
        fault = replay_next(s, &e, data + at[0], size - at[0])
        if fault:
            return fault
        at[0] += e.size
    return FAULT_NONE


# --- the run begins ------------------------------------------------------------------------------------------------------------------

cdef void totals_begin(State* s) noexcept nogil:
    """What is counted since the start is counted since this one."""
    cdef uint32_t i
    memset(&s.totals, 0, sizeof(Totals))
    for i in range(s.product_count):
        s.products[i].lease_total = 0
        memset(s.products[i].denial_totals, 0, sizeof(s.products[i].denial_totals))
        memset(s.products[i].end_totals, 0, sizeof(s.products[i].end_totals))
    for i in range(s.pool_count):
        s.pools[i].used_peak = s.pools[i].used
        s.pools[i].charge_total = 0


cdef void sessions_begin(State* s) noexcept nogil:
    """Everybody has a full ttl; the places that are free will be taken lowest first."""
    cdef uint32_t place
    cdef Session* session
    for place in range(s.sessions.high):
        session = session_at(s, place)
        if session.state == SESSION_LIVE:
            session.deadline = s.now + <int64_t>session.ttl_ms * NS_PER_MS + s.renew_grace
            heap_add(s, &s.deadlines, session.deadline, place)
    s.sessions.free_count = 0
    for place in range(s.sessions.high, 0, -1):
        if session_at(s, place - 1).state == SESSION_FREE:
            s.sessions.free_numbers[s.sessions.free_count] = place - 1
            s.sessions.free_count += 1


cdef uint8_t run_begin(State* s, int64_t now, int64_t wall) noexcept nogil:
    """Ledger time goes on where the last event was: the time between is skipped. With the event that says so."""
    cdef EventHeader header
    cdef uint32_t generation = <uint32_t>(s.fence_next >> 40)
    if s.phase == PHASE_LOADING:
        return FAULT_MISSING
    if generation <= s.replay.generation or s.fence_next <= s.replay.fence_max:
        return FAULT_GENERATION
    if s.phase == PHASE_REPLAYING:
        s.now = s.replay.time
    s.raw = now
    s.skipped = now - s.now
    s.phase = PHASE_RUNNING
    s.is_recovered = True
    s.replay.pending_size = 0
    s.replay.generation = generation
    s.replay.wall_max = max(s.replay.wall_max, wall)
    s.replay.is_ended = False
    s.ring.unit_sequence = s.ring.sequence
    totals_begin(s)
    sessions_begin(s)
    event_begin(s, &header, EVENT_SIZE, EVENT_RUN_STARTED)
    header.seats = <int32_t>generation
    header.detail = <uint64_t>wall
    ring_write(s, &header, EVENT_SIZE)
    unit_end(s)
    return FAULT_NONE
