/* tests/store/object_world.h - an object store on a simulated disk, or in a pool of the Ceph cluster that CHAPPE_CEPH
 * names (tests/cluster/ceph.py), and what a test knows of each of its blocks. */
#ifndef CHAPPE_TESTS_STORE_OBJECT_WORLD_H
#define CHAPPE_TESTS_STORE_OBJECT_WORLD_H

#include <inttypes.h>
#include <malloc.h>
#include <unistd.h>

#include "store/io_rados.h"
#include "store/io_sim.h"
#include "store/object.h"
#include "tests/test.h"

#define SEGMENT_BYTES (256u << 10)
#define BATCH_BYTES   (32u << 10)
#define LENGTH_MAX    (BATCH_BYTES - 128)
#define BLOCKS_MAX    4096

static const uint8_t master_key[CH_OBJECT_KEY_BYTES] = "a key for tests, thirty-two byte";

static inline struct ch_object_options small(void)
{
    return (struct ch_object_options){
        .master_key = master_key, .segment_bytes = SEGMENT_BYTES, .batch_bytes = BATCH_BYTES, .run_places = 64};
}

/* --- blocks that follow from a number --- */

static const char canary[] = "this sentence must not be found on any disk";

static inline size_t block_of(uint64_t number, uint8_t *block)
{
    struct ch_prng g;
    ch_prng_seed(&g, number);
    size_t length = ch_prng_below(&g, 16) == 0 ? ch_prng_below(&g, LENGTH_MAX + 1) : ch_prng_below(&g, 2000);
    if (length < 4 && number >= 8) /* so short ones are soon the same */
        length += 4;
    test_random_bytes(&g, block, length);
    if (length >= sizeof canary + 4)
        memcpy(block, canary, sizeof canary);
    return length;
}

static inline void cid_of(uint64_t number, struct ch_cid *cid)
{
    uint8_t block[LENGTH_MAX];
    ch_cid_of(CH_CID_RAW, block, block_of(number, block), cid);
}

/* What the test knows of each block. */
enum known { ABSENT, ASKED, STORED, DROP_ASKED, DROPPED };

struct world {
    struct ch_sim_disk *disk; /* NULL: a pool */
    struct ch_io *io;
    struct ch_object_store *store;
    struct ch_object_reader *reader;
    char space[32]; /* the pool's namespace */
    uint8_t known[BLOCKS_MAX];
};

static inline void open_world(struct world *w)
{
    struct ch_object_options options = small();
    assert_ok(ch_object_open(w->io, "obj", &options, &w->store));
    assert_ok(ch_object_reader_open(w->store, &w->reader));
}

/* What the index has seen of runs in all stores of a test program. */
static struct ch_object_stats runs_seen;

static inline void close_world(struct world *w)
{
    struct ch_object_stats stats;
    if (w->store) {
        ch_object_stats(w->store, &stats);
        runs_seen.runs += stats.runs;
        runs_seen.runs_made += stats.runs_made;
        runs_seen.runs_merged += stats.runs_merged;
        runs_seen.runs_remade += stats.runs_remade;
    }
    ch_object_reader_close(w->reader);
    ch_object_close(w->store);
    w->reader = NULL;
    w->store = NULL;
}

static inline bool in_pool(void)
{
    return getenv("CHAPPE_CEPH") != NULL;
}

static unsigned pool_timeout_seconds = 30; /* a busy machine is not a silent cluster */

static inline ch_err open_pool(const char *space, const char *holder, struct ch_io **io)
{
    const struct ch_io_rados_options options = {.config = getenv("CHAPPE_CEPH"),
                                                .user = "chappe",
                                                .pool = "chappe",
                                                .space = space,
                                                .holder = holder,
                                                .timeout_seconds = pool_timeout_seconds};
    return ch_io_rados_open(&options, io);
}

static inline void begin_closed(struct world *w, uint64_t seed)
{
    static unsigned pools;
    memset(w, 0, sizeof *w);
    if (in_pool()) {
        snprintf(w->space, sizeof w->space, "%d-%u", (int)getpid(), pools++);
        assert_ok(open_pool(w->space, "test", &w->io));
    } else {
        assert_ok(ch_sim_disk_open(seed, &w->disk));
        assert_ok(ch_sim_io_open(w->disk, &w->io));
    }
}

static inline void begin(struct world *w, uint64_t seed)
{
    begin_closed(w, seed);
    open_world(w);
}

static inline void finish(struct world *w)
{
    close_world(w);
    ch_io_close(w->io);
    ch_sim_disk_close(w->disk);
}

/* What a file holds now, NULL when it isn't there; the caller frees it. */
static inline uint8_t *bytes_of(struct ch_io *io, const char *path, size_t *length)
{
    struct ch_file *file;
    uint64_t size;
    ch_err err = ch_io_open(io, path, CH_IO_READ, &file);
    if (err == CH_ERR_NOT_FOUND)
        return NULL;
    assert_ok(err);
    assert_ok(ch_io_size(io, file, &size));
    uint8_t *bytes = malloc(size + 1);
    assert_non_null(bytes);
    assert_ok(ch_io_read(io, file, bytes, size, 0, length));
    ch_io_close_file(io, file);
    return bytes;
}

/* A cookie is a block's number, plus DROP for its dropping. */
#define DROP 0x10000u

static inline ch_err poll(struct world *w)
{
    uint64_t cookies[64];
    size_t count;
    ch_err err = ch_object_poll(w->store, cookies, 64, &count);
    for (size_t i = 0; i < count; i++) {
        uint8_t *known = &w->known[cookies[i] & 0xffff];
        assert_int_equal(*known, cookies[i] & DROP ? DROP_ASKED : ASKED);
        *known = cookies[i] & DROP ? DROPPED : STORED;
    }
    return err;
}

static inline ch_err put(struct world *w, uint64_t number)
{
    uint8_t block[LENGTH_MAX];
    struct ch_cid cid;
    ch_err err;
    size_t length = block_of(number, block);
    ch_cid_of(CH_CID_RAW, block, length, &cid);
    uint8_t before = w->known[number];
    w->known[number] = ASKED; /* from here on it may be there */
    while ((err = ch_object_put(w->store, &cid, block, length, number)) == CH_ERR_FULL) {
        err = poll(w);
        if (err != CH_OK)
            return err;
    }
    if (err == CH_ERR_EXISTS) {
        w->known[number] = STORED;
        return CH_OK;
    }
    if (err == CH_ERR_NO_SPACE || err == CH_ERR_TIMEOUT)
        w->known[number] = before;
    return err;
}

static inline ch_err drop(struct world *w, uint64_t number)
{
    struct ch_cid cid;
    ch_err err;
    cid_of(number, &cid);
    uint8_t before = w->known[number];
    w->known[number] = DROP_ASKED;
    while ((err = ch_object_drop(w->store, &cid, number | DROP)) == CH_ERR_FULL) {
        err = poll(w);
        if (err != CH_OK)
            return err;
    }
    if (err == CH_ERR_NO_SPACE || err == CH_ERR_TIMEOUT)
        w->known[number] = before;
    return err;
}

static inline ch_err settle(struct world *w)
{
    ch_err err = ch_object_flush(w->store);
    while (err == CH_OK && ch_object_busy(w->store)) {
        err = ch_io_wait(w->io);
        if (err == CH_OK)
            err = poll(w);
    }
    return err;
}

static inline ch_err get(struct world *w, uint64_t number)
{
    uint8_t block[LENGTH_MAX], got[LENGTH_MAX];
    struct ch_cid cid;
    size_t length = block_of(number, block), got_length;
    ch_cid_of(CH_CID_RAW, block, length, &cid);
    ch_err err = ch_object_get(w->reader, &cid, got, sizeof got, &got_length);
    if (err == CH_OK) {
        assert_int_equal(got_length, length);
        assert_memory_equal(got, block, length);
    }
    return err;
}

static inline void put_aged(struct world *w, uint64_t number, uint64_t put_ms)
{
    uint8_t block[LENGTH_MAX];
    struct ch_cid cid;
    struct ch_cid_block checked;
    ch_err err;
    size_t length = block_of(number, block);
    const struct ch_object_tag tag = {.owner = 1, .put_ms = put_ms};
    ch_cid_of(CH_CID_RAW, block, length, &cid);
    assert_true(ch_cid_check(&cid, block, length, &checked));
    w->known[number] = ASKED;
    while ((err = ch_object_put_for(w->store, &checked, &tag, number)) == CH_ERR_FULL)
        assert_ok(poll(w));
    assert_ok(err);
}

static inline void check_all(struct world *w, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        ch_err err = get(w, i);
        if (w->known[i] == STORED)
            assert_ok(err);
        else if (w->known[i] == DROPPED || w->known[i] == ABSENT)
            assert_int_equal(err, CH_ERR_NOT_FOUND);
        else
            assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND);
    }
}

static inline void put_many(struct world *w, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        assert_ok(put(w, i));
    assert_ok(settle(w));
}

/* Thousands of stores are opened: their memory is kept instead of mapped anew. */
static inline void keep_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

/* The last of a program's tests: the others went through runs, and merging ones. */
static inline void index_was_in_runs_all_the_time(void **state)
{
    printf("runs: %" PRIu64 " made, %" PRIu64 " merged, %" PRIu64 " remade\n", runs_seen.runs_made,
           runs_seen.runs_merged, runs_seen.runs_remade);
    const uint64_t least = in_pool() ? 10 : 100; /* fewer rounds are made there */
    assert_true(runs_seen.runs > 0 && runs_seen.runs_made > least && runs_seen.runs_merged > least);
}

/* Until no segment is half dead. */
static inline ch_err compact_all(struct world *w)
{
    uint64_t moved;
    ch_err err;
    while ((err = ch_object_compact(w->store, 20000, &moved)) == CH_OK) {
        err = settle(w);
        if (err != CH_OK)
            break;
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

#endif
