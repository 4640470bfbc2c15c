/* base/prng.h - xoshiro256** (Blackman, Vigna 2018), seeded through splitmix64: the same seed, the same numbers, on
 * every machine. For simulation, jitter and tests. Never for keys, nonces or batch coefficients (crypto/). */
#ifndef CHAPPE_BASE_PRNG_H
#define CHAPPE_BASE_PRNG_H

#include <stdint.h>

struct ch_prng {
    uint64_t s[4];
};

static inline void ch_prng_seed(struct ch_prng *g, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        g->s[i] = z ^ (z >> 31);
    }
}

static inline uint64_t ch_prng_rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static inline uint64_t ch_prng_next(struct ch_prng *g)
{
    uint64_t *s = g->s;
    uint64_t result = ch_prng_rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = ch_prng_rotl(s[3], 45);
    return result;
}

/* Uniform in [0, bound), bound >= 1 (Lemire's multiplication; the bias of at most bound / 2^64 does not matter
 * here). */
static inline uint64_t ch_prng_below(struct ch_prng *g, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)ch_prng_next(g) * bound) >> 64);
}

#endif
