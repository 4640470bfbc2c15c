/* What each kind of transaction may do. A kind's checks run in the order written: the first that fails names the
 * refusal. */
#include "crypto/sign.h"
#include "ledger/ledger_impl.h"

static ch_err refuse(struct call *c, enum ch_status status)
{
    c->status = status;
    return CH_OK;
}

/* A limit has passed when time - since >= limit. Times of commits never go back, so time >= since. */
static bool passed(const struct call *c, uint64_t since_ms, uint64_t limit_ms)
{
    return c->time_ms - since_ms >= limit_ms;
}

static bool is_registrar(const struct ch_ledger *l, const uint8_t *key)
{
    for (unsigned i = 0; i < l->registrar_count; i++)
        if (memcmp(l->registrars[i], key, CH_KEY_BYTES) == 0)
            return true;
    return false;
}

static ch_err find(struct call *c, const uint8_t *key, uint64_t *serial, const struct ch_account **row)
{
    return c->ledger->rows.account(c->ledger->rows.context, key, serial, row);
}

static ch_err register_account(struct call *c)
{
    struct ch_ledger *l = c->ledger;
    const struct ch_tx *tx = c->tx;
    if (!ch_handle_valid(tx->handle, tx->handle_length))
        return refuse(c, CH_STATUS_BAD_HANDLE);
    if (!ch_sign_key_strong(tx->sender) || !ch_seal_key_strong(tx->seal_key))
        return refuse(c, CH_STATUS_WEAK_KEY);
    if (!is_registrar(l, tx->registrar))
        return refuse(c, CH_STATUS_NOT_REGISTRAR);
    if (!c->item->approval_ok)
        return refuse(c, CH_STATUS_BAD_APPROVAL);
    if (c->time_ms >= tx->approval_expires_ms)
        return refuse(c, CH_STATUS_APPROVAL_EXPIRED);
    uint64_t serial;
    const struct ch_account *there;
    ch_err err = find(c, tx->sender, &serial, &there);
    if (err == CH_OK)
        return refuse(c, CH_STATUS_KEY_TAKEN);
    if (err != CH_ERR_NOT_FOUND)
        return err;
    bool taken;
    err = l->rows.handle_taken(l->rows.context, tx->handle, tx->handle_length, &taken);
    if (err != CH_OK)
        return err;
    if (taken)
        return refuse(c, CH_STATUS_HANDLE_TAKEN);
    struct ch_account row = {.registered_commit = c->commit_index,
                             .registered_ms = c->time_ms,
                             .status = CH_ACCOUNT_ACTIVE,
                             .handle_length = tx->handle_length};
    memcpy(row.key, tx->sender, CH_KEY_BYTES);
    memcpy(row.seal_key, tx->seal_key, CH_KEY_BYTES);
    memcpy(row.registrar, tx->registrar, CH_KEY_BYTES);
    memcpy(row.handle, tx->handle, tx->handle_length);
    return l->rows.account_put(l->rows.context, l->head.accounts++, &row);
}

static ch_err rotate_seal_key(struct call *c, uint64_t sender, const struct ch_account *sender_row)
{
    if (!ch_seal_key_strong(c->tx->seal_key))
        return refuse(c, CH_STATUS_WEAK_KEY);
    struct ch_account row = *sender_row;
    memcpy(row.seal_key, c->tx->seal_key, CH_KEY_BYTES);
    row.seal_epoch++;
    return c->ledger->rows.account_put(c->ledger->rows.context, sender, &row);
}

static ch_err revoke(struct call *c)
{
    uint64_t serial;
    const struct ch_account *named;
    ch_err err = find(c, c->tx->peer, &serial, &named);
    if (err == CH_ERR_NOT_FOUND)
        return refuse(c, CH_STATUS_NO_SUCH_PEER);
    if (err != CH_OK)
        return err;
    if (named->status != CH_ACCOUNT_ACTIVE)
        return refuse(c, CH_STATUS_PEER_REVOKED);
    if (memcmp(c->tx->sender, named->key, CH_KEY_BYTES) != 0 &&
        memcmp(c->tx->sender, named->registrar, CH_KEY_BYTES) != 0)
        return refuse(c, CH_STATUS_NOT_ALLOWED);
    struct ch_account row = *named;
    row.status = CH_ACCOUNT_REVOKED;
    return c->ledger->rows.account_put(c->ledger->rows.context, serial, &row);
}

/* A relation as the sender sees it now: expired rows read as what they have become. */
enum view {
    FREE, /* none, unbound, expired, refused by the sender or long ago */
    REQUESTED_BY_SENDER,
    REQUESTED_BY_PEER,
    REFUSED_BY_PEER,
    BOUND,
    UNBINDING_BY_SENDER,
    UNBINDING_BY_PEER,
    VIEWS
};

static bool sender_is_larger(const struct call *c)
{
    return memcmp(c->tx->sender, c->tx->peer, CH_KEY_BYTES) > 0;
}

static enum view view_of(const struct call *c, const struct ch_relation *row)
{
    const struct ch_genesis_limits *limits = &c->ledger->limits;
    bool by_sender = row->by == sender_is_larger(c);
    switch (row->state) {
    case CH_RELATION_REQUESTED:
        if (passed(c, row->since_ms, limits->request_expiry_ms))
            return FREE;
        return by_sender ? REQUESTED_BY_SENDER : REQUESTED_BY_PEER;
    case CH_RELATION_REFUSED:
        return by_sender || passed(c, row->since_ms, limits->refusal_rest_ms) ? FREE : REFUSED_BY_PEER;
    case CH_RELATION_BOUND:
        return BOUND;
    case CH_RELATION_UNBINDING:
        if (passed(c, row->since_ms, limits->unbinding_ms))
            return FREE;
        return by_sender ? UNBINDING_BY_SENDER : UNBINDING_BY_PEER;
    default:
        return FREE;
    }
}

/* The table of relations (docs/protocol.md, section 11): the state that follows, or the refusal. */
struct cell {
    uint8_t status, next;
};
#define TO(state)                                                                                                      \
    {                                                                                                                  \
        CH_STATUS_OK, CH_RELATION_##state                                                                              \
    }
#define REFUSED(name)                                                                                                  \
    {                                                                                                                  \
        CH_STATUS_##name, 0                                                                                            \
    }
static const struct cell cells[VIEWS][5] = {
    /* BIND_REQUEST, BIND_ACCEPT, BIND_REFUSE, UNBIND_REQUEST, UNBIND_CONFIRM */
    [FREE] = {TO(REQUESTED), REFUSED(NO_REQUEST), REFUSED(NO_REQUEST), REFUSED(NOT_BOUND), REFUSED(NOT_BOUND)},
    [REQUESTED_BY_SENDER] = {REFUSED(ALREADY_REQUESTED), REFUSED(NO_REQUEST), TO(NONE), REFUSED(NOT_BOUND),
                             REFUSED(NOT_BOUND)},
    [REQUESTED_BY_PEER] = {TO(BOUND), TO(BOUND), TO(REFUSED), REFUSED(NOT_BOUND), REFUSED(NOT_BOUND)},
    [REFUSED_BY_PEER] = {REFUSED(REFUSED_RECENTLY), REFUSED(NO_REQUEST), REFUSED(NO_REQUEST), REFUSED(NOT_BOUND),
                         REFUSED(NOT_BOUND)},
    [BOUND] = {REFUSED(ALREADY_BOUND), REFUSED(ALREADY_BOUND), REFUSED(ALREADY_BOUND), TO(UNBINDING),
               REFUSED(NOT_UNBINDING)},
    [UNBINDING_BY_SENDER] = {REFUSED(UNBINDING), REFUSED(UNBINDING), REFUSED(UNBINDING), REFUSED(UNBINDING),
                             REFUSED(NOT_ALLOWED)},
    [UNBINDING_BY_PEER] = {REFUSED(UNBINDING), REFUSED(UNBINDING), REFUSED(UNBINDING), TO(UNBOUND), TO(UNBOUND)},
};

static ch_err check_open_requests(struct call *c, uint64_t sender)
{
    const struct ch_genesis_limits *limits = &c->ledger->limits;
    bool full;
    uint64_t since_min_ms = c->time_ms >= limits->request_expiry_ms ? c->time_ms - limits->request_expiry_ms + 1 : 0;
    ch_err err =
        c->ledger->rows.requests_full(c->ledger->rows.context, sender, since_min_ms, limits->open_requests, &full);
    if (err != CH_OK)
        return err;
    return refuse(c, full ? CH_STATUS_TOO_MANY_REQUESTS : CH_STATUS_OK);
}

static ch_err change_relation(struct call *c, uint64_t sender)
{
    struct ch_ledger *l = c->ledger;
    const struct ch_tx *tx = c->tx;
    uint64_t peer, serial;
    const struct ch_account *peer_row;
    ch_err err = find(c, tx->peer, &peer, &peer_row);
    if (err == CH_ERR_NOT_FOUND)
        return refuse(c, CH_STATUS_NO_SUCH_PEER);
    if (err != CH_OK)
        return err;
    if (peer_row->status != CH_ACCOUNT_ACTIVE && (tx->kind == CH_TX_BIND_REQUEST || tx->kind == CH_TX_BIND_ACCEPT))
        return refuse(c, CH_STATUS_PEER_REVOKED);
    if (peer == sender)
        return refuse(c, CH_STATUS_SELF);

    bool larger = sender_is_larger(c);
    struct ch_relation row = {.state = CH_RELATION_NONE};
    err = l->rows.relation(l->rows.context, sender, peer, &serial, &row);
    if (err == CH_ERR_NOT_FOUND)
        serial = l->head.relations;
    else if (err != CH_OK)
        return err;
    memcpy(row.smaller, larger ? tx->peer : tx->sender, CH_KEY_BYTES);
    memcpy(row.larger, larger ? tx->sender : tx->peer, CH_KEY_BYTES);
    const struct cell *cell = &cells[view_of(c, &row)][tx->kind - CH_TX_BIND_REQUEST];
    if (cell->status != CH_STATUS_OK)
        return refuse(c, cell->status);
    if (cell->next == CH_RELATION_REQUESTED) {
        err = check_open_requests(c, sender);
        if (err != CH_OK || c->status != CH_STATUS_OK)
            return err;
    }
    row.state = cell->next;
    row.since_ms = c->time_ms;
    if (cell->next == CH_RELATION_REQUESTED) {
        row.request_log_index = c->log_index;
        row.accept_log_index = 0;
    } else if (cell->next == CH_RELATION_BOUND) {
        row.accept_log_index = c->log_index;
    }
    if (cell->next == CH_RELATION_REQUESTED || cell->next == CH_RELATION_REFUSED || cell->next == CH_RELATION_UNBINDING)
        row.by = larger;
    if (serial == l->head.relations)
        l->head.relations++;
    return l->rows.relation_put(l->rows.context, serial, larger ? peer : sender, larger ? sender : peer, &row);
}

/* May the sender write to the recipient? */
static ch_err check_bound(struct call *c, uint64_t sender, uint64_t recipient)
{
    uint64_t serial;
    struct ch_relation row;
    if (!c->ledger->require_relation || sender == recipient)
        return CH_OK;
    ch_err err = c->ledger->rows.relation(c->ledger->rows.context, sender, recipient, &serial, &row);
    if (err == CH_ERR_NOT_FOUND)
        return refuse(c, CH_STATUS_NOT_BOUND);
    if (err != CH_OK)
        return err;
    enum view view = view_of(c, &row);
    if (view == UNBINDING_BY_SENDER || view == UNBINDING_BY_PEER)
        return refuse(c, CH_STATUS_UNBINDING);
    return refuse(c, view == BOUND ? CH_STATUS_OK : CH_STATUS_NOT_BOUND);
}

static ch_err message(struct call *c, uint64_t sender)
{
    uint64_t recipient;
    const struct ch_account *row;
    ch_err err = find(c, c->tx->peer, &recipient, &row);
    if (err == CH_ERR_NOT_FOUND)
        return refuse(c, CH_STATUS_NO_SUCH_PEER);
    if (err != CH_OK)
        return err;
    if (row->status != CH_ACCOUNT_ACTIVE)
        return refuse(c, CH_STATUS_PEER_REVOKED);
    err = check_bound(c, sender, recipient);
    if (err != CH_OK || c->status != CH_STATUS_OK)
        return err;
    c->inbox_sequence = row->inbox_sequence + 1;
    ch_ledger_inbox_head(row->inbox_head, c->item->tx_id, c->inbox_sequence, c->inbox_head);
    return c->ledger->rows.message(c->ledger->rows.context, recipient, c->inbox_sequence, c->inbox_head, c->log_index);
}

ch_err apply_rules(struct call *c)
{
    uint64_t sender;
    const struct ch_account *row;
    if (c->tx->kind == CH_TX_REGISTER)
        return register_account(c);
    if (c->tx->kind == CH_TX_REVOKE && is_registrar(c->ledger, c->tx->sender))
        return revoke(c);
    ch_err err = find(c, c->tx->sender, &sender, &row);
    if (err == CH_ERR_NOT_FOUND)
        return refuse(c, CH_STATUS_NO_SUCH_ACCOUNT);
    if (err != CH_OK)
        return err;
    if (row->status != CH_ACCOUNT_ACTIVE)
        return refuse(c, CH_STATUS_REVOKED);
    switch (c->tx->kind) {
    case CH_TX_ROTATE_SEAL_KEY:
        return rotate_seal_key(c, sender, row);
    case CH_TX_REVOKE:
        return revoke(c);
    case CH_TX_MESSAGE:
        return message(c, sender);
    default:
        return change_relation(c, sender);
    }
}
