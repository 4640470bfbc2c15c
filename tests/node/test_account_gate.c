#include "node/account_gate.h"
#include "tests/test.h"

#define SECOND_NS UINT64_C(1000000000)
#define RATE      100

static struct ch_account_gate gate;

static int begin(void **state)
{
    struct ch_prng g;
    uint64_t salt[4];
    ch_prng_seed(&g, test_seed());
    test_random_bytes(&g, salt, sizeof salt);
    assert_ok(ch_account_gate_open(&gate, RATE, salt));
    return 0;
}

static int end(void **state)
{
    ch_account_gate_close(&gate);
    return 0;
}

static unsigned take(uint64_t account, unsigned tries, uint64_t now_ns)
{
    uint8_t key[32] = {0};
    unsigned taken = 0;
    ch_store64(key + 8 * (account % 4), account); /* keys that differ in one place only */
    for (unsigned i = 0; i < tries; i++)
        taken += ch_account_gate_take(&gate, key, now_ns);
    return taken;
}

static void account_gets_its_rate_and_no_more(void **state)
{
    uint64_t now_ns = 7 * SECOND_NS;
    assert_int_equal(take(1, 1000, now_ns), RATE); /* a second's worth at once */
    assert_int_equal(take(1, 1000, now_ns + SECOND_NS / 4), RATE / 4);
    assert_int_equal(take(1, 1000, now_ns + 60 * SECOND_NS), RATE);
}

static void accounts_slow_only_themselves(void **state)
{
    const unsigned accounts = 2000, share = CH_ACCOUNT_BUCKETS / accounts;
    unsigned full = 0;
    assert_int_equal(take(accounts, 1000, 7 * SECOND_NS), RATE);
    for (unsigned a = 0; a < accounts; a++)
        full += take(a, RATE, 7 * SECOND_NS) == RATE;
    /* of so few, about one in `share` meets another in its bucket */
    assert_true(full > accounts - 4 * accounts / share);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(account_gets_its_rate_and_no_more, begin, end),
        cmocka_unit_test_setup_teardown(accounts_slow_only_themselves, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
