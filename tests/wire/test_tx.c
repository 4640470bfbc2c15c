/* Transactions: bytes written out by hand, every truncation, every flipped bit. */
#include "tests/test.h"
#include "wire/tx.h"

#include <sodium.h>

/* Sender a1.., timestamp 1700000000123, salt 7, signature zeros. */
static const char *const golden[] = {
    /* REGISTER */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b0100000101fe00070000000202020202020202020202020202020202020202020202020202020202020202"
    "030303030303030303030303030303030303030303030303030303030303030300505c18a30100000404040404040404"
    "040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404"
    "040404040404040405616c696365",
    /* ROTATE_SEAL_KEY */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b01000002019000070000000202020202020202020202020202020202020202020202020202020202020202",
    /* REVOKE */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b01000003019000070000000505050505050505050505050505050505050505050505050505050505050505",
    /* BIND_REQUEST */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b01000001029700070000000505050505050505050505050505050505050505050505050505050505050505"
    "050068656c6c6f",
    /* BIND_ACCEPT */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b01000002029200070000000505050505050505050505050505050505050505050505050505050505050505"
    "0000",
    /* BIND_REFUSE */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b01000003029000070000000505050505050505050505050505050505050505050505050505050505050505",
    /* UNBIND_REQUEST */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b01000004029000070000000505050505050505050505050505050505050505050505050505050505050505",
    /* UNBIND_CONFIRM */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b01000005029000070000000505050505050505050505050505050505050505050505050505050505050505",
    /* MESSAGE inline */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b0100000103ed00070000000505050505050505050505050505050505050505050505050505050505050505"
    "060606060606060606060606060606060606060606060606060606060606060600000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000f00010200000063697068657274657874",
    /* MESSAGE object */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b0100000103de00070000000505050505050505050505050505050505050505050505050505050505050505"
    "060606060606060606060606060606060606060606060606060606060606060601551220090909090909090909090909"
    "090909090909090909090909090909090909090988130000000000000000",
    /* MESSAGE both */
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
    "7b68e5cf8b0100000103e300070000000505050505050505050505050505050505050505050505050505050505050505"
    "060606060606060606060606060606060606060606060606060606060606060601701220090909090909090909090909"
    "0909090909090909090909090909090909090909000050000000000005000100000000",
};

#define GOLDEN (sizeof golden / sizeof *golden)

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
    return length;
}

static const uint8_t *repeated(uint8_t byte)
{
    static uint8_t keys[16][32];
    memset(keys[byte & 15], byte, 32);
    return keys[byte & 15];
}

/* The values that the golden bytes hold. */
static struct ch_tx value(size_t i)
{
    static uint8_t sender[32], leaf[36] = {1, 0x55, 0x12, 0x20}, root[36] = {1, 0x70, 0x12, 0x20}, approval[64];
    memset(sender, 0xa1, 32);
    memset(leaf + 4, 9, 32);
    memset(root + 4, 9, 32);
    memset(approval, 4, 64);
    static const uint16_t kinds[GOLDEN] = {CH_TX_REGISTER,       CH_TX_ROTATE_SEAL_KEY, CH_TX_REVOKE,
                                           CH_TX_BIND_REQUEST,   CH_TX_BIND_ACCEPT,     CH_TX_BIND_REFUSE,
                                           CH_TX_UNBIND_REQUEST, CH_TX_UNBIND_CONFIRM,  CH_TX_MESSAGE,
                                           CH_TX_MESSAGE,        CH_TX_MESSAGE};
    struct ch_tx tx = {.kind = kinds[i], .sender = sender, .timestamp_ms = 1700000000123, .salt = 7};
    switch (tx.kind) {
    case CH_TX_REGISTER:
        tx.seal_key = repeated(2);
        tx.registrar = repeated(3);
        tx.approval_expires_ms = 1800000000000;
        tx.approval = approval;
        tx.handle = (const uint8_t *)"alice";
        tx.handle_length = 5;
        break;
    case CH_TX_ROTATE_SEAL_KEY:
        tx.seal_key = repeated(2);
        break;
    default:
        tx.peer = repeated(5);
        break;
    }
    if (tx.kind == CH_TX_BIND_REQUEST || tx.kind == CH_TX_BIND_ACCEPT) {
        tx.hello = (const uint8_t *)"hello";
        tx.hello_length = tx.kind == CH_TX_BIND_REQUEST ? 5 : 0;
    }
    if (tx.kind == CH_TX_MESSAGE) {
        tx.commitment = repeated(6);
        tx.location = i == 8 ? NULL : i == 9 ? leaf : root;
        tx.object_size = i == 8 ? 0 : i == 9 ? 5000 : 5 << 20;
        tx.inline_bytes = (const uint8_t *)(i == 8 ? "\1\2\0\0\0ciphertext" : "\1\0\0\0\0");
        tx.inline_length = i == 8 ? 15 : i == 9 ? 0 : 5;
    }
    return tx;
}

static void same(const uint8_t *a, const uint8_t *b, size_t length)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a && length)
        assert_memory_equal(a, b, length);
}

static void golden_bytes_are_read_and_written(void **state)
{
    for (size_t i = 0; i < GOLDEN; i++) {
        uint8_t bytes[CH_TX_BYTES_MAX], out[CH_TX_BYTES_MAX];
        size_t length = from_hex(golden[i], bytes);
        struct ch_tx v = value(i), tx;
        assert_int_equal(ch_tx_encode(&v, out), length);
        assert_memory_equal(out, bytes, length);
        assert_int_equal(ch_tx_parse(bytes, length, &tx), CH_STATUS_OK);
        assert_int_equal(tx.length, length);
        assert_int_equal(tx.kind, v.kind);
        assert_int_equal(tx.salt, v.salt);
        assert_int_equal(tx.timestamp_ms, v.timestamp_ms);
        same(tx.sender, v.sender, 32);
        same(tx.peer, v.peer, 32);
        same(tx.seal_key, v.seal_key, 32);
        same(tx.registrar, v.registrar, 32);
        same(tx.approval, v.approval, 64);
        assert_int_equal(tx.approval_expires_ms, v.approval_expires_ms);
        assert_int_equal(tx.handle_length, v.handle_length);
        same(tx.handle, v.handle, v.handle_length);
        assert_int_equal(tx.hello_length, v.hello_length);
        same(tx.hello, v.hello, v.hello_length);
        same(tx.commitment, v.commitment, 32);
        same(tx.location, v.location, 36);
        assert_int_equal(tx.object_size, v.object_size);
        assert_int_equal(tx.inline_length, v.inline_length);
        same(tx.inline_bytes, v.inline_bytes, v.inline_length);
    }
}

static void truncated_transactions_are_refused(void **state)
{
    for (size_t i = 0; i < GOLDEN; i++) {
        uint8_t bytes[CH_TX_BYTES_MAX];
        size_t length = from_hex(golden[i], bytes);
        struct ch_tx tx = {.salt = 99};
        for (size_t cut = 0; cut < length; cut++) {
            uint8_t *exact = malloc(cut ? cut : 1); /* so that a sanitizer sees a read past the end */
            assert_non_null(exact);
            memcpy(exact, bytes, cut);
            assert_int_equal(ch_tx_parse(exact, cut, &tx), CH_STATUS_MALFORMED);
            /* and with a length that tells of the cut */
            if (cut >= CH_TX_BYTES_MIN) {
                ch_store16(exact + CH_TX_LENGTH_OFFSET, (uint16_t)cut);
                assert_int_equal(ch_tx_parse(exact, cut, &tx), CH_STATUS_MALFORMED);
            }
            free(exact);
        }
        assert_int_equal(tx.salt, 99); /* untouched */
    }
}

static void trailing_bytes_are_refused(void **state)
{
    for (size_t i = 0; i < GOLDEN; i++) {
        uint8_t bytes[CH_TX_BYTES_MAX + 1] = {0};
        size_t length = from_hex(golden[i], bytes);
        struct ch_tx tx;
        assert_int_equal(ch_tx_parse(bytes, length + 1, &tx), CH_STATUS_OK); /* the next one's bytes may follow */
        assert_int_equal(tx.length, length);
        ch_store16(bytes + CH_TX_LENGTH_OFFSET, (uint16_t)(length + 1));
        assert_int_equal(ch_tx_parse(bytes, length + 1, &tx), CH_STATUS_MALFORMED);
    }
}

static void flipped_bits_are_refused_by_form_or_signature(void **state)
{
    uint8_t public[32], secret[64], chain_id[32] = {8}, prefix[CH_SIGN_PREFIX_BYTES_MAX];
    assert_true(sodium_init() >= 0);
    crypto_sign_keypair(public, secret);
    size_t prefix_length = ch_sign_prefix(CH_DOMAIN_TX, chain_id, prefix);
    for (size_t i = 0; i < GOLDEN; i++) {
        uint8_t bytes[CH_TX_BYTES_MAX], signed_bytes[CH_SIGN_PREFIX_BYTES_MAX + CH_TX_BYTES_MAX];
        size_t length = from_hex(golden[i], bytes), passed = 0;
        struct ch_tx tx;
        memcpy(bytes + 64, public, 32);
        memcpy(signed_bytes, prefix, prefix_length);
        memcpy(signed_bytes + prefix_length, bytes + 64, length - 64);
        crypto_sign_detached(bytes, NULL, signed_bytes, prefix_length + length - 64, secret);
        for (size_t bit = 0; bit <= 8 * length; bit++) {
            if (bit < 8 * length)
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (ch_tx_parse(bytes, length, &tx) == CH_STATUS_OK) {
                memcpy(signed_bytes + prefix_length, tx.bytes + 64, tx.length - 64u);
                passed += crypto_sign_verify_detached(tx.bytes, signed_bytes, prefix_length + tx.length - 64u,
                                                      tx.sender) == 0;
            }
            if (bit < 8 * length) {
                assert_int_equal(passed, 0);
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            }
        }
        assert_int_equal(passed, 1); /* the one that nobody touched */
    }
}

static enum ch_status parse(const struct ch_tx *v, void (*change)(uint8_t *))
{
    uint8_t bytes[CH_TX_BYTES_MAX];
    struct ch_tx tx;
    size_t length = ch_tx_encode(v, bytes);
    assert_true(length > 0);
    change(bytes);
    return ch_tx_parse(bytes, length, &tx);
}

static void unknown_kind(uint8_t *b)
{
    ch_store16(b + 104, 0x0104);
}
static void kind_zero(uint8_t *b)
{
    ch_store16(b + 104, 0);
}
static void longer_length(uint8_t *b)
{
    ch_store16(b + 106, 1201);
}
static void zero_length(uint8_t *b)
{
    ch_store16(b + 106, 0);
}
static void other_codec(uint8_t *b)
{
    b[112 + 64 + 1] = 0x71;
}
static void other_hash(uint8_t *b)
{
    b[112 + 64 + 2] = 0x13;
}
static void cid_version_0(uint8_t *b)
{
    b[112 + 64] = 0;
}
static void leaf_as_root(uint8_t *b)
{
    b[112 + 64 + 1] = 0x70;
}
static void size_without_location(uint8_t *b)
{
    memset(b + 112 + 64, 0, 36);
}
static void empty_object(uint8_t *b)
{
    ch_store64(b + 112 + 100, 0);
}
static void object_of_a_leaf_and_a_byte(uint8_t *b)
{
    ch_store64(b + 112 + 100, CH_OBJECT_LEAF_BYTES + 1);
}
static void object_of_a_leaf(uint8_t *b)
{
    ch_store64(b + 112 + 100, CH_OBJECT_LEAF_BYTES);
}

static void forms_outside_the_rules_are_refused(void **state)
{
    struct ch_tx object = value(9), rotate = value(1);
    assert_int_equal(parse(&rotate, unknown_kind), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&rotate, kind_zero), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&rotate, longer_length), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&rotate, zero_length), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&object, other_codec), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&object, other_hash), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&object, cid_version_0), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&object, leaf_as_root), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&object, size_without_location), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&object, empty_object), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&object, object_of_a_leaf_and_a_byte), CH_STATUS_MALFORMED);
    assert_int_equal(parse(&object, object_of_a_leaf), CH_STATUS_OK);

    /* A message of neither kind of content; fields beyond their sizes. */
    uint8_t out[CH_TX_BYTES_MAX];
    static const uint8_t filler[CH_TX_BYTES_MAX];
    struct ch_tx tx = value(8);
    tx.inline_length = 0;
    assert_int_equal(ch_tx_encode(&tx, out), 0);
    tx.inline_bytes = filler;
    tx.inline_length = CH_INLINE_BYTES_MAX;
    assert_int_equal(ch_tx_encode(&tx, out), CH_TX_BYTES_MAX);
    tx.inline_length++;
    assert_int_equal(ch_tx_encode(&tx, out), 0);
    tx = value(3);
    tx.hello = filler;
    tx.hello_length = CH_HELLO_BYTES_MAX;
    assert_int_equal(ch_tx_encode(&tx, out), 112 + 34 + 512);
    tx.hello_length++;
    assert_int_equal(ch_tx_encode(&tx, out), 0);
    tx.peer = NULL;
    assert_int_equal(ch_tx_encode(&tx, out), 0);
}

static void random_bytes_never_crash(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t bytes[CH_TX_BYTES_MAX], again[CH_TX_BYTES_MAX];
        struct ch_tx tx;
        size_t length = from_hex(golden[ch_prng_below(&g, GOLDEN)], bytes);
        for (uint64_t i = ch_prng_below(&g, 5); i-- > 0;)
            bytes[96 + ch_prng_below(&g, length - 96)] = (uint8_t)ch_prng_next(&g);
        if (ch_tx_parse(bytes, length, &tx) == CH_STATUS_OK) {
            assert_int_equal(ch_tx_encode(&tx, again), tx.length);
            assert_memory_equal(again + 64, bytes + 64, tx.length - 64u);
        }
    }
}

static void handles_are_short_plain_words(void **state)
{
    static const char *const good[] = {"abc", "a.b", "a-_9", "zz9", "a0123456789012345678901234567890"};
    static const char *const bad[] = {"",    "ab",        "9ab", ".ab",   "Abc", "aBc",
                                      "a b", "a\xc3\xa9", "a/b", "abc\n", "-ab", "a01234567890123456789012345678901"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(ch_handle_valid((const uint8_t *)good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ch_handle_valid((const uint8_t *)bad[i], strlen(bad[i])));
    assert_false(ch_handle_valid((const uint8_t *)"ab\0c", 4));
}

static void approval_and_prefix_are_as_written(void **state)
{
    uint8_t out[CH_APPROVAL_MESSAGE_BYTES_MAX], bytes[CH_TX_BYTES_MAX], expected[78], prefix[CH_SIGN_PREFIX_BYTES_MAX];
    struct ch_tx tx;
    assert_int_equal(ch_tx_parse(bytes, from_hex(golden[0], bytes), &tx), CH_STATUS_OK);
    memset(expected, 0xa1, 32);
    memset(expected + 32, 2, 32);
    ch_store64(expected + 64, 1800000000000);
    memcpy(expected + 72, "\5alice", 6);
    assert_int_equal(ch_tx_approval_message(&tx, out), sizeof expected);
    assert_memory_equal(out, expected, sizeof expected);
    assert_int_equal(ch_sign_prefix(CH_DOMAIN_TX, repeated(3), prefix), 48);
    assert_memory_equal(prefix, "chappe/sig/tx/1\0\3\3\3\3", 20);
}

static void statuses_and_kinds_have_names(void **state)
{
    assert_string_equal(ch_status_name(CH_STATUS_BAD_HANDLE), "BAD_HANDLE");
    assert_string_equal(ch_status_name(9999), "UNKNOWN");
    assert_string_equal(ch_status_text(CH_STATUS_OK), "done");
    assert_string_equal(ch_status_text(9999), "unknown status");
    assert_string_equal(ch_tx_kind_name(CH_TX_MESSAGE), "MESSAGE");
    assert_string_equal(ch_tx_kind_name(0), "UNKNOWN");
    for (unsigned i = 0; i < CH_STATUS_NUMBERS_MAX; i++)
        assert_non_null(ch_status_text((uint16_t)i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes_are_read_and_written),
        cmocka_unit_test(truncated_transactions_are_refused),
        cmocka_unit_test(trailing_bytes_are_refused),
        cmocka_unit_test(flipped_bits_are_refused_by_form_or_signature),
        cmocka_unit_test(forms_outside_the_rules_are_refused),
        cmocka_unit_test(random_bytes_never_crash),
        cmocka_unit_test(handles_are_short_plain_words),
        cmocka_unit_test(approval_and_prefix_are_as_written),
        cmocka_unit_test(statuses_and_kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
