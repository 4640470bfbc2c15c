/* The pool of blocks, their index by digest, and the rounds of the DAG with votes and certificates (9.6). */
#include "consensus/core_impl.h"

static uint32_t bucket(const struct ch_core *core, const uint8_t digest[CH_HASH_BYTES])
{
    return (uint32_t)(ch_load64(digest) * core->hash_factor >> 32) & core->bucket_mask;
}

uint32_t block_find(const struct ch_core *core, const struct ch_ref *ref)
{
    uint32_t id = core->block_buckets[bucket(core, ref->digest)];
    while (id != NONE && memcmp(&core->blocks[id].ref, ref, sizeof *ref) != 0)
        id = core->blocks[id].hash_next;
    return id;
}

uint32_t block_new(struct ch_core *core, const struct ch_ref *ref)
{
    if (!blocks_left(core))
        return NONE;
    uint32_t id = core->free_count ? core->free_slots[--core->free_count] : core->slots_used++;
    struct block *b = &core->blocks[id];
    memset(b, 0, sizeof *b);
    b->ref = *ref;
    b->variant_next = b->suspended_next = b->suspended_previous = NONE;
    b->payload_deadline_us = NEVER;
    b->sender = CH_CORE_NOBODY;
    uint32_t *head = &core->block_buckets[bucket(core, ref->digest)];
    b->hash_next = *head;
    *head = id;
    for (uint32_t k = 0; k < core->ranks; k++)
        core->vote_of[(size_t)id * core->ranks + k] = core->cert_of[(size_t)id * core->ranks + k] = NONE;
    return id;
}

void block_free(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    CH_ASSERT(b->state != SLOT_FREE);
    uint32_t *at = &core->block_buckets[bucket(core, b->ref.digest)];
    while (*at != id)
        at = &core->blocks[*at].hash_next;
    *at = b->hash_next;
    if (b->handle) {
        struct ch_core_action *action = out_push(core, CH_ACTION_RELEASE);
        action->payload.ref = b->ref;
        action->payload.handle = b->handle;
        action->payload.length = b->payload_length;
    } else if (b->payload_expected && !b->payload_here) {
        out_push(core, CH_ACTION_FORGET_PAYLOAD)->payload.ref = b->ref;
    }
    if ((b->state == ACCEPTED || b->state == HELD) && !b->clean)
        core->dirty_count--;
    b->state = SLOT_FREE;
    core->freed_slots[core->freed_count++] = id;
}

uint32_t dag_first(const struct ch_core *core, uint32_t round, uint16_t author)
{
    if (!round_in_memory(core, round))
        return NONE;
    return core->heads[(size_t)(round & (core->round_capacity - 1)) * core->n + author];
}

const uint16_t *dag_leaders(struct ch_core *core, uint32_t round)
{
    CH_ASSERT(round_in_memory(core, round));
    uint16_t *leaders = core->round_leaders + (size_t)(round & (core->round_capacity - 1)) * core->ranks;
    struct round *r = round_at(core, round);
    if (!r->leaders_known) {
        schedule_leaders(core, round, leaders);
        r->leaders_known = true;
    }
    return leaders;
}

struct slot_status *dag_slot(const struct ch_core *core, uint32_t round, uint16_t rank)
{
    CH_ASSERT(round_in_memory(core, round) && rank < core->ranks);
    return &core->slots[(size_t)(round & (core->round_capacity - 1)) * core->ranks + rank];
}

void dag_list(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    CH_ASSERT(round_in_memory(core, b->ref.round));
    uint32_t *at = &core->heads[(size_t)(b->ref.round & (core->round_capacity - 1)) * core->n + b->ref.author];
    while (*at != NONE)
        at = &core->blocks[*at].variant_next;
    *at = id;
    b->variant_next = NONE;
}

/* vote_of and cert_of of a block whose ancestors are all accepted. */
static void count_votes(struct ch_core *core, uint32_t id)
{
    const uint32_t round = core->blocks[id].ref.round;
    uint32_t *votes = core->vote_of + (size_t)id * core->ranks, *certs = core->cert_of + (size_t)id * core->ranks;
    uint32_t parents[CH_VALIDATORS_MAX], parent_count = 0;
    struct ch_block b;
    block_view(core, id, &b);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(&b, i);
        if (ref.round != round - 1 || ref.round == 0)
            continue;
        uint32_t parent = block_find(core, &ref);
        if (parent != NONE && core->blocks[parent].state == ACCEPTED)
            parents[parent_count++] = parent;
    }
    if (round >= 2 && round_in_memory(core, round - 1)) {
        const uint16_t *leaders = dag_leaders(core, round - 1);
        for (uint32_t k = 0; k < core->ranks; k++)
            for (uint32_t i = 0; i < parent_count; i++)
                if (core->blocks[parents[i]].ref.author == leaders[k])
                    votes[k] = parents[i];
    }
    if (round < 3 || !round_in_memory(core, round - 2))
        return;
    const uint16_t *leaders = dag_leaders(core, round - 2);
    for (uint32_t k = 0; k < core->ranks; k++) {
        for (uint32_t c = dag_first(core, round - 2, leaders[k]); c != NONE; c = core->blocks[c].variant_next) {
            uint64_t stake = 0; /* parents have distinct authors, by S4 */
            for (uint32_t i = 0; i < parent_count; i++)
                if (core->vote_of[(size_t)parents[i] * core->ranks + k] == c)
                    stake += core->committee.stake[core->blocks[parents[i]].ref.author];
            if (stake >= core->committee.quorum_stake)
                certs[k] = c;
        }
    }
}

void dag_insert(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    const uint32_t r = b->ref.round;
    const uint16_t author = b->ref.author;
    b->state = ACCEPTED;
    dag_list(core, id);
    count_votes(core, id);
    struct round *round = round_at(core, r);
    if (authors_add(&round->authors, author))
        round->stake += core->committee.stake[author];
    round->version++;
    if (b->payload_length && !b->committed)
        round->payloads_open++;
    if (r > core->max_round)
        core->max_round = r;
    if (round->stake >= core->committee.quorum_stake && r > core->quorum_round)
        core->quorum_round = r;
    if (r > core->last_round[author])
        core->last_round[author] = r;
    core->counters.blocks_accepted++;
}

void dag_collect(struct ch_core *core)
{
    const uint32_t undelivered = deliveries_lowest(core);
    uint32_t floor = clean_floor(core);
    if (floor >= undelivered)
        floor = undelivered - 1;
    if (floor <= core->floor_round)
        return;
    for (uint32_t r = core->floor_round + 1; r <= floor && round_in_memory(core, r); r++) {
        const size_t at = r & (core->round_capacity - 1);
        for (uint32_t a = 0; a < core->n; a++) {
            uint32_t *head = &core->heads[at * core->n + a];
            while (*head != NONE) {
                uint32_t id = *head;
                *head = core->blocks[id].variant_next;
                block_free(core, id);
            }
        }
        memset(&core->rounds[at], 0, sizeof core->rounds[at]);
        for (uint32_t k = 0; k < core->ranks; k++)
            core->slots[at * core->ranks + k] = (struct slot_status){.leader = NONE};
    }
    core->floor_round = floor;
    if (core->started)
        out_push(core, CH_ACTION_DROP_BELOW)->round = floor;
}
