# The disk that is: a directory of Linux, its files, and the lock that keeps a second broker out.
#
# A sync that failed is not tried again by anybody: Linux reports the loss once and calls the pages clean (the "fsyncgate" of 2018).

cdef struct RealDirectory:
    int fd
    int lock_fd                     # -1: not held


cdef inline int64_t outcome(int64_t value) noexcept nogil:
    return -errno if value < 0 else value


cdef inline int directory_of(Disk* disk) noexcept nogil:
    return (<RealDirectory*>disk.inner).fd


cdef int64_t real_open(Disk* disk, const char* name, int mode) noexcept nogil:
    cdef int flags = O_RDONLY
    if mode == OPEN_TO_WRITE:
        flags = O_RDWR
    elif mode == OPEN_NEW:
        flags = O_RDWR | O_CREAT | O_TRUNC
    return outcome(openat(directory_of(disk), name, flags | O_CLOEXEC | O_NOFOLLOW, 0o600))


cdef int64_t real_close(Disk* disk, int64_t file) noexcept nogil:
    return outcome(close_fd(<int>file))


cdef int64_t real_file_size(Disk* disk, int64_t file) noexcept nogil:
    cdef stat_record facts
    return facts.st_size if fstat(<int>file, &facts) == 0 else -errno


cdef int64_t real_allocate(Disk* disk, int64_t file, uint64_t size) noexcept nogil:
    return -posix_fallocate(<int>file, 0, <int64_t>size)


cdef int64_t real_write(Disk* disk, int64_t file, const uint8_t* data, uint64_t size, uint64_t offset) noexcept nogil:
    return outcome(pwrite(<int>file, data, size, <int64_t>offset))


cdef int64_t real_read(Disk* disk, int64_t file, uint8_t* target, uint64_t size, uint64_t offset) noexcept nogil:
    return outcome(pread(<int>file, target, size, <int64_t>offset))


cdef int64_t real_sync(Disk* disk, int64_t file) noexcept nogil:
    return outcome(fdatasync(<int>file))


cdef int64_t real_rename(Disk* disk, const char* name, const char* new_name) noexcept nogil:
    return outcome(renameat(directory_of(disk), name, directory_of(disk), new_name))


cdef int64_t real_remove(Disk* disk, const char* name) noexcept nogil:
    return outcome(unlinkat(directory_of(disk), name, 0))


cdef int64_t real_sync_names(Disk* disk) noexcept nogil:
    return outcome(fsync(directory_of(disk)))


cdef int64_t real_list(Disk* disk, FileName* names, uint32_t count_max) noexcept nogil:
    """A directory descriptor of its own, so that nobody shares the place that it has reached."""
    cdef int fd = openat(directory_of(disk), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
    cdef DIR* directory = fdopendir(fd) if fd >= 0 else NULL
    cdef dirent* entry
    cdef int64_t count = 0
    if directory == NULL:
        return -errno
    while count >= 0:
        entry = readdir(directory)
        if entry == NULL:
            break
        if entry.d_name[0] == 46 or strlen(entry.d_name) >= FILE_NAME_SIZE:
            continue
        if count == count_max:
            count = -EOVERFLOW
        else:
            strcpy(names[count].text, entry.d_name)
            count += 1
    closedir(directory)
    return count


cdef int64_t real_free_size(Disk* disk) noexcept nogil:
    cdef space_record space
    return <int64_t>(space.f_bavail * space.f_frsize) if fstatvfs(directory_of(disk), &space) == 0 else -errno


cdef int64_t real_read_ahead(Disk* disk, const char* name) noexcept nogil:
    """Linux begins to read it; nothing waits, and that it cannot is no error."""
    cdef int fd = openat(directory_of(disk), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0)
    if fd >= 0:
        posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED)
        close_fd(fd)
    return 0


cdef int lock_file_open(int directory) noexcept nogil:
    """To read only where nothing can be written: who only reads must be alone, too."""
    cdef int fd = openat(directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if fd < 0 and (errno == EROFS or errno == EACCES or errno == ENOSPC):
        fd = openat(directory, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0)
    return fd


cdef int64_t real_lock(Disk* disk, int64_t* holder) noexcept nogil:
    """flock: it ends with the process, however that ends, and can be handed over with its descriptor."""
    cdef RealDirectory* directory = <RealDirectory*>disk.inner
    cdef char text[24]
    cdef int64_t size
    cdef int fd = lock_file_open(directory.fd)
    cdef int reason
    holder[0] = 0
    if fd < 0:
        return -errno
    if flock(fd, LOCK_EX | LOCK_NB) == 0:
        directory.lock_fd = fd
        size = snprintf(text, sizeof(text), "%d\n", getpid())
        # Who fails to write its number is no less the holder.
        if ftruncate(fd, 0) == 0:
            pwrite(fd, text, size, 0)
        return 0
    reason = errno
    if reason == EWOULDBLOCK:
        memset(text, 0, sizeof(text))
        if pread(fd, text, sizeof(text) - 1, 0) > 0:
            holder[0] = atoi(text)
        reason = EAGAIN
    close_fd(fd)
    return -reason


cdef int64_t real_clock(Disk* disk) noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef void real_disk(Disk* disk, RealDirectory* directory) noexcept nogil:
    """The table for a directory whose descriptor is open."""
    disk.inner = directory
    disk.open_file = real_open
    disk.close_file = real_close
    disk.file_size = real_file_size
    disk.allocate = real_allocate
    disk.write_at = real_write
    disk.read_at = real_read
    disk.sync_data = real_sync
    disk.rename_file = real_rename
    disk.remove_file = real_remove
    disk.sync_names = real_sync_names
    disk.list_files = real_list
    disk.take_lock = real_lock
    disk.free_size = real_free_size
    disk.read_ahead = real_read_ahead
    disk.clock = real_clock


# --- what every user of a disk needs -------------------------------------------------------------------------------------

cdef int64_t write_all(Disk* disk, int64_t file, const uint8_t* data, uint64_t size, uint64_t offset) noexcept nogil:
    """0, or -errno; a short write goes on."""
    cdef uint64_t done = 0
    cdef int64_t wrote
    while done < size:
        wrote = disk.write_at(disk, file, data + done, size - done, offset + done)
        if wrote == -EINTR:
            continue
        if wrote <= 0:
            return wrote if wrote else -EIO
        done += <uint64_t>wrote
    return 0


cdef int64_t read_all(Disk* disk, int64_t file, uint8_t* target, uint64_t size, uint64_t offset) noexcept nogil:
    """How much there was from the offset on up to `size`, or -errno."""
    cdef uint64_t done = 0
    cdef int64_t took
    while done < size:
        took = disk.read_at(disk, file, target + done, size - done, offset + done)
        if took == -EINTR:
            continue
        if took < 0:
            return took
        if took == 0:
            break
        done += <uint64_t>took
    return <int64_t>done
