/* store/object_merge.c - runs are made: from the footers of segments that were sealed since the last one, of those
 * whose run the disk has changed, and from several runs of about one size. In steps, between the owner's other work; a
 * new run takes the place of what it was made from when it is durable, so a crash leaves the old ones or the new
 * one. */
#include <stdlib.h>

#include "base/time.h"
#include "store/object_impl.h"

#define SOURCE_PAGES 32 /* read at once */
#define FAN          4  /* runs of about one size become one that is so many times as large */
#define MERGED_MAX   16
#define LEVELS_MAX   16 /* far more than there can be */
#define STEP_PLACES  16384
#define AGAIN_NS     1000000000u

/* --- many in one order --- */

struct source {
    struct object_run *run; /* NULL: from memory alone */
    struct ch_file *file;
    uint8_t *memory;
    uint32_t page; /* that comes next */
    struct place *place;
    size_t at, count;
    size_t sorted; /* of those from memory */
};

/* Prints are random bits: by their first eight, places fall into groups of about one size. */
static unsigned group_of(const struct place *place)
{
    return place->print.bytes[7]; /* the print is little-endian */
}

/* Brings the groups into their order, each in none: a sort of a million at once would take a quarter of a second. */
static void group(struct place *place, size_t count)
{
    size_t next[257] = {0}, end[256];
    for (size_t i = 0; i < count; i++)
        next[group_of(&place[i]) + 1]++;
    for (int i = 0; i < 256; i++)
        end[i] = next[i + 1] += next[i];
    for (unsigned i = 0; i < 256; i++)
        while (next[i] < end[i]) {
            struct place taken = place[next[i]];
            for (unsigned to; (to = group_of(&taken)) != i;) {
                struct place other = place[next[to]];
                place[next[to]++] = taken;
                taken = other;
            }
            place[next[i]++] = taken;
        }
}

static void sort_next_group(struct source *source)
{
    size_t end = source->at;
    while (end < source->count && group_of(&source->place[end]) == group_of(&source->place[source->at]))
        end++;
    qsort(source->place + source->at, end - source->at, sizeof *source->place, object_place_order);
    source->sorted = end;
}

ch_err object_stream_open(struct ch_object_store *s, struct object_run **run, unsigned run_count, struct places *places,
                          struct stream *stream)
{
    ch_err err = CH_OK;
    stream->count = 0;
    stream->source = calloc(run_count + 1, sizeof *stream->source);
    if (!stream->source)
        return CH_ERR_NO_MEMORY;
    if (places && places->count) {
        group(places->place, places->count);
        stream->source[stream->count++] = (struct source){.place = places->place, .count = places->count};
        *places = (struct places){0};
    }
    for (unsigned i = 0; err == CH_OK && i < run_count; i++) {
        struct source *source = &stream->source[stream->count++];
        char path[CH_IO_PATH_BYTES_MAX];
        source->run = run[i];
        atomic_fetch_add(&run[i]->refs, 1);
        object_run_path(s, run[i]->number, path);
        source->place = malloc((size_t)SOURCE_PAGES * PAGE_PLACES * sizeof *source->place);
        if (!source->place || posix_memalign((void **)&source->memory, CH_IO_BLOCK_BYTES,
                                             SOURCE_PAGES * CH_IO_BLOCK_BYTES) != 0)
            err = CH_ERR_NO_MEMORY;
        if (err == CH_OK)
            err = ch_io_open(s->io, path, CH_IO_READ | CH_IO_DIRECT, &source->file);
    }
    if (err != CH_OK)
        object_stream_close(s, stream);
    return err == CH_ERR_NOT_FOUND ? CH_ERR_IO : err;
}

void object_stream_close(struct ch_object_store *s, struct stream *stream)
{
    for (unsigned i = 0; i < stream->count; i++) {
        struct source *source = &stream->source[i];
        ch_io_close_file(s->io, source->file);
        free(source->memory);
        free(source->place);
        object_run_unref(s, source->run);
    }
    free(stream->source);
    *stream = (struct stream){0};
}

static ch_err refill(struct ch_object_store *s, struct source *source)
{
    uint32_t left = source->run->pages - source->page, pages = left < SOURCE_PAGES ? left : SOURCE_PAGES;
    size_t got = 0;
    ch_err err = ch_io_read(s->io, source->file, source->memory, (size_t)pages * CH_IO_BLOCK_BYTES,
                            (uint64_t)source->page * CH_IO_BLOCK_BYTES, &got);
    if (err != CH_OK && err != CH_ERR_IO)
        return err;
    got = err == CH_OK ? got : 0;
    source->at = source->count = 0;
    for (uint32_t i = 0; i < pages; i++, source->page++) {
        const uint8_t *block = source->memory + (size_t)i * CH_IO_BLOCK_BYTES;
        uint32_t places =
            got < (size_t)(i + 1) * CH_IO_BLOCK_BYTES ? 0 : object_page_places(source->run, block, source->page);
        if (places == 0) {
            atomic_store(&source->run->damaged, true);
            return CH_ERR_CORRUPT;
        }
        for (uint32_t k = 0; k < places; k++)
            object_page_place(block, k, &source->place[source->count++]);
    }
    return CH_OK;
}

/* Whether a source has a place to give. */
static ch_err ready(struct ch_object_store *s, struct source *source, bool *is)
{
    ch_err err = CH_OK;
    if (source->at == source->count && source->run && source->page < source->run->pages)
        err = refill(s, source);
    if (!source->run && source->at == source->sorted && source->at < source->count)
        sort_next_group(source);
    *is = err == CH_OK && source->at < source->count;
    return err;
}

ch_err object_stream_next(struct ch_object_store *s, struct stream *stream, struct place *out)
{
    bool any = false, is;
    ch_err err = CH_OK;
    for (unsigned i = 0; i < stream->count; i++) {
        struct source *source = &stream->source[i];
        err = ready(s, source, &is);
        if (err != CH_OK)
            return err;
        if (is && (!any || object_place_order(&source->place[source->at], out) < 0)) {
            *out = source->place[source->at];
            any = true;
        }
    }
    for (unsigned i = 0; any && i < stream->count; i++) { /* the older words on it are passed over */
        struct source *source = &stream->source[i];
        while ((err = ready(s, source, &is)) == CH_OK && is &&
               memcmp(&source->place[source->at].print, &out->print, sizeof out->print) == 0)
            source->at++;
        if (err != CH_OK)
            return err;
    }
    return any ? CH_OK : CH_ERR_NOT_FOUND;
}

/* Those of the table that `which` says yes to; no reader waits longer than for one part. */
static ch_err copy_table(struct ch_object_store *s, bool (*which)(void *context, struct place *place), void *context,
                         struct places *out)
{
    ch_err err = CH_OK;
    for (unsigned i = 0; err == CH_OK && i < INDEX_PARTS; i++) {
        pthread_rwlock_wrlock(&s->lock);
        err = object_index_copy(&s->index, i, which, context, out);
        pthread_rwlock_unlock(&s->lock);
    }
    return err;
}

ch_err object_pass(struct ch_object_store *s, void (*each)(void *context, const struct place *place), void *context)
{
    struct stream stream;
    struct place place;
    struct places young = {0};
    ch_err err = copy_table(s, NULL, NULL, &young);
    if (err == CH_OK)
        err = object_stream_open(s, s->runs->run, s->runs->count, &young, &stream);
    free(young.place);
    if (err != CH_OK)
        return err;
    while ((err = object_stream_next(s, &stream, &place)) == CH_OK)
        if (!place.dropped && place.durable && object_segment_find(s, place.segment))
            each(context, &place);
    object_stream_close(s, &stream);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

/* --- what is to be done --- */

static uint32_t covered_to(const struct ch_object_store *s)
{
    return s->runs->count ? s->runs->run[s->runs->count - 1]->last : 0;
}

static bool is_of_another(void *context, struct place *place)
{
    return !place->silent || place->segment != *(uint32_t *)context;
}

void object_index_segment_gone(struct ch_object_store *s, uint32_t number)
{
    object_index_measure(s);
    for (unsigned i = 0; s->index.silent && number <= covered_to(s) && i < INDEX_PARTS; i++) {
        pthread_rwlock_wrlock(&s->lock);
        object_index_sweep(&s->index, i, is_of_another, &number);
        pthread_rwlock_unlock(&s->lock);
    }
}

/* The sealed segments from a number on, below `end`, up to one that can't be read; false: there are none. */
static bool span_from(const struct ch_object_store *s, uint32_t number, uint32_t end, struct index_span *span)
{
    size_t at = object_segment_from(s, number);
    *span = (struct index_span){.first = number};
    for (; at < s->segment_count && s->segment[at]->unreadable; at++)
        span->first = s->segment[at]->slot.segment + 1;
    for (; at < s->segment_count && s->segment[at]->sealed && !s->segment[at]->unreadable &&
           s->segment[at]->slot.segment < end;
         at++) {
        span->last = s->segment[at]->slot.segment;
        span->records += s->segment[at]->records;
    }
    return span->last != 0;
}

void object_index_measure(struct ch_object_store *s)
{
    (void)span_from(s, covered_to(s) + 1, UINT32_MAX, &s->young);
}

static unsigned level_of(const struct ch_object_store *s, const struct object_run *run)
{
    unsigned level = 0;
    for (uint64_t count = run->count / FAN; count >= s->run_places; count /= FAN)
        level++;
    return level;
}

/* The newest runs that are of one size or below; false: too few. */
static bool to_be_merged(const struct ch_object_store *s, uint32_t *from, uint32_t *count)
{
    const struct object_runs *runs = s->runs;
    uint32_t at = runs->count;
    for (unsigned level = 0; at > 0 && level < LEVELS_MAX; level++) {
        uint64_t left = s->merged_places;
        at = runs->count;
        while (at > 0 && level_of(s, runs->run[at - 1]) <= level && runs->run[at - 1]->count <= left &&
               (at == runs->count || runs->run[at - 1]->last + 1 == runs->run[at]->first))
            left -= runs->run[--at]->count;
        if (runs->count - at >= FAN) {
            *from = at;
            *count = runs->count - at < MERGED_MAX ? runs->count - at : MERGED_MAX;
            return true;
        }
    }
    return false;
}

static struct object_run *damaged_run(const struct ch_object_store *s)
{
    for (uint32_t i = 0; i < s->runs->count; i++)
        if (atomic_load(&s->runs->run[i]->damaged))
            return s->runs->run[i];
    return NULL;
}

static bool young_enough(const struct ch_object_store *s)
{
    return s->young.last && s->young.records + s->index.silent >= s->run_places;
}

bool object_index_due(const struct ch_object_store *s)
{
    uint32_t from, count;
    if (s->job.active)
        return true;
    if (s->job_again_ns && ch_time_monotonic_ns() < s->job_again_ns)
        return false;
    return damaged_run(s) || young_enough(s) || to_be_merged(s, &from, &count);
}

/* --- a job --- */

static void begin_from_footers(struct ch_object_store *s, const struct index_span *span)
{
    s->job = (struct index_job){
        .active = true, .first = span->first, .last = span->last, .next = span->first, .chunk_first = span->first};
}

static ch_err begin_merge(struct ch_object_store *s, uint32_t from, uint32_t count)
{
    struct object_run **run = &s->runs->run[from];
    uint64_t places = 0;
    for (uint32_t i = 0; i < count; i++)
        places += run[i]->count;
    s->job = (struct index_job){.active = true, .merges = true, .first = run[0]->first, .last = run[count - 1]->last};
    ch_err err = object_stream_open(s, run, count, NULL, &s->job.stream);
    if (err != CH_OK)
        return err;
    s->job.streams = true;
    return object_run_begin(s, s->job.first, s->job.last, places, &s->job.writer);
}

static void end_job(struct ch_object_store *s)
{
    if (s->job.streams)
        object_stream_close(s, &s->job.stream);
    free(s->job.places.place);
    free(s->job.made);
    s->job = (struct index_job){0};
}

void object_job_abandon(struct ch_object_store *s)
{
    object_run_abandon(s, &s->job.writer);
    for (uint32_t i = 0; i < s->job.made_count; i++) {
        (void)object_run_remove(s, s->job.made[i]->number); /* it is about what another one is about: the next open does */
        object_run_unref(s, s->job.made[i]);
    }
    end_job(s);
}

static ch_err add_places(struct ch_object_store *s, uint32_t segment, const struct entry *entries, uint32_t count)
{
    struct places *places = &s->job.places;
    ch_err err = object_places_reserve(places, count);
    if (err != CH_OK)
        return err;
    for (uint32_t i = 0; i < count; i++)
        places->place[places->count++] = (struct place){.print = object_print(s->index.key, entries[i].digest),
                                                  .segment = segment,
                                                  .unit = entries[i].unit,
                                                  .length = entries[i].length & 0x3fffff,
                                                  .durable = 1,
                                                  .dropped = entries[i].kind == RECORD_DROP};
    return CH_OK;
}

static bool is_silent(void *context, struct place *place)
{
    bool is = place->silent && place->segment <= *(uint32_t *)context;
    if (is)
        place->written = 1;
    return is;
}

/* The places that were gathered become a run about the segments up to `last`. */
static ch_err begin_chunk(struct ch_object_store *s, uint32_t last)
{
    struct index_job *job = &s->job;
    ch_err err = CH_OK;
    if (last == job->last && last > covered_to(s)) /* what was forgotten without a record: no footer tells of it */
        err = copy_table(s, is_silent, &job->last, &job->places);
    size_t count = job->places.count;
    if (err == CH_OK)
        err = object_stream_open(s, NULL, 0, &job->places, &job->stream);
    if (err != CH_OK)
        return err;
    job->streams = true;
    err = object_run_begin(s, job->chunk_first, last, count, &job->writer);
    job->chunk_first = last + 1;
    return err;
}

/* The footer of the next segment. */
static ch_err gather(struct ch_object_store *s)
{
    struct index_job *job = &s->job;
    size_t at = object_segment_from(s, job->next);
    struct object_segment *segment = at < s->segment_count ? s->segment[at] : NULL;
    struct entry *entries;
    uint32_t count;
    if (!segment || segment->slot.segment > job->last)
        return begin_chunk(s, job->last);
    uint32_t number = segment->slot.segment;
    if (job->places.count && job->places.count + segment->records > 2 * (size_t)s->run_places)
        return begin_chunk(s, number - 1);
    ch_err err = object_entries(s, segment, &entries, &count);
    if (err == CH_ERR_CORRUPT) { /* it is left alone, and what memory knows of it stays there */
        if (number > covered_to(s))
            job->last = number - 1;
        else if (at == object_segment_from(s, job->chunk_first)) /* no run says that it holds nothing */
            job->chunk_first = number + 1;
        job->next = number + 1;
        return CH_OK;
    }
    if (err != CH_OK)
        return err;
    err = add_places(s, number, entries, count);
    free(entries);
    job->next = number + 1;
    return err;
}

/* Nothing older than the run that is being written is left: it need not say what is gone. */
static bool is_oldest(const struct ch_object_store *s)
{
    return s->job.made_count == 0 && (s->runs->count == 0 || s->runs->run[0]->first >= s->job.first);
}

static ch_err end_chunk(struct ch_object_store *s)
{
    struct index_job *job = &s->job;
    struct object_run **grown = realloc(job->made, (job->made_count + 1) * sizeof *grown);
    if (!grown)
        return CH_ERR_NO_MEMORY;
    job->made = grown;
    ch_err err = object_run_end(s, &job->writer, &job->made[job->made_count]);
    if (err != CH_OK)
        return err;
    job->made_count++;
    object_stream_close(s, &job->stream);
    job->streams = false;
    return CH_OK;
}

static ch_err write_places(struct ch_object_store *s, bool *ended)
{
    bool oldest = is_oldest(s);
    uint32_t step = s->run_places < 8 * STEP_PLACES ? s->run_places / 8 + 1 : STEP_PLACES;
    for (uint32_t i = 0; i < step; i++) {
        struct place place;
        ch_err err = object_stream_next(s, &s->job.stream, &place);
        *ended = err == CH_ERR_NOT_FOUND;
        if (*ended)
            return end_chunk(s);
        if (err == CH_OK && !(oldest && (place.dropped || !object_segment_find(s, place.segment))))
            err = object_run_add(s, &s->job.writer, &place);
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* --- the new in place of the old --- */

static bool stays_young(void *context, struct place *place)
{
    const struct ch_object_store *s = context;
    if (place->segment > s->job.last || !place->durable || place->damaged || place->segment == s->compaction.segment ||
        (place->silent && !place->written))
        return true;
    const struct object_segment *segment = object_segment_find(s, place->segment);
    return segment && segment->unreadable;
}

static ch_err install(struct ch_object_store *s)
{
    struct index_job *job = &s->job;
    struct object_runs *old = s->runs;
    bool young = job->last > covered_to(s);
    ch_err err = CH_OK;
    struct object_runs *runs = calloc(1, sizeof *runs + (old->count + job->made_count + 1) * sizeof *runs->run);
    if (!runs)
        return CH_ERR_NO_MEMORY;
    runs->refs = 1;
    uint32_t at = 0;
    for (; at < old->count && old->run[at]->last < job->first; at++)
        runs->run[runs->count++] = old->run[at];
    for (uint32_t i = 0; i < job->made_count; i++)
        runs->run[runs->count++] = job->made[i];
    uint32_t gone = at;
    while (at < old->count && old->run[at]->first <= job->last)
        at++;
    for (uint32_t i = at; i < old->count; i++)
        runs->run[runs->count++] = old->run[i];
    for (uint32_t i = 0; i < runs->count; i++)
        atomic_fetch_add(&runs->run[i]->refs, 1);
    pthread_rwlock_wrlock(&s->lock);
    s->runs = runs;
    s->installs++;
    pthread_rwlock_unlock(&s->lock);
    for (uint32_t i = 0; i < job->made_count; i++)
        object_run_unref(s, job->made[i]); /* the table of runs has them */
    for (unsigned i = 0; young && i < INDEX_PARTS; i++) {
        pthread_rwlock_wrlock(&s->lock);
        object_index_sweep(&s->index, i, stays_young, s);
        pthread_rwlock_unlock(&s->lock);
    }
    s->stats.runs_made += job->made_count;
    s->stats.runs_merged += job->merges ? at - gone : 0;
    s->stats.runs_remade += !job->merges && at > gone;
    for (size_t i = 0; !job->merges && at > gone && i < s->segment_count; i++)
        s->segment[i]->oldest_ms = s->segment[i]->first_ms; /* what expired may be there again */
    for (uint32_t i = gone; err == CH_OK && i < at; i++)
        err = object_run_remove(s, old->run[i]->number);
    object_runs_unref(s, old);
    end_job(s);
    object_index_measure(s);
    return object_passes(err) ? CH_OK : err; /* the next open removes what is left */
}

static ch_err step(struct ch_object_store *s)
{
    uint32_t from, count;
    bool ended = false;
    if (!s->job.active) {
        const struct object_run *damaged = damaged_run(s);
        if (damaged)
            begin_from_footers(s, &(struct index_span){.first = damaged->first, .last = damaged->last});
        else if (young_enough(s))
            begin_from_footers(s, &s->young);
        else if (to_be_merged(s, &from, &count))
            return begin_merge(s, from, count);
        return CH_OK;
    }
    if (!s->job.streams)
        return s->job.chunk_first > s->job.last ? install(s) : gather(s);
    ch_err err = write_places(s, &ended);
    return err == CH_OK && ended && (s->job.merges || s->job.chunk_first > s->job.last) ? install(s) : err;
}

ch_err object_index_step(struct ch_object_store *s)
{
    if (!object_index_due(s))
        return CH_OK;
    s->job_again_ns = 0;
    ch_err err = step(s);
    if (err == CH_OK)
        return CH_OK;
    object_job_abandon(s);
    if (err == CH_ERR_CORRUPT) /* a run's page: the next job makes it again */
        return CH_OK;
    if (!object_passes(err) && err != CH_ERR_NO_SPACE && err != CH_ERR_NO_MEMORY)
        return err;
    uint64_t after_ns = s->again_after_ns > AGAIN_NS ? s->again_after_ns : AGAIN_NS;
    s->job_again_ns = ch_time_monotonic_ns() + after_ns;
    return CH_OK;
}

/* --- at the start --- */

static ch_err finish_job(struct ch_object_store *s)
{
    ch_err err = CH_OK;
    while (err == CH_OK && s->job.active)
        err = step(s);
    if (err != CH_OK)
        object_job_abandon(s);
    return err;
}

/* The sealed segments that no run is about although a newer one is there; `after`: the run before them. */
static bool find_gap(const struct ch_object_store *s, struct index_span *span, uint32_t *after)
{
    for (uint32_t i = 0; i < s->runs->count; i++) {
        uint32_t from = i ? s->runs->run[i - 1]->last + 1 : 1;
        *after = i;
        if (span_from(s, from, s->runs->run[i]->first, span))
            return true;
    }
    return false;
}

/* Forgets the runs from one on; their files stay, or not. */
static ch_err forget_runs(struct ch_object_store *s, uint32_t from, uint32_t to, bool files)
{
    ch_err err = CH_OK;
    for (uint32_t i = from; i < to; i++) {
        ch_err removed = files ? object_run_remove(s, s->runs->run[i]->number) : CH_OK;
        err = err == CH_OK ? removed : err;
        object_run_unref(s, s->runs->run[i]);
    }
    for (uint32_t i = to; i < s->runs->count; i++)
        s->runs->run[i - (to - from)] = s->runs->run[i];
    s->runs->count -= to - from;
    object_index_measure(s);
    return err;
}

static bool no_room(ch_err err)
{
    return err == CH_ERR_NO_SPACE || err == CH_ERR_POOL_FULL;
}

/* Runs are made where there are none; without room for them the table in memory has to do. */
static ch_err make_missing(struct ch_object_store *s, bool *room)
{
    struct index_span span;
    uint32_t after, from, count;
    ch_err err = CH_OK;
    while (err == CH_OK && find_gap(s, &span, &after)) {
        if (*room) {
            begin_from_footers(s, &span);
            err = finish_job(s);
        } else {
            err = forget_runs(s, after, s->runs->count, false);
        }
        if (no_room(err)) {
            *room = false;
            err = CH_OK;
        }
    }
    while (err == CH_OK && *room && s->young.last && s->young.records >= s->run_places) {
        begin_from_footers(s, &s->young);
        err = finish_job(s);
    }
    while (err == CH_OK && *room && s->runs->count > MERGED_MAX && to_be_merged(s, &from, &count)) {
        err = begin_merge(s, from, count);
        if (err == CH_OK)
            err = finish_job(s);
    }
    if (no_room(err)) {
        *room = false;
        err = CH_OK;
    }
    return err;
}

static ch_err load_young(struct ch_object_store *s)
{
    ch_err err = CH_OK;
    for (size_t i = object_segment_from(s, covered_to(s) + 1); err == CH_OK && i < s->segment_count; i++) {
        struct object_segment *segment = s->segment[i];
        struct entry *entries = segment->entry;
        uint32_t count = segment->entry_count;
        if (segment->sealed) {
            err = object_entries(s, segment, &entries, &count);
            if (err == CH_ERR_CORRUPT) {
                err = CH_OK;
                continue;
            }
        }
        for (uint32_t k = 0; err == CH_OK && k < count; k++) {
            struct place place = {.print = object_print(s->index.key, entries[k].digest),
                                  .segment = segment->slot.segment,
                                  .unit = entries[k].unit,
                                  .length = entries[k].length & 0x3fffff,
                                  .durable = 1,
                                  .dropped = entries[k].kind == RECORD_DROP};
            const struct place *there = object_index_find(&s->index, &place.print);
            if (there && object_place_order(there, &place) < 0) /* of this segment, and later in it */
                continue;
            err = object_index_reserve(&s->index, &place.print);
            if (err == CH_OK)
                object_index_set(&s->index, &place);
        }
        if (segment->sealed)
            free(entries);
    }
    return err;
}

static void count_block(void *context, const struct place *place)
{
    struct ch_object_store *s = context;
    object_segment_find(s, place->segment)->live_bytes += record_bytes(place->length);
    s->stats.blocks++;
}

static ch_err count_all(struct ch_object_store *s)
{
    s->stats.blocks = 0;
    for (size_t i = 0; i < s->segment_count; i++)
        s->segment[i]->live_bytes = (uint64_t)s->segment[i]->drops * record_bytes(0);
    return object_pass(s, count_block, s);
}

ch_err object_index_load(struct ch_object_store *s)
{
    bool room = true;
    object_index_measure(s);
    for (;;) {
        ch_err err = make_missing(s, &room);
        if (err == CH_OK)
            err = load_young(s);
        if (err == CH_OK)
            err = count_all(s);
        if (err != CH_ERR_CORRUPT || !damaged_run(s))
            return err;
        uint32_t at = 0;
        while (s->runs->run[at] != damaged_run(s))
            at++;
        err = forget_runs(s, at, at + 1, true);
        if (err != CH_OK)
            return err;
        s->stats.runs_remade++;
    }
}
