/* node/account_gate.h - how many transactions a second an account may have proposed here, whoever brings them.
 *
 * Memory: CH_ACCOUNT_BUCKETS buckets, 1 MiB; accounts that share one share its rate. Thread: order's.
 */
#ifndef CHAPPE_NODE_ACCOUNT_GATE_H
#define CHAPPE_NODE_ACCOUNT_GATE_H

#include "node/bucket.h"

#include "base/error.h"

#include <stdbool.h>

#define CH_ACCOUNT_BUCKETS 65536u

struct ch_account_gate {
    uint64_t rate;
    uint64_t salt[4]; /* which accounts share a bucket can't be chosen from outside */
    struct ch_bucket *buckets;
};

/* CH_ERR_NO_MEMORY. Zeroed, it can be closed. */
CH_MUST_CHECK ch_err ch_account_gate_open(struct ch_account_gate *gate, uint64_t rate, const uint64_t salt[4]);
void ch_account_gate_close(struct ch_account_gate *gate);
/* Takes a token of this account; false when it is too fast. Only for what the account has signed: its tokens are its
 * own. */
bool ch_account_gate_take(struct ch_account_gate *gate, const uint8_t key[32], uint64_t now_ns);

#endif
