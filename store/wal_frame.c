/* store/wal_frame.c - the bytes of a frame.
 *
 * A segment is a sequence of frames, each at a multiple of 4096, up to the first place where no frame fits the chain;
 * what follows is older. The log goes on at the start of the next segment where a frame no longer fitted.
 *
 * | offset | bytes | field |
 * | 0  | 4 | magic "CWL1" |
 * | 4  | 4 | crc32c of bytes 8..63 |
 * | 8  | 4 | crc32c of the records (bytes 64..length-1) |
 * | 12 | 4 | length: header and records |
 * | 16 | 8 | generation |
 * | 24 | 8 | lsn of the first record (of the next record when there is none) |
 * | 32 | 8 | durable lsn at the time of writing |
 * | 40 | 8 | position of this frame: segment << 32 / offset |
 * | 48 | 8 | log id |
 * | 56 | 4 | record count; 0 in the frame that opens a generation |
 * | 60 | 4 | bytes 4..7 of the previous frame; 0 in the first |
 * | 64 | . | records: u32 length of the body, u8 type, body |
 * | .  | . | zeros up to a multiple of 4096 |
 *
 * A frame follows another when its generation is not lower, its lsn is the next (an opening frame's may be higher:
 * after accepted damage) and bytes 60..63 fit. All numbers are little-endian.
 */
#include "store/crc32c_impl.h"
#include "store/wal_impl.h"

#define MAGIC 0x314c5743u /* "CWL1" */

void ch_wal_frame_seal(uint8_t *frame, struct frame_header *h)
{
    h->records_crc = crc32c(frame + FRAME_HEADER_BYTES, h->length - FRAME_HEADER_BYTES);
    struct ch_writer w = ch_writer(frame, FRAME_HEADER_BYTES);
    ch_write32(&w, MAGIC);
    ch_write32(&w, 0);
    ch_write32(&w, h->records_crc);
    ch_write32(&w, h->length);
    ch_write64(&w, h->generation);
    ch_write64(&w, h->lsn);
    ch_write64(&w, h->durable_lsn);
    ch_write64(&w, h->position);
    ch_write64(&w, h->log_id);
    ch_write32(&w, h->record_count);
    ch_write32(&w, h->previous_crc);
    CH_ASSERT(!w.bad && w.used == FRAME_HEADER_BYTES);
    h->header_crc = crc32c(frame + 8, FRAME_HEADER_BYTES - 8);
    ch_store32(frame + 4, h->header_crc);
    memset(frame + h->length, 0, blocks(h->length) - h->length);
}

bool ch_wal_frame_parse(const uint8_t *frame, struct frame_header *h)
{
    struct ch_reader r = ch_reader(frame, FRAME_HEADER_BYTES);
    if (ch_read32(&r) != MAGIC)
        return false;
    h->header_crc = ch_read32(&r);
    if (h->header_crc != crc32c(frame + 8, FRAME_HEADER_BYTES - 8))
        return false;
    h->records_crc = ch_read32(&r);
    h->length = ch_read32(&r);
    h->generation = ch_read64(&r);
    h->lsn = ch_read64(&r);
    h->durable_lsn = ch_read64(&r);
    h->position = ch_read64(&r);
    h->log_id = ch_read64(&r);
    h->record_count = ch_read32(&r);
    h->previous_crc = ch_read32(&r);
    return h->length >= FRAME_HEADER_BYTES && h->length <= CH_WAL_FRAME_BYTES_MAX;
}

bool ch_wal_frame_whole(const uint8_t *frame, const struct frame_header *h)
{
    if (crc32c(frame + FRAME_HEADER_BYTES, h->length - FRAME_HEADER_BYTES) != h->records_crc)
        return false;
    struct ch_reader r = ch_reader(frame + FRAME_HEADER_BYTES, h->length - FRAME_HEADER_BYTES);
    for (uint32_t i = 0; i < h->record_count && !r.bad; i++) {
        uint32_t length = ch_read32(&r);
        (void)ch_read8(&r);
        (void)ch_read(&r, length);
    }
    return ch_reader_done(&r);
}

uint32_t ch_wal_frame_record(const uint8_t *frame, uint32_t offset, uint8_t *type, struct ch_bytes *body)
{
    body->length = ch_load32(frame + offset);
    *type = frame[offset + 4];
    body->data = frame + offset + CH_WAL_RECORD_HEADER_BYTES;
    return offset + CH_WAL_RECORD_HEADER_BYTES + (uint32_t)body->length;
}
