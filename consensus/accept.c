/* From verified header to accepted block (4.2), within the limits of section 16; equivocation (12). */
#include "consensus/core_impl.h"

#define PAYLOAD_LAG_MAX_US 200000u

static void suspended_list(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    uint32_t *tail = &core->suspended_tail[b->charged];
    b->suspended_previous = *tail;
    b->suspended_next = NONE;
    if (*tail != NONE)
        core->blocks[*tail].suspended_next = id;
    else
        core->suspended_head[b->charged] = id;
    *tail = id;
    core->suspended_count[b->charged]++;
    core->suspended_total++;
}

static void suspended_unlist(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    if (b->suspended_previous != NONE)
        core->blocks[b->suspended_previous].suspended_next = b->suspended_next;
    else
        core->suspended_head[b->charged] = b->suspended_next;
    if (b->suspended_next != NONE)
        core->blocks[b->suspended_next].suspended_previous = b->suspended_previous;
    else
        core->suspended_tail[b->charged] = b->suspended_previous;
    core->suspended_count[b->charged]--;
    core->suspended_total--;
}

static bool is_accepted(const struct ch_core *core, const struct ch_ref *ref)
{
    if (ref->round <= core->gc_round)
        return true;
    uint32_t id = block_find(core, ref);
    return id != NONE && (core->blocks[id].state == ACCEPTED || core->blocks[id].state == NAMED);
}

static void unlink_ancestors(struct ch_core *core, uint32_t id)
{
    struct ch_block b;
    block_view(core, id, &b);
    for (unsigned i = 0; core->blocks[id].waiting && i < b.ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(&b, i);
        want_unlink(core, &ref, id);
    }
    core->blocks[id].waiting = 0;
}

void suspended_drop(struct ch_core *core, uint32_t id)
{
    CH_ASSERT(core->blocks[id].state == SUSPENDED);
    unlink_ancestors(core, id);
    suspended_unlist(core, id);
    uint32_t want = want_find(core, &core->blocks[id].ref);
    if (want != NONE) { /* its children still need it */
        core->wants[want].deadline_us = core->now.mono_us + (uint64_t)core->config.fetch_ms * 1000;
        if (core->fetch_at_us > core->wants[want].deadline_us)
            core->fetch_at_us = core->wants[want].deadline_us;
    }
    block_free(core, id);
}

/* L2: room for one more suspended block of this author. The highest round goes first, the newcomer included; other
 * authors' blocks never. */
static bool make_room(struct ch_core *core, uint16_t author, uint32_t round)
{
    if (core->suspended_count[author] < SUSPENDED_ROUNDS * VARIANTS_MAX && blocks_left(core))
        return true;
    uint32_t worst = NONE;
    for (uint32_t id = core->suspended_head[author]; id != NONE; id = core->blocks[id].suspended_next)
        if (!core->blocks[id].installing &&
            (worst == NONE || core->blocks[id].ref.round > core->blocks[worst].ref.round))
            worst = id;
    if (worst == NONE || core->blocks[worst].ref.round <= round)
        return false;
    suspended_drop(core, worst);
    core->counters.blocks_evicted++;
    return blocks_left(core);
}

static void push_work(struct ch_core *core, uint32_t id)
{
    core->work[core->work_tail++ % core->slot_count] = id;
    CH_ASSERT(core->work_tail - core->work_head <= core->slot_count);
}

void accept_ready(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    if (b->state != SUSPENDED || b->waiting || !b->payload_here || b->queued)
        return;
    b->queued = true;
    push_work(core, id);
}

/* Two headers of one author and round, for the log, for everybody and for people; once an author. */
static void publish(struct ch_core *core, uint16_t author, struct ch_bytes first, struct ch_bytes second)
{
    if (!authors_add(&core->exposed, author))
        return;
    claims_again(core);
    const size_t bytes = 4 + first.length + second.length;
    uint8_t *record = out_room(core, bytes);
    if (record) {
        const struct ch_bytes body = {record, bytes};
        ch_store32(record, (uint32_t)first.length);
        memcpy(record + 4, first.data, first.length);
        memcpy(record + 4 + first.length, second.data, second.length);
        out_append(core, CH_RECORD_EVIDENCE, body, 0, 0);
        out_send(core, CH_CORE_NOBODY, CH_MESSAGE_EVIDENCE, CH_LANE_LIVE, body);
    }
    out_report(core, author, CH_REPORT_EVIDENCE);
}

/* E1. `b` has the round and author of `other`, and another digest. */
static void expose(struct ch_core *core, const struct ch_block *b, uint32_t other)
{
    core->counters.equivocations++;
    publish(core, b->author, (struct ch_bytes){block_header(core, other), core->blocks[other].length},
            (struct ch_bytes){b->bytes, b->length});
}

void accept_evidence(struct ch_core *core, const uint8_t *body, size_t length)
{
    struct ch_reader r = ch_reader(body, length);
    struct ch_block a, b;
    uint8_t da[CH_HASH_BYTES], db[CH_HASH_BYTES];
    const uint32_t first = ch_read32(&r);
    const uint8_t *bytes = ch_read(&r, first);
    if (!bytes || ch_block_parse(&core->committee, bytes, first, &a) != CH_BLOCK_OK ||
        ch_block_parse(&core->committee, r.at, r.left, &b) != CH_BLOCK_OK || a.author != b.author || a.round != b.round)
        return;
    ch_block_digest(&core->committee, &a, da);
    ch_block_digest(&core->committee, &b, db);
    if (memcmp(da, db, CH_HASH_BYTES) == 0)
        return; /* one block under two signatures */
    if (a.author == core->config.me && !core->rejoin) {
        core_halt(core, CH_HALT_SELF_EQUIVOCATION);
        return;
    }
    publish(core, a.author, (struct ch_bytes){bytes, first}, (struct ch_bytes){r.at, r.left});
}

/* Blocks here of this round and author; *other is one of them. */
static uint32_t variants(struct ch_core *core, const struct ch_block *b, uint32_t *other)
{
    uint32_t count = 0;
    *other = NONE;
    for (uint32_t id = dag_first(core, b->round, b->author); id != NONE; id = core->blocks[id].variant_next) {
        count++;
        if (core->blocks[id].state != NAMED)
            *other = id;
    }
    for (uint16_t charged = 0; charged < core->n; charged++) {
        for (uint32_t id = core->suspended_head[charged]; id != NONE; id = core->blocks[id].suspended_next) {
            const struct ch_ref *ref = &core->blocks[id].ref;
            if (ref->round != b->round || ref->author != b->author)
                continue;
            count++;
            *other = id;
        }
    }
    return count;
}

/* A block under our own key from outside. True: go on with it (history from before a lost disk). */
static bool own_returned(struct ch_core *core, const struct ch_block *b)
{
    if (core->rejoin)
        return true;
    uint32_t other;
    if (variants(core, b, &other) && other != NONE) {
        expose(core, b, other);
        core_halt(core, CH_HALT_SELF_EQUIVOCATION); /* E4 */
        return false;
    }
    return true;
}

static uint32_t missing_ancestors(const struct ch_core *core, const struct ch_block *b)
{
    uint32_t missing = 0;
    for (unsigned i = 0; i < b->ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(b, i);
        missing += !is_accepted(core, &ref);
    }
    return missing;
}

static void expect_payload(struct ch_core *core, uint32_t id, const struct ch_block *b, enum source source)
{
    struct block *x = &core->blocks[id];
    x->payload_here = b->payload_length == 0;
    if (x->payload_here)
        return;
    x->payload_expected = true;
    x->payload_since_us = x->payload_deadline_us = core->now.mono_us;
    if (source != FETCHED) /* on a slow network a second copy would make it slower still */
        x->payload_deadline_us +=
            (uint64_t)core->config.payload_wait_ms * 1000 + 2ull * core->payload_lag_us[b->author];
    if (core->payload_at_us > x->payload_deadline_us)
        core->payload_at_us = x->payload_deadline_us;
    struct ch_core_action *action = out_push(core, CH_ACTION_EXPECT_PAYLOAD);
    action->peer = x->sender;
    action->payload.ref = x->ref;
    action->payload.length = b->payload_length;
    memcpy(action->payload.root, b->payload_root, CH_HASH_BYTES);
}

static void suspend(struct ch_core *core, uint16_t peer, const struct ch_block *b, const struct ch_ref *ref,
                    uint16_t charged, enum source source)
{
    uint32_t id = block_new(core, ref);
    struct block *x = &core->blocks[id];
    memcpy(block_header(core, id), b->bytes, b->length);
    x->length = b->length;
    x->timestamp_ms = b->timestamp_ms;
    x->payload_length = b->payload_length;
    x->payload_items = b->payload_items;
    x->state = SUSPENDED;
    x->sender = peer;
    x->charged = charged;
    x->solicited = source == FETCHED;
    authors_add(&x->known, b->author);
    if (peer < core->n)
        authors_add(&x->known, peer);
    suspended_list(core, id);
    uint32_t wanted = want_find(core, ref);
    x->installing = wanted != NONE && core->wants[wanted].installing;
    for (unsigned i = 0; i < b->ancestor_count; i++) {
        struct ch_ref a = ch_block_ancestor(b, i);
        uint32_t known = block_find(core, &a);
        if (known != NONE)
            authors_add(&core->blocks[known].known, b->author);
        if (ref->round <= core->gc_round || is_accepted(core, &a))
            continue;
        uint32_t want = want_get(core, &a, peer, charged);
        if (want == NONE || !want_link(core, want, id)) {
            suspended_drop(core, id);
            core->counters.blocks_refused_quota++;
            return;
        }
        x->waiting++;
    }
    expect_payload(core, id, b, source);
    accept_ready(core, id);
}

static bool can_pay(struct ch_core *core, uint16_t author, uint32_t round, uint32_t missing)
{
    return core->wants_charged[author] + missing <= WANTS_PER_AUTHOR * core->n && make_room(core, author, round);
}

/* L2, L3: whoever wants a block pays for it with its quota. The first to want it may have used its own up, on purpose:
 * then its author pays, or an honest author of anything that waits for it, directly or not. CH_CORE_NOBODY: none
 * can. */
static uint16_t other_payer(struct ch_core *core, const struct ch_block *b, const struct ch_ref *ref, uint32_t missing)
{
    const uint64_t visit = ++core->visit;
    uint32_t depth = 0, want = want_find(core, ref);
    if (!blocks_left(core))
        return CH_CORE_NOBODY;
    if (!authors_has(&core->exposed, b->author) && can_pay(core, b->author, b->round, missing))
        return b->author;
    if (want != NONE && core->wants[want].band)
        for (uint16_t a = 0; a < core->n; a++)
            if (!authors_has(&core->exposed, a) && clean_needs(core, a, ref) && can_pay(core, a, b->round, missing))
                return a;
    if (want != NONE)
        core->stack[depth++] = want;
    while (depth)
        for (uint32_t link = core->wants[core->stack[--depth]].links; link != NONE; link = core->links[link].next) {
            const uint32_t child = core->links[link].child;
            const uint16_t author = core->blocks[child].ref.author;
            if (core->blocks[child].visit == visit)
                continue;
            core->blocks[child].visit = visit;
            if (!authors_has(&core->exposed, author) && can_pay(core, author, b->round, missing))
                return author;
            want = want_find(core, &core->blocks[child].ref);
            if (want != NONE)
                core->stack[depth++] = want;
        }
    return CH_CORE_NOBODY;
}

static void take_header(struct ch_core *core, uint16_t peer, const struct ch_block *block, const struct ch_ref *given,
                        enum source source)
{
    const struct ch_block b = *block;
    const struct ch_ref ref = *given;
    uint32_t id = block_find(core, &ref);
    if (id != NONE) {
        if (peer < core->n)
            authors_add(&core->blocks[id].known, peer);
        core->counters.blocks_duplicate++;
        return;
    }
    const uint32_t want = want_find(core, &ref);
    const bool wanted = want != NONE;
    if (b.author == core->config.me && b.round > core->P && !core->rejoin) {
        core_halt(core, CH_HALT_KEY_IN_USE);
        return;
    }
    if (b.round <= clean_floor(core) || (b.round <= core->gc_round && !wanted)) {
        core->counters.blocks_refused_old++;
        return;
    }
    if (b.author == core->config.me && !own_returned(core, &b))
        return;
    if (b.round > core->quorum_round + FUTURE_ROUNDS && !wanted) {
        core->counters.blocks_refused_future++;
        return;
    }
    if (!round_in_memory(core, b.round)) {
        core->counters.blocks_refused_full++;
        return;
    }
    uint32_t other;
    uint32_t here = variants(core, &b, &other);
    if (other != NONE)
        expose(core, &b, other);
    const uint16_t child_author = wanted ? core->wants[want].child_author : CH_CORE_NOBODY;
    const bool exposed = child_author < core->n && authors_has(&core->exposed, child_author);
    const bool exempt = wanted && !exposed;
    if (here >= VARIANTS_MAX && !exempt) { /* E2 */
        core->counters.blocks_refused_variant++;
        return;
    }
    /* An honest block has its own claim to what it builds on, whoever asked for it first. */
    const uint32_t missing = missing_ancestors(core, &b);
    uint16_t charged =
        child_author < core->n && (!exposed || authors_has(&core->exposed, b.author)) ? child_author : b.author;
    if (!can_pay(core, charged, b.round, missing))
        charged = wanted ? other_payer(core, &b, &ref, missing) : CH_CORE_NOBODY;
    if (charged == CH_CORE_NOBODY) {
        core->counters.blocks_refused_quota++;
        return;
    }
    suspend(core, peer, &b, &ref, charged, wanted ? FETCHED : source);
}

void accept_header(struct ch_core *core, uint16_t peer, const uint8_t *bytes, uint32_t length, enum source source)
{
    struct ch_block b;
    if (core->halt || ch_block_parse(&core->committee, bytes, length, &b) != CH_BLOCK_OK)
        return;
    struct ch_ref ref = {.round = b.round, .author = b.author};
    ch_block_digest(&core->committee, &b, ref.digest);
    votes_tally(core, &b, &ref);
    if (b.round > core->seen_round[b.author])
        core->seen_round[b.author] = b.round;
    take_header(core, peer, &b, &ref, source);
    votes_count(core, &b);
}

/* Quickly up, slowly down. Each author has its own, so that one who is late on purpose delays nobody else's. */
static void note_payload_lag(struct ch_core *core, const struct block *b)
{
    uint32_t *lag = &core->payload_lag_us[b->ref.author];
    const uint64_t us = core->now.mono_us - b->payload_since_us;
    const uint32_t now = us < PAYLOAD_LAG_MAX_US ? (uint32_t)us : PAYLOAD_LAG_MAX_US;
    if (!b->solicited)
        *lag = now > *lag ? *lag + (now - *lag) / 2 : *lag - (*lag - now) / 8;
}

void accept_payload(struct ch_core *core, const struct ch_ref *ref, uint64_t handle)
{
    uint32_t id = block_find(core, ref);
    struct block *b = id == NONE ? NULL : &core->blocks[id];
    if (!b || b->payload_here || !b->payload_expected || !handle) {
        if (handle) {
            struct ch_core_action *action = out_push(core, CH_ACTION_RELEASE);
            action->payload.ref = *ref;
            action->payload.handle = handle;
        }
        return;
    }
    note_payload_lag(core, b);
    b->handle = handle;
    b->payload_here = true;
    b->payload_deadline_us = NEVER;
    core->payload_at_us = core->now.mono_us; /* another may be asked for in its place */
    accept_ready(core, id);
}

/* What waited for this block, in reference order. */
static void release_children(struct ch_core *core, const struct ch_ref *ref)
{
    uint32_t want = want_find(core, ref);
    if (want == NONE)
        return;
    uint32_t count = 0;
    for (uint32_t link = core->wants[want].links; link != NONE; link = core->links[link].next) {
        uint32_t child = core->links[link].child, at = count++;
        while (at && ch_ref_compare(&core->blocks[core->stack[at - 1]].ref, &core->blocks[child].ref) > 0) {
            core->stack[at] = core->stack[at - 1];
            at--;
        }
        core->stack[at] = child;
    }
    want_free(core, want);
    for (uint32_t i = 0; i < count; i++) {
        CH_ASSERT(core->blocks[core->stack[i]].waiting);
        core->blocks[core->stack[i]].waiting--;
        accept_ready(core, core->stack[i]);
    }
}

static void append_block(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    b->lsn = out_append(core, CH_RECORD_BLOCK, (struct ch_bytes){block_header(core, id), b->length}, b->handle,
                        b->payload_length);
}

/* The highest own round that each author builds on (5.5). */
static void note_reference_to_me(struct ch_core *core, uint32_t id)
{
    struct ch_block b;
    block_view(core, id, &b);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(&b, i);
        if (ref.author == core->config.me && ref.round > core->own_ref_by[b.author])
            core->own_ref_by[b.author] = ref.round;
    }
}

static void insert(struct ch_core *core, uint32_t id)
{
    dag_insert(core, id);
    clean_compute(core, id);
    if (core->blocks[id].clean && core->dirty_count)
        core->clean_stale = true;
    note_reference_to_me(core, id);
    release_children(core, &core->blocks[id].ref);
}

void accept_own(struct ch_core *core, uint32_t id)
{
    insert(core, id);
}

/* 13.4: a block of a proven commit; all that it builds on is committed or collected. */
void accept_installed(struct ch_core *core, uint32_t id)
{
    if (core->blocks[id].state != SUSPENDED)
        return;
    unlink_ancestors(core, id);
    suspended_unlist(core, id);
    append_block(core, id);
    insert(core, id);
}

void accept_drain(struct ch_core *core)
{
    while (core->work_head != core->work_tail && !core->halt) {
        uint32_t id = core->work[core->work_head++ % core->slot_count];
        struct block *b = &core->blocks[id];
        b->queued = false;
        if (b->state != SUSPENDED || b->waiting || !b->payload_here)
            continue;
        suspended_unlist(core, id);
        append_block(core, id);
        if (b->ref.round > core->gc_round) {
            insert(core, id);
            continue;
        }
        b->state = HELD;
        dag_list(core, id);
        core->counters.blocks_held++;
        clean_compute(core, id);
        core->clean_stale = true;
        release_children(core, &b->ref);
    }
}

/* F5, and suspended blocks whose round can't be accepted any more become held or go. */
void accept_collected(struct ch_core *core)
{
    for (uint32_t id = core->want_first, next; id != NONE; id = next) {
        next = core->wants[id].next;
        const struct ch_ref ref = core->wants[id].ref;
        if (ref.round > core->gc_round)
            continue;
        const bool band = core->wants[id].band && ref.round > clean_floor(core);
        if (core->wants[id].links != NONE)
            release_children(core, &ref); /* frees it; cleanness asks again where it must */
        else if (!band && !core->wants[id].installing)
            want_free(core, id);
    }
    for (uint32_t a = 0; a < core->n; a++) {
        for (uint32_t id = core->suspended_head[a], next; id != NONE; id = next) {
            next = core->blocks[id].suspended_next;
            if (core->blocks[id].ref.round > core->gc_round)
                continue;
            if (core->blocks[id].ref.round <= clean_floor(core)) {
                suspended_drop(core, id);
                continue;
            }
            unlink_ancestors(core, id);
            accept_ready(core, id);
        }
    }
    core->clean_stale = true;
}
