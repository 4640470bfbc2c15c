#include "store/wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store/wal_impl.h"

#define GATHER_BYTES   (512u << 10) /* a frame this large leaves without a flush; with 4 in flight the best rate measured */
#define PREPARE_COOKIE UINT64_MAX

/* --- segments --- */

void ch_wal_path(const struct ch_wal *wal, uint32_t number, const char *name, char path[CH_IO_PATH_BYTES_MAX])
{
    if (number)
        snprintf(path, CH_IO_PATH_BYTES_MAX, "%s/%08x.wal", wal->dir, number);
    else
        snprintf(path, CH_IO_PATH_BYTES_MAX, "%s/%s", wal->dir, name);
}

static void let_go(struct ch_wal *w, struct segment *segment)
{
    if (segment && --segment->holders == 0) {
        ch_io_close_file(w->io, segment->file);
        free(segment);
    }
}

ch_err ch_wal_enter(struct ch_wal *w, uint32_t number, uint32_t offset)
{
    char path[CH_IO_PATH_BYTES_MAX];
    ch_wal_path(w, number, NULL, path);
    struct segment *segment = malloc(sizeof *segment);
    if (!segment)
        return CH_ERR_NO_MEMORY;
    ch_err err = ch_io_open(w->io, path, CH_IO_WRITE | CH_IO_DIRECT, &segment->file);
    if (err != CH_OK) {
        free(segment);
        return err == CH_ERR_NOT_FOUND ? CH_ERR_IO : err;
    }
    segment->holders = 1;
    let_go(w, w->current);
    w->current = segment;
    w->current_number = number;
    w->offset = offset;
    return CH_OK;
}

/* The prepared file becomes the next segment. */
static ch_err adopt_prepared(struct ch_wal *w)
{
    char from[CH_IO_PATH_BYTES_MAX], to[CH_IO_PATH_BYTES_MAX];
    ch_io_close_file(w->io, w->prepare_file);
    w->prepare_file = NULL;
    w->prepare = PREPARE_NONE;
    ch_wal_path(w, 0, "prepare", from);
    ch_wal_path(w, w->last_number + 1, NULL, to);
    ch_err err = ch_io_rename(w->io, from, to);
    if (err == CH_OK)
        err = ch_io_sync_dir(w->io, w->dir);
    if (err == CH_OK)
        w->last_number++;
    return err;
}

/* Opens the file that will be the next segment, with its space. Leaves nothing behind on failure. */
static ch_err begin_prepare(struct ch_wal *w)
{
    char path[CH_IO_PATH_BYTES_MAX];
    ch_wal_path(w, 0, "prepare", path);
    ch_err err = ch_io_open(w->io, path, CH_IO_WRITE | CH_IO_CREATE | CH_IO_DIRECT, &w->prepare_file);
    if (err != CH_OK)
        return err;
    err = ch_io_allocate(w->io, w->prepare_file, w->segment_bytes);
    if (err != CH_OK) {
        ch_io_close_file(w->io, w->prepare_file);
        w->prepare_file = NULL;
        ch_err unlinked = ch_io_unlink(w->io, path);
        return unlinked == CH_OK ? err : unlinked;
    }
    w->prepare_offset = 0;
    return CH_OK;
}

static uint32_t zero_length(const struct ch_wal *w)
{
    uint32_t left = w->segment_bytes - w->prepare_offset;
    return left < ZERO_BYTES ? left : ZERO_BYTES;
}

ch_err ch_wal_add_segment(struct ch_wal *w)
{
    ch_err err = begin_prepare(w);
    while (err == CH_OK && w->prepare_offset < w->segment_bytes) {
        uint32_t length = zero_length(w);
        err = ch_io_write(w->io, w->prepare_file, w->zeros, length, w->prepare_offset);
        w->prepare_offset += length;
    }
    if (err == CH_OK)
        err = ch_io_sync(w->io, w->prepare_file);
    return err == CH_OK ? adopt_prepared(w) : err;
}

/* --- preparing the next segment while the log goes on --- */

static ch_err prepare_write(struct ch_wal *w)
{
    struct ch_io_request request = {
        .kind = w->prepare == PREPARE_SYNCING ? CH_IO_OP_SYNC : CH_IO_OP_WRITE,
        .file = w->prepare_file,
        .data = w->zeros,
        .length = w->prepare == PREPARE_SYNCING ? 0 : zero_length(w),
        .offset = w->prepare_offset,
        .cookie = PREPARE_COOKIE,
    };
    ch_err err = ch_io_submit(w->io, &request);
    w->flights += err == CH_OK;
    return err;
}

/* A full disk is no failure here: the log has the rest of its segment, and tries again. */
static ch_err no_space(struct ch_wal *w)
{
    char path[CH_IO_PATH_BYTES_MAX];
    w->prepare = PREPARE_NO_SPACE;
    if (!w->prepare_file)
        return CH_OK;
    ch_io_close_file(w->io, w->prepare_file);
    w->prepare_file = NULL;
    ch_wal_path(w, 0, "prepare", path);
    return ch_io_unlink(w->io, path);
}

/* Starts on another segment when none is ready. */
static ch_err prepare_if_needed(struct ch_wal *w)
{
    if (w->last_number > w->current_number) {
        if (w->prepare == PREPARE_NO_SPACE)
            w->prepare = PREPARE_NONE;
        return CH_OK;
    }
    if (w->prepare == PREPARE_NO_SPACE) {
        uint64_t free_bytes;
        ch_err err = ch_io_free_bytes(w->io, w->dir, &free_bytes);
        if (err != CH_OK || free_bytes < w->segment_bytes)
            return err;
    } else if (w->prepare != PREPARE_NONE) {
        return CH_OK;
    }
    ch_err err = begin_prepare(w);
    if (err == CH_ERR_NO_SPACE)
        return no_space(w);
    if (err != CH_OK)
        return err;
    w->prepare = PREPARE_WRITING;
    return prepare_write(w);
}

static ch_err prepare_done(struct ch_wal *w, ch_err result)
{
    if (result == CH_ERR_NO_SPACE)
        return no_space(w);
    if (result != CH_OK)
        return result;
    if (w->prepare == PREPARE_SYNCING)
        return adopt_prepared(w);
    w->prepare_offset += zero_length(w);
    if (w->prepare_offset == w->segment_bytes)
        w->prepare = PREPARE_SYNCING;
    return prepare_write(w);
}

/* --- frames --- */

static bool may_fly(const struct ch_wal *w)
{
    return w->flying - w->oldest < CH_WAL_DEPTH;
}

static bool may_complete(const struct ch_wal *w)
{
    return w->next - w->oldest < FRAME_SLOTS;
}

/* Gives the empty filling frame its place, in the next segment when `need` bytes don't fit into this one. */
static ch_err place(struct ch_wal *w, uint32_t need)
{
    if (w->segment_bytes - w->offset < blocks(FRAME_HEADER_BYTES + need)) {
        if (w->current_number == w->last_number)
            return w->prepare == PREPARE_NO_SPACE ? CH_ERR_NO_SPACE : CH_ERR_FULL;
        ch_err err = ch_wal_enter(w, w->current_number + 1, 0);
        if (err != CH_OK)
            return w->failed = err;
    }
    struct frame *f = &w->filling;
    f->used = FRAME_HEADER_BYTES;
    f->record_count = 0;
    f->lsn = w->next_lsn;
    f->position = position_at(w->current_number, w->offset);
    return CH_OK;
}

/* The filling frame, which has its place, gets its header and a slot, and waits for its turn. */
static void complete(struct ch_wal *w)
{
    struct frame *filling = &w->filling, *f = &w->frame[w->next % FRAME_SLOTS];
    CH_ASSERT(may_complete(w) && f->state == FRAME_FREE && filling->used);
    struct frame_header header = {
        .length = filling->used,
        .record_count = filling->record_count,
        .previous_crc = w->previous_crc,
        .generation = w->generation,
        .lsn = filling->lsn,
        .durable_lsn = w->durable_lsn,
        .log_id = w->log_id,
        .position = filling->position,
    };
    ch_wal_frame_seal(filling->memory, &header);
    ch_io_copy(f->memory, filling->memory, blocks(filling->used));
    uint8_t *memory = f->memory;
    *f = *filling;
    f->memory = memory;
    f->state = FRAME_WAITING;
    f->segment = w->current;
    f->segment->holders++;
    w->previous_crc = header.header_crc;
    w->offset += blocks(f->used);
    w->next++;
    filling->used = 0;
    w->flush_wanted = false;
}

/* The oldest frame that waits goes to the disk. */
static ch_err launch(struct ch_wal *w)
{
    struct frame *f = &w->frame[w->flying % FRAME_SLOTS];
    CH_ASSERT(may_fly(w) && f->state == FRAME_WAITING);
    struct ch_io_request request = {
        .kind = CH_IO_OP_WRITE,
        .then_sync = true,
        .file = f->segment->file,
        .data = f->memory,
        .length = blocks(f->used),
        .offset = offset_of(f->position),
        .cookie = w->flying,
    };
    ch_err err = ch_io_submit(w->io, &request);
    if (err != CH_OK)
        return w->failed = err;
    w->flights++;
    f->state = FRAME_FLYING;
    w->flying++;
    return CH_OK;
}

/* Starts what may fly: the frames that wait, and the filling one after them when it was asked for and few fly. */
static ch_err start(struct ch_wal *w)
{
    ch_err err = CH_OK;
    if (w->filling.used >= GATHER_BYTES && may_complete(w))
        complete(w);
    while (err == CH_OK && may_fly(w)) {
        if (w->flying == w->next) {
            if (!w->filling.used || !w->flush_wanted || w->flying - w->oldest >= CH_WAL_FLUSH_DEPTH)
                break;
            complete(w);
        }
        err = launch(w);
    }
    return err;
}

ch_err ch_wal_append(struct ch_wal *w, uint8_t type, const struct ch_bytes *parts, size_t count, uint64_t *lsn,
                     ch_wal_position *position)
{
    if (w->failed != CH_OK)
        return w->failed;
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += parts[i].length;
    CH_ASSERT(length <= w->frame_bytes_max - 128);
    uint32_t need = CH_WAL_RECORD_HEADER_BYTES + (uint32_t)length;

    struct frame *f = &w->filling;
    if (f->used) {
        uint32_t limit = w->segment_bytes - w->offset;
        if (f->used + need > (limit < w->frame_bytes_max ? limit : w->frame_bytes_max)) {
            w->flush_wanted = true;
            if (!may_complete(w))
                return CH_ERR_FULL;
            complete(w);
            ch_err err = start(w);
            if (err != CH_OK)
                return err;
        }
    }
    if (!f->used) {
        ch_err err = place(w, need);
        if (err != CH_OK)
            return err;
    }
    uint8_t *at = f->memory + f->used;
    ch_store32(at, (uint32_t)length);
    at[4] = type;
    at += CH_WAL_RECORD_HEADER_BYTES;
    *position = f->position + f->used + CH_WAL_RECORD_HEADER_BYTES;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].length)
            memcpy(at, parts[i].data, parts[i].length);
        at += parts[i].length;
    }
    f->used += need;
    f->record_count++;
    *lsn = w->next_lsn++;
    /* A failure to launch shows at the next poll; this record was taken. */
    if (f->used >= GATHER_BYTES && may_complete(w))
        (void)start(w);
    return CH_OK;
}

ch_err ch_wal_flush(struct ch_wal *w)
{
    if (w->failed != CH_OK || !w->filling.used)
        return w->failed;
    w->flush_wanted = true;
    return start(w);
}

/* Frames became durable in the order of the log. */
static void advance(struct ch_wal *w)
{
    while (w->oldest < w->flying && w->frame[w->oldest % FRAME_SLOTS].state == FRAME_DURABLE) {
        struct frame *f = &w->frame[w->oldest++ % FRAME_SLOTS];
        f->state = FRAME_FREE;
        w->durable_lsn = f->lsn + f->record_count - 1;
        w->durable_segment = segment_of(f->position);
        atomic_store_explicit(&w->durable_end, f->position + blocks(f->used), memory_order_release);
        let_go(w, f->segment);
        f->segment = NULL;
    }
}

ch_err ch_wal_poll(struct ch_wal *w)
{
    struct ch_io_done done[2 * FRAME_SLOTS];
    size_t count = ch_io_poll(w->io, done, sizeof done / sizeof *done);
    w->flights -= (unsigned)count;
    for (size_t i = 0; i < count; i++) {
        ch_err err = done[i].err;
        if (done[i].cookie == PREPARE_COOKIE) {
            err = w->failed == CH_OK ? prepare_done(w, err) : err;
        } else {
            struct frame *f = &w->frame[done[i].cookie % FRAME_SLOTS];
            CH_ASSERT(f->state == FRAME_FLYING);
            if (err == CH_OK)
                f->state = FRAME_DURABLE;
        }
        if (err != CH_OK && w->failed == CH_OK)
            w->failed = err;
    }
    if (w->failed != CH_OK)
        return w->failed;
    advance(w);
    (void)start(w);
    if (w->failed == CH_OK)
        w->failed = prepare_if_needed(w);
    return w->failed;
}

bool ch_wal_busy(const struct ch_wal *w)
{
    return w->oldest < w->next || w->flush_wanted || w->prepare == PREPARE_WRITING || w->prepare == PREPARE_SYNCING;
}

ch_err ch_wal_settle(struct ch_wal *w)
{
    ch_err err = ch_wal_flush(w);
    while (err == CH_OK && w->durable_lsn + 1 < w->next_lsn) {
        err = ch_io_wait(w->io);
        if (err == CH_OK)
            err = ch_wal_poll(w);
    }
    return err;
}

/* Writes a frame without records and waits until it is durable: from here on the generation counts. */
static ch_err write_opening(struct ch_wal *w)
{
    ch_err err = place(w, 0);
    if (err == CH_OK)
        err = ch_wal_flush(w);
    while (err == CH_OK && w->oldest < w->next) {
        err = ch_io_wait(w->io);
        if (err == CH_OK)
            err = ch_wal_poll(w);
    }
    return err;
}

ch_err ch_wal_cut_below(struct ch_wal *w, ch_wal_position position)
{
    if (w->failed != CH_OK)
        return w->failed;
    uint32_t from = atomic_load_explicit(&w->first_number, memory_order_relaxed), to = segment_of(position);
    if (to > w->durable_segment)
        to = w->durable_segment;
    if (to <= from)
        return CH_OK;
    /* Readers look at first_number again after they have read: from here on these segments are gone for them. */
    atomic_store(&w->first_number, to);
    ch_err err = CH_OK;
    for (uint32_t number = from; number < to && err == CH_OK; number++) {
        char path[CH_IO_PATH_BYTES_MAX], new_path[CH_IO_PATH_BYTES_MAX];
        ch_wal_path(w, number, NULL, path);
        if (w->last_number - w->current_number < CH_WAL_SPARE_MAX) {
            ch_wal_path(w, w->last_number + 1, NULL, new_path);
            err = ch_io_rename(w->io, path, new_path);
            if (err == CH_OK)
                w->last_number++;
        } else {
            err = ch_io_unlink(w->io, path);
        }
    }
    if (err == CH_OK)
        err = ch_io_sync_dir(w->io, w->dir);
    return w->failed = err;
}

uint64_t ch_wal_appended_lsn(const struct ch_wal *w)
{
    return w->next_lsn - 1;
}

uint64_t ch_wal_durable_lsn(const struct ch_wal *w)
{
    return w->durable_lsn;
}

ch_wal_position ch_wal_first(const struct ch_wal *w)
{
    return position_at(atomic_load_explicit(&w->first_number, memory_order_relaxed), 0);
}

ch_wal_position ch_wal_durable_end(const struct ch_wal *w)
{
    return atomic_load_explicit(&w->durable_end, memory_order_relaxed);
}

uint64_t ch_wal_disk_bytes(const struct ch_wal *w)
{
    uint32_t first = atomic_load_explicit(&w->first_number, memory_order_relaxed);
    return (uint64_t)(w->last_number - first + 1) * w->segment_bytes;
}

/* --- open and close --- */

static ch_err take_memory(struct ch_wal *w)
{
    size_t frames = (size_t)FRAME_SLOTS * w->frame_bytes_max;
    if (frames < CH_WAL_FRAME_BYTES_MAX) /* recovery reads any frame with it */
        frames = CH_WAL_FRAME_BYTES_MAX;
    w->memory_bytes = frames + ZERO_BYTES;
    w->memory = ch_io_memory(w->memory_bytes);
    w->filling.memory = aligned_alloc(64, w->frame_bytes_max);
    if (!w->memory || !w->filling.memory)
        return CH_ERR_NO_MEMORY;
    w->zeros = w->memory + frames;
    for (int i = 0; i < FRAME_SLOTS; i++)
        w->frame[i].memory = w->memory + (size_t)i * w->frame_bytes_max;
    ch_io_register(w->io, w->memory, w->memory_bytes);
    return CH_OK;
}

static bool options_valid(const struct ch_wal *w, const char *dir)
{
    return strlen(dir) < sizeof w->dir && w->segment_bytes % CH_IO_BLOCK_BYTES == 0 &&
           w->frame_bytes_max % CH_IO_BLOCK_BYTES == 0 && w->frame_bytes_max >= CH_IO_BLOCK_BYTES &&
           w->frame_bytes_max <= CH_WAL_FRAME_BYTES_MAX && w->frame_bytes_max <= w->segment_bytes &&
           w->segment_bytes <= 1u << 31;
}

static ch_err take_lock(struct ch_wal *w)
{
    char path[CH_IO_PATH_BYTES_MAX];
    ch_wal_path(w, 0, "lock", path);
    ch_err err = ch_io_open(w->io, path, CH_IO_WRITE, &w->lock);
    if (err == CH_ERR_NOT_FOUND)
        err = ch_io_open(w->io, path, CH_IO_WRITE | CH_IO_CREATE, &w->lock);
    return err == CH_OK ? ch_io_lock(w->io, w->lock) : err;
}

static ch_err make(struct ch_io *io, const char *dir, const struct ch_wal_options *options, struct ch_wal **out)
{
    struct ch_wal *w = aligned_alloc(64, sizeof *w);
    if (!w)
        return CH_ERR_NO_MEMORY;
    memset(w, 0, sizeof *w);
    w->io = io;
    w->segment_bytes = options->segment_bytes ? options->segment_bytes : CH_WAL_SEGMENT_BYTES;
    w->frame_bytes_max = options->frame_bytes_max ? options->frame_bytes_max : CH_WAL_FRAME_BYTES_MAX;
    *out = w;
    if (!options_valid(w, dir))
        return CH_ERR_INVALID;
    strcpy(w->dir, dir);
    return take_memory(w);
}

ch_err ch_wal_open(struct ch_io *io, const char *dir, const struct ch_wal_options *options, struct ch_wal **out)
{
    struct ch_wal *w = NULL;
    ch_err err = make(io, dir, options, &w);
    if (err == CH_OK)
        err = take_lock(w);
    if (err == CH_OK)
        err = ch_wal_recover(w, options);
    if (err == CH_OK)
        err = write_opening(w);
    if (err == CH_OK)
        *out = w;
    else
        ch_wal_close(w);
    return err;
}

ch_err ch_wal_create(struct ch_io *io, const char *dir, const struct ch_wal_options *options)
{
    struct ch_wal *w = NULL;
    struct ch_wal_options quiet = *options;
    quiet.replay = NULL;
    quiet.replay_from = 0;
    quiet.accept_damage = false;
    ch_err err = ch_io_make_dir(io, dir);
    if (err != CH_OK)
        return err;
    err = make(io, dir, &quiet, &w);
    if (err == CH_OK)
        err = take_lock(w);
    if (err == CH_OK)
        err = ch_wal_recover(w, &quiet);
    err = err == CH_OK || err == CH_ERR_LOG_DAMAGED ? CH_ERR_EXISTS : err == CH_ERR_NOT_FOUND ? CH_OK : err;
    if (err == CH_OK)
        err = ch_wal_add_segment(w);
    if (err == CH_OK)
        err = ch_wal_enter(w, 1, 0);
    if (err == CH_OK && getrandom(&w->log_id, sizeof w->log_id, 0) != sizeof w->log_id)
        err = CH_ERR_IO;
    if (err == CH_OK) {
        w->next_lsn = 1;
        w->generation = 1;
        atomic_store(&w->first_number, 1);
        err = write_opening(w);
    }
    ch_wal_close(w);
    return err;
}

void ch_wal_close(struct ch_wal *w)
{
    if (!w)
        return;
    struct ch_io_done done;
    while (w->flights && ch_io_wait(w->io) == CH_OK)
        w->flights -= (unsigned)ch_io_poll(w->io, &done, 1);
    for (int i = 0; i < FRAME_SLOTS; i++)
        let_go(w, w->frame[i].segment);
    let_go(w, w->current);
    ch_io_close_file(w->io, w->prepare_file);
    ch_io_close_file(w->io, w->lock);
    ch_io_register(w->io, NULL, 0);
    free(w->filling.memory);
    ch_io_memory_free(w->memory, w->memory_bytes);
    free(w);
}
