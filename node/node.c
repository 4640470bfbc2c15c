#include "node/node.h"

#include "base/cpu.h"
#include "base/log.h"
#include "base/time.h"
#include "crypto/keyfile.h"
#include "node/apply.h"
#include "node/ask.h"
#include "node/genesis_file.h"
#include "node/ipfs.h"
#include "node/net.h"
#include "node/object_store.h"
#include "node/order.h"
#include "node/retention.h"
#include "node/scrub.h"
#include "node/serve.h"
#include "node/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PATH_BYTES_MAX 1024

__attribute__((format(printf, 3, 4))) static ch_err explain(char why[CH_NODE_WHY_BYTES], ch_err err,
                                                            const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int used = vsnprintf(why, CH_NODE_WHY_BYTES, format, args);
    va_end(args);
    if (used > 0 && used < CH_NODE_WHY_BYTES - 1)
        snprintf(why + used, (size_t)(CH_NODE_WHY_BYTES - used), ": %s", ch_err_text(err));
    return err;
}

static const char *path_in(char path[PATH_BYTES_MAX], const char *folder, const char *name)
{
    snprintf(path, PATH_BYTES_MAX, "%s/%s", folder, name);
    return path;
}

static ch_err read_genesis(struct ch_node *node, char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    uint8_t *bytes = malloc(CH_GENESIS_BYTES_MAX + 1);
    FILE *file = fopen(path_in(path, node->folder, "chain.genesis"), "re");
    size_t length = file && bytes ? fread(bytes, 1, CH_GENESIS_BYTES_MAX + 1, file) : 0;
    ch_err err = length ? ch_genesis_decode(bytes, length, &node->genesis) : CH_ERR_NOT_FOUND;
    char weak[128];
    if (err == CH_OK && (err = ch_genesis_check_keys(&node->genesis, weak, sizeof weak)) != CH_OK)
        snprintf(why, CH_NODE_WHY_BYTES, "%.300s: %s", path, weak);
    else if (err == CH_ERR_INVALID)
        snprintf(why, CH_NODE_WHY_BYTES, "%.300s is no genesis of a chain", path);
    else if (err != CH_OK)
        explain(why, err, "%s (made by `chappe init`)", path);
    if (err == CH_OK) {
        ch_genesis_chain_id(bytes, length, node->chain_id);
        ch_committee_from_genesis(&node->genesis, node->chain_id, &node->committee);
    }
    if (file)
        fclose(file);
    free(bytes);
    return err;
}

static ch_err read_key(struct ch_node *node, const char *name, enum ch_keyfile_purpose purpose,
                       const char *passphrase_file, uint8_t *secret, size_t bytes, char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    struct ch_keyfile_info info = {.wrapped = false};
    struct ch_passphrase passphrase = {.length = 0};
    size_t length = 0;
    path_in(path, node->folder, name);
    ch_err err = ch_keyfile_inspect(path, purpose, &info);
    if (err == CH_OK && info.wrapped)
        err = ch_passphrase_get(passphrase_file, "chappe-passphrase", "Passphrase of the validator's keys: ", false,
                                &passphrase);
    if (err == CH_ERR_NOT_FOUND && info.wrapped) {
        if (passphrase_file)
            snprintf(why, CH_NODE_WHY_BYTES, "no passphrase file %.300s", passphrase_file);
        else
            snprintf(why, CH_NODE_WHY_BYTES,
                     "%.300s: no passphrase: give --passphrase-file, or the credential chappe-passphrase", path);
        return CH_ERR_BAD_PASSPHRASE;
    }
    if (err == CH_OK)
        err = ch_keyfile_read(path, purpose, &passphrase, secret, bytes, &length);
    if (err == CH_OK && length != bytes)
        err = CH_ERR_INVALID;
    ch_wipe(&passphrase, sizeof passphrase);
    if (err == CH_ERR_INVALID)
        snprintf(why, CH_NODE_WHY_BYTES, "%.300s: no key file, or one for another purpose", path);
    else if (err != CH_OK)
        explain(why, err, "%s", path);
    return err == CH_OK || err == CH_ERR_READABLE_BY_OTHERS ? err : CH_ERR_BAD_PASSPHRASE;
}

static ch_err open_rings(struct ch_node *n)
{
    uint32_t parcels_in = (n->committee.n - 1u) * (CH_PARCELS_IN + CH_PARCELS_TOLD);
    const struct {
        struct ch_ring *ring;
        const char *name;
        uint32_t capacity;
        bool shared_ends;
    } rings[] = {
        /* Each holds all there is of what flows through it, so a push that follows a pull never fails. */
        {&n->to_verify, "to verify", CH_BATCH_POOL_COUNT, true},
        {&n->to_suspect, "to suspect", CH_BATCH_POOL_COUNT, true},
        {&n->to_hash, "to hash", CH_REQUEST_POOL_COUNT, true},
        {&n->to_order, "to order", CH_BATCH_POOL_COUNT, true},
        {&n->to_answer, "to answer", CH_BATCH_POOL_COUNT, false},
        {&n->to_apply, "to apply", CH_WORK_POOL_COUNT, false},
        {&n->applied, "applied", CH_WORK_POOL_COUNT, false},
        {&n->receipts, "receipts", CH_WORK_POOL_COUNT * CH_WORK_PAYLOADS, false},
        {&n->to_serve, "to serve", CH_REQUEST_POOL_COUNT + CH_ASKS_MAX + parcels_in, true},
        {&n->replies, "replies", CH_REQUEST_POOL_COUNT + CH_PARCELS_OUT, false},
    };
    for (size_t i = 0; i < sizeof rings / sizeof *rings; i++)
        if (ch_ring_open(rings[i].ring, rings[i].name, rings[i].capacity, rings[i].shared_ends) != CH_OK)
            return CH_ERR_NO_MEMORY;
    return CH_OK;
}

static uint32_t verify_stages(const struct ch_config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (config->stages_verify_stages)
        return (uint32_t)config->stages_verify_stages;
    return cores > 6 ? (uint32_t)(cores - 5) : 1; /* the other stages have one each */
}

static ch_err add_thread(struct ch_node *n, struct ch_stage stage)
{
    CH_ASSERT(n->thread_count < CH_THREADS_MAX);
    struct ch_thread *thread = &n->threads[n->thread_count++];
    ch_err err = ch_thread_open(thread, &n->stop);
    if (err == CH_OK) {
        thread->busy = n->config.stages_busy;
        ch_thread_add(thread, stage);
    }
    return err;
}

static ch_err lay_out_threads(struct ch_node *n)
{
    int fds[2];
    ch_order_fds(n->order, fds);
    const struct ch_stage stages[] = {
        {.name = "net",
         .self = n->net,
         .poll = ch_net_poll,
         .deadline_ns = ch_net_deadline_ns,
         .fds = {-1, -1},
         .wait = ch_net_wait,
         .wake = ch_net_wake,
         .enter = ch_net_enter,
         .leave = ch_net_leave},
        {.name = "order",
         .self = n->order,
         .poll = ch_order_poll,
         .deadline_ns = ch_order_deadline_ns,
         .fds = {fds[0], fds[1]}},
        {.name = "apply", .self = n->apply, .poll = ch_apply_poll, .fds = {-1, -1}},
        {.name = "serve",
         .self = n->serve,
         .poll = ch_serve_poll,
         .deadline_ns = ch_serve_deadline_ns,
         .fds = {ch_serve_fd(n->serve), -1}},
    };
    ch_err err = CH_OK;
    for (size_t i = 0; i < sizeof stages / sizeof *stages && err == CH_OK; i++)
        err = add_thread(n, stages[i]);
    for (uint32_t i = 0; i < n->verify_count && err == CH_OK; i++) {
        err = add_thread(
            n, (struct ch_stage){.name = "verify", .self = n->verify[i], .poll = ch_verify_poll, .fds = {-1, -1}});
        if (i)
            ch_verify_set_next(n->verify[i - 1], &n->threads[n->thread_count - 1].bell);
    }
    if (err == CH_OK)
        err = add_thread(n, (struct ch_stage){.name = "scrub",
                                              .self = n->scrub,
                                              .poll = ch_scrub_poll,
                                              .deadline_ns = ch_scrub_deadline_ns,
                                              .fds = {-1, -1}});
    if (err != CH_OK)
        return err;
    struct ch_bell *net = &n->threads[0].bell, *order = &n->threads[1].bell, *apply = &n->threads[2].bell,
                   *serve = &n->threads[3].bell, *verify = &n->threads[4].bell;
    n->to_verify.consumer = n->to_suspect.consumer = n->to_hash.consumer = verify;
    n->to_order.consumer = order;
    n->to_answer.consumer = n->receipts.consumer = n->replies.consumer = net;
    n->to_apply.consumer = apply;
    n->applied.consumer = n->to_serve.consumer = serve;
    for (unsigned lane = 0; lane < CH_LANES; lane++)
        n->links.to_order[lane].consumer = order;
    n->links.to_net.consumer = net;
    return CH_OK;
}

/* While the log is replayed nobody listens. */
static struct ch_bell nobody;

static void no_consumers(struct ch_node *n)
{
    n->to_verify.consumer = n->to_suspect.consumer = n->to_hash.consumer = n->to_order.consumer =
        n->to_answer.consumer = n->receipts.consumer = n->replies.consumer = n->to_apply.consumer =
            n->applied.consumer = n->to_serve.consumer = &nobody;
}

static ch_err open_stores(struct ch_node *n, const uint8_t master[32], char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    struct ch_state_options state = {.folder = path_in(path, n->folder, "lmdb"),
                                     .nometasync = strcmp(n->config.store_state_sync, "nometasync") == 0};
    ch_random(&state.seed, sizeof state.seed);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return explain(why, CH_ERR_IO, "%s", path);
    ch_err err = ch_io_uring_open(&n->state_io);
    state.io = n->state_io;
    if (err == CH_OK)
        err = ch_state_open(&state, &n->state);
    if (err == CH_ERR_CORRUPT) {
        ch_log(CH_LOG_ERROR, "%s: damaged; the state is made anew from the log", path);
        n->state_discarded = true;
        err = ch_state_discard(n->state_io, path);
        if (err == CH_OK)
            err = ch_state_open(&state, &n->state);
    }
    if (err != CH_OK)
        return explain(why, err, "%s", path);
    return ch_node_open_objects(n, master, why);
}

static ch_err open_blocks(void *context, void **reader)
{
    return ch_asker_open(context, (struct ch_asker **)reader);
}
static ch_err get_block(void *reader, const struct ch_cid *cid, void *to, size_t capacity, size_t *length)
{
    return ch_asker_get(reader, cid, to, capacity, length);
}
static ch_err has_tree(void *reader, const struct ch_cid *root, uint64_t *file_bytes)
{
    return ch_asker_has_tree(reader, root, file_bytes);
}
static void close_blocks(void *reader)
{
    ch_asker_close(reader);
}

static ch_err open_ipfs(struct ch_node *n, char why[CH_NODE_WHY_BYTES])
{
    ch_err err = n->config.network_ipfs_port ? ch_asks_open(n, &n->asks) : CH_OK;
    if (err != CH_OK)
        return explain(why, err, "the IPFS gateway");
    const struct ch_ipfs_options options = {
        .address = n->config.network_ipfs_address,
        .port = (uint16_t)n->config.network_ipfs_port,
        .connections_max = (uint32_t)n->config.network_ipfs_connections,
        .connections_per_address = (uint32_t)n->config.network_ipfs_connections_per_address,
        .idle_s = (uint32_t)n->config.network_idle_seconds,
        .source = {n->asks, open_blocks, get_block, has_tree, close_blocks},
        .metrics = &n->metrics,
    };
    if (options.port == 0)
        return CH_OK;
    err = ch_ipfs_open(&options, &n->ipfs);
    return err == CH_OK ? CH_OK
                        : explain(why, err, "network.ipfs_address %s, ipfs_port %u", options.address, options.port);
}

static ch_err open_stages(struct ch_node *n, char why[CH_NODE_WHY_BYTES])
{
    struct ch_order_replay replay = {.apply = ch_apply_replay};
    ch_err err = ch_apply_open(n, &replay.from, &replay.after, &n->apply);
    replay.context = n->apply;
    if (err != CH_OK)
        return explain(why, err, "the state");
    err = ch_order_open(n, &replay, &n->order);
    if (err == CH_OK)
        err = ch_apply_replayed(n->apply);
    if (err == CH_ERR_LOG_DAMAGED && n->state_discarded)
        return explain(why, err, "%s/wal: the state was damaged, and its log no longer begins at the beginning",
                       n->folder);
    if (err != CH_OK)
        return explain(why, err, "%s/wal", n->folder);
    n->wal = ch_order_wal(n->order);
    err = ch_retention_open(n, &n->retention);
    if (err == CH_OK)
        err = ch_serve_open(n, &n->serve);
    if (err == CH_OK)
        err = ch_scrub_open(n, &n->scrub);
    n->verify_count = verify_stages(&n->config);
    for (uint32_t i = 0; i < n->verify_count && err == CH_OK; i++)
        err = ch_verify_open(n, &n->verify[i]);
    if (err != CH_OK)
        return explain(why, err, "the stages");
    err = ch_net_open(n, &n->net, why);
    return err == CH_OK ? open_ipfs(n, why) : err;
}

ch_err ch_node_open(const struct ch_node_options *options, struct ch_node **out, char why[CH_NODE_WHY_BYTES])
{
    const char *folder = options->folder, *passphrase_file = options->passphrase_file;
    char path[PATH_BYTES_MAX];
    uint32_t mask;
    uint8_t seed[CH_SIGN_SEED_BYTES], master[32];
    struct ch_node *n = aligned_alloc(64, (sizeof *n + 63) / 64 * 64);
    if (!n)
        return explain(why, CH_ERR_NO_MEMORY, "the node");
    memset(n, 0, sizeof *n);
    n->started_ms = ch_time_unix_ms();
    n->clock_ok = options->clock_ok;
    n->rejoin = options->rejoin;
    no_consumers(n);
    ch_config_defaults(&n->config);
    ch_err err = CH_OK;
    if (snprintf(n->folder, sizeof n->folder, "%s", folder) >= (int)sizeof n->folder) {
        snprintf(why, CH_NODE_WHY_BYTES, "the folder's name is too long");
        err = CH_ERR_INVALID;
    }
    if (err == CH_OK)
        err = ch_config_load(path_in(path, folder, "chappe.yaml"), &n->config, why, CH_NODE_WHY_BYTES);
    if (err == CH_OK && (err = ch_cpu_parse_mask(n->config.stages_cpu_mask, &mask)) == CH_OK)
        ch_cpu_set_mask(mask);
    if (err == CH_OK && (err = ch_sign_init()) != CH_OK)
        explain(why, err, "libsodium");
    if (err == CH_OK)
        err = read_genesis(n, why);
    if (err == CH_OK)
        err = read_key(n, "validator.key", CH_KEYFILE_VALIDATOR, passphrase_file, seed, sizeof seed, why);
    if (err == CH_OK)
        err = read_key(n, "master.key", CH_KEYFILE_MASTER, passphrase_file, master, sizeof master, why);
    if (err == CH_OK) {
        ch_sign_key_from_seed(seed, &n->key);
        n->me = 0;
        while (n->me < n->committee.n && memcmp(n->key.public_key, n->committee.key[n->me], 32) != 0)
            n->me++;
        if (n->me == n->committee.n)
            err = explain(why, CH_ERR_WRONG_CHAIN, "%s/validator.key is no validator of this chain", folder);
        else if (n->committee.n > 1 && (err = ch_links_open(&n->links, n->committee.n, n->me)) != CH_OK)
            explain(why, err, "the links");
    }
    if (err == CH_OK && (err = open_rings(n)) != CH_OK)
        explain(why, err, "the rings");
    if (err == CH_OK) {
        err = ch_flow_open(&n->flow, (uint32_t)n->genesis.params.max_payload, (uint32_t)n->genesis.params.max_items,
                           n->committee.n - 1u);
        if (err != CH_OK)
            explain(why, err, "the pools");
    }
    if (err == CH_OK)
        err = open_stores(n, master, why);
    if (err == CH_OK)
        err = open_stages(n, why);
    if (err == CH_OK && (err = lay_out_threads(n)) != CH_OK)
        explain(why, err, "the threads");
    ch_wipe(seed, sizeof seed);
    ch_wipe(master, sizeof master);
    if (err != CH_OK) {
        ch_node_close(n);
        return err;
    }
    ch_node_look_after(n);
    *out = n;
    return CH_OK;
}

ch_err ch_node_start(struct ch_node *n)
{
    ch_err err = CH_OK;
    for (uint32_t i = 0; i < n->thread_count && err == CH_OK; i++)
        err = ch_thread_start(&n->threads[i]);
    return err;
}

void ch_node_look_after(struct ch_node *n)
{
    struct statvfs disk;
    bool link_down = !ch_port_link_up(ch_net_port(n->net));
    if (link_down != atomic_load(&n->link_down)) {
        ch_log(link_down ? CH_LOG_WARNING : CH_LOG_NOTICE, "the link of %s is %s", n->config.network_interface,
               link_down ? "down: nobody can be reached" : "up again");
        atomic_store(&n->link_down, link_down);
    }
    ch_ipfs_look(n->ipfs, ch_time_monotonic_ns());
    ch_err err = ch_retention_look(n->retention, ch_time_unix_ms());
    if (err != CH_OK)
        ch_log(CH_LOG_WARNING, "the log is not cut: %s", ch_err_text(err));
    if (statvfs(n->folder, &disk) != 0)
        return;
    uint64_t low = n->config.store_low_water_mib << 20, free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    bool was_low = atomic_load(&n->disk_low);
    /* Work is taken again with a quarter more room than it was refused at, so that it doesn't flutter. */
    bool is_low = free_bytes < (was_low ? low + low / 4 : low);
    if (is_low != was_low) {
        ch_log(is_low ? CH_LOG_WARNING : CH_LOG_NOTICE, "disk of %s: %llu MiB free; %s", n->folder,
               (unsigned long long)(free_bytes >> 20),
               is_low ? "new work is refused (DISK_FULL)" : "new work is taken again");
        atomic_store(&n->disk_low, is_low);
    }
}

void ch_node_close(struct ch_node *n)
{
    if (!n)
        return;
    atomic_store(&n->stop, true);
    ch_ipfs_close(n->ipfs);
    for (uint32_t i = 0; i < n->thread_count; i++)
        ch_thread_close(&n->threads[i]);
    /* A log that was cut can't make the state anew: then the damaged one is all there is. */
    bool discard = atomic_load(&n->state_damaged) && n->state && n->wal && ch_wal_first(n->wal) == CH_WAL_BEGINNING;
    char path[PATH_BYTES_MAX];
    ch_net_close(n->net);
    for (uint32_t i = 0; i < n->verify_count; i++)
        ch_verify_close(n->verify[i]);
    ch_serve_close(n->serve);
    ch_scrub_close(n->scrub);
    ch_asks_close(n->asks);
    ch_retention_close(n->retention);
    ch_apply_close(n->apply);
    ch_order_close(n->order);
    ch_node_close_objects(n);
    ch_state_close(n->state);
    if (discard && ch_state_discard(n->state_io, path_in(path, n->folder, "lmdb")) == CH_OK)
        ch_log(CH_LOG_ERROR, "%s: damaged, and removed; the next start makes the state anew from the log", path);
    ch_io_close(n->state_io);
    ch_flow_close(&n->flow);
    ch_links_close(&n->links);
    struct ch_ring *const rings[] = {&n->to_verify, &n->to_suspect, &n->to_hash,  &n->to_order, &n->to_answer,
                                     &n->to_apply,  &n->applied,    &n->receipts, &n->to_serve, &n->replies};
    for (size_t i = 0; i < sizeof rings / sizeof *rings; i++)
        ch_ring_close(rings[i]);
    ch_wipe(&n->key, sizeof n->key);
    free(n->names.name);
    free(n);
}
