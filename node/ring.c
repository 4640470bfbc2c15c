#include "node/ring.h"

#include <stdlib.h>
#include <unistd.h>

void ch_bell_ring(struct ch_bell *bell)
{
    if (bell->wake) {
        bell->wake(bell->wake_self);
        return;
    }
    uint64_t one = 1;
    ssize_t written = write(bell->eventfd, &one, sizeof one);
    (void)written; /* a full counter wakes as well */
}

ch_err ch_ring_open(struct ch_ring *ring, const char *name, uint32_t capacity, bool shared_ends)
{
    uint32_t slots = 2;
    while (slots < capacity + 1)
        slots *= 2;
    size_t bytes = (size_t)rte_ring_get_memsize(slots);
    struct rte_ring *memory = aligned_alloc(RTE_CACHE_LINE_SIZE, (bytes + 63) / 64 * 64);
    if (!memory)
        return CH_ERR_NO_MEMORY;
    unsigned flags = shared_ends ? 0 : RING_F_SP_ENQ | RING_F_SC_DEQ;
    if (rte_ring_init(memory, name, slots, flags) != 0) {
        free(memory);
        return CH_ERR_INVALID;
    }
    ring->ring = memory;
    return CH_OK;
}

void ch_ring_close(struct ch_ring *ring)
{
    free(ring->ring);
    ring->ring = NULL;
}
