/* wire/manifest.c
 *
 *   offset size field
 *   0      2    version 1
 *   2      2    n
 *   4      2    k
 *   6      2    0
 *   8      4    length of the block
 *   12     4    bytes of a shard
 *   16     36   CID
 *   52     n x 32  hashes of the shards, only where k > 1
 */
#include "wire/manifest.h"

#define VERSION 1

void ch_manifest_shape(const struct ch_cid *cid, uint32_t length, unsigned validators, struct ch_manifest *m)
{
    unsigned n = validators < CH_SHARDS_MAX ? validators : CH_SHARDS_MAX, f = ch_faults_max(n);
    bool node = ch_cid_codec(cid) == CH_CID_DAG_PB, coded = f && !node && length >= CH_CODED_BYTES_MIN;
    CH_ASSERT(n && length <= CH_BLOCK_BYTES_MAX);
    m->cid = *cid;
    m->length = length;
    m->n = (uint16_t)n;
    m->k = (uint16_t)(coded ? f + 1 : 1);
    m->copies = (uint16_t)(f && !node && !coded ? 2 * f + 1 : n);
    m->shard_bytes = length;
    if (coded) {
        uint32_t part = (length + m->k - 1) / m->k;
        m->shard_bytes = (part + CH_SHARD_ALIGN_BYTES - 1) / CH_SHARD_ALIGN_BYTES * CH_SHARD_ALIGN_BYTES;
    }
    for (unsigned i = 0; i < n && !coded; i++)
        memcpy(m->hash[i], ch_cid_digest(cid), CH_HASH_BYTES);
}

size_t ch_manifest_write(const struct ch_manifest *m, uint8_t *to)
{
    struct ch_writer w = ch_writer(to, CH_MANIFEST_BYTES_MAX);
    ch_write16(&w, VERSION);
    ch_write16(&w, m->n);
    ch_write16(&w, m->k);
    ch_write16(&w, 0);
    ch_write32(&w, m->length);
    ch_write32(&w, m->shard_bytes);
    ch_write(&w, m->cid.bytes, CH_CID_BYTES);
    if (m->k > 1)
        ch_write(&w, m->hash, (size_t)m->n * CH_HASH_BYTES);
    CH_ASSERT(!w.bad);
    return w.used;
}

bool ch_manifest_read(const uint8_t *bytes, size_t length, unsigned validators, struct ch_manifest *out)
{
    struct ch_reader r = ch_reader(bytes, length);
    struct ch_manifest m;
    struct ch_cid cid;
    uint16_t version = ch_read16(&r), n = ch_read16(&r), k = ch_read16(&r), zero = ch_read16(&r);
    uint32_t block_bytes = ch_read32(&r), shard_bytes = ch_read32(&r);
    ch_read_to(&r, cid.bytes, CH_CID_BYTES);
    if (r.bad || version != VERSION || zero || block_bytes > CH_BLOCK_BYTES_MAX || !ch_cid_valid(cid.bytes))
        return false;
    ch_manifest_shape(&cid, block_bytes, validators, &m);
    if (n != m.n || k != m.k || shard_bytes != m.shard_bytes)
        return false;
    if (m.k > 1)
        ch_read_to(&r, m.hash, (size_t)m.n * CH_HASH_BYTES);
    if (!ch_reader_done(&r))
        return false;
    *out = m;
    return true;
}

void ch_manifest_digest(const struct ch_manifest *m, uint8_t digest[CH_HASH_BYTES])
{
    uint8_t bytes[CH_MANIFEST_BYTES_MAX];
    struct ch_bytes part = {bytes, ch_manifest_write(m, bytes)};
    ch_hash_domain("chappe/manifest/1", &part, 1, digest);
}

unsigned ch_placement(const struct ch_cid *cid, const uint8_t (*keys)[CH_HASH_BYTES], unsigned validators,
                      uint16_t holder[CH_SHARDS_MAX])
{
    uint8_t score[CH_SHARDS_MAX][CH_HASH_BYTES];
    unsigned count = 0;
    for (unsigned i = 0; i < validators; i++) {
        uint8_t own[CH_HASH_BYTES];
        const struct ch_bytes parts[2] = {{cid->bytes, CH_CID_BYTES}, {keys[i], CH_HASH_BYTES}};
        ch_hash_domain("chappe/place/1", parts, 2, own);
        unsigned at = count;
        while (at && memcmp(own, score[at - 1], CH_HASH_BYTES) < 0)
            at--;
        if (at == CH_SHARDS_MAX)
            continue;
        unsigned end = count < CH_SHARDS_MAX ? count++ : CH_SHARDS_MAX - 1;
        memmove(score[at + 1], score[at], (end - at) * sizeof score[0]);
        memmove(holder + at + 1, holder + at, (end - at) * sizeof holder[0]);
        memcpy(score[at], own, CH_HASH_BYTES);
        holder[at] = (uint16_t)i;
    }
    return count;
}

void ch_shard_message(const struct ch_cid *cid, uint32_t length, const uint8_t manifest[CH_HASH_BYTES],
                      uint8_t message[CH_SHARD_MESSAGE_BYTES])
{
    memcpy(message, cid->bytes, CH_CID_BYTES);
    ch_store32(message + CH_CID_BYTES, length);
    memcpy(message + CH_CID_BYTES + 4, manifest, CH_HASH_BYTES);
}

size_t ch_stored_write(const struct ch_stored *s, uint8_t *to)
{
    struct ch_writer w = ch_writer(to, CH_STORED_BYTES_MAX);
    ch_write(&w, s->cid.bytes, CH_CID_BYTES);
    ch_write32(&w, s->length);
    ch_write(&w, s->manifest, CH_HASH_BYTES);
    ch_write16(&w, s->count);
    for (unsigned i = 0; i < s->count; i++) {
        ch_write16(&w, s->validator[i]);
        ch_write(&w, s->signature[i], 64);
    }
    CH_ASSERT(!w.bad);
    return w.used;
}

bool ch_stored_read(struct ch_reader *r, unsigned validators, struct ch_stored *out)
{
    struct ch_stored s = {.count = 0};
    ch_read_to(r, s.cid.bytes, CH_CID_BYTES);
    s.length = ch_read32(r);
    ch_read_to(r, s.manifest, CH_HASH_BYTES);
    s.count = ch_read16(r);
    if (r->bad || !ch_cid_valid(s.cid.bytes) || s.length > CH_BLOCK_BYTES_MAX || s.count > CH_SHARDS_MAX)
        return false;
    for (unsigned i = 0; i < s.count; i++) {
        s.validator[i] = ch_read16(r);
        ch_read_to(r, s.signature[i], 64);
        if (r->bad || s.validator[i] >= validators || (i && s.validator[i] <= s.validator[i - 1]))
            return false;
    }
    *out = s;
    return true;
}
