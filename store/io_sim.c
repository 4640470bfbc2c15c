#include "store/io_sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "store/io_impl.h"

#define SECTOR_BYTES 512

/* A change of a file that is not durable yet. */
struct change {
    uint8_t *data; /* NULL: the size becomes `offset` */
    uint64_t offset;
    uint32_t length;
    uint64_t ended; /* the disk's clock when it was answered, 0 in flight */
    bool stuck;     /* failed, or its sync failed: no later sync makes it durable */
};

struct content {
    uint8_t *bytes;
    uint64_t size;
};

struct inode {
    struct content now, durable;
    struct change *change;
    size_t change_count, change_capacity;
    uint64_t bad_from, bad_to; /* bytes that can't be read until they are written */
    unsigned refs; /* names, journal entries, open files */
    struct ch_file *locked_by;
};

struct name {
    char path[CH_IO_PATH_BYTES_MAX];
    struct inode *inode;
};

struct names {
    struct name *at;
    size_t count, capacity;
};

/* One step of the directory's journal: `path` names `inode`, or nothing when NULL. A rename is two in one step. */
struct step {
    char path[CH_IO_PATH_BYTES_MAX], gone[CH_IO_PATH_BYTES_MAX];
    struct inode *inode;
};

struct ch_sim_disk {
    struct ch_prng prng;
    struct names now, durable;
    struct step *step;
    size_t step_count, step_capacity;
    uint64_t clock, calls, fail_at, capacity;
    ch_err fail_err;
};

struct ch_file {
    struct inode *inode;
};

struct flight {
    struct ch_io_request request;
    uint64_t sync_began; /* the clock when the sync began; 0: still writing or reading */
    bool before;         /* the sync of another file, begun then, comes first */
    bool used;
    bool ended;
    ch_err err;
};

struct sim {
    struct ch_io io;
    struct ch_sim_disk *disk;
    struct flight flight[CH_IO_DEPTH_MAX];
};

static struct ch_sim_disk *disk_of(struct ch_io *io)
{
    return ((struct sim *)io)->disk;
}

/* Memory of a simulation is not worth a path of its own. */
static void *grown(void *old, size_t bytes)
{
    void *p = realloc(old, bytes ? bytes : 1);
    CH_ASSERT(p);
    return p;
}

static bool fails(struct ch_sim_disk *d)
{
    return ++d->calls == d->fail_at;
}

/* --- contents --- */

static void resize(struct content *c, uint64_t size)
{
    c->bytes = grown(c->bytes, size);
    if (size > c->size)
        memset(c->bytes + c->size, 0, size - c->size);
    c->size = size;
}

static void put(struct content *c, const uint8_t *data, uint64_t offset, uint64_t length)
{
    if (offset + length > c->size)
        resize(c, offset + length);
    memcpy(c->bytes + offset, data, length);
}

static void apply(struct content *c, const struct change *change)
{
    if (change->data)
        put(c, change->data, change->offset, change->length);
    else
        resize(c, change->offset);
}

static struct change *add_change(struct inode *n, const void *data, uint64_t offset, uint32_t length)
{
    if (n->change_count == n->change_capacity) {
        n->change_capacity = n->change_capacity ? 2 * n->change_capacity : 8;
        n->change = grown(n->change, n->change_capacity * sizeof *n->change);
    }
    struct change *c = &n->change[n->change_count++];
    *c = (struct change){.offset = offset, .length = length};
    if (data) {
        c->data = grown(NULL, length);
        memcpy(c->data, data, length);
    }
    return c;
}

static bool is_bad(const struct inode *n, uint64_t offset, uint64_t length)
{
    return offset < n->bad_to && offset + length > n->bad_from;
}

/* A disk puts another sector in a bad one's place when it is written. */
static void mend(struct inode *n, uint64_t offset, uint64_t length)
{
    if (offset <= n->bad_from && offset + length >= n->bad_to)
        n->bad_from = n->bad_to = 0;
}

static void unref(struct inode *n)
{
    if (!n || --n->refs)
        return;
    for (size_t i = 0; i < n->change_count; i++)
        free(n->change[i].data);
    free(n->change);
    free(n->now.bytes);
    free(n->durable.bytes);
    free(n);
}

static struct inode *new_inode(void)
{
    struct inode *n = grown(NULL, sizeof *n);
    *n = (struct inode){0};
    return n;
}

/* A sync that began at `began` ends: what had been answered by then is durable. */
static void make_durable(struct inode *n, uint64_t began)
{
    size_t kept = 0;
    for (size_t i = 0; i < n->change_count; i++) {
        struct change *c = &n->change[i];
        if (c->ended && c->ended <= began && !c->stuck) {
            apply(&n->durable, c);
            free(c->data);
        } else {
            n->change[kept++] = *c;
        }
    }
    n->change_count = kept;
}

static void make_stuck(struct inode *n, uint64_t began)
{
    for (size_t i = 0; i < n->change_count; i++)
        if (n->change[i].ended && n->change[i].ended <= began)
            n->change[i].stuck = true;
}

/* --- names --- */

static struct name *find_name(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->at[i].path, path) == 0)
            return &names->at[i];
    return NULL;
}

static void set_name(struct names *names, const char *path, struct inode *inode)
{
    struct name *name = find_name(names, path);
    if (inode)
        inode->refs++;
    if (name) {
        unref(name->inode);
        name->inode = inode;
        if (!inode)
            *name = names->at[--names->count];
    } else if (inode) {
        if (names->count == names->capacity) {
            names->capacity = names->capacity ? 2 * names->capacity : 8;
            names->at = grown(names->at, names->capacity * sizeof *names->at);
        }
        name = &names->at[names->count++];
        strcpy(name->path, path);
        name->inode = inode;
    }
}

static void take_step(struct names *names, const struct step *step)
{
    if (step->gone[0])
        set_name(names, step->gone, NULL);
    if (step->path[0])
        set_name(names, step->path, step->inode);
}

static void journal(struct ch_sim_disk *d, const char *gone, const char *path, struct inode *inode)
{
    if (d->step_count == d->step_capacity) {
        d->step_capacity = d->step_capacity ? 2 * d->step_capacity : 8;
        d->step = grown(d->step, d->step_capacity * sizeof *d->step);
    }
    struct step *step = &d->step[d->step_count++];
    *step = (struct step){.inode = inode};
    strcpy(step->gone, gone);
    strcpy(step->path, path);
    if (inode)
        inode->refs++;
    take_step(&d->now, step);
}

static void free_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        unref(names->at[i].inode);
    free(names->at);
}

/* --- the calls --- */

static void sim_close(struct ch_io *io)
{
    free(io);
}

static ch_err sim_make_dir(struct ch_io *io, const char *path)
{
    return fails(disk_of(io)) ? disk_of(io)->fail_err : CH_OK;
}

static ch_err sim_open(struct ch_io *io, const char *path, unsigned flags, struct ch_file **out)
{
    struct ch_sim_disk *d = disk_of(io);
    if (fails(d))
        return d->fail_err;
    CH_ASSERT(strlen(path) < CH_IO_PATH_BYTES_MAX);
    struct name *name = find_name(&d->now, path);
    if (flags & CH_IO_CREATE) {
        if (name)
            return CH_ERR_EXISTS;
        journal(d, "", path, new_inode());
        name = find_name(&d->now, path);
    }
    if (!name)
        return CH_ERR_NOT_FOUND;
    *out = grown(NULL, sizeof **out);
    (*out)->inode = name->inode;
    name->inode->refs++;
    return CH_OK;
}

static void sim_close_file(struct ch_io *io, struct ch_file *file)
{
    if (file->inode->locked_by == file)
        file->inode->locked_by = NULL;
    unref(file->inode);
    free(file);
}

static ch_err sim_size(struct ch_io *io, struct ch_file *file, uint64_t *bytes)
{
    if (fails(disk_of(io)))
        return disk_of(io)->fail_err;
    *bytes = file->inode->now.size;
    return CH_OK;
}

static uint64_t used_bytes(const struct ch_sim_disk *d)
{
    uint64_t used = 0;
    for (size_t i = 0; i < d->now.count; i++)
        used += d->now.at[i].inode->now.size;
    return used;
}

static bool fits(const struct ch_sim_disk *d, const struct inode *n, uint64_t size)
{
    return size <= n->now.size || used_bytes(d) + (size - n->now.size) <= d->capacity;
}

static ch_err set_size(struct ch_io *io, struct ch_file *file, uint64_t bytes)
{
    struct ch_sim_disk *d = disk_of(io);
    if (fails(d))
        return d->fail_err;
    if (!fits(d, file->inode, bytes))
        return CH_ERR_NO_SPACE;
    struct change *c = add_change(file->inode, NULL, bytes, 0);
    c->ended = ++d->clock;
    apply(&file->inode->now, c);
    return CH_OK;
}

static ch_err sim_allocate(struct ch_io *io, struct ch_file *file, uint64_t bytes)
{
    return set_size(io, file, bytes > file->inode->now.size ? bytes : file->inode->now.size);
}

static ch_err sim_read(struct ch_io *io, struct ch_file *file, void *to, size_t length, uint64_t offset, size_t *got)
{
    if (fails(disk_of(io)))
        return disk_of(io)->fail_err;
    if (is_bad(file->inode, offset, length))
        return CH_ERR_IO;
    const struct content *c = &file->inode->now;
    size_t have = offset >= c->size ? 0 : c->size - offset < length ? c->size - offset : length;
    if (have)
        memcpy(to, c->bytes + offset, have);
    *got = have;
    return CH_OK;
}

static ch_err sim_write(struct ch_io *io, struct ch_file *file, const void *from, size_t length, uint64_t offset)
{
    struct ch_sim_disk *d = disk_of(io);
    bool failed = fails(d);
    if (!failed && !fits(d, file->inode, offset + length))
        return CH_ERR_NO_SPACE;
    struct change *c = add_change(file->inode, from, offset, (uint32_t)length);
    c->ended = ++d->clock;
    c->stuck = failed;
    if (failed)
        return d->fail_err;
    apply(&file->inode->now, c);
    mend(file->inode, offset, length);
    return CH_OK;
}

static ch_err sim_sync(struct ch_io *io, struct ch_file *file)
{
    struct ch_sim_disk *d = disk_of(io);
    if (fails(d)) {
        make_stuck(file->inode, d->clock);
        return d->fail_err;
    }
    make_durable(file->inode, d->clock);
    return CH_OK;
}

static ch_err sim_lock(struct ch_io *io, struct ch_file *file)
{
    if (fails(disk_of(io)))
        return disk_of(io)->fail_err;
    if (file->inode->locked_by && file->inode->locked_by != file)
        return CH_ERR_BUSY;
    file->inode->locked_by = file;
    return CH_OK;
}

static ch_err sim_list(struct ch_io *io, const char *dir, void (*each)(void *, const char *), void *context)
{
    struct ch_sim_disk *d = disk_of(io);
    if (fails(d))
        return d->fail_err;
    size_t length = strlen(dir);
    for (size_t i = 0; i < d->now.count; i++) {
        const char *path = d->now.at[i].path;
        if (strncmp(path, dir, length) == 0 && path[length] == '/' && !strchr(path + length + 1, '/'))
            each(context, path + length + 1);
    }
    return CH_OK;
}

static ch_err sim_rename(struct ch_io *io, const char *from, const char *to)
{
    struct ch_sim_disk *d = disk_of(io);
    if (fails(d))
        return d->fail_err;
    struct name *name = find_name(&d->now, from);
    if (!name)
        return CH_ERR_NOT_FOUND;
    struct inode *inode = name->inode;
    inode->refs++;
    journal(d, from, to, inode);
    unref(inode);
    return CH_OK;
}

static ch_err sim_unlink(struct ch_io *io, const char *path)
{
    struct ch_sim_disk *d = disk_of(io);
    if (fails(d))
        return d->fail_err;
    if (!find_name(&d->now, path))
        return CH_ERR_NOT_FOUND;
    journal(d, path, "", NULL);
    return CH_OK;
}

static ch_err sim_sync_dir(struct ch_io *io, const char *dir)
{
    struct ch_sim_disk *d = disk_of(io);
    if (fails(d))
        return d->fail_err;
    for (size_t i = 0; i < d->step_count; i++) {
        take_step(&d->durable, &d->step[i]);
        unref(d->step[i].inode);
    }
    d->step_count = 0;
    return CH_OK;
}

static ch_err sim_free_bytes(struct ch_io *io, const char *dir, uint64_t *bytes)
{
    struct ch_sim_disk *d = disk_of(io);
    if (fails(d))
        return d->fail_err;
    uint64_t used = used_bytes(d);
    *bytes = used < d->capacity ? d->capacity - used : 0;
    return CH_OK;
}

static void sim_register(struct ch_io *io, void *memory, size_t bytes)
{
}

/* --- the queue --- */

static ch_err sim_submit(struct ch_io *io, const struct ch_io_request *r)
{
    struct sim *s = (struct sim *)io;
    for (int i = 0; i < CH_IO_DEPTH_MAX; i++) {
        struct flight *f = &s->flight[i];
        if (f->used)
            continue;
        *f = (struct flight){.request = *r, .used = true};
        if (r->after_sync_of) {
            f->before = true;
            f->sync_began = s->disk->clock;
        } else if (r->kind == CH_IO_OP_WRITE) {
            (void)add_change(r->file->inode, r->data, r->offset, r->length);
        } else if (r->kind == CH_IO_OP_SYNC) {
            f->sync_began = s->disk->clock;
        }
        return CH_OK;
    }
    return CH_ERR_FULL;
}

static struct change *change_in_flight(const struct ch_io_request *r)
{
    struct inode *n = r->file->inode;
    for (size_t i = 0; i < n->change_count; i++)
        if (!n->change[i].ended && n->change[i].data && n->change[i].offset == r->offset &&
            n->change[i].length == r->length)
            return &n->change[i];
    CH_ASSERT(false);
}

static void end(struct flight *f, ch_err err)
{
    f->ended = true;
    f->err = err;
}

/* One step of a flight: its write or read, or its sync. */
static void advance(struct ch_sim_disk *d, struct flight *f)
{
    const struct ch_io_request *r = &f->request;
    struct inode *n = r->file->inode;
    bool syncing = r->kind == CH_IO_OP_SYNC || f->sync_began;
    bool failed = fails(d);
    if (f->before) {
        if (failed) {
            make_stuck(r->after_sync_of->inode, f->sync_began);
            end(f, d->fail_err);
            return;
        }
        make_durable(r->after_sync_of->inode, f->sync_began);
        (void)add_change(n, r->data, r->offset, r->length);
        f->before = false;
        f->sync_began = 0;
    } else if (syncing) {
        if (failed)
            make_stuck(n, f->sync_began);
        else
            make_durable(n, f->sync_began);
        end(f, failed ? d->fail_err : CH_OK);
    } else if (r->kind == CH_IO_OP_READ) {
        bool whole = r->offset + r->length <= n->now.size && !is_bad(n, r->offset, r->length);
        if (whole && !failed)
            memcpy(r->data, n->now.bytes + r->offset, r->length);
        end(f, failed ? d->fail_err : whole ? CH_OK : CH_ERR_IO);
    } else {
        bool space = fits(d, n, r->offset + r->length);
        struct change *c = change_in_flight(r);
        c->ended = ++d->clock;
        c->stuck = failed || !space;
        if (!c->stuck) {
            apply(&n->now, c);
            mend(n, r->offset, r->length);
        }
        if (c->stuck || !r->then_sync)
            end(f, failed ? d->fail_err : space ? CH_OK : CH_ERR_NO_SPACE);
        else
            f->sync_began = d->clock;
    }
}

/* Advances one flight that has not ended; false when there is none. */
static bool advance_any(struct sim *s)
{
    unsigned open[CH_IO_DEPTH_MAX], count = 0;
    for (unsigned i = 0; i < CH_IO_DEPTH_MAX; i++)
        if (s->flight[i].used && !s->flight[i].ended)
            open[count++] = i;
    if (count)
        advance(s->disk, &s->flight[open[ch_prng_below(&s->disk->prng, count)]]);
    return count > 0;
}

static size_t sim_poll(struct ch_io *io, struct ch_io_done *done, size_t max)
{
    struct sim *s = (struct sim *)io;
    while (ch_prng_below(&s->disk->prng, 4) != 0 && advance_any(s))
        ;
    size_t count = 0;
    for (int i = 0; i < CH_IO_DEPTH_MAX && count < max; i++)
        if (s->flight[i].used && s->flight[i].ended) {
            done[count++] = (struct ch_io_done){.cookie = s->flight[i].request.cookie, .err = s->flight[i].err};
            s->flight[i].used = false;
        }
    return count;
}

static ch_err sim_wait(struct ch_io *io)
{
    struct sim *s = (struct sim *)io;
    for (;;) {
        for (int i = 0; i < CH_IO_DEPTH_MAX; i++)
            if (s->flight[i].used && s->flight[i].ended)
                return CH_OK;
        if (!advance_any(s))
            return CH_OK;
    }
}

static int sim_fd(const struct ch_io *io)
{
    return -1;
}

static ch_err sim_open_another(struct ch_io *io, struct ch_io **out)
{
    return ch_sim_io_open(disk_of(io), out);
}

static const struct ch_io_ops sim_ops = {
    .open_another = sim_open_another,
    .close = sim_close,
    .make_dir = sim_make_dir,
    .open = sim_open,
    .close_file = sim_close_file,
    .size = sim_size,
    .allocate = sim_allocate,
    .truncate = set_size,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .lock = sim_lock,
    .list = sim_list,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .sync_dir = sim_sync_dir,
    .free_bytes = sim_free_bytes,
    .register_memory = sim_register,
    .submit = sim_submit,
    .poll = sim_poll,
    .wait = sim_wait,
    .fd = sim_fd,
};

/* --- the disk --- */

ch_err ch_sim_disk_open(uint64_t seed, struct ch_sim_disk **out)
{
    struct ch_sim_disk *d = calloc(1, sizeof *d);
    if (!d)
        return CH_ERR_NO_MEMORY;
    ch_prng_seed(&d->prng, seed);
    d->capacity = UINT64_MAX;
    *out = d;
    return CH_OK;
}

void ch_sim_disk_close(struct ch_sim_disk *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->step_count; i++)
        unref(d->step[i].inode);
    free(d->step);
    free_names(&d->now);
    free_names(&d->durable);
    free(d);
}

ch_err ch_sim_io_open(struct ch_sim_disk *disk, struct ch_io **out)
{
    struct sim *s = calloc(1, sizeof *s);
    if (!s)
        return CH_ERR_NO_MEMORY;
    s->io.ops = &sim_ops;
    s->disk = disk;
    *out = &s->io;
    return CH_OK;
}

/* What of the unsynced changes arrived: nothing, all, the last ones alone, whole writes, or single sectors. */
enum survival { NOTHING, ALL, LATEST, WRITES, SECTORS, SURVIVALS };

static void copy_content(struct content *to, const struct content *from)
{
    resize(to, from->size);
    if (from->size)
        memcpy(to->bytes, from->bytes, from->size);
}

static void survive(struct inode *to, const struct inode *from, struct ch_prng *g, enum survival how)
{
    copy_content(&to->now, &from->durable);
    for (size_t i = 0; i < from->change_count; i++) {
        const struct change *c = &from->change[i];
        bool arrives = how == ALL || (how == LATEST && i + 1 + ch_prng_below(g, 2) >= from->change_count) ||
                       (how >= WRITES && ch_prng_below(g, 2));
        if (how != SECTORS || !c->data) {
            if (arrives)
                apply(&to->now, c);
            continue;
        }
        for (uint64_t at = 0; at < c->length; at += SECTOR_BYTES) {
            uint64_t length = c->length - at < SECTOR_BYTES ? c->length - at : SECTOR_BYTES;
            if (ch_prng_below(g, 2))
                put(&to->now, c->data + at, c->offset + at, length);
        }
    }
    copy_content(&to->durable, &to->now);
}

ch_err ch_sim_disk_after_power_loss(const struct ch_sim_disk *disk, uint64_t seed, struct ch_sim_disk **out)
{
    struct ch_sim_disk *d;
    ch_err err = ch_sim_disk_open(seed, &d);
    if (err != CH_OK)
        return err;
    d->capacity = disk->capacity;
    struct names left = {0};
    for (size_t i = 0; i < disk->durable.count; i++)
        set_name(&left, disk->durable.at[i].path, disk->durable.at[i].inode);
    enum survival how = (enum survival)ch_prng_below(&d->prng, SURVIVALS);
    size_t steps = how == NOTHING ? 0 : how == ALL ? disk->step_count : ch_prng_below(&d->prng, disk->step_count + 1);
    for (size_t i = 0; i < steps; i++)
        take_step(&left, &disk->step[i]);
    for (size_t i = 0; i < left.count; i++) {
        struct inode *n = new_inode();
        survive(n, left.at[i].inode, &d->prng, how);
        set_name(&d->now, left.at[i].path, n);
        set_name(&d->durable, left.at[i].path, n);
    }
    free_names(&left);
    *out = d;
    return CH_OK;
}

ch_err ch_sim_disk_after_kill(const struct ch_sim_disk *disk, uint64_t seed, struct ch_sim_disk **out)
{
    struct ch_sim_disk *d;
    ch_err err = ch_sim_disk_open(seed, &d);
    if (err != CH_OK)
        return err;
    d->capacity = disk->capacity;
    d->clock = disk->clock + 1;
    for (size_t i = 0; i < disk->now.count; i++) {
        const struct inode *from = disk->now.at[i].inode;
        struct inode *n = new_inode();
        copy_content(&n->durable, &from->durable);
        copy_content(&n->now, &from->now);
        for (size_t k = 0; k < from->change_count; k++) {
            const struct change *c = &from->change[k];
            if (!c->ended && ch_prng_below(&d->prng, 2))
                continue;
            struct change *kept = add_change(n, c->data, c->offset, c->length);
            kept->stuck = c->stuck;
            kept->ended = c->ended;
            if (!c->ended) {
                kept->ended = d->clock;
                apply(&n->now, kept);
            }
        }
        /* Names: as if the directory had been synced; its journal is the power loss's subject. */
        set_name(&d->now, disk->now.at[i].path, n);
        set_name(&d->durable, disk->now.at[i].path, n);
    }
    *out = d;
    return CH_OK;
}

uint64_t ch_sim_disk_calls(const struct ch_sim_disk *disk)
{
    return disk->calls;
}

void ch_sim_disk_fail_at(struct ch_sim_disk *disk, uint64_t call, ch_err err)
{
    CH_ASSERT(err != CH_OK);
    disk->fail_at = call;
    disk->fail_err = err;
}

void ch_sim_disk_set_capacity(struct ch_sim_disk *disk, uint64_t bytes)
{
    disk->capacity = bytes;
}

void ch_sim_disk_set_bad(struct ch_sim_disk *d, const char *path, uint64_t offset, uint64_t length)
{
    struct name *name = find_name(&d->now, path);
    CH_ASSERT(name);
    name->inode->bad_from = offset;
    name->inode->bad_to = offset + length;
}

uint8_t *ch_sim_disk_bytes(struct ch_sim_disk *disk, const char *path, size_t *length)
{
    struct name *name = find_name(&disk->now, path);
    if (!name)
        return NULL;
    *length = name->inode->now.size;
    return name->inode->now.bytes;
}
