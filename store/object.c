#include "store/object.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "store/object_impl.h"

/* --- segments --- */

void object_path(const struct ch_object_store *s, uint32_t number, char path[CH_IO_PATH_BYTES_MAX])
{
    snprintf(path, CH_IO_PATH_BYTES_MAX, "%s/%08x.obj", s->dir, number);
}

size_t object_segment_from(const struct ch_object_store *s, uint32_t number)
{
    size_t low = 0, high = s->segment_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->segment[middle]->slot.segment < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct object_segment *object_segment_find(const struct ch_object_store *s, uint32_t number)
{
    size_t at = object_segment_from(s, number);
    return at < s->segment_count && s->segment[at]->slot.segment == number ? s->segment[at] : NULL;
}

ch_err object_segment_add(struct ch_object_store *s, struct object_segment *segment)
{
    ch_err err = CH_OK;
    pthread_rwlock_wrlock(&s->lock);
    if (s->segment_count == s->segment_capacity) {
        size_t capacity = s->segment_capacity ? 2 * s->segment_capacity : 64;
        struct object_segment **grown = capacity <= SEGMENTS_MAX ? realloc(s->segment, capacity * sizeof *grown) : NULL;
        if (grown) {
            s->segment = grown;
            s->segment_capacity = capacity;
        } else {
            err = CH_ERR_NO_MEMORY;
        }
    }
    if (err == CH_OK)
        s->segment[s->segment_count++] = segment;
    pthread_rwlock_unlock(&s->lock);
    return err;
}

void object_segment_free(struct ch_object_store *s, struct object_segment *segment)
{
    if (!segment)
        return;
    ch_io_close_file(s->io, segment->file);
    free(segment->entry);
    sodium_memzero(&segment->slot, sizeof segment->slot);
    free(segment);
}

ch_err object_entry_add(struct object_segment *segment, const struct entry *entry)
{
    if (segment->entry_count == segment->entry_capacity) {
        uint32_t capacity = segment->entry_capacity ? 2 * segment->entry_capacity : 256;
        struct entry *grown = realloc(segment->entry, capacity * sizeof *grown);
        if (!grown)
            return CH_ERR_NO_MEMORY;
        segment->entry = grown;
        segment->entry_capacity = capacity;
    }
    segment->entry[segment->entry_count++] = *entry;
    return CH_OK;
}

void object_note_age(struct object_segment *segment, const struct entry *entry)
{
    if (entry->kind == RECORD_BLOCK && entry->tag.put_ms && entry->tag.put_ms < segment->oldest_ms)
        segment->oldest_ms = entry->tag.put_ms;
}

ch_err object_slot_store(struct ch_object_store *s, struct ch_file *file, const struct slot *slot)
{
    uint8_t *block = s->memory + s->memory_bytes - SLOT_BYTES;
    object_slot_write(block, slot, s->master_key);
    ch_err err = ch_io_write(s->io, file, block, SLOT_BYTES, (slot->incarnation & 1) * SLOT_BYTES);
    return err == CH_OK ? ch_io_sync(s->io, file) : err;
}

ch_err object_segment_seal(struct ch_object_store *s, struct object_segment *segment)
{
    uint64_t bytes = footer_bytes(segment->entry_count);
    uint8_t *footer;
    CH_ASSERT(segment->flights == 0 && segment != s->active);
    if (posix_memalign((void **)&footer, CH_IO_BLOCK_BYTES, bytes) != 0)
        return CH_ERR_NO_MEMORY;
    object_footer_write(footer, segment->entry, segment->entry_count, segment->slot.segment, segment->data_end);
    ch_err err = ch_io_write(s->io, segment->file, footer, bytes, segment->data_end);
    free(footer);
    if (err == CH_OK)
        err = ch_io_sync(s->io, segment->file);
    if (err == CH_OK)
        err = ch_io_truncate(s->io, segment->file, segment->data_end + bytes);
    if (err == CH_OK)
        err = ch_io_sync(s->io, segment->file);
    if (err != CH_OK)
        return err;
    segment->records = segment->entry_count;
    segment->drops = 0;
    segment->first_ms = UINT64_MAX;
    for (uint32_t i = 0; i < segment->entry_count; i++) {
        const struct entry *entry = &segment->entry[i];
        segment->drops += entry->kind == RECORD_DROP;
        if (entry->kind == RECORD_BLOCK && entry->tag.put_ms && entry->tag.put_ms < segment->first_ms)
            segment->first_ms = entry->tag.put_ms;
    }
    pthread_rwlock_wrlock(&s->lock);
    segment->file_bytes = segment->data_end + bytes;
    segment->sealed = true;
    pthread_rwlock_unlock(&s->lock);
    ch_io_close_file(s->io, segment->file);
    segment->file = NULL;
    free(segment->entry);
    segment->entry = NULL;
    segment->entry_count = segment->entry_capacity = 0;
    if (s->runs)
        object_index_measure(s);
    return CH_OK;
}

ch_err object_slots_mend(struct ch_object_store *s, struct object_segment *segment)
{
    char path[CH_IO_PATH_BYTES_MAX];
    struct slot slot = segment->slot, there;
    struct ch_file *file = NULL;
    uint8_t *block;
    size_t got = 0;
    object_path(s, slot.segment, path);
    if (posix_memalign((void **)&block, CH_IO_BLOCK_BYTES, SLOT_BYTES) != 0)
        return CH_ERR_NO_MEMORY;
    ch_err err = ch_io_open(s->io, path, CH_IO_WRITE | CH_IO_DIRECT, &file);
    for (unsigned i = 0; err == CH_OK && i < 2; i++) {
        err = ch_io_read(s->io, file, block, SLOT_BYTES, i * SLOT_BYTES, &got);
        bool whole = err == CH_OK && got == SLOT_BYTES && object_slot_read(block, s->master_key, &there) == CH_OK &&
                     there.segment == slot.segment;
        err = err == CH_ERR_IO ? CH_OK : err;
        if (err != CH_OK || whole) /* that one is not touched: it may be the only one */
            continue;
        slot.incarnation += (slot.incarnation & 1) == i ? 2 : 1;
        err = object_slot_store(s, file, &slot);
    }
    free(block);
    ch_io_close_file(s->io, file);
    pthread_rwlock_wrlock(&s->lock);
    segment->slot.incarnation = slot.incarnation;
    pthread_rwlock_unlock(&s->lock);
    return err;
}

ch_err object_salt_destroy(struct ch_object_store *s, struct object_segment *segment)
{
    struct slot slot = segment->slot; /* readers have the other one until it is gone */
    ch_err err = CH_OK;
    slot.state = SLOT_DESTROYED;
    sodium_memzero(slot.salt, SALT_BYTES);
    for (int i = 0; i < 2 && err == CH_OK; i++) {
        slot.incarnation++;
        err = object_slot_store(s, segment->file, &slot);
    }
    return err;
}

ch_err object_segment_destroy(struct ch_object_store *s, struct object_segment *segment)
{
    char path[CH_IO_PATH_BYTES_MAX];
    uint32_t number = segment->slot.segment;
    object_path(s, number, path);
    ch_err err = CH_OK;
    if (!segment->file)
        err = ch_io_open(s->io, path, CH_IO_WRITE | CH_IO_DIRECT, &segment->file);
    if (err == CH_OK)
        err = object_salt_destroy(s, segment);
    if (err == CH_OK)
        err = ch_io_unlink(s->io, path);
    if (err == CH_ERR_NOT_FOUND) /* done, by a call that was not answered */
        err = CH_OK;
    if (err == CH_OK)
        err = ch_io_sync_dir(s->io, s->dir);
    if (err != CH_OK)
        return err;

    pthread_rwlock_wrlock(&s->lock);
    size_t at = 0;
    while (s->segment[at] != segment)
        at++;
    memmove(s->segment + at, s->segment + at + 1, (s->segment_count - at - 1) * sizeof *s->segment);
    s->segment_count--;
    pthread_rwlock_unlock(&s->lock);
    atomic_fetch_add(&s->removals, 1);
    object_segment_free(s, segment);
    object_index_segment_gone(s, number);
    s->stats.segments_destroyed++;
    return CH_OK;
}

/* A new segment becomes the active one, with `reserve_bytes` left free. Where the storage refuses, all is as it was. */
static ch_err begin_segment(struct ch_object_store *s, uint64_t reserve_bytes)
{
    char path[CH_IO_PATH_BYTES_MAX];
    uint64_t free_bytes;
    bool no_room = false;
    ch_err err = ch_io_free_bytes(s->io, s->dir, &free_bytes);
    if (err == CH_OK && (free_bytes < s->segment_bytes || free_bytes - s->segment_bytes < reserve_bytes))
        return CH_ERR_NO_SPACE;
    if (object_passes(err))
        return object_refusal(err);
    struct object_segment *segment = calloc(1, sizeof *segment);
    if (err != CH_OK || !segment) {
        free(segment);
        return s->failed = err != CH_OK ? err : CH_ERR_NO_MEMORY;
    }
    segment->slot =
        (struct slot){.state = SLOT_IN_USE, .cipher = s->cipher, .segment = s->next_number, .incarnation = 0};
    randombytes_buf(segment->slot.salt, SALT_BYTES);
    segment->data_end = DATA_START;
    segment->file_bytes = s->segment_bytes;
    segment->oldest_ms = segment->first_ms = UINT64_MAX;
    object_path(s, s->next_number, path);
    err = ch_io_open(s->io, path, CH_IO_WRITE | CH_IO_CREATE | CH_IO_DIRECT, &segment->file);
    if (err == CH_OK) {
        err = ch_io_allocate(s->io, segment->file, s->segment_bytes);
        no_room = err == CH_ERR_NO_SPACE;
    }
    if (err == CH_OK) /* both slots, so that a damaged one costs nothing */
        err = object_slot_store(s, segment->file, &segment->slot);
    segment->slot.incarnation = 1;
    if (err == CH_OK)
        err = object_slot_store(s, segment->file, &segment->slot);
    if (err == CH_OK)
        err = ch_io_sync_dir(s->io, s->dir);
    if (err == CH_OK)
        err = object_segment_add(s, segment);
    if (err != CH_OK) {
        object_segment_free(s, segment);
        if (!object_passes(err) && !no_room)
            return s->failed = err;
        ch_err gone = ch_io_unlink(s->io, path);
        bool left = gone == CH_OK || gone == CH_ERR_NOT_FOUND || object_passes(gone);
        return left ? object_refusal(err) : (s->failed = gone);
    }
    s->next_number++;
    s->active = segment;
    s->counter = object_counter_start();
    object_key_derive(s->crypt, s->master_key, &segment->slot, segment->slot.incarnation, s->key);
    return CH_OK;
}

/* --- batches --- */

/* The batch that gathers, NULL while all are in flight or not told. */
static struct batch *filling(struct ch_object_store *s)
{
    for (int i = 0; !s->filling && i < BATCH_SLOTS; i++)
        if (s->batch[i].state == BATCH_FREE)
            s->filling = &s->batch[i];
    return s->filling;
}

/* Gives an empty batch its place: room for all it can hold, and for the footer then. */
static ch_err place_batch(struct ch_object_store *s, struct batch *b, uint64_t reserve_bytes)
{
    struct object_segment *a = s->active;
    if (!a || a->entry_count >= SEGMENT_RECORDS_MAX ||
        a->data_end + s->batch_bytes + footer_bytes((uint64_t)a->entry_count + s->batch_records_max) > a->file_bytes) {
        ch_err err = begin_segment(s, reserve_bytes);
        if (err != CH_OK)
            return err;
    }
    b->segment = s->active;
    b->offset = s->active->data_end;
    b->record_count = b->told = 0;
    return CH_OK;
}

static ch_err write_batch(struct ch_object_store *s, struct batch *b)
{
    struct ch_io_request request = {
        .kind = CH_IO_OP_WRITE,
        .then_sync = true,
        .file = b->segment->file,
        .data = b->memory,
        .length = (uint32_t)round_up(b->used, CH_IO_BLOCK_BYTES),
        .offset = b->offset,
        .cookie = (uint64_t)(b - s->batch),
    };
    ch_err err = ch_io_submit(s->io, &request);
    if (err != CH_OK)
        return s->failed = err;
    b->state = BATCH_FLYING;
    s->flights++;
    return CH_OK;
}

static ch_err launch(struct ch_object_store *s)
{
    struct batch *b = s->filling;
    uint32_t length = (uint32_t)round_up(b->used, CH_IO_BLOCK_BYTES);
    memset(s->gather + b->used, 0, length - b->used);
    ch_io_copy(b->memory, s->gather, length);
    ch_err err = write_batch(s, b);
    if (err != CH_OK)
        return err;
    b->segment->flights++;
    b->segment->data_end += length;
    s->filling = NULL;
    s->flush_wanted = false;
    return CH_OK;
}

ch_err object_append(struct ch_object_store *s, const struct object_append *what, struct place *place)
{
    if (s->refusing != CH_OK)
        return s->refusing;
    struct batch *b = filling(s);
    uint32_t need = record_bytes(what->length);
    if (b && b->used && (b->used + need > s->batch_bytes || b->record_count == s->batch_records_max)) {
        s->flush_wanted = true;
        if (s->flights == BATCH_DEPTH)
            return CH_ERR_FULL;
        ch_err err = launch(s);
        if (err != CH_OK)
            return err;
        b = filling(s);
    }
    if (!b)
        return CH_ERR_FULL;
    if (!b->used) {
        /* What makes room may use the room that is kept for it. */
        bool kept = what->kind == RECORD_DROP || what->record.moved_segment || what->reserved;
        ch_err err = place_batch(s, b, kept ? 0 : s->low_water_bytes);
        if (err != CH_OK)
            return err;
    }
    struct record record = {
        .kind = what->kind,
        .length = what->length,
        .segment = b->segment->slot.segment,
        .incarnation = b->segment->slot.incarnation,
        .counter = s->counter++,
        .cid = *what->cid,
        .tag = what->tag,
    };
    struct entry entry = {
        .unit = (uint32_t)((b->offset + b->used) / UNIT_BYTES),
        .length = what->length,
        .kind = (uint8_t)what->kind,
        .codec = (uint8_t)ch_cid_codec(what->cid),
        .tag = what->tag,
    };
    memcpy(entry.digest, ch_cid_digest(what->cid), CH_HASH_BYTES);
    ch_err err = object_entry_add(b->segment, &entry);
    if (err != CH_OK)
        return s->failed = err;
    object_note_age(b->segment, &entry);
    object_record_seal(s->crypt, s->key, &record, what->plain, s->gather + b->used);
    b->record[b->record_count] = what->record;
    b->record[b->record_count++].at = b->used;
    b->used += need;
    b->segment->data_bytes += need;
    *place = (struct place){.print = object_print(s->index.key, entry.digest),
                            .segment = record.segment,
                            .unit = entry.unit,
                            .length = what->length & 0x3fffff,
                            .dropped = what->kind == RECORD_DROP};
    return CH_OK;
}

/* Another cookie for a block that is on its way: told together with it. */
static ch_err join(struct ch_object_store *s, const struct place *place, uint64_t cookie)
{
    uint64_t offset = (uint64_t)place->unit * UNIT_BYTES;
    for (int i = 0; i < BATCH_SLOTS; i++) {
        struct batch *b = &s->batch[i];
        if (!b->used || b->segment->slot.segment != place->segment || offset < b->offset ||
            offset >= b->offset + b->used)
            continue;
        if (b->record_count == s->batch_records_max)
            return CH_ERR_FULL;
        b->record[b->record_count++] =
            (struct batch_record){.cookie = cookie, .has_cookie = true, .at = (uint32_t)(offset - b->offset)};
        return CH_OK;
    }
    CH_ASSERT(false); /* what isn't durable is in a batch */
}

void object_note_dead(struct ch_object_store *s, const struct place *place)
{
    struct object_segment *segment = object_segment_find(s, place->segment);
    uint64_t bytes = record_bytes(place->length);
    if (segment) /* the counts are no more than hints, once an index was made again */
        segment->live_bytes -= bytes < segment->live_bytes ? bytes : segment->live_bytes;
    s->stats.blocks -= s->stats.blocks > 0;
}

/* Appends a record that is the newest word on its print. */
static ch_err append_known(struct ch_object_store *s, const struct object_append *what, const struct print *print)
{
    struct place place;
    pthread_rwlock_wrlock(&s->lock);
    ch_err err = object_index_reserve(&s->index, print);
    pthread_rwlock_unlock(&s->lock);
    if (err == CH_OK)
        err = object_append(s, what, &place);
    if (err != CH_OK)
        return err;
    pthread_rwlock_wrlock(&s->lock);
    object_index_set(&s->index, &place);
    pthread_rwlock_unlock(&s->lock);
    return CH_OK;
}

/* The bytes are known to be the CID's. */
static ch_err put(struct ch_object_store *s, const struct ch_cid *cid, const void *block, size_t length,
                  const struct ch_object_tag *tag, uint64_t cookie, bool reserved)
{
    if (s->failed != CH_OK)
        return s->failed;
    if (length > CH_BLOCK_BYTES_MAX || record_bytes((uint32_t)length) > s->batch_bytes || !object_cid_valid(cid->bytes))
        return CH_ERR_INVALID;
    struct place there;
    const struct print print = object_print(s->index.key, ch_cid_digest(cid));
    ch_err err = object_find(s, &print, &there, NULL);
    if (err != CH_OK && err != CH_ERR_NOT_FOUND)
        return object_refusal(err);
    bool is = err == CH_OK, repairs = is && there.durable && there.damaged;
    if (is && there.durable && !repairs)
        return CH_ERR_EXISTS;
    if (is && !repairs)
        return s->refusing != CH_OK ? s->refusing : join(s, &there, cookie);

    struct object_append what = {.kind = RECORD_BLOCK,
                          .cid = cid,
                          .plain = block,
                          .length = (uint32_t)length,
                          .tag = *tag,
                          .reserved = reserved,
                          .record = {.cookie = cookie, .has_cookie = true}};
    err = append_known(s, &what, &print);
    if (err == CH_OK && repairs) /* the damaged one is dead from now on */
        object_note_dead(s, &there);
    return err;
}

ch_err ch_object_put_for(struct ch_object_store *s, const struct ch_cid_block *block, const struct ch_object_tag *tag,
                         uint64_t cookie)
{
    CH_ASSERT(ch_cid_is_checked(block));
    return put(s, &block->cid, block->bytes, block->length, tag, cookie, false);
}

ch_err ch_object_put_record(struct ch_object_store *s, const struct ch_cid *name, const void *bytes, size_t length,
                            const struct ch_object_tag *tag, bool reserved, uint64_t cookie)
{
    CH_ASSERT(object_is_name(name->bytes));
    return put(s, name, bytes, length, tag, cookie, reserved);
}

ch_err ch_object_put(struct ch_object_store *s, const struct ch_cid *cid, const void *block, size_t length,
                     uint64_t cookie)
{
    const struct ch_object_tag nobodys = {0};
    if (!object_cid_valid(cid->bytes) || !object_cid_holds(cid, block, length))
        return s->failed != CH_OK ? s->failed : CH_ERR_INVALID;
    return put(s, cid, block, length, &nobodys, cookie, false);
}

ch_err ch_object_drop(struct ch_object_store *s, const struct ch_cid *cid, uint64_t cookie)
{
    if (s->failed != CH_OK)
        return s->failed;
    struct place there;
    const struct print print = object_print(s->index.key, ch_cid_digest(cid));
    ch_err err = object_find(s, &print, &there, NULL);
    if (err != CH_OK)
        return object_refusal(err);
    struct object_append what = {
        .kind = RECORD_DROP, .cid = cid, .plain = "", .record = {.cookie = cookie, .has_cookie = true}};
    err = append_known(s, &what, &print);
    if (err == CH_OK && there.durable)
        object_note_dead(s, &there);
    return err;
}

ch_err ch_object_flush(struct ch_object_store *s)
{
    if (s->failed != CH_OK || !s->filling || !s->filling->used)
        return s->failed;
    if (s->flights < BATCH_DEPTH)
        return launch(s);
    s->flush_wanted = true;
    return CH_OK;
}

/* --- what became durable --- */

static void settle_record(struct ch_object_store *s, struct object_segment *segment, const struct batch_record *r,
                          const struct record *record, uint32_t unit)
{
    const struct print print = object_print(s->index.key, ch_cid_digest(&record->cid));
    struct place *there = object_index_find(&s->index, &print);
    bool drops = record->kind == RECORD_DROP;
    bool own = there && there->segment == segment->slot.segment && there->unit == unit && !there->durable;
    bool moved = there && there->dropped == drops && !there->silent && r->moved_segment &&
                 there->segment == r->moved_segment && there->unit == r->moved_unit;
    if (own) {
        there->durable = 1;
        s->stats.blocks += !drops;
    } else if (moved) {
        s->stats.blocks += !drops;
        if (!drops)
            object_note_dead(s, there);
        there->segment = segment->slot.segment;
        there->unit = unit;
    }
    if (own || moved || drops) /* else it was dropped on the way */
        segment->live_bytes += record_bytes(record->length);
}

static void settle_batch(struct ch_object_store *s, struct batch *b)
{
    pthread_rwlock_wrlock(&s->lock);
    for (uint32_t i = 0; i < b->record_count; i++) {
        const struct batch_record *r = &b->record[i];
        struct record record;
        CH_ASSERT(object_record_read(b->memory + r->at, &record));
        settle_record(s, b->segment, r, &record, (uint32_t)((b->offset + r->at) / UNIT_BYTES));
        s->compaction.in_flight -= r->moved_segment != 0;
    }
    pthread_rwlock_unlock(&s->lock);
}

static void tell(struct ch_object_store *s, uint64_t *cookies, size_t max, size_t *count)
{
    for (int i = 0; i < BATCH_SLOTS; i++) {
        struct batch *b = &s->batch[i];
        if (b->state != BATCH_DURABLE)
            continue;
        for (; b->told < b->record_count; b->told++) {
            if (!b->record[b->told].has_cookie)
                continue;
            if (*count == max)
                return;
            cookies[(*count)++] = b->record[b->told].cookie;
        }
        b->state = BATCH_FREE;
        b->used = 0;
        b->refused = false;
    }
}

/* The oldest that is full: they are sealed in order, so that behind a sealed one there is none. */
static struct object_segment *to_be_sealed(const struct ch_object_store *s)
{
    struct object_segment *full = NULL;
    for (size_t i = s->segment_count; i-- > 0 && !s->segment[i]->sealed;)
        if (s->segment[i] != s->active)
            full = s->segment[i];
    return full;
}

static void later_again(struct ch_object_store *s)
{
    s->again_ns = s->again_after_ns ? ch_time_monotonic_ns() + s->again_after_ns : 0;
}

/* The same bytes go to the same place again: whatever became of the last try, nothing else can be there. */
static void write_again(struct ch_object_store *s)
{
    for (int i = 0; i < BATCH_SLOTS && s->failed == CH_OK; i++)
        if (s->batch[i].state == BATCH_REFUSED)
            (void)write_batch(s, &s->batch[i]);
}

static void batch_done(struct ch_object_store *s, struct batch *b, ch_err err)
{
    s->flights--;
    if (object_passes(err)) {
        b->state = BATCH_REFUSED;
        b->refused = true;
        s->refusing = object_refusal(err);
        later_again(s);
        return;
    }
    b->segment->flights--;
    if (err != CH_OK) {
        s->failed = s->failed == CH_OK ? err : s->failed;
        return;
    }
    settle_batch(s, b);
    b->state = BATCH_DURABLE;
    s->refusing = CH_OK;
}

ch_err ch_object_poll(struct ch_object_store *s, uint64_t *cookies, size_t max, size_t *count)
{
    struct ch_io_done done[BATCH_SLOTS];
    size_t got = ch_io_poll(s->io, done, BATCH_SLOTS);
    *count = 0;
    for (size_t i = 0; i < got; i++)
        batch_done(s, &s->batch[done[i].cookie], done[i].err);
    if (s->failed != CH_OK)
        return s->failed;
    tell(s, cookies, max, count);
    bool again = s->again_ns == 0 || ch_time_monotonic_ns() >= s->again_ns;
    if (again)
        write_again(s);
    if (s->flush_wanted && s->flights < BATCH_DEPTH && s->filling && s->filling->used)
        (void)launch(s);
    struct object_segment *full = to_be_sealed(s);
    if (s->failed == CH_OK && full && full->flights == 0 && again) {
        ch_err err = object_segment_seal(s, full);
        if (object_passes(err))
            later_again(s);
        else
            s->failed = err;
    }
    if (s->failed == CH_OK)
        s->failed = object_index_step(s);
    return s->failed;
}

size_t ch_object_give_up(struct ch_object_store *s, bool (*which)(uint64_t cookie), uint64_t *cookies, size_t max,
                         ch_err *why)
{
    size_t count = 0;
    *why = s->refusing;
    for (int i = 0; s->refusing != CH_OK && i < BATCH_SLOTS; i++) {
        struct batch *b = &s->batch[i];
        for (uint32_t k = 0; b->refused && k < b->record_count && count < max; k++)
            if (b->record[k].has_cookie && which(b->record[k].cookie)) {
                b->record[k].has_cookie = false;
                cookies[count++] = b->record[k].cookie;
            }
    }
    return count;
}

bool ch_object_busy(const struct ch_object_store *s)
{
    bool waits = false;
    for (int i = 0; i < BATCH_SLOTS; i++)
        waits |= s->batch[i].state == BATCH_DURABLE || s->batch[i].state == BATCH_REFUSED;
    return waits || s->flights || s->flush_wanted || to_be_sealed(s) || object_index_due(s);
}

/* --- what there is --- */

void ch_object_stats(const struct ch_object_store *s, struct ch_object_stats *stats)
{
    *stats = s->stats;
    stats->refusing = s->refusing;
    stats->segments = s->segment_count;
    stats->index_bytes = object_index_bytes(&s->index) + object_runs_bytes(s->runs);
    stats->runs = s->runs->count;
    stats->live_bytes = stats->disk_bytes = 0;
    for (size_t i = 0; i < s->segment_count; i++) {
        stats->live_bytes += s->segment[i]->live_bytes;
        stats->disk_bytes += s->segment[i]->file_bytes;
    }
}

/* --- open and close --- */

static ch_err take_memory(struct ch_object_store *s)
{
    size_t batches = (size_t)BATCH_SLOTS * s->batch_bytes;
    if (batches < CH_OBJECT_BATCH_BYTES) /* recovery reads any record with it */
        batches = CH_OBJECT_BATCH_BYTES;
    s->memory_bytes = batches + SLOT_BYTES;
    s->memory = ch_io_memory(s->memory_bytes);
    s->gather = aligned_alloc(CH_IO_BLOCK_BYTES, s->batch_bytes);
    if (!s->memory || !s->gather)
        return CH_ERR_NO_MEMORY;
    for (int i = 0; i < BATCH_SLOTS; i++) {
        s->batch[i].memory = s->memory + (size_t)i * s->batch_bytes;
        s->batch[i].record = calloc(s->batch_records_max, sizeof *s->batch[i].record);
        if (!s->batch[i].record)
            return CH_ERR_NO_MEMORY;
    }
    ch_io_register(s->io, s->memory, s->memory_bytes);
    return CH_OK;
}

static ch_err take_options(struct ch_object_store *s, const char *dir, const struct ch_object_options *options)
{
    s->segment_bytes = options->segment_bytes ? options->segment_bytes : CH_OBJECT_SEGMENT_BYTES;
    s->batch_bytes = options->batch_bytes ? options->batch_bytes : CH_OBJECT_BATCH_BYTES;
    s->low_water_bytes = options->low_water_bytes;
    s->again_after_ns = options->again_after_ns;
    s->merged_places = options->run_bytes_max ? options->run_bytes_max / RUN_PLACE_BYTES : RUN_PLACES_MAX;
    s->run_places = options->run_places ? options->run_places : CH_OBJECT_RUN_PLACES;
    s->batch_records_max = s->batch_bytes / (3 * UNIT_BYTES);
    if (s->batch_records_max > BATCH_RECORDS_MAX)
        s->batch_records_max = BATCH_RECORDS_MAX;
    s->cipher = options->cipher;
    if (s->cipher == CH_OBJECT_CIPHER_AUTO)
        s->cipher = object_cipher_here(CH_OBJECT_AES_256_GCM) ? CH_OBJECT_AES_256_GCM : CH_OBJECT_XCHACHA20_POLY1305;
    memcpy(s->master_key, options->master_key, CH_OBJECT_KEY_BYTES);
    if (strlen(dir) >= sizeof s->dir || s->segment_bytes % CH_IO_BLOCK_BYTES || s->batch_bytes % CH_IO_BLOCK_BYTES ||
        s->batch_bytes < CH_IO_BLOCK_BYTES || s->batch_bytes > s->segment_bytes / 4 || s->segment_bytes > 1u << 31)
        return CH_ERR_INVALID;
    strcpy(s->dir, dir);
    return object_cipher_here(s->cipher) ? CH_OK : CH_ERR_UNSUPPORTED;
}

static ch_err take_lock(struct ch_object_store *s)
{
    char path[CH_IO_PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/lock", s->dir);
    ch_err err = ch_io_open(s->io, path, CH_IO_WRITE, &s->lock_file);
    if (err == CH_ERR_NOT_FOUND)
        err = ch_io_open(s->io, path, CH_IO_WRITE | CH_IO_CREATE, &s->lock_file);
    return err == CH_OK ? ch_io_lock(s->io, s->lock_file) : err;
}

ch_err ch_object_open(struct ch_io *io, const char *dir, const struct ch_object_options *options,
                      struct ch_object_store **out)
{
    struct ch_object_store *s = calloc(1, sizeof *s);
    if (!s)
        return CH_ERR_NO_MEMORY;
    s->io = io;
    s->next_number = 1;
    pthread_rwlock_init(&s->lock, NULL);
    ch_err err = object_crypt_open(&s->crypt);
    if (err == CH_OK)
        err = take_options(s, dir, options);
    if (err == CH_OK)
        err = object_key_new(&s->key);
    if (err == CH_OK)
        err = take_memory(s);
    if (err == CH_OK)
        err = object_index_open(&s->index, s->master_key);
    if (err == CH_OK)
        err = ch_io_make_dir(io, dir);
    if (err == CH_OK)
        err = take_lock(s);
    if (err == CH_OK)
        err = object_recover(s);
    if (err == CH_OK)
        err = ch_object_reader_open(s, &s->own_reader);
    if (err == CH_OK)
        *out = s;
    else
        ch_object_close(s);
    return err;
}

void ch_object_close(struct ch_object_store *s)
{
    if (!s)
        return;
    struct ch_io_done done;
    while (s->flights && ch_io_wait(s->io) == CH_OK)
        s->flights -= (unsigned)ch_io_poll(s->io, &done, 1);
    ch_object_reader_close(s->own_reader);
    object_job_abandon(s);
    object_runs_unref(s, s->runs);
    for (size_t i = 0; i < s->segment_count; i++)
        object_segment_free(s, s->segment[i]);
    free(s->segment);
    object_index_close(&s->index);
    ch_io_close_file(s->io, s->lock_file);
    ch_io_register(s->io, NULL, 0);
    for (int i = 0; i < BATCH_SLOTS; i++)
        free(s->batch[i].record);
    ch_io_memory_free(s->memory, s->memory_bytes);
    free(s->gather);
    free(s->compaction.entry);
    free(s->listing.entry);
    object_key_free(s->key);
    object_crypt_close(s->crypt);
    pthread_rwlock_destroy(&s->lock);
    sodium_memzero(s->master_key, sizeof s->master_key);
    free(s);
}
