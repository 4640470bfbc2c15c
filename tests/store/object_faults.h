/* tests/store/object_faults.h - what can befall an object store, on either kind of storage: calls that fail, an end
 * without warning, bytes that change. */
#ifndef CHAPPE_TESTS_STORE_OBJECT_FAULTS_H
#define CHAPPE_TESTS_STORE_OBJECT_FAULTS_H

#include "tests/store/object_world.h"
#include "tests/store/rados_calls.h"

static inline uint64_t calls_of(const struct world *w)
{
    return w->disk ? ch_sim_disk_calls(w->disk) : rados_calls();
}

/* The `ahead`-th call from now on fails; 0: none does. In a pool it may have been done (`done`). */
static inline void fail_in(struct world *w, uint64_t ahead, ch_err err, bool done)
{
    uint64_t call = ahead ? calls_of(w) + ahead : 0;
    if (w->disk)
        ch_sim_disk_fail_at(w->disk, call, err);
    else
        rados_calls_fail_at(call, err, done);
}

/* Until a pool that did not answer once is asked again. */
static inline void wait_for_storage(struct world *w)
{
    uint64_t bytes;
    struct ch_file *file;
    ch_err err;
    while ((err = ch_io_open(w->io, "obj/lock", CH_IO_READ, &file)) == CH_ERR_TIMEOUT)
        usleep(1000);
    assert_ok(err);
    assert_ok(ch_io_size(w->io, file, &bytes));
    ch_io_close_file(w->io, file);
}

/* What is there after an end at this instant, as a world that is not open. A disk is another one, as a power loss or
 * the end of the process leaves it. A pool is the same one, left as it is; object_writer.h has real ends of processes.
 */
static inline void crash(struct world *w, struct ch_prng *g, bool power, struct world *left)
{
    *left = *w;
    left->store = NULL;
    left->reader = NULL;
    if (w->disk) {
        assert_ok(
            (power ? ch_sim_disk_after_power_loss : ch_sim_disk_after_kill)(w->disk, ch_prng_next(g), &left->disk));
        assert_ok(ch_sim_io_open(left->disk, &left->io));
    } else {
        close_world(w);
    }
}

/* Back from what a crash left, which was closed again: on a disk to before the crash, in a pool to what became of it.
 */
static inline void go_on(struct world *w, struct world *left)
{
    if (w->disk) {
        ch_io_close(left->io);
        ch_sim_disk_close(left->disk);
    } else {
        memcpy(w->known, left->known, sizeof w->known);
        open_world(w);
    }
}

/* A file's bytes, to be changed and given back. */
static inline uint8_t *take_bytes(struct world *w, const char *path, size_t *length)
{
    uint8_t *bytes = bytes_of(w->io, path, length);
    assert_non_null(bytes);
    return bytes;
}

static inline void give_bytes(struct world *w, const char *path, uint8_t *bytes, size_t length)
{
    size_t here;
    if (w->disk) {
        uint8_t *to = ch_sim_disk_bytes(w->disk, path, &here);
        assert_int_equal(here, length);
        memcpy(to, bytes, length);
    } else {
        rados_calls_overwrite(w->space, path, bytes, length);
    }
    free(bytes);
}

struct copying {
    struct world *from, *to;
};

static inline void copy_segment(void *context, const char *name)
{
    struct copying *c = context;
    char path[300];
    size_t length;
    snprintf(path, sizeof path, "obj/%s", name);
    uint8_t *bytes = take_bytes(c->from, path, &length);
    if (strcmp(name, "lock") != 0)
        rados_calls_overwrite(c->to->space, path, bytes, length);
    free(bytes);
}

/* A copy of what is durable, as a world that is not open. */
static inline void copy_world(struct world *w, struct ch_prng *g, struct world *to)
{
    if (w->disk) {
        crash(w, g, true, to);
        return;
    }
    struct copying copying = {w, to};
    begin_closed(to, 0);
    memcpy(to->known, w->known, sizeof to->known);
    assert_ok(ch_io_list(w->io, "obj", copy_segment, &copying));
}

#endif
