/* base/merkle.h - Merkle trees as in RFC 6962 section 2.1: leaf prefix 0x00, node prefix 0x01, no padding.
 *
 * Thread: no hidden state. Memory: the caller's. A tree of no leaves has the root SHA-256("").
 */
#ifndef CHAPPE_BASE_MERKLE_H
#define CHAPPE_BASE_MERKLE_H

#include "base/hash.h"

#define CH_MERKLE_DEPTH_MAX 64

/* hash = SHA-256(0x00 ‖ data), SHA-256(0x01 ‖ left ‖ right). */
void ch_merkle_leaf(const void *data, size_t length, uint8_t hash[CH_HASH_BYTES]);
void ch_merkle_node(const uint8_t left[CH_HASH_BYTES], const uint8_t right[CH_HASH_BYTES], uint8_t hash[CH_HASH_BYTES]);

/* A tree that only grows, as the roots of its full subtrees: what is needed to append and to give the root. */
struct ch_merkle_frontier {
    uint64_t size;
    uint8_t full[CH_MERKLE_DEPTH_MAX][CH_HASH_BYTES]; /* full[k] counts when bit k of size is set: a subtree of 2^k */
};
void ch_merkle_append(struct ch_merkle_frontier *tree, const uint8_t leaf[CH_HASH_BYTES]);
void ch_merkle_frontier_root(const struct ch_merkle_frontier *tree, uint8_t root[CH_HASH_BYTES]);

/* A whole tree: nodes[0..count-1] are the leaf hashes, count >= 1; build writes the levels above behind them, and the
 * root. `nodes` has room for CH_MERKLE_NODES(count). O(count). */
#define CH_MERKLE_NODES(count) (2 * (count) + CH_MERKLE_DEPTH_MAX)
void ch_merkle_build(uint8_t (*nodes)[CH_HASH_BYTES], uint64_t count, uint8_t root[CH_HASH_BYTES]);
/* The audit path of leaf `index` in a tree that was built, RFC 6962 section 2.1.1, bottom up; returns its length (at
 * most CH_MERKLE_DEPTH_MAX). index < count. O(log count). */
uint32_t ch_merkle_path(const uint8_t (*nodes)[CH_HASH_BYTES], uint64_t count, uint64_t index,
                        uint8_t (*path)[CH_HASH_BYTES]);
/* The root that `path` leads to from the leaf hash at `index` in a tree of `count` leaves (RFC 9162 section 2.1.3.2,
 * without the comparison); false when it is no path of such a tree. */
CH_MUST_CHECK bool ch_merkle_root_of_path(const uint8_t leaf[CH_HASH_BYTES], uint64_t index, uint64_t count,
                                          const uint8_t (*path)[CH_HASH_BYTES], uint32_t path_length,
                                          uint8_t root[CH_HASH_BYTES]);

#endif
