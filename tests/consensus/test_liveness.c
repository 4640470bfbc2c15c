/* Runs that once stood still for ever, found by the simulator (I13). */
#include "tests/consensus/cluster.h"

#define SECOND 1000000ull
#define MS     1000ull

static void nobody_halted(const struct cluster *c)
{
    for (uint16_t i = 0; i < c->n; i++)
        assert_int_equal(c->nodes[i].halt, CH_HALT_NONE);
}

static const struct record *find_block(const struct node *node, uint32_t round, uint16_t author)
{
    for (size_t k = node->log_count; k-- > 0;)
        if ((node->log[k].type == CH_RECORD_BLOCK || node->log[k].type == CH_RECORD_OWN_BLOCK) &&
            node->log[k].ref.round == round && node->log[k].ref.author == author)
            return &node->log[k];
    return NULL;
}

struct forged {
    uint8_t header[2048];
    uint32_t length;
    struct ch_ref ref;
};

/* A block of `author` at `round` on what `node` has of the round before by authors below `authors`, and on `extra`
 * (NULL: nothing more), whose author is `authors` or above. */
static struct forged forge(struct cluster *c, const struct node *node, uint16_t author, uint32_t round,
                           struct ch_ref own, uint16_t authors, const struct ch_ref *extra, uint64_t timestamp_ms)
{
    struct forged f;
    struct ch_ref ancestors[CLUSTER_NODES_MAX];
    uint16_t count = 0;
    ancestors[count++] = own;
    for (uint16_t a = 0; a < authors; a++) {
        const struct record *parent = round == 1 ? NULL : find_block(node, round - 1, a);
        if (a != author && round == 1)
            ancestors[count++] = ch_committee_genesis_ref(&c->committee, a);
        else if (a != author && parent)
            ancestors[count++] = parent->ref;
    }
    if (extra)
        ancestors[count++] = *extra;
    const struct ch_block_draft draft = {.epoch = c->committee.epoch,
                                         .round = round,
                                         .author = author,
                                         .ancestor_count = count,
                                         .timestamp_ms = timestamp_ms,
                                         .ancestors = ancestors};
    f.length = cluster_block(&c->committee, &draft, f.header, &f.ref);
    return f;
}

static void give(struct cluster *c, uint16_t to, const struct forged *f)
{
    cluster_inject(c, to, f->ref.author, CH_MESSAGE_HEADER, f->header, f->length);
}

/* 0 and 1 have signed a round, 2 has not: with a block of 3 that nobody may build on yet, the round has a quorum of
 * accepted blocks, but not of such that the next can name. Was 2 allowed to leave the round out (rule J says so), it
 * could not sign the next, and the others would wait for its block for ever. */
static void round_is_not_left_out_for_one_that_cannot_be_built(void **state)
{
    struct cluster c;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 10, 1);
    for (uint16_t i = 0; i < 3; i++) {
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = i == 2 ? 100 : 20;
        assert_ok(cluster_start(&c, i));
    }
    cluster_run(&c, 10 * SECOND);
    struct ch_core_status s[3];
    for (int k = 0;; k++) {
        assert_true(k < 1000);
        cluster_run(&c, c.now_us + MS);
        for (uint16_t i = 0; i < 3; i++)
            s[i] = cluster_status(&c, i);
        if (s[0].round == s[2].round + 1 && s[1].round == s[0].round && find_block(&c.nodes[2], s[0].round, 0) &&
            find_block(&c.nodes[2], s[0].round, 1) && s[2].decided_round + 2 == s[0].round)
            break;
    }
    struct ch_ref nothing = {.round = s[2].gc_round, .author = 3, .digest = {0xdd}};
    assert_true(nothing.round > 10);
    const struct forged f = forge(&c, &c.nodes[0], 3, s[0].round, nothing, 3, NULL, 1);
    for (uint16_t i = 0; i < 3; i++)
        give(&c, i, &f);
    assert_non_null(find_block(&c.nodes[2], f.ref.round, 3));
    cluster_run(&c, c.now_us + 10 * SECOND);
    nobody_halted(&c);
    assert_true(cluster_status(&c, 0).quorum_round > s[0].round + 20);
    cluster_close(&c);
}

/* Nothing that was fetched, nor what others push of 5, reaches 0 while this holds. */
static bool blocks_of_5_do_not_reach_0(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type,
                                       const uint8_t *body, size_t length)
{
    struct ch_block b;
    if (to == 0 && type == CH_MESSAGE_HEADER) {
        ch_block_view(body, (uint32_t)length, &b);
        return b.author == 5;
    }
    return to == 0 && type == CH_MESSAGE_BLOCKS;
}

/* E2: 0 waits for an honest block that builds on 6's, which builds on 5's, which builds on 5's third block of a round.
 * Only then it learns that 5 equivocates: the claim of the honest block must go all the way down. */
static void exposed_authors_claims_pass_to_the_honest_who_build_on_them(void **state)
{
    struct cluster c;
    cluster_open(&c, 7, test_seed());
    cluster_params(&c, 60, 1);
    for (uint16_t i = 0; i < 5; i++) {
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 400;
        assert_ok(cluster_start(&c, i));
    }
    for (int k = 0; k < 10000; k++) {
        bool all = true;
        for (uint16_t i = 0; i < 5; i++)
            all = all && cluster_status(&c, i).round == 3;
        if (all)
            break;
        cluster_run(&c, c.now_us + MS);
    }
    cluster_run(&c, c.now_us + 100 * MS);
    const struct ch_ref genesis5 = ch_committee_genesis_ref(&c.committee, 5),
                        genesis6 = ch_committee_genesis_ref(&c.committee, 6);
    struct forged variants[3];
    for (int v = 0; v < 3; v++)
        variants[v] = forge(&c, &c.nodes[0], 5, 1, genesis5, 5, NULL, 1 + (uint64_t)v);
    const struct forged middle = forge(&c, &c.nodes[0], 5, 2, variants[2].ref, 5, NULL, 9);
    const struct forged top = forge(&c, &c.nodes[0], 6, 3, genesis6, 5, &middle.ref, 9);
    c.drop = blocks_of_5_do_not_reach_0;
    give(&c, 0, &middle);
    give(&c, 0, &top);
    for (uint16_t i = 1; i < 5; i++) {
        give(&c, i, &variants[2]);
        give(&c, i, &middle);
        give(&c, i, &top);
        assert_int_equal(cluster_status(&c, i).round, 3);
    }
    cluster_run(&c, c.now_us + 800 * MS);
    assert_true(cluster_status(&c, 1).round > 3);
    assert_null(find_block(&c.nodes[0], 4, 1));
    give(&c, 0, &variants[0]);
    give(&c, 0, &variants[1]);
    assert_int_equal(c.nodes[0].reports[CH_REPORT_EVIDENCE], 1);
    c.drop = NULL;
    cluster_run(&c, c.now_us + 20 * SECOND);
    nobody_halted(&c);
    assert_non_null(find_block(&c.nodes[0], 4, 1));
    for (uint16_t i = 0; i < 5; i++)
        assert_true(cluster_status(&c, i).quorum_round > 10);
    cluster_close(&c);
}

/* 13: 3 signs every round and never votes for a commit, 2 was away. Nobody but 0 and 1 can prove what is committed, and
 * when 3 falls silent the chain needs 2. */
static void commits_are_proven_without_those_who_do_not_vote(void **state)
{
    struct cluster c;
    struct ch_ref last;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 20, 2);
    for (uint16_t i = 0; i < 3; i++)
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 10;
    assert_ok(cluster_start(&c, 0));
    assert_ok(cluster_start(&c, 1));
    last = ch_committee_genesis_ref(&c.committee, 3);
    for (uint32_t round = 1; round <= 300; round++) {
        for (int k = 0; k < 1000; k++) {
            if (cluster_status(&c, 0).round >= round && cluster_status(&c, 1).round >= round &&
                (round == 1 || find_block(&c.nodes[0], round - 1, 1)))
                break;
            cluster_run(&c, c.now_us + MS);
        }
        const struct forged f = forge(&c, &c.nodes[0], 3, round, last, 3, NULL, 1);
        give(&c, 0, &f);
        give(&c, 1, &f);
        last = f.ref;
    }
    cluster_run(&c, c.now_us + SECOND);
    const uint32_t round = cluster_status(&c, 0).quorum_round;
    assert_true(round >= 299);
    assert_ok(cluster_start(&c, 2));
    cluster_run(&c, c.now_us + 20 * SECOND);
    nobody_halted(&c);
    assert_true(ch_core_counters(c.nodes[2].core)->commits_synced > 0);
    for (uint16_t i = 0; i < 3; i++)
        assert_true(cluster_status(&c, i).quorum_round > round + 50);
    cluster_close(&c);
}

/* What does not reach 0 while this holds: answers, and the blocks of 1 and 2 at one round. */
static bool round_does_not_reach_0(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type,
                                   const uint8_t *body, size_t length)
{
    const uint32_t *round = c->context;
    struct ch_block b;
    if (to != 0 || type != CH_MESSAGE_HEADER)
        return to == 0;
    ch_block_view(body, (uint32_t)length, &b);
    return b.round == *round && b.author > 0;
}

/* L2: 3 is the first to name two honest blocks that 0 lacks, and fills its own quota. Others wait for them too. */
static void blocks_are_not_refused_because_a_spammer_named_them_first(void **state)
{
    struct cluster c;
    uint32_t round;
    const struct ch_ref nothing = {.round = 1, .author = 3, .digest = {9}};
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 300, 1);
    c.context = &round;
    for (uint16_t i = 0; i < 3; i++) {
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 10;
        assert_ok(cluster_start(&c, i));
    }
    while (cluster_status(&c, 0).round < 140)
        cluster_run(&c, c.now_us + 10 * MS);
    round = cluster_status(&c, 0).round + 2;
    c.drop = round_does_not_reach_0;
    while (!find_block(&c.nodes[1], round, 0) || !find_block(&c.nodes[1], round, 1) ||
           !find_block(&c.nodes[1], round, 2))
        cluster_run(&c, c.now_us + MS);
    const struct forged first = forge(&c, &c.nodes[1], 3, round + 1, nothing, 3, NULL, 1);
    give(&c, 0, &first);
    cluster_run(&c, c.now_us + 200 * MS);
    assert_null(find_block(&c.nodes[0], round, 1));
    for (uint32_t r = round - 1; r >= round - 128; r--) {
        const struct forged spam = forge(&c, &c.nodes[0], 3, r, nothing, 3, NULL, 1);
        give(&c, 0, &spam);
    }
    assert_true(ch_core_counters(c.nodes[0].core)->blocks_evicted >= 1); /* the first went */
    c.drop = NULL;
    cluster_run(&c, c.now_us + 10 * SECOND);
    nobody_halted(&c);
    assert_true(cluster_status(&c, 0).quorum_round > round + 20);
    cluster_close(&c);
}

/* Counts what 4 and 5 are asked for commits by 6. 5 hears none of it. */
static bool questions_do_not_reach_5(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type,
                                     const uint8_t *body, size_t length)
{
    (void)body, (void)length;
    unsigned *asked = c->context;
    if (from != 6 || type != CH_MESSAGE_GET_COMMITS || !cluster_status(c, 6).lagging)
        return false;
    asked[to]++;
    return to == 5;
}

/* 13: 6 is 3,000 commits behind; 5 answers no question, and 4 has nothing to answer with. Once each is enough to learn
 * that: asked again and again, they made 6 slower than the chain. */
static void catching_up_asks_those_who_have_nothing_once(void **state)
{
    struct cluster c;
    unsigned asked[7] = {0};
    cluster_open(&c, 7, test_seed());
    cluster_params(&c, 20, 7);
    for (uint16_t i = 0; i < 7; i++)
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = 20;
    cluster_start_all(&c);
    cluster_run(&c, SECOND);
    for (uint16_t a = 0; a < 6; a++) {
        cluster_connect(&c, a, 6, false);
        cluster_connect(&c, a, 4, false);
    }
    while (c.nodes[0].commit_count < c.nodes[6].commit_count + 3000)
        cluster_run(&c, c.now_us + 100 * MS);
    const uint64_t then = c.nodes[0].commit_count;
    c.drop = questions_do_not_reach_5;
    c.context = asked;
    for (uint16_t a = 0; a < 6; a++)
        cluster_connect(&c, a, 6, true);
    for (int k = 0; k < 600 && (c.nodes[6].commit_count < then || cluster_status(&c, 6).lagging); k++)
        cluster_run(&c, c.now_us + 100 * MS);
    nobody_halted(&c);
    assert_false(cluster_status(&c, 6).lagging);
    assert_true(asked[0] + asked[1] + asked[2] + asked[3] >= 20);
    assert_true(asked[4] <= 1 && asked[5] <= 1);
    cluster_close(&c);
}

/* GET_COMMITS of the last validator on their way, or being answered: of each peer, [from, to]; 0: none. */
struct flight {
    uint64_t from[CLUSTER_NODES_MAX], to[CLUSTER_NODES_MAX];
    unsigned now, most;
};

static bool questions_are_disjoint(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type,
                                   const uint8_t *body, size_t length)
{
    (void)length;
    struct flight *f = c->context;
    if (from == c->n - 1 && type == CH_MESSAGE_GET_COMMITS) {
        assert_int_equal(f->from[to], 0); /* one question to each at once */
        for (uint16_t p = 0; p < c->n; p++)
            assert_true(!f->from[p] || f->to[p] < ch_load64(body) || f->from[p] > ch_load64(body + 8));
        f->from[to] = ch_load64(body);
        f->to[to] = ch_load64(body + 8);
        f->most = ++f->now > f->most ? f->now : f->most;
    } else if (to == c->n - 1 && type == CH_MESSAGE_COMMITS) {
        assert_int_equal(f->from[from], ch_load64(body));
        f->from[from] = 0;
        f->now--;
    }
    return false;
}

/* The last of them is away for this many commits, and connected again. */
static uint64_t leave_behind(struct cluster *c, uint64_t commits)
{
    const uint16_t last = (uint16_t)(c->n - 1);
    for (uint16_t i = 0; i < c->n; i++)
        c->nodes[i].config.min_round_delay_ms = c->nodes[i].config.idle_round_delay_ms = 50;
    cluster_start_all(c);
    cluster_run(c, SECOND);
    for (uint16_t a = 0; a < last; a++)
        cluster_connect(c, a, last, false);
    while (c->nodes[0].commit_count < c->nodes[last].commit_count + commits)
        cluster_run(c, c->now_us + 100 * MS);
    return c->nodes[0].commit_count;
}

static void catch_up(struct cluster *c, uint64_t commits)
{
    const uint16_t last = (uint16_t)(c->n - 1);
    for (uint16_t a = 0; a < last; a++)
        cluster_connect(c, a, last, true);
    for (int k = 0; k < 600 && (c->nodes[last].commit_count < commits || cluster_status(c, last).lagging); k++)
        cluster_run(c, c->now_us + 100 * MS);
    nobody_halted(c);
    assert_true(c->nodes[last].commit_count >= commits);
    assert_false(cluster_status(c, last).lagging);
}

/* 13.1 */
static void commits_come_from_several_peers_at_once(void **state)
{
    struct cluster c;
    struct flight flight = {0};
    cluster_open(&c, 10, test_seed());
    cluster_params(&c, 20, 10);
    const uint64_t commits = leave_behind(&c, 3000);
    c.delay_min_us = c.delay_max_us = 100 * MS;
    c.drop = questions_are_disjoint;
    c.context = &flight;
    const uint64_t began_us = c.now_us;
    catch_up(&c, commits);
    assert_int_equal(flight.most, 8);
    assert_true(c.now_us - began_us < 6 * SECOND); /* 32 questions one after another take as long in travel alone */
    cluster_close(&c);
}

static uint64_t commits_are_late(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type,
                                 const uint8_t *body, size_t length)
{
    (void)c, (void)from, (void)to, (void)body, (void)length;
    return type == CH_MESSAGE_COMMITS ? 1500 * MS : 0;
}

/* Payloads that the last validator asked for while it lagged: rounds and bytes. */
struct asked {
    uint32_t rounds[4096], bytes[4096], count;
    uint64_t most; /* bytes at once, beyond the commit after the last */
};

static bool note_payloads(struct cluster *c, uint16_t from, uint16_t to, enum ch_message_type type, const uint8_t *body,
                          size_t length)
{
    (void)to, (void)length;
    struct asked *asked = c->context;
    if (from != c->n - 1 || type != CH_MESSAGE_GET_PAYLOAD || !cluster_status(c, from).lagging)
        return false;
    const struct ch_ref ref = ch_ref_read(body);
    const struct record *record = find_block(&c->nodes[0], ref.round, ref.author);
    struct ch_block block;
    uint64_t bytes = 0;
    assert_true(record && asked->count < 4096);
    ch_block_view(record->bytes, (uint32_t)record->length, &block);
    asked->rounds[asked->count] = ref.round;
    asked->bytes[asked->count++] = block.payload_length;
    for (uint32_t i = 0; i < asked->count; i++)
        bytes += asked->rounds[i] > cluster_status(c, from).leader_round + 2 ? asked->bytes[i] : 0;
    asked->most = bytes > asked->most ? bytes : asked->most;
    return false;
}

static uint64_t most_bytes_ahead(uint64_t bytes_max)
{
    static struct asked asked;
    struct cluster c;
    asked.count = asked.most = 0;
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 60, 1);
    c.nodes[3].config.catch_up_bytes_max = bytes_max;
    for (uint16_t i = 0; i < 3; i++)
        c.nodes[i].pending = 100000;
    const uint64_t commits = leave_behind(&c, 400);
    c.drop = note_payloads;
    c.context = &asked;
    catch_up(&c, commits);
    assert_true(asked.count > 300);
    cluster_close(&c);
    return asked.most;
}

/* 13.1: payloads that wait for the commits before theirs are bounded in bytes. Here one has a hundred or so. */
static void payloads_fetched_ahead_are_bounded_in_bytes(void **state)
{
    assert_true(most_bytes_ahead(256u << 20) > 6000);
    assert_in_range(most_bytes_ahead(3000), 1, 4500); /* with what was accepted before it was committed */
    assert_true(most_bytes_ahead(0) < 2500); /* one commit after another, and it still arrives */
}

/* On a line where every answer takes longer than its deadline, answers are taken all the same. */
static void commits_that_come_late_are_taken(void **state)
{
    struct cluster c;
    cluster_open(&c, 7, test_seed());
    cluster_params(&c, 20, 7);
    const uint64_t commits = leave_behind(&c, 1500);
    c.hold_us = commits_are_late;
    catch_up(&c, commits);
    cluster_close(&c);
}

/* 13.1: f + 1 others stand behind commits that do not follow from ours. */
static void proven_commits_of_another_past_halt(void **state)
{
    struct cluster c;
    uint8_t commit[CH_COMMIT_FIXED_BYTES + CH_REF_BYTES], vote[CH_BLOCK_VOTE_BYTES], header[2048], body[8192];
    cluster_open(&c, 4, test_seed());
    const uint64_t ahead = leave_behind(&c, 200);
    const struct ch_core_status s = cluster_status(&c, 3);
    for (uint16_t a = 0; a < 3; a++)
        cluster_connect(&c, a, 3, true);
    while (!cluster_status(&c, 3).lagging)
        cluster_run(&c, c.now_us + MS);
    assert_true(cluster_status(&c, 3).commit_index == s.commit_index && s.commit_index < ahead);
    const struct ch_commit forged = {.index = s.commit_index + 1,
                                     .previous = {0xbb},
                                     .leader = {.round = s.leader_round + 1},
                                     .gc_round = s.gc_round,
                                     .timestamp_ms = s.commit_ms,
                                     .block_count = 1};
    ch_commit_write(&forged, commit);
    memcpy(commit + CH_COMMIT_FIXED_BYTES, &forged.leader, CH_REF_BYTES);
    ch_store64(vote, forged.index);
    ch_commit_digest(&c.committee, commit, sizeof commit, vote + 8);
    struct ch_writer w = ch_writer(body, sizeof body);
    ch_write64(&w, forged.index);
    ch_write64(&w, 1);
    ch_write16(&w, 1);
    ch_write16(&w, 2);
    ch_message_item(&w, commit, sizeof commit);
    for (uint16_t author = 0; author < 2; author++) {
        struct ch_ref ref, ancestors[4];
        for (uint16_t i = 0; i < 4; i++)
            ancestors[i] = ch_committee_genesis_ref(&c.committee, i == 0 ? author : (uint16_t)(i - (i <= author)));
        const struct ch_block_draft draft = {
            .round = 1, .author = author, .ancestor_count = 4, .vote_count = 1, .votes = vote, .ancestors = ancestors};
        ch_message_item(&w, header, cluster_block(&c.committee, &draft, header, &ref));
    }
    assert_false(w.bad);
    cluster_inject(&c, 3, 2, CH_MESSAGE_COMMITS, body, w.used);
    assert_int_equal(c.nodes[3].halt, CH_HALT_FORK);
    cluster_close(&c);
}

/* C3, I15: 3 paces itself more slowly than the others. It keeps up, and leads its rounds in time. */
static void slower_validator_leads_its_rounds(void **state)
{
    struct cluster c;
    struct ch_core_counters totals = {0};
    cluster_open(&c, 4, test_seed());
    cluster_params(&c, 20, 1);
    for (uint16_t i = 0; i < 4; i++)
        c.nodes[i].config.min_round_delay_ms = c.nodes[i].config.idle_round_delay_ms = i == 3 ? 100 : 50;
    cluster_start_all(&c);
    cluster_run(&c, 20 * SECOND);
    nobody_halted(&c);
    cluster_count(&c, &totals);
    assert_true(ch_core_counters(c.nodes[3].core)->signed_behind > 100);
    assert_int_equal(totals.rounds_jumped, 0);
    assert_int_equal(totals.signed_timeout, 0);
    assert_int_equal(totals.skips_direct + totals.skips_indirect, 0);
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_is_not_left_out_for_one_that_cannot_be_built),
        cmocka_unit_test(exposed_authors_claims_pass_to_the_honest_who_build_on_them),
        cmocka_unit_test(commits_are_proven_without_those_who_do_not_vote),
        cmocka_unit_test(blocks_are_not_refused_because_a_spammer_named_them_first),
        cmocka_unit_test(catching_up_asks_those_who_have_nothing_once),
        cmocka_unit_test(commits_come_from_several_peers_at_once),
        cmocka_unit_test(payloads_fetched_ahead_are_bounded_in_bytes),
        cmocka_unit_test(commits_that_come_late_are_taken),
        cmocka_unit_test(proven_commits_of_another_past_halt),
        cmocka_unit_test(slower_validator_leads_its_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
