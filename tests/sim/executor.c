/* A node's ledger: the real rules over rows in memory, or over the real state in LMDB. It remembers less than it
 * applied (W5): after a crash it is at the last commit that it made durable, and gets the others again. I10, I11. */
#include <stdlib.h>
#include <unistd.h>

#include "node/state_rows.h"
#include "tests/ledger/memory_rows.h"
#include "tests/sim/sim.h"

#define STATE_EVERY 8 /* commits between comparisons of all rows */

struct sim_executor {
    struct ch_ledger *ledger;
    struct memory_rows *rows, *durable_rows; /* in memory */
    struct ch_ledger_head durable_head;
    struct ch_state *state; /* in LMDB */
    char folder[64];
    uint64_t durable, highest; /* index of the last commit that a crash leaves; that was ever applied */
    uint64_t *timestamps;   /* of what the log holds, by log index */
    size_t timestamp_count, timestamp_room;
    uint8_t (*ids)[CH_HASH_BYTES];
    size_t id_room;
    bool in_batch;
};

static void must(ch_err err)
{
    if (err == CH_OK)
        return;
    fprintf(stderr, "sim: %s\n", ch_err_name(err));
    abort();
}

/* Only what is in use is copied; the log only grows. */
static void copy_rows(struct memory_rows *to, const struct memory_rows *from, uint64_t log_from)
{
    to->account_count = from->account_count;
    to->relation_count = from->relation_count;
    to->log_size = from->log_size;
    memcpy(to->accounts, from->accounts, from->account_count * sizeof *to->accounts);
    memcpy(to->relations, from->relations, from->relation_count * sizeof *to->relations);
    memcpy(to->log + log_from, from->log + log_from, (from->log_size - log_from) * sizeof *to->log);
    memcpy(to->ids + log_from, from->ids + log_from, (from->log_size - log_from) * sizeof *to->ids);
    memcpy(to->recipients + log_from, from->recipients + log_from,
           (from->log_size - log_from) * sizeof *to->recipients);
}

static void remove_state(struct sim_executor *x)
{
    char path[128];
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", x->folder, files[i]);
        unlink(path);
    }
    rmdir(x->folder);
}

static void open_state(struct sim_executor *x)
{
    const struct ch_state_options options = {.folder = x->folder,
                                             .map_bytes = 1u << 30,
                                             .batch_records = 16,
                                             .accounts_cached = 1,
                                             .relations_cached = 1,
                                             .seed = 3};
    must(ch_state_open(&options, &x->state));
}

static void open_ledger(struct sim *sim, struct sim_node *node)
{
    struct sim_executor *x = node->executor;
    struct ch_ledger_head head = x->durable_head;
    struct ch_ledger_options options = {.genesis = &sim->genesis, .seed = 5};
    if (x->state) {
        const struct ch_state_meta *meta = ch_state_meta(x->state);
        options.rows = ch_state_rows(x->state);
        if (meta->head_length)
            ch_ledger_head_read(meta->head, &head);
        if (meta->applied_index != x->durable)
            sim_fail(sim, "I11: the state of node %u is at commit %llu, not at %llu", node->index,
                     (unsigned long long)meta->applied_index, (unsigned long long)x->durable);
    } else {
        options.rows = memory_rows(x->rows);
    }
    options.head = x->durable ? &head : NULL;
    ch_ledger_close(x->ledger);
    must(ch_ledger_open(&options, &x->ledger));
    x->timestamp_count = ch_ledger_head(x->ledger)->log.size;
    for (uint64_t i = 0; i < x->timestamp_count; i++)
        must(ch_ledger_remember(x->ledger, x->ids[i], x->timestamps[i], i));
}

void sim_executor_create(struct sim *sim, struct sim_node *node)
{
    sim_executor_free(node);
    struct sim_executor *x = node->executor = sim_alloc(sizeof *x);
    if (sim->lmdb) {
        strcpy(x->folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/chappe-sim-XXXXXX" : "/tmp/chappe-sim-XXXXXX");
        if (!mkdtemp(x->folder))
            abort();
        open_state(x);
    } else {
        x->rows = sim_alloc(sizeof *x->rows);
        x->durable_rows = sim_alloc(sizeof *x->durable_rows);
    }
    open_ledger(sim, node);
    node->applied = 0;
}

void sim_executor_free(struct sim_node *node)
{
    struct sim_executor *x = node->executor;
    if (!x)
        return;
    ch_ledger_close(x->ledger);
    ch_state_close(x->state);
    if (x->folder[0])
        remove_state(x);
    free(x->rows);
    free(x->durable_rows);
    free(x->timestamps);
    free(x->ids);
    free(x);
    node->executor = NULL;
}

static void make_durable(struct sim_node *node)
{
    struct sim_executor *x = node->executor;
    const struct ch_ledger_head *head = ch_ledger_head(x->ledger);
    if (x->state && x->in_batch) {
        uint8_t bytes[CH_LEDGER_HEAD_BYTES];
        ch_ledger_head_write(head, bytes);
        must(ch_state_commit(x->state, node->applied, 0, bytes, sizeof bytes));
        x->in_batch = false;
    } else if (!x->state) {
        copy_rows(x->durable_rows, x->rows, x->durable_rows->log_size);
        x->durable_head = *head;
    }
    x->durable = node->applied;
}

void sim_executor_crash(struct sim *sim, struct sim_node *node)
{
    struct sim_executor *x = node->executor;
    if (x->state) {
        ch_state_close(x->state); /* what wasn't committed is gone */
        x->state = NULL;
        x->in_batch = false;
        ch_ledger_close(x->ledger);
        x->ledger = NULL;
        open_state(x);
    } else {
        copy_rows(x->rows, x->durable_rows, 0);
    }
    node->applied = x->durable;
    open_ledger(sim, node);
}

/* --- applying --- */

static void hash_rows(struct sim_executor *x, const struct ch_ledger_rows *rows, struct ch_hash *h)
{
    for (unsigned i = 0; i < SIM_PEOPLE; i++) {
        uint64_t serial;
        const struct ch_account *row;
        uint8_t bytes[CH_ACCOUNT_ROW_BYTES];
        if (rows->account(rows->context, sim_person(i), &serial, &row) != CH_OK)
            continue;
        ch_account_write(row, bytes);
        ch_hash_add(h, &serial, sizeof serial);
        ch_hash_add(h, bytes, sizeof bytes);
    }
    for (uint64_t one = 0; one < ch_ledger_head(x->ledger)->accounts; one++)
        for (uint64_t other = 0; other < one; other++) {
            uint64_t serial;
            struct ch_relation row;
            if (rows->relation(rows->context, one, other, &serial, &row) != CH_OK)
                continue;
            const uint64_t values[] = {
                serial, row.state, row.by, row.since_ms, row.request_log_index, row.accept_log_index};
            ch_hash_add(h, values, sizeof values);
        }
}

/* I10: the state after a commit, log root and receipts included, is everybody's. */
static void compare_state(struct sim *sim, struct sim_node *node, uint64_t index, const struct ch_receipt *receipts,
                          size_t count)
{
    struct sim_executor *x = node->executor;
    uint8_t bytes[CH_LEDGER_HEAD_BYTES], receipt[CH_RECEIPT_BYTES], digest[CH_HASH_BYTES];
    struct ch_hash h;
    ch_hash_init(&h);
    ch_ledger_head_write(ch_ledger_head(x->ledger), bytes);
    ch_hash_add(&h, bytes, sizeof bytes);
    for (size_t i = 0; i < count; i++) {
        ch_receipt_write(&receipts[i], receipt);
        ch_hash_add(&h, receipt, sizeof receipt);
    }
    if (index % STATE_EVERY == 0) {
        const struct ch_ledger_rows rows = x->state ? ch_state_rows(x->state) : memory_rows(x->rows);
        hash_rows(x, &rows, &h);
    }
    ch_hash_end(&h, digest);
    struct sim_commit *commit = &sim->commits[index - 1];
    if (commit->applied && memcmp(commit->state, digest, sizeof digest) != 0)
        sim_fail(sim, "I10: node %u has another state after commit %llu than others", node->index,
                 (unsigned long long)index);
    commit->applied = true;
    memcpy(commit->state, digest, sizeof digest);
}

static void note(struct sim *sim, struct sim_executor *x, const struct ch_ledger_item *item,
                 const struct ch_receipt *receipt)
{
    if (receipt->status != CH_STATUS_OK) {
        sim->seen.transactions_refused++;
        return;
    }
    CH_ASSERT(receipt->log_index == x->timestamp_count);
    size_t room = x->timestamp_room;
    x->timestamps = sim_grow(x->timestamps, x->timestamp_count, &x->timestamp_room, sizeof *x->timestamps);
    x->ids = sim_grow(x->ids, x->timestamp_count, &room, sizeof *x->ids);
    x->timestamps[x->timestamp_count] = item->tx->timestamp_ms;
    memcpy(x->ids[x->timestamp_count++], item->tx_id, CH_HASH_BYTES);
    sim->seen.transactions_applied++;
    sim->seen.messages_applied += item->tx->kind == CH_TX_MESSAGE;
}

void sim_executor_apply(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    struct sim_executor *x = node->executor;
    size_t count = 0, at = 0;
    for (uint32_t i = 0; i < a->deliver.block_count; i++)
        count += a->deliver.blocks[i].handle ? sim_payload(sim, a->deliver.blocks[i].handle)->count : 0;
    struct ch_ledger_item *items = sim_alloc((count + 1) * sizeof *items);
    struct ch_receipt *receipts = sim_alloc((count + 1) * sizeof *receipts);
    for (uint32_t i = 0; i < a->deliver.block_count; i++) {
        const struct sim_payload *p =
            a->deliver.blocks[i].handle ? sim_payload(sim, a->deliver.blocks[i].handle) : NULL;
        for (uint32_t k = 0; p && k < p->count; k++) {
            const struct sim_payload_tx *t = &p->txs[k];
            items[at++] = (struct ch_ledger_item){t->parsed ? &t->tx : NULL, t->id, a->deliver.index, t->signature_ok,
                                                  t->approval_ok};
        }
    }
    if (x->state && !x->in_batch) {
        must(ch_state_begin(x->state));
        x->in_batch = true;
    }
    must(ch_ledger_apply(x->ledger, a->deliver.index, a->deliver.timestamp_ms, items, count, receipts));
    for (size_t i = 0; i < count; i++)
        note(sim, x, &items[i], &receipts[i]);
    if (a->deliver.index <= x->highest)
        sim->seen.commits_applied_again++;
    else
        x->highest = a->deliver.index;
    compare_state(sim, node, a->deliver.index, receipts, count);
    free(items);
    free(receipts);
    node->applied = a->deliver.index;
    if (sim_chance(sim, 300))
        make_durable(node);
}
