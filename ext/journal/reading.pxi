# The log read, as Python sees it: by recovery, and by whoever follows what is committed.

cdef class LogReading:
    """An iterator of (log position, whole events); see broker/_journal.pyi."""

    cdef LogReader r
    cdef LogDisk place
    cdef uint8_t* data              # the segment at hand
    cdef list firsts
    cdef Py_ssize_t next_index
    cdef object until
    cdef CrashPoint crash_point
    cdef readonly object end

    def __cinit__(self, LogDisk place not None, bytes broker_id not None, position, until=None, CrashPoint crash_point=None):
        self.place = place
        self.crash_point = crash_point
        self.until = until
        self.firsts = _segments(place)
        if position is None:
            position = self.firsts[0] if self.firsts else 0
        reader_begin(&self.r, _eight(broker_id), position)
        self.next_index = max(0, len([first for first in self.firsts if first <= position]) - 1)

    def __dealloc__(self):
        free(self.data)

    @property
    def position(self):
        """Up to here all was verified."""
        return self.r.position

    def __iter__(self):
        return self

    def __next__(self):
        cdef EventSpan span
        cdef bint has_more
        while self.end is None:
            has_more = False
            if self.data != NULL and not self._is_enough():
                with nogil:
                    has_more = reader_span(&self.r, &span)
            if has_more:
                if self.crash_point is not None:
                    crash_here(&self.crash_point.state, CRASH_MID_RECOVERY)
                return span.position, PyBytes_FromStringAndSize(<char*>self.data + span.offset, span.size)
            self._go_on()
        raise StopIteration

    cdef bint _is_enough(self):
        return self.until is not None and self.r.position >= self.until

    cdef _go_on(self):
        """The next segment, or the end."""
        if self._is_enough():
            self._finish(STOP_END)
        elif self.data == NULL and not self.firsts:
            self._finish(STOP_END if self.r.wanted == 0 and not self.until else STOP_SHORT)
        elif self.data == NULL or self.r.stop == STOP_SEGMENT:
            self._load()
        elif self.until is not None and self.r.stop in (STOP_END, STOP_TORN):
            self._look_again()
        else:
            self._finish(self.r.stop)

    cdef _look_again(self):
        """The log may have gone on to another segment since its names were read."""
        self.firsts = _segments(self.place)
        if self.r.position not in self.firsts or self.r.position == self.r.first:
            self._finish(STOP_SHORT)
        else:
            self.next_index = self.firsts.index(self.r.position)
            self._load()

    cdef _load(self):
        """The bytes of the next segment, for the reader to judge."""
        cdef char name[FILE_NAME_SIZE]
        cdef uint64_t first = self.firsts[self.next_index]
        cdef bint is_last = self.next_index == len(self.firsts) - 1
        cdef int64_t size
        segment_name(name, first)
        self.next_index += 1
        free(self.data)
        self.data = NULL
        with nogil:
            size = file_load(&self.place.disk, name, &self.data)
        if size < 0:
            raise OSError(-size, os.strerror(-size), f"{self.place.name}/{name.decode()}")
        if not is_last:
            segment_name(name, self.firsts[self.next_index])
            self.place.disk.read_ahead(&self.place.disk, name)
        with nogil:
            reader_segment(&self.r, first, self.data, size, is_last)

    cdef _finish(self, uint8_t stop):
        cdef char name[FILE_NAME_SIZE]
        cdef LogReader* r = &self.r
        segment_name(name, r.name)
        segment = name.decode() if self.data != NULL else ""
        free(self.data)
        self.data = NULL
        self.end = LogEnd(LogStop(stop), r.position, segment, r.offset, r.torn_size, bool(r.is_whole), r.found, r.generation)
        if not self.end.is_good:
            raise LogDamaged(Path(self.place.name), self.end)


cdef int64_t file_load(Disk* disk, const char* name, uint8_t** data) noexcept nogil:
    """All of a segment, in memory that is the caller's from now on; its size, or -errno."""
    cdef int64_t file = disk.open_file(disk, name, OPEN_TO_READ)
    cdef int64_t size
    if file < 0:
        return file
    size = disk.file_size(disk, file)
    if size > SEGMENT_SIZE_CEILING:
        size = -EOVERFLOW
    if size >= 0:
        data[0] = <uint8_t*>malloc(size + 1)
        size = read_all(disk, file, data[0], size, 0) if data[0] != NULL else -ENOMEM
    disk.close_file(disk, file)
    return size


cdef list _segments(LogDisk place):
    return _positions(place, b".log")


cdef list _positions(LogDisk place, const char* ending):
    """Positions in the names of all files of this ending, in order. Other files are nobody's business."""
    cdef FileName* names = <FileName*>malloc(LOG_FILES_MAX * sizeof(FileName))
    cdef list firsts = []
    cdef int64_t count, i
    cdef uint64_t first
    if names == NULL:
        raise MemoryError
    try:
        with nogil:
            count = place.disk.list_files(&place.disk, names, LOG_FILES_MAX)
        if count < 0:
            raise OSError(-count, os.strerror(-count), place.name)
        for i in range(count):
            if position_named(names[i].text, ending, &first):
                firsts.append(first)
    finally:
        free(names)
    return sorted(firsts)


cdef const uint8_t* _eight(bytes broker_id) except NULL:
    if len(broker_id) != 8:
        raise ValueError(f"broker_id has {len(broker_id)} bytes; it needs 8")
    return <const uint8_t*>PyBytes_AS_STRING(broker_id)


def read_log(place, *, bytes broker_id, position=None, until=None):
    """The events of a log from a position on; without the lock, so beside a committer give `until`."""
    return LogReading(_disk_of(place), broker_id, position, until)
