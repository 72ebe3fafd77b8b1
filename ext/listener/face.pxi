# The Python face of the listener: made and asked from any thread, while each loop runs in a thread of its own.
#
# Nothing here waits for a loop: what the loops should know is stored atomically and they are woken.

SECOND_NS = 1_000_000_000
TIME_NS_MAX = 2**62


cdef int64_t _within(str name, object value, int64_t least, int64_t most) except? -1:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; it must lie between {least} and {most}")
    return value


cdef object _os_error():
    return OSError(errno, os.strerror(errno))


@cython.no_gc_clear                 # __dealloc__ needs the journal
cdef class Listener:
    """Serves client apps; see broker/_listener.pyi."""

    cdef Shared shared
    cdef object ledger
    cdef object ledger_port
    cdef object journal_port
    cdef bint is_watching
    cdef ServerContext context

    def __cinit__(
        self, ledger not None, listening_fd, *, thread_count=1, ServerContext tls=None, renew_grace_ns,
        connections_max=CONNECTIONS_DEFAULT, streams_max=H2_STREAMS_DEFAULT,
        handshake_ns=10 * SECOND_NS, headers_ns=10 * SECOND_NS, body_ns=30 * SECOND_NS, idle_ns=3600 * SECOND_NS,
        write_ns=30 * SECOND_NS, drain_ping_ns=5 * SECOND_NS, is_ticking=True, is_holding=None, journal=None,
    ):
        cdef Settings wanted
        cdef int64_t time_max = TIME_NS_MAX
        self.ledger = ledger
        self.ledger_port = ledger.port()
        self.context = tls
        self.shared.port = <const LedgerPort*>PyCapsule_GetPointer(self.ledger_port, PORT_NAME)
        if self.shared.port.version != PORT_VERSION or self.shared.port.state_size != sizeof(State):
            raise ValueError("broker._ledger and broker._listener are of different builds: run `make build`")
        self.shared.tls = &tls.context if tls is not None else NULL
        self.shared.listening_fd = <int>_within("listening_fd", listening_fd, 0, 2**31 - 1)
        self.shared.settings.connections_max = <uint32_t>_within("connections_max", connections_max, 1, CONNECTIONS_CEILING)
        self.shared.settings.handshake_ns = _within("handshake_ns", handshake_ns, 1, time_max)
        self.shared.settings.write_ns = _within("write_ns", write_ns, 1, time_max)
        self.shared.settings.renew_grace = _within("renew_grace_ns", renew_grace_ns, 0, time_max)
        self.shared.settings.is_ticking = is_ticking
        self.shared.settings.is_holding = journal is not None if is_holding is None else bool(is_holding)
        wanted.streams_max = <uint32_t>_within("streams_max", streams_max, 1, H2_STREAMS_CEILING)
        wanted.preface_ns = self.shared.settings.handshake_ns
        wanted.headers_ns = _within("headers_ns", headers_ns, 1, time_max)
        wanted.body_ns = _within("body_ns", body_ns, 1, time_max)
        wanted.idle_ns = _within("idle_ns", idle_ns, 1, time_max)
        wanted.drain_ns = _within("drain_ping_ns", drain_ping_ns, 1, time_max)
        self._make_loops(<uint32_t>_within("thread_count", thread_count, 1, LOOPS_MAX), &wanted)
        if journal is not None:
            self._take_journal(journal)

    cdef _take_journal(self, object capsule):
        """From here on it stores what is committed and wakes the loops, if answers are held."""
        cdef const JournalPort* journal = <const JournalPort*>PyCapsule_GetPointer(capsule, JOURNAL_PORT_NAME)
        cdef int descriptors[LOOPS_MAX]
        cdef uint32_t number
        if journal.version != JOURNAL_PORT_VERSION:
            raise ValueError("broker._journal and broker._listener are of different builds: run `make build`")
        for number in range(self.shared.loop_count):
            descriptors[number] = self.shared.loops[number].wake_fd
        if self.shared.settings.is_holding:
            if not journal.watch(journal, &self.shared.committed, descriptors, self.shared.loop_count):
                raise ValueError("the journal has as many watchers as it may")
            self.is_watching = True
        self.journal_port = capsule
        self.shared.journal = journal

    cdef _make_loops(self, uint32_t count, const Settings* wanted):
        cdef Loop* loop
        cdef uint32_t number
        if not listening_begin(self.shared.listening_fd):
            raise _os_error()
        for number in range(count):
            loop = <Loop*>malloc(sizeof(Loop))
            if loop == NULL:
                raise MemoryError
            self.shared.loops[number] = loop
            self.shared.loop_count = number + 1
            if not loop_begin(loop, &self.shared, number):
                raise _os_error() if loop.epoll_fd < 0 or loop.wake_fd < 0 else MemoryError()
            loop.server.settings.streams_max = wanted.streams_max
            loop.server.settings.preface_ns = wanted.preface_ns
            loop.server.settings.headers_ns = wanted.headers_ns
            loop.server.settings.body_ns = wanted.body_ns
            loop.server.settings.idle_ns = wanted.idle_ns
            loop.server.settings.drain_ns = wanted.drain_ns

    def __dealloc__(self):
        cdef uint32_t number
        global dumped_shared
        if dumped_shared == &self.shared:
            dumped_shared = NULL
        if self.is_watching:
            self.shared.journal.unwatch(self.shared.journal, &self.shared.committed)
        for number in range(self.shared.loop_count):
            loop_end(self.shared.loops[number])
            free(self.shared.loops[number])

    def run(self, number):
        """Serves until drained or stopped."""
        cdef Loop* loop = self.shared.loops[_within("number", number, 0, self.shared.loop_count - 1)]
        cdef sigset_t blocked
        cdef sigset_t before
        cdef void* stack
        if not take_once(&loop.is_begun):
            raise RuntimeError(f"loop {number} was run before")
        with nogil:
            faults_but_all(&blocked)
            pthread_sigmask(SIG_SETMASK, &blocked, &before)
            stack = malloc(SIGNAL_STACK_SIZE)
            signal_stack_begin(stack)
            loop_run(loop)
            signal_stack_end(stack)
            pthread_sigmask(SIG_SETMASK, &before, NULL)

    def set_serving(self, is_serving):
        """What health answers."""
        store_u8(&self.shared.is_serving, bool(is_serving))
        wake_all(&self.shared)

    def drain(self, grace_ns):
        """Asks everybody to go, and cuts who is left after the grace."""
        store_sooner(&self.shared.drain_due, clock_ns() + _within("grace_ns", grace_ns, 0, TIME_NS_MAX // 2))
        wake_all(&self.shared)

    def keep_port(self):
        """Another process has the listening socket, too."""
        store_u8(&self.shared.is_port_kept, True)

    def stop(self):
        """Ends the loops at once."""
        store_u8(&self.shared.is_stopping, True)
        wake_all(&self.shared)

    def wake(self):
        """Makes the loops look at once."""
        wake_all(&self.shared)

    def commit(self, uint64_t position):
        """Answers up to here may leave."""
        store_max(&self.shared.committed, position)
        wake_all(&self.shared)

    @property
    def position(self):
        cdef uint64_t newest = 0
        cdef uint32_t number
        for number in range(self.shared.loop_count):
            newest = max(newest, load_u64(&self.shared.loops[number].service.position))
        return newest

    def counters(self):
        """Everything that was counted so far."""
        return _counters(&self.shared)

    def last_states(self):
        """A line for each loop: what it did last."""
        return _last_states(&self.shared)


cdef void faults_but_all(sigset_t* blocked) noexcept nogil:
    """All signals but those that the thread itself brings about: blocked, they would kill without a word."""
    cdef int i
    sigfillset(blocked)
    for i in range(5):
        sigdelset(blocked, FATAL_SIGNALS[i])


_dumped = None


def install_fatal_dump(Listener listener not None, commands_file=None):
    """From now on a fatal signal prints the listener's last states, and writes the ledger's last commands."""
    global _dumped, commands_head_size
    cdef bytes path = b"" if commands_file is None else os.fsencode(commands_file)
    cdef bytes head = listener.ledger.recent_commands()[:calcsize(COMMAND_DUMP_HEAD)]
    if len(path) >= PATH_SIZE_MAX or len(head) > COMMANDS_HEAD_MAX:
        raise ValueError(f"{commands_file} is too long a name")
    commands_head_size = <uint32_t>len(head)
    memcpy(commands_head, PyBytes_AS_STRING(head), commands_head_size)
    strcpy(commands_path, PyBytes_AS_STRING(path))
    if not fatal_install(&listener.shared):
        raise _os_error()
    _dumped = listener
