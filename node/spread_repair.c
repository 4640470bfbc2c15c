/* node/spread_repair.c - what should be here and isn't: found in the lists of all validators, ours too, and restored.
 *
 * Each validator gives the certificates of blocks that messages name, in the order in which it learned of that; the
 * others may be gone soon. A certificate is proof that the block is stored, so nobody can send us after what never was.
 * It is kept here only once our own part is: so what is listed and has its certificate here needs no second look, but
 * for our own list, which finds what was lost here. That a list says "named" is believed: who lies makes us keep a
 * block that is stored.
 *
 * A coder may be gone for ever before it told anybody of its certificate. So a manifest here without one is followed up
 * after a while: the block is fetched and spread anew, which makes another certificate, and tells all.
 */
#include "node/spread_impl.h"

#define GRACE_NS        UINT64_C(3000000000)  /* after a certificate came by itself, our shard may still be on its way */
#define RELIST_NS       UINT64_C(60000000000) /* certificates may be lost on their way to us */
#define UNPROVEN_NS     CH_SPREAD_TASK_NS     /* for so long its coder may still be at it */
#define TURN_NS         UINT64_C(1000000000)
#define LIST_AGAIN_NS   UINT64_C(100000000) /* after a list of which not all could be taken */
#define LIST_BUSY_NS    UINT64_C(500000000) /* after OVERLOADED: another one goes through that list */
#define LIST_COST_BYTES 65536u                /* of the rate of lists, half that of repair */
#define MARK_NS         UINT64_C(60000000000)
#define MARK_VERSION    1
#define MARK_BYTES_MAX  (2 + 2 + 4 * 8 + 16 * CH_VALIDATORS_MAX)
#define PASS_S          86400u

static bool is_queued(const struct ch_spread *s, const struct ch_cid *cid)
{
    for (unsigned i = 0; i < s->missing_count; i++)
        if (memcmp(s->missing[i].stored.cid.bytes, cid->bytes, CH_CID_BYTES) == 0)
            return true;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++)
        if (s->task[i].phase != PHASE_FREE && s->task[i].phase != PHASE_LINGER && s->task[i].kind == KIND_RESTORE &&
            memcmp(s->task[i].cid.bytes, cid->bytes, CH_CID_BYTES) == 0)
            return true;
    return false;
}

bool repair_put_certificate(struct ch_spread *s, const struct ch_stored *stored, uint16_t from, uint64_t put_ms,
                            bool named)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES], bytes[CH_STORED_BYTES_MAX];
    hold_stored_name(&stored->cid, stored->length, name);
    const struct ch_spread_record record = {.kind = CH_SPREAD_STORED,
                                            .name = name,
                                            .bytes = bytes,
                                            .length = ch_stored_write(stored, bytes),
                                            .cid = &stored->cid,
                                            .block_bytes = stored->length,
                                            .put_ms = put_ms,
                                            .fresh = !named,
                                            .from = from};
    ch_err err = named ? hold_put_named(s, &stored->cid, stored->length, put_ms, 0) : CH_OK;
    if (err == CH_OK || err == CH_ERR_EXISTS)
        err = store->put(store->context, &record, 0);
    return err == CH_OK || err == CH_ERR_EXISTS;
}

/* Where a block came from that is missing; each has its share of the queue. A liar can fill those that it tells of, the
 * manifests that it brings and those that nobody has; the lists go on. */
enum share { SHARE_TOLD, SHARE_UNPROVEN, SHARE_LISTED, SHARE_AGAIN, SHARES };
static const unsigned shares[SHARES] = {32, 96, 96, 64};
_Static_assert(32 + 96 + 96 + 64 == REPAIR_QUEUE_MAX, "shares");

static enum share share_of(const struct missing *one)
{
    return one->tries              ? SHARE_AGAIN
           : !one->stored.count    ? SHARE_UNPROVEN
           : one->listed_at == UINT64_MAX ? SHARE_TOLD
                                   : SHARE_LISTED;
}

static unsigned free_of(const struct ch_spread *s, enum share share)
{
    unsigned count = 0;
    for (unsigned i = 0; i < s->missing_count; i++)
        count += share_of(&s->missing[i]) == share;
    return shares[share] - count;
}

/* So many more can be queued: what is under way has its place when it is to be tried again. */
static unsigned room_of(const struct ch_spread *s, enum share share)
{
    unsigned free = free_of(s, share);
    return free > CH_SPREAD_RESTORES ? free - CH_SPREAD_RESTORES : 0;
}

static bool queue_again(struct ch_spread *s, const struct missing *one)
{
    if (!free_of(s, share_of(one)))
        return false;
    s->missing[s->missing_count++] = *one;
    return true;
}

static bool queue(struct ch_spread *s, const struct missing *one)
{
    return room_of(s, share_of(one)) && queue_again(s, one);
}

void repair_told(struct ch_spread *s, uint16_t from, const struct ch_stored *stored)
{
    uint64_t put_ms;
    if (hold_mine(s, stored, &put_ms) && repair_put_certificate(s, stored, from, put_ms, false))
        return;
    if (!is_queued(s, &stored->cid)) /* no room: when a message names it, a list will tell */
        (void)queue(
            s, &(struct missing){.stored = *stored, .listed_at = UINT64_MAX, .not_before_ns = s->now_ns + GRACE_NS});
}

void repair_unproven(struct ch_spread *s, const struct ch_manifest *m, uint64_t listed_at)
{
    struct missing unproven = {.stored = {.cid = m->cid, .length = m->length},
                               .from = (uint16_t)s->setup.validators,
                               .listed_at = listed_at};
    if (is_queued(s, &m->cid))
        return;
    ch_manifest_digest(m, unproven.stored.manifest);
    /* one after the other: the first one's certificate spares the others the work */
    uint64_t turn_ns = ((uint64_t)s->setup.me + m->cid.bytes[CH_CID_BYTES - 1]) % s->setup.validators * TURN_NS;
    unproven.not_before_ns = s->now_ns + UNPROVEN_NS + turn_ns;
    (void)queue(s, &unproven);
}

void repair_forget(struct ch_spread *s, const struct ch_cid *cid)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < s->missing_count; i++)
        if (s->missing[i].named || memcmp(s->missing[i].stored.cid.bytes, cid->bytes, CH_CID_BYTES) != 0)
            s->missing[kept++] = s->missing[i];
    s->missing_count = kept;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++) {
        struct task *t = &s->task[i];
        if (t->phase != PHASE_FREE && t->kind == KIND_RESTORE && !t->ticket && !t->named &&
            memcmp(t->cid.bytes, cid->bytes, CH_CID_BYTES) == 0)
            spread_release(s, t);
    }
}

void ch_spread_repair(struct ch_spread *s)
{
    for (unsigned i = 0; i < s->setup.validators; i++) {
        s->peer[i].listed = false;
        s->peer[i].cursor = 0;
    }
    s->manifests_listed = s->own_checked = false;
    s->manifest_cursor = 0;
    s->pass_s = 0;
}

/* --- lists --- */

/* It is on its way to be restored, and named now; false: it is not on its way. */
static bool name_queued(struct ch_spread *s, const struct ch_cid *cid)
{
    for (unsigned i = 0; i < s->missing_count; i++)
        if (memcmp(s->missing[i].stored.cid.bytes, cid->bytes, CH_CID_BYTES) == 0)
            return s->missing[i].named = true;
    return false;
}

static bool queue_listed(struct ch_spread *s, uint16_t from, const struct ch_stored *stored)
{
    return queue(s, &(struct missing){.stored = *stored,
                                      .named = true,
                                      .from = from,
                                      .listed_at = s->peer[from].cursor,
                                      .not_before_ns = s->now_ns});
}

/* Out of a list. False: it could not be taken now. */
static bool take_certificate(struct ch_spread *s, uint16_t from, const struct ch_stored *stored)
{
    const struct ch_spread_store *store = &s->setup.store;
    bool here = ch_spread_is_stored(store, &stored->cid, stored->length);
    uint64_t put_ms;
    s->stats.repair_seen++;
    if (from == s->setup.me ? hold_mine(s, stored, &put_ms)
                            : here && ch_spread_is_named(store, &stored->cid, stored->length))
        return true;
    if (name_queued(s, &stored->cid))
        return true;
    if (is_queued(s, &stored->cid)) /* a task is at it: it may end without the name */
        return from == s->setup.me;
    if (from == s->setup.me) /* it was proven when it was put */
        return queue_listed(s, from, stored);
    const bool mine = hold_mine(s, stored, &put_ms);
    if (!(here && mine) && !hold_proves(s, stored)) { /* be another one here: it may be gone when this one is written */
        spread_lie(s, from);
        return true;
    }
    return mine ? repair_put_certificate(s, stored, s->setup.me, put_ms, true) : queue_listed(s, from, stored);
}

static bool may_list(const struct ch_spread *s, const struct peer *peer)
{
    return !peer->listed && s->list_tokens >= LIST_COST_BYTES && room_of(s, SHARE_LISTED) >= CH_SPREAD_LIST_MAX;
}

/* Our own list: what is certified here and lost here. Once it was gone through, what is new in it only moves the
 * cursor. */
static void list_own(struct ch_spread *s)
{
    const struct ch_spread_store *store = &s->setup.store;
    struct peer *me = &s->peer[s->setup.me];
    uint8_t names[CH_SPREAD_LIST_MAX][CH_HASH_BYTES];
    uint64_t cursor = me->cursor;
    size_t count = 0;
    bool end = true;
    if (!may_list(s, me))
        return;
    s->list_tokens -= LIST_COST_BYTES;
    if (store->list(store->context, CH_SPREAD_NAMED, &cursor, names, CH_SPREAD_LIST_MAX, &count, &end) != CH_OK)
        return;
    me->listed = end;
    for (size_t i = 0; i < count && !s->own_checked; i++) {
        struct ch_stored stored;
        if (hold_named_stored(s, names[i], &stored))
            (void)take_certificate(s, s->setup.me, &stored); /* there is room, and nothing is put */
    }
    me->cursor = cursor;
    s->own_checked |= end;
}

/* Manifests here whose certificate never came. */
static void list_manifests(struct ch_spread *s)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t names[CH_SPREAD_LIST_MAX][CH_HASH_BYTES], bytes[CH_MANIFEST_BYTES_MAX];
    uint64_t cursor = s->manifest_cursor;
    size_t count = 0, length;
    bool end = true;
    if (s->manifests_listed || s->list_tokens < LIST_COST_BYTES || room_of(s, SHARE_UNPROVEN) < CH_SPREAD_LIST_MAX)
        return;
    s->list_tokens -= LIST_COST_BYTES;
    if (store->list(store->context, CH_SPREAD_MANIFEST, &cursor, names, CH_SPREAD_LIST_MAX, &count, &end) !=
        CH_OK)
        return;
    s->manifests_listed = end;
    for (size_t i = 0; i < count; i++) {
        struct ch_manifest m;
        if (store->get(store->context, CH_SPREAD_MANIFEST, names[i], bytes, sizeof bytes, &length, NULL) != CH_OK ||
            !ch_manifest_read(bytes, length, s->setup.validators, &m) || ch_spread_is_stored(store, &m.cid, m.length))
            continue;
        repair_unproven(s, &m, s->manifest_cursor);
    }
    s->manifest_cursor = cursor;
}

bool repair_next_send(struct ch_spread *s, uint16_t *to, struct ch_frame_header *header, uint8_t *body)
{
    for (unsigned k = 0; k < s->setup.validators; k++) {
        unsigned i = (s->list_hand + k) % s->setup.validators;
        struct peer *peer = &s->peer[i];
        if (i == s->setup.me || peer->list_request || !may_list(s, peer) || !spread_may_ask(s, (uint16_t)i, 0) ||
            peer->list_again_ns > s->now_ns)
            continue;
        s->list_hand = i + 1;
        s->list_tokens -= LIST_COST_BYTES;
        peer->list_request = ++s->next_request;
        peer->list_at_ns = s->now_ns;
        ch_store64(body, peer->cursor);
        *to = (uint16_t)i;
        *header = (struct ch_frame_header){.type = CH_FRAME_LIST_STORED, .request = peer->list_request, .length = 8};
        return true;
    }
    return false;
}

void repair_list(struct ch_spread *s, uint16_t from, uint64_t request, const uint8_t *body, size_t length)
{
    struct peer *peer = &s->peer[from];
    struct ch_reader r = ch_reader(body, length);
    if (!peer->list_request || peer->list_request != request)
        return;
    peer->list_request = 0;
    uint16_t status = ch_read16(&r);
    uint64_t its_store = ch_read64(&r), cursor = ch_read64(&r);
    uint8_t end = ch_read8(&r);
    if (status != CH_STATUS_OK) {
        peer->list_again_ns = s->now_ns + LIST_BUSY_NS;
        return;
    }
    if (!r.bad && its_store != peer->store && peer->cursor) { /* its disk was replaced: the cursor means nothing there */
        peer->store = its_store;
        peer->cursor = 0;
        peer->list_again_ns = s->now_ns + LIST_AGAIN_NS;
        return;
    }
    peer->store = its_store;
    bool bad = r.bad || end > 1 || (!end && cursor <= peer->cursor), taken = true;
    for (unsigned i = 0; !bad && r.left; i++) {
        struct ch_stored stored;
        bad = i == CH_SPREAD_LIST_MAX || !ch_stored_read(&r, s->setup.validators, &stored);
        if (!bad)
            taken &= take_certificate(s, from, &stored);
    }
    if (bad)
        spread_lie(s, from);
    else if (!taken) /* the same again */
        peer->list_again_ns = s->now_ns + LIST_AGAIN_NS;
    else
        peer->cursor = cursor;
    peer->listed = bad || (taken && end);
}

/* --- marks --- */

/* Everything before it in a list is through: what is queued or being restored is not. */
static uint64_t done_until(const struct ch_spread *s, unsigned from, uint64_t cursor)
{
    for (unsigned i = 0; i < s->missing_count; i++)
        if (s->missing[i].from == from && s->missing[i].listed_at < cursor)
            cursor = s->missing[i].listed_at;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++) {
        const struct task *t = &s->task[i];
        if (t->phase != PHASE_FREE && t->phase != PHASE_LINGER && t->kind == KIND_RESTORE && !t->ticket &&
            t->from == from && t->listed_at < cursor)
            cursor = t->listed_at;
    }
    return cursor;
}

static void mark_name(uint64_t sequence, uint8_t name[CH_HASH_BYTES])
{
    const uint8_t slot = sequence & 1;
    ch_hash_domain("chappe/mark/1", &(struct ch_bytes){&slot, 1}, 1, name);
}

static size_t mark_write(const struct ch_spread *s, const struct mark *m, uint8_t bytes[MARK_BYTES_MAX])
{
    struct ch_writer w = ch_writer(bytes, MARK_BYTES_MAX);
    ch_write16(&w, MARK_VERSION);
    ch_write16(&w, (uint16_t)s->setup.validators);
    ch_write64(&w, m->sequence);
    ch_write64(&w, m->store);
    ch_write64(&w, m->pass_s);
    ch_write64(&w, m->manifests);
    for (unsigned i = 0; i < s->setup.validators; i++) {
        ch_write64(&w, m->list[i].store);
        ch_write64(&w, m->list[i].cursor);
    }
    CH_ASSERT(!w.bad);
    return w.used;
}

static bool mark_read(const struct ch_spread *s, uint64_t slot, struct mark *m)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES], bytes[MARK_BYTES_MAX];
    size_t length;
    mark_name(slot, name);
    if (store->get(store->context, CH_SPREAD_MARK, name, bytes, sizeof bytes, &length, NULL) != CH_OK)
        return false;
    struct ch_reader r = ch_reader(bytes, length);
    if (ch_read16(&r) != MARK_VERSION || ch_read16(&r) != s->setup.validators)
        return false;
    m->sequence = ch_read64(&r);
    m->store = ch_read64(&r);
    m->pass_s = ch_read64(&r);
    m->manifests = ch_read64(&r);
    for (unsigned i = 0; i < s->setup.validators; i++) {
        m->list[i].store = ch_read64(&r);
        m->list[i].cursor = ch_read64(&r);
    }
    return ch_reader_done(&r);
}

void repair_open(struct ch_spread *s)
{
    struct mark both[2] = {{0}, {0}};
    bool is[2] = {mark_read(s, 0, &both[0]), mark_read(s, 1, &both[1])};
    s->mark.store = s->setup.new_store;
    if (!is[0] && !is[1])
        return;
    s->mark = s->saved = both[is[1] && (!is[0] || both[1].sequence > both[0].sequence)];
    s->manifest_cursor = s->mark.manifests;
    s->pass_s = s->mark.pass_s;
    for (unsigned i = 0; i < s->setup.validators; i++) {
        s->peer[i].store = s->mark.list[i].store;
        s->peer[i].cursor = s->mark.list[i].cursor;
    }
}

/* Writes the mark of a turn ago: what was put then without waiting for the disk is durable by now. The older of the two
 * on the disk makes room. False: it could not be written now. */
static bool mark_save(struct ch_spread *s)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES], bytes[MARK_BYTES_MAX];
    s->mark.sequence = s->saved.sequence;
    if (memcmp(&s->mark, &s->saved, sizeof s->mark) == 0)
        return true;
    s->mark.sequence++;
    mark_name(s->mark.sequence, name);
    ch_err err = store->drop(store->context, CH_SPREAD_MARK, name);
    const struct ch_spread_record record = {.kind = CH_SPREAD_MARK,
                                            .name = name,
                                            .bytes = bytes,
                                            .length = mark_write(s, &s->mark, bytes),
                                            .from = s->setup.me};
    if (err == CH_OK || err == CH_ERR_NOT_FOUND)
        err = store->put(store->context, &record, 0);
    if (err == CH_OK)
        s->saved = s->mark;
    return err == CH_OK;
}

static void mark_turn(struct ch_spread *s)
{
    if (s->now_ns < s->mark_ns)
        return;
    if (s->marked && !mark_save(s)) {
        s->mark_ns = s->now_ns + CH_SPREAD_AGAIN_NS;
        return;
    }
    s->pass_s += s->marked ? MARK_NS / 1000000000 : 0;
    if (s->pass_s >= PASS_S) /* once a day all lists anew: so is found what is gone and nobody noticed */
        ch_spread_repair(s);
    bool lists = s->pass_s == 0;
    s->mark.manifests = done_until(s, s->setup.validators, s->manifest_cursor);
    for (unsigned i = 0; i < s->setup.validators; i++) {
        uint64_t cursor = done_until(s, i, s->peer[i].cursor);
        lists |= cursor != s->mark.list[i].cursor;
        s->mark.list[i].store = s->peer[i].store;
        s->mark.list[i].cursor = cursor;
    }
    if (lists || s->pass_s >= s->mark.pass_s + PASS_S / 24) /* nothing is written for the time alone, but once an hour */
        s->mark.pass_s = s->pass_s;
    s->marked = true;
    s->mark_ns = s->now_ns + MARK_NS;
}

/* --- restoring --- */

/* Starts with what needs it; true when something was done. */
static bool restore_next(struct ch_spread *s)
{
    unsigned running = 0, at = 0;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++)
        running += s->task[i].phase != PHASE_FREE && s->task[i].phase != PHASE_LINGER && !s->task[i].ticket;
    while (at < s->missing_count && s->missing[at].not_before_ns > s->now_ns)
        at++;
    if (at == s->missing_count || running >= CH_SPREAD_RESTORES || s->tokens < s->missing[at].stored.length)
        return false;
    struct missing *entry = &s->missing[at];
    uint64_t put_ms;
    bool mine = hold_mine(s, &entry->stored, &put_ms);
    if (mine && ch_spread_is_stored(&s->setup.store, &entry->stored.cid, entry->stored.length)) {
        /* it came meanwhile */
        if (entry->named && hold_put_named(s, &entry->stored.cid, entry->stored.length, put_ms, 0) == CH_ERR_FULL)
            return false;
    } else if (mine && entry->stored.count) {
        if (!repair_put_certificate(s, &entry->stored, s->setup.me, put_ms, entry->named))
            return false;
    } else {
        struct task *t = spread_task(s, KIND_RESTORE, &entry->stored.cid, 0);
        if (!t)
            return false;
        s->tokens -= entry->stored.length;
        t->proven = entry->stored.count != 0;
        t->stored = entry->stored;
        t->named = entry->named;
        memcpy(t->wanted, entry->stored.manifest, CH_HASH_BYTES);
        t->tries = entry->tries;
        t->from = entry->from;
        t->listed_at = entry->listed_at;
        fetch_begin(s, t);
    }
    memmove(entry, entry + 1, (s->missing_count - at - 1) * sizeof *entry);
    s->missing_count--;
    return true;
}

void repair_ended(struct ch_spread *s, const struct task *t)
{
    if (t->status == CH_STATUS_OK || t->ticket)
        return;
    unsigned tries = t->tries + (t->status == CH_STATUS_NOT_FOUND); /* too few reached: that is not the block's fault */
    const struct missing again = {.stored = t->stored,
                                  .named = t->named,
                                  .from = t->from,
                                  .listed_at = t->listed_at,
                                  .not_before_ns = s->now_ns + CH_SPREAD_REPAIR_AGAIN_NS,
                                  .tries = tries};
    if (tries >= REPAIR_TRIES || !queue_again(s, &again))
        s->stats.blocks_given_up++;
}

void repair_tick(struct ch_spread *s)
{
    uint64_t rate = s->setup.repair_bytes_per_second, elapsed_ns = s->now_ns - s->tokens_ns;
    if (elapsed_ns > 1000000000)
        elapsed_ns = 1000000000;
    s->tokens += rate * (elapsed_ns / 1000) / 1000000;
    uint64_t most = rate > 2 * CH_BLOCK_BYTES_MAX ? rate : 2 * CH_BLOCK_BYTES_MAX;
    s->tokens = s->tokens < most ? s->tokens : most;
    s->list_tokens += rate / 2 * (elapsed_ns / 1000) / 1000000; /* a liar's endless list takes nothing from the blocks */
    s->list_tokens = s->list_tokens < most ? s->list_tokens : most;
    s->tokens_ns = s->now_ns;
    for (unsigned i = 0; i < s->setup.validators; i++) {
        struct peer *peer = &s->peer[i];
        if (peer->list_request && s->now_ns - peer->list_at_ns >= CH_SPREAD_ASK_NS) {
            peer->list_request = 0;
            peer->timeouts++;
        }
        if (s->now_ns >= s->relist_ns)
            peer->listed = false; /* what is new since */
    }
    if (s->now_ns >= s->relist_ns) {
        s->relist_ns = s->now_ns + RELIST_NS;
        s->manifests_listed = false;
    }
    mark_turn(s);
    list_own(s);
    list_manifests(s);
    while (restore_next(s))
        ;
}

bool repair_busy(const struct ch_spread *s)
{
    bool listing = false;
    for (unsigned i = 0; i < s->setup.validators; i++)
        listing |= !s->peer[i].listed && (s->peer[i].up || i == s->setup.me);
    return listing || !s->manifests_listed || s->missing_count;
}
