/* base/hash.h - SHA-256 (FIPS 180-4), the chain's hash: one message, a message in parts, or many messages at once.
 *
 * Thread: a ch_hash is its owner's; a ch_hash_many belongs to one thread. Errors: none but memory at open.
 * Cost: about 0.6 ns a byte by SHA-NI (libcrypto); many messages at once 0.2 ns a byte (libipsec-mb).
 */
#ifndef CHAPPE_BASE_HASH_H
#define CHAPPE_BASE_HASH_H

#include "base/bytes.h"
#include "base/error.h"

#define CH_HASH_BYTES 32

struct ch_hash {
    _Alignas(8) uint8_t state[112]; /* libcrypto's SHA256_CTX */
};

void ch_hash_init(struct ch_hash *h);
void ch_hash_add(struct ch_hash *h, const void *data, size_t length);
void ch_hash_end(struct ch_hash *h, uint8_t digest[CH_HASH_BYTES]);

/* digest = SHA-256(data). */
void ch_hash(const void *data, size_t length, uint8_t digest[CH_HASH_BYTES]);
/* digest = SHA-256(domain with its terminating zero ‖ parts in order). */
void ch_hash_domain(const char *domain, const struct ch_bytes *parts, size_t count, uint8_t digest[CH_HASH_BYTES]);

struct ch_hash_many;
CH_MUST_CHECK ch_err ch_hash_many_open(struct ch_hash_many **out);
void ch_hash_many_close(struct ch_hash_many *many);
/* digests[i] = SHA-256(inputs[i]) for each i < count. Any length, any count. */
void ch_hash_many(struct ch_hash_many *many, const struct ch_bytes *inputs, size_t count,
                  uint8_t (*digests)[CH_HASH_BYTES]);

#endif
