/* node/log.h - the validator's log and signer guard, in the order that docs/consensus.md 11 (W1, W2) demands.
 *
 * What:    appends the consensus machine's records, and says SYNCED(lsn) when log first, then guard are durable.
 * Owns:    the write-ahead log (store/wal.h) and the guard file. Must never: say durable before it is.
 * Thread:  the order stage's: a record's bytes are the machine's until its next step, so the log takes them right
 *          there; the disk works behind io_uring all the same.
 * Guard:   "guard", two slots of 4096 bytes written in turn: u64 count | consensus/core.h's 56 bytes | zeros.
 */
#ifndef CHAPPE_NODE_LOG_H
#define CHAPPE_NODE_LOG_H

#include "consensus/core.h"
#include "store/wal.h"

struct ch_log_writer;

/* Makes the log of a validator: EPOCH_START(0), and with `fresh` the guard of round 0. A validator whose disk was lost
 * is not fresh: it signed no one knows what, and must not start without --rejoin until that has written a guard.
 * CH_ERR_EXISTS where there is a log. */
CH_MUST_CHECK ch_err ch_log_create(const char *folder, const struct ch_committee *committee,
                                   const struct ch_wal_options *options, bool fresh);
/* Opens log and guard; options->replay sees the records. *guard is what the guard file holds, has_guard false where
 * there is none. CH_ERR_LOG_DAMAGED, _BUSY, _NOT_FOUND as in store/wal.h. */
CH_MUST_CHECK ch_err ch_log_open(const char *folder, const struct ch_wal_options *options, struct ch_guard *guard,
                                 bool *has_guard, struct ch_log_writer **out);
void ch_log_close(struct ch_log_writer *log);

struct ch_wal *ch_log_wal(struct ch_log_writer *log);
/* Appends; *position is that of the body's first byte. CH_ERR_FULL, CH_ERR_NO_SPACE: poll and try again. */
CH_MUST_CHECK ch_err ch_log_append(struct ch_log_writer *log, uint64_t core_lsn, uint8_t type, struct ch_bytes head,
                                   struct ch_bytes payload, ch_wal_position *position);
/* Asks for a SYNCED of `core_lsn`; guard may be NULL. */
CH_MUST_CHECK ch_err ch_log_sync(struct ch_log_writer *log, uint64_t core_lsn, const struct ch_guard *guard);
/* Lets the disk go on; *synced is the highest lsn whose SYNCED is due (0 before the first). Errors are final. */
CH_MUST_CHECK ch_err ch_log_poll(struct ch_log_writer *log, uint64_t *synced);
/* True while polling moves something. */
bool ch_log_busy(const struct ch_log_writer *log);
/* Descriptors to sleep on: the log's and the guard's completions. */
void ch_log_fds(const struct ch_log_writer *log, int fds[2]);

#endif
