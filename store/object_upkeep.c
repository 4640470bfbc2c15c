/* store/object_upkeep.c - the owner's work on sealed segments: what is alive moves out of half-dead ones, what is too old
 * is forgotten. */
#include <stdlib.h>

#include "store/object_impl.h"

/* --- compaction --- */

/* The sealed segment with most dead bytes, at least half of its own. */
static struct object_segment *most_dead(const struct ch_object_store *s)
{
    struct object_segment *most = NULL;
    for (size_t i = 0; i < s->segment_count; i++) {
        struct object_segment *segment = s->segment[i];
        uint64_t dead = segment->data_bytes - segment->live_bytes;
        if (segment->sealed && !segment->unreadable && 2 * dead >= segment->data_bytes && (!most || dead > most->data_bytes - most->live_bytes))
            most = segment;
    }
    return most;
}

/* What a scrubber found. */
static ch_err mend_footer(struct ch_object_store *s)
{
    struct object_segment *segment = object_segment_find(s, atomic_exchange(&s->footer_damaged, 0));
    struct entry *entry = NULL;
    uint32_t count;
    ch_err err = segment && segment->sealed ? object_entries(s, segment, &entry, &count) : CH_OK;
    if (err == CH_OK)
        free(entry);
    return err == CH_ERR_CORRUPT ? CH_OK : err;
}

static ch_err begin_compaction(struct ch_object_store *s)
{
    struct object_segment *victim = most_dead(s);
    if (!victim)
        return CH_ERR_NOT_FOUND;
    ch_err err = object_entries(s, victim, &s->compaction.entry, &s->compaction.count);
    if (err != CH_OK)
        return err;
    s->compaction.segment = victim->slot.segment;
    s->compaction.next = s->compaction.in_flight = 0;
    return CH_OK;
}

/* Moves one record if anything still needs it. */
static ch_err move(struct ch_object_store *s, const struct entry *e, uint8_t *buffer, uint64_t *moved)
{
    struct compaction *c = &s->compaction;
    struct place *there = object_index_find(&s->index, e->digest);
    struct object_append what = {.kind = (enum record_kind)e->kind,
                          .plain = buffer,
                          .tag = e->tag,
                          .record = {.moved_segment = c->segment, .moved_unit = e->unit}};
    struct place place;
    struct record record;
    if (e->kind == RECORD_BLOCK) {
        if (!there || there->segment != c->segment || there->unit != e->unit)
            return CH_OK;
        ch_err err = object_read_at(s->own_reader, e->digest, there, &record, buffer, CH_BLOCK_BYTES_MAX);
        if (err == CH_ERR_CORRUPT) { /* missing is what it is: the other validators have it */
            struct ch_cid lost;
            ch_cid_make((enum ch_cid_codec)e->codec, e->digest, &lost);
            object_note_damage(s, &lost, there);
            pthread_rwlock_wrlock(&s->lock);
            object_index_remove(&s->index, e->digest);
            pthread_rwlock_unlock(&s->lock);
            object_segment_find(s, c->segment)->live_bytes -= record_bytes(e->length);
            s->stats.blocks--;
            s->stats.blocks_lost++;
            return CH_OK;
        }
        if (err != CH_OK)
            return err;
        what.length = record.length;
    } else {
        /* A drop is needed while an older segment may hold what it drops. */
        if (there || s->segment[0]->slot.segment == c->segment)
            return CH_OK;
        ch_cid_make((enum ch_cid_codec)e->codec, e->digest, &record.cid);
    }
    what.cid = &record.cid;
    ch_err err = object_append(s, &what, &place);
    if (err != CH_OK)
        return err;
    c->in_flight++;
    *moved += record_bytes(what.length);
    return CH_OK;
}

ch_err ch_object_compact(struct ch_object_store *s, uint64_t bytes_max, uint64_t *moved)
{
    struct compaction *c = &s->compaction;
    ch_err err = s->failed;
    *moved = 0;
    if (err == CH_OK && !c->segment && atomic_load(&s->footer_damaged))
        err = mend_footer(s);
    if (err == CH_OK && !c->segment)
        err = begin_compaction(s);
    if (err != CH_OK)
        return err;
    uint8_t *buffer = malloc(CH_BLOCK_BYTES_MAX);
    if (!buffer)
        return CH_ERR_NO_MEMORY;
    while (err == CH_OK && c->next < c->count && *moved < bytes_max) {
        err = move(s, &c->entry[c->next], buffer, moved);
        c->next += err == CH_OK;
    }
    free(buffer);
    if (err == CH_ERR_FULL)
        err = CH_OK;
    if (err == CH_OK)
        err = ch_object_flush(s);
    if (err == CH_OK && c->next == c->count && c->in_flight == 0) {
        err = object_segment_destroy(s, object_segment_find(s, c->segment));
        if (object_passes(err))
            return object_refusal(err);
        s->failed = err;
        free(c->entry);
        *c = (struct compaction){0};
    }
    return err;
}

/* --- age --- */

/* The one that is being filled becomes one to be sealed; false while a batch gathers in it. */
static bool end_active(struct ch_object_store *s)
{
    if (s->filling && s->filling->used)
        return false;
    s->active = NULL;
    return true;
}

/* The first sealed segment with blocks older than `before_ms`. */
static struct object_segment *oldest(struct ch_object_store *s, uint64_t before_ms)
{
    for (size_t i = 0; i < s->segment_count; i++)
        if (s->segment[i]->sealed && !s->segment[i]->unreadable && s->segment[i]->oldest_ms < before_ms &&
            s->segment[i]->slot.segment != s->compaction.segment)
            return s->segment[i];
    return NULL;
}

/* The entry is what the index has of its block. */
static const struct place *live_place(const struct ch_object_store *s, uint32_t segment, const struct entry *e)
{
    const struct place *there = e->kind == RECORD_BLOCK ? object_index_find(&s->index, e->digest) : NULL;
    return there && there->durable && there->segment == segment && there->unit == e->unit ? there : NULL;
}

ch_err ch_object_expire(struct ch_object_store *s, uint64_t before_ms,
                        void (*gone)(void *context, const struct ch_object_tag *tag, size_t length), void *context)
{
    struct entry *entry;
    uint32_t count;
    if (s->failed != CH_OK)
        return s->failed;
    struct object_segment *segment = oldest(s, before_ms);
    if (!segment)
        return s->active && s->active->oldest_ms < before_ms && end_active(s) ? CH_OK : CH_ERR_NOT_FOUND;
    ch_err err = object_entries(s, segment, &entry, &count);
    if (err != CH_OK)
        return err;
    segment->oldest_ms = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const struct entry *e = &entry[i];
        if (!live_place(s, segment->slot.segment, e))
            continue;
        if (e->tag.put_ms == 0 || e->tag.put_ms >= before_ms) {
            object_note_age(segment, e);
            continue;
        }
        pthread_rwlock_wrlock(&s->lock);
        object_index_remove(&s->index, e->digest);
        pthread_rwlock_unlock(&s->lock);
        segment->live_bytes -= record_bytes(e->length);
        s->stats.blocks--;
        gone(context, &e->tag, e->length);
    }
    free(entry);
    return CH_OK;
}

ch_err ch_object_each(struct ch_object_store *s,
                      void (*each)(void *context, const struct ch_cid *cid, const struct ch_object_tag *tag,
                                   size_t length),
                      void *context)
{
    ch_err err = s->failed;
    for (size_t i = 0; err == CH_OK && i < s->segment_count; i++) {
        struct object_segment *segment = s->segment[i];
        struct entry *entry = segment->entry;
        uint32_t count = segment->entry_count;
        if (segment->sealed)
            err = object_entries(s, segment, &entry, &count);
        for (uint32_t k = 0; err == CH_OK && k < count; k++)
            if (live_place(s, segment->slot.segment, &entry[k])) {
                struct ch_cid cid;
                ch_cid_make((enum ch_cid_codec)entry[k].codec, entry[k].digest, &cid);
                each(context, &cid, &entry[k].tag, entry[k].length);
            }
        if (segment->sealed && err == CH_OK)
            free(entry);
    }
    return err;
}
