/* The kernel for CPUs with AVX2: four lanes. */
#include "crypto/ed25519_field_avx2.h"

#include "crypto/ed25519_decode_impl.h"
#include "crypto/ed25519_lanes_impl.h"
#include "crypto/ed25519_raise_impl.h"
#include "crypto/ed25519_sum_impl.h"

static void hash_items(const struct ch_ed25519_item *items, const uint32_t *index, size_t count,
                       struct ed25519_scalar *hashes)
{
    ch_ed25519_portable.hash(items, index, count, hashes);
}

const struct ed25519_kernel_code ch_ed25519_avx2 = {
    .decode = decode_rows,
    .raise = raise_rows,
    .hash = hash_items,
    .combine = combine,
    .sum = sum_terms,
    .check = check_lanes,
};
