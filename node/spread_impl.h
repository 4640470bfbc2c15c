/* node/spread_impl.h - the insides of node/spread.h: tasks (spread.c, spread_fetch.c), what is held for others
 * (spread_hold.c), repair (spread_repair.c). */
#ifndef CHAPPE_NODE_SPREAD_IMPL_H
#define CHAPPE_NODE_SPREAD_IMPL_H

#include "consensus/core.h"
#include "crypto/ed25519.h"
#include "node/spread.h"
#include "store/erasure.h"

/* Cookies: generation, then the slot of a task or of an answer. 0 is nobody's. */
#define COOKIE_SLOTS     1024u
#define REPAIR_QUEUE_MAX 288 /* the shares of spread_repair.c */
#define RENEWALS_MAX     64 /* certificates that are told again, at once */
#define REPAIR_TRIES     5 /* then a block that enough validators answered for is given up */

enum kind { KIND_PUT, KIND_GET, KIND_RESTORE };

enum phase {
    PHASE_FREE,
    PHASE_FETCH,  /* shards are asked for */
    PHASE_SPREAD, /* shards are handed out; signatures come back */
    PHASE_OWN,    /* a certificate is there already: our own part is being written */
    PHASE_PROVE,  /* the certificate is being written */
    PHASE_DONE,   /* to be told */
    PHASE_LINGER, /* told; those who are slow still get theirs, and all the certificate */
};

enum ask_state {
    ASK_IDLE,
    ASK_ASKED,
    ASK_GAVE,  /* what was asked for */
    ASK_OTHER, /* a shard by another manifest than the one that is tried now */
    ASK_NONE,  /* it has nothing */
    ASK_FAILED,
};

struct ask {
    enum ask_state state;
    bool hedged; /* somebody else was asked because this one is slow */
    unsigned tries;
    uint64_t request, at_ns; /* when asked, or when failed */
    uint32_t bytes;
    uint8_t other[CH_HASH_BYTES];
};

enum write { WRITE_NAMED = 1, WRITE_MANIFEST = 2, WRITE_SHARD = 4, WRITE_STORED = 8 }; /* in this order */

#define NAMED_BYTES (CH_CID_BYTES + 4) /* 36 CID | u32 length of the block */

struct task {
    enum kind kind;
    enum phase phase;
    uint64_t ticket, owner;
    bool named;          /* by a message: another validator says so */
    uint64_t generation; /* of cookies */
    uint64_t began_ns;
    enum ch_status status;
    struct ch_cid cid;
    struct ch_manifest m; /* PUT: ours; else the one that is tried */
    bool has_manifest;
    uint8_t digest[CH_HASH_BYTES]; /* of m */
    uint8_t wanted[CH_HASH_BYTES]; /* zeros: any */
    unsigned wanted_by;            /* so many named it when it was chosen */
    uint8_t refused[CH_SPREAD_REFUSED_MAX][CH_HASH_BYTES];
    unsigned refused_count;
    unsigned holders;
    int own; /* our own index among them, -1: none */
    uint16_t holder[CH_SHARDS_MAX];
    struct ask ask[CH_SHARDS_MAX];
    uint32_t present; /* shards in the buffer */
    uint32_t is_signed;
    uint8_t signature[CH_SHARDS_MAX][64];
    unsigned writes, writes_flying; /* to be handed to the store; with it */
    bool own_failed, proven;        /* proven: `stored` came from elsewhere */
    unsigned tries;                 /* of repair, before this one */
    uint16_t from;                  /* of repair: as in struct missing */
    uint64_t listed_at;
    uint32_t dated;  /* holders that told since when they have it */
    uint64_t put_ms; /* the youngest of that */
    struct ch_stored stored;
    uint64_t announce[(CH_VALIDATORS_MAX + 63) / 64]; /* to whom the certificate goes */
    uint8_t *shards;                                  /* CH_SHARDS_ALL_BYTES_MAX */
};

/* A question of another validator. */
struct answer {
    bool used, ready;
    uint16_t from, type;
    uint64_t request, generation, cursor;
    enum ch_status status;
    unsigned writes_flying;
    struct ch_cid cid;
    uint32_t block_bytes;          /* by the manifest put */
    uint8_t digest[CH_HASH_BYTES]; /* of the manifest put, or wanted */
    uint8_t refused[CH_SPREAD_REFUSED_MAX][CH_HASH_BYTES];
    unsigned refused_count;
};

/* A certificate that the others are told of again: its block still waits for its name. */
struct renewal {
    uint64_t announce[(CH_VALIDATORS_MAX + 63) / 64];
    uint32_t length;
    uint8_t bytes[CH_STORED_BYTES_MAX];
};

struct missing {
    struct ch_stored stored; /* count 0: no certificate is known */
    bool named;              /* by a message: another validator says so */
    uint16_t from; /* whose list named it; n: our own manifests */
    uint64_t listed_at; /* where that part of the list begins; UINT64_MAX: none did */
    uint64_t not_before_ns;
    unsigned tries;
};

/* How far repair has come, kept on the disk: a start goes on from there. */
struct mark {
    uint64_t sequence, store; /* store: our own number */
    uint64_t pass_s;          /* since all lists were begun anew, of running time */
    uint64_t manifests;       /* cursors: of our own manifests, */
    struct {
        uint64_t store, cursor; /* and of each validator's list, which is of that store */
    } list[CH_VALIDATORS_MAX];
};

struct peer {
    bool up;
    bool silent; /* it let somebody wait for a shard, and nothing came from it since */
    unsigned asked, answers; /* things asked of it, things it asked, now */
    uint32_t asked_bytes;
    uint64_t lies, timeouts;
    /* its list, for repair */
    bool listed;
    uint64_t store; /* the number of the store that the cursor is of */
    uint64_t cursor, list_request, list_at_ns, list_again_ns;
    /* our list, for it */
    uint64_t asked_cursor, given_cursor, jump_again_ns;
};

struct ch_spread {
    struct ch_spread_setup setup;
    unsigned n, faults_max, quorum; /* n: holders of a block */
    uint64_t now_ns, next_request, generation;
    bool full;
    struct ch_erasure code; /* of coded blocks */
    struct ch_ed25519 *verifier;
    uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX];
    size_t prefix_length;
    struct task task[CH_SPREAD_TASKS];
    struct task *told; /* its block is with the caller */
    struct answer answer[CH_SPREAD_ANSWERS_MAX];
    uint16_t ready[CH_SPREAD_ANSWERS_MAX]; /* ring of answers to be sent */
    unsigned ready_first, ready_count;
    struct peer peer[CH_VALIDATORS_MAX];
    struct renewal renewal[RENEWALS_MAX]; /* ring */
    unsigned renewal_first, renewal_count;
    struct missing missing[REPAIR_QUEUE_MAX];
    unsigned missing_count;
    unsigned list_hand; /* whose list is asked for next */
    unsigned lister;    /* who goes through our list now, n: nobody; since when, and when it asked last */
    uint64_t lister_ns, listed_ns;
    uint64_t tokens, list_tokens, tokens_ns, relist_ns;
    struct mark mark, saved; /* as it was a turn ago; as it is on the disk */
    bool marked;
    uint64_t mark_ns, pass_s;
    uint64_t manifest_cursor; /* in our own list of manifests */
    bool manifests_listed;
    bool own_checked; /* all of our own list, for what is lost here */
    uint8_t *scratch; /* CH_SHARD_BYTES_MAX: a shard of ours */
    struct ch_spread_stats stats;
};

/* --- spread.c --- */
struct task *spread_task(struct ch_spread *s, enum kind kind, const struct ch_cid *cid, uint64_t ticket);
void spread_finish(struct ch_spread *s, struct task *t, enum ch_status status);
/* The task is free; what it has asked is not waited for. */
void spread_release(struct ch_spread *s, struct task *t);
/* Hands out the shards in the buffer, all of them, and keeps our own. */
void spread_begin(struct ch_spread *s, struct task *t);
/* Writes our own part, for a block whose certificate is known. */
void spread_keep_own(struct ch_spread *s, struct task *t);
void spread_lie(struct ch_spread *s, uint16_t from);
bool spread_may_ask(const struct ch_spread *s, uint16_t validator, uint32_t bytes);
void spread_asked(struct ch_spread *s, struct task *t, unsigned i, uint32_t bytes);
/* The answer came, or never will. */
void spread_answered(struct ch_spread *s, struct task *t, unsigned i, enum ask_state state);

/* --- spread_fetch.c --- */
void fetch_begin(struct ch_spread *s, struct task *t);
void fetch_tick(struct ch_spread *s, struct task *t);
bool fetch_next_send(struct ch_spread *s, struct task *t, uint16_t *to, struct ch_frame_header *header, uint8_t *body);
void fetch_answer(struct ch_spread *s, struct task *t, unsigned i, const uint8_t *body, size_t length);

/* --- spread_hold.c --- */
bool hold_frame(struct ch_spread *s, uint16_t from, const struct ch_frame_header *header, const uint8_t *body);
void hold_durable(struct ch_spread *s, struct answer *a);
/* Next certificate to be told again. */
bool hold_next_renewal(struct ch_spread *s, uint16_t *to, struct ch_frame_header *header, uint8_t *body);
bool hold_next_send(struct ch_spread *s, uint16_t *to, struct ch_frame_header *header, uint8_t *body);
/* The certificate of its block here is for this very manifest. */
bool hold_is_certified(const struct ch_spread *s, const struct ch_manifest *m, const uint8_t digest[CH_HASH_BYTES]);
/* Our own part of a block by the wanted manifest, else by the one whose certificate is here, else by any that isn't
 * refused: manifest, digest, and the shard where there is one for us. */
bool hold_find(struct ch_spread *s, const struct ch_cid *cid, const uint8_t wanted[CH_HASH_BYTES],
               const uint8_t (*refused)[CH_HASH_BYTES], unsigned refused_count, struct ch_manifest *m,
               uint8_t digest[CH_HASH_BYTES], uint8_t *shard, uint64_t *put_ms);
/* What the certificate says should be here is; *put_ms since when, 0 where that is nothing. */
bool hold_mine(struct ch_spread *s, const struct ch_stored *stored, uint64_t *put_ms);
void hold_manifest_name(const struct ch_cid *cid, uint16_t writer, uint8_t name[CH_HASH_BYTES]);
void hold_stored_name(const struct ch_cid *cid, uint32_t length, uint8_t name[CH_HASH_BYTES]);
/* Where shard `own` is kept, and as what. */
enum ch_spread_kind hold_shard_name(const struct ch_manifest *m, unsigned own, uint8_t name[CH_HASH_BYTES]);
/* Writes down that a message names the block. */
ch_err hold_put_named(struct ch_spread *s, const struct ch_cid *cid, uint32_t length, uint64_t put_ms, uint64_t cookie);
/* The certificate of a block that is named here, by the name of that record; false where there is none. */
bool hold_named_stored(const struct ch_spread *s, const uint8_t name[CH_HASH_BYTES], struct ch_stored *stored);
int hold_own_index(const struct ch_spread *s, const uint16_t *holder, unsigned count);
void hold_sign(struct ch_spread *s, const struct ch_cid *cid, uint32_t length, const uint8_t digest[CH_HASH_BYTES],
               uint8_t signature[64]);
bool hold_signed(struct ch_spread *s, const struct ch_cid *cid, uint32_t length, const uint8_t digest[CH_HASH_BYTES],
                 uint16_t validator, const uint8_t signature[64]);
/* Enough signatures of those who should have a part, all of which hold. */
bool hold_proves(struct ch_spread *s, const struct ch_stored *stored);

/* --- spread_repair.c --- */
void repair_open(struct ch_spread *s);
void repair_tick(struct ch_spread *s);
bool repair_next_send(struct ch_spread *s, uint16_t *to, struct ch_frame_header *header, uint8_t *body);
/* False: not taken now. `from`: who vouches for it. It is as old as our part, and goes with it. */
bool repair_put_certificate(struct ch_spread *s, const struct ch_stored *stored, uint16_t from, uint64_t put_ms,
                            bool named);
void repair_list(struct ch_spread *s, uint16_t from, uint64_t request, const uint8_t *body, size_t length);
/* A certificate has come by itself. */
void repair_told(struct ch_spread *s, uint16_t from, const struct ch_stored *stored);
/* A block without a certificate that ours may be the only one to follow up. */
void repair_unproven(struct ch_spread *s, const struct ch_manifest *m, uint64_t listed_at);
void repair_ended(struct ch_spread *s, const struct task *t);
/* The block is given up here: what was to be restored of it is not, unless another validator says that it is named. */
void repair_forget(struct ch_spread *s, const struct ch_cid *cid);
bool repair_busy(const struct ch_spread *s);

#endif
