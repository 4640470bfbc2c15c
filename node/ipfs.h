/* node/ipfs.h - objects for any IPFS client: the Trustless Gateway over HTTP.
 *
 * What:    GET|HEAD /ipfs/{cid} on a TCP port of its own: a block (raw, with ranges) or all blocks under it (CAR, depth
 *          first), where from is the caller's: a ch_ipfs_source. Who asks checks the bytes against the CID.
 * Not:     no TLS, no names, no content put together (clients do that), no path below an object.
 * Source:  specs.ipfs.tech/http-gateways/trustless-gateway; ipld.io/specs/transport/car/carv1.
 * Thread:  a thread for each connection, so that a slow reader or a slow source holds up nobody else; ch_ipfs_look from
 *          any one thread.
 * Limits:  `connections_max` at once, `connections_per_address`; more wait in the kernel's queue. 4.4 MiB each while it
 *          is answered. A connection without a request for `idle_s`, or an answer that is read more slowly than
 *          CH_IPFS_BYTES_A_SECOND_MIN after as long, is ended.
 */
#ifndef CHAPPE_NODE_IPFS_H
#define CHAPPE_NODE_IPFS_H

#include "node/metrics.h"
#include "wire/cid.h"

#define CH_IPFS_BYTES_A_SECOND_MIN 16384

/* Where blocks come from. A reader is one thread's at a time, and kept for the next request. */
struct ch_ipfs_source {
    void *context;
    ch_err (*open)(void *context, void **reader);
    /* As ch_object_get and ch_object_has_tree (store/object.h); may wait, for another validator's answer too. */
    ch_err (*get)(void *reader, const struct ch_cid *cid, void *to, size_t capacity, size_t *length);
    ch_err (*has_tree)(void *reader, const struct ch_cid *root, uint64_t *file_bytes);
    void (*close)(void *reader);
};

struct ch_ipfs_options {
    const char *address; /* to listen on; IPv4 or IPv6 */
    uint16_t port;
    uint32_t connections_max, connections_per_address, idle_s;
    struct ch_ipfs_source source;
    struct ch_metrics *metrics;
};

struct ch_ipfs;
/* CH_ERR_INVALID: no address; CH_ERR_BUSY: the port is taken, or the address not ours. */
CH_MUST_CHECK ch_err ch_ipfs_open(const struct ch_ipfs_options *options, struct ch_ipfs **out);
/* Ends connections that are idle or read too slowly; once a second or so. NULL is fine. */
void ch_ipfs_look(struct ch_ipfs *ipfs, uint64_t now_ns);
void ch_ipfs_close(struct ch_ipfs *ipfs); /* NULL is fine */

#endif
