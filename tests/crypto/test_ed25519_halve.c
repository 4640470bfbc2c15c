/* Half-size scalars: c k = +-d (mod L) within their bounds, for scalars at the edges of Euclid's algorithm and random
 * ones; the arithmetic mod L is libsodium's. */
#include "base/cpu.h"
#include "crypto/ed25519_halve.h"
#include "tests/test.h"

#include <sodium.h>

#if defined(__x86_64__)
/* test_ed25519_halve_avx512ifma.c: eight at once, as that kernel does it. */
void halve_eight_avx512ifma(const struct ed25519_scalar k[8], const struct ed25519_scalar s[8],
                            struct ed25519_halves halves[8]);
#endif

static void random_scalar(struct ch_prng *g, struct ed25519_scalar *r)
{
    uint8_t wide[64];
    for (size_t i = 0; i < sizeof wide; i += 8)
        ch_store64(wide + i, ch_prng_next(g));
    crypto_core_ed25519_scalar_reduce((uint8_t *)r, wide);
}

static void check(const struct ed25519_scalar *k, const struct ed25519_scalar *s, const struct ed25519_halves *h)
{
    uint8_t ck[32], cs[32], d[32];
    memcpy(d, &h->d, sizeof d);
    if (h->negative)
        crypto_core_ed25519_scalar_negate(d, d);
    crypto_core_ed25519_scalar_mul(ck, (const uint8_t *)&h->c, (const uint8_t *)k);
    crypto_core_ed25519_scalar_mul(cs, (const uint8_t *)&h->c, (const uint8_t *)s);
    assert_memory_equal(ck, d, 32);
    assert_memory_equal(cs, &h->cs, 32);
    assert_true(scalar_bits(&h->c) > 0);
    /* With half a window more in each digit of 4 bits both fit 128 bits: below 0x7777.. = 7 * 2^124 + .. */
    assert_true(scalar_bits(&h->c) <= 127 && h->c.w[1] < UINT64_C(0x7000000000000000));
    assert_true(scalar_bits(&h->d) <= 127 && h->d.w[1] < UINT64_C(0x7000000000000000));
}

/* Eight, by every code that this CPU can run. */
static void check_eight(const struct ed25519_scalar k[8], const struct ed25519_scalar s[8])
{
    for (int i = 0; i < 8; i++) {
        struct ed25519_halves h = scalar_halve(&k[i], &s[i]);
        check(&k[i], &s[i], &h);
    }
#if defined(__x86_64__)
    if (ch_cpu_features() & CH_CPU_AVX512IFMA) {
        struct ed25519_halves h[8];
        halve_eight_avx512ifma(k, s, h);
        for (int i = 0; i < 8; i++)
            check(&k[i], &s[i], &h[i]);
    }
#endif
}

static void random_scalars_are_halved(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    for (int round = 0; round < (test_full() ? 200000 : 2000); round++) {
        struct ed25519_scalar k[8], s[8];
        for (int i = 0; i < 8; i++) {
            random_scalar(&g, &k[i]);
            random_scalar(&g, &s[i]);
        }
        check_eight(k, s);
    }
}

/* Quotients of one bit and of many: small numbers, powers of two, their inverses, and what is next to them, negated
 * too. Lanes that are done early stand beside lanes that are not. */
static void scalars_at_the_edges_are_halved(void **state)
{
    struct ch_prng g;
    struct ed25519_scalar k[8], s[8];
    uint32_t count = 0;
    ch_prng_seed(&g, test_seed() + 1);
    for (int bit = 0; bit < 253; bit++)
        for (int kind = 0; kind < 12; kind++) {
            struct ed25519_scalar power = {{0}}, near = {{(uint64_t)(kind % 3)}}, two = {{2}};
            power.w[bit / 64] = UINT64_C(1) << bit % 64;
            crypto_core_ed25519_scalar_sub((uint8_t *)&power, (uint8_t *)&power, (uint8_t *)&near);
            if (kind / 3 % 2 && !sodium_is_zero((uint8_t *)&power, 32))
                crypto_core_ed25519_scalar_invert((uint8_t *)&power, (uint8_t *)&power);
            if (kind / 6)
                crypto_core_ed25519_scalar_negate((uint8_t *)&power, (uint8_t *)&power);
            k[count % 8] = power;
            random_scalar(&g, &s[count % 8]);
            if (count % 5 == 0)
                crypto_core_ed25519_scalar_sub((uint8_t *)&s[count % 8], (uint8_t *)&power, (uint8_t *)&two);
            if (++count % 8 == 0)
                check_eight(k, s);
        }
    assert_int_equal(count, 253 * 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_scalars_are_halved),
        cmocka_unit_test(scalars_at_the_edges_are_halved),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
