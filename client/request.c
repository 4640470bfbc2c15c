/* The requests of a client that read and submit: their bodies, their answers, what is checked in them. */
#include "client/client_impl.h"

#include "base/merkle.h"
#include "base/time.h"
#include "crypto/ed25519.h"

#include <stdio.h>

#define QUIET_FOR_EVER_NS UINT64_C(0x7fffffffffffffff)

static bool signature_holds(const uint8_t key[32], const uint8_t signature[64], const uint8_t *prefix,
                            size_t prefix_length, const uint8_t *message, size_t length)
{
    const struct ch_ed25519_item item = {key, signature, prefix, message, (uint32_t)prefix_length, (uint32_t)length};
    return ch_ed25519_verify_reference(&item);
}

/* ---- submit ---- */

struct submission {
    struct ch_client *client;
    struct ch_receipt *receipt;
    uint8_t tx_id[CH_HASH_BYTES];
    bool want_signed;
};

/* The validator's word for the receipt that is number `which` of `count`: see wire/frame.h. */
static bool proof_holds(const struct submission *s, const uint8_t *receipt, unsigned which, unsigned count,
                        struct ch_reader *proof)
{
    uint8_t message[CH_HASH_BYTES + 4], leaf_hash[CH_HASH_BYTES], prefix[CH_SIGN_PREFIX_BYTES_MAX];
    uint32_t leaves = ch_read32(proof);
    const uint8_t *signature = ch_read(proof, CH_SIGNATURE_BYTES);
    ch_merkle_leaf(receipt, CH_RECEIPT_BYTES, leaf_hash);
    bool found = false;
    for (unsigned i = 0; i < count; i++) {
        uint32_t leaf = ch_read32(proof);
        uint8_t path_length = ch_read8(proof);
        const uint8_t *path = ch_read(proof, (size_t)path_length * CH_HASH_BYTES);
        if (!path)
            return false;
        if (i == which)
            found = ch_merkle_root_of_path(leaf_hash, leaf, leaves, (const uint8_t(*)[CH_HASH_BYTES])path, path_length,
                                           message);
    }
    if (!found || !ch_reader_done(proof))
        return false;
    ch_store32(message + CH_HASH_BYTES, leaves);
    size_t prefix_length = ch_sign_prefix(CH_DOMAIN_RECEIPT, s->client->chain_id, prefix);
    return signature_holds(s->client->peer_key, signature, prefix, prefix_length, message, sizeof message);
}

static ch_err on_receipts(struct ch_request *request, const struct ch_frame_header *header, const uint8_t *body)
{
    static const uint8_t no_tx[CH_HASH_BYTES];
    struct submission *s = request->context;
    struct ch_reader r = ch_reader(body, header->length);
    uint16_t count = ch_read16(&r);
    const uint8_t *receipts = ch_read(&r, (size_t)count * CH_RECEIPT_BYTES);
    if (header->type != CH_FRAME_RECEIPTS || !receipts)
        return CH_ERR_PROTOCOL;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *bytes = receipts + (size_t)i * CH_RECEIPT_BYTES;
        struct ch_receipt receipt;
        if (!ch_receipt_read(bytes, &receipt))
            return CH_ERR_PROTOCOL;
        bool whole = receipt.level == CH_LEVEL_EARLY && memcmp(receipt.tx_id, no_tx, CH_HASH_BYTES) == 0;
        if (!whole && memcmp(receipt.tx_id, s->tx_id, CH_HASH_BYTES) != 0)
            continue; /* `whole`: the frame, and ours is all of it, was refused */
        bool applied = receipt.status == CH_STATUS_OK || receipt.status == CH_STATUS_DUPLICATE;
        if (receipt.level == CH_LEVEL_EARLY && receipt.status == CH_STATUS_OK)
            return CH_ERR_AGAIN;
        if (s->want_signed && receipt.level != CH_LEVEL_EARLY && applied &&
            (!(header->flags & CH_FRAME_FLAG_SIGNED) || !proof_holds(s, bytes, i, count, &r)))
            return CH_ERR_PROTOCOL;
        *s->receipt = receipt;
        request->status = receipt.status;
        return applied ? CH_OK : CH_ERR_REFUSED;
    }
    return CH_ERR_AGAIN;
}

ch_err ch_client_submit(struct ch_client *c, const uint8_t *tx, size_t length, bool want_signed,
                        struct ch_receipt *receipt)
{
    struct submission submission = {.client = c, .receipt = receipt, .want_signed = want_signed};
    struct ch_request request = {.answer = on_receipts, .context = &submission};
    uint16_t flags = CH_FRAME_FLAG_WANT_FINAL | (want_signed ? CH_FRAME_FLAG_WANT_SIGNED : 0);
    ch_hash(tx, length, submission.tx_id);
    return ch_client_call(c, &request, CH_FRAME_SUBMIT, flags, &(struct ch_bytes){tx, length}, 1);
}

/* ---- accounts and relations ---- */

static ch_err on_account(struct ch_request *request, const struct ch_frame_header *header, const uint8_t *body)
{
    struct ch_reader r = ch_reader(body, header->length);
    request->status = ch_read16(&r);
    if (header->type != CH_FRAME_ACCOUNT || r.bad)
        return CH_ERR_PROTOCOL;
    if (request->status != CH_STATUS_OK)
        return CH_ERR_REFUSED;
    (void)ch_read64(&r); /* serial */
    const uint8_t *row = ch_read(&r, CH_ACCOUNT_ROW_BYTES);
    return row && ch_reader_done(&r) && ch_account_read(row, request->context) ? CH_OK : CH_ERR_PROTOCOL;
}

static ch_err get_account(struct ch_client *c, enum ch_frame_type type, const void *by, size_t length,
                          struct ch_account *account)
{
    struct ch_request request = {.answer = on_account, .context = account};
    return ch_client_call(c, &request, type, 0, &(struct ch_bytes){by, length}, 1);
}

ch_err ch_client_get_account(struct ch_client *c, const uint8_t key[CH_KEY_BYTES], struct ch_account *account)
{
    struct ch_account found;
    ch_err err = get_account(c, CH_FRAME_GET_ACCOUNT, key, CH_KEY_BYTES, &found);
    if (err == CH_OK && memcmp(found.key, key, CH_KEY_BYTES) != 0)
        err = ch_client_fail(c, CH_ERR_PROTOCOL, "%s: answers with another account", c->name);
    if (err == CH_OK)
        *account = found;
    return err;
}

ch_err ch_client_get_handle(struct ch_client *c, const char *handle, struct ch_account *account)
{
    struct ch_account found;
    size_t length = strlen(handle);
    if (!ch_handle_valid((const uint8_t *)handle, length)) {
        c->status = CH_STATUS_BAD_HANDLE;
        return ch_client_fail(c, CH_ERR_REFUSED, "BAD_HANDLE: %s", ch_status_text(c->status));
    }
    ch_err err = get_account(c, CH_FRAME_GET_HANDLE, handle, length, &found);
    if (err == CH_OK && (found.handle_length != length || memcmp(found.handle, handle, length) != 0))
        err = ch_client_fail(c, CH_ERR_PROTOCOL, "%s: answers with another account", c->name);
    if (err == CH_OK)
        *account = found;
    return err;
}

struct relation_query {
    struct ch_relation *relations;
    uint16_t capacity, count;
    uint64_t next;
};

static ch_err on_relations(struct ch_request *request, const struct ch_frame_header *header, const uint8_t *body)
{
    struct relation_query *q = request->context;
    struct ch_reader r = ch_reader(body, header->length);
    request->status = ch_read16(&r);
    if (header->type != CH_FRAME_RELATIONS || r.bad)
        return CH_ERR_PROTOCOL;
    if (request->status != CH_STATUS_OK)
        return CH_ERR_REFUSED;
    q->count = ch_read16(&r);
    q->next = ch_read64(&r);
    if (q->count > q->capacity)
        return CH_ERR_PROTOCOL;
    for (unsigned i = 0; i < q->count; i++) {
        (void)ch_read64(&r); /* serial */
        const uint8_t *row = ch_read(&r, CH_RELATION_ROW_BYTES);
        if (!row || !ch_relation_read(row, &q->relations[i]))
            return CH_ERR_PROTOCOL;
    }
    return ch_reader_done(&r) ? CH_OK : CH_ERR_PROTOCOL;
}

ch_err ch_client_get_relations(struct ch_client *c, const uint8_t account[CH_KEY_BYTES], uint64_t from,
                               struct ch_relation *relations, uint16_t capacity, uint16_t *count, uint64_t *next)
{
    struct relation_query q = {.relations = relations, .capacity = capacity};
    struct ch_request request = {.answer = on_relations, .context = &q};
    struct ch_query query = {.from = from, .limit = capacity};
    uint8_t bytes[CH_QUERY_BYTES];
    memcpy(query.account, account, CH_KEY_BYTES);
    ch_query_write(&query, bytes);
    ch_err err = ch_client_call(c, &request, CH_FRAME_GET_RELATIONS, 0, &(struct ch_bytes){bytes, sizeof bytes}, 1);
    if (err == CH_OK) {
        *count = q.count;
        *next = q.next;
    }
    return err;
}

/* ---- records ---- */

struct record_query {
    struct ch_client *client;
    ch_record_taker taker;
    void *context;
    const uint8_t *account; /* whose inbox, or NULL: one record */
    uint64_t from, last;    /* next sequence expected; newest that the node told */
    bool watch, enough;
};

static bool record_fits(struct record_query *q, const struct ch_record *record)
{
    uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX];
    size_t prefix_length = ch_sign_prefix(CH_DOMAIN_TX, q->client->chain_id, prefix);
    const struct ch_tx *tx = &record->tx;
    if (q->account && (tx->kind != CH_TX_MESSAGE || memcmp(tx->peer, q->account, CH_KEY_BYTES) != 0 ||
                       record->inbox_sequence != q->from))
        return false;
    return signature_holds(tx->sender, tx->bytes, prefix, prefix_length, tx->bytes + CH_TX_SIGNED_OFFSET,
                           tx->length - (size_t)CH_TX_SIGNED_OFFSET);
}

static ch_err on_records(struct ch_request *request, const struct ch_frame_header *header, const uint8_t *body)
{
    struct record_query *q = request->context;
    struct ch_reader r = ch_reader(body, header->length);
    request->status = ch_read16(&r);
    if (header->type != CH_FRAME_RECORDS || r.bad)
        return CH_ERR_PROTOCOL;
    if (request->status != CH_STATUS_OK && request->status != CH_STATUS_PRUNED)
        return CH_ERR_REFUSED;
    uint16_t count = ch_read16(&r);
    q->last = ch_read64(&r);
    if (request->status == CH_STATUS_PRUNED && q->account) {
        if (count || r.bad || q->last <= q->from)
            return CH_ERR_PROTOCOL;
        if (!q->watch)
            return CH_ERR_REFUSED;
        q->from = q->last;
        return CH_ERR_AGAIN;
    }
    if (request->status == CH_STATUS_PRUNED)
        return CH_ERR_REFUSED;
    for (unsigned i = 0; i < count && !q->enough; i++) {
        struct ch_record record;
        if (!ch_record_read(&r, &record) || !record_fits(q, &record))
            return CH_ERR_PROTOCOL;
        q->from++;
        q->enough = !q->taker(q->context, &record);
    }
    if (!q->enough && !ch_reader_done(&r))
        return CH_ERR_PROTOCOL;
    return q->watch && !q->enough ? CH_ERR_AGAIN : CH_OK;
}

static void write_query(const struct record_query *q, uint16_t limit, uint8_t bytes[CH_QUERY_BYTES])
{
    struct ch_query query = {.from = q->from, .limit = limit};
    memcpy(query.account, q->account, CH_KEY_BYTES);
    ch_query_write(&query, bytes);
}

ch_err ch_client_get_inbox(struct ch_client *c, const uint8_t account[CH_KEY_BYTES], uint64_t from, uint16_t limit,
                           ch_record_taker taker, void *context, uint64_t *last)
{
    struct record_query q = {
        .client = c, .taker = taker, .context = context, .account = account, .from = from ? from : 1};
    struct ch_request request = {.answer = on_records, .context = &q};
    uint8_t bytes[CH_QUERY_BYTES];
    write_query(&q, limit, bytes);
    ch_err err = ch_client_call(c, &request, CH_FRAME_GET_INBOX, 0, &(struct ch_bytes){bytes, sizeof bytes}, 1);
    if (err == CH_OK || (err == CH_ERR_REFUSED && request.status == CH_STATUS_PRUNED))
        *last = q.last;
    return err;
}

/* One connection's worth of watching; q->from goes on. */
static ch_err watch_once(struct ch_client *c, struct record_query *q, uint64_t quiet_ns, ch_watch_after after)
{
    struct ch_request request = {.answer = on_records, .context = q};
    uint8_t bytes[CH_QUERY_BYTES];
    uint64_t seen = q->from, until = ch_time_monotonic_ns() + quiet_ns;
    write_query(q, UINT16_MAX, bytes);
    ch_err err = ch_client_start(c, &request, CH_FRAME_WATCH_INBOX, 0, &(struct ch_bytes){bytes, sizeof bytes}, 1);
    while (err == CH_OK && (!request.done || seen != q->from)) {
        if (seen != q->from) {
            seen = q->from;
            until = ch_time_monotonic_ns() + quiet_ns;
            if (after && !after(q->context)) {
                q->enough = true;
                break;
            }
        } else if (ch_time_monotonic_ns() >= until) {
            err = ch_client_fail(c, CH_ERR_TIMEOUT, "nothing came");
        } else {
            err = ch_client_round(c, until);
        }
    }
    if (!request.done)
        ch_client_drop(c, &request);
    return err == CH_OK && !q->enough ? ch_client_outcome(c, &request) : err;
}

ch_err ch_client_watch(struct ch_client *c, const uint8_t account[CH_KEY_BYTES], uint64_t from, uint64_t quiet_ms,
                       ch_record_taker taker, ch_watch_after after, void *context)
{
    struct record_query q = {
        .client = c, .taker = taker, .context = context, .account = account, .from = from ? from : 1, .watch = true};
    uint64_t quiet_ns = quiet_ms ? quiet_ms * UINT64_C(1000000) : QUIET_FOR_EVER_NS - ch_time_monotonic_ns();
    uint64_t give_up = ch_time_monotonic_ns() + quiet_ns;
    for (;;) {
        uint64_t before = q.from;
        ch_err err = ch_client_reach(c, c->was_connected ? give_up : ch_client_deadline_ns(c), c->was_connected);
        if (err != CH_OK)
            return err;
        err = watch_once(c, &q, quiet_ns, after);
        if (q.from != before)
            give_up = ch_time_monotonic_ns() + quiet_ns;
        bool lost = err == CH_ERR_CLOSED || (err == CH_ERR_TIMEOUT && !c->conn);
        if (!lost || q.enough || ch_time_monotonic_ns() >= give_up)
            return err;
    }
}

ch_err ch_client_get_record(struct ch_client *c, uint64_t log_index, const uint8_t tx_id[CH_HASH_BYTES],
                            ch_record_taker taker, void *context)
{
    struct record_query q = {.client = c, .taker = taker, .context = context};
    struct ch_request request = {.answer = on_records, .context = &q};
    uint8_t bytes[1 + CH_HASH_BYTES];
    bytes[0] = tx_id != NULL;
    if (tx_id)
        memcpy(bytes + 1, tx_id, CH_HASH_BYTES);
    else
        ch_store64(bytes + 1, log_index);
    return ch_client_call(c, &request, CH_FRAME_GET_RECORD, 0,
                          &(struct ch_bytes){bytes, 1 + (tx_id ? (size_t)CH_HASH_BYTES : 8)}, 1);
}
