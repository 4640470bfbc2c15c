/* How fast this CPU's multipliers are. */
#include "base/time.h"
#include "bench/ed25519_counted.h"

#define ROUNDS  400
#define REPEATS 800

uint64_t bench_multiplier_halves;

/* The instruction stays what it is, though nobody asks for the sum. */
#define MULTIPLY(sum)                                                                                                  \
    sum = _mm512_madd52lo_epu64(sum, x, x);                                                                            \
    __asm__ volatile("" : "+v"(sum))

double bench_multiplier_ns(void)
{
    /* Ten chains: two a cycle with a latency of four would need eight. */
    const __m512i x = _mm512_set1_epi64(3);
    __m512i a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x;
    uint64_t least_ns = UINT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t start = ch_time_monotonic_ns();
        for (int repeat = 0; repeat < REPEATS; repeat++) {
            MULTIPLY(a);
            MULTIPLY(b);
            MULTIPLY(c);
            MULTIPLY(d);
            MULTIPLY(e);
            MULTIPLY(f);
            MULTIPLY(g);
            MULTIPLY(h);
            MULTIPLY(i);
            MULTIPLY(j);
        }
        uint64_t took = ch_time_monotonic_ns() - start;
        least_ns = took < least_ns ? took : least_ns;
    }
    return (double)least_ns / (10 * REPEATS);
}
