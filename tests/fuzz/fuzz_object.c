/* Bytes of an object segment, as they are and with the crcs that make them pass: a record, a footer with its trailer, a
 * header slot. What is read says nothing that doesn't fit. */
#include <isa-l.h>
#include <stdlib.h>

#include "store/object_impl.h"

static uint32_t crc32c(uint8_t *data, size_t length)
{
    return ~crc32_iscsi(data, (int)length, ~0u);
}

static void read_record(const uint8_t *bytes, size_t size)
{
    struct record record;
    uint8_t again[RECORD_HEADER_BYTES];
    if (size < RECORD_HEADER_BYTES || !object_record_read(bytes, &record))
        return;
    CH_ASSERT(record.length <= CH_BLOCK_BYTES_MAX && ch_cid_valid(record.cid.bytes));
    object_record_write(again, &record);
    CH_ASSERT(memcmp(again + 8, bytes + 8, 60) == 0); /* beyond are zeros that nobody reads */
}

/* The input is a footer, which lies at the start of the data. */
static void read_footer(const uint8_t *bytes, size_t size)
{
    struct trailer trailer;
    if (size < CH_IO_BLOCK_BYTES || size % CH_IO_BLOCK_BYTES ||
        !object_trailer_read(bytes + size - CH_IO_BLOCK_BYTES, 1, DATA_START + size, &trailer))
        return;
    CH_ASSERT(trailer.offset >= DATA_START && footer_bytes(trailer.count) == DATA_START + size - trailer.offset);
    struct entry *entries = malloc((size_t)trailer.count * sizeof *entries + 1);
    CH_ASSERT(entries);
    (void)object_footer_read(bytes + (trailer.offset - DATA_START), &trailer, entries);
    free(entries);
}

static void read_slot(const uint8_t *bytes, size_t size)
{
    static const uint8_t key[CH_OBJECT_KEY_BYTES];
    struct slot slot;
    if (size >= SLOT_BYTES)
        (void)object_slot_read(bytes, key, &slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < RECORD_HEADER_BYTES || size > 1u << 20)
        return 0;
    read_record(data, size);
    read_footer(data, size);
    read_slot(data, size);

    uint8_t *copy = malloc(size);
    CH_ASSERT(copy);
    memcpy(copy, data, size);
    ch_store32(copy, 0x31524f43u);
    ch_store32(copy + 4, crc32c(copy + 8, RECORD_HEADER_BYTES - 8));
    read_record(copy, size);
    if (size >= CH_IO_BLOCK_BYTES) {
        uint8_t *trailer = copy + size - CH_IO_BLOCK_BYTES;
        memcpy(copy, data, size);
        ch_store32(trailer, 0x31464f43u);
        ch_store32(trailer + 4, crc32c(trailer + 8, 56));
        read_footer(copy, size);
        memcpy(copy, data, size);
        ch_store32(copy, 0x31424f43u);
        ch_store32(copy + 4, crc32c(copy + 8, 120));
        read_slot(copy, size);
    }
    free(copy);
    return 0;
}
