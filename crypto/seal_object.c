#include "crypto/seal.h"

#include "crypto/seal_impl.h"

#include <sodium.h>
#include <stdlib.h>

#define BOX_BYTES          (crypto_box_SEALBYTES + crypto_secretstream_xchacha20poly1305_KEYBYTES)
#define STREAM_HEAD_BYTES  crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define OBJECT_HEAD_BYTES  (CH_SEAL_PREFIX_BYTES + BOX_BYTES + STREAM_HEAD_BYTES)
#define CHUNK_EXTRA_BYTES  crypto_secretstream_xchacha20poly1305_ABYTES
#define SEALED_CHUNK_BYTES (CH_SEAL_CHUNK_BYTES + CHUNK_EXTRA_BYTES)
#define TAG_MESSAGE        crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
#define TAG_FINAL          crypto_secretstream_xchacha20poly1305_TAG_FINAL

#define CONTENT_BYTES_MAX (UINT64_C(1) << 61)
#define PLAIN_HEAD_BYTES  (COMMITMENT_KEY_BYTES + 8) /* before the envelope */

/* Where a sealer stands; kept from the start for one that begins again. */
struct progress {
    crypto_secretstream_xchacha20poly1305_state stream;
    crypto_generichash_state commitment;
    uint64_t left, padding_left; /* bytes to come: content, zeros */
    size_t used;                 /* of plain */
};

struct ch_sealer {
    struct progress now, start;
    ch_sink sink;
    void *context;
    uint8_t head[OBJECT_HEAD_BYTES];
    uint8_t plain_start[PLAIN_HEAD_BYTES + CH_ENVELOPE_HEADER_BYTES + CH_ENVELOPE_NAME_BYTES_MAX];
    uint8_t plain[CH_SEAL_CHUNK_BYTES];
    uint8_t sealed[SEALED_CHUNK_BYTES];
};

uint64_t ch_seal_padded(uint64_t length)
{
    unsigned exponent = 0, exponent_bits = 0;
    CH_ASSERT(length <= UINT64_C(1) << 62);
    if (length < 2)
        return length;
    while (length >> (exponent + 1))
        exponent++;
    while (exponent >> exponent_bits)
        exponent_bits++;
    if (exponent <= exponent_bits)
        return length;
    uint64_t mask = (UINT64_C(1) << (exponent - exponent_bits)) - 1;
    return (length + mask) & ~mask;
}

static uint64_t plain_bytes(uint16_t name_length, uint64_t content_length)
{
    return PLAIN_HEAD_BYTES + CH_ENVELOPE_HEADER_BYTES + name_length + content_length;
}

uint64_t ch_seal_object_bytes(uint16_t name_length, uint64_t content_length)
{
    uint64_t plain = ch_seal_padded(plain_bytes(name_length, content_length));
    uint64_t chunks = (plain + CH_SEAL_CHUNK_BYTES - 1) / CH_SEAL_CHUNK_BYTES;
    return OBJECT_HEAD_BYTES + plain + chunks * CHUNK_EXTRA_BYTES;
}

ch_err ch_sealer_open(const uint8_t recipient[32], uint32_t epoch, const struct ch_envelope *envelope, ch_sink sink,
                      void *context, struct ch_sealer **out)
{
    if (envelope->name_length > CH_ENVELOPE_NAME_BYTES_MAX || envelope->content_length > CONTENT_BYTES_MAX ||
        !ch_seal_key_strong(recipient))
        return CH_ERR_INVALID;
    struct ch_sealer *s = aligned_alloc(_Alignof(struct ch_sealer), sizeof *s); /* libsodium's hash state wants 64 */
    if (!s)
        return CH_ERR_NO_MEMORY;
    s->sink = sink;
    s->context = context;

    struct progress *start = &s->start;
    uint8_t stream_key[crypto_secretstream_xchacha20poly1305_KEYBYTES];
    crypto_secretstream_xchacha20poly1305_keygen(stream_key);
    ch_seal_prefix_write(epoch, s->head);
    CH_ASSERT(crypto_box_seal(s->head + CH_SEAL_PREFIX_BYTES, stream_key, sizeof stream_key, recipient) == 0);
    CH_ASSERT(crypto_secretstream_xchacha20poly1305_init_push(
                  &start->stream, s->head + CH_SEAL_PREFIX_BYTES + BOX_BYTES, stream_key) == 0);
    sodium_memzero(stream_key, sizeof stream_key);

    struct ch_writer w = ch_writer(s->plain_start, sizeof s->plain_start);
    uint8_t *commitment_key = ch_write_room(&w, COMMITMENT_KEY_BYTES);
    randombytes_buf(commitment_key, COMMITMENT_KEY_BYTES);
    ch_write64(&w, envelope->content_length);
    ch_envelope_header_write(&w, envelope);
    CH_ASSERT(!w.bad);
    start->used = w.used;
    start->left = envelope->content_length;
    uint64_t plain = plain_bytes(envelope->name_length, envelope->content_length);
    start->padding_left = ch_seal_padded(plain) - plain;
    CH_ASSERT(crypto_generichash_init(&start->commitment, commitment_key, COMMITMENT_KEY_BYTES, CH_COMMITMENT_BYTES) ==
              0);
    crypto_generichash_update(&start->commitment, s->plain_start + PLAIN_HEAD_BYTES, start->used - PLAIN_HEAD_BYTES);

    ch_err err = ch_sealer_again(s);
    if (err != CH_OK) {
        ch_sealer_close(s);
        return err;
    }
    *out = s;
    return CH_OK;
}

ch_err ch_sealer_again(struct ch_sealer *s)
{
    s->now = s->start;
    memcpy(s->plain, s->plain_start, s->start.used);
    return s->sink(s->context, s->head, sizeof s->head);
}

static ch_err push_chunk(struct ch_sealer *s, uint8_t tag)
{
    CH_ASSERT(crypto_secretstream_xchacha20poly1305_push(&s->now.stream, s->sealed, NULL, s->plain, s->now.used, NULL,
                                                         0, tag) == 0);
    ch_err err = s->sink(s->context, s->sealed, s->now.used + CHUNK_EXTRA_BYTES);
    s->now.used = 0;
    return err;
}

/* Adds so many bytes of content, or zeros where it is NULL. */
static ch_err push(struct ch_sealer *s, const uint8_t *content, uint64_t length)
{
    while (length) {
        /* A full chunk is held back until more comes: it may be the last. */
        if (s->now.used == CH_SEAL_CHUNK_BYTES) {
            ch_err err = push_chunk(s, TAG_MESSAGE);
            if (err != CH_OK)
                return err;
        }
        size_t room = CH_SEAL_CHUNK_BYTES - s->now.used, take = room < length ? room : (size_t)length;
        if (content) {
            memcpy(s->plain + s->now.used, content, take);
            content += take;
        } else {
            memset(s->plain + s->now.used, 0, take);
        }
        s->now.used += take;
        length -= take;
    }
    return CH_OK;
}

ch_err ch_sealer_add(struct ch_sealer *s, const uint8_t *content, size_t length)
{
    if (length > s->now.left)
        return CH_ERR_INVALID;
    s->now.left -= length;
    crypto_generichash_update(&s->now.commitment, content, length);
    return push(s, content, length);
}

ch_err ch_sealer_end(struct ch_sealer *s, uint8_t commitment[CH_COMMITMENT_BYTES])
{
    if (s->now.left)
        return CH_ERR_INVALID;
    ch_err err = push(s, NULL, s->now.padding_left);
    if (err == CH_OK)
        err = push_chunk(s, TAG_FINAL);
    if (err == CH_OK)
        crypto_generichash_final(&s->now.commitment, commitment, CH_COMMITMENT_BYTES);
    return err;
}

void ch_sealer_close(struct ch_sealer *s)
{
    if (s)
        sodium_memzero(s, sizeof *s);
    free(s);
}

struct ch_opener {
    crypto_secretstream_xchacha20poly1305_state stream;
    crypto_generichash_state commitment;
    const struct ch_seal_epoch_key *keys;
    size_t key_count;
    ch_sink sink;
    void *context;
    enum ch_seal_verdict verdict;
    bool head_done, envelope_done, final_seen;
    uint64_t left, padding_left; /* bytes to come: content, zeros */
    struct ch_envelope envelope;
    uint8_t name[CH_ENVELOPE_NAME_BYTES_MAX];
    size_t used; /* of sealed */
    uint8_t sealed[SEALED_CHUNK_BYTES];
    uint8_t plain[CH_SEAL_CHUNK_BYTES];
};

ch_err ch_opener_open(const struct ch_seal_epoch_key *keys, size_t key_count, ch_sink sink, void *context,
                      struct ch_opener **out)
{
    struct ch_opener *o = aligned_alloc(_Alignof(struct ch_opener), sizeof *o);
    if (!o)
        return CH_ERR_NO_MEMORY;
    memset(o, 0, sizeof *o);
    o->keys = keys;
    o->key_count = key_count;
    o->sink = sink;
    o->context = context;
    *out = o;
    return CH_OK;
}

static enum ch_seal_verdict open_head(struct ch_opener *o)
{
    uint8_t stream_key[crypto_secretstream_xchacha20poly1305_KEYBYTES];
    enum ch_seal_verdict verdict =
        ch_seal_box_open(o->keys, o->key_count, o->sealed, o->sealed + CH_SEAL_PREFIX_BYTES, BOX_BYTES, stream_key);
    if (verdict == CH_SEAL_OK && crypto_secretstream_xchacha20poly1305_init_pull(
                                     &o->stream, o->sealed + CH_SEAL_PREFIX_BYTES + BOX_BYTES, stream_key) != 0)
        verdict = CH_SEAL_BROKEN;
    sodium_memzero(stream_key, sizeof stream_key);
    o->head_done = true;
    o->used = 0;
    return verdict;
}

/* The start of the first chunk; what follows is left in `r`. */
static enum ch_seal_verdict open_envelope(struct ch_opener *o, struct ch_reader *r)
{
    const uint8_t *commitment_key = ch_read(r, COMMITMENT_KEY_BYTES);
    o->left = ch_read64(r);
    const uint8_t *start = r->at;
    if (!commitment_key || o->left > CONTENT_BYTES_MAX || !ch_envelope_header_read(r, &o->envelope))
        return CH_SEAL_BAD_ENVELOPE;
    uint64_t plain = plain_bytes(o->envelope.name_length, o->left);
    o->padding_left = ch_seal_padded(plain) - plain;
    o->envelope.content_length = o->left;
    CH_ASSERT(crypto_generichash_init(&o->commitment, commitment_key, COMMITMENT_KEY_BYTES, CH_COMMITMENT_BYTES) == 0);
    crypto_generichash_update(&o->commitment, start, (size_t)(r->at - start));
    if (o->envelope.name_length)
        memcpy(o->name, o->envelope.name, o->envelope.name_length);
    o->envelope.name = o->name;
    o->envelope_done = true;
    return CH_SEAL_OK;
}

/* Content, and behind its end zeros. */
static enum ch_seal_verdict open_content(struct ch_opener *o, struct ch_reader *r)
{
    size_t length = r->left < o->left ? r->left : (size_t)o->left;
    const uint8_t *content = ch_read(r, length);
    o->left -= length;
    if (length) {
        crypto_generichash_update(&o->commitment, content, length);
        if (o->sink(o->context, content, length) != CH_OK)
            return CH_SEAL_STOPPED;
    }
    if (r->left > o->padding_left || !sodium_is_zero(r->at, r->left))
        return CH_SEAL_BAD_PADDING;
    o->padding_left -= r->left;
    return CH_SEAL_OK;
}

static enum ch_seal_verdict open_chunk(struct ch_opener *o)
{
    unsigned long long length;
    uint8_t tag;
    if (o->used <= CHUNK_EXTRA_BYTES || crypto_secretstream_xchacha20poly1305_pull(&o->stream, o->plain, &length, &tag,
                                                                                   o->sealed, o->used, NULL, 0) != 0)
        return CH_SEAL_BROKEN;
    if (tag != TAG_FINAL && (tag != TAG_MESSAGE || length != CH_SEAL_CHUNK_BYTES))
        return CH_SEAL_BROKEN;
    o->final_seen = tag == TAG_FINAL;
    o->used = 0;
    struct ch_reader r = ch_reader(o->plain, (size_t)length);
    enum ch_seal_verdict verdict = o->envelope_done ? CH_SEAL_OK : open_envelope(o, &r);
    return verdict == CH_SEAL_OK ? open_content(o, &r) : verdict;
}

enum ch_seal_verdict ch_opener_add(struct ch_opener *o, const uint8_t *bytes, size_t length)
{
    while (length && o->verdict == CH_SEAL_OK) {
        if (o->final_seen) {
            o->verdict = CH_SEAL_BROKEN;
            break;
        }
        size_t want = o->head_done ? SEALED_CHUNK_BYTES : OBJECT_HEAD_BYTES;
        size_t take = want - o->used < length ? want - o->used : length;
        memcpy(o->sealed + o->used, bytes, take);
        o->used += take;
        bytes += take;
        length -= take;
        if (o->used == want)
            o->verdict = o->head_done ? open_chunk(o) : open_head(o);
    }
    return o->verdict;
}

enum ch_seal_verdict ch_opener_end(struct ch_opener *o, const uint8_t commitment[CH_COMMITMENT_BYTES])
{
    if (o->verdict == CH_SEAL_OK && o->head_done && !o->final_seen && o->used)
        o->verdict = open_chunk(o);
    if (o->verdict != CH_SEAL_OK)
        return o->verdict;
    if (!o->final_seen || o->left)
        return o->verdict = CH_SEAL_BROKEN;
    if (o->padding_left)
        return o->verdict = CH_SEAL_BAD_PADDING;
    uint8_t found[CH_COMMITMENT_BYTES];
    crypto_generichash_final(&o->commitment, found, sizeof found);
    if (memcmp(found, commitment, sizeof found) != 0)
        o->verdict = CH_SEAL_BAD_COMMITMENT;
    return o->verdict;
}

const struct ch_envelope *ch_opener_envelope(const struct ch_opener *o)
{
    return o->envelope_done ? &o->envelope : NULL;
}

void ch_opener_close(struct ch_opener *o)
{
    if (o)
        sodium_memzero(o, sizeof *o);
    free(o);
}
