#include "node/keeper.h"

#include "base/log.h"
#include "base/time.h"

#include <sodium.h>
#include <stdlib.h>

#define PLACES         (CH_KEEPER_UNNAMED_MAX / 3 * 4)
#define ROUND_S        60u     /* in which every waiting block is looked at */
#define COMMIT_STEP_MS 1000u   /* what a commit counts at most: after an outage, messages admitted before it come first */
#define PIECE_BYTES    (256u << 10) /* of compaction, at a time */
#define SECOND_NS      1000000000ull
#define EXPIRY_NS      (10 * SECOND_NS)

/* A block that no message has named yet. */
struct waiting {
    struct ch_cid cid; /* first byte 0: an empty place */
    uint32_t length;
    uint16_t from; /* the validator that brought it, or offered it last */
    bool closed;
    bool renewed;      /* the other validators are to be told */
    uint64_t owner;    /* whom it is charged to: account plus one; 0: nobody */
    uint64_t putter;   /* who put it here last, the same; as long as that account puts, it waits on */
    uint64_t until_ms; /* of the keeper's clock */
};

/* An account that has put blocks here which wait. */
struct putter {
    uint64_t account_1; /* plus one; 0: an empty place */
    uint64_t last_ms;   /* when it put something, by the keeper's clock */
    uint32_t waiting;
};

struct usage {
    uint64_t account_1; /* plus one; 0: empty */
    uint64_t bytes;
};

struct ch_keeper {
    struct ch_node *node;
    struct ch_object_reader *reader;
    uint8_t key[crypto_shorthash_KEYBYTES];
    struct waiting *waiting;
    uint32_t waiting_count, hand;
    uint32_t waiting_of[CH_VALIDATORS_MAX]; /* by who brought it */
    struct putter *putter;                  /* PLACES */
    struct ch_spread *spread; /* NULL: we are alone */
    const struct ch_spread_store *store;
    bool hold;
    uint64_t clock_ms, commit_ms; /* the chain's time as it counts here, and of the last commit */
    struct usage *usage;
    uint64_t usage_count, usage_mask;
    ch_err failed;
    uint64_t round_ns, expiry_ns, compact_ns; /* when each is due */
};

/* --- what accounts have --- */

static struct usage *usage_of(struct usage *usage, uint64_t mask, const uint8_t *key, uint64_t account)
{
    uint64_t hash, name = account + 1;
    crypto_shorthash((uint8_t *)&hash, (const uint8_t *)&name, sizeof name, key);
    for (uint64_t at = hash & mask;; at = (at + 1) & mask)
        if (usage[at].account_1 == name || usage[at].account_1 == 0)
            return &usage[at];
}

static ch_err charge(struct ch_keeper *k, uint64_t owner, uint64_t bytes)
{
    if (!k->usage || owner == 0)
        return CH_OK;
    uint64_t account = owner - 1;
    if ((k->usage_count + 1) * 4 > (k->usage_mask + 1) * 3) {
        uint64_t mask = 2 * k->usage_mask + 1;
        struct usage *larger = calloc(mask + 1, sizeof *larger);
        if (!larger)
            return CH_ERR_NO_MEMORY;
        for (uint64_t i = 0; i <= k->usage_mask; i++)
            if (k->usage[i].account_1)
                *usage_of(larger, mask, k->key, k->usage[i].account_1 - 1) = k->usage[i];
        free(k->usage);
        k->usage = larger;
        k->usage_mask = mask;
    }
    struct usage *u = usage_of(k->usage, k->usage_mask, k->key, account);
    k->usage_count += u->account_1 == 0;
    u->account_1 = account + 1;
    u->bytes += bytes;
    return CH_OK;
}

static void discharge(struct ch_keeper *k, uint64_t owner, uint64_t bytes)
{
    if (!k->usage || owner == 0)
        return;
    struct usage *u = usage_of(k->usage, k->usage_mask, k->key, owner - 1);
    u->bytes -= u->bytes < bytes ? u->bytes : bytes;
}

static uint64_t charge_of(const struct ch_object_tag *tag, size_t length)
{
    return tag->charge_bytes ? tag->charge_bytes : length;
}

static void found(void *self, const struct ch_cid *cid, const struct ch_object_tag *tag, size_t length)
{
    struct ch_keeper *k = self;
    if (k->failed == CH_OK)
        k->failed = charge(k, tag->owner, charge_of(tag, length));
}

static bool account_may_wait(const struct ch_keeper *k, uint64_t account);

enum ch_status ch_keeper_admit(const struct ch_keeper *k, uint64_t account, size_t length)
{
    if (!account_may_wait(k, account))
        return CH_STATUS_OVERLOADED;
    if (!k->usage)
        return CH_STATUS_OK;
    uint64_t used = usage_of(k->usage, k->usage_mask, k->key, account)->bytes;
    return used + length > k->node->config.store_object_quota_mib << 20 ? CH_STATUS_QUOTA : CH_STATUS_OK;
}

struct ch_object_tag ch_keeper_tag(uint64_t account)
{
    return (struct ch_object_tag){.owner = account + 1, .put_ms = ch_time_unix_ms()};
}

/* --- blocks without a name --- */

static uint32_t home(const struct ch_keeper *k, const struct ch_cid *cid)
{
    uint64_t hash;
    crypto_shorthash((uint8_t *)&hash, cid->bytes, sizeof cid->bytes, k->key);
    return (uint32_t)(hash % PLACES);
}

/* Its place, or the empty one where it would be. */
static struct waiting *waiting_of(struct ch_keeper *k, const struct ch_cid *cid)
{
    uint32_t at = home(k, cid);
    while (k->waiting[at].cid.bytes[0] && memcmp(&k->waiting[at].cid, cid, sizeof *cid) != 0)
        at = (at + 1) % PLACES;
    return &k->waiting[at];
}

/* --- who puts --- */

static uint32_t putter_home(const struct ch_keeper *k, uint64_t account_1)
{
    uint64_t hash;
    crypto_shorthash((uint8_t *)&hash, (const uint8_t *)&account_1, sizeof account_1, k->key);
    return (uint32_t)(hash % PLACES);
}

/* Its place, or the empty one where it would be. */
static struct putter *putter_of(const struct ch_keeper *k, uint64_t account_1)
{
    uint32_t at = putter_home(k, account_1);
    while (k->putter[at].account_1 && k->putter[at].account_1 != account_1)
        at = (at + 1) % PLACES;
    return &k->putter[at];
}

static void forget_putter(struct ch_keeper *k, struct waiting *w)
{
    struct putter *p = putter_of(k, w->putter);
    if (!w->putter)
        return;
    w->putter = 0;
    if (--p->waiting)
        return;
    uint32_t hole = (uint32_t)(p - k->putter);
    for (uint32_t at = (hole + 1) % PLACES; k->putter[at].account_1; at = (at + 1) % PLACES) {
        uint32_t first = putter_home(k, k->putter[at].account_1);
        if ((at + PLACES - first) % PLACES >= (at + PLACES - hole) % PLACES) {
            k->putter[hole] = k->putter[at];
            hole = at;
        }
    }
    k->putter[hole].account_1 = 0;
}

static void note_putter(struct ch_keeper *k, struct waiting *w, uint64_t account_1)
{
    if (w->putter != account_1) {
        forget_putter(k, w);
        w->putter = account_1;
        struct putter *p = putter_of(k, account_1);
        p->account_1 = account_1;
        p->waiting++;
    }
    putter_of(k, account_1)->last_ms = k->clock_ms;
}

static void stop_waiting(struct ch_keeper *k, struct waiting *w)
{
    uint32_t hole = (uint32_t)(w - k->waiting);
    k->waiting_of[w->from]--;
    forget_putter(k, w);
    for (uint32_t at = (hole + 1) % PLACES; k->waiting[at].cid.bytes[0]; at = (at + 1) % PLACES) {
        uint32_t first = home(k, &k->waiting[at].cid);
        if ((at + PLACES - first) % PLACES >= (at + PLACES - hole) % PLACES) {
            k->waiting[hole] = k->waiting[at];
            hole = at;
        }
    }
    k->waiting[hole].cid.bytes[0] = 0;
    k->waiting_count--;
}

/* Of the table: what anybody may take, and what of the rest is each validator's own. */
static uint32_t common_room(const struct ch_keeper *k)
{
    return k->node->committee.n > 1 ? CH_KEEPER_UNNAMED_MAX / 2 : CH_KEEPER_UNNAMED_MAX;
}

static uint32_t own_room(const struct ch_keeper *k)
{
    return k->node->committee.n > 1 ? CH_KEEPER_UNNAMED_MAX / 2 / k->node->committee.n : 0;
}

bool ch_keeper_may_wait(const struct ch_keeper *k, uint16_t from)
{
    return k->waiting_count < common_room(k) || k->waiting_of[from] < own_room(k);
}

/* An account has at most as much as it leaves to the others (dynamic thresholds, Choudhury and Hahne 1998). */
static bool account_may_wait(const struct ch_keeper *k, uint64_t account)
{
    const struct putter *p = putter_of(k, account + 1);
    uint64_t has = p->account_1 ? p->waiting : 0;
    return has + k->waiting_count < common_room(k) || has + k->waiting_of[k->node->me] < own_room(k);
}

ch_err ch_keeper_wait(struct ch_keeper *k, const struct ch_cid *cid, uint32_t length, uint16_t from, uint64_t owner,
                      bool is_new)
{
    struct waiting *w = waiting_of(k, cid);
    bool waits = w->cid.bytes[0], owned = waits && w->owner;
    if (!waits && (!is_new || k->waiting_count == CH_KEEPER_UNNAMED_MAX))
        return CH_OK;
    if (waits && from != w->from && !ch_keeper_may_wait(k, from))
        return CH_OK;
    if (!waits)
        *w = (struct waiting){.cid = *cid, .length = length};
    k->waiting_count += !waits;
    k->waiting_of[w->from] -= waits;
    k->waiting_of[w->from = from]++;
    if (!k->spread && w->closed)
        ch_object_withhold(k->node->objects, cid, false);
    w->closed = false;
    w->until_ms = k->clock_ms + CH_KEEPER_UNNAMED_MS;
    if (owner)
        note_putter(k, w, owner);
    if (owned || !owner)
        return CH_OK;
    w->owner = owner;
    return charge(k, owner, length);
}

void ch_keeper_put_again(struct ch_keeper *k, const struct ch_cid *cid, uint64_t account)
{
    struct waiting *w = waiting_of(k, cid);
    if (!w->cid.bytes[0] || w->closed)
        return;
    w->until_ms = k->clock_ms + CH_KEEPER_UNNAMED_MS;
    w->renewed = true;
    note_putter(k, w, account + 1);
}

/* Alone, the same bytes are one record whatever codec their address has. */
static struct ch_cid record_of(const struct ch_cid *cid)
{
    struct ch_cid raw;
    ch_cid_make(CH_CID_RAW, ch_cid_digest(cid), &raw);
    return raw;
}

ch_err ch_keeper_stored(struct ch_keeper *k, const struct ch_cid *cid, uint64_t account, size_t length)
{
    const struct ch_cid record = record_of(cid);
    return ch_keeper_wait(k, &record, (uint32_t)length, k->node->me, account + 1, length != 0);
}

void ch_keeper_wait_after_start(struct ch_keeper *k, const struct ch_cid *cid, uint32_t length, uint64_t owner)
{
    if (ch_keeper_wait(k, cid, length, k->node->me, 0, true) != CH_OK)
        CH_ASSERT(!"nothing is charged");
    struct waiting *w = waiting_of(k, cid);
    if (!w->cid.bytes[0] || !owner)
        return;
    w->owner = w->owner ? w->owner : owner;
    note_putter(k, w, owner); /* as if it had put it now: it may be in the middle of an upload */
}

bool ch_keeper_is_waiting(struct ch_keeper *k, const struct ch_cid *cid)
{
    return waiting_of(k, cid)->cid.bytes[0];
}

void ch_keeper_hold(struct ch_keeper *k, bool hold)
{
    k->hold = hold;
}

void ch_keeper_committed(struct ch_keeper *k, uint64_t commit_time_ms)
{
    uint64_t step = commit_time_ms > k->commit_ms ? commit_time_ms - k->commit_ms : 0;
    k->clock_ms += step < COMMIT_STEP_MS ? step : COMMIT_STEP_MS;
    k->commit_ms = commit_time_ms > k->commit_ms ? commit_time_ms : k->commit_ms;
}

void ch_keeper_stop_waiting(struct ch_keeper *k, const struct ch_cid *cid)
{
    struct waiting *w = waiting_of(k, cid);
    if (w->cid.bytes[0])
        stop_waiting(k, w);
}

static void named(void *self, const struct ch_cid *cid)
{
    struct ch_keeper *k = self;
    const struct ch_cid record = record_of(cid);
    const struct waiting *w = waiting_of(k, &record);
    if (w->cid.bytes[0] && w->closed)
        ch_object_withhold(k->node->objects, &record, false);
    ch_keeper_stop_waiting(k, &record);
}

/* Any may be what a message names. They stay, as after a start. */
static void stop_all_waiting(struct ch_keeper *k)
{
    for (uint32_t i = 0; i < PLACES; i++)
        if (k->waiting[i].cid.bytes[0] && k->waiting[i].closed)
            ch_object_withhold(k->node->objects, &k->waiting[i].cid, false);
    memset(k->waiting, 0, PLACES * sizeof *k->waiting);
    memset(k->waiting_of, 0, sizeof k->waiting_of);
    memset(k->putter, 0, PLACES * sizeof *k->putter);
    k->waiting_count = 0;
}

void ch_keeper_named(struct ch_keeper *k, const struct ch_tx *tx)
{
    struct ch_cid root;
    if (!tx->location || k->waiting_count == 0)
        return;
    memcpy(root.bytes, tx->location, CH_CID_BYTES);
    /* Of a tree that is not whole here, the rest is named. */
    ch_err err = ch_object_walk_tree(k->reader, &root, named, k);
    if (err == CH_ERR_CORRUPT)
        ch_log(CH_LOG_ERROR, "objects: a damaged node in a tree that a message names");
    if (err == CH_ERR_TIMEOUT)
        stop_all_waiting(k);
}

bool ch_keeper_waits(const struct ch_keeper *k)
{
    return k->waiting_count > 0;
}

/* Its time is over. *gone: it no longer waits. CH_ERR_FULL, CH_ERR_NO_SPACE: later. */
static ch_err drop(struct ch_keeper *k, struct waiting *w, bool *gone)
{
    ch_err err = CH_OK;
    *gone = true;
    if (k->spread && ch_spread_is_named(k->store, &w->cid, w->length))
        return CH_OK;
    if (!w->closed) {
        *gone = false;
        if (k->spread)
            err = ch_spread_close_block(k->spread, &w->cid, w->length);
        else
            ch_object_withhold(k->node->objects, &w->cid, true);
        w->closed = err == CH_OK;
        w->until_ms += w->closed ? CH_KEEPER_CLOSED_MS : 0;
        return err;
    }
    if (k->spread)
        err = ch_spread_drop(k->spread, &w->cid, w->length);
    else
        err = ch_object_drop(k->node->objects, &w->cid, 0);
    if (err == CH_ERR_NOT_FOUND)
        return CH_OK;
    if (err == CH_OK) {
        discharge(k, w->owner, w->length);
        ch_count(&k->node->metrics.serve_objects_unnamed_total, 1);
    }
    return err;
}

/* Who put it goes on putting: what is put first waits for what is put last. The other validators hear of it in time. */
static void renew(struct ch_keeper *k, struct waiting *w)
{
    if (w->closed || !w->putter)
        return;
    uint64_t until_ms = putter_of(k, w->putter)->last_ms + CH_KEEPER_UNNAMED_MS;
    if (w->until_ms < k->clock_ms + CH_KEEPER_UNNAMED_MS / 2 && w->until_ms + CH_KEEPER_RENEW_MS <= until_ms) {
        w->until_ms = until_ms;
        w->renewed = true;
    }
    if (w->renewed && k->spread && ch_spread_renew(k->spread, &w->cid, w->length) == CH_ERR_FULL)
        return; /* with the next round */
    w->renewed = false;
}

/* Looks at the next places. */
static void look_at_waiting(struct ch_keeper *k)
{
    for (uint32_t i = 0; i < PLACES / ROUND_S && k->waiting_count && !k->hold; i++) {
        struct waiting *w = &k->waiting[k->hand];
        if (w->cid.bytes[0])
            renew(k, w);
        if (w->cid.bytes[0] && w->until_ms <= k->clock_ms) {
            bool gone;
            ch_err err = drop(k, w, &gone);
            if (err == CH_ERR_FULL || err == CH_ERR_NO_SPACE || err == CH_ERR_TIMEOUT)
                return; /* later */
            if (err != CH_OK) {
                k->failed = err;
                return;
            }
            if (gone) {
                stop_waiting(k, w); /* another may be in this place now */
                continue;
            }
        }
        k->hand = (k->hand + 1) % PLACES;
    }
}

/* --- age, and space --- */

static void expired(void *self, const struct ch_object_tag *tag, size_t length)
{
    struct ch_keeper *k = self;
    discharge(k, tag->owner, charge_of(tag, length));
    ch_count(&k->node->metrics.serve_objects_expired_total, 1);
}

/* One segment's; false when nothing is too old. */
static bool expire(struct ch_keeper *k)
{
    uint64_t keep_ms = k->node->config.store_object_keep_hours * 3600 * 1000, now_ms = ch_time_unix_ms();
    if (keep_ms == 0 || now_ms <= keep_ms)
        return false;
    ch_err err = ch_object_expire(k->node->objects, now_ms - keep_ms, expired, k);
    if (err == CH_ERR_CORRUPT)
        ch_log(CH_LOG_ERROR,
               "objects: the disk has changed a segment's footer and can't keep a new one; it is left alone");
    else if (err != CH_OK && err != CH_ERR_NOT_FOUND && err != CH_ERR_TIMEOUT)
        k->failed = err;
    return err == CH_OK || err == CH_ERR_CORRUPT;
}

/* Returns when to go on: as soon as the rate allows, or later when there is nothing to do. */
static uint64_t compact(struct ch_keeper *k, uint64_t now_ns)
{
    uint64_t moved = 0, rate = k->node->config.store_upkeep_mib_s << 20;
    if (rate == 0)
        return UINT64_MAX;
    ch_err err = ch_object_compact(k->node->objects, PIECE_BYTES, &moved);
    ch_count(&k->node->metrics.serve_object_bytes_moved_total, moved);
    if (err == CH_ERR_CORRUPT) {
        ch_log(CH_LOG_ERROR,
               "objects: the disk has changed a segment's footer and can't keep a new one; it is left alone");
    } else if (err != CH_OK && err != CH_ERR_NOT_FOUND && err != CH_ERR_NO_SPACE && err != CH_ERR_TIMEOUT) {
        k->failed = err;
    }
    return now_ns + (err == CH_OK ? (moved ? moved : PIECE_BYTES) * SECOND_NS / rate : SECOND_NS);
}

bool ch_keeper_poll(struct ch_keeper *k, uint64_t now_ns)
{
    struct ch_metrics *m = &k->node->metrics;
    bool worked = false;
    if (now_ns >= k->round_ns) {
        struct ch_object_stats stats;
        look_at_waiting(k);
        k->round_ns = now_ns + SECOND_NS;
        ch_object_stats(k->node->objects, &stats);
        ch_gauge(&m->serve_object_blocks, stats.blocks);
        ch_gauge(&m->serve_object_live_bytes, stats.live_bytes);
        ch_gauge(&m->serve_object_disk_bytes, stats.disk_bytes);
        ch_gauge(&m->serve_object_index_bytes, stats.index_bytes);
        ch_gauge(&m->serve_object_segments_destroyed, stats.segments_destroyed);
        worked = true;
    }
    if (k->failed == CH_OK && now_ns >= k->expiry_ns)
        k->expiry_ns = expire(k) ? now_ns : now_ns + EXPIRY_NS;
    if (k->failed == CH_OK && now_ns >= k->compact_ns)
        k->compact_ns = compact(k, now_ns);
    if (k->failed != CH_OK) {
        int none = CH_OK;
        atomic_compare_exchange_strong(&k->node->failed, &none, (int)k->failed);
    }
    return worked;
}

uint64_t ch_keeper_deadline_ns(const struct ch_keeper *k, uint64_t now_ns)
{
    uint64_t at = k->round_ns < k->expiry_ns ? k->round_ns : k->expiry_ns;
    return at < k->compact_ns ? at : k->compact_ns;
}

ch_err ch_keeper_open(struct ch_node *node, struct ch_object_reader *reader, struct ch_keeper **out)
{
    struct ch_keeper *k = calloc(1, sizeof *k);
    if (!k)
        return CH_ERR_NO_MEMORY;
    k->node = node;
    k->reader = reader;
    k->commit_ms = atomic_load(&node->commit_ms);
    ch_random(k->key, sizeof k->key);
    k->waiting = calloc(PLACES, sizeof *k->waiting);
    k->putter = calloc(PLACES, sizeof *k->putter);
    ch_err err = k->waiting && k->putter ? CH_OK : CH_ERR_NO_MEMORY;
    if (err == CH_OK && node->config.store_object_quota_mib) {
        k->usage_mask = 1023;
        k->usage = calloc(k->usage_mask + 1, sizeof *k->usage);
        err = k->usage ? ch_object_each(node->objects, found, k) : CH_ERR_NO_MEMORY;
        if (err == CH_OK)
            err = k->failed;
    }
    if (err != CH_OK) {
        ch_keeper_close(k);
        return err;
    }
    *out = k;
    return CH_OK;
}

void ch_keeper_spread(struct ch_keeper *k, struct ch_spread *spread, const struct ch_spread_store *store)
{
    k->spread = spread;
    k->store = store;
}

void ch_keeper_close(struct ch_keeper *k)
{
    if (!k)
        return;
    free(k->waiting);
    free(k->putter);
    free(k->usage);
    free(k);
}
