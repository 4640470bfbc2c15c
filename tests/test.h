/* tests/test.h - cmocka with what it needs, and the seed of a run: printed always, given by CHAPPE_SEED. */
#ifndef CHAPPE_TESTS_TEST_H
#define CHAPPE_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/prng.h"
#include "base/time.h"

#define assert_ok(call) assert_int_equal((call), CH_OK)

/* The folder or word of a meson option handed on in the environment, or NULL when it is empty. */
static inline const char *test_option(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

static inline bool test_full(void)
{
    const char *size = test_option("CHAPPE_TEST_SIZE");
    return size && strcmp(size, "full") == 0;
}

static inline uint64_t test_seed(void)
{
    static uint64_t seed;
    static bool known;
    if (!known) {
        const char *given = test_option("CHAPPE_SEED");
        seed = given ? strtoull(given, NULL, 0) : ch_time_monotonic_ns() ^ ch_time_unix_ms() << 20;
        known = true;
        printf("seed %llu (CHAPPE_SEED)\n", (unsigned long long)seed);
        fflush(stdout);
    }
    return seed;
}

static inline void test_random_bytes(struct ch_prng *g, void *to, size_t length)
{
    uint8_t *p = to;
    for (size_t i = 0; i < length; i++)
        p[i] = (uint8_t)ch_prng_next(g);
}

#endif
