#include "node/objects.h"

#include "base/log.h"
#include "base/time.h"
#include "node/names.h"
#include "node/serve.h"
#include "node/tree.h"

#include <stdlib.h>

#define SHOW_EVERY_NS   UINT64_C(200000000)
#define LOOK_EVERY_NS   UINT64_C(1000000000)  /* for damage */
#define REPAIR_EVERY_NS UINT64_C(60000000000) /* looking through everything here, after damage */
#define LOOKS_MAX       64 /* of one HAS_OBJECT: so many times CH_TREE_MISSING_MAX blocks are made known for it */

/* A HAS_OBJECT whose tree is not all known here. */
struct asking {
    struct ch_request *request; /* NULL: free */
    struct ch_cid root;
    struct ch_cid missing[CH_TREE_MISSING_MAX];
    size_t count, next, under_way;
    unsigned looks;
    enum ch_status status; /* the worst so far */
};

#define REQUESTS_MAX (CH_REQUEST_POOL_COUNT + CH_ASKS_MAX) /* there are no more */

struct ch_objects {
    struct ch_object_reader *reader; /* first: ch_tree_has */
    struct ch_node *node;
    struct ch_spread *spread;
    struct ch_spread_store store;
    struct ch_tree *tree;
    struct ch_keeper *keeper;
    struct ch_names *names;
    bool puts;                                         /* the store was given something */
    unsigned up[CH_VALIDATORS_MAX];                    /* node->links.up, as last seen */
    struct ch_request *waiting[REQUESTS_MAX]; /* puts and gets for which no task is free, oldest first */
    size_t waiting_count;
    struct asking asking[REQUESTS_MAX];
    struct ch_request *spare; /* a parcel to send with */
    uint64_t show_at_ns, repair_at_ns;
};

/* --- the disk --- */

static void fail(struct ch_objects *o, ch_err err)
{
    int none = CH_OK;
    atomic_compare_exchange_strong(&o->node->failed, &none, (int)err);
}

/* What is new waits for a message that names it, as long as those of this validator may. */
static ch_err disk_put(void *context, const struct ch_spread_record *record, uint64_t cookie)
{
    struct ch_objects *o = context;
    const struct ch_cid address = ch_tree_address(record->kind, record->name);
    bool first = record->kind == CH_SPREAD_MANIFEST || record->kind == CH_SPREAD_STORED;
    const uint64_t now_ms = ch_time_unix_ms();
    struct ch_object_tag tag = {.put_ms = record->put_ms && record->put_ms < now_ms ? record->put_ms : now_ms};
    if (record->kind == CH_SPREAD_MARK)
        tag.put_ms = 0; /* of no age: it stays */
    if (record->kind == CH_SPREAD_STORED && record->owner) {
        tag.owner = record->owner;
        tag.charge_bytes = record->block_bytes;
    }
    bool waits = first && record->fresh && !ch_spread_is_named(&o->store, record->cid, record->block_bytes);
    if (waits && !ch_keeper_is_waiting(o->keeper, record->cid) && !ch_keeper_may_wait(o->keeper, record->from))
        return CH_ERR_NO_SPACE;
    /* A name is of an object that was stored and promised to stay: it needs no room of others. */
    struct ch_cid_block block;
    ch_err err = CH_ERR_INVALID;
    if (record->kind != CH_SPREAD_WHOLE)
        err = ch_object_put_record(o->node->objects, &address, record->bytes, record->length, &tag,
                                   record->kind == CH_SPREAD_NAMED, cookie << 1 | 1);
    else if (ch_cid_check_digest(&address, record->name, record->bytes, record->length, &block))
        err = ch_object_put_for(o->node->objects, &block, &tag, cookie << 1 | 1);
    o->puts |= err == CH_OK || err == CH_ERR_FULL;
    if (err == CH_OK || err == CH_ERR_EXISTS) {
        ch_err kept = CH_OK;
        if (waits)
            kept =
                ch_keeper_wait(o->keeper, record->cid, record->block_bytes, record->from, record->owner, err == CH_OK);
        if (record->kind == CH_SPREAD_NAMED)
            ch_keeper_stop_waiting(o->keeper, record->cid);
        if (kept != CH_OK)
            fail(o, kept);
    } else if (err != CH_ERR_FULL && err != CH_ERR_NO_SPACE && err != CH_ERR_TIMEOUT) {
        fail(o, err);
    }
    return err;
}

static ch_err disk_drop(void *context, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES])
{
    struct ch_objects *o = context;
    const struct ch_cid address = ch_tree_address(kind, name);
    ch_err err = ch_object_drop(o->node->objects, &address, 0);
    o->puts |= err == CH_OK || err == CH_ERR_FULL;
    if (err != CH_OK && err != CH_ERR_NOT_FOUND && err != CH_ERR_FULL && err != CH_ERR_NO_SPACE &&
        err != CH_ERR_TIMEOUT)
        fail(o, err);
    return err;
}

static ch_err disk_list(void *context, enum ch_spread_kind kind, uint64_t *cursor, uint8_t (*names)[CH_HASH_BYTES],
                        size_t max, size_t *count, bool *end)
{
    struct ch_objects *o = context;
    return ch_object_list(o->node->objects, ch_tree_name_kind(kind), cursor, names, max, count, end);
}

void ch_objects_durable(struct ch_objects *o, uint64_t cookie)
{
    ch_spread_durable(o->spread, cookie >> 1);
}

/* --- requests --- */

static void wait_for_a_task(struct ch_objects *o, struct ch_request *request)
{
    CH_ASSERT(o->waiting_count < REQUESTS_MAX);
    o->waiting[o->waiting_count++] = request;
}

static uint64_t ticket_of(const struct ch_request *request)
{
    return (uint64_t)(uintptr_t)request;
}

/* False: no task is free. */
static bool begin(struct ch_objects *o, struct ch_request *request)
{
    const struct ch_cid_block *block = &request->block;
    struct ch_cid cid;
    if (request->header.type != CH_FRAME_PUT_OBJECT) {
        memcpy(cid.bytes, request->body, CH_CID_BYTES);
        return ch_spread_get(o->spread, &cid, ticket_of(request)) == CH_OK;
    }
    /* What is stored already costs nothing, and needs no room. */
    bool stored = ch_spread_is_stored(&o->store, &block->cid, (uint32_t)block->length);
    enum ch_status status = stored ? CH_STATUS_OK : ch_keeper_admit(o->keeper, request->account, block->length);
    ch_err err = CH_OK;
    if (status == CH_STATUS_OK)
        err = ch_spread_put(o->spread, block, request->account + 1, ticket_of(request));
    if (err == CH_OK && stored)
        ch_keeper_put_again(o->keeper, &block->cid, request->account);
    if (err == CH_ERR_INVALID)
        status = CH_STATUS_BAD_OBJECT;
    if (status != CH_STATUS_OK)
        ch_serve_reply_status(o->node, request, CH_FRAME_STATUS, status);
    return err != CH_ERR_FULL;
}

void ch_objects_put(struct ch_objects *o, struct ch_request *request, uint64_t account)
{
    request->account = account;
    if (o->waiting_count || !begin(o, request))
        wait_for_a_task(o, request);
}

bool ch_objects_name(struct ch_objects *o, const struct ch_tx *tx)
{
    return ch_names_add(o->names, tx);
}

void ch_objects_get(struct ch_objects *o, struct ch_request *request)
{
    struct ch_cid cid;
    size_t length;
    memcpy(cid.bytes, request->body, CH_CID_BYTES);
    ch_err err = ch_object_get(o->reader, &cid, request->body + 2, CH_FRAME_BODY_BYTES_MAX - 2, &length);
    if (err == CH_OK) { /* the whole block is ours */
        ch_store16(request->body, CH_STATUS_OK);
        ch_serve_reply(o->node, request, CH_FRAME_OBJECT, 2 + length);
        return;
    }
    memcpy(request->body, cid.bytes, CH_CID_BYTES);
    if (o->waiting_count || !begin(o, request))
        wait_for_a_task(o, request);
}

/* Looks again at what is known; true when that answered the request. */
static bool look(struct ch_objects *o, struct ch_request *request, struct asking *a)
{
    uint64_t bytes = UINT64_MAX;
    ch_err err = ch_tree_look(o->tree, &a->root, &bytes, a->missing, &a->count);
    a->next = 0;
    if (err == CH_ERR_NOT_FOUND && a->count && a->looks++ < LOOKS_MAX)
        return false;
    ch_serve_reply_status(o->node, request, CH_FRAME_STATUS,
                          err == CH_OK              ? CH_STATUS_OK
                          : err == CH_ERR_INVALID   ? CH_STATUS_BAD_OBJECT
                          : err == CH_ERR_NOT_FOUND ? CH_STATUS_OVERLOADED /* much of it: ask again */
                          : err == CH_ERR_TIMEOUT   ? CH_STATUS_STORE_AWAY
                                                    : CH_STATUS_NOT_FOUND);
    return true;
}

void ch_objects_has(struct ch_objects *o, struct ch_request *request)
{
    struct asking *a = o->asking;
    while (a->request)
        a++; /* one for each request there is */
    *a = (struct asking){.status = CH_STATUS_OK};
    memcpy(a->root.bytes, request->body, CH_CID_BYTES);
    if (!look(o, request, a))
        a->request = request;
}

/* Makes known what was missing when it was last looked; true when it did something. */
static bool go_on_asking(struct ch_objects *o, struct asking *a)
{
    bool worked = false;
    while (a->status == CH_STATUS_OK && a->next < a->count &&
           ch_spread_restore(o->spread, &a->missing[a->next], ticket_of(a->request) | 1) == CH_OK) {
        a->next++;
        a->under_way++;
        worked = true;
    }
    if (a->under_way || (a->status == CH_STATUS_OK && a->next < a->count))
        return worked;
    if (a->status != CH_STATUS_OK) {
        ch_serve_reply_status(o->node, a->request, CH_FRAME_STATUS, a->status);
        a->request = NULL;
    } else if (look(o, a->request, a)) {
        a->request = NULL;
    }
    return true;
}

static void restored(struct ch_objects *o, const struct ch_spread_done *done)
{
    struct asking *a = o->asking;
    while (!a->request || ticket_of(a->request) != (done->ticket & ~UINT64_C(1)))
        a++;
    a->under_way--;
    if (done->status != CH_STATUS_OK)
        a->status = done->status;
}

static void answer(struct ch_objects *o, const struct ch_spread_done *done)
{
    struct ch_request *request = (struct ch_request *)(uintptr_t)done->ticket;
    if (request->header.type == CH_FRAME_PUT_OBJECT) {
        ch_serve_reply_status(o->node, request, CH_FRAME_STATUS, done->status);
        ch_count(&o->node->metrics.serve_objects_stored_total, done->status == CH_STATUS_OK);
    } else if (done->status != CH_STATUS_OK) {
        ch_serve_reply_status(o->node, request, CH_FRAME_OBJECT, done->status);
    } else {
        ch_store16(request->body, CH_STATUS_OK);
        if (done->length)
            memcpy(request->body + 2, done->block, done->length);
        ch_serve_reply(o->node, request, CH_FRAME_OBJECT, 2 + done->length);
    }
}

/* --- the stage's turn --- */

bool ch_objects_frame(struct ch_objects *o, struct ch_request *parcel)
{
    if (!ch_spread_frame(o->spread, parcel->validator, &parcel->header, parcel->body))
        return false;
    ch_flow_free_request(&o->node->flow, parcel);
    return true;
}

static void look_who_is_up(struct ch_objects *o)
{
    for (uint16_t i = 0; i < o->node->committee.n; i++) {
        unsigned up = atomic_load_explicit(&o->node->links.up[i], memory_order_relaxed);
        if (i == o->node->me || up == o->up[i])
            continue;
        o->up[i] = up;
        ch_spread_peer(o->spread, i, false); /* it may have gone and come again */
        ch_spread_peer(o->spread, i, up & 1);
    }
}

static bool send_all(struct ch_objects *o)
{
    bool any = false;
    for (;;) {
        if (!o->spare)
            o->spare = ch_ring_pull_one(&o->node->flow.free_parcels_out);
        struct ch_request *parcel = o->spare;
        if (!parcel || !ch_spread_next_send(o->spread, &parcel->validator, &parcel->header, parcel->body))
            return any;
        parcel->connection = 0;
        o->spare = NULL;
        any = true;
        CH_ASSERT(ch_ring_push_one(&o->node->replies, parcel));
    }
}

static void show(struct ch_objects *o)
{
    struct ch_metrics *m = &o->node->metrics;
    struct ch_spread_stats s;
    ch_spread_stats(o->spread, &s);
    ch_gauge(&m->serve_blocks_spread_total, s.blocks_spread);
    ch_gauge(&m->serve_blocks_fetched_total, s.blocks_fetched);
    ch_gauge(&m->serve_blocks_failed_total, s.blocks_failed);
    ch_gauge(&m->serve_blocks_restored_total, s.blocks_restored);
    ch_gauge(&m->serve_blocks_restored_bytes_total, s.bytes_restored);
    ch_gauge(&m->serve_blocks_given_up_total, s.blocks_given_up);
    ch_gauge(&m->serve_block_manifests_wrong_total, s.manifests_wrong);
    ch_gauge(&m->serve_block_frames_malformed_total, s.frames_malformed);
    ch_gauge(&m->serve_repair_seen_total, s.repair_seen);
    ch_gauge(&m->serve_repair_left, s.repair_left);
    ch_gauge(&m->serve_repair_waiting, s.repair_waiting);
    for (uint16_t i = 0; i < o->node->committee.n; i++) {
        uint64_t lies, timeouts;
        ch_spread_peer_stats(o->spread, i, &lies, &timeouts);
        atomic_store_explicit(&o->node->object_lies[i], lies, memory_order_relaxed);
    }
}

/* What readers or the scrubber found changed is missing; the lists of certificates tell what it was. */
static void repair_damage(struct ch_objects *o, uint64_t now_ns)
{
    struct ch_cid damaged[32];
    bool any = false;
    o->repair_at_ns = now_ns + LOOK_EVERY_NS;
    while (ch_object_damaged(o->node->objects, damaged, sizeof damaged / sizeof *damaged))
        any = true;
    if (!any)
        return;
    ch_log(CH_LOG_WARNING, "objects: bytes on this disk are damaged; they are restored from the other validators");
    ch_spread_repair(o->spread);
    o->repair_at_ns = now_ns + REPAIR_EVERY_NS;
}

bool ch_objects_poll(struct ch_objects *o, uint64_t now_ns, bool *puts)
{
    struct ch_spread_done done;
    bool worked = false;
    look_who_is_up(o);
    ch_spread_full(o->spread, atomic_load_explicit(&o->node->disk_low, memory_order_relaxed));
    ch_spread_tick(o->spread, now_ns);
    if (now_ns >= o->repair_at_ns)
        repair_damage(o, now_ns);
    while (ch_spread_next_done(o->spread, &done)) {
        worked = true;
        if (done.ticket & 1)
            restored(o, &done);
        else
            answer(o, &done);
    }
    size_t begun = 0;
    while (begun < o->waiting_count && begin(o, o->waiting[begun]))
        begun++;
    if (begun) {
        o->waiting_count -= begun;
        memmove(o->waiting, o->waiting + begun, o->waiting_count * sizeof *o->waiting);
        worked = true;
    }
    for (size_t i = 0; i < REQUESTS_MAX; i++)
        if (o->asking[i].request)
            worked |= go_on_asking(o, &o->asking[i]);
    worked |= ch_names_poll(o->names);
    worked |= send_all(o);
    if (now_ns >= o->show_at_ns) {
        o->show_at_ns = now_ns + SHOW_EVERY_NS;
        show(o);
    }
    *puts |= o->puts;
    o->puts = false;
    return worked;
}

uint64_t ch_objects_deadline_ns(const struct ch_objects *o, uint64_t now_ns)
{
    return ch_names_busy(o->names) ? now_ns + 1000000 : ch_spread_deadline_ns(o->spread);
}

/* --- open and close --- */

ch_err ch_objects_open(struct ch_node *node, struct ch_object_reader *reader, struct ch_keeper *keeper,
                       struct ch_objects **out)
{
    struct ch_objects *o = calloc(1, sizeof *o);
    if (!o)
        return CH_ERR_NO_MEMORY;
    o->node = node;
    o->reader = reader;
    o->keeper = keeper;
    o->store = (struct ch_spread_store){o, ch_tree_has, ch_tree_get, disk_put, disk_drop, disk_list};
    struct ch_object_stats stats;
    struct ch_spread_setup setup = {
        .validators = node->committee.n,
        .me = node->me,
        .keys = (const uint8_t(*)[CH_HASH_BYTES])node->committee.key,
        .key = &node->key,
        .chain_id = node->chain_id,
        .store = o->store,
        .repair_bytes_per_second = node->config.store_repair_mib << 20,
    };
    ch_random(&setup.new_store, sizeof setup.new_store);
    ch_err err = ch_spread_open(&setup, &o->spread);
    if (err == CH_OK)
        err = ch_tree_open(reader, node->committee.n, &o->tree);
    if (err == CH_OK)
        err = ch_names_open(node, reader, o->spread, &o->store, o->tree, keeper, &o->names);
    if (err == CH_OK)
        ch_keeper_spread(keeper, o->spread, &o->store);
    if (err != CH_OK) {
        ch_objects_close(o);
        return err;
    }
    ch_object_stats(node->objects, &stats);
    if (stats.segments_damaged || stats.blocks_lost) /* what the marks say was here may not be */
        ch_spread_repair(o->spread);
    *out = o;
    return CH_OK;
}

void ch_objects_close(struct ch_objects *o)
{
    if (!o)
        return;
    ch_names_close(o->names);
    ch_spread_close(o->spread);
    ch_tree_close(o->tree);
    free(o);
}
