#include "node/order.h"

#include "base/log.h"
#include "base/time.h"
#include "node/account_gate.h"
#include "node/exchange.h"
#include "node/handles.h"

#include <pthread.h>
#include <stdlib.h>

#define EVENTS_MAX  64
#define BATCHES_MAX 8 /* taken in one poll */
#define MESSAGES_MAX 64
/* What lies between the commits that a replay delivers again and the last one: the window, and some. */
#define WINDOW_SLACK_MS 1000u
#define MARKS           (1u << 18) /* commits remembered for it; full, a replay begins earlier than it must */
#define STATUS_NS       100000000u
/* After an outage the first commits carry times from before it, and what is sent now would be too early. New work is
 * taken when their time has caught up, or after so many of them: our own clock may be the one that is wrong. */
#define READY_LAG_MS    5000u
#define READY_COMMITS   8u
#define VERIFIED_SLOTS  (1u << 16) /* transactions remembered that were verified here */
#define HANDLES_SLACK   1024 /* names beside those of the rounds that a machine keeps */

/* Where a replay could begin: the first commit delivered again, what it reaches down to. */
struct mark {
    uint64_t index, time_ms;
    uint32_t gc_round;
};

struct ch_order {
    struct ch_node *node;
    struct ch_core *core;
    struct ch_log_writer *log;
    struct ch_core_now now;
    bool failed;

    struct ch_core_action action; /* taken from the machine and not yet done: it waits for room */
    bool has_action;
    struct ch_core_event events[EVENTS_MAX]; /* answers that wait until the machine's actions are drained */
    uint32_t event_head, event_count;
    uint64_t synced, timer_us;
    bool told_pending, told_pressure;
    uint32_t delivered_since_start;

    struct ch_exchange *exchange; /* NULL: we are alone */
    struct ch_handles handles;
    struct ch_payload *filling;
    struct ch_payload *filled[CH_PAYLOAD_POOL_COUNT];
    uint32_t filled_head, filled_count;
    uint8_t (*verified)[CH_HASH_BYTES]; /* ids, each in the slot that its first bytes say; a later one takes it over */
    struct ch_account_gate accounts;
    struct ch_batch *batch; /* being taken in, from transaction `batch_next` on */
    uint32_t batch_next;

    struct ch_work *work;  /* the commit's part being filled */
    uint32_t deliver_next; /* block of the DELIVER in `action` that goes into it next */
    const struct ch_order_replay *replay; /* while the log is replayed */
    ch_err replay_err;

    struct mark *marks;
    uint64_t *round_position; /* of the first block of a round, by round % MARKS */
    uint32_t *round_of;
    uint32_t mark_head, mark_count;
    uint64_t replay_from, replay_after;
    uint64_t own_position; /* of our newest block, which a restart must find; 0: none */

    pthread_mutex_t status_lock; /* between this stage, ten times a second, and who asks for the status */
    struct ch_core_status status;
    struct ch_core_counters counters;
    uint64_t status_ns;
};

static void fail(struct ch_order *o, ch_err err)
{
    o->failed = true;
    int none = CH_OK;
    atomic_compare_exchange_strong(&o->node->failed, &none, (int)err);
}

static void remember_event(struct ch_order *o, const struct ch_core_event *event)
{
    CH_ASSERT(o->event_count < EVENTS_MAX);
    o->events[(o->event_head + o->event_count++) % EVENTS_MAX] = *event;
}

static void take_payload(struct ch_order *o, const struct ch_core_action *action)
{
    struct ch_core_event event = {.type = CH_EVENT_PAYLOAD_AVAILABLE};
    struct ch_payload *payload = NULL;
    if (o->filled_count) {
        payload = o->filled[o->filled_head];
        o->filled_head = (o->filled_head + 1) % CH_PAYLOAD_POOL_COUNT;
        o->filled_count--;
    } else if (o->filling && o->filling->count) {
        payload = o->filling;
        o->filling = NULL;
    }
    if (payload) {
        CH_ASSERT(payload->length <= action->take.bytes_max && payload->count <= action->take.items_max);
        event.payload.handle = ch_handles_add(
            &o->handles, &(struct ch_handle){.payload = payload, .length = payload->length, .own = true});
        event.payload.length = payload->length;
        event.payload.items = payload->count;
        ch_payload_root(payload->bytes, payload->length, event.payload.root);
        ch_count(&o->node->metrics.order_payloads_proposed_total, 1);
    }
    remember_event(o, &event);
}

static void sign_message(struct ch_order *o, const struct ch_core_action *action)
{
    uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX];
    size_t length = ch_sign_prefix(action->sign.domain, o->node->chain_id, prefix);
    struct ch_core_event event = {.type = CH_EVENT_SIGNED};
    event.signature.length = action->sign.length;
    memcpy(event.signature.message, action->sign.message, sizeof event.signature.message);
    ch_sign(&o->node->key, prefix, length, action->sign.message, action->sign.length, event.signature.bytes);
    remember_event(o, &event);
}

static void note_round(struct ch_order *o, uint32_t round, uint64_t position)
{
    if (o->round_of[round % MARKS] == round)
        return;
    o->round_of[round % MARKS] = round;
    o->round_position[round % MARKS] = position;
}

static bool append(struct ch_order *o, const struct ch_core_action *action)
{
    struct ch_handle *named = action->append.handle ? ch_handles_get(&o->handles, action->append.handle) : NULL;
    struct ch_bytes bytes = {0};
    if (named)
        bytes = (struct ch_bytes){named->payload ? named->payload->bytes : named->replayed, named->length};
    ch_wal_position position;
    ch_err err =
        ch_log_append(o->log, action->append.lsn, (uint8_t)action->append.type, action->append.head, bytes, &position);
    if (err == CH_ERR_FULL || err == CH_ERR_NO_SPACE)
        return false; /* the disk is behind, or full: the machine waits with us */
    if (err != CH_OK) {
        fail(o, err);
        return false;
    }
    if (named)
        named->position = position + action->append.head.length;
    if (action->append.type == CH_RECORD_OWN_BLOCK)
        o->own_position = position;
    if (o->exchange)
        ch_exchange_logged(o->exchange, (uint8_t)action->append.type, action->append.head, bytes.length, position);
    if (action->append.type == CH_RECORD_BLOCK || action->append.type == CH_RECORD_OWN_BLOCK)
        note_round(o, ch_load32(action->append.head.data + 8), position);
    ch_count(&o->node->metrics.log_records_appended_total, 1);
    ch_count(&o->node->metrics.log_bytes_appended_total, action->append.head.length + bytes.length);
    return true;
}

/* Where a replay after this commit must begin: far enough back for the ledger's window and for the machine. */
static void note_commit(struct ch_order *o, const struct ch_core_action *action)
{
    struct ch_commit commit;
    if (!ch_commit_parse(action->deliver.bytes.data, action->deliver.bytes.length, &commit))
        CH_ASSERT(!"the machine wrote this commit");
    if (o->mark_count < MARKS)
        o->marks[(o->mark_head + o->mark_count++) % MARKS] =
            (struct mark){commit.index, commit.timestamp_ms, commit.gc_round};
    uint64_t back_ms =
        o->node->genesis.limits.window_back_ms + o->node->genesis.limits.window_ahead_ms + WINDOW_SLACK_MS;
    while (o->mark_count > 1 && o->marks[o->mark_head].time_ms + back_ms < commit.timestamp_ms) {
        o->mark_head = (o->mark_head + 1) % MARKS;
        o->mark_count--;
    }
    const struct mark *mark = &o->marks[o->mark_head];
    uint64_t depth = o->node->genesis.params.gc_depth;
    uint32_t round = mark->gc_round > depth ? (uint32_t)(mark->gc_round - depth) : 1;
    if (o->round_of[round % MARKS] == round && mark->index - 1 >= o->replay_after) {
        o->replay_from = o->round_position[round % MARKS];
        if (o->own_position && o->own_position < o->replay_from)
            o->replay_from = o->own_position; /* we were away for long */
        o->replay_after = mark->index - 1;
    }
}

/* An id is the hash over signature and all, so it is as good as verified when the same bytes were. */
static uint8_t *verified_slot(const struct ch_order *o, const uint8_t id[CH_HASH_BYTES])
{
    return o->verified[ch_load32(id) % VERIFIED_SLOTS];
}

/* The transactions of bytes out of the log, found again. */
static void parse_payload(const struct ch_order *o, struct ch_payload *p, const struct ch_handle *named)
{
    CH_ASSERT(named->length <= p->bytes_max);
    memcpy(p->bytes, named->replayed, named->length);
    p->length = named->length;
    p->verified = named->own;
    ch_payload_take_apart(p);
    for (uint32_t i = 0; i < p->count; i++) {
        struct ch_payload_tx *entry = &p->txs[i];
        if (p->verified)
            entry->approval_ok = true;
        else if (memcmp(verified_slot(o, entry->id), entry->id, CH_HASH_BYTES) == 0)
            entry->signature_ok = entry->approval_ok = true;
    }
}

/* Takes the buffer of a delivered block from its name, or fills one from the log's bytes; NULL while none is free. */
static struct ch_payload *payload_of(struct ch_order *o, uint64_t handle)
{
    struct ch_handle *named = ch_handles_get(&o->handles, handle);
    struct ch_payload *payload = named->payload;
    if (!payload) {
        payload = ch_ring_pull_one(&o->node->flow.free_payloads);
        if (!payload)
            return NULL;
        parse_payload(o, payload, named);
        free(named->replayed);
        named->replayed = NULL;
    }
    payload->position = named->position;
    named->payload = NULL;
    return payload;
}

/* Hands the commit on in parts of CH_WORK_PAYLOADS; false while there is no room. */
static bool deliver(struct ch_order *o, const struct ch_core_action *action)
{
    struct ch_node *node = o->node;
    for (;;) {
        if (!o->work) {
            o->work = ch_ring_pull_one(&node->flow.free_works);
            if (!o->work)
                return false;
            o->work->count = 0;
            o->work->last = false;
        }
        struct ch_work *work = o->work;
        while (o->deliver_next < action->deliver.block_count && work->count < CH_WORK_PAYLOADS) {
            uint64_t handle = action->deliver.blocks[o->deliver_next].handle;
            struct ch_payload *payload = handle ? payload_of(o, handle) : NULL;
            if (handle && !payload)
                return false;
            if (payload)
                work->payloads[work->count++] = payload;
            o->deliver_next++;
        }
        work->commit_index = action->deliver.index;
        work->commit_time_ms = action->deliver.timestamp_ms;
        work->last = o->deliver_next == action->deliver.block_count;
        if (work->last)
            note_commit(o, action);
        work->replay_from = o->replay_from;
        work->replay_after = o->replay_after;
        bool last = work->last;
        o->work = NULL;
        if (o->replay) {
            if (o->replay_err == CH_OK)
                o->replay_err = o->replay->apply(o->replay->context, work);
        } else {
            CH_ASSERT(ch_ring_push_one(&node->to_apply, work)); /* it holds all works there are */
        }
        if (last)
            break;
    }
    o->deliver_next = 0;
    atomic_store_explicit(&node->commit_ms, action->deliver.timestamp_ms, memory_order_relaxed);
    if (!o->replay && (o->delivered_since_start++ >= READY_COMMITS ||
                       action->deliver.timestamp_ms + READY_LAG_MS >= o->now.unix_ms))
        atomic_store_explicit(&node->ready, true, memory_order_relaxed);
    ch_count(&node->metrics.order_commits_delivered_total, 1);
    ch_gauge(&node->metrics.order_commit_index, action->deliver.index);
    return true;
}

/* The machine is done with a payload. One of a block of ours that was never committed goes first into the next ones. */
static void release(struct ch_order *o, uint64_t handle)
{
    struct ch_handle *named = ch_handles_get(&o->handles, handle);
    if (named->payload && named->requeue) {
        CH_ASSERT(o->filled_count < CH_PAYLOAD_POOL_COUNT);
        o->filled_head = (o->filled_head + CH_PAYLOAD_POOL_COUNT - 1) % CH_PAYLOAD_POOL_COUNT;
        o->filled[o->filled_head] = named->payload;
        o->filled_count++;
    } else if (named->payload) {
        ch_flow_free_payload(&o->node->flow, named->payload);
    }
    ch_handles_remove(&o->handles, handle);
}

/* Does what the machine asks; false: there is no room now, again later. */
static bool act(struct ch_order *o, const struct ch_core_action *action)
{
    switch (action->type) {
    case CH_ACTION_TAKE_PAYLOAD:
        take_payload(o, action);
        return true;
    case CH_ACTION_SIGN:
        sign_message(o, action);
        return true;
    case CH_ACTION_APPEND:
        return append(o, action);
    case CH_ACTION_SYNC: {
        ch_err err = ch_log_sync(o->log, action->sync.lsn, action->sync.guard_changed ? &action->sync.guard : NULL);
        if (err != CH_OK && err != CH_ERR_FULL)
            fail(o, err);
        return err == CH_OK;
    }
    case CH_ACTION_SET_TIMER:
        o->timer_us = action->timer_us;
        return true;
    case CH_ACTION_DELIVER:
        return deliver(o, action);
    case CH_ACTION_RELEASE:
        if (action->payload.handle)
            release(o, action->payload.handle);
        return true;
    case CH_ACTION_REQUEUE:
        if (action->payload.handle)
            ch_handles_get(&o->handles, action->payload.handle)->requeue = true;
        return true;
    case CH_ACTION_HALT:
        ch_log(CH_LOG_ERROR, "consensus halts: %s: %s", ch_halt_name(action->halt), ch_halt_text(action->halt));
        fail(o, CH_ERR_HALTED);
        return true;
    case CH_ACTION_REPORT:
        if (action->report == CH_REPORT_EVIDENCE)
            ch_log(CH_LOG_WARNING, "validator %u signed two blocks of one round; the evidence is in the log",
                   action->peer);
        if (action->report == CH_REPORT_MISBEHAVED)
            ch_exchange_misbehaved(o->exchange, action->peer);
        if (action->report == CH_REPORT_REJOINED)
            ch_log(CH_LOG_NOTICE, "the others have told our last block: signing goes on");
        if (action->report == CH_REPORT_CLOCK)
            ch_log(CH_LOG_ERROR,
                   "the clock jumped, or is more than a day from the last commit: nothing is signed until "
                   "the validator is started again with --clock-ok");
        return true;
    case CH_ACTION_SEND:
    case CH_ACTION_SEND_PAYLOAD:
    case CH_ACTION_EXPECT_PAYLOAD:
    case CH_ACTION_FORGET_PAYLOAD:
    case CH_ACTION_SERVE_BLOCKS:
    case CH_ACTION_SERVE_COMMITS:
        if (o->exchange) /* a committee of one has nobody to talk to */
            ch_exchange_act(o->exchange, action);
        return true;
    case CH_ACTION_DROP_BELOW:
        return true;
    }
    return true;
}

/* Drains the machine; false when an action waits for room. */
static bool drain(struct ch_order *o)
{
    for (;;) {
        if (!o->has_action && !ch_core_next_out(o->core, &o->action))
            break;
        o->has_action = true;
        if (!act(o, &o->action))
            return false;
        o->has_action = false;
    }
    return true;
}

/* Gives the machine an event, and the answers that follow from it; false when it has to wait with an action. */
static bool step(struct ch_order *o, const struct ch_core_event *event)
{
    if (event)
        remember_event(o, event);
    for (;;) {
        if (o->failed || !drain(o))
            return false;
        if (!o->event_count)
            return true;
        struct ch_core_event next = o->events[o->event_head];
        o->event_head = (o->event_head + 1) % EVENTS_MAX;
        o->event_count--;
        ch_core_step(o->core, &o->now, &next);
    }
}

static bool room_in_filling(struct ch_order *o, uint16_t length)
{
    struct ch_payload *p = o->filling;
    if (p && p->count < p->count_max && p->bytes_max - p->length >= length)
        return true;
    if (p) {
        o->filled[(o->filled_head + o->filled_count++) % CH_PAYLOAD_POOL_COUNT] = p;
        o->filling = NULL;
    }
    if (o->exchange && ch_ring_count(&o->node->flow.free_payloads) <= CH_PAYLOADS_OF_OTHERS)
        return false;
    p = ch_ring_pull_one(&o->node->flow.free_payloads);
    if (!p)
        return false;
    p->length = p->count = 0;
    p->verified = true;
    o->filling = p;
    return true;
}

static void pool(struct ch_order *o, const struct ch_batch_tx *entry, const struct ch_source *source)
{
    struct ch_payload *p = o->filling;
    struct ch_payload_tx *tx = &p->txs[p->count++];
    tx->source = *source;
    tx->offset = p->length;
    tx->status = CH_STATUS_OK;
    tx->approval_ok = entry->approval_ok;
    memcpy(tx->id, entry->id, CH_HASH_BYTES);
    if (o->exchange)
        memcpy(verified_slot(o, entry->id), entry->id, CH_HASH_BYTES);
    memcpy(p->bytes + p->length, entry->tx.bytes, entry->tx.length);
    p->length += entry->tx.length;
}

static enum ch_status admit(const struct ch_order *o, const struct ch_tx *tx)
{
    uint64_t commit_ms = atomic_load_explicit(&o->node->commit_ms, memory_order_relaxed);
    if (atomic_load_explicit(&o->node->disk_low, memory_order_relaxed))
        return CH_STATUS_DISK_FULL;
    if (tx->timestamp_ms > commit_ms + o->node->genesis.limits.window_ahead_ms)
        return CH_STATUS_TOO_EARLY;
    return CH_STATUS_OK;
}

/* Takes verified transactions into payloads; false when nothing moved. */
static bool take_in(struct ch_order *o, uint64_t now_ns)
{
    struct ch_node *node = o->node;
    if (!atomic_load_explicit(&node->ready, memory_order_relaxed))
        return false;
    for (uint32_t taken = 0; taken < BATCHES_MAX; taken++) {
        if (!o->batch) {
            o->batch = ch_ring_pull_one(&node->to_order);
            o->batch_next = 0;
        }
        struct ch_batch *batch = o->batch;
        if (!batch)
            return taken > 0;
        uint32_t pooled = 0;
        for (; o->batch_next < batch->count; o->batch_next++) {
            struct ch_batch_tx *entry = &batch->txs[o->batch_next];
            if (entry->status == CH_STATUS_OK)
                entry->status = (uint16_t)admit(o, &entry->tx);
            if (entry->status != CH_STATUS_OK)
                continue;
            if (!room_in_filling(o, entry->tx.length))
                break; /* payloads come back when commits are applied */
            if (!ch_account_gate_take(&o->accounts, entry->tx.sender, now_ns)) {
                entry->status = CH_STATUS_RATE_LIMITED;
                continue;
            }
            pool(o, entry, &batch->source);
            pooled++;
        }
        ch_count(&node->metrics.order_transactions_pooled_total, pooled);
        if (o->batch_next < batch->count)
            return pooled > 0;
        o->batch = NULL;
        CH_ASSERT(ch_ring_push_one(&node->to_answer, batch)); /* it holds all batches there are */
    }
    return true;
}

static void keep_status(struct ch_order *o, uint64_t now_ns)
{
    if (now_ns < o->status_ns)
        return;
    o->status_ns = now_ns + STATUS_NS;
    pthread_mutex_lock(&o->status_lock);
    ch_core_status(o->core, &o->status);
    o->counters = *ch_core_counters(o->core);
    pthread_mutex_unlock(&o->status_lock);
    ch_gauge(&o->node->metrics.order_round, o->status.round);
    ch_gauge(&o->node->metrics.order_gc_round, o->status.gc_round);
    struct ch_wal *wal = ch_log_wal(o->log);
    ch_gauge(&o->node->metrics.log_durable_position_bytes, ch_wal_durable_end(wal));
    ch_err err = ch_wal_cut_below(wal, atomic_load_explicit(&o->node->log_keep_from, memory_order_relaxed));
    if (err != CH_OK)
        fail(o, err);
    else if (o->exchange)
        ch_exchange_log_cut(o->exchange, ch_wal_first(wal));
}

static void set_now(struct ch_order *o, uint64_t now_ns)
{
    o->now = (struct ch_core_now){.mono_us = now_ns / 1000, .unix_ms = ch_time_unix_ms()};
}

/* Messages of the other validators; false when the machine has to wait with an action. */
static bool take_messages(struct ch_order *o, bool *worked)
{
    struct ch_core_event event;
    for (uint32_t taken = 0; taken < MESSAGES_MAX && ch_exchange_next(o->exchange, &event); taken++) {
        *worked = true;
        if (!step(o, &event))
            return false;
    }
    return true;
}

bool ch_order_poll(void *self, uint64_t now_ns)
{
    struct ch_order *o = self;
    uint64_t synced;
    if (o->failed)
        return false;
    ch_err err = ch_log_poll(o->log, &synced);
    if (err != CH_OK) {
        fail(o, err);
        return false;
    }
    set_now(o, now_ns);
    keep_status(o, now_ns);
    bool worked = take_in(o, now_ns);
    if (!step(o, NULL))
        return worked;
    if (synced > o->synced) {
        o->synced = synced;
        worked = true;
        if (!step(o, &(struct ch_core_event){.type = CH_EVENT_SYNCED, .lsn = synced}))
            return worked;
    }
    if (o->exchange && !take_messages(o, &worked))
        return worked;
    bool pending = o->filled_count || (o->filling && o->filling->count);
    if (pending != o->told_pending) {
        o->told_pending = pending;
        worked = true;
        if (!step(o, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = pending}))
            return worked;
    }
    bool pressure = ch_ring_count(&o->node->flow.free_works) < CH_WORK_POOL_COUNT / 2; /* apply is behind */
    if (pressure != o->told_pressure) {
        o->told_pressure = pressure;
        worked = true;
        if (!step(o, &(struct ch_core_event){.type = CH_EVENT_PRESSURE, .pressure = pressure}))
            return worked;
    }
    if (o->timer_us && o->now.mono_us >= o->timer_us) {
        o->timer_us = 0;
        worked = true;
        (void)step(o, &(struct ch_core_event){.type = CH_EVENT_TICK});
    }
    return worked;
}

uint64_t ch_order_deadline_ns(void *self, uint64_t now_ns)
{
    const struct ch_order *o = self;
    uint64_t at_ns = o->timer_us ? o->timer_us * 1000 : UINT64_MAX;
    if (o->has_action && now_ns + 1000000 < at_ns)
        at_ns = now_ns + 1000000; /* room comes without a bell */
    if ((o->batch || ch_log_busy(o->log)) && now_ns + 1000000 < at_ns)
        at_ns = now_ns + 1000000;
    return at_ns;
}

void ch_order_fds(const struct ch_order *o, int fds[2])
{
    ch_log_fds(o->log, fds);
}

struct ch_wal *ch_order_wal(struct ch_order *o)
{
    return ch_log_wal(o->log);
}

void ch_order_status(struct ch_order *o, struct ch_core_status *out, struct ch_core_counters *counters)
{
    pthread_mutex_lock(&o->status_lock);
    *out = o->status;
    *counters = o->counters;
    pthread_mutex_unlock(&o->status_lock);
}

static ch_err replay_record(void *self, const struct ch_wal_record *record)
{
    struct ch_order *o = self;
    uint64_t handle = 0;
    if (record->type == CH_RECORD_OWN_BLOCK)
        o->own_position = record->position;
    if (record->type == CH_RECORD_BLOCK || record->type == CH_RECORD_OWN_BLOCK) {
        uint32_t head = ch_block_length(record->body, record->length);
        if (head == 0 || head > record->length)
            return CH_ERR_CORRUPT;
        if (record->length - head > o->node->genesis.params.max_payload)
            return CH_ERR_CORRUPT;
        if (record->length > head) {
            struct ch_handle named = {
                .replayed = malloc(record->length - head),
                .position = record->position + head,
                .length = (uint32_t)(record->length - head),
                .own = record->type == CH_RECORD_OWN_BLOCK,
            };
            if (!named.replayed)
                return CH_ERR_NO_MEMORY;
            memcpy(named.replayed, record->body + head, named.length);
            handle = ch_handles_add(&o->handles, &named);
        }
        note_round(o, ch_load32(record->body + 8), record->position);
    }
    if (o->exchange) {
        struct ch_bytes head = {record->body, record->length};
        size_t payload_length = 0;
        if (handle) {
            payload_length = ch_handles_get(&o->handles, handle)->length;
            head.length -= payload_length;
        }
        ch_exchange_logged(o->exchange, record->type, head, payload_length, record->position);
    }
    ch_err err = ch_core_replay(o->core, (enum ch_record_type)record->type, record->body, record->length, handle,
                                o->replay->after);
    if (err != CH_OK)
        return err;
    CH_ASSERT(drain(o)); /* while replaying nothing waits for room */
    return o->replay_err;
}

ch_err ch_order_open(struct ch_node *node, const struct ch_order_replay *replay, struct ch_order **out)
{
    struct ch_order *o = calloc(1, sizeof *o);
    if (!o)
        return CH_ERR_NO_MEMORY;
    pthread_mutex_init(&o->status_lock, NULL);
    o->node = node;
    o->replay = replay;
    o->replay_from = replay->from;
    o->replay_after = replay->after;
    o->verified = calloc(node->committee.n > 1 ? VERIFIED_SLOTS : 1, sizeof *o->verified);
    o->marks = calloc(MARKS, sizeof *o->marks);
    o->round_position = calloc(MARKS, sizeof *o->round_position);
    o->round_of = calloc(MARKS, sizeof *o->round_of);
    struct ch_core_config config;
    ch_core_defaults(&config, &node->committee, node->me);
    if (node->config.stages_min_round_ms)
        config.min_round_delay_ms = (uint32_t)node->config.stages_min_round_ms;
    config.idle_round_delay_ms = (uint32_t)node->config.stages_idle_round_ms;
    config.timestamp_ahead_ms = node->genesis.limits.window_ahead_ms;
    config.clock_ok = node->clock_ok;
    config.rejoin = node->rejoin;
    ch_random(&config.seed, sizeof config.seed);
    uint64_t rounds = 2 * node->genesis.params.gc_depth + config.rounds_uncommitted_max + HANDLES_SLACK;
    ch_err err = ch_handles_open(&o->handles, (uint32_t)(rounds * node->committee.n));
    uint64_t salt[4];
    ch_random(salt, sizeof salt);
    if (err == CH_OK)
        err = ch_account_gate_open(&o->accounts, node->config.stages_tx_rate_per_account, salt);
    if (err == CH_OK && !(o->verified && o->marks && o->round_position && o->round_of))
        err = CH_ERR_NO_MEMORY;
    if (err == CH_OK)
        err = ch_core_open(&config, &o->core);
    const struct ch_wal_options wal = {
        .segment_bytes = (uint32_t)(node->config.store_log_segment_mib << 20),
        .replay_from = replay->from ? replay->from : CH_WAL_BEGINNING, /* an empty state needs all of it */
        .accept_damage = node->rejoin,
        .replay = replay_record,
        .context = o,
    };
    struct ch_guard guard;
    bool has_guard = false, log_is_new = false;
    if (err == CH_OK && node->rejoin && replay->after == 0) { /* the disk may have been lost with all that was on it */
        err = ch_log_create(node->folder, &node->committee, &wal, false);
        log_is_new = err == CH_OK;
        err = err == CH_ERR_EXISTS ? CH_OK : err;
    }
    if (err == CH_OK && node->committee.n > 1)
        err = ch_exchange_open(node, &o->handles, log_is_new, &o->exchange);
    if (err == CH_OK)
        err = ch_log_open(node->folder, &wal, &guard, &has_guard, &o->log);
    if (err == CH_OK && o->exchange)
        ch_exchange_log_opened(o->exchange, ch_wal_durable_end(ch_log_wal(o->log)));
    set_now(o, ch_time_monotonic_ns());
    if (err == CH_OK)
        err = ch_core_start(o->core, &o->now, has_guard ? &guard : NULL, replay->after);
    if (err != CH_OK) {
        ch_order_close(o);
        return err;
    }
    (void)drain(o); /* what waits for the disk now goes on in the first poll */
    o->replay = NULL;
    keep_status(o, ch_time_monotonic_ns());
    *out = o;
    return CH_OK;
}

void ch_order_close(struct ch_order *o)
{
    if (!o)
        return;
    ch_core_close(o->core);
    ch_exchange_close(o->exchange);
    ch_log_close(o->log);
    ch_handles_close(&o->handles);
    ch_account_gate_close(&o->accounts);
    pthread_mutex_destroy(&o->status_lock);
    free(o->verified);
    free(o->marks);
    free(o->round_position);
    free(o->round_of);
    free(o);
}
