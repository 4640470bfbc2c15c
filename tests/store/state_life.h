/* tests/store/state_life.h - a made-up life of a state that anybody can repeat: commit number i does the same rows
 * whoever applies it. Every fourth record is a message to nobody (a kind without a recipient). */
#ifndef CHAPPE_TESTS_STORE_STATE_LIFE_H
#define CHAPPE_TESTS_STORE_STATE_LIFE_H

#include "store/state.h"
#include "tests/test.h"

#define ACCOUNTS 300u

static inline void key_of(uint64_t number, uint8_t key[32])
{
    struct ch_prng g;
    ch_prng_seed(&g, number * 2 + 1);
    test_random_bytes(&g, key, 32);
}

static inline void id_of(uint64_t log_index, uint8_t id[32])
{
    struct ch_prng g;
    ch_prng_seed(&g, log_index * 2 + 2);
    test_random_bytes(&g, id, 32);
    if (log_index % 5 == 0)
        memset(id, 7, 8); /* the lower half must decide, too */
}

static inline ch_err make_accounts(struct ch_state *s)
{
    for (uint64_t i = 0; i < ACCOUNTS; i++) {
        struct ch_account row = {.seal_epoch = (uint32_t)i};
        key_of(i, row.key);
        row.handle_length = (uint8_t)snprintf((char *)row.handle, sizeof row.handle, "account.%u", (unsigned)i);
        ch_err err = ch_state_account_put(s, i, &row);
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* `position` of a log entry says who the recipient is, for the checks. */
static inline ch_err apply_records(struct ch_state *s, struct ch_prng *g, uint64_t count, uint64_t *log_size)
{
    for (uint64_t k = 0; k < count; k++, ++*log_size) {
        uint64_t to = ch_prng_below(g, ACCOUNTS) * ch_prng_below(g, ACCOUNTS) / ACCOUNTS, serial;
        uint8_t key[32], id[32];
        const struct ch_account *row;
        struct ch_log_entry entry = {.position = to, .commit_index = *log_size / 3, .commit_time_ms = *log_size};
        id_of(*log_size, id);
        if (*log_size % 4) {
            key_of(to, key);
            ch_err err = ch_state_account(s, key, &serial, &row);
            if (err != CH_OK)
                return err;
            if (serial != to || memcmp(row->key, key, 32) != 0 || row->seal_epoch != to)
                return CH_ERR_CORRUPT;
            entry.inbox_sequence = row->inbox_sequence + 1;
            memcpy(entry.inbox_head, row->inbox_head, 32);
            entry.inbox_head[entry.inbox_sequence % 32] ^= (uint8_t)(to + entry.inbox_sequence);
            err = ch_state_message(s, serial, entry.inbox_sequence, entry.inbox_head, *log_size);
            if (err != CH_OK)
                return err;
        }
        ch_err err = ch_state_log_append(s, *log_size, id, &entry);
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* The rows of commit `index`, in a batch that is open. */
static inline ch_err apply_commit(struct ch_state *s, uint64_t index, uint64_t records_max, uint64_t *log_size)
{
    struct ch_prng g;
    ch_prng_seed(&g, index);
    ch_err err = index == 1 ? make_accounts(s) : CH_OK;
    return err == CH_OK ? apply_records(s, &g, ch_prng_below(&g, records_max + 1), log_size) : err;
}

/* Walks everything: inboxes against log entries, ids against the log, sequences without a gap. */
static inline void check_whole(struct ch_state_reader *reader, uint64_t step)
{
    struct ch_state_meta meta;
    assert_ok(ch_state_read_meta(reader, &meta));
    assert_int_equal(ch_load64(meta.head), meta.applied_index * 7);
    assert_int_equal(meta.applied_lsn, meta.applied_index * 100);
    uint64_t messages = 0, found = 0, serial;
    for (uint64_t i = 0; i < ACCOUNTS && meta.applied_index; i++) {
        struct ch_account row, same;
        uint64_t indices[50], last = 1, previous = 0;
        uint8_t head[32] = {0}, key[32];
        assert_ok(ch_state_read_account(reader, i, &row));
        key_of(i, key);
        assert_ok(ch_state_read_account_by_key(reader, key, &serial, &same));
        assert_int_equal(serial, i);
        assert_int_equal(same.inbox_sequence, row.inbox_sequence);
        for (uint64_t from = 1; from <= last;) {
            size_t count;
            assert_ok(ch_state_read_inbox(reader, i, from, 50, indices, &count, &last));
            assert_int_equal(last, row.inbox_sequence);
            for (size_t k = 0; k < count; k++, from++) {
                struct ch_log_entry entry;
                assert_ok(ch_state_read_log_entry(reader, indices[k], &entry));
                assert_int_equal(entry.position, i);
                assert_int_equal(entry.inbox_sequence, from);
                assert_true(from == 1 || indices[k] > previous);
                previous = indices[k];
                head[from % 32] ^= (uint8_t)(i + from);
                assert_memory_equal(entry.inbox_head, head, 32);
                messages++;
            }
            assert_true(count > 0 || last == 0);
        }
        assert_memory_equal(row.inbox_head, head, 32);
    }
    assert_int_equal(messages, meta.log_size - (meta.log_size + 3) / 4);
    for (uint64_t i = 0; i < meta.log_size; i += step) {
        uint8_t id[32];
        id_of(i, id);
        assert_ok(ch_state_read_log_index(reader, id, &found));
        assert_int_equal(found, i);
        id[15] ^= 1;
        assert_int_equal(ch_state_read_log_index(reader, id, &found), CH_ERR_NOT_FOUND);
    }
    struct ch_log_entry none;
    assert_int_equal(ch_state_read_log_entry(reader, meta.log_size, &none), CH_ERR_NOT_FOUND);
}

#endif
