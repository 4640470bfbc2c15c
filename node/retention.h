/* node/retention.h - how much of the log is kept.
 *
 * What:    the position below which the log may be cut: by size (store.log_keep_mib) and by age (store.log_keep_hours),
 *          and never above what a restart replays. Without either everything is kept.
 * Cost:    with an age, some 40 reads of the state each call.
 * Thread:  the main thread's. The order stage cuts (node/order.c), whose log it is.
 */
#ifndef CHAPPE_NODE_RETENTION_H
#define CHAPPE_NODE_RETENTION_H

#include "node/node.h"

struct ch_retention;

CH_MUST_CHECK ch_err ch_retention_open(struct ch_node *node, struct ch_retention **out);
void ch_retention_close(struct ch_retention *retention);
/* Renews node->log_keep_from. */
CH_MUST_CHECK ch_err ch_retention_look(struct ch_retention *retention, uint64_t now_unix_ms);

#endif
