#include "tests/ledger/chain.h"

#include "node/state_rows.h"

#include <sodium.h>
#include <unistd.h>

enum backend chain_backend;

/* Signed bytes are never looked at here (signatures are verdicts), but keys must be points of the curve. */
static const uint8_t *key_of(unsigned family, unsigned number)
{
    static uint8_t keys[3][PEOPLE_MAX][32];
    static bool made[3][PEOPLE_MAX];
    CH_ASSERT(number < PEOPLE_MAX);
    if (!made[family][number]) {
        uint8_t seed[32] = {(uint8_t)family, (uint8_t)number, 1}, secret[64];
        if (family == 2)
            crypto_scalarmult_base(keys[family][number], seed);
        else
            crypto_sign_seed_keypair(keys[family][number], secret, seed);
        made[family][number] = true;
    }
    return keys[family][number];
}

const uint8_t *person(unsigned number)
{
    return key_of(0, number);
}

const uint8_t *registrar(unsigned number)
{
    return key_of(1, number);
}

const uint8_t *seal_key(unsigned number)
{
    return key_of(2, number);
}

void remove_folder(const char *folder)
{
    char path[128];
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i ? "lock.mdb" : "data.mdb");
        unlink(path);
    }
    rmdir(folder);
}

void from_hex(const char *hex, uint8_t *out, size_t length)
{
    for (size_t i = 0; i < length; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
}

static void open_ledger(struct chain *c)
{
    struct ch_ledger_options o = {.genesis = &c->genesis, .seed = 5};
    struct ch_ledger_head head;
    if (c->backend == IN_MEMORY) {
        o.rows = memory_rows(c->memory);
        if (c->ledger) {
            head = *ch_ledger_head(c->ledger);
            o.head = &head;
        }
    } else {
        /* Caches and batches as small as they can be, so that tests reach their ends. */
        struct ch_state_options so = {
            .folder = c->folder, .batch_records = 16, .accounts_cached = 1, .relations_cached = 1, .seed = 3};
        assert_ok(ch_state_open(&so, &c->state));
        assert_ok(ch_state_reader_open(c->state, &c->reader));
        o.rows = ch_state_rows(c->state);
        if (ch_state_meta(c->state)->head_length) {
            ch_ledger_head_read(ch_state_meta(c->state)->head, &head);
            o.head = &head;
        }
    }
    struct ch_ledger *ledger;
    assert_ok(ch_ledger_open(&o, &ledger));
    ch_ledger_close(c->ledger);
    c->ledger = ledger;
}

void chain_open(struct chain *c, void (*change)(struct ch_genesis *))
{
    assert_true(sodium_init() >= 0);
    *c = (struct chain){.backend = chain_backend, .signature_ok = true, .approval_ok = true};
    ch_genesis_defaults(&c->genesis, 1);
    c->genesis.start_ms = c->now_ms = START_MS;
    c->genesis.limits.window_ids = 4096;
    strcpy(c->genesis.name, "test");
    c->genesis.registrar_count = 2;
    memcpy(c->genesis.registrars[0], registrar(0), 32);
    memcpy(c->genesis.registrars[1], registrar(1), 32);
    if (change)
        change(&c->genesis);
    c->timestamps = calloc(MEMORY_LOG_MAX, sizeof *c->timestamps);
    c->ids = calloc(MEMORY_LOG_MAX, sizeof *c->ids);
    assert_true(c->timestamps && c->ids);
    if (c->backend == IN_MEMORY) {
        c->memory = calloc(1, sizeof *c->memory);
        assert_non_null(c->memory);
    } else {
        /* In memory where that is there: a sync for each of thousands of commits says nothing about rules. */
        strcpy(c->folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/chappe-state-XXXXXX" : "/tmp/chappe-state-XXXXXX");
        assert_non_null(mkdtemp(c->folder));
    }
    open_ledger(c);
}

static void close_state(struct chain *c)
{
    ch_state_reader_close(c->reader);
    ch_state_close(c->state);
    c->reader = NULL;
    c->state = NULL;
}

void chain_close(struct chain *c)
{
    ch_ledger_close(c->ledger);
    close_state(c);
    if (c->folder[0])
        remove_folder(c->folder);
    free(c->memory);
    free(c->timestamps);
    free(c->ids);
    *c = (struct chain){0};
}

void chain_restart(struct chain *c)
{
    close_state(c);
    open_ledger(c);
    for (uint64_t i = ch_ledger_head(c->ledger)->log.size; i-- > 0;)
        assert_ok(ch_ledger_remember(c->ledger, c->ids[i], c->timestamps[i], i));
}

struct ch_tx chain_tx(struct chain *c, uint16_t kind, unsigned sender, unsigned peer)
{
    static const uint8_t zeros[64];
    static const uint8_t text[] = "\1\0\0\0\0ciphertext";
    static char handles[PEOPLE_MAX][16];
    struct ch_tx tx = {.kind = kind, .sender = person(sender), .timestamp_ms = c->now_ms, .salt = c->salt++};
    if (kind == CH_TX_REGISTER) {
        snprintf(handles[sender], sizeof handles[sender], "person.%u", sender);
        tx.seal_key = seal_key(sender);
        tx.registrar = registrar(REGISTRAR);
        tx.approval = zeros;
        tx.approval_expires_ms = c->now_ms + 1000;
        tx.handle = (const uint8_t *)handles[sender];
        tx.handle_length = (uint8_t)strlen(handles[sender]);
    } else if (kind == CH_TX_ROTATE_SEAL_KEY) {
        tx.seal_key = seal_key(peer);
    } else {
        tx.peer = person(peer);
    }
    if (kind == CH_TX_BIND_REQUEST || kind == CH_TX_BIND_ACCEPT)
        tx.hello = zeros;
    if (kind == CH_TX_MESSAGE) {
        tx.commitment = zeros;
        tx.inline_bytes = text;
        tx.inline_length = sizeof text - 1;
    }
    return tx;
}

void chain_apply_many(struct chain *c, const struct ch_tx *txs, size_t count, struct ch_receipt *receipts)
{
    static uint8_t bytes[ITEMS_MAX][CH_TX_BYTES_MAX];
    static uint8_t ids[ITEMS_MAX][CH_HASH_BYTES];
    static struct ch_tx parsed[ITEMS_MAX];
    static struct ch_ledger_item items[ITEMS_MAX];
    assert_true(count <= ITEMS_MAX);
    for (size_t i = 0; i < count; i++) {
        size_t length = txs[i].kind ? ch_tx_encode(&txs[i], bytes[i]) : 0;
        items[i] = (struct ch_ledger_item){.tx_id = ids[i],
                                           .position = c->salt * 1000ull + i,
                                           .signature_ok = c->signature_ok,
                                           .approval_ok = c->approval_ok};
        if (txs[i].kind) { /* kind 0 stands for bytes that don't parse */
            assert_true(length > 0);
            assert_int_equal(ch_tx_parse(bytes[i], length, &parsed[i]), CH_STATUS_OK);
            items[i].tx = &parsed[i];
        }
        ch_hash(bytes[i], length, ids[i]);
    }
    uint64_t index = ch_ledger_head(c->ledger)->commit_index + 1;
    if (c->crash && c->state) {
        assert_ok(ch_state_begin(c->state));
        assert_ok(ch_ledger_apply(c->ledger, index, c->now_ms, items, count, receipts));
        chain_restart(c);
    }
    c->crash = false;
    if (c->state)
        assert_ok(ch_state_begin(c->state));
    assert_ok(ch_ledger_apply(c->ledger, index, c->now_ms, items, count, receipts));
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(receipts[i].tx_id, ids[i], CH_HASH_BYTES);
        if (receipts[i].status == CH_STATUS_OK) {
            c->timestamps[receipts[i].log_index] = txs[i].timestamp_ms;
            memcpy(c->ids[receipts[i].log_index], ids[i], CH_HASH_BYTES);
        }
    }
    if (c->state) {
        uint8_t head[CH_LEDGER_HEAD_BYTES];
        ch_ledger_head_write(ch_ledger_head(c->ledger), head);
        assert_ok(ch_state_commit(c->state, index, index * 10, head, sizeof head));
    }
}

struct ch_receipt chain_apply(struct chain *c, const struct ch_tx *tx)
{
    struct ch_receipt receipt;
    chain_apply_many(c, tx, 1, &receipt);
    return receipt;
}

enum ch_status chain_do(struct chain *c, uint16_t kind, unsigned sender, unsigned peer)
{
    struct ch_tx tx = chain_tx(c, kind, sender, peer);
    return chain_apply(c, &tx).status;
}

void chain_register(struct chain *c, unsigned people)
{
    for (unsigned i = 0; i < people; i++)
        assert_int_equal(chain_do(c, CH_TX_REGISTER, i, 0), CH_STATUS_OK);
}

void chain_bind(struct chain *c, unsigned one, unsigned other)
{
    assert_int_equal(chain_do(c, CH_TX_BIND_REQUEST, one, other), CH_STATUS_OK);
    assert_int_equal(chain_do(c, CH_TX_BIND_ACCEPT, other, one), CH_STATUS_OK);
}

void chain_account(struct chain *c, unsigned number, struct ch_account *row)
{
    uint64_t serial;
    if (c->state) {
        assert_ok(ch_state_read_account_by_key(c->reader, person(number), &serial, row));
        return;
    }
    const struct ch_account *found;
    struct ch_ledger_rows rows = memory_rows(c->memory);
    assert_ok(rows.account(rows.context, person(number), &serial, &found));
    *row = *found;
}

bool chain_relation(struct chain *c, unsigned one, unsigned other, struct ch_relation *row)
{
    uint64_t serial, a, b;
    if (c->state) {
        struct ch_relation rows[PEOPLE_MAX];
        uint64_t serials[PEOPLE_MAX];
        size_t count;
        bool more;
        assert_ok(ch_state_read_serial(c->reader, person(one), &serial));
        assert_ok(ch_state_read_relations(c->reader, serial, 0, PEOPLE_MAX, serials, rows, &count, &more));
        assert_false(more);
        for (size_t i = 0; i < count; i++)
            if (memcmp(rows[i].smaller, person(other), 32) == 0 || memcmp(rows[i].larger, person(other), 32) == 0) {
                *row = rows[i];
                return true;
            }
        return false;
    }
    const struct ch_account *found;
    struct ch_ledger_rows rows = memory_rows(c->memory);
    assert_ok(rows.account(rows.context, person(one), &a, &found));
    assert_ok(rows.account(rows.context, person(other), &b, &found));
    if (rows.relation(rows.context, a, b, &serial, row) != CH_OK)
        return false;
    *row = c->memory->relations[serial];
    return true;
}

static void digest_memory(struct chain *c, struct ch_hash *h)
{
    const struct memory_rows *m = c->memory;
    for (uint64_t i = 0; i < m->account_count; i++) {
        uint8_t row[CH_ACCOUNT_ROW_BYTES];
        ch_account_write(&m->accounts[i], row);
        ch_hash_add(h, row, sizeof row);
        for (uint64_t j = 0; j < m->log_size; j++)
            if (m->recipients[j] == i)
                ch_hash_add(h, &j, sizeof j);
    }
    for (uint64_t i = 0; i < m->relation_count; i++) {
        uint8_t row[CH_RELATION_ROW_BYTES];
        ch_relation_write(&m->relations[i], row);
        ch_hash_add(h, row, sizeof row);
    }
    for (uint64_t i = 0; i < m->log_size; i++) {
        uint8_t entry[CH_LOG_ENTRY_BYTES];
        ch_log_entry_write(&m->log[i], entry);
        ch_hash_add(h, entry, sizeof entry);
        ch_hash_add(h, m->ids[i], CH_HASH_BYTES);
    }
}

static void digest_state(struct chain *c, struct ch_hash *h)
{
    const struct ch_ledger_head *head = ch_ledger_head(c->ledger);
    for (uint64_t i = 0; i < head->accounts; i++) {
        uint8_t bytes[CH_ACCOUNT_ROW_BYTES];
        struct ch_account row;
        assert_ok(ch_state_read_account(c->reader, i, &row));
        ch_account_write(&row, bytes);
        ch_hash_add(h, bytes, sizeof bytes);
        uint64_t from = 1, last = 1, indices[7];
        while (from <= last) { /* page after page */
            size_t count;
            assert_ok(ch_state_read_inbox(c->reader, i, from, 7, indices, &count, &last));
            assert_int_equal(last, row.inbox_sequence);
            ch_hash_add(h, indices, count * sizeof *indices);
            from += count;
            assert_true(count > 0 || last == 0);
        }
    }
    for (uint64_t i = 0; i < head->relations; i++) {
        uint8_t bytes[CH_RELATION_ROW_BYTES];
        struct ch_relation row;
        assert_ok(ch_state_read_relation(c->reader, i, &row));
        ch_relation_write(&row, bytes);
        ch_hash_add(h, bytes, sizeof bytes);
    }
    for (uint64_t i = 0; i < head->log.size; i++) {
        uint8_t bytes[CH_LOG_ENTRY_BYTES];
        struct ch_log_entry entry;
        uint64_t found;
        assert_ok(ch_state_read_log_entry(c->reader, i, &entry));
        ch_log_entry_write(&entry, bytes);
        ch_hash_add(h, bytes, sizeof bytes);
        assert_ok(ch_state_read_log_index(c->reader, c->ids[i], &found));
        assert_int_equal(found, i);
        ch_hash_add(h, c->ids[i], CH_HASH_BYTES);
    }
}

void chain_digest(struct chain *c, uint8_t digest[CH_HASH_BYTES])
{
    struct ch_hash h;
    uint8_t head[CH_LEDGER_HEAD_BYTES];
    ch_hash_init(&h);
    ch_ledger_head_write(ch_ledger_head(c->ledger), head);
    ch_hash_add(&h, head, sizeof head);
    if (c->state)
        digest_state(c, &h);
    else
        digest_memory(c, &h);
    ch_hash_end(&h, digest);
}
