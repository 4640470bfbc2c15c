/* Catching up by commits (13): proven commits are taken from peers, their blocks fetched, and both put in, in order.
 * Several ranges are asked for at once, one of each peer; what comes early waits in its range until the ranges before
 * it have come. */
#include "consensus/core_impl.h"

#include <stdlib.h>

/* Commits [from, to] that a peer (CH_CORE_NOBODY: the next that can be) is asked for; or that came, then `to` is the
 * last. */
struct range {
    enum { RANGE_FREE, RANGE_ASKED, RANGE_HERE } state;
    uint16_t peer;
    uint64_t from, to;
    uint64_t deadline_us;
    uint32_t length; /* of the entries that came: u32 length | commit */
    uint8_t *bytes;
};

struct install {
    uint8_t *queue; /* entries u32 length | commit */
    size_t head, tail;
    uint64_t tail_index; /* of the last entry; counts when head < tail */
    uint8_t tail_digest[CH_HASH_BYTES];
    uint16_t peer; /* who gave the queue's end */
    struct range ranges[RANGES_MAX];
    uint8_t *range_bytes;
    struct authors barren; /* peers that had nothing for us: asked again once all are */
    uint64_t ask_at_us;    /* not before */
};

bool install_open(struct ch_core *core)
{
    struct install *in = core->install = calloc(1, sizeof *core->install);
    if (!in)
        return false;
    in->queue = malloc(INSTALL_BYTES);
    in->range_bytes = malloc((size_t)RANGES_MAX * CH_MESSAGE_BODY_BYTES_MAX); /* touched as far as answers reach */
    for (unsigned i = 0; in->range_bytes && i < RANGES_MAX; i++)
        in->ranges[i].bytes = in->range_bytes + (size_t)i * CH_MESSAGE_BODY_BYTES_MAX;
    return in->queue && in->range_bytes;
}

void install_close(struct ch_core *core)
{
    if (core->install) {
        free(core->install->queue);
        free(core->install->range_bytes);
    }
    free(core->install);
}

static bool queue_empty(const struct install *in)
{
    return in->head == in->tail;
}

static void queue_drop(struct ch_core *core)
{
    core->install->head = core->install->tail = 0;
    core->payload_at_us = core->now.mono_us;
    for (uint32_t id = core->want_first, next; id != NONE; id = next) {
        next = core->wants[id].next;
        if (!core->wants[id].installing)
            continue;
        core->wants[id].installing = false;
        if (core->wants[id].links == NONE && !core->wants[id].band)
            want_free(core, id);
    }
}

static bool queue_add(struct install *in, const uint8_t *bytes, uint32_t length)
{
    if (in->head && INSTALL_BYTES - in->tail < length + 4u) {
        memmove(in->queue, in->queue + in->head, in->tail - in->head);
        in->tail -= in->head;
        in->head = 0;
    }
    if (INSTALL_BYTES - in->tail < length + 4u)
        return false;
    ch_store32(in->queue + in->tail, length);
    memcpy(in->queue + in->tail + 4, bytes, length);
    in->tail += 4 + (size_t)length;
    return true;
}

/* Where the next request begins, and the digest that its first commit must name. */
static uint64_t wanted_from(const struct ch_core *core, const uint8_t **previous)
{
    const struct install *in = core->install;
    if (!queue_empty(in) && in->tail_index > core->last_commit.index) {
        *previous = in->tail_digest;
        return in->tail_index + 1;
    }
    *previous = core->last_commit.digest;
    return core->last_commit.index + 1;
}

static struct range *range_over(struct install *in, uint64_t index)
{
    for (struct range *r = in->ranges; r < in->ranges + RANGES_MAX; r++)
        if (r->state != RANGE_FREE && r->from <= index && index <= r->to)
            return r;
    return NULL;
}

/* The first range from `index` on that is neither here nor asked for. */
static void first_gap(struct install *in, uint64_t index, uint64_t *from, uint64_t *to)
{
    const struct range *r;
    while ((r = range_over(in, index)))
        index = r->to + 1;
    *from = index;
    *to = index + COMMITS_ASKED - 1;
    for (r = in->ranges; r < in->ranges + RANGES_MAX; r++)
        if (r->state != RANGE_FREE && r->from > index && r->from <= *to)
            *to = r->from - 1;
}

static bool asked_already(const struct install *in, uint16_t peer)
{
    for (const struct range *r = in->ranges; r < in->ranges + RANGES_MAX; r++)
        if (r->state == RANGE_ASKED && r->peer == peer)
            return true;
    return false;
}

/* One range of each at once: who is silent on purpose holds up no more than that. `busy`: somebody has to answer first.
 */
static uint16_t choose_peer(struct ch_core *core, bool *busy)
{
    const struct install *in = core->install;
    const uint16_t start = (uint16_t)ch_prng_below(&core->prng, core->n);
    *busy = false;
    for (uint16_t i = 0; i < core->n; i++) {
        const uint16_t p = (uint16_t)((start + i) % core->n);
        if (p == core->config.me || !authors_has(&core->up, p) || authors_has(&in->barren, p))
            continue;
        if (!asked_already(in, p))
            return p;
        *busy = true;
    }
    return CH_CORE_NOBODY;
}

/* Another is asked at once: one that lags itself, or is silent on purpose, must not hold us up again and again. */
static void give_up_on(struct install *in, uint16_t peer)
{
    authors_add(&in->barren, peer);
    for (struct range *r = in->ranges; r < in->ranges + RANGES_MAX; r++)
        if (r->state == RANGE_ASKED && r->peer == peer)
            r->peer = CH_CORE_NOBODY;
}

/* The lowest range that nobody is asked for; a new one when there is none and more is to be had. What may not be proven
 * yet is asked of one peer alone, and only when there is nothing else to do. */
static struct range *next_question(struct ch_core *core, uint64_t wanted)
{
    struct install *in = core->install;
    struct range *lowest = NULL, *unused = NULL;
    uint64_t from, to;
    for (struct range *r = in->ranges; r < in->ranges + RANGES_MAX; r++) {
        if (r->state == RANGE_FREE)
            unused = r;
        else if (r->state == RANGE_ASKED && r->peer == CH_CORE_NOBODY && (!lowest || r->from < lowest->from))
            lowest = r;
    }
    if (lowest || !unused)
        return lowest;
    first_gap(in, wanted, &from, &to);
    if (from + core->config.vote_cert_every > core->quorum_index && (from > wanted || !queue_empty(in)))
        return NULL;
    unused->state = RANGE_ASKED;
    unused->peer = CH_CORE_NOBODY;
    unused->from = from;
    unused->to = to;
    return unused;
}

static bool send_question(struct ch_core *core, struct range *r, uint16_t peer)
{
    uint8_t *room = out_room(core, 16);
    if (!room)
        return false;
    ch_store64(room, r->from);
    ch_store64(room + 8, r->to);
    out_send(core, peer, CH_MESSAGE_GET_COMMITS, CH_LANE_SYNC, (struct ch_bytes){room, 16});
    r->peer = peer;
    r->deadline_us = core->now.mono_us + (uint64_t)core->config.fetch_ms * 4000;
    return true;
}

/* Step 1 */
static void ask(struct ch_core *core)
{
    struct install *in = core->install;
    const uint64_t now = core->now.mono_us;
    const uint8_t *previous;
    const uint64_t wanted = wanted_from(core, &previous);
    for (struct range *r = in->ranges; r < in->ranges + RANGES_MAX; r++) {
        if (!core->lagging || r->to < wanted)
            r->state = RANGE_FREE; /* live decisions were faster */
        else if (r->state == RANGE_ASKED && r->peer != CH_CORE_NOBODY &&
                 (r->deadline_us <= now || !authors_has(&core->up, r->peer)))
            give_up_on(in, r->peer);
    }
    if (!core->lagging) {
        in->barren = (struct authors){0};
        in->ask_at_us = 0;
        return;
    }
    if (in->tail - in->head > INSTALL_BYTES / 2 || in->ask_at_us > now)
        return;
    for (struct range *r; (r = next_question(core, wanted));) {
        bool busy;
        const uint16_t peer = choose_peer(core, &busy);
        if (peer == CH_CORE_NOBODY && !busy) { /* nobody has it: all are asked again, later */
            in->barren = (struct authors){0};
            in->ask_at_us = now + (uint64_t)core->config.fetch_ms * 1000;
        }
        if (peer == CH_CORE_NOBODY || !send_question(core, r, peer))
            return;
    }
}

/* Step 2: a chain of commits from the one we have to one that validity stake voted for (votes.c says why). */
struct reply {
    uint64_t from;
    unsigned count;
    struct ch_reader commits; /* at the first u32 length */
    uint8_t last[CH_HASH_BYTES];
    uint8_t previous[CH_HASH_BYTES]; /* named by the first */
};

static bool chained(struct ch_core *core, struct reply *reply)
{
    struct ch_reader r = reply->commits;
    struct ch_commit commit;
    for (unsigned i = 0; i < reply->count; i++) {
        const uint32_t length = ch_read32(&r);
        const uint8_t *bytes = ch_read(&r, length);
        if (!bytes || !ch_commit_parse(bytes, length, &commit) || commit.epoch != core->committee.epoch ||
            commit.index != reply->from + i || commit.rank >= core->ranks || commit.block_count > core->slot_count)
            return false;
        if (i == 0)
            memcpy(reply->previous, commit.previous, CH_HASH_BYTES);
        else if (memcmp(commit.previous, reply->last, CH_HASH_BYTES) != 0)
            return false;
        ch_commit_digest(&core->committee, bytes, length, reply->last);
    }
    return true;
}

static bool proven(struct ch_core *core, const struct reply *reply, struct ch_reader *proof, unsigned headers)
{
    struct authors seen = {0};
    uint64_t stake = 0;
    const uint64_t index = reply->from + reply->count - 1;
    while (headers--) {
        struct ch_block b;
        const uint32_t length = ch_read32(proof);
        const uint8_t *bytes = ch_read(proof, length);
        if (!bytes || ch_block_parse(&core->committee, bytes, length, &b) != CH_BLOCK_OK)
            return false;
        for (unsigned i = 0; i < b.vote_count; i++) {
            const uint8_t *vote = b.votes + (size_t)i * CH_BLOCK_VOTE_BYTES;
            if (ch_load64(vote) == index && memcmp(vote + 8, reply->last, CH_HASH_BYTES) == 0 &&
                authors_add(&seen, b.author))
                stake += core->committee.stake[b.author];
        }
    }
    return stake >= core->committee.validity_stake;
}

/* A range that was asked for and whose first commit is among these, whoever gives them: what comes after its deadline
 * is as good, and on a slow line all does. */
static struct range *range_asked(struct install *in, uint64_t from, uint64_t to)
{
    struct range *begins = NULL;
    for (struct range *r = in->ranges; r < in->ranges + RANGES_MAX; r++) {
        if (r->state == RANGE_ASKED && r->from == from)
            return r;
        if (r->state == RANGE_ASKED && r->peer == CH_CORE_NOBODY && from < r->from && r->from <= to)
            begins = r;
    }
    return begins;
}

void install_commits(struct ch_core *core, uint16_t peer, const uint8_t *body, size_t length)
{
    struct install *in = core->install;
    struct ch_reader r = ch_reader(body, length);
    struct reply reply = {.from = ch_read64(&r)};
    ch_read64(&r); /* oldest kept: with snapshots (13.6) it will matter */
    reply.count = ch_read16(&r);
    unsigned headers = ch_read16(&r);
    reply.commits = r;
    for (unsigned i = 0; i < reply.count; i++)
        ch_read(&r, ch_read32(&r));
    const uint32_t entries = (uint32_t)(reply.commits.left - r.left);
    struct range *range = range_asked(in, reply.from, reply.from + reply.count - (reply.count > 0));
    if (!range || r.bad)
        return;
    if (reply.count == 0) {
        if (range->peer == peer)
            give_up_on(in, peer);
        return;
    }
    if (!chained(core, &reply) || !proven(core, &reply, &r, headers)) {
        out_report(core, peer, CH_REPORT_MISBEHAVED);
        if (range->peer == peer)
            give_up_on(in, peer);
        return;
    }
    CH_ASSERT(entries <= CH_MESSAGE_BODY_BYTES_MAX);
    memcpy(range->bytes, reply.commits.at, entries);
    range->length = entries;
    range->state = RANGE_HERE;
    range->peer = peer;
    range->from = reply.from;
    range->to = reply.from + reply.count - 1;
}

/* What of a range continues the queue goes to its end, as far as there is room. False: the queue's end is proven, and
 * so is the range, and they differ: honest validators stand behind two pasts. */
static bool range_to_queue(struct ch_core *core, struct range *range)
{
    struct install *in = core->install;
    struct ch_reader r = ch_reader(range->bytes, range->length);
    const uint8_t *previous;
    struct ch_commit commit;
    while (r.left) {
        const uint32_t length = ch_read32(&r);
        const uint8_t *bytes = ch_read(&r, length);
        const uint64_t wanted = wanted_from(core, &previous);
        CH_ASSERT(bytes && ch_commit_parse(bytes, length, &commit)); /* install_commits said so */
        if (commit.index < wanted)
            continue;
        if (memcmp(commit.previous, previous, CH_HASH_BYTES) != 0)
            return false;
        if (!queue_add(in, bytes, length))
            return true;
        in->tail_index = commit.index;
        ch_commit_digest(&core->committee, bytes, length, in->tail_digest);
        in->peer = range->peer;
    }
    return true;
}

static void ranges_to_queue(struct ch_core *core)
{
    struct install *in = core->install;
    const uint8_t *previous;
    struct range *r;
    while ((r = range_over(in, wanted_from(core, &previous))) && r->state == RANGE_HERE) {
        const uint64_t wanted = wanted_from(core, &previous);
        if (!range_to_queue(core, r)) {
            core_halt(core, CH_HALT_FORK);
            return;
        }
        if (wanted_from(core, &previous) == wanted)
            return; /* no room */
        if (wanted_from(core, &previous) > r->to)
            r->state = RANGE_FREE;
    }
}

/* Entries that live decisions have overtaken must be the same (13.1). */
static void skip_installed(struct ch_core *core)
{
    struct install *in = core->install;
    struct ch_commit commit;
    while (!queue_empty(in)) {
        const uint32_t length = ch_load32(in->queue + in->head);
        const uint8_t *bytes = in->queue + in->head + 4;
        uint8_t digest[CH_HASH_BYTES];
        if (!ch_commit_parse(bytes, length, &commit) || commit.index > core->last_commit.index)
            return;
        const struct own_commit *own = &core->own_commits[commit.index % core->own_commit_count];
        ch_commit_digest(&core->committee, bytes, length, digest);
        if (own->index == commit.index && memcmp(own->digest, digest, CH_HASH_BYTES) != 0)
            core_halt(core, CH_HALT_FORK);
        in->head += 4 + (size_t)length;
    }
    in->head = in->tail = 0;
}

static bool present(const struct ch_core *core, const struct ch_ref *ref)
{
    uint32_t id = block_find(core, ref);
    return id != NONE && core->blocks[id].payload_here;
}

/* Wants what isn't here of one commit; true when all is. */
static bool want_blocks(struct ch_core *core, const struct ch_commit *commit)
{
    bool all = true;
    for (uint32_t i = 0; i < commit->block_count; i++) {
        struct ch_ref ref = ch_ref_read(commit->refs + (size_t)i * CH_REF_BYTES);
        if (present(core, &ref))
            continue;
        all = false;
        if (block_find(core, &ref) != NONE)
            continue; /* its payload is on its way */
        uint32_t want = want_get(core, &ref, core->install->peer, CH_CORE_NOBODY);
        if (want != NONE)
            core->wants[want].installing = true;
    }
    return all;
}

static void prefetch(struct ch_core *core)
{
    const struct install *in = core->install;
    struct ch_commit commit;
    for (size_t at = in->head; at < in->tail; at += 4 + (size_t)ch_load32(in->queue + at)) {
        if (!ch_commit_parse(in->queue + at + 4, ch_load32(in->queue + at), &commit) ||
            commit.leader.round > core->last_commit.leader_round + INSTALL_ROUNDS)
            return;
        want_blocks(core, &commit);
    }
}

/* Step 4. */
static void install(struct ch_core *core, const struct ch_commit *commit, const uint8_t *bytes, uint32_t length)
{
    struct ch_delivered *blocks;
    struct delivery *delivery;
    uint8_t digest[CH_HASH_BYTES];
    uint8_t *copy = delivery_new(core, commit->block_count, &blocks, &delivery);
    CH_ASSERT(copy);
    memcpy(copy, bytes, length);
    for (uint32_t i = 0; i < commit->block_count; i++) {
        struct ch_ref ref = ch_ref_read(commit->refs + (size_t)i * CH_REF_BYTES);
        uint32_t id = block_find(core, &ref);
        accept_installed(core, id);
        const struct block *b = &core->blocks[id];
        blocks[i] = (struct ch_delivered){ref, b->handle, b->payload_length, b->payload_items};
        commit_mark(core, id);
    }
    ch_commit_digest(&core->committee, bytes, length, digest);
    delivery->index = commit->index;
    delivery->timestamp_ms = commit->timestamp_ms;
    delivery->lowest = ch_ref_read(commit->refs).round;
    delivery->lsn = out_append(core, CH_RECORD_COMMIT, (struct ch_bytes){copy, length}, 0, 0);
    core->next_round = commit->leader.round + (commit->rank + 1u == core->ranks);
    core->next_rank = (uint16_t)((commit->rank + 1u) % core->ranks);
    core->counters.commits_synced++;
    core->payload_at_us = core->now.mono_us; /* there is room for others' payloads */
    commit_apply(core, commit, digest);
}

bool install_run(struct ch_core *core)
{
    struct install *in = core->install;
    struct ch_commit commit;
    if (core->n == 1)
        return false;
    votes_lagging(core);
    skip_installed(core);
    if (core->halt)
        return false;
    if (!core->lagging && !queue_empty(in))
        queue_drop(core); /* the live DAG takes over */
    ranges_to_queue(core);
    ask(core);
    if (core->halt)
        return false;
    if (queue_empty(in))
        return false;
    const uint32_t length = ch_load32(in->queue + in->head);
    const uint8_t *bytes = in->queue + in->head + 4;
    if (!ch_commit_parse(bytes, length, &commit))
        return false;
    if (memcmp(commit.previous, core->last_commit.digest, CH_HASH_BYTES) != 0 ||
        commit.gc_round != commit_gc_round(core)) {
        core_halt(core, CH_HALT_FORK);
        return false;
    }
    prefetch(core);
    if (!want_blocks(core, &commit) || !commit_room(core) || !round_in_memory(core, commit.leader.round))
        return false;
    for (uint32_t i = 0; i < commit.block_count; i++) {
        struct ch_ref ref = ch_ref_read(commit.refs + (size_t)i * CH_REF_BYTES);
        if (core->blocks[block_find(core, &ref)].committed) {
            core_halt(core, CH_HALT_FORK);
            return false;
        }
    }
    install(core, &commit, bytes, length);
    in->head += 4 + (size_t)length;
    if (queue_empty(in))
        in->head = in->tail = 0;
    return true;
}

uint32_t install_next_round(const struct ch_core *core)
{
    const struct install *in = core->install;
    struct ch_commit commit;
    if (queue_empty(in) || !ch_commit_parse(in->queue + in->head + 4, ch_load32(in->queue + in->head), &commit))
        return core->quorum_round + 1;
    return commit.leader.round;
}

uint64_t install_deadline(const struct ch_core *core)
{
    const struct install *in = core->install;
    uint64_t at = in->ask_at_us > core->now.mono_us ? in->ask_at_us : NEVER;
    for (const struct range *r = in->ranges; r < in->ranges + RANGES_MAX; r++)
        if (r->state == RANGE_ASKED && r->peer != CH_CORE_NOBODY && r->deadline_us < at)
            at = r->deadline_us;
    return core->lagging && at > core->now.mono_us ? at : NEVER;
}
