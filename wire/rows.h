/* wire/rows.h - the canonical bytes of a ledger's rows: leaves of its trees, answers to its readers.
 *
 * Account row, 192 bytes: 32 key | 32 seal_key | 32 registrar | 32 inbox head | u64 registered in commit |
 *   u64 registered at ms | u64 inbox sequence | u32 seal epoch | u8 status | u8 handle length | u16 zero |
 *   32 handle, zero-padded. The row is the certificate.
 * Relation row, 96 bytes: 32 smaller key | 32 larger key | u64 since ms | u64 log index of the request |
 *   u64 log index of the accept | u8 state | u8 by | 6 zero.
 * Log entry, 64 bytes: u64 position | u64 commit index | u64 commit time ms | u64 inbox sequence | 32 inbox head. With
 * the
 *   tx_id in place of the position, these are the bytes of a leaf of the log tree.
 *
 * Thread: no state. Errors: false for bytes that are not canonical.
 */
#ifndef CHAPPE_WIRE_ROWS_H
#define CHAPPE_WIRE_ROWS_H

#include "base/hash.h"

#define CH_ACCOUNT_ROW_BYTES  192
#define CH_RELATION_ROW_BYTES 96

enum ch_account_status { CH_ACCOUNT_ACTIVE = 0, CH_ACCOUNT_REVOKED = 1 };

struct ch_account {
    uint8_t key[32], seal_key[32], registrar[32];
    uint8_t inbox_head[CH_HASH_BYTES];
    uint64_t registered_commit, registered_ms;
    uint64_t inbox_sequence; /* of the newest message; 0: none yet */
    uint32_t seal_epoch;
    uint8_t status;
    uint8_t handle_length;
    uint8_t handle[32];
};

enum ch_relation_state {
    CH_RELATION_NONE = 0, /* a request was withdrawn */
    CH_RELATION_REQUESTED = 1,
    CH_RELATION_REFUSED = 2,
    CH_RELATION_BOUND = 3,
    CH_RELATION_UNBINDING = 4,
    CH_RELATION_UNBOUND = 5,
};

struct ch_relation {
    uint8_t smaller[32], larger[32];
    uint64_t since_ms; /* when the present state began: the commit's time */
    uint64_t request_log_index, accept_log_index;
    uint8_t state;
    uint8_t by; /* 0 the smaller key, 1 the larger: who asked, refused or unbinds; while bound, who asked */
};

/* Of an applied transaction, by log index. Kinds without a recipient have a zero inbox sequence and head. */
#define CH_LOG_ENTRY_BYTES 64
struct ch_log_entry {
    uint64_t position; /* where the transaction lies in this validator's log on disk */
    uint64_t commit_index, commit_time_ms, inbox_sequence;
    uint8_t inbox_head[CH_HASH_BYTES]; /* after it */
};

void ch_account_write(const struct ch_account *account, uint8_t out[CH_ACCOUNT_ROW_BYTES]);
CH_MUST_CHECK bool ch_account_read(const uint8_t in[CH_ACCOUNT_ROW_BYTES], struct ch_account *out);
void ch_relation_write(const struct ch_relation *relation, uint8_t out[CH_RELATION_ROW_BYTES]);
CH_MUST_CHECK bool ch_relation_read(const uint8_t in[CH_RELATION_ROW_BYTES], struct ch_relation *out);
void ch_log_entry_write(const struct ch_log_entry *entry, uint8_t out[CH_LOG_ENTRY_BYTES]);
void ch_log_entry_read(const uint8_t in[CH_LOG_ENTRY_BYTES], struct ch_log_entry *out);

#endif
