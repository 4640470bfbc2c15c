/* The kernel for every CPU: one lane, plain C. */
#include "crypto/ed25519_field_portable.h"

#include "crypto/ed25519_decode_impl.h"
#include "crypto/ed25519_lanes_impl.h"
#include "crypto/ed25519_raise_impl.h"
#include "crypto/ed25519_sum_impl.h"

#include <sodium.h>

static void hash_items(const struct ch_ed25519_item *items, const uint32_t *index, size_t count,
                       struct ed25519_scalar *hashes)
{
    for (size_t i = 0; i < count; i++) {
        const struct ch_ed25519_item *item = &items[index[i]];
        crypto_hash_sha512_state state;
        uint64_t digest[8];
        crypto_hash_sha512_init(&state);
        crypto_hash_sha512_update(&state, item->signature, 32);
        crypto_hash_sha512_update(&state, item->key, 32);
        if (item->prefix_length)
            crypto_hash_sha512_update(&state, item->prefix, item->prefix_length);
        if (item->message_length)
            crypto_hash_sha512_update(&state, item->message, item->message_length);
        crypto_hash_sha512_final(&state, (uint8_t *)digest);
        hashes[i] = scalar_reduce(digest);
    }
}

const struct ed25519_kernel_code ch_ed25519_portable = {
    .decode = decode_rows,
    .raise = raise_rows,
    .hash = hash_items,
    .combine = combine,
    .sum = sum_terms,
    .check = check_lanes,
};
