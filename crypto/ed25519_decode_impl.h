/* crypto/ed25519_decode_impl.h - encodings to rows, LANES at a time. Included by each kernel. */
#ifndef CHAPPE_CRYPTO_ED25519_DECODE_IMPL_H
#define CHAPPE_CRYPTO_ED25519_DECODE_IMPL_H

#include "crypto/ed25519_group_impl.h"

static const uint8_t identity_encoding[32] = {1};

static inline void square_times(fe *r, const fe *a, int times)
{
    *r = *a;
    for (int i = 0; i < times; i++)
        fe_square(r, r);
}

/* a^((p-5)/8) = a^(2^252 - 3): 252 squarings, 11 multiplications. */
static inline void power_p58(fe *r, const fe *a)
{
    fe t0, t1, t2;
    fe_square(&t0, a);                                              /* 2 */
    square_times(&t1, &t0, 2), fe_multiply(&t1, a, &t1);            /* 9 */
    fe_multiply(&t0, &t0, &t1);                                     /* 11 */
    fe_square(&t0, &t0), fe_multiply(&t0, &t1, &t0);                /* 31 = 2^5 - 1 */
    square_times(&t1, &t0, 5), fe_multiply(&t0, &t1, &t0);          /* 2^10 - 1 */
    square_times(&t1, &t0, 10), fe_multiply(&t1, &t1, &t0);         /* 2^20 - 1 */
    square_times(&t2, &t1, 20), fe_multiply(&t1, &t2, &t1);         /* 2^40 - 1 */
    square_times(&t1, &t1, 10), fe_multiply(&t0, &t1, &t0);         /* 2^50 - 1 */
    square_times(&t1, &t0, 50), fe_multiply(&t1, &t1, &t0);         /* 2^100 - 1 */
    square_times(&t2, &t1, 100), fe_multiply(&t1, &t2, &t1);        /* 2^200 - 1 */
    square_times(&t1, &t1, 50), fe_multiply(&t0, &t1, &t0);         /* 2^250 - 1 */
    square_times(&t0, &t0, 2), fe_multiply(r, a, &t0);              /* 2^252 - 3 */
}

/* Decodes as ZIP-215 does: any y of 255 bits, "-0" too. The lanes that stand for a point; the others hold anything.
 * x = sqrt(u/v) = u v^3 (u v^7)^((p-5)/8), times sqrt(-1) where v x^2 = -u (RFC 8032, 5.1.3). */
static inline mask niels_decode(struct niels *n, const uint8_t *const encodings[LANES])
{
    fe y, x, u, v, v3, root, product, constant;
    wide one, w, t;
    mask sign;
    fe_from_bytes(&y, &sign, encodings);
    fe_set(&constant, limbs_one);
    wide_from(&one, &constant);
    square_wide(&w, &y);
    wide_subtract(&t, &w, &one);
    carry(&u, &t);
    carry(&v, &w);
    fe_set(&constant, limbs_d);
    multiply_wide(&w, &v, &constant);
    wide_add(&w, &w, &one);
    carry(&v, &w);

    fe_square(&v3, &v);
    fe_multiply(&v3, &v3, &v);
    fe_square(&root, &v3);
    fe_multiply(&root, &root, &v);
    fe_multiply(&root, &root, &u);
    power_p58(&root, &root);
    fe_multiply(&root, &root, &v3);
    fe_multiply(&root, &root, &u);

    fe difference, sum;
    wide vxx, uu;
    fe_square(&product, &root);
    multiply_wide(&vxx, &product, &v);
    wide_from(&uu, &u);
    wide_subtract(&w, &vxx, &uu);
    carry(&difference, &w);
    fe_freeze(&difference);
    wide_add(&w, &vxx, &uu);
    carry(&sum, &w);
    fe_freeze(&sum);
    mask is_root = fe_is_zero(&difference), is_other = fe_is_zero(&sum);
    fe_set(&constant, limbs_sqrt_minus_one);
    fe_multiply(&x, &root, &constant);
    fe_select(&x, is_root, &root, &x);

    fe_freeze(&x);
    wide wx, wy;
    wide_from(&wx, &x);
    wide_negate_where(&wx, (fe_is_odd(&x) ^ sign) & MASK_ALL);
    carry(&x, &wx);
    wide_from(&wx, &x);
    wide_from(&wy, &y);
    wide_add(&w, &wy, &wx);
    carry(&n->ypx, &w);
    wide_subtract(&w, &wy, &wx);
    carry(&n->ymx, &w);
    fe_multiply(&product, &x, &y);
    fe_set(&constant, limbs_2d);
    fe_multiply(&n->t2d, &product, &constant);
    return is_root | is_other;
}

static inline void decode_rows(const uint8_t *const *encodings, size_t count, struct ed25519_row *rows, bool *decoded)
{
    for (size_t at = 0; at < count; at += LANES) {
        const uint8_t *encoding[LANES];
        struct ed25519_row spare[LANES];
        uint64_t *row[LANES];
        struct niels n;
        for (size_t lane = 0; lane < LANES; lane++) {
            bool used = at + lane < count;
            encoding[lane] = used ? encodings[at + lane] : identity_encoding;
            row[lane] = used ? rows[at + lane].w : spare[lane].w;
        }
        mask is_point = niels_decode(&n, encoding);
        store_rows(&n.ypx, 3, row);
        for (size_t lane = 0; lane < LANES && at + lane < count; lane++)
            decoded[at + lane] = is_point >> lane & 1;
    }
}

#endif
