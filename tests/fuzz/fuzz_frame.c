/* A frame's header picks the decoder of its body; what is read is written back to the same bytes. */
#include "base/error.h"
#include "wire/frame.h"
#include "wire/genesis.h"

static void hello(const uint8_t *body, size_t length)
{
    struct ch_hello h;
    uint8_t again[CH_HELLO_FRAME_BYTES];
    if (!ch_hello_read(body, length, &h))
        return;
    ch_hello_write(&h, again);
    CH_ASSERT(length == sizeof again && memcmp(again, body, length) == 0);
}

static void receipts(struct ch_reader r)
{
    for (unsigned left = ch_read16(&r); left && !r.bad; left--) {
        const uint8_t *bytes = ch_read(&r, CH_RECEIPT_BYTES);
        struct ch_receipt receipt;
        uint8_t again[CH_RECEIPT_BYTES];
        if (!bytes || !ch_receipt_read(bytes, &receipt))
            return;
        ch_receipt_write(&receipt, again);
        CH_ASSERT(memcmp(again, bytes, sizeof again) == 0);
    }
}

static void account(struct ch_reader r)
{
    (void)ch_read(&r, 10);
    const uint8_t *bytes = ch_read(&r, CH_ACCOUNT_ROW_BYTES);
    struct ch_account a;
    uint8_t again[CH_ACCOUNT_ROW_BYTES];
    if (!bytes || !ch_account_read(bytes, &a))
        return;
    ch_account_write(&a, again);
    CH_ASSERT(memcmp(again, bytes, sizeof again) == 0);
}

static void relations(struct ch_reader r)
{
    (void)ch_read(&r, 12);
    for (const uint8_t *bytes; ch_read(&r, 8) && (bytes = ch_read(&r, CH_RELATION_ROW_BYTES));) {
        struct ch_relation relation;
        uint8_t again[CH_RELATION_ROW_BYTES];
        if (!ch_relation_read(bytes, &relation))
            return;
        ch_relation_write(&relation, again);
        CH_ASSERT(memcmp(again, bytes, sizeof again) == 0);
    }
}

static void query(const uint8_t *body, size_t length)
{
    struct ch_query q;
    uint8_t again[CH_QUERY_BYTES];
    if (!ch_query_read(body, length, &q))
        return;
    ch_query_write(&q, again);
    CH_ASSERT(memcmp(again, body, sizeof again) == 0);
}

static void records(struct ch_reader r)
{
    (void)ch_read(&r, 12);
    for (;;) {
        const uint8_t *at = r.at;
        struct ch_record record;
        if (!ch_record_read(&r, &record))
            return;
        uint8_t again[CH_RECORD_HEADER_BYTES + CH_TX_BYTES_MAX];
        struct ch_writer w = ch_writer(again, sizeof again);
        ch_record_write(&w, &record);
        CH_ASSERT(!w.bad && w.used == (size_t)(r.at - at) && memcmp(again, at, w.used) == 0);
    }
}

static void submit(struct ch_reader r)
{
    struct ch_tx tx;
    while (r.left && ch_tx_parse(r.at, r.left, &tx) == CH_STATUS_OK)
        (void)ch_read(&r, tx.length);
}

/* The genesis travels in no frame; a type that no frame has leads to it. */
static void genesis(const uint8_t *body, size_t length)
{
    static struct ch_genesis g;
    static uint8_t again[CH_GENESIS_BYTES_MAX];
    if (ch_genesis_decode(body, length, &g) == CH_OK) {
        CH_ASSERT(ch_genesis_encode(&g, again) == length);
        CH_ASSERT(memcmp(again, body, length) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < CH_FRAME_HEADER_BYTES)
        return 0;
    struct ch_frame_header header = ch_frame_header_read(data);
    uint8_t again[CH_FRAME_HEADER_BYTES];
    ch_frame_header_write(&header, again);
    CH_ASSERT(memcmp(again, data, sizeof again) == 0);
    const uint8_t *body = data + CH_FRAME_HEADER_BYTES;
    size_t length = size - CH_FRAME_HEADER_BYTES;
    struct ch_reader r = ch_reader(body, length);
    switch (header.type) {
    case CH_FRAME_HELLO:
        hello(body, length);
        break;
    case CH_FRAME_SUBMIT:
        submit(r);
        break;
    case CH_FRAME_RECEIPTS:
        receipts(r);
        break;
    case CH_FRAME_ACCOUNT:
        account(r);
        break;
    case CH_FRAME_RELATIONS:
        relations(r);
        break;
    case CH_FRAME_GET_RELATIONS:
    case CH_FRAME_GET_INBOX:
    case CH_FRAME_WATCH_INBOX:
        query(body, length);
        break;
    case CH_FRAME_RECORDS:
        records(r);
        break;
    case 0xffff:
        genesis(body, length);
        break;
    }
    return 0;
}
