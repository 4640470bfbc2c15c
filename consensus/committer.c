/* Decision rules, profile M3 (9). A decided slot keeps its value (monotonicity), so decided values are cached; what is
 * undecided is looked at again when its three rounds have changed. Tallies are over authors, never over blocks. */
#include "consensus/core_impl.h"

static uint64_t stake_at(const struct ch_core *core, struct authors *seen, uint32_t id)
{
    uint16_t author = core->blocks[id].ref.author;
    return authors_add(seen, author) ? core->committee.stake[author] : 0;
}

/* The stake of authors with a block of `round` whose entry in `table` (vote_of or cert_of) is, or is not, `leader`. */
static uint64_t tally(const struct ch_core *core, const uint32_t *table, uint32_t round, uint16_t rank, uint32_t leader,
                      bool is)
{
    struct authors seen = {0};
    uint64_t stake = 0;
    for (uint16_t a = 0; a < core->n; a++)
        for (uint32_t v = dag_first(core, round, a); v != NONE; v = core->blocks[v].variant_next)
            if (core->blocks[v].state == ACCEPTED && (table[(size_t)v * core->ranks + rank] == leader) == is)
                stake += stake_at(core, &seen, v);
    return stake;
}

static uint32_t stake_of_round(const struct ch_core *core, uint32_t round)
{
    return round_in_memory(core, round) ? round_at(core, round)->stake : 0;
}

/* 9.1, 9.3 */
static enum ch_decision decide_directly(struct ch_core *core, uint32_t round, uint16_t rank, uint32_t *leader)
{
    const uint32_t quorum = core->committee.quorum_stake;
    const uint16_t author = dag_leaders(core, round)[rank];
    bool skip = stake_of_round(core, round + 1) >= quorum;
    uint32_t committed = NONE;
    for (uint32_t b = dag_first(core, round, author); b != NONE; b = core->blocks[b].variant_next) {
        if (core->blocks[b].state != ACCEPTED)
            continue;
        skip = skip && tally(core, core->vote_of, round + 1, rank, b, false) >= quorum;
        if (tally(core, core->cert_of, round + 2, rank, b, true) < quorum)
            continue;
        if (committed != NONE)
            core_halt(core, CH_HALT_SAFETY);
        committed = b;
    }
    if (skip)
        return CH_SKIP;
    *leader = committed;
    return committed == NONE ? CH_UNDECIDED : CH_COMMIT;
}

/* The candidate of slot (round, rank) with a certificate in the history of `anchor`; NONE without. */
static uint32_t certified_below(struct ch_core *core, uint32_t anchor, uint32_t round, uint16_t rank)
{
    const uint64_t visit = ++core->visit;
    uint32_t depth = 0, found = NONE;
    core->blocks[anchor].visit = visit;
    core->stack[depth++] = anchor;
    while (depth) {
        uint32_t id = core->stack[--depth];
        if (core->blocks[id].ref.round == round + 2) {
            uint32_t c = core->cert_of[(size_t)id * core->ranks + rank];
            if (c != NONE && found != NONE && c != found)
                core_halt(core, CH_HALT_SAFETY);
            if (c != NONE)
                found = c;
            continue;
        }
        if (core->blocks[id].state == NAMED)
            continue;
        struct ch_block b;
        block_view(core, id, &b);
        for (unsigned i = 0; i < b.ancestor_count; i++) {
            struct ch_ref ref = ch_block_ancestor(&b, i);
            if (ref.round < round + 2)
                continue;
            uint32_t a = block_find(core, &ref);
            if (a == NONE || core->blocks[a].visit == visit)
                continue;
            core->blocks[a].visit = visit;
            core->stack[depth++] = a;
        }
    }
    return found;
}

/* 9.4: the first slot from three rounds on that isn't skipped decides, once it is decided itself. */
static enum ch_decision decide_indirectly(struct ch_core *core, uint32_t round, uint16_t rank, uint32_t *leader)
{
    for (uint32_t r = round + 3; r <= core->max_round; r++) {
        for (uint16_t k = 0; k < core->ranks; k++) {
            const struct slot_status *anchor = dag_slot(core, r, k);
            if (anchor->decision == CH_SKIP)
                continue;
            if (anchor->decision == CH_UNDECIDED)
                return CH_UNDECIDED;
            *leader = certified_below(core, anchor->leader, round, rank);
            return *leader == NONE ? CH_SKIP : CH_COMMIT;
        }
    }
    return CH_UNDECIDED;
}

static uint64_t version_of(const struct ch_core *core, uint32_t round)
{
    uint64_t version = 1;
    for (uint32_t r = round; r <= round + 2; r++)
        if (round_in_memory(core, r))
            version += round_at(core, r)->version;
    return version;
}

static void decide_slot(struct ch_core *core, uint32_t round, uint16_t rank)
{
    struct slot_status *slot = dag_slot(core, round, rank);
    if (slot->decision != CH_UNDECIDED)
        return;
    const uint64_t version = version_of(core, round);
    uint32_t leader = NONE;
    enum ch_decision decision = CH_UNDECIDED;
    bool indirect = false;
    if (slot->looked_at != version)
        decision = decide_directly(core, round, rank, &leader);
    if (decision == CH_UNDECIDED) {
        decision = decide_indirectly(core, round, rank, &leader);
        indirect = true;
    }
    *slot = (struct slot_status){version, leader, (uint8_t)decision, indirect};
}

static void count(struct ch_core *core, const struct slot_status *slot)
{
    struct ch_core_counters *c = &core->counters;
    if (slot->decision == CH_SKIP)
        ++*(slot->indirect ? &c->skips_indirect : &c->skips_direct);
    else
        ++*(slot->indirect ? &c->commits_indirect : &c->commits_direct);
}

void decide_open_slots(struct ch_core *core)
{
    for (uint32_t r = core->max_round; r >= core->next_round && r > 0; r--)
        for (uint16_t k = (uint16_t)core->ranks; k-- > 0;)
            if (r > core->next_round || k >= core->next_rank)
                decide_slot(core, r, k);
}

/* 9.5 */
void decide(struct ch_core *core)
{
    decide_open_slots(core);
    while (!core->halt && core->next_round <= core->max_round) {
        const uint32_t round = core->next_round;
        const uint16_t rank = core->next_rank;
        const struct slot_status slot = *dag_slot(core, round, rank);
        if (slot.decision == CH_UNDECIDED)
            return;
        if (slot.decision == CH_COMMIT && !commit_room(core))
            return; /* goes on when commits on their way to the disk have left */
        count(core, &slot);
        if (rank + 1u < core->ranks) {
            core->next_rank++;
        } else {
            core->next_round++;
            core->next_rank = 0;
        }
        if (slot.decision == CH_COMMIT && !commit_make(core, round, rank, slot.leader))
            return;
    }
}

enum ch_decision ch_core_decision(struct ch_core *core, uint32_t round, uint16_t rank, struct ch_ref *leader)
{
    if (!round_in_memory(core, round) || round > core->max_round || rank >= core->ranks)
        return CH_UNDECIDED;
    const struct slot_status *slot = dag_slot(core, round, rank);
    if (slot->decision == CH_COMMIT && leader)
        *leader = core->blocks[slot->leader].ref;
    return (enum ch_decision)slot->decision;
}
