/* store/object_recover.c - segments again after a start: what their trailers say, records of those that have none; and
 * footers made again. */
#include <stdio.h>
#include <stdlib.h>

#include "store/object_impl.h"

/* CH_ERR_CORRUPT: there is none that is whole, or that the disk gives. */
static ch_err trailer_load(struct ch_object_store *s, struct ch_file *file, uint32_t number, uint64_t file_bytes,
                           struct trailer *trailer)
{
    uint8_t *block;
    size_t got;
    if (file_bytes < DATA_START + CH_IO_BLOCK_BYTES || file_bytes % CH_IO_BLOCK_BYTES)
        return CH_ERR_CORRUPT;
    if (posix_memalign((void **)&block, CH_IO_BLOCK_BYTES, CH_IO_BLOCK_BYTES) != 0)
        return CH_ERR_NO_MEMORY;
    ch_err err = ch_io_read(s->io, file, block, CH_IO_BLOCK_BYTES, file_bytes - CH_IO_BLOCK_BYTES, &got);
    if (err == CH_ERR_IO ||
        (err == CH_OK && (got < CH_IO_BLOCK_BYTES || !object_trailer_read(block, number, file_bytes, trailer))))
        err = CH_ERR_CORRUPT;
    free(block);
    return err;
}

ch_err object_footer_load(struct ch_object_store *s, struct ch_file *file, uint32_t number, uint64_t file_bytes,
                          struct entry **entries, uint32_t *count)
{
    uint8_t *bytes = NULL;
    struct trailer trailer;
    size_t got;
    ch_err err = trailer_load(s, file, number, file_bytes, &trailer);
    if (err != CH_OK)
        return err;
    size_t length = footer_bytes(trailer.count);
    struct entry *loaded = malloc((size_t)trailer.count * sizeof *loaded + 1);
    if (!loaded || posix_memalign((void **)&bytes, CH_IO_BLOCK_BYTES, length) != 0) {
        free(loaded);
        return CH_ERR_NO_MEMORY;
    }
    err = ch_io_read(s->io, file, bytes, length, trailer.offset, &got);
    if (err == CH_ERR_IO || (err == CH_OK && (got < length || !object_footer_read(bytes, &trailer, loaded))))
        err = CH_ERR_CORRUPT;
    free(bytes);
    if (err != CH_OK) {
        free(loaded);
        return err;
    }
    *entries = loaded;
    *count = trailer.count;
    return CH_OK;
}

/* --- reading the records of a segment that has no footer --- */

struct scan {
    struct ch_object_store *store;
    struct object_segment *segment;
    struct object_key *key;
    uint32_t incarnation; /* of the key, 0: none */
    uint8_t *plain;
    uint8_t *memory; /* more than a record, and a block */
    size_t memory_bytes;
    uint64_t start, length; /* bytes of the file in it */
    uint64_t bad_until;     /* before it is what the disk does not give: no more than what is needed is asked for */
    uint64_t end;           /* of the last whole record */
    uint32_t incarnation_max;
};

/* `length` bytes at `offset`; *out NULL when the file has fewer, or the disk does not give them. */
static ch_err bytes_at(struct scan *scan, uint64_t offset, uint64_t length, const uint8_t **out)
{
    const struct object_segment *segment = scan->segment;
    *out = NULL;
    if (offset + length > segment->file_bytes)
        return CH_OK;
    if (offset < scan->start || offset + length > scan->start + scan->length) {
        size_t got = 0;
        uint64_t from = offset / CH_IO_BLOCK_BYTES * CH_IO_BLOCK_BYTES, left = segment->file_bytes - from;
        uint64_t need = round_up(offset + length, CH_IO_BLOCK_BYTES) - from, room = scan->memory_bytes - SLOT_BYTES;
        bool few = offset < scan->bad_until;
        room = few ? need : left < room ? left : room;
        ch_err err = ch_io_read(scan->store->io, segment->file, scan->memory, room, from, &got);
        if (err == CH_ERR_IO && !few) {
            scan->bad_until = from + room;
            err = ch_io_read(scan->store->io, segment->file, scan->memory, need, from, &got);
        }
        if (err != CH_OK && err != CH_ERR_IO)
            return err;
        scan->start = from;
        scan->length = err == CH_OK ? got : 0;
        if (offset + length > scan->start + scan->length)
            return CH_OK;
    }
    *out = scan->memory + (offset - scan->start);
    return CH_OK;
}

/* Takes the record at `at` if one is there and whole; *step is how far to go on. */
static ch_err take_record(struct scan *scan, uint64_t at, uint64_t *step)
{
    struct object_segment *segment = scan->segment;
    struct record record;
    const uint8_t *bytes;
    *step = UNIT_BYTES;
    ch_err err = bytes_at(scan, at, RECORD_HEADER_BYTES, &bytes);
    if (err == CH_OK && !bytes) /* no record ends in this block, or the disk does not give it */
        *step = CH_IO_BLOCK_BYTES - at % CH_IO_BLOCK_BYTES;
    if (err != CH_OK || !bytes || !object_record_read(bytes, &record) || record.segment != segment->slot.segment)
        return err;
    if (record.incarnation > scan->incarnation_max)
        scan->incarnation_max = record.incarnation;
    err = bytes_at(scan, at, record_bytes(record.length), &bytes);
    if (err != CH_OK || !bytes)
        return err;
    if (scan->incarnation != record.incarnation) {
        object_key_derive(scan->store->crypt, scan->store->master_key, &segment->slot, record.incarnation, scan->key);
        scan->incarnation = record.incarnation;
    }
    /* A torn record: its batch was never answered. Others of the batch may be whole, so only this one is left out. */
    object_open_begin(scan->store->crypt, scan->key, bytes, &record, scan->plain, false);
    if (!object_open_end(scan->store->crypt))
        return CH_OK;
    struct entry entry = {.unit = (uint32_t)(at / UNIT_BYTES),
                          .length = record.length,
                          .kind = (uint8_t)record.kind,
                          .codec = (uint8_t)ch_cid_codec(&record.cid),
                          .tag = record.tag};
    memcpy(entry.digest, ch_cid_digest(&record.cid), CH_HASH_BYTES);
    *step = record_bytes(record.length);
    scan->end = at + *step;
    return object_entry_add(segment, &entry);
}

/* Fills segment->entry from the records; *incarnation is the newest that was seen. */
static ch_err scan_records(struct ch_object_store *s, struct object_segment *segment, uint8_t *memory,
                           size_t memory_bytes, uint32_t *incarnation)
{
    struct scan scan = {
        .store = s, .segment = segment, .memory = memory, .memory_bytes = memory_bytes, .end = DATA_START};
    scan.plain = malloc(CH_BLOCK_BYTES_MAX);
    ch_err err = scan.plain ? object_key_new(&scan.key) : CH_ERR_NO_MEMORY;
    uint64_t step;
    for (uint64_t at = DATA_START; err == CH_OK && at < segment->file_bytes; at += step)
        err = take_record(&scan, at, &step);
    object_key_free(scan.key);
    free(scan.plain);
    segment->data_end = round_up(scan.end, CH_IO_BLOCK_BYTES);
    *incarnation = scan.incarnation_max;
    return err;
}

/* --- a footer that the disk has changed --- */

/* The places of a segment at which no record was found. */
struct loss {
    const struct object_segment *segment; /* its entries in the order of the disk */
    struct place *place;
    size_t count, capacity;
    bool no_memory;
};

static void note_lost(void *context, const struct place *place)
{
    struct loss *loss = context;
    const struct object_segment *segment = loss->segment;
    uint32_t low = 0, high = segment->entry_count;
    if (place->segment != segment->slot.segment)
        return;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (segment->entry[middle].unit < place->unit)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < segment->entry_count && segment->entry[low].unit == place->unit)
        return;
    if (loss->count == loss->capacity) {
        size_t capacity = loss->capacity ? 2 * loss->capacity : 16;
        struct place *grown = realloc(loss->place, capacity * sizeof *grown);
        loss->no_memory |= !grown;
        if (!grown)
            return;
        loss->place = grown;
        loss->capacity = capacity;
    }
    loss->place[loss->count++] = *place;
}

/* Gives up the blocks whose records are damaged as the footer is. Whose they were is not known any more: "something" is
 * told. Where the index itself can't be read now, reading them tells. */
static ch_err give_up_lost(struct ch_object_store *s, const struct object_segment *segment)
{
    struct loss loss = {.segment = segment};
    ch_err err = object_pass(s, note_lost, &loss);
    if (loss.no_memory)
        err = CH_ERR_NO_MEMORY;
    for (size_t i = 0; err == CH_OK && i < loss.count; i++) {
        err = object_forget(s, &loss.place[i]);
        if (err != CH_OK)
            break;
        s->stats.blocks_lost++;
        pthread_rwlock_wrlock(&s->lock);
        object_tell_damage(s, &(struct ch_cid){0});
        pthread_rwlock_unlock(&s->lock);
    }
    free(loss.place);
    return err == CH_ERR_CORRUPT || object_passes(err) ? CH_OK : err;
}

/* Reads all records of a sealed segment and writes its footer again; blocks meanwhile. */
static ch_err make_footer_again(struct ch_object_store *s, struct object_segment *segment)
{
    const size_t room = 2 * CH_OBJECT_BATCH_BYTES;
    char path[CH_IO_PATH_BYTES_MAX];
    uint8_t *memory;
    uint32_t incarnation; /* nothing is written into it any more */
    object_path(s, segment->slot.segment, path);
    if (posix_memalign((void **)&memory, CH_IO_BLOCK_BYTES, room) != 0)
        return CH_ERR_NO_MEMORY;
    ch_err err = ch_io_open(s->io, path, CH_IO_WRITE | CH_IO_DIRECT, &segment->file);
    if (err == CH_OK)
        err = scan_records(s, segment, memory, room, &incarnation);
    free(memory);
    if (err == CH_OK && s->own_reader) /* at the start there is no index yet */
        err = give_up_lost(s, segment);
    if (err == CH_OK)
        err = object_segment_seal(s, segment);
    if (err == CH_OK) {
        s->stats.footers_rebuilt++;
        return CH_OK;
    }
    ch_io_close_file(s->io, segment->file); /* who tries again begins anew */
    segment->file = NULL;
    free(segment->entry);
    segment->entry = NULL;
    segment->entry_count = segment->entry_capacity = 0;
    return err;
}

static ch_err load_entries(struct ch_object_store *s, const struct object_segment *segment, struct entry **entries,
                           uint32_t *count)
{
    struct ch_file *file;
    char path[CH_IO_PATH_BYTES_MAX];
    object_path(s, segment->slot.segment, path);
    ch_err err = ch_io_open(s->io, path, CH_IO_READ, &file);
    if (err != CH_OK)
        return err == CH_ERR_NOT_FOUND ? CH_ERR_IO : err;
    err = object_footer_load(s, file, segment->slot.segment, segment->file_bytes, entries, count);
    ch_io_close_file(s->io, file);
    return err;
}

ch_err object_entries(struct ch_object_store *s, struct object_segment *segment, struct entry **entries,
                      uint32_t *count)
{
    ch_err err = segment->unreadable ? CH_ERR_CORRUPT : load_entries(s, segment, entries, count);
    if (err != CH_ERR_CORRUPT || segment->unreadable)
        return err;
    err = make_footer_again(s, segment);
    if (err == CH_OK)
        err = load_entries(s, segment, entries, count);
    segment->unreadable = err == CH_ERR_CORRUPT;
    return err;
}

/* --- one segment --- */

enum finding { FOUND_SEGMENT, FOUND_NOTHING, FOUND_DESTROYED, FOUND_DAMAGED };

/* The header: the newest whole slot; *whole are how many. */
static ch_err read_slots(struct ch_object_store *s, struct object_segment *segment, uint32_t number,
                         enum finding *finding, unsigned *whole)
{
    const size_t length = 3 * SLOT_BYTES; /* the third: is there data at all? */
    uint8_t *bytes = s->memory;
    size_t got;
    bool all_zero = true;
    *finding = FOUND_NOTHING;
    *whole = 0;
    for (size_t at = 0; at < length; at += SLOT_BYTES) { /* one by one: the disk may give one and not another */
        ch_err err = ch_io_read(s->io, segment->file, bytes + at, SLOT_BYTES, at, &got);
        if (err != CH_OK && err != CH_ERR_IO)
            return err;
        all_zero &= err == CH_OK;
        got = err == CH_OK ? got : 0;
        memset(bytes + at + got, 0, SLOT_BYTES - got);
    }
    for (size_t i = 0; i < length; i++)
        all_zero &= bytes[i] == 0;
    for (int i = 0; i < 2; i++) {
        struct slot slot;
        ch_err err = object_slot_read(bytes + (size_t)i * SLOT_BYTES, s->master_key, &slot);
        if (err == CH_ERR_BAD_PASSPHRASE)
            return err;
        if (err != CH_OK || slot.segment != number)
            continue;
        if (*whole == 0 || slot.incarnation > segment->slot.incarnation)
            segment->slot = slot;
        ++*whole;
    }
    if (*whole)
        *finding = segment->slot.state == SLOT_DESTROYED ? FOUND_DESTROYED : FOUND_SEGMENT;
    else if (!all_zero)
        *finding = FOUND_DAMAGED;
    return CH_OK;
}

/* What its trailer says of a segment, or its records. */
static ch_err load_contents(struct ch_object_store *s, struct object_segment *segment)
{
    struct trailer trailer;
    ch_err err = trailer_load(s, segment->file, segment->slot.segment, segment->file_bytes, &trailer);
    if (err == CH_OK) {
        segment->sealed = true;
        segment->data_end = trailer.offset;
        segment->data_bytes = trailer.data_bytes;
        segment->oldest_ms = segment->first_ms = trailer.oldest_ms;
        segment->records = trailer.count;
        segment->drops = trailer.drops;
        return CH_OK;
    }
    if (err != CH_ERR_CORRUPT)
        return err;
    uint32_t incarnation;
    err = scan_records(s, segment, s->memory, s->memory_bytes, &incarnation);
    if (incarnation > segment->slot.incarnation) /* its keys have been used */
        segment->slot.incarnation = incarnation;
    s->stats.footers_rebuilt++;
    for (uint32_t i = 0; i < segment->entry_count; i++) {
        object_note_age(segment, &segment->entry[i]);
        segment->data_bytes += record_bytes(segment->entry[i].length);
        segment->drops += segment->entry[i].kind == RECORD_DROP;
    }
    return err;
}

static ch_err load_segment(struct ch_object_store *s, uint32_t number, bool newest)
{
    char path[CH_IO_PATH_BYTES_MAX];
    enum finding finding;
    unsigned whole;
    struct object_segment *segment = calloc(1, sizeof *segment);
    if (!segment)
        return CH_ERR_NO_MEMORY;
    segment->oldest_ms = segment->first_ms = UINT64_MAX;
    object_path(s, number, path);
    ch_err err = ch_io_open(s->io, path, CH_IO_WRITE | CH_IO_DIRECT, &segment->file);
    if (err == CH_OK)
        err = ch_io_size(s->io, segment->file, &segment->file_bytes);
    segment->file_bytes -= segment->file_bytes % CH_IO_BLOCK_BYTES;
    if (err == CH_OK)
        err = read_slots(s, segment, number, &finding, &whole);
    if (err == CH_OK && finding == FOUND_SEGMENT && !object_cipher_here(segment->slot.cipher))
        err = CH_ERR_UNSUPPORTED;
    if (err == CH_OK && finding == FOUND_SEGMENT && whole == 1) { /* the other one, before this one is lost, too */
        segment->slot.incarnation++;
        err = object_slot_store(s, segment->file, &segment->slot);
    }
    if (err == CH_OK && finding == FOUND_SEGMENT)
        err = object_segment_add(s, segment);
    if (err == CH_OK && finding == FOUND_DESTROYED) /* perhaps by half */
        err = object_salt_destroy(s, segment);
    if (err != CH_OK || finding != FOUND_SEGMENT) {
        object_segment_free(s, segment);
        /* Nothing at all is what a power loss leaves of a segment just begun; of an older one it is damage. */
        if (err == CH_OK && (finding == FOUND_DAMAGED || (finding == FOUND_NOTHING && !newest)))
            s->stats.segments_damaged++;
        else if (err == CH_OK)
            err = ch_io_unlink(s->io, path);
        return err;
    }
    return load_contents(s, segment); /* the table has the segment now and frees it */
}

/* Segments without a footer get one. The newest goes on instead, under a new incarnation: its key has used nonces
 * beyond what can be read. */
static ch_err finish_segment(struct ch_object_store *s, struct object_segment *segment, bool newest)
{
    if (segment->sealed) {
        ch_io_close_file(s->io, segment->file);
        segment->file = NULL;
        return CH_OK;
    }
    /* What was read may still be in a cache, and counts as durable from now on: both ways end with a sync. */
    if (!newest || segment->file_bytes != s->segment_bytes || segment->slot.incarnation == UINT32_MAX)
        return object_segment_seal(s, segment);
    segment->slot.incarnation++;
    ch_err err = object_slot_store(s, segment->file, &segment->slot);
    if (err != CH_OK)
        return err;
    s->active = segment;
    s->counter = object_counter_start();
    object_key_derive(s->crypt, s->master_key, &segment->slot, segment->slot.incarnation, s->key);
    return CH_OK;
}

ch_err object_recover(struct ch_object_store *s)
{
    struct segment_numbers found = {0};
    ch_err err = segments_find(s->io, s->dir, "obj", &found);
    if (err == CH_OK)
        err = ch_io_sync_dir(s->io, s->dir);
    for (size_t i = 0; err == CH_OK && i < found.count; i++) {
        err = load_segment(s, found.number[i], i + 1 == found.count);
        s->next_number = found.number[i] + 1;
    }
    if (err == CH_OK) /* the key is the right one now */
        err = object_runs_open(s);
    for (size_t i = 0; err == CH_OK && i < s->segment_count; i++)
        err = finish_segment(s, s->segment[i], i + 1 == s->segment_count);
    free(found.number);
    return err == CH_OK ? object_index_load(s) : err;
}
