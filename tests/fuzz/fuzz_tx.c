/* What parses as a transaction encodes to the same bytes, and every field lies inside them. */
#include "base/error.h"
#include "wire/tx.h"

static void within(const struct ch_tx *tx, const uint8_t *field, size_t length)
{
    CH_ASSERT(!field || (field >= tx->bytes && field + length <= tx->bytes + tx->length));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ch_tx tx;
    if (ch_tx_parse(data, size, &tx) != CH_STATUS_OK)
        return 0;
    within(&tx, tx.sender, CH_KEY_BYTES);
    within(&tx, tx.peer, CH_KEY_BYTES);
    within(&tx, tx.seal_key, CH_KEY_BYTES);
    within(&tx, tx.registrar, CH_KEY_BYTES);
    within(&tx, tx.approval, CH_SIGNATURE_BYTES);
    within(&tx, tx.handle, tx.handle_length);
    within(&tx, tx.hello, tx.hello_length);
    within(&tx, tx.commitment, CH_HASH_BYTES);
    within(&tx, tx.location, CH_LOCATION_BYTES);
    within(&tx, tx.inline_bytes, tx.inline_length);
    uint8_t again[CH_TX_BYTES_MAX], message[CH_APPROVAL_MESSAGE_BYTES_MAX];
    CH_ASSERT(ch_tx_encode(&tx, again) == tx.length);
    CH_ASSERT(memcmp(again + CH_TX_SIGNED_OFFSET, tx.bytes + CH_TX_SIGNED_OFFSET,
                     tx.length - (size_t)CH_TX_SIGNED_OFFSET) == 0);
    if (tx.kind == CH_TX_REGISTER) {
        CH_ASSERT(ch_tx_approval_message(&tx, message) == 73u + tx.handle_length);
        (void)ch_handle_valid(tx.handle, tx.handle_length);
    }
    return 0;
}
