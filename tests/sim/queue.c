/* What happens next: a binary heap by time, then by order of arrival. */
#include "tests/sim/sim.h"

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

void sim_queue_push(struct sim_queue *q, uint64_t at_us, struct sim_event *event)
{
    event->at_us = at_us;
    event->sequence = q->sequence++;
    q->heap = sim_grow(q->heap, q->count, &q->room, sizeof *q->heap);
    size_t i = q->count++;
    for (; i && before(event, q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = event;
}

struct sim_event *sim_queue_pop(struct sim_queue *q)
{
    if (!q->count)
        return NULL;
    struct sim_event *top = q->heap[0], *last = q->heap[--q->count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < q->count) {
        if (child + 1 < q->count && before(q->heap[child + 1], q->heap[child]))
            child++;
        if (!before(q->heap[child], last))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    if (q->count)
        q->heap[i] = last;
    return top;
}

void sim_event_free(struct sim_event *event)
{
    if (event->kind == SIM_MESSAGE)
        sim_body_drop(event->body);
    free(event);
}
