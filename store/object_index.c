/* store/object_index.c - open addressing, linear probing, a place freed by moving the following ones back. Places are
 * told apart by 96 bits of a keyed hash of the digest: they are a third of the digests' size, and who puts objects can
 * grind digests, but not these. The table is in parts, which grow one by one, each by a quarter: no growth holds up the
 * readers for long, and little is empty. */
#include <sodium.h>
#include <stdlib.h>

#include "store/object_impl.h"

#define PLACES_AT_FIRST 16

struct print object_print(const uint8_t key[PRINT_KEY_BYTES], const uint8_t digest[CH_HASH_BYTES])
{
    uint8_t hash[crypto_shorthash_siphashx24_BYTES];
    struct print print;
    crypto_shorthash_siphashx24(hash, digest, CH_HASH_BYTES, key);
    memcpy(print.bytes, hash, PRINT_BYTES);
    return print;
}

int object_place_order(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    uint64_t p = ch_load64(x->print.bytes), q = ch_load64(y->print.bytes);
    uint32_t r = ch_load32(x->print.bytes + 8), s = ch_load32(y->print.bytes + 8);
    if (p != q)
        return p < q ? -1 : 1;
    if (r != s)
        return r < s ? -1 : 1;
    if (x->segment != y->segment)
        return x->segment > y->segment ? -1 : 1;
    if (x->unit != y->unit)
        return x->unit > y->unit ? -1 : 1;
    return (int)y->dropped - (int)x->dropped;
}

static struct index_part *part_of(const struct object_index *index, const struct print *print)
{
    return (struct index_part *)&index->part[print->bytes[8] % INDEX_PARTS]; /* home has the bytes before it */
}

ch_err object_index_open(struct object_index *index, const uint8_t *master_key)
{
    static const char domain[] = "chappe/object/print/1";
    memset(index, 0, sizeof *index);
    crypto_generichash(index->key, sizeof index->key, (const uint8_t *)domain, sizeof domain, master_key,
                       CH_OBJECT_KEY_BYTES);
    for (unsigned i = 0; i < INDEX_PARTS; i++) {
        index->part[i].capacity = PLACES_AT_FIRST;
        index->part[i].place = calloc(PLACES_AT_FIRST, sizeof(struct place));
        if (!index->part[i].place)
            return CH_ERR_NO_MEMORY;
    }
    return CH_OK;
}

void object_index_close(struct object_index *index)
{
    for (unsigned i = 0; i < INDEX_PARTS; i++)
        free(index->part[i].place);
    sodium_memzero(index, sizeof *index);
}

static uint32_t home(const struct index_part *part, const struct print *print)
{
    return (uint32_t)((unsigned __int128)ch_load64(print->bytes) * part->capacity >> 64);
}

static uint32_t after(const struct index_part *part, uint32_t at)
{
    return at + 1 == part->capacity ? 0 : at + 1;
}

/* Steps from one place on to another. */
static uint32_t distance(const struct index_part *part, uint32_t from, uint32_t to)
{
    return to >= from ? to - from : to + part->capacity - from;
}

/* The place of the print, or the empty one where it would be. */
static struct place *look(const struct index_part *part, const struct print *print)
{
    uint32_t at = home(part, print);
    while (part->place[at].segment && memcmp(&part->place[at].print, print, sizeof *print) != 0)
        at = after(part, at);
    return &part->place[at];
}

struct place *object_index_find(const struct object_index *index, const struct print *print)
{
    struct place *there = look(part_of(index, print), print);
    return there->segment ? there : NULL;
}

void object_index_set(struct object_index *index, const struct place *place)
{
    struct index_part *part = part_of(index, &place->print);
    struct place *there = look(part, &place->print);
    if (there->segment && there->silent)
        index->silent--;
    if (place->dropped)
        atomic_fetch_add(&index->losses, 1);
    part->count += !there->segment;
    index->silent += place->silent;
    *there = *place;
}

static ch_err resize(struct index_part *part, uint32_t capacity)
{
    struct index_part other = {.capacity = capacity, .count = part->count};
    other.place = calloc(capacity, sizeof *other.place);
    if (!other.place)
        return CH_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < part->capacity; i++)
        if (part->place[i].segment)
            *look(&other, &part->place[i].print) = part->place[i];
    free(part->place);
    *part = other;
    return CH_OK;
}

ch_err object_index_reserve(struct object_index *index, const struct print *print)
{
    struct index_part *part = part_of(index, print);
    if ((uint64_t)(part->count + 1) * 8 <= (uint64_t)part->capacity * 7)
        return CH_OK;
    return resize(part, part->capacity + part->capacity / 4);
}

static void empty(struct index_part *part, uint32_t hole)
{
    for (uint32_t at = after(part, hole); part->place[at].segment; at = after(part, at)) {
        /* A place may move into the hole when its first probe isn't between the hole and itself. */
        uint32_t first = home(part, &part->place[at].print);
        if (distance(part, first, at) >= distance(part, hole, at)) {
            part->place[hole] = part->place[at];
            hole = at;
        }
    }
    part->place[hole].segment = 0;
    part->count--;
}

void object_index_sweep(struct object_index *index, unsigned number,
                        bool (*keep)(void *context, struct place *place), void *context)
{
    struct index_part *part = &index->part[number];
    for (uint32_t at = 0; at < part->capacity;)
        if (part->place[at].segment && !keep(context, &part->place[at])) {
            index->silent -= part->place[at].silent;
            empty(part, at); /* another one may be here now */
        } else {
            at++;
        }
    uint32_t enough = part->count * 2 < PLACES_AT_FIRST ? PLACES_AT_FIRST : part->count * 2;
    if (part->capacity > 2 * enough)
        (void)resize(part, enough); /* else it stays as large as it is */
}

ch_err object_places_reserve(struct places *places, size_t more)
{
    if (places->capacity - places->count >= more)
        return CH_OK;
    size_t capacity = places->count + more + places->count / 4;
    struct place *grown = realloc(places->place, capacity * sizeof *grown);
    if (!grown)
        return CH_ERR_NO_MEMORY;
    places->place = grown;
    places->capacity = capacity;
    return CH_OK;
}

ch_err object_index_copy(struct object_index *index, unsigned number, bool (*which)(void *context, struct place *place),
                         void *context, struct places *out)
{
    struct index_part *part = &index->part[number];
    ch_err err = object_places_reserve(out, part->count);
    for (uint32_t i = 0; err == CH_OK && i < part->capacity; i++)
        if (part->place[i].segment && (!which || which(context, &part->place[i])))
            out->place[out->count++] = part->place[i];
    return err;
}

uint64_t object_index_bytes(const struct object_index *index)
{
    uint64_t places = 0;
    for (unsigned i = 0; i < INDEX_PARTS; i++)
        places += index->part[i].capacity;
    return places * sizeof(struct place);
}
