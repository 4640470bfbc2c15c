/* store/wal_recover.c - finds the log again: which files are its segments, where it ends, and whether all that was
 * promised is there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/wal_impl.h"

/* A look through one segment; what was read is kept and used again. */
struct look {
    struct ch_wal *wal;
    struct ch_file *file;
    uint32_t number;
    uint32_t start, length; /* the bytes of wal->memory that are of this segment */
};

static void stop_look(struct look *look)
{
    ch_io_close_file(look->wal->io, look->file);
    look->file = NULL;
}

static ch_err look_at(struct look *look, uint32_t number)
{
    char path[CH_IO_PATH_BYTES_MAX];
    stop_look(look);
    ch_wal_path(look->wal, number, NULL, path);
    look->number = number;
    look->start = look->length = 0;
    return ch_io_open(look->wal->io, path, CH_IO_WRITE | CH_IO_DIRECT, &look->file);
}

/* `length` bytes at `offset` (a multiple of a block), or NULL where the segment ends before. */
static ch_err bytes_at(struct look *look, uint32_t offset, uint32_t length, const uint8_t **out)
{
    struct ch_wal *w = look->wal;
    *out = NULL;
    if (offset >= w->segment_bytes || length > w->segment_bytes - offset)
        return CH_OK;
    if (offset < look->start || offset + length > look->start + look->length) {
        size_t room = w->memory_bytes - ZERO_BYTES, left = w->segment_bytes - offset, got;
        ch_err err = ch_io_read(w->io, look->file, w->memory, left < room ? left : room, offset, &got);
        if (err != CH_OK)
            return err;
        look->start = offset;
        look->length = (uint32_t)got;
        if (length > got)
            return CH_OK;
    }
    *out = w->memory + (offset - look->start);
    return CH_OK;
}

/* A frame's header that says of itself that it lies here; *is is false when there is none. */
static ch_err header_at(struct look *look, uint32_t offset, struct frame_header *h, bool *is)
{
    const uint8_t *bytes;
    ch_err err = bytes_at(look, offset, CH_IO_BLOCK_BYTES, &bytes);
    *is = err == CH_OK && bytes && ch_wal_frame_parse(bytes, h) && h->position == position_at(look->number, offset) &&
          (look->wal->log_id == 0 || h->log_id == look->wal->log_id) && h->length <= look->wal->segment_bytes - offset;
    return err;
}

/* The chain, as far as it was followed. */
struct chain {
    bool begun;
    uint32_t segment, offset; /* the end: where the next frame would be */
    uint32_t last_segment;    /* of the last frame */
    uint32_t previous_crc;
    uint64_t generation, next_lsn;
    uint64_t seen_generation, seen_lsn; /* the highest of any frame, also of those beyond the end */
    bool promised_lost;                 /* a frame beyond the end says that what is missing was durable */
};

static ch_err replay(struct ch_wal *w, const struct ch_wal_options *options, const uint8_t *frame,
                     const struct frame_header *h)
{
    uint32_t offset = FRAME_HEADER_BYTES;
    for (uint32_t i = 0; options->replay && i < h->record_count; i++) {
        struct ch_wal_record record = {.lsn = h->lsn + i,
                                       .position = h->position + offset + CH_WAL_RECORD_HEADER_BYTES};
        struct ch_bytes body;
        offset = ch_wal_frame_record(frame, offset, &record.type, &body);
        record.body = body.data;
        record.length = body.length;
        ch_err err = options->replay(options->context, &record);
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* Takes the frame at the chain's end if it fits; *took tells. */
static ch_err follow(struct look *look, const struct ch_wal_options *options, struct chain *c, bool *took)
{
    struct frame_header h;
    const uint8_t *frame;
    *took = false;
    ch_err err = header_at(look, c->offset, &h, took);
    if (err != CH_OK || !*took)
        return err;
    bool next = h.lsn == c->next_lsn || (h.record_count == 0 && h.lsn > c->next_lsn);
    *took = !c->begun || (next && h.generation >= c->generation && h.previous_crc == c->previous_crc);
    if (!*took)
        return CH_OK;
    err = bytes_at(look, c->offset, h.length, &frame);
    *took = err == CH_OK && frame && ch_wal_frame_whole(frame, &h);
    if (!*took)
        return err;
    c->begun = true;
    c->last_segment = look->number;
    c->offset += blocks(h.length);
    c->previous_crc = h.header_crc;
    c->generation = h.generation;
    c->next_lsn = h.lsn + h.record_count;
    return replay(look->wal, options, frame, &h);
}

/* Follows the chain from the start of segment `from` to its end. */
static ch_err follow_all(struct look *look, const struct ch_wal_options *options, uint32_t from, struct chain *c)
{
    *c = (struct chain){.segment = from};
    for (uint32_t number = from; number <= look->wal->last_number; number++) {
        bool took;
        uint32_t end = c->offset;
        ch_err err = look_at(look, number);
        if (err != CH_OK)
            return err;
        c->offset = 0;
        do
            err = follow(look, options, c, &took);
        while (err == CH_OK && took);
        /* What was read may still be in a cache: it is promised again from now on, so it must be durable. */
        if (err == CH_OK && c->offset)
            err = ch_io_sync(look->wal->io, look->file);
        if (err != CH_OK)
            return err;
        if (c->offset == 0) { /* the log did not go on here: its end is in the segment before */
            c->offset = end;
            break;
        }
        c->segment = number;
    }
    return CH_OK;
}

/* Looks beyond the end of the chain for frames of this log. */
static ch_err look_beyond(struct look *look, struct chain *c)
{
    c->seen_generation = c->generation;
    c->seen_lsn = c->next_lsn - 1;
    for (uint32_t number = c->segment; number <= look->wal->last_number; number++) {
        ch_err err = look_at(look, number);
        for (uint32_t at = number == c->segment ? c->offset : 0; err == CH_OK && at < look->wal->segment_bytes;
             at += CH_IO_BLOCK_BYTES) {
            struct frame_header h;
            bool is;
            err = header_at(look, at, &h, &is);
            if (err != CH_OK || !is)
                continue;
            if (h.generation > c->seen_generation)
                c->seen_generation = h.generation;
            if (h.lsn + h.record_count - 1 > c->seen_lsn)
                c->seen_lsn = h.lsn + h.record_count - 1;
            if (h.durable_lsn >= c->next_lsn)
                c->promised_lost = true;
        }
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* The segment size is that of the newest segment that is in use; its number and the log's id are learnt with it.
 * CH_ERR_NOT_FOUND: there is no log; CH_ERR_LOG_DAMAGED: there was one. */
static ch_err find_newest(struct look *look, const struct segment_numbers *found, size_t *newest)
{
    bool all_zero = true;
    for (size_t i = found->count; i-- > 0;) {
        struct frame_header h;
        const uint8_t *block;
        uint64_t bytes;
        bool is = false;
        ch_err err = look_at(look, found->number[i]);
        if (err == CH_OK)
            err = ch_io_size(look->wal->io, look->file, &bytes);
        if (err == CH_OK && (bytes % CH_IO_BLOCK_BYTES || bytes == 0 || bytes > 1u << 31))
            continue;
        if (err == CH_OK) {
            look->wal->segment_bytes = (uint32_t)bytes;
            err = header_at(look, 0, &h, &is);
        }
        if (err == CH_OK && !is) {
            err = bytes_at(look, 0, CH_IO_BLOCK_BYTES, &block);
            for (int k = 0; err == CH_OK && block && k < CH_IO_BLOCK_BYTES; k++)
                all_zero &= block[k] == 0;
        }
        if (err != CH_OK)
            return err;
        if (is) {
            look->wal->log_id = h.log_id;
            *newest = i;
            return CH_OK;
        }
    }
    return all_zero ? CH_ERR_NOT_FOUND : CH_ERR_LOG_DAMAGED;
}

/* Where reading begins; damage when what the caller still needs is no longer there. */
static ch_err find_start(const struct ch_wal *w, ch_wal_position replay_from, uint32_t *start)
{
    uint32_t wanted = segment_of(replay_from), first = atomic_load(&w->first_number);
    *start = wanted ? wanted : first;
    return *start < first || *start > w->last_number ? CH_ERR_LOG_DAMAGED : CH_OK;
}

/* Which files make up the log: the run of numbers without a gap around the newest segment in use; and where reading
 * begins. Others are left over from a cut or a preparation that a power loss undid by half. Where what is needed is
 * missing, none is removed. */
static ch_err find_segments(struct look *look, ch_wal_position replay_from, uint32_t *start)
{
    struct ch_wal *w = look->wal;
    struct segment_numbers found = {0};
    size_t newest;
    char path[CH_IO_PATH_BYTES_MAX];
    ch_err err = segments_find(w->io, w->dir, "wal", &found);
    if (err == CH_OK && found.count == 0)
        err = CH_ERR_NOT_FOUND;
    if (err != CH_OK)
        goto fail;
    err = find_newest(look, &found, &newest);
    stop_look(look);
    if (err != CH_OK)
        goto fail;
    size_t low = newest, high = newest;
    while (low > 0 && found.number[low - 1] + 1 == found.number[low])
        low--;
    while (high + 1 < found.count && found.number[high] + 1 == found.number[high + 1])
        high++;
    atomic_store(&w->first_number, found.number[low]);
    w->last_number = found.number[high];
    err = find_start(w, replay_from, start);
    for (size_t i = 0; err == CH_OK && i < found.count; i++)
        if (i < low || i > high) {
            ch_wal_path(w, found.number[i], NULL, path);
            err = ch_io_unlink(w->io, path);
        }
fail:
    free(found.number);
    return err;
}

ch_err ch_wal_recover(struct ch_wal *w, const struct ch_wal_options *options)
{
    struct look look = {.wal = w};
    struct chain chain;
    uint32_t start;
    char path[CH_IO_PATH_BYTES_MAX];
    ch_wal_path(w, 0, "prepare", path);
    ch_err err = ch_io_unlink(w->io, path);
    if (err == CH_OK || err == CH_ERR_NOT_FOUND)
        err = find_segments(&look, options->replay_from, &start);
    if (err == CH_OK && w->frame_bytes_max > w->segment_bytes)
        err = CH_ERR_INVALID;
    if (err == CH_OK)
        err = ch_io_sync_dir(w->io, w->dir);
    if (err != CH_OK)
        goto fail;
    do
        err = follow_all(&look, options, start, &chain);
    while (err == CH_OK && !chain.begun && options->accept_damage && ++start <= w->last_number);
    if (err == CH_OK && !chain.begun)
        err = CH_ERR_LOG_DAMAGED;
    if (err == CH_OK)
        err = look_beyond(&look, &chain);
    if (err == CH_OK && chain.promised_lost && !options->accept_damage)
        err = CH_ERR_LOG_DAMAGED;
    stop_look(&look);
    if (err != CH_OK)
        goto fail;

    w->generation = chain.seen_generation + 1;
    /* No lsn that was promised once may come to mean something else. */
    w->next_lsn = chain.promised_lost ? chain.seen_lsn + 1 : chain.next_lsn;
    w->durable_lsn = w->next_lsn - 1;
    w->durable_segment = chain.last_segment;
    w->previous_crc = chain.previous_crc;
    if (w->segment_bytes - chain.offset < CH_IO_BLOCK_BYTES && chain.segment == w->last_number) {
        w->current_number = chain.segment;
        err = ch_wal_add_segment(w);
    }
    if (err == CH_OK)
        err = ch_wal_enter(w, chain.segment, chain.offset);
    atomic_store(&w->durable_end, position_at(chain.segment, chain.offset));
    return err;
fail:
    stop_look(&look);
    return err;
}
