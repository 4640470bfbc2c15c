/* bench/ed25519_counted.h - put before a copy of the AVX-512 IFMA kernel and of what drives it: that copy counts what
 * it asks of the multiplier's port, and has names of its own.
 */
#ifndef CHAPPE_BENCH_ED25519_COUNTED_H
#define CHAPPE_BENCH_ED25519_COUNTED_H

#include <immintrin.h>
#include <stdint.h>

/* Instructions of 512 bits count 2, those of 256 bits 1: two of these take the time of one of those. */
extern uint64_t bench_multiplier_halves;

/* Nanoseconds that one such instruction of 512 bits takes at best; measured at each call. */
double bench_multiplier_ns(void);

#ifdef BENCH_COUNTED_COPY
#define _mm512_madd52lo_epu64(...) (bench_multiplier_halves += 2, (_mm512_madd52lo_epu64)(__VA_ARGS__))
#define _mm512_madd52hi_epu64(...) (bench_multiplier_halves += 2, (_mm512_madd52hi_epu64)(__VA_ARGS__))
#define _mm512_mullo_epi64(...)    (bench_multiplier_halves += 2, (_mm512_mullo_epi64)(__VA_ARGS__))
#define _mm256_madd52lo_epu64(...) (bench_multiplier_halves += 1, (_mm256_madd52lo_epu64)(__VA_ARGS__))
#define _mm256_madd52hi_epu64(...) (bench_multiplier_halves += 1, (_mm256_madd52hi_epu64)(__VA_ARGS__))
#define _mm256_mullo_epi64(...)    (bench_multiplier_halves += 1, (_mm256_mullo_epi64)(__VA_ARGS__))

#define ch_ed25519_avx512ifma       counted_ed25519_avx512ifma
#define ch_ed25519_sum_avx512ifma   counted_ed25519_sum_avx512ifma
#define ch_ed25519_check_avx512ifma counted_ed25519_check_avx512ifma
#define ch_ed25519_choose           counted_ed25519_choose
#define ch_ed25519_base_multiples   counted_ed25519_base_multiples
#define ch_ed25519_kernel           counted_ed25519_kernel
#define ch_ed25519_kernel_usable    counted_ed25519_kernel_usable
#define ch_ed25519_kernel_in_use    counted_ed25519_kernel_in_use
#define ch_ed25519_open             counted_ed25519_open
#define ch_ed25519_close            counted_ed25519_close
#define ch_ed25519_verify           counted_ed25519_verify
#define ch_ed25519_verify_each      counted_ed25519_verify_each
#define ch_ed25519_counters         counted_ed25519_counters
#endif

#endif
