#include "client/object.h"

#include "base/time.h"
#include "client/client_impl.h"

#include <stdlib.h>

#define SLOTS         10 /* blocks under way: a validator answers when the others have theirs on disk */
#define BUSY_PAUSE_NS UINT64_C(200000000)
#define CHATTER_BYTES 2048 /* sent, that may be questions for a sign of life alone */
#define HAS_NS        UINT64_C(2000000000) /* then the block is sent: the validator looks for the parts of a put that was lost */
#define SEEN_BYTES    16   /* of a leaf's digest, kept to know it again */
#define PASSES_MAX    32

/* One block under way. */
struct slot {
    struct ch_request request;
    enum ch_frame_type type; /* HAS_OBJECT, then PUT_OBJECT */
    uint64_t asked_ns;
    struct ch_cid cid;
    bool busy;
    size_t length;  /* of block */
    uint8_t *block; /* CH_BLOCK_BYTES_MAX */
};

struct ch_putter {
    struct ch_client *client;
    struct slot slots[SLOTS];
    struct ch_unixfs_builder *tree;
    unsigned filling; /* slot */
    uint64_t length;  /* added in this pass */
    unsigned passes;
    bool asks; /* before it sends a block, also in the first pass */
    bool any;  /* a block was stored in this pass, at: */
    uint8_t holder[32];
    uint8_t (*seen)[SEEN_BYTES];        /* the leaves that went, in order */
    size_t seen_count, seen_room, leaf; /* leaf: of this pass */
    uint64_t deadline_ns, waiting_bytes, received_bytes;
    ch_progress progress;
    void *progress_context;
    uint64_t total, begun; /* bytes: all; of the blocks started */
};

/* One round of packets; the deadline moves while bytes do. */
static ch_err put_round(struct ch_putter *p)
{
    struct ch_client *c = p->client;
    struct ch_quic_conn_stats stats;
    uint64_t now = ch_time_monotonic_ns();
    if (now >= p->deadline_ns)
        return ch_client_fail(c, CH_ERR_TIMEOUT, "%s: nothing moves any more", c->name);
    uint64_t look = now + CH_CLIENT_LOOK_NS;
    ch_err err = ch_client_round(c, look < p->deadline_ns ? look : p->deadline_ns);
    ch_client_look(c, ch_time_monotonic_ns());
    if (err != CH_OK || !c->conn || ch_quic_conn_stats(c->engine, c->conn, &stats) != CH_OK)
        return err;
    bool moved = stats.rx_bytes < p->received_bytes || stats.send_bytes_waiting + CHATTER_BYTES < p->waiting_bytes;
    if (moved) /* bytes of a block have arrived, or there is a new connection; a block's answer moves it too */
        p->deadline_ns = now + c->timeout_ns;
    if (moved || stats.send_bytes_waiting > p->waiting_bytes) {
        p->waiting_bytes = stats.send_bytes_waiting;
        if (p->progress)
            p->progress(p->progress_context, p->begun > p->waiting_bytes ? p->begun - p->waiting_bytes : 0, p->total);
    }
    p->received_bytes = stats.rx_bytes;
    return err;
}

/* CH_ERR_AGAIN: the validator that is connected now is not the one that has what was put. */
static ch_err reach_holder(struct ch_putter *p)
{
    struct ch_client *c = p->client;
    ch_err err = ch_client_reach(c, p->deadline_ns, c->was_connected);
    if (err == CH_OK && p->any && memcmp(p->holder, c->peer_key, sizeof p->holder) != 0)
        return CH_ERR_AGAIN;
    return err;
}

static ch_err slot_start(struct ch_putter *p, struct slot *slot, enum ch_frame_type type)
{
    struct ch_client *c = p->client;
    const struct ch_bytes parts[2] = {{slot->cid.bytes, CH_CID_BYTES}, {slot->block, slot->length}};
    slot->type = type;
    slot->asked_ns = ch_time_monotonic_ns();
    for (;;) {
        slot->request = (struct ch_request){0};
        ch_err err = reach_holder(p);
        if (err != CH_OK)
            return err;
        err = ch_client_start(c, &slot->request, type, 0, parts, type == CH_FRAME_PUT_OBJECT ? 2 : 1);
        slot->busy = err == CH_OK;
        if (err != CH_ERR_FULL && err != CH_ERR_CLOSED)
            return err;
        err = put_round(p);
        if (err != CH_OK)
            return err;
    }
}

static bool too_busy(const struct ch_request *request)
{
    return request->result == CH_ERR_REFUSED &&
           (request->status == CH_STATUS_OVERLOADED || request->status == CH_STATUS_RATE_LIMITED);
}

static ch_err pause_busy(struct ch_putter *p)
{
    uint64_t until = ch_time_monotonic_ns() + BUSY_PAUSE_NS;
    while (ch_time_monotonic_ns() < until) {
        if (until >= p->deadline_ns)
            return ch_client_fail(p->client, CH_ERR_TIMEOUT, "%s stays too busy", p->client->name);
        ch_err err = ch_client_round(p->client, until);
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* What is next for a slot whose request is done: CH_OK with slot->busy false, the block is stored. */
static ch_err slot_answered(struct ch_putter *p, struct slot *slot)
{
    slot->busy = false;
    const struct ch_request *r = &slot->request;
    if (r->result == CH_OK) {
        memcpy(p->holder, p->client->peer_key, sizeof p->holder);
        p->any = true;
        return CH_OK;
    }
    if (r->result == CH_ERR_CLOSED) /* it may have come all the same */
        return slot_start(p, slot, CH_FRAME_HAS_OBJECT);
    if (slot->type == CH_FRAME_HAS_OBJECT && r->result == CH_ERR_REFUSED) { /* or it can't tell: the parts of a lost put */
        p->asks = false;
        return slot_start(p, slot, CH_FRAME_PUT_OBJECT);
    }
    if (too_busy(r)) {
        ch_err err = pause_busy(p);
        return err == CH_OK ? slot_start(p, slot, slot->type) : err;
    }
    return ch_client_outcome(p->client, r);
}

/* Waits until the block is through. */
static ch_err slot_finish(struct ch_putter *p, struct slot *slot)
{
    while (slot->busy) {
        ch_err err = CH_OK;
        while (!slot->request.done && err == CH_OK) {
            err = put_round(p);
            bool slow = slot->type == CH_FRAME_HAS_OBJECT && ch_time_monotonic_ns() > slot->asked_ns + HAS_NS;
            if (err == CH_OK && slow && !slot->request.done) {
                ch_client_drop(p->client, &slot->request);
                err = slot_start(p, slot, CH_FRAME_PUT_OBJECT);
            }
        }
        if (err == CH_OK)
            err = slot_answered(p, slot);
        if (err != CH_OK)
            return err;
    }
    p->deadline_ns = ch_client_deadline_ns(p->client);
    return CH_OK;
}

static ch_err finish_all(struct ch_putter *p)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        ch_err err = slot_finish(p, &p->slots[i]);
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* A later pass, and what was lost on its way, asks what is there already. */
static enum ch_frame_type first_frame(const struct ch_putter *p)
{
    return p->passes || p->asks ? CH_FRAME_HAS_OBJECT : CH_FRAME_PUT_OBJECT;
}

/* Starts the slot being filled and makes the next one free. */
static ch_err send_filled(struct ch_putter *p)
{
    struct slot *slot = &p->slots[p->filling];
    p->begun += slot->length;
    ch_err err = slot_start(p, slot, first_frame(p));
    if (err != CH_OK)
        return err;
    p->filling = (p->filling + 1) % SLOTS;
    slot = &p->slots[p->filling];
    err = slot_finish(p, slot);
    slot->length = 0;
    return err;
}

/* A leaf may go when it is new, or the same as the first time. */
static ch_err know_leaf(struct ch_putter *p, const struct ch_cid *cid)
{
    const uint8_t *digest = ch_cid_digest(cid);
    if (p->leaf < p->seen_count)
        return memcmp(p->seen[p->leaf++], digest, SEEN_BYTES) == 0
                   ? CH_OK
                   : ch_client_fail(p->client, CH_ERR_CORRUPT, "what is sent changed meanwhile");
    if (p->seen_count == p->seen_room) {
        size_t room = p->seen_room ? 2 * p->seen_room : 64;
        void *more = realloc(p->seen, room * sizeof *p->seen);
        if (!more)
            return CH_ERR_NO_MEMORY;
        p->seen = more;
        p->seen_room = room;
    }
    memcpy(p->seen[p->seen_count++], digest, SEEN_BYTES);
    p->leaf++;
    return CH_OK;
}

static ch_err put_leaf(struct ch_putter *p)
{
    struct slot *slot = &p->slots[p->filling];
    ch_cid_of(CH_CID_RAW, slot->block, slot->length, &slot->cid);
    ch_err err = know_leaf(p, &slot->cid);
    if (err == CH_OK)
        err = ch_unixfs_add(p->tree, &slot->cid, (uint32_t)slot->length);
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
    struct slot *slot = &p->slots[(p->filling + 1) % SLOTS];
    memcpy(slot->block, block, length);
    slot->length = length;
    slot->cid = *cid;
    err = slot_start(p, slot, first_frame(p));
    return err == CH_OK ? slot_finish(p, slot) : err;
}

static ch_err begin_pass(struct ch_putter *p)
{
    ch_unixfs_close(p->tree);
    p->tree = NULL;
    for (unsigned i = 0; i < SLOTS; i++) {
        if (p->slots[i].busy)
            ch_client_drop(p->client, &p->slots[i].request);
        p->slots[i].busy = false;
        p->slots[i].length = 0;
    }
    p->any = false;
    p->filling = 0;
    p->leaf = 0;
    p->length = p->begun = 0;
    p->deadline_ns = ch_client_deadline_ns(p->client);
    return ch_unixfs_open(put_node, p, &p->tree);
}

ch_err ch_putter_open(struct ch_client *client, uint64_t total, ch_progress progress, void *context,
                      struct ch_putter **out)
{
    struct ch_putter *p = calloc(1, sizeof *p);
    if (!p)
        return CH_ERR_NO_MEMORY;
    p->client = client;
    p->progress = progress;
    p->progress_context = context;
    p->total = total;
    ch_err err = begin_pass(p);
    for (unsigned i = 0; err == CH_OK && i < SLOTS; i++) {
        p->slots[i].block = malloc(CH_BLOCK_BYTES_MAX);
        if (!p->slots[i].block)
            err = CH_ERR_NO_MEMORY;
    }
    if (err != CH_OK) {
        ch_putter_close(p);
        return err;
    }
    *out = p;
    return CH_OK;
}

void ch_putter_ask_first(struct ch_putter *p)
{
    p->asks = true;
}

ch_err ch_putter_again(struct ch_putter *p)
{
    if (++p->passes == PASSES_MAX)
        return ch_client_fail(p->client, CH_ERR_TIMEOUT, "the validators come and go: the object is not stored");
    return begin_pass(p);
}

ch_err ch_putter_add(void *putter, const uint8_t *bytes, size_t length)
{
    struct ch_putter *p = putter;
    while (length) {
        struct slot *slot = &p->slots[p->filling];
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

/* The validator has all of it: blocks may have gone to one that was lost in between. */
static ch_err check_whole(struct ch_putter *p, const struct ch_cid *root)
{
    ch_err err = ch_client_has_object(p->client, root);
    uint16_t status = ch_client_status(p->client);
    if (err == CH_ERR_REFUSED && (status == CH_STATUS_NOT_FOUND || status == CH_STATUS_NO_SUCH_OBJECT))
        return CH_ERR_AGAIN;
    return err;
}

ch_err ch_putter_end(struct ch_putter *p, struct ch_cid *root, uint64_t *length)
{
    struct ch_unixfs_link top;
    if (p->length == 0)
        return CH_ERR_INVALID;
    ch_err err = p->slots[p->filling].length ? put_leaf(p) : CH_OK;
    if (err == CH_OK)
        err = finish_all(p);
    if (err == CH_OK)
        err = ch_unixfs_end(p->tree, &top);
    if (err == CH_OK && ch_cid_codec(&top.cid) != CH_CID_RAW) /* else it was one block, whose answer has just come */
        err = check_whole(p, &top.cid);
    if (err != CH_OK)
        return err;
    if (p->progress)
        p->progress(p->progress_context, p->total, p->total);
    *root = top.cid;
    *length = p->length;
    return CH_OK;
}

ch_err ch_putter_add_block(struct ch_putter *p, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct slot *slot = &p->slots[p->filling];
    slot->cid = *cid;
    slot->length = length;
    memcpy(slot->block, block, length);
    return send_filled(p);
}

ch_err ch_putter_end_blocks(struct ch_putter *p, const struct ch_cid *root, const uint8_t *block, size_t length)
{
    ch_err err = finish_all(p);
    if (err == CH_OK)
        err = ch_putter_add_block(p, root, block, length);
    if (err == CH_OK)
        err = finish_all(p);
    if (err == CH_OK)
        err = check_whole(p, root);
    if (err == CH_OK && p->progress)
        p->progress(p->progress_context, p->total, p->total);
    return err;
}

void ch_putter_close(struct ch_putter *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < SLOTS; i++) {
        if (p->slots[i].busy)
            ch_client_drop(p->client, &p->slots[i].request);
        free(p->slots[i].block);
    }
    ch_unixfs_close(p->tree);
    free(p->seen);
    free(p);
}

ch_err ch_client_has_object(struct ch_client *client, const struct ch_cid *root)
{
    struct ch_request request = {0};
    return ch_client_call(client, &request, CH_FRAME_HAS_OBJECT, 0, &(struct ch_bytes){root->bytes, CH_CID_BYTES}, 1);
}
