/* store/object_format.c - the bytes of an object segment. All numbers are little-endian.
 *
 * A segment: two header slots of 4096 bytes, records in batches (each at a multiple of 4096, records inside at
 * multiples of 64), and when it is sealed a footer, with which the file ends.
 *
 * Header slot; incarnation i is written into slot i modulo 2, the higher whole one counts:
 * | offset | bytes | field |
 * | 0   | 4  | magic "COB1" |
 * | 4   | 4  | crc32c of bytes 8..127 |
 * | 8   | 4  | state: 1 in use, 2 destroyed (salt zero) |
 * | 12  | 4  | cipher: 1 AES-256-GCM, 2 XChaCha20-Poly1305 |
 * | 16  | 4  | segment number |
 * | 20  | 4  | incarnation |
 * | 24  | 8  | zero |
 * | 32  | 32 | salt |
 * | 64  | 32 | keyed BLAKE2b-256(master key; "chappe/object/slot/1\0" / bytes 8..63): the key is the right one |
 * | 96  | 32 | zero |
 *
 * Record:
 * | 0   | 4  | magic "COR1" |
 * | 4   | 4  | crc32c of bytes 8..95 |
 * | 8   | 4  | kind: 1 block, 2 drop |
 * | 12  | 4  | length of the plaintext |
 * | 16  | 4  | segment number |
 * | 20  | 4  | incarnation that encrypted it |
 * | 24  | 8  | nonce counter |
 * | 32  | 36 | CID |
 * | 68  | 8  | owner |
 * | 76  | 8  | time it was put, ms since 1970; 0: of no age |
 * | 84  | 4  | what it counts against its owner's quota; 0: its length |
 * | 88  | 8  | zero |
 * | 96  | .  | ciphertext (bytes 8..95 are its associated data) |
 * | .   | 16 | tag |
 *
 * Footer: entries in the order of the records, zeros up to a multiple of 4096, then the trailer.
 * | 0   | 32 | digest |
 * | 32  | 4  | place in units of 64 bytes |
 * | 36  | 4  | length of the plaintext |
 * | 40  | 1  | kind |
 * | 41  | 1  | codec of the CID |
 * | 42  | 2  | zero |
 * | 44  | 4  | what it counts |
 * | 48  | 8  | owner |
 * | 56  | 8  | time it was put |
 * Trailer, a block of 4096:
 * | 0   | 4  | magic "COF3" |
 * | 4   | 4  | crc32c of bytes 8..63 |
 * | 8   | 4  | crc32c of the entries |
 * | 12  | 4  | count |
 * | 16  | 4  | segment number |
 * | 20  | 4  | how many of them are drops |
 * | 24  | 8  | offset of the footer |
 * | 32  | 8  | bytes of records |
 * | 40  | 8  | when the oldest block that has an age was put; all bits set: none has |
 */
#include <sodium.h>
#include <stdlib.h>

#include "store/crc32c_impl.h"
#include "store/object_impl.h"

#define SLOT_MAGIC    0x31424f43u
#define RECORD_MAGIC  0x31524f43u
#define TRAILER_MAGIC 0x33464f43u
#define SLOT_USED     128
#define TRAILER_USED  64

static void slot_mac(const uint8_t *block, const uint8_t *master_key, uint8_t mac[32])
{
    static const char domain[] = "chappe/object/slot/1";
    crypto_generichash_state state;
    crypto_generichash_init(&state, master_key, CH_OBJECT_KEY_BYTES, 32);
    crypto_generichash_update(&state, (const uint8_t *)domain, sizeof domain);
    crypto_generichash_update(&state, block + 8, 56);
    crypto_generichash_final(&state, mac, 32);
}

void object_slot_write(uint8_t block[SLOT_BYTES], const struct slot *slot, const uint8_t *master_key)
{
    memset(block, 0, SLOT_BYTES);
    ch_store32(block, SLOT_MAGIC);
    ch_store32(block + 8, slot->state);
    ch_store32(block + 12, slot->cipher);
    ch_store32(block + 16, slot->segment);
    ch_store32(block + 20, slot->incarnation);
    memcpy(block + 32, slot->salt, SALT_BYTES);
    slot_mac(block, master_key, block + 64);
    ch_store32(block + 4, crc32c(block + 8, SLOT_USED - 8));
}

ch_err object_slot_read(const uint8_t block[SLOT_BYTES], const uint8_t *master_key, struct slot *slot)
{
    uint8_t mac[32];
    if (ch_load32(block) != SLOT_MAGIC || ch_load32(block + 4) != crc32c(block + 8, SLOT_USED - 8))
        return CH_ERR_NOT_FOUND;
    slot_mac(block, master_key, mac);
    if (sodium_memcmp(mac, block + 64, sizeof mac) != 0)
        return CH_ERR_BAD_PASSPHRASE;
    slot->state = (enum slot_state)ch_load32(block + 8);
    slot->cipher = (enum ch_object_cipher)ch_load32(block + 12);
    slot->segment = ch_load32(block + 16);
    slot->incarnation = ch_load32(block + 20);
    memcpy(slot->salt, block + 32, SALT_BYTES);
    return CH_OK;
}

void object_record_write(uint8_t header[RECORD_HEADER_BYTES], const struct record *record)
{
    memset(header, 0, RECORD_HEADER_BYTES);
    ch_store32(header, RECORD_MAGIC);
    ch_store32(header + 8, record->kind);
    ch_store32(header + 12, record->length);
    ch_store32(header + 16, record->segment);
    ch_store32(header + 20, record->incarnation);
    ch_store64(header + 24, record->counter);
    memcpy(header + 32, record->cid.bytes, CH_CID_BYTES);
    ch_store64(header + 68, record->tag.owner);
    ch_store64(header + 76, record->tag.put_ms);
    ch_store32(header + 84, record->tag.charge_bytes);
    ch_store32(header + 4, crc32c(header + 8, RECORD_HEADER_BYTES - 8));
}

bool object_record_read(const uint8_t header[RECORD_HEADER_BYTES], struct record *record)
{
    if (ch_load32(header) != RECORD_MAGIC || ch_load32(header + 4) != crc32c(header + 8, RECORD_HEADER_BYTES - 8))
        return false;
    record->kind = (enum record_kind)ch_load32(header + 8);
    record->length = ch_load32(header + 12);
    record->segment = ch_load32(header + 16);
    record->incarnation = ch_load32(header + 20);
    record->counter = ch_load64(header + 24);
    memcpy(record->cid.bytes, header + 32, CH_CID_BYTES);
    record->tag.owner = ch_load64(header + 68);
    record->tag.put_ms = ch_load64(header + 76);
    record->tag.charge_bytes = ch_load32(header + 84);
    return (record->kind == RECORD_BLOCK || record->kind == RECORD_DROP) && record->length <= CH_BLOCK_BYTES_MAX &&
           object_cid_valid(record->cid.bytes);
}

void object_footer_write(uint8_t *footer, const struct entry *entries, uint32_t count, uint32_t segment,
                         uint64_t offset)
{
    size_t bytes = footer_bytes(count), entries_bytes = (size_t)count * ENTRY_BYTES;
    uint8_t *trailer = footer + bytes - CH_IO_BLOCK_BYTES;
    uint64_t data_bytes = 0, oldest_ms = UINT64_MAX;
    uint32_t drops = 0;
    memset(footer, 0, bytes);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = footer + (size_t)i * ENTRY_BYTES;
        memcpy(at, entries[i].digest, CH_HASH_BYTES);
        ch_store32(at + 32, entries[i].unit);
        ch_store32(at + 36, entries[i].length);
        at[40] = entries[i].kind;
        at[41] = entries[i].codec;
        ch_store32(at + 44, entries[i].tag.charge_bytes);
        ch_store64(at + 48, entries[i].tag.owner);
        ch_store64(at + 56, entries[i].tag.put_ms);
        data_bytes += record_bytes(entries[i].length);
        drops += entries[i].kind == RECORD_DROP;
        if (entries[i].kind == RECORD_BLOCK && entries[i].tag.put_ms && entries[i].tag.put_ms < oldest_ms)
            oldest_ms = entries[i].tag.put_ms;
    }
    ch_store32(trailer, TRAILER_MAGIC);
    ch_store32(trailer + 8, crc32c(footer, entries_bytes));
    ch_store32(trailer + 12, count);
    ch_store32(trailer + 16, segment);
    ch_store32(trailer + 20, drops);
    ch_store64(trailer + 24, offset);
    ch_store64(trailer + 32, data_bytes);
    ch_store64(trailer + 40, oldest_ms);
    ch_store32(trailer + 4, crc32c(trailer + 8, TRAILER_USED - 8));
}

bool object_trailer_read(const uint8_t block[CH_IO_BLOCK_BYTES], uint32_t segment, uint64_t file_bytes,
                         struct trailer *trailer)
{
    if (ch_load32(block) != TRAILER_MAGIC || ch_load32(block + 4) != crc32c(block + 8, TRAILER_USED - 8))
        return false;
    *trailer = (struct trailer){.offset = ch_load64(block + 24),
                                .count = ch_load32(block + 12),
                                .drops = ch_load32(block + 20),
                                .data_bytes = ch_load64(block + 32),
                                .oldest_ms = ch_load64(block + 40)};
    return ch_load32(block + 16) == segment && trailer->offset >= DATA_START &&
           trailer->offset % CH_IO_BLOCK_BYTES == 0 && trailer->offset < file_bytes &&
           file_bytes - trailer->offset == footer_bytes(trailer->count);
}

/* A crc keeps the disk's mistakes out, not what somebody wrote: nothing that a record can't be is let in. */
static bool entry_valid(const struct entry *entry, uint64_t data_end)
{
    struct ch_cid cid;
    uint64_t offset = (uint64_t)entry->unit * UNIT_BYTES;
    ch_cid_make((enum ch_cid_codec)entry->codec, entry->digest, &cid);
    return (entry->kind == RECORD_BLOCK || entry->kind == RECORD_DROP) && entry->length <= CH_BLOCK_BYTES_MAX &&
           object_cid_valid(cid.bytes) && offset >= DATA_START && offset + record_bytes(entry->length) <= data_end;
}

bool object_footer_read(const uint8_t *footer, const struct trailer *trailer, struct entry *entries)
{
    const uint8_t *last = footer + footer_bytes(trailer->count) - CH_IO_BLOCK_BYTES;
    bool valid = ch_load32(last + 8) == crc32c(footer, (size_t)trailer->count * ENTRY_BYTES);
    for (uint32_t i = 0; valid && i < trailer->count; i++) {
        const uint8_t *at = footer + (size_t)i * ENTRY_BYTES;
        memcpy(entries[i].digest, at, CH_HASH_BYTES);
        entries[i].unit = ch_load32(at + 32);
        entries[i].length = ch_load32(at + 36);
        entries[i].kind = at[40];
        entries[i].codec = at[41];
        entries[i].tag.charge_bytes = ch_load32(at + 44);
        entries[i].tag.owner = ch_load64(at + 48);
        entries[i].tag.put_ms = ch_load64(at + 56);
        valid = entry_valid(&entries[i], trailer->offset);
    }
    return valid;
}
