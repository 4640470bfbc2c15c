/* node/links.h - what net and order share about the other validators: messages between them, and who is connected.
 *
 *   net --message--> order --free--> net          order --message--> net --free--> order
 *
 * Both kinds come from pools made at start. Of those that come in each validator has a share of its own in each lane
 * (node/lanes.h), so that none can fill the pool: at its share net stops reading from it. Order takes them by the
 * lanes' shares. When none is left for sending, a message is lost, which the consensus machine expects of a network; it
 * repeats what matters.
 * Thread: a message belongs to the stage that holds it. A committee of one has no links: n is 0, nothing is open.
 */
#ifndef CHAPPE_NODE_LINKS_H
#define CHAPPE_NODE_LINKS_H

#include "consensus/core.h"
#include "node/lanes.h"
#include "node/ring.h"
#include "wire/frame.h"

#define CH_LINK_FRAME_TYPE 0x40 /* a frame's type is this and the message's type */
#define CH_ANSWER_SHARE    12   /* answers out of the log to one validator that are on their way (node/flow.h's requests) */

struct ch_message {
    uint16_t peer; /* index of the sender, or to whom; CH_CORE_NOBODY: to all */
    uint16_t type; /* enum ch_message_type */
    bool bulk;     /* payloads and what was asked for: they must not delay what is live */
    enum ch_lane lane;
    uint32_t length;
    uint8_t *body; /* CH_FRAME_BODY_BYTES_MAX */
};

struct ch_links {
    uint16_t n, me;
    struct ch_ring to_order[CH_LANES], free_in, to_net, free_out;
    atomic_uint waiting[CH_LANES][CH_VALIDATORS_MAX]; /* messages of each on their way to order */
    atomic_uint refused[CH_VALIDATORS_MAX]; /* messages of each that did not hold: order counts */
    atomic_uint answers[CH_VALIDATORS_MAX]; /* out of the log, to each: order counts up, net down */
    atomic_uint up[CH_VALIDATORS_MAX];      /* counts comings and goings: odd while connected. Net writes */
    struct ch_message *messages;
    uint8_t *bodies;
};

/* Where a message that comes waits. Payloads are not with what is live: small and many must not wait behind few and
 * large. */
enum ch_lane ch_link_lane(uint16_t message_type);
/* Messages of one validator that may wait there. */
unsigned ch_link_share(enum ch_lane lane);

/* For a committee of n > 1. CH_ERR_NO_MEMORY. */
CH_MUST_CHECK ch_err ch_links_open(struct ch_links *links, uint16_t n, uint16_t me);
void ch_links_close(struct ch_links *links);

#endif
