#include "wire/block.h"

#define VERSION 1

int ch_ref_compare(const struct ch_ref *a, const struct ch_ref *b)
{
    if (a->round != b->round)
        return a->round < b->round ? -1 : 1;
    if (a->author != b->author)
        return a->author < b->author ? -1 : 1;
    return memcmp(a->digest, b->digest, CH_HASH_BYTES);
}

void ch_committee_init(struct ch_committee *c)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < c->n; i++)
        total += c->stake[i];
    CH_ASSERT(c->n >= 1 && c->n <= CH_VALIDATORS_MAX && total >= 1 && total <= UINT32_MAX);
    c->stake_total = (uint32_t)total;
    c->fault_stake = (c->stake_total - 1) / 3;
    c->quorum_stake = c->stake_total - c->fault_stake;
    c->validity_stake = c->fault_stake + 1;
    c->header_bytes_max =
        (uint32_t)(CH_BLOCK_FIXED_BYTES + (uint64_t)c->n * CH_REF_BYTES + c->params.max_votes * CH_BLOCK_VOTE_BYTES +
                   c->params.max_cksigs * CH_BLOCK_CKSIG_BYTES + CH_BLOCK_SIGNATURE_BYTES);
    for (uint16_t a = 0; a < c->n; a++) {
        const struct ch_bytes parts[] = {{c->chain_id, CH_HASH_BYTES},
                                         {(const uint8_t *)&c->epoch, 4},
                                         {(const uint8_t *)&a, 2},
                                         {c->epoch_seed, CH_HASH_BYTES}};
        ch_hash_domain("chappe/genesis/1", parts, 4, c->genesis[a]);
    }
}

void ch_committee_from_genesis(const struct ch_genesis *genesis, const uint8_t chain_id[CH_HASH_BYTES],
                               struct ch_committee *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->chain_id, chain_id, CH_HASH_BYTES);
    out->start_ms = genesis->start_ms;
    out->n = genesis->validator_count;
    out->params = genesis->params;
    for (unsigned i = 0; i < out->n; i++) {
        memcpy(out->key[i], genesis->validators[i].key, 32);
        out->stake[i] = genesis->validators[i].stake;
    }
    ch_committee_init(out);
}

void ch_committee_digest(const struct ch_committee *c, uint8_t digest[CH_HASH_BYTES])
{
    struct ch_hash h;
    ch_hash_init(&h);
    ch_hash_add(&h, "chappe/committee/1", sizeof "chappe/committee/1");
    ch_hash_add(&h, c->chain_id, CH_HASH_BYTES);
    ch_hash_add(&h, &c->epoch, 4);
    ch_hash_add(&h, &c->n, 2);
    for (unsigned i = 0; i < c->n; i++) {
        ch_hash_add(&h, c->key[i], 32);
        ch_hash_add(&h, &c->stake[i], 4);
    }
    const struct ch_genesis_params *p = &c->params;
    const uint64_t values[] = {p->leaders_per_round, p->wait_ranks,   p->gc_depth,   p->max_payload,
                               p->max_items,         p->max_votes,    p->max_cksigs, p->ckpt_commits,
                               p->sched_commits,     p->payload_code, p->profile};
    ch_hash_add(&h, values, sizeof values);
    ch_hash_end(&h, digest);
}

struct ch_ref ch_committee_genesis_ref(const struct ch_committee *c, uint16_t author)
{
    CH_ASSERT(author < c->n);
    struct ch_ref ref = {.round = 0, .author = author};
    memcpy(ref.digest, c->genesis[author], CH_HASH_BYTES);
    return ref;
}

const char *ch_block_verdict_name(enum ch_block_verdict verdict)
{
    static const char *const names[] = {
#define X(name) #name,
        CH_BLOCK_VERDICT_LIST(X)
#undef X
    };
    return (unsigned)verdict < CH_BLOCK_VERDICTS ? names[verdict] : "UNKNOWN";
}

uint32_t ch_block_length(const uint8_t *bytes, size_t length)
{
    if (length < CH_BLOCK_FIXED_BYTES)
        return 0;
    return CH_BLOCK_FIXED_BYTES + (uint32_t)ch_load16(bytes + 12) * CH_REF_BYTES +
           (uint32_t)ch_load16(bytes + 14) * CH_BLOCK_VOTE_BYTES +
           (uint32_t)ch_load16(bytes + 16) * CH_BLOCK_CKSIG_BYTES + CH_BLOCK_SIGNATURE_BYTES;
}

void ch_block_view(const uint8_t *b, uint32_t length, struct ch_block *out)
{
    *out = (struct ch_block){
        .bytes = b,
        .length = length,
        .author = ch_load16(b + 2),
        .epoch = ch_load32(b + 4),
        .round = ch_load32(b + 8),
        .ancestor_count = ch_load16(b + 12),
        .vote_count = ch_load16(b + 14),
        .cksig_count = ch_load16(b + 16),
        .payload_length = ch_load32(b + 20),
        .payload_items = ch_load32(b + 24),
        .timestamp_ms = ch_load64(b + 32),
        .payload_root = b + 40,
        .ancestors = b + CH_BLOCK_FIXED_BYTES,
        .signature = b + length - CH_BLOCK_SIGNATURE_BYTES,
    };
    out->votes = out->ancestors + (size_t)out->ancestor_count * CH_REF_BYTES;
    out->cksigs = out->votes + (size_t)out->vote_count * CH_BLOCK_VOTE_BYTES;
}

static enum ch_block_verdict check_ancestors(const struct ch_committee *c, const struct ch_block *b)
{
    uint64_t parents = 0;
    int32_t last = -1;
    for (unsigned i = 0; i < b->ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(b, i);
        if (ref.zero != 0)
            return CH_BLOCK_BAD_FIELD;
        if (ref.author >= c->n || ref.round >= b->round || (i == 0) != (ref.author == b->author))
            return CH_BLOCK_BAD_ANCESTOR;
        if (i > 0 && ref.author <= last)
            return CH_BLOCK_BAD_ANCESTOR;
        if (i > 0)
            last = ref.author;
        if (ref.round == 0 && memcmp(ref.digest, c->genesis[ref.author], CH_HASH_BYTES) != 0)
            return CH_BLOCK_BAD_GENESIS;
        if (ref.round == b->round - 1)
            parents += c->stake[ref.author];
    }
    return parents >= c->quorum_stake ? CH_BLOCK_OK : CH_BLOCK_NO_QUORUM;
}

enum ch_block_verdict ch_block_parse(const struct ch_committee *c, const uint8_t *bytes, size_t length,
                                     struct ch_block *out)
{
    static const uint8_t zeros[CH_HASH_BYTES];
    if (length < CH_BLOCK_FIXED_BYTES || ch_block_length(bytes, length) != length)
        return CH_BLOCK_BAD_LENGTH;
    struct ch_block b;
    ch_block_view(bytes, (uint32_t)length, &b);
    if (ch_load16(bytes) != VERSION || ch_load16(bytes + 18) != 0 || ch_load32(bytes + 28) != 0)
        return CH_BLOCK_BAD_FIELD;
    if (b.epoch != c->epoch)
        return CH_BLOCK_WRONG_EPOCH;
    if (b.author >= c->n || b.round < 1 || b.round > CH_BLOCK_ROUND_MAX || b.ancestor_count < 1 ||
        b.ancestor_count > c->n || b.vote_count > c->params.max_votes || b.cksig_count > c->params.max_cksigs ||
        b.payload_length > c->params.max_payload || b.payload_items > c->params.max_items)
        return CH_BLOCK_BAD_FIELD;
    if (b.payload_length == 0 && (b.payload_items != 0 || memcmp(b.payload_root, zeros, CH_HASH_BYTES) != 0))
        return CH_BLOCK_BAD_FIELD;
    enum ch_block_verdict verdict = check_ancestors(c, &b);
    if (verdict != CH_BLOCK_OK)
        return verdict;
    uint64_t last = 0; /* commit indices are all above 0 */
    for (unsigned i = 0; i < b.vote_count; i++) {
        uint64_t index = ch_load64(b.votes + (size_t)i * CH_BLOCK_VOTE_BYTES);
        if (index <= last)
            return CH_BLOCK_BAD_VOTE;
        last = index;
    }
    last = 0;
    for (unsigned i = 0; i < b.cksig_count; i++) {
        uint64_t seq = ch_load64(b.cksigs + (size_t)i * CH_BLOCK_CKSIG_BYTES);
        if (i > 0 && seq <= last)
            return CH_BLOCK_BAD_VOTE;
        last = seq;
    }
    *out = b;
    return CH_BLOCK_OK;
}

void ch_block_digest(const struct ch_committee *c, const struct ch_block *b, uint8_t digest[CH_HASH_BYTES])
{
    const struct ch_bytes parts[] = {{c->chain_id, CH_HASH_BYTES}, {b->bytes, b->length - CH_BLOCK_SIGNATURE_BYTES}};
    ch_hash_domain("chappe/block/1", parts, 2, digest);
}

void ch_payload_root(const void *payload, size_t length, uint8_t root[CH_HASH_BYTES])
{
    if (length == 0) {
        memset(root, 0, CH_HASH_BYTES);
        return;
    }
    const struct ch_bytes part = {payload, length};
    ch_hash_domain("chappe/payload/0", &part, 1, root);
}

uint32_t ch_block_write(const struct ch_block_draft *d, uint8_t *out)
{
    memset(out, 0, CH_BLOCK_FIXED_BYTES);
    ch_store16(out, VERSION);
    ch_store16(out + 2, d->author);
    ch_store32(out + 4, d->epoch);
    ch_store32(out + 8, d->round);
    ch_store16(out + 12, d->ancestor_count);
    ch_store16(out + 14, d->vote_count);
    ch_store16(out + 16, d->cksig_count);
    ch_store32(out + 20, d->payload_length);
    ch_store32(out + 24, d->payload_items);
    ch_store64(out + 32, d->timestamp_ms);
    memcpy(out + 40, d->payload_root, CH_HASH_BYTES);
    uint8_t *at = out + CH_BLOCK_FIXED_BYTES;
    const size_t ancestors = (size_t)d->ancestor_count * CH_REF_BYTES;
    const size_t votes = (size_t)d->vote_count * CH_BLOCK_VOTE_BYTES;
    const size_t cksigs = (size_t)d->cksig_count * CH_BLOCK_CKSIG_BYTES;
    memcpy(at, d->ancestors, ancestors);
    at += ancestors;
    if (votes)
        memcpy(at, d->votes, votes);
    at += votes;
    if (cksigs)
        memcpy(at, d->cksigs, cksigs);
    at += cksigs;
    memset(at, 0, CH_BLOCK_SIGNATURE_BYTES);
    return (uint32_t)(at - out) + CH_BLOCK_SIGNATURE_BYTES;
}

void ch_commit_write(const struct ch_commit *c, uint8_t out[CH_COMMIT_FIXED_BYTES])
{
    ch_store16(out, VERSION);
    ch_store32(out + 2, c->epoch);
    ch_store64(out + 6, c->index);
    memcpy(out + 14, c->previous, CH_HASH_BYTES);
    memcpy(out + 46, &c->leader, CH_REF_BYTES);
    ch_store16(out + 86, c->rank);
    ch_store32(out + 88, c->gc_round);
    ch_store64(out + 92, c->timestamp_ms);
    ch_store32(out + 100, c->schedule_version);
    ch_store32(out + 104, c->block_count);
}

bool ch_commit_parse(const uint8_t *b, size_t length, struct ch_commit *out)
{
    if (length < CH_COMMIT_FIXED_BYTES || ch_load16(b) != VERSION)
        return false;
    struct ch_commit c = {
        .epoch = ch_load32(b + 2),
        .index = ch_load64(b + 6),
        .leader = ch_ref_read(b + 46),
        .rank = ch_load16(b + 86),
        .gc_round = ch_load32(b + 88),
        .timestamp_ms = ch_load64(b + 92),
        .schedule_version = ch_load32(b + 100),
        .block_count = ch_load32(b + 104),
        .refs = b + CH_COMMIT_FIXED_BYTES,
    };
    memcpy(c.previous, b + 14, CH_HASH_BYTES);
    if (c.block_count == 0 || length != CH_COMMIT_FIXED_BYTES + (uint64_t)c.block_count * CH_REF_BYTES)
        return false;
    struct ch_ref last = ch_ref_read(c.refs);
    if (last.round <= c.gc_round || last.zero)
        return false;
    for (uint32_t i = 1; i < c.block_count; i++) {
        struct ch_ref ref = ch_ref_read(c.refs + (size_t)i * CH_REF_BYTES);
        if (ref.zero || ch_ref_compare(&last, &ref) >= 0)
            return false;
        last = ref;
    }
    /* In its own history the leader's block is the only one of its round. */
    if (c.leader.zero || ch_ref_compare(&last, &c.leader) != 0)
        return false;
    *out = c;
    return true;
}

void ch_commit_digest(const struct ch_committee *c, const uint8_t *bytes, size_t length, uint8_t digest[CH_HASH_BYTES])
{
    const struct ch_bytes parts[] = {{c->chain_id, CH_HASH_BYTES}, {bytes, length}};
    ch_hash_domain("chappe/commit/1", parts, 2, digest);
}
