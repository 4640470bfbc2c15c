/* wire/genesis.h - the canonical bytes of a chain's beginning; their hash is the chain's identity.
 *
 *   u16 version 1 | u8 name length | name | u64 start ms | u8 require_relation | u16 n |
 *   n x (32 key | u32 stake | u16 length | QUIC address) ascending by key | u16 count | registrar keys ascending |
 *   7 x u64 limits | 11 x u64 consensus parameters
 *
 * chain_id = SHA-256("chappe/chain/1" 0 | those bytes). The text form for people is compiled to these bytes by
 * `chappe init`. Thread: no state. Errors: CH_ERR_INVALID for bytes that are not canonical.
 */
#ifndef CHAPPE_WIRE_GENESIS_H
#define CHAPPE_WIRE_GENESIS_H

#include "base/hash.h"

#define CH_GENESIS_NAME_BYTES_MAX    64
#define CH_GENESIS_ADDRESS_BYTES_MAX 64
#define CH_VALIDATORS_MAX            255
#define CH_REGISTRARS_MAX            64

struct ch_genesis_validator {
    uint8_t key[32];
    uint32_t stake;                                 /* >= 1 */
    char address[CH_GENESIS_ADDRESS_BYTES_MAX + 1]; /* "192.0.2.1:4740" or "[2001:db8::1]:4740" */
};

/* Times in ms. The replay window's memory on every validator is window_ids entries. */
struct ch_genesis_limits {
    uint64_t window_back_ms, window_ahead_ms, window_ids;
    uint64_t request_expiry_ms, refusal_rest_ms, unbinding_ms, open_requests;
};

/* docs/consensus.md section 1, in its order. */
struct ch_genesis_params {
    uint64_t leaders_per_round, wait_ranks, gc_depth, max_payload, max_items, max_votes, max_cksigs, ckpt_commits,
        sched_commits, payload_code, profile;
};

struct ch_genesis {
    char name[CH_GENESIS_NAME_BYTES_MAX + 1];
    uint64_t start_ms;
    bool require_relation;
    uint16_t validator_count, registrar_count;
    struct ch_genesis_validator validators[CH_VALIDATORS_MAX];
    uint8_t registrars[CH_REGISTRARS_MAX][32];
    struct ch_genesis_limits limits;
    struct ch_genesis_params params;
};

#define CH_GENESIS_BYTES_MAX                                                                                           \
    (2 + 1 + CH_GENESIS_NAME_BYTES_MAX + 8 + 1 + 2 + CH_VALIDATORS_MAX * (32 + 4 + 2 + CH_GENESIS_ADDRESS_BYTES_MAX) + \
     2 + CH_REGISTRARS_MAX * 32 + 18 * 8)

/* The defaults (docs/protocol.md, section 2) for a committee of n. */
void ch_genesis_defaults(struct ch_genesis *genesis, uint16_t n);
/* Sorts validators and registrars, checks ranges, writes the bytes; returns the length, or 0 when a value is out of
 * range. `out` holds CH_GENESIS_BYTES_MAX. */
size_t ch_genesis_encode(struct ch_genesis *genesis, uint8_t *out);
CH_MUST_CHECK ch_err ch_genesis_decode(const uint8_t *bytes, size_t length, struct ch_genesis *out);
void ch_genesis_chain_id(const uint8_t *bytes, size_t length, uint8_t chain_id[CH_HASH_BYTES]);

#endif
