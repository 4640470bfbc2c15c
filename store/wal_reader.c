#include <stdlib.h>

#include "store/wal_impl.h"

#define READER_FILES 32 /* kept open by a reader; the newest segments are read most */

struct ch_wal_reader {
    struct ch_wal *wal;
    struct {
        uint32_t number; /* 0: empty */
        struct ch_file *file;
    } cached[READER_FILES];
};

ch_err ch_wal_reader_open(struct ch_wal *wal, struct ch_wal_reader **out)
{
    struct ch_wal_reader *r = calloc(1, sizeof *r);
    if (!r)
        return CH_ERR_NO_MEMORY;
    r->wal = wal;
    *out = r;
    return CH_OK;
}

void ch_wal_reader_close(struct ch_wal_reader *r)
{
    if (!r)
        return;
    for (int i = 0; i < READER_FILES; i++)
        ch_io_close_file(r->wal->io, r->cached[i].file);
    free(r);
}

static ch_err file_of(struct ch_wal_reader *r, uint32_t number, struct ch_file **file)
{
    char path[CH_IO_PATH_BYTES_MAX];
    int slot = (int)(number % READER_FILES);
    if (r->cached[slot].number != number) {
        ch_io_close_file(r->wal->io, r->cached[slot].file);
        r->cached[slot].number = 0;
        r->cached[slot].file = NULL;
        ch_wal_path(r->wal, number, NULL, path);
        ch_err err = ch_io_open(r->wal->io, path, CH_IO_READ, &r->cached[slot].file);
        if (err != CH_OK)
            return err;
        r->cached[slot].number = number;
    }
    *file = r->cached[slot].file;
    return CH_OK;
}

void ch_wal_want(struct ch_wal_reader *r, ch_wal_position position, size_t length)
{
    struct ch_wal *w = r->wal;
    uint32_t number = segment_of(position);
    struct ch_file *file;
    ch_wal_position end = atomic_load_explicit(&w->durable_end, memory_order_acquire);
    if (position >= end || number < atomic_load(&w->first_number) || file_of(r, number, &file) != CH_OK)
        return;
    /* No page that is still to be written comes into the cache. */
    ch_io_want(w->io, file, length < end - position ? length : end - position, offset_of(position));
}

ch_err ch_wal_read(struct ch_wal_reader *r, ch_wal_position position, void *to, size_t length)
{
    struct ch_wal *w = r->wal;
    uint32_t number = segment_of(position);
    struct ch_file *file;
    size_t got = 0;
    if (position + length > atomic_load_explicit(&w->durable_end, memory_order_acquire))
        return CH_ERR_AGAIN;
    if (number < atomic_load(&w->first_number))
        return CH_ERR_NOT_FOUND;
    ch_err err = file_of(r, number, &file);
    if (err == CH_OK)
        err = ch_io_read(w->io, file, to, length, offset_of(position), &got);
    /* The file may have been cut, renamed and written again meanwhile; then its number is gone by now. */
    if (number < atomic_load(&w->first_number))
        return CH_ERR_NOT_FOUND;
    if (err == CH_OK && got < length)
        return CH_ERR_CORRUPT;
    return err;
}
