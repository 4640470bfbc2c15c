#include "tests/test.h"
#include "wire/frame.h"

static void from_hex(const char *hex, uint8_t *out, size_t length)
{
    assert_int_equal(strlen(hex), 2 * length);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
}

static void golden_header_is_read_and_written(void **state)
{
    uint8_t bytes[CH_FRAME_HEADER_BYTES], out[CH_FRAME_HEADER_BYTES];
    from_hex("2a000000150003008877665544332211", bytes, sizeof bytes);
    struct ch_frame_header h = ch_frame_header_read(bytes);
    assert_int_equal(h.length, 42);
    assert_int_equal(h.type, CH_FRAME_GET_INBOX);
    assert_int_equal(h.flags, CH_FRAME_FLAG_WANT_FINAL | CH_FRAME_FLAG_WANT_SIGNED);
    assert_int_equal(h.request, 0x1122334455667788);
    ch_frame_header_write(&h, out);
    assert_memory_equal(out, bytes, sizeof bytes);
}

static const char hello_hex[] =
    "01000200030000000068e5cf8b0100000101010101010101010101010101010101010101010101010101010101010101"
    "0400000009000000080000000000000007000000";

static void golden_hello_is_read_and_written(void **state)
{
    uint8_t bytes[CH_HELLO_FRAME_BYTES], out[CH_HELLO_FRAME_BYTES];
    struct ch_hello h;
    from_hex(hello_hex, bytes, sizeof bytes);
    assert_true(ch_hello_read(bytes, sizeof bytes, &h));
    assert_int_equal(h.version, 1);
    assert_int_equal(h.role, CH_ROLE_VALIDATOR);
    assert_int_equal(h.epoch, 3);
    assert_int_equal(h.time_ms, 1700000000000);
    assert_int_equal(h.chain_id[31], 1);
    assert_int_equal(h.index, 4);
    assert_int_equal(h.round, 9);
    assert_int_equal(h.last_commit, 8);
    assert_int_equal(h.gc_round, 7);
    ch_hello_write(&h, out);
    assert_memory_equal(out, bytes, sizeof bytes);
}

static void hello_outside_its_form_is_refused(void **state)
{
    uint8_t bytes[CH_HELLO_FRAME_BYTES + 1] = {0};
    struct ch_hello h = {.round = 77};
    from_hex(hello_hex, bytes, CH_HELLO_FRAME_BYTES);
    for (size_t cut = 0; cut < CH_HELLO_FRAME_BYTES; cut++)
        assert_false(ch_hello_read(bytes, cut, &h));
    assert_false(ch_hello_read(bytes, sizeof bytes, &h));
    bytes[2] = 3; /* no such role */
    assert_false(ch_hello_read(bytes, CH_HELLO_FRAME_BYTES, &h));
    bytes[2] = 2;
    bytes[50] = 1; /* reserved */
    assert_false(ch_hello_read(bytes, CH_HELLO_FRAME_BYTES, &h));
    assert_int_equal(h.round, 77);
}

static void golden_receipt_is_read_and_written(void **state)
{
    uint8_t bytes[CH_RECEIPT_BYTES], out[CH_RECEIPT_BYTES];
    struct ch_receipt r;
    from_hex("010101010101010101010101010101010101010101010101010101010101010105000100010000000000000002000000"
             "0000000003000000000000000068e5cf8b010000",
             bytes, sizeof bytes);
    assert_true(ch_receipt_read(bytes, &r));
    assert_int_equal(r.tx_id[31], 1);
    assert_int_equal(r.status, CH_STATUS_DUPLICATE);
    assert_int_equal(r.level, CH_LEVEL_FINAL);
    assert_int_equal(r.commit_index, 1);
    assert_int_equal(r.log_index, 2);
    assert_int_equal(r.inbox_sequence, 3);
    assert_int_equal(r.commit_time_ms, 1700000000000);
    ch_receipt_write(&r, out);
    assert_memory_equal(out, bytes, sizeof bytes);
    bytes[34] = 3; /* no such level */
    assert_false(ch_receipt_read(bytes, &r));
    bytes[34] = 1;
    bytes[35] = 1; /* reserved */
    assert_false(ch_receipt_read(bytes, &r));
}

static void golden_query_is_read_and_written(void **state)
{
    uint8_t bytes[CH_QUERY_BYTES + 1] = {0}, out[CH_QUERY_BYTES];
    struct ch_query q;
    from_hex("01010101010101010101010101010101010101010101010101010101010101014d000000000000000a00", bytes,
             CH_QUERY_BYTES);
    assert_true(ch_query_read(bytes, CH_QUERY_BYTES, &q));
    assert_int_equal(q.account[0], 1);
    assert_int_equal(q.from, 77);
    assert_int_equal(q.limit, 10);
    ch_query_write(&q, out);
    assert_memory_equal(out, bytes, CH_QUERY_BYTES);
    for (size_t cut = 0; cut < CH_QUERY_BYTES; cut++)
        assert_false(ch_query_read(bytes, cut, &q));
    assert_false(ch_query_read(bytes, sizeof bytes, &q));
}

static void records_follow_each_other(void **state)
{
    static const uint8_t key[32] = {5};
    uint8_t tx_bytes[2][CH_TX_BYTES_MAX], bytes[2000], again[2000];
    struct ch_writer w = ch_writer(bytes, sizeof bytes);
    struct ch_record records[2], read;
    for (unsigned i = 0; i < 2; i++) {
        struct ch_tx tx = {
            .kind = i ? CH_TX_ROTATE_SEAL_KEY : CH_TX_REVOKE, .sender = key, .peer = key, .seal_key = key};
        size_t length = ch_tx_encode(&tx, tx_bytes[i]);
        assert_true(length > 0);
        records[i] = (struct ch_record){i, 10 + i, 20 + i, 30 + i, {0}};
        assert_int_equal(ch_tx_parse(tx_bytes[i], length, &records[i].tx), CH_STATUS_OK);
        ch_record_write(&w, &records[i]);
    }
    assert_false(w.bad);
    assert_int_equal(w.used, 2 * (CH_RECORD_HEADER_BYTES + 144));
    assert_int_equal(ch_load64(bytes + 8), 10);
    struct ch_reader r = ch_reader(bytes, w.used);
    struct ch_writer w2 = ch_writer(again, sizeof again);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(ch_record_read(&r, &read));
        assert_int_equal(read.inbox_sequence, i);
        assert_int_equal(read.log_index, 10 + i);
        assert_int_equal(read.commit_index, 20 + i);
        assert_int_equal(read.commit_time_ms, 30 + i);
        assert_int_equal(read.tx.kind, records[i].tx.kind);
        ch_record_write(&w2, &read);
    }
    assert_true(ch_reader_done(&r));
    assert_memory_equal(bytes, again, w.used);
    assert_false(ch_record_read(&r, &read));
    for (size_t cut = 0; cut < CH_RECORD_HEADER_BYTES + 144; cut++) {
        r = ch_reader(bytes, cut);
        assert_false(ch_record_read(&r, &read));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_header_is_read_and_written), cmocka_unit_test(golden_hello_is_read_and_written),
        cmocka_unit_test(hello_outside_its_form_is_refused), cmocka_unit_test(golden_receipt_is_read_and_written),
        cmocka_unit_test(golden_query_is_read_and_written),  cmocka_unit_test(records_follow_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
