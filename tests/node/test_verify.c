/* What the verify stage refuses before a transaction is ordered, and for which reason. */
#include "node/verify.h"

#include "base/prng.h"
#include "node/tx_check.h"
#include "store/io_sim.h"
#include "tests/store/scratch.h"
#include "tests/test.h"

#define NOW_MS   (ch_time_unix_ms())
#define REQUESTS 40u

static struct ch_node *node;
static struct ch_sim_disk *disk;
static struct ch_verify *verify;
static struct ch_bell bell;
static struct ch_batch *batch;
static struct ch_sign_key account, stranger, registrar;
static struct ch_tx_prefixes prefixes;
static char folder[SCRATCH_BYTES];
static const uint8_t master_key[CH_OBJECT_KEY_BYTES] = "a key for tests, thirty-two byte";

static int begin(void **state)
{
    const uint64_t now_ms = NOW_MS;
    assert_ok(ch_sign_init());
    node = aligned_alloc(64, (sizeof *node + 63) / 64 * 64);
    batch = malloc(sizeof *batch);
    assert_true(node && batch);
    memset(node, 0, sizeof *node);
    ch_config_defaults(&node->config);
    ch_genesis_defaults(&node->genesis, 1);
    node->committee.n = 1;
    ch_sign_key_new(&account);
    ch_sign_key_new(&stranger);
    ch_sign_key_new(&registrar);
    node->genesis.registrar_count = 1;
    memcpy(node->genesis.registrars[0], registrar.public_key, CH_KEY_BYTES);
    atomic_store(&node->commit_ms, now_ms);
    ch_tx_prefixes_init(&prefixes, node->chain_id);
    scratch_make(folder);
    assert_ok(ch_state_open(&(struct ch_state_options){.folder = folder,
                                                       .map_bytes = 64u << 20,
                                                       .accounts_cached = 1024,
                                                       .relations_cached = 1024,
                                                       .batch_records = 256},
                            &node->state));
    assert_ok(ch_state_begin(node->state));
    struct ch_account row = {.status = CH_ACCOUNT_ACTIVE, .handle_length = 5, .handle = "alice"};
    memcpy(row.key, account.public_key, CH_KEY_BYTES);
    assert_ok(ch_state_account_put(node->state, 0, &row));
    assert_ok(ch_state_commit(node->state, 1, 0, "", 0));
    assert_ok(ch_sim_disk_open(test_seed(), &disk));
    assert_ok(ch_sim_io_open(disk, &node->objects_io));
    const struct ch_object_options objects = {
        .master_key = master_key, .segment_bytes = 16u * 65536, .batch_bytes = 2u * 65536};
    assert_ok(ch_object_open(node->objects_io, "obj", &objects, &node->objects));
    struct ch_ring *const rings[] = {&node->to_verify, &node->to_suspect, &node->to_order, &node->to_hash,
                                     &node->to_serve};
    static const char *const names[] = {"to_verify", "to_suspect", "to_order", "to_hash", "to_serve"};
    for (size_t i = 0; i < 5; i++) {
        assert_ok(ch_ring_open(rings[i], names[i], REQUESTS, false));
        rings[i]->consumer = &bell;
    }
    assert_ok(ch_verify_open(node, &verify));
    return 0;
}

static int end(void **state)
{
    ch_verify_close(verify);
    ch_ring_close(&node->to_verify);
    ch_ring_close(&node->to_suspect);
    ch_ring_close(&node->to_order);
    ch_ring_close(&node->to_hash);
    ch_ring_close(&node->to_serve);
    ch_object_close(node->objects);
    ch_io_close(node->objects_io);
    ch_sim_disk_close(disk);
    ch_state_close(node->state);
    scratch_remove(folder);
    free(batch);
    free(node);
    return 0;
}

/* A message of the sender to itself, signed by `key`; with NULL, by the signature that holds for keys of small order:
 * R = identity, s = 0. */
static enum ch_status verdict_on(const struct ch_tx *given, const struct ch_sign_key *key)
{
    static const uint8_t commitment[CH_HASH_BYTES] = {1}, text[20] = {2};
    struct ch_tx tx = *given;
    if (tx.kind == CH_TX_MESSAGE && !tx.location) {
        tx.inline_bytes = text;
        tx.inline_length = sizeof text;
    }
    tx.peer = tx.peer ? tx.peer : tx.sender;
    tx.commitment = commitment;
    batch->count = 1;
    batch->suspect = false;
    size_t length = ch_tx_encode(&tx, batch->copied);
    assert_true(length > 0);
    if (key)
        ch_sign(key, prefixes.tx, prefixes.tx_length, batch->copied + CH_TX_SIGNED_OFFSET, length - CH_TX_SIGNED_OFFSET,
                batch->copied);
    else
        batch->copied[0] = 1;
    assert_int_equal(ch_tx_parse(batch->copied, length, &batch->txs[0].tx), CH_STATUS_OK);
    assert_true(ch_ring_push_one(&node->to_verify, batch));
    assert_true(ch_verify_poll(verify, 0));
    assert_ptr_equal(ch_ring_pull_one(&node->to_order), batch);
    return (enum ch_status)batch->txs[0].status;
}

static enum ch_status message_from(const uint8_t key[CH_KEY_BYTES], const struct ch_sign_key *signer,
                                   uint64_t timestamp_ms)
{
    return verdict_on(&(struct ch_tx){.kind = CH_TX_MESSAGE, .sender = key, .timestamp_ms = timestamp_ms}, signer);
}

static uint64_t checked(void)
{
    return atomic_load(&node->metrics.verify_signatures_checked_total);
}

static void an_accounts_transaction_passes_and_passes_again(void **state)
{
    assert_int_equal(message_from(account.public_key, &account, NOW_MS), CH_STATUS_OK);
    assert_int_equal(message_from(account.public_key, &account, NOW_MS), CH_STATUS_OK);
    assert_int_equal(message_from(account.public_key, &stranger, NOW_MS), CH_STATUS_BAD_SIGNATURE);
}

static void a_strangers_transaction_is_refused_before_its_signature_is_checked(void **state)
{
    const uint64_t before = checked();
    assert_int_equal(message_from(stranger.public_key, &stranger, NOW_MS), CH_STATUS_NO_SUCH_ACCOUNT);
    assert_int_equal(checked(), before);
}

static void keys_of_small_order_are_strangers_too(void **state)
{
    const uint64_t before = checked();
    uint8_t key[CH_KEY_BYTES] = {0}; /* y = 0: of order 4 */
    assert_int_equal(message_from(key, NULL, NOW_MS), CH_STATUS_NO_SUCH_ACCOUNT);
    key[0] = 1; /* the identity */
    assert_int_equal(message_from(key, NULL, NOW_MS), CH_STATUS_NO_SUCH_ACCOUNT);
    memset(key, 0xff, sizeof key);
    assert_int_equal(message_from(key, NULL, NOW_MS), CH_STATUS_NO_SUCH_ACCOUNT);
    assert_int_equal(checked(), before);
}

static void a_timestamp_outside_the_window_is_named_by_its_side(void **state)
{
    const struct ch_genesis_limits *limits = &node->genesis.limits;
    const uint64_t commit_ms = atomic_load(&node->commit_ms), ahead_ms = limits->window_ahead_ms + 60000;
    const uint64_t old_ms = commit_ms - limits->window_back_ms;
    assert_int_equal(message_from(account.public_key, &account, old_ms), CH_STATUS_OK);
    assert_int_equal(message_from(account.public_key, &account, old_ms - 1), CH_STATUS_TOO_OLD);
    assert_int_equal(message_from(account.public_key, &account, 0), CH_STATUS_TOO_OLD);
    assert_int_equal(message_from(account.public_key, &account, NOW_MS + ahead_ms), CH_STATUS_TOO_EARLY);
    assert_int_equal(message_from(account.public_key, &account, UINT64_MAX - limits->window_back_ms),
                     CH_STATUS_TOO_EARLY);
    assert_int_equal(message_from(account.public_key, &account, UINT64_MAX), CH_STATUS_TOO_EARLY);
}

static void registrations_and_a_registrars_revocation_need_no_account(void **state)
{
    static const uint8_t seal_key[CH_KEY_BYTES] = {9}, no_approval[CH_SIGNATURE_BYTES];
    struct ch_tx tx = {
        .kind = CH_TX_REGISTER,
        .sender = stranger.public_key,
        .timestamp_ms = NOW_MS,
        .seal_key = seal_key,
        .registrar = stranger.public_key,
        .approval_expires_ms = NOW_MS + 1000,
        .approval = no_approval,
        .handle = (const uint8_t *)"bob",
        .handle_length = 3,
    };
    assert_int_equal(verdict_on(&tx, &stranger), CH_STATUS_NOT_REGISTRAR);
    tx.registrar = registrar.public_key;
    assert_int_equal(verdict_on(&tx, &stranger), CH_STATUS_BAD_APPROVAL);
    struct ch_tx revoke = {.kind = CH_TX_REVOKE, .sender = registrar.public_key, .peer = account.public_key,
                           .timestamp_ms = NOW_MS};
    assert_int_equal(verdict_on(&revoke, &registrar), CH_STATUS_OK);
    revoke.sender = stranger.public_key;
    assert_int_equal(verdict_on(&revoke, &stranger), CH_STATUS_NO_SUCH_ACCOUNT);
}

static void a_message_whose_object_is_not_here_is_refused(void **state)
{
    struct ch_cid cid;
    ch_cid_of(CH_CID_RAW, "x", 1, &cid);
    const struct ch_tx tx = {.kind = CH_TX_MESSAGE,
                             .sender = account.public_key,
                             .timestamp_ms = NOW_MS,
                             .location = cid.bytes,
                             .object_size = 1};
    assert_int_equal(verdict_on(&tx, &account), CH_STATUS_NO_SUCH_OBJECT);
}

/* A put whose body has `length` bytes after the CID; `wrong`: the CID is of other bytes. */
static void ask_to_put(struct ch_request *request, const uint8_t key[CH_KEY_BYTES], size_t length, bool wrong)
{
    struct ch_cid cid;
    request->body = malloc(CH_CID_BYTES + length);
    assert_non_null(request->body);
    memset(request->body + CH_CID_BYTES, (int)length, length);
    ch_cid_of(CH_CID_RAW, request->body + CH_CID_BYTES, length, &cid);
    cid.bytes[CH_CID_BYTES - 1] ^= wrong;
    memcpy(request->body, cid.bytes, CH_CID_BYTES);
    memcpy(request->peer_key, key, CH_KEY_BYTES);
    request->header =
        (struct ch_frame_header){.type = CH_FRAME_PUT_OBJECT, .length = (uint32_t)(CH_CID_BYTES + length)};
    assert_true(ch_ring_push_one(&node->to_hash, request));
}

static void blocks_go_on_hashed_and_only_the_cids_own_are_checked(void **state)
{
    static const size_t lengths[] = {0, 1, 4096, 65000, 65001, CH_BLOCK_BYTES_MAX};
    static struct ch_request request[REQUESTS];
    unsigned polls = 0, seen = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        memset(&request[i], 0, sizeof request[i]);
        ask_to_put(&request[i], i % 7 == 6 ? stranger.public_key : account.public_key, lengths[i % 6], i % 5 == 4);
    }
    request[3].header.length = CH_CID_BYTES - 1; /* no put at all */
    while (ch_verify_poll(verify, 0))
        polls++;
    assert_true(polls > 5); /* the large ones one by one */
    for (struct ch_request *r; (r = ch_ring_pull_one(&node->to_serve)) != NULL; seen++) {
        unsigned i = (unsigned)(r - request);
        assert_int_equal(i, seen);
        assert_int_equal(r->hashed, i % 7 != 6 && i != 3);
        assert_int_equal(r->hashed && ch_cid_is_checked(&r->block), r->hashed && i % 5 != 4);
        if (r->hashed) {
            assert_ptr_equal(r->block.bytes, r->body + CH_CID_BYTES);
            assert_int_equal(r->block.length, lengths[i % 6]);
            assert_memory_equal(r->block.cid.bytes, r->body, CH_CID_BYTES);
        }
        free(r->body);
    }
    assert_int_equal(seen, REQUESTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_accounts_transaction_passes_and_passes_again),
        cmocka_unit_test(a_strangers_transaction_is_refused_before_its_signature_is_checked),
        cmocka_unit_test(keys_of_small_order_are_strangers_too),
        cmocka_unit_test(a_timestamp_outside_the_window_is_named_by_its_side),
        cmocka_unit_test(registrations_and_a_registrars_revocation_need_no_account),
        cmocka_unit_test(a_message_whose_object_is_not_here_is_refused),
        cmocka_unit_test(blocks_go_on_hashed_and_only_the_cids_own_are_checked),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
