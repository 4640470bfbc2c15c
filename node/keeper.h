/* node/keeper.h - which objects are kept: quotas, names, ages.
 *
 * What:    counts the bytes that each account has stored here (store.object_quota_mib); drops a block that no message
 *          names within CH_KEEPER_UNNAMED_MS of the chain's time, and those older than store.object_keep_hours; lets the
 *          store move live blocks out of half-dead segments, at store.upkeep_mib_s.
 * Not:     no memory of what is unnamed over a restart: what is there then stays, until its age. In a committee of several
 *          (node/objects.h) only ages and compaction count: what is put there is neither charged nor waits for a name.
 * Thread:  the serve stage's.
 * Memory:  64 bytes for each block not named yet, of which there are at most CH_KEEPER_UNNAMED_MAX; 16 to 43 for each
 *          account with objects, where there is a quota.
 */
#ifndef CHAPPE_NODE_KEEPER_H
#define CHAPPE_NODE_KEEPER_H

#include "node/node.h"

#define CH_KEEPER_UNNAMED_MS  600000u
#define CH_KEEPER_UNNAMED_MAX 196608u /* 192 GiB of large blocks in ten minutes; more are refused (OVERLOADED) */

struct ch_keeper;

CH_MUST_CHECK ch_err ch_keeper_open(struct ch_node *node, struct ch_object_reader *reader, struct ch_keeper **out);
void ch_keeper_close(struct ch_keeper *keeper);

/* Whether an account may store a block: OK, QUOTA, OVERLOADED. */
enum ch_status ch_keeper_admit(const struct ch_keeper *keeper, uint64_t account, size_t length);
struct ch_object_tag ch_keeper_tag(uint64_t account);
/* The store took the block, or it has it already (`length` 0): it waits for its name, anew. */
CH_MUST_CHECK ch_err ch_keeper_stored(struct ch_keeper *keeper, const struct ch_cid *cid, uint64_t account,
                                      size_t length);
/* A commit was applied at this time of the chain. */
void ch_keeper_committed(struct ch_keeper *keeper, uint64_t commit_time_ms);
/* Whether any block waits for its name. */
bool ch_keeper_waits(const struct ch_keeper *keeper);
/* A message of it names the object. */
void ch_keeper_named(struct ch_keeper *keeper, const struct ch_tx *tx);
/* Does a little of what is due; true when it did. Errors end the node. */
bool ch_keeper_poll(struct ch_keeper *keeper, uint64_t now_ns);
uint64_t ch_keeper_deadline_ns(const struct ch_keeper *keeper, uint64_t now_ns);

#endif
