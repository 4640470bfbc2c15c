/* tests/store/object_writer.h - a process of its own that puts blocks without end and tells of each that is stored, to
 * be killed or frozen. It is this program again, not a fork: librados's random numbers would be those of the parent. */
#ifndef CHAPPE_TESTS_STORE_OBJECT_WRITER_H
#define CHAPPE_TESTS_STORE_OBJECT_WRITER_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/store/object_world.h"

#define WRITER_ENDED 0x100000u /* plus the error that ended it, in the place of a block's number */

struct writer {
    pid_t process;
    int told;
    ch_err end; /* CH_OK: it did not come to one */
    size_t count;
    uint64_t stored[BLOCKS_MAX];
};

/* Where a store lies that several processes open: a folder, or what stands for it in the pool. */
static inline ch_err open_shared(const char *place, const char *holder, struct ch_io **io)
{
    return in_pool() ? open_pool(place, holder, io) : ch_io_uring_open(io);
}

static inline void shared_dir(const char *place, char dir[300])
{
    if (in_pool())
        strcpy(dir, "obj");
    else
        snprintf(dir, 300, "%.256s/obj", place);
}

static inline ch_err open_shared_world(struct world *w, const char *place, const char *holder)
{
    struct ch_object_options options = small();
    char dir[300];
    shared_dir(place, dir);
    *w = (struct world){0};
    assert_ok(open_shared(place, holder, &w->io));
    ch_err err = ch_object_open(w->io, dir, &options, &w->store);
    if (err == CH_OK)
        assert_ok(ch_object_reader_open(w->store, &w->reader));
    else
        ch_io_close(w->io);
    return err;
}

/* What the process does: argv as start_writer gives it. */
static inline _Noreturn void be_writer(char **argv)
{
    struct ch_object_options options = small();
    struct world w = {0};
    uint8_t block[LENGTH_MAX];
    uint64_t cookies[16];
    size_t count;
    int tell = atoi(argv[4]);
    char dir[300];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN); /* as the validator does: librados writes to connections that were closed */
    shared_dir(argv[1], dir);
    ch_err err = open_shared(argv[1], argv[2], &w.io);
    if (err == CH_OK)
        err = ch_object_open(w.io, dir, &options, &w.store);
    for (uint64_t i = strtoull(argv[3], NULL, 10); err == CH_OK; i = (i + 1) % WRITER_ENDED) {
        struct ch_cid cid;
        size_t length = block_of(i, block);
        ch_cid_of(CH_CID_RAW, block, length, &cid);
        do {
            err = ch_object_put(w.store, &cid, block, length, i);
            ch_err polled = ch_object_flush(w.store);
            if (polled == CH_OK)
                polled = ch_object_poll(w.store, cookies, 16, &count);
            if (polled == CH_OK && count && write(tell, cookies, count * 8) < 0)
                polled = CH_ERR_IO;
            if (polled != CH_OK)
                err = polled;
        } while (err == CH_ERR_FULL);
        if (err == CH_ERR_EXISTS) /* stored by one before, which was killed before it told */
            err = CH_OK;
    }
    cookies[0] = WRITER_ENDED + (unsigned)err;
    _exit(write(tell, cookies, 8) == 8 ? 0 : 1);
}

static inline bool hear_writer(struct writer *writer)
{
    uint64_t number;
    if (read(writer->told, &number, 8) != 8)
        return false;
    if (number >= WRITER_ENDED)
        writer->end = (ch_err)(number - WRITER_ENDED);
    else if (writer->count < BLOCKS_MAX)
        writer->stored[writer->count++] = number;
    return number < WRITER_ENDED;
}

/* Returns when a hundred of the blocks with the numbers `from` on are stored. */
static inline void start_writer(struct writer *writer, const char *place, const char *holder, uint64_t from)
{
    int fds[2];
    char number[24], fd[16];
    assert_int_equal(pipe(fds), 0);
    snprintf(number, sizeof number, "%llu", (unsigned long long)from);
    snprintf(fd, sizeof fd, "%d", fds[1]);
    *writer = (struct writer){.process = fork(), .told = fds[0]};
    if (writer->process == 0) {
        execl("/proc/self/exe", "writer", place, holder, number, fd, (char *)NULL);
        _exit(1);
    }
    assert_true(writer->process > 0);
    close(fds[1]);
    while (writer->count < 100)
        assert_true(hear_writer(writer));
}

/* Takes what it has told until it ended. */
static inline void end_writer(struct writer *writer)
{
    int status;
    while (hear_writer(writer))
        ;
    close(writer->told);
    assert_int_equal(waitpid(writer->process, &status, 0), writer->process);
}

#endif
