/* What happens to nodes, disks, clocks and the network until it heals. */
#include "tests/sim/sim.h"

void sim_connect(struct sim *sim, uint16_t a, uint16_t b, bool up)
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

/* One quorum of honest others must be there to answer, and only one node a seed forgets (11.2: more need a new
 * epoch). */
bool sim_may_forget(const struct sim *sim, const struct sim_node *node)
{
    uint64_t stake = 0;
    for (uint16_t i = 0; i < sim->n; i++)
        stake += sim->nodes[i].honest && i != node->index ? sim->committee.stake[i] : 0;
    return !sim->forgot && node->honest && stake >= sim->committee.quorum_stake;
}

static void clog_links(struct sim *sim)
{
    const uint16_t victim = (uint16_t)sim_below(sim, sim->n);
    for (uint16_t i = 0; i < sim->n; i++)
        for (uint16_t j = 0; j < sim->n; j++)
            if (sim_chance(sim, 200) || j == victim)
                sim->clogged[i][j] = true;
}

void sim_unclog(struct sim *sim)
{
    memset(sim->clogged, 0, sizeof sim->clogged);
    while (sim->held_count) {
        const size_t at = sim_below(sim, sim->held_count);
        struct sim_event *e = sim->held[at];
        sim->held[at] = sim->held[--sim->held_count];
        sim_queue_push(&sim->queue, sim->now_us + sim_below(sim, 50 * SIM_MS), e);
    }
}

/* False: nothing was done. */
static bool fault_of(struct sim *sim, enum sim_fault fault)
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
        sim_connect(sim, node->index, other, !node->connected[other]);
        break;
    case FAULT_CRASH:
        if (!node->honest || !node->running)
            return false;
        sim_node_crash(sim, node);
        break;
    case FAULT_CRASH_ALL:
        if (!sim_chance(sim, 100))
            return false;
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
    case FAULT_AMNESIA:
        if (!node->running || !sim_may_forget(sim, node))
            return false;
        sim->forgot = true;
        sim_node_forget(sim, node);
        break;
    case FAULT_DISK_ERROR:
        if (!node->honest || !node->running)
            return false;
        sim_disk_fail_soon(sim, node);
        break;
    case FAULT_DISK_FULL:
        if (!node->honest || !node->running)
            return false;
        sim_disk_fill(sim, node);
        break;
    case FAULT_OLD_BACKUP:
        if (node->honest && node->running)
            sim_disk_backup(sim, node);
        return false; /* counted when it is put back */
    case FAULT_SLOW_PEER:
        sim->slow_until_us[node->index] = sim->now_us + sim_below(sim, 5 * SIM_SECOND);
        break;
    case FAULT_CLOG:
        clog_links(sim);
        break;
    default:
        return false;
    }
    return true;
}
void sim_fault(struct sim *sim)
{
    for (unsigned tries = 0; tries < 8; tries++) {
        const unsigned bit = (unsigned)sim_below(sim, SIM_FAULTS);
        if (!(sim->faults >> bit & 1))
            continue;
        sim->seen.faults[bit] += fault_of(sim, (enum sim_fault)(1u << bit));
        break;
    }
    if (sim_chance(sim, 400))
        memset(sim->cut, 0, sizeof sim->cut);
    if (sim_chance(sim, 300))
        sim_unclog(sim);
    struct sim_event *e = sim_alloc(sizeof *e);
    e->kind = SIM_FAULT;
    sim_queue_push(&sim->queue, sim->now_us + 20 * SIM_MS + sim_below(sim, 800 * SIM_MS), e);
}

