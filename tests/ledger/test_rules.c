/* Every rule but the relation table: allowed, refused, in order, and at the exact moments. */
#include "tests/ledger/chain.h"

/* A transaction in which everything is wrong that can be, mended check by check: the refusals must come in the order of
 * the rules. */
static void register_checks_come_in_order(void **state)
{
    struct chain c;
    chain_open(&c, NULL);
    chain_register(&c, 2);
    static const uint8_t small_order[32] = {1};
    struct ch_tx tx = chain_tx(&c, CH_TX_REGISTER, 0, 0);
    tx.handle = (const uint8_t *)"9lives";
    tx.handle_length = 6;
    tx.sender = small_order;
    tx.seal_key = (const uint8_t[32]){0};
    tx.registrar = registrar(2);
    tx.approval_expires_ms = c.now_ms;
    c.approval_ok = false;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_BAD_HANDLE);
    tx.handle = (const uint8_t *)"person.1";
    tx.handle_length = 8;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_WEAK_KEY);
    tx.sender = person(0);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_WEAK_KEY);
    tx.seal_key = seal_key(0);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_NOT_REGISTRAR);
    tx.registrar = registrar(1);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_BAD_APPROVAL);
    c.approval_ok = true;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_APPROVAL_EXPIRED);
    tx.approval_expires_ms = c.now_ms + 1;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_KEY_TAKEN);
    tx.sender = person(5);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_HANDLE_TAKEN);
    tx.handle = (const uint8_t *)"person.5";
    struct ch_receipt receipt = chain_apply(&c, &tx);
    assert_int_equal(receipt.status, CH_STATUS_OK);
    struct ch_account row;
    chain_account(&c, 5, &row);
    assert_memory_equal(row.key, person(5), 32);
    assert_memory_equal(row.seal_key, seal_key(0), 32);
    assert_memory_equal(row.registrar, registrar(1), 32);
    assert_memory_equal(row.handle, "person.5", 8);
    assert_int_equal(row.registered_commit, receipt.commit_index);
    assert_int_equal(row.registered_ms, c.now_ms);
    assert_int_equal(row.seal_epoch, 0);
    assert_int_equal(ch_ledger_head(c.ledger)->accounts, 3);
    chain_close(&c);
}

/* The encodings of points of small order: libsodium's list for Ed25519 and for X25519. */
static void weak_keys_are_refused(void **state)
{
    static const char *const ed25519[] = {
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", /* y = p: not canonical */
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0200000000000000000000000000000000000000000000000000000000000000", /* not on the curve */
    };
    static const char *const x25519[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0100000000000000000000000000000000000000000000000000000000000080",
    };
    struct chain c;
    uint8_t key[32];
    chain_open(&c, NULL);
    chain_register(&c, 1);
    for (size_t i = 0; i < sizeof ed25519 / sizeof *ed25519; i++) {
        from_hex(ed25519[i], key, sizeof key);
        struct ch_tx tx = chain_tx(&c, CH_TX_REGISTER, 3, 0);
        tx.sender = key;
        assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_WEAK_KEY);
    }
    for (size_t i = 0; i < sizeof x25519 / sizeof *x25519; i++) {
        from_hex(x25519[i], key, sizeof key);
        struct ch_tx tx = chain_tx(&c, CH_TX_REGISTER, 3, 0);
        tx.seal_key = key;
        assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_WEAK_KEY);
        tx = chain_tx(&c, CH_TX_ROTATE_SEAL_KEY, 0, 0);
        tx.seal_key = key;
        assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_WEAK_KEY);
    }
    chain_close(&c);
}

static void common_checks_come_in_order(void **state)
{
    struct chain c;
    chain_open(&c, NULL);
    chain_register(&c, 2);
    const struct ch_genesis_limits *l = &c.genesis.limits;
    struct ch_tx junk = {.kind = 0};
    assert_int_equal(chain_apply(&c, &junk).status, CH_STATUS_MALFORMED);

    struct ch_tx tx = chain_tx(&c, CH_TX_ROTATE_SEAL_KEY, 0, 1);
    tx.timestamp_ms = c.now_ms - l->window_back_ms - 1;
    c.signature_ok = false;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_BAD_SIGNATURE);
    c.signature_ok = true;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_TOO_OLD);
    tx.timestamp_ms++;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_OK);
    tx.timestamp_ms = c.now_ms + l->window_ahead_ms + 1;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_TOO_EARLY);
    tx.timestamp_ms--;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_OK);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_DUPLICATE);
    /* Liveness is judged before the id. */
    c.now_ms += l->window_back_ms + l->window_ahead_ms + 1;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_TOO_OLD);

    /* Then the sender. */
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 7, 9), CH_STATUS_NO_SUCH_ACCOUNT);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 0, 0), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 9), CH_STATUS_REVOKED);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 1), CH_STATUS_REVOKED);
    assert_int_equal(chain_do(&c, CH_TX_ROTATE_SEAL_KEY, 0, 1), CH_STATUS_REVOKED);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 0, 1), CH_STATUS_REVOKED);
    chain_close(&c);
}

static void duplicate_shows_the_first_one(void **state)
{
    struct chain c;
    chain_open(&c, NULL);
    chain_register(&c, 2);
    chain_bind(&c, 0, 1);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_OK);
    struct ch_tx tx = chain_tx(&c, CH_TX_MESSAGE, 0, 1);
    struct ch_receipt first = chain_apply(&c, &tx);
    assert_int_equal(first.status, CH_STATUS_OK);
    assert_int_equal(first.inbox_sequence, 2);
    for (unsigned round = 0; round < 3; round++) {
        uint8_t before[32], after[32];
        struct ch_ledger_head head = *ch_ledger_head(c.ledger);
        c.now_ms += 100;
        struct ch_receipt again = chain_apply(&c, &tx);
        assert_int_equal(again.status, CH_STATUS_DUPLICATE);
        assert_int_equal(again.commit_index, first.commit_index);
        assert_int_equal(again.log_index, first.log_index);
        assert_int_equal(again.inbox_sequence, first.inbox_sequence);
        assert_int_equal(again.commit_time_ms, first.commit_time_ms);
        assert_int_equal(ch_ledger_head(c.ledger)->log.size, head.log.size);
        ch_merkle_frontier_root(&head.log, before);
        ch_merkle_frontier_root(&ch_ledger_head(c.ledger)->log, after);
        assert_memory_equal(before, after, 32);
        if (round == 1)
            chain_restart(&c);
    }
    /* Twice in one commit. */
    struct ch_tx twins[2] = {chain_tx(&c, CH_TX_MESSAGE, 1, 0)};
    struct ch_receipt receipts[2];
    twins[1] = twins[0];
    chain_apply_many(&c, twins, 2, receipts);
    assert_int_equal(receipts[0].status, CH_STATUS_OK);
    assert_int_equal(receipts[1].status, CH_STATUS_DUPLICATE);
    assert_int_equal(receipts[1].log_index, receipts[0].log_index);
    assert_int_equal(receipts[1].commit_index, receipts[0].commit_index);
    chain_close(&c);
}

static void refused_transaction_may_come_again(void **state)
{
    struct chain c;
    chain_open(&c, NULL);
    chain_register(&c, 2);
    struct ch_tx tx = chain_tx(&c, CH_TX_MESSAGE, 0, 1);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_NOT_BOUND);
    chain_bind(&c, 0, 1);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_OK);
    chain_close(&c);
}

static void window_of_three(struct ch_genesis *g)
{
    g->limits.window_ids = 3;
}

static void full_window_refuses_until_ids_expire(void **state)
{
    struct chain c;
    chain_open(&c, window_of_three);
    const struct ch_genesis_limits *l = &c.genesis.limits;
    uint64_t first_ms = c.now_ms;
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 0, 0), CH_STATUS_OK);
    c.now_ms += 500;
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 1, 0), CH_STATUS_OK);
    struct ch_tx last = chain_tx(&c, CH_TX_REGISTER, 2, 0);
    assert_int_equal(chain_apply(&c, &last).status, CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 3, 0), CH_STATUS_WINDOW_FULL);
    assert_int_equal(chain_apply(&c, &last).status, CH_STATUS_DUPLICATE); /* comes first */
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 9, 9), CH_STATUS_WINDOW_FULL);
    /* An id counts while ts <= its timestamp + 2 min. */
    c.now_ms = first_ms + l->window_back_ms;
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 3, 0), CH_STATUS_WINDOW_FULL);
    chain_restart(&c);
    assert_int_equal(ch_ledger_window_used(c.ledger), 3);
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 3, 0), CH_STATUS_WINDOW_FULL);
    c.now_ms++;
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 3, 0), CH_STATUS_OK);
    assert_int_equal(ch_ledger_window_used(c.ledger), 3);
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 4, 0), CH_STATUS_WINDOW_FULL);
    c.now_ms = first_ms + 500 + l->window_back_ms + 1;
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 4, 0), CH_STATUS_OK);
    assert_int_equal(ch_ledger_window_used(c.ledger), 2);
    chain_close(&c);
}

static void remembered_ids_must_fit_the_chain(void **state)
{
    struct chain c;
    chain_open(&c, window_of_three);
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 0, 0), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 1, 0), CH_STATUS_OK);
    chain_restart(&c);
    const uint8_t other[32] = {9};
    uint64_t now = c.now_ms;
    assert_int_equal(ch_ledger_remember(c.ledger, c.ids[0], now, 0), CH_ERR_EXISTS);
    assert_int_equal(ch_ledger_remember(c.ledger, other, now + c.genesis.limits.window_ahead_ms + 1, 1),
                     CH_ERR_INVALID);
    assert_int_equal(ch_ledger_remember(c.ledger, other, now, 2), CH_ERR_INVALID);
    assert_ok(ch_ledger_remember(c.ledger, other, now - c.genesis.limits.window_back_ms - 1, 1));
    assert_int_equal(ch_ledger_window_used(c.ledger), 2);
    assert_ok(ch_ledger_remember(c.ledger, other, now, 1));
    const uint8_t another[32] = {10};
    assert_int_equal(ch_ledger_remember(c.ledger, another, now, 1), CH_ERR_FULL);
    chain_close(&c);
}

static void rotation_raises_the_epoch(void **state)
{
    struct chain c;
    struct ch_account row;
    chain_open(&c, NULL);
    chain_register(&c, 2);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(chain_do(&c, CH_TX_ROTATE_SEAL_KEY, 0, i), CH_STATUS_OK);
        chain_account(&c, 0, &row);
        assert_int_equal(row.seal_epoch, i);
        assert_memory_equal(row.seal_key, seal_key(i), 32);
    }
    chain_account(&c, 1, &row);
    assert_int_equal(row.seal_epoch, 0);
    chain_close(&c);
}

static void revocation_is_for_oneself_and_the_registrar(void **state)
{
    struct chain c;
    struct ch_account row;
    chain_open(&c, NULL);
    chain_register(&c, 5);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 0, 9), CH_STATUS_NO_SUCH_PEER);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 0, 1), CH_STATUS_NOT_ALLOWED);
    struct ch_tx tx = chain_tx(&c, CH_TX_REVOKE, 0, 1);
    tx.sender = registrar(1); /* approved others */
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_NOT_ALLOWED);
    tx.sender = registrar(2); /* is none */
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_NO_SUCH_ACCOUNT);
    tx.sender = registrar(0); /* needs no account */
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_OK);
    tx.salt++;
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_PEER_REVOKED);
    tx.peer = person(9);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_NO_SUCH_PEER);
    /* No other kind is for a registrar without an account. */
    tx = chain_tx(&c, CH_TX_ROTATE_SEAL_KEY, 0, 1);
    tx.sender = registrar(0);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_NO_SUCH_ACCOUNT);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 2, 2), CH_STATUS_OK);
    chain_account(&c, 2, &row);
    assert_int_equal(row.status, CH_ACCOUNT_REVOKED);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 2, 2), CH_STATUS_REVOKED);
    /* Neither key nor handle is given out again. */
    assert_int_equal(chain_do(&c, CH_TX_REGISTER, 2, 0), CH_STATUS_KEY_TAKEN);
    tx = chain_tx(&c, CH_TX_REGISTER, 2, 0);
    tx.sender = person(12);
    assert_int_equal(chain_apply(&c, &tx).status, CH_STATUS_HANDLE_TAKEN);
    chain_close(&c);
}

static void message_needs_a_bond(void **state)
{
    struct chain c;
    chain_open(&c, NULL);
    chain_register(&c, 4);
    uint64_t unbinding_ms = c.genesis.limits.unbinding_ms;
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 9), CH_STATUS_NO_SUCH_PEER);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_NOT_BOUND);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 0), CH_STATUS_OK); /* a note to oneself */
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 1), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_NOT_BOUND);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 1, 0), CH_STATUS_NOT_BOUND);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REFUSE, 1, 0), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_NOT_BOUND);
    chain_bind(&c, 1, 0);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 1, 0), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 2), CH_STATUS_NOT_BOUND);
    assert_int_equal(chain_do(&c, CH_TX_UNBIND_REQUEST, 0, 1), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_UNBINDING);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 1, 0), CH_STATUS_UNBINDING);
    c.now_ms += unbinding_ms - 1;
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_UNBINDING);
    c.now_ms++;
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_NOT_BOUND);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 1, 0), CH_STATUS_NOT_BOUND);
    chain_bind(&c, 2, 3);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 3, 3), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 2, 3), CH_STATUS_PEER_REVOKED);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 3), CH_STATUS_PEER_REVOKED); /* before the bond */
    chain_close(&c);
}

static void no_relation_required(struct ch_genesis *g)
{
    g->require_relation = false;
}

static void open_chain_needs_no_bond(void **state)
{
    struct chain c;
    chain_open(&c, no_relation_required);
    chain_register(&c, 3);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_OK);
    chain_bind(&c, 0, 1);
    assert_int_equal(chain_do(&c, CH_TX_UNBIND_REQUEST, 0, 1), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 1), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_MESSAGE, 0, 9), CH_STATUS_NO_SUCH_PEER);
    chain_close(&c);
}

/* The log tree and the inbox heads, from their definitions. */
static void log_and_inbox_are_as_defined(void **state)
{
    enum { COUNT = 150 };
    struct ch_merkle_frontier tree = {.size = 0};
    uint8_t leaf[32];
    struct chain c;
    uint8_t head[2][32] = {{0}}, root[32], expected[32];
    uint64_t sequences[2] = {0}, size = 0;
    chain_open(&c, no_relation_required);
    for (unsigned i = 0; i < COUNT + 2; i++) {
        bool is_message = i >= 2;
        unsigned to = i % 3 == 0;
        struct ch_tx tx = chain_tx(&c, is_message ? CH_TX_MESSAGE : CH_TX_REGISTER, is_message ? 1 - to : i, to);
        struct ch_receipt receipt = chain_apply(&c, &tx);
        assert_int_equal(receipt.status, CH_STATUS_OK);
        assert_int_equal(receipt.log_index, size);
        uint8_t number[8], zero[32] = {0};
        uint64_t sequence = is_message ? ++sequences[to] : 0;
        assert_int_equal(receipt.inbox_sequence, sequence);
        ch_store64(number, sequence);
        if (is_message) {
            const struct ch_bytes parts[3] = {{head[to], 32}, {receipt.tx_id, 32}, {number, 8}};
            ch_hash_domain("chappe/inbox/1", parts, 3, expected);
            memcpy(head[to], expected, 32);
        }
        struct ch_hash h;
        uint8_t numbers[16];
        ch_store64(numbers, receipt.commit_index);
        ch_store64(numbers + 8, c.now_ms);
        ch_hash_init(&h);
        ch_hash_add(&h, "\0", 1);
        ch_hash_add(&h, receipt.tx_id, 32);
        ch_hash_add(&h, numbers, 16);
        ch_hash_add(&h, number, 8);
        ch_hash_add(&h, is_message ? head[to] : zero, 32);
        ch_hash_end(&h, leaf);
        size++;
        ch_merkle_append(&tree, leaf);
        ch_merkle_frontier_root(&tree, expected);
        ch_merkle_frontier_root(&ch_ledger_head(c.ledger)->log, root);
        assert_memory_equal(root, expected, 32);
        c.now_ms += i % 2;
        if (i % 50 == 49)
            chain_restart(&c);
    }
    for (unsigned i = 0; i < 2; i++) {
        struct ch_account row;
        chain_account(&c, i, &row);
        assert_int_equal(row.inbox_sequence, sequences[i]);
        assert_memory_equal(row.inbox_head, head[i], 32);
    }
    chain_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(register_checks_come_in_order),
        cmocka_unit_test(weak_keys_are_refused),
        cmocka_unit_test(common_checks_come_in_order),
        cmocka_unit_test(duplicate_shows_the_first_one),
        cmocka_unit_test(refused_transaction_may_come_again),
        cmocka_unit_test(full_window_refuses_until_ids_expire),
        cmocka_unit_test(remembered_ids_must_fit_the_chain),
        cmocka_unit_test(rotation_raises_the_epoch),
        cmocka_unit_test(revocation_is_for_oneself_and_the_registrar),
        cmocka_unit_test(message_needs_a_bond),
        cmocka_unit_test(open_chain_needs_no_bond),
        cmocka_unit_test(log_and_inbox_are_as_defined),
    };
    chain_backend = IN_MEMORY;
    int failed = cmocka_run_group_tests_name("rows in memory", tests, NULL, NULL);
    chain_backend = ON_DISK;
    return failed + cmocka_run_group_tests_name("rows on disk", tests, NULL, NULL);
}
