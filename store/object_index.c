/* store/object_index.c - open addressing, linear probing, a place freed by moving the following ones back. Places are
 * told apart by 96 bits of a keyed hash of the digest: they are a third of the digests' size, and who puts objects can
 * grind digests, but not these. The table is in parts, which grow one by one, each by a quarter: no growth holds up the
 * readers for long, and little is empty. */
#include <sodium.h>
#include <stdlib.h>

#include "store/object_impl.h"

#define PLACES_AT_FIRST 16

struct print {
    uint8_t bytes[crypto_shorthash_siphashx24_BYTES]; /* PRINT_BYTES are kept, the last chooses the part */
};

_Static_assert(PRINT_BYTES < crypto_shorthash_siphashx24_BYTES, "the part's byte is apart");

static struct print print_of(const struct object_index *index, const uint8_t digest[CH_HASH_BYTES])
{
    struct print print;
    crypto_shorthash_siphashx24(print.bytes, digest, CH_HASH_BYTES, index->key);
    return print;
}

static unsigned part_of(const struct print *print)
{
    return print->bytes[sizeof print->bytes - 1] % INDEX_PARTS;
}

ch_err object_index_open(struct object_index *index)
{
    memset(index, 0, sizeof *index);
    randombytes_buf(index->key, sizeof index->key);
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

static uint32_t home(const struct index_part *part, const uint8_t *print)
{
    return (uint32_t)((unsigned __int128)ch_load64(print) * part->capacity >> 64);
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
static struct place *look(const struct index_part *part, const uint8_t *print)
{
    uint32_t at = home(part, print);
    while (part->place[at].segment && memcmp(part->place[at].print, print, PRINT_BYTES) != 0)
        at = after(part, at);
    return &part->place[at];
}

struct place *object_index_find(const struct object_index *index, const uint8_t digest[CH_HASH_BYTES])
{
    struct print print = print_of(index, digest);
    struct place *there = look(&index->part[part_of(&print)], print.bytes);
    return there->segment ? there : NULL;
}

void object_index_set(struct object_index *index, const uint8_t digest[CH_HASH_BYTES], const struct place *place)
{
    struct print print = print_of(index, digest);
    struct index_part *part = &index->part[part_of(&print)];
    struct place *there = look(part, print.bytes);
    part->count += !there->segment;
    *there = *place;
    memcpy(there->print, print.bytes, PRINT_BYTES);
}

ch_err object_index_reserve(struct object_index *index, const uint8_t digest[CH_HASH_BYTES])
{
    struct print print = print_of(index, digest);
    struct index_part *part = &index->part[part_of(&print)];
    if ((uint64_t)(part->count + 1) * 8 <= (uint64_t)part->capacity * 7)
        return CH_OK;
    struct index_part larger = {.capacity = part->capacity + part->capacity / 4, .count = part->count};
    larger.place = calloc(larger.capacity, sizeof *larger.place);
    if (!larger.place)
        return CH_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < part->capacity; i++)
        if (part->place[i].segment)
            *look(&larger, part->place[i].print) = part->place[i];
    free(part->place);
    *part = larger;
    return CH_OK;
}

static void empty(struct index_part *part, uint32_t hole)
{
    for (uint32_t at = after(part, hole); part->place[at].segment; at = after(part, at)) {
        /* A place may move into the hole when its first probe isn't between the hole and itself. */
        uint32_t first = home(part, part->place[at].print);
        if (distance(part, first, at) >= distance(part, hole, at)) {
            part->place[hole] = part->place[at];
            hole = at;
        }
    }
    part->place[hole].segment = 0;
    part->count--;
}

void object_index_remove(struct object_index *index, const uint8_t digest[CH_HASH_BYTES])
{
    struct print print = print_of(index, digest);
    struct index_part *part = &index->part[part_of(&print)];
    struct place *there = look(part, print.bytes);
    if (there->segment) {
        empty(part, (uint32_t)(there - part->place));
        atomic_fetch_add(&index->losses, 1);
    }
}

void object_index_sweep(struct object_index *index, uint32_t segment,
                        bool (*keep)(void *context, const struct place *place), void *context)
{
    for (unsigned i = 0; i < INDEX_PARTS; i++) {
        struct index_part *part = &index->part[i];
        for (uint32_t at = 0; at < part->capacity;)
            if (part->place[at].segment == segment && !keep(context, &part->place[at])) {
                empty(part, at); /* another one may be here now */
                atomic_fetch_add(&index->losses, 1);
            } else {
                at++;
            }
    }
}

uint64_t object_index_bytes(const struct object_index *index)
{
    uint64_t places = 0;
    for (unsigned i = 0; i < INDEX_PARTS; i++)
        places += index->part[i].capacity;
    return places * sizeof(struct place);
}
