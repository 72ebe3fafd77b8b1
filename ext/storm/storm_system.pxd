"""What the load generator uses of Linux, of OpenSSL's client side and of nghttp2's client side."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from nghttp2 cimport (
    nghttp2_data_provider, nghttp2_mem, nghttp2_nv, nghttp2_option, nghttp2_session, nghttp2_session_callbacks, frame_callback,
    invalid_frame_callback)
from openssl cimport SSL, SSL_CTX, SSL_METHOD

cdef extern from "<sys/epoll.h>" nogil:
    const int EPOLL_CLOEXEC
    const int EPOLL_CTL_ADD
    const int EPOLL_CTL_MOD
    const uint32_t EPOLLIN
    const uint32_t EPOLLOUT
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll_fd, epoll_event* events, int count_max, int wait_ms)

cdef extern from "<sys/timerfd.h>" nogil:
    const int TFD_NONBLOCK
    const int TFD_CLOEXEC
    const int TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec* new, itimerspec* old)

cdef extern from "<sys/eventfd.h>" nogil:
    const int EFD_NONBLOCK
    const int EFD_CLOEXEC
    int eventfd(unsigned int count, int flags)

cdef extern from "<time.h>" nogil:
    const int CLOCK_MONOTONIC
    const int CLOCK_THREAD_CPUTIME_ID
    struct timespec:
        long tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int clock_gettime(int clock, timespec* time)

cdef extern from "<sys/socket.h>" nogil:
    const int AF_INET
    const int AF_INET6
    const int SOCK_STREAM
    const int SOCK_NONBLOCK
    const int SOCK_CLOEXEC
    const int SOL_SOCKET
    const int SO_ERROR
    const int SO_LINGER
    const int MSG_NOSIGNAL
    ctypedef uint32_t socklen_t
    struct sockaddr:
        pass
    struct linger:
        int l_onoff
        int l_linger
    int socket(int family, int kind, int protocol)
    int bind(int fd, const sockaddr* address, socklen_t size)
    int connect(int fd, const sockaddr* address, socklen_t size)
    int setsockopt(int fd, int level, int option, const void* value, socklen_t size)
    int getsockopt(int fd, int level, int option, void* value, socklen_t* size)
    ssize_t send(int fd, const void* data, size_t size, int flags)
    ssize_t recv(int fd, void* data, size_t size, int flags)

cdef extern from "<netinet/in.h>" nogil:
    const int IPPROTO_IP
    const int IPPROTO_TCP
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        unsigned short sin_family
        unsigned short sin_port
        in_addr sin_addr
    uint32_t htonl(uint32_t number)
    unsigned short htons(unsigned short number)
    int IP_BIND_ADDRESS_NO_PORT     # Linux 4.2: the port is chosen at connect, so that addresses can share ports

cdef extern from "<netinet/tcp.h>" nogil:
    const int TCP_NODELAY

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t read(int fd, void* data, size_t size)
    ssize_t write(int fd, const void* data, size_t size)

cdef extern from "<errno.h>" nogil:
    int errno
    const int EAGAIN
    const int EINTR
    const int EINPROGRESS

cdef extern from "<string.h>" nogil:
    const char* strerror(int number)

cdef extern from "<openssl/ssl.h>" nogil:
    const int SSL_FILETYPE_PEM
    const SSL_METHOD* TLS_client_method()
    int SSL_set_fd(SSL* ssl, int fd)
    void SSL_set_connect_state(SSL* ssl)
    int SSL_CTX_load_verify_locations(SSL_CTX* context, const char* file, const char* folder)
    int SSL_CTX_use_certificate_chain_file(SSL_CTX* context, const char* file)
    int SSL_CTX_use_PrivateKey_file(SSL_CTX* context, const char* file, int kind)
    int SSL_CTX_set_alpn_protos(SSL_CTX* context, const unsigned char* names, unsigned int size)
    void SSL_get0_alpn_selected(const SSL* ssl, const unsigned char** name, unsigned int* size)
    int SSL_set1_host(SSL* ssl, const char* name)
    int SSL_set_tlsext_host_name(SSL* ssl, const char* name)
    ctypedef struct X509_VERIFY_PARAM:
        pass
    X509_VERIFY_PARAM* SSL_get0_param(SSL* ssl)
    int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM* param, const char* address)

cdef extern from "<nghttp2/nghttp2.h>" nogil:
    const int NGHTTP2_SETTINGS_ENABLE_PUSH
    int nghttp2_session_client_new2(
        nghttp2_session** session, const nghttp2_session_callbacks* callbacks, void* user_data, const nghttp2_option* option)
    int32_t nghttp2_submit_request(
        nghttp2_session* session, const void* priority, const nghttp2_nv* head, size_t count,
        const nghttp2_data_provider* body, void* stream_user_data)
    void nghttp2_session_callbacks_set_on_frame_not_send_callback(nghttp2_session_callbacks*, invalid_frame_callback)
    uint32_t nghttp2_session_get_remote_settings(nghttp2_session* session, int id)
    const char* nghttp2_strerror(int code)
    void nghttp2_option_set_no_http_messaging(nghttp2_option*, int)
