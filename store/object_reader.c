#include <sodium.h>
#include <stdlib.h>

#include "store/object_impl.h"

#define READER_FILES 16
#define SCRUB_PAGES  16 /* of a run at once */
#define TRIES        3 /* a block may be moved between looking it up and reading it */

struct reader_file {
    uint32_t segment; /* 0: empty */
    uint32_t incarnation;
    struct ch_file *file;
    struct ch_file *direct; /* the same past the page cache, for large records; opened when first needed */
    struct object_key *key; /* of that incarnation; made when first needed */
    struct slot slot;
};

/* Large records are read past the page cache (measured twice as fast, and what else is cached stays) and in parts: one
 * is decrypted and hashed while the next one comes. (Only one is asked for at a time: a virtual disk tells of all that
 * it was asked for together.) Small ones are often the same few: nodes of trees, manifests, certificates. */
#define PART_BYTES       (256u << 10)
#define DIRECT_BYTES_MIN (64u << 10)

/* What is being read into the buffer. */
struct reading {
    struct ch_file *file;
    uint64_t offset;
    size_t length, read, part_bytes;
    uint32_t part; /* bytes in flight behind `read`; 0: none */
    ch_err err;
};

/* Where scrubbing is. */
struct scrub {
    uint32_t segment;
    struct ch_file *file; /* NULL: between segments */
    struct entry *entry;
    uint32_t count, next;
    uint8_t *plain;
    struct object_runs *runs; /* NULL: not at the index yet */
    uint32_t run, page;       /* that come next */
};

/* A tree that was there whole when the index had seen so many losses. */
struct whole {
    struct ch_cid cid;
    uint64_t losses; /* counted from 1; 0: an empty slot */
    uint64_t file_bytes;
    uint32_t nodes;
    int height; /* levels of nodes */
    bool told;  /* its blocks were told by ch_object_walk_tree then */
};
/* A block that was there then: one that thousands of links name costs no thousand reads of the index. */
struct present {
    struct ch_cid cid;
    uint32_t length;
    uint64_t losses; /* as above */
};
#define PRESENT 1024u

#define WHOLE_WAYS 8u
#define WHOLE_SETS 512u /* a tree's nodes nearly always find room for all */

struct ch_object_reader {
    struct ch_object_store *store;
    struct ch_io *io; /* its own: readers wait for nobody */
    struct object_crypt *crypt;
    struct reader_file cached[READER_FILES];
    uint64_t removals; /* of segments, when the cache was last looked through */
    uint64_t installs; /* of the store, when a place was last looked for */
    uint8_t *buffer;   /* records as they lie on the disk; registered with io */
    struct reading reading;
    uint8_t node[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link link[CH_UNIXFS_DEPTH_MAX][CH_UNIXFS_LINKS_MAX];
    uint32_t nodes_left; /* of a tree */
    struct whole whole[WHOLE_SETS][WHOLE_WAYS];
    unsigned whole_hand; /* which way is given up next */
    struct present present[PRESENT];
    uint64_t salt; /* which blocks take each other's slot can't be chosen from outside */
    struct scrub scrub;
};

#define BUFFER_BYTES (CH_BLOCK_BYTES_MAX + 2 * CH_IO_BLOCK_BYTES) /* the largest record, wherever it begins */

ch_err ch_object_reader_open(struct ch_object_store *store, struct ch_object_reader **out)
{
    struct ch_object_reader *r = calloc(1, sizeof *r);
    if (!r)
        return CH_ERR_NO_MEMORY;
    r->store = store;
    randombytes_buf(&r->salt, sizeof r->salt);
    ch_err err = ch_io_open_another(store->io, &r->io);
    if (err == CH_OK && !(r->buffer = ch_io_memory(BUFFER_BYTES)))
        err = CH_ERR_NO_MEMORY;
    if (err == CH_OK) {
        ch_io_register(r->io, r->buffer, BUFFER_BYTES);
        err = object_crypt_open(&r->crypt);
    }
    if (err == CH_OK)
        *out = r;
    else
        ch_object_reader_close(r);
    return err;
}

static void read_next_part(struct ch_object_reader *r)
{
    struct reading *g = &r->reading;
    size_t left = g->length - g->read;
    if (g->err != CH_OK || left == 0)
        return;
    g->part = (uint32_t)(left < g->part_bytes ? left : g->part_bytes);
    g->err = ch_io_submit(r->io, &(struct ch_io_request){.kind = CH_IO_OP_READ,
                                                         .file = g->file,
                                                         .data = r->buffer + g->read,
                                                         .length = g->part,
                                                         .offset = g->offset + g->read});
    if (g->err != CH_OK)
        g->part = 0;
}

static void start_reading(struct ch_object_reader *r, struct ch_file *file, size_t length, uint64_t offset,
                          size_t part_bytes)
{
    r->reading = (struct reading){.file = file, .offset = offset, .length = length, .part_bytes = part_bytes};
    read_next_part(r);
}

/* Waits until the first `length` bytes are there, or nothing is in flight any more. CH_ERR_CORRUPT: the file ends
 * before, or the disk does not give them: to whoever wants them that is as if it had changed them. */
static ch_err await(struct ch_object_reader *r, size_t length)
{
    struct reading *g = &r->reading;
    struct ch_io_done done;
    while (g->part && g->read < length) {
        ch_err err = ch_io_wait(r->io);
        if (err != CH_OK)
            return g->err = err;
        if (ch_io_poll(r->io, &done, 1) == 0)
            continue;
        g->err = done.err == CH_ERR_IO ? CH_ERR_CORRUPT : done.err;
        g->read += g->part;
        g->part = 0;
        read_next_part(r);
    }
    return g->err;
}

/* Reads into the buffer. CH_ERR_CORRUPT as above. */
static ch_err read_bytes(struct ch_object_reader *r, struct ch_file *file, size_t length, uint64_t offset)
{
    start_reading(r, file, length, offset, length);
    return await(r, length);
}

static void forget(struct ch_object_reader *r, struct reader_file *f)
{
    ch_io_close_file(r->io, f->file);
    ch_io_close_file(r->io, f->direct);
    f->file = f->direct = NULL;
    f->segment = 0;
}

static void leave_segment(struct ch_object_reader *r)
{
    ch_io_close_file(r->io, r->scrub.file);
    free(r->scrub.entry);
    r->scrub.file = NULL;
    r->scrub.entry = NULL;
}

void ch_object_reader_close(struct ch_object_reader *r)
{
    if (!r)
        return;
    for (int i = 0; i < READER_FILES && r->io; i++) {
        forget(r, &r->cached[i]);
        object_key_free(r->cached[i].key);
    }
    if (r->io) {
        leave_segment(r);
        object_runs_unref(r->store, r->scrub.runs);
        ch_io_register(r->io, NULL, 0);
    }
    ch_io_close(r->io);
    free(r->scrub.plain);
    object_crypt_close(r->crypt);
    ch_io_memory_free(r->buffer, BUFFER_BYTES);
    free(r);
}

/* Where the block lies, if it is durable. */
static ch_err find(struct ch_object_reader *r, const struct ch_cid *cid, struct place *place)
{
    const struct print print = object_print(r->store->index.key, ch_cid_digest(cid));
    ch_err err = object_find(r->store, &print, place, &r->installs);
    return err == CH_OK && !place->durable ? CH_ERR_NOT_FOUND : err;
}

/* The open file of a segment. CH_ERR_NOT_FOUND: it was destroyed. */
static ch_err file_of(struct ch_object_reader *r, uint32_t number, struct reader_file **out)
{
    struct reader_file *f = &r->cached[number % READER_FILES];
    char path[CH_IO_PATH_BYTES_MAX];
    uint64_t removals = atomic_load(&r->store->removals);
    if (removals != r->removals) { /* an open file keeps a destroyed segment's space */
        for (int i = 0; i < READER_FILES; i++)
            forget(r, &r->cached[i]);
        r->removals = removals;
    }
    *out = f;
    if (f->segment == number)
        return CH_OK;
    forget(r, f);
    pthread_rwlock_rdlock(&r->store->lock);
    const struct object_segment *segment = object_segment_find(r->store, number);
    if (segment)
        f->slot = segment->slot;
    pthread_rwlock_unlock(&r->store->lock);
    if (!segment)
        return CH_ERR_NOT_FOUND;
    object_path(r->store, number, path);
    ch_err err = f->key ? CH_OK : object_key_new(&f->key);
    if (err == CH_OK)
        err = ch_io_open(r->io, path, CH_IO_READ, &f->file);
    if (err == CH_OK) {
        f->segment = number;
        f->incarnation = 0;
    }
    return err;
}

static size_t disk_bytes(const struct place *place)
{
    return RECORD_HEADER_BYTES + (size_t)place->length + TAG_BYTES;
}

static bool is_of(const struct record *record, const uint8_t digest[CH_HASH_BYTES], const struct place *place)
{
    return record->kind == RECORD_BLOCK && record->segment == place->segment && record->length == place->length &&
           memcmp(ch_cid_digest(&record->cid), digest, CH_HASH_BYTES) == 0;
}

/* The header alone. CH_ERR_CORRUPT: what lies there is not what the index says. */
static ch_err read_header(struct ch_object_reader *r, struct reader_file *f, const uint8_t digest[CH_HASH_BYTES],
                          const struct place *place, struct record *record)
{
    ch_err err = read_bytes(r, f->file, RECORD_HEADER_BYTES, (uint64_t)place->unit * UNIT_BYTES);
    if (err == CH_OK && !(object_record_read(r->buffer, record) && is_of(record, digest, place)))
        err = CH_ERR_CORRUPT;
    return err;
}

/* Opens the disk_bytes of a record, which lies in the buffer or is being read there; CH_ERR_CORRUPT when anything in it
 * isn't as it was written. */
static ch_err open_record(struct ch_object_reader *r, struct reader_file *f, const uint8_t digest[CH_HASH_BYTES],
                          const struct place *place, const uint8_t *bytes, struct record *record, void *to)
{
    size_t lead = (size_t)(bytes - r->buffer) + RECORD_HEADER_BYTES; /* before the ciphertext */
    ch_err err = await(r, lead);
    if (err != CH_OK)
        return err;
    if (!object_record_read(bytes, record) || !is_of(record, digest, place))
        return CH_ERR_CORRUPT;
    if (f->incarnation != record->incarnation) {
        object_key_derive(r->crypt, r->store->master_key, &f->slot, record->incarnation, f->key);
        f->incarnation = record->incarnation;
    }
    object_open_begin(r->crypt, f->key, bytes, record, to, true);
    for (size_t have = lead - lead % PART_BYTES; err == CH_OK && have < lead + record->length;) {
        have += PART_BYTES;
        err = await(r, have);
        if (err == CH_OK)
            object_open_until(r->crypt, have - lead);
    }
    if (err == CH_OK)
        err = await(r, lead + record->length + TAG_BYTES);
    if (err == CH_OK && !object_open_end(r->crypt))
        err = CH_ERR_CORRUPT;
    return err;
}

/* Starts on reading a record; *lead: where in the buffer it will begin. */
static ch_err start_record(struct ch_object_reader *r, struct reader_file *f, const struct place *place, size_t *lead)
{
    char path[CH_IO_PATH_BYTES_MAX];
    uint64_t offset = (uint64_t)place->unit * UNIT_BYTES;
    ch_err err = CH_OK;
    *lead = 0;
    if (place->length < DIRECT_BYTES_MIN) {
        start_reading(r, f->file, disk_bytes(place), offset, PART_BYTES);
        return CH_OK;
    }
    if (!f->direct) {
        object_path(r->store, f->segment, path);
        err = ch_io_open(r->io, path, CH_IO_READ | CH_IO_DIRECT, &f->direct);
    }
    *lead = offset % CH_IO_BLOCK_BYTES;
    if (err == CH_OK)
        start_reading(r, f->direct, round_up(*lead + disk_bytes(place), CH_IO_BLOCK_BYTES), offset - *lead,
                      PART_BYTES);
    return err;
}

ch_err object_read_at(struct ch_object_reader *r, const uint8_t digest[CH_HASH_BYTES], const struct place *place,
                      struct record *record, void *to, size_t capacity)
{
    struct reader_file *f;
    size_t lead;
    ch_err err = file_of(r, place->segment, &f);
    if (err == CH_OK && place->length > capacity) { /* or only the index says so */
        err = read_header(r, f, digest, place, record);
        return err == CH_OK ? CH_ERR_FULL : err;
    }
    if (err == CH_OK)
        err = start_record(r, f, place, &lead);
    if (err != CH_OK)
        return err;
    err = open_record(r, f, digest, place, r->buffer + lead, record, to);
    ch_err rest = await(r, SIZE_MAX); /* nothing may be in flight when the buffer is used again */
    return err == CH_OK ? rest : err;
}

ch_err ch_object_get(struct ch_object_reader *r, const struct ch_cid *cid, void *to, size_t capacity, size_t *length)
{
    struct ch_object_tag tag;
    return ch_object_get_tagged(r, cid, to, capacity, length, &tag);
}

ch_err ch_object_get_tagged(struct ch_object_reader *r, const struct ch_cid *cid, void *to, size_t capacity,
                            size_t *length, struct ch_object_tag *tag)
{
    struct place place;
    struct record record;
    ch_err err = CH_ERR_NOT_FOUND;
    for (int i = 0; i < TRIES && err == CH_ERR_NOT_FOUND; i++) {
        err = find(r, cid, &place);
        if (err != CH_OK)
            return err;
        err = object_read_at(r, ch_cid_digest(cid), &place, &record, to, capacity);
    }
    if (err == CH_OK) {
        *length = place.length;
        *tag = record.tag;
    }
    if (err == CH_ERR_CORRUPT)
        object_note_damage(r->store, cid, &place, r->installs);
    return err;
}

void object_tell_damage(struct ch_object_store *s, const struct ch_cid *cid)
{
    s->damaged[s->damaged_end++ % CH_OBJECT_DAMAGED_MAX] = *cid;
    if (s->damaged_end - s->damaged_first > CH_OBJECT_DAMAGED_MAX)
        s->damaged_first++;
}

/* The table's entry of a place that was found, made where only a run has it; NULL: another one counts by now. Under the
 * write lock. */
static struct place *entry_of(struct ch_object_store *s, const struct print *print, const struct place *place,
                              uint64_t installs)
{
    struct place *there = object_index_find(&s->index, print);
    /* Of one that isn't in the table the runs' word is still the newest, unless others were installed. */
    if (!there && s->installs == installs && object_index_reserve(&s->index, print) == CH_OK) {
        object_index_set(&s->index, place);
        there = object_index_find(&s->index, print);
    }
    return there && !there->dropped && there->segment == place->segment && there->unit == place->unit ? there : NULL;
}

void object_note_damage(struct ch_object_store *s, const struct ch_cid *cid, const struct place *place,
                        uint64_t installs)
{
    const struct print print = object_print(s->index.key, ch_cid_digest(cid));
    pthread_rwlock_wrlock(&s->lock);
    struct place *there = entry_of(s, &print, place, installs);
    if (there && !there->damaged) {
        there->damaged = 1;
        atomic_fetch_add(&s->index.losses, 1);
        object_tell_damage(s, cid);
    }
    pthread_rwlock_unlock(&s->lock);
}

/* As what was found damaged, which is there and does not count. */
void ch_object_withhold(struct ch_object_store *s, const struct ch_cid *cid, bool withhold)
{
    const struct print print = object_print(s->index.key, ch_cid_digest(cid));
    struct place place;
    uint64_t installs;
    if (object_find(s, &print, &place, &installs) != CH_OK)
        return;
    pthread_rwlock_wrlock(&s->lock);
    struct place *there = entry_of(s, &print, &place, installs);
    if (there && there->durable) {
        there->damaged = withhold;
        atomic_fetch_add(&s->index.losses, withhold);
    }
    pthread_rwlock_unlock(&s->lock);
}

size_t ch_object_damaged(struct ch_object_store *s, struct ch_cid *cids, size_t max)
{
    size_t count = 0;
    pthread_rwlock_wrlock(&s->lock);
    while (count < max && s->damaged_first < s->damaged_end)
        cids[count++] = s->damaged[s->damaged_first++ % CH_OBJECT_DAMAGED_MAX];
    pthread_rwlock_unlock(&s->lock);
    return count;
}

ch_err ch_object_tag(struct ch_object_reader *r, const struct ch_cid *cid, struct ch_object_tag *tag, size_t *length)
{
    struct place place;
    struct reader_file *f;
    struct record record;
    ch_err err = CH_ERR_NOT_FOUND;
    for (int i = 0; i < TRIES && err == CH_ERR_NOT_FOUND; i++) {
        err = find(r, cid, &place);
        if (err != CH_OK)
            return err;
        err = file_of(r, place.segment, &f);
    }
    if (err == CH_OK)
        err = read_header(r, f, ch_cid_digest(cid), &place, &record);
    if (err == CH_OK) {
        *tag = record.tag;
        *length = place.length;
    }
    return err;
}

static uint32_t salted(const struct ch_object_reader *r, const struct ch_cid *cid)
{
    return (uint32_t)((ch_load64(ch_cid_digest(cid)) ^ r->salt) * 0x9e3779b97f4a7c15u >> 32);
}

ch_err ch_object_length(struct ch_object_reader *r, const struct ch_cid *cid, size_t *length)
{
    struct present *present = &r->present[salted(r, cid) & (PRESENT - 1)];
    const uint64_t losses = ch_object_losses(r) + 1;
    struct place place;
    if (present->losses == losses && memcmp(&present->cid, cid, sizeof *cid) == 0) {
        *length = present->length;
        return CH_OK;
    }
    ch_err err = find(r, cid, &place);
    if (err == CH_OK && place.damaged)
        err = CH_ERR_NOT_FOUND;
    if (err == CH_OK) {
        *present = (struct present){.cid = *cid, .length = place.length, .losses = losses};
        *length = place.length;
    }
    return err;
}

/* A walk over a tree. */
struct walk {
    void (*each)(void *context, const struct ch_cid *cid); /* NULL: nobody listens, and what is missing ends it */
    void *context;
    uint64_t losses; /* before it began */
};

/* Where it is remembered that the tree under this node is whole. Without that, a subtree that stands in a thousand
 * places would be read a thousand times, for whoever names it. */
static struct whole *whole_of(struct ch_object_reader *r, const struct ch_cid *cid)
{
    struct whole *set = r->whole[salted(r, cid) & (WHOLE_SETS - 1)], *empty = NULL;
    for (unsigned i = 0; i < WHOLE_WAYS; i++) {
        if (memcmp(&set[i].cid, cid, sizeof *cid) == 0)
            return &set[i];
        empty = set[i].losses || empty ? empty : &set[i];
    }
    return empty ? empty : &set[r->whole_hand++ % WHOLE_WAYS];
}

static bool known_whole(struct ch_object_reader *r, const struct walk *walk, const struct ch_cid *cid,
                        struct whole *out)
{
    const struct whole *known = whole_of(r, cid);
    *out = *known;
    return (!walk->each || known->told) && known->losses == walk->losses && memcmp(&known->cid, cid, sizeof *cid) == 0;
}

/* The tree under one link at a depth; `expected` bytes of the file, UINT64_MAX at the root, which says it itself. */
static ch_err walk_below(struct ch_object_reader *r, const struct walk *walk, const struct ch_cid *cid, int depth,
                         uint64_t expected, struct whole *out)
{
    size_t length;
    ch_err err;
    *out = (struct whole){.cid = *cid, .losses = walk->losses, .nodes = 1, .height = 1, .told = walk->each};
    if (ch_cid_codec(cid) == CH_CID_RAW) {
        err = ch_object_length(r, cid, &length);
        if (walk->each)
            walk->each(walk->context, cid);
        *out = (struct whole){.file_bytes = err == CH_OK ? length : 0};
        return err == CH_OK && expected != UINT64_MAX && expected != length ? CH_ERR_INVALID : err;
    }
    struct whole known;
    if (known_whole(r, walk, cid, &known)) {
        if (depth + known.height > CH_UNIXFS_DEPTH_MAX || r->nodes_left < known.nodes)
            return CH_ERR_INVALID;
        r->nodes_left -= known.nodes;
        *out = known;
        return expected != UINT64_MAX && expected != known.file_bytes ? CH_ERR_INVALID : CH_OK;
    }
    if (depth == CH_UNIXFS_DEPTH_MAX || r->nodes_left == 0)
        return CH_ERR_INVALID;
    r->nodes_left--;
    err = ch_object_get(r, cid, r->node, sizeof r->node, &length);
    if (err != CH_OK)
        return err == CH_ERR_FULL ? CH_ERR_INVALID : err;
    if (walk->each)
        walk->each(walk->context, cid);
    size_t count = ch_unixfs_decode(r->node, length, r->link[depth]);
    if (count == 0)
        return CH_ERR_INVALID;
    ch_err worst = CH_OK;
    for (size_t i = 0; i < count && (worst == CH_OK || walk->each); i++) {
        struct whole below;
        err = walk_below(r, walk, &r->link[depth][i].cid, depth + 1, r->link[depth][i].file_bytes, &below);
        worst = worst == CH_OK ? err : worst;
        out->file_bytes += r->link[depth][i].file_bytes;
        out->nodes += below.nodes;
        if (below.height + 1 > out->height)
            out->height = below.height + 1;
    }
    if (worst == CH_OK)
        *whole_of(r, cid) = *out;
    return worst == CH_OK && expected != UINT64_MAX && expected != out->file_bytes ? CH_ERR_INVALID : worst;
}

uint64_t ch_object_losses(const struct ch_object_reader *r)
{
    return atomic_load(&r->store->index.losses);
}

static ch_err walk_from(struct ch_object_reader *r, struct walk *walk, const struct ch_cid *root, uint64_t *file_bytes)
{
    struct whole tree;
    if (!ch_cid_valid(root->bytes))
        return CH_ERR_INVALID;
    r->nodes_left = CH_OBJECT_TREE_NODES;
    walk->losses = ch_object_losses(r) + 1;
    ch_err err = walk_below(r, walk, root, 0, UINT64_MAX, &tree);
    if (err == CH_OK)
        *file_bytes = tree.file_bytes;
    return err;
}

ch_err ch_object_has_tree(struct ch_object_reader *r, const struct ch_cid *root, uint64_t *file_bytes)
{
    return walk_from(r, &(struct walk){0}, root, file_bytes);
}

ch_err ch_object_walk_tree(struct ch_object_reader *r, const struct ch_cid *root,
                           void (*each)(void *context, const struct ch_cid *cid), void *context)
{
    uint64_t bytes;
    return walk_from(r, &(struct walk){.each = each, .context = context}, root, &bytes);
}

/* --- scrubbing --- */

/* Both header slots of the segment that is being entered are whole. */
static ch_err check_slots(struct ch_object_reader *r)
{
    struct slot slot;
    ch_err err = read_bytes(r, r->scrub.file, 2 * SLOT_BYTES, 0);
    bool whole = err == CH_OK;
    for (size_t i = 0; whole && i < 2; i++)
        whole = object_slot_read(r->buffer + i * SLOT_BYTES, r->store->master_key, &slot) == CH_OK &&
                slot.segment == r->scrub.segment;
    if (!whole && (err == CH_OK || err == CH_ERR_CORRUPT)) {
        atomic_store(&r->store->segment_damaged, r->scrub.segment);
        err = CH_OK;
    }
    return err;
}

/* Enters the next sealed segment; *is false when there is none. */
static ch_err enter_segment(struct ch_object_reader *r, bool *is)
{
    struct scrub *scrub = &r->scrub;
    char path[CH_IO_PATH_BYTES_MAX];
    uint64_t file_bytes = 0;
    *is = false;
    pthread_rwlock_rdlock(&r->store->lock);
    for (size_t i = 0; !*is && i < r->store->segment_count; i++) {
        const struct object_segment *segment = r->store->segment[i];
        if (segment->sealed && segment->slot.segment > scrub->segment) {
            scrub->segment = segment->slot.segment;
            file_bytes = segment->file_bytes;
            *is = true;
        }
    }
    pthread_rwlock_unlock(&r->store->lock);
    if (!*is)
        return CH_OK;
    object_path(r->store, scrub->segment, path);
    scrub->next = scrub->count = 0;
    ch_err err = ch_io_open(r->io, path, CH_IO_READ | CH_IO_DIRECT, &scrub->file);
    if (err == CH_OK) /* CH_ERR_NOT_FOUND: destroyed meanwhile */
        err = check_slots(r);
    if (err == CH_OK)
        err = object_footer_load(r->store, scrub->file, scrub->segment, file_bytes, &scrub->entry, &scrub->count);
    if (err == CH_ERR_CORRUPT)
        atomic_store(&r->store->segment_damaged, scrub->segment);
    if (err != CH_OK)
        leave_segment(r);
    if (err == CH_ERR_TIMEOUT) /* it is entered again */
        scrub->segment--;
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

/* Checks what an entry names; *bytes how many were read. CH_ERR_CORRUPT: it is damaged, and what the index names. */
static ch_err scrub_entry(struct ch_object_reader *r, const struct entry *entry, struct place *place, uint64_t *bytes)
{
    struct scrub *scrub = &r->scrub;
    struct record record;
    struct reader_file *f;
    struct place there;
    *bytes = 0;
    *place = (struct place){.print = object_print(r->store->index.key, entry->digest),
                            .segment = scrub->segment,
                            .unit = entry->unit,
                            .length = entry->length & 0x3fffff,
                            .durable = 1};
    if (entry->kind != RECORD_BLOCK)
        return CH_OK;
    ch_err err = file_of(r, place->segment, &f); /* for its key */
    uint64_t offset = (uint64_t)place->unit * UNIT_BYTES, from = offset - offset % CH_IO_BLOCK_BYTES;
    *bytes = round_up(offset + disk_bytes(place), CH_IO_BLOCK_BYTES) - from;
    if (err == CH_OK)
        err = read_bytes(r, scrub->file, *bytes, from);
    if (err == CH_OK)
        err = open_record(r, f, entry->digest, place, r->buffer + (offset - from), &record, scrub->plain);
    if (err == CH_ERR_CORRUPT) { /* a dead one may be what it likes */
        err = object_find(r->store, &place->print, &there, &r->installs);
        if (err == CH_OK && there.durable && there.segment == place->segment && there.unit == place->unit)
            err = CH_ERR_CORRUPT;
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

/* Checks some pages of the index, and marks a run that has a damaged one: the owner makes it again. *passed: that were
 * all. */
static ch_err scrub_index(struct ch_object_reader *r, uint64_t *bytes, bool *passed)
{
    struct scrub *scrub = &r->scrub;
    char path[CH_IO_PATH_BYTES_MAX];
    if (!scrub->runs) {
        pthread_rwlock_rdlock(&r->store->lock);
        scrub->runs = r->store->runs;
        atomic_fetch_add(&scrub->runs->refs, 1);
        pthread_rwlock_unlock(&r->store->lock);
        scrub->run = scrub->page = 0;
    }
    *passed = scrub->run == scrub->runs->count;
    if (*passed) {
        object_runs_unref(r->store, scrub->runs);
        scrub->runs = NULL;
        return CH_OK;
    }
    struct object_run *run = scrub->runs->run[scrub->run];
    uint32_t left = run->pages - scrub->page, pages = left < SCRUB_PAGES ? left : SCRUB_PAGES;
    object_run_path(r->store, run->number, path);
    ch_err err = scrub->file ? CH_OK : ch_io_open(r->io, path, CH_IO_READ | CH_IO_DIRECT, &scrub->file);
    if (err == CH_OK)
        err = read_bytes(r, scrub->file, (size_t)pages * CH_IO_BLOCK_BYTES, (uint64_t)scrub->page * CH_IO_BLOCK_BYTES);
    for (uint32_t i = 0; err == CH_OK && i < pages; i++)
        if (object_page_places(run, r->buffer + (size_t)i * CH_IO_BLOCK_BYTES, scrub->page + i) == 0)
            err = CH_ERR_CORRUPT;
    *bytes = (uint64_t)pages * CH_IO_BLOCK_BYTES;
    scrub->page += err == CH_OK ? pages : 0;
    if (err == CH_ERR_CORRUPT)
        atomic_store(&run->damaged, true);
    if (err == CH_OK && scrub->page < run->pages)
        return CH_OK;
    leave_segment(r);
    if (err == CH_OK || err == CH_ERR_CORRUPT || err == CH_ERR_NOT_FOUND) { /* another one took its place */
        scrub->run++;
        scrub->page = 0;
        err = CH_OK;
    }
    return err;
}

ch_err ch_object_scrub(struct ch_object_reader *r, uint64_t bytes_max,
                       void (*damaged)(void *context, const struct ch_cid *cid), void *context, uint64_t *read,
                       bool *passed)
{
    struct scrub *scrub = &r->scrub;
    ch_err err = CH_OK;
    *passed = false;
    *read = 0;
    if (!scrub->plain)
        scrub->plain = malloc(CH_BLOCK_BYTES_MAX);
    if (!scrub->plain)
        return CH_ERR_NO_MEMORY;
    for (uint64_t bytes; err == CH_OK && *read < bytes_max && !*passed; *read += bytes) {
        struct place place;
        bytes = 0;
        if (scrub->runs) {
            err = scrub_index(r, &bytes, passed);
            scrub->segment = *passed ? 0 : scrub->segment;
        } else if (!scrub->file) {
            bool is;
            err = enter_segment(r, &is);
            if (err == CH_OK && !is)
                err = scrub_index(r, &bytes, passed);
            scrub->segment = *passed ? 0 : scrub->segment;
        } else if (scrub->next == scrub->count) {
            leave_segment(r);
        } else {
            const struct entry *entry = &scrub->entry[scrub->next];
            err = scrub_entry(r, entry, &place, &bytes);
            scrub->next += err != CH_ERR_TIMEOUT;
            if (err == CH_ERR_CORRUPT) {
                struct ch_cid cid;
                ch_cid_make((enum ch_cid_codec)entry->codec, entry->digest, &cid);
                object_note_damage(r->store, &cid, &place, r->installs);
                damaged(context, &cid);
                err = CH_OK;
            }
        }
    }
    return err;
}
