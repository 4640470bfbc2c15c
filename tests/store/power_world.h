/* tests/store/power_world.h - log, state and objects together on one simulated disk, as a validator uses them: objects
 * first, then the record that names them, and when that is durable its rows in the state. */
#ifndef CHAPPE_TESTS_STORE_POWER_WORLD_H
#define CHAPPE_TESTS_STORE_POWER_WORLD_H

#include "store/io_sim.h"
#include "store/object_impl.h"
#include "store/wal.h"
#include "tests/store/lmdb_calls.h"
#include "tests/store/state_life.h"

#define COMMITS_MAX     512
#define RECORDS_MAX     120 /* of a commit, in the state */
#define PADDING_MAX     6000
#define OBJECT_BYTES    3000
#define OBJECTS_OF(i)   ((i) % 3)
#define OBJECTS_KEPT    24 /* commits; the objects of older ones are dropped */
#define STATE_COMMIT_IN 3  /* one commit in so many ends a batch of the state */

/* What must be there after this moment. */
struct promise {
    uint64_t durable;  /* commit records that the log calls durable */
    uint64_t appended; /* and that may be there */
    uint64_t dropped;  /* commits up to which objects may be gone */
};

struct world {
    struct ch_sim_disk *disk;
    struct ch_io *wal_io, *state_io, *object_io;
    struct ch_wal *wal;
    struct ch_state *state;
    struct ch_state_reader *reader;
    struct ch_object_store *objects;
    struct ch_object_reader *object_reader;
    struct promise promise;
    uint64_t applied, log_size, replayed_to;
    bool in_batch, nometasync;
    ch_wal_position position[COMMITS_MAX], replay_from[2];
    struct ch_prng prng;
};

static const uint8_t world_key[CH_OBJECT_KEY_BYTES] = "a key for tests, thirty-two byte";

static inline struct ch_state_options world_state(const struct world *w)
{
    return (struct ch_state_options){.folder = "lmdb", .io = w->state_io, .nometasync = w->nometasync,
                                     .map_bytes = 64 << 20, .batch_records = 64, .accounts_cached = 1,
                                     .relations_cached = 1, .seed = 4};
}

static inline size_t world_object(uint64_t commit, uint64_t number, uint8_t *block, struct ch_cid *cid)
{
    struct ch_prng g;
    ch_prng_seed(&g, commit * 8 + number);
    size_t length = ch_prng_below(&g, OBJECT_BYTES);
    test_random_bytes(&g, block, length);
    ch_cid_of(CH_CID_RAW, block, length, cid);
    return length;
}

/* --- the three stores --- */

static inline ch_err world_commit_state(struct world *w)
{
    uint8_t head[16];
    ch_store64(head, w->applied * 7);
    ch_store64(head + 8, w->position[w->applied]);
    w->in_batch = false;
    ch_err err = ch_state_commit(w->state, w->applied, w->applied * 100, head, sizeof head);
    if (err == CH_OK)
        err = ch_wal_cut_below(w->wal, w->replay_from[1]);
    w->replay_from[1] = w->replay_from[0];
    w->replay_from[0] = w->position[w->applied];
    return err;
}

static inline ch_err world_apply(struct world *w, uint64_t index)
{
    ch_err err = w->in_batch ? CH_OK : ch_state_begin(w->state);
    w->in_batch = err == CH_OK;
    if (err == CH_OK)
        err = apply_commit(w->state, index, RECORDS_MAX, &w->log_size);
    w->applied = index;
    return err;
}

static inline ch_err world_replay(void *context, const struct ch_wal_record *record)
{
    struct world *w = context;
    uint64_t index = ch_load64(record->body);
    assert_true(index < COMMITS_MAX);
    assert_true(w->replayed_to == 0 || index == w->replayed_to + 1);
    w->replayed_to = index;
    w->position[index] = record->position;
    if (index <= w->applied)
        return CH_OK;
    assert_int_equal(index, w->applied + 1);
    return world_apply(w, index);
}

static inline ch_err world_open_state(struct world *w)
{
    const struct ch_state_options options = world_state(w);
    ch_err err = ch_state_open(&options, &w->state);
    if (err != CH_OK)
        return err;
    w->applied = ch_state_meta(w->state)->applied_index;
    w->log_size = ch_state_meta(w->state)->log_size;
    return ch_state_reader_open(w->state, &w->reader);
}

static inline ch_err world_open(struct world *w, bool new)
{
    const struct ch_object_options objects = {
        .master_key = world_key, .segment_bytes = 32 << 10, .batch_bytes = 8 << 10, .run_places = 8};
    struct ch_wal_options log = {.segment_bytes = 64 << 10, .frame_bytes_max = 16 << 10};
    ch_err err = new ? ch_wal_create(w->wal_io, "wal", &log) : CH_OK;
    if (err == CH_OK)
        err = world_open_state(w);
    if (err == CH_OK)
        err = ch_object_open(w->object_io, "obj", &objects, &w->objects);
    if (err == CH_OK)
        err = ch_object_reader_open(w->objects, &w->object_reader);
    if (err != CH_OK)
        return err;
    const struct ch_state_meta *meta = ch_state_meta(w->state);
    ch_wal_position from = meta->head_length == 16 ? ch_load64(meta->head + 8) : 0;
    w->replay_from[0] = w->replay_from[1] = from;
    log.replay_from = from ? from : 1ull << CH_WAL_SEGMENT_SHIFT;
    log.replay = world_replay;
    log.context = w;
    err = ch_wal_open(w->wal_io, "wal", &log, &w->wal);
    if (err == CH_OK && w->in_batch)
        err = world_commit_state(w);
    w->promise.durable = w->promise.appended = w->applied;
    return err;
}

/* On `disk`, with its files in the present folder, which has an empty "lmdb". */
static inline void world_begin(struct world *w, struct ch_sim_disk *disk, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->disk = disk;
    ch_prng_seed(&w->prng, seed);
    assert_ok(ch_sim_io_open(disk, &w->wal_io));
    assert_ok(ch_sim_io_open(disk, &w->state_io));
    assert_ok(ch_sim_io_open(disk, &w->object_io));
    lmdb_mirror(disk, w->state_io, "lmdb/data.mdb");
    lmdb_mirror(disk, w->wal_io, NULL);
    lmdb_mirror(disk, w->object_io, NULL);
}

static inline void world_end(struct world *w)
{
    ch_object_reader_close(w->object_reader);
    ch_object_close(w->objects);
    ch_state_reader_close(w->reader);
    ch_state_close(w->state);
    ch_wal_close(w->wal);
    struct ch_io *const ios[] = {w->wal_io, w->state_io, w->object_io};
    for (int i = 0; i < 3; i++) {
        lmdb_mirror_end(ios[i]);
        ch_io_close(ios[i]);
    }
}

/* --- what a validator does --- */

static inline ch_err world_poll_objects(struct world *w, size_t *told)
{
    uint64_t cookies[16];
    size_t count;
    ch_err err = ch_io_wait(w->object_io);
    if (err == CH_OK)
        err = ch_object_poll(w->objects, cookies, 16, &count);
    *told += err == CH_OK ? count : 0;
    return err;
}

static inline ch_err world_put_objects(struct world *w, uint64_t commit)
{
    size_t told = 0, wanted = OBJECTS_OF(commit);
    for (uint64_t k = 0; k < OBJECTS_OF(commit); k++) {
        uint8_t block[OBJECT_BYTES];
        struct ch_cid cid;
        size_t length = world_object(commit, k, block, &cid);
        ch_err err;
        while ((err = ch_object_put(w->objects, &cid, block, length, commit)) == CH_ERR_FULL)
            if ((err = world_poll_objects(w, &told)) != CH_OK)
                return err;
        wanted -= err == CH_ERR_EXISTS;
        if (err != CH_OK && err != CH_ERR_EXISTS)
            return err;
    }
    if (commit > OBJECTS_KEPT && w->promise.dropped < commit - OBJECTS_KEPT)
        w->promise.dropped = commit - OBJECTS_KEPT;
    if (commit > OBJECTS_KEPT)
        for (uint64_t k = 0; k < OBJECTS_OF(commit - OBJECTS_KEPT); k++) {
            uint8_t block[OBJECT_BYTES];
            struct ch_cid cid;
            (void)world_object(commit - OBJECTS_KEPT, k, block, &cid);
            ch_err err = ch_object_drop(w->objects, &cid, 0);
            wanted += err == CH_OK;
            if (err != CH_OK && err != CH_ERR_NOT_FOUND && err != CH_ERR_FULL)
                return err;
        }
    ch_err err = ch_object_flush(w->objects);
    while (err == CH_OK && told < wanted)
        err = world_poll_objects(w, &told);
    /* Time until the next commit: none, or enough for all that the index needs. */
    for (bool idle = ch_prng_below(&w->prng, 2); err == CH_OK && idle && ch_object_busy(w->objects);)
        err = world_poll_objects(w, &told);
    uint64_t moved;
    if (err == CH_OK && ch_prng_below(&w->prng, 4) == 0) {
        err = ch_object_compact(w->objects, 4000, &moved);
        err = err == CH_ERR_NOT_FOUND ? CH_OK : err;
    }
    return err;
}

static inline ch_err world_poll_log(struct world *w)
{
    ch_err err = ch_wal_poll(w->wal);
    uint64_t durable = ch_wal_durable_end(w->wal);
    while (err == CH_OK && w->promise.durable < w->promise.appended && w->position[w->promise.durable + 1] < durable)
        w->promise.durable++;
    return err;
}

static inline ch_err world_append(struct world *w, uint64_t commit)
{
    uint8_t body[PADDING_MAX];
    uint64_t lsn;
    ch_err err;
    assert_true(commit < COMMITS_MAX);
    ch_store64(body, commit);
    size_t length = 8 + ch_prng_below(&w->prng, PADDING_MAX - 8);
    memset(body + 8, (int)commit, length - 8);
    w->promise.appended = commit;
    while ((err = ch_wal_append(w->wal, 1, &(struct ch_bytes){body, length}, 1, &lsn, &w->position[commit])) ==
           CH_ERR_FULL)
        if ((err = world_poll_log(w)) != CH_OK)
            return err;
    return err;
}

/* One commit further; what is durable in the log is applied. */
static inline ch_err world_step(struct world *w)
{
    ch_err err = world_put_objects(w, w->promise.appended + 1);
    if (err == CH_OK)
        err = world_append(w, w->promise.appended + 1);
    if (err == CH_OK)
        err = ch_wal_flush(w->wal);
    if (err == CH_OK)
        err = world_poll_log(w);
    while (err == CH_OK && w->promise.appended - w->promise.durable > 3) {
        err = ch_io_wait(w->wal_io);
        if (err == CH_OK)
            err = world_poll_log(w);
    }
    while (err == CH_OK && w->applied < w->promise.durable) {
        err = world_apply(w, w->applied + 1);
        if (err == CH_OK && ch_prng_below(&w->prng, STATE_COMMIT_IN) == 0)
            err = world_commit_state(w);
    }
    return err;
}

/* --- the index of objects, in runs --- */

#define RUNS_MAX 64

/* How many runs lie in the folder; *torn of them have no trailer, *left lie over another's segments. */
static inline size_t world_runs(struct ch_sim_disk *disk, size_t *torn, size_t *left)
{
    uint32_t first[RUNS_MAX], last[RUNS_MAX];
    struct segment_numbers found = {0};
    struct ch_io *io;
    size_t whole = 0;
    assert_ok(ch_sim_io_open(disk, &io));
    assert_ok(segments_find(io, "obj", "run", &found));
    const size_t count = found.count;
    assert_true(count <= RUNS_MAX);
    *torn = *left = 0;
    for (size_t i = 0; i < count; i++) {
        char path[32];
        size_t length;
        snprintf(path, sizeof path, "obj/%08x.run", found.number[i]);
        const uint8_t *bytes = ch_sim_disk_bytes(disk, path, &length);
        const uint8_t *trailer = length < CH_IO_BLOCK_BYTES ? NULL : bytes + length - CH_IO_BLOCK_BYTES;
        if (!trailer || memcmp(trailer, "COI1", 4) != 0) {
            ++*torn;
            continue;
        }
        first[whole] = ch_load32(trailer + 16);
        last[whole] = ch_load32(trailer + 20);
        bool covered = false;
        for (size_t k = 0; k < whole; k++)
            covered |= first[k] <= last[whole] && first[whole] <= last[k];
        *left += covered;
        whole++;
    }
    free(found.number);
    ch_io_close(io);
    return count;
}

/* Whether all that was promised is there, and nothing wrong. */
static inline void world_check(struct world *w, const struct promise *promise)
{
    if (w->applied < promise->durable || w->applied > promise->appended)
        fail_msg("%u commits are there; %u were durable, %u appended", (unsigned)w->applied, (unsigned)promise->durable,
                 (unsigned)promise->appended);
    check_whole(w->reader, 7);
    for (uint64_t i = promise->dropped + 1; i <= w->applied; i++)
        for (uint64_t k = 0; k < OBJECTS_OF(i); k++) {
            uint8_t block[OBJECT_BYTES], got[OBJECT_BYTES];
            struct ch_cid cid;
            size_t length = world_object(i, k, block, &cid), got_length;
            assert_ok(ch_object_get(w->object_reader, &cid, got, sizeof got, &got_length));
            assert_int_equal(got_length, length);
            assert_memory_equal(got, block, length);
        }
}

#endif
