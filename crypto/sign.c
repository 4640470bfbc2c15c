#include "crypto/sign.h"

#include <sodium.h>
#include <string.h>

ch_err ch_sign_init(void)
{
    return sodium_init() < 0 ? CH_ERR_UNSUPPORTED : CH_OK;
}

void ch_sign_key_from_seed(const uint8_t seed[CH_SIGN_SEED_BYTES], struct ch_sign_key *key)
{
    uint8_t expanded[crypto_sign_SECRETKEYBYTES];
    memmove(key->seed, seed, CH_SIGN_SEED_BYTES);
    CH_ASSERT(crypto_sign_seed_keypair(key->public_key, expanded, key->seed) == 0);
    sodium_memzero(expanded, sizeof expanded);
}

void ch_sign_key_new(struct ch_sign_key *key)
{
    randombytes_buf(key->seed, sizeof key->seed);
    ch_sign_key_from_seed(key->seed, key);
}

void ch_seal_key_new(struct ch_seal_key *key)
{
    CH_ASSERT(crypto_box_keypair(key->public_key, key->secret_key) == 0);
}

void ch_seal_key_from_secret(const uint8_t secret_key[32], struct ch_seal_key *key)
{
    memmove(key->secret_key, secret_key, sizeof key->secret_key);
    CH_ASSERT(crypto_scalarmult_base(key->public_key, key->secret_key) == 0);
}

void ch_sign(const struct ch_sign_key *key, const uint8_t *prefix, size_t prefix_length, const uint8_t *message,
             size_t message_length, uint8_t signature[64])
{
    uint8_t whole[CH_SIGN_MESSAGE_BYTES_MAX], expanded[crypto_sign_SECRETKEYBYTES];
    CH_ASSERT(prefix_length <= sizeof whole && message_length <= sizeof whole - prefix_length);
    if (prefix_length)
        memcpy(whole, prefix, prefix_length);
    if (message_length)
        memcpy(whole + prefix_length, message, message_length);
    /* libsodium's secret key is seed | public key. */
    memcpy(expanded, key->seed, CH_SIGN_SEED_BYTES);
    memcpy(expanded + CH_SIGN_SEED_BYTES, key->public_key, 32);
    CH_ASSERT(crypto_sign_detached(signature, NULL, whole, prefix_length + message_length, expanded) == 0);
    sodium_memzero(expanded, sizeof expanded);
}

bool ch_sign_key_strong(const uint8_t public_key[32])
{
    return crypto_core_ed25519_is_valid_point(public_key) == 1;
}

bool ch_seal_key_strong(const uint8_t public_key[32])
{
    /* A clamped scalar is a multiple of 8: the product is zero for exactly the points of small order, on the curve and
     * on its twist, and libsodium says so. */
    static const uint8_t scalar[crypto_scalarmult_SCALARBYTES] = {8};
    uint8_t product[crypto_scalarmult_BYTES];
    return crypto_scalarmult(product, scalar, public_key) == 0;
}

void ch_random(void *to, size_t length)
{
    randombytes_buf(to, length);
}

void ch_wipe(void *secret, size_t length)
{
    sodium_memzero(secret, length);
}
