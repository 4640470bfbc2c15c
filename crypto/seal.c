#include "crypto/seal.h"

#include "crypto/seal_impl.h"

#include <sodium.h>
#include <stdlib.h>

const char *ch_seal_verdict_name(enum ch_seal_verdict verdict)
{
    static const char *const names[] = {
#define X(name, text) #name,
        CH_SEAL_VERDICT_LIST(X)
#undef X
    };
    return names[verdict];
}

const char *ch_seal_verdict_text(enum ch_seal_verdict verdict)
{
    static const char *const texts[] = {
#define X(name, text) text,
        CH_SEAL_VERDICT_LIST(X)
#undef X
    };
    return texts[verdict];
}

void ch_seal_prefix_write(uint32_t epoch, uint8_t prefix[CH_SEAL_PREFIX_BYTES])
{
    prefix[0] = CH_SEAL_SUITE;
    ch_store32(prefix + 1, epoch);
}

enum ch_seal_verdict ch_seal_box_open(const struct ch_seal_epoch_key *keys, size_t key_count,
                                      const uint8_t prefix[CH_SEAL_PREFIX_BYTES], const uint8_t *box, size_t box_length,
                                      uint8_t *plain)
{
    if (prefix[0] != CH_SEAL_SUITE)
        return CH_SEAL_UNKNOWN_SUITE;
    /* A rotation that the chain refused leaves two keys for one epoch: any of them may be the one. */
    uint32_t epoch = ch_load32(prefix + 1);
    enum ch_seal_verdict verdict = CH_SEAL_NO_KEY;
    for (size_t i = 0; i < key_count; i++) {
        if (keys[i].epoch != epoch)
            continue;
        if (crypto_box_seal_open(plain, box, box_length, keys[i].key.public_key, keys[i].key.secret_key) == 0)
            return CH_SEAL_OK;
        verdict = CH_SEAL_BROKEN;
    }
    return verdict;
}

void ch_envelope_header_write(struct ch_writer *w, const struct ch_envelope *envelope)
{
    ch_write8(w, CH_ENVELOPE_VERSION);
    ch_write64(w, envelope->written_ms);
    ch_write8(w, envelope->type);
    ch_write16(w, envelope->name_length);
    ch_write(w, envelope->name, envelope->name_length);
}

bool ch_envelope_header_read(struct ch_reader *r, struct ch_envelope *out)
{
    uint8_t version = ch_read8(r);
    struct ch_envelope e = {.written_ms = ch_read64(r)};
    e.type = ch_read8(r);
    e.name_length = ch_read16(r);
    e.name = ch_read(r, e.name_length);
    if (r->bad || version != CH_ENVELOPE_VERSION || e.name_length > CH_ENVELOPE_NAME_BYTES_MAX)
        return false;
    *out = e;
    return true;
}

ch_err ch_seal_inline(const uint8_t recipient[32], uint32_t epoch, const struct ch_envelope *envelope, uint8_t *out,
                      size_t capacity, size_t *length, uint8_t commitment[CH_COMMITMENT_BYTES])
{
    if (envelope->name_length > CH_ENVELOPE_NAME_BYTES_MAX || !ch_seal_key_strong(recipient))
        return CH_ERR_INVALID;
    if (capacity < CH_SEAL_INLINE_EXTRA_BYTES + (size_t)envelope->name_length ||
        envelope->content_length > capacity - CH_SEAL_INLINE_EXTRA_BYTES - envelope->name_length)
        return CH_ERR_FULL;
    size_t plain_length =
        COMMITMENT_KEY_BYTES + CH_ENVELOPE_HEADER_BYTES + envelope->name_length + envelope->content_length;
    uint8_t *plain = malloc(plain_length);
    if (!plain)
        return CH_ERR_NO_MEMORY;
    struct ch_writer w = ch_writer(plain, plain_length);
    randombytes_buf(ch_write_room(&w, COMMITMENT_KEY_BYTES), COMMITMENT_KEY_BYTES);
    ch_envelope_header_write(&w, envelope);
    ch_write(&w, envelope->content, envelope->content_length);
    CH_ASSERT(!w.bad && w.used == plain_length);
    CH_ASSERT(crypto_generichash(commitment, CH_COMMITMENT_BYTES, plain + COMMITMENT_KEY_BYTES,
                                 plain_length - COMMITMENT_KEY_BYTES, plain, COMMITMENT_KEY_BYTES) == 0);
    ch_seal_prefix_write(epoch, out);
    CH_ASSERT(crypto_box_seal(out + CH_SEAL_PREFIX_BYTES, plain, plain_length, recipient) == 0);
    *length = CH_SEAL_PREFIX_BYTES + crypto_box_SEALBYTES + plain_length;
    sodium_memzero(plain, plain_length);
    free(plain);
    return CH_OK;
}

enum ch_seal_verdict ch_open_inline(const struct ch_seal_epoch_key *keys, size_t key_count, const uint8_t *ciphertext,
                                    size_t length, const uint8_t commitment[CH_COMMITMENT_BYTES], uint8_t *plain,
                                    struct ch_envelope *envelope)
{
    if (length < CH_SEAL_PREFIX_BYTES)
        return CH_SEAL_BROKEN;
    if (ciphertext[0] != CH_SEAL_SUITE)
        return CH_SEAL_UNKNOWN_SUITE;
    if (length < CH_SEAL_PREFIX_BYTES + crypto_box_SEALBYTES)
        return CH_SEAL_BROKEN;
    enum ch_seal_verdict verdict = ch_seal_box_open(keys, key_count, ciphertext, ciphertext + CH_SEAL_PREFIX_BYTES,
                                                    length - CH_SEAL_PREFIX_BYTES, plain);
    if (verdict != CH_SEAL_OK)
        return verdict;
    size_t plain_length = length - CH_SEAL_PREFIX_BYTES - crypto_box_SEALBYTES;
    struct ch_reader r = ch_reader(plain, plain_length);
    struct ch_envelope e;
    const uint8_t *commitment_key = ch_read(&r, COMMITMENT_KEY_BYTES);
    if (!commitment_key || !ch_envelope_header_read(&r, &e))
        return CH_SEAL_BAD_ENVELOPE;
    e.content = r.at;
    e.content_length = r.left;
    uint8_t found[CH_COMMITMENT_BYTES];
    CH_ASSERT(crypto_generichash(found, sizeof found, plain + COMMITMENT_KEY_BYTES, plain_length - COMMITMENT_KEY_BYTES,
                                 commitment_key, COMMITMENT_KEY_BYTES) == 0);
    if (memcmp(found, commitment, sizeof found) != 0)
        return CH_SEAL_BAD_COMMITMENT;
    *envelope = e;
    return CH_SEAL_OK;
}
