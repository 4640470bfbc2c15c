#include "node/hose_gate.h"
#include "tests/test.h"

#define SECOND_NS UINT64_C(1000000000)

static struct ch_hose_gate gate;

static struct ch_address address(const char *text)
{
    struct ch_address parsed;
    uint8_t bits;
    assert_ok(ch_address_parse(text, &parsed, &bits));
    return parsed;
}

static bool allows(const char *text)
{
    struct ch_address from = address(text);
    return ch_hose_gate_allows(&gate, &from);
}

static void only_sources_in_listed_networks_are_let_in(void **state)
{
    assert_ok(ch_hose_gate_init(&gate, "10.0.0.0/8,192.0.2.7,2001:db8::/32", 1, 0));
    assert_int_equal(gate.network_count, 3);
    assert_true(allows("10.255.0.1"));
    assert_true(allows("192.0.2.7"));
    assert_true(allows("2001:db8:1::1"));
    assert_false(allows("11.0.0.1"));
    assert_false(allows("192.0.2.8"));
    assert_false(allows("2001:db9::1"));
    assert_ok(ch_hose_gate_init(&gate, "", 1, 0));
    assert_false(allows("10.0.0.1"));
}

static void list_that_is_none_is_refused(void **state)
{
    assert_true(ch_hose_gate_init(&gate, "10.0.0.0/33", 1, 0) != CH_OK);
    assert_true(ch_hose_gate_init(&gate, "towers", 1, 0) != CH_OK);
    assert_true(ch_hose_gate_init(&gate, "10.0.0.1,,10.0.0.2", 1, 0) != CH_OK);
    char many[CH_HOSE_NETWORKS_MAX * 16 + 32] = "";
    for (int i = 0; i < CH_HOSE_NETWORKS_MAX + 1; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "%s10.0.0.%d", i ? "," : "", i);
    assert_int_equal(ch_hose_gate_init(&gate, many, 1, 0), CH_ERR_INVALID);
    *strrchr(many, ',') = 0;
    assert_ok(ch_hose_gate_init(&gate, many, 1, 0));
}

static void bucket_gives_its_rate_and_no_more(void **state)
{
    assert_ok(ch_hose_gate_init(&gate, "", 1000, 0));
    uint64_t now_ns = 5 * SECOND_NS, taken = 0;
    assert_true(ch_hose_gate_take(&gate, 3, 1000, now_ns)); /* a second's worth at once */
    assert_false(ch_hose_gate_take(&gate, 3, 1, now_ns));
    assert_true(ch_hose_gate_take(&gate, 4, 1, now_ns)); /* others have their own */
    for (int ms = 1; ms <= 500; ms++)
        taken += ch_hose_gate_take(&gate, 3, 2, now_ns + (uint64_t)ms * 1000000);
    assert_int_equal(taken, 250);
    now_ns += 100 * SECOND_NS; /* a long rest saves up no more than a second's worth */
    assert_true(ch_hose_gate_take(&gate, 3, 1000, now_ns));
    assert_false(ch_hose_gate_take(&gate, 3, 1, now_ns));
    assert_false(ch_hose_gate_take(&gate, 3, 1001, now_ns + 2 * SECOND_NS));
}

static void polls_faster_than_a_token_lose_none(void **state)
{
    assert_ok(ch_hose_gate_init(&gate, "", 100, 0)); /* a token each 10 ms */
    uint64_t start_ns = SECOND_NS, taken = 0;
    assert_true(ch_hose_gate_take(&gate, 0, 100, start_ns));
    for (uint64_t at_ns = 0; at_ns <= 900000000u; at_ns += 1000000)
        taken += ch_hose_gate_take(&gate, 0, 1, start_ns + at_ns);
    assert_in_range(taken, 89, 90);
}

static void slot_depends_on_the_address_and_the_salt_alone(void **state)
{
    struct ch_prng g;
    uint32_t moved = 0;
    ch_prng_seed(&g, test_seed());
    for (int i = 0; i < 1000; i++) {
        struct ch_address from = {.port = (uint16_t)i};
        test_random_bytes(&g, from.ip, sizeof from.ip);
        gate.salt = 1;
        uint16_t slot = ch_hose_gate_slot(&gate, &from);
        assert_in_range(slot, 0, CH_HOSE_SOURCES - 1);
        from.port++;
        assert_int_equal(ch_hose_gate_slot(&gate, &from), slot);
        gate.salt = 2;
        moved += ch_hose_gate_slot(&gate, &from) != slot;
    }
    assert_true(moved > 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_sources_in_listed_networks_are_let_in),
        cmocka_unit_test(list_that_is_none_is_refused),
        cmocka_unit_test(bucket_gives_its_rate_and_no_more),
        cmocka_unit_test(polls_faster_than_a_token_lose_none),
        cmocka_unit_test(slot_depends_on_the_address_and_the_salt_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
