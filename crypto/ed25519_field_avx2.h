/* crypto/ed25519_field_avx2.h - four numbers modulo p = 2^255 - 19 side by side, in ten limbs of 26 and 25 bits by
 * turns (radix 2^25.5), one in each 64-bit lane. The contract: ed25519_field_portable.h, but for the limbs.
 *
 * vpmuludq multiplies 32-bit numbers: limb i times limb j is worth 2^(25.5 (i + j)), and twice that where both are odd.
 *   fe    even limbs below 2^26 + 2^17, odd ones below 2^25 + 2^17
 *   wide  a product has even limbs below 125 * 2^52, odd ones below 78 * 2^52
 * In a row an element's five words hold an even limb in the low half and the odd one after it in the high half.
 */
#ifndef CHAPPE_CRYPTO_ED25519_FIELD_AVX2_H
#define CHAPPE_CRYPTO_ED25519_FIELD_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LANES 4

#define UNROLL _Pragma("GCC unroll 10")
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    __m256i v[10];
} fe;
typedef struct {
    __m256i v[10];
} wide;
typedef uint32_t mask;

#define MASK_ALL 0xfu

#define LIMB_BITS(i) ((i) % 2 ? 25 : 26)
#define LIMB_MASK(i) (((int64_t)1 << LIMB_BITS(i)) - 1)

INLINE __m256i each(int64_t x)
{
    return _mm256_set1_epi64x(x);
}

/* Limb i of 2^shift * p. */
INLINE __m256i multiple_of_p(int i, int shift)
{
    return each((LIMB_MASK(i) - (i == 0 ? 18 : 0)) << shift);
}

INLINE __m256i times_19(__m256i x)
{
    return _mm256_add_epi64(_mm256_add_epi64(x, _mm256_slli_epi64(x, 1)), _mm256_slli_epi64(x, 4));
}

/* All ones in the lanes of m. */
INLINE __m256i lanes_of(mask m)
{
    const __m256i bits = _mm256_set_epi64x(8, 4, 2, 1);
    return _mm256_cmpeq_epi64(_mm256_and_si256(each(m), bits), bits);
}

INLINE mask mask_of(__m256i lanes)
{
    return (mask)_mm256_movemask_pd(_mm256_castsi256_pd(lanes));
}

INLINE void fe_set(fe *r, const uint64_t limbs51[5])
{
    UNROLL
    for (int i = 0; i < 5; i++) {
        r->v[2 * i] = each((int64_t)limbs51[i] & LIMB_MASK(0));
        r->v[2 * i + 1] = each((int64_t)(limbs51[i] >> 26));
    }
}

/* Ten sums stay in registers, a row of the product after the other. Behind the compiler's back: gcc would add the
 * products up in another order, and keep sums on the stack. */
INLINE void keep(__m256i c[10])
{
    UNROLL
    for (int i = 0; i < 10; i++)
        __asm__("" : "+x"(c[i]));
}

/* `lift`: plus 2^34 p, which has even limbs of 2^60, odd ones of 2^59. */
INLINE void multiply(wide *r, const fe *x, const fe *y, bool lift)
{
    __m256i y19[10], c[10];
    UNROLL
    for (int j = 1; j < 10; j++)
        y19[j] = _mm256_mul_epu32(y->v[j], each(19));
    UNROLL
    for (int j = 0; j < 10; j++) {
        c[j] = _mm256_mul_epu32(x->v[0], y->v[j]);
        if (lift)
            c[j] = _mm256_add_epi64(c[j], multiple_of_p(j, 34));
    }
    UNROLL
    for (int i = 1; i < 10; i++) {
        __m256i once = x->v[i], twice = i % 2 ? _mm256_add_epi64(once, once) : once;
        keep(c);
        UNROLL
        for (int j = 0; j < 10; j++) {
            __m256i product = _mm256_mul_epu32(j % 2 ? twice : once, i + j < 10 ? y->v[j] : y19[j]);
            c[(i + j) % 10] = _mm256_add_epi64(c[(i + j) % 10], product);
        }
    }
    UNROLL
    for (int j = 0; j < 10; j++)
        r->v[j] = c[j];
}

INLINE void multiply_wide(wide *r, const fe *x, const fe *y)
{
    multiply(r, x, y, false);
}

INLINE void multiply_wide_lifted(wide *r, const fe *x, const fe *y)
{
    multiply(r, x, y, true);
}

/* The same with products of two different limbs taken once, doubled. */
INLINE void square_wide(wide *r, const fe *x)
{
    __m256i x19[10], c[10];
    UNROLL
    for (int j = 5; j < 10; j++)
        x19[j] = _mm256_mul_epu32(x->v[j], each(j % 2 ? 38 : 19)); /* odd limbs meet odd limbs or a doubled even one */
    UNROLL
    for (int k = 0; k < 10; k++)
        c[k] = _mm256_setzero_si256();
    UNROLL
    for (int i = 0; i < 10; i++) {
        __m256i once = x->v[i], twice = _mm256_add_epi64(once, once);
        keep(c);
        UNROLL
        for (int j = i; j < 10; j++) {
            /* 2 for two different limbs, 2 for two odd ones, 19 past the tenth: x19 of an odd limb has a 2 in it */
            int factor = (i == j ? 1 : 2) * (i % 2 && j % 2 ? 2 : 1);
            __m256i other = x->v[j];
            if (i + j >= 10) {
                other = x19[j];
                if (j % 2)
                    factor /= 2;
            }
            if (factor == 4)
                c[(i + j) % 10] =
                    _mm256_add_epi64(c[(i + j) % 10], _mm256_mul_epu32(_mm256_add_epi64(twice, twice), other));
            else
                c[(i + j) % 10] =
                    _mm256_add_epi64(c[(i + j) % 10], _mm256_mul_epu32(factor == 2 ? twice : once, other));
        }
    }
    UNROLL
    for (int k = 0; k < 10; k++)
        r->v[k] = c[k];
}

INLINE void wide_from(wide *r, const fe *a)
{
    UNROLL
    for (int i = 0; i < 10; i++)
        r->v[i] = a->v[i];
}

INLINE void wide_add(wide *r, const wide *a, const wide *b)
{
    UNROLL
    for (int i = 0; i < 10; i++)
        r->v[i] = _mm256_add_epi64(a->v[i], b->v[i]);
}

/* r = a - b, where a is lifted, b one product. */
INLINE void wide_subtract_from_lifted(wide *r, const wide *a, const wide *b)
{
    UNROLL
    for (int i = 0; i < 10; i++)
        r->v[i] = _mm256_sub_epi64(a->v[i], b->v[i]);
}

/* r = a - b, where b is the sum of at most four products: 2^36 p has even limbs of 2^62, odd ones of 2^61. */
INLINE void wide_subtract(wide *r, const wide *a, const wide *b)
{
    UNROLL
    for (int i = 0; i < 10; i++)
        r->v[i] = _mm256_add_epi64(a->v[i], _mm256_sub_epi64(multiple_of_p(i, 36), b->v[i]));
}

/* r = -r in the lanes of `negative`, for at most two products. */
INLINE void wide_negate_where(wide *r, mask negative)
{
    const __m256i where = lanes_of(negative);
    UNROLL
    for (int i = 0; i < 10; i++)
        r->v[i] = _mm256_blendv_epi8(r->v[i], _mm256_sub_epi64(multiple_of_p(i, 35), r->v[i]), where);
}

/* Limb i keeps its bits, the next one gets the rest. */
INLINE void carry_limb(__m256i v[10], int i)
{
    __m256i above = _mm256_srli_epi64(v[i], LIMB_BITS(i));
    v[i] = _mm256_and_si256(v[i], each(LIMB_MASK(i)));
    if (i == 9)
        above = times_19(above);
    v[(i + 1) % 10] = _mm256_add_epi64(v[(i + 1) % 10], above);
}

/* Two chains side by side, from limb 0 and from limb 5, each a limb further than it began: limbs below 2^63 send at
 * most 2^38 on, the last one 19 times that, of which 2^17 reach limb 1. */
INLINE void carry(fe *r, const wide *a)
{
    __m256i v[10];
    UNROLL
    for (int i = 0; i < 10; i++)
        v[i] = a->v[i];
    UNROLL
    for (int i = 0; i < 5; i++) {
        carry_limb(v, i);
        carry_limb(v, i + 5);
    }
    carry_limb(v, 0);
    carry_limb(v, 5);
    UNROLL
    for (int i = 0; i < 10; i++)
        r->v[i] = v[i];
}

INLINE void fe_select(fe *r, mask where, const fe *a, const fe *b)
{
    const __m256i lanes = lanes_of(where);
    UNROLL
    for (int i = 0; i < 10; i++)
        r->v[i] = _mm256_blendv_epi8(b->v[i], a->v[i], lanes);
}

/* The one representation below p. */
static inline void fe_freeze(fe *a)
{
    /* Twice, so that no limb has a bit too many; then p is taken away if adding 19 carries out of 2^255. */
    for (int i = 0; i < 20; i++)
        carry_limb(a->v, i % 10);
    __m256i above = each(19);
    for (int i = 0; i < 10; i++)
        above = _mm256_srli_epi64(_mm256_add_epi64(a->v[i], above), LIMB_BITS(i));
    a->v[0] = _mm256_add_epi64(a->v[0], times_19(above));
    for (int i = 0; i < 9; i++)
        carry_limb(a->v, i);
    a->v[9] = _mm256_and_si256(a->v[9], each(LIMB_MASK(9)));
}

/* Of a frozen number. */
static inline mask fe_is_zero(const fe *a)
{
    __m256i any = a->v[0];
    for (int i = 1; i < 10; i++)
        any = _mm256_or_si256(any, a->v[i]);
    return mask_of(_mm256_cmpeq_epi64(any, _mm256_setzero_si256()));
}

static inline mask fe_is_odd(const fe *a)
{
    return mask_of(_mm256_slli_epi64(a->v[0], 63));
}

/* Rows to columns. */
INLINE void transpose(__m256i v[4])
{
    __m256i a = _mm256_unpacklo_epi64(v[0], v[1]), b = _mm256_unpackhi_epi64(v[0], v[1]);
    __m256i c = _mm256_unpacklo_epi64(v[2], v[3]), d = _mm256_unpackhi_epi64(v[2], v[3]);
    v[0] = _mm256_permute2x128_si256(a, c, 0x20);
    v[1] = _mm256_permute2x128_si256(b, d, 0x20);
    v[2] = _mm256_permute2x128_si256(a, c, 0x31);
    v[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

/* The low 255 bits of 32 bytes (not necessarily below p), and the top bit. */
static inline void fe_from_bytes(fe *r, mask *top, const uint8_t *const bytes[LANES])
{
    static const uint8_t at[10] = {0, 26, 51, 77, 102, 128, 153, 179, 204, 230};
    __m256i w[5];
    for (int lane = 0; lane < 4; lane++)
        w[lane] = _mm256_loadu_si256((const __m256i *)bytes[lane]);
    transpose(w);
    w[4] = _mm256_setzero_si256();
    UNROLL
    for (int i = 0; i < 10; i++) {
        int word = at[i] / 64, shift = at[i] % 64;
        __m256i low = _mm256_srli_epi64(w[word], shift);
        __m256i high = _mm256_slli_epi64(w[word + 1], 64 - shift); /* 0 for a shift of 64 */
        r->v[i] = _mm256_and_si256(_mm256_or_si256(low, high), each(LIMB_MASK(i)));
    }
    *top = mask_of(w[3]);
}

/* Numbers `first` to first + count of each lane, five words each, from that lane's row, which ends on a multiple of
 * four words. */
INLINE void load_rows(fe *r, int first, int count, const uint64_t *const row[LANES])
{
    UNROLL
    for (int block = 5 * first / 4; 4 * block < 5 * (first + count); block++) {
        __m256i w[4];
        UNROLL
        for (int lane = 0; lane < 4; lane++)
            w[lane] = _mm256_load_si256((const __m256i *)(row[lane] + 4 * block));
        transpose(w);
        UNROLL
        for (int i = 0; i < 4; i++) {
            int at = 4 * block + i - 5 * first;
            if (at >= 0 && at < 5 * count) {
                r[at / 5].v[at % 5 * 2] = _mm256_and_si256(w[i], each(0xffffffff));
                r[at / 5].v[at % 5 * 2 + 1] = _mm256_srli_epi64(w[i], 32);
            }
        }
    }
}

/* `elements` numbers of each lane, to that lane's row. */
INLINE void store_rows(const fe *a, int elements, uint64_t *const row[LANES])
{
    UNROLL
    for (int block = 0; block < 5; block++) {
        __m256i w[4];
        if (4 * block >= 5 * elements)
            break;
        UNROLL
        for (int i = 0; i < 4; i++) {
            int at = 4 * block + i;
            w[i] = at < 5 * elements
                       ? _mm256_or_si256(a[at / 5].v[at % 5 * 2], _mm256_slli_epi64(a[at / 5].v[at % 5 * 2 + 1], 32))
                       : _mm256_setzero_si256();
        }
        transpose(w);
        UNROLL
        for (int lane = 0; lane < 4; lane++)
            _mm256_store_si256((__m256i *)(row[lane] + 4 * block), w[lane]);
    }
}

/* A row's five words in radix 2^51, limbs at most 2^51 + 2^18. */
static inline void words_to_radix51(uint64_t limbs[5], const uint64_t words[5])
{
    const uint64_t limb_mask = (UINT64_C(1) << 51) - 1;
    uint64_t above = 0;
    for (int i = 0; i < 5; i++) {
        above += (words[i] & 0xffffffff) + (words[i] >> 32 << 26);
        limbs[i] = above & limb_mask;
        above >>= 51;
    }
    limbs[0] += 19 * above;
}

#endif
