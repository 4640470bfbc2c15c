/* base/cpu.h - what this CPU can do, so that kernels are chosen at start and not at compile time.
 *
 * A mask takes features away, so that tests and users force each kernel. Thread: set the mask before other threads run.
 */
#ifndef CHAPPE_BASE_CPU_H
#define CHAPPE_BASE_CPU_H

#include "base/error.h"

#include <stdint.h>

#define CH_CPU_AVX2       (1u << 0) /* AVX2 and BMI2, enabled by the operating system */
#define CH_CPU_AVX512     (1u << 1) /* F, BW, DQ, VL */
#define CH_CPU_AVX512IFMA (1u << 2) /* with CH_CPU_AVX512 and VBMI */
#define CH_CPU_SHA        (1u << 3)
#define CH_CPU_AES        (1u << 4) /* AES-NI and PCLMULQDQ */
#define CH_CPU_ALL        0xffffffffu

/* The features of the CPU that the mask leaves. */
uint32_t ch_cpu_features(void);
/* Only features in `mask` count from now on. */
void ch_cpu_set_mask(uint32_t mask);
/* Parses "avx512ifma", "avx512", "avx2", "portable", "no-aes" (each names the best level that remains) or "all" into a
 * mask. CH_ERR_INVALID for another word. */
CH_MUST_CHECK ch_err ch_cpu_parse_mask(const char *word, uint32_t *mask);

#endif
