# State records: a ledger as a canonical stream of events that rebuilds it, for snapshots. Equal ledgers give equal bytes.
#
#     BEGIN, products, pools, notes by name, live sessions by place, charges by (pool, priority, age), charges with room whose group
#     has several, in their order, remembered requests in the order in which they expire, END
#
# A header as of events (events.pxi), each with flag 1 and with the sequence of the last event that the state holds:
#
#   BEGIN    reason: the last run was ended   fence: the largest so far   charge: wall clock's high-water mark   time: of the last event
#            seats: generation of the last run   deficit: version of this format, 1
#   PRODUCT_DECLARED, POOL_DECLARED, NOTE as they are
#   SESSION  time: opened   seats: lease records   detail: change version;   body and texts of SESSION_OPENED, then 8 bytes a lease:
#            changed version u32   product u16   pool u8   end reason u8 (0: active)
#   CHARGE   time: granted   charge   pool   product   reason: priority   seats: leases   deficit: place of the only session of a charge that
#            is not shared, without a body; else -1 and   64  group u64[2]   80  free at i64 (0: not lingering)   88  places u32, oldest lease
#            first, at most CHARGE_PLACES_MAX; flag 4: the only charge of its group that has room
#   LEASES   charge   seats: places of this record;   64  places u32
#   ROOMY    charge   pool   reason: priority;  of one group from the one that got room first
#   OVER     fence   deficit: place   time: forgotten then   reason: end reason   detail, flag 2: the Close;   body of REQUEST_DONE
#   REQUEST  REQUEST_DONE with   time: forgotten then
#   END      fence: live sessions   charge: charges   detail: active leases   seats: remembered requests
#
# Not in it, because no event tells it: deadlines, what sources give, denials, what is starting. What is due to be forgotten at the time of
# the last event is left out. A record fits into UNIT_SIZE_MAX.

cdef enum:
    STATE_VERSION = 1
    CHARGE_PLACES_MAX = 64
    CHARGE_BODY_SIZE = 24
    STATE_LEASE_SIZE = 8

cdef struct StateLease:
    uint32_t changed_version
    uint16_t product
    uint8_t pool
    uint8_t end_reason

cdef struct ChargeBody:
    uint64_t group[2]
    int64_t free_at

cdef enum DumpStage:
    DUMP_BEGIN = 0
    DUMP_PRODUCTS = 1
    DUMP_POOLS = 2
    DUMP_NOTES = 3                  # Python's
    DUMP_SESSIONS = 4
    DUMP_CHARGES = 5
    DUMP_LEASES = 6                 # more leases of a charge: goes on with a lease
    DUMP_ROOMY = 7                  # goes on with a charge in the order of all
    DUMP_GROUP = 8                  # goes on with a charge of a group
    DUMP_QUEUE = 9
    DUMP_END = 10
    DUMP_DONE = 11

cdef struct Dump:
    uint8_t* target
    uint64_t size
    uint64_t size_max
    uint32_t stage
    uint32_t index


# --- writing -----------------------------------------------------------------------------------------------------------------

cdef int64_t last_event_time(State* s) noexcept nogil:
    cdef int64_t time = s.replay.time
    if s.ring.tail:
        memcpy(&time, s.ring.base + (s.ring.last_at + TIME_AT) % s.ring.size, 8)  # 8-aligned: it never wraps
    return time


cdef uint64_t largest_fence(State* s) noexcept nogil:
    """Of all sessions and charges so far."""
    cdef uint64_t latest = s.fence_next - 1
    return latest if latest & ((<uint64_t>1 << 40) - 1) else s.replay.fence_max


cdef inline void record_begin(State* s, EventHeader* header, uint32_t kind, uint32_t size) noexcept nogil:
    memset(header, 0, sizeof(EventHeader))
    header.size = size
    header.kind = <uint16_t>kind
    header.flags = FLAG_LAST
    header.sequence = s.ring.sequence
    header.time = last_event_time(s) if kind < STATE_BEGIN else 0
    header.pool = header.product = -1


cdef uint8_t* record_put(Dump* d, const EventHeader* header) noexcept nogil:
    """Where its body goes, zeros so far; NULL: there is no room."""
    cdef uint8_t* place = d.target + d.size
    if d.size + header.size > d.size_max:
        return NULL
    memcpy(place, header, EVENT_SIZE)
    memset(place + EVENT_SIZE, 0, header.size - EVENT_SIZE)
    d.size += header.size
    return place + EVENT_SIZE


cdef inline void stage_begin(Dump* d, uint32_t stage, uint32_t index) noexcept nogil:
    d.stage = stage
    d.index = index


cdef bint dump_begin(State* s, Dump* d) noexcept nogil:
    cdef EventHeader header
    record_begin(s, &header, STATE_BEGIN, EVENT_SIZE)
    header.reason = s.replay.is_ended
    header.time = last_event_time(s)
    header.fence = largest_fence(s)
    header.charge = <uint64_t>s.replay.wall_max
    header.seats = <int32_t>s.replay.generation
    header.deficit = STATE_VERSION
    stage_begin(d, DUMP_PRODUCTS, 0)
    return record_put(d, &header) != NULL


cdef bint dump_product(State* s, Dump* d) noexcept nogil:
    cdef EventHeader header
    cdef Product* product = &s.products[d.index]
    cdef uint8_t* body
    if d.index >= s.product_count:
        stage_begin(d, DUMP_POOLS, 0)
        return True
    record_begin(s, &header, EVENT_PRODUCT_DECLARED, EVENT_SIZE + padded(product.name_size))
    header.product = <int32_t>d.index
    header.seats = product.name_size
    body = record_put(d, &header)
    if body == NULL:
        return False
    memcpy(body, product.name, product.name_size)
    d.index += 1
    return True


cdef bint dump_pool(State* s, Dump* d) noexcept nogil:
    cdef EventHeader header
    cdef PoolBody filled
    cdef uint8_t* body
    if d.index >= s.pool_count:
        stage_begin(d, DUMP_NOTES, 0)
        return True
    record_begin(s, &header, EVENT_POOL_DECLARED, EVENT_SIZE + sizeof(PoolBody))
    pool_event_fill(s, d.index, &header, &filled)
    body = record_put(d, &header)
    if body == NULL:
        return False
    memcpy(body, &filled, sizeof(PoolBody))
    d.index += 1
    return True


cdef void dump_session_leases(State* s, const Session* session, uint8_t* target) noexcept nogil:
    cdef uint32_t number = session.first_lease
    cdef StateLease entry
    while number != NONE:
        entry.changed_version = lease_at(s, number).changed_version
        entry.product = lease_at(s, number).product
        entry.pool = <uint8_t>lease_at(s, number).pool
        entry.end_reason = lease_at(s, number).end_reason
        memcpy(target, &entry, STATE_LEASE_SIZE)
        target += STATE_LEASE_SIZE
        number = lease_at(s, number).next_of_session


cdef bint dump_session_record(State* s, Dump* d, uint32_t place) noexcept nogil:
    cdef Session* session = session_at(s, place)
    cdef const uint8_t* block = s.texts.base + session.text
    cdef uint32_t text_size = text_size_of(block)
    cdef uint32_t opened = <uint32_t>opened_size(text_size)
    cdef EventHeader header
    cdef OpenedBody filled
    cdef uint8_t* body
    record_begin(s, &header, STATE_SESSION, opened + session.lease_count * STATE_LEASE_SIZE)
    header.time = session.opened
    header.fence = session.fence
    header.seats = session.lease_count
    header.deficit = <int32_t>place
    header.detail = session.change_version
    body = record_put(d, &header)
    if body == NULL:
        return False
    memset(&filled, 0, sizeof(filled))
    memcpy(filled.sizes, block, TEXT_PARTS)
    filled.priority = session.priority
    filled.ttl_ms = session.ttl_ms
    filled.place = place
    memcpy(filled.lookup, request_at(s, session.request).lookup, 16)
    filled.fingerprint = request_at(s, session.request).fingerprint
    memcpy(body, &filled, sizeof(filled))
    memcpy(body + sizeof(filled), block + TEXT_HEADER, text_size)
    dump_session_leases(s, session, body + opened - EVENT_SIZE)
    return True


cdef bint dump_session(State* s, Dump* d) noexcept nogil:
    while d.index < s.sessions.high and session_at(s, d.index).state != SESSION_LIVE:
        d.index += 1
    if d.index >= s.sessions.high:
        stage_begin(d, DUMP_CHARGES, charge_after(s, NONE))
        return True
    if not dump_session_record(s, d, d.index):
        return False
    d.index += 1
    return True


# --- charges in the order of pool, priority, age; a lease's record is freed with it, so that numbers say nothing -----------------------

cdef uint32_t charge_after(State* s, uint32_t number) noexcept nogil:
    """The next one in the order of all; the first for NONE; NONE at the end."""
    cdef uint32_t pool = 0
    cdef int level = 0
    if number != NONE:
        if charge_at(s, number).newer != NONE:
            return charge_at(s, number).newer
        pool = charge_at(s, number).pool
        level = charge_at(s, number).priority + 1
    while pool < s.pool_count:
        while level < PRIORITY_LEVELS:
            if s.pools[pool].levels[level].oldest != NONE:
                return s.pools[pool].levels[level].oldest
            level += 1
        pool += 1
        level = 0
    return NONE


cdef uint32_t oldest_lease(State* s, const Charge* charge) noexcept nogil:
    cdef uint32_t lease = charge.first_lease
    while lease != NONE and lease_at(s, lease).next_of_charge != NONE:
        lease = lease_at(s, lease).next_of_charge
    return lease


cdef uint32_t dump_places(State* s, uint8_t* target, uint32_t lease, uint32_t count) noexcept nogil:
    """So many sessions of a charge from this lease on; the lease to go on with."""
    cdef uint32_t i
    for i in range(count):
        memcpy(target + 4 * i, &lease_at(s, lease).session, 4)
        lease = lease_at(s, lease).previous_of_charge
    return lease


cdef inline bint is_alone_with_room(const Charge* charge) noexcept nogil:
    return charge.is_roomy and charge.roomy_earlier == NONE and charge.roomy_later == NONE


cdef void charge_header(State* s, EventHeader* header, const Charge* charge) noexcept nogil:
    header.charge = charge.fence
    header.pool = charge.pool
    header.product = s.pools[charge.pool].product
    header.reason = charge.priority


cdef bint dump_charge(State* s, Dump* d) noexcept nogil:
    cdef uint32_t number = d.index
    cdef uint32_t count, lease
    cdef Charge* charge
    cdef EventHeader header
    cdef ChargeBody filled
    cdef uint8_t* body
    cdef bint is_plain
    if number == NONE:
        stage_begin(d, DUMP_ROOMY, charge_after(s, NONE))
        return True
    charge = charge_at(s, number)
    is_plain = s.pools[charge.pool].sharing == SHARING_SESSION and charge.lease_count == 1
    count = min(charge.lease_count, <uint32_t>CHARGE_PLACES_MAX)
    record_begin(s, &header, STATE_CHARGE, EVENT_SIZE if is_plain else EVENT_SIZE + CHARGE_BODY_SIZE + padded(4 * count))
    charge_header(s, &header, charge)
    header.time = charge.granted
    header.seats = <int32_t>charge.lease_count
    header.deficit = <int32_t>lease_at(s, charge.first_lease).session if is_plain else -1
    if is_alone_with_room(charge):
        header.flags |= FLAG_ALONE
    body = record_put(d, &header)
    if body == NULL:
        return False
    d.index = charge_after(s, number)
    if is_plain:
        return True
    memcpy(filled.group, charge.group, 16)
    filled.free_at = s.lingers.times[charge.heap_position] if charge.lease_count == 0 else 0
    memcpy(body, &filled, CHARGE_BODY_SIZE)
    lease = dump_places(s, body + CHARGE_BODY_SIZE, oldest_lease(s, charge), count)
    if lease != NONE:
        stage_begin(d, DUMP_LEASES, lease)
    return True


cdef bint dump_leases(State* s, Dump* d) noexcept nogil:
    """More of the leases of a charge, from the one at which its record ended."""
    cdef uint32_t lease = d.index
    cdef uint32_t number = lease_at(s, lease).charge
    cdef uint32_t count = 0
    cdef EventHeader header
    cdef uint8_t* body
    while lease != NONE and count < CHARGE_PLACES_MAX:
        count += 1
        lease = lease_at(s, lease).previous_of_charge
    record_begin(s, &header, STATE_LEASES, EVENT_SIZE + padded(4 * count))
    charge_header(s, &header, charge_at(s, number))
    header.seats = <int32_t>count
    body = record_put(d, &header)
    if body == NULL:
        return False
    dump_places(s, body, d.index, count)
    if lease != NONE:
        d.index = lease
    else:
        stage_begin(d, DUMP_CHARGES, charge_after(s, number))
    return True


cdef bint dump_roomy(State* s, Dump* d) noexcept nogil:
    """Goes on to the next charge that is the first of several of its group."""
    cdef const Charge* charge
    while d.index != NONE:
        charge = charge_at(s, d.index)
        if charge.is_roomy and charge.roomy_earlier == NONE and charge.roomy_later != NONE:
            stage_begin(d, DUMP_GROUP, d.index)
            return True
        d.index = charge_after(s, d.index)
    stage_begin(d, DUMP_QUEUE, 0)
    return True


cdef bint dump_group(State* s, Dump* d) noexcept nogil:
    cdef uint32_t number = d.index
    cdef EventHeader header
    record_begin(s, &header, STATE_ROOMY, EVENT_SIZE)
    charge_header(s, &header, charge_at(s, number))
    if record_put(d, &header) == NULL:
        return False
    if charge_at(s, number).roomy_later != NONE:
        d.index = charge_at(s, number).roomy_later
        return True
    while charge_at(s, number).roomy_earlier != NONE:  # back to the first, at which the order of all was left
        number = charge_at(s, number).roomy_earlier
    stage_begin(d, DUMP_ROOMY, charge_after(s, number))
    return True


# --- what is remembered --------------------------------------------------------------------------------------------------------------

cdef bint dump_request_record(State* s, Dump* d, EventHeader* header, uint32_t number) noexcept nogil:
    cdef Request* request = request_at(s, number)
    cdef RequestBody filled
    cdef uint8_t* body = record_put(d, header)
    if body == NULL:
        return False
    memset(&filled, 0, sizeof(filled))
    memcpy(filled.lookup, request.lookup, 16)
    filled.fingerprint = request.fingerprint
    filled.kind = request.kind
    memcpy(body, &filled, sizeof(filled))
    return True


cdef bint dump_over(State* s, Dump* d, uint32_t place) noexcept nogil:
    cdef Session* session = session_at(s, place)
    cdef EventHeader header
    if session.state != SESSION_OVER or session.deadline <= last_event_time(s):
        return True
    record_begin(s, &header, STATE_OVER, REQUEST_EVENT_SIZE)
    header.fence = session.fence
    header.deficit = <int32_t>place
    header.time = session.deadline
    header.reason = session.end_reason
    if session.is_close_remembered:
        header.detail = <uint64_t>session.opened
        header.flags |= FLAG_CLOSE
    return dump_request_record(s, d, &header, session.request)


cdef bint dump_request(State* s, Dump* d, uint32_t number) noexcept nogil:
    cdef Request* request = request_at(s, number)
    cdef EventHeader header
    if request.expires <= last_event_time(s):
        return True
    record_begin(s, &header, STATE_REQUEST, REQUEST_EVENT_SIZE)
    header.fence = request.owner
    header.time = request.expires
    header.seats = request.was_held
    return dump_request_record(s, d, &header, number)


cdef bint dump_queue(State* s, Dump* d) noexcept nogil:
    cdef uint32_t link
    cdef bint is_done
    if d.index >= s.requests_to_forget.count:
        stage_begin(d, DUMP_END, 0)
        return True
    link = queue_at(&s.requests_to_forget, d.index)
    is_done = dump_over(s, d, link & ~SESSION_LINK) if link & SESSION_LINK else dump_request(s, d, link)
    if is_done:
        d.index += 1
    return is_done


cdef uint64_t linked_lease_count(State* s) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint32_t i
    for i in range(s.pool_count):
        count += s.pools[i].lease_count
    return count


cdef bint dump_end(State* s, Dump* d) noexcept nogil:
    cdef EventHeader header
    record_begin(s, &header, STATE_END, EVENT_SIZE)
    header.fence = s.session_count
    header.charge = s.charges.live
    header.detail = linked_lease_count(s)
    if record_put(d, &header) == NULL:
        return False
    stage_begin(d, DUMP_DONE, 0)
    return True


cdef bint dump_step(State* s, Dump* d) noexcept nogil:
    """One record, or on to the next stage. False: it finds no room."""
    if d.stage == DUMP_SESSIONS:
        return dump_session(s, d)
    if d.stage == DUMP_CHARGES:
        return dump_charge(s, d)
    if d.stage == DUMP_LEASES:
        return dump_leases(s, d)
    if d.stage == DUMP_ROOMY:
        return dump_roomy(s, d)
    if d.stage == DUMP_GROUP:
        return dump_group(s, d)
    if d.stage == DUMP_QUEUE:
        return dump_queue(s, d)
    if d.stage == DUMP_PRODUCTS:
        return dump_product(s, d)
    if d.stage == DUMP_POOLS:
        return dump_pool(s, d)
    return dump_begin(s, d) if d.stage == DUMP_BEGIN else dump_end(s, d)


cdef void dump_run(State* s, Dump* d) noexcept nogil:
    """Until there is no more room, or it is the turn of the notes, or all is written."""
    while d.stage != DUMP_NOTES and d.stage != DUMP_DONE and dump_step(s, d):
        pass


# --- reading -------------------------------------------------------------------------------------------------------------------------

cdef uint8_t load_begin(State* s, const EventHeader* e) noexcept nogil:
    if e.deficit != STATE_VERSION:
        return FAULT_VERSION
    if not is_time(e.time) or not is_time(<int64_t>e.charge) or e.reason > 1 or e.size != EVENT_SIZE:
        return FAULT_VALUE
    if e.seats < 0 or <uint64_t>e.seats > s.fence_next >> 40:
        return FAULT_GENERATION
    s.ring.sequence = e.sequence
    s.now = s.replay.time = e.time
    s.replay.fence_max = e.fence
    s.replay.wall_max = <int64_t>e.charge
    s.replay.generation = <uint32_t>e.seats
    s.replay.is_ended = e.reason
    return FAULT_NONE


cdef uint32_t lease_put(State* s, uint32_t session_number, const StateLease* entry) noexcept nogil:
    """A lease record that stands on no charge (yet)."""
    cdef uint32_t number = lease_take(s, session_number, entry.product, entry.pool)
    cdef Lease* lease = lease_at(s, number)
    if entry.end_reason:
        lease.state = LEASE_ENDED
        lease.end_reason = entry.end_reason
        lease.changed_version = entry.changed_version
        session_at(s, session_number).ended_count += 1
    else:
        s.replay.leases_missing += 1
    return number


cdef uint8_t load_leases(State* s, const EventHeader* e, const uint8_t* data, uint32_t place) noexcept nogil:
    cdef StateLease entry
    cdef uint8_t fault
    cdef int32_t i
    for i in range(e.seats):
        memcpy(&entry, data + i * STATE_LEASE_SIZE, STATE_LEASE_SIZE)
        if entry.pool >= s.pool_count or s.pools[entry.pool].product != entry.product:
            return FAULT_NUMBER
        if entry.end_reason >= END_REASON_COUNT or (entry.end_reason != 0) != (entry.changed_version != 0) or entry.changed_version > e.detail:
            return FAULT_VALUE
        if entry.end_reason == 0 and active_lease(s, place, entry.product) != NONE:
            return FAULT_LEASE
        fault = lease_bound(s, place)
        if fault:
            return fault
        lease_put(s, place, &entry)
    return FAULT_NONE


cdef uint8_t load_session(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    cdef uint32_t place = <uint32_t>e.deficit
    cdef uint32_t opened
    cdef OpenedBody body
    cdef Command command
    cdef uint8_t fault
    if e.size < OPENED_FIXED_SIZE:
        return FAULT_SIZE
    memcpy(&body, data + EVENT_SIZE, sizeof(OpenedBody))
    fault = opened_read(s, e, &body, data + OPENED_FIXED_SIZE, e.size - OPENED_FIXED_SIZE, &command)
    if fault:
        return fault
    opened = <uint32_t>opened_size(command.text_size)
    if not 0 <= e.seats <= LEASES_OF_SESSION_MAX or e.size != opened + <uint32_t>e.seats * STATE_LEASE_SIZE:
        return FAULT_SIZE
    if not 1 <= e.detail < NONE or not is_time(e.time) or e.time > s.replay.time:
        return FAULT_VALUE
    if not 0 < e.fence <= s.replay.fence_max:
        return FAULT_FENCE
    fault = opened_put(s, e, &command)
    if fault:
        return fault
    session_at(s, place).opened = e.time
    session_at(s, place).change_version = <uint32_t>e.detail
    return load_leases(s, e, data + opened, place)


cdef uint8_t link_places(State* s, uint32_t number, const uint8_t* places, uint32_t count) noexcept nogil:
    """The next leases of a charge, oldest first."""
    cdef Charge* charge = charge_at(s, number)
    cdef uint32_t i, place, lease
    for i in range(count):
        memcpy(&place, places + 4 * i, 4)
        if place >= s.sessions.high or session_at(s, place).state != SESSION_LIVE:
            return FAULT_SESSION
        lease = active_lease(s, place, s.pools[charge.pool].product)
        if lease == NONE or lease_at(s, lease).charge != NONE or lease_at(s, lease).pool != charge.pool:
            return FAULT_LEASE
        charge_link(s, number, lease)
        s.replay.leases_missing -= 1
    return FAULT_NONE


cdef uint8_t charge_check(State* s, const EventHeader* e) noexcept nogil:
    cdef uint32_t newest
    if not is_pool_named(s, e) or e.reason >= PRIORITY_LEVELS:
        return FAULT_NUMBER
    if not is_time(e.time) or e.time > s.replay.time or e.seats < 0:
        return FAULT_VALUE
    newest = s.pools[e.pool].levels[e.reason].newest
    if not 0 < e.charge <= s.replay.fence_max or (newest != NONE and charge_at(s, newest).fence >= e.charge):
        return FAULT_FENCE
    if share_max_of(&s.pools[e.pool]) and <uint32_t>e.seats > share_max_of(&s.pools[e.pool]):
        return FAULT_CHARGE
    return FAULT_NONE if slab_free_count(&s.charges) else FAULT_CHARGES_MAX


cdef uint8_t charge_body_read(State* s, const EventHeader* e, const uint8_t* data, ChargeBody* body, uint32_t* place, uint32_t* count) noexcept nogil:
    """Its group, its linger, and how many of its leases stand in this record."""
    count[0] = min(<uint32_t>e.seats, <uint32_t>CHARGE_PLACES_MAX)
    if e.size == EVENT_SIZE:
        place[0] = <uint32_t>e.deficit
        if s.pools[e.pool].sharing != SHARING_SESSION or e.seats != 1 or place[0] >= s.sessions.high:
            return FAULT_CHARGE
        body.group[0] = session_at(s, place[0]).fence
        body.group[1] = 0
        body.free_at = 0
        return FAULT_NONE
    if e.size != EVENT_SIZE + CHARGE_BODY_SIZE + padded(4 * count[0]):
        return FAULT_SIZE
    memcpy(body, data + EVENT_SIZE, CHARGE_BODY_SIZE)
    return FAULT_NONE if is_time(body.free_at) and (body.free_at != 0) == (e.seats == 0) else FAULT_VALUE


cdef uint8_t load_charge(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    cdef ChargeBody body
    cdef uint32_t number, count, place
    cdef uint8_t fault = charge_check(s, e)
    if fault == FAULT_NONE:
        fault = charge_body_read(s, e, data, &body, &place, &count)
    if fault:
        return fault
    number = charge_put(s, e.charge, e.time, <uint32_t>e.pool, e.reason, body.group)
    s.replay.last_charge = number
    s.replay.last_missing = <uint32_t>e.seats - count
    s.replay.is_last_alone = (e.flags & FLAG_ALONE) != 0
    if e.seats == 0:
        s.pools[e.pool].lingering_count += 1
        heap_add(s, &s.lingers, body.free_at, number)
    fault = link_places(s, number, <const uint8_t*>&place if e.size == EVENT_SIZE else data + EVENT_SIZE + CHARGE_BODY_SIZE, count)
    return fault if fault else charge_complete(s)


cdef uint8_t charge_complete(State* s) noexcept nogil:
    """Once all its leases are there: whether it has room, alone or with others of its group, which come later."""
    cdef uint32_t number = s.replay.last_charge
    cdef Charge* charge = charge_at(s, number)
    cdef bint has_room
    if s.replay.last_missing:
        return FAULT_NONE
    has_room = has_share_room(&s.pools[charge.pool], charge)
    if s.replay.is_last_alone:
        if not has_room or roomy_charge(s, charge.pool, charge.group) != NONE:
            return FAULT_CHARGE
        roomy_add(s, number)
    elif has_room:
        s.replay.roomy_missing += 1
    return FAULT_NONE


cdef uint8_t load_more_leases(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    cdef uint8_t fault
    if s.replay.last_missing == 0 or charge_at(s, s.replay.last_charge).fence != e.charge:
        return FAULT_CHARGE
    if not 1 <= e.seats <= CHARGE_PLACES_MAX or <uint32_t>e.seats > s.replay.last_missing:
        return FAULT_VALUE
    if e.size != EVENT_SIZE + padded(4 * <uint32_t>e.seats):
        return FAULT_SIZE
    s.replay.last_missing -= <uint32_t>e.seats
    fault = link_places(s, s.replay.last_charge, data + EVENT_SIZE, <uint32_t>e.seats)
    return fault if fault else charge_complete(s)


cdef uint32_t charge_of_level(State* s, const Level* level, uint64_t fence) noexcept nogil:
    """The charge of this fence; NONE. While loading, the charges of a level have ascending numbers as they have ascending fences."""
    cdef uint32_t low = level.oldest
    cdef uint32_t high = level.newest
    cdef uint32_t middle
    if low == NONE:
        return NONE
    while low < high:
        middle = low + (high - low) // 2
        if charge_at(s, middle).fence < fence:
            low = middle + 1
        else:
            high = middle
    return low if charge_at(s, low).fence == fence else NONE


cdef uint8_t load_roomy(State* s, const EventHeader* e) noexcept nogil:
    cdef uint32_t number
    cdef Charge* charge
    if not is_pool_named(s, e) or e.reason >= PRIORITY_LEVELS:
        return FAULT_NUMBER
    number = charge_of_level(s, &s.pools[e.pool].levels[e.reason], e.charge)
    if number == NONE:
        return FAULT_CHARGE
    charge = charge_at(s, number)
    if charge.is_roomy or charge.pool != e.pool or not has_share_room(&s.pools[e.pool], charge) or s.replay.roomy_missing == 0:
        return FAULT_CHARGE
    roomy_add(s, number)
    s.replay.roomy_missing -= 1
    return FAULT_NONE


cdef void over_put(State* s, const EventHeader* e, const RequestBody* body) noexcept nogil:
    cdef uint32_t place = <uint32_t>e.deficit
    cdef Session* session = session_at(s, place)
    cdef uint8_t sizes[TEXT_PARTS]
    cdef Command command
    slab_take_at(&s.sessions, place)
    memset(sizes, 0, TEXT_PARTS)
    memcpy(command.lookup, body.lookup, 16)
    command.fingerprint = body.fingerprint
    session.fence = e.fence
    session.deadline = e.time
    session.opened = <int64_t>e.detail
    session.text = text_store(s, sizes, sizes, 0)
    session.first_lease = session.heap_position = NONE
    session.lease_count = session.ended_count = 0
    session.instance_hash = 0
    session.state = SESSION_OVER
    session.end_reason = e.reason
    session.is_close_remembered = (e.flags & FLAG_CLOSE) != 0
    s.close_count += session.is_close_remembered
    session.request = request_add(s, &command, REQUEST_OPENED, place)
    queue_add(&s.requests_to_forget, place | SESSION_LINK)


cdef uint8_t load_over(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    cdef RequestBody body
    cdef uint32_t place = <uint32_t>e.deficit
    cdef uint8_t fault = request_read(s, e, data, &body)
    if fault:
        return fault
    if place >= s.sessions.count_max:
        return FAULT_REQUESTS_MAX
    if session_at(s, place).state != SESSION_FREE:
        return FAULT_PLACE
    if not 0 < e.fence <= s.replay.fence_max:
        return FAULT_FENCE
    if not 0 < e.reason < END_REASON_COUNT or not is_time(e.time) or body.kind != REQUEST_OPENED:
        return FAULT_VALUE
    if text_find_room(s, text_class(0)) == NO_TEXT_ROOM:
        return FAULT_TEXT_MAX
    if e.flags & FLAG_CLOSE and remembered_count(s) + 2 > s.requests.count_max - s.denials.count_max:
        return FAULT_REQUESTS_MAX
    over_put(s, e, &body)
    return FAULT_NONE


cdef uint8_t load_request(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    cdef RequestBody body
    cdef uint8_t fault = request_read(s, e, data, &body)
    if fault == FAULT_NONE and not is_time(e.time):
        fault = FAULT_VALUE
    return fault if fault else request_put(s, e, &body, e.time)


cdef uint8_t load_end(State* s, const EventHeader* e) noexcept nogil:
    if s.replay.leases_missing or s.replay.last_missing or s.replay.roomy_missing:
        return FAULT_MISSING
    if e.fence != s.session_count or e.charge != s.charges.live or e.detail != linked_lease_count(s):
        return FAULT_MISSING
    s.phase = PHASE_REPLAYING
    return FAULT_NONE


cdef uint8_t load_one(State* s, const EventHeader* e, const uint8_t* data) noexcept nogil:
    if s.replay.last_missing and e.kind != STATE_LEASES:
        return FAULT_MISSING
    if e.kind == STATE_CHARGE:
        return load_charge(s, e, data)
    if e.kind == STATE_SESSION:
        return load_session(s, e, data)
    if e.kind == STATE_OVER:
        return load_over(s, e, data)
    if e.kind == STATE_REQUEST:
        return load_request(s, e, data)
    if e.kind == STATE_LEASES:
        return load_more_leases(s, e, data)
    if e.kind == STATE_ROOMY:
        return load_roomy(s, e)
    if e.kind == EVENT_PRODUCT_DECLARED:
        return replay_product(s, e, data)
    if e.kind == EVENT_POOL_DECLARED:
        return replay_pool(s, e, data)
    if e.kind == EVENT_NOTE:
        return STOP_AT_NOTE
    return load_end(s, e) if e.kind == STATE_END else FAULT_KIND


cdef uint8_t load_next(State* s, const EventHeader* e, const uint8_t* data, uint64_t size) noexcept nogil:
    """A record of a snapshot."""
    if s.phase != PHASE_LOADING:
        return FAULT_PHASE
    if e.size < EVENT_SIZE or e.size % 8 or e.size > size or e.size > UNIT_SIZE_MAX:
        return FAULT_SIZE
    if e.kind == STATE_BEGIN:
        return load_begin(s, e) if s.ring.sequence == 0 and s.replay.time == 0 else FAULT_PHASE
    if e.sequence != s.ring.sequence:
        return FAULT_SEQUENCE
    return load_one(s, e, data)
