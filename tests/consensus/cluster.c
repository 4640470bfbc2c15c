#include "tests/consensus/cluster.h"

enum kind { STEP, DELIVERY, PAYLOAD, SYNC_DONE };

struct event {
    uint64_t at_us, sequence;
    enum kind kind;
    uint16_t to, from;
    unsigned life;
    struct ch_core_event event;
    enum ch_message_type type;
    uint64_t lsn;
    bool guard_changed;
    struct ch_guard guard;
    struct ch_ref ref;
    uint64_t handle;
    size_t length;
    uint8_t body[];
};

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static struct event *event_new(struct cluster *c, uint64_t at_us, enum kind kind, uint16_t to, const uint8_t *body,
                               size_t length)
{
    struct event *e = calloc(1, sizeof *e + length);
    assert_non_null(e);
    e->at_us = at_us;
    e->sequence = c->sequence++;
    e->kind = kind;
    e->to = to;
    e->life = c->nodes[to].life;
    e->length = length;
    if (length)
        memcpy(e->body, body, length);
    if (c->heap_count == c->heap_room) {
        c->heap_room = c->heap_room ? 2 * c->heap_room : 256;
        c->heap = realloc(c->heap, c->heap_room * sizeof(struct event *));
        assert_non_null(c->heap);
    }
    size_t i = c->heap_count++;
    for (; i && before(e, c->heap[(i - 1) / 2]); i = (i - 1) / 2)
        c->heap[i] = c->heap[(i - 1) / 2];
    c->heap[i] = e;
    return e;
}

static struct event *event_pop(struct cluster *c)
{
    struct event *top = c->heap[0], *last = c->heap[--c->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < c->heap_count) {
        if (child + 1 < c->heap_count && before(c->heap[child + 1], c->heap[child]))
            child++;
        if (!before(c->heap[child], last))
            break;
        c->heap[i] = c->heap[child];
        i = child;
    }
    if (c->heap_count)
        c->heap[i] = last;
    return top;
}

void cluster_open(struct cluster *c, uint16_t n, uint64_t seed)
{
    struct ch_genesis genesis;
    memset(c, 0, sizeof *c);
    ch_genesis_defaults(&genesis, n);
    genesis.validator_count = n;
    genesis.start_ms = 1700000000000;
    for (uint16_t i = 0; i < n; i++) {
        memset(genesis.validators[i].key, i + 1, 32);
        genesis.validators[i].stake = 1;
    }
    uint8_t chain_id[CH_HASH_BYTES];
    memset(chain_id, 0xc4, sizeof chain_id);
    ch_committee_from_genesis(&genesis, chain_id, &c->committee);
    ch_prng_seed(&c->prng, seed);
    c->n = n;
    c->now_us = 1000000;
    c->delay_min_us = 5000;
    c->delay_max_us = 40000;
    c->sync_us = 1000;
    c->check_agreement = true;
    for (uint16_t i = 0; i < n; i++) {
        struct node *node = &c->nodes[i];
        node->cluster = c;
        node->index = i;
        ch_core_defaults(&node->config, &c->committee, i);
        node->config.seed = ch_prng_next(&c->prng);
        node->config.rounds_uncommitted_max = 256;
        for (uint16_t j = 0; j < n; j++)
            node->connected[j] = j != i;
    }
}

void cluster_params(struct cluster *c, uint32_t gc_depth, uint32_t ranks)
{
    c->committee.params.gc_depth = gc_depth;
    c->committee.params.leaders_per_round = ranks;
    ch_committee_init(&c->committee);
}

static void log_cut(struct node *node, size_t count)
{
    while (node->log_count > count)
        free(node->log[--node->log_count].bytes);
}

void cluster_close(struct cluster *c)
{
    while (c->heap_count)
        free(event_pop(c));
    free(c->heap);
    for (uint16_t i = 0; i < c->n; i++) {
        struct node *node = &c->nodes[i];
        ch_core_close(node->core);
        log_cut(node, 0);
        free(node->log);
        for (size_t k = 0; k < node->commit_count; k++)
            free(node->commits[k].bytes);
        free(node->commits);
        free(node->early);
    }
}

void cluster_sign(const struct ch_committee *committee, uint16_t author, const char *domain, const uint8_t *message,
                  uint32_t length, uint8_t signature[CH_BLOCK_SIGNATURE_BYTES])
{
    const struct ch_bytes parts[] = {{committee->key[author], 32}, {message, length}};
    ch_hash_domain(domain, parts, 2, signature);
    memcpy(signature + CH_HASH_BYTES, signature, CH_HASH_BYTES);
}

uint32_t cluster_block(const struct ch_committee *committee, const struct ch_block_draft *draft, uint8_t *out,
                       struct ch_ref *ref)
{
    struct ch_block block;
    uint32_t length = ch_block_write(draft, out);
    ch_block_view(out, length, &block);
    *ref = (struct ch_ref){.round = draft->round, .author = draft->author};
    ch_block_digest(committee, &block, ref->digest);
    cluster_sign(committee, draft->author, CH_DOMAIN_BLOCK_SIGNATURE, ref->digest, CH_HASH_BYTES,
                 out + length - CH_BLOCK_SIGNATURE_BYTES);
    return length;
}

static bool verified(const struct ch_committee *committee, uint16_t from, enum ch_message_type type,
                     const uint8_t *body, size_t length)
{
    static struct ch_message_signature list[CH_MESSAGE_SIGNATURES_MAX];
    size_t count;
    if (!ch_message_check(committee, from, type, body, length, list, CH_MESSAGE_SIGNATURES_MAX, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        uint8_t expected[CH_BLOCK_SIGNATURE_BYTES];
        const struct ch_bytes parts[] = {{list[i].key, 32}, {list[i].message, list[i].message_length}};
        ch_hash_domain(list[i].domain, parts, 2, expected);
        if (memcmp(expected, list[i].signature, CH_HASH_BYTES) != 0)
            return false;
    }
    return true;
}

/* The payload of a handle: its bytes repeated, so that anybody can make it again. */
static uint32_t payload_of(uint64_t handle, uint8_t root[CH_HASH_BYTES])
{
    uint8_t bytes[256];
    const uint32_t length = 8 + handle % 200;
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(handle >> 8 * (i & 7));
    ch_payload_root(bytes, length, root);
    return length;
}

static struct ch_core_now now_of(const struct node *node)
{
    const struct cluster *c = node->cluster;
    return (struct ch_core_now){
        c->now_us, (uint64_t)((int64_t)(c->committee.start_ms + c->now_us / 1000) + node->clock_offset_ms)};
}

static void drain(struct node *node);

static void step(struct node *node, const struct ch_core_event *event)
{
    struct ch_core_now now = now_of(node);
    ch_core_step(node->core, &now, event);
    drain(node);
}

static void deliver_later(struct node *node, const struct ch_core_event *event)
{
    struct event *e = event_new(node->cluster, node->cluster->now_us, STEP, node->index, NULL, 0);
    e->event = *event;
}

static void send_to(struct node *node, uint16_t to, enum ch_message_type type, const uint8_t *body, size_t length)
{
    struct cluster *c = node->cluster;
    node->sent_messages++;
    if (to == node->index || !node->connected[to] || !c->nodes[to].running)
        return;
    if (c->drop && c->drop(c, node->index, to, type, body, length))
        return;
    uint64_t delay = c->delay_min_us + ch_prng_below(&c->prng, c->delay_max_us - c->delay_min_us + 1);
    if (c->hold_us)
        delay += c->hold_us(c, node->index, to, type, body, length);
    struct event *e = event_new(c, c->now_us + delay, DELIVERY, to, body, length);
    e->from = node->index;
    e->type = type;
}

static void send_payload(struct node *node, uint16_t to, const struct ch_ref *ref, uint64_t handle)
{
    struct cluster *c = node->cluster;
    if (to == node->index || !node->connected[to] || !c->nodes[to].running)
        return;
    if (c->drop && c->drop(c, node->index, to, CH_MESSAGE_PAYLOAD, (const uint8_t *)ref, sizeof *ref))
        return;
    struct event *e =
        event_new(c, c->now_us + c->delay_min_us + ch_prng_below(&c->prng, c->delay_max_us - c->delay_min_us + 1),
                  PAYLOAD, to, NULL, 0);
    e->from = node->index;
    e->ref = *ref;
    e->handle = handle;
}

static bool commit_is_durable(const struct node *node, uint64_t index)
{
    struct ch_commit commit;
    for (size_t k = node->durable; k-- > 0;)
        if (node->log[k].type == CH_RECORD_COMMIT && ch_commit_parse(node->log[k].bytes, node->log[k].length, &commit))
            return commit.index >= index; /* the newest */
    return false;
}

static void append(struct node *node, const struct ch_core_action *a)
{
    if (node->log_count == node->log_room) {
        node->log_room = node->log_room ? 2 * node->log_room : 64;
        node->log = realloc(node->log, node->log_room * sizeof *node->log);
        assert_non_null(node->log);
    }
    struct record *r = &node->log[node->log_count++];
    *r = (struct record){
        a->append.type, malloc(a->append.head.length), a->append.head.length, a->append.handle, a->append.lsn, {0}};
    assert_non_null(r->bytes);
    memcpy(r->bytes, a->append.head.data, r->length);
    if (r->type == CH_RECORD_BLOCK || r->type == CH_RECORD_OWN_BLOCK) {
        struct ch_block b;
        ch_block_view(r->bytes, (uint32_t)r->length, &b);
        r->ref = (struct ch_ref){.round = b.round, .author = b.author};
        ch_block_digest(&node->cluster->committee, &b, r->ref.digest);
        assert_int_equal(b.payload_length, a->append.payload_length);
        assert_true((b.payload_length != 0) == (r->handle != 0));
        if (r->type == CH_RECORD_OWN_BLOCK && b.vote_count) /* W4 */
            assert_true(commit_is_durable(node, ch_load64(b.votes + (b.vote_count - 1u) * CH_BLOCK_VOTE_BYTES)));
    }
}

static void deliver(struct node *node, const struct ch_core_action *a)
{
    struct cluster *c = node->cluster;
    const uint64_t index = a->deliver.index;
    if (node->commit_count >= index) { /* once more after a restart: the same bytes */
        assert_true(index > node->applied);
        assert_int_equal(node->commits[index - 1].length, a->deliver.bytes.length);
        assert_memory_equal(node->commits[index - 1].bytes, a->deliver.bytes.data, a->deliver.bytes.length);
        node->applied = index;
        return;
    }
    assert_int_equal(index, node->commit_count + 1);
    assert_int_equal(index, node->applied + 1);
    assert_true(commit_is_durable(node, index)); /* W3 */
    if (node->commit_count == node->commit_room) {
        node->commit_room = node->commit_room ? 2 * node->commit_room : 64;
        node->commits = realloc(node->commits, node->commit_room * sizeof *node->commits);
        assert_non_null(node->commits);
    }
    struct commit *commit = &node->commits[node->commit_count++];
    commit->length = a->deliver.bytes.length;
    commit->bytes = malloc(commit->length);
    assert_non_null(commit->bytes);
    memcpy(commit->bytes, a->deliver.bytes.data, commit->length);
    ch_commit_digest(&c->committee, commit->bytes, commit->length, commit->digest);
    struct ch_commit parsed;
    assert_true(ch_commit_parse(commit->bytes, commit->length, &parsed));
    assert_int_equal(parsed.block_count, a->deliver.block_count);
    assert_true(parsed.timestamp_ms == a->deliver.timestamp_ms && parsed.timestamp_ms >= node->commit_ms);
    node->commit_ms = parsed.timestamp_ms;
    for (uint32_t i = 0; i < parsed.block_count; i++) {
        assert_memory_equal(parsed.refs + (size_t)i * CH_REF_BYTES, &a->deliver.blocks[i].ref, CH_REF_BYTES);
        assert_true((a->deliver.blocks[i].handle != 0) == (a->deliver.blocks[i].payload_length != 0));
        node->handles_delivered += a->deliver.blocks[i].handle != 0;
    }
    for (uint16_t i = 0; c->check_agreement && i < c->n; i++) /* I1 */
        if (c->nodes[i].commit_count >= index)
            assert_memory_equal(c->nodes[i].commits[index - 1].digest, commit->digest, CH_HASH_BYTES);
    node->applied = index;
}

/* Answers out of the log, as a host would. */
static void serve_blocks(struct node *node, uint16_t to, enum ch_message_type type, struct ch_bytes body)
{
    uint8_t *out = malloc(CH_MESSAGE_BODY_BYTES_MAX);
    assert_non_null(out);
    struct ch_writer w = ch_writer(out, CH_MESSAGE_BODY_BYTES_MAX);
    const unsigned count = type == CH_MESSAGE_GET_PAYLOAD ? 1 : ch_load16(body.data + 4);
    const uint8_t *refs = type == CH_MESSAGE_GET_PAYLOAD ? body.data : body.data + 6;
    uint16_t found = 0;
    ch_write16(&w, 0);
    for (unsigned i = 0; i < count; i++) {
        struct ch_ref ref = ch_ref_read(refs + (size_t)i * CH_REF_BYTES);
        for (size_t k = 0; k < node->durable; k++) {
            const struct record *r = &node->log[k];
            if ((r->type != CH_RECORD_BLOCK && r->type != CH_RECORD_OWN_BLOCK) || memcmp(&r->ref, &ref, sizeof ref))
                continue;
            if (type == CH_MESSAGE_GET_PAYLOAD) {
                send_payload(node, to, &ref, r->handle);
            } else {
                ch_message_item(&w, r->bytes, r->length);
                found++;
            }
            break;
        }
    }
    ch_store16(out, found);
    if (found)
        send_to(node, to, CH_MESSAGE_BLOCKS, out, w.used);
    free(out);
}

static void serve_commits(struct node *node, uint16_t to, uint64_t from, uint64_t last)
{
    const struct record *proof = NULL;
    uint64_t end = 0;
    for (size_t k = 0; k < node->durable; k++) {
        const struct record *r = &node->log[k];
        uint64_t index = r->type == CH_RECORD_VOTE_CERT ? ch_load64(r->bytes) : 0;
        if (index < from || index > node->commit_count || index >= from + CH_MESSAGE_COMMITS_MAX)
            continue;
        if (!proof || end < last) {
            proof = r;
            end = index;
        }
    }
    uint8_t *out = malloc(CH_MESSAGE_BODY_BYTES_MAX);
    assert_non_null(out);
    struct ch_writer w = ch_writer(out, CH_MESSAGE_BODY_BYTES_MAX);
    ch_write64(&w, from);
    ch_write64(&w, 1);
    ch_write16(&w, (uint16_t)(proof ? end - from + 1 : 0));
    ch_write16(&w, 0);
    for (uint64_t i = from; proof && i <= end; i++)
        ch_message_item(&w, node->commits[i - 1].bytes, node->commits[i - 1].length);
    uint16_t headers = 0;
    if (proof) {
        struct ch_reader r = ch_reader(proof->bytes + 40, proof->length - 40);
        while (r.left) {
            uint32_t length = ch_read32(&r);
            ch_message_item(&w, ch_read(&r, length), length);
            headers++;
        }
    }
    ch_store16(out + 18, headers);
    assert_false(w.bad);
    send_to(node, to, CH_MESSAGE_COMMITS, out, w.used);
    free(out);
}

static bool take_expected(struct node *node, const struct ch_ref *ref)
{
    for (size_t i = 0; i < node->expected_count; i++) {
        if (memcmp(&node->expected[i], ref, sizeof *ref) != 0)
            continue;
        node->expected[i] = node->expected[--node->expected_count];
        return true;
    }
    return false;
}

static void payload_here(struct node *node, const struct ch_ref *ref, uint64_t handle)
{
    if (take_expected(node, ref)) {
        struct ch_core_event event = {.type = CH_EVENT_PAYLOAD_OK, .payload_of = {*ref, handle}};
        deliver_later(node, &event);
        return;
    }
    node->early = realloc(node->early, (node->early_count + 1) * sizeof *node->early);
    assert_non_null(node->early);
    node->early[node->early_count] = *ref;
    node->early[node->early_count].zero = 0;
    node->early_count++;
    (void)handle;
}

/* Early payloads are known by reference; the handle is found in the author's log. */
static uint64_t handle_of(struct cluster *c, const struct ch_ref *ref)
{
    for (uint16_t i = 0; i < c->n; i++)
        for (size_t k = 0; k < c->nodes[i].log_count; k++) {
            const struct record *r = &c->nodes[i].log[k];
            if (r->handle && memcmp(&r->ref, ref, sizeof *ref) == 0)
                return r->handle;
        }
    return 0;
}

static void expect(struct node *node, const struct ch_ref *ref)
{
    assert_true(node->expected_count < sizeof node->expected / sizeof *node->expected);
    node->expected[node->expected_count++] = *ref;
    for (size_t i = 0; i < node->early_count; i++) {
        if (memcmp(&node->early[i], ref, sizeof *ref) != 0)
            continue;
        node->early[i] = node->early[--node->early_count];
        payload_here(node, ref, handle_of(node->cluster, ref));
        return;
    }
}

static void take_payload(struct node *node, const struct ch_core_action *a)
{
    struct cluster *c = node->cluster;
    struct ch_core_event event = {.type = CH_EVENT_PAYLOAD_AVAILABLE};
    assert_true(a->take.bytes_max >= 256 || node->refuse_payload);
    if (node->pending && !node->refuse_payload) {
        event.payload.handle = ++c->handle;
        event.payload.length = payload_of(c->handle, event.payload.root);
        event.payload.items = 1;
        node->pending--;
        node->taken++;
    }
    deliver_later(node, &event);
    if (!node->pending && node->told_pending) {
        node->told_pending = false;
        deliver_later(node, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = false});
    }
}

static void sign(struct node *node, const struct ch_core_action *a)
{
    struct ch_core_event event = {.type = CH_EVENT_SIGNED};
    memcpy(event.signature.message, a->sign.message, a->sign.length);
    event.signature.length = a->sign.length;
    cluster_sign(&node->cluster->committee, node->index, a->sign.domain, a->sign.message, a->sign.length,
                 event.signature.bytes);
    deliver_later(node, &event);
}

static void check_own_header(struct node *node, const uint8_t *bytes, size_t length)
{
    struct ch_block b;
    ch_block_view(bytes, (uint32_t)length, &b);
    if (b.author != node->index)
        return;
    struct ch_ref ref = {.round = b.round, .author = b.author};
    ch_block_digest(&node->cluster->committee, &b, ref.digest);
    struct ch_ref *seen = &node->last_signed[b.round % 64];
    if (seen->round == b.round) /* I5: one header a round, over all lives */
        assert_memory_equal(seen, &ref, sizeof ref);
    if (b.round > seen->round)
        *seen = ref;
    bool durable = false; /* I6 */
    for (size_t k = node->durable; k-- && !durable;)
        durable = memcmp(&node->log[k].ref, &ref, sizeof ref) == 0;
    assert_true(durable);
    assert_true(node->guard.round >= b.round);
}

static void act(struct node *node, const struct ch_core_action *a)
{
    struct cluster *c = node->cluster;
    struct event *e;
    switch (a->type) {
    case CH_ACTION_TAKE_PAYLOAD:
        take_payload(node, a);
        break;
    case CH_ACTION_SIGN:
        sign(node, a);
        break;
    case CH_ACTION_APPEND:
        append(node, a);
        break;
    case CH_ACTION_SYNC:
        e = event_new(c, c->now_us + c->sync_us, SYNC_DONE, node->index, NULL, 0);
        e->lsn = a->sync.lsn;
        e->guard_changed = a->sync.guard_changed;
        e->guard = a->sync.guard;
        break;
    case CH_ACTION_SEND:
        if (a->send.type == CH_MESSAGE_HEADER)
            check_own_header(node, a->send.body.data, a->send.body.length);
        if (a->send.type == CH_MESSAGE_TIP && a->send.body.length > 4)
            check_own_header(node, a->send.body.data + 4, a->send.body.length - 4);
        for (uint16_t to = 0; to < c->n; to++)
            if (a->peer == CH_CORE_NOBODY || a->peer == to)
                send_to(node, to, a->send.type, a->send.body.data, a->send.body.length);
        break;
    case CH_ACTION_SEND_PAYLOAD:
        for (uint16_t to = 0; to < c->n; to++)
            if (a->peer == CH_CORE_NOBODY || a->peer == to)
                send_payload(node, to, &a->payload.ref, a->payload.handle);
        break;
    case CH_ACTION_EXPECT_PAYLOAD:
        expect(node, &a->payload.ref);
        break;
    case CH_ACTION_FORGET_PAYLOAD:
        take_expected(node, &a->payload.ref);
        break;
    case CH_ACTION_SERVE_BLOCKS:
        serve_blocks(node, a->peer, a->send.type, a->send.body);
        break;
    case CH_ACTION_SERVE_COMMITS:
        serve_commits(node, a->peer, a->serve.from, a->serve.to);
        break;
    case CH_ACTION_SET_TIMER:
        node->timer_us = a->timer_us;
        if (a->timer_us <= c->now_us) /* a deadline that nothing moves would spin for ever */
            assert_true(node->late_timers++ < 1000);
        else
            node->late_timers = 0;
        e = event_new(c, a->timer_us > c->now_us ? a->timer_us : c->now_us, STEP, node->index, NULL, 0);
        e->event.type = CH_EVENT_TICK;
        break;
    case CH_ACTION_DELIVER:
        deliver(node, a);
        break;
    case CH_ACTION_REQUEUE:
        node->requeued++;
        break;
    case CH_ACTION_RELEASE:
        node->released++;
        break;
    case CH_ACTION_DROP_BELOW:
        break;
    case CH_ACTION_REPORT:
        node->reports[a->report]++;
        break;
    case CH_ACTION_HALT:
        node->halt = a->halt;
        break;
    }
}

static void drain(struct node *node)
{
    struct ch_core_action action;
    while (ch_core_next_out(node->core, &action))
        act(node, &action);
}

ch_err cluster_start(struct cluster *c, uint16_t index)
{
    struct node *node = &c->nodes[index];
    assert_false(node->running);
    if (!node->have_guard && !node->config.rejoin) { /* what `chappe init` does */
        node->have_guard = true;
        node->guard = (struct ch_guard){.epoch = c->committee.epoch};
    }
    assert_ok(ch_core_open(&node->config, &node->core));
    for (size_t k = 0; k < node->log_count; k++) {
        const struct record *r = &node->log[k];
        ch_err err = ch_core_replay(node->core, r->type, r->bytes, r->length, r->handle, node->applied);
        drain(node);
        if (err)
            return err;
    }
    struct ch_core_now now = now_of(node);
    ch_err err = ch_core_start(node->core, &now, node->have_guard ? &node->guard : NULL, node->applied);
    if (err) {
        ch_core_close(node->core);
        node->core = NULL;
        return err;
    }
    node->running = true;
    node->halt = CH_HALT_NONE;
    node->expected_count = node->early_count = 0;
    drain(node);
    for (uint16_t peer = 0; peer < c->n; peer++) {
        struct node *other = &c->nodes[peer];
        if (peer == index || !other->running || !node->connected[peer])
            continue;
        step(node, &(struct ch_core_event){.type = CH_EVENT_PEER_UP, .peer = peer});
        step(other, &(struct ch_core_event){.type = CH_EVENT_PEER_UP, .peer = index});
    }
    if (node->pending) {
        node->told_pending = true;
        step(node, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = true});
    }
    return CH_OK;
}

static void add_counters(struct ch_core_counters *to, const struct ch_core_counters *from)
{
#define X(name) to->name += from->name;
    CH_CORE_COUNTER_LIST(X)
#undef X
}

void cluster_count(struct cluster *c, struct ch_core_counters *totals)
{
    add_counters(totals, &c->totals);
    for (uint16_t i = 0; i < c->n; i++)
        if (c->nodes[i].running)
            add_counters(totals, ch_core_counters(c->nodes[i].core));
}

void cluster_start_all(struct cluster *c)
{
    for (uint16_t i = 0; i < c->n; i++)
        assert_ok(cluster_start(c, i));
}

void cluster_crash(struct cluster *c, uint16_t index)
{
    struct node *node = &c->nodes[index];
    assert_true(node->running);
    node->running = false;
    node->life++;
    node->told_pending = false;
    add_counters(&c->totals, ch_core_counters(node->core));
    ch_core_close(node->core);
    node->core = NULL;
    log_cut(node, node->durable);
    for (size_t k = 0; k < node->log_count; k++)
        node->log[k].lsn = 0;
    node->synced_lsn = 0;
    for (uint16_t peer = 0; peer < c->n; peer++)
        if (c->nodes[peer].running && node->connected[peer])
            step(&c->nodes[peer], &(struct ch_core_event){.type = CH_EVENT_PEER_DOWN, .peer = index});
}

void cluster_forget_disk(struct cluster *c, uint16_t index)
{
    struct node *node = &c->nodes[index];
    assert_false(node->running);
    log_cut(node, 0);
    node->durable = 0;
    node->have_guard = false;
    node->applied = node->commit_ms = 0;
    while (node->commit_count)
        free(node->commits[--node->commit_count].bytes);
}

void cluster_connect(struct cluster *c, uint16_t a, uint16_t b, bool up)
{
    if (c->nodes[a].connected[b] == up)
        return;
    c->nodes[a].connected[b] = c->nodes[b].connected[a] = up;
    const enum ch_core_event_type type = up ? CH_EVENT_PEER_UP : CH_EVENT_PEER_DOWN;
    if (!c->nodes[a].running || !c->nodes[b].running)
        return;
    step(&c->nodes[a], &(struct ch_core_event){.type = type, .peer = b});
    step(&c->nodes[b], &(struct ch_core_event){.type = type, .peer = a});
}

void cluster_inject(struct cluster *c, uint16_t to, uint16_t from, enum ch_message_type type, const uint8_t *body,
                    size_t length)
{
    struct ch_core_event event = {.type = CH_EVENT_MESSAGE, .peer = from, .message = {type, body, length}};
    assert_true(verified(&c->committee, from, type, body, length));
    step(&c->nodes[to], &event);
}

static void handle(struct cluster *c, struct event *e)
{
    struct node *node = &c->nodes[e->to];
    if (!node->running || e->life != node->life || node->halt)
        return;
    switch (e->kind) {
    case STEP:
        if (e->event.type == CH_EVENT_TICK && e->at_us < node->timer_us)
            return; /* a later timer replaced it */
        step(node, &e->event);
        break;
    case DELIVERY:
        if (!node->connected[e->from] || !verified(&c->committee, e->from, e->type, e->body, e->length))
            return;
        e->event =
            (struct ch_core_event){.type = CH_EVENT_MESSAGE, .peer = e->from, .message = {e->type, e->body, e->length}};
        step(node, &e->event);
        break;
    case PAYLOAD:
        if (node->connected[e->from])
            payload_here(node, &e->ref, e->handle);
        break;
    case SYNC_DONE:
        for (size_t k = node->durable; k < node->log_count && node->log[k].lsn <= e->lsn; k++)
            node->durable = k + 1;
        if (e->guard_changed)
            node->guard = e->guard;
        node->have_guard = node->have_guard || e->guard_changed;
        step(node, &(struct ch_core_event){.type = CH_EVENT_SYNCED, .lsn = e->lsn});
        break;
    }
}

bool cluster_run_until(struct cluster *c, uint64_t until_us, bool (*done)(struct cluster *cluster))
{
    while (c->heap_count && c->heap[0]->at_us <= until_us) {
        struct event *e = event_pop(c);
        if (e->at_us > c->now_us)
            c->now_us = e->at_us;
        handle(c, e);
        free(e);
        if (done && done(c))
            return true;
    }
    c->now_us = until_us;
    return false;
}

void cluster_run(struct cluster *c, uint64_t until_us)
{
    cluster_run_until(c, until_us, NULL);
}

void cluster_event(struct cluster *c, uint16_t index, const struct ch_core_event *event)
{
    step(&c->nodes[index], event);
}

void cluster_submit(struct cluster *c, uint16_t index, uint64_t count)
{
    struct node *node = &c->nodes[index];
    node->pending += count;
    if (node->told_pending || !node->running)
        return;
    node->told_pending = true;
    step(node, &(struct ch_core_event){.type = CH_EVENT_PENDING, .pending = true});
}

struct ch_core_status cluster_status(struct cluster *c, uint16_t index)
{
    struct ch_core_status status;
    assert_true(c->nodes[index].running);
    ch_core_status(c->nodes[index].core, &status);
    return status;
}
