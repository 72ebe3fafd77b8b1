# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""TLS of a listener's connections: bytes in, bytes out, over OpenSSL. No I/O, no GIL, no buffers of its own.

A connection is a TlsConnection that lives where the listener keeps its other fields. Its calls (tls_open, tls_feed,
tls_write, tls_close, tls_gone, tls_free) borrow the caller's memory while they run; tls_records.pxd draws it. Calls for
one connection come from one thread at a time; a context may be reloaded from any thread meanwhile. The one thing that
is read from outside is wall time, by OpenSSL, when it looks at the validity of a client's certificate.

One translation unit, one concern a file:

    spans       the BIO: OpenSSL reads from and writes into memory that is lent to it
    context     versions, ciphers, ALPN, what is off; reload
    identity    who a client's certificate says it is
    connection  states, faults, bytes
    files       certificate files, read and checked
    server_context  the Python face of what connections are made from
    shell       the Python face of a connection

The listener gets all of it without a call through Python by including all but the last.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from libc.time cimport tm

from limits cimport *
from openssl cimport *
from tls_records cimport *

from broker.errors import ConfigError, ConfigFault
from broker.model.tls import IdentityStatus, TlsError, TlsFault, TlsSizes, TlsState

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)

cdef extern from "usher_assert.h" nogil:
    void USHER_ASSERT(bint condition) noexcept

include "spans.pxi"
include "context.pxi"
include "identity.pxi"
include "connection.pxi"
include "files.pxi"
include "server_context.pxi"
include "shell.pxi"
