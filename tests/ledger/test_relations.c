/* Every cell of the relation table, from every state that reads as its row, at the last moment before a limit and at
 * the limit, for both orders of the two keys. The expectations are the table of docs/protocol.md, section 11, written
 * out again. */
#include "tests/ledger/chain.h"

#define S 0 /* the sender of the transaction under test, and the peer */
#define P 1

static const uint16_t kinds[5] = {CH_TX_BIND_REQUEST, CH_TX_BIND_ACCEPT, CH_TX_BIND_REFUSE, CH_TX_UNBIND_REQUEST,
                                  CH_TX_UNBIND_CONFIRM};

struct step {
    uint16_t kind;
    bool by_peer;
};

enum limit { NO_LIMIT, REQUEST, REFUSAL, UNBINDING };

struct row {
    const char *name;
    struct step steps[4];
    enum limit limit; /* what passes before the test... */
    bool passed;      /* ...entirely, or but for a millisecond */
    const char *cells[5];
};

#define ASK(p)                                                                                                         \
    {                                                                                                                  \
        CH_TX_BIND_REQUEST, p                                                                                          \
    }
#define ACCEPT(p)                                                                                                      \
    {                                                                                                                  \
        CH_TX_BIND_ACCEPT, p                                                                                           \
    }
#define REFUSE(p)                                                                                                      \
    {                                                                                                                  \
        CH_TX_BIND_REFUSE, p                                                                                           \
    }
#define UNBIND(p)                                                                                                      \
    {                                                                                                                  \
        CH_TX_UNBIND_REQUEST, p                                                                                        \
    }
#define CONFIRM(p)                                                                                                     \
    {                                                                                                                  \
        CH_TX_UNBIND_CONFIRM, p                                                                                        \
    }

#define FREE_CELLS                                                                                                     \
    {                                                                                                                  \
        "requested by s", "NO_REQUEST", "NO_REQUEST", "NOT_BOUND", "NOT_BOUND"                                         \
    }
#define BY_S_CELLS                                                                                                     \
    {                                                                                                                  \
        "ALREADY_REQUESTED", "NO_REQUEST", "none", "NOT_BOUND", "NOT_BOUND"                                            \
    }
#define BY_P_CELLS                                                                                                     \
    {                                                                                                                  \
        "bound", "bound", "refused by s", "NOT_BOUND", "NOT_BOUND"                                                     \
    }
#define REFUSED_CELLS                                                                                                  \
    {                                                                                                                  \
        "REFUSED_RECENTLY", "NO_REQUEST", "NO_REQUEST", "NOT_BOUND", "NOT_BOUND"                                       \
    }
#define BOUND_CELLS                                                                                                    \
    {                                                                                                                  \
        "ALREADY_BOUND", "ALREADY_BOUND", "ALREADY_BOUND", "unbinding by s", "NOT_UNBINDING"                           \
    }
#define UNBIND_S_CELLS                                                                                                 \
    {                                                                                                                  \
        "UNBINDING", "UNBINDING", "UNBINDING", "UNBINDING", "NOT_ALLOWED"                                              \
    }
#define UNBIND_P_CELLS                                                                                                 \
    {                                                                                                                  \
        "UNBINDING", "UNBINDING", "UNBINDING", "unbound", "unbound"                                                    \
    }

static const struct row rows[] = {
    {"none", {{0}}, NO_LIMIT, false, FREE_CELLS},
    {"withdrawn by s", {ASK(0), REFUSE(0)}, NO_LIMIT, false, FREE_CELLS},
    {"withdrawn by p", {ASK(1), REFUSE(1)}, NO_LIMIT, false, FREE_CELLS},
    {"requested by s", {ASK(0)}, NO_LIMIT, false, BY_S_CELLS},
    {"requested by s, nearly expired", {ASK(0)}, REQUEST, false, BY_S_CELLS},
    {"requested by s, expired", {ASK(0)}, REQUEST, true, FREE_CELLS},
    {"requested by p", {ASK(1)}, NO_LIMIT, false, BY_P_CELLS},
    {"requested by p, nearly expired", {ASK(1)}, REQUEST, false, BY_P_CELLS},
    {"requested by p, expired", {ASK(1)}, REQUEST, true, FREE_CELLS},
    {"refused by p", {ASK(0), REFUSE(1)}, NO_LIMIT, false, REFUSED_CELLS},
    {"refused by p, nearly a day ago", {ASK(0), REFUSE(1)}, REFUSAL, false, REFUSED_CELLS},
    {"refused by p, a day ago", {ASK(0), REFUSE(1)}, REFUSAL, true, FREE_CELLS},
    {"refused by s", {ASK(1), REFUSE(0)}, NO_LIMIT, false, FREE_CELLS},
    {"refused by s, a day ago", {ASK(1), REFUSE(0)}, REFUSAL, true, FREE_CELLS},
    {"bound, s asked", {ASK(0), ACCEPT(1)}, NO_LIMIT, false, BOUND_CELLS},
    {"bound, p asked", {ASK(1), ACCEPT(0)}, NO_LIMIT, false, BOUND_CELLS},
    {"bound, both asked", {ASK(1), ASK(0)}, NO_LIMIT, false, BOUND_CELLS},
    {"bound for long", {ASK(0), ACCEPT(1)}, REQUEST, true, BOUND_CELLS},
    {"unbinding by s", {ASK(0), ACCEPT(1), UNBIND(0)}, NO_LIMIT, false, UNBIND_S_CELLS},
    {"unbinding by s, nearly over", {ASK(0), ACCEPT(1), UNBIND(0)}, UNBINDING, false, UNBIND_S_CELLS},
    {"unbinding by s, over", {ASK(0), ACCEPT(1), UNBIND(0)}, UNBINDING, true, FREE_CELLS},
    {"unbinding by p", {ASK(0), ACCEPT(1), UNBIND(1)}, NO_LIMIT, false, UNBIND_P_CELLS},
    {"unbinding by p, nearly over", {ASK(0), ACCEPT(1), UNBIND(1)}, UNBINDING, false, UNBIND_P_CELLS},
    {"unbinding by p, over", {ASK(0), ACCEPT(1), UNBIND(1)}, UNBINDING, true, FREE_CELLS},
    {"unbound by p's consent", {ASK(0), ACCEPT(1), UNBIND(0), CONFIRM(1)}, NO_LIMIT, false, FREE_CELLS},
    {"unbound by two requests", {ASK(0), ACCEPT(1), UNBIND(1), UNBIND(0)}, NO_LIMIT, false, FREE_CELLS},
};

static uint64_t limit_ms(const struct chain *c, enum limit limit)
{
    const struct ch_genesis_limits *l = &c->genesis.limits;
    return limit == REQUEST     ? l->request_expiry_ms
           : limit == REFUSAL   ? l->refusal_rest_ms
           : limit == UNBINDING ? l->unbinding_ms
                                : 0;
}

static void set_up(struct chain *c, const struct row *row, unsigned s, unsigned p)
{
    for (unsigned i = 0; i < 4 && row->steps[i].kind; i++) {
        const struct step *step = &row->steps[i];
        c->now_ms += 10;
        assert_int_equal(chain_do(c, step->kind, step->by_peer ? p : s, step->by_peer ? s : p), CH_STATUS_OK);
    }
    if (row->limit)
        c->now_ms += limit_ms(c, row->limit) - (row->passed ? 0 : 1);
}

/* The state in the table's words, as s sees it. */
static void in_words(const struct ch_relation *r, const uint8_t *s, char *out, size_t size)
{
    static const char *const names[] = {"none", "requested", "refused", "bound", "unbinding", "unbound"};
    bool by_s = memcmp(r->by ? r->larger : r->smaller, s, 32) == 0;
    bool whose =
        r->state == CH_RELATION_REQUESTED || r->state == CH_RELATION_REFUSED || r->state == CH_RELATION_UNBINDING;
    snprintf(out, size, "%s%s", names[r->state], !whose ? "" : by_s ? " by s" : " by p");
}

static void check_cell(struct chain *c, const struct row *row, unsigned kind, unsigned s, unsigned p)
{
    struct ch_relation before, after;
    bool there = chain_relation(c, s, p, &before);
    struct ch_tx tx = chain_tx(c, kinds[kind], s, p);
    struct ch_receipt receipt = chain_apply(c, &tx);
    char got[64];
    if (receipt.status != CH_STATUS_OK) {
        snprintf(got, sizeof got, "%s", ch_status_name(receipt.status));
        assert_int_equal(chain_relation(c, s, p, &after), there);
        uint8_t bytes[2][CH_RELATION_ROW_BYTES];
        if (there) {
            ch_relation_write(&before, bytes[0]);
            ch_relation_write(&after, bytes[1]);
            assert_memory_equal(bytes[0], bytes[1], sizeof bytes[0]);
        }
        assert_int_equal(receipt.log_index | receipt.commit_index | receipt.commit_time_ms, 0);
    } else {
        assert_true(chain_relation(c, s, p, &after));
        in_words(&after, person(s), got, sizeof got);
        assert_int_equal(after.since_ms, c->now_ms);
        if (after.state == CH_RELATION_REQUESTED)
            assert_int_equal(after.request_log_index, receipt.log_index);
        if (after.state == CH_RELATION_BOUND)
            assert_int_equal(after.accept_log_index, receipt.log_index);
    }
    if (strcmp(got, row->cells[kind]) != 0)
        fail_msg("%s, %s: %s, not %s", row->name, ch_tx_kind_name(kinds[kind]), got, row->cells[kind]);
}

static void each_cell_is_as_written(void **state)
{
    struct chain c;
    chain_open(&c, NULL);
    chain_register(&c, 2);
    /* A pair is used again and again: every row begins from where the last test ended, far later. Each cell also gets a
     * pair of its own below. */
    for (unsigned order = 0; order < 2; order++)
        for (size_t row = 0; row < sizeof rows / sizeof *rows; row++)
            for (unsigned kind = 0; kind < 5; kind++) {
                c.now_ms += c.genesis.limits.request_expiry_ms;
                struct ch_relation r;
                unsigned s = order, p = 1 - order;
                if (chain_relation(&c, S, P, &r) && r.state == CH_RELATION_BOUND) {
                    assert_int_equal(chain_do(&c, CH_TX_UNBIND_REQUEST, S, P), CH_STATUS_OK);
                    assert_int_equal(chain_do(&c, CH_TX_UNBIND_CONFIRM, P, S), CH_STATUS_OK);
                }
                set_up(&c, &rows[row], s, p);
                check_cell(&c, &rows[row], kind, s, p);
            }
    chain_close(&c);
}

static void each_cell_is_as_written_between_strangers(void **state)
{
    struct chain c;
    chain_open(&c, NULL);
    chain_register(&c, 24);
    unsigned s = 0, p = 1;
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++)
        for (unsigned kind = 0; kind < 5; kind++) {
            set_up(&c, &rows[row], s, p);
            check_cell(&c, &rows[row], kind, s, p);
            if (++p == 24)
                p = ++s + 1;
        }
    chain_close(&c);
}

static void peer_is_checked_before_the_table(void **state)
{
    struct chain c;
    chain_open(&c, NULL);
    chain_register(&c, 4);
    chain_bind(&c, 0, 1);
    chain_bind(&c, 0, 3);
    for (unsigned kind = 0; kind < 5; kind++) {
        assert_int_equal(chain_do(&c, kinds[kind], 0, 9), CH_STATUS_NO_SUCH_PEER);
        assert_int_equal(chain_do(&c, kinds[kind], 0, 0), CH_STATUS_SELF);
    }
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 2, 0), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 1, 1), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 2, 2), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 1), CH_STATUS_PEER_REVOKED);
    assert_int_equal(chain_do(&c, CH_TX_BIND_ACCEPT, 0, 2), CH_STATUS_PEER_REVOKED);
    /* To leave, the other one need not be active. */
    assert_int_equal(chain_do(&c, CH_TX_BIND_REFUSE, 0, 2), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_UNBIND_CONFIRM, 0, 1), CH_STATUS_NOT_UNBINDING);
    assert_int_equal(chain_do(&c, CH_TX_UNBIND_REQUEST, 0, 1), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_UNBIND_REQUEST, 3, 0), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_REVOKE, 3, 3), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_UNBIND_CONFIRM, 0, 3), CH_STATUS_OK);
    chain_close(&c);
}

static void two_open_requests(struct ch_genesis *g)
{
    g->limits.open_requests = 2;
}

static void open_requests_are_counted_after_the_table(void **state)
{
    struct chain c;
    chain_open(&c, two_open_requests);
    chain_register(&c, 8);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 5, 0), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 1), CH_STATUS_OK);
    uint64_t first_ms = c.now_ms;
    c.now_ms += 1000;
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 2), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 3), CH_STATUS_TOO_MANY_REQUESTS);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 1), CH_STATUS_ALREADY_REQUESTED);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 5), CH_STATUS_OK); /* an answer is no request */
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 4, 0), CH_STATUS_OK); /* another's count */
    /* One that is answered, refused or withdrawn makes room. */
    assert_int_equal(chain_do(&c, CH_TX_BIND_REFUSE, 2, 0), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 3), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REFUSE, 0, 3), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 6), CH_STATUS_OK);
    /* So does one that expires, at its millisecond; asking the same one again takes the room again. */
    c.now_ms = first_ms + c.genesis.limits.request_expiry_ms - 1;
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 7), CH_STATUS_TOO_MANY_REQUESTS);
    c.now_ms++;
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 1), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 7), CH_STATUS_TOO_MANY_REQUESTS);
    c.now_ms += 1000;
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 7), CH_STATUS_OK);
    assert_int_equal(chain_do(&c, CH_TX_BIND_REQUEST, 0, 3), CH_STATUS_TOO_MANY_REQUESTS);
    chain_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_cell_is_as_written),
        cmocka_unit_test(each_cell_is_as_written_between_strangers),
        cmocka_unit_test(peer_is_checked_before_the_table),
        cmocka_unit_test(open_requests_are_counted_after_the_table),
    };
    chain_backend = IN_MEMORY;
    int failed = cmocka_run_group_tests_name("rows in memory", tests, NULL, NULL);
    chain_backend = ON_DISK;
    return failed + cmocka_run_group_tests_name("rows on disk", tests, NULL, NULL);
}
