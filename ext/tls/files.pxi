# Certificate files, read and checked: a wrong one is named, with what is wrong in it. Control plane, with the GIL.
#
# The files are read here and not by OpenSSL, so that a file is seen whole, is bounded, and an encrypted private key is
# refused instead of asking for a passphrase at a terminal that nobody watches. Wall time is read to warn of expiry.

cdef int refuse_passphrase(char* buffer, int size, int is_writing, void* was_asked) noexcept nogil:
    (<int*>was_asked)[0] = 1
    return -1


def _fault(path, str reason, str remedy=""):
    return ConfigError((ConfigFault(str(path), "", reason, remedy),))


cdef str _openssl_words():
    cdef const char* text = ERR_reason_error_string(ERR_peek_last_error())
    ERR_clear_error()
    return text.decode() if text != NULL else "no reason given"


def _read_pem(path):
    """The bytes of a PEM file."""
    try:
        with open(path, "rb") as file:
            data = file.read(TLS_PEM_SIZE_MAX + 1)
    except OSError as error:
        raise _fault(path, f"cannot be read: {error.strerror}", "the broker's user needs the right to read it") from None
    if len(data) > TLS_PEM_SIZE_MAX:
        raise _fault(path, f"is larger than {TLS_PEM_SIZE_MAX} bytes", "is it the right file?")
    if b"-----BEGIN " not in data:
        raise _fault(path, "is not PEM: it has no line that starts with -----BEGIN", "convert it with openssl")
    return data


cdef class _Certificates:
    """The certificates of a PEM file, in its order."""

    cdef X509* certificates[64]
    cdef int count
    cdef object path

    def __cinit__(self, path):
        cdef bytes data = _read_pem(path)
        cdef BIO* bio = BIO_new_mem_buf(PyBytes_AS_STRING(data), len(data))
        self.path = path
        ERR_clear_error()
        while self.count < 64:
            self.certificates[self.count] = PEM_read_bio_X509(bio, NULL, NULL, NULL)
            if self.certificates[self.count] == NULL:
                break
            self.count += 1
        BIO_free(bio)
        self._check_end()

    cdef _check_end(self):
        """Whether reading stopped because there is no more, and there was something."""
        cdef unsigned long code = ERR_peek_last_error()
        if self.count == 64:
            raise _fault(self.path, "has 64 certificates or more", "leave out what is not needed")
        if ERR_GET_LIB(code) != ERR_LIB_PEM or ERR_GET_REASON(code) != PEM_R_NO_START_LINE:
            raise _fault(self.path, f"certificate {self.count + 1} in it is damaged: {_openssl_words()}")
        ERR_clear_error()
        if self.count == 0:
            raise _fault(self.path, "holds no PEM certificate", "it needs a -----BEGIN CERTIFICATE----- block")

    def __dealloc__(self):
        for i in range(self.count):
            X509_free(self.certificates[i])

    cdef list warnings(self):
        """What an admin should know of the validity of each."""
        cdef list found = []
        for i in range(self.count):
            which = f"{self.path}: certificate {i + 1}"
            if X509_cmp_current_time(X509_get0_notAfter(self.certificates[i])) < 0:
                found.append(f"{which} has expired on {_date(X509_get0_notAfter(self.certificates[i]))}")
            elif X509_cmp_current_time(X509_get0_notBefore(self.certificates[i])) > 0:
                found.append(f"{which} is not valid before {_date(X509_get0_notBefore(self.certificates[i]))}")
        return found


cdef str _date(const ASN1_TIME* time):
    cdef tm parts
    memset(&parts, 0, sizeof(parts))
    ASN1_TIME_to_tm(time, &parts)
    return f"{parts.tm_year + 1900}-{parts.tm_mon + 1:02}-{parts.tm_mday:02}"


cdef _use_chain(SSL_CTX* ctx, _Certificates chain):
    """The first certificate is the server's own; the others lead to the root."""
    ERR_clear_error()
    if SSL_CTX_use_certificate(ctx, chain.certificates[0]) != 1:
        raise _fault(chain.path, f"its first certificate cannot be used: {_openssl_words()}")
    for i in range(1, chain.count):
        if SSL_CTX_add1_chain_cert(ctx, chain.certificates[i]) != 1:
            raise _fault(chain.path, f"certificate {i + 1} in it cannot be used: {_openssl_words()}")


cdef _use_private_key(SSL_CTX* ctx, path, certificate_path):
    cdef bytes data = _read_pem(path)
    cdef BIO* bio = BIO_new_mem_buf(PyBytes_AS_STRING(data), len(data))
    cdef int was_asked = 0
    cdef EVP_PKEY* private_key
    ERR_clear_error()
    private_key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &was_asked)
    BIO_free(bio)
    if was_asked:
        ERR_clear_error()
        raise _fault(path, "the private key is encrypted", "write it without a passphrase, readable by the broker only")
    if private_key == NULL:
        raise _fault(path, f"holds no usable PEM private key: {_openssl_words()}")
    # OpenSSL refuses a private key of another kind than the certificate's at once, one of the same kind when asked.
    is_pair = SSL_CTX_use_PrivateKey(ctx, private_key) == 1 and SSL_CTX_check_private_key(ctx) == 1
    EVP_PKEY_free(private_key)
    ERR_clear_error()
    if not is_pair:
        raise _fault(path, f"the private key does not belong to the certificate in {certificate_path}", "name a pair")


cdef _use_authorities(SSL_CTX* ctx, _Certificates authorities):
    """Whose signature makes a client's certificate good; also told to clients, so that they can choose one."""
    ERR_clear_error()
    for i in range(authorities.count):
        if not (
            X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), authorities.certificates[i])
            and SSL_CTX_add_client_CA(ctx, authorities.certificates[i])
        ):
            raise _fault(authorities.path, f"certificate {i + 1} in it cannot be used: {_openssl_words()}")
    ctx_require_clients(ctx)


cdef list _fill(SSL_CTX* ctx, certificate_path, private_key_path, client_ca_path):
    """Puts the files in; gives the warnings."""
    cdef _Certificates chain = _Certificates(certificate_path)
    cdef _Certificates authorities
    cdef list warnings = chain.warnings()
    _use_chain(ctx, chain)
    _use_private_key(ctx, private_key_path, certificate_path)
    if client_ca_path is not None:
        authorities = _Certificates(client_ca_path)
        _use_authorities(ctx, authorities)
        warnings += authorities.warnings()
    return warnings
