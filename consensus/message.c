#include "consensus/message.h"

struct check {
    const struct ch_committee *committee;
    struct ch_message_signature *out;
    size_t count, capacity;
};

static bool add(struct check *c, uint16_t author, const char *domain, const uint8_t *message, uint32_t length,
                const uint8_t *signature)
{
    if (c->count == c->capacity)
        return false;
    struct ch_message_signature *s = &c->out[c->count++];
    s->key = c->committee->key[author];
    s->signature = signature;
    s->domain = domain;
    s->message_length = length;
    memcpy(s->message, message, length);
    return true;
}

static bool check_header(struct check *c, const uint8_t *bytes, size_t length, struct ch_block *block)
{
    uint8_t digest[CH_HASH_BYTES];
    if (ch_block_parse(c->committee, bytes, length, block) != CH_BLOCK_OK)
        return false;
    ch_block_digest(c->committee, block, digest);
    if (!add(c, block->author, CH_DOMAIN_BLOCK_SIGNATURE, digest, CH_HASH_BYTES, block->signature))
        return false;
    for (unsigned i = 0; i < block->cksig_count; i++) {
        const uint8_t *cksig = block->cksigs + (size_t)i * CH_BLOCK_CKSIG_BYTES;
        if (!add(c, block->author, CH_DOMAIN_CHECKPOINT_SIGNATURE, cksig + 8, CH_HASH_BYTES, cksig + 40))
            return false;
    }
    return true;
}

static bool check_items(struct check *c, struct ch_reader *r, unsigned count)
{
    struct ch_block block;
    while (count--) {
        uint32_t length = ch_read32(r);
        const uint8_t *bytes = ch_read(r, length);
        if (!bytes || !check_header(c, bytes, length, &block))
            return false;
    }
    return true;
}

static bool check_commits(struct check *c, struct ch_reader *r)
{
    struct ch_commit commit;
    ch_read(r, 16);
    unsigned count = ch_read16(r), proofs = ch_read16(r);
    if (count > CH_MESSAGE_COMMITS_MAX || proofs > c->committee->n)
        return false;
    while (count--) {
        uint32_t length = ch_read32(r);
        const uint8_t *bytes = ch_read(r, length);
        if (!bytes || !ch_commit_parse(bytes, length, &commit))
            return false;
    }
    return check_items(c, r, proofs) && ch_reader_done(r);
}

static bool check_i_am(struct check *c, uint16_t peer, struct ch_reader *r)
{
    uint8_t message[2 * CH_HASH_BYTES] = {0};
    struct ch_block block;
    ch_read_to(r, message, CH_HASH_BYTES);
    const uint8_t *signature = ch_read(r, CH_BLOCK_SIGNATURE_BYTES);
    if (r->bad || peer >= c->committee->n)
        return false;
    if (r->left) {
        if (!check_header(c, r->at, r->left, &block) || block.author != peer)
            return false;
        ch_block_digest(c->committee, &block, message + CH_HASH_BYTES);
    }
    return add(c, peer, CH_DOMAIN_I_AM_SIGNATURE, message, sizeof message, signature);
}

static bool check_evidence(struct check *c, struct ch_reader *r)
{
    struct ch_block a, b;
    uint32_t length = ch_read32(r);
    const uint8_t *first = ch_read(r, length);
    return first && check_header(c, first, length, &a) && check_header(c, r->at, r->left, &b) && a.author == b.author &&
           a.round == b.round;
}

bool ch_message_check(const struct ch_committee *committee, uint16_t peer, enum ch_message_type type,
                      const uint8_t *body, size_t length, struct ch_message_signature *out, size_t capacity,
                      size_t *count)
{
    struct check c = {.committee = committee, .out = out, .capacity = capacity};
    struct ch_reader r = ch_reader(body, length);
    struct ch_block block;
    bool good = false;
    unsigned n;
    if (length > CH_MESSAGE_BODY_BYTES_MAX)
        return false;
    switch (type) {
    case CH_MESSAGE_TIP:
        ch_read32(&r);
        good = !r.bad && (r.left == 0 || check_header(&c, r.at, r.left, &block));
        break;
    case CH_MESSAGE_HEADER:
        good = check_header(&c, body, length, &block);
        break;
    case CH_MESSAGE_GET_BLOCKS:
        ch_read32(&r);
        n = ch_read16(&r);
        good = n >= 1 && n <= CH_MESSAGE_REFS_MAX && ch_read(&r, (size_t)n * CH_REF_BYTES) && ch_reader_done(&r);
        break;
    case CH_MESSAGE_BLOCKS:
        n = ch_read16(&r);
        good = n <= CH_MESSAGE_HEADERS_MAX && check_items(&c, &r, n) && ch_reader_done(&r);
        break;
    case CH_MESSAGE_GET_PAYLOAD:
        good = length == CH_REF_BYTES;
        break;
    case CH_MESSAGE_GET_COMMITS:
        good = length == 16;
        break;
    case CH_MESSAGE_COMMITS:
        good = check_commits(&c, &r);
        break;
    case CH_MESSAGE_WHO_AM_I:
        good = length == CH_HASH_BYTES;
        break;
    case CH_MESSAGE_I_AM:
        good = check_i_am(&c, peer, &r);
        break;
    case CH_MESSAGE_EVIDENCE:
        good = check_evidence(&c, &r);
        break;
    case CH_MESSAGE_PAYLOAD:
        break; /* never the core's */
    }
    if (good)
        *count = c.count;
    return good;
}

void ch_message_item(struct ch_writer *w, const uint8_t *bytes, size_t length)
{
    ch_write32(w, (uint32_t)length);
    ch_write(w, bytes, length);
}
