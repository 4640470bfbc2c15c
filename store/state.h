/* store/state.h - the rows of the ledger on disk: LMDB for one writer and readers that never block it.
 *
 * What:    accounts, keys, handles, relations, open requests, log entries; the inbox and transaction-id indices as
 *          sorted runs that are merged as they age; what is needed to go on after a restart.
 * Not:     no rule (ledger/), no transaction bytes (they stay in the log on disk, found by position).
 * Thread:  the writer functions belong to one thread; each reader belongs to one thread, as many as readers_max. A
 *          reader never waits for the writer, nor the writer for it; it sees whole batches.
 * Batches: begin, rows and their changes, commit. Readers see a batch when commit returns and nothing of it before. So
 *          release receipts after commit: whoever holds one finds it. (The transaction itself is durable in the log.)
 * Crash:   LMDB is derived. A commit does not wait for the disk to have it: with options.io its sync by io_uring runs
 *          while the next batch is built (store/state_sync.c has the order), without it LMDB syncs (MDB_NOMETASYNC). A
 *          start finds the last batch or one of the two before it; the caller replays the log from there and gets the
 *          same rows. So the log is cut only below what the batch before the last two needs.
 * Damage:  CH_ERR_CORRUPT from open: no whole batch is there, ch_state_discard and a replay of all of the log make it
 *          anew. From a reader or the writer: a row is not what was written.
 * Memory:  the two caches and one flush of records, from open; LMDB's pages are the page cache's, and a batch's dirty
 *          pages until commit.
 * Errors:  CH_ERR_IO, _NO_SPACE, _NO_MEMORY, _CORRUPT. After one of a writer function the batch is lost and the state
 *          must be closed; the program ends, what is on disk is whole. LMDB reports a full disk as CH_ERR_IO.
 */
#ifndef CHAPPE_STORE_STATE_H
#define CHAPPE_STORE_STATE_H

#include "base/hash.h"
#include "store/io.h"
#include "wire/rows.h"

#define CH_STATE_HEAD_BYTES_MAX  4096
#define CH_STATE_VALUE_BYTES_MAX 16384 /* no value in LMDB is larger */
/* Non-message changes dirty random pages; past this many pages a batch should be committed (LMDB spills at 131,071). */
#define CH_STATE_DIRTY_PAGES_MAX 60000u

struct ch_state;
struct ch_state_reader;

struct ch_state_options {
    const char *folder;        /* exists; becomes the home of data.mdb, lock.mdb, mark */
    struct ch_io *io;          /* the state's alone. NULL, for trials: MDB_NOMETASYNC, and no folder that has a mark */
    bool nometasync;           /* LMDB syncs each commit for itself, although there is `io` */
    uint64_t map_bytes;        /* 0: 1 TiB (address space only) */
    uint32_t readers_max;      /* 0: 126 */
    uint32_t accounts_cached;  /* 0: 1 << 20, 256 bytes each; at least 4 x batch_records is used */
    uint32_t relations_cached; /* 0: 1 << 21, 64 bytes each */
    uint32_t batch_records;    /* records held in memory before they go to LMDB, 0: 32,000, which is the maximum */
    uint64_t seed;             /* unpredictable to peers: nobody can aim at the caches' buckets */
};

/* What the newest batch on disk says. All zero in a new state. */
struct ch_state_meta {
    uint64_t applied_index; /* commits applied */
    uint64_t applied_lsn;   /* of the log on disk: replay begins after it */
    uint64_t accounts, relations, log_size;
    uint32_t head_length;
    uint8_t head[CH_STATE_HEAD_BYTES_MAX]; /* the ledger's own, as given to commit */
};

/* Opens or makes the state. CH_ERR_BUSY: another process has it; CH_ERR_CORRUPT; CH_ERR_IO, _NO_SPACE, _NO_MEMORY. */
CH_MUST_CHECK ch_err ch_state_open(const struct ch_state_options *options, struct ch_state **out);
/* Drops an open batch; the last one committed is durable then. Readers must be closed before. NULL is fine. */
void ch_state_close(struct ch_state *state);
/* Removes what is in `folder`, durably: the next open makes an empty state. For one that is closed. */
CH_MUST_CHECK ch_err ch_state_discard(struct ch_io *io, const char *folder);
const struct ch_state_meta *ch_state_meta(const struct ch_state *state);

/* --- the writer: one batch at a time --- */

CH_MUST_CHECK ch_err ch_state_begin(struct ch_state *state);
/* True when the batch should be committed before another commit is applied: many records or dirty pages. It is advice;
 * a larger batch is right too, only slower. */
bool ch_state_batch_full(const struct ch_state *state);
/* Makes the batch visible, the one before it durable. */
CH_MUST_CHECK ch_err ch_state_commit(struct ch_state *state, uint64_t applied_index, uint64_t applied_lsn,
                                     const void *head, size_t head_length);

/* The rows of ledger/ledger.h's struct ch_ledger_rows, inside a batch; each sees the batch's changes. */
CH_MUST_CHECK ch_err ch_state_account(struct ch_state *state, const uint8_t key[32], uint64_t *serial,
                                      const struct ch_account **row);
CH_MUST_CHECK ch_err ch_state_handle_taken(struct ch_state *state, const uint8_t *handle, size_t length, bool *taken);
CH_MUST_CHECK ch_err ch_state_account_put(struct ch_state *state, uint64_t serial, const struct ch_account *row);
CH_MUST_CHECK ch_err ch_state_relation(struct ch_state *state, uint64_t one, uint64_t other, uint64_t *serial,
                                       struct ch_relation *row);
CH_MUST_CHECK ch_err ch_state_relation_put(struct ch_state *state, uint64_t serial, uint64_t smaller, uint64_t larger,
                                           const struct ch_relation *row);
CH_MUST_CHECK ch_err ch_state_requests_full(struct ch_state *state, uint64_t account, uint64_t since_min_ms,
                                            uint64_t limit, bool *full);
CH_MUST_CHECK ch_err ch_state_message(struct ch_state *state, uint64_t recipient, uint64_t sequence,
                                      const uint8_t head[CH_HASH_BYTES], uint64_t log_index);
CH_MUST_CHECK ch_err ch_state_log_append(struct ch_state *state, uint64_t log_index, const uint8_t tx_id[CH_HASH_BYTES],
                                         const struct ch_log_entry *entry);
CH_MUST_CHECK ch_err ch_state_log_entry(struct ch_state *state, uint64_t log_index, struct ch_log_entry *entry);
void ch_state_prefetch(const struct ch_state *state, unsigned step, const uint8_t *sender, const uint8_t *peer);

struct ch_state_counters {
    uint64_t batches, records;
    uint64_t entries_merged, merges;
    uint64_t accounts_hit, accounts_missed, relations_hit, relations_missed;
    uint32_t runs; /* now, of both indices */
};
/* Written by the writer's thread; a reader elsewhere sees values that may be a little old. */
struct ch_state_counters ch_state_counters(const struct ch_state *state);

/* --- readers: each call is one short read transaction on the newest committed batch --- */

CH_MUST_CHECK ch_err ch_state_reader_open(struct ch_state *state, struct ch_state_reader **out);
void ch_state_reader_close(struct ch_state_reader *reader);

/* CH_ERR_NOT_FOUND where there is none; else serial and the whole row, inbox sequence and head included. */
CH_MUST_CHECK ch_err ch_state_read_account_by_key(struct ch_state_reader *reader, const uint8_t key[32],
                                                  uint64_t *serial, struct ch_account *row);
CH_MUST_CHECK ch_err ch_state_read_account_by_handle(struct ch_state_reader *reader, const uint8_t *handle,
                                                     size_t length, uint64_t *serial, struct ch_account *row);
CH_MUST_CHECK ch_err ch_state_read_account(struct ch_state_reader *reader, uint64_t serial, struct ch_account *row);
/* The serial alone: one look-up, for admission. */
CH_MUST_CHECK ch_err ch_state_read_serial(struct ch_state_reader *reader, const uint8_t key[32], uint64_t *serial);

CH_MUST_CHECK ch_err ch_state_read_relation(struct ch_state_reader *reader, uint64_t serial, struct ch_relation *row);
/* Up to `limit` relations of the account with serial >= from, ascending; *count says how many, *more whether others
 * follow. Nothing of them is CH_OK with count 0. */
CH_MUST_CHECK ch_err ch_state_read_relations(struct ch_state_reader *reader, uint64_t account, uint64_t from,
                                             size_t limit, uint64_t *serials, struct ch_relation *rows, size_t *count,
                                             bool *more);

/* The log indices of inbox sequences from..from+count-1, count <= limit (sequences begin with 1, from 0 reads as 1);
 * *last is the inbox's newest sequence, 0 when it is empty or no such account. */
CH_MUST_CHECK ch_err ch_state_read_inbox(struct ch_state_reader *reader, uint64_t account, uint64_t from, size_t limit,
                                         uint64_t *log_indices, size_t *count, uint64_t *last);
CH_MUST_CHECK ch_err ch_state_read_log_entry(struct ch_state_reader *reader, uint64_t log_index,
                                             struct ch_log_entry *entry);
/* The log index of an applied transaction, by the first 16 bytes of its id: the caller compares the transaction. */
CH_MUST_CHECK ch_err ch_state_read_log_index(struct ch_state_reader *reader, const uint8_t tx_id[CH_HASH_BYTES],
                                             uint64_t *log_index);
/* Looks at up to `entries_max` entries, at least 2, of all there are, going on where the last call of this reader
 * ended: each has its checksum, is in order, and is found by its key; where no commit came between the calls, none is
 * missing.
 * *passed: all were gone through. CH_ERR_CORRUPT. What is not looked at is LMDB's list of free pages. */
CH_MUST_CHECK ch_err ch_state_check(struct ch_state_reader *reader, uint64_t entries_max, bool *passed);
/* applied_index, applied_lsn, sizes and head of the newest batch. */
CH_MUST_CHECK ch_err ch_state_read_meta(struct ch_state_reader *reader, struct ch_state_meta *meta);

#endif
