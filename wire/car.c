/* wire/car.c
 *
 * Header: varint(58), then in DAG-CBOR {"roots": [CID], "version": 1}: a2 65 "roots" 81 d8 2a 58 25 00 CID(36)
 * 67 "version" 01. Then for each block: varint(36 + its length), CID, block.
 */
#include "wire/car.h"

#include <stdlib.h>

static const uint8_t before_root[] = {0x3a, 0xa2, 0x65, 'r', 'o', 'o', 't', 's', 0x81, 0xd8, 0x2a, 0x58, 0x25, 0x00};
static const uint8_t after_root[] = {0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x01};
_Static_assert(sizeof before_root + CH_CID_BYTES + sizeof after_root == CH_CAR_HEADER_BYTES, "the header's length");

void ch_car_header(const struct ch_cid *root, uint8_t to[CH_CAR_HEADER_BYTES])
{
    memcpy(to, before_root, sizeof before_root);
    memcpy(to + sizeof before_root, root->bytes, CH_CID_BYTES);
    memcpy(to + sizeof before_root + CH_CID_BYTES, after_root, sizeof after_root);
}

size_t ch_car_section(const struct ch_cid *cid, size_t block_length, uint8_t to[CH_CAR_SECTION_BYTES_MAX])
{
    struct ch_writer w = ch_writer(to, CH_CAR_SECTION_BYTES_MAX);
    size_t length = CH_CID_BYTES + block_length;
    for (; length >= 0x80; length >>= 7)
        ch_write8(&w, (uint8_t)(length | 0x80));
    ch_write8(&w, (uint8_t)length);
    ch_write(&w, cid->bytes, CH_CID_BYTES);
    CH_ASSERT(!w.bad);
    return w.used;
}

const char *ch_car_verdict_text(enum ch_car_verdict verdict)
{
    static const char *const texts[] = {
        [CH_CAR_OK] = "good",
        [CH_CAR_NO_CAR] = "not a CAR of version 1 with one root as this store makes them",
        [CH_CAR_BAD_SECTION] = "a block is too long, or its address of a kind that this store doesn't take",
        [CH_CAR_BAD_BLOCK] = "a block is not what its address names",
        [CH_CAR_CUT] = "it is cut off",
        [CH_CAR_STOPPED] = "stopped",
    };
    return texts[verdict];
}

struct ch_car_reader {
    ch_car_taker take;
    void *context;
    enum ch_car_verdict verdict;
    struct ch_cid root;
    bool header_done, length_done;
    unsigned shift; /* of the next digit of a section's length */
    size_t length;  /* of the section */
    size_t used;    /* of bytes */
    uint8_t bytes[CH_CID_BYTES + CH_BLOCK_BYTES_MAX];
};

ch_err ch_car_reader_open(ch_car_taker take, void *context, struct ch_car_reader **out)
{
    struct ch_car_reader *r = calloc(1, sizeof *r);
    if (!r)
        return CH_ERR_NO_MEMORY;
    r->take = take;
    r->context = context;
    *out = r;
    return CH_OK;
}

void ch_car_reader_close(struct ch_car_reader *r)
{
    free(r);
}

static enum ch_car_verdict take_header(struct ch_car_reader *r)
{
    const uint8_t *root = r->bytes + sizeof before_root;
    if (memcmp(r->bytes, before_root, sizeof before_root) != 0 || !ch_cid_valid(root) ||
        memcmp(root + CH_CID_BYTES, after_root, sizeof after_root) != 0)
        return CH_CAR_NO_CAR;
    memcpy(r->root.bytes, root, CH_CID_BYTES);
    r->header_done = true;
    r->used = 0;
    return CH_CAR_OK;
}

static enum ch_car_verdict take_length(struct ch_car_reader *r, uint8_t digit)
{
    r->length |= (size_t)(digit & 0x7f) << r->shift;
    r->shift += 7;
    if ((digit & 0x80) && r->shift < 28)
        return CH_CAR_OK;
    if ((digit & 0x80) || r->length < CH_CID_BYTES || r->length > sizeof r->bytes)
        return CH_CAR_BAD_SECTION;
    r->length_done = true;
    return CH_CAR_OK;
}

static enum ch_car_verdict take_section(struct ch_car_reader *r)
{
    struct ch_cid cid;
    const uint8_t *block = r->bytes + CH_CID_BYTES;
    size_t length = r->length - CH_CID_BYTES;
    if (!ch_cid_valid(r->bytes))
        return CH_CAR_BAD_SECTION;
    memcpy(cid.bytes, r->bytes, CH_CID_BYTES);
    if (!ch_cid_matches(&cid, block, length))
        return CH_CAR_BAD_BLOCK;
    r->used = r->length = r->shift = 0;
    r->length_done = false;
    return r->take(r->context, &cid, block, length) == CH_OK ? CH_CAR_OK : CH_CAR_STOPPED;
}

enum ch_car_verdict ch_car_reader_add(struct ch_car_reader *r, const uint8_t *bytes, size_t length)
{
    while (length && r->verdict == CH_CAR_OK) {
        if (r->header_done && !r->length_done) {
            r->verdict = take_length(r, *bytes++);
            length--;
            continue;
        }
        size_t want = r->header_done ? r->length : CH_CAR_HEADER_BYTES;
        size_t take = want - r->used < length ? want - r->used : length;
        memcpy(r->bytes + r->used, bytes, take);
        r->used += take;
        bytes += take;
        length -= take;
        if (r->used == want)
            r->verdict = r->header_done ? take_section(r) : take_header(r);
    }
    return r->verdict;
}

enum ch_car_verdict ch_car_reader_end(struct ch_car_reader *r, struct ch_cid *root)
{
    if (r->verdict == CH_CAR_OK && !r->header_done)
        r->verdict = CH_CAR_NO_CAR;
    else if (r->verdict == CH_CAR_OK && (r->length_done || r->shift))
        r->verdict = CH_CAR_CUT;
    if (r->verdict == CH_CAR_OK)
        *root = r->root;
    return r->verdict;
}
