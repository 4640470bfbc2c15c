/* store/state_sync.c - commits of LMDB made durable by io_uring: marker and pin.
 *
 * LMDB runs with MDB_NOSYNC. The commit of T + 1 goes in this order:
 *   1. T is durable, and then its mark: one chain of io_uring (fdatasync of data.mdb, write of the mark, fdatasync of
 *   the
 *      mark), which ran while T + 1 was built.
 *   2. LMDB commits T + 1: its pages and its meta page go to the page cache.
 *   3. T + 1 is pinned by a reader, T - 2 is let go; the chain of T + 1 starts.
 * So the meta page of T is overwritten only after T + 1 is marked, and no page of T or T - 1 is used again before that.
 * A start takes the commit that the newest mark names, and if that isn't whole the one of the mark before; the other
 * meta page becomes a copy of it labelled with the txnid before it. A crash in the midst of that changes nothing of
 * what is read. Without a whole one the caller makes the state anew from the log.
 * NOSYNC with "the newest meta page counts" is what breaks: the meta page may reach the disk before what it names, and
 * pages that a batch larger than LMDB's dirty list spills may take the place of those of the last whole commit.
 *
 * File "mark": two slots of 4096 bytes, txnid modulo 2. Numbers are little-endian.
 * | 0  | 4 | magic "CSM1" |
 * | 4  | 4 | crc32c of bytes 8..35 |
 * | 8  | 8 | txnid |
 * | 16 | 8 | applied index |
 * | 24 | 8 | applied lsn |
 * | 32 | 4 | crc32c of the first 152 bytes of the meta page |
 * It is absent where LMDB syncs for itself (MDB_NOMETASYNC).
 *
 * LMDB 0.9, pages 0 and 1, txnid modulo 2: 16 bytes of page header, u64 page number at 0; at 16 u32 magic, u32 version;
 * at 144 u64 txnid, with which the meta data end.
 */
#include <stdio.h>
#include <stdlib.h>

#include "store/crc32c_impl.h"
#include "store/state_impl.h"

#define SLOT_BYTES    CH_IO_BLOCK_BYTES
#define MARK_BYTES    36
#define MARK_MAGIC    0x314d5343u /* "CSM1" */
#define META_BYTES    152
#define META_TXNID    144
#define META_MAGIC    0xbeefc0deu
#define META_VERSION  1
#define PAGE_BYTES    4096 /* LMDB takes the system's, and the two are x86-64's */

struct mark {
    uint64_t txnid, applied_index, applied_lsn;
    uint32_t meta_crc;
};

static void path_of(char path[CH_IO_PATH_BYTES_MAX], const char *folder, const char *name)
{
    snprintf(path, CH_IO_PATH_BYTES_MAX, "%s/%s", folder, name);
}

static void mark_write(uint8_t slot[SLOT_BYTES], const struct mark *m)
{
    memset(slot, 0, SLOT_BYTES);
    ch_store32(slot, MARK_MAGIC);
    ch_store64(slot + 8, m->txnid);
    ch_store64(slot + 16, m->applied_index);
    ch_store64(slot + 24, m->applied_lsn);
    ch_store32(slot + 32, m->meta_crc);
    ch_store32(slot + 4, crc32c(slot + 8, MARK_BYTES - 8));
}

static bool mark_read(const uint8_t slot[SLOT_BYTES], unsigned at, struct mark *m)
{
    if (ch_load32(slot) != MARK_MAGIC || ch_load32(slot + 4) != crc32c(slot + 8, MARK_BYTES - 8))
        return false;
    m->txnid = ch_load64(slot + 8);
    m->applied_index = ch_load64(slot + 16);
    m->applied_lsn = ch_load64(slot + 24);
    m->meta_crc = ch_load32(slot + 32);
    return m->txnid % 2 == at;
}

/* Reads the meta page of a txnid; false when another one is there. */
static ch_err read_meta_page(struct state_sync *y, uint64_t txnid, bool *is)
{
    size_t got;
    ch_err err = ch_io_read(y->io, y->data, y->block, PAGE_BYTES, txnid % 2 * PAGE_BYTES, &got);
    *is = err == CH_OK && got == PAGE_BYTES && ch_load32(y->block + 16) == META_MAGIC &&
          ch_load32(y->block + 20) == META_VERSION && ch_load64(y->block + META_TXNID) == txnid;
    return err;
}

/* Makes the mark's commit the one that LMDB will find; *is false when its meta page isn't what was marked. */
static ch_err restore(struct state_sync *y, const struct mark *m, bool *is)
{
    ch_err err = read_meta_page(y, m->txnid, is);
    if (err != CH_OK || !*is)
        return err;
    *is = crc32c(y->block, META_BYTES) == m->meta_crc;
    if (!*is)
        return CH_OK;
    uint64_t other = (m->txnid + 1) % 2;
    ch_store64(y->block, other);
    ch_store64(y->block + META_TXNID, m->txnid ? m->txnid - 1 : 0);
    err = ch_io_write(y->io, y->data, y->block, PAGE_BYTES, other * PAGE_BYTES);
    return err == CH_OK ? ch_io_sync(y->io, y->data) : err;
}

static ch_err recover_marked(struct state_sync *y)
{
    struct mark mark[2];
    bool valid[2], is = false;
    for (unsigned i = 0; i < 2; i++) {
        size_t got;
        ch_err err = ch_io_read(y->io, y->mark, y->block, SLOT_BYTES, i * SLOT_BYTES, &got);
        if (err != CH_OK)
            return err;
        valid[i] = got == SLOT_BYTES && mark_read(y->block, i, &mark[i]);
    }
    unsigned first = valid[1] && (!valid[0] || mark[1].txnid > mark[0].txnid);
    ch_err err = CH_OK;
    for (unsigned k = 0; k < 2 && err == CH_OK && !is; k++) {
        const struct mark *m = &mark[first ^ k];
        if (!valid[first ^ k] || (k == 1 && valid[first] && m->txnid + 1 != mark[first].txnid))
            continue;
        err = restore(y, m, &is);
        y->txnid = m->txnid;
        y->applied_index = m->applied_index;
        y->applied_lsn = m->applied_lsn;
    }
    return err == CH_OK && !is ? CH_ERR_CORRUPT : err;
}

ch_err sync_recover(struct ch_state *s, const char *folder)
{
    struct state_sync *y = &s->sync;
    char path[CH_IO_PATH_BYTES_MAX];
    if (strlen(folder) + 16 > sizeof path)
        return CH_ERR_INVALID;
    if (posix_memalign((void **)&y->block, CH_IO_BLOCK_BYTES, SLOT_BYTES) != 0)
        return CH_ERR_NO_MEMORY;
    ch_io_register(y->io, y->block, SLOT_BYTES);
    path_of(path, folder, "mark");
    ch_err err = ch_io_open(y->io, path, CH_IO_WRITE | CH_IO_DIRECT, &y->mark);
    if (err == CH_ERR_NOT_FOUND)
        return CH_OK;
    path_of(path, folder, "data.mdb");
    if (err == CH_OK)
        err = ch_io_open(y->io, path, CH_IO_WRITE, &y->data);
    /* What is read of a killed process may still be in a cache, and the meta page of the mark before is given up for
     * it. */
    if (err == CH_OK)
        err = ch_io_sync(y->io, y->mark);
    if (err == CH_OK)
        err = ch_io_sync_dir(y->io, folder);
    return err == CH_OK ? recover_marked(y) : err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
}

/* Makes y->block the mark of the newest commit. */
static ch_err prepare_mark(struct state_sync *y)
{
    bool is;
    ch_err err = read_meta_page(y, y->txnid, &is);
    if (err != CH_OK || !is)
        return err != CH_OK ? err : CH_ERR_CORRUPT;
    const struct mark m = {y->txnid, y->applied_index, y->applied_lsn, crc32c(y->block, META_BYTES)};
    mark_write(y->block, &m);
    return CH_OK;
}

/* The first mark, in a file of its own until it is whole: who finds no mark trusts LMDB's newest meta page, which is
 * right for what LMDB synced itself and for a new state, and would not be later. */
static ch_err make_mark(struct ch_state *s, const char *folder)
{
    struct state_sync *y = &s->sync;
    char path[CH_IO_PATH_BYTES_MAX], new_path[CH_IO_PATH_BYTES_MAX];
    path_of(path, folder, "mark");
    path_of(new_path, folder, "mark.new");
    ch_err err = ch_io_unlink(y->io, new_path);
    if (err == CH_OK || err == CH_ERR_NOT_FOUND)
        err = ch_io_sync(y->io, y->data);
    if (err == CH_OK)
        err = ch_io_open(y->io, new_path, CH_IO_WRITE | CH_IO_CREATE | CH_IO_DIRECT, &y->mark);
    if (err == CH_OK)
        err = ch_io_allocate(y->io, y->mark, 2 * SLOT_BYTES);
    if (err == CH_OK)
        err = prepare_mark(y);
    if (err == CH_OK)
        err = ch_io_write(y->io, y->mark, y->block, SLOT_BYTES, y->txnid % 2 * SLOT_BYTES);
    if (err == CH_OK)
        err = ch_io_sync(y->io, y->mark);
    if (err == CH_OK)
        err = ch_io_rename(y->io, new_path, path);
    return err == CH_OK ? ch_io_sync_dir(y->io, folder) : err;
}

static uint64_t last_txnid(const struct ch_state *s)
{
    MDB_envinfo info;
    return mdb_env_info(s->env, &info) == 0 ? info.me_last_txnid : 0;
}

static ch_err pin(struct ch_state *s)
{
    MDB_txn **slot = &s->sync.pin[s->sync.txnid % PINS];
    if (*slot)
        mdb_txn_abort(*slot);
    *slot = NULL;
    return state_err(mdb_txn_begin(s->env, NULL, MDB_RDONLY, slot));
}

ch_err sync_leave(struct ch_state *s, const char *folder)
{
    struct state_sync *y = &s->sync;
    char path[CH_IO_PATH_BYTES_MAX];
    ch_io_close_file(y->io, y->mark);
    y->mark = NULL;
    path_of(path, folder, "mark");
    ch_err err = ch_io_unlink(y->io, path);
    if (err == CH_OK)
        err = ch_io_sync_dir(y->io, folder);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

ch_err sync_begin(struct ch_state *s, const char *folder)
{
    struct state_sync *y = &s->sync;
    char path[CH_IO_PATH_BYTES_MAX];
    bool marked = y->mark;
    path_of(path, folder, "data.mdb");
    if (marked && y->txnid != last_txnid(s))
        return CH_ERR_CORRUPT;
    y->txnid = last_txnid(s);
    ch_err err = y->data ? CH_OK : ch_io_open(y->io, path, CH_IO_WRITE, &y->data);
    if (err == CH_OK && !marked) {
        MDB_txn *txn;
        struct ch_state_meta meta;
        int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
        err = state_err(rc);
        if (err == CH_OK) { /* a new one has no rows yet, not even the table that they are in */
            rc = mdb_dbi_open(txn, "meta", 0, &s->db.meta);
            err = rc == MDB_NOTFOUND ? CH_OK : rc ? state_err(rc) : read_meta(s, txn, &meta);
            if (rc == 0 && err == CH_OK) {
                y->applied_index = meta.applied_index;
                y->applied_lsn = meta.applied_lsn;
            }
            mdb_txn_abort(txn);
        }
        if (err == CH_OK)
            err = make_mark(s, folder);
    }
    return err == CH_OK ? pin(s) : err;
}

ch_err sync_check(const struct ch_state *s)
{
    return s->meta.applied_index == s->sync.applied_index && s->meta.applied_lsn == s->sync.applied_lsn
               ? CH_OK
               : CH_ERR_CORRUPT;
}

/* The newest commit is durable, and marked. */
static ch_err settle(struct state_sync *y)
{
    struct ch_io_done done = {.err = CH_OK};
    if (!y->syncing)
        return CH_OK;
    ch_err err = ch_io_wait(y->io);
    while (err == CH_OK && ch_io_poll(y->io, &done, 1) == 0)
        err = ch_io_wait(y->io);
    y->syncing = false;
    return err == CH_OK ? done.err : err;
}

ch_err sync_commit(struct ch_state *s, uint64_t applied_index, uint64_t applied_lsn)
{
    struct state_sync *y = &s->sync;
    ch_err err = settle(y);
    if (err != CH_OK) {
        mdb_txn_abort(s->txn);
        s->txn = NULL;
        return err;
    }
    int rc = mdb_txn_commit(s->txn);
    s->txn = NULL;
    if (rc || !y->mark) /* without marks LMDB has synced */
        return state_err(rc);
    uint64_t txnid = last_txnid(s);
    if (txnid == y->txnid) /* nothing had changed */
        return CH_OK;
    y->txnid = txnid;
    y->applied_index = applied_index;
    y->applied_lsn = applied_lsn;
    err = pin(s);
    if (err == CH_OK)
        err = prepare_mark(y);
    if (err == CH_OK)
        err = ch_io_submit(y->io, &(struct ch_io_request){.kind = CH_IO_OP_WRITE,
                                                          .after_sync_of = y->data,
                                                          .then_sync = true,
                                                          .file = y->mark,
                                                          .data = y->block,
                                                          .length = SLOT_BYTES,
                                                          .offset = txnid % 2 * SLOT_BYTES});
    y->syncing = err == CH_OK;
    return err;
}

void sync_close(struct ch_state *s)
{
    struct state_sync *y = &s->sync;
    if (!y->io)
        return;
    (void)settle(y); /* unmarked, the commit before it is found */
    for (int i = 0; i < PINS; i++)
        if (y->pin[i])
            mdb_txn_abort(y->pin[i]);
    ch_io_close_file(y->io, y->data);
    ch_io_close_file(y->io, y->mark);
    if (y->block)
        ch_io_register(y->io, NULL, 0);
    free(y->block);
}
