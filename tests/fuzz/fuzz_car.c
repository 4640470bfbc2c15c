/* A CAR: what the reader takes is written to the same bytes. */
#include "wire/car.h"

struct copy {
    const uint8_t *data;
    size_t at;
};

static ch_err take(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct copy *copy = context;
    uint8_t head[CH_CAR_SECTION_BYTES_MAX];
    size_t n = ch_car_section(cid, length, head);
    /* A length may be written longer than need be: then the bytes are others. */
    if (memcmp(copy->data + copy->at, head, n) == 0)
        CH_ASSERT(memcmp(copy->data + copy->at + n, block, length) == 0);
    copy->at += n + length;
    return CH_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ch_car_reader *reader;
    struct ch_cid root;
    struct copy copy = {data, CH_CAR_HEADER_BYTES};
    CH_ASSERT(ch_car_reader_open(take, &copy, &reader) == CH_OK);
    size_t half = size / 2;
    enum ch_car_verdict verdict = ch_car_reader_add(reader, data, half);
    if (verdict == CH_CAR_OK)
        verdict = ch_car_reader_add(reader, data + half, size - half);
    if (ch_car_reader_end(reader, &root) == CH_CAR_OK) {
        uint8_t header[CH_CAR_HEADER_BYTES];
        ch_car_header(&root, header);
        CH_ASSERT(memcmp(header, data, sizeof header) == 0);
    }
    ch_car_reader_close(reader);
    return 0;
}
