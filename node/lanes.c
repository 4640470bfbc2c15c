#include "node/lanes.h"

#include <stdlib.h>

static const uint64_t bytes_to_turn[CH_LANES] = {[CH_LANE_LIVE] = 1, [CH_LANE_FETCH] = 2, [CH_LANE_SYNC] = 4};

enum ch_lane ch_shares_next(struct ch_shares *s, unsigned waiting)
{
    int next = -1;
    for (int lane = 0; lane < CH_LANES; lane++) {
        if (!(waiting >> lane & 1))
            continue;
        if (!(s->waiting >> lane & 1) && s->turn[lane] < s->now)
            s->turn[lane] = s->now; /* what it did not use is gone */
        if (next < 0 || s->turn[lane] < s->turn[next])
            next = lane;
    }
    CH_ASSERT(next >= 0);
    s->waiting = waiting;
    s->now = s->turn[next];
    return (enum ch_lane)next;
}

void ch_shares_charge(struct ch_shares *s, enum ch_lane lane, uint64_t bytes)
{
    s->turn[lane] += bytes * bytes_to_turn[lane];
}

struct ch_lane_frame *ch_lane_frame_new(const struct ch_frame_header *header, const uint8_t *body)
{
    struct ch_lane_frame *frame = malloc(sizeof *frame + header->length);
    if (!frame)
        return NULL;
    frame->holders = 1;
    frame->header = *header;
    memcpy(frame->body, body, header->length);
    return frame;
}

void ch_lane_frame_release(struct ch_lane_frame *frame)
{
    if (frame && --frame->holders == 0)
        free(frame);
}

static uint64_t bytes_of(const struct ch_lane_frame *frame)
{
    return CH_FRAME_HEADER_BYTES + frame->header.length;
}

bool ch_lanes_put(struct ch_lanes *l, enum ch_lane lane, struct ch_lane_frame *frame)
{
    struct ch_lane_queue *q = &l->queues[lane];
    const uint64_t most = lane == CH_LANE_SYNC ? CH_SYNC_BYTES_MAX : CH_LANE_BYTES_MAX;
    if (q->count == CH_LANE_FRAMES_MAX || q->bytes + bytes_of(frame) > most)
        return false;
    q->frames[(q->head + q->count++) % CH_LANE_FRAMES_MAX] = frame;
    q->bytes += bytes_of(frame);
    frame->holders++;
    return true;
}

static unsigned waiting_lanes(const struct ch_lanes *l)
{
    unsigned waiting = 0;
    for (unsigned i = 0; i < CH_LANES; i++)
        waiting |= (unsigned)(l->queues[i].count > 0) << i;
    return waiting;
}

bool ch_lanes_empty(const struct ch_lanes *l)
{
    return !waiting_lanes(l);
}

const struct ch_lane_frame *ch_lanes_next(struct ch_lanes *l, enum ch_lane *lane)
{
    const unsigned waiting = waiting_lanes(l);
    if (!waiting)
        return NULL;
    *lane = ch_shares_next(&l->shares, waiting);
    const struct ch_lane_queue *q = &l->queues[*lane];
    return q->frames[q->head];
}

void ch_lanes_taken(struct ch_lanes *l, enum ch_lane lane)
{
    struct ch_lane_queue *q = &l->queues[lane];
    CH_ASSERT(q->count);
    struct ch_lane_frame *frame = q->frames[q->head];
    q->head = (q->head + 1) % CH_LANE_FRAMES_MAX;
    q->count--;
    q->bytes -= bytes_of(frame);
    ch_shares_charge(&l->shares, lane, bytes_of(frame));
    ch_lane_frame_release(frame);
}

void ch_lanes_clear(struct ch_lanes *l)
{
    for (unsigned lane = 0; lane < CH_LANES; lane++)
        for (struct ch_lane_queue *q = &l->queues[lane]; q->count; q->count--) {
            ch_lane_frame_release(q->frames[q->head]);
            q->head = (q->head + 1) % CH_LANE_FRAMES_MAX;
        }
    memset(l, 0, sizeof *l);
}
