/* store/state_impl.h - what the files of the state share.
 *
 * Databases in data.mdb. Numbers are little-endian in values and in the integer keys of accounts, relations, log; they
 * are big-endian in composed keys, so that bytes sort as numbers. An account or relation is named by its u64 serial.
 *
 *   Each value is followed by u32 crc32c of key and value.
 *
 *   meta          "state" -> u32 version 2 | u32 head length | u64 applied index | u64 applied lsn | u64 accounts |
 *                            u64 relations | u64 log size | head
 *                 "runs"  -> the directories of inbox and ids, see state_runs.c
 *   accounts      account -> its row; inbox sequence and head are zero there: those of its newest log entry count
 *   keys          32 key -> account
 *   handles       handle -> account
 *   pairs         smaller account | larger -> relation | u64 since ms | u64 log index of the request |
 *                            u64 of the accept | u8 state | u8 by. One look-up says whether a message may pass
 *   relations     relation -> smaller account | larger
 *   relations_of  account | relation -> nothing
 *   requests      account -> u64 count of its entries here
 *                 account | u64 since ms | relation -> nothing: relations in state REQUESTED, by who asked. Expired
 *                            ones are taken out when the count reaches its limit
 *   log           u64 log index / 31 -> up to 31 log entries
 *   inbox.N       a run: u64 high | u64 low of the first -> up to 83 entries of u64 high | u64 low | u64 value:
 *                            recipient, inbox sequence -> log index
 *   ids.N         the same: the first 16 bytes of a tx_id -> log index
 *
 * Blocks of log, inbox, ids are, with that, just under half a page: two fill one, and MDB_APPEND leaves no slack.
 */
#ifndef CHAPPE_STORE_STATE_IMPL_H
#define CHAPPE_STORE_STATE_IMPL_H

#include "store/state.h"

#include <lmdb.h>
#include <stdatomic.h>

#define BLOCK_ENTRIES     83u
#define LOG_BLOCK_ENTRIES 31u
#define RUN_SLOTS         192u   /* 8 to 17 at each of up to 9 levels and some small ones, see state_runs.c */
#define BATCH_RECORDS_MAX 32000u /* a flush is a run of the lowest level: below 32,768 entries */

struct entry {
    uint64_t high, low, value;
};
_Static_assert(sizeof(struct entry) == 24, "entries are stored as they are");

enum index { INBOX, IDS, INDICES };

#define NOT_MERGING 0xffffu
struct run {
    uint16_t slot;
    uint16_t into; /* slot of the merge that reads it, or NOT_MERGING */
    uint64_t entries;
};

/* The runs of an index, oldest first. Runs merged into one are neighbours. */
struct runs {
    MDB_dbi slots[RUN_SLOTS];
    struct run list[RUN_SLOTS];
    uint32_t count;
    uint64_t entries_merged, merges;
};

/* A bounded table of entries found by hash, thrown out by CLOCK. Entries begin with a struct cached and fill whole
 * cache lines. */
struct cached {
    uint32_t hash;
    uint32_t next; /* index + 1 */
    uint32_t pin;  /* kept while it equals the cache's pin */
    bool used;     /* since the hand came by */
};

struct cache {
    uint8_t *entries;
    uint32_t *heads;
    uint64_t hits, misses;
    uint32_t stride, capacity, bits, count, hand, pin, last;
};

/* A message looks at the first line (is it this key?) and at the third (inbox, status). */
struct cached_account {
    _Alignas(64) struct cached link;
    uint64_t serial;
    _Alignas(32) struct ch_account row;
};
_Static_assert(offsetof(struct cached_account, row.key) + 32 == 64 &&
                   offsetof(struct cached_account, row.inbox_head) == 128,
               "a look-up loads two lines");

struct cached_relation {
    _Alignas(64) struct cached link;
    uint64_t smaller, larger; /* serials of accounts */
    uint64_t serial, request_log_index, accept_log_index;
    uint64_t since_ms : 48, state : 8, by : 8;
};
_Static_assert(sizeof(struct cached_relation) == 64, "a look-up loads one line");

struct databases {
    MDB_dbi meta, accounts, keys, handles, relations, pairs, relations_of, requests, log;
};

/* What a state durable by io_uring keeps of its commits (state_sync.c). */
#define PINS 3
struct state_sync {
    struct ch_io *io;            /* NULL: nothing here is used */
    struct ch_file *data, *mark; /* data.mdb; mark, NULL where LMDB syncs each commit itself */
    uint8_t *block;             /* one, aligned: a mark's slot, or a meta page */
    bool syncing;               /* the newest commit is on its way to the disk */
    uint64_t txnid;             /* of the newest commit */
    uint64_t applied_index, applied_lsn; /* in it */
    MDB_txn *pin[PINS];         /* on commit txnid, txnid - 1, txnid - 2, each in slot number modulo PINS */
};

struct ch_state {
    MDB_env *env;
    int folder_fd;
    struct state_sync sync;
    struct databases db;
    struct runs runs[INDICES];
    uint64_t seed;

    /* The writer's, during a batch. */
    MDB_txn *txn;
    struct ch_state_meta meta; /* of the newest batch on disk */
    uint64_t accounts, relations, log_size;
    uint64_t batch_records, random_pages;
    struct cache account_cache, relation_cache;
    /* Records not yet in LMDB. */
    struct entry *fresh[INDICES], *scratch;
    uint32_t fresh_count[INDICES], fresh_max;
    struct ch_log_entry *log; /* entries from log_first on; log_first is the first of its block */
    uint64_t log_first;

    struct {
        _Atomic uint64_t batches, records, entries_merged, merges, accounts_hit, accounts_missed, relations_hit,
            relations_missed;
        _Atomic uint32_t runs;
    } counters;
};

#define CHECK_KEY_BYTES_MAX 32
struct ch_state_reader {
    const struct ch_state *state; /* of it env and db alone: constant after open */
    MDB_txn *txn;                 /* reset between calls */
    struct runs inbox, ids;       /* the directory as of this call */
    struct {                      /* ch_state_check: where it is */
        unsigned db;
        size_t key_length;
        uint8_t key[CHECK_KEY_BYTES_MAX];
        uint64_t count; /* of this database so far, */
        size_t txn;     /* all as of this transaction; 0: of several */
    } check;
};

static inline uint64_t to_big(uint64_t v)
{
    return __builtin_bswap64(v);
}
static inline MDB_val val(const void *data, size_t length)
{
    return (MDB_val){length, (void *)(uintptr_t)data};
}

/* LMDB's and the system's error as ours. */
ch_err state_err(int rc);

/* state_values.c: values carry a crc32c of key and value behind them, as LMDB's pages have none. LMDB's results;
 * MDB_CORRUPTED where the crc isn't right. */
int value_put(MDB_txn *txn, MDB_dbi db, MDB_val *key, const void *data, size_t length, unsigned flags);
int value_get(MDB_txn *txn, MDB_dbi db, MDB_val *key, MDB_val *value);
/* The same for what a cursor found: takes the crc off the value. */
int value_open(const MDB_val *key, MDB_val *value);
int value_at(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op);

/* state.c: brings the records of messages into the batch's transaction. */
CH_MUST_CHECK ch_err state_flush(struct ch_state *s);

/* state_sync.c: what makes commits durable, and finds the one that is. */
/* Before LMDB opens the folder: puts the marked commit in its place. CH_ERR_CORRUPT: none of those marked is whole. */
CH_MUST_CHECK ch_err sync_recover(struct ch_state *s, const char *folder);
/* Between these: LMDB will sync for itself, so nothing is marked from now on. */
CH_MUST_CHECK ch_err sync_leave(struct ch_state *s, const char *folder);
/* After LMDB opened it: marks what is there, where nothing is marked yet. */
CH_MUST_CHECK ch_err sync_begin(struct ch_state *s, const char *folder);
/* Whether the commit that was opened is the one that was marked. */
CH_MUST_CHECK ch_err sync_check(const struct ch_state *s);
/* Commits s->txn, which is gone afterwards. */
CH_MUST_CHECK ch_err sync_commit(struct ch_state *s, uint64_t applied_index, uint64_t applied_lsn);
/* Marks the newest commit, if nothing failed before; lets go of everything. */
void sync_close(struct ch_state *s);

/* state_runs.c */
/* `flags`: MDB_CREATE in a new file; else CH_ERR_NOT_FOUND for one that is not there. */
CH_MUST_CHECK ch_err runs_open(MDB_txn *txn, struct runs *runs, const char *name, unsigned flags);
/* Sorts the entries (scratch is of the same size) and adds them as the newest run. */
CH_MUST_CHECK ch_err runs_add(MDB_txn *txn, struct runs *runs, struct entry *entries, struct entry *scratch,
                              uint32_t count);
/* Goes on with every merge by about `budget` entries and begins those that are due. */
CH_MUST_CHECK ch_err runs_merge(MDB_txn *txn, struct runs *runs, uint64_t budget);
/* The directory's bytes. */
#define RUNS_BYTES_MAX (4 + RUN_SLOTS * 12)
size_t runs_write(const struct runs *runs, uint8_t *out);
CH_MUST_CHECK bool runs_read(struct ch_reader *r, struct runs *out);
/* The entry with this key, or the one before where there is none and `before` is wanted; CH_ERR_NOT_FOUND. */
CH_MUST_CHECK ch_err run_find(MDB_txn *txn, MDB_dbi slot, uint64_t high, uint64_t low, bool before, struct entry *out);
/* The values of entries (high, low), (high, low + 1) .. as long as they follow each other, at most `limit`. */
CH_MUST_CHECK ch_err run_scan(MDB_txn *txn, MDB_dbi slot, uint64_t high, uint64_t low, size_t limit, uint64_t *values,
                              size_t *count);

/* state_cache.c */
CH_MUST_CHECK ch_err cache_open(struct cache *c, uint32_t capacity, uint32_t stride);
void cache_close(struct cache *c);
static inline struct cached *cache_at(const struct cache *c, uint32_t entry)
{
    return (struct cached *)(c->entries + (size_t)c->stride * (entry - 1));
}
static inline uint32_t *cache_head(const struct cache *c, uint32_t hash)
{
    return &c->heads[hash >> (32 - c->bits)];
}
/* Room for a new entry of this hash, in place of an old one when the table is full. The last one returned by this and
 * cache_use, and those pinned, stay. */
struct cached *cache_insert(struct cache *c, uint32_t hash);
static inline void cache_use(struct cache *c, struct cached *entry)
{
    entry->used = true;
    c->last = (uint32_t)(((uint8_t *)entry - c->entries) / c->stride) + 1;
}

/* state_read.c: what readers and the writer look up alike, in a given transaction. */
CH_MUST_CHECK ch_err read_number(MDB_txn *txn, MDB_dbi db, const void *key, size_t length, uint64_t *out);
CH_MUST_CHECK ch_err read_log_entry(const struct ch_state *s, MDB_txn *txn, uint64_t log_index,
                                    struct ch_log_entry *out);
/* The account's row with inbox sequence and head. */
CH_MUST_CHECK ch_err read_account(const struct ch_state *s, MDB_txn *txn, const struct runs *inbox, uint64_t serial,
                                  struct ch_account *out);
/* A pair's relation without the keys. */
#define PAIR_BYTES 34
CH_MUST_CHECK ch_err read_pair(const struct ch_state *s, MDB_txn *txn, uint64_t smaller, uint64_t larger,
                               uint64_t *serial, struct ch_relation *out);
CH_MUST_CHECK ch_err read_meta(const struct ch_state *s, MDB_txn *txn, struct ch_state_meta *out);
CH_MUST_CHECK ch_err read_directory(const struct ch_state *s, MDB_txn *txn, struct runs *inbox, struct runs *ids);

#endif
