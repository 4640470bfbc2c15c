/* store/io_uring.c - the real disk. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/io_impl.h"

#define FILE_SLOTS 64 /* registered files; one that finds no slot is used by its descriptor */

struct ch_file {
    int fd;
    int slot; /* in the ring's table of registered files, or -1 */
};

/* What a completion's user data has beside the number of its flight: it is a sync before or after the write. */
#define SYNC_BEFORE (1u << 30)
#define SYNC_AFTER  (1u << 31)

/* A request in flight: one or, linked, two or three completions of the kernel. */
struct flight {
    uint64_t cookie;
    uint32_t length; /* bytes that a read or write must have moved */
    uint8_t awaited;
    bool used;
    ch_err err;
};

struct uring {
    struct ch_io io;
    struct io_uring ring;
    struct flight flight[CH_IO_DEPTH_MAX];
    unsigned in_flight;
    uint8_t *memory; /* registered, or NULL */
    size_t memory_bytes;
    bool files_registered;
    bool slot_used[FILE_SLOTS];
};

static struct uring *self(struct ch_io *io)
{
    return (struct uring *)io;
}

static ch_err from_errno(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return CH_ERR_NO_SPACE;
    case ENOENT:
        return CH_ERR_NOT_FOUND;
    case EEXIST:
        return CH_ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return CH_ERR_DENIED;
    case ENOMEM:
        return CH_ERR_NO_MEMORY;
    case EWOULDBLOCK:
        return CH_ERR_BUSY;
    default:
        return CH_ERR_IO;
    }
}

static void uring_close(struct ch_io *io)
{
    io_uring_queue_exit(&self(io)->ring);
    free(io);
}

static ch_err uring_make_dir(struct ch_io *io, const char *path)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST ? CH_OK : from_errno(errno);
}

static ch_err uring_open(struct ch_io *io, const char *path, unsigned flags, struct ch_file **out)
{
    int mode = O_CLOEXEC | (flags & CH_IO_WRITE ? O_RDWR : O_RDONLY);
    if (flags & CH_IO_CREATE)
        mode |= O_CREAT | O_EXCL;
    int fd = open(path, flags & CH_IO_DIRECT ? mode | O_DIRECT : mode, 0600);
    /* tmpfs before Linux 6.6 refuses O_DIRECT with EINVAL, some only after having created the file. */
    if (fd < 0 && errno == EINVAL && flags & CH_IO_DIRECT)
        fd = open(path, mode & ~O_EXCL, 0600);
    if (fd < 0)
        return from_errno(errno);
    struct ch_file *file = malloc(sizeof *file);
    if (!file) {
        close(fd);
        return CH_ERR_NO_MEMORY;
    }
    *file = (struct ch_file){.fd = fd, .slot = -1};
    if (!(flags & CH_IO_WRITE))
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    *out = file;
    return CH_OK;
}

static void uring_close_file(struct ch_io *io, struct ch_file *file)
{
    if (file->slot >= 0) {
        int none = -1;
        (void)io_uring_register_files_update(&self(io)->ring, (unsigned)file->slot, &none, 1);
        self(io)->slot_used[file->slot] = false;
    }
    close(file->fd);
    free(file);
}

static ch_err uring_size(struct ch_io *io, struct ch_file *file, uint64_t *bytes)
{
    struct stat st;
    if (fstat(file->fd, &st) != 0)
        return from_errno(errno);
    *bytes = (uint64_t)st.st_size;
    return CH_OK;
}

static ch_err uring_allocate(struct ch_io *io, struct ch_file *file, uint64_t bytes)
{
    int err = posix_fallocate(file->fd, 0, (off_t)bytes);
    return err == 0 ? CH_OK : from_errno(err);
}

static ch_err uring_truncate(struct ch_io *io, struct ch_file *file, uint64_t bytes)
{
    return ftruncate(file->fd, (off_t)bytes) == 0 ? CH_OK : from_errno(errno);
}

static ch_err uring_read(struct ch_io *io, struct ch_file *file, void *to, size_t length, uint64_t offset, size_t *got)
{
    size_t have = 0;
    while (have < length) {
        ssize_t n = pread(file->fd, (uint8_t *)to + have, length - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return from_errno(errno);
        if (n == 0)
            break;
        have += (size_t)n;
    }
    *got = have;
    return CH_OK;
}

static void uring_want(struct ch_io *io, struct ch_file *file, size_t length, uint64_t offset)
{
    (void)posix_fadvise(file->fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
}

static ch_err uring_write(struct ch_io *io, struct ch_file *file, const void *from, size_t length, uint64_t offset)
{
    size_t have = 0;
    while (have < length) {
        ssize_t n = pwrite(file->fd, (const uint8_t *)from + have, length - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? from_errno(errno) : CH_ERR_IO;
        have += (size_t)n;
    }
    return CH_OK;
}

static ch_err uring_sync(struct ch_io *io, struct ch_file *file)
{
    return fdatasync(file->fd) == 0 ? CH_OK : from_errno(errno);
}

static ch_err uring_lock(struct ch_io *io, struct ch_file *file)
{
    return flock(file->fd, LOCK_EX | LOCK_NB) == 0 ? CH_OK : from_errno(errno);
}

static ch_err uring_list(struct ch_io *io, const char *dir, void (*each)(void *, const char *), void *context)
{
    DIR *d = opendir(dir);
    if (!d)
        return from_errno(errno);
    struct dirent *entry;
    ch_err err = CH_OK;
    while (err == CH_OK && (errno = 0, (entry = readdir(d)) != NULL)) {
        struct stat st;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            err = errno == ENOENT ? CH_OK : from_errno(errno); /* a file passed over would count as one that isn't there */
        else if (S_ISREG(st.st_mode))
            each(context, entry->d_name);
    }
    if (err == CH_OK && errno != 0)
        err = from_errno(errno);
    closedir(d);
    return err;
}

static ch_err uring_rename(struct ch_io *io, const char *from, const char *to)
{
    return rename(from, to) == 0 ? CH_OK : from_errno(errno);
}

static ch_err uring_unlink(struct ch_io *io, const char *path)
{
    return unlink(path) == 0 ? CH_OK : from_errno(errno);
}

static ch_err uring_sync_dir(struct ch_io *io, const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return from_errno(errno);
    ch_err err = fsync(fd) == 0 ? CH_OK : from_errno(errno);
    close(fd);
    return err;
}

static ch_err uring_free_bytes(struct ch_io *io, const char *dir, uint64_t *bytes)
{
    struct statvfs vfs;
    if (statvfs(dir, &vfs) != 0)
        return from_errno(errno);
    *bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    return CH_OK;
}

static void uring_register(struct ch_io *io, void *memory, size_t bytes)
{
    struct uring *u = self(io);
    struct iovec vector = {.iov_base = memory, .iov_len = bytes};
    if (u->memory)
        (void)io_uring_unregister_buffers(&u->ring);
    u->memory = NULL;
    if (memory && io_uring_register_buffers(&u->ring, &vector, 1) == 0) {
        u->memory = memory;
        u->memory_bytes = bytes;
    }
}

/* Gives the file a slot in the ring's table the first time it is used there. */
static void take_slot(struct uring *u, struct ch_file *file)
{
    if (file->slot >= 0 || !u->files_registered)
        return;
    for (int i = 0; i < FILE_SLOTS; i++)
        if (!u->slot_used[i]) {
            if (io_uring_register_files_update(&u->ring, (unsigned)i, &file->fd, 1) == 1) {
                u->slot_used[i] = true;
                file->slot = i;
            }
            return;
        }
}

static void aim(struct io_uring_sqe *sqe, const struct ch_file *file, uint64_t flight)
{
    if (file->slot >= 0) {
        sqe->fd = file->slot;
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    sqe->user_data = flight;
}

static bool in_registered(const struct uring *u, const struct ch_io_request *r)
{
    const uint8_t *data = r->data;
    return u->memory && data >= u->memory && data + r->length <= u->memory + u->memory_bytes;
}

static ch_err uring_submit(struct ch_io *io, const struct ch_io_request *r)
{
    struct uring *u = self(io);
    uint64_t at = 0;
    while (at < CH_IO_DEPTH_MAX && u->flight[at].used)
        at++;
    if (at == CH_IO_DEPTH_MAX)
        return CH_ERR_FULL;
    take_slot(u, r->file);

    /* The ring has entries for all of each flight, and what was prepared is submitted at once: there is always room. */
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    CH_ASSERT(sqe);
    if (r->after_sync_of) {
        take_slot(u, r->after_sync_of);
        io_uring_prep_fsync(sqe, r->after_sync_of->fd, IORING_FSYNC_DATASYNC);
        aim(sqe, r->after_sync_of, at | SYNC_BEFORE);
        sqe->flags |= IOSQE_IO_LINK;
        sqe = io_uring_get_sqe(&u->ring);
        CH_ASSERT(sqe);
    }
    if (r->kind == CH_IO_OP_SYNC)
        io_uring_prep_fsync(sqe, r->file->fd, IORING_FSYNC_DATASYNC);
    else if (r->kind == CH_IO_OP_WRITE && in_registered(u, r))
        io_uring_prep_write_fixed(sqe, r->file->fd, r->data, r->length, r->offset, 0);
    else if (r->kind == CH_IO_OP_WRITE)
        io_uring_prep_write(sqe, r->file->fd, r->data, r->length, r->offset);
    else if (in_registered(u, r))
        io_uring_prep_read_fixed(sqe, r->file->fd, r->data, r->length, r->offset, 0);
    else
        io_uring_prep_read(sqe, r->file->fd, r->data, r->length, r->offset);
    aim(sqe, r->file, at);
    if (r->then_sync) {
        sqe->flags |= IOSQE_IO_LINK;
        sqe = io_uring_get_sqe(&u->ring);
        CH_ASSERT(sqe);
        io_uring_prep_fsync(sqe, r->file->fd, IORING_FSYNC_DATASYNC);
        aim(sqe, r->file, at | SYNC_AFTER);
    }
    u->flight[at] = (struct flight){.cookie = r->cookie,
                                    .length = r->kind == CH_IO_OP_SYNC ? 0 : r->length,
                                    .awaited = (uint8_t)(1 + r->then_sync + (r->after_sync_of != NULL)),
                                    .used = true,
                                    .err = CH_OK};
    u->in_flight++;
    int n;
    do
        n = io_uring_submit(&u->ring);
    while (n == -EINTR || n == -EAGAIN || n == -EBUSY);
    if (n < 0) {
        u->flight[at].used = false;
        u->in_flight--;
        return from_errno(-n);
    }
    return CH_OK;
}

static size_t uring_poll(struct ch_io *io, struct ch_io_done *done, size_t max)
{
    struct uring *u = self(io);
    size_t count = 0;
    struct io_uring_cqe *cqe;
    while (count < max && u->in_flight && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        bool linked_sync = cqe->user_data & (SYNC_BEFORE | SYNC_AFTER);
        struct flight *f = &u->flight[cqe->user_data & (CH_IO_DEPTH_MAX - 1)];
        int result = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        /* What failed or was short cancels what is linked after it: the first error is the one to tell. */
        if (f->err == CH_OK && result < 0 && result != -ECANCELED)
            f->err = from_errno(-result);
        else if (f->err == CH_OK && (result < 0 || (!linked_sync && (uint32_t)result != f->length)))
            f->err = CH_ERR_IO;
        if (--f->awaited == 0) {
            done[count++] = (struct ch_io_done){.cookie = f->cookie, .err = f->err};
            f->used = false;
            u->in_flight--;
        }
    }
    return count;
}

static ch_err uring_wait(struct ch_io *io)
{
    struct io_uring_cqe *cqe;
    int n = 0;
    if (self(io)->in_flight)
        do
            n = io_uring_wait_cqe(&self(io)->ring, &cqe);
        while (n == -EINTR);
    return n < 0 ? from_errno(-n) : CH_OK;
}

static int uring_fd(const struct ch_io *io)
{
    return ((const struct uring *)io)->ring.ring_fd;
}

static ch_err uring_open_another(struct ch_io *io, struct ch_io **out)
{
    return ch_io_uring_open(out);
}

static const struct ch_io_ops uring_ops = {
    .open_another = uring_open_another,
    .close = uring_close,
    .make_dir = uring_make_dir,
    .open = uring_open,
    .close_file = uring_close_file,
    .size = uring_size,
    .allocate = uring_allocate,
    .truncate = uring_truncate,
    .read = uring_read,
    .want = uring_want,
    .write = uring_write,
    .sync = uring_sync,
    .lock = uring_lock,
    .list = uring_list,
    .rename = uring_rename,
    .unlink = uring_unlink,
    .sync_dir = uring_sync_dir,
    .free_bytes = uring_free_bytes,
    .register_memory = uring_register,
    .submit = uring_submit,
    .poll = uring_poll,
    .wait = uring_wait,
    .fd = uring_fd,
};

ch_err ch_io_uring_open(struct ch_io **out)
{
    struct uring *u = calloc(1, sizeof *u);
    if (!u)
        return CH_ERR_NO_MEMORY;
    u->io.ops = &uring_ops;
    /* No SINGLE_ISSUER: a store is opened by the main thread and then owned by a stage. */
    int n = io_uring_queue_init(4 * CH_IO_DEPTH_MAX, &u->ring, 0);
    if (n < 0) {
        free(u);
        return n == -ENOMEM || n == -EMFILE ? from_errno(-n) : CH_ERR_UNSUPPORTED;
    }
    u->files_registered = io_uring_register_files_sparse(&u->ring, FILE_SLOTS) == 0;
    *out = &u->io;
    return CH_OK;
}
