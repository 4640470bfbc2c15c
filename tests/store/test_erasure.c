/* store/erasure.h: any k of n shards give the data back, for all k-subsets of small codes and random ones of large. */
#include "store/erasure.h"

#include "tests/test.h"

#define BYTES 192u /* of a shard: three vectors */

static uint8_t whole[CH_SHARDS_MAX * BYTES], partial[CH_SHARDS_MAX * BYTES];
static struct ch_erasure code;

static void fill(struct ch_prng *g, unsigned n, unsigned k)
{
    ch_erasure_init(&code, n, k);
    test_random_bytes(g, whole, (size_t)k * BYTES);
    memset(whole + (size_t)k * BYTES, 0xee, (size_t)(n - k) * BYTES);
    ch_erasure_encode(&code, whole, BYTES);
}

/* Decodes with these alone, encodes again, and compares all n. */
static void check(unsigned n, uint32_t present)
{
    for (unsigned i = 0; i < n; i++)
        if (present >> i & 1)
            memcpy(partial + i * BYTES, whole + i * BYTES, BYTES);
        else
            memset(partial + i * BYTES, 0xdd, BYTES);
    ch_erasure_decode(&code, partial, BYTES, present);
    ch_erasure_encode(&code, partial, BYTES);
    assert_memory_equal(partial, whole, (size_t)n * BYTES);
}

static void any_k_of_few_give_the_data(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 1);
    unsigned subsets = 0;
    for (unsigned n = 1; n <= 10; n++)
        for (unsigned k = 1; k <= n; k++) {
            fill(&g, n, k);
            for (uint32_t present = 0; present < 1u << n; present++)
                if ((unsigned)__builtin_popcount(present) == k) {
                    check(n, present);
                    subsets++;
                }
        }
    assert_int_equal(subsets, 2046 - 10); /* all but the empty ones: sum of 2^n - 1 */
}

static void any_k_of_32_give_the_data(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 2);
    for (int round = 0; round < (test_full() ? 20000 : 500); round++) {
        unsigned k = 1 + (unsigned)ch_prng_below(&g, 32), have = 0;
        uint32_t present = 0;
        fill(&g, 32, round % 2 ? 11 : k);
        k = code.k;
        unsigned give = k + (unsigned)ch_prng_below(&g, 33 - k);
        while (have < give) {
            uint32_t bit = 1u << ch_prng_below(&g, 32);
            have += !(present & bit);
            present |= bit;
        }
        check(32, present);
    }
}

static void one_changed_bit_shows_when_encoded_again(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 3);
    for (int round = 0; round < 200; round++) {
        fill(&g, 7, 3);
        uint32_t present = 0x29; /* 0, 3 and 5 */
        unsigned bad = (unsigned[]){0, 3, 5}[round % 3];
        memcpy(partial, whole, sizeof partial);
        partial[bad * BYTES + ch_prng_below(&g, BYTES)] ^= (uint8_t)(1 << ch_prng_below(&g, 8));
        ch_erasure_decode(&code, partial, BYTES, present);
        ch_erasure_encode(&code, partial, BYTES);
        unsigned different = 0; /* a code of distance 5: two words differ in 5 of 7 shards at least */
        for (unsigned i = 0; i < 7; i++)
            different += memcmp(partial + i * BYTES, whole + i * BYTES, BYTES) != 0;
        assert_true(different >= 5);
    }
}

static void an_empty_shard_is_one(void **state)
{
    uint8_t nothing[1] = {7};
    ch_erasure_init(&code, 4, 2);
    ch_erasure_encode(&code, nothing, 0);
    ch_erasure_decode(&code, nothing, 0, 0xc);
    assert_int_equal(nothing[0], 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_k_of_few_give_the_data),
        cmocka_unit_test(any_k_of_32_give_the_data),
        cmocka_unit_test(one_changed_bit_shows_when_encoded_again),
        cmocka_unit_test(an_empty_shard_is_one),
    };
    return cmocka_run_group_tests_name("store/erasure", tests, NULL, NULL);
}
