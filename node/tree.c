#include "node/tree.h"

#include "crypto/sign.h"

#include <stdlib.h>

/* A subtree that a walk has passed. Without it, one that stands in a thousand places would be read a thousand times,
 * and a large tree for each message that names it. */
struct passed {
    struct ch_cid cid;
    uint64_t walk;         /* which one told of it last */
    uint64_t whole, taken; /* all of it was stored; was told and taken: at so many losses, counted from 1; 0: not */
    uint64_t file_bytes;
    uint32_t nodes;
    int height; /* levels of nodes */
};
#define PASSED_WAYS 8u
#define PASSED_SETS 512u /* a tree's nodes nearly always find room for all */

struct ch_tree {
    struct ch_object_reader *reader;
    unsigned validators;
    struct ch_spread_store store; /* has and get */
    struct ch_cid *missing;
    size_t missing_count;
    uint32_t nodes_left;
    uint64_t losses; /* of the store, when this look began, plus one */
    uint64_t walks, salt; /* which subtrees take each other's slot can't be chosen from outside */
    struct passed passed[PASSED_SETS][PASSED_WAYS];
    unsigned hand; /* which way is given up next */
    uint8_t node[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link link[CH_UNIXFS_DEPTH_MAX][CH_UNIXFS_LINKS_MAX];
};

unsigned ch_tree_name_kind(enum ch_spread_kind kind)
{
    static const unsigned kinds[] = {[CH_SPREAD_SHARD] = CH_NAME_SHARD,
                                     [CH_SPREAD_MANIFEST] = CH_NAME_MANIFEST,
                                     [CH_SPREAD_STORED] = CH_NAME_STORED,
                                     [CH_SPREAD_NAMED] = CH_NAME_NAMED,
                                     [CH_SPREAD_MARK] = CH_NAME_MARK};
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
                   size_t capacity, size_t *length, uint64_t *put_ms)
{
    struct ch_cid address = ch_tree_address(kind, name);
    struct ch_object_tag tag;
    ch_err err = ch_object_get_tagged(*(struct ch_object_reader **)context, &address, to, capacity, length, &tag);
    if (err == CH_OK && put_ms)
        *put_ms = tag.put_ms;
    return err;
}

ch_err ch_tree_open(struct ch_object_reader *reader, unsigned validators, struct ch_tree **out)
{
    struct ch_tree *t = calloc(1, sizeof *t);
    if (!t)
        return CH_ERR_NO_MEMORY;
    t->reader = reader;
    t->validators = validators;
    ch_random(&t->salt, sizeof t->salt);
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

static struct passed *set_of(struct ch_tree *t, const struct ch_cid *cid)
{
    return t->passed[(ch_load64(ch_cid_digest(cid)) ^ t->salt) * 0x9e3779b97f4a7c15u >> 32 & (PASSED_SETS - 1)];
}

/* NULL: nothing is known of it. */
static struct passed *passed_of(struct ch_tree *t, const struct ch_cid *cid)
{
    struct passed *set = set_of(t, cid);
    for (unsigned i = 0; i < PASSED_WAYS; i++)
        if (memcmp(&set[i].cid, cid, sizeof *cid) == 0)
            return &set[i];
    return NULL;
}

/* Its slot, with what is known of it. */
static struct passed *slot_of(struct ch_tree *t, const struct ch_cid *cid)
{
    struct passed *p = passed_of(t, cid), *set = set_of(t, cid);
    if (p)
        return p;
    p = &set[t->hand++ % PASSED_WAYS];
    for (unsigned i = 0; i < PASSED_WAYS && p->cid.bytes[0]; i++)
        p = set[i].cid.bytes[0] ? p : &set[i];
    *p = (struct passed){.cid = *cid};
    return p;
}

/* NULL: it has to be looked at. */
static const struct passed *known_whole(struct ch_tree *t, const struct ch_cid *cid)
{
    const struct passed *p = passed_of(t, cid);
    return p && p->whole == t->losses ? p : NULL;
}

static void add_below(struct passed *p, const struct passed *below)
{
    p->nodes += below->nodes;
    if (p->height < below->height + 1)
        p->height = below->height + 1;
}

/* The tree under one link; `expected` bytes of the file, UINT64_MAX: not known. */
static ch_err look_below(struct ch_tree *t, const struct ch_cid *cid, int depth, uint64_t expected, struct passed *out)
{
    size_t length;
    if (ch_cid_codec(cid) == CH_CID_RAW) {
        *out = (struct passed){.file_bytes = expected};
        if (expected == UINT64_MAX && !ch_spread_length(&t->store, t->validators, cid, &out->file_bytes))
            return is_missing(t, cid);
        bool stored = out->file_bytes <= CH_BLOCK_BYTES_MAX &&
                      ch_spread_is_stored(&t->store, cid, (uint32_t)out->file_bytes);
        return stored ? CH_OK : is_missing(t, cid);
    }
    const struct passed *known = known_whole(t, cid);
    *out = known ? *known : (struct passed){.nodes = 1, .height = 1};
    if (depth + out->height > CH_UNIXFS_DEPTH_MAX || t->nodes_left < out->nodes)
        return CH_ERR_INVALID;
    t->nodes_left -= out->nodes;
    if (known)
        return depth && expected != known->file_bytes ? CH_ERR_INVALID : CH_OK;
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
        const struct ch_unixfs_link *link = &t->link[depth][i];
        struct passed below;
        err = look_below(t, &link->cid, depth + 1, link->file_bytes, &below);
        worst = err != CH_OK ? err : worst;
        out->file_bytes += link->file_bytes;
        add_below(out, &below);
    }
    if (worst == CH_OK) {
        struct passed *p = slot_of(t, cid);
        p->whole = t->losses;
        p->file_bytes = out->file_bytes;
        p->nodes = out->nodes;
        p->height = out->height;
    }
    return worst == CH_OK && depth && expected != out->file_bytes ? CH_ERR_INVALID : worst;
}

ch_err ch_tree_look(struct ch_tree *t, const struct ch_cid *root, uint64_t *file_bytes, struct ch_cid *missing,
                    size_t *count)
{
    struct passed tree;
    if (!ch_cid_valid(root->bytes))
        return CH_ERR_INVALID;
    t->missing = missing;
    t->missing_count = 0;
    t->nodes_left = CH_OBJECT_TREE_NODES;
    t->losses = ch_object_losses(t->reader) + 1;
    ch_err err = look_below(t, root, 0, *file_bytes, &tree);
    if (err == CH_OK)
        *file_bytes = tree.file_bytes;
    if (count)
        *count = t->missing_count;
    return err;
}

/* --- telling of all blocks --- */

struct visit {
    struct ch_tree_walk *walk;
    int resume; /* so many nodes from the root on were told already */
    enum ch_tree_word (*each)(void *context, const struct ch_cid *cid, uint32_t length);
    void *context;
};

static bool visit_one(struct visit *v, const struct ch_cid *cid, uint64_t length)
{
    enum ch_tree_word word = length <= CH_BLOCK_BYTES_MAX ? v->each(v->context, cid, (uint32_t)length) : CH_TREE_GAP;
    v->walk->gaps += word == CH_TREE_GAP;
    return word != CH_TREE_LATER;
}

/* Its blocks were told of, in this walk or before. */
static bool already_told(struct ch_tree *t, const struct visit *v, const struct ch_cid *cid)
{
    const struct passed *p = passed_of(t, cid);
    return p && (p->walk == v->walk->id || p->taken == v->walk->losses);
}

static bool visit_below(struct ch_tree *t, struct visit *v, const struct ch_cid *cid, int depth, uint64_t bytes)
{
    struct ch_tree_walk *w = v->walk;
    bool resumes = depth < v->resume;
    size_t length;
    if (!resumes)
        v->resume = 0;
    if (ch_cid_codec(cid) == CH_CID_RAW)
        return visit_one(v, cid, bytes);
    if (!resumes && already_told(t, v, cid))
        return true;
    if (!resumes && (depth == CH_UNIXFS_DEPTH_MAX || w->nodes_left == 0)) {
        w->gaps++;
        return true;
    }
    ch_err err = ch_object_get(t->reader, cid, t->node, sizeof t->node, &length);
    if (err != CH_OK) {
        w->gaps++;
        if (err != CH_ERR_TIMEOUT)
            return true;
        w->depth = v->resume; /* while the storage does not answer nobody knows what else is named: not now */
        return false;
    }
    if (!resumes) {
        w->gaps_before[depth] = w->gaps;
        if (!visit_one(v, cid, length))
            return false;
        w->nodes_left--;
        w->at[depth] = 0;
    }
    size_t count = ch_unixfs_decode(t->node, length, t->link[depth]);
    for (; w->at[depth] < count; w->at[depth]++)
        if (!visit_below(t, v, &t->link[depth][w->at[depth]].cid, depth + 1, t->link[depth][w->at[depth]].file_bytes)) {
            w->depth = w->depth > depth + 1 ? w->depth : depth + 1;
            return false;
        }
    struct passed *p = slot_of(t, cid);
    p->walk = w->id;
    if (w->gaps == w->gaps_before[depth] && ch_object_losses(t->reader) + 1 == w->losses)
        p->taken = w->losses;
    return true;
}

bool ch_tree_each(struct ch_tree *t, struct ch_tree_walk *w, const struct ch_cid *root, uint64_t root_bytes,
                  enum ch_tree_word (*each)(void *context, const struct ch_cid *cid, uint32_t length), void *context)
{
    struct visit v = {.walk = w, .resume = w->depth, .each = each, .context = context};
    if (!w->id)
        *w = (struct ch_tree_walk){
            .id = ++t->walks, .losses = ch_object_losses(t->reader) + 1, .nodes_left = CH_OBJECT_TREE_NODES};
    w->depth = 0;
    return !ch_cid_valid(root->bytes) || visit_below(t, &v, root, 0, root_bytes);
}
