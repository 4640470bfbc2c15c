#include "node/peers.h"
#include "tests/test.h"

static void our_hello_says_who_we_are_and_how_far(void **state)
{
    struct ch_node *node = aligned_alloc(64, (sizeof *node + 63) / 64 * 64);
    uint8_t body[CH_HELLO_FRAME_BYTES];
    struct ch_hello hello;
    assert_non_null(node);
    memset(node, 0, sizeof *node);
    memset(node->chain_id, 7, sizeof node->chain_id);
    node->me = 3;
    node->committee.epoch = 2;
    atomic_store(&node->metrics.order_round, 900);
    atomic_store(&node->metrics.order_gc_round, 690);
    atomic_store(&node->metrics.order_commit_index, 888);
    const uint64_t before_ms = ch_time_unix_ms();
    ch_peers_hello(node, body);
    assert_true(ch_hello_read(body, sizeof body, &hello));
    assert_int_equal(hello.version, CH_PROTOCOL_VERSION);
    assert_int_equal(hello.role, CH_ROLE_VALIDATOR);
    assert_int_equal(hello.epoch, 2);
    assert_true(hello.time_ms >= before_ms && hello.time_ms <= ch_time_unix_ms());
    assert_memory_equal(hello.chain_id, node->chain_id, CH_HASH_BYTES);
    assert_int_equal(hello.index, 3);
    assert_int_equal(hello.round, 900);
    assert_int_equal(hello.gc_round, 690);
    assert_int_equal(hello.last_commit, 888);
    free(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(our_hello_says_who_we_are_and_how_far)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
