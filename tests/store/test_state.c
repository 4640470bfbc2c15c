#include "store/state.h"
#include "tests/store/state_life.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct life {
    struct ch_state *state;
    struct ch_state_reader *reader;
    char folder[64];
    struct ch_io *io;
    struct ch_state_options options;
};

/* All is run twice: the state made durable by io_uring, and by LMDB itself. */
static bool nometasync;

static ch_err state_open(struct life *l)
{
    ch_err err = ch_io_uring_open(&l->io);
    l->options.io = l->io;
    l->options.nometasync = nometasync;
    l->state = NULL;
    return err == CH_OK ? ch_state_open(&l->options, &l->state) : err;
}

static void state_close(struct life *l)
{
    ch_state_close(l->state);
    ch_io_close(l->io);
    l->state = NULL;
    l->io = NULL;
}

static void life_open(struct life *l, const char *folder, uint32_t batch_records)
{
    if (!folder) {
        strcpy(l->folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/chappe-state-XXXXXX" : "/tmp/chappe-state-XXXXXX");
        assert_non_null(mkdtemp(l->folder));
    }
    l->options = (struct ch_state_options){
        .folder = l->folder, .batch_records = batch_records, .accounts_cached = 1, .relations_cached = 1, .seed = 4};
    assert_ok(state_open(l));
    assert_ok(ch_state_reader_open(l->state, &l->reader));
}

static void life_close(struct life *l)
{
    ch_state_reader_close(l->reader);
    l->reader = NULL;
    state_close(l);
}

static void life_remove(struct life *l)
{
    life_close(l);
    assert_ok(ch_io_uring_open(&l->io));
    assert_ok(ch_state_discard(l->io, l->folder));
    ch_io_close(l->io);
    l->io = NULL;
    assert_int_equal(rmdir(l->folder), 0);
}

static void life_restart(struct life *l)
{
    life_close(l);
    life_open(l, l->folder, l->options.batch_records);
}

static ch_err life_commit(struct life *l, uint64_t index, uint64_t records_max)
{
    uint64_t log_size = ch_state_meta(l->state)->log_size;
    ch_err err = ch_state_begin(l->state);
    if (err == CH_OK)
        err = apply_commit(l->state, index, records_max, &log_size);
    uint8_t head[8];
    ch_store64(head, index * 7);
    return err == CH_OK ? ch_state_commit(l->state, index, index * 100, head, sizeof head) : err;
}

static void records_are_found_through_merges_and_restarts(void **state)
{
    struct life l;
    life_open(&l, NULL, 0);
    uint64_t commits = test_full() ? 150 : 20, merges = 0;
    for (uint64_t i = 1; i <= commits; i++) {
        /* Large batches flush in the midst; some are as small as one record. */
        assert_ok(life_commit(&l, i, i % 3 == 0 ? 40000 : i % 3 == 1 ? 20 : 4000));
        if (i % 10 == 0) {
            check_whole(l.reader, 997);
            merges += ch_state_counters(l.state).merges;
            life_restart(&l);
            check_whole(l.reader, 997);
        }
    }
    for (uint64_t i = commits + 1; i <= commits + 40; i++) /* quiet times: merges end */
        assert_ok(life_commit(&l, i, 1));
    assert_true(merges + ch_state_counters(l.state).merges > 0);
    assert_true(ch_state_counters(l.state).runs <= 2 * (8 * 3 + 12));
    check_whole(l.reader, 101);
    life_remove(&l);
}

static void small_caches_and_batches_lose_nothing(void **state)
{
    struct life l;
    life_open(&l, NULL, 16); /* 64 accounts cached of 300, a flush every 16 records */
    for (uint64_t i = 1; i <= 60; i++)
        assert_ok(life_commit(&l, i, 100));
    check_whole(l.reader, 1);
    struct ch_state_counters c = ch_state_counters(l.state);
    assert_true(c.accounts_missed > 500);
    assert_int_equal(c.batches, 60);
    assert_int_equal(c.records, ch_state_meta(l.state)->log_size);
    life_remove(&l);
}

/* What a batch changed must not leave the cache before the batch's records are where a look-up finds them. */
static void cache_keeps_what_only_it_knows(void **state)
{
    struct life l;
    uint8_t key[32], id[32], head[32] = {9};
    uint64_t serial;
    const struct ch_account *row;
    life_open(&l, NULL, 16);
    assert_ok(ch_state_begin(l.state));
    assert_ok(make_accounts(l.state));
    for (uint64_t i = 0; i < 5; i++) {
        const struct ch_log_entry entry = {.inbox_sequence = i + 1, .inbox_head = {9}};
        key_of(7, key);
        assert_ok(ch_state_account(l.state, key, &serial, &row));
        assert_int_equal(row->inbox_sequence, i);
        id_of(i, id);
        assert_ok(ch_state_message(l.state, 7, i + 1, head, i));
        assert_ok(ch_state_log_append(l.state, i, id, &entry));
        for (unsigned other = 0; other < 2 * ACCOUNTS; other++) { /* far more than the cache holds */
            key_of((other + i * 31) % ACCOUNTS, key);
            assert_ok(ch_state_account(l.state, key, &serial, &row));
            assert_int_equal(row->inbox_sequence, serial == 7 ? i + 1 : 0);
        }
    }
    life_remove(&l);
}

static void reader_sees_whole_batches(void **state)
{
    struct life l;
    struct ch_state_meta meta;
    uint8_t key[32];
    uint64_t serial, log_size = 0;
    struct ch_account row;
    struct ch_prng g;
    ch_prng_seed(&g, 1);
    key_of(3, key);
    life_open(&l, NULL, 16);
    assert_ok(ch_state_read_meta(l.reader, &meta));
    assert_int_equal(meta.applied_index | meta.log_size | meta.accounts | meta.head_length, 0);
    assert_ok(ch_state_begin(l.state));
    assert_ok(make_accounts(l.state));
    assert_ok(apply_records(l.state, &g, 200, &log_size)); /* flushed many times */
    assert_int_equal(ch_state_read_account_by_key(l.reader, key, &serial, &row), CH_ERR_NOT_FOUND);
    assert_int_equal(ch_state_read_serial(l.reader, key, &serial), CH_ERR_NOT_FOUND);
    assert_ok(ch_state_read_meta(l.reader, &meta));
    assert_int_equal(meta.applied_index, 0);
    assert_ok(ch_state_commit(l.state, 1, 100, "\7\0\0\0\0\0\0", 8));
    assert_ok(ch_state_read_serial(l.reader, key, &serial));
    assert_int_equal(serial, 3);
    assert_ok(ch_state_read_account_by_handle(l.reader, (const uint8_t *)"account.3", 9, &serial, &row));
    assert_memory_equal(row.key, key, 32);
    assert_int_equal(ch_state_read_account_by_handle(l.reader, (const uint8_t *)"account", 7, &serial, &row),
                     CH_ERR_NOT_FOUND);
    assert_int_equal(ch_state_read_account_by_handle(l.reader, (const uint8_t *)"", 0, &serial, &row),
                     CH_ERR_NOT_FOUND);
    assert_int_equal(ch_state_read_account(l.reader, ACCOUNTS, &row), CH_ERR_NOT_FOUND);
    check_whole(l.reader, 1);
    /* A batch that is never committed leaves nothing. */
    assert_ok(ch_state_begin(l.state));
    assert_ok(apply_records(l.state, &g, 50, &log_size));
    life_restart(&l);
    assert_int_equal(ch_state_meta(l.state)->log_size, 200);
    check_whole(l.reader, 1);
    life_remove(&l);
}

static void inbox_pages_begin_anywhere(void **state)
{
    struct life l;
    uint64_t indices[8], last;
    size_t count;
    life_open(&l, NULL, 16);
    for (uint64_t i = 1; i <= 20; i++)
        assert_ok(life_commit(&l, i, 100));
    struct ch_account row;
    assert_ok(ch_state_read_account(l.reader, 0, &row));
    assert_true(row.inbox_sequence > 8);
    assert_ok(ch_state_read_inbox(l.reader, 0, 0, 3, indices, &count, &last)); /* 0 reads as 1 */
    assert_int_equal(count, 3);
    uint64_t second = indices[1];
    assert_ok(ch_state_read_inbox(l.reader, 0, 2, 1, indices, &count, &last));
    assert_int_equal(count, 1);
    assert_int_equal(indices[0], second);
    assert_ok(ch_state_read_inbox(l.reader, 0, row.inbox_sequence, 8, indices, &count, &last));
    assert_int_equal(count, 1);
    assert_ok(ch_state_read_inbox(l.reader, 0, row.inbox_sequence + 1, 8, indices, &count, &last));
    assert_int_equal(count, 0);
    assert_int_equal(last, row.inbox_sequence);
    assert_ok(ch_state_read_inbox(l.reader, 0, UINT64_MAX, 8, indices, &count, &last));
    assert_int_equal(count, 0);
    assert_ok(ch_state_read_inbox(l.reader, 0, 1, 0, indices, &count, &last));
    assert_int_equal(count, 0);
    assert_ok(ch_state_read_inbox(l.reader, ACCOUNTS + 5, 1, 8, indices, &count, &last));
    assert_int_equal(count | last, 0);
    life_remove(&l);
}

static void relations_are_found_by_pair_and_by_account(void **state)
{
    struct life l;
    struct ch_prng g;
    struct ch_relation rows[8];
    struct ch_relation there;
    uint64_t serial, serials[8], expected[ACCOUNTS] = {0}, made = 0;
    life_open(&l, NULL, 16);
    ch_prng_seed(&g, test_seed());
    assert_ok(ch_state_begin(l.state));
    assert_ok(make_accounts(l.state));
    for (uint64_t i = 0; i < 40; i++)
        for (uint64_t j = i + 1; j < 40; j += 1 + ch_prng_below(&g, 6)) {
            uint8_t a[32], b[32];
            key_of(i, a);
            key_of(j, b);
            bool swap = memcmp(a, b, 32) > 0;
            struct ch_relation row = {.since_ms = made, .state = CH_RELATION_BOUND};
            memcpy(row.smaller, swap ? b : a, 32);
            memcpy(row.larger, swap ? a : b, 32);
            assert_int_equal(ch_state_relation(l.state, j, i, &serial, &there), CH_ERR_NOT_FOUND);
            assert_ok(ch_state_relation_put(l.state, made, swap ? j : i, swap ? i : j, &row));
            assert_ok(ch_state_relation(l.state, j, i, &serial, &there));
            assert_int_equal(serial, made);
            made++;
            expected[i]++;
            expected[j]++;
        }
    assert_ok(ch_state_commit(l.state, 1, 100, "", 0));
    for (uint64_t i = 0; i < ACCOUNTS; i++) {
        uint64_t seen = 0, from = 0;
        bool more = true;
        while (more) {
            size_t count;
            assert_ok(ch_state_read_relations(l.reader, i, from, 8, serials, rows, &count, &more));
            for (size_t k = 0; k < count; k++) {
                uint8_t key[32];
                key_of(i, key);
                assert_true(serials[k] >= from);
                assert_int_equal(rows[k].since_ms, serials[k]);
                assert_true(memcmp(rows[k].smaller, key, 32) == 0 || memcmp(rows[k].larger, key, 32) == 0);
                from = serials[k] + 1;
                seen++;
            }
        }
        assert_int_equal(seen, expected[i]);
    }
    life_remove(&l);
}

/* The open requests of one account against a plain list, with expiry. */
static void open_requests_are_counted(void **state)
{
    enum { PEERS = 60 };
    struct life l;
    struct ch_prng g;
    bool open[PEERS] = {0};
    uint64_t since[PEERS] = {0}, now = 1000, relations = 0, serial_of[PEERS];
    const uint64_t expiry = 300;
    life_open(&l, NULL, 16);
    ch_prng_seed(&g, test_seed());
    memset(serial_of, 0xff, sizeof serial_of);
    assert_ok(ch_state_begin(l.state));
    assert_ok(make_accounts(l.state));
    for (unsigned step = 0; step < 4000; step++) {
        unsigned p = (unsigned)ch_prng_below(&g, PEERS);
        uint64_t limit = 1 + ch_prng_below(&g, 12), count = 0;
        bool full;
        now += ch_prng_below(&g, 30);
        for (unsigned i = 0; i < PEERS; i++)
            count += open[i] && since[i] >= now - expiry + 1;
        assert_ok(ch_state_requests_full(l.state, 0, now - expiry + 1, limit, &full));
        assert_int_equal(full, count >= limit);
        uint8_t a[32], b[32];
        key_of(0, a);
        key_of(p + 1, b);
        bool swap = memcmp(a, b, 32) > 0;
        bool ask = ch_prng_below(&g, 3) != 0;
        struct ch_relation row = {.since_ms = now,
                                  .state = ask ? CH_RELATION_REQUESTED : CH_RELATION_NONE,
                                  .by = ch_prng_below(&g, 5) ? swap : !swap}; /* or the peer asks */
        memcpy(row.smaller, swap ? b : a, 32);
        memcpy(row.larger, swap ? a : b, 32);
        if (serial_of[p] == UINT64_MAX)
            serial_of[p] = relations++;
        assert_ok(ch_state_relation_put(l.state, serial_of[p], swap ? p + 1 : 0, swap ? 0 : p + 1, &row));
        open[p] = ask && row.by == swap;
        since[p] = now;
        if (step % 100 == 99) {
            assert_ok(ch_state_commit(l.state, 1 + step / 100, 0, "", 0));
            if (step % 1000 == 999)
                life_restart(&l);
            assert_ok(ch_state_begin(l.state));
        }
    }
    life_remove(&l);
}

struct watch {
    struct ch_state *state;
    atomic_bool stop;
    uint64_t looks, failures;
};

/* While the writer writes: everything the newest batch says must be there. */
static void *look(void *argument)
{
    struct watch *w = argument;
    struct ch_state_reader *reader;
    struct ch_prng g;
    uint64_t newest = 0;
    ch_prng_seed(&g, 77);
    if (ch_state_reader_open(w->state, &reader) != CH_OK) {
        w->failures++;
        return NULL;
    }
    while (!atomic_load(&w->stop) || w->looks < 50) {
        struct ch_state_meta meta;
        struct ch_account row;
        struct ch_log_entry entry;
        uint64_t to = ch_prng_below(&g, ACCOUNTS), index, last, found;
        uint8_t id[32];
        size_t count;
        w->failures += ch_state_read_meta(reader, &meta) != CH_OK || meta.applied_index < newest;
        newest = meta.applied_index;
        w->looks++;
        if (newest == 0 || meta.log_size == 0)
            continue;
        uint64_t some = ch_prng_below(&g, meta.log_size);
        id_of(some, id);
        w->failures += ch_state_read_log_index(reader, id, &found) != CH_OK || found != some;
        w->failures += ch_state_read_account(reader, to, &row) != CH_OK;
        if (row.inbox_sequence == 0)
            continue;
        w->failures += ch_state_read_inbox(reader, to, row.inbox_sequence, 1, &index, &count, &last) != CH_OK;
        w->failures += count != 1 || last < row.inbox_sequence;
        w->failures += ch_state_read_log_entry(reader, index, &entry) != CH_OK;
        w->failures += entry.position != to || entry.inbox_sequence != row.inbox_sequence ||
                       memcmp(entry.inbox_head, row.inbox_head, 32) != 0;
    }
    ch_state_reader_close(reader);
    return NULL;
}

static void readers_on_other_threads_find_what_was_committed(void **state)
{
    struct life l;
    struct watch watches[2] = {{0}};
    pthread_t threads[2];
    life_open(&l, NULL, 256);
    for (unsigned i = 0; i < 2; i++) {
        watches[i].state = l.state;
        assert_int_equal(pthread_create(&threads[i], NULL, look, &watches[i]), 0);
    }
    for (uint64_t i = 1; i <= 150; i++)
        assert_ok(life_commit(&l, i, i % 10 ? 300 : 10000));
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&watches[i].stop, true);
        pthread_join(threads[i], NULL);
        assert_int_equal(watches[i].failures, 0);
        assert_true(watches[i].looks >= 50);
    }
    check_whole(l.reader, 11);
    life_remove(&l);
}

/* A child lives on and tells of each commit; it is killed at some moment. What it told of is there, and the life goes
 * on from applied_index to the same end as one that was never killed. */
static void killed_process_leaves_whole_batches(void **state)
{
    struct ch_prng g;
    struct life l;
    life_open(&l, NULL, 64);
    life_close(&l);
    ch_prng_seed(&g, test_seed());
    uint64_t told = 0;
    for (unsigned round = 0; round < (test_full() ? 100 : 8); round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(ends[0]);
            if (state_open(&l) != CH_OK)
                _exit(2);
            for (uint64_t i = ch_state_meta(l.state)->applied_index + 1;; i++)
                if (life_commit(&l, i, 600) != CH_OK || write(ends[1], &i, sizeof i) != sizeof i)
                    _exit(3);
        }
        close(ends[1]);
        for (uint64_t wanted = ch_prng_below(&g, 20), seen = 0, index; seen <= wanted; seen++) {
            assert_int_equal(read(ends[0], &index, sizeof index), sizeof index);
            assert_true(index == told + 1 || seen == 0);
            assert_true(index > told);
            told = index;
        }
        usleep((useconds_t)ch_prng_below(&g, 3000)); /* anywhere in a commit */
        kill(child, SIGKILL);
        for (uint64_t index; read(ends[0], &index, sizeof index) == sizeof index;)
            told = index;
        close(ends[0]);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        life_open(&l, l.folder, 64);
        assert_true(ch_state_meta(l.state)->applied_index + !nometasync >= told);
        assert_true(ch_state_meta(l.state)->applied_index <= told + 1);
        told = ch_state_meta(l.state)->applied_index;
        check_whole(l.reader, 13);
        life_close(&l);
    }
    /* The same life without a kill. */
    struct life plain;
    life_open(&l, l.folder, 64);
    life_open(&plain, NULL, 1000);
    for (uint64_t i = 1; i <= told; i++)
        assert_ok(life_commit(&plain, i, 600));
    assert_int_equal(ch_state_meta(plain.state)->log_size, ch_state_meta(l.state)->log_size);
    for (uint64_t i = 0; i < ACCOUNTS; i++) {
        struct ch_account a, b;
        assert_ok(ch_state_read_account(plain.reader, i, &a));
        assert_ok(ch_state_read_account(l.reader, i, &b));
        assert_memory_equal(a.inbox_head, b.inbox_head, 32);
        assert_int_equal(a.inbox_sequence, b.inbox_sequence);
    }
    life_remove(&plain);
    life_remove(&l);
}

static void full_map_is_reported_and_loses_nothing(void **state)
{
    struct life l;
    life_open(&l, NULL, 64);
    life_close(&l);
    l.options.map_bytes = 6 << 20;
    assert_ok(state_open(&l));
    uint64_t i = 1;
    ch_err err;
    while ((err = life_commit(&l, i, 5000)) == CH_OK && i < 1000)
        i++;
    assert_int_equal(err, CH_ERR_NO_SPACE);
    assert_true(i > 2);
    state_close(&l);
    life_open(&l, l.folder, 64);
    assert_int_equal(ch_state_meta(l.state)->applied_index, i - 1);
    check_whole(l.reader, 7);
    assert_ok(life_commit(&l, i, 5000));
    check_whole(l.reader, 7);
    life_remove(&l);
}

/* A file that may not grow is to LMDB what a full disk is. */
static void full_disk_is_reported_and_loses_nothing(void **state)
{
    struct life l;
    life_open(&l, NULL, 64);
    life_close(&l);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        const struct rlimit limit = {4 << 20, 4 << 20};
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || state_open(&l) != CH_OK)
            _exit(2);
        ch_err err = CH_OK;
        for (uint64_t i = 1; i < 1000 && err == CH_OK; i++)
            err = life_commit(&l, i, 3000);
        state_close(&l);
        _exit(err == CH_ERR_IO || err == CH_ERR_NO_SPACE ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    life_open(&l, l.folder, 64);
    uint64_t applied = ch_state_meta(l.state)->applied_index;
    assert_true(applied > 2);
    check_whole(l.reader, 7);
    for (uint64_t i = applied + 1; i < applied + 10; i++)
        assert_ok(life_commit(&l, i, 3000));
    check_whole(l.reader, 7);
    life_remove(&l);
}

static void second_opening_is_refused(void **state)
{
    struct life l;
    struct ch_state *other;
    life_open(&l, NULL, 64);
    assert_int_equal(ch_state_open(&l.options, &other), CH_ERR_BUSY);
    life_restart(&l);
    life_remove(&l);
    l.options.folder = "/nonexistent/folder";
    assert_int_equal(ch_state_open(&l.options, &other), CH_ERR_NOT_FOUND);
}

static void damaged_file_is_refused(void **state)
{
    struct life l;
    char path[128];
    life_open(&l, NULL, 64);
    life_close(&l);
    snprintf(path, sizeof path, "%s/data.mdb", l.folder);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    for (unsigned i = 0; i < 8192; i++)
        fputc(0x5a, file);
    fclose(file);
    assert_int_equal(state_open(&l), CH_ERR_CORRUPT);
    life_remove(&l);
}

/* --- a bit flips --- */

#define FLIP_COMMITS 12
enum outcome { HARMLESS = 0, FOUND = 10, WRONG = 20 };

struct expected {
    struct ch_account account[ACCOUNTS];
    struct ch_log_entry entry[FLIP_COMMITS * 400];
    uint64_t log_size;
};

static void expect_all(struct life *l, struct expected *e)
{
    e->log_size = ch_state_meta(l->state)->log_size;
    assert_true(e->log_size <= sizeof e->entry / sizeof *e->entry);
    for (uint64_t i = 0; i < ACCOUNTS; i++)
        assert_ok(ch_state_read_account(l->reader, i, &e->account[i]));
    for (uint64_t i = 0; i < e->log_size; i++)
        assert_ok(ch_state_read_log_entry(l->reader, i, &e->entry[i]));
}

static bool same_account(const struct ch_account *a, const struct ch_account *b)
{
    uint8_t one[CH_ACCOUNT_ROW_BYTES], other[CH_ACCOUNT_ROW_BYTES];
    ch_account_write(a, one);
    ch_account_write(b, other);
    return memcmp(one, other, sizeof one) == 0;
}

static bool same_entry(const struct ch_log_entry *a, const struct ch_log_entry *b)
{
    uint8_t one[CH_LOG_ENTRY_BYTES], other[CH_LOG_ENTRY_BYTES];
    ch_log_entry_write(a, one);
    ch_log_entry_write(b, other);
    return memcmp(one, other, sizeof one) == 0;
}

/* What readers say where nothing was found: all as it was, CORRUPT, or something wrong. */
static enum outcome read_all(struct life *l, const struct expected *e)
{
    uint64_t indices[64], serial, found, last;
    size_t count;
    ch_err err = CH_OK;
    for (uint64_t i = 0; i < ACCOUNTS; i++) {
        struct ch_account row;
        uint8_t key[32];
        key_of(i, key);
        err = ch_state_read_account_by_key(l->reader, key, &serial, &row);
        if (err == CH_OK && (serial != i || !same_account(&row, &e->account[i])))
            return WRONG;
        for (uint64_t from = 1; err == CH_OK && from <= row.inbox_sequence; from += count) {
            err = ch_state_read_inbox(l->reader, i, from, 64, indices, &count, &last);
            if (err == CH_OK && (count == 0 || last != row.inbox_sequence))
                return WRONG;
            for (size_t k = 0; err == CH_OK && k < count; k++)
                if (indices[k] >= e->log_size || e->entry[indices[k]].inbox_sequence != from + k)
                    return WRONG;
        }
        if (err != CH_OK)
            return err == CH_ERR_CORRUPT ? FOUND : WRONG;
    }
    for (uint64_t i = 0; i < e->log_size; i++) {
        struct ch_log_entry entry;
        uint8_t id[32];
        id_of(i, id);
        err = ch_state_read_log_entry(l->reader, i, &entry);
        if (err == CH_OK && !same_entry(&entry, &e->entry[i]))
            return WRONG;
        if (err == CH_OK)
            err = ch_state_read_log_index(l->reader, id, &found);
        if (err == CH_OK && found != i)
            return WRONG;
        if (err != CH_OK)
            return err == CH_ERR_CORRUPT ? FOUND : WRONG;
    }
    return HARMLESS;
}

static enum outcome look_at_flipped(struct life *l, const struct expected *e)
{
    if (state_open(l) != CH_OK || ch_state_reader_open(l->state, &l->reader) != CH_OK)
        return FOUND;
    if (ch_state_meta(l->state)->applied_index < FLIP_COMMITS) /* the commit before it: the log has the rest */
        return FOUND;
    for (bool passed = false; !passed;)
        if (ch_state_check(l->reader, 500, &passed) != CH_OK)
            return FOUND;
    return read_all(l, e);
}

static size_t read_file(const char *folder, const char *name, uint8_t **bytes)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    size_t length = (size_t)ftell(file);
    *bytes = malloc(length);
    rewind(file);
    assert_int_equal(fread(*bytes, 1, length, file), length);
    fclose(file);
    return length;
}

static void write_file(const char *folder, const char *name, const uint8_t *bytes, size_t length)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void flipped_bit_is_found_or_changes_nothing(void **state)
{
    struct life l;
    struct ch_prng g;
    static struct expected expected;
    uint8_t *data = NULL, *mark = NULL;
    unsigned harmless = 0, found = 0, died = 0;
    ch_prng_seed(&g, test_seed());
    life_open(&l, NULL, 64);
    for (uint64_t i = 1; i <= FLIP_COMMITS; i++)
        assert_ok(life_commit(&l, i, 400));
    expect_all(&l, &expected);
    bool passed = false;
    while (!passed)
        assert_ok(ch_state_check(l.reader, 2 + ch_prng_below(&g, 300), &passed));
    assert_int_equal(read_all(&l, &expected), HARMLESS);
    life_close(&l);
    size_t length = read_file(l.folder, "data.mdb", &data), mark_length = read_file(l.folder, "mark", &mark);
    assert_true(length > 0 && (mark_length > 0) == !nometasync);
    for (unsigned k = 0; k < (test_full() ? 5000 : 60); k++) {
        size_t at = ch_prng_below(&g, k % 8 ? length : 2 * 4096);
        uint8_t bit = (uint8_t)(1u << ch_prng_below(&g, 8));
        data[at] ^= bit;
        write_file(l.folder, "data.mdb", data, length);
        data[at] ^= bit;
        if (mark_length)
            write_file(l.folder, "mark", mark, mark_length);
        fflush(stdout);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            fclose(stderr); /* LMDB's assertions, a sanitizer's word */
            _exit(look_at_flipped(&l, &expected));
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        int outcome = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        if (outcome == WRONG)
            fail_msg("bit %u of byte %zu was not found, and something else was read", bit, at);
        harmless += outcome == HARMLESS;
        found += outcome == FOUND;
        died += outcome != HARMLESS && outcome != FOUND;
    }
    print_message("%u flipped bits were found, %u ended the process, %u changed nothing\n", found, died, harmless);
    assert_true(found > (found + harmless) / 20); /* about four in ten: the rest hits what is free */
    free(data);
    free(mark);
    life_remove(&l);
}

/* A database whose name has changed is not made anew, empty: what it held would be called missing. */
static void database_without_its_name_is_damage(void **state)
{
    static const char *const names[] = {"accounts", "relations_of", "inbox.0", "ids.0", "log"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct life l;
        uint8_t *data = NULL;
        unsigned places = 0;
        life_open(&l, NULL, 64);
        for (uint64_t i = 1; i <= 3; i++)
            assert_ok(life_commit(&l, i, 40));
        life_close(&l);
        const size_t length = read_file(l.folder, "data.mdb", &data), name_length = strlen(names[k]);
        for (size_t at = 0; at + name_length <= length; at++)
            if (memcmp(data + at, names[k], name_length) == 0) { /* older copies of the page as well */
                data[at] ^= 0x80;
                places++;
            }
        assert_true(places > 0);
        write_file(l.folder, "data.mdb", data, length);
        assert_int_equal(state_open(&l), CH_ERR_CORRUPT);
        free(data);
        life_remove(&l);
    }
}

static void large_batches_ask_to_be_committed(void **state)
{
    struct life l;
    struct ch_prng g;
    uint64_t log_size = 0;
    ch_prng_seed(&g, 1);
    life_open(&l, NULL, 0);
    assert_ok(ch_state_begin(l.state));
    assert_ok(make_accounts(l.state));
    assert_false(ch_state_batch_full(l.state));
    assert_ok(apply_records(l.state, &g, 200000, &log_size));
    assert_true(ch_state_batch_full(l.state));
    assert_ok(ch_state_commit(l.state, 1, 100, "\7\0\0\0\0\0\0", 8));
    assert_ok(ch_state_begin(l.state));
    assert_false(ch_state_batch_full(l.state));
    life_remove(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_found_through_merges_and_restarts),
        cmocka_unit_test(small_caches_and_batches_lose_nothing),
        cmocka_unit_test(cache_keeps_what_only_it_knows),
        cmocka_unit_test(reader_sees_whole_batches),
        cmocka_unit_test(inbox_pages_begin_anywhere),
        cmocka_unit_test(relations_are_found_by_pair_and_by_account),
        cmocka_unit_test(open_requests_are_counted),
        cmocka_unit_test(readers_on_other_threads_find_what_was_committed),
        cmocka_unit_test(killed_process_leaves_whole_batches),
        cmocka_unit_test(full_map_is_reported_and_loses_nothing),
        cmocka_unit_test(full_disk_is_reported_and_loses_nothing),
        cmocka_unit_test(second_opening_is_refused),
        cmocka_unit_test(damaged_file_is_refused),
        cmocka_unit_test(flipped_bit_is_found_or_changes_nothing),
        cmocka_unit_test(database_without_its_name_is_damage),
        cmocka_unit_test(large_batches_ask_to_be_committed),
    };
    int failed = cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
    nometasync = true;
    return failed + cmocka_run_group_tests_name("nometasync", tests, NULL, NULL);
}
