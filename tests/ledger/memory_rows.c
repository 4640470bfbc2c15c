#include "tests/ledger/memory_rows.h"

static ch_err account(void *context, const uint8_t key[32], uint64_t *serial, const struct ch_account **row)
{
    struct memory_rows *m = context;
    for (uint64_t i = 0; i < m->account_count; i++)
        if (memcmp(m->accounts[i].key, key, 32) == 0) {
            *serial = m->last_account = i;
            *row = &m->accounts[i];
            return CH_OK;
        }
    return CH_ERR_NOT_FOUND;
}

static ch_err handle_taken(void *context, const uint8_t *handle, size_t length, bool *taken)
{
    struct memory_rows *m = context;
    *taken = false;
    for (uint64_t i = 0; i < m->account_count; i++)
        *taken |= m->accounts[i].handle_length == length && memcmp(m->accounts[i].handle, handle, length) == 0;
    return CH_OK;
}

static ch_err account_put(void *context, uint64_t serial, const struct ch_account *row)
{
    struct memory_rows *m = context;
    CH_ASSERT(serial <= m->account_count && serial < MEMORY_ACCOUNTS_MAX);
    m->account_count += serial == m->account_count;
    m->accounts[serial] = *row;
    return CH_OK;
}

static ch_err relation(void *context, uint64_t one, uint64_t other, uint64_t *serial, struct ch_relation *row)
{
    struct memory_rows *m = context;
    const uint8_t *a = m->accounts[one].key, *b = m->accounts[other].key;
    for (uint64_t i = 0; i < m->relation_count; i++) {
        const struct ch_relation *r = &m->relations[i];
        if ((memcmp(r->smaller, a, 32) == 0 && memcmp(r->larger, b, 32) == 0) ||
            (memcmp(r->smaller, b, 32) == 0 && memcmp(r->larger, a, 32) == 0)) {
            *serial = i;
            *row = *r;
            memset(row->smaller, 0xee, 32); /* the caller must not rely on the keys */
            memset(row->larger, 0xee, 32);
            return CH_OK;
        }
    }
    return CH_ERR_NOT_FOUND;
}

static ch_err relation_put(void *context, uint64_t serial, uint64_t smaller, uint64_t larger,
                           const struct ch_relation *row)
{
    struct memory_rows *m = context;
    CH_ASSERT(serial <= m->relation_count && serial < MEMORY_RELATIONS_MAX);
    CH_ASSERT(memcmp(m->accounts[smaller].key, row->smaller, 32) == 0);
    CH_ASSERT(memcmp(m->accounts[larger].key, row->larger, 32) == 0);
    CH_ASSERT(memcmp(row->smaller, row->larger, 32) < 0);
    m->relation_count += serial == m->relation_count;
    m->relations[serial] = *row;
    return CH_OK;
}

static ch_err requests_full(void *context, uint64_t account_serial, uint64_t since_min_ms, uint64_t limit, bool *full)
{
    struct memory_rows *m = context;
    uint64_t count = 0;
    for (uint64_t i = 0; i < m->relation_count; i++) {
        const struct ch_relation *r = &m->relations[i];
        count += r->state == CH_RELATION_REQUESTED && r->since_ms >= since_min_ms &&
                 memcmp(r->by ? r->larger : r->smaller, m->accounts[account_serial].key, 32) == 0;
    }
    *full = count >= limit;
    return CH_OK;
}

static ch_err message(void *context, uint64_t recipient, uint64_t sequence, const uint8_t head[CH_HASH_BYTES],
                      uint64_t log_index)
{
    struct memory_rows *m = context;
    CH_ASSERT(recipient == m->last_account && sequence == m->accounts[recipient].inbox_sequence + 1);
    CH_ASSERT(log_index < MEMORY_LOG_MAX);
    m->accounts[recipient].inbox_sequence = sequence;
    memcpy(m->accounts[recipient].inbox_head, head, CH_HASH_BYTES);
    m->recipients[log_index] = recipient;
    return CH_OK;
}

static ch_err log_append(void *context, uint64_t log_index, const uint8_t tx_id[CH_HASH_BYTES],
                         const struct ch_log_entry *entry)
{
    struct memory_rows *m = context;
    CH_ASSERT(log_index == m->log_size && log_index < MEMORY_LOG_MAX);
    memcpy(m->ids[log_index], tx_id, CH_HASH_BYTES);
    m->log[log_index] = *entry;
    if (entry->inbox_sequence == 0)
        m->recipients[log_index] = UINT64_MAX;
    m->log_size++;
    return CH_OK;
}

static ch_err log_entry(void *context, uint64_t log_index, struct ch_log_entry *entry)
{
    struct memory_rows *m = context;
    if (log_index >= m->log_size)
        return CH_ERR_NOT_FOUND;
    *entry = m->log[log_index];
    return CH_OK;
}

static void prefetch(void *context, unsigned step, const uint8_t *sender, const uint8_t *peer)
{
}

struct ch_ledger_rows memory_rows(struct memory_rows *rows)
{
    return (struct ch_ledger_rows){rows,          account, handle_taken, account_put, relation, relation_put,
                                   requests_full, message, log_append,   log_entry,   prefetch};
}
