/* crypto/ed25519_raise_impl.h - 2^128 times a point, LANES at a time: with it a number mod L times the point is a sum
 * of two points times numbers of half the size. Included by each kernel. */
#ifndef CHAPPE_CRYPTO_ED25519_RAISE_IMPL_H
#define CHAPPE_CRYPTO_ED25519_RAISE_IMPL_H

#include "crypto/ed25519_decode_impl.h"

/* To Z = 1: 1/Z = Z^(p-2) = (Z^((p-5)/8))^8 Z^3. */
static inline void niels_from_point(struct niels *n, const struct point *p)
{
    fe inverse, two_d;
    power_p58(&inverse, &p->z);
    square_times(&inverse, &inverse, 3);
    for (int i = 0; i < 3; i++)
        fe_multiply(&inverse, &inverse, &p->z);
    fe_multiply(&n->ypx, &p->ypx, &inverse);
    fe_multiply(&n->ymx, &p->ymx, &inverse);
    fe_multiply(&n->t2d, &p->t, &inverse);
    fe_set(&two_d, limbs_2d);
    fe_multiply(&n->t2d, &n->t2d, &two_d);
}

static inline void raise_rows(struct ed25519_row *rows, const uint32_t *from, const uint32_t *to, size_t count)
{
    for (size_t at = 0; at < count; at += LANES) {
        const uint64_t *low[LANES];
        struct ed25519_row spare[LANES];
        uint64_t *high[LANES];
        struct niels n;
        struct point p;
        struct open_point open;
        for (size_t lane = 0; lane < LANES; lane++) {
            bool used = at + lane < count;
            low[lane] = rows[used ? from[at + lane] : ED25519_ROW_IDENTITY].w;
            high[lane] = used ? rows[to[at + lane]].w : spare[lane].w;
        }
        niels_load(&n, low);
        point_from_niels(&p, &n, 0);
        open_point_from(&open, &p);
        open_point_double_times(&open, 128);
        open_point_close(&p, &open);
        niels_from_point(&n, &p);
        store_rows(&n.ypx, 3, high);
    }
}

#endif
