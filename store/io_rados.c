#include "store/io_rados.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <rados/librados.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/time.h"
#include "store/io_impl.h"

#define OWNER            "chappe.owner" /* the attribute that names the opening a file belongs to */
#define LOCK             "chappe"
#define ASKED_FOR        "probe" /* the object that a probe asks for; it need not be there */
#define FREE_AGE_NS      UINT64_C(1000000000)
#define LOCKERS_BYTES    4096
#define WATCH_SECONDS    10           /* for so long the cluster remembers who was cut off */
#define ANSWER_MS        2000         /* who lives answers the question whether it does within a few */
#define SHUT_OUT_SECONDS (7u * 86400) /* no process is frozen longer and goes on */

/* What librados has of a watch. One that could not begin it has given back itself. */
enum watch { UNWATCHED, BEGINNING, WATCHED };

/* One connection, shared by all queues opened on it. */
struct cluster {
    rados_t rados;
    rados_ioctx_t pool;
    char *pool_name, *holder;
    char owner[33]; /* of this opening */
    _Atomic unsigned users;
    _Atomic bool away; /* it did not answer the last call */
    _Atomic bool probing;
    rados_completion_t probe;
    _Atomic enum watch watching;
    _Atomic bool watch_lost;
    /* The owner thread's: */
    uint64_t free_bytes, free_at_ns, timeout_ns;
    char *lock_name; /* of the file whose lock it has or had */
    uint64_t watch;
    char *answers; /* librados's, when a question is answered */
    size_t answers_bytes;
};

struct ch_file {
    bool locked;
    char name[];
};

struct flight {
    struct queue *queue;
    uint64_t cookie;
    uint32_t length; /* bytes that a read must have moved */
    rados_completion_t completion;
    int result;
    bool used;
    _Atomic bool ended; /* set by librados's thread, the result before it */
};

struct queue {
    struct ch_io io;
    struct cluster *cluster;
    struct flight flight[CH_IO_DEPTH_MAX];
    unsigned in_flight;
    int event; /* counts the flights ended and not polled */
};

static struct cluster *cluster_of(struct ch_io *io)
{
    return ((struct queue *)io)->cluster;
}

static ch_err from_result(int result)
{
    switch (result < 0 ? -result : 0) {
    case 0:
        return CH_OK;
    case ETIMEDOUT:
    case ENOTCONN:
        return CH_ERR_TIMEOUT;
    case ENOSPC:
    case EDQUOT:
        return CH_ERR_POOL_FULL;
    case ENOENT:
        return CH_ERR_NOT_FOUND;
    case EEXIST:
        return CH_ERR_EXISTS;
    case EACCES:
    case EPERM:
    case ESHUTDOWN: /* the cluster has shut this client out */
        return CH_ERR_DENIED;
    case ENOMEM:
        return CH_ERR_NO_MEMORY;
    case ECANCELED: /* the owner's attribute is another's */
    case EBUSY:
        return CH_ERR_BUSY;
    case EINVAL:
    case EFBIG:
        return CH_ERR_INVALID;
    default:
        return CH_ERR_IO;
    }
}

/* --- is the cluster there --- */

static ch_err heard(struct cluster *c, int result)
{
    ch_err err = from_result(result);
    atomic_store(&c->away, err == CH_ERR_TIMEOUT);
    return err;
}

static void probe_ended(rados_completion_t completion, void *context)
{
    struct cluster *c = context;
    (void)heard(c, rados_aio_get_return_value(completion));
    atomic_store(&c->probing, false);
}

static void end_probe(struct cluster *c)
{
    if (!c->probe)
        return;
    rados_aio_wait_for_complete_and_cb(c->probe);
    rados_aio_release(c->probe);
    c->probe = NULL;
}

/* True: fail at once. Of those who ask, one at a time has a question sent whose answer ends it. */
static bool is_away(struct cluster *c)
{
    bool none = false;
    if (!atomic_load(&c->away))
        return false;
    if (atomic_compare_exchange_strong(&c->probing, &none, true)) {
        end_probe(c);
        if (rados_aio_create_completion2(c, probe_ended, &c->probe) < 0 ||
            rados_aio_stat(c->pool, ASKED_FOR, c->probe, NULL, NULL) < 0)
            atomic_store(&c->probing, false);
    }
    return true;
}

/* --- writes, each one atomic --- */

/* A write to a file of ours. */
static rados_write_op_t guarded(const struct cluster *c)
{
    rados_write_op_t op = rados_create_write_op();
    rados_write_op_assert_exists(op);
    rados_write_op_cmpxattr(op, OWNER, LIBRADOS_CMPXATTR_OP_EQ, c->owner, sizeof c->owner);
    return op;
}

static ch_err operate(struct cluster *c, rados_write_op_t op, const char *name)
{
    ch_err err = is_away(c) ? CH_ERR_TIMEOUT : heard(c, rados_write_op_operate(op, c->pool, name, NULL, 0));
    rados_release_write_op(op);
    return err;
}

/* --- the lock, and the watch by which its holder answers that it lives --- */

/* The result of a call for which librados itself knows no time-out. It may still be answered later. */
static int await(const struct cluster *c, rados_completion_t completion)
{
    if (!completion)
        return -ENOMEM;
    uint64_t until_ns = ch_time_monotonic_ns() + c->timeout_ns;
    while (!rados_aio_is_complete(completion) && ch_time_monotonic_ns() < until_ns)
        usleep(1000);
    int result = rados_aio_is_complete(completion) ? rados_aio_get_return_value(completion) : -ETIMEDOUT;
    rados_aio_release(completion);
    return result;
}

static void answer(void *context, uint64_t notify, uint64_t watch, uint64_t asker, void *data, size_t length)
{
    struct cluster *c = context;
    (void)rados_notify_ack(c->pool, c->lock_name, notify, watch, "", 0);
}

static void watch_ended(void *context, uint64_t watch, int result)
{
    atomic_store(&((struct cluster *)context)->watch_lost, true);
}

static void watch_begun(rados_completion_t completion, void *context)
{
    struct cluster *c = context;
    bool begun = rados_aio_get_return_value(completion) >= 0;
    if (!begun)
        atomic_store(&c->watch_lost, true);
    atomic_store(&c->watching, begun ? WATCHED : UNWATCHED);
}

/* Begins; NULL: it is tried again. Without a watch the lock is had all the same, and who comes with the same name takes
 * it over as from a dead one. */
static rados_completion_t watch_lock(struct cluster *c)
{
    rados_completion_t completion;
    atomic_store(&c->watch_lost, false);
    atomic_store(&c->watching, BEGINNING);
    if (rados_aio_create_completion2(c, watch_begun, &completion) == 0) {
        if (rados_aio_watch2(c->pool, c->lock_name, completion, &c->watch, answer, watch_ended, WATCH_SECONDS, c) == 0)
            return completion;
        rados_aio_release(completion);
    }
    atomic_store(&c->watching, UNWATCHED);
    atomic_store(&c->watch_lost, true);
    return NULL;
}

/* NULL: there is nothing to end. */
static rados_completion_t unwatch_lock(struct cluster *c)
{
    rados_completion_t completion;
    if (atomic_load(&c->watching) != WATCHED || rados_aio_create_completion2(NULL, NULL, &completion) < 0)
        return NULL;
    atomic_store(&c->watching, UNWATCHED);
    if (rados_aio_unwatch(c->pool, c->watch, completion) == 0)
        return completion;
    rados_aio_release(completion);
    return NULL;
}

static void watch_lock_again(struct cluster *c)
{
    if (atomic_load(&c->watching) == BEGINNING)
        return;
    rados_completion_t completion = unwatch_lock(c);
    if (completion)
        rados_aio_release(completion);
    completion = watch_lock(c);
    if (completion)
        rados_aio_release(completion);
}

/* Whether somebody answers who watches the file. */
static ch_err is_watched(struct cluster *c, const char *name, bool *watched)
{
    struct notify_ack_t *acks;
    struct notify_timeout_t *silent;
    size_t ack_count, silent_count;
    rados_completion_t completion;
    int result = rados_aio_create_completion2(NULL, NULL, &completion);
    if (result < 0)
        return from_result(result);
    result = rados_aio_notify(c->pool, name, completion, "", 0, ANSWER_MS, &c->answers, &c->answers_bytes);
    if (result < 0)
        rados_aio_release(completion);
    else
        result = await(c, completion);
    if (result < 0 && (result != -ETIMEDOUT || !c->answers)) /* with answers: some watcher is silent */
        return heard(c, result);
    result = rados_decode_notify_response(c->answers, c->answers_bytes, &acks, &ack_count, &silent, &silent_count);
    if (result < 0)
        return CH_ERR_IO;
    *watched = ack_count > 0;
    rados_free_notify_response(acks, ack_count, silent);
    return CH_OK;
}

/* A client chooses its number at random. */
static bool is_ours(struct cluster *c, const char *address)
{
    char *own = NULL;
    const char *bare = strncmp(address, "v1:", 3) == 0 ? address + 3 : address;
    bool ours = rados_getaddrs(c->rados, &own) < 0 || !*bare || strstr(own, bare);
    rados_buffer_free(own);
    return ours;
}

/* Breaks the lock where an earlier opening of the same holder has it and does not live: it is shut out of the cluster
 * before, so that it changes nothing any more if it was only frozen. */
static ch_err take_over(struct cluster *c, const char *name)
{
    char tag[64], clients[LOCKERS_BYTES], cookies[LOCKERS_BYTES], addresses[LOCKERS_BYTES];
    size_t tag_bytes = sizeof tag, client_bytes = sizeof clients, cookie_bytes = sizeof cookies,
           address_bytes = sizeof addresses;
    int exclusive;
    bool lives = false;
    ssize_t count = rados_list_lockers(c->pool, name, LOCK, &exclusive, tag, &tag_bytes, clients, &client_bytes,
                                       cookies, &cookie_bytes, addresses, &address_bytes);
    if (count < 0)
        return heard(c, (int)count);
    if (count != 1 || strcmp(cookies, c->holder) != 0)
        return count ? CH_ERR_BUSY : CH_OK;
    ch_err err = is_watched(c, name, &lives);
    if (err == CH_OK && (lives || is_ours(c, addresses)))
        err = CH_ERR_BUSY;
    if (err == CH_OK)
        err = heard(c, rados_blocklist_add(c->rados, addresses, SHUT_OUT_SECONDS)); /* and knows the map that says so */
    if (err != CH_OK)
        return err;
    err = heard(c, rados_break_lock(c->pool, name, LOCK, clients, cookies));
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

static ch_err pool_lock_file(struct ch_io *io, struct ch_file *file)
{
    struct cluster *c = cluster_of(io);
    ch_err err = CH_ERR_BUSY;
    if (!c->lock_name && !(c->lock_name = strdup(file->name)))
        return CH_ERR_NO_MEMORY;
    if (strcmp(c->lock_name, file->name) != 0)
        return CH_ERR_UNSUPPORTED; /* a connection has one lock */
    for (int i = 0; i < 2 && err == CH_ERR_BUSY; i++) {
        if (i && (err = take_over(c, file->name)) != CH_OK)
            return err;
        err = is_away(c) ? CH_ERR_TIMEOUT
                         : heard(c, rados_lock_exclusive(c->pool, file->name, LOCK, c->holder, "", NULL, 0));
    }
    file->locked = err == CH_OK;
    if (err == CH_OK)
        (void)await(c, watch_lock(c));
    return err;
}

/* --- files --- */

static ch_err pool_make_dir(struct ch_io *io, const char *path)
{
    return CH_OK;
}

/* A creation that was not answered may have been done: then the file is ours. */
static ch_err was_created(struct cluster *c, const char *name)
{
    char owner[sizeof c->owner];
    if (is_away(c))
        return CH_ERR_TIMEOUT;
    int got = rados_getxattr(c->pool, name, OWNER, owner, sizeof owner);
    ch_err err = heard(c, got);
    if (err == CH_OK)
        err = got == (int)sizeof owner && memcmp(owner, c->owner, sizeof owner) == 0 ? CH_OK : CH_ERR_EXISTS;
    return err == CH_ERR_TIMEOUT ? err : err == CH_OK ? CH_OK : CH_ERR_EXISTS;
}

static ch_err pool_open(struct ch_io *io, const char *path, unsigned flags, struct ch_file **out)
{
    struct cluster *c = cluster_of(io);
    ch_err err;
    if (!(flags & CH_IO_WRITE)) {
        uint64_t size;
        time_t changed;
        err = is_away(c) ? CH_ERR_TIMEOUT : heard(c, rados_stat(c->pool, path, &size, &changed));
    } else {
        rados_write_op_t op = rados_create_write_op();
        if (flags & CH_IO_CREATE)
            rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, NULL);
        else
            rados_write_op_assert_exists(op);
        rados_write_op_setxattr(op, OWNER, c->owner, sizeof c->owner);
        err = operate(c, op, path);
        if (err == CH_ERR_EXISTS)
            err = was_created(c, path);
    }
    size_t length = strlen(path) + 1;
    struct ch_file *file = err == CH_OK ? malloc(sizeof *file + length) : NULL;
    if (err == CH_OK && !file)
        err = CH_ERR_NO_MEMORY;
    if (err != CH_OK)
        return err;
    file->locked = false;
    memcpy(file->name, path, length);
    *out = file;
    return CH_OK;
}

static void pool_close_file(struct ch_io *io, struct ch_file *file)
{
    struct cluster *c = cluster_of(io);
    if (file->locked && !is_away(c)) { /* else it is taken over */
        (void)await(c, unwatch_lock(c));
        (void)rados_unlock(c->pool, file->name, LOCK, c->holder);
    }
    free(file);
}

static ch_err pool_size(struct ch_io *io, struct ch_file *file, uint64_t *bytes)
{
    struct cluster *c = cluster_of(io);
    time_t changed;
    return is_away(c) ? CH_ERR_TIMEOUT : heard(c, rados_stat(c->pool, file->name, bytes, &changed));
}

static ch_err pool_cut(struct ch_io *io, struct ch_file *file, uint64_t bytes)
{
    rados_write_op_t op = guarded(cluster_of(io));
    rados_write_op_truncate(op, bytes);
    return operate(cluster_of(io), op, file->name);
}

static ch_err pool_read_bytes(struct ch_io *io, struct ch_file *file, void *to, size_t length, uint64_t offset,
                              size_t *got)
{
    struct cluster *c = cluster_of(io);
    if (is_away(c))
        return CH_ERR_TIMEOUT;
    int result = rados_read(c->pool, file->name, to, length, offset);
    if (result >= 0)
        *got = (size_t)result;
    return heard(c, result);
}

static ch_err pool_write_bytes(struct ch_io *io, struct ch_file *file, const void *from, size_t length, uint64_t offset)
{
    rados_write_op_t op = guarded(cluster_of(io));
    rados_write_op_write(op, from, length, offset);
    return operate(cluster_of(io), op, file->name);
}

static ch_err pool_sync(struct ch_io *io, struct ch_file *file)
{
    return CH_OK;
}

static ch_err pool_list(struct ch_io *io, const char *dir, void (*each)(void *, const char *), void *context)
{
    struct cluster *c = cluster_of(io);
    rados_list_ctx_t list;
    const char *name;
    size_t dir_length = strlen(dir);
    if (is_away(c))
        return CH_ERR_TIMEOUT;
    int result = rados_nobjects_list_open(c->pool, &list);
    if (result < 0)
        return heard(c, result);
    while ((result = rados_nobjects_list_next(list, &name, NULL, NULL)) == 0)
        if (strncmp(name, dir, dir_length) == 0 && name[dir_length] == '/' && !strchr(name + dir_length + 1, '/'))
            each(context, name + dir_length + 1);
    rados_nobjects_list_close(list);
    return result == -ENOENT ? CH_OK : heard(c, result);
}

static ch_err pool_rename(struct ch_io *io, const char *from, const char *to)
{
    return CH_ERR_UNSUPPORTED;
}

static ch_err pool_unlink(struct ch_io *io, const char *path)
{
    rados_write_op_t op = guarded(cluster_of(io));
    rados_write_op_remove(op);
    return operate(cluster_of(io), op, path);
}

static ch_err pool_sync_dir(struct ch_io *io, const char *dir)
{
    return CH_OK;
}

/* What the monitors' `df detail` says of the pool: what the cluster could still take for it, and its quota. */
static bool read_df(const char *text, size_t length, const char *pool_name, uint64_t *bytes)
{
    json_t *df = json_loadb(text, length, 0, NULL), *pool;
    size_t i;
    bool found = false;
    json_array_foreach(json_object_get(df, "pools"), i, pool)
    {
        const char *name = json_string_value(json_object_get(pool, "name"));
        const json_t *stats = json_object_get(pool, "stats");
        json_t *available = json_object_get(stats, "max_avail");
        if (!name || strcmp(name, pool_name) != 0 || !json_is_integer(available))
            continue;
        json_int_t room = json_integer_value(available),
                   quota = json_integer_value(json_object_get(stats, "quota_bytes")),
                   stored = json_integer_value(json_object_get(stats, "stored"));
        if (quota > 0 && quota - stored < room)
            room = quota - stored;
        *bytes = room > 0 ? (uint64_t)room : 0;
        found = true;
    }
    json_decref(df);
    return found;
}

static ch_err pool_free_bytes(struct ch_io *io, const char *dir, uint64_t *bytes)
{
    struct cluster *c = cluster_of(io);
    const char *command = "{\"prefix\": \"df\", \"detail\": \"detail\", \"format\": \"json\"}";
    uint64_t now_ns = ch_time_monotonic_ns();
    char *out = NULL, *status = NULL;
    size_t out_bytes = 0, status_bytes = 0;
    if (c->free_at_ns && now_ns < c->free_at_ns + FREE_AGE_NS) {
        *bytes = c->free_bytes;
        return CH_OK;
    }
    if (is_away(c))
        return CH_ERR_TIMEOUT;
    ch_err err = heard(c, rados_mon_command(c->rados, &command, 1, "", 0, &out, &out_bytes, &status, &status_bytes));
    if (err == CH_OK && !read_df(out, out_bytes, c->pool_name, &c->free_bytes))
        err = CH_ERR_TIMEOUT; /* the monitors have not been told yet */
    rados_buffer_free(out);
    rados_buffer_free(status);
    if (err == CH_OK) {
        c->free_at_ns = now_ns;
        *bytes = c->free_bytes;
    }
    return err;
}

static void pool_register(struct ch_io *io, void *memory, size_t bytes)
{
}

/* --- the queue --- */

static void end(struct flight *f, int result)
{
    const uint64_t one = 1;
    int event = f->queue->event;
    f->result = result;
    atomic_store(&f->ended, true); /* from here on it may be polled and used again */
    while (write(event, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void flight_ended(rados_completion_t completion, void *context)
{
    struct flight *f = context;
    int result = rados_aio_get_return_value(completion);
    (void)heard(f->queue->cluster, result);
    end(f, result);
}

static int launch(struct flight *f, const struct ch_io_request *r)
{
    struct cluster *c = f->queue->cluster;
    if (r->kind == CH_IO_OP_SYNC || (r->kind == CH_IO_OP_READ && is_away(c))) {
        end(f, r->kind == CH_IO_OP_SYNC ? 0 : -ETIMEDOUT);
        return 0;
    }
    int result = rados_aio_create_completion2(f, flight_ended, &f->completion);
    if (result < 0)
        return result;
    if (r->kind == CH_IO_OP_READ) {
        result = rados_aio_read(c->pool, r->file->name, f->completion, r->data, r->length, r->offset);
    } else {
        rados_write_op_t op = guarded(c);
        rados_write_op_write(op, r->data, r->length, r->offset);
        result = rados_aio_write_op_operate(op, c->pool, f->completion, r->file->name, NULL, 0);
        rados_release_write_op(op);
    }
    if (result < 0)
        rados_aio_release(f->completion);
    return result;
}

static ch_err pool_submit(struct ch_io *io, const struct ch_io_request *r)
{
    struct queue *q = (struct queue *)io;
    unsigned at = 0;
    if (r->kind == CH_IO_OP_WRITE && atomic_load(&q->cluster->watch_lost) && !is_away(q->cluster))
        watch_lock_again(q->cluster);
    while (at < CH_IO_DEPTH_MAX && q->flight[at].used)
        at++;
    if (at == CH_IO_DEPTH_MAX)
        return CH_ERR_FULL;
    struct flight *f = &q->flight[at];
    f->queue = q;
    f->cookie = r->cookie;
    f->length = r->kind == CH_IO_OP_READ ? r->length : 0;
    f->completion = NULL;
    atomic_store(&f->ended, false);
    int result = launch(f, r);
    if (result < 0)
        return from_result(result);
    f->used = true;
    q->in_flight++;
    return CH_OK;
}

static size_t pool_poll(struct ch_io *io, struct ch_io_done *done, size_t max)
{
    struct queue *q = (struct queue *)io;
    uint64_t counted;
    size_t count = 0;
    for (unsigned i = 0; i < CH_IO_DEPTH_MAX && count < max && q->in_flight; i++) {
        struct flight *f = &q->flight[i];
        if (!f->used || !atomic_load(&f->ended))
            continue;
        while (read(q->event, &counted, sizeof counted) < 0 && errno == EINTR)
            ;
        ch_err err = from_result(f->result);
        if (err == CH_OK && (uint32_t)f->result != f->length)
            err = CH_ERR_IO;
        if (f->completion)
            rados_aio_release(f->completion);
        f->used = false;
        q->in_flight--;
        done[count++] = (struct ch_io_done){.cookie = f->cookie, .err = err};
    }
    return count;
}

static ch_err pool_wait(struct ch_io *io)
{
    struct queue *q = (struct queue *)io;
    struct pollfd ended = {.fd = q->event, .events = POLLIN};
    int n = 0;
    if (q->in_flight)
        do
            n = poll(&ended, 1, -1);
        while (n < 0 && errno == EINTR);
    return n < 0 ? CH_ERR_IO : CH_OK;
}

static int pool_fd(const struct ch_io *io)
{
    return ((const struct queue *)io)->event;
}

/* --- open and close --- */

static void disconnect(struct cluster *c)
{
    if (c->pool) {
        end_probe(c);
        rados_ioctx_destroy(c->pool);
    }
    if (c->rados)
        rados_shutdown(c->rados);
    rados_buffer_free(c->answers);
    free(c->pool_name);
    free(c->holder);
    free(c->lock_name);
    free(c);
}

static void pool_close(struct ch_io *io)
{
    struct queue *q = (struct queue *)io;
    if (atomic_fetch_sub(&q->cluster->users, 1) == 1)
        disconnect(q->cluster);
    close(q->event);
    free(q);
}

static ch_err open_queue(struct cluster *cluster, struct ch_io **out);

static ch_err pool_open_another(struct ch_io *io, struct ch_io **out)
{
    return open_queue(cluster_of(io), out);
}

static const struct ch_io_ops pool_ops = {
    .open_another = pool_open_another,
    .close = pool_close,
    .make_dir = pool_make_dir,
    .open = pool_open,
    .close_file = pool_close_file,
    .size = pool_size,
    .allocate = pool_cut,
    .truncate = pool_cut,
    .read = pool_read_bytes,
    .write = pool_write_bytes,
    .sync = pool_sync,
    .lock = pool_lock_file,
    .list = pool_list,
    .rename = pool_rename,
    .unlink = pool_unlink,
    .sync_dir = pool_sync_dir,
    .free_bytes = pool_free_bytes,
    .register_memory = pool_register,
    .submit = pool_submit,
    .poll = pool_poll,
    .wait = pool_wait,
    .fd = pool_fd,
};

static ch_err open_queue(struct cluster *cluster, struct ch_io **out)
{
    struct queue *q = calloc(1, sizeof *q);
    if (!q)
        return CH_ERR_NO_MEMORY;
    q->io.ops = &pool_ops;
    q->cluster = cluster;
    q->event = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    if (q->event < 0) {
        free(q);
        return CH_ERR_NO_MEMORY;
    }
    atomic_fetch_add(&cluster->users, 1);
    *out = &q->io;
    return CH_OK;
}

static ch_err set_timeouts(struct cluster *c, unsigned seconds)
{
    /* librados asks where an OSD went when a call has waited for objecter_timeout. It begins anew with each call:
     * unless it is below the timeout of calls, it never asks, and calls go where nobody is for ever. */
    const struct {
        const char *name;
        unsigned part;
    } timeouts[] = {{"rados_osd_op_timeout", 1},
                    {"rados_mon_op_timeout", 1},
                    {"client_mount_timeout", 1},
                    {"objecter_timeout", 2},
                    {"objecter_tick_interval", 4}};
    char text[32];
    int result = 0;
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts && result == 0; i++) {
        snprintf(text, sizeof text, "%g", (double)seconds / timeouts[i].part); /* a whole number where it must be */
        result = rados_conf_set(c->rados, timeouts[i].name, text);
    }
    return from_result(result);
}

static ch_err connect_to(struct cluster *c, const struct ch_io_rados_options *options)
{
    uint8_t random[16];
    if (sodium_init() < 0)
        return CH_ERR_UNSUPPORTED;
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(c->owner, sizeof c->owner, random, sizeof random);
    c->timeout_ns = options->timeout_seconds * UINT64_C(1000000000);
    c->pool_name = strdup(options->pool);
    c->holder = strdup(options->holder);
    if (!c->pool_name || !c->holder)
        return CH_ERR_NO_MEMORY;
    int result = rados_create(&c->rados, options->user);
    if (result < 0)
        return from_result(result);
    if (rados_conf_read_file(c->rados, options->config) < 0)
        return CH_ERR_INVALID;
    ch_err err = set_timeouts(c, options->timeout_seconds);
    if (err == CH_OK) {
        result = rados_connect(c->rados);
        err = result == -ENOENT ? CH_ERR_DENIED : from_result(result); /* no keyring: the key is nobody's */
    }
    if (err == CH_OK)
        err = from_result(rados_ioctx_create(c->rados, options->pool, &c->pool));
    if (err != CH_OK)
        return err;
    rados_ioctx_set_namespace(c->pool, options->space);
    /* A full pool or cluster is told, where librados would wait until there is room. */
    rados_set_pool_full_try(c->pool);
    return CH_OK;
}

ch_err ch_io_rados_open(const struct ch_io_rados_options *options, struct ch_io **out)
{
    struct cluster *c = calloc(1, sizeof *c);
    if (!c)
        return CH_ERR_NO_MEMORY;
    ch_err err = connect_to(c, options);
    if (err == CH_OK)
        err = open_queue(c, out);
    if (err != CH_OK)
        disconnect(c);
    return err;
}
