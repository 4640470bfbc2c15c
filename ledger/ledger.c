#include "ledger/ledger_impl.h"

#include <stdlib.h>

#define PREFETCH_STRIDE 4 /* items between two steps; long enough to hide a cache miss behind the hashing of others */

void ch_ledger_head_write(const struct ch_ledger_head *head, uint8_t out[CH_LEDGER_HEAD_BYTES])
{
    const uint64_t numbers[5] = {head->commit_index, head->commit_time_ms, head->accounts, head->relations,
                                 head->log.size};
    for (unsigned i = 0; i < 5; i++)
        ch_store64(out + 8 * i, numbers[i]);
    memset(out + 40, 0, CH_LEDGER_HEAD_BYTES - 40);
    for (unsigned level = 0; level < CH_MERKLE_DEPTH_MAX; level++)
        if (head->log.size >> level & 1) /* other levels hold what is left of former subtrees */
            memcpy(out + 40 + (size_t)CH_HASH_BYTES * level, head->log.full[level], CH_HASH_BYTES);
}

void ch_ledger_head_read(const uint8_t in[CH_LEDGER_HEAD_BYTES], struct ch_ledger_head *out)
{
    out->commit_index = ch_load64(in);
    out->commit_time_ms = ch_load64(in + 8);
    out->accounts = ch_load64(in + 16);
    out->relations = ch_load64(in + 24);
    out->log.size = ch_load64(in + 32);
    memcpy(out->log.full, in + 40, sizeof out->log.full);
}

ch_err ch_ledger_open(const struct ch_ledger_options *options, struct ch_ledger **out)
{
    const struct ch_genesis *g = options->genesis;
    struct ch_ledger *l = calloc(1, sizeof *l);
    if (!l)
        return CH_ERR_NO_MEMORY;
    l->rows = options->rows;
    l->limits = g->limits;
    l->require_relation = g->require_relation;
    l->registrar_count = g->registrar_count;
    memcpy(l->registrars, g->registrars, sizeof l->registrars);
    if (options->head)
        l->head = *options->head;
    else
        l->head.commit_time_ms = g->start_ms;
    ch_err err = window_init(&l->window, l->limits.window_back_ms, l->limits.window_ahead_ms, l->limits.window_ids,
                             options->seed, l->head.commit_time_ms);
    if (err == CH_OK)
        err = ch_hash_many_open(&l->hashes);
    if (err != CH_OK) {
        ch_ledger_close(l);
        return err;
    }
    *out = l;
    return CH_OK;
}

void ch_ledger_close(struct ch_ledger *l)
{
    if (!l)
        return;
    window_free(&l->window);
    ch_hash_many_close(l->hashes);
    free(l);
}

ch_err ch_ledger_remember(struct ch_ledger *l, const uint8_t tx_id[CH_HASH_BYTES], uint64_t timestamp_ms,
                          uint64_t log_index)
{
    if (timestamp_ms < l->window.floor_ms)
        return CH_OK;
    if (timestamp_ms > l->head.commit_time_ms + l->limits.window_ahead_ms || log_index >= l->head.log.size)
        return CH_ERR_INVALID;
    if (window_find(&l->window, tx_id))
        return CH_ERR_EXISTS;
    if (l->window.used >= l->window.ids_max)
        return CH_ERR_FULL;
    window_insert(&l->window, tx_id, timestamp_ms, log_index);
    return CH_OK;
}

const struct ch_ledger_head *ch_ledger_head(const struct ch_ledger *l)
{
    return &l->head;
}

uint64_t ch_ledger_window_used(const struct ch_ledger *l)
{
    return l->window.used;
}

static void leaf_bytes(const uint8_t tx_id[CH_HASH_BYTES], const struct ch_log_entry *entry,
                       uint8_t out[LEAF_INPUT_BYTES])
{
    out[0] = 0;
    memcpy(out + 1, tx_id, CH_HASH_BYTES);
    ch_store64(out + 33, entry->commit_index);
    ch_store64(out + 41, entry->commit_time_ms);
    ch_store64(out + 49, entry->inbox_sequence);
    memcpy(out + 57, entry->inbox_head, CH_HASH_BYTES);
}

void ch_ledger_log_leaf(const uint8_t tx_id[CH_HASH_BYTES], const struct ch_log_entry *entry,
                        uint8_t leaf[CH_HASH_BYTES])
{
    uint8_t bytes[LEAF_INPUT_BYTES];
    leaf_bytes(tx_id, entry, bytes);
    ch_hash(bytes, sizeof bytes, leaf);
}

void ch_ledger_inbox_head(const uint8_t head[CH_HASH_BYTES], const uint8_t tx_id[CH_HASH_BYTES], uint64_t sequence,
                          uint8_t next[CH_HASH_BYTES])
{
    static const char domain[] = "chappe/inbox/1";
    uint8_t bytes[sizeof domain + 2 * CH_HASH_BYTES + 8];
    memcpy(bytes, domain, sizeof domain);
    memcpy(bytes + sizeof domain, head, CH_HASH_BYTES);
    memcpy(bytes + sizeof domain + CH_HASH_BYTES, tx_id, CH_HASH_BYTES);
    ch_store64(bytes + sizeof domain + 2 * CH_HASH_BYTES, sequence);
    ch_hash(bytes, sizeof bytes, next);
}

/* The leaves of a burst are hashed together: the tree is needed only between commits. */
static void append_leaves(struct ch_ledger *l)
{
    struct ch_bytes inputs[LEAVES_MAX];
    uint8_t leaves[LEAVES_MAX][CH_HASH_BYTES];
    for (unsigned i = 0; i < l->leaf_count; i++)
        inputs[i] = (struct ch_bytes){l->leaf_inputs[i], LEAF_INPUT_BYTES};
    ch_hash_many(l->hashes, inputs, l->leaf_count, leaves);
    for (unsigned i = 0; i < l->leaf_count; i++)
        ch_merkle_append(&l->head.log, leaves[i]);
    l->leaf_count = 0;
}

static ch_err write_log(struct call *c)
{
    struct ch_ledger *l = c->ledger;
    struct ch_log_entry entry = {.position = c->item->position,
                                 .commit_index = c->commit_index,
                                 .commit_time_ms = c->time_ms,
                                 .inbox_sequence = c->inbox_sequence};
    memcpy(entry.inbox_head, c->inbox_head, CH_HASH_BYTES);
    window_insert(&l->window, c->item->tx_id, c->tx->timestamp_ms, c->log_index);
    leaf_bytes(c->item->tx_id, &entry, l->leaf_inputs[l->leaf_count++]);
    if (l->leaf_count == LEAVES_MAX)
        append_leaves(l);
    return l->rows.log_append(l->rows.context, c->log_index, c->item->tx_id, &entry);
}

/* A duplicate's receipt shows where the first one is. */
static ch_err show_first(struct ch_ledger *l, const struct window_entry *first, struct ch_receipt *receipt)
{
    struct ch_log_entry entry;
    ch_err err = l->rows.log_entry(l->rows.context, first->log_index, &entry);
    if (err != CH_OK)
        return err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
    receipt->log_index = first->log_index;
    receipt->commit_index = entry.commit_index;
    receipt->commit_time_ms = entry.commit_time_ms;
    receipt->inbox_sequence = entry.inbox_sequence;
    return CH_OK;
}

/* What holds for every kind, in the order that names the refusal. */
static enum ch_status check_form(const struct call *c, const struct window_entry **first)
{
    const struct ch_ledger *l = c->ledger;
    if (!c->tx)
        return CH_STATUS_MALFORMED;
    if (!c->item->signature_ok)
        return CH_STATUS_BAD_SIGNATURE;
    if (c->tx->timestamp_ms < l->window.floor_ms)
        return CH_STATUS_TOO_OLD;
    if (c->tx->timestamp_ms > c->time_ms + l->limits.window_ahead_ms)
        return CH_STATUS_TOO_EARLY;
    *first = window_find(&l->window, c->item->tx_id);
    if (*first)
        return CH_STATUS_DUPLICATE;
    return l->window.used >= l->window.ids_max ? CH_STATUS_WINDOW_FULL : CH_STATUS_OK;
}

static ch_err apply_one(struct call *c, struct ch_receipt *receipt)
{
    const struct window_entry *first = NULL;
    *receipt = (struct ch_receipt){.level = CH_LEVEL_FINAL};
    memcpy(receipt->tx_id, c->item->tx_id, CH_HASH_BYTES);
    c->status = check_form(c, &first);
    receipt->status = c->status;
    if (first)
        return show_first(c->ledger, first, receipt);
    if (c->status != CH_STATUS_OK)
        return CH_OK;
    c->log_index = c->ledger->head.log.size + c->ledger->leaf_count;
    ch_err err = apply_rules(c);
    receipt->status = c->status;
    if (err != CH_OK || c->status != CH_STATUS_OK)
        return err;
    receipt->commit_index = c->commit_index;
    receipt->log_index = c->log_index;
    receipt->inbox_sequence = c->inbox_sequence;
    receipt->commit_time_ms = c->time_ms;
    return write_log(c);
}

/* Before item i is applied: each step of loading ahead, for an item farther on. First the item's own bytes, which
 * another stage wrote, then what the window and the rows will look at. */
static void prefetch(const struct ch_ledger *l, const struct ch_ledger_item *items, size_t count, size_t i)
{
    size_t at = i + (size_t)PREFETCH_STRIDE * (CH_LEDGER_PREFETCH_STEPS + 2);
    if (at < count && items[at].tx) {
        __builtin_prefetch(items[at].tx);
        __builtin_prefetch(items[at].tx_id);
    }
    at -= PREFETCH_STRIDE;
    if (at < count && items[at].tx) {
        __builtin_prefetch(items[at].tx->sender);
        __builtin_prefetch(items[at].tx->peer);
    }
    for (unsigned step = 0; step < CH_LEDGER_PREFETCH_STEPS; step++) {
        at -= PREFETCH_STRIDE;
        if (at >= count || !items[at].tx)
            continue;
        window_prefetch(&l->window, items[at].tx_id, step);
        l->rows.prefetch(l->rows.context, step, items[at].tx->sender, items[at].tx->peer);
    }
}

ch_err ch_ledger_apply(struct ch_ledger *l, uint64_t commit_index, uint64_t time_ms, const struct ch_ledger_item *items,
                       size_t count, struct ch_receipt *receipts)
{
    CH_ASSERT(commit_index == l->head.commit_index + 1 && time_ms >= l->head.commit_time_ms);
    window_advance(&l->window, time_ms);
    for (size_t i = 0; i < count; i++) {
        prefetch(l, items, count, i);
        struct call call = {
            .ledger = l, .item = &items[i], .tx = items[i].tx, .commit_index = commit_index, .time_ms = time_ms};
        ch_err err = apply_one(&call, &receipts[i]);
        if (err != CH_OK)
            return err;
    }
    append_leaves(l);
    l->head.commit_index = commit_index;
    l->head.commit_time_ms = time_ms;
    return CH_OK;
}
