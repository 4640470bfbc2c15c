/* The directed vectors T01-T22 of docs/consensus.md 18, block by block through the machine's own structures. Four
 * authors of unit stake A, B, C, D; `X r` is X's block of round r; leader(r) = A, B, C, D, A .. unless said
 * otherwise. */
#include "consensus/core_impl.h"
#include "tests/test.h"

#define ROUNDS 32
#define NAMES  128

struct dag {
    struct ch_core *core;
    struct ch_committee committee;
    char names[NAMES][8];
    struct ch_ref refs[NAMES];
    unsigned count;
    uint16_t leaders[ROUNDS][4];
    enum ch_decision decisions[ROUNDS][4];
    struct ch_ref decided[ROUNDS][4];
    uint32_t ranks;
    char sequence[512], commits[1024]; /* "A1 skip2.0 C3", "A1=[A1] B2=[B1 C1 D1 B2]" */
};

static void leaders_of(void *context, uint32_t round, uint16_t *authors)
{
    const struct dag *d = context;
    for (uint32_t k = 0; k < d->ranks; k++)
        authors[k] = d->leaders[round][k];
}

static void dag_open(struct dag *d, uint32_t ranks, uint32_t gc_depth)
{
    struct ch_genesis genesis;
    struct ch_core_config config;
    const uint8_t chain_id[CH_HASH_BYTES] = {1};
    memset(d, 0, sizeof *d);
    d->ranks = ranks;
    for (uint32_t r = 1; r < ROUNDS; r++)
        for (uint32_t k = 0; k < 4; k++)
            d->leaders[r][k] = (uint16_t)((r - 1 + k) % 4);
    ch_genesis_defaults(&genesis, 4);
    genesis.validator_count = 4;
    genesis.params.leaders_per_round = ranks;
    genesis.params.gc_depth = gc_depth;
    for (unsigned i = 0; i < 4; i++)
        genesis.validators[i].stake = 1;
    ch_committee_from_genesis(&genesis, chain_id, &d->committee);
    ch_core_defaults(&config, &d->committee, CH_CORE_NOBODY);
    config.leaders = leaders_of;
    config.leaders_context = d;
    const struct ch_core_now now = {0};
    assert_ok(ch_core_open(&config, &d->core));
    assert_ok(ch_core_start(d->core, &now, NULL, 0));
    struct ch_core_action action;
    while (ch_core_next_out(d->core, &action))
        continue;
}

static const char *name_of(const struct dag *d, const uint8_t *digest)
{
    for (unsigned i = 0; i < d->count; i++)
        if (memcmp(d->refs[i].digest, digest, CH_HASH_BYTES) == 0)
            return d->names[i];
    return "?";
}

static struct ch_ref ref_of(const struct dag *d, const char *name)
{
    if (name[1] == '0')
        return ch_committee_genesis_ref(&d->committee, (uint16_t)(name[0] - 'A'));
    for (unsigned i = 0; i < d->count; i++)
        if (strcmp(d->names[i], name) == 0)
            return d->refs[i];
    fail_msg("no block %s", name);
    return (struct ch_ref){0};
}

/* Decides, and writes down what was decided and committed. */
static void settle(struct dag *d)
{
    struct ch_core *core = d->core;
    struct ch_core_action action;
    decide_open_slots(core);
    for (uint32_t r = core->floor_round + 1; r <= core->max_round; r++)
        for (uint16_t k = 0; k < core->ranks; k++) {
            struct ch_ref leader = {0};
            enum ch_decision now = ch_core_decision(core, r, k, &leader);
            if (d->decisions[r][k] != CH_UNDECIDED) { /* monotone */
                assert_int_equal(now, d->decisions[r][k]);
                assert_memory_equal(&leader, &d->decided[r][k], sizeof leader);
            }
            d->decisions[r][k] = now;
            d->decided[r][k] = leader;
        }
    const uint32_t round = core->next_round;
    const uint16_t rank = core->next_rank;
    decide(core);
    for (uint32_t r = round; r <= core->next_round; r++)
        for (uint16_t k = r == round ? rank : 0; k < core->ranks; k++) {
            if (r == core->next_round && k >= core->next_rank)
                break;
            size_t at = strlen(d->sequence);
            const char *space = at ? " " : "";
            if (d->decisions[r][k] == CH_SKIP)
                snprintf(d->sequence + at, sizeof d->sequence - at, "%sskip%u.%u", space, r, k);
            else
                snprintf(d->sequence + at, sizeof d->sequence - at, "%s%s", space, name_of(d, d->decided[r][k].digest));
        }
    core->lsn_synced = core->lsn;
    deliveries_synced(core);
    while (ch_core_next_out(core, &action)) {
        assert_int_not_equal(action.type, CH_ACTION_HALT);
        if (action.type != CH_ACTION_DELIVER)
            continue;
        size_t at = strlen(d->commits);
        at += (size_t)snprintf(d->commits + at, sizeof d->commits - at, "%s%s=[", at ? " " : "",
                               name_of(d, action.deliver.bytes.data + 46 + 8));
        for (uint32_t i = 0; i < action.deliver.block_count; i++)
            at += (size_t)snprintf(d->commits + at, sizeof d->commits - at, "%s%s", i ? " " : "",
                                   name_of(d, action.deliver.blocks[i].ref.digest));
        snprintf(d->commits + at, sizeof d->commits - at, "]");
    }
}

static uint64_t time_of(const char *name)
{
    return (uint64_t)atoi(name + 1) * 1000 + (uint64_t)(name[0] - 'A');
}

static void add_by(struct dag *d, const char *name, uint16_t author, const char *ancestors)
{
    struct ch_ref list[4], ref = {.round = (uint32_t)atoi(name + 1), .author = author};
    uint16_t count = 0;
    char words[64], *save, *word;
    snprintf(words, sizeof words, "%s", ancestors);
    for (word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save))
        list[count++] = ref_of(d, word);
    assert_true(d->count < NAMES);
    ch_hash(name, strlen(name), ref.digest);
    snprintf(d->names[d->count], sizeof d->names[0], "%s", name);
    d->refs[d->count++] = ref;
    struct ch_block_draft draft = {.round = ref.round,
                                   .author = ref.author,
                                   .ancestor_count = count,
                                   .ancestors = list,
                                   .timestamp_ms = time_of(name)};
    core_begin(d->core);
    uint32_t id = block_new(d->core, &ref);
    assert_int_not_equal(id, NONE);
    d->core->blocks[id].length = ch_block_write(&draft, block_header(d->core, id));
    d->core->blocks[id].payload_here = true;
    d->core->blocks[id].timestamp_ms = draft.timestamp_ms;
    accept_own(d->core, id);
    settle(d);
}

static void add(struct dag *d, const char *name, const char *ancestors)
{
    add_by(d, name, (uint16_t)(name[0] - 'A'), ancestors);
}

static bool exists(const struct dag *d, const char *name)
{
    if (name[1] == '0')
        return true;
    for (unsigned i = 0; i < d->count; i++)
        if (strcmp(d->names[i], name) == 0)
            return true;
    return false;
}

/* Every author of `only` references every block of the round before (first variants). */
static void full(struct dag *d, unsigned from, unsigned to, const char *only)
{
    for (unsigned r = from; r <= to; r++)
        for (const char *x = only; *x; x++) {
            char name[8], list[64] = "", parent[8];
            snprintf(name, sizeof name, "%c%u", *x, r);
            unsigned own = r - 1;
            for (snprintf(parent, sizeof parent, "%c%u", *x, own); !exists(d, parent); own--)
                snprintf(parent, sizeof parent, "%c%u", *x, own - 1);
            strcat(list, parent);
            for (char y = 'A'; y <= 'D'; y++) {
                snprintf(parent, sizeof parent, "%c%u", y, r - 1);
                if (y != *x && exists(d, parent))
                    strcat(strcat(list, " "), parent);
            }
            add(d, name, list);
        }
}

static enum ch_decision decision(const struct dag *d, uint32_t round, uint16_t rank)
{
    return d->decisions[round][rank];
}

/* "C A1" committed A1, "S" skipped, "U" undecided */
static void expect_slot(const struct dag *d, uint32_t round, uint16_t rank, const char *expected)
{
    static const char *const letters[] = {"U", "C", "S"};
    char got[16];
    snprintf(got, sizeof got, "%s%s%s", letters[decision(d, round, rank)],
             decision(d, round, rank) == CH_COMMIT ? " " : "",
             decision(d, round, rank) == CH_COMMIT ? name_of(d, d->decided[round][rank].digest) : "");
    assert_string_equal(got, expected);
}

static void expect(struct dag *d, const char *sequence)
{
    assert_string_equal(d->sequence, sequence);
    ch_core_close(d->core);
}

static void t01_two_full_rounds_decide_nothing(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 2, "ABCD");
    expect_slot(&d, 1, 0, "U");
    expect_slot(&d, 2, 0, "U");
    expect(&d, "");
}

static void t02_three_full_rounds_commit_the_first_leader(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 3, "ABCD");
    expect_slot(&d, 2, 0, "U");
    expect(&d, "A1");
}

static void t03_seven_full_rounds_commit_five_leaders(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 7, "ABCD");
    expect_slot(&d, 6, 0, "U");
    expect_slot(&d, 7, 0, "U");
    expect(&d, "A1 B2 C3 D4 A5");
}

static void t04_three_blames_skip(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 1, "ABCD");
    add(&d, "B2", "B1 C1 D1");
    add(&d, "C2", "C1 B1 D1");
    expect_slot(&d, 1, 0, "U");
    add(&d, "D2", "D1 B1 C1");
    expect(&d, "skip1.0");
}

static void t05_absent_leader_is_skipped_by_a_quorum(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 2, "BCD");
    expect(&d, "skip1.0");
}

static void t06_absent_leader_waits_for_a_quorum(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 1, "BCD");
    full(&d, 2, 2, "BC");
    expect_slot(&d, 1, 0, "U");
    expect(&d, "");
}

static void split_votes(struct dag *d)
{
    full(d, 1, 1, "ABCD");
    add(d, "A2", "A1 B1 C1 D1");
    add(d, "B2", "B1 A1 C1 D1");
    add(d, "C2", "C1 B1 D1");
    add(d, "D2", "D1 B1 C1");
}

static void t07_split_votes_are_decided_by_the_anchor(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    split_votes(&d);
    full(&d, 3, 5, "ABCD");
    expect_slot(&d, 1, 0, "U");
    expect_slot(&d, 2, 0, "C B2");
    expect_slot(&d, 3, 0, "C C3");
    assert_string_equal(d.sequence, "");
    full(&d, 6, 6, "ABCD");
    expect(&d, "skip1.0 B2 C3 D4");
}

static void one_certificate(struct dag *d)
{
    full(d, 1, 1, "ABCD");
    add(d, "A2", "A1 B1 C1 D1");
    add(d, "B2", "B1 A1 C1 D1");
    add(d, "C2", "C1 A1 B1 D1");
    add(d, "D2", "D1 B1 C1");
    add(d, "A3", "A2 B2 C2 D2");
    add(d, "B3", "B2 A2 D2");
    add(d, "C3", "C2 A2 D2");
    add(d, "D3", "D2 A2 B2");
}

static void t08_one_certificate_below_the_anchor_commits(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    one_certificate(&d);
    expect_slot(&d, 1, 0, "U");
    full(&d, 4, 6, "ABCD");
    assert_int_equal(ch_core_counters(d.core)->commits_indirect, 1);
    expect(&d, "A1 B2 C3 D4");
}

static void t09_certificate_outside_the_anchors_history_does_not_count(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    one_certificate(&d);
    add(&d, "B4", "B3 C3 D3");
    add(&d, "C4", "C3 B3 D3");
    add(&d, "D4", "D3 B3 C3");
    add(&d, "A4", "A3 B3 C3 D3");
    full(&d, 5, 6, "ABCD");
    expect_slot(&d, 2, 0, "U");
    expect_slot(&d, 3, 0, "C C3");
    expect_slot(&d, 4, 0, "C D4");
    expect(&d, "skip1.0");
}

static void t10_equivocating_leader_with_split_votes_is_skipped(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 1, "ABCD");
    add(&d, "A1'", "A0 B0 C0");
    add(&d, "B2", "B1 A1 C1 D1");
    add(&d, "C2", "C1 A1 B1 D1");
    add(&d, "D2", "D1 A1' B1 C1");
    add(&d, "A2", "A1' B1 C1 D1");
    full(&d, 3, 6, "ABCD");
    expect(&d, "skip1.0 B2 C3 D4");
}

static void t11_equivocating_leader_with_a_quorum_is_committed(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 1, "ABCD");
    add(&d, "A1'", "A0 B0 C0");
    add(&d, "B2", "B1 A1 C1 D1");
    add(&d, "C2", "C1 A1 B1 D1");
    add(&d, "D2", "D1 A1 B1 C1");
    add(&d, "A2", "A1' B1 C1 D1");
    full(&d, 3, 3, "ABCD");
    expect(&d, "A1");
}

static void t12_an_author_may_vote_and_blame_once_each(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 1, "ABCD");
    add(&d, "A2", "A1 B1 C1 D1");
    add(&d, "C2", "C1 B1 D1");
    add(&d, "D2", "D1 B1 C1");
    add(&d, "D2'", "D1 A1 B1 C1");
    expect_slot(&d, 1, 0, "U");
    add(&d, "B2", "B1 C1 D1");
    expect(&d, "skip1.0");
}

static void t13_two_blames_of_one_author_count_once(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 1, "ABCD");
    add(&d, "A2", "A1 B1 C1 D1");
    add(&d, "B2", "B1 A1 C1 D1");
    add(&d, "C2", "C1 B1 D1");
    add(&d, "D2", "D1 B1 C1");
    add(&d, "D2'", "D1 C1 B1");
    expect_slot(&d, 1, 0, "U");
    expect(&d, "");
}

static void t14_an_undecided_anchor_is_not_passed_over(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    split_votes(&d);
    full(&d, 3, 4, "ABCD");
    add(&d, "A5", "A4 B4 C4");
    add(&d, "B5", "B4 A4 C4");
    add(&d, "C5", "C4 A4 D4");
    add(&d, "D5", "D4 A4 B4 C4");
    full(&d, 6, 7, "ABCD");
    expect_slot(&d, 1, 0, "U");
    expect_slot(&d, 4, 0, "U");
    expect_slot(&d, 5, 0, "C A5");
    assert_string_equal(d.sequence, "");
    full(&d, 8, 9, "ABCD");
    expect(&d, "skip1.0 B2 C3 skip4.0 A5 B6 C7");
}

static void t15_a_skipped_anchor_gives_way_to_the_next(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    split_votes(&d);
    full(&d, 3, 3, "ABCD");
    full(&d, 4, 7, "ABC");
    expect(&d, "skip1.0 B2 C3 skip4.0 A5");
}

static void t16_two_leaders_a_round_commit_in_slot_order(void **state)
{
    struct dag d;
    dag_open(&d, 2, 60);
    full(&d, 1, 5, "ABCD");
    expect(&d, "A1 B1 B2 C2 C3 D3");
}

static void t17_an_undecided_second_rank_holds_back_all_later_slots(void **state)
{
    struct dag d;
    dag_open(&d, 2, 60);
    full(&d, 1, 1, "ABCD");
    add(&d, "A2", "A1 B1 C1 D1");
    add(&d, "B2", "B1 A1 C1 D1");
    add(&d, "C2", "C1 A1 D1");
    add(&d, "D2", "D1 A1 C1");
    full(&d, 3, 5, "ABCD");
    expect_slot(&d, 1, 1, "U");
    expect_slot(&d, 2, 0, "C B2");
    expect_slot(&d, 3, 1, "C D3");
    assert_string_equal(d.sequence, "A1");
    full(&d, 6, 6, "ABCD");
    expect(&d, "A1 skip1.1 B2 C2 C3 D3 D4 A4");
}

static void weak_link(struct dag *d, uint32_t gc_depth)
{
    dag_open(d, 1, gc_depth);
    full(d, 1, 2, "ABCD");
    add(d, "A3", "A2 B2 C2");
    add(d, "B3", "B2 A2 C2");
    add(d, "C3", "C2 A2 B2");
    full(d, 4, 5, "ABC");
    add(d, "A6", "A5 B5 C5");
    add(d, "B6", "B5 A5 C5 D2");
    add(d, "C6", "C5 A5 B5");
    full(d, 7, 9, "ABC");
}

static void t18_a_weak_link_is_taken_or_collected_alike_for_everybody(void **state)
{
    static const char head[] = "A1=[A1] B2=[B1 C1 D1 B2] C3=[A2 C2 C3] A5=[A3 B3 A4 B4 C4 A5] ";
    static const char tail[] = " C7=[A6 C6 C7]";
    const uint32_t depths[] = {60, 3, 2};
    for (unsigned i = 0; i < 3; i++) {
        struct dag d;
        char expected[256];
        weak_link(&d, depths[i]);
        snprintf(expected, sizeof expected, "%s%s%s", head, i == 0 ? "B6=[D2 B5 C5 B6]" : "B6=[B5 C5 B6]", tail);
        assert_string_equal(d.commits, expected);
        expect(&d, "A1 B2 C3 skip4.0 A5 B6 C7 skip8.0");
    }
}

static void t19_the_papers_example_decides_as_in_the_paper(void **state)
{
    static const struct {
        const char *name;
        uint16_t author;
        const char *ancestors;
    } blocks[] = {
        {"a1", 0, "A0 B0 C0"},    {"b1", 1, "B0 A0 C0"}, {"c1", 2, "C0 A0 B0"},    {"d1", 3, "D0 A0 B0"},
        {"d2", 0, "a1 b1 c1"},    {"a2", 1, "a1 b1 d1"}, {"b2", 2, "a1 c1 d1"},    {"c2", 3, "a1 c1 d1"},
        {"c3", 0, "d2 a2 b2"},    {"d3", 1, "d2 a2 c2"}, {"b3", 3, "d2 a2 b2 c2"}, {"d4", 0, "c3 d3 b3"},
        {"a4", 1, "c3 d3 b3"},    {"b4", 2, "c3 d3 b3"}, {"c4", 3, "c3 d3 b3"},    {"c5", 0, "d4 b4 c4"},
        {"d5", 1, "d4 a4 b4 c4"}, {"a5", 2, "d4 b4 c4"}, {"b5", 3, "d4 b4 c4"},    {"b6", 0, "c5 d5 a5 b5"},
        {"c6", 1, "d5 a5 b5"},    {"d6", 2, "d5 a5 b5"},
    };
    static const uint16_t leaders[7][4] = {{0},          {0, 1, 2, 3}, {1, 2, 3, 0}, {2, 3, 0, 1},
                                           {1, 2, 3, 0}, {2, 3, 0, 1}, {3, 0, 1, 2}};
    struct dag d;
    dag_open(&d, 4, 60);
    for (unsigned r = 1; r <= 6; r++)
        memcpy(d.leaders[r], leaders[r], sizeof leaders[r]);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        add_by(&d, blocks[i].name, blocks[i].author, blocks[i].ancestors);
    static const char *const expected[5][4] = {{0},
                                               {"C a1", "S", "C c1", "C d1"},
                                               {"C a2", "U", "U", "C d2"},
                                               {"S", "C b3", "C c3", "C d3"},
                                               {"S", "C b4", "C c4", "C d4"}};
    for (uint32_t r = 1; r <= 4; r++)
        for (uint16_t k = 0; k < 4; k++)
            expect_slot(&d, r, k, expected[r][k]);
    for (uint32_t r = 5; r <= 6; r++)
        for (uint16_t k = 0; k < 4; k++)
            expect_slot(&d, r, k, "U");
    expect(&d, "a1 skip1.1 c1 d1 a2");
}

static void t20_deciding_again_without_change_emits_nothing(void **state)
{
    struct dag d;
    struct ch_core_action action;
    dag_open(&d, 2, 60);
    full(&d, 1, 6, "ABCD");
    const uint64_t lsn = d.core->lsn;
    const struct ch_core_counters before = *ch_core_counters(d.core);
    core_begin(d.core);
    decide(d.core);
    decide(d.core);
    assert_int_equal(d.core->lsn, lsn);
    assert_false(ch_core_next_out(d.core, &action));
    assert_memory_equal(&before, ch_core_counters(d.core), sizeof before);
    ch_core_close(d.core);
}

static void t21_a_late_unreferenced_candidate_changes_nothing(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 2, "BCD");
    expect_slot(&d, 1, 0, "S");
    add(&d, "A1", "A0 B0 C0 D0");
    expect_slot(&d, 1, 0, "S");
    add(&d, "A1'", "A0 B0 C0");
    expect_slot(&d, 1, 0, "S");
    full(&d, 3, 6, "BCD");
    expect(&d, "skip1.0 B2 C3 D4 skip5.0");
}

/* 10: the smallest timestamp at which half of the parents' stake is reached, never below the last commit's. */
static void commit_time_is_the_median_of_the_parents(void **state)
{
    struct dag d;
    dag_open(&d, 1, 60);
    full(&d, 1, 5, "ABCD");
    assert_int_equal(d.core->last_commit.index, 3);
    assert_int_equal(d.core->last_commit.timestamp_ms, 2001); /* C3 on A2 B2 C2 D2 at 2000 .. 2003 */
    ch_core_close(d.core);
}

/* 8, computed independently with Python's hashlib for stakes 1, 2, 3, 4. */
static void leaders_are_drawn_by_stake(void **state)
{
    static const uint16_t expected[12][2] = {{3, 1}, {3, 2}, {1, 2}, {3, 2}, {2, 3}, {3, 2},
                                             {2, 1}, {3, 1}, {2, 3}, {3, 1}, {2, 1}, {1, 3}};
    struct dag d;
    uint32_t first[4] = {0};
    dag_open(&d, 2, 60);
    for (unsigned i = 0; i < 4; i++)
        d.core->committee.stake[i] = i + 1;
    ch_committee_init(&d.core->committee);
    d.core->config.leaders = NULL;
    for (uint32_t r = 1; r <= 10000; r++) {
        uint16_t got[2];
        schedule_leaders(d.core, r, got);
        if (r <= 12)
            assert_memory_equal(got, expected[r - 1], sizeof got);
        assert_int_not_equal(got[0], got[1]);
        first[got[0]]++;
    }
    for (uint32_t i = 0; i < 4; i++) /* a tenth of the rounds for each unit of stake; two hundred is four sigma */
        assert_in_range(first[i], 1000 * (i + 1) - 200, 1000 * (i + 1) + 200);
    ch_core_close(d.core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t01_two_full_rounds_decide_nothing),
        cmocka_unit_test(t02_three_full_rounds_commit_the_first_leader),
        cmocka_unit_test(t03_seven_full_rounds_commit_five_leaders),
        cmocka_unit_test(t04_three_blames_skip),
        cmocka_unit_test(t05_absent_leader_is_skipped_by_a_quorum),
        cmocka_unit_test(t06_absent_leader_waits_for_a_quorum),
        cmocka_unit_test(t07_split_votes_are_decided_by_the_anchor),
        cmocka_unit_test(t08_one_certificate_below_the_anchor_commits),
        cmocka_unit_test(t09_certificate_outside_the_anchors_history_does_not_count),
        cmocka_unit_test(t10_equivocating_leader_with_split_votes_is_skipped),
        cmocka_unit_test(t11_equivocating_leader_with_a_quorum_is_committed),
        cmocka_unit_test(t12_an_author_may_vote_and_blame_once_each),
        cmocka_unit_test(t13_two_blames_of_one_author_count_once),
        cmocka_unit_test(t14_an_undecided_anchor_is_not_passed_over),
        cmocka_unit_test(t15_a_skipped_anchor_gives_way_to_the_next),
        cmocka_unit_test(t16_two_leaders_a_round_commit_in_slot_order),
        cmocka_unit_test(t17_an_undecided_second_rank_holds_back_all_later_slots),
        cmocka_unit_test(t18_a_weak_link_is_taken_or_collected_alike_for_everybody),
        cmocka_unit_test(t19_the_papers_example_decides_as_in_the_paper),
        cmocka_unit_test(t20_deciding_again_without_change_emits_nothing),
        cmocka_unit_test(t21_a_late_unreferenced_candidate_changes_nothing),
        cmocka_unit_test(leaders_are_drawn_by_stake),
        cmocka_unit_test(commit_time_is_the_median_of_the_parents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
