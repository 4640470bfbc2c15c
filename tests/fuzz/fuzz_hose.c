/* A fire hose datagram is walked inside its bytes, and every promised transaction is met or counted as lost. */
#include "base/error.h"
#include "wire/hose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t count = 0, met = 0;
    struct ch_tx tx;
    if (!ch_hose_check(data, size, &count))
        return 0;
    CH_ASSERT(count > 0);
    struct ch_hose_walk walk = ch_hose_walk(data, size, count);
    for (const uint8_t *at = data + CH_HOSE_HEADER_BYTES; ch_hose_next(&walk, &tx); at += tx.length, met++)
        CH_ASSERT(tx.bytes == at && tx.length >= CH_TX_BYTES_MIN && tx.length <= size - (size_t)(at - data));
    CH_ASSERT(met + walk.left == count && walk.at <= size);
    return 0;
}
