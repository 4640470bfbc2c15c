#include "dataplane/stream.h"

#include <stdlib.h>

/* A kept buffer of this size stays with its stream when it is empty, so that frames that straddle two packets cost
 * no allocation; larger ones are given back. */
#define KEPT_BYTES 8192
/* Given back are those worth a place among the budget's spare ones: a new one costs a page fault for each 4 KiB. */
#define LARGE_BYTES (256u << 10)

struct ch_stream_chunk {
    struct ch_stream_chunk *next;
    uint32_t used;
    uint8_t bytes[CH_STREAM_CHUNK_BYTES];
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void ch_stream_budget_close(struct ch_stream_budget *budget)
{
    while (budget->spare) {
        struct ch_stream_chunk *chunk = budget->spare;
        budget->spare = chunk->next;
        free(chunk);
    }
    while (budget->larges)
        free(budget->large[--budget->larges].bytes);
}

/* The header at the start of `bytes`, and the whole frame's length; 0 while the header isn't whole, SIZE_MAX: too long.
 */
static size_t frame_bytes(const uint8_t *bytes, size_t length, struct ch_frame_header *header)
{
    if (length < CH_FRAME_HEADER_BYTES)
        return 0;
    *header = ch_frame_header_read(bytes);
    return header->length > CH_FRAME_BODY_BYTES_MAX ? SIZE_MAX : (size_t)CH_FRAME_HEADER_BYTES + header->length;
}

/* Hands out whole frames from `data` on; *used is what they had. */
static enum ch_stream_verdict hand_out(struct ch_stream_in *in, const uint8_t *data, size_t length,
                                       ch_stream_taker take, void *context, size_t *used)
{
    size_t at = 0;
    enum ch_stream_verdict verdict = CH_STREAM_OK;
    for (;;) {
        struct ch_frame_header header;
        size_t whole = frame_bytes(data + at, length - at, &header);
        if (whole == SIZE_MAX) {
            verdict = CH_STREAM_TOO_LONG;
            break;
        }
        if (whole == 0 || whole > length - at)
            break;
        if (!take(context, &header, data + at + CH_FRAME_HEADER_BYTES)) {
            verdict = CH_STREAM_WAITS;
            break;
        }
        at += whole;
    }
    in->waits = verdict == CH_STREAM_WAITS;
    *used = at;
    return verdict;
}

/* Moves what is kept into a spare large buffer, where there is one. */
static void take_large(struct ch_stream_in *in, struct ch_stream_budget *budget)
{
    if (!budget->larges)
        return;
    uint8_t *bytes = budget->large[budget->larges - 1].bytes;
    size_t capacity = budget->large[budget->larges - 1].capacity;
    if (capacity <= in->capacity || capacity - in->capacity > budget->most - budget->used)
        return;
    budget->larges--;
    memcpy(bytes, in->kept, in->to);
    free(in->kept);
    budget->used += capacity - in->capacity;
    in->kept = bytes;
    in->capacity = capacity;
}

static bool keep(struct ch_stream_in *in, struct ch_stream_budget *budget, const uint8_t *data, size_t length)
{
    if (length == 0)
        return true;
    if (length > in->capacity - in->to && in->from > 0) {
        memmove(in->kept, in->kept + in->from, in->to - in->from);
        in->to -= in->from;
        in->from = 0;
    }
    if (in->capacity >= KEPT_BYTES && length > in->capacity - in->to)
        take_large(in, budget);
    if (length > in->capacity - in->to) {
        size_t capacity = in->capacity ? in->capacity * 2 : KEPT_BYTES;
        while (capacity - in->to < length)
            capacity *= 2;
        if (capacity - in->capacity > budget->most - budget->used)
            return false;
        uint8_t *kept = realloc(in->kept, capacity);
        if (!kept)
            return false;
        budget->used += capacity - in->capacity;
        in->kept = kept;
        in->capacity = capacity;
    }
    memcpy(in->kept + in->to, data, length);
    in->to += length;
    return true;
}

static void settle(struct ch_stream_in *in, struct ch_stream_budget *budget)
{
    if (in->from < in->to)
        return;
    in->from = in->to = 0;
    if (in->capacity > KEPT_BYTES)
        ch_stream_in_free(in, budget);
}

enum ch_stream_verdict ch_stream_in_add(struct ch_stream_in *in, struct ch_stream_budget *budget, const uint8_t *data,
                                        size_t length, ch_stream_taker take, void *context)
{
    if (in->waits)
        return keep(in, budget, data, length) ? CH_STREAM_WAITS : CH_STREAM_NO_MEMORY;
    /* First finish the frame whose beginning is kept: its header, then exactly the rest of it. */
    while (in->from < in->to && length > 0) {
        struct ch_frame_header header;
        size_t have = in->to - in->from, whole = frame_bytes(in->kept + in->from, have, &header);
        size_t more = smaller(length, (whole ? whole : CH_FRAME_HEADER_BYTES) - have);
        if (!keep(in, budget, data, more))
            return CH_STREAM_NO_MEMORY;
        data += more;
        length -= more;
        size_t used;
        enum ch_stream_verdict verdict = hand_out(in, in->kept + in->from, in->to - in->from, take, context, &used);
        in->from += used;
        settle(in, budget);
        if (verdict == CH_STREAM_WAITS)
            return keep(in, budget, data, length) ? verdict : CH_STREAM_NO_MEMORY;
        if (verdict != CH_STREAM_OK)
            return verdict;
    }
    if (length == 0)
        return CH_STREAM_OK;
    size_t used;
    enum ch_stream_verdict verdict = hand_out(in, data, length, take, context, &used);
    if (verdict == CH_STREAM_TOO_LONG)
        return verdict;
    return keep(in, budget, data + used, length - used) ? verdict : CH_STREAM_NO_MEMORY;
}

enum ch_stream_verdict ch_stream_in_resume(struct ch_stream_in *in, struct ch_stream_budget *budget,
                                           ch_stream_taker take, void *context)
{
    if (!in->waits)
        return CH_STREAM_OK;
    size_t used;
    enum ch_stream_verdict verdict = hand_out(in, in->kept + in->from, in->to - in->from, take, context, &used);
    in->from += used;
    settle(in, budget);
    return verdict;
}

bool ch_stream_in_between(const struct ch_stream_in *in)
{
    return in->from == in->to;
}

void ch_stream_in_free(struct ch_stream_in *in, struct ch_stream_budget *budget)
{
    budget->used -= in->capacity;
    if (in->capacity >= LARGE_BYTES && budget->larges < CH_STREAM_LARGE_MAX) {
        budget->large[budget->larges].bytes = in->kept;
        budget->large[budget->larges++].capacity = in->capacity;
    } else {
        free(in->kept);
    }
    *in = (struct ch_stream_in){0};
}

static struct ch_stream_chunk *chunk_new(struct ch_stream_budget *budget)
{
    struct ch_stream_chunk *chunk = budget->spare;
    if (chunk)
        budget->spare = chunk->next;
    else
        chunk = malloc(sizeof *chunk);
    if (chunk) {
        chunk->next = NULL;
        chunk->used = 0;
        budget->used += CH_STREAM_CHUNK_BYTES;
    }
    return chunk;
}

static void chunk_free(struct ch_stream_budget *budget, struct ch_stream_chunk *chunk)
{
    budget->used -= CH_STREAM_CHUNK_BYTES;
    chunk->next = budget->spare;
    budget->spare = chunk;
}

/* Appends a chain of chunks with room for `length` bytes beyond what the last one has. */
static ch_err grow(struct ch_stream_out *out, struct ch_stream_budget *budget, size_t length)
{
    size_t room = out->last ? CH_STREAM_CHUNK_BYTES - out->last->used : 0;
    size_t count = length > room ? (length - room + CH_STREAM_CHUNK_BYTES - 1) / CH_STREAM_CHUNK_BYTES : 0;
    if (count * CH_STREAM_CHUNK_BYTES > budget->most - budget->used)
        return CH_ERR_FULL;
    struct ch_stream_chunk *chain = NULL, **link = &chain;
    for (size_t i = 0; i < count; i++) {
        if (!(*link = chunk_new(budget)))
            goto fail;
        link = &(*link)->next;
    }
    if (out->last)
        out->last->next = chain;
    else
        out->first = out->last = chain;
    return CH_OK;
fail:
    while (chain) {
        struct ch_stream_chunk *chunk = chain;
        chain = chunk->next;
        chunk_free(budget, chunk);
    }
    return CH_ERR_NO_MEMORY;
}

static void append(struct ch_stream_out *out, const uint8_t *data, size_t length)
{
    while (length > 0) {
        if (out->last->used == CH_STREAM_CHUNK_BYTES)
            out->last = out->last->next;
        size_t n = smaller(length, CH_STREAM_CHUNK_BYTES - out->last->used);
        memcpy(out->last->bytes + out->last->used, data, n);
        out->last->used += (uint32_t)n;
        out->end += n;
        data += n;
        length -= n;
    }
}

ch_err ch_stream_out_add(struct ch_stream_out *out, struct ch_stream_budget *budget,
                         const struct ch_frame_header *header, const struct ch_bytes *parts, size_t part_count)
{
    size_t length = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].length > CH_FRAME_BODY_BYTES_MAX - length)
            return CH_ERR_INVALID;
        length += parts[i].length;
    }
    ch_err err = grow(out, budget, CH_FRAME_HEADER_BYTES + length);
    if (err)
        return err;
    struct ch_frame_header h = *header;
    h.length = (uint32_t)length;
    uint8_t bytes[CH_FRAME_HEADER_BYTES];
    ch_frame_header_write(&h, bytes);
    if (!out->next) {
        struct ch_stream_chunk *last = out->last;
        out->next = last->used == CH_STREAM_CHUNK_BYTES ? last->next : last;
    }
    append(out, bytes, sizeof bytes);
    for (size_t i = 0; i < part_count; i++)
        append(out, parts[i].data, parts[i].length);
    return CH_OK;
}

size_t ch_stream_out_peek(const struct ch_stream_out *out, struct ch_bytes *pieces, size_t count_max)
{
    size_t count = 0;
    /* All chunks but the last are full, so a position's place in its chunk is its distance from base. */
    size_t at = (size_t)((out->sent - out->base) % CH_STREAM_CHUNK_BYTES);
    for (struct ch_stream_chunk *chunk = out->next; chunk && count < count_max; chunk = chunk->next, at = 0)
        if (chunk->used > at)
            pieces[count++] = (struct ch_bytes){chunk->bytes + at, chunk->used - at};
    return count;
}

void ch_stream_out_sent(struct ch_stream_out *out, uint64_t length)
{
    CH_ASSERT(length <= out->end - out->sent);
    uint64_t at = (out->sent - out->base) % CH_STREAM_CHUNK_BYTES + length;
    out->sent += length;
    for (; at >= CH_STREAM_CHUNK_BYTES && out->next; at -= CH_STREAM_CHUNK_BYTES)
        out->next = out->next->next;
    if (out->sent == out->end)
        out->next = NULL;
}

void ch_stream_out_acknowledged(struct ch_stream_out *out, struct ch_stream_budget *budget, uint64_t position)
{
    CH_ASSERT(position >= out->acknowledged && position <= out->sent);
    out->acknowledged = position;
    bool all = position == out->end;
    while (out->first && (all || position - out->base >= CH_STREAM_CHUNK_BYTES)) {
        struct ch_stream_chunk *chunk = out->first;
        out->first = chunk->next;
        out->base += CH_STREAM_CHUNK_BYTES;
        chunk_free(budget, chunk);
    }
    if (!out->first) {
        out->last = out->next = NULL;
        out->base = position;
    }
}

void ch_stream_out_free(struct ch_stream_out *out, struct ch_stream_budget *budget)
{
    while (out->first) {
        struct ch_stream_chunk *chunk = out->first;
        out->first = chunk->next;
        chunk_free(budget, chunk);
    }
    *out = (struct ch_stream_out){0};
}
