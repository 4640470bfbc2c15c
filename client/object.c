#include "client/object.h"

#include "base/time.h"
#include "client/client_impl.h"

#include <stdlib.h>

#define SLOTS         3 /* blocks under way: one being answered, one on its way, one being filled */
#define BUSY_PAUSE_NS UINT64_C(200000000)
#define CHATTER_BYTES 2048 /* received, that may be acknowledgements alone and no part of a block */

/* One block under way, in either direction. */
struct slot {
    struct ch_request request;
    struct ch_cid cid;
    bool busy;
    size_t length;  /* of block */
    uint8_t *block; /* CH_BLOCK_BYTES_MAX */
};

/* What puts and gets share: slots, and a deadline that moves on while bytes do. */
struct transfer {
    struct ch_client *client;
    enum ch_frame_type type;
    struct slot slots[SLOTS];
    uint64_t deadline_ns, waiting_bytes, received_bytes;
    ch_progress progress;
    void *progress_context;
    uint64_t total, begun; /* bytes: all; of the blocks started */
};

static ch_err on_object(struct ch_request *request, const struct ch_frame_header *header, const uint8_t *body)
{
    struct slot *slot = request->context;
    struct ch_reader r = ch_reader(body, header->length);
    request->status = ch_read16(&r);
    if (header->type != CH_FRAME_OBJECT || r.bad)
        return CH_ERR_PROTOCOL;
    if (request->status != CH_STATUS_OK)
        return CH_ERR_REFUSED;
    if (r.left == 0 || r.left > CH_BLOCK_BYTES_MAX || !ch_cid_matches(&slot->cid, r.at, r.left))
        return CH_ERR_PROTOCOL;
    memcpy(slot->block, r.at, r.left);
    slot->length = r.left;
    return CH_OK;
}

static ch_err transfer_open(struct transfer *t, struct ch_client *client, enum ch_frame_type type)
{
    t->client = client;
    t->type = type;
    t->deadline_ns = ch_client_deadline_ns(client);
    for (unsigned i = 0; i < SLOTS; i++) {
        t->slots[i].block = malloc(CH_BLOCK_BYTES_MAX);
        if (!t->slots[i].block)
            return CH_ERR_NO_MEMORY;
    }
    return CH_OK;
}

static void transfer_close(struct transfer *t)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        if (t->slots[i].busy)
            ch_client_drop(t->client, &t->slots[i].request);
        free(t->slots[i].block);
    }
}

/* One round of packets; the deadline moves while bytes do. */
static ch_err transfer_round(struct transfer *t)
{
    struct ch_client *c = t->client;
    struct ch_quic_conn_stats stats;
    uint64_t now = ch_time_monotonic_ns();
    if (now >= t->deadline_ns)
        return ch_client_fail(c, CH_ERR_TIMEOUT, "%s: nothing moves any more", c->name);
    ch_err err = ch_client_round(c, t->deadline_ns);
    if (err != CH_OK || !c->conn || ch_quic_conn_stats(c->engine, c->conn, &stats) != CH_OK)
        return err;
    bool new_connection = stats.rx_bytes < t->received_bytes;
    if (new_connection || stats.send_bytes_waiting != t->waiting_bytes ||
        stats.rx_bytes > t->received_bytes + CHATTER_BYTES) {
        t->waiting_bytes = stats.send_bytes_waiting;
        t->received_bytes = stats.rx_bytes;
        t->deadline_ns = now + c->timeout_ns;
        if (t->progress && t->type == CH_FRAME_PUT_OBJECT)
            t->progress(t->progress_context, t->begun > t->waiting_bytes ? t->begun - t->waiting_bytes : 0, t->total);
    }
    return err;
}

static ch_err slot_start(struct transfer *t, struct slot *slot)
{
    struct ch_client *c = t->client;
    const struct ch_bytes parts[2] = {{slot->cid.bytes, CH_CID_BYTES}, {slot->block, slot->length}};
    slot->request = (struct ch_request){.answer = t->type == CH_FRAME_GET_OBJECT ? on_object : NULL, .context = slot};
    for (;;) {
        ch_err err = ch_client_reach(c, t->deadline_ns, c->was_connected);
        if (err == CH_OK)
            err = ch_client_start(c, &slot->request, t->type, 0, parts, t->type == CH_FRAME_PUT_OBJECT ? 2 : 1);
        slot->busy = err == CH_OK;
        if (err != CH_ERR_FULL && err != CH_ERR_CLOSED)
            return err;
        if (err == CH_ERR_CLOSED && !c->was_connected)
            return err;
        err = transfer_round(t);
        if (err != CH_OK)
            return err;
    }
}

static bool too_busy(const struct ch_request *request)
{
    return request->result == CH_ERR_REFUSED &&
           (request->status == CH_STATUS_OVERLOADED || request->status == CH_STATUS_RATE_LIMITED);
}

static ch_err pause_busy(struct transfer *t)
{
    uint64_t until = ch_time_monotonic_ns() + BUSY_PAUSE_NS;
    while (ch_time_monotonic_ns() < until) {
        if (until >= t->deadline_ns)
            return ch_client_fail(t->client, CH_ERR_TIMEOUT, "%s stays too busy", t->client->name);
        ch_err err = ch_client_round(t->client, until);
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* Waits until the block is through. */
static ch_err slot_finish(struct transfer *t, struct slot *slot)
{
    while (slot->busy) {
        ch_err err = CH_OK;
        while (!slot->request.done && err == CH_OK)
            err = transfer_round(t);
        if (err != CH_OK)
            return err;
        slot->busy = false;
        if (slot->request.result == CH_OK)
            break;
        if (slot->request.result != CH_ERR_CLOSED && !too_busy(&slot->request))
            return ch_client_outcome(t->client, &slot->request);
        if (too_busy(&slot->request))
            err = pause_busy(t);
        if (err == CH_OK)
            err = slot_start(t, slot);
        if (err != CH_OK)
            return err;
    }
    t->deadline_ns = ch_client_deadline_ns(t->client);
    return CH_OK;
}

/* ---- putting ---- */

struct ch_putter {
    struct transfer t;
    struct ch_unixfs_builder *tree;
    unsigned filling; /* slot */
    uint64_t length;
};

static ch_err finish_all(struct ch_putter *p)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        ch_err err = slot_finish(&p->t, &p->t.slots[i]);
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* Starts the slot being filled and makes the next one free. */
static ch_err send_filled(struct ch_putter *p)
{
    struct slot *slot = &p->t.slots[p->filling];
    p->t.begun += slot->length;
    ch_err err = slot_start(&p->t, slot);
    if (err != CH_OK)
        return err;
    p->filling = (p->filling + 1) % SLOTS;
    slot = &p->t.slots[p->filling];
    err = slot_finish(&p->t, slot);
    slot->length = 0;
    return err;
}

static ch_err put_leaf(struct ch_putter *p)
{
    struct slot *slot = &p->t.slots[p->filling];
    ch_cid_of(CH_CID_RAW, slot->block, slot->length, &slot->cid);
    ch_err err = ch_unixfs_add(p->tree, &slot->cid, (uint32_t)slot->length);
    return err == CH_OK ? send_filled(p) : err;
}

/* A node may be the root, which goes when all else is stored. The tree may ask for it while the slot being filled holds
 * a leaf that hasn't gone yet, so it goes through the next slot. */
static ch_err put_node(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct ch_putter *p = context;
    ch_err err = finish_all(p);
    if (err != CH_OK)
        return err;
    struct slot *slot = &p->t.slots[(p->filling + 1) % SLOTS];
    memcpy(slot->block, block, length);
    slot->length = length;
    slot->cid = *cid;
    err = slot_start(&p->t, slot);
    return err == CH_OK ? slot_finish(&p->t, slot) : err;
}

ch_err ch_putter_open(struct ch_client *client, uint64_t total, ch_progress progress, void *context,
                      struct ch_putter **out)
{
    struct ch_putter *p = calloc(1, sizeof *p);
    if (!p)
        return CH_ERR_NO_MEMORY;
    p->t.progress = progress;
    p->t.progress_context = context;
    p->t.total = total;
    ch_err err = transfer_open(&p->t, client, CH_FRAME_PUT_OBJECT);
    if (err == CH_OK)
        err = ch_unixfs_open(put_node, p, &p->tree);
    if (err != CH_OK) {
        ch_putter_close(p);
        return err;
    }
    *out = p;
    return CH_OK;
}

ch_err ch_putter_add(void *putter, const uint8_t *bytes, size_t length)
{
    struct ch_putter *p = putter;
    while (length) {
        struct slot *slot = &p->t.slots[p->filling];
        size_t take = CH_UNIXFS_LEAF_BYTES - slot->length < length ? CH_UNIXFS_LEAF_BYTES - slot->length : length;
        memcpy(slot->block + slot->length, bytes, take);
        slot->length += take;
        bytes += take;
        length -= take;
        p->length += take;
        if (slot->length == CH_UNIXFS_LEAF_BYTES) {
            ch_err err = put_leaf(p);
            if (err != CH_OK)
                return err;
        }
    }
    return CH_OK;
}

ch_err ch_putter_end(struct ch_putter *p, struct ch_cid *root, uint64_t *length)
{
    struct ch_unixfs_link top;
    if (p->length == 0)
        return CH_ERR_INVALID;
    ch_err err = p->t.slots[p->filling].length ? put_leaf(p) : CH_OK;
    if (err == CH_OK)
        err = finish_all(p);
    if (err == CH_OK)
        err = ch_unixfs_end(p->tree, &top);
    if (err != CH_OK)
        return err;
    if (p->t.progress)
        p->t.progress(p->t.progress_context, p->length, p->t.total);
    *root = top.cid;
    *length = p->length;
    return CH_OK;
}

void ch_putter_close(struct ch_putter *p)
{
    if (!p)
        return;
    transfer_close(&p->t);
    ch_unixfs_close(p->tree);
    free(p);
}

/* ---- getting ---- */

/* A walk over the tree in the file's order. */
struct walk {
    struct transfer t;
    struct level {
        size_t count, next;
        struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX];
    } levels[CH_UNIXFS_DEPTH_MAX];
    unsigned depth;           /* levels in use */
    uint64_t expected[SLOTS]; /* bytes of the leaf in each slot */
};

static ch_err not_the_tree(struct walk *w)
{
    return ch_client_fail(w->t.client, CH_ERR_PROTOCOL, "%s: the object is not what its address and length say",
                          w->t.client->name);
}

/* Fetches a node and goes down to its links. Leaves keep coming meanwhile: it has a slot of its own, the last. */
static ch_err descend(struct walk *w, const struct ch_cid *cid, uint64_t file_bytes)
{
    struct slot *slot = &w->t.slots[SLOTS - 1];
    if (w->depth == CH_UNIXFS_DEPTH_MAX)
        return not_the_tree(w);
    slot->cid = *cid;
    slot->length = 0;
    ch_err err = slot_start(&w->t, slot);
    if (err == CH_OK)
        err = slot_finish(&w->t, slot);
    if (err != CH_OK)
        return err;
    struct level *level = &w->levels[w->depth];
    level->count = ch_unixfs_decode(slot->block, slot->length, level->links);
    level->next = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < level->count; i++)
        sum += level->links[i].file_bytes;
    if (level->count == 0 || sum != file_bytes)
        return not_the_tree(w);
    w->depth++;
    return CH_OK;
}

/* The next leaf, or CH_ERR_NOT_FOUND after the last. */
static ch_err next_leaf(struct walk *w, struct ch_unixfs_link *leaf)
{
    while (w->depth) {
        struct level *level = &w->levels[w->depth - 1];
        if (level->next == level->count) {
            w->depth--;
            continue;
        }
        const struct ch_unixfs_link *link = &level->links[level->next++];
        if (ch_cid_codec(&link->cid) == CH_CID_RAW) {
            *leaf = *link;
            return CH_OK;
        }
        ch_err err = descend(w, &link->cid, link->file_bytes);
        if (err != CH_OK)
            return err;
    }
    return CH_ERR_NOT_FOUND;
}

#define LEAF_SLOTS (SLOTS - 1)

static ch_err run_walk(struct walk *w, ch_sink sink, void *context)
{
    uint64_t begun = 0, ended = 0, done = 0; /* leaves, leaves, bytes */
    bool more = true;
    for (;;) {
        while (more && begun - ended < LEAF_SLOTS) {
            struct ch_unixfs_link leaf;
            struct slot *slot = &w->t.slots[begun % LEAF_SLOTS];
            ch_err err = next_leaf(w, &leaf);
            more = err == CH_OK;
            if (err == CH_ERR_NOT_FOUND)
                break;
            if (err != CH_OK)
                return err;
            slot->cid = leaf.cid;
            slot->length = 0;
            w->expected[begun++ % LEAF_SLOTS] = leaf.file_bytes;
            err = slot_start(&w->t, slot);
            if (err != CH_OK)
                return err;
        }
        if (begun == ended)
            return CH_OK;
        struct slot *slot = &w->t.slots[ended % LEAF_SLOTS];
        ch_err err = slot_finish(&w->t, slot);
        if (err != CH_OK)
            return err;
        if (slot->length != w->expected[ended++ % LEAF_SLOTS])
            return not_the_tree(w);
        err = sink(context, slot->block, slot->length);
        if (err != CH_OK)
            return err;
        done += slot->length;
        if (w->t.progress)
            w->t.progress(w->t.progress_context, done, w->t.total);
    }
}

ch_err ch_client_get_object(struct ch_client *client, const struct ch_cid *root, uint64_t length, ch_sink sink,
                            void *context, ch_progress progress, void *progress_context)
{
    struct walk *w = calloc(1, sizeof *w);
    if (!w)
        return CH_ERR_NO_MEMORY;
    w->t.progress = progress;
    w->t.progress_context = progress_context;
    w->t.total = length;
    ch_err err = transfer_open(&w->t, client, CH_FRAME_GET_OBJECT);
    if (err == CH_OK && ch_cid_codec(root) == CH_CID_RAW) {
        w->levels[0].links[0] = (struct ch_unixfs_link){.cid = *root, .file_bytes = length};
        w->levels[0].count = 1;
        w->depth = 1;
    } else if (err == CH_OK) {
        err = descend(w, root, length);
    }
    if (err == CH_OK)
        err = run_walk(w, sink, context);
    transfer_close(&w->t);
    free(w);
    return err;
}

ch_err ch_client_has_object(struct ch_client *client, const struct ch_cid *root)
{
    struct ch_request request = {0};
    return ch_client_call(client, &request, CH_FRAME_HAS_OBJECT, 0, &(struct ch_bytes){root->bytes, CH_CID_BYTES}, 1);
}
