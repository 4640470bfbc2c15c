/* client/object.h - objects: putting and getting ciphertext of any length, by its address.
 *
 * What:    cuts into leaves of 1 MiB under a dag-pb tree (wire/cid.h), several blocks under way at once, the root last;
 *          checks every block that comes against its address, and sizes against the tree. An object goes to one
 *          validator and comes from several. Where a connection is cut it goes on with the blocks that are missing;
 *          where a validator is lost, at another one.
 * Not:     no sealing (crypto/seal.h).
 * Thread, errors: client/chappe.h. A block is put or got again after a lost connection or when the node was too busy,
 *          until nothing has moved for the client's timeout.
 * Memory:  from open to close 10 MiB to put and 16 bytes for each MiB of the object; 12 MiB to get.
 */
#ifndef CHAPPE_CLIENT_OBJECT_H
#define CHAPPE_CLIENT_OBJECT_H

#include "client/chappe.h"
#include "crypto/seal.h"
#include "wire/cid.h"

/* How far it is, bytes; called at most once for each block and each round of packets. */
typedef void (*ch_progress)(void *context, uint64_t done, uint64_t total);

/* Putting: open, add all bytes in pieces of any size, end. `total` is for `progress`, which may be NULL.
 * CH_ERR_AGAIN from add or end: another validator took over, which lacks what was put so far. Call ch_putter_again and
 * add the same bytes from the first on: what the validator has is asked for first and not sent twice. Bytes that differ
 * from those of the first time are not sent: CH_ERR_CORRUPT. */
struct ch_putter;
CH_MUST_CHECK ch_err ch_putter_open(struct ch_client *client, uint64_t total, ch_progress progress, void *context,
                                    struct ch_putter **out);
/* A ch_sink of crypto/seal.h. */
CH_MUST_CHECK ch_err ch_putter_add(void *putter, const uint8_t *bytes, size_t length);
/* The address under which all of it is stored, and its length (at least 1: CH_ERR_INVALID when nothing was added). */
CH_MUST_CHECK ch_err ch_putter_end(struct ch_putter *putter, struct ch_cid *root, uint64_t *length);
/* CH_ERR_TIMEOUT: it was begun again too often. */
CH_MUST_CHECK ch_err ch_putter_again(struct ch_putter *putter);
/* Some of it may be there, from an attempt that was ended: as long as blocks are, they are asked for and not sent.
 * Before bytes are added. */
void ch_putter_ask_first(struct ch_putter *putter);
void ch_putter_close(struct ch_putter *putter); /* NULL is fine */

/* Instead of bytes: the blocks of a tree made elsewhere, in any order, but the root, which `end_blocks` puts last. */
CH_MUST_CHECK ch_err ch_putter_add_block(struct ch_putter *putter, const struct ch_cid *cid, const uint8_t *block,
                                         size_t length);
CH_MUST_CHECK ch_err ch_putter_end_blocks(struct ch_putter *putter, const struct ch_cid *root, const uint8_t *block,
                                          size_t length);

/* Gets the object of `length` bytes under `root`, in order, into `sink`; its error ends it. CH_ERR_PROTOCOL: what the
 * nodes sent isn't what the address and length name. */
CH_MUST_CHECK ch_err ch_client_get_object(struct ch_client *client, const struct ch_cid *root, uint64_t length,
                                          ch_sink sink, void *context, ch_progress progress, void *progress_context);
/* Takes a block; leaves in the file's order, each node before what is below it. */
typedef ch_err (*ch_block_taker)(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length);
/* The same, all blocks of the tree. `length` UINT64_MAX: whatever the root says. */
CH_MUST_CHECK ch_err ch_client_get_blocks(struct ch_client *client, const struct ch_cid *root, uint64_t length,
                                          ch_block_taker take, void *context, ch_progress progress,
                                          void *progress_context);
/* CH_OK: the node has the whole tree under `root`. CH_ERR_REFUSED with CH_STATUS_NO_SUCH_OBJECT or _NOT_FOUND. */
CH_MUST_CHECK ch_err ch_client_has_object(struct ch_client *client, const struct ch_cid *root);

#endif
