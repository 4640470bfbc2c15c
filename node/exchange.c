#include "node/exchange.h"

#include "base/log.h"
#include "consensus/message.h"
#include "crypto/ed25519.h"
#include "node/block_index.h"

#include <stdlib.h>

#define PAYLOAD_HEAD_BYTES (CH_REF_BYTES + 4) /* reference | u32 offset, always 0: a payload fits one frame */
#define DOMAINS_MAX        4
#define MESSAGE_BYTES      4096 /* what a message costs beside its length: about the check of a signature */

struct expected {
    struct ch_ref ref;
    uint16_t peer;
    uint32_t length;
    uint8_t root[CH_HASH_BYTES];
};

struct prefix {
    const char *domain;
    uint8_t bytes[CH_SIGN_PREFIX_BYTES_MAX];
    uint32_t length;
};

struct ch_exchange {
    struct ch_node *node;
    struct ch_links *links;
    struct ch_handles *handles;
    struct ch_ed25519 *verifier;
    struct ch_block_index *index;
    unsigned seen_up[CH_VALIDATORS_MAX];
    struct ch_message *held; /* the event's that was given last */
    struct ch_shares shares; /* of the messages' lanes */
    struct expected *expected;
    uint32_t expected_count, expected_room;
    struct ch_message *early[CH_VALIDATORS_MAX][CH_EXCHANGE_EARLY];
    bool early_due; /* one of them may be expected by now */
    struct prefix prefixes[DOMAINS_MAX];
    struct ch_message_signature signatures[CH_MESSAGE_SIGNATURES_MAX];
    struct ch_ed25519_item items[CH_MESSAGE_SIGNATURES_MAX];
    bool valid[CH_MESSAGE_SIGNATURES_MAX];
};

ch_err ch_exchange_open(struct ch_node *node, struct ch_handles *handles, bool log_is_new, struct ch_exchange **out)
{
    struct ch_exchange *x = calloc(1, sizeof *x);
    if (!x)
        return CH_ERR_NO_MEMORY;
    x->node = node;
    x->links = &node->links;
    x->handles = handles;
    const struct ch_ed25519_options options = {
        .batch_max = CH_MESSAGE_SIGNATURES_MAX,
        .cached_keys_max = 4u * node->committee.n,
    };
    ch_err err = ch_ed25519_open(&options, &x->verifier);
    if (err == CH_OK)
        err = ch_block_index_open(node->folder, node->committee.n, log_is_new, &x->index);
    if (err != CH_OK) {
        ch_exchange_close(x);
        return err;
    }
    *out = x;
    return CH_OK;
}

void ch_exchange_close(struct ch_exchange *x)
{
    if (!x)
        return;
    ch_ed25519_close(x->verifier);
    ch_block_index_close(x->index);
    free(x->expected);
    free(x);
}

/* --- in --------------------------------------------------------------------------------------------------------- */

static const struct prefix *prefix_of(struct ch_exchange *x, const char *domain)
{
    struct prefix *p = x->prefixes;
    while (p->domain && strcmp(p->domain, domain) != 0)
        CH_ASSERT(++p < x->prefixes + DOMAINS_MAX);
    if (!p->domain) {
        p->domain = domain;
        p->length = (uint32_t)ch_sign_prefix(domain, x->node->chain_id, p->bytes);
    }
    return p;
}

static bool message_holds(struct ch_exchange *x, const struct ch_message *m)
{
    size_t count;
    if (!ch_message_check(&x->node->committee, m->peer, (enum ch_message_type)m->type, m->body, m->length,
                          x->signatures, CH_MESSAGE_SIGNATURES_MAX, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct ch_message_signature *s = &x->signatures[i];
        const struct prefix *prefix = prefix_of(x, s->domain);
        x->items[i] = (struct ch_ed25519_item){
            .key = s->key,
            .signature = s->signature,
            .prefix = prefix->bytes,
            .prefix_length = prefix->length,
            .message = s->message,
            .message_length = s->message_length,
        };
    }
    if (count)
        ch_ed25519_verify(x->verifier, x->items, count, x->valid);
    for (size_t i = 0; i < count; i++)
        if (!x->valid[i])
            return false;
    return true;
}

/* Net shuts out who has too many of these. */
void ch_exchange_misbehaved(struct ch_exchange *x, uint16_t peer)
{
    ch_count(&x->node->metrics.order_messages_refused_total, 1);
    atomic_fetch_add(&x->links->refused[peer], 1);
}

static void give_back(struct ch_exchange *x, struct ch_message *m)
{
    atomic_fetch_sub(&x->links->waiting[m->lane][m->peer], 1);
    CH_ASSERT(ch_ring_push_one(&x->links->free_in, m)); /* it holds all there are */
}

static struct expected *expected_of(struct ch_exchange *x, const struct ch_ref *ref)
{
    for (uint32_t i = 0; i < x->expected_count; i++)
        if (ch_ref_compare(&x->expected[i].ref, ref) == 0)
            return &x->expected[i];
    return NULL;
}

static void forget(struct ch_exchange *x, struct expected *e)
{
    if (e)
        *e = x->expected[--x->expected_count];
}

/* A payload against what is expected. */
static bool judge_payload(struct ch_exchange *x, const struct ch_message *m, struct expected *e,
                          struct ch_core_event *event)
{
    const uint8_t *bytes = m->body + PAYLOAD_HEAD_BYTES;
    uint32_t length = m->length - PAYLOAD_HEAD_BYTES;
    uint8_t root[CH_HASH_BYTES], *copy = NULL;
    ch_payload_root(bytes, length, root);
    bool fits = length == e->length && memcmp(root, e->root, CH_HASH_BYTES) == 0;
    if (fits && !(copy = malloc(length)))
        return false; /* as if it had been lost: the machine asks again */
    *event = (struct ch_core_event){
        .type = fits ? CH_EVENT_PAYLOAD_OK : CH_EVENT_PAYLOAD_BAD, .peer = m->peer, .payload_of = {.ref = e->ref}};
    if (!fits)
        return true; /* the machine counts it, and says FORGET or asks somebody else */
    memcpy(copy, bytes, length);
    event->payload_of.handle = ch_handles_add(x->handles, &(struct ch_handle){.replayed = copy, .length = length});
    ch_count(&x->node->metrics.order_payloads_received_total, 1);
    forget(x, e);
    return true;
}

/* Kept for a little while: its header may be on the way. The sender's oldest gives way. */
static void keep_early(struct ch_exchange *x, struct ch_message *m)
{
    struct ch_message **early = x->early[m->peer];
    if (early[CH_EXCHANGE_EARLY - 1])
        give_back(x, early[CH_EXCHANGE_EARLY - 1]);
    memmove(early + 1, early, (CH_EXCHANGE_EARLY - 1) * sizeof *early);
    early[0] = m;
}

static bool next_early(struct ch_exchange *x, struct ch_core_event *event)
{
    for (uint16_t peer = 0; x->early_due && peer < x->links->n; peer++)
        for (unsigned i = 0; i < CH_EXCHANGE_EARLY; i++) {
            struct ch_message **early = x->early[peer];
            struct ch_ref ref;
            if (!early[i])
                break;
            ref = ch_ref_read(early[i]->body);
            struct expected *e = expected_of(x, &ref);
            if (!e)
                continue;
            struct ch_message *m = early[i];
            memmove(early + i, early + i + 1, (CH_EXCHANGE_EARLY - 1 - i) * sizeof *early);
            early[CH_EXCHANGE_EARLY - 1] = NULL;
            bool told = judge_payload(x, m, e, event);
            give_back(x, m);
            if (told)
                return true;
            i--;
        }
    x->early_due = false;
    return false;
}

static bool next_coming_or_going(struct ch_exchange *x, struct ch_core_event *event)
{
    for (uint16_t peer = 0; peer < x->links->n; peer++) {
        unsigned up = atomic_load_explicit(&x->links->up[peer], memory_order_relaxed);
        if (up == x->seen_up[peer])
            continue;
        /* One at a time: who left and came back meanwhile was down. */
        bool was_up = x->seen_up[peer] & 1;
        x->seen_up[peer] = was_up ? up & ~1u : up;
        *event = (struct ch_core_event){.type = was_up ? CH_EVENT_PEER_DOWN : CH_EVENT_PEER_UP, .peer = peer};
        if (was_up || (up & 1))
            return true;
    }
    return false;
}

/* F7: none of the lanes starves another. */
static struct ch_message *next_message(struct ch_exchange *x)
{
    unsigned waiting = 0;
    for (unsigned lane = 0; lane < CH_LANES; lane++)
        waiting |= (unsigned)(ch_ring_count(&x->links->to_order[lane]) > 0) << lane;
    if (!waiting)
        return NULL;
    const enum ch_lane lane = ch_shares_next(&x->shares, waiting);
    struct ch_message *m = ch_ring_pull_one(&x->links->to_order[lane]);
    ch_shares_charge(&x->shares, lane, MESSAGE_BYTES + m->length);
    return m;
}

bool ch_exchange_next(struct ch_exchange *x, struct ch_core_event *event)
{
    if (x->held)
        give_back(x, x->held);
    x->held = NULL;
    if (next_coming_or_going(x, event) || next_early(x, event))
        return true;
    struct ch_message *m;
    while ((m = next_message(x))) {
        ch_count(&x->node->metrics.order_messages_received_total, 1);
        if (m->type == CH_MESSAGE_PAYLOAD) {
            if (m->length <= PAYLOAD_HEAD_BYTES || ch_load32(m->body + CH_REF_BYTES) != 0) {
                ch_exchange_misbehaved(x, m->peer);
                give_back(x, m);
                continue;
            }
            struct ch_ref ref = ch_ref_read(m->body);
            struct expected *e = expected_of(x, &ref);
            if (!e) {
                keep_early(x, m);
                continue;
            }
            bool told = judge_payload(x, m, e, event);
            give_back(x, m);
            if (told)
                return true;
        } else if (message_holds(x, m)) {
            *event = (struct ch_core_event){
                .type = CH_EVENT_MESSAGE,
                .peer = m->peer,
                .message = {.type = (enum ch_message_type)m->type, .body = m->body, .length = m->length}};
            x->held = m;
            return true;
        } else {
            ch_exchange_misbehaved(x, m->peer);
            give_back(x, m);
        }
    }
    return false;
}

static void expect(struct ch_exchange *x, const struct ch_core_action *action)
{
    if (x->expected_count == x->expected_room) {
        uint32_t room = x->expected_room ? 2 * x->expected_room : 64;
        struct expected *more = realloc(x->expected, room * sizeof *more);
        if (!more)
            return; /* as if it were lost */
        x->expected = more;
        x->expected_room = room;
    }
    struct expected *e = expected_of(x, &action->payload.ref);
    if (!e)
        e = &x->expected[x->expected_count++];
    *e = (struct expected){.ref = action->payload.ref, .peer = action->peer, .length = action->payload.length};
    memcpy(e->root, action->payload.root, CH_HASH_BYTES);
    x->early_due = true;
}

/* --- out -------------------------------------------------------------------------------------------------------- */

static struct ch_message *new_message(struct ch_exchange *x, uint16_t peer, uint16_t type, enum ch_lane lane, bool bulk)
{
    struct ch_message *m = ch_ring_pull_one(&x->links->free_out);
    if (!m) {
        ch_count(&x->node->metrics.order_messages_lost_total, 1);
        return NULL;
    }
    m->peer = peer;
    m->type = type;
    m->lane = lane;
    m->bulk = bulk;
    m->length = 0;
    return m;
}

static void send_message(struct ch_exchange *x, struct ch_message *m)
{
    CH_ASSERT(ch_ring_push_one(&x->links->to_net, m)); /* it holds all there are */
}

static void send_bytes(struct ch_exchange *x, const struct ch_core_action *action)
{
    struct ch_message *m =
        new_message(x, action->peer, (uint16_t)action->send.type, action->send.lane, action->send.lane != CH_LANE_LIVE);
    if (!m)
        return;
    CH_ASSERT(action->send.body.length <= CH_FRAME_BODY_BYTES_MAX);
    m->length = (uint32_t)action->send.body.length;
    memcpy(m->body, action->send.body.data, m->length);
    send_message(x, m);
}

/* --- out of the log: serve puts the answer together from pieces (node/flow.h) ---------------------------------------- */

static struct ch_request *new_answer(struct ch_exchange *x, uint16_t peer, enum ch_message_type type)
{
    struct ch_request *r = NULL;
    if (atomic_load_explicit(&x->links->answers[peer], memory_order_relaxed) < CH_ANSWER_SHARE &&
        ch_ring_count(&x->node->flow.free_requests) > CH_REQUESTS_OF_CLIENTS)
        r = ch_ring_pull_one(&x->node->flow.free_requests);
    if (!r) {
        ch_count(&x->node->metrics.order_messages_lost_total, 1);
        return NULL;
    }
    atomic_fetch_add(&x->links->answers[peer], 1);
    r->connection = 0;
    r->validator = peer;
    r->header = (struct ch_frame_header){.type = CH_REQUEST_ASSEMBLE, .flags = (uint16_t)(CH_LINK_FRAME_TYPE + type)};
    return r;
}

static void add_literal(struct ch_request *r, const void *bytes, uint32_t length)
{
    uint8_t *at = r->body + r->header.length;
    ch_store64(at, 0);
    ch_store32(at + 8, length);
    memcpy(at + CH_PIECE_BYTES, bytes, length);
    r->header.length += CH_PIECE_BYTES + length;
}

static void add_place(struct ch_request *r, uint64_t position, uint32_t length)
{
    uint8_t *at = r->body + r->header.length;
    ch_store64(at, position);
    ch_store32(at + 8, length);
    r->header.length += CH_PIECE_BYTES;
}

/* u32 length | bytes out of the log */
static void add_item(struct ch_request *r, uint64_t position, uint32_t length)
{
    uint8_t counted[4];
    ch_store32(counted, length);
    add_literal(r, counted, 4);
    add_place(r, position, length);
}

static void pass_answer(struct ch_exchange *x, struct ch_request *r)
{
    CH_ASSERT(ch_ring_push_one(&x->node->to_serve, r));
}

static void answer_payload(struct ch_exchange *x, uint16_t peer, const struct ch_ref *ref, uint64_t position,
                           uint32_t length)
{
    struct ch_request *r = new_answer(x, peer, CH_MESSAGE_PAYLOAD);
    if (!r)
        return;
    uint8_t head[PAYLOAD_HEAD_BYTES] = {0};
    memcpy(head, ref, CH_REF_BYTES);
    add_literal(r, head, sizeof head);
    add_place(r, position, length);
    pass_answer(x, r);
}

static void send_payload(struct ch_exchange *x, const struct ch_core_action *action)
{
    const struct ch_handle *named = ch_handles_get(x->handles, action->payload.handle);
    const uint8_t *bytes = named->payload ? named->payload->bytes : named->replayed;
    if (!bytes) { /* applied meanwhile: the log has it */
        for (uint16_t peer = 0; peer < x->links->n; peer++)
            if (peer != x->links->me && (action->peer == CH_CORE_NOBODY || action->peer == peer))
                answer_payload(x, peer, &action->payload.ref, named->position, named->length);
        return;
    }
    const enum ch_lane lane = action->peer == CH_CORE_NOBODY ? CH_LANE_LIVE : CH_LANE_FETCH; /* B1, or asked for */
    struct ch_message *m = new_message(x, action->peer, CH_MESSAGE_PAYLOAD, lane, true);
    if (!m)
        return;
    memcpy(m->body, &action->payload.ref, CH_REF_BYTES);
    ch_store32(m->body + CH_REF_BYTES, 0);
    memcpy(m->body + PAYLOAD_HEAD_BYTES, bytes, named->length);
    m->length = PAYLOAD_HEAD_BYTES + named->length;
    send_message(x, m);
}

static void serve_blocks(struct ch_exchange *x, uint16_t peer, const uint8_t *refs, unsigned count)
{
    struct ch_request *r = new_answer(x, peer, CH_MESSAGE_BLOCKS);
    if (!r)
        return;
    uint8_t found[2] = {0};
    uint32_t bytes = 2;
    uint16_t n = 0;
    add_literal(r, found, sizeof found);
    for (unsigned i = 0; i < count; i++) {
        struct ch_ref ref = ch_ref_read(refs + (size_t)i * CH_REF_BYTES);
        struct ch_block_place place;
        if (!ch_block_index_block(x->index, &ref, &place) || bytes + 4 + place.header_length > CH_FRAME_BODY_BYTES_MAX)
            continue;
        bytes += 4 + place.header_length;
        add_item(r, place.position, place.header_length);
        n++;
    }
    ch_store16(r->body + CH_PIECE_BYTES, n);
    pass_answer(x, r);
}

/* As many as fit, up to the first with a proof from `to` on, or else the last before. */
static void serve_commits(struct ch_exchange *x, uint16_t peer, uint64_t from, uint64_t to)
{
    struct ch_commit_place places[CH_MESSAGE_COMMITS_MAX], *proof = NULL;
    uint32_t bytes = 20, count = 0;
    while (count < CH_MESSAGE_COMMITS_MAX && ch_block_index_commit(x->index, from + count, &places[count])) {
        struct ch_commit_place *place = &places[count++];
        bytes += 4 + place->length;
        if (bytes + place->proof_length > CH_FRAME_BODY_BYTES_MAX || (proof && proof->index >= to))
            break;
        if (place->proof_position)
            proof = place;
    }
    struct ch_request *r = new_answer(x, peer, CH_MESSAGE_COMMITS);
    if (!r)
        return;
    uint8_t head[20];
    uint64_t newest = atomic_load_explicit(&x->node->metrics.order_commit_index, memory_order_relaxed);
    bool gone = from <= newest && !count;
    ch_store64(head, from);
    ch_store64(head + 8, gone ? from + 1 : from); /* the oldest, at the earliest */
    ch_store16(head + 16, (uint16_t)(proof ? proof - places + 1 : 0));
    ch_store16(head + 18, proof ? proof->proof_count : 0);
    add_literal(r, head, sizeof head);
    for (struct ch_commit_place *place = places; proof && place <= proof; place++)
        add_item(r, place->position, place->length);
    if (proof)
        add_place(r, proof->proof_position, proof->proof_length);
    pass_answer(x, r);
}

void ch_exchange_act(struct ch_exchange *x, const struct ch_core_action *action)
{
    switch (action->type) {
    case CH_ACTION_SEND:
        send_bytes(x, action);
        break;
    case CH_ACTION_SEND_PAYLOAD:
        send_payload(x, action);
        break;
    case CH_ACTION_EXPECT_PAYLOAD:
        expect(x, action);
        break;
    case CH_ACTION_FORGET_PAYLOAD:
        forget(x, expected_of(x, &action->payload.ref));
        break;
    case CH_ACTION_SERVE_BLOCKS:
        if (action->send.type == CH_MESSAGE_GET_PAYLOAD) {
            struct ch_ref ref = ch_ref_read(action->send.body.data);
            struct ch_block_place place;
            if (ch_block_index_block(x->index, &ref, &place) && place.payload_length)
                answer_payload(x, action->peer, &ref, place.position + place.header_length, place.payload_length);
        } else {
            serve_blocks(x, action->peer, action->send.body.data + 6, ch_load16(action->send.body.data + 4));
        }
        break;
    case CH_ACTION_SERVE_COMMITS:
        serve_commits(x, action->peer, action->serve.from, action->serve.to);
        break;
    default:
        CH_ASSERT(!"not an action of the exchange");
    }
}

void ch_exchange_logged(struct ch_exchange *x, uint8_t type, struct ch_bytes head, size_t payload_length,
                        uint64_t position)
{
    ch_block_index_note(x->index, &x->node->committee, type, head.data, head.length, payload_length, position);
}

void ch_exchange_log_opened(struct ch_exchange *x, uint64_t end)
{
    ch_block_index_opened(x->index, end);
}

void ch_exchange_log_cut(struct ch_exchange *x, uint64_t first)
{
    ch_block_index_cut(x->index, first);
}
