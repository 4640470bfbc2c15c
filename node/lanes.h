/* node/lanes.h - three kinds of traffic with a validator, none of which starves another (CONSENSUS.md F7).
 *
 *   lane   what                                                           share
 *   LIVE   new blocks, their payloads, tips                               4
 *   FETCH  what somebody misses, out of memory, and the questions for it  2
 *   SYNC   what lies in the log, commits, objects' parts, and questions   1
 *
 * What:   shares say whose turn it is: bytes are dealt out 4 : 2 : 1 among the lanes that have something waiting. A
 *         lane alone gets all, and saves up nothing while it has nothing. Lanes are the queues to one validator.
 * Not:    no connections (node/peers.h).
 * Thread: one owner.
 * Memory: a copy of each frame, one for all validators that it goes to; per validator at most CH_LANE_FRAMES_MAX frames
 *         and the lane's bytes of each lane.
 */
#ifndef CHAPPE_NODE_LANES_H
#define CHAPPE_NODE_LANES_H

#include "consensus/core.h"
#include "wire/frame.h"

#define CH_LANES           3 /* of enum ch_lane */
#define CH_LANE_FRAMES_MAX 256
#define CH_LANE_BYTES_MAX  (4u << 20)  /* LIVE, FETCH: 16 payloads */
#define CH_SYNC_BYTES_MAX  (12u << 20) /* SYNC: parts of objects go there as well */

struct ch_shares {
    uint64_t turn[CH_LANES], now; /* a lane's bytes by its share */
    unsigned waiting;             /* as of the last turn */
};
/* The lane whose turn it is of those in `waiting`, a bit each, at least one. */
enum ch_lane ch_shares_next(struct ch_shares *shares, unsigned waiting);
void ch_shares_charge(struct ch_shares *shares, enum ch_lane lane, uint64_t bytes);

struct ch_lane_frame {
    unsigned holders;
    struct ch_frame_header header;
    uint8_t body[];
};
/* A copy, held by the caller; NULL: no memory. */
struct ch_lane_frame *ch_lane_frame_new(const struct ch_frame_header *header, const uint8_t *body);
void ch_lane_frame_release(struct ch_lane_frame *frame);

struct ch_lane_queue {
    struct ch_lane_frame *frames[CH_LANE_FRAMES_MAX];
    uint32_t head, count;
    uint64_t bytes;
};
/* All zeros: empty. */
struct ch_lanes {
    struct ch_shares shares;
    struct ch_lane_queue queues[CH_LANES];
};

/* Holds the frame too. False: the lane is full. */
CH_MUST_CHECK bool ch_lanes_put(struct ch_lanes *lanes, enum ch_lane lane, struct ch_lane_frame *frame);
/* The frame whose turn it is, the oldest of `lane`; NULL: none waits. */
const struct ch_lane_frame *ch_lanes_next(struct ch_lanes *lanes, enum ch_lane *lane);
/* Takes that frame off, and charges its lane for it. */
void ch_lanes_taken(struct ch_lanes *lanes, enum ch_lane lane);
void ch_lanes_clear(struct ch_lanes *lanes);
bool ch_lanes_empty(const struct ch_lanes *lanes);

#endif
