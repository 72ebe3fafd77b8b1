/* A gRPC server that does nothing, straight on nghttp2: what the protocol itself costs on this machine.
 *
 *     nghttp2_noop [--threads N] [--processors LIST] [--tls CERTIFICATE PRIVATE_KEY]
 *
 * It listens on a free loopback port and prints the port. Every request, whatever its path, is answered with the same
 * RenewResponse and grpc-status 0. One epoll a thread; connections go to the threads in turn. It is plain, and honest: all
 * that nghttp2 has to say after one read leaves in one send, as a server under load would do it; nothing else is tuned.
 * There are no bounds and no deadlines: this is a ruler and no server.
 *
 * SIGUSR1 prints a line of JSON with what was answered so far; SIGTERM prints it too and ends. The signals are taken by the
 * main thread alone, so no counter needs more than relaxed atomic stores.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    THREADS_MAX = 16,
    READ_SIZE = 64 * 1024,
    SEND_SIZE = 256 * 1024,
    EVENTS_MAX = 64,
    STREAMS_MAX = 1000,
};

/* A gRPC frame around RenewResponse{ttl 60 s, renew_after 20 s, change_version 1}: what a broker's answer weighs. */
static const uint8_t ANSWER[] = {0, 0, 0, 0, 10, 0x0a, 2, 8, 60, 0x12, 2, 8, 20, 0x18, 1};

typedef struct {
    int epoll_fd;
    pthread_t thread;
    _Atomic unsigned long requests;
    _Atomic unsigned long connections;
    uint8_t reading[READ_SIZE];
} Worker;

typedef struct {
    nghttp2_session *session;
    Worker *worker;
    SSL *ssl; /* NULL: plaintext */
    int fd;
    int is_watching_out;
    uint8_t *sending; /* SEND_SIZE: head to fill is what waits for the socket */
    size_t head;
    size_t fill;
} Peer;

static Worker workers[THREADS_MAX];
static int worker_count = 1;
static int listening_fd;
static SSL_CTX *tls;
static nghttp2_session_callbacks *callbacks;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* --- what nghttp2 asks ------------------------------------------------------------------------------------------------ */

#define FIELD(name, value) \
    {(uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1, \
     NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE}

static ssize_t give_answer(
    nghttp2_session *session, int32_t stream, uint8_t *target, size_t room, uint32_t *flags, nghttp2_data_source *source,
    void *context
) {
    const nghttp2_nv trailers[] = {FIELD("grpc-status", "0")};
    (void)source, (void)context;
    if (room < sizeof ANSWER) return NGHTTP2_ERR_CALLBACK_FAILURE; /* no frame is that small */
    memcpy(target, ANSWER, sizeof ANSWER);
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (nghttp2_submit_trailer(session, stream, trailers, 1)) return NGHTTP2_ERR_CALLBACK_FAILURE;
    return sizeof ANSWER;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context) {
    const nghttp2_nv headers[] = {FIELD(":status", "200"), FIELD("content-type", "application/grpc")};
    const nghttp2_data_provider provider = {.read_callback = give_answer};
    Peer *peer = context;
    int is_call = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    if (!is_call || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
    atomic_fetch_add_explicit(&peer->worker->requests, 1, memory_order_relaxed);
    return nghttp2_submit_response(session, frame->hd.stream_id, headers, 2, &provider) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* --- one connection ----------------------------------------------------------------------------------------------------- */

static void peer_free(Peer *peer) {
    nghttp2_session_del(peer->session);
    SSL_free(peer->ssl);
    close(peer->fd);
    free(peer->sending);
    free(peer);
}

/* The bytes that went, 0 if the socket takes none just now, -1 at the end. */
static ssize_t put(Peer *peer, const uint8_t *bytes, size_t size) {
    ssize_t count;
    if (peer->ssl) {
        count = SSL_write(peer->ssl, bytes, (int)size);
        if (count > 0) return count;
        return SSL_get_error(peer->ssl, (int)count) == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    count = send(peer->fd, bytes, size, MSG_NOSIGNAL);
    return count >= 0 ? count : errno == EAGAIN ? 0 : -1;
}

/* The bytes that came, 0 if there are none just now, -1 at the end. */
static ssize_t take(Peer *peer, uint8_t *bytes, size_t size) {
    ssize_t count;
    int reason;
    if (peer->ssl) {
        count = SSL_read(peer->ssl, bytes, (int)size); /* shakes hands, too, while that is under way */
        if (count > 0) return count;
        reason = SSL_get_error(peer->ssl, (int)count);
        return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    count = recv(peer->fd, bytes, size, 0);
    return count > 0 ? count : count < 0 && errno == EAGAIN ? 0 : -1;
}

/* Takes what nghttp2 has to say, as much as there is room for. Negative: it is broken. */
static int gather(Peer *peer) {
    const uint8_t *bytes;
    ssize_t size;
    while (SEND_SIZE - peer->fill > READ_SIZE) {
        size = nghttp2_session_mem_send(peer->session, &bytes);
        if (size <= 0) return (int)size;
        memcpy(peer->sending + peer->fill, bytes, (size_t)size);
        peer->fill += (size_t)size;
    }
    return 0;
}

static int watch_out(Peer *peer, int is_wanted) {
    struct epoll_event event = {.events = EPOLLIN | (is_wanted ? EPOLLOUT : 0), .data.ptr = peer};
    if (peer->is_watching_out == is_wanted) return 0;
    peer->is_watching_out = is_wanted;
    return epoll_ctl(peer->worker->epoll_fd, EPOLL_CTL_MOD, peer->fd, &event);
}

static int flush(Peer *peer) {
    ssize_t count;
    for (;;) {
        if (peer->head == peer->fill) {
            peer->head = peer->fill = 0;
            if (gather(peer) < 0) return -1;
            if (peer->fill == 0) return watch_out(peer, 0);
        }
        count = put(peer, peer->sending + peer->head, peer->fill - peer->head);
        if (count < 0) return -1;
        if (count == 0) return watch_out(peer, 1);
        peer->head += (size_t)count;
    }
}

static int serve_peer(Peer *peer) {
    ssize_t count = take(peer, peer->worker->reading, READ_SIZE);
    while (count > 0) {
        if (nghttp2_session_mem_recv(peer->session, peer->worker->reading, (size_t)count) != count) return -1;
        /* What lies decrypted in the SSL object wakes no epoll: it has to be read now. */
        count = peer->ssl && SSL_pending(peer->ssl) ? take(peer, peer->worker->reading, READ_SIZE) : 0;
    }
    if (count < 0 || (!nghttp2_session_want_read(peer->session) && !nghttp2_session_want_write(peer->session))) return -1;
    if (peer->ssl && !SSL_is_init_finished(peer->ssl)) return 0;
    return flush(peer);
}

/* --- threads --------------------------------------------------------------------------------------------------------------- */

static void accept_one(void) {
    static unsigned long turn;
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX}};
    struct epoll_event event = {.events = EPOLLIN};
    int one = 1, fd = accept4(listening_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    Peer *peer;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    peer = calloc(1, sizeof *peer);
    if (!peer || !(peer->sending = malloc(SEND_SIZE))) fail("malloc");
    peer->fd = fd;
    peer->worker = &workers[turn++ % (unsigned)worker_count];
    atomic_fetch_add_explicit(&peer->worker->connections, 1, memory_order_relaxed);
    if (nghttp2_session_server_new(&peer->session, callbacks, peer)) fail("nghttp2");
    nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, settings, 1);
    if (tls) {
        peer->ssl = SSL_new(tls);
        if (!peer->ssl || !SSL_set_fd(peer->ssl, fd)) fail("OpenSSL");
        SSL_set_accept_state(peer->ssl);
    }
    event.data.ptr = peer;
    if (epoll_ctl(peer->worker->epoll_fd, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

static void *work(void *context) {
    struct epoll_event events[EVENTS_MAX];
    Worker *worker = context;
    for (;;) {
        int count = epoll_wait(worker->epoll_fd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int index = 0; index < count; index++) {
            Peer *peer = events[index].data.ptr;
            if (!peer) accept_one();
            else if (serve_peer(peer) < 0) peer_free(peer);
        }
    }
    return NULL;
}

/* Thread i runs on the i-th processor of the list, round and round; without a list, where the system puts it. */
static void start_worker(int number, const int *processors, int processor_count) {
    Worker *worker = &workers[number];
    pthread_attr_t attributes;
    cpu_set_t set;
    pthread_attr_init(&attributes);
    if (processor_count) {
        CPU_ZERO(&set);
        CPU_SET(processors[number % processor_count], &set);
        pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
    }
    errno = pthread_create(&worker->thread, &attributes, work, worker);
    if (errno) fail("pthread_create");
}

/* --- set-up ------------------------------------------------------------------------------------------------------------------- */

static int choose_h2(
    SSL *ssl, const unsigned char **chosen, unsigned char *chosen_size, const unsigned char *offered, unsigned int size, void *context
) {
    (void)ssl, (void)context;
    if (nghttp2_select_next_protocol((unsigned char **)(uintptr_t)chosen, chosen_size, offered, size) == 1) return SSL_TLSEXT_ERR_OK;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void set_up_tls(const char *certificate, const char *private_key) {
    tls = SSL_CTX_new(TLS_server_method());
    if (!tls) fail("OpenSSL");
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(tls, choose_h2, NULL);
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1
        || SSL_CTX_use_PrivateKey_file(tls, private_key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "%s and %s are no certificate and its private key\n", certificate, private_key);
        exit(1);
    }
}

static int listen_on_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct epoll_event event = {.events = EPOLLIN};
    listening_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listening_fd < 0 || bind(listening_fd, (struct sockaddr *)&address, size) || listen(listening_fd, 4096)
        || getsockname(listening_fd, (struct sockaddr *)&address, &size)) fail("listen");
    if (epoll_ctl(workers[0].epoll_fd, EPOLL_CTL_ADD, listening_fd, &event)) fail("epoll_ctl");
    return ntohs(address.sin_port);
}

static void say_counts(void) {
    unsigned long requests = 0, connections = 0;
    for (int index = 0; index < worker_count; index++) {
        requests += atomic_load_explicit(&workers[index].requests, memory_order_relaxed);
        connections += atomic_load_explicit(&workers[index].connections, memory_order_relaxed);
    }
    printf("{\"requests\": %lu, \"connections\": %lu}\n", requests, connections);
    fflush(stdout);
}

static int processors_of(char *list, int *processors) {
    int count = 0;
    for (char *word = strtok(list, ","); word && count < THREADS_MAX; word = strtok(NULL, ",")) processors[count++] = atoi(word);
    return count;
}

int main(int count, char **words) {
    int processors[THREADS_MAX], processor_count = 0, signal_number;
    sigset_t signals;
    for (int index = 1; index < count; index++) {
        if (!strcmp(words[index], "--threads") && index + 1 < count) worker_count = atoi(words[++index]);
        else if (!strcmp(words[index], "--processors") && index + 1 < count) processor_count = processors_of(words[++index], processors);
        else if (!strcmp(words[index], "--tls") && index + 2 < count) set_up_tls(words[index + 1], words[index + 2]), index += 2;
        else worker_count = 0;
    }
    if (worker_count < 1 || worker_count > THREADS_MAX) {
        fprintf(stderr, "usage: nghttp2_noop [--threads 1..%d] [--processors 0,1] [--tls CERTIFICATE PRIVATE_KEY]\n", THREADS_MAX);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* SSL_write knows no MSG_NOSIGNAL */
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    for (int index = 0; index < worker_count; index++)
        if ((workers[index].epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll_create1");
    printf("%d\n", listen_on_loopback());
    fflush(stdout);
    for (int index = 0; index < worker_count; index++) start_worker(index, processors, processor_count);
    do {
        sigwait(&signals, &signal_number);
        say_counts();
    } while (signal_number != SIGTERM);
    return 0;
}
