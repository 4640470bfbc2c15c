#include "wire/tx.h"

const char *ch_tx_kind_name(uint16_t kind)
{
    switch (kind) {
#define X(name, number)                                                                                                \
    case number:                                                                                                       \
        return #name;
        CH_TX_KIND_LIST(X)
#undef X
    }
    return "UNKNOWN";
}

/* CIDv1, raw or dag-pb, sha2-256 of 32 bytes. */
static bool location_valid(const uint8_t *location, uint64_t object_size)
{
    if (location[0] != 0x01 || location[2] != 0x12 || location[3] != 0x20)
        return false;
    if (location[1] == 0x55)
        return object_size >= 1 && object_size <= CH_OBJECT_LEAF_BYTES;
    return location[1] == 0x70 && object_size > CH_OBJECT_LEAF_BYTES;
}

static bool all_zero(const uint8_t *bytes, size_t length)
{
    uint8_t any = 0;
    for (size_t i = 0; i < length; i++)
        any |= bytes[i];
    return any == 0;
}

uint16_t ch_tx_length(const uint8_t *bytes, size_t available)
{
    const uint16_t length = available >= CH_TX_BYTES_MIN ? ch_load16(bytes + CH_TX_LENGTH_OFFSET) : 0;
    return length >= CH_TX_BYTES_MIN && length <= CH_TX_BYTES_MAX && length <= available ? length : 0;
}

enum ch_status ch_tx_parse(const uint8_t *bytes, size_t available, struct ch_tx *out)
{
    const uint16_t length = ch_tx_length(bytes, available);
    if (!length)
        return CH_STATUS_MALFORMED;
    struct ch_tx tx = {
        .bytes = bytes,
        .sender = bytes + CH_TX_SIGNED_OFFSET,
        .timestamp_ms = ch_load64(bytes + 96),
        .kind = ch_load16(bytes + 104),
        .length = length,
        .salt = ch_load32(bytes + 108),
    };
    struct ch_reader body = ch_reader(bytes + CH_TX_BYTES_MIN, tx.length - (size_t)CH_TX_BYTES_MIN);
    switch (tx.kind) {
    case CH_TX_REGISTER:
        tx.seal_key = ch_read(&body, CH_KEY_BYTES);
        tx.registrar = ch_read(&body, CH_KEY_BYTES);
        tx.approval_expires_ms = ch_read64(&body);
        tx.approval = ch_read(&body, CH_SIGNATURE_BYTES);
        tx.handle_length = ch_read8(&body);
        tx.handle = ch_read(&body, tx.handle_length);
        break;
    case CH_TX_ROTATE_SEAL_KEY:
        tx.seal_key = ch_read(&body, CH_KEY_BYTES);
        break;
    case CH_TX_BIND_REQUEST:
    case CH_TX_BIND_ACCEPT:
        tx.peer = ch_read(&body, CH_KEY_BYTES);
        tx.hello_length = ch_read16(&body);
        tx.hello = ch_read(&body, tx.hello_length);
        if (tx.hello_length > CH_HELLO_BYTES_MAX)
            return CH_STATUS_MALFORMED;
        break;
    case CH_TX_REVOKE:
    case CH_TX_BIND_REFUSE:
    case CH_TX_UNBIND_REQUEST:
    case CH_TX_UNBIND_CONFIRM:
        tx.peer = ch_read(&body, CH_KEY_BYTES);
        break;
    case CH_TX_MESSAGE:
        tx.peer = ch_read(&body, CH_KEY_BYTES);
        tx.commitment = ch_read(&body, CH_HASH_BYTES);
        tx.location = ch_read(&body, CH_LOCATION_BYTES);
        tx.object_size = ch_read64(&body);
        tx.inline_length = ch_read16(&body);
        tx.inline_bytes = ch_read(&body, tx.inline_length);
        if (!ch_reader_done(&body))
            return CH_STATUS_MALFORMED;
        if (all_zero(tx.location, CH_LOCATION_BYTES)) {
            tx.location = NULL;
            if (tx.object_size != 0 || tx.inline_length == 0)
                return CH_STATUS_MALFORMED;
        } else if (!location_valid(tx.location, tx.object_size)) {
            return CH_STATUS_MALFORMED;
        }
        break;
    default:
        return CH_STATUS_MALFORMED;
    }
    if (!ch_reader_done(&body))
        return CH_STATUS_MALFORMED;
    *out = tx;
    return CH_STATUS_OK;
}

static void write_field(struct ch_writer *w, const uint8_t *field, size_t length)
{
    if (!field)
        w->bad = length != 0;
    else
        ch_write(w, field, length);
}

size_t ch_tx_encode(const struct ch_tx *tx, uint8_t *out)
{
    static const uint8_t no_location[CH_LOCATION_BYTES];
    struct ch_writer w = ch_writer(out, CH_TX_BYTES_MAX);
    memset(ch_write_room(&w, CH_SIGNATURE_BYTES), 0, CH_SIGNATURE_BYTES);
    write_field(&w, tx->sender, CH_KEY_BYTES);
    ch_write64(&w, tx->timestamp_ms);
    ch_write16(&w, tx->kind);
    ch_write16(&w, 0);
    ch_write32(&w, tx->salt);
    switch (tx->kind) {
    case CH_TX_REGISTER:
        write_field(&w, tx->seal_key, CH_KEY_BYTES);
        write_field(&w, tx->registrar, CH_KEY_BYTES);
        ch_write64(&w, tx->approval_expires_ms);
        write_field(&w, tx->approval, CH_SIGNATURE_BYTES);
        ch_write8(&w, tx->handle_length);
        write_field(&w, tx->handle, tx->handle_length);
        break;
    case CH_TX_ROTATE_SEAL_KEY:
        write_field(&w, tx->seal_key, CH_KEY_BYTES);
        break;
    case CH_TX_BIND_REQUEST:
    case CH_TX_BIND_ACCEPT:
        write_field(&w, tx->peer, CH_KEY_BYTES);
        ch_write16(&w, tx->hello_length);
        write_field(&w, tx->hello, tx->hello_length);
        break;
    case CH_TX_MESSAGE:
        write_field(&w, tx->peer, CH_KEY_BYTES);
        write_field(&w, tx->commitment, CH_HASH_BYTES);
        write_field(&w, tx->location ? tx->location : no_location, CH_LOCATION_BYTES);
        ch_write64(&w, tx->object_size);
        ch_write16(&w, tx->inline_length);
        write_field(&w, tx->inline_bytes, tx->inline_length);
        break;
    default:
        write_field(&w, tx->peer, CH_KEY_BYTES);
        break;
    }
    struct ch_tx check;
    if (w.bad)
        return 0;
    ch_store16(out + CH_TX_LENGTH_OFFSET, (uint16_t)w.used);
    return ch_tx_parse(out, w.used, &check) == CH_STATUS_OK ? w.used : 0;
}

size_t ch_tx_approval_message(const struct ch_tx *tx, uint8_t *out)
{
    struct ch_writer w = ch_writer(out, CH_APPROVAL_MESSAGE_BYTES_MAX);
    ch_write(&w, tx->sender, CH_KEY_BYTES);
    ch_write(&w, tx->seal_key, CH_KEY_BYTES);
    ch_write64(&w, tx->approval_expires_ms);
    ch_write8(&w, tx->handle_length);
    ch_write(&w, tx->handle, tx->handle_length);
    return w.used;
}

size_t ch_sign_prefix(const char *domain, const uint8_t chain_id[CH_HASH_BYTES], uint8_t out[CH_SIGN_PREFIX_BYTES_MAX])
{
    size_t length = strlen(domain) + 1;
    CH_ASSERT(length + CH_HASH_BYTES <= CH_SIGN_PREFIX_BYTES_MAX);
    memcpy(out, domain, length);
    memcpy(out + length, chain_id, CH_HASH_BYTES);
    return length + CH_HASH_BYTES;
}

bool ch_handle_valid(const uint8_t *handle, size_t length)
{
    if (length < CH_HANDLE_BYTES_MIN || length > CH_HANDLE_BYTES_MAX || handle[0] < 'a' || handle[0] > 'z')
        return false;
    for (size_t i = 0; i < length; i++) {
        uint8_t c = handle[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'))
            return false;
    }
    return true;
}
