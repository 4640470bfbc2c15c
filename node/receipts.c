#include "node/receipts.h"

#include "base/merkle.h"

#include <stdlib.h>

#define RECEIPTS_A_FRAME 8192
#define SIGNED_A_FRAME   512 /* with a path of 14 hashes each they take half a frame */

struct ch_receipts {
    struct ch_node *node;
    struct ch_quic *quic;
    uint8_t sign_prefix[CH_SIGN_PREFIX_BYTES_MAX];
    size_t sign_prefix_length;
    /* scratch for one payload */
    uint8_t (*receipts)[CH_RECEIPT_BYTES];
    uint8_t (*tree)[CH_HASH_BYTES]; /* of max_items leaves */
    uint8_t *proof;
    size_t proof_bytes_max;
};

/* Signs the payload's receipts as one tree; the caller writes each one's path. */
static void sign_receipts(struct ch_receipts *r, uint32_t count, uint8_t signature[CH_SIGNATURE_BYTES])
{
    uint8_t message[CH_HASH_BYTES + 4];
    ch_merkle_build(r->tree, count, message);
    ch_store32(message + CH_HASH_BYTES, count);
    ch_sign(&r->node->key, r->sign_prefix, r->sign_prefix_length, message, sizeof message, signature);
}

static size_t write_proof(struct ch_receipts *r, uint32_t first, uint32_t count, uint32_t leaves,
                          const uint8_t signature[CH_SIGNATURE_BYTES])
{
    struct ch_writer w = ch_writer(r->proof, r->proof_bytes_max);
    ch_write32(&w, leaves);
    ch_write(&w, signature, CH_SIGNATURE_BYTES);
    for (uint32_t i = first; i < first + count; i++) {
        uint8_t path[CH_MERKLE_DEPTH_MAX][CH_HASH_BYTES];
        uint32_t length = ch_merkle_path((const uint8_t(*)[CH_HASH_BYTES])r->tree, leaves, i, path);
        ch_write32(&w, i);
        ch_write8(&w, (uint8_t)length);
        ch_write(&w, path, length * (size_t)CH_HASH_BYTES);
    }
    return w.bad ? 0 : w.used;
}

void ch_receipts_send(struct ch_receipts *r, const struct ch_payload *payload)
{
    bool any_signed = false;
    for (uint32_t i = 0; i < payload->count; i++) {
        const struct ch_payload_tx *tx = &payload->txs[i];
        struct ch_receipt receipt = {
            .status = tx->status,
            .level = CH_LEVEL_FINAL,
            .commit_index = tx->commit_index,
            .commit_time_ms = tx->commit_time_ms,
            .log_index = tx->log_index,
            .inbox_sequence = tx->inbox_sequence,
        };
        memcpy(receipt.tx_id, tx->id, CH_HASH_BYTES);
        ch_receipt_write(&receipt, r->receipts[i]);
        any_signed |= tx->source.connection && (tx->source.flags & CH_FRAME_FLAG_WANT_SIGNED);
    }
    uint8_t signature[CH_SIGNATURE_BYTES];
    if (any_signed) {
        for (uint32_t i = 0; i < payload->count; i++)
            ch_merkle_leaf(r->receipts[i], CH_RECEIPT_BYTES, r->tree[i]);
        sign_receipts(r, payload->count, signature);
    }
    for (uint32_t first = 0, count; first < payload->count; first += count) {
        const struct ch_source *source = &payload->txs[first].source;
        bool with_proof = source->flags & CH_FRAME_FLAG_WANT_SIGNED;
        uint32_t most = with_proof ? SIGNED_A_FRAME : RECEIPTS_A_FRAME;
        for (count = 1; count < most && first + count < payload->count; count++) {
            const struct ch_source *next = &payload->txs[first + count].source;
            if (next->connection != source->connection || next->request != source->request)
                break;
        }
        if (!source->connection || !(source->flags & (CH_FRAME_FLAG_WANT_FINAL | CH_FRAME_FLAG_WANT_SIGNED)))
            continue;
        uint8_t counted[2];
        ch_store16(counted, (uint16_t)count);
        struct ch_bytes parts[3] = {{counted, 2}, {r->receipts[first], count * (size_t)CH_RECEIPT_BYTES}};
        struct ch_frame_header header = {.type = CH_FRAME_RECEIPTS, .request = source->request};
        if (with_proof) {
            header.flags |= CH_FRAME_FLAG_SIGNED;
            parts[2] = (struct ch_bytes){r->proof, write_proof(r, first, count, payload->count, signature)};
        }
        ch_err err = ch_quic_send(r->quic, source->connection, &header, parts, with_proof ? 3 : 2);
        if (err == CH_OK) {
            ch_count(&r->node->metrics.net_receipts_final_sent_total, count);
            continue;
        }
        ch_count(&r->node->metrics.net_receipts_undeliverable_total, count);
        if (err == CH_ERR_FULL)
            ch_quic_hang_up(r->quic, source->connection, CH_QUIC_CODE_OVERLOADED, "receipts are not read");
    }
}

ch_err ch_receipts_open(struct ch_node *node, struct ch_quic *quic, struct ch_receipts **out)
{
    struct ch_receipts *r = calloc(1, sizeof *r);
    if (!r)
        return CH_ERR_NO_MEMORY;
    const uint64_t items = node->genesis.params.max_items;
    r->node = node;
    r->quic = quic;
    r->sign_prefix_length = ch_sign_prefix(CH_DOMAIN_RECEIPT, node->chain_id, r->sign_prefix);
    r->receipts = calloc(items, sizeof *r->receipts); /* max_items each */
    r->tree = calloc(CH_MERKLE_NODES(items), sizeof *r->tree);
    r->proof_bytes_max = 4 + CH_SIGNATURE_BYTES + SIGNED_A_FRAME * (5 + CH_MERKLE_DEPTH_MAX * CH_HASH_BYTES);
    r->proof = malloc(r->proof_bytes_max);
    if (!r->receipts || !r->tree || !r->proof) {
        ch_receipts_close(r);
        return CH_ERR_NO_MEMORY;
    }
    *out = r;
    return CH_OK;
}

void ch_receipts_close(struct ch_receipts *r)
{
    if (!r)
        return;
    free(r->receipts);
    free(r->tree);
    free(r->proof);
    free(r);
}
