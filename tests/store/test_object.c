#include <pthread.h>

#include "base/cpu.h"
#include "tests/store/object_faults.h"
#include "tests/store/object_writer.h"
#include "tests/store/scratch.h"

/* --- the plain course --- */

static void stored_blocks_are_read_back_also_after_opening_anew(void **state)
{
    struct world w;
    struct ch_object_stats stats;
    begin(&w, test_seed());
    put_many(&w, 0, 600);
    check_all(&w, 610);
    for (int i = 0; i < 3; i++) {
        close_world(&w);
        open_world(&w);
        check_all(&w, 610);
        put_many(&w, 700 + 20 * (uint64_t)i, 720 + 20 * (uint64_t)i);
    }
    check_all(&w, 800);
    ch_object_stats(w.store, &stats);
    assert_int_equal(stats.blocks, 660);
    assert_true(stats.segments > 3);
    assert_int_equal(stats.segments_damaged, 0);
    finish(&w);
}

static void block_that_is_not_durable_is_not_there(void **state)
{
    struct world w;
    begin(&w, test_seed());
    assert_ok(put(&w, 1));
    assert_ok(ch_object_flush(w.store));
    assert_int_equal(get(&w, 1), CH_ERR_NOT_FOUND);
    assert_ok(settle(&w));
    assert_int_equal(w.known[1], STORED);
    assert_ok(get(&w, 1));
    finish(&w);
}

static void second_put_on_its_way_is_told_with_the_first(void **state)
{
    struct world w;
    struct ch_cid cid;
    uint8_t block[LENGTH_MAX];
    uint64_t cookies[4];
    size_t length = block_of(5, block), count, told = 0;
    begin(&w, test_seed());
    ch_cid_of(CH_CID_RAW, block, length, &cid);
    assert_ok(ch_object_put(w.store, &cid, block, length, 100));
    assert_ok(ch_object_put(w.store, &cid, block, length, 101));
    assert_ok(ch_object_flush(w.store));
    assert_ok(ch_object_put(w.store, &cid, block, length, 102));
    while (told < 3) {
        assert_ok(ch_io_wait(w.io));
        assert_ok(ch_object_poll(w.store, cookies, 1, &count)); /* also when there is room for one alone */
        if (count)
            assert_int_equal(cookies[0], 100 + told);
        told += count;
    }
    assert_false(ch_object_busy(w.store) && told < 3);
    assert_int_equal(ch_object_put(w.store, &cid, block, length, 103), CH_ERR_EXISTS);
    finish(&w);
}

static void full_segment_gets_its_footer_whichever_is_durable_first(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    for (int round = 0; round < (in_pool() ? 4 : 20); round++) {
        struct world w;
        struct ch_object_stats stats;
        begin(&w, ch_prng_next(&g));
        put_many(&w, 0, 700);
        ch_object_stats(w.store, &stats);
        for (unsigned i = 1; i < stats.segments; i++) {
            char path[32];
            size_t length;
            snprintf(path, sizeof path, "obj/%08x.obj", i);
            uint8_t *bytes = bytes_of(w.io, path, &length);
            assert_non_null(bytes);
            assert_memory_equal(bytes + length - CH_IO_BLOCK_BYTES, "COF3", 4);
            free(bytes);
        }
        finish(&w);
    }
}

static void wrong_bytes_are_refused(void **state)
{
    struct world w;
    struct ch_cid cid;
    begin(&w, test_seed());
    ch_cid_of(CH_CID_RAW, "right", 5, &cid);
    assert_int_equal(ch_object_put(w.store, &cid, "wrong", 5, 0), CH_ERR_INVALID);
    cid.bytes[0] = 2;
    assert_int_equal(ch_object_put(w.store, &cid, "right", 5, 0), CH_ERR_INVALID);
    assert_false(ch_object_busy(w.store));
    finish(&w);
}

static void dropped_block_is_gone_and_may_come_back(void **state)
{
    struct world w;
    begin(&w, test_seed());
    put_many(&w, 0, 50);
    for (uint64_t i = 0; i < 50; i += 2)
        assert_ok(drop(&w, i));
    assert_int_equal(get(&w, 0), CH_ERR_NOT_FOUND);
    assert_ok(put(&w, 4)); /* again while its drop is on the way */
    assert_ok(ch_object_flush(w.store));
    while (ch_object_busy(w.store)) {
        uint64_t cookies[64];
        size_t count;
        assert_ok(ch_io_wait(w.io));
        assert_ok(ch_object_poll(w.store, cookies, 64, &count));
    }
    for (uint64_t i = 0; i < 50; i++)
        w.known[i] = i % 2 || i == 4 ? STORED : DROPPED;
    check_all(&w, 60);
    close_world(&w);
    open_world(&w);
    check_all(&w, 60);
    finish(&w);
}

static void other_key_is_refused(void **state)
{
    struct world w;
    struct ch_object_options options = small();
    begin(&w, test_seed());
    put_many(&w, 0, 3);
    close_world(&w);
    options.master_key = (const uint8_t *)"another key of thirty-two bytes.";
    assert_int_equal(ch_object_open(w.io, "obj", &options, &w.store), CH_ERR_BAD_PASSPHRASE);
    w.store = NULL;
    finish(&w);
}

static bool contains(const uint8_t *bytes, size_t length, const void *what, size_t what_length)
{
    return memmem(bytes, length, what, what_length) != NULL;
}

struct search {
    struct ch_io *io;
    const void *what;
    size_t length;
    bool found;
};

static void search_file(void *context, const char *name)
{
    struct search *search = context;
    char path[300];
    size_t length;
    snprintf(path, sizeof path, "obj/%s", name);
    uint8_t *bytes = bytes_of(search->io, path, &length);
    search->found |= bytes && contains(bytes, length, search->what, search->length);
    free(bytes);
}

static bool on_disk(struct world *w, const void *what, size_t length)
{
    struct search search = {.io = w->io, .what = what, .length = length};
    assert_ok(ch_io_list(w->io, "obj", search_file, &search));
    return search.found;
}

static void both_ciphers_hide_and_give_back(void **state)
{
    struct world w;
    begin(&w, test_seed());
    put_many(&w, 0, 100);
    close_world(&w);
    ch_cpu_set_mask(CH_CPU_ALL & ~CH_CPU_AES);
    struct ch_object_options options = small();
    bool aes = true;
    if (ch_object_open(w.io, "obj", &options, &w.store) == CH_OK) { /* this CPU had none to begin with */
        aes = false;
        ch_object_close(w.store);
    }
    w.store = NULL;
    ch_cpu_set_mask(CH_CPU_ALL);
    options.cipher = CH_OBJECT_XCHACHA20_POLY1305;
    assert_ok(ch_object_open(w.io, "obj", &options, &w.store));
    assert_ok(ch_object_reader_open(w.store, &w.reader));
    put_many(&w, 100, 700); /* the open segment keeps its cipher, the next ones have the other */
    check_all(&w, 700);
    assert_false(on_disk(&w, canary, sizeof canary - 1));
    assert_false(on_disk(&w, master_key, sizeof master_key));
    uint8_t gcm[4] = {1, 0, 0, 0}, xchacha[4] = {2, 0, 0, 0};
    size_t length;
    uint8_t *first = bytes_of(w.io, "obj/00000001.obj", &length);
    uint8_t *third = bytes_of(w.io, "obj/00000003.obj", &length);
    assert_memory_equal(first + CH_IO_BLOCK_BYTES + 12, aes ? gcm : xchacha, 4);
    assert_memory_equal(third + CH_IO_BLOCK_BYTES + 12, xchacha, 4);
    free(first);
    free(third);
    finish(&w);

    /* And without AES at all. */
    ch_cpu_set_mask(CH_CPU_ALL & ~CH_CPU_AES);
    begin(&w, test_seed());
    put_many(&w, 0, 100);
    check_all(&w, 100);
    assert_false(on_disk(&w, canary, sizeof canary - 1));
    finish(&w);
    ch_cpu_set_mask(CH_CPU_ALL);
}

/* --- trees --- */

static ch_err put_node(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    return ch_object_put(((struct world *)context)->store, cid, block, length, BLOCKS_MAX - 1);
}

static void tree_is_there_when_every_leaf_is(void **state)
{
    struct world w;
    struct ch_unixfs_builder *builder;
    struct ch_unixfs_link root, node;
    struct ch_cid cid;
    uint64_t bytes = 0, expected = 0;
    uint8_t block[LENGTH_MAX], encoded[CH_UNIXFS_NODE_BYTES_MAX];
    begin(&w, test_seed());
    assert_ok(ch_unixfs_open(put_node, &w, &builder));
    for (uint64_t i = 0; i < 30; i++) {
        size_t length = block_of(i, block);
        ch_cid_of(CH_CID_RAW, block, length, &cid);
        assert_ok(ch_unixfs_add(builder, &cid, (uint32_t)length));
        expected += length;
        if (i != 17)
            assert_ok(put(&w, i));
    }
    w.known[BLOCKS_MAX - 1] = ASKED;
    assert_ok(ch_unixfs_end(builder, &root));
    ch_unixfs_close(builder);
    assert_ok(settle(&w));
    assert_int_equal(ch_object_has_tree(w.reader, &root.cid, &bytes), CH_ERR_NOT_FOUND);
    assert_ok(put(&w, 17));
    assert_ok(settle(&w));
    assert_ok(ch_object_has_tree(w.reader, &root.cid, &bytes));
    assert_int_equal(bytes, expected);

    struct ch_unixfs_link lying = {.cid = cid, .tree_bytes = 7, .file_bytes = 7}; /* a length that isn't the leaf's */
    size_t length = ch_unixfs_encode(&lying, 1, encoded, &node);
    w.known[BLOCKS_MAX - 1] = ASKED;
    assert_ok(put_node(&w, &node.cid, encoded, length));
    assert_ok(settle(&w));
    assert_int_equal(ch_object_has_tree(w.reader, &node.cid, &bytes), CH_ERR_INVALID);

    /* Not a UnixFS node, although its CID says so. */
    ch_cid_of(CH_CID_DAG_PB, "junk", 4, &cid);
    w.known[BLOCKS_MAX - 1] = ASKED;
    assert_ok(put_node(&w, &cid, (const uint8_t *)"junk", 4));
    assert_ok(settle(&w));
    assert_int_equal(ch_object_has_tree(w.reader, &cid, &bytes), CH_ERR_INVALID);
    finish(&w);
}

/* A node with `count` links to the same thing. */
static struct ch_unixfs_link node_of(struct world *w, const struct ch_unixfs_link *below, size_t count)
{
    static struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX];
    static uint8_t encoded[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link node;
    for (size_t i = 0; i < count; i++)
        links[i] = *below;
    size_t length = ch_unixfs_encode(links, count, encoded, &node);
    w->known[BLOCKS_MAX - 1] = ASKED;
    assert_ok(put_node(w, &node.cid, encoded, length));
    assert_ok(settle(w));
    return node;
}

static uint64_t calls_of_tree(struct world *w, const struct ch_unixfs_link *root, ch_err expected)
{
    uint64_t bytes = 0, before = calls_of(w);
    assert_int_equal(ch_object_has_tree(w->reader, &root->cid, &bytes), expected);
    if (expected == CH_OK)
        assert_int_equal(bytes, root->file_bytes);
    return calls_of(w) - before;
}

static void count_one(void *context, const struct ch_cid *cid)
{
    ++*(unsigned *)context;
}

/* Who names such a tree pays with three blocks; it must not cost a node hundreds of reads, again and again. */
static void subtree_that_stands_in_many_places_is_read_once(void **state)
{
    struct world w;
    uint8_t block[LENGTH_MAX];
    begin(&w, test_seed());
    struct ch_unixfs_link leaf = {.tree_bytes = block_of(1, block), .file_bytes = block_of(1, block)};
    cid_of(1, &leaf.cid);
    assert_ok(put(&w, 1));
    struct ch_unixfs_link middle = node_of(&w, &leaf, 400), root = node_of(&w, &middle, 400);
    struct ch_unixfs_link twice = node_of(&w, &root, 2), thrice = node_of(&w, &root, 3);
    assert_in_range(calls_of_tree(&w, &root, CH_OK), 2, 8);
    assert_int_equal(calls_of_tree(&w, &root, CH_OK), 0);
    assert_in_range(calls_of_tree(&w, &twice, CH_OK), 1, 2);
    /* What is remembered changes no answer: 1,204 nodes are too many, read or not, and so is a level too much. */
    calls_of_tree(&w, &thrice, CH_ERR_INVALID);
    struct ch_unixfs_link deep = node_of(&w, &twice, 1);
    calls_of_tree(&w, &deep, CH_ERR_INVALID);
    calls_of_tree(&w, &deep, CH_ERR_INVALID);
    struct ch_unixfs_link lying = root; /* of another length than its links say */
    lying.file_bytes++;
    struct ch_unixfs_link liar = node_of(&w, &lying, 1);
    calls_of_tree(&w, &liar, CH_ERR_INVALID);
    /* Told once, and again when something may have come back. */
    unsigned told = 0;
    assert_ok(ch_object_walk_tree(w.reader, &root.cid, count_one, &told));
    assert_int_equal(told, 1 + 1 + 400); /* root, middle, and the leaf as often as one middle names it */
    assert_ok(ch_object_walk_tree(w.reader, &twice.cid, count_one, &told));
    assert_int_equal(told, 1 + 1 + 400 + 1);
    /* What is gone is missed at once, and found when it is back. */
    assert_ok(drop(&w, 1));
    calls_of_tree(&w, &root, CH_ERR_NOT_FOUND);
    assert_ok(settle(&w));
    assert_ok(put(&w, 1));
    assert_ok(settle(&w));
    calls_of_tree(&w, &root, CH_OK);
    told = 0;
    assert_ok(ch_object_walk_tree(w.reader, &root.cid, count_one, &told));
    assert_int_equal(told, 1 + 1 + 400);
    finish(&w);
}

/* Of a large tree all is remembered, not only what doesn't take another node's slot. */
static void large_tree_is_read_once(void **state)
{
    struct world w;
    uint8_t block[LENGTH_MAX];
    static struct ch_unixfs_link middle[300], root;
    static uint8_t encoded[CH_UNIXFS_NODE_BYTES_MAX];
    begin(&w, test_seed());
    struct ch_unixfs_link leaf = {.tree_bytes = block_of(1, block), .file_bytes = block_of(1, block)};
    cid_of(1, &leaf.cid);
    assert_ok(put(&w, 1));
    for (size_t i = 0; i < 300; i++)
        middle[i] = node_of(&w, &leaf, 1 + i);
    size_t length = ch_unixfs_encode(middle, 300, encoded, &root);
    w.known[BLOCKS_MAX - 1] = ASKED;
    assert_ok(put_node(&w, &root.cid, encoded, length));
    assert_ok(settle(&w));
    assert_in_range(calls_of_tree(&w, &root, CH_OK), 301, 2000);
    length = ch_unixfs_encode(middle + 1, 299, encoded, &root); /* another one over the same nodes */
    w.known[BLOCKS_MAX - 1] = ASKED;
    assert_ok(put_node(&w, &root.cid, encoded, length));
    assert_ok(settle(&w));
    assert_in_range(calls_of_tree(&w, &root, CH_OK), 1, 4);
    finish(&w);
}

/* --- compaction --- */

static void drain(struct world *w)
{
    uint64_t cookies[16];
    size_t count;
    assert_ok(ch_object_flush(w->store));
    do
        assert_ok(ch_object_poll(w->store, cookies, 16, &count));
    while (ch_object_busy(w->store));
}

/* The name of a number's hash. */
static struct ch_cid name_of(unsigned kind, uint32_t number, uint8_t hash[CH_HASH_BYTES])
{
    struct ch_cid name;
    ch_hash(&number, sizeof number, hash);
    ch_object_name(kind, hash, &name);
    return name;
}

static void named_records_are_kept_apart_and_listed_in_order(void **state)
{
    struct world w;
    enum { NAMES = 600 };
    uint8_t hash[CH_HASH_BYTES], bytes[1500], hashes[7][CH_HASH_BYTES];
    size_t length, count;
    bool end = false;
    begin(&w, test_seed());
    for (uint32_t i = 0; i < NAMES; i++) { /* about four segments; every third of the other kind */
        struct ch_cid name = name_of(1 + i % 3 / 2, i, hash);
        ch_err err;
        memset(bytes, (int)i, sizeof bytes);
        while ((err = ch_object_put(w.store, &name, bytes, 900 + i, i)) == CH_ERR_FULL)
            drain(&w);
        assert_ok(err);
    }
    drain(&w);
    /* a block whose bytes are what the name is the hash of takes nothing's place */
    uint32_t zero = 0;
    struct ch_cid block, name = name_of(1, 0, hash);
    ch_cid_of(CH_CID_RAW, &zero, sizeof zero, &block);
    assert_ok(ch_object_put(w.store, &block, &zero, sizeof zero, 1000));
    drain(&w);
    assert_ok(ch_object_get(w.reader, &name, bytes, sizeof bytes, &length));
    assert_int_equal(length, 900);
    assert_int_equal(ch_object_put(w.store, &name, "other", 5, 1), CH_ERR_EXISTS);
    name = name_of(1, 4, hash);
    assert_ok(ch_object_drop(w.store, &name, 1));
    drain(&w);
    for (int round = 0; round < 2; round++) {
        uint64_t cursor = 0;
        uint32_t next = 0;
        for (end = false; !end;) {
            assert_ok(ch_object_list(w.store, 1, &cursor, hashes, 7, &count, &end));
            for (size_t i = 0; i < count; i++, next++) {
                while (next % 3 == 2 || next == 4)
                    next++;
                (void)name_of(1, next, hash);
                assert_memory_equal(hashes[i], hash, CH_HASH_BYTES);
            }
        }
        assert_int_equal(next, NAMES - 1); /* the last is of kind 2 */
        uint32_t more = NAMES + 1 + 3 * (uint32_t)round; /* what comes later lies behind the cursor, where it is */
        name = name_of(1, more, hash);
        assert_ok(ch_object_put(w.store, &name, "late", 4, 1));
        assert_ok(ch_object_list(w.store, 1, &cursor, hashes, 7, &count, &end));
        assert_true(end && count == 0); /* not durable yet */
        drain(&w);
        assert_ok(ch_object_list(w.store, 1, &cursor, hashes, 7, &count, &end));
        assert_true(end && count == 1);
        assert_memory_equal(hashes[0], hash, CH_HASH_BYTES);
        assert_ok(ch_object_drop(w.store, &name, 1));
        drain(&w);
        close_world(&w); /* and all the same after opening anew */
        open_world(&w);
    }
    finish(&w);
}

static void compaction_gives_space_back_and_keeps_what_lives(void **state)
{
    struct world w;
    struct ch_object_stats before, after;
    begin(&w, test_seed());
    put_many(&w, 0, 1500);
    for (uint64_t i = 0; i < 1500; i++)
        if (i % 8 != 3 && w.known[i] == STORED)
            assert_ok(drop(&w, i));
    assert_ok(settle(&w));
    ch_object_stats(w.store, &before);
    assert_ok(compact_all(&w));
    ch_object_stats(w.store, &after);
    assert_true(after.disk_bytes < before.disk_bytes / 2);
    assert_int_equal(after.blocks, before.blocks);
    assert_true(after.segments_destroyed > 0);
    assert_int_equal(after.blocks_lost, 0);
    check_all(&w, 1500);
    close_world(&w);
    open_world(&w);
    check_all(&w, 1500);
    finish(&w);
}

/* --- owners and ages --- */

#define OWNERS 5

struct totals {
    uint64_t bytes[OWNERS], blocks;
};

static void add_block(void *context, const struct ch_cid *cid, const struct ch_object_tag *tag, size_t length)
{
    struct totals *totals = context;
    totals->bytes[tag->owner] += length;
    totals->blocks++;
}

static void take_block(void *context, const struct ch_object_tag *tag, size_t length)
{
    struct totals *totals = context;
    totals->bytes[tag->owner] -= length;
    totals->blocks--;
}

static void put_for(struct world *w, uint64_t number, struct totals *totals)
{
    uint8_t block[LENGTH_MAX];
    struct ch_cid cid;
    struct ch_cid_block checked;
    const struct ch_object_tag tag = {.owner = number % OWNERS, .put_ms = number % 7 ? 1000 + number : 0};
    size_t length = block_of(number, block);
    ch_err err;
    ch_cid_of(CH_CID_RAW, block, length, &cid);
    assert_true(ch_cid_check(&cid, block, length, &checked));
    w->known[number] = ASKED;
    while ((err = ch_object_put_for(w->store, &checked, &tag, number)) == CH_ERR_FULL)
        assert_ok(poll(w));
    assert_ok(err);
    totals->bytes[tag.owner] += length;
    totals->blocks++;
}

static void blocks_keep_owner_and_age_and_expire_by_it(void **state)
{
    struct world w;
    struct totals expected = {0}, found;
    begin(&w, test_seed());
    for (uint64_t i = 0; i < 900; i++)
        put_for(&w, i, &expected);
    assert_ok(settle(&w));
    for (int round = 0; round < 2; round++) {
        found = (struct totals){0};
        assert_ok(ch_object_each(w.store, add_block, &found));
        assert_memory_equal(&found, &expected, sizeof found);
        for (uint64_t i = 0; i < 900; i += 13) {
            struct ch_object_tag tag;
            struct ch_cid cid;
            size_t length;
            cid_of(i, &cid);
            assert_ok(ch_object_tag(w.reader, &cid, &tag, &length));
            assert_int_equal(tag.owner, i % OWNERS);
            assert_int_equal(tag.put_ms, i % 7 ? 1000 + i : 0);
        }
        close_world(&w);
        open_world(&w);
    }
    struct ch_object_stats before, after;
    ch_object_stats(w.store, &before);
    ch_err err;
    for (int calls = 0; (err = ch_object_expire(w.store, 1500, take_block, &expected)) == CH_OK; calls++) {
        assert_true(calls < 100);
        assert_ok(settle(&w)); /* seals one that was ended */
    }
    assert_int_equal(err, CH_ERR_NOT_FOUND);
    for (uint64_t i = 0; i < 500; i++)
        if (i % 7)
            w.known[i] = DROPPED;
    check_all(&w, 900);
    assert_ok(compact_all(&w));
    check_all(&w, 900);
    ch_object_stats(w.store, &after);
    assert_true(after.segments_destroyed > 0 && after.disk_bytes < before.disk_bytes);
    close_world(&w);
    open_world(&w);
    while ((err = ch_object_expire(w.store, 1500, take_block, &found)) == CH_OK)
        assert_ok(settle(&w));
    check_all(&w, 900);
    found = (struct totals){0};
    assert_ok(ch_object_each(w.store, add_block, &found));
    assert_memory_equal(&found, &expected, sizeof found);
    finish(&w);
}

static void destroyed_segment_has_no_salt_left_even_if_its_file_stays(void **state)
{
    bool seen = false;
    for (uint64_t call = 1; !seen; call++) {
        struct world w;
        size_t length;
        uint8_t salt[32], *file;
        assert_true(call < 2000);
        begin(&w, test_seed());
        put_many(&w, 0, 400);
        for (uint64_t i = 0; i < 400; i++)
            assert_ok(drop(&w, i));
        assert_ok(settle(&w));
        file = take_bytes(&w, "obj/00000001.obj", &length);
        memcpy(salt, file + CH_IO_BLOCK_BYTES + 32, sizeof salt);
        free(file);
        assert_true(on_disk(&w, salt, sizeof salt));
        fail_in(&w, call, CH_ERR_IO, false);
        ch_err err = compact_all(&w);
        fail_in(&w, 0, CH_ERR_IO, false);
        file = bytes_of(w.io, "obj/00000001.obj", &length);
        if (err == CH_ERR_IO && file && ch_load32(file + 8) == 2 && ch_load32(file + CH_IO_BLOCK_BYTES + 8) == 2) {
            seen = true;
            assert_false(on_disk(&w, salt, sizeof salt));
            close_world(&w);
            open_world(&w); /* what was begun is ended */
            assert_null(bytes_of(w.io, "obj/00000001.obj", &length));
            check_all(&w, 400);
        }
        free(file);
        finish(&w);
    }
}

/* --- the real disk, or pool --- */

static void killed_process_loses_nothing_stored(void **state)
{
    static struct writer writer;
    char place[SCRATCH_BYTES];
    uint64_t number = 0;
    scratch_make(place);
    for (int round = 0; round < (in_pool() ? 3 : 5); round++) { /* who comes after a killed one waits two seconds for its answer */
        struct world w;
        start_writer(&writer, place, "test", number);
        assert_int_equal(kill(writer.process, SIGKILL), 0);
        end_writer(&writer);
        assert_int_equal(writer.end, CH_OK);
        assert_ok(open_shared_world(&w, place, "test"));
        for (size_t i = 0; i < writer.count; i++) {
            assert_ok(get(&w, writer.stored[i]));
            number = writer.stored[i] >= number ? writer.stored[i] + 1 : number;
        }
        close_world(&w);
        ch_io_close(w.io);
    }
    scratch_remove(place);
}

struct reading {
    struct ch_object_store *store;
    _Atomic bool stop;
    uint64_t read, wrong;
};

static void *read_all_the_time(void *context)
{
    struct reading *r = context;
    struct world w = {.store = r->store};
    struct ch_prng g;
    ch_prng_seed(&g, 1);
    if (ch_object_reader_open(r->store, &w.reader) != CH_OK)
        return NULL;
    while (!r->stop) { /* every eighth stays for ever, moved or not */
        if (get(&w, 8 * ch_prng_below(&g, 50) + 3) == CH_OK)
            r->read++;
        else
            r->wrong++;
    }
    ch_object_reader_close(w.reader);
    return NULL;
}

static void reader_on_another_thread_finds_blocks_while_they_move(void **state)
{
    char place[SCRATCH_BYTES];
    struct world w;
    struct reading r = {0};
    struct ch_object_stats stats;
    pthread_t thread;
    scratch_make(place);
    assert_ok(open_shared_world(&w, place, "test"));
    put_many(&w, 0, 400);
    r.store = w.store;
    assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, &r), 0);
    for (int round = 0; round < 4; round++) {
        for (uint64_t i = 0; i < 400; i++)
            if (i % 8 != 3 && w.known[i] == STORED)
                assert_ok(drop(&w, i));
        assert_ok(settle(&w));
        assert_ok(compact_all(&w));
        for (uint64_t i = 0; i < 400; i++)
            if (i % 8 != 3)
                assert_ok(put(&w, i));
        assert_ok(settle(&w));
    }
    r.stop = true;
    pthread_join(thread, NULL);
    ch_object_stats(w.store, &stats);
    assert_true(stats.segments_destroyed > 0);
    assert_true(r.read > 0);
    assert_int_equal(r.wrong, 0);
    close_world(&w);
    ch_io_close(w.io);
    scratch_remove(place);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_blocks_are_read_back_also_after_opening_anew),
        cmocka_unit_test(block_that_is_not_durable_is_not_there),
        cmocka_unit_test(second_put_on_its_way_is_told_with_the_first),
        cmocka_unit_test(full_segment_gets_its_footer_whichever_is_durable_first),
        cmocka_unit_test(wrong_bytes_are_refused),
        cmocka_unit_test(dropped_block_is_gone_and_may_come_back),
        cmocka_unit_test(other_key_is_refused),
        cmocka_unit_test(both_ciphers_hide_and_give_back),
        cmocka_unit_test(tree_is_there_when_every_leaf_is),
        cmocka_unit_test(subtree_that_stands_in_many_places_is_read_once),
        cmocka_unit_test(large_tree_is_read_once),
        cmocka_unit_test(named_records_are_kept_apart_and_listed_in_order),
        cmocka_unit_test(compaction_gives_space_back_and_keeps_what_lives),
        cmocka_unit_test(blocks_keep_owner_and_age_and_expire_by_it),
        cmocka_unit_test(destroyed_segment_has_no_salt_left_even_if_its_file_stays),
        cmocka_unit_test(killed_process_loses_nothing_stored),
        cmocka_unit_test(reader_on_another_thread_finds_blocks_while_they_move),
        cmocka_unit_test(index_was_in_runs_all_the_time),
    };
    if (argc > 1)
        be_writer(argv);
    keep_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
