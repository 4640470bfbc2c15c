/* Power loss for log, state and objects together, below the seam and below LMDB; and every call that fails. */
#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/store/power_world.h"
#include "tests/store/scratch.h"

#define STEPS_MAX  60 /* of a world before another one is begun */
#define DEPTH_MAX  2  /* losses in the midst of a recovery from a loss */
#define DIRTY_ROOM 48 /* pages: spills in most of the batches */

static char home[SCRATCH_BYTES];
static const char *self; /* this program */

/* --- folders: LMDB's file of a world lies in one --- */

static unsigned folders;

static void enter_folder(unsigned number)
{
    char path[SCRATCH_BYTES + 32];
    snprintf(path, sizeof path, "%s/%u", home, number);
    (void)mkdir(path, 0700);
    assert_int_equal(chdir(path), 0);
    (void)mkdir("lmdb", 0700);
}

static void leave_folder(unsigned number, unsigned to)
{
    char path[SCRATCH_BYTES + 32];
    (void)unlink("lmdb/data.mdb");
    (void)unlink("lmdb/lock.mdb");
    snprintf(path, sizeof path, "%s/%u", home, to);
    assert_int_equal(chdir(path), 0);
}

/* --- moments --- */

/* Which calls are counted: all, or those while a run of the index of objects is made, is merged from others, or takes
 * their place. */
enum during { ANYTHING, MAKING, MERGING, REPLACING, DURING };

static struct {
    const struct world *world;
    struct ch_prng *prng;
    uint64_t left; /* calls until the power fails; 0: not at all */
    enum during during;
    struct ch_sim_disk *image;
    struct promise promise;
} next;

static uint64_t losses_during[DURING];
/* What starts found; again: of runs that were begun at another start or soon after it. */
static uint64_t runs_torn, runs_torn_again, runs_left;

static enum during doing(const struct ch_object_store *objects)
{
    if (!objects || !objects->job.active)
        return ANYTHING;
    if (objects->job.made_count && !objects->job.writer.file)
        return REPLACING;
    return objects->job.merges ? MERGING : MAKING;
}

static void take_image(void)
{
    losses_during[doing(next.world->objects)]++;
    next.promise = next.world->promise;
    assert_ok((ch_prng_below(next.prng, 4) ? ch_sim_disk_after_power_loss : ch_sim_disk_after_kill)(
        next.world->disk, ch_prng_next(next.prng), &next.image));
}

static void count_down(void)
{
    bool counts = next.left && (next.during == ANYTHING || doing(next.world->objects) == next.during);
    if (counts && --next.left == 0)
        take_image();
}

/* The k-th such call from now on, whichever. */
static void choose_moment(void)
{
    static const uint64_t calls[] = {[ANYTHING] = 120, [MAKING] = 40, [MERGING] = 40, [REPLACING] = 4};
    const uint64_t one = ch_prng_below(next.prng, 12);
    next.during = one < DURING ? (enum during)one : ANYTHING;
    next.left = 1 + ch_prng_below(next.prng, calls[next.during]);
}

static uint64_t images, nested, controls, controls_bad;

/* Opens the image in a process of its own as plain MDB_NOSYNC would: the newest meta page counts. */
static void try_control(struct ch_sim_disk *image)
{
    size_t length;
    int status;
    const uint8_t *bytes = ch_sim_disk_bytes(image, "lmdb/data.mdb", &length);
    if (!bytes || length < 8192 || ch_load64(bytes + 144) + ch_load64(bytes + 4096 + 144) < 4)
        return; /* just begun */
    unsigned here = ++folders;
    enter_folder(here);
    int fd = open("lmdb/data.mdb", O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, length, 0), length);
    close(fd);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int none = open("/dev/null", O_WRONLY);
        dup2(none, 1);
        dup2(none, 2);
        execl(self, self, "--control", (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 99);
    controls++;
    controls_bad += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    leave_folder(here, 0);
}

static void control_check(void **state)
{
    struct world w = {0};
    assert_ok(world_open_state(&w));
    check_whole(w.reader, 7);
    uint64_t log_size = w.log_size, index = w.applied;
    for (int i = 1; i <= 6; i++) { /* and goes on with it */
        uint8_t head[16];
        ch_store64(head, (index + (uint64_t)i) * 7);
        assert_ok(ch_state_begin(w.state));
        assert_ok(apply_commit(w.state, index + (uint64_t)i, RECORDS_MAX, &log_size));
        assert_ok(ch_state_commit(w.state, index + (uint64_t)i, (index + (uint64_t)i) * 100, head, sizeof head));
    }
    check_whole(w.reader, 7);
    ch_state_reader_close(w.reader);
    ch_state_close(w.state);
}

/* Recovers from the image, which may be cut short by another loss; checks it, and goes on. */
static void check_image(struct ch_sim_disk *image, const struct promise *promise, struct ch_prng *g, int depth,
                        bool nometasync)
{
    struct world w;
    struct ch_object_stats stats;
    size_t torn, left;
    unsigned here = ++folders;
    char back[SCRATCH_BYTES + 32];
    assert_non_null(getcwd(back, sizeof back));
    enter_folder(here);
    world_begin(&w, image, ch_prng_next(g));
    w.nometasync = nometasync;
    next.world = &w;
    next.left = depth < DEPTH_MAX ? 1 + ch_prng_below(g, 120) : 0;
    next.during = ANYTHING;
    w.promise = *promise;
    struct promise kept = *promise;
    (void)world_runs(image, &torn, &left);
    *(depth ? &runs_torn_again : &runs_torn) += torn;
    runs_left += left;
    ch_err err = world_open(&w, false);
    if (err != CH_OK)
        print_message("recovery: %s\n", ch_err_text(err));
    assert_ok(err);
    ch_object_stats(w.objects, &stats);
    assert_int_equal(world_runs(image, &torn, &left), stats.runs);
    assert_int_equal(torn + left + stats.runs_remade, 0);
    world_check(&w, &kept);
    for (uint64_t i = ch_prng_below(g, 4); i > 0; i--)
        assert_ok(world_step(&w));
    next.left = 0;
    struct ch_sim_disk *again = next.image;
    struct promise again_promise = next.promise;
    next.image = NULL;
    world_end(&w);
    if (again) {
        nested++;
        check_image(again, &again_promise, g, depth + 1, nometasync);
        ch_sim_disk_close(again);
    }
    leave_folder(here, 0);
    assert_int_equal(chdir(back), 0);
}

static void lose_power(uint64_t wanted, bool nometasync, uint64_t controls_max)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + nometasync);
    images = nested = controls = controls_bad = lmdb_writes = lmdb_spills = 0;
    next.prng = &g;
    lmdb_moment = count_down;
    while (images < wanted) {
        struct ch_sim_disk *disk;
        struct world w;
        folders = 0;
        enter_folder(0);
        lmdb_dirty_room = ch_prng_below(&g, 4) ? DIRTY_ROOM : 0;
        assert_ok(ch_sim_disk_open(ch_prng_next(&g), &disk));
        world_begin(&w, disk, ch_prng_next(&g));
        w.nometasync = nometasync;
        next.left = 0;
        assert_ok(world_open(&w, true));
        for (int step = 0; step < STEPS_MAX && images < wanted; step++) {
            next.world = &w;
            if (next.left == 0)
                choose_moment();
            assert_ok(world_step(&w));
            if (next.during == ANYTHING) {
                if (next.left && ch_prng_below(&g, 2)) /* most calls are LMDB's, and come before its meta page's */
                    take_image();
                next.left = 0;
            }
            struct ch_sim_disk *image = next.image;
            next.image = NULL;
            if (!image)
                continue;
            images++;
            struct promise promise = next.promise;
            if (controls < controls_max)
                try_control(image);
            check_image(image, &promise, &g, 0, nometasync);
            ch_sim_disk_close(image);
            folders = 0;
        }
        next.left = 0;
        world_end(&w);
        ch_sim_disk_close(disk);
        leave_folder(0, 0);
    }
    lmdb_moment = NULL;
    lmdb_dirty_room = 0;
    print_message("%llu losses, %llu more in recovery or after; %llu writes of LMDB, %llu of them spilled\n",
                  (unsigned long long)images, (unsigned long long)nested, (unsigned long long)lmdb_writes,
                  (unsigned long long)lmdb_spills);
    assert_true(lmdb_spills > 0 && nested > 0);
}

static void power_loss_keeps_all_that_was_promised(void **state)
{
    lose_power(test_full() ? 10000 : 150, false, test_full() ? 1000 : 60);
    print_message("the same images with LMDB's newest meta page (plain MDB_NOSYNC): %llu of %llu bad\n",
                  (unsigned long long)controls_bad, (unsigned long long)controls);
    assert_true(controls_bad > 0);
}

static void power_loss_keeps_all_where_lmdb_syncs(void **state)
{
    lose_power(test_full() ? 2000 : 50, true, 0);
}

/* --- every call fails once --- */

#define FAULT_STEPS 25

/* Opens what a failure left. Before anything was promised even the log may be missing. */
static void check_after_failure(struct ch_sim_disk *disk, const struct promise *promise, struct ch_prng *g)
{
    struct world w;
    enter_folder(1);
    world_begin(&w, disk, ch_prng_next(g));
    w.promise = *promise;
    ch_err err = world_open(&w, false);
    if (promise->durable == 0 && err == CH_ERR_CORRUPT) { /* the state was only being made */
        world_end(&w);
        struct ch_io *io;
        assert_ok(ch_sim_io_open(disk, &io));
        assert_ok(ch_state_discard(io, "lmdb"));
        ch_io_close(io);
        leave_folder(1, 1);
        world_begin(&w, disk, ch_prng_next(g));
        err = world_open(&w, false);
    }
    if (promise->durable == 0 && (err == CH_ERR_NOT_FOUND || err == CH_ERR_LOG_DAMAGED))
        err = CH_OK;
    else
        world_check(&w, promise);
    assert_ok(err);
    world_end(&w);
    leave_folder(1, 0);
}

static void any_call_that_fails_loses_nothing_promised(void **state)
{
    const ch_err faults[] = {CH_ERR_IO, CH_ERR_NO_SPACE};
    uint64_t seed = test_seed(), times = 0, failed = 0, given_up = 0, stride = test_full() ? 1 : 7;
    struct ch_prng g;
    ch_prng_seed(&g, seed);
    lmdb_dirty_room = DIRTY_ROOM;
    for (unsigned fault = 0; fault < 2; fault++) {
        bool reached = true;
        for (uint64_t call = 1 + ch_prng_below(&g, stride); reached; call += stride, times++) {
            struct ch_sim_disk *disk, *left;
            struct world w;
            folders = 0;
            enter_folder(0);
            assert_ok(ch_sim_disk_open(seed, &disk));
            world_begin(&w, disk, seed);
            uint64_t before = ch_sim_disk_calls(disk);
            ch_sim_disk_fail_at(disk, before + call, faults[fault]);
            ch_err err = world_open(&w, true);
            for (int i = 0; i < FAULT_STEPS && err == CH_OK; i++)
                err = world_step(&w);
            reached = ch_sim_disk_calls(disk) >= before + call;
            assert_true(reached || err == CH_OK);
            failed += err != CH_OK;
            given_up += w.objects && w.objects->job_again_ns != 0;
            world_end(&w);
            ch_sim_disk_fail_at(disk, 0, CH_ERR_IO);
            struct promise promise = w.promise;
            assert_ok(
                (call & 1 ? ch_sim_disk_after_power_loss : ch_sim_disk_after_kill)(disk, ch_prng_next(&g), &left));
            leave_folder(0, 0);
            check_after_failure(left, &promise, &g);
            ch_sim_disk_close(left);
            ch_sim_disk_close(disk);
        }
    }
    lmdb_dirty_room = 0;
    print_message("%llu times, %llu ended by the failure, in %llu a run of the index was given up\n",
                  (unsigned long long)times, (unsigned long long)failed, (unsigned long long)given_up);
    assert_true(failed > times / 2 && (given_up > 0 || !test_full()));
}

/* The last: the power failed at every step of the index of objects. */
static void runs_were_cut_short_at_every_step(void **state)
{
    print_message("losses while a run was made: %llu, merged: %llu, took the place of others: %llu\n",
                  (unsigned long long)losses_during[MAKING], (unsigned long long)losses_during[MERGING],
                  (unsigned long long)losses_during[REPLACING]);
    print_message("starts found %llu torn runs, %llu torn at or soon after a start, %llu left over\n",
                  (unsigned long long)runs_torn, (unsigned long long)runs_torn_again, (unsigned long long)runs_left);
    assert_true(losses_during[MAKING] > 0 && losses_during[MERGING] > 0 && losses_during[REPLACING] > 0);
    assert_true(runs_torn > 0 && runs_torn_again > 0 && runs_left > 0);
}

int main(int argc, char **argv)
{
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    if (argc == 2 && strcmp(argv[1], "--control") == 0) {
        const struct CMUnitTest control[] = {cmocka_unit_test(control_check)};
        return cmocka_run_group_tests(control, NULL, NULL);
    }
    static char path[1024];
    assert_true(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
    self = path;
    snprintf(home, sizeof home, "%s/chappe-power-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(home))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_loss_keeps_all_that_was_promised),
        cmocka_unit_test(power_loss_keeps_all_where_lmdb_syncs),
        cmocka_unit_test(any_call_that_fails_loses_nothing_promised),
        cmocka_unit_test(runs_were_cut_short_at_every_step),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove(home);
    return failed;
}
