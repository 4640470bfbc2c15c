/* The caller's side of the engine: options, slots and their numbers, queues, timers, limits by address and key. */
#include "dataplane/quic_impl.h"

#include "base/hash.h"

#include <sodium.h>
#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)

static const char *const code_names[] = {
#define X(name, number, text) [number] = #name,
    CH_QUIC_CODE_LIST(X)
#undef X
};
static const char *const code_texts[] = {
#define X(name, number, text) [number] = text,
    CH_QUIC_CODE_LIST(X)
#undef X
};
static const char *const end_names[] = {
#define X(name, text) #name,
    CH_QUIC_END_LIST(X)
#undef X
};
static const char *const end_texts[] = {
#define X(name, text) text,
    CH_QUIC_END_LIST(X)
#undef X
};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

const char *ch_quic_code_name(uint64_t code)
{
    return code < COUNT(code_names) ? code_names[code] : "UNKNOWN";
}

const char *ch_quic_code_text(uint64_t code)
{
    return code < COUNT(code_texts) ? code_texts[code] : "unknown code";
}

const char *ch_quic_end_name(enum ch_quic_end end)
{
    return (size_t)end < COUNT(end_names) ? end_names[end] : "UNKNOWN";
}

const char *ch_quic_end_text(enum ch_quic_end end)
{
    return (size_t)end < COUNT(end_texts) ? end_texts[end] : "unknown end";
}

static bool options_fill(struct ch_quic_options *o)
{
#define PRESET(field, value) o->field = o->field ? o->field : (value)
    PRESET(connections_max, 64);
    PRESET(handshakes_max, 64);
    PRESET(connections_per_address, 64);
    PRESET(connections_per_key, 8);
    PRESET(stream_window_bytes, 1 * MIB);
    PRESET(connection_window_bytes, 2 * MIB);
    PRESET(send_bytes_max, 4 * MIB);
    PRESET(send_bytes_total, 64 * MIB);
    PRESET(receive_bytes_total, 64 * MIB);
    PRESET(datagram_bytes_max, CH_QUIC_DATAGRAM_BYTES_MAX);
    PRESET(initial_rtt_ns, 50 * NGTCP2_MILLISECONDS);
    PRESET(handshake_timeout_ns, 5 * NGTCP2_SECONDS);
    PRESET(idle_timeout_ns, 30 * NGTCP2_SECONDS);
    PRESET(key_update_bytes, 4096 * MIB);
#undef PRESET
    return o->connections_max <= CH_QUIC_CONNECTIONS_MAX && o->send_bytes_max >= CH_QUIC_FRAME_BYTES_MAX &&
           o->send_bytes_total >= CH_QUIC_FRAME_BYTES_MAX + CH_STREAM_CHUNK_BYTES &&
           o->receive_bytes_total >= 2 * (uint64_t)CH_QUIC_FRAME_BYTES_MAX &&
           o->datagram_bytes_max >= CH_QUIC_DATAGRAM_BYTES_MIN && o->datagram_bytes_max <= CH_QUIC_DATAGRAM_BYTES_MAX &&
           o->seed && o->callbacks.connected && o->callbacks.frame && o->callbacks.closed;
}

ch_err ch_quic_open(const struct ch_quic_options *options, struct ch_quic **out)
{
    struct ch_quic_options filled = *options;
    if (!options_fill(&filled) || sodium_init() < 0)
        return CH_ERR_INVALID;
    struct ch_quic *e = calloc(1, sizeof *e);
    if (!e)
        return CH_ERR_NO_MEMORY;
    uint32_t most = filled.connections_max;
    TAILQ_INIT(&e->ready);
    TAILQ_INIT(&e->due);
    e->options = filled;
    e->options.seed = NULL;
    e->send_budget.most = filled.send_bytes_total;
    e->receive_budget.most = filled.receive_bytes_total;
    uint8_t secret_key[crypto_sign_SECRETKEYBYTES];
    crypto_sign_seed_keypair(e->own_key, secret_key, filled.seed);
    sodium_memzero(secret_key, sizeof secret_key);
    randombytes_buf(e->retry_secret, sizeof e->retry_secret);
    /* From the seed, so that a node that starts again can tell its old peers at once. */
    ch_hash_domain("chappe/quic/reset/1", &(struct ch_bytes){filled.seed, CH_QUIC_SEED_BYTES}, 1, e->reset_secret);

    ch_err err = CH_ERR_NO_MEMORY;
    e->conns = calloc(most, sizeof *e->conns);
    e->free_slots = calloc(most, sizeof *e->free_slots);
    e->heap = calloc((size_t)most + 1, sizeof(struct conn *));
    if (!e->conns || !e->free_slots || !e->heap)
        goto fail;
    for (uint32_t i = 0; i < most; i++)
        e->free_slots[e->free_count++] = most - 1 - i;
    if ((err = ch_quic_table_open(&e->cids, (size_t)most * (CIDS_MAX + TOKENS_MAX))) ||
        (err = ch_quic_table_open(&e->addresses, most)) || (err = ch_quic_table_open(&e->keys, most)) ||
        (err = ch_quic_tls_open(&e->tls, filled.seed)))
        goto fail;
    ch_quic_lib_init(e);
    *out = e;
    return CH_OK;
fail:
    ch_quic_close(e);
    return err;
}

void ch_quic_close(struct ch_quic *e)
{
    if (!e)
        return;
    for (uint32_t i = 0; e->conns && i < e->options.connections_max; i++)
        if (e->conns[i].state != CONN_FREE)
            ch_quic_slot_free(&e->conns[i]);
    ch_stream_budget_close(&e->send_budget);
    ch_stream_budget_close(&e->receive_budget);
    ch_quic_tls_close(&e->tls);
    ch_quic_table_close(&e->cids);
    ch_quic_table_close(&e->addresses);
    ch_quic_table_close(&e->keys);
    free(e->conns);
    free(e->free_slots);
    free(e->heap);
    sodium_memzero(e, sizeof *e);
    free(e);
}

const uint8_t *ch_quic_own_key(const struct ch_quic *engine)
{
    return engine->own_key;
}

/* Slots and numbers: generation << 32 | index << 2 | stream. */

struct conn *ch_quic_slot_take(struct ch_quic *e)
{
    if (e->free_count == 0)
        return NULL;
    uint32_t index = e->free_slots[--e->free_count];
    struct conn *c = &e->conns[index];
    uint32_t generation = c->generation + 1;
    memset(c, 0, sizeof *c);
    c->engine = e;
    c->index = index;
    c->generation = generation ? generation : 1;
    c->state = CONN_LIVE;
    for (unsigned int i = 0; i < CH_QUIC_STREAMS_MAX; i++)
        c->streams[i].conn = c;
    e->usage.connections++;
    return c;
}

static void token_free(struct conn *c, struct token *t);

/* What a live connection holds, and no lingering one. */
static void give_back(struct conn *c)
{
    struct ch_quic *e = c->engine;
    ch_quic_lib_free(c);
    for (struct token *t = c->tokens; t < c->tokens + TOKENS_MAX; t++)
        token_free(c, t);
    for (unsigned int i = 0; i < CH_QUIC_STREAMS_MAX; i++) {
        ch_stream_in_free(&c->streams[i].in, &e->receive_budget);
        ch_stream_out_free(&c->streams[i].out, &e->send_budget);
    }
    ch_quic_unmark_ready(c);
    ch_quic_unmark_due(c);
    ch_quic_timer_set(c, UINT64_MAX);
    struct ch_quic_table_key address = ch_quic_address_key(&c->peer.route.remote), key = ch_quic_peer_key(c->peer.key);
    if (c->counted_address)
        ch_quic_count_down(&e->addresses, &address);
    if (c->counted_key)
        ch_quic_count_down(&e->keys, &key);
    if (!c->peer.dialled && !c->peer.connected && c->state == CONN_LIVE)
        e->usage.handshakes--;
    c->counted_address = c->counted_key = false;
}

void ch_quic_slot_free(struct conn *c)
{
    struct ch_quic *e = c->engine;
    give_back(c);
    if (c->state == CONN_LINGERING)
        e->usage.closing--;
    else
        e->usage.connections--;
    while (c->cid_count > 0) {
        ngtcp2_cid cid = c->cids[0];
        ch_quic_cid_remove(c, &cid);
    }
    free(c->close_packet);
    c->close_packet = NULL;
    c->state = CONN_FREE;
    e->free_slots[e->free_count++] = c->index;
}

static void count_end(struct ch_quic_counters *n, const struct ch_quic_closed *closed)
{
    switch (closed->end) {
    case CH_QUIC_END_LOCAL:
        if (closed->code == CH_QUIC_CODE_FRAME_TOO_LONG || closed->code == CH_QUIC_CODE_BAD_FRAME ||
            closed->code == CH_QUIC_CODE_BAD_STREAM)
            n->closed_protocol++;
        else
            n->closed_local++;
        return;
    case CH_QUIC_END_PEER:
    case CH_QUIC_END_PEER_TRANSPORT:
        n->closed_peer++;
        return;
    case CH_QUIC_END_WRONG_KEY:
    case CH_QUIC_END_TLS:
    case CH_QUIC_END_VERSION:
        n->closed_handshake++;
        return;
    case CH_QUIC_END_PROTOCOL:
        n->closed_protocol++;
        return;
    case CH_QUIC_END_TIMEOUT:
        n->closed_timeout++;
        return;
    case CH_QUIC_END_RESET:
        n->closed_reset++;
        return;
    case CH_QUIC_END_INTERNAL:
        n->closed_internal++;
        return;
    }
}

void ch_quic_conn_end(struct conn *c, enum ch_quic_end end, uint64_t code, uint64_t linger_ns, uint64_t now_ns)
{
    struct ch_quic *e = c->engine;
    c->closed.end = end;
    c->closed.code = code;
    c->closed.was_connected = c->peer.connected;
    count_end(&e->counters, &c->closed);
    give_back(c);
    c->state = CONN_LINGERING;
    e->usage.connections--;
    e->usage.closing++;
    if (c->peer.dialled || c->peer.connected)
        e->options.callbacks.closed(e->options.context, ch_quic_number(c, 0), &c->closed);
    if (linger_ns == 0) {
        ch_quic_slot_free(c);
        return;
    }
    ch_quic_timer_set(c, now_ns + (linger_ns < LINGER_NS_MAX ? linger_ns : LINGER_NS_MAX));
    if (c->close_packet)
        ch_quic_mark_ready(c);
}

uint64_t ch_quic_number(const struct conn *c, unsigned int stream)
{
    return (uint64_t)c->generation << 32 | (uint64_t)c->index << 2 | stream;
}

static struct conn *find_any(const struct ch_quic *e, uint64_t number)
{
    uint32_t index = (uint32_t)number >> 2;
    if (index >= e->options.connections_max)
        return NULL;
    struct conn *c = &e->conns[index];
    return c->state != CONN_FREE && c->generation == number >> 32 ? c : NULL;
}

struct conn *ch_quic_find_live(const struct ch_quic *e, uint64_t number)
{
    struct conn *c = find_any(e, number);
    return c && c->state == CONN_LIVE && !c->hang_up ? c : NULL;
}

/* Connection ids. */

static struct ch_quic_table_key cid_key(const uint8_t *cid, size_t length)
{
    struct ch_quic_table_key key = {{0}};
    key.bytes[0] = (uint8_t)length;
    memcpy(key.bytes + 1, cid, length);
    return key;
}

struct conn *ch_quic_slot_of_cid(const struct ch_quic *e, const uint8_t *cid, size_t length)
{
    struct ch_quic_table_key key = cid_key(cid, length);
    const uint32_t *slot = ch_quic_table_find(&e->cids, &key);
    return slot ? &e->conns[*slot] : NULL;
}

bool ch_quic_cid_add(struct conn *c, const ngtcp2_cid *cid)
{
    struct ch_quic_table_key key = cid_key(cid->data, cid->datalen);
    if (c->cid_count == CIDS_MAX || ch_quic_table_find(&c->engine->cids, &key) ||
        !ch_quic_table_put(&c->engine->cids, &key, c->index))
        return false;
    c->cids[c->cid_count++] = *cid;
    return true;
}

void ch_quic_cid_remove(struct conn *c, const ngtcp2_cid *cid)
{
    for (uint32_t i = 0; i < c->cid_count; i++) {
        if (!ngtcp2_cid_eq(&c->cids[i], cid))
            continue;
        struct ch_quic_table_key key = cid_key(cid->data, cid->datalen);
        ch_quic_table_remove(&c->engine->cids, &key);
        c->cids[i] = c->cids[--c->cid_count];
        return;
    }
}

static struct ch_quic_table_key token_key(const uint8_t *token)
{
    struct ch_quic_table_key key = {{0xff}}; /* no id is this long */
    memcpy(key.bytes + 1, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    return key;
}

struct conn *ch_quic_slot_of_token(const struct ch_quic *e, const uint8_t *token)
{
    struct ch_quic_table_key key = token_key(token);
    const uint32_t *slot = ch_quic_table_find(&e->cids, &key);
    return slot ? &e->conns[*slot] : NULL;
}

void ch_quic_token_add(struct conn *c, uint64_t sequence, const uint8_t *token)
{
    struct ch_quic_table_key key = token_key(token);
    struct token *t = c->tokens;
    while (t < c->tokens + TOKENS_MAX && t->used)
        t++;
    /* Without it a reset isn't understood, and the connection ends by its timeout. */
    if (t == c->tokens + TOKENS_MAX || ch_quic_table_find(&c->engine->cids, &key) ||
        !ch_quic_table_put(&c->engine->cids, &key, c->index))
        return;
    *t = (struct token){.used = true, .sequence = sequence};
    memcpy(t->bytes, token, sizeof t->bytes);
}

static void token_free(struct conn *c, struct token *t)
{
    struct ch_quic_table_key key = token_key(t->bytes);
    if (!t->used)
        return;
    ch_quic_table_remove(&c->engine->cids, &key);
    t->used = false;
}

void ch_quic_token_remove(struct conn *c, uint64_t sequence)
{
    for (struct token *t = c->tokens; t < c->tokens + TOKENS_MAX; t++)
        if (t->sequence == sequence)
            token_free(c, t);
}

/* Limits by address and key. */

struct ch_quic_table_key ch_quic_address_key(const struct ch_address *address)
{
    struct ch_quic_table_key key = {{0}};
    memcpy(key.bytes, address->ip, ch_address_is4(address) ? 16 : 8);
    return key;
}

/* 24 of a key's 32 bytes: nobody can make two that share them, and at worst would share a limit with himself. */
struct ch_quic_table_key ch_quic_peer_key(const uint8_t key[CH_QUIC_KEY_BYTES])
{
    struct ch_quic_table_key k;
    memcpy(k.bytes, key, sizeof k.bytes);
    return k;
}

bool ch_quic_count_up(struct ch_quic_table *table, const struct ch_quic_table_key *key)
{
    uint32_t *count = ch_quic_table_find(table, key);
    if (!count)
        return ch_quic_table_put(table, key, 1);
    ++*count;
    return true;
}

void ch_quic_count_down(struct ch_quic_table *table, const struct ch_quic_table_key *key)
{
    uint32_t *count = ch_quic_table_find(table, key);
    CH_ASSERT(count && *count > 0);
    if (--*count == 0)
        ch_quic_table_remove(table, key);
}

/* Queues and timers. */

void ch_quic_mark_ready(struct conn *c)
{
    if (c->is_ready)
        return;
    c->is_ready = true;
    TAILQ_INSERT_TAIL(&c->engine->ready, c, ready);
}

void ch_quic_unmark_ready(struct conn *c)
{
    if (!c->is_ready)
        return;
    c->is_ready = false;
    TAILQ_REMOVE(&c->engine->ready, c, ready);
}

void ch_quic_mark_due(struct conn *c)
{
    if (c->is_due)
        return;
    c->is_due = true;
    c->engine->due_count++;
    TAILQ_INSERT_TAIL(&c->engine->due, c, due);
}

void ch_quic_unmark_due(struct conn *c)
{
    if (!c->is_due)
        return;
    c->is_due = false;
    c->engine->due_count--;
    TAILQ_REMOVE(&c->engine->due, c, due);
}

static void heap_place(struct ch_quic *e, uint32_t at, struct conn *c)
{
    e->heap[at] = c;
    c->heap_at = at;
}

/* Moves `c`, whose place is `at`, to where its expiry belongs. */
static void heap_settle(struct ch_quic *e, uint32_t at, struct conn *c)
{
    for (; at > 1 && e->heap[at / 2]->expiry_ns > c->expiry_ns; at /= 2)
        heap_place(e, at, e->heap[at / 2]);
    for (;;) {
        uint32_t child = 2 * at;
        if (child > e->heap_count)
            break;
        if (child < e->heap_count && e->heap[child + 1]->expiry_ns < e->heap[child]->expiry_ns)
            child++;
        if (e->heap[child]->expiry_ns >= c->expiry_ns)
            break;
        heap_place(e, at, e->heap[child]);
        at = child;
    }
    heap_place(e, at, c);
}

void ch_quic_timer_set(struct conn *c, uint64_t expiry_ns)
{
    struct ch_quic *e = c->engine;
    c->expiry_ns = expiry_ns;
    if (expiry_ns != UINT64_MAX) {
        heap_settle(e, c->heap_at ? c->heap_at : ++e->heap_count, c);
    } else if (c->heap_at) {
        uint32_t at = c->heap_at;
        struct conn *last = e->heap[e->heap_count--];
        c->heap_at = 0;
        if (last != c)
            heap_settle(e, at, last);
    }
}

uint64_t ch_quic_expiry_ns(const struct ch_quic *e)
{
    if (e->due_count > 0 || e->stateless_count > 0 || !TAILQ_EMPTY(&e->ready))
        return 0;
    return e->heap_count > 0 ? e->heap[1]->expiry_ns : UINT64_MAX;
}

/* Whether a connection that was refused may try again; where only the others' bytes stand against it, tick looks again.
 */
static bool has_room(struct conn *c)
{
    struct ch_quic *e = c->engine;
    if (c->send_waiting > e->options.send_bytes_max / 2)
        return false;
    e->starved |= e->send_budget.used > e->send_budget.most / 2;
    return !e->starved;
}

/* Once each for those that are due now; what they add waits for the next call. */
static void run_due(struct ch_quic *e, uint64_t now_ns)
{
    for (uint32_t left = e->due_count; left > 0 && e->due_count > 0; left--) {
        struct conn *c = TAILQ_FIRST(&e->due);
        ch_quic_unmark_due(c);
        if (c->hang_up) {
            ch_quic_lib_hang_up(c, now_ns);
            continue;
        }
        if (c->resume) {
            c->resume = false;
            ch_quic_lib_resume(c, now_ns);
        }
        if (c->want_writable && has_room(c)) {
            c->want_writable = false;
            if (e->options.callbacks.writable)
                e->options.callbacks.writable(e->options.context, ch_quic_number(c, 0));
        }
    }
}

void ch_quic_tick(struct ch_quic *e, uint64_t now_ns)
{
    run_due(e, now_ns);
    if (e->starved && e->send_budget.used <= e->send_budget.most / 2) {
        e->starved = false;
        for (uint32_t i = 0; i < e->options.connections_max; i++)
            if (e->conns[i].state == CONN_LIVE && e->conns[i].want_writable)
                ch_quic_mark_due(&e->conns[i]);
    }
    while (e->heap_count > 0 && e->heap[1]->expiry_ns <= now_ns) {
        struct conn *c = e->heap[1];
        if (c->state == CONN_LINGERING)
            ch_quic_slot_free(c);
        else
            ch_quic_lib_expired(c, now_ns);
    }
}

size_t ch_quic_next_datagram(struct ch_quic *e, uint8_t *to, size_t room, struct ch_quic_route *route, uint64_t now_ns)
{
    CH_ASSERT(room >= e->options.datagram_bytes_max);
    run_due(e, now_ns);
    size_t length = 0;
    if (e->stateless_count > 0) {
        const struct stateless *s = &e->stateless[e->stateless_first];
        length = s->length;
        memcpy(to, s->bytes, length);
        *route = s->route;
        e->stateless_first = (e->stateless_first + 1) % STATELESS_MAX;
        e->stateless_count--;
    }
    while (length == 0 && !TAILQ_EMPTY(&e->ready)) {
        struct conn *c = TAILQ_FIRST(&e->ready);
        *route = c->peer.route;
        if (c->state == CONN_LINGERING) {
            length = c->close_packet_length;
            memcpy(to, c->close_packet, length);
            ch_quic_unmark_ready(c);
        } else {
            length = ch_quic_lib_write(c, to, room, now_ns);
        }
    }
    e->counters.tx_datagrams += length > 0;
    e->counters.tx_bytes += length;
    return length;
}

ch_err ch_quic_send(struct ch_quic *e, uint64_t number, const struct ch_frame_header *header,
                    const struct ch_bytes *parts, size_t part_count)
{
    struct conn *c = ch_quic_find_live(e, number);
    if (!c)
        return CH_ERR_CLOSED;
    struct stream *s = &c->streams[number & 3];
    uint64_t before = s->out.end, length = CH_FRAME_HEADER_BYTES;
    for (size_t i = 0; i < part_count; i++)
        length += parts[i].length;
    ch_err err = CH_ERR_FULL;
    if (length > CH_QUIC_FRAME_BYTES_MAX)
        return CH_ERR_INVALID;
    if (c->send_waiting + length <= e->options.send_bytes_max) {
        err = ch_stream_out_add(&s->out, &e->send_budget, header, parts, part_count);
        e->starved |= err == CH_ERR_FULL;
    }
    if (err) {
        c->want_writable |= err == CH_ERR_FULL;
        e->counters.tx_frames_refused += err == CH_ERR_FULL;
        return err;
    }
    c->send_waiting += s->out.end - before;
    c->stats.tx_frames++;
    e->counters.tx_frames++;
    if (s->open)
        ch_quic_mark_ready(c);
    return CH_OK;
}

void ch_quic_pause(struct ch_quic *e, uint64_t number)
{
    struct conn *c = ch_quic_find_live(e, number);
    if (!c)
        return;
    c->paused = true;
    c->resume = false;
}

void ch_quic_resume(struct ch_quic *e, uint64_t number)
{
    struct conn *c = ch_quic_find_live(e, number);
    if (!c || !c->paused)
        return;
    c->resume = true;
    ch_quic_mark_due(c);
}

void ch_quic_want_hang_up(struct conn *c, enum ch_quic_code code, const char *reason)
{
    if (c->state != CONN_LIVE || c->hang_up)
        return;
    c->hang_up = true;
    c->hang_up_code = code;
    snprintf(c->closed.reason, sizeof c->closed.reason, "%s", reason ? reason : ch_quic_code_text(code));
    ch_quic_mark_due(c);
}

void ch_quic_hang_up(struct ch_quic *e, uint64_t number, enum ch_quic_code code, const char *reason)
{
    struct conn *c = ch_quic_find_live(e, number);
    if (c)
        ch_quic_want_hang_up(c, code, reason);
}

void ch_quic_hang_up_all(struct ch_quic *e, enum ch_quic_code code)
{
    for (uint32_t i = 0; i < e->options.connections_max; i++)
        ch_quic_want_hang_up(&e->conns[i], code, NULL);
}

void ch_quic_set_user(struct ch_quic *e, uint64_t number, void *user)
{
    struct conn *c = find_any(e, number);
    if (c)
        c->user = user;
}

void *ch_quic_user(const struct ch_quic *e, uint64_t number)
{
    const struct conn *c = find_any(e, number);
    return c ? c->user : NULL;
}

ch_err ch_quic_peer(const struct ch_quic *e, uint64_t number, struct ch_quic_peer *out)
{
    const struct conn *c = find_any(e, number);
    if (!c || c->state != CONN_LIVE)
        return CH_ERR_CLOSED;
    *out = c->peer;
    return CH_OK;
}

struct ch_quic_counters ch_quic_counters(const struct ch_quic *engine)
{
    return engine->counters;
}

struct ch_quic_usage ch_quic_usage(const struct ch_quic *engine)
{
    struct ch_quic_usage usage = engine->usage;
    usage.send_bytes = engine->send_budget.used;
    usage.receive_bytes = engine->receive_budget.used;
    return usage;
}
