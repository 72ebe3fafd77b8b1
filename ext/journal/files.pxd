"""What the journal asks of Linux besides what linux.pxd has: files below a directory, their bytes and names, and locks.

Nothing here takes the GIL.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

cdef extern from "<fcntl.h>" nogil:
    const int O_RDONLY
    const int O_RDWR
    const int O_CREAT
    const int O_TRUNC
    const int O_DIRECTORY
    const int O_CLOEXEC
    const int O_NOFOLLOW
    int openat(int directory, const char* name, int flags, unsigned int mode)
    const int POSIX_FADV_WILLNEED
    int posix_fallocate(int fd, int64_t offset, int64_t size)
    int posix_fadvise(int fd, int64_t offset, int64_t size, int advice)

cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void* data, size_t size, int64_t offset)
    ssize_t pread(int fd, void* target, size_t size, int64_t offset)
    int fdatasync(int fd)
    int fsync(int fd)
    int ftruncate(int fd, int64_t size)
    int unlinkat(int directory, const char* name, int flags)
    int getpid()

cdef extern from "<stdio.h>" nogil:
    int renameat(int directory, const char* name, int new_directory, const char* new_name)
    int snprintf(char* target, size_t size, const char* form, ...)

cdef extern from "<sys/stat.h>" nogil:
    cdef struct stat_record "stat":
        int64_t st_size
    int fstat(int fd, stat_record* target)

cdef extern from "<signal.h>" nogil:
    const int SIGKILL
    int kill(int process, int number)

cdef extern from "<time.h>" nogil:
    cdef struct nap "timespec":
        long tv_sec
        long tv_nsec
    int nanosleep(const nap* wanted, nap* rest)

cdef extern from "<sys/statvfs.h>" nogil:
    cdef struct space_record "statvfs":
        unsigned long f_frsize
        unsigned long f_bavail
    int fstatvfs(int fd, space_record* target)

cdef extern from "<sys/file.h>" nogil:
    const int LOCK_EX
    const int LOCK_NB
    int flock(int fd, int operation)

cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR:
        pass
    cdef struct dirent:
        char* d_name
    DIR* fdopendir(int fd)
    dirent* readdir(DIR* directory)
    int closedir(DIR* directory)

cdef extern from "<errno.h>" nogil:
    const int EACCES
    const int EBADF
    const int EIO
    const int EINVAL
    const int ENOMEM
    const int ENOENT
    const int ENOSPC
    const int EOVERFLOW
    const int EROFS
    const int EWOULDBLOCK

cdef extern from "usher_crc32c.h" nogil:
    void crc32c_begin "usher_crc32c_begin"()
    uint32_t crc32c "usher_crc32c"(uint32_t crc, const void* data, size_t size)
    uint32_t crc32c_by_table "usher_crc32c_by_table"(uint32_t crc, const void* data, size_t size)

cdef extern from *:
    """
    #define usher_journal_store(place, value) __atomic_store_n((place), (value), __ATOMIC_RELEASE)
    /* In one order with everything: the committer says that it sleeps, then looks once more; a writer writes, then asks. */
    #define usher_journal_exchange(place, value) __atomic_exchange_n((place), (value), __ATOMIC_SEQ_CST)
    #define usher_journal_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define usher_log2(word) (63 - __builtin_clzll(word))
    """
    void store_u64 "usher_journal_store"(uint64_t* place, uint64_t value) noexcept nogil
    void store_u32 "usher_journal_store"(uint32_t* place, uint32_t value) noexcept nogil
    uint8_t exchange_u8 "usher_journal_exchange"(uint8_t* place, uint8_t value) noexcept nogil
    void fence_all "usher_journal_fence"() noexcept nogil
    int log2_u64 "usher_log2"(uint64_t word) noexcept nogil
