#include "node/object_store.h"

#include "store/io_rados.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_SEGMENT_MIB_MAX 64 /* a segment is one object of the pool, which holds 128 MiB at most by default */
#define AGAIN_NS             UINT64_C(250000000)
#define NAME_BYTES           8  /* of chain and key, in the namespace */

static ch_err explain(char why[CH_NODE_WHY_BYTES], ch_err err, const char *what)
{
    snprintf(why, CH_NODE_WHY_BYTES, "%.300s: %s", what, ch_err_text(err));
    return err;
}

/* --- segments or a pool: a folder is used with one of them --- */

static void see_segment(void *context, const char *name)
{
    size_t length = strlen(name);
    *(bool *)context |= length > 4 && strcmp(name + length - 4, ".obj") == 0;
}

/* The folder's mark that its objects are in a pool, held as long as they are used. */
static ch_err take_folder(struct ch_node *n, char why[CH_NODE_WHY_BYTES])
{
    char dir[CH_IO_PATH_BYTES_MAX - 16], path[CH_IO_PATH_BYTES_MAX];
    bool segments = false;
    snprintf(dir, sizeof dir, "%s/obj", n->folder);
    snprintf(path, sizeof path, "%s/pool", dir);
    ch_err err = ch_io_make_dir(n->state_io, dir);
    if (err == CH_OK)
        err = ch_io_list(n->state_io, dir, see_segment, &segments);
    if (err == CH_OK && segments) {
        snprintf(why, CH_NODE_WHY_BYTES,
                 "store.objects is rados, and %.300s has segments: nothing moves them into a pool", dir);
        return CH_ERR_EXISTS;
    }
    if (err == CH_OK)
        err = ch_io_open(n->state_io, path, CH_IO_WRITE, &n->pool_mark);
    if (err == CH_ERR_NOT_FOUND)
        err = ch_io_open(n->state_io, path, CH_IO_WRITE | CH_IO_CREATE, &n->pool_mark);
    if (err == CH_OK)
        err = ch_io_lock(n->state_io, n->pool_mark);
    return err == CH_OK ? CH_OK : explain(why, err, path);
}

static ch_err no_pool_before(const struct ch_node *n, char why[CH_NODE_WHY_BYTES])
{
    char path[CH_IO_PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/obj/pool", n->folder);
    if (access(path, F_OK) != 0)
        return CH_OK;
    snprintf(why, CH_NODE_WHY_BYTES, "store.objects is segments, and %.300s says that the objects are in a pool", path);
    return CH_ERR_EXISTS;
}

/* --- the pool --- */

static const char *pool_trouble(ch_err err)
{
    switch (err) {
    case CH_ERR_UNSUPPORTED:
        return "this program was built without librados";
    case CH_ERR_INVALID:
        return "store.rados_config can't be read";
    case CH_ERR_TIMEOUT:
        return "the cluster does not answer";
    case CH_ERR_DENIED:
        return "the cluster refuses store.rados_user: no keyring, another key, or a right is missing";
    case CH_ERR_NOT_FOUND:
        return "there is no such pool";
    case CH_ERR_BUSY:
        return "another process, of this folder's copy or of where it was, holds this validator's objects";
    default:
        return ch_err_text(err);
    }
}

/* For the program's exit code: trying again is of no use where a setting or a key is wrong. */
static ch_err pool_class(ch_err err)
{
    switch (err) {
    case CH_ERR_DENIED:
        return CH_ERR_BAD_PASSPHRASE;
    case CH_ERR_NOT_FOUND:
        return CH_ERR_INVALID;
    default:
        return err;
    }
}

/* The namespace of this validator on this chain. */
static void space_of(const struct ch_node *n, char space[4 * NAME_BYTES + 2])
{
    for (int i = 0; i < NAME_BYTES; i++) {
        snprintf(space + 2 * i, 3, "%02x", n->chain_id[i]);
        snprintf(space + 2 * NAME_BYTES + 1 + 2 * i, 3, "%02x", n->key.public_key[i]);
    }
    space[2 * NAME_BYTES] = '-';
}

static ch_err open_pool(struct ch_node *n, char why[CH_NODE_WHY_BYTES])
{
    char space[4 * NAME_BYTES + 2], host[256] = "", holder[sizeof host + PATH_MAX];
    char *folder = realpath(n->folder, NULL);
    if (!folder)
        return explain(why, CH_ERR_IO, n->folder);
    (void)gethostname(host, sizeof host - 1);
    snprintf(holder, sizeof holder, "%s:%s", host, folder);
    free(folder);
    space_of(n, space);
    const struct ch_io_rados_options options = {.config = n->config.store_rados_config,
                                                .user = n->config.store_rados_user,
                                                .pool = n->config.store_rados_pool,
                                                .space = space,
                                                .holder = holder,
                                                .timeout_seconds = (unsigned)n->config.store_rados_timeout_seconds};
    return ch_io_rados_open(&options, &n->objects_io);
}

ch_err ch_node_open_objects(struct ch_node *n, const uint8_t master_key[32], char why[CH_NODE_WHY_BYTES])
{
    bool pool = strcmp(n->config.store_objects, "rados") == 0;
    uint64_t segment_mib = n->config.store_object_segment_mib;
    char dir[CH_IO_PATH_BYTES_MAX];
    snprintf(dir, sizeof dir, "%s/obj", n->folder);
    if (pool && segment_mib > POOL_SEGMENT_MIB_MAX)
        segment_mib = POOL_SEGMENT_MIB_MAX;
    const struct ch_object_options options = {
        .master_key = master_key,
        .segment_bytes = (uint32_t)(segment_mib << 20),
        .low_water_bytes = n->config.store_low_water_mib << 20,
        .again_after_ns = AGAIN_NS,
        .run_bytes_max = pool ? POOL_SEGMENT_MIB_MAX << 20 : 0,
    };
    ch_err err = pool ? take_folder(n, why) : no_pool_before(n, why);
    if (err != CH_OK)
        return err;
    err = pool ? open_pool(n, why) : ch_io_uring_open(&n->objects_io);
    if (err == CH_OK)
        err = ch_object_open(n->objects_io, pool ? "obj" : dir, &options, &n->objects);
    if (err == CH_OK || !pool)
        return err == CH_OK ? CH_OK : explain(why, err, dir);
    snprintf(why, CH_NODE_WHY_BYTES, "the pool \"%.100s\" (store.rados_pool): %s", n->config.store_rados_pool,
             pool_trouble(err));
    return pool_class(err);
}

void ch_node_close_objects(struct ch_node *n)
{
    ch_object_close(n->objects);
    ch_io_close(n->objects_io);
    ch_io_close_file(n->state_io, n->pool_mark);
}
