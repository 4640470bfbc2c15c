/* crypto/ed25519_field_avx512ifma.h - numbers modulo p = 2^255 - 19 in five limbs of radix 2^51, eight in a vector.
 * CHAINS, 1 or 2, says how many vectors go side by side: a multiplication has a latency of 50 cycles and a throughput
 * of 30 (Zen 5), so a row of squarings wants two. The contract: ed25519_field_portable.h.
 *
 * vpmadd52luq and vpmadd52huq add the low and the high 52 bits of a product of 52-bit numbers. A high half is worth
 * 2^52 = 2 * 2^51, so it counts twice in the next limb: high halves first, doubled, then the low ones on top.
 * A limb of a product is below 124.5 * 2^52 < 2^59; 256 p is more than that in each limb.
 */
#ifndef CHAPPE_CRYPTO_ED25519_FIELD_AVX512IFMA_H
#define CHAPPE_CRYPTO_ED25519_FIELD_AVX512IFMA_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LANES (8 * CHAINS)

#define LIMB_MASK ((UINT64_C(1) << 51) - 1)
#define UNROLL    _Pragma("GCC unroll 10")
#define INLINE    static inline __attribute__((always_inline))

typedef struct {
    __m512i v[CHAINS][5]; /* lanes 0..7, lanes 8..15 */
} fe;
typedef struct {
    __m512i v[CHAINS][5];
} wide;
typedef uint16_t mask;

#define MASK_ALL ((1u << LANES) - 1)

INLINE __m512i limb_mask(void)
{
    return _mm512_set1_epi64(LIMB_MASK);
}

/* Limb i of 256 p times 2^shift. */
INLINE __m512i multiple_of_p(int i, int shift)
{
    return _mm512_set1_epi64((int64_t)((LIMB_MASK - (i == 0 ? 18 : 0)) << (8 + shift)));
}

INLINE void fe_set(fe *r, const uint64_t limbs[5])
{
    UNROLL for (int i = 0; i < 5; i++)
        UNROLL for (int h = 0; h < CHAINS; h++)
            r->v[h][i] = _mm512_set1_epi64((int64_t)limbs[i]);
}

/* 19, behind the compiler's back: gcc would make shifts and additions of the one multiplication. */
INLINE __m512i nineteen_each(void)
{
    __m512i nineteen = _mm512_set1_epi64(19);
    __asm__("" : "+v"(nineteen));
    return nineteen;
}

/* r = low limbs + 19 * high limbs; those of `half` still lack a doubling. */
INLINE void fold(__m512i r[5], const __m512i c[10], unsigned half)
{
    const __m512i nineteen = nineteen_each(), thirty_eight = _mm512_add_epi64(nineteen, nineteen);
    UNROLL for (int i = 0; i < 5; i++)
        r[i] = _mm512_add_epi64(c[i], _mm512_mullo_epi64(c[i + 5], half >> (i + 5) & 1 ? thirty_eight : nineteen));
}

/* The two halves one after the other: both fit the registers then, and the CPU interleaves them. `lift`: plus 256 p. */
INLINE void multiply(wide *r, const fe *x, const fe *y, bool lift)
{
    UNROLL for (int h = 0; h < CHAINS; h++) {
        __m512i c[10];
        UNROLL for (int i = 0; i < 10; i++)
            c[i] = lift && i < 5 ? multiple_of_p(i, i == 0 ? 0 : -1) : _mm512_setzero_si512();
        UNROLL for (int i = 0; i < 5; i++)
            UNROLL for (int j = 0; j < 5; j++)
                c[i + j + 1] = _mm512_madd52hi_epu64(c[i + j + 1], x->v[h][i], y->v[h][j]);
        UNROLL for (int i = 1; i < 9; i++)
            c[i] = _mm512_add_epi64(c[i], c[i]);
        UNROLL for (int i = 0; i < 5; i++)
            UNROLL for (int j = 0; j < 5; j++)
                c[i + j] = _mm512_madd52lo_epu64(c[i + j], x->v[h][i], y->v[h][j]);
        fold(r->v[h], c, 1u << 9);
    }
}

INLINE void multiply_wide(wide *r, const fe *x, const fe *y)
{
    multiply(r, x, y, false);
}

INLINE void multiply_wide_lifted(wide *r, const fe *x, const fe *y)
{
    multiply(r, x, y, true);
}

/* Products of two different limbs count twice: 4 Xh + 2 Dh + 2 Xl + Dl, where X are those, D the squares of limbs, h
 * and l the halves. */
INLINE void square_wide(wide *r, const fe *x)
{
    UNROLL for (int h = 0; h < CHAINS; h++) {
        const __m512i *v = x->v[h];
        __m512i c[10];
        UNROLL for (int i = 0; i < 10; i++)
            c[i] = _mm512_setzero_si512();
        UNROLL for (int i = 0; i < 4; i++)
            UNROLL for (int j = i + 1; j < 5; j++)
                c[i + j + 1] = _mm512_madd52hi_epu64(c[i + j + 1], v[i], v[j]);
        UNROLL for (int i = 2; i < 9; i++)
            c[i] = _mm512_add_epi64(c[i], c[i]);
        UNROLL for (int i = 0; i < 5; i++)
            c[2 * i + 1] = _mm512_madd52hi_epu64(c[2 * i + 1], v[i], v[i]);
        UNROLL for (int i = 0; i < 4; i++)
            UNROLL for (int j = i + 1; j < 5; j++)
                c[i + j] = _mm512_madd52lo_epu64(c[i + j], v[i], v[j]);
        UNROLL for (int i = 1; i < 9; i++)
            if (i < 5 || i % 2 == 0)
                c[i] = _mm512_add_epi64(c[i], c[i]);
        UNROLL for (int i = 0; i < 5; i++)
            c[2 * i] = _mm512_madd52lo_epu64(c[2 * i], v[i], v[i]);
        fold(r->v[h], c, 1u << 5 | 1u << 7 | 1u << 9);
    }
}

INLINE void wide_from(wide *r, const fe *a)
{
    UNROLL for (int h = 0; h < CHAINS; h++)
        UNROLL for (int i = 0; i < 5; i++)
            r->v[h][i] = a->v[h][i];
}

INLINE void wide_add(wide *r, const wide *a, const wide *b)
{
    UNROLL for (int h = 0; h < CHAINS; h++)
        UNROLL for (int i = 0; i < 5; i++)
            r->v[h][i] = _mm512_add_epi64(a->v[h][i], b->v[h][i]);
}

/* r = a - b, where a is lifted, b one product. */
INLINE void wide_subtract_from_lifted(wide *r, const wide *a, const wide *b)
{
    UNROLL for (int h = 0; h < CHAINS; h++)
        UNROLL for (int i = 0; i < 5; i++)
            r->v[h][i] = _mm512_sub_epi64(a->v[h][i], b->v[h][i]);
}

/* r = a - b, where b is the sum of at most four products. */
INLINE void wide_subtract(wide *r, const wide *a, const wide *b)
{
    UNROLL for (int h = 0; h < CHAINS; h++)
        UNROLL for (int i = 0; i < 5; i++)
            r->v[h][i] = _mm512_add_epi64(a->v[h][i], _mm512_sub_epi64(multiple_of_p(i, 2), b->v[h][i]));
}

/* r = -a in the lanes of `negative`, for at most two products. */
INLINE void wide_negate_where(wide *r, mask negative)
{
    UNROLL for (int h = 0; h < CHAINS; h++)
        UNROLL for (int i = 0; i < 5; i++)
            r->v[h][i] =
                _mm512_mask_sub_epi64(r->v[h][i], (__mmask8)(negative >> 8 * h), multiple_of_p(i, 1), r->v[h][i]);
}

/* One parallel pass: a limb below 2^63 sends at most 2^12 on, the last one 19 times that. */
INLINE void carry(fe *r, const wide *a)
{
    const __m512i nineteen = _mm512_set1_epi64(19);
    UNROLL for (int h = 0; h < CHAINS; h++) {
        __m512i c[5], low[5];
        UNROLL for (int i = 0; i < 5; i++) {
            c[i] = _mm512_srli_epi64(a->v[h][i], 51);
            low[i] = _mm512_and_si512(a->v[h][i], limb_mask());
        }
        r->v[h][0] = _mm512_madd52lo_epu64(low[0], c[4], nineteen);
        UNROLL for (int i = 1; i < 5; i++)
            r->v[h][i] = _mm512_add_epi64(low[i], c[i - 1]);
    }
}

INLINE void fe_select(fe *r, mask where, const fe *a, const fe *b)
{
    UNROLL for (int h = 0; h < CHAINS; h++)
        UNROLL for (int i = 0; i < 5; i++)
            r->v[h][i] = _mm512_mask_blend_epi64((__mmask8)(where >> 8 * h), b->v[h][i], a->v[h][i]);
}

/* The one representation below p. */
INLINE void fe_freeze(fe *a)
{
    const __m512i nineteen = _mm512_set1_epi64(19);
    for (int h = 0; h < CHAINS; h++) {
        __m512i *v = a->v[h];
        /* Twice, so that no limb is past 2^51; then p is taken away if adding 19 carries out of 2^255. */
        for (int round = 0; round < 2; round++) {
            UNROLL for (int i = 0; i < 4; i++) {
                v[i + 1] = _mm512_add_epi64(v[i + 1], _mm512_srli_epi64(v[i], 51));
                v[i] = _mm512_and_si512(v[i], limb_mask());
            }
            v[0] = _mm512_madd52lo_epu64(v[0], _mm512_srli_epi64(v[4], 51), nineteen);
            v[4] = _mm512_and_si512(v[4], limb_mask());
        }
        __m512i c = nineteen;
        UNROLL for (int i = 0; i < 5; i++)
            c = _mm512_srli_epi64(_mm512_add_epi64(v[i], c), 51);
        v[0] = _mm512_madd52lo_epu64(v[0], c, nineteen);
        UNROLL for (int i = 0; i < 4; i++) {
            v[i + 1] = _mm512_add_epi64(v[i + 1], _mm512_srli_epi64(v[i], 51));
            v[i] = _mm512_and_si512(v[i], limb_mask());
        }
        v[4] = _mm512_and_si512(v[4], limb_mask());
    }
}

/* Of a frozen number. */
INLINE mask fe_is_zero(const fe *a)
{
    uint32_t zero = 0;
    UNROLL for (int h = 0; h < CHAINS; h++) {
        __m512i any = a->v[h][0];
        UNROLL for (int i = 1; i < 5; i++)
            any = _mm512_or_si512(any, a->v[h][i]);
        zero |= (uint32_t)_mm512_testn_epi64_mask(any, any) << 8 * h;
    }
    return (mask)zero;
}

INLINE mask fe_is_odd(const fe *a)
{
    uint32_t odd = 0;
    UNROLL for (int h = 0; h < CHAINS; h++)
        odd |= (uint32_t)_mm512_test_epi64_mask(a->v[h][0], _mm512_set1_epi64(1)) << 8 * h;
    return (mask)odd;
}

/* Rows to columns: 24 shuffles. */
INLINE void transpose(__m512i v[8])
{
    __m512i pairs[8], fours[8];
    UNROLL for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm512_unpacklo_epi64(v[i], v[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi64(v[i], v[i + 1]);
    }
    UNROLL for (int i = 0; i < 2; i++) {
        UNROLL for (int j = 0; j < 2; j++) {
            __m512i a = pairs[4 * i + j], b = pairs[4 * i + 2 + j];
            fours[4 * i + j] = _mm512_shuffle_i64x2(a, b, 0x88);     /* columns j and j + 4 of four rows */
            fours[4 * i + 2 + j] = _mm512_shuffle_i64x2(a, b, 0xdd); /* columns j + 2 and j + 6 */
        }
    }
    UNROLL for (int j = 0; j < 4; j++) {
        v[j] = _mm512_shuffle_i64x2(fours[j], fours[4 + j], 0x88);
        v[j + 4] = _mm512_shuffle_i64x2(fours[j], fours[4 + j], 0xdd);
    }
}

/* 51 bits from bit `shift` of low on, high following it. */
INLINE __m512i joined(__m512i low, unsigned shift, __m512i high)
{
    return _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(low, shift), _mm512_slli_epi64(high, 64 - shift)),
                            limb_mask());
}

/* The low 255 bits of 32 bytes (not necessarily below p), and the top bit. */
INLINE void fe_from_bytes(fe *r, mask *top, const uint8_t *const bytes[LANES])
{
    uint32_t tops = 0;
    for (int h = 0; h < CHAINS; h++) {
        __m512i w[8];
        UNROLL for (int lane = 0; lane < 8; lane++)
            w[lane] = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)bytes[8 * h + lane]));
        transpose(w);
        r->v[h][0] = _mm512_and_si512(w[0], limb_mask());
        r->v[h][1] = joined(w[0], 51, w[1]);
        r->v[h][2] = joined(w[1], 38, w[2]);
        r->v[h][3] = joined(w[2], 25, w[3]);
        r->v[h][4] = _mm512_and_si512(_mm512_srli_epi64(w[3], 12), limb_mask());
        tops |= (uint32_t)_mm512_movepi64_mask(w[3]) << 8 * h;
    }
    *top = (mask)tops;
}

/* Four words of eight rows as columns. Two rows share a vector from the start, so that two steps of shuffles are
 * enough. */
INLINE void load_columns(__m512i column[4], const uint64_t *const row[8], int word)
{
    static const int low[4] = {0, 1, 4, 5}; /* the partner is two further on */
    __m512i v[4], a, b;
    UNROLL for (int i = 0; i < 4; i++)
        v[i] = _mm512_inserti64x4(
            _mm512_castsi256_si512(_mm256_load_si256((const __m256i *)(row[low[i]] + word))),
            _mm256_load_si256((const __m256i *)(row[low[i] + 2] + word)), 1);
    a = _mm512_unpacklo_epi64(v[0], v[1]), b = _mm512_unpacklo_epi64(v[2], v[3]);
    column[0] = _mm512_shuffle_i64x2(a, b, 0x88);
    column[2] = _mm512_shuffle_i64x2(a, b, 0xdd);
    a = _mm512_unpackhi_epi64(v[0], v[1]), b = _mm512_unpackhi_epi64(v[2], v[3]);
    column[1] = _mm512_shuffle_i64x2(a, b, 0x88);
    column[3] = _mm512_shuffle_i64x2(a, b, 0xdd);
}

/* Numbers `first` to first + count of each lane, five words each, from that lane's row of sixteen or twenty-four
 * words. */
INLINE void load_rows(fe *r, int first, int count, const uint64_t *const row[LANES])
{
    UNROLL for (int h = 0; h < CHAINS; h++)
        UNROLL for (int block = 5 * first / 4; 4 * block < 5 * (first + count); block++) {
            __m512i column[4];
            load_columns(column, row + 8 * h, 4 * block);
            UNROLL for (int i = 0; i < 4; i++) {
                int at = 4 * block + i - 5 * first;
                if (at >= 0 && at < 5 * count)
                    r[at / 5].v[h][at % 5] = column[i];
            }
        }
}

/* `elements` numbers of each lane, to that lane's row. */
INLINE void store_rows(const fe *a, int elements, uint64_t *const row[LANES])
{
    UNROLL for (int h = 0; h < CHAINS; h++)
        UNROLL for (int block = 0; 8 * block < 5 * elements; block++) {
            __m512i w[8];
            UNROLL for (int i = 0; i < 8; i++)
                w[i] = 8 * block + i < 5 * elements ? a[(8 * block + i) / 5].v[h][(8 * block + i) % 5]
                                                    : _mm512_setzero_si512();
            transpose(w);
            UNROLL for (int lane = 0; lane < 8; lane++)
                _mm512_store_si512(row[8 * h + lane] + 8 * block, w[lane]);
        }
}

/* A row's five words in radix 2^51. */
static inline void words_to_radix51(uint64_t limbs[5], const uint64_t words[5])
{
    memcpy(limbs, words, 5 * sizeof *limbs);
}

#endif
