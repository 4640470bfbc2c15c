/* crypto/ed25519_impl.h - what the batch code (ed25519_batch.c), the kernels and the table of kernels share.
 *
 * What:  a kernel decodes points, hashes, multiplies many points by scalars and sums them up, and checks signatures
 * side by side. It knows nothing of batches, caches or bad signatures; the batch code knows nothing of vectors. Bytes:
 * public data only, so variable time everywhere.
 */
#ifndef CHAPPE_CRYPTO_ED25519_IMPL_H
#define CHAPPE_CRYPTO_ED25519_IMPL_H

#include "crypto/ed25519.h"
#include "crypto/ed25519_scalar.h"

/* A decoded point in affine Niels form: y+x, y-x, 2dxy, five 64-bit words each, in the kernel's own limbs. */
struct ed25519_row {
    _Alignas(64) uint64_t w[16];
};

/* A sum of points in extended form: Y-X, Y+X, Z, T, five words each, in the kernel's own limbs. */
struct ed25519_sum_row {
    _Alignas(64) uint64_t w[24];
};

/* The same in radix 2^51, whatever the kernel. */
struct ed25519_point {
    uint64_t ymx[5], ypx[5], z[5], t[5];
};

/* Every kernel keeps these rows in front of the others. */
#define ED25519_ROW_IDENTITY  0
#define ED25519_ROW_BASE      1
#define ED25519_ROW_BASE_HIGH 2 /* 2^128 B */
#define ED25519_ROWS_FIXED    3
#define ED25519_ROWS_MAX      (ED25519_ROWS_FIXED + 3 * CH_ED25519_BATCH_MAX) /* fits 15 bits, beside a sign */

/* How 252 bits, or 128 where no term is long, are cut into signed digits: window i has width[i] bits from offset[i] on.
 * 128-bit coefficients fill the first `short_count` windows. At most 12 bits a window: 2048 buckets. */
#define ED25519_WINDOW_GROUP    8 /* windows sorted and added up together */
#define ED25519_WINDOWS_MAX     64
#define ED25519_WINDOW_BITS_MAX 12

/* Multiples of a key and of R that the lanes use: 0 P .. 8 P; and of B and 2^128 B: 0 B .. 128 B. */
#define ED25519_MULTIPLES      9
#define ED25519_BASE_MULTIPLES 129
#define ED25519_LANES_MAX      16

struct ed25519_windows {
    uint32_t count, short_count;
    uint8_t width[ED25519_WINDOWS_MAX], offset[ED25519_WINDOWS_MAX];
    struct ed25519_scalar bias, short_bias; /* sum of 2^(offset + width - 1): makes every digit of a sum unsigned */
};

/* Points of a sum, each times its scalar; first the long ones: mod L with the windows' bias added (mod L); then the
 * short ones: signed numbers of at most 2^127 with the short bias added. */
struct ed25519_terms {
    const struct ed25519_scalar *digits;
    const uint16_t *row; /* all different */
    size_t row_end;      /* above all of them */
    size_t long_count, short_count;
};

/* z = magnitude, or -magnitude where the top bit is set; magnitude = the other 127 bits + 1: 2^128 values, none of
 * them 0. */
struct ed25519_coefficient {
    uint64_t w[2];
};

static inline bool coefficient_is_negative(const struct ed25519_coefficient *z)
{
    return z->w[1] >> 63;
}

static inline struct ed25519_scalar coefficient_magnitude(const struct ed25519_coefficient *z)
{
    static const struct ed25519_scalar one = {{1}};
    struct ed25519_scalar magnitude = {{z->w[0], z->w[1] & ~(UINT64_C(1) << 63)}};
    scalar_add_words(&magnitude, &one);
    return magnitude;
}

/* In two's complement of four words; without a branch, which would be a coin's toss. */
static inline struct ed25519_scalar coefficient_signed(const struct ed25519_coefficient *z)
{
    uint64_t sign = -(z->w[1] >> 63);
    unsigned __int128 low = (unsigned __int128)(z->w[1] & ~(UINT64_C(1) << 63)) << 64 | z->w[0];
    unsigned __int128 extended = (unsigned __int128)sign << 64 | sign;
    low = ((low + 1) ^ extended) - extended; /* the magnitude is not 0, so its negation borrows from what is above */
    return (struct ed25519_scalar){{(uint64_t)low, (uint64_t)(low >> 64), sign, sign}};
}

/* Who wants to know when a phase ends; see ch_ed25519_options. */
struct ed25519_watch {
    void (*phase_done)(void *context, enum ch_ed25519_phase phase);
    void *context;
};

static inline void phase_end(const struct ed25519_watch *watch, enum ch_ed25519_phase phase)
{
    if (watch->phase_done)
        watch->phase_done(watch->context, phase);
}

/* Scratch of one sum; sizes from open_scratch (ed25519_batch.c). */
struct ed25519_scratch {
    struct ed25519_watch watch;
    uint16_t *digits;              /* window of a group, term */
    uint16_t *next;                /* window of a group, row: the one behind it in its bucket */
    uint32_t *buckets;             /* size and first of each; see ed25519_sum_impl.h */
    uint32_t *order;               /* buckets, the largest first */
    struct ed25519_sum_row *sums;  /* of a bucket */
    struct ed25519_sum_row *table; /* of the lanes: multiples of keys and R */
};

struct ed25519_kernel_code {
    /* rows[i] = the point that encodings[i] stands for, decoded[i] = whether there is one. Rows are written anyway. */
    void (*decode)(const uint8_t *const *encodings, size_t count, struct ed25519_row *rows, bool *decoded);
    /* rows[to[i]] = 2^128 rows[from[i]]. */
    void (*raise)(struct ed25519_row *rows, const uint32_t *from, const uint32_t *to, size_t count);
    /* hashes[i] = SHA-512(R | A | prefix | message) mod L of items[index[i]]. */
    void (*hash)(const struct ch_ed25519_item *items, const uint32_t *index, size_t count,
                 struct ed25519_scalar *hashes);
    /* zk[i] = z[i] k[i] mod L, zs[i] = z[i] s[i] mod L. */
    void (*combine)(const struct ed25519_coefficient *z, const struct ed25519_scalar *k, const struct ed25519_scalar *s,
                    size_t count, struct ed25519_scalar *zk, struct ed25519_scalar *zs);
    /* total = the sum of each scalar times its row. */
    void (*sum)(const struct ed25519_row *rows, const struct ed25519_terms *terms,
                const struct ed25519_windows *windows, struct ed25519_scratch *scratch, struct ed25519_point *total);
    /* valid[i] = whether [8](s B - R - k A) is the identity, each on its own. base_multiples: of B, then of 2^128 B. */
    void (*check)(const struct ed25519_row *rows, const uint32_t *r_row, const uint32_t *key_row,
                  const struct ed25519_scalar *s, const struct ed25519_scalar *k, size_t count,
                  const struct ed25519_row *base_multiples, struct ed25519_scratch *scratch, bool *valid);
};

extern const struct ed25519_kernel_code ch_ed25519_portable, ch_ed25519_avx512ifma, ch_ed25519_avx2;

/* A kernel as the user names it. */
struct ed25519_kernel {
    const char *name;
    uint32_t cpu;                           /* features it needs */
    const struct ed25519_kernel_code *code; /* NULL: the reference */
    uint32_t batch_min;                     /* below that many, check() each; 0: always */
};

/* ed25519_kernels.c: the kernel of a name (NULL: the best), checked. Errors as ch_ed25519_open. */
CH_MUST_CHECK ch_err ch_ed25519_choose(const char *name, const struct ed25519_kernel **out);
/* The multiples of B, then of 2^128 B, in the kernel's rows, made at its first use. */
const struct ed25519_row *ch_ed25519_base_multiples(const struct ed25519_kernel *kernel);

/* ed25519_point.c: one point at a time. */
/* `split`: all terms are short. */
void ch_ed25519_windows_choose(uint32_t terms, bool split, struct ed25519_windows *windows);
/* total = sum of 2^offset[i] * sums[i]. */
void ch_ed25519_horner(const struct ed25519_point *sums, const struct ed25519_windows *windows,
                       struct ed25519_point *total);
void ch_ed25519_point_subtract(struct ed25519_point *r, const struct ed25519_point *a, const struct ed25519_point *b);
/* Whether 8 times the point is the identity. */
bool ch_ed25519_point_is_small(const struct ed25519_point *p);
/* The encodings of 0 B .. 128 B, then of 2^128 times those. */
void ch_ed25519_encode_base_multiples(uint8_t encodings[2 * ED25519_BASE_MULTIPLES][32]);

/* ed25519_keys.c: memory for rows that are read in no order, aligned to 64 bytes; on huge pages where it is large. It
 * holds anything, and takes no room until it is written to. NULL: none left. */
void *ch_ed25519_array(size_t count, size_t size);

/* A bounded memory of decoded keys. */
struct ed25519_keys;
struct ed25519_known_key {
    struct ed25519_row row, high; /* the key and, if it was raised, 2^128 times it */
    uint8_t key[32];
    bool raised;
};
CH_MUST_CHECK ch_err ch_ed25519_keys_open(uint32_t keys_max, struct ed25519_keys **out);
void ch_ed25519_keys_close(struct ed25519_keys *keys);
uint64_t ch_ed25519_keys_hash(const struct ed25519_keys *keys, const uint8_t key[32]);
uint64_t ch_ed25519_keys_probes(const struct ed25519_keys *keys); /* places looked at so far */
void ch_ed25519_keys_prefetch_set(const struct ed25519_keys *keys, uint64_t hash);
void ch_ed25519_keys_prefetch_row(const struct ed25519_keys *keys, uint64_t hash); /* after its set is there */
/* What is known of the key, or NULL. */
const struct ed25519_known_key *ch_ed25519_keys_find(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32]);
/* Remembers the row; forgets the one of its set that was not asked for the longest. */
void ch_ed25519_keys_add(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32],
                         const struct ed25519_row *row);
/* Remembers the high row too, if the key is still known. */
void ch_ed25519_keys_raise(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32],
                           const struct ed25519_row *high);

#endif
