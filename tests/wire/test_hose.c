#include "tests/test.h"
#include "wire/hose.h"

static uint8_t datagram[CH_HOSE_HEADER_BYTES + 3 * CH_TX_BYTES_MAX];
static size_t length, tx_length;

/* So many revocations, the header promises `count` of them. */
static void build(unsigned there, uint16_t count)
{
    static const uint8_t key[CH_KEY_BYTES] = {5};
    length = CH_HOSE_HEADER_BYTES;
    for (unsigned i = 0; i < there; i++, length += tx_length) {
        uint8_t bytes[CH_TX_BYTES_MAX];
        tx_length = ch_tx_encode(&(struct ch_tx){.kind = CH_TX_REVOKE, .sender = key, .peer = key, .salt = i}, bytes);
        assert_true(tx_length > 0);
        memcpy(datagram + length, bytes, tx_length);
    }
    ch_hose_header_write(datagram, count, (uint16_t)length);
}

static struct ch_hose_walk walk_of(unsigned *met)
{
    struct ch_tx tx;
    uint16_t count = 0;
    assert_true(ch_hose_check(datagram, length, &count));
    struct ch_hose_walk walk = ch_hose_walk(datagram, length, count);
    for (*met = 0; ch_hose_next(&walk, &tx); ++*met)
        assert_int_equal(tx.salt, *met);
    return walk;
}

static void promised_transactions_are_met_in_order(void **state)
{
    unsigned met;
    build(3, 3);
    struct ch_hose_walk walk = walk_of(&met);
    assert_int_equal(met, 3);
    assert_int_equal(walk.left, 0);
    assert_false(ch_hose_surplus(&walk));
}

static void header_that_does_not_fit_is_refused(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 'c'}, {1, 'H'}, {2, 0}, {2, 2}, {3, 1}, {4, 0}, {6, 0}, {7, 0xff}};
    uint16_t count = 0;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        build(1, 1);
        datagram[wrong[i].at] = wrong[i].value;
        assert_false(ch_hose_check(datagram, length, &count));
    }
    build(1, 1);
    for (size_t cut = 0; cut < length; cut++)
        assert_false(ch_hose_check(datagram, cut, &count));
    assert_false(ch_hose_check(datagram, length + 1, &count));
    build(0, 1);
    assert_false(ch_hose_check(datagram, length, &count));
}

static void what_is_promised_and_not_there_is_left(void **state)
{
    unsigned met;
    build(2, 3);
    struct ch_hose_walk walk = walk_of(&met);
    assert_int_equal(met, 2);
    assert_int_equal(walk.left, 1);
    build(3, 3);
    ch_store16(datagram + CH_HOSE_HEADER_BYTES + tx_length + 104, 0x7777); /* the second is of no kind */
    walk = walk_of(&met);
    assert_int_equal(met, 1);
    assert_int_equal(walk.left, 2);
    assert_false(ch_hose_surplus(&walk));
}

static void more_than_was_promised_is_surplus(void **state)
{
    unsigned met;
    build(3, 2);
    struct ch_hose_walk walk = walk_of(&met);
    assert_int_equal(met, 2);
    assert_true(ch_hose_surplus(&walk));
    build(1, 1);
    datagram[length++] = 0;
    ch_hose_header_write(datagram, 1, (uint16_t)length);
    walk = walk_of(&met);
    assert_true(ch_hose_surplus(&walk));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promised_transactions_are_met_in_order),
        cmocka_unit_test(header_that_does_not_fit_is_refused),
        cmocka_unit_test(what_is_promised_and_not_there_is_left),
        cmocka_unit_test(more_than_was_promised_is_surplus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
