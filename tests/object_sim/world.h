/* tests/object_sim/world.h - a committee's spread machines in virtual time: a network that delays, drops and reorders,
 * disks that forget what is not durable, and validators that lie. The same seed, the same run. */
#ifndef CHAPPE_TESTS_OBJECT_SIM_WORLD_H
#define CHAPPE_TESTS_OBJECT_SIM_WORLD_H

#include "node/spread.h"
#include "store/erasure.h"

#include "tests/test.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* not every test asks everything of it */

#define NODES_MAX  40
#define BLOCKS_MAX 256
#define MS         UINT64_C(1000000)

enum fault {
    HONEST,
    LIES_SHARDS,    /* a bit of each shard it gives is flipped */
    LIES_AGES,      /* says that what it gives is as old as can be */
    LIES_MANIFESTS, /* gives a manifest of its own making, and a shard that fits it */
    WITHHOLDS,      /* takes all, signs all, gives nothing */
    CODES_WRONG,    /* what it codes hangs together by its manifest, and decodes to something else */
    SIGNS_WRONG,    /* its signatures do not hold */
    SILENT,         /* gone, and the others have not noticed yet */
    STALLS,         /* gives garbage after two seconds, then nothing */
    FAULTS
};

struct record {
    enum ch_spread_kind kind;
    uint8_t name[CH_HASH_BYTES];
    uint8_t *bytes;
    size_t length;
    uint64_t cookie, durable_at; /* durable_at 0: it is */
    uint64_t put_ms;
};

struct node {
    struct ch_spread *spread;
    struct ch_sign_key key;
    enum fault fault;
    bool up, stalled;
    struct record *record;
    size_t records, room;
};

struct message {
    uint64_t at_ns;
    uint16_t from, to;
    struct ch_frame_header header;
    uint8_t *body;
};

struct block {
    struct ch_cid cid;
    uint8_t *bytes;
    size_t length;
    bool stored; /* an honest validator said so */
};

struct world {
    struct ch_prng random;
    uint64_t now_ns, drop_of_1000;
    uint64_t puts, refused_from, refused; /* calls of disks' put; those from one on, so many, find the disk full */
    unsigned n, f;
    struct node node[NODES_MAX];
    uint8_t keys[NODES_MAX][CH_HASH_BYTES];
    uint8_t chain_id[CH_HASH_BYTES];
    struct message *message;
    size_t messages, message_room;
    struct block block[BLOCKS_MAX];
    unsigned blocks;
    /* of the last done on each node, by ticket - 1 */
    struct {
        bool is;
        enum ch_status status;
        uint8_t *bytes;
        size_t length;
    } done[NODES_MAX][BLOCKS_MAX];
};

static uint64_t below(struct world *w, uint64_t bound)
{
    return ch_prng_below(&w->random, bound);
}

/* --- disks --- */

struct disk {
    struct world *w;
    unsigned node;
};
static struct disk disks[NODES_MAX];

static struct record *find(void *context, enum ch_spread_kind kind, const uint8_t *name)
{
    const struct disk *d = context;
    struct node *node = &d->w->node[d->node];
    for (size_t i = 0; i < node->records; i++)
        if (node->record[i].kind == kind && memcmp(node->record[i].name, name, CH_HASH_BYTES) == 0)
            return &node->record[i];
    return NULL;
}

static bool disk_has(void *context, enum ch_spread_kind kind, const uint8_t *name)
{
    const struct record *r = find(context, kind, name);
    return r && !r->durable_at;
}

static ch_err disk_get(void *context, enum ch_spread_kind kind, const uint8_t *name, uint8_t *to, size_t capacity,
                       size_t *length, uint64_t *put_ms)
{
    const struct record *r = find(context, kind, name);
    if (!r || r->durable_at)
        return CH_ERR_NOT_FOUND;
    assert_true(r->length <= capacity);
    if (r->length)
        memcpy(to, r->bytes, r->length);
    *length = r->length;
    if (put_ms)
        *put_ms = r->put_ms;
    return CH_OK;
}

static ch_err disk_put(void *context, const struct ch_spread_record *what, uint64_t cookie)
{
    const struct disk *d = context;
    struct world *w = d->w;
    struct node *node = &w->node[d->node];
    const struct record *there = find(context, what->kind, what->name);
    if (there && !there->durable_at)
        return CH_ERR_EXISTS;
    if (below(w, 20) == 0)
        return CH_ERR_FULL;
    if (++w->puts - w->refused_from < w->refused)
        return CH_ERR_NO_SPACE;
    if (node->records == node->room) {
        node->room = 2 * node->room + 64;
        node->record = realloc(node->record, node->room * sizeof *node->record);
    }
    /* where one is on its way already, a second of the same name stands for the second cookie */
    struct record *r = &node->record[node->records++];
    *r = (struct record){.kind = what->kind, .length = what->length, .cookie = cookie};
    r->put_ms = what->put_ms && what->put_ms < w->now_ns / MS ? what->put_ms : w->now_ns / MS;
    r->durable_at = w->now_ns + MS + below(w, 8 * MS);
    r->bytes = malloc(what->length + 1);
    memcpy(r->name, what->name, CH_HASH_BYTES);
    if (what->length)
        memcpy(r->bytes, what->bytes, what->length);
    return CH_OK;
}

static ch_err disk_drop(void *context, enum ch_spread_kind kind, const uint8_t *name)
{
    const struct disk *d = context;
    struct record *r = find(context, kind, name);
    if (!r)
        return CH_ERR_NOT_FOUND;
    if (below(d->w, 20) == 0)
        return CH_ERR_FULL;
    for (; r; r = find(context, kind, name)) {
        memset(r->name, 0xff, CH_HASH_BYTES); /* what lies behind keeps its place, for cursors */
        r->kind = CH_SPREAD_SHARD;
    }
    return CH_OK;
}

static ch_err disk_list(void *context, enum ch_spread_kind kind, uint64_t *cursor, uint8_t (*names)[CH_HASH_BYTES],
                        size_t max, size_t *count, bool *end)
{
    const struct disk *d = context;
    const struct node *node = &d->w->node[d->node];
    *count = 0;
    for (; *cursor < node->records && *count < max && !node->record[*cursor].durable_at; (*cursor)++)
        if (node->record[*cursor].kind == kind)
            memcpy(names[(*count)++], node->record[*cursor].name, CH_HASH_BYTES);
    *end = *cursor >= node->records || node->record[*cursor].durable_at;
    return CH_OK;
}

/* Power loss: what is not durable is gone. `erase`: all is. */
static void lose(struct node *node, bool erase)
{
    size_t kept = 0;
    for (size_t i = 0; i < node->records; i++)
        if (erase || node->record[i].durable_at)
            free(node->record[i].bytes);
        else
            node->record[kept++] = node->record[i];
    node->records = kept;
}

/* --- life --- */

static void start(struct world *w, unsigned i)
{
    struct node *node = &w->node[i];
    const struct ch_spread_setup setup = {
        .validators = w->n,
        .me = (uint16_t)i,
        .keys = (const uint8_t(*)[CH_HASH_BYTES])w->keys,
        .key = &node->key,
        .chain_id = w->chain_id,
        .store = {&disks[i], disk_has, disk_get, disk_put, disk_drop, disk_list},
        .repair_bytes_per_second = 64 << 20,
        .new_store = 1 + below(w, UINT64_MAX - 1),
    };
    assert_ok(ch_spread_open(&setup, &node->spread));
    node->up = true;
    ch_spread_tick(node->spread, w->now_ns);
    for (unsigned k = 0; k < w->n; k++)
        if (k != i && w->node[k].up && w->node[k].spread) {
            ch_spread_peer(node->spread, (uint16_t)k, true);
            ch_spread_peer(w->node[k].spread, (uint16_t)i, true);
        }
}

static void stop(struct world *w, unsigned i, bool erase)
{
    struct node *node = &w->node[i];
    ch_spread_close(node->spread);
    node->spread = NULL;
    node->up = false;
    lose(node, erase);
    for (unsigned k = 0; k < w->n; k++)
        if (w->node[k].spread)
            ch_spread_peer(w->node[k].spread, (uint16_t)i, false);
    for (size_t m = 0; m < w->messages; m++) /* connections break */
        if (w->message[m].to == i || w->message[m].from == i)
            w->message[m].at_ns = UINT64_MAX;
}

static void world_open(struct world *w, uint64_t seed, unsigned n)
{
    *w = (struct world){.n = n, .f = (n - 1) / 3};
    ch_prng_seed(&w->random, seed);
    test_random_bytes(&w->random, w->chain_id, sizeof w->chain_id);
    for (unsigned i = 0; i < n; i++) {
        uint8_t seed_bytes[CH_SIGN_SEED_BYTES];
        test_random_bytes(&w->random, seed_bytes, sizeof seed_bytes);
        ch_sign_key_from_seed(seed_bytes, &w->node[i].key);
        memcpy(w->keys[i], w->node[i].key.public_key, CH_HASH_BYTES);
        disks[i] = (struct disk){w, i};
    }
    w->now_ns = MS;
    for (unsigned i = 0; i < n; i++)
        start(w, i);
}

static void world_close(struct world *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        ch_spread_close(w->node[i].spread);
        lose(&w->node[i], true);
        free(w->node[i].record);
        for (unsigned k = 0; k < BLOCKS_MAX; k++)
            free(w->done[i][k].bytes);
    }
    for (size_t m = 0; m < w->messages; m++)
        free(w->message[m].body);
    for (unsigned k = 0; k < w->blocks; k++)
        free(w->block[k].bytes);
    free(w->message);
}

static unsigned new_block(struct world *w, enum ch_cid_codec codec)
{
    static const size_t sizes[] = {0, 1, 300, 16383, 16384, 16385, 40000, 100000};
    struct block *b = &w->block[w->blocks];
    b->length = sizes[below(w, sizeof sizes / sizeof *sizes)];
    if (codec == CH_CID_DAG_PB)
        b->length = 200 + below(w, 70000);
    b->bytes = malloc(b->length + 8);
    test_random_bytes(&w->random, b->bytes, b->length);
    if (b->length < 300) /* all distinct */
        b->length = 8, ch_store64(b->bytes, w->blocks);
    ch_cid_of(codec, b->bytes, b->length, &b->cid);
    return w->blocks++;
}

/* --- lies --- */

/* Codes some other block's bytes under this CID: a manifest that hangs together. */
static void forge(struct world *w, struct ch_manifest *m, uint8_t *shards)
{
    static struct ch_erasure code;
    ch_erasure_init(&code, m->n, m->k);
    test_random_bytes(&w->random, shards, (size_t)m->k * m->shard_bytes);
    ch_erasure_encode(&code, shards, m->shard_bytes);
    for (unsigned i = 0; i < m->n; i++)
        ch_hash(shards + (size_t)i * m->shard_bytes, m->shard_bytes, m->hash[i]);
}

/* What a liar's frame becomes on its way; false: it is not sent. */
static bool bend(struct world *w, unsigned from, struct ch_frame_header *header, uint8_t *body)
{
    enum fault fault = w->node[from].fault;
    static uint8_t shards[CH_SHARDS_ALL_BYTES_MAX];
    struct ch_manifest m;
    struct ch_reader r = ch_reader(body, header->length);
    memset(&m, 0, sizeof m);
    if (fault == SILENT)
        return false;
    if (header->type == CH_FRAME_OBJECT_SHARD) {
        if (fault == STALLS) {
            header->length = 3;
            return !w->node[from].stalled && (w->node[from].stalled = true);
        }
        if (fault == WITHHOLDS)
            return below(w, 2) != 0 ? false : (ch_store16(body, CH_STATUS_NOT_FOUND), header->length = 2, true);
        if (ch_read16(&r) != CH_STATUS_OK || (fault != LIES_SHARDS && fault != LIES_MANIFESTS && fault != LIES_AGES))
            return true;
        (void)ch_read64(&r);
        if (fault == LIES_AGES) {
            ch_store64(body + 2, 1);
            return true;
        }
        uint16_t length = ch_read16(&r);
        const uint8_t *manifest = ch_read(&r, length);
        if (!ch_manifest_read(manifest, length, w->n, &m))
            return true;
        if (fault == LIES_SHARDS || m.k == 1) {
            if (r.left)
                body[header->length - 1 - below(w, r.left)] ^= (uint8_t)(1 << below(w, 8));
        } else {
            uint16_t holder[CH_SHARDS_MAX];
            unsigned count = ch_placement(&m.cid, (const uint8_t(*)[CH_HASH_BYTES])w->keys, w->n, holder), own = 0;
            while (own < count && holder[own] != from)
                own++;
            forge(w, &m, shards);
            (void)ch_manifest_write(&m, body + 12);
            memcpy(body + 12 + length, shards + (size_t)own * m.shard_bytes, m.shard_bytes);
        }
    } else if (header->type == CH_FRAME_SHARD_STORED && fault == SIGNS_WRONG && header->length > 2) {
        body[2 + below(w, 64)] ^= 4;
    } else if (header->type == CH_FRAME_PUT_OBJECT_SHARD && fault == CODES_WRONG) {
        uint16_t length = ch_read16(&r), to = 0;
        const uint8_t *manifest = ch_read(&r, length);
        if (!ch_manifest_read(manifest, length, w->n, &m) || m.k == 1)
            return true;
        /* the same forgery for all holders of a block: seeded by its CID */
        struct ch_prng kept = w->random;
        ch_prng_seed(&w->random, ch_load64(ch_cid_digest(&m.cid)));
        while (to < m.n && memcmp(m.hash[to], (uint8_t[CH_HASH_BYTES]){0}, CH_HASH_BYTES) != 0) {
            uint8_t hash[CH_HASH_BYTES];
            ch_hash(r.at, r.left, hash);
            if (memcmp(hash, m.hash[to], CH_HASH_BYTES) == 0)
                break;
            to++;
        }
        forge(w, &m, shards);
        w->random = kept;
        (void)ch_manifest_write(&m, body + 2);
        memcpy(body + 2 + length, shards + (size_t)to * m.shard_bytes, m.shard_bytes);
    }
    return true;
}

/* --- time --- */

static void send_all(struct world *w, unsigned i)
{
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX];
    struct ch_frame_header header;
    uint16_t to;
    while (ch_spread_next_send(w->node[i].spread, &to, &header, body)) {
        if (!bend(w, i, &header, body) || below(w, 1000) < w->drop_of_1000 || !w->node[to].up)
            continue;
        if (w->messages == w->message_room) {
            w->message_room = 2 * w->message_room + 64;
            w->message = realloc(w->message, w->message_room * sizeof *w->message);
        }
        struct message *m = &w->message[w->messages++];
        *m = (struct message){.at_ns = w->now_ns + MS / 2 + below(w, 20 * MS) + (w->node[i].fault == STALLS ? 2000 * MS : 0),
                              .from = (uint16_t)i,
                              .to = to,
                              .header = header,
                              .body = malloc(header.length + 1u)};
        if (header.length)
            memcpy(m->body, body, header.length);
    }
}

static void take_done(struct world *w, unsigned i)
{
    struct ch_spread_done done;
    while (ch_spread_next_done(w->node[i].spread, &done)) {
        assert_in_range(done.ticket, 1, BLOCKS_MAX);
        free(w->done[i][done.ticket - 1].bytes);
        w->done[i][done.ticket - 1].is = true;
        w->done[i][done.ticket - 1].status = done.status;
        w->done[i][done.ticket - 1].length = done.length;
        w->done[i][done.ticket - 1].bytes = malloc(done.length + 1);
        if (done.length)
            memcpy(w->done[i][done.ticket - 1].bytes, done.block, done.length);
    }
}

/* 5 ms of virtual time. */
static void step(struct world *w)
{
    w->now_ns += 5 * MS;
    for (unsigned i = 0; i < w->n; i++) {
        struct node *node = &w->node[i];
        for (size_t k = 0; k < node->records && node->spread; k++)
            if (node->record[k].durable_at && node->record[k].durable_at <= w->now_ns) {
                node->record[k].durable_at = 0;
                ch_spread_durable(node->spread, node->record[k].cookie);
            }
    }
    size_t kept = 0;
    for (size_t k = 0; k < w->messages; k++) {
        struct message *m = &w->message[k];
        bool gone = m->at_ns == UINT64_MAX || !w->node[m->to].spread;
        if (!gone && m->at_ns <= w->now_ns)
            gone = ch_spread_frame(w->node[m->to].spread, m->from, &m->header, m->body);
        if (gone)
            free(m->body);
        else
            w->message[kept++] = *m;
    }
    w->messages = kept;
    for (unsigned i = 0; i < w->n; i++)
        if (w->node[i].spread) {
            ch_spread_tick(w->node[i].spread, w->now_ns);
            send_all(w, i);
            take_done(w, i);
        }
}

static void run_ms(struct world *w, uint64_t ms)
{
    for (uint64_t end = w->now_ns + ms * MS; w->now_ns < end;)
        step(w);
}

/* --- asking --- */

/* The outcome on a node, or OVERLOADED when nothing came in two virtual minutes. */
static enum ch_status await(struct world *w, unsigned node, unsigned block)
{
    for (int i = 0; i < 24000 && !w->done[node][block].is && w->node[node].spread; i++)
        step(w);
    return w->done[node][block].is ? w->done[node][block].status : CH_STATUS_OVERLOADED;
}

static void begin_put(struct world *w, unsigned node, unsigned block)
{
    struct block *b = &w->block[block];
    struct ch_cid_block checked;
    assert_true(ch_cid_check(&b->cid, b->bytes, b->length, &checked));
    w->done[node][block].is = false;
    ch_err err;
    while ((err = ch_spread_put(w->node[node].spread, &checked, 0, block + 1)) == CH_ERR_FULL)
        step(w);
    assert_ok(err);
}

static enum ch_status put(struct world *w, unsigned node, unsigned block)
{
    begin_put(w, node, block);
    enum ch_status status = await(w, node, block);
    w->block[block].stored |= status == CH_STATUS_OK && w->node[node].fault != CODES_WRONG;
    return status;
}

/* Reads; bytes that come must be right, always. */
static enum ch_status get(struct world *w, unsigned node, unsigned block)
{
    const struct block *b = &w->block[block];
    w->done[node][block].is = false;
    while (ch_spread_get(w->node[node].spread, &b->cid, block + 1) == CH_ERR_FULL)
        step(w);
    enum ch_status status = await(w, node, block);
    if (status == CH_STATUS_OK) {
        assert_int_equal(w->done[node][block].length, b->length);
        assert_memory_equal(w->done[node][block].bytes, b->bytes, b->length);
    }
    return status;
}

/* Of a node that is up; again as long as the disk takes no more. */
static void until_taken(struct world *w, unsigned node, unsigned block,
                        ch_err (*call)(struct ch_spread *, const struct ch_cid *, uint32_t))
{
    const struct block *b = &w->block[block];
    ch_err err;
    while ((err = call(w->node[node].spread, &b->cid, (uint32_t)b->length)) == CH_ERR_FULL)
        step(w);
    assert_ok(err);
}

/* A message names the block, and every validator that is up and has something of it learns of that. */
static void name(struct world *w, unsigned block)
{
    const struct block *b = &w->block[block];
    for (unsigned i = 0; i < w->n; i++) {
        struct ch_spread_store store = {&disks[i], disk_has, disk_get, disk_put, disk_drop, disk_list};
        if (w->node[i].up && (ch_spread_is_stored(&store, &b->cid, (uint32_t)b->length) ||
                              ch_spread_is_held(&store, w->n, &b->cid)))
            until_taken(w, i, block, ch_spread_name);
    }
}

/* How many records of blocks a node has that were not dropped. */
static unsigned records_of(const struct world *w, unsigned node)
{
    unsigned count = 0;
    for (size_t i = 0; i < w->node[node].records; i++)
        count += w->node[node].record[i].kind != CH_SPREAD_MARK &&
                 (w->node[node].record[i].name[0] != 0xff || w->node[node].record[i].name[1] != 0xff);
    return count;
}

static unsigned some_honest(struct world *w)
{
    for (;;) {
        unsigned i = (unsigned)below(w, w->n);
        if (w->node[i].up && w->node[i].fault == HONEST)
            return i;
    }
}

static unsigned some_other_up(struct world *w, enum fault fault)
{
    for (;;) {
        unsigned i = (unsigned)below(w, w->n);
        if (w->node[i].up && w->node[i].fault == fault)
            return i;
    }
}

static uint64_t lies_seen_of(const struct world *w, unsigned liar)
{
    uint64_t all = 0, lies, timeouts;
    for (unsigned i = 0; i < w->n; i++)
        if (w->node[i].spread && w->node[i].fault == HONEST) {
            ch_spread_peer_stats(w->node[i].spread, (uint16_t)liar, &lies, &timeouts);
            all += lies;
        }
    return all;
}

static struct ch_spread_stats stats_of(const struct world *w, unsigned node)
{
    struct ch_spread_stats stats;
    ch_spread_stats(w->node[node].spread, &stats);
    return stats;
}

#endif
