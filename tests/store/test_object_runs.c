#include "store/io_impl.h"
#include "store/object_impl.h"
#include "tests/store/object_world.h"

static uint64_t calls_since(struct world *w, uint64_t before)
{
    return ch_sim_disk_calls(w->disk) - before;
}

static ch_err length_of(struct world *w, uint64_t number)
{
    struct ch_cid cid;
    size_t length;
    cid_of(number, &cid);
    return ch_object_length(w->reader, &cid, &length);
}

static struct ch_object_stats stats_of(struct world *w)
{
    struct ch_object_stats stats;
    ch_object_stats(w->store, &stats);
    return stats;
}

/* Some that are dropped, some that come back, over many runs. */
static void live(struct world *w, uint64_t blocks)
{
    put_many(w, 0, blocks);
    for (uint64_t i = 0; i < blocks; i += 3)
        assert_ok(drop(w, i));
    assert_ok(settle(w));
    for (uint64_t i = 0; i < blocks; i += 9)
        w->known[i] = ABSENT;
    for (uint64_t i = 0; i < blocks; i += 9)
        assert_ok(put(w, i));
    assert_ok(settle(w));
}

/* The numbers of the folder's runs. */
static size_t runs_of(struct world *w, uint32_t *number, size_t max)
{
    struct segment_numbers found = {0};
    assert_ok(segments_find(w->io, "obj", "run", &found));
    size_t count = found.count;
    assert_true(count <= max);
    if (count)
        memcpy(number, found.number, count * sizeof *number);
    free(found.number);
    return count;
}

static uint8_t *bytes_of_run(struct world *w, uint32_t number, size_t *length)
{
    char path[32];
    snprintf(path, sizeof path, "obj/%08x.run", number);
    return ch_sim_disk_bytes(w->disk, path, length);
}

static void absent_block_costs_no_read_and_a_stored_one_a_page(void **state)
{
    struct world w;
    unsigned stored = 0;
    begin(&w, test_seed());
    live(&w, 3000);
    close_world(&w);
    open_world(&w);
    assert_true(stats_of(&w).runs > 1);
    uint64_t before = ch_sim_disk_calls(w.disk);
    for (uint64_t i = 10000; i < 12000; i++)
        assert_int_equal(length_of(&w, i), CH_ERR_NOT_FOUND);
    assert_true(calls_since(&w, before) <= 2000 * 3 / 100);
    before = ch_sim_disk_calls(w.disk);
    for (uint64_t i = 0; i < 3000; i++)
        if (w.known[i] == STORED) {
            assert_ok(length_of(&w, i));
            stored++;
        }
    assert_true(calls_since(&w, before) > stored / 2); /* they are in the runs, not in memory */
    assert_true(calls_since(&w, before) <= stored + stored / 20);
    finish(&w);
}

/* --- what the disk changes --- */

enum way { BY_LOOKING, BY_SCRUBBING, BY_MERGING, BY_OPENING, WAYS };

static void no_damage(void *context, const struct ch_cid *cid)
{
    fail();
}

static void damaged_page_is_made_again_and_nothing_is_lost(void **state)
{
    struct ch_prng g;
    unsigned refused = 0;
    ch_prng_seed(&g, test_seed());
    for (enum way way = BY_LOOKING; way < WAYS; way++) {
        struct world w;
        uint32_t number[64];
        size_t length;
        bool passed = false;
        uint64_t read;
        begin(&w, ch_prng_next(&g));
        live(&w, 1500);
        assert_true(runs_of(&w, number, 64) >= 2);
        /* any page of the run with most of them; the one at the end is newest, and merged soon */
        size_t runs = runs_of(&w, number, 64), at = way == BY_MERGING ? runs - 1 : 0;
        for (size_t i = 0, most = 0; way != BY_MERGING && i < runs; i++) {
            (void)bytes_of_run(&w, number[i], &length);
            at = length > most ? i : at;
            most = length > most ? length : most;
        }
        uint8_t *bytes = bytes_of_run(&w, number[at], &length);
        uint32_t pages = ch_load32(bytes + length - CH_IO_BLOCK_BYTES + 12);
        bytes[ch_prng_below(&g, pages) * CH_IO_BLOCK_BYTES + 8 + ch_prng_below(&g, 100)] ^=
            (uint8_t)(1u << ch_prng_below(&g, 8));
        if (way == BY_LOOKING) { /* whoever asks for it before is told to come again, not that it isn't there */
            for (uint64_t i = 0; i < 1500; i++) {
                ch_err err = get(&w, i);
                assert_true(err == CH_ERR_TIMEOUT || err == (w.known[i] == STORED ? CH_OK : CH_ERR_NOT_FOUND));
                refused += err == CH_ERR_TIMEOUT;
                struct ch_cid cid;
                cid_of(i, &cid);
                if (err == CH_ERR_TIMEOUT)
                    assert_int_equal(ch_object_drop(w.store, &cid, 1), CH_ERR_TIMEOUT);
            }
            assert_true(ch_object_busy(w.store));
        } else if (way == BY_SCRUBBING) {
            while (!passed)
                assert_ok(ch_object_scrub(w.reader, 3000, no_damage, NULL, &read, &passed));
        } else if (way == BY_OPENING) {
            close_world(&w);
            open_world(&w);
        } else {
            for (uint64_t i = 2000; stats_of(&w).runs_remade == 0; i += 100) {
                assert_true(i < 4000);
                for (uint64_t k = i; k < i + 100; k++) {
                    ch_err err = put(&w, k);
                    assert_true(err == CH_OK || err == CH_ERR_TIMEOUT);
                }
                assert_ok(settle(&w));
            }
        }
        assert_ok(settle(&w));
        assert_int_equal(stats_of(&w).runs_remade, 1);
        check_all(&w, 1500);
        uint64_t blocks = stats_of(&w).blocks;
        close_world(&w);
        open_world(&w);
        check_all(&w, 1500);
        assert_int_equal(stats_of(&w).blocks, blocks);
        assert_int_equal(stats_of(&w).runs_remade, 0);
        finish(&w);
    }
    assert_true(refused > 0);
}

static void flipped_bit_of_a_run_costs_no_block(void **state)
{
    struct ch_prng g;
    struct world w;
    uint32_t number[64];
    ch_prng_seed(&g, test_seed());
    begin(&w, ch_prng_next(&g));
    live(&w, 600);
    size_t runs = runs_of(&w, number, 64);
    for (int i = 0; i < (test_full() ? 5000 : 60); i++) {
        struct world d = {0};
        size_t length;
        memcpy(d.known, w.known, sizeof d.known);
        assert_ok(ch_sim_disk_after_power_loss(w.disk, ch_prng_next(&g), &d.disk));
        assert_ok(ch_sim_io_open(d.disk, &d.io));
        uint8_t *bytes = bytes_of_run(&d, number[ch_prng_below(&g, runs)], &length);
        uint64_t at =
            ch_prng_below(&g, 2) ? length - 1 - ch_prng_below(&g, CH_IO_BLOCK_BYTES) : ch_prng_below(&g, length);
        bytes[at] ^= (uint8_t)(1u << ch_prng_below(&g, 8));
        open_world(&d);
        check_all(&d, 600);
        assert_int_equal(stats_of(&d).blocks, stats_of(&w).blocks);
        finish(&d);
    }
    finish(&w);
}

static void runs_that_are_gone_are_made_again_at_the_start(void **state)
{
    struct world w;
    uint32_t number[64];
    begin(&w, test_seed());
    live(&w, 1500);
    uint64_t blocks = stats_of(&w).blocks, live_bytes = stats_of(&w).live_bytes;
    for (int round = 0; round < 3; round++) {
        close_world(&w);
        size_t runs = runs_of(&w, number, 64);
        assert_true(runs > 1);
        for (size_t i = 0; i < runs; i++) /* all of them, or every second */
            if (round == 0 || i % 2 == (size_t)round - 1) {
                char path[32];
                snprintf(path, sizeof path, "obj/%08x.run", number[i]);
                assert_ok(ch_io_unlink(w.io, path));
            }
        open_world(&w);
        assert_int_equal(stats_of(&w).blocks, blocks);
        assert_int_equal(stats_of(&w).live_bytes, live_bytes);
        assert_true(stats_of(&w).runs_made > 0);
        check_all(&w, 1500);
    }
    finish(&w);
}

/* The marks of damaged blocks outlive that their places go to the disk. */
static void damaged_block_stays_marked_while_runs_are_made(void **state)
{
    struct world w;
    struct ch_cid cid, found[4];
    size_t length;
    begin(&w, test_seed());
    put_many(&w, 0, 600);
    assert_true(stats_of(&w).runs > 0);
    uint8_t *bytes = ch_sim_disk_bytes(w.disk, "obj/00000001.obj", &length);
    cid_of(0, &cid);
    bytes[2 * CH_IO_BLOCK_BYTES + RECORD_HEADER_BYTES + 3] ^= 1; /* the first record: block 0 */
    assert_int_equal(get(&w, 0), CH_ERR_CORRUPT);
    for (uint64_t i = 600; i < 1500; i += 100) {
        put_many(&w, i, i + 100);
        assert_int_equal(length_of(&w, 0), CH_ERR_NOT_FOUND);
    }
    assert_int_equal(ch_object_damaged(w.store, found, 4), 1);
    assert_memory_equal(&found[0], &cid, sizeof cid);
    uint64_t blocks = stats_of(&w).blocks;
    put_many(&w, 0, 1);
    assert_ok(length_of(&w, 0));
    assert_int_equal(stats_of(&w).blocks, blocks);
    put_many(&w, 1500, 2000);
    check_all(&w, 2000);
    close_world(&w);
    open_world(&w);
    check_all(&w, 2000);
    assert_int_equal(stats_of(&w).blocks, 2000);
    finish(&w);
}

static void rest(struct world *w, int polls)
{
    assert_ok(ch_object_flush(w->store));
    for (int i = 0; i < polls; i++)
        assert_ok(poll(w));
}

/* A run about segments that hold nothing any more has no places; it is there all the same. */
static void segments_whose_blocks_are_all_gone_have_a_run(void **state)
{
    struct world w;
    begin(&w, test_seed());
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t number = i / 40 * 20 + i % 20; /* twenty are put, then dropped */
        if (i % 20 == 0)
            rest(&w, 200);
        assert_ok((i / 20 % 2 ? drop : put)(&w, number));
    }
    rest(&w, 2000);
    assert_false(ch_object_busy(w.store));
    assert_int_equal(stats_of(&w).blocks, 0);
    assert_true(stats_of(&w).runs > 0);
    for (int round = 0; round < 3; round++) {
        close_world(&w);
        if (round == 1) {
            uint32_t number[64];
            size_t runs = runs_of(&w, number, 64);
            for (size_t i = 0; i + 1 < runs || i == 0; i++) {
                char path[32];
                snprintf(path, sizeof path, "obj/%08x.run", number[i]);
                assert_ok(ch_io_unlink(w.io, path));
            }
        }
        open_world(&w);
        check_all(&w, 1000);
        assert_int_equal(stats_of(&w).blocks, 0);
        assert_true(stats_of(&w).runs > 0);
    }
    bool passed = false;
    uint64_t read;
    while (!passed)
        assert_ok(ch_object_scrub(w.reader, 3000, no_damage, NULL, &read, &passed));
    put_many(&w, 1000, 2500); /* it is merged with others */
    assert_true(stats_of(&w).runs_merged > 0);
    close_world(&w);
    open_world(&w);
    check_all(&w, 2500);
    finish(&w);
}

/* --- crashes --- */

static void check_lost(struct world *w, uint64_t seed, bool killed, uint64_t count)
{
    struct world d = {0};
    memcpy(d.known, w->known, sizeof d.known);
    assert_ok((killed ? ch_sim_disk_after_kill : ch_sim_disk_after_power_loss)(w->disk, seed, &d.disk));
    assert_ok(ch_sim_io_open(d.disk, &d.io));
    open_world(&d);
    check_all(&d, count);
    assert_int_equal(stats_of(&d).runs_remade, 0);
    finish(&d);
}

static void crash_at_any_step_leaves_the_old_runs_or_the_new(void **state)
{
    struct ch_prng g;
    struct world w;
    unsigned written = 0, merged = 0;
    ch_prng_seed(&g, test_seed());
    begin(&w, ch_prng_next(&g));
    for (uint64_t i = 0; i < (test_full() ? 3000 : 1000); i += 50) {
        for (uint64_t k = i; k < i + 50; k++)
            assert_ok(put(&w, k));
        for (uint64_t k = 0; k < i; k += 37)
            if (w.known[k] == STORED)
                assert_ok(drop(&w, k));
        assert_ok(ch_object_flush(w.store));
        while (ch_object_busy(w.store)) {
            const struct index_job *job = &w.store->job;
            bool within = job->active;
            written += within && !job->merges;
            merged += within && job->merges;
            assert_ok(poll(&w));
            if (within && ch_prng_below(&g, test_full() ? 1 : 4) == 0)
                check_lost(&w, ch_prng_next(&g), ch_prng_below(&g, 2), i + 50);
        }
    }
    assert_true(written > 20 && merged > 20);
    finish(&w);
}

/* The world in which a run is about to be made durable. */
static struct {
    struct world *world;
    const struct ch_io_ops *real;
    struct ch_prng prng;
    uint64_t count;
    unsigned losses;
} syncing;

static ch_err lose_power_instead(struct ch_io *io, struct ch_file *file)
{
    struct world *w = syncing.world;
    for (int i = 0; w->store->job.writer.file == file && i < (test_full() ? 1000 : 60); i++, syncing.losses++)
        check_lost(w, ch_prng_next(&syncing.prng), false, i % 10 == 0 ? syncing.count : 0);
    return syncing.real->sync(io, file);
}

/* All of a run but some of its pages may be on the disk by then: it counts for nothing yet. */
static void power_loss_before_a_run_is_durable_leaves_the_old_runs(void **state)
{
    struct world w;
    ch_prng_seed(&syncing.prng, test_seed());
    begin(&w, ch_prng_next(&syncing.prng));
    struct ch_io_ops ops = *w.io->ops;
    syncing.real = w.io->ops;
    syncing.world = &w;
    syncing.losses = 0;
    ops.sync = lose_power_instead;
    w.io->ops = &ops;
    for (syncing.count = 100; syncing.count <= 800; syncing.count += 100)
        put_many(&w, syncing.count - 100, syncing.count);
    assert_true(stats_of(&w).runs_merged > 0 && syncing.losses >= 300);
    w.io->ops = syncing.real;
    finish(&w);
}

/* Every call that a run's making and merging makes, one by one. */
static void any_call_that_fails_while_runs_are_made_loses_nothing(void **state)
{
    static const ch_err errors[] = {CH_ERR_IO, CH_ERR_NO_SPACE, CH_ERR_TIMEOUT, CH_ERR_POOL_FULL};
    struct ch_prng g;
    struct ch_sim_disk *start;
    struct world w;
    ch_prng_seed(&g, test_seed());
    begin(&w, ch_prng_next(&g));
    live(&w, 900);
    assert_ok(ch_sim_disk_after_power_loss(w.disk, 1, &start));
    unsigned given_up = 0;
    for (size_t e = 0; e < 4; e++) {
        bool failed = true;
        for (uint64_t call = 1; failed; call += test_full() ? 1 : 1 + ch_prng_below(&g, 60)) {
            struct world d = {0};
            memcpy(d.known, w.known, sizeof d.known);
            assert_ok(ch_sim_disk_after_kill(start, 1, &d.disk));
            assert_ok(ch_sim_io_open(d.disk, &d.io));
            open_world(&d);
            ch_sim_disk_fail_at(d.disk, ch_sim_disk_calls(d.disk) + call, errors[e]);
            ch_err err = CH_OK;
            for (uint64_t i = 1000; err == CH_OK && i < 1200; i++) {
                err = put(&d, i);
                if (err == CH_OK)
                    err = ch_object_flush(d.store);
                if (err == CH_OK)
                    err = poll(&d);
            }
            if (err == CH_OK)
                err = settle(&d);
            given_up += d.store->job_again_ns != 0;
            failed = call < 600; /* runs were made and merged by then */
            ch_sim_disk_fail_at(d.disk, 0, CH_ERR_IO);
            assert_true(err == CH_OK || e == 0 || object_passes(errors[e]) || errors[e] == CH_ERR_NO_SPACE);
            check_lost(&d, ch_prng_next(&g), object_passes(errors[e]), 1200); /* a pool forgets nothing */
            finish(&d);
        }
    }
    assert_true(given_up > 0);
    ch_sim_disk_close(start);
    finish(&w);
}

/* --- age --- */

static void count_gone(void *context, const struct ch_object_tag *tag, size_t length)
{
    ++*(unsigned *)context;
}

static unsigned expire_all(struct world *w, uint64_t before_ms)
{
    unsigned gone = 0;
    ch_err err;
    while ((err = ch_object_expire(w->store, before_ms, count_gone, &gone)) == CH_OK)
        assert_ok(settle(w));
    assert_int_equal(err, CH_ERR_NOT_FOUND);
    return gone;
}

static void expired_blocks_stay_away_or_expire_again(void **state)
{
    struct world w;
    begin(&w, test_seed());
    for (uint64_t i = 0; i < 1200; i++)
        put_aged(&w, i, 1000 + i % 10);
    assert_ok(settle(&w));
    assert_true(stats_of(&w).runs > 0);
    assert_int_equal(expire_all(&w, 1003), 360); /* far less than half of any segment */
    for (uint64_t i = 0; i < 1200; i++)
        if (i % 10 < 3)
            w.known[i] = DROPPED;
    check_all(&w, 1200);
    assert_int_equal(stats_of(&w).blocks, 840);
    put_many(&w, 1200, 2400); /* runs are made and merged over what is only known here */
    check_all(&w, 2400);
    assert_int_equal(stats_of(&w).blocks, 2040);
    assert_true(w.store->index.silent < 360);
    /* A crash may bring some back, until the next call. */
    for (int round = 0; round < 3; round++) {
        struct world d = {0};
        memcpy(d.known, w.known, sizeof d.known);
        assert_ok(ch_sim_disk_after_power_loss(w.disk, 7 + (uint64_t)round, &d.disk));
        assert_ok(ch_sim_io_open(d.disk, &d.io));
        if (round == 1) { /* the newest word on them is gone with the runs */
            uint32_t number[64];
            size_t runs = runs_of(&w, number, 64);
            for (size_t i = 0; i < runs; i++) {
                char path[32];
                snprintf(path, sizeof path, "obj/%08x.run", number[i]);
                assert_ok(ch_io_unlink(d.io, path));
            }
        }
        open_world(&d);
        uint64_t back = stats_of(&d).blocks - 2040;
        assert_true(round == 1 ? back == 360 : back < 360);
        assert_int_equal(expire_all(&d, 1003), back);
        check_all(&d, 2400);
        assert_int_equal(stats_of(&d).blocks, 2040);
        if (round == 2) { /* and again when they are put again, and moved */
            for (uint64_t i = 0; i < 1200; i += 10) {
                d.known[i] = ABSENT;
                assert_ok(put(&d, i));
            }
            assert_ok(settle(&d));
            assert_int_equal(expire_all(&d, 1009), 6 * 120);
            for (uint64_t i = 0; i < 1200; i++)
                if (i % 10 < 9 && i % 10 != 0)
                    d.known[i] = DROPPED;
            assert_ok(compact_all(&d));
            check_all(&d, 2400);
            close_world(&d);
            open_world(&d);
            assert_int_equal(expire_all(&d, 1009), 0);
            check_all(&d, 2400);
        }
        finish(&d);
    }
    finish(&w);
}

/* --- a disk without room for runs --- */

static void store_without_room_for_runs_works_from_memory(void **state)
{
    struct world w;
    uint32_t number[64];
    begin(&w, test_seed());
    live(&w, 900);
    uint64_t blocks = stats_of(&w).blocks;
    close_world(&w);
    size_t runs = runs_of(&w, number, 64);
    for (size_t i = 0; i < runs; i++) {
        char path[32];
        snprintf(path, sizeof path, "obj/%08x.run", number[i]);
        assert_ok(ch_io_unlink(w.io, path));
    }
    ch_sim_disk_set_capacity(w.disk, 1); /* it is full */
    open_world(&w);
    assert_int_equal(stats_of(&w).runs, 0);
    assert_int_equal(stats_of(&w).blocks, blocks);
    check_all(&w, 900);
    assert_ok(ch_object_flush(w.store));
    for (int i = 0; i < 100; i++)
        assert_ok(poll(&w));
    assert_false(ch_object_busy(w.store)); /* it waits before it tries again */
    check_all(&w, 900);
    ch_sim_disk_set_capacity(w.disk, UINT64_MAX);
    close_world(&w);
    open_world(&w);
    assert_true(stats_of(&w).runs > 0);
    check_all(&w, 900);
    finish(&w);
}

/* --- many --- */

struct many {
    struct ch_sim_disk *disk;
    struct ch_io *io;
    struct ch_object_store *store;
    struct ch_object_reader *reader;
    uint8_t *there;
    uint64_t count;
};

static void open_many(struct many *m)
{
    const struct ch_object_options options = {
        .master_key = master_key, .segment_bytes = 1u << 20, .batch_bytes = 64u << 10, .run_places = 2048};
    assert_ok(ch_object_open(m->io, "obj", &options, &m->store));
    assert_ok(ch_object_reader_open(m->store, &m->reader));
}

static void cid_of_many(uint64_t number, struct ch_cid *cid)
{
    ch_cid_of(CH_CID_RAW, &number, sizeof number, cid);
}

static void drain(struct many *m)
{
    uint64_t cookies[256];
    size_t count;
    assert_ok(ch_object_flush(m->store));
    assert_ok(ch_io_wait(m->io));
    assert_ok(ch_object_poll(m->store, cookies, 256, &count));
}

static void toggle(struct many *m, uint64_t number)
{
    struct ch_cid cid;
    ch_err err;
    cid_of_many(number, &cid);
    while ((err = m->there[number] ? ch_object_drop(m->store, &cid, number)
                                   : ch_object_put(m->store, &cid, &number, sizeof number, number)) == CH_ERR_FULL)
        drain(m);
    assert_ok(err);
    m->there[number] ^= 1;
}

static void check_many(struct many *m)
{
    uint64_t stored = 0;
    struct ch_object_stats stats;
    do
        drain(m);
    while (ch_object_busy(m->store));
    for (uint64_t i = 0; i < m->count; i++) {
        struct ch_cid cid;
        size_t length;
        cid_of_many(i, &cid);
        assert_int_equal(ch_object_length(m->reader, &cid, &length), m->there[i] ? CH_OK : CH_ERR_NOT_FOUND);
        stored += m->there[i];
    }
    ch_object_stats(m->store, &stats);
    assert_int_equal(stats.blocks, stored);
}

static void many_blocks_are_found_as_the_model_has_them(void **state)
{
    struct many m = {.count = test_full() ? 2000000 : 30000};
    struct ch_prng g;
    struct ch_object_stats stats;
    uint64_t moved, merged = 0, segments_destroyed = 0;
    ch_prng_seed(&g, test_seed());
    m.there = calloc(m.count, 1);
    assert_non_null(m.there);
    assert_ok(ch_sim_disk_open(ch_prng_next(&g), &m.disk));
    assert_ok(ch_sim_io_open(m.disk, &m.io));
    open_many(&m);
    for (int round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < m.count / 2; i++) {
            toggle(&m, round == 0 ? 2 * i : ch_prng_below(&g, m.count));
            if (round && i % 64 == 0) {
                ch_err err = ch_object_compact(m.store, 100000, &moved);
                assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND);
                drain(&m);
            }
        }
        check_many(&m);
        ch_object_stats(m.store, &stats);
        merged += stats.runs_merged;
        segments_destroyed += stats.segments_destroyed;
        ch_object_reader_close(m.reader);
        ch_object_close(m.store);
        open_many(&m);
        check_many(&m);
        ch_object_stats(m.store, &stats);
    }
    assert_true(merged >= 4 && segments_destroyed > 0 && stats.runs > 0);
    printf("%" PRIu64 " blocks, %" PRIu64 " runs, %.2f bytes of memory each\n", stats.blocks, stats.runs,
           (double)stats.index_bytes / (double)stats.blocks);
    ch_object_reader_close(m.reader);
    ch_object_close(m.store);
    ch_io_close(m.io);
    ch_sim_disk_close(m.disk);
    free(m.there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_block_costs_no_read_and_a_stored_one_a_page),
        cmocka_unit_test(damaged_page_is_made_again_and_nothing_is_lost),
        cmocka_unit_test(flipped_bit_of_a_run_costs_no_block),
        cmocka_unit_test(runs_that_are_gone_are_made_again_at_the_start),
        cmocka_unit_test(damaged_block_stays_marked_while_runs_are_made),
        cmocka_unit_test(segments_whose_blocks_are_all_gone_have_a_run),
        cmocka_unit_test(crash_at_any_step_leaves_the_old_runs_or_the_new),
        cmocka_unit_test(power_loss_before_a_run_is_durable_leaves_the_old_runs),
        cmocka_unit_test(any_call_that_fails_while_runs_are_made_loses_nothing),
        cmocka_unit_test(expired_blocks_stay_away_or_expire_again),
        cmocka_unit_test(store_without_room_for_runs_works_from_memory),
        cmocka_unit_test(many_blocks_are_found_as_the_model_has_them),
        cmocka_unit_test(index_was_in_runs_all_the_time),
    };
    keep_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
