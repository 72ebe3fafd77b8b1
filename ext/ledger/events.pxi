# Events: what changed, in the order of the changes, for the journal, the history and the watchers.
#
#   0  size u32   kind u16  reason u8  flags u8      size: header and texts, a multiple of 8
#   8  sequence u64                                  grows by one with each event of a run
#  16  time i64                                      ledger time
#  24  session fence u64    32  charge fence u64
#  40  pool i32  44 product i32  48 seats i32  52 deficit i32  56 reserved u64          = 64 bytes
#  SESSION_OPENED only:
#  64  sizes u8[6]  priority u8  -  72  ttl_ms u32  place u32  80  lookup u64[2]  96  fingerprint u64  104  texts, padded to 8
#
# Room for the worst case is asked for before the ledger decides (semantics rule 26). The last EVENT_RESERVE bytes are
# for the control plane: keys come and go even when nobody drains the ring. broker/model/events.py reads the events.

cdef enum:
    EVENT_SIZE = 64
    OPENED_FIXED_SIZE = 104
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
    int32_t deficit
    uint64_t reserved

cdef struct OpenedBody:
    uint8_t sizes[6]
    uint8_t priority
    uint8_t padding
    uint32_t ttl_ms
    uint32_t place                  # the session's record: its id names it
    uint64_t lookup[2]
    uint64_t fingerprint


cdef inline uint64_t ring_free(State* s) noexcept nogil:
    return s.ring.size - (s.ring.tail - s.ring.head)


cdef inline bint has_room(State* s, uint64_t size) noexcept nogil:
    """Whether a client command, or time passing, may write so much."""
    return ring_free(s) >= size + EVENT_RESERVE


cdef void ring_write(State* s, const void* data, uint64_t size) noexcept nogil:
    cdef uint64_t start = s.ring.tail % s.ring.size
    cdef uint64_t first = min(size, s.ring.size - start)
    memcpy(s.ring.base + start, data, first)
    if first < size:
        memcpy(s.ring.base, <const uint8_t*>data + first, size - first)
    s.ring.tail += size
    prefetch(s.ring.base + (s.ring.tail + RING_AHEAD) % s.ring.size)


cdef void emit(
    State* s, uint16_t kind, uint8_t reason, uint64_t fence, uint64_t charge,
    int32_t pool, int32_t product, int64_t seats, int64_t deficit,
) noexcept nogil:
    cdef EventHeader header
    USHER_ASSERT(ring_free(s) >= EVENT_SIZE)
    s.ring.sequence += 1
    header.size = EVENT_SIZE
    header.kind = kind
    header.reason = reason
    header.flags = 0
    header.sequence = s.ring.sequence
    header.time = s.now
    header.fence = fence
    header.charge = charge
    header.pool = pool
    header.product = product
    header.seats = <int32_t>seats
    header.deficit = <int32_t>deficit
    header.reserved = 0
    ring_write(s, &header, EVENT_SIZE)


cdef void emit_control(
    State* s, uint16_t kind, uint8_t reason, int32_t pool, int32_t product, int64_t seats, int64_t deficit
) noexcept nogil:
    """An event of the control plane: it may use the reserve, and is counted as dropped when even that is full."""
    if ring_free(s) < EVENT_SIZE:
        s.totals.events_dropped += 1
    else:
        emit(s, kind, reason, 0, 0, pool, product, seats, deficit)


cdef inline void emit_charge(State* s, uint16_t kind, uint8_t reason, uint64_t fence, const Charge* charge, int64_t seats) noexcept nogil:
    emit(s, kind, reason, fence, charge.fence, charge.pool, s.pools[charge.pool].product, seats, 0)


cdef inline uint64_t opened_size(uint32_t text_size) noexcept nogil:
    return OPENED_FIXED_SIZE + ((text_size + 7) & ~<uint32_t>7)


cdef void emit_opened(State* s, uint64_t fence, uint32_t place, const Command* command) noexcept nogil:
    cdef EventHeader header
    cdef OpenedBody body
    cdef uint64_t padding = 0
    cdef uint64_t size = opened_size(command.text_size)
    USHER_ASSERT(ring_free(s) >= size)
    memset(&header, 0, sizeof(header))
    memset(&body, 0, sizeof(body))
    s.ring.sequence += 1
    header.size = <uint32_t>size
    header.kind = EVENT_SESSION_OPENED
    header.sequence = s.ring.sequence
    header.time = s.now
    header.fence = fence
    header.pool = header.product = -1
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


cdef uint64_t ring_drain(State* s, uint8_t* target, uint64_t size_max) noexcept nogil:
    """Copies whole events, oldest first; how many bytes. Events are 8-aligned, so a size never wraps."""
    cdef uint64_t size = 0
    cdef uint64_t start, first
    cdef uint32_t event_size
    while s.ring.head + size < s.ring.tail:
        memcpy(&event_size, s.ring.base + (s.ring.head + size) % s.ring.size, 4)
        if size + event_size > size_max:
            break
        size += event_size
    start = s.ring.head % s.ring.size
    first = min(size, s.ring.size - start)
    memcpy(target, s.ring.base + start, first)
    memcpy(target + first, s.ring.base, size - first)
    s.ring.head += size
    return size


# --- denials: singly up to a rate, counted above it ----------------------------------------------------------------

cdef void flush_denials(State* s, DenialBucket* bucket, int32_t product) noexcept nogil:
    """Records the denials that were only counted in an earlier second."""
    if bucket.pending_count and s.now // NS_PER_SECOND != bucket.second:
        emit(s, EVENT_DENIED, bucket.last_reason, 0, 0, -1, product, bucket.pending_count, 0)
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
        emit(s, EVENT_DENIED, denial.reason, 0, 0, -1, product, 1, 0)
    else:
        bucket.pending_count += 1
