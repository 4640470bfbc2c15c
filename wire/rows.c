#include "wire/rows.h"

void ch_account_write(const struct ch_account *a, uint8_t out[CH_ACCOUNT_ROW_BYTES])
{
    struct ch_writer w = ch_writer(out, CH_ACCOUNT_ROW_BYTES);
    uint8_t handle[32] = {0};
    memcpy(handle, a->handle, a->handle_length);
    ch_write(&w, a->key, 32);
    ch_write(&w, a->seal_key, 32);
    ch_write(&w, a->registrar, 32);
    ch_write(&w, a->inbox_head, 32);
    ch_write64(&w, a->registered_commit);
    ch_write64(&w, a->registered_ms);
    ch_write64(&w, a->inbox_sequence);
    ch_write32(&w, a->seal_epoch);
    ch_write8(&w, a->status);
    ch_write8(&w, a->handle_length);
    ch_write16(&w, 0);
    ch_write(&w, handle, 32);
    CH_ASSERT(!w.bad && w.used == CH_ACCOUNT_ROW_BYTES);
}

bool ch_account_read(const uint8_t in[CH_ACCOUNT_ROW_BYTES], struct ch_account *out)
{
    struct ch_account a;
    memcpy(a.key, in, 32);
    memcpy(a.seal_key, in + 32, 32);
    memcpy(a.registrar, in + 64, 32);
    memcpy(a.inbox_head, in + 96, 32);
    a.registered_commit = ch_load64(in + 128);
    a.registered_ms = ch_load64(in + 136);
    a.inbox_sequence = ch_load64(in + 144);
    a.seal_epoch = ch_load32(in + 152);
    a.status = in[156];
    a.handle_length = in[157];
    uint16_t zero = ch_load16(in + 158);
    memcpy(a.handle, in + 160, 32);
    if (zero || a.status > CH_ACCOUNT_REVOKED || a.handle_length > 32)
        return false;
    for (unsigned i = a.handle_length; i < 32; i++)
        if (a.handle[i])
            return false;
    *out = a;
    return true;
}

void ch_relation_write(const struct ch_relation *relation, uint8_t out[CH_RELATION_ROW_BYTES])
{
    memset(out, 0, CH_RELATION_ROW_BYTES);
    memcpy(out, relation->smaller, 32);
    memcpy(out + 32, relation->larger, 32);
    ch_store64(out + 64, relation->since_ms);
    ch_store64(out + 72, relation->request_log_index);
    ch_store64(out + 80, relation->accept_log_index);
    out[88] = relation->state;
    out[89] = relation->by;
}

bool ch_relation_read(const uint8_t in[CH_RELATION_ROW_BYTES], struct ch_relation *out)
{
    if (in[88] > CH_RELATION_UNBOUND || in[89] > 1 || memcmp(in, in + 32, 32) >= 0)
        return false;
    for (unsigned i = 90; i < CH_RELATION_ROW_BYTES; i++)
        if (in[i])
            return false;
    memcpy(out->smaller, in, 32);
    memcpy(out->larger, in + 32, 32);
    out->since_ms = ch_load64(in + 64);
    out->request_log_index = ch_load64(in + 72);
    out->accept_log_index = ch_load64(in + 80);
    out->state = in[88];
    out->by = in[89];
    return true;
}

void ch_log_entry_write(const struct ch_log_entry *entry, uint8_t out[CH_LOG_ENTRY_BYTES])
{
    ch_store64(out, entry->position);
    ch_store64(out + 8, entry->commit_index);
    ch_store64(out + 16, entry->commit_time_ms);
    ch_store64(out + 24, entry->inbox_sequence);
    memcpy(out + 32, entry->inbox_head, CH_HASH_BYTES);
}

void ch_log_entry_read(const uint8_t in[CH_LOG_ENTRY_BYTES], struct ch_log_entry *out)
{
    out->position = ch_load64(in);
    out->commit_index = ch_load64(in + 8);
    out->commit_time_ms = ch_load64(in + 16);
    out->inbox_sequence = ch_load64(in + 24);
    memcpy(out->inbox_head, in + 32, CH_HASH_BYTES);
}
