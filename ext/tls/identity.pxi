# Who a client's certificate says it is: the same bytes as broker/service/tls.py gives, which takes them from gRPC.
#
# The first that there is of: URI (a SPIFFE id is one, RFC 3986), DNS name (each from the subject alternative names,
# RFC 5280 section 4.2.1.6), common name; of several of one kind the first that is not empty, of common names the first
# only. In UTF-8. gRPC names a SPIFFE id first, but only when it is the only URI, so that the order is the same.

cdef bint identity_keep(TlsConnection* c, const ASN1_STRING* text) noexcept nogil:
    """Whether it says something; then the connection has it, or knows that it is too long."""
    cdef unsigned char* name = NULL
    cdef int size = ASN1_STRING_to_UTF8(&name, text) if text != NULL else -1
    if size > IDENTITY_SIZE_MAX:
        c.identity_status = IDENTITY_TOO_LONG
    elif size > 0:
        memcpy(c.identity, name, size)
        c.identity_size = <uint8_t>size
        c.identity_status = IDENTITY_NAMED
    if size >= 0:
        OPENSSL_free(name)
    return size > 0


cdef bint identity_from_alternatives(TlsConnection* c, const GENERAL_NAMES* names, int wanted) noexcept nogil:
    cdef int i
    cdef int kind = 0
    cdef void* value
    for i in range(sk_GENERAL_NAME_num(names)):
        value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &kind)
        if kind == wanted and identity_keep(c, <const ASN1_STRING*>value):
            return True
    return False


cdef bint identity_from_common_name(TlsConnection* c, const X509* certificate) noexcept nogil:
    cdef X509_NAME* subject = X509_get_subject_name(certificate)
    cdef int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
    return index >= 0 and identity_keep(c, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)))


cdef void identity_read(TlsConnection* c) noexcept nogil:
    """Once, when the handshake is complete. Without mutual TLS there is no identity, whatever the client shows."""
    cdef X509* certificate = SSL_get0_peer_certificate(c.ssl)
    cdef GENERAL_NAMES* names
    if certificate == NULL or not SSL_get_verify_mode(c.ssl) & SSL_VERIFY_PEER:
        return
    c.identity_status = IDENTITY_NAMELESS
    names = <GENERAL_NAMES*>X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL)
    if names != NULL:
        if not identity_from_alternatives(c, names, GEN_URI):
            identity_from_alternatives(c, names, GEN_DNS)
        GENERAL_NAMES_free(names)
    if c.identity_status == IDENTITY_NAMELESS:
        identity_from_common_name(c, certificate)
