/* node/order.h - the order stage: the consensus machine's host, the mempool, the log.
 *
 * Reads: verified batches from to_order; completions of the log. Writes: batches to to_answer with their early
 *        statuses,
 * commits to to_apply. Owns: the machine (consensus/core.h), payloads until they are delivered, log and guard
 * (node/log.h). Must never: decide anything itself, or let a block leave before it is durable.
 */
#ifndef CHAPPE_NODE_ORDER_H
#define CHAPPE_NODE_ORDER_H

#include "consensus/core.h"
#include "node/log.h"
#include "node/node.h"

/* How the log is replayed: from a position, delivering the commits after `after` to `apply`, in order, before the
 * threads start. Those up to applied_index are in the state already; they refill the ledger's replay window. */
struct ch_order_replay {
    ch_wal_position from;
    uint64_t after;
    ch_err (*apply)(void *context, struct ch_work *work);
    void *context;
};

/* Opens log and guard, replays, starts the machine. CH_ERR_LOG_DAMAGED: the log lost what was promised, or the guard is
 * ahead of it; CH_ERR_BUSY: another process runs this validator. */
CH_MUST_CHECK ch_err ch_order_open(struct ch_node *node, const struct ch_order_replay *replay, struct ch_order **out);
void ch_order_close(struct ch_order *order);

bool ch_order_poll(void *order, uint64_t now_ns);
uint64_t ch_order_deadline_ns(void *order, uint64_t now_ns);
void ch_order_fds(const struct ch_order *order, int fds[2]);
struct ch_wal *ch_order_wal(struct ch_order *order);
/* Any thread: the machine's state and what it has counted, as of a moment ago. */
void ch_order_status(struct ch_order *order, struct ch_core_status *out, struct ch_core_counters *counters);

#endif
