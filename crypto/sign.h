/* crypto/sign.h - the key pairs of accounts, validators and registrars: Ed25519 to sign with, X25519 to be sealed to.
 *
 * What:    making keys, signing, and the checks that keep weak keys off the chain. All of it is libsodium's.
 * Not:     no batch verification (crypto/ed25519.h), no files (crypto/keyfile.h).
 * Thread:  no state; call ch_sign_init once before anything else in crypto/ that holds secrets.
 * Memory:  the caller's; ch_wipe what held a secret.
 */
#ifndef CHAPPE_CRYPTO_SIGN_H
#define CHAPPE_CRYPTO_SIGN_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CH_SIGN_SEED_BYTES        32
#define CH_SIGN_MESSAGE_BYTES_MAX 2048 /* prefix and message; a transaction has 1200, everything else signs a digest */

struct ch_sign_key {
    uint8_t public_key[32];
    uint8_t seed[CH_SIGN_SEED_BYTES]; /* secret; RFC 8032's private key */
};

struct ch_seal_key {
    uint8_t public_key[32];
    uint8_t secret_key[32];
};

/* Starts libsodium; may be called again. CH_ERR_UNSUPPORTED when it can't (no source of randomness). */
CH_MUST_CHECK ch_err ch_sign_init(void);

/* A new pair from the system's randomness, or the pair of a seed. */
void ch_sign_key_new(struct ch_sign_key *key);
void ch_sign_key_from_seed(const uint8_t seed[CH_SIGN_SEED_BYTES], struct ch_sign_key *key);
void ch_seal_key_new(struct ch_seal_key *key);
void ch_seal_key_from_secret(const uint8_t secret_key[32], struct ch_seal_key *key);

/* signature = Ed25519 (RFC 8032) over prefix | message; together at most CH_SIGN_MESSAGE_BYTES_MAX bytes. */
void ch_sign(const struct ch_sign_key *key, const uint8_t *prefix, size_t prefix_length, const uint8_t *message,
             size_t message_length, uint8_t signature[64]);

/* True when the key may be registered: canonical, not of small order, in the main subgroup (docs/protocol.md,
 * WEAK_KEY). */
CH_MUST_CHECK bool ch_sign_key_strong(const uint8_t public_key[32]);
/* True when an X25519 key isn't of small order, so that what is sealed to it has a secret. */
CH_MUST_CHECK bool ch_seal_key_strong(const uint8_t public_key[32]);

void ch_random(void *to, size_t length); /* for keys, nonces, salts */
void ch_wipe(void *secret, size_t length);

#endif
