# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A server's TLS connection and an OpenSSL client under a script, for sanitizers: a C unit in which Python never starts.

Built and run by tools/fuzz.py. The script chooses who the client is, what it offers, how the bytes between the two are cut, damaged, lost or
replaced, how much room each call gets, when either side writes, renews its secrets, closes or goes away, when the server's
certificates are replaced. Besides what the sanitizers see, these must hold:

* whatever was done to the bytes, what is read is a beginning of what the other side has written;
* a connection is open only for who offers h2 and, with mutual TLS, shows a certificate of the authority; its identity is that
  of the certificate;
* all that may be taken is taken, nothing beyond its room is given, and a failed connection says why;
* a context counts its connections.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset, strlen

from limits cimport *
from openssl cimport *
from tls_records cimport *

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)

cdef extern from "usher_assert.h" nogil:
    void USHER_ASSERT(bint condition) noexcept

include "spans.pxi"
include "context.pxi"
include "identity.pxi"
include "connection.pxi"
include "script.pxi"

cdef extern from "tls_peer.h" nogil:
    int PEER_NOBODY
    int PEER_LONG_NAME
    int PEER_NAMELESS
    int PEER_STRANGER
    int PEER_LARGE_CHAIN
    int PEER_COUNT
    uint64_t peer_chance
    X509* authority
    X509* server_certificate
    EVP_PKEY* peer_secret
    void peer_begin()
    SSL* peer_client(int who, int version, int protocols)
    BIO* SSL_get_rbio(SSL* ssl)
    BIO* SSL_get_wbio(SSL* ssl)
    int BIO_read(BIO* bio, void* target, int size)
    int BIO_write(BIO* bio, const void* data, int size)
    int SSL_key_update(SSL* ssl, int is_asking)
    int SSL_renegotiate(SSL* ssl)
    int TLS1_3_VERSION

cdef enum:  # Step
    STEP_EXCHANGE = 0
    STEP_CLIENT = 1
    STEP_UP = 2
    STEP_DOWN = 3
    STEP_SERVER_WRITE = 4
    STEP_CLIENT_WRITE = 5
    STEP_DAMAGE = 6
    STEP_RAW = 7
    STEP_CLIENT_WORD = 8
    STEP_CLOSE = 9
    STEP_GONE = 10
    STEP_RELOAD = 11
    STEP_COUNT = 12
    PIPE_SIZE = 262144
    WRITE_SIZE_MAX = 65536
    STEPS_MAX = 600

cdef struct Pipe:                   # bytes on their way
    uint8_t* bytes
    uint32_t size

cdef struct World:
    TlsContext* context
    TlsConnection c
    SSL* client
    Script script
    Pipe up
    Pipe down
    uint64_t client_read
    uint64_t client_written
    uint32_t unsaid_size            # what the server wants to write and could not yet
    uint8_t who
    uint8_t protocols

cdef pthread_mutex_t mutex
cdef TlsContext plain_context       # without mutual TLS
cdef TlsContext mutual_context
cdef uint8_t lines[2 * PIPE_SIZE]
cdef uint8_t pattern[WRITE_SIZE_MAX + 256]      # byte i of what either side says is i modulo 251


# --- the beginning ----------------------------------------------------------------------------------------------------------

cdef SSL_CTX* server_context(bint is_mutual) noexcept nogil:
    cdef SSL_CTX* ctx = ctx_make()
    USHER_ASSERT(SSL_CTX_use_certificate(ctx, server_certificate) == 1 and SSL_CTX_use_PrivateKey(ctx, peer_secret) == 1)
    if is_mutual:
        USHER_ASSERT(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), authority) and SSL_CTX_add_client_CA(ctx, authority))
        ctx_require_clients(ctx)
    return ctx


cdef public int LLVMFuzzerInitialize(int* count, char*** arguments) noexcept nogil:
    """Once: certificates, contexts, the mark that the module's start sets."""
    global ctx_mark
    cdef uint32_t i
    peer_begin()
    pthread_mutex_init(&mutex, NULL)
    ctx_mark = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, ctx_freed)
    USHER_ASSERT(span_method_make())
    plain_context.mutex = mutual_context.mutex = &mutex
    context_replace(&plain_context, server_context(False))
    context_replace(&mutual_context, server_context(True))
    for i in range(sizeof(pattern)):
        pattern[i] = <uint8_t>(i % 251)
    return 0


# --- checks -----------------------------------------------------------------------------------------------------------------

cdef void check_plain(const uint8_t* data, size_t size, uint64_t place) noexcept nogil:
    """It is what was written, from that place on."""
    USHER_ASSERT(size <= WRITE_SIZE_MAX)
    USHER_ASSERT(size == 0 or memcmp(data, pattern + place % 251, size) == 0)


cdef void check_identity(const World* w) noexcept nogil:
    cdef const TlsConnection* c = &w.c
    USHER_ASSERT(w.protocols < 2)
    if w.context == &plain_context:
        USHER_ASSERT(c.identity_status == IDENTITY_NOT_ASKED and c.identity_size == 0)
        return
    USHER_ASSERT(w.who != PEER_NOBODY and w.who != PEER_STRANGER and w.who != PEER_LARGE_CHAIN)
    if w.who == PEER_LONG_NAME:
        USHER_ASSERT(c.identity_status == IDENTITY_TOO_LONG and c.identity_size == 0)
    elif w.who == PEER_NAMELESS:
        USHER_ASSERT(c.identity_status == IDENTITY_NAMELESS and c.identity_size == 0)
    else:
        USHER_ASSERT(c.identity_status == IDENTITY_NAMED and c.identity_size >= 7)


cdef void check(const World* w) noexcept nogil:
    cdef const TlsConnection* c = &w.c
    USHER_ASSERT(TLS_HANDSHAKE <= c.state < TLS_STATE_COUNT and c.input == NULL and c.output == NULL)
    USHER_ASSERT((c.error != TLS_ERROR_NONE) == (c.state == TLS_FAILED))
    USHER_ASSERT(tls_reason(c) != NULL and (strlen(tls_reason(c)) != 0) == (c.error != TLS_ERROR_NONE))
    USHER_ASSERT(c.read_size <= w.client_written and w.client_read <= c.written_size)
    USHER_ASSERT(c.error != TLS_ERROR_INTERNAL)
    if c.state == TLS_OPEN or c.read_size or c.written_size:
        check_identity(w)


# --- bytes between the two --------------------------------------------------------------------------------------------------

cdef void pipe_put(Pipe* pipe, const uint8_t* data, uint32_t size) noexcept nogil:
    """What has no room is lost, as on a line that is cut."""
    size = min(size, PIPE_SIZE - pipe.size)
    if size:
        memcpy(pipe.bytes + pipe.size, data, size)
    pipe.size += size


cdef void pipe_drop(Pipe* pipe, uint32_t size) noexcept nogil:
    pipe.size -= size
    memmove(pipe.bytes, pipe.bytes + size, pipe.size)


cdef TlsOutput room_make(size_t size) noexcept nogil:
    """Exactly so many bytes: one more and the sanitizer sees it."""
    cdef TlsOutput room
    room.bytes = <uint8_t*>malloc(size)
    room.size_max = size
    room.used = 0
    return room


cdef void room_send(World* w, TlsOutput* room) noexcept nogil:
    USHER_ASSERT(room.used <= room.size_max)
    pipe_put(&w.down, room.bytes, <uint32_t>room.used)
    free(room.bytes)


cdef void client_words(World* w) noexcept nogil:
    """What the client has said goes up the line."""
    cdef uint8_t words[4096]
    cdef int size = BIO_read(SSL_get_wbio(w.client), words, 4096)
    while size > 0:
        pipe_put(&w.up, words, <uint32_t>size)
        size = BIO_read(SSL_get_wbio(w.client), words, 4096)


cdef void client_turn(World* w) noexcept nogil:
    """Handshake, or reading."""
    cdef uint8_t words[4096]
    cdef int size
    ERR_clear_error()
    SSL_do_handshake(w.client)
    size = SSL_read(w.client, words, 4096)
    while size > 0:
        check_plain(words, <size_t>size, w.client_read)
        w.client_read += <uint64_t>size
        size = SSL_read(w.client, words, 4096)
    ERR_clear_error()
    client_words(w)


cdef bint server_turn(World* w, uint32_t size, size_t plain_size, size_t output_size) noexcept nogil:
    """Feeds up to `size` bytes of the line; whether anything was done."""
    cdef TlsOutput plain = room_make(plain_size)
    cdef TlsOutput room = room_make(output_size)
    cdef TlsInput cipher
    cdef uint64_t place = w.c.read_size
    cdef bint is_done
    size = min(size, w.up.size)
    cipher.bytes = <uint8_t*>malloc(size)
    memcpy(<void*>cipher.bytes, w.up.bytes, size)
    cipher.size = size
    cipher.used = 0
    tls_feed(&w.c, &cipher, &plain, &room)
    USHER_ASSERT(cipher.used <= cipher.size and plain.used <= plain.size_max)
    USHER_ASSERT(cipher.used == cipher.size or room_of(&plain) == 0 or room_of(&room) < TLS_OUTPUT_ROOM_MIN)
    check_plain(plain.bytes, plain.used, place)
    pipe_drop(&w.up, <uint32_t>cipher.used)
    is_done = cipher.used != 0 or plain.used != 0 or room.used != 0
    free(<void*>cipher.bytes)
    free(plain.bytes)
    room_send(w, &room)
    return is_done


cdef void exchange(World* w) noexcept nogil:
    """Both sides speak until nothing moves."""
    cdef uint32_t i
    cdef bint is_moving = True
    for i in range(200):
        if not is_moving:
            return
        client_turn(w)
        is_moving = server_turn(w, PIPE_SIZE, 16384, 16384) or w.down.size != 0
        step_down(w, PIPE_SIZE)


# --- steps ------------------------------------------------------------------------------------------------------------------

cdef void step_down(World* w, uint32_t size) noexcept nogil:
    size = min(size, w.down.size)
    if size:
        BIO_write(SSL_get_rbio(w.client), w.down.bytes, <int>size)
        pipe_drop(&w.down, size)


cdef uint32_t take_size(Script* script) noexcept nogil:
    """Some bytes, or very many."""
    cdef uint8_t choice = take_byte(script)
    return choice if choice < 128 else (choice - 127) * 512


cdef void step_server_write(World* w) noexcept nogil:
    """What was not taken before is given again, with more behind it."""
    cdef TlsOutput room
    cdef TlsInput plain
    w.unsaid_size = min(w.unsaid_size + take_size(&w.script), WRITE_SIZE_MAX)
    room = room_make(take_size(&w.script))
    plain.bytes = pattern + w.c.written_size % 251
    plain.size = w.unsaid_size
    plain.used = 0
    tls_write(&w.c, &plain, &room)
    USHER_ASSERT(plain.used <= plain.size)
    w.unsaid_size -= <uint32_t>plain.used
    room_send(w, &room)


cdef void step_client_write(World* w) noexcept nogil:
    cdef int size
    ERR_clear_error()
    size = SSL_write(w.client, pattern + w.client_written % 251, <int>max(1u, take_size(&w.script) % 16384))
    if size > 0:
        w.client_written += <uint64_t>size
    ERR_clear_error()
    client_words(w)


cdef void step_damage(World* w) noexcept nogil:
    """A bit turned, bytes lost, doubled or exchanged."""
    cdef uint8_t kind = take_byte(&w.script)
    cdef Pipe* pipe = &w.down if kind & 0x80 else &w.up
    cdef uint32_t place = take_short(&w.script)
    if pipe.size == 0:
        return
    place %= pipe.size
    if kind & 0x40:
        pipe_drop(pipe, place)
    elif kind & 0x20:
        pipe_put(pipe, pipe.bytes, place)
    elif kind & 0x10:
        pipe.size = place
    else:
        pipe.bytes[place] ^= 1 << (kind & 7)


cdef void step_raw(World* w) noexcept nogil:
    cdef const uint8_t* data = NULL
    cdef uint32_t size = take_span(&w.script, take_byte(&w.script), &data)
    pipe_put(&w.up, data, size)


cdef void step_client_word(World* w) noexcept nogil:
    cdef uint32_t choice = take_below(&w.script, 4)
    ERR_clear_error()
    if choice < 2:
        SSL_key_update(w.client, <int>choice)
    elif choice == 2:
        SSL_renegotiate(w.client)
    else:
        SSL_shutdown(w.client)
    ERR_clear_error()
    client_turn(w)


cdef void step_close(World* w) noexcept nogil:
    cdef TlsOutput room = room_make(take_size(&w.script))
    cdef bint is_said = tls_close(&w.c, &room)
    USHER_ASSERT(is_said or room.size_max < TLS_OUTPUT_ROOM_MIN or w.c.retry_size != 0)
    USHER_ASSERT(not is_said or not can_write(&w.c))
    room_send(w, &room)


cdef void do_step(World* w, uint32_t step) noexcept nogil:
    if step == STEP_EXCHANGE:
        exchange(w)
    elif step == STEP_CLIENT:
        client_turn(w)
    elif step == STEP_UP:
        server_turn(w, take_size(&w.script), take_size(&w.script), take_size(&w.script))
    elif step == STEP_DOWN:
        step_down(w, take_size(&w.script))
    elif step == STEP_SERVER_WRITE:
        step_server_write(w)
    elif step == STEP_CLIENT_WRITE:
        step_client_write(w)
    elif step == STEP_DAMAGE:
        step_damage(w)
    elif step == STEP_RAW:
        step_raw(w)
    elif step == STEP_CLIENT_WORD:
        step_client_word(w)
    elif step == STEP_CLOSE:
        step_close(w)
    elif step == STEP_GONE:
        tls_gone(&w.c)
    else:
        context_replace(w.context, server_context(w.context == &mutual_context))
    check(w)


cdef public int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) noexcept nogil:
    cdef World w
    cdef uint8_t choice
    cdef uint32_t i
    memset(&w, 0, sizeof(World))
    peer_chance = 1
    script_begin(&w.script, data, size)
    choice = take_byte(&w.script)
    w.context = &mutual_context if choice & 1 else &plain_context
    w.who = (choice >> 1) % <uint32_t>PEER_COUNT
    w.protocols = (choice >> 4) & 3
    w.up.bytes = lines
    w.down.bytes = &lines[PIPE_SIZE]
    w.client = peer_client(w.who, TLS1_2_VERSION if choice & 0x40 else TLS1_3_VERSION, w.protocols)
    USHER_ASSERT(tls_open(&w.c, w.context) and w.context.connection_count == 1)
    for i in range(STEPS_MAX):
        if is_over(&w.script):
            break
        do_step(&w, take_below(&w.script, STEP_COUNT))
    exchange(&w)
    check(&w)
    tls_free(&w.c)
    tls_free(&w.c)
    USHER_ASSERT(w.context.connection_count == 0)
    SSL_free(w.client)
    ERR_clear_error()
    return 0
