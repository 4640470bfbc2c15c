/* node/tx_check.h - the signatures of transactions: as items of a batch, and of the payloads that others made.
 *
 * Thread: a checker belongs to one thread. Memory: all at open.
 */
#ifndef CHAPPE_NODE_TX_CHECK_H
#define CHAPPE_NODE_TX_CHECK_H

#include "crypto/ed25519.h"
#include "node/node.h"

/* What precedes the signed bytes. */
struct ch_tx_prefixes {
    uint8_t tx[CH_SIGN_PREFIX_BYTES_MAX], approve[CH_SIGN_PREFIX_BYTES_MAX];
    uint32_t tx_length, approve_length;
};
void ch_tx_prefixes_init(struct ch_tx_prefixes *prefixes, const uint8_t chain_id[CH_HASH_BYTES]);

/* The signatures to check of `tx`: 1, and for a REGISTER the registrar's as the second; its message is written to
 * `approval`, which must hold as long as the items. */
size_t ch_tx_items(const struct ch_tx_prefixes *prefixes, const struct ch_tx *tx, struct ch_ed25519_item items[2],
                   uint8_t approval[CH_APPROVAL_MESSAGE_BYTES_MAX]);

struct ch_tx_check;
CH_MUST_CHECK ch_err ch_tx_check_open(struct ch_node *node, struct ch_tx_check **out);
void ch_tx_check_close(struct ch_tx_check *check);
/* Gathers the transactions of a payload that is not `verified`, over several payloads, and checks them in batches:
 * those whose signature_ok is set were verified before, and are counted and left alone. The others' signature_ok and
 * approval_ok hold after the end; the payloads must stay until then. */
void ch_tx_check_add(struct ch_tx_check *check, struct ch_payload *payload);
void ch_tx_check_end(struct ch_tx_check *check);

#endif
