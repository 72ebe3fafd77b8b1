# Where a log lies, as Python sees it: a directory, or a simulated disk.

cdef class LogDisk:
    """A table of functions over a directory; the two below are all there are."""

    cdef Disk disk
    cdef readonly str name          # for people

    def close(self):
        """Gives back lock and descriptors. Nothing may use it any more."""

    cdef int64_t _checked(self, int64_t outcome, str name) except -1:
        if outcome < 0:
            raise OSError(-outcome, os.strerror(-outcome), f"{self.name}/{name}")
        return outcome

    def file_names(self):
        """Of all files, in order."""
        cdef FileName* names = <FileName*>malloc(LOG_FILES_MAX * sizeof(FileName))
        cdef int64_t count
        if names == NULL:
            raise MemoryError
        try:
            with nogil:
                count = self.disk.list_files(&self.disk, names, LOG_FILES_MAX)
            self._checked(count, "")
            return sorted([names[i].text.decode() for i in range(count)])
        finally:
            free(names)

    def free_size(self):
        """Bytes that can still be written."""
        return self._checked(self.disk.free_size(&self.disk), "")

    def file_size(self, str name):
        """Bytes; see broker/_journal.pyi."""
        cdef bytes text = name.encode()
        cdef int64_t file = self._checked(self.disk.open_file(&self.disk, PyBytes_AS_STRING(text), OPEN_TO_READ), name)
        cdef int64_t size = self.disk.file_size(&self.disk, file)
        self.disk.close_file(&self.disk, file)
        return self._checked(size, name)

    def load(self, str name):
        """A small file; see broker/_journal.pyi."""
        cdef bytes text = name.encode()
        cdef int64_t file = self._checked(self.disk.open_file(&self.disk, PyBytes_AS_STRING(text), OPEN_TO_READ), name)
        cdef int64_t size = self.disk.file_size(&self.disk, file)
        cdef bytes data = PyBytes_FromStringAndSize(NULL, max(0, min(size, SMALL_FILE_SIZE_MAX)))
        if size >= 0:
            size = read_all(&self.disk, file, <uint8_t*>PyBytes_AS_STRING(data), len(data), 0)
        self.disk.close_file(&self.disk, file)
        return data[: self._checked(size, name)]

    def store(self, str name, bytes data not None):
        """Makes or replaces a small file, durably."""
        cdef bytes fresh = f"{name}-new".encode()
        cdef bytes text = name.encode()
        cdef Disk* disk = &self.disk
        cdef int64_t file, error
        if len(fresh) >= FILE_NAME_SIZE:
            raise ValueError(f"{name!r} is too long a name")
        file = self._checked(disk.open_file(disk, PyBytes_AS_STRING(fresh), OPEN_NEW), name)
        error = write_all(disk, file, <const uint8_t*>PyBytes_AS_STRING(data), len(data), 0)
        if error >= 0:
            with nogil:
                error = disk.sync_data(disk, file)
        disk.close_file(disk, file)
        if error >= 0:
            error = disk.rename_file(disk, PyBytes_AS_STRING(fresh), PyBytes_AS_STRING(text))
        if error >= 0:
            with nogil:
                error = disk.sync_names(disk)
        self._checked(error, name)

    def drop(self, str name):
        """Removes a file; durable with the next change that is."""
        cdef bytes text = name.encode()
        self._checked(self.disk.remove_file(&self.disk, PyBytes_AS_STRING(text)), name)

    def move(self, str name, str new_name):
        """Gives a file another name; durable with the next change that is."""
        cdef bytes text = name.encode()
        cdef bytes new_text = new_name.encode()
        if len(new_text) >= FILE_NAME_SIZE:
            raise ValueError(f"{new_name!r} is too long a name")
        self._checked(self.disk.rename_file(&self.disk, PyBytes_AS_STRING(text), PyBytes_AS_STRING(new_text)), name)


cdef class RealDisk(LogDisk):
    """A directory of the file system, made if need be; see broker/_journal.pyi."""

    cdef RealDirectory directory

    def __cinit__(self, path):
        self.directory.fd = self.directory.lock_fd = -1
        self.name = os.fspath(path)
        try:
            self._open()
        except OSError as error:
            raise DataDirectoryError(Path(self.name), f"the log directory cannot be used: {error.strerror}", "the broker's user needs the right to write there") from error
        real_disk(&self.disk, &self.directory)

    cdef _open(self):
        if not os.path.isdir(self.name):
            os.mkdir(self.name, 0o700)
            _sync_directory(os.path.dirname(os.path.abspath(self.name)))
        self.directory.fd = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self):
        if self.directory.lock_fd >= 0:
            close_fd(self.directory.lock_fd)
        if self.directory.fd >= 0:
            close_fd(self.directory.fd)
        self.directory.fd = self.directory.lock_fd = -1

    def __dealloc__(self):
        self.close()


def _sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


OPERATIONS = ("open", "close", "size", "allocate", "write", "read", "sync", "rename", "remove", "sync_names", "list", "lock")


cdef class SimulatedDisk(LogDisk):
    """A disk in memory with a seed; see broker/_journal.pyi."""

    cdef SimulatedState state

    def __cinit__(self, seed, *, size_max=SIMULATED_SIZE_MAX, writes_short=False):
        cdef SimulatedState* s = &self.state
        s.files = <SimulatedFile*>calloc(SIMULATED_FILES_MAX, sizeof(SimulatedFile))
        s.names.entries = <SimulatedName*>calloc(SIMULATED_FILES_MAX, sizeof(SimulatedName))
        s.durable_names.entries = <SimulatedName*>calloc(SIMULATED_FILES_MAX, sizeof(SimulatedName))
        s.changes = <NameChange*>calloc(SIMULATED_FILES_MAX, sizeof(NameChange))
        if s.files == NULL or s.names.entries == NULL or s.durable_names.entries == NULL or s.changes == NULL:
            raise MemoryError
        s.chance = word_mix(<uint64_t>(seed & 0xFFFFFFFFFFFFFFFF))
        s.size_max = size_max
        s.writes_short = writes_short
        self.name = f"simulated disk {seed}"
        self._fill_table()

    cdef _fill_table(self):
        self.disk.inner = &self.state
        self.disk.open_file = simulated_open
        self.disk.close_file = simulated_close
        self.disk.file_size = simulated_file_size
        self.disk.allocate = simulated_allocate
        self.disk.write_at = simulated_write
        self.disk.read_at = simulated_read
        self.disk.sync_data = simulated_sync
        self.disk.rename_file = simulated_rename
        self.disk.remove_file = simulated_remove
        self.disk.sync_names = simulated_sync_names
        self.disk.list_files = simulated_list
        self.disk.take_lock = simulated_lock
        self.disk.free_size = simulated_free_size
        self.disk.read_ahead = simulated_read_ahead
        self.disk.clock = simulated_clock

    def __dealloc__(self):
        cdef uint32_t slot
        if self.state.files != NULL:
            for slot in range(SIMULATED_FILES_MAX):
                file_drop(&self.state.files[slot])
        free(self.state.files)
        free(self.state.names.entries)
        free(self.state.durable_names.entries)
        free(self.state.changes)

    def close(self):
        """The process that used it ended well."""
        self.state.is_locked = False

    def crash(self):
        """Power is lost and comes back."""
        with nogil:
            simulated_crash(&self.state)

    def fail(self, str operation, int errno_value, *, after=0, is_lasting=False):
        """One operation, the one behind `after` more of its kind, or all from it on."""
        cdef Fault* fault = &self.state.faults[OPERATIONS.index(operation)]
        fault.errno_value = errno_value
        fault.after = after
        fault.is_lasting = is_lasting

    def slow(self, str operation, cost_ns):
        """Each takes so long by the disk's clock."""
        self.state.faults[OPERATIONS.index(operation)].cost_ns = cost_ns

    def power_off_after(self, count):
        """After so many more operations nothing happens any more, and all fail, until `crash`."""
        self.state.power_off_at = self.state.operations + count

    def mend(self):
        """No fault that was asked for comes any more."""
        cdef int i
        self.state.power_off_at = 0
        for i in range(OPERATION_COUNT):
            self.state.faults[i].errno_value = 0

    @property
    def is_off(self):
        return self.state.power_off_at != 0 and self.state.operations > self.state.power_off_at

    @property
    def operations(self):
        return self.state.operations

    @property
    def now_ns(self):
        return self.state.now

    @property
    def size_max(self):
        return self.state.size_max

    @size_max.setter
    def size_max(self, value):
        self.state.size_max = value

    def names(self):
        """Of all files, in order."""
        return sorted([self.state.names.entries[i].text.decode() for i in range(self.state.names.count)])

    cdef SimulatedFile* _file(self, str name) except NULL:
        cdef bytes text = name.encode()
        cdef int64_t at = name_find(&self.state.names, PyBytes_AS_STRING(text))
        if at < 0:
            raise FileNotFoundError(name)
        return &self.state.files[self.state.names.entries[at].file]

    def read(self, str name):
        """A file as it reads now."""
        cdef SimulatedFile* f = self._file(name)
        return PyBytes_FromStringAndSize(<char*>f.visible, f.visible_size)

    def put(self, str name, bytes data):
        """A file with these bytes, durable at once, in the place of one of the name: what somebody else did to the disk."""
        cdef bytes text = name.encode()
        cdef int64_t file = simulated_open(&self.disk, PyBytes_AS_STRING(text), OPEN_NEW)
        if file < 0 or write_all(&self.disk, file, <const uint8_t*>PyBytes_AS_STRING(data), len(data), 0) < 0:
            raise OSError(name)
        simulated_sync(&self.disk, file)
        simulated_sync_names(&self.disk)

    def remove(self, str name):
        """Durable at once."""
        cdef bytes text = name.encode()
        if simulated_remove(&self.disk, PyBytes_AS_STRING(text)) < 0:
            raise FileNotFoundError(name)
        simulated_sync_names(&self.disk)


cdef LogDisk _disk_of(place):
    return place if isinstance(place, LogDisk) else RealDisk(place)
