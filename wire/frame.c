#include "wire/frame.h"

void ch_hello_write(const struct ch_hello *h, uint8_t out[CH_HELLO_FRAME_BYTES])
{
    struct ch_writer w = ch_writer(out, CH_HELLO_FRAME_BYTES);
    ch_write16(&w, h->version);
    ch_write16(&w, h->role);
    ch_write32(&w, h->epoch);
    ch_write64(&w, h->time_ms);
    ch_write(&w, h->chain_id, CH_HASH_BYTES);
    ch_write16(&w, h->index);
    ch_write16(&w, 0);
    ch_write32(&w, h->round);
    ch_write64(&w, h->last_commit);
    ch_write32(&w, h->gc_round);
    CH_ASSERT(!w.bad && w.used == CH_HELLO_FRAME_BYTES);
}

bool ch_hello_read(const uint8_t *body, size_t length, struct ch_hello *out)
{
    struct ch_reader r = ch_reader(body, length);
    struct ch_hello h = {.version = ch_read16(&r), .role = ch_read16(&r)};
    h.epoch = ch_read32(&r);
    h.time_ms = ch_read64(&r);
    ch_read_to(&r, h.chain_id, CH_HASH_BYTES);
    h.index = ch_read16(&r);
    uint16_t zero = ch_read16(&r);
    h.round = ch_read32(&r);
    h.last_commit = ch_read64(&r);
    h.gc_round = ch_read32(&r);
    if (!ch_reader_done(&r) || zero || h.role > CH_ROLE_VALIDATOR)
        return false;
    *out = h;
    return true;
}

void ch_receipt_write(const struct ch_receipt *receipt, uint8_t out[CH_RECEIPT_BYTES])
{
    struct ch_writer w = ch_writer(out, CH_RECEIPT_BYTES);
    ch_write(&w, receipt->tx_id, CH_HASH_BYTES);
    ch_write16(&w, receipt->status);
    ch_write8(&w, receipt->level);
    ch_write8(&w, 0);
    ch_write64(&w, receipt->commit_index);
    ch_write64(&w, receipt->log_index);
    ch_write64(&w, receipt->inbox_sequence);
    ch_write64(&w, receipt->commit_time_ms);
    CH_ASSERT(!w.bad && w.used == CH_RECEIPT_BYTES);
}

bool ch_receipt_read(const uint8_t in[CH_RECEIPT_BYTES], struct ch_receipt *out)
{
    if (in[34] > CH_LEVEL_CERTIFIED || in[35] != 0)
        return false;
    memcpy(out->tx_id, in, CH_HASH_BYTES);
    out->status = ch_load16(in + 32);
    out->level = in[34];
    out->commit_index = ch_load64(in + 36);
    out->log_index = ch_load64(in + 44);
    out->inbox_sequence = ch_load64(in + 52);
    out->commit_time_ms = ch_load64(in + 60);
    return true;
}

void ch_query_write(const struct ch_query *query, uint8_t out[CH_QUERY_BYTES])
{
    memcpy(out, query->account, CH_KEY_BYTES);
    ch_store64(out + 32, query->from);
    ch_store16(out + 40, query->limit);
}

bool ch_query_read(const uint8_t *body, size_t length, struct ch_query *out)
{
    if (length != CH_QUERY_BYTES)
        return false;
    memcpy(out->account, body, CH_KEY_BYTES);
    out->from = ch_load64(body + 32);
    out->limit = ch_load16(body + 40);
    return true;
}

void ch_record_write(struct ch_writer *w, const struct ch_record *record)
{
    ch_write64(w, record->inbox_sequence);
    ch_write64(w, record->log_index);
    ch_write64(w, record->commit_index);
    ch_write64(w, record->commit_time_ms);
    ch_write(w, record->tx.bytes, record->tx.length);
}

bool ch_record_read(struct ch_reader *r, struct ch_record *out)
{
    struct ch_record record = {.inbox_sequence = ch_read64(r)};
    record.log_index = ch_read64(r);
    record.commit_index = ch_read64(r);
    record.commit_time_ms = ch_read64(r);
    if (r->bad || ch_tx_parse(r->at, r->left, &record.tx) != CH_STATUS_OK)
        return false;
    (void)ch_read(r, record.tx.length);
    *out = record;
    return true;
}
