/* tests/sim/sim.h - whole clusters of the real consensus machine in one process (CONSENSUS.md 19, 20, 22): one queue of
 * events, one seeded PRNG, simulated network, disk and clocks, Byzantine validators, invariants after each event.
 *
 * queue.c      what happens next
 * chain.c      what all honest nodes must agree on, and the checks against it
 * host.c       an honest node around its machine: log, guard, payloads, executor
 * byzantine.c  a validator that knows all that was sent and signs what it likes
 * cluster.c    a seed's cluster, its faults, its end
 *
 * Signatures are hashes. A payload is a function of its handle, so it travels as a number.
 */
#ifndef CHAPPE_TESTS_SIM_H
#define CHAPPE_TESTS_SIM_H

#include <stdio.h>
#include <stdlib.h>

#include "base/prng.h"
#include "consensus/core.h"
#include "consensus/message.h"

#define SIM_NODES_MAX    20
#define SIM_VARIANTS_MAX 4 /* of one author and round that the adversary remembers */
#define SIM_EARLY        1024
#define SIM_MS           1000ull
#define SIM_SECOND       1000000ull

enum sim_fault {
    FAULT_DROP = 1 << 0,
    FAULT_DUPLICATE = 1 << 1,
    FAULT_HEAVY_TAIL = 1 << 2,
    FAULT_CORRUPT = 1 << 3,
    FAULT_PARTITION = 1 << 4,
    FAULT_ONE_WAY = 1 << 5,
    FAULT_FLAP = 1 << 6,
    FAULT_CRASH = 1 << 7,
    FAULT_CRASH_ALL = 1 << 8,
    FAULT_CRASH_INSIDE = 1 << 9, /* between two actions of one step */
    FAULT_PAUSE = 1 << 10,
    FAULT_SLOW_DISK = 1 << 11,
    FAULT_CLOCK = 1 << 12,
    FAULT_AMNESIA = 1 << 13,
    FAULT_TAIL_SURVIVES = 1 << 14, /* part of the unsynced log is there after a crash */
};

enum sim_strategy {
    BYZ_EQUIVOCATE = 1 << 0,
    BYZ_WITHHOLD = 1 << 1,
    BYZ_SILENT = 1 << 2,
    BYZ_LATE = 1 << 3,
    BYZ_UNKNOWN_REFS = 1 << 4,
    BYZ_FAR_FUTURE = 1 << 5,
    BYZ_REFUSE_FETCH = 1 << 6,
    BYZ_WRONG_FETCH = 1 << 7,
    BYZ_FALSE_VOTES = 1 << 8,
    BYZ_NO_PAYLOAD = 1 << 9,
    BYZ_STARVE_LEADER = 1 << 10, /* leaves out whom it may */
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

enum sim_kind { SIM_STEP, SIM_MESSAGE, SIM_PAYLOAD, SIM_LOG_SYNCED, SIM_GUARD_SYNCED, SIM_RESTART, SIM_BYZANTINE, SIM_FAULT };

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
        struct {
            uint64_t lsn;
            bool guard_changed;
            struct ch_guard guard;
        } sync;
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

/* Every block that an honest log or a Byzantine author ever made. */
struct sim_block {
    struct ch_ref ref;
    uint8_t *header;
    uint32_t length;
    uint64_t handle;
    uint64_t delivered; /* index of the commit; 0: none */
    bool sent;
};

struct sim_commit {
    uint8_t *bytes;
    size_t length;
    uint8_t digest[CH_HASH_BYTES];
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
    uint64_t handle, lsn;
    struct ch_ref ref; /* of a block */
};

struct sim_node {
    uint16_t index;
    bool honest, running, connected[SIM_NODES_MAX];
    unsigned life; /* events of an earlier life are void */
    struct ch_core_config config;
    struct ch_core *core;
    /* disk */
    struct sim_record *log;
    size_t log_count, log_room, durable;
    uint64_t durable_commit, disk_free_us, sync_us;
    bool have_guard, amnesiac;
    struct ch_guard guard;
    /* executor */
    uint64_t applied, applied_durable;
    /* payloads */
    uint64_t *pending;
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
    uint64_t first_healed; /* the handle that must come through (I14) */
};

struct sim {
    uint64_t seed;
    bool liveness, healed, failed;
    char why[512];
    struct ch_prng prng;
    struct ch_committee committee;
    uint16_t n;
    struct sim_node *nodes;
    struct sim_queue queue;
    uint64_t now_us, events, events_max, messages;
    /* faults */
    unsigned faults;
    uint32_t delay_us, drop, duplicate; /* thousandths */
    bool cut[SIM_NODES_MAX][SIM_NODES_MAX];
    uint64_t healed_at_us, healed_index, heal_after;
    bool forgot;
    /* what is agreed */
    struct sim_block **blocks; /* open addressing */
    size_t block_count, block_room;
    struct sim_commit *commits;
    size_t commit_count, commit_room;
    struct sim_slot *slots; /* round x rank */
    uint32_t slot_rounds, slot_next; /* next: rounds x ranks before it are decided by commits */
    struct sim_sent *sent;  /* round x author */
    uint32_t sent_rounds;
    uint64_t handle;
    struct ch_core_counters counters;
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
bool sim_verify(const struct sim *sim, struct sim_body *body);
uint32_t sim_payload(uint64_t handle, uint8_t root[CH_HASH_BYTES]);
struct sim_block *sim_block_find(const struct sim *sim, const struct ch_ref *ref);
struct sim_block *sim_block_add(struct sim *sim, const uint8_t *header, uint32_t length, uint64_t handle);
void sim_block_sent(struct sim *sim, struct sim_block *block);
/* I1, I2, I3, I4. */
void sim_check_delivery(struct sim *sim, struct sim_node *node, const struct ch_core_action *action);
/* I2 for slots that are decided and not delivered. */
void sim_check_slots(struct sim *sim, struct sim_node *node);

/* host.c */
void sim_node_start(struct sim *sim, struct sim_node *node);
void sim_node_crash(struct sim *sim, struct sim_node *node);
void sim_node_forget(struct sim *sim, struct sim_node *node);
void sim_node_handle(struct sim *sim, struct sim_node *node, struct sim_event *event);
void sim_node_submit(struct sim *sim, struct sim_node *node, uint64_t handle);
void sim_node_free(struct sim_node *node);
void sim_tell(struct sim *sim, struct sim_node *node, uint64_t at_us, const struct ch_core_event *event);

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
/* One seed, from its cluster to its end. Adds to the counters unless NULL; says on stderr what broke. */
void sim_run(uint64_t seed, bool liveness, bool trace, uint64_t events_max, struct ch_core_counters *counters,
             struct sim_result *out);

/* byzantine.c */
void sim_byzantine_act(struct sim *sim, struct sim_node *node);
void sim_byzantine_message(struct sim *sim, struct sim_node *node, const struct sim_body *body);

#endif
