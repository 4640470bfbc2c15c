/* A validator that knows every block that was sent, signs what it likes, and answers how it likes. What honest nodes
 * have not sent stays unknown to it, and so do their keys. */
#include "tests/sim/sim.h"

/* Whether the strategy is this node's and it is at work now. */
static bool does(struct sim *sim, const struct sim_node *node, enum sim_strategy_bit strategy, unsigned thousandths)
{
    if (!(node->strategy >> strategy & 1) || !sim_chance(sim, thousandths))
        return false;
    sim->seen.strategies[strategy]++;
    return true;
}

uint16_t sim_leader(const struct sim *sim, uint32_t round)
{
    const struct ch_committee *c = &sim->committee;
    const uint32_t version = 0;
    const uint16_t rank = 0;
    uint8_t digest[CH_HASH_BYTES];
    const struct ch_bytes parts[] = {{c->chain_id, CH_HASH_BYTES},
                                     {(const uint8_t *)&c->epoch, 4},
                                     {(const uint8_t *)&version, 4},
                                     {(const uint8_t *)&round, 4},
                                     {(const uint8_t *)&rank, 2}};
    ch_hash_domain("chappe/leader/1", parts, 5, digest);
    uint64_t x = ch_load64(digest) % c->stake_total;
    uint16_t a = 0;
    for (; x >= c->stake[a]; a++)
        x -= c->stake[a];
    return a;
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

/* Whether a block that was sent names a block of (round, author). */
static bool names(const struct sim *sim, const struct ch_ref *ref, uint32_t round, uint16_t author)
{
    const struct sim_block *block = sim_block_find(sim, ref);
    struct ch_block b;
    if (!block)
        return false;
    ch_block_view(block->header, block->length, &b);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        const struct ch_ref a = ch_block_ancestor(&b, i);
        if (a.round == round && a.author == author)
            return true;
    }
    return false;
}

struct parents {
    bool has[SIM_NODES_MAX];
    struct ch_ref ref[SIM_NODES_MAX];
    uint64_t stake;
};

/* Leaves out a parent as long as a quorum stays. */
static void leave_out(const struct sim *sim, struct parents *p, uint16_t author)
{
    if (!p->has[author] || p->stake - sim->committee.stake[author] < sim->committee.quorum_stake)
        return;
    p->has[author] = false;
    p->stake -= sim->committee.stake[author];
}

/* The minimal certificate (T28): no certificate for the leader of round - 2, and support for that of round - 1 or
 * not. */
static void starve_certificates(const struct sim *sim, const struct sim_node *node, struct parents *p, uint32_t round,
                                bool supports)
{
    const uint16_t newest = sim_leader(sim, round - 1), older = sim_leader(sim, round - 2);
    if (!supports && newest != node->index)
        leave_out(sim, p, newest);
    for (uint16_t a = 0; a < sim->n; a++)
        if (a != node->index && a != newest && p->has[a] && names(sim, &p->ref[a], round - 2, older))
            leave_out(sim, p, a);
}

static uint32_t weak_round(struct sim *sim, const struct sim_node *node, uint32_t round)
{
    if (does(sim, node, SIM_STRATEGY_BIT_WEAK_LINKS, 700))
        return 1 + (uint32_t)sim_below(sim, round > 90 ? round - 80 : 4); /* at the edge of what is collected, or beyond */
    const uint32_t back = 2 + (uint32_t)sim_below(sim, round < 32 ? round - 2 : 30);
    return round > back ? round - back : 0;
}

/* Ancestors for a block of `round`: a quorum of parents at least, and weak links, some of them to nothing. `variant`
 * tells an equivocator's blocks apart. */
static uint16_t ancestors(struct sim *sim, struct sim_node *node, uint32_t round, unsigned variant, struct ch_ref *out)
{
    struct parents p = {0};
    uint16_t count = 0;
    out[count++] = node->byz_count ? node->byz_last[sim_below(sim, node->byz_count)]
                                   : ch_committee_genesis_ref(&sim->committee, node->index);
    if (out[0].round == round - 1)
        p.stake = sim->committee.stake[node->index];
    for (uint16_t a = 0; a < sim->n; a++)
        if (a != node->index && (p.has[a] = sent_ref(sim, round - 1, a, &p.ref[a])))
            p.stake += sim->committee.stake[a];
    if (p.stake < sim->committee.quorum_stake)
        return 0;
    if (round > 2 && does(sim, node, SIM_STRATEGY_BIT_MINIMAL_CERTIFICATE, 900))
        starve_certificates(sim, node, &p, round, variant == 0);
    const bool starves = does(sim, node, SIM_STRATEGY_BIT_STARVE_LEADER, 900);
    const unsigned share = starves ? 900 : node->strategy & BYZ_EQUIVOCATE ? 400 : 0;
    for (uint16_t k = 0, start = (uint16_t)sim_below(sim, sim->n); k < sim->n && round > 1; k++)
        if (sim_chance(sim, share))
            leave_out(sim, &p, (uint16_t)((start + k) % sim->n));
    const bool large = does(sim, node, SIM_STRATEGY_BIT_LARGE_HEADERS, 500);
    for (uint16_t a = 0; a < sim->n; a++) {
        if (a == node->index)
            continue;
        if (p.has[a]) {
            out[count++] = p.ref[a];
            continue;
        }
        if (round < 3 || !(large || sim_chance(sim, 300)))
            continue;
        const uint32_t r = weak_round(sim, node, round);
        if (does(sim, node, SIM_STRATEGY_BIT_UNKNOWN_REFS, 300))
            out[count++] = unknown_ref(sim, r ? r : 1, a);
        else if (r && sent_ref(sim, r, a, &out[count]))
            count++;
    }
    return count;
}

static uint16_t votes(struct sim *sim, const struct sim_node *node, uint8_t *out)
{
    const uint64_t most = sim->committee.params.max_votes;
    const bool large = does(sim, node, SIM_STRATEGY_BIT_LARGE_HEADERS, 500);
    if (!large && !does(sim, node, SIM_STRATEGY_BIT_FALSE_VOTES, 500))
        return 0;
    const uint16_t count = (uint16_t)(large ? most : 1);
    uint64_t index = sim->commit_count + 1 + sim_below(sim, 200);
    for (uint16_t i = 0; i < count; i++) {
        const struct ch_ref noise = unknown_ref(sim, 0, 0);
        ch_store64(out + (size_t)i * CH_BLOCK_VOTE_BYTES, index++);
        memcpy(out + (size_t)i * CH_BLOCK_VOTE_BYTES + 8, noise.digest, CH_HASH_BYTES);
    }
    return count;
}

static struct sim_block *craft(struct sim *sim, struct sim_node *node, uint32_t epoch, uint32_t round,
                               const struct ch_ref *refs, uint16_t count)
{
    static uint8_t header[16384], vote[256 * CH_BLOCK_VOTE_BYTES];
    struct ch_block b;
    struct ch_block_draft draft = {.epoch = epoch,
                                   .round = round,
                                   .author = node->index,
                                   .ancestor_count = count,
                                   .ancestors = refs,
                                   .votes = vote,
                                   .timestamp_ms = sim->committee.start_ms + sim_below(sim, 1u << 30)};
    uint64_t handle = 0;
    CH_ASSERT(sim->committee.header_bytes_max <= sizeof header && sim->committee.params.max_votes <= 256);
    if (sim_chance(sim, 500)) { /* what others sent too, and what is no transaction */
        uint32_t txs[3];
        size_t tx_count = 0;
        for (unsigned i = 0; i < 3 && sim->tx_count > 1; i++)
            txs[tx_count++] = 1 + (uint32_t)sim_below(sim, sim->tx_count - 1);
        handle = sim_payload_make(sim, txs, tx_count, 1 + sim_below(sim, 300));
        draft.payload_length = sim_payload(sim, handle)->length;
        draft.payload_items = (uint32_t)sim_below(sim, 5);
        memcpy(draft.payload_root, sim_payload(sim, handle)->root, CH_HASH_BYTES);
    }
    draft.vote_count = votes(sim, node, vote);
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
    if (!block->handle || does(sim, node, SIM_STRATEGY_BIT_NO_PAYLOAD, 700))
        return;
    const bool wrong = block->handle > 1 && does(sim, node, SIM_STRATEGY_BIT_WRONG_PAYLOAD, 400);
    sim_send_payload(sim, node->index, to, &block->ref, block->handle - wrong);
}

/* A block of any round and epoch whose parents don't exist. */
static const struct sim_block *baseless(struct sim *sim, struct sim_node *node, uint32_t epoch, uint32_t round)
{
    struct ch_ref refs[SIM_NODES_MAX];
    uint16_t count = 0;
    refs[count++] =
        round > 1 ? unknown_ref(sim, round - 1, node->index) : ch_committee_genesis_ref(&sim->committee, node->index);
    for (uint16_t a = 0; a < sim->n; a++)
        if (a != node->index)
            refs[count++] = round > 1 ? unknown_ref(sim, round - 1, a) : ch_committee_genesis_ref(&sim->committee, a);
    return craft(sim, node, epoch, round, refs, count);
}

static void spam(struct sim *sim, struct sim_node *node, uint32_t round)
{
    const uint32_t epoch = sim->committee.epoch;
    const uint16_t to = (uint16_t)sim_below(sim, sim->n);
    if (does(sim, node, SIM_STRATEGY_BIT_FAR_FUTURE, 100))
        push(sim, node, to,
             baseless(sim, node, epoch, round + 3 + (uint32_t)sim_below(sim, sim_chance(sim, 500) ? 60 : 2000)), 0);
    for (unsigned i = 0; i < 4 && does(sim, node, SIM_STRATEGY_BIT_OLD_ROUNDS, 300); i++)
        push(sim, node, to, baseless(sim, node, epoch, 1 + (uint32_t)sim_below(sim, round)), 0);
    if (does(sim, node, SIM_STRATEGY_BIT_NEXT_EPOCH, 200))
        push(sim, node, to, baseless(sim, node, epoch + 1, 1 + (uint32_t)sim_below(sim, round)), 0);
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
    const bool minimal = node->strategy & BYZ_MINIMAL_CERTIFICATE;
    unsigned count = 0, wanted = minimal ? 2 : 1;
    if (does(sim, node, SIM_STRATEGY_BIT_EQUIVOCATE, 600))
        wanted = 2 + (unsigned)sim_below(sim, SIM_VARIANTS_MAX - 1);
    while (count < wanted) {
        struct ch_ref refs[SIM_NODES_MAX];
        const uint16_t n_refs = ancestors(sim, node, round, count, refs);
        if (!n_refs)
            return;
        made[count++] = craft(sim, node, sim->committee.epoch, round, refs, n_refs);
    }
    const bool withhold = does(sim, node, SIM_STRATEGY_BIT_WITHHOLD, 500);
    const uint64_t late = does(sim, node, SIM_STRATEGY_BIT_LATE, 1000) ? sim_below(sim, 600 * SIM_MS) : 0;
    for (uint16_t to = 0; to < sim->n; to++)
        if (!withhold || sim_chance(sim, 400)) {
            /* whom the minimal certificate lets hear in time goes round */
            const uint64_t held = minimal && (to + round) % 3 == 0 ? 400 * SIM_MS : 0;
            push(sim, node, to, made[(to + round) % count], late + held);
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
    if (!does(sim, node, SIM_STRATEGY_BIT_SILENT, 1000) && round > node->byz_round)
        sign_round(sim, node, round);
    spam(sim, node, round);
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
    if (does(sim, node, SIM_STRATEGY_BIT_WRONG_FETCH, 500)) {
        struct ch_ref other;
        if (sent_ref(sim, ref->round > 1 && sim_chance(sim, 500) ? ref->round - 1 : ref->round,
                     (uint16_t)sim_below(sim, sim->n), &other) &&
            other.round)
            return sim_block_find(sim, &other);
    }
    const struct sim_block *block = sim_block_find(sim, ref);
    return block && (block->sent || block->ref.author == node->index) ? block : NULL;
}

static void answer_blocks(struct sim *sim, struct sim_node *node, const struct sim_body *body)
{
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

/* Its own word on how far it is: its last block, or one that is made up, far ahead or long gone. */
static void answer_who_am_i(struct sim *sim, struct sim_node *node, const struct sim_body *body)
{
    static uint8_t out[CH_HASH_BYTES + CH_BLOCK_SIGNATURE_BYTES + 16384];
    uint8_t message[2 * CH_HASH_BYTES] = {0};
    size_t length = CH_HASH_BYTES + CH_BLOCK_SIGNATURE_BYTES;
    const struct sim_block *block = node->byz_count ? sim_block_find(sim, &node->byz_last[0]) : NULL;
    if (does(sim, node, SIM_STRATEGY_BIT_FALSE_I_AM, 800))
        block = sim_chance(sim, 200) ? NULL
                                     : baseless(sim, node, sim->committee.epoch,
                                                1 + (uint32_t)sim_below(sim, 2 * quorum_round(sim) + 100));
    memcpy(out, body->bytes, CH_HASH_BYTES);
    memcpy(message, body->bytes, CH_HASH_BYTES);
    if (block) {
        memcpy(message + CH_HASH_BYTES, block->ref.digest, CH_HASH_BYTES);
        memcpy(out + length, block->header, block->length);
        length += block->length;
    }
    sim_sign(&sim->committee, node->index, CH_DOMAIN_I_AM_SIGNATURE, message, sizeof message, out + CH_HASH_BYTES);
    struct sim_body *reply = sim_body(node->index, CH_MESSAGE_I_AM, out, length);
    sim_send(sim, node->index, body->from, reply, 0);
    sim_body_drop(reply);
}

/* Commits that were never made, with what proof it can sign for them. */
static void answer_commits(struct sim *sim, struct sim_node *node, const struct sim_body *body)
{
    static uint8_t out[CH_MESSAGE_BODY_BYTES_MAX], commit[CH_MESSAGE_BODY_BYTES_MAX];
    const uint64_t from = ch_load64(body->bytes);
    if (from == 0 || from > sim->commit_count || !does(sim, node, SIM_STRATEGY_BIT_FALSE_COMMITS, 800))
        return;
    const struct sim_commit *c = &sim->commits[from - 1];
    const struct sim_block *block = node->byz_count ? sim_block_find(sim, &node->byz_last[0]) : NULL;
    struct ch_writer w = ch_writer(out, sizeof out);
    if (c->length > sizeof commit / 2 || !block)
        return;
    memcpy(commit, c->bytes, c->length);
    commit[14 + sim_below(sim, CH_HASH_BYTES)] ^= (uint8_t)sim_below(sim, 2); /* of the digest before */
    ch_write64(&w, from);
    ch_write64(&w, 1);
    ch_write16(&w, 1);
    ch_write16(&w, 1);
    ch_message_item(&w, commit, c->length);
    ch_message_item(&w, block->header, block->length);
    struct sim_body *reply = sim_body(node->index, CH_MESSAGE_COMMITS, out, w.used);
    sim_send(sim, node->index, body->from, reply, 0);
    sim_body_drop(reply);
}

void sim_byzantine_message(struct sim *sim, struct sim_node *node, const struct sim_body *body)
{
    if (does(sim, node, SIM_STRATEGY_BIT_REFUSE_FETCH, 800))
        return;
    if (body->type == CH_MESSAGE_GET_PAYLOAD && body->length == CH_REF_BYTES) {
        struct ch_ref ref = ch_ref_read(body->bytes);
        const struct sim_block *block = sim_block_find(sim, &ref);
        if (block && block->handle)
            sim_send_payload(sim, node->index, body->from, &ref,
                             block->handle - (block->handle > 1 && does(sim, node, SIM_STRATEGY_BIT_WRONG_FETCH, 500)));
    } else if (body->type == CH_MESSAGE_GET_BLOCKS && body->length >= 6) {
        answer_blocks(sim, node, body);
    } else if (body->type == CH_MESSAGE_WHO_AM_I && body->length == CH_HASH_BYTES) {
        answer_who_am_i(sim, node, body);
    } else if (body->type == CH_MESSAGE_GET_COMMITS && body->length == 16) {
        answer_commits(sim, node, body);
    }
}
