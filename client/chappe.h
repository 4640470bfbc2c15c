/* client/chappe.h - libchappe: an integrator's way to a chain, over the peer protocol.
 *
 * What:    one connection to one validator at a time, and to another one when that is lost: submit transactions and
 * learn what became of them; read accounts, relations, inboxes, records; put and get objects; on top of that, the verbs
 * of a chat (client/chat.h). Not:     no key files (client/account.h, crypto/keyfile.h). Trust:   the validator's key
 * is checked against those expected, a transaction's sender by its signature, an object by its address, a message by
 * the sender's commitment. What a read leaves out, or how new it is, is the validator's word until it gives proofs.
 * Thread:  a client belongs to one thread; calls block, up to the timeout, in poll(). Needs ch_sign_init before.
 * Memory:  about 1 MB, and up to 32 MB while an object of any size goes either way (client/object.h).
 * Errors:  CH_ERR_REFUSED: the node answered with a reason, see ch_client_status; CH_ERR_TIMEOUT: no answer, or nobody
 *          there; CH_ERR_CLOSED; CH_ERR_DENIED: it shows another key than expected, or doesn't let ours in;
 *          CH_ERR_WRONG_CHAIN; CH_ERR_PROTOCOL; CH_ERR_NO_MEMORY; CH_ERR_IO. ch_client_why has one line for people
 * about the last failure. A connection lost while a request waits is dialled again, at the next address where that
 * fails, and the request sent again, until its timeout: all requests may be repeated without harm (the same transaction
 * is recorded once).
 */
#ifndef CHAPPE_CLIENT_CHAPPE_H
#define CHAPPE_CLIENT_CHAPPE_H

#include "crypto/sign.h"
#include "wire/frame.h"

#define CH_CLIENT_TIMEOUT_MS    30000
#define CH_CLIENT_WHY_BYTES     256
#define CH_CLIENT_ADDRESS_BYTES 128
#define CH_CLIENT_ADDRESSES_MAX 128

struct ch_client_options {
    const char *address;            /* "192.0.2.1:4740", "[2001:db8::1]:4740" or "name:4740" */
    const char *const *others;      /* addresses of other validators of the chain, or NULL */
    size_t other_count;             /* at most CH_CLIENT_ADDRESSES_MAX - 1 */
    const uint8_t *chain_id;        /* CH_HASH_BYTES */
    const struct ch_sign_key *key;  /* our own, which TLS proves */
    const uint8_t (*peer_keys)[32]; /* any of these may answer; kept by the caller while the client lives */
    size_t peer_key_count;          /* 0: whoever answers */
    uint32_t timeout_ms;            /* without an answer; 0: CH_CLIENT_TIMEOUT_MS */
};

struct ch_client;

/* A client, not yet connected; the first name is resolved here. CH_ERR_NOT_FOUND: no such name; CH_ERR_INVALID: no
 * address. On failure `why`, where given (CH_CLIENT_WHY_BYTES), has the line for people. */
CH_MUST_CHECK ch_err ch_client_open(const struct ch_client_options *options, struct ch_client **out, char *why);
void ch_client_close(struct ch_client *client); /* says good-bye; NULL is fine */
/* Dials, exchanges HELLO. Every request does this by itself where needed. */
CH_MUST_CHECK ch_err ch_client_connect(struct ch_client *client);

uint16_t ch_client_status(const struct ch_client *client); /* of the last CH_ERR_REFUSED; wire/status.h */
const char *ch_client_why(const struct ch_client *client); /* the last failure */
/* The validator's clock less ours, ms, as of HELLO: transactions are refused when it is far from 0. */
int64_t ch_client_clock_ms(const struct ch_client *client);

/* Hands one signed transaction in and waits until it is final. `want_signed`: with the validator's signature over the
 * receipt, which is checked. CH_OK: applied now, or before (receipt->status CH_STATUS_DUPLICATE and the first one's
 * indices; told at level EARLY, it is unsigned). CH_ERR_REFUSED: receipt->status says why. CH_ERR_PROTOCOL: among
 * others, the receipt's proof doesn't hold. CH_ERR_TIMEOUT: it may still be applied; ask again with the same bytes. */
CH_MUST_CHECK ch_err ch_client_submit(struct ch_client *client, const uint8_t *tx, size_t length, bool want_signed,
                                      struct ch_receipt *receipt);

/* The row that is the certificate. CH_ERR_REFUSED with CH_STATUS_NOT_FOUND: there is none. */
CH_MUST_CHECK ch_err ch_client_get_account(struct ch_client *client, const uint8_t key[CH_KEY_BYTES],
                                           struct ch_account *account);
CH_MUST_CHECK ch_err ch_client_get_handle(struct ch_client *client, const char *handle, struct ch_account *account);

/* Up to `capacity` of an account's relations from serial `from` on; *next is where to go on, 0 at the end. */
CH_MUST_CHECK ch_err ch_client_get_relations(struct ch_client *client, const uint8_t account[CH_KEY_BYTES],
                                             uint64_t from, struct ch_relation *relations, uint16_t capacity,
                                             uint16_t *count, uint64_t *next);

/* Takes one record, valid during the call, and must not use the client; false: enough. */
typedef bool (*ch_record_taker)(void *context, const struct ch_record *record);

/* Up to `limit` records of an inbox from sequence `from` (1..) on, in order; *last is the inbox's newest sequence.
 * Records whose sender's signature does not hold end it with CH_ERR_PROTOCOL. CH_ERR_REFUSED with CH_STATUS_PRUNED: the
 * node no longer keeps `from`, and *last is the first sequence from there that it may have. */
CH_MUST_CHECK ch_err ch_client_get_inbox(struct ch_client *client, const uint8_t account[CH_KEY_BYTES], uint64_t from,
                                         uint16_t limit, ch_record_taker taker, void *context, uint64_t *last);
/* The same, going on with what is final from now on, and past what is no longer kept. `after`, where given, is called
 * when the taker has had new ones, and may use the client for other requests (the taker must not). Ends with CH_OK when
 * either has enough, or with CH_ERR_TIMEOUT when nothing came for `quiet_ms` (0: never). A connection that was lost is
 * dialled again without end. The node forgets a watch only with its connection: watch an inbox once. */
typedef bool (*ch_watch_after)(void *context);
CH_MUST_CHECK ch_err ch_client_watch(struct ch_client *client, const uint8_t account[CH_KEY_BYTES], uint64_t from,
                                     uint64_t quiet_ms, ch_record_taker taker, ch_watch_after after, void *context);
/* One record by log index, or by tx_id where that isn't NULL. */
CH_MUST_CHECK ch_err ch_client_get_record(struct ch_client *client, uint64_t log_index,
                                          const uint8_t tx_id[CH_HASH_BYTES], ch_record_taker taker, void *context);

#endif
