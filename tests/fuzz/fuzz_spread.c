/* Frames of another validator about objects, one after the other: nothing that it sends reaches an assert or makes a
 * question of ours believed. Input: u8 type (0x30 + low bits) | u8 number of an asked question, high bit: the disk is
 * done | u16 length | body, again and again. */
#include "node/spread.h"

#include <stdlib.h>

static uint8_t keys[4][CH_HASH_BYTES], chain_id[CH_HASH_BYTES], out[CH_FRAME_BODY_BYTES_MAX];
static uint64_t cookies[64];
static unsigned cookie_count;

static bool has(void *context, enum ch_spread_kind kind, const uint8_t *name)
{
    return kind == CH_SPREAD_SHARD && name[0] & 1;
}

static ch_err get(void *context, enum ch_spread_kind kind, const uint8_t *name, uint8_t *to, size_t capacity,
                  size_t *length, uint64_t *put_ms)
{
    return CH_ERR_NOT_FOUND;
}

static ch_err put(void *context, const struct ch_spread_record *record, uint64_t cookie)
{
    if (cookie_count == sizeof cookies / sizeof *cookies)
        return CH_ERR_FULL;
    cookies[cookie_count++] = cookie;
    return record->name[1] & 7 ? CH_OK : CH_ERR_NO_SPACE;
}

static ch_err drop(void *context, enum ch_spread_kind kind, const uint8_t *name)
{
    return CH_ERR_NOT_FOUND;
}

static ch_err list(void *context, enum ch_spread_kind kind, uint64_t *cursor, uint8_t (*names)[CH_HASH_BYTES],
                   size_t max, size_t *count, bool *end)
{
    *count = max < 3 ? max : 3;
    memset(names, 1, *count * CH_HASH_BYTES);
    *end = ++*cursor > 4;
    return CH_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ch_sign_key key;
    struct ch_spread *spread;
    struct ch_spread_done done;
    struct ch_frame_header header;
    uint64_t asked[32] = {0}, now_ns = 1;
    unsigned asks = 0;
    uint16_t to;
    CH_ASSERT(ch_sign_init() == CH_OK);
    ch_sign_key_from_seed((const uint8_t[CH_SIGN_SEED_BYTES]){7}, &key);
    for (unsigned i = 0; i < 4; i++)
        memset(keys[i], (int)i, CH_HASH_BYTES);
    memcpy(keys[0], key.public_key, CH_HASH_BYTES);
    cookie_count = 0;
    const struct ch_spread_setup setup = {.validators = 4,
                                          .keys = (const uint8_t(*)[CH_HASH_BYTES])keys,
                                          .key = &key,
                                          .chain_id = chain_id,
                                          .store = {NULL, has, get, put, drop, list},
                                          .repair_bytes_per_second = 1 << 30};
    CH_ASSERT(ch_spread_open(&setup, &spread) == CH_OK);
    for (uint16_t i = 1; i < 4; i++)
        ch_spread_peer(spread, i, true);
    static const uint8_t block[CH_CODED_BYTES_MIN + 5];
    struct ch_cid cid, unknown;
    ch_cid_of(CH_CID_RAW, block, sizeof block, &cid);
    ch_cid_of(CH_CID_RAW, block, 9, &unknown);
    struct ch_cid_block checked;
    CH_ASSERT(ch_cid_check(&cid, block, sizeof block, &checked) && ch_spread_put(spread, &checked, 0, 1) == CH_OK);
    CH_ASSERT(ch_spread_get(spread, &unknown, 2) == CH_OK && ch_spread_restore(spread, &unknown, 3) == CH_OK);
    for (struct ch_reader r = ch_reader(data, size); r.left >= 4;) {
        uint8_t type = ch_read8(&r), number = ch_read8(&r);
        uint16_t length = ch_read16(&r);
        length = length < r.left ? length : (uint16_t)r.left;
        const uint8_t *body = ch_read(&r, length);
        header = (struct ch_frame_header){.type = (uint16_t)(CH_FRAME_PUT_OBJECT_SHARD + type % 7),
                                          .length = length,
                                          .request = asked[number % 32]};
        bool taken = ch_spread_frame(spread, (uint16_t)(type / 7 % 5), &header, body);
        if (!taken || number & 0x80) {
            for (unsigned i = 0; i < cookie_count; i++)
                ch_spread_durable(spread, cookies[i]);
            cookie_count = 0;
        }
        ch_spread_tick(spread, now_ns += UINT64_C(150000000));
        while (ch_spread_next_send(spread, &to, &header, out)) {
            CH_ASSERT(to >= 1 && to < 4 && header.length <= sizeof out);
            asked[asks++ % 32] = header.request;
        }
        while (ch_spread_next_done(spread, &done)) /* nobody can sign here; what is got is what was asked for */
            CH_ASSERT(done.status != CH_STATUS_OK ||
                      (done.ticket == 2 && done.length == 9 && memcmp(done.block, block, 9) == 0));
    }
    ch_spread_close(spread);
    return 0;
}
