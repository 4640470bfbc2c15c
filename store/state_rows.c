/* The rows of the ledger inside a batch: caches in front of LMDB, and the records of messages until the next flush. */
#include "store/state_impl.h"

/* Random pages a change may dirty, branch pages left out: they are shared. */
#define ACCOUNT_PAGES  3u /* keys, handles, accounts */
#define RELATION_PAGES 7u /* pairs, relations_of twice, requests up to four times */

static uint64_t mix(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static ch_err put(struct ch_state *s, MDB_dbi db, const void *key, size_t key_length, const void *data,
                  size_t data_length, unsigned flags)
{
    MDB_val k = val(key, key_length);
    int rc = value_put(s->txn, db, &k, data, data_length, flags);
    return rc == MDB_KEYEXIST ? CH_ERR_CORRUPT : state_err(rc);
}

/* --- accounts --- */

static uint32_t account_hash(const struct ch_state *s, const uint8_t key[32])
{
    return (uint32_t)(mix(mix(ch_load64(key) ^ s->seed) ^ ch_load64(key + 8)) >> 32);
}

static struct cached_account *account_cached(const struct ch_state *s, uint32_t hash, const uint8_t key[32])
{
    for (uint32_t at = *cache_head(&s->account_cache, hash); at;) {
        struct cached_account *entry = (struct cached_account *)cache_at(&s->account_cache, at);
        if (entry->link.hash == hash && memcmp(entry->row.key, key, 32) == 0)
            return entry;
        at = entry->link.next;
    }
    return NULL;
}

/* The account in the cache, read in where it was not. */
static ch_err account_entry(struct ch_state *s, const uint8_t key[32], struct cached_account **out)
{
    uint32_t hash = account_hash(s, key);
    uint64_t serial;
    struct cached_account *entry = account_cached(s, hash, key);
    if (entry) {
        s->account_cache.hits++;
        cache_use(&s->account_cache, &entry->link);
        *out = entry;
        return CH_OK;
    }
    s->account_cache.misses++;
    struct ch_account row;
    ch_err err = read_number(s->txn, s->db.keys, key, 32, &serial);
    if (err != CH_OK)
        return err;
    err = read_account(s, s->txn, &s->runs[INBOX], serial, &row);
    if (err != CH_OK)
        return err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
    entry = (struct cached_account *)cache_insert(&s->account_cache, hash);
    entry->serial = serial;
    entry->row = row;
    *out = entry;
    return CH_OK;
}

ch_err ch_state_account(struct ch_state *s, const uint8_t key[32], uint64_t *serial, const struct ch_account **row)
{
    struct cached_account *entry;
    ch_err err = account_entry(s, key, &entry);
    if (err == CH_OK) {
        *serial = entry->serial;
        *row = &entry->row;
    }
    return err;
}

ch_err ch_state_handle_taken(struct ch_state *s, const uint8_t *handle, size_t length, bool *taken)
{
    uint64_t serial;
    ch_err err = read_number(s->txn, s->db.handles, handle, length, &serial);
    if (err != CH_OK && err != CH_ERR_NOT_FOUND)
        return err;
    *taken = err == CH_OK;
    return CH_OK;
}

ch_err ch_state_account_put(struct ch_state *s, uint64_t serial, const struct ch_account *row)
{
    CH_ASSERT(serial <= s->accounts);
    struct ch_account bare = *row;
    bare.inbox_sequence = 0;
    memset(bare.inbox_head, 0, CH_HASH_BYTES);
    uint8_t bytes[CH_ACCOUNT_ROW_BYTES];
    ch_account_write(&bare, bytes);
    bool new = serial == s->accounts;
    ch_err err = put(s, s->db.accounts, &serial, 8, bytes, sizeof bytes, new ? MDB_APPEND : 0);
    if (err == CH_OK && new)
        err = put(s, s->db.keys, row->key, 32, &serial, 8, MDB_NOOVERWRITE);
    if (err == CH_OK && new)
        err = put(s, s->db.handles, row->handle, row->handle_length, &serial, 8, MDB_NOOVERWRITE);
    if (err != CH_OK)
        return err;
    s->random_pages += ACCOUNT_PAGES;
    s->accounts += new;
    uint32_t hash = account_hash(s, row->key);
    struct cached_account *entry = account_cached(s, hash, row->key);
    if (!entry) {
        entry = (struct cached_account *)cache_insert(&s->account_cache, hash);
        entry->serial = serial;
    }
    entry->row = *row;
    return CH_OK;
}

/* --- messages and the log --- */

ch_err ch_state_message(struct ch_state *s, uint64_t recipient, uint64_t sequence, const uint8_t head[CH_HASH_BYTES],
                        uint64_t log_index)
{
    CH_ASSERT(s->account_cache.last);
    struct cached_account *entry = (struct cached_account *)cache_at(&s->account_cache, s->account_cache.last);
    CH_ASSERT(entry->serial == recipient && entry->row.inbox_sequence + 1 == sequence);
    entry->row.inbox_sequence = sequence;
    memcpy(entry->row.inbox_head, head, CH_HASH_BYTES);
    entry->link.pin = s->account_cache.pin; /* LMDB has an older inbox until the next flush */
    s->fresh[INBOX][s->fresh_count[INBOX]++] = (struct entry){recipient, sequence, log_index};
    return CH_OK;
}

ch_err ch_state_log_append(struct ch_state *s, uint64_t log_index, const uint8_t tx_id[CH_HASH_BYTES],
                           const struct ch_log_entry *entry)
{
    CH_ASSERT(log_index == s->log_size);
    s->log[s->log_size++ - s->log_first] = *entry;
    s->fresh[IDS][s->fresh_count[IDS]++] =
        (struct entry){to_big(ch_load64(tx_id)), to_big(ch_load64(tx_id + 8)), log_index};
    s->batch_records++;
    return s->fresh_count[IDS] == s->fresh_max ? state_flush(s) : CH_OK;
}

ch_err ch_state_log_entry(struct ch_state *s, uint64_t log_index, struct ch_log_entry *entry)
{
    if (log_index >= s->log_size)
        return CH_ERR_NOT_FOUND;
    if (log_index < s->log_first)
        return read_log_entry(s, s->txn, log_index, entry);
    *entry = s->log[log_index - s->log_first];
    return CH_OK;
}

/* --- relations --- */

static uint32_t relation_hash(const struct ch_state *s, uint64_t smaller, uint64_t larger)
{
    return (uint32_t)(mix(mix(smaller ^ s->seed) ^ larger) >> 32);
}

static struct cached_relation *relation_cached(const struct ch_state *s, uint32_t hash, uint64_t smaller,
                                               uint64_t larger)
{
    for (uint32_t at = *cache_head(&s->relation_cache, hash); at;) {
        struct cached_relation *entry = (struct cached_relation *)cache_at(&s->relation_cache, at);
        if (entry->smaller == smaller && entry->larger == larger)
            return entry;
        at = entry->link.next;
    }
    return NULL;
}

static void cache_relation(struct cached_relation *entry, uint64_t serial, const struct ch_relation *row)
{
    entry->serial = serial;
    entry->since_ms = row->since_ms;
    entry->request_log_index = row->request_log_index;
    entry->accept_log_index = row->accept_log_index;
    entry->state = row->state;
    entry->by = row->by;
}

static struct cached_relation *new_cached_relation(struct ch_state *s, uint32_t hash, uint64_t smaller, uint64_t larger)
{
    struct cached_relation *entry = (struct cached_relation *)cache_insert(&s->relation_cache, hash);
    entry->smaller = smaller;
    entry->larger = larger;
    return entry;
}

ch_err ch_state_relation(struct ch_state *s, uint64_t one, uint64_t other, uint64_t *serial, struct ch_relation *row)
{
    uint64_t smaller = one < other ? one : other, larger = one < other ? other : one;
    uint32_t hash = relation_hash(s, smaller, larger);
    struct cached_relation *entry = relation_cached(s, hash, smaller, larger);
    if (entry) {
        s->relation_cache.hits++;
        cache_use(&s->relation_cache, &entry->link);
        *serial = entry->serial;
        row->since_ms = entry->since_ms;
        row->request_log_index = entry->request_log_index;
        row->accept_log_index = entry->accept_log_index;
        row->state = entry->state;
        row->by = entry->by;
        return CH_OK;
    }
    s->relation_cache.misses++;
    ch_err err = read_pair(s, s->txn, smaller, larger, serial, row);
    if (err == CH_OK)
        cache_relation(new_cached_relation(s, hash, smaller, larger), *serial, row);
    return err;
}

/* --- open requests --- */

struct request_key {
    uint64_t account, since_ms, relation; /* big-endian */
};

static ch_err request_count(struct ch_state *s, uint64_t account, uint64_t *count)
{
    uint64_t key = to_big(account);
    *count = 0;
    ch_err err = read_number(s->txn, s->db.requests, &key, 8, count);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

static ch_err set_request_count(struct ch_state *s, uint64_t account, uint64_t count)
{
    uint64_t key = to_big(account);
    return put(s, s->db.requests, &key, 8, &count, 8, 0);
}

static ch_err add_request(struct ch_state *s, uint64_t account, uint64_t since_ms, uint64_t relation)
{
    struct request_key key = {to_big(account), to_big(since_ms), to_big(relation)};
    uint64_t count;
    ch_err err = request_count(s, account, &count);
    if (err == CH_OK)
        err = put(s, s->db.requests, &key, sizeof key, NULL, 0, MDB_NOOVERWRITE);
    return err == CH_OK ? set_request_count(s, account, count + 1) : err;
}

/* One that expired may be out already. */
static ch_err remove_request(struct ch_state *s, uint64_t account, uint64_t since_ms, uint64_t relation)
{
    struct request_key key = {to_big(account), to_big(since_ms), to_big(relation)};
    MDB_val k = val(&key, sizeof key);
    uint64_t count;
    int rc = mdb_del(s->txn, s->db.requests, &k, NULL);
    if (rc)
        return rc == MDB_NOTFOUND ? CH_OK : state_err(rc);
    ch_err err = request_count(s, account, &count);
    if (err != CH_OK)
        return err;
    return count ? set_request_count(s, account, count - 1) : CH_ERR_CORRUPT;
}

ch_err ch_state_requests_full(struct ch_state *s, uint64_t account, uint64_t since_min_ms, uint64_t limit, bool *full)
{
    uint64_t count;
    ch_err err = request_count(s, account, &count);
    if (err != CH_OK)
        return err;
    if (count < limit) {
        *full = false;
        return CH_OK;
    }
    /* The oldest come first; what expired goes, once. */
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(s->txn, s->db.requests, &cursor);
    if (rc)
        return state_err(rc);
    uint64_t left = count;
    while (left >= limit && left > 0) {
        struct request_key first = {to_big(account), 0, 0};
        MDB_val k = val(&first, sizeof first), v;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        if (rc || k.mv_size != sizeof first || memcmp(k.mv_data, &first, 8) != 0) {
            err = rc && rc != MDB_NOTFOUND ? state_err(rc) : CH_ERR_CORRUPT; /* fewer than counted */
            break;
        }
        if (to_big(ch_load64((const uint8_t *)k.mv_data + 8)) >= since_min_ms)
            break;
        rc = mdb_cursor_del(cursor, 0);
        if (rc) {
            err = state_err(rc);
            break;
        }
        left--;
    }
    mdb_cursor_close(cursor);
    if (err == CH_OK && left != count)
        err = set_request_count(s, account, left);
    if (err == CH_OK)
        *full = left >= limit;
    return err;
}

static ch_err put_pair(struct ch_state *s, uint64_t low, uint64_t high, uint64_t serial, const struct ch_relation *row)
{
    const uint64_t pair[2] = {to_big(low), to_big(high)};
    uint8_t bytes[PAIR_BYTES];
    ch_store64(bytes, serial);
    ch_store64(bytes + 8, row->since_ms);
    ch_store64(bytes + 16, row->request_log_index);
    ch_store64(bytes + 24, row->accept_log_index);
    bytes[32] = row->state;
    bytes[33] = row->by;
    return put(s, s->db.pairs, pair, sizeof pair, bytes, sizeof bytes, 0);
}

/* What never changes of a relation: whose it is. */
static ch_err put_new_relation(struct ch_state *s, uint64_t low, uint64_t high, uint64_t serial)
{
    const uint64_t accounts[2] = {low, high};
    const uint64_t of_low[2] = {to_big(low), to_big(serial)}, of_high[2] = {to_big(high), to_big(serial)};
    ch_err err = put(s, s->db.relations, &serial, 8, accounts, sizeof accounts, MDB_APPEND);
    if (err == CH_OK)
        err = put(s, s->db.relations_of, of_low, sizeof of_low, NULL, 0, MDB_NOOVERWRITE);
    return err == CH_OK ? put(s, s->db.relations_of, of_high, sizeof of_high, NULL, 0, MDB_NOOVERWRITE) : err;
}

ch_err ch_state_relation_put(struct ch_state *s, uint64_t serial, uint64_t smaller, uint64_t larger,
                             const struct ch_relation *row)
{
    CH_ASSERT(serial <= s->relations);
    bool new = serial == s->relations;
    uint64_t low = smaller < larger ? smaller : larger, high = smaller < larger ? larger : smaller;
    uint32_t hash = relation_hash(s, low, high);
    struct cached_relation *entry = relation_cached(s, hash, low, high);
    struct ch_relation old = {.state = CH_RELATION_NONE};
    ch_err err = CH_OK;
    if (entry) {
        old.state = entry->state;
        old.by = entry->by;
        old.since_ms = entry->since_ms;
    } else if (!new) {
        uint64_t found;
        err = read_pair(s, s->txn, low, high, &found, &old);
        if (err == CH_ERR_NOT_FOUND || (err == CH_OK && found != serial))
            err = CH_ERR_CORRUPT;
    }
    if (err == CH_OK && old.state == CH_RELATION_REQUESTED)
        err = remove_request(s, old.by ? larger : smaller, old.since_ms, serial);
    if (err == CH_OK && row->state == CH_RELATION_REQUESTED)
        err = add_request(s, row->by ? larger : smaller, row->since_ms, serial);
    if (err == CH_OK)
        err = put_pair(s, low, high, serial, row);
    if (err == CH_OK && new)
        err = put_new_relation(s, low, high, serial);
    if (err != CH_OK)
        return err;
    s->random_pages += RELATION_PAGES;
    s->relations += new;
    cache_relation(entry ? entry : new_cached_relation(s, hash, low, high), serial, row);
    return CH_OK;
}

/* --- loading ahead --- */

static const uint8_t *first_in(const struct cache *c, uint32_t hash)
{
    uint32_t at = *cache_head(c, hash);
    return at ? (const uint8_t *)cache_at(c, at) : NULL;
}

static void prefetch_account(const struct ch_state *s, const uint8_t key[32])
{
    const uint8_t *entry = first_in(&s->account_cache, account_hash(s, key));
    if (!entry)
        return;
    __builtin_prefetch(entry, 1);
    __builtin_prefetch(entry + offsetof(struct cached_account, row.inbox_head), 1);
}

/* The account's bucket, its entry; then the relation's bucket, which takes both serials, and its entry. */
void ch_state_prefetch(const struct ch_state *s, unsigned step, const uint8_t *sender, const uint8_t *peer)
{
    if (step == 0) {
        __builtin_prefetch(cache_head(&s->account_cache, account_hash(s, sender)));
        if (peer)
            __builtin_prefetch(cache_head(&s->account_cache, account_hash(s, peer)));
        return;
    }
    if (step == 1) {
        prefetch_account(s, sender);
        if (peer)
            prefetch_account(s, peer);
        return;
    }
    const struct cached_account *one = account_cached(s, account_hash(s, sender), sender);
    const struct cached_account *other = peer ? account_cached(s, account_hash(s, peer), peer) : NULL;
    if (!one || !other)
        return;
    bool swap = one->serial > other->serial;
    uint32_t hash = relation_hash(s, swap ? other->serial : one->serial, swap ? one->serial : other->serial);
    if (step == 2)
        __builtin_prefetch(cache_head(&s->relation_cache, hash));
    else
        __builtin_prefetch(first_in(&s->relation_cache, hash));
}
