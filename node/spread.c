#include "node/spread_impl.h"

#include <stdlib.h>

#define STORED_GRACE_NS UINT64_C(3000000000) /* a slow validator's shard is still offered for so long */
_Static_assert(CH_SPREAD_TASKS + CH_SPREAD_ANSWERS_MAX <= COOKIE_SLOTS, "slots");

ch_err ch_spread_open(const struct ch_spread_setup *setup, struct ch_spread **out)
{
    struct ch_spread *s = calloc(1, sizeof *s);
    if (!s)
        return CH_ERR_NO_MEMORY;
    CH_ASSERT(setup->validators >= 2 && setup->validators <= CH_VALIDATORS_MAX && setup->me < setup->validators);
    s->setup = *setup;
    s->n = setup->validators < CH_SHARDS_MAX ? setup->validators : CH_SHARDS_MAX;
    s->faults_max = ch_faults_max(s->n);
    s->quorum = s->n - s->faults_max;
    s->prefix_length = ch_sign_prefix(CH_DOMAIN_SHARD, setup->chain_id, s->prefix);
    ch_erasure_init(&s->code, s->n, s->faults_max + 1);
    const struct ch_ed25519_options options = {.batch_max = 64, .cached_keys_max = setup->validators};
    ch_err err = ch_ed25519_open(&options, &s->verifier);
    s->scratch = malloc(CH_SHARD_BYTES_MAX);
    if (err == CH_OK && !s->scratch)
        err = CH_ERR_NO_MEMORY;
    if (err != CH_OK) {
        ch_spread_close(s);
        return err;
    }
    s->lister = s->setup.validators;
    repair_open(s);
    *out = s;
    return CH_OK;
}

void ch_spread_close(struct ch_spread *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++)
        free(s->task[i].shards);
    ch_ed25519_close(s->verifier);
    free(s->scratch);
    free(s);
}

void ch_spread_peer(struct ch_spread *s, uint16_t validator, bool up)
{
    struct peer *peer = &s->peer[validator];
    if (up && !peer->up)
        peer->listed = false; /* what it announced meanwhile we have not heard */
    peer->up = up;
}

void ch_spread_full(struct ch_spread *s, bool full)
{
    s->full = full;
}

void spread_lie(struct ch_spread *s, uint16_t from)
{
    s->peer[from].lies++;
}

/* --- asking --- */

bool spread_may_ask(const struct ch_spread *s, uint16_t validator, uint32_t bytes)
{
    const struct peer *peer = &s->peer[validator];
    return peer->up && peer->asked < CH_SPREAD_ASKED_MAX &&
           (!peer->asked_bytes || peer->asked_bytes + bytes <= CH_SPREAD_BYTES_MAX);
}

void spread_asked(struct ch_spread *s, struct task *t, unsigned i, uint32_t bytes)
{
    struct peer *peer = &s->peer[t->holder[i]];
    peer->asked++;
    peer->asked_bytes += bytes;
    t->ask[i].state = ASK_ASKED;
    t->ask[i].hedged = false;
    t->ask[i].bytes = bytes;
    t->ask[i].request = ++s->next_request;
    t->ask[i].at_ns = s->now_ns;
    t->ask[i].tries++;
}

void spread_answered(struct ch_spread *s, struct task *t, unsigned i, enum ask_state state)
{
    struct peer *peer = &s->peer[t->holder[i]];
    CH_ASSERT(t->ask[i].state == ASK_ASKED);
    peer->asked--;
    peer->asked_bytes -= t->ask[i].bytes;
    t->ask[i].state = state;
    t->ask[i].at_ns = s->now_ns;
}

/* --- tasks --- */

void spread_release(struct ch_spread *s, struct task *t)
{
    for (unsigned i = 0; i < t->holders; i++)
        if (t->ask[i].state == ASK_ASKED)
            spread_answered(s, t, i, ASK_FAILED);
    t->phase = PHASE_FREE;
}

struct task *spread_task(struct ch_spread *s, enum kind kind, const struct ch_cid *cid, uint64_t ticket)
{
    struct task *t = NULL;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++) {
        struct task *one = &s->task[i];
        if (one == s->told)
            continue;
        if (one->phase == PHASE_FREE || (one->phase == PHASE_LINGER && (!t || t->phase == PHASE_LINGER)))
            if (!t || one->phase == PHASE_FREE || one->began_ns < t->began_ns)
                t = one;
        if (t && t->phase == PHASE_FREE)
            break;
    }
    if (!t)
        return NULL;
    if (t->phase == PHASE_LINGER)
        spread_release(s, t);
    uint8_t *shards = t->shards ? t->shards : malloc(CH_SHARDS_ALL_BYTES_MAX);
    if (!shards)
        return NULL;
    *t = (struct task){.kind = kind,
                       .ticket = ticket,
                       .generation = ++s->generation,
                       .began_ns = s->now_ns,
                       .cid = *cid,
                       .shards = shards};
    t->holders = ch_placement(cid, s->setup.keys, s->setup.validators, t->holder);
    t->own = hold_own_index(s, t->holder, t->holders);
    return t;
}

void spread_finish(struct ch_spread *s, struct task *t, enum ch_status status)
{
    t->status = status;
    t->phase = PHASE_DONE;
    s->stats.blocks_failed += status == CH_STATUS_OVERLOADED;
    if (status == CH_STATUS_OK) {
        s->stats.blocks_spread += t->kind == KIND_PUT;
        s->stats.blocks_fetched += t->kind == KIND_GET;
        s->stats.blocks_restored += t->kind == KIND_RESTORE;
        s->stats.bytes_restored += t->kind == KIND_RESTORE ? t->m.length : 0;
    }
}

/* --- writing here --- */

static uint64_t cookie_of(const struct ch_spread *s, const struct task *t)
{
    return t->generation * COOKIE_SLOTS + (uint64_t)(t - s->task);
}

static ch_err write_one(struct ch_spread *s, struct task *t, enum write what)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES], bytes[CH_STORED_BYTES_MAX];
    struct ch_spread_record record = {
        .name = name,
        .bytes = bytes,
        .cid = &t->cid,
        .block_bytes = t->m.length,
        /* one in f+1 is honest: who lies can only make it younger */
        .put_ms = (unsigned)__builtin_popcount(t->dated) > s->faults_max ? t->put_ms : 0,
        .fresh = !t->named,
        .from = s->setup.me,
        .owner = t->owner,
    };
    switch (what) {
    case WRITE_NAMED:
        return hold_put_named(s, &t->cid, t->m.length, record.put_ms, cookie_of(s, t));
    case WRITE_MANIFEST:
        record.kind = CH_SPREAD_MANIFEST;
        record.length = ch_manifest_write(&t->m, bytes);
        hold_manifest_name(&t->cid, s->setup.me, name);
        break;
    case WRITE_SHARD:
        record.kind = hold_shard_name(&t->m, t->own < 0 ? 0 : (unsigned)t->own, name);
        record.bytes = t->shards + (t->m.k > 1 ? (size_t)t->own * t->m.shard_bytes : 0);
        record.length = t->m.shard_bytes;
        break;
    case WRITE_STORED:
        record.kind = CH_SPREAD_STORED;
        record.length = ch_stored_write(&t->stored, bytes);
        hold_stored_name(&t->cid, t->stored.length, name);
        break;
    }
    return store->put(store->context, &record, cookie_of(s, t));
}

static void progress(struct ch_spread *s, struct task *t);

/* Hands the store what it takes. */
static void write_on(struct ch_spread *s, struct task *t)
{
    for (unsigned what = WRITE_NAMED; what <= WRITE_STORED; what <<= 1) {
        if (!(t->writes & what))
            continue;
        ch_err err = write_one(s, t, (enum write)what);
        if (err == CH_ERR_FULL)
            return;
        t->writes &= ~what;
        t->writes_flying += err == CH_OK;
        if (err != CH_OK && err != CH_ERR_EXISTS) {
            t->own_failed = true;
            t->writes = 0; /* without its manifest a shard would be found by nobody */
        }
    }
    if (!t->writes_flying)
        progress(s, t);
}

void ch_spread_durable(struct ch_spread *s, uint64_t cookie)
{
    uint64_t slot = cookie % COOKIE_SLOTS, generation = cookie / COOKIE_SLOTS;
    if (slot < CH_SPREAD_TASKS) {
        struct task *t = &s->task[slot];
        if (t->generation != generation || !t->writes_flying)
            return;
        t->writes_flying--;
        if (!t->writes && !t->writes_flying)
            progress(s, t);
    } else if (slot < CH_SPREAD_TASKS + CH_SPREAD_ANSWERS_MAX) {
        struct answer *a = &s->answer[slot - CH_SPREAD_TASKS];
        if (a->used && a->generation == generation)
            hold_durable(s, a);
    }
}

/* --- spreading --- */

static void write_own(struct ch_spread *s, struct task *t)
{
    t->own_failed = false;
    if (t->own >= 0 || ch_cid_codec(&t->cid) == CH_CID_DAG_PB) /* a node is kept anyhow: trees are walked here too */
        t->writes = WRITE_MANIFEST | (t->own < t->m.copies ? WRITE_SHARD : 0u);
    t->writes |= t->named ? WRITE_NAMED : 0u;
    write_on(s, t);
}

void spread_begin(struct ch_spread *s, struct task *t)
{
    t->phase = PHASE_SPREAD;
    t->is_signed = 0;
    for (unsigned i = 0; i < t->holders; i++) {
        if (t->ask[i].state == ASK_ASKED)
            spread_answered(s, t, i, ASK_FAILED);
        t->ask[i] = (struct ask){.state = ASK_IDLE};
    }
    write_own(s, t);
}

void spread_keep_own(struct ch_spread *s, struct task *t)
{
    for (unsigned i = 0; i < t->holders; i++)
        if (t->ask[i].state == ASK_ASKED)
            spread_answered(s, t, i, ASK_FAILED);
    t->phase = PHASE_OWN;
    write_own(s, t);
}

/* Enough have signed: their signatures are the certificate. */
static void prove(struct ch_spread *s, struct task *t)
{
    uint16_t index[CH_SHARDS_MAX];
    struct ch_stored *c = &t->stored;
    unsigned count = 0;
    for (unsigned i = 0; i < t->holders && count < s->quorum; i++)
        if (t->is_signed >> i & 1) {
            unsigned at = count++;
            for (; at && t->holder[index[at - 1]] > t->holder[i]; at--)
                index[at] = index[at - 1];
            index[at] = (uint16_t)i;
        }
    c->cid = t->cid;
    c->length = t->m.length;
    c->count = (uint16_t)count;
    memcpy(c->manifest, t->digest, CH_HASH_BYTES);
    for (unsigned i = 0; i < count; i++) {
        c->validator[i] = t->holder[index[i]];
        memcpy(c->signature[i], t->signature[index[i]], 64);
    }
}

static void progress(struct ch_spread *s, struct task *t)
{
    bool own_written = !t->writes && !t->writes_flying;
    if (t->phase == PHASE_SPREAD) {
        if (own_written && t->own >= 0 && !t->own_failed && !(t->is_signed >> t->own & 1)) {
            hold_sign(s, &t->cid, t->m.length, t->digest, t->signature[t->own]);
            t->is_signed |= 1u << t->own;
        }
        if (!own_written || (unsigned)__builtin_popcount(t->is_signed) < s->quorum)
            return;
        prove(s, t);
        for (unsigned i = 0; i < s->setup.validators; i++)
            if (i != s->setup.me)
                t->announce[i / 64] |= UINT64_C(1) << i % 64;
        t->phase = PHASE_PROVE;
        t->own_failed = false;
        t->writes = WRITE_STORED;
        write_on(s, t);
    } else if (t->phase == PHASE_OWN && own_written) {
        t->phase = PHASE_PROVE;
        t->writes = t->own_failed ? 0 : WRITE_STORED;
        if (t->own_failed)
            spread_finish(s, t, CH_STATUS_OVERLOADED);
        else
            write_on(s, t);
    } else if (t->phase == PHASE_PROVE && own_written) {
        spread_finish(s, t, t->own_failed ? CH_STATUS_OVERLOADED : CH_STATUS_OK);
    }
}

static void shard_stored(struct ch_spread *s, struct task *t, unsigned i, const uint8_t *body, size_t length)
{
    bool good = length == 2 + 64 && ch_load16(body) == CH_STATUS_OK &&
                hold_signed(s, &t->cid, t->m.length, t->digest, t->holder[i], body + 2);
    if (!good && (length != 2 || ch_load16(body) == CH_STATUS_OK))
        spread_lie(s, t->holder[i]);
    spread_answered(s, t, i, good ? ASK_GAVE : ASK_FAILED);
    if (!good)
        return;
    memcpy(t->signature[i], body + 2, 64);
    t->is_signed |= 1u << i;
    progress(s, t);
}

static bool hands_out(const struct task *t)
{
    return t->phase == PHASE_SPREAD || t->phase == PHASE_PROVE || t->phase == PHASE_DONE || t->phase == PHASE_LINGER;
}

static bool next_shard(struct ch_spread *s, struct task *t, uint16_t *to, struct ch_frame_header *header, uint8_t *body)
{
    if (!hands_out(t) || t->kind == KIND_GET || t->proven || (t->phase == PHASE_DONE && t->status != CH_STATUS_OK))
        return false;
    for (unsigned i = 0; i < t->holders; i++) {
        uint32_t bytes = i < t->m.copies ? t->m.shard_bytes : 0;
        if ((int)i == t->own || t->ask[i].state != ASK_IDLE || !spread_may_ask(s, t->holder[i], bytes))
            continue;
        struct ch_writer w = ch_writer(body, CH_FRAME_BODY_BYTES_MAX);
        size_t length = ch_manifest_write(&t->m, body + 2);
        ch_write16(&w, (uint16_t)length);
        (void)ch_write_room(&w, length);
        ch_write(&w, t->shards + (t->m.k > 1 ? (size_t)i * t->m.shard_bytes : 0), bytes);
        CH_ASSERT(!w.bad);
        spread_asked(s, t, i, bytes);
        *to = t->holder[i];
        *header = (struct ch_frame_header){
            .type = CH_FRAME_PUT_OBJECT_SHARD, .request = t->ask[i].request, .length = (uint32_t)w.used};
        return true;
    }
    return false;
}

static bool next_announcement(struct ch_spread *s, struct task *t, uint16_t *to, struct ch_frame_header *header,
                              uint8_t *body)
{
    if (t->phase != PHASE_LINGER)
        return false;
    for (unsigned word = 0; word < sizeof t->announce / sizeof *t->announce; word++)
        while (t->announce[word]) {
            unsigned i = word * 64 + (unsigned)__builtin_ctzll(t->announce[word]);
            t->announce[word] &= t->announce[word] - 1;
            if (!s->peer[i].up)
                continue; /* it asks when it is back */
            *to = (uint16_t)i;
            *header = (struct ch_frame_header){.type = CH_FRAME_OBJECT_STORED,
                                               .length = (uint32_t)ch_stored_write(&t->stored, body)};
            return true;
        }
    return false;
}

/* --- in --- */

/* The block's own manifest and all its shards into the buffer. */
static void code_block(struct ch_spread *s, struct task *t, const uint8_t *block, size_t length)
{
    memset(&t->m, 0, sizeof t->m);
    ch_manifest_shape(&t->cid, (uint32_t)length, s->setup.validators, &t->m);
    if (length)
        memcpy(t->shards, block, length);
    if (t->m.k > 1) {
        memset(t->shards + length, 0, (size_t)t->m.k * t->m.shard_bytes - length);
        ch_erasure_encode(&s->code, t->shards, t->m.shard_bytes);
        for (unsigned i = 0; i < t->m.n; i++)
            ch_hash(t->shards + (size_t)i * t->m.shard_bytes, t->m.shard_bytes, t->m.hash[i]);
    }
    t->has_manifest = true;
    ch_manifest_digest(&t->m, t->digest);
}

ch_err ch_spread_put(struct ch_spread *s, const struct ch_cid_block *block, uint64_t owner, uint64_t ticket)
{
    CH_ASSERT(ch_cid_is_checked(block));
    if (block->length > CH_BLOCK_BYTES_MAX)
        return CH_ERR_INVALID;
    struct task *t = spread_task(s, KIND_PUT, &block->cid, ticket);
    if (!t)
        return CH_ERR_FULL;
    t->owner = owner;
    code_block(s, t, block->bytes, block->length);
    if (hold_is_certified(s, &t->m, t->digest)) {
        t->proven = true;
        spread_finish(s, t, CH_STATUS_OK);
    } else {
        spread_begin(s, t);
    }
    return CH_OK;
}

ch_err ch_spread_get(struct ch_spread *s, const struct ch_cid *cid, uint64_t ticket)
{
    struct task *t = spread_task(s, KIND_GET, cid, ticket);
    if (!t)
        return CH_ERR_FULL;
    fetch_begin(s, t);
    return CH_OK;
}

ch_err ch_spread_restore(struct ch_spread *s, const struct ch_cid *cid, uint64_t ticket)
{
    struct task *t = spread_task(s, KIND_RESTORE, cid, ticket);
    if (!t)
        return CH_ERR_FULL;
    fetch_begin(s, t);
    return CH_OK;
}

/* The task and holder that an answer is for. */
static struct task *asked_by(struct ch_spread *s, uint16_t from, uint64_t request, unsigned *index)
{
    for (unsigned k = 0; k < CH_SPREAD_TASKS; k++) {
        struct task *t = &s->task[k];
        for (unsigned i = 0; t->phase != PHASE_FREE && i < t->holders; i++)
            if (t->ask[i].state == ASK_ASKED && t->ask[i].request == request && t->holder[i] == from) {
                *index = i;
                return t;
            }
    }
    return NULL;
}

bool ch_spread_frame(struct ch_spread *s, uint16_t from, const struct ch_frame_header *header, const uint8_t *body)
{
    unsigned i;
    struct task *t;
    if (from >= s->setup.validators || from == s->setup.me) {
        s->stats.frames_malformed++;
        return true;
    }
    s->peer[from].silent = false;
    switch (header->type) {
    case CH_FRAME_SHARD_STORED:
        t = asked_by(s, from, header->request, &i);
        if (t && t->phase != PHASE_FETCH) /* else it comes too late */
            shard_stored(s, t, i, body, header->length);
        return true;
    case CH_FRAME_OBJECT_SHARD:
        t = asked_by(s, from, header->request, &i);
        if (t && t->phase == PHASE_FETCH)
            fetch_answer(s, t, i, body, header->length);
        return true;
    case CH_FRAME_STORED_LIST:
        repair_list(s, from, header->request, body, header->length);
        return true;
    default:
        return hold_frame(s, from, header, body);
    }
}

static bool lingers(const struct ch_spread *s, const struct task *t)
{
    bool open = s->now_ns - t->began_ns < STORED_GRACE_NS;
    for (unsigned word = 0; word < sizeof t->announce / sizeof *t->announce; word++)
        if (t->announce[word])
            return true;
    for (unsigned i = 0; i < t->holders; i++)
        if (open && (int)i != t->own && s->peer[t->holder[i]].up &&
            (t->ask[i].state == ASK_IDLE || t->ask[i].state == ASK_ASKED))
            return true;
    return false;
}

static void tick_task(struct ch_spread *s, struct task *t)
{
    if (t->writes)
        write_on(s, t);
    for (unsigned i = 0; i < t->holders; i++) {
        struct ask *ask = &t->ask[i];
        if (ask->state == ASK_ASKED && s->now_ns - ask->at_ns >= CH_SPREAD_ASK_NS) {
            s->peer[t->holder[i]].timeouts++;
            spread_answered(s, t, i, ASK_FAILED);
        } else if (ask->state == ASK_FAILED && s->now_ns - ask->at_ns >= CH_SPREAD_AGAIN_NS) {
            ask->state = ASK_IDLE;
        }
    }
    if (t->phase == PHASE_FETCH)
        fetch_tick(s, t);
    if (t->phase > PHASE_FREE && t->phase < PHASE_DONE && t->phase != PHASE_PROVE &&
        s->now_ns - t->began_ns >= CH_SPREAD_TASK_NS)
        spread_finish(s, t, CH_STATUS_OVERLOADED);
    if (t->phase == PHASE_LINGER && t != s->told && !lingers(s, t))
        spread_release(s, t);
}

void ch_spread_tick(struct ch_spread *s, uint64_t now_ns)
{
    s->now_ns = now_ns;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++)
        if (s->task[i].phase != PHASE_FREE)
            tick_task(s, &s->task[i]);
    repair_tick(s);
}

/* --- out --- */

bool ch_spread_next_send(struct ch_spread *s, uint16_t *to, struct ch_frame_header *header, uint8_t *body)
{
    if (hold_next_send(s, to, header, body))
        return true;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++) {
        struct task *t = &s->task[i];
        if (t->phase == PHASE_FREE)
            continue;
        if (next_announcement(s, t, to, header, body) || next_shard(s, t, to, header, body) ||
            (t->phase == PHASE_FETCH && fetch_next_send(s, t, to, header, body)))
            return true;
    }
    return hold_next_renewal(s, to, header, body) || repair_next_send(s, to, header, body);
}

bool ch_spread_next_done(struct ch_spread *s, struct ch_spread_done *done)
{
    if (s->told) { /* the caller has copied its block */
        if (s->told->phase == PHASE_DONE)
            spread_release(s, s->told);
        s->told = NULL;
    }
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++) {
        struct task *t = &s->task[i];
        if (t->phase != PHASE_DONE)
            continue;
        *done = (struct ch_spread_done){.ticket = t->ticket,
                                        .status = t->status,
                                        .block = t->status == CH_STATUS_OK ? t->shards : NULL,
                                        .length = t->status == CH_STATUS_OK ? t->m.length : 0};
        bool announces = t->kind != KIND_GET && t->status == CH_STATUS_OK && !t->proven;
        if (announces)
            t->phase = PHASE_LINGER;
        if (t->kind == KIND_RESTORE)
            repair_ended(s, t);
        if (!t->ticket) { /* repair's own */
            if (t->phase == PHASE_DONE)
                spread_release(s, t);
            continue;
        }
        s->told = t;
        return true;
    }
    return false;
}

uint64_t ch_spread_deadline_ns(const struct ch_spread *s)
{
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++)
        if (s->task[i].phase != PHASE_FREE)
            return s->now_ns + 20000000;
    return repair_busy(s) ? s->now_ns + 20000000 : s->now_ns + 1000000000;
}

bool ch_spread_is_stored(const struct ch_spread_store *store, const struct ch_cid *cid, uint32_t length)
{
    uint8_t name[CH_HASH_BYTES];
    hold_stored_name(cid, length, name);
    return store->has(store->context, CH_SPREAD_STORED, name);
}

void ch_spread_stats(const struct ch_spread *s, struct ch_spread_stats *stats)
{
    *stats = s->stats;
    stats->repair_waiting = s->missing_count;
    stats->repair_left = 0;
    for (unsigned i = 0; i < s->setup.validators; i++)
        stats->repair_left += !s->peer[i].listed;
    for (unsigned i = 0; i < CH_SPREAD_TASKS; i++)
        stats->repair_waiting += s->task[i].phase != PHASE_FREE && s->task[i].kind == KIND_RESTORE;
}

void ch_spread_peer_stats(const struct ch_spread *s, uint16_t validator, uint64_t *lies, uint64_t *timeouts)
{
    *lies = s->peer[validator].lies;
    *timeouts = s->peer[validator].timeouts;
}
