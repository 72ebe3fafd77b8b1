# A connection in its slot, from the socket that was accepted to the slot's next user: bytes through TLS and HTTP/2, and its end.
#
#     open ── the peer has said its last (is_shut) ── answered ──┐
#       ├──── HTTP/2 or TLS is over, all is sent ────────────────┴─► parting ── EOF or a second later ──► free
#       └──── the socket failed, or took nothing for too long (is_ending) ─────────────────────────────► free
#
# Parting: our side of the socket is shut and what still comes is thrown away, since closing a socket with unread bytes makes
# the kernel drop what the peer has not read yet: its last answers, or the GOAWAY that says why.
#
# A slot is freed in peer_flush and nowhere else, so that no caller further up loses the peer that it is at. Its generation grows then:
# names of before find nobody.

cdef extern from *:
    """
    #define USHER_PARTING_NS 1000000000LL
    """
    const long long PARTING_NS "USHER_PARTING_NS"

cdef enum:
    NAME_WAKE = 0xFFFFFFFF          # what epoll calls the descriptors that are no peers
    NAME_LISTENING = 0xFFFFFFFE
    NAME_SENDING = 0xFFFFFFFD
    SENDING_SIZE = LOOP_SEND_SIZE + 4096    # with the records of TLS around it
    PEERS_FIRST = 64


# --- the table -----------------------------------------------------------------------------------------------------------

cdef inline Peer* peer_named(Loop* loop, uint32_t slot, uint32_t generation) noexcept nogil:
    """The peer that still stands under this name; NULL."""
    cdef Peer* peer
    if slot >= loop.peer_high:
        return NULL
    peer = loop.peers[slot]
    return peer if peer.generation == generation and peer.fd >= 0 else NULL


cdef inline void peer_touch(Loop* loop, Peer* peer) noexcept nogil:
    """Something was said to it, or became of it: it is flushed at the end of this round."""
    if peer.is_touched:
        return
    peer.is_touched = True
    peer.next_touched = loop.first_touched
    loop.first_touched = peer.slot


cdef bint peers_grow(Loop* loop) noexcept nogil:
    cdef uint32_t capacity = max(loop.peer_capacity * 2, <uint32_t>PEERS_FIRST)
    cdef Peer** grown = <Peer**>realloc(loop.peers, capacity * sizeof(Peer*))
    if grown == NULL:
        return False
    loop.peers = grown
    loop.peer_capacity = capacity
    return True


cdef Peer* peer_take(Loop* loop) noexcept nogil:
    """A free slot, with its next generation; NULL without memory. Its record stays when it is free again."""
    cdef Peer* peer
    if loop.first_free != NONE:
        peer = loop.peers[loop.first_free]
        loop.first_free = peer.next_free
        return peer
    if loop.peer_high == loop.peer_capacity and not peers_grow(loop):
        return NULL
    peer = <Peer*>calloc(1, sizeof(Peer))
    if peer == NULL:
        return NULL
    peer.slot = loop.peer_high
    peer.generation = 1
    peer.fd = -1
    loop.peers[loop.peer_high] = peer
    loop.peer_high += 1
    return peer


cdef void peer_give_back(Loop* loop, Peer* peer) noexcept nogil:
    peer.fd = -1
    peer.generation += 1
    peer.next_free = loop.first_free
    loop.first_free = peer.slot


cdef void peers_end(Loop* loop) noexcept nogil:
    """The table, when nobody is in it."""
    cdef uint32_t i
    for i in range(loop.peer_high):
        USHER_ASSERT(loop.peers[i].fd < 0)
        free(loop.peers[i])
    free(loop.peers)
    loop.peers = NULL
    loop.peer_high = loop.peer_capacity = 0


# --- begin -----------------------------------------------------------------------------------------------------------------

cdef void connection_refused(Loop* loop, int fd) noexcept nogil:
    """No memory for it."""
    close_fd(fd)
    loop.totals.refused_memory += 1
    loop.totals.closed += 1
    add_i64(&loop.totals.connections, -1)
    add_i64(&loop.shared.connection_count, -1)


cdef bint peer_begin_tls(Loop* loop, Peer* peer) noexcept nogil:
    if loop.shared.tls == NULL:
        return True
    peer.tls = <TlsConnection*>malloc(sizeof(TlsConnection))
    if peer.tls == NULL:
        return False
    if not tls_open(peer.tls, loop.shared.tls):
        free(peer.tls)
        peer.tls = NULL
        return False
    peer.handshake_due = loop.now + loop.shared.settings.handshake_ns
    return True


cdef void peer_begin(Loop* loop, int fd) noexcept nogil:
    """A connection that was counted for this loop is its own from now; without memory for it, it is closed."""
    cdef Peer* peer = peer_take(loop)
    if peer == NULL:
        connection_refused(loop, fd)
        return
    peer.tls = NULL
    peer.handshake_due = peer.parting_due = peer.write_due = INT64_MAX
    peer.timer_place = <uint32_t>NOT_IN_WHEEL
    peer.timer_due = INT64_MAX
    peer.first_stream = NONE
    peer.is_touched = peer.is_ending = peer.is_shut = peer.is_parting = peer.is_gone = False
    memset(&peer.waiting, 0, sizeof(Waiting))
    if not peer_begin_tls(loop, peer):
        peer_give_back(loop, peer)
        connection_refused(loop, fd)
        return
    if not connection_begin(&peer.h2, &loop.server, loop.now):
        peer_end_tls(loop, peer)
        peer_give_back(loop, peer)
        connection_refused(loop, fd)
        return
    peer.fd = fd
    peer.watched = EPOLLIN
    epoll_ask(loop.epoll_fd, EPOLL_CTL_ADD, fd, EPOLLIN, <uint64_t>peer.generation << 32 | peer.slot)
    if loop.is_draining:
        peer_drain(loop, peer)
    peer_touch(loop, peer)


# --- bytes in --------------------------------------------------------------------------------------------------------------

cdef inline bint is_shaking_hands(const Peer* peer) noexcept nogil:
    return peer.tls != NULL and peer.tls.state == TLS_HANDSHAKE


cdef inline void peer_take_events(Loop* loop, Peer* peer) noexcept nogil:
    if loop.events.count != 0:
        loop.last.call = loop.events.items[0].name
        loop.last.method = loop.events.items[0].method
        service_take(loop, peer, loop.events)
    events_clear(&peer.h2, loop.events)


cdef void peer_feed(Loop* loop, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    """Plain bytes: all are taken, in as many steps as the events need."""
    cdef size_t taken = 0
    while taken < size:
        taken += feed(&peer.h2, loop.now, data + taken, size - taken, loop.events)
        peer_take_events(loop, peer)


cdef void handshake_done(Loop* loop, Peer* peer) noexcept nogil:
    """From now HTTP/2's preface is awaited, for as long again."""
    loop.totals.handshakes += 1
    peer.h2.preface_due = loop.now + loop.server.settings.preface_ns


cdef void peer_decrypt(Loop* loop, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    """Bytes of the wire: records to plain bytes to HTTP/2, what TLS has to say to the wire."""
    cdef TlsInput source
    cdef TlsOutput plain
    cdef TlsOutput sending
    cdef bint was_shaking = is_shaking_hands(peer)
    source.bytes, source.size, source.used = data, size, 0
    plain.used = LOOP_READ_SIZE
    while not peer.is_ending and (source.used < source.size or plain.used == LOOP_READ_SIZE):
        plain.bytes, plain.size_max, plain.used = loop.plain, LOOP_READ_SIZE, 0
        sending.bytes, sending.size_max, sending.used = loop.sending, SENDING_SIZE, 0
        tls_feed(peer.tls, &source, &plain, &sending)
        if sending.used != 0:
            peer_send(loop, peer, sending.bytes, sending.used)
        if was_shaking and can_write(peer.tls):
            was_shaking = False
            handshake_done(loop, peer)
        if plain.used != 0:
            peer_feed(loop, peer, plain.bytes, plain.used)
    if not is_shaking_hands(peer) and not can_read(peer.tls):
        peer_shut(loop, peer)


cdef void peer_shut(Loop* loop, Peer* peer) noexcept nogil:
    """Nothing more comes to HTTP/2. What was asked completely is answered, if that is soon."""
    if peer.is_shut:
        return
    peer.is_shut = True
    peer.parting_due = loop.now + PARTING_NS


cdef void peer_end_of_stream(Loop* loop, Peer* peer) noexcept nogil:
    """The peer shut its side, or the socket failed."""
    peer.is_gone = True
    peer_shut(loop, peer)
    if peer.tls != NULL:
        peer.is_cut_off = peer.tls.state == TLS_HANDSHAKE or (can_read(peer.tls) and peer.h2.stream_count != 0)
        tls_gone(peer.tls)


cdef void peer_read(Loop* loop, Peer* peer) noexcept nogil:
    """What has come, up to a bound: the rest is there again in the next round."""
    cdef uint8_t* target = loop.plain if peer.tls == NULL else loop.cipher
    cdef ssize_t size
    if peer.waiting.bytes != NULL or peer.is_gone or peer.is_ending:
        return
    size = recv(peer.fd, target, LOOP_READ_SIZE, MSG_DONTWAIT)
    if size < 0 and (errno == EAGAIN or errno == EINTR):
        return
    peer_touch(loop, peer)
    if size <= 0:
        peer_end_of_stream(loop, peer)
        peer.is_ending = peer.is_ending or size < 0
        return
    loop.totals.received_size += <uint64_t>size
    if peer.is_shut or peer.is_parting:
        return
    if peer.tls == NULL:
        peer_feed(loop, peer, target, <size_t>size)
    else:
        peer_decrypt(loop, peer, target, <size_t>size)


# --- bytes out -------------------------------------------------------------------------------------------------------------

cdef inline bint can_say(const Peer* peer) noexcept nogil:
    return peer.tls == NULL or can_write(peer.tls)


cdef void peer_encrypt(Loop* loop, Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    """Plain bytes to the wire. There is room for all of them, so that what is left over is a fault of TLS."""
    cdef TlsInput source
    cdef TlsOutput sending
    source.bytes, source.size, source.used = data, size, 0
    sending.bytes, sending.size_max, sending.used = loop.sending, SENDING_SIZE, 0
    tls_write(peer.tls, &source, &sending)
    if sending.used != 0:
        peer_send(loop, peer, sending.bytes, sending.used)
    if source.used < source.size:
        peer.is_ending = True


cdef void peer_write(Loop* loop, Peer* peer) noexcept nogil:
    """What HTTP/2 has to say, until it has no more, or the socket takes no more, or others should have their turn."""
    cdef size_t size
    cdef uint32_t i
    if not can_say(peer):
        return
    for i in range(LOOP_SENDS_MAX):
        size = output(&peer.h2, loop.now, loop.plain, LOOP_SEND_SIZE, loop.events)
        peer_take_events(loop, peer)
        if size == 0:
            return
        if peer.tls == NULL:
            peer_send(loop, peer, loop.plain, size)
        else:
            peer_encrypt(loop, peer, loop.plain, size)
        if peer.waiting.bytes != NULL or peer.is_ending or not want_write(&peer.h2):
            return
    peer_touch(loop, peer)


# --- the end ---------------------------------------------------------------------------------------------------------------

cdef bint awaits_answer(const Connection* c) noexcept nogil:
    """Whether a call whose request is complete has not been answered."""
    cdef uint32_t slot
    for slot in range(c.slot_count):
        if c.streams[slot].stream_id != 0 and c.streams[slot].is_peer_done and not c.streams[slot].is_finished:
            return True
    return False


cdef inline bint is_done(Peer* peer) noexcept nogil:
    """Whether there is nothing more to hear or to say."""
    if not can_say(peer):
        return not is_shaking_hands(peer)
    if peer.is_shut:
        return peer.h2.stream_count == 0 or not awaits_answer(&peer.h2)
    return can_close(&peer.h2)


cdef void peer_part(Loop* loop, Peer* peer) noexcept nogil:
    """The last word of TLS; then our side is shut as soon as nothing waits."""
    cdef TlsOutput sending
    peer.is_parting = True
    peer.parting_due = loop.now + PARTING_NS
    if peer.tls != NULL:
        sending.bytes, sending.size_max, sending.used = loop.sending, SENDING_SIZE, 0
        tls_close(peer.tls, &sending)
        if sending.used != 0:
            peer_send(loop, peer, sending.bytes, sending.used)


cdef void peer_drain(Loop* loop, Peer* peer) noexcept nogil:
    """Asks it to go; one that is not yet open is closed."""
    if is_shaking_hands(peer):
        peer.is_ending = True
    drain(&peer.h2, loop.now)
    peer_touch(loop, peer)


cdef void peer_end_tls(Loop* loop, Peer* peer) noexcept nogil:
    cdef TlsConnection* tls = peer.tls
    if tls == NULL:
        return
    if tls.error != TLS_ERROR_NONE and (tls.error != TLS_ERROR_TRUNCATED or peer.is_cut_off):
        loop.totals.tls_failures[tls.error] += 1
    tls_free(tls)
    free(tls)
    peer.tls = NULL


cdef void peer_free(Loop* loop, Peer* peer) noexcept nogil:
    """Gives everything back."""
    service_peer_gone(loop, peer)
    timer_unlink(loop, peer)
    connection_free(&peer.h2)
    peer_end_tls(loop, peer)
    waiting_free(peer)
    close_fd(peer.fd)
    peer_give_back(loop, peer)
    loop.totals.closed += 1
    add_i64(&loop.totals.connections, -1)
    add_i64(&loop.shared.connection_count, -1)


# --- at the end of a round ---------------------------------------------------------------------------------------------------

cdef inline void peer_watch(Loop* loop, Peer* peer) noexcept nogil:
    """What is awaited: room while something waits, else bytes."""
    cdef uint32_t events = EPOLLOUT if peer.waiting.bytes != NULL else (0 if peer.is_gone else EPOLLIN)
    cdef uint64_t name = <uint64_t>peer.generation << 32 | peer.slot
    if events == peer.watched:
        return
    if events == EPOLLOUT:
        epoll_ask(loop.epoll_fd, EPOLL_CTL_DEL, peer.fd, 0, 0)
        epoll_ask(loop.sending_fd, EPOLL_CTL_ADD, peer.fd, events, name)
    elif peer.watched == EPOLLOUT:
        epoll_ask(loop.sending_fd, EPOLL_CTL_DEL, peer.fd, 0, 0)
        epoll_ask(loop.epoll_fd, EPOLL_CTL_ADD, peer.fd, events, name)
    else:
        epoll_ask(loop.epoll_fd, EPOLL_CTL_MOD, peer.fd, events, name)
    peer.watched = events


cdef void peer_flush(Loop* loop, Peer* peer) noexcept nogil:
    """Sends what there is to be sent; then the peer goes on, parts, or is freed."""
    loop.last.slot = peer.slot
    if peer.waiting.bytes != NULL and not peer.is_ending:
        waiting_send(loop, peer)
    if peer.waiting.bytes == NULL and not peer.is_ending and not peer.is_parting:
        peer_write(loop, peer)
        if peer.waiting.bytes == NULL and not peer.is_ending and is_done(peer):
            peer_part(loop, peer)
    if peer.is_parting and peer.waiting.bytes == NULL and not peer.is_ending:
        shutdown(peer.fd, SHUT_WR)
        peer.is_ending = peer.is_gone
    if peer.is_ending:
        peer.is_touched = True      # on no list any more, and put on none
        peer_free(loop, peer)
        return
    peer_watch(loop, peer)
    timer_review(loop, peer)


# --- time --------------------------------------------------------------------------------------------------------------------

cdef inline int64_t peer_due(Peer* peer) noexcept nogil:
    """When peer_on_time has something to do. For who is ending it has done it: a late loop passes many ticks in one round."""
    cdef int64_t due = min(peer.write_due, peer.parting_due)
    if peer.is_ending:
        return INT64_MAX
    if peer.is_parting:
        return due
    return min(due, peer.handshake_due if is_shaking_hands(peer) else next_due(&peer.h2))


cdef void peer_on_time(Loop* loop, Peer* peer) noexcept nogil:
    """Something is due: the peer is cut, or HTTP/2 looks which of its calls are late."""
    peer_touch(loop, peer)
    if peer.write_due <= loop.now:
        loop.totals.writes_late += 1
        peer.is_ending = True
    elif peer.parting_due <= loop.now:
        peer.is_ending = True
    elif is_shaking_hands(peer):
        loop.totals.handshakes_late += 1
        peer.is_ending = True
    else:
        on_time(&peer.h2, loop.now, loop.events)
        peer_take_events(loop, peer)
