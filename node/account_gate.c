#include "node/account_gate.h"

#include "base/bytes.h"

#include <stdlib.h>

ch_err ch_account_gate_open(struct ch_account_gate *gate, uint64_t rate, const uint64_t salt[4])
{
    *gate = (struct ch_account_gate){.rate = rate, .salt = {salt[0], salt[1], salt[2], salt[3]}};
    gate->buckets = calloc(CH_ACCOUNT_BUCKETS, sizeof *gate->buckets);
    return gate->buckets ? CH_OK : CH_ERR_NO_MEMORY;
}

void ch_account_gate_close(struct ch_account_gate *gate)
{
    free(gate->buckets);
    gate->buckets = NULL;
}

bool ch_account_gate_take(struct ch_account_gate *gate, const uint8_t key[32], uint64_t now_ns)
{
    unsigned __int128 a = (unsigned __int128)(ch_load64(key) ^ gate->salt[0]) * (ch_load64(key + 8) ^ gate->salt[1]);
    unsigned __int128 b =
        (unsigned __int128)(ch_load64(key + 16) ^ gate->salt[2]) * (ch_load64(key + 24) ^ gate->salt[3]);
    uint64_t hash = (uint64_t)a ^ (uint64_t)(a >> 64) ^ (uint64_t)b ^ (uint64_t)(b >> 64);
    return ch_bucket_take(&gate->buckets[(hash ^ hash >> 32) % CH_ACCOUNT_BUCKETS], gate->rate, 1, now_ns);
}
