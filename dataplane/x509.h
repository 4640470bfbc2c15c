/* dataplane/x509.h - the certificate that carries an Ed25519 key through TLS: self-signed, the same bytes for the same
 * key.
 *
 * What:    makes one in memory; reads the key out of somebody else's.
 * Not:     no chains, names, dates or revocation: the key is the peer, and TLS proves that it is held.
 * Thread:  no state.
 */
#ifndef CHAPPE_DATAPLANE_X509_H
#define CHAPPE_DATAPLANE_X509_H

#include "base/error.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CH_X509_KEY_BYTES  32
#define CH_X509_SEED_BYTES 32

/* The key and certificate of a seed (RFC 8032's private key), subject and issuer "chappe", no end of validity
 * (RFC 5280 4.1.2.5). The caller frees both with GnuTLS's deinit. CH_ERR_NO_MEMORY; CH_ERR_UNSUPPORTED: GnuTLS has no
 * Ed25519. */
CH_MUST_CHECK ch_err ch_x509_make(const uint8_t seed[CH_X509_SEED_BYTES], gnutls_x509_privkey_t *key,
                                  gnutls_x509_crt_t *certificate);

/* The Ed25519 key of a DER certificate. False: not a certificate, another kind of key, or one that isn't canonical, of
 * small order, or outside the main subgroup (such keys "sign" what nobody signed). */
CH_MUST_CHECK bool ch_x509_key(const uint8_t *der, size_t length, uint8_t key[CH_X509_KEY_BYTES]);

#endif
