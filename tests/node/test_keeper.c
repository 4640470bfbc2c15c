#include "node/keeper.h"
#include "store/io_sim.h"
#include "tests/test.h"

#define BLOCK_BYTES   20000u
#define QUOTA_MIB     1u
#define SEGMENT_BYTES (16u * 65536)

static const uint8_t master_key[CH_OBJECT_KEY_BYTES] = "a key for tests, thirty-two byte";

struct world {
    struct ch_node *node;
    struct ch_sim_disk *disk;
    struct ch_object_reader *reader;
    struct ch_keeper *keeper;
    uint64_t commit_ms, now_ns;
};

static void open_keeper(struct world *w)
{
    const struct ch_object_options options = {
        .master_key = master_key, .segment_bytes = SEGMENT_BYTES, .batch_bytes = SEGMENT_BYTES / 8,
        .run_places = 32};
    assert_ok(ch_object_open(w->node->objects_io, "obj", &options, &w->node->objects));
    assert_ok(ch_object_reader_open(w->node->objects, &w->reader));
    assert_ok(ch_keeper_open(w->node, w->reader, &w->keeper));
}

static void close_keeper(struct world *w)
{
    ch_keeper_close(w->keeper);
    ch_object_reader_close(w->reader);
    ch_object_close(w->node->objects);
}

static void begin(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->node = aligned_alloc(64, (sizeof *w->node + 63) / 64 * 64);
    assert_non_null(w->node);
    memset(w->node, 0, sizeof *w->node);
    ch_config_defaults(&w->node->config);
    w->node->config.store_object_quota_mib = QUOTA_MIB;
    w->commit_ms = 1700000000000u;
    atomic_store(&w->node->commit_ms, w->commit_ms);
    assert_ok(ch_sim_disk_open(test_seed(), &w->disk));
    assert_ok(ch_sim_io_open(w->disk, &w->node->objects_io));
    open_keeper(w);
}

static void finish(struct world *w)
{
    close_keeper(w);
    ch_io_close(w->node->objects_io);
    ch_sim_disk_close(w->disk);
    free(w->node);
}

static void settle(struct world *w)
{
    uint64_t cookies[16];
    size_t count;
    assert_ok(ch_object_flush(w->node->objects));
    while (ch_object_busy(w->node->objects)) {
        assert_ok(ch_io_wait(w->node->objects_io));
        assert_ok(ch_object_poll(w->node->objects, cookies, 16, &count));
    }
}

/* The chain goes on for so long, and the keeper with it. */
static void live(struct world *w, uint64_t seconds)
{
    for (uint64_t i = 0; i < 2 * seconds; i++) {
        w->commit_ms += 500;
        w->now_ns += 500000000;
        ch_keeper_committed(w->keeper, w->commit_ms);
        (void)ch_keeper_poll(w->keeper, w->now_ns);
        settle(w);
    }
    assert_int_equal(atomic_load(&w->node->failed), CH_OK);
}

static void block_of(uint64_t number, uint8_t block[BLOCK_BYTES], struct ch_cid *cid)
{
    struct ch_prng g;
    ch_prng_seed(&g, number);
    test_random_bytes(&g, block, BLOCK_BYTES);
    ch_cid_of(CH_CID_RAW, block, BLOCK_BYTES, cid);
}

static enum ch_status put(struct world *w, uint64_t account, uint64_t number)
{
    uint8_t block[BLOCK_BYTES];
    struct ch_cid cid;
    struct ch_cid_block checked;
    block_of(number, block, &cid);
    assert_true(ch_cid_check(&cid, block, sizeof block, &checked));
    enum ch_status status = ch_keeper_admit(w->keeper, account, sizeof block);
    if (status != CH_STATUS_OK)
        return status;
    const struct ch_object_tag tag = ch_keeper_tag(account);
    ch_err err;
    while ((err = ch_object_put_for(w->node->objects, &checked, &tag, 1)) == CH_ERR_FULL)
        settle(w);
    assert_true(err == CH_OK || err == CH_ERR_EXISTS);
    assert_ok(ch_keeper_stored(w->keeper, &cid, account, err == CH_OK ? sizeof block : 0));
    return CH_STATUS_OK;
}

static bool is_there(struct world *w, uint64_t number)
{
    uint8_t block[BLOCK_BYTES];
    struct ch_cid cid;
    size_t length;
    block_of(number, block, &cid);
    return ch_object_length(w->reader, &cid, &length) == CH_OK;
}

static void name(struct world *w, uint64_t number)
{
    uint8_t block[BLOCK_BYTES];
    struct ch_cid cid;
    block_of(number, block, &cid);
    const struct ch_tx tx = {.location = cid.bytes};
    ch_keeper_named(w->keeper, &tx);
}

static void unnamed_block_goes_after_ten_minutes_of_the_chain(void **state)
{
    struct world w;
    begin(&w);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(put(&w, i % 3, i), CH_STATUS_OK);
    settle(&w);
    for (uint64_t i = 0; i < 20; i += 2)
        name(&w, i);
    live(&w, 300);
    assert_int_equal(put(&w, 9, 7), CH_STATUS_OK); /* again, by another: ten minutes more */
    live(&w, 290);
    for (uint64_t i = 0; i < 20; i++)
        assert_true(is_there(&w, i));
    live(&w, 80);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(is_there(&w, i), i % 2 == 0 || i == 7);
    name(&w, 7);
    live(&w, 700);
    assert_true(is_there(&w, 7));
    assert_false(ch_keeper_waits(w.keeper));
    finish(&w);
}

/* As an upload that takes longer than ten minutes does: the first block waits for the last one. */
static void blocks_of_an_account_that_goes_on_putting_wait(void **state)
{
    struct world w;
    begin(&w);
    assert_int_equal(put(&w, 2, 100), CH_STATUS_OK); /* another's, who puts no more */
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(put(&w, 1, i), CH_STATUS_OK);
        live(&w, 120);
    }
    live(&w, 480);
    assert_false(is_there(&w, 100));
    for (uint64_t i = 0; i < 20; i++)
        assert_true(is_there(&w, i));
    live(&w, 1000);
    for (uint64_t i = 0; i < 20; i++)
        assert_false(is_there(&w, i));
    assert_false(ch_keeper_waits(w.keeper));
    finish(&w);
}

/* From the tenth minute on admission finds nothing; what it let in before is named five minutes later at most. */
static void closed_block_that_is_named_stays(void **state)
{
    struct world w;
    begin(&w);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(put(&w, 1, i), CH_STATUS_OK);
    live(&w, 700);
    for (uint64_t i = 0; i < 3; i++)
        assert_false(is_there(&w, i));
    name(&w, 1);
    assert_true(is_there(&w, 1));
    assert_int_equal(put(&w, 1, 2), CH_STATUS_OK); /* put again: it waits anew */
    settle(&w);
    live(&w, 400);
    assert_true(is_there(&w, 2));
    live(&w, 2000);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(is_there(&w, i), i == 1);
    finish(&w);
}

/* The same bytes as a leaf and as a node are one record: a message names either. */
static void bytes_named_under_the_other_codec_stay(void **state)
{
    struct world w;
    static uint8_t encoded[CH_UNIXFS_NODE_BYTES_MAX], leaf_bytes[BLOCK_BYTES];
    struct ch_unixfs_link leaf = {.file_bytes = BLOCK_BYTES, .tree_bytes = BLOCK_BYTES}, root;
    struct ch_cid raw;
    size_t length;
    begin(&w);
    block_of(1, leaf_bytes, &leaf.cid);
    const size_t bytes = ch_unixfs_encode(&leaf, 1, encoded, &root);
    ch_cid_make(CH_CID_RAW, ch_cid_digest(&root.cid), &raw);
    assert_int_equal(put(&w, 1, 1), CH_STATUS_OK);
    const struct ch_object_tag tag = ch_keeper_tag(1);
    struct ch_cid_block as_leaf, as_node;
    assert_true(ch_cid_check(&raw, encoded, bytes, &as_leaf));
    assert_true(ch_cid_check(&root.cid, encoded, bytes, &as_node));
    assert_ok(ch_object_put_for(w.node->objects, &as_leaf, &tag, 1));
    assert_ok(ch_keeper_stored(w.keeper, &raw, 1, bytes));
    settle(&w);
    assert_int_equal(ch_object_put_for(w.node->objects, &as_node, &tag, 1), CH_ERR_EXISTS);
    assert_ok(ch_keeper_stored(w.keeper, &root.cid, 1, 0));
    ch_keeper_named(w.keeper, &(struct ch_tx){.location = root.cid.bytes});
    live(&w, 1500);
    assert_ok(ch_object_length(w.reader, &root.cid, &length));
    assert_true(is_there(&w, 1));
    finish(&w);
}

/* One account's many small blocks leave room for those of others. */
static void account_leaves_room_for_others(void **state)
{
    for (unsigned n = 1; n <= 4; n += 3) {
        struct world w;
        uint64_t number = 0;
        begin(&w);
        w.node->committee.n = (uint16_t)n;
        for (uint64_t account = 1; account < 4; account++) {
            uint64_t before = number;
            while (ch_keeper_admit(w.keeper, account, 0) == CH_STATUS_OK) {
                struct ch_cid cid;
                uint8_t hash[CH_HASH_BYTES] = {0};
                ch_store64(hash, number++);
                ch_cid_make(CH_CID_RAW, hash, &cid);
                assert_ok(ch_keeper_wait(w.keeper, &cid, 0, 0, account + 1, true));
            }
            assert_int_equal(number - before, CH_KEEPER_UNNAMED_MAX / (n > 1 ? 2 : 1) >> account);
        }
        assert_int_equal(ch_keeper_admit(w.keeper, 9, 0), CH_STATUS_OK);
        finish(&w);
    }
}

static void outage_of_the_chain_drops_nothing(void **state)
{
    struct world w;
    begin(&w);
    assert_int_equal(put(&w, 1, 1), CH_STATUS_OK);
    settle(&w);
    for (int i = 0; i < 2000; i++) { /* nothing is committed */
        w.now_ns += 1000000000;
        (void)ch_keeper_poll(w.keeper, w.now_ns);
        settle(&w);
    }
    w.commit_ms += 2000000; /* and then again, hours later by its own time */
    live(&w, 100);
    assert_true(is_there(&w, 1));
    name(&w, 1);
    live(&w, 700);
    assert_true(is_there(&w, 1));
    finish(&w);
}

static void account_is_held_to_its_quota(void **state)
{
    struct world w;
    uint64_t number = 0, before;
    begin(&w);
    while (put(&w, 5, number) == CH_STATUS_OK)
        name(&w, number++);
    settle(&w);
    assert_int_equal(number, (QUOTA_MIB << 20) / BLOCK_BYTES);
    assert_int_equal(put(&w, 5, number), CH_STATUS_QUOTA);
    assert_int_equal(put(&w, 6, 1000), CH_STATUS_OK);
    assert_int_equal(put(&w, 6, 0), CH_STATUS_OK); /* it is there already, and its owner's */
    settle(&w);
    close_keeper(&w); /* what is there is counted again, and what waited may stay */
    open_keeper(&w);
    assert_int_equal(put(&w, 5, number), CH_STATUS_QUOTA);
    before = number;
    while (put(&w, 6, 1000 + number) == CH_STATUS_OK)
        number++;
    assert_int_equal(number - before, (QUOTA_MIB << 20) / BLOCK_BYTES - 1);
    settle(&w);
    live(&w, 1000); /* nobody names them: there is room again */
    assert_false(is_there(&w, 1000 + before));
    assert_int_equal(put(&w, 6, 1000 + before), CH_STATUS_OK);
    assert_int_equal(put(&w, 5, number), CH_STATUS_QUOTA);
    finish(&w);
}

static void old_objects_go_with_their_segments(void **state)
{
    struct world w;
    struct ch_object_stats stats;
    begin(&w);
    for (uint64_t i = 0; i < 400; i++) {
        uint8_t block[BLOCK_BYTES];
        struct ch_cid cid;
        struct ch_cid_block checked;
        struct ch_object_tag tag = ch_keeper_tag(i);
        if (i < 300)
            tag.put_ms -= 2 * 3600 * 1000;
        block_of(i, block, &cid);
        assert_true(ch_cid_check(&cid, block, sizeof block, &checked));
        while (ch_object_put_for(w.node->objects, &checked, &tag, 1) == CH_ERR_FULL)
            settle(&w);
    }
    settle(&w);
    live(&w, 60);
    ch_object_stats(w.node->objects, &stats);
    assert_int_equal(stats.blocks, 400);
    uint64_t disk_bytes = stats.disk_bytes;
    w.node->config.store_object_keep_hours = 1;
    live(&w, 60);
    ch_object_stats(w.node->objects, &stats);
    assert_int_equal(stats.blocks, 100);
    for (uint64_t i = 0; i < 400; i++)
        assert_int_equal(is_there(&w, i), i >= 300);
    assert_true(stats.segments_destroyed >= 4);
    assert_true(stats.disk_bytes < disk_bytes / 2);
    finish(&w);
}

static void one_validator_leaves_room_for_what_others_bring(void **state)
{
    struct world w;
    struct ch_cid cid;
    uint64_t number = 0;
    begin(&w);
    w.node->committee.n = 4;
    while (ch_keeper_may_wait(w.keeper, 1)) {
        uint8_t hash[CH_HASH_BYTES] = {0};
        ch_store64(hash, number++);
        ch_cid_make(CH_CID_RAW, hash, &cid);
        assert_ok(ch_keeper_wait(w.keeper, &cid, 1, 1, 0, true));
    }
    assert_int_equal(number, CH_KEEPER_UNNAMED_MAX / 2);
    for (uint16_t from = 0; from < 4; from++)
        assert_int_equal(ch_keeper_may_wait(w.keeper, from), from != 1);
    ch_keeper_stop_waiting(w.keeper, &cid);
    assert_true(ch_keeper_may_wait(w.keeper, 1));
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unnamed_block_goes_after_ten_minutes_of_the_chain),
        cmocka_unit_test(blocks_of_an_account_that_goes_on_putting_wait),
        cmocka_unit_test(closed_block_that_is_named_stays),
        cmocka_unit_test(bytes_named_under_the_other_codec_stay),
        cmocka_unit_test(account_leaves_room_for_others),
        cmocka_unit_test(outage_of_the_chain_drops_nothing),
        cmocka_unit_test(account_is_held_to_its_quota),
        cmocka_unit_test(old_objects_go_with_their_segments),
        cmocka_unit_test(one_validator_leaves_room_for_what_others_bring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
