/* wire/frame.h - the peer protocol's frames on a QUIC stream, and the bodies that clients and validators share.
 *
 *   offset size field          body bytes follow; requests may be answered out of order, an answer carries the
 *   0      4    body length    request's number
 *   4      2    type
 *   6      2    flags
 *   8      8    request
 *
 * Thread: no state. Errors: a body that isn't well-formed is refused by returning false; outputs are untouched then.
 * docs/protocol.md has the byte table of each body; it and this file change together.
 */
#ifndef CHAPPE_WIRE_FRAME_H
#define CHAPPE_WIRE_FRAME_H

#include "wire/rows.h"
#include "wire/tx.h"

#define CH_ALPN               "chappe/1"
#define CH_PROTOCOL_VERSION   1
#define CH_FRAME_HEADER_BYTES 16
#define CH_FRAME_BODY_BYTES_MAX ((1u << 20) + 4096)

#define CH_FRAME_LIST(X)                                                                                               \
    X(HELLO, 0x01)         /* hello -> HELLO */                                                                        \
    X(STATUS, 0x02)        /* u16 status: the answer to what has no other */                                           \
    X(SUBMIT, 0x03)        /* packed transactions -> RECEIPTS, early; then, if asked for, RECEIPTS, final */           \
    X(RECEIPTS, 0x04)      /* u16 count | receipts | (flag SIGNED) signature and paths */                              \
    X(GET_ACCOUNT, 0x10)   /* 32 key -> ACCOUNT */                                                                     \
    X(GET_HANDLE, 0x11)    /* handle -> ACCOUNT */                                                                     \
    X(ACCOUNT, 0x12)       /* u16 status | u64 serial | account row */                                                 \
    X(GET_RELATIONS, 0x13) /* 32 account | u64 from serial | u16 limit -> RELATIONS */                                 \
    X(RELATIONS, 0x14)     /* u16 status | u16 count | u64 next serial, 0 at the end | count x (u64 serial | row) */   \
    X(GET_INBOX, 0x15)     /* 32 account | u64 from sequence | u16 limit -> RECORDS */                                 \
    X(WATCH_INBOX, 0x16)   /* the same -> RECORDS, and again as new ones are final */                                  \
    X(GET_RECORD, 0x17)    /* u8 by (0 log index, 1 tx_id) | u64 or 32 -> RECORDS */                                   \
    X(RECORDS, 0x18)       /* u16 status | u16 count | u64 last sequence | count x record */                           \
    X(PUT_OBJECT, 0x20)    /* 36 CID | block -> STATUS: stored */                                                      \
    X(GET_OBJECT, 0x21)    /* 36 CID -> OBJECT */                                                                      \
    X(HAS_OBJECT, 0x22)    /* 36 CID -> STATUS: the whole tree under it is here */                                     \
    X(OBJECT, 0x23)        /* u16 status | block */                                                                    \
    /* between validators, about objects coded over them (wire/manifest.h): */                                         \
    X(PUT_OBJECT_SHARD, 0x30) /* u16 length | manifest | shard -> SHARD_STORED */                                      \
    X(SHARD_STORED, 0x31)     /* u16 status | 64 signature */                                                          \
    X(GET_OBJECT_SHARD, 0x32) /* 36 CID | 32 wanted manifest | u8 count | count x 32 refused ones -> OBJECT_SHARD */   \
    X(OBJECT_SHARD, 0x33)     /* u16 status | u64 since | u16 length | manifest | shard */                             \
    X(OBJECT_STORED, 0x34)    /* certificate; not answered */                                                          \
    X(LIST_STORED, 0x35)      /* u64 cursor -> STORED_LIST */                                                          \
    X(STORED_LIST, 0x36)      /* u16 status | u64 store | u64 cursor | u8 end | certificates */                        \
    X(CONSENSUS, 0x40)     /* 0x40..0x5f between validators: 0x40 + consensus/core.h's message type */

enum ch_frame_type {
#define X(name, number) CH_FRAME_##name = number,
    CH_FRAME_LIST(X)
#undef X
};

#define CH_FRAME_FLAG_WANT_FINAL  (1u << 0) /* SUBMIT: send a final receipt too */
#define CH_FRAME_FLAG_WANT_SIGNED (1u << 1) /* SUBMIT: with the batch's signature and the receipt's path */
#define CH_FRAME_FLAG_SIGNED      (1u << 2) /* RECEIPTS: the proof follows */
#define CH_FRAME_FLAG_MORE        (1u << 3) /* RECORDS: more will come for this request */

struct ch_frame_header {
    uint32_t length; /* of the body, bytes */
    uint16_t type;
    uint16_t flags;
    uint64_t request;
};

static inline struct ch_frame_header ch_frame_header_read(const uint8_t bytes[CH_FRAME_HEADER_BYTES])
{
    return (struct ch_frame_header){ch_load32(bytes), ch_load16(bytes + 4), ch_load16(bytes + 6), ch_load64(bytes + 8)};
}
static inline void ch_frame_header_write(const struct ch_frame_header *h, uint8_t bytes[CH_FRAME_HEADER_BYTES])
{
    ch_store32(bytes, h->length);
    ch_store16(bytes + 4, h->type);
    ch_store16(bytes + 6, h->flags);
    ch_store64(bytes + 8, h->request);
}

/* HELLO: u16 version | u16 role | u32 epoch | u64 own time ms | 32 chain id | u16 index | u16 zero | u32 round |
 * u64 last commit | u32 gc round. What only a validator has is zero for others. */
enum ch_role { CH_ROLE_CLIENT = 0, CH_ROLE_GATEWAY = 1, CH_ROLE_VALIDATOR = 2 };
#define CH_HELLO_FRAME_BYTES 68
struct ch_hello {
    uint16_t version, role;
    uint32_t epoch;
    uint64_t time_ms;
    uint8_t chain_id[CH_HASH_BYTES];
    uint16_t index;
    uint32_t round, gc_round;
    uint64_t last_commit;
};
void ch_hello_write(const struct ch_hello *hello, uint8_t out[CH_HELLO_FRAME_BYTES]);
CH_MUST_CHECK bool ch_hello_read(const uint8_t *body, size_t length, struct ch_hello *out);

/* A receipt: 32 tx_id | u16 status | u8 level | u8 zero | u64 commit index | u64 log index | u64 inbox sequence |
 * u64 commit time ms. A refusal has zero indices; DUPLICATE carries the first one's. */
enum ch_level {
    CH_LEVEL_EARLY = 0,     /* OK: taken in, nothing promised; else refused */
    CH_LEVEL_FINAL = 1,     /* committed and on this validator's disk */
    CH_LEVEL_CERTIFIED = 2, /* a quorum's checkpoint covers it */
};
#define CH_RECEIPT_BYTES 68
struct ch_receipt {
    uint8_t tx_id[CH_HASH_BYTES];
    uint16_t status;
    uint8_t level;
    uint64_t commit_index, log_index, inbox_sequence, commit_time_ms;
};
void ch_receipt_write(const struct ch_receipt *receipt, uint8_t out[CH_RECEIPT_BYTES]);
CH_MUST_CHECK bool ch_receipt_read(const uint8_t in[CH_RECEIPT_BYTES], struct ch_receipt *out);

/* RECEIPTS with flag SIGNED goes on after the receipts: u32 leaves | 64 signature over
 * "chappe/sig/receipt/1" 0 | chain id | 32 root | u32 leaves | count x (u32 leaf | u8 path length | path). A leaf is
 * the RFC 6962 leaf hash of the receipt's bytes; the batch may hold receipts of other peers. */

/* GET_RELATIONS, GET_INBOX, WATCH_INBOX: 32 account | u64 from | u16 limit. */
#define CH_QUERY_BYTES 42
struct ch_query {
    uint8_t account[CH_KEY_BYTES];
    uint64_t from;
    uint16_t limit;
};
void ch_query_write(const struct ch_query *query, uint8_t out[CH_QUERY_BYTES]);
CH_MUST_CHECK bool ch_query_read(const uint8_t *body, size_t length, struct ch_query *out);

/* One of RECORDS: u64 inbox sequence (0 where it has none) | u64 log index | u64 commit index | u64 commit time ms |
 * the transaction. */
#define CH_RECORD_HEADER_BYTES 32
struct ch_record {
    uint64_t inbox_sequence, log_index, commit_index, commit_time_ms;
    struct ch_tx tx;
};
void ch_record_write(struct ch_writer *w, const struct ch_record *record);
/* The next record of a RECORDS body; false at a malformed one. */
CH_MUST_CHECK bool ch_record_read(struct ch_reader *r, struct ch_record *out);

#endif
