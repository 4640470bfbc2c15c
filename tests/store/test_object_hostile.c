/* Bytes on the disk that somebody has changed and not only the disk: their checksums are right. What is not protected
 * by a key may say anything; it costs blocks, which are put again, and nothing else. */
#include "store/crc32c_impl.h"
#include "store/object_impl.h"
#include "tests/store/object_faults.h"

#define BLOCKS 400u

static uint8_t *file_of(struct world *w, uint32_t number, const char *ending, size_t *length)
{
    char path[32];
    snprintf(path, sizeof path, "obj/%08x.%s", number, ending);
    return ch_sim_disk_bytes(w->disk, path, length);
}

static void ignore_damage(void *context, const struct ch_cid *cid)
{
    ++*(unsigned *)context;
}

static void ignore_gone(void *context, const struct ch_object_tag *tag, size_t length)
{
}

static void ignore_each(void *context, const struct ch_cid *cid, const struct ch_object_tag *tag, size_t length)
{
    assert_true(length <= CH_BLOCK_BYTES_MAX);
}

static void look_at_all(struct world *w)
{
    for (uint64_t i = 0; i < BLOCKS; i++) {
        ch_err err = get(w, i); /* which compares what it gets */
        assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND || err == CH_ERR_CORRUPT || err == CH_ERR_TIMEOUT);
    }
}

/* All that a store does, in the state that it is in; every loop comes to its end. */
static void live_with_it(struct world *w)
{
    unsigned damaged = 0, steps = 0;
    bool passed = false, end = false;
    uint64_t read, moved, cursor = 0;
    uint8_t hashes[8][32];
    size_t count;
    ch_err err;
    look_at_all(w);
    for (; !passed; steps++) {
        assert_true(steps < 5000);
        err = ch_object_scrub(w->reader, 3000, ignore_damage, &damaged, &read, &passed);
        assert_true(err == CH_OK || err == CH_ERR_CORRUPT || err == CH_ERR_TIMEOUT);
    }
    assert_ok(settle(w));
    for (steps = 0; !end; steps++) {
        assert_true(steps < 5000);
        err = ch_object_list(w->store, 1, &cursor, hashes, 8, &count, &end);
        assert_true(err == CH_OK || err == CH_ERR_TIMEOUT);
        assert_ok(settle(w));
    }
    do
        err = ch_object_each(w->store, ignore_each, NULL);
    while (err == CH_ERR_TIMEOUT && ++steps < 5000 && settle(w) == CH_OK);
    assert_ok(err);
    for (steps = 0; (err = ch_object_expire(w->store, 1000, ignore_gone, NULL)) != CH_ERR_NOT_FOUND; steps++) {
        assert_true((err == CH_OK || err == CH_ERR_CORRUPT || err == CH_ERR_TIMEOUT) && steps < 5000);
        assert_ok(settle(w));
    }
    for (steps = 0; (err = ch_object_compact(w->store, 20000, &moved)) != CH_ERR_NOT_FOUND; steps++) {
        assert_true((err == CH_OK || err == CH_ERR_CORRUPT || err == CH_ERR_TIMEOUT) && steps < 5000);
        assert_ok(settle(w));
    }
    look_at_all(w);
    assert_ok(settle(w));
    for (uint64_t i = 0; i < BLOCKS; i++)
        if (get(w, i) != CH_OK)
            assert_ok(put(w, i));
    assert_ok(settle(w));
    for (uint64_t i = 0; i < BLOCKS; i++)
        w->known[i] = STORED;
    check_all(w, BLOCKS);
    close_world(w);
    open_world(w);
    check_all(w, BLOCKS);
}

/* A store with sealed segments, several runs and drops, as what a power loss leaves of it: tried on copies. */
static void make(struct world *w, uint64_t seed)
{
    begin(w, seed);
    put_many(w, 0, BLOCKS);
    for (uint64_t i = 0; i < BLOCKS; i += 7)
        assert_ok(drop(w, i));
    assert_ok(settle(w));
}

static void copy_of(struct world *w, struct ch_prng *g, struct world *d)
{
    crash(w, g, true, d);
    memset(d->known, ABSENT, sizeof d->known);
}

static uint32_t hostile32(struct ch_prng *g)
{
    static const uint32_t some[] = {0,          1,           2,          64,         0x1fffff,   0x200000,
                                    0x3fffff,   0x400000,    0x7fffffff, 0x80000000, 0xffffffff, CH_BLOCK_BYTES_MAX,
                                    0x00100001, 0x001000ffu, 0xfffffff0, 0x00ffffff};
    return ch_prng_below(g, 3) ? some[ch_prng_below(g, sizeof some / sizeof *some)] : (uint32_t)ch_prng_next(g);
}

static void sign_footer(uint8_t *bytes, size_t length)
{
    uint8_t *trailer = bytes + length - CH_IO_BLOCK_BYTES;
    uint64_t offset = ch_load64(trailer + 24), count = ch_load32(trailer + 12);
    if (offset < length && count * ENTRY_BYTES <= length - offset)
        ch_store32(trailer + 8, crc32c(bytes + offset, count * ENTRY_BYTES));
    ch_store32(trailer + 4, crc32c(trailer + 8, 56));
}

static void footer_that_lies_is_made_again_from_the_records(void **state)
{
    static const uint8_t field[] = {32, 36, 40, 41, 44, 48, 56};
    struct ch_prng g;
    struct world w;
    ch_prng_seed(&g, test_seed());
    make(&w, ch_prng_next(&g));
    for (int i = 0; i < (test_full() ? 3000 : 20); i++) {
        struct world d;
        size_t length;
        copy_of(&w, &g, &d);
        uint8_t *bytes = file_of(&d, 1 + (uint32_t)ch_prng_below(&g, 2), "obj", &length);
        uint8_t *trailer = bytes + length - CH_IO_BLOCK_BYTES, *entries = bytes + ch_load64(trailer + 24);
        uint32_t count = ch_load32(trailer + 12);
        assert_true(count > 50 && count < 1000);
        if (ch_prng_below(&g, 3) == 0) {
            static const uint8_t of_trailer[] = {12, 16, 20, 24, 28, 32, 36, 40, 44};
            ch_store32(trailer + of_trailer[ch_prng_below(&g, sizeof of_trailer)], hostile32(&g));
        } else {
            for (uint64_t k = 1 + ch_prng_below(&g, count); k > 0; k--) {
                uint8_t *at = entries + ch_prng_below(&g, count) * ENTRY_BYTES + field[ch_prng_below(&g, sizeof field)];
                ch_store32(at, hostile32(&g));
            }
        }
        sign_footer(bytes, length);
        if (ch_prng_below(&g, 2)) { /* with the runs that were made of the right one, or without */
            for (uint32_t k = 1; k < 64; k++) {
                char path[32];
                snprintf(path, sizeof path, "obj/%08x.run", k);
                ch_err err = ch_io_unlink(d.io, path);
                assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND);
            }
        }
        open_world(&d);
        live_with_it(&d);
        finish(&d);
    }
    finish(&w);
}

/* The numbers of the folder's runs. */
static size_t runs_of(struct world *w, uint32_t *number, size_t max)
{
    struct segment_numbers found = {0};
    assert_ok(segments_find(w->io, "obj", "run", &found));
    assert_true(found.count > 0 && found.count <= max);
    memcpy(number, found.number, found.count * sizeof *number);
    free(found.number);
    return found.count;
}

static void run_that_lies_costs_no_more_than_blocks_that_are_put_again(void **state)
{
    struct ch_prng g;
    struct world w;
    uint32_t number[64];
    ch_prng_seed(&g, test_seed());
    make(&w, ch_prng_next(&g));
    size_t runs = runs_of(&w, number, 64);
    for (int i = 0; i < (test_full() ? 3000 : 20); i++) {
        struct world d;
        size_t length;
        copy_of(&w, &g, &d);
        uint8_t *bytes = file_of(&d, number[ch_prng_below(&g, runs)], "run", &length);
        uint8_t *trailer = bytes + length - CH_IO_BLOCK_BYTES;
        uint32_t pages = ch_load32(trailer + 12);
        switch (ch_prng_below(&g, 4)) {
        case 0: /* its trailer, which a key protects */
            ch_store32(trailer + 8 + 4 * ch_prng_below(&g, 14), hostile32(&g));
            ch_store32(trailer + 4, crc32c(trailer + 8, 88));
            break;
        case 1: /* a page's header */
            ch_store32(bytes + ch_prng_below(&g, pages) * CH_IO_BLOCK_BYTES + 4, hostile32(&g));
            break;
        default:
            for (uint64_t k = 1 + ch_prng_below(&g, 100); k > 0; k--)
                ch_store32(bytes + ch_prng_below(&g, pages) * CH_IO_BLOCK_BYTES + PAGE_HEADER_BYTES +
                               ch_prng_below(&g, PAGE_PLACES) * PLACE_BYTES + 4 * ch_prng_below(&g, 6),
                           hostile32(&g));
        }
        for (uint32_t k = 0; k < pages; k++)
            ch_store32(bytes + (size_t)k * CH_IO_BLOCK_BYTES,
                       crc32c(bytes + (size_t)k * CH_IO_BLOCK_BYTES + 4, CH_IO_BLOCK_BYTES - 4));
        open_world(&d);
        live_with_it(&d);
        finish(&d);
    }
    finish(&w);
}

/* More than a reader has room for: the record itself says otherwise. */
static void length_in_a_run_that_lies_is_damage(void **state)
{
    struct world w;
    uint32_t number[64];
    make(&w, test_seed());
    close_world(&w);
    for (size_t i = runs_of(&w, number, 64); i-- > 0;) {
        size_t length;
        uint8_t *bytes = file_of(&w, number[i], "run", &length);
        uint32_t pages = ch_load32(bytes + length - CH_IO_BLOCK_BYTES + 12);
        for (uint8_t *page = bytes; page < bytes + (size_t)pages * CH_IO_BLOCK_BYTES; page += CH_IO_BLOCK_BYTES) {
            uint8_t *at = page + PAGE_HEADER_BYTES;
            for (unsigned k = 0; k < page[4]; k++, at += PLACE_BYTES)
                if (ch_load32(at + 20) <= LENGTH_MAX) /* not dropped */
                    ch_store32(at + 20, LENGTH_MAX + 1);
            ch_store32(page, crc32c(page + 4, CH_IO_BLOCK_BYTES - 4));
        }
    }
    open_world(&w);
    unsigned damaged = 0;
    for (uint64_t i = 0; i < BLOCKS; i++) {
        ch_err err = get(&w, i);
        assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND || err == CH_ERR_CORRUPT);
        damaged += err == CH_ERR_CORRUPT;
    }
    assert_true(damaged > 0);
    for (uint64_t i = 0; i < BLOCKS; i++)
        if (get(&w, i) != CH_OK)
            assert_ok(put(&w, i));
    assert_ok(settle(&w));
    for (uint64_t i = 0; i < BLOCKS; i++)
        assert_ok(get(&w, i));
    finish(&w);
}

static void record_that_lies_is_not_believed(void **state)
{
    struct ch_prng g;
    struct world w;
    ch_prng_seed(&g, test_seed());
    make(&w, ch_prng_next(&g));
    for (int i = 0; i < (test_full() ? 3000 : 20); i++) {
        struct world d;
        size_t length;
        unsigned changed = 0;
        copy_of(&w, &g, &d);
        uint8_t *bytes = file_of(&d, 1 + (uint32_t)ch_prng_below(&g, 3), "obj", &length); /* the last one has no footer */
        for (size_t at = DATA_START; at + RECORD_HEADER_BYTES <= length; at += UNIT_BYTES) {
            struct record record;
            if (!object_record_read(bytes + at, &record) || ch_prng_below(&g, 4))
                continue;
            ch_store32(bytes + at + 8 + 4 * ch_prng_below(&g, 22), hostile32(&g));
            ch_store32(bytes + at + 4, crc32c(bytes + at + 8, RECORD_HEADER_BYTES - 8));
            changed++;
        }
        assert_true(changed > 0);
        if (ch_prng_below(&g, 2)) /* a sealed one is scanned, too */
            memset(bytes + length - CH_IO_BLOCK_BYTES, 0, 64);
        open_world(&d);
        live_with_it(&d);
        finish(&d);
    }
    finish(&w);
}

/* Files of any length, with another one's bytes, or noise. */
static void file_that_is_torn_or_another_one_is_lived_with(void **state)
{
    struct ch_prng g;
    struct world w;
    uint32_t number[64];
    ch_prng_seed(&g, test_seed());
    make(&w, ch_prng_next(&g));
    size_t runs = runs_of(&w, number, 64);
    for (int i = 0; i < (test_full() ? 3000 : 36); i++) {
        struct world d;
        struct ch_file *file;
        char path[2][32];
        copy_of(&w, &g, &d);
        bool run = ch_prng_below(&g, 2);
        for (int k = 0; k < 2; k++)
            snprintf(path[k], sizeof path[k], run ? "obj/%08x.run" : "obj/%08x.obj",
                     run ? number[ch_prng_below(&g, runs)] : 1 + (uint32_t)ch_prng_below(&g, 3));
        size_t length;
        uint8_t *bytes = bytes_of(d.io, path[0], &length);
        uint64_t way = ch_prng_below(&g, 4),
                 to = way == 2 ? length + ch_prng_below(&g, 100000) : ch_prng_below(&g, length);
        if (ch_prng_below(&g, 2))
            to = to / CH_IO_BLOCK_BYTES * CH_IO_BLOCK_BYTES;
        assert_ok(ch_io_open(d.io, path[way == 3], CH_IO_WRITE, &file));
        if (way == 3) { /* it gets the bytes of the first */
            assert_ok(ch_io_truncate(d.io, file, 0));
            assert_ok(ch_io_write(d.io, file, bytes, length, 0));
        } else if (way == 2) {
            bytes = realloc(bytes, to + 1);
            assert_non_null(bytes);
            test_random_bytes(&g, bytes + length, to > length ? to - length : 0);
            assert_ok(ch_io_write(d.io, file, bytes, to, 0));
        } else {
            assert_ok(ch_io_truncate(d.io, file, to));
        }
        assert_ok(ch_io_sync(d.io, file));
        ch_io_close_file(d.io, file);
        free(bytes);
        open_world(&d);
        live_with_it(&d);
        finish(&d);
    }
    finish(&w);
}

/* A sector that the disk refuses to read, now and for ever, in any file: found while the store is open or at its
 * start. */
static void sector_that_cannot_be_read_costs_the_blocks_in_it(void **state)
{
    struct ch_prng g;
    struct world w;
    uint32_t number[64];
    unsigned lost = 0;
    ch_prng_seed(&g, test_seed());
    make(&w, ch_prng_next(&g));
    size_t runs = runs_of(&w, number, 64);
    for (int i = 0; i < (test_full() ? 3000 : 36); i++) {
        struct world d;
        size_t length;
        char path[32];
        copy_of(&w, &g, &d);
        bool run = ch_prng_below(&g, 3) == 0, open = ch_prng_below(&g, 2);
        snprintf(path, sizeof path, run ? "obj/%08x.run" : "obj/%08x.obj",
                 run ? number[ch_prng_below(&g, runs)] : 1 + (uint32_t)ch_prng_below(&g, 3));
        assert_non_null(ch_sim_disk_bytes(d.disk, path, &length));
        uint64_t blocks = length / CH_IO_BLOCK_BYTES, at = ch_prng_below(&g, blocks);
        if (ch_prng_below(&g, 3) == 0) /* the ends are what is read at the start */
            at = ch_prng_below(&g, 2) ? blocks - 1 - ch_prng_below(&g, 4) : ch_prng_below(&g, 3);
        if (open)
            open_world(&d);
        ch_sim_disk_set_bad(d.disk, path, at * CH_IO_BLOCK_BYTES, CH_IO_BLOCK_BYTES);
        if (!open)
            open_world(&d);
        unsigned missing = 0;
        for (uint64_t k = 0; k < BLOCKS; k++) {
            ch_err err;
            while ((err = get(&d, k)) == CH_ERR_TIMEOUT)
                assert_ok(settle(&d)); /* a run is made again */
            assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND || err == CH_ERR_CORRUPT);
            missing += err != CH_OK && w.known[k] == STORED;
        }
        assert_true(missing <= (run ? 0 : 20)); /* in a block of 4096 bytes, and none for a header or footer */
        assert_true(run || at >= 2 || missing == 0);
        lost += missing;
        live_with_it(&d);
        finish(&d);
    }
    assert_true(lost > 0);
    finish(&w);
}

/* Of a segment's two header slots one is enough, and the other one is made again: before this one is gone, too. */
static void header_slot_that_is_damaged_is_made_again(void **state)
{
    struct ch_prng g;
    struct world w;
    unsigned lost = 0;
    ch_prng_seed(&g, test_seed());
    make(&w, ch_prng_next(&g));
    for (int i = 0; i < 24; i++) {
        struct world d;
        struct ch_object_stats stats;
        size_t length;
        bool passed = false, scrubbed = i & 1, unreadable = i & 2;
        uint64_t read, moved, slot = (uint64_t)i >> 2 & 1;
        uint32_t number = 1 + (uint32_t)i / 8 % 3;
        char path[32];
        copy_of(&w, &g, &d);
        snprintf(path, sizeof path, "obj/%08x.obj", number);
        if (scrubbed)
            open_world(&d);
        uint8_t *bytes = file_of(&d, number, "obj", &length);
        if (unreadable)
            ch_sim_disk_set_bad(d.disk, path, slot * SLOT_BYTES, SLOT_BYTES);
        else
            bytes[slot * SLOT_BYTES + ch_prng_below(&g, 128)] ^= (uint8_t)(1 + ch_prng_below(&g, 255));
        while (scrubbed && !passed)
            assert_ok(ch_object_scrub(d.reader, 3000, ignore_damage, &lost, &read, &passed));
        if (scrubbed)
            assert_int_equal(ch_object_compact(d.store, 1, &moved), CH_ERR_NOT_FOUND);
        else
            open_world(&d);
        if (number < 3 || !scrubbed) { /* the last one is not sealed: its header is written at each start */
            bytes = file_of(&d, number, "obj", &length);
            memset(bytes + (1 - slot) * SLOT_BYTES, 0x55, SLOT_BYTES);
        }
        close_world(&d);
        open_world(&d);
        ch_object_stats(d.store, &stats);
        assert_int_equal(stats.segments_damaged, 0);
        for (uint64_t k = 0; k < BLOCKS; k++)
            assert_int_equal(get(&d, k), w.known[k] == STORED ? CH_OK : CH_ERR_NOT_FOUND);
        live_with_it(&d);
        finish(&d);
    }
    assert_int_equal(lost, 0);
    finish(&w);
}

/* A file where the next one is to be (in a pool it may be one that was made, and nobody was told): what is put is not
 * answered as if it were stored already. */
static void file_in_the_place_of_the_next_one_is_passed_by(void **state)
{
    struct world w;
    make(&w, test_seed());
    uint32_t segment = w.store->next_number, run = w.store->next_run;
    for (uint32_t i = 0; i < 6; i += 1 + i) { /* one, then two */
        struct ch_file *file;
        char path[2][32];
        snprintf(path[0], sizeof path[0], "obj/%08x.obj", segment + i);
        snprintf(path[1], sizeof path[1], "obj/%08x.run", run + i);
        for (int k = 0; k < 2; k++) {
            assert_ok(ch_io_open(w.io, path[k], CH_IO_WRITE | CH_IO_CREATE, &file));
            ch_io_close_file(w.io, file);
        }
    }
    for (uint64_t i = 1000; i < 2500; i++)
        assert_ok(put(&w, i));
    assert_ok(settle(&w));
    check_all(&w, 2500);
    close_world(&w);
    open_world(&w);
    check_all(&w, 2500);
    finish(&w);
}

/* A stray file with the last number that there is: nothing is stored under a number that means none. */
static void file_with_the_last_number_refuses_what_comes_and_keeps_what_is(void **state)
{
    struct world w;
    make(&w, test_seed());
    for (int run = 0; run < 2; run++) {
        struct ch_file *file;
        close_world(&w);
        assert_ok(ch_io_open(w.io, run ? "obj/ffffffff.run" : "obj/ffffffff.obj", CH_IO_WRITE | CH_IO_CREATE, &file));
        assert_ok(ch_io_write(w.io, file, "stray", 5, 0));
        ch_io_close_file(w.io, file);
        open_world(&w);
        check_all(&w, BLOCKS);
        ch_err err = CH_OK;
        for (uint64_t i = 1000 + 1000 * (uint64_t)run; err == CH_OK && i < 2000 + 1000 * (uint64_t)run; i++)
            err = put(&w, i);
        assert_true(err == CH_OK || err == CH_ERR_NO_SPACE);
        assert_int_equal(err == CH_OK, run);
        assert_ok(ch_object_flush(w.store));
        for (int i = 0; i < 2000; i++)
            assert_ok(poll(&w));
        check_all(&w, 3000);
        close_world(&w);
        if (!run) /* a run that isn't one is removed by the store */
            assert_ok(ch_io_unlink(w.io, "obj/ffffffff.obj"));
        open_world(&w);
        check_all(&w, 3000);
    }
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_that_lies_costs_no_more_than_blocks_that_are_put_again),
        cmocka_unit_test(length_in_a_run_that_lies_is_damage),
        cmocka_unit_test(record_that_lies_is_not_believed),
        cmocka_unit_test(file_that_is_torn_or_another_one_is_lived_with),
        cmocka_unit_test(sector_that_cannot_be_read_costs_the_blocks_in_it),
        cmocka_unit_test(header_slot_that_is_damaged_is_made_again),
        cmocka_unit_test(file_in_the_place_of_the_next_one_is_passed_by),
        cmocka_unit_test(file_with_the_last_number_refuses_what_comes_and_keeps_what_is),
        cmocka_unit_test(footer_that_lies_is_made_again_from_the_records),
    };
    keep_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
