#include "node/tree.h"

#include <stdlib.h>

struct ch_tree {
    struct ch_object_reader *reader;
    unsigned validators;
    struct ch_spread_store store; /* has and get */
    struct ch_cid *missing;
    size_t missing_count;
    uint32_t nodes_left;
    uint8_t node[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link link[CH_UNIXFS_DEPTH_MAX][CH_UNIXFS_LINKS_MAX];
};

unsigned ch_tree_name_kind(enum ch_spread_kind kind)
{
    static const unsigned kinds[] = {[CH_SPREAD_SHARD] = CH_NAME_SHARD,
                                     [CH_SPREAD_MANIFEST] = CH_NAME_MANIFEST,
                                     [CH_SPREAD_STORED] = CH_NAME_STORED,
                                     [CH_SPREAD_NAMED] = CH_NAME_NAMED};
    return kinds[kind];
}

struct ch_cid ch_tree_address(enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES])
{
    struct ch_cid address;
    if (kind == CH_SPREAD_WHOLE)
        ch_cid_make(CH_CID_RAW, name, &address);
    else
        ch_object_name(ch_tree_name_kind(kind), name, &address);
    return address;
}

bool ch_tree_has(void *context, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES])
{
    struct ch_cid address = ch_tree_address(kind, name);
    size_t length;
    return ch_object_length(*(struct ch_object_reader **)context, &address, &length) == CH_OK;
}

ch_err ch_tree_get(void *context, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES], uint8_t *to,
                   size_t capacity, size_t *length)
{
    struct ch_cid address = ch_tree_address(kind, name);
    return ch_object_get(*(struct ch_object_reader **)context, &address, to, capacity, length);
}

ch_err ch_tree_open(struct ch_object_reader *reader, unsigned validators, struct ch_tree **out)
{
    struct ch_tree *t = calloc(1, sizeof *t);
    if (!t)
        return CH_ERR_NO_MEMORY;
    t->reader = reader;
    t->validators = validators;
    t->store = (struct ch_spread_store){.context = &t->reader, .has = ch_tree_has, .get = ch_tree_get};
    *out = t;
    return CH_OK;
}

void ch_tree_close(struct ch_tree *t)
{
    free(t);
}

static ch_err is_missing(struct ch_tree *t, const struct ch_cid *cid)
{
    if (t->missing && t->missing_count < CH_TREE_MISSING_MAX)
        t->missing[t->missing_count++] = *cid;
    return CH_ERR_NOT_FOUND;
}

/* More of what is missing is wanted. */
static bool goes_on(const struct ch_tree *t, ch_err err)
{
    return err == CH_OK || (err == CH_ERR_NOT_FOUND && t->missing && t->missing_count < CH_TREE_MISSING_MAX);
}

static ch_err look_below(struct ch_tree *t, const struct ch_cid *cid, int depth, uint64_t *file_bytes)
{
    uint64_t expected = *file_bytes, sum = 0;
    size_t length;
    if (ch_cid_codec(cid) == CH_CID_RAW) {
        if (expected == UINT64_MAX && !ch_spread_length(&t->store, t->validators, cid, file_bytes))
            return is_missing(t, cid);
        bool stored = *file_bytes <= CH_BLOCK_BYTES_MAX && ch_spread_is_stored(&t->store, cid, (uint32_t)*file_bytes);
        return stored ? CH_OK : is_missing(t, cid);
    }
    if (depth == CH_UNIXFS_DEPTH_MAX || t->nodes_left == 0)
        return CH_ERR_INVALID;
    t->nodes_left--;
    ch_err err = ch_object_get(t->reader, cid, t->node, sizeof t->node, &length);
    if (err == CH_ERR_FULL)
        return CH_ERR_INVALID;
    if (err == CH_ERR_TIMEOUT)
        return err;
    if (err != CH_OK || !ch_spread_is_stored(&t->store, cid, (uint32_t)length))
        return is_missing(t, cid);
    size_t count = ch_unixfs_decode(t->node, length, t->link[depth]);
    if (count == 0)
        return CH_ERR_INVALID;
    ch_err worst = CH_OK;
    for (size_t i = 0; i < count && goes_on(t, worst); i++) {
        uint64_t bytes = t->link[depth][i].file_bytes;
        err = look_below(t, &t->link[depth][i].cid, depth + 1, &bytes);
        worst = err != CH_OK ? err : worst;
        sum += t->link[depth][i].file_bytes;
    }
    if (worst == CH_OK && depth && expected != sum)
        return CH_ERR_INVALID;
    *file_bytes = sum;
    return worst;
}

ch_err ch_tree_look(struct ch_tree *t, const struct ch_cid *root, uint64_t *file_bytes, struct ch_cid *missing,
                    size_t *count)
{
    uint64_t bytes = *file_bytes;
    if (!ch_cid_valid(root->bytes))
        return CH_ERR_INVALID;
    t->missing = missing;
    t->missing_count = 0;
    t->nodes_left = CH_OBJECT_TREE_NODES;
    ch_err err = look_below(t, root, 0, &bytes);
    if (err == CH_OK)
        *file_bytes = bytes;
    if (count)
        *count = t->missing_count;
    return err;
}

/* --- telling of all blocks --- */

struct visit {
    uint64_t at, skip;
    bool (*each)(void *context, const struct ch_cid *cid, uint32_t length);
    void *context;
};

static bool visit_one(struct visit *v, const struct ch_cid *cid, uint64_t length)
{
    if (v->at >= v->skip && length <= CH_BLOCK_BYTES_MAX && !v->each(v->context, cid, (uint32_t)length))
        return false;
    v->at++;
    return true;
}

static bool visit_below(struct ch_tree *t, struct visit *v, const struct ch_cid *cid, int depth, uint64_t bytes)
{
    size_t length;
    if (ch_cid_codec(cid) == CH_CID_RAW)
        return visit_one(v, cid, bytes);
    if (depth == CH_UNIXFS_DEPTH_MAX || t->nodes_left == 0)
        return true;
    t->nodes_left--;
    ch_err err = ch_object_get(t->reader, cid, t->node, sizeof t->node, &length);
    if (err != CH_OK)
        return err != CH_ERR_TIMEOUT; /* while the storage does not answer nobody knows what else is named: not now */
    if (!visit_one(v, cid, length))
        return false;
    size_t count = ch_unixfs_decode(t->node, length, t->link[depth]);
    for (size_t i = 0; i < count; i++)
        if (!visit_below(t, v, &t->link[depth][i].cid, depth + 1, t->link[depth][i].file_bytes))
            return false;
    return true;
}

uint64_t ch_tree_each(struct ch_tree *t, const struct ch_cid *root, uint64_t root_bytes, uint64_t skip,
                      bool (*each)(void *context, const struct ch_cid *cid, uint32_t length), void *context, bool *end)
{
    struct visit v = {.skip = skip, .each = each, .context = context};
    t->nodes_left = CH_OBJECT_TREE_NODES;
    *end = !ch_cid_valid(root->bytes) || visit_below(t, &v, root, 0, root_bytes);
    return v.at;
}
