/* 11.1: the machine rebuilt from its log. Decisions are never replayed, they are taken again. */
#include "consensus/core_impl.h"

static void replay_release(struct ch_core *core, const struct ch_ref *ref, uint64_t handle)
{
    if (!handle)
        return;
    struct ch_core_action *action = out_push(core, CH_ACTION_RELEASE);
    action->payload.ref = *ref;
    action->payload.handle = handle;
}

/* A log that begins in the middle holds blocks from long before the first commit in it. */
static void replay_make_window(struct ch_core *core, uint32_t round)
{
    if (core->last_commit.index || round_in_memory(core, round))
        return;
    core->gc_round = round - core->round_capacity / 2;
    dag_collect(core);
}

static void remember_own(struct ch_core *core, const struct ch_block *b, const struct ch_ref *ref)
{
    core->P = b->round;
    core->own_last = *ref;
    memcpy(core->own_header, b->bytes, b->length);
    core->own_header_length = b->length;
    if (b->vote_count)
        core->voted_index = ch_load64(b->votes + (size_t)(b->vote_count - 1) * CH_BLOCK_VOTE_BYTES);
}

static ch_err replay_block(struct ch_core *core, const uint8_t *body, size_t length, uint64_t handle, bool own)
{
    struct ch_block b;
    const uint32_t header = ch_block_length(body, length);
    if (!header || header > length)
        return CH_ERR_CORRUPT;
    enum ch_block_verdict verdict = ch_block_parse(&core->committee, body, header, &b);
    if (verdict == CH_BLOCK_WRONG_EPOCH)
        return CH_OK;
    if (verdict != CH_BLOCK_OK || (own && b.author != core->config.me))
        return CH_ERR_CORRUPT;
    struct ch_ref ref = {.round = b.round, .author = b.author};
    ch_block_digest(&core->committee, &b, ref.digest);
    votes_tally(core, &b, &ref);
    if (b.round > core->seen_round[b.author])
        core->seen_round[b.author] = b.round;
    if (own && b.round > core->P)
        remember_own(core, &b, &ref);
    replay_make_window(core, b.round);
    uint32_t id = block_find(core, &ref);
    if (id != NONE || b.round <= clean_floor(core)) {
        replay_release(core, &ref, handle);
        return CH_OK;
    }
    if (!round_in_memory(core, b.round) || (id = block_new(core, &ref)) == NONE)
        return CH_ERR_CORRUPT;
    struct block *x = &core->blocks[id];
    memcpy(block_header(core, id), body, header);
    x->length = header;
    x->handle = b.payload_length ? handle : 0;
    x->payload_length = b.payload_length;
    x->payload_items = b.payload_items;
    x->timestamp_ms = b.timestamp_ms;
    x->lsn = 1; /* leaves only once the tail and the guard are durable again */
    x->charged = b.author;
    x->payload_here = true;
    x->clean = true; /* looked at again in ch_core_start */
    authors_add(&x->known, b.author);
    if (b.round > core->gc_round) {
        dag_insert(core, id);
    } else {
        x->state = HELD;
        dag_list(core, id);
    }
    return CH_OK;
}

static bool mark_replayed(struct ch_core *core, const struct ch_commit *commit, uint64_t applied_index)
{
    for (uint32_t i = 0; i < commit->block_count; i++) {
        struct ch_ref ref = ch_ref_read(commit->refs + (size_t)i * CH_REF_BYTES);
        uint32_t id = block_find(core, &ref);
        if (id == NONE) {
            if (commit->index > applied_index)
                return false;
            if (ref.round <= clean_floor(core) || !round_in_memory(core, ref.round))
                continue;
            if ((id = block_new(core, &ref)) == NONE)
                return false;
            core->blocks[id].state = NAMED;
            core->blocks[id].clean = true;
            dag_list(core, id);
        }
        commit_mark(core, id);
    }
    return true;
}

static bool replay_delivery(struct ch_core *core, const struct ch_commit *commit, const uint8_t *body, size_t length)
{
    struct ch_delivered *blocks;
    struct delivery *delivery;
    uint8_t *bytes = delivery_new(core, commit->block_count, &blocks, &delivery);
    CH_ASSERT(bytes); /* the ring is emptied after each record */
    memcpy(bytes, body, length);
    delivery->index = commit->index;
    delivery->timestamp_ms = commit->timestamp_ms;
    delivery->lowest = ch_ref_read(commit->refs).round;
    for (uint32_t i = 0; i < commit->block_count; i++) {
        struct ch_ref ref = ch_ref_read(commit->refs + (size_t)i * CH_REF_BYTES);
        uint32_t id = block_find(core, &ref);
        if (id == NONE)
            return false;
        const struct block *b = &core->blocks[id];
        blocks[i] = (struct ch_delivered){ref, b->handle, b->payload_length, b->payload_items};
    }
    deliveries_synced(core);
    return true;
}

static ch_err replay_commit(struct ch_core *core, const uint8_t *body, size_t length, uint64_t applied_index)
{
    struct ch_commit commit;
    uint8_t digest[CH_HASH_BYTES];
    if (!ch_commit_parse(body, length, &commit) || commit.rank >= core->ranks || commit.block_count > core->slot_count)
        return CH_ERR_CORRUPT;
    if (commit.epoch != core->committee.epoch)
        return CH_OK;
    const bool first = core->last_commit.index == 0 && commit.index > 1;
    if (first && commit.index > applied_index + 1)
        return CH_ERR_NOT_FOUND;
    if (!first && (commit.index != core->last_commit.index + 1 || commit.gc_round != commit_gc_round(core) ||
                   memcmp(commit.previous, core->last_commit.digest, CH_HASH_BYTES) != 0))
        return CH_ERR_CORRUPT;
    ch_commit_digest(&core->committee, body, length, digest);
    if (!mark_replayed(core, &commit, applied_index))
        return CH_ERR_NOT_FOUND;
    if (commit.index > applied_index && !replay_delivery(core, &commit, body, length))
        return CH_ERR_NOT_FOUND;
    if (commit.index <= applied_index)
        core->delivered_index = commit.index;
    core->durable_index = commit.index;
    commit_apply(core, &commit, digest);
    core->next_round = commit.leader.round + (commit.rank + 1u == core->ranks);
    core->next_rank = (uint16_t)((commit.rank + 1u) % core->ranks);
    return CH_OK;
}

ch_err ch_core_replay(struct ch_core *core, enum ch_record_type type, const uint8_t *body, size_t length,
                      uint64_t handle, uint64_t applied_index)
{
    struct ch_block b;
    uint8_t expected[CH_EPOCH_START_BYTES];
    CH_ASSERT(!core->started);
    core_begin(core);
    switch (type) {
    case CH_RECORD_BLOCK:
    case CH_RECORD_OWN_BLOCK:
        return replay_block(core, body, length, handle, type == CH_RECORD_OWN_BLOCK);
    case CH_RECORD_COMMIT:
        return replay_commit(core, body, length, applied_index);
    case CH_RECORD_EPOCH_START:
        if (length != CH_EPOCH_START_BYTES)
            return CH_ERR_CORRUPT;
        ch_epoch_start_write(&core->committee, expected);
        if (ch_load32(body) == core->committee.epoch && memcmp(body, expected, length) != 0)
            return CH_ERR_WRONG_CHAIN;
        return CH_OK;
    case CH_RECORD_EVIDENCE:
        if (length < 4 || ch_load32(body) > length - 4)
            return CH_ERR_CORRUPT;
        if (ch_block_parse(&core->committee, body + 4, ch_load32(body), &b) == CH_BLOCK_OK)
            authors_add(&core->exposed, b.author);
        return CH_OK;
    case CH_RECORD_VOTE_CERT:
        if (length < 8)
            return CH_ERR_CORRUPT;
        core->vote_cert_index = ch_load64(body);
        return CH_OK;
    case CH_RECORD_CHECKPOINT_SIGN:
        return CH_OK;
    }
    return CH_ERR_CORRUPT;
}

/* Everything that the next commits could reach is here; cleanness and what others include is found again. */
static ch_err rebuild(struct ch_core *core)
{
    for (uint32_t r = core->floor_round + 1; r <= core->max_round; r++)
        for (uint16_t a = 0; a < core->n; a++)
            for (uint32_t id = dag_first(core, r, a); id != NONE; id = core->blocks[id].variant_next) {
                struct ch_block b;
                if (core->blocks[id].state == NAMED)
                    continue;
                block_view(core, id, &b);
                for (unsigned i = 0; i < b.ancestor_count; i++) {
                    struct ch_ref ref = ch_block_ancestor(&b, i);
                    uint32_t x = block_find(core, &ref);
                    if (x != NONE)
                        authors_add(&core->blocks[x].known, a);
                    if (x == NONE && ref.round > core->gc_round && core->blocks[id].state == ACCEPTED)
                        return CH_ERR_NOT_FOUND;
                    if (ref.author == core->config.me && ref.round > core->own_ref_by[a])
                        core->own_ref_by[a] = ref.round;
                    if (a == core->config.me && ref.round > core->included[ref.author])
                        core->included[ref.author] = ref.round;
                }
                clean_compute(core, id);
            }
    return CH_OK;
}

ch_err ch_core_start(struct ch_core *core, const struct ch_core_now *now, const struct ch_guard *guard,
                     uint64_t applied_index)
{
    const bool validator = core->config.me != CH_CORE_NOBODY;
    CH_ASSERT(!core->started);
    core_begin(core);
    if (applied_index > core->last_commit.index)
        return CH_ERR_LOG_DAMAGED; /* the executor has what the log lost */
    if (validator && !core->config.rejoin) {
        if (!guard)
            return CH_ERR_LOG_DAMAGED;
        if (guard->epoch != core->committee.epoch)
            return CH_ERR_WRONG_CHAIN;
        if (guard->round > core->P || (guard->round == core->P && core->P > 0 &&
                                       memcmp(guard->digest, core->own_last.digest, CH_HASH_BYTES) != 0))
            return CH_ERR_LOG_DAMAGED;
    }
    if (core->gc_round > 0 && core->last_commit.index == 0)
        return CH_ERR_NOT_FOUND;
    core->now = *now;
    ch_err err = rebuild(core);
    if (err)
        return err;
    core->started = true;
    core->delivered_index = core->last_commit.index;
    pacemaker_clock(core, now);
    const uint64_t day = 24 * 3600 * 1000ull;
    if (validator && !core->config.clock_ok &&
        (now->unix_ms > core->last_commit.timestamp_ms + day || now->unix_ms + day < core->last_commit.timestamp_ms)) {
        core->clock_doubted = true;
        out_report(core, core->config.me, CH_REPORT_CLOCK);
    }
    core->guard.epoch = core->committee.epoch;
    core->guard.round = core->P;
    if (core->P)
        memcpy(core->guard.digest, core->own_last.digest, CH_HASH_BYTES);
    core->guard_changed = validator && !core->config.rejoin;
    core->sync_now = true; /* the log's tail, then the guard: own_last goes out again after both */
    core->own_last_lsn = 1;
    core->repeat_since_us = now->mono_us;
    core_run(core);
    return CH_OK;
}
