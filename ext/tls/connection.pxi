# One connection: bytes of the wire in and out, plain bytes out and in, and what became of it.
#
# All calls for one connection come from one thread at a time. They do no I/O and never wait; each is bounded by the
# spans that it is lent. Legal changes of state are the table below; a fault is final, and its alert is in the output.

cdef extern from *:
    """
    /*  from               established  peer closes  we close  gone  fault */
    static const uint8_t usher_tls_steps[7][5] = {
        /* (no state)   */ {0, 0, 0, 0, 0},
        /* handshake    */ {2, 6, 5, 6, 6},
        /* open         */ {0, 3, 4, 6, 6},
        /* peer closed  */ {0, 0, 5, 5, 6},
        /* own closed   */ {0, 5, 4, 5, 6},
        /* closed       */ {0, 0, 5, 5, 0},
        /* failed       */ {0, 0, 6, 6, 0},
    };
    """
    const uint8_t STEPS "usher_tls_steps"[TLS_STATE_COUNT][TLS_STEP_COUNT]

cdef enum:
    RECORD_SIZE_MAX = 16384         # plain bytes of one record (RFC 8446 section 5.1)
    RECORD_ROOM = 256               # around one: header, tag and padding (29 bytes at most), a KeyUpdate or alert before it


cdef void tls_step(TlsConnection* c, int step) noexcept nogil:
    cdef uint8_t state = STEPS[c.state][step]
    USHER_ASSERT(state != 0)
    c.state = state
    if state == TLS_FAILED and c.error == TLS_ERROR_NONE:
        c.error = TLS_ERROR_TRUNCATED


# --- beginning and end --------------------------------------------------------------------------------------------

cdef bint tls_open(TlsConnection* c, TlsContext* context) noexcept nogil:
    """A connection that waits for a ClientHello; False without memory. The context outlives it."""
    cdef SSL_CTX* ctx = context_current(context)
    cdef BIO* bio = BIO_new(span_method)
    memset(c, 0, sizeof(TlsConnection))
    c.ssl = SSL_new(ctx)
    SSL_CTX_free(ctx)
    if bio == NULL or c.ssl == NULL or not SSL_set_ex_data(c.ssl, 0, c):
        BIO_free(bio)
        SSL_free(c.ssl)
        c.ssl = NULL
        return False
    BIO_set_data(bio, c)
    SSL_set_bio(c.ssl, bio, bio)
    SSL_set_accept_state(c.ssl)
    c.context = context
    c.state = TLS_HANDSHAKE
    atomic_add(&context.connection_count, 1)
    return True


cdef void tls_free(TlsConnection* c) noexcept nogil:
    """Sends nothing: tls_close does. Twice is harmless."""
    if c.ssl != NULL:
        SSL_free(c.ssl)
        c.ssl = NULL
        atomic_add(&c.context.connection_count, -1)


# --- what went wrong ----------------------------------------------------------------------------------------------

cdef uint8_t error_of(const TlsConnection* c) noexcept nogil:
    """The kind of the fault that OpenSSL has just reported."""
    cdef unsigned long code = c.openssl_error
    cdef int reason = ERR_GET_REASON(code)
    if reason == ERR_R_MALLOC_FAILURE:
        return TLS_ERROR_MEMORY
    if c.verify_result != X509_V_OK:
        return TLS_ERROR_CLIENT_CERTIFICATE
    if ERR_GET_LIB(code) != ERR_LIB_SSL:
        return TLS_ERROR_PROTOCOL
    if reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return TLS_ERROR_CLIENT_CERTIFICATE
    if reason >= SSL_AD_REASON_OFFSET:
        return TLS_ERROR_ALERT
    return TLS_ERROR_PROTOCOL


cdef void tls_fault(TlsConnection* c, int outcome) noexcept nogil:
    c.openssl_error = ERR_peek_last_error()
    c.verify_result = SSL_get_verify_result(c.ssl)
    if c.error == TLS_ERROR_NONE:
        c.error = error_of(c) if outcome == SSL_ERROR_SSL else TLS_ERROR_INTERNAL
    ERR_clear_error()
    tls_step(c, TLS_STEP_FAULT)


cdef const char* tls_reason(const TlsConnection* c) noexcept nogil:
    """Why it failed, in OpenSSL's words where it has any; a constant text."""
    cdef const char* text = NULL
    if c.error == TLS_ERROR_NONE:
        return b""
    if c.error == TLS_ERROR_ALPN:
        return b"the peer does not offer HTTP/2 (ALPN h2)"
    if c.error == TLS_ERROR_BOUND:
        return b"the handshake is too large"
    if c.error == TLS_ERROR_TRUNCATED:
        return b"the connection ended without a close_notify"
    if c.error == TLS_ERROR_CLIENT_CERTIFICATE and c.verify_result != X509_V_OK:
        return X509_verify_cert_error_string(c.verify_result)
    text = ERR_reason_error_string(c.openssl_error)
    if text == NULL:
        return b"no reason given"
    return text


cdef void tls_stopped(TlsConnection* c, int result) noexcept nogil:
    """What a call of OpenSSL that did not succeed means. More bytes or more room wanted: nothing."""
    cdef int outcome = SSL_get_error(c.ssl, result)
    if outcome == SSL_ERROR_ZERO_RETURN:
        tls_step(c, TLS_STEP_PEER_CLOSE)
    elif outcome != SSL_ERROR_WANT_READ and outcome != SSL_ERROR_WANT_WRITE:
        tls_fault(c, outcome)


# --- bytes -----------------------------------------------------------------------------------------------------------

cdef inline void spans_lend(TlsConnection* c, TlsInput* source, TlsOutput* output) noexcept nogil:
    c.input = source
    c.output = output


cdef inline void spans_take_back(TlsConnection* c) noexcept nogil:
    c.input = NULL
    c.output = NULL


cdef void tls_handshake(TlsConnection* c) noexcept nogil:
    cdef int result
    ERR_clear_error()
    result = SSL_do_handshake(c.ssl)
    if result == 1:
        identity_read(c)
        tls_step(c, TLS_STEP_ESTABLISHED)
    else:
        tls_stopped(c, result)


cdef inline bint can_read(const TlsConnection* c) noexcept nogil:
    return c.state == TLS_OPEN or c.state == TLS_OWN_CLOSED


cdef inline bint can_write(const TlsConnection* c) noexcept nogil:
    return c.state == TLS_OPEN or c.state == TLS_PEER_CLOSED


cdef void tls_read(TlsConnection* c, TlsOutput* plain) noexcept nogil:
    """Reading may have to answer (a KeyUpdate), so it stops when there is no room to."""
    cdef int result
    while can_read(c) and room_of(plain) and room_of(c.output) >= TLS_OUTPUT_ROOM_MIN:
        ERR_clear_error()
        result = SSL_read(c.ssl, plain.bytes + plain.used, <int>min(room_of(plain), <size_t>RECORD_SIZE_MAX))
        if result <= 0:
            tls_stopped(c, result)
            return
        plain.used += result
        c.read_size += result


cdef void tls_feed(TlsConnection* c, TlsInput* cipher, TlsOutput* plain, TlsOutput* output) noexcept nogil:
    """Takes bytes of the wire, gives plain ones, and what has to be sent (handshake, alerts).

    All cipher bytes are taken unless `plain` is full or `output` has less than TLS_OUTPUT_ROOM_MIN: then call again with
    the rest, or with none, once there is room. After an end or a fault what comes is thrown away.
    """
    spans_lend(c, cipher, output)
    if c.state == TLS_HANDSHAKE and room_of(output) >= TLS_OUTPUT_ROOM_MIN:
        tls_handshake(c)
    tls_read(c, plain)
    spans_take_back(c)
    if c.state != TLS_HANDSHAKE and not can_read(c):
        cipher.used = cipher.size


cdef void tls_write(TlsConnection* c, TlsInput* plain, TlsOutput* output) noexcept nogil:
    """Takes plain bytes as far as `output` has room for their records. What is not taken must be given again.

    The room that is kept free is for what OpenSSL may have to say first, so that a record is never left half said.
    """
    cdef size_t chunk
    cdef int result
    spans_lend(c, NULL, output)
    while can_write(c) and plain.used < plain.size and room_of(output) >= TLS_OUTPUT_ROOM_MIN:
        chunk = min(plain.size - plain.used, <size_t>RECORD_SIZE_MAX, room_of(output) - RECORD_ROOM)
        chunk = max(chunk, <size_t>c.retry_size)
        USHER_ASSERT(chunk <= plain.size - plain.used)
        ERR_clear_error()
        result = SSL_write(c.ssl, plain.bytes + plain.used, <int>chunk)
        if result <= 0:
            c.retry_size = <uint32_t>chunk
            tls_stopped(c, result)
            break
        c.retry_size = 0
        plain.used += result
        c.written_size += result
    spans_take_back(c)


cdef bint tls_close(TlsConnection* c, TlsOutput* output) noexcept nogil:
    """Says close_notify; False if `output` has no room for it: call again. In the handshake nothing is said."""
    cdef int result
    if not can_write(c):
        tls_step(c, TLS_STEP_OWN_CLOSE)
        return True
    if room_of(output) < TLS_OUTPUT_ROOM_MIN:
        return False
    spans_lend(c, NULL, output)
    ERR_clear_error()
    result = SSL_shutdown(c.ssl)
    if result >= 0:
        tls_step(c, TLS_STEP_OWN_CLOSE)
    else:
        tls_stopped(c, result)
    spans_take_back(c)
    return c.state != TLS_OPEN and c.state != TLS_PEER_CLOSED


cdef void tls_gone(TlsConnection* c) noexcept nogil:
    """The transport has ended. Without a close_notify before, somebody may have cut off the last bytes."""
    tls_step(c, TLS_STEP_GONE)
