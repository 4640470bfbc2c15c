/* wire/car.h - CARv1: blocks in one stream, each with its CID, so that whoever has it can check and store them.
 *
 * What:    the bytes before the blocks, the bytes before a block; a reader that takes a stream in pieces of any size.
 * Not:     no order of blocks (wire/cid.h, ch_unixfs_walk); roots but one; no CARv2.
 * Source:  ipld.io/specs/transport/car/carv1.
 * Thread:  no state; a ch_car_reader is its owner's.
 */
#ifndef CHAPPE_WIRE_CAR_H
#define CHAPPE_WIRE_CAR_H

#include "wire/cid.h"

#define CH_CAR_HEADER_BYTES      (1 + 17 + 1 + CH_CID_BYTES + 4)
#define CH_CAR_SECTION_BYTES_MAX (3 + CH_CID_BYTES) /* before the block */

/* Writes the header of a CAR with one root. */
void ch_car_header(const struct ch_cid *root, uint8_t to[CH_CAR_HEADER_BYTES]);
/* Writes what stands before a block of so many bytes (at most CH_BLOCK_BYTES_MAX); returns how many bytes. */
size_t ch_car_section(const struct ch_cid *cid, size_t block_length, uint8_t to[CH_CAR_SECTION_BYTES_MAX]);

enum ch_car_verdict {
    CH_CAR_OK,
    CH_CAR_NO_CAR,      /* the stream doesn't begin as a CARv1 with one root that is a CID of ours (wire/cid.h) */
    CH_CAR_BAD_SECTION, /* a block too long, or a CID of another kind */
    CH_CAR_BAD_BLOCK,   /* its bytes are not those that its CID names */
    CH_CAR_CUT,         /* it ended inside a block */
    CH_CAR_STOPPED,     /* the taker did */
};
const char *ch_car_verdict_text(enum ch_car_verdict verdict);

/* Takes each block once its bytes are checked; anything but CH_OK ends the reading. */
typedef ch_err (*ch_car_taker)(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length);

/* About 1 MiB. */
struct ch_car_reader;
CH_MUST_CHECK ch_err ch_car_reader_open(ch_car_taker take, void *context, struct ch_car_reader **out);
CH_MUST_CHECK enum ch_car_verdict ch_car_reader_add(struct ch_car_reader *reader, const uint8_t *bytes, size_t length);
/* At the end of the stream; `root` is the header's. */
CH_MUST_CHECK enum ch_car_verdict ch_car_reader_end(struct ch_car_reader *reader, struct ch_cid *root);
void ch_car_reader_close(struct ch_car_reader *reader); /* NULL is fine */

#endif
