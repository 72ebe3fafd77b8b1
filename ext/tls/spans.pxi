# The BIO of a connection: OpenSSL reads from and writes into the spans that the caller lends for one call.
#
# OpenSSL's own memory BIO keeps its largest size for life (85 KiB after one busy moment, twice a connection) and copies
# once more; this one keeps nothing. One BIO serves both directions.

cdef BIO_METHOD* span_method = NULL


cdef int span_create(BIO* bio) noexcept nogil:
    BIO_set_init(bio, 1)
    return 1


cdef int span_read(BIO* bio, char* target, int size) noexcept nogil:
    """The handshake's bound is kept here, where its bytes pass: an end of the stream that is no retry."""
    cdef TlsConnection* c = <TlsConnection*>BIO_get_data(bio)
    cdef TlsInput* source = c.input
    cdef size_t taken
    BIO_clear_retry_flags(bio)
    if c.state == TLS_HANDSHAKE and c.received_size >= TLS_HANDSHAKE_SIZE_MAX:
        c.error = TLS_ERROR_BOUND
        return -1
    if source == NULL or source.used == source.size:
        BIO_set_retry_read(bio)
        return -1
    taken = min(<size_t>size, source.size - source.used)
    memcpy(target, source.bytes + source.used, taken)
    source.used += taken
    c.received_size += taken
    return <int>taken


cdef int span_write(BIO* bio, const char* source, int size) noexcept nogil:
    cdef TlsConnection* c = <TlsConnection*>BIO_get_data(bio)
    cdef TlsOutput* target = c.output
    cdef size_t given
    BIO_clear_retry_flags(bio)
    if target == NULL or target.used == target.size_max:
        BIO_set_retry_write(bio)
        return -1
    given = min(<size_t>size, target.size_max - target.used)
    memcpy(target.bytes + target.used, source, given)
    target.used += given
    c.sent_size += given
    return <int>given


cdef long span_ctrl(BIO* bio, int command, long number, void* pointer) noexcept nogil:
    """Flushing has nothing to do; of all else (kernel TLS, pending bytes) there is none."""
    return 1 if command == BIO_CTRL_FLUSH else 0


cdef bint span_method_make() noexcept nogil:
    """Once a process, when the module is imported."""
    global span_method
    span_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "usher span")
    return (
        span_method != NULL
        and BIO_meth_set_create(span_method, span_create)
        and BIO_meth_set_read(span_method, span_read)
        and BIO_meth_set_write(span_method, span_write)
        and BIO_meth_set_ctrl(span_method, span_ctrl)
    )


cdef inline size_t room_of(const TlsOutput* output) noexcept nogil:
    return output.size_max - output.used
