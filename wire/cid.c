/* wire/cid.c
 *
 * A node, as dag-pb's canonical form has it (links before data), in protobuf; varints in their shortest form:
 *
 *   for each link   12 len ( 0a 24 CID(36) | 12 00 (no name) | 18 varint(tree bytes) )
 *   once            0a len ( 08 02 (file) | 18 varint(file bytes) | for each link 20 varint(its file bytes) )
 */
#include "wire/cid.h"

#include <stdlib.h>

static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";

void ch_cid_make(enum ch_cid_codec codec, const uint8_t digest[CH_HASH_BYTES], struct ch_cid *cid)
{
    cid->bytes[0] = 1;
    cid->bytes[1] = (uint8_t)codec;
    cid->bytes[2] = 0x12;
    cid->bytes[3] = CH_HASH_BYTES;
    memcpy(cid->bytes + 4, digest, CH_HASH_BYTES);
}

void ch_cid_of(enum ch_cid_codec codec, const void *block, size_t length, struct ch_cid *cid)
{
    uint8_t digest[CH_HASH_BYTES];
    ch_hash(block, length, digest);
    ch_cid_make(codec, digest, cid);
}

bool ch_cid_valid(const uint8_t bytes[CH_CID_BYTES])
{
    return bytes[0] == 1 && (bytes[1] == CH_CID_RAW || bytes[1] == CH_CID_DAG_PB) && bytes[2] == 0x12 &&
           bytes[3] == CH_HASH_BYTES;
}

bool ch_cid_matches(const struct ch_cid *cid, const void *block, size_t length)
{
    uint8_t digest[CH_HASH_BYTES];
    ch_hash(block, length, digest);
    return memcmp(digest, ch_cid_digest(cid), CH_HASH_BYTES) == 0;
}

static const char checked; /* its address is the mark */

bool ch_cid_check_digest(const struct ch_cid *cid, const uint8_t digest[CH_HASH_BYTES], const void *bytes,
                         size_t length, struct ch_cid_block *out)
{
    bool is = ch_cid_valid(cid->bytes) && memcmp(digest, ch_cid_digest(cid), CH_HASH_BYTES) == 0;
    *out = (struct ch_cid_block){.cid = *cid, .bytes = bytes, .length = length, .checked = is ? &checked : NULL};
    return is;
}

bool ch_cid_check(const struct ch_cid *cid, const void *bytes, size_t length, struct ch_cid_block *out)
{
    uint8_t digest[CH_HASH_BYTES];
    ch_hash(bytes, length, digest);
    return ch_cid_check_digest(cid, digest, bytes, length, out);
}

bool ch_cid_is_checked(const struct ch_cid_block *block)
{
    return block->checked == &checked;
}

void ch_cid_to_text(const struct ch_cid *cid, char text[CH_CID_TEXT_BYTES])
{
    uint32_t bits = 0, have = 0;
    char *at = text;
    *at++ = 'b';
    for (int i = 0; i < CH_CID_BYTES; i++) {
        bits = bits << 8 | cid->bytes[i];
        for (have += 8; have >= 5; have -= 5)
            *at++ = base32[bits >> (have - 5) & 31];
    }
    if (have)
        *at++ = base32[bits << (5 - have) & 31];
    *at = 0;
}

bool ch_cid_from_text(const char *text, struct ch_cid *cid)
{
    struct ch_cid parsed;
    uint32_t bits = 0, have = 0, count = 0;
    if (strnlen(text, CH_CID_TEXT_BYTES) != CH_CID_TEXT_BYTES - 1 || text[0] != 'b')
        return false;
    for (const char *at = text + 1; *at; at++) {
        const char *digit = strchr(base32, *at);
        if (!digit)
            return false;
        bits = bits << 5 | (uint32_t)(digit - base32);
        have += 5;
        if (have >= 8) {
            have -= 8;
            parsed.bytes[count++] = (uint8_t)(bits >> have);
        }
    }
    if ((bits & ((1u << have) - 1)) != 0 || !ch_cid_valid(parsed.bytes))
        return false;
    *cid = parsed;
    return true;
}

/* --- nodes --- */

static size_t varint_bytes(uint64_t value)
{
    size_t bytes = 1;
    for (; value >= 0x80; value >>= 7)
        bytes++;
    return bytes;
}

static void write_varint(struct ch_writer *w, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        ch_write8(w, (uint8_t)(value | 0x80));
    ch_write8(w, (uint8_t)value);
}

static uint64_t read_varint(struct ch_reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        uint8_t byte = ch_read8(r);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80)
            continue;
        if (byte == 0 && shift) /* a shorter form says the same */
            break;
        return value;
    }
    r->bad = true;
    return 0;
}

static bool read_is(struct ch_reader *r, uint8_t expected)
{
    if (ch_read8(r) != expected)
        r->bad = true;
    return !r->bad;
}

size_t ch_unixfs_encode(const struct ch_unixfs_link *links, size_t count, uint8_t *to, struct ch_unixfs_link *self)
{
    struct ch_writer w = ch_writer(to, CH_UNIXFS_NODE_BYTES_MAX);
    uint64_t file_bytes = 0, tree_bytes = 0;
    size_t sizes_bytes = 0;
    CH_ASSERT(count >= 1 && count <= CH_UNIXFS_LINKS_MAX);
    for (size_t i = 0; i < count; i++) {
        ch_write8(&w, 0x12);
        write_varint(&w, 2 + CH_CID_BYTES + 2 + 1 + varint_bytes(links[i].tree_bytes));
        ch_write8(&w, 0x0a);
        ch_write8(&w, CH_CID_BYTES);
        ch_write(&w, links[i].cid.bytes, CH_CID_BYTES);
        ch_write8(&w, 0x12);
        ch_write8(&w, 0);
        ch_write8(&w, 0x18);
        write_varint(&w, links[i].tree_bytes);
        tree_bytes += links[i].tree_bytes;
        file_bytes += links[i].file_bytes;
        sizes_bytes += 1 + varint_bytes(links[i].file_bytes);
    }
    ch_write8(&w, 0x0a);
    write_varint(&w, 2 + 1 + varint_bytes(file_bytes) + sizes_bytes);
    ch_write8(&w, 0x08);
    ch_write8(&w, 2);
    ch_write8(&w, 0x18);
    write_varint(&w, file_bytes);
    for (size_t i = 0; i < count; i++) {
        ch_write8(&w, 0x20);
        write_varint(&w, links[i].file_bytes);
    }
    CH_ASSERT(!w.bad);
    ch_cid_of(CH_CID_DAG_PB, to, w.used, &self->cid);
    self->tree_bytes = tree_bytes + w.used;
    self->file_bytes = file_bytes;
    return w.used;
}

/* One link without its file bytes. */
static bool read_link(struct ch_reader *r, struct ch_unixfs_link *link)
{
    uint64_t length = read_varint(r);
    const uint8_t *inside = length <= r->left ? ch_read(r, length) : NULL;
    if (!inside)
        return false;
    struct ch_reader in = ch_reader(inside, length);
    read_is(&in, 0x0a);
    read_is(&in, CH_CID_BYTES);
    ch_read_to(&in, link->cid.bytes, CH_CID_BYTES);
    read_is(&in, 0x12);
    read_is(&in, 0);
    read_is(&in, 0x18);
    link->tree_bytes = read_varint(&in);
    return ch_reader_done(&in) && ch_cid_valid(link->cid.bytes);
}

size_t ch_unixfs_decode(const uint8_t *node, size_t length, struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX])
{
    struct ch_reader r = ch_reader(node, length);
    size_t count = 0;
    uint64_t file_bytes = 0;
    if (length > CH_UNIXFS_NODE_BYTES_MAX)
        return 0;
    while (r.left && *r.at == 0x12) {
        (void)ch_read8(&r);
        if (count == CH_UNIXFS_LINKS_MAX || !read_link(&r, &links[count]))
            return 0;
        count++;
    }
    read_is(&r, 0x0a);
    if (read_varint(&r) != r.left)
        return 0;
    read_is(&r, 0x08);
    read_is(&r, 2);
    read_is(&r, 0x18);
    uint64_t total = read_varint(&r);
    for (size_t i = 0; i < count; i++) {
        read_is(&r, 0x20);
        links[i].file_bytes = read_varint(&r);
        /* No sum of sizes wraps: 1024 of them stay below 2^64. */
        if (links[i].file_bytes > UINT64_MAX / 2 / CH_UNIXFS_LINKS_MAX ||
            links[i].tree_bytes > UINT64_MAX / 2 / CH_UNIXFS_LINKS_MAX)
            return 0;
        file_bytes += links[i].file_bytes;
    }
    if (!ch_reader_done(&r) || file_bytes != total)
        return 0;
    return count;
}

/* --- the tree --- */

struct level {
    struct ch_unixfs_link link[CH_UNIXFS_LINKS_MAX];
    size_t count;
};

struct ch_unixfs_builder {
    struct level *level[CH_UNIXFS_DEPTH_MAX]; /* level 0 gathers leaves, the others nodes; made when first needed */
    ch_err (*put)(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length);
    void *context;
    uint8_t node[CH_UNIXFS_NODE_BYTES_MAX];
};

ch_err ch_unixfs_open(ch_err (*put)(void *, const struct ch_cid *, const uint8_t *, size_t), void *context,
                      struct ch_unixfs_builder **out)
{
    struct ch_unixfs_builder *b = calloc(1, sizeof *b);
    if (!b)
        return CH_ERR_NO_MEMORY;
    b->put = put;
    b->context = context;
    *out = b;
    return CH_OK;
}

void ch_unixfs_close(struct ch_unixfs_builder *b)
{
    for (int i = 0; b && i < CH_UNIXFS_DEPTH_MAX; i++)
        free(b->level[i]);
    free(b);
}

static ch_err add_at(struct ch_unixfs_builder *b, int depth, const struct ch_unixfs_link *link);

/* The links of a level become one node of the level above. */
static ch_err fold(struct ch_unixfs_builder *b, int depth)
{
    struct level *level = b->level[depth];
    struct ch_unixfs_link self;
    size_t length = ch_unixfs_encode(level->link, level->count, b->node, &self);
    ch_err err = b->put(b->context, &self.cid, b->node, length);
    if (err != CH_OK)
        return err;
    level->count = 0;
    return add_at(b, depth + 1, &self);
}

/* A full level is folded only when one more link comes: a file of exactly 1024 leaves has one node. */
static ch_err add_at(struct ch_unixfs_builder *b, int depth, const struct ch_unixfs_link *link)
{
    if (depth == CH_UNIXFS_DEPTH_MAX)
        return CH_ERR_FULL;
    if (!b->level[depth] && !(b->level[depth] = calloc(1, sizeof *b->level[depth])))
        return CH_ERR_NO_MEMORY;
    struct level *level = b->level[depth];
    if (level->count == CH_UNIXFS_LINKS_MAX) {
        ch_err err = fold(b, depth);
        if (err != CH_OK)
            return err;
    }
    level->link[level->count++] = *link;
    return CH_OK;
}

ch_err ch_unixfs_add(struct ch_unixfs_builder *b, const struct ch_cid *leaf, uint32_t length)
{
    struct ch_unixfs_link link = {.cid = *leaf, .tree_bytes = length, .file_bytes = length};
    return add_at(b, 0, &link);
}

ch_err ch_unixfs_end(struct ch_unixfs_builder *b, struct ch_unixfs_link *root)
{
    CH_ASSERT(b->level[0] && b->level[0]->count);
    for (int depth = 0;; depth++) {
        bool top = depth + 1 == CH_UNIXFS_DEPTH_MAX || !b->level[depth + 1] || !b->level[depth + 1]->count;
        if (top && b->level[depth]->count == 1) {
            *root = b->level[depth]->link[0];
            return CH_OK;
        }
        if (depth + 1 == CH_UNIXFS_DEPTH_MAX) {
            size_t length = ch_unixfs_encode(b->level[depth]->link, b->level[depth]->count, b->node, root);
            return b->put(b->context, &root->cid, b->node, length);
        }
        ch_err err = fold(b, depth);
        if (err != CH_OK)
            return err;
    }
}

/* --- walking it --- */

void ch_unixfs_walk_begin(struct ch_unixfs_walk *walk, const struct ch_cid *root, uint64_t file_bytes)
{
    walk->depth = 1;
    walk->levels[0].count = 1;
    walk->levels[0].next = 0;
    walk->levels[0].links[0] = (struct ch_unixfs_link){.cid = *root, .file_bytes = file_bytes};
}

bool ch_unixfs_walk_next(struct ch_unixfs_walk *walk, struct ch_unixfs_link *link)
{
    while (walk->depth && walk->levels[walk->depth - 1].next == walk->levels[walk->depth - 1].count)
        walk->depth--;
    if (walk->depth == 0)
        return false;
    *link = walk->levels[walk->depth - 1].links[walk->levels[walk->depth - 1].next++];
    return true;
}

bool ch_unixfs_walk_enter(struct ch_unixfs_walk *walk, const struct ch_unixfs_link *link, const uint8_t *node,
                          size_t length)
{
    if (walk->depth > CH_UNIXFS_DEPTH_MAX)
        return false;
    size_t count = ch_unixfs_decode(node, length, walk->levels[walk->depth].links);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += walk->levels[walk->depth].links[i].file_bytes;
    if (count == 0 || (link->file_bytes != UINT64_MAX && sum != link->file_bytes))
        return false;
    walk->levels[walk->depth].count = count;
    walk->levels[walk->depth].next = 0;
    walk->depth++;
    return true;
}
