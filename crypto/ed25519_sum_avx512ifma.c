/* The kernel for CPUs with AVX-512 IFMA, second part: sums and single checks, eight lanes. A point's formula has three
 * or four products that don't wait for each other, so a second chain would only double the code. */
#define CHAINS 1
#include "crypto/ed25519_field_avx512ifma.h"

#include "crypto/ed25519_halve_avx512ifma.h"
#include "crypto/ed25519_horner_avx512ifma.h"
#include "crypto/ed25519_kernel_avx512ifma.h"

/* See ed25519_sum_impl.h. */
static void recode(const struct ed25519_scalar *scalars, size_t count, const struct ed25519_windows *windows,
                   uint32_t first, uint32_t end, uint32_t top, uint16_t *digits, size_t stride)
{
    for (size_t i = 0; i < count; i += 8) {
        struct ed25519_scalar last[8];
        const struct ed25519_scalar *eight = scalars + i;
        __m512i w[8];
        if (count - i < 8) {
            memset(last, 0, sizeof last);
            memcpy(last, eight, (count - i) * sizeof *eight);
            eight = last;
        }
        UNROLL for (int lane = 0; lane < 8; lane++)
            w[lane] = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)eight[lane].w));
        transpose(w);
        w[4] = _mm512_setzero_si512();
        __mmask8 used = count - i < 8 ? (__mmask8)((1u << (count - i)) - 1) : 0xff;
        for (uint32_t window = first; window < end; window++) {
            uint32_t word = windows->offset[window] / 64, shift = windows->offset[window] % 64;
            uint64_t half = UINT64_C(1) << (windows->width[window] - 1);
            __m512i low = _mm512_srlv_epi64(w[word], constant(shift));
            __m512i high = _mm512_sllv_epi64(w[word + 1], constant(64 - shift)); /* 0 for a shift of 64 */
            __m512i bits = _mm512_and_si512(_mm512_or_si512(low, high),
                                            constant(window + 1 == top ? 4 * half - 1 : 2 * half - 1));
            __m512i digit = _mm512_sub_epi64(bits, constant(half)), sign = _mm512_srai_epi64(digit, 63);
            __m512i code = _mm512_sub_epi64(_mm512_slli_epi64(_mm512_abs_epi64(digit), 1), sign);
            _mm_mask_storeu_epi16(digits + (window - first) * stride + i, used, _mm512_cvtepi64_epi16(code));
        }
    }
}

#define OWN_PARTS
#include "crypto/ed25519_lanes_impl.h"
#include "crypto/ed25519_sum_impl.h"

void ch_ed25519_sum_avx512ifma(const struct ed25519_row *rows, const struct ed25519_terms *terms,
                               const struct ed25519_windows *windows, struct ed25519_scratch *scratch,
                               struct ed25519_point *total)
{
    sum_terms(rows, terms, windows, scratch, total);
}

void ch_ed25519_check_avx512ifma(const struct ed25519_row *rows, const uint32_t *r_row, const uint32_t *key_row,
                                 const struct ed25519_scalar *s, const struct ed25519_scalar *k, size_t count,
                                 const struct ed25519_row *base_multiples, struct ed25519_scratch *scratch,
                                 bool *valid)
{
    check_lanes(rows, r_row, key_row, s, k, count, base_multiples, scratch, valid);
}
