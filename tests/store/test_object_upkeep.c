/* What compaction and expiry leave when they are cut off, and what they cost. */
#include "store/object_impl.h"
#include "tests/store/object_faults.h"
#include "tests/store/scratch.h"

static struct ch_object_stats stats_of(struct world *w)
{
    struct ch_object_stats stats;
    ch_object_stats(w->store, &stats);
    return stats;
}

static void name_of(uint64_t number, struct ch_cid *name)
{
    uint8_t hash[32] = {0};
    memcpy(hash, &number, sizeof number);
    ch_object_name(1, hash, name);
}

static void put_name(struct world *w, uint64_t number, const char *text)
{
    struct ch_cid name;
    const struct ch_object_tag tag = {0};
    name_of(number, &name);
    w->known[number] = ASKED;
    assert_ok(ch_object_put_record(w->store, &name, text, strlen(text), &tag, false, number));
}

static void drop_name(struct world *w, uint64_t number)
{
    struct ch_cid name;
    name_of(number, &name);
    w->known[number] = DROP_ASKED;
    assert_ok(ch_object_drop(w->store, &name, number | DROP));
}

/* Puts blocks until so many segments are there. */
static uint64_t fill(struct world *w, uint64_t number, uint64_t segments)
{
    while (stats_of(w).segments < segments) {
        assert_ok(put(w, number++));
        assert_ok(settle(w));
    }
    return number;
}

static void open_with_few_runs(struct world *w)
{
    struct ch_object_options options = small();
    options.run_places = 100000;
    assert_ok(ch_object_open(w->io, "obj", &options, &w->store));
    assert_ok(ch_object_reader_open(w->store, &w->reader));
}

/* A name's old bytes are dropped, and new ones put; the segment with the drop goes away while those are on their
 * way. */
static void drop_is_kept_until_what_was_put_after_it_is_durable(void **state)
{
    struct ch_prng g;
    struct world w;
    const uint64_t name = 4000;
    unsigned destroyed = 0, old = 0, new = 0;
    uint64_t moved;
    ch_prng_seed(&g, test_seed());
    begin_closed(&w, ch_prng_next(&g));
    open_with_few_runs(&w);
    put_name(&w, name, "old");
    assert_ok(settle(&w));
    uint64_t first = fill(&w, 0, 2);
    drop_name(&w, name);
    assert_ok(settle(&w));
    uint64_t second = fill(&w, first, 3);
    for (uint64_t i = first - 1; i + 1 < second; i++) /* all that is in the second one */
        assert_ok(drop(&w, i));
    assert_ok(settle(&w));
    put_name(&w, name, "new");
    while (w.known[name] != STORED) {
        ch_err err = ch_object_compact(w.store, 1u << 20, &moved);
        assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND);
        for (int image = 0; image < 20; image++) {
            struct world d;
            struct ch_cid cid;
            char got[LENGTH_MAX];
            size_t length;
            crash(&w, &g, true, &d);
            open_with_few_runs(&d);
            name_of(name, &cid);
            err = ch_object_get(d.reader, &cid, got, sizeof got, &length);
            assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND);
            old += err == CH_OK && memcmp(got, "old", 3) == 0;
            new += err == CH_OK && memcmp(got, "new", 3) == 0;
            close_world(&d);
            go_on(&w, &d);
        }
        assert_ok(poll(&w));
    }
    assert_ok(compact_all(&w));
    destroyed += stats_of(&w).segments_destroyed;
    assert_true(destroyed > 0);
    assert_int_equal(old, 0);
    assert_true(new > 0);
    finish(&w);
}

static bool has_salt(const uint8_t *slot)
{
    return ch_load32(slot) != 0 && memcmp(slot + 32, (uint8_t[SALT_BYTES]){0}, SALT_BYTES) != 0;
}

/* The start is cut off before each of its calls; the world is left as it was. */
static void start_by_half(struct world *w, struct ch_prng *g)
{
    struct ch_object_options options = small();
    bool salt = true;
    for (uint64_t call = 1;; call++) {
        struct world d;
        size_t length;
        crash(w, g, true, &d);
        fail_in(&d, call, CH_ERR_DENIED, false);
        ch_err err = ch_object_open(d.io, "obj", &options, &d.store);
        assert_true(err == CH_OK || err == CH_ERR_DENIED);
        fail_in(&d, 0, CH_ERR_DENIED, false);
        uint8_t *bytes = bytes_of(d.io, "obj/00000001.obj", &length);
        bool gone = bytes == NULL;
        if (gone)
            assert_false(salt);
        else
            salt = has_salt(bytes) || has_salt(bytes + SLOT_BYTES);
        free(bytes);
        close_world(&d);
        go_on(w, &d);
        if (gone)
            return;
    }
}

/* Wherever it is cut off: before a segment's file is removed, now or at the next start, no slot has its salt. */
static void salt_is_gone_before_the_file_is(void **state)
{
    struct ch_prng g;
    struct world w;
    unsigned halves = 0;
    bool failed = true;
    ch_prng_seed(&g, test_seed());
    begin(&w, ch_prng_next(&g));
    uint64_t first = fill(&w, 0, 2);
    for (uint64_t i = 0; i < first; i++)
        assert_ok(drop(&w, i));
    assert_ok(settle(&w));
    for (uint64_t call = 1; failed; call++) {
        struct world d, after;
        size_t length;
        assert_true(call < 1000);
        crash(&w, &g, false, &d);
        open_world(&d);
        fail_in(&d, call, CH_ERR_DENIED, false);
        failed = compact_all(&d) != CH_OK;
        fail_in(&d, 0, CH_ERR_DENIED, false);
        for (int image = 0; image < 8; image++) {
            crash(&d, &g, true, &after);
            uint8_t *bytes = bytes_of(after.io, "obj/00000001.obj", &length);
            if (bytes && has_salt(bytes) != has_salt(bytes + SLOT_BYTES)) {
                halves++;
                start_by_half(&after, &g);
            }
            free(bytes);
            go_on(&d, &after);
        }
        close_world(&d);
        go_on(&w, &d);
    }
    assert_true(halves > 0);
    finish(&w);
}

static void count_each(void *context, const struct ch_cid *cid, const struct ch_object_tag *tag, size_t length)
{
    ++*(unsigned *)context;
}

/* A footer that is made again, where the storage does not take it at once. */
static void footer_that_is_refused_is_made_again_later_and_names_each_block_once(void **state)
{
    struct ch_prng g;
    struct world w;
    unsigned refused = 0;
    ch_prng_seed(&g, test_seed());
    begin(&w, ch_prng_next(&g));
    put_many(&w, 0, 400);
    uint64_t blocks = stats_of(&w).blocks;
    for (uint64_t call = 1; call < 30; call++) {
        struct world d;
        size_t length;
        unsigned count = 0;
        crash(&w, &g, true, &d);
        open_world(&d);
        uint8_t *bytes = ch_sim_disk_bytes(d.disk, "obj/00000001.obj", &length);
        bytes[length - CH_IO_BLOCK_BYTES + 8] ^= 1; /* its crc */
        fail_in(&d, call, call % 2 ? CH_ERR_TIMEOUT : CH_ERR_NO_SPACE, false);
        ch_err err = ch_object_each(d.store, count_each, &count);
        fail_in(&d, 0, CH_ERR_IO, false);
        refused += err != CH_OK;
        count = 0;
        assert_ok(ch_object_each(d.store, count_each, &count));
        assert_int_equal(count, blocks);
        assert_ok(settle(&d));
        check_all(&d, 400);
        close_world(&d);
        open_world(&d);
        count = 0;
        assert_ok(ch_object_each(d.store, count_each, &count));
        assert_int_equal(count, blocks);
        assert_int_equal(stats_of(&d).blocks, blocks);
        finish(&d);
    }
    assert_true(refused > 0);
    finish(&w);
}

static void ignore_gone(void *context, const struct ch_object_tag *tag, size_t length)
{
}

/* Of a store into which little comes: what has expired, and its segment gone, takes no memory. */
static void expired_blocks_of_destroyed_segments_are_forgotten(void **state)
{
    struct world w;
    uint64_t moved, left = 0;
    begin(&w, test_seed());
    for (uint64_t i = 0; i < 4000; i++)
        put_aged(&w, i, 1000 + i);
    assert_ok(settle(&w));
    assert_true(stats_of(&w).segments > 10);
    for (uint64_t before_ms = 1100; before_ms <= 4500; before_ms += 100) {
        ch_err err;
        while ((err = ch_object_expire(w.store, before_ms, ignore_gone, NULL)) == CH_OK)
            assert_ok(settle(&w));
        assert_int_equal(err, CH_ERR_NOT_FOUND);
        while ((err = ch_object_compact(w.store, 1000000, &moved)) == CH_OK)
            assert_ok(settle(&w));
        assert_int_equal(err, CH_ERR_NOT_FOUND);
        left = stats_of(&w).blocks;
        for (uint64_t i = 0; i < 4000; i++)
            w.known[i] = 1000 + i < before_ms ? DROPPED : STORED;
        check_all(&w, 4000);
        assert_true(w.store->index.silent < 400); /* of segments that are not half dead */
    }
    assert_int_equal(left, 500);
    close_world(&w);
    open_world(&w);
    check_all(&w, 4000);
    finish(&w);
}

/* --- other threads --- */

struct beside {
    struct ch_object_store *store;
    _Atomic bool stop;
    unsigned rounds, wrong;
};

static void count_damage(void *context, const struct ch_cid *cid)
{
    ++*(unsigned *)context;
}

static void *read_and_scrub(void *context)
{
    struct beside *b = context;
    struct world w = {.store = b->store};
    struct ch_prng g;
    ch_prng_seed(&g, (uintptr_t)&w);
    if (ch_object_reader_open(b->store, &w.reader) != CH_OK)
        return NULL;
    for (; !b->stop; b->rounds++) {
        bool passed;
        uint64_t read;
        struct ch_cid cid;
        size_t length;
        uint64_t number = ch_prng_below(&g, 600);
        ch_err err = get(&w, number);
        b->wrong += err != CH_OK && (err != CH_ERR_NOT_FOUND || number % 4 == 3);
        cid_of(number, &cid);
        err = ch_object_length(w.reader, &cid, &length);
        b->wrong += err != CH_OK && (err != CH_ERR_NOT_FOUND || number % 4 == 3);
        err = ch_object_scrub(w.reader, 20000, count_damage, &b->wrong, &read, &passed);
        b->wrong += err != CH_OK;
    }
    ch_object_reader_close(w.reader);
    return NULL;
}

/* What is looked up, read and scrubbed while blocks move, runs are made and merged, and segments go. Of four blocks one
 * stays for ever. */
static void readers_and_scrubbers_live_beside_all_that_the_owner_does(void **state)
{
    char place[SCRATCH_BYTES];
    char dir[SCRATCH_BYTES + 8];
    struct world w = {0};
    struct beside b[2] = {0};
    pthread_t thread[2];
    struct ch_object_options options = small();
    struct ch_object_stats stats;
    if (in_pool())
        skip();
    scratch_make(place);
    snprintf(dir, sizeof dir, "%s/obj", place);
    assert_ok(ch_io_uring_open(&w.io));
    assert_ok(ch_object_open(w.io, dir, &options, &w.store));
    put_many(&w, 0, 600);
    for (int i = 0; i < 2; i++) {
        b[i].store = w.store;
        assert_int_equal(pthread_create(&thread[i], NULL, read_and_scrub, &b[i]), 0);
    }
    for (int round = 0; round < (test_full() ? 100 : 4); round++) {
        for (uint64_t i = 0; i < 600; i++)
            if (i % 4 != 3)
                assert_ok(drop(&w, i));
        assert_ok(settle(&w));
        assert_ok(compact_all(&w));
        for (uint64_t i = 0; i < 600; i++)
            if (i % 4 != 3)
                put_aged(&w, i, 1000 + i % 4);
        assert_ok(settle(&w));
        ch_err err;
        while ((err = ch_object_expire(w.store, 1002, ignore_gone, NULL)) == CH_OK)
            assert_ok(settle(&w));
        assert_int_equal(err, CH_ERR_NOT_FOUND);
        for (uint64_t i = 0; i < 600; i++)
            w.known[i] = i % 4 < 2 ? ABSENT : w.known[i];
        for (uint64_t i = 0; i < 600; i++)
            assert_ok(put(&w, i));
        assert_ok(settle(&w));
    }
    for (int i = 0; i < 2; i++) {
        b[i].stop = true;
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_true(b[i].rounds > 0);
        assert_int_equal(b[i].wrong, 0);
    }
    stats = stats_of(&w);
    assert_true(stats.runs_merged > 0 && stats.segments_destroyed > 0);
    assert_int_equal(stats.blocks, 600);
    close_world(&w);
    ch_io_close(w.io);
    scratch_remove(place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drop_is_kept_until_what_was_put_after_it_is_durable),
        cmocka_unit_test(footer_that_is_refused_is_made_again_later_and_names_each_block_once),
        cmocka_unit_test(expired_blocks_of_destroyed_segments_are_forgotten),
        cmocka_unit_test(readers_and_scrubbers_live_beside_all_that_the_owner_does),
        cmocka_unit_test(salt_is_gone_before_the_file_is),
    };
    keep_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
