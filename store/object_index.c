/* store/object_index.c - open addressing, linear probing, a place freed by moving the following ones back. The first
 * probe is keyed: digests can be ground by who puts objects, places can't. */
#include <sodium.h>
#include <stdlib.h>

#include "store/object_impl.h"

#define PLACES_AT_FIRST 1024

ch_err object_index_open(struct object_index *index)
{
    *index = (struct object_index){.mask = PLACES_AT_FIRST - 1};
    index->place = calloc(PLACES_AT_FIRST, sizeof *index->place);
    randombytes_buf(&index->seed, sizeof index->seed);
    return index->place ? CH_OK : CH_ERR_NO_MEMORY;
}

void object_index_close(struct object_index *index)
{
    free(index->place);
    index->place = NULL;
}

static uint64_t home(const struct object_index *index, const uint8_t *digest)
{
    uint64_t x = (ch_load64(digest) ^ index->seed) * 0x9e3779b97f4a7c15u;
    x = (x ^ ch_load64(digest + 8) ^ x >> 32) * (index->seed | 1);
    return (x ^ x >> 29) & index->mask;
}

struct place *object_index_find(const struct object_index *index, const uint8_t digest[CH_HASH_BYTES])
{
    for (uint64_t at = home(index, digest); index->place[at].segment; at = (at + 1) & index->mask)
        if (memcmp(index->place[at].digest, digest, CH_HASH_BYTES) == 0)
            return &index->place[at];
    return NULL;
}

void object_index_set(struct object_index *index, const struct place *place)
{
    struct place *there = object_index_find(index, place->digest);
    if (!there) {
        uint64_t at = home(index, place->digest);
        while (index->place[at].segment)
            at = (at + 1) & index->mask;
        there = &index->place[at];
        index->count++;
    }
    *there = *place;
}

ch_err object_index_reserve(struct object_index *index)
{
    if ((index->count + 1) * 4 <= (index->mask + 1) * 3)
        return CH_OK;
    struct object_index larger = {.mask = 2 * index->mask + 1, .seed = index->seed};
    larger.place = calloc(larger.mask + 1, sizeof *larger.place);
    if (!larger.place)
        return CH_ERR_NO_MEMORY;
    for (uint64_t i = 0; i <= index->mask; i++)
        if (index->place[i].segment)
            object_index_set(&larger, &index->place[i]);
    free(index->place);
    *index = larger;
    return CH_OK;
}

void object_index_remove(struct object_index *index, struct place *place)
{
    uint64_t hole = (uint64_t)(place - index->place);
    for (uint64_t at = (hole + 1) & index->mask; index->place[at].segment; at = (at + 1) & index->mask) {
        /* A place may move into the hole when its first probe isn't between the hole and itself. */
        uint64_t first = home(index, index->place[at].digest);
        if (((at - first) & index->mask) >= ((at - hole) & index->mask)) {
            index->place[hole] = index->place[at];
            hole = at;
        }
    }
    index->place[hole].segment = 0;
    index->count--;
}
