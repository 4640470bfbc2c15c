#include "node/log.h"

#include <stdio.h>
#include <stdlib.h>

#define SLOT_BYTES 4096
#define SYNCS_MAX  256 /* the core has at most own_unsynced_max own blocks on their way; each asks once or twice */

struct sync {
    uint64_t core_lsn, wal_lsn;
    bool has_guard;
    struct ch_guard guard;
};

struct ch_log_writer {
    struct ch_io *wal_io, *guard_io;
    struct ch_wal *wal;
    struct ch_file *guard_file;
    uint8_t *slot;        /* one block, aligned */
    uint64_t guard_count; /* slots written in the file's life: the slot is its lowest bit */
    bool guard_in_flight;
    uint64_t guard_for; /* core lsn that the guard on its way covers */
    uint64_t base_lsn;  /* the log's lsn less the machine's, which counts 1 for all that was replayed */
    struct sync syncs[SYNCS_MAX];
    uint32_t sync_head, sync_count;
    uint64_t synced;
};

static void guard_path(const char *folder, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/guard", folder);
}

static void wal_path(const char *folder, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/wal", folder);
}

static void slot_write(uint8_t *slot, uint64_t count, const struct ch_guard *guard)
{
    memset(slot, 0, SLOT_BYTES);
    ch_store64(slot, count);
    ch_guard_write(guard, slot + 8);
}

static ch_err guard_create(struct ch_io *io, const char *folder, uint32_t epoch)
{
    char path[CH_IO_PATH_BYTES_MAX];
    struct ch_file *file = NULL;
    uint8_t *slot = aligned_alloc(SLOT_BYTES, SLOT_BYTES);
    guard_path(folder, path, sizeof path);
    ch_err err = slot ? ch_io_open(io, path, CH_IO_WRITE | CH_IO_CREATE | CH_IO_DIRECT, &file) : CH_ERR_NO_MEMORY;
    if (err == CH_OK)
        err = ch_io_allocate(io, file, 2 * SLOT_BYTES);
    for (uint64_t count = 0; count < 2 && err == CH_OK; count++) {
        slot_write(slot, count, &(struct ch_guard){.epoch = epoch});
        err = ch_io_write(io, file, slot, SLOT_BYTES, count * SLOT_BYTES);
    }
    if (err == CH_OK)
        err = ch_io_sync(io, file);
    ch_io_close_file(io, file);
    free(slot);
    return err;
}

ch_err ch_log_create(const char *folder, const struct ch_committee *committee, const struct ch_wal_options *options,
                     bool fresh)
{
    char path[CH_IO_PATH_BYTES_MAX];
    struct ch_io *io = NULL;
    struct ch_wal *wal = NULL;
    ch_err err = ch_io_uring_open(&io);
    wal_path(folder, path, sizeof path);
    if (err == CH_OK)
        err = ch_wal_create(io, path, options);
    if (err == CH_OK)
        err = ch_wal_open(io, path, options, &wal);
    if (err == CH_OK) {
        uint8_t start[CH_EPOCH_START_BYTES];
        uint64_t lsn;
        ch_wal_position position;
        ch_epoch_start_write(committee, start);
        err = ch_wal_append(wal, CH_RECORD_EPOCH_START, &(struct ch_bytes){start, sizeof start}, 1, &lsn, &position);
    }
    if (err == CH_OK)
        err = ch_wal_settle(wal);
    ch_wal_close(wal);
    if (err == CH_OK && fresh)
        err = guard_create(io, folder, committee->epoch);
    if (err == CH_OK)
        err = ch_io_sync_dir(io, folder);
    ch_io_close(io);
    return err;
}

static ch_err guard_open(struct ch_log_writer *log, const char *folder, struct ch_guard *guard, bool *has_guard)
{
    char path[CH_IO_PATH_BYTES_MAX];
    guard_path(folder, path, sizeof path);
    *has_guard = false;
    ch_err err = ch_io_open(log->guard_io, path, CH_IO_WRITE | CH_IO_DIRECT, &log->guard_file);
    if (err == CH_ERR_NOT_FOUND) {
        err = ch_io_open(log->guard_io, path, CH_IO_WRITE | CH_IO_CREATE | CH_IO_DIRECT, &log->guard_file);
        if (err == CH_OK)
            err = ch_io_allocate(log->guard_io, log->guard_file, 2 * SLOT_BYTES);
        return err == CH_OK ? ch_io_sync_dir(log->guard_io, folder) : err;
    }
    for (uint64_t i = 0; i < 2 && err == CH_OK; i++) {
        size_t got = 0;
        struct ch_guard found;
        err = ch_io_read(log->guard_io, log->guard_file, log->slot, SLOT_BYTES, i * SLOT_BYTES, &got);
        if (err != CH_OK || got != SLOT_BYTES || !ch_guard_read(log->slot + 8, &found))
            continue;
        uint64_t count = ch_load64(log->slot);
        if (!*has_guard || count >= log->guard_count) {
            *guard = found;
            log->guard_count = count;
            *has_guard = true;
        }
    }
    return err;
}

ch_err ch_log_open(const char *folder, const struct ch_wal_options *options, struct ch_guard *guard, bool *has_guard,
                   struct ch_log_writer **out)
{
    char path[CH_IO_PATH_BYTES_MAX];
    struct ch_log_writer *log = calloc(1, sizeof *log);
    if (!log)
        return CH_ERR_NO_MEMORY;
    log->slot = aligned_alloc(SLOT_BYTES, SLOT_BYTES);
    ch_err err = log->slot ? ch_io_uring_open(&log->wal_io) : CH_ERR_NO_MEMORY;
    if (err == CH_OK)
        err = ch_io_uring_open(&log->guard_io);
    if (err == CH_OK)
        err = guard_open(log, folder, guard, has_guard);
    wal_path(folder, path, sizeof path);
    if (err == CH_OK)
        err = ch_wal_open(log->wal_io, path, options, &log->wal);
    if (err != CH_OK) {
        ch_log_close(log);
        return err;
    }
    log->base_lsn = ch_wal_appended_lsn(log->wal) - 1;
    *out = log;
    return CH_OK;
}

void ch_log_close(struct ch_log_writer *log)
{
    if (!log)
        return;
    while (log->guard_in_flight) {
        struct ch_io_done done;
        if (ch_io_wait(log->guard_io) != CH_OK || ch_io_poll(log->guard_io, &done, 1))
            log->guard_in_flight = false;
    }
    ch_wal_close(log->wal);
    if (log->guard_file)
        ch_io_close_file(log->guard_io, log->guard_file);
    ch_io_close(log->wal_io);
    ch_io_close(log->guard_io);
    free(log->slot);
    free(log);
}

struct ch_wal *ch_log_wal(struct ch_log_writer *log)
{
    return log->wal;
}

ch_err ch_log_append(struct ch_log_writer *log, uint64_t core_lsn, uint8_t type, struct ch_bytes head,
                     struct ch_bytes payload, ch_wal_position *position)
{
    const struct ch_bytes parts[2] = {head, payload};
    uint64_t lsn;
    ch_err err = ch_wal_append(log->wal, type, parts, payload.length ? 2 : 1, &lsn, position);
    if (err == CH_OK)
        log->base_lsn = lsn - core_lsn;
    return err;
}

ch_err ch_log_sync(struct ch_log_writer *log, uint64_t core_lsn, const struct ch_guard *guard)
{
    if (log->sync_count == SYNCS_MAX)
        return CH_ERR_FULL;
    struct sync *sync = &log->syncs[(log->sync_head + log->sync_count++) % SYNCS_MAX];
    *sync = (struct sync){.core_lsn = core_lsn, .wal_lsn = log->base_lsn + core_lsn, .has_guard = guard != NULL};
    if (guard)
        sync->guard = *guard;
    return ch_wal_flush(log->wal);
}

/* The syncs whose records are durable are answered together: with the newest guard among them, if any has one. */
static ch_err settle_syncs(struct ch_log_writer *log)
{
    uint64_t durable = ch_wal_durable_lsn(log->wal);
    const struct ch_guard *newest = NULL;
    uint64_t upto = 0;
    while (log->sync_count && log->syncs[log->sync_head].wal_lsn <= durable) {
        struct sync *sync = &log->syncs[log->sync_head];
        if (sync->has_guard)
            newest = &sync->guard;
        upto = sync->core_lsn;
        log->sync_head = (log->sync_head + 1) % SYNCS_MAX;
        log->sync_count--;
    }
    if (!upto)
        return CH_OK;
    if (!newest) {
        log->synced = upto;
        return CH_OK;
    }
    log->guard_count++;
    slot_write(log->slot, log->guard_count, newest);
    log->guard_for = upto;
    log->guard_in_flight = true;
    return ch_io_submit(log->guard_io, &(struct ch_io_request){.kind = CH_IO_OP_WRITE,
                                                               .then_sync = true,
                                                               .file = log->guard_file,
                                                               .data = log->slot,
                                                               .length = SLOT_BYTES,
                                                               .offset = (log->guard_count & 1) * SLOT_BYTES});
}

ch_err ch_log_poll(struct ch_log_writer *log, uint64_t *synced)
{
    ch_err err = ch_wal_poll(log->wal);
    struct ch_io_done done;
    if (err == CH_OK && log->guard_in_flight && ch_io_poll(log->guard_io, &done, 1)) {
        log->guard_in_flight = false;
        err = done.err;
        if (err == CH_OK)
            log->synced = log->guard_for;
    }
    if (err == CH_OK && !log->guard_in_flight)
        err = settle_syncs(log);
    *synced = log->synced;
    return err;
}

bool ch_log_busy(const struct ch_log_writer *log)
{
    return log->guard_in_flight || log->sync_count || ch_wal_busy(log->wal);
}

void ch_log_fds(const struct ch_log_writer *log, int fds[2])
{
    fds[0] = ch_io_fd(log->wal_io);
    fds[1] = ch_io_fd(log->guard_io);
}
