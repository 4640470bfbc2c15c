/* A payload's bytes, whoever made them, as transactions: where one ends is its own length's to say, and nothing
 * else's. */
#include "node/flow.h"
#include "tests/test.h"

#define COUNT_MAX 4

static uint8_t bytes[8 * CH_TX_BYTES_MAX];
static struct ch_payload_tx txs[COUNT_MAX];
static struct ch_payload payload = {.bytes = bytes, .txs = txs, .bytes_max = sizeof bytes, .count_max = COUNT_MAX};

static uint8_t *add(uint16_t kind, uint16_t says, uint16_t length)
{
    uint8_t *at = bytes + payload.length;
    memset(at, (int)payload.length & 0xff, length);
    ch_store16(at + 104, kind);
    ch_store16(at + CH_TX_LENGTH_OFFSET, says);
    payload.length += length;
    return at;
}

static uint32_t take_apart(void)
{
    memset(txs, 0xee, sizeof txs);
    ch_payload_take_apart(&payload);
    for (uint32_t i = 0, at = 0; i < payload.count; i++) {
        uint8_t id[CH_HASH_BYTES];
        const uint16_t length = ch_load16(bytes + at + CH_TX_LENGTH_OFFSET);
        ch_hash(bytes + at, length, id);
        assert_int_equal(txs[i].offset, at);
        assert_memory_equal(txs[i].id, id, sizeof id);
        assert_false(txs[i].signature_ok || txs[i].approval_ok || txs[i].status || txs[i].source.connection);
        at += length;
    }
    return payload.count;
}

static int begin(void **state)
{
    payload.length = payload.count = 0;
    return 0;
}

static void malformed_transaction_takes_its_own_place_alone(void **state)
{
    add(CH_TX_REVOKE, 144, 144);
    add(0x7777, 300, 300); /* no such kind */
    add(CH_TX_REVOKE, 144, 144);
    assert_int_equal(take_apart(), 3);
}

static void length_that_none_can_have_discards_the_rest(void **state)
{
    static const uint16_t lengths[] = {0, 111, CH_TX_BYTES_MAX + 1, 0xffff};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        begin(state);
        add(CH_TX_REVOKE, 144, 144);
        add(CH_TX_REVOKE, lengths[i], 144);
        add(CH_TX_REVOKE, 144, 144);
        assert_int_equal(take_apart(), 1);
    }
}

static void transaction_that_reaches_beyond_the_end_is_discarded(void **state)
{
    add(CH_TX_REVOKE, 144, 144);
    add(CH_TX_REVOKE, 144, 143);
    assert_int_equal(take_apart(), 1);
    begin(state);
    add(CH_TX_REVOKE, 144, 144);
    payload.length += CH_TX_BYTES_MIN - 1;
    assert_int_equal(take_apart(), 1);
    begin(state);
    assert_int_equal(take_apart(), 0);
}

static void more_than_a_payload_may_hold_are_discarded(void **state)
{
    for (unsigned i = 0; i < COUNT_MAX + 1; i++)
        add(CH_TX_REVOKE, 144, 144);
    assert_int_equal(take_apart(), COUNT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(malformed_transaction_takes_its_own_place_alone, begin),
        cmocka_unit_test_setup(length_that_none_can_have_discards_the_rest, begin),
        cmocka_unit_test_setup(transaction_that_reaches_beyond_the_end_is_discarded, begin),
        cmocka_unit_test_setup(more_than_a_payload_may_hold_are_discarded, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
