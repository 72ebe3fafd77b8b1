# Links: sockets that connect, shake hands, read, gather what is to be sent, break and come back.
#
# All frames that a round has for a link leave in one send. What the socket does not take waits in the link's memory, and
# nothing more is asked of nghttp2 until it is gone. A churning link ends by RST (SO_LINGER 0): its port is free at once.

cdef inline void link_touch(Storm* storm, Link* link) noexcept nogil:
    """It is flushed at the end of this round."""
    if not link.is_touched:
        link.is_touched = 1
        link.next_touched = storm.first_touched
        storm.first_touched = link.number


cdef void link_watch(Storm* storm, Link* link, bint is_out) noexcept nogil:
    cdef epoll_event event
    if link.is_watching_out == is_out:
        return
    link.is_watching_out = is_out
    event.events = EPOLLIN | EPOLLOUT if is_out else EPOLLIN
    event.data.u64 = link.number
    epoll_ctl(storm.epoll_fd, EPOLL_CTL_MOD, link.fd, &event)


# --- opening -----------------------------------------------------------------------------------------------------------------

cdef void link_down(Storm* storm, Link* link, int64_t due) noexcept nogil:
    """It will be opened again."""
    link.place = LINK_DOWN
    link.due = due
    link.next_down = NO_LINK
    if storm.first_down == NO_LINK:
        storm.first_down = link.number
    else:
        storm.links[storm.last_down].next_down = link.number
    storm.last_down = link.number


cdef void links_open(Storm* storm) noexcept nogil:
    """Those whose time has come, as many as may be opening at once."""
    cdef Link* link
    while storm.first_down != NO_LINK and storm.opening < STORM_OPENING_MAX and storm.phase != PHASE_OVER:
        link = &storm.links[storm.first_down]
        if link.due > storm.now:
            return
        storm.first_down = link.next_down
        link_open(storm, link)


cdef bint link_bind(Storm* storm, Link* link) noexcept nogil:
    """One of several source addresses 127.0.0.1, .2, ...: each has ports of its own."""
    cdef sockaddr_in source
    cdef int one = 1
    if storm.plan.sources < 2 or storm.family != AF_INET:
        return True
    memset(&source, 0, sizeof(source))
    source.sin_family = <unsigned short>AF_INET
    source.sin_addr.s_addr = htonl(0x7F000001 + link.number % storm.plan.sources)
    setsockopt(link.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one))
    return bind(link.fd, <const sockaddr*>&source, sizeof(source)) == 0


cdef void link_open(Storm* storm, Link* link) noexcept nogil:
    cdef int one = 1
    cdef epoll_event event
    link.fd = socket(storm.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if link.fd < 0:
        fatal(storm, b"socket", errno)
        return
    setsockopt(link.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    link.place = LINK_CONNECTING
    link.due = storm.now
    link.is_watching_out = 1
    storm.opening += 1
    event.events = EPOLLIN | EPOLLOUT
    event.data.u64 = link.number
    if epoll_ctl(storm.epoll_fd, EPOLL_CTL_ADD, link.fd, &event) != 0:
        fatal(storm, b"epoll_ctl", errno)
    elif not link_bind(storm, link):
        link_failed(storm, link, b"bind", errno)
    elif connect(link.fd, <const sockaddr*>storm.address, storm.address_size) != 0 and errno != EINPROGRESS:
        link_failed(storm, link, b"connect", errno)


cdef void link_failed(Storm* storm, Link* link, const char* what, int number) noexcept nogil:
    """It never came up. A server that was there and refuses now is gone: with ends_with_server that is the end."""
    cdef char* example
    cdef const char* why = b""
    if number:
        why = strerror(number)
    storm.counts.connect_failures += 1
    storm.failures_in_row += 1
    link_close(storm, link, True)
    link_down(storm, link, storm.now + RECONNECT_NS)
    if storm.failures_in_row > storm.plan.link_count + FAILURES_MAX:
        storm.is_server_gone = 1
        if storm.phase == PHASE_RUN:
            run_over(storm)
        phase_enter(storm, PHASE_OVER)
    if storm.plan.ends_with_server and storm.counts.connects:
        return
    example = fault_note(storm, FAULT_CONNECT)
    if example != NULL:
        snprintf(example, STORM_EXAMPLE_SIZE, b"connection %u: %s: %s", link.number, what, why)


cdef void link_connected(Storm* storm, Link* link) noexcept nogil:
    cdef int problem = 0
    cdef socklen_t size = sizeof(problem)
    getsockopt(link.fd, SOL_SOCKET, SO_ERROR, &problem, &size)
    if problem != 0:
        link_failed(storm, link, b"connect", problem)
    elif storm.tls == NULL:
        link_up(storm, link)
    elif not link_tls_begin(storm, link):
        fatal(storm, b"SSL_new", ENOMEM)
    else:
        link.place = LINK_SHAKING_HANDS
        link_shake_hands(storm, link)


cdef void link_up(Storm* storm, Link* link) noexcept nogil:
    cdef nghttp2_settings_entry settings[2]
    if nghttp2_session_client_new2(&link.session, storm.callbacks, link, storm.options) != 0:
        fatal(storm, b"nghttp2_session_client_new2", ENOMEM)
        return
    settings[0].settings_id, settings[0].value = NGHTTP2_SETTINGS_ENABLE_PUSH, 0
    settings[1].settings_id, settings[1].value = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW
    nghttp2_submit_settings(link.session, NGHTTP2_FLAG_NONE, settings, 2)
    nghttp2_session_set_local_window_size(link.session, NGHTTP2_FLAG_NONE, 0, LINK_WINDOW)
    link.place = LINK_UP
    link.is_settled = 0
    link.is_fresh = is_churning(storm)
    link.is_done = 0
    link.seen_stream = 0
    storm.opening -= 1
    storm.counts.connects += 1
    storm.counts.links_up += 1
    storm.failures_in_row = 0
    link_watch(storm, link, False)
    link_touch(storm, link)
    slots_unpark(storm, link)


# --- TLS ---------------------------------------------------------------------------------------------------------------------

cdef bint link_tls_begin(Storm* storm, Link* link) noexcept nogil:
    link.tls = SSL_new(storm.tls)
    if link.tls == NULL or not SSL_set_fd(link.tls, link.fd):
        return False
    SSL_set_connect_state(link.tls)
    if storm.is_tls_name_address:
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(link.tls), storm.tls_name) == 1
    return SSL_set1_host(link.tls, storm.tls_name) == 1 and SSL_set_tlsext_host_name(link.tls, storm.tls_name) == 1


cdef void link_shake_hands(Storm* storm, Link* link) noexcept nogil:
    cdef const unsigned char* protocol = NULL
    cdef unsigned int size = 0
    cdef int result, wanted
    ERR_clear_error()
    result = SSL_do_handshake(link.tls)
    if result == 1:
        SSL_get0_alpn_selected(link.tls, &protocol, &size)
        if size == 2 and memcmp(protocol, b"h2", 2) == 0:
            link_up(storm, link)
            if link.place == LINK_UP:
                link_read(storm, link)
        else:
            link_failed(storm, link, b"TLS: the server does not speak h2", 0)
        return
    wanted = SSL_get_error(link.tls, result)
    if wanted == SSL_ERROR_WANT_READ or wanted == SSL_ERROR_WANT_WRITE:
        link_watch(storm, link, wanted == SSL_ERROR_WANT_WRITE)
    else:
        link_tls_failed(storm, link)


cdef void link_tls_failed(Storm* storm, Link* link) noexcept nogil:
    cdef char said[160]
    cdef const char* reason = ERR_reason_error_string(ERR_peek_last_error())
    cdef long verified = SSL_get_verify_result(link.tls)
    if verified != X509_V_OK:
        reason = X509_verify_cert_error_string(verified)
    if reason == NULL:
        reason = b"the server ended the connection"
    snprintf(said, 160, b"TLS: %s", reason)
    link_failed(storm, link, said, 0)


# --- reading ------------------------------------------------------------------------------------------------------------------

cdef ssize_t link_receive(Storm* storm, Link* link) noexcept nogil:
    """Bytes read into the scratch; 0: the end; -1: nothing now; -2: broken."""
    cdef ssize_t size
    cdef int wanted
    if link.tls == NULL:
        size = recv(link.fd, storm.scratch, STORM_SCRATCH_SIZE, 0)
        return size if size >= 0 else -1 if errno == EAGAIN or errno == EINTR else -2
    ERR_clear_error()
    size = SSL_read(link.tls, storm.scratch, STORM_SCRATCH_SIZE)
    if size > 0:
        return size
    wanted = SSL_get_error(link.tls, <int>size)
    if wanted == SSL_ERROR_WANT_READ or wanted == SSL_ERROR_WANT_WRITE:
        return -1
    return 0 if wanted == SSL_ERROR_ZERO_RETURN else -2


cdef void link_read(Storm* storm, Link* link) noexcept nogil:
    """All that is there, of TLS; once, of a plain socket, which epoll tells again."""
    cdef ssize_t size = link_receive(storm, link)
    cdef ssize_t taken
    while size > 0:
        taken = nghttp2_session_mem_recv(link.session, storm.scratch, <size_t>size)
        if taken < 0:
            link_protocol(storm, link, <int>taken)
            return
        link_touch(storm, link)
        if link.tls == NULL and size < STORM_SCRATCH_SIZE:
            return
        size = link_receive(storm, link)
    if size != -1:
        link_lost(storm, link)


cdef void link_protocol(Storm* storm, Link* link, int code) noexcept nogil:
    cdef char* example = fault_note(storm, FAULT_PROTOCOL)
    if example != NULL:
        snprintf(example, STORM_EXAMPLE_SIZE, b"connection %u: %s", link.number, nghttp2_strerror(code))
    link_lost(storm, link)


# --- sending -------------------------------------------------------------------------------------------------------------------

cdef ssize_t link_send(Link* link, const uint8_t* data, size_t size) noexcept nogil:
    """Bytes that were taken; -1: none now; -2: broken."""
    cdef ssize_t taken
    cdef int wanted
    if link.tls == NULL:
        taken = send(link.fd, data, size, MSG_NOSIGNAL)
        return taken if taken >= 0 else -1 if errno == EAGAIN or errno == EINTR else -2
    ERR_clear_error()
    taken = SSL_write(link.tls, data, <int>size)
    if taken > 0:
        return taken
    wanted = SSL_get_error(link.tls, <int>taken)
    return -1 if wanted == SSL_ERROR_WANT_WRITE or wanted == SSL_ERROR_WANT_READ else -2


cdef bint link_push(Storm* storm, Link* link, const uint8_t* data, size_t size) noexcept nogil:
    """Sends, and keeps what is not taken. False: the link is lost, or memory is."""
    cdef ssize_t taken
    while size != 0:
        taken = link_send(link, data, size)
        if taken == -2:
            link_deaf(storm, link)
            return False
        if taken == -1:
            return link_keep(storm, link, data, size)
        data += taken
        size -= <size_t>taken
    return True


cdef void link_deaf(Storm* storm, Link* link) noexcept nogil:
    """The server takes nothing more; answers that it gave before lie in the socket still, even behind a reset."""
    cdef ssize_t size = link_receive(storm, link)
    while size > 0 and nghttp2_session_mem_recv(link.session, storm.scratch, <size_t>size) >= 0:
        size = link_receive(storm, link)
    link_lost(storm, link)


cdef bint link_keep(Storm* storm, Link* link, const uint8_t* data, size_t size) noexcept nogil:
    USHER_ASSERT(link.unsent_size == 0 and size <= STORM_SCRATCH_SIZE)
    if link.unsent == NULL:
        link.unsent = <uint8_t*>malloc(STORM_SCRATCH_SIZE)
        if link.unsent == NULL:
            fatal(storm, b"malloc", ENOMEM)
            return False
    memcpy(link.unsent, data, size)
    link.unsent_head = 0
    link.unsent_size = <uint32_t>size
    link_watch(storm, link, True)
    return True


cdef bint link_push_unsent(Storm* storm, Link* link) noexcept nogil:
    """What the socket had not taken. True: nothing is left of it."""
    cdef ssize_t taken
    while link.unsent_size:
        taken = link_send(link, link.unsent + link.unsent_head, link.unsent_size)
        if taken == -2:
            link_deaf(storm, link)
        if taken < 0:
            return False
        link.unsent_head += <uint32_t>taken
        link.unsent_size -= <uint32_t>taken
    link_watch(storm, link, False)
    return True


cdef ssize_t link_gather(Storm* storm, Link* link) noexcept nogil:
    """What nghttp2 has to send, one frame after the other, into the scratch; its size, or -1."""
    cdef const uint8_t* frame = NULL
    cdef ssize_t size
    cdef ssize_t fill = 0
    while fill <= STORM_SCRATCH_SIZE - FRAME_ROOM:
        size = nghttp2_session_mem_send(link.session, &frame)
        if size < 0:
            link_protocol(storm, link, <int>size)
            return -1
        if size == 0:
            break
        USHER_ASSERT(size <= FRAME_ROOM)
        memcpy(storm.scratch + fill, frame, <size_t>size)
        fill += size
    return fill


cdef void link_flush(Storm* storm, Link* link) noexcept nogil:
    cdef ssize_t size
    if link.place < LINK_UP or link.unsent_size:
        return
    while link.place >= LINK_UP and link.unsent_size == 0:
        size = link_gather(storm, link)
        if size <= 0 or not link_push(storm, link, storm.scratch, <size_t>size):
            break
    if link.place == LINK_GOING and link.flying == 0:
        link_close(storm, link, False)
        link_down(storm, link, storm.now + GOAWAY_NS)
    elif link.place >= LINK_UP and not nghttp2_session_want_read(link.session) and not nghttp2_session_want_write(link.session):
        link_lost(storm, link)


cdef void links_flush(Storm* storm) noexcept nogil:
    cdef Link* link
    while storm.first_touched != NO_LINK:
        link = &storm.links[storm.first_touched]
        storm.first_touched = link.next_touched
        link.is_touched = 0
        link_flush(storm, link)


# --- the end --------------------------------------------------------------------------------------------------------------------

cdef void link_close(Storm* storm, Link* link, bint is_abrupt) noexcept nogil:
    """The socket and all that hangs on it; slots are the caller's."""
    cdef linger at_once
    if link.place == LINK_CONNECTING or link.place == LINK_SHAKING_HANDS:
        storm.opening -= 1
    elif link.place == LINK_UP:
        storm.counts.links_up -= 1
    if is_abrupt and link.fd >= 0:
        at_once.l_onoff, at_once.l_linger = 1, 0
        setsockopt(link.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once))
    if link.session != NULL:
        nghttp2_session_del(link.session)
        link.session = NULL
    if link.tls != NULL:
        SSL_free(link.tls)
        link.tls = NULL
    if link.fd >= 0:
        close(link.fd)
        link.fd = -1
    link.place = LINK_DOWN
    link.unsent_size = 0


cdef void link_reopen(Storm* storm, Link* link) noexcept nogil:
    """An end that belongs to the plan: nothing is in flight."""
    link_close(storm, link, True)
    link_down(storm, link, storm.now)


cdef void link_lost(Storm* storm, Link* link) noexcept nogil:
    """The connection is gone. Calls in flight may have been carried out or not: they go out again with the same request id,
    counted as cut."""
    cdef uint32_t i
    cdef Slot* slot
    cdef uint64_t cut = 0
    for i in range(link.first_slot, link.first_slot + storm.plan.streams):
        slot = &storm.slots[i]
        if slot.place == SLOT_FLYING:
            slot.is_uncertain = 1
            cut += 1
            slot_again(storm, slot)
    link.flying = 0
    storm.counts.cut += cut
    if cut and not storm.plan.ends_with_server:
        fault_text(storm, FAULT_CUT, b"a connection ended with calls in flight, without GOAWAY for them")
        storm.counts.faults[FAULT_CUT] += cut - 1
    if storm.plan.cycle == CYCLE_IDLE and storm.phase == PHASE_RUN:
        storm.counts.links_lost += 1
        fault_text(storm, FAULT_LINK_LOST, b"the server ended an idle connection")
    link_close(storm, link, False)
    link_down(storm, link, storm.now + RECONNECT_NS)
