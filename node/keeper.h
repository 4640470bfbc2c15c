/* node/keeper.h - which objects are kept: quotas, names, ages.
 *
 * What:    counts the bytes that each account has stored here (store.object_quota_mib); drops a block that no message
 *          names within CH_KEEPER_UNNAMED_MS of the chain's time after the account that put it has put anything, and
 *          those older than store.object_keep_hours; lets the store move live blocks out of half-dead segments, at
 *          store.upkeep_mib_s.
 *          What is dropped was closed CH_KEEPER_CLOSED_MS before: no message that names it is let in any more, and one
 *          that was let in before may still come. In a committee (ch_keeper_spread) a block's parts here are meant; the
 *          other validators are told of blocks that wait on. An account's quota counts its blocks' lengths at the
 *          validator where it puts them.
 * Not:     no memory of what is unnamed over a restart: alone, what is there then stays, until its age; in a committee
 *          node/names.h finds it again.
 * Thread:  the serve stage's.
 * Memory:  24 MiB for blocks not named yet, of which there are at most CH_KEEPER_UNNAMED_MAX, and for who put them; 16
 *          to 43 bytes for each account with objects, where there is a quota.
 */
#ifndef CHAPPE_NODE_KEEPER_H
#define CHAPPE_NODE_KEEPER_H

#include "node/node.h"
#include "node/spread.h"

#define CH_KEEPER_UNNAMED_MS  600000u
#define CH_KEEPER_CLOSED_MS   300000u /* more than a message may be under way, and than validators differ */
#define CH_KEEPER_RENEW_MS    60000u  /* a block's time is not moved by less */
#define CH_KEEPER_UNNAMED_MAX 196608u /* 192 GiB of large blocks in ten minutes; more are refused (OVERLOADED) */

struct ch_keeper;

CH_MUST_CHECK ch_err ch_keeper_open(struct ch_node *node, struct ch_object_reader *reader, struct ch_keeper **out);
void ch_keeper_close(struct ch_keeper *keeper);

/* The parts of blocks are this machine's, which outlives the keeper's polls. */
void ch_keeper_spread(struct ch_keeper *keeper, struct ch_spread *spread, const struct ch_spread_store *store);

/* Whether an account may store a block: OK, QUOTA, OVERLOADED: as many of its own wait as there is room left. */
enum ch_status ch_keeper_admit(const struct ch_keeper *keeper, uint64_t account, size_t length);
struct ch_object_tag ch_keeper_tag(uint64_t account);
/* The store took the block, or it has it already (`length` 0): it waits for its name, anew. */
CH_MUST_CHECK ch_err ch_keeper_stored(struct ch_keeper *keeper, const struct ch_cid *cid, uint64_t account,
                                      size_t length);
/* An account puts in a committee what is stored and durable here: it waits anew, if it waits, and the others are
 * told. */
void ch_keeper_put_again(struct ch_keeper *keeper, const struct ch_cid *cid, uint64_t account);
/* In a committee: whether what this validator brings may wait for its name. Of the table each has half of what is its
 * share for certain, and whatever is left of the other half. */
bool ch_keeper_may_wait(const struct ch_keeper *keeper, uint16_t from);
/* The parts of a block came (`is_new`) or were offered again: it waits for its name, anew. An owner's serial plus one,
 * 0: nobody's. */
CH_MUST_CHECK ch_err ch_keeper_wait(struct ch_keeper *keeper, const struct ch_cid *cid, uint32_t length, uint16_t from,
                                    uint64_t owner, bool is_new);
/* The same for what was here at the start already: an owner's was counted then. */
void ch_keeper_wait_after_start(struct ch_keeper *keeper, const struct ch_cid *cid, uint32_t length, uint64_t owner);
bool ch_keeper_is_waiting(struct ch_keeper *keeper, const struct ch_cid *cid);
/* It is named. */
void ch_keeper_stop_waiting(struct ch_keeper *keeper, const struct ch_cid *cid);
/* Nothing is dropped meanwhile: names that are known are being looked up. */
void ch_keeper_hold(struct ch_keeper *keeper, bool hold);
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
