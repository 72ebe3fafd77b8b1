# Sockets: connections taken and handed to loops, bytes received and sent, and what a socket has not taken yet.
#
# Loop 0 watches the listening socket and gives each connection to the loop that has the fewest, through that loop's mailbox. All
# sockets are non-blocking and close-on-exec. What a socket does not take is kept by its peer, in order; while anything
# is kept, nothing is read from that peer, so that what is kept stays below what one round can bring about.

cdef extern from *:
    """
    #define USHER_ACCEPT_PAUSE_NS 100000000LL
    """
    const long long ACCEPT_PAUSE_NS "USHER_ACCEPT_PAUSE_NS"

cdef struct Mailbox:
    pthread_mutex_t mutex
    uint32_t count
    uint8_t is_closed               # its loop has ended, or is about to
    int fds[MAILBOX_MAX]


# --- set-up ----------------------------------------------------------------------------------------------------------------

cdef inline void socket_set(int fd, int level, int option, int value) noexcept nogil:
    """A wish: what the kernel refuses is done without."""
    setsockopt(fd, level, option, &value, sizeof(int))


cdef bint listening_begin(int fd) noexcept nogil:
    """Non-blocking; connections inherit probing of peers that fell silent (their machine is off). False: errno says why."""
    cdef int flags = fcntl(fd, F_GETFL)
    if flags < 0 or fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0:
        return False
    socket_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
    socket_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 120)
    socket_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 30)
    socket_set(fd, IPPROTO_TCP, TCP_KEEPCNT, 4)
    return True


cdef void epoll_ask(int epoll_fd, int operation, int fd, uint32_t events, uint64_t name) noexcept nogil:
    """Asks epoll; it fails only without memory, and then the peer's own time ends it."""
    cdef epoll_event event
    event.events = events
    event.data.u64 = name
    epoll_ctl(epoll_fd, operation, fd, &event)


# --- mailboxes --------------------------------------------------------------------------------------------------------------

cdef bint mailbox_begin(Loop* loop) noexcept nogil:
    cdef Mailbox* mailbox = <Mailbox*>malloc(sizeof(Mailbox))
    loop.mailbox = mailbox
    if mailbox == NULL:
        return False
    mailbox.count = 0
    mailbox.is_closed = False
    pthread_mutex_init(&mailbox.mutex, NULL)
    return True


cdef void mailbox_end(Loop* loop) noexcept nogil:
    cdef Mailbox* mailbox = <Mailbox*>loop.mailbox
    if mailbox == NULL:
        return
    mailbox_close(loop)
    pthread_mutex_destroy(&mailbox.mutex)
    free(mailbox)
    loop.mailbox = NULL


cdef bint mailbox_put(Loop* loop, int fd) noexcept nogil:
    """Any thread. False: it is full or closed, and the connection stays with the caller."""
    cdef Mailbox* mailbox = <Mailbox*>loop.mailbox
    cdef bint is_taken
    pthread_mutex_lock(&mailbox.mutex)
    is_taken = not mailbox.is_closed and mailbox.count < MAILBOX_MAX
    if is_taken:
        mailbox.fds[mailbox.count] = fd
        mailbox.count += 1
    pthread_mutex_unlock(&mailbox.mutex)
    if is_taken:
        loop_wake(loop)
    return is_taken


cdef int mailbox_take(Loop* loop) noexcept nogil:
    """A connection for this loop; -1: there is none."""
    cdef Mailbox* mailbox = <Mailbox*>loop.mailbox
    cdef int fd = -1
    pthread_mutex_lock(&mailbox.mutex)
    if mailbox.count != 0:
        mailbox.count -= 1
        fd = mailbox.fds[mailbox.count]
    pthread_mutex_unlock(&mailbox.mutex)
    return fd


cdef void mailbox_close(Loop* loop) noexcept nogil:
    """Nothing more comes in; what is in it is closed."""
    cdef Mailbox* mailbox = <Mailbox*>loop.mailbox
    cdef uint32_t i
    pthread_mutex_lock(&mailbox.mutex)
    mailbox.is_closed = True
    for i in range(mailbox.count):
        close_fd(mailbox.fds[i])
        add_i64(&loop.shared.connection_count, -1)
        add_i64(&loop.totals.connections, -1)
        loop.totals.closed += 1
    mailbox.count = 0
    pthread_mutex_unlock(&mailbox.mutex)


cdef void mailbox_empty(Loop* loop) noexcept nogil:
    cdef int fd = mailbox_take(loop)
    while fd >= 0:
        peer_begin(loop, fd)
        fd = mailbox_take(loop)


# --- connections come --------------------------------------------------------------------------------------------------------

cdef Loop* loop_for_next(Shared* shared) noexcept nogil:
    """The one with the fewest connections, those on their way included."""
    cdef Loop* best = shared.loops[0]
    cdef uint32_t i
    for i in range(1, shared.loop_count):
        if load_i64(&shared.loops[i].totals.connections) < load_i64(&best.totals.connections):
            best = shared.loops[i]
    return best


cdef void connection_hand_over(Loop* loop, int fd) noexcept nogil:
    """To its loop; one that cannot take it leaves it with this one."""
    cdef Loop* target = loop_for_next(loop.shared)
    loop.totals.accepted += 1
    add_i64(&loop.shared.connection_count, 1)
    if target != loop:
        add_i64(&target.totals.connections, 1)
        if mailbox_put(target, fd):
            return
        add_i64(&target.totals.connections, -1)
    add_i64(&loop.totals.connections, 1)
    peer_begin(loop, fd)


cdef void accept_some(Loop* loop) noexcept nogil:
    """What waits to be taken, up to a bound; the rest is there again in the next round."""
    cdef Shared* shared = loop.shared
    cdef uint32_t i
    cdef int fd
    for i in range(ACCEPTS_MAX):
        fd = accept4(shared.listening_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0 and load_i64(&shared.connection_count) >= <int64_t>shared.settings.connections_max:
            close_fd(fd)
            loop.totals.refused_connections += 1
        elif fd >= 0:
            socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1)
            connection_hand_over(loop, fd)
        elif errno == EAGAIN:
            return
        elif errno != ECONNABORTED and errno != EINTR and errno != EPROTO:
            accept_pause(loop)
            return
        # else: a connection that ended before it was taken


cdef void accept_pause(Loop* loop) noexcept nogil:
    """No descriptors, no memory, or no socket that listens: it would be ready all the time, so it is not looked at for a while."""
    loop.totals.accept_failures += 1
    epoll_ask(loop.epoll_fd, EPOLL_CTL_DEL, loop.shared.listening_fd, 0, 0)
    loop.accept_due = loop.now + ACCEPT_PAUSE_NS


cdef void accept_resume(Loop* loop) noexcept nogil:
    epoll_ask(loop.epoll_fd, EPOLL_CTL_ADD, loop.shared.listening_fd, EPOLLIN, <uint64_t>NAME_LISTENING)
    loop.accept_due = INT64_MAX


# --- bytes out ---------------------------------------------------------------------------------------------------------------

cdef ssize_t socket_send(Loop* loop, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    """How many bytes the socket took; the peer is ending if it takes none any more."""
    cdef ssize_t sent = send(peer.fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent >= 0:
        loop.totals.sent_size += <uint64_t>sent
        return sent
    if errno != EAGAIN and errno != EINTR and errno != ENOBUFS:
        peer.is_ending = True
    return 0


cdef void waiting_keep(Loop* loop, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    """Behind what waits already."""
    cdef Waiting* waiting = &peer.waiting
    cdef size_t needed = waiting.fill + size
    cdef uint8_t* grown = NULL
    if needed <= PEER_WAITING_SIZE_MAX:
        grown = <uint8_t*>realloc(waiting.bytes, needed)
    if grown == NULL:
        loop.totals.refused_memory += 1
        peer.is_ending = True
        return
    if waiting.bytes == NULL:
        peer.write_due = loop.now + loop.shared.settings.write_ns
    memcpy(grown + waiting.fill, data, size)
    waiting.bytes = grown
    waiting.fill = waiting.capacity = <uint32_t>needed


cdef void waiting_free(Peer* peer) noexcept nogil:
    free(peer.waiting.bytes)
    memset(&peer.waiting, 0, sizeof(Waiting))
    peer.write_due = INT64_MAX


cdef void waiting_send(Loop* loop, Peer* peer) noexcept nogil:
    """What waits, as far as the socket takes it. Progress gives it time again."""
    cdef Waiting* waiting = &peer.waiting
    cdef uint32_t sent = <uint32_t>socket_send(loop, peer, waiting.bytes + waiting.head, waiting.fill - waiting.head)
    waiting.head += sent
    if waiting.head == waiting.fill:
        waiting_free(peer)
    elif sent != 0:
        peer.write_due = loop.now + loop.shared.settings.write_ns


cdef void peer_send(Loop* loop, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    """Bytes for the wire: sent, or kept in their order."""
    cdef size_t sent = 0
    if peer.waiting.bytes == NULL:
        sent = <size_t>socket_send(loop, peer, data, size)
    if sent < size and not peer.is_ending:
        waiting_keep(loop, peer, data + sent, size - sent)
