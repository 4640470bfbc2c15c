/* crypto/ed25519_ref.c - the specification of one signature's verdict: ZIP-215 from the definition.
 *
 * Written to be read with RFC 8032, section 5.1, beside it. Every kernel is held to this file; it is kept plain, and
 * where it differs from the RFC (ZIP-215 does, in three places) a comment says so.
 */
#include "crypto/ed25519.h"

#include "base/bytes.h"

#include <sodium.h>

typedef unsigned __int128 u128;

/* The field, integers mod p = 2^255 - 19: v[0] + 2^51 v[1] + ... + 2^204 v[4], every limb below 2^52. */
struct field {
    uint64_t v[5];
};

#define LIMB ((UINT64_C(1) << 51) - 1)

static const struct field zero = {{0}};
static const struct field one = {{1}};
/* d = -121665 / 121666 */
static const struct field curve_d = {
    {0x34dca135978a3, 0x1a8283b156ebd, 0x5e7a26001c029, 0x739c663a03cbb, 0x52036cee2b6ff}};
static const struct field curve_2d = {
    {0x69b9426b2f159, 0x35050762add7a, 0x3cf44c0038052, 0x6738cc7407977, 0x2406d9dc56dff}};
/* 2^((p - 1) / 4) */
static const struct field sqrt_minus_one = {
    {0x61b274a0ea0b0, 0x0d5a5fc8f189d, 0x7ef5e9cbd0c60, 0x78595a6804c9e, 0x2b8324804fc1d}};

/* Carries limbs below 2^54 to limbs below 2^52; 2^255 = 19. */
static struct field carry(struct field a)
{
    for (int i = 0; i < 4; i++) {
        a.v[i + 1] += a.v[i] >> 51;
        a.v[i] &= LIMB;
    }
    a.v[0] += 19 * (a.v[4] >> 51);
    a.v[4] &= LIMB;
    return a;
}

static struct field add(struct field a, struct field b)
{
    for (int i = 0; i < 5; i++)
        a.v[i] += b.v[i];
    return carry(a);
}

/* a + 4p - b: no limb of b is above its limb of 4p. */
static struct field subtract(struct field a, struct field b)
{
    for (int i = 0; i < 5; i++)
        a.v[i] += 4 * (i == 0 ? LIMB - 18 : LIMB) - b.v[i];
    return carry(a);
}

static u128 wide(uint64_t a, uint64_t b)
{
    return (u128)a * b;
}

static struct field multiply(struct field a, struct field b)
{
    uint64_t c1 = 19 * b.v[1], c2 = 19 * b.v[2], c3 = 19 * b.v[3], c4 = 19 * b.v[4];
    u128 t0 = wide(a.v[0], b.v[0]) + wide(a.v[1], c4) + wide(a.v[2], c3) + wide(a.v[3], c2) + wide(a.v[4], c1);
    u128 t1 = wide(a.v[0], b.v[1]) + wide(a.v[1], b.v[0]) + wide(a.v[2], c4) + wide(a.v[3], c3) + wide(a.v[4], c2);
    u128 t2 = wide(a.v[0], b.v[2]) + wide(a.v[1], b.v[1]) + wide(a.v[2], b.v[0]) + wide(a.v[3], c4) + wide(a.v[4], c3);
    u128 t3 =
        wide(a.v[0], b.v[3]) + wide(a.v[1], b.v[2]) + wide(a.v[2], b.v[1]) + wide(a.v[3], b.v[0]) + wide(a.v[4], c4);
    u128 t4 = wide(a.v[0], b.v[4]) + wide(a.v[1], b.v[3]) + wide(a.v[2], b.v[2]) + wide(a.v[3], b.v[1]) +
              wide(a.v[4], b.v[0]);
    t1 += t0 >> 51;
    t2 += t1 >> 51;
    t3 += t2 >> 51;
    t4 += t3 >> 51;
    t0 = (t0 & LIMB) + 19 * (t4 >> 51);
    t1 = (t1 & LIMB) + (t0 >> 51);
    return (struct field){{t0 & LIMB, (uint64_t)t1, t2 & LIMB, t3 & LIMB, t4 & LIMB}};
}

static struct field square(struct field a)
{
    return multiply(a, a);
}

/* a^(2^252 - 3), and 2^252 - 3 = (p - 5) / 8: 252 bits, all set but bit 1. */
static struct field power_p58(struct field a)
{
    struct field r = one;
    for (int bit = 251; bit >= 0; bit--) {
        r = square(r);
        if (bit != 1)
            r = multiply(r, a);
    }
    return r;
}

/* The one form of a below p, limbs below 2^51. */
static struct field canonical(struct field a)
{
    uint64_t above = 19; /* the carry out of a + 19 is 1 exactly when a >= p */
    for (int i = 0; i < 5; i++)
        above = (a.v[i] + above) >> 51;
    above *= 19;
    for (int i = 0; i < 5; i++) {
        above += a.v[i];
        a.v[i] = above & LIMB;
        above >>= 51;
    }
    return a;
}

static bool equal(struct field a, struct field b)
{
    a = canonical(a);
    b = canonical(b);
    return memcmp(&a, &b, sizeof a) == 0;
}

/* Bits 0..254. A value of p or more is taken mod p, where RFC 8032 5.1.3 step 1 refuses it (ZIP-215, first difference).
 */
static struct field field_decode(const uint8_t bytes[32])
{
    return (struct field){{
        ch_load64(bytes) & LIMB,
        ch_load64(bytes + 6) >> 3 & LIMB,
        ch_load64(bytes + 12) >> 6 & LIMB,
        ch_load64(bytes + 19) >> 1 & LIMB,
        ch_load64(bytes + 24) >> 12 & LIMB,
    }};
}

/* A point of -x^2 + y^2 = 1 + d x^2 y^2 in extended coordinates (RFC 8032 5.1.4): x = X/Z, y = Y/Z, x y = T/Z. */
struct point {
    struct field x, y, z, t;
};

static const struct point identity = {.y = {{1}}, .z = {{1}}};
/* B, with y = 4/5 and x even */
static const struct point base = {
    .x = {{0x62d608f25d51a, 0x412a4b4f6592a, 0x75b7171a4b31d, 0x1ff60527118fe, 0x216936d3cd6e5}},
    .y = {{0x6666666666658, 0x4cccccccccccc, 0x1999999999999, 0x3333333333333, 0x6666666666666}},
    .z = {{1}},
    .t = {{0x68ab3a5b7dda3, 0x00eea2a5eadbb, 0x2af8df483c27e, 0x332b375274732, 0x67875f0fd78b7}},
};

/* RFC 8032 5.1.4. Complete: right for any two points, of any order, equal or opposite. */
static struct point point_add(struct point p, struct point q)
{
    struct field a = multiply(subtract(p.y, p.x), subtract(q.y, q.x));
    struct field b = multiply(add(p.y, p.x), add(q.y, q.x));
    struct field c = multiply(multiply(p.t, curve_2d), q.t);
    struct field d = multiply(add(p.z, p.z), q.z);
    struct field e = subtract(b, a), f = subtract(d, c), g = add(d, c), h = add(b, a);
    return (struct point){.x = multiply(e, f), .y = multiply(g, h), .z = multiply(f, g), .t = multiply(e, h)};
}

static struct point point_double(struct point p)
{
    struct field a = square(p.x), b = square(p.y), c = square(p.z);
    struct field h = add(a, b), e = subtract(h, square(add(p.x, p.y)));
    struct field g = subtract(a, b), f = add(add(c, c), g);
    return (struct point){.x = multiply(e, f), .y = multiply(g, h), .z = multiply(f, g), .t = multiply(e, h)};
}

static struct point point_negate(struct point p)
{
    p.x = subtract(zero, p.x);
    p.t = subtract(zero, p.t);
    return p;
}

static bool point_is_identity(struct point p)
{
    return equal(p.x, zero) && equal(p.y, p.z);
}

/* RFC 8032 5.1.3: x = sqrt(u / v), u = y^2 - 1, v = d y^2 + 1; false where there is no root. The sign bit with x = 0
 * gives x = 0, where step 4 of the RFC refuses it (ZIP-215, second difference). */
static bool point_decode(const uint8_t bytes[32], struct point *out)
{
    struct field y = field_decode(bytes), yy = square(y);
    struct field u = subtract(yy, one), v = add(multiply(curve_d, yy), one);
    struct field v3 = multiply(square(v), v), v7 = multiply(square(v3), v);
    struct field x = multiply(multiply(u, v3), power_p58(multiply(u, v7)));
    struct field vxx = multiply(v, square(x));
    if (equal(vxx, subtract(zero, u)))
        x = multiply(x, sqrt_minus_one);
    else if (!equal(vxx, u))
        return false;
    if ((canonical(x).v[0] & 1) != bytes[31] >> 7)
        x = subtract(zero, x);
    *out = (struct point){.x = x, .y = y, .z = one, .t = multiply(x, y)};
    return true;
}

/* Integers below 2^256, least significant word first; L = 2^252 + 27742317777372353535851937790883648493, B's order. */
struct scalar {
    uint64_t v[4];
};

static const struct scalar order = {{0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, 0x1000000000000000}};

static bool scalar_below_order(struct scalar a)
{
    for (int i = 3; i >= 0; i--)
        if (a.v[i] != order.v[i])
            return a.v[i] < order.v[i];
    return false;
}

static bool scalar_bit(struct scalar a, int bit)
{
    return a.v[bit / 64] >> bit % 64 & 1;
}

/* 64 bytes mod L by long division, a bit at a time: 2a + 1 < 2L fits the words. */
static struct scalar scalar_reduce(const uint8_t bytes[64])
{
    struct scalar a = {{0}};
    for (int bit = 511; bit >= 0; bit--) {
        for (int i = 3; i > 0; i--)
            a.v[i] = a.v[i] << 1 | a.v[i - 1] >> 63;
        a.v[0] = a.v[0] << 1 | (bytes[bit / 8] >> bit % 8 & 1);
        if (!scalar_below_order(a)) {
            bool borrow = false;
            for (int i = 0; i < 4; i++) {
                u128 difference = (u128)a.v[i] - order.v[i] - borrow;
                a.v[i] = (uint64_t)difference;
                borrow = difference >> 64 != 0;
            }
        }
    }
    return a;
}

/* sP + kQ, the bits of both from the top. */
static struct point multiply_two(struct scalar s, struct point p, struct scalar k, struct point q)
{
    const struct point sum[4] = {identity, p, q, point_add(p, q)};
    struct point r = identity;
    for (int bit = 252; bit >= 0; bit--)
        r = point_add(point_double(r), sum[scalar_bit(s, bit) + 2 * scalar_bit(k, bit)]);
    return r;
}

bool ch_ed25519_verify_reference(const struct ch_ed25519_item *item)
{
    struct point a, r;
    struct scalar s;
    if (!point_decode(item->key, &a) || !point_decode(item->signature, &r))
        return false;
    memcpy(&s, item->signature + 32, sizeof s);
    if (!scalar_below_order(s))
        return false;

    uint8_t digest[crypto_hash_sha512_BYTES];
    crypto_hash_sha512_state hash;
    crypto_hash_sha512_init(&hash);
    crypto_hash_sha512_update(&hash, item->signature, 32);
    crypto_hash_sha512_update(&hash, item->key, 32);
    crypto_hash_sha512_update(&hash, item->prefix, item->prefix_length);
    crypto_hash_sha512_update(&hash, item->message, item->message_length);
    crypto_hash_sha512_final(&hash, digest);

    /* [8](sB - R - kA) is the identity: the multiplication by 8 is not optional here (ZIP-215, third difference), and
     * comes last: 8 folded into k mod L would not clear A's torsion. */
    struct point left = multiply_two(s, base, scalar_reduce(digest), point_negate(a));
    left = point_add(left, point_negate(r));
    for (int i = 0; i < 3; i++)
        left = point_double(left);
    return point_is_identity(left);
}
