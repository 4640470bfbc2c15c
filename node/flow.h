/* node/flow.h - what flows between the stages: batches of incoming transactions, and payloads of blocks.
 *
 *   net --batch--> verify --batch--> order --batch--> net          (early receipts, then the batch is free)
 *   order --payload--> log, apply --payload--> serve --payload--> net   (final receipts, then the payload is free)
 *
 * Both come from pools that are filled at start, so memory is bounded by their counts: an empty pool is backpressure to
 * the net stage. Thread: an object belongs to the stage that holds it; rings pass it on.
 */
#ifndef CHAPPE_NODE_FLOW_H
#define CHAPPE_NODE_FLOW_H

#include "node/ring.h"
#include "wire/cid.h"
#include "wire/frame.h"

/* Where a transaction came from, and so where its receipts go. connection 0: the fire hose, which gets none. */
struct ch_source {
    uint64_t connection;
    uint64_t request;
    uint16_t flags; /* CH_FRAME_FLAG_WANT_* */
};

#define CH_BATCH_TXS        256
#define CH_BATCH_BYTES      (96u << 10) /* copied bytes: SUBMIT frames outlive the connection's buffer here */
#define CH_BATCH_BUFFERS    64          /* or datagrams of the fire hose, passed on uncopied */
#define CH_BATCH_POOL_COUNT 256

struct ch_batch_tx {
    struct ch_tx tx;
    uint8_t id[CH_HASH_BYTES];
    uint16_t status;    /* CH_STATUS_OK, or the reason of the first stage that refused it */
    uint16_t hose_slot; /* of the fire hose's source */
    bool approval_ok;
};

struct ch_batch {
    struct ch_source source;
    bool suspect;          /* its source sent a bad signature before */
    bool found_bad;        /* verify met a bad signature in it */
    uint32_t count;        /* transactions */
    uint32_t bytes;        /* used of `copied` */
    uint32_t buffer_count; /* held datagrams */
    void *buffers[CH_BATCH_BUFFERS];
    struct ch_batch_tx txs[CH_BATCH_TXS];
    uint8_t copied[CH_BATCH_BYTES];
};

/* A transaction of a payload and what became of it. */
struct ch_payload_tx {
    struct ch_source source;
    uint32_t offset;
    uint16_t status;
    bool signature_ok, approval_ok; /* signature_ok: where the payload is not `verified` */
    uint8_t id[CH_HASH_BYTES];
    uint64_t commit_index, commit_time_ms; /* of the first one, when it is a duplicate */
    uint64_t log_index, inbox_sequence;
};

#define CH_PAYLOAD_POOL_COUNT 48
#define CH_PAYLOADS_OF_OTHERS 16 /* of the pool, where the committee has others: theirs must find room to be applied */

struct ch_payload {
    uint32_t length, count;
    uint32_t bytes_max, count_max;
    uint64_t position; /* of its first byte in the log, once appended */
    bool verified;     /* every signature in it was checked here */
    uint8_t *bytes;
    struct ch_payload_tx *txs;
};

/* Finds the transactions in p->bytes (p->length of them): count, offsets and ids, nothing verified. One that is
 * malformed keeps its place, and the ledger refuses it. The first whose length can't be discards the rest, at every
 * validator alike; so does count_max, the chain's max_items. */
void ch_payload_take_apart(struct ch_payload *p);

/* A part of a commit on its way to be applied: its payloads in delivery order. */
#define CH_WORK_PAYLOADS   16
#define CH_WORK_POOL_COUNT 64
struct ch_work {
    uint64_t commit_index, commit_time_ms;
    uint64_t replay_from;  /* where a replay of the log must begin once this commit is applied */
    uint64_t replay_after; /* and the commit after which it delivers again, for the ledger's replay window */
    bool last;            /* the commit's last part */
    uint32_t count;
    struct ch_payload *payloads[CH_WORK_PAYLOADS];
};

/* A read or an object on its way through the serve stage; the answer takes the place of the question. */
#define CH_REQUEST_POOL_COUNT  32
#define CH_REQUESTS_OF_CLIENTS 8 /* of the pool: answers to validators leave as many */
#define CH_REQUEST_UNWATCH    0 /* no frame's type: from net, the watch of this connection and request is over */
#define CH_REQUEST_ASSEMBLE   0xffff /* no frame's type: from order, an answer to a validator to be put together */
#define CH_PIECE_BYTES        12
/* ASSEMBLE: the body is a list of pieces, u64 position | u32 length, and where the position is 0 the bytes themselves;
 * others are read from the log there. header.flags has the answer's type. */
struct ch_request {
    struct ch_ring *home; /* the pool that it goes back to */
    void (*answered)(void *context, struct ch_request *request); /* not NULL: this takes the answer, in serve's thread */
    void *context;
    uint64_t connection;
    uint16_t validator; /* connection 0: to whom; a parcel: from whom */
    uint8_t peer_key[CH_KEY_BYTES];
    uint64_t account;              /* whose put it is, while serve has it */
    struct ch_cid_block block;     /* PUT_OBJECT: the body's, when `hashed`; not checked where the bytes aren't the CID's */
    bool hashed;
    struct ch_frame_header header; /* of the question, then of the answer */
    uint8_t *body;                 /* CH_FRAME_BODY_BYTES_MAX */
};

#define CH_ASKS_MAX 16 /* requests of other threads (node/ask.h) */

/* Parcels: requests that carry objects between validators, in pools of their own, so that neither clients nor
 * validators wait for the other's. Each validator has a share of those that come in; what is above it is dropped, and
 * asked again. */
#define CH_PARCELS_IN   10 /* of one validator: what it may ask, what we asked, lists (node/spread.h) */
#define CH_PARCELS_TOLD 8  /* and certificates, which are small */
#define CH_PARCELS_OUT  16

/* Pools: rings of free objects. */
struct ch_flow {
    struct ch_batch *batches;
    struct ch_payload *payloads;
    struct ch_work *works;
    struct ch_ring free_works; /* order takes, serve gives back */
    struct ch_ring free_batches;  /* net takes, net gives back */
    struct ch_ring free_payloads; /* order takes, net gives back */
    uint8_t *payload_bytes;
    struct ch_payload_tx *payload_txs;
    struct ch_request *requests;
    struct ch_ring free_requests; /* net takes (serve too, for watches, and order), net gives back */
    uint8_t *request_bodies;
    struct ch_request *parcels; /* none in a committee of one */
    struct ch_ring free_parcels_in;  /* net takes, serve gives back */
    struct ch_ring free_parcels_out; /* serve takes, net gives back */
    uint32_t parcels_in_count;
    atomic_uint parcels_of[256], told_of[256]; /* out of each validator's share */
    uint8_t *parcel_bodies;
};
/* `others`: validators besides us. */
CH_MUST_CHECK ch_err ch_flow_open(struct ch_flow *flow, uint32_t payload_bytes_max, uint32_t payload_items_max,
                                  uint32_t others);
void ch_flow_close(struct ch_flow *flow);

/* Gives a request or parcel back to its pool. Any thread. */
void ch_flow_free_request(struct ch_flow *flow, struct ch_request *request);
/* One for this validator's frame, or NULL: its share is used up. Net's. */
struct ch_request *ch_flow_parcel_in(struct ch_flow *flow, uint16_t validator, uint16_t frame_type);

/* Gives a payload back to the pool. Any thread. */
void ch_flow_free_payload(struct ch_flow *flow, struct ch_payload *payload);

#endif
