/* ledger/window_impl.h - the ids of applied transactions that could still be offered again.
 *
 * A table of at most ids_max entries, found by id, expired by timestamp. An id counts until the time is past its
 * timestamp + back_ms. Two ids with the same first 16 bytes pass for one: nobody can make them for another's id.
 * Thread: one owner. Memory: all from init, touched as it fills.
 */
#ifndef CHAPPE_LEDGER_WINDOW_IMPL_H
#define CHAPPE_LEDGER_WINDOW_IMPL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct window_entry {
    uint64_t id[2];
    uint64_t timestamp_ms;
    uint64_t log_index;
};

struct window {
    uint64_t back_ms, ids_max, used, seed;
    uint64_t floor_ms; /* ids with a smaller timestamp have expired and are out */
    struct window_entry *entries;
    /* Lists of entries, as index + 1; 0 ends one. */
    uint32_t *by_id, *by_time;
    uint32_t *next_by_id, *next_by_time;
    uint32_t free, fresh; /* list of entries given back; entries never used yet begin here */
    uint32_t id_bits;
    uint64_t times, time_ms; /* buckets in by_time, a ring; width of each */
};

/* CH_ERR_NO_MEMORY; CH_ERR_UNSUPPORTED: too many ids. `w` can be freed in any case. */
CH_MUST_CHECK ch_err window_init(struct window *w, uint64_t back_ms, uint64_t ahead_ms, uint64_t ids_max, uint64_t seed,
                                 uint64_t now_ms);
void window_free(struct window *w);
/* Drops what has expired at now_ms, which never goes back. */
void window_advance(struct window *w, uint64_t now_ms);
/* Starts loading what window_find will look at: its bucket (step 0), then what is in there (1). */
void window_prefetch(const struct window *w, const uint8_t id[32], unsigned step);
const struct window_entry *window_find(const struct window *w, const uint8_t id[32]);
/* used < ids_max; floor_ms <= timestamp <= now + ahead_ms; the id is not there. */
void window_insert(struct window *w, const uint8_t id[32], uint64_t timestamp_ms, uint64_t log_index);

#endif
