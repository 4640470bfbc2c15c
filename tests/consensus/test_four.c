/* Several validators: pacemaker, proposer, synchroniser, catching up, restarts, equivocation. */
#include "tests/consensus/cluster.h"

#define SECOND 1000000ull
#define MS     1000ull

static uint64_t least_commits(const struct cluster *c)
{
    uint64_t least = UINT64_MAX;
    for (uint16_t i = 0; i < c->n; i++)
        if (c->nodes[i].running && c->nodes[i].commit_count < least)
            least = c->nodes[i].commit_count;
    return least;
}

static void nobody_halted(const struct cluster *c)
{
    for (uint16_t i = 0; i < c->n; i++)
        assert_int_equal(c->nodes[i].halt, CH_HALT_NONE);
}

static void full_committee_commits_in_every_round(void **state)
{
    const uint16_t sizes[] = {2, 4, 7, 10};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct cluster c;
        cluster_open(&c, sizes[i], test_seed());
        cluster_start_all(&c);
        for (int k = 0; k < 20; k++) {
            for (uint16_t a = 0; a < c.n; a++)
                cluster_submit(&c, a, 5);
            cluster_run(&c, c.now_us + SECOND / 5);
        }
        cluster_run(&c, c.now_us + 5 * SECOND);
        nobody_halted(&c);
        const struct ch_core_counters *counters = ch_core_counters(c.nodes[0].core);
        assert_true(least_commits(&c) > 60);
        assert_true(counters->commits_direct > 0 && counters->signed_timeout == 0);
        for (uint16_t a = 0; a < c.n; a++) {
            assert_int_equal(c.nodes[a].pending, 0);
            assert_int_equal(c.nodes[a].handles_delivered, c.handle); /* I14: all of it, everywhere */
        }
        cluster_close(&c);
    }
}

struct weather {
    struct ch_prng prng;
    uint32_t lost_in_1000, slow_in_1000;
};

static bool lossy(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type, const uint8_t *body,
                  size_t length)
{
    struct weather *w = c->context;
    return ch_prng_below(&w->prng, 1000) < w->lost_in_1000;
}

static uint64_t slow(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type, const uint8_t *body,
                     size_t length)
{
    struct weather *w = c->context;
    return ch_prng_below(&w->prng, 1000) < w->slow_in_1000 ? ch_prng_below(&w->prng, 2 * SECOND) : 0;
}

/* Loss, delay, crashes, cuts; then all is well again and everybody catches up. */
static void storm(uint64_t seed, uint16_t n, uint32_t gc_depth, struct ch_core_counters *totals)
{
    struct cluster c;
    struct weather w = {.lost_in_1000 = 150, .slow_in_1000 = 100};
    ch_prng_seed(&w.prng, seed);
    cluster_open(&c, n, seed);
    cluster_params(&c, gc_depth, 1 + (uint32_t)ch_prng_below(&w.prng, n));
    c.context = &w;
    c.drop = lossy;
    c.hold_us = slow;
    cluster_start_all(&c);
    for (int k = 0; k < 30; k++) {
        uint16_t a = (uint16_t)ch_prng_below(&w.prng, n), b = (uint16_t)ch_prng_below(&w.prng, n);
        switch (ch_prng_below(&w.prng, 4)) {
        case 0:
            if (c.nodes[a].running) {
                cluster_crash(&c, a);
                c.nodes[a].applied -= ch_prng_below(&w.prng, c.nodes[a].applied + 1);
            } else {
                assert_ok(cluster_start(&c, a));
            }
            break;
        case 1:
            if (a != b)
                cluster_connect(&c, a, b, ch_prng_below(&w.prng, 2));
            break;
        default:
            cluster_submit(&c, a, ch_prng_below(&w.prng, 20));
            break;
        }
        cluster_run(&c, c.now_us + ch_prng_below(&w.prng, SECOND));
    }
    w.lost_in_1000 = w.slow_in_1000 = 0;
    for (uint16_t a = 0; a < n; a++) {
        for (uint16_t b = 0; b < a; b++)
            cluster_connect(&c, a, b, true);
        if (!c.nodes[a].running)
            assert_ok(cluster_start(&c, a));
    }
    nobody_halted(&c);
    uint64_t most = 0;
    for (uint16_t a = 0; a < n; a++)
        most = c.nodes[a].commit_count > most ? c.nodes[a].commit_count : most;
    cluster_run(&c, c.now_us + 60 * SECOND);
    nobody_halted(&c);
    if (least_commits(&c) < most + 40) {
        for (uint16_t a = 0; a < n; a++) {
            struct ch_core_status t = cluster_status(&c, a);
            print_message("node %u: P %u quorum %u D %u gc %u commits %lu lagging %d suspended %u missing %u\n", a,
                          t.round, t.quorum_round, t.decided_round, t.gc_round, (unsigned long)t.commit_index,
                          t.lagging, t.suspended, t.missing);
        }
        fail_msg("seed %llu n %u gc_depth %u: %llu then %llu", (unsigned long long)seed, n, gc_depth,
                 (unsigned long long)most, (unsigned long long)least_commits(&c));
    }
    for (uint16_t a = 0; a < n; a++)
        assert_int_equal(c.nodes[a].pending, 0);
    cluster_count(&c, totals);
    cluster_close(&c);
}

static void storms_pass_and_everybody_agrees(void **state)
{
    const uint16_t sizes[] = {4, 4, 5, 7};
    const uint32_t depths[] = {8, 60, 12, 8};
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    struct ch_core_counters totals = {0};
    for (int i = 0; i < (test_full() ? 200 : 12); i++)
        storm(ch_prng_next(&g), sizes[i % 4], depths[i % 4], &totals);
#define X(name) print_message("%s %llu\n", #name, (unsigned long long)totals.name);
    CH_CORE_COUNTER_LIST(X)
#undef X
    assert_true(totals.commits_direct && totals.commits_indirect && totals.skips_direct);
    assert_true(totals.signed_normal && totals.signed_timeout && totals.signed_behind);
    assert_true(totals.tips_repeated && totals.fetches_sent);
}

/* T23: whatever prefix of the log survived, the commits decided from it are the ones of the whole run. */
static void restart_after_each_record_gives_identical_commits(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 10, 2);
    cluster_start_all(&c);
    for (int k = 0; k < 30; k++) {
        cluster_submit(&c, (uint16_t)(k % 4), 1);
        cluster_run(&c, c.now_us + 100 * MS);
    }
    const struct node *node = &c.nodes[0];
    const struct ch_core_now now = {c.now_us, c.committee.start_ms + c.now_us / 1000};
    unsigned from_middle = 0;
    for (size_t from = 0; from < node->log_count; from += from ? 7 : 1)
        for (size_t to = from ? node->log_count : 1; to <= node->log_count; to++) {
            struct ch_core *core;
            struct ch_core_action action;
            struct ch_core_status status;
            struct ch_guard guard = {0};
            uint64_t applied = 0;
            if (from)
                for (size_t k = 0; k < to; k++)
                    applied += node->log[k].type == CH_RECORD_COMMIT;
            assert_ok(ch_core_open(&node->config, &core));
            ch_err err = CH_OK;
            uint64_t delivered = 0;
            for (size_t k = from; !err && k < to; k++) {
                const struct record *r = &node->log[k];
                err = ch_core_replay(core, r->type, r->bytes, r->length, r->handle, applied);
                while (ch_core_next_out(core, &action))
                    delivered += action.type == CH_ACTION_DELIVER;
            }
            if (!err)
                err = ch_core_start(core, &now, &guard, applied);
            if (from == 0)
                assert_ok(err);
            if (!err) {
                ch_core_status(core, &status);
                assert_true(status.commit_index >= applied + delivered);
                if (status.commit_index && status.commit_index <= node->commit_count)
                    assert_memory_equal(status.commit_digest, node->commits[status.commit_index - 1].digest, 32);
                from_middle += from > 0;
            } else {
                assert_true(err == CH_ERR_NOT_FOUND || err == CH_ERR_LOG_DAMAGED);
            }
            ch_core_close(core);
        }
    assert_true(from_middle > 3);
    cluster_close(&c);
}

/* Bytes from outside never reach an assert: broken messages, even past the verification that should have stopped them.
 */
struct broken {
    struct ch_prng prng;
    uint64_t count;
};

static bool break_some(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type, const uint8_t *body,
                       size_t length)
{
    struct broken *b = c->context;
    static struct ch_message_signature list[CH_MESSAGE_SIGNATURES_MAX];
    static const enum ch_message_type types[] = {
        CH_MESSAGE_TIP,         CH_MESSAGE_HEADER,  CH_MESSAGE_GET_BLOCKS, CH_MESSAGE_BLOCKS, CH_MESSAGE_GET_PAYLOAD,
        CH_MESSAGE_GET_COMMITS, CH_MESSAGE_COMMITS, CH_MESSAGE_WHO_AM_I,   CH_MESSAGE_I_AM,   CH_MESSAGE_EVIDENCE};
    size_t count;
    if (type == CH_MESSAGE_PAYLOAD || ch_prng_below(&b->prng, 20))
        return false;
    size_t keep = ch_prng_below(&b->prng, 3) ? length : ch_prng_below(&b->prng, length + 1);
    uint8_t *copy = malloc(keep + 1), *exact;
    memcpy(copy, body, keep);
    for (uint64_t flips = ch_prng_below(&b->prng, 4); keep && flips; flips--)
        copy[ch_prng_below(&b->prng, keep)] ^= (uint8_t)(1u << ch_prng_below(&b->prng, 8));
    exact = realloc(copy, keep ? keep : 1);
    if (ch_prng_below(&b->prng, 4) == 0)
        type = types[ch_prng_below(&b->prng, sizeof types / sizeof *types)];
    if (!ch_message_check(&c->committee, from, type, exact, keep, list, CH_MESSAGE_SIGNATURES_MAX, &count))
        b->count++;
    /* a machine of its own takes it: it may halt, it may not die */
    struct ch_core_config config = c->nodes[to].config;
    struct ch_core *core;
    struct ch_core_action action;
    const struct ch_core_now now = {c->now_us, c->committee.start_ms + c->now_us / 1000};
    const struct ch_guard guard = {0};
    const struct ch_core_event up = {.type = CH_EVENT_PEER_UP, .peer = from};
    const struct ch_core_event event = {.type = CH_EVENT_MESSAGE, .peer = from, .message = {type, exact, keep}};
    assert_ok(ch_core_open(&config, &core));
    for (size_t k = 0; k < c->nodes[to].durable; k++) {
        const struct record *r = &c->nodes[to].log[k];
        assert_ok(ch_core_replay(core, r->type, r->bytes, r->length, r->handle, c->nodes[to].applied));
        while (ch_core_next_out(core, &action))
            continue;
    }
    assert_ok(ch_core_start(core, &now, &guard, 0));
    for (int k = 0; k < 3; k++) {
        while (ch_core_next_out(core, &action))
            continue;
        ch_core_step(core, &now, k ? &event : &up);
    }
    ch_core_close(core);
    free(exact);
    return false;
}

static void broken_messages_harm_nobody(void **state)
{
    struct cluster c;
    struct broken b = {0};
    ch_prng_seed(&b.prng, test_seed());
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 8, 1);
    c.drop = break_some;
    c.context = &b;
    cluster_start_all(&c);
    for (int k = 0; k < 20; k++) {
        cluster_submit(&c, (uint16_t)(k % 4), 1);
        cluster_run(&c, c.now_us + SECOND / 4);
        if (k == 8)
            cluster_crash(&c, 1);
        if (k == 14)
            assert_ok(cluster_start(&c, 1));
    }
    nobody_halted(&c);
    assert_true(b.count > 10);
    cluster_close(&c);
}

#define MANY 100000 /* transactions: more than any of these runs takes, one a block */

/* 5.5: who can't take more goes on signing, for blocks are votes. */
static void validator_under_pressure_signs_empty_blocks(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_start_all(&c);
    cluster_submit(&c, 0, MANY);
    cluster_run(&c, c.now_us + 2 * SECOND);
    assert_true(c.nodes[0].taken > 10);
    cluster_event(&c, 0, &(struct ch_core_event){.type = CH_EVENT_PRESSURE, .pressure = true});
    const uint64_t taken = c.nodes[0].taken;
    const uint32_t round = cluster_status(&c, 0).round;
    cluster_run(&c, c.now_us + 3 * SECOND);
    assert_true(c.nodes[0].taken <= taken + 1); /* one may have been asked for */
    assert_true(cluster_status(&c, 0).round > round + 5);
    cluster_event(&c, 0, &(struct ch_core_event){.type = CH_EVENT_PRESSURE, .pressure = false});
    cluster_run(&c, c.now_us + 2 * SECOND);
    assert_true(c.nodes[0].taken > taken + 10);
    nobody_halted(&c);
    cluster_close(&c);
}

static void led_by_3(void *context, uint32_t round, uint16_t *authors)
{
    (void)context, (void)round;
    authors[0] = 3;
}

/* 5.5: what can't be committed is bounded. The one who leads every round is away. */
static void rounds_without_commits_carry_nothing(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 20, 1);
    for (uint16_t i = 0; i < 4; i++)
        c.nodes[i].config.leaders = led_by_3;
    for (uint16_t i = 0; i < 3; i++) {
        assert_ok(cluster_start(&c, i));
        cluster_submit(&c, i, MANY);
    }
    cluster_run(&c, c.now_us + 20 * SECOND);
    assert_int_equal(least_commits(&c), 0);
    for (uint16_t i = 0; i < 3; i++) {
        assert_true(cluster_status(&c, i).round > 40);
        assert_in_range(c.nodes[i].taken, 5, 20 / 2 + 1);
    }
    assert_ok(cluster_start(&c, 3));
    cluster_run(&c, c.now_us + 30 * SECOND);
    nobody_halted(&c);
    assert_true(c.nodes[0].commit_count > 20);
    for (uint16_t i = 0; i < 3; i++)
        assert_true(c.nodes[i].taken > 20);
    cluster_close(&c);
}

static bool nothing_leaves_0(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type,
                             const uint8_t *body, size_t length)
{
    return from == 0;
}

/* 5.5: nor what nobody takes up. What can't be committed any more is given back (6). */
static void blocks_that_nobody_builds_on_carry_nothing(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 20, 1);
    c.drop = nothing_leaves_0;
    cluster_start_all(&c);
    cluster_submit(&c, 0, MANY);
    cluster_run(&c, c.now_us + 20 * SECOND);
    assert_true(cluster_status(&c, 0).round > 30);
    assert_in_range(c.nodes[0].taken, 5, 10);
    assert_int_equal(c.nodes[0].requeued, c.nodes[0].taken);
    c.drop = NULL;
    cluster_run(&c, c.now_us + 10 * SECOND);
    assert_true(c.nodes[0].taken > 20);
    nobody_halted(&c);
    cluster_close(&c);
}

static uint64_t late_from_3(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type,
                            const uint8_t *body, size_t length)
{
    return from == 3 ? 600 * MS : 0;
}

/* 5.3: the leader of every round is further away than the first timeout. Without commits timers grow until they reach
 * it. */
static void far_leader_is_waited_for_in_the_end(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 60, 1);
    for (uint16_t i = 0; i < 4; i++) {
        c.nodes[i].config.leaders = led_by_3;
        c.nodes[i].config.idle_round_delay_ms = c.nodes[i].config.min_round_delay_ms;
    }
    c.hold_us = late_from_3;
    cluster_start_all(&c);
    cluster_run(&c, c.now_us + 60 * SECOND);
    nobody_halted(&c);
    assert_true(least_commits(&c) > 5);
    cluster_close(&c);
}

/* 10: the clocks of all go back, by less than a person must vouch for. The network's checks see that time does not. */
static void commit_time_never_goes_back(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_start_all(&c);
    cluster_run(&c, c.now_us + 2 * SECOND);
    const uint64_t commits = least_commits(&c);
    for (uint16_t i = 0; i < 4; i++)
        c.nodes[i].clock_offset_ms = -60000;
    cluster_run(&c, c.now_us + 10 * SECOND);
    nobody_halted(&c);
    assert_true(least_commits(&c) > commits + 10);
    cluster_close(&c);
}

/* 13: nor who lags. */
static void validator_that_lags_carries_nothing(void **state)
{
    struct cluster c;
    unsigned lagging = 0;
    cluster_open(&c, 4, test_seed());
    cluster_start_all(&c);
    for (uint16_t a = 0; a < 4; a++)
        cluster_submit(&c, a, MANY);
    cluster_run(&c, c.now_us + SECOND);
    for (uint16_t a = 0; a < 3; a++)
        cluster_connect(&c, a, 3, false);
    cluster_run(&c, c.now_us + 20 * SECOND);
    for (uint16_t a = 0; a < 3; a++)
        cluster_connect(&c, a, 3, true);
    const uint32_t round = cluster_status(&c, 3).round;
    uint32_t signed_round = round;
    for (int k = 0; k < 5000; k++) {
        const bool before = cluster_status(&c, 3).lagging;
        const uint64_t taken = c.nodes[3].taken;
        cluster_run(&c, c.now_us + MS);
        if (!before || !cluster_status(&c, 3).lagging)
            continue;
        assert_int_equal(c.nodes[3].taken, taken);
        signed_round = cluster_status(&c, 3).round;
        lagging++;
    }
    assert_true(lagging > 5 && signed_round > round); /* it votes meanwhile */
    assert_false(cluster_status(&c, 3).lagging);
    const uint64_t taken = c.nodes[3].taken;
    cluster_run(&c, c.now_us + 2 * SECOND);
    assert_true(c.nodes[3].taken > taken + 10);
    nobody_halted(&c);
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(storms_pass_and_everybody_agrees),
        cmocka_unit_test(restart_after_each_record_gives_identical_commits),
        cmocka_unit_test(broken_messages_harm_nobody),
        cmocka_unit_test(full_committee_commits_in_every_round),
        cmocka_unit_test(validator_under_pressure_signs_empty_blocks),
        cmocka_unit_test(rounds_without_commits_carry_nothing),
        cmocka_unit_test(blocks_that_nobody_builds_on_carry_nothing),
        cmocka_unit_test(far_leader_is_waited_for_in_the_end),
        cmocka_unit_test(commit_time_never_goes_back),
        cmocka_unit_test(validator_that_lags_carries_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
