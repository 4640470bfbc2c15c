/* crypto/ed25519_group_impl.h - points of edwards25519, -x^2 + y^2 = 1 + d x^2 y^2, LANES of them side by side.
 * Included by each kernel after its field: the formulas are the same, only the numbers are wider.
 *
 * Extended coordinates and the complete formulas of Hisil, Wong, Carter, Dawson, "Twisted Edwards Curves Revisited"
 * (2008), sections 3.1 and 3.3: right for every pair of points, so small order and equal points need no case.
 * A point keeps Y-X and Y+X instead of X and Y: that is what the next addition takes, and a mixed addition then has
 * eight carry passes instead of fifteen.
 */
#ifndef CHAPPE_CRYPTO_ED25519_GROUP_IMPL_H
#define CHAPPE_CRYPTO_ED25519_GROUP_IMPL_H

#include "crypto/ed25519_impl.h"

static const uint64_t limbs_one[5] = {1};
static const uint64_t limbs_d[5] = {0x34dca135978a3u, 0x1a8283b156ebdu, 0x5e7a26001c029u, 0x739c663a03cbbu,
                                    0x52036cee2b6ffu};
static const uint64_t limbs_2d[5] = {0x69b9426b2f159u, 0x35050762add7au, 0x3cf44c0038052u, 0x6738cc7407977u,
                                     0x2406d9dc56dffu};
static const uint64_t limbs_half_over_d[5] = {0x793b66e4fc18u, 0x184279542e25eu, 0x3739ecc16bbadu, 0x390cac5884533u,
                                              0x60483f690a6aeu};
static const uint64_t limbs_sqrt_minus_one[5] = {0x61b274a0ea0b0u, 0xd5a5fc8f189du, 0x7ef5e9cbd0c60u, 0x78595a6804c9eu,
                                                 0x2b8324804fc1du};
/* The order of the members is that of ed25519_sum_row and ed25519_row. */
struct point {
    fe ymx, ypx, z, t; /* Y-X, Y+X, Z, T = XY/Z */
};
struct niels {
    fe ypx, ymx, t2d; /* y+x, y-x, 2dxy */
};
/* An addend with its own Z: Y-X, Y+X, Z, 2dT. */
struct cached {
    fe ymx, ypx, z, t2d;
};

INLINE void fe_multiply(fe *r, const fe *a, const fe *b)
{
    wide w;
    multiply_wide(&w, a, b);
    carry(r, &w);
}

INLINE void fe_square(fe *r, const fe *a)
{
    wide w;
    square_wide(&w, a);
    carry(r, &w);
}

static inline void point_set_identity(struct point *p)
{
    fe_set(&p->ymx, limbs_one);
    fe_set(&p->ypx, limbs_one);
    fe_set(&p->z, limbs_one);
    memset(&p->t, 0, sizeof p->t);
}

static inline void niels_load(struct niels *n, const uint64_t *const row[LANES])
{
    load_rows(&n->ypx, 0, 3, row);
}

/* A point whose Y-X and Y+X still lack their carries. What follows begins with products that don't need them, so that
 * the multiplier has work meanwhile; for the same reason carries never stand together, here and below, but each beside
 * a product that doesn't wait for it. Worth a tenth of an addition. */
struct open_point {
    wide ymx, ypx;
    fe z, t;
};

INLINE void open_point_from(struct open_point *r, const struct point *p)
{
    wide_from(&r->ymx, &p->ymx);
    wide_from(&r->ypx, &p->ypx);
    r->z = p->z;
    r->t = p->t;
}

INLINE void open_point_close(struct point *r, const struct open_point *p)
{
    carry(&r->ymx, &p->ymx);
    carry(&r->ypx, &p->ypx);
    r->z = p->z;
    r->t = p->t;
}

/* p += q, or p -= q in the lanes of `negative`: A = (Y1-X1)(Y2-X2), B = (Y1+X1)(Y2+X2), C = 2d T1 T2, D = 2 Z1 Z2, then
 * E = B - A, F = D - C, G = D + C, H = B + A, and the sum is (EF : GH : FG), its T = EH. 8 multiplications, or 7 where
 * Z2 is 1; one less without T, which a doubling after it doesn't need. C and D/2 are there already. */
INLINE void open_point_add_rest(struct open_point *p, wide *c, const wide *half_d, const fe *ymx, const fe *ypx,
                                const mask *negative, bool with_t)
{
    wide a, b, d, w, x, y;
    fe e, f, g, h, closed, factor;
    carry(&closed, &p->ymx);
    if (negative)
        fe_select(&factor, *negative, ypx, ymx);
    multiply_wide(&a, &closed, negative ? &factor : ymx);
    carry(&closed, &p->ypx);
    if (negative)
        fe_select(&factor, *negative, ymx, ypx);
    multiply_wide_lifted(&b, &closed, negative ? &factor : ypx);
    if (negative)
        wide_negate_where(c, *negative);
    wide_add(&d, half_d, half_d);
    wide_subtract(&w, &d, c);
    carry(&f, &w);
    wide_add(&w, &d, c);
    carry(&g, &w);
    multiply_wide(&d, &f, &g);
    wide_subtract_from_lifted(&w, &b, &a);
    carry(&e, &w);
    wide_add(&w, &b, &a);
    carry(&h, &w);
    if (with_t)
        multiply_wide(&w, &e, &h);
    carry(&p->z, &d);
    multiply_wide(&x, &e, &f);
    if (with_t)
        carry(&p->t, &w);
    multiply_wide_lifted(&y, &g, &h);
    wide_subtract_from_lifted(&p->ymx, &y, &x);
    wide_add(&p->ypx, &y, &x);
}

INLINE void open_point_add(struct open_point *p, const fe *ymx, const fe *ypx, const fe *t2d, const fe *z)
{
    wide c, d;
    multiply_wide(&c, &p->t, t2d);
    multiply_wide(&d, &p->z, z);
    open_point_add_rest(p, &c, &d, ymx, ypx, NULL, true);
}

INLINE void open_point_add_niels(struct open_point *p, const struct niels *n)
{
    wide c, d;
    multiply_wide(&c, &p->t, &n->t2d);
    wide_from(&d, &p->z);
    open_point_add_rest(p, &c, &d, &n->ymx, &n->ypx, NULL, true);
}

/* Rows are loaded number by number, just before a product takes it: they would not all stay in registers. */
INLINE void open_point_add_row(struct open_point *p, const uint64_t *const row[LANES], mask negative)
{
    struct niels n;
    wide c, d;
    load_rows(&n.t2d, 2, 1, row);
    multiply_wide(&c, &p->t, &n.t2d);
    wide_from(&d, &p->z);
    load_rows(&n.ypx, 0, 2, row);
    open_point_add_rest(p, &c, &d, &n.ymx, &n.ypx, &negative, true);
}

INLINE void open_point_add_cached_row(struct open_point *p, const uint64_t *const row[LANES], const mask *negative,
                                      bool with_t)
{
    struct cached q;
    wide c, d;
    load_rows(&q.t2d, 3, 1, row);
    multiply_wide(&c, &p->t, &q.t2d);
    load_rows(&q.z, 2, 1, row);
    multiply_wide(&d, &p->z, &q.z);
    load_rows(&q.ymx, 0, 2, row);
    open_point_add_rest(p, &c, &d, &q.ymx, &q.ypx, negative, with_t);
}

/* p = n or -n: 1 multiplication. */
static inline void point_from_niels(struct point *p, const struct niels *n, mask negative)
{
    fe half_over_d;
    wide t;
    fe_set(&half_over_d, limbs_half_over_d);
    fe_select(&p->ymx, negative, &n->ypx, &n->ymx);
    fe_select(&p->ypx, negative, &n->ymx, &n->ypx);
    fe_set(&p->z, limbs_one);
    multiply_wide(&t, &n->t2d, &half_over_d);
    wide_negate_where(&t, negative);
    carry(&p->t, &t);
}

static inline void cached_from_point(struct cached *q, const struct point *p)
{
    fe two_d;
    fe_set(&two_d, limbs_2d);
    q->ymx = p->ymx;
    q->ypx = p->ypx;
    q->z = p->z;
    fe_multiply(&q->t2d, &p->t, &two_d);
}

/* p = 2p: A + B = ((Y+X)^2 + (Y-X)^2) / 2, 2XY = ((Y+X)^2 - (Y-X)^2) / 2 and B - A = (Y+X)(Y-X), all taken twice.
 * A doubling doesn't need T, only an addition after it does. */
INLINE void open_point_double(struct open_point *p, bool with_t)
{
    wide plus, minus, both, zz, w, x, y;
    fe e, f, g, h, ypx, ymx;
    square_wide(&zz, &p->z);
    carry(&ypx, &p->ypx);
    square_wide(&plus, &ypx);
    carry(&ymx, &p->ymx);
    square_wide(&minus, &ymx);
    multiply_wide(&both, &ypx, &ymx);
    wide_subtract(&w, &plus, &minus);
    carry(&e, &w);
    wide_add(&w, &plus, &minus);
    carry(&h, &w);
    if (with_t)
        multiply_wide(&w, &e, &h);
    wide_add(&both, &both, &both);
    carry(&g, &both);
    multiply_wide_lifted(&y, &g, &h);
    if (with_t)
        carry(&p->t, &w);
    wide_add(&zz, &zz, &zz);
    wide_add(&zz, &zz, &zz);
    wide_subtract(&w, &zz, &both);
    carry(&f, &w);
    multiply_wide(&zz, &f, &g);
    multiply_wide(&x, &e, &f);
    carry(&p->z, &zz);
    wide_subtract_from_lifted(&p->ymx, &y, &x);
    wide_add(&p->ypx, &y, &x);
}

static inline void open_point_double_times(struct open_point *p, int times)
{
    _Pragma("GCC unroll 1") for (int i = 1; i < times; i++)
        open_point_double(p, false);
    open_point_double(p, true);
}

/* Whether p is the identity: X = 0 and Y = Z. */
static inline mask point_is_identity(const struct point *p)
{
    wide ymx, ypx, z, w;
    fe x2, y_z;
    wide_from(&ymx, &p->ymx);
    wide_from(&ypx, &p->ypx);
    wide_from(&z, &p->z);
    wide_subtract(&w, &ypx, &ymx);
    carry(&x2, &w);
    fe_freeze(&x2);
    wide_subtract(&w, &ypx, &z);
    carry(&y_z, &w);
    fe_freeze(&y_z);
    return fe_is_zero(&x2) & fe_is_zero(&y_z);
}

#endif
