/* ledger/ledger.h - the rules: what a committed transaction does to accounts, relations, inboxes and the log.
 *
 * What:    applies commits in order; gives each transaction its receipt; keeps the replay window and the log tree.
 *          Same commits, same receipts and rows, byte for byte, on every machine: no clock, no randomness in a result.
 * Not:     no parsing, no signatures (they come as verdicts), no storage: it reads and writes rows through
 *          struct ch_ledger_rows, which the program binds to a store.
 * Thread:  one owner; rows are called from ch_ledger_apply alone, on its thread.
 * Memory:  everything at open; the replay window takes about 48 bytes for each of the genesis' window_ids, touched as
 *          it fills.
 * Errors:  refusals are statuses in the receipts. A ch_err comes from the rows (disk, memory): the ledger and the rows
 *          behind it are then undefined and must be closed, the batch not committed.
 */
#ifndef CHAPPE_LEDGER_LEDGER_H
#define CHAPPE_LEDGER_LEDGER_H

#include "base/merkle.h"
#include "wire/frame.h"
#include "wire/genesis.h"
#include "wire/rows.h"
#include "wire/tx.h"

#define CH_LEDGER_PREFETCH_STEPS 4

/* The rows as the ledger sees them: every read shows every earlier write. Each returns CH_OK, CH_ERR_NOT_FOUND where
 * said, or an error of the world, which ends ch_ledger_apply. */
struct ch_ledger_rows {
    void *context;
    /* The account of a key, CH_ERR_NOT_FOUND if none. The row stays valid until the second next call of `account` or
     * the next account_put, message. */
    ch_err (*account)(void *context, const uint8_t key[32], uint64_t *serial, const struct ch_account **row);
    ch_err (*handle_taken)(void *context, const uint8_t *handle, size_t length, bool *taken);
    /* A new account when serial is the count of accounts, else a changed one. Key and handle never change. */
    ch_err (*account_put)(void *context, uint64_t serial, const struct ch_account *row);
    /* The relation of two different accounts, all of it but the two keys, which the caller knows; CH_ERR_NOT_FOUND if
     * none. */
    ch_err (*relation)(void *context, uint64_t one, uint64_t other, uint64_t *serial, struct ch_relation *row);
    /* A new relation when serial is the count of relations, else a changed one. `smaller`, `larger` are the serials of
     * the accounts with the smaller and larger key. */
    ch_err (*relation_put)(void *context, uint64_t serial, uint64_t smaller, uint64_t larger,
                           const struct ch_relation *row);
    /* Whether this account has `limit` relations or more in state REQUESTED, asked by itself, with since_ms >=
     * since_min_ms. since_min_ms never goes down from call to call, so older ones need not be counted again. */
    ch_err (*requests_full)(void *context, uint64_t account, uint64_t since_min_ms, uint64_t limit, bool *full);
    /* Message `sequence` of the inbox of the account that the last call of `account` gave: its row has this sequence
     * and head from now on. */
    ch_err (*message)(void *context, uint64_t recipient, uint64_t sequence, const uint8_t head[CH_HASH_BYTES],
                      uint64_t log_index);
    /* The next entry of the log, and one that is there. */
    ch_err (*log_append)(void *context, uint64_t log_index, const uint8_t tx_id[CH_HASH_BYTES],
                         const struct ch_log_entry *entry);
    ch_err (*log_entry)(void *context, uint64_t log_index, struct ch_log_entry *entry);
    /* A hint, may do nothing: this sender and peer (or NULL) will be looked up soon. Called for each transaction with
     * step 0, 1, .. CH_LEDGER_PREFETCH_STEPS - 1, some transactions apart, so that each step finds in the CPU's cache
     * what the one before began to load. */
    void (*prefetch)(void *context, unsigned step, const uint8_t *sender, const uint8_t *peer);
};

/* What the ledger needs to go on after a restart, besides the rows and the window; kept with the rows. */
struct ch_ledger_head {
    uint64_t commit_index, commit_time_ms; /* the last one applied; 0 and the genesis' start at first */
    uint64_t accounts, relations;          /* how many there are: the next serials */
    struct ch_merkle_frontier log;         /* log.size is the next log index */
};
#define CH_LEDGER_HEAD_BYTES (5 * 8 + CH_MERKLE_DEPTH_MAX * CH_HASH_BYTES)
void ch_ledger_head_write(const struct ch_ledger_head *head, uint8_t out[CH_LEDGER_HEAD_BYTES]);
void ch_ledger_head_read(const uint8_t in[CH_LEDGER_HEAD_BYTES], struct ch_ledger_head *out);

struct ch_ledger_options {
    const struct ch_genesis *genesis;  /* copied: what is needed of it */
    const struct ch_ledger_head *head; /* NULL: a new chain */
    struct ch_ledger_rows rows;
    uint64_t seed; /* unpredictable to peers, so that nobody can aim at the window's buckets; changes no result */
};

struct ch_ledger;
/* CH_ERR_NO_MEMORY; CH_ERR_UNSUPPORTED: window_ids of 2^32 - 1 and more. */
CH_MUST_CHECK ch_err ch_ledger_open(const struct ch_ledger_options *options, struct ch_ledger **out);
void ch_ledger_close(struct ch_ledger *ledger);

/* After a restart, before the first apply: an applied transaction of the log, in any order. All whose commit's time is
 * >= head's time - window_back_ms - window_ahead_ms must be given; others change nothing. CH_ERR_FULL: more of them
 * than the window holds; CH_ERR_EXISTS: given twice. Both say that log and genesis don't belong together. */
CH_MUST_CHECK ch_err ch_ledger_remember(struct ch_ledger *ledger, const uint8_t tx_id[CH_HASH_BYTES],
                                        uint64_t timestamp_ms, uint64_t log_index);

/* One transaction of a commit. */
struct ch_ledger_item {
    const struct ch_tx *tx; /* NULL: its bytes did not parse */
    const uint8_t *tx_id;   /* 32 bytes */
    uint64_t position;      /* where it lies in the log on disk; kept in its log entry, not looked at */
    bool signature_ok;      /* the sender's */
    bool approval_ok;       /* the registrar's; REGISTER only */
};

/* Applies commit `commit_index` (the one after the last) of time `time_ms` (never less than the last one's) and writes
 * the receipt of items[i] to receipts[i]: level FINAL, for which the caller still has to make the rows durable. */
CH_MUST_CHECK ch_err ch_ledger_apply(struct ch_ledger *ledger, uint64_t commit_index, uint64_t time_ms,
                                     const struct ch_ledger_item *items, size_t count, struct ch_receipt *receipts);

/* After the last apply. The pointer is the ledger's, valid until the next apply. */
const struct ch_ledger_head *ch_ledger_head(const struct ch_ledger *ledger);
/* Ids in the replay window that count at the last commit's time. */
uint64_t ch_ledger_window_used(const struct ch_ledger *ledger);

/* leaf = RFC 6962 leaf hash of tx_id | u64 commit index | u64 commit time | u64 inbox sequence | 32 inbox head. */
void ch_ledger_log_leaf(const uint8_t tx_id[CH_HASH_BYTES], const struct ch_log_entry *entry,
                        uint8_t leaf[CH_HASH_BYTES]);
/* The next inbox head: SHA-256("chappe/inbox/1" 0 | head | tx_id | u64 inbox sequence). next may be head. */
void ch_ledger_inbox_head(const uint8_t head[CH_HASH_BYTES], const uint8_t tx_id[CH_HASH_BYTES], uint64_t sequence,
                          uint8_t next[CH_HASH_BYTES]);

#endif
