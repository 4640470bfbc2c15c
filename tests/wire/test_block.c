#include "wire/block.h"

#include "tests/test.h"

static struct ch_committee committee;
static uint8_t good[16384];
static uint32_t good_length;

static void make_committee(uint16_t n)
{
    struct ch_genesis genesis;
    uint8_t chain_id[CH_HASH_BYTES];
    ch_genesis_defaults(&genesis, n);
    genesis.validator_count = n;
    genesis.start_ms = 1700000000000;
    for (unsigned i = 0; i < n; i++) {
        memset(genesis.validators[i].key, (int)i + 1, 32);
        genesis.validators[i].stake = 1;
    }
    memset(chain_id, 7, sizeof chain_id);
    ch_committee_from_genesis(&genesis, chain_id, &committee);
}

/* Author 1 of four at round 9, on all of round 8, with two votes and two checkpoint signatures. */
static void make_good(void)
{
    struct ch_ref ancestors[4];
    uint8_t votes[2 * CH_BLOCK_VOTE_BYTES] = {0}, cksigs[2 * CH_BLOCK_CKSIG_BYTES] = {0};
    make_committee(4);
    const uint16_t order[] = {1, 0, 2, 3};
    for (unsigned i = 0; i < 4; i++) {
        ancestors[i] = (struct ch_ref){.round = 8, .author = order[i]};
        memset(ancestors[i].digest, 0x40 + order[i], CH_HASH_BYTES);
    }
    ch_store64(votes, 5);
    ch_store64(votes + CH_BLOCK_VOTE_BYTES, 6);
    ch_store64(cksigs, 1);
    ch_store64(cksigs + CH_BLOCK_CKSIG_BYTES, 2);
    struct ch_block_draft draft = {
        .round = 9,
        .author = 1,
        .ancestor_count = 4,
        .vote_count = 2,
        .cksig_count = 2,
        .payload_length = 100,
        .payload_items = 1,
        .timestamp_ms = 1700000001234,
        .ancestors = ancestors,
        .votes = votes,
        .cksigs = cksigs,
    };
    memset(draft.payload_root, 0x99, CH_HASH_BYTES);
    good_length = ch_block_write(&draft, good);
}

static enum ch_block_verdict parse(const uint8_t *bytes, size_t length)
{
    struct ch_block b;
    return ch_block_parse(&committee, bytes, length, &b);
}

static uint8_t *ancestor(uint8_t *bytes, unsigned i)
{
    return bytes + CH_BLOCK_FIXED_BYTES + (size_t)i * CH_REF_BYTES;
}

static void written_block_reads_back(void **state)
{
    struct ch_block b;
    make_good();
    assert_int_equal(good_length, 72 + 4 * 40 + 2 * 40 + 2 * 104 + 64);
    assert_int_equal(ch_block_parse(&committee, good, good_length, &b), CH_BLOCK_OK);
    assert_int_equal(b.author, 1);
    assert_int_equal(b.round, 9);
    assert_int_equal(b.timestamp_ms, 1700000001234);
    assert_int_equal(b.payload_length, 100);
    assert_int_equal(b.payload_items, 1);
    assert_int_equal(ch_block_ancestor(&b, 3).author, 3);
    assert_ptr_equal(b.signature, good + good_length - 64);
}

static void digest_leaves_the_signature_out(void **state)
{
    struct ch_block b;
    uint8_t one[CH_HASH_BYTES], two[CH_HASH_BYTES];
    make_good();
    assert_int_equal(ch_block_parse(&committee, good, good_length, &b), CH_BLOCK_OK);
    ch_block_digest(&committee, &b, one);
    good[good_length - 1] ^= 1;
    ch_block_digest(&committee, &b, two);
    assert_memory_equal(one, two, sizeof one);
    good[40] ^= 1;
    ch_block_digest(&committee, &b, two);
    assert_memory_not_equal(one, two, sizeof one);
}

/* SHA-256 over hand-laid bytes: domain with its zero, chain id, header without trailer. */
static void digest_is_over_the_bytes_of_the_specification(void **state)
{
    struct ch_block b;
    uint8_t bytes[47], expected[CH_HASH_BYTES], got[CH_HASH_BYTES];
    make_good();
    ch_block_view(good, good_length, &b);
    memcpy(bytes, "chappe/block/1", 15);
    memcpy(bytes + 15, committee.chain_id, 32);
    struct ch_hash h;
    ch_hash_init(&h);
    ch_hash_add(&h, bytes, 47);
    ch_hash_add(&h, good, good_length - 64);
    ch_hash_end(&h, expected);
    ch_block_digest(&committee, &b, got);
    assert_memory_equal(expected, got, sizeof got);
    const uint16_t author = 2;
    const uint32_t epoch = 0;
    const uint8_t zeros[32] = {0};
    ch_hash_init(&h);
    ch_hash_add(&h, "chappe/genesis/1", 17);
    ch_hash_add(&h, committee.chain_id, 32);
    ch_hash_add(&h, &epoch, 4);
    ch_hash_add(&h, &author, 2);
    ch_hash_add(&h, zeros, 32);
    ch_hash_end(&h, expected);
    assert_memory_equal(expected, ch_committee_genesis_ref(&committee, 2).digest, 32);
}

static void every_truncation_and_extension_is_refused(void **state)
{
    make_good();
    for (uint32_t length = 0; length < good_length; length++) {
        uint8_t *copy = malloc(length + 1); /* exact size: a read past it is found by the sanitizer */
        memcpy(copy, good, length);
        uint8_t *exact = realloc(copy, length ? length : 1);
        assert_int_equal(parse(exact, length), CH_BLOCK_BAD_LENGTH);
        free(exact);
    }
    assert_int_equal(parse(good, good_length + 1), CH_BLOCK_BAD_LENGTH);
}

static void every_flipped_bit_changes_the_digest_or_is_refused(void **state)
{
    struct ch_block b;
    uint8_t before[CH_HASH_BYTES], after[CH_HASH_BYTES];
    make_good();
    ch_block_view(good, good_length, &b);
    ch_block_digest(&committee, &b, before);
    for (uint32_t bit = 0; bit < 8 * (good_length - 64); bit++) {
        good[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (ch_block_parse(&committee, good, good_length, &b) == CH_BLOCK_OK) {
            ch_block_digest(&committee, &b, after);
            assert_memory_not_equal(before, after, sizeof after);
        }
        good[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

struct change {
    const char *what;
    uint32_t offset, size;
    uint64_t value;
    enum ch_block_verdict verdict;
};

static void each_rule_has_its_verdict(void **state)
{
    const uint32_t a = CH_BLOCK_FIXED_BYTES, v = a + 160, k = v + 80;
    const struct change changes[] = {
        {"version", 0, 2, 2, CH_BLOCK_BAD_FIELD},
        {"author out of range", 2, 2, 4, CH_BLOCK_BAD_FIELD},
        {"another epoch", 4, 4, 1, CH_BLOCK_WRONG_EPOCH},
        {"round 0", 8, 4, 0, CH_BLOCK_BAD_FIELD},
        {"round beyond 2^31", 8, 4, (1ull << 31) + 1, CH_BLOCK_BAD_FIELD},
        {"flags", 18, 2, 1, CH_BLOCK_BAD_FIELD},
        {"reserved", 28, 4, 1, CH_BLOCK_BAD_FIELD},
        {"payload too long", 20, 4, (1u << 18) + 1, CH_BLOCK_BAD_FIELD},
        {"too many items", 24, 4, 16385, CH_BLOCK_BAD_FIELD},
        {"empty payload with a root", 20, 4, 0, CH_BLOCK_BAD_FIELD},
        {"first ancestor not its own (S4)", a + 4, 2, 0, CH_BLOCK_BAD_ANCESTOR},
        {"own ancestor twice (S4)", a + 40 + 4, 2, 1, CH_BLOCK_BAD_ANCESTOR},
        {"ancestors not ascending (S4)", a + 80 + 4, 2, 0, CH_BLOCK_BAD_ANCESTOR},
        {"ancestor's author out of range (S4)", a + 120 + 4, 2, 4, CH_BLOCK_BAD_ANCESTOR},
        {"ancestor of the same round (S5)", a + 40, 4, 9, CH_BLOCK_BAD_ANCESTOR},
        {"reference's reserved bytes", a + 40 + 6, 2, 1, CH_BLOCK_BAD_FIELD},
        {"genesis reference of another digest (S7)", a + 40, 4, 0, CH_BLOCK_BAD_GENESIS},
        {"vote for commit 0 (S8)", v, 8, 0, CH_BLOCK_BAD_VOTE},
        {"votes not ascending (S8)", v + 40, 8, 5, CH_BLOCK_BAD_VOTE},
        {"checkpoint signatures not ascending (S8)", k + 104, 8, 1, CH_BLOCK_BAD_VOTE},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        make_good();
        memcpy(good + changes[i].offset, &changes[i].value, changes[i].size);
        enum ch_block_verdict verdict = parse(good, good_length);
        if (verdict != changes[i].verdict)
            fail_msg("%s: %s", changes[i].what, ch_block_verdict_name(verdict));
    }
}

static void parents_below_a_quorum_are_refused(void **state)
{
    make_good(); /* Q = 3 of 4 */
    ch_store32(ancestor(good, 3), 7);
    assert_int_equal(parse(good, good_length), CH_BLOCK_OK);
    ch_store32(ancestor(good, 2), 7);
    assert_int_equal(parse(good, good_length), CH_BLOCK_NO_QUORUM);
    committee.stake[0] = 5; /* S 8, Q 6: authors 0 and 1 at round 8 are just enough */
    ch_committee_init(&committee);
    assert_int_equal(committee.quorum_stake, 6);
    assert_int_equal(parse(good, good_length), CH_BLOCK_OK);
}

static void quorums_follow_the_stake(void **state)
{
    const struct {
        uint16_t n;
        uint32_t f, q, v;
    } rows[] = {{1, 0, 1, 1}, {2, 0, 2, 1},  {3, 0, 3, 1},      {4, 1, 3, 2},
                {7, 2, 5, 3}, {10, 3, 7, 4}, {100, 33, 67, 34}, {255, 84, 171, 85}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make_committee(rows[i].n);
        assert_int_equal(committee.fault_stake, rows[i].f);
        assert_int_equal(committee.quorum_stake, rows[i].q);
        assert_int_equal(committee.validity_stake, rows[i].v);
    }
}

static void references_order_by_round_author_digest(void **state)
{
    struct ch_ref refs[4] = {{.round = 1, .author = 3},
                             {.round = 2, .author = 0},
                             {.round = 2, .author = 1},
                             {.round = 2, .author = 1, .digest = {0, 1}}};
    for (unsigned i = 0; i < 4; i++)
        for (unsigned j = 0; j < 4; j++) {
            int order = ch_ref_compare(&refs[i], &refs[j]);
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
}

static size_t write_commit(uint8_t *out, const struct ch_ref *refs, uint32_t count, uint32_t gc_round)
{
    struct ch_commit commit = {.index = 12,
                               .leader = refs[count - 1],
                               .rank = 1,
                               .gc_round = gc_round,
                               .timestamp_ms = 99,
                               .block_count = count};
    memset(commit.previous, 3, sizeof commit.previous);
    ch_commit_write(&commit, out);
    memcpy(out + CH_COMMIT_FIXED_BYTES, refs, count * sizeof *refs);
    return CH_COMMIT_FIXED_BYTES + count * sizeof *refs;
}

static void commit_reads_back_and_bad_ones_are_refused(void **state)
{
    struct ch_ref refs[3] = {{.round = 4, .author = 0}, {.round = 4, .author = 2}, {.round = 5, .author = 1}};
    uint8_t bytes[512];
    struct ch_commit c;
    size_t length = write_commit(bytes, refs, 3, 3);
    assert_int_equal(length, 108 + 120);
    assert_true(ch_commit_parse(bytes, length, &c));
    assert_int_equal(c.index, 12);
    assert_int_equal(c.rank, 1);
    assert_int_equal(c.block_count, 3);
    assert_int_equal(c.timestamp_ms, 99);
    assert_memory_equal(&c.leader, &refs[2], sizeof refs[2]);
    for (size_t cut = 0; cut < length; cut++)
        assert_false(ch_commit_parse(bytes, cut, &c));
    length = write_commit(bytes, refs, 3, 4); /* a block at the collected round */
    assert_false(ch_commit_parse(bytes, length, &c));
    bytes[0] = 2;
    assert_false(ch_commit_parse(bytes, write_commit(bytes, refs, 3, 3) - 40, &c));
    struct ch_ref swapped[3] = {refs[1], refs[0], refs[2]};
    assert_false(ch_commit_parse(bytes, write_commit(bytes, swapped, 3, 3), &c));
    length = write_commit(bytes, refs, 3, 3);
    memcpy(bytes + 46, &refs[0], sizeof refs[0]); /* the leader must be the last */
    assert_false(ch_commit_parse(bytes, length, &c));
}

static void payload_root_of_nothing_is_zeros(void **state)
{
    const uint8_t zeros[32] = {0};
    uint8_t root[32], expected[32];
    ch_payload_root("", 0, root);
    assert_memory_equal(root, zeros, 32);
    ch_payload_root("abc", 3, root);
    ch_hash("chappe/payload/0\0abc", 20, expected);
    assert_memory_equal(root, expected, 32);
}

static void committee_digest_sees_each_part(void **state)
{
    uint8_t base[32], other[32];
    make_committee(4);
    ch_committee_digest(&committee, base);
    for (int part = 0; part < 6; part++) {
        make_committee(4);
        switch (part) {
        case 0:
            committee.epoch++;
            break;
        case 1:
            committee.key[2][5]++;
            break;
        case 2:
            committee.stake[3]++;
            break;
        case 3:
            committee.params.leaders_per_round--;
            break;
        case 4:
            committee.params.profile++;
            break;
        case 5:
            committee.chain_id[0]++;
            break;
        }
        ch_committee_digest(&committee, other);
        assert_memory_not_equal(base, other, 32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_block_reads_back),
        cmocka_unit_test(digest_leaves_the_signature_out),
        cmocka_unit_test(digest_is_over_the_bytes_of_the_specification),
        cmocka_unit_test(every_truncation_and_extension_is_refused),
        cmocka_unit_test(every_flipped_bit_changes_the_digest_or_is_refused),
        cmocka_unit_test(each_rule_has_its_verdict),
        cmocka_unit_test(parents_below_a_quorum_are_refused),
        cmocka_unit_test(quorums_follow_the_stake),
        cmocka_unit_test(references_order_by_round_author_digest),
        cmocka_unit_test(commit_reads_back_and_bad_ones_are_refused),
        cmocka_unit_test(payload_root_of_nothing_is_zeros),
        cmocka_unit_test(committee_digest_sees_each_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
