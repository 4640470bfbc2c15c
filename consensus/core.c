/* Opening, one step, and looking in from outside. */
#include "consensus/core_impl.h"

#include <stdlib.h>

void ch_core_defaults(struct ch_core_config *c, const struct ch_committee *committee, uint16_t me)
{
    *c = (struct ch_core_config){
        .committee = committee,
        .me = me,
        .base_timeout_ms = 250,
        .max_timeout_ms = 10000,
        .min_round_delay_ms = committee->n == 1 ? 0 : 50,
        .idle_round_delay_ms = 500,
        .push_delay_ms = 150,
        .repeat_ms = 200,
        .repeat_max_ms = 2000,
        .payload_wait_ms = 100,
        .fetch_ms = 250,
        .fetch_max_ms = 4000,
        .commit_sync_ms = 5,
        .timestamp_ahead_ms = 30000,
        .silent_rounds = 4,
        .own_unsynced_max = 8,
        .vote_cert_every = 16,
        .catch_up_bytes_max = 256u << 20,
        .rounds_uncommitted_max = 512,
    };
    const uint32_t commits = CH_CORE_LAG_ROUNDS * (uint32_t)committee->params.leaders_per_round;
    c->lag_commits = commits > 64 ? commits : 64;
}

static uint32_t power_of_two(uint64_t least)
{
    uint64_t p = 64;
    while (p < least)
        p <<= 1;
    CH_ASSERT(p <= 1u << 31);
    return (uint32_t)p;
}

static bool allocate(struct ch_core *core)
{
    const size_t slots = core->slot_count, rounds = core->round_capacity, ranks = core->ranks, n = core->n;
    const size_t buckets = (size_t)core->bucket_mask + 1;
    core->ring_bytes = 4 * (slots * (sizeof(struct ch_delivered) + CH_REF_BYTES) + CH_COMMIT_FIXED_BYTES + 16);
    core->out_capacity = (uint32_t)(8 * slots + 4 * DELIVERIES_MAX);
    core->blocks = calloc(slots, sizeof *core->blocks);
    core->headers = calloc(slots, core->header_stride);
    core->vote_of = calloc(slots * ranks, sizeof(uint32_t));
    core->cert_of = calloc(slots * ranks, sizeof(uint32_t));
    core->free_slots = calloc(slots, sizeof(uint32_t));
    core->freed_slots = calloc(slots, sizeof(uint32_t));
    core->block_buckets = malloc(buckets * sizeof(uint32_t));
    core->want_buckets = malloc(buckets * sizeof(uint32_t));
    core->stack = calloc(slots, sizeof(uint32_t));
    core->work = calloc(slots, sizeof(uint32_t));
    core->rounds = calloc(rounds, sizeof *core->rounds);
    core->heads = malloc(rounds * n * sizeof(uint32_t));
    core->round_leaders = calloc(rounds * ranks, sizeof(uint16_t));
    core->slots = calloc(rounds * ranks, sizeof *core->slots);
    core->wants = calloc(core->want_count, sizeof *core->wants);
    core->links = calloc(core->link_count, sizeof *core->links);
    core->ring = malloc(core->ring_bytes);
    core->own_header = calloc(1, core->header_stride);
    core->draft = calloc(1, core->header_stride);
    core->own_unsynced = calloc(core->config.own_unsynced_max, sizeof *core->own_unsynced);
    core->vote_bytes = calloc(core->committee.params.max_votes + 1, CH_BLOCK_VOTE_BYTES);
    core->votes = calloc(n * core->votes_kept, sizeof *core->votes);
    core->own_commits = calloc(core->own_commit_count, sizeof *core->own_commits);
    core->out = calloc(core->out_capacity, sizeof *core->out);
    core->arena = malloc(OUT_ARENA_BYTES);
    if (!core->blocks || !core->headers || !core->vote_of || !core->cert_of || !core->free_slots ||
        !core->freed_slots || !core->block_buckets || !core->want_buckets || !core->stack || !core->work ||
        !core->rounds || !core->heads || !core->round_leaders || !core->slots || !core->wants || !core->links ||
        !core->ring || !core->own_header || !core->draft || !core->own_unsynced || !core->vote_bytes || !core->votes ||
        !core->own_commits || !core->out || !core->arena)
        return false;
    memset(core->block_buckets, 0xff, buckets * sizeof(uint32_t));
    memset(core->want_buckets, 0xff, buckets * sizeof(uint32_t));
    memset(core->heads, 0xff, rounds * n * sizeof(uint32_t));
    for (size_t i = 0; i < rounds * ranks; i++)
        core->slots[i].leader = NONE;
    return install_open(core) && (!core->config.rejoin || rejoin_open(core));
}

ch_err ch_core_open(const struct ch_core_config *config, struct ch_core **out)
{
    const struct ch_committee *c = config->committee;
    if ((config->me != CH_CORE_NOBODY && config->me >= c->n) || config->own_unsynced_max == 0 ||
        config->vote_cert_every == 0 || (config->rejoin && (c->n == 1 || config->me == CH_CORE_NOBODY)))
        return CH_ERR_INVALID;
    if (c->params.sched_commits || c->params.payload_code || c->params.profile)
        return CH_ERR_UNSUPPORTED;
    struct ch_core *core = calloc(1, sizeof *core);
    if (!core)
        return CH_ERR_NO_MEMORY;
    core->config = *config;
    core->committee = *c;
    core->config.committee = &core->committee;
    core->n = c->n;
    core->ranks = (uint32_t)c->params.leaders_per_round;
    core->gc_depth = (uint32_t)c->params.gc_depth;
    const uint64_t rounds = (uint64_t)core->gc_depth + core->gc_depth / 2 + config->rounds_uncommitted_max;
    core->round_capacity = power_of_two(rounds + 2);
    core->slot_count = (uint32_t)(core->n * (rounds + 2 * SUSPENDED_ROUNDS * VARIANTS_MAX));
    core->bucket_mask = power_of_two(2ull * core->slot_count) - 1;
    core->want_count = WANTS_PER_AUTHOR * core->n * core->n + INSTALL_BLOCKS_MAX;
    core->link_count = SUSPENDED_ROUNDS * VARIANTS_MAX * core->n * core->n;
    core->header_stride = (c->header_bytes_max + 7) & ~7u;
    core->votes_kept = CH_CORE_LAG_ROUNDS * core->ranks;
    if (core->votes_kept < VOTES_PER_AUTHOR)
        core->votes_kept = VOTES_PER_AUTHOR;
    core->votes_back = 2 * core->votes_kept;
    core->own_commit_count = 2 * core->votes_back;
    ch_prng_seed(&core->prng, config->seed);
    core->hash_factor = ch_prng_next(&core->prng) | 1;
    if (!allocate(core)) {
        ch_core_close(core);
        return CH_ERR_NO_MEMORY;
    }
    for (uint32_t a = 0; a < core->n; a++)
        core->suspended_head[a] = core->suspended_tail[a] = NONE;
    core->want_free = core->want_first = core->want_last = core->link_free = NONE;
    core->fetch_at_us = core->payload_at_us = core->push_at_us = core->commit_sync_at_us = NEVER;
    core->timer_us = NEVER;
    core->repeat_ms = config->repeat_ms;
    core->next_round = 1;
    core->lsn = 1;
    core->last_commit.timestamp_ms = c->start_ms;
    memcpy(core->last_commit.digest, c->chain_id, CH_HASH_BYTES);
    if (config->me != CH_CORE_NOBODY)
        core->own_last = ch_committee_genesis_ref(c, config->me);
    *out = core;
    return CH_OK;
}

void ch_core_close(struct ch_core *core)
{
    if (!core)
        return;
    void *const all[] = {
        core->blocks, core->headers, core->vote_of,       core->cert_of,      core->free_slots,    core->freed_slots,
        core->stack,  core->work,    core->rounds,        core->heads,        core->slots,         core->wants,
        core->links,  core->ring,    core->own_header,    core->draft,        core->votes,         core->vote_bytes,
        core->out,    core->arena,   core->block_buckets, core->want_buckets, core->round_leaders, core->own_unsynced,
        core->own_commits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    install_close(core);
    rejoin_close(core);
    free(core);
}

/* What the last step left behind, given back. */
void core_begin(struct ch_core *core)
{
    CH_ASSERT(core->out_head == core->out_tail || !core->started);
    core->out_head = core->out_tail = 0;
    core->arena_used = 0;
    deliveries_free(core);
    while (core->freed_count)
        core->free_slots[core->free_count++] = core->freed_slots[--core->freed_count];
}

static void synced(struct ch_core *core, uint64_t lsn)
{
    CH_ASSERT(lsn <= core->lsn);
    if (lsn <= core->lsn_synced)
        return;
    core->lsn_synced = lsn;
    deliveries_synced(core);
    dag_collect(core);
    sync_durable(core);
}

/* W6: own blocks at once, commits with the next of them or after a moment. */
static void ask_sync(struct ch_core *core)
{
    const bool commits = core->last_commit.index > core->durable_index && core->lsn > core->lsn_asked;
    if (!commits)
        core->commit_sync_at_us = NEVER;
    else if (core->commit_sync_at_us == NEVER)
        core->commit_sync_at_us = core->now.mono_us + (uint64_t)core->config.commit_sync_ms * 1000;
    if (!core->sync_now && !(commits && core->commit_sync_at_us <= core->now.mono_us))
        return;
    struct ch_core_action *action = out_push(core, CH_ACTION_SYNC);
    action->sync.lsn = core->lsn;
    action->sync.guard_changed = core->guard_changed;
    action->sync.guard = core->guard;
    core->lsn_asked = core->lsn;
    core->commit_sync_at_us = NEVER;
    core->sync_now = core->guard_changed = false;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void set_timer(struct ch_core *core)
{
    uint64_t at = earlier(pacemaker_deadline(core), sync_deadline(core));
    at = earlier(at, earlier(core->commit_sync_at_us, earlier(install_deadline(core), rejoin_deadline(core))));
    if (at == core->timer_us && at > core->now.mono_us)
        return;
    core->timer_us = at;
    if (at != NEVER)
        out_push(core, CH_ACTION_SET_TIMER)->timer_us = at;
}

void core_run(struct ch_core *core)
{
    do {
        accept_drain(core);
        decide(core);
    } while (!core->halt && (core->work_head != core->work_tail || install_run(core)));
    if (core->halt)
        return;
    clean_again(core);
    votes_lagging(core);
    rejoin_run(core);
    pacemaker_run(core);
    sync_due(core);
    ask_sync(core);
    set_timer(core);
}

void ch_core_step(struct ch_core *core, const struct ch_core_now *now, const struct ch_core_event *event)
{
    CH_ASSERT(core->started && now->mono_us >= core->now.mono_us);
    core_begin(core);
    if (core->halt)
        return;
    pacemaker_clock(core, now);
    core->now = *now;
    switch (event->type) {
    case CH_EVENT_TICK:
        break;
    case CH_EVENT_PENDING:
        core->pending = event->pending;
        break;
    case CH_EVENT_PAYLOAD_AVAILABLE:
        propose_payload(core, event);
        break;
    case CH_EVENT_SIGNED:
        if (event->signature.length == CH_HASH_BYTES)
            propose_signed(core, event);
        else
            sync_i_am_signed(core, event);
        break;
    case CH_EVENT_SYNCED:
        synced(core, event->lsn);
        break;
    case CH_EVENT_MESSAGE:
        if (event->peer < core->n && event->peer != core->config.me)
            sync_message(core, event->peer, event->message.type, event->message.body, event->message.length);
        break;
    case CH_EVENT_PAYLOAD_OK:
        accept_payload(core, &event->payload_of.ref, event->payload_of.handle);
        break;
    case CH_EVENT_PAYLOAD_BAD:
        sync_payload_bad(core, event->peer, &event->payload_of.ref);
        break;
    case CH_EVENT_PEER_UP:
        if (event->peer < core->n && event->peer != core->config.me)
            sync_peer_up(core, event->peer);
        break;
    case CH_EVENT_PEER_DOWN:
        if (event->peer < core->n)
            sync_peer_down(core, event->peer);
        break;
    case CH_EVENT_PRESSURE:
        core->pressure = event->pressure;
        break;
    case CH_EVENT_CLOCK_OK:
        core->clock_doubted = false;
        break;
    }
    core_run(core);
}

void ch_core_status(const struct ch_core *core, struct ch_core_status *out)
{
    *out = (struct ch_core_status){
        .round = core->P,
        .quorum_round = core->quorum_round,
        .decided_round = core->next_round - 1,
        .gc_round = core->gc_round,
        .commit_index = core->last_commit.index,
        .quorum_index = core->quorum_index,
        .delivered_index = core->delivered_index,
        .commit_ms = core->last_commit.timestamp_ms,
        .leader_round = core->last_commit.leader_round,
        .blocks = core->slots_used - core->free_count - core->freed_count,
        .suspended = core->suspended_total,
        .missing = core->want_total,
        .unsynced = (uint32_t)(core->lsn - core->lsn_synced),
        .lagging = core->lagging,
        .signing =
            core->started && !core->halt && core->config.me != CH_CORE_NOBODY && !core->rejoin && !core->clock_doubted,
        .halt = core->halt,
    };
    memcpy(out->commit_digest, core->last_commit.digest, CH_HASH_BYTES);
}

const struct ch_core_counters *ch_core_counters(const struct ch_core *core)
{
    return &core->counters;
}

void ch_core_hash(const struct ch_core *core, uint8_t digest[CH_HASH_BYTES])
{
    struct ch_hash h;
    const uint64_t numbers[] = {core->P,
                                core->quorum_round,
                                core->max_round,
                                core->floor_round,
                                core->gc_round,
                                core->next_round,
                                core->next_rank,
                                core->last_commit.index,
                                core->last_commit.timestamp_ms,
                                core->lsn,
                                core->lsn_asked,
                                core->lsn_synced,
                                core->delivered_index,
                                core->voted_index,
                                core->quorum_index,
                                core->stage,
                                core->pending,
                                core->suspended_total,
                                core->want_total,
                                core->dirty_count,
                                core->timer_us,
                                core->halt};
    ch_hash_init(&h);
    ch_hash_add(&h, numbers, sizeof numbers);
    ch_hash_add(&h, core->last_commit.digest, CH_HASH_BYTES);
    ch_hash_add(&h, core->prng.s, sizeof core->prng.s);
    ch_hash_add(&h, &core->counters, sizeof core->counters);
    for (uint32_t id = 0; id < core->slots_used; id++) {
        const struct block *b = &core->blocks[id];
        if (b->state == SLOT_FREE)
            continue;
        const uint64_t state[] = {b->state, b->committed, b->clean, b->payload_here, b->waiting, b->handle};
        ch_hash_add(&h, &b->ref, sizeof b->ref);
        ch_hash_add(&h, state, sizeof state);
        ch_hash_add(&h, &b->known, sizeof b->known);
    }
    for (uint32_t id = core->want_first; id != NONE; id = core->wants[id].next) {
        ch_hash_add(&h, &core->wants[id].ref, sizeof core->wants[id].ref);
        ch_hash_add(&h, &core->wants[id].deadline_us, sizeof core->wants[id].deadline_us);
    }
    ch_hash_end(&h, digest);
}

const char *ch_halt_name(enum ch_halt reason)
{
    static const char *const names[] = {"NONE",
#define X(name, text) #name,
                                        CH_HALT_LIST(X)
#undef X
    };
    return (unsigned)reason < sizeof names / sizeof *names ? names[reason] : "UNKNOWN";
}

const char *ch_halt_text(enum ch_halt reason)
{
    static const char *const texts[] = {"running",
#define X(name, text) text,
                                        CH_HALT_LIST(X)
#undef X
    };
    return (unsigned)reason < sizeof texts / sizeof *texts ? texts[reason] : "unknown";
}

static void guard_check(const uint8_t bytes[48], uint8_t digest[CH_HASH_BYTES])
{
    const struct ch_bytes part = {bytes, 48};
    ch_hash_domain("chappe/guard/1", &part, 1, digest);
}

void ch_guard_write(const struct ch_guard *guard, uint8_t out[CH_GUARD_BYTES])
{
    uint8_t digest[CH_HASH_BYTES];
    ch_store32(out, guard->epoch);
    ch_store32(out + 4, guard->round);
    memcpy(out + 8, guard->digest, CH_HASH_BYTES);
    ch_store64(out + 40, guard->checkpoint_seq);
    guard_check(out, digest);
    memcpy(out + 48, digest, 8);
}

bool ch_guard_read(const uint8_t in[CH_GUARD_BYTES], struct ch_guard *out)
{
    uint8_t digest[CH_HASH_BYTES];
    guard_check(in, digest);
    if (memcmp(in + 48, digest, 8) != 0)
        return false;
    out->epoch = ch_load32(in);
    out->round = ch_load32(in + 4);
    memcpy(out->digest, in + 8, CH_HASH_BYTES);
    out->checkpoint_seq = ch_load64(in + 40);
    return true;
}

void ch_epoch_start_write(const struct ch_committee *committee, uint8_t out[CH_EPOCH_START_BYTES])
{
    ch_store32(out, committee->epoch);
    ch_committee_digest(committee, out + 4);
}
