/* consensus/core_impl.h - the machine's state, for the files of this layer alone.
 *
 * A block lives in a slot of one pool, found by its digest or by (round, author) once it is accepted. A slot freed in a
 * step is used again only in a later one, so actions may point into it.
 * Rounds in memory: (floor_round, floor_round + round_capacity). floor_round follows gc_round - gc_depth / 2 (never
 * below 0), but not past a block that is committed and waits for its delivery.
 */
#ifndef CHAPPE_CONSENSUS_CORE_IMPL_H
#define CHAPPE_CONSENSUS_CORE_IMPL_H

#include "base/prng.h"
#include "consensus/core.h"
#include "consensus/message.h"

#define NONE              UINT32_MAX
#define NEVER             UINT64_MAX
#define VARIANTS_MAX      2  /* E2 */
#define PUSH_ROUNDS       4   /* B2 */
#define VOTES_PER_AUTHOR  64 /* 13; where a round has many leaders, those of CH_CORE_LAG_ROUNDS rounds */
#define PAYLOAD_ROUNDS    10  /* idle pacing looks this far back */
#define LAG_ROUNDS        (FUTURE_ROUNDS * 3 / 4) /* V2; below L1, or whoever lags in between is helped by neither */

#ifndef RANGES_MAX
#define RANGES_MAX 8 /* 13.1: in flight, or waiting for one before them */
#endif

/* Limits that real committees seldom meet. With CH_SMALL_WORLD the simulator is built once more with small ones, so
 * that it meets them all the time. */
#ifndef CH_SMALL_WORLD
#define FUTURE_ROUNDS     64 /* L1 */
#define SUSPENDED_ROUNDS  64 /* L2 */
#define WANTS_PER_AUTHOR  64 /* L3: times n */
#define FETCH_REFS_MAX    64 /* F3 */
#define FETCH_HEADERS_MAX 256
#define OUT_ARENA_BYTES   (4u << 20)
#define DELIVERIES_MAX    1024
#define COMMITS_ASKED     100       /* 13.1 */
#define INSTALL_BYTES     (8u << 20) /* proven commits that wait for their blocks */
#define INSTALL_ROUNDS    48        /* whose blocks are fetched ahead */
#else
#define FUTURE_ROUNDS     16
#define SUSPENDED_ROUNDS  8
#define WANTS_PER_AUTHOR  8
#define FETCH_REFS_MAX    4
#define FETCH_HEADERS_MAX 8
#define OUT_ARENA_BYTES   (64u << 10)
#define DELIVERIES_MAX    8
#define COMMITS_ASKED     8
#define INSTALL_BYTES     (64u << 10)
#define INSTALL_ROUNDS    6
#endif

struct authors {
    uint64_t bits[4];
};
static inline bool authors_has(const struct authors *set, unsigned a)
{
    return set->bits[a >> 6] >> (a & 63) & 1;
}
/* True when it wasn't in yet. */
static inline bool authors_add(struct authors *set, unsigned a)
{
    uint64_t bit = 1ull << (a & 63), *word = &set->bits[a >> 6];
    bool fresh = !(*word & bit);
    *word |= bit;
    return fresh;
}
static inline void authors_remove(struct authors *set, unsigned a)
{
    set->bits[a >> 6] &= ~(1ull << (a & 63));
}

enum block_state {
    SLOT_FREE,
    SUSPENDED, /* verified; misses ancestors or payload */
    ACCEPTED,
    HELD,  /* came after its round was collected: counts for cleanness alone (4.2) */
    NAMED, /* committed, known by reference only */
};

struct block {
    struct ch_ref ref;
    uint64_t handle;
    uint64_t timestamp_ms;
    uint64_t lsn; /* 0: not in the log */
    uint64_t visit;
    uint64_t payload_since_us;    /* when its header came */
    uint64_t payload_deadline_us; /* when to ask (again) for the payload; NEVER: not asked for */
    struct authors known, sent;   /* peers that have it; peers it was sent to on the present connection */
    uint32_t length;              /* of the header */
    uint32_t payload_length, payload_items;
    uint32_t hash_next;
    uint32_t variant_next;                       /* accepted: next block of this round and author, by arrival */
    uint32_t suspended_next, suspended_previous; /* suspended: of this author, by arrival */
    uint32_t waiting;                            /* suspended: ancestors not accepted yet */
    uint16_t sender;
    uint16_t charged; /* the author whose quota it uses while suspended; whose need it is while it is unclean */
    uint8_t state;
    uint8_t payload_attempts;
    uint16_t payload_asked; /* who was asked last, when there was an attempt */
    bool committed, clean, payload_here, payload_expected;
    bool queued;     /* among the ready ones */
    bool solicited;  /* fetched because a child or a commit needs it: exempt from the variant cap */
    bool installing; /* listed by a commit that is being installed (13) */
};

struct slot_status {
    uint64_t looked_at; /* the DAG's version when it was last found undecided directly */
    uint32_t leader;    /* block of a commit */
    uint8_t decision;
    bool indirect;
};

struct round {
    struct authors authors; /* with an accepted block */
    uint32_t stake;         /* of them */
    uint32_t payloads_open; /* accepted, not committed, not empty */
    uint64_t version;       /* counts acceptances */
    bool leaders_known;
};

/* A reference that something waits for: children, cleanness, or a commit being installed. */
struct want {
    struct ch_ref ref;
    uint64_t deadline_us;
    uint32_t hash_next, next, previous;
    uint32_t links;  /* waiting children */
    uint16_t sender; /* who gave the first child */
    uint16_t asked;  /* the last peer */
    uint16_t child_author;
    uint8_t attempts;
    bool in_use, band, installing; /* band: wanted for cleanness */
};

struct link {
    uint32_t child, next;
};

struct delivery {
    uint64_t index, lsn;
    uint64_t timestamp_ms;
    size_t offset, length; /* of the whole entry in the ring: blocks, then bytes */
    uint32_t block_count;
    uint32_t commit_bytes;
    uint32_t lowest; /* round of its blocks */
};

struct vote {
    uint64_t index;
    uint8_t digest[CH_HASH_BYTES];
    struct ch_ref block; /* that carried it */
};

struct own_commit {
    uint64_t index;
    uint8_t digest[CH_HASH_BYTES];
};

struct own_unsynced {
    struct ch_ref ref;
    uint64_t lsn;
};

enum sign_stage { SIGN_IDLE, SIGN_PAYLOAD, SIGN_SIGNATURE };

struct install; /* commit_sync.c */
struct rejoin;  /* rejoin.c */

struct ch_core {
    struct ch_core_config config;
    struct ch_committee committee;
    struct ch_prng prng;
    struct ch_core_counters counters;
    struct ch_core_now now;
    enum ch_halt halt;
    bool started, halted_out;

    /* sizes */
    uint32_t n, ranks, gc_depth, slot_count, round_capacity, want_count, link_count, header_stride;
    uint32_t votes_kept;       /* of each author */
    uint32_t votes_back;       /* 13: votes for older commits are not tallied; twice what is kept of an author */
    uint32_t own_commit_count; /* digests of our last commits; more than votes_back */

    /* blocks */
    struct block *blocks;
    uint8_t *headers;
    uint32_t *vote_of, *cert_of; /* slot x rank: the candidate voted for, certified; NONE */
    uint32_t *free_slots, *freed_slots;
    uint32_t free_count, freed_count, slots_used; /* slots_used: the others were never touched */
    uint32_t *block_buckets;
    uint32_t bucket_mask;
    uint64_t hash_factor;
    uint64_t visit;
    uint32_t *stack; /* slot_count: traversals */
    uint32_t *work;  /* slot_count: blocks that became ready */
    uint32_t work_head, work_tail;
    uint32_t suspended_head[CH_VALIDATORS_MAX], suspended_tail[CH_VALIDATORS_MAX], suspended_count[CH_VALIDATORS_MAX];
    uint32_t wants_charged[CH_VALIDATORS_MAX];
    uint32_t suspended_total, dirty_count;
    bool clean_stale;

    /* rounds */
    struct round *rounds;
    uint32_t *heads;           /* round x author */
    uint16_t *round_leaders;   /* round x rank */
    struct slot_status *slots; /* round x rank */
    uint32_t floor_round, max_round, quorum_round;
    uint32_t last_round[CH_VALIDATORS_MAX]; /* highest accepted */
    uint32_t seen_round[CH_VALIDATORS_MAX]; /* highest in any verified header */
    uint32_t payload_lag_us[CH_VALIDATORS_MAX]; /* how long after a header of each its payload has come lately */
    struct authors exposed;

    /* wants */
    struct want *wants;
    struct link *links;
    uint32_t *want_buckets;
    uint32_t wants_used, links_used; /* as slots_used */
    uint32_t want_free, want_first, want_last, link_free, want_total;
    uint64_t fetch_at_us;
    uint64_t payload_at_us;

    /* decisions and commits */
    uint32_t next_round;
    uint16_t next_rank;
    struct {
        uint64_t index, timestamp_ms;
        uint8_t digest[CH_HASH_BYTES];
        uint32_t leader_round;
        uint16_t rank;
    } last_commit;
    uint32_t gc_round;
    uint64_t applied_index; /* replay: what the executor has */
    uint8_t *ring;          /* commits on their way to DELIVER */
    size_t ring_bytes, ring_head, ring_tail;
    struct delivery deliveries[DELIVERIES_MAX];
    uint32_t delivery_head, delivery_count, delivery_out; /* out: emitted, freed at the next step */
    uint64_t durable_index, delivered_index;
    struct own_commit *own_commits; /* own_commit_count, by index modulo */

    /* log */
    uint64_t lsn, lsn_asked, lsn_synced;
    uint64_t commit_sync_at_us;
    bool sync_now, guard_changed; /* at the end of this step */
    struct ch_guard guard;

    /* signing */
    uint32_t P;
    struct ch_ref own_last;
    uint8_t *own_header; /* of own_last; length 0: none */
    uint32_t own_header_length;
    uint64_t own_last_lsn;
    uint32_t included[CH_VALIDATORS_MAX], own_ref_by[CH_VALIDATORS_MAX];
    uint64_t voted_index;
    enum sign_stage stage;
    uint8_t *draft;
    uint32_t draft_length;
    uint8_t draft_digest[CH_HASH_BYTES];
    struct {
        uint64_t handle;
        uint32_t length, items;
        uint8_t root[CH_HASH_BYTES];
    } stash, draft_payload; /* taken from the host, not in a block yet */
    uint32_t own_unsynced_head, own_unsynced_count;
    struct own_unsynced *own_unsynced; /* ring of own_unsynced_max */
    uint8_t *vote_bytes;
    bool pending, pressure, clock_doubted, clock_known, lagging;
    bool stash_refused;                    /* the host had nothing for this block */
    uint64_t clock_mono_us, clock_unix_ms; /* the last step's */

    /* pacemaker */
    uint32_t target;
    uint64_t target_since_us, last_sign_us;
    bool has_signed;

    /* peers */
    struct authors up;
    uint64_t push_at_us, repeat_since_us;
    uint32_t repeat_ms, repeat_round, push_round;
    struct {
        bool asked;
        uint8_t nonce[CH_HASH_BYTES];
        uint8_t digest[CH_HASH_BYTES];
        uint32_t header_length;
    } i_am[CH_VALIDATORS_MAX]; /* WHO_AM_I of each peer, until the answer is signed */

    /* votes and catching up */
    struct vote *votes; /* author x votes_kept, by index modulo */
    uint64_t quorum_index, vote_cert_index;
    struct install *install;
    struct rejoin *rejoin, *rejoin_memory; /* 11.2 is under way; NULL otherwise */

    /* actions */
    struct ch_core_action *out, after_halt;
    uint32_t out_capacity, out_head, out_tail;
    uint8_t *arena;
    size_t arena_used;
    uint64_t timer_us;
};

/* out.c */
struct ch_core_action *out_push(struct ch_core *core, enum ch_core_action_type type);
uint64_t out_append(struct ch_core *core, enum ch_record_type type, struct ch_bytes head, uint64_t handle,
                    uint32_t payload_length);
/* Room for a message that may be lost; NULL when this step has none left. */
uint8_t *out_room(struct ch_core *core, size_t bytes);
void out_send(struct ch_core *core, uint16_t peer, enum ch_message_type type, enum ch_lane lane, struct ch_bytes body);
void out_report(struct ch_core *core, uint16_t peer, enum ch_report report);
void core_halt(struct ch_core *core, enum ch_halt reason);

/* dag.c */
static inline uint8_t *block_header(struct ch_core *core, uint32_t id)
{
    return core->headers + (size_t)id * core->header_stride;
}
static inline void block_view(struct ch_core *core, uint32_t id, struct ch_block *out)
{
    ch_block_view(block_header(core, id), core->blocks[id].length, out);
}
/* 6.2d: an accepted block that a block of ours may build on. */
static inline bool block_referable(const struct block *b)
{
    return b->state == ACCEPTED && (b->clean || b->committed);
}
/* By the whole reference: one with another block's digest but a wrong round or author names no block. */
uint32_t block_find(const struct ch_core *core, const struct ch_ref *ref);
/* A slot with this reference in the hash; NONE when the pool is full. */
uint32_t block_new(struct ch_core *core, const struct ch_ref *ref);
static inline bool blocks_left(const struct ch_core *core)
{
    return core->free_count || core->slots_used < core->slot_count;
}
void block_free(struct ch_core *core, uint32_t id);
static inline struct round *round_at(const struct ch_core *core, uint32_t round)
{
    return &core->rounds[round & (core->round_capacity - 1)];
}
static inline bool round_in_memory(const struct ch_core *core, uint32_t round)
{
    return round > core->floor_round && round - core->floor_round < core->round_capacity;
}
/* First accepted or held block of (round, author), or NONE; others by variant_next. */
uint32_t dag_first(const struct ch_core *core, uint32_t round, uint16_t author);
/* Puts an accepted block into its round and computes its votes and certificates. */
void dag_insert(struct ch_core *core, uint32_t id);
void dag_list(struct ch_core *core, uint32_t id);
const uint16_t *dag_leaders(struct ch_core *core, uint32_t round);
struct slot_status *dag_slot(const struct ch_core *core, uint32_t round, uint16_t rank);
/* Rounds up to this one are of no interest any more (4.2). */
static inline uint32_t clean_floor(const struct ch_core *core)
{
    const uint32_t depth = core->gc_depth / 2;
    return core->gc_round > depth ? core->gc_round - depth : 0;
}
/* Forgets rounds up to clean_floor that nobody needs. */
void dag_collect(struct ch_core *core);

/* schedule.c */
void schedule_leaders(const struct ch_core *core, uint32_t round, uint16_t *authors);

/* accept.c */
enum source { PUSHED, FETCHED };
void accept_header(struct ch_core *core, uint16_t peer, const uint8_t *bytes, uint32_t length, enum source source);
void accept_payload(struct ch_core *core, const struct ch_ref *ref, uint64_t handle);
/* Works off everything that is ready. */
void accept_drain(struct ch_core *core);
/* gc_round advanced: releases what waited for rounds now collected. */
void accept_collected(struct ch_core *core);
void accept_ready(struct ch_core *core, uint32_t id);
void accept_evidence(struct ch_core *core, const uint8_t *body, size_t length);
void accept_installed(struct ch_core *core, uint32_t id);
void accept_own(struct ch_core *core, uint32_t id);
/* Drops a suspended block and what it waits for. */
void suspended_drop(struct ch_core *core, uint32_t id);

/* clean.c */
void clean_compute(struct ch_core *core, uint32_t id);
void clean_again(struct ch_core *core);
/* Whether an unclean block of this author reaches what is missing in the band. */
bool clean_needs(struct ch_core *core, uint16_t author, const struct ch_ref *missing);

/* want.c */
uint32_t want_find(const struct ch_core *core, const struct ch_ref *ref);
uint32_t want_get(struct ch_core *core, const struct ch_ref *ref, uint16_t sender, uint16_t child_author);
bool want_link(struct ch_core *core, uint32_t want, uint32_t child);
void want_unlink(struct ch_core *core, const struct ch_ref *ref, uint32_t child);
void want_free(struct ch_core *core, uint32_t want);
/* An author was exposed: what its blocks claimed and others' blocks need too is the others' claim now (E2). */
void claims_again(struct ch_core *core);

/* committer.c */
/* Statuses of all slots not consumed yet; decide() begins with it. */
void decide_open_slots(struct ch_core *core);
void decide(struct ch_core *core);

/* linearise.c */
bool commit_make(struct ch_core *core, uint32_t round, uint16_t rank, uint32_t leader);
/* Room for one more commit of any size on its way out. */
bool commit_room(const struct ch_core *core);
uint8_t *delivery_new(struct ch_core *core, uint32_t block_count, struct ch_delivered **blocks,
                      struct delivery **delivery);
void commit_mark(struct ch_core *core, uint32_t id);
/* G of the next commit: a function of the last one alone. */
uint32_t commit_gc_round(const struct ch_core *core);
void commit_apply(struct ch_core *core, const struct ch_commit *commit, const uint8_t digest[CH_HASH_BYTES]);
void deliveries_synced(struct ch_core *core);
void deliveries_free(struct ch_core *core);
/* The lowest round of a block that is committed and not yet delivered. */
uint32_t deliveries_lowest(const struct ch_core *core);

/* pacemaker.c */
void pacemaker_run(struct ch_core *core);
uint64_t pacemaker_deadline(struct ch_core *core);
void pacemaker_clock(struct ch_core *core, const struct ch_core_now *now);
uint32_t pacemaker_min_delay_ms(const struct ch_core *core);

/* propose.c */
bool propose(struct ch_core *core, uint32_t round, bool payload);
void propose_payload(struct ch_core *core, const struct ch_core_event *event);
void propose_signed(struct ch_core *core, const struct ch_core_event *event);

/* sync.c */
void sync_due(struct ch_core *core);
uint64_t sync_deadline(const struct ch_core *core);
void sync_message(struct ch_core *core, uint16_t peer, enum ch_message_type type, const uint8_t *body, size_t length);
void sync_i_am_signed(struct ch_core *core, const struct ch_core_event *event);
void sync_payload_bad(struct ch_core *core, uint16_t peer, const struct ch_ref *ref);
void sync_peer_up(struct ch_core *core, uint16_t peer);
void sync_peer_down(struct ch_core *core, uint16_t peer);
void sync_signed(struct ch_core *core);
void sync_durable(struct ch_core *core);

/* commit_sync.c */
#define INSTALL_BLOCKS_MAX 4096
bool install_open(struct ch_core *core);
void install_close(struct ch_core *core);
void install_commits(struct ch_core *core, uint16_t peer, const uint8_t *body, size_t length);
bool install_run(struct ch_core *core);
uint64_t install_deadline(const struct ch_core *core);
/* No block of the next commit to be put in lies above this round; without one, the round that is built next. */
uint32_t install_next_round(const struct ch_core *core);

/* rejoin.c */
bool rejoin_open(struct ch_core *core);
void rejoin_close(struct ch_core *core);
void rejoin_i_am(struct ch_core *core, uint16_t peer, const uint8_t *body, size_t length);
void rejoin_run(struct ch_core *core);
uint64_t rejoin_deadline(const struct ch_core *core);

/* core.c */
void core_begin(struct ch_core *core);
void core_run(struct ch_core *core);

/* votes.c */
void votes_tally(struct ch_core *core, const struct ch_block *block, const struct ch_ref *ref);
void votes_count(struct ch_core *core, const struct ch_block *block);
void votes_own(struct ch_core *core, uint64_t index);
void votes_lagging(struct ch_core *core);

#endif
