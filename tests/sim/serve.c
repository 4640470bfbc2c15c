/* What an honest node sends: its machine's messages, checked as they leave (I5, I6), and answers out of its log. */
#include "tests/sim/sim.h"

static const struct sim_record *durable_block(const struct sim_node *node, const struct ch_ref *ref)
{
    for (size_t k = node->durable; k--;)
        if (node->log[k].ref.round == ref->round && memcmp(&node->log[k].ref, ref, sizeof *ref) == 0)
            return &node->log[k];
    return NULL;
}

/* I6: what a block builds on lies before it in the log (what is collected may be gone from a log that began anew). */
static bool history_durable(const struct sim_node *node, const struct sim_record *record)
{
    struct ch_block b;
    ch_block_view(record->bytes, (uint32_t)record->length, &b);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        const struct ch_ref ref = ch_block_ancestor(&b, i);
        const struct sim_record *ancestor =
            ref.round + 1 == b.round && ref.round > 0 ? durable_block(node, &ref) : record;
        if (!ancestor || ancestor > record)
            return false;
    }
    return true;
}

/* I5, I6 of a header of this node's on its way out. */
static void check_own(struct sim *sim, struct sim_node *node, const uint8_t *bytes, size_t length)
{
    struct ch_block b;
    if (ch_block_parse(&sim->committee, bytes, length, &b) != CH_BLOCK_OK) {
        sim_fail(sim, "I8: node %u sends a header that is not valid", node->index);
        return;
    }
    if (b.author != node->index)
        return;
    struct ch_ref ref = {.round = b.round, .author = b.author};
    ch_block_digest(&sim->committee, &b, ref.digest);
    if (b.round >= node->own_room) {
        const uint32_t room = 2 * (b.round + 128);
        struct ch_ref *own = sim_alloc(room * sizeof *own);
        if (node->own_room)
            memcpy(own, node->own, node->own_room * sizeof *own);
        free(node->own);
        node->own = own;
        node->own_room = room;
    }
    struct ch_ref *seen = &node->own[b.round];
    if (seen->round && memcmp(seen, &ref, sizeof ref) != 0)
        sim_fail(sim, "I5: node %u sends two blocks of round %u", node->index, b.round);
    if (seen->round) /* it was durable then; a lost disk may have taken it away since */
        return;
    *seen = ref;
    const struct sim_record *record = durable_block(node, &ref);
    const bool durable = record && history_durable(node, record);
    if (!durable || node->guard.round < b.round)
        sim_fail(sim, "I6: node %u sends its block of round %u before it is durable", node->index, b.round);
    struct sim_block *block = sim_block_find(sim, &ref);
    if (block)
        sim_block_sent(sim, block);
}

static void check_sent(struct sim *sim, struct sim_node *node, enum ch_message_type type, struct ch_bytes body)
{
    if (type == CH_MESSAGE_HEADER)
        check_own(sim, node, body.data, body.length);
    if (type == CH_MESSAGE_TIP && body.length > 4)
        check_own(sim, node, body.data + 4, body.length - 4);
    if (type == CH_MESSAGE_I_AM && body.length > 96)
        check_own(sim, node, body.data + 96, body.length - 96);
    if (type != CH_MESSAGE_BLOCKS)
        return;
    struct ch_reader r = ch_reader(body.data, body.length);
    for (unsigned count = ch_read16(&r); count && !r.bad; count--) {
        uint32_t length = ch_read32(&r);
        const uint8_t *header = ch_read(&r, length);
        if (header)
            check_own(sim, node, header, length);
    }
}

void sim_node_send(struct sim *sim, struct sim_node *node, uint16_t to, enum ch_message_type type,
                   struct ch_bytes bytes)
{
    check_sent(sim, node, type, bytes);
    struct sim_body *body = sim_body(node->index, type, bytes.data, bytes.length);
    for (uint16_t peer = 0; peer < sim->n; peer++)
        if (to == CH_CORE_NOBODY || to == peer)
            sim_send(sim, node->index, peer, body, 0);
    sim_body_drop(body);
}

void sim_serve_blocks(struct sim *sim, struct sim_node *node, uint16_t to, struct ch_bytes body)
{
    static uint8_t out[CH_MESSAGE_BODY_BYTES_MAX];
    struct ch_writer w = ch_writer(out, sizeof out);
    const unsigned count = ch_load16(body.data + 4);
    uint16_t found = 0;
    ch_write16(&w, 0);
    for (unsigned i = 0; i < count; i++) {
        struct ch_ref ref = ch_ref_read(body.data + 6 + (size_t)i * CH_REF_BYTES);
        const struct sim_record *r = durable_block(node, &ref);
        if (!r)
            continue;
        ch_message_item(&w, r->bytes, r->length);
        found++;
    }
    ch_store16(out, found);
    if (found)
        sim_node_send(sim, node, to, CH_MESSAGE_BLOCKS, (struct ch_bytes){out, w.used});
}

void sim_serve_payload(struct sim *sim, struct sim_node *node, uint16_t to, struct ch_bytes body)
{
    struct ch_ref ref = ch_ref_read(body.data);
    const struct sim_record *r = durable_block(node, &ref);
    if (r && r->handle)
        sim_send_payload(sim, node->index, to, &ref, r->handle);
}

void sim_serve_commits(struct sim *sim, struct sim_node *node, uint16_t to, uint64_t from, uint64_t last)
{
    static uint8_t out[CH_MESSAGE_BODY_BYTES_MAX];
    const struct sim_record *proof = NULL;
    uint64_t end = 0;
    for (size_t k = 0; k < node->durable; k++) {
        const struct sim_record *r = &node->log[k];
        const uint64_t index = r->type == CH_RECORD_VOTE_CERT ? ch_load64(r->bytes) : 0;
        if (index < from || index > node->applied || index >= from + CH_MESSAGE_COMMITS_MAX || (proof && end >= last))
            continue;
        proof = r;
        end = index;
    }
    struct ch_writer w = ch_writer(out, sizeof out);
    ch_write64(&w, from);
    ch_write64(&w, 1);
    ch_write16(&w, (uint16_t)(proof ? end - from + 1 : 0));
    ch_write16(&w, 0);
    for (uint64_t i = from; proof && i <= end; i++)
        ch_message_item(&w, sim->commits[i - 1].bytes, sim->commits[i - 1].length);
    uint16_t headers = 0;
    struct ch_reader r = proof ? ch_reader(proof->bytes + 40, proof->length - 40) : ch_reader(NULL, 0);
    for (; r.left && !r.bad; headers++) {
        uint32_t length = ch_read32(&r);
        ch_message_item(&w, ch_read(&r, length), length);
    }
    ch_store16(out + 18, headers);
    if (!w.bad)
        sim_node_send(sim, node, to, CH_MESSAGE_COMMITS, (struct ch_bytes){out, w.used});
}

