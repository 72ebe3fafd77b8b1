# The Python face of a connection: integers and bytes in, tuples and bytes out. For tests; no request of a client comes by.

SHAPES = {"unary": SHAPE_UNARY, "server_stream": SHAPE_SERVER_STREAM, "client_stream": SHAPE_CLIENT_STREAM, "bidi": SHAPE_BIDI}

EVENT_KINDS = {
    H2_STARTED: "started", H2_MESSAGE: "message", H2_HALF_CLOSED: "half_closed", H2_CANCELLED: "cancelled",
    H2_WRITABLE: "writable", H2_GOING_AWAY: "going_away", H2_OVER: "over",
}

CAUSES = {
    CAUSE_NONE: "none", CAUSE_PROTOCOL: "protocol", CAUSE_MEMORY: "memory", CAUSE_PINGS: "pings",
    CAUSE_SETTINGS: "settings", CAUSE_RESETS: "resets", CAUSE_NOISE: "noise", CAUSE_CONTINUATIONS: "continuations",
    CAUSE_HEADERS: "headers", CAUSE_QUEUE: "queue", CAUSE_PREFACE_LATE: "preface_late",
    CAUSE_HEADERS_LATE: "headers_late", CAUSE_IDLE: "idle", CAUSE_LATE: "late",
}

SAID_WORDS = {SAID: "said", SAID_TO_NOBODY: "nobody", SAID_NO_ROOM: "no_room"}




Event = tuple


cdef tuple _metadata(const uint8_t* data, uint32_t size):
    """The kept headers as (name, value) pairs of bytes."""
    cdef uint16_t sizes[2]
    cdef uint32_t at = 0
    pairs = []
    while at < size:
        memcpy(sizes, data + at, 4)
        at += 4
        pairs.append((
            PyBytes_FromStringAndSize(<const char*>data + at, sizes[0]),
            PyBytes_FromStringAndSize(<const char*>data + at + sizes[0], sizes[1]),
        ))
        at += sizes[0] + sizes[1]
    return tuple(pairs)


cdef tuple _event(const H2Event* event):
    return (
        EVENT_KINDS[event.kind], event.name, event.method,
        PyBytes_FromStringAndSize(<const char*>event.data, event.size) if event.size else b"",
        bool(event.is_last), event.deadline if event.deadline != INT64_MAX else None,
        _metadata(event.metadata, event.metadata_size), event.code, CAUSES[event.cause],
    )


cdef class ServerConnection:
    """One connection with a server of its own; see broker/_h2.pyi."""

    cdef Server server
    cdef Connection connection
    cdef H2Events* events
    cdef list told

    def __cinit__(self, methods, now_ns=0, **settings):
        self.told = []
        if not server_begin(&self.server):
            raise MemoryError
        self.events = <H2Events*>calloc(1, sizeof(H2Events))
        if self.events == NULL:
            raise MemoryError
        for path, shape in methods.items():
            self._add_method(path.encode(), SHAPES[shape])
        self._set(dict(settings))
        if not connection_begin(&self.connection, &self.server, now_ns):
            raise MemoryError("memory_size_max has no room for a connection")

    def _add_method(self, bytes path, uint8_t shape):
        if not server_method(&self.server, <const uint8_t*>PyBytes_AS_STRING(path), len(path), shape):
            raise ValueError(f"at most {H2_METHODS_MAX} methods, of at most {H2_METHOD_PATH_SIZE_MAX} bytes")

    def _set(self, dict given):
        cdef Settings* s = &self.server.settings
        s.streams_max = min(given.pop("streams_max", s.streams_max), H2_STREAMS_CEILING)
        s.window_size = given.pop("window_size", s.window_size)
        s.message_size_max = min(given.pop("message_size_max", s.message_size_max), H2_MESSAGE_SIZE_CEILING)
        s.header_size_max = given.pop("header_size_max", s.header_size_max)
        s.output_size_max = given.pop("output_size_max", s.output_size_max)
        s.ping_strikes_max = given.pop("ping_strikes_max", s.ping_strikes_max)
        s.buffered_size_max = given.pop("buffered_size_max", s.buffered_size_max)
        s.memory_size_max = given.pop("memory_size_max", s.memory_size_max)
        self.server.crowd.size_max = given.pop("crowd_size_max", self.server.crowd.size_max)
        s.preface_ns = given.pop("preface_ns", s.preface_ns)
        s.headers_ns = given.pop("headers_ns", s.headers_ns)
        s.body_ns = given.pop("body_ns", s.body_ns)
        s.idle_ns = given.pop("idle_ns", s.idle_ns)
        s.drain_ns = given.pop("drain_ns", s.drain_ns)
        s.ping_interval_ns = given.pop("ping_interval_ns", s.ping_interval_ns)
        s.is_metadata_kept = given.pop("is_metadata_kept", s.is_metadata_kept)
        s.is_authorization_kept = given.pop("is_authorization_kept", s.is_authorization_kept)
        if given:
            raise ValueError(f"unknown settings: {sorted(given)}")

    def __dealloc__(self):
        if self.connection.session != NULL:
            events_clear(&self.connection, self.events)
            connection_free(&self.connection)
        server_end(&self.server)
        free(self.events)

    cdef void _take(self):
        cdef uint32_t i
        for i in range(self.events.count):
            self.told.append(_event(&self.events.items[i]))
        events_clear(&self.connection, self.events)

    cdef list _tell(self):
        told, self.told = self.told, []
        return told

    def feed(self, int64_t now_ns, bytes data):
        cdef size_t taken = 0
        cdef size_t size = len(data)
        cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(data)
        while taken < size:
            with nogil:
                taken += feed(&self.connection, now_ns, start + taken, size - taken, self.events)
            self._take()
        return self._tell()

    def on_time(self, int64_t now_ns):
        with nogil:
            on_time(&self.connection, now_ns, self.events)
        self._take()
        return self._tell()

    def next_due_ns(self):
        due = next_due(&self.connection)
        return None if due == INT64_MAX else due

    def message(self, uint64_t name, bytes data):
        return SAID_WORDS[say_message(&self.connection, name, <const uint8_t*>PyBytes_AS_STRING(data), len(data))]

    def finish(self, uint64_t name, uint32_t status=0, str message="", bytes details=b""):
        cdef bytes text = message.encode()
        return SAID_WORDS[say_finish(
            &self.connection, name, status, <const uint8_t*>PyBytes_AS_STRING(text), len(text),
            <const uint8_t*>PyBytes_AS_STRING(details), len(details),
        )]

    def reset(self, uint64_t name, uint32_t code=NGHTTP2_CANCEL):
        return SAID_WORDS[say_reset(&self.connection, name, code)]

    def is_writable(self, uint64_t name):
        return bool(is_writable(&self.connection, name))

    def output(self, size_t size_max=65536, now_ns=0):
        cdef bytearray target = bytearray(size_max)
        cdef uint8_t* start = <uint8_t*>target
        cdef int64_t now = now_ns
        with nogil:
            size_max = output(&self.connection, now, start, size_max, self.events)
        self._take()
        return bytes(target[:size_max])

    def events_of_output(self):
        return self._tell()

    def drain(self, int64_t now_ns):
        drain(&self.connection, now_ns)

    @property
    def want_write(self):
        return bool(want_write(&self.connection))

    @property
    def can_close(self):
        return bool(can_close(&self.connection))

    @property
    def is_over(self):
        return bool(self.connection.is_over)

    def memory(self):
        return self.connection.memory.size, self.connection.memory.count

    def stream_count(self):
        return self.connection.stream_count

    def totals(self):
        cdef H2Totals* t = &self.server.totals
        return {
            "connections": t.connections, "streams": t.streams, "streams_refused": t.streams_refused,
            "messages_received": t.messages_received, "messages_sent": t.messages_sent, "answers": t.answers,
            "refusals": t.refusals, "cancelled": t.cancelled, "goaways_received": t.goaways_received, "goaways_sent": t.goaways_sent,
            "bytes_received": t.bytes_received, "bytes_sent": t.bytes_sent,
            "causes": {word: t.causes[cause] for cause, word in CAUSES.items()},
        }


cdef uint64_t answer_all(Connection* c, H2Events* events) noexcept nogil:
    """Answers every whole single request with itself; how many."""
    cdef uint64_t count = 0
    cdef uint32_t i
    for i in range(events.count):
        if events.items[i].kind == H2_MESSAGE and events.items[i].is_last:
            say_message(c, events.items[i].name, events.items[i].data, events.items[i].size)
            say_finish(c, events.items[i].name, GRPC_OK, NULL, 0, NULL, 0)
            count += 1
    events_clear(c, events)
    return count


cdef uint64_t echo(Connection* c, const uint8_t* data, size_t size, uint8_t* target, size_t capacity, H2Events* events) noexcept nogil:
    cdef size_t taken = 0
    cdef uint64_t count = 0
    while taken < size:
        taken += feed(c, 0, data + taken, size - taken, events)
        count += answer_all(c, events)
        while output(c, 0, target, capacity, events) == capacity:
            pass
        events_clear(c, events)
    return count


def echo_requests(ServerConnection connection, bytes requests):
    """Feeds calls and answers each with its own message, without Python in between: for measuring. How many it answered."""
    cdef uint8_t target[65536]
    cdef uint64_t count
    cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(requests)
    cdef size_t size = len(requests)
    with nogil:
        count = echo(&connection.connection, start, size, target, 65536, connection.events)
    return count
