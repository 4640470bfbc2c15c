/* What naming a tree costs whoever looks at it, and what it is told. */
#include "node/spread_impl.h"
#include "node/tree.h"
#include "store/io_sim.h"
#include "tests/test.h"

#define SEGMENT_BYTES (1u << 20)

static const uint8_t master_key[CH_OBJECT_KEY_BYTES] = "a key for tests, thirty-two byte";

struct world {
    struct ch_sim_disk *disk;
    struct ch_io *io;
    struct ch_object_store *store;
    struct ch_object_reader *reader;
    struct ch_tree *tree;
};

static void begin(struct world *w)
{
    const struct ch_object_options options = {
        .master_key = master_key, .segment_bytes = SEGMENT_BYTES, .batch_bytes = SEGMENT_BYTES / 4,
        .run_places = 32};
    assert_ok(ch_sim_disk_open(test_seed(), &w->disk));
    assert_ok(ch_sim_io_open(w->disk, &w->io));
    assert_ok(ch_object_open(w->io, "obj", &options, &w->store));
    assert_ok(ch_object_reader_open(w->store, &w->reader));
    assert_ok(ch_tree_open(w->reader, 4, &w->tree));
}

static void finish(struct world *w)
{
    ch_tree_close(w->tree);
    ch_object_reader_close(w->reader);
    ch_object_close(w->store);
    ch_io_close(w->io);
    ch_sim_disk_close(w->disk);
}

static void put(struct world *w, const struct ch_cid *cid, const void *bytes, size_t length)
{
    uint64_t cookies[8];
    size_t count;
    const ch_err err = ch_object_put(w->store, cid, bytes, length, 1);
    assert_true(err == CH_OK || err == CH_ERR_EXISTS);
    assert_ok(ch_object_flush(w->store));
    while (ch_object_busy(w->store)) {
        assert_ok(ch_io_wait(w->io));
        assert_ok(ch_object_poll(w->store, cookies, 8, &count));
    }
}

/* As if the committee had signed for it: that its certificate is here is all that a walk looks at. */
static void certify(struct world *w, const struct ch_cid *cid, size_t length)
{
    uint8_t name[CH_HASH_BYTES];
    hold_stored_name(cid, (uint32_t)length, name);
    const struct ch_cid address = ch_tree_address(CH_SPREAD_STORED, name);
    put(w, &address, "certificate", 11);
}

static struct ch_unixfs_link leaf_of(struct world *w, bool stored)
{
    struct ch_unixfs_link leaf = {.file_bytes = 4, .tree_bytes = 4};
    ch_cid_of(CH_CID_RAW, stored ? "leaf" : "lost", 4, &leaf.cid);
    if (stored)
        certify(w, &leaf.cid, 4);
    return leaf;
}

static struct ch_unixfs_link node_of(struct world *w, const struct ch_unixfs_link *below, size_t count)
{
    static struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX];
    static uint8_t encoded[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link node;
    for (size_t i = 0; i < count; i++)
        links[i] = *below;
    const size_t length = ch_unixfs_encode(links, count, encoded, &node);
    put(w, &node.cid, encoded, length);
    certify(w, &node.cid, length);
    return node;
}

static struct ch_unixfs_link node_over(struct world *w, const struct ch_unixfs_link *below, size_t count)
{
    static uint8_t encoded[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link node;
    const size_t length = ch_unixfs_encode(below, count, encoded, &node);
    put(w, &node.cid, encoded, length);
    certify(w, &node.cid, length);
    return node;
}

/* Reads of the disk that a look takes. */
static uint64_t look(struct world *w, const struct ch_unixfs_link *root, ch_err expected)
{
    uint64_t bytes = UINT64_MAX, before = ch_sim_disk_calls(w->disk);
    assert_int_equal(ch_tree_look(w->tree, &root->cid, &bytes, NULL, NULL), expected);
    if (expected == CH_OK)
        assert_int_equal(bytes, root->file_bytes);
    return ch_sim_disk_calls(w->disk) - before;
}

struct teller {
    uint64_t told, until;    /* later, from so many on */
    enum ch_tree_word leaf;  /* what is said of leaves */
    struct ch_cid last;
};

static enum ch_tree_word count_one(void *context, const struct ch_cid *cid, uint32_t length)
{
    struct teller *t = context;
    if (t->told == t->until)
        return CH_TREE_LATER;
    t->told++;
    t->last = *cid;
    return ch_cid_codec(cid) == CH_CID_RAW ? t->leaf : CH_TREE_TAKEN;
}

/* All of a walk that is interrupted after each `piece` blocks; how many it told, and reads of the disk that it took. */
static uint64_t tell(struct world *w, const struct ch_unixfs_link *root, uint64_t piece, enum ch_tree_word leaf,
                     uint64_t *reads)
{
    struct ch_tree_walk walk = {0};
    struct teller t = {.leaf = leaf};
    uint64_t before = ch_sim_disk_calls(w->disk);
    do
        t.until = t.told + piece;
    while (!ch_tree_each(w->tree, &walk, &root->cid, UINT64_MAX, count_one, &t));
    *reads = ch_sim_disk_calls(w->disk) - before;
    return t.told;
}

static void subtree_in_many_places_is_read_once_a_walk(void **state)
{
    struct world w;
    begin(&w);
    struct ch_unixfs_link leaf = leaf_of(&w, true);
    struct ch_unixfs_link middle = node_of(&w, &leaf, 400), root = node_of(&w, &middle, 400);
    assert_in_range(look(&w, &root, CH_OK), 2, 8);
    uint64_t reads;
    assert_int_equal(tell(&w, &root, 1000, CH_TREE_GAP, &reads), 402); /* root, middle, its leaves */
    assert_in_range(reads, 2, 8);
    finish(&w);
}

/* A large tree that thousands of messages name: what was found whole is not read again, nor told, until something is
 * lost. */
static void tree_that_is_named_again_is_not_read_again(void **state)
{
    struct world w;
    struct ch_unixfs_link middle[60], root, other;
    uint64_t reads;
    begin(&w);
    struct ch_unixfs_link leaf = leaf_of(&w, true), gone = leaf_of(&w, false);
    for (size_t i = 0; i < 60; i++)
        middle[i] = node_of(&w, &leaf, 100 + i);
    root = node_over(&w, middle, 60);
    other = node_over(&w, middle + 1, 59);
    assert_in_range(look(&w, &root, CH_OK), 61, 300);
    assert_int_equal(look(&w, &root, CH_OK), 0);
    assert_in_range(look(&w, &other, CH_OK), 1, 5); /* its own node */
    assert_int_equal(tell(&w, &root, 1000, CH_TREE_TAKEN, &reads), 61 + 60 * 100 + 59 * 30);
    assert_in_range(reads, 61, 300);
    assert_int_equal(tell(&w, &root, 1000, CH_TREE_TAKEN, &reads), 0);
    assert_int_equal(tell(&w, &other, 1000, CH_TREE_TAKEN, &reads), 1);
    put(&w, &gone.cid, "lost", 4);
    assert_ok(ch_object_drop(w.store, &gone.cid, 0)); /* whatever it is: all is looked at again */
    assert_in_range(look(&w, &root, CH_OK), 61, 300);
    assert_int_equal(tell(&w, &root, 1000, CH_TREE_GAP, &reads), 61 + 60 * 100 + 59 * 30);
    assert_int_equal(tell(&w, &root, 1000, CH_TREE_GAP, &reads), 61 + 60 * 100 + 59 * 30); /* gaps are told each time */
    finish(&w);
}

/* A walk in pieces reads each node once and the way down to where it was: not all from the root on for each piece. */
static void walk_in_pieces_tells_the_same_and_goes_on_where_it_was(void **state)
{
    struct world w;
    struct ch_unixfs_link middle[60], root;
    uint64_t reads, at_once, piece;
    begin(&w);
    struct ch_unixfs_link leaf = leaf_of(&w, true);
    for (size_t i = 0; i < 60; i++)
        middle[i] = node_of(&w, &leaf, 100 + i);
    root = node_over(&w, middle, 60);
    assert_int_equal(tell(&w, &root, UINT64_MAX / 2, CH_TREE_GAP, &at_once), 61 + 60 * 100 + 59 * 30);
    for (piece = 1; piece < 3000; piece = 3 * piece + 1) {
        uint64_t told = tell(&w, &root, piece, CH_TREE_GAP, &reads);
        assert_int_equal(told, 61 + 60 * 100 + 59 * 30);
        assert_in_range(reads, at_once, at_once + (told / piece + 1) * 4 * (at_once / 61 + 1));
    }
    finish(&w);
}

static void limits_count_a_subtree_in_each_place(void **state)
{
    struct world w;
    begin(&w);
    struct ch_unixfs_link leaf = leaf_of(&w, true);
    struct ch_unixfs_link middle = node_of(&w, &leaf, 2), wide = node_of(&w, &middle, 400);
    struct ch_unixfs_link twice = node_of(&w, &wide, 2), thrice = node_of(&w, &wide, 3);
    look(&w, &twice, CH_OK);
    look(&w, &thrice, CH_ERR_INVALID); /* 1,204 nodes are too many, read or not */
    struct ch_unixfs_link deep = middle;
    for (int depth = 1; depth < CH_UNIXFS_DEPTH_MAX; depth++)
        deep = node_of(&w, &deep, 1);
    look(&w, &deep, CH_OK);
    deep = node_of(&w, &deep, 1);
    look(&w, &deep, CH_ERR_INVALID);
    struct ch_unixfs_link lying = middle; /* of another length than its links say */
    lying.file_bytes++;
    struct ch_unixfs_link pair[2] = {node_of(&w, &middle, 1), node_of(&w, &lying, 1)};
    look(&w, &pair[0], CH_OK);
    look(&w, &pair[1], CH_ERR_INVALID);
    finish(&w);
}

static void what_is_not_stored_is_missing_wherever_it_stands(void **state)
{
    struct world w;
    begin(&w);
    struct ch_unixfs_link lost = leaf_of(&w, false);
    struct ch_unixfs_link middle = node_of(&w, &lost, 1), root = node_of(&w, &middle, 400);
    struct ch_cid missing[CH_TREE_MISSING_MAX];
    uint64_t bytes = UINT64_MAX;
    size_t count = 0;
    look(&w, &root, CH_ERR_NOT_FOUND);
    assert_int_equal(ch_tree_look(w.tree, &root.cid, &bytes, missing, &count), CH_ERR_NOT_FOUND);
    assert_in_range(count, 1, CH_TREE_MISSING_MAX);
    assert_memory_equal(&missing[0], &lost.cid, sizeof lost.cid);
    certify(&w, &lost.cid, 4);
    look(&w, &root, CH_OK); /* a walk believes no other's */
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subtree_in_many_places_is_read_once_a_walk),
        cmocka_unit_test(tree_that_is_named_again_is_not_read_again),
        cmocka_unit_test(walk_in_pieces_tells_the_same_and_goes_on_where_it_was),
        cmocka_unit_test(limits_count_a_subtree_in_each_place),
        cmocka_unit_test(what_is_not_stored_is_missing_wherever_it_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
