/* Random transactions against a model that a reader can check against docs/protocol.md, section 11, line by line: the
 * same statuses, receipts and rows; the same input twice, in memory or on disk, with or without restarts, gives the
 * same digest. */
#include "tests/ledger/chain.h"

#define PEOPLE      10
#define APPLIED_MAX 20000

struct bond {
    enum ch_relation_state state;
    unsigned by;
    uint64_t since_ms;
};

struct applied {
    struct ch_tx tx;
    struct ch_receipt receipt;
    unsigned sender, peer;
};

struct model {
    const struct ch_genesis *genesis;
    uint64_t now_ms;
    bool registered[PEOPLE], revoked[PEOPLE];
    uint64_t epoch[PEOPLE], inbox[PEOPLE];
    struct bond bonds[PEOPLE][PEOPLE]; /* [smaller number][larger number] */
    uint64_t log_size;
    struct applied applied[APPLIED_MAX];
};

/* What a row has become by now. */
static enum ch_relation_state state_now(const struct model *m, const struct bond *b)
{
    const struct ch_genesis_limits *l = &m->genesis->limits;
    uint64_t age = m->now_ms - b->since_ms;
    if (b->state == CH_RELATION_REQUESTED && age >= l->request_expiry_ms)
        return CH_RELATION_NONE;
    if (b->state == CH_RELATION_REFUSED && age >= l->refusal_rest_ms)
        return CH_RELATION_NONE;
    if (b->state == CH_RELATION_UNBINDING && age >= l->unbinding_ms)
        return CH_RELATION_UNBOUND;
    return b->state;
}

static unsigned open_requests(const struct model *m, unsigned s)
{
    unsigned count = 0;
    for (unsigned i = 0; i < PEOPLE; i++)
        for (unsigned j = i + 1; j < PEOPLE; j++)
            count += m->bonds[i][j].by == s && state_now(m, &m->bonds[i][j]) == CH_RELATION_REQUESTED;
    return count;
}

static enum ch_status become(struct model *m, struct bond *b, enum ch_relation_state state, unsigned by)
{
    *b = (struct bond){state, by, m->now_ms};
    return CH_STATUS_OK;
}

static enum ch_status bind_request(struct model *m, struct bond *b, unsigned s)
{
    bool mine = b->by == s;
    switch (state_now(m, b)) {
    case CH_RELATION_REQUESTED:
        return mine ? CH_STATUS_ALREADY_REQUESTED : become(m, b, CH_RELATION_BOUND, b->by);
    case CH_RELATION_REFUSED:
        if (!mine)
            return CH_STATUS_REFUSED_RECENTLY;
        break;
    case CH_RELATION_BOUND:
        return CH_STATUS_ALREADY_BOUND;
    case CH_RELATION_UNBINDING:
        return CH_STATUS_UNBINDING;
    default:
        break;
    }
    if (open_requests(m, s) >= m->genesis->limits.open_requests)
        return CH_STATUS_TOO_MANY_REQUESTS;
    return become(m, b, CH_RELATION_REQUESTED, s);
}

static enum ch_status relation_kind(struct model *m, uint16_t kind, struct bond *b, unsigned s)
{
    enum ch_relation_state now = state_now(m, b);
    bool mine = b->by == s;
    switch (kind) {
    case CH_TX_BIND_REQUEST:
        return bind_request(m, b, s);
    case CH_TX_BIND_ACCEPT:
    case CH_TX_BIND_REFUSE:
        if (now == CH_RELATION_BOUND)
            return CH_STATUS_ALREADY_BOUND;
        if (now == CH_RELATION_UNBINDING)
            return CH_STATUS_UNBINDING;
        if (now != CH_RELATION_REQUESTED)
            return CH_STATUS_NO_REQUEST;
        if (kind == CH_TX_BIND_ACCEPT)
            return mine ? CH_STATUS_NO_REQUEST : become(m, b, CH_RELATION_BOUND, b->by);
        return mine ? become(m, b, CH_RELATION_NONE, s) : become(m, b, CH_RELATION_REFUSED, s);
    case CH_TX_UNBIND_REQUEST:
        if (now == CH_RELATION_BOUND)
            return become(m, b, CH_RELATION_UNBINDING, s);
        if (now == CH_RELATION_UNBINDING)
            return mine ? CH_STATUS_UNBINDING : become(m, b, CH_RELATION_UNBOUND, b->by);
        return CH_STATUS_NOT_BOUND;
    default:
        if (now == CH_RELATION_UNBINDING)
            return mine ? CH_STATUS_NOT_ALLOWED : become(m, b, CH_RELATION_UNBOUND, b->by);
        return now == CH_RELATION_BOUND ? CH_STATUS_NOT_UNBINDING : CH_STATUS_NOT_BOUND;
    }
}

static enum ch_status message(struct model *m, unsigned s, unsigned p)
{
    if (m->revoked[p])
        return CH_STATUS_PEER_REVOKED;
    if (s != p) {
        const struct bond *b = s < p ? &m->bonds[s][p] : &m->bonds[p][s];
        enum ch_relation_state now = state_now(m, b);
        if (now == CH_RELATION_UNBINDING)
            return CH_STATUS_UNBINDING;
        if (now != CH_RELATION_BOUND)
            return CH_STATUS_NOT_BOUND;
    }
    m->inbox[p]++;
    return CH_STATUS_OK;
}

static uint64_t live_ids(const struct model *m)
{
    uint64_t count = 0;
    for (uint64_t i = m->log_size; i-- > 0;)
        count += m->now_ms <= m->applied[i].tx.timestamp_ms + m->genesis->limits.window_back_ms;
    return count;
}

static enum ch_status decide(struct model *m, const struct ch_tx *tx, unsigned s, unsigned p)
{
    const struct ch_genesis_limits *l = &m->genesis->limits;
    if (tx->timestamp_ms + l->window_back_ms < m->now_ms)
        return CH_STATUS_TOO_OLD;
    if (tx->timestamp_ms > m->now_ms + l->window_ahead_ms)
        return CH_STATUS_TOO_EARLY;
    for (uint64_t i = 0; i < m->log_size; i++)
        if (m->applied[i].tx.salt == tx->salt) /* every new transaction has a salt of its own */
            return CH_STATUS_DUPLICATE;
    if (live_ids(m) >= l->window_ids)
        return CH_STATUS_WINDOW_FULL;
    if (tx->kind == CH_TX_REGISTER) {
        if (m->registered[s])
            return CH_STATUS_KEY_TAKEN;
        m->registered[s] = true;
        return CH_STATUS_OK;
    }
    if (!m->registered[s])
        return CH_STATUS_NO_SUCH_ACCOUNT;
    if (m->revoked[s])
        return CH_STATUS_REVOKED;
    if (tx->kind == CH_TX_ROTATE_SEAL_KEY) {
        m->epoch[s]++;
        return CH_STATUS_OK;
    }
    if (!m->registered[p])
        return CH_STATUS_NO_SUCH_PEER;
    if (tx->kind == CH_TX_REVOKE) {
        if (m->revoked[p])
            return CH_STATUS_PEER_REVOKED;
        if (s != p)
            return CH_STATUS_NOT_ALLOWED;
        m->revoked[s] = true;
        return CH_STATUS_OK;
    }
    if (tx->kind == CH_TX_MESSAGE)
        return message(m, s, p);
    if (m->revoked[p] && (tx->kind == CH_TX_BIND_REQUEST || tx->kind == CH_TX_BIND_ACCEPT))
        return CH_STATUS_PEER_REVOKED;
    if (s == p)
        return CH_STATUS_SELF;
    return relation_kind(m, tx->kind, s < p ? &m->bonds[s][p] : &m->bonds[p][s], s);
}

static void check_receipt(struct model *m, const struct applied *sent, const struct ch_receipt *got, uint64_t commit)
{
    enum ch_status status = decide(m, &sent->tx, sent->sender, sent->peer);
    if (got->status != status)
        fail_msg("%s by %u to %u: %s, the model says %s", ch_tx_kind_name(sent->tx.kind), sent->sender, sent->peer,
                 ch_status_name(got->status), ch_status_name(status));
    if (status == CH_STATUS_OK) {
        assert_int_equal(got->log_index, m->log_size);
        assert_int_equal(got->commit_index, commit);
        assert_int_equal(got->commit_time_ms, m->now_ms);
        assert_int_equal(got->inbox_sequence, sent->tx.kind == CH_TX_MESSAGE ? m->inbox[sent->peer] : 0);
        assert_true(m->log_size < APPLIED_MAX);
        m->applied[m->log_size] = *sent;
        m->applied[m->log_size++].receipt = *got;
    } else if (status == CH_STATUS_DUPLICATE) {
        for (uint64_t i = 0; i < m->log_size; i++)
            if (m->applied[i].tx.salt == sent->tx.salt)
                assert_memory_equal(&m->applied[i].receipt.commit_index, &got->commit_index, 32);
    } else {
        assert_int_equal(got->commit_index | got->log_index | got->inbox_sequence | got->commit_time_ms, 0);
    }
}

static void check_rows(struct model *m, struct chain *c)
{
    for (unsigned i = 0; i < PEOPLE; i++) {
        struct ch_account row;
        if (!m->registered[i])
            continue;
        chain_account(c, i, &row);
        assert_int_equal(row.status, m->revoked[i] ? CH_ACCOUNT_REVOKED : CH_ACCOUNT_ACTIVE);
        assert_int_equal(row.seal_epoch, m->epoch[i]);
        assert_int_equal(row.inbox_sequence, m->inbox[i]);
        for (unsigned j = i + 1; j < PEOPLE; j++) {
            struct ch_relation r;
            const struct bond *b = &m->bonds[i][j];
            if (!m->registered[j] || !chain_relation(c, i, j, &r)) {
                assert_int_equal(b->since_ms, 0);
                continue;
            }
            assert_int_equal(r.state, b->state);
            assert_int_equal(r.since_ms, b->since_ms);
            assert_memory_equal(r.by ? r.larger : r.smaller, person(b->by), 32);
        }
    }
}

static struct applied random_transaction(struct chain *c, struct ch_prng *g, const struct model *m)
{
    static const uint16_t kinds[] = {CH_TX_REGISTER,     CH_TX_ROTATE_SEAL_KEY, CH_TX_BIND_REQUEST,
                                     CH_TX_BIND_REQUEST, CH_TX_BIND_ACCEPT,     CH_TX_BIND_ACCEPT,
                                     CH_TX_BIND_REFUSE,  CH_TX_UNBIND_REQUEST,  CH_TX_UNBIND_CONFIRM,
                                     CH_TX_MESSAGE,      CH_TX_MESSAGE};
    if (m->log_size && ch_prng_below(g, 16) == 0)
        return m->applied[m->log_size - 1 - ch_prng_below(g, m->log_size < 30 ? m->log_size : 30)];
    struct applied a = {.sender = (unsigned)ch_prng_below(g, PEOPLE), .peer = (unsigned)ch_prng_below(g, PEOPLE)};
    uint16_t kind = ch_prng_below(g, 400) == 0 ? CH_TX_REVOKE : kinds[ch_prng_below(g, sizeof kinds / sizeof *kinds)];
    a.tx = chain_tx(c, kind, a.sender, a.peer);
    if (ch_prng_below(g, 20) == 0)
        a.tx.timestamp_ms += ch_prng_below(g, 400) - 200;
    return a;
}

static void small_limits(struct ch_genesis *g)
{
    g->limits = (struct ch_genesis_limits){.window_back_ms = 120,
                                           .window_ahead_ms = 60,
                                           .window_ids = 40,
                                           .request_expiry_ms = 300,
                                           .refusal_rest_ms = 100,
                                           .unbinding_ms = 200,
                                           .open_requests = 3};
}

/* One random life of a chain; restarts happen where `restarts` says, and must not show. */
static void live(uint64_t seed, unsigned commits, bool restarts, uint8_t digest[32])
{
    struct chain c;
    struct ch_prng g, chance;
    static struct model m;
    m = (struct model){0};
    ch_prng_seed(&g, seed);
    ch_prng_seed(&chance, seed + 1);
    chain_open(&c, small_limits);
    m.genesis = &c.genesis;
    for (unsigned i = 0; i < commits; i++) {
        struct applied sent[12];
        struct ch_tx txs[12];
        struct ch_receipt receipts[12];
        c.now_ms += ch_prng_below(&g, 4) == 0 ? ch_prng_below(&g, 120) : ch_prng_below(&g, 8);
        m.now_ms = c.now_ms;
        size_t count = ch_prng_below(&g, 13);
        for (size_t k = 0; k < count; k++) {
            sent[k] = random_transaction(&c, &g, &m);
            txs[k] = sent[k].tx;
        }
        c.crash = restarts && ch_prng_below(&chance, 20) == 0;
        chain_apply_many(&c, txs, count, receipts);
        for (size_t k = 0; k < count; k++)
            check_receipt(&m, &sent[k], &receipts[k], i + 1);
        assert_int_equal(ch_ledger_window_used(c.ledger), live_ids(&m));
        if (i % 16 == 0 || i + 1 == commits)
            check_rows(&m, &c);
        if (restarts && ch_prng_below(&chance, 20) == 0)
            chain_restart(&c);
    }
    chain_digest(&c, digest);
    assert_int_equal(ch_ledger_head(c.ledger)->log.size, m.log_size);
    assert_true(m.log_size > commits / 2); /* most of what a long life sends is refused */
    chain_close(&c);
}

static void random_lives_follow_the_model_and_agree(void **state)
{
    uint64_t seed = test_seed();
    for (unsigned round = 0; round < (test_full() ? 20 : 3); round++) {
        uint8_t digest[4][32];
        for (unsigned i = 0; i < 4; i++) {
            chain_backend = i < 2 ? IN_MEMORY : ON_DISK;
            live(seed + 1000 * round, test_full() ? 2000 : 500, i % 2 == 1, digest[i]);
            assert_memory_equal(digest[0], digest[i], 32);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives_follow_the_model_and_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
