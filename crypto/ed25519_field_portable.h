/* crypto/ed25519_field_portable.h - one number modulo p = 2^255 - 19 in five limbs of radix 2^51, plain C.
 *
 * The contract of every ed25519_field_*.h, LANES numbers side by side:
 *   fe    limbs of at most 2^51 + 2^18: what a multiplication takes.
 *   wide  a product or a small sum of products that carry() has not been over yet; only added and subtracted.
 *   mask  a bit for each lane.
 */
#ifndef CHAPPE_CRYPTO_ED25519_FIELD_PORTABLE_H
#define CHAPPE_CRYPTO_ED25519_FIELD_PORTABLE_H

#include <stdint.h>
#include <string.h>

#define LANES 1

#define LIMB_MASK ((UINT64_C(1) << 51) - 1)

typedef struct {
    uint64_t v[5];
} fe;
typedef struct {
    uint64_t v[5];
} wide;
#define INLINE static inline

typedef uint32_t mask;

#define MASK_ALL 1u

static inline void fe_set(fe *r, const uint64_t limbs[5])
{
    memcpy(r->v, limbs, sizeof r->v);
}

static inline void carry_products(wide *r, unsigned __int128 c[5])
{
    for (int i = 0; i < 4; i++)
        c[i + 1] += (uint64_t)(c[i] >> 51);
    uint64_t low = ((uint64_t)c[0] & LIMB_MASK) + 19 * (uint64_t)(c[4] >> 51);
    r->v[0] = low & LIMB_MASK;
    r->v[1] = ((uint64_t)c[1] & LIMB_MASK) + (low >> 51);
    for (int i = 2; i < 5; i++)
        r->v[i] = (uint64_t)c[i] & LIMB_MASK;
}

static inline void multiply_wide(wide *r, const fe *x, const fe *y)
{
    const uint64_t *a = x->v, *b = y->v;
    const uint64_t b1 = 19 * b[1], b2 = 19 * b[2], b3 = 19 * b[3], b4 = 19 * b[4];
    typedef unsigned __int128 u128;
    u128 c[5];
    c[0] = (u128)a[0] * b[0] + (u128)a[1] * b4 + (u128)a[2] * b3 + (u128)a[3] * b2 + (u128)a[4] * b1;
    c[1] = (u128)a[0] * b[1] + (u128)a[1] * b[0] + (u128)a[2] * b4 + (u128)a[3] * b3 + (u128)a[4] * b2;
    c[2] = (u128)a[0] * b[2] + (u128)a[1] * b[1] + (u128)a[2] * b[0] + (u128)a[3] * b4 + (u128)a[4] * b3;
    c[3] = (u128)a[0] * b[3] + (u128)a[1] * b[2] + (u128)a[2] * b[1] + (u128)a[3] * b[0] + (u128)a[4] * b4;
    c[4] = (u128)a[0] * b[4] + (u128)a[1] * b[3] + (u128)a[2] * b[2] + (u128)a[3] * b[1] + (u128)a[4] * b[0];
    carry_products(r, c);
}

static inline void square_wide(wide *r, const fe *x)
{
    const uint64_t *a = x->v;
    const uint64_t d0 = 2 * a[0], d1 = 2 * a[1], a3 = 19 * a[3], a4 = 19 * a[4];
    typedef unsigned __int128 u128;
    u128 c[5];
    c[0] = (u128)a[0] * a[0] + (u128)d1 * a4 + (u128)(2 * a[2]) * a3;
    c[1] = (u128)d0 * a[1] + (u128)(2 * a[2]) * a4 + (u128)a[3] * a3;
    c[2] = (u128)d0 * a[2] + (u128)a[1] * a[1] + (u128)(2 * a[3]) * a4;
    c[3] = (u128)d0 * a[3] + (u128)d1 * a[2] + (u128)a[4] * a4;
    c[4] = (u128)d0 * a[4] + (u128)d1 * a[3] + (u128)a[2] * a[2];
    carry_products(r, c);
}

static inline void wide_from(wide *r, const fe *a)
{
    memcpy(r, a, sizeof *r);
}

static inline void wide_add(wide *r, const wide *a, const wide *b)
{
    for (int i = 0; i < 5; i++)
        r->v[i] = a->v[i] + b->v[i];
}

/* r = x y plus a multiple of p that is more than a product in each limb. */
static inline void multiply_wide_lifted(wide *r, const fe *x, const fe *y)
{
    multiply_wide(r, x, y);
    for (int i = 0; i < 5; i++)
        r->v[i] += 4 * (LIMB_MASK - (i == 0 ? 18 : 0));
}

/* r = a - b, where a is lifted, b one product. */
static inline void wide_subtract_from_lifted(wide *r, const wide *a, const wide *b)
{
    for (int i = 0; i < 5; i++)
        r->v[i] = a->v[i] - b->v[i];
}

/* r = a - b, where b is the sum of at most four products. */
static inline void wide_subtract(wide *r, const wide *a, const wide *b)
{
    for (int i = 0; i < 5; i++)
        r->v[i] = a->v[i] + 8 * (LIMB_MASK - (i == 0 ? 18 : 0)) - b->v[i];
}

/* r = -a in the lanes of `negative`, for at most two products. */
static inline void wide_negate_where(wide *r, mask negative)
{
    if (negative)
        for (int i = 0; i < 5; i++)
            r->v[i] = 8 * (LIMB_MASK - (i == 0 ? 18 : 0)) - r->v[i];
}

static inline void carry(fe *r, const wide *a)
{
    uint64_t top = 19 * (a->v[4] >> 51);
    for (int i = 4; i > 0; i--)
        r->v[i] = (a->v[i] & LIMB_MASK) + (a->v[i - 1] >> 51);
    r->v[0] = (a->v[0] & LIMB_MASK) + top;
}

static inline void fe_select(fe *r, mask where, const fe *a, const fe *b)
{
    *r = where ? *a : *b;
}

/* The one representation below p. */
static inline void fe_freeze(fe *a)
{
    /* Twice, so that no limb is past 2^51; then p is taken away if adding 19 carries out of 2^255. */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 4; i++) {
            a->v[i + 1] += a->v[i] >> 51;
            a->v[i] &= LIMB_MASK;
        }
        a->v[0] += 19 * (a->v[4] >> 51);
        a->v[4] &= LIMB_MASK;
    }
    uint64_t c = 19;
    for (int i = 0; i < 5; i++)
        c = (a->v[i] + c) >> 51;
    a->v[0] += 19 * c;
    for (int i = 0; i < 4; i++) {
        a->v[i + 1] += a->v[i] >> 51;
        a->v[i] &= LIMB_MASK;
    }
    a->v[4] &= LIMB_MASK;
}

/* Of a frozen number. */
static inline mask fe_is_zero(const fe *a)
{
    return (a->v[0] | a->v[1] | a->v[2] | a->v[3] | a->v[4]) == 0;
}

static inline mask fe_is_odd(const fe *a)
{
    return a->v[0] & 1;
}

/* The low 255 bits of 32 bytes (not necessarily below p), and the top bit. */
static inline void fe_from_bytes(fe *r, mask *top, const uint8_t *const bytes[LANES])
{
    uint64_t w[4];
    memcpy(w, bytes[0], 32);
    r->v[0] = w[0] & LIMB_MASK;
    r->v[1] = (w[0] >> 51 | w[1] << 13) & LIMB_MASK;
    r->v[2] = (w[1] >> 38 | w[2] << 26) & LIMB_MASK;
    r->v[3] = (w[2] >> 25 | w[3] << 39) & LIMB_MASK;
    r->v[4] = (w[3] >> 12) & LIMB_MASK;
    *top = (mask)(w[3] >> 63);
}

/* Numbers `first` to first + count of each lane, five words each, from that lane's row. */
static inline void load_rows(fe *r, int first, int count, const uint64_t *const row[LANES])
{
    for (int i = 0; i < count; i++)
        memcpy(r[i].v, row[0] + 5 * (first + i), sizeof r[i].v);
}

/* `elements` numbers of each lane, to that lane's row. */
static inline void store_rows(const fe *a, int elements, uint64_t *const row[LANES])
{
    for (int i = 0; i < elements; i++)
        memcpy(row[0] + 5 * i, a[i].v, sizeof a[i].v);
}

/* A row's five words in radix 2^51. */
static inline void words_to_radix51(uint64_t limbs[5], const uint64_t words[5])
{
    memcpy(limbs, words, 5 * sizeof *limbs);
}

#endif
