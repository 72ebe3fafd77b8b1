# Runs: what a ledger keeps from one start of the broker to the next, as Python sees it: replay, dump, resume, notes.
#
# The notes are durable words of the control plane, each an event; they are kept here and not in the state, since only Python asks for
# them. One lock orders their events as it orders the dictionary.

NOTE_HEADER = struct.Struct("<IHBBQqQQiiiiQ")

FAULT_TEXTS = {
    FAULT_SIZE: "has a size that cannot be",
    FAULT_KIND: "is of a kind that this version does not know",
    FAULT_SEQUENCE: "is not the next one",
    FAULT_TIME: "is from before the event before it",
    FAULT_PHASE: "does not belong here: a snapshot comes first, into a new ledger",
    FAULT_EXPECTED: "is not what must follow the event before it",
    FAULT_UNIT: "belongs to a command of more events than a command can have",
    FAULT_NUMBER: "names a product or a pool that is not there, or is already",
    FAULT_VALUE: "has a value beyond its bounds",
    FAULT_SESSION: "names a session that is not open there",
    FAULT_PLACE: "opens a session where another one is",
    FAULT_FENCE: "has a fence that is not behind those before it",
    FAULT_LEASE: "names a lease that is not there, or is already",
    FAULT_CHARGE: "names a charge that is not there, or has no room",
    FAULT_REQUEST: "remembers a request that is remembered already",
    FAULT_GENERATION: "is of a generation that is not before this one",
    FAULT_VERSION: "begins a snapshot of another version",
    FAULT_MISSING: "ends before all is there",
    FAULT_SESSIONS_MAX: "opens more sessions than sessions_max allows: raise it",
    FAULT_LEASES_MAX: "has more leases than leases_max allows: raise it",
    FAULT_CHARGES_MAX: "has more charges than charges_max allows: raise it",
    FAULT_REQUESTS_MAX: "has more remembered requests than requests_max allows: raise it",
    FAULT_TEXT_MAX: "has more text than text_size_max allows: raise it",
}


cdef _refuse(bytes events, uint64_t at, uint8_t fault):
    """ValueError: which event, and why."""
    if len(events) - at < EVENT_SIZE:
        raise ValueError(f"half an event at byte {at}")
    _, kind, _, _, sequence, *_ = NOTE_HEADER.unpack_from(events, at)
    word = _kind_word(kind)
    raise ValueError(f"event {sequence} ({word}, at byte {at}) {FAULT_TEXTS[fault]}")


def _kind_word(kind):
    for words in (EventKind, StateKind):
        if kind in words.__members__.values():
            return words(kind).name
    return f"kind {kind}"


# --- replay --------------------------------------------------------------------------------------------------------------------

cdef _replay(Ledger ledger, bytes events):
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(events)
    cdef uint64_t size = len(events)
    cdef uint64_t at = 0
    cdef uint8_t fault = STOP_AT_NOTE
    while fault == STOP_AT_NOTE:
        with nogil:
            pthread_mutex_lock(&ledger.mutex)
            fault = replay_stream(ledger.state, data, size, &at)
            pthread_mutex_unlock(&ledger.mutex)
        if fault == STOP_AT_NOTE:
            at = _replay_note(ledger, events, at)
    if fault:
        _refuse(events, at, fault)
    _learn_names(ledger)


cdef uint64_t _replay_note(Ledger ledger, bytes events, uint64_t at) except 0:
    """Takes the note at this byte; the byte behind it."""
    size, _, _, _, _, _, _, _, _, _, name_size, value_size, _ = NOTE_HEADER.unpack_from(events, at)
    if not (1 <= name_size <= NOTE_NAME_SIZE_MAX and 0 <= value_size <= NOTE_VALUE_SIZE_MAX):
        _refuse(events, at, FAULT_VALUE)
    if size != EVENT_SIZE + padded(name_size + value_size):
        _refuse(events, at, FAULT_SIZE)
    start = at + EVENT_SIZE
    name = events[start : start + name_size]
    _keep_note(ledger, name, events[start + name_size : start + name_size + value_size])
    if len(ledger.note_values) > NOTES_MAX:
        _refuse(events, at, FAULT_VALUE)
    return at + size


cdef _keep_note(Ledger ledger, bytes name, bytes value):
    if value:
        ledger.note_values[name] = value
    else:
        ledger.note_values.pop(name, None)


cdef _learn_names(Ledger ledger):
    """The products and pools that were replayed, as Python knows them."""
    cdef State* s = ledger.state
    cdef Product* product
    cdef Pool* pool
    while len(ledger.product_names) < s.product_count:
        product = &s.products[len(ledger.product_names)]
        ledger.product_names.append(PyBytes_FromStringAndSize(<char*>product.name, product.name_size).decode())
    while len(ledger.pool_terms) < s.pool_count:
        pool = &s.pools[len(ledger.pool_terms)]
        terms = PoolTerms(
            model=LicenceModel(pool.model), sharing=Sharing(pool.sharing), share_max=pool.share_max, weight=pool.weight,
            linger_ns=pool.linger, min_hold_ns=pool.min_hold,
        )
        ledger.pool_terms.append((ledger.product_names[pool.product], terms, bool(pool.is_emulated)))


cdef _resume(Ledger ledger, int64_t now_ns, int64_t wall_ns):
    cdef State* s = ledger.state
    cdef bint was_clean
    cdef uint8_t fault
    cdef uint64_t sessions, charges, leases, requests
    if not 0 <= now_ns < 2**62 or not 0 <= wall_ns < 2**62:
        raise ValueError(f"a time is out of its bounds: {now_ns}, {wall_ns}")
    with nogil:
        pthread_mutex_lock(&ledger.mutex)
        was_clean = s.replay.is_ended
        fault = run_begin(s, now_ns, wall_ns)
        sessions = s.session_count
        charges = s.charges.live
        leases = s.leases.live
        requests = remembered_count(s)
        pthread_mutex_unlock(&ledger.mutex)
    if fault == FAULT_MISSING:
        raise ValueError("the snapshot is not complete: its last record has not been replayed")
    if fault:
        raise ValueError(f"generation {s.fence_next >> 40} is not behind generation {max(s.replay.generation, s.replay.fence_max >> 40)} of what was replayed")
    return Recovered(
        sessions=sessions, charges=charges, leases=leases, requests=requests, notes=len(ledger.note_values),
        was_clean=bool(was_clean), last_wall_ns=s.replay.wall_max,
    )


# --- dump ------------------------------------------------------------------------------------------------------------------------

cdef bytes _note_record(State* s, bytes name, bytes value):
    size = EVENT_SIZE + padded(len(name) + len(value))
    header = NOTE_HEADER.pack(
        size, EVENT_NOTE, 0, FLAG_LAST, s.ring.sequence, last_event_time(s), 0, 0, -1, -1, len(name), len(value), 0
    )
    return (header + name + value).ljust(size, b"\x00")


cdef _dump_notes(Ledger ledger, Dump* d, list parts, uint64_t room):
    """Notes from d.index on as long as they fit, then on to the sessions; how many bytes."""
    cdef uint64_t size = 0
    names = sorted(ledger.note_values)
    while d.index < len(names):
        record = _note_record(ledger.state, names[d.index], ledger.note_values[names[d.index]])
        if size + len(record) > room:
            return size
        parts.append(record)
        size += len(record)
        d.index += 1
    stage_begin(d, DUMP_SESSIONS, 0)
    return size


cdef _dump(Ledger ledger, uint64_t cursor, uint64_t size_max):
    cdef State* s = ledger.state
    cdef Dump d
    cdef uint8_t* target = <uint8_t*>malloc(size_max)
    cdef uint64_t used = 0
    parts = []
    if target == NULL:
        raise MemoryError
    if s.replay.pending_size or s.phase == PHASE_LOADING:
        free(target)
        raise ValueError("there is no state in the middle of a command or of a snapshot")
    d.target = target
    d.stage = <uint32_t>(cursor >> 32)
    d.index = <uint32_t>cursor
    try:
        while True:
            d.size = 0
            d.size_max = size_max - used
            with nogil:
                pthread_mutex_lock(&ledger.mutex)
                dump_run(s, &d)
                pthread_mutex_unlock(&ledger.mutex)
            parts.append(PyBytes_FromStringAndSize(<char*>target, d.size))
            used += d.size
            if d.stage != DUMP_NOTES:
                break
            used += _dump_notes(ledger, &d, parts, size_max - used)
            if d.stage == DUMP_NOTES:
                break
    finally:
        free(target)
    return b"".join(parts), 0 if d.stage == DUMP_DONE else <uint64_t>d.stage << 32 | d.index


# --- what the control plane writes --------------------------------------------------------------------------------------------------

cdef bint emit_plain(State* s, uint16_t kind, uint64_t detail) noexcept nogil:
    """An event of the control plane that says nothing but its detail; False: there is not even the reserve."""
    if not has_control_room(s, EVENT_SIZE):
        return False
    trail_add(s, TRAIL_CONTROL, kind, EVENT_SIZE, TRAIL_HEAD_SIZE)
    emit(s, kind, END_NONE, 0, 0, -1, -1, 0, 0, detail, 0)
    unit_end(s)
    return True


cdef bint emit_note(State* s, const uint8_t* text, uint32_t name_size, uint32_t value_size) noexcept nogil:
    cdef EventHeader header
    cdef uint32_t size = EVENT_SIZE + padded(name_size + value_size)
    if not has_control_room(s, size):
        return False
    trail_add(s, TRAIL_CONTROL, EVENT_NOTE, size, TRAIL_HEAD_SIZE)
    event_begin(s, &header, size, EVENT_NOTE)
    header.seats = <int32_t>name_size
    header.deficit = <int32_t>value_size
    emit_with_body(s, &header, text, name_size + value_size)
    unit_end(s)
    return True


cdef uint64_t _write_plain(Ledger ledger, int64_t now_ns, uint16_t kind, uint64_t detail) except? 0:
    cdef State* s = ledger.state
    cdef uint64_t position
    cdef bint is_written
    with nogil:
        pthread_mutex_lock(&ledger.mutex)
        enter(s, now_ns)
        is_written = emit_plain(s, kind, detail)
        if is_written and kind == EVENT_WALL_CLOCK:
            s.replay.wall_max = max(s.replay.wall_max, <int64_t>detail)
        if is_written and kind == EVENT_RUN_ENDED:
            s.replay.is_ended = True
        position = s.ring.tail
        pthread_mutex_unlock(&ledger.mutex)
    if not is_written:
        raise EventsFull
    return position


cdef uint64_t _note(Ledger ledger, int64_t now_ns, bytes name, bytes value) except? 0:
    cdef bytes text = name + value
    cdef uint64_t position
    cdef bint is_written
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef uint32_t name_size = <uint32_t>_checked("size of the note's name", len(name), 1, NOTE_NAME_SIZE_MAX)
    cdef uint32_t value_size = <uint32_t>_checked("size of the note's value", len(value), 0, NOTE_VALUE_SIZE_MAX)
    with ledger.site_lock:
        if value and name not in ledger.note_values and len(ledger.note_values) >= NOTES_MAX:
            raise ValueError(f"{name!r} would be one more than the {NOTES_MAX} notes that a ledger keeps")
        with nogil:
            pthread_mutex_lock(&ledger.mutex)
            enter(ledger.state, now_ns)
            is_written = emit_note(ledger.state, data, name_size, value_size)
            position = ledger.state.ring.tail
            pthread_mutex_unlock(&ledger.mutex)
        if not is_written:
            raise EventsFull
        _keep_note(ledger, name, value)
    return position
