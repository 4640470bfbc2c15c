/* Compiled with the flags of the kernel; called where the CPU has them. */
#define CHAINS 1
#include "crypto/ed25519_field_avx512ifma.h"

#include "crypto/ed25519_halve_avx512ifma.h"

void halve_eight_avx512ifma(const struct ed25519_scalar k[8], const struct ed25519_scalar s[8],
                            struct ed25519_halves halves[8]);

void halve_eight_avx512ifma(const struct ed25519_scalar k[8], const struct ed25519_scalar s[8],
                            struct ed25519_halves halves[8])
{
    halve_lanes(k, s, halves);
}
