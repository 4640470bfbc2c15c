#include "tests/store/rados_calls.h"

#include <errno.h>
#include <rados/librados.h>
#include <stdatomic.h>
#include <stdlib.h>

static _Atomic uint64_t calls, fail_at;
static int error, is_done;
static _Atomic(rados_completion_t) failing; /* its answer is replaced */

uint64_t rados_calls(void)
{
    return atomic_load(&calls);
}

void rados_calls_fail_at(uint64_t call, ch_err err, int done)
{
    error = err == CH_ERR_TIMEOUT ? -ETIMEDOUT : err == CH_ERR_POOL_FULL ? -ENOSPC : -EIO;
    is_done = done;
    atomic_store(&fail_at, call);
}

/* Counts a call; whether it is the one that fails. */
static int fails(void)
{
    return atomic_fetch_add(&calls, 1) + 1 == atomic_load(&fail_at);
}

#define WRAPPED(name, parameters, arguments)                                                                           \
    int __real_##name parameters;                                                                                      \
    int __wrap_##name parameters;                                                                                      \
    int __wrap_##name parameters                                                                                       \
    {                                                                                                                  \
        int fail = fails();                                                                                            \
        if (fail && !is_done)                                                                                          \
            return error;                                                                                              \
        int result = __real_##name arguments;                                                                          \
        return fail ? error : result;                                                                                  \
    }

WRAPPED(rados_write_op_operate, (rados_write_op_t op, rados_ioctx_t io, const char *name, time_t *time, int flags),
        (op, io, name, time, flags))
WRAPPED(rados_read, (rados_ioctx_t io, const char *name, char *to, size_t length, uint64_t offset),
        (io, name, to, length, offset))
WRAPPED(rados_stat, (rados_ioctx_t io, const char *name, uint64_t *size, time_t *time), (io, name, size, time))
WRAPPED(rados_nobjects_list_open, (rados_ioctx_t io, rados_list_ctx_t *list), (io, list))

/* Those that end later have the error as their answer; in the place of one that is not done something is asked for. */
#define WRAPPED_LATER(name, parameters, arguments)                                                                     \
    int __real_##name parameters;                                                                                      \
    int __wrap_##name parameters;                                                                                      \
    int __wrap_##name parameters                                                                                       \
    {                                                                                                                  \
        if (!fails())                                                                                                  \
            return __real_##name arguments;                                                                            \
        atomic_store(&failing, completion);                                                                            \
        return is_done ? __real_##name arguments : rados_aio_stat(io, "nothing", completion, NULL, NULL);              \
    }

WRAPPED_LATER(rados_aio_read,
              (rados_ioctx_t io, const char *name, rados_completion_t completion, char *to, size_t length,
               uint64_t offset),
              (io, name, completion, to, length, offset))
WRAPPED_LATER(rados_aio_write_op_operate,
              (rados_write_op_t op, rados_ioctx_t io, rados_completion_t completion, const char *name, time_t *time,
               int flags),
              (op, io, completion, name, time, flags))

int __real_rados_aio_get_return_value(rados_completion_t completion);
int __wrap_rados_aio_get_return_value(rados_completion_t completion);
int __wrap_rados_aio_get_return_value(rados_completion_t completion)
{
    rados_completion_t expected = completion;
    return atomic_compare_exchange_strong(&failing, &expected, NULL) ? error
                                                                     : __real_rados_aio_get_return_value(completion);
}

void rados_calls_overwrite(const char *space, const char *path, const uint8_t *bytes, size_t length)
{
    static rados_t cluster;
    static rados_ioctx_t pool;
    if (!cluster && (rados_create(&cluster, "chappe") < 0 || rados_conf_read_file(cluster, getenv("CHAPPE_CEPH")) < 0 ||
                     rados_connect(cluster) < 0 || rados_ioctx_create(cluster, "chappe", &pool) < 0))
        abort();
    rados_ioctx_set_namespace(pool, space);
    if (rados_write_full(pool, path, (const char *)bytes, length) < 0)
        abort();
}
