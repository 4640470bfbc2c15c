/* node/node.h - the validator: its stages, what they share, and its life from start to stop.
 *
 * What is here is written before the threads start and only read after, but for the rings, the pools, the counters and
 * the atomics. Each stage is one file (net.c, verify.c, order.c, log.c, apply.c, serve.c) with an open, a poll and a
 * close.
 */
#ifndef CHAPPE_NODE_NODE_H
#define CHAPPE_NODE_NODE_H

#include "crypto/sign.h"
#include "node/config.h"
#include "node/flow.h"
#include "node/links.h"
#include "node/metrics.h"
#include "node/thread.h"
#include "store/object.h"
#include "store/state.h"
#include "store/wal.h"
#include "wire/block.h"

#define CH_VERIFY_STAGES_MAX 64
#define CH_THREADS_MAX       72

struct ch_net;
struct ch_verify;
struct ch_order;
struct ch_apply;
struct ch_serve;
struct ch_retention;
struct ch_ipfs;
struct ch_scrub;
struct ch_asks;

/* An object that a message names. */
struct ch_name {
    struct ch_cid root;
    uint64_t bytes;
};
/* Those of the replayed log, until node/names.h has gone through them. */
struct ch_names_replayed {
    struct ch_name *name;
    size_t count, capacity;
    bool more; /* than are remembered */
};

struct ch_node {
    struct ch_config config;
    char folder[256];
    struct ch_genesis genesis;
    struct ch_committee committee;
    uint8_t chain_id[CH_HASH_BYTES];
    struct ch_sign_key key; /* the validator's */
    uint16_t me;            /* its index in the committee */

    struct ch_metrics metrics;
    struct ch_flow flow;

    struct ch_ring to_verify;  /* batches, net -> verify (any) */
    struct ch_ring to_suspect; /* the same from sources that sent a bad signature */
    struct ch_ring to_hash;    /* ch_request with a block, net -> verify (any) */
    struct ch_ring to_order;   /* batches, verify -> order */
    struct ch_ring to_answer;  /* batches, order -> net */
    struct ch_ring to_apply;   /* ch_commit_work, order -> apply */
    struct ch_ring applied;    /* ch_commit_work, apply -> serve */
    struct ch_ring receipts;   /* payloads, serve -> net */
    struct ch_ring to_serve;   /* ch_request, net and verify -> serve */
    struct ch_ring replies;    /* ch_request, serve -> net */
    atomic_uint_fast64_t object_lies[CH_VALIDATORS_MAX]; /* of each validator about objects (node/spread.h) */

    struct ch_links links; /* the other validators; none where we are alone */

    struct ch_wal *wal;
    struct ch_state *state;
    struct ch_io *state_io;
    bool state_discarded; /* it was damaged: the replay of all of the log makes it anew */
    struct ch_io *objects_io;
    struct ch_file *pool_mark; /* of state_io; NULL: objects are in segments here */
    struct ch_object_store *objects;

    struct ch_net *net;
    struct ch_verify *verify[CH_VERIFY_STAGES_MAX];
    uint32_t verify_count;
    struct ch_order *order;
    struct ch_apply *apply;
    struct ch_serve *serve;
    struct ch_retention *retention;
    struct ch_ipfs *ipfs; /* NULL: off */
    struct ch_scrub *scrub;
    struct ch_asks *asks; /* its questions */
    struct ch_names_replayed names; /* written before the threads start; then serve's */
    struct ch_thread threads[CH_THREADS_MAX];
    uint32_t thread_count;

    atomic_uint_fast64_t commit_ms; /* time of the last commit: what live means */
    atomic_uint_fast64_t replay_from;   /* a restart replays the log from here, whichever of the last states it finds */
    atomic_uint_fast64_t log_keep_from; /* what lies below may be cut */
    atomic_bool ready;              /* consensus time has caught up after the start: new work is taken */
    atomic_bool link_down;          /* the port's device has no carrier */
    atomic_bool disk_low;           /* below the low-water mark: new work is refused */
    atomic_bool stop;               /* ends the threads */
    atomic_bool state_damaged;      /* rows are not what was written: the next start makes the state anew, if the log can */
    atomic_int failed;              /* a ch_err that ended a stage: the process must end, loudly */
    uint64_t started_ms;
    bool clock_ok; /* the operator vouches for this machine's clock */
    bool rejoin;   /* guard and log were lost: the others are asked before anything is signed */
};

#define CH_NODE_WHY_BYTES 512

struct ch_node_options {
    const char *folder;          /* made by ch_node_init */
    const char *passphrase_file; /* NULL: asked for where a key is wrapped */
    bool clock_ok;               /* the operator vouches for the clock */
    bool rejoin;                 /* guard and log were lost: ask the others before signing. Not alone */
};

/* Opens all of a validator: reads configuration and keys, replays the log. `why` gets one line for the operator on
 * failure. */
CH_MUST_CHECK ch_err ch_node_open(const struct ch_node_options *options, struct ch_node **out,
                                  char why[CH_NODE_WHY_BYTES]);
CH_MUST_CHECK ch_err ch_node_start(struct ch_node *node);
/* What the main thread does every now and then while the stages run: says what the log need not keep, looks after the
 * disk's room. */
void ch_node_look_after(struct ch_node *node);
/* Stops the threads, says goodbye to the peers, closes all. */
void ch_node_close(struct ch_node *node);

/* What `chappe init` makes. A genesis that names its committee must name the key of the validator in the folder: where
 * that isn't there yet it is made, and the init refused with its key in `why`. */
struct ch_node_init {
    const char *folder;
    const char *passphrase_file; /* NULL with plain_keys, or where it is asked for */
    bool plain_keys;
    struct ch_genesis genesis; /* without validators: this one alone becomes it */
    const char *address;       /* of the validator in the genesis, "ip:port" */
    struct ch_config config;
    uint8_t validator_key[32]; /* out: ours */
};
CH_MUST_CHECK ch_err ch_node_init(struct ch_node_init *init, uint8_t chain_id[CH_HASH_BYTES],
                                  char why[CH_NODE_WHY_BYTES]);
/* Only the folder's keys, made where there are none yet: what a genesis needs of each validator before it is
 * written. */
CH_MUST_CHECK ch_err ch_node_init_key(struct ch_node_init *init, char why[CH_NODE_WHY_BYTES]);

#endif
