/* wire/cid.h - addresses by content that any IPFS client understands, and the tree under which large files lie.
 *
 * What:    CIDv1 in binary (36 bytes) and text (multibase base32), codecs raw and dag-pb, hash sha2-256; dag-pb nodes
 *          of UnixFS files; the balanced tree over raw leaves of 1 MiB with at most 1024 links a node. The root equals
 *          that of ipfs-unixfs-importer with cidVersion 1, rawLeaves, fixed chunks of 1 MiB,
 *          balanced({maxChildrenPerNode: 1024}).
 * Sources: github.com/multiformats/cid, ipld.io/specs/codecs/dag-pb, github.com/ipfs/specs UNIXFS.md.
 * Thread:  no state; a ch_unixfs_builder is its owner's.
 * Limits:  a block is at most CH_BLOCK_BYTES_MAX; a file at most 1024^3 leaves (1 EiB).
 */
#ifndef CHAPPE_WIRE_CID_H
#define CHAPPE_WIRE_CID_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"

#define CH_CID_BYTES             36
#define CH_CID_TEXT_BYTES        60 /* 'b', 58 letters, the terminating zero */
#define CH_BLOCK_BYTES_MAX       (1u << 20)
#define CH_UNIXFS_LEAF_BYTES     (1u << 20)
#define CH_UNIXFS_LINKS_MAX      1024
#define CH_UNIXFS_DEPTH_MAX      3 /* nodes from the root to a leaf's parent, both counted */
#define CH_UNIXFS_NODE_BYTES_MAX (80u << 10)

enum ch_cid_codec { CH_CID_RAW = 0x55, CH_CID_DAG_PB = 0x70 };

/* 01 codec 12 20, then SHA-256 of the block. */
struct ch_cid {
    uint8_t bytes[CH_CID_BYTES];
};

void ch_cid_make(enum ch_cid_codec codec, const uint8_t digest[CH_HASH_BYTES], struct ch_cid *cid);
/* The CID of a block's bytes. */
void ch_cid_of(enum ch_cid_codec codec, const void *block, size_t length, struct ch_cid *cid);
/* True when these 36 bytes are a CID as above; what the others here take must be one. */
bool ch_cid_valid(const uint8_t bytes[CH_CID_BYTES]);
static inline enum ch_cid_codec ch_cid_codec(const struct ch_cid *cid)
{
    return (enum ch_cid_codec)cid->bytes[1];
}
static inline const uint8_t *ch_cid_digest(const struct ch_cid *cid)
{
    return cid->bytes + 4;
}
/* True when the block's bytes are the ones that the CID names. */
bool ch_cid_matches(const struct ch_cid *cid, const void *block, size_t length);

/* A block whose bytes are known to be those that its CID names: who takes one need not hash them again. Made by the two
 * below alone; a taker asserts ch_cid_is_checked. The bytes stay the maker's. */
struct ch_cid_block {
    struct ch_cid cid;
    const uint8_t *bytes;
    size_t length;
    const void *checked;
};
/* False, and `out` is no checked block, when the bytes aren't the CID's. */
bool ch_cid_check(const struct ch_cid *cid, const void *bytes, size_t length, struct ch_cid_block *out);
/* The same for a caller that has hashed these very bytes already. */
bool ch_cid_check_digest(const struct ch_cid *cid, const uint8_t digest[CH_HASH_BYTES], const void *bytes,
                         size_t length, struct ch_cid_block *out);
bool ch_cid_is_checked(const struct ch_cid_block *block);

/* Lower-case base32 without padding, after the multibase prefix 'b'. */
void ch_cid_to_text(const struct ch_cid *cid, char text[CH_CID_TEXT_BYTES]);
/* False, `cid` untouched, for text that isn't what ch_cid_to_text gives. */
bool ch_cid_from_text(const char *text, struct ch_cid *cid);

struct ch_unixfs_link {
    struct ch_cid cid;
    uint64_t tree_bytes; /* Tsize: all blocks of the subtree */
    uint64_t file_bytes; /* of the file below */
};

/* Writes the node over `count` links (1..CH_UNIXFS_LINKS_MAX), and its own link. `to` holds CH_UNIXFS_NODE_BYTES_MAX.
 * Returns its length. */
size_t ch_unixfs_encode(const struct ch_unixfs_link *links, size_t count, uint8_t *to, struct ch_unixfs_link *self);
/* Reads a node into at most CH_UNIXFS_LINKS_MAX links; returns how many, or 0 for anything else than the very bytes
 * that ch_unixfs_encode writes (other IPFS nodes included: the network stores what its clients make). */
size_t ch_unixfs_decode(const uint8_t *node, size_t length, struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX]);

/* Takes the leaves of a file in order and gives the nodes above as they become full, so that a file of any size passes
 * in constant memory (about 200 KiB). */
struct ch_unixfs_builder;
/* `put` is called for each finished node; its result, if not CH_OK, ends the building. */
CH_MUST_CHECK ch_err ch_unixfs_open(ch_err (*put)(void *context, const struct ch_cid *cid, const uint8_t *block,
                                                  size_t length),
                                    void *context, struct ch_unixfs_builder **out);
void ch_unixfs_close(struct ch_unixfs_builder *builder);
/* The next leaf, already hashed (CH_CID_RAW) and put; all but the last are CH_UNIXFS_LEAF_BYTES long.
 * CH_ERR_FULL after 1024^3 leaves. */
CH_MUST_CHECK ch_err ch_unixfs_add(struct ch_unixfs_builder *builder, const struct ch_cid *leaf, uint32_t length);
/* The root, after at least one leaf: that leaf's own link where there was only one. */
CH_MUST_CHECK ch_err ch_unixfs_end(struct ch_unixfs_builder *builder, struct ch_unixfs_link *root);

/* A walk over the tree under a root in the file's order, each node before what is below it: depth first. The caller
 * gets the blocks: after `next` gave a link to a node (CH_CID_DAG_PB) it calls `enter` with the node's bytes, unless it
 * means to leave out what is below. About 170 KiB. */
struct ch_unixfs_walk {
    unsigned depth; /* levels in use */
    struct {
        size_t count, next;
        struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX];
    } levels[CH_UNIXFS_DEPTH_MAX + 1]; /* the first has the root alone */
};
/* `file_bytes`: what the root must have; UINT64_MAX: it is not known. */
void ch_unixfs_walk_begin(struct ch_unixfs_walk *walk, const struct ch_cid *root, uint64_t file_bytes);
/* False after the last. */
CH_MUST_CHECK bool ch_unixfs_walk_next(struct ch_unixfs_walk *walk, struct ch_unixfs_link *link);
/* False, and the walk can't go on: no node as ch_unixfs_decode takes them, of another length than `link` says, or
 * deeper than CH_UNIXFS_DEPTH_MAX. */
CH_MUST_CHECK bool ch_unixfs_walk_enter(struct ch_unixfs_walk *walk, const struct ch_unixfs_link *link,
                                        const uint8_t *node, size_t length);

#endif
