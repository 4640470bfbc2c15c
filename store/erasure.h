/* store/erasure.h - n shards of which any k give the data back: Reed-Solomon by ISA-L, Cauchy matrix.
 *
 * What:    systematic: shards 0..k-1 are the data itself, padded with zeros; the others are made from them.
 * Not:     no hashes: who decodes shards of others encodes again and compares (wire/manifest.h has the hashes).
 * Source:  ISA-L's gf_gen_cauchy1_matrix, any k rows of which are independent. (gf_gen_rs_matrix has no such promise.)
 * Thread:  no state but the caller's tables. Cost: about 20 GB/s for small n on AVX-512.
 */
#ifndef CHAPPE_STORE_ERASURE_H
#define CHAPPE_STORE_ERASURE_H

#include "base/error.h"
#include "wire/manifest.h"

struct ch_erasure {
    unsigned n, k;
    uint8_t matrix[CH_SHARDS_MAX * CH_SHARDS_MAX];
    uint8_t tables[32 * CH_SHARDS_MAX * CH_SHARDS_MAX]; /* of the rows below the identity */
};

/* 1 <= k <= n <= CH_SHARDS_MAX. */
void ch_erasure_init(struct ch_erasure *code, unsigned n, unsigned k);

/* `shards` are n times `shard_bytes` (a multiple of 64, may be 0), one behind the other; the first k are there, the
 * others are written. */
void ch_erasure_encode(const struct ch_erasure *code, uint8_t *shards, size_t shard_bytes);

/* Bit i of `present` says that shard i is there: at least k of them, of which the first k are used. Writes the data
 * shards that are not; what it makes is right only if the shards belong together, which ch_erasure_encode afterwards
 * and a comparison of the others show. */
void ch_erasure_decode(const struct ch_erasure *code, uint8_t *shards, size_t shard_bytes, uint32_t present);

#endif
