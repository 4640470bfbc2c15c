/* node/serve.h - the serve stage: reads of accounts, relations, inboxes and records, objects, and watches.
 *
 * Reads: requests from to_serve (those with a block by way of the verify stage), applied commits. Writes: replies;
 *        applied
 * payloads on to receipts. Owns: its LMDB and log readers, the object store's writer, the table of watches. Must never:
 * write the state.
 */
#ifndef CHAPPE_NODE_SERVE_H
#define CHAPPE_NODE_SERVE_H

#include "node/node.h"

CH_MUST_CHECK ch_err ch_serve_open(struct ch_node *node, struct ch_serve **out);
bool ch_serve_poll(void *serve, uint64_t now_ns);
uint64_t ch_serve_deadline_ns(void *serve, uint64_t now_ns);
/* Answers a request: the answer is in its body. The serve stage's. */
void ch_serve_reply(struct ch_node *node, struct ch_request *request, enum ch_frame_type type, size_t length);
void ch_serve_reply_status(struct ch_node *node, struct ch_request *request, enum ch_frame_type type,
                           enum ch_status status);
int ch_serve_fd(const struct ch_serve *serve);
void ch_serve_close(struct ch_serve *serve);

#endif
