/* node/apply.h - the apply stage: the ledger, its rows in LMDB, and the one write transaction.
 *
 * Reads: commits from to_apply. Writes: the same, each transaction with its receipt, to applied, after the state that
 * shows it is durable and visible. Owns: the ledger, the state's writer. Must never: depend on anything but the
 * committed order.
 */
#ifndef CHAPPE_NODE_APPLY_H
#define CHAPPE_NODE_APPLY_H

#include "node/node.h"

/* Opens the ledger on node->state. *replay_from and *replay_after say where the log's replay begins. */
CH_MUST_CHECK ch_err ch_apply_open(struct ch_node *node, uint64_t *replay_from, uint64_t *replay_after,
                                   struct ch_apply **out);
/* While the log is replayed: a commit delivered again refills the replay window, a newer one is applied. The work and
 * its payloads are given back. */
CH_MUST_CHECK ch_err ch_apply_replay(void *apply, struct ch_work *work);
/* After the replay: what it applied is durable. */
CH_MUST_CHECK ch_err ch_apply_replayed(struct ch_apply *apply);

bool ch_apply_poll(void *apply, uint64_t now_ns);
void ch_apply_close(struct ch_apply *apply);

#endif
