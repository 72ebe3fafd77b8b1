# The Python face of one connection, as tests drive it.
#
# ServerTls has buffers of its own, which the listener does not need; each of its calls lets the GIL go, so that what runs
# there is what the data plane runs.

PLAIN_SIZE_DEFAULT = 65536
OUTPUT_SIZE_DEFAULT = 65536

TRANSITIONS = {
    (state, step): STEPS[state][step]
    for state in range(1, TLS_STATE_COUNT) for step in range(TLS_STEP_COUNT) if STEPS[state][step]
}


def context_count():
    """How many SSL_CTX of ours are alive in this process: current ones, and old ones that still have connections."""
    return atomic_add(&ctx_count, 0)


cdef bint buffer_reserve(TlsOutput* buffer, size_t size) noexcept:
    buffer.bytes = <uint8_t*>malloc(size)
    buffer.size_max = size
    buffer.used = 0
    return buffer.bytes != NULL


cdef bytes buffer_take(TlsOutput* buffer):
    """What is in it, which is then empty."""
    cdef bytes taken = PyBytes_FromStringAndSize(<char*>buffer.bytes, buffer.used)
    buffer.used = 0
    return taken


cdef class ServerTls:
    """One connection, server side; see broker/_tls.pyi."""

    cdef TlsConnection connection
    cdef ServerContext context
    cdef TlsOutput plain
    cdef TlsOutput sending

    def __cinit__(self, ServerContext context not None, *, plain_size_max=PLAIN_SIZE_DEFAULT, output_size_max=OUTPUT_SIZE_DEFAULT):
        if plain_size_max < 1 or output_size_max < TLS_OUTPUT_ROOM_MIN:
            raise ValueError(f"buffers of {plain_size_max} and {output_size_max} bytes; they need 1 and {TLS_OUTPUT_ROOM_MIN}")
        self.context = context
        if not (buffer_reserve(&self.plain, plain_size_max) and buffer_reserve(&self.sending, output_size_max)):
            raise MemoryError
        if not tls_open(&self.connection, &context.context):
            raise MemoryError

    def __dealloc__(self):
        tls_free(&self.connection)
        free(self.plain.bytes)
        free(self.sending.bytes)

    def feed(self, bytes cipher not None):
        cdef TlsInput source
        source.bytes, source.size, source.used = <const uint8_t*>PyBytes_AS_STRING(cipher), len(cipher), 0
        with nogil:
            tls_feed(&self.connection, &source, &self.plain, &self.sending)
        return source.used

    def read(self):
        return buffer_take(&self.plain)

    def write(self, bytes plain not None):
        cdef TlsInput source
        source.bytes, source.size, source.used = <const uint8_t*>PyBytes_AS_STRING(plain), len(plain), 0
        with nogil:
            tls_write(&self.connection, &source, &self.sending)
        return source.used

    def output(self):
        return buffer_take(&self.sending)

    def close(self):
        cdef bint is_said
        with nogil:
            is_said = tls_close(&self.connection, &self.sending)
        return is_said

    def peer_gone(self):
        with nogil:
            tls_gone(&self.connection)

    @property
    def state(self):
        return TlsState(self.connection.state)

    @property
    def error(self):
        if self.connection.error == TLS_ERROR_NONE:
            return None
        return TlsFault(TlsError(self.connection.error), tls_reason(&self.connection).decode())

    @property
    def identity(self):
        return PyBytes_FromStringAndSize(<char*>self.connection.identity, self.connection.identity_size)

    @property
    def identity_status(self):
        return IdentityStatus(self.connection.identity_status)

    @property
    def version(self):
        return SSL_get_version(self.connection.ssl).decode()

    @property
    def sizes(self):
        cdef TlsConnection* c = &self.connection
        return TlsSizes(received=c.received_size, sent=c.sent_size, read=c.read_size, written=c.written_size)
