/* tests/consensus/cluster.h - a few machines in one process, with a small deterministic network, log and guard: enough
 * for directed tests. Signatures are hashes; time is a queue of events. */
#ifndef CHAPPE_TESTS_CONSENSUS_CLUSTER_H
#define CHAPPE_TESTS_CONSENSUS_CLUSTER_H

#include "consensus/core.h"
#include "consensus/message.h"
#include "tests/test.h"

#define CLUSTER_NODES_MAX 16

struct record {
    enum ch_record_type type;
    uint8_t *bytes;
    size_t length;
    uint64_t handle, lsn;
    struct ch_ref ref; /* of a block */
};

struct commit {
    uint8_t *bytes;
    size_t length;
    uint8_t digest[CH_HASH_BYTES];
};

struct node {
    struct cluster *cluster;
    uint16_t index;
    struct ch_core_config config;
    struct ch_core *core;
    bool running, connected[CLUSTER_NODES_MAX];
    unsigned life; /* events of an earlier life are void */
    struct record *log;
    size_t log_count, log_room;
    uint64_t synced_lsn; /* of the present life */
    size_t durable;      /* records that survive a crash */
    bool have_guard;
    struct ch_guard guard;
    struct commit *commits; /* delivered, by index - 1 */
    size_t commit_count, commit_room;
    uint64_t applied;   /* what the executor remembers */
    uint64_t commit_ms; /* the last commit's time */
    uint64_t pending;   /* transactions waiting */
    bool told_pending, refuse_payload;
    uint64_t timer_us;
    unsigned late_timers;
    int64_t clock_offset_ms;
    struct ch_ref *early; /* payloads that came before they were expected */
    size_t early_count;
    struct ch_ref expected[4096];
    size_t expected_count;
    enum ch_halt halt;
    uint64_t signed_round, sent_messages, requeued, released, taken, handles_delivered, reports[8];
    struct ch_ref last_signed[64]; /* what was broadcast last, by round modulo */
};

struct cluster {
    struct ch_committee committee;
    struct ch_prng prng;
    uint16_t n;
    struct node nodes[CLUSTER_NODES_MAX];
    uint64_t now_us, sequence;
    struct event **heap;
    size_t heap_count, heap_room;
    uint64_t delay_min_us, delay_max_us, sync_us;
    uint64_t handle; /* last given out; its payload is a function of the number */
    /* May say that a message is lost; bodies as they are. NULL: none is. */
    bool (*drop)(struct cluster *cluster, uint16_t from, uint16_t to, enum ch_message_type type, const uint8_t *body,
                 size_t length);
    /* May delay a message further; NULL: no. */
    uint64_t (*hold_us)(struct cluster *cluster, uint16_t from, uint16_t to, enum ch_message_type type,
                        const uint8_t *body, size_t length);
    bool check_agreement;
    struct ch_core_counters totals; /* of lives that ended */
    void *context;
};

/* `stake` NULL: one each. Nothing runs yet. */
void cluster_open(struct cluster *cluster, uint16_t n, uint64_t seed);
void cluster_close(struct cluster *cluster);
void cluster_params(struct cluster *cluster, uint32_t gc_depth, uint32_t ranks);
/* Starts a node from what is durable of it (nothing: the first start). Returns ch_core_start's answer. */
ch_err cluster_start(struct cluster *cluster, uint16_t index);
void cluster_start_all(struct cluster *cluster);
/* Stops it at once; what was not synced is lost. */
void cluster_crash(struct cluster *cluster, uint16_t index);
void cluster_forget_disk(struct cluster *cluster, uint16_t index);
void cluster_connect(struct cluster *cluster, uint16_t a, uint16_t b, bool up);
/* Runs until this time; checks agreement of all that is delivered as it goes. */
void cluster_run(struct cluster *cluster, uint64_t until_us);
/* Runs until `done` or the time; returns whether done. */
bool cluster_run_until(struct cluster *cluster, uint64_t until_us, bool (*done)(struct cluster *cluster));
/* One event of a running node, now. */
void cluster_event(struct cluster *cluster, uint16_t index, const struct ch_core_event *event);
void cluster_submit(struct cluster *cluster, uint16_t index, uint64_t count);
/* Adds what the running nodes counted to the totals. */
void cluster_count(struct cluster *cluster, struct ch_core_counters *totals);
struct ch_core_status cluster_status(struct cluster *cluster, uint16_t index);

/* What a signature is here. */
void cluster_sign(const struct ch_committee *committee, uint16_t author, const char *domain, const uint8_t *message,
                  uint32_t length, uint8_t signature[CH_BLOCK_SIGNATURE_BYTES]);
/* A signed header as `author` would have made it; returns its length. */
uint32_t cluster_block(const struct ch_committee *committee, const struct ch_block_draft *draft, uint8_t *out,
                       struct ch_ref *ref);
/* Hands a node a message as if it came from a peer, now. */
void cluster_inject(struct cluster *cluster, uint16_t to, uint16_t from, enum ch_message_type type, const uint8_t *body,
                    size_t length);

#endif
