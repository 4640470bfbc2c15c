/* An index as sorted runs. A flush of records is a run of its own; small ones take up the small ones before them, and
 * eight neighbours of one level become one run of the next, a bounded piece of work with each batch. So an entry is
 * rewritten once a level, always in order, and no batch waits for a large merge.
 *
 * Level of a run: 1 below 32,768 entries, then one more for each factor of 8.
 * Directory: u32 count | count x (u16 slot | u16 slot merged into, or ffff | u64 entries), oldest first. How far a
 * merge has come is in the slot that it fills: it goes on after the last key there, also after a restart.
 */
#include "store/state_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define FAN          8u
#define SMALL        4096u /* runs below this are taken up by the next flush that is at least as large */
#define SOURCES_MAX  (RUN_SLOTS + 1)
#define RADIX_PASSES 4

static unsigned level_of(uint64_t entries)
{
    return entries < 32768 ? 1 : 1 + (63 - (unsigned)__builtin_clzll(entries) - 12) / 3;
}

static bool less(const struct entry *a, const struct entry *b)
{
    return a->high != b->high ? a->high < b->high : a->low < b->low;
}

/* By (high, low): radix passes over the highest bytes of `high` that differ, stable; then insertion, which finds little
 * to do: ids are hashes, and the sequences of a recipient come in order. Returns where the result is. */
static struct entry *sort(struct entry *from, struct entry *to, uint32_t count)
{
    uint64_t differ = 0;
    for (uint32_t i = 1; i < count; i++)
        differ |= from[i].high ^ from[0].high;
    int top = differ ? (63 - __builtin_clzll(differ)) / 8 : -1;
    for (int byte = top < RADIX_PASSES ? 0 : top - RADIX_PASSES + 1; byte <= top; byte++) {
        uint32_t starts[256] = {0}, sum = 0;
        for (uint32_t i = 0; i < count; i++)
            starts[from[i].high >> 8 * byte & 0xff]++;
        for (unsigned i = 0; i < 256; i++) {
            uint32_t n = starts[i];
            starts[i] = sum;
            sum += n;
        }
        for (uint32_t i = 0; i < count; i++)
            to[starts[from[i].high >> 8 * byte & 0xff]++] = from[i];
        struct entry *swap = from;
        from = to;
        to = swap;
    }
    for (uint32_t i = 1; i < count; i++) {
        struct entry moved = from[i];
        uint32_t at = i;
        for (; at && less(&moved, &from[at - 1]); at--)
            from[at] = from[at - 1];
        from[at] = moved;
    }
    return from;
}

/* --- one run --- */

struct key {
    uint64_t high, low; /* big-endian */
};

static struct key key_of(uint64_t high, uint64_t low)
{
    return (struct key){to_big(high), to_big(low)};
}

static bool block_valid(const MDB_val *block)
{
    return block->mv_size && block->mv_size <= BLOCK_ENTRIES * sizeof(struct entry) &&
           block->mv_size % sizeof(struct entry) == 0;
}

static struct entry entry_at(const MDB_val *block, size_t i)
{
    struct entry e;
    memcpy(&e, (const uint8_t *)block->mv_data + i * sizeof e, sizeof e);
    return e;
}

/* How many entries of a block are <= (high, low). */
static size_t count_until(const MDB_val *block, uint64_t high, uint64_t low)
{
    const struct entry wanted = {high, low, 0};
    size_t from = 0, to = block->mv_size / sizeof(struct entry);
    while (from < to) {
        size_t middle = (from + to) / 2;
        struct entry e = entry_at(block, middle);
        if (less(&wanted, &e))
            to = middle;
        else
            from = middle + 1;
    }
    return from;
}

/* Puts the cursor on the block that holds the last entry <= (high, low); CH_ERR_NOT_FOUND when all are greater. */
static ch_err seek(MDB_cursor *cursor, uint64_t high, uint64_t low, MDB_val *block)
{
    struct key wanted = key_of(high, low);
    MDB_val key = val(&wanted, sizeof wanted);
    int rc = mdb_cursor_get(cursor, &key, block, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(cursor, &key, block, MDB_LAST);
    else if (rc == 0 && (key.mv_size != sizeof wanted || memcmp(key.mv_data, &wanted, sizeof wanted) != 0))
        rc = mdb_cursor_get(cursor, &key, block, MDB_PREV);
    if (rc == 0)
        rc = value_open(&key, block);
    if (rc)
        return state_err(rc);
    return block_valid(block) ? CH_OK : CH_ERR_CORRUPT;
}

ch_err run_find(MDB_txn *txn, MDB_dbi slot, uint64_t high, uint64_t low, bool before, struct entry *out)
{
    MDB_cursor *cursor;
    MDB_val block;
    int rc = mdb_cursor_open(txn, slot, &cursor);
    if (rc)
        return state_err(rc);
    ch_err err = seek(cursor, high, low, &block);
    if (err == CH_OK) {
        size_t at = count_until(&block, high, low);
        struct entry e = at ? entry_at(&block, at - 1) : (struct entry){0};
        if (at && (before || (e.high == high && e.low == low)))
            *out = e;
        else
            err = CH_ERR_NOT_FOUND;
    }
    mdb_cursor_close(cursor);
    return err;
}

ch_err run_scan(MDB_txn *txn, MDB_dbi slot, uint64_t high, uint64_t low, size_t limit, uint64_t *values, size_t *count)
{
    MDB_cursor *cursor;
    MDB_val key, block;
    *count = 0;
    int rc = mdb_cursor_open(txn, slot, &cursor);
    if (rc)
        return state_err(rc);
    ch_err err = seek(cursor, high, low, &block);
    size_t at = err == CH_OK ? count_until(&block, high, low) : 0;
    if (at && entry_at(&block, at - 1).high == high && entry_at(&block, at - 1).low == low)
        for (at--; err == CH_OK && *count < limit;) {
            if (at * sizeof(struct entry) == block.mv_size) {
                rc = value_at(cursor, &key, &block, MDB_NEXT);
                err = rc ? state_err(rc) : block_valid(&block) ? CH_OK : CH_ERR_CORRUPT;
                at = 0;
                continue;
            }
            struct entry e = entry_at(&block, at++);
            if (e.high != high || e.low != low + *count)
                break;
            values[(*count)++] = e.value;
        }
    mdb_cursor_close(cursor);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

/* --- merging --- */

/* Entries in order, from a run (cursor) or from memory (no cursor). */
struct source {
    MDB_cursor *cursor;
    MDB_val block;
    size_t at, end;
    struct entry now;
    bool done;
};

static ch_err source_load(struct source *s)
{
    if (s->at < s->end) {
        s->now = entry_at(&s->block, s->at++);
        return CH_OK;
    }
    MDB_val key;
    int rc = s->cursor ? value_at(s->cursor, &key, &s->block, MDB_NEXT) : MDB_NOTFOUND;
    if (rc == MDB_NOTFOUND) {
        s->done = true;
        return CH_OK;
    }
    if (rc)
        return state_err(rc);
    if (!block_valid(&s->block))
        return CH_ERR_CORRUPT;
    s->end = s->block.mv_size / sizeof(struct entry);
    s->now = entry_at(&s->block, 0);
    s->at = 1;
    return CH_OK;
}

/* A run's entries, after `last` where there is one. */
static ch_err source_open(struct source *s, MDB_txn *txn, MDB_dbi slot, const struct entry *last)
{
    *s = (struct source){0};
    int rc = mdb_cursor_open(txn, slot, &s->cursor);
    if (rc)
        return state_err(rc);
    if (last) {
        ch_err err = seek(s->cursor, last->high, last->low, &s->block);
        if (err == CH_OK) {
            s->at = count_until(&s->block, last->high, last->low);
            s->end = s->block.mv_size / sizeof(struct entry);
        } else if (err != CH_ERR_NOT_FOUND) {
            return err;
        } else {
            mdb_cursor_close(s->cursor); /* all come after `last`: begin anew, before the first */
            s->cursor = NULL;
            rc = mdb_cursor_open(txn, slot, &s->cursor);
            if (rc)
                return state_err(rc);
        }
    }
    return source_load(s);
}

static ch_err write_block(MDB_txn *txn, MDB_dbi slot, const struct entry *entries, uint32_t count)
{
    struct key first = key_of(entries[0].high, entries[0].low);
    MDB_val key = val(&first, sizeof first);
    int rc = value_put(txn, slot, &key, entries, count * sizeof *entries, MDB_APPEND);
    return rc == MDB_KEYEXIST ? CH_ERR_CORRUPT : state_err(rc);
}

/* Appends the sources' entries to the slot in order: about `budget` of them, always whole blocks, or all. */
static ch_err merge_into(MDB_txn *txn, MDB_dbi slot, struct source *sources, unsigned count, uint64_t budget,
                         uint64_t *written, bool *done)
{
    struct entry block[BLOCK_ENTRIES];
    uint32_t filled = 0;
    *written = 0;
    *done = false;
    for (;;) {
        struct source *least = NULL;
        for (unsigned i = 0; i < count; i++)
            if (!sources[i].done && (!least || less(&sources[i].now, &least->now)))
                least = &sources[i];
        if (!least)
            break;
        block[filled++] = least->now;
        ch_err err = source_load(least);
        if (err != CH_OK)
            return err;
        if (filled == BLOCK_ENTRIES) {
            err = write_block(txn, slot, block, filled);
            if (err != CH_OK)
                return err;
            *written += filled;
            filled = 0;
            if (*written >= budget)
                return CH_OK;
        }
    }
    *done = true;
    *written += filled;
    return filled ? write_block(txn, slot, block, filled) : CH_OK;
}

static void close_sources(struct source *sources, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (sources[i].cursor)
            mdb_cursor_close(sources[i].cursor);
}

static ch_err free_slot(const struct runs *runs, uint16_t *slot)
{
    bool taken[RUN_SLOTS] = {0};
    for (uint32_t i = 0; i < runs->count; i++) {
        taken[runs->list[i].slot] = true;
        if (runs->list[i].into != NOT_MERGING)
            taken[runs->list[i].into] = true;
    }
    for (uint16_t i = 0; i < RUN_SLOTS; i++)
        if (!taken[i]) {
            *slot = i;
            return CH_OK;
        }
    return CH_ERR_FULL;
}

/* Takes runs [first, first + count) out of the directory and empties their slots, and puts one in their place. */
static ch_err replace(MDB_txn *txn, struct runs *runs, uint32_t first, uint32_t count, struct run with)
{
    for (uint32_t i = first; i < first + count; i++) {
        int rc = mdb_drop(txn, runs->slots[runs->list[i].slot], 0);
        if (rc)
            return state_err(rc);
    }
    if (count == 0)
        memmove(&runs->list[first + 1], &runs->list[first], (runs->count - first) * sizeof *runs->list);
    else
        memmove(&runs->list[first + 1], &runs->list[first + count], (runs->count - first - count) * sizeof *runs->list);
    runs->list[first] = with;
    runs->count = runs->count - count + 1;
    return CH_OK;
}

/* Works on the merge whose sources are runs [first, first + count). */
static ch_err merge_on(MDB_txn *txn, struct runs *runs, uint32_t first, uint32_t count, uint64_t budget)
{
    struct source sources[RUN_SLOTS];
    struct entry last;
    MDB_cursor *cursor;
    MDB_val key, block;
    uint16_t into = runs->list[first].into;
    MDB_dbi slot = runs->slots[into];
    int rc = mdb_cursor_open(txn, slot, &cursor);
    if (rc)
        return state_err(rc);
    rc = value_at(cursor, &key, &block, MDB_LAST);
    bool begun = rc == 0;
    if (begun && block_valid(&block))
        last = entry_at(&block, block.mv_size / sizeof last - 1);
    mdb_cursor_close(cursor);
    if (rc && rc != MDB_NOTFOUND)
        return state_err(rc);

    uint64_t written = 0, total = 0;
    bool done = false;
    unsigned opened = 0;
    ch_err err = CH_OK;
    while (opened < count && err == CH_OK) {
        total += runs->list[first + opened].entries;
        err = source_open(&sources[opened], txn, runs->slots[runs->list[first + opened].slot], begun ? &last : NULL);
        opened++;
    }
    if (err == CH_OK)
        err = merge_into(txn, slot, sources, count, budget, &written, &done);
    close_sources(sources, opened);
    runs->entries_merged += written;
    if (err != CH_OK || !done)
        return err;
    runs->merges++;
    return replace(txn, runs, first, count, (struct run){into, NOT_MERGING, total});
}

static uint32_t merge_width(const struct runs *runs, uint32_t first)
{
    uint32_t count = 1;
    while (first + count < runs->count && runs->list[first + count].into == runs->list[first].into)
        count++;
    return count;
}

/* Begins a merge where FAN neighbours of a level wait. */
static ch_err begin_merges(struct runs *runs)
{
    uint32_t same = 0;
    unsigned level = 0;
    for (uint32_t i = 0; i < runs->count; i++) {
        unsigned here = level_of(runs->list[i].entries);
        same = runs->list[i].into != NOT_MERGING ? 0 : here == level ? same + 1 : 1;
        level = here;
        if (same < FAN)
            continue;
        uint16_t slot;
        ch_err err = free_slot(runs, &slot);
        if (err != CH_OK)
            return err;
        for (uint32_t j = i + 1 - FAN; j <= i; j++)
            runs->list[j].into = slot;
        same = 0;
    }
    return CH_OK;
}

ch_err runs_merge(MDB_txn *txn, struct runs *runs, uint64_t budget)
{
    ch_err err = begin_merges(runs);
    for (uint32_t i = 0; i < runs->count && err == CH_OK; i++)
        if (runs->list[i].into != NOT_MERGING) {
            uint32_t count = merge_width(runs, i), before = runs->count;
            err = merge_on(txn, runs, i, count, budget);
            if (runs->count == before)
                i += count - 1;
        }
    return err;
}

ch_err runs_add(MDB_txn *txn, struct runs *runs, struct entry *entries, struct entry *scratch, uint32_t count)
{
    if (count == 0)
        return CH_OK;
    struct entry *sorted = sort(entries, scratch, count);
    uint32_t first = runs->count;
    uint64_t total = count;
    while (first > 0 && count < SMALL && runs->list[first - 1].into == NOT_MERGING &&
           runs->list[first - 1].entries <= total && runs->list[first - 1].entries < SMALL)
        total += runs->list[--first].entries;
    uint16_t slot;
    ch_err err = free_slot(runs, &slot);
    if (err != CH_OK || runs->count == RUN_SLOTS)
        return CH_ERR_FULL;
    struct source sources[SOURCES_MAX];
    unsigned opened = 1;
    sources[0] = (struct source){.block = val(sorted, count * sizeof *sorted), .end = count};
    err = source_load(&sources[0]);
    for (uint32_t i = first; i < runs->count && err == CH_OK; i++)
        err = source_open(&sources[opened++], txn, runs->slots[runs->list[i].slot], NULL);
    uint64_t written;
    bool done;
    if (err == CH_OK)
        err = merge_into(txn, runs->slots[slot], sources, opened, UINT64_MAX, &written, &done);
    close_sources(sources, opened);
    if (err != CH_OK)
        return err;
    runs->entries_merged += total - count;
    return replace(txn, runs, first, runs->count - first, (struct run){slot, NOT_MERGING, total});
}

/* --- the directory --- */

ch_err runs_open(MDB_txn *txn, struct runs *runs, const char *name, unsigned flags)
{
    for (unsigned i = 0; i < RUN_SLOTS; i++) {
        char full[32];
        snprintf(full, sizeof full, "%s.%u", name, i);
        int rc = mdb_dbi_open(txn, full, flags, &runs->slots[i]);
        if (rc)
            return state_err(rc);
    }
    return CH_OK;
}

size_t runs_write(const struct runs *runs, uint8_t *out)
{
    struct ch_writer w = ch_writer(out, RUNS_BYTES_MAX);
    ch_write32(&w, runs->count);
    for (uint32_t i = 0; i < runs->count; i++) {
        ch_write16(&w, runs->list[i].slot);
        ch_write16(&w, runs->list[i].into);
        ch_write64(&w, runs->list[i].entries);
    }
    CH_ASSERT(!w.bad);
    return w.used;
}

bool runs_read(struct ch_reader *r, struct runs *out)
{
    out->count = ch_read32(r);
    if (r->bad || out->count > RUN_SLOTS)
        return false;
    for (uint32_t i = 0; i < out->count; i++) {
        struct run *run = &out->list[i];
        run->slot = ch_read16(r);
        run->into = ch_read16(r);
        run->entries = ch_read64(r);
        if (run->slot >= RUN_SLOTS || (run->into >= RUN_SLOTS && run->into != NOT_MERGING))
            return false;
    }
    return !r->bad;
}
