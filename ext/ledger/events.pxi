# Events: what changed, in the order of the changes, for the journal, the history and the watchers.
#
#   0  size u32   kind u16  reason u8  flags u8      size: header and body, a multiple of 8; flags: 1, the last of its command
#   8  sequence u64                                  grows by one with each event of a run
#  16  time i64                                      ledger time
#  24  session fence u64    32  charge fence u64
#  40  pool i32  44 product i32  48 seats i32  52 deficit i32  56 detail u64            = 64 bytes
#
#  deficit: of CAPACITY_CHANGED; of what names a session its place, the number of its record.
#  detail: LEASE_ENDED: the change version that tells of it, 0: the record goes. CHARGE_MOVED: place of the session that is superseded, + 1;
#  0: a lingering charge is retaken. SESSION_ENDED: keyed hash of the remembered Close, with flag 2. WALL_CLOCK, RUN_STARTED: wall time.
#  LEASES_ACKNOWLEDGED: up to this version.
#
#  SESSION_OPENED only:
#  64  sizes u8[6]  priority u8  -  72  ttl_ms u32  place u32  80  lookup u64[2]  96  fingerprint u64  104  texts, padded to 8
#
#  REQUEST_DONE (seats: was_held):     64  lookup u64[2]  80  fingerprint u64  88  kind u8 (RequestKind)  zeros to 96
#  PRODUCT_DECLARED (seats: size):     64  name, padded to 8
#  POOL_DECLARED (seats: weight):      64  model u8  sharing u8  is_emulated u8  -  68  share_max u32  72  linger i64  80  min_hold i64
#  NOTE (seats, deficit: sizes):       64  name, value, padded to 8
#  RUN_STARTED (seats: generation)
#
# A command's events end with one that has flag 1, and readers get whole commands as far as their buffer holds them, so that a
# log never has half a command in a block. What is replayed is drawn in replay.pxi and state.pxi.
#
# Room for the worst case is asked for before the ledger decides (semantics rule 26). The last EVENT_RESERVE bytes are
# for the control plane: keys come and go even when nobody drains the ring. A lossy ring (durability none) has room always: its
# oldest events give way. broker/model/events.py reads the events.

cdef enum:
    EVENT_SIZE = 64
    OPENED_FIXED_SIZE = 104
    REQUEST_EVENT_SIZE = 96
    FLAG_LAST = 1
    FLAG_CLOSE = 2
    NEWEST_PAGE_SHIFT = 10
    FLAGS_AT = 7                    # in the header: 8-aligned as it is, this never wraps
    TIME_AT = 16

cdef enum Cut:                      # where a reading may end when there is more than fits
    CUT_AT_EVENT = 0
    CUT_AT_COMMAND = 1              # at an event only where not one command fits
    CUT_AT_COMMAND_ONLY = 2
    RING_AHEAD = 512                # where the ring is asked for before it is written: it is larger than the caches

cdef struct EventHeader:
    uint32_t size
    uint16_t kind
    uint8_t reason
    uint8_t flags
    uint64_t sequence
    int64_t time
    uint64_t fence
    uint64_t charge
    int32_t pool
    int32_t product
    int32_t seats
    int32_t deficit                 # or the session's place
    uint64_t detail

cdef struct OpenedBody:
    uint8_t sizes[6]
    uint8_t priority
    uint8_t padding
    uint32_t ttl_ms
    uint32_t place                  # the session's record: its id names it
    uint64_t lookup[2]
    uint64_t fingerprint

cdef struct RequestBody:
    uint64_t lookup[2]
    uint64_t fingerprint
    uint8_t kind
    uint8_t padding[7]

cdef struct PoolBody:
    uint8_t model
    uint8_t sharing
    uint8_t is_emulated
    uint8_t padding
    uint32_t share_max
    int64_t linger
    int64_t min_hold


# --- the ring ------------------------------------------------------------------------------------------------------------
#
#     oldest ── drained, still readable ── head ── not yet drained ── tail
#
# Drained events stay until their bytes are needed, for readers with cursors of their own. Who writes walks `oldest` forward over
# whole events; it stands where the next event will, so that its line is asked for already. In a ring that is not lossy it never
# passes head: room was asked for before. In a lossy one the events that nobody drained give way too, and are counted.

cdef inline uint64_t ring_free(State* s) noexcept nogil:
    return s.ring.size - (s.ring.tail - s.ring.head)


cdef inline bint has_room(State* s, uint64_t size) noexcept nogil:
    """Whether a client command, or time passing, may write so much."""
    return s.ring.is_lossy or ring_free(s) >= size + EVENT_RESERVE


cdef inline uint64_t ring_step(const Ring* ring, uint64_t at, uint64_t size) noexcept nogil:
    at += size
    return at - ring.size if at >= ring.size else at


cdef inline uint32_t event_size_at(const Ring* ring, uint64_t at) noexcept nogil:
    """Events are 8-aligned, and so is the ring's size: a size never wraps."""
    cdef uint32_t size
    memcpy(&size, ring.base + at, 4)
    return size


cdef inline void ring_make_room(State* s, uint64_t size) noexcept nogil:
    cdef Ring* ring = &s.ring
    cdef uint32_t oldest_size
    while ring.size - (ring.tail - ring.oldest) < size:
        oldest_size = event_size_at(ring, ring.oldest_at)
        if ring.oldest == ring.head:
            USHER_ASSERT(ring.is_lossy)
            ring.head += oldest_size
            s.totals.events_dropped += 1
        ring.oldest += oldest_size
        ring.oldest_at = ring_step(ring, ring.oldest_at, oldest_size)


cdef void ring_write(State* s, const void* data, uint64_t size) noexcept nogil:
    cdef uint64_t start = s.ring.tail_at
    cdef uint64_t first = min(size, s.ring.size - start)
    memcpy(s.ring.base + start, data, first)
    if first < size:
        memcpy(s.ring.base, <const uint8_t*>data + first, size - first)
    s.ring.tail += size
    s.ring.tail_at = ring_step(&s.ring, start, size)
    prefetch(s.ring.base + ring_step(&s.ring, s.ring.tail_at, RING_AHEAD))


cdef uint64_t whole_events_size(const Ring* ring, uint64_t position, uint64_t size_max, Cut cut) noexcept nogil:
    """Bytes of the events from a position on that fit whole. 0 also for a position inside an event, as far as that can be seen."""
    cdef uint64_t available = ring.tail - position
    cdef uint64_t at = position % ring.size
    cdef uint64_t size = 0
    cdef uint64_t unit_size = 0
    cdef uint32_t event_size
    if available <= size_max:
        return available
    while True:
        event_size = event_size_at(ring, at)
        if event_size < EVENT_SIZE or event_size % 8 or size + event_size > size_max:
            if cut == CUT_AT_EVENT or (cut == CUT_AT_COMMAND and unit_size == 0):
                return size
            return unit_size
        size += event_size
        if ring.base[at + FLAGS_AT] & FLAG_LAST:
            unit_size = size
        at = ring_step(ring, at, event_size)


cdef uint64_t ring_read(const Ring* ring, EventCursor* cursor, uint8_t* target, uint64_t size_max, Cut cut) noexcept nogil:
    """Copies whole events, oldest first, and moves the cursor behind them; how many bytes."""
    cdef uint64_t position = min(cursor.position, ring.tail)
    cdef uint64_t size, start, first
    if position < ring.oldest:
        cursor.lost_size += ring.oldest - position if position else 0
        position = ring.oldest
    size = whole_events_size(ring, position, size_max, cut)
    start = position % ring.size
    first = min(size, ring.size - start)
    memcpy(target, ring.base + start, first)
    memcpy(target + first, ring.base, size - first)
    cursor.position = position + size
    return size


cdef inline uint64_t ring_next_sequence(const Ring* ring) noexcept nogil:
    """Of the next event to be drained, be it there or still to come."""
    cdef uint64_t sequence
    if ring.head == ring.tail:
        return ring.sequence + 1
    memcpy(&sequence, ring.base + (ring.head + 8) % ring.size, 8)  # 8-aligned: it never wraps, as a whole header may
    return sequence


cdef uint64_t ring_drain(State* s, uint8_t* target, uint64_t size_max) noexcept nogil:
    """As ring_read, for the one reader for whom the ring waits; how many bytes. The sequences of the events grow by one each."""
    cdef EventCursor cursor
    cdef uint64_t size
    cursor.position = s.ring.head
    cursor.lost_size = 0
    size = ring_read(&s.ring, &cursor, target, size_max, CUT_AT_EVENT)
    s.ring.head += size
    return size


# --- writing ---------------------------------------------------------------------------------------------------------------

cdef inline void unit_end(State* s) noexcept nogil:
    """What was written since the last time belongs together: a crash leaves all of it or nothing."""
    if s.ring.unit_sequence != s.ring.sequence:
        s.ring.unit_sequence = s.ring.sequence
        s.ring.base[s.ring.last_at + FLAGS_AT] |= FLAG_LAST


cdef inline void session_touch(State* s, uint32_t number) noexcept nogil:
    """The newest event is the session's."""
    session_at(s, number).newest_page = <uint16_t>((s.ring.tail - 1) >> NEWEST_PAGE_SHIFT)


cdef inline uint64_t session_position(State* s, const Session* session) noexcept nogil:
    """Behind the session's newest event: the end of the newest page, 1 KiB of the ring's positions, that its 16 bits can mean. Never too
    early, and too late by a page, or once in 64 MiB by chance. One that has none in this run was committed before it."""
    cdef uint64_t page = (s.ring.tail - 1) >> NEWEST_PAGE_SHIFT
    cdef uint64_t age = <uint16_t>(page - session.newest_page)
    if s.ring.tail == 0 or age > page:
        return s.ring.tail
    return min((page - age + 1) << NEWEST_PAGE_SHIFT, s.ring.tail)


cdef inline void event_begin(State* s, EventHeader* header, uint32_t size, uint16_t kind) noexcept nogil:
    """A header that says nothing yet; its event gets the next sequence."""
    memset(header, 0, sizeof(EventHeader))
    ring_make_room(s, size)
    s.ring.sequence += 1
    s.ring.last_at = s.ring.tail_at
    header.size = size
    header.kind = kind
    header.sequence = s.ring.sequence
    header.time = s.now
    header.pool = header.product = -1


cdef void emit(
    State* s, uint16_t kind, uint8_t reason, uint64_t fence, uint64_t charge,
    int32_t pool, int32_t product, int64_t seats, int64_t deficit, uint64_t detail, uint8_t flags,
) noexcept nogil:
    """Nothing while what is replayed is done again: it stands in the log already."""
    cdef EventHeader header
    if s.phase != PHASE_RUNNING:
        return
    ring_make_room(s, EVENT_SIZE)
    s.ring.sequence += 1
    s.ring.last_at = s.ring.tail_at
    header.size = EVENT_SIZE
    header.kind = kind
    header.reason = reason
    header.flags = flags
    header.sequence = s.ring.sequence
    header.time = s.now
    header.fence = fence
    header.charge = charge
    header.pool = pool
    header.product = product
    header.seats = <int32_t>seats
    header.deficit = <int32_t>deficit
    header.detail = detail
    ring_write(s, &header, EVENT_SIZE)
    if fence:
        session_touch(s, <uint32_t>deficit)


cdef inline bint has_control_room(State* s, uint64_t size) noexcept nogil:
    """For an event of the control plane, which may use the reserve."""
    return s.ring.is_lossy or ring_free(s) >= size


cdef void emit_control(
    State* s, uint16_t kind, uint8_t reason, int32_t pool, int32_t product, int64_t seats, int64_t deficit
) noexcept nogil:
    """An event of the control plane: it may use the reserve, and is counted as dropped when even that is full."""
    if not has_control_room(s, EVENT_SIZE):
        s.totals.events_dropped += 1
    else:
        emit(s, kind, reason, 0, 0, pool, product, seats, deficit, 0, 0)


cdef inline void emit_charge(State* s, uint16_t kind, uint8_t reason, const Charge* charge, int64_t seats) noexcept nogil:
    emit(s, kind, reason, 0, charge.fence, charge.pool, s.pools[charge.pool].product, seats, 0, 0, 0)


cdef inline void emit_lease(State* s, uint16_t kind, uint8_t reason, uint32_t session_number, const Charge* charge, int64_t seats, uint64_t detail) noexcept nogil:
    """Of a lease: the session, by fence and place, and the charge."""
    cdef uint64_t fence = session_at(s, session_number).fence
    emit(s, kind, reason, fence, charge.fence, charge.pool, s.pools[charge.pool].product, seats, session_number, detail, 0)


cdef void emit_with_body(State* s, EventHeader* header, const void* body, uint32_t body_size) noexcept nogil:
    """Of an event that was begun; the body is padded with zeros."""
    cdef uint64_t padding = 0
    ring_write(s, header, EVENT_SIZE)
    ring_write(s, body, body_size)
    ring_write(s, &padding, header.size - EVENT_SIZE - body_size)


cdef inline uint32_t padded(uint32_t size) noexcept nogil:
    return (size + 7) & ~<uint32_t>7


cdef void emit_request(State* s, const Request* request, uint32_t session_number) noexcept nogil:
    cdef EventHeader header
    cdef RequestBody body
    if s.phase != PHASE_RUNNING:
        return
    event_begin(s, &header, REQUEST_EVENT_SIZE, EVENT_REQUEST_DONE)
    header.fence = request.owner
    header.seats = request.was_held
    header.deficit = <int32_t>session_number
    memset(&body, 0, sizeof(body))
    memcpy(body.lookup, request.lookup, 16)
    body.fingerprint = request.fingerprint
    body.kind = request.kind
    emit_with_body(s, &header, &body, sizeof(body))
    session_touch(s, session_number)


cdef void emit_product(State* s, uint32_t number) noexcept nogil:
    cdef EventHeader header
    cdef Product* product = &s.products[number]
    event_begin(s, &header, EVENT_SIZE + padded(product.name_size), EVENT_PRODUCT_DECLARED)
    header.product = <int32_t>number
    header.seats = product.name_size
    emit_with_body(s, &header, product.name, product.name_size)


cdef void pool_event_fill(State* s, uint32_t number, EventHeader* header, PoolBody* body) noexcept nogil:
    cdef Pool* pool = &s.pools[number]
    memset(body, 0, sizeof(PoolBody))
    header.pool = <int32_t>number
    header.product = pool.product
    header.seats = pool.weight
    body.model = pool.model
    body.sharing = pool.sharing
    body.is_emulated = pool.is_emulated
    body.share_max = pool.share_max
    body.linger = pool.linger
    body.min_hold = pool.min_hold


cdef void emit_pool(State* s, uint32_t number) noexcept nogil:
    cdef EventHeader header
    cdef PoolBody body
    event_begin(s, &header, EVENT_SIZE + sizeof(PoolBody), EVENT_POOL_DECLARED)
    pool_event_fill(s, number, &header, &body)
    emit_with_body(s, &header, &body, sizeof(PoolBody))


cdef inline uint64_t opened_size(uint32_t text_size) noexcept nogil:
    return OPENED_FIXED_SIZE + ((text_size + 7) & ~<uint32_t>7)


cdef void emit_opened(State* s, uint64_t fence, uint32_t place, const Command* command) noexcept nogil:
    cdef EventHeader header
    cdef OpenedBody body
    cdef uint64_t padding = 0
    cdef uint64_t size = opened_size(command.text_size)
    event_begin(s, &header, <uint32_t>size, EVENT_SESSION_OPENED)
    memset(&body, 0, sizeof(body))
    header.fence = fence
    header.deficit = <int32_t>place
    memcpy(body.sizes, command.sizes, 6)
    body.priority = command.priority
    body.ttl_ms = command.ttl_ms
    body.place = place
    body.lookup[0] = command.lookup[0]
    body.lookup[1] = command.lookup[1]
    body.fingerprint = command.fingerprint
    ring_write(s, &header, EVENT_SIZE)
    ring_write(s, &body, sizeof(body))
    ring_write(s, command.text, command.text_size)
    ring_write(s, &padding, size - OPENED_FIXED_SIZE - command.text_size)
    session_touch(s, place)


# --- denials: singly up to a rate, counted above it ----------------------------------------------------------------

cdef void flush_denials(State* s, DenialBucket* bucket, int32_t product) noexcept nogil:
    """Records the denials that were only counted in an earlier second."""
    if bucket.pending_count and s.now // NS_PER_SECOND != bucket.second:
        emit(s, EVENT_DENIED, bucket.last_reason, 0, 0, -1, product, bucket.pending_count, 0, 0, 0)
        bucket.pending_count = 0


cdef void record_denial(State* s, const DenialRecord* denial) noexcept nogil:
    cdef bint is_known = denial.product != NO_PRODUCT
    cdef DenialBucket* bucket = &s.products[denial.product].bucket if is_known else &s.unknown_bucket
    cdef int32_t product = denial.product if is_known else -1
    cdef int64_t second = s.now // NS_PER_SECOND
    flush_denials(s, bucket, product)
    if bucket.second != second:
        bucket.second = second
        bucket.single_count = 0
    bucket.last_reason = denial.reason
    if bucket.single_count < DENIAL_EVENTS_PER_SECOND:
        bucket.single_count += 1
        emit(s, EVENT_DENIED, denial.reason, 0, 0, -1, product, 1, 0, 0, 0)
    else:
        bucket.pending_count += 1
