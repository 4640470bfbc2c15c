/* Directed runs of the whole machine: T24-T26, T28-T32, sections 11.2, 12, 16. */
#include "tests/consensus/cluster.h"

#define SECOND 1000000ull
#define MS     1000ull

static void nobody_halted(const struct cluster *c)
{
    for (uint16_t i = 0; i < c->n; i++)
        assert_int_equal(c->nodes[i].halt, CH_HALT_NONE);
}

static uint64_t most_commits(const struct cluster *c)
{
    uint64_t most = 0;
    for (uint16_t i = 0; i < c->n; i++)
        if (c->nodes[i].running && c->nodes[i].commit_count > most)
            most = c->nodes[i].commit_count;
    return most;
}

static uint64_t least_commits(const struct cluster *c)
{
    uint64_t least = UINT64_MAX;
    for (uint16_t i = 0; i < c->n; i++)
        if (c->nodes[i].running && c->nodes[i].commit_count < least)
            least = c->nodes[i].commit_count;
    return least;
}

/* A block of (round, author) in a node's log; the first of several. */
static const struct record *find_block(const struct node *node, uint32_t round, uint16_t author)
{
    for (size_t k = 0; k < node->log_count; k++)
        if ((node->log[k].type == CH_RECORD_BLOCK || node->log[k].type == CH_RECORD_OWN_BLOCK) &&
            node->log[k].ref.round == round && node->log[k].ref.author == author)
            return &node->log[k];
    return NULL;
}

/* What `author` could have signed at `round` on the parents that `node` knows; own first ancestor as given. */
static uint32_t forge(struct cluster *c, const struct node *node, uint16_t author, uint32_t round, struct ch_ref own,
                      uint64_t timestamp_ms, uint8_t *out, struct ch_ref *ref)
{
    struct ch_ref ancestors[CLUSTER_NODES_MAX];
    uint16_t count = 0;
    ancestors[count++] = own;
    for (uint16_t a = 0; a < c->n; a++) {
        const struct record *parent = a == author || round == 1 ? NULL : find_block(node, round - 1, a);
        if (parent)
            ancestors[count++] = parent->ref;
        else if (a != author && round == 1)
            ancestors[count++] = ch_committee_genesis_ref(&c->committee, a);
    }
    struct ch_block_draft draft = {.epoch = c->committee.epoch,
                                   .round = round,
                                   .author = author,
                                   .ancestor_count = count,
                                   .timestamp_ms = timestamp_ms,
                                   .ancestors = ancestors};
    return cluster_block(&c->committee, &draft, out, ref);
}

/* T24 */
static void lagging_validator_catches_up_to_identical_commits(void **state)
{
    const uint64_t behind[] = {1, 99, 100, 101, 250};
    for (unsigned i = 0; i < sizeof behind / sizeof *behind; i++) {
        struct cluster c;
        cluster_open(&c, 4, test_seed() + i);
        cluster_params(&c, 20, 2);
        for (uint16_t a = 0; a < 4; a++) {
            c.nodes[a].config.vote_cert_every = 1;
            c.nodes[a].config.min_round_delay_ms = c.nodes[a].config.idle_round_delay_ms = 20;
        }
        cluster_start_all(&c);
        cluster_run(&c, 3 * SECOND);
        for (uint16_t a = 0; a < 3; a++)
            cluster_connect(&c, a, 3, false);
        const uint64_t base = c.nodes[3].commit_count;
        for (int k = 0; k < 100000 && most_commits(&c) < base + behind[i]; k++) {
            cluster_submit(&c, k % 3, 1);
            cluster_run(&c, c.now_us + 20 * MS);
        }
        const uint64_t then = most_commits(&c);
        const uint32_t round = cluster_status(&c, 3).round;
        for (uint16_t a = 0; a < 3; a++)
            cluster_connect(&c, a, 3, true);
        cluster_run(&c, c.now_us + 10 * SECOND);
        nobody_halted(&c);
        assert_true(least_commits(&c) > then + 50);
        assert_true(most_commits(&c) - least_commits(&c) <= 12);
        assert_true(cluster_status(&c, 3).round > round + 50);
        assert_false(cluster_status(&c, 3).lagging);
        if (behind[i] > 200)
            assert_true(ch_core_counters(c.nodes[3].core)->commits_synced > 50);
        cluster_close(&c);
    }
}

static struct ch_core_status status_of_0(struct cluster *c)
{
    return cluster_status(c, 0);
}

/* T25 */
static void ancestor_at_the_collected_round_is_not_waited_for(void **state)
{
    for (uint32_t above = 0; above < 2; above++) {
        struct cluster c;
        struct ch_ref own = {.author = 3}, ref;
        uint8_t header[2048];
        cluster_open(&c, 4, test_seed());
        cluster_params(&c, 10, 1);
        for (uint16_t i = 0; i < 3; i++)
            assert_ok(cluster_start(&c, i));
        cluster_run(&c, 25 * SECOND);
        struct ch_core_status s = status_of_0(&c);
        assert_true(s.gc_round > 10);
        own.round = s.gc_round + above;
        memset(own.digest, 0xdd, sizeof own.digest);
        uint32_t length = forge(&c, &c.nodes[0], 3, s.quorum_round, own, 1, header, &ref);
        cluster_inject(&c, 0, 3, CH_MESSAGE_HEADER, header, length);
        assert_int_equal(find_block(&c.nodes[0], ref.round, 3) != NULL, above == 0);
        assert_int_equal(status_of_0(&c).suspended, above);
        for (int k = 0; k < 300 && status_of_0(&c).round == s.round; k++)
            cluster_run(&c, c.now_us + 10 * MS);
        /* accepted, and yet not to be built on: another node may have to wait for what it names (4.2, 6.2d) */
        struct ch_block next;
        const struct record *r = find_block(&c.nodes[0], s.round + 1, 0);
        assert_non_null(r);
        ch_block_view(r->bytes, (uint32_t)r->length, &next);
        assert_int_equal(next.ancestor_count, 3);
        cluster_run(&c, c.now_us + 20 * SECOND); /* collected by and by, and released then */
        assert_int_equal(status_of_0(&c).suspended, 0);
        assert_non_null(find_block(&c.nodes[0], ref.round, 3));
        assert_true(status_of_0(&c).quorum_round > s.quorum_round + 20);
        nobody_halted(&c);
        cluster_close(&c);
    }
}

static void always_leader_3(void *context, uint32_t round, uint16_t *authors)
{
    authors[0] = 3;
}

/* T26: nodes 0 and 1 get one variant of the leader's block, node 2 the other. */
static void second_variant_comes_through_an_honest_child(void **state)
{
    struct cluster c;
    struct ch_ref refs[2];
    uint8_t headers[2][2048];
    uint32_t lengths[2];
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 60, 1);
    for (uint16_t i = 0; i < 4; i++) {
        c.nodes[i].config.leaders = always_leader_3;
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 300;
    }
    for (uint16_t i = 0; i < 3; i++)
        assert_ok(cluster_start(&c, i));
    cluster_run(&c, c.now_us + 20 * MS);
    for (int v = 0; v < 2; v++)
        lengths[v] =
            forge(&c, &c.nodes[0], 3, 1, ch_committee_genesis_ref(&c.committee, 3), 5 + v, headers[v], &refs[v]);
    cluster_inject(&c, 0, 3, CH_MESSAGE_HEADER, headers[0], lengths[0]);
    cluster_inject(&c, 1, 3, CH_MESSAGE_HEADER, headers[0], lengths[0]);
    cluster_inject(&c, 2, 3, CH_MESSAGE_HEADER, headers[1], lengths[1]);
    cluster_run(&c, c.now_us + 10 * SECOND);
    nobody_halted(&c);
    for (uint16_t i = 0; i < 3; i++) {
        unsigned here = 0;
        for (size_t k = 0; k < c.nodes[i].log_count; k++)
            here += memcmp(&c.nodes[i].log[k].ref, &refs[0], sizeof refs[0]) == 0 ||
                    memcmp(&c.nodes[i].log[k].ref, &refs[1], sizeof refs[1]) == 0;
        assert_int_equal(here, 2);
        assert_int_equal(c.nodes[i].reports[CH_REPORT_EVIDENCE], 1);
        assert_true(cluster_status(&c, i).quorum_round > 10);
    }
    cluster_close(&c);
}

/* T28, the round-jump attack: n = 10, f = 3. In round r only H(r) = r .. r + 4 (mod 7) of the honest sign; the other
 * two hear of r only together with a quorum of the round that they sign next. The Byzantine 7, 8, 9 sign two blocks a
 * round: one supports the leader of r - 1 without certifying the one of r - 2, one does neither. Without rule J at most
 * six certificates exist a round, and nothing is ever committed. */
struct jump {
    struct {
        uint8_t header[2048];
        uint32_t length;
        struct ch_ref ref;
        bool given[7];
    } blocks[4096];
    unsigned count;
    size_t scanned[7];
    struct ch_ref neither[3], previous_neither[3];
};

static uint16_t jump_leader(uint32_t round)
{
    return (uint16_t)((round + 2) % 7);
}

static void jump_leaders(void *context, uint32_t round, uint16_t *authors)
{
    authors[0] = jump_leader(round);
}

static bool in_h(uint32_t round, uint16_t node)
{
    return (node + 7 - round % 7) % 7 < 5;
}

static bool drop_all(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type, const uint8_t *body,
                     size_t length)
{
    return true;
}

static void jump_add(struct jump *j, const uint8_t *header, uint32_t length, const struct ch_ref *ref)
{
    assert_true(j->count < sizeof j->blocks / sizeof *j->blocks && length <= sizeof j->blocks[0].header);
    memcpy(j->blocks[j->count].header, header, length);
    j->blocks[j->count].length = length;
    j->blocks[j->count++].ref = *ref;
}

static void jump_scan(struct cluster *c, struct jump *j)
{
    for (uint16_t x = 0; x < 7; x++)
        for (; j->scanned[x] < c->nodes[x].durable; j->scanned[x]++) {
            const struct record *r = &c->nodes[x].log[j->scanned[x]];
            if (r->type != CH_RECORD_OWN_BLOCK)
                continue;
            jump_add(j, r->bytes, (uint32_t)r->length, &r->ref);
            j->blocks[j->count - 1].given[x] = true;
        }
}

static const struct ch_ref *jump_find(const struct jump *j, uint32_t round, uint16_t author)
{
    for (unsigned i = 0; i < j->count; i++)
        if (j->blocks[i].ref.round == round && j->blocks[i].ref.author == author)
            return &j->blocks[i].ref;
    return NULL;
}

/* The two blocks of each Byzantine author at `round`, on H(round - 1) and the neither-blocks of before. */
static void jump_byzantine(struct cluster *c, struct jump *j, uint32_t round)
{
    memcpy(j->previous_neither, j->neither, sizeof j->neither);
    for (uint16_t b = 7; b < 10; b++)
        for (int supports = round > 1 ? 1 : 0; supports >= 0; supports--) {
            struct ch_ref ancestors[10], ref;
            uint16_t count = 0;
            uint8_t header[2048];
            ancestors[count++] = round > 1 ? j->previous_neither[b - 7] : ch_committee_genesis_ref(&c->committee, b);
            for (uint16_t a = 0; a < 10; a++) {
                if (a == b)
                    continue;
                if (round == 1) {
                    ancestors[count++] = ch_committee_genesis_ref(&c->committee, a);
                } else if (a >= 7) {
                    ancestors[count++] = j->previous_neither[a - 7];
                } else if (in_h(round - 1, a) && (supports || a != jump_leader(round - 1))) {
                    assert_non_null(jump_find(j, round - 1, a));
                    ancestors[count++] = *jump_find(j, round - 1, a);
                }
            }
            struct ch_block_draft draft = {.round = round,
                                           .author = b,
                                           .ancestor_count = count,
                                           .timestamp_ms = (uint64_t)supports,
                                           .ancestors = ancestors};
            uint32_t length = cluster_block(&c->committee, &draft, header, &ref);
            jump_add(j, header, length, &ref);
            if (!supports)
                j->neither[b - 7] = ref;
        }
}

/* In H(round) and not in H(round - 1). */
static bool jump_newcomer(uint32_t round, uint16_t node)
{
    return round > 1 && in_h(round, node) && !in_h(round - 1, node);
}

/* All that is known of rounds below `round`, to a node that is to sign it. A newcomer hears of `round` too, but not
 * that anybody supports the leader before, so that it signs no further; and the newest first, so that it learns of
 * several rounds' quorums at once. */
static void jump_tell(struct cluster *c, struct jump *j, uint16_t node, uint32_t round)
{
    const bool newcomer = jump_newcomer(round, node);
    const uint32_t rounds = newcomer ? round + 1 : round;
    for (uint32_t k = 0; k < rounds; k++) {
        const uint32_t r = newcomer ? round - k : k;
        for (unsigned i = 0; i < j->count; i++) {
            const struct ch_ref *ref = &j->blocks[i].ref;
            const bool supports = ref->author >= 7 && memcmp(ref, &j->neither[ref->author - 7], sizeof *ref) != 0;
            if (ref->round != r || j->blocks[i].given[node] || (r == round && supports))
                continue;
            j->blocks[i].given[node] = true;
            cluster_inject(c, node, ref->author, CH_MESSAGE_HEADER, j->blocks[i].header, j->blocks[i].length);
        }
    }
}

static void round_jump_attack_does_not_stop_the_chain(void **state)
{
    struct cluster c;
    struct jump *j = calloc(1, sizeof *j);
    assert_non_null(j);
    cluster_open(&c, 10, test_seed());
    cluster_params(&c, 60, 1);
    c.drop = drop_all;
    for (uint16_t i = 0; i < 7; i++) {
        struct ch_core_config *config = &c.nodes[i].config;
        config->leaders = jump_leaders;
        config->min_round_delay_ms = config->idle_round_delay_ms = 0;
        config->base_timeout_ms = config->max_timeout_ms = 3600 * 1000; /* all comes in time: no timeouts */
        config->silent_rounds = 1000;
        assert_ok(cluster_start(&c, i));
    }
    for (uint32_t round = 1; round <= 60; round++) {
        for (int newcomers = 0; newcomers < 2; newcomers++) {
            if (newcomers)
                jump_byzantine(&c, j, round);
            for (uint16_t x = 0; x < 7; x++)
                if (in_h(round, x) && jump_newcomer(round, x) == newcomers)
                    jump_tell(&c, j, x, round);
            cluster_run(&c, c.now_us + 20 * MS);
            jump_scan(&c, j);
        }
        for (uint16_t x = 0; x < 7; x++) {
            if (in_h(round, x))
                assert_non_null(jump_find(j, round, x));
        }
    }
    nobody_halted(&c);
    assert_true(least_commits(&c) >= 40);
    cluster_close(&c);
    free(j);
}

/* T29, directed.py: the Byzantine 3 gives an old block to node 0 alone just before the others collect its round, and
 * helps the others to commit once more. They have to fetch what they can't accept any more. */
static bool from_0_late(struct cluster *c, uint16_t from, uint16_t to)
{
    const uint64_t *since = c->context;
    return from == 0 && c->now_us < *since + 150 * MS;
}

static uint64_t hold_0(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type, const uint8_t *body,
                       size_t length)
{
    return from_0_late(c, from, to) ? 80 * MS : 0;
}

static void late_old_block_of_an_equivocator_does_not_stall(void **state)
{
    uint64_t held = 0, since = 0;
    for (int attempt = 0; attempt < 40; attempt++) {
        struct cluster c;
        struct ch_ref ref, mine;
        uint8_t header[2048];
        cluster_open(&c, 4, test_seed() + (uint64_t)attempt);
        cluster_params(&c, 12, 1);
        c.delay_min_us = c.delay_max_us = 5 * MS;
        c.hold_us = hold_0;
        c.context = &since;
        since = 0;
        for (uint16_t i = 0; i < 3; i++) {
            c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 20;
            assert_ok(cluster_start(&c, i));
        }
        cluster_run(&c, c.now_us + 3 * SECOND + (uint64_t)attempt * 7 * MS);
        /* 0 has just signed N - 1; the commit after the next collects the round of the old block */
        const uint32_t last = status_of_0(&c).round;
        for (int k = 0; k < 200 && status_of_0(&c).round == last; k++)
            cluster_run(&c, c.now_us + MS);
        const uint32_t N = status_of_0(&c).round + 1, old = status_of_0(&c).leader_round + 1 - 12;
        uint32_t length = forge(&c, &c.nodes[0], 3, old, ch_committee_genesis_ref(&c.committee, 3), 1, header, &ref);
        cluster_inject(&c, 0, 3, CH_MESSAGE_HEADER, header, length);
        cluster_run(&c, c.now_us + 3 * MS);
        since = c.now_us; /* what 0 sends from now on is slow */
        for (int k = 0; k < 100 && (cluster_status(&c, 1).round < N || cluster_status(&c, 2).round < N); k++)
            cluster_run(&c, c.now_us + MS);
        length = forge(&c, &c.nodes[1], 3, N, ch_committee_genesis_ref(&c.committee, 3), 2, header, &mine);
        cluster_inject(&c, 1, 3, CH_MESSAGE_HEADER, header, length);
        cluster_inject(&c, 2, 3, CH_MESSAGE_HEADER, header, length);
        const uint64_t before = least_commits(&c);
        cluster_run(&c, c.now_us + 6 * SECOND);
        nobody_halted(&c);
        assert_true(least_commits(&c) > before + 30);
        struct ch_core_counters totals = {0};
        cluster_count(&c, &totals);
        held += totals.blocks_held;
        cluster_close(&c);
    }
    assert_true(held > 0);
}

/* T30, restart.py */
static void rebuilt_validators_go_on(void **state)
{
    for (int all = 0; all < 2; all++)
        for (uint32_t gc_depth = 12; gc_depth <= 60; gc_depth += 48) {
            struct cluster c;
            cluster_open(&c, 4, test_seed());
            cluster_params(&c, gc_depth, 1);
            for (uint16_t i = 0; i < 3; i++) { /* 3 is dead */
                c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 20;
                assert_ok(cluster_start(&c, i));
            }
            cluster_run(&c, 10 * SECOND);
            const uint64_t before = most_commits(&c);
            assert_true(before > 50);
            for (uint16_t i = 0; i < (all ? 3 : 1); i++)
                cluster_crash(&c, i);
            for (uint16_t i = 0; i < (all ? 3 : 1); i++)
                assert_ok(cluster_start(&c, i));
            cluster_run(&c, c.now_us + 10 * SECOND);
            nobody_halted(&c);
            assert_true(least_commits(&c) > before + 50);
            cluster_close(&c);
        }
}

/* T32: nothing is committed (the leader is away), one is 100 rounds behind, a third dies: only the tip's answer (B3)
 * brings the one that is behind back. */
static void dead_zone_is_left_through_the_tip(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 200, 1);
    for (uint16_t i = 0; i < 4; i++) {
        c.nodes[i].config.leaders = always_leader_3;
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 20;
        c.nodes[i].config.base_timeout_ms = 20;
    }
    for (uint16_t i = 0; i < 3; i++)
        cluster_connect(&c, i, 3, false);
    cluster_start_all(&c);
    for (int k = 0; k < 1000 && status_of_0(&c).quorum_round < 100; k++)
        cluster_run(&c, c.now_us + 100 * MS);
    assert_true(status_of_0(&c).quorum_round >= 100);
    assert_int_equal(most_commits(&c), 0);
    cluster_crash(&c, 2);
    cluster_run(&c, c.now_us + 1 * SECOND);
    const uint32_t stuck = status_of_0(&c).quorum_round;
    cluster_connect(&c, 0, 3, true);
    cluster_connect(&c, 1, 3, true);
    cluster_run(&c, c.now_us + 30 * SECOND);
    nobody_halted(&c);
    assert_true(status_of_0(&c).quorum_round > stuck + 20);
    assert_true(least_commits(&c) > 10);
    cluster_close(&c);
}

/* B3 again: everything sent at first is lost. */
static bool lost_at_first(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type, const uint8_t *body,
                          size_t length)
{
    return c->now_us < 3 * SECOND;
}

static void lossy_start_is_survived(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    c.drop = lost_at_first;
    cluster_start_all(&c);
    cluster_run(&c, 20 * SECOND);
    nobody_halted(&c);
    assert_true(least_commits(&c) > 10);
    cluster_close(&c);
}

/* 11.2 */
static void lost_disk_is_rejoined_without_signing_a_round_twice(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 20, 2);
    for (uint16_t i = 0; i < 4; i++) {
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 20;
        c.nodes[i].config.vote_cert_every = 1;
    }
    cluster_start_all(&c);
    cluster_run(&c, 10 * SECOND);
    const uint32_t before = cluster_status(&c, 3).round;
    cluster_crash(&c, 3);
    cluster_run(&c, c.now_us + 5 * SECOND);
    cluster_forget_disk(&c, 3);
    c.nodes[3].config.rejoin = true;
    assert_ok(cluster_start(&c, 3));
    assert_false(cluster_status(&c, 3).signing);
    cluster_run(&c, c.now_us + 20 * SECOND);
    nobody_halted(&c);
    assert_int_equal(c.nodes[3].reports[CH_REPORT_REJOINED], 1);
    assert_true(cluster_status(&c, 3).signing);
    assert_true(cluster_status(&c, 3).round > before + 100);
    assert_true(most_commits(&c) - least_commits(&c) <= 12);
    c.nodes[3].config.rejoin = false; /* and an ordinary restart from what it wrote since */
    cluster_crash(&c, 3);
    assert_ok(cluster_start(&c, 3));
    cluster_run(&c, c.now_us + 5 * SECOND);
    nobody_halted(&c);
    cluster_close(&c);
}

static void rejoin_needs_a_quorum_of_others(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_start_all(&c);
    cluster_run(&c, 5 * SECOND);
    cluster_crash(&c, 3);
    cluster_crash(&c, 2);
    cluster_forget_disk(&c, 3);
    c.nodes[3].config.rejoin = true;
    assert_ok(cluster_start(&c, 3));
    cluster_run(&c, c.now_us + 20 * SECOND);
    assert_int_equal(cluster_status(&c, 3).round, 0);
    assert_false(cluster_status(&c, 3).signing);
    cluster_close(&c);
}

static void fresh_disk_without_rejoin_halts_on_its_own_past(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    c.nodes[3].config.min_round_delay_ms = c.nodes[3].config.idle_round_delay_ms =
        2000; /* hears before it signs much */
    cluster_start_all(&c);
    cluster_run(&c, 20 * SECOND);
    cluster_crash(&c, 3);
    cluster_forget_disk(&c, 3);
    memset(c.nodes[3].last_signed, 0, sizeof c.nodes[3].last_signed); /* the fault is the operator's */
    c.drop = NULL;
    assert_ok(cluster_start(&c, 3));
    cluster_run(&c, c.now_us + 10 * SECOND);
    assert_true(c.nodes[3].halt == CH_HALT_KEY_IN_USE || c.nodes[3].halt == CH_HALT_SELF_EQUIVOCATION);
    cluster_close(&c);
}

static void equivocator_is_recorded_and_the_others_go_on(void **state)
{
    struct cluster c;
    uint8_t header[2048];
    struct ch_ref refs[3];
    cluster_open(&c, 4, test_seed());
    for (uint16_t i = 0; i < 3; i++)
        assert_ok(cluster_start(&c, i));
    cluster_run(&c, 3 * SECOND);
    struct ch_core_status s = status_of_0(&c);
    for (int v = 0; v < 3; v++) {
        uint32_t length = forge(&c, &c.nodes[0], 3, s.quorum_round, ch_committee_genesis_ref(&c.committee, 3), 1 + v,
                                header, &refs[v]);
        cluster_inject(&c, 0, 3, CH_MESSAGE_HEADER, header, length);
    }
    assert_int_equal(ch_core_counters(c.nodes[0].core)->blocks_refused_variant, 1); /* E2 */
    cluster_run(&c, c.now_us + 5 * SECOND);
    nobody_halted(&c);
    for (uint16_t i = 0; i < 3; i++) {
        unsigned evidence = 0;
        for (size_t k = 0; k < c.nodes[i].log_count; k++)
            evidence += c.nodes[i].log[k].type == CH_RECORD_EVIDENCE;
        assert_int_equal(evidence, 1); /* told to everybody, written once */
        assert_int_equal(c.nodes[i].reports[CH_REPORT_EVIDENCE], 1);
    }
    assert_true(status_of_0(&c).quorum_round > s.quorum_round + 5);
    cluster_close(&c);
}

/* L1-L3 */
static void spam_of_one_author_stays_within_its_quota(void **state)
{
    struct cluster c;
    struct ch_prng g;
    uint8_t header[2048];
    struct ch_ref ref;
    ch_prng_seed(&g, test_seed());
    cluster_open(&c, 4, test_seed());
    for (uint16_t i = 0; i < 3; i++)
        assert_ok(cluster_start(&c, i));
    cluster_run(&c, 3 * SECOND);
    struct ch_core_status s = status_of_0(&c);
    for (int k = 0; k < 3000; k++) {
        struct ch_ref ancestors[4];
        const uint16_t order[] = {3, 0, 1, 2};
        const uint32_t round = s.quorum_round + 2 + (uint32_t)ch_prng_below(&g, 100);
        for (int i = 0; i < 4; i++) {
            ancestors[i] = (struct ch_ref){.round = round - 1, .author = order[i]};
            test_random_bytes(&g, ancestors[i].digest, CH_HASH_BYTES);
        }
        struct ch_block_draft draft = {.round = round, .author = 3, .ancestor_count = 4, .ancestors = ancestors};
        uint32_t length = cluster_block(&c.committee, &draft, header, &ref);
        cluster_inject(&c, 0, 3, CH_MESSAGE_HEADER, header, length);
        struct ch_core_status now = status_of_0(&c);
        assert_true(now.suspended <= 64 * 2 + 6);
        assert_true(now.missing <= 64 * 4 + 12);
    }
    assert_true(ch_core_counters(c.nodes[0].core)->blocks_refused_future > 500);
    cluster_run(&c, c.now_us + 5 * SECOND);
    assert_true(status_of_0(&c).quorum_round > s.quorum_round + 5);
    nobody_halted(&c);
    cluster_close(&c);
}

/* L2: many blocks that wait for one thing. */
static void blocks_waiting_for_one_ancestor_are_bounded(void **state)
{
    struct cluster c;
    uint8_t header[2048];
    struct ch_ref ref, missing = {.round = 1, .author = 3, .digest = {9}};
    cluster_open(&c, 4, test_seed());
    for (uint16_t i = 0; i < 3; i++) {
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 5;
        assert_ok(cluster_start(&c, i));
    }
    cluster_run(&c, 6 * SECOND);
    struct ch_core_status s = status_of_0(&c);
    assert_true(s.quorum_round > 100 && s.gc_round == 0);
    for (uint32_t round = s.quorum_round; round > 1; round--)
        for (int v = 0; v < 2; v++) {
            uint32_t length = forge(&c, &c.nodes[0], 3, round, missing, 1 + v, header, &ref);
            cluster_inject(&c, 0, 3, CH_MESSAGE_HEADER, header, length);
            assert_true(status_of_0(&c).suspended <= 64 * 2 + 6); /* live ones among them */
        }
    assert_true(status_of_0(&c).suspended >= 64 * 2);
    assert_true(ch_core_counters(c.nodes[0].core)->blocks_evicted > 0); /* the highest went first */
    nobody_halted(&c);
    cluster_close(&c);
}

/* I12 */
static void same_seed_gives_the_same_machine(void **state)
{
    uint8_t hashes[2][4][CH_HASH_BYTES];
    for (int run = 0; run < 2; run++) {
        struct cluster c;
        cluster_open(&c, 4, test_seed());
        cluster_start_all(&c);
        for (int k = 0; k < 20; k++) {
            cluster_submit(&c, k % 4, 3);
            cluster_run(&c, c.now_us + 150 * MS);
            if (k == 7)
                cluster_crash(&c, 2);
            if (k == 12)
                assert_ok(cluster_start(&c, 2));
        }
        for (uint16_t i = 0; i < 4; i++)
            ch_core_hash(c.nodes[i].core, hashes[run][i]);
        cluster_close(&c);
    }
    assert_memory_equal(hashes[0], hashes[1], sizeof hashes[0]);
}

/* V1: f + 1 others stand behind another commit than ours. */
static void votes_of_more_than_f_for_another_commit_halt(void **state)
{
    struct cluster c;
    uint8_t header[2048], vote[CH_BLOCK_VOTE_BYTES];
    struct ch_ref ref, ancestors[4];
    cluster_open(&c, 4, test_seed());
    for (uint16_t i = 0; i < 3; i++)
        assert_ok(cluster_start(&c, i));
    cluster_run(&c, 5 * SECOND);
    struct ch_core_status s = status_of_0(&c);
    ch_store64(vote, s.commit_index);
    memset(vote + 8, 0xee, CH_HASH_BYTES);
    for (uint16_t author = 1; author < 3; author++) {
        uint16_t count = 0;
        ancestors[count++] = (struct ch_ref){.round = s.quorum_round + 20, .author = author};
        for (uint16_t a = 0; a < 4; a++)
            if (a != author)
                ancestors[count++] = (struct ch_ref){.round = s.quorum_round + 20, .author = a};
        struct ch_block_draft draft = {.round = s.quorum_round + 21,
                                       .author = author,
                                       .ancestor_count = count,
                                       .vote_count = 1,
                                       .votes = vote,
                                       .ancestors = ancestors};
        uint32_t length = cluster_block(&c.committee, &draft, header, &ref);
        assert_int_equal(c.nodes[0].halt, CH_HALT_NONE);
        cluster_inject(&c, 0, author, CH_MESSAGE_HEADER, header, length);
    }
    assert_int_equal(c.nodes[0].halt, CH_HALT_FORK);
    cluster_close(&c);
}

#define MANY 100 /* validators, and leaders a round: a round makes so many commits */

/* Gives the machine a block of `author` that votes for all commits of a round, 1 .. MANY in round 1. Counts proofs
 * kept. */
static unsigned vote_for_a_round(struct ch_core *core, const struct ch_committee *committee, uint16_t author,
                                 uint32_t round)
{
    static uint8_t header[72 + (CH_REF_BYTES + CH_BLOCK_VOTE_BYTES) * MANY + 64], votes[CH_BLOCK_VOTE_BYTES * MANY];
    static uint64_t now_us;
    struct ch_ref ref, ancestors[MANY];
    struct ch_core_action action;
    unsigned proofs = 0;
    for (uint16_t i = 0; i < MANY; i++) {
        const uint16_t a = i == 0 ? author : (uint16_t)(i - (i <= author));
        ancestors[i] = round == 1 ? ch_committee_genesis_ref(committee, a)
                                  : (struct ch_ref){.round = round - 1, .author = a, .digest = {1, (uint8_t)a}};
        const uint64_t index = (round - 1) * MANY + i + 1u;
        ch_store64(votes + i * CH_BLOCK_VOTE_BYTES, index);
        memset(votes + i * CH_BLOCK_VOTE_BYTES + 8, (int)(index % 251), CH_HASH_BYTES);
    }
    const struct ch_block_draft draft = {.round = round,
                                         .author = author,
                                         .ancestor_count = MANY,
                                         .vote_count = MANY,
                                         .votes = votes,
                                         .ancestors = ancestors};
    const uint32_t length = cluster_block(committee, &draft, header, &ref);
    const struct ch_core_now now = {.mono_us = ++now_us, .unix_ms = 1700000000000};
    ch_core_step(core, &now, &(struct ch_core_event){.type = CH_EVENT_MESSAGE, .peer = author,
                                                     .message = {CH_MESSAGE_HEADER, header, length}});
    while (ch_core_next_out(core, &action))
        proofs += action.type == CH_ACTION_APPEND && action.append.type == CH_RECORD_VOTE_CERT;
    return proofs;
}

/* 13: of a hundred validators that all lead each round, some are a round ahead when the others vote. */
static void votes_of_a_round_are_counted_when_others_are_a_round_ahead(void **state)
{
    struct ch_genesis genesis;
    struct ch_committee committee;
    struct ch_core_config config;
    struct ch_core *core;
    struct ch_core_action action;
    struct ch_core_status status;
    const struct ch_core_now now = {.unix_ms = 1700000000000};
    const uint8_t chain_id[CH_HASH_BYTES] = {0xc4};
    ch_genesis_defaults(&genesis, MANY);
    genesis.validator_count = MANY;
    genesis.start_ms = now.unix_ms;
    for (uint16_t i = 0; i < MANY; i++) {
        memset(genesis.validators[i].key, i + 1, 32);
        genesis.validators[i].stake = 1;
    }
    ch_committee_from_genesis(&genesis, chain_id, &committee);
    committee.params.leaders_per_round = MANY;
    committee.params.max_votes = 4 * MANY;
    committee.params.gc_depth = 8;
    ch_committee_init(&committee);
    ch_core_defaults(&config, &committee, CH_CORE_NOBODY);
    config.rounds_uncommitted_max = 64;
    assert_true(config.lag_commits > 2 * MANY); /* a round more or less is no lag */
    assert_ok(ch_core_open(&config, &core));
    assert_ok(ch_core_start(core, &now, NULL, 0));
    while (ch_core_next_out(core, &action))
        ;
    unsigned proofs = 0;
    const uint16_t ahead = 50;
    for (uint16_t a = 0; a < ahead; a++)
        for (uint32_t round = 1; round <= 2; round++)
            proofs += vote_for_a_round(core, &committee, a, round);
    for (uint16_t a = ahead; a < MANY; a++)
        proofs += vote_for_a_round(core, &committee, a, 1);
    ch_core_status(core, &status);
    assert_int_equal(status.quorum_index, MANY);
    assert_false(status.lagging);
    assert_true(proofs > 0);
    for (uint16_t a = ahead; a < MANY; a++)
        (void)vote_for_a_round(core, &committee, a, 2);
    ch_core_status(core, &status);
    assert_int_equal(status.quorum_index, 2 * MANY);
    ch_core_close(core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lagging_validator_catches_up_to_identical_commits),
        cmocka_unit_test(ancestor_at_the_collected_round_is_not_waited_for),
        cmocka_unit_test(second_variant_comes_through_an_honest_child),
        cmocka_unit_test(round_jump_attack_does_not_stop_the_chain),
        cmocka_unit_test(late_old_block_of_an_equivocator_does_not_stall),
        cmocka_unit_test(rebuilt_validators_go_on),
        cmocka_unit_test(dead_zone_is_left_through_the_tip),
        cmocka_unit_test(lossy_start_is_survived),
        cmocka_unit_test(lost_disk_is_rejoined_without_signing_a_round_twice),
        cmocka_unit_test(rejoin_needs_a_quorum_of_others),
        cmocka_unit_test(fresh_disk_without_rejoin_halts_on_its_own_past),
        cmocka_unit_test(equivocator_is_recorded_and_the_others_go_on),
        cmocka_unit_test(spam_of_one_author_stays_within_its_quota),
        cmocka_unit_test(blocks_waiting_for_one_ancestor_are_bounded),
        cmocka_unit_test(same_seed_gives_the_same_machine),
        cmocka_unit_test(votes_of_more_than_f_for_another_commit_halt),
        cmocka_unit_test(votes_of_a_round_are_counted_when_others_are_a_round_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
