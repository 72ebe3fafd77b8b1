"""What the listener asks of Linux: sockets, epoll, eventfd, the monotonic clock, signals, mutexes, atomics.

Nothing here takes the GIL. Atomics are relaxed unless they say otherwise: what they publish besides a number is
published by a mutex or an eventfd.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    const int EPOLL_CLOEXEC
    const int EPOLL_CTL_ADD
    const int EPOLL_CTL_MOD
    const int EPOLL_CTL_DEL
    const uint32_t EPOLLIN
    const uint32_t EPOLLOUT
    const uint32_t EPOLLERR
    const uint32_t EPOLLHUP
    int epoll_create1(int flags)
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll_fd, epoll_event* events, int count_max, int wait_ms)

cdef extern from "<poll.h>" nogil:
    const short POLLIN
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* descriptors, unsigned long count, int wait_ms)

cdef extern from "<sys/eventfd.h>" nogil:
    const int EFD_CLOEXEC
    const int EFD_NONBLOCK
    int eventfd(unsigned int start, int flags)

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    const int SOCK_NONBLOCK
    const int SOCK_CLOEXEC
    const int SOL_SOCKET
    const int SO_KEEPALIVE
    const int SHUT_RD
    const int SHUT_WR
    const int MSG_DONTWAIT
    const int MSG_NOSIGNAL
    int accept4(int fd, void* address, socklen_t* size, int flags)
    int setsockopt(int fd, int level, int option, const void* value, socklen_t size)
    ssize_t recv(int fd, void* target, size_t size, int flags)
    ssize_t send(int fd, const void* source, size_t size, int flags)
    int shutdown(int fd, int how)

cdef extern from "<netinet/in.h>" nogil:
    const int IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    const int TCP_NODELAY
    const int TCP_KEEPIDLE
    const int TCP_KEEPINTVL
    const int TCP_KEEPCNT

cdef extern from "<fcntl.h>" nogil:
    const int F_GETFL
    const int F_SETFL
    const int O_NONBLOCK
    const int O_WRONLY
    const int O_CREAT
    const int O_TRUNC
    const int O_CLOEXEC
    int fcntl(int fd, int command, ...)
    int open_path "open"(const char* path, int flags, ...)

cdef extern from "<unistd.h>" nogil:
    int close_fd "close"(int fd)
    ssize_t read_fd "read"(int fd, void* target, size_t size)
    ssize_t write_fd "write"(int fd, const void* source, size_t size)

cdef extern from "<errno.h>" nogil:
    int errno
    const int EAGAIN
    const int EINTR
    const int ECONNABORTED
    const int EPROTO
    const int ENOBUFS

cdef extern from "<time.h>" nogil:
    const int CLOCK_MONOTONIC
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec* time)

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef void (*signal_fn)(int) noexcept nogil
    cdef struct sigaction_record "sigaction":
        signal_fn sa_handler
        int sa_flags
        sigset_t sa_mask
    const int SIG_BLOCK
    const int SIG_UNBLOCK
    const int SIG_SETMASK
    const int SIGSEGV
    const int SIGBUS
    const int SIGFPE
    const int SIGILL
    const int SIGABRT
    const int SIGTRAP
    const int SIGSYS
    const int SA_NODEFER
    const int SA_ONSTACK
    const int SS_DISABLE
    ctypedef struct signal_stack "stack_t":
        void* ss_sp
        int ss_flags
        size_t ss_size
    int sigaltstack(const signal_stack* fresh, signal_stack* old)
    const int SA_RESETHAND
    signal_fn SIG_DFL
    int sigfillset(sigset_t* signals)
    int sigemptyset(sigset_t* signals)
    int sigaddset(sigset_t* signals, int number)
    int sigdelset(sigset_t* signals, int number)
    int pthread_sigmask(int how, const sigset_t* fresh, sigset_t* old)
    int sigaction_set "sigaction"(int number, const sigaction_record* fresh, sigaction_record* old)
    int raise_signal "raise"(int number)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)

cdef extern from *:
    """
    #define usher_load(place) __atomic_load_n((place), __ATOMIC_ACQUIRE)
    #define usher_store(place, value) __atomic_store_n((place), (value), __ATOMIC_RELEASE)
    #define usher_add(place, amount) __atomic_add_fetch((place), (amount), __ATOMIC_RELAXED)
    static inline void usher_store_max(uint64_t *place, uint64_t value) {
        uint64_t seen = __atomic_load_n(place, __ATOMIC_RELAXED);
        while (seen < value && !__atomic_compare_exchange_n(place, &seen, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {}
    }
    static inline void usher_store_sooner(int64_t *place, int64_t value) {
        int64_t seen = __atomic_load_n(place, __ATOMIC_RELAXED);
        while ((seen == 0 || seen > value) &&
               !__atomic_compare_exchange_n(place, &seen, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {}
    }
    static inline int usher_take_once(uint8_t *place) { return !__atomic_exchange_n(place, 1, __ATOMIC_ACQ_REL); }
    #define usher_lowest_bit(word) __builtin_ctzll(word)
    """
    int64_t load_i64 "usher_load"(const int64_t* place) noexcept nogil
    uint64_t load_u64 "usher_load"(const uint64_t* place) noexcept nogil
    uint8_t load_u8 "usher_load"(const uint8_t* place) noexcept nogil
    void store_u8 "usher_store"(uint8_t* place, uint8_t value) noexcept nogil
    int64_t add_i64 "usher_add"(int64_t* place, int64_t amount) noexcept nogil
    void store_max "usher_store_max"(uint64_t* place, uint64_t value) noexcept nogil
    void store_sooner "usher_store_sooner"(int64_t* place, int64_t value) noexcept nogil
    bint take_once "usher_take_once"(uint8_t* place) noexcept nogil
    uint32_t lowest_bit "usher_lowest_bit"(uint64_t word) noexcept nogil
