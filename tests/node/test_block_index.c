/* Where old blocks and commits lie: over restarts, with variants, after a lost tail, after a cut. */
#include "node/block_index.h"

#include "consensus/core.h"
#include "tests/test.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#define N 4

static char folder[] = "/tmp/chappe-index-XXXXXX";
static struct ch_committee committee;
static struct ch_block_index *x;

static void open_index(bool anew, uint64_t end)
{
    assert_ok(ch_block_index_open(folder, N, anew, &x));
    ch_block_index_opened(x, end);
}

static void restart(uint64_t end)
{
    ch_block_index_close(x);
    open_index(false, end);
}

static int begin(void **state)
{
    struct ch_genesis genesis;
    uint8_t chain_id[CH_HASH_BYTES] = {7};
    ch_genesis_defaults(&genesis, N);
    genesis.validator_count = N;
    for (unsigned i = 0; i < N; i++)
        genesis.validators[i] = (struct ch_genesis_validator){.key = {(uint8_t)(i + 1)}, .stake = 1};
    ch_committee_from_genesis(&genesis, chain_id, &committee);
    open_index(true, 1);
    return 0;
}

static int end(void **state)
{
    ch_block_index_close(x);
    return 0;
}

static struct ch_ref note_block(uint32_t round, uint16_t author, uint64_t variant, uint64_t position)
{
    uint8_t head[CH_BLOCK_FIXED_BYTES + CH_REF_BYTES + CH_BLOCK_SIGNATURE_BYTES];
    struct ch_ref parent = ch_committee_genesis_ref(&committee, author), ref = {.round = round, .author = author};
    const struct ch_block_draft draft = {
        .round = round, .author = author, .ancestor_count = 1, .ancestors = &parent, .timestamp_ms = variant};
    uint32_t length = ch_block_write(&draft, head);
    struct ch_block block;
    ch_block_view(head, length, &block);
    ch_block_digest(&committee, &block, ref.digest);
    ch_block_index_note(x, &committee, CH_RECORD_BLOCK, head, length, 77, position);
    return ref;
}

static void note_commit(uint64_t index, uint64_t position)
{
    uint8_t bytes[CH_COMMIT_FIXED_BYTES + CH_REF_BYTES];
    struct ch_commit commit = {.index = index, .leader = {.round = 5}, .block_count = 1};
    ch_commit_write(&commit, bytes);
    memcpy(bytes + CH_COMMIT_FIXED_BYTES, &commit.leader, CH_REF_BYTES);
    ch_block_index_note(x, &committee, CH_RECORD_COMMIT, bytes, sizeof bytes, 0, position);
}

static void note_proof(uint64_t index, uint64_t position)
{
    uint8_t body[40 + 2 * (4 + 10)] = {0};
    ch_store64(body, index);
    ch_store32(body + 40, 10);
    ch_store32(body + 54, 10);
    ch_block_index_note(x, &committee, CH_RECORD_VOTE_CERT, body, sizeof body, 0, position);
}

static void assert_at(const struct ch_ref *ref, uint64_t position)
{
    struct ch_block_place place;
    bool known = ch_block_index_block(x, ref, &place);
    assert_int_equal(known, position != 0);
    if (known) {
        assert_int_equal(place.position, position);
        assert_int_equal(place.payload_length, 77);
    }
}

static void blocks_and_commits_of_long_ago_are_found_after_restarts(void **state)
{
    struct ch_ref refs[3000];
    struct ch_commit_place place;
    for (uint32_t i = 0; i < 3000; i++) {
        refs[i] = note_block(1 + i / N, (uint16_t)(i % N), 0, 1000 + i);
        note_commit(1 + i, 10000000 + i);
    }
    note_proof(2000, 20000000);
    for (int turn = 0; turn < 3; turn++) {
        for (uint32_t i = 0; i < 3000; i++)
            assert_at(&refs[i], 1000 + i);
        assert_true(ch_block_index_commit(x, 2000, &place));
        assert_int_equal(place.position, 10001999);
        assert_int_equal(place.proof_position, 20000040);
        assert_int_equal(place.proof_count, 2);
        assert_false(ch_block_index_commit(x, 3001, &place));
        assert_false(ch_block_index_commit(x, UINT64_MAX, &place));
        restart(30000000);
    }
}

static void variants_of_one_round_are_all_found(void **state)
{
    struct ch_ref refs[5], never = {.round = 9, .author = 1};
    for (uint64_t v = 0; v < 5; v++)
        refs[v] = note_block(9, 1, v, 100 + v);
    restart(1000);
    for (uint64_t v = 0; v < 5; v++) { /* the replay notes them again */
        refs[v] = note_block(9, 1, v, 100 + v);
        assert_at(&refs[v], 100 + v);
    }
    for (uint64_t v = 0; v < 5; v++)
        assert_at(&refs[v], 100 + v);
    assert_at(&never, 0);
    struct stat variants;
    char path[128];
    snprintf(path, sizeof path, "%s/index/variants", folder);
    assert_int_equal(stat(path, &variants), 0);
    assert_int_equal(variants.st_size, 4 * 40); /* once each */
}

static void a_tail_that_never_became_durable_is_forgotten(void **state)
{
    struct ch_commit_place place;
    struct ch_ref kept = note_block(1, 0, 0, 100), lost = note_block(2, 0, 0, 200);
    note_commit(1, 120);
    note_commit(2, 220);
    note_proof(1, 230);
    restart(200);
    assert_at(&kept, 100);
    assert_at(&lost, 0);
    assert_true(ch_block_index_commit(x, 1, &place));
    assert_int_equal(place.proof_position, 0);
    assert_false(ch_block_index_commit(x, 2, &place));
    struct ch_ref other = note_block(2, 0, 1, 200); /* another came to its place */
    assert_at(&lost, 0);
    assert_at(&other, 200);
    note_proof(2, 260); /* before its commit */
    note_commit(2, 250);
    assert_true(ch_block_index_commit(x, 2, &place));
    assert_int_equal(place.proof_position, 300);
}

static void what_was_cut_is_forgotten_and_its_space_given_back(void **state)
{
    enum { COUNT = 40000 };
    struct ch_ref first = {0}, last = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        last = note_block(1 + i / N, (uint16_t)(i % N), 0, 1 + i);
        if (i == 0)
            first = last;
    }
    char path[128];
    struct stat before, after;
    snprintf(path, sizeof path, "%s/index/blocks", folder);
    assert_int_equal(stat(path, &before), 0);
    for (int i = 0; i < COUNT / 1000; i++)
        ch_block_index_cut(x, COUNT - 100);
    assert_at(&first, 0);
    assert_at(&last, COUNT);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_true(after.st_blocks < before.st_blocks / 10);
    restart(COUNT + 1);
    ch_block_index_cut(x, COUNT - 100);
    assert_at(&first, 0);
    assert_at(&last, COUNT);
}

static void a_new_log_begins_without_what_the_old_one_had(void **state)
{
    struct ch_ref old = note_block(3, 2, 0, 100);
    restart(1000);
    assert_at(&old, 100);
    ch_block_index_close(x);
    open_index(true, 1000);
    assert_at(&old, 0);
}

static int remove_one(const char *path, const struct stat *what, int type, struct FTW *walk)
{
    return remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_and_commits_of_long_ago_are_found_after_restarts, begin, end),
        cmocka_unit_test_setup_teardown(variants_of_one_round_are_all_found, begin, end),
        cmocka_unit_test_setup_teardown(a_tail_that_never_became_durable_is_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(what_was_cut_is_forgotten_and_its_space_given_back, begin, end),
        cmocka_unit_test_setup_teardown(a_new_log_begins_without_what_the_old_one_had, begin, end),
    };
    if (!mkdtemp(folder))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return failed;
}
