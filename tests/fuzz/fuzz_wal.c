/* A log frame as bytes, as they are and with the crcs that make them pass: whatever is called whole has records that
 * lie inside it. */
#include <isa-l.h>
#include <stdlib.h>

#include "store/wal_impl.h"

static void read_frame(const uint8_t *frame, size_t size)
{
    struct frame_header h;
    if (!ch_wal_frame_parse(frame, &h) || h.length > size || !ch_wal_frame_whole(frame, &h))
        return;
    uint32_t offset = FRAME_HEADER_BYTES;
    for (uint32_t i = 0; i < h.record_count; i++) {
        uint8_t type;
        struct ch_bytes body;
        CH_ASSERT(offset + CH_WAL_RECORD_HEADER_BYTES <= h.length);
        offset = ch_wal_frame_record(frame, offset, &type, &body);
        CH_ASSERT(offset <= h.length && body.data + body.length == frame + offset);
    }
    CH_ASSERT(offset == h.length);
}

static uint32_t crc32c(uint8_t *data, size_t length)
{
    return ~crc32_iscsi(data, (int)length, ~0u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < FRAME_HEADER_BYTES || size > CH_WAL_FRAME_BYTES_MAX)
        return 0;
    read_frame(data, size);
    uint8_t *copy = malloc(size);
    CH_ASSERT(copy);
    memcpy(copy, data, size);
    ch_store32(copy, 0x314c5743u);
    uint32_t length = ch_load32(copy + 12);
    if (length < FRAME_HEADER_BYTES || length > size)
        ch_store32(copy + 12, length = (uint32_t)size);
    ch_store32(copy + 8, crc32c(copy + FRAME_HEADER_BYTES, length - FRAME_HEADER_BYTES));
    ch_store32(copy + 4, crc32c(copy + 8, FRAME_HEADER_BYTES - 8));
    read_frame(copy, size);
    free(copy);
    return 0;
}
