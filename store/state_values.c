/* store/state_values.c - what LMDB keeps, with a checksum, and the walk that looks at all of it. */
#include "store/crc32c_impl.h"
#include "store/state_impl.h"

#define CRC_BYTES 4

static uint32_t crc_of(const MDB_val *key, const void *data, size_t length)
{
    uint32_t crc = crc32_iscsi(key->mv_data, (int)key->mv_size, ~0u);
    return ~(length ? crc32_iscsi((unsigned char *)(uintptr_t)data, (int)length, crc) : crc);
}

int value_put(MDB_txn *txn, MDB_dbi db, MDB_val *key, const void *data, size_t length, unsigned flags)
{
    uint32_t crc = crc_of(key, data, length);
    MDB_val value = {length + CRC_BYTES, NULL};
    int rc = mdb_put(txn, db, key, &value, flags | MDB_RESERVE);
    if (rc)
        return rc;
    if (length)
        memcpy(value.mv_data, data, length);
    ch_store32((uint8_t *)value.mv_data + length, crc);
    return 0;
}

int value_open(const MDB_val *key, MDB_val *value)
{
    if (value->mv_size < CRC_BYTES || value->mv_size > CH_STATE_VALUE_BYTES_MAX || key->mv_size > CHECK_KEY_BYTES_MAX)
        return MDB_CORRUPTED;
    value->mv_size -= CRC_BYTES;
    return ch_load32((const uint8_t *)value->mv_data + value->mv_size) == crc_of(key, value->mv_data, value->mv_size)
               ? 0
               : MDB_CORRUPTED;
}

int value_get(MDB_txn *txn, MDB_dbi db, MDB_val *key, MDB_val *value)
{
    int rc = mdb_get(txn, db, key, value);
    return rc ? rc : value_open(key, value);
}

int value_at(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op)
{
    int rc = mdb_cursor_get(cursor, key, value, op);
    return rc ? rc : value_open(key, value);
}

/* --- the walk --- */

static bool database(const struct ch_state *s, unsigned number, MDB_dbi *db)
{
    const MDB_dbi plain[] = {s->db.meta,  s->db.accounts,     s->db.keys,     s->db.handles, s->db.relations,
                             s->db.pairs, s->db.relations_of, s->db.requests, s->db.log};
    const unsigned plain_count = sizeof plain / sizeof *plain;
    if (number < plain_count)
        *db = plain[number];
    else if (number < plain_count + INDICES * RUN_SLOTS)
        *db = s->runs[(number - plain_count) / RUN_SLOTS].slots[(number - plain_count) % RUN_SLOTS];
    else
        return false;
    return true;
}

/* An entry found by going along is also found by its key, in the same place. */
static int check_entry(MDB_txn *txn, MDB_dbi db, MDB_val *key, MDB_val *value)
{
    MDB_val found;
    int rc = value_open(key, value);
    if (rc == 0)
        rc = mdb_get(txn, db, key, &found);
    return rc == MDB_NOTFOUND || (rc == 0 && found.mv_data != value->mv_data) ? MDB_CORRUPTED : rc;
}

/* Goes through one database, from after the key where it stopped; *ended when it came to the end. */
static int check_database(struct ch_state_reader *r, MDB_dbi db, uint64_t *left, bool *ended)
{
    MDB_cursor *cursor;
    MDB_val key = val(r->check.key, r->check.key_length), value, last = {0};
    MDB_stat stat;
    const size_t txn = mdb_txn_id(r->txn);
    const bool begins = r->check.key_length == 0;
    *ended = false;
    if (begins) {
        r->check.count = 0;
        r->check.txn = txn;
    } else if (r->check.txn != txn) {
        r->check.txn = 0;
    } else {
        r->check.count--; /* the key where it stopped is met again */
    }
    int rc = mdb_stat(r->txn, db, &stat);
    if (rc == 0)
        rc = mdb_cursor_open(r->txn, db, &cursor);
    if (rc)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, begins ? MDB_FIRST : MDB_SET_RANGE);
    while (rc == 0 && *left) {
        rc = check_entry(r->txn, db, &key, &value);
        if (rc == 0 && last.mv_size && mdb_cmp(r->txn, db, &last, &key) >= 0)
            rc = MDB_CORRUPTED;
        if (rc)
            break;
        last = key;
        r->check.count++;
        --*left;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (rc == MDB_NOTFOUND) {
        *ended = true;
        rc = r->check.txn && r->check.count != stat.ms_entries ? MDB_CORRUPTED : 0;
    }
    if (last.mv_size) {
        r->check.key_length = last.mv_size;
        memcpy(r->check.key, last.mv_data, last.mv_size);
    }
    mdb_cursor_close(cursor);
    return rc;
}

ch_err ch_state_check(struct ch_state_reader *r, uint64_t entries_max, bool *passed)
{
    MDB_dbi db;
    CH_ASSERT(entries_max >= 2); /* where a call ends the next one begins */
    int rc = mdb_txn_renew(r->txn);
    *passed = false;
    if (rc)
        return state_err(rc);
    for (uint64_t left = entries_max; rc == 0 && left && !*passed;) {
        bool ended = false;
        if (database(r->state, r->check.db, &db))
            rc = check_database(r, db, &left, &ended);
        else
            *passed = true;
        if (ended || *passed) {
            r->check.db = *passed ? 0 : r->check.db + 1;
            r->check.key_length = 0;
        }
    }
    mdb_txn_reset(r->txn);
    return state_err(rc);
}
