/* store/object_upkeep.c - the owner's work on sealed segments: what is alive moves out of half-dead ones, what is too
 * old is forgotten. */
#include <stdlib.h>

#include "store/object_impl.h"

#define LOOKS_MAX 1024 /* of a call of ch_object_compact: each may read a page of the index */

/* --- compaction --- */

/* The sealed segment with most dead bytes, at least half of its own. */
static struct object_segment *most_dead(const struct ch_object_store *s)
{
    struct object_segment *most = NULL;
    for (size_t i = 0; i < s->segment_count; i++) {
        struct object_segment *segment = s->segment[i];
        uint64_t dead = segment->data_bytes - segment->live_bytes;
        if (segment->sealed && !segment->unreadable && 2 * dead >= segment->data_bytes &&
            (!most || dead > most->data_bytes - most->live_bytes))
            most = segment;
    }
    return most;
}

/* What a scrubber found. */
static ch_err mend_segment(struct ch_object_store *s)
{
    struct object_segment *segment = object_segment_find(s, atomic_exchange(&s->segment_damaged, 0));
    struct entry *entry = NULL;
    uint32_t count;
    if (!segment || !segment->sealed)
        return CH_OK;
    ch_err err = object_slots_mend(s, segment);
    if (err == CH_OK)
        err = object_entries(s, segment, &entry, &count);
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
    if (err == CH_OK)
        err = object_entries_sort(s, &s->compaction.entry, s->compaction.count);
    if (err != CH_OK)
        return err;
    s->compaction.segment = victim->slot.segment;
    s->compaction.next = s->compaction.in_flight = 0;
    return CH_OK;
}

/* The place is in the table: what becomes durable finds it there. */
static ch_err keep_in_memory(struct ch_object_store *s, const struct place *place)
{
    pthread_rwlock_wrlock(&s->lock);
    ch_err err = CH_OK;
    if (!object_index_find(&s->index, &place->print)) {
        err = object_index_reserve(&s->index, &place->print);
        if (err == CH_OK)
            object_index_set(&s->index, place);
    }
    pthread_rwlock_unlock(&s->lock);
    return err;
}

ch_err object_forget(struct ch_object_store *s, const struct place *place)
{
    struct place silent = *place;
    silent.dropped = silent.silent = silent.durable = 1;
    silent.damaged = silent.written = 0;
    pthread_rwlock_wrlock(&s->lock);
    ch_err err = object_index_reserve(&s->index, &silent.print);
    if (err == CH_OK)
        object_index_set(&s->index, &silent);
    pthread_rwlock_unlock(&s->lock);
    if (err == CH_OK)
        object_note_dead(s, place);
    return err;
}

/* Moves one record if anything still needs it. */
static ch_err move(struct ch_object_store *s, const struct entry *e, uint8_t *buffer, uint64_t *moved)
{
    struct compaction *c = &s->compaction;
    struct object_append what = {.kind = (enum record_kind)e->kind,
                          .plain = buffer,
                          .tag = e->tag,
                          .record = {.moved_segment = c->segment, .moved_unit = e->unit}};
    struct place there, place;
    struct record record;
    struct print print = object_print(s->index.key, e->digest);
    ch_err found = object_find_any(s, &print, &there, NULL);
    if (found != CH_OK && found != CH_ERR_NOT_FOUND)
        return found;
    /* What is on its way may be lost in a crash: until it is durable this one stays, and may not be moved behind it. */
    if (found == CH_OK && !there.durable)
        return CH_ERR_FULL;
    bool is = found == CH_OK && !there.dropped;
    if (e->kind == RECORD_BLOCK) {
        if (!is || there.segment != c->segment || there.unit != e->unit)
            return CH_OK;
        ch_err err = object_read_at(s->own_reader, e->digest, &there, &record, buffer, CH_BLOCK_BYTES_MAX);
        if (err == CH_ERR_CORRUPT) /* it is given up for one that stays unreadable alone */
            err = object_read_at(s->own_reader, e->digest, &there, &record, buffer, CH_BLOCK_BYTES_MAX);
        if (err == CH_ERR_CORRUPT) { /* missing is what it is: the other validators have it */
            struct ch_cid lost;
            ch_cid_make((enum ch_cid_codec)e->codec, e->digest, &lost);
            object_note_damage(s, &lost, &there, s->installs);
            s->stats.blocks_lost++;
            return object_forget(s, &there);
        }
        if (err != CH_OK)
            return err;
        what.length = record.length;
    } else {
        /* A drop is needed while an older segment may hold what it drops. */
        if (is || s->segment[0]->slot.segment == c->segment)
            return CH_OK;
        ch_cid_make((enum ch_cid_codec)e->codec, e->digest, &record.cid);
        there = (struct place){
            .print = print, .segment = c->segment, .unit = e->unit, .durable = 1, .dropped = 1};
    }
    what.cid = &record.cid;
    ch_err err = keep_in_memory(s, &there);
    if (err == CH_OK)
        err = object_append(s, &what, &place);
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
    if (err == CH_OK && !c->segment && atomic_load(&s->segment_damaged))
        err = mend_segment(s);
    if (err == CH_OK && !c->segment)
        err = begin_compaction(s);
    if (err != CH_OK)
        return err;
    uint8_t *buffer = malloc(CH_BLOCK_BYTES_MAX);
    if (!buffer)
        return CH_ERR_NO_MEMORY;
    for (unsigned looks = 0; err == CH_OK && c->next < c->count && *moved < bytes_max && looks < LOOKS_MAX; looks++) {
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
    err = object_entries_live(s, segment->slot.segment, &entry, &count);
    uint64_t oldest_ms = UINT64_MAX;
    for (uint32_t i = 0; err == CH_OK && i < count; i++) {
        const struct entry *e = &entry[i];
        const struct place place = {.print = object_print(s->index.key, e->digest),
                                    .segment = segment->slot.segment,
                                    .unit = e->unit,
                                    .length = e->length & 0x3fffff};
        if (e->tag.put_ms && e->tag.put_ms < before_ms) {
            err = object_forget(s, &place);
            if (err == CH_OK)
                gone(context, &e->tag, e->length);
        } else if (e->tag.put_ms && e->tag.put_ms < oldest_ms) {
            oldest_ms = e->tag.put_ms;
        }
    }
    free(entry);
    if (err == CH_OK)
        segment->oldest_ms = oldest_ms;
    return err;
}

/* --- all blocks --- */

#define EACH_RECORDS (8u << 20) /* are looked at in one pass over the index: 32 MiB of units */

/* Segments next to each other, and where in them blocks are. */
struct group {
    struct ch_object_store *store;
    size_t from, to; /* in the table of segments */
    uint32_t **unit; /* one array each */
    uint32_t *count;
};

static uint32_t records_of(const struct object_segment *segment)
{
    return segment->sealed ? segment->records : segment->entry_count;
}

static void note_unit(void *context, const struct place *place)
{
    struct group *g = context;
    size_t low = g->from, high = g->to;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (g->store->segment[middle]->slot.segment < place->segment)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == g->to || g->store->segment[low]->slot.segment != place->segment)
        return;
    size_t at = low - g->from;
    if (g->count[at] < records_of(g->store->segment[low]))
        g->unit[at][g->count[at]++] = place->unit;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static ch_err each_of_segment(struct ch_object_store *s, struct object_segment *segment, uint32_t *unit, uint32_t units,
                              void (*each)(void *context, const struct ch_cid *cid, const struct ch_object_tag *tag,
                                           size_t length),
                              void *context)
{
    struct entry *entry = segment->entry;
    uint32_t count = segment->entry_count;
    ch_err err = segment->sealed ? object_entries(s, segment, &entry, &count) : CH_OK;
    if (err != CH_OK)
        return err;
    if (units)
        qsort(unit, units, sizeof *unit, by_number);
    for (uint32_t k = 0; k < count; k++) {
        struct ch_cid cid;
        if (entry[k].kind != RECORD_BLOCK || !bsearch(&entry[k].unit, unit, units, sizeof *unit, by_number))
            continue;
        ch_cid_make((enum ch_cid_codec)entry[k].codec, entry[k].digest, &cid);
        each(context, &cid, &entry[k].tag, entry[k].length);
    }
    if (segment->sealed)
        free(entry);
    return CH_OK;
}

/* The group that begins with a segment; at least one is in it. */
static ch_err begin_group(struct ch_object_store *s, size_t from, struct group *g)
{
    uint64_t records = 0;
    *g = (struct group){.store = s, .from = from, .to = from};
    while (g->to < s->segment_count && (g->to == from || records + records_of(s->segment[g->to]) <= EACH_RECORDS))
        records += records_of(s->segment[g->to++]);
    g->unit = calloc(g->to - from + 1, sizeof *g->unit);
    g->count = calloc(g->to - from + 1, sizeof *g->count);
    bool all = g->unit && g->count;
    for (size_t i = from; all && i < g->to; i++) {
        g->unit[i - from] = malloc((size_t)records_of(s->segment[i]) * sizeof **g->unit + 1);
        all = g->unit[i - from] != NULL;
    }
    return all ? CH_OK : CH_ERR_NO_MEMORY;
}

static void end_group(struct group *g)
{
    for (size_t i = g->from; g->unit && i < g->to; i++)
        free(g->unit[i - g->from]);
    free(g->unit);
    free(g->count);
}

ch_err ch_object_each(struct ch_object_store *s,
                      void (*each)(void *context, const struct ch_cid *cid, const struct ch_object_tag *tag,
                                   size_t length),
                      void *context)
{
    ch_err err = s->failed;
    struct group g;
    for (size_t from = 0; err == CH_OK && from < s->segment_count; from = g.to) {
        err = begin_group(s, from, &g);
        if (err == CH_OK)
            err = object_pass(s, note_unit, &g);
        for (size_t i = from; err == CH_OK && i < g.to; i++)
            err = each_of_segment(s, s->segment[i], g.unit[i - from], g.count[i - from], each, context);
        end_group(&g);
    }
    return err == CH_ERR_CORRUPT ? CH_ERR_TIMEOUT : err;
}
