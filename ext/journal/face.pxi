# The Python face of the journal: begun and asked from any thread, while one thread runs the committer.

SIZE_CEILING = 2**63 - 1

cdef int LEFT_ALONE[6]
LEFT_ALONE[:] = [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP]


cdef int64_t _within(str name, object value, int64_t least, int64_t most) except? -1:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; it must lie between {least} and {most}")
    return value


def checksum(bytes data, uint32_t before=0, *, is_by_table=False):
    """CRC32C, so that tests can hold it against the published vectors."""
    cdef const char* source = PyBytes_AS_STRING(data)
    return crc32c_by_table(before, source, len(data)) if is_by_table else crc32c(before, source, len(data))


cdef class EventQueue:
    """Events that somebody else makes: a source beside the ledger; see broker/_journal.pyi."""

    cdef QueueSource queue

    def __cinit__(self, size):
        self.queue.size = <uint64_t>_within("size", size, GROUP_SIZE_MIN, 2**40)
        self.queue.base = <uint8_t*>malloc(self.queue.size)
        pthread_mutex_init(&self.queue.mutex, NULL)
        if self.queue.base == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.queue.base)
        pthread_mutex_destroy(&self.queue.mutex)

    def put(self, bytes events not None):
        """Whether there was room."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(events)
        cdef uint64_t size = len(events)
        cdef bint is_put
        if whole_size(data, size, size) != size:
            raise ValueError(f"these {size} bytes are not whole events")
        with nogil:
            is_put = queue_put(&self.queue, data, size)
        return is_put

    @property
    def position(self):
        """Behind all that was put."""
        return self.queue.tail

    @property
    def free_size(self):
        return self.queue.size - (self.queue.tail - self.queue.head)


@cython.no_gc_clear                 # __dealloc__ needs the disk
cdef class Journal:
    """The log of one broker, and its committer; see broker/_journal.pyi."""

    cdef Committer c
    cdef EventSource source
    cdef LedgerSource ledger_source
    cdef JournalPort entry
    cdef readonly LogDisk place
    cdef LogReading recovery
    cdef CrashPoint crash_point
    cdef object source_owner
    cdef bytes broker_id
    cdef uint64_t generation
    cdef uint64_t segment_size
    cdef uint64_t salt_seed
    cdef bint is_closed

    def __cinit__(
        self, place, *, bytes broker_id not None, generation, segment_size=SEGMENT_SIZE_DEFAULT,
        group_size_max=GROUP_SIZE_DEFAULT, salt_seed=None, crash_point=None, sync_delay_ns=0,
    ):
        self.c.file = self.c.spare.file = self.c.wake_fd = self.c.failure_fd = -1  # before anything can fail
        _eight(broker_id)
        self.broker_id = broker_id
        self.generation = <uint64_t>_within("generation", generation, 1, 2**23 - 1)
        self.segment_size = <uint64_t>_within("segment_size", segment_size, SEGMENT_SIZE_MIN, SEGMENT_SIZE_CEILING) & ~<uint64_t>4095
        self.c.group_size_max = <uint64_t>_within(
            "group_size_max", group_size_max, GROUP_SIZE_MIN,
            min(GROUP_SIZE_CEILING, self.segment_size - SEGMENT_HEADER_SIZE - BLOCK_HEADER_SIZE),
        )
        self.salt_seed = int.from_bytes(os.urandom(8)) if salt_seed is None else salt_seed
        self.c.group = <uint8_t*>malloc(BLOCK_HEADER_SIZE + self.c.group_size_max)
        if self.c.group == NULL:
            raise MemoryError
        self.c.sync_delay_ns = _within("sync_delay_ns", sync_delay_ns, 0, 10_000_000_000)
        self.crash_point = _crash_point_of(crash_point)
        if self.crash_point is not None:
            self.c.crash = &self.crash_point.state
        self.place = _disk_of(place)
        self.c.disk = &self.place.disk
        if not committer_begin(&self.c):
            raise OSError(errno, os.strerror(errno))
        self._lock()
        self.entry.version = JOURNAL_PORT_VERSION
        self.entry.committer = &self.c
        self.entry.wake = port_wake
        self.entry.watch = port_watch
        self.entry.unwatch = port_unwatch

    cdef _lock(self):
        cdef int64_t holder
        cdef int64_t error = self.place.disk.take_lock(&self.place.disk, &holder)
        if error == -EAGAIN:
            raise AlreadyRunning(Path(self.place.name), holder)
        if error < 0:
            raise OSError(-error, os.strerror(-error), self.place.name)

    def __dealloc__(self):
        committer_end(&self.c)

    # --- from the disk to a running committer ----------------------------------------------------------------------------

    def recover(self, position=0):
        """What was committed from this position on. To be read to its end before `begin`."""
        if self.c.is_begun:
            raise RuntimeError("recover comes before begin")
        self.recovery = LogReading(self.place, self.broker_id, position, None, self.crash_point)
        return self.recovery

    def begin(self, source not None):
        """Settles the end of the last run, and starts a segment of this generation behind it."""
        cdef int64_t error
        if self.recovery is None or self.recovery.end is None or not self.recovery.end.is_good:
            raise RuntimeError("recover, and read it to its end, before begin")
        if self.c.is_begun:
            raise RuntimeError("begin was called before")
        if self.recovery.r.generation > self.generation:
            raise DataDirectoryError(
                Path(self.place.name), f"the log was written by start {self.recovery.r.generation} of the broker, and this is only start {self.generation}",
                "restore all of the data directory, not a part of it",
            )
        self._take_segments()
        self._connect(source)
        writer_begin(&self.c.writer, _eight(self.broker_id), self.generation, self.salt_seed, self.segment_size, self.recovery.r.position)
        with nogil:
            error = log_settle(&self.c, &self.recovery.r)
            if error >= 0:
                crash_here(self.c.crash, CRASH_MID_RECOVERY)
                error = segment_start(&self.c)
        if error < 0:
            raise OSError(-error, f"the log cannot be begun: {os.strerror(-error)}", self.place.name)
        self.c.committed = self.c.writer.position
        self.c.oldest = self.c.firsts[0]
        self.c.is_begun = True
        watchers_tell(&self.c)

    cdef _take_segments(self):
        cdef list firsts = _segments(self.place)
        cdef Py_ssize_t i
        if len(firsts) >= LOG_FILES_MAX:
            raise OSError(EOVERFLOW, os.strerror(EOVERFLOW), self.place.name)
        for i in range(len(firsts)):
            self.c.firsts[i] = firsts[i]
        self.c.segment_count = len(firsts)

    cdef _connect(self, source):
        """`base` is what log positions are ahead of the source's."""
        self.c.source = &self.source
        self.source_owner = source
        if isinstance(source, EventQueue):
            self.source.inner = &(<EventQueue>source).queue
            self.source.read = queue_read
            self.source.release = queue_release
            self.source.position = (<EventQueue>source).queue.head
        elif self.c.group_size_max < UNIT_SIZE_MAX:
            raise ValueError(f"group_size_max is {self.c.group_size_max}; the events of one command need up to {UNIT_SIZE_MAX}")
        else:
            self.source_owner = source.port()
            self.ledger_source.port = <const LedgerPort*>PyCapsule_GetPointer(self.source_owner, PORT_NAME)
            if self.ledger_source.port.version != PORT_VERSION or self.ledger_source.port.state_size != sizeof(State):
                raise ValueError("broker._ledger and broker._journal are of different builds: build them together")
            self.source.inner = &self.ledger_source
            self.source.read = ledger_read
            self.source.release = ledger_release
            self.source.position = self.ledger_source.cursor.position = ledger_head(self.ledger_source.port)
            ledger_release(&self.source, self.source.position)  # so that nobody else drains it
        self.c.base = self.recovery.r.position - self.source.position

    # --- the committer's thread ---------------------------------------------------------------------------------------------

    cdef _must_be_begun(self):
        if not self.c.is_begun or self.is_closed:
            raise RuntimeError("the journal has not begun, or is closed")

    def run(self):
        """Commits until `stop` or a failure; gives the failure, or None."""
        cdef sigset_t blocked
        cdef sigset_t before
        cdef int i
        self._must_be_begun()
        with nogil:
            sigfillset(&blocked)
            for i in range(6):
                sigdelset(&blocked, LEFT_ALONE[i])
            pthread_sigmask(SIG_SETMASK, &blocked, &before)
            committer_run(&self.c)
            pthread_sigmask(SIG_SETMASK, &before, NULL)
        return self.failure

    def step(self):
        """One round in the caller's thread, instead of `run`: whether something was done."""
        cdef int done
        self._must_be_begun()
        with nogil:
            done = committer_round(&self.c)
        return done == ROUND_WORKED

    def wake(self):
        """Events were written."""
        committer_wake(&self.c)

    def stop(self):
        """Lets `run` return when all that was written before is committed."""
        store_u8(&self.c.is_stopping, True)
        committer_wake(&self.c)

    def close(self):
        """Gives back the lock. After `run` has returned."""
        if not self.is_closed:
            self.is_closed = True
            self.place.close()

    # --- told and asked -----------------------------------------------------------------------------------------------------------

    def watch(self, descriptor):
        """An eventfd that is written to after each commit, and once now."""
        cdef int number = descriptor
        if not watch_add(&self.c, NULL, &number, 1):
            raise ValueError(f"{COMMIT_WATCHERS_MAX} are watching already")

    def unwatch(self, descriptor):
        """Ends `watch`."""
        watch_remove(&self.c, NULL, descriptor)

    def retire(self, position):
        """Segments whose events all lie before this position may go: a snapshot holds them."""
        store_u64(&self.c.retire_below, position)
        committer_wake(&self.c)

    @property
    def is_begun(self):
        return bool(self.c.is_begun)

    @property
    def committed(self):
        """Log position."""
        return load_u64(&self.c.committed)

    @property
    def oldest(self):
        """Log position of the first event that is kept."""
        return load_u64(&self.c.oldest)

    @property
    def base(self):
        """Log positions are so much ahead of the source's; modulo 2**64."""
        return self.c.base

    @property
    def failure_fd(self):
        return self.c.failure_fd

    @property
    def failure(self):
        """Why the committer stopped for good, or None."""
        if not load_u8(&self.c.is_failed):
            return None
        return JournalFailure(JournalStep(self.c.failure.step), self.c.failure.errno_value, self.c.failure.position)

    def counters(self):
        """All that was counted so far; read while it goes on."""
        cdef JournalTotals totals = self.c.totals
        cdef uint32_t segments = self.c.segment_count
        return JournalCounters(
            groups=totals.groups, event_size=totals.event_size, written_size=totals.written_size, syncs=totals.syncs,
            sync_ns=totals.sync_ns, sync_bucket_counts=tuple([totals.sync_buckets[i] for i in range(SYNC_BUCKET_COUNT)]),
            largest_group_size=totals.largest_group_size, rolls=totals.rolls, rolls_without_spare=totals.rolls_without_spare,
            retired=totals.retired, wakes=totals.wakes, segment_count=segments, log_size=segments * self.segment_size,
            committed=self.committed, oldest=self.oldest, spare_errno=self.c.spare.errno_value,
        )

    def port(self):
        """The journal for other compiled modules: a JournalPort in a capsule that keeps the journal alive."""
        cdef object capsule = PyCapsule_New(&self.entry, JOURNAL_PORT_NAME, _let_go)
        PyCapsule_SetContext(capsule, <void*>self)
        Py_INCREF(self)
        return capsule


cdef void _let_go(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))
