/* What all honest nodes must agree on: blocks, commits, slots; and the checks of section 19 against it. */
#include <stdarg.h>

#include "tests/sim/sim.h"

void sim_fail(struct sim *sim, const char *format, ...)
{
    if (sim->failed)
        return;
    sim->failed = true;
    va_list args;
    va_start(args, format);
    vsnprintf(sim->why, sizeof sim->why, format, args);
    va_end(args);
}

void *sim_alloc(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        abort();
    return p;
}

void *sim_grow(void *array, size_t count, size_t *room, size_t bytes)
{
    if (count < *room)
        return array;
    *room = *room ? 2 * *room : 64;
    array = realloc(array, *room * bytes);
    if (!array)
        abort();
    return array;
}

static void signature_of(const uint8_t key[32], const char *domain, const uint8_t *message, uint32_t length,
                         uint8_t digest[CH_HASH_BYTES])
{
    const struct ch_bytes parts[] = {{key, 32}, {message, length}};
    ch_hash_domain(domain, parts, 2, digest);
}

void sim_sign(const struct ch_committee *committee, uint16_t author, const char *domain, const uint8_t *message,
              uint32_t length, uint8_t signature[CH_BLOCK_SIGNATURE_BYTES])
{
    signature_of(committee->key[author], domain, message, length, signature);
    memcpy(signature + CH_HASH_BYTES, signature, CH_HASH_BYTES);
}

bool sim_verify(struct sim *sim, struct sim_body *body)
{
    static struct ch_message_signature list[CH_MESSAGE_SIGNATURES_MAX];
    size_t count;
    if (body->checked)
        return body->good;
    body->checked = true;
    body->good = ch_message_check(&sim->committee, body->from, body->type, body->bytes, body->length, list,
                                  CH_MESSAGE_SIGNATURES_MAX, &count);
    for (size_t i = 0; body->good && i < count; i++) {
        uint8_t expected[CH_HASH_BYTES];
        signature_of(list[i].key, list[i].domain, list[i].message, list[i].message_length, expected);
        body->good = memcmp(expected, list[i].signature, sizeof expected) == 0;
    }
    sim->seen.messages_refused += !body->good;
    return body->good;
}

static size_t place(struct sim_block *const *table, size_t room, const struct ch_ref *ref)
{
    size_t i = ch_load64(ref->digest) & (room - 1);
    while (table[i] && memcmp(&table[i]->ref, ref, sizeof *ref) != 0)
        i = (i + 1) & (room - 1);
    return i;
}

struct sim_block *sim_block_find(const struct sim *sim, const struct ch_ref *ref)
{
    return sim->block_room ? sim->blocks[place(sim->blocks, sim->block_room, ref)] : NULL;
}

static void make_room(struct sim *sim)
{
    const size_t room = sim->block_room ? 2 * sim->block_room : 1024;
    struct sim_block **table = sim_alloc(room * sizeof *table);
    for (size_t i = 0; i < sim->block_room; i++)
        if (sim->blocks[i])
            table[place(table, room, &sim->blocks[i]->ref)] = sim->blocks[i];
    free(sim->blocks);
    sim->blocks = table;
    sim->block_room = room;
}

struct sim_block *sim_block_add(struct sim *sim, const uint8_t *header, uint32_t length, uint64_t handle)
{
    struct ch_block b;
    ch_block_view(header, length, &b);
    struct ch_ref ref = {.round = b.round, .author = b.author};
    ch_block_digest(&sim->committee, &b, ref.digest);
    if (2 * (sim->block_count + 1) > sim->block_room)
        make_room(sim);
    struct sim_block **at = &sim->blocks[place(sim->blocks, sim->block_room, &ref)];
    if (*at)
        return *at;
    sim->block_count++;
    *at = sim_alloc(sizeof **at);
    (*at)->ref = ref;
    (*at)->header = sim_alloc(length);
    memcpy((*at)->header, header, length);
    (*at)->length = length;
    (*at)->handle = handle;
    return *at;
}

void sim_block_sent(struct sim *sim, struct sim_block *block)
{
    if (block->sent)
        return;
    block->sent = true;
    while (block->ref.round >= sim->sent_rounds) {
        const uint32_t rounds = sim->sent_rounds ? 2 * sim->sent_rounds : 256;
        struct sim_sent *wider = sim_alloc((size_t)rounds * sim->n * sizeof *wider);
        if (sim->sent_rounds)
            memcpy(wider, sim->sent, (size_t)sim->sent_rounds * sim->n * sizeof *wider);
        free(sim->sent);
        sim->sent = wider;
        sim->sent_rounds = rounds;
    }
    struct sim_sent *s = &sim->sent[(size_t)block->ref.round * sim->n + block->ref.author];
    if (s->count < SIM_VARIANTS_MAX)
        s->refs[s->count++] = block->ref;
}

void sim_check_accepted(struct sim *sim, struct sim_node *node, const struct ch_block *b, uint32_t gc_round)
{
    struct ch_ref ref = {.round = b->round, .author = b->author};
    ch_block_digest(&sim->committee, b, ref.digest);
    sim_block_find(sim, &ref)->accepted_by |= 1u << node->index;
    for (unsigned i = 0; i < b->ancestor_count; i++) {
        const struct ch_ref a = ch_block_ancestor(b, i);
        const struct sim_block *ancestor = a.round > gc_round ? sim_block_find(sim, &a) : NULL;
        if (a.round > gc_round && !(ancestor && ancestor->accepted_by >> node->index & 1))
            sim_fail(sim, "I8: node %u accepts block (%u, %u) without its ancestor (%u, %u)", node->index, b->round,
                     b->author, a.round, a.author);
    }
}

void sim_check_forgotten(struct sim *sim, struct sim_node *node, const struct ch_ref *ref)
{
    struct sim_block *block = ref->round ? sim_block_find(sim, ref) : NULL;
    if (block)
        block->accepted_by &= ~(1u << node->index);
}

static void decide(struct sim *sim, uint32_t round, uint16_t rank, uint8_t decision, const struct ch_ref *leader,
                   const struct sim_node *node)
{
    const uint32_t ranks = (uint32_t)sim->committee.params.leaders_per_round;
    while (round >= sim->slot_rounds) {
        const uint32_t rounds = sim->slot_rounds ? 2 * sim->slot_rounds : 256;
        struct sim_slot *wider = sim_alloc((size_t)rounds * ranks * sizeof *wider);
        if (sim->slot_rounds)
            memcpy(wider, sim->slots, (size_t)sim->slot_rounds * ranks * sizeof *wider);
        free(sim->slots);
        sim->slots = wider;
        sim->slot_rounds = rounds;
    }
    struct sim_slot *slot = &sim->slots[(size_t)round * ranks + rank];
    if (slot->decision == CH_UNDECIDED) {
        slot->decision = decision;
        if (leader)
            slot->leader = *leader;
    } else if (slot->decision != decision || (leader && memcmp(leader, &slot->leader, sizeof *leader) != 0)) {
        sim_fail(sim, "I2: node %u decides slot (%u, %u) as %s, it was %s", node->index, round, rank,
                 decision == CH_COMMIT ? "COMMIT" : "SKIP", slot->decision == CH_COMMIT ? "COMMIT" : "SKIP");
    }
}

void sim_check_slots(struct sim *sim, struct sim_node *node)
{
    struct ch_core_status status;
    struct ch_ref leader;
    ch_core_status(node->core, &status);
    for (uint32_t r = status.decided_round + 1; r + 2 <= status.quorum_round && r < status.decided_round + 30; r++)
        for (uint16_t k = 0; k < sim->committee.params.leaders_per_round; k++) {
            enum ch_decision decision = ch_core_decision(node->core, r, k, &leader);
            if (decision != CH_UNDECIDED)
                decide(sim, r, k, (uint8_t)decision, decision == CH_COMMIT ? &leader : NULL, node);
        }
}

/* The slots from the last commit's to this one's. */
static void slots_of_commit(struct sim *sim, const struct ch_commit *commit, const struct sim_node *node)
{
    const uint32_t ranks = (uint32_t)sim->committee.params.leaders_per_round;
    const uint32_t slot = commit->leader.round * ranks + commit->rank;
    if (sim->slot_next < ranks)
        sim->slot_next = ranks; /* round 0 has none */
    for (; sim->slot_next < slot; sim->slot_next++)
        decide(sim, sim->slot_next / ranks, (uint16_t)(sim->slot_next % ranks), CH_SKIP, NULL, node);
    decide(sim, commit->leader.round, commit->rank, CH_COMMIT, &commit->leader, node);
    sim->slot_next = slot + 1;
}

static void deliver_block(struct sim *sim, const struct ch_commit *commit, const struct ch_delivered *d)
{
    struct sim_block *block = sim_block_find(sim, &d->ref);
    struct ch_block b;
    if (!block) {
        sim_fail(sim, "I3: commit %llu has a block that nobody made", (unsigned long long)commit->index);
        return;
    }
    if (block->delivered || d->ref.round <= commit->gc_round)
        sim_fail(sim, "I3: block (%u, %u) of commit %llu was in commit %llu, or lies below its gc round %u",
                 d->ref.round, d->ref.author, (unsigned long long)commit->index, (unsigned long long)block->delivered,
                 commit->gc_round);
    block->delivered = commit->index;
    ch_block_view(block->header, block->length, &b);
    const struct sim_payload *payload = d->handle ? sim_payload(sim, d->handle) : NULL;
    if (b.payload_length && (!payload || payload->length != b.payload_length ||
                             memcmp(payload->root, b.payload_root, CH_HASH_BYTES) != 0))
        sim_fail(sim, "I3: commit %llu delivers another payload than block (%u, %u) has",
                 (unsigned long long)commit->index, d->ref.round, d->ref.author);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(&b, i);
        struct sim_block *ancestor = ref.round > commit->gc_round ? sim_block_find(sim, &ref) : NULL;
        if (ref.round > commit->gc_round && (!ancestor || !ancestor->delivered))
            sim_fail(sim, "I4: block (%u, %u) of commit %llu comes before its ancestor (%u, %u)", d->ref.round,
                     d->ref.author, (unsigned long long)commit->index, ref.round, ref.author);
    }
    for (uint32_t i = 0; payload && i < payload->count; i++) {
        struct sim_tx *tx = payload->txs[i].client ? &sim->txs[payload->txs[i].client] : NULL;
        if (tx && !tx->delivered)
            tx->delivered = commit->index;
    }
}

void sim_check_delivery(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    const uint64_t index = a->deliver.index;
    struct ch_commit commit;
    if (index > sim->commit_count + 1) {
        sim_fail(sim, "I1: node %u delivers commit %llu, nobody has the one before", node->index,
                 (unsigned long long)index);
        return;
    }
    if (index <= sim->commit_count) {
        const struct sim_commit *c = &sim->commits[index - 1];
        if (c->length != a->deliver.bytes.length || memcmp(c->bytes, a->deliver.bytes.data, c->length) != 0)
            sim_fail(sim, "I1: node %u delivers another commit %llu than others", node->index,
                     (unsigned long long)index);
        return;
    }
    sim->commits = sim_grow(sim->commits, sim->commit_count, &sim->commit_room, sizeof *sim->commits);
    struct sim_commit *c = &sim->commits[sim->commit_count++];
    *c = (struct sim_commit){.length = a->deliver.bytes.length};
    c->bytes = sim_alloc(c->length);
    memcpy(c->bytes, a->deliver.bytes.data, c->length);
    ch_commit_digest(&sim->committee, c->bytes, c->length, c->digest);
    if (!ch_commit_parse(c->bytes, c->length, &commit) || commit.index != index ||
        commit.block_count != a->deliver.block_count) {
        sim_fail(sim, "I1: commit %llu of node %u is malformed", (unsigned long long)index, node->index);
        return;
    }
    sim->chain_ms = commit.timestamp_ms;
    slots_of_commit(sim, &commit, node);
    for (uint32_t i = 0; i < a->deliver.block_count; i++)
        deliver_block(sim, &commit, &a->deliver.blocks[i]);
}
