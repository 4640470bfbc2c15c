/* wire/tx.h - one transaction: its bytes, in place.
 *
 *   offset size field
 *   0      64   signature over "chappe/sig/tx/1" 0 | chain id | bytes [64, length)
 *   64     32   sender key
 *   96     8    timestamp, Unix ms
 *   104    2    kind
 *   106    2    length of the whole
 *   108    4    salt
 *   112    ..   body of the kind
 *
 * Bodies: REGISTER seal_key 32, registrar 32, approval_expires 8, approval 64, handle_length 1, handle;
 * ROTATE_SEAL_KEY seal_key 32; REVOKE account 32; BIND_REQUEST, BIND_ACCEPT peer 32, hello_length 2, hello 0..512;
 * BIND_REFUSE, UNBIND_REQUEST, UNBIND_CONFIRM peer 32;
 * MESSAGE recipient 32, commitment 32, location 36, object_size 8, inline_length 2, inline.
 *
 * What:    parse without copying, encode. Not: no rules but form (ledger/), no cryptography (crypto/).
 * Errors:  a peer's bytes are refused with CH_STATUS_MALFORMED. Thread: no state.
 */
#ifndef CHAPPE_WIRE_TX_H
#define CHAPPE_WIRE_TX_H

#include "base/hash.h"
#include "wire/status.h"

#define CH_KEY_BYTES         32
#define CH_SIGNATURE_BYTES   64
#define CH_TX_BYTES_MIN      112
#define CH_TX_BYTES_MAX      1200
#define CH_TX_SIGNED_OFFSET  64
#define CH_TX_LENGTH_OFFSET  106
#define CH_HANDLE_BYTES_MIN  3
#define CH_HANDLE_BYTES_MAX  32
#define CH_HELLO_BYTES_MAX   512
#define CH_LOCATION_BYTES    36 /* a binary CIDv1 with a SHA-256 */
#define CH_OBJECT_LEAF_BYTES (1u << 20)
#define CH_INLINE_BYTES_MAX  (CH_TX_BYTES_MAX - CH_TX_BYTES_MIN - 110)

#define CH_TX_KIND_LIST(X)                                                                                             \
    X(REGISTER, 0x0101)                                                                                                \
    X(ROTATE_SEAL_KEY, 0x0102)                                                                                         \
    X(REVOKE, 0x0103)                                                                                                  \
    X(BIND_REQUEST, 0x0201)                                                                                            \
    X(BIND_ACCEPT, 0x0202)                                                                                             \
    X(BIND_REFUSE, 0x0203)                                                                                             \
    X(UNBIND_REQUEST, 0x0204)                                                                                          \
    X(UNBIND_CONFIRM, 0x0205)                                                                                          \
    X(MESSAGE, 0x0301)

enum ch_tx_kind {
#define X(name, number) CH_TX_##name = number,
    CH_TX_KIND_LIST(X)
#undef X
};

const char *ch_tx_kind_name(uint16_t kind);

/* A transaction's fields; pointers go into its bytes (parse) or to the caller's (encode). What a kind lacks is NULL,
 * 0. */
struct ch_tx {
    const uint8_t *bytes;
    uint16_t length;
    uint16_t kind;
    uint32_t salt;
    uint64_t timestamp_ms;
    const uint8_t *sender;
    const uint8_t *peer;     /* the other one: peer of a relation, recipient, account to revoke */
    const uint8_t *seal_key; /* REGISTER, ROTATE_SEAL_KEY */
    const uint8_t *registrar, *approval;
    uint64_t approval_expires_ms;
    const uint8_t *handle;
    const uint8_t *hello;
    const uint8_t *commitment;
    const uint8_t *location; /* NULL when the message has no object */
    uint64_t object_size;    /* bytes */
    const uint8_t *inline_bytes;
    uint16_t hello_length, inline_length;
    uint8_t handle_length;
};

/* The length that the transaction at the start of `bytes` says it has; 0 when none can have it, or `available` is
 * less. */
uint16_t ch_tx_length(const uint8_t *bytes, size_t available);

/* The transaction at the start of `bytes`; `available` may be longer than it. Returns CH_STATUS_OK or _MALFORMED; `tx`
 * is untouched by a refusal. One encoding of a value: what parses, encodes to the same bytes. */
CH_MUST_CHECK enum ch_status ch_tx_parse(const uint8_t *bytes, size_t available, struct ch_tx *tx);

/* Writes header and body with a zero signature; `out` holds CH_TX_BYTES_MAX. Returns the length, or 0 when a field is
 * missing or too long. tx->bytes, length are not read. */
size_t ch_tx_encode(const struct ch_tx *tx, uint8_t *out);

/* What a registrar signs: sender | seal_key | approval_expires | handle_length | handle. `out` holds
 * CH_APPROVAL_MESSAGE_BYTES_MAX; returns the length. */
#define CH_APPROVAL_MESSAGE_BYTES_MAX (32 + 32 + 8 + 1 + 255)
size_t ch_tx_approval_message(const struct ch_tx *tx, uint8_t *out);

/* Domain strings of signatures, each signed with its terminating zero and followed by the chain id. */
#define CH_DOMAIN_TX      "chappe/sig/tx/1"
#define CH_DOMAIN_APPROVE "chappe/sig/approve/1"
#define CH_DOMAIN_RECEIPT "chappe/sig/receipt/1"
#define CH_DOMAIN_SHARD   "chappe/sig/shard/1"
#define CH_SIGN_PREFIX_BYTES_MAX 64
/* domain | 0 | chain id, the part that all signatures of a purpose share; returns its length. */
size_t ch_sign_prefix(const char *domain, const uint8_t chain_id[CH_HASH_BYTES],
                      uint8_t out[CH_SIGN_PREFIX_BYTES_MAX]);

/* 3 to 32 of a-z 0-9 . _ -, beginning with a letter. */
bool ch_handle_valid(const uint8_t *handle, size_t length);

#endif
