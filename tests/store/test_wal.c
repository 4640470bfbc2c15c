#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/io_sim.h"
#include "store/wal.h"
#include "tests/store/scratch.h"
#include "tests/test.h"

#define SEGMENT_BYTES (64u << 10)
#define FRAME_BYTES   (16u << 10)
#define BODY_MAX      (FRAME_BYTES - 128)

static const struct ch_wal_options small = {.segment_bytes = SEGMENT_BYTES, .frame_bytes_max = FRAME_BYTES};

/* --- records whose bytes follow from their lsn, and from which process appended them --- */

#define LSN_MAX 8192
static uint8_t life, life_of[LSN_MAX];

static size_t body_of(uint64_t lsn, uint8_t *body)
{
    struct ch_prng g;
    assert_true(lsn < LSN_MAX);
    ch_prng_seed(&g, lsn << 8 | life_of[lsn]);
    size_t length = ch_prng_below(&g, 8) == 0 ? ch_prng_below(&g, BODY_MAX + 1) : ch_prng_below(&g, 600);
    for (size_t i = 0; i < length; i++)
        body[i] = (uint8_t)ch_prng_next(&g);
    return length;
}

static ch_err append(struct ch_wal *wal, uint64_t expected_lsn, ch_wal_position *position)
{
    uint8_t body[BODY_MAX];
    uint64_t lsn;
    assert_true(expected_lsn < LSN_MAX);
    life_of[expected_lsn] = life;
    size_t length = body_of(expected_lsn, body);
    struct ch_bytes parts[2] = {{body, length / 3}, {body + length / 3, length - length / 3}};
    ch_err err = ch_wal_append(wal, (uint8_t)expected_lsn, parts, 2, &lsn, position);
    if (err == CH_OK)
        assert_int_equal(lsn, expected_lsn);
    return err;
}

/* Appends the next record, polling as often as the log wants; false on a full disk or a failure. */
static ch_err append_next(struct ch_wal *wal, ch_wal_position *position)
{
    ch_err err;
    while ((err = append(wal, ch_wal_appended_lsn(wal) + 1, position)) == CH_ERR_FULL) {
        err = ch_wal_poll(wal);
        if (err != CH_OK)
            return err;
    }
    return err;
}

struct replayed {
    uint64_t first, last;
};

static ch_err check_replayed(void *context, const struct ch_wal_record *record)
{
    struct replayed *seen = context;
    uint8_t body[BODY_MAX];
    size_t length = body_of(record->lsn, body);
    if (seen->last)
        assert_int_equal(record->lsn, seen->last + 1);
    else
        seen->first = record->lsn;
    seen->last = record->lsn;
    assert_int_equal(record->type, (uint8_t)record->lsn);
    assert_int_equal(record->length, length);
    assert_memory_equal(record->body, body, length);
    return CH_OK;
}

static ch_err open_from(struct ch_io *io, const char *dir, ch_wal_position from, struct replayed *seen,
                        struct ch_wal **wal)
{
    struct ch_wal_options options = small;
    *seen = (struct replayed){0};
    options.replay = check_replayed;
    options.context = seen;
    options.replay_from = from;
    return ch_wal_open(io, dir, &options, wal);
}

static ch_err open_wal(struct ch_io *io, struct replayed *seen, struct ch_wal **wal)
{
    return open_from(io, "wal", 0, seen, wal);
}

struct world {
    struct ch_sim_disk *disk;
    struct ch_io *io;
    struct ch_wal *wal;
    struct replayed seen;
};

static void begin(struct world *w, uint64_t seed)
{
    *w = (struct world){0};
    life = 0;
    assert_ok(ch_sim_disk_open(seed, &w->disk));
    assert_ok(ch_sim_io_open(w->disk, &w->io));
    assert_ok(ch_wal_create(w->io, "wal", &small));
    assert_ok(open_wal(w->io, &w->seen, &w->wal));
}

static void finish(struct world *w)
{
    ch_wal_close(w->wal);
    ch_io_close(w->io);
    ch_sim_disk_close(w->disk);
    *w = (struct world){0};
}

static void append_many(struct world *w, int count)
{
    ch_wal_position position;
    for (int i = 0; i < count; i++)
        assert_ok(append_next(w->wal, &position));
    assert_ok(ch_wal_settle(w->wal));
}

/* --- the plain course --- */

static void settled_records_come_back_in_order(void **state)
{
    struct world w;
    begin(&w, test_seed());
    append_many(&w, 300);
    assert_int_equal(ch_wal_durable_lsn(w.wal), 300);
    for (int i = 0; i < 3; i++) {
        ch_wal_close(w.wal);
        assert_ok(open_wal(w.io, &w.seen, &w.wal));
        assert_int_equal(w.seen.first, 1);
        assert_int_equal(w.seen.last, 300u + (unsigned)i);
        append_many(&w, 1);
    }
    finish(&w);
}

static void create_on_a_log_exists_and_open_of_nothing_is_not_found(void **state)
{
    struct world w;
    begin(&w, test_seed());
    append_many(&w, 3);
    ch_wal_close(w.wal);
    assert_int_equal(ch_wal_create(w.io, "wal", &small), CH_ERR_EXISTS);
    assert_int_equal(open_from(w.io, "other", 0, &w.seen, &w.wal), CH_ERR_NOT_FOUND);
    w.wal = NULL;
    struct ch_wal_options odd = small;
    odd.frame_bytes_max = 5000;
    assert_int_equal(ch_wal_create(w.io, "other", &odd), CH_ERR_INVALID);
    finish(&w);
}

static void second_owner_is_busy(void **state)
{
    struct world w;
    struct ch_wal *second;
    begin(&w, test_seed());
    assert_int_equal(open_wal(w.io, &w.seen, &second), CH_ERR_BUSY);
    finish(&w);
}

static void reader_gives_bodies_by_position(void **state)
{
    struct world w;
    struct ch_wal_reader *reader;
    ch_wal_position position[200];
    uint8_t body[BODY_MAX], got[BODY_MAX];
    begin(&w, test_seed());
    assert_ok(ch_wal_reader_open(w.wal, &reader));
    for (uint64_t i = 0; i < 200; i++)
        assert_ok(append_next(w.wal, &position[i]));
    assert_int_equal(ch_wal_read(reader, ch_wal_durable_end(w.wal), got, 1), CH_ERR_AGAIN);
    assert_ok(ch_wal_settle(w.wal));
    for (uint64_t i = 0; i < 200; i++) {
        size_t length = body_of(i + 1, body), skip = length / 2;
        ch_wal_want(reader, position[i], length);
        assert_ok(ch_wal_read(reader, position[i] + skip, got, length - skip));
        assert_memory_equal(got, body + skip, length - skip);
    }
    ch_wal_reader_close(reader);
    finish(&w);
}

static void cut_segments_are_used_again(void **state)
{
    struct world w;
    struct ch_wal_reader *reader;
    ch_wal_position first = 0, position = 0;
    uint8_t byte;
    begin(&w, test_seed());
    assert_ok(ch_wal_reader_open(w.wal, &reader));
    assert_ok(append_next(w.wal, &first));
    for (int i = 0; i < 3000; i++) {
        assert_ok(append_next(w.wal, &position));
        if (i % 100 == 0) {
            assert_ok(ch_wal_settle(w.wal));
            assert_ok(ch_wal_cut_below(w.wal, position));
        }
    }
    assert_ok(ch_wal_settle(w.wal));
    assert_ok(ch_wal_cut_below(w.wal, UINT64_MAX)); /* keeps what the last durable frame is in */
    ch_wal_want(reader, first, 1); /* cut, not there yet, nowhere: no matter */
    ch_wal_want(reader, ch_wal_durable_end(w.wal), 1);
    ch_wal_want(reader, UINT64_MAX, 1);
    ch_wal_want(reader, 0, 1);
    assert_int_equal(ch_wal_read(reader, first, &byte, 1), CH_ERR_NOT_FOUND);
    assert_true(ch_wal_disk_bytes(w.wal) <= (2 + CH_WAL_SPARE_MAX) * (uint64_t)SEGMENT_BYTES);
    ch_wal_reader_close(reader);
    ch_wal_close(w.wal);
    assert_ok(open_wal(w.io, &w.seen, &w.wal));
    assert_int_equal(w.seen.last, 3001);
    assert_int_equal(ch_wal_appended_lsn(w.wal), 3001);
    finish(&w);
}

static void replay_begins_at_the_segment_asked_for(void **state)
{
    struct world w;
    ch_wal_position position = 0, late = 0;
    begin(&w, test_seed());
    for (int i = 1; i <= 600; i++) {
        assert_ok(append_next(w.wal, &position));
        if (i == 400)
            late = position;
    }
    assert_ok(ch_wal_settle(w.wal));
    ch_wal_close(w.wal);
    assert_ok(open_from(w.io, "wal", late, &w.seen, &w.wal));
    assert_true(w.seen.first > 1 && w.seen.first <= 400);
    assert_int_equal(w.seen.last, 600);
    ch_wal_close(w.wal);
    w.wal = NULL;
    /* What the caller still needs is not there: that is damage, not an empty replay. */
    assert_int_equal(open_from(w.io, "wal", 1000ull << 32, &w.seen, &w.wal), CH_ERR_LOG_DAMAGED);
    finish(&w);
}

/* One that turns up again finds those before it where they were. */
static void lost_segment_that_is_needed_is_damage_and_nothing_is_removed(void **state)
{
    struct world w;
    ch_wal_position first = 0, position = 0;
    begin(&w, test_seed());
    assert_ok(append_next(w.wal, &first));
    for (int i = 2; i <= 600; i++)
        assert_ok(append_next(w.wal, &position));
    assert_ok(ch_wal_settle(w.wal));
    ch_wal_close(w.wal);
    w.wal = NULL;
    assert_true(position >> 32 > 3);
    assert_ok(ch_io_rename(w.io, "wal/00000002.wal", "wal/elsewhere"));
    assert_int_equal(open_from(w.io, "wal", first, &w.seen, &w.wal), CH_ERR_LOG_DAMAGED);
    assert_ok(ch_io_rename(w.io, "wal/elsewhere", "wal/00000002.wal"));
    assert_ok(open_from(w.io, "wal", first, &w.seen, &w.wal));
    assert_int_equal(w.seen.first, 1);
    assert_int_equal(w.seen.last, 600);
    finish(&w);
}

/* --- power loss --- */

/* Opens an image; all that was promised must be there, and what is there must be a prefix of what was appended. */
static void check_image(struct ch_sim_disk *disk, uint64_t promised, uint64_t appended, struct ch_prng *g, int depth)
{
    struct ch_io *io;
    struct ch_wal *wal;
    struct replayed seen;
    ch_wal_position position;
    uint8_t outer_life_of[LSN_MAX];
    memcpy(outer_life_of, life_of, sizeof life_of);
    life++;
    assert_ok(ch_sim_io_open(disk, &io));
    assert_ok(open_wal(io, &seen, &wal));
    assert_true(seen.last >= promised && seen.last <= appended);
    /* The log goes on from there, and its process may be killed, and its power lost again. */
    uint64_t count = ch_prng_below(g, 3) ? ch_prng_below(g, 40) : 0;
    for (uint64_t i = 0; i < count; i++)
        assert_ok(append_next(wal, &position));
    if (depth < 3) {
        struct ch_sim_disk *again;
        assert_ok((ch_prng_below(g, 2) ? ch_sim_disk_after_kill : ch_sim_disk_after_power_loss)(disk, ch_prng_next(g),
                                                                                                &again));
        check_image(again, ch_wal_durable_lsn(wal), ch_wal_appended_lsn(wal), g, depth + 1);
        ch_sim_disk_close(again);
    }
    ch_wal_close(wal);
    ch_io_close(io);
    memcpy(life_of, outer_life_of, sizeof life_of);
    life--;
}

static void power_loss_keeps_every_promised_record(void **state)
{
    int runs = test_full() ? 400 : 5, images = 25;
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    for (int run = 0; run < runs; run++) {
        struct world w;
        ch_wal_position position = 0;
        begin(&w, ch_prng_next(&g));
        for (int image = 0; image < images; image++) {
            uint64_t steps = ch_prng_below(&g, 60);
            for (uint64_t i = 0; i < steps; i++) {
                assert_ok(append_next(w.wal, &position));
                if (ch_prng_below(&g, 3) == 0)
                    assert_ok(ch_wal_flush(w.wal));
                if (ch_prng_below(&g, 3) == 0)
                    assert_ok(ch_wal_poll(w.wal));
                if (ch_prng_below(&g, 200) == 0)
                    assert_ok(ch_wal_cut_below(w.wal, position));
            }
            struct ch_sim_disk *lost;
            assert_ok((ch_prng_below(&g, 3) ? ch_sim_disk_after_power_loss
                                            : ch_sim_disk_after_kill)(w.disk, ch_prng_next(&g), &lost));
            check_image(lost, ch_wal_durable_lsn(w.wal), ch_wal_appended_lsn(w.wal), &g, 0);
            ch_sim_disk_close(lost);
        }
        finish(&w);
    }
}

/* --- failures --- */

/* Everything the log does, up to the first failure; says what was promised and appended. */
static ch_err whole_course(struct ch_io *io, uint64_t *promised, uint64_t *appended)
{
    struct ch_wal *wal = NULL;
    struct replayed seen;
    ch_wal_position position = 0;
    ch_err err = ch_wal_create(io, "wal", &small);
    if (err == CH_OK)
        err = open_wal(io, &seen, &wal);
    for (int i = 0; err == CH_OK && i < 120; i++) {
        err = append_next(wal, &position);
        if (err == CH_OK && i % 7 == 0)
            err = ch_wal_flush(wal);
        if (err == CH_OK && i % 5 == 0)
            err = ch_wal_poll(wal);
        if (err == CH_OK && i % 50 == 49)
            err = ch_wal_cut_below(wal, position);
    }
    if (err == CH_OK)
        err = ch_wal_settle(wal);
    if (wal) {
        *promised = ch_wal_durable_lsn(wal);
        *appended = ch_wal_appended_lsn(wal);
    }
    ch_wal_close(wal);
    return err;
}

static void any_call_that_fails_loses_nothing_promised(void **state)
{
    static const ch_err errors[] = {CH_ERR_IO, CH_ERR_NO_SPACE};
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    for (size_t e = 0; e < 2; e++) {
        bool failed = true;
        for (uint64_t call = 1; failed; call += test_full() ? 1 : 1 + ch_prng_below(&g, 3)) {
            struct ch_sim_disk *disk, *lost;
            struct ch_io *io;
            uint64_t promised = 0, appended = 0;
            assert_true(call < 100000);
            assert_ok(ch_sim_disk_open(ch_prng_next(&g), &disk));
            assert_ok(ch_sim_io_open(disk, &io));
            ch_sim_disk_fail_at(disk, call, errors[e]);
            ch_err err = whole_course(io, &promised, &appended);
            failed = ch_sim_disk_calls(disk) >= call;
            /* A failed read of the free space or a full disk while preparing may pass unseen; then all went well. */
            if (err == CH_OK)
                assert_int_equal(promised, 120);
            ch_io_close(io);
            if (appended) { /* there was a log: as a power loss right after leaves it, it has all that was promised */
                assert_ok(ch_sim_disk_after_power_loss(disk, ch_prng_next(&g), &lost));
                check_image(lost, promised, appended, &g, 2);
                ch_sim_disk_close(lost);
            }
            ch_sim_disk_close(disk);
        }
    }
}

static void full_disk_refuses_and_goes_on_when_there_is_room(void **state)
{
    struct world w;
    ch_wal_position position = 0;
    ch_err err;
    begin(&w, test_seed());
    ch_sim_disk_set_capacity(w.disk, 5 * SEGMENT_BYTES);
    while ((err = append_next(w.wal, &position)) == CH_OK)
        ;
    assert_int_equal(err, CH_ERR_NO_SPACE);
    uint64_t count = ch_wal_appended_lsn(w.wal);
    assert_ok(ch_wal_settle(w.wal));
    assert_int_equal(ch_wal_durable_lsn(w.wal), count);
    assert_int_equal(append_next(w.wal, &position), CH_ERR_NO_SPACE);

    assert_ok(ch_wal_cut_below(w.wal, position)); /* pruning makes room without asking the disk */
    assert_ok(append_next(w.wal, &position));
    while ((err = append_next(w.wal, &position)) == CH_OK)
        ;
    assert_int_equal(err, CH_ERR_NO_SPACE);
    ch_sim_disk_set_capacity(w.disk, 20 * SEGMENT_BYTES); /* and so does somebody else's deleting */
    assert_ok(ch_wal_poll(w.wal));
    append_many(&w, 100);
    count = ch_wal_appended_lsn(w.wal);
    ch_wal_close(w.wal);
    assert_ok(open_wal(w.io, &w.seen, &w.wal));
    assert_int_equal(w.seen.last, count);
    finish(&w);
}

/* --- damage --- */

static void flip(struct ch_sim_disk *disk, ch_wal_position position, unsigned bit)
{
    char path[64];
    size_t length;
    snprintf(path, sizeof path, "wal/%08x.wal", (unsigned)(position >> 32));
    uint8_t *bytes = ch_sim_disk_bytes(disk, path, &length);
    assert_non_null(bytes);
    assert_true((uint32_t)position < length);
    bytes[(uint32_t)position] ^= (uint8_t)(1u << bit);
}

static void flipped_bit_in_a_promised_frame_is_damage(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    for (int i = 0; i < (test_full() ? 2000 : 150); i++) {
        struct world w;
        ch_wal_position position = 0, target = 0;
        begin(&w, ch_prng_next(&g));
        for (int k = 0; k < 40; k++) {
            assert_ok(append_next(w.wal, &position));
            if (k == 20)
                target = position;
            assert_ok(ch_wal_settle(w.wal)); /* a frame each: later ones promise the earlier ones */
        }
        ch_wal_close(w.wal);
        w.wal = NULL;
        uint8_t body[BODY_MAX];
        uint64_t span = 64 + CH_WAL_RECORD_HEADER_BYTES + body_of(21, body);
        uint64_t offset = ch_prng_below(&g, span); /* header, record header, body */
        flip(w.disk, target - CH_WAL_RECORD_HEADER_BYTES - 64 + offset, (unsigned)ch_prng_below(&g, 8));
        assert_int_equal(open_wal(w.io, &w.seen, &w.wal), CH_ERR_LOG_DAMAGED);
        assert_int_equal(w.seen.last, 20);

        /* Accepted, the log goes on, and no lsn comes to mean something else. */
        struct ch_wal_options accept = small;
        accept.accept_damage = true;
        assert_ok(ch_wal_open(w.io, "wal", &accept, &w.wal));
        assert_true(ch_wal_appended_lsn(w.wal) >= 40);
        assert_ok(append_next(w.wal, &position));
        assert_ok(ch_wal_settle(w.wal));
        uint64_t last = ch_wal_durable_lsn(w.wal);
        ch_wal_close(w.wal);
        assert_ok(ch_wal_open(w.io, "wal", &small, &w.wal));
        assert_int_equal(ch_wal_appended_lsn(w.wal), last);
        finish(&w);
    }
}

static void damaged_tail_without_promise_is_cut_off(void **state)
{
    struct world w;
    ch_wal_position position;
    begin(&w, test_seed());
    append_many(&w, 9);
    assert_ok(append_next(w.wal, &position));
    assert_ok(ch_wal_settle(w.wal));
    ch_wal_close(w.wal);
    flip(w.disk, position - 1, 3); /* the type of the last record, which no later frame promises */
    assert_ok(open_wal(w.io, &w.seen, &w.wal));
    assert_int_equal(w.seen.last, 9);
    finish(&w);
}

static void lost_first_frame_of_a_later_segment_is_damage(void **state)
{
    struct world w;
    ch_wal_position position = 0;
    begin(&w, test_seed());
    while (position >> 32 < 4) {
        assert_ok(append_next(w.wal, &position));
        assert_ok(ch_wal_settle(w.wal));
    }
    for (int i = 0; i < 3; i++) {
        assert_ok(append_next(w.wal, &position));
        assert_ok(ch_wal_settle(w.wal));
    }
    ch_wal_close(w.wal);
    w.wal = NULL;
    flip(w.disk, position >> 32 << 32 | 20, 0);
    assert_int_equal(open_wal(w.io, &w.seen, &w.wal), CH_ERR_LOG_DAMAGED);
    finish(&w);
}

static void frame_of_an_abandoned_tail_never_fits_again(void **state)
{
    struct world w;
    ch_wal_position position[13];
    uint8_t stale[CH_IO_BLOCK_BYTES], byte = 7;
    struct ch_bytes body = {&byte, 1};
    uint64_t lsn;
    size_t length;
    begin(&w, test_seed());
    for (int i = 1; i <= 12; i++) { /* a block each */
        assert_ok(ch_wal_append(w.wal, 0, &body, 1, &lsn, &position[i]));
        assert_ok(ch_wal_settle(w.wal));
    }
    ch_wal_close(w.wal);
    uint8_t *bytes = ch_sim_disk_bytes(w.disk, "wal/00000001.wal", &length);
    uint32_t last = (uint32_t)position[12] & ~(uint32_t)(CH_IO_BLOCK_BYTES - 1);
    memcpy(stale, bytes + last, sizeof stale);
    memset(bytes + last - 2 * CH_IO_BLOCK_BYTES, 0, 3 * CH_IO_BLOCK_BYTES); /* 10 to 12 never arrived */

    struct ch_wal_options quiet = small;
    assert_ok(ch_wal_open(w.io, "wal", &quiet, &w.wal));
    assert_int_equal(ch_wal_appended_lsn(w.wal), 9);
    for (int i = 10; i <= 11; i++) /* in one frame: the next would be 12, where the old 12 was */
        assert_ok(ch_wal_append(w.wal, 0, &body, 1, &lsn, &position[i]));
    assert_ok(ch_wal_settle(w.wal));
    assert_int_equal(ch_wal_durable_end(w.wal), position[12] & ~(uint64_t)(CH_IO_BLOCK_BYTES - 1));
    ch_wal_close(w.wal);
    memcpy(ch_sim_disk_bytes(w.disk, "wal/00000001.wal", &length) + last, stale, sizeof stale);
    assert_ok(ch_wal_open(w.io, "wal", &quiet, &w.wal));
    assert_int_equal(ch_wal_appended_lsn(w.wal), 11);
    finish(&w);
}

/* --- the real disk --- */

static void killed_process_loses_nothing_promised(void **state)
{
    enum { ROUNDS = 5 };
    char dir[SCRATCH_BYTES], wal_dir[SCRATCH_BYTES + 8];
    scratch_make(dir);
    snprintf(wal_dir, sizeof wal_dir, "%s/wal", dir);
    struct ch_io *io;
    struct ch_wal *wal;
    struct replayed seen;
    assert_ok(ch_io_uring_open(&io));
    assert_ok(ch_wal_create(io, wal_dir, &small));
    ch_io_close(io);
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t last = LSN_MAX / ROUNDS * (uint64_t)(round + 1) - 1; /* who is killed late gets to it */
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        if (child == 0) {
            ch_wal_position position;
            if (ch_io_uring_open(&io) != CH_OK || open_from(io, wal_dir, 0, &seen, &wal) != CH_OK)
                _exit(1);
            for (uint64_t told = 0;;) {
                if (ch_wal_appended_lsn(wal) < last && append_next(wal, &position) != CH_OK)
                    _exit(1);
                if (ch_wal_flush(wal) != CH_OK || ch_wal_poll(wal) != CH_OK)
                    _exit(1);
                uint64_t durable = ch_wal_durable_lsn(wal);
                if (durable > told && write(fds[1], &durable, sizeof durable) == sizeof durable)
                    told = durable;
            }
        }
        assert_true(child > 0);
        close(fds[1]);
        uint64_t promised = 0, next;
        for (int i = 0; i < 50 && promised < last && read(fds[0], &next, sizeof next) == sizeof next; i++)
            promised = next;
        assert_int_equal(kill(child, SIGKILL), 0);
        while (read(fds[0], &next, sizeof next) == sizeof next)
            promised = next;
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        close(fds[0]);
        assert_ok(ch_io_uring_open(&io));
        assert_ok(open_from(io, wal_dir, 0, &seen, &wal));
        assert_true(promised > 0 && seen.first == 1 && seen.last >= promised);
        ch_wal_close(wal);
        ch_io_close(io);
    }
    scratch_remove(dir);
}

struct reading {
    struct ch_wal *wal;
    _Atomic uint64_t lsn, position; /* a durable record */
    _Atomic bool stop;
    uint64_t read, cut, wrong;
};

static void *read_all_the_time(void *context)
{
    struct reading *r = context;
    struct ch_wal_reader *reader;
    uint8_t body[BODY_MAX], got[BODY_MAX];
    if (ch_wal_reader_open(r->wal, &reader) != CH_OK)
        return NULL;
    while (!r->stop) {
        uint64_t lsn = r->lsn, position = r->position;
        if (!lsn || r->lsn != lsn || r->position != position)
            continue;
        size_t length = body_of(lsn, body);
        ch_err err = ch_wal_read(reader, position, got, length);
        if (err == CH_ERR_NOT_FOUND)
            r->cut++;
        else if (err != CH_OK || (memcmp(got, body, length) != 0 && r->lsn == lsn))
            r->wrong++;
        else
            r->read++;
    }
    ch_wal_reader_close(reader);
    return NULL;
}

static void reader_on_another_thread_never_sees_a_segment_used_again(void **state)
{
    char dir[SCRATCH_BYTES], wal_dir[SCRATCH_BYTES + 8];
    scratch_make(dir);
    snprintf(wal_dir, sizeof wal_dir, "%s/wal", dir);
    struct ch_io *io;
    struct replayed seen;
    struct reading r = {0};
    pthread_t thread;
    ch_wal_position position;
    assert_ok(ch_io_uring_open(&io));
    assert_ok(ch_wal_create(io, wal_dir, &small));
    assert_ok(open_from(io, wal_dir, 0, &seen, &r.wal));
    assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, &r), 0);
    for (int i = 0; i < 2000; i++) {
        assert_ok(append_next(r.wal, &position));
        if (i % 10 == 0) {
            assert_ok(ch_wal_settle(r.wal));
            r.lsn = 0;
            r.position = position;
            r.lsn = ch_wal_appended_lsn(r.wal);
            if (i % 40 == 0) /* the record that the reader is at, and those before it, go */
                assert_ok(ch_wal_cut_below(r.wal, position));
        }
    }
    r.stop = true;
    pthread_join(thread, NULL);
    assert_int_equal(r.wrong, 0);
    ch_wal_close(r.wal);
    ch_io_close(io);
    scratch_remove(dir);
}

int main(void)
{
    mallopt(M_MMAP_THRESHOLD, 1 << 30); /* thousands of logs are opened: keep their memory instead of mapping it anew */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settled_records_come_back_in_order),
        cmocka_unit_test(create_on_a_log_exists_and_open_of_nothing_is_not_found),
        cmocka_unit_test(second_owner_is_busy),
        cmocka_unit_test(reader_gives_bodies_by_position),
        cmocka_unit_test(cut_segments_are_used_again),
        cmocka_unit_test(replay_begins_at_the_segment_asked_for),
        cmocka_unit_test(lost_segment_that_is_needed_is_damage_and_nothing_is_removed),
        cmocka_unit_test(power_loss_keeps_every_promised_record),
        cmocka_unit_test(any_call_that_fails_loses_nothing_promised),
        cmocka_unit_test(full_disk_refuses_and_goes_on_when_there_is_room),
        cmocka_unit_test(flipped_bit_in_a_promised_frame_is_damage),
        cmocka_unit_test(damaged_tail_without_promise_is_cut_off),
        cmocka_unit_test(lost_first_frame_of_a_later_segment_is_damage),
        cmocka_unit_test(frame_of_an_abandoned_tail_never_fits_again),
        cmocka_unit_test(killed_process_loses_nothing_promised),
        cmocka_unit_test(reader_on_another_thread_never_sees_a_segment_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
