/* crypto/ed25519_scalar_avx512ifma.h - eight numbers modulo L side by side, in limbs of radix 2^52, the lowest first.
 *
 * L = 2^252 + delta, so 2^260 = -256 delta: what is above 260 bits is multiplied by 256 delta (133 bits) and taken
 * away, until 10 bits are left above 252. A multiple of L added before each step keeps the difference positive.
 */
#ifndef CHAPPE_CRYPTO_ED25519_SCALAR_AVX512IFMA_H
#define CHAPPE_CRYPTO_ED25519_SCALAR_AVX512IFMA_H

#include "crypto/ed25519_field_avx512ifma.h"
#include "crypto/ed25519_scalar.h"

#define LIMB52_MASK ((UINT64_C(1) << 52) - 1)

struct scalars {
    __m512i v[5];
};

INLINE __m512i constant(uint64_t x)
{
    return _mm512_set1_epi64((int64_t)x);
}

/* r[0..n+m] += a * b, unpropagated. */
INLINE void add_products(__m512i *r, const __m512i *a, int n, const __m512i *b, int m)
{
    UNROLL for (int i = 0; i < n; i++)
        UNROLL for (int j = 0; j < m; j++) {
            r[i + j] = _mm512_madd52lo_epu64(r[i + j], a[i], b[j]);
            r[i + j + 1] = _mm512_madd52hi_epu64(r[i + j + 1], a[i], b[j]);
        }
}

/* Signed carries; the last limb keeps what is left. */
INLINE void propagate(__m512i *r, int n)
{
    UNROLL for (int i = 0; i + 1 < n; i++) {
        r[i + 1] = _mm512_add_epi64(r[i + 1], _mm512_srai_epi64(r[i], 52));
        r[i] = _mm512_and_si512(r[i], constant(LIMB52_MASK));
    }
}

/* x[0..n] = x mod 2^260 - 256 delta * (x >> 260) + the positive multiple of L in `lift`, of as many limbs; n in 8,
 * 10. */
INLINE void fold_above_260(__m512i *x, int n, const uint64_t *lift)
{
    const __m512i delta[3] = {constant(0x31a5cf5d3ed00u), constant(0xa2f79cd658126u), constant(0x14def9deu)};
    __m512i product[10];
    UNROLL for (int i = 0; i < 10; i++)
        product[i] = _mm512_setzero_si512();
    add_products(product, x + 5, n - 5, delta, 3);
    int limbs = n == 10 ? 8 : 6;
    UNROLL for (int i = 0; i < 8; i++)
        if (i < limbs) {
            __m512i low = i < 5 ? _mm512_add_epi64(x[i], constant(lift[i])) : constant(lift[i]);
            x[i] = _mm512_sub_epi64(low, product[i]);
        }
    propagate(x, limbs);
}

/* The number of eight limbs (below 2^388), reduced. */
INLINE void reduce_eight(struct scalars *r, __m512i x[8])
{
    static const uint64_t lift_512[6] = {0x634b9eba7da00u, 0x45ef39acb024cu, 0x29bdf3bdu, 0x0u, 0x0u, 0x2u};
    const __m512i delta[3] = {constant(0x2631a5cf5d3edu), constant(0xdea2f79cd6581u), constant(0x14def9u)};
    const uint64_t order[5] = {0x2631a5cf5d3edu, 0xdea2f79cd6581u, 0x14def9u, 0x0u, 0x100000000000u};
    fold_above_260(x, 8, lift_512);
    /* Below 2^262 now, in five limbs and the sixth: 252 = 4 * 52 + 44. */
    x[4] = _mm512_add_epi64(x[4], _mm512_slli_epi64(x[5], 52));
    __m512i top = _mm512_srli_epi64(x[4], 44), product[4];
    x[4] = _mm512_and_si512(x[4], constant((UINT64_C(1) << 44) - 1));
    UNROLL for (int i = 0; i < 4; i++)
        product[i] = _mm512_setzero_si512();
    add_products(product, &top, 1, delta, 3);
    UNROLL for (int i = 0; i < 4; i++)
        x[i] = _mm512_sub_epi64(x[i], product[i]);
    propagate(x, 5);
    __mmask8 below_zero = _mm512_movepi64_mask(x[4]);
    UNROLL for (int i = 0; i < 5; i++)
        x[i] = _mm512_mask_add_epi64(x[i], below_zero, x[i], constant(order[i]));
    propagate(x, 5);
    UNROLL for (int i = 0; i < 5; i++)
        r->v[i] = x[i];
}

/* r = the 512-bit numbers of eight little-endian words mod L. */
INLINE void scalars_reduce(struct scalars *r, const __m512i w[8])
{
    static const uint64_t lift_large[8] = {0x0u, 0x0u, 0xd74fb40000000u, 0x35960498c6973u, 0x537be77a8bde7u,
                                           0x0u, 0x0u, 0x400000u};
    __m512i x[10];
    UNROLL for (int i = 0; i < 10; i++) {
        int word = 52 * i / 64, shift = 52 * i % 64;
        __m512i low = _mm512_srli_epi64(w[word], (unsigned)shift);
        if (shift > 12 && word < 7)
            low = _mm512_or_si512(low, _mm512_slli_epi64(w[word + 1], (unsigned)(64 - shift)));
        x[i] = _mm512_and_si512(low, constant(LIMB52_MASK));
    }
    fold_above_260(x, 10, lift_large);
    reduce_eight(r, x);
}

/* r = a * b mod L, a of three limbs. */
INLINE void scalars_multiply(struct scalars *r, const __m512i a[3], const struct scalars *b)
{
    __m512i x[8];
    UNROLL for (int i = 0; i < 8; i++)
        x[i] = _mm512_setzero_si512();
    add_products(x, a, 3, b->v, 5);
    propagate(x, 8);
    reduce_eight(r, x);
}

/* r = L - r in the lanes of `negative`, and 0 for 0. */
INLINE void scalars_negate_where(struct scalars *r, __mmask8 negative)
{
    const uint64_t order[5] = {0x2631a5cf5d3edu, 0xdea2f79cd6581u, 0x14def9u, 0x0u, 0x100000000000u};
    __m512i any = _mm512_or_si512(_mm512_or_si512(r->v[0], r->v[1]), _mm512_or_si512(r->v[2], r->v[3]));
    negative &= _mm512_test_epi64_mask(_mm512_or_si512(any, r->v[4]), _mm512_or_si512(any, r->v[4]));
    UNROLL for (int i = 0; i < 5; i++)
        r->v[i] = _mm512_mask_sub_epi64(r->v[i], negative, constant(order[i]), r->v[i]);
    propagate(r->v, 5);
}

INLINE void scalars_load(struct scalars *r, const struct ed25519_scalar *from)
{
    __m512i w[8];
    UNROLL for (int lane = 0; lane < 8; lane++)
        w[lane] = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)from[lane].w));
    transpose(w);
    UNROLL for (int i = 0; i < 5; i++) {
        int word = 52 * i / 64, shift = 52 * i % 64;
        __m512i low = _mm512_srli_epi64(w[word], (unsigned)shift);
        if (shift > 12 && word < 3)
            low = _mm512_or_si512(low, _mm512_slli_epi64(w[word + 1], (unsigned)(64 - shift)));
        r->v[i] = _mm512_and_si512(low, constant(LIMB52_MASK));
    }
}

/* The first `count` of the lanes. */
INLINE void scalars_store(const struct scalars *a, struct ed25519_scalar *to, size_t count)
{
    __m512i w[8];
    w[0] = _mm512_or_si512(a->v[0], _mm512_slli_epi64(a->v[1], 52));
    w[1] = _mm512_or_si512(_mm512_srli_epi64(a->v[1], 12), _mm512_slli_epi64(a->v[2], 40));
    w[2] = _mm512_or_si512(_mm512_srli_epi64(a->v[2], 24), _mm512_slli_epi64(a->v[3], 28));
    w[3] = _mm512_or_si512(_mm512_srli_epi64(a->v[3], 36), _mm512_slli_epi64(a->v[4], 16));
    w[4] = w[5] = w[6] = w[7] = _mm512_setzero_si512();
    transpose(w);
    for (size_t lane = 0; lane < count; lane++)
        _mm256_storeu_si256((__m256i *)to[lane].w, _mm512_castsi512_si256(w[lane]));
}

#endif
