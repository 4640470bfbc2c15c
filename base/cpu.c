#include "base/cpu.h"

#include <string.h>

static uint32_t cpu_mask = CH_CPU_ALL;

static uint32_t detect(void)
{
    uint32_t f = 0;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
        f |= CH_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        f |= CH_CPU_AVX512;
    if ((f & CH_CPU_AVX512) && __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vbmi"))
        f |= CH_CPU_AVX512IFMA;
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    __asm__("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(7), "c"(0));
    if (ebx & (1u << 29))
        f |= CH_CPU_SHA;
    if (__builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul"))
        f |= CH_CPU_AES;
    return f;
}

uint32_t ch_cpu_features(void)
{
    static uint32_t detected, known;
    if (!known) {
        detected = detect();
        known = 1;
    }
    return detected & cpu_mask;
}

void ch_cpu_set_mask(uint32_t mask)
{
    cpu_mask = mask;
}

ch_err ch_cpu_parse_mask(const char *word, uint32_t *mask)
{
    static const struct {
        const char *word;
        uint32_t mask;
    } words[] = {
        {"all", CH_CPU_ALL},
        {"avx512ifma", CH_CPU_ALL},
        {"avx512", CH_CPU_ALL & ~CH_CPU_AVX512IFMA},
        {"avx2", CH_CPU_ALL & ~(CH_CPU_AVX512IFMA | CH_CPU_AVX512)},
        {"portable", CH_CPU_ALL & ~(CH_CPU_AVX512IFMA | CH_CPU_AVX512 | CH_CPU_AVX2)},
        {"no-aes", CH_CPU_ALL & ~CH_CPU_AES},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].word, word) == 0) {
            *mask = words[i].mask;
            return CH_OK;
        }
    return CH_ERR_INVALID;
}
