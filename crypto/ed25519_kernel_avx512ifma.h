/* crypto/ed25519_kernel_avx512ifma.h - the parts of the kernel that have a file of their own; see
 * ed25519_kernel_code. */
#ifndef CHAPPE_CRYPTO_ED25519_KERNEL_AVX512IFMA_H
#define CHAPPE_CRYPTO_ED25519_KERNEL_AVX512IFMA_H

#include "crypto/ed25519_impl.h"

void ch_ed25519_sum_avx512ifma(const struct ed25519_row *rows, const struct ed25519_terms *terms,
                               const struct ed25519_windows *windows, struct ed25519_scratch *scratch,
                               struct ed25519_point *total);
void ch_ed25519_check_avx512ifma(const struct ed25519_row *rows, const uint32_t *r_row, const uint32_t *key_row,
                                 const struct ed25519_scalar *s, const struct ed25519_scalar *k, size_t count,
                                 const struct ed25519_row *base_multiples, struct ed25519_scratch *scratch,
                                 bool *valid);

#endif
