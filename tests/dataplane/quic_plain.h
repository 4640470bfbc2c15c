/* tests/dataplane/quic_plain.h - QUIC without secrecy, so that changed datagrams get past decryption and into the
 * library.
 *
 * Wraps the library's packet protection at link time (QUIC_PLAIN_WRAP in meson): payloads stay as they are, tags are
 * zeros and not looked at, header protection is none. TLS itself runs for real. Only for test programs; nothing in the
 * engine knows of it. Also makes frames to put into such datagrams.
 */
#ifndef CHAPPE_TESTS_QUIC_PLAIN_H
#define CHAPPE_TESTS_QUIC_PLAIN_H

#include "base/bytes.h"
#include "base/prng.h"

#include <ngtcp2/ngtcp2.h>

#define PLAIN_TAG_BYTES 16

int __wrap_ngtcp2_crypto_encrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                                    const uint8_t *plaintext, size_t plaintextlen, const uint8_t *nonce,
                                    size_t noncelen, const uint8_t *aad, size_t aadlen);
int __wrap_ngtcp2_crypto_decrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                                    const uint8_t *ciphertext, size_t ciphertextlen, const uint8_t *nonce,
                                    size_t noncelen, const uint8_t *aad, size_t aadlen);
int __wrap_ngtcp2_crypto_hp_mask_cb(uint8_t *dest, const ngtcp2_crypto_cipher *hp, const ngtcp2_crypto_cipher_ctx *ctx,
                                    const uint8_t *sample);

int __wrap_ngtcp2_crypto_encrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                                    const uint8_t *plaintext, size_t plaintextlen, const uint8_t *nonce,
                                    size_t noncelen, const uint8_t *aad, size_t aadlen)
{
    memmove(dest, plaintext, plaintextlen);
    memset(dest + plaintextlen, 0, PLAIN_TAG_BYTES);
    return 0;
}

int __wrap_ngtcp2_crypto_decrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                                    const uint8_t *ciphertext, size_t ciphertextlen, const uint8_t *nonce,
                                    size_t noncelen, const uint8_t *aad, size_t aadlen)
{
    if (ciphertextlen < PLAIN_TAG_BYTES)
        return NGTCP2_ERR_DECRYPT;
    memmove(dest, ciphertext, ciphertextlen - PLAIN_TAG_BYTES);
    return 0;
}

int __wrap_ngtcp2_crypto_hp_mask_cb(uint8_t *dest, const ngtcp2_crypto_cipher *hp, const ngtcp2_crypto_cipher_ctx *ctx,
                                    const uint8_t *sample)
{
    memset(dest, 0, NGTCP2_HP_SAMPLELEN);
    return 0;
}

static inline void plain_varint(struct ch_writer *w, uint64_t v)
{
    if (v < 64) {
        ch_write8(w, (uint8_t)v);
    } else if (v < 16384) {
        ch_write16(w, __builtin_bswap16((uint16_t)(v | 0x4000)));
    } else if (v < (1u << 30)) {
        ch_write32(w, __builtin_bswap32((uint32_t)v | 0x80000000u));
    } else {
        ch_write64(w, __builtin_bswap64((v & ((UINT64_C(1) << 62) - 1)) | UINT64_C(0xc000000000000000)));
    }
}

/* A number of the sizes that matter: near zero, ids of streams, limits, the largest. */
static inline uint64_t plain_number(struct ch_prng *g)
{
    switch (ch_prng_below(g, 8)) {
    case 0:
        return 0;
    case 1:
    case 2:
    case 3:
        return ch_prng_below(g, 20);
    case 4:
        return ch_prng_below(g, 3000);
    case 5:
        return (1u << 20) - 8 + ch_prng_below(g, 16);
    case 6:
        return (UINT64_C(1) << 62) - 1 - ch_prng_below(g, 3);
    default:
        return ch_prng_next(g) >> (2 + ch_prng_below(g, 60));
    }
}

static inline void plain_bytes(struct ch_writer *w, struct ch_prng *g, size_t length)
{
    for (size_t i = 0; i < length; i++)
        ch_write8(w, (uint8_t)ch_prng_next(g));
}

/* One QUIC frame (RFC 9000 19), well-formed or nearly so, with numbers that a peer has no right to. */
static inline void plain_frame(struct ch_writer *w, struct ch_prng *g)
{
    uint64_t type = ch_prng_below(g, 0x20), n;
    if (type == 0x1f)
        type = 0x30 + ch_prng_below(g, 2);
    if (type == 0x1c || type == 0x1d)
        type = ch_prng_below(g, 16) ? 0x01 : type; /* closing ends the fun */
    plain_varint(w, type);
    switch (type) {
    case 0x02:
    case 0x03: /* ACK */
        plain_varint(w, plain_number(g));
        plain_varint(w, plain_number(g));
        n = ch_prng_below(g, 4);
        plain_varint(w, n);
        plain_varint(w, plain_number(g));
        for (uint64_t i = 0; i < 2 * n + (type == 0x03 ? 3 : 0); i++)
            plain_varint(w, plain_number(g));
        break;
    case 0x04: /* RESET_STREAM */
        plain_varint(w, plain_number(g));
        plain_varint(w, plain_number(g));
        plain_varint(w, plain_number(g));
        break;
    case 0x05: /* STOP_SENDING */
    case 0x11: /* MAX_STREAM_DATA */
    case 0x15: /* STREAM_DATA_BLOCKED */
        plain_varint(w, plain_number(g));
        plain_varint(w, plain_number(g));
        break;
    case 0x06: /* CRYPTO */
        plain_varint(w, plain_number(g));
        n = ch_prng_below(g, 40);
        plain_varint(w, n);
        plain_bytes(w, g, n);
        break;
    case 0x07: /* NEW_TOKEN */
        n = ch_prng_below(g, 40);
        plain_varint(w, n);
        plain_bytes(w, g, n);
        break;
    case 0x18: /* NEW_CONNECTION_ID */
        plain_varint(w, plain_number(g));
        plain_varint(w, plain_number(g));
        n = ch_prng_below(g, 8) ? 8 + ch_prng_below(g, 13) : ch_prng_below(g, 30);
        ch_write8(w, (uint8_t)n);
        plain_bytes(w, g, n + 16);
        break;
    case 0x1a:
    case 0x1b: /* PATH_CHALLENGE, PATH_RESPONSE */
        plain_bytes(w, g, 8);
        break;
    case 0x1c:
    case 0x1d: /* CONNECTION_CLOSE */
        plain_varint(w, plain_number(g));
        if (type == 0x1c)
            plain_varint(w, plain_number(g));
        n = ch_prng_below(g, 40);
        plain_varint(w, n);
        plain_bytes(w, g, n);
        break;
    case 0x10: /* MAX_DATA */
    case 0x12:
    case 0x13: /* MAX_STREAMS */
    case 0x14: /* DATA_BLOCKED */
    case 0x16:
    case 0x17: /* STREAMS_BLOCKED */
    case 0x19: /* RETIRE_CONNECTION_ID */
        plain_varint(w, plain_number(g));
        break;
    case 0x30:
    case 0x31: /* DATAGRAM */
        n = ch_prng_below(g, 40);
        if (type == 0x31)
            plain_varint(w, n);
        plain_bytes(w, g, n);
        break;
    default:
        if (type >= 0x08 && type <= 0x0f) { /* STREAM: bits FIN, LEN, OFF */
            n = ch_prng_below(g, 40);
            plain_varint(w, ch_prng_below(g, 4) ? 4 * ch_prng_below(g, 5) : plain_number(g));
            if (type & 4)
                plain_varint(w, plain_number(g));
            if (type & 2)
                plain_varint(w, n);
            plain_bytes(w, g, n);
        }
        break;
    }
}

/* Puts frames into a datagram whose last packet has a short header: before its tag. */
static inline void plain_insert(uint8_t *bytes, size_t *length, size_t room, struct ch_prng *g)
{
    if (*length < 40 || (bytes[0] & 0x80))
        return;
    uint8_t *end = bytes + *length - PLAIN_TAG_BYTES;
    struct ch_writer w = ch_writer(end, room - *length);
    for (uint64_t n = 1 + ch_prng_below(g, 3); n > 0; n--)
        plain_frame(&w, g);
    if (w.used + PLAIN_TAG_BYTES > room - (*length - PLAIN_TAG_BYTES))
        return;
    memset(end + w.used, 0, PLAIN_TAG_BYTES);
    *length += w.used;
}

#endif
