/* crypto/ed25519_scalar.h - numbers modulo L = 2^252 + 27742317777372353535851937790883648493, the order of the base
 * point (RFC 8032, section 5.1), four 64-bit words, the lowest first. Variable time. */
#ifndef CHAPPE_CRYPTO_ED25519_SCALAR_H
#define CHAPPE_CRYPTO_ED25519_SCALAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ed25519_scalar {
    uint64_t w[4];
};

static const struct ed25519_scalar ed25519_order = {
    {0x5812631a5cf5d3edu, 0x14def9dea2f79cd6u, 0, 0x1000000000000000u}};

/* a += b; the carry out of four words. */
static inline uint64_t scalar_add_words(struct ed25519_scalar *a, const struct ed25519_scalar *b)
{
    unsigned __int128 c = 0;
    for (int i = 0; i < 4; i++) {
        c += (unsigned __int128)a->w[i] + b->w[i];
        a->w[i] = (uint64_t)c;
        c >>= 64;
    }
    return (uint64_t)c;
}

/* a -= b; the borrow out of four words. */
static inline uint64_t scalar_subtract_words(struct ed25519_scalar *a, const struct ed25519_scalar *b)
{
    uint64_t borrow = 0;
    for (int i = 0; i < 4; i++) {
        unsigned __int128 d = (unsigned __int128)a->w[i] - b->w[i] - borrow;
        a->w[i] = (uint64_t)d;
        borrow = (uint64_t)(d >> 64) & 1;
    }
    return borrow;
}

static inline bool scalar_is_reduced(const struct ed25519_scalar *a)
{
    struct ed25519_scalar x = *a;
    return scalar_subtract_words(&x, &ed25519_order) != 0;
}

/* a + b mod L, of reduced numbers. */
static inline struct ed25519_scalar scalar_add(struct ed25519_scalar a, const struct ed25519_scalar *b)
{
    scalar_add_words(&a, b);
    struct ed25519_scalar less = a;
    uint64_t keep = -scalar_subtract_words(&less, &ed25519_order); /* no branch: it would be a coin's toss */
    for (int i = 0; i < 4; i++)
        a.w[i] = (a.w[i] & keep) | (less.w[i] & ~keep);
    return a;
}

/* -a mod L, of a reduced number. */
static inline struct ed25519_scalar scalar_negate(const struct ed25519_scalar *a)
{
    struct ed25519_scalar r = ed25519_order;
    scalar_subtract_words(&r, a);
    if (!scalar_is_reduced(&r))
        r = (struct ed25519_scalar){{0}};
    return r;
}

/* The 512-bit number x mod L, by Barrett (Handbook of Applied Cryptography, algorithm 14.42, b = 2^64, k = 4). */
static inline struct ed25519_scalar scalar_reduce(const uint64_t x[8])
{
    static const uint64_t mu[5] = {0xed9ce5a30a2c131bu, 0x2106215d086329a7u, 0xffffffffffffffebu, 0xffffffffffffffffu,
                                   0xfu}; /* floor(2^512 / L) */
    uint64_t product[10] = {0}, quotient_l[5] = {0};
    for (int i = 0; i < 5; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < 5; j++) {
            unsigned __int128 t = (unsigned __int128)x[3 + i] * mu[j] + product[i + j] + carry;
            product[i + j] = (uint64_t)t;
            carry = (uint64_t)(t >> 64);
        }
        product[i + 5] = carry;
    }
    const uint64_t *quotient = product + 5;
    for (int i = 0; i < 5; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < 4 && i + j < 5; j++) {
            unsigned __int128 t = (unsigned __int128)quotient[i] * ed25519_order.w[j] + quotient_l[i + j] + carry;
            quotient_l[i + j] = (uint64_t)t;
            carry = (uint64_t)(t >> 64);
        }
        if (i == 0)
            quotient_l[4] = carry;
    }
    /* The rest is below 3L, so four words hold it. */
    struct ed25519_scalar r, q;
    memcpy(r.w, x, sizeof r.w);
    memcpy(q.w, quotient_l, sizeof q.w);
    scalar_subtract_words(&r, &q);
    while (!scalar_is_reduced(&r))
        scalar_subtract_words(&r, &ed25519_order);
    return r;
}

/* a * b mod L, of any four words each. */
static inline struct ed25519_scalar scalar_multiply(const struct ed25519_scalar *a, const struct ed25519_scalar *b)
{
    uint64_t product[8] = {0};
    for (int i = 0; i < 4; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < 4; j++) {
            unsigned __int128 t = (unsigned __int128)a->w[i] * b->w[j] + product[i + j] + carry;
            product[i + j] = (uint64_t)t;
            carry = (uint64_t)(t >> 64);
        }
        product[i + 4] = carry;
    }
    return scalar_reduce(product);
}

#endif
