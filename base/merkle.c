#include "base/merkle.h"

void ch_merkle_leaf(const void *data, size_t length, uint8_t hash[CH_HASH_BYTES])
{
    struct ch_hash h;
    ch_hash_init(&h);
    ch_hash_add(&h, "\0", 1);
    ch_hash_add(&h, data, length);
    ch_hash_end(&h, hash);
}

void ch_merkle_node(const uint8_t left[CH_HASH_BYTES], const uint8_t right[CH_HASH_BYTES], uint8_t hash[CH_HASH_BYTES])
{
    struct ch_hash h;
    ch_hash_init(&h);
    ch_hash_add(&h, "\1", 1);
    ch_hash_add(&h, left, CH_HASH_BYTES);
    ch_hash_add(&h, right, CH_HASH_BYTES);
    ch_hash_end(&h, hash);
}

void ch_merkle_append(struct ch_merkle_frontier *tree, const uint8_t leaf[CH_HASH_BYTES])
{
    uint8_t carry[CH_HASH_BYTES];
    memcpy(carry, leaf, CH_HASH_BYTES);
    unsigned level = 0;
    for (; tree->size >> level & 1; level++)
        ch_merkle_node(tree->full[level], carry, carry);
    memcpy(tree->full[level], carry, CH_HASH_BYTES);
    tree->size++;
}

void ch_merkle_frontier_root(const struct ch_merkle_frontier *tree, uint8_t root[CH_HASH_BYTES])
{
    bool have = false;
    uint8_t sum[CH_HASH_BYTES];
    for (unsigned level = 0; level < CH_MERKLE_DEPTH_MAX; level++) {
        if (!(tree->size >> level & 1))
            continue;
        if (have)
            ch_merkle_node(tree->full[level], sum, sum);
        else
            memcpy(sum, tree->full[level], CH_HASH_BYTES);
        have = true;
    }
    if (have)
        memcpy(root, sum, CH_HASH_BYTES);
    else
        ch_hash("", 0, root);
}

/* A level lies behind the one below it. A node without a neighbour goes up as it is, which gives RFC 6962's tree: its
 * left part is the largest power of two. */
void ch_merkle_build(uint8_t (*nodes)[CH_HASH_BYTES], uint64_t count, uint8_t root[CH_HASH_BYTES])
{
    CH_ASSERT(count);
    for (; count > 1; count = (count + 1) / 2) {
        uint8_t (*above)[CH_HASH_BYTES] = nodes + count;
        for (uint64_t i = 0; i < count / 2; i++)
            ch_merkle_node(nodes[2 * i], nodes[2 * i + 1], above[i]);
        if (count & 1)
            memcpy(above[count / 2], nodes[count - 1], CH_HASH_BYTES);
        nodes = above;
    }
    memcpy(root, nodes[0], CH_HASH_BYTES);
}

uint32_t ch_merkle_path(const uint8_t (*nodes)[CH_HASH_BYTES], uint64_t count, uint64_t index,
                        uint8_t (*path)[CH_HASH_BYTES])
{
    CH_ASSERT(index < count);
    uint32_t length = 0;
    for (; count > 1; nodes += count, count = (count + 1) / 2, index /= 2)
        if ((index ^ 1) < count)
            memcpy(path[length++], nodes[index ^ 1], CH_HASH_BYTES);
    return length;
}

bool ch_merkle_root_of_path(const uint8_t leaf[CH_HASH_BYTES], uint64_t index, uint64_t count,
                            const uint8_t (*path)[CH_HASH_BYTES], uint32_t path_length, uint8_t root[CH_HASH_BYTES])
{
    if (index >= count)
        return false;
    uint64_t node = index, last = count - 1;
    memcpy(root, leaf, CH_HASH_BYTES);
    for (uint32_t i = 0; i < path_length; i++) {
        if (last == 0)
            return false;
        if ((node & 1) || node == last) {
            ch_merkle_node(path[i], root, root);
            while (!(node & 1) && node != 0) {
                node >>= 1;
                last >>= 1;
            }
        } else {
            ch_merkle_node(root, path[i], root);
        }
        node >>= 1;
        last >>= 1;
    }
    return last == 0;
}
