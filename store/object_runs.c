/* store/object_runs.c - the index of sealed segments as runs: files of places sorted by print, which never change. A
 * run follows from the footers of its segments, so it is made again when anything of it isn't what was written. Memory
 * keeps a filter and the first print of each page: an absent block costs no read in nearly all cases, one that is there
 * a page.
 *
 * A run, NUMBER.run; all numbers are little-endian. Pages of 4096 bytes:
 * | offset | bytes | field |
 * | 0  | 4  | crc32c of bytes 4..4095 |
 * | 4  | 4  | places in it, and its number in the run times 256 |
 * | 8  | .  | places, then zeros |
 * Place; of one print a run has one:
 * | 0  | 12 | print: of the digest's keyed hash |
 * | 12 | 4  | segment |
 * | 16 | 4  | place in units of 64 bytes |
 * | 20 | 4  | length of the plaintext; bit 22: there is no block, the record is a drop |
 * Then the first 8 bytes of each page's first print, and the filter, both with zeros up to a multiple of 4096. Then,
 * when all that is durable, the trailer, a block of 4096:
 * | 0  | 4  | magic "COI1" |
 * | 4  | 4  | crc32c of bytes 8..95 |
 * | 8  | 4  | the run's number |
 * | 12 | 4  | pages |
 * | 16 | 4  | first and |
 * | 20 | 4  | last segment that it is about |
 * | 24 | 8  | places |
 * | 32 | 8  | blocks of the filter, 64 bytes each |
 * | 40 | 4  | crc32c of the first prints |
 * | 44 | 4  | crc32c of the filter |
 * | 48 | 16 | zero |
 * | 64 | 32 | keyed BLAKE2b-256(master key; "chappe/object/run/1\0" / bytes 8..63): the prints are of this key */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/crc32c_impl.h"
#include "store/object_impl.h"

#define MAGIC         0x31494f43u
#define TRAILER_USED  96
#define DROPPED       (1u << 22)
#define FILTER_BITS   14 /* a place: with 7 probes in a block of a cache line, 2 of 1000 absent ones pass */
#define FILTER_PROBES 7
#define FILTER_WORDS  8 /* of a block */
#define WRITER_PAGES  64

void object_run_path(const struct ch_object_store *s, uint32_t number, char path[CH_IO_PATH_BYTES_MAX])
{
    snprintf(path, CH_IO_PATH_BYTES_MAX, "%s/%08x.run", s->dir, number);
}

/* --- runs in memory --- */

static uint64_t key_of(const struct print *print)
{
    return ch_load64(print->bytes);
}

/* Prints are random bits: those that sort choose the block, the others the bits in it. */
static void probes_of(const struct object_run *run, const struct print *print, uint64_t **block, uint64_t *bits)
{
    *block = run->filter + (uint64_t)((unsigned __int128)key_of(print) * run->filter_blocks >> 64) * FILTER_WORDS;
    *bits = key_of(print) << 32 | ch_load32(print->bytes + 8);
}

static void filter_add(struct object_run *run, const struct print *print)
{
    uint64_t *block, bits;
    probes_of(run, print, &block, &bits);
    for (int i = 0; i < FILTER_PROBES; i++, bits >>= 9)
        block[bits >> 6 & 7] |= 1ull << (bits & 63);
}

static bool filter_has(const struct object_run *run, const struct print *print)
{
    uint64_t *block, bits;
    probes_of(run, print, &block, &bits);
    for (int i = 0; i < FILTER_PROBES; i++, bits >>= 9)
        if (!(block[bits >> 6 & 7] >> (bits & 63) & 1))
            return false;
    return true;
}

static uint64_t keys_bytes(uint64_t pages)
{
    return round_up(pages * sizeof(uint64_t), CH_IO_BLOCK_BYTES);
}

static uint64_t filter_bytes(const struct object_run *run)
{
    return round_up(run->filter_blocks * FILTER_WORDS * sizeof(uint64_t), CH_IO_BLOCK_BYTES);
}

/* A run with memory for so many pages, and its filter. */
static ch_err new_run(uint64_t pages, uint64_t filter_blocks, struct object_run **out)
{
    struct object_run *run = calloc(1, sizeof *run);
    if (!run)
        return CH_ERR_NO_MEMORY;
    run->refs = 1;
    run->page_capacity = (uint32_t)pages;
    run->filter_blocks = filter_blocks;
    if (posix_memalign((void **)&run->page_key, CH_IO_BLOCK_BYTES, keys_bytes(pages)) != 0)
        run->page_key = NULL;
    if (posix_memalign((void **)&run->filter, CH_IO_BLOCK_BYTES, filter_bytes(run)) != 0)
        run->filter = NULL;
    if (!run->page_key || !run->filter) {
        free(run->page_key);
        free(run->filter);
        free(run);
        return CH_ERR_NO_MEMORY;
    }
    memset(run->page_key, 0, keys_bytes(pages));
    memset(run->filter, 0, filter_bytes(run));
    *out = run;
    return CH_OK;
}

void object_run_unref(struct ch_object_store *s, struct object_run *run)
{
    if (!run || atomic_fetch_sub(&run->refs, 1) != 1)
        return;
    ch_io_close_file(s->io, run->file);
    free(run->page_key);
    free(run->filter);
    free(run);
}

void object_runs_unref(struct ch_object_store *s, struct object_runs *runs)
{
    if (!runs || atomic_fetch_sub(&runs->refs, 1) != 1)
        return;
    for (uint32_t i = 0; i < runs->count; i++)
        object_run_unref(s, runs->run[i]);
    free(runs);
}

uint64_t object_runs_bytes(const struct object_runs *runs)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < runs->count; i++)
        bytes += keys_bytes(runs->run[i]->page_capacity) + filter_bytes(runs->run[i]);
    return bytes;
}

/* --- looking up --- */

static void place_write(uint8_t at[PLACE_BYTES], const struct place *place)
{
    memcpy(at, place->print.bytes, PRINT_BYTES);
    ch_store32(at + 12, place->segment);
    ch_store32(at + 16, place->unit);
    ch_store32(at + 20, place->length | (place->dropped ? DROPPED : 0));
}

void object_page_place(const uint8_t block[CH_IO_BLOCK_BYTES], uint32_t i, struct place *place)
{
    const uint8_t *at = block + PAGE_HEADER_BYTES + (size_t)i * PLACE_BYTES;
    uint32_t length = ch_load32(at + 20);
    *place = (struct place){.segment = ch_load32(at + 12),
                            .unit = ch_load32(at + 16),
                            .length = length & (DROPPED - 1),
                            .durable = 1,
                            .dropped = (length & DROPPED) != 0};
    memcpy(place->print.bytes, at, PRINT_BYTES);
}

static int print_order(const uint8_t *a, const uint8_t *b)
{
    uint64_t p = ch_load64(a), q = ch_load64(b);
    uint32_t r = ch_load32(a + 8), t = ch_load32(b + 8);
    return p != q ? (p < q ? -1 : 1) : (r > t) - (r < t);
}

/* A crc keeps the disk's mistakes out, not what somebody wrote: nothing is let in that this run can't say. What is
 * silently dropped may be of an older segment. */
static bool page_valid(const struct object_run *run, const uint8_t *block, uint32_t page, uint32_t count)
{
    const uint8_t *at = block + PAGE_HEADER_BYTES;
    if (page >= run->pages || ch_load64(at) != run->page_key[page])
        return false;
    for (uint32_t i = 0; i < count; i++, at += PLACE_BYTES) {
        uint32_t segment = ch_load32(at + 12), length = ch_load32(at + 20);
        if (segment > run->last || (segment < run->first && !(length & DROPPED)) ||
            (length & ~DROPPED) > CH_BLOCK_BYTES_MAX || (i && print_order(at - PLACE_BYTES, at) >= 0))
            return false;
    }
    return page + 1 == run->pages || ch_load64(at - PLACE_BYTES) <= run->page_key[page + 1];
}

uint32_t object_page_places(const struct object_run *run, const uint8_t block[CH_IO_BLOCK_BYTES], uint32_t page)
{
    uint32_t count = block[4];
    bool whole = ch_load32(block) == crc32c(block + 4, CH_IO_BLOCK_BYTES - 4) && ch_load32(block + 4) >> 8 == page &&
                 count > 0 && count <= PAGE_PLACES;
    return whole && page_valid(run, block, page, count) ? count : 0;
}

static bool page_find(const uint8_t block[CH_IO_BLOCK_BYTES], uint32_t count, const struct print *print,
                      struct place *place)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const uint8_t *at = block + PAGE_HEADER_BYTES + (size_t)middle * PLACE_BYTES;
        if (print_order(at, print->bytes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == count || memcmp(block + PAGE_HEADER_BYTES + (size_t)low * PLACE_BYTES, print, sizeof *print) != 0)
        return false;
    object_page_place(block, low, place);
    return true;
}

/* The last page that begins at or before a print; false: none does. */
static bool page_of(const struct object_run *run, const struct print *print, uint32_t *page)
{
    uint32_t low = 0, high = run->pages;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (run->page_key[middle] <= key_of(print))
            low = middle + 1;
        else
            high = middle;
    }
    *page = low - 1;
    return low > 0;
}

/* The pages that a look-up in the order of prints has read last. */
struct cursor {
    uint8_t *memory;
    uint32_t page, count; /* in memory */
};

static ch_err run_find(struct ch_object_store *s, struct object_run *run, struct cursor *cursor, uint32_t ahead,
                       const struct print *print, struct place *place)
{
    uint32_t page;
    if (!filter_has(run, print) || !page_of(run, print, &page))
        return CH_ERR_NOT_FOUND;
    for (;; page--) {
        if (page < cursor->page || page >= cursor->page + cursor->count) {
            size_t got = 0;
            ch_err err = ch_io_read(s->io, run->file, cursor->memory, (size_t)ahead * CH_IO_BLOCK_BYTES,
                                    (uint64_t)page * CH_IO_BLOCK_BYTES, &got);
            if (err != CH_OK && err != CH_ERR_IO) /* a page that the disk does not give is damaged, as a changed one */
                return err == CH_ERR_NOT_FOUND ? CH_ERR_IO : err;
            cursor->page = page;
            cursor->count = err == CH_OK ? (uint32_t)(got / CH_IO_BLOCK_BYTES) : 0;
        }
        const uint8_t *block = cursor->memory + (size_t)(page - cursor->page) * CH_IO_BLOCK_BYTES;
        uint32_t count = cursor->count ? object_page_places(run, block, page) : 0;
        if (count == 0) { /* no word on what it held, until it is made again */
            atomic_store(&run->damaged, true);
            cursor->count = 0;
            return CH_ERR_TIMEOUT;
        }
        if (page_find(block, count, print, place))
            return CH_OK;
        if (page == 0 || run->page_key[page] != key_of(print))
            return CH_ERR_NOT_FOUND;
    }
}

static ch_err runs_find(struct ch_object_store *s, const struct object_runs *runs, const struct print *print,
                        struct place *place)
{
    uint8_t block[CH_IO_BLOCK_BYTES];
    ch_err err = CH_ERR_NOT_FOUND;
    for (uint32_t i = runs->count; i-- > 0 && err == CH_ERR_NOT_FOUND;)
        err = run_find(s, runs->run[i], &(struct cursor){.memory = block}, 1, print, place);
    return err;
}

ch_err object_find_any(struct ch_object_store *s, const struct print *print, struct place *place, uint64_t *installs)
{
    uint64_t unasked;
    installs = installs ? installs : &unasked;
    for (;;) {
        pthread_rwlock_rdlock(&s->lock);
        const struct place *there = object_index_find(&s->index, print);
        struct object_runs *runs = !there && s->runs->count ? s->runs : NULL;
        *installs = s->installs;
        if (there)
            *place = *there;
        if (runs)
            atomic_fetch_add(&runs->refs, 1);
        pthread_rwlock_unlock(&s->lock);
        if (!runs)
            return there ? CH_OK : CH_ERR_NOT_FOUND;
        ch_err err = runs_find(s, runs, print, place);
        object_runs_unref(s, runs);
        if (err != CH_OK || place->dropped)
            return err;
        /* Of a segment that is no more, unless the block was moved out of it meanwhile. */
        pthread_rwlock_rdlock(&s->lock);
        bool gone = !object_segment_find(s, place->segment);
        bool other = gone && (s->installs != *installs || object_index_find(&s->index, print));
        pthread_rwlock_unlock(&s->lock);
        place->dropped = gone;
        if (!other)
            return CH_OK;
    }
}

ch_err object_find(struct ch_object_store *s, const struct print *print, struct place *place, uint64_t *installs)
{
    ch_err err = object_find_any(s, print, place, installs);
    return err == CH_OK && place->dropped ? CH_ERR_NOT_FOUND : err;
}

/* --- the blocks of one segment --- */

#define AHEAD_PAGES 16

struct sought {
    struct print print;
    uint32_t at;
};

static int by_print(const void *a, const void *b)
{
    const struct sought *x = a, *y = b;
    uint64_t p = key_of(&x->print), q = key_of(&y->print);
    return p != q ? (p < q ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

ch_err object_entries_sort(struct ch_object_store *s, struct entry **entries, uint32_t count)
{
    struct sought *sought = malloc((size_t)count * sizeof *sought + 1);
    struct entry *sorted = malloc((size_t)count * sizeof *sorted + 1);
    if (!sought || !sorted) {
        free(sought);
        free(sorted);
        return CH_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++)
        sought[i] = (struct sought){object_print(s->index.key, (*entries)[i].digest), i};
    if (count)
        qsort(sought, count, sizeof *sought, by_print);
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = (*entries)[sought[i].at];
    free(sought);
    free(*entries);
    *entries = sorted;
    return CH_OK;
}

bool object_find_young(struct ch_object_store *s, const struct print *print, struct place *place)
{
    pthread_rwlock_rdlock(&s->lock);
    const struct place *there = object_index_find(&s->index, print);
    if (there)
        *place = *there;
    pthread_rwlock_unlock(&s->lock);
    return there != NULL;
}

/* The newest word on a print, by the owner, who looks for one after the other in their order. */
static ch_err find_next(struct ch_object_store *s, struct cursor *cursor, uint32_t ahead, const struct print *print,
                        struct place *place)
{
    ch_err err = object_find_young(s, print, place) ? CH_OK : CH_ERR_NOT_FOUND;
    for (uint32_t i = s->runs->count; i-- > 0 && err == CH_ERR_NOT_FOUND;)
        err = run_find(s, s->runs->run[i], &cursor[i], ahead, print, place);
    return err;
}

ch_err object_entries_live(struct ch_object_store *s, uint32_t segment, struct entry **entries, uint32_t *count)
{
    uint32_t kept = 0, runs = s->runs->count;
    uint64_t pages = 0;
    struct place place;
    ch_err err = object_entries_sort(s, entries, *count);
    if (err != CH_OK)
        return err;
    for (uint32_t i = 0; i < runs; i++)
        pages += s->runs->run[i]->pages;
    uint32_t ahead = *count > pages / AHEAD_PAGES ? AHEAD_PAGES : 1;
    struct cursor *cursor = calloc(runs + 1, sizeof *cursor);
    uint8_t *memory = malloc((size_t)runs * ahead * CH_IO_BLOCK_BYTES + 1);
    if (!cursor || !memory)
        err = CH_ERR_NO_MEMORY;
    for (uint32_t i = 0; err == CH_OK && i < runs; i++)
        cursor[i].memory = memory + (size_t)i * ahead * CH_IO_BLOCK_BYTES;
    for (uint32_t i = 0; err == CH_OK && i < *count; i++) {
        const struct entry *e = &(*entries)[i];
        if (e->kind != RECORD_BLOCK)
            continue;
        struct print print = object_print(s->index.key, e->digest);
        err = find_next(s, cursor, ahead, &print, &place);
        if (err == CH_OK && !place.dropped && place.durable && place.segment == segment && place.unit == e->unit)
            (*entries)[kept++] = *e;
        if (err == CH_ERR_NOT_FOUND)
            err = CH_OK;
    }
    free(cursor);
    free(memory);
    *count = kept;
    return err;
}

/* --- writing --- */

ch_err object_run_begin(struct ch_object_store *s, uint32_t first, uint32_t last, uint64_t count,
                        struct run_writer *w)
{
    char path[CH_IO_PATH_BYTES_MAX];
    *w = (struct run_writer){0};
    if (s->next_run == 0) /* all numbers are used */
        return CH_ERR_NO_SPACE;
    ch_err err = new_run(count / PAGE_PLACES + 1, count * FILTER_BITS / (FILTER_WORDS * 64) + 1, &w->run);
    if (err != CH_OK)
        return err;
    w->run->first = first;
    w->run->last = last;
    if (posix_memalign((void **)&w->memory, CH_IO_BLOCK_BYTES, WRITER_PAGES * CH_IO_BLOCK_BYTES) != 0) {
        w->memory = NULL;
        err = CH_ERR_NO_MEMORY;
    }
    for (int tries = 0;
         (err == CH_OK && !w->file) || (err == CH_ERR_EXISTS && tries < NUMBERS_TRIED && s->next_run); tries++) {
        w->run->number = s->next_run++; /* in a pool, what a killed process began may appear late under one of them */
        object_run_path(s, w->run->number, path);
        err = ch_io_open(s->io, path, CH_IO_WRITE | CH_IO_CREATE | CH_IO_DIRECT, &w->file);
    }
    if (err != CH_OK)
        object_run_abandon(s, w);
    return err;
}

static ch_err write_pages(struct ch_object_store *s, struct run_writer *w)
{
    size_t bytes = (size_t)w->pages * CH_IO_BLOCK_BYTES;
    ch_err err = bytes ? ch_io_write(s->io, w->file, w->memory, bytes, w->offset) : CH_OK;
    w->offset += bytes;
    w->pages = 0;
    return err;
}

static void end_page(struct run_writer *w)
{
    uint8_t *block = w->memory + (size_t)w->pages * CH_IO_BLOCK_BYTES;
    size_t used = PAGE_HEADER_BYTES + (size_t)w->page_places * PLACE_BYTES;
    memset(block + used, 0, CH_IO_BLOCK_BYTES - used);
    ch_store32(block + 4, w->page_places | w->run->pages++ << 8);
    ch_store32(block, crc32c(block + 4, CH_IO_BLOCK_BYTES - 4));
    w->pages++;
    w->page_places = 0;
}

ch_err object_run_add(struct ch_object_store *s, struct run_writer *w, const struct place *place)
{
    struct object_run *run = w->run;
    if (w->page_places == PAGE_PLACES)
        end_page(w);
    if (w->pages == WRITER_PAGES) {
        ch_err err = write_pages(s, w);
        if (err != CH_OK)
            return err;
    }
    if (w->page_places == 0) {
        CH_ASSERT(run->pages < run->page_capacity);
        run->page_key[run->pages] = key_of(&place->print);
    }
    place_write(w->memory + (size_t)w->pages * CH_IO_BLOCK_BYTES + PAGE_HEADER_BYTES +
                    (size_t)w->page_places * PLACE_BYTES,
                place);
    filter_add(run, &place->print);
    w->page_places++;
    run->count++;
    return CH_OK;
}

static void trailer_mac(const uint8_t *block, const uint8_t *master_key, uint8_t mac[32])
{
    static const char domain[] = "chappe/object/run/1";
    crypto_generichash_state state;
    crypto_generichash_init(&state, master_key, CH_OBJECT_KEY_BYTES, 32);
    crypto_generichash_update(&state, (const uint8_t *)domain, sizeof domain);
    crypto_generichash_update(&state, block + 8, 56);
    crypto_generichash_final(&state, mac, 32);
}

static void trailer_write(uint8_t block[CH_IO_BLOCK_BYTES], const struct object_run *run, const uint8_t *master_key)
{
    memset(block, 0, CH_IO_BLOCK_BYTES);
    ch_store32(block, MAGIC);
    ch_store32(block + 8, run->number);
    ch_store32(block + 12, run->pages);
    ch_store32(block + 16, run->first);
    ch_store32(block + 20, run->last);
    ch_store64(block + 24, run->count);
    ch_store64(block + 32, run->filter_blocks);
    ch_store32(block + 40, crc32c(run->page_key, keys_bytes(run->pages)));
    ch_store32(block + 44, crc32c(run->filter, filter_bytes(run)));
    trailer_mac(block, master_key, block + 64);
    ch_store32(block + 4, crc32c(block + 8, TRAILER_USED - 8));
}

ch_err object_run_end(struct ch_object_store *s, struct run_writer *w, struct object_run **out)
{
    struct object_run *run = w->run;
    char path[CH_IO_PATH_BYTES_MAX];
    if (w->page_places)
        end_page(w);
    ch_err err = write_pages(s, w);
    if (err == CH_OK && run->pages)
        err = ch_io_write(s->io, w->file, run->page_key, keys_bytes(run->pages), w->offset);
    w->offset += keys_bytes(run->pages);
    if (err == CH_OK)
        err = ch_io_write(s->io, w->file, run->filter, filter_bytes(run), w->offset);
    w->offset += filter_bytes(run);
    if (err == CH_OK)
        err = ch_io_sync(s->io, w->file);
    trailer_write(w->memory, run, s->master_key);
    if (err == CH_OK)
        err = ch_io_write(s->io, w->file, w->memory, CH_IO_BLOCK_BYTES, w->offset);
    if (err == CH_OK)
        err = ch_io_sync(s->io, w->file);
    if (err == CH_OK)
        err = ch_io_sync_dir(s->io, s->dir);
    object_run_path(s, run->number, path);
    if (err == CH_OK)
        err = ch_io_open(s->io, path, CH_IO_READ, &run->file);
    if (err != CH_OK)
        return err;
    ch_io_close_file(s->io, w->file);
    free(w->memory);
    *w = (struct run_writer){0};
    *out = run;
    return CH_OK;
}

ch_err object_run_remove(struct ch_object_store *s, uint32_t number)
{
    char path[CH_IO_PATH_BYTES_MAX];
    struct ch_file *file;
    object_run_path(s, number, path);
    ch_err err = ch_io_open(s->io, path, CH_IO_WRITE, &file); /* in a pool only who has it open may remove it */
    if (err == CH_OK) {
        err = ch_io_unlink(s->io, path);
        ch_io_close_file(s->io, file);
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

void object_run_abandon(struct ch_object_store *s, struct run_writer *w)
{
    if (!w->run)
        return;
    if (w->file) {
        ch_io_close_file(s->io, w->file);
        (void)object_run_remove(s, w->run->number); /* what is left of it has no trailer: the next open removes it */
    }
    free(w->memory);
    object_run_unref(s, w->run);
    *w = (struct run_writer){0};
}

/* --- at the start --- */

static ch_err read_into(struct ch_object_store *s, struct ch_file *file, void *to, uint64_t bytes, uint64_t offset,
                        uint32_t crc)
{
    size_t got;
    ch_err err = ch_io_read(s->io, file, to, bytes, offset, &got);
    return err == CH_ERR_IO || (err == CH_OK && (got < bytes || crc32c(to, bytes) != crc)) ? CH_ERR_CORRUPT : err;
}

/* CH_ERR_CORRUPT: no run that ended and can be read, or of another master key. */
static ch_err run_open(struct ch_object_store *s, uint32_t number, struct object_run **out)
{
    uint8_t *block = s->memory, mac[32];
    char path[CH_IO_PATH_BYTES_MAX];
    struct ch_file *file;
    struct object_run *run = NULL;
    uint64_t bytes = 0;
    size_t got;
    object_run_path(s, number, path);
    ch_err err = ch_io_open(s->io, path, CH_IO_READ, &file);
    if (err != CH_OK)
        return err;
    err = ch_io_size(s->io, file, &bytes);
    if (err == CH_OK && (bytes < CH_IO_BLOCK_BYTES || bytes % CH_IO_BLOCK_BYTES))
        err = CH_ERR_CORRUPT;
    if (err == CH_OK)
        err = ch_io_read(s->io, file, block, CH_IO_BLOCK_BYTES, bytes - CH_IO_BLOCK_BYTES, &got);
    if (err == CH_ERR_IO || (err == CH_OK && (got < CH_IO_BLOCK_BYTES || ch_load32(block) != MAGIC ||
                                              ch_load32(block + 4) != crc32c(block + 8, TRAILER_USED - 8))))
        err = CH_ERR_CORRUPT;
    if (err != CH_OK)
        goto fail;
    trailer_mac(block, s->master_key, mac);
    uint64_t pages = ch_load32(block + 12), blocks = ch_load64(block + 32);
    err = CH_ERR_CORRUPT;
    if (sodium_memcmp(mac, block + 64, sizeof mac) != 0 || ch_load32(block + 8) != number)
        goto fail;
    err = new_run(pages, blocks, &run);
    if (err != CH_OK)
        goto fail;
    run->number = number;
    run->pages = (uint32_t)pages;
    run->first = ch_load32(block + 16);
    run->last = ch_load32(block + 20);
    run->count = ch_load64(block + 24);
    err = CH_ERR_CORRUPT;
    if (bytes != (pages + 1) * CH_IO_BLOCK_BYTES + keys_bytes(pages) + filter_bytes(run))
        goto fail;
    uint64_t offset = pages * CH_IO_BLOCK_BYTES;
    uint32_t filter_crc = ch_load32(block + 44);
    err = read_into(s, file, run->page_key, keys_bytes(pages), offset, ch_load32(block + 40));
    if (err == CH_OK)
        err = read_into(s, file, run->filter, filter_bytes(run), offset + keys_bytes(pages), filter_crc);
    if (err != CH_OK)
        goto fail;
    run->file = file;
    *out = run;
    return CH_OK;
fail:
    ch_io_close_file(s->io, file);
    object_run_unref(s, run);
    return err;
}

/* Ascending; of those that are about the same segments the wider first, then the newer. */
static int by_range(const void *a, const void *b)
{
    const struct object_run *x = *(struct object_run *const *)a, *y = *(struct object_run *const *)b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    if (x->last != y->last)
        return x->last > y->last ? -1 : 1;
    return x->number > y->number ? -1 : 1;
}

ch_err object_runs_open(struct ch_object_store *s)
{
    struct segment_numbers found = {0};
    uint32_t kept = 0;
    ch_err err = segments_find(s->io, s->dir, "run", &found);
    struct object_runs *runs = calloc(1, sizeof *runs + (found.count + 1) * sizeof *runs->run);
    if (!runs)
        err = CH_ERR_NO_MEMORY;
    else
        runs->refs = 1;
    s->next_run = 1;
    for (size_t i = 0; err == CH_OK && i < found.count; i++) {
        s->next_run = found.number[i] + 1;
        err = run_open(s, found.number[i], &runs->run[runs->count]);
        if (err == CH_OK)
            runs->count++;
        else if (err == CH_ERR_CORRUPT)
            err = object_run_remove(s, found.number[i]);
    }
    free(found.number);
    if (err != CH_OK) {
        object_runs_unref(s, runs);
        return err;
    }
    if (runs->count)
        qsort(runs->run, runs->count, sizeof *runs->run, by_range);
    /* What a merged or remade run was made from may still be here, and what a remade one would have been. */
    for (uint32_t i = 0; i < runs->count; i++) {
        struct object_run *run = runs->run[i];
        if (kept == 0 || run->first > runs->run[kept - 1]->last) {
            runs->run[kept++] = run;
            continue;
        }
        ch_err removed = object_run_remove(s, run->number);
        err = err == CH_OK ? removed : err;
        object_run_unref(s, run);
    }
    runs->count = kept;
    s->runs = runs;
    if (kept && s->next_number && runs->run[kept - 1]->last >= s->next_number)
        s->next_number = runs->run[kept - 1]->last + 1;
    return err;
}
