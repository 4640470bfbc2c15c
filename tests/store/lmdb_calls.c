#include "tests/store/lmdb_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "store/io_impl.h"
#include "tests/test.h"

#define MIRRORS   16
#define TXN_WORDS 64      /* of LMDB's transaction that are looked through for its room */
#define LMDB_ROOM 131071u /* MDB_IDL_UM_MAX: what it begins with */
#define LISTS     1024

struct mirror {
    struct ch_io *io; /* NULL: free */
    const struct ch_io_ops *real_ops;
    struct ch_io_ops ops;
    struct ch_file *file, *watched;
    char path[64];
    int fd;
    dev_t dev;
    ino_t ino;
    size_t lists_before;
};

void (*lmdb_moment)(void);
uint32_t lmdb_dirty_room;
uint64_t lmdb_writes, lmdb_spills;
static struct mirror mirrors[MIRRORS];
static bool committing, opening;
static void *lists[LISTS]; /* of spilled pages, by the order of their making: that of the mirrors that are there */
static size_t list_count;

ssize_t __real_pwrite(int fd, const void *from, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *from, size_t length, off_t offset);
ssize_t __real_writev(int fd, const struct iovec *vector, int count);
ssize_t __wrap_writev(int fd, const struct iovec *vector, int count);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn);
int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn);
int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __real_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);
int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);
void *__real_mdb_midl_alloc(int room);
void *__wrap_mdb_midl_alloc(int room);
void mdb_midl_free(void *list);

static void moment(void)
{
    if (lmdb_moment)
        lmdb_moment();
}

static struct mirror *mirror_of(struct ch_io *io)
{
    for (int i = 0; i < MIRRORS; i++)
        if (mirrors[i].io == io)
            return &mirrors[i];
    return NULL;
}

static struct mirror *mirror_of_fd(int fd)
{
    struct stat st;
    bool any = false;
    for (int i = 0; i < MIRRORS; i++)
        any |= mirrors[i].io && mirrors[i].file;
    if (!any || fstat(fd, &st) != 0)
        return NULL;
    for (int i = 0; i < MIRRORS; i++)
        if (mirrors[i].file && mirrors[i].io && mirrors[i].dev == st.st_dev && mirrors[i].ino == st.st_ino)
            return &mirrors[i];
    return NULL;
}

/* --- LMDB's calls --- */

static ssize_t refuse(ch_err err)
{
    errno = err == CH_ERR_NO_SPACE ? ENOSPC : EIO;
    return -1;
}

ssize_t __wrap_pwrite(int fd, const void *from, size_t length, off_t offset)
{
    struct mirror *m = mirror_of_fd(fd);
    if (m) {
        moment();
        lmdb_writes++;
        lmdb_spills += !committing;
        ch_err err = m->real_ops->write(m->io, m->file, from, length, (uint64_t)offset);
        if (err != CH_OK)
            return refuse(err);
    }
    return __real_pwrite(fd, from, length, offset);
}

ssize_t __wrap_writev(int fd, const struct iovec *vector, int count)
{
    struct mirror *m = mirror_of_fd(fd);
    off_t offset = m ? lseek(fd, 0, SEEK_CUR) : 0;
    for (int i = 0; m && i < count; offset += (off_t)vector[i++].iov_len) {
        moment();
        lmdb_writes++;
        lmdb_spills += !committing;
        ch_err err = m->real_ops->write(m->io, m->file, vector[i].iov_base, vector[i].iov_len, (uint64_t)offset);
        if (err != CH_OK)
            return refuse(err);
    }
    return __real_writev(fd, vector, count);
}

int __wrap_fdatasync(int fd)
{
    struct mirror *m = mirror_of_fd(fd);
    if (!m)
        return __real_fdatasync(fd);
    moment();
    ch_err err = m->real_ops->sync(m->io, m->file);
    return err == CH_OK ? 0 : (int)refuse(err);
}

int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn)
{
    int rc = __real_mdb_txn_begin(env, parent, flags, txn);
    uint32_t *words = (uint32_t *)*txn;
    if (rc || flags & MDB_RDONLY || !lmdb_dirty_room)
        return rc;
    for (int i = 0; i < TXN_WORDS; i++)
        if (words[i] == LMDB_ROOM) {
            words[i] = lmdb_dirty_room;
            return 0;
        }
    fail_msg("LMDB's transaction does not say what room it has");
    return MDB_PANIC;
}

int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    committing = true;
    int rc = __real_mdb_txn_commit(txn);
    committing = false;
    return rc;
}

int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    opening = true;
    int rc = __real_mdb_env_open(env, path, flags, mode);
    opening = false;
    return rc;
}

/* LMDB 0.9.24 forgets the list of a transaction's spilled pages, 1 MiB, at its end. The other list of this size is the
 * environment's, which frees it. */
void *__wrap_mdb_midl_alloc(int room)
{
    void *list = __real_mdb_midl_alloc(room);
    if (list && room == LMDB_ROOM && !opening) {
        assert_true(list_count < LISTS);
        lists[list_count++] = list;
    }
    return list;
}

/* --- the seam's calls --- */

static ch_err watch_open(struct ch_io *io, const char *path, unsigned flags, struct ch_file **out)
{
    struct mirror *m = mirror_of(io);
    moment();
    ch_err err = m->real_ops->open(io, path, flags, out);
    if (err == CH_OK && strcmp(path, m->path) == 0)
        m->watched = *out;
    return err;
}

static ch_err watch_write(struct ch_io *io, struct ch_file *file, const void *from, size_t length, uint64_t offset)
{
    struct mirror *m = mirror_of(io);
    moment();
    ch_err err = m->real_ops->write(io, file, from, length, offset);
    if (err == CH_OK && m->watched && file == m->watched)
        assert_int_equal(__real_pwrite(m->fd, from, length, (off_t)offset), length);
    return err;
}

static ch_err watch_sync(struct ch_io *io, struct ch_file *file)
{
    moment();
    return mirror_of(io)->real_ops->sync(io, file);
}

static ch_err watch_submit(struct ch_io *io, const struct ch_io_request *request)
{
    moment();
    return mirror_of(io)->real_ops->submit(io, request);
}

static size_t watch_poll(struct ch_io *io, struct ch_io_done *done, size_t max)
{
    moment();
    return mirror_of(io)->real_ops->poll(io, done, max);
}

static ch_err watch_wait(struct ch_io *io)
{
    moment();
    return mirror_of(io)->real_ops->wait(io);
}

static ch_err watch_rename(struct ch_io *io, const char *from, const char *to)
{
    moment();
    return mirror_of(io)->real_ops->rename(io, from, to);
}

static ch_err watch_unlink(struct ch_io *io, const char *path)
{
    struct mirror *m = mirror_of(io);
    moment();
    ch_err err = m->real_ops->unlink(io, path);
    if (err == CH_OK && strcmp(path, m->path) == 0)
        (void)unlink(path);
    return err;
}

static ch_err watch_sync_dir(struct ch_io *io, const char *dir)
{
    moment();
    return mirror_of(io)->real_ops->sync_dir(io, dir);
}

void lmdb_mirror(struct ch_sim_disk *disk, struct ch_io *io, const char *path)
{
    struct mirror *m = mirror_of(NULL);
    struct stat st;
    size_t length = 0;
    assert_non_null(m);
    memset(m, 0, sizeof *m);
    m->fd = -1;
    m->lists_before = list_count;
    if (path) {
        snprintf(m->path, sizeof m->path, "%s", path);
        const uint8_t *bytes = ch_sim_disk_bytes(disk, path, &length);
        assert_ok(ch_io_open(io, path, bytes ? CH_IO_WRITE : CH_IO_WRITE | CH_IO_CREATE, &m->file));
        m->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(m->fd >= 0 && fstat(m->fd, &st) == 0);
        if (length)
            assert_int_equal(__real_pwrite(m->fd, bytes, length, 0), length);
        m->dev = st.st_dev;
        m->ino = st.st_ino;
    }
    m->real_ops = io->ops;
    m->ops = *io->ops;
    m->ops.open = watch_open;
    m->ops.write = watch_write;
    m->ops.sync = watch_sync;
    m->ops.submit = watch_submit;
    m->ops.poll = watch_poll;
    m->ops.wait = watch_wait;
    m->ops.rename = watch_rename;
    m->ops.unlink = watch_unlink;
    m->ops.sync_dir = watch_sync_dir;
    m->io = io;
    io->ops = &m->ops;
}

void lmdb_mirror_end(struct ch_io *io)
{
    struct mirror *m = mirror_of(io);
    io->ops = m->real_ops;
    ch_io_close_file(io, m->file);
    if (m->fd >= 0)
        close(m->fd);
    while (m->fd >= 0 && list_count > m->lists_before)
        mdb_midl_free(lists[--list_count]);
    m->io = NULL;
}
