/* What goes to and comes from the peers: broadcast, lazy push, tip repeat (5.4), fetching and answering (7). */
#include "consensus/core_impl.h"

#define PAYLOADS_ASKED_MAX                                                                                             \
    8                  /* of one peer at once: 2 MiB of 256 KiB each, half of what a connection's send buffer holds */
#define JITTER_SHARE 4 /* deadlines are stretched by up to a quarter */

static uint64_t backoff_us(struct ch_core *core, unsigned attempts)
{
    uint64_t ms = core->config.fetch_ms;
    while (attempts-- && ms < core->config.fetch_max_ms)
        ms *= 2;
    if (ms > core->config.fetch_max_ms)
        ms = core->config.fetch_max_ms;
    return ms * 1000 + ch_prng_below(&core->prng, ms * 1000 / JITTER_SHARE + 1);
}

static bool usable(const struct ch_core *core, uint16_t peer)
{
    return peer < core->n && peer != core->config.me && authors_has(&core->up, peer);
}

/* F2: the named candidates one after another, then anybody. CH_CORE_NOBODY when nobody is connected. */
static uint16_t pick_peer(struct ch_core *core, const uint16_t *candidates, unsigned count, unsigned attempt)
{
    unsigned seen = 0;
    for (unsigned i = 0; i < count; i++) {
        bool again = false;
        for (unsigned j = 0; j < i; j++)
            again = again || candidates[j] == candidates[i];
        if (!again && usable(core, candidates[i]) && seen++ == attempt)
            return candidates[i];
    }
    uint16_t start = (uint16_t)ch_prng_below(&core->prng, core->n);
    for (uint16_t i = 0; i < core->n; i++) {
        uint16_t peer = (uint16_t)((start + i) % core->n);
        if (usable(core, peer))
            return peer;
    }
    return CH_CORE_NOBODY;
}

static uint16_t want_peer(struct ch_core *core, const struct want *w)
{
    uint16_t candidates[] = {w->sender, w->child_author, CH_CORE_NOBODY, w->ref.author};
    if (w->links != NONE)
        candidates[2] = core->blocks[core->links[w->links].child].ref.author;
    return pick_peer(core, candidates, 4, w->attempts);
}

static void send_request(struct ch_core *core, uint16_t peer, const struct ch_ref *refs, uint16_t count)
{
    const size_t bytes = 6 + (size_t)count * CH_REF_BYTES;
    uint8_t *room = out_room(core, bytes);
    if (!room)
        return;
    ch_store32(room, core->gc_round);
    ch_store16(room + 4, count);
    memcpy(room + 6, refs, (size_t)count * CH_REF_BYTES);
    out_send(core, peer, CH_MESSAGE_GET_BLOCKS, CH_LANE_FETCH, (struct ch_bytes){room, bytes});
    core->counters.fetches_sent++;
}

/* F1-F3: every want that is due goes to a peer; one message a peer carries up to 64. */
static void fetch_due(struct ch_core *core)
{
    const uint64_t now = core->now.mono_us;
    uint32_t counts[CH_VALIDATORS_MAX] = {0}, due = 0;
    if (core->fetch_at_us > now)
        return;
    core->fetch_at_us = NEVER;
    for (uint32_t id = core->want_first; id != NONE; id = core->wants[id].next) {
        struct want *w = &core->wants[id];
        if (block_find(core, &w->ref) != NONE)
            w->deadline_us = NEVER; /* here, and waiting itself */
        if (w->deadline_us <= now) {
            w->asked = want_peer(core, w);
            w->deadline_us = now + backoff_us(core, w->attempts);
            if (w->asked != CH_CORE_NOBODY) {
                w->attempts += w->attempts < UINT8_MAX;
                counts[w->asked]++;
                core->stack[due++ % core->slot_count] = id;
            }
        }
        if (w->deadline_us < core->fetch_at_us)
            core->fetch_at_us = w->deadline_us;
    }
    if (due > core->slot_count)
        due = core->slot_count; /* the rest was overwritten; its deadlines bring it back */
    for (uint16_t peer = 0; due && peer < core->n; peer++) {
        struct ch_ref refs[FETCH_REFS_MAX];
        uint16_t count = 0;
        for (uint32_t i = 0; counts[peer] && i < due; i++) {
            if (core->wants[core->stack[i]].asked != peer)
                continue;
            refs[count++] = core->wants[core->stack[i]].ref;
            if (count < FETCH_REFS_MAX)
                continue;
            send_request(core, peer, refs, count);
            count = 0;
        }
        if (count)
            send_request(core, peer, refs, count);
    }
}

/* Who is asked for a payload. Of a commit that is being installed everybody has the blocks: they share the work. */
static uint16_t payload_peer(struct ch_core *core, const struct block *b)
{
    uint16_t candidates[3] = {b->sender, b->ref.author, CH_CORE_NOBODY};
    if (b->installing)
        candidates[0] = (uint16_t)((b->ref.round + b->ref.author + b->payload_attempts) % core->n);
    for (uint16_t p = 0; p < core->n; p++)
        if (authors_has(&b->known, p) && p != b->sender && p != b->ref.author)
            candidates[2] = p;
    return pick_peer(core, candidates, 3, b->installing ? 0 : b->payload_attempts);
}

static void ask_payload(struct ch_core *core, struct block *b, uint16_t peer)
{
    uint8_t *room = out_room(core, CH_REF_BYTES);
    b->payload_deadline_us = core->now.mono_us + backoff_us(core, b->payload_attempts);
    if (!room)
        return;
    memcpy(room, &b->ref, CH_REF_BYTES);
    out_send(core, peer, CH_MESSAGE_GET_PAYLOAD, CH_LANE_FETCH, (struct ch_bytes){room, CH_REF_BYTES});
    core->counters.fetches_sent++;
    b->payload_asked = peer;
    b->payload_attempts += b->payload_attempts < UINT8_MAX;
}

/* 13.1: what a validator that lags fetches ahead of the next commit is bounded in bytes; without one, ahead of the next
 * round. The others' turn comes when that is done. */
static bool too_far_ahead(const struct ch_core *core, const struct block *b, uint64_t ahead_bytes)
{
    return core->lagging && !b->payload_attempts && b->ref.round > install_next_round(core) &&
           ahead_bytes + b->payload_length > core->config.catch_up_bytes_max;
}

static void payload_due(struct ch_core *core, struct block *b, uint8_t *asked, uint64_t *ahead_bytes)
{
    const uint64_t now = core->now.mono_us;
    if (b->payload_deadline_us <= now) {
        if (too_far_ahead(core, b, *ahead_bytes))
            return;
        const uint16_t peer = payload_peer(core, b);
        if (peer == CH_CORE_NOBODY)
            b->payload_deadline_us = now + backoff_us(core, b->payload_attempts);
        else if (asked[peer] == PAYLOADS_ASKED_MAX)
            return;
        else {
            asked[peer]++;
            *ahead_bytes += b->payload_attempts ? 0 : b->payload_length;
            ask_payload(core, b, peer);
        }
    }
    if (b->payload_deadline_us < core->payload_at_us)
        core->payload_at_us = b->payload_deadline_us;
}

/* F6, payload_code 0: the whole payload from somebody who has the block. No more at once from one peer than it can have
 * on its way; the others' turn comes when one arrives or its deadline passes. */
static void payloads_due(struct ch_core *core)
{
    const uint64_t now = core->now.mono_us;
    uint8_t asked[CH_VALIDATORS_MAX] = {0};
    uint32_t next[CH_VALIDATORS_MAX];
    uint64_t ahead_bytes = 0;
    if (core->payload_at_us > now)
        return;
    core->payload_at_us = NEVER;
    for (uint32_t a = 0; a < core->n; a++)
        for (uint32_t id = core->suspended_head[a]; id != NONE; id = core->blocks[id].suspended_next) {
            const struct block *b = &core->blocks[id];
            if (!b->payload_here && b->payload_attempts && b->payload_deadline_us > now)
                asked[b->payload_asked] += asked[b->payload_asked] < PAYLOADS_ASKED_MAX;
            if (b->payload_here || b->payload_attempts)
                ahead_bytes += b->payload_length;
        }
    memcpy(next, core->suspended_head, core->n * sizeof *next);
    for (bool more = true; more;) { /* one of each author in turn: the oldest first */
        more = false;
        for (uint32_t a = 0; a < core->n; a++) {
            if (next[a] == NONE)
                continue;
            struct block *b = &core->blocks[next[a]];
            next[a] = b->suspended_next;
            more = true;
            if (!b->payload_here)
                payload_due(core, b, asked, &ahead_bytes);
        }
    }
}

/* W1: our own blocks leave only once they and all before them are durable. */
static bool may_leave(const struct ch_core *core, uint32_t id)
{
    return core->blocks[id].ref.author != core->config.me || core->blocks[id].lsn <= core->lsn_synced;
}

static void send_header(struct ch_core *core, uint16_t peer, uint32_t id)
{
    out_send(core, peer, CH_MESSAGE_HEADER, CH_LANE_LIVE,
             (struct ch_bytes){block_header(core, id), core->blocks[id].length});
}

/* B2 for one peer. */
static void push_to(struct ch_core *core, uint16_t peer)
{
    const uint32_t T = core->quorum_round + 1;
    for (uint32_t r = T > PUSH_ROUNDS ? T - PUSH_ROUNDS : 1; r < T; r++)
        for (uint16_t a = 0; a < core->n; a++)
            for (uint32_t id = dag_first(core, r, a); id != NONE; id = core->blocks[id].variant_next) {
                struct block *b = &core->blocks[id];
                if (b->state != ACCEPTED || authors_has(&b->known, peer) || authors_has(&b->sent, peer) ||
                    !may_leave(core, id))
                    continue;
                authors_add(&b->sent, peer);
                send_header(core, peer, id);
            }
}

static void push_due(struct ch_core *core)
{
    if (core->quorum_round != core->push_round) {
        core->push_round = core->quorum_round;
        core->payload_at_us = core->now.mono_us;
        sync_signed(core);
    }
    if (core->push_at_us > core->now.mono_us)
        return;
    core->push_at_us = NEVER;
    for (uint16_t peer = 0; peer < core->n; peer++)
        if (usable(core, peer))
            push_to(core, peer);
}

void sync_signed(struct ch_core *core)
{
    const uint64_t at = core->now.mono_us + (uint64_t)core->config.push_delay_ms * 1000;
    if (core->n > 1 && core->push_at_us > at)
        core->push_at_us = at;
}

static bool own_last_durable(const struct ch_core *core)
{
    return core->own_header_length && core->own_last_lsn <= core->lsn_synced;
}

static void send_tip(struct ch_core *core, uint16_t peer)
{
    const uint32_t length = own_last_durable(core) ? core->own_header_length : 0;
    uint8_t *room = out_room(core, 4 + (size_t)length);
    if (!room)
        return;
    ch_store32(room, core->quorum_round);
    memcpy(room + 4, core->own_header, length);
    out_send(core, peer, CH_MESSAGE_TIP, CH_LANE_LIVE, (struct ch_bytes){room, 4 + (size_t)length});
}

static uint64_t repeat_at(const struct ch_core *core)
{
    if (core->n == 1)
        return NEVER;
    return core->repeat_since_us + ((uint64_t)core->repeat_ms + pacemaker_min_delay_ms(core)) * 1000;
}

/* B3: without it a cluster that lost messages before it settled stands still for ever. */
static void repeat_due(struct ch_core *core)
{
    if (core->quorum_round != core->repeat_round) {
        core->repeat_round = core->quorum_round;
        core->repeat_ms = core->config.repeat_ms;
        core->repeat_since_us = core->now.mono_us;
    }
    if (repeat_at(core) > core->now.mono_us)
        return;
    core->repeat_since_us = core->now.mono_us;
    core->repeat_ms =
        core->repeat_ms * 2 < core->config.repeat_max_ms ? core->repeat_ms * 2 : core->config.repeat_max_ms;
    core->counters.tips_repeated++;
    send_tip(core, CH_CORE_NOBODY);
}

void sync_due(struct ch_core *core)
{
    fetch_due(core);
    payloads_due(core);
    if (core->n == 1)
        return;
    push_due(core);
    repeat_due(core);
}

uint64_t sync_deadline(const struct ch_core *core)
{
    uint64_t at = core->fetch_at_us < core->payload_at_us ? core->fetch_at_us : core->payload_at_us;
    if (core->push_at_us < at)
        at = core->push_at_us;
    const uint64_t repeat = repeat_at(core);
    return repeat < at ? repeat : at;
}

/* B1 */
void sync_durable(struct ch_core *core)
{
    while (core->own_unsynced_count) {
        const struct own_unsynced own = core->own_unsynced[core->own_unsynced_head];
        if (own.lsn > core->lsn_synced)
            return;
        core->own_unsynced_head = (core->own_unsynced_head + 1) % core->config.own_unsynced_max;
        core->own_unsynced_count--;
        uint32_t id = block_find(core, &own.ref);
        if (id == NONE || core->n == 1)
            continue;
        struct block *b = &core->blocks[id];
        send_header(core, CH_CORE_NOBODY, id);
        for (unsigned i = 0; i < 4; i++)
            b->sent.bits[i] |= core->up.bits[i];
        if (!b->handle)
            continue;
        struct ch_core_action *action = out_push(core, CH_ACTION_SEND_PAYLOAD);
        action->payload.ref = b->ref;
        action->payload.handle = b->handle;
        action->payload.length = b->payload_length;
    }
}

/* A BLOCKS body of these blocks, oldest first, as far as they fit. */
static void send_blocks(struct ch_core *core, uint16_t peer, uint32_t *ids, uint32_t count)
{
    size_t bytes = 2;
    uint16_t fit = 0;
    for (uint32_t i = 1; i < count; i++) {
        uint32_t id = ids[i], at = i;
        while (at && ch_ref_compare(&core->blocks[ids[at - 1]].ref, &core->blocks[id].ref) > 0) {
            ids[at] = ids[at - 1];
            at--;
        }
        ids[at] = id;
    }
    while (fit < count && bytes + 4 + core->blocks[ids[fit]].length <= CH_MESSAGE_BODY_BYTES_MAX)
        bytes += 4 + (size_t)core->blocks[ids[fit++]].length;
    uint8_t *room = fit ? out_room(core, bytes) : NULL;
    if (!room)
        return;
    struct ch_writer w = ch_writer(room, bytes);
    ch_write16(&w, fit);
    for (uint16_t i = 0; i < fit; i++) {
        ch_message_item(&w, block_header(core, ids[i]), core->blocks[ids[i]].length);
        authors_add(&core->blocks[ids[i]].sent, peer);
    }
    out_send(core, peer, CH_MESSAGE_BLOCKS, CH_LANE_FETCH, (struct ch_bytes){room, bytes});
}

/* F3: the blocks asked for, and what is below them that the peer is believed not to have. */
static void answer_blocks(struct ch_core *core, uint16_t peer, const uint8_t *body, size_t length)
{
    struct ch_reader r = ch_reader(body, length);
    uint32_t ids[FETCH_HEADERS_MAX], count = 0, next = 0;
    const uint32_t gc_round = ch_read32(&r);
    const uint16_t refs = ch_read16(&r);
    const uint64_t visit = ++core->visit;
    uint16_t elsewhere = 0;
    uint8_t *rest = out_room(core, length);
    for (uint16_t i = 0; i < refs && i < FETCH_REFS_MAX; i++) {
        const uint8_t *bytes = ch_read(&r, CH_REF_BYTES);
        if (!bytes)
            return;
        struct ch_ref ref = ch_ref_read(bytes);
        uint32_t id = block_find(core, &ref);
        if (id != NONE && core->blocks[id].state != NAMED) {
            if (core->blocks[id].visit != visit && may_leave(core, id)) {
                core->blocks[id].visit = visit;
                ids[count++] = id;
            }
        } else if (rest && ref.round <= core->gc_round) {
            memcpy(rest + 6 + (size_t)elsewhere++ * CH_REF_BYTES, bytes, CH_REF_BYTES);
        }
    }
    while (next < count && count < FETCH_HEADERS_MAX) {
        struct ch_block b;
        block_view(core, ids[next++], &b);
        for (unsigned i = 0; i < b.ancestor_count && count < FETCH_HEADERS_MAX; i++) {
            struct ch_ref ref = ch_block_ancestor(&b, i);
            uint32_t a = ref.round > gc_round ? block_find(core, &ref) : NONE;
            if (a == NONE || core->blocks[a].visit == visit || core->blocks[a].state == NAMED ||
                authors_has(&core->blocks[a].known, peer) || authors_has(&core->blocks[a].sent, peer) ||
                !may_leave(core, a))
                continue;
            core->blocks[a].visit = visit;
            ids[count++] = a;
        }
    }
    send_blocks(core, peer, ids, count);
    if (!elsewhere)
        return;
    ch_store32(rest, gc_round);
    ch_store16(rest + 4, elsewhere);
    struct ch_core_action *action = out_push(core, CH_ACTION_SERVE_BLOCKS);
    action->peer = peer;
    action->send.type = CH_MESSAGE_GET_BLOCKS;
    action->send.lane = CH_LANE_SYNC;
    action->send.body = (struct ch_bytes){rest, 6 + (size_t)elsewhere * CH_REF_BYTES};
}

static void answer_payload(struct ch_core *core, uint16_t peer, const uint8_t *body)
{
    struct ch_ref ref = ch_ref_read(body);
    uint32_t id = block_find(core, &ref);
    if (id != NONE && core->blocks[id].handle && may_leave(core, id)) {
        struct ch_core_action *action = out_push(core, CH_ACTION_SEND_PAYLOAD);
        action->peer = peer;
        action->payload.ref = ref;
        action->payload.handle = core->blocks[id].handle;
        action->payload.length = core->blocks[id].payload_length;
        return;
    }
    uint8_t *room = id == NONE || core->blocks[id].state == NAMED ? out_room(core, CH_REF_BYTES) : NULL;
    if (!room)
        return;
    memcpy(room, body, CH_REF_BYTES);
    struct ch_core_action *action = out_push(core, CH_ACTION_SERVE_BLOCKS);
    action->peer = peer;
    action->send.type = CH_MESSAGE_GET_PAYLOAD;
    action->send.lane = CH_LANE_SYNC;
    action->send.body = (struct ch_bytes){room, CH_REF_BYTES};
}

/* B3's other side: a peer whose quorum lies so far back that our pushes don't reach it. */
static void answer_tip(struct ch_core *core, uint16_t peer, uint32_t peer_quorum)
{
    const uint32_t T = core->quorum_round + 1;
    uint32_t ids[FETCH_HEADERS_MAX], count = 0;
    if (T <= PUSH_ROUNDS || T - PUSH_ROUNDS <= peer_quorum)
        return;
    for (uint32_t r = peer_quorum + 1; r <= peer_quorum + FUTURE_ROUNDS && r <= core->max_round; r++)
        for (uint16_t a = 0; a < core->n; a++)
            for (uint32_t id = dag_first(core, r, a); id != NONE; id = core->blocks[id].variant_next)
                if (core->blocks[id].state == ACCEPTED && may_leave(core, id) && count < FETCH_HEADERS_MAX)
                    ids[count++] = id;
    send_blocks(core, peer, ids, count);
}

static void take_blocks(struct ch_core *core, uint16_t peer, const uint8_t *body, size_t length)
{
    struct ch_reader r = ch_reader(body, length);
    uint16_t count = ch_read16(&r);
    while (count-- && !core->halt) {
        const uint32_t bytes = ch_read32(&r);
        const uint8_t *header = ch_read(&r, bytes);
        if (!header)
            return;
        accept_header(core, peer, header, bytes, FETCHED);
        accept_drain(core);
    }
}

/* 11.2a, the side that is asked: what is durable here, signed for this nonce alone. */
static void answer_who_am_i(struct ch_core *core, uint16_t peer, const uint8_t *nonce)
{
    if (core->config.me == CH_CORE_NOBODY || core->rejoin)
        return;
    const bool own = own_last_durable(core);
    if (!own && core->own_header_length)
        return; /* it asks again */
    core->i_am[peer].asked = true;
    core->i_am[peer].header_length = own ? core->own_header_length : 0;
    memcpy(core->i_am[peer].nonce, nonce, CH_HASH_BYTES);
    memset(core->i_am[peer].digest, 0, CH_HASH_BYTES);
    if (own)
        memcpy(core->i_am[peer].digest, core->own_last.digest, CH_HASH_BYTES);
    struct ch_core_action *action = out_push(core, CH_ACTION_SIGN);
    action->sign.domain = CH_DOMAIN_I_AM_SIGNATURE;
    memcpy(action->sign.message, nonce, CH_HASH_BYTES);
    memcpy(action->sign.message + CH_HASH_BYTES, core->i_am[peer].digest, CH_HASH_BYTES);
    action->sign.length = 2 * CH_HASH_BYTES;
}

void sync_i_am_signed(struct ch_core *core, const struct ch_core_event *event)
{
    for (uint16_t peer = 0; peer < core->n; peer++) {
        if (!core->i_am[peer].asked || memcmp(core->i_am[peer].nonce, event->signature.message, CH_HASH_BYTES) != 0 ||
            memcmp(core->i_am[peer].digest, event->signature.message + CH_HASH_BYTES, CH_HASH_BYTES) != 0)
            continue;
        core->i_am[peer].asked = false;
        const uint32_t header = core->i_am[peer].header_length;
        if (header &&
            (!own_last_durable(core) || memcmp(core->own_last.digest, core->i_am[peer].digest, CH_HASH_BYTES) != 0))
            continue; /* a newer block came in between; it asks again */
        const size_t bytes = CH_HASH_BYTES + CH_BLOCK_SIGNATURE_BYTES + (size_t)header;
        uint8_t *room = out_room(core, bytes);
        if (!room)
            return;
        memcpy(room, core->i_am[peer].nonce, CH_HASH_BYTES);
        memcpy(room + CH_HASH_BYTES, event->signature.bytes, CH_BLOCK_SIGNATURE_BYTES);
        memcpy(room + CH_HASH_BYTES + CH_BLOCK_SIGNATURE_BYTES, core->own_header, header);
        out_send(core, peer, CH_MESSAGE_I_AM, CH_LANE_LIVE, (struct ch_bytes){room, bytes});
    }
}

void sync_message(struct ch_core *core, uint16_t peer, enum ch_message_type type, const uint8_t *body, size_t length)
{
    struct ch_core_action *action;
    switch (type) {
    case CH_MESSAGE_TIP:
        if (length < 4)
            break;
        if (length > 4)
            accept_header(core, peer, body + 4, (uint32_t)(length - 4), PUSHED);
        answer_tip(core, peer, ch_load32(body));
        return;
    case CH_MESSAGE_HEADER:
        accept_header(core, peer, body, (uint32_t)length, PUSHED);
        return;
    case CH_MESSAGE_BLOCKS:
        take_blocks(core, peer, body, length);
        return;
    case CH_MESSAGE_GET_BLOCKS:
        if (length < 6)
            break;
        answer_blocks(core, peer, body, length);
        return;
    case CH_MESSAGE_GET_PAYLOAD:
        if (length != CH_REF_BYTES)
            break;
        answer_payload(core, peer, body);
        return;
    case CH_MESSAGE_GET_COMMITS:
        if (length != 16)
            break;
        action = out_push(core, CH_ACTION_SERVE_COMMITS);
        action->peer = peer;
        action->serve.from = ch_load64(body);
        action->serve.to = ch_load64(body + 8);
        return;
    case CH_MESSAGE_COMMITS:
        install_commits(core, peer, body, length);
        return;
    case CH_MESSAGE_WHO_AM_I:
        if (length != CH_HASH_BYTES)
            break;
        answer_who_am_i(core, peer, body);
        return;
    case CH_MESSAGE_I_AM:
        rejoin_i_am(core, peer, body, length);
        return;
    case CH_MESSAGE_EVIDENCE:
        accept_evidence(core, body, length);
        return;
    case CH_MESSAGE_PAYLOAD:
        break;
    }
    core->counters.messages_malformed++;
}

void sync_payload_bad(struct ch_core *core, uint16_t peer, const struct ch_ref *ref)
{
    uint32_t id = block_find(core, ref);
    out_report(core, peer, CH_REPORT_MISBEHAVED);
    if (id == NONE || core->blocks[id].payload_here)
        return;
    core->blocks[id].payload_deadline_us = core->now.mono_us;
    core->payload_at_us = core->now.mono_us;
}

void sync_peer_up(struct ch_core *core, uint16_t peer)
{
    authors_add(&core->up, peer);
    send_tip(core, peer);
    push_to(core, peer);
}

void sync_peer_down(struct ch_core *core, uint16_t peer)
{
    authors_remove(&core->up, peer);
    for (uint32_t id = 0; id < core->slots_used; id++)
        authors_remove(&core->blocks[id].sent, peer);
}
