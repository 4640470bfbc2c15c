/* node/spread.h - blocks of objects over the committee: what a validator does for it, as a pure machine.
 *
 * What:    puts: codes a block, hands each validator its shard, and says "stored" once n-f have signed that theirs is
 *          on their disk. Gets: fetches any k shards, checks each against the manifest, decodes, encodes again and
 *          compares, checks the CID. Holds: keeps what others hand it, signs, gives it back. Repair: asks the others
 *          what is stored, and restores what of it should be here and is not.
 * Not:     no I/O, no clock, no threads: time comes in, frames come in and go out, the disk is a small interface.
 *          No trees (node/tree.h): every block is one of its own.
 * Trust:   nothing that another validator sends is believed. Who sends what doesn't hold is counted, and another asked.
 * Thread:  one owner. Memory: CH_SPREAD_TASKS buffers of CH_SHARDS_ALL_BYTES_MAX at most, each made when first needed.
 * Limits:  each validator is asked at most CH_SPREAD_ASKED_MAX things, or CH_SPREAD_BYTES_MAX bytes, at once.
 */
#ifndef CHAPPE_NODE_SPREAD_H
#define CHAPPE_NODE_SPREAD_H

#include "crypto/sign.h"
#include "wire/frame.h"
#include "wire/manifest.h"

#define CH_SPREAD_TASKS       12 /* blocks under way */
#define CH_SPREAD_RESTORES    3  /* of them at most for repair */
#define CH_SPREAD_ASKED_MAX   4
#define CH_SPREAD_BYTES_MAX   (2u << 20)
#define CH_SPREAD_REFUSED_MAX 16  /* wrong manifests of one block that a reader gets past */
#define CH_SPREAD_ANSWERS_MAX 512 /* questions of others that wait for an answer */
#define CH_SPREAD_LIST_MAX    64  /* certificates in one answer */
#define CH_SPREAD_TASK_NS     UINT64_C(20000000000) /* then the client is told to try again */
#define CH_SPREAD_ASK_NS      UINT64_C(4000000000)  /* then an answer counts as failed */
#define CH_SPREAD_HEDGE_NS    UINT64_C(400000000)   /* then another validator is asked as well */
#define CH_SPREAD_AGAIN_NS    UINT64_C(1000000000)  /* between two tries with one validator */
#define CH_SPREAD_REPAIR_AGAIN_NS UINT64_C(10000000000) /* after what could not be restored */

/* What a record is kept under: the hash of its bytes, or a name that the bytes don't follow from. */
enum ch_spread_kind {
    CH_SPREAD_WHOLE,    /* the block itself, under its hash */
    CH_SPREAD_SHARD,    /* the others under names */
    CH_SPREAD_MANIFEST,
    CH_SPREAD_STORED,   /* the certificate */
    CH_SPREAD_NAMED,    /* a message names the block */
    CH_SPREAD_MARK,     /* how far repair has come; of no block */
};

struct ch_spread_record {
    enum ch_spread_kind kind;
    const uint8_t *name; /* CH_HASH_BYTES */
    const uint8_t *bytes;
    size_t length;
    const struct ch_cid *cid; /* of which block, and its length */
    uint32_t block_bytes;
    uint64_t put_ms; /* since when the block is stored, Unix time; 0: since now */
    bool fresh;     /* no message that we know of names it yet */
    uint16_t from;  /* the validator that brought it; we, too */
    uint64_t owner; /* as it was put here with; 0: nobody's */
};

/* The disk here. Reads give what was durable, or nothing: damaged is missing. *put_ms (NULL: not wanted) is the
 * record's. */
struct ch_spread_store {
    void *context;
    bool (*has)(void *context, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES]);
    ch_err (*get)(void *context, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES], uint8_t *to,
                  size_t capacity, size_t *length, uint64_t *put_ms);
    /* Copies the bytes; those of a CH_SPREAD_WHOLE were hashed, and the name is theirs. CH_OK:
     * ch_spread_durable(cookie) will follow. CH_ERR_EXISTS: durable already. CH_ERR_FULL: later again. Other errors:
     * not taken. */
    ch_err (*put)(void *context, const struct ch_spread_record *record, uint64_t cookie);
    /* Forgets it. CH_ERR_NOT_FOUND, CH_ERR_FULL: later again; CH_ERR_NO_SPACE. */
    ch_err (*drop)(void *context, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES]);
    /* The names of up to `max` records of a kind from *cursor on (0: all); moves it. *end: there are no more now. */
    ch_err (*list)(void *context, enum ch_spread_kind kind, uint64_t *cursor, uint8_t (*names)[CH_HASH_BYTES],
                   size_t max, size_t *count, bool *end);
};

struct ch_spread_setup {
    unsigned validators; /* at least 2 */
    uint16_t me;
    const uint8_t (*keys)[CH_HASH_BYTES]; /* of the committee; outlives the machine */
    const struct ch_sign_key *key;        /* ours; outlives the machine */
    const uint8_t *chain_id;
    struct ch_spread_store store;
    uint64_t repair_bytes_per_second; /* of blocks restored */
    uint64_t new_store;               /* random: the store's number, where it has none yet */
};

struct ch_spread;
CH_MUST_CHECK ch_err ch_spread_open(const struct ch_spread_setup *setup, struct ch_spread **out);
void ch_spread_close(struct ch_spread *spread);

/* --- in --- */

/* Time, monotonic; never goes back. Drives time-outs and repair. */
void ch_spread_tick(struct ch_spread *spread, uint64_t now_ns);
/* A validator can be reached, or not. All begin as not. */
void ch_spread_peer(struct ch_spread *spread, uint16_t validator, bool up);
/* The disk is too full to take what others hand us. */
void ch_spread_full(struct ch_spread *spread, bool full);

/* Each gives one `done` with this ticket, not 0. CH_ERR_FULL: no task is free, later again. The block is copied.
 * CH_ERR_INVALID: it is too long. `owner` goes with the records (0: nobody). */
CH_MUST_CHECK ch_err ch_spread_put(struct ch_spread *spread, const struct ch_cid_block *block, uint64_t owner,
                                   uint64_t ticket);
CH_MUST_CHECK ch_err ch_spread_get(struct ch_spread *spread, const struct ch_cid *cid, uint64_t ticket);
/* Makes the block's certificate, and what should lie here of it, known here: fetches it and spreads it anew. */
CH_MUST_CHECK ch_err ch_spread_restore(struct ch_spread *spread, const struct ch_cid *cid, uint64_t ticket);

/* A frame of a validator: one of CH_SPREAD_FRAMES. False: not now, offer it again after a `durable`. Malformed ones are
 * counted and dropped. */
CH_MUST_CHECK bool ch_spread_frame(struct ch_spread *spread, uint16_t from, const struct ch_frame_header *header,
                                   const uint8_t *body);
static inline bool ch_spread_frame_type(uint16_t type)
{
    return type >= CH_FRAME_PUT_OBJECT_SHARD && type <= CH_FRAME_STORED_LIST;
}
/* What was put under this cookie is durable. */
void ch_spread_durable(struct ch_spread *spread, uint64_t cookie);
/* A message names the block, which is kept from now on: this is told to those who repair. CH_ERR_FULL: later again;
 * CH_ERR_NO_SPACE. */
CH_MUST_CHECK ch_err ch_spread_name(struct ch_spread *spread, const struct ch_cid *cid, uint32_t length);
/* The block waits on for a message that names it, here: the others are told. CH_ERR_FULL: later again. */
CH_MUST_CHECK ch_err ch_spread_renew(struct ch_spread *spread, const struct ch_cid *cid, uint32_t length);
/* Drops the certificate: it no longer counts as stored here, and a message that names it is refused. Whatever else is
 * here stays, for messages on their way: naming it makes the certificate anew. CH_ERR_FULL, CH_ERR_NO_SPACE: later
 * again. */
CH_MUST_CHECK ch_err ch_spread_close_block(struct ch_spread *spread, const struct ch_cid *cid, uint32_t length);
/* Drops all that is here of the block. The same. */
CH_MUST_CHECK ch_err ch_spread_drop(struct ch_spread *spread, const struct ch_cid *cid, uint32_t length);
/* Something that was here is damaged or gone: look through all that should be here. */
void ch_spread_repair(struct ch_spread *spread);

/* --- out --- */

/* The next frame to send: its body is written to `body` (CH_FRAME_BODY_BYTES_MAX), its length to the header. */
bool ch_spread_next_send(struct ch_spread *spread, uint16_t *to, struct ch_frame_header *header, uint8_t *body);

struct ch_spread_done {
    uint64_t ticket;
    enum ch_status status; /* OK; NOT_FOUND: enough validators say that they have nothing; OVERLOADED: too few answered */
    const uint8_t *block;  /* of a get or restore; holds until the next call of this function */
    size_t length;
};
bool ch_spread_next_done(struct ch_spread *spread, struct ch_spread_done *done);

/* When to tick next although nothing happens. */
uint64_t ch_spread_deadline_ns(const struct ch_spread *spread);

/* The block's certificate is here: n-f validators have signed for their shards. */
bool ch_spread_is_stored(const struct ch_spread_store *store, const struct ch_cid *cid, uint32_t length);

/* A message names it, as far as is known here. */
bool ch_spread_is_named(const struct ch_spread_store *store, const struct ch_cid *cid, uint32_t length);
/* A manifest of the block is here. */
bool ch_spread_is_held(const struct ch_spread_store *store, unsigned validators, const struct ch_cid *cid);
/* Which block a record of this kind, not a shard, is of; false where it isn't well-formed. */
bool ch_spread_record_block(enum ch_spread_kind kind, unsigned validators, const uint8_t *bytes, size_t length,
                            struct ch_cid *cid, uint32_t *block_bytes);

/* How long a block is, by a manifest here that has its certificate here; false where there is none. */
bool ch_spread_length(const struct ch_spread_store *store, unsigned validators, const struct ch_cid *cid,
                      uint64_t *bytes);

struct ch_spread_stats {
    uint64_t blocks_spread, blocks_fetched, blocks_restored, bytes_restored;
    uint64_t blocks_failed;    /* could not be fetched, spread or restored in time */
    uint64_t blocks_given_up;  /* by repair: the others say that there is no such block, again and again */
    uint64_t manifests_wrong;  /* decoded to something else than the CID names */
    uint64_t frames_malformed; /* and those beyond what may be asked at once */
    uint32_t repair_left;      /* validators (we are one) whose lists are not gone through */
    uint32_t repair_waiting;   /* blocks known to be missing here */
    uint64_t repair_seen;      /* certificates gone through since the start */
};
void ch_spread_stats(const struct ch_spread *spread, struct ch_spread_stats *stats);
/* How often a validator sent what does not hold, and did not answer in time. */
void ch_spread_peer_stats(const struct ch_spread *spread, uint16_t validator, uint64_t *lies, uint64_t *timeouts);

#endif
