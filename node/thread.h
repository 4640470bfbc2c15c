/* node/thread.h - threads that run stages: one, or several that share a core.
 *
 * A stage's poll does at most one burst, never blocks, takes nothing that it could not pass on, and returns whether it
 * did anything. When all stages of a thread are idle for a while, it sleeps until a bell, a stage's file descriptor or
 * the earliest deadline. Thread: open and start from the main thread.
 */
#ifndef CHAPPE_NODE_THREAD_H
#define CHAPPE_NODE_THREAD_H

#include "node/ring.h"

#include <pthread.h>

#define CH_THREAD_STAGES_MAX 8

struct ch_stage {
    const char *name;
    void *self;
    bool (*poll)(void *self, uint64_t now_ns);
    /* When to be polled next although nothing arrives, monotonic ns; UINT64_MAX: not at all. NULL: the same. */
    uint64_t (*deadline_ns)(void *self, uint64_t now_ns);
    int fds[2]; /* readable when there is work; -1: none */
    /* A stage that owns a port sleeps in it: wait until work or wake (any thread), timeout_ns at most. Such a stage has
     * a thread of its own. NULL: it sleeps on fd. */
    void (*wait)(void *self, uint64_t timeout_ns);
    void (*wake)(void *self);
    /* In the thread, before the first poll and after the last; NULL: nothing. */
    void (*enter)(void *self);
    void (*leave)(void *self);
};

struct ch_thread {
    struct ch_bell bell;
    struct ch_stage stages[CH_THREAD_STAGES_MAX];
    uint32_t stage_count;
    bool busy;          /* never sleep: the core is ours */
    int core;           /* to run on, or -1 */
    atomic_bool *stop;  /* the thread ends when it is true */
    pthread_t thread;
    bool started;
    atomic_uint_fast64_t sleeps, polls;
};

CH_MUST_CHECK ch_err ch_thread_open(struct ch_thread *thread, atomic_bool *stop);
void ch_thread_add(struct ch_thread *thread, struct ch_stage stage);
CH_MUST_CHECK ch_err ch_thread_start(struct ch_thread *thread);
/* Waits for its end (after *stop became true and its bell was rung) and frees what open took. */
void ch_thread_close(struct ch_thread *thread);

#endif
