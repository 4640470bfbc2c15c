/* A transaction of each kind, as the verify stage sees it: whole it holds; cut anywhere, or with any bit of it flipped,
 * it is refused by its form or by the verifier, alone and in a batch. */
#include "crypto/sign.h"
#include "node/tx_check.h"
#include "tests/test.h"

#define FLIPS_MAX (8 * CH_TX_BYTES_MAX)

static struct ch_sign_key sender, registrar, other;
static struct ch_tx_prefixes prefixes;
static struct ch_ed25519 *verifier;

static const uint16_t kinds[] = {CH_TX_REGISTER,       CH_TX_ROTATE_SEAL_KEY, CH_TX_REVOKE,
                                 CH_TX_BIND_REQUEST,   CH_TX_BIND_ACCEPT,     CH_TX_BIND_REFUSE,
                                 CH_TX_UNBIND_REQUEST, CH_TX_UNBIND_CONFIRM,  CH_TX_MESSAGE};

/* Signed as its sender and, where it is asked for, the registrar would; returns the length. */
static size_t make(uint16_t kind, uint8_t *out)
{
    static uint8_t seal_key[32] = {9}, commitment[32] = {1}, location[36] = {0x01, 0x55, 0x12, 0x20, 7},
                   text[40] = "sealed";
    uint8_t approval[CH_SIGNATURE_BYTES] = {0}, message[CH_APPROVAL_MESSAGE_BYTES_MAX];
    struct ch_tx tx = {
        .kind = kind,
        .salt = 5,
        .timestamp_ms = 1760000000000,
        .sender = sender.public_key,
        .peer = other.public_key,
        .seal_key = seal_key,
        .registrar = registrar.public_key,
        .approval = approval,
        .approval_expires_ms = 1760000100000,
        .handle = (const uint8_t *)"alice",
        .handle_length = 5,
        .hello = text,
        .hello_length = 11,
        .commitment = commitment,
        .location = location,
        .object_size = 70000,
        .inline_bytes = text,
        .inline_length = sizeof text,
    };
    ch_sign(&registrar, prefixes.approve, prefixes.approve_length, message, ch_tx_approval_message(&tx, message),
            approval);
    size_t length = ch_tx_encode(&tx, out);
    assert_true(length > CH_TX_SIGNED_OFFSET);
    ch_sign(&sender, prefixes.tx, prefixes.tx_length, out + CH_TX_SIGNED_OFFSET, length - CH_TX_SIGNED_OFFSET, out);
    return length;
}

static void whole_one_holds(void **state)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        uint8_t bytes[CH_TX_BYTES_MAX], approval[CH_APPROVAL_MESSAGE_BYTES_MAX];
        struct ch_ed25519_item items[2];
        struct ch_tx tx;
        bool valid[2] = {false, false};
        size_t length = make(kinds[k], bytes);
        assert_int_equal(ch_tx_parse(bytes, length, &tx), CH_STATUS_OK);
        size_t count = ch_tx_items(&prefixes, &tx, items, approval);
        assert_int_equal(count, kinds[k] == CH_TX_REGISTER ? 2 : 1);
        ch_ed25519_verify(verifier, items, count, valid);
        assert_true(valid[0] && (count == 1 || valid[1]));
    }
}

static void cut_anywhere_it_is_malformed(void **state)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        uint8_t bytes[CH_TX_BYTES_MAX];
        struct ch_tx tx;
        size_t length = make(kinds[k], bytes);
        for (size_t cut = 0; cut < length; cut++) {
            uint8_t *exact = malloc(cut ? cut : 1); /* so that the sanitizer sees a byte too far */
            memcpy(exact, bytes, cut);
            assert_int_equal(ch_tx_parse(exact, cut, &tx), CH_STATUS_MALFORMED);
            free(exact);
        }
    }
}

static void any_flipped_bit_is_refused(void **state)
{
    static uint8_t copies[FLIPS_MAX][CH_TX_BYTES_MAX], approvals[FLIPS_MAX][CH_APPROVAL_MESSAGE_BYTES_MAX];
    static struct ch_ed25519_item items[2 * FLIPS_MAX];
    static bool valid[2 * FLIPS_MAX];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        uint8_t bytes[CH_TX_BYTES_MAX];
        size_t length = make(kinds[k], bytes), parsed = 0;
        for (size_t bit = 0; bit < 8 * length; bit++) {
            struct ch_ed25519_item pair[2];
            struct ch_tx tx;
            memcpy(copies[parsed], bytes, length);
            copies[parsed][bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (ch_tx_parse(copies[parsed], length, &tx) != CH_STATUS_OK)
                continue;
            (void)ch_tx_items(&prefixes, &tx, pair, approvals[parsed]);
            items[parsed++] = pair[0]; /* the sender's, which covers the approval too */
        }
        assert_true(parsed > 8 * CH_SIGNATURE_BYTES); /* a signature's bits have no form */
        for (size_t at = 0; at < parsed; at += 1024)
            ch_ed25519_verify(verifier, items + at, parsed - at < 1024 ? parsed - at : 1024, valid + at);
        for (size_t i = 0; i < parsed; i++)
            assert_false(valid[i]);
        for (size_t i = 0; i < parsed; i += 97)
            assert_false(ch_ed25519_verify_reference(&items[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_one_holds),
        cmocka_unit_test(cut_anywhere_it_is_malformed),
        cmocka_unit_test(any_flipped_bit_is_refused),
    };
    const struct ch_ed25519_options options = {.batch_max = 1024, .cached_keys_max = 64};
    const uint8_t chain_id[CH_HASH_BYTES] = {3};
    if (ch_sign_init() != CH_OK || ch_ed25519_open(&options, &verifier) != CH_OK)
        return 1;
    ch_sign_key_new(&sender);
    ch_sign_key_new(&registrar);
    ch_sign_key_new(&other);
    ch_tx_prefixes_init(&prefixes, chain_id);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ch_ed25519_close(verifier);
    return failed;
}
