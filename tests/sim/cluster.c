/* A seed's cluster: its committee, its faults while they last, its network, and how it must end. */
#include "tests/sim/sim.h"

#define HEAL_LIMIT_US   (120 * SIM_SECOND) /* I13, I14: 40 x (delay + longest timeout), and a restart before */
#define HEAL_EVENTS_MAX 3000000
#define HEAL_COMMITS    20

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

static uint64_t delay(struct sim *sim)
{
    uint64_t us = sim->delay_us / 4 + sim_below(sim, sim->delay_us);
    if (!sim->healed && sim->faults & FAULT_HEAVY_TAIL && sim_chance(sim, 20))
        us *= 1 + sim_below(sim, 40);
    return us;
}

static bool reaches(struct sim *sim, uint16_t from, uint16_t to)
{
    return from != to && sim->nodes[from].connected[to] && sim->nodes[to].running && !sim->cut[from][to] &&
           !(sim->drop && sim_chance(sim, sim->drop));
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
    }
    sim_queue_push(&sim->queue, sim->now_us + delay(sim) + extra_us, e);
}

void sim_send(struct sim *sim, uint16_t from, uint16_t to, struct sim_body *body, uint64_t extra_us)
{
    sim->messages++;
    if (!reaches(sim, from, to))
        return;
    send_once(sim, to, body, extra_us);
    if (sim->duplicate && sim_chance(sim, sim->duplicate))
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
    sim_queue_push(&sim->queue, sim->now_us + delay(sim), e);
}

static void connect(struct sim *sim, uint16_t a, uint16_t b, bool up)
{
    struct sim_node *x = &sim->nodes[a], *y = &sim->nodes[b];
    if (a == b || x->connected[b] == up)
        return;
    x->connected[b] = y->connected[a] = up;
    const enum ch_core_event_type type = up ? CH_EVENT_PEER_UP : CH_EVENT_PEER_DOWN;
    if (!x->running || !y->running)
        return;
    if (x->honest)
        sim_tell(sim, x, sim->now_us, &(struct ch_core_event){.type = type, .peer = b});
    if (y->honest)
        sim_tell(sim, y, sim->now_us, &(struct ch_core_event){.type = type, .peer = a});
}

static void partition(struct sim *sim)
{
    unsigned side[SIM_NODES_MAX];
    const unsigned sides = 2 + (unsigned)sim_below(sim, 2);
    for (uint16_t i = 0; i < sim->n; i++)
        side[i] = (unsigned)sim_below(sim, sides);
    for (uint16_t i = 0; i < sim->n; i++)
        for (uint16_t j = 0; j < sim->n; j++)
            sim->cut[i][j] = side[i] != side[j];
}

static void fault_of(struct sim *sim, enum sim_fault fault)
{
    struct sim_node *node = &sim->nodes[sim_below(sim, sim->n)];
    const uint16_t other = (uint16_t)sim_below(sim, sim->n);
    switch (fault) {
    case FAULT_PARTITION:
        partition(sim);
        break;
    case FAULT_ONE_WAY:
        sim->cut[node->index][other] = !sim->cut[node->index][other];
        break;
    case FAULT_FLAP:
        connect(sim, node->index, other, !node->connected[other]);
        break;
    case FAULT_CRASH:
        if (node->honest)
            sim_node_crash(sim, node);
        break;
    case FAULT_CRASH_ALL:
        for (uint16_t i = 0; i < sim->n && sim_chance(sim, 100); i = sim->n)
            for (uint16_t k = 0; k < sim->n; k++)
                if (sim->nodes[k].honest)
                    sim_node_crash(sim, &sim->nodes[k]);
        break;
    case FAULT_PAUSE:
        if (node->paused_until_us <= sim->now_us)
            node->paused_until_us = sim->now_us + sim_below(sim, 8 * SIM_SECOND);
        break;
    case FAULT_SLOW_DISK:
        node->sync_us = 500 + sim_below(sim, sim_chance(sim, 300) ? 800 * SIM_MS : 5 * SIM_MS);
        break;
    case FAULT_CLOCK:
        node->offset_ms = (int64_t)sim_below(sim, 7200000) - 3600000;
        break;
    case FAULT_AMNESIA: {
        uint64_t stake = 0;
        for (uint16_t i = 0; i < sim->n; i++)
            stake += sim->nodes[i].honest && i != node->index ? sim->committee.stake[i] : 0;
        if (sim->forgot || !node->honest || !node->running || stake < sim->committee.quorum_stake)
            break;
        sim->forgot = true;
        sim_node_forget(sim, node);
        break;
    }
    default:
        break;
    }
}

static void fault(struct sim *sim)
{
    for (unsigned tries = 0; tries < 8; tries++) {
        const unsigned bit = 1u << sim_below(sim, 15);
        if (!(sim->faults & bit))
            continue;
        fault_of(sim, (enum sim_fault)bit);
        break;
    }
    if (sim_chance(sim, 400))
        memset(sim->cut, 0, sizeof sim->cut);
    struct sim_event *e = sim_alloc(sizeof *e);
    e->kind = SIM_FAULT;
    sim_queue_push(&sim->queue, sim->now_us + 20 * SIM_MS + sim_below(sim, 800 * SIM_MS), e);
}

static void choose_byzantine(struct sim *sim)
{
    uint64_t stake = 0;
    if (sim_chance(sim, 250))
        return;
    for (unsigned tries = 0; tries < sim->n; tries++) {
        struct sim_node *node = &sim->nodes[sim_below(sim, sim->n)];
        if (!node->honest || stake + sim->committee.stake[node->index] > sim->committee.fault_stake)
            continue;
        stake += sim->committee.stake[node->index];
        node->honest = false;
        node->running = true;
        node->strategy = (unsigned)sim_below(sim, 1u << 11);
        if (sim_chance(sim, 800))
            node->strategy &= ~(unsigned)BYZ_SILENT;
    }
}

static void choose_committee(struct sim *sim)
{
    static const uint16_t sizes[] = {4, 4, 4, 5, 6, 7, 7, 10, 13, 20};
    static const uint32_t depths[] = {8, 12, 60};
    static struct ch_genesis genesis;
    uint8_t chain_id[CH_HASH_BYTES];
    sim->n = sizes[sim_below(sim, sizeof sizes / sizeof *sizes)];
    const bool weighted = sim_chance(sim, 300);
    memset(&genesis, 0, sizeof genesis);
    ch_genesis_defaults(&genesis, sim->n);
    genesis.validator_count = sim->n;
    genesis.start_ms = 1700000000000;
    for (uint16_t i = 0; i < sim->n; i++) {
        memset(genesis.validators[i].key, i + 1, 32);
        genesis.validators[i].stake = weighted ? 1 + (uint32_t)sim_below(sim, 5) : 1;
    }
    genesis.params.gc_depth = depths[sim_below(sim, 3)];
    const uint64_t ranks[] = {1, 2, sim->n};
    genesis.params.leaders_per_round = ranks[sim_below(sim, 3)];
    memset(chain_id, 0xc4, sizeof chain_id);
    ch_committee_from_genesis(&genesis, chain_id, &sim->committee);
}

static void set_up(struct sim *sim)
{
    choose_committee(sim);
    sim->now_us = SIM_SECOND;
    sim->faults = (unsigned)ch_prng_next(&sim->prng) & (unsigned)ch_prng_next(&sim->prng);
    sim->delay_us = 1000 + (uint32_t)sim_below(sim, 60 * SIM_MS);
    sim->drop = sim->faults & FAULT_DROP ? (uint32_t)sim_below(sim, 300) : 0;
    sim->duplicate = sim->faults & FAULT_DUPLICATE ? (uint32_t)sim_below(sim, 200) : 0;
    sim->nodes = sim_alloc(sim->n * sizeof *sim->nodes);
    for (uint16_t i = 0; i < sim->n; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->index = i;
        node->honest = true;
        node->sync_us = 1000;
        node->have_guard = true; /* what `chappe init` writes */
        node->guard.epoch = sim->committee.epoch;
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
        if (sim->nodes[i].honest)
            sim_node_start(sim, &sim->nodes[i]);
        else
            sim_byzantine_act(sim, &sim->nodes[i]);
    fault(sim);
}

/* Faults stop; at most f stake stays Byzantine. */
static void heal(struct sim *sim)
{
    sim->healed = true;
    sim->drop = sim->duplicate = 0;
    memset(sim->cut, 0, sizeof sim->cut);
    sim->healed_at_us = sim->now_us;
    sim->healed_index = sim->commit_count;
    for (uint16_t i = 0; i < sim->n; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->sync_us = 1000;
        for (uint16_t j = 0; j < sim->n; j++)
            connect(sim, i, j, true);
    }
    for (uint16_t i = 0; i < sim->n; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (!node->honest)
            continue;
        if (!node->running)
            sim_node_start(sim, node);
        node->pending_count = 0;
        node->first_healed = ++sim->handle;
        sim_node_submit(sim, node, node->first_healed);
    }
}

static bool came_through(const struct sim *sim, uint64_t handle, uint64_t *index)
{
    for (size_t i = 0; i < sim->block_room; i++)
        if (sim->blocks[i] && sim->blocks[i]->handle == handle && sim->blocks[i]->delivered) {
            *index = sim->blocks[i]->delivered;
            return true;
        }
    return false;
}

/* NULL when all is well, or the first node that isn't where it should be. */
static const struct sim_node *stuck(const struct sim *sim, const char **why)
{
    uint64_t least = UINT64_MAX, last = 0;
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
        if (sim->nodes[i].honest && (!came_through(sim, sim->nodes[i].first_healed, &last) || last > least))
            return &sim->nodes[i];
    return NULL;
}

static void describe(const struct sim *sim)
{
    fprintf(stderr, "  n %u stake %u f %u, L %llu, gc %llu, faults 0x%x, delay %u us, drop %u, at %.3f s, %llu events, %zu commits%s\n",
            sim->n, sim->committee.stake_total, sim->committee.fault_stake,
            (unsigned long long)sim->committee.params.leaders_per_round,
            (unsigned long long)sim->committee.params.gc_depth, sim->faults, sim->delay_us, sim->drop,
            (double)sim->now_us / SIM_SECOND, (unsigned long long)sim->events, sim->commit_count,
            sim->healed ? ", healed" : "");
    for (uint16_t i = 0; i < sim->n; i++) {
        const struct sim_node *node = &sim->nodes[i];
        struct ch_core_status s = {0};
        if (node->core)
            ch_core_status(node->core, &s);
        fprintf(stderr,
                "  %2u %s strategy 0x%x life %u: P %u quorum %u D %u gc %u commit %llu quorum %llu applied %llu leader %u "
                "blocks %u suspended %u missing %u unsynced %u%s%s%s\n",
                i, !node->honest ? "byzantine" : node->running ? "honest" : "down", node->strategy, node->life, s.round,
                s.quorum_round, s.decided_round, s.gc_round, (unsigned long long)s.commit_index,
                (unsigned long long)s.quorum_index, (unsigned long long)node->applied, s.leader_round, s.blocks,
                s.suspended, s.missing, s.unsynced, s.lagging ? " lagging" : "", s.signing ? "" : " not signing",
                node->amnesiac ? " amnesiac" : "");
    }
}

static void load(struct sim *sim)
{
    if (sim->events % 64 || sim_chance(sim, 500))
        return;
    struct sim_node *node = &sim->nodes[sim_below(sim, sim->n)];
    if (node->honest && node->pending_count < 8)
        sim_node_submit(sim, node, ++sim->handle);
}

static void handle(struct sim *sim, struct sim_event *e)
{
    struct sim_node *node = &sim->nodes[e->to];
    if (e->kind == SIM_FAULT) {
        if (!sim->healed)
            fault(sim);
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
    if (node && (sim->now_us - sim->healed_at_us > HEAL_LIMIT_US || sim->events > sim->heal_after + HEAL_EVENTS_MAX))
        sim_fail(sim, "node %u is stuck %.1f s after the faults ended: %s", node->index,
                 (double)(sim->now_us - sim->healed_at_us) / SIM_SECOND, why);
    return !node || sim->failed;
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
        if (node->paused_until_us > sim->now_us && e->kind != SIM_FAULT && e->kind != SIM_RESTART &&
            e->kind != SIM_LOG_SYNCED) {
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
    const uint64_t numbers[] = {sim->events, sim->now_us, sim->handle, sim->messages, sim->commit_count};
    ch_hash_init(&h);
    ch_hash_add(&h, numbers, sizeof numbers);
    ch_hash_add(&h, sim->prng.s, sizeof sim->prng.s);
    for (size_t i = 0; i < sim->commit_count; i++)
        ch_hash_add(&h, sim->commits[i].digest, CH_HASH_BYTES);
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
    for (uint16_t i = 0; i < sim->n; i++)
        sim_node_free(&sim->nodes[i]);
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
}

void sim_run(uint64_t seed, bool liveness, bool trace, uint64_t events_max, struct ch_core_counters *counters,
             struct sim_result *out)
{
    struct sim *sim = sim_alloc(sizeof *sim);
    sim->seed = seed;
    sim->liveness = liveness;
    sim->events_max = events_max;
    sim->heal_after = events_max / 2;
    ch_prng_seed(&sim->prng, seed);
    set_up(sim);
    run(sim);
    if (trace || (sim->failed && counters)) {
        fprintf(stderr, "seed %llu --mode %s: %s\n", (unsigned long long)seed, liveness ? "liveness" : "safety",
                sim->failed ? sim->why : "good");
        describe(sim);
    }
    digest(sim, out->digest);
    out->failed = sim->failed;
    out->events = sim->events;
    out->commits = sim->commit_count;
    out->rounds = sim->slot_next / sim->committee.params.leaders_per_round;
    out->virtual_us = sim->now_us;
    for (uint16_t i = 0; counters && i < sim->n; i++) {
#define X(name) counters->name += sim->nodes[i].core ? ch_core_counters(sim->nodes[i].core)->name : 0;
        CH_CORE_COUNTER_LIST(X)
#undef X
    }
#define X(name)                                                                                                        \
    if (counters)                                                                                                      \
        counters->name += sim->counters.name;
    CH_CORE_COUNTER_LIST(X)
#undef X
    tear_down(sim);
    free(sim);
}
