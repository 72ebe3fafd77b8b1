# Snapshots as Python sees them: one thread at a time for each writer and reading.

@cython.no_gc_clear                 # __dealloc__ needs the disk
cdef class SnapshotWriter:
    """A snapshot that is being written; see broker/_journal.pyi."""

    cdef SnapshotFile s
    cdef SegmentHeader facts
    cdef LogDisk place
    cdef CrashPoint crash_point

    def __cinit__(self, place, *, bytes broker_id not None, generation, position, salt_seed=None, crash_point=None):
        self.s.file = -1
        memcpy(self.facts.broker_id, _eight(broker_id), 8)
        self.facts.generation = <uint64_t>_within("generation", generation, 1, 2**23 - 1)
        self.facts.first = position
        self.s.salt = word_mix(<uint64_t>(int.from_bytes(os.urandom(8)) if salt_seed is None else salt_seed) ^ self.facts.first)
        self.s.block = <uint8_t*>malloc(BLOCK_HEADER_SIZE + GROUP_SIZE_CEILING)
        if self.s.block == NULL:
            raise MemoryError
        self.place = _disk_of(place)
        self.s.disk = &self.place.disk
        self.crash_point = _crash_point_of(crash_point)
        if self.crash_point is not None:
            self.s.crash = &self.crash_point.state
        self._checked(snapshot_begin(&self.s))

    def __dealloc__(self):
        snapshot_end(&self.s, True)
        free(self.s.block)

    cdef _checked(self, int64_t error):
        if error < 0:
            self.abandon()
            raise OSError(-error, f"the snapshot cannot be written: {os.strerror(-error)}", self.place.name)

    cdef _must_be_open(self):
        if self.s.file < 0:
            raise RuntimeError("the snapshot is committed or abandoned")

    @property
    def size(self):
        """Of the file so far."""
        return self.s.offset

    def write(self, bytes events not None):
        """The next whole events."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(events)
        cdef uint64_t size = len(events)
        cdef int64_t error
        self._must_be_open()
        if whole_size(data, size, size) != size:
            raise ValueError(f"these {size} bytes are not whole events")
        with nogil:
            error = snapshot_write(&self.s, data, size)
        self._checked(error)

    def commit(self):
        """All of it is on the disk and has its name, which it gives."""
        cdef char name[FILE_NAME_SIZE]
        cdef int64_t error
        self._must_be_open()
        with nogil:
            error = snapshot_commit(&self.s, &self.facts)
        self._checked(error)
        snapshot_end(&self.s, False)
        snapshot_name(name, self.facts.first)
        return name.decode()

    def abandon(self):
        """As if it had never been begun."""
        snapshot_end(&self.s, True)


@cython.no_gc_clear
cdef class SnapshotReading:
    """An iterator of whole events, all of which verify; see broker/_journal.pyi."""

    cdef SnapshotCursor s
    cdef LogDisk place
    cdef CrashPoint crash_point
    cdef readonly str name
    cdef readonly object position
    cdef readonly object generation

    def __cinit__(self, LogDisk place not None, bytes broker_id not None, position, crash_point=None):
        cdef char name[FILE_NAME_SIZE]
        self.s.file = -1
        snapshot_name(name, position)
        self.name = name.decode()
        self.position = position
        self.place = place
        self.crash_point = _crash_point_of(crash_point)
        self.s.disk = &place.disk
        self.s.block = <uint8_t*>malloc(BLOCK_HEADER_SIZE + GROUP_SIZE_CEILING)
        if self.s.block == NULL:
            raise MemoryError
        self.s.file = place.disk.open_file(&place.disk, name, OPEN_TO_READ)
        if self.s.file < 0:
            raise OSError(-self.s.file, os.strerror(-self.s.file), f"{place.name}/{self.name}")
        place.disk.read_ahead(&place.disk, name)
        self._verify(_eight(broker_id), position)

    def __dealloc__(self):
        if self.s.file >= 0:
            self.s.disk.close_file(self.s.disk, self.s.file)
        free(self.s.block)

    cdef _verify(self, const uint8_t* broker_id, uint64_t position):
        cdef SegmentHeader header
        cdef uint8_t stop
        with nogil:
            stop = snapshot_head(&self.s, broker_id, position, &header)
            if stop == STOP_NONE:
                stop = snapshot_verify(&self.s)
        if stop != STOP_END:
            self._refuse(stop)
        self.generation = header.generation

    cdef _refuse(self, uint8_t stop):
        """The disk does not give it, or gives something else than was written."""
        if self.s.error:
            raise OSError(-self.s.error, os.strerror(-self.s.error), f"{self.place.name}/{self.name}")
        raise SnapshotDamaged(Path(self.place.name), self.name, LogStop(stop), self.s.offset)

    @property
    def size(self):
        """Of the file."""
        return self.s.file_size

    def __iter__(self):
        return self

    def __next__(self):
        cdef uint8_t stop
        with nogil:
            stop = snapshot_step(&self.s)
        if stop == STOP_END:
            raise StopIteration
        if stop != STOP_NONE:
            self._refuse(stop)
        if self.crash_point is not None:
            crash_here(&self.crash_point.state, CRASH_MID_RECOVERY)
        return PyBytes_FromStringAndSize(<char*>self.s.block + BLOCK_HEADER_SIZE, self.s.size)


def snapshot_positions(place):
    """Up to where each snapshot that lies there goes, newest first."""
    return _positions(_disk_of(place), b".snap")[::-1]


def segment_positions(place):
    """Where each segment that lies there begins, oldest first."""
    return _segments(_disk_of(place))


def read_snapshot(place, *, bytes broker_id, position=None, crash_point=None):
    """A snapshot, verified whole; without a position the newest."""
    cdef LogDisk disk = _disk_of(place)
    if position is None:
        positions = snapshot_positions(disk)
        if not positions:
            raise FileNotFoundError(ENOENT, "there is no snapshot", disk.name)
        position = positions[0]
    return SnapshotReading(disk, broker_id, position, crash_point)
