/* dataplane/quic_tls_impl.h - what of TLS 1.3 the engine has: one certificate, AES-GCM, X25519, Ed25519, one ALPN, both
 * sides proven.
 *
 * No tickets, no early data, no resumption: every connection proves both keys anew. Thread: as the engine.
 */
#ifndef CHAPPE_DATAPLANE_QUIC_TLS_IMPL_H
#define CHAPPE_DATAPLANE_QUIC_TLS_IMPL_H

#include "base/error.h"

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <stdbool.h>
#include <stdint.h>

struct ch_quic_tls {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priorities;
};

/* What a session finds out about its peer; must outlive the session. */
struct ch_quic_tls_peer {
    ngtcp2_crypto_conn_ref ref; /* first: the session's pointer, which libngtcp2 reads as this */
    const uint8_t *expected;    /* 32 bytes, or NULL: any key */
    uint8_t key[32];
    bool proven;    /* TLS accepted the key; it's proven when the handshake has completed */
    bool wrong_key; /* it was another than the one expected */
};

/* CH_ERR_NO_MEMORY; CH_ERR_UNSUPPORTED: GnuTLS (or the system's policy) refuses the ciphers. On failure nothing is
 * left. */
CH_MUST_CHECK ch_err ch_quic_tls_open(struct ch_quic_tls *tls, const uint8_t seed[32]);
void ch_quic_tls_close(struct ch_quic_tls *tls);

/* A session for a connection; peer->ref and peer->expected are set. Freed by gnutls_deinit. CH_ERR_NO_MEMORY. */
CH_MUST_CHECK ch_err ch_quic_tls_session(const struct ch_quic_tls *tls, bool server, struct ch_quic_tls_peer *peer,
                                         gnutls_session_t *out);

#endif
