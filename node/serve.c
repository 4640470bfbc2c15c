#include "node/serve.h"

#include "base/log.h"
#include "node/keeper.h"
#include "node/objects.h"
#include "node/watch.h"

#include <stdio.h>
#include <stdlib.h>

#define READ_MAX     512 /* rows or records of one answer */
#define REQUESTS_MAX 8   /* in one poll */
/* Bytes of records in one answer: below a frame's, so that the last one always fits. */
#define RECORDS_BYTES_MAX (CH_FRAME_BODY_BYTES_MAX - CH_RECORD_HEADER_BYTES - CH_TX_BYTES_MAX)
#define RECORDS_HEAD_BYTES 12
#define WANTED_MAX         256 /* records of one answer that the disk fetches side by side */
#define PIECES_BYTES_MAX   8192 /* of an ASSEMBLE: each piece names up to a block, a commit or a payload */

struct ch_serve {
    struct ch_node *node;
    struct ch_state_reader *state;
    struct ch_wal_reader *log;
    struct ch_object_reader *objects;
    struct ch_keeper *keeper;
    struct ch_objects *spread; /* objects over the committee; NULL: we are alone */
    struct ch_request *held;   /* a put that found the store's batches full */
    bool puts_gathered;        /* puts were taken since the last flush */
    ch_err refusing;           /* why the store takes nothing, as last said */
    struct ch_watches watches;
    struct ch_work *work; /* being given on */
    uint32_t work_next, named_next;
    uint32_t due_hand; /* where the next due watch is looked for */
    uint64_t indices[READ_MAX], serials[READ_MAX];
    struct ch_relation relations[READ_MAX];
    uint8_t pieces[PIECES_BYTES_MAX];
};

void ch_serve_reply(struct ch_node *node, struct ch_request *request, enum ch_frame_type type, size_t length)
{
    request->header.type = (uint16_t)type;
    request->header.length = (uint32_t)length;
    uint16_t status = length >= 2 ? ch_load16(request->body) : CH_STATUS_OK;
    ch_count(&node->metrics.serve_requests_total, 1);
    ch_count(&node->metrics.serve_requests_refused_total, status != CH_STATUS_OK);
    if (request->answered)
        request->answered(request->context, request);
    else
        CH_ASSERT(ch_ring_push_one(&node->replies, request)); /* it holds all requests there are */
}

void ch_serve_reply_status(struct ch_node *node, struct ch_request *request, enum ch_frame_type type,
                           enum ch_status status)
{
    request->header.flags = 0;
    ch_store16(request->body, (uint16_t)status);
    ch_serve_reply(node, request, type, 2);
}

static void reply(struct ch_serve *s, struct ch_request *request, enum ch_frame_type type, size_t length)
{
    ch_serve_reply(s->node, request, type, length);
}

static void reply_status(struct ch_serve *s, struct ch_request *request, enum ch_frame_type type, enum ch_status status)
{
    ch_serve_reply_status(s->node, request, type, status);
}

/* What a failed read means for who asked; a damaged or unreadable disk is the operator's to know. */
static enum ch_status status_of(ch_err err)
{
    if (err == CH_ERR_NOT_FOUND)
        return CH_STATUS_NOT_FOUND;
    if (err == CH_ERR_PRUNED)
        return CH_STATUS_PRUNED;
    if (err == CH_ERR_TIMEOUT) /* said once, when it began */
        return CH_STATUS_STORE_AWAY;
    ch_log(CH_LOG_ERROR, "serve: a read failed: %s", ch_err_text(err));
    return CH_STATUS_OVERLOADED;
}

static void get_account(struct ch_serve *s, struct ch_request *request)
{
    uint64_t serial;
    struct ch_account row;
    ch_err err;
    if (request->header.type == CH_FRAME_GET_ACCOUNT && request->header.length == CH_KEY_BYTES)
        err = ch_state_read_account_by_key(s->state, request->body, &serial, &row);
    else if (request->header.type == CH_FRAME_GET_HANDLE && request->header.length <= CH_HANDLE_BYTES_MAX)
        err = ch_state_read_account_by_handle(s->state, request->body, request->header.length, &serial, &row);
    else {
        reply_status(s, request, CH_FRAME_ACCOUNT, CH_STATUS_MALFORMED);
        return;
    }
    if (err != CH_OK) {
        reply_status(s, request, CH_FRAME_ACCOUNT, status_of(err));
        return;
    }
    ch_store16(request->body, CH_STATUS_OK);
    ch_store64(request->body + 2, serial);
    ch_account_write(&row, request->body + 10);
    reply(s, request, CH_FRAME_ACCOUNT, 10 + CH_ACCOUNT_ROW_BYTES);
}

/* Reads the query of an account's own data; false when it was refused. */
static bool own_query(struct ch_serve *s, struct ch_request *request, enum ch_frame_type answer, struct ch_query *query)
{
    if (!ch_query_read(request->body, request->header.length, query)) {
        reply_status(s, request, answer, CH_STATUS_MALFORMED);
        return false;
    }
    if (memcmp(query->account, request->peer_key, CH_KEY_BYTES) != 0) {
        reply_status(s, request, answer, CH_STATUS_NOT_PERMITTED);
        return false;
    }
    if (query->limit == 0 || query->limit > READ_MAX)
        query->limit = READ_MAX;
    return true;
}

static void get_relations(struct ch_serve *s, struct ch_request *request)
{
    struct ch_query query;
    uint64_t serial;
    size_t count = 0;
    bool more = false;
    if (!own_query(s, request, CH_FRAME_RELATIONS, &query))
        return;
    ch_err err = ch_state_read_serial(s->state, query.account, &serial);
    if (err == CH_OK)
        err =
            ch_state_read_relations(s->state, serial, query.from, query.limit, s->serials, s->relations, &count, &more);
    if (err != CH_OK) {
        reply_status(s, request, CH_FRAME_RELATIONS, status_of(err));
        return;
    }
    struct ch_writer w = ch_writer(request->body, CH_FRAME_BODY_BYTES_MAX);
    ch_write16(&w, CH_STATUS_OK);
    ch_write16(&w, (uint16_t)count);
    ch_write64(&w, more ? s->serials[count - 1] + 1 : 0);
    for (size_t i = 0; i < count; i++) {
        ch_write64(&w, s->serials[i]);
        ch_relation_write(&s->relations[i], ch_write_room(&w, CH_RELATION_ROW_BYTES));
    }
    CH_ASSERT(!w.bad);
    reply(s, request, CH_FRAME_RELATIONS, w.used);
}

/* The record of a log index into `bytes`: the transaction out of the log, held against its id's index. CH_ERR_PRUNED
 * where the log has been cut. */
static ch_err read_record(struct ch_serve *s, uint64_t log_index, uint8_t bytes[CH_TX_BYTES_MAX],
                          struct ch_record *record)
{
    struct ch_log_entry entry;
    ch_err err = ch_state_read_log_entry(s->state, log_index, &entry);
    if (err != CH_OK)
        return err;
    err = ch_wal_read(s->log, entry.position, bytes, CH_TX_BYTES_MIN);
    if (err != CH_OK)
        return err == CH_ERR_NOT_FOUND ? CH_ERR_PRUNED : err;
    uint16_t length = ch_load16(bytes + CH_TX_LENGTH_OFFSET);
    if (length < CH_TX_BYTES_MIN || length > CH_TX_BYTES_MAX)
        return CH_ERR_CORRUPT;
    err = ch_wal_read(s->log, entry.position + CH_TX_BYTES_MIN, bytes + CH_TX_BYTES_MIN,
                      length - (size_t)CH_TX_BYTES_MIN);
    if (err != CH_OK)
        return err == CH_ERR_NOT_FOUND ? CH_ERR_PRUNED : err;
    uint8_t id[CH_HASH_BYTES];
    uint64_t found;
    ch_hash(bytes, length, id);
    if (ch_tx_parse(bytes, length, &record->tx) != CH_STATUS_OK ||
        ch_state_read_log_index(s->state, id, &found) != CH_OK || found != log_index)
        return CH_ERR_CORRUPT;
    record->log_index = log_index;
    record->inbox_sequence = entry.inbox_sequence;
    record->commit_index = entry.commit_index;
    record->commit_time_ms = entry.commit_time_ms;
    return CH_OK;
}

/* The first sequence in from..last whose record the log still has, or last + 1: log positions grow along an inbox. */
static ch_err first_kept(struct ch_serve *s, uint64_t serial, uint64_t from, uint64_t last, uint64_t *first)
{
    uint64_t end = last + 1;
    while (from < end) {
        uint64_t middle = from + (end - from) / 2, log_index, newest;
        size_t count = 0;
        struct ch_log_entry entry;
        ch_err err = ch_state_read_inbox(s->state, serial, middle, 1, &log_index, &count, &newest);
        if (err == CH_OK)
            err = count == 1 ? ch_state_read_log_entry(s->state, log_index, &entry) : CH_ERR_CORRUPT;
        if (err != CH_OK)
            return err;
        if (entry.position < ch_wal_first(s->node->wal))
            from = middle + 1;
        else
            end = middle;
    }
    *first = end;
    return CH_OK;
}

/* The records are about to be read. */
static void want_records(struct ch_serve *s, const uint64_t *indices, size_t count)
{
    for (size_t i = 0; i < count && i < WANTED_MAX; i++) {
        struct ch_log_entry entry;
        if (ch_state_read_log_entry(s->state, indices[i], &entry) == CH_OK)
            ch_wal_want(s->log, entry.position, CH_TX_BYTES_MAX);
    }
}

/* Writes as many of the inbox's records from `from` on as fit; *next is the first one that was not written. Where the
 * one at `from` is no longer kept the answer says so, and where to go on. */
static ch_err write_inbox(struct ch_serve *s, const uint8_t *account, uint64_t from, size_t limit, uint8_t *body,
                          size_t *length, uint64_t *next, uint64_t *last)
{
    uint64_t serial;
    size_t count = 0;
    if (from == 0)
        from = 1;
    ch_err err = ch_state_read_serial(s->state, account, &serial);
    if (err == CH_OK)
        err = ch_state_read_inbox(s->state, serial, from, limit, s->indices, &count, last);
    if (err != CH_OK)
        return err;
    if (count > 1)
        want_records(s, s->indices, count);
    struct ch_writer w = ch_writer(body, CH_FRAME_BODY_BYTES_MAX);
    (void)ch_write_room(&w, RECORDS_HEAD_BYTES);
    uint16_t written = 0;
    for (; written < count && w.used < RECORDS_BYTES_MAX; written++) {
        uint8_t bytes[CH_TX_BYTES_MAX];
        struct ch_record record;
        err = read_record(s, s->indices[written], bytes, &record);
        if (err == CH_ERR_PRUNED)
            break;
        if (err != CH_OK)
            return err;
        ch_record_write(&w, &record);
    }
    ch_store16(body, CH_STATUS_OK);
    ch_store16(body + 2, written);
    ch_store64(body + 4, *last);
    if (err == CH_ERR_PRUNED) { /* of them all: where to go on stands in place of the newest */
        err = first_kept(s, serial, from, *last, next);
        ch_store16(body, CH_STATUS_PRUNED);
        ch_store16(body + 2, 0);
        ch_store64(body + 4, *next);
        *length = RECORDS_HEAD_BYTES;
        return err;
    }
    *length = w.used;
    *next = from + written;
    return CH_OK;
}

static void get_inbox(struct ch_serve *s, struct ch_request *request)
{
    struct ch_query query;
    size_t length;
    uint64_t next, last;
    if (!own_query(s, request, CH_FRAME_RECORDS, &query))
        return;
    ch_err err = write_inbox(s, query.account, query.from, query.limit, request->body, &length, &next, &last);
    request->header.flags = 0;
    if (err != CH_OK)
        reply_status(s, request, CH_FRAME_RECORDS, status_of(err));
    else
        reply(s, request, CH_FRAME_RECORDS, length);
}

static void give_back(struct ch_serve *s, struct ch_request *request)
{
    ch_flow_free_request(&s->node->flow, request);
}

static void watch_inbox(struct ch_serve *s, struct ch_request *request)
{
    struct ch_query query;
    if (!own_query(s, request, CH_FRAME_RECORDS, &query))
        return;
    ch_watches_add(&s->watches, request->connection, request->header.request, query.account,
                   query.from ? query.from : 1);
    give_back(s, request);
}

static void unwatch(struct ch_serve *s, struct ch_request *request)
{
    struct ch_watch *watch = ch_watches_find(&s->watches, request->connection, request->header.request);
    if (watch)
        ch_watches_remove(&s->watches, watch);
    give_back(s, request);
}

static void get_record(struct ch_serve *s, struct ch_request *request)
{
    uint8_t bytes[CH_TX_BYTES_MAX];
    struct ch_record record;
    uint64_t log_index;
    ch_err err;
    request->header.flags = 0;
    if (request->header.length == 9 && request->body[0] == 0) {
        log_index = ch_load64(request->body + 1);
        err = read_record(s, log_index, bytes, &record);
    } else if (request->header.length == 1 + CH_HASH_BYTES && request->body[0] == 1) {
        err = ch_state_read_log_index(s->state, request->body + 1, &log_index);
        if (err == CH_OK)
            err = read_record(s, log_index, bytes, &record);
        uint8_t id[CH_HASH_BYTES];
        if (err == CH_OK) {
            ch_hash(bytes, record.tx.length, id);
            if (memcmp(id, request->body + 1, CH_HASH_BYTES) != 0)
                err = CH_ERR_NOT_FOUND;
        }
    } else {
        reply_status(s, request, CH_FRAME_RECORDS, CH_STATUS_MALFORMED);
        return;
    }
    if (err != CH_OK) {
        reply_status(s, request, CH_FRAME_RECORDS, status_of(err));
        return;
    }
    struct ch_writer w = ch_writer(request->body, CH_FRAME_BODY_BYTES_MAX);
    ch_write16(&w, CH_STATUS_OK);
    ch_write16(&w, 1);
    ch_write64(&w, record.inbox_sequence);
    ch_record_write(&w, &record);
    reply(s, request, CH_FRAME_RECORDS, w.used);
}

static void fail(struct ch_serve *s, ch_err err)
{
    int none = CH_OK;
    atomic_compare_exchange_strong(&s->node->failed, &none, (int)err);
}

/* The CID at the start of a body; false when the request was refused. */
static bool read_cid(struct ch_serve *s, struct ch_request *request, enum ch_frame_type answer, struct ch_cid *cid)
{
    bool put = request->header.type == CH_FRAME_PUT_OBJECT;
    if (request->header.length < CH_CID_BYTES || (!put && request->header.length != CH_CID_BYTES) ||
        !ch_cid_valid(request->body)) {
        reply_status(s, request, answer, CH_STATUS_MALFORMED);
        return false;
    }
    memcpy(cid->bytes, request->body, CH_CID_BYTES);
    return true;
}

/* Answers once the block is durable; until then the request stays with the store, whose cookie it is. */
static void put_object(struct ch_serve *s, struct ch_request *request)
{
    struct ch_cid cid;
    uint64_t serial;
    if (!read_cid(s, request, CH_FRAME_STATUS, &cid))
        return;
    if (ch_state_read_serial(s->state, request->peer_key, &serial) != CH_OK) {
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_NO_SUCH_ACCOUNT);
        return;
    }
    if (atomic_load_explicit(&s->node->disk_low, memory_order_relaxed)) {
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_DISK_FULL);
        return;
    }
    size_t length = request->header.length - (size_t)CH_CID_BYTES;
    if (!request->hashed) /* it was a stranger's a moment ago */
        (void)ch_cid_check(&cid, request->body + CH_CID_BYTES, length, &request->block);
    request->hashed = true;
    if (!ch_cid_is_checked(&request->block)) {
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_BAD_OBJECT);
        return;
    }
    if (s->spread) {
        ch_objects_put(s->spread, request, serial);
        return;
    }
    enum ch_status status = ch_keeper_admit(s->keeper, serial, length);
    if (status != CH_STATUS_OK) {
        reply_status(s, request, CH_FRAME_STATUS, status);
        return;
    }
    const struct ch_object_tag tag = ch_keeper_tag(serial);
    ch_err err = ch_object_put_for(s->node->objects, &request->block, &tag, (uint64_t)(uintptr_t)request);
    if (err == CH_OK || err == CH_ERR_EXISTS) {
        ch_err kept = ch_keeper_stored(s->keeper, &cid, serial, err == CH_OK ? length : 0);
        if (kept != CH_OK)
            fail(s, kept);
    }
    switch (err) {
    case CH_OK:
        s->puts_gathered = true;
        break;
    case CH_ERR_FULL:
        s->held = request;
        break;
    case CH_ERR_EXISTS:
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_OK);
        break;
    case CH_ERR_INVALID:
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_BAD_OBJECT);
        break;
    case CH_ERR_NO_SPACE:
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_DISK_FULL);
        break;
    case CH_ERR_TIMEOUT:
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_STORE_AWAY);
        break;
    default:
        fail(s, err);
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_STOPPING);
    }
}

static void get_object(struct ch_serve *s, struct ch_request *request)
{
    struct ch_cid cid;
    size_t length;
    if (!read_cid(s, request, CH_FRAME_OBJECT, &cid))
        return;
    if (s->spread) {
        ch_objects_get(s->spread, request);
        return;
    }
    ch_err err = ch_object_get(s->objects, &cid, request->body + 2, CH_FRAME_BODY_BYTES_MAX - 2, &length);
    if (err != CH_OK) { /* a damaged block is one that we don't have: another validator may */
        reply_status(s, request, CH_FRAME_OBJECT, err == CH_ERR_CORRUPT ? CH_STATUS_NOT_FOUND : status_of(err));
        return;
    }
    ch_store16(request->body, CH_STATUS_OK);
    reply(s, request, CH_FRAME_OBJECT, 2 + length);
}

static void has_object(struct ch_serve *s, struct ch_request *request)
{
    struct ch_cid cid;
    uint64_t bytes;
    if (!read_cid(s, request, CH_FRAME_STATUS, &cid))
        return;
    if (s->spread) {
        ch_objects_has(s->spread, request);
        return;
    }
    ch_err err = ch_object_has_tree(s->objects, &cid, &bytes);
    reply_status(s, request, CH_FRAME_STATUS,
                 err == CH_OK ? CH_STATUS_OK : err == CH_ERR_INVALID ? CH_STATUS_BAD_OBJECT : status_of(err));
}

static bool is_request(uint64_t cookie)
{
    return cookie && !ch_objects_is_cookie(cookie);
}

/* Who waits for what the storage does not take now is told so, by name. */
static void refuse_stuck(struct ch_serve *s)
{
    uint64_t cookies[REQUESTS_MAX];
    size_t count;
    ch_err why;
    while ((count = ch_object_give_up(s->node->objects, is_request, cookies, REQUESTS_MAX, &why)) > 0)
        for (size_t i = 0; i < count; i++)
            reply_status(s, (struct ch_request *)(uintptr_t)cookies[i], CH_FRAME_STATUS,
                         why == CH_ERR_TIMEOUT ? CH_STATUS_STORE_AWAY : CH_STATUS_DISK_FULL);
    if (why == s->refusing)
        return;
    if (why == CH_OK)
        ch_log(CH_LOG_NOTICE, "objects: the storage takes them again");
    else
        ch_log(CH_LOG_ERROR, "objects: the storage takes none: %s", ch_err_text(why));
    s->refusing = why;
    ch_gauge(&s->node->metrics.serve_objects_refusing, why != CH_OK);
}

static bool poll_objects(struct ch_serve *s)
{
    uint64_t cookies[REQUESTS_MAX];
    size_t count = 0;
    if (!s->puts_gathered && !ch_object_busy(s->node->objects))
        return false;
    s->puts_gathered = false;
    ch_err err = ch_object_flush(s->node->objects);
    if (err == CH_OK)
        err = ch_object_poll(s->node->objects, cookies, REQUESTS_MAX, &count);
    if (err != CH_OK)
        fail(s, err);
    refuse_stuck(s);
    for (size_t i = 0; i < count; i++) {
        if (ch_objects_is_cookie(cookies[i])) {
            ch_objects_durable(s->spread, cookies[i]);
            continue;
        }
        if (cookies[i]) /* 0: one that the keeper dropped */
            reply_status(s, (struct ch_request *)(uintptr_t)cookies[i], CH_FRAME_STATUS, CH_STATUS_OK);
        ch_count(&s->node->metrics.serve_objects_stored_total, cookies[i] != 0);
    }
    return count;
}

/* An answer to a validator, out of the log. What is no longer there is not answered: it asks somebody else. */
static void assemble(struct ch_serve *s, struct ch_request *request)
{
    struct ch_reader pieces = ch_reader(s->pieces, request->header.length);
    struct ch_writer w = ch_writer(request->body, CH_FRAME_BODY_BYTES_MAX);
    ch_err err = CH_OK;
    CH_ASSERT(request->header.length <= sizeof s->pieces);
    memcpy(s->pieces, request->body, request->header.length);
    while (pieces.left && err == CH_OK) {
        uint64_t position = ch_read64(&pieces);
        uint32_t length = ch_read32(&pieces);
        uint8_t *to = ch_write_room(&w, length);
        if (!to)
            err = CH_ERR_FULL;
        else if (position)
            err = ch_wal_read(s->log, position, to, length);
        else
            ch_read_to(&pieces, to, length);
    }
    CH_ASSERT(!pieces.bad); /* order wrote them */
    request->header.type = err == CH_OK ? request->header.flags : CH_FRAME_STATUS;
    request->header.flags = 0;
    request->header.length = (uint32_t)w.used;
    CH_ASSERT(ch_ring_push_one(&s->node->replies, request));
}

static void answer(struct ch_serve *s, struct ch_request *request)
{
    switch (request->header.type) {
    case CH_REQUEST_UNWATCH:
        unwatch(s, request);
        break;
    case CH_FRAME_GET_ACCOUNT:
    case CH_FRAME_GET_HANDLE:
        get_account(s, request);
        break;
    case CH_FRAME_GET_RELATIONS:
        get_relations(s, request);
        break;
    case CH_FRAME_GET_INBOX:
        get_inbox(s, request);
        break;
    case CH_FRAME_WATCH_INBOX:
        watch_inbox(s, request);
        break;
    case CH_FRAME_GET_RECORD:
        get_record(s, request);
        break;
    case CH_FRAME_PUT_OBJECT:
        put_object(s, request);
        break;
    case CH_FRAME_GET_OBJECT:
        get_object(s, request);
        break;
    case CH_FRAME_HAS_OBJECT:
        has_object(s, request);
        break;
    case CH_REQUEST_ASSEMBLE:
        assemble(s, request);
        break;
    case CH_FRAME_PUT_OBJECT_SHARD:
    case CH_FRAME_SHARD_STORED:
    case CH_FRAME_GET_OBJECT_SHARD:
    case CH_FRAME_OBJECT_SHARD:
    case CH_FRAME_OBJECT_STORED:
    case CH_FRAME_LIST_STORED:
    case CH_FRAME_STORED_LIST:
        if (!ch_objects_frame(s->spread, request)) /* net takes them from validators alone */
            s->held = request;
        break;
    default:
        reply_status(s, request, CH_FRAME_STATUS, CH_STATUS_UNKNOWN_FRAME);
        break;
    }
}

/* What the applied messages of a payload name is kept. False: not all of it now, later again. */
static bool name_objects(struct ch_serve *s, const struct ch_payload *payload)
{
    for (; s->named_next < payload->count && (s->spread || ch_keeper_waits(s->keeper)); s->named_next++) {
        const struct ch_payload_tx *entry = &payload->txs[s->named_next];
        struct ch_tx tx;
        if (entry->status != CH_STATUS_OK ||
            ch_tx_parse(payload->bytes + entry->offset, payload->length - entry->offset, &tx) != CH_STATUS_OK)
            continue;
        if (!s->spread)
            ch_keeper_named(s->keeper, &tx);
        else if (!ch_objects_name(s->spread, &tx))
            return false;
    }
    s->named_next = 0;
    return true;
}

/* Gives an applied commit's payloads on to the net stage, and wakes the watches of their recipients. */
static bool give_on(struct ch_serve *s)
{
    if (!s->work) {
        s->work = ch_ring_pull_one(&s->node->applied);
        s->work_next = 0;
    }
    struct ch_work *work = s->work;
    if (!work)
        return false;
    for (; work && s->work_next < work->count; s->work_next++) {
        struct ch_payload *payload = work->payloads[s->work_next];
        if (!name_objects(s, payload))
            return false;
        for (uint32_t i = 0; s->watches.used && i < payload->count; i++) {
            const struct ch_payload_tx *tx = &payload->txs[i];
            if (tx->status != CH_STATUS_OK || tx->inbox_sequence == 0)
                continue;
            const uint8_t *recipient = payload->bytes + tx->offset + CH_TX_BYTES_MIN;
            for (struct ch_watch *w = ch_watches_of(&s->watches, recipient, NULL); w;
                 w = ch_watches_of(&s->watches, recipient, w)) {
                s->watches.due += !w->due;
                w->due = true;
            }
        }
        CH_ASSERT(ch_ring_push_one(&s->node->receipts, payload));
    }
    ch_keeper_committed(s->keeper, work->commit_time_ms);
    s->work = NULL;
    CH_ASSERT(ch_ring_push_one(&s->node->flow.free_works, work));
    return true;
}

/* Sends one due watch what is new. */
static bool send_watch(struct ch_serve *s)
{
    if (!s->watches.due)
        return false;
    struct ch_request *request = ch_ring_pull_one(&s->node->flow.free_requests);
    if (!request)
        return false;
    struct ch_watch *watch;
    do {
        s->due_hand = (s->due_hand + 1) % CH_WATCHES_MAX;
        watch = &s->watches.watches[s->due_hand];
    } while (!watch->connection || !watch->due);
    size_t length;
    uint64_t next = watch->next_sequence, last = 0;
    ch_err err = write_inbox(s, watch->account, watch->next_sequence, READ_MAX, request->body, &length, &next, &last);
    if (err != CH_OK || next == watch->next_sequence || next > last) {
        watch->due = false;
        s->watches.due--;
    }
    if (err != CH_OK || next == watch->next_sequence) {
        give_back(s, request);
        return true;
    }
    watch->next_sequence = next;
    request->connection = watch->connection;
    request->header = (struct ch_frame_header){.flags = CH_FRAME_FLAG_MORE, .request = watch->request};
    reply(s, request, CH_FRAME_RECORDS, length);
    return true;
}

bool ch_serve_poll(void *self, uint64_t now_ns)
{
    struct ch_serve *s = self;
    bool worked = give_on(s);
    if (s->held) {
        struct ch_request *request = s->held;
        s->held = NULL;
        answer(s, request);
    }
    for (unsigned i = 0; i < REQUESTS_MAX && !s->held; i++) {
        struct ch_request *request = ch_ring_pull_one(&s->node->to_serve);
        if (!request)
            break;
        answer(s, request);
        worked = true;
    }
    if (s->spread)
        worked |= ch_objects_poll(s->spread, now_ns, &s->puts_gathered);
    worked |= poll_objects(s);
    worked |= ch_keeper_poll(s->keeper, now_ns);
    worked |= send_watch(s);
    ch_gauge(&s->node->metrics.serve_watches, s->watches.used);
    return worked;
}

uint64_t ch_serve_deadline_ns(void *self, uint64_t now_ns)
{
    struct ch_serve *s = self;
    if (s->held || s->watches.due || ch_object_busy(s->node->objects))
        return now_ns + 1000000;
    uint64_t keeper_ns = ch_keeper_deadline_ns(s->keeper, now_ns);
    uint64_t spread_ns = s->spread ? ch_objects_deadline_ns(s->spread, now_ns) : UINT64_MAX;
    return keeper_ns < spread_ns ? keeper_ns : spread_ns;
}

int ch_serve_fd(const struct ch_serve *s)
{
    return ch_io_fd(s->node->objects_io);
}

ch_err ch_serve_open(struct ch_node *node, struct ch_serve **out)
{
    struct ch_serve *s = calloc(1, sizeof *s);
    if (!s)
        return CH_ERR_NO_MEMORY;
    s->node = node;
    ch_err err = ch_state_reader_open(node->state, &s->state);
    if (err == CH_OK)
        err = ch_wal_reader_open(node->wal, &s->log);
    if (err == CH_OK)
        err = ch_object_reader_open(node->objects, &s->objects);
    if (err == CH_OK)
        err = ch_keeper_open(node, s->objects, &s->keeper);
    if (err == CH_OK)
        err = ch_watches_open(&s->watches);
    if (err == CH_OK && node->committee.n > 1)
        err = ch_objects_open(node, s->objects, s->keeper, &s->spread);
    if (err != CH_OK) {
        ch_serve_close(s);
        return err;
    }
    *out = s;
    return CH_OK;
}

void ch_serve_close(struct ch_serve *s)
{
    if (!s)
        return;
    ch_keeper_close(s->keeper);
    ch_state_reader_close(s->state);
    ch_wal_reader_close(s->log);
    ch_objects_close(s->spread);
    ch_object_reader_close(s->objects);
    ch_watches_close(&s->watches);
    free(s);
}
