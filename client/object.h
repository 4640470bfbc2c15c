/* client/object.h - objects: putting and getting ciphertext of any length, by its address.
 *
 * What:    cuts into leaves of 1 MiB under a dag-pb tree (wire/cid.h), several blocks under way at once, the root last;
 *          checks every block that comes against its address, and sizes against the tree. Not: no sealing
 *          (crypto/seal.h).
 * Thread, errors: client/chappe.h. A block is put again after a lost connection or when the node was too busy, until
 *          nothing has moved for the client's timeout. Memory: 3 MiB from open to close, 0.2 MiB for the tree.
 */
#ifndef CHAPPE_CLIENT_OBJECT_H
#define CHAPPE_CLIENT_OBJECT_H

#include "client/chappe.h"
#include "crypto/seal.h"
#include "wire/cid.h"

/* How far it is, bytes; called at most once for each block and each round of packets. */
typedef void (*ch_progress)(void *context, uint64_t done, uint64_t total);

/* Putting: open, add all bytes in pieces of any size, end. `total` is for `progress`, which may be NULL. */
struct ch_putter;
CH_MUST_CHECK ch_err ch_putter_open(struct ch_client *client, uint64_t total, ch_progress progress, void *context,
                                    struct ch_putter **out);
/* A ch_sink of crypto/seal.h. */
CH_MUST_CHECK ch_err ch_putter_add(void *putter, const uint8_t *bytes, size_t length);
/* The address under which all of it is stored, and its length (at least 1: CH_ERR_INVALID when nothing was added). */
CH_MUST_CHECK ch_err ch_putter_end(struct ch_putter *putter, struct ch_cid *root, uint64_t *length);
void ch_putter_close(struct ch_putter *putter); /* NULL is fine */

/* Gets the object of `length` bytes under `root`, in order, into `sink`; its error ends it. CH_ERR_PROTOCOL: what the
 * node sent isn't what the address and length name. */
CH_MUST_CHECK ch_err ch_client_get_object(struct ch_client *client, const struct ch_cid *root, uint64_t length,
                                          ch_sink sink, void *context, ch_progress progress, void *progress_context);
/* CH_OK: the node has the whole tree under `root`. CH_ERR_REFUSED with CH_STATUS_NO_SUCH_OBJECT or _NOT_FOUND. */
CH_MUST_CHECK ch_err ch_client_has_object(struct ch_client *client, const struct ch_cid *root);

#endif
