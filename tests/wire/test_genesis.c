#include "tests/test.h"
#include "wire/genesis.h"

static const char golden[] =
    "010004746573740068e5cf8b010000010200010101010101010101010101010101010101010101010101010101010101"
    "0101010000000e003132372e302e302e313a343734300404040404040404040404040404040404040404040404040404"
    "0404040404040300000012005b323030313a6462383a3a315d3a34373430020002020202020202020202020202020202"
    "020202020202020202020202020202020707070707070707070707070707070707070707070707070707070707070707"
    "c0d40100000000003075000000000000000040000000000000c87e9a00000000005c26050000000000840c2400000000"
    "e80300000000000002000000000000000100000000000000c80000000000000000000400000000000040000000000000"
    "100000000000000004000000000000002000000000000000000000000000000000000000000000000000000000000000";
#define GOLDEN_BYTES (sizeof golden / 2)
/* SHA-256("chappe/chain/1" 0 | those bytes), by another program. */
static const char golden_id[] = "06b88484ad8ad40cf2e4e149cf1761b56998a3df25b1f6c209756eeec3ef4694";

static struct ch_genesis g, decoded; /* large */
static uint8_t bytes[CH_GENESIS_BYTES_MAX + 1], out[CH_GENESIS_BYTES_MAX];

static void from_hex(const char *hex, uint8_t *to, size_t length)
{
    for (size_t i = 0; i < length; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &to[i]), 1);
}

/* The golden chain, its validators and registrars in the wrong order. */
static void make(void)
{
    ch_genesis_defaults(&g, 4);
    strcpy(g.name, "test");
    g.start_ms = 1700000000000;
    g.validator_count = g.registrar_count = 2;
    memset(g.validators[0].key, 4, 32);
    g.validators[0].stake = 3;
    strcpy(g.validators[0].address, "[2001:db8::1]:4740");
    memset(g.validators[1].key, 1, 32);
    g.validators[1].stake = 1;
    strcpy(g.validators[1].address, "127.0.0.1:4740");
    memset(g.registrars[0], 7, 32);
    memset(g.registrars[1], 2, 32);
}

static void golden_bytes_are_read_and_written(void **state)
{
    uint8_t id[32], expected_id[32];
    make();
    from_hex(golden, bytes, GOLDEN_BYTES);
    from_hex(golden_id, expected_id, 32);
    assert_int_equal(ch_genesis_encode(&g, out), GOLDEN_BYTES);
    assert_memory_equal(out, bytes, GOLDEN_BYTES);
    assert_ok(ch_genesis_decode(bytes, GOLDEN_BYTES, &decoded));
    assert_string_equal(decoded.name, "test");
    assert_int_equal(decoded.validators[1].stake, 3);
    assert_string_equal(decoded.validators[1].address, "[2001:db8::1]:4740");
    assert_int_equal(decoded.registrars[0][0], 2);
    assert_true(decoded.require_relation);
    assert_int_equal(decoded.limits.window_back_ms, 120000);
    assert_int_equal(decoded.limits.open_requests, 1000);
    assert_int_equal(decoded.params.max_payload, 1 << 18);
    assert_int_equal(decoded.params.profile, 0);
    assert_int_equal(ch_genesis_encode(&decoded, out), GOLDEN_BYTES);
    assert_memory_equal(out, bytes, GOLDEN_BYTES);
    ch_genesis_chain_id(bytes, GOLDEN_BYTES, id);
    assert_memory_equal(id, expected_id, 32);
}

static void truncated_and_trailing_bytes_are_refused(void **state)
{
    from_hex(golden, bytes, GOLDEN_BYTES);
    decoded.start_ms = 77;
    for (size_t cut = 0; cut < GOLDEN_BYTES; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1);
        assert_non_null(exact);
        memcpy(exact, bytes, cut);
        assert_int_equal(ch_genesis_decode(exact, cut, &decoded), CH_ERR_INVALID);
        free(exact);
    }
    bytes[GOLDEN_BYTES] = 0;
    assert_int_equal(ch_genesis_decode(bytes, GOLDEN_BYTES + 1, &decoded), CH_ERR_INVALID);
    assert_int_equal(decoded.start_ms, 77);
}

/* A flipped bit is refused or is another chain: it never decodes to something that encodes to other bytes. */
static void flipped_bits_make_another_chain(void **state)
{
    uint8_t id[32], other[32];
    from_hex(golden, bytes, GOLDEN_BYTES);
    ch_genesis_chain_id(bytes, GOLDEN_BYTES, id);
    for (size_t bit = 0; bit < 8 * GOLDEN_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (ch_genesis_decode(bytes, GOLDEN_BYTES, &decoded) == CH_OK) {
            assert_int_equal(ch_genesis_encode(&decoded, out), GOLDEN_BYTES);
            assert_memory_equal(out, bytes, GOLDEN_BYTES);
            ch_genesis_chain_id(out, GOLDEN_BYTES, other);
            assert_memory_not_equal(id, other, 32);
        }
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void refused(const char *what)
{
    if (ch_genesis_encode(&g, out) != 0)
        fail_msg("%s was taken", what);
    make();
    assert_true(ch_genesis_encode(&g, out) > 0);
    make();
}

static void values_out_of_range_are_refused(void **state)
{
    make();
    g.name[0] = 0;
    refused("no name");
    g.validator_count = 0;
    refused("no validator");
    g.validators[0].stake = 0;
    refused("no stake");
    memcpy(g.validators[1].key, g.validators[0].key, 32);
    refused("the same validator twice");
    g.validators[0].stake = g.validators[1].stake = 1u << 31;
    refused("stakes of 2^32 together");
    memcpy(g.registrars[1], g.registrars[0], 32);
    refused("the same registrar twice");
    g.start_ms = 1ull << 48;
    refused("a start beyond reason");
    g.limits.window_ids = 0;
    refused("no window");
    g.limits.window_back_ms = 1ull << 48;
    refused("an endless window");
    g.params.leaders_per_round = 3;
    refused("more leaders than validators");
    g.params.wait_ranks = 3;
    refused("more ranks than leaders");
    g.params.max_votes = g.params.leaders_per_round - 1;
    refused("a round's commits do not fit into a block's votes");
    g.params.gc_depth = 7;
    refused("too little depth");
    g.params.profile = 2;
    refused("an unknown profile");
    g.params.payload_code = 2;
    refused("an unknown code");
    g.params.max_payload = 1199;
    refused("a payload too small for a transaction");
}

static void full_committee_fits(void **state)
{
    ch_genesis_defaults(&g, CH_VALIDATORS_MAX);
    memset(g.name, 'n', CH_GENESIS_NAME_BYTES_MAX);
    g.validator_count = CH_VALIDATORS_MAX;
    g.registrar_count = CH_REGISTRARS_MAX;
    for (unsigned i = 0; i < CH_VALIDATORS_MAX; i++) {
        g.validators[i].key[0] = (uint8_t)i;
        g.validators[i].stake = 1;
        memset(g.validators[i].address, 'a', CH_GENESIS_ADDRESS_BYTES_MAX);
    }
    for (unsigned i = 0; i < CH_REGISTRARS_MAX; i++)
        g.registrars[i][31] = (uint8_t)i;
    assert_int_equal(ch_genesis_encode(&g, out), CH_GENESIS_BYTES_MAX);
    assert_ok(ch_genesis_decode(out, CH_GENESIS_BYTES_MAX, &decoded));
    assert_memory_equal(g.validators, decoded.validators, sizeof g.validators);
    assert_memory_equal(g.registrars, decoded.registrars, sizeof g.registrars);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes_are_read_and_written),
        cmocka_unit_test(truncated_and_trailing_bytes_are_refused),
        cmocka_unit_test(flipped_bits_make_another_chain),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(full_committee_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
