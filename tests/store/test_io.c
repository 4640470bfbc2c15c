#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/io_sim.h"
#include "store/object.h"
#include "store/wal.h"
#include "tests/store/scratch.h"
#include "tests/store/state_life.h"
#include "tests/test.h"

#define BLOCK  CH_IO_BLOCK_BYTES
#define BLOCKS 32

static void finish_all(struct ch_io *io, unsigned count)
{
    struct ch_io_done done[8];
    uint64_t seen = 0;
    while (count) {
        assert_ok(ch_io_wait(io));
        size_t got = ch_io_poll(io, done, 8);
        for (size_t i = 0; i < got; i++) {
            assert_ok(done[i].err);
            assert_false(seen >> done[i].cookie & 1);
            seen |= 1ull << done[i].cookie;
        }
        count -= (unsigned)got;
    }
    assert_int_equal(ch_io_poll(io, done, 8), 0);
}

/* Both disks keep what the header promises. */
static void check_queue(struct ch_io *io, const char *dir)
{
    char path[CH_IO_PATH_BYTES_MAX], other[CH_IO_PATH_BYTES_MAX];
    struct ch_file *file, *again;
    uint8_t *memory = NULL, *plain = NULL;
    uint64_t size;
    size_t got;
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    assert_ok(ch_io_make_dir(io, dir));
    assert_ok(ch_io_make_dir(io, dir));
    snprintf(path, sizeof path, "%s/file", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    assert_int_equal(ch_io_open(io, path, CH_IO_WRITE, &file), CH_ERR_NOT_FOUND);
    assert_ok(ch_io_open(io, path, CH_IO_WRITE | CH_IO_CREATE | CH_IO_DIRECT, &file));
    assert_int_equal(ch_io_open(io, path, CH_IO_WRITE | CH_IO_CREATE, &again), CH_ERR_EXISTS);
    assert_ok(ch_io_allocate(io, file, BLOCKS * BLOCK));
    assert_ok(ch_io_size(io, file, &size));
    assert_int_equal(size, BLOCKS * BLOCK);
    assert_int_equal(posix_memalign((void **)&memory, BLOCK, BLOCKS * BLOCK), 0);
    assert_int_equal(posix_memalign((void **)&plain, BLOCK, BLOCKS * BLOCK), 0);
    ch_io_register(io, memory, BLOCKS * BLOCK / 2); /* half of the requests are from registered memory */
    test_random_bytes(&g, memory, BLOCKS * BLOCK);
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct ch_io_request write = {.kind = CH_IO_OP_WRITE,
                                      .then_sync = i % 3 == 0,
                                      .file = file,
                                      .data = memory + i * BLOCK,
                                      .length = BLOCK,
                                      .offset = i * BLOCK,
                                      .cookie = i};
        assert_ok(ch_io_submit(io, &write));
    }
    finish_all(io, BLOCKS);
    struct ch_io_request sync = {.kind = CH_IO_OP_SYNC, .file = file, .cookie = 1};
    assert_ok(ch_io_submit(io, &sync));
    struct ch_io_request read = {
        .kind = CH_IO_OP_READ, .file = file, .data = plain, .length = BLOCKS * BLOCK, .cookie = 2};
    assert_ok(ch_io_submit(io, &read));
    finish_all(io, 2);
    assert_memory_equal(plain, memory, BLOCKS * BLOCK);
    /* A sync, a write that waits for it, and a sync of that. */
    struct ch_io_request chain = {.kind = CH_IO_OP_WRITE,
                                  .after_sync_of = file,
                                  .then_sync = true,
                                  .file = file,
                                  .data = memory + BLOCK,
                                  .length = BLOCK,
                                  .cookie = 5};
    assert_ok(ch_io_submit(io, &chain));
    finish_all(io, 1);
    assert_ok(ch_io_read(io, file, plain, BLOCK, 0, &got));
    assert_memory_equal(plain, memory + BLOCK, BLOCK);
    chain.data = memory;
    assert_ok(ch_io_submit(io, &chain));
    finish_all(io, 1);

    read.offset = (BLOCKS - 1) * BLOCK; /* beyond the end */
    assert_ok(ch_io_submit(io, &read));
    assert_ok(ch_io_wait(io));
    struct ch_io_done done;
    while (ch_io_poll(io, &done, 1) == 0)
        ;
    assert_int_equal(done.err, CH_ERR_IO);

    sync.cookie = 3; /* never more than the depth in flight */
    for (unsigned i = 0; i < CH_IO_DEPTH_MAX; i++)
        assert_ok(ch_io_submit(io, &sync));
    assert_int_equal(ch_io_submit(io, &sync), CH_ERR_FULL);
    for (unsigned i = 0; i < CH_IO_DEPTH_MAX;) {
        assert_ok(ch_io_wait(io));
        i += (unsigned)ch_io_poll(io, &done, 1);
    }

    assert_ok(ch_io_lock(io, file));
    assert_ok(ch_io_open(io, path, CH_IO_WRITE, &again));
    assert_int_equal(ch_io_lock(io, again), CH_ERR_BUSY);
    ch_io_close_file(io, again);
    assert_ok(ch_io_rename(io, path, other));
    assert_ok(ch_io_sync_dir(io, dir));
    assert_int_equal(ch_io_open(io, path, CH_IO_READ, &again), CH_ERR_NOT_FOUND);
    assert_ok(ch_io_open(io, other, CH_IO_READ, &again));
    assert_ok(ch_io_read(io, again, plain, 100, BLOCKS * BLOCK - 60, &got));
    assert_int_equal(got, 60);
    assert_memory_equal(plain, memory + BLOCKS * BLOCK - 60, 60);
    ch_io_close_file(io, again);
    assert_ok(ch_io_truncate(io, file, BLOCK));
    assert_ok(ch_io_size(io, file, &size));
    assert_int_equal(size, BLOCK);
    ch_io_close_file(io, file);
    assert_ok(ch_io_unlink(io, other));
    assert_int_equal(ch_io_unlink(io, other), CH_ERR_NOT_FOUND);
    ch_io_register(io, NULL, 0);
    free(memory);
    free(plain);
}

static void io_uring_keeps_the_contract(void **state)
{
    char dir[SCRATCH_BYTES];
    struct ch_io *io;
    scratch_make(dir);
    assert_ok(ch_io_uring_open(&io));
    check_queue(io, dir);
    ch_io_close(io);
    scratch_remove(dir);
}

static void simulated_disk_keeps_the_contract(void **state)
{
    struct ch_sim_disk *disk;
    struct ch_io *io;
    assert_ok(ch_sim_disk_open(test_seed(), &disk));
    assert_ok(ch_sim_io_open(disk, &io));
    check_queue(io, "dir");
    ch_io_close(io);
    ch_sim_disk_close(disk);
}

/* What waits for a sync that fails is never written, and before the sync has ended nothing of it can survive. */
static void write_after_a_sync_waits_for_it(void **state)
{
    struct ch_sim_disk *disk, *lost;
    struct ch_io *io;
    struct ch_file *file, *data;
    struct ch_io_done done;
    uint8_t block[BLOCK], got[BLOCK];
    size_t length;
    for (uint64_t i = 0; i < 50; i++) {
        assert_ok(ch_sim_disk_open(test_seed() + i, &disk));
        assert_ok(ch_sim_io_open(disk, &io));
        assert_ok(ch_io_open(io, "dir/mark", CH_IO_WRITE | CH_IO_CREATE, &file));
        assert_ok(ch_io_open(io, "dir/data", CH_IO_WRITE | CH_IO_CREATE, &data));
        assert_ok(ch_io_allocate(io, file, BLOCK));
        assert_ok(ch_io_sync(io, file));
        assert_ok(ch_io_sync_dir(io, "dir"));
        memset(block, 7, sizeof block);
        assert_ok(ch_io_write(io, data, block, BLOCK, 0));
        ch_sim_disk_fail_at(disk, i % 2 ? ch_sim_disk_calls(disk) + 1 : 0, CH_ERR_IO);
        assert_ok(ch_io_submit(io, &(struct ch_io_request){.kind = CH_IO_OP_WRITE, .after_sync_of = data,
                                                           .then_sync = true, .file = file, .data = block,
                                                           .length = BLOCK}));
        assert_ok(ch_sim_disk_after_power_loss(disk, i, &lost));
        const uint8_t *mark = ch_sim_disk_bytes(lost, "dir/mark", &length);
        for (size_t k = 0; k < length; k++)
            assert_int_equal(mark[k], 0);
        ch_sim_disk_close(lost);
        assert_ok(ch_io_wait(io));
        while (ch_io_poll(io, &done, 1) == 0)
            assert_ok(ch_io_wait(io));
        assert_int_equal(done.err, i % 2 ? CH_ERR_IO : CH_OK);
        ch_sim_disk_fail_at(disk, 0, CH_ERR_IO);
        assert_ok(ch_io_read(io, file, got, BLOCK, 0, &length));
        assert_int_equal(got[5], i % 2 ? 0 : 7);
        ch_io_close_file(io, file);
        ch_io_close_file(io, data);
        ch_io_close(io);
        ch_sim_disk_close(disk);
    }
}

static void descriptor_wakes_when_something_ended(void **state)
{
    char dir[SCRATCH_BYTES], path[SCRATCH_BYTES + 8];
    struct ch_io *io;
    struct ch_file *file;
    struct ch_io_done done;
    scratch_make(dir);
    snprintf(path, sizeof path, "%s/file", dir);
    assert_ok(ch_io_uring_open(&io));
    assert_ok(ch_io_open(io, path, CH_IO_WRITE | CH_IO_CREATE, &file));
    struct pollfd fd = {.fd = ch_io_fd(io), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 0), 0);
    assert_ok(ch_io_submit(io, &(struct ch_io_request){.kind = CH_IO_OP_SYNC, .file = file, .cookie = 9}));
    assert_int_equal(poll(&fd, 1, -1), 1);
    assert_int_equal(ch_io_poll(io, &done, 1), 1);
    assert_int_equal(done.cookie, 9);
    assert_int_equal(poll(&fd, 1, 0), 0);
    ch_io_close_file(io, file);
    ch_io_close(io);
    scratch_remove(dir);
}

/* --- a file system that fills up, without O_DIRECT: a small tmpfs of the test's own --- */

#define FULL_BYTES (32u << 20)

static void append_until(struct ch_wal *wal, ch_err end, uint64_t *lsn)
{
    static uint8_t body[100000];
    struct ch_bytes part = {body, sizeof body};
    ch_wal_position position;
    ch_err err;
    while ((err = ch_wal_append(wal, 1, &part, 1, lsn, &position)) == CH_OK || err == CH_ERR_FULL)
        assert_ok(ch_wal_poll(wal));
    assert_int_equal(err, end);
    assert_ok(ch_wal_settle(wal));
    assert_int_equal(ch_wal_durable_lsn(wal), ch_wal_appended_lsn(wal));
}

static ch_err last_lsn(void *context, const struct ch_wal_record *record)
{
    *(uint64_t *)context = record->lsn;
    return CH_OK;
}

static void fill_with_log(const char *dir)
{
    struct ch_io *io;
    struct ch_wal *wal;
    uint64_t lsn, replayed = 0;
    struct ch_wal_options options = {
        .segment_bytes = CH_WAL_SEGMENT_BYTES_SMALL, .replay = last_lsn, .context = &replayed};
    char path[CH_IO_PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/wal", dir);
    assert_ok(ch_io_uring_open(&io));
    assert_ok(ch_wal_create(io, path, &options));
    assert_ok(ch_wal_open(io, path, &options, &wal));
    append_until(wal, CH_ERR_NO_SPACE, &lsn);
    assert_ok(ch_wal_cut_below(wal, ch_wal_durable_end(wal)));
    append_until(wal, CH_ERR_NO_SPACE, &lsn);
    ch_wal_close(wal);
    assert_ok(ch_wal_open(io, path, &options, &wal));
    assert_int_equal(replayed, lsn);
    ch_wal_close(wal);
    ch_io_close(io);
}

static ch_err store_blocks(struct ch_object_store *store, struct ch_io *io, uint32_t from, uint32_t to)
{
    static uint8_t block[100000];
    uint64_t cookies[8];
    size_t count;
    ch_err err = CH_OK;
    for (uint32_t i = from; i < to && err == CH_OK; i++) {
        struct ch_cid cid;
        ch_store32(block, i);
        ch_cid_of(CH_CID_RAW, block, sizeof block, &cid);
        while ((err = ch_object_put(store, &cid, block, sizeof block, i)) == CH_ERR_FULL)
            assert_ok(ch_object_poll(store, cookies, 8, &count));
    }
    assert_ok(ch_object_flush(store));
    while (ch_object_busy(store)) {
        assert_ok(ch_io_wait(io));
        assert_ok(ch_object_poll(store, cookies, 8, &count));
    }
    return err;
}

static void fill_with_objects(const char *dir)
{
    static const uint8_t key[CH_OBJECT_KEY_BYTES];
    struct ch_object_options options = {.master_key = key, .segment_bytes = 4 << 20, .batch_bytes = 256 << 10};
    struct ch_io *io;
    struct ch_object_store *store;
    struct ch_object_stats stats;
    static uint8_t block[100000];
    char path[CH_IO_PATH_BYTES_MAX];
    uint64_t moved, cookies[8];
    size_t count;
    snprintf(path, sizeof path, "%s/obj", dir);
    assert_ok(ch_io_uring_open(&io));
    assert_ok(ch_object_open(io, path, &options, &store));
    assert_int_equal(store_blocks(store, io, 0, 1000), CH_ERR_NO_SPACE);
    ch_object_stats(store, &stats);
    uint32_t stored = (uint32_t)stats.blocks;
    assert_true(stored > 100 && stored < 400);
    ch_object_close(store);
    assert_ok(ch_object_open(io, path, &options, &store)); /* reading goes on while it is full */
    ch_object_stats(store, &stats);
    assert_int_equal(stats.blocks, stored);

    ch_err err = CH_OK;
    for (uint32_t i = 0; i < stored - 20 && err == CH_OK; i++) { /* emptied: the small drops fit where no block does */
        struct ch_cid cid;
        ch_store32(block, i);
        ch_cid_of(CH_CID_RAW, block, sizeof block, &cid);
        while ((err = ch_object_drop(store, &cid, i)) == CH_ERR_FULL)
            assert_ok(ch_object_poll(store, cookies, 8, &count));
    }
    /* At the very end of the space a drop may be refused too; that is what the low-water mark is for. */
    assert_true(err == CH_OK || err == CH_ERR_NO_SPACE);
    assert_ok(store_blocks(store, io, 0, 0));
    if (err == CH_OK) {
        while ((err = ch_object_compact(store, 1 << 20, &moved)) == CH_OK)
            assert_ok(store_blocks(store, io, 0, 0));
        assert_true(err == CH_ERR_NOT_FOUND || err == CH_ERR_NO_SPACE);
        assert_ok(store_blocks(store, io, 2000, 2020));
    }
    ch_object_close(store);
    ch_io_close(io);
}

static bool tell(const char *path, const char *line)
{
    FILE *file = fopen(path, "w");
    return file && fputs(line, file) >= 0 && fclose(file) == 0;
}

/* This process may mount, for itself alone; without root as the root of a user namespace. */
static bool own_mounts(void)
{
    char users[32], groups[32];
    snprintf(users, sizeof users, "0 %u 1", geteuid());
    snprintf(groups, sizeof groups, "0 %u 1", getegid());
    if (geteuid() == 0)
        return unshare(CLONE_NEWNS) == 0;
    return unshare(CLONE_NEWNS | CLONE_NEWUSER) == 0 && tell("/proc/self/uid_map", users) &&
           tell("/proc/self/setgroups", "deny") && tell("/proc/self/gid_map", groups);
}

/* LMDB tells of a full disk as of a failed one; what was committed is whole, and goes on when there is room. */
static void fill_with_state(const char *dir)
{
    char folder[SCRATCH_BYTES + 16], ballast[SCRATCH_BYTES + 16];
    struct ch_io *io;
    struct ch_state *state;
    struct ch_state_reader *reader;
    uint8_t head[8];
    snprintf(folder, sizeof folder, "%s/lmdb", dir);
    snprintf(ballast, sizeof ballast, "%s/ballast", dir);
    assert_int_equal(mkdir(folder, 0700), 0);
    FILE *file = fopen(ballast, "wb");
    assert_non_null(file);
    for (unsigned i = 0; i < FULL_BYTES * 3 / 4; i += BLOCK)
        assert_int_equal(fwrite((uint8_t[BLOCK]){0}, 1, BLOCK, file), BLOCK);
    assert_int_equal(fclose(file), 0);
    assert_ok(ch_io_uring_open(&io));
    const struct ch_state_options options = {
        .folder = folder, .io = io, .batch_records = 64, .accounts_cached = 1, .relations_cached = 1, .seed = 4};
    uint64_t applied = 0;
    for (int round = 0; round < 2; round++) {
        assert_ok(ch_state_open(&options, &state));
        assert_int_equal(ch_state_meta(state)->applied_index, applied);
        uint64_t log_size = ch_state_meta(state)->log_size, end = round ? applied + 20 : 100000;
        ch_err err = CH_OK;
        while (err == CH_OK && applied < end) {
            ch_store64(head, (applied + 1) * 7);
            err = ch_state_begin(state);
            if (err == CH_OK)
                err = apply_commit(state, applied + 1, 2000, &log_size);
            if (err == CH_OK)
                err = ch_state_commit(state, applied + 1, (applied + 1) * 100, head, sizeof head);
            applied += err == CH_OK;
        }
        if (round == 0) {
            assert_true(err == CH_ERR_IO || err == CH_ERR_NO_SPACE);
            assert_int_equal(unlink(ballast), 0);
        } else {
            assert_ok(err);
            assert_ok(ch_state_reader_open(state, &reader));
            check_whole(reader, 17);
            ch_state_reader_close(reader);
        }
        ch_state_close(state);
    }
    ch_io_close(io);
}

static void full_file_system_refuses_and_recovers(void **state)
{
    char dir[SCRATCH_BYTES];
    int status;
    scratch_make(dir);
    pid_t child = fork();
    if (child == 0) {
        char size[32];
        snprintf(size, sizeof size, "size=%u", FULL_BYTES);
        if (!own_mounts() || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", dir, "tmpfs", 0, size) != 0)
            _exit(77);
        fill_with_log(dir);
        assert_int_equal(umount(dir), 0);
        assert_int_equal(mount("none", dir, "tmpfs", 0, size), 0);
        fill_with_objects(dir);
        assert_int_equal(umount(dir), 0);
        assert_int_equal(mount("none", dir, "tmpfs", 0, size), 0);
        fill_with_state(dir);
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    scratch_remove(dir);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void copy_past_the_cache_moves_every_byte_and_no_other(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    uint8_t *to = ch_io_memory((2u << 20) + 5000), from[1024];
    assert_non_null(to);
    assert_int_equal((uintptr_t)to % CH_IO_BLOCK_BYTES, 0);
    for (size_t i = 0; i < (2u << 20) + 5000; i++)
        assert_int_equal(to[i], 0);
    for (int round = 0; round < 2000; round++) {
        size_t at = ch_prng_below(&g, 256), start = ch_prng_below(&g, 64), length = ch_prng_below(&g, 900);
        for (size_t i = 0; i < sizeof from; i++)
            from[i] = (uint8_t)ch_prng_next(&g);
        memset(to, 0xa5, 2048);
        ch_io_copy(to + at, from + start, length);
        assert_memory_equal(to + at, from + start, length);
        for (size_t i = 0; i < 2048; i++)
            assert_true((i >= at && i < at + length) || to[i] == 0xa5);
    }
    ch_io_memory_free(to, (2u << 20) + 5000);
}

/* A file that is not seen counts as one that isn't there: the log then removes what is older. */
static int stat_errno;

int __real_fstatat64(int dir, const char *name, struct stat *st, int flags);
int __wrap_fstatat64(int dir, const char *name, struct stat *st, int flags);
int __wrap_fstatat64(int dir, const char *name, struct stat *st, int flags)
{
    if (stat_errno && strcmp(name, "b") == 0) {
        errno = stat_errno;
        return -1;
    }
    return __real_fstatat64(dir, name, st, flags);
}

static void count_name(void *context, const char *name)
{
    ++*(unsigned *)context;
}

static void file_that_cannot_be_looked_at_is_not_passed_over(void **state)
{
    char dir[SCRATCH_BYTES], path[SCRATCH_BYTES + 2];
    struct ch_io *io;
    unsigned count = 0;
    scratch_make(dir);
    assert_ok(ch_io_uring_open(&io));
    for (const char *name = "abc"; *name; name++) {
        struct ch_file *file;
        snprintf(path, sizeof path, "%s/%c", dir, *name);
        assert_ok(ch_io_open(io, path, CH_IO_WRITE | CH_IO_CREATE, &file));
        ch_io_close_file(io, file);
    }
    assert_ok(ch_io_list(io, dir, count_name, &count));
    assert_int_equal(count, 3);
    stat_errno = EIO;
    assert_int_equal(ch_io_list(io, dir, count_name, &count), CH_ERR_IO);
    stat_errno = ENOENT; /* removed meanwhile */
    count = 0;
    assert_ok(ch_io_list(io, dir, count_name, &count));
    assert_int_equal(count, 2);
    stat_errno = 0;
    ch_io_close(io);
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_that_cannot_be_looked_at_is_not_passed_over),
        cmocka_unit_test(io_uring_keeps_the_contract),
        cmocka_unit_test(simulated_disk_keeps_the_contract),
        cmocka_unit_test(write_after_a_sync_waits_for_it),
        cmocka_unit_test(descriptor_wakes_when_something_ended),
        cmocka_unit_test(full_file_system_refuses_and_recovers),
        cmocka_unit_test(copy_past_the_cache_moves_every_byte_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
