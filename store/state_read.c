#include "store/state_impl.h"

#include <stdlib.h>

ch_err read_number(MDB_txn *txn, MDB_dbi db, const void *key, size_t length, uint64_t *out)
{
    MDB_val k = val(key, length), v;
    int rc = value_get(txn, db, &k, &v);
    if (rc)
        return state_err(rc);
    if (v.mv_size != 8)
        return CH_ERR_CORRUPT;
    *out = ch_load64(v.mv_data);
    return CH_OK;
}

ch_err read_log_entry(const struct ch_state *s, MDB_txn *txn, uint64_t log_index, struct ch_log_entry *out)
{
    uint64_t block = log_index / LOG_BLOCK_ENTRIES;
    MDB_val k = val(&block, sizeof block), v;
    int rc = value_get(txn, s->db.log, &k, &v);
    if (rc)
        return state_err(rc);
    size_t at = log_index % LOG_BLOCK_ENTRIES * CH_LOG_ENTRY_BYTES;
    if (at + CH_LOG_ENTRY_BYTES > v.mv_size)
        return CH_ERR_NOT_FOUND;
    ch_log_entry_read((const uint8_t *)v.mv_data + at, out);
    return CH_OK;
}

ch_err read_account(const struct ch_state *s, MDB_txn *txn, const struct runs *inbox, uint64_t serial,
                    struct ch_account *out)
{
    MDB_val k = val(&serial, sizeof serial), v;
    int rc = value_get(txn, s->db.accounts, &k, &v);
    if (rc)
        return state_err(rc);
    if (v.mv_size != CH_ACCOUNT_ROW_BYTES || !ch_account_read(v.mv_data, out))
        return CH_ERR_CORRUPT;
    /* Newer runs have the greater sequences. */
    for (uint32_t i = inbox->count; i-- > 0;) {
        struct entry newest;
        ch_err err = run_find(txn, inbox->slots[inbox->list[i].slot], serial, UINT64_MAX, true, &newest);
        if (err == CH_ERR_NOT_FOUND || (err == CH_OK && newest.high != serial))
            continue;
        if (err != CH_OK)
            return err;
        struct ch_log_entry entry;
        err = read_log_entry(s, txn, newest.value, &entry);
        if (err != CH_OK || entry.inbox_sequence != newest.low)
            return err == CH_OK || err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
        out->inbox_sequence = entry.inbox_sequence;
        memcpy(out->inbox_head, entry.inbox_head, CH_HASH_BYTES);
        break;
    }
    return CH_OK;
}

ch_err read_pair(const struct ch_state *s, MDB_txn *txn, uint64_t smaller, uint64_t larger, uint64_t *serial,
                 struct ch_relation *out)
{
    const uint64_t pair[2] = {to_big(smaller), to_big(larger)};
    MDB_val k = val(pair, sizeof pair), v;
    int rc = value_get(txn, s->db.pairs, &k, &v);
    if (rc)
        return state_err(rc);
    const uint8_t *bytes = v.mv_data;
    if (v.mv_size != PAIR_BYTES || bytes[32] > CH_RELATION_UNBOUND || bytes[33] > 1)
        return CH_ERR_CORRUPT;
    *serial = ch_load64(bytes);
    out->since_ms = ch_load64(bytes + 8);
    out->request_log_index = ch_load64(bytes + 16);
    out->accept_log_index = ch_load64(bytes + 24);
    out->state = bytes[32];
    out->by = bytes[33];
    return CH_OK;
}

/* The key alone: the first bytes of an account's row. */
static ch_err read_key(const struct ch_state *s, MDB_txn *txn, uint64_t serial, uint8_t key[32])
{
    MDB_val k = val(&serial, sizeof serial), v;
    int rc = value_get(txn, s->db.accounts, &k, &v);
    if (rc || v.mv_size != CH_ACCOUNT_ROW_BYTES)
        return rc && rc != MDB_NOTFOUND ? state_err(rc) : CH_ERR_CORRUPT;
    memcpy(key, v.mv_data, 32);
    return CH_OK;
}

static ch_err read_relation(const struct ch_state *s, MDB_txn *txn, uint64_t serial, struct ch_relation *out)
{
    MDB_val k = val(&serial, sizeof serial), v;
    int rc = value_get(txn, s->db.relations, &k, &v);
    if (rc)
        return state_err(rc);
    if (v.mv_size != 16)
        return CH_ERR_CORRUPT;
    uint64_t one = ch_load64(v.mv_data), other = ch_load64((const uint8_t *)v.mv_data + 8), found;
    uint8_t keys[2][32];
    struct ch_relation row;
    ch_err err = read_pair(s, txn, one, other, &found, &row);
    if (err == CH_ERR_NOT_FOUND || (err == CH_OK && found != serial))
        err = CH_ERR_CORRUPT;
    if (err == CH_OK)
        err = read_key(s, txn, one, keys[0]);
    if (err == CH_OK)
        err = read_key(s, txn, other, keys[1]);
    if (err != CH_OK)
        return err;
    bool swap = memcmp(keys[0], keys[1], 32) > 0; /* serials are in another order than keys */
    memcpy(row.smaller, keys[swap], 32);
    memcpy(row.larger, keys[!swap], 32);
    *out = row;
    return CH_OK;
}

ch_err read_meta(const struct ch_state *s, MDB_txn *txn, struct ch_state_meta *out)
{
    MDB_val k = val("state", 5), v;
    int rc = value_get(txn, s->db.meta, &k, &v);
    if (rc == MDB_NOTFOUND) {
        memset(out, 0, sizeof *out);
        return CH_OK;
    }
    if (rc)
        return state_err(rc);
    struct ch_reader r = ch_reader(v.mv_data, v.mv_size);
    uint32_t version = ch_read32(&r), length = ch_read32(&r);
    uint64_t applied_index = ch_read64(&r), applied_lsn = ch_read64(&r);
    uint64_t accounts = ch_read64(&r), relations = ch_read64(&r), log_size = ch_read64(&r);
    const uint8_t *head = ch_read(&r, length);
    if (version != 2 || length > CH_STATE_HEAD_BYTES_MAX || !ch_reader_done(&r))
        return CH_ERR_CORRUPT;
    *out = (struct ch_state_meta){applied_index, applied_lsn, accounts, relations, log_size, length, {0}};
    memcpy(out->head, head, length);
    return CH_OK;
}

ch_err read_directory(const struct ch_state *s, MDB_txn *txn, struct runs *inbox, struct runs *ids)
{
    MDB_val k = val("runs", 4), v;
    int rc = value_get(txn, s->db.meta, &k, &v);
    inbox->count = ids->count = 0;
    if (rc == MDB_NOTFOUND)
        return CH_OK;
    if (rc)
        return state_err(rc);
    struct ch_reader r = ch_reader(v.mv_data, v.mv_size);
    return runs_read(&r, inbox) && runs_read(&r, ids) && ch_reader_done(&r) ? CH_OK : CH_ERR_CORRUPT;
}

/* --- readers --- */

ch_err ch_state_reader_open(struct ch_state *s, struct ch_state_reader **out)
{
    struct ch_state_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return CH_ERR_NO_MEMORY;
    reader->state = s;
    memcpy(reader->inbox.slots, s->runs[INBOX].slots, sizeof reader->inbox.slots);
    memcpy(reader->ids.slots, s->runs[IDS].slots, sizeof reader->ids.slots);
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &reader->txn);
    if (rc) {
        free(reader);
        return state_err(rc);
    }
    mdb_txn_reset(reader->txn);
    *out = reader;
    return CH_OK;
}

void ch_state_reader_close(struct ch_state_reader *reader)
{
    if (!reader)
        return;
    mdb_txn_abort(reader->txn);
    free(reader);
}

static ch_err renew(struct ch_state_reader *reader)
{
    return state_err(mdb_txn_renew(reader->txn));
}

static ch_err done(struct ch_state_reader *reader, ch_err err)
{
    mdb_txn_reset(reader->txn);
    return err;
}

/* The account whose serial is found in `db` under `key`. */
static ch_err read_account_by(struct ch_state_reader *reader, MDB_dbi db, const void *key, size_t length,
                              uint64_t *serial, struct ch_account *row)
{
    const struct ch_state *s = reader->state;
    uint64_t found;
    struct ch_account account;
    ch_err err = renew(reader);
    if (err != CH_OK)
        return err;
    err = read_number(reader->txn, db, key, length, &found);
    if (err == CH_OK)
        err = read_directory(s, reader->txn, &reader->inbox, &reader->ids);
    if (err == CH_OK) {
        err = read_account(s, reader->txn, &reader->inbox, found, &account);
        err = err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
    }
    if (err == CH_OK) {
        *serial = found;
        *row = account;
    }
    return done(reader, err);
}

ch_err ch_state_read_account_by_key(struct ch_state_reader *reader, const uint8_t key[32], uint64_t *serial,
                                    struct ch_account *row)
{
    return read_account_by(reader, reader->state->db.keys, key, 32, serial, row);
}

ch_err ch_state_read_account_by_handle(struct ch_state_reader *reader, const uint8_t *handle, size_t length,
                                       uint64_t *serial, struct ch_account *row)
{
    if (length == 0 || length > 32)
        return CH_ERR_NOT_FOUND;
    return read_account_by(reader, reader->state->db.handles, handle, length, serial, row);
}

ch_err ch_state_read_account(struct ch_state_reader *reader, uint64_t serial, struct ch_account *row)
{
    struct ch_account account;
    ch_err err = renew(reader);
    if (err != CH_OK)
        return err;
    err = read_directory(reader->state, reader->txn, &reader->inbox, &reader->ids);
    if (err == CH_OK)
        err = read_account(reader->state, reader->txn, &reader->inbox, serial, &account);
    if (err == CH_OK)
        *row = account;
    return done(reader, err);
}

ch_err ch_state_read_serial(struct ch_state_reader *reader, const uint8_t key[32], uint64_t *serial)
{
    ch_err err = renew(reader);
    return err != CH_OK ? err : done(reader, read_number(reader->txn, reader->state->db.keys, key, 32, serial));
}

ch_err ch_state_read_relation(struct ch_state_reader *reader, uint64_t serial, struct ch_relation *row)
{
    ch_err err = renew(reader);
    return err != CH_OK ? err : done(reader, read_relation(reader->state, reader->txn, serial, row));
}

ch_err ch_state_read_relations(struct ch_state_reader *reader, uint64_t account, uint64_t from, size_t limit,
                               uint64_t *serials, struct ch_relation *rows, size_t *count, bool *more)
{
    MDB_cursor *cursor;
    size_t found = 0;
    bool others = false;
    ch_err err = renew(reader);
    if (err != CH_OK)
        return err;
    int rc = mdb_cursor_open(reader->txn, reader->state->db.relations_of, &cursor);
    if (rc)
        return done(reader, state_err(rc));
    const uint64_t wanted[2] = {to_big(account), to_big(from)};
    MDB_val key = val(wanted, sizeof wanted), data;
    rc = value_at(cursor, &key, &data, MDB_SET_RANGE);
    for (; rc == 0 && err == CH_OK; rc = value_at(cursor, &key, &data, MDB_NEXT)) {
        if (key.mv_size != sizeof wanted) {
            err = CH_ERR_CORRUPT;
            break;
        }
        if (memcmp(key.mv_data, wanted, 8) != 0)
            break;
        others = found == limit;
        if (others)
            break;
        serials[found] = to_big(ch_load64((const uint8_t *)key.mv_data + 8));
        err = read_relation(reader->state, reader->txn, serials[found], &rows[found]);
        err = err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
        found++;
    }
    mdb_cursor_close(cursor);
    if (err == CH_OK && rc && rc != MDB_NOTFOUND)
        err = state_err(rc);
    if (err == CH_OK) {
        *count = found;
        *more = others;
    }
    return done(reader, err);
}

ch_err ch_state_read_inbox(struct ch_state_reader *reader, uint64_t account, uint64_t from, size_t limit,
                           uint64_t *log_indices, size_t *count, uint64_t *last)
{
    struct ch_account row;
    size_t found = 0;
    if (from == 0)
        from = 1;
    ch_err err = renew(reader);
    if (err != CH_OK)
        return err;
    err = read_directory(reader->state, reader->txn, &reader->inbox, &reader->ids);
    if (err == CH_OK)
        err = read_account(reader->state, reader->txn, &reader->inbox, account, &row);
    if (err == CH_ERR_NOT_FOUND) {
        *count = 0;
        *last = 0;
        return done(reader, CH_OK);
    }
    const struct runs *inbox = &reader->inbox;
    uint64_t newest = err == CH_OK ? row.inbox_sequence : 0;
    if (from <= newest && limit > newest - from + 1)
        limit = newest - from + 1;
    for (uint32_t i = 0; err == CH_OK && from <= newest && i < inbox->count && found < limit; i++) {
        size_t here;
        err = run_scan(reader->txn, inbox->slots[inbox->list[i].slot], account, from + found, limit - found,
                       log_indices + found, &here);
        found += here;
    }
    if (err == CH_OK && from <= newest && found < limit)
        err = CH_ERR_CORRUPT;
    if (err == CH_OK) {
        *count = found;
        *last = newest;
    }
    return done(reader, err);
}

ch_err ch_state_read_log_entry(struct ch_state_reader *reader, uint64_t log_index, struct ch_log_entry *entry)
{
    ch_err err = renew(reader);
    return err != CH_OK ? err : done(reader, read_log_entry(reader->state, reader->txn, log_index, entry));
}

ch_err ch_state_read_log_index(struct ch_state_reader *reader, const uint8_t tx_id[CH_HASH_BYTES], uint64_t *log_index)
{
    struct entry e;
    ch_err err = renew(reader);
    if (err != CH_OK)
        return err;
    err = read_directory(reader->state, reader->txn, &reader->inbox, &reader->ids);
    const struct runs *ids = &reader->ids;
    bool found = false;
    for (uint32_t i = ids->count; err == CH_OK && !found && i-- > 0;) {
        err = run_find(reader->txn, ids->slots[ids->list[i].slot], to_big(ch_load64(tx_id)),
                       to_big(ch_load64(tx_id + 8)), false, &e);
        found = err == CH_OK;
        err = err == CH_ERR_NOT_FOUND ? CH_OK : err;
    }
    if (found)
        *log_index = e.value;
    return done(reader, err == CH_OK && !found ? CH_ERR_NOT_FOUND : err);
}

ch_err ch_state_read_meta(struct ch_state_reader *reader, struct ch_state_meta *meta)
{
    ch_err err = renew(reader);
    return err != CH_OK ? err : done(reader, read_meta(reader->state, reader->txn, meta));
}
