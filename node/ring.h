/* node/ring.h - a bounded queue of pointers between two stages, and the bell that wakes a sleeping consumer.
 *
 * What:    DPDK's rte_ring on plain memory (no EAL needed). A full ring is backpressure: push takes what fits and says
 *          how much that was; the producer keeps the rest.
 * Thread:  many producers or consumers only where said at open. Ringing is one load unless the consumer sleeps.
 */
#ifndef CHAPPE_NODE_RING_H
#define CHAPPE_NODE_RING_H

#include "base/error.h"

#include <rte_ring.h>
#include <stdatomic.h>
#include <stdbool.h>

/* One per thread: it sleeps on the eventfd, or in the wait of a stage that brings a way to wake it. */
struct ch_bell {
    _Alignas(64) atomic_bool sleeping;
    int eventfd;
    void (*wake)(void *self); /* NULL: write to the eventfd */
    void *wake_self;
};
void ch_bell_ring(struct ch_bell *bell);

struct ch_ring {
    struct rte_ring *ring;
    struct ch_bell *consumer; /* set when the threads are laid out */
};

/* Room for at least `capacity` pointers. `shared_ends`: more than one producer and consumer. */
CH_MUST_CHECK ch_err ch_ring_open(struct ch_ring *ring, const char *name, uint32_t capacity, bool shared_ends);
void ch_ring_close(struct ch_ring *ring);

/* As many of `count` as fit, oldest first; returns how many. Wakes the consumer. */
static inline uint32_t ch_ring_push(struct ch_ring *ring, void *const *items, uint32_t count)
{
    uint32_t done = rte_ring_enqueue_burst(ring->ring, items, count, NULL);
    if (done) {
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load_explicit(&ring->consumer->sleeping, memory_order_relaxed))
            ch_bell_ring(ring->consumer);
    }
    return done;
}
static inline bool ch_ring_push_one(struct ch_ring *ring, void *item)
{
    return ch_ring_push(ring, &item, 1) == 1;
}
static inline uint32_t ch_ring_pull(struct ch_ring *ring, void **items, uint32_t count)
{
    return rte_ring_dequeue_burst(ring->ring, items, count, NULL);
}
static inline void *ch_ring_pull_one(struct ch_ring *ring)
{
    void *item;
    return rte_ring_dequeue_burst(ring->ring, &item, 1, NULL) ? item : NULL;
}
static inline uint32_t ch_ring_count(const struct ch_ring *ring)
{
    return rte_ring_count(ring->ring);
}

#endif
