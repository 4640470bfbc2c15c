#include "tests/test.h"
#include "wire/rows.h"

static const char account_hex[] =
    "010101010101010101010101010101010101010101010101010101010101010102020202020202020202020202020202"
    "020202020202020202020202020202020303030303030303030303030303030303030303030303030303030303030303"
    "040404040404040404040404040404040404040404040404040404040404040401000000000000000200000000000000"
    "03000000000000000400000001050000616c696365000000000000000000000000000000000000000000000000000000";
static const char relation_hex[] =
    "010101010101010101010101010101010101010101010101010101010101010102020202020202020202020202020202"
    "020202020202020202020202020202021100000000000000220000000000000033000000000000000301000000000000";
static const char entry_hex[] =
    "554433221100000002000000000000000300000000000000040000000000000005050505050505050505050505050505"
    "05050505050505050505050505050505";

static void from_hex(const char *hex, uint8_t *out, size_t length)
{
    assert_int_equal(strlen(hex), 2 * length);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
}

static void golden_account_is_read_and_written(void **state)
{
    uint8_t bytes[CH_ACCOUNT_ROW_BYTES], out[CH_ACCOUNT_ROW_BYTES];
    struct ch_account a;
    from_hex(account_hex, bytes, sizeof bytes);
    assert_true(ch_account_read(bytes, &a));
    assert_int_equal(a.key[0], 1);
    assert_int_equal(a.seal_key[31], 2);
    assert_int_equal(a.registrar[0], 3);
    assert_int_equal(a.inbox_head[31], 4);
    assert_int_equal(a.registered_commit, 1);
    assert_int_equal(a.registered_ms, 2);
    assert_int_equal(a.inbox_sequence, 3);
    assert_int_equal(a.seal_epoch, 4);
    assert_int_equal(a.status, CH_ACCOUNT_REVOKED);
    assert_int_equal(a.handle_length, 5);
    assert_memory_equal(a.handle, "alice", 6);
    ch_account_write(&a, out);
    assert_memory_equal(out, bytes, sizeof bytes);
}

static void account_outside_its_form_is_refused(void **state)
{
    static const struct {
        unsigned at;
        uint8_t byte;
    } changes[] = {{156, 2}, {157, 33}, {157, 4}, {158, 1}, {159, 1}, {191, 1}, {165, 1}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        uint8_t bytes[CH_ACCOUNT_ROW_BYTES];
        struct ch_account a = {.seal_epoch = 77};
        from_hex(account_hex, bytes, sizeof bytes);
        bytes[changes[i].at] = changes[i].byte;
        assert_false(ch_account_read(bytes, &a));
        assert_int_equal(a.seal_epoch, 77);
    }
}

static void golden_relation_is_read_and_written(void **state)
{
    uint8_t bytes[CH_RELATION_ROW_BYTES], out[CH_RELATION_ROW_BYTES];
    struct ch_relation r;
    from_hex(relation_hex, bytes, sizeof bytes);
    assert_true(ch_relation_read(bytes, &r));
    assert_int_equal(r.smaller[0], 1);
    assert_int_equal(r.larger[0], 2);
    assert_int_equal(r.since_ms, 0x11);
    assert_int_equal(r.request_log_index, 0x22);
    assert_int_equal(r.accept_log_index, 0x33);
    assert_int_equal(r.state, CH_RELATION_BOUND);
    assert_int_equal(r.by, 1);
    ch_relation_write(&r, out);
    assert_memory_equal(out, bytes, sizeof bytes);
}

static void relation_outside_its_form_is_refused(void **state)
{
    static const struct {
        unsigned at;
        uint8_t byte;
    } changes[] = {{88, 6}, {89, 2}, {90, 1}, {95, 1}, {0, 9}};
    uint8_t bytes[CH_RELATION_ROW_BYTES];
    struct ch_relation r;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        from_hex(relation_hex, bytes, sizeof bytes);
        bytes[changes[i].at] = changes[i].byte;
        assert_false(ch_relation_read(bytes, &r));
    }
    from_hex(relation_hex, bytes, sizeof bytes);
    memcpy(bytes, bytes + 32, 32); /* with oneself */
    assert_false(ch_relation_read(bytes, &r));
}

static void golden_log_entry_is_read_and_written(void **state)
{
    uint8_t bytes[CH_LOG_ENTRY_BYTES], out[CH_LOG_ENTRY_BYTES];
    struct ch_log_entry e;
    from_hex(entry_hex, bytes, sizeof bytes);
    ch_log_entry_read(bytes, &e);
    assert_int_equal(e.position, 0x1122334455);
    assert_int_equal(e.commit_index, 2);
    assert_int_equal(e.commit_time_ms, 3);
    assert_int_equal(e.inbox_sequence, 4);
    assert_int_equal(e.inbox_head[31], 5);
    ch_log_entry_write(&e, out);
    assert_memory_equal(out, bytes, sizeof bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_account_is_read_and_written),   cmocka_unit_test(account_outside_its_form_is_refused),
        cmocka_unit_test(golden_relation_is_read_and_written),  cmocka_unit_test(relation_outside_its_form_is_refused),
        cmocka_unit_test(golden_log_entry_is_read_and_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
