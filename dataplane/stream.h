/* dataplane/stream.h - between the bytes of a stream and whole frames: cutting on arrival, keeping until acknowledged.
 *
 * What:    ch_stream_in hands out whole frames (wire/frame.h), in place where one lies in one piece, else gathered;
 * what the taker can't take waits. ch_stream_out keeps what was queued, unmoved, until the peer has acknowledged it.
 * Not:     no connections, no flow control: the owner grants windows, and so bounds what can wait.
 * Thread:  one owner for a budget and all streams on it.
 * Memory:  grows with the bytes that came, never with a length that a peer only claims; all of it counted against a
 * budget.
 */
#ifndef CHAPPE_DATAPLANE_STREAM_H
#define CHAPPE_DATAPLANE_STREAM_H

#include "wire/frame.h"

#define CH_STREAM_CHUNK_BYTES                                                                                          \
    16384 /* what an out stream grows by; the smallest that a 1 KiB frame doesn't waste much of */

struct ch_stream_chunk;

#define CH_STREAM_LARGE_MAX 4

/* Bytes that all streams of an engine may hold together; chunks, and buffers that large frames came in, to use
 * again. */
struct ch_stream_budget {
    uint64_t used, most; /* bytes */
    struct ch_stream_chunk *spare;
    struct {
        uint8_t *bytes;
        size_t capacity;
    } large[CH_STREAM_LARGE_MAX];
    unsigned larges;
};

/* Frees what is spare; the streams must have been freed before. */
void ch_stream_budget_close(struct ch_stream_budget *budget);

/* True: taken. False: keep it, and offer it again at ch_stream_in_resume. */
typedef bool (*ch_stream_taker)(void *context, const struct ch_frame_header *header, const uint8_t *body);

enum ch_stream_verdict {
    CH_STREAM_OK,
    CH_STREAM_WAITS,    /* a whole frame was not taken; bytes are kept from it on */
    CH_STREAM_TOO_LONG, /* a header claims more than CH_FRAME_BODY_BYTES_MAX; the stream is of no more use */
    CH_STREAM_NO_MEMORY /* beyond the budget, or none left; the stream is of no more use */
};

struct ch_stream_in {
    uint8_t *kept;
    size_t from, to, capacity; /* kept[from, to) waits */
    bool waits;
};

/* Takes the next bytes of the stream; frames that are whole by them go to `take`. */
enum ch_stream_verdict ch_stream_in_add(struct ch_stream_in *in, struct ch_stream_budget *budget, const uint8_t *data,
                                        size_t length, ch_stream_taker take, void *context);
/* Offers again what waits. */
enum ch_stream_verdict ch_stream_in_resume(struct ch_stream_in *in, struct ch_stream_budget *budget,
                                           ch_stream_taker take, void *context);
/* Whether the stream stands at a frame's end. */
bool ch_stream_in_between(const struct ch_stream_in *in);
void ch_stream_in_free(struct ch_stream_in *in, struct ch_stream_budget *budget);

/* Positions are offsets in the stream: acknowledged <= sent <= end. */
struct ch_stream_out {
    struct ch_stream_chunk *first, *last, *next; /* next: where `sent` is; NULL when sent == end */
    uint64_t base;                               /* position of the first chunk's first byte */
    uint64_t acknowledged, sent, end;
};

/* Queues one frame, all or nothing; header->length is taken from the parts. CH_ERR_FULL: beyond the budget;
 * CH_ERR_INVALID: a body longer than CH_FRAME_BODY_BYTES_MAX; CH_ERR_NO_MEMORY. */
CH_MUST_CHECK ch_err ch_stream_out_add(struct ch_stream_out *out, struct ch_stream_budget *budget,
                                       const struct ch_frame_header *header, const struct ch_bytes *parts,
                                       size_t part_count);
/* Up to `count_max` pieces of what was not sent yet; gives their number. They stay where they are until acknowledged.
 */
size_t ch_stream_out_peek(const struct ch_stream_out *out, struct ch_bytes *pieces, size_t count_max);
/* `length` more bytes of those have been sent. */
void ch_stream_out_sent(struct ch_stream_out *out, uint64_t length);
/* The peer has all before `position` (<= sent). */
void ch_stream_out_acknowledged(struct ch_stream_out *out, struct ch_stream_budget *budget, uint64_t position);
void ch_stream_out_free(struct ch_stream_out *out, struct ch_stream_budget *budget);

static inline uint64_t ch_stream_out_waiting(const struct ch_stream_out *out)
{
    return out->end - out->acknowledged;
}

#endif
