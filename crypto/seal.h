/* crypto/seal.h - end-to-end sealing, suite 0: to the recipient's seal key, as one short ciphertext or as a stream.
 *
 *   envelope:         u8 version 1 | u64 written ms | u8 type | u16 name length | name | content
 *   sealed plaintext: inline: 32 commitment key | envelope
 *                     object: 32 commitment key | u64 length of the content | envelope | zeros up to a size class
 *   size class:       Padme (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
 *                     PURBs", PETS 2019, algorithm 1): a length's last bits are zeros, all but as many of the first as
 *                     its own logarithm's length; at most 12 % longer, 3.2 % from 64 KiB on
 *   inline:           u8 suite 0 | u32 seal epoch | crypto_box_seal(sealed plaintext)
 *   object:           u8 suite 0 | u32 seal epoch | crypto_box_seal(32 stream key) | 24 secretstream header |
 *                     chunks: crypto_secretstream_xchacha20poly1305 of 65,536 bytes of the sealed plaintext each, the
 *                     last one 1 to 65,536 and tagged FINAL, 17 bytes more than they hold
 *   commitment:       BLAKE2b-256, keyed with the commitment key, over the envelope
 *
 * A message that has an inline ciphertext commits to the envelope in it. Where it has an object too, that envelope is a
 * note, whose content is 32 commitment to the object's envelope | u64 length of the object's content | text: so the
 * chain's one commitment binds both. A message with an object alone commits to the envelope in the object.
 *
 * What:    confidentiality and integrity against everyone but the recipient; the sender's signature over the commitment
 *          (wire/tx.h) says who sent it. Not: no forward secrecy; a ciphertext doesn't name its sender, so that whoever
 *          sees one can send a copy of it as his own.
 * Thread:  a sealer or opener belongs to one thread. Memory: an object of any size takes 200 KiB.
 * Errors:  what comes out of a ciphertext is a verdict; bytes that were given out before a bad one was found are
 *          authentic but not complete: keep them apart until ch_opener_end says CH_SEAL_OK.
 * Needs:   ch_sign_init before.
 */
#ifndef CHAPPE_CRYPTO_SEAL_H
#define CHAPPE_CRYPTO_SEAL_H

#include "crypto/sign.h"

#define CH_SEAL_SUITE              0
#define CH_ENVELOPE_VERSION        1
#define CH_ENVELOPE_HEADER_BYTES   12
#define CH_ENVELOPE_NAME_BYTES_MAX 1024 /* so that it fits the first chunk; longer ones are refused */
#define CH_COMMITMENT_BYTES        32
#define CH_SEAL_CHUNK_BYTES        65536
#define CH_SEAL_INLINE_EXTRA_BYTES                                                                                     \
    (5 + 48 + 32 + CH_ENVELOPE_HEADER_BYTES) /* a ciphertext is longer than name and content */
#define CH_NOTE_HEADER_BYTES (CH_COMMITMENT_BYTES + 8)

enum ch_envelope_type {
    CH_ENVELOPE_TEXT = 1, /* content: UTF-8 */
    CH_ENVELOPE_FILE = 2, /* name: its file name; content: its bytes */
    CH_ENVELOPE_NOTE = 3, /* name: the object's; content: see above */
};

struct ch_envelope {
    uint64_t written_ms; /* Unix time when the sender wrote it */
    uint8_t type;        /* readers show an unknown one as a file */
    uint16_t name_length;
    const uint8_t *name;
    const uint8_t *content; /* not looked at, and NULL, where the content is streamed */
    size_t content_length;
};

/* A seal key of one's own and the epoch since which the chain names it. */
struct ch_seal_epoch_key {
    uint32_t epoch;
    struct ch_seal_key key;
};

#define CH_SEAL_VERDICT_LIST(X)                                                                                        \
    X(OK, "good")                                                                                                      \
    X(UNKNOWN_SUITE, "sealed in a way this version does not know")                                                     \
    X(NO_KEY, "sealed to a key that is not in the key file")                                                           \
    X(BROKEN, "damaged, cut short or out of order")                                                                    \
    X(BAD_ENVELOPE, "what was sealed is no envelope")                                                                  \
    X(BAD_PADDING, "not padded with zeros to its size class")                                                          \
    X(BAD_COMMITMENT, "not what the sender signed")                                                                    \
    X(STOPPED, "the receiver of the bytes refused them")

enum ch_seal_verdict {
#define X(name, text) CH_SEAL_##name,
    CH_SEAL_VERDICT_LIST(X)
#undef X
};
/* "BROKEN" and its sentence. */
const char *ch_seal_verdict_name(enum ch_seal_verdict verdict);
const char *ch_seal_verdict_text(enum ch_seal_verdict verdict);

/* Writes the inline ciphertext of an envelope (name and content CH_SEAL_INLINE_EXTRA_BYTES longer) and its commitment.
 * CH_ERR_FULL: longer than `capacity`; CH_ERR_INVALID: the name is too long, or the key of small order;
 * CH_ERR_NO_MEMORY. */
CH_MUST_CHECK ch_err ch_seal_inline(const uint8_t recipient[32], uint32_t epoch, const struct ch_envelope *envelope,
                                    uint8_t *out, size_t capacity, size_t *length,
                                    uint8_t commitment[CH_COMMITMENT_BYTES]);

/* Opens an inline ciphertext into `plain`, which holds at least `length` bytes; `envelope` points into it. `commitment`
 * is the one of the transaction. Outputs are meaningless unless CH_SEAL_OK. */
CH_MUST_CHECK enum ch_seal_verdict ch_open_inline(const struct ch_seal_epoch_key *keys, size_t key_count,
                                                  const uint8_t *ciphertext, size_t length,
                                                  const uint8_t commitment[CH_COMMITMENT_BYTES], uint8_t *plain,
                                                  struct ch_envelope *envelope);

/* Takes what a sealer or opener gives out, in order; anything but CH_OK ends it. */
typedef ch_err (*ch_sink)(void *context, const uint8_t *bytes, size_t length);

/* The size class of a length: what it is padded to. At most 2^62. */
uint64_t ch_seal_padded(uint64_t length);
/* How long the object of an envelope with that much content is. */
uint64_t ch_seal_object_bytes(uint16_t name_length, uint64_t content_length);

/* A sealer: open, add all content in pieces of any size, end. Of the envelope's content its length alone is looked at.
 * Errors: CH_ERR_INVALID (from open: the name too long, the key of small order; from add and end: more or less content
 * than was said), CH_ERR_NO_MEMORY; else the sink's own. */
struct ch_sealer;
CH_MUST_CHECK ch_err ch_sealer_open(const uint8_t recipient[32], uint32_t epoch, const struct ch_envelope *envelope,
                                    ch_sink sink, void *context, struct ch_sealer **out);
CH_MUST_CHECK ch_err ch_sealer_add(struct ch_sealer *sealer, const uint8_t *content, size_t length);
CH_MUST_CHECK ch_err ch_sealer_end(struct ch_sealer *sealer, uint8_t commitment[CH_COMMITMENT_BYTES]);
/* Begins from the start with the same secrets, whatever was added so far: the same content gives the same object. The
 * caller lets nothing out that differs from the first time: two contents under the same secrets betray each other. */
CH_MUST_CHECK ch_err ch_sealer_again(struct ch_sealer *sealer);
void ch_sealer_close(struct ch_sealer *sealer); /* NULL is fine */

/* An opener: open, add the object in pieces of any size, end with the commitment that must fit. The sink gets the
 * content. After a verdict other than OK every later call gives the same. */
struct ch_opener;
CH_MUST_CHECK ch_err ch_opener_open(const struct ch_seal_epoch_key *keys, size_t key_count, ch_sink sink, void *context,
                                    struct ch_opener **out);
CH_MUST_CHECK enum ch_seal_verdict ch_opener_add(struct ch_opener *opener, const uint8_t *bytes, size_t length);
CH_MUST_CHECK enum ch_seal_verdict ch_opener_end(struct ch_opener *opener,
                                                 const uint8_t commitment[CH_COMMITMENT_BYTES]);
/* The envelope without its content, or NULL before it is known; it is known when the sink is first called. */
const struct ch_envelope *ch_opener_envelope(const struct ch_opener *opener);
void ch_opener_close(struct ch_opener *opener); /* NULL is fine */

#endif
