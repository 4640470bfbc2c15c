/* wire/manifest.h - how a block lies over the validators: its shards, who keeps which, and the proof that enough do.
 *
 * What:    the manifest of a block, the order in which validators keep its shards, and the certificate that n-f of them
 *          signed for theirs. docs/protocol.md section 8 has the byte tables; they and this file change together.
 * Shape:   given by the committee's size and the block alone, so that there is one right manifest of a block. N
 *          validators; n = min(N, 32) of them have a shard, f = (n-1)/3. Raw blocks of 16 KiB and more: any k = f+1
 *          shards give the block. Smaller ones, and dag-pb nodes (every validator walks trees): k = 1, a shard is the
 *          block; it lies at the first 2f+1 (a small raw block, f > 0) or at all n, and the others keep the manifest
 *          only.
 * Thread:  no state. Errors: what isn't well-formed is refused by returning false; outputs are untouched then.
 */
#ifndef CHAPPE_WIRE_MANIFEST_H
#define CHAPPE_WIRE_MANIFEST_H

#include "wire/cid.h"

#define CH_SHARDS_MAX           32
#define CH_CODED_BYTES_MIN      (16u << 10)
#define CH_SHARD_ALIGN_BYTES    64
#define CH_MANIFEST_HEAD_BYTES  52
#define CH_MANIFEST_BYTES_MAX   (CH_MANIFEST_HEAD_BYTES + CH_SHARDS_MAX * CH_HASH_BYTES)
#define CH_SHARD_BYTES_MAX      CH_BLOCK_BYTES_MAX /* where k is 1 */
#define CH_SHARDS_ALL_BYTES_MAX ((3u << 20) + (64u << 10)) /* n shards of a coded block: below 3 times, and padding */

struct ch_manifest {
    struct ch_cid cid;
    uint32_t length; /* of the block, bytes */
    uint16_t n, k;
    uint32_t shard_bytes; /* k > 1: a multiple of CH_SHARD_ALIGN_BYTES, the data padded with zeros */
    uint16_t copies;      /* shards 0..copies-1 are kept; n where k > 1 */
    uint8_t hash[CH_SHARDS_MAX][CH_HASH_BYTES]; /* of each shard; k = 1: the block's own, all of them */
};

/* f of n validators may fail. */
static inline unsigned ch_faults_max(unsigned n)
{
    return (n - 1) / 3;
}
/* Everything but the hashes (k = 1: these too), for a committee of `validators` (at least 1). */
void ch_manifest_shape(const struct ch_cid *cid, uint32_t length, unsigned validators, struct ch_manifest *m);
/* Returns the length; `to` holds CH_MANIFEST_BYTES_MAX. */
size_t ch_manifest_write(const struct ch_manifest *m, uint8_t *to);
/* Only the very bytes that ch_manifest_write makes for this committee. */
CH_MUST_CHECK bool ch_manifest_read(const uint8_t *bytes, size_t length, unsigned validators, struct ch_manifest *m);
/* Its address: H("chappe/manifest/1" 0 | bytes). */
void ch_manifest_digest(const struct ch_manifest *m, uint8_t digest[CH_HASH_BYTES]);

/* Rendezvous hashing: validators ascending by H("chappe/place/1" 0 | CID | key). Writes the first CH_SHARDS_MAX, or
 * all, into `holder` (indices into `keys`): holder[i] keeps shard i. Returns how many. Who joins or leaves a committee
 * moves only its own shards. */
unsigned ch_placement(const struct ch_cid *cid, const uint8_t (*keys)[CH_HASH_BYTES], unsigned validators,
                      uint16_t holder[CH_SHARDS_MAX]);

/* What a validator signs, domain "chappe/sig/shard/1": what is mine by this manifest is on my disk. 36 CID | u32 length
 * of the block | 32 digest. The length too: who has no part of a block has no manifest that says it. */
#define CH_SHARD_MESSAGE_BYTES (CH_CID_BYTES + 4 + CH_HASH_BYTES)
void ch_shard_message(const struct ch_cid *cid, uint32_t length, const uint8_t manifest[CH_HASH_BYTES],
                      uint8_t message[CH_SHARD_MESSAGE_BYTES]);

/* The certificate: 36 CID | u32 length | 32 manifest digest | u16 count | count x (u16 validator | 64 signature),
 * ascending by validator. */
#define CH_STORED_HEAD_BYTES (CH_CID_BYTES + 4 + CH_HASH_BYTES + 2)
#define CH_STORED_BYTES_MAX  (CH_STORED_HEAD_BYTES + CH_SHARDS_MAX * 66)
struct ch_stored {
    struct ch_cid cid;
    uint32_t length;
    uint8_t manifest[CH_HASH_BYTES];
    uint16_t count;
    uint16_t validator[CH_SHARDS_MAX];
    uint8_t signature[CH_SHARDS_MAX][64];
};
size_t ch_stored_write(const struct ch_stored *s, uint8_t *to);
/* Reads one and moves on; the form alone: whoever reads it checks that there are enough signatures and that they
 * hold. */
CH_MUST_CHECK bool ch_stored_read(struct ch_reader *r, unsigned validators, struct ch_stored *s);

#endif
