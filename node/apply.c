#include "node/apply.h"

#include "node/names.h"
#include "node/state_rows.h"
#include "node/tx_check.h"

#include <stdlib.h>

/* What the state keeps for us behind the ledger's head: where a replay begins. */
#define HEAD_BYTES (CH_LEDGER_HEAD_BYTES + 16)

struct ch_apply {
    struct ch_node *node;
    struct ch_ledger *ledger;
    struct ch_tx_check *check; /* of payloads that others made; NULL: we are alone */
    struct ch_state_reader *reader; /* for the replay alone */
    bool in_batch;
    uint64_t replay_from, replay_after;
    uint64_t last_replay_from[2]; /* of the state's last commits, the older one second */
    uint64_t applied_index; /* in the state when the replay began */
    uint64_t remembered_log_index;
    bool remembered_any;
    /* parts of commits of the open batch, given on after the state's commit; of them the last commit may be
     * unfinished */
    struct ch_work *works[CH_WORK_POOL_COUNT];
    uint32_t work_count, commit_first; /* where the commit being gathered begins */
    /* scratch for one commit: grows to what the payload pool can hold, and no further */
    struct ch_tx *txs;
    struct ch_ledger_item *items;
    struct ch_receipt *receipts;
    size_t capacity;
};

ch_err ch_apply_open(struct ch_node *node, uint64_t *replay_from, uint64_t *replay_after, struct ch_apply **out)
{
    struct ch_apply *a = calloc(1, sizeof *a);
    if (!a)
        return CH_ERR_NO_MEMORY;
    a->node = node;
    const struct ch_state_meta *meta = ch_state_meta(node->state);
    a->applied_index = meta->applied_index;
    struct ch_ledger_head head;
    bool has_head = meta->head_length == HEAD_BYTES;
    ch_err err = meta->head_length == 0 || has_head ? CH_OK : CH_ERR_CORRUPT;
    if (has_head) {
        ch_ledger_head_read(meta->head, &head);
        a->replay_from = ch_load64(meta->head + CH_LEDGER_HEAD_BYTES);
        a->replay_after = ch_load64(meta->head + CH_LEDGER_HEAD_BYTES + 8);
    }
    struct ch_ledger_options options = {
        .genesis = &node->genesis,
        .head = has_head ? &head : NULL,
        .rows = ch_state_rows(node->state),
    };
    ch_random(&options.seed, sizeof options.seed);
    if (err == CH_OK)
        err = ch_ledger_open(&options, &a->ledger);
    if (err == CH_OK)
        err = ch_state_reader_open(node->state, &a->reader);
    if (err == CH_OK && node->committee.n > 1)
        err = ch_tx_check_open(node, &a->check);
    if (err != CH_OK) {
        ch_apply_close(a);
        return err;
    }
    a->last_replay_from[0] = a->last_replay_from[1] = a->replay_from;
    *replay_from = a->replay_from;
    *replay_after = a->replay_after;
    *out = a;
    return CH_OK;
}

void ch_apply_close(struct ch_apply *a)
{
    if (!a)
        return;
    ch_ledger_close(a->ledger);
    ch_state_reader_close(a->reader);
    ch_tx_check_close(a->check);
    free(a->txs);
    free(a->items);
    free(a->receipts);
    free(a);
}

static ch_err grow(struct ch_apply *a, size_t count)
{
    if (count <= a->capacity)
        return CH_OK;
    free(a->txs);
    free(a->items);
    free(a->receipts);
    a->capacity = 0;
    a->txs = malloc(count * sizeof *a->txs);
    a->items = malloc(count * sizeof *a->items);
    a->receipts = malloc(count * sizeof *a->receipts);
    if (!a->txs || !a->items || !a->receipts)
        return CH_ERR_NO_MEMORY;
    a->capacity = count;
    return CH_OK;
}

/* A row that is not what was written is found here: the state is not opened again. */
static ch_err noted(struct ch_apply *a, ch_err err)
{
    if (err == CH_ERR_CORRUPT)
        atomic_store(&a->node->state_damaged, true);
    return err;
}

/* Applies one whole commit, its parts given in order. */
static ch_err apply_commit(struct ch_apply *a, struct ch_work *const *works, uint32_t work_count)
{
    struct ch_metrics *m = &a->node->metrics;
    size_t count = 0;
    for (uint32_t w = 0; w < work_count; w++)
        for (uint32_t p = 0; p < works[w]->count; p++)
            count += works[w]->payloads[p]->count;
    ch_err err = grow(a, count);
    if (err != CH_OK)
        return err;
    for (uint32_t w = 0; a->check && w < work_count; w++)
        for (uint32_t p = 0; p < works[w]->count; p++)
            if (!works[w]->payloads[p]->verified)
                ch_tx_check_add(a->check, works[w]->payloads[p]);
    if (a->check)
        ch_tx_check_end(a->check);
    size_t at = 0;
    for (uint32_t w = 0; w < work_count; w++)
        for (uint32_t p = 0; p < works[w]->count; p++) {
            struct ch_payload *payload = works[w]->payloads[p];
            for (uint32_t i = 0; i < payload->count; i++, at++) {
                const struct ch_payload_tx *tx = &payload->txs[i];
                const uint8_t *bytes = payload->bytes + tx->offset;
                bool parsed =
                    ch_tx_parse(bytes, payload->length - tx->offset, &a->txs[at]) == CH_STATUS_OK;
                a->items[at] = (struct ch_ledger_item){
                    .tx = parsed ? &a->txs[at] : NULL,
                    .tx_id = tx->id,
                    .position = payload->position + tx->offset,
                    .signature_ok = payload->verified || tx->signature_ok,
                    .approval_ok = tx->approval_ok,
                };
            }
        }
    if (!a->in_batch) {
        err = ch_state_begin(a->node->state);
        if (err != CH_OK)
            return err;
        a->in_batch = true;
    }
    const struct ch_work *last = works[work_count - 1];
    err = ch_ledger_apply(a->ledger, last->commit_index, last->commit_time_ms, a->items, count, a->receipts);
    if (err != CH_OK)
        return err;
    uint64_t applied = 0;
    at = 0;
    for (uint32_t w = 0; w < work_count; w++)
        for (uint32_t p = 0; p < works[w]->count; p++) {
            struct ch_payload *payload = works[w]->payloads[p];
            for (uint32_t i = 0; i < payload->count; i++, at++) {
                const struct ch_receipt *receipt = &a->receipts[at];
                struct ch_payload_tx *tx = &payload->txs[i];
                tx->status = receipt->status;
                tx->commit_index = receipt->commit_index;
                tx->commit_time_ms = receipt->commit_time_ms;
                tx->log_index = receipt->log_index;
                tx->inbox_sequence = receipt->inbox_sequence;
                applied += receipt->status == CH_STATUS_OK;
                ch_count(&m->final_by_status[receipt->status], 1);
            }
        }
    a->replay_from = last->replay_from;
    a->replay_after = last->replay_after;
    ch_count(&m->apply_transactions_applied_total, applied);
    ch_count(&m->apply_transactions_refused_total, count - applied);
    ch_count(&m->apply_commits_applied_total, 1);
    return CH_OK;
}

static ch_err commit_state(struct ch_apply *a)
{
    uint8_t head[HEAD_BYTES];
    const struct ch_ledger_head *ledger_head = ch_ledger_head(a->ledger);
    ch_ledger_head_write(ledger_head, head);
    ch_store64(head + CH_LEDGER_HEAD_BYTES, a->replay_from);
    ch_store64(head + CH_LEDGER_HEAD_BYTES + 8, a->replay_after);
    a->in_batch = false;
    ch_count(&a->node->metrics.apply_state_commits_total, 1);
    ch_err err = ch_state_commit(a->node->state, ledger_head->commit_index, 0, head, sizeof head);
    /* The state before this one is durable now, and a start may have to take the one before that. */
    if (err == CH_OK)
        atomic_store(&a->node->replay_from, a->last_replay_from[1]);
    a->last_replay_from[1] = a->last_replay_from[0];
    a->last_replay_from[0] = a->replay_from;
    return err;
}

static void give_on(struct ch_apply *a)
{
    CH_ASSERT(ch_ring_push(&a->node->applied, (void **)a->works, a->commit_first) == a->commit_first);
    for (uint32_t i = a->commit_first; i < a->work_count; i++)
        a->works[i - a->commit_first] = a->works[i];
    a->work_count -= a->commit_first;
    a->commit_first = 0;
}

bool ch_apply_poll(void *self, uint64_t now_ns)
{
    struct ch_apply *a = self;
    if (atomic_load_explicit(&a->node->failed, memory_order_relaxed))
        return false;
    ch_err err = CH_OK;
    struct ch_work *work = ch_ring_pull_one(&a->node->to_apply);
    if (work) {
        a->works[a->work_count++] = work;
        if (work->last) {
            err = apply_commit(a, a->works + a->commit_first, a->work_count - a->commit_first);
            a->commit_first = a->work_count;
        }
    }
    /* A batch ends when there is nothing to add to it, or when it is large. */
    if (err == CH_OK && a->in_batch && (!work || ch_state_batch_full(a->node->state))) {
        err = commit_state(a);
        if (err == CH_OK)
            give_on(a);
    }
    if (noted(a, err) != CH_OK) {
        int none = CH_OK;
        atomic_compare_exchange_strong(&a->node->failed, &none, (int)err);
    }
    return work != NULL;
}

/* The applied transactions of a commit that the state has already, for the ledger's window. Log indices grow along the
 * commits, which tells a duplicate inside the commit from the one that was applied. */
static ch_err remember(struct ch_apply *a, const struct ch_work *work)
{
    for (uint32_t p = 0; p < work->count; p++) {
        const struct ch_payload *payload = work->payloads[p];
        for (uint32_t i = 0; i < payload->count; i++) {
            struct ch_tx tx;
            struct ch_log_entry entry;
            uint64_t log_index;
            const struct ch_payload_tx *item = &payload->txs[i];
            if (ch_tx_parse(payload->bytes + item->offset, payload->length - item->offset, &tx) != CH_STATUS_OK)
                continue;
            ch_err err = ch_state_read_log_index(a->reader, item->id, &log_index);
            if (err == CH_ERR_NOT_FOUND)
                continue; /* it was refused */
            if (err == CH_OK)
                err = ch_state_read_log_entry(a->reader, log_index, &entry);
            if (err != CH_OK)
                return err;
            if (entry.commit_index != work->commit_index ||
                (a->remembered_any && log_index <= a->remembered_log_index))
                continue;
            a->remembered_any = true;
            a->remembered_log_index = log_index;
            err = ch_ledger_remember(a->ledger, item->id, tx.timestamp_ms, log_index);
            if (err != CH_OK)
                return err;
        }
    }
    return CH_OK;
}

/* What a crash may have kept serve from learning. Refused messages are not told apart: they only keep something. */
static ch_err note_names(struct ch_apply *a, const struct ch_work *work)
{
    ch_err err = CH_OK;
    for (uint32_t p = 0; p < work->count; p++) {
        const struct ch_payload *payload = work->payloads[p];
        for (uint32_t i = 0; err == CH_OK && i < payload->count; i++) {
            struct ch_tx tx;
            uint32_t offset = payload->txs[i].offset;
            if (ch_tx_parse(payload->bytes + offset, payload->length - offset, &tx) == CH_STATUS_OK)
                err = ch_names_replayed(a->node, &tx);
        }
    }
    return err;
}

ch_err ch_apply_replay(void *self, struct ch_work *work)
{
    struct ch_apply *a = self;
    ch_err err = CH_OK;
    a->works[a->work_count++] = work;
    if (work->commit_index <= a->applied_index)
        err = remember(a, work);
    else if (work->last)
        err = apply_commit(a, a->works, a->work_count);
    if (err == CH_OK && a->in_batch && ch_state_batch_full(a->node->state))
        err = commit_state(a);
    if (err == CH_OK && a->node->committee.n > 1)
        err = note_names(a, work);
    if (!work->last && err == CH_OK && work->commit_index > a->applied_index)
        return CH_OK; /* more of it follows */
    for (uint32_t w = 0; w < a->work_count; w++) {
        for (uint32_t p = 0; p < a->works[w]->count; p++)
            ch_flow_free_payload(&a->node->flow, a->works[w]->payloads[p]);
        CH_ASSERT(ch_ring_push_one(&a->node->flow.free_works, a->works[w]));
    }
    a->work_count = 0;
    return noted(a, err);
}

ch_err ch_apply_replayed(struct ch_apply *a)
{
    return a->in_batch ? noted(a, commit_state(a)) : CH_OK;
}
