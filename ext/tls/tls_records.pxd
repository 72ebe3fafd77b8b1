"""The records of TLS: the spans that a call borrows, one connection, and what connections are made from.

    wire ──cipher: TlsInput──► tls_feed ──plain: TlsOutput──► h2
    wire ◄─output: TlsOutput── tls_write ◄─plain: TlsInput─── h2

A connection has no buffer of its own: it reads from and writes into the caller's, during the call only. What it could
not take or give stays with the caller, who so has all the back-pressure in his hands.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from limits cimport IDENTITY_SIZE_MAX
from openssl cimport SSL, SSL_CTX

cdef enum:  # TlsState
    TLS_HANDSHAKE = 1
    TLS_OPEN = 2
    TLS_PEER_CLOSED = 3             # its close_notify is here; what we still have to say may be said
    TLS_OWN_CLOSED = 4              # ours is sent; what the peer still says is read
    TLS_CLOSED = 5
    TLS_FAILED = 6                  # see error
    TLS_STATE_COUNT = 7

cdef enum:  # TlsStep
    TLS_STEP_ESTABLISHED = 0
    TLS_STEP_PEER_CLOSE = 1
    TLS_STEP_OWN_CLOSE = 2
    TLS_STEP_GONE = 3               # the transport has ended
    TLS_STEP_FAULT = 4
    TLS_STEP_COUNT = 5

cdef enum:  # TlsError
    TLS_ERROR_NONE = 0
    TLS_ERROR_PROTOCOL = 1          # bytes that are no TLS, a broken record, nothing in common with the peer
    TLS_ERROR_ALPN = 2              # the peer does not offer h2
    TLS_ERROR_CLIENT_CERTIFICATE = 3
    TLS_ERROR_ALERT = 4             # the peer gave up, with its reason
    TLS_ERROR_TRUNCATED = 5         # the transport ended before a close_notify or in the handshake
    TLS_ERROR_BOUND = 6             # the handshake is larger than TLS_HANDSHAKE_SIZE_MAX
    TLS_ERROR_MEMORY = 7
    TLS_ERROR_INTERNAL = 8

cdef enum:  # IdentityStatus
    IDENTITY_NOT_ASKED = 0          # no mutual TLS, or the handshake is not complete
    IDENTITY_NAMED = 1
    IDENTITY_NAMELESS = 2           # the certificate is good but names nobody
    IDENTITY_TOO_LONG = 3           # more than IDENTITY_SIZE_MAX bytes

cdef struct TlsInput:               # bytes to be taken; the callee moves `used` on
    const uint8_t* bytes
    size_t size
    size_t used

cdef struct TlsOutput:              # room to be filled; the callee moves `used` on
    uint8_t* bytes
    size_t size_max
    size_t used

cdef struct TlsContext:             # what new connections are made from; a reload puts another `current`
    SSL_CTX* current                # read and changed under the mutex; its connections hold it too
    void* mutex
    int64_t connection_count        # atomic

cdef struct TlsConnection:          # stays where it is from tls_open to tls_free: OpenSSL points to it
    SSL* ssl
    TlsContext* context
    TlsInput* input                 # borrowed; NULL between calls
    TlsOutput* output               # borrowed; NULL between calls
    uint64_t received_size          # cipher bytes taken
    uint64_t sent_size              # cipher bytes given
    uint64_t read_size              # plain bytes given
    uint64_t written_size           # plain bytes taken
    unsigned long openssl_error     # the code of OpenSSL's last word
    long verify_result
    uint32_t retry_size             # of a write that OpenSSL wants to be given again
    uint8_t state
    uint8_t error
    uint8_t identity_status
    uint8_t identity_size
    uint8_t identity[IDENTITY_SIZE_MAX]
