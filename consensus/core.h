/* consensus/core.h - the consensus machine of one validator, pure: events in, actions out.
 *
 * What:    builds the DAG of blocks, decides leaders, orders what is below them (docs/consensus.md 1-13, 16, 17).
 * Not:     no clock, no I/O, no keys: time comes with each step, what must be signed, written or sent is an action.
 *          Not yet: checkpoints (14), snapshots (13.6), epoch change (15), schedule updates (sched_commits > 0),
 *          payload_code 1, profile O2.
 * Thread:  one owner. Memory: all from ch_core_open, sized from n and gc_depth; pages are touched as they are used.
 * Use:     step, then next_out until it says false, then the next step. Same configuration and events, same bytes out.
 * Bytes:   what an event points to is copied during step. What an action points to holds until the next step or replay.
 * Payloads stay with the host, which names each by a handle of its choice (not 0; 0 is "empty"). A handle is the
 *          core's until RELEASE; the host may meanwhile move the bytes (the log has them once appended).
 *
 * The host's loop for n = 1:
 *
 *   step(PENDING true)             -> TAKE_PAYLOAD
 *   step(PAYLOAD_AVAILABLE h)      -> SIGN(domain, message)
 *   step(SIGNED)                   -> APPEND OWN_BLOCK(header, h), SYNC(lsn), TAKE_PAYLOAD (the next block at once)
 *   two rounds on                  -> APPEND OWN_BLOCK, APPEND COMMIT, SYNC(lsn)
 *   step(SYNCED lsn)               -> BROADCAST (nobody there), DELIVER(commit, handles), and votes for it follow
 *
 * The core doesn't wait for a sync before the next block: up to own_unsynced_max own blocks are on their way to the
 * disk, so rounds follow one another as fast as the host answers and the log's group commit carries several. With
 * min_round_delay 0 (allowed for n = 1) a lone transaction is final after three rounds and one sync, since the three
 * blocks and the commit join in one; under load each round takes whatever is pending, up to max_payload. Without work
 * rounds come every idle_round_delay. Keep PENDING true: a level, told only when it changes.
 *
 * n > 1: the peer is the validator's index. Bodies of messages are only carried; before a body goes into the core,
 * ch_message_check (consensus/message.h) lists the signatures in it that the host must verify first. PAYLOAD bodies
 * are the host's own: it gathers them (a few may come before their EXPECT_PAYLOAD), hashes them, and says PAYLOAD_OK or
 * PAYLOAD_BAD.
 */
#ifndef CHAPPE_CONSENSUS_CORE_H
#define CHAPPE_CONSENSUS_CORE_H

#include "base/error.h"
#include "wire/block.h"

#define CH_CORE_NOBODY 0xffffu /* me: an observer, signs nothing. peer: everybody */

/* Epoch-wide values are in the committee; these are this node's own and may differ from node to node. */
struct ch_core_config {
    const struct ch_committee *committee; /* copied */
    uint16_t me;                          /* index, or CH_CORE_NOBODY */
    bool rejoin;                          /* 11.2: guard and log were lost; ask the others before signing */
    bool clock_ok;                        /* the operator vouches for the clock (6.6) */
    uint64_t seed;                        /* of the PRNG: peer choice and jitter */
    uint32_t base_timeout_ms, max_timeout_ms, min_round_delay_ms, idle_round_delay_ms;
    uint32_t push_delay_ms, repeat_ms, repeat_max_ms, payload_wait_ms, fetch_ms, fetch_max_ms, commit_sync_ms;
    uint64_t timestamp_ahead_ms;     /* the chain's window_ahead_ms: how far a proposed transaction may be ahead */
    uint32_t silent_rounds;          /* 5.2 */
    uint32_t own_unsynced_max;       /* own blocks on their way to the disk */
    uint32_t lag_commits;            /* 13 V2; not below the commits of CH_CORE_LAG_ROUNDS rounds */
    uint32_t vote_cert_every;        /* 13: commits between stored proofs */
    uint64_t catch_up_bytes_max;     /* 13.1: payloads that came or were asked for ahead of the next commit to be put in */
    uint32_t rounds_uncommitted_max; /* rounds kept above the last committed leader; beyond them nothing is stored */
    /* Tests alone: the round's leaders in place of section 8; NULL otherwise. Fills params.leaders_per_round authors.
     */
    void (*leaders)(void *context, uint32_t round, uint16_t *authors);
    void *leaders_context;
};
#define CH_CORE_LAG_ROUNDS 8 /* a validator may be that far behind and still be in the live DAG's reach */
/* The defaults of docs/consensus.md for a WAN; for n = 1 min_round_delay is 0. */
void ch_core_defaults(struct ch_core_config *config, const struct ch_committee *committee, uint16_t me);

/* The signer guard's content (W2): the host keeps it in two alternating slots apart from the log. */
struct ch_guard {
    uint32_t epoch, round; /* highest round signed */
    uint8_t digest[CH_HASH_BYTES];
    uint64_t checkpoint_seq;
};
#define CH_GUARD_BYTES 56
/* u32 epoch | u32 round | 32 digest | u64 seq | the first 8 bytes of H("chappe/guard/1" | the 48 bytes before). */
void ch_guard_write(const struct ch_guard *guard, uint8_t out[CH_GUARD_BYTES]);
CH_MUST_CHECK bool ch_guard_read(const uint8_t in[CH_GUARD_BYTES], struct ch_guard *out);

/* Record types in the log (section 11). Bodies:
 *   BLOCK, OWN_BLOCK  header with trailer | payload       COMMIT       commit bytes
 *   EVIDENCE          u32 length | header | header         VOTE_CERT    u64 index | 32 digest | n x (u32 length | header)
 *   EPOCH_START       u32 epoch | 32 committee digest (written by `chappe init` for epoch 0) */
enum ch_record_type {
    CH_RECORD_BLOCK = 1,
    CH_RECORD_OWN_BLOCK = 2,
    CH_RECORD_COMMIT = 3,
    CH_RECORD_CHECKPOINT_SIGN = 4,
    CH_RECORD_EPOCH_START = 5,
    CH_RECORD_EVIDENCE = 6,
    CH_RECORD_VOTE_CERT = 7,
};
#define CH_EPOCH_START_BYTES 36
void ch_epoch_start_write(const struct ch_committee *committee, uint8_t out[CH_EPOCH_START_BYTES]);

/* Messages between validators (Appendix C); a frame's type is 0x40 + this. consensus/message.h has the bodies. */
enum ch_message_type {
    CH_MESSAGE_TIP = 1,
    CH_MESSAGE_HEADER = 2,
    CH_MESSAGE_PAYLOAD = 3, /* the host's own */
    CH_MESSAGE_GET_BLOCKS = 4,
    CH_MESSAGE_BLOCKS = 5,
    CH_MESSAGE_GET_PAYLOAD = 6,
    CH_MESSAGE_GET_COMMITS = 9,
    CH_MESSAGE_COMMITS = 10,
    CH_MESSAGE_WHO_AM_I = 15,
    CH_MESSAGE_I_AM = 16,
    CH_MESSAGE_EVIDENCE = 17,
};

struct ch_core_now {
    uint64_t mono_us; /* monotonic; never backwards */
    uint64_t unix_ms; /* this machine's wall clock, for timestamps alone */
};

enum ch_core_event_type {
    CH_EVENT_TICK,              /* at or after the time of SET_TIMER */
    CH_EVENT_PENDING,           /* .pending: transactions are waiting at the host, or none any more */
    CH_EVENT_PAYLOAD_AVAILABLE, /* .payload: the answer to TAKE_PAYLOAD; length 0 and handle 0 when there is none */
    CH_EVENT_SIGNED,            /* .signature: the answer to SIGN */
    CH_EVENT_SYNCED,            /* .lsn: what SYNC asked for is durable, log first, then guard */
    CH_EVENT_MESSAGE,           /* .peer, .message: its signatures were verified (consensus/message.h) */
    CH_EVENT_PAYLOAD_OK,        /* .payload_of: this block's payload is here and matches its root */
    CH_EVENT_PAYLOAD_BAD,       /* .peer, .payload_of: what the peer sent doesn't match */
    CH_EVENT_PEER_UP,           /* .peer: connected */
    CH_EVENT_PEER_DOWN,         /* .peer */
    CH_EVENT_PRESSURE,          /* .pressure: executor, log or memory above their high-water mark (5.5), or no more */
    CH_EVENT_CLOCK_OK,          /* the operator vouches for the clock */
};

struct ch_core_event {
    enum ch_core_event_type type;
    uint16_t peer;
    union {
        bool pending;
        bool pressure;
        uint64_t lsn;
        struct {
            uint64_t handle;
            uint32_t length, items; /* bytes, at most what TAKE_PAYLOAD said */
            uint8_t root[CH_HASH_BYTES];
        } payload;
        struct {
            uint8_t message[2 * CH_HASH_BYTES]; /* as in SIGN */
            uint32_t length;                    /* as in SIGN */
            uint8_t bytes[CH_BLOCK_SIGNATURE_BYTES];
        } signature;
        struct {
            enum ch_message_type type;
            const uint8_t *body;
            size_t length;
        } message;
        struct {
            struct ch_ref ref;
            uint64_t handle;
        } payload_of;
    };
};

/* Why the machine stopped for good. All data is kept; a person must look. */
#define CH_HALT_LIST(X)                                                                                                \
    X(SAFETY, "two candidates of one slot are certified: more than f stake is faulty, or a bug")                       \
    X(MISSING_ANCESTOR, "a committed block's ancestor is not here")                                                    \
    X(FORK, "others with more than f stake committed something else")                                                  \
    X(KEY_IN_USE, "a block of ours came back that this node never signed: the key is used elsewhere")                  \
    X(SELF_EQUIVOCATION, "our own key signed two blocks of one round")
enum ch_halt {
    CH_HALT_NONE,
#define X(name, text) CH_HALT_##name,
    CH_HALT_LIST(X)
#undef X
};
const char *ch_halt_name(enum ch_halt reason);
const char *ch_halt_text(enum ch_halt reason);

enum ch_core_action_type {
    CH_ACTION_TAKE_PAYLOAD,   /* .take: answer with PAYLOAD_AVAILABLE. Only transactions of timestamp <= its limit */
    CH_ACTION_SIGN,           /* .sign: sign domain (with its zero) | chain id | message; answer with SIGNED */
    CH_ACTION_APPEND,         /* .append: one log record: head, then the payload of `handle` when it isn't 0 */
    CH_ACTION_SYNC,           /* .sync: all records up to lsn durable, then the guard when `guard_changed`, then SYNCED;
                                 the first comes from ch_core_start with no record of its own */
    CH_ACTION_SEND,           /* .send to .peer (CH_CORE_NOBODY: to all): bytes of one message; may be lost */
    CH_ACTION_SEND_PAYLOAD,   /* .payload to .peer (or all) on the bulk lane, as PAYLOAD messages */
    CH_ACTION_EXPECT_PAYLOAD, /* .payload from .peer: gather it (length, root); answer PAYLOAD_OK or PAYLOAD_BAD */
    CH_ACTION_FORGET_PAYLOAD, /* .payload: it is not expected any more */
    CH_ACTION_SERVE_BLOCKS,   /* .send: a GET_BLOCKS or GET_PAYLOAD body that only the log can answer; answer .peer */
    CH_ACTION_SERVE_COMMITS,  /* .serve: answer .peer with COMMITS out of the log: from `from` to the first index of a
                                 VOTE_CERT record from `to` on or else the last before, and that record's headers */
    CH_ACTION_SET_TIMER,      /* .timer_us: TICK at this mono_us; it replaces the timer before */
    CH_ACTION_DELIVER,        /* .deliver: a durable commit, in order, each index once */
    CH_ACTION_REQUEUE,        /* .payload: our own block can't be committed any more; offer its transactions again */
    CH_ACTION_RELEASE,        /* .payload: the core will not name this handle again */
    CH_ACTION_DROP_BELOW,     /* .round: nothing of rounds <= it is in the core any more */
    CH_ACTION_REPORT,         /* .report: for people and metrics */
    CH_ACTION_HALT,           /* .halt: the last action ever */
};

/* F7: live, fetch and commit-sync traffic wait apart, shares 4 : 2 : 1; none starves another. */
enum ch_lane { CH_LANE_LIVE, CH_LANE_FETCH, CH_LANE_SYNC };

enum ch_report {
    CH_REPORT_EVIDENCE,   /* .peer equivocated; the record was appended */
    CH_REPORT_CLOCK,      /* the clock jumped or is a day off: nothing is signed until CLOCK_OK */
    CH_REPORT_MISBEHAVED, /* .peer sent what no honest peer sends */
    CH_REPORT_REJOINED,   /* 11.2 is done: signing goes on */
};

struct ch_delivered {
    struct ch_ref ref;
    uint64_t handle; /* 0: no payload */
    uint32_t payload_length;
    uint32_t payload_items; /* the author's hint */
};

struct ch_core_action {
    enum ch_core_action_type type;
    uint16_t peer;
    union {
        struct {
            uint32_t bytes_max, items_max;
            uint64_t timestamp_max_ms; /* last commit's time + timestamp_ahead_ms */
        } take;
        struct {
            const char *domain;
            uint8_t message[2 * CH_HASH_BYTES];
            uint32_t length; /* of the message: 32, or 64 for an I_AM */
        } sign;
        struct {
            uint64_t lsn; /* the core's own count, rising; 1 stands for all that was replayed */
            enum ch_record_type type;
            struct ch_bytes head;
            uint64_t handle;
            uint32_t payload_length;
        } append;
        struct {
            uint64_t lsn;
            bool guard_changed;
            struct ch_guard guard;
        } sync;
        struct {
            enum ch_message_type type;
            enum ch_lane lane;
            struct ch_bytes body;
        } send;
        struct {
            struct ch_ref ref;
            uint64_t handle;
            uint32_t length;
            uint8_t root[CH_HASH_BYTES];
        } payload;
        struct {
            uint64_t from, to;
        } serve;
        uint64_t timer_us;
        struct {
            struct ch_bytes bytes; /* the commit */
            uint64_t index;
            uint64_t timestamp_ms;
            const struct ch_delivered *blocks; /* in delivery order */
            uint32_t block_count;
        } deliver;
        uint32_t round;
        enum ch_report report;
        enum ch_halt halt;
    };
};

struct ch_core;

/* A machine before its replay. CH_ERR_NO_MEMORY; CH_ERR_UNSUPPORTED for a parameter of what isn't built (sched_commits,
 * payload_code, profile); CH_ERR_INVALID for `me` out of range, or rejoin at n = 1. */
CH_MUST_CHECK ch_err ch_core_open(const struct ch_core_config *config, struct ch_core **out);
void ch_core_close(struct ch_core *core);

/* 11.1. The log's records in order, from any place that is early enough; after each, next_out until false: commits
 * above applied_index are delivered again as they come by, handles are the host's names for the payloads in its log.
 * `body` may end after the header. CH_ERR_CORRUPT for a body that this machine can't have written. */
CH_MUST_CHECK ch_err ch_core_replay(struct ch_core *core, enum ch_record_type type, const uint8_t *body, size_t length,
                                    uint64_t handle, uint64_t applied_index);
/* Replay is over; `guard` is the file's content, or NULL where none is left (only with rejoin or as an observer).
 * Then next_out until false. CH_ERR_NOT_FOUND: the replay began too late in the log (a live block's ancestor or a
 * commit above applied_index is missing); CH_ERR_LOG_DAMAGED: the guard is ahead of the log (W2);
 * CH_ERR_WRONG_CHAIN: another epoch's guard. */
CH_MUST_CHECK ch_err ch_core_start(struct ch_core *core, const struct ch_core_now *now, const struct ch_guard *guard,
                                   uint64_t applied_index);

void ch_core_step(struct ch_core *core, const struct ch_core_now *now, const struct ch_core_event *event);
/* The next action; false when there is none left. */
CH_MUST_CHECK bool ch_core_next_out(struct ch_core *core, struct ch_core_action *out);

struct ch_core_status {
    uint32_t round;         /* P: highest signed */
    uint32_t quorum_round;  /* highest with a quorum's blocks accepted */
    uint32_t decided_round; /* D */
    uint32_t gc_round;
    uint64_t commit_index; /* last decided; may not be durable yet */
    uint64_t quorum_index; /* highest that a quorum voted for */
    uint64_t delivered_index;
    uint8_t commit_digest[CH_HASH_BYTES];
    uint64_t commit_ms;
    uint32_t leader_round;                         /* of the last commit */
    uint32_t blocks, suspended, missing, unsynced; /* held now */
    bool lagging, signing; /* signing: false for observers, during 11.2, and while the clock is doubted */
    enum ch_halt halt;
};
void ch_core_status(const struct ch_core *core, struct ch_core_status *out);

/* Events counted since ch_core_open; also the simulator's "sometimes". */
#define CH_CORE_COUNTER_LIST(X)                                                                                        \
    X(blocks_accepted)                                                                                                 \
    X(blocks_own)                                                                                                      \
    X(blocks_held)                                                                                                     \
    X(blocks_duplicate)                                                                                                \
    X(blocks_refused_old)                                                                                              \
    X(blocks_refused_future)                                                                                           \
    X(blocks_refused_variant)                                                                                          \
    X(blocks_refused_quota)                                                                                            \
    X(blocks_refused_full)                                                                                             \
    X(blocks_evicted)                                                                                                  \
    X(messages_malformed)                                                                                              \
    X(sends_dropped)                                                                                                   \
    X(fetches_sent)                                                                                                    \
    X(signed_normal)                                                                                                   \
    X(signed_timeout)                                                                                                  \
    X(signed_behind)                                                                                                   \
    X(rounds_jumped)                                                                                                   \
    X(commits_direct)                                                                                                  \
    X(commits_indirect)                                                                                                \
    X(skips_direct)                                                                                                    \
    X(skips_indirect)                                                                                                  \
    X(commits_synced)                                                                                                  \
    X(equivocations)                                                                                                   \
    X(equivocating_leaders_committed)                                                                                  \
    X(weak_links)                                                                                                      \
    X(weak_links_dropped) /* a commit's reference to a block that was collected before it could be committed */        \
    X(unclean_left_out)                                                                                                \
    X(dropped_uncommitted)                                                                                             \
    X(tips_repeated)                                                                                                   \
    X(rejoined)
struct ch_core_counters {
#define X(name) uint64_t name;
    CH_CORE_COUNTER_LIST(X)
#undef X
};
const struct ch_core_counters *ch_core_counters(const struct ch_core *core);

/* For tests and the simulator's I2. */
enum ch_decision { CH_UNDECIDED, CH_COMMIT, CH_SKIP };
/* The decision of slot (round, rank) with what is accepted now; `leader` (may be NULL) is set for CH_COMMIT. */
enum ch_decision ch_core_decision(struct ch_core *core, uint32_t round, uint16_t rank, struct ch_ref *leader);

/* A hash over the whole state, to find nondeterminism. */
void ch_core_hash(const struct ch_core *core, uint8_t digest[CH_HASH_BYTES]);

#endif
