/* The signatures of payloads that other validators made: in batches over several of them, and none a second time. */
#include "node/tx_check.h"

#include "tests/test.h"

#define PAYLOADS 3
#define TXS      700

static struct ch_node node;
static struct ch_tx_prefixes prefixes;
static struct ch_sign_key account, registrar;
static struct ch_tx_check *check;
static struct ch_payload payloads[PAYLOADS];

static void put(struct ch_payload *p, const struct ch_tx *tx)
{
    uint8_t *out = p->bytes + p->length;
    size_t length = ch_tx_encode(tx, out);
    assert_true(length > 0);
    ch_sign(&account, prefixes.tx, prefixes.tx_length, out + CH_TX_SIGNED_OFFSET, length - CH_TX_SIGNED_OFFSET, out);
    p->txs[p->count++] = (struct ch_payload_tx){.offset = p->length};
    p->length += (uint32_t)length;
}

static void put_message(struct ch_payload *p, uint32_t salt)
{
    uint8_t commitment[CH_HASH_BYTES] = {1}, text[20] = {2};
    put(p, &(struct ch_tx){.kind = CH_TX_MESSAGE,
                           .sender = account.public_key,
                           .peer = account.public_key,
                           .timestamp_ms = 5,
                           .salt = salt,
                           .commitment = commitment,
                           .inline_bytes = text,
                           .inline_length = sizeof text});
}

static void put_registration(struct ch_payload *p, bool approved)
{
    uint8_t approval[CH_SIGNATURE_BYTES] = {0}, message[CH_APPROVAL_MESSAGE_BYTES_MAX], seal[32] = {9};
    struct ch_tx tx = {.kind = CH_TX_REGISTER,
                       .sender = account.public_key,
                       .timestamp_ms = 5,
                       .seal_key = seal,
                       .registrar = registrar.public_key,
                       .approval_expires_ms = 9,
                       .approval = approval,
                       .handle = (const uint8_t *)"somebody",
                       .handle_length = 8};
    if (approved)
        ch_sign(&registrar, prefixes.approve, prefixes.approve_length, message, ch_tx_approval_message(&tx, message),
                approval);
    put(p, &tx);
}

static int begin(void **state)
{
    node.config.stages_cached_keys = 16;
    memset(node.chain_id, 3, sizeof node.chain_id);
    memset(&node.metrics, 0, sizeof node.metrics);
    ch_tx_prefixes_init(&prefixes, node.chain_id);
    ch_sign_key_new(&account);
    ch_sign_key_new(&registrar);
    for (unsigned i = 0; i < PAYLOADS; i++) {
        payloads[i].bytes = malloc(TXS * CH_TX_BYTES_MAX);
        payloads[i].txs = calloc(TXS, sizeof *payloads[i].txs);
        payloads[i].length = payloads[i].count = 0;
    }
    return ch_tx_check_open(&node, &check) == CH_OK ? 0 : -1;
}

static int end(void **state)
{
    ch_tx_check_close(check);
    for (unsigned i = 0; i < PAYLOADS; i++) {
        free(payloads[i].bytes);
        free(payloads[i].txs);
    }
    return 0;
}

static uint64_t checked(void)
{
    return atomic_load(&node.metrics.apply_signatures_checked_total);
}

static void run(void)
{
    for (unsigned i = 0; i < PAYLOADS; i++)
        ch_tx_check_add(check, &payloads[i]);
    ch_tx_check_end(check);
}

static void payloads_of_a_commit_share_their_batches(void **state)
{
    for (unsigned i = 0; i < PAYLOADS; i++)
        for (uint32_t k = 0; k < 100; k++)
            put_message(&payloads[i], i * 1000 + k);
    payloads[1].bytes[payloads[1].txs[50].offset + 40] ^= 1; /* in s */
    run();
    for (unsigned i = 0; i < PAYLOADS; i++)
        for (uint32_t k = 0; k < 100; k++)
            assert_int_equal(payloads[i].txs[k].signature_ok, !(i == 1 && k == 50));
    assert_int_equal(checked(), 300);
    assert_int_equal(atomic_load(&node.metrics.apply_signature_batches_total), 1);
    assert_int_equal(atomic_load(&node.metrics.apply_signatures_known_total), 0);
}

static void more_than_a_batch_is_checked_to_the_last(void **state)
{
    for (unsigned i = 0; i < PAYLOADS; i++)
        for (uint32_t k = 0; k < TXS; k++)
            put_message(&payloads[i], i * 1000 + k);
    payloads[2].bytes[payloads[2].txs[TXS - 1].offset + 40] ^= 1;
    run();
    for (unsigned i = 0; i < PAYLOADS; i++)
        for (uint32_t k = 0; k < TXS; k++)
            assert_int_equal(payloads[i].txs[k].signature_ok, !(i == 2 && k == TXS - 1));
    assert_int_equal(checked(), PAYLOADS * TXS);
    assert_int_equal(atomic_load(&node.metrics.apply_signature_batches_total), 3);
}

static void what_was_verified_before_is_not_verified_again(void **state)
{
    for (uint32_t k = 0; k < 100; k++)
        put_message(&payloads[0], k);
    for (uint32_t k = 0; k < 100; k += 2)
        payloads[0].txs[k].signature_ok = true;
    run();
    for (uint32_t k = 0; k < 100; k++)
        assert_true(payloads[0].txs[k].signature_ok);
    assert_int_equal(checked(), 50);
    assert_int_equal(atomic_load(&node.metrics.apply_signatures_known_total), 50);
}

static void a_registration_without_approval_is_told_from_one_with(void **state)
{
    put_registration(&payloads[0], true);
    put_registration(&payloads[1], false);
    run();
    assert_true(payloads[0].txs[0].signature_ok && payloads[0].txs[0].approval_ok);
    assert_true(payloads[1].txs[0].signature_ok && !payloads[1].txs[0].approval_ok);
    assert_int_equal(checked(), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(payloads_of_a_commit_share_their_batches, begin, end),
        cmocka_unit_test_setup_teardown(more_than_a_batch_is_checked_to_the_last, begin, end),
        cmocka_unit_test_setup_teardown(what_was_verified_before_is_not_verified_again, begin, end),
        cmocka_unit_test_setup_teardown(a_registration_without_approval_is_told_from_one_with, begin, end),
    };
    return ch_sign_init() == CH_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
