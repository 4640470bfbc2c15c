/* consensus/message.h - the bodies of the messages between validators (docs/consensus.md Appendix C), and what must be
 * verified in them before the core sees them.
 *
 *   TIP         u32 quorum round | header of the sender's last own block, or nothing
 *   HEADER      header
 *   PAYLOAD     reference | u32 offset | bytes                        (the host's own)
 *   GET_BLOCKS  u32 gc round | u16 count | count x reference
 *   BLOCKS      u16 count | count x (u32 length | header)
 *   GET_PAYLOAD reference
 *   GET_COMMITS u64 from | u64 to
 *   COMMITS     u64 from | u64 oldest kept | u16 count | u16 proof count | count x (u32 length | commit) |
 *               proof count x (u32 length | header)    count 0: nothing provable from there; oldest kept > from: pruned
 *   WHO_AM_I    32 nonce
 *   I_AM        32 nonce | 64 signature over nonce | block digest (zeros without a block) | header, or nothing
 *   EVIDENCE    u32 length | header | header
 *
 * A header is whole, trailer included. Thread: no state.
 */
#ifndef CHAPPE_CONSENSUS_MESSAGE_H
#define CHAPPE_CONSENSUS_MESSAGE_H

#include "consensus/core.h"

#define CH_MESSAGE_BODY_BYTES_MAX ((1u << 20) + 4096)
#define CH_MESSAGE_REFS_MAX       64  /* in a GET_BLOCKS */
#define CH_MESSAGE_HEADERS_MAX    256 /* in a BLOCKS */
#define CH_MESSAGE_COMMITS_MAX    128 /* in a COMMITS */
#define CH_MESSAGE_SIGNATURES_MAX (CH_MESSAGE_HEADERS_MAX * 5)

/* One signature to verify: Ed25519 by `key` over domain (with its zero) | chain id | message. */
struct ch_message_signature {
    const uint8_t *key, *signature;
    const char *domain;
    uint8_t message[2 * CH_HASH_BYTES];
    uint32_t message_length;
};

/* True when the body is well-formed and every header in it passes ch_block_parse; the signatures to verify are in
 * out[0 .. *count), at most `capacity` of them (false beyond). The core may be given the body once all of them hold;
 * else it is the sender's fault (F4, 13.3). `peer` is the sender: an I_AM must be its own. */
CH_MUST_CHECK bool ch_message_check(const struct ch_committee *committee, uint16_t peer, enum ch_message_type type,
                                    const uint8_t *body, size_t length, struct ch_message_signature *out,
                                    size_t capacity, size_t *count);

/* Appends u32 length | bytes to a body that is being written: for the host's answers out of its log. */
void ch_message_item(struct ch_writer *w, const uint8_t *bytes, size_t length);

#endif
