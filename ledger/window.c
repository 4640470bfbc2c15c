#include "ledger/window_impl.h"

#include "base/bytes.h"
#include "base/pages.h"

#define TIME_BUCKETS_MAX (1u << 20) /* 4 MiB of list heads; one millisecond each for windows up to 17 minutes */

ch_err window_init(struct window *w, uint64_t back_ms, uint64_t ahead_ms, uint64_t ids_max, uint64_t seed,
                   uint64_t now_ms)
{
    *w = (struct window){.back_ms = back_ms, .ids_max = ids_max, .seed = seed};
    if (ids_max >= UINT32_MAX)
        return CH_ERR_UNSUPPORTED;
    uint64_t span_ms = back_ms + ahead_ms + 1;
    w->time_ms = span_ms / TIME_BUCKETS_MAX + 1;
    w->times = span_ms / w->time_ms + 2;
    w->floor_ms = now_ms > back_ms ? now_ms - back_ms : 0;
    for (w->id_bits = 4; 1ull << w->id_bits < ids_max; w->id_bits++)
        ;
    w->entries = ch_pages_alloc(ids_max * sizeof *w->entries);
    w->next_by_id = ch_pages_alloc(ids_max * sizeof *w->next_by_id);
    w->next_by_time = ch_pages_alloc(ids_max * sizeof *w->next_by_time);
    w->by_id = ch_pages_alloc(sizeof *w->by_id << w->id_bits);
    w->by_time = ch_pages_alloc(w->times * sizeof *w->by_time);
    return w->entries && w->next_by_id && w->next_by_time && w->by_id && w->by_time ? CH_OK : CH_ERR_NO_MEMORY;
}

void window_free(struct window *w)
{
    ch_pages_free(w->entries, w->ids_max * sizeof *w->entries);
    ch_pages_free(w->next_by_id, w->ids_max * sizeof *w->next_by_id);
    ch_pages_free(w->next_by_time, w->ids_max * sizeof *w->next_by_time);
    ch_pages_free(w->by_id, sizeof *w->by_id << w->id_bits);
    ch_pages_free(w->by_time, w->times * sizeof *w->by_time);
    *w = (struct window){0};
}

static uint32_t *id_bucket(const struct window *w, uint64_t id)
{
    uint64_t mixed = (id ^ w->seed) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 32) * 0xd6e8feb86659fd93u;
    return &w->by_id[mixed >> (64 - w->id_bits)];
}

static uint32_t *time_bucket(const struct window *w, uint64_t timestamp_ms)
{
    return &w->by_time[timestamp_ms / w->time_ms % w->times];
}

static void forget(struct window *w, uint32_t entry)
{
    uint32_t *link = id_bucket(w, w->entries[entry - 1].id[0]);
    while (*link != entry)
        link = &w->next_by_id[*link - 1];
    *link = w->next_by_id[entry - 1];
    w->next_by_id[entry - 1] = w->free;
    w->free = entry;
    w->used--;
}

/* Takes the entries older than floor_ms out of one bucket. */
static void expire(struct window *w, uint32_t *bucket)
{
    for (uint32_t *link = bucket; *link;) {
        uint32_t entry = *link;
        if (w->entries[entry - 1].timestamp_ms < w->floor_ms) {
            *link = w->next_by_time[entry - 1];
            forget(w, entry);
        } else {
            link = &w->next_by_time[entry - 1];
        }
    }
}

void window_advance(struct window *w, uint64_t now_ms)
{
    uint64_t floor_ms = now_ms > w->back_ms ? now_ms - w->back_ms : 0;
    if (floor_ms <= w->floor_ms)
        return;
    uint64_t first = w->floor_ms / w->time_ms, last = floor_ms / w->time_ms;
    if (last - first >= w->times)
        last = first + w->times - 1; /* once around the ring */
    w->floor_ms = floor_ms;
    for (uint64_t bucket = first; bucket <= last && w->used; bucket++)
        expire(w, &w->by_time[bucket % w->times]);
}

void window_prefetch(const struct window *w, const uint8_t id[32], unsigned step)
{
    const uint32_t *bucket = id_bucket(w, ch_load64(id));
    if (step == 0)
        __builtin_prefetch(bucket, 1);
    else if (step == 1 && *bucket)
        __builtin_prefetch(&w->entries[*bucket - 1]);
}

const struct window_entry *window_find(const struct window *w, const uint8_t id[32])
{
    uint64_t first = ch_load64(id), second = ch_load64(id + 8);
    for (uint32_t at = *id_bucket(w, first); at; at = w->next_by_id[at - 1]) {
        const struct window_entry *entry = &w->entries[at - 1];
        if (entry->id[0] == first && entry->id[1] == second)
            return entry;
    }
    return NULL;
}

void window_insert(struct window *w, const uint8_t id[32], uint64_t timestamp_ms, uint64_t log_index)
{
    CH_ASSERT(w->used < w->ids_max && timestamp_ms >= w->floor_ms);
    uint32_t entry = w->free;
    if (entry)
        w->free = w->next_by_id[entry - 1];
    else
        entry = ++w->fresh;
    w->entries[entry - 1] = (struct window_entry){{ch_load64(id), ch_load64(id + 8)}, timestamp_ms, log_index};
    uint32_t *bucket = id_bucket(w, ch_load64(id));
    w->next_by_id[entry - 1] = *bucket;
    *bucket = entry;
    bucket = time_bucket(w, timestamp_ms);
    w->next_by_time[entry - 1] = *bucket;
    *bucket = entry;
    w->used++;
}
