# The trail: the last commands, in the order in which they had the mutex, so that the model can do them again after a failure.
#
# A ring of records in segments. A record never crosses a segment's end, so who reads begins at the oldest segment that is whole; who
# writes only compares and stores, which is why a renew can afford it. Session ids do not stand here, only fences (semantics rule 22).
#
#    0  kind u8   status u8   size u16   number u32      of the record; a multiple of 8
#    8  value u64                                                                                 = 16 bytes
#  OPEN, ACQUIRE, RELEASE, CLOSE only:
#   16  request id u8[16]   32  hash of the salt u64[2]
#  OPEN only:
#   48  ttl i64   56  sizes u8[6]   priority u8   -   64  texts
#  OPEN, ACQUIRE, RELEASE: the products, each its size u8 and its bytes; then padding to 8
#
# A verb's value is the fence (of the session that it names, or that an Open was answered with), its status the answer's, its
# number: OPEN, ACQUIRE: which products are optional, and their count << 16; RELEASE: 1 << 16; RENEW: the echoed change version.
# The others stand with their numbers, values and bodies in the enum below. A command's time is that of the last TIME before it; it
# is written before it is done, so that the last record of a crash names its cause. broker/model/commands.py reads all this.

cdef enum:
    TRAIL_HEAD_SIZE = 16
    TRAIL_ASKED_SIZE = 48
    TRAIL_OPEN_SIZE = 64

cdef enum:  # TrailKind; 1 to 5 are the verbs
    TRAIL_TIME = 6                  # value: raw
    TRAIL_ADVANCE = 7               # number: items done
    TRAIL_PRODUCT = 8               # number: size; body: name
    TRAIL_POOL = 9                  # number: product; value: share_max; body: TrailPool
    TRAIL_STARTING = 10             # number: pool; value: 0 or 1
    TRAIL_PROVE = 11                # number: source; value: pool; body: seats, proven until, grace until
    TRAIL_LOSE = 12                 # number: source; status: cause; value: grace until
    TRAIL_ADMITTING = 13            # value: 0 or 1
    TRAIL_REVOKE = 14               # status: reason; value: fence
    TRAIL_DRAIN = 15                # value: bytes of events, drained or released by a journal
    TRAIL_WRITABLE = 16             # value: 0 or 1
    TRAIL_LEARNING = 17             # value: until then, raw
    TRAIL_CONTROL = 18              # number: kind of an event of the control plane; value: its bytes

cdef struct TrailHead:
    uint8_t kind
    uint8_t status
    uint16_t size
    uint32_t number
    uint64_t value

cdef struct TrailPool:
    uint8_t model
    uint8_t sharing
    uint8_t is_emulated
    uint8_t reserved
    int32_t weight
    int64_t linger
    int64_t min_hold


cdef bint trail_reserve(State* s) noexcept nogil:
    s.trail.base = <uint8_t*>region_reserve(s, COMMAND_RING_SIZE)
    s.trail.at = s.trail.base
    s.trail.end = s.trail.base + COMMAND_SEGMENT_SIZE
    return s.trail.base != NULL


cdef void trail_turn(State* s) noexcept nogil:
    """The next segment: what stood there is forgotten."""
    cdef Trail* trail = &s.trail
    cdef uint64_t segment = trail.turn % TRAIL_SEGMENTS
    trail.fills[segment] = <uint32_t>(trail.at - (trail.base + segment * COMMAND_SEGMENT_SIZE))
    trail.turn += 1
    trail.at = trail.base + (trail.turn % TRAIL_SEGMENTS) * COMMAND_SEGMENT_SIZE
    trail.end = trail.at + COMMAND_SEGMENT_SIZE


cdef inline TrailHead* trail_add(State* s, uint8_t kind, uint32_t number, uint64_t value, uint32_t size) noexcept nogil:
    """A new record; its body is the caller's to fill. Good until the next one is added."""
    cdef TrailHead* head
    if s.trail.at + size > s.trail.end:
        trail_turn(s)
    head = <TrailHead*>s.trail.at
    s.trail.at += size
    head.kind = kind
    head.status = 0
    head.size = <uint16_t>size
    head.number = number
    head.value = value
    return head


cdef inline void trail_drop(State* s, TrailHead* head) noexcept nogil:
    """The newest record: it turned out to be nothing."""
    s.trail.at = <uint8_t*>head


# --- verbs -----------------------------------------------------------------------------------------------------------------------

cdef uint32_t trail_names_size(const Names* names) noexcept nogil:
    cdef uint32_t size = 0
    cdef uint32_t i
    for i in range(names.count):
        size += 1 + names.sizes[i]
    return size


cdef void trail_put_names(uint8_t* target, const Names* names) noexcept nogil:
    cdef uint32_t i
    for i in range(names.count):
        target[0] = names.sizes[i]
        memcpy(target + 1, names.bytes[i], names.sizes[i])
        target += 1 + names.sizes[i]


cdef TrailHead* trail_asked(State* s, const Command* command) noexcept nogil:
    """Open, Acquire, Release, Close."""
    cdef bint is_open = command.verb == VERB_OPEN
    cdef uint32_t fixed = TRAIL_OPEN_SIZE + command.text_size if is_open else TRAIL_ASKED_SIZE
    cdef uint32_t size = (fixed + trail_names_size(&command.names) + 7) & ~<uint32_t>7
    cdef TrailHead* head = trail_add(s, command.verb, command.optional | command.names.count << 16, 0 if is_open else command.fence, size)
    cdef uint8_t* body = <uint8_t*>head
    memset(body + size - 8, 0, 8)
    memcpy(body + TRAIL_HEAD_SIZE, command.request_id, REQUEST_ID_SIZE)
    memcpy(body + TRAIL_HEAD_SIZE + REQUEST_ID_SIZE, command.salt, 16)
    if is_open:
        memcpy(body + TRAIL_ASKED_SIZE, &command.ttl, 8)
        memcpy(body + TRAIL_ASKED_SIZE + 8, command.sizes, TEXT_PARTS)
        body[TRAIL_OPEN_SIZE - 2] = command.priority
        body[TRAIL_OPEN_SIZE - 1] = 0
        memcpy(body + TRAIL_OPEN_SIZE, command.text, command.text_size)
    trail_put_names(body + fixed, &command.names)
    return head


cdef inline TrailHead* trail_command(State* s, const Command* command) noexcept nogil:
    if command.verb == VERB_RENEW:
        return trail_add(s, VERB_RENEW, <uint32_t>min(command.change_version, <uint64_t>0xFFFFFFFF), command.fence, TRAIL_HEAD_SIZE)
    return trail_asked(s, command)


cdef inline void trail_answered(TrailHead* head, const Outcome* outcome) noexcept nogil:
    head.status = outcome.status
    if head.kind == VERB_OPEN:
        head.value = outcome.fence


# --- the control plane ----------------------------------------------------------------------------------------------------------------

cdef void trail_product(State* s, const uint8_t* name, uint32_t size) noexcept nogil:
    cdef TrailHead* head = trail_add(s, TRAIL_PRODUCT, size, 0, (TRAIL_HEAD_SIZE + size + 7) & ~<uint32_t>7)
    memcpy(<uint8_t*>head + TRAIL_HEAD_SIZE, name, size)


cdef void trail_pool(State* s, const Pool* pool) noexcept nogil:
    cdef TrailHead* head = trail_add(s, TRAIL_POOL, pool.product, pool.share_max, TRAIL_HEAD_SIZE + sizeof(TrailPool))
    cdef TrailPool* body = <TrailPool*>(<uint8_t*>head + TRAIL_HEAD_SIZE)
    memset(body, 0, sizeof(TrailPool))
    body.model = pool.model
    body.sharing = pool.sharing
    body.is_emulated = pool.is_emulated
    body.weight = pool.weight
    body.linger = pool.linger
    body.min_hold = pool.min_hold


cdef void trail_prove(State* s, uint32_t source, uint32_t pool, int64_t seats, int64_t proven_until, int64_t grace_until) noexcept nogil:
    cdef TrailHead* head = trail_add(s, TRAIL_PROVE, source, pool, TRAIL_HEAD_SIZE + 24)
    cdef int64_t* body = <int64_t*>(<uint8_t*>head + TRAIL_HEAD_SIZE)
    body[0] = seats
    body[1] = proven_until
    body[2] = grace_until


cdef inline void trail_reasoned(State* s, uint8_t kind, uint8_t reason, uint32_t number, uint64_t value) noexcept nogil:
    trail_add(s, kind, number, value, TRAIL_HEAD_SIZE).status = reason


# --- reading -----------------------------------------------------------------------------------------------------------------------------

cdef bint trail_copy(State* s, uint64_t turn, uint8_t* target, uint32_t* size) noexcept nogil:
    """One segment, or as much of the newest as is written. Whether it is still there."""
    cdef Trail* trail = &s.trail
    cdef uint64_t segment = turn % TRAIL_SEGMENTS
    cdef const uint8_t* start = trail.base + segment * COMMAND_SEGMENT_SIZE
    if turn + TRAIL_SEGMENTS <= trail.turn:
        return False
    size[0] = trail.fills[segment] if turn < trail.turn else <uint32_t>(trail.at - start)
    memcpy(target, start, size[0])
    return True
