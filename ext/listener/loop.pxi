# The rounds of a loop: wait, read, ask the ledger, send, and now and then look at the time; draining, and the end.
#
# listener_records.pxd draws the round. Everything in it is bounded: ready descriptors, bytes and sends of one peer, connections
# taken, so that nobody waits for long for anybody else. All of it runs in the loop's thread, which never takes the GIL.

cdef extern from *:
    """
    #define USHER_LEDGER_INTERVAL_NS 100000000LL
    #define USHER_LEDGER_STEP_NS 1000000LL
    #define USHER_LATE_NS 1000000000LL
    """
    const long long LEDGER_INTERVAL_NS "USHER_LEDGER_INTERVAL_NS"
    const long long LEDGER_STEP_NS "USHER_LEDGER_STEP_NS"
    const long long LATE_NS "USHER_LATE_NS"

cdef enum:
    FLUSHES_MAX = 8                 # passes over the touched peers at the end of one round
    READS_FIRST_MAX = 64            # rounds that a late ledger, or who is late, waits for what is readable
    WAIT_MS_MAX = 60000

cdef enum:  # LastState.phase
    PHASE_NEW = 0
    PHASE_WAITING = 1
    PHASE_READING = 2
    PHASE_TIMERS = 3
    PHASE_LEDGER = 4
    PHASE_SERVICE = 5
    PHASE_SENDING = 6
    PHASE_ENDING = 7
    PHASE_DONE = 8
    PHASE_COUNT = 9


cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return <int64_t>time.tv_sec * NS_PER_SECOND + time.tv_nsec


cdef inline void loop_look(Loop* loop) noexcept nogil:
    """Takes the time: once a round, and after what may have taken long."""
    loop.now = max(loop.now, clock_ns())


# --- begin and end -----------------------------------------------------------------------------------------------------------

cdef bint buffers_begin(Loop* loop) noexcept nogil:
    loop.events = <H2Events*>calloc(1, sizeof(H2Events))
    loop.ready = <epoll_event*>calloc(LOOP_READY_MAX, sizeof(epoll_event))
    loop.plain = <uint8_t*>malloc(max(<size_t>LOOP_READ_SIZE, <size_t>LOOP_SEND_SIZE))
    loop.cipher = <uint8_t*>malloc(LOOP_READ_SIZE)
    loop.sending = <uint8_t*>malloc(SENDING_SIZE)
    return loop.events != NULL and loop.ready != NULL and loop.plain != NULL and loop.cipher != NULL and loop.sending != NULL


cdef bint descriptors_begin(Loop* loop) noexcept nogil:
    loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
    loop.sending_fd = epoll_create1(EPOLL_CLOEXEC)
    loop.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    return loop.epoll_fd >= 0 and loop.sending_fd >= 0 and loop.wake_fd >= 0


cdef bint loop_begin(Loop* loop, Shared* shared, uint32_t number) noexcept nogil:
    """False: no memory, or errno says why; then loop_end too. Settings of the server are set by the caller after it."""
    memset(loop, 0, sizeof(Loop))
    loop.shared = shared
    loop.number = number
    loop.epoll_fd = loop.sending_fd = loop.wake_fd = -1
    loop.first_free = loop.first_touched = NONE
    loop.now = clock_ns()
    loop.ledger_due = loop.ledger_last = loop.now
    loop.accept_due = INT64_MAX
    loop.service_due = INT64_MAX
    return (
        server_begin(&loop.server) and timers_begin(loop) and mailbox_begin(loop) and buffers_begin(loop)
        and descriptors_begin(loop) and service_begin(loop)
    )


cdef void loop_end(Loop* loop) noexcept nogil:
    """Gives everything back; its thread has ended, or never began."""
    service_end(loop)
    mailbox_end(loop)
    peers_end(loop)
    timers_end(loop)
    server_end(&loop.server)
    free(loop.events)
    free(loop.ready)
    free(loop.plain)
    free(loop.cipher)
    free(loop.sending)
    if loop.epoll_fd >= 0:
        close_fd(loop.epoll_fd)
    if loop.sending_fd >= 0:
        close_fd(loop.sending_fd)
    if loop.wake_fd >= 0:
        close_fd(loop.wake_fd)


# --- waking ------------------------------------------------------------------------------------------------------------------

cdef inline void loop_wake(Loop* loop) noexcept nogil:
    """Any thread: the loop's next wait ends at once."""
    cdef uint64_t one = 1
    write_fd(loop.wake_fd, &one, sizeof(one))


cdef void wake_all(Shared* shared) noexcept nogil:
    cdef uint32_t i
    for i in range(shared.loop_count):
        loop_wake(shared.loops[i])


cdef void woken(Loop* loop) noexcept nogil:
    cdef uint64_t count
    read_fd(loop.wake_fd, &count, sizeof(count))
    mailbox_empty(loop)


# --- waiting and reading -------------------------------------------------------------------------------------------------------

cdef inline bint has_accepting(const Loop* loop) noexcept nogil:
    return loop.number == 0 and not loop.is_draining


cdef inline bint has_ticking(const Loop* loop) noexcept nogil:
    return loop.number == 0 and loop.shared.settings.is_ticking


cdef int64_t loop_due(Loop* loop) noexcept nogil:
    """When there is something to do even if nothing comes."""
    cdef int64_t due = service_due(loop)
    if not loop.blind_rounds:
        due = min(min(due, timers_due(loop)), loop.accept_due)
    if loop.is_draining:
        due = min(due, load_i64(&loop.shared.drain_due))
    if has_ticking(loop):
        due = min(due, loop.ledger_due)
    return due


cdef int loop_wait_ms(Loop* loop) noexcept nogil:
    """How long to wait; never woken before the time, so that no round is for nothing."""
    cdef int64_t due = loop_due(loop)
    if loop.first_touched != NONE or loop.service.count != 0 or due <= loop.now:
        return 0
    if due - loop.now > WAIT_MS_MAX * 1000000LL:
        return WAIT_MS_MAX
    return <int>((due - loop.now + 999999) // 1000000)


cdef uint32_t loop_wait(Loop* loop) noexcept nogil:
    """How many descriptors are ready."""
    cdef int count
    loop.last.phase = PHASE_WAITING
    if service_is_full(loop):
        return loop_wait_blind(loop)
    count = epoll_wait(loop.epoll_fd, loop.ready, LOOP_READY_MAX, 0 if loop.blind_rounds else loop_wait_ms(loop))
    loop_look(loop)
    if loop.blind_rounds:
        loop.blind_rounds = loop.blind_rounds - 1 if count == LOOP_READY_MAX else 0
    return <uint32_t>max(count, 0)


cdef uint32_t loop_wait_blind(Loop* loop) noexcept nogil:
    """While the service is full nobody is read from: waking counts, and sockets that take again what waits for them."""
    cdef pollfd awaited[2]
    loop.service.held_full_count += loop.blind_rounds == 0
    loop.blind_rounds = READS_FIRST_MAX
    awaited[0].fd = loop.wake_fd
    awaited[1].fd = loop.sending_fd
    awaited[0].events = awaited[1].events = POLLIN
    awaited[0].revents = awaited[1].revents = 0
    poll(awaited, 2, loop_wait_ms(loop))
    loop_look(loop)
    if awaited[0].revents:
        woken(loop)
    return sending_ready(loop) if awaited[1].revents else 0


cdef uint32_t sending_ready(Loop* loop) noexcept nogil:
    """How many peers take bytes again: they stand in `ready`."""
    return <uint32_t>max(epoll_wait(loop.sending_fd, loop.ready, LOOP_READY_MAX, 0), 0)


cdef void peer_ready(Loop* loop, uint64_t name, uint32_t events) noexcept nogil:
    cdef Peer* peer = peer_named(loop, <uint32_t>name, <uint32_t>(name >> 32))
    if peer == NULL:
        return
    loop.last.slot = peer.slot
    if events & (EPOLLERR | EPOLLHUP) and (peer.is_gone or peer.waiting.bytes != NULL):
        peer.is_ending = True
        peer_touch(loop, peer)
    elif events & EPOLLOUT:
        peer_touch(loop, peer)
    else:
        peer_read(loop, peer)


cdef void loop_read(Loop* loop, uint32_t ready_count) noexcept nogil:
    """Everybody who is ready, once; then who takes bytes again."""
    cdef bint has_sending = False
    cdef uint32_t i
    cdef uint64_t name
    loop.last.phase = PHASE_READING
    for i in range(ready_count):
        name = loop.ready[i].data.u64
        if name == <uint64_t>NAME_WAKE:
            woken(loop)
        elif name == <uint64_t>NAME_SENDING:
            has_sending = True
        elif name == <uint64_t>NAME_LISTENING:
            accept_some(loop)
        else:
            peer_ready(loop, name, loop.ready[i].events)
    if has_sending:
        loop_read(loop, sending_ready(loop))


# --- time ------------------------------------------------------------------------------------------------------------------------

cdef void loop_times(Loop* loop) noexcept nogil:
    """Who has been silent for too long was read from before, so that a slow commit is not held against them."""
    loop.last.phase = PHASE_TIMERS
    if loop.blind_rounds:
        return
    timers_run(loop)
    if loop.accept_due <= loop.now:
        if has_accepting(loop):
            accept_resume(loop)
        loop.accept_due = INT64_MAX


cdef bint is_somebody_unread(const Shared* shared) noexcept nogil:
    """Whether a loop reads from nobody because too much waits for the disk, or has not read from everybody since."""
    cdef uint32_t i
    for i in range(shared.loop_count):
        if load_u8(&shared.loops[i].blind_rounds) and not load_u8(&shared.loops[i].is_done):
            return True
    return False


cdef void ledger_advance(Loop* loop, uint32_t ready_count) noexcept nogil:
    """What is due in the ledger. After a stop of more than a second what is readable is read first, as far as that has an end.

    While renewals may lie unread for a slow disk nothing is due: the ledger takes that for a stopped process (semantics rule 20)."""
    cdef uint64_t position = 0
    if not has_ticking(loop) or loop.now < loop.ledger_due:
        return
    if is_somebody_unread(loop.shared):
        loop.ledger_due = loop.now + LEDGER_INTERVAL_NS
        return
    if loop.now - loop.ledger_last > LATE_NS and ready_count == LOOP_READY_MAX and loop.reads_first < READS_FIRST_MAX:
        loop.reads_first += 1
        return
    loop.last.phase = PHASE_LEDGER
    loop.reads_first = 0
    loop.ledger_last = loop.now
    loop.ledger_due = loop.shared.port.advance(loop.shared.port, loop.now, &position)
    wake_committer(loop, position)
    loop.ledger_due = min(max(loop.ledger_due, loop.now + LEDGER_STEP_NS), loop.now + LEDGER_INTERVAL_NS)


# --- sending ------------------------------------------------------------------------------------------------------------------------

cdef void flush_touched(Loop* loop) noexcept nogil:
    """Everybody who was touched before; sending may touch them again."""
    cdef uint32_t slot = loop.first_touched
    cdef Peer* peer
    loop.first_touched = NONE
    while slot != NONE:
        peer = loop.peers[slot]
        slot = peer.next_touched
        peer.is_touched = False
        peer_flush(loop, peer)


cdef void loop_answer(Loop* loop) noexcept nogil:
    """Runs what was read and sends what was said, until both have come to rest; the rest is for the next round."""
    cdef uint32_t i
    for i in range(FLUSHES_MAX):
        loop.last.phase = PHASE_SERVICE
        loop.last.batch_count = loop.service.count
        service_round(loop)
        loop.last.phase = PHASE_SENDING
        flush_touched(loop)
        if loop.first_touched == NONE and loop.service.count == 0:
            return


# --- draining -------------------------------------------------------------------------------------------------------------------------

cdef void listening_stop(Loop* loop) noexcept nogil:
    """New connections are refused from now, those in the queue too; if the port is kept, all of them wait for another process."""
    if loop.number != 0:
        return
    epoll_ask(loop.epoll_fd, EPOLL_CTL_DEL, loop.shared.listening_fd, 0, 0)
    if not load_u8(&loop.shared.is_port_kept):
        shutdown(loop.shared.listening_fd, SHUT_RD)


cdef void drain_begin(Loop* loop) noexcept nogil:
    """Every peer is asked to go, and every stream that would go on ends."""
    cdef uint32_t i
    if loop.is_draining:
        return
    listening_stop(loop)
    loop.is_draining = True
    service_drain(loop)
    for i in range(loop.peer_high):
        if loop.peers[i].fd >= 0:
            peer_drain(loop, loop.peers[i])


cdef bint is_drained(Loop* loop) noexcept nogil:
    """Nobody is left, or their time is over."""
    return loop.is_draining and (
        load_i64(&loop.totals.connections) == 0 or load_i64(&loop.shared.drain_due) <= loop.now
    )


cdef void loop_cut(Loop* loop) noexcept nogil:
    """The end for who is left. What they were told has been sent as far as they took it."""
    cdef uint32_t i
    loop.last.phase = PHASE_ENDING
    mailbox_close(loop)
    if loop.number == 0 and not loop.is_draining:
        epoll_ask(loop.epoll_fd, EPOLL_CTL_DEL, loop.shared.listening_fd, 0, 0)
    for i in range(loop.peer_high):
        if loop.peers[i].fd >= 0:
            loop.peers[i].is_touched = True
            peer_free(loop, loop.peers[i])
    loop.first_touched = NONE


# --- rounds -----------------------------------------------------------------------------------------------------------------------------

cdef void loop_round(Loop* loop) noexcept nogil:
    cdef uint32_t ready_count = loop_wait(loop)
    loop.totals.rounds += 1
    loop.last.round = loop.totals.rounds
    loop_read(loop, ready_count)
    if load_i64(&loop.shared.drain_due) != 0:
        drain_begin(loop)
    loop_times(loop)
    loop_look(loop)
    loop_answer(loop)
    ledger_advance(loop, ready_count)


cdef void loop_run(Loop* loop) noexcept nogil:
    """Until drained or stopped."""
    loop_look(loop)
    epoll_ask(loop.epoll_fd, EPOLL_CTL_ADD, loop.wake_fd, EPOLLIN, <uint64_t>NAME_WAKE)
    epoll_ask(loop.epoll_fd, EPOLL_CTL_ADD, loop.sending_fd, EPOLLIN, <uint64_t>NAME_SENDING)
    if loop.number == 0 and load_i64(&loop.shared.drain_due) == 0:
        accept_resume(loop)
    while not load_u8(&loop.shared.is_stopping) and not is_drained(loop):
        loop_round(loop)
    loop_cut(loop)
    loop.last.phase = PHASE_DONE
    store_u8(&loop.is_done, True)
