/* Commits: the sub-DAG below a leader, in order, its timestamp, and what is collected after it (10). Commits wait in a
 * ring of bytes until their record is durable; one entry = the delivered blocks, then the commit's bytes. */
#include "consensus/core_impl.h"

#define ENTRY_BYTES_MAX(core)                                                                                          \
    ((size_t)(core)->slot_count * (sizeof(struct ch_delivered) + CH_REF_BYTES) + CH_COMMIT_FIXED_BYTES + 16)

static size_t entry_bytes(uint32_t block_count)
{
    size_t bytes = (size_t)block_count * (sizeof(struct ch_delivered) + CH_REF_BYTES) + CH_COMMIT_FIXED_BYTES;
    return (bytes + 15) & ~(size_t)15;
}

/* Where an entry of this size would go; false when it doesn't fit now. */
static bool ring_place(const struct ch_core *core, size_t bytes, size_t *offset)
{
    if (core->delivery_count == DELIVERIES_MAX)
        return false;
    if (core->delivery_count == 0) {
        *offset = 0;
        return bytes <= core->ring_bytes;
    }
    if (core->ring_head < core->ring_tail) {
        *offset = core->ring_tail;
        if (core->ring_bytes - core->ring_tail >= bytes)
            return true;
        *offset = 0;
        return core->ring_head > bytes;
    }
    *offset = core->ring_tail;
    return core->ring_head - core->ring_tail > bytes;
}

bool commit_room(const struct ch_core *core)
{
    size_t offset;
    return ring_place(core, ENTRY_BYTES_MAX(core), &offset);
}

uint8_t *delivery_new(struct ch_core *core, uint32_t block_count, struct ch_delivered **blocks,
                      struct delivery **delivery)
{
    size_t offset, bytes = entry_bytes(block_count);
    if (!ring_place(core, bytes, &offset))
        return NULL;
    struct delivery *d = &core->deliveries[(core->delivery_head + core->delivery_count) % DELIVERIES_MAX];
    if (core->delivery_count++ == 0)
        core->ring_head = offset;
    core->ring_tail = offset + bytes;
    *d = (struct delivery){.offset = offset,
                           .length = bytes,
                           .block_count = block_count,
                           .commit_bytes = CH_COMMIT_FIXED_BYTES + block_count * CH_REF_BYTES};
    *delivery = d;
    *blocks = (struct ch_delivered *)(core->ring + offset);
    return core->ring + offset + (size_t)block_count * sizeof(struct ch_delivered);
}

/* The blocks below `leader` that this commit takes, marked by core->visit; *lowest = their lowest round. */
static uint32_t mark_set(struct ch_core *core, uint32_t leader, uint32_t gc_round, uint32_t *lowest)
{
    const uint64_t visit = ++core->visit;
    uint32_t depth = 0, count = 0;
    *lowest = core->blocks[leader].ref.round;
    core->blocks[leader].visit = visit;
    core->stack[depth++] = leader;
    while (depth) {
        struct ch_block b;
        uint32_t id = core->stack[--depth];
        count++;
        block_view(core, id, &b);
        if (b.round < *lowest)
            *lowest = b.round;
        for (unsigned i = 0; i < b.ancestor_count; i++) {
            struct ch_ref ref = ch_block_ancestor(&b, i);
            uint32_t a = block_find(core, &ref);
            if (ref.round <= gc_round) {
                core->counters.weak_links_dropped += a != NONE && !core->blocks[a].committed;
                continue;
            }
            if (a == NONE || (core->blocks[a].state != ACCEPTED && core->blocks[a].state != NAMED)) {
                core_halt(core, CH_HALT_MISSING_ANCESTOR);
                return 0;
            }
            if (core->blocks[a].committed || core->blocks[a].visit == visit)
                continue;
            core->blocks[a].visit = visit;
            core->stack[depth++] = a;
        }
    }
    return count;
}

/* The marked blocks of one (round, author) in digest order; normally one. */
static uint32_t take_marked(struct ch_core *core, uint32_t round, uint16_t author, uint32_t *out)
{
    uint32_t count = 0;
    for (uint32_t id = dag_first(core, round, author); id != NONE; id = core->blocks[id].variant_next) {
        if (core->blocks[id].visit != core->visit)
            continue;
        uint32_t at = count++;
        while (at && memcmp(core->blocks[out[at - 1]].ref.digest, core->blocks[id].ref.digest, CH_HASH_BYTES) > 0) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = id;
    }
    return count;
}

/* 10: the stake-weighted median of the timestamps of the leader's parents. */
static uint64_t median_timestamp(struct ch_core *core, uint32_t leader)
{
    struct {
        uint64_t ms;
        uint32_t stake;
    } parents[CH_VALIDATORS_MAX];
    uint32_t count = 0;
    uint64_t total = 0, sum = 0;
    struct ch_block b;
    block_view(core, leader, &b);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(&b, i);
        if (ref.round != b.round - 1)
            continue;
        uint64_t ms = core->committee.start_ms;
        if (ref.round > 0) {
            uint32_t parent = block_find(core, &ref);
            CH_ASSERT(parent != NONE);
            ms = core->blocks[parent].timestamp_ms;
        }
        uint32_t at = count++;
        while (at && parents[at - 1].ms > ms) {
            parents[at] = parents[at - 1];
            at--;
        }
        parents[at].ms = ms;
        parents[at].stake = core->committee.stake[ref.author];
        total += core->committee.stake[ref.author];
    }
    CH_ASSERT(count);
    uint32_t i = 0;
    for (sum = parents[0].stake; sum * 2 < total; sum += parents[i].stake)
        i++;
    return parents[i].ms;
}

void commit_mark(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    CH_ASSERT(!b->committed);
    b->committed = true;
    if (b->state == ACCEPTED && b->payload_length)
        round_at(core, b->ref.round)->payloads_open--;
    if (!b->clean && (b->state == ACCEPTED || b->state == HELD)) {
        b->clean = true;
        core->dirty_count--;
        core->clean_stale = true;
    }
}

/* Own blocks that can't be committed any more give their transactions back (6). */
static void requeue_own(struct ch_core *core, uint32_t from, uint32_t to)
{
    if (core->config.me == CH_CORE_NOBODY)
        return;
    for (uint32_t r = from; r <= to; r++)
        for (uint32_t id = dag_first(core, r, core->config.me); id != NONE; id = core->blocks[id].variant_next) {
            const struct block *b = &core->blocks[id];
            if (b->committed || b->state != ACCEPTED)
                continue;
            core->counters.dropped_uncommitted++;
            if (!b->handle)
                continue;
            struct ch_core_action *action = out_push(core, CH_ACTION_REQUEUE);
            action->payload.ref = b->ref;
            action->payload.handle = b->handle;
            action->payload.length = b->payload_length;
        }
}

void commit_apply(struct ch_core *core, const struct ch_commit *commit, const uint8_t digest[CH_HASH_BYTES])
{
    core->last_commit.index = commit->index;
    core->last_commit.timestamp_ms = commit->timestamp_ms;
    core->last_commit.leader_round = commit->leader.round;
    core->last_commit.rank = commit->rank;
    memcpy(core->last_commit.digest, digest, CH_HASH_BYTES);
    struct own_commit *own = &core->own_commits[commit->index % core->own_commit_count];
    own->index = commit->index;
    memcpy(own->digest, digest, CH_HASH_BYTES);
    if (commit->gc_round > core->gc_round) {
        const uint32_t from = core->gc_round + 1;
        core->gc_round = commit->gc_round;
        requeue_own(core, from, core->gc_round);
        dag_collect(core);
        accept_collected(core);
    }
    votes_own(core, commit->index);
}

/* The bound of section 10: a function of the previous commit alone. */
uint32_t commit_gc_round(const struct ch_core *core)
{
    int64_t bound = (int64_t)core->last_commit.leader_round - core->gc_depth;
    return bound > (int64_t)core->gc_round ? (uint32_t)bound : core->gc_round;
}

bool commit_make(struct ch_core *core, uint32_t round, uint16_t rank, uint32_t leader)
{
    struct ch_delivered *blocks;
    struct delivery *delivery;
    uint32_t lowest;
    const uint32_t gc_round = commit_gc_round(core);
    CH_ASSERT(!core->blocks[leader].committed && round > gc_round);
    const uint32_t count = mark_set(core, leader, gc_round, &lowest);
    if (count == 0)
        return false;
    struct ch_commit commit = {
        .epoch = core->committee.epoch,
        .index = core->last_commit.index + 1,
        .leader = core->blocks[leader].ref,
        .rank = rank,
        .gc_round = gc_round,
        .timestamp_ms = median_timestamp(core, leader),
        .block_count = count,
    };
    if (commit.timestamp_ms < core->last_commit.timestamp_ms)
        commit.timestamp_ms = core->last_commit.timestamp_ms;
    memcpy(commit.previous, core->last_commit.digest, CH_HASH_BYTES);
    uint8_t *bytes = delivery_new(core, count, &blocks, &delivery);
    CH_ASSERT(bytes); /* commit_room said so */
    ch_commit_write(&commit, bytes);
    uint32_t placed = 0;
    for (uint32_t r = lowest; r <= round; r++)
        for (uint16_t a = 0; a < core->n; a++) {
            uint32_t marked = take_marked(core, r, a, core->stack);
            for (uint32_t i = 0; i < marked; i++) {
                const struct block *b = &core->blocks[core->stack[i]];
                memcpy(bytes + CH_COMMIT_FIXED_BYTES + (size_t)placed * CH_REF_BYTES, &b->ref, CH_REF_BYTES);
                blocks[placed++] = (struct ch_delivered){b->ref, b->handle, b->payload_length, b->payload_items};
                commit_mark(core, core->stack[i]);
            }
        }
    CH_ASSERT(placed == count);
    if (dag_first(core, round, commit.leader.author) != NONE &&
        core->blocks[dag_first(core, round, commit.leader.author)].variant_next != NONE)
        core->counters.equivocating_leaders_committed++;
    uint8_t digest[CH_HASH_BYTES];
    ch_commit_digest(&core->committee, bytes, delivery->commit_bytes, digest);
    delivery->index = commit.index;
    delivery->timestamp_ms = commit.timestamp_ms;
    delivery->lowest = lowest;
    delivery->lsn = out_append(core, CH_RECORD_COMMIT, (struct ch_bytes){bytes, delivery->commit_bytes}, 0, 0);
    commit_apply(core, &commit, digest);
    return !core->halt;
}

void deliveries_synced(struct ch_core *core)
{
    while (core->delivery_out < core->delivery_count) {
        const struct delivery *d = &core->deliveries[(core->delivery_head + core->delivery_out) % DELIVERIES_MAX];
        if (d->lsn > core->lsn_synced)
            return;
        core->delivery_out++;
        core->durable_index = d->index;
        if (d->index <= core->delivered_index)
            continue;
        core->delivered_index = d->index;
        struct ch_core_action *action = out_push(core, CH_ACTION_DELIVER);
        action->deliver.index = d->index;
        action->deliver.timestamp_ms = d->timestamp_ms;
        action->deliver.block_count = d->block_count;
        action->deliver.blocks = (const struct ch_delivered *)(core->ring + d->offset);
        action->deliver.bytes = (struct ch_bytes){
            core->ring + d->offset + (size_t)d->block_count * sizeof(struct ch_delivered), d->commit_bytes};
    }
}

uint32_t deliveries_lowest(const struct ch_core *core)
{
    uint32_t lowest = UINT32_MAX;
    for (uint32_t i = core->delivery_out; i < core->delivery_count; i++) {
        const struct delivery *d = &core->deliveries[(core->delivery_head + i) % DELIVERIES_MAX];
        if (d->lowest < lowest)
            lowest = d->lowest;
    }
    return lowest;
}

void deliveries_free(struct ch_core *core)
{
    while (core->delivery_out) {
        core->delivery_head = (core->delivery_head + 1) % DELIVERIES_MAX;
        core->delivery_count--;
        core->delivery_out--;
        core->ring_head = core->deliveries[core->delivery_head].offset;
    }
}
