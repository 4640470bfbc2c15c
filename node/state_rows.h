/* node/state_rows.h - the ledger's rows, kept in the store's state. */
#ifndef CHAPPE_NODE_STATE_ROWS_H
#define CHAPPE_NODE_STATE_ROWS_H

#include "ledger/ledger.h"
#include "store/state.h"

static inline ch_err state_rows_account(void *state, const uint8_t key[32], uint64_t *serial,
                                        const struct ch_account **row)
{
    return ch_state_account(state, key, serial, row);
}
static inline ch_err state_rows_handle_taken(void *state, const uint8_t *handle, size_t length, bool *taken)
{
    return ch_state_handle_taken(state, handle, length, taken);
}
static inline ch_err state_rows_account_put(void *state, uint64_t serial, const struct ch_account *row)
{
    return ch_state_account_put(state, serial, row);
}
static inline ch_err state_rows_relation(void *state, uint64_t one, uint64_t other, uint64_t *serial,
                                         struct ch_relation *row)
{
    return ch_state_relation(state, one, other, serial, row);
}
static inline ch_err state_rows_relation_put(void *state, uint64_t serial, uint64_t smaller, uint64_t larger,
                                             const struct ch_relation *row)
{
    return ch_state_relation_put(state, serial, smaller, larger, row);
}
static inline ch_err state_rows_requests_full(void *state, uint64_t account, uint64_t since_min_ms, uint64_t limit,
                                              bool *full)
{
    return ch_state_requests_full(state, account, since_min_ms, limit, full);
}
static inline ch_err state_rows_message(void *state, uint64_t recipient, uint64_t sequence,
                                        const uint8_t head[CH_HASH_BYTES], uint64_t log_index)
{
    return ch_state_message(state, recipient, sequence, head, log_index);
}
static inline ch_err state_rows_log_append(void *state, uint64_t log_index, const uint8_t tx_id[CH_HASH_BYTES],
                                           const struct ch_log_entry *entry)
{
    return ch_state_log_append(state, log_index, tx_id, entry);
}
static inline ch_err state_rows_log_entry(void *state, uint64_t log_index, struct ch_log_entry *entry)
{
    return ch_state_log_entry(state, log_index, entry);
}
static inline void state_rows_prefetch(void *state, unsigned step, const uint8_t *sender, const uint8_t *peer)
{
    ch_state_prefetch(state, step, sender, peer);
}

static inline struct ch_ledger_rows ch_state_rows(struct ch_state *state)
{
    return (struct ch_ledger_rows){
        .context = state,
        .account = state_rows_account,
        .handle_taken = state_rows_handle_taken,
        .account_put = state_rows_account_put,
        .relation = state_rows_relation,
        .relation_put = state_rows_relation_put,
        .requests_full = state_rows_requests_full,
        .message = state_rows_message,
        .log_append = state_rows_log_append,
        .log_entry = state_rows_log_entry,
        .prefetch = state_rows_prefetch,
    };
}

#endif
