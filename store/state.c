#include "store/state_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_BYTES          (1ull << 40)
#define READERS_MAX        126u
#define ACCOUNTS_CACHED    (1u << 20)
#define RELATIONS_CACHED   (1u << 21)
#define BATCH_RECORDS_SOFT 131072u /* past this a batch gains little from being larger */
#define MERGE_BUDGET_MIN   4096u   /* entries of each merge with each batch: so merges end in quiet times too */
#define NAMED_DATABASES    (9 + INDICES * RUN_SLOTS)

ch_err state_err(int rc)
{
    switch (rc) {
    case 0:
        return CH_OK;
    case MDB_NOTFOUND:
        return CH_ERR_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
    case MDB_MAP_FULL:
        return CH_ERR_NO_SPACE;
    case ENOMEM:
        return CH_ERR_NO_MEMORY;
    case EACCES:
    case EPERM:
    case EROFS:
        return CH_ERR_DENIED;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_PANIC:
    case MDB_BAD_VALSIZE:
    case MDB_INCOMPATIBLE:
        return CH_ERR_CORRUPT;
    case MDB_READERS_FULL:
        return CH_ERR_FULL;
    case ENOENT:
        return CH_ERR_NOT_FOUND;
    default:
        return CH_ERR_IO;
    }
}

static ch_err open_databases(struct ch_state *s)
{
    const struct {
        const char *name;
        unsigned flags;
        MDB_dbi *db;
    } list[] = {
        {"meta", 0, &s->db.meta},
        {"accounts", MDB_INTEGERKEY, &s->db.accounts},
        {"keys", 0, &s->db.keys},
        {"handles", 0, &s->db.handles},
        {"relations", MDB_INTEGERKEY, &s->db.relations},
        {"pairs", 0, &s->db.pairs},
        {"relations_of", 0, &s->db.relations_of},
        {"requests", 0, &s->db.requests},
        {"log", MDB_INTEGERKEY, &s->db.log},
    };
    MDB_txn *txn;
    MDB_dbi names;
    MDB_stat stat;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return state_err(rc);
    rc = mdb_dbi_open(txn, NULL, 0, &names);
    if (rc == 0)
        rc = mdb_stat(txn, names, &stat);
    /* All are made at once, in a new file: one that is missing later has lost its name, and must not begin again
     * empty. */
    const unsigned create = rc == 0 && stat.ms_entries == 0 ? MDB_CREATE : 0;
    for (size_t i = 0; i < sizeof list / sizeof *list && rc == 0; i++)
        rc = mdb_dbi_open(txn, list[i].name, create | list[i].flags, list[i].db);
    ch_err err = state_err(rc);
    if (err == CH_OK)
        err = runs_open(txn, &s->runs[INBOX], "inbox", create);
    if (err == CH_OK)
        err = runs_open(txn, &s->runs[IDS], "ids", create);
    if (err == CH_OK)
        err = read_directory(s, txn, &s->runs[INBOX], &s->runs[IDS]);
    if (err == CH_OK)
        err = read_meta(s, txn, &s->meta);
    if (err != CH_OK) {
        mdb_txn_abort(txn);
        return err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
    }
    s->txn = txn;
    return sync_commit(s, s->meta.applied_index, s->meta.applied_lsn);
}

/* The entries of the log's last block, when it is not full: the next flush writes it again. */
static ch_err read_log_tail(struct ch_state *s)
{
    MDB_txn *txn;
    s->log_first = s->meta.log_size - s->meta.log_size % LOG_BLOCK_ENTRIES;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    ch_err err = state_err(rc);
    for (uint64_t i = s->log_first; i < s->meta.log_size && err == CH_OK; i++)
        err = read_log_entry(s, txn, i, &s->log[i - s->log_first]);
    if (rc == 0)
        mdb_txn_abort(txn);
    return err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
}

static ch_err open_environment(struct ch_state *s, const struct ch_state_options *o)
{
    s->folder_fd = open(o->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->folder_fd < 0)
        return state_err(errno);
    if (flock(s->folder_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? CH_ERR_BUSY : state_err(errno);
    s->sync.io = o->io;
    bool marks = o->io && !o->nometasync;
    ch_err err = o->io ? sync_recover(s, o->folder) : CH_OK;
    if (err == CH_OK && o->io && !marks)
        err = sync_leave(s, o->folder);
    if (err != CH_OK)
        return err;
    int rc = mdb_env_create(&s->env), dead;
    if (rc == 0)
        rc = mdb_env_set_mapsize(s->env, o->map_bytes ? o->map_bytes : MAP_BYTES);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(s->env, NAMED_DATABASES);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(s->env, o->readers_max ? o->readers_max : READERS_MAX);
    /* MDB_NOMETASYNC: one sync a commit; the meta page reaches the disk with the next one. */
    if (rc == 0)
        rc = mdb_env_open(s->env, o->folder, (marks ? MDB_NOSYNC : MDB_NOMETASYNC) | MDB_NORDAHEAD | MDB_NOTLS, 0600);
    if (rc == 0)
        rc = mdb_reader_check(s->env, &dead);
    return rc == 0 && marks ? sync_begin(s, o->folder) : state_err(rc);
}

ch_err ch_state_open(const struct ch_state_options *o, struct ch_state **out)
{
    struct ch_state *s = calloc(1, sizeof *s);
    if (!s)
        return CH_ERR_NO_MEMORY;
    s->folder_fd = -1;
    s->seed = o->seed;
    s->fresh_max = o->batch_records && o->batch_records < BATCH_RECORDS_MAX ? o->batch_records : BATCH_RECORDS_MAX;
    uint32_t accounts = o->accounts_cached ? o->accounts_cached : ACCOUNTS_CACHED;
    uint32_t relations = o->relations_cached ? o->relations_cached : RELATIONS_CACHED;
    if (accounts < 4 * s->fresh_max)
        accounts = 4 * s->fresh_max;
    ch_err err = cache_open(&s->account_cache, accounts, sizeof(struct cached_account));
    if (err == CH_OK)
        err = cache_open(&s->relation_cache, relations < 16 ? 16 : relations, sizeof(struct cached_relation));
    for (unsigned i = 0; i < INDICES && err == CH_OK; i++)
        if (!(s->fresh[i] = calloc(s->fresh_max, sizeof **s->fresh)))
            err = CH_ERR_NO_MEMORY;
    s->scratch = calloc(s->fresh_max, sizeof *s->scratch);
    s->log = calloc(s->fresh_max + LOG_BLOCK_ENTRIES, sizeof *s->log);
    if (!s->scratch || !s->log)
        err = CH_ERR_NO_MEMORY;
    if (err == CH_OK)
        err = open_environment(s, o);
    if (err == CH_OK)
        err = open_databases(s);
    if (err == CH_OK && s->sync.mark)
        err = sync_check(s);
    if (err == CH_OK)
        err = read_log_tail(s);
    if (err != CH_OK) {
        ch_state_close(s);
        return err;
    }
    s->accounts = s->meta.accounts;
    s->relations = s->meta.relations;
    s->log_size = s->meta.log_size;
    *out = s;
    return CH_OK;
}

void ch_state_close(struct ch_state *s)
{
    if (!s)
        return;
    if (s->txn)
        mdb_txn_abort(s->txn);
    sync_close(s);
    if (s->env)
        mdb_env_close(s->env);
    if (s->folder_fd >= 0)
        close(s->folder_fd);
    cache_close(&s->account_cache);
    cache_close(&s->relation_cache);
    for (unsigned i = 0; i < INDICES; i++)
        free(s->fresh[i]);
    free(s->scratch);
    free(s->log);
    free(s);
}

ch_err ch_state_discard(struct ch_io *io, const char *folder)
{
    /* The mark last: what is left without the data it names is no state either. */
    static const char *const names[] = {"data.mdb", "lock.mdb", "mark.new", "mark"};
    char path[CH_IO_PATH_BYTES_MAX];
    ch_err err = CH_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && err == CH_OK; i++) {
        int length = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        err = length < (int)sizeof path ? ch_io_unlink(io, path) : CH_ERR_INVALID;
        if (err == CH_OK || err == CH_ERR_NOT_FOUND)
            err = ch_io_sync_dir(io, folder);
    }
    return err;
}

const struct ch_state_meta *ch_state_meta(const struct ch_state *s)
{
    return &s->meta;
}

ch_err ch_state_begin(struct ch_state *s)
{
    CH_ASSERT(!s->txn);
    int rc = mdb_txn_begin(s->env, NULL, 0, &s->txn);
    if (rc) {
        s->txn = NULL;
        return state_err(rc);
    }
    s->batch_records = s->random_pages = 0;
    return CH_OK;
}

bool ch_state_batch_full(const struct ch_state *s)
{
    return s->batch_records >= BATCH_RECORDS_SOFT || s->random_pages >= CH_STATE_DIRTY_PAGES_MAX;
}

static ch_err flush_log(struct ch_state *s)
{
    uint64_t at = s->log_first;
    for (; at < s->log_size; at += LOG_BLOCK_ENTRIES) {
        uint64_t left = s->log_size - at, count = left < LOG_BLOCK_ENTRIES ? left : LOG_BLOCK_ENTRIES;
        uint64_t block = at / LOG_BLOCK_ENTRIES;
        uint8_t bytes[LOG_BLOCK_ENTRIES * CH_LOG_ENTRY_BYTES];
        for (uint64_t i = 0; i < count; i++)
            ch_log_entry_write(&s->log[at - s->log_first + i], bytes + i * CH_LOG_ENTRY_BYTES);
        MDB_val k = val(&block, sizeof block);
        /* The first block may be there already, shorter. */
        int rc = value_put(s->txn, s->db.log, &k, bytes, count * CH_LOG_ENTRY_BYTES,
                           at == s->log_first ? 0 : MDB_APPEND);
        if (rc)
            return state_err(rc);
    }
    uint64_t first = s->log_size - s->log_size % LOG_BLOCK_ENTRIES;
    memmove(s->log, s->log + (first - s->log_first), (s->log_size - first) * sizeof *s->log);
    s->log_first = first;
    return CH_OK;
}

ch_err state_flush(struct ch_state *s)
{
    ch_err err = flush_log(s);
    for (unsigned i = 0; i < INDICES && err == CH_OK; i++) {
        err = runs_add(s->txn, &s->runs[i], s->fresh[i], s->scratch, s->fresh_count[i]);
        s->fresh_count[i] = 0;
    }
    s->account_cache.pin++;
    return err;
}

static ch_err write_meta(struct ch_state *s, const struct ch_state_meta *meta)
{
    uint8_t bytes[48 + CH_STATE_HEAD_BYTES_MAX + INDICES * RUNS_BYTES_MAX];
    struct ch_writer w = ch_writer(bytes, sizeof bytes);
    ch_write32(&w, 2);
    ch_write32(&w, meta->head_length);
    ch_write64(&w, meta->applied_index);
    ch_write64(&w, meta->applied_lsn);
    ch_write64(&w, meta->accounts);
    ch_write64(&w, meta->relations);
    ch_write64(&w, meta->log_size);
    ch_write(&w, meta->head, meta->head_length);
    MDB_val k = val("state", 5);
    int rc = value_put(s->txn, s->db.meta, &k, bytes, w.used, 0);
    if (rc)
        return state_err(rc);
    size_t length = runs_write(&s->runs[INBOX], bytes);
    length += runs_write(&s->runs[IDS], bytes + length);
    k = val("runs", 4);
    return state_err(value_put(s->txn, s->db.meta, &k, bytes, length, 0));
}

static void publish_counters(struct ch_state *s)
{
#define SET(name, value) atomic_store_explicit(&s->counters.name, value, memory_order_relaxed)
    const struct runs *a = &s->runs[INBOX], *b = &s->runs[IDS];
    SET(batches, s->counters.batches + 1);
    SET(records, s->counters.records + s->batch_records);
    SET(entries_merged, a->entries_merged + b->entries_merged);
    SET(merges, a->merges + b->merges);
    SET(accounts_hit, s->account_cache.hits);
    SET(accounts_missed, s->account_cache.misses);
    SET(relations_hit, s->relation_cache.hits);
    SET(relations_missed, s->relation_cache.misses);
    SET(runs, a->count + b->count);
#undef SET
}

ch_err ch_state_commit(struct ch_state *s, uint64_t applied_index, uint64_t applied_lsn, const void *head,
                       size_t head_length)
{
    CH_ASSERT(s->txn && head_length <= CH_STATE_HEAD_BYTES_MAX);
    struct ch_state_meta meta = {applied_index, applied_lsn,           s->accounts, s->relations,
                                 s->log_size,   (uint32_t)head_length, {0}};
    memcpy(meta.head, head, head_length);
    ch_err err = state_flush(s);
    /* A run of a level is due when eight of the level below have come; a merge that writes one entry for each record
     * ends just then. Twice that, and it is done halfway. */
    uint64_t budget = 2 * s->batch_records;
    if (budget < MERGE_BUDGET_MIN)
        budget = MERGE_BUDGET_MIN;
    for (unsigned i = 0; i < INDICES && err == CH_OK; i++)
        err = runs_merge(s->txn, &s->runs[i], budget);
    if (err == CH_OK)
        err = write_meta(s, &meta);
    if (err == CH_ERR_NOT_FOUND)
        err = CH_ERR_CORRUPT;
    if (err != CH_OK)
        return err;
    err = sync_commit(s, applied_index, applied_lsn);
    if (err != CH_OK)
        return err;
    s->meta = meta;
    publish_counters(s);
    return CH_OK;
}

struct ch_state_counters ch_state_counters(const struct ch_state *s)
{
#define GET(name) .name = atomic_load_explicit(&s->counters.name, memory_order_relaxed)
    return (struct ch_state_counters){GET(batches),       GET(records),          GET(entries_merged),
                                      GET(merges),        GET(accounts_hit),     GET(accounts_missed),
                                      GET(relations_hit), GET(relations_missed), GET(runs)};
#undef GET
}
