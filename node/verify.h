/* node/verify.h - the verify stage: signatures in batches, transaction ids, what can be refused before ordering; and
 * the hashes of blocks.
 *
 * Reads: batches from to_verify, and one at a time from to_suspect; requests with a block from to_hash, a few at a
 *        time.
 * Writes: the same batches, with ids and statuses, to to_order; the requests, hashed, to to_serve. Owns: a verifier
 *         with its cache of decoded keys, a cache of known senders. Must never: let one source's bad
 * signatures slow another's (they go through to_suspect, one by one, after the honest ones), touch the state for
 * writing.
 */
#ifndef CHAPPE_NODE_VERIFY_H
#define CHAPPE_NODE_VERIFY_H

#include "node/node.h"

CH_MUST_CHECK ch_err ch_verify_open(struct ch_node *node, struct ch_verify **out);
bool ch_verify_poll(void *verify, uint64_t now_ns);
void ch_verify_close(struct ch_verify *verify);
/* Rung when this stage leaves work in the ring: to_verify wakes the first stage alone. */
void ch_verify_set_next(struct ch_verify *verify, struct ch_bell *next);
const char *ch_verify_kernel(const struct ch_verify *verify);

#endif
