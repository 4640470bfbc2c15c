#include "node/handles.h"

#include <stdlib.h>

ch_err ch_handles_open(struct ch_handles *handles, uint32_t count)
{
    *handles = (struct ch_handles){.count = count, .free = 1};
    handles->table = calloc(count, sizeof *handles->table);
    if (!handles->table)
        return CH_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        handles->table[i].next_free = i + 1 < count ? i + 2 : 0;
    return CH_OK;
}

void ch_handles_close(struct ch_handles *handles)
{
    for (uint32_t i = 0; handles->table && i < handles->count; i++)
        free(handles->table[i].replayed);
    free(handles->table);
    *handles = (struct ch_handles){0};
}

uint64_t ch_handles_add(struct ch_handles *handles, const struct ch_handle *entry)
{
    CH_ASSERT(handles->free);
    uint32_t handle = handles->free;
    handles->free = handles->table[handle - 1].next_free;
    handles->table[handle - 1] = *entry;
    return handle;
}

struct ch_handle *ch_handles_get(struct ch_handles *handles, uint64_t handle)
{
    CH_ASSERT(handle >= 1 && handle <= handles->count);
    return &handles->table[handle - 1];
}

void ch_handles_remove(struct ch_handles *handles, uint64_t handle)
{
    struct ch_handle *entry = ch_handles_get(handles, handle);
    free(entry->replayed);
    *entry = (struct ch_handle){.next_free = handles->free};
    handles->free = (uint32_t)handle;
}
