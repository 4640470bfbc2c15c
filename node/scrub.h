/* node/scrub.h - reads all objects again and again, from the disk itself, and all of the state, at store.upkeep_mib_s
 * each.
 *
 * Reads: sealed segments and LMDB, through readers of its own. Writes: log lines, counters. A damaged block the store
 * remembers (ch_object_damaged), and takes anew from whoever puts it; a damaged state ends the process, where the log
 * can make it anew. Must never: write to the disk, hold up a read or a put.
 */
#ifndef CHAPPE_NODE_SCRUB_H
#define CHAPPE_NODE_SCRUB_H

#include "node/node.h"

struct ch_scrub;

CH_MUST_CHECK ch_err ch_scrub_open(struct ch_node *node, struct ch_scrub **out);
void ch_scrub_close(struct ch_scrub *scrub);
bool ch_scrub_poll(void *scrub, uint64_t now_ns);
uint64_t ch_scrub_deadline_ns(void *scrub, uint64_t now_ns);

#endif
