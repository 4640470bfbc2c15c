/* node/spread_hold.c - what a validator keeps of others' blocks: takes it, signs for it, gives it back.
 *
 * Records of a block: the manifest under H("chappe/held/1" 0 | CID | u16 who brought it), so that a liar's wrong
 * manifest stands in nobody's way; our shard under H("chappe/part/1" 0 | CID | its hash), so that it goes with this
 * block alone, or the whole block under its own hash, as a node of a tree is kept by others too, who walk it; the
 * certificate under H("chappe/stored/1" 0 | CID | u32 length); when a message names the block, that under
 * H("chappe/named/1" 0 | CID | u32 length). The manifest is written first and dropped last: what is here of a block is
 * found by it.
 */
#include "node/spread_impl.h"

#define LISTER_IDLE_NS UINT64_C(1000000000)  /* without a question, and */
#define LISTER_TURN_NS UINT64_C(10000000000) /* after so long another one has its turn */
#define JUMP_NS        UINT64_C(10000000000) /* between two questions of one validator that don't follow the answer before */
#define ANSWERS_OF_ONE (2 * CH_SPREAD_ASKED_MAX) /* waiting: more than an honest validator asks at once */

void hold_manifest_name(const struct ch_cid *cid, uint16_t writer, uint8_t name[CH_HASH_BYTES])
{
    uint8_t who[2];
    const struct ch_bytes parts[2] = {{cid->bytes, CH_CID_BYTES}, {who, sizeof who}};
    ch_store16(who, writer);
    ch_hash_domain("chappe/held/1", parts, 2, name);
}

static void name_of_length(const char *domain, const struct ch_cid *cid, uint32_t length, uint8_t name[CH_HASH_BYTES])
{
    uint8_t bytes[4];
    const struct ch_bytes parts[2] = {{cid->bytes, CH_CID_BYTES}, {bytes, sizeof bytes}};
    ch_store32(bytes, length);
    ch_hash_domain(domain, parts, 2, name);
}

void hold_stored_name(const struct ch_cid *cid, uint32_t length, uint8_t name[CH_HASH_BYTES])
{
    name_of_length("chappe/stored/1", cid, length, name);
}

static void named_name(const struct ch_cid *cid, uint32_t length, uint8_t name[CH_HASH_BYTES])
{
    name_of_length("chappe/named/1", cid, length, name);
}

enum ch_spread_kind hold_shard_name(const struct ch_manifest *m, unsigned own, uint8_t name[CH_HASH_BYTES])
{
    const struct ch_bytes parts[2] = {{m->cid.bytes, CH_CID_BYTES}, {m->hash[own], CH_HASH_BYTES}};
    if (m->k == 1) {
        memcpy(name, m->hash[own], CH_HASH_BYTES);
        return CH_SPREAD_WHOLE;
    }
    ch_hash_domain("chappe/part/1", parts, 2, name);
    return CH_SPREAD_SHARD;
}

int hold_own_index(const struct ch_spread *s, const uint16_t *holder, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (holder[i] == s->setup.me)
            return (int)i;
    return -1;
}

/* --- signatures --- */

void hold_sign(struct ch_spread *s, const struct ch_cid *cid, uint32_t length, const uint8_t digest[CH_HASH_BYTES],
               uint8_t signature[64])
{
    uint8_t message[CH_SHARD_MESSAGE_BYTES];
    ch_shard_message(cid, length, digest, message);
    ch_sign(s->setup.key, s->prefix, s->prefix_length, message, sizeof message, signature);
}

static struct ch_ed25519_item item_of(const struct ch_spread *s, uint16_t validator, const uint8_t *signature,
                                      const uint8_t message[CH_SHARD_MESSAGE_BYTES])
{
    return (struct ch_ed25519_item){
        .key = s->setup.keys[validator],
        .signature = signature,
        .prefix = s->prefix,
        .prefix_length = (uint32_t)s->prefix_length,
        .message = message,
        .message_length = CH_SHARD_MESSAGE_BYTES,
    };
}

bool hold_signed(struct ch_spread *s, const struct ch_cid *cid, uint32_t length, const uint8_t digest[CH_HASH_BYTES],
                 uint16_t validator, const uint8_t signature[64])
{
    uint8_t message[CH_SHARD_MESSAGE_BYTES];
    bool valid;
    ch_shard_message(cid, length, digest, message);
    struct ch_ed25519_item item = item_of(s, validator, signature, message);
    ch_ed25519_verify(s->verifier, &item, 1, &valid);
    return valid;
}

bool hold_proves(struct ch_spread *s, const struct ch_stored *c)
{
    struct ch_ed25519_item items[CH_SHARDS_MAX];
    bool valid[CH_SHARDS_MAX];
    uint16_t holder[CH_SHARDS_MAX];
    uint8_t message[CH_SHARD_MESSAGE_BYTES];
    unsigned holders = ch_placement(&c->cid, s->setup.keys, s->setup.validators, holder);
    if (c->count < s->quorum)
        return false;
    ch_shard_message(&c->cid, c->length, c->manifest, message);
    for (unsigned i = 0; i < c->count; i++) {
        bool holds = false;
        for (unsigned k = 0; k < holders; k++)
            holds |= holder[k] == c->validator[i];
        if (!holds)
            return false;
        items[i] = item_of(s, c->validator[i], c->signature[i], message);
    }
    ch_ed25519_verify(s->verifier, items, c->count, valid);
    for (unsigned i = 0; i < c->count; i++)
        if (!valid[i])
            return false;
    return true;
}

/* --- what is here --- */

static bool read_manifest(const struct ch_spread_store *store, unsigned validators, const struct ch_cid *cid,
                          uint16_t writer, struct ch_manifest *m, uint8_t digest[CH_HASH_BYTES], uint64_t *put_ms)
{
    uint8_t name[CH_HASH_BYTES], bytes[CH_MANIFEST_BYTES_MAX];
    size_t length;
    hold_manifest_name(cid, writer, name);
    if (!store->has(store->context, CH_SPREAD_MANIFEST, name) ||
        store->get(store->context, CH_SPREAD_MANIFEST, name, bytes, sizeof bytes, &length, put_ms) != CH_OK ||
        !ch_manifest_read(bytes, length, validators, m))
        return false;
    ch_manifest_digest(m, digest);
    return true;
}

/* Who brought it, or -1. */
static int who_brought(struct ch_spread *s, const struct ch_cid *cid, const uint8_t wanted[CH_HASH_BYTES],
                       struct ch_manifest *m, uint64_t *put_ms)
{
    uint8_t digest[CH_HASH_BYTES];
    for (unsigned w = 0; w < s->setup.validators; w++)
        if (read_manifest(&s->setup.store, s->setup.validators, cid, (uint16_t)w, m, digest, put_ms) &&
            memcmp(digest, wanted, CH_HASH_BYTES) == 0)
            return (int)w;
    return -1;
}

/* Shard `own` is here. */
static bool has_shard(const struct ch_spread *s, const struct ch_manifest *m, unsigned own)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES];
    enum ch_spread_kind kind = hold_shard_name(m, own, name);
    return store->has(store->context, kind, name);
}

static bool get_shard_here(const struct ch_spread *s, const struct ch_manifest *m, unsigned own, uint8_t *to)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES];
    size_t length;
    enum ch_spread_kind kind = hold_shard_name(m, own, name);
    return store->get(store->context, kind, name, to, CH_SHARD_BYTES_MAX, &length, NULL) == CH_OK &&
           length == m->shard_bytes;
}

bool hold_is_certified(const struct ch_spread *s, const struct ch_manifest *m, const uint8_t digest[CH_HASH_BYTES])
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES], bytes[CH_STORED_BYTES_MAX];
    struct ch_stored stored;
    size_t length;
    hold_stored_name(&m->cid, m->length, name);
    if (store->get(store->context, CH_SPREAD_STORED, name, bytes, sizeof bytes, &length, NULL) != CH_OK)
        return false;
    struct ch_reader r = ch_reader(bytes, length);
    return ch_stored_read(&r, s->setup.validators, &stored) && memcmp(stored.manifest, digest, CH_HASH_BYTES) == 0;
}

/* Which manifest is given where there are several. What has a certificate is the same everywhere; without, a liar could
 * have each validator name another one first, and no k of them would name the right one. */
enum choice { WANTED, CERTIFIED, ANY, CHOICES };

static bool fits(const struct ch_spread *s, enum choice choice, const struct ch_manifest *m,
                 const uint8_t digest[CH_HASH_BYTES], const uint8_t wanted[CH_HASH_BYTES])
{
    return choice == WANTED      ? memcmp(digest, wanted, CH_HASH_BYTES) == 0
           : choice == CERTIFIED ? hold_is_certified(s, m, digest)
                                 : true;
}

bool hold_find(struct ch_spread *s, const struct ch_cid *cid, const uint8_t wanted[CH_HASH_BYTES],
               const uint8_t (*refused)[CH_HASH_BYTES], unsigned refused_count, struct ch_manifest *m,
               uint8_t digest[CH_HASH_BYTES], uint8_t *shard, uint64_t *put_ms)
{
    uint16_t holder[CH_SHARDS_MAX];
    int own = hold_own_index(s, holder, ch_placement(cid, s->setup.keys, s->setup.validators, holder));
    if (own < 0)
        return false;
    for (enum choice choice = WANTED; choice < CHOICES; choice++)
        for (unsigned w = 0; w < s->setup.validators; w++) {
            if (!read_manifest(&s->setup.store, s->setup.validators, cid, (uint16_t)w, m, digest, put_ms) ||
                !fits(s, choice, m, digest, wanted))
                continue;
            bool not = false;
            for (unsigned i = 0; i < refused_count; i++)
                not |= memcmp(digest, refused[i], CH_HASH_BYTES) == 0;
            if (not)
                continue;
            if (own >= m->copies || get_shard_here(s, m, (unsigned)own, shard))
                return true;
        }
    return false;
}

bool hold_mine(struct ch_spread *s, const struct ch_stored *stored, uint64_t *put_ms)
{
    uint16_t holder[CH_SHARDS_MAX];
    struct ch_manifest m;
    int own = hold_own_index(s, holder, ch_placement(&stored->cid, s->setup.keys, s->setup.validators, holder));
    *put_ms = 0;
    if (own < 0)
        return true;
    return who_brought(s, &stored->cid, stored->manifest, &m, put_ms) >= 0 &&
           (own >= m.copies || has_shard(s, &m, (unsigned)own));
}

bool ch_spread_is_held(const struct ch_spread_store *store, unsigned validators, const struct ch_cid *cid)
{
    uint8_t name[CH_HASH_BYTES];
    for (unsigned w = 0; w < validators; w++) {
        hold_manifest_name(cid, (uint16_t)w, name);
        if (store->has(store->context, CH_SPREAD_MANIFEST, name))
            return true;
    }
    return false;
}

bool ch_spread_record_block(enum ch_spread_kind kind, unsigned validators, const uint8_t *bytes, size_t length,
                            struct ch_cid *cid, uint32_t *block_bytes)
{
    struct ch_reader r = ch_reader(bytes, length);
    struct ch_manifest m;
    struct ch_stored stored;
    bool good = false;
    if (kind == CH_SPREAD_MANIFEST && (good = ch_manifest_read(bytes, length, validators, &m))) {
        *cid = m.cid;
        *block_bytes = m.length;
    } else if (kind == CH_SPREAD_STORED && (good = ch_stored_read(&r, validators, &stored))) {
        *cid = stored.cid;
        *block_bytes = stored.length;
    } else if (kind == CH_SPREAD_NAMED && (good = length == NAMED_BYTES)) {
        memcpy(cid->bytes, bytes, CH_CID_BYTES);
        *block_bytes = ch_load32(bytes + CH_CID_BYTES);
    }
    return good;
}

/* --- names, and what nobody names --- */

bool ch_spread_is_named(const struct ch_spread_store *store, const struct ch_cid *cid, uint32_t length)
{
    uint8_t name[CH_HASH_BYTES];
    named_name(cid, length, name);
    return store->has(store->context, CH_SPREAD_NAMED, name);
}

ch_err hold_put_named(struct ch_spread *s, const struct ch_cid *cid, uint32_t length, uint64_t put_ms, uint64_t cookie)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES], bytes[NAMED_BYTES];
    const struct ch_spread_record record = {.kind = CH_SPREAD_NAMED,
                                            .name = name,
                                            .bytes = bytes,
                                            .length = sizeof bytes,
                                            .cid = cid,
                                            .block_bytes = length,
                                            .put_ms = put_ms,
                                            .from = s->setup.me};
    named_name(cid, length, name);
    memcpy(bytes, cid->bytes, CH_CID_BYTES);
    ch_store32(bytes + CH_CID_BYTES, length);
    return store->put(store->context, &record, cookie);
}

bool hold_named_stored(const struct ch_spread *s, const uint8_t name[CH_HASH_BYTES], struct ch_stored *stored)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t bytes[CH_STORED_BYTES_MAX], at[CH_HASH_BYTES];
    struct ch_cid cid;
    uint32_t block_bytes;
    size_t length;
    if (store->get(store->context, CH_SPREAD_NAMED, name, bytes, sizeof bytes, &length, NULL) != CH_OK ||
        !ch_spread_record_block(CH_SPREAD_NAMED, s->setup.validators, bytes, length, &cid, &block_bytes))
        return false;
    hold_stored_name(&cid, block_bytes, at);
    if (store->get(store->context, CH_SPREAD_STORED, at, bytes, sizeof bytes, &length, NULL) != CH_OK)
        return false;
    struct ch_reader r = ch_reader(bytes, length);
    return ch_stored_read(&r, s->setup.validators, stored);
}

ch_err ch_spread_name(struct ch_spread *s, const struct ch_cid *cid, uint32_t length)
{
    struct ch_manifest m;
    uint8_t digest[CH_HASH_BYTES];
    ch_err err = hold_put_named(s, cid, length, 0, 0);
    if ((err != CH_OK && err != CH_ERR_EXISTS) || ch_spread_is_stored(&s->setup.store, cid, length))
        return err == CH_ERR_EXISTS ? CH_OK : err;
    for (unsigned w = 0; w < s->setup.validators; w++)
        if (read_manifest(&s->setup.store, s->setup.validators, cid, (uint16_t)w, &m, digest, NULL) &&
            m.length == length) {
            repair_unproven(s, &m, UINT64_MAX);
            break;
        }
    return CH_OK;
}

static ch_err drop(struct ch_spread *s, enum ch_spread_kind kind, const uint8_t name[CH_HASH_BYTES])
{
    ch_err err = s->setup.store.drop(s->setup.store.context, kind, name);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

ch_err ch_spread_close_block(struct ch_spread *s, const struct ch_cid *cid, uint32_t length)
{
    uint8_t name[CH_HASH_BYTES];
    repair_forget(s, cid); /* it would hand the parts to all anew, those too who have dropped theirs */
    hold_stored_name(cid, length, name);
    return drop(s, CH_SPREAD_STORED, name);
}

/* The same bytes are here as a block of the other codec. */
static bool is_two_blocks(const struct ch_spread *s, const struct ch_cid *cid, uint32_t length)
{
    struct ch_cid other;
    ch_cid_make(ch_cid_codec(cid) == CH_CID_RAW ? CH_CID_DAG_PB : CH_CID_RAW, ch_cid_digest(cid), &other);
    return ch_spread_is_stored(&s->setup.store, &other, length) ||
           ch_spread_is_held(&s->setup.store, s->setup.validators, &other);
}

ch_err ch_spread_drop(struct ch_spread *s, const struct ch_cid *cid, uint32_t length)
{
    uint16_t holder[CH_SHARDS_MAX];
    uint8_t name[CH_HASH_BYTES], digest[CH_HASH_BYTES];
    int own = hold_own_index(s, holder, ch_placement(cid, s->setup.keys, s->setup.validators, holder));
    ch_err err = ch_spread_close_block(s, cid, length);
    for (unsigned w = 0; err == CH_OK && w < s->setup.validators; w++) {
        struct ch_manifest m;
        if (own < 0 && w != s->setup.me) /* those of others come to holders alone */
            continue;
        if (read_manifest(&s->setup.store, s->setup.validators, cid, (uint16_t)w, &m, digest, NULL) && own < m.copies) {
            enum ch_spread_kind kind = hold_shard_name(&m, own < 0 ? 0 : (unsigned)own, name);
            if (kind == CH_SPREAD_SHARD || !is_two_blocks(s, cid, length))
                err = drop(s, kind, name);
        }
        hold_manifest_name(cid, (uint16_t)w, name);
        if (err == CH_OK && s->setup.store.has(s->setup.store.context, CH_SPREAD_MANIFEST, name))
            err = drop(s, CH_SPREAD_MANIFEST, name);
    }
    return err;
}

bool ch_spread_length(const struct ch_spread_store *store, unsigned validators, const struct ch_cid *cid,
                      uint64_t *bytes)
{
    for (unsigned w = 0; w < validators; w++) {
        struct ch_manifest m;
        uint8_t digest[CH_HASH_BYTES];
        if (!read_manifest(store, validators, cid, (uint16_t)w, &m, digest, NULL) ||
            !ch_spread_is_stored(store, cid, m.length))
            continue;
        *bytes = m.length;
        return true;
    }
    return false;
}

/* --- questions --- */

static struct answer *answer_new(struct ch_spread *s, uint16_t from, const struct ch_frame_header *header)
{
    if (s->peer[from].answers >= ANSWERS_OF_ONE)
        return NULL;
    for (unsigned i = 0; i < CH_SPREAD_ANSWERS_MAX; i++) {
        struct answer *a = &s->answer[i];
        if (a->used)
            continue;
        *a = (struct answer){.used = true,
                             .from = from,
                             .type = header->type,
                             .request = header->request,
                             .generation = ++s->generation,
                             .status = CH_STATUS_OK};
        s->peer[from].answers++;
        return a;
    }
    return NULL;
}

static void answer_free(struct ch_spread *s, struct answer *a)
{
    a->used = false;
    s->peer[a->from].answers--;
}

static void answer_ready(struct ch_spread *s, struct answer *a)
{
    a->ready = true;
    s->ready[(s->ready_first + s->ready_count++) % CH_SPREAD_ANSWERS_MAX] = (uint16_t)(a - s->answer);
}

void hold_durable(struct ch_spread *s, struct answer *a)
{
    if (a->writes_flying && --a->writes_flying == 0 && !a->ready)
        answer_ready(s, a);
}

/* The same writer has another manifest of this block on the way to the disk. */
static bool another_on_its_way(const struct ch_spread *s, const struct answer *a)
{
    for (unsigned i = 0; i < CH_SPREAD_ANSWERS_MAX; i++) {
        const struct answer *other = &s->answer[i];
        if (other->used && other != a && other->type == CH_FRAME_PUT_OBJECT_SHARD && other->writes_flying &&
            other->from == a->from && memcmp(other->cid.bytes, a->cid.bytes, CH_CID_BYTES) == 0 &&
            memcmp(other->digest, a->digest, CH_HASH_BYTES) != 0)
            return true;
    }
    return false;
}

/* Takes shard and manifest. CH_ERR_FULL: the store takes no more now. */
static ch_err keep(struct ch_spread *s, struct answer *a, const struct ch_manifest *m, const uint8_t *bytes,
                   size_t length, const uint8_t *shard, size_t shard_bytes, unsigned own)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint64_t cookie = a->generation * COOKIE_SLOTS + CH_SPREAD_TASKS + (uint64_t)(a - s->answer);
    struct ch_manifest there;
    uint8_t name[CH_HASH_BYTES];
    int writer = who_brought(s, &a->cid, a->digest, &there, NULL);
    hold_manifest_name(&a->cid, writer < 0 ? a->from : (uint16_t)writer, name);
    if (writer < 0 && (store->has(store->context, CH_SPREAD_MANIFEST, name) || another_on_its_way(s, a)))
        return CH_ERR_DENIED; /* an honest coder makes one manifest of a block */
    struct ch_spread_record record = {.kind = CH_SPREAD_MANIFEST,
                                      .name = name,
                                      .bytes = bytes,
                                      .length = length,
                                      .cid = &a->cid,
                                      .block_bytes = m->length,
                                      .fresh = true,
                                      .from = a->from};
    ch_err err = store->put(store->context, &record, cookie);
    a->writes_flying += err == CH_OK;
    if ((err != CH_OK && err != CH_ERR_EXISTS) || own >= m->copies)
        return err;
    record.kind = hold_shard_name(m, own, name);
    record.bytes = shard;
    record.length = shard_bytes;
    err = store->put(store->context, &record, cookie);
    a->writes_flying += err == CH_OK;
    return err;
}

static bool put_shard(struct ch_spread *s, uint16_t from, const struct ch_frame_header *header, struct ch_reader r)
{
    struct ch_manifest m;
    uint16_t holder[CH_SHARDS_MAX];
    uint16_t length = ch_read16(&r);
    const uint8_t *bytes = ch_read(&r, length);
    memset(&m, 0, sizeof m);
    struct answer *a = answer_new(s, from, header);
    if (!a) {
        s->stats.frames_malformed++;
        return true;
    }
    bool good = bytes && ch_manifest_read(bytes, length, s->setup.validators, &m);
    int own = good ? hold_own_index(s, holder, ch_placement(&m.cid, s->setup.keys, s->setup.validators, holder)) : -1;
    good = own >= 0 && r.left == (own < m.copies ? m.shard_bytes : 0);
    if (good && own < m.copies) {
        uint8_t hash[CH_HASH_BYTES];
        ch_hash(r.at, r.left, hash);
        good = memcmp(hash, m.hash[own], CH_HASH_BYTES) == 0;
    }
    ch_err err = CH_ERR_INVALID;
    if (good && s->full) {
        a->status = CH_STATUS_DISK_FULL;
        answer_ready(s, a);
        return true;
    }
    if (good) {
        a->cid = m.cid;
        a->block_bytes = m.length;
        ch_manifest_digest(&m, a->digest);
        err = keep(s, a, &m, bytes, length, r.at, r.left, (unsigned)own);
    }
    if (err == CH_ERR_FULL) {
        answer_free(s, a);
        return false;
    }
    if (!good || err == CH_ERR_DENIED || err == CH_ERR_INVALID)
        spread_lie(s, from);
    if (err != CH_OK && err != CH_ERR_EXISTS) {
        a->status = !good                      ? CH_STATUS_BAD_OBJECT
                    : err == CH_ERR_NO_SPACE ? CH_STATUS_DISK_FULL
                    : err == CH_ERR_TIMEOUT  ? CH_STATUS_STORE_AWAY
                                             : CH_STATUS_BAD_OBJECT;
        a->writes_flying = 0;
    }
    if (!a->writes_flying)
        answer_ready(s, a);
    return true;
}

static bool get_shard(struct ch_spread *s, uint16_t from, const struct ch_frame_header *header, struct ch_reader r)
{
    struct answer *a = answer_new(s, from, header);
    if (a) {
        ch_read_to(&r, a->cid.bytes, CH_CID_BYTES);
        ch_read_to(&r, a->digest, CH_HASH_BYTES);
        a->refused_count = ch_read8(&r);
        if (a->refused_count <= CH_SPREAD_REFUSED_MAX)
            ch_read_to(&r, a->refused, a->refused_count * (size_t)CH_HASH_BYTES);
        if (a->refused_count <= CH_SPREAD_REFUSED_MAX && ch_reader_done(&r) && ch_cid_valid(a->cid.bytes)) {
            answer_ready(s, a);
            return true;
        }
        answer_free(s, a);
    }
    s->stats.frames_malformed++;
    return true;
}

static void told_stored(struct ch_spread *s, uint16_t from, struct ch_reader r)
{
    struct ch_stored stored;
    if (!ch_stored_read(&r, s->setup.validators, &stored) || !ch_reader_done(&r))
        s->stats.frames_malformed++;
    else if (ch_spread_is_stored(&s->setup.store, &stored.cid, stored.length))
        (void)repair_put_certificate(s, &stored, from, 0, false); /* it is there: that only renews how long it waits */
    else if (hold_proves(s, &stored))
        repair_told(s, from, &stored);
    else
        spread_lie(s, from);
}

/* Each part of the list that is entered anew costs reading all of a segment's index. So one validator at a time goes
 * through it, and forward. */
static bool may_be_listed(struct ch_spread *s, uint16_t from, uint64_t cursor)
{
    struct peer *peer = &s->peer[from];
    bool taken = s->lister != from && s->lister != s->setup.validators && s->now_ns - s->listed_ns < LISTER_IDLE_NS &&
                 s->now_ns - s->lister_ns < LISTER_TURN_NS;
    bool jump = cursor != peer->given_cursor && cursor != peer->asked_cursor; /* the same again: not all could be taken */
    if (taken || (jump && s->now_ns < peer->jump_again_ns))
        return false;
    if (jump)
        peer->jump_again_ns = s->now_ns + JUMP_NS;
    if (s->lister != from) {
        s->lister = from;
        s->lister_ns = s->now_ns;
    }
    s->listed_ns = s->now_ns;
    peer->asked_cursor = cursor;
    return true;
}

bool hold_frame(struct ch_spread *s, uint16_t from, const struct ch_frame_header *header, const uint8_t *body)
{
    struct ch_reader r = ch_reader(body, header->length);
    struct answer *a;
    switch (header->type) {
    case CH_FRAME_PUT_OBJECT_SHARD:
        return put_shard(s, from, header, r);
    case CH_FRAME_GET_OBJECT_SHARD:
        return get_shard(s, from, header, r);
    case CH_FRAME_OBJECT_STORED:
        told_stored(s, from, r);
        return true;
    case CH_FRAME_LIST_STORED:
        a = header->length == 8 ? answer_new(s, from, header) : NULL;
        if (a) {
            a->cursor = ch_read64(&r);
            a->status = may_be_listed(s, from, a->cursor) ? CH_STATUS_OK : CH_STATUS_OVERLOADED;
            answer_ready(s, a);
        }
        s->stats.frames_malformed += !a;
        return true;
    default:
        s->stats.frames_malformed++;
        return true;
    }
}

/* --- answers --- */

static enum ch_frame_type write_shard(struct ch_spread *s, const struct answer *a, struct ch_writer *w)
{
    struct ch_manifest m;
    uint8_t digest[CH_HASH_BYTES], bytes[CH_MANIFEST_BYTES_MAX];
    uint16_t holder[CH_SHARDS_MAX];
    /* The shard is read to where it will stand behind a manifest, then moved up if that is shorter. */
    uint8_t *shard = w->start + 2 + 8 + 2 + CH_MANIFEST_BYTES_MAX;
    uint64_t put_ms;
    if (!hold_find(s, &a->cid, a->digest, a->refused, a->refused_count, &m, digest, shard, &put_ms)) {
        ch_write16(w, CH_STATUS_NOT_FOUND);
        return CH_FRAME_OBJECT_SHARD;
    }
    int own = hold_own_index(s, holder, ch_placement(&a->cid, s->setup.keys, s->setup.validators, holder));
    size_t length = ch_manifest_write(&m, bytes), shard_bytes = own < m.copies ? m.shard_bytes : 0;
    ch_write16(w, CH_STATUS_OK);
    ch_write64(w, put_ms);
    ch_write16(w, (uint16_t)length);
    ch_write(w, bytes, length);
    memmove(ch_write_room(w, shard_bytes), shard, shard_bytes);
    return CH_FRAME_OBJECT_SHARD;
}

static enum ch_frame_type write_list(struct ch_spread *s, struct answer *a, struct ch_writer *w)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t names[CH_SPREAD_LIST_MAX][CH_HASH_BYTES];
    size_t count = 0;
    bool end = true;
    if (a->status != CH_STATUS_OK ||
        store->list(store->context, CH_SPREAD_NAMED, &a->cursor, names, CH_SPREAD_LIST_MAX, &count, &end) != CH_OK) {
        ch_write16(w, CH_STATUS_OVERLOADED);
        return CH_FRAME_STORED_LIST;
    }
    s->peer[a->from].given_cursor = a->cursor;
    if (end && s->lister == a->from)
        s->lister = s->setup.validators;
    ch_write16(w, CH_STATUS_OK);
    ch_write64(w, s->mark.store);
    ch_write64(w, a->cursor);
    ch_write8(w, end);
    for (size_t i = 0; i < count; i++) {
        struct ch_stored stored;
        uint8_t bytes[CH_STORED_BYTES_MAX];
        if (hold_named_stored(s, names[i], &stored))
            ch_write(w, bytes, ch_stored_write(&stored, bytes));
    }
    return CH_FRAME_STORED_LIST;
}

ch_err ch_spread_renew(struct ch_spread *s, const struct ch_cid *cid, uint32_t length)
{
    const struct ch_spread_store *store = &s->setup.store;
    uint8_t name[CH_HASH_BYTES];
    size_t bytes;
    if (s->renewal_count == RENEWALS_MAX)
        return CH_ERR_FULL;
    struct renewal *r = &s->renewal[(s->renewal_first + s->renewal_count) % RENEWALS_MAX];
    hold_stored_name(cid, length, name);
    ch_err err = store->get(store->context, CH_SPREAD_STORED, name, r->bytes, sizeof r->bytes, &bytes, NULL);
    if (err != CH_OK)
        return err;
    r->length = (uint32_t)bytes;
    for (unsigned i = 0; i < s->setup.validators; i++)
        if (i != s->setup.me && s->peer[i].up)
            r->announce[i / 64] |= UINT64_C(1) << i % 64;
    s->renewal_count++;
    return CH_OK;
}

bool hold_next_renewal(struct ch_spread *s, uint16_t *to, struct ch_frame_header *header, uint8_t *body)
{
    for (; s->renewal_count; s->renewal_count--, s->renewal_first = (s->renewal_first + 1) % RENEWALS_MAX) {
        struct renewal *r = &s->renewal[s->renewal_first];
        for (unsigned word = 0; word < sizeof r->announce / sizeof *r->announce; word++)
            if (r->announce[word]) {
                unsigned i = word * 64 + (unsigned)__builtin_ctzll(r->announce[word]);
                r->announce[word] &= r->announce[word] - 1;
                memcpy(body, r->bytes, r->length);
                *to = (uint16_t)i;
                *header = (struct ch_frame_header){.type = CH_FRAME_OBJECT_STORED, .length = r->length};
                return true;
            }
    }
    return false;
}

bool hold_next_send(struct ch_spread *s, uint16_t *to, struct ch_frame_header *header, uint8_t *body)
{
    if (!s->ready_count)
        return false;
    struct answer *a = &s->answer[s->ready[s->ready_first]];
    s->ready_first = (s->ready_first + 1) % CH_SPREAD_ANSWERS_MAX;
    s->ready_count--;
    struct ch_writer w = ch_writer(body, CH_FRAME_BODY_BYTES_MAX);
    enum ch_frame_type type;
    if (a->type == CH_FRAME_GET_OBJECT_SHARD) {
        type = write_shard(s, a, &w);
    } else if (a->type == CH_FRAME_LIST_STORED) {
        type = write_list(s, a, &w);
    } else {
        type = CH_FRAME_SHARD_STORED;
        ch_write16(&w, (uint16_t)a->status);
        if (a->status == CH_STATUS_OK)
            hold_sign(s, &a->cid, a->block_bytes, a->digest, ch_write_room(&w, 64));
    }
    CH_ASSERT(!w.bad);
    *to = a->from;
    *header = (struct ch_frame_header){.type = (uint16_t)type, .request = a->request, .length = (uint32_t)w.used};
    answer_free(s, a);
    return true;
}
