/* crypto/ed25519_halve_avx512ifma.h - scalar_halve (ed25519_halve.h) of eight at once.
 *
 * Lehmer's method: Euclid's algorithm runs on the leading 52 bits of both numbers, in doubles, and the product of its
 * steps is applied to the whole numbers. Numbers have limbs of 52 bits. What comes out is checked against c k = +-d; a
 * lane that fails, or that is not done after HALVE_ROUNDS_MAX, goes to scalar_halve: a mistake here costs time, not a
 * verdict.
 */
#ifndef CHAPPE_CRYPTO_ED25519_HALVE_AVX512IFMA_H
#define CHAPPE_CRYPTO_ED25519_HALVE_AVX512IFMA_H

#include "crypto/ed25519_halve.h"
#include "crypto/ed25519_scalar_avx512ifma.h"

#define HALVE_ROUNDS_MAX 16 /* 8 or 9 are usual */
#define HALVE_STEPS_MAX  20 /* of Euclid's in a round, for about 25 bits */

/* Remainders a and b, and the magnitudes of their factors: b = tb k (mod L), negated in the lanes of `negative`; a = ta
 * k, negated in the others. */
struct halving {
    __m512i a[5], b[5], ta[3], tb[3];
    __mmask8 negative;
};

/* (a, b) = (u0 a - v0 b, v1 b - u1 a), both negated in the lanes of `odd`; (ta, tb) = (u0 ta + v0 tb, u1 ta + v1 tb).
 */
struct euclid_steps {
    __m512i u0, v0, u1, v1;
    __mmask8 odd;
};

INLINE __mmask8 is_below_2_126(const __m512i v[5])
{
    __m512i high = _mm512_or_si512(_mm512_or_si512(v[3], v[4]), _mm512_srli_epi64(v[2], 126 - 104));
    return _mm512_testn_epi64_mask(high, high);
}

/* The leading 52 bits of a and b, cut at the same place; *cut = how many bits are below. Both are 2^104 or more, or
 * don't matter. */
INLINE void leading_bits(const struct halving *h, __m512d *x, __m512d *y, __m512i *cut)
{
    __m512i a_high = h->a[2], a_low = h->a[1], b_high = h->b[2], b_low = h->b[1], below = constant(104);
    UNROLL for (int i = 3; i < 5; i++) {
        __mmask8 higher = _mm512_test_epi64_mask(_mm512_or_si512(h->a[i], h->b[i]), _mm512_or_si512(h->a[i], h->b[i]));
        a_low = _mm512_mask_mov_epi64(a_low, higher, h->a[i - 1]);
        b_low = _mm512_mask_mov_epi64(b_low, higher, h->b[i - 1]);
        a_high = _mm512_mask_mov_epi64(a_high, higher, h->a[i]);
        b_high = _mm512_mask_mov_epi64(b_high, higher, h->b[i]);
        below = _mm512_mask_mov_epi64(below, higher, constant(52 * (uint64_t)i));
    }
    /* The exponent of the larger, as a double of 52 bits is exact. */
    __m512i exponent = _mm512_castpd_si512(_mm512_cvtepu64_pd(_mm512_or_si512(a_high, b_high)));
    __m512i up = _mm512_sub_epi64(constant(1023 + 51), _mm512_srli_epi64(exponent, 52));
    __m512i down = _mm512_sub_epi64(constant(52), up);
    *x = _mm512_cvtepu64_pd(_mm512_or_si512(_mm512_sllv_epi64(a_high, up), _mm512_srlv_epi64(a_low, down)));
    *y = _mm512_cvtepu64_pd(_mm512_or_si512(_mm512_sllv_epi64(b_high, up), _mm512_srlv_epi64(b_low, down)));
    *cut = _mm512_sub_epi64(below, up);
}

INLINE __m512d floor_of(__m512d x)
{
    return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

/* Euclid's steps on the leading bits. As long as a remainder is 2^27 or more the factors are below 2^26 (their product
 * is below 2^52), and what was cut off cannot make the true remainder negative; as long as it is 2^127 before the cut,
 * the true one is above 2^126. Where not even one step is that safe, one multiple of the smaller number is taken from
 * the larger, rounded down so that it is no more than fits. */
INLINE void euclid(struct euclid_steps *r, const struct halving *h, __mmask8 undone)
{
    const __m512d one = _mm512_set1_pd(1), zero = _mm512_setzero_pd();
    __m512d x, y, x0, y0, u0 = one, v0 = zero, u1 = zero, v1 = one;
    __m512i cut;
    leading_bits(h, &x, &y, &cut);
    x0 = x, y0 = y;
    __m512i exponent = _mm512_max_epi64(_mm512_sub_epi64(constant(127), cut), constant(27));
    __m512d least = _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_add_epi64(exponent, constant(1023)), 52));
    __mmask8 active = undone, moved = 0;
    r->odd = 0;
    for (int step = 0; step < HALVE_STEPS_MAX; step++) {
        __m512d q = floor_of(_mm512_div_pd(x, y)), rest = _mm512_fnmadd_pd(q, y, x);
        active &= _mm512_cmp_pd_mask(rest, least, _CMP_GE_OQ);
        if (!active)
            break;
        __m512d u = _mm512_fmadd_pd(q, u1, u0), v = _mm512_fmadd_pd(q, v1, v0);
        x = _mm512_mask_mov_pd(x, active, y);
        y = _mm512_mask_mov_pd(y, active, rest);
        u0 = _mm512_mask_mov_pd(u0, active, u1);
        v0 = _mm512_mask_mov_pd(v0, active, v1);
        u1 = _mm512_mask_mov_pd(u1, active, u);
        v1 = _mm512_mask_mov_pd(v1, active, v);
        r->odd ^= active;
        moved |= active;
    }
    __mmask8 stuck = undone & (__mmask8)~moved, larger_b = _mm512_cmp_pd_mask(x0, y0, _CMP_LT_OQ);
    v0 = _mm512_mask_mov_pd(v0, stuck & (__mmask8)~larger_b, floor_of(_mm512_div_pd(x0, _mm512_add_pd(y0, one))));
    u1 = _mm512_mask_mov_pd(u1, stuck & larger_b, floor_of(_mm512_div_pd(y0, _mm512_add_pd(x0, one))));
    r->u0 = _mm512_cvtpd_epu64(u0);
    r->v0 = _mm512_cvtpd_epu64(v0);
    r->u1 = _mm512_cvtpd_epu64(u1);
    r->v1 = _mm512_cvtpd_epu64(v1);
}

/* r = u a - v b, negated in the lanes of `negated`: not negative, five limbs. */
INLINE void difference_of_multiples(__m512i r[5], __m512i u, const __m512i a[5], __m512i v, const __m512i b[5],
                                    __mmask8 negated)
{
    __m512i plus[6], minus[6], difference[6];
    UNROLL for (int i = 0; i < 6; i++)
        plus[i] = minus[i] = _mm512_setzero_si512();
    add_products(plus, a, 5, &u, 1);
    add_products(minus, b, 5, &v, 1);
    UNROLL for (int i = 0; i < 6; i++)
        difference[i] = _mm512_mask_sub_epi64(_mm512_sub_epi64(plus[i], minus[i]), negated, minus[i], plus[i]);
    propagate(difference, 6);
    UNROLL for (int i = 0; i < 5; i++)
        r[i] = difference[i];
}

INLINE void sum_of_multiples(__m512i r[3], __m512i u, const __m512i a[3], __m512i v, const __m512i b[3])
{
    __m512i sum[4];
    UNROLL for (int i = 0; i < 4; i++)
        sum[i] = _mm512_setzero_si512();
    add_products(sum, a, 3, &u, 1);
    add_products(sum, b, 3, &v, 1);
    propagate(sum, 3);
    UNROLL for (int i = 0; i < 3; i++)
        r[i] = sum[i];
}

INLINE void apply_steps(struct halving *h, const struct euclid_steps *e)
{
    struct halving old = *h;
    difference_of_multiples(h->a, e->u0, old.a, e->v0, old.b, e->odd);
    difference_of_multiples(h->b, e->v1, old.b, e->u1, old.a, e->odd);
    sum_of_multiples(h->ta, e->u0, old.ta, e->v0, old.tb);
    sum_of_multiples(h->tb, e->u1, old.ta, e->v1, old.tb);
    h->negative ^= e->odd;
}

/* c and d of three limbs each; the lanes in which they are right. */
static __mmask8 halve_eight(const struct scalars *k, __m512i c[3], __m512i d[3], __mmask8 *negative)
{
    const uint64_t order[5] = {0x2631a5cf5d3edu, 0xdea2f79cd6581u, 0x14def9u, 0x0u, 0x100000000000u};
    struct halving h = {.tb = {constant(1), constant(0), constant(0)}};
    UNROLL for (int i = 0; i < 5; i++)
        h.a[i] = constant(order[i]), h.b[i] = k->v[i];
    for (int round = 0; round < HALVE_ROUNDS_MAX; round++) {
        __mmask8 undone = (__mmask8)~(is_below_2_126(h.a) | is_below_2_126(h.b));
        struct euclid_steps steps;
        if (!undone)
            break;
        euclid(&steps, &h, undone);
        apply_steps(&h, &steps);
    }
    __mmask8 take_b = is_below_2_126(h.b);
    *negative = (__mmask8)((h.negative & take_b) | (~h.negative & ~take_b));
    __m512i any = constant(0), wrong = constant(0);
    UNROLL for (int i = 0; i < 3; i++) {
        c[i] = _mm512_mask_mov_epi64(h.ta[i], take_b, h.tb[i]);
        d[i] = _mm512_mask_mov_epi64(h.a[i], take_b, h.b[i]);
        any = _mm512_or_si512(any, c[i]);
    }
    struct scalars product;
    scalars_multiply(&product, c, k);
    scalars_negate_where(&product, *negative);
    UNROLL for (int i = 0; i < 5; i++)
        wrong = _mm512_or_si512(wrong, i < 3 ? _mm512_xor_si512(product.v[i], d[i]) : product.v[i]);
    const __m512i high = constant(UINT64_C(3) << (125 - 104)); /* 3 * 2^125: what the digits have room for, with no rest */
    return _mm512_testn_epi64_mask(wrong, wrong) & _mm512_test_epi64_mask(any, any) &
           _mm512_cmplt_epu64_mask(c[2], high) & _mm512_cmplt_epu64_mask(d[2], high);
}

/* See ed25519_lanes_impl.h. */
static void halve_lanes(const struct ed25519_scalar k[8], const struct ed25519_scalar s[8],
                        struct ed25519_halves halves[8])
{
    struct scalars k8, s8, product, padded = {{{0}}};
    struct ed25519_scalar lane[3][8];
    __m512i c[3], d[3];
    __mmask8 negative, right;
    scalars_load(&k8, k);
    scalars_load(&s8, s);
    right = halve_eight(&k8, c, d, &negative);
    scalars_multiply(&product, c, &s8);
    scalars_store(&product, lane[0], 8);
    memcpy(padded.v, c, sizeof c);
    scalars_store(&padded, lane[1], 8);
    memcpy(padded.v, d, sizeof d);
    scalars_store(&padded, lane[2], 8);
    for (int i = 0; i < 8; i++)
        if (right >> i & 1)
            halves[i] = (struct ed25519_halves){
                .c = lane[1][i], .d = lane[2][i], .cs = lane[0][i], .negative = negative >> i & 1};
        else
            halves[i] = scalar_halve(&k[i], &s[i]);
}

#endif
