/* A validator that knows every block that was sent, signs what it likes, and answers how it likes. What honest nodes
 * have not sent stays unknown to it, and so do their keys. */
#include "tests/sim/sim.h"

static bool does(const struct sim_node *node, enum sim_strategy strategy)
{
    return node->strategy & strategy;
}

/* The highest round of which a quorum's blocks were sent. */
static uint32_t quorum_round(const struct sim *sim)
{
    for (uint32_t r = sim->sent_rounds; r-- > 1;) {
        uint64_t stake = 0;
        for (uint16_t a = 0; a < sim->n; a++)
            if (sim->sent[(size_t)r * sim->n + a].count)
                stake += sim->committee.stake[a];
        if (stake >= sim->committee.quorum_stake)
            return r;
    }
    return 0;
}

static struct ch_ref unknown_ref(struct sim *sim, uint32_t round, uint16_t author)
{
    struct ch_ref ref = {.round = round, .author = author};
    for (unsigned i = 0; i < sizeof ref.digest; i++)
        ref.digest[i] = (uint8_t)sim_below(sim, 256);
    return ref;
}

/* A block of (round, author) that was sent: any variant. */
static bool sent_ref(struct sim *sim, uint32_t round, uint16_t author, struct ch_ref *out)
{
    if (round == 0) {
        *out = ch_committee_genesis_ref(&sim->committee, author);
        return true;
    }
    const struct sim_sent *s = &sim->sent[(size_t)round * sim->n + author];
    if (round >= sim->sent_rounds || !s->count)
        return false;
    *out = s->refs[sim_below(sim, s->count)];
    return true;
}

/* Ancestors for a block of `round`: a quorum of parents at least, and weak links, some of them to nothing. */
static uint16_t ancestors(struct sim *sim, struct sim_node *node, uint32_t round, struct ch_ref *out)
{
    bool parent[SIM_NODES_MAX] = {false};
    struct ch_ref parents[SIM_NODES_MAX];
    uint64_t stake = 0;
    uint16_t count = 0;
    out[count++] = node->byz_count ? node->byz_last[sim_below(sim, node->byz_count)]
                                   : ch_committee_genesis_ref(&sim->committee, node->index);
    if (out[0].round == round - 1)
        stake = sim->committee.stake[node->index];
    for (uint16_t a = 0; a < sim->n; a++)
        if (a != node->index && (parent[a] = sent_ref(sim, round - 1, a, &parents[a])))
            stake += sim->committee.stake[a];
    if (stake < sim->committee.quorum_stake)
        return 0;
    const unsigned leave_out = does(node, BYZ_STARVE_LEADER) ? 900 : does(node, BYZ_EQUIVOCATE) ? 400 : 0;
    for (uint16_t k = 0, start = (uint16_t)sim_below(sim, sim->n); k < sim->n && round > 1; k++) {
        const uint16_t a = (uint16_t)((start + k) % sim->n);
        if (parent[a] && stake - sim->committee.stake[a] >= sim->committee.quorum_stake && sim_chance(sim, leave_out)) {
            parent[a] = false;
            stake -= sim->committee.stake[a];
        }
    }
    for (uint16_t a = 0; a < sim->n; a++) {
        if (a == node->index)
            continue;
        if (parent[a]) {
            out[count++] = parents[a];
            continue;
        }
        if (round < 3 || !sim_chance(sim, 300))
            continue;
        const uint32_t back = 2 + (uint32_t)sim_below(sim, round < 32 ? round - 2 : 30);
        if (does(node, BYZ_UNKNOWN_REFS) && sim_chance(sim, 300))
            out[count++] = unknown_ref(sim, round - back, a);
        else if (round > back && sent_ref(sim, round - back, a, &out[count]))
            count++;
    }
    return count;
}

static struct sim_block *craft(struct sim *sim, struct sim_node *node, uint32_t round, const struct ch_ref *refs,
                               uint16_t count)
{
    uint8_t header[CH_BLOCK_FIXED_BYTES + SIM_NODES_MAX * CH_REF_BYTES + CH_BLOCK_VOTE_BYTES + CH_BLOCK_SIGNATURE_BYTES];
    uint8_t vote[CH_BLOCK_VOTE_BYTES];
    struct ch_block b;
    struct ch_block_draft draft = {.epoch = sim->committee.epoch,
                                   .round = round,
                                   .author = node->index,
                                   .ancestor_count = count,
                                   .ancestors = refs,
                                   .votes = vote,
                                   .timestamp_ms = sim->committee.start_ms + sim_below(sim, 1u << 30)};
    uint64_t handle = 0;
    if (sim_chance(sim, 500)) {
        handle = ++sim->handle;
        draft.payload_length = sim_payload(handle, draft.payload_root);
        draft.payload_items = 1;
    }
    if (does(node, BYZ_FALSE_VOTES) && sim_chance(sim, 500)) {
        struct ch_ref noise = unknown_ref(sim, 0, 0);
        ch_store64(vote, sim->commit_count + 1 + sim_below(sim, 200));
        memcpy(vote + 8, noise.digest, CH_HASH_BYTES);
        draft.vote_count = 1;
    }
    const uint32_t length = ch_block_write(&draft, header);
    uint8_t digest[CH_HASH_BYTES];
    ch_block_view(header, length, &b);
    ch_block_digest(&sim->committee, &b, digest);
    sim_sign(&sim->committee, node->index, CH_DOMAIN_BLOCK_SIGNATURE, digest, CH_HASH_BYTES,
             header + length - CH_BLOCK_SIGNATURE_BYTES);
    return sim_block_add(sim, header, length, handle);
}

static void push(struct sim *sim, struct sim_node *node, uint16_t to, const struct sim_block *block, uint64_t late_us)
{
    struct sim_body *body = sim_body(node->index, CH_MESSAGE_HEADER, block->header, block->length);
    sim_send(sim, node->index, to, body, late_us);
    sim_body_drop(body);
    if (block->handle && !(does(node, BYZ_NO_PAYLOAD) && sim_chance(sim, 700)))
        sim_send_payload(sim, node->index, to, &block->ref, block->handle);
}

/* A block whose parents are as far away as it says and don't exist. */
static void far_future(struct sim *sim, struct sim_node *node, uint32_t round)
{
    struct ch_ref refs[SIM_NODES_MAX];
    uint16_t count = 0;
    refs[count++] = unknown_ref(sim, round - 1, node->index);
    for (uint16_t a = 0; a < sim->n; a++)
        if (a != node->index)
            refs[count++] = unknown_ref(sim, round - 1, a);
    const struct sim_block *block = craft(sim, node, round, refs, count);
    push(sim, node, (uint16_t)sim_below(sim, sim->n), block, 0);
}

static void false_tip(struct sim *sim, struct sim_node *node)
{
    uint8_t bytes[4];
    ch_store32(bytes, (uint32_t)sim_below(sim, 2 * (quorum_round(sim) + 1)));
    struct sim_body *body = sim_body(node->index, CH_MESSAGE_TIP, bytes, sizeof bytes);
    sim_send(sim, node->index, (uint16_t)sim_below(sim, sim->n), body, 0);
    sim_body_drop(body);
}

static void sign_round(struct sim *sim, struct sim_node *node, uint32_t round)
{
    struct sim_block *made[SIM_VARIANTS_MAX];
    unsigned count = 0, wanted = does(node, BYZ_EQUIVOCATE) && sim_chance(sim, 600)
                                     ? 2 + (unsigned)sim_below(sim, SIM_VARIANTS_MAX - 1)
                                     : 1;
    while (count < wanted) {
        struct ch_ref refs[SIM_NODES_MAX];
        const uint16_t n_refs = ancestors(sim, node, round, refs);
        if (!n_refs)
            return;
        made[count++] = craft(sim, node, round, refs, n_refs);
    }
    const bool withhold = does(node, BYZ_WITHHOLD) && sim_chance(sim, 500);
    const uint64_t late = does(node, BYZ_LATE) ? sim_below(sim, 600 * SIM_MS) : 0;
    for (uint16_t to = 0; to < sim->n; to++)
        if (!withhold || sim_chance(sim, 400)) {
            push(sim, node, to, made[(to + round) % count], late);
            sim_block_sent(sim, made[(to + round) % count]);
        }
    node->byz_round = round;
    node->byz_count = count;
    for (unsigned i = 0; i < count; i++)
        node->byz_last[i] = made[i]->ref;
}

void sim_byzantine_act(struct sim *sim, struct sim_node *node)
{
    const uint32_t round = quorum_round(sim) + 1;
    if (!does(node, BYZ_SILENT) && round > node->byz_round)
        sign_round(sim, node, round);
    if (does(node, BYZ_FAR_FUTURE) && sim_chance(sim, 100))
        far_future(sim, node, round + 3 + (uint32_t)sim_below(sim, sim_chance(sim, 500) ? 60 : 2000));
    if (sim_chance(sim, 20))
        false_tip(sim, node);
    struct sim_event *e = sim_alloc(sizeof *e);
    e->kind = SIM_BYZANTINE;
    e->to = node->index;
    sim_queue_push(&sim->queue, sim->now_us + 5 * SIM_MS + sim_below(sim, 60 * SIM_MS), e);
}

/* A block for one that is asked for: mostly the right one. */
static const struct sim_block *answer(struct sim *sim, const struct sim_node *node, const struct ch_ref *ref)
{
    if (does(node, BYZ_WRONG_FETCH) && sim_chance(sim, 500)) {
        struct ch_ref other;
        if (sent_ref(sim, ref->round > 1 && sim_chance(sim, 500) ? ref->round - 1 : ref->round, (uint16_t)sim_below(sim, sim->n),
                     &other) &&
            other.round)
            return sim_block_find(sim, &other);
    }
    const struct sim_block *block = sim_block_find(sim, ref);
    return block && (block->sent || block->ref.author == node->index) ? block : NULL;
}

void sim_byzantine_message(struct sim *sim, struct sim_node *node, const struct sim_body *body)
{
    if (does(node, BYZ_REFUSE_FETCH) && sim_chance(sim, 800))
        return;
    if (body->type == CH_MESSAGE_GET_PAYLOAD && body->length == CH_REF_BYTES) {
        struct ch_ref ref = ch_ref_read(body->bytes);
        const struct sim_block *block = sim_block_find(sim, &ref);
        const bool wrong = does(node, BYZ_WRONG_FETCH) && sim_chance(sim, 500);
        if (block && block->handle)
            sim_send_payload(sim, node->index, body->from, &ref, wrong ? block->handle + 1 : block->handle);
    }
    if (body->type != CH_MESSAGE_GET_BLOCKS || body->length < 6)
        return;
    static uint8_t out[CH_MESSAGE_BODY_BYTES_MAX];
    struct ch_writer w = ch_writer(out, sizeof out);
    uint16_t found = 0;
    ch_write16(&w, 0);
    for (unsigned i = 0; i < ch_load16(body->bytes + 4) && 6 + (i + 1u) * CH_REF_BYTES <= body->length; i++) {
        struct ch_ref ref = ch_ref_read(body->bytes + 6 + (size_t)i * CH_REF_BYTES);
        const struct sim_block *block = answer(sim, node, &ref);
        if (!block)
            continue;
        ch_message_item(&w, block->header, block->length);
        found++;
    }
    ch_store16(out, found);
    struct sim_body *reply = sim_body(node->index, CH_MESSAGE_BLOCKS, out, w.used);
    if (found)
        sim_send(sim, node->index, body->from, reply, 0);
    sim_body_drop(reply);
}
