/* crypto/ed25519_lanes_impl.h - LANES signatures side by side, an exact verdict for each. Included by each kernel.
 * With c k = +-d (mod L), all of half the size (ed25519_halve.h), [8](c s B - c R -+ d A) is formed by Straus' method:
 * over one run of 128 doublings, signed digits of 4 bits of c and d, and of 8 bits of c s, whose upper half has a table
 * of multiples of 2^128 B.
 */
#ifndef CHAPPE_CRYPTO_ED25519_LANES_IMPL_H
#define CHAPPE_CRYPTO_ED25519_LANES_IMPL_H

#include "crypto/ed25519_group_impl.h"
#include "crypto/ed25519_halve.h"

#define HALF_WINDOWS 32 /* of 4 bits: 128 bits for numbers below 2^127 with the bias of the digits */

/* An addition is so much code that copies of it would not fit the CPU's first cache. */
#define NOINLINE __attribute__((noinline))

#ifndef OWN_PARTS

static void halve_lanes(const struct ed25519_scalar k[LANES], const struct ed25519_scalar s[LANES],
                        struct ed25519_halves halves[LANES])
{
    for (int lane = 0; lane < LANES; lane++)
        halves[lane] = scalar_halve(&k[lane], &s[lane]);
}

#endif

/* A point and its multiple so far, of each lane. */
struct multiples {
    struct niels n;
    struct open_point multiple;
};

static inline void multiples_begin(struct multiples *m, const uint64_t *const rows[LANES],
                                   struct ed25519_sum_row *table)
{
    struct point p;
    niels_load(&m->n, rows);
    point_from_niels(&p, &m->n, 0);
    open_point_from(&m->multiple, &p);
    for (int lane = 0; lane < LANES; lane++)
        table[lane * ED25519_MULTIPLES] = (struct ed25519_sum_row){{[0] = 1, [5] = 1, [10] = 1}};
}

/* The multiple goes to the table, and the next one is formed. */
NOINLINE static void multiples_step(struct multiples *m, uint32_t multiple, struct ed25519_sum_row *table)
{
    uint64_t *row[LANES];
    struct point p;
    struct cached c;
    for (int lane = 0; lane < LANES; lane++)
        row[lane] = table[lane * ED25519_MULTIPLES + multiple].w;
    open_point_close(&p, &m->multiple);
    cached_from_point(&c, &p);
    store_rows(&c.ymx, 4, row);
    if (multiple < ED25519_MULTIPLES - 1)
        open_point_add_niels(&m->multiple, &m->n);
}

/* 0 P, 1 P .. 8 P of each lane as cached points, a row each: table[lane * ED25519_MULTIPLES + multiple]. Each waits for
 * the one before it, so two points take turns. */
static void multiples_of_points(const uint64_t *const key[LANES], struct ed25519_sum_row *key_table,
                                const uint64_t *const r[LANES], struct ed25519_sum_row *r_table)
{
    struct multiples of_key, of_r;
    multiples_begin(&of_key, key, key_table);
    multiples_begin(&of_r, r, r_table);
    for (uint32_t multiple = 1; multiple < ED25519_MULTIPLES; multiple++) {
        multiples_step(&of_key, multiple, key_table);
        multiples_step(&of_r, multiple, r_table);
    }
}

/* What is left of LANES signatures: the digits, each plus half of its window's range, and the tables. */
struct straus {
    struct ed25519_scalar c[LANES], d[LANES], cs[LANES];
    mask d_sign; /* d A is added in these lanes */
    const struct ed25519_sum_row *multiples_of_r, *multiples_of_key;
    const struct ed25519_row *base_multiples;
};

/* The digit of `width` bits at `offset` plus its bias: its magnitude, and whether it is negative. Windows of 4 and 8
 * bits never straddle a word. */
static inline uint32_t digit_at(const struct ed25519_scalar *biased, uint32_t offset, uint32_t width, bool *negative)
{
    uint64_t bits = biased->w[offset / 64] >> (offset % 64) & ((1u << width) - 1);
    int32_t digit = (int32_t)bits - (1 << (width - 1));
    *negative = digit < 0;
    return (uint32_t)(digit < 0 ? -digit : digit);
}

/* p += digit * point, each lane by its digit of 4 bits at `offset`; subtracted in the lanes of `minus`. */
NOINLINE static void add_half_digits(struct open_point *p, const struct ed25519_scalar biased[LANES], uint32_t offset,
                                     const struct ed25519_sum_row *table, mask minus, bool with_t)
{
    const uint64_t *row[LANES];
    mask negative = 0;
    for (int lane = 0; lane < LANES; lane++) {
        bool below_zero;
        uint32_t digit = digit_at(&biased[lane], offset, 4, &below_zero);
        row[lane] = table[(uint32_t)lane * ED25519_MULTIPLES + digit].w;
        negative |= (mask)((mask)below_zero << lane);
    }
    negative ^= minus;
    open_point_add_cached_row(p, row, &negative, with_t);
}

/* p += digit * point, the digit of 8 bits at `offset` of c s, the table that of B or of 2^128 B. */
NOINLINE static void add_base_digits(struct open_point *p, const struct ed25519_scalar biased[LANES], uint32_t offset,
                                     const struct ed25519_row *table)
{
    const uint64_t *row[LANES];
    mask negative = 0;
    for (int lane = 0; lane < LANES; lane++) {
        bool below_zero;
        row[lane] = table[digit_at(&biased[lane], offset, 8, &below_zero)].w;
        negative |= (mask)((mask)below_zero << lane);
    }
    open_point_add_row(p, row, negative);
}

/* Where [8](cs B - c R - d A) is the identity. */
static mask straus_is_small(const struct straus *e)
{
    struct point p;
    struct open_point open;
    point_set_identity(&p);
    open_point_from(&open, &p);
    for (uint32_t window = HALF_WINDOWS; window-- > 0;) {
        if (window != HALF_WINDOWS - 1)
            open_point_double_times(&open, 4);
        if (window % 2 == 0) {
            add_base_digits(&open, e->cs, 4 * window, e->base_multiples);
            add_base_digits(&open, e->cs, 4 * window + 128, e->base_multiples + ED25519_BASE_MULTIPLES);
        }
        add_half_digits(&open, e->c, 4 * window, e->multiples_of_r, MASK_ALL, true);
        add_half_digits(&open, e->d, 4 * window, e->multiples_of_key, (mask)(MASK_ALL & ~e->d_sign), false);
    }
    open_point_double_times(&open, 3);
    open_point_close(&p, &open);
    return point_is_identity(&p);
}

static void check_lanes(const struct ed25519_row *rows, const uint32_t *r_row, const uint32_t *key_row,
                        const struct ed25519_scalar *s, const struct ed25519_scalar *k, size_t count,
                        const struct ed25519_row *base_multiples, struct ed25519_scratch *scratch, bool *valid)
{
    /* 8 * (1 + 16 + .. + 16^31), and 128 * (1 + 256 + .. + 256^31): c s is below 2^253, so the top digit has room. */
    static const struct ed25519_scalar half_bias = {{0x8888888888888888u, 0x8888888888888888u}};
    static const struct ed25519_scalar base_bias = {
        {0x8080808080808080u, 0x8080808080808080u, 0x8080808080808080u, 0x8080808080808080u}};
    struct ed25519_sum_row *key_table = scratch->table, *r_table = key_table + LANES * ED25519_MULTIPLES;
    for (size_t at = 0; at < count; at += LANES) {
        struct ed25519_scalar lane_k[LANES], lane_s[LANES];
        struct ed25519_halves halves[LANES];
        const uint64_t *key[LANES], *r[LANES];
        struct straus e = {.multiples_of_r = r_table, .multiples_of_key = key_table, .base_multiples = base_multiples};
        for (size_t lane = 0; lane < LANES; lane++) {
            size_t i = at + lane < count ? at + lane : at;
            key[lane] = rows[key_row[i]].w;
            r[lane] = rows[r_row[i]].w;
            lane_k[lane] = k[i];
            lane_s[lane] = s[i];
        }
        halve_lanes(lane_k, lane_s, halves);
        for (int lane = 0; lane < LANES; lane++) {
            e.c[lane] = halves[lane].c, e.d[lane] = halves[lane].d, e.cs[lane] = halves[lane].cs;
            scalar_add_words(&e.c[lane], &half_bias);
            scalar_add_words(&e.d[lane], &half_bias);
            scalar_add_words(&e.cs[lane], &base_bias);
            e.d_sign |= (mask)((mask)halves[lane].negative << lane);
        }
        multiples_of_points(key, key_table, r, r_table);
        mask is_small = straus_is_small(&e);
        for (size_t lane = 0; lane < LANES && at + lane < count; lane++)
            valid[at + lane] = is_small >> lane & 1;
    }
}

#endif
