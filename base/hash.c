/* libcrypto's low-level calls: no heap and no provider look-up, which the pure layers need. */
#define OPENSSL_API_COMPAT 0x10101000L
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/hash.h"

#include <openssl/sha.h>

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct ch_hash), "ch_hash holds libcrypto's state");

void ch_hash_init(struct ch_hash *h)
{
    SHA256_Init((SHA256_CTX *)h);
}

void ch_hash_add(struct ch_hash *h, const void *data, size_t length)
{
    if (length)
        SHA256_Update((SHA256_CTX *)h, data, length);
}

void ch_hash_end(struct ch_hash *h, uint8_t digest[CH_HASH_BYTES])
{
    SHA256_Final(digest, (SHA256_CTX *)h);
}

void ch_hash(const void *data, size_t length, uint8_t digest[CH_HASH_BYTES])
{
    struct ch_hash h;
    ch_hash_init(&h);
    ch_hash_add(&h, data, length);
    ch_hash_end(&h, digest);
}

void ch_hash_domain(const char *domain, const struct ch_bytes *parts, size_t count, uint8_t digest[CH_HASH_BYTES])
{
    struct ch_hash h;
    ch_hash_init(&h);
    ch_hash_add(&h, domain, strlen(domain) + 1);
    for (size_t i = 0; i < count; i++)
        ch_hash_add(&h, parts[i].data, parts[i].length);
    ch_hash_end(&h, digest);
}
