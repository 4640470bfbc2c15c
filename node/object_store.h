/* node/object_store.h - where the node's objects are kept: segments in its folder, or in a Ceph pool (store.objects).
 *
 * Thread:  main, before the stages begin and after they ended.
 * Errors:  one line for people in `why`: what of the pool is not there, or which of the two the folder was used with.
 */
#ifndef CHAPPE_NODE_OBJECT_STORE_H
#define CHAPPE_NODE_OBJECT_STORE_H

#include "node/node.h"

/* Opens node->objects on node->objects_io. `master_key` is copied. */
CH_MUST_CHECK ch_err ch_node_open_objects(struct ch_node *node, const uint8_t master_key[32],
                                          char why[CH_NODE_WHY_BYTES]);
void ch_node_close_objects(struct ch_node *node);

#endif
