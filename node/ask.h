/* node/ask.h - blocks and trees for other threads than the stages' (HTTP): read here where they are whole, else asked
 * of the serve stage, which gets them from the other validators.
 *
 * Thread:  an asker is one thread's, which waits for the answer. Memory: CH_ASKS_MAX answers of a frame's size.
 * Limits:  CH_ASKS_MAX at once; more wait.
 */
#ifndef CHAPPE_NODE_ASK_H
#define CHAPPE_NODE_ASK_H

#include "node/node.h"

struct ch_asks;
struct ch_asker;

CH_MUST_CHECK ch_err ch_asks_open(struct ch_node *node, struct ch_asks **out);
/* After all askers and stages have ended. */
void ch_asks_close(struct ch_asks *asks);

CH_MUST_CHECK ch_err ch_asker_open(struct ch_asks *asks, struct ch_asker **out);
void ch_asker_close(struct ch_asker *asker);
/* As ch_object_get and ch_object_has_tree (store/object.h). CH_ERR_TIMEOUT: too few validators answered in time.
 * CH_ERR_CLOSED: the node stops. */
CH_MUST_CHECK ch_err ch_asker_get(struct ch_asker *asker, const struct ch_cid *cid, void *to, size_t capacity,
                                  size_t *length);
CH_MUST_CHECK ch_err ch_asker_has_tree(struct ch_asker *asker, const struct ch_cid *root, uint64_t *file_bytes);

#endif
