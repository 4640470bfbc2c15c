/* The library against a node in a thread of its own, over the loopback interface. */
#include "tests/test.h"

#include "client/chat.h"
#include "tests/client/fake_node.h"

#include <fcntl.h>
#include <unistd.h>

static struct ch_prng prng;
static uint8_t chain_id[32] = {0xc4};
static struct fake_node *node;
static struct ch_account_keys alice, bob;
static struct ch_sign_key registrar;

static struct ch_client *client_of(const struct ch_account_keys *who, uint32_t timeout_ms)
{
    struct ch_client *c;
    static uint8_t expected[1][32];
    memcpy(expected[0], fake_node_key(node), 32);
    const struct ch_client_options options = {
        .address = fake_node_address(node),
        .chain_id = chain_id,
        .key = &who->sign,
        .peer_keys = expected,
        .peer_key_count = 1,
        .timeout_ms = timeout_ms,
    };
    assert_ok(ch_client_open(&options, &c, NULL));
    return c;
}

static ch_err register_as(struct ch_client *c, const struct ch_account_keys *who, const char *handle,
                          struct ch_receipt *receipt)
{
    struct ch_approval approval = {0};
    memcpy(approval.key, who->sign.public_key, 32);
    memcpy(approval.seal_key, ch_account_seal_key(who)->key.public_key, 32);
    snprintf(approval.handle, sizeof approval.handle, "%s", handle);
    ch_approve(&registrar, chain_id, ch_time_unix_ms() + 1000, &approval);
    assert_true(ch_approval_holds(chain_id, &approval));
    return ch_chat_register(c, who, &approval, receipt);
}

static int setup(void **state)
{
    node = fake_node_start(chain_id);
    ch_account_new(&alice);
    ch_account_new(&bob);
    ch_sign_key_new(&registrar);
    return 0;
}

static int teardown(void **state)
{
    fake_node_stop(node);
    return 0;
}

/* Both registered; *certificate is Bob's row. */
static struct ch_client *with_accounts(struct ch_client **bobs, struct ch_account *certificate)
{
    struct ch_receipt receipt;
    struct ch_client *c = client_of(&alice, 10000);
    *bobs = client_of(&bob, 10000);
    assert_ok(register_as(c, &alice, "alice", &receipt));
    assert_ok(register_as(*bobs, &bob, "bob", &receipt));
    assert_ok(ch_client_get_handle(c, "bob", certificate));
    return c;
}

static void registration_is_applied_and_read_back(void **state)
{
    struct ch_client *c = client_of(&alice, 10000);
    struct ch_receipt receipt;
    struct ch_account account;
    assert_int_equal(ch_client_get_handle(c, "alice", &account), CH_ERR_REFUSED);
    assert_int_equal(ch_client_status(c), CH_STATUS_NOT_FOUND);
    assert_ok(register_as(c, &alice, "alice", &receipt));
    assert_int_equal(receipt.status, CH_STATUS_OK);
    assert_int_equal(receipt.level, CH_LEVEL_FINAL);
    assert_ok(ch_client_get_account(c, alice.sign.public_key, &account));
    assert_memory_equal(account.seal_key, alice.seal[0].key.public_key, 32);
    assert_int_equal(register_as(c, &alice, "alice", &receipt), CH_ERR_REFUSED);
    assert_int_equal(ch_client_status(c), CH_STATUS_KEY_TAKEN);
    assert_int_equal(receipt.status, CH_STATUS_KEY_TAKEN);
    assert_int_equal(ch_client_get_handle(c, "No Handle", &account), CH_ERR_REFUSED);
    assert_int_equal(ch_client_status(c), CH_STATUS_BAD_HANDLE);
    ch_client_close(c);
}

static void other_chain_or_key_refused(void **state)
{
    struct ch_client *c;
    uint8_t other[1][32] = {{9}};
    struct ch_client_options options = {
        .address = fake_node_address(node), .chain_id = other[0], .key = &alice.sign, .timeout_ms = 5000};
    assert_ok(ch_client_open(&options, &c, NULL));
    assert_int_equal(ch_client_connect(c), CH_ERR_WRONG_CHAIN);
    ch_client_close(c);
    options.chain_id = chain_id;
    options.peer_keys = (const uint8_t(*)[32])other;
    options.peer_key_count = 1;
    assert_ok(ch_client_open(&options, &c, NULL));
    assert_int_equal(ch_client_connect(c), CH_ERR_DENIED);
    ch_client_close(c);
}

static void nobody_there_is_told_at_once(void **state)
{
    struct ch_client *c = client_of(&alice, 60000);
    char address[64];
    snprintf(address, sizeof address, "%s", fake_node_address(node));
    fake_node_stop(node);
    uint64_t before = ch_time_monotonic_ns();
    assert_int_equal(ch_client_connect(c), CH_ERR_CLOSED);
    assert_true(ch_time_monotonic_ns() - before < UINT64_C(50000000000)); /* not the timeout */
    assert_non_null(strstr(ch_client_why(c), "nobody listens"));
    ch_client_close(c);
    node = fake_node_start(chain_id);
    char why[CH_CLIENT_WHY_BYTES] = "";
    struct ch_client_options options = {.address = "nonsense", .chain_id = chain_id, .key = &alice.sign};
    assert_int_equal(ch_client_open(&options, &c, why), CH_ERR_INVALID);
    assert_true(strlen(why) > 0);
}

static void refusal_names_its_reason(void **state)
{
    struct ch_client *c = client_of(&alice, 10000);
    struct ch_receipt receipt;
    fake_node_faults(node)->refuse_status = CH_STATUS_WINDOW_FULL;
    assert_int_equal(register_as(c, &alice, "alice", &receipt), CH_ERR_REFUSED);
    assert_int_equal(receipt.status, CH_STATUS_WINDOW_FULL);
    assert_non_null(strstr(ch_client_why(c), "WINDOW_FULL"));
    fake_node_faults(node)->refuse_frame = CH_STATUS_RATE_LIMITED; /* above the peer's rate: the frame as a whole */
    assert_int_equal(register_as(c, &alice, "alice", &receipt), CH_ERR_REFUSED);
    assert_int_equal(receipt.status, CH_STATUS_RATE_LIMITED);
    assert_non_null(strstr(ch_client_why(c), "RATE_LIMITED"));
    assert_int_equal(ch_chat_relate(c, &alice, CH_TX_BIND_REQUEST, bob.sign.public_key, &receipt), CH_ERR_REFUSED);
    assert_int_equal(receipt.status, CH_STATUS_NO_SUCH_ACCOUNT);
    ch_client_close(c);
}

static void lost_connection_repeats_and_applies_once(void **state)
{
    struct ch_client *c = client_of(&alice, 10000);
    struct ch_receipt receipt;
    fake_node_faults(node)->hang_up_before_final = 1;
    assert_ok(register_as(c, &alice, "alice", &receipt));
    assert_int_equal(receipt.status, CH_STATUS_DUPLICATE);
    assert_int_equal(fake_node_applied(node), 1);
    ch_client_close(c);
}

static void silence_is_a_timeout(void **state)
{
    struct ch_client *c = client_of(&alice, 300);
    struct ch_account account;
    assert_ok(ch_client_connect(c));
    fake_node_faults(node)->silent = 1;
    assert_int_equal(ch_client_get_handle(c, "alice", &account), CH_ERR_TIMEOUT);
    assert_int_equal(ch_client_get_handle(c, "alice", &account), CH_ERR_REFUSED);
    ch_client_close(c);
}

static void submit_signed(struct ch_client *c, ch_err expected)
{
    uint8_t tx[CH_TX_BYTES_MAX], prefix[CH_SIGN_PREFIX_BYTES_MAX];
    struct ch_receipt receipt;
    struct ch_tx fields = {.kind = CH_TX_BIND_REQUEST,
                           .sender = alice.sign.public_key,
                           .peer = bob.sign.public_key,
                           .timestamp_ms = ch_time_unix_ms(),
                           .salt = (uint32_t)ch_prng_next(&prng)};
    size_t length = ch_tx_encode(&fields, tx);
    ch_sign(&alice.sign, prefix, ch_sign_prefix(CH_DOMAIN_TX, chain_id, prefix), tx + 64, length - 64, tx);
    assert_int_equal(ch_client_submit(c, tx, length, true, &receipt), expected);
}

static void signed_receipt_is_checked(void **state)
{
    struct ch_account certificate;
    struct ch_client *bobs, *c = with_accounts(&bobs, &certificate);
    submit_signed(c, CH_OK);
    fake_node_faults(node)->corrupt_proof = 1;
    submit_signed(c, CH_ERR_PROTOCOL);
    ch_client_close(c);
    ch_client_close(bobs);
}

struct inbox {
    const struct ch_account_keys *owner;
    unsigned count, enough;
    struct ch_incoming last;
    uint64_t sequence, log_index;
    uint8_t sender[32];
};

static bool take(void *context, const struct ch_record *record)
{
    struct inbox *in = context;
    in->count++;
    in->sequence = record->inbox_sequence;
    in->log_index = record->log_index;
    memcpy(in->sender, record->tx.sender, 32);
    ch_chat_open(in->owner, &record->tx, &in->last);
    return in->count != in->enough;
}

static void text_arrives_inline(void **state)
{
    struct ch_account certificate;
    struct ch_client *bobs, *c = with_accounts(&bobs, &certificate);
    struct ch_outgoing out = {.text = "Ligne de Lille", .text_length = 14, .file = -1};
    struct ch_receipt receipt;
    struct inbox in = {.owner = &bob};
    uint64_t last;
    assert_ok(ch_chat_send(c, &alice, &certificate, &out, &receipt));
    assert_int_equal(receipt.inbox_sequence, 1);
    assert_int_equal(fake_node_blocks(node), 0);
    assert_ok(ch_client_get_inbox(bobs, bob.sign.public_key, 1, 10, take, &in, &last));
    assert_int_equal(in.count, 1);
    assert_int_equal(last, 1);
    assert_int_equal(in.last.verdict, CH_SEAL_OK);
    assert_int_equal(in.last.text_length, 14);
    assert_memory_equal(in.last.text, "Ligne de Lille", 14);
    assert_memory_equal(in.sender, alice.sign.public_key, 32);
    /* the same record by index */
    struct inbox single = {.owner = &bob};
    assert_ok(ch_client_get_record(bobs, in.log_index, NULL, take, &single));
    assert_int_equal(single.count, 1);
    assert_int_equal(ch_client_get_record(bobs, 1000, NULL, take, &single), CH_ERR_REFUSED);
    /* and not from one who doesn't hold the key */
    struct inbox eve = {.owner = &alice};
    assert_ok(ch_client_get_inbox(bobs, bob.sign.public_key, 1, 10, take, &eve, &last));
    assert_int_equal(eve.last.verdict, CH_SEAL_BROKEN);
    ch_client_close(c);
    ch_client_close(bobs);
}

static void forged_record_refused(void **state)
{
    struct ch_account certificate;
    struct ch_client *bobs, *c = with_accounts(&bobs, &certificate);
    struct ch_outgoing out = {.text = "x", .text_length = 1, .file = -1};
    struct ch_receipt receipt;
    struct inbox in = {.owner = &bob};
    uint64_t last;
    assert_ok(ch_chat_send(c, &alice, &certificate, &out, &receipt));
    fake_node_faults(node)->forge_record = 1;
    assert_int_equal(ch_client_get_inbox(bobs, bob.sign.public_key, 1, 10, take, &in, &last), CH_ERR_PROTOCOL);
    assert_int_equal(in.count, 0);
    ch_client_close(c);
    ch_client_close(bobs);
}

struct bytes {
    uint8_t *data;
    size_t used, capacity;
};

static ch_err keep(void *context, const uint8_t *data, size_t length)
{
    struct bytes *b = context;
    if (length > b->capacity - b->used)
        return CH_ERR_FULL;
    memcpy(b->data + b->used, data, length);
    b->used += length;
    return CH_OK;
}

static void count_progress(void *context, uint64_t done, uint64_t total)
{
    *(unsigned *)context += 1;
}

/* Sends a file of that size and reads it back; false in `fetched` when the fetch should fail with CH_ERR_PROTOCOL. */
static void file_round_trip(size_t size, bool fetched)
{
    struct ch_account certificate;
    struct ch_client *bobs, *c = with_accounts(&bobs, &certificate);
    struct bytes content = {test_malloc(size + 1), size, size + 1}, got = {test_malloc(size + 1), 0, size + 1};
    struct ch_receipt receipt;
    char path[] = "test_client.XXXXXX", name[CH_ENVELOPE_NAME_BYTES_MAX + 1];
    unsigned progressed = 0;
    uint64_t last;
    test_random_bytes(&prng, content.data, size);
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, content.data, size), (ssize_t)size);
    assert_int_equal(lseek(file, 0, SEEK_SET), 0);
    unlink(path);
    struct ch_outgoing out = {.text = "regarde",
                              .text_length = 7,
                              .file = file,
                              .file_name = "image.png",
                              .file_bytes = size,
                              .progress = count_progress,
                              .progress_context = &progressed};
    assert_ok(ch_chat_send(c, &alice, &certificate, &out, &receipt));
    close(file);
    assert_true(progressed > 0);

    struct inbox in = {.owner = &bob};
    assert_ok(ch_client_get_inbox(bobs, bob.sign.public_key, 1, 10, take, &in, &last));
    assert_int_equal(in.last.verdict, CH_SEAL_OK);
    assert_true(in.last.has_object);
    assert_int_equal(in.last.content_bytes, size);
    assert_memory_equal(in.last.text, "regarde", 7);
    assert_memory_equal(in.last.name, "image.png", 9);
    assert_ok(ch_client_has_object(bobs, &in.last.object));

    enum ch_seal_verdict verdict = CH_SEAL_STOPPED;
    uint8_t type = 0;
    ch_err err = ch_chat_fetch(bobs, &bob, &in.last, keep, &got, count_progress, &progressed, name, &type, &verdict);
    if (fetched) {
        assert_ok(err);
        assert_int_equal(verdict, CH_SEAL_OK);
        assert_int_equal(type, CH_ENVELOPE_FILE);
        assert_string_equal(name, "image.png");
        assert_int_equal(got.used, size);
        assert_memory_equal(got.data, content.data, size);
        in.last.object_commitment[0] ^= 1;
        got.used = 0;
        assert_ok(ch_chat_fetch(bobs, &bob, &in.last, keep, &got, NULL, NULL, name, &type, &verdict));
        assert_int_equal(verdict, CH_SEAL_BAD_COMMITMENT);
        got.capacity = 0; /* the reader's disk is full */
        got.used = 0;
        if (size)
            assert_int_equal(ch_chat_fetch(bobs, &bob, &in.last, keep, &got, NULL, NULL, name, &type, &verdict),
                             CH_ERR_FULL);
    } else {
        assert_int_equal(err, CH_ERR_PROTOCOL);
    }
    test_free(content.data);
    test_free(got.data);
    ch_client_close(c);
    ch_client_close(bobs);
}

static void small_file_arrives(void **state)
{
    file_round_trip(1234, true);
    assert_int_equal(fake_node_blocks(node), 1);
}

static void empty_file_arrives(void **state)
{
    file_round_trip(0, true);
}

static void large_file_arrives(void **state)
{
    file_round_trip(5u << 20, true);
    assert_int_equal(fake_node_blocks(node), 7); /* six leaves, the root */
}

static void busy_and_restarting_node_gets_the_file_anyway(void **state)
{
    fake_node_faults(node)->overloaded = 2;
    fake_node_faults(node)->hang_up_at_put = 1;
    file_round_trip(3u << 20, true);
}

static void changed_object_refused(void **state)
{
    fake_node_faults(node)->corrupt_object = 1;
    file_round_trip(3u << 20, false);
}

static void long_text_becomes_an_object(void **state)
{
    struct ch_account certificate;
    struct ch_client *bobs, *c = with_accounts(&bobs, &certificate);
    static char text[5000];
    memset(text, 'x', sizeof text);
    struct ch_outgoing out = {.text = text, .text_length = sizeof text, .file = -1};
    struct ch_receipt receipt;
    struct inbox in = {.owner = &bob};
    struct bytes got = {test_malloc(5000), 0, 5000};
    char name[CH_ENVELOPE_NAME_BYTES_MAX + 1];
    enum ch_seal_verdict verdict = CH_SEAL_STOPPED;
    uint8_t type = 0;
    uint64_t last;
    assert_ok(ch_chat_send(c, &alice, &certificate, &out, &receipt));
    assert_ok(ch_client_get_inbox(bobs, bob.sign.public_key, 1, 10, take, &in, &last));
    assert_false(in.last.has_inline);
    assert_ok(ch_chat_fetch(bobs, &bob, &in.last, keep, &got, NULL, NULL, name, &type, &verdict));
    assert_int_equal(verdict, CH_SEAL_OK);
    assert_int_equal(type, CH_ENVELOPE_TEXT);
    assert_int_equal(got.used, sizeof text);
    assert_memory_equal(got.data, text, sizeof text);
    test_free(got.data);
    ch_client_close(c);
    ch_client_close(bobs);
}

static void rotated_key_opens_old_and_new(void **state)
{
    struct ch_account certificate;
    struct ch_client *bobs, *c = with_accounts(&bobs, &certificate);
    struct ch_outgoing out = {.text = "un", .text_length = 2, .file = -1};
    struct ch_receipt receipt;
    struct inbox in = {.owner = &bob};
    uint64_t last;
    assert_ok(ch_chat_send(c, &alice, &certificate, &out, &receipt));
    assert_ok(ch_account_add_seal_key(&bob, 1)); /* as after a rotation that was refused */
    assert_ok(ch_account_add_seal_key(&bob, 1));
    assert_ok(ch_chat_rotate(bobs, &bob, &receipt));
    assert_ok(ch_client_get_account(c, bob.sign.public_key, &certificate));
    assert_int_equal(certificate.seal_epoch, 1);
    assert_ok(ch_chat_send(c, &alice, &certificate, &out, &receipt));
    for (uint64_t sequence = 1; sequence <= 2; sequence++) {
        assert_ok(ch_client_get_inbox(bobs, bob.sign.public_key, sequence, 1, take, &in, &last));
        assert_int_equal(in.sequence, sequence);
        assert_int_equal(in.last.verdict, CH_SEAL_OK);
    }
    ch_client_close(c);
    ch_client_close(bobs);
}

static void watch_goes_on_with_what_comes(void **state)
{
    struct ch_account certificate;
    struct ch_client *bobs, *c = with_accounts(&bobs, &certificate);
    struct ch_outgoing out = {.text = "x", .text_length = 1, .file = -1};
    struct ch_receipt receipt;
    for (int i = 0; i < 3; i++)
        assert_ok(ch_chat_send(c, &alice, &certificate, &out, &receipt));
    struct inbox in = {.owner = &bob, .enough = 3};
    assert_ok(ch_client_watch(bobs, bob.sign.public_key, 1, 10000, take, NULL, &in));
    assert_int_equal(in.count, 3);
    /* Nothing new: quiet. */
    assert_int_equal(ch_client_watch(bobs, bob.sign.public_key, 4, 200, take, NULL, &in), CH_ERR_TIMEOUT);
    assert_int_equal(in.count, 3);
    ch_client_close(c);
    ch_client_close(bobs);
}

static void account_file_comes_back(void **state)
{
    const char *path = "test_client_account.key";
    struct ch_account_keys back;
    struct ch_passphrase none = {0};
    unlink(path);
    for (uint32_t i = 1; i < CH_ACCOUNT_SEAL_KEYS_MAX; i++)
        assert_ok(ch_account_add_seal_key(&alice, i));
    assert_int_equal(ch_account_add_seal_key(&alice, 1000), CH_ERR_FULL);
    assert_ok(ch_account_save(&alice, path, &none, false));
    assert_ok(ch_account_load(path, NULL, &back));
    assert_memory_equal(&back, &alice, sizeof back);
    /* A file that opens, but holds no account. */
    uint8_t nonsense[70] = {1, 0};
    assert_ok(ch_keyfile_write(path, CH_KEYFILE_ACCOUNT, alice.sign.public_key, nonsense, sizeof nonsense, NULL, true));
    assert_int_equal(ch_account_load(path, NULL, &back), CH_ERR_CORRUPT);
    unlink(path);
}

int main(void)
{
    if (ch_sign_init() != CH_OK)
        return 1;
    ch_prng_seed(&prng, test_seed());
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(registration_is_applied_and_read_back),
        CASE(other_chain_or_key_refused),
        CASE(nobody_there_is_told_at_once),
        CASE(refusal_names_its_reason),
        CASE(lost_connection_repeats_and_applies_once),
        CASE(silence_is_a_timeout),
        CASE(signed_receipt_is_checked),
        CASE(text_arrives_inline),
        CASE(forged_record_refused),
        CASE(small_file_arrives),
        CASE(empty_file_arrives),
        CASE(large_file_arrives),
        CASE(busy_and_restarting_node_gets_the_file_anyway),
        CASE(changed_object_refused),
        CASE(long_text_becomes_an_object),
        CASE(rotated_key_opens_old_and_new),
        CASE(watch_goes_on_with_what_comes),
        CASE(account_file_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
