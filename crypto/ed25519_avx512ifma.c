/* The kernel for CPUs with AVX-512 IFMA: two chains of eight lanes where one thing waits for the other (decoding,
 * hashing), one chain where there is enough to do at once (ed25519_sum_avx512ifma.c). */
#define CHAINS 2
#include "crypto/ed25519_field_avx512ifma.h"

#include "crypto/ed25519_decode_impl.h"
#include "crypto/ed25519_kernel_avx512ifma.h"
#include "crypto/ed25519_raise_impl.h"
#include "crypto/ed25519_scalar_avx512ifma.h"
#include "crypto/ed25519_sha512_avx512.h"

#define HASH_AHEAD 256 /* items ordered by length at a time */

/* Items of like lengths together: sixteen messages take as long as the longest of them. */
static void order_by_length(const struct ch_ed25519_item *items, const uint32_t *index, uint32_t count,
                            uint32_t order[HASH_AHEAD])
{
    enum { BLOCKS_MAX = 64 };
    uint32_t at[BLOCKS_MAX + 1] = {0}, total = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t blocks = sha512_blocks(&items[index[i]]);
        at[blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX]++;
    }
    for (uint32_t b = 0; b <= BLOCKS_MAX; b++) {
        uint32_t n = at[b];
        at[b] = total;
        total += n;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t blocks = sha512_blocks(&items[index[i]]);
        order[at[blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX]++] = i;
    }
}

static void hash_items(const struct ch_ed25519_item *items, const uint32_t *index, size_t count,
                       struct ed25519_scalar *hashes)
{
    for (size_t at = 0; at < count; at += HASH_AHEAD) {
        uint32_t ahead = (uint32_t)(count - at < HASH_AHEAD ? count - at : HASH_AHEAD), order[HASH_AHEAD];
        order_by_length(items, index + at, ahead, order);
        for (uint32_t first = 0; first < ahead; first += LANES) {
            uint32_t lanes = ahead - first < LANES ? ahead - first : LANES, ordered[LANES];
            struct ed25519_scalar k[LANES];
            __m512i digest[8][2];
            for (uint32_t lane = 0; lane < lanes; lane++)
                ordered[lane] = index[at + order[first + lane]];
            sha512_items(items, ordered, lanes, digest);
            for (int n = 0; n < 2; n++) {
                __m512i words[8];
                struct scalars reduced;
                for (int i = 0; i < 8; i++)
                    words[i] = digest[i][n];
                scalars_reduce(&reduced, words);
                scalars_store(&reduced, k + 8 * n, 8);
            }
            for (uint32_t lane = 0; lane < lanes; lane++)
                hashes[at + order[first + lane]] = k[lane];
        }
    }
}

static void combine_eight(const struct ed25519_coefficient *z, const struct ed25519_scalar *k,
                          const struct ed25519_scalar *s, size_t count, struct ed25519_scalar *zk,
                          struct ed25519_scalar *zs)
{
    const __m512i evens = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0),
                  odds = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
    __m512i first = _mm512_loadu_si512(z), second = _mm512_loadu_si512(z + 4), magnitude[3];
    __m512i low = _mm512_permutex2var_epi64(first, evens, second),
            high = _mm512_permutex2var_epi64(first, odds, second);
    __mmask8 negative = _mm512_movepi64_mask(high);
    struct scalars a, product;
    high = _mm512_and_si512(high, constant(~(UINT64_C(1) << 63)));
    magnitude[0] = _mm512_add_epi64(_mm512_and_si512(low, constant(LIMB52_MASK)), constant(1));
    magnitude[1] = _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(low, 52), _mm512_slli_epi64(high, 12)),
                                    constant(LIMB52_MASK));
    magnitude[2] = _mm512_srli_epi64(high, 40);
    propagate(magnitude, 3);
    scalars_load(&a, k);
    scalars_multiply(&product, magnitude, &a);
    scalars_negate_where(&product, negative);
    scalars_store(&product, zk, count);
    scalars_load(&a, s);
    scalars_multiply(&product, magnitude, &a);
    scalars_negate_where(&product, negative);
    scalars_store(&product, zs, count);
}

static void combine(const struct ed25519_coefficient *z, const struct ed25519_scalar *k, const struct ed25519_scalar *s,
                    size_t count, struct ed25519_scalar *zk, struct ed25519_scalar *zs)
{
    size_t eights = count / 8 * 8;
    for (size_t i = 0; i < eights; i += 8)
        combine_eight(z + i, k + i, s + i, 8, zk + i, zs + i);
    if (eights < count) {
        struct ed25519_coefficient z8[8] = {{{0}}};
        struct ed25519_scalar k8[8] = {{{0}}}, s8[8] = {{{0}}};
        for (size_t i = eights; i < count; i++)
            z8[i - eights] = z[i], k8[i - eights] = k[i], s8[i - eights] = s[i];
        combine_eight(z8, k8, s8, count - eights, zk + eights, zs + eights);
    }
}

const struct ed25519_kernel_code ch_ed25519_avx512ifma = {
    .decode = decode_rows,
    .raise = raise_rows,
    .hash = hash_items,
    .combine = combine,
    .sum = ch_ed25519_sum_avx512ifma,
    .check = ch_ed25519_check_avx512ifma,
};
