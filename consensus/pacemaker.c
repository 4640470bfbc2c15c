/* When to sign the next block (5). This decides liveness: rule J, C1-C3 and the growing timer belong together. */
#include "consensus/core_impl.h"

#define OWN_AHEAD_MAX 8 /* 5.5: own rounds above the last that a quorum builds on, before payloads stop */
#define CLOCK_JUMP_MS (10 * 60 * 1000ull)

static uint32_t decided_round(const struct ch_core *core)
{
    return core->next_round - 1;
}

/* 5.1. A jump ends at the round below T: it has its quorum, so it is signed at once (C3), and T next. The others may be
 * waiting for its leader; and T itself may be one that nobody can build on (6.2d), while an honest block of the round
 * below shows that this one can be. */
static uint32_t target_round(const struct ch_core *core, uint32_t *T)
{
    *T = core->quorum_round + 1;
    uint32_t jump = decided_round(core) + 3; /* every slot of rounds up to jump - 2 is decided, but for jump itself */
    if (jump > *T - 1)
        jump = *T - 1;
    return core->P + 1 > jump ? core->P + 1 : jump;
}

/* Idle pacing (5.3): nothing pending here and nothing to carry through in the last rounds. */
static bool idle(const struct ch_core *core)
{
    if (core->pending || core->stash.handle)
        return false;
    for (uint32_t r = core->max_round; r > 0 && r + PAYLOAD_ROUNDS > core->max_round; r--)
        if (round_in_memory(core, r) && round_at(core, r)->payloads_open)
            return false;
    return true;
}

uint32_t pacemaker_min_delay_ms(const struct ch_core *core)
{
    const struct ch_core_config *c = &core->config;
    return idle(core) && c->idle_round_delay_ms > c->min_round_delay_ms ? c->idle_round_delay_ms
                                                                        : c->min_round_delay_ms;
}

static uint64_t earliest_sign_us(const struct ch_core *core)
{
    return core->has_signed ? core->last_sign_us + (uint64_t)pacemaker_min_delay_ms(core) * 1000 : 0;
}

/* 5.3: when C2 comes true for the target. */
static uint64_t leader_timeout_us(const struct ch_core *core)
{
    const struct ch_core_config *c = &core->config;
    uint64_t rounds = 4;
    if (core->target > core->last_commit.leader_round + 6)
        rounds += core->target - core->last_commit.leader_round - 6;
    uint64_t ms = c->base_timeout_ms * rounds / 4;
    if (ms > c->max_timeout_ms)
        ms = c->max_timeout_ms;
    uint64_t start = earliest_sign_us(core);
    if (start < core->target_since_us)
        start = core->target_since_us;
    return start + ms * 1000;
}

/* Not heard of lately, or known to equivocate: not waited for. */
static bool silent(const struct ch_core *core, uint32_t round, uint16_t author)
{
    return authors_has(&core->exposed, author) || core->last_round[author] + core->config.silent_rounds + 1 < round;
}

static uint64_t stake_of(const struct ch_core *core, const struct authors *set)
{
    uint64_t stake = 0;
    for (uint16_t a = 0; a < core->n; a++)
        if (authors_has(set, a))
            stake += core->committee.stake[a];
    return stake;
}

/* C1's second clause for slot (round, rank): the next round has decided its votes one way or the other. */
static bool votes_settled(struct ch_core *core, uint32_t round, uint16_t rank)
{
    const uint32_t quorum = core->committee.quorum_stake;
    const uint16_t author = dag_leaders(core, round)[rank];
    if (silent(core, round + 2, author))
        return true;
    bool skip = round_at(core, round + 1)->stake >= quorum;
    for (uint32_t b = dag_first(core, round, author); b != NONE; b = core->blocks[b].variant_next) {
        struct authors voters = {0}, blamers = {0};
        for (uint16_t a = 0; a < core->n; a++)
            for (uint32_t v = dag_first(core, round + 1, a); v != NONE; v = core->blocks[v].variant_next)
                authors_add(core->vote_of[(size_t)v * core->ranks + rank] == b ? &voters : &blamers, a);
        if (stake_of(core, &voters) >= quorum)
            return true;
        skip = skip && stake_of(core, &blamers) >= quorum;
    }
    return skip;
}

/* C1 without its clock. Rounds that were collected or never came into memory have nothing to wait for. */
static bool leaders_seen(struct ch_core *core, uint32_t round)
{
    const uint16_t wait = (uint16_t)core->committee.params.wait_ranks;
    for (uint16_t k = 0; k < wait && k < core->ranks; k++) {
        if (round > 1 && round_in_memory(core, round - 1)) {
            uint16_t author = dag_leaders(core, round - 1)[k];
            if (dag_first(core, round - 1, author) == NONE && !silent(core, round, author))
                return false;
        }
        if (round > 2 && round_in_memory(core, round - 2) && !votes_settled(core, round - 2, k))
            return false;
    }
    return true;
}

static bool may_sign(const struct ch_core *core)
{
    return core->started && !core->halt && core->config.me != CH_CORE_NOBODY && !core->rejoin && !core->clock_doubted;
}

/* 5.5, 13: whether this block may carry transactions. */
static bool payload_allowed(const struct ch_core *core, uint32_t round, uint32_t T)
{
    if (core->pressure || core->lagging || round + 2 < T)
        return false;
    if (core->P > core->last_commit.leader_round && core->P - core->last_commit.leader_round > core->gc_depth / 2)
        return false;
    if (core->P <= OWN_AHEAD_MAX)
        return true;
    uint64_t stake = core->committee.stake[core->config.me];
    for (uint16_t a = 0; a < core->n; a++)
        if (a != core->config.me && core->own_ref_by[a] + OWN_AHEAD_MAX >= core->P)
            stake += core->committee.stake[a];
    return stake >= core->committee.quorum_stake;
}

/* 6.6: a clock that jumped, or lies a day from the chain's time at start, needs a person's word. */
void pacemaker_clock(struct ch_core *core, const struct ch_core_now *now)
{
    if (core->clock_known && core->started && core->config.me != CH_CORE_NOBODY) {
        int64_t mono = (int64_t)((now->mono_us - core->clock_mono_us) / 1000);
        int64_t wall = (int64_t)(now->unix_ms - core->clock_unix_ms);
        int64_t jump = wall - mono;
        if ((jump > (int64_t)CLOCK_JUMP_MS || jump < -(int64_t)CLOCK_JUMP_MS) && !core->clock_doubted) {
            core->clock_doubted = true;
            out_report(core, core->config.me, CH_REPORT_CLOCK);
        }
    }
    core->clock_known = true;
    core->clock_mono_us = now->mono_us;
    core->clock_unix_ms = now->unix_ms;
}

enum trigger { NOT_YET, NORMAL, TIMEOUT, BEHIND };

static enum trigger trigger(struct ch_core *core)
{
    const uint64_t now = core->now.mono_us;
    if (round_in_memory(core, core->target) && round_at(core, core->target)->stake >= core->committee.quorum_stake)
        return BEHIND; /* C3 */
    if (now >= earliest_sign_us(core) && leaders_seen(core, core->target))
        return NORMAL;                                         /* C1 */
    return now >= leader_timeout_us(core) ? TIMEOUT : NOT_YET; /* C2 */
}

void pacemaker_run(struct ch_core *core)
{
    if (!may_sign(core) || core->stage != SIGN_IDLE)
        return;
    uint32_t T, round = target_round(core, &T);
    if (round > T)
        return;
    if (core->target != round) {
        core->target = round;
        core->target_since_us = core->now.mono_us;
    }
    if (core->own_unsynced_count == core->config.own_unsynced_max || !round_in_memory(core, round))
        return;
    const enum trigger why = trigger(core);
    if (why == NOT_YET)
        return;
    const bool payload = payload_allowed(core, round, T);
    if (payload && core->pending && !core->stash.handle && !core->stash_refused) {
        struct ch_core_action *action = out_push(core, CH_ACTION_TAKE_PAYLOAD);
        action->take.bytes_max = (uint32_t)core->committee.params.max_payload;
        action->take.items_max = (uint32_t)core->committee.params.max_items;
        action->take.timestamp_max_ms = core->last_commit.timestamp_ms + core->config.timestamp_ahead_ms;
        core->stage = SIGN_PAYLOAD;
        return;
    }
    core->stash_refused = false;
    const uint32_t before = core->P;
    if (!propose(core, round, payload))
        return;
    struct ch_core_counters *c = &core->counters;
    ++*(why == NORMAL ? &c->signed_normal : why == TIMEOUT ? &c->signed_timeout : &c->signed_behind);
    if (round > before + 1 && before > 0)
        c->rounds_jumped++;
}

uint64_t pacemaker_deadline(struct ch_core *core)
{
    if (!may_sign(core) || core->stage != SIGN_IDLE || core->own_unsynced_count == core->config.own_unsynced_max)
        return NEVER;
    uint32_t T, round = target_round(core, &T);
    if (round > T || round != core->target)
        return NEVER;
    const uint64_t now = core->now.mono_us, earliest = earliest_sign_us(core), timeout = leader_timeout_us(core);
    if (earliest > now && leaders_seen(core, round))
        return earliest;
    return timeout > now ? timeout : NEVER; /* past it, something else is missing: an event will bring it */
}
