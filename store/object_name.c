/* store/object_name.c - records under names, and lists of them. On the disk a name is a CID with a codec 1..8, which no
 * block has. The index knows digests alone: so a name's is the complement of its hash, which nobody can hit with a
 * block. */
#include <stdlib.h>

#include "store/object_impl.h"

void ch_object_name(unsigned kind, const uint8_t hash[32], struct ch_cid *name)
{
    uint8_t digest[CH_HASH_BYTES];
    CH_ASSERT(kind >= 1 && kind <= CH_OBJECT_NAME_KINDS);
    for (int i = 0; i < CH_HASH_BYTES; i++)
        digest[i] = (uint8_t)~hash[i];
    ch_cid_make((enum ch_cid_codec)kind, digest, name);
}

bool object_is_name(const uint8_t bytes[CH_CID_BYTES])
{
    return bytes[0] == 1 && bytes[1] >= 1 && bytes[1] <= CH_OBJECT_NAME_KINDS && bytes[2] == 0x12 &&
           bytes[3] == CH_HASH_BYTES;
}

bool object_cid_valid(const uint8_t bytes[CH_CID_BYTES])
{
    return ch_cid_valid(bytes) || object_is_name(bytes);
}

bool object_cid_holds(const struct ch_cid *cid, const void *bytes, size_t length)
{
    return object_is_name(cid->bytes) || ch_cid_matches(cid, bytes, length);
}

/* --- lists --- */

static int by_unit(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return (x->unit > y->unit) - (x->unit < y->unit);
}

/* The entries of this kind that are there in a sealed segment, kept for the next call. Of one that can't be read there
 * are none. What happens to one of them later is in memory until other runs are installed. */
static ch_err enter(struct ch_object_store *s, struct object_segment *segment, unsigned kind)
{
    struct listing *l = &s->listing;
    uint32_t kept = 0;
    if (l->segment == segment->slot.segment && l->kind == kind && l->installs == s->installs)
        return CH_OK;
    free(l->entry);
    *l = (struct listing){0};
    ch_err err = object_entries(s, segment, &l->entry, &l->count);
    if (err != CH_OK && err != CH_ERR_CORRUPT)
        return err;
    if (err == CH_ERR_CORRUPT)
        l->count = 0;
    for (uint32_t i = 0; i < l->count; i++)
        if (l->entry[i].kind == RECORD_BLOCK && l->entry[i].codec == kind)
            l->entry[kept++] = l->entry[i];
    l->count = kept;
    err = object_entries_live(s, segment->slot.segment, &l->entry, &kept);
    if (err != CH_OK)
        return err;
    l->count = kept;
    l->installs = s->installs;
    if (kept)
        qsort(l->entry, kept, sizeof *l->entry, by_unit);
    l->kind = kind;
    l->segment = segment->slot.segment;
    return CH_OK;
}

/* The first entry at or behind a unit. */
static uint32_t first_from(const struct entry *entries, uint32_t count, uint32_t unit)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entries[middle].unit < unit)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

ch_err ch_object_list(struct ch_object_store *s, unsigned kind, uint64_t *cursor, uint8_t (*hashes)[32], size_t max,
                      size_t *count, bool *end)
{
    *count = 0;
    *end = false;
    for (size_t at = 0; at < s->segment_count && *count < max; at++) {
        struct object_segment *segment = s->segment[at];
        uint32_t number = segment->slot.segment, from = *cursor >> 32 == number ? (uint32_t)*cursor : 0;
        if (*cursor >> 32 > number)
            continue;
        ch_err err = segment->sealed ? enter(s, segment, kind) : CH_OK;
        if (err != CH_OK)
            return err;
        const struct entry *entries = segment->sealed ? s->listing.entry : segment->entry;
        uint32_t entry_count = segment->sealed ? s->listing.count : segment->entry_count;
        for (uint32_t i = first_from(entries, entry_count, from); i < entry_count && *count < max; i++) {
            const struct entry *e = &entries[i];
            struct print print = object_print(s->index.key, e->digest);
            struct place there;
            bool young = object_find_young(s, &print, &there);
            bool here = young ? !there.dropped && there.segment == number && there.unit == e->unit : segment->sealed;
            if (young && here && !there.durable) { /* not durable yet: the list ends here until it is */
                *end = true;
                return CH_OK;
            }
            *cursor = (uint64_t)number << 32 | (e->unit + 1);
            if (!here || e->kind != RECORD_BLOCK || e->codec != kind)
                continue;
            for (int k = 0; k < CH_HASH_BYTES; k++)
                hashes[*count][k] = (uint8_t)~e->digest[k];
            ++*count;
        }
        if (*count < max && segment->sealed)
            *cursor = (uint64_t)(number + 1) << 32;
    }
    *end = *count < max;
    return CH_OK;
}
