/* wire/block.h - blocks, references, commits and the committee: their bytes, digests and stateless rules.
 *
 * A block header, docs/consensus.md 2.1 (signed, hashed, pushed first):
 *   0 u16 version 1 | 2 u16 author | 4 u32 epoch | 8 u32 round | 12 u16 n_anc | 14 u16 n_votes | 16 u16 n_cksig |
 *   18 u16 flags 0 | 20 u32 payload_len | 24 u32 payload_items | 28 u32 zero | 32 u64 timestamp ms | 40 payload root |
 *   72 n_anc x reference | n_votes x (u64 index | 32 digest) | n_cksig x (u64 seq | 32 digest | 64 signature) |
 *   64 signature (trailer, not hashed)
 * A commit, 2.3:
 *   u16 version 1 | u32 epoch | u64 index | 32 previous digest | leader reference | u16 rank | u32 gc round |
 *   u64 timestamp ms | u32 schedule version | u32 n_blocks | n_blocks x reference
 *
 * Thread: no state. Errors: a verdict, counted by whoever asked; outputs count only with CH_BLOCK_OK.
 */
#ifndef CHAPPE_WIRE_BLOCK_H
#define CHAPPE_WIRE_BLOCK_H

#include "wire/genesis.h"

#define CH_BLOCK_FIXED_BYTES     72
#define CH_BLOCK_SIGNATURE_BYTES 64
#define CH_BLOCK_VOTE_BYTES      40
#define CH_BLOCK_CKSIG_BYTES     104
#define CH_BLOCK_ROUND_MAX       (1u << 31)
#define CH_COMMIT_FIXED_BYTES    108
#define CH_REF_BYTES             40

#define CH_DOMAIN_BLOCK_SIGNATURE      "chappe/sig/block/1"
#define CH_DOMAIN_CHECKPOINT_SIGNATURE "chappe/sig/ckpt/1"
#define CH_DOMAIN_I_AM_SIGNATURE       "chappe/sig/iam/1"

/* Exactly the 40 bytes on the wire. */
struct ch_ref {
    uint32_t round;
    uint16_t author;
    uint16_t zero;
    uint8_t digest[CH_HASH_BYTES];
};
_Static_assert(sizeof(struct ch_ref) == CH_REF_BYTES, "a reference is its wire bytes");

static inline struct ch_ref ch_ref_read(const uint8_t *bytes)
{
    struct ch_ref ref;
    memcpy(&ref, bytes, sizeof ref);
    return ref;
}
/* The total order: round, author, digest bytes. */
int ch_ref_compare(const struct ch_ref *a, const struct ch_ref *b);

/* One epoch's committee: set what is above the line, then ch_committee_init. */
struct ch_committee {
    uint8_t chain_id[CH_HASH_BYTES];
    uint8_t epoch_seed[CH_HASH_BYTES]; /* digest of the last epoch's last checkpoint; zeros in epoch 0 */
    uint64_t start_ms;                 /* the epoch's start time: commit 0's timestamp */
    uint32_t epoch;
    uint16_t n;
    uint8_t key[CH_VALIDATORS_MAX][32]; /* ascending */
    uint32_t stake[CH_VALIDATORS_MAX];  /* >= 1 each, the sum below 2^32 */
    struct ch_genesis_params params;
    /* derived: */
    uint32_t stake_total;    /* S */
    uint32_t fault_stake;    /* f = (S - 1) / 3 */
    uint32_t quorum_stake;   /* Q = S - f */
    uint32_t validity_stake; /* V = f + 1 */
    uint32_t header_bytes_max;
    uint8_t genesis[CH_VALIDATORS_MAX][CH_HASH_BYTES]; /* digests of the round 0 blocks */
};

/* Epoch 0 of a genesis with this chain id. */
void ch_committee_from_genesis(const struct ch_genesis *genesis, const uint8_t chain_id[CH_HASH_BYTES],
                               struct ch_committee *out);
/* The derived fields. */
void ch_committee_init(struct ch_committee *committee);
/* H("chappe/committee/1" | chain id | u32 epoch | u16 n | n x (key | u32 stake) | 11 x u64 parameters). */
void ch_committee_digest(const struct ch_committee *committee, uint8_t digest[CH_HASH_BYTES]);
/* The reference of validator `author`'s round 0 block. */
struct ch_ref ch_committee_genesis_ref(const struct ch_committee *committee, uint16_t author);

#define CH_BLOCK_VERDICT_LIST(X)                                                                                       \
    X(OK)                                                                                                              \
    X(BAD_LENGTH)   /* S1: shorter than its own counts say, or bytes left over */                                      \
    X(BAD_FIELD)    /* S1: a value out of range, or a reserved one not zero */                                         \
    X(WRONG_EPOCH)  /* S2 */                                                                                           \
    X(BAD_ANCESTOR) /* S4, S5: own first, the others ascending, each of a lower round */                               \
    X(NO_QUORUM)    /* S6: parents below the quorum */                                                                 \
    X(BAD_GENESIS)  /* S7 */                                                                                           \
    X(BAD_VOTE)     /* S8: votes or checkpoint signatures not ascending */

enum ch_block_verdict {
#define X(name) CH_BLOCK_##name,
    CH_BLOCK_VERDICT_LIST(X)
#undef X
        CH_BLOCK_VERDICTS
};
const char *ch_block_verdict_name(enum ch_block_verdict verdict);

/* A header parsed in place: the pointers are into the bytes given, which have no alignment. */
struct ch_block {
    const uint8_t *bytes;
    uint32_t length; /* trailer included */
    uint32_t epoch, round;
    uint16_t author, ancestor_count, vote_count, cksig_count;
    uint32_t payload_length, payload_items;
    uint64_t timestamp_ms;
    const uint8_t *payload_root, *ancestors, *votes, *cksigs, *signature;
};

static inline struct ch_ref ch_block_ancestor(const struct ch_block *block, unsigned i)
{
    return ch_ref_read(block->ancestors + (size_t)i * CH_REF_BYTES);
}

/* The length of the header that begins at `bytes` by its own counts, trailer included; 0 when fewer than
 * CH_BLOCK_FIXED_BYTES are there. It may exceed `length`. */
uint32_t ch_block_length(const uint8_t *bytes, size_t length);
/* Fields in place, trusting the bytes (they were checked before): for what comes from our own memory or log. */
void ch_block_view(const uint8_t *bytes, uint32_t length, struct ch_block *out);
/* S1, S2, S4-S8 without the signatures. `length` is the header's whole length. */
CH_MUST_CHECK enum ch_block_verdict ch_block_parse(const struct ch_committee *committee, const uint8_t *bytes,
                                                   size_t length, struct ch_block *out);
/* H("chappe/block/1" | chain id | header without trailer). */
void ch_block_digest(const struct ch_committee *committee, const struct ch_block *block, uint8_t digest[CH_HASH_BYTES]);
/* H("chappe/payload/0" | payload), or zeros for an empty one. */
void ch_payload_root(const void *payload, size_t length, uint8_t root[CH_HASH_BYTES]);

/* What a new block says; the lists in their wire bytes. */
struct ch_block_draft {
    uint32_t epoch, round;
    uint16_t author, ancestor_count, vote_count, cksig_count;
    uint32_t payload_length, payload_items;
    uint64_t timestamp_ms;
    uint8_t payload_root[CH_HASH_BYTES];
    const struct ch_ref *ancestors;
    const uint8_t *votes, *cksigs;
};
/* Writes the header with a zero trailer; returns its length with the trailer. `out` holds header_bytes_max. */
uint32_t ch_block_write(const struct ch_block_draft *draft, uint8_t *out);

struct ch_commit {
    uint32_t epoch;
    uint64_t index;
    uint8_t previous[CH_HASH_BYTES];
    struct ch_ref leader;
    uint16_t rank;
    uint32_t gc_round;
    uint64_t timestamp_ms;
    uint32_t schedule_version;
    uint32_t block_count;
    const uint8_t *refs; /* block_count x 40 bytes, ascending; the leader is the last */
};
/* Writes the fixed part (block_count included); the references follow it. */
void ch_commit_write(const struct ch_commit *commit, uint8_t out[CH_COMMIT_FIXED_BYTES]);
/* False unless version, length, the references' order and the leader's place fit. */
CH_MUST_CHECK bool ch_commit_parse(const uint8_t *bytes, size_t length, struct ch_commit *out);
/* H("chappe/commit/1" | chain id | commit bytes). */
void ch_commit_digest(const struct ch_committee *committee, const uint8_t *bytes, size_t length,
                      uint8_t digest[CH_HASH_BYTES]);

#endif
