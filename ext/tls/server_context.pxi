# What a listener is configured with, for the control plane: files in, and again at a reload.
#
# Each unit that includes this has a class, a BIO method and a count of its own; contexts are not exchanged between units.

cdef class ServerContext:
    """What connections are made from; see broker/_tls.pyi."""

    cdef TlsContext context
    cdef pthread_mutex_t mutex
    cdef readonly object certificate_path
    cdef readonly object private_key_path
    cdef readonly object client_ca_path
    cdef readonly tuple warnings

    def __cinit__(self, certificate_path, private_key_path, client_ca_path=None):
        pthread_mutex_init(&self.mutex, NULL)
        self.context.mutex = &self.mutex
        self.certificate_path = certificate_path
        self.private_key_path = private_key_path
        self.client_ca_path = client_ca_path
        self.reload()

    def reload(self):
        """Reads the files again. ConfigError leaves everything as it was."""
        cdef SSL_CTX* ctx = ctx_make()
        if ctx == NULL:
            raise MemoryError
        try:
            warnings = _fill(ctx, self.certificate_path, self.private_key_path, self.client_ca_path)
        except BaseException:
            SSL_CTX_free(ctx)
            raise
        with nogil:
            context_replace(&self.context, ctx)
        self.warnings = tuple(warnings)

    @property
    def is_mutual(self):
        return self.client_ca_path is not None

    @property
    def connection_count(self):
        return atomic_add(&self.context.connection_count, 0)

    def __dealloc__(self):
        if self.context.current != NULL:
            SSL_CTX_free(self.context.current)
        pthread_mutex_destroy(&self.mutex)


def _start():
    global ctx_mark
    ctx_mark = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, ctx_freed)
    if ctx_mark < 0 or not span_method_make():
        raise MemoryError


_start()
