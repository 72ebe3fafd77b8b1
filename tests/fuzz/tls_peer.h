/* The other side of a fuzzed TLS connection: certificates made at the start, OpenSSL clients, chance that repeats itself.
 *
 * Chance comes from a counter that each input sets back, so that an input is the same run each time. Nothing here is
 * fit for any other use.
 */
#ifndef USHER_TLS_PEER_H
#define USHER_TLS_PEER_H

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

enum {
    PEER_NOBODY = 0,    /* shows no certificate */
    PEER_COMMON_NAME,
    PEER_URI,
    PEER_LONG_NAME,     /* 129 bytes: one more than is taken */
    PEER_NAMELESS,
    PEER_STRANGER,      /* signed by an authority that nobody knows */
    PEER_LARGE_CHAIN,   /* over TLS_CHAIN_SIZE_MAX */
    PEER_SECOND_NAME,
    PEER_COUNT
};

static uint64_t peer_chance;

static int peer_bytes(unsigned char *target, int size) {
    for (int i = 0; i < size; i++) {
        peer_chance = peer_chance * 6364136223846793005u + 1442695040888963407u;
        target[i] = (unsigned char)(peer_chance >> 56);
    }
    return 1;
}

static int peer_ready(void) { return 1; }

static const RAND_METHOD peer_random = {NULL, peer_bytes, NULL, NULL, peer_bytes, peer_ready};

static EVP_PKEY *peer_secret, *authority_secret, *stranger_secret;
static X509 *authority, *stranger, *server_certificate;
static SSL_CTX *peer_contexts[PEER_COUNT];

static void peer_must(int is_good) {
    if (!is_good) abort();
}

static void peer_extend(X509 *certificate, int nid, const char *value) {
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    peer_must(extension != NULL && X509_add_ext(certificate, extension, -1));
    X509_EXTENSION_free(extension);
}

/* `issuer` NULL: signed by itself. `alternative`: as openssl.cnf writes it; NULL: none. */
static X509 *peer_certificate(const char *name, const char *alternative, EVP_PKEY *pair, X509 *issuer, EVP_PKEY *signer) {
    static long serial = 1;
    X509 *made = X509_new();
    X509_NAME *subject = X509_get_subject_name(made);
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), serial++);
    ASN1_TIME_set_string(X509_getm_notBefore(made), "20000101000000Z");
    ASN1_TIME_set_string(X509_getm_notAfter(made), "21000101000000Z");
    if (name != NULL) X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(made, issuer ? X509_get_subject_name(issuer) : subject);
    X509_set_pubkey(made, pair);
    if (issuer == NULL) peer_extend(made, NID_basic_constraints, "critical,CA:TRUE");
    if (alternative != NULL) peer_extend(made, NID_subject_alt_name, alternative);
    peer_must(X509_sign(made, signer, EVP_sha256()) > 0);
    return made;
}

static SSL_CTX *peer_context(X509 *certificate) {
    SSL_CTX *made = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    if (certificate != NULL) {
        peer_must(SSL_CTX_use_certificate(made, certificate) && SSL_CTX_use_PrivateKey(made, peer_secret));
        X509_free(certificate);
    }
    return made;
}

static SSL_CTX *peer_large(void) {
    char name[64 * 64];
    SSL_CTX *made;
    strcpy(name, "DNS:a");
    while (strlen(name) < sizeof(name) - 64) strcat(name, ",DNS:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    made = peer_context(peer_certificate("large", name, peer_secret, authority, authority_secret));
    for (int i = 0; i < 12; i++)
        peer_must(SSL_CTX_add0_chain_cert(made, peer_certificate("large", name, peer_secret, authority, authority_secret)));
    return made;
}

static void peer_begin(void) {
    char long_name[160] = "DNS:";
    peer_must(RAND_set_rand_method(&peer_random));
    memset(long_name + 4, 'n', 129);
    peer_secret = EVP_EC_gen("P-256");
    authority_secret = EVP_EC_gen("P-256");
    stranger_secret = EVP_EC_gen("P-256");
    authority = peer_certificate("authority", NULL, authority_secret, NULL, authority_secret);
    stranger = peer_certificate("stranger", NULL, stranger_secret, NULL, stranger_secret);
    server_certificate = peer_certificate("broker", "DNS:localhost", peer_secret, authority, authority_secret);
#define ISSUED(name, alternative) peer_context(peer_certificate(name, alternative, peer_secret, authority, authority_secret))
    peer_contexts[PEER_NOBODY] = peer_context(NULL);
    peer_contexts[PEER_COMMON_NAME] = ISSUED("crm-web", NULL);
    peer_contexts[PEER_URI] = ISSUED("other", "URI:spiffe://site/crm,DNS:crm.example");
    peer_contexts[PEER_LONG_NAME] = ISSUED("short", long_name);
    peer_contexts[PEER_NAMELESS] = ISSUED(NULL, NULL);
    peer_contexts[PEER_STRANGER] = peer_context(peer_certificate("crm-web", NULL, peer_secret, stranger, stranger_secret));
    peer_contexts[PEER_LARGE_CHAIN] = peer_large();
    peer_contexts[PEER_SECOND_NAME] = ISSUED("crm-web", "DNS:crm.example,DNS:second.example");
#undef ISSUED
}

/* `protocols`: 0 h2, 1 http/1.1 and h2, 2 http/1.1, 3 says nothing of ALPN. */
static SSL *peer_client(int who, int version, int protocols) {
    static const unsigned char offered[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1', 2, 'h', '2'};
    SSL *made = SSL_new(peer_contexts[who]);
    SSL_set_min_proto_version(made, version);
    SSL_set_max_proto_version(made, version);
    if (protocols == 0) SSL_set_alpn_protos(made, offered + 9, 3);
    if (protocols == 1) SSL_set_alpn_protos(made, offered, 12);
    if (protocols == 2) SSL_set_alpn_protos(made, offered, 9);
    SSL_set_connect_state(made);
    SSL_set_bio(made, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    return made;
}

#endif
