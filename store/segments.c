#include "store/segments_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct search {
    const char *ending;
    uint32_t *number;
    size_t count, capacity;
    bool no_memory;
};

static void note_file(void *context, const char *name)
{
    struct search *search = context;
    char again[16];
    uint32_t number = (uint32_t)strtoul(name, NULL, 16);
    if (number == 0 || snprintf(again, sizeof again, "%08x.%s", number, search->ending) >= (int)sizeof again ||
        strcmp(name, again) != 0)
        return;
    if (search->count == search->capacity) {
        size_t capacity = search->capacity ? 2 * search->capacity : 64;
        uint32_t *grown = capacity <= SEGMENTS_MAX ? realloc(search->number, capacity * sizeof *grown) : NULL;
        if (!grown) {
            search->no_memory = true;
            return;
        }
        search->number = grown;
        search->capacity = capacity;
    }
    search->number[search->count++] = number;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

ch_err segments_find(struct ch_io *io, const char *dir, const char *ending, struct segment_numbers *out)
{
    struct search search = {.ending = ending};
    ch_err err = ch_io_list(io, dir, note_file, &search);
    if (err == CH_OK && search.no_memory)
        err = CH_ERR_NO_MEMORY;
    if (err != CH_OK) {
        free(search.number);
        return err;
    }
    if (search.count)
        qsort(search.number, search.count, sizeof *search.number, ascending);
    *out = (struct segment_numbers){search.number, search.count};
    return CH_OK;
}
