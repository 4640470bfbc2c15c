/* node/spread_fetch.c - getting a block from any k validators, whatever the others say.
 *
 * One manifest is tried at a time: the one wanted, else the first that somebody names, which is wanted then. Who
 * answers with another one is remembered. When nobody is left to ask, the one that most others named is wanted next, if
 * those are more than gave a shard by this one: a true one is named by k, more than there are liars. When what was
 * decoded isn't what the CID names, the manifest is refused for good. Honest coders make the same manifest of a block,
 * so each refusal is a liar's.
 */
#include "node/spread_impl.h"

#define DATES_NS UINT64_C(2000000000) /* a restore waits so long for f+1 that say how old the block is */

static const uint8_t any[CH_HASH_BYTES]; /* no manifest's digest: every one is welcome */

static bool is_refused(const struct task *t, const uint8_t digest[CH_HASH_BYTES])
{
    for (unsigned i = 0; i < t->refused_count; i++)
        if (memcmp(t->refused[i], digest, CH_HASH_BYTES) == 0)
            return true;
    return false;
}

/* Shard i by this manifest, checked against it; length 0: it keeps none. */
static void take(struct task *t, unsigned i, const struct ch_manifest *m, const uint8_t digest[CH_HASH_BYTES],
                 const uint8_t *shard)
{
    bool wanted = memcmp(t->wanted, any, CH_HASH_BYTES) == 0 || memcmp(t->wanted, digest, CH_HASH_BYTES) == 0;
    if (!t->has_manifest && wanted) {
        t->m = *m;
        t->has_manifest = true;
        memcpy(t->digest, digest, CH_HASH_BYTES);
        memcpy(t->wanted, digest, CH_HASH_BYTES);
    } else if (!wanted) {
        t->ask[i].state = ASK_OTHER;
        memcpy(t->ask[i].other, digest, CH_HASH_BYTES);
        return;
    }
    t->ask[i].state = ASK_GAVE;
    if (i >= m->copies)
        return;
    if (m->shard_bytes)
        memcpy(t->shards + (m->k > 1 ? (size_t)i * m->shard_bytes : 0), shard, m->shard_bytes);
    t->present |= 1u << i;
}

/* A holder says since when it has the block. */
static void date(struct task *t, unsigned i, uint64_t put_ms)
{
    if (t->ask[i].state != ASK_GAVE || !put_ms)
        return;
    t->dated |= 1u << i;
    t->put_ms = t->put_ms > put_ms ? t->put_ms : put_ms;
}

/* Enough say how old the block is, or there is no waiting for that. */
static bool is_dated(const struct ch_spread *s, const struct task *t, unsigned open)
{
    return t->kind != KIND_RESTORE || t->ticket || !open || s->now_ns - t->began_ns >= DATES_NS ||
           (unsigned)__builtin_popcount(t->dated) > s->faults_max;
}

static void take_own(struct ch_spread *s, struct task *t)
{
    struct ch_manifest m;
    uint8_t digest[CH_HASH_BYTES];
    uint64_t put_ms;
    if (t->own < 0 || t->ask[t->own].state != ASK_IDLE)
        return;
    if (hold_find(s, &t->cid, t->wanted, (const uint8_t(*)[CH_HASH_BYTES])t->refused, t->refused_count, &m, digest,
                  s->scratch, &put_ms)) {
        take(t, (unsigned)t->own, &m, digest, s->scratch);
        date(t, (unsigned)t->own, put_ms);
    } else {
        t->ask[t->own].state = ASK_NONE;
    }
}

/* The manifest that most others named, and how many did. */
static unsigned most_named(const struct task *t, const uint8_t **digest)
{
    unsigned best = 0;
    for (unsigned i = 0; i < t->holders; i++) {
        unsigned votes = 0;
        for (unsigned k = 0; k < t->holders && t->ask[i].state == ASK_OTHER; k++)
            votes += t->ask[k].state == ASK_OTHER && memcmp(t->ask[k].other, t->ask[i].other, CH_HASH_BYTES) == 0;
        if (votes > best && !is_refused(t, t->ask[i].other)) {
            best = votes;
            *digest = t->ask[i].other;
        }
    }
    return best;
}

/* On to another manifest: `wanted`, which so many name, or whichever comes first. */
static void begin_anew(struct ch_spread *s, struct task *t, const uint8_t wanted[CH_HASH_BYTES], unsigned named)
{
    memcpy(t->wanted, wanted, CH_HASH_BYTES);
    t->wanted_by = named;
    for (unsigned i = 0; i < t->holders; i++) {
        if (t->ask[i].state == ASK_ASKED)
            spread_answered(s, t, i, ASK_IDLE);
        if (t->ask[i].state == ASK_GAVE || t->ask[i].state == ASK_OTHER)
            t->ask[i].state = ASK_IDLE;
    }
    t->has_manifest = false;
    t->present = t->dated = 0;
    t->put_ms = 0;
    take_own(s, t);
}

/* What was decoded by this manifest isn't the block: nobody is asked for it again. False: there were too many. */
static bool refuse(struct ch_spread *s, struct task *t)
{
    const uint8_t *next = any;
    s->stats.manifests_wrong++;
    if (t->refused_count == CH_SPREAD_REFUSED_MAX)
        return false;
    memcpy(t->refused[t->refused_count++], t->digest, CH_HASH_BYTES);
    unsigned named = most_named(t, &next);
    begin_anew(s, t, next, named);
    return true;
}

/* Decodes, encodes again, compares with the manifest, then with the CID. The k shards that it was decoded from come out
 * of the coder as they went in, and were held against the manifest when they came: others, or ours before it was
 * written. */
static bool is_whole(struct ch_spread *s, struct task *t)
{
    const struct ch_manifest *m = &t->m;
    if (m->k > 1) {
        uint8_t hash[CH_HASH_BYTES];
        unsigned used = 0;
        ch_erasure_decode(&s->code, t->shards, m->shard_bytes, t->present);
        ch_erasure_encode(&s->code, t->shards, m->shard_bytes);
        for (unsigned i = 0; i < m->n; i++) {
            if ((t->present >> i & 1) && used++ < m->k)
                continue;
            ch_hash(t->shards + (size_t)i * m->shard_bytes, m->shard_bytes, hash);
            if (memcmp(hash, m->hash[i], CH_HASH_BYTES) != 0)
                return false;
        }
        for (size_t i = m->length; i < (size_t)m->k * m->shard_bytes; i++)
            if (t->shards[i])
                return false;
    }
    return ch_cid_matches(&t->cid, t->shards, m->length);
}

static void fetched(struct ch_spread *s, struct task *t)
{
    if (t->kind == KIND_GET)
        spread_finish(s, t, CH_STATUS_OK);
    else if (t->proven && memcmp(t->digest, t->stored.manifest, CH_HASH_BYTES) == 0)
        spread_keep_own(s, t);
    else { /* no certificate, or one of a manifest that was wrong */
        t->proven = false;
        spread_begin(s, t);
    }
}

/* Where the task stands after an answer. */
static void settle(struct ch_spread *s, struct task *t)
{
    while (t->phase == PHASE_FETCH) {
        unsigned none = 0, open = 0;
        const uint8_t *other = any;
        for (unsigned i = 0; i < t->holders; i++) {
            enum ask_state state = t->ask[i].state;
            none += state == ASK_NONE;
            open += state == ASK_ASKED || (state == ASK_IDLE && s->peer[t->holder[i]].up);
        }
        if (t->has_manifest && (unsigned)__builtin_popcount(t->present) >= t->m.k) {
            if (!is_dated(s, t, open))
                return;
            if (is_whole(s, t)) {
                fetched(s, t);
                return;
            }
            if (!refuse(s, t))
                spread_finish(s, t, CH_STATUS_OVERLOADED);
            continue;
        }
        if (none > 2 * s->faults_max) { /* what n-f have signed for, f of them lying and f others, is seen at n-2f */
            spread_finish(s, t, CH_STATUS_NOT_FOUND);
            return;
        }
        /* More than there are liars name another one: nobody is waited for, but where that was said of this one too.
         * Else those who answer first could have us turn to and fro. */
        const unsigned named = most_named(t, &other);
        const bool waits = open && (named <= s->faults_max || t->wanted_by > s->faults_max);
        if (waits || named <= (unsigned)__builtin_popcount(t->present))
            return; /* maybe only until those are asked again that failed */
        begin_anew(s, t, other, named);
    }
}

void fetch_begin(struct ch_spread *s, struct task *t)
{
    t->phase = PHASE_FETCH;
    take_own(s, t);
    settle(s, t);
}

void fetch_tick(struct ch_spread *s, struct task *t)
{
    for (unsigned i = 0; i < t->holders; i++)
        if (t->ask[i].state == ASK_ASKED && s->now_ns - t->ask[i].at_ns >= CH_SPREAD_HEDGE_NS)
            t->ask[i].hedged = s->peer[t->holder[i]].silent = true;
    settle(s, t);
}

bool fetch_next_send(struct ch_spread *s, struct task *t, uint16_t *to, struct ch_frame_header *header, uint8_t *body)
{
    bool raw = ch_cid_codec(&t->cid) == CH_CID_RAW;
    unsigned need = t->has_manifest ? t->m.k : raw ? s->faults_max + 1 : 1;
    unsigned have = (unsigned)__builtin_popcount(t->present);
    if (t->kind == KIND_RESTORE && !t->ticket && need <= s->faults_max)
        need = s->faults_max + 1; /* to learn its age */
    uint32_t bytes = t->has_manifest ? t->m.shard_bytes : raw ? CH_BLOCK_BYTES_MAX / (s->faults_max + 1) : 65536;
    for (unsigned i = 0; i < t->holders; i++)
        have += t->ask[i].state == ASK_ASKED && !t->ask[i].hedged;
    if (have >= need)
        return false;
    bool wait = false; /* for one that has enough to do */
    for (unsigned at = 0; at < 2 * t->holders && !(wait && at >= t->holders); at++) {
        const unsigned i = at % t->holders;
        const struct peer *peer = &s->peer[t->holder[i]];
        /* Who is silent comes last: it may be gone, which shows late. */
        if ((int)i == t->own || t->ask[i].state != ASK_IDLE || peer->silent != (at >= t->holders))
            continue;
        if (!spread_may_ask(s, t->holder[i], bytes)) {
            wait |= peer->up;
            continue;
        }
        struct ch_writer w = ch_writer(body, CH_FRAME_BODY_BYTES_MAX);
        ch_write(&w, t->cid.bytes, CH_CID_BYTES);
        ch_write(&w, t->wanted, CH_HASH_BYTES);
        ch_write8(&w, (uint8_t)t->refused_count);
        ch_write(&w, t->refused, t->refused_count * (size_t)CH_HASH_BYTES);
        spread_asked(s, t, i, bytes);
        *to = t->holder[i];
        *header = (struct ch_frame_header){
            .type = CH_FRAME_GET_OBJECT_SHARD, .request = t->ask[i].request, .length = (uint32_t)w.used};
        return true;
    }
    return false;
}

/* The manifest and shard of an answer, or false for what no honest validator sends. */
static bool well_formed(struct ch_spread *s, const struct task *t, unsigned i, struct ch_reader *r,
                        struct ch_manifest *m, uint64_t *put_ms)
{
    uint8_t hash[CH_HASH_BYTES];
    *put_ms = ch_read64(r);
    uint16_t length = ch_read16(r);
    const uint8_t *manifest = ch_read(r, length);
    if (!manifest || !ch_manifest_read(manifest, length, s->setup.validators, m) ||
        memcmp(m->cid.bytes, t->cid.bytes, CH_CID_BYTES) != 0 || r->left != (i < m->copies ? m->shard_bytes : 0))
        return false;
    if (i >= m->copies)
        return true;
    ch_hash(r->at, r->left, hash);
    return memcmp(hash, m->hash[i], CH_HASH_BYTES) == 0;
}

void fetch_answer(struct ch_spread *s, struct task *t, unsigned i, const uint8_t *body, size_t length)
{
    struct ch_reader r = ch_reader(body, length);
    struct ch_manifest m;
    uint8_t digest[CH_HASH_BYTES];
    uint64_t put_ms;
    uint16_t status = ch_read16(&r);
    bool none = !r.bad && status == CH_STATUS_NOT_FOUND && r.left == 0;
    spread_answered(s, t, i, none ? ASK_NONE : ASK_FAILED);
    memset(&m, 0, sizeof m);
    if (!none && !r.bad && status == CH_STATUS_OK && well_formed(s, t, i, &r, &m, &put_ms)) {
        ch_manifest_digest(&m, digest);
        if (is_refused(t, digest)) {
            spread_lie(s, t->holder[i]);
        } else {
            take(t, i, &m, digest, r.at);
            date(t, i, put_ms);
        }
    } else if (!none && (r.bad || status == CH_STATUS_OK || r.left)) {
        spread_lie(s, t->holder[i]);
    }
    settle(s, t);
}
