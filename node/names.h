/* node/names.h - which blocks of a committee's objects messages name, written down here.
 *
 * What:    goes through the tree of each object that an applied message names, and writes that down for its blocks
 *          (ch_spread_name), so that they are kept and told of to those who repair. After a start: the names of the
 *          replayed log first, then what is here and not named waits again (node/keeper.h).
 * Not:     no waiting for what is not here: the lists of the others say what of it is named.
 * Thread:  the stage's that opened it (serve). Memory: 64 KiB, and what the replay found.
 */
#ifndef CHAPPE_NODE_NAMES_H
#define CHAPPE_NODE_NAMES_H

#include "node/keeper.h"
#include "node/tree.h"

#define CH_NAMES_QUEUE 1024

struct ch_names;
CH_MUST_CHECK ch_err ch_names_open(struct ch_node *node, struct ch_object_reader *reader, struct ch_spread *spread,
                                   const struct ch_spread_store *store, struct ch_tree *tree, struct ch_keeper *keeper,
                                   struct ch_names **out);
void ch_names_close(struct ch_names *names);

/* The object that an applied message names; nothing where it names none. False: no room, later again. */
CH_MUST_CHECK bool ch_names_add(struct ch_names *names, const struct ch_tx *tx);
/* Does a little; true when it did. Errors end the node. */
bool ch_names_poll(struct ch_names *names);
/* There is something to do. */
bool ch_names_busy(const struct ch_names *names);

/* What the log that is replayed names: before the threads start. CH_ERR_NO_MEMORY. */
CH_MUST_CHECK ch_err ch_names_replayed(struct ch_node *node, const struct ch_tx *tx);

#endif
