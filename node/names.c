#include "node/names.h"

#include "base/log.h"

#include <stdlib.h>

#define NAMED_MAX  1024u /* blocks looked at in one poll */
#define LOOKS_MAX  32u   /* records looked through in one poll, after the start */
#define REPLAY_MAX (1u << 20) /* 44 MiB */

struct ch_names {
    struct ch_node *node;
    struct ch_object_reader *reader;
    struct ch_spread *spread;
    const struct ch_spread_store *store;
    struct ch_tree *tree;
    struct ch_keeper *keeper;
    struct ch_name queue[CH_NAMES_QUEUE];
    uint32_t first, count;
    size_t replayed;    /* of node->names, how many are done */
    struct ch_tree_walk walk; /* through the first one's blocks */
    uint32_t looked_at; /* in this poll */
    bool full, told_full;
    /* after the start: what is here and not named */
    enum ch_spread_kind kind; /* manifests, then certificates; CH_SPREAD_NAMED: all was looked through */
    uint64_t cursor;
};

ch_err ch_names_replayed(struct ch_node *node, const struct ch_tx *tx)
{
    struct ch_names_replayed *r = &node->names;
    if (!tx->location)
        return CH_OK;
    if (r->count == REPLAY_MAX) {
        r->more = true;
        return CH_OK;
    }
    if (r->count == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 256;
        struct ch_name *larger = realloc(r->name, capacity * sizeof *larger);
        if (!larger)
            return CH_ERR_NO_MEMORY;
        r->name = larger;
        r->capacity = capacity;
    }
    struct ch_name *name = &r->name[r->count++];
    memcpy(name->root.bytes, tx->location, CH_CID_BYTES);
    name->bytes = tx->object_size;
    return CH_OK;
}

bool ch_names_add(struct ch_names *n, const struct ch_tx *tx)
{
    if (!tx->location)
        return true;
    if (n->count == CH_NAMES_QUEUE)
        return false;
    struct ch_name *name = &n->queue[(n->first + n->count++) % CH_NAMES_QUEUE];
    memcpy(name->root.bytes, tx->location, CH_CID_BYTES);
    name->bytes = tx->object_size;
    ch_keeper_hold(n->keeper, true);
    return true;
}

static void fail(struct ch_names *n, ch_err err)
{
    int none = CH_OK;
    atomic_compare_exchange_strong(&n->node->failed, &none, (int)err);
}

static enum ch_tree_word write_down(void *self, const struct ch_cid *cid, uint32_t length)
{
    struct ch_names *n = self;
    if (n->looked_at++ == NAMED_MAX)
        return CH_TREE_LATER;
    bool waits = ch_keeper_is_waiting(n->keeper, cid);
    if (!waits && ch_spread_is_named(n->store, cid, length))
        return CH_TREE_TAKEN;
    if (!waits && !ch_spread_is_stored(n->store, cid, length) &&
        !ch_spread_is_held(n->store, n->node->committee.n, cid))
        return CH_TREE_GAP;
    ch_err err = ch_spread_name(n->spread, cid, length);
    if (err == CH_ERR_FULL || err == CH_ERR_TIMEOUT) {
        n->full = true;
        return CH_TREE_LATER;
    }
    if (err == CH_ERR_NO_SPACE && !n->told_full) {
        n->told_full = true;
        ch_log(CH_LOG_WARNING, "objects: the disk is full, names are kept in memory alone");
    }
    if (err != CH_OK && err != CH_ERR_NO_SPACE)
        fail(n, err);
    ch_keeper_stop_waiting(n->keeper, cid);
    return err == CH_OK ? CH_TREE_TAKEN : CH_TREE_GAP;
}

static struct ch_name *next(struct ch_names *n)
{
    if (n->replayed < n->node->names.count)
        return &n->node->names.name[n->replayed];
    return n->count ? &n->queue[n->first] : NULL;
}

static void pass(struct ch_names *n)
{
    struct ch_names_replayed *r = &n->node->names;
    n->walk = (struct ch_tree_walk){0};
    if (n->replayed < r->count) {
        if (++n->replayed == r->count) {
            free(r->name);
            *r = (struct ch_names_replayed){0};
            n->replayed = 0;
        }
        return;
    }
    n->first = (n->first + 1) % CH_NAMES_QUEUE;
    n->count--;
}

/* Records that were here at the start and whose block has no name wait for one. */
static void look_for_waiting(struct ch_names *n)
{
    uint8_t hashes[LOOKS_MAX][CH_HASH_BYTES], bytes[CH_STORED_BYTES_MAX];
    size_t count, length;
    bool end;
    if (!ch_keeper_may_wait(n->keeper, n->node->me))
        return;
    ch_err err =
        ch_object_list(n->node->objects, ch_tree_name_kind(n->kind), &n->cursor, hashes, LOOKS_MAX, &count, &end);
    if (err == CH_ERR_TIMEOUT)
        return;
    if (err != CH_OK) {
        fail(n, err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct ch_cid cid, address = ch_tree_address(CH_SPREAD_STORED, hashes[i]);
        struct ch_object_tag tag = {0};
        uint32_t block_bytes;
        if (n->store->get(n->store->context, n->kind, hashes[i], bytes, sizeof bytes, &length, NULL) != CH_OK ||
            !ch_spread_record_block(n->kind, n->node->committee.n, bytes, length, &cid, &block_bytes) ||
            ch_spread_is_named(n->store, &cid, block_bytes))
            continue;
        if (n->kind == CH_SPREAD_STORED && ch_object_tag(n->reader, &address, &tag, &length) != CH_OK)
            tag.owner = 0;
        ch_keeper_wait_after_start(n->keeper, &cid, block_bytes, tag.owner);
    }
    if (end) {
        n->kind = n->kind == CH_SPREAD_MANIFEST ? CH_SPREAD_STORED : CH_SPREAD_NAMED;
        n->cursor = 0;
    }
}

bool ch_names_poll(struct ch_names *n)
{
    n->looked_at = 0;
    n->full = false;
    if (!ch_names_busy(n))
        return false;
    for (struct ch_name *name = next(n); name && n->looked_at < NAMED_MAX && !n->full; name = next(n)) {
        n->looked_at++;
        if (ch_tree_each(n->tree, &n->walk, &name->root, name->bytes, write_down, n))
            pass(n);
    }
    if (!next(n)) {
        ch_keeper_hold(n->keeper, false);
        if (n->kind != CH_SPREAD_NAMED)
            look_for_waiting(n);
    }
    return !n->full;
}

bool ch_names_busy(const struct ch_names *n)
{
    return n->count || n->node->names.count || n->kind != CH_SPREAD_NAMED;
}

ch_err ch_names_open(struct ch_node *node, struct ch_object_reader *reader, struct ch_spread *spread,
                     const struct ch_spread_store *store, struct ch_tree *tree, struct ch_keeper *keeper,
                     struct ch_names **out)
{
    struct ch_names *n = calloc(1, sizeof *n);
    if (!n)
        return CH_ERR_NO_MEMORY;
    n->node = node;
    n->reader = reader;
    n->spread = spread;
    n->store = store;
    n->tree = tree;
    n->keeper = keeper;
    n->kind = node->names.more ? CH_SPREAD_NAMED : CH_SPREAD_MANIFEST; /* any block may be what was not written up: all stay */
    ch_keeper_hold(keeper, node->names.count != 0);
    *out = n;
    return CH_OK;
}

void ch_names_close(struct ch_names *n)
{
    free(n);
}
