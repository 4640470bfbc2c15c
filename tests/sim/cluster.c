/* A seed's cluster: its committee, its faults while they last, its network, and how it must end. */
#include "tests/sim/sim.h"

#define HEAL_LIMIT_US   (120 * SIM_SECOND) /* I13, I14: 40 x (delay + longest timeout), and a restart before */
#define HEAL_EVENTS_MAX 3000000
#define HEAL_COMMITS    20
#define SETTLED_ROUNDS  20 /* looked at once all have caught up */
#define STORM_MESSAGES  8  /* I16's c */
#define STORM_START_ROUNDS 100

struct sim_body *sim_body(uint16_t from, enum ch_message_type type, const uint8_t *bytes, size_t length)
{
    struct sim_body *body = sim_alloc(sizeof *body + length);
    body->holders = 1;
    body->type = type;
    body->from = from;
    body->length = length;
    memcpy(body->bytes, bytes, length);
    return body;
}

void sim_body_drop(struct sim_body *body)
{
    if (!--body->holders)
        free(body);
}

static uint64_t delay(struct sim *sim, uint16_t from, uint16_t to, size_t bytes)
{
    uint64_t us = sim->delay_us / 4 + sim_below(sim, sim->delay_us);
    if (sim->healed)
        return us;
    us += sim->link_us[from][to];
    if (sim->faults & FAULT_HEAVY_TAIL && sim_chance(sim, 20)) {
        sim->seen.faults[SIM_FAULT_BIT_HEAVY_TAIL]++;
        us *= 1 + sim_below(sim, 40);
    }
    if (sim->slow_until_us[from] > sim->now_us || sim->slow_until_us[to] > sim->now_us)
        us *= 8;
    if (sim->bytes_per_ms) {
        uint64_t *free_us = &sim->link_free_us[from][to];
        if (*free_us < sim->now_us)
            *free_us = sim->now_us;
        *free_us += bytes * SIM_MS / sim->bytes_per_ms;
        us += *free_us - sim->now_us;
        sim->seen.faults[SIM_FAULT_BIT_BANDWIDTH]++;
    }
    return us;
}

/* On its way, or into the clogged link. */
static void dispatch(struct sim *sim, struct sim_event *e, size_t bytes, uint64_t extra_us)
{
    const uint64_t us = delay(sim, e->from, e->to, bytes) + extra_us;
    if (!sim->clogged[e->from][e->to]) {
        sim_queue_push(&sim->queue, sim->now_us + us, e);
        return;
    }
    sim->held = sim_grow(sim->held, sim->held_count, &sim->held_room, sizeof *sim->held);
    sim->held[sim->held_count++] = e;
}

static bool reaches(struct sim *sim, uint16_t from, uint16_t to)
{
    if (from == to || !sim->nodes[from].connected[to] || !sim->nodes[to].running || sim->cut[from][to])
        return false;
    const bool dropped = sim->drop && sim_chance(sim, sim->drop);
    sim->seen.faults[SIM_FAULT_BIT_DROP] += dropped;
    return !dropped;
}

static void send_once(struct sim *sim, uint16_t to, struct sim_body *body, uint64_t extra_us)
{
    struct sim_event *e = sim_alloc(sizeof *e);
    e->kind = SIM_MESSAGE;
    e->from = body->from;
    e->to = to;
    e->life = sim->nodes[to].life;
    e->body = body;
    body->holders++;
    if (!sim->healed && sim->faults & FAULT_CORRUPT && body->length && sim_chance(sim, 10)) {
        e->body = sim_body(body->from, body->type, body->bytes, body->length - sim_below(sim, 2));
        if (e->body->length)
            e->body->bytes[sim_below(sim, e->body->length)] ^= (uint8_t)(1u << sim_below(sim, 8));
        sim_body_drop(body);
        sim->seen.faults[SIM_FAULT_BIT_CORRUPT]++;
    }
    dispatch(sim, e, body->length, extra_us);
}

void sim_send(struct sim *sim, uint16_t from, uint16_t to, struct sim_body *body, uint64_t extra_us)
{
    sim->messages += sim->nodes[from].honest;
    if (!reaches(sim, from, to))
        return;
    send_once(sim, to, body, extra_us);
    if (!sim->duplicate || !sim_chance(sim, sim->duplicate))
        return;
    sim->seen.faults[SIM_FAULT_BIT_DUPLICATE]++;
    send_once(sim, to, body, extra_us);
}

void sim_send_payload(struct sim *sim, uint16_t from, uint16_t to, const struct ch_ref *ref, uint64_t handle)
{
    if (!reaches(sim, from, to))
        return;
    struct sim_event *e = sim_alloc(sizeof *e);
    e->kind = SIM_PAYLOAD;
    e->from = from;
    e->to = to;
    e->life = sim->nodes[to].life;
    e->payload.ref = *ref;
    e->payload.handle = handle;
    dispatch(sim, e, sim_payload(sim, handle)->length, 0);
}

static void choose_byzantine(struct sim *sim)
{
    uint64_t stake = 0, most = sim->committee.fault_stake;
    if (sim->forgets) { /* the one that forgets is among the f */
        const uint64_t own = sim->committee.stake_total / sim->n + 1;
        most = most > own ? most - own : 0;
    }
    if (sim_chance(sim, 250))
        return;
    for (unsigned tries = 0; tries < sim->n; tries++) {
        struct sim_node *node = &sim->nodes[sim_below(sim, sim->n)];
        if (!node->honest || stake + sim->committee.stake[node->index] > most)
            continue;
        stake += sim->committee.stake[node->index];
        node->honest = false;
        node->running = true;
        node->strategy =
            (unsigned)sim_below(sim, 1u << SIM_STRATEGIES) & (unsigned)sim_below(sim, 1u << SIM_STRATEGIES);
        if (sim_chance(sim, 800))
            node->strategy &= ~(unsigned)BYZ_SILENT;
        if (sim->forgets)
            node->strategy |= BYZ_FALSE_I_AM;
    }
}

static void choose_committee(struct sim *sim)
{
    static const uint16_t sizes[] = {4, 4, 4, 5, 6, 7, 7, 10, 13, 20};
    static const uint32_t depths[] = {8, 12, 60};
    uint8_t chain_id[CH_HASH_BYTES];
    sim->n = sizes[sim_below(sim, sizeof sizes / sizeof *sizes)];
    const bool weighted = sim_chance(sim, 300);
    struct ch_genesis *genesis = &sim->genesis;
    ch_genesis_defaults(genesis, sim->n);
    genesis->validator_count = sim->n;
    genesis->start_ms = 1700000000000;
    for (uint16_t i = 0; i < sim->n; i++) {
        memset(genesis->validators[i].key, i + 1, 32);
        genesis->validators[i].stake = weighted ? 1 + (uint32_t)sim_below(sim, 5) : 1;
    }
    genesis->params.gc_depth = depths[sim_below(sim, 3)];
    const uint64_t ranks[] = {1, 2, sim->n};
    genesis->params.leaders_per_round = ranks[sim_below(sim, 3)];
    if (genesis->params.max_votes < 4 * genesis->params.leaders_per_round)
        genesis->params.max_votes = 4 * genesis->params.leaders_per_round;
    genesis->limits.window_ids = 4096;
    genesis->require_relation = sim_chance(sim, 500);
    genesis->registrar_count = 1;
    memcpy(genesis->registrars[0], sim_person(SIM_PEOPLE), 32);
    sim->chain_ms = genesis->start_ms;
    memset(chain_id, 0xc4, sizeof chain_id);
    ch_committee_from_genesis(genesis, chain_id, &sim->committee);
}

static void set_up(struct sim *sim)
{
    choose_committee(sim);
    sim->now_us = SIM_SECOND;
    sim->faults = (unsigned)ch_prng_next(&sim->prng) & (unsigned)ch_prng_next(&sim->prng);
    sim->forgets = sim_chance(sim, 150);
    if (sim->forgets)
        sim->faults |= FAULT_CRASH | FAULT_BIT_ROT | FAULT_OLD_BACKUP | (sim_chance(sim, 300) ? FAULT_AMNESIA : 0);
    sim->delay_us = 1000 + (uint32_t)sim_below(sim, 60 * SIM_MS);
    sim->drop = sim->faults & FAULT_DROP ? (uint32_t)sim_below(sim, 300) : 0;
    sim->duplicate = sim->faults & FAULT_DUPLICATE ? (uint32_t)sim_below(sim, 200) : 0;
    sim->bytes_per_ms = sim->faults & FAULT_BANDWIDTH ? 20 + (uint32_t)sim_below(sim, 2000) : 0;
    for (uint16_t i = 0; i < sim->n && sim->faults & FAULT_ASYMMETRIC; i++)
        for (uint16_t j = 0; j < sim->n; j++)
            sim->link_us[i][j] = (uint32_t)sim_below(sim, 150 * SIM_MS);
    sim->seen.faults[SIM_FAULT_BIT_ASYMMETRIC] += sim->faults & FAULT_ASYMMETRIC ? 1 : 0;
    sim->lmdb = sim_chance(sim, 60);
    sim->seen.seeds_lmdb += sim->lmdb;
    sim->nodes = sim_alloc(sim->n * sizeof *sim->nodes);
    for (uint16_t i = 0; i < sim->n; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->index = i;
        node->honest = true;
        node->sync_us = 1000;
        ch_core_defaults(&node->config, &sim->committee, i);
        node->config.clock_ok = true;
        node->config.max_timeout_ms = 2000;
        node->config.rounds_uncommitted_max = 256;
        if (sim_chance(sim, 300))
            node->config.lag_commits = 8;
        if (sim_chance(sim, 500))
            node->config.vote_cert_every = 4;
        if (sim->faults & FAULT_CLOCK) {
            node->drift = (int32_t)sim_below(sim, 401) - 200;
            node->offset_ms = (int64_t)sim_below(sim, 7200000) - 3600000;
        }
        for (uint16_t j = 0; j < sim->n; j++)
            node->connected[j] = j != i;
    }
    choose_byzantine(sim);
    for (uint16_t i = 0; i < sim->n; i++)
        if (sim->nodes[i].honest) {
            sim_disk_create(sim, &sim->nodes[i], true);
            sim_executor_create(sim, &sim->nodes[i]);
            sim_node_start(sim, &sim->nodes[i]);
        } else {
            sim_byzantine_act(sim, &sim->nodes[i]);
        }
    sim_fault(sim);
}

/* A transaction that nobody has yet. */
static uint32_t fresh(struct sim *sim)
{
    uint32_t tx;
    do
        tx = sim_client(sim);
    while (tx + 1 != sim->tx_count);
    return tx;
}

static uint32_t last_committed_round(const struct sim *sim)
{
    return (uint32_t)(sim->slot_next / sim->committee.params.leaders_per_round);
}

/* Faults stop; at most f stake stays Byzantine. */
static void heal(struct sim *sim)
{
    sim->healed = true;
    sim->drop = sim->duplicate = 0;
    memset(sim->cut, 0, sizeof sim->cut);
    sim_unclog(sim);
    sim->healed_at_us = sim->now_us;
    sim->healed_index = sim->commit_count;
    sim->healed_messages = sim->messages;
    sim->healed_round = last_committed_round(sim);
    for (uint16_t i = 0; i < sim->n; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->sync_us = 1000;
        for (uint16_t j = 0; j < sim->n; j++)
            sim_connect(sim, i, j, true);
    }
    for (uint16_t i = 0; i < sim->n; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (!node->honest)
            continue;
        if (node->running)
            sim_disk_heal(node);
        else
            sim_node_start(sim, node);
        node->first_healed = fresh(sim);
        sim_node_submit(sim, node, node->first_healed);
    }
}

/* NULL when all is well, or the first node that isn't where it should be. */
static const struct sim_node *stuck(const struct sim *sim, const char **why)
{
    uint64_t least = UINT64_MAX;
    for (uint16_t i = 0; i < sim->n; i++) {
        const struct sim_node *node = &sim->nodes[i];
        if (node->honest && node->applied < least)
            least = node->applied;
        *why = "I13: it commits nothing new";
        if (node->honest && node->applied < sim->healed_index + HEAL_COMMITS)
            return node;
    }
    *why = "I14: what was submitted there is not delivered everywhere";
    for (uint16_t i = 0; i < sim->n; i++)
        if (sim->nodes[i].honest) {
            const uint64_t delivered = sim->txs[sim->nodes[i].first_healed].delivered;
            if (!delivered || delivered > least)
                return &sim->nodes[i];
        }
    return NULL;
}

static uint32_t highest_round(const struct sim *sim)
{
    uint32_t highest = 0;
    for (uint16_t i = 0; i < sim->n; i++)
        if (sim->nodes[i].signed_round > highest)
            highest = sim->nodes[i].signed_round;
    return highest;
}

/* Nobody holds blocks back, clocks run alike, and the shortest timer is 8 times the longest delay. */
static bool leaders_are_timely(const struct sim *sim)
{
    for (uint16_t i = 0; i < sim->n; i++)
        if (!sim->nodes[i].honest && !(sim->nodes[i].strategy & BYZ_SILENT))
            return false;
    return !(sim->faults & FAULT_CLOCK) && 8 * (sim->delay_us + sim->delay_us / 4) <= 250 * SIM_MS;
}

/* All commit. One that is back may still be far behind, or not sign yet after a lost disk: it leads nothing in time. */
static void settle(struct sim *sim)
{
    const uint32_t highest = highest_round(sim);
    sim->settled_round = highest + 4;
    for (uint16_t i = 0; i < sim->n; i++)
        sim->nodes[i].keeps_up = sim->nodes[i].honest && sim->nodes[i].signed_round + 2 >= highest;
}

/* I15: rank 0 of the rounds since then, where its leader is honest and keeps up. */
static void check_timely_leaders(struct sim *sim)
{
    const uint32_t ranks = (uint32_t)sim->committee.params.leaders_per_round;
    for (uint32_t r = sim->settled_round; leaders_are_timely(sim) && r + 1 < last_committed_round(sim); r++) {
        const uint16_t leader = sim_leader(sim, r);
        if (!sim->nodes[leader].keeps_up)
            continue;
        sim->seen.slots_timely++;
        if (sim->slots[(size_t)r * ranks].decision != CH_COMMIT)
            sim_fail(sim, "I15: node %u led round %u in time, and its block was not committed", leader, r);
    }
}

/* I16: c x n^2 messages a round, once more for what is left over from the faults. */
static void check_storm(struct sim *sim)
{
    const uint64_t rounds = last_committed_round(sim) - sim->healed_round + STORM_START_ROUNDS;
    const uint64_t most = STORM_MESSAGES * rounds * sim->n * sim->n;
    if (sim->messages - sim->healed_messages > most)
        sim_fail(sim, "I16: %llu messages in %llu rounds", (unsigned long long)(sim->messages - sim->healed_messages),
                 (unsigned long long)rounds);
}

static void describe(const struct sim *sim)
{
    fprintf(
        stderr,
        "  n %u stake %u f %u, L %llu, gc %llu, faults 0x%x, delay %u us, drop %u, at %.3f s, %llu events, %zu commits%s\n",
        sim->n, sim->committee.stake_total, sim->committee.fault_stake,
        (unsigned long long)sim->committee.params.leaders_per_round, (unsigned long long)sim->committee.params.gc_depth,
        sim->faults, sim->delay_us, sim->drop, (double)sim->now_us / SIM_SECOND, (unsigned long long)sim->events,
        sim->commit_count, sim->healed ? ", healed" : "");
    for (uint16_t i = 0; i < sim->n; i++) {
        const struct sim_node *node = &sim->nodes[i];
        struct ch_core_status s = {0};
        if (node->core)
            ch_core_status(node->core, &s);
        fprintf(
            stderr,
            "  %2u %s strategy 0x%x life %u: P %u quorum %u D %u gc %u commit %llu quorum %llu applied %llu leader %u "
            "blocks %u suspended %u missing %u unsynced %u%s%s%s\n",
            i,
            !node->honest   ? "byzantine"
            : node->running ? "honest"
                            : "down",
            node->strategy, node->life, s.round, s.quorum_round, s.decided_round, s.gc_round,
            (unsigned long long)s.commit_index, (unsigned long long)s.quorum_index, (unsigned long long)node->applied,
            s.leader_round, s.blocks, s.suspended, s.missing, s.unsynced, s.lagging ? " lagging" : "",
            s.signing ? "" : " not signing", node->amnesiac ? " amnesiac" : "");
    }
}

static void load(struct sim *sim)
{
    if (sim->events % 64 || sim_chance(sim, 500))
        return;
    struct sim_node *node = &sim->nodes[sim_below(sim, sim->n)];
    if (node->honest && node->pending_count < 8)
        sim_node_submit(sim, node, sim_client(sim));
}

static void handle(struct sim *sim, struct sim_event *e)
{
    struct sim_node *node = &sim->nodes[e->to];
    if (e->kind == SIM_FAULT) {
        if (!sim->healed)
            sim_fault(sim);
        return;
    }
    if (e->kind == SIM_BYZANTINE) {
        sim_byzantine_act(sim, node);
        return;
    }
    if (e->life != node->life)
        return;
    if (e->kind == SIM_RESTART)
        sim_node_start(sim, node);
    else if (!node->honest && e->kind == SIM_MESSAGE)
        sim_byzantine_message(sim, node, e->body);
    else if (node->honest && node->running)
        sim_node_handle(sim, node, e);
    if (node->honest && node->running && !sim->failed && sim->events % 509 == 0)
        sim_check_slots(sim, node);
}

/* True when the seed is over. */
static bool over(struct sim *sim)
{
    const char *why = "";
    if (sim->failed)
        return true;
    if (!sim->liveness)
        return sim->events >= sim->events_max;
    if (!sim->healed) {
        if (sim->events >= sim->heal_after)
            heal(sim);
        return false;
    }
    if (sim->events % 256)
        return false;
    const struct sim_node *node = stuck(sim, &why);
    if (!node && sim->settled_round && last_committed_round(sim) < sim->settled_round + SETTLED_ROUNDS) {
        node = &sim->nodes[0];
        why = "I13: nothing is committed any more";
    }
    if (node && (sim->now_us - sim->healed_at_us > HEAL_LIMIT_US || sim->events > sim->heal_after + HEAL_EVENTS_MAX))
        sim_fail(sim, "node %u is stuck %.1f s after the faults ended: %s", node->index,
                 (double)(sim->now_us - sim->healed_at_us) / SIM_SECOND, why);
    if (node || sim->failed)
        return sim->failed;
    if (!sim->settled_round)
        settle(sim);
    if (last_committed_round(sim) < sim->settled_round + SETTLED_ROUNDS)
        return false;
    check_timely_leaders(sim);
    check_storm(sim);
    return true;
}

static void run(struct sim *sim)
{
    while (!over(sim)) {
        struct sim_event *e = sim_queue_pop(&sim->queue);
        if (!e) {
            sim_fail(sim, "nothing is going to happen any more");
            break;
        }
        if (e->at_us > sim->now_us)
            sim->now_us = e->at_us;
        struct sim_node *node = &sim->nodes[e->to];
        if (node->paused_until_us > sim->now_us && e->kind != SIM_FAULT && e->kind != SIM_RESTART) {
            sim_queue_push(&sim->queue, node->paused_until_us, e);
            continue;
        }
        sim->events++;
        load(sim);
        handle(sim, e);
        sim_event_free(e);
    }
}

static void digest(const struct sim *sim, uint8_t out[CH_HASH_BYTES])
{
    struct ch_hash h;
    const uint64_t numbers[] = {sim->events, sim->now_us, sim->payload_count, sim->messages, sim->commit_count};
    ch_hash_init(&h);
    ch_hash_add(&h, numbers, sizeof numbers);
    ch_hash_add(&h, sim->prng.s, sizeof sim->prng.s);
    for (size_t i = 0; i < sim->commit_count; i++)
        ch_hash_add(&h, sim->commits[i].digest, CH_HASH_BYTES);
    for (size_t i = 0; i < sim->commit_count; i++)
        ch_hash_add(&h, sim->commits[i].state, CH_HASH_BYTES);
    for (uint16_t i = 0; i < sim->n; i++) {
        uint8_t core[CH_HASH_BYTES] = {0};
        if (sim->nodes[i].core)
            ch_core_hash(sim->nodes[i].core, core);
        ch_hash_add(&h, core, sizeof core);
    }
    ch_hash_end(&h, out);
}

static void tear_down(struct sim *sim)
{
    for (struct sim_event *e; (e = sim_queue_pop(&sim->queue));)
        sim_event_free(e);
    free(sim->queue.heap);
    while (sim->held_count)
        sim_event_free(sim->held[--sim->held_count]);
    free(sim->held);
    for (uint16_t i = 0; i < sim->n; i++)
        sim_node_free(sim, &sim->nodes[i]);
    free(sim->nodes);
    for (size_t i = 0; i < sim->block_room; i++)
        if (sim->blocks[i]) {
            free(sim->blocks[i]->header);
            free(sim->blocks[i]);
        }
    free(sim->blocks);
    for (size_t i = 0; i < sim->commit_count; i++)
        free(sim->commits[i].bytes);
    free(sim->commits);
    free(sim->slots);
    free(sim->sent);
    sim_payloads_free(sim);
}

static void add_up(const struct sim *sim, struct sim_totals *totals)
{
#define X(name) totals->core.name += sim->counters.name;
    CH_CORE_COUNTER_LIST(X)
#undef X
#define X(name) totals->seen.name += sim->seen.name;
    SIM_COUNTER_LIST(X)
#undef X
    for (unsigned i = 0; i < SIM_FAULTS; i++)
        totals->seen.faults[i] += sim->seen.faults[i];
    for (unsigned i = 0; i < SIM_STRATEGIES; i++)
        totals->seen.strategies[i] += sim->seen.strategies[i];
    for (uint16_t i = 0; i < sim->n; i++) {
        if (!sim->nodes[i].core)
            continue;
#define X(name) totals->core.name += ch_core_counters(sim->nodes[i].core)->name;
        CH_CORE_COUNTER_LIST(X)
#undef X
    }
}

void sim_run(uint64_t seed, const struct sim_options *options, struct sim_totals *totals, struct sim_result *out)
{
    struct sim *sim = sim_alloc(sizeof *sim);
    sim->seed = seed;
    sim->liveness = options->liveness;
    sim->events_max = options->events_max;
    sim->heal_after = options->events_max / 2;
    ch_prng_seed(&sim->prng, seed);
    set_up(sim);
    run(sim);
    if (options->trace || (sim->failed && totals)) {
        fprintf(stderr, "seed %llu --mode %s: %s\n", (unsigned long long)seed, sim->liveness ? "liveness" : "safety",
                sim->failed ? sim->why : "good");
        describe(sim);
    }
    digest(sim, out->digest);
    out->failed = sim->failed;
    out->events = sim->events;
    out->commits = sim->commit_count;
    out->rounds = sim->slot_next / sim->committee.params.leaders_per_round;
    out->virtual_us = sim->now_us;
    if (totals)
        add_up(sim, totals);
    tear_down(sim);
    free(sim);
}
