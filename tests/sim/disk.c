/* A node's log and signer guard: node/log.c and store/wal.c as they are, on a simulated disk. What node/log.c opens by
 * ch_io_uring_open is the disk of the node that runs just now: this file's function of that name takes the store's
 * place. What a restart finds is compared with all that was ever appended. */
#include <unistd.h>

#include "node/log.h"
#include "tests/sim/sim.h"

#define FOLDER        "n"

struct sim_disk {
    struct ch_sim_disk *files;
    struct ch_log_writer *log;
    struct ch_sim_disk *backup; /* the log as it once was */
    uint32_t backup_round;      /* highest signed then */
    bool waits;                 /* a SIM_DISK is on its way */
    ch_err failed;              /* shows at the next poll */
    struct {
        uint64_t lsn;
        struct ch_guard guard;
    } guards[64]; /* asked for, by number modulo */
    unsigned guard_count, guard_done;
    bool fails;       /* a call fails in this life, or will */
    bool rotten, old; /* what the last crash did to it */
};

static struct ch_sim_disk *here;

ch_err ch_io_uring_open(struct ch_io **out)
{
    return ch_sim_io_open(here, out);
}

static void files_use(struct sim_node *node)
{
    here = node->disk->files;
}

/* A segment holds the longest commit of the committee; small, so that the log goes through several. */
static uint32_t segment_bytes(const struct sim *sim)
{
    return sim->n <= 7 ? 128u << 10 : 512u << 10;
}

static struct ch_wal_options options(const struct sim *sim)
{
    return (struct ch_wal_options){.segment_bytes = segment_bytes(sim), .frame_bytes_max = segment_bytes(sim)};
}

static void must(ch_err err)
{
    if (err == CH_OK)
        return;
    fprintf(stderr, "sim: %s\n", ch_err_name(err));
    abort();
}

void sim_disk_create(struct sim *sim, struct sim_node *node, bool fresh)
{
    const struct ch_wal_options o = options(sim);
    sim_disk_free(node);
    node->disk = sim_alloc(sizeof *node->disk);
    must(ch_sim_disk_open(ch_prng_next(&sim->prng), &node->disk->files));
    files_use(node);
    must(ch_log_create(FOLDER, &sim->committee, &o, fresh));
}

void sim_disk_free(struct sim_node *node)
{
    struct sim_disk *d = node->disk;
    if (!d)
        return;
    ch_log_close(d->log);
    ch_sim_disk_close(d->files);
    ch_sim_disk_close(d->backup);
    free(d);
    node->disk = NULL;
}

/* --- the log opened again --- */

struct replay {
    struct sim *sim;
    struct sim_node *node;
    size_t count; /* records, the EPOCH_START aside */
};

/* The storage checker: what the log gives back is what was appended, byte for byte, in order. */
static ch_err replay(void *context, const struct ch_wal_record *record)
{
    struct replay *r = context;
    struct sim_node *node = r->node;
    if (record->type == CH_RECORD_EPOCH_START)
        return CH_OK;
    const struct sim_record *known = &node->log[r->count];
    const struct sim_payload *payload =
        r->count < node->log_count && known->handle ? sim_payload(r->sim, known->handle) : NULL;
    const size_t length = r->count < node->log_count ? known->length + (payload ? payload->length : 0) : 0;
    if (r->count == node->log_count || record->type != known->type || record->length != length ||
        memcmp(record->body, known->bytes, known->length) != 0 ||
        (payload && memcmp(record->body + known->length, payload->bytes, payload->length) != 0)) {
        sim_fail(r->sim, "W1: the log of node %u gives back another record %zu than was appended", node->index,
                 r->count);
        return CH_ERR_CORRUPT;
    }
    node->log[r->count].position = record->position;
    return sim_replayed(r->sim, node, r->count++);
}

ch_err sim_disk_open(struct sim *sim, struct sim_node *node, bool accept_damage, struct ch_guard *guard,
                     bool *has_guard)
{
    struct sim_disk *d = node->disk;
    struct replay context = {sim, node, 0};
    struct ch_wal_options o = options(sim);
    o.accept_damage = accept_damage;
    o.replay = replay;
    o.context = &context;
    files_use(node);
    ch_err err = ch_log_open(FOLDER, &o, guard, has_guard, &d->log);
    if (err != CH_OK)
        return err;
    if (context.count < node->log_count)
        sim->seen.tails_cut++;
    if (context.count > node->durable)
        sim->seen.tails_survived++;
    if (context.count < node->durable && !accept_damage && !d->old && !d->rotten)
        sim_fail(sim, "W1: the log of node %u has %zu records, %zu were durable", node->index, context.count,
                 node->durable);
    sim_log_cut(sim, node, context.count);
    d->failed = CH_OK;
    d->guard_count = d->guard_done = 0;
    d->waits = false;
    return CH_OK;
}

/* --- while it runs --- */

ch_err sim_disk_append(struct sim *sim, struct sim_node *node, const struct ch_core_action *a, uint64_t *position)
{
    struct sim_disk *d = node->disk;
    struct ch_bytes payload = {NULL, 0};
    uint64_t synced;
    if (a->append.handle)
        payload =
            (struct ch_bytes){sim_payload(sim, a->append.handle)->bytes, sim_payload(sim, a->append.handle)->length};
    ch_err err;
    files_use(node);
    while ((err = ch_log_append(d->log, a->append.lsn, a->append.type, a->append.head, payload, position)) ==
           CH_ERR_FULL)
        if ((err = ch_log_poll(d->log, &synced)) != CH_OK)
            break;
    return err;
}

void sim_disk_later(struct sim *sim, struct sim_node *node, uint64_t us)
{
    if (node->disk->waits)
        return;
    node->disk->waits = true;
    sim_queue_push(&sim->queue, sim->now_us + us, sim_event_of(node, SIM_DISK));
}

void sim_disk_sync(struct sim *sim, struct sim_node *node, const struct ch_core_action *a)
{
    struct sim_disk *d = node->disk;
    files_use(node);
    if (a->sync.guard_changed) {
        CH_ASSERT(d->guard_count - d->guard_done < 64);
        d->guards[d->guard_count % 64].lsn = a->sync.lsn;
        d->guards[d->guard_count++ % 64].guard = a->sync.guard;
    }
    d->failed = ch_log_sync(d->log, a->sync.lsn, a->sync.guard_changed ? &a->sync.guard : NULL);
    sim_disk_later(sim, node, 1 + sim_below(sim, 2 * node->sync_us));
}

/* Records that the log says are durable. */
static void note_durable(struct sim_node *node)
{
    const uint64_t end = ch_wal_durable_end(ch_log_wal(node->disk->log));
    for (; node->durable < node->log_count && node->log[node->durable].position < end; node->durable++)
        if (node->log[node->durable].type == CH_RECORD_COMMIT)
            node->durable_commit = ch_load64(node->log[node->durable].bytes + 6);
}

ch_err sim_disk_poll(struct sim *sim, struct sim_node *node, uint64_t *synced)
{
    struct sim_disk *d = node->disk;
    d->waits = false;
    files_use(node);
    ch_err err = d->failed ? d->failed : ch_log_poll(d->log, synced);
    if (err != CH_OK)
        return err;
    note_durable(node);
    while (d->guard_done < d->guard_count && d->guards[d->guard_done % 64].lsn <= *synced)
        node->guard = d->guards[d->guard_done++ % 64].guard;
    if (ch_log_busy(d->log))
        sim_disk_later(sim, node, 1 + node->sync_us / 4);
    return CH_OK;
}

/* --- what can happen to it --- */

static uint64_t used_bytes(struct ch_sim_disk *files)
{
    struct ch_io *io;
    uint64_t left = 0;
    here = files;
    must(ch_io_uring_open(&io));
    must(ch_io_free_bytes(io, FOLDER, &left));
    ch_io_close(io);
    return UINT64_MAX - left;
}

void sim_disk_fail_soon(struct sim *sim, struct sim_node *node)
{
    node->disk->fails = true;
    ch_sim_disk_fail_at(node->disk->files, ch_sim_disk_calls(node->disk->files) + 1 + sim_below(sim, 40), CH_ERR_IO);
}

void sim_disk_fill(struct sim *sim, struct sim_node *node)
{
    if (node->disk->fails)
        return;
    ch_sim_disk_set_capacity(node->disk->files, UINT64_MAX);
    ch_sim_disk_set_capacity(node->disk->files, used_bytes(node->disk->files) + sim_below(sim, segment_bytes(sim)));
}

void sim_disk_heal(struct sim_node *node)
{
    ch_sim_disk_fail_at(node->disk->files, 0, CH_ERR_IO);
    ch_sim_disk_set_capacity(node->disk->files, UINT64_MAX);
}

void sim_disk_backup(struct sim *sim, struct sim_node *node)
{
    struct sim_disk *d = node->disk;
    ch_sim_disk_close(d->backup);
    d->backup_round = node->signed_round;
    must(ch_sim_disk_after_power_loss(d->files, ch_prng_next(&sim->prng), &d->backup));
}

/* A byte of a record before the last own block: a later frame has promised it. */
static void rot(struct sim *sim, struct sim_node *node)
{
    char path[64];
    size_t last = node->durable, length;
    while (last > 0 && node->log[last - 1].type != CH_RECORD_OWN_BLOCK)
        last--;
    if (last < 20)
        return;
    const struct sim_record *r = &node->log[sim_below(sim, last - 10)];
    snprintf(path, sizeof path, FOLDER "/wal/%08x.wal", (unsigned)(r->position >> CH_WAL_SEGMENT_SHIFT));
    uint8_t *bytes = ch_sim_disk_bytes(node->disk->files, path, &length);
    const uint64_t at = (uint32_t)r->position + sim_below(sim, r->length);
    CH_ASSERT(bytes && at < length);
    bytes[at] ^= (uint8_t)(1u << sim_below(sim, 8));
    node->disk->rotten = true;
}

/* The state is not there either: nothing but the guard knows better. */
static void put_back(struct sim *sim, struct sim_node *node)
{
    struct sim_disk *d = node->disk;
    size_t length;
    struct ch_io *io;
    struct ch_file *file;
    const uint8_t *guard = ch_sim_disk_bytes(d->files, FOLDER "/guard", &length);
    CH_ASSERT(guard);
    here = d->backup;
    must(ch_io_uring_open(&io));
    must(ch_io_open(io, FOLDER "/guard", CH_IO_WRITE, &file));
    must(ch_io_write(io, file, guard, length, 0));
    must(ch_io_sync(io, file));
    ch_io_close_file(io, file);
    ch_io_close(io);
    ch_sim_disk_close(d->files);
    d->files = d->backup;
    d->backup = NULL;
    d->old = true;
    sim_executor_create(sim, node);
}

/* What happens to the disk while the node is down. */
static void spoil(struct sim *sim, struct sim_node *node)
{
    struct sim_disk *d = node->disk;
    if (d->backup && node->guard.round > d->backup_round && sim_chance(sim, 500)) {
        put_back(sim, node);
        sim->seen.faults[SIM_FAULT_BIT_OLD_BACKUP]++;
    } else if (sim->faults & FAULT_BIT_ROT && sim_chance(sim, 300)) {
        rot(sim, node);
        sim->seen.faults[SIM_FAULT_BIT_BIT_ROT] += d->rotten;
    }
    sim->forgot = sim->forgot || d->old || d->rotten;
}

void sim_disk_crash(struct sim *sim, struct sim_node *node)
{
    struct sim_disk *d = node->disk;
    struct ch_sim_disk *left;
    const uint64_t seed = ch_prng_next(&sim->prng);
    /* The process alone is gone, or the power. After a failed sync it is the power: what a cache still shows then can
     * be lost although it was read and synced once more. */
    if (!d->fails && sim_chance(sim, 400))
        must(ch_sim_disk_after_kill(d->files, seed, &left));
    else
        must(ch_sim_disk_after_power_loss(d->files, seed, &left));
    files_use(node);
    ch_log_close(d->log);
    ch_sim_disk_close(d->files);
    d->log = NULL;
    d->files = left;
    d->rotten = d->old = d->fails = false;
    ch_sim_disk_set_capacity(left, UINT64_MAX);
    if (!sim->healed && sim_may_forget(sim, node))
        spoil(sim, node);
    ch_sim_disk_close(d->backup); /* another life's log may differ from it */
    d->backup = NULL;
}

bool sim_disk_spoilt(const struct sim_node *node)
{
    return node->disk->rotten || node->disk->old;
}

void sim_disk_noticed(struct sim *sim, struct sim_node *node)
{
    sim->seen.rot_found += node->disk->rotten;
    sim->seen.backups_refused += node->disk->old;
}

void sim_disk_close_log(struct sim_node *node)
{
    files_use(node);
    ch_log_close(node->disk->log);
    node->disk->log = NULL;
}
