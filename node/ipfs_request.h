/* node/ipfs_request.h - what a client of the Trustless Gateway asks for: paths and headers from strangers, read.
 *
 * What:    GET|HEAD /ipfs/{cid} with `format` or Accept, the parameters of CARs, one range of bytes.
 * Source:  specs.ipfs.tech/http-gateways/trustless-gateway, RFC 9110 (Accept, Range).
 * Thread:  no state. Every text may be anything; NULL: not given.
 */
#ifndef CHAPPE_NODE_IPFS_REQUEST_H
#define CHAPPE_NODE_IPFS_REQUEST_H

#include "wire/cid.h"

enum ch_ipfs_format { CH_IPFS_RAW, CH_IPFS_CAR };

struct ch_ipfs_question {
    const char *path;   /* of the URL, decoded */
    const char *format; /* from here on of the query */
    const char *car_version, *car_order, *car_dups, *dag_scope;
    const char *accept; /* the header */
};

struct ch_ipfs_request {
    bool probe; /* for the empty block bafkqaaa, whose bytes are in its CID: clients ask whether this is a gateway */
    struct ch_cid cid;
    enum ch_ipfs_format format;
    bool dups;       /* of a CAR: blocks that occur twice may be given twice */
    bool root_alone; /* of a CAR: the block of the root without what is below it */
};

/* 200 and the request, or 400, 404 or 406 and the reason in words. */
unsigned ch_ipfs_request_read(const struct ch_ipfs_question *question, struct ch_ipfs_request *request,
                              const char **why);

enum ch_ipfs_range { CH_IPFS_WHOLE, CH_IPFS_PART, CH_IPFS_UNSATISFIABLE };
/* A Range header for something of `length` bytes; of a part its first byte and how many. What isn't one range of bytes
 * is ignored, as RFC 9110 14.2 has it: the whole. */
enum ch_ipfs_range ch_ipfs_range_read(const char *range, uint64_t length, uint64_t *from, uint64_t *count);

#endif
