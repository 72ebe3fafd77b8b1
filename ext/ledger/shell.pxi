# The Python face of the ledger: integers, bytes and batches in; plain values of broker.model out.
#
# Nobody waits for the mutex while holding the GIL: every method lets the GIL go first, and copies what it reads into
# its own memory before it takes the GIL back.

def _limits():
    return {
        "USER_SIZE_MAX": USER_SIZE_MAX, "HOST_SIZE_MAX": HOST_SIZE_MAX, "APP_SIZE_MAX": APP_SIZE_MAX,
        "LABEL_SIZE_MAX": LABEL_SIZE_MAX, "INSTANCE_ID_SIZE_MAX": INSTANCE_ID_SIZE_MAX,
        "IDENTITY_SIZE_MAX": IDENTITY_SIZE_MAX, "PRODUCT_SIZE_MAX": PRODUCT_SIZE_MAX,
        "REQUEST_ID_SIZE": REQUEST_ID_SIZE, "SESSION_ID_SIZE": SESSION_ID_SIZE, "ITEMS_MAX": ITEMS_MAX,
        "LEASES_OF_SESSION_MAX": LEASES_OF_SESSION_MAX, "PRIORITY_LEVELS": PRIORITY_LEVELS, "BATCH_MAX": BATCH_MAX,
        "SALT_SIZE_MAX": SALT_SIZE_MAX, "UNIT_SIZE_MAX": UNIT_SIZE_MAX, "NOTE_NAME_SIZE_MAX": NOTE_NAME_SIZE_MAX,
        "NOTE_VALUE_SIZE_MAX": NOTE_VALUE_SIZE_MAX, "NOTES_MAX": NOTES_MAX, "PRODUCTS_MAX": PRODUCTS_MAX, "POOLS_MAX": POOLS_MAX,
        "POOLS_OF_PRODUCT_MAX": POOLS_OF_PRODUCT_MAX, "SOURCES_MAX": SOURCES_MAX,
        "SEATS_OF_SOURCE_MAX": SEATS_OF_SOURCE_MAX, "WEIGHT_MAX": WEIGHT_MAX,
        "SESSIONS_DEFAULT": SESSIONS_DEFAULT, "LEASES_DEFAULT": LEASES_DEFAULT, "CHARGES_DEFAULT": CHARGES_DEFAULT,
        "REQUESTS_DEFAULT": REQUESTS_DEFAULT, "DENIALS_DEFAULT": DENIALS_DEFAULT, "RECORDS_CEILING": RECORDS_CEILING,
        "TEXT_SIZE_DEFAULT": TEXT_SIZE_DEFAULT, "TEXT_SIZE_CEILING": TEXT_SIZE_CEILING,
        "EVENT_RING_DEFAULT": EVENT_RING_DEFAULT, "EVENT_RING_MIN": EVENT_RING_MIN,
        "EVENT_RING_CEILING": EVENT_RING_CEILING, "EVENT_RESERVE": EVENT_RESERVE,
        "DENIAL_EVENTS_PER_SECOND": DENIAL_EVENTS_PER_SECOND, "COMMAND_RING_SIZE": COMMAND_RING_SIZE,
        "COMMAND_SEGMENT_SIZE": COMMAND_SEGMENT_SIZE, "SCAN_MAX": SCAN_MAX, "REKEYS_MAX": REKEYS_MAX,
        "TTL_DEFAULT_NS": TTL_DEFAULT_NS, "TTL_MIN_NS": TTL_MIN_NS, "TTL_MAX_NS": TTL_MAX_NS,
        "RENEW_GRACE_DEFAULT_NS": RENEW_GRACE_DEFAULT_NS, "REQUEST_WINDOW_DEFAULT_NS": REQUEST_WINDOW_DEFAULT_NS,
        "DENIAL_WINDOW_DEFAULT_NS": DENIAL_WINDOW_DEFAULT_NS, "STALL_DEFAULT_NS": STALL_DEFAULT_NS,
        "CLIENT_NONCE_SIZE_MAX": CLIENT_NONCE_SIZE_MAX, "MACHINE_IDENTIFIER_COUNT_MAX": MACHINE_IDENTIFIER_COUNT_MAX,
        "MACHINE_IDENTIFIER_SIZE_MAX": MACHINE_IDENTIFIER_SIZE_MAX, "RENEWALS_PER_MESSAGE_MAX": RENEWALS_PER_MESSAGE_MAX,
        "WIRE_NESTING_MAX": WIRE_NESTING_MAX, "WIRE_ANSWER_SIZE_MAX": WIRE_ANSWER_SIZE_MAX,
        "STREAM_ANSWER_SIZE_MAX": STREAM_ANSWER_SIZE_MAX, "STREAM_ITEM_FRAME_SIZE": STREAM_ITEM_FRAME_SIZE,
        "H2_METHODS_MAX": H2_METHODS_MAX, "H2_METHOD_PATH_SIZE_MAX": H2_METHOD_PATH_SIZE_MAX,
        "H2_STREAMS_DEFAULT": H2_STREAMS_DEFAULT, "H2_STREAMS_CEILING": H2_STREAMS_CEILING,
        "H2_MESSAGE_SIZE_DEFAULT": H2_MESSAGE_SIZE_DEFAULT, "H2_MESSAGE_SIZE_CEILING": H2_MESSAGE_SIZE_CEILING,
        "H2_HEADER_SIZE_DEFAULT": H2_HEADER_SIZE_DEFAULT, "H2_OUTPUT_SIZE_DEFAULT": H2_OUTPUT_SIZE_DEFAULT,
        "H2_BUFFERED_SIZE_DEFAULT": H2_BUFFERED_SIZE_DEFAULT, "H2_MEMORY_SIZE_DEFAULT": H2_MEMORY_SIZE_DEFAULT,
        "H2_CROWD_SIZE_DEFAULT": H2_CROWD_SIZE_DEFAULT, "H2_MEMORY_FAIR_SIZE": H2_MEMORY_FAIR_SIZE,
        "H2_WINDOW_SIZE_DEFAULT": H2_WINDOW_SIZE_DEFAULT, "H2_EVENTS_MAX": H2_EVENTS_MAX,
        "H2_FEED_SLICE_SIZE": H2_FEED_SLICE_SIZE, "H2_STATUS_MESSAGE_SIZE_MAX": H2_STATUS_MESSAGE_SIZE_MAX,
        "H2_STATUS_DETAILS_SIZE_MAX": H2_STATUS_DETAILS_SIZE_MAX, "H2_OUTBOUND_FRAMES_MAX": H2_OUTBOUND_FRAMES_MAX,
        "H2_CONTINUATIONS_MAX": H2_CONTINUATIONS_MAX, "H2_PING_STRIKES_MAX": H2_PING_STRIKES_MAX,
        "H2_SETTINGS_BURST": H2_SETTINGS_BURST, "H2_RESETS_BURST": H2_RESETS_BURST, "H2_NOISE_BURST": H2_NOISE_BURST,
        "TLS_HANDSHAKE_SIZE_MAX": TLS_HANDSHAKE_SIZE_MAX, "TLS_CHAIN_SIZE_MAX": TLS_CHAIN_SIZE_MAX,
        "TLS_CHAIN_DEPTH_MAX": TLS_CHAIN_DEPTH_MAX, "TLS_OUTPUT_ROOM_MIN": TLS_OUTPUT_ROOM_MIN,
        "TLS_PEM_SIZE_MAX": TLS_PEM_SIZE_MAX,
        "LOOPS_MAX": LOOPS_MAX, "CONNECTIONS_DEFAULT": CONNECTIONS_DEFAULT, "CONNECTIONS_CEILING": CONNECTIONS_CEILING,
        "LOOP_READ_SIZE": LOOP_READ_SIZE, "LOOP_SEND_SIZE": LOOP_SEND_SIZE, "LOOP_SENDS_MAX": LOOP_SENDS_MAX,
        "LOOP_READY_MAX": LOOP_READY_MAX, "ACCEPTS_MAX": ACCEPTS_MAX, "MAILBOX_MAX": MAILBOX_MAX,
        "PEER_WAITING_SIZE_MAX": PEER_WAITING_SIZE_MAX, "HELD_ANSWERS_MAX": HELD_ANSWERS_MAX,
        "HELD_SIZE_MAX": HELD_SIZE_MAX, "HEALTH_WATCHERS_MAX": HEALTH_WATCHERS_MAX,
        "HEALTH_SERVICE_SIZE_MAX": HEALTH_SERVICE_SIZE_MAX,
        "KEEP_ALIVE_STREAMS_MAX": KEEP_ALIVE_STREAMS_MAX, "SESSIONS_PER_STREAM_MAX": SESSIONS_PER_STREAM_MAX,
        "WATCHED_SESSIONS_MAX": WATCHED_SESSIONS_MAX, "STREAM_WAITING_SIZE_MAX": STREAM_WAITING_SIZE_MAX,
        "STREAMS_WAITING_SIZE_MAX": STREAMS_WAITING_SIZE_MAX, "NOTICES_READ_SIZE": NOTICES_READ_SIZE,
        "NOTICES_READS_MAX": NOTICES_READS_MAX, "NOTICES_PEEKS_MAX": NOTICES_PEEKS_MAX,
    }


LIMITS = _limits()


def siphash(bytes secret, bytes data):
    """The ledger's keyed hash, 16 bytes: so that tests can hold it against the published vectors."""
    cdef uint64_t words[2]
    cdef uint64_t out[2]
    if len(secret) != 16:
        raise ValueError(f"secret has {len(secret)} bytes; it needs 16")
    memcpy(words, PyBytes_AS_STRING(secret), 16)
    siphash128(words, <const uint8_t*>PyBytes_AS_STRING(data), len(data), out)
    return PyBytes_FromStringAndSize(<char*>out, 16)


cdef int64_t _checked(str name, object value, int64_t least, int64_t most) except? -1:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; it must lie between {least} and {most}")
    return value


cdef class Ledger:
    """The truth about seats; see broker/_ledger.pyi for what each method gives."""

    cdef State* state
    cdef pthread_mutex_t mutex
    cdef LedgerPort entry           # how other compiled modules, and the methods here, reach the state
    cdef list product_names
    cdef list pool_terms
    cdef dict note_values
    cdef object site_lock           # orders declarations and notes of several threads

    def __cinit__(
        self, *, bytes broker_id, bytes secret, generation, start_ns,
        ttl_ns=TTL_DEFAULT_NS, renew_grace_ns=RENEW_GRACE_DEFAULT_NS, request_window_ns=REQUEST_WINDOW_DEFAULT_NS,
        denial_window_ns=DENIAL_WINDOW_DEFAULT_NS, stall_ns=STALL_DEFAULT_NS,
        sessions_max=SESSIONS_DEFAULT, leases_max=LEASES_DEFAULT, charges_max=CHARGES_DEFAULT,
        requests_max=REQUESTS_DEFAULT, denials_max=DENIALS_DEFAULT, text_size_max=TEXT_SIZE_DEFAULT,
        event_ring_size=EVENT_RING_DEFAULT, is_lossy=False,
    ):
        if len(broker_id) != 8:
            raise ValueError(f"broker_id has {len(broker_id)} bytes; it needs 8")
        if len(secret) != 16:
            raise ValueError(f"secret has {len(secret)} bytes; it needs 16")
        self.product_names = []
        self.pool_terms = []
        self.note_values = {}
        self.site_lock = threading.Lock()
        self.state = <State*>calloc(1, sizeof(State))
        if self.state == NULL:
            raise MemoryError
        pthread_mutex_init(&self.mutex, NULL)
        self._connect()
        self.state.ring.is_lossy = is_lossy
        memcpy(self.state.broker_id, PyBytes_AS_STRING(broker_id), 8)
        memcpy(self.state.secret, PyBytes_AS_STRING(secret), 16)
        self._set_times(generation, start_ns, ttl_ns, renew_grace_ns, request_window_ns, denial_window_ns, stall_ns)
        self._reserve(
            _checked("sessions_max", sessions_max, 1, RECORDS_CEILING),
            _checked("leases_max", leases_max, 1, RECORDS_CEILING),
            _checked("charges_max", charges_max, 1, RECORDS_CEILING),
            _checked("requests_max", requests_max, 1, RECORDS_CEILING),
            _checked("denials_max", denials_max, 1, RECORDS_CEILING),
            _checked("text_size_max", text_size_max, 1024, TEXT_SIZE_CEILING),
            _checked("event_ring_size", event_ring_size, EVENT_RING_MIN, EVENT_RING_CEILING),
        )

    cdef _connect(self):
        self.entry.version = PORT_VERSION
        self.entry.state_size = sizeof(State)
        self.entry.state = self.state
        self.entry.mutex = &self.mutex
        self.entry.execute = port_execute
        self.entry.advance = port_advance
        self.entry.read_events = port_read_events
        self.entry.peek_session = port_peek_session
        self.entry.release_events = port_release_events
        self.entry.product_standing = port_product_standing

    cdef _set_times(self, generation, start_ns, ttl_ns, renew_grace_ns, request_window_ns, denial_window_ns, stall_ns):
        cdef State* s = self.state
        s.fence_next = ((<uint64_t>_checked("generation", generation, 1, 2**23 - 1)) << 40) + 1
        s.start = s.raw = s.now = _checked("start_ns", start_ns, 0, 2**62)
        s.ttl = _checked("ttl_ns", ttl_ns, TTL_MIN_NS, TTL_MAX_NS)
        s.renew_grace = _checked("renew_grace_ns", renew_grace_ns, 0, TTL_MAX_NS)
        s.request_window = _checked("request_window_ns", request_window_ns, 0, TTL_MAX_NS)
        s.denial_window = _checked("denial_window_ns", denial_window_ns, 0, TTL_MAX_NS)
        s.stall_limit = _checked("stall_ns", stall_ns, 0, TTL_MAX_NS)
        s.next_source_due = INT64_MAX
        s.unknown_bucket.second = INT64_MIN

    cdef _reserve(self, uint64_t sessions, uint64_t leases, uint64_t charges, uint64_t requests, uint64_t denials, uint64_t text_size, uint64_t ring_size):
        cdef State* s = self.state
        USHER_ASSERT(TRAIL_SEGMENTS * COMMAND_SEGMENT_SIZE == COMMAND_RING_SIZE and sizeof(TrailHead) == TRAIL_HEAD_SIZE)
        USHER_ASSERT(sizeof(Session) == 64 and sizeof(Lease) == 32 and sizeof(Charge) == 64)
        USHER_ASSERT(sizeof(Request) == 48 and sizeof(EventHeader) == EVENT_SIZE and sizeof(OpenedBody) == OPENED_FIXED_SIZE - EVENT_SIZE)
        s.session_count_max = <uint32_t>sessions
        s.texts.size_max = text_size & ~<uint64_t>7
        s.ring.size = ring_size & ~<uint64_t>7
        s.texts.base = <uint8_t*>region_reserve(s, s.texts.size_max)
        s.ring.base = <uint8_t*>region_reserve(s, s.ring.size)
        if not (
            slab_reserve(s, &s.sessions, sizeof(Session), requests + 1)
            and slab_reserve(s, &s.leases, sizeof(Lease), leases)
            and slab_reserve(s, &s.charges, sizeof(Charge), charges)
            and slab_reserve(s, &s.requests, sizeof(Request), requests + denials)
            and slab_reserve(s, &s.denials, sizeof(DenialRecord), denials)
            and index_reserve(s, &s.by_instance, sessions + 1)
            and index_reserve(s, &s.by_request, requests + denials)
            and index_reserve(s, &s.by_group, charges)
            and queue_reserve(s, &s.requests_to_forget, requests + 1)
            and queue_reserve(s, &s.denials_to_forget, denials + 1)
            and heap_reserve(s, &s.deadlines, requests + 1, False)
            and heap_reserve(s, &s.lingers, charges, True)
            and s.texts.base != NULL
            and s.ring.base != NULL
            and trail_reserve(s)
        ):
            raise MemoryError(f"{s.reserved_size} bytes of address space could not be reserved; lower the [bounds]")

    def __dealloc__(self):
        cdef State* s = self.state
        if s == NULL:
            return
        slab_release(&s.sessions)
        slab_release(&s.leases)
        slab_release(&s.charges)
        slab_release(&s.requests)
        slab_release(&s.denials)
        index_release(&s.by_instance)
        index_release(&s.by_request)
        index_release(&s.by_group)
        queue_release(&s.requests_to_forget)
        queue_release(&s.denials_to_forget)
        heap_release(&s.deadlines, s.sessions.count_max)
        heap_release(&s.lingers, s.charges.count_max)
        if s.texts.base != NULL:
            munmap(s.texts.base, s.texts.size_max)
        if s.ring.base != NULL:
            munmap(s.ring.base, s.ring.size)
        if s.trail.base != NULL:
            munmap(s.trail.base, COMMAND_RING_SIZE)
        free(s)
        pthread_mutex_destroy(&self.mutex)

    # --- products, pools, sources ------------------------------------------------------------------------------------

    def declare_product(self, str product):
        """Its index; the same for the same id."""
        cdef bytes name = product.encode()
        cdef uint32_t number
        if not 1 <= len(name) <= PRODUCT_SIZE_MAX:
            raise ValueError(f"product id {product!r} has {len(name)} bytes; it needs 1 to {PRODUCT_SIZE_MAX}")
        number = product_find(self.state, <const uint8_t*>PyBytes_AS_STRING(name), len(name))
        if number != NO_PRODUCT:
            return number
        self._must_run()
        if self.state.product_count >= PRODUCTS_MAX:
            raise ValueError(f"product {product!r} would be one more than the {PRODUCTS_MAX} that a broker can have")
        # The name stands here before a command can resolve to its number.
        self.product_names.append(product)
        cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(name)
        cdef uint32_t size = len(name)
        cdef bint has_found_room
        with nogil:
            pthread_mutex_lock(&self.mutex)
            has_found_room = has_control_room(self.state, EVENT_SIZE + padded(size))
            if has_found_room:
                trail_product(self.state, text, size)
                number = product_add(self.state, text, size)
                emit_product(self.state, number)
                unit_end(self.state)
            pthread_mutex_unlock(&self.mutex)
        if not has_found_room:
            self.product_names.pop()
            raise EventsFull
        return number

    cdef _must_run(self):
        if self.state.phase != PHASE_RUNNING:
            raise ValueError("what is replayed must be resumed first")

    def declare_pool(self, str product, terms, is_emulated):
        """The pool of equal terms, made if need be."""
        cdef Pool pool
        cdef PoolBody body
        cdef uint32_t number
        cdef bint has_found_room
        for known, (name, known_terms, known_emulated) in enumerate(self.pool_terms):
            if (name, known_terms, known_emulated) == (product, terms, bool(is_emulated)):
                return known
        self._must_run()
        body.model = int(terms.model)
        body.sharing = int(terms.sharing)
        body.is_emulated = bool(is_emulated)
        body.share_max = <uint32_t>_checked("share_max", terms.share_max, 0, 2**31)
        body.linger = _checked("linger_ns", terms.linger_ns, 0, TTL_MAX_NS)
        body.min_hold = _checked("min_hold_ns", terms.min_hold_ns, 0, TTL_MAX_NS)
        pool_init(&pool, self.declare_product(product), <int32_t>_checked("weight", terms.weight, 1, WEIGHT_MAX), &body)
        if self.state.pool_count >= POOLS_MAX:
            raise ValueError(f"a pool of {product!r} would be one more than the {POOLS_MAX} that a broker can have")
        if self.state.products[pool.product].pool_count >= POOLS_OF_PRODUCT_MAX:
            raise ValueError(f"{product!r} has licences of more than {POOLS_OF_PRODUCT_MAX} different terms")
        self.pool_terms.append((product, terms, bool(is_emulated)))
        with nogil:
            pthread_mutex_lock(&self.mutex)
            has_found_room = has_control_room(self.state, EVENT_SIZE + sizeof(PoolBody))
            if has_found_room:
                trail_pool(self.state, &pool)
                number = pool_add(self.state, &pool)
                emit_pool(self.state, number)
                unit_end(self.state)
            pthread_mutex_unlock(&self.mutex)
        if not has_found_room:
            self.pool_terms.pop()
            raise EventsFull
        return number

    cdef uint32_t _pool(self, pool) except? 0xFFFFFFFF:
        if not 0 <= pool < len(self.pool_terms):
            raise ValueError(f"there is no pool {pool}")
        return pool

    def set_starting(self, int64_t now_ns, pool, is_starting):
        """While it is, denials say that the keys are still being tried."""
        cdef uint32_t number = self._pool(pool)
        cdef bint wanted = is_starting
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            trail_add(self.state, TRAIL_STARTING, number, wanted, TRAIL_HEAD_SIZE)
            self.state.pools[number].is_starting = wanted
            pthread_mutex_unlock(&self.mutex)

    def prove_source(self, int64_t now_ns, source, pool, seats, int64_t proven_until_ns, int64_t grace_until_ns):
        """The source gives seats until proven_until_ns, and covers present charges until grace_until_ns."""
        cdef uint32_t number = <uint32_t>_checked("source", source, 0, SOURCES_MAX - 1)
        cdef uint32_t pool_number = self._pool(pool)
        cdef int32_t seat_count = <int32_t>_checked("seats", seats, 0, SEATS_OF_SOURCE_MAX)
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            trail_prove(self.state, number, pool_number, seat_count, proven_until_ns, grace_until_ns)
            source_prove(self.state, number, pool_number, seat_count, proven_until_ns, grace_until_ns)
            pthread_mutex_unlock(&self.mutex)

    def lose_source(self, int64_t now_ns, source, int64_t grace_until_ns, cause):
        """The source gives no more seats from now; its charges may stay until grace_until_ns."""
        cdef uint32_t number = <uint32_t>_checked("source", source, 0, SOURCES_MAX - 1)
        cdef uint8_t reason = EndReason(cause)
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            trail_reasoned(self.state, TRAIL_LOSE, reason, number, <uint64_t>grace_until_ns)
            source_lose(self.state, number, grace_until_ns, reason)
            pthread_mutex_unlock(&self.mutex)

    def set_admitting(self, int64_t now_ns, is_admitting):
        """Whether new sessions are let in; requests seen before are answered all the same."""
        cdef bint wanted = is_admitting
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            trail_add(self.state, TRAIL_ADMITTING, 0, wanted, TRAIL_HEAD_SIZE)
            self.state.is_draining = not wanted
            pthread_mutex_unlock(&self.mutex)

    def set_writable(self, int64_t now_ns, is_writable):
        """Whether the journal can be written. While not, Open and Acquire answer NOT_WRITABLE; all else goes on."""
        cdef bint wanted = is_writable
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            trail_add(self.state, TRAIL_WRITABLE, 0, wanted, TRAIL_HEAD_SIZE)
            self.state.is_read_only = not wanted
            pthread_mutex_unlock(&self.mutex)

    def set_learning(self, int64_t now_ns, int64_t until_ns):
        """Until then, in ledger time, no new charge is given: LEARNING."""
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            trail_add(self.state, TRAIL_LEARNING, 0, <uint64_t>until_ns, TRAIL_HEAD_SIZE)
            self.state.learning_until = until_ns - self.state.skipped
            pthread_mutex_unlock(&self.mutex)

    # --- runs ----------------------------------------------------------------------------------------------------------

    def replay(self, bytes events not None):
        """Events of a log, or records of a snapshot, in their order, before `resume`."""
        _replay(self, events)

    def resume(self, int64_t now_ns, int64_t wall_ns):
        """The run begins with what was replayed."""
        return _resume(self, now_ns, wall_ns)

    def end_run(self, int64_t now_ns):
        """A clean stop: RUN_ENDED; the position behind it."""
        return _write_plain(self, now_ns, EVENT_RUN_ENDED, 0)

    def mark_wall(self, int64_t now_ns, int64_t wall_ns):
        """Ties ledger time to wall time: WALL_CLOCK; the position behind it."""
        return _write_plain(self, now_ns, EVENT_WALL_CLOCK, <uint64_t>_checked("wall_ns", wall_ns, 0, 2**62 - 1))

    def note(self, int64_t now_ns, bytes name not None, bytes value not None):
        """A durable word of the control plane; an empty value forgets it; the position behind it."""
        return _note(self, now_ns, name, value)

    def notes(self):
        """All that were noted and not forgotten."""
        with self.site_lock:
            return dict(self.note_values)

    def dump(self, uint64_t cursor, size_max):
        """State records from the cursor on, and the next cursor; 0 begins, and 0 as the next one means the end."""
        return _dump(self, cursor, <uint64_t>_checked("size_max", size_max, UNIT_SIZE_MAX, EVENT_RING_CEILING))

    @property
    def position(self):
        """Behind the last event."""
        cdef uint64_t position
        with nogil:
            pthread_mutex_lock(&self.mutex)
            position = self.state.ring.tail
            pthread_mutex_unlock(&self.mutex)
        return position

    # --- commands ------------------------------------------------------------------------------------------------------

    def execute(self, int64_t now_ns, Batch batch not None):
        """All commands of the batch, in order, under one hold of the mutex; the position behind their events."""
        cdef uint64_t position
        with nogil:
            position = port_execute(&self.entry, now_ns, batch.commands, batch.outcomes, &batch.space, batch.count)
        return position

    def open(self, int64_t now_ns, **request):
        """A new session with the seats of all its required products, or none of them."""
        cdef Batch batch = Batch(1)
        batch.add_open(self, **request)
        self.execute(now_ns, batch)
        return batch.answer(self, 0)

    def renew(self, int64_t now_ns, bytes session_id, change_version=0):
        """Another ttl, and what changed since change_version."""
        cdef Batch batch = Batch(1)
        batch.add_renew(self, session_id, change_version)
        self.execute(now_ns, batch)
        return batch.answer(self, 0)

    def acquire(self, int64_t now_ns, bytes session_id, bytes request_id, products, bytes salt=b""):
        """More products for an open session."""
        cdef Batch batch = Batch(1)
        batch.add_acquire(self, session_id, request_id, products, salt)
        self.execute(now_ns, batch)
        return batch.answer(self, 0)

    def release(self, int64_t now_ns, bytes session_id, bytes request_id, str product):
        """One product back."""
        cdef Batch batch = Batch(1)
        batch.add_release(self, session_id, request_id, product)
        self.execute(now_ns, batch)
        return batch.answer(self, 0)

    def close(self, int64_t now_ns, bytes session_id, bytes request_id):
        """The session ends; its seats are free."""
        cdef Batch batch = Batch(1)
        batch.add_close(self, session_id, request_id)
        self.execute(now_ns, batch)
        return batch.answer(self, 0)

    def revoke(self, int64_t now_ns, uint64_t fence, reason=EndReason.REVOKED):
        """Whether there was such a session, and room to record its end."""
        cdef uint8_t why = EndReason(reason)
        cdef bint is_done = False
        cdef uint32_t at = 0
        cdef uint32_t number = NONE
        while at != NONE and number == NONE:
            with nogil:
                pthread_mutex_lock(&self.mutex)
                enter(self.state, now_ns)
                number = session_scan(self.state, fence, &at)
                is_done = revoke_session(self.state, number, why)
                unit_end(self.state)
                pthread_mutex_unlock(&self.mutex)
        return is_done

    # --- time ------------------------------------------------------------------------------------------------------------

    def advance(self, int64_t now_ns):
        """Does what is due, at most BATCH_MAX items; whether more may be due at once."""
        cdef bint is_more
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            is_more = advance(self.state)
            pthread_mutex_unlock(&self.mutex)
        return is_more

    def tick(self, int64_t now_ns):
        """`advance`, when to call again (now_ns: at once), and the position of the events behind it."""
        cdef uint64_t position
        cdef int64_t due
        with nogil:
            due = port_advance(&self.entry, now_ns, &position)
        return due, position

    def next_due_ns(self, int64_t now_ns):
        """When `advance` next has something to do."""
        cdef int64_t due
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            due = next_due(self.state)
            pthread_mutex_unlock(&self.mutex)
        return due

    # --- reading -----------------------------------------------------------------------------------------------------------

    def products(self):
        """All products, by index."""
        cdef State* s = self.state
        cdef Product* copies = <Product*>malloc(PRODUCTS_MAX * sizeof(Product))
        cdef uint32_t count, i
        if copies == NULL:
            raise MemoryError
        with nogil:
            pthread_mutex_lock(&self.mutex)
            count = s.product_count
            memcpy(copies, s.products, count * sizeof(Product))
            pthread_mutex_unlock(&self.mutex)
        try:
            return [
                ProductView(
                    product=self.product_names[i],
                    lease_total=copies[i].lease_total,
                    denial_totals=tuple([copies[i].denial_totals[j] for j in range(DENIAL_REASON_COUNT)]),
                    end_totals=tuple([copies[i].end_totals[j] for j in range(END_REASON_COUNT)]),
                )
                for i in range(count)
            ]
        finally:
            free(copies)

    def pools(self):
        """All pools, by number."""
        cdef State* s = self.state
        cdef Pool* copies = <Pool*>malloc(POOLS_MAX * sizeof(Pool))
        cdef uint32_t count, i
        if copies == NULL:
            raise MemoryError
        with nogil:
            pthread_mutex_lock(&self.mutex)
            count = s.pool_count
            memcpy(copies, s.pools, count * sizeof(Pool))
            pthread_mutex_unlock(&self.mutex)
        try:
            return [_pool_view(self, i, &copies[i]) for i in range(count)]
        finally:
            free(copies)

    def counters(self):
        """What the whole ledger holds, and did."""
        cdef State* s = self.state
        cdef Totals totals
        cdef uint64_t sessions, leases, charges, requests, denials, texts, sequence, event_size
        cdef int64_t stalled
        with nogil:
            pthread_mutex_lock(&self.mutex)
            totals = s.totals
            sessions = s.session_count
            leases = s.leases.live
            charges = s.charges.live
            requests = remembered_count(s)
            denials = s.denials.live
            texts = s.texts.live
            sequence = s.ring.sequence
            event_size = s.ring.tail - s.ring.head
            stalled = s.stalled
            pthread_mutex_unlock(&self.mutex)
        return Counters(
            session_count=sessions, lease_count=leases, charge_count=charges, request_count=requests,
            denial_count=denials, text_size=texts, opened_total=totals.opened, renewed_total=totals.renewed,
            acquired_total=totals.acquired, released_total=totals.released, replayed_total=totals.replayed,
            denied_total=totals.denied, not_found_total=totals.not_found, reused_total=totals.reused,
            invalid_total=totals.invalid, overloaded_total=totals.overloaded, events_full_total=totals.events_full, drained_total=totals.drained,
            not_writable_total=totals.not_writable,
            event_dropped_total=totals.events_dropped, event_total=sequence, event_size=event_size,
            stall_total=totals.stalls, stalled_ns=stalled,
            ended_totals=tuple([totals.ended[i] for i in range(END_REASON_COUNT)]),
        )

    def sessions(self, int64_t now_ns, cursor=0, count_max=256):
        """Open sessions from the cursor on, and the next cursor; 0 begins, and 0 as the next one means the end."""
        cdef uint32_t wanted = <uint32_t>_checked("count_max", count_max, 1, BATCH_MAX)
        cdef uint32_t place = <uint32_t>_checked("cursor", cursor, 0, RECORDS_CEILING)
        return self._read_sessions(now_ns, place, wanted)

    def find_session(self, int64_t now_ns, uint64_t fence, place=None):
        """The open session of this fence, or None. Without the place of its id all sessions are looked through."""
        cdef uint32_t number
        if place is not None:
            number = <uint32_t>_checked("place", place, 0, 2**32 - 1)
        else:
            number = self._scan(now_ns, fence)
        if number == NONE:
            return None
        found, _ = self._read_sessions(now_ns, number, 1)
        return found[0] if found and found[0].fence == fence else None

    cdef uint32_t _scan(self, int64_t now_ns, uint64_t fence):
        """Where the session of this fence stands, live or over; NONE."""
        cdef uint32_t at = 0
        cdef uint32_t number = NONE
        while at != NONE and number == NONE:
            with nogil:
                pthread_mutex_lock(&self.mutex)
                enter(self.state, now_ns)
                number = session_scan(self.state, fence, &at)
                pthread_mutex_unlock(&self.mutex)
        return number

    def end_reason(self, int64_t now_ns, uint64_t fence):
        """Why the session of this fence ended, as long as its record is kept; NONE. All sessions are looked through."""
        cdef uint32_t number = self._scan(now_ns, fence)
        return EndReason.NONE if number == NONE else self.peek_session(now_ns, fence, number)[1]

    def peek_session(self, int64_t now_ns, uint64_t fence, uint32_t place):
        """The leases of an open session, or None and why it ended."""
        cdef LeaseOut leases[LEASES_OF_SESSION_MAX]
        cdef uint32_t count, i
        cdef uint8_t end_reason
        cdef bint is_live
        with nogil:
            is_live = port_peek_session(&self.entry, now_ns, fence, place, leases, &count, &end_reason)
        if not is_live:
            return None, EndReason(end_reason)
        return tuple([_lease_view(self, &leases[i]) for i in range(count)]), EndReason.NONE

    cdef _read_sessions(self, int64_t now_ns, uint32_t place, uint32_t wanted):
        cdef PieceOfSession* pieces = <PieceOfSession*>malloc(wanted * sizeof(PieceOfSession))
        cdef LeaseOut* leases = <LeaseOut*>malloc(wanted * LEASES_OF_SESSION_MAX * sizeof(LeaseOut))
        cdef uint32_t count, i
        if pieces == NULL or leases == NULL:
            free(pieces)
            free(leases)
            raise MemoryError
        with nogil:
            pthread_mutex_lock(&self.mutex)
            enter(self.state, now_ns)
            count = copy_sessions(self.state, &place, wanted, pieces, leases)
            pthread_mutex_unlock(&self.mutex)
        try:
            return [_session_view(self, &pieces[i], leases) for i in range(count)], place
        finally:
            free(pieces)
            free(leases)

    cdef uint64_t _fence_of(self, bytes session_id):
        cdef uint32_t place
        if len(session_id) != SESSION_ID_SIZE:
            return 0
        return session_id_check(self.state, <const uint8_t*>PyBytes_AS_STRING(session_id), &place)

    def session_fence(self, bytes session_id):
        """The fence inside a genuine session id; 0 if it is not one of this broker's."""
        return self._fence_of(session_id)

    def session_place(self, bytes session_id):
        """Where the session of this id stands, for find_session; of any id of the right size."""
        if len(session_id) != SESSION_ID_SIZE:
            return NONE
        return session_id_place(<const uint8_t*>PyBytes_AS_STRING(session_id))

    def drain_events(self, size_max=1048576):
        """Whole events, oldest first; empty when there are none."""
        return self.drain_block(size_max)[0]

    def drain_block(self, size_max=READ_SLICE_SIZE):
        """Whole events, oldest first, and the sequences of the first and the last of them."""
        cdef uint64_t most = <uint64_t>_checked("size_max", size_max, OPENED_FIXED_SIZE + TEXT_SIZE_MAX + 8, EVENT_RING_CEILING)
        cdef uint64_t size, first, following
        cdef uint8_t* copy = <uint8_t*>malloc(most)
        if copy == NULL:
            raise MemoryError
        if self.state.ring.is_released:
            free(copy)
            raise RuntimeError("a journal reads these events: read them with a position of your own (read_events)")
        with nogil:
            pthread_mutex_lock(&self.mutex)
            first = ring_next_sequence(&self.state.ring)
            size = ring_drain(self.state, copy, most)
            following = ring_next_sequence(&self.state.ring)
            if size:
                trail_add(self.state, TRAIL_DRAIN, 0, size, TRAIL_HEAD_SIZE)
            pthread_mutex_unlock(&self.mutex)
        try:
            return PyBytes_FromStringAndSize(<char*>copy, size), first, following - 1
        finally:
            free(copy)

    def read_events(self, uint64_t position, size_max=READ_SLICE_SIZE):
        """Whole events behind a position, the position behind them, and how many bytes were overwritten before they were read."""
        cdef uint64_t most = <uint64_t>_checked("size_max", size_max, OPENED_FIXED_SIZE + TEXT_SIZE_MAX + 8, EVENT_RING_CEILING)
        cdef EventCursor cursor
        cdef uint64_t size
        cdef uint8_t* copy = <uint8_t*>malloc(most)
        if copy == NULL:
            raise MemoryError
        cursor.position = position
        cursor.lost_size = 0
        with nogil:
            size = port_read_events(&self.entry, &cursor, copy, most)
        try:
            return PyBytes_FromStringAndSize(<char*>copy, size), cursor.position, cursor.lost_size
        finally:
            free(copy)

    cdef bytes _settings(self, bint is_whole):
        """The head of a dump: what the ledger was made with."""
        cdef State* s = self.state
        return struct.pack(
            COMMAND_DUMP_HEAD, COMMAND_DUMP_MAGIC, is_whole, s.ring.is_lossy, s.fence_next >> 40, s.start, s.ttl, s.renew_grace,
            s.request_window, s.denial_window, s.stall_limit, s.session_count_max, s.leases.count_max, s.charges.count_max,
            s.requests.count_max - s.denials.count_max, s.denials.count_max, s.ring.size,
        )

    def recent_commands(self):
        """The last commands in their order, for broker.model.commands.decode_commands."""
        cdef State* s = self.state
        cdef uint8_t* copy = <uint8_t*>malloc(COMMAND_RING_SIZE)
        cdef uint64_t size = 0
        cdef uint64_t first = 0
        cdef uint64_t turn = 0
        cdef uint32_t part
        cdef bint is_there, is_last = False
        if copy == NULL:
            raise MemoryError
        with nogil:
            while not is_last:
                pthread_mutex_lock(&self.mutex)
                is_there = trail_copy(s, turn, copy + size, &part)
                if not is_there:  # commands went on meanwhile, and overwrote it: begin again with the oldest
                    first = turn = s.trail.turn - TRAIL_SEGMENTS + 1
                    size = 0
                is_last = is_there and turn == s.trail.turn
                pthread_mutex_unlock(&self.mutex)
                if is_there:
                    size += part
                    turn += 1
        try:
            return self._settings(first == 0 and not s.is_recovered) + PyBytes_FromStringAndSize(<char*>copy, size)
        finally:
            free(copy)

    def port(self):
        """The ledger for other compiled modules: a LedgerPort in a capsule that keeps the ledger alive."""
        return _capsule_of(self)

    def memory_size(self):
        """Bytes of address space reserved."""
        return self.state.reserved_size + sizeof(State)
