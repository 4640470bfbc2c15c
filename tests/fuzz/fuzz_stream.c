/* A stream in pieces of any size gives the same frames as in one piece; what isn't taken waits; all memory comes back.
 * Input: 1 byte piece size, 1 byte how often the taker refuses, then the stream. */
#include "dataplane/stream.h"

#include <stdlib.h>

struct taken {
    uint64_t count, sum;
    unsigned int refuse_every, offers;
};

static bool take(void *context, const struct ch_frame_header *header, const uint8_t *body)
{
    struct taken *t = context;
    if (t->refuse_every && ++t->offers % t->refuse_every == 0)
        return false;
    t->count++;
    t->sum = t->sum * 31 + header->length + header->type + header->flags + header->request;
    for (size_t i = 0; i < header->length; i++)
        t->sum = t->sum * 31 + body[i];
    return true;
}

static enum ch_stream_verdict feed(const uint8_t *data, size_t length, size_t piece, struct taken *t)
{
    struct ch_stream_in in = {0};
    struct ch_stream_budget budget = {.most = 16 << 20};
    enum ch_stream_verdict v = CH_STREAM_OK;
    for (size_t at = 0; at < length && v != CH_STREAM_TOO_LONG; at += piece) {
        size_t n = length - at < piece ? length - at : piece;
        uint8_t *exact = malloc(n);
        memcpy(exact, data + at, n);
        v = ch_stream_in_add(&in, &budget, exact, n, take, t);
        free(exact);
        if (v == CH_STREAM_WAITS && at / piece % 3 == 0)
            v = ch_stream_in_resume(&in, &budget, take, t);
    }
    while (v == CH_STREAM_WAITS)
        v = ch_stream_in_resume(&in, &budget, take, t);
    CH_ASSERT(v != CH_STREAM_NO_MEMORY && budget.used <= budget.most);
    ch_stream_in_free(&in, &budget);
    CH_ASSERT(budget.used == 0);
    return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct taken whole = {0}, pieces = {.refuse_every = data[1] == 1 ? 2 : data[1]};
    enum ch_stream_verdict a = feed(data + 2, size - 2, size - 2, &whole);
    enum ch_stream_verdict b = feed(data + 2, size - 2, 1 + (size_t)data[0], &pieces);
    CH_ASSERT(a == b && whole.count == pieces.count && whole.sum == pieces.sum);
    return 0;
}
