/* crypto/ed25519_horner_avx512ifma.h - the end of a sum: one point, 252 doublings that wait for each other. Here the
 * four coordinates are the lanes, and it is latency that counts: high and low halves, even and odd rows of a product
 * have accumulators of their own.
 */
#ifndef CHAPPE_CRYPTO_ED25519_HORNER_AVX512IFMA_H
#define CHAPPE_CRYPTO_ED25519_HORNER_AVX512IFMA_H

#include "crypto/ed25519_field_avx512ifma.h"
#include "crypto/ed25519_group_impl.h"

/* Four numbers, a lane each, in five limbs. */
struct quad {
    __m256i v[5];
};

/* The lanes that make lane 0, 1, 2, 3. */
#define LANES_OF(a, b, c, d) ((a) | (b) << 2 | (c) << 4 | (d) << 6)
#define QUAD_PERMUTE(r, x, lanes)                                                                                      \
    UNROLL for (int i = 0; i < 5; i++)                                                                                 \
        (r)->v[i] = _mm256_permute4x64_epi64((x)->v[i], (lanes))

INLINE void quad_multiply(struct quad *r, const struct quad *x, const struct quad *y)
{
    const __m256i nineteen = _mm512_castsi512_si256(nineteen_each());
    __m256i high[2][10], low[2][10], c[10];
    UNROLL for (int i = 0; i < 10; i++)
        high[0][i] = high[1][i] = low[0][i] = low[1][i] = _mm256_setzero_si256();
    UNROLL for (int i = 0; i < 5; i++)
        UNROLL for (int j = 0; j < 5; j++) {
            high[i % 2][i + j + 1] = _mm256_madd52hi_epu64(high[i % 2][i + j + 1], x->v[i], y->v[j]);
            low[i % 2][i + j] = _mm256_madd52lo_epu64(low[i % 2][i + j], x->v[i], y->v[j]);
        }
    UNROLL for (int i = 0; i < 10; i++) {
        __m256i h = _mm256_add_epi64(high[0][i], high[1][i]);
        c[i] = _mm256_add_epi64(_mm256_add_epi64(low[0][i], low[1][i]), _mm256_add_epi64(h, h));
    }
    UNROLL for (int i = 0; i < 5; i++)
        r->v[i] = _mm256_add_epi64(c[i], _mm256_mullo_epi64(c[i + 5], nineteen));
}

INLINE void quad_carry(struct quad *r)
{
    const __m256i nineteen = _mm512_castsi512_si256(nineteen_each()), limb = _mm256_set1_epi64x(LIMB_MASK);
    __m256i c[5];
    UNROLL for (int i = 0; i < 5; i++) {
        c[i] = _mm256_srli_epi64(r->v[i], 51);
        r->v[i] = _mm256_and_si256(r->v[i], limb);
    }
    r->v[0] = _mm256_madd52lo_epu64(r->v[0], c[4], nineteen);
    UNROLL for (int i = 1; i < 5; i++)
        r->v[i] = _mm256_add_epi64(r->v[i], c[i - 1]);
}

/* r = a - b in the lanes of `minus`, a + b in the others; carried. b is the sum of at most four products. */
INLINE void quad_combine(struct quad *r, const struct quad *a, const struct quad *b, __mmask8 minus)
{
    UNROLL for (int i = 0; i < 5; i++) {
        __m256i sum = _mm256_add_epi64(a->v[i], b->v[i]);
        __m256i lifted = _mm256_add_epi64(a->v[i], _mm512_castsi512_si256(multiple_of_p(i, 2)));
        r->v[i] = _mm256_mask_sub_epi64(sum, minus, lifted, b->v[i]);
    }
    quad_carry(r);
}

/* (E, H, F, G) to (Y+X, Y-X, Z, T). */
INLINE void quad_from_ehfg(struct quad *p, const struct quad *ehfg)
{
    struct quad x, y;
    QUAD_PERMUTE(&x, ehfg, LANES_OF(0, 3, 2, 0)); /* E G F E */
    QUAD_PERMUTE(&y, ehfg, LANES_OF(2, 1, 3, 1)); /* F H G H */
    quad_multiply(p, &x, &y);                     /* X Y Z T */
    QUAD_PERMUTE(&y, p, LANES_OF(1, 1, 2, 3));
    QUAD_PERMUTE(&x, p, LANES_OF(0, 0, 0, 0));
    UNROLL for (int i = 0; i < 5; i++)
        x.v[i] = _mm256_maskz_mov_epi64(3, x.v[i]);
    quad_combine(p, &y, &x, 2);
}

/* The formulas of open_point_double. */
INLINE void quad_double(struct quad *p)
{
    const __m256i once_four_two = _mm256_set_epi64x(1, 2, 0, 0), once_two = _mm256_set_epi64x(0, 1, 0, 0);
    struct quad x, y;
    QUAD_PERMUTE(&x, p, LANES_OF(0, 1, 2, 0));
    QUAD_PERMUTE(&y, p, LANES_OF(0, 1, 2, 1));
    quad_multiply(p, &x, &y); /* (Y+X)^2, (Y-X)^2, Z^2, (Y+X)(Y-X) */
    QUAD_PERMUTE(&x, p, LANES_OF(0, 0, 2, 3));
    QUAD_PERMUTE(&y, p, LANES_OF(1, 1, 3, 3));
    UNROLL for (int i = 0; i < 5; i++) {
        x.v[i] = _mm256_sllv_epi64(x.v[i], once_four_two);
        y.v[i] = _mm256_maskz_sllv_epi64(7, y.v[i], once_two);
    }
    quad_combine(&x, &x, &y, 1 | 4);
    quad_from_ehfg(p, &x);
}

/* p += q of (Y+X, Y-X, Z, 2dT). */
INLINE void quad_add(struct quad *p, const struct quad *q)
{
    struct quad x, y;
    quad_multiply(p, p, q); /* B A D/2 C */
    QUAD_PERMUTE(&x, p, LANES_OF(0, 0, 2, 2));
    QUAD_PERMUTE(&y, p, LANES_OF(1, 1, 3, 3));
    UNROLL for (int i = 0; i < 5; i++)
        x.v[i] = _mm256_mask_add_epi64(x.v[i], 4 | 8, x.v[i], x.v[i]);
    quad_combine(&x, &x, &y, 1 | 4);
    quad_from_ehfg(p, &x);
}

INLINE void quad_load(struct quad *q, const struct ed25519_point *p)
{
    UNROLL for (int i = 0; i < 5; i++)
        q->v[i] = _mm256_set_epi64x((int64_t)p->t[i], (int64_t)p->z[i], (int64_t)p->ymx[i], (int64_t)p->ypx[i]);
}

static void horner(const struct ed25519_point *sums, const struct ed25519_windows *windows,
                   struct ed25519_point *total)
{
    struct quad p, q, factors;
    UNROLL for (int i = 0; i < 5; i++)
        factors.v[i] = _mm256_set_epi64x((int64_t)limbs_2d[i], i == 0, i == 0, i == 0);
    uint32_t window = windows->count - 1;
    quad_load(&p, &sums[window]);
    while (window-- > 0) {
        for (int i = 0; i < windows->width[window]; i++)
            quad_double(&p);
        quad_load(&q, &sums[window]);
        quad_multiply(&q, &q, &factors);
        quad_carry(&q);
        quad_add(&p, &q);
    }
    for (int i = 0; i < 5; i++) {
        uint64_t limb[4];
        _mm256_storeu_si256((__m256i *)limb, p.v[i]);
        total->ypx[i] = limb[0];
        total->ymx[i] = limb[1];
        total->z[i] = limb[2];
        total->t[i] = limb[3];
    }
}

#endif
