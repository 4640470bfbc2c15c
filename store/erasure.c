#include "store/erasure.h"

#include <isa-l/erasure_code.h>

void ch_erasure_init(struct ch_erasure *code, unsigned n, unsigned k)
{
    CH_ASSERT(k >= 1 && k <= n && n <= CH_SHARDS_MAX);
    code->n = n;
    code->k = k;
    gf_gen_cauchy1_matrix(code->matrix, (int)n, (int)k);
    ec_init_tables((int)k, (int)(n - k), code->matrix + (size_t)k * k, code->tables);
}

void ch_erasure_encode(const struct ch_erasure *code, uint8_t *shards, size_t shard_bytes)
{
    uint8_t *at[CH_SHARDS_MAX];
    for (unsigned i = 0; i < code->n; i++)
        at[i] = shards + i * shard_bytes;
    if (shard_bytes && code->n > code->k)
        ec_encode_data((int)shard_bytes, (int)code->k, (int)(code->n - code->k), (uint8_t *)(uintptr_t)code->tables, at,
                       at + code->k);
}

void ch_erasure_decode(const struct ch_erasure *code, uint8_t *shards, size_t shard_bytes, uint32_t present)
{
    const unsigned k = code->k;
    uint8_t rows[CH_SHARDS_MAX * CH_SHARDS_MAX], inverse[CH_SHARDS_MAX * CH_SHARDS_MAX];
    uint8_t tables[32 * CH_SHARDS_MAX * CH_SHARDS_MAX];
    uint8_t *from[CH_SHARDS_MAX], *to[CH_SHARDS_MAX];
    unsigned have = 0, missing = 0;
    for (unsigned i = 0; i < code->n && have < k; i++)
        if (present >> i & 1) {
            memcpy(rows + have * k, code->matrix + i * k, k);
            from[have++] = shards + i * shard_bytes;
        }
    CH_ASSERT(have == k);
    if (gf_invert_matrix(rows, inverse, (int)k) != 0)
        CH_ASSERT(!"k rows of a Cauchy matrix are independent");
    for (unsigned i = 0; i < k; i++)
        if (!(present >> i & 1)) { /* row i of the inverse gives data shard i */
            memcpy(rows + missing * k, inverse + i * k, k);
            to[missing++] = shards + i * shard_bytes;
        }
    if (!missing || !shard_bytes)
        return;
    ec_init_tables((int)k, (int)missing, rows, tables);
    ec_encode_data((int)shard_bytes, (int)k, (int)missing, tables, from, to);
}
