#include "node/tx_check.h"

#include <stdlib.h>

#define BATCH_TXS 1024u

struct ch_tx_check {
    struct ch_node *node;
    struct ch_ed25519 *verifier;
    struct ch_tx_prefixes prefixes;
    size_t count, tx_count; /* gathered */
    struct ch_ed25519_item items[2 * BATCH_TXS];
    bool valid[2 * BATCH_TXS];
    struct ch_payload_tx *tx_of[2 * BATCH_TXS];
    bool is_approval[2 * BATCH_TXS];
    uint8_t approvals[BATCH_TXS][CH_APPROVAL_MESSAGE_BYTES_MAX];
};

void ch_tx_prefixes_init(struct ch_tx_prefixes *p, const uint8_t chain_id[CH_HASH_BYTES])
{
    p->tx_length = (uint32_t)ch_sign_prefix(CH_DOMAIN_TX, chain_id, p->tx);
    p->approve_length = (uint32_t)ch_sign_prefix(CH_DOMAIN_APPROVE, chain_id, p->approve);
}

size_t ch_tx_items(const struct ch_tx_prefixes *p, const struct ch_tx *tx, struct ch_ed25519_item items[2],
                   uint8_t approval[CH_APPROVAL_MESSAGE_BYTES_MAX])
{
    items[0] = (struct ch_ed25519_item){
        .key = tx->sender,
        .signature = tx->bytes,
        .prefix = p->tx,
        .prefix_length = p->tx_length,
        .message = tx->bytes + CH_TX_SIGNED_OFFSET,
        .message_length = tx->length - (uint32_t)CH_TX_SIGNED_OFFSET,
    };
    if (tx->kind != CH_TX_REGISTER)
        return 1;
    items[1] = (struct ch_ed25519_item){
        .key = tx->registrar,
        .signature = tx->approval,
        .prefix = p->approve,
        .prefix_length = p->approve_length,
        .message = approval,
        .message_length = (uint32_t)ch_tx_approval_message(tx, approval),
    };
    return 2;
}

ch_err ch_tx_check_open(struct ch_node *node, struct ch_tx_check **out)
{
    struct ch_tx_check *c = calloc(1, sizeof *c);
    if (!c)
        return CH_ERR_NO_MEMORY;
    c->node = node;
    ch_tx_prefixes_init(&c->prefixes, node->chain_id);
    const struct ch_ed25519_options options = {
        .batch_max = 2 * BATCH_TXS,
        .cached_keys_max = (uint32_t)node->config.stages_cached_keys,
    };
    ch_err err = ch_ed25519_open(&options, &c->verifier);
    if (err != CH_OK) {
        free(c);
        return err;
    }
    *out = c;
    return CH_OK;
}

void ch_tx_check_close(struct ch_tx_check *c)
{
    if (c)
        ch_ed25519_close(c->verifier);
    free(c);
}

static void check_gathered(struct ch_tx_check *c)
{
#ifdef CH_ACCEPT_ALL
    memset(c->valid, true, c->count);
#else
    if (c->count)
        ch_ed25519_verify(c->verifier, c->items, c->count, c->valid);
#endif
    for (size_t k = 0; k < c->count; k++)
        *(c->is_approval[k] ? &c->tx_of[k]->approval_ok : &c->tx_of[k]->signature_ok) = c->valid[k];
    ch_count(&c->node->metrics.apply_signatures_checked_total, c->count);
    ch_count(&c->node->metrics.apply_signature_batches_total, c->count != 0);
    c->count = c->tx_count = 0;
}

void ch_tx_check_add(struct ch_tx_check *c, struct ch_payload *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct ch_tx tx;
        struct ch_payload_tx *entry = &p->txs[i];
        if (entry->signature_ok) {
            ch_count(&c->node->metrics.apply_signatures_known_total, 1);
            continue;
        }
        if (ch_tx_parse(p->bytes + entry->offset, p->length - entry->offset, &tx) != CH_STATUS_OK)
            continue;
        if (c->tx_count == BATCH_TXS)
            check_gathered(c);
        size_t more = ch_tx_items(&c->prefixes, &tx, c->items + c->count, c->approvals[c->tx_count++]);
        for (size_t k = 0; k < more; k++, c->count++) {
            c->tx_of[c->count] = entry;
            c->is_approval[c->count] = k == 1;
        }
    }
}

void ch_tx_check_end(struct ch_tx_check *c)
{
    check_gathered(c);
}
