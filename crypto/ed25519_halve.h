/* crypto/ed25519_halve.h - a signature's equation with scalars of half the size, for checks one by one: half the
 * doublings.
 *
 * The shortest vectors of the lattice of (c, d) with d = c k (mod L) have about 126 bits in each (A. Antipa et al.,
 * "Accelerated Verification of ECDSA Signatures", 2005; T. Pornin, "Optimized Lattice Basis Reduction In Dimension 2,
 * and Fast Schnorr and EdDSA Signature Verification", 2020). Why the verdict is the same, for any points A and R of the
 * curve, whose group has 8 L elements: let Q = s B - R - k A and 0 < c < L.
 *   1. 8 Q has an order that divides L. L is prime, so c is invertible mod L: [c](8 Q) = 0 exactly if 8 Q = 0.
 *   2. 8 c k A = 8 d A, since 8 (c k - d) is a multiple of 8 L; and 8 c s B = 8 (c s mod L) B for the same reason.
 *   3. So [8](s B - R - k A) = 0 exactly if [8]((c s mod L) B - c R - d A) = 0.
 */
#ifndef CHAPPE_CRYPTO_ED25519_HALVE_H
#define CHAPPE_CRYPTO_ED25519_HALVE_H

#include "crypto/ed25519_scalar.h"

/* c k = d (mod L), or -d where `negative`; 0 < c <= 2^126 + 1, 0 <= d < 2^126; cs = c s mod L. */
struct ed25519_halves {
    struct ed25519_scalar c, d, cs;
    bool negative;
};

static inline uint32_t scalar_bits(const struct ed25519_scalar *a)
{
    for (int i = 3; i >= 0; i--)
        if (a->w[i])
            return 64 * (uint32_t)i + 64 - (uint32_t)__builtin_clzll(a->w[i]);
    return 0;
}

/* a * 2^shift, which fits. */
static inline struct ed25519_scalar scalar_shifted(const struct ed25519_scalar *a, uint32_t shift)
{
    struct ed25519_scalar r = {{0}};
    for (uint32_t i = shift / 64; i < 4; i++) {
        uint32_t from = i - shift / 64;
        r.w[i] = a->w[from] << shift % 64;
        if (shift % 64 && from > 0)
            r.w[i] |= a->w[from - 1] >> (64 - shift % 64);
    }
    return r;
}

/* Euclid's algorithm on L and k, until a remainder is below 2^126. With remainders a > b: a = -+ ta k, b = +- tb k (mod
 * L) and a tb + b ta = L, so with a >= 2^126 the factor tb is at most L / 2^126. */
static inline struct ed25519_halves scalar_halve(const struct ed25519_scalar *k, const struct ed25519_scalar *s)
{
    struct ed25519_scalar a = ed25519_order, b = *k, ta = {{0}}, tb = {{1}};
    bool negative = false;
    while (scalar_bits(&b) > 126) {
        uint32_t b_bits = scalar_bits(&b), a_bits;
        while ((a_bits = scalar_bits(&a)) >= b_bits) {
            uint32_t shift = a_bits - b_bits;
            struct ed25519_scalar less = a, part = scalar_shifted(&b, shift);
            if (scalar_subtract_words(&less, &part)) {
                if (shift == 0)
                    break;
                part = scalar_shifted(&b, --shift);
                less = a;
                scalar_subtract_words(&less, &part);
            }
            a = less;
            part = scalar_shifted(&tb, shift);
            scalar_add_words(&ta, &part);
        }
        struct ed25519_scalar swap = a;
        a = b, b = swap;
        swap = ta, ta = tb, tb = swap;
        negative = !negative;
    }
    return (struct ed25519_halves){.c = tb, .d = b, .cs = scalar_multiply(&tb, s), .negative = negative};
}

#endif
