/* tests/sim/sim.h - whole clusters of the real consensus machine, ledger and log in one process (docs/consensus.md 19,
 * 20, 22): one queue of events, one seeded PRNG, simulated network, disks and clocks, Byzantine validators, invariants
 * after each event.
 *
 * queue.c      what happens next
 * chain.c      what all honest nodes must agree on, and the checks against it
 * payloads.c   clients and their transactions; payloads, read and verified once for all nodes
 * disk.c       a node's log and guard: node/log.c and store/wal.c on a disk that loses, tears and reorders
 * executor.c   a node's ledger, on rows in memory or in LMDB, that remembers less than it applied
 * host.c       an honest node around its machine
 * serve.c      its answers out of the log
 * byzantine.c  a validator that knows all that was sent and signs what it likes
 * faults.c     what happens to nodes, disks, clocks and the network
 * cluster.c    a seed's cluster, its network, its end
 *
 * Signatures are hashes. A payload travels as the number of its bytes.
 */
#ifndef CHAPPE_TESTS_SIM_H
#define CHAPPE_TESTS_SIM_H

#include <stdio.h>
#include <stdlib.h>

#include "base/prng.h"
#include "consensus/core.h"
#include "consensus/message.h"
#include "ledger/ledger.h"
#include "store/io_sim.h"

#define SIM_NODES_MAX    20
#define SIM_VARIANTS_MAX 4 /* of one author and round that the adversary remembers */
#define SIM_EARLY        1024
#ifndef CH_SMALL_WORLD
#define SIM_LIMIT_ROUNDS 64u /* docs/consensus.md 16, L2, L3 */
#else
#define SIM_LIMIT_ROUNDS 8u
#endif
#define SIM_MS           1000ull
#define SIM_SECOND       1000000ull

#define SIM_FAULT_LIST(X)                                                                                              \
    X(DROP)                                                                                                            \
    X(DUPLICATE)                                                                                                       \
    X(HEAVY_TAIL)                                                                                                      \
    X(CORRUPT)                                                                                                         \
    X(PARTITION)                                                                                                       \
    X(ONE_WAY)                                                                                                         \
    X(FLAP)                                                                                                            \
    X(ASYMMETRIC)    /* each link has a delay of its own in each direction */                                          \
    X(BANDWIDTH)     /* links carry so many bytes a second */                                                          \
    X(SLOW_PEER)                                                                                                       \
    X(CLOG)          /* links hold what is sent, and give it back in any order */                                      \
    X(CRASH)                                                                                                           \
    X(CRASH_ALL)                                                                                                       \
    X(CRASH_INSIDE)  /* between two actions of one step */                                                             \
    X(PAUSE)                                                                                                           \
    X(SLOW_DISK)                                                                                                       \
    X(DISK_ERROR)    /* a write or sync fails: the process ends */                                                     \
    X(DISK_FULL)                                                                                                       \
    X(BIT_ROT)       /* in an old record, while the node is down */                                                    \
    X(OLD_BACKUP)    /* the log is put back to what it was, the guard is not */                                        \
    X(AMNESIA)                                                                                                         \
    X(CLOCK)

enum sim_fault_bit {
#define X(name) SIM_FAULT_BIT_##name,
    SIM_FAULT_LIST(X)
#undef X
    SIM_FAULTS
};
enum sim_fault {
#define X(name) FAULT_##name = 1 << SIM_FAULT_BIT_##name,
    SIM_FAULT_LIST(X)
#undef X
};

#define SIM_STRATEGY_LIST(X)                                                                                           \
    X(EQUIVOCATE)   /* two to four variants, split over the peers; votes among them */                                 \
    X(WITHHOLD)     /* blocks from some */                                                                             \
    X(SILENT)                                                                                                          \
    X(LATE)                                                                                                            \
    X(UNKNOWN_REFS) /* to blocks that don't exist */                                                                   \
    X(FAR_FUTURE)                                                                                                      \
    X(REFUSE_FETCH)                                                                                                    \
    X(WRONG_FETCH)                                                                                                     \
    X(FALSE_VOTES)                                                                                                     \
    X(NO_PAYLOAD)                                                                                                      \
    X(WRONG_PAYLOAD) /* that doesn't match its root */                                                                 \
    X(STARVE_LEADER) /* leaves out whom it may */                                                                      \
    X(MINIMAL_CERTIFICATE) /* supports a leader for some, and nobody's certificate */                                  \
    X(OLD_ROUNDS)   /* floods with blocks of rounds long gone */                                                       \
    X(LARGE_HEADERS) /* all votes and ancestors that fit */                                                            \
    X(WEAK_LINKS)   /* to the oldest that can be */                                                                    \
    X(NEXT_EPOCH)                                                                                                      \
    X(FALSE_I_AM)                                                                                                      \
    X(FALSE_COMMITS)

enum sim_strategy_bit {
#define X(name) SIM_STRATEGY_BIT_##name,
    SIM_STRATEGY_LIST(X)
#undef X
    SIM_STRATEGIES
};
enum sim_strategy {
#define X(name) BYZ_##name = 1 << SIM_STRATEGY_BIT_##name,
    SIM_STRATEGY_LIST(X)
#undef X
};

/* What must happen sometimes, besides the machine's own counters. */
#define SIM_COUNTER_LIST(X)                                                                                            \
    X(seeds_lmdb)                                                                                                      \
    X(crashes)                                                                                                         \
    X(tails_cut)           /* a restart that found less than was appended */                                           \
    X(tails_survived)      /* or more than was durable */                                                              \
    X(disk_errors)                                                                                                     \
    X(disks_full)                                                                                                      \
    X(rot_found)                                                                                                       \
    X(backups_refused)                                                                                                 \
    X(damaged_rejoined)    /* --rejoin on what was left of a log */                                                    \
    X(disks_lost)                                                                                                      \
    X(messages_refused)    /* by their form or signature */                                                            \
    X(payloads_refused)                                                                                                \
    X(transactions_applied)                                                                                            \
    X(transactions_refused)                                                                                            \
    X(messages_applied)    /* of them, from person to person */                                                        \
    X(commits_applied_again)                                                                                           \
    X(slots_timely)        /* that I15 looked at */

struct sim_counters {
#define X(name) uint64_t name;
    SIM_COUNTER_LIST(X)
#undef X
    uint64_t faults[SIM_FAULTS], strategies[SIM_STRATEGIES]; /* times that each was at work */
};

/* A message on its way; one for all its receivers, verified once. */
struct sim_body {
    unsigned holders;
    bool checked, good;
    enum ch_message_type type;
    uint16_t from;
    size_t length;
    uint8_t bytes[];
};

enum sim_kind { SIM_STEP, SIM_MESSAGE, SIM_PAYLOAD, SIM_DISK, SIM_RESTART, SIM_BYZANTINE, SIM_FAULT };

struct sim_event {
    uint64_t at_us, sequence;
    enum sim_kind kind;
    uint16_t to, from;
    unsigned life;
    union {
        struct ch_core_event step;
        struct sim_body *body;
        struct {
            struct ch_ref ref;
            uint64_t handle;
        } payload;
    };
};

struct sim_queue {
    struct sim_event **heap;
    size_t count, room;
    uint64_t sequence;
};
/* The event is the queue's once pushed, the caller's once popped. */
void sim_queue_push(struct sim_queue *queue, uint64_t at_us, struct sim_event *event);
struct sim_event *sim_queue_pop(struct sim_queue *queue);
void sim_event_free(struct sim_event *event);

/* A transaction in a payload, read and verified once. */
struct sim_payload_tx {
    struct ch_tx tx;
    bool parsed, signature_ok, approval_ok;
    uint8_t id[CH_HASH_BYTES];
    uint32_t client; /* number in sim->txs; 0: not a client's */
};
struct sim_payload {
    uint8_t *bytes;
    uint32_t length, count;
    uint8_t root[CH_HASH_BYTES];
    struct sim_payload_tx *txs;
};
struct sim_tx { /* what a client made */
    uint8_t *bytes;
    uint16_t length;
    uint64_t timestamp_ms, delivered; /* index of the first commit; 0: none */
};

/* Every block that an honest log or a Byzantine author ever made. */
struct sim_block {
    struct ch_ref ref;
    uint8_t *header;
    uint32_t length;
    uint64_t handle;
    uint64_t delivered; /* index of the commit; 0: none */
    uint32_t accepted_by; /* nodes whose log has it */
    bool sent;
};

struct sim_commit {
    uint8_t *bytes;
    size_t length;
    uint8_t digest[CH_HASH_BYTES];
    bool applied;
    uint8_t state[CH_HASH_BYTES]; /* after it, with all receipts: what the first to apply it found (I10) */
};

struct sim_slot {
    uint8_t decision;
    struct ch_ref leader;
};

struct sim_sent { /* the adversary's view of (round, author) */
    struct ch_ref refs[SIM_VARIANTS_MAX];
    uint32_t count;
};

struct sim_record {
    enum ch_record_type type;
    uint8_t *bytes;
    size_t length;
    uint64_t handle;
    uint64_t position; /* of its bytes in the log */
    struct ch_ref ref; /* of a block */
};

struct sim_disk;
struct sim_executor;

struct sim_node {
    uint16_t index;
    bool honest, running, connected[SIM_NODES_MAX];
    unsigned life; /* events of an earlier life are void */
    struct ch_core_config config;
    struct ch_core *core;
    /* disk: the log and the guard, and what we remember of them to check against */
    struct sim_disk *disk;
    struct sim_record *log;
    size_t log_count, log_room, durable;
    uint64_t durable_commit, sync_us;
    bool amnesiac;
    struct ch_guard guard; /* the last that SYNCED stood for */
    struct sim_executor *executor;
    uint64_t applied;
    /* payloads */
    uint32_t *pending; /* transactions */
    size_t pending_count, pending_room;
    bool told_pending;
    struct {
        struct ch_ref ref;
        uint64_t handle;
    } early[SIM_EARLY];
    uint32_t early_at;
    struct {
        struct ch_ref ref;
        uint8_t root[CH_HASH_BYTES];
    } *expected;
    size_t expected_count, expected_room;
    /* time */
    uint64_t timer_us, paused_until_us;
    int32_t drift; /* thousandths */
    int64_t offset_ms;
    unsigned late_timers;
    /* checks */
    struct ch_ref *own; /* by round: what was sent; round 0: nothing */
    uint32_t own_room;
    uint32_t signed_round, decided_at_sign, round_at_sign;
    /* Byzantine */
    unsigned strategy;
    uint32_t byz_round;
    struct ch_ref byz_last[SIM_VARIANTS_MAX];
    unsigned byz_count;
    uint32_t first_healed; /* the transaction that must come through (I14) */
    bool keeps_up;         /* since settled_round (I15) */
};

struct sim {
    uint64_t seed;
    bool liveness, healed, failed;
    char why[512];
    struct ch_prng prng;
    struct ch_committee committee;
    struct ch_genesis genesis;
    uint16_t n;
    struct sim_node *nodes;
    struct sim_queue queue;
    uint64_t now_us, events, events_max, messages; /* messages: of honest nodes */
    /* faults */
    unsigned faults;
    uint32_t delay_us, drop, duplicate; /* thousandths */
    bool cut[SIM_NODES_MAX][SIM_NODES_MAX], clogged[SIM_NODES_MAX][SIM_NODES_MAX];
    uint32_t link_us[SIM_NODES_MAX][SIM_NODES_MAX], bytes_per_ms; /* 0: without limit */
    uint64_t link_free_us[SIM_NODES_MAX][SIM_NODES_MAX], slow_until_us[SIM_NODES_MAX];
    struct sim_event **held;
    size_t held_count, held_room;
    uint64_t healed_at_us, healed_index, heal_after, healed_messages;
    uint32_t healed_round, settled_round; /* from there on timely leaders are committed (I15); 0: not there yet */
    bool forgets, forgot, lmdb; /* forgets: a seed in which a disk is lost, spoilt or old, and nobody else is in the way */
    uint64_t chain_ms; /* time of the newest commit: what clients' clocks say */
    uint32_t person_next;
    /* what is agreed */
    struct sim_block **blocks; /* open addressing */
    size_t block_count, block_room;
    struct sim_commit *commits;
    size_t commit_count, commit_room;
    struct sim_slot *slots; /* round x rank */
    uint32_t slot_rounds, slot_next; /* next: rounds x ranks before it are decided by commits */
    struct sim_sent *sent;  /* round x author */
    uint32_t sent_rounds;
    struct sim_payload *payloads; /* by handle; 0 is none */
    size_t payload_count, payload_room;
    struct sim_tx *txs; /* by number; 0 is none */
    size_t tx_count, tx_room;
    struct ch_core_counters counters;
    struct sim_counters seen;
};

/* The first failure of a seed is kept. */
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *sim_alloc(size_t bytes);
void *sim_grow(void *array, size_t count, size_t *room, size_t bytes);
static inline uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return ch_prng_below(&sim->prng, bound);
}
static inline bool sim_chance(struct sim *sim, unsigned thousandths)
{
    return sim_below(sim, 1000) < thousandths;
}

/* chain.c */
void sim_sign(const struct ch_committee *committee, uint16_t author, const char *domain, const uint8_t *message,
              uint32_t length, uint8_t signature[CH_BLOCK_SIGNATURE_BYTES]);
bool sim_verify(struct sim *sim, struct sim_body *body);
struct sim_block *sim_block_find(const struct sim *sim, const struct ch_ref *ref);
struct sim_block *sim_block_add(struct sim *sim, const uint8_t *header, uint32_t length, uint64_t handle);
void sim_block_sent(struct sim *sim, struct sim_block *block);
/* I8 of a block that a node accepted, A3 included. */
void sim_check_accepted(struct sim *sim, struct sim_node *node, const struct ch_block *block, uint32_t gc_round);
/* The node's log has it no more. */
void sim_check_forgotten(struct sim *sim, struct sim_node *node, const struct ch_ref *ref);
/* I1, I2, I3, I4. */
void sim_check_delivery(struct sim *sim, struct sim_node *node, const struct ch_core_action *action);
/* I2 for slots that are decided and not delivered. */
void sim_check_slots(struct sim *sim, struct sim_node *node);

/* payloads.c */
/* A client makes a transaction that is live now; returns its number. */
uint32_t sim_client(struct sim *sim);
/* A payload of these transactions, and of `junk` bytes after them; returns its handle. */
uint64_t sim_payload_make(struct sim *sim, const uint32_t *txs, size_t count, size_t junk);
static inline const struct sim_payload *sim_payload(const struct sim *sim, uint64_t handle)
{
    return &sim->payloads[handle];
}
void sim_payloads_free(struct sim *sim);
/* The people that there are, for who looks at all accounts. */
#define SIM_PEOPLE 6
const uint8_t *sim_person(unsigned number);

/* disk.c */
/* An empty disk and log; `fresh`: and the guard of round 0, as `chappe init` makes it. */
void sim_disk_create(struct sim *sim, struct sim_node *node, bool fresh);
/* Opens log and guard; each record goes to sim_replayed. */
ch_err sim_disk_open(struct sim *sim, struct sim_node *node, bool accept_damage, struct ch_guard *guard,
                     bool *has_guard);
ch_err sim_disk_append(struct sim *sim, struct sim_node *node, const struct ch_core_action *action, uint64_t *position);
void sim_disk_sync(struct sim *sim, struct sim_node *node, const struct ch_core_action *action);
/* Lets the disk go on. CH_OK: *synced is how far SYNCED is true. */
ch_err sim_disk_poll(struct sim *sim, struct sim_node *node, uint64_t *synced);
void sim_disk_later(struct sim *sim, struct sim_node *node, uint64_t us);
/* The process ended: the disk as the next one finds it, with what the faults do to it meanwhile. */
void sim_disk_crash(struct sim *sim, struct sim_node *node);
void sim_disk_backup(struct sim *sim, struct sim_node *node);
void sim_disk_fail_soon(struct sim *sim, struct sim_node *node);
void sim_disk_fill(struct sim *sim, struct sim_node *node);
void sim_disk_heal(struct sim_node *node);
/* The last crash did something to it that a start must notice; and it did. */
bool sim_disk_spoilt(const struct sim_node *node);
void sim_disk_noticed(struct sim *sim, struct sim_node *node);
void sim_disk_close_log(struct sim_node *node);
void sim_disk_free(struct sim_node *node);

/* executor.c */
void sim_executor_create(struct sim *sim, struct sim_node *node);
void sim_executor_apply(struct sim *sim, struct sim_node *node, const struct ch_core_action *action);
/* Back to what it made durable; node->applied says what that is. */
void sim_executor_crash(struct sim *sim, struct sim_node *node);
void sim_executor_free(struct sim_node *node);

/* host.c */
void sim_node_start(struct sim *sim, struct sim_node *node);
void sim_node_crash(struct sim *sim, struct sim_node *node);
void sim_node_forget(struct sim *sim, struct sim_node *node);
void sim_node_lose_disk(struct sim *sim, struct sim_node *node);
void sim_node_handle(struct sim *sim, struct sim_node *node, struct sim_event *event);
void sim_node_submit(struct sim *sim, struct sim_node *node, uint32_t tx);
void sim_node_free(struct sim *sim, struct sim_node *node);
void sim_tell(struct sim *sim, struct sim_node *node, uint64_t at_us, const struct ch_core_event *event);
struct sim_event *sim_event_of(struct sim_node *node, enum sim_kind kind);
/* Forgets all records of the log but the first `count`. */
void sim_log_cut(struct sim *sim, struct sim_node *node, size_t count);
/* One record that the log still has, while it is opened. */
ch_err sim_replayed(struct sim *sim, struct sim_node *node, size_t k);

/* serve.c */
void sim_node_send(struct sim *sim, struct sim_node *node, uint16_t to, enum ch_message_type type,
                   struct ch_bytes bytes);
void sim_serve_blocks(struct sim *sim, struct sim_node *node, uint16_t to, struct ch_bytes body);
void sim_serve_payload(struct sim *sim, struct sim_node *node, uint16_t to, struct ch_bytes body);
void sim_serve_commits(struct sim *sim, struct sim_node *node, uint16_t to, uint64_t from, uint64_t last);

/* faults.c */
void sim_fault(struct sim *sim);
void sim_connect(struct sim *sim, uint16_t a, uint16_t b, bool up);
/* The held messages of all links go on, in any order. */
void sim_unclog(struct sim *sim);
bool sim_may_forget(const struct sim *sim, const struct sim_node *node);

/* cluster.c */
void sim_send(struct sim *sim, uint16_t from, uint16_t to, struct sim_body *body, uint64_t extra_us);
void sim_send_payload(struct sim *sim, uint16_t from, uint16_t to, const struct ch_ref *ref, uint64_t handle);
struct sim_body *sim_body(uint16_t from, enum ch_message_type type, const uint8_t *bytes, size_t length);
void sim_body_drop(struct sim_body *body);
struct sim_result {
    uint8_t digest[CH_HASH_BYTES];
    bool failed;
    uint64_t events, commits, rounds, virtual_us;
};
struct sim_options {
    bool liveness, trace;
    uint64_t events_max;
};
struct sim_totals { /* over seeds */
    struct ch_core_counters core;
    struct sim_counters seen;
};
/* One seed, from its cluster to its end. Adds to the totals unless NULL; says on stderr what broke. */
void sim_run(uint64_t seed, const struct sim_options *options, struct sim_totals *totals, struct sim_result *out);

/* byzantine.c */
/* docs/consensus.md 8, rank 0. */
uint16_t sim_leader(const struct sim *sim, uint32_t round);
void sim_byzantine_act(struct sim *sim, struct sim_node *node);
void sim_byzantine_message(struct sim *sim, struct sim_node *node, const struct sim_body *body);

#endif
