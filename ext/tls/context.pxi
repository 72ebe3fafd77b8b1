# What every connection of a listener has in common: versions, ciphers, ALPN, what is switched off, and its replacement.
#
#   versions        TLS 1.2 and 1.3
#   ciphers of 1.2  ECDHE with AES-GCM or ChaCha20-Poly1305: those that RFC 9113 section 9.2.2 lets HTTP/2 use
#   ALPN            h2 or a fatal no_application_protocol alert (RFC 7301), also for a client that offers nothing
#   renegotiation   off (RFC 9113 section 9.2.1 forbids it); compression off
#   resumption      off, tickets and cache: connections live for hours, so a full handshake at each costs little, while a
#                   ticket would let a client in whose certificate has ended or whose authority was taken out
#   early data      none: it needs resumption, and could be replayed
#   memory          the buffers of an idle connection are given back
#
# A reload makes a new SSL_CTX and puts it in the place of the old one; connections hold theirs, so the old one goes with
# the last of them.

cdef extern from *:
    """
    static const unsigned char usher_alpn_h2[] = {2, 'h', '2'};
    static int64_t usher_tls_ctx_count = 0;
    #define usher_atomic_add(place, amount) __atomic_add_fetch((place), (amount), __ATOMIC_RELAXED)
    """
    const unsigned char ALPN_H2 "usher_alpn_h2"[3]
    int64_t ctx_count "usher_tls_ctx_count"
    int64_t atomic_add "usher_atomic_add"(int64_t* place, int64_t amount) noexcept nogil

cdef int ctx_mark = -1              # index of the ex_data that makes a freed SSL_CTX be counted


cdef void ctx_freed(void* parent, void* mark, CRYPTO_EX_DATA* data, int index, long l, void* p) noexcept nogil:
    """Called for every SSL_CTX of the process; only ours have the mark."""
    if mark != NULL:
        atomic_add(&ctx_count, -1)


cdef int on_alpn(
    SSL* ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* offered, unsigned int size, void* p
) noexcept nogil:
    cdef unsigned char* chosen = NULL
    if SSL_select_next_proto(&chosen, out_size, ALPN_H2, sizeof(ALPN_H2), offered, size) != OPENSSL_NPN_NEGOTIATED:
        (<TlsConnection*>SSL_get_ex_data(ssl, 0)).error = TLS_ERROR_ALPN
        return SSL_TLSEXT_ERR_ALERT_FATAL
    out[0] = chosen
    return SSL_TLSEXT_ERR_OK


cdef int on_client_hello(SSL* ssl, int* alert, void* p) noexcept nogil:
    """OpenSSL does not ask about ALPN when the client does not speak of it."""
    cdef const unsigned char* body = NULL
    cdef size_t size = 0
    if SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &body, &size):
        return SSL_CLIENT_HELLO_SUCCESS
    (<TlsConnection*>SSL_get_ex_data(ssl, 0)).error = TLS_ERROR_ALPN
    alert[0] = SSL_AD_NO_APPLICATION_PROTOCOL
    return SSL_CLIENT_HELLO_ERROR


cdef SSL_CTX* ctx_make() noexcept nogil:
    """All but the certificates; NULL without memory."""
    cdef SSL_CTX* ctx = SSL_CTX_new(TLS_server_method())
    if ctx == NULL:
        return NULL
    if not SSL_CTX_set_ex_data(ctx, ctx_mark, <void*>ALPN_H2):
        SSL_CTX_free(ctx)
        return NULL
    atomic_add(&ctx_count, 1)
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION)
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET)
    SSL_CTX_set_num_tickets(ctx, 0)
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF)
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
    USHER_ASSERT(SSL_CTX_set_cipher_list(ctx, b"ECDHE+AESGCM:ECDHE+CHACHA20") == 1)
    SSL_CTX_set_max_cert_list(ctx, TLS_CHAIN_SIZE_MAX)
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL)
    SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL)
    return ctx


cdef void ctx_require_clients(SSL_CTX* ctx) noexcept nogil:
    """Every client must show a certificate that an authority of the store has signed."""
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL)
    SSL_CTX_set_verify_depth(ctx, TLS_CHAIN_DEPTH_MAX)


cdef SSL_CTX* context_current(TlsContext* context) noexcept nogil:
    """The SSL_CTX for a new connection; the caller gives it back with SSL_CTX_free."""
    cdef SSL_CTX* ctx
    pthread_mutex_lock(<pthread_mutex_t*>context.mutex)
    ctx = context.current
    SSL_CTX_up_ref(ctx)
    pthread_mutex_unlock(<pthread_mutex_t*>context.mutex)
    return ctx


cdef void context_replace(TlsContext* context, SSL_CTX* ctx) noexcept nogil:
    """New connections get this one, which the context owns from now. Any thread."""
    cdef SSL_CTX* old
    pthread_mutex_lock(<pthread_mutex_t*>context.mutex)
    old = context.current
    context.current = ctx
    pthread_mutex_unlock(<pthread_mutex_t*>context.mutex)
    if old != NULL:
        SSL_CTX_free(old)
