"""What we use of OpenSSL 3: the SSL object, BIOs of our own, certificates, the error queue.

Nothing here touches a socket or a file. The error queue is a thread's own: it is cleared before each call whose outcome
is asked for by SSL_get_error.
"""

from libc.time cimport tm

cdef extern from "<openssl/bio.h>" nogil:
    ctypedef struct BIO:
        pass
    ctypedef struct BIO_METHOD:
        pass
    const int BIO_TYPE_SOURCE_SINK
    const int BIO_CTRL_FLUSH
    const int BIO_CTRL_PENDING
    ctypedef int (*bio_create_fn)(BIO*) noexcept nogil
    ctypedef int (*bio_read_fn)(BIO*, char*, int) noexcept nogil
    ctypedef int (*bio_write_fn)(BIO*, const char*, int) noexcept nogil
    ctypedef long (*bio_ctrl_fn)(BIO*, int, long, void*) noexcept nogil
    int BIO_get_new_index()
    BIO_METHOD* BIO_meth_new(int kind, const char* name)
    int BIO_meth_set_create(BIO_METHOD* method, bio_create_fn function)
    int BIO_meth_set_read(BIO_METHOD* method, bio_read_fn function)
    int BIO_meth_set_write(BIO_METHOD* method, bio_write_fn function)
    int BIO_meth_set_ctrl(BIO_METHOD* method, bio_ctrl_fn function)
    BIO* BIO_new(const BIO_METHOD* method)
    BIO* BIO_new_mem_buf(const void* data, int size)
    int BIO_free(BIO* bio)
    void BIO_set_data(BIO* bio, void* data)
    void* BIO_get_data(BIO* bio)
    void BIO_set_init(BIO* bio, int is_ready)
    void BIO_set_retry_read(BIO* bio)
    void BIO_set_retry_write(BIO* bio)
    void BIO_clear_retry_flags(BIO* bio)

cdef extern from "<openssl/err.h>" nogil:
    const int ERR_LIB_SSL
    const int ERR_LIB_PEM
    const int ERR_R_MALLOC_FAILURE
    void ERR_clear_error()
    unsigned long ERR_peek_last_error()
    int ERR_GET_LIB(unsigned long code)
    int ERR_GET_REASON(unsigned long code)
    const char* ERR_reason_error_string(unsigned long code)

cdef extern from "<openssl/x509v3.h>" nogil:
    ctypedef struct X509:
        pass
    ctypedef struct X509_NAME:
        pass
    ctypedef struct X509_NAME_ENTRY:
        pass
    ctypedef struct X509_STORE:
        pass
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct ASN1_STRING:
        pass
    ctypedef struct ASN1_TIME:
        pass
    ctypedef struct GENERAL_NAME:
        pass
    ctypedef struct GENERAL_NAMES:
        pass
    const int NID_subject_alt_name
    const int NID_commonName
    const int GEN_URI
    const int GEN_DNS
    const long X509_V_OK
    void X509_free(X509* certificate)
    void EVP_PKEY_free(EVP_PKEY* private_key)
    int X509_STORE_add_cert(X509_STORE* store, X509* certificate)
    X509_NAME* X509_get_subject_name(const X509* certificate)
    int X509_NAME_get_index_by_NID(const X509_NAME* name, int nid, int last)
    X509_NAME_ENTRY* X509_NAME_get_entry(const X509_NAME* name, int index)
    ASN1_STRING* X509_NAME_ENTRY_get_data(const X509_NAME_ENTRY* entry)
    void* X509_get_ext_d2i(const X509* certificate, int nid, int* is_critical, int* index)
    int sk_GENERAL_NAME_num(const GENERAL_NAMES* names)
    GENERAL_NAME* sk_GENERAL_NAME_value(const GENERAL_NAMES* names, int index)
    void GENERAL_NAMES_free(GENERAL_NAMES* names)
    void* GENERAL_NAME_get0_value(const GENERAL_NAME* name, int* kind)
    int ASN1_STRING_to_UTF8(unsigned char** out, const ASN1_STRING* text)
    const ASN1_TIME* X509_get0_notAfter(const X509* certificate)
    const ASN1_TIME* X509_get0_notBefore(const X509* certificate)
    int X509_cmp_current_time(const ASN1_TIME* time)
    int ASN1_TIME_to_tm(const ASN1_TIME* time, tm* out)
    const char* X509_verify_cert_error_string(long code)

cdef extern from "<openssl/pem.h>" nogil:
    const int PEM_R_NO_START_LINE
    ctypedef int (*pem_password_cb)(char*, int, int, void*) noexcept nogil
    X509* PEM_read_bio_X509(BIO* bio, X509** out, pem_password_cb ask, void* argument)
    EVP_PKEY* PEM_read_bio_PrivateKey(BIO* bio, EVP_PKEY** out, pem_password_cb ask, void* argument)

cdef extern from "<openssl/crypto.h>" nogil:
    void OPENSSL_free(void* memory)
    ctypedef struct CRYPTO_EX_DATA:
        pass
    ctypedef void (*ex_free_fn)(void*, void*, CRYPTO_EX_DATA*, int, long, void*) noexcept nogil

cdef extern from "<openssl/ssl.h>" nogil:
    ctypedef struct SSL:
        pass
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct SSL_METHOD:
        pass
    ctypedef int (*alpn_select_fn)(
        SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered, unsigned int size, void*
    ) noexcept nogil
    ctypedef int (*client_hello_fn)(SSL*, int* alert, void*) noexcept nogil
    const int TLS1_2_VERSION
    const int TLSEXT_TYPE_application_layer_protocol_negotiation
    const unsigned long long SSL_OP_NO_RENEGOTIATION
    const unsigned long long SSL_OP_NO_COMPRESSION
    const unsigned long long SSL_OP_NO_TICKET
    const long SSL_MODE_RELEASE_BUFFERS
    const long SSL_MODE_ENABLE_PARTIAL_WRITE
    const long SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    const long SSL_SESS_CACHE_OFF
    const int SSL_VERIFY_NONE
    const int SSL_VERIFY_PEER
    const int SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    const int SSL_CLIENT_HELLO_SUCCESS
    const int SSL_CLIENT_HELLO_ERROR
    const int SSL_TLSEXT_ERR_OK
    const int SSL_TLSEXT_ERR_ALERT_FATAL
    const int OPENSSL_NPN_NEGOTIATED
    const int SSL_AD_NO_APPLICATION_PROTOCOL
    const int SSL_AD_REASON_OFFSET
    const int SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE
    const int SSL_ERROR_SSL
    const int SSL_ERROR_WANT_READ
    const int SSL_ERROR_WANT_WRITE
    const int SSL_ERROR_ZERO_RETURN
    const SSL_METHOD* TLS_server_method()
    SSL_CTX* SSL_CTX_new(const SSL_METHOD* method)
    int SSL_CTX_up_ref(SSL_CTX* context)
    void SSL_CTX_free(SSL_CTX* context)
    int SSL_CTX_set_min_proto_version(SSL_CTX* context, int version)
    unsigned long long SSL_CTX_set_options(SSL_CTX* context, unsigned long long options)
    long SSL_CTX_set_mode(SSL_CTX* context, long mode)
    long SSL_CTX_set_session_cache_mode(SSL_CTX* context, long mode)
    int SSL_CTX_set_num_tickets(SSL_CTX* context, size_t count)
    int SSL_CTX_set_cipher_list(SSL_CTX* context, const char* text)
    long SSL_CTX_set_max_cert_list(SSL_CTX* context, long size)
    void SSL_CTX_set_alpn_select_cb(SSL_CTX* context, alpn_select_fn function, void* argument)
    void SSL_CTX_set_client_hello_cb(SSL_CTX* context, client_hello_fn function, void* argument)
    void SSL_CTX_set_verify(SSL_CTX* context, int mode, void* function)
    void SSL_CTX_set_verify_depth(SSL_CTX* context, int depth)
    int SSL_CTX_use_certificate(SSL_CTX* context, X509* certificate)
    long SSL_CTX_add1_chain_cert(SSL_CTX* context, X509* certificate)
    int SSL_CTX_use_PrivateKey(SSL_CTX* context, EVP_PKEY* private_key)
    int SSL_CTX_check_private_key(const SSL_CTX* context)
    X509_STORE* SSL_CTX_get_cert_store(const SSL_CTX* context)
    int SSL_CTX_add_client_CA(SSL_CTX* context, X509* certificate)
    int SSL_CTX_get_ex_new_index(long l, void* p, void* create, void* copy, ex_free_fn release)
    int SSL_CTX_set_ex_data(SSL_CTX* context, int index, void* data)
    SSL* SSL_new(SSL_CTX* context)
    void SSL_free(SSL* ssl)
    void SSL_set_bio(SSL* ssl, BIO* source, BIO* sink)
    void SSL_set_accept_state(SSL* ssl)
    int SSL_set_ex_data(SSL* ssl, int index, void* data)
    void* SSL_get_ex_data(const SSL* ssl, int index)
    int SSL_do_handshake(SSL* ssl)
    int SSL_read(SSL* ssl, void* target, int size)
    int SSL_write(SSL* ssl, const void* source, int size)
    int SSL_shutdown(SSL* ssl)
    int SSL_get_error(const SSL* ssl, int result)
    int SSL_get_verify_mode(const SSL* ssl)
    long SSL_get_verify_result(const SSL* ssl)
    X509* SSL_get0_peer_certificate(const SSL* ssl)
    const char* SSL_get_version(const SSL* ssl)
    int SSL_select_next_proto(
        unsigned char** out, unsigned char* out_size, const unsigned char* ours, unsigned int our_size,
        const unsigned char* offered, unsigned int size,
    )
    int SSL_client_hello_get0_ext(SSL* ssl, unsigned int kind, const unsigned char** out, size_t* size)
