/* crypto/ed25519_lanes_impl.h - LANES signatures side by side, an exact verdict for each. Included by each kernel.
 * Straus' method: s B - k A with signed digits, 4 bits of k and 8 bits of s at a time, over one run of doublings.
 */
#ifndef CHAPPE_CRYPTO_ED25519_LANES_IMPL_H
#define CHAPPE_CRYPTO_ED25519_LANES_IMPL_H

#include "crypto/ed25519_group_impl.h"

#define KEY_MULTIPLES  ED25519_KEY_MULTIPLES
#define KEY_WINDOWS    63 /* of 4 bits, k mod L with the bias of the digits; the topmost digit may reach 16 - 8 */
#define BASE_WINDOWS   32 /* of 8 bits but the topmost, which has 4 */

/* 0 A, 1 A .. 8 A of each lane as cached points, a row each: table[lane * KEY_MULTIPLES + multiple]. */
static void multiples_of_keys(const uint64_t *const key[LANES], struct ed25519_sum_row *table)
{
    struct niels n;
    struct point p;
    struct cached c;
    niels_load(&n, key);
    point_from_niels(&p, &n, 0);
    for (int lane = 0; lane < LANES; lane++)
        table[lane * KEY_MULTIPLES] = (struct ed25519_sum_row){{[0] = 1, [5] = 1, [10] = 1}};
    for (uint32_t multiple = 1;; multiple++) {
        uint64_t *row[LANES];
        for (int lane = 0; lane < LANES; lane++)
            row[lane] = table[lane * KEY_MULTIPLES + multiple].w;
        cached_from_point(&c, &p);
        store_rows(&c.ymx, 4, row);
        if (multiple == KEY_MULTIPLES - 1)
            return;
        point_add_niels(&p, &n, 0);
    }
}

static inline struct ed25519_scalar biased(const struct ed25519_scalar *s, const struct ed25519_scalar *bias)
{
    return scalar_add(*s, bias);
}

/* |digit| of `width` bits at `offset`, and its sign. `top`: all the bits from there on. */
static inline uint32_t digit_at(const struct ed25519_scalar *s, uint32_t offset, uint32_t width, bool top,
                                bool *negative)
{
    uint64_t bits = s->w[offset / 64] >> (offset % 64); /* windows of 4 and 8 bits never straddle a word */
    if (!top)
        bits &= (1u << width) - 1;
    int32_t digit = (int32_t)bits - (1 << (width - 1));
    *negative = digit < 0;
    return (uint32_t)(digit < 0 ? -digit : digit);
}

static void check_lanes(const struct ed25519_row *rows, const uint32_t *r_row, const uint32_t *key_row,
                        const struct ed25519_scalar *s, const struct ed25519_scalar *k, size_t count,
                        const struct ed25519_row *base_multiples, struct ed25519_scratch *scratch, bool *valid)
{
    /* 8 * (1 + 16 + .. + 16^62) mod L, and 128 * (1 + .. + 256^30) + 8 * 256^31 mod L */
    static const struct ed25519_scalar key_bias = {{0x8888888888888888u, 0x8888888888888888u, 0x8888888888888888u, 0x888888888888888u}}, base_bias = {{0x8080808080808080u, 0x8080808080808080u, 0x8080808080808080u, 0x880808080808080u}};
    for (size_t at = 0; at < count; at += LANES) {
        struct ed25519_scalar key_digits[LANES], base_digits[LANES];
        const uint64_t *row[LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            size_t i = at + lane < count ? at + lane : at;
            row[lane] = rows[key_row[i]].w;
            key_digits[lane] = biased(&k[i], &key_bias);
            base_digits[lane] = biased(&s[i], &base_bias);
        }
        multiples_of_keys(row, scratch->table);

        struct point p;
        struct cached c;
        struct niels n;
        point_set_identity(&p);
        for (int window = KEY_WINDOWS - 1; window >= 0; window--) {
            mask negative = 0;
            if (window != KEY_WINDOWS - 1)
                point_double_times(&p, 4);
            for (int lane = 0; lane < LANES; lane++) {
                bool minus;
                uint32_t digit = digit_at(&key_digits[lane], 4 * (uint32_t)window, 4, window == KEY_WINDOWS - 1, &minus);
                row[lane] = scratch->table[(uint32_t)lane * KEY_MULTIPLES + digit].w;
                negative |= (mask)!minus << lane; /* minus k A */
            }
            load_rows(&c.ymx, 4, row);
            point_add_cached(&p, &c, negative);
            if (window % 2)
                continue;
            negative = 0;
            for (int lane = 0; lane < LANES; lane++) {
                bool minus, top = window == KEY_WINDOWS - 1;
                uint32_t digit = digit_at(&base_digits[lane], 4 * (uint32_t)window, top ? 4 : 8, top, &minus);
                row[lane] = base_multiples[digit].w;
                negative |= (mask)minus << lane;
            }
            niels_load(&n, row);
            point_add_niels(&p, &n, negative);
        }
        for (size_t lane = 0; lane < LANES; lane++)
            row[lane] = rows[r_row[at + lane < count ? at + lane : at]].w;
        niels_load(&n, row);
        point_add_niels(&p, &n, MASK_ALL);
        point_double_times(&p, 3);
        mask is_identity = point_is_identity(&p);
        for (size_t lane = 0; lane < LANES && at + lane < count; lane++)
            valid[at + lane] = is_identity >> lane & 1;
    }
}

#endif
