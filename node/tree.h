/* node/tree.h - whether all blocks of an object are stored over the committee, by what is known here.
 *
 * What:    walks the tree under a root: its nodes are here whole, every block has its certificate here (node/spread.h).
 * Thread:  the one whose reader it is. Memory: 570 KiB. Limits: CH_OBJECT_TREE_NODES nodes; a subtree
 *          that stands in several places is read once in a walk, and counted in each. What was whole is not read again
 *          as long as the store has lost nothing.
 */
#ifndef CHAPPE_NODE_TREE_H
#define CHAPPE_NODE_TREE_H

#include "node/spread.h"
#include "store/object.h"

#define CH_TREE_MISSING_MAX 64

/* What is kept of blocks, as names of the object store. */
enum { CH_NAME_MANIFEST = 1, CH_NAME_STORED = 2, CH_NAME_SHARD = 3, CH_NAME_NAMED = 4, CH_NAME_MARK = 5 };

struct ch_tree;
CH_MUST_CHECK ch_err ch_tree_open(struct ch_object_reader *reader, unsigned validators, struct ch_tree **out);
void ch_tree_close(struct ch_tree *tree);

/* CH_OK: all is stored, *file_bytes the file's length. Where the root is one raw block, *file_bytes says how long it
 * should be, or UINT64_MAX: as its manifest here says. CH_ERR_NOT_FOUND: of blocks that are not known to be stored up
 * to CH_TREE_MISSING_MAX are in `missing` (NULL: the first ends it), *count of them. CH_ERR_INVALID: none of our trees.
 * CH_ERR_TIMEOUT: the storage does not answer. */
CH_MUST_CHECK ch_err ch_tree_look(struct ch_tree *tree, const struct ch_cid *root, uint64_t *file_bytes,
                                  struct ch_cid *missing, size_t *count);

/* What is said of a block that was told. */
enum ch_tree_word { CH_TREE_LATER, CH_TREE_TAKEN, CH_TREE_GAP };

/* Where a walk is; zeros: at the root. */
struct ch_tree_walk {
    uint64_t id, losses;
    uint32_t nodes_left, gaps;
    int depth; /* nodes on the way to where it stopped, which are told, and the links that were taken there */
    uint16_t at[CH_UNIXFS_DEPTH_MAX];
    uint32_t gaps_before[CH_UNIXFS_DEPTH_MAX];
};

/* Tells of the blocks of the tree under a root (`root_bytes` long where it is one raw block), it too, in their order,
 * from where the walk is on, until `each` says later; true when that is all of them. What is below a node that isn't
 * here is not told of. A subtree that stands in several places is told once; not at all, where each of its blocks was
 * taken before and nothing was lost since. A gap is a block that is to be told again in the next walk. */
bool ch_tree_each(struct ch_tree *tree, struct ch_tree_walk *walk, const struct ch_cid *root, uint64_t root_bytes,
                  enum ch_tree_word (*each)(void *context, const struct ch_cid *cid, uint32_t length), void *context);

/* Reads of the object store as a spread machine wants them; `context` is the address of a reader pointer. */
bool ch_tree_has(void *context, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES]);
ch_err ch_tree_get(void *context, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES], uint8_t *to,
                   size_t capacity, size_t *length, uint64_t *put_ms);
/* The object store's kind of name of a record, and its address. */
unsigned ch_tree_name_kind(enum ch_spread_kind kind);
struct ch_cid ch_tree_address(enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES]);

#endif
