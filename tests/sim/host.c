/* An honest node around its machine: its log, its payloads, its ledger, its crashes. Checks what the machine asks for:
 * I5, I7, I8, I9, I11. */
#include "tests/sim/sim.h"

static struct ch_core_now now_of(const struct sim *sim, const struct sim_node *node)
{
    const uint64_t mono = sim->now_us * (uint64_t)(1000 + node->drift) / 1000;
    return (struct ch_core_now){
        mono, (uint64_t)((int64_t)(sim->committee.start_ms + mono / 1000) + node->offset_ms)};
}

/* The first moment at which this node's clock shows it. */
static uint64_t when(const struct sim_node *node, uint64_t mono_us)
{
    const uint64_t rate = (uint64_t)(1000 + node->drift);
    return (mono_us * 1000 + rate - 1) / rate;
}

struct sim_event *sim_event_of(struct sim_node *node, enum sim_kind kind)
{
    struct sim_event *e = sim_alloc(sizeof *e);
    e->kind = kind;
    e->to = node->index;
    e->life = node->life;
    return e;
}

void sim_tell(struct sim *sim, struct sim_node *node, uint64_t at_us, const struct ch_core_event *event)
{
    struct sim_event *e = sim_event_of(node, SIM_STEP);
    e->step = *event;
    sim_queue_push(&sim->queue, at_us, e);
}

static void check_own_block(struct sim *sim, struct sim_node *node, const struct ch_block *b)
{
    if (b->round <= node->signed_round)
        sim_fail(sim, "I5: node %u signs round %u after round %u", node->index, b->round, node->signed_round);
    if (b->round > node->round_at_sign + 1 && b->round > node->decided_at_sign + 3) /* I7 */
        sim_fail(sim, "I7: node %u jumps from round %u to %u with %u decided", node->index, node->round_at_sign,
                 b->round, node->decided_at_sign);
    node->signed_round = b->round;
}

/* False: the disk took it no more. */
static bool append(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    struct ch_block b;
    struct ch_core_status status;
    uint64_t position = 0;
    const ch_err err = sim_disk_append(sim, node, a, &position);
    if (err != CH_OK) {
        sim->seen.disk_errors += err == CH_ERR_IO;
        sim->seen.disks_full += err == CH_ERR_NO_SPACE;
        return false;
    }
    node->log = sim_grow(node->log, node->log_count, &node->log_room, sizeof *node->log);
    struct sim_record *r = &node->log[node->log_count++];
    *r = (struct sim_record){.type = a->append.type,
                             .length = a->append.head.length,
                             .handle = a->append.handle,
                             .position = position};
    r->bytes = sim_alloc(r->length);
    memcpy(r->bytes, a->append.head.data, r->length);
    if (r->type != CH_RECORD_BLOCK && r->type != CH_RECORD_OWN_BLOCK)
        return true;
    if (ch_block_parse(&sim->committee, r->bytes, r->length, &b) != CH_BLOCK_OK ||
        b.payload_length != a->append.payload_length || (b.payload_length != 0) != (r->handle != 0)) {
        sim_fail(sim, "I8: node %u appends a block that is not valid", node->index);
        return true;
    }
    r->ref = sim_block_add(sim, r->bytes, (uint32_t)r->length, r->handle)->ref;
    ch_core_status(node->core, &status);
    sim_check_accepted(sim, node, &b, status.gc_round);
    if (r->type == CH_RECORD_OWN_BLOCK)
        check_own_block(sim, node, &b);
    return true;
}

/* PAYLOAD_OK or PAYLOAD_BAD for a payload that is expected; false: it isn't. */
static bool payload_here(struct sim *sim, struct sim_node *node, uint16_t from, const struct ch_ref *ref,
                         uint64_t handle)
{
    for (size_t i = 0; i < node->expected_count; i++) {
        if (memcmp(&node->expected[i].ref, ref, sizeof *ref) != 0)
            continue;
        const bool good = memcmp(sim_payload(sim, handle)->root, node->expected[i].root, CH_HASH_BYTES) == 0;
        sim->seen.payloads_refused += !good;
        struct ch_core_event event = {
            .type = good ? CH_EVENT_PAYLOAD_OK : CH_EVENT_PAYLOAD_BAD, .peer = from, .payload_of = {*ref, handle}};
        if (good)
            node->expected[i] = node->expected[--node->expected_count];
        sim_tell(sim, node, sim->now_us, &event);
        return true;
    }
    return false;
}

static void payload_came(struct sim *sim, struct sim_node *node, const struct sim_event *e)
{
    if (payload_here(sim, node, e->from, &e->payload.ref, e->payload.handle))
        return;
    node->early[node->early_at % SIM_EARLY].ref = e->payload.ref;
    node->early[node->early_at++ % SIM_EARLY].handle = e->payload.handle;
}

static void forget(struct sim_node *node, const struct ch_ref *ref)
{
    for (size_t i = 0; i < node->expected_count; i++)
        if (memcmp(&node->expected[i].ref, ref, sizeof *ref) == 0) {
            node->expected[i] = node->expected[--node->expected_count];
            return;
        }
}

static void expect(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    forget(node, &a->payload.ref);
    node->expected =
        sim_grow(node->expected, node->expected_count, &node->expected_room, sizeof *node->expected);
    node->expected[node->expected_count].ref = a->payload.ref;
    memcpy(node->expected[node->expected_count++].root, a->payload.root, CH_HASH_BYTES);
    for (unsigned i = 0; i < SIM_EARLY; i++)
        if (memcmp(&node->early[i].ref, &a->payload.ref, sizeof a->payload.ref) == 0) {
            node->early[i].ref.round = 0;
            payload_here(sim, node, a->peer, &a->payload.ref, node->early[i].handle);
            return;
        }
}

/* Some of what waits and may be proposed already goes into one payload. */
static void take_payload(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    struct ch_core_event event = {.type = CH_EVENT_PAYLOAD_AVAILABLE};
    uint32_t txs[8];
    size_t count = 0, kept = 0, most = 1 + sim_below(sim, 8);
    for (size_t i = 0; i < node->pending_count; i++)
        if (count < most && sim->txs[node->pending[i]].timestamp_ms <= a->take.timestamp_max_ms)
            txs[count++] = node->pending[i];
        else
            node->pending[kept++] = node->pending[i];
    node->pending_count = kept;
    if (count) {
        event.payload.handle = sim_payload_make(sim, txs, count, 0);
        const struct sim_payload *p = sim_payload(sim, event.payload.handle);
        event.payload.length = p->length;
        event.payload.items = (uint32_t)count;
        memcpy(event.payload.root, p->root, CH_HASH_BYTES);
    }
    sim_tell(sim, node, sim->now_us, &event);
    if (!node->pending_count && node->told_pending) {
        node->told_pending = false;
        sim_tell(sim, node, sim->now_us, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = false});
    }
}

void sim_node_submit(struct sim *sim, struct sim_node *node, uint32_t tx)
{
    node->pending = sim_grow(node->pending, node->pending_count, &node->pending_room, sizeof *node->pending);
    node->pending[node->pending_count++] = tx;
    if (node->told_pending || !node->running)
        return;
    node->told_pending = true;
    sim_tell(sim, node, sim->now_us, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = true});
}

static void requeue(struct sim *sim, struct sim_node *node, uint64_t handle)
{
    for (uint32_t i = 0; i < sim_payload(sim, handle)->count; i++)
        if (sim_payload(sim, handle)->txs[i].client)
            sim_node_submit(sim, node, sim_payload(sim, handle)->txs[i].client);
}

static void sign(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    struct ch_core_status status;
    struct ch_core_event event = {.type = CH_EVENT_SIGNED};
    ch_core_status(node->core, &status);
    if (strcmp(a->sign.domain, CH_DOMAIN_BLOCK_SIGNATURE) == 0) {
        node->decided_at_sign = status.decided_round;
        node->round_at_sign = status.round;
    }
    memcpy(event.signature.message, a->sign.message, a->sign.length);
    event.signature.length = a->sign.length;
    sim_sign(&sim->committee, node->index, a->sign.domain, a->sign.message, a->sign.length, event.signature.bytes);
    sim_tell(sim, node, sim->now_us, &event);
}

static void deliver(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    if (a->deliver.index != node->applied + 1)
        sim_fail(sim, "I11: node %u delivers commit %llu after %llu", node->index, (unsigned long long)a->deliver.index,
                 (unsigned long long)node->applied);
    if (a->deliver.index > node->durable_commit)
        sim_fail(sim, "I11: node %u delivers commit %llu, durable is %llu", node->index,
                 (unsigned long long)a->deliver.index, (unsigned long long)node->durable_commit);
    sim_check_delivery(sim, node, a);
    if (!sim->failed)
        sim_executor_apply(sim, node, a);
}

/* False: the process ends here. */
static bool act(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    struct sim_event *e;
    switch (a->type) {
    case CH_ACTION_TAKE_PAYLOAD:
        take_payload(sim, node, a);
        break;
    case CH_ACTION_SIGN:
        sign(sim, node, a);
        break;
    case CH_ACTION_APPEND:
        return append(sim, node, a);
    case CH_ACTION_SYNC:
        sim_disk_sync(sim, node, a);
        break;
    case CH_ACTION_SEND:
        sim_node_send(sim, node, a->peer, a->send.type, a->send.body);
        break;
    case CH_ACTION_SEND_PAYLOAD:
        for (uint16_t to = 0; to < sim->n; to++)
            if (a->peer == CH_CORE_NOBODY || a->peer == to)
                sim_send_payload(sim, node->index, to, &a->payload.ref, a->payload.handle);
        break;
    case CH_ACTION_EXPECT_PAYLOAD:
        expect(sim, node, a);
        break;
    case CH_ACTION_FORGET_PAYLOAD:
        forget(node, &a->payload.ref);
        break;
    case CH_ACTION_SERVE_BLOCKS:
        if (a->send.type == CH_MESSAGE_GET_PAYLOAD)
            sim_serve_payload(sim, node, a->peer, a->send.body);
        else
            sim_serve_blocks(sim, node, a->peer, a->send.body);
        break;
    case CH_ACTION_SERVE_COMMITS:
        sim_serve_commits(sim, node, a->peer, a->serve.from, a->serve.to);
        break;
    case CH_ACTION_SET_TIMER:
        node->timer_us = when(node, a->timer_us);
        node->late_timers = node->timer_us <= sim->now_us ? node->late_timers + 1 : 0;
        if (node->late_timers > 1000)
            sim_fail(sim, "node %u asks again and again for a time that has passed", node->index);
        e = sim_event_of(node, SIM_STEP);
        e->step.type = CH_EVENT_TICK;
        sim_queue_push(&sim->queue, node->timer_us > sim->now_us ? node->timer_us : sim->now_us, e);
        break;
    case CH_ACTION_DELIVER:
        deliver(sim, node, a);
        break;
    case CH_ACTION_REQUEUE:
        requeue(sim, node, a->payload.handle);
        break;
    case CH_ACTION_RELEASE:
    case CH_ACTION_DROP_BELOW:
        break;
    case CH_ACTION_REPORT:
        if (a->report == CH_REPORT_CLOCK) /* the operator comes and looks */
            sim_tell(sim, node, sim->now_us + SIM_SECOND + sim_below(sim, 3 * SIM_SECOND),
                     &(struct ch_core_event){.type = CH_EVENT_CLOCK_OK});
        break;
    case CH_ACTION_HALT:
        sim_fail(sim, "node %u halts: %s, %s", node->index, ch_halt_name(a->halt), ch_halt_text(a->halt));
        break;
    }
    return true;
}

static void check_bounds(struct sim *sim, struct sim_node *node)
{
    struct ch_core_status s;
    ch_core_status(node->core, &s);
    if (s.suspended > 2 * SIM_LIMIT_ROUNDS * sim->n || s.missing > SIM_LIMIT_ROUNDS * sim->n * sim->n + 4096)
        sim_fail(sim, "I9: node %u holds %u suspended blocks and %u wants", node->index, s.suspended, s.missing);
    if (node->applied > s.commit_index)
        sim_fail(sim, "I11: node %u applied %llu of %llu commits", node->index, (unsigned long long)node->applied,
                 (unsigned long long)s.commit_index);
}

/* False: it crashed on the way. */
static bool drain(struct sim *sim, struct sim_node *node)
{
    struct ch_core_action action;
    while (!sim->failed && ch_core_next_out(node->core, &action)) {
        bool goes_on = act(sim, node, &action);
        if (goes_on && node->running && !sim->healed && sim->faults & FAULT_CRASH_INSIDE && sim_below(sim, 8000) == 0) {
            sim->seen.faults[SIM_FAULT_BIT_CRASH_INSIDE]++;
            goes_on = false;
        }
        if (!goes_on) {
            sim_node_crash(sim, node);
            return false;
        }
    }
    return true;
}

static void step(struct sim *sim, struct sim_node *node, const struct ch_core_event *event)
{
    struct ch_core_now now = now_of(sim, node);
    ch_core_step(node->core, &now, event);
    if (drain(sim, node) && !sim->failed)
        check_bounds(sim, node);
}

/* --- start and end --- */

ch_err sim_replayed(struct sim *sim, struct sim_node *node, size_t k)
{
    const struct sim_record *r = &node->log[k];
    struct ch_core_action action;
    if (r->type == CH_RECORD_OWN_BLOCK)
        node->signed_round = r->ref.round;
    if (r->type == CH_RECORD_COMMIT)
        node->durable_commit = ch_load64(r->bytes + 6);
    ch_err err = ch_core_replay(node->core, r->type, r->bytes, r->length, r->handle, node->applied);
    while (err == CH_OK && !sim->failed && ch_core_next_out(node->core, &action))
        (void)act(sim, node, &action); /* deliveries and what follows from them; nothing goes to the disk */
    return err;
}

static ch_err open_and_replay(struct sim *sim, struct sim_node *node, bool rejoin)
{
    struct ch_core_now now = now_of(sim, node);
    struct ch_guard guard = {0};
    bool has_guard = false;
    node->config.rejoin = rejoin;
    node->config.seed = ch_prng_next(&sim->prng);
    node->signed_round = 0;
    node->durable_commit = 0;
    ch_err err = ch_core_open(&node->config, &node->core);
    if (err == CH_OK)
        err = sim_disk_open(sim, node, rejoin, &guard, &has_guard);
    if (err == CH_OK && !rejoin && !sim_disk_spoilt(node) && guard.round < node->guard.round)
        sim_fail(sim, "W2: the guard of node %u stands at round %u, %u was durable", node->index, guard.round,
                 node->guard.round);
    if (err == CH_OK)
        err = ch_core_start(node->core, &now, has_guard ? &guard : NULL, node->applied);
    return err;
}

/* The operator's part: what is left of a damaged log or nothing at all, and --rejoin. */
static ch_err rejoin(struct sim *sim, struct sim_node *node)
{
    sim->forgot = node->amnesiac = true;
    ch_core_close(node->core);
    node->core = NULL;
    if (sim_chance(sim, 500)) {
        sim_disk_close_log(node);
        ch_err err = open_and_replay(sim, node, true);
        sim->seen.damaged_rejoined += err == CH_OK;
        if (err == CH_OK || sim->failed)
            return err;
        ch_core_close(node->core);
        node->core = NULL;
    }
    sim_node_lose_disk(sim, node);
    return open_and_replay(sim, node, true);
}

void sim_node_start(struct sim *sim, struct sim_node *node)
{
    node->life++;
    node->expected_count = 0;
    node->late_timers = 0;
    memset(node->early, 0, sizeof node->early);
    const bool spoilt = sim_disk_spoilt(node);
    ch_err err = open_and_replay(sim, node, node->amnesiac && !node->log_count);
    if (err == CH_ERR_LOG_DAMAGED && (spoilt || node->amnesiac)) {
        sim_disk_noticed(sim, node);
        err = rejoin(sim, node);
    } else if (!err && spoilt) {
        sim_fail(sim, "W2: node %u takes a spoilt log for whole", node->index);
    }
    if (err) {
        sim_fail(sim, "node %u does not start: %s", node->index, ch_err_name(err));
        return;
    }
    node->running = true;
    if (sim->faults & FAULT_OLD_BACKUP && sim_chance(sim, 300))
        sim_disk_backup(sim, node);
    for (uint16_t peer = 0; peer < sim->n; peer++) {
        struct sim_node *other = &sim->nodes[peer];
        if (peer == node->index || !other->running || !node->connected[peer])
            continue;
        sim_tell(sim, node, sim->now_us, &(struct ch_core_event){.type = CH_EVENT_PEER_UP, .peer = peer});
        if (other->honest)
            sim_tell(sim, other, sim->now_us, &(struct ch_core_event){.type = CH_EVENT_PEER_UP, .peer = node->index});
    }
    node->told_pending = node->pending_count != 0;
    if (node->told_pending)
        sim_tell(sim, node, sim->now_us, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = true});
    drain(sim, node);
}

static void add_counters(struct ch_core_counters *to, const struct ch_core_counters *from)
{
#define X(name) to->name += from->name;
    CH_CORE_COUNTER_LIST(X)
#undef X
}

void sim_node_crash(struct sim *sim, struct sim_node *node)
{
    if (!node->running)
        return;
    sim->seen.crashes++;
    add_counters(&sim->counters, ch_core_counters(node->core));
    ch_core_close(node->core);
    node->core = NULL;
    node->running = false;
    node->life++;
    node->told_pending = false;
    node->paused_until_us = 0;
    sim_disk_crash(sim, node);
    sim_executor_crash(sim, node);
    if (node->first_healed) /* an I/O error from before; the client has no answer and asks again */
        sim_node_submit(sim, node, node->first_healed);
    for (uint16_t peer = 0; peer < sim->n; peer++)
        if (sim->nodes[peer].running && sim->nodes[peer].honest && node->connected[peer])
            sim_tell(sim, &sim->nodes[peer], sim->now_us,
                     &(struct ch_core_event){.type = CH_EVENT_PEER_DOWN, .peer = node->index});
    struct sim_event *e = sim_event_of(node, SIM_RESTART);
    sim_queue_push(&sim->queue,
                   sim->now_us + 10 * SIM_MS + sim_below(sim, sim_chance(sim, 300) ? 20 * SIM_SECOND : SIM_SECOND), e);
}

void sim_log_cut(struct sim *sim, struct sim_node *node, size_t count)
{
    while (node->log_count > count) {
        const struct sim_record *r = &node->log[--node->log_count];
        sim_check_forgotten(sim, node, &r->ref);
        free(r->bytes);
    }
    node->durable = count;
}

void sim_node_lose_disk(struct sim *sim, struct sim_node *node)
{
    sim->seen.disks_lost++;
    sim_log_cut(sim, node, 0);
    node->guard = (struct ch_guard){0};
    node->amnesiac = true;
    sim_disk_create(sim, node, false);
    sim_executor_create(sim, node);
}

void sim_node_forget(struct sim *sim, struct sim_node *node)
{
    sim_node_crash(sim, node);
    sim_node_lose_disk(sim, node);
}

static void disk_went_on(struct sim *sim, struct sim_node *node)
{
    uint64_t synced = 0;
    const ch_err err = sim_disk_poll(sim, node, &synced);
    if (err != CH_OK) { /* what the disk holds is unknown: the process ends */
        sim->seen.disk_errors += err == CH_ERR_IO;
        sim->seen.disks_full += err == CH_ERR_NO_SPACE;
        sim_node_crash(sim, node);
    } else if (synced) {
        step(sim, node, &(struct ch_core_event){.type = CH_EVENT_SYNCED, .lsn = synced});
    }
}

void sim_node_handle(struct sim *sim, struct sim_node *node, struct sim_event *e)
{
    struct ch_core_event event;
    switch (e->kind) {
    case SIM_STEP:
        if (e->step.type != CH_EVENT_TICK || e->at_us >= node->timer_us)
            step(sim, node, &e->step);
        break;
    case SIM_MESSAGE:
        if (!node->connected[e->from] || !sim_verify(sim, e->body))
            break;
        event = (struct ch_core_event){.type = CH_EVENT_MESSAGE,
                                       .peer = e->from,
                                       .message = {e->body->type, e->body->bytes, e->body->length}};
        step(sim, node, &event);
        break;
    case SIM_PAYLOAD:
        if (node->connected[e->from])
            payload_came(sim, node, e);
        break;
    case SIM_DISK:
        disk_went_on(sim, node);
        break;
    case SIM_RESTART:
    case SIM_BYZANTINE:
    case SIM_FAULT:
        break;
    }
}

void sim_node_free(struct sim *sim, struct sim_node *node)
{
    ch_core_close(node->core);
    sim_disk_free(node);
    sim_executor_free(node);
    sim_log_cut(sim, node, 0);
    free(node->log);
    free(node->pending);
    free(node->expected);
    free(node->own);
}
