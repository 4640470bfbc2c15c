/* crypto/ed25519_sha512_avx512.h - SHA-512 (FIPS 180-4) of sixteen messages at once: two groups of eight lanes, so that
 * the rounds of one fill the waits of the other. A message is R | A | prefix | message of a signature; blocks that lie
 * within the message are read where they are.
 */
#ifndef CHAPPE_CRYPTO_ED25519_SHA512_AVX512_H
#define CHAPPE_CRYPTO_ED25519_SHA512_AVX512_H

#include "crypto/ed25519_field_avx512ifma.h"
#include "crypto/ed25519_impl.h"

#define SHA512_BLOCK 128
#define HEAD_BYTES   64 /* R | A */

static const uint64_t sha512_rounds[80] = {
    0x428a2f98d728ae22u, 0x7137449123ef65cdu, 0xb5c0fbcfec4d3b2fu, 0xe9b5dba58189dbbcu,
    0x3956c25bf348b538u, 0x59f111f1b605d019u, 0x923f82a4af194f9bu, 0xab1c5ed5da6d8118u,
    0xd807aa98a3030242u, 0x12835b0145706fbeu, 0x243185be4ee4b28cu, 0x550c7dc3d5ffb4e2u,
    0x72be5d74f27b896fu, 0x80deb1fe3b1696b1u, 0x9bdc06a725c71235u, 0xc19bf174cf692694u,
    0xe49b69c19ef14ad2u, 0xefbe4786384f25e3u, 0x0fc19dc68b8cd5b5u, 0x240ca1cc77ac9c65u,
    0x2de92c6f592b0275u, 0x4a7484aa6ea6e483u, 0x5cb0a9dcbd41fbd4u, 0x76f988da831153b5u,
    0x983e5152ee66dfabu, 0xa831c66d2db43210u, 0xb00327c898fb213fu, 0xbf597fc7beef0ee4u,
    0xc6e00bf33da88fc2u, 0xd5a79147930aa725u, 0x06ca6351e003826fu, 0x142929670a0e6e70u,
    0x27b70a8546d22ffcu, 0x2e1b21385c26c926u, 0x4d2c6dfc5ac42aedu, 0x53380d139d95b3dfu,
    0x650a73548baf63deu, 0x766a0abb3c77b2a8u, 0x81c2c92e47edaee6u, 0x92722c851482353bu,
    0xa2bfe8a14cf10364u, 0xa81a664bbc423001u, 0xc24b8b70d0f89791u, 0xc76c51a30654be30u,
    0xd192e819d6ef5218u, 0xd69906245565a910u, 0xf40e35855771202au, 0x106aa07032bbd1b8u,
    0x19a4c116b8d2d0c8u, 0x1e376c085141ab53u, 0x2748774cdf8eeb99u, 0x34b0bcb5e19b48a8u,
    0x391c0cb3c5c95a63u, 0x4ed8aa4ae3418acbu, 0x5b9cca4f7763e373u, 0x682e6ff3d6b2b8a3u,
    0x748f82ee5defb2fcu, 0x78a5636f43172f60u, 0x84c87814a1f0ab72u, 0x8cc702081a6439ecu,
    0x90befffa23631e28u, 0xa4506cebde82bde9u, 0xbef9a3f7b2c67915u, 0xc67178f2e372532bu,
    0xca273eceea26619cu, 0xd186b8c721c0c207u, 0xeada7dd6cde0eb1eu, 0xf57d4f7fee6ed178u,
    0x06f067aa72176fbau, 0x0a637dc5a2c898a6u, 0x113f9804bef90daeu, 0x1b710b35131c471bu,
    0x28db77f523047d84u, 0x32caab7b40c72493u, 0x3c9ebe0a15c9bebcu, 0x431d67c49c100d4cu,
    0x4cc5d4becb3e42b6u, 0x597f299cfc657e2au, 0x5fcb6fab3ad6faecu, 0x6c44198c4a475817u,
};
static const uint64_t sha512_start[8] = {
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u,
};

INLINE __m512i xor3(__m512i a, __m512i b, __m512i c)
{
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}

/* Round i of both groups; the state moves one place by renaming. */
#define SHA512_ROUND(a, b, c, d, e, f, g, h, i)                                                                        \
    UNROLL for (int n = 0; n < 2; n++)                                                                                 \
    {                                                                                                                  \
        __m512i sum1 = xor3(_mm512_ror_epi64(e[n], 14), _mm512_ror_epi64(e[n], 18), _mm512_ror_epi64(e[n], 41));       \
        __m512i choice = _mm512_ternarylogic_epi64(e[n], f[n], g[n], 0xca);                                            \
        __m512i keyed = _mm512_add_epi64(w[n][i], _mm512_set1_epi64((int64_t)round_keys[i]));                          \
        __m512i t1 = _mm512_add_epi64(_mm512_add_epi64(h[n], keyed), _mm512_add_epi64(sum1, choice));                  \
        __m512i sum0 = xor3(_mm512_ror_epi64(a[n], 28), _mm512_ror_epi64(a[n], 34), _mm512_ror_epi64(a[n], 39));       \
        __m512i majority = _mm512_ternarylogic_epi64(a[n], b[n], c[n], 0xe8);                                          \
        d[n] = _mm512_add_epi64(d[n], t1);                                                                             \
        h[n] = _mm512_add_epi64(t1, _mm512_add_epi64(sum0, majority));                                                 \
    }

static inline void sha512_schedule(__m512i w[2][16])
{
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++)
        UNROLL for (int n = 0; n < 2; n++) {
            __m512i x = w[n][(i + 1) % 16], y = w[n][(i + 14) % 16];
            __m512i sigma0 = xor3(_mm512_ror_epi64(x, 1), _mm512_ror_epi64(x, 8), _mm512_srli_epi64(x, 7));
            __m512i sigma1 = xor3(_mm512_ror_epi64(y, 19), _mm512_ror_epi64(y, 61), _mm512_srli_epi64(y, 6));
            w[n][i] = _mm512_add_epi64(_mm512_add_epi64(w[n][i], sigma0),
                                       _mm512_add_epi64(w[n][(i + 9) % 16], sigma1));
        }
}

/* One block of each lane; the state of lanes outside `active` stays. */
static void sha512_compress(__m512i state[8][2], __m512i w[2][16], mask active)
{
    __m512i a[2], b[2], c[2], d[2], e[2], f[2], g[2], h[2];
    UNROLL for (int n = 0; n < 2; n++)
    {
        a[n] = state[0][n], b[n] = state[1][n], c[n] = state[2][n], d[n] = state[3][n];
        e[n] = state[4][n], f[n] = state[5][n], g[n] = state[6][n], h[n] = state[7][n];
    }
    const uint64_t *round_keys = sha512_rounds;
    for (int sixteen = 0;; sixteen++) {
        SHA512_ROUND(a, b, c, d, e, f, g, h, 0)
        SHA512_ROUND(h, a, b, c, d, e, f, g, 1)
        SHA512_ROUND(g, h, a, b, c, d, e, f, 2)
        SHA512_ROUND(f, g, h, a, b, c, d, e, 3)
        SHA512_ROUND(e, f, g, h, a, b, c, d, 4)
        SHA512_ROUND(d, e, f, g, h, a, b, c, 5)
        SHA512_ROUND(c, d, e, f, g, h, a, b, 6)
        SHA512_ROUND(b, c, d, e, f, g, h, a, 7)
        SHA512_ROUND(a, b, c, d, e, f, g, h, 8)
        SHA512_ROUND(h, a, b, c, d, e, f, g, 9)
        SHA512_ROUND(g, h, a, b, c, d, e, f, 10)
        SHA512_ROUND(f, g, h, a, b, c, d, e, 11)
        SHA512_ROUND(e, f, g, h, a, b, c, d, 12)
        SHA512_ROUND(d, e, f, g, h, a, b, c, 13)
        SHA512_ROUND(c, d, e, f, g, h, a, b, 14)
        SHA512_ROUND(b, c, d, e, f, g, h, a, 15)
        round_keys += 16;
        if (sixteen == 4)
            break;
        sha512_schedule(w);
    }
    UNROLL for (int n = 0; n < 2; n++)
    {
        const __m512i end[8] = {a[n], b[n], c[n], d[n], e[n], f[n], g[n], h[n]};
        UNROLL for (int i = 0; i < 8; i++)
            state[i][n] = _mm512_mask_add_epi64(state[i][n], (__mmask8)(active >> 8 * n), state[i][n], end[i]);
    }
}


/* The blocks of a padded message: 128 bytes each, with 0x80 and the length in 16 bytes at the end. */
static inline uint32_t sha512_blocks(const struct ch_ed25519_item *item)
{
    return (uint32_t)((HEAD_BYTES + (uint64_t)item->prefix_length + item->message_length + 17 + SHA512_BLOCK - 1) /
                      SHA512_BLOCK);
}

/* Copies what of `part`, which starts at part_at of the stream, falls into the block at block_at. */
static inline void stage_part(uint8_t *block, uint64_t block_at, const uint8_t *part, uint64_t part_at, uint64_t length)
{
    uint64_t from = part_at > block_at ? part_at : block_at;
    uint64_t end = part_at + length < block_at + SHA512_BLOCK ? part_at + length : block_at + SHA512_BLOCK;
    if (from < end)
        memcpy(block + (from - block_at), part + (from - part_at), end - from);
}

/* Block `index` of the item's padded message: where it lies, or put together in `spare`. */
static const uint8_t *sha512_block(const struct ch_ed25519_item *item, uint32_t index, uint8_t *spare)
{
    uint64_t at = (uint64_t)index * SHA512_BLOCK, message_at = HEAD_BYTES + (uint64_t)item->prefix_length;
    uint64_t total = message_at + item->message_length;
    if (at >= message_at && at + SHA512_BLOCK <= total)
        return item->message + (at - message_at);
    if (at + SHA512_BLOCK > total)
        memset(spare, 0, SHA512_BLOCK);
    if (index == 0) {
        memcpy(spare, item->signature, 32);
        memcpy(spare + 32, item->key, 32);
    }
    stage_part(spare, at, item->prefix, HEAD_BYTES, item->prefix_length);
    stage_part(spare, at, item->message, message_at, item->message_length);
    if (total >= at && total < at + SHA512_BLOCK)
        spare[total - at] = 0x80;
    if (index + 1 == sha512_blocks(item)) {
        uint64_t bits = __builtin_bswap64(total * 8); /* lengths of 32 bits: the high word is 0 */
        memcpy(spare + SHA512_BLOCK - 8, &bits, 8);
    }
    return spare;
}

INLINE __m512i swap_bytes(__m512i x)
{
    const __m512i order = _mm512_broadcast_i32x4(_mm_set_epi64x(0x08090a0b0c0d0e0f, 0x0001020304050607));
    return _mm512_shuffle_epi8(x, order);
}

/* digest[i][n] = the i-th little-endian word of the digests of eight items; lanes past `count` repeat the first. */
static void sha512_items(const struct ch_ed25519_item *items, const uint32_t *index, size_t count,
                         __m512i digest[8][2])
{
    _Alignas(64) uint8_t spare[LANES][SHA512_BLOCK];
    const struct ch_ed25519_item *item[LANES];
    uint32_t blocks[LANES], blocks_max = 0;
    for (size_t lane = 0; lane < LANES; lane++) {
        item[lane] = &items[index[lane < count ? lane : 0]];
        blocks[lane] = sha512_blocks(item[lane]);
        blocks_max = blocks[lane] > blocks_max ? blocks[lane] : blocks_max;
    }
    for (int i = 0; i < 8; i++)
        digest[i][0] = digest[i][1] = _mm512_set1_epi64((int64_t)sha512_start[i]);
    for (uint32_t b = 0; b < blocks_max; b++) {
        const uint8_t *block[LANES];
        uint32_t active = 0;
        for (int lane = 0; lane < LANES; lane++) {
            bool more = b < blocks[lane];
            block[lane] = more ? sha512_block(item[lane], b, spare[lane]) : spare[lane];
            active |= (uint32_t)more << lane;
        }
        __m512i w[2][16];
        UNROLL for (int n = 0; n < 2; n++)
            UNROLL for (int half = 0; half < 2; half++) {
                UNROLL for (int lane = 0; lane < 8; lane++)
                    w[n][8 * half + lane] = _mm512_loadu_si512(block[8 * n + lane] + 64 * half);
                transpose(&w[n][8 * half]);
                UNROLL for (int i = 0; i < 8; i++)
                    w[n][8 * half + i] = swap_bytes(w[n][8 * half + i]);
            }
        sha512_compress(digest, w, (mask)active);
    }
    for (int i = 0; i < 8; i++)
        UNROLL for (int n = 0; n < 2; n++)
            digest[i][n] = swap_bytes(digest[i][n]);
}

#endif
