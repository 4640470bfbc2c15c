/* An honest node around its machine: a log of records with a durable watermark, a guard, payloads, an executor that
 * remembers less than it applied. Checks what the machine asks for: I5, I6, I7, I9, I11. */
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

static struct sim_event *event_new(struct sim_node *node, enum sim_kind kind)
{
    struct sim_event *e = sim_alloc(sizeof *e);
    e->kind = kind;
    e->to = node->index;
    e->life = node->life;
    return e;
}

void sim_tell(struct sim *sim, struct sim_node *node, uint64_t at_us, const struct ch_core_event *event)
{
    struct sim_event *e = event_new(node, SIM_STEP);
    e->step = *event;
    sim_queue_push(&sim->queue, at_us, e);
}

static void append(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    node->log = sim_grow(node->log, node->log_count, &node->log_room, sizeof *node->log);
    struct sim_record *r = &node->log[node->log_count++];
    *r = (struct sim_record){
        .type = a->append.type, .length = a->append.head.length, .handle = a->append.handle, .lsn = a->append.lsn};
    r->bytes = sim_alloc(r->length);
    memcpy(r->bytes, a->append.head.data, r->length);
    if (r->type != CH_RECORD_BLOCK && r->type != CH_RECORD_OWN_BLOCK)
        return;
    struct ch_block b;
    if (ch_block_parse(&sim->committee, r->bytes, r->length, &b) != CH_BLOCK_OK || b.payload_length != a->append.payload_length ||
        (b.payload_length != 0) != (r->handle != 0)) {
        sim_fail(sim, "I8: node %u appends a block that is not valid", node->index);
        return;
    }
    r->ref = sim_block_add(sim, r->bytes, (uint32_t)r->length, r->handle)->ref;
    if (r->type == CH_RECORD_BLOCK)
        return;
    if (b.round <= node->signed_round)
        sim_fail(sim, "I5: node %u signs round %u after round %u", node->index, b.round, node->signed_round);
    if (b.round > node->round_at_sign + 1 && b.round > node->decided_at_sign + 3) /* I7 */
        sim_fail(sim, "I7: node %u jumps from round %u to %u with %u decided", node->index, node->round_at_sign, b.round,
                 node->decided_at_sign);
    node->signed_round = b.round;
}

/* I5, I6 of a header of this node's on its way out. */
static void check_own(struct sim *sim, struct sim_node *node, const uint8_t *bytes, size_t length)
{
    struct ch_block b;
    if (ch_block_parse(&sim->committee, bytes, length, &b) != CH_BLOCK_OK) {
        sim_fail(sim, "I8: node %u sends a header that is not valid", node->index);
        return;
    }
    if (b.author != node->index)
        return;
    struct ch_ref ref = {.round = b.round, .author = b.author};
    ch_block_digest(&sim->committee, &b, ref.digest);
    if (b.round >= node->own_room) {
        const uint32_t room = 2 * (b.round + 128);
        struct ch_ref *own = sim_alloc(room * sizeof *own);
        if (node->own_room)
            memcpy(own, node->own, node->own_room * sizeof *own);
        free(node->own);
        node->own = own;
        node->own_room = room;
    }
    struct ch_ref *seen = &node->own[b.round];
    if (seen->round && memcmp(seen, &ref, sizeof ref) != 0)
        sim_fail(sim, "I5: node %u sends two blocks of round %u", node->index, b.round);
    if (seen->round || node->amnesiac) { /* seen: it was durable then, and a lost disk takes it away */
        *seen = ref;
        return;
    }
    *seen = ref;
    bool durable = false;
    for (size_t k = node->durable; k-- && !durable;)
        durable = memcmp(&node->log[k].ref, &ref, sizeof ref) == 0;
    if (!durable || node->guard.round < b.round)
        sim_fail(sim, "I6: node %u sends its block of round %u before it is durable", node->index, b.round);
    struct sim_block *block = sim_block_find(sim, &ref);
    if (block)
        sim_block_sent(sim, block);
}

static void check_sent(struct sim *sim, struct sim_node *node, enum ch_message_type type, struct ch_bytes body)
{
    if (type == CH_MESSAGE_HEADER)
        check_own(sim, node, body.data, body.length);
    if (type == CH_MESSAGE_TIP && body.length > 4)
        check_own(sim, node, body.data + 4, body.length - 4);
    if (type == CH_MESSAGE_I_AM && body.length > 96)
        check_own(sim, node, body.data + 96, body.length - 96);
    if (type != CH_MESSAGE_BLOCKS)
        return;
    struct ch_reader r = ch_reader(body.data, body.length);
    for (unsigned count = ch_read16(&r); count && !r.bad; count--) {
        uint32_t length = ch_read32(&r);
        const uint8_t *header = ch_read(&r, length);
        if (header)
            check_own(sim, node, header, length);
    }
}

static void send(struct sim *sim, struct sim_node *node, uint16_t to, enum ch_message_type type, struct ch_bytes bytes)
{
    check_sent(sim, node, type, bytes);
    struct sim_body *body = sim_body(node->index, type, bytes.data, bytes.length);
    for (uint16_t peer = 0; peer < sim->n; peer++)
        if (to == CH_CORE_NOBODY || to == peer)
            sim_send(sim, node->index, peer, body, 0);
    sim_body_drop(body);
}

static const struct sim_record *durable_block(const struct sim_node *node, const struct ch_ref *ref)
{
    for (size_t k = node->durable; k--;)
        if (node->log[k].ref.round == ref->round && memcmp(&node->log[k].ref, ref, sizeof *ref) == 0)
            return &node->log[k];
    return NULL;
}

static void serve_blocks(struct sim *sim, struct sim_node *node, uint16_t to, struct ch_bytes body)
{
    static uint8_t out[CH_MESSAGE_BODY_BYTES_MAX];
    struct ch_writer w = ch_writer(out, sizeof out);
    const unsigned count = ch_load16(body.data + 4);
    uint16_t found = 0;
    ch_write16(&w, 0);
    for (unsigned i = 0; i < count; i++) {
        struct ch_ref ref = ch_ref_read(body.data + 6 + (size_t)i * CH_REF_BYTES);
        const struct sim_record *r = durable_block(node, &ref);
        if (!r)
            continue;
        ch_message_item(&w, r->bytes, r->length);
        found++;
    }
    ch_store16(out, found);
    if (found)
        send(sim, node, to, CH_MESSAGE_BLOCKS, (struct ch_bytes){out, w.used});
}

static void serve_payload(struct sim *sim, struct sim_node *node, uint16_t to, struct ch_bytes body)
{
    struct ch_ref ref = ch_ref_read(body.data);
    const struct sim_record *r = durable_block(node, &ref);
    if (r && r->handle)
        sim_send_payload(sim, node->index, to, &ref, r->handle);
}

static void serve_commits(struct sim *sim, struct sim_node *node, uint16_t to, uint64_t from, uint64_t last)
{
    static uint8_t out[CH_MESSAGE_BODY_BYTES_MAX];
    const struct sim_record *proof = NULL;
    uint64_t end = 0;
    for (size_t k = 0; k < node->durable; k++) {
        const struct sim_record *r = &node->log[k];
        const uint64_t index = r->type == CH_RECORD_VOTE_CERT ? ch_load64(r->bytes) : 0;
        if (index < from || index > node->applied || index >= from + CH_MESSAGE_COMMITS_MAX || (proof && index > last))
            continue;
        proof = r;
        end = index;
    }
    struct ch_writer w = ch_writer(out, sizeof out);
    ch_write64(&w, from);
    ch_write64(&w, 1);
    ch_write16(&w, (uint16_t)(proof ? end - from + 1 : 0));
    ch_write16(&w, 0);
    for (uint64_t i = from; proof && i <= end; i++)
        ch_message_item(&w, sim->commits[i - 1].bytes, sim->commits[i - 1].length);
    uint16_t headers = 0;
    struct ch_reader r = proof ? ch_reader(proof->bytes + 40, proof->length - 40) : ch_reader(NULL, 0);
    for (; r.left && !r.bad; headers++) {
        uint32_t length = ch_read32(&r);
        ch_message_item(&w, ch_read(&r, length), length);
    }
    ch_store16(out + 18, headers);
    if (!w.bad)
        send(sim, node, to, CH_MESSAGE_COMMITS, (struct ch_bytes){out, w.used});
}

/* PAYLOAD_OK or PAYLOAD_BAD for a payload that is expected; false: it isn't. */
static bool payload_here(struct sim *sim, struct sim_node *node, uint16_t from, const struct ch_ref *ref, uint64_t handle)
{
    for (size_t i = 0; i < node->expected_count; i++) {
        if (memcmp(&node->expected[i].ref, ref, sizeof *ref) != 0)
            continue;
        uint8_t root[CH_HASH_BYTES];
        sim_payload(handle, root);
        const bool good = memcmp(root, node->expected[i].root, sizeof root) == 0;
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

static void take_payload(struct sim *sim, struct sim_node *node)
{
    struct ch_core_event event = {.type = CH_EVENT_PAYLOAD_AVAILABLE};
    if (node->pending_count) {
        event.payload.handle = node->pending[0];
        event.payload.length = sim_payload(node->pending[0], event.payload.root);
        event.payload.items = 1;
        memmove(node->pending, node->pending + 1, --node->pending_count * sizeof *node->pending);
    }
    sim_tell(sim, node, sim->now_us, &event);
    if (!node->pending_count && node->told_pending) {
        node->told_pending = false;
        sim_tell(sim, node, sim->now_us, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = false});
    }
}

void sim_node_submit(struct sim *sim, struct sim_node *node, uint64_t handle)
{
    node->pending = sim_grow(node->pending, node->pending_count, &node->pending_room, sizeof *node->pending);
    node->pending[node->pending_count++] = handle;
    if (node->told_pending || !node->running)
        return;
    node->told_pending = true;
    sim_tell(sim, node, sim->now_us, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = true});
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

static void sync(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    struct sim_event *e = event_new(node, SIM_LOG_SYNCED);
    e->sync.lsn = a->sync.lsn;
    e->sync.guard_changed = a->sync.guard_changed;
    e->sync.guard = a->sync.guard;
    if (node->disk_free_us < sim->now_us)
        node->disk_free_us = sim->now_us;
    node->disk_free_us += 1 + sim_below(sim, 2 * node->sync_us);
    sim_queue_push(&sim->queue, node->disk_free_us, e);
    struct sim_event *guard = event_new(node, SIM_GUARD_SYNCED);
    guard->sync = e->sync;
    node->disk_free_us += a->sync.guard_changed ? 1 + node->sync_us / 4 : 0;
    sim_queue_push(&sim->queue, node->disk_free_us, guard);
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
    node->applied = a->deliver.index;
    if (sim_chance(sim, 300))
        node->applied_durable = node->applied;
}

static void act(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    struct sim_event *e;
    switch (a->type) {
    case CH_ACTION_TAKE_PAYLOAD:
        take_payload(sim, node);
        break;
    case CH_ACTION_SIGN:
        sign(sim, node, a);
        break;
    case CH_ACTION_APPEND:
        append(sim, node, a);
        break;
    case CH_ACTION_SYNC:
        sync(sim, node, a);
        break;
    case CH_ACTION_SEND:
        send(sim, node, a->peer, a->send.type, a->send.body);
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
            serve_payload(sim, node, a->peer, a->send.body);
        else
            serve_blocks(sim, node, a->peer, a->send.body);
        break;
    case CH_ACTION_SERVE_COMMITS:
        serve_commits(sim, node, a->peer, a->serve.from, a->serve.to);
        break;
    case CH_ACTION_SET_TIMER:
        node->timer_us = when(node, a->timer_us);
        node->late_timers = node->timer_us <= sim->now_us ? node->late_timers + 1 : 0;
        if (node->late_timers > 1000)
            sim_fail(sim, "node %u asks again and again for a time that has passed", node->index);
        e = event_new(node, SIM_STEP);
        e->step.type = CH_EVENT_TICK;
        sim_queue_push(&sim->queue, node->timer_us > sim->now_us ? node->timer_us : sim->now_us, e);
        break;
    case CH_ACTION_DELIVER:
        deliver(sim, node, a);
        break;
    case CH_ACTION_REQUEUE:
        sim_node_submit(sim, node, a->payload.handle);
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
}

static void check_bounds(struct sim *sim, struct sim_node *node)
{
    struct ch_core_status s;
    ch_core_status(node->core, &s);
    if (s.suspended > 128u * sim->n || s.missing > 64u * sim->n * sim->n)
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
        act(sim, node, &action);
        if (node->running && !sim->healed && sim->faults & FAULT_CRASH_INSIDE && sim_below(sim, 8000) == 0) {
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

static ch_err open_and_replay(struct sim *sim, struct sim_node *node)
{
    struct ch_core_now now = now_of(sim, node);
    ch_err err = ch_core_open(&node->config, &node->core);
    for (size_t k = 0; !err && k < node->log_count; k++) {
        const struct sim_record *r = &node->log[k];
        err = ch_core_replay(node->core, r->type, r->bytes, r->length, r->handle, node->applied);
        drain(sim, node);
    }
    if (!err)
        err = ch_core_start(node->core, &now, node->have_guard ? &node->guard : NULL, node->applied);
    return err;
}

void sim_node_start(struct sim *sim, struct sim_node *node)
{
    node->life++;
    node->config.rejoin = !node->have_guard;
    node->config.seed = ch_prng_next(&sim->prng);
    node->expected_count = 0;
    node->late_timers = 0;
    memset(node->early, 0, sizeof node->early);
    node->disk_free_us = sim->now_us;
    ch_err err = open_and_replay(sim, node);
    if (err == CH_ERR_LOG_DAMAGED && node->amnesiac) { /* rejoined and crashed before its first block: once more */
        ch_core_close(node->core);
        node->config.rejoin = true;
        err = open_and_replay(sim, node);
    }
    if (err) {
        sim_fail(sim, "node %u does not start: %s", node->index, ch_err_name(err));
        return;
    }
    node->running = true;
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

static void cut_log(struct sim_node *node, size_t count)
{
    while (node->log_count > count)
        free(node->log[--node->log_count].bytes);
    for (size_t k = 0; k < count; k++)
        node->log[k].lsn = 0;
    node->durable = count;
    node->signed_round = 0;
    node->durable_commit = 0;
    for (size_t k = 0; k < count; k++) {
        if (node->log[k].type == CH_RECORD_OWN_BLOCK)
            node->signed_round = node->log[k].ref.round;
        if (node->log[k].type == CH_RECORD_COMMIT)
            node->durable_commit = ch_load64(node->log[k].bytes + 6);
    }
}

void sim_node_crash(struct sim *sim, struct sim_node *node)
{
    if (!node->running)
        return;
    add_counters(&sim->counters, ch_core_counters(node->core));
    ch_core_close(node->core);
    node->core = NULL;
    node->running = false;
    node->life++;
    node->told_pending = false;
    node->paused_until_us = 0;
    size_t kept = node->durable;
    if (sim->faults & FAULT_TAIL_SURVIVES)
        kept += sim_below(sim, node->log_count - kept + 1);
    cut_log(node, kept);
    node->applied = node->applied_durable + sim_below(sim, node->applied - node->applied_durable + 1);
    node->applied_durable = node->applied;
    for (uint16_t peer = 0; peer < sim->n; peer++)
        if (sim->nodes[peer].running && sim->nodes[peer].honest && node->connected[peer])
            sim_tell(sim, &sim->nodes[peer], sim->now_us,
                     &(struct ch_core_event){.type = CH_EVENT_PEER_DOWN, .peer = node->index});
    struct sim_event *e = event_new(node, SIM_RESTART);
    sim_queue_push(&sim->queue, sim->now_us + 10 * SIM_MS + sim_below(sim, sim_chance(sim, 300) ? 20 * SIM_SECOND : SIM_SECOND), e);
}

void sim_node_forget(struct sim *sim, struct sim_node *node)
{
    sim_node_crash(sim, node);
    cut_log(node, 0);
    node->have_guard = false;
    node->amnesiac = true;
    node->applied = node->applied_durable = 0;
}

static void log_synced(struct sim_node *node, const struct sim_event *e)
{
    for (; node->durable < node->log_count && node->log[node->durable].lsn <= e->sync.lsn; node->durable++)
        if (node->log[node->durable].type == CH_RECORD_COMMIT)
            node->durable_commit = ch_load64(node->log[node->durable].bytes + 6);
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
    case SIM_LOG_SYNCED:
        log_synced(node, e);
        break;
    case SIM_GUARD_SYNCED:
        if (e->sync.guard_changed) {
            node->guard = e->sync.guard;
            node->have_guard = true;
        }
        step(sim, node, &(struct ch_core_event){.type = CH_EVENT_SYNCED, .lsn = e->sync.lsn});
        break;
    case SIM_RESTART:
    case SIM_BYZANTINE:
    case SIM_FAULT:
        break;
    }
}

void sim_node_free(struct sim_node *node)
{
    ch_core_close(node->core);
    cut_log(node, 0);
    free(node->log);
    free(node->pending);
    free(node->expected);
    free(node->own);
}
