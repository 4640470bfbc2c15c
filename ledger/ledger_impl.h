/* ledger/ledger_impl.h - what ledger.c (order, window, log tree) and rules.c (what a kind may do) share. */
#ifndef CHAPPE_LEDGER_LEDGER_IMPL_H
#define CHAPPE_LEDGER_LEDGER_IMPL_H

#include "ledger/ledger.h"
#include "ledger/window_impl.h"

#define LEAF_INPUT_BYTES (1 + CH_HASH_BYTES + 24 + CH_HASH_BYTES)
#define LEAVES_MAX       64u

struct ch_ledger {
    struct ch_ledger_rows rows;
    struct ch_ledger_head head;
    struct window window;
    struct ch_hash_many *hashes;
    struct ch_genesis_limits limits;
    bool require_relation;
    uint16_t registrar_count;
    uint8_t registrars[CH_REGISTRARS_MAX][CH_KEY_BYTES];
    /* Leaves of this commit that are not in head.log yet. */
    unsigned leaf_count;
    uint8_t leaf_inputs[LEAVES_MAX][LEAF_INPUT_BYTES];
};

/* One transaction on its way through the rules. */
struct call {
    struct ch_ledger *ledger;
    const struct ch_ledger_item *item;
    const struct ch_tx *tx;
    uint64_t commit_index, time_ms, log_index;
    enum ch_status status;   /* out */
    uint64_t inbox_sequence; /* out; of a message */
    uint8_t inbox_head[CH_HASH_BYTES];
};

/* Everything after the checks that hold for every kind. Sets c->status; changes rows only when that is OK. */
CH_MUST_CHECK ch_err apply_rules(struct call *c);

#endif
