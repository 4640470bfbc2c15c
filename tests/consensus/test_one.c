/* A chain of one validator: the same machine with f = 0. */
#include "tests/consensus/cluster.h"

#define SECOND 1000000ull

static void lone_transaction_is_final_after_three_rounds_and_one_sync(void **state)
{
    struct cluster c;
    cluster_open(&c, 1, test_seed());
    cluster_start_all(&c);
    cluster_run(&c, 3 * SECOND);
    struct ch_core_status before = cluster_status(&c, 0);
    const uint64_t start = c.now_us;
    cluster_submit(&c, 0, 1);
    /* two syncs: one may be under way */
    cluster_run(&c, start + 2 * c.sync_us);
    assert_int_equal(c.nodes[0].handles_delivered, 1);
    struct ch_core_status after = cluster_status(&c, 0);
    assert_true(after.round <= before.round + 3);
    cluster_close(&c);
}

static void idle_chain_makes_two_rounds_a_second(void **state)
{
    struct cluster c;
    cluster_open(&c, 1, test_seed());
    cluster_start_all(&c);
    cluster_run(&c, 11 * SECOND);
    struct ch_core_status status = cluster_status(&c, 0);
    assert_true(status.round >= 19 && status.round <= 22);
    assert_true(status.commit_index + 2 == status.round);
    cluster_close(&c);
}

static void rounds_under_load_follow_the_log_not_a_clock(void **state)
{
    struct cluster c;
    cluster_open(&c, 1, test_seed());
    cluster_start_all(&c);
    cluster_submit(&c, 0, 5000);
    cluster_run(&c, 1 * SECOND + 700 * c.sync_us);
    assert_true(c.nodes[0].handles_delivered == 5000); /* 8 blocks on their way at once */
    cluster_run(&c, c.now_us + 2 * SECOND);
    assert_int_equal(c.nodes[0].pending, 0);
    struct ch_core_status status = cluster_status(&c, 0);
    assert_true(status.blocks <= 200 + 100 + 16);
    assert_true(c.nodes[0].released >= 4500);
    cluster_close(&c);
}

static void start_again(struct cluster *c)
{
    cluster_crash(c, 0);
    assert_ok(cluster_start(c, 0));
}

static void crash_at_any_point_gives_the_same_commits(void **state)
{
    struct cluster c;
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    cluster_open(&c, 1, test_seed());
    cluster_params(&c, 8, 1);
    cluster_start_all(&c);
    for (int i = 0; i < (test_full() ? 3000 : 300); i++) {
        cluster_submit(&c, 0, ch_prng_below(&g, 4));
        cluster_run(&c, c.now_us + ch_prng_below(&g, 3 * c.sync_us));
        if (ch_prng_below(&g, 3) == 0)
            c.nodes[0].applied -= ch_prng_below(&g, c.nodes[0].applied + 1); /* the executor is behind its log */
        start_again(&c);
    }
    cluster_run(&c, c.now_us + 4 * SECOND);
    struct ch_core_status status = cluster_status(&c, 0);
    assert_int_equal(status.halt, CH_HALT_NONE);
    assert_true(c.nodes[0].commit_count > 300);
    assert_int_equal(c.nodes[0].applied, c.nodes[0].commit_count);
    cluster_close(&c);
}

/* T23 for n = 1: after each record of a run of 30 rounds. */
static void restart_after_each_record_gives_identical_commits(void **state)
{
    struct cluster whole;
    cluster_open(&whole, 1, 7);
    cluster_params(&whole, 8, 1);
    cluster_start_all(&whole);
    cluster_submit(&whole, 0, 30);
    cluster_run(&whole, 4 * SECOND);
    const struct node *w = &whole.nodes[0];
    assert_true(w->log_count > 60);
    for (size_t cut = 0; cut <= w->log_count; cut++) {
        struct cluster c;
        cluster_open(&c, 1, 8);
        cluster_params(&c, 8, 1);
        struct node *node = &c.nodes[0];
        node->log = calloc(w->log_count + 1, sizeof *node->log);
        node->log_room = w->log_count + 1;
        for (size_t k = 0; k < cut; k++) {
            node->log[k] = w->log[k];
            node->log[k].lsn = 0;
            node->log[k].bytes = malloc(w->log[k].length);
            memcpy(node->log[k].bytes, w->log[k].bytes, w->log[k].length);
        }
        node->log_count = node->durable = cut;
        c.handle = 1000;
        c.now_us = whole.now_us;
        assert_ok(cluster_start(&c, 0));
        struct ch_core_status status = cluster_status(&c, 0);
        cluster_run(&c, c.now_us + c.sync_us);
        size_t commits = 0;
        for (size_t k = 0; k < cut; k++)
            commits += w->log[k].type == CH_RECORD_COMMIT;
        assert_true(status.commit_index >= commits && node->commit_count >= status.commit_index);
        for (size_t i = 0; i < status.commit_index && i < w->commit_count; i++) {
            assert_int_equal(node->commits[i].length, w->commits[i].length);
            assert_memory_equal(node->commits[i].bytes, w->commits[i].bytes, w->commits[i].length);
        }
        cluster_close(&c);
    }
    cluster_close(&whole);
}

static void replay_from_the_middle_of_the_log_is_enough_or_says_so(void **state)
{
    struct cluster c;
    cluster_open(&c, 1, test_seed());
    cluster_params(&c, 8, 1);
    cluster_start_all(&c);
    cluster_submit(&c, 0, 100);
    cluster_run(&c, 4 * SECOND);
    struct node *node = &c.nodes[0];
    cluster_crash(&c, 0);
    unsigned good = 0, early = 0;
    for (size_t from = 0; from <= node->log_count; from++) {
        struct ch_core *core;
        struct ch_core_action action;
        struct ch_core_now now = {c.now_us, c.committee.start_ms + c.now_us / 1000};
        assert_ok(ch_core_open(&node->config, &core));
        ch_err err = CH_OK;
        for (size_t k = from; !err && k < node->log_count; k++) {
            err = ch_core_replay(core, node->log[k].type, node->log[k].bytes, node->log[k].length, node->log[k].handle,
                                 node->applied);
            while (ch_core_next_out(core, &action))
                assert_int_not_equal(action.type, CH_ACTION_DELIVER); /* all was applied */
        }
        if (!err)
            err = ch_core_start(core, &now, &node->guard, node->applied);
        if (err) {
            assert_true(err == CH_ERR_NOT_FOUND || err == CH_ERR_LOG_DAMAGED);
            early++;
        } else {
            struct ch_core_status status;
            ch_core_status(core, &status);
            assert_int_equal(status.commit_index, node->commit_count);
            assert_memory_equal(status.commit_digest, node->commits[node->commit_count - 1].digest, 32);
            good++;
        }
        ch_core_close(core);
    }
    assert_true(good > 100 && early > 0);
    cluster_close(&c);
}

/* T31, small.py: the guard says more than the log. */
static void guard_ahead_of_the_log_refuses_to_start(void **state)
{
    struct cluster c;
    cluster_open(&c, 1, test_seed());
    cluster_start_all(&c);
    cluster_submit(&c, 0, 3);
    cluster_run(&c, 2 * SECOND);
    cluster_crash(&c, 0);
    struct node *node = &c.nodes[0];
    while (node->log[node->log_count - 1].type != CH_RECORD_OWN_BLOCK)
        free(node->log[--node->log_count].bytes);
    free(node->log[--node->log_count].bytes);
    node->applied = 0;
    assert_int_equal(cluster_start(&c, 0), CH_ERR_LOG_DAMAGED);
    cluster_close(&c);
}

static void executor_ahead_of_the_log_refuses_to_start(void **state)
{
    struct cluster c;
    cluster_open(&c, 1, test_seed());
    cluster_start_all(&c);
    cluster_submit(&c, 0, 3);
    cluster_run(&c, 2 * SECOND);
    cluster_crash(&c, 0);
    c.nodes[0].applied++;
    assert_int_equal(cluster_start(&c, 0), CH_ERR_LOG_DAMAGED);
    c.nodes[0].applied--;
    assert_ok(cluster_start(&c, 0));
    cluster_close(&c);
}

static void clock_a_day_off_signs_nothing_until_somebody_vouches(void **state)
{
    struct cluster c;
    cluster_open(&c, 1, test_seed());
    c.nodes[0].clock_offset_ms = 25 * 3600 * 1000;
    cluster_start_all(&c);
    cluster_submit(&c, 0, 1);
    cluster_run(&c, 5 * SECOND);
    assert_int_equal(cluster_status(&c, 0).round, 0);
    assert_int_equal(c.nodes[0].reports[CH_REPORT_CLOCK], 1);
    cluster_crash(&c, 0);
    c.nodes[0].config.clock_ok = true;
    assert_ok(cluster_start(&c, 0));
    cluster_run(&c, 10 * SECOND);
    assert_int_equal(c.nodes[0].handles_delivered, 1);
    c.nodes[0].clock_offset_ms += 11 * 60 * 1000; /* it jumps while running */
    cluster_run(&c, 11 * SECOND);
    const uint32_t round = cluster_status(&c, 0).round;
    cluster_run(&c, 15 * SECOND);
    assert_int_equal(cluster_status(&c, 0).round, round);
    assert_false(cluster_status(&c, 0).signing);
    cluster_close(&c);
}

static void host_without_transactions_lets_the_block_go_empty(void **state)
{
    struct cluster c;
    cluster_open(&c, 1, test_seed());
    c.nodes[0].refuse_payload = true; /* all are from the future, say */
    cluster_start_all(&c);
    cluster_submit(&c, 0, 1);
    cluster_run(&c, 1 * SECOND + 50 * c.sync_us);
    assert_true(cluster_status(&c, 0).round > 10);
    assert_int_equal(c.nodes[0].handles_delivered, 0);
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lone_transaction_is_final_after_three_rounds_and_one_sync),
        cmocka_unit_test(idle_chain_makes_two_rounds_a_second),
        cmocka_unit_test(rounds_under_load_follow_the_log_not_a_clock),
        cmocka_unit_test(crash_at_any_point_gives_the_same_commits),
        cmocka_unit_test(restart_after_each_record_gives_identical_commits),
        cmocka_unit_test(replay_from_the_middle_of_the_log_is_enough_or_says_so),
        cmocka_unit_test(guard_ahead_of_the_log_refuses_to_start),
        cmocka_unit_test(executor_ahead_of_the_log_refuses_to_start),
        cmocka_unit_test(clock_a_day_off_signs_nothing_until_somebody_vouches),
        cmocka_unit_test(host_without_transactions_lets_the_block_go_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
