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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(storms_pass_and_everybody_agrees),
        cmocka_unit_test(full_committee_commits_in_every_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
