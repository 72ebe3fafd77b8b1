# What Python sees: one engine a storm, made from plain values, run once in a thread of its own, read afterwards.
#
# Everything that is allocated or can be refused is so in the constructor; `run` lets the GIL go for the whole storm.
# `progress` and `stop` may be called from any thread meanwhile: they read and write single words.

CYCLES = {
    "noop": CYCLE_NOOP, "renew": CYCLE_RENEW, "open_close": CYCLE_OPEN_CLOSE, "bundle": CYCLE_OPEN_CLOSE, "retry": CYCLE_RETRY,
    "acquire": CYCLE_ACQUIRE, "churn": CYCLE_CHURN, "idle": CYCLE_IDLE,
}

STEPS = {
    "noop": STEP_NOOP, "open": STEP_OPEN, "reopen": STEP_REOPEN, "renew": STEP_RENEW, "acquire": STEP_ACQUIRE,
    "close": STEP_CLOSE,
}

ANSWERS = (
    "ok", "granted", "replayed", "denied", "ended", "renewed", "acquired", "closed", "closed_again", "failed",
)

FAULTS = (
    "", "connect", "cut", "protocol", "http_status", "status", "no_status", "reset", "no_answer", "answered_twice", "malformed",
    "too_long", "denied", "other_session", "not_replayed", "replayed", "ended", "end_reason", "unanswered", "unsent",
    "link_lost", "session_twice",
)

PHASES = ("connect", "prepare", "warm", "run", "finish", "clean", "over")

COUNTED = (
    "sent", "answered", "retried_unprocessed", "cut", "unanswered_at_end", "measured", "connects", "connect_failures",
    "goaways", "resets", "arrived", "taken", "backlog_peak", "unsent_at_end", "links_up", "links_at_end", "links_lost", "rounds",
    "streams_limit",
)


cdef list _histogram(const Histogram* histogram):
    """[count, sum_ns, largest_ns, [(largest value of the bucket, count), ...]] of the buckets that are not empty."""
    cdef uint32_t i
    buckets = [(bucket_end(i), histogram.counts[i]) for i in range(HISTOGRAM_COUNT) if histogram.counts[i]]
    return [histogram.count, histogram.sum, histogram.largest, buckets]


def histogram_of(values):
    """A histogram of these nanoseconds, as the engine makes it: for tests."""
    cdef Histogram histogram
    memset(&histogram, 0, sizeof(Histogram))
    for value in values:
        histogram_add(&histogram, value)
    return _histogram(&histogram)


def arrivals_of(seed, interval_ns, is_poisson, count):
    """The first arrivals of an open loop, ns since its start: for tests."""
    cdef Plan plan
    cdef Arrivals arrivals
    memset(&plan, 0, sizeof(Plan))
    plan.interval = interval_ns
    plan.is_poisson = is_poisson
    chance_begin(&arrivals.chance, seed)
    arrivals.start, arrivals.due = 0, 0
    found = []
    for _ in range(count):
        arrivals_step(&arrivals, &plan)
        found.append(arrivals_due(&arrivals))
    return found


cdef class StormEngine:
    """See loadtests/_storm.pyi."""

    cdef Storm storm
    cdef list kept                  # bytes that the storm points into
    cdef bint is_begun

    def __cinit__(self):
        self.kept = []
        self.storm.epoll_fd = self.storm.timer_fd = self.storm.wake_fd = -1

    def __init__(self, plan, heads, templates, pool_open, tls):
        if self.is_begun:
            raise RuntimeError("an engine is made once")
        self.is_begun = True
        self._take_plan(dict(plan))
        for name, pairs in heads.items():
            self._take_head(STEPS[name], pairs)
        for name, template in templates.items():
            self._take_template(&self.storm.templates[STEPS[name]], template)
        self._take_template(&self.storm.pool_open, pool_open)
        self._make_callbacks()
        if tls is not None:
            self._take_tls(tls)
        self._make_links()
        self._make_descriptors()

    cdef void _take_plan(self, dict given) except *:
        cdef Plan* plan = &self.storm.plan
        cdef bytes address = given["address"]
        memcpy(self.storm.address, <const uint8_t*>address, len(address))
        self.storm.address_size = len(address)
        self.storm.family = AF_INET if len(address) == 16 else AF_INET6
        plan.cycle = CYCLES[given["cycle"]]
        plan.link_count = given["connections"]
        plan.streams = given["streams"]
        plan.sources = given["sources"]
        plan.sessions = given["sessions"]
        plan.interval = given["interval_ns"]
        plan.is_poisson = given["is_poisson"]
        plan.allows_denials = given["allows_denials"]
        plan.closes_sessions = given["closes_sessions"]
        plan.ends_with_server = given["ends_with_server"]
        plan.warmup = given["warmup_ns"]
        plan.duration = given["duration_ns"]
        plan.patience = given["patience_ns"]
        plan.connect_limit = given["connect_limit_ns"]
        plan.nonce = given["nonce"]
        plan.pool_nonce = given["pool_nonce"]
        plan.watched_clock = given["watched_clock"]
        chance_begin(&self.storm.chance, given["seed"])
        chance_begin(&self.storm.lead.chance, given["seed"] + 1)
        chance_begin(&self.storm.trail.chance, given["seed"] + 1)

    cdef void _take_head(self, int step, pairs) except *:
        cdef bytes name, value
        cdef int i
        for i, (name, value) in enumerate(pairs):
            self.kept += [name, value]
            self.storm.heads[step][i] = nghttp2_nv(
                name, value, len(name), len(value), NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)

    cdef void _take_template(self, Template* target, template) except *:
        cdef bytes body
        body, target.request_id_at, target.session_at, target.user_at = template
        if len(body) > STORM_BODY_SIZE_MAX:
            raise ValueError(f"a request of {len(body)} bytes; at most {STORM_BODY_SIZE_MAX}")
        self.kept.append(body)
        target.bytes = body
        target.size = len(body)

    cdef void _make_callbacks(self) except *:
        cdef nghttp2_session_callbacks* callbacks = NULL
        if nghttp2_session_callbacks_new(&callbacks) != 0 or nghttp2_option_new(&self.storm.options) != 0:
            raise MemoryError
        self.storm.callbacks = callbacks
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_head)
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data)
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame)
        nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_unsent)
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_end)
        nghttp2_option_set_no_closed_streams(self.storm.options, 1)

    cdef void _take_tls(self, tuple tls) except *:
        cdef bytes name, ca
        cdef SSL_CTX* context = SSL_CTX_new(TLS_client_method())
        if context == NULL:
            raise MemoryError
        self.storm.tls = context
        name, is_address, ca, certificate, private_part = tls
        self.kept.append(name)
        self.storm.tls_name = name
        self.storm.is_tls_name_address = is_address
        SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION)
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL)
        SSL_CTX_set_alpn_protos(context, b"\x02h2", 3)
        if SSL_CTX_load_verify_locations(context, ca, NULL) != 1:
            raise ValueError(f"{ca.decode()}: {self._tls_reason()}")
        if certificate is not None and SSL_CTX_use_certificate_chain_file(context, certificate) != 1:
            raise ValueError(f"{certificate.decode()}: {self._tls_reason()}")
        if private_part is not None and SSL_CTX_use_PrivateKey_file(context, private_part, SSL_FILETYPE_PEM) != 1:
            raise ValueError(f"{private_part.decode()}: {self._tls_reason()}")

    def _tls_reason(self):
        cdef const char* reason = ERR_reason_error_string(ERR_peek_last_error())
        ERR_clear_error()
        return "cannot be used" if reason == NULL else (<bytes>reason).decode()

    cdef void _make_links(self) except *:
        cdef Storm* storm = &self.storm
        cdef uint64_t slots = <uint64_t>storm.plan.link_count * storm.plan.streams
        cdef uint32_t i
        if not 1 <= storm.plan.link_count <= STORM_LINKS_MAX or slots > STORM_SLOTS_MAX or storm.plan.sessions > STORM_SESSIONS_MAX:
            raise ValueError(f"at most {STORM_LINKS_MAX} connections, {STORM_SLOTS_MAX} streams, {STORM_SESSIONS_MAX} sessions")
        storm.slot_count = <uint32_t>slots
        storm.links = <Link*>calloc(storm.plan.link_count, sizeof(Link))
        storm.slots = <Slot*>calloc(slots + 1, sizeof(Slot))
        storm.answers = <uint8_t*>malloc((slots + 1) * STORM_ANSWER_SIZE_MAX)
        storm.pool = <uint8_t*>malloc((storm.plan.sessions + 1) * STORM_SESSION_SIZE)
        storm.scratch = <uint8_t*>malloc(STORM_SCRATCH_SIZE)
        if storm.links == NULL or storm.slots == NULL or storm.answers == NULL or storm.pool == NULL or storm.scratch == NULL:
            raise MemoryError
        if not ring_begin(&storm.ready, storm.slot_count + 1) or not ring_begin(&storm.again, storm.slot_count + 1):
            raise MemoryError
        for i in range(storm.plan.link_count):
            storm.links[i].storm = storm
            storm.links[i].number = i
            storm.links[i].fd = -1
            storm.links[i].first_slot = i * storm.plan.streams
        for i in range(storm.slot_count):
            storm.slots[i].number = i
            storm.slots[i].link = &storm.links[i // storm.plan.streams]
            storm.slots[i].place = SLOT_RESTING
        storm.resting = storm.slot_count
        storm.note.slot = storm.slot_count
        storm.counts.streams_limit = 0xFFFFFFFF
        storm.first_touched = storm.first_down = storm.last_down = NO_LINK
        storm.run_begin = storm.run_end = INT64_MAX

    cdef void _make_descriptors(self) except *:
        cdef Storm* storm = &self.storm
        cdef epoll_event event
        storm.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        storm.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        storm.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if storm.epoll_fd < 0 or storm.timer_fd < 0 or storm.wake_fd < 0:
            raise OSError(errno, "epoll, timerfd or eventfd")
        event.events = EPOLLIN
        event.data.u64 = MARK_TIMER
        epoll_ctl(storm.epoll_fd, EPOLL_CTL_ADD, storm.timer_fd, &event)
        event.data.u64 = MARK_WAKE
        epoll_ctl(storm.epoll_fd, EPOLL_CTL_ADD, storm.wake_fd, &event)

    def __dealloc__(self):
        cdef Storm* storm = &self.storm
        cdef uint32_t i
        if storm.links != NULL:
            for i in range(storm.plan.link_count):
                link_close(storm, &storm.links[i], False)
                free(storm.links[i].unsent)
        for fd in (storm.epoll_fd, storm.timer_fd, storm.wake_fd):
            if fd >= 0:
                close(fd)
        nghttp2_session_callbacks_del(storm.callbacks)
        nghttp2_option_del(storm.options)
        if storm.tls != NULL:
            SSL_CTX_free(storm.tls)
        for pointer in (<size_t>storm.links, <size_t>storm.slots, <size_t>storm.answers, <size_t>storm.pool,
                        <size_t>storm.scratch, <size_t>storm.ready.items, <size_t>storm.again.items):
            free(<void*><size_t>pointer)

    def run(self):
        """The whole storm, without the GIL; once."""
        if self.storm.counts.rounds:
            raise RuntimeError("an engine runs once")
        with nogil:
            drive(&self.storm)
        if self.storm.is_fatal:
            raise OSError(self._example(FAULT_NONE))

    def stop(self):
        """The first call ends the measurement, the second everything. Any thread."""
        cdef uint64_t one = 1
        self.storm.stop_count = min(self.storm.stop_count + 1, 2)
        write(self.storm.wake_fd, &one, 8)

    def progress(self):
        """(phase, answered, faults, connections up, calls in flight, backlog) now. Any thread."""
        cdef Counts* counts = &self.storm.counts
        faults = sum(counts.faults[i] for i in range(FAULT_COUNT))
        return PHASES[self.storm.phase], counts.answered, faults, counts.links_up, self.storm.busy, counts.arrived - counts.taken

    def _example(self, int fault):
        return (<bytes>self.storm.examples[fault]).decode(errors="replace")

    def counts(self):
        """Everything that was counted, by name."""
        cdef Counts* c = &self.storm.counts
        values = (
            c.sent, c.answered, c.retried_unprocessed, c.cut, c.unanswered_at_end, c.measured, c.connects, c.connect_failures,
            c.goaways, c.resets, c.arrived, c.taken, c.backlog_peak, c.unsent_at_end, c.links_up, c.links_at_end, c.links_lost, c.rounds,
            c.streams_limit,
        )
        return dict(zip(COUNTED, values, strict=True))

    def answers(self):
        """Answers by kind."""
        return {name: self.storm.counts.answers[i] for i, name in enumerate(ANSWERS)}

    def statuses(self):
        """Calls by grpc-status."""
        return {i: self.storm.counts.statuses[i] for i in range(17) if self.storm.counts.statuses[i]}

    def reasons(self):
        """Reasons of google.rpc.ErrorInfo, counted."""
        return {(<bytes>self.storm.reasons[i].name).decode(errors="replace"): self.storm.reasons[i].count
                for i in range(self.storm.reason_count)}

    def faults(self):
        """Faults by kind: (how many, the first one in words)."""
        return {FAULTS[i]: (self.storm.counts.faults[i], self._example(i)) for i in range(1, FAULT_COUNT)
                if self.storm.counts.faults[i]}

    def latencies(self):
        """Histograms by step, of those that were measured."""
        return {name: _histogram(&self.storm.latencies[step]) for name, step in STEPS.items()
                if self.storm.latencies[step].count}

    def window(self):
        """(ns of the measured window, ns of our CPU in it, ns of the watched process's CPU in it)."""
        cdef Storm* s = &self.storm
        return s.window_end - s.window_begin, s.cpu_end - s.cpu_begin, s.watched_end - s.watched_begin

    def sessions(self):
        """Ids of the sessions that were opened first."""
        cdef uint64_t i
        return [(<const char*>self.storm.pool)[i * STORM_SESSION_SIZE:(i + 1) * STORM_SESSION_SIZE]
                for i in range(self.storm.pool_count)]

    @property
    def is_server_gone(self):
        """The server was there and refuses connections now."""
        return bool(self.storm.is_server_gone)
