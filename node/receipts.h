/* node/receipts.h - final receipts on their way to those who wait for them.
 *
 * What:    writes a payload's receipts into RECEIPTS frames, one for each SUBMIT or several; where one was asked for,
 *          signs the root over all of the payload's once and adds each one's path.
 * Thread:  net's. Memory: all at open. Who does not read is hung up, and counted.
 */
#ifndef CHAPPE_NODE_RECEIPTS_H
#define CHAPPE_NODE_RECEIPTS_H

#include "dataplane/quic.h"
#include "node/node.h"

struct ch_receipts;

CH_MUST_CHECK ch_err ch_receipts_open(struct ch_node *node, struct ch_quic *quic, struct ch_receipts **out);
void ch_receipts_close(struct ch_receipts *receipts);
void ch_receipts_send(struct ch_receipts *receipts, const struct ch_payload *payload);

#endif
