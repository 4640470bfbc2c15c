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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_committee_commits_in_every_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
