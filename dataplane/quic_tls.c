#include "dataplane/quic_tls_impl.h"

#include "dataplane/x509.h"
#include "wire/frame.h"

#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <string.h>

/* ChaCha20 is left out because it's nine times slower here; everything else because nobody needs it. */
#define PRIORITIES                                                                                                     \
    "NONE:+VERS-TLS1.3:+AEAD:+AES-128-GCM:+AES-256-GCM:+GROUP-X25519:+SIGN-EDDSA-ED25519:+CTYPE-X509:"                 \
    "%DISABLE_TLS13_COMPAT_MODE"
/* Our certificate has about 300 bytes; a foreign one may carry more, but not much. */
#define HANDSHAKE_MESSAGE_BYTES_MAX 8192

ch_err ch_quic_tls_open(struct ch_quic_tls *tls, const uint8_t seed[32])
{
    struct ch_quic_tls t = {0};
    gnutls_x509_privkey_t key = NULL;
    gnutls_x509_crt_t certificate = NULL;
    ch_err err = ch_x509_make(seed, &key, &certificate);
    if (err)
        return err;
    if (gnutls_certificate_allocate_credentials(&t.credentials) < 0)
        err = CH_ERR_NO_MEMORY;
    else if (gnutls_certificate_set_x509_key(t.credentials, &certificate, 1, key) < 0 ||
             gnutls_priority_init(&t.priorities, PRIORITIES, NULL) < 0)
        err = CH_ERR_UNSUPPORTED;
    gnutls_x509_crt_deinit(certificate);
    gnutls_x509_privkey_deinit(key);
    if (err) {
        ch_quic_tls_close(&t);
        return err;
    }
    *tls = t;
    return CH_OK;
}

void ch_quic_tls_close(struct ch_quic_tls *tls)
{
    if (tls->priorities)
        gnutls_priority_deinit(tls->priorities);
    if (tls->credentials)
        gnutls_certificate_free_credentials(tls->credentials);
    *tls = (struct ch_quic_tls){0};
}

/* GnuTLS calls this when the peer's certificate is there; it checks the peer's signature over the handshake with that
 * certificate's key by itself. Nonzero ends the handshake. */
static int verify(gnutls_session_t session)
{
    struct ch_quic_tls_peer *peer = gnutls_session_get_ptr(session);
    unsigned int count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    gnutls_datum_t alpn;
    uint8_t key[32];

    /* GNUTLS_ALPN_MANDATORY lets a peer pass that sends no ALPN at all. */
    if (gnutls_alpn_get_selected_protocol(session, &alpn) < 0)
        return -1;
    if (!chain || count != 1 || !ch_x509_key(chain[0].data, chain[0].size, key))
        return -1;
    memcpy(peer->key, key, sizeof key);
    if (peer->expected && memcmp(key, peer->expected, sizeof key) != 0) {
        peer->wrong_key = true;
        return -1;
    }
    peer->proven = true;
    return 0;
}

ch_err ch_quic_tls_session(const struct ch_quic_tls *tls, bool server, struct ch_quic_tls_peer *peer,
                           gnutls_session_t *out)
{
    gnutls_session_t session;
    const gnutls_datum_t alpn = {(unsigned char *)CH_ALPN, sizeof CH_ALPN - 1};
    unsigned int flags = (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NO_TICKETS | GNUTLS_NO_AUTO_SEND_TICKET |
                         GNUTLS_NO_END_OF_EARLY_DATA;
    if (gnutls_init(&session, flags) < 0)
        return CH_ERR_NO_MEMORY;
    if (gnutls_priority_set(session, tls->priorities) < 0 ||
        (server ? ngtcp2_crypto_gnutls_configure_server_session(session)
                : ngtcp2_crypto_gnutls_configure_client_session(session)) != 0 ||
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->credentials) < 0 ||
        gnutls_alpn_set_protocols(session, &alpn, 1, GNUTLS_ALPN_MANDATORY) < 0) {
        gnutls_deinit(session);
        return CH_ERR_NO_MEMORY;
    }
    if (server)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_function(session, verify);
    gnutls_handshake_set_max_packet_length(session, HANDSHAKE_MESSAGE_BYTES_MAX);
    gnutls_session_set_ptr(session, peer);
    *out = session;
    return CH_OK;
}
