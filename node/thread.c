#include "node/thread.h"

#include "base/time.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* Empty rounds before the thread sleeps: about what a ring needs to fill again under load. */
#define IDLE_ROUNDS 64

ch_err ch_thread_open(struct ch_thread *thread, atomic_bool *stop)
{
    *thread = (struct ch_thread){.core = -1, .stop = stop};
    thread->bell.eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return thread->bell.eventfd < 0 ? CH_ERR_IO : CH_OK;
}

void ch_thread_add(struct ch_thread *thread, struct ch_stage stage)
{
    CH_ASSERT(thread->stage_count < CH_THREAD_STAGES_MAX);
    if (stage.wait) {
        CH_ASSERT(thread->stage_count == 0);
        thread->bell.wake = stage.wake;
        thread->bell.wake_self = stage.self;
    }
    thread->stages[thread->stage_count++] = stage;
}

static bool poll_stages(struct ch_thread *thread, uint64_t now_ns)
{
    bool worked = false;
    for (uint32_t i = 0; i < thread->stage_count; i++)
        worked |= thread->stages[i].poll(thread->stages[i].self, now_ns);
    return worked;
}

static void sleep_until_work(struct ch_thread *thread)
{
    struct pollfd fds[1 + 2 * CH_THREAD_STAGES_MAX] = {{.fd = thread->bell.eventfd, .events = POLLIN}};
    nfds_t count = 1;
    atomic_store(&thread->bell.sleeping, true);
    /* Who pushed before it saw the flag is found by one more round. */
    uint64_t now_ns = ch_time_monotonic_ns();
    if (!poll_stages(thread, now_ns) && !atomic_load(thread->stop)) {
        uint64_t deadline_ns = now_ns + 1000000000u;
        for (uint32_t i = 0; i < thread->stage_count; i++) {
            struct ch_stage *stage = &thread->stages[i];
            for (int k = 0; k < 2; k++)
                if (stage->fds[k] >= 0)
                    fds[count++] = (struct pollfd){.fd = stage->fds[k], .events = POLLIN};
            uint64_t at_ns = stage->deadline_ns ? stage->deadline_ns(stage->self, now_ns) : UINT64_MAX;
            if (at_ns < deadline_ns)
                deadline_ns = at_ns;
        }
        if (deadline_ns > now_ns) {
            uint64_t wait_ns = deadline_ns - now_ns;
            struct timespec wait = {(time_t)(wait_ns / 1000000000u), (long)(wait_ns % 1000000000u)};
            if (thread->stages[0].wait)
                thread->stages[0].wait(thread->stages[0].self, wait_ns);
            else
                ppoll(fds, count, &wait, NULL);
            atomic_fetch_add_explicit(&thread->sleeps, 1, memory_order_relaxed);
        }
    }
    atomic_store(&thread->bell.sleeping, false);
    uint64_t rung;
    while (read(thread->bell.eventfd, &rung, sizeof rung) > 0)
        ;
}

static void *run(void *self)
{
    struct ch_thread *thread = self;
    prctl(PR_SET_NAME, thread->stage_count == 1 ? thread->stages[0].name : "stages");
    if (thread->core >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(thread->core, &set);
        (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    }
    for (uint32_t i = 0; i < thread->stage_count; i++)
        if (thread->stages[i].enter)
            thread->stages[i].enter(thread->stages[i].self);
    uint32_t idle = 0;
    while (!atomic_load_explicit(thread->stop, memory_order_relaxed)) {
        if (poll_stages(thread, ch_time_monotonic_ns())) {
            idle = 0;
        } else if (++idle >= IDLE_ROUNDS && !thread->busy) {
            sleep_until_work(thread);
            idle = IDLE_ROUNDS / 2;
        }
        atomic_fetch_add_explicit(&thread->polls, 1, memory_order_relaxed);
    }
    for (uint32_t i = 0; i < thread->stage_count; i++)
        if (thread->stages[i].leave)
            thread->stages[i].leave(thread->stages[i].self);
    return NULL;
}

ch_err ch_thread_start(struct ch_thread *thread)
{
    if (pthread_create(&thread->thread, NULL, run, thread) != 0)
        return CH_ERR_NO_MEMORY;
    thread->started = true;
    return CH_OK;
}

void ch_thread_close(struct ch_thread *thread)
{
    if (thread->started) {
        ch_bell_ring(&thread->bell);
        pthread_join(thread->thread, NULL);
    }
    if (thread->bell.eventfd >= 0)
        close(thread->bell.eventfd);
    thread->started = false;
    thread->bell.eventfd = -1;
}
