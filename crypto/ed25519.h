/* crypto/ed25519.h - verification of many Ed25519 signatures at once, by one rule on every machine.
 *
 * What:    ZIP-215 (https://zips.z.cash/zip-0215): A and R decode, non-canonical y and "-0" allowed; s < L; valid iff
 *          [8](sB - R - kA) is the identity, k = SHA-512(R | A | message) mod L over the bytes as they came.
 *          One verdict for each item; every kernel, alone or in a batch, gives the same verdict for the same bytes.
 * Not:     no signing, no secrets (libsodium does those): everything here is public and may take variable time.
 * Thread:  a verifier belongs to one thread; as many verifiers as threads. Memory: all of it at open.
 * Errors:  verification has none; a bad item is a verdict.
 */
#ifndef CHAPPE_CRYPTO_ED25519_H
#define CHAPPE_CRYPTO_ED25519_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CH_ED25519_KEY_BYTES       32
#define CH_ED25519_SIGNATURE_BYTES 64
#define CH_ED25519_BATCH_MAX       8192

/* One signature to check. What was signed is prefix | message: the prefix (domain and chain id) is shared by many. */
struct ch_ed25519_item {
    const uint8_t *key;       /* 32 bytes */
    const uint8_t *signature; /* 64 bytes, R | s */
    const uint8_t *prefix;
    const uint8_t *message;
    uint32_t prefix_length; /* bytes; may be 0 */
    uint32_t message_length;
};

/* What a batch's time goes to, in the order of its way; a batch passes some of them more than once. */
enum ch_ed25519_phase {
    CH_ED25519_LOOK_UP, /* parsing, and which keys are known */
    CH_ED25519_DECODE_KEYS,
    CH_ED25519_DECODE_R,
    CH_ED25519_HASH,
    CH_ED25519_RAISE,        /* 2^128 times a key */
    CH_ED25519_COEFFICIENTS, /* drawn, and multiplied with s and k */
    CH_ED25519_TERMS,        /* equal keys become one */
    CH_ED25519_DIGITS,
    CH_ED25519_SORT,    /* of digits into buckets */
    CH_ED25519_BUCKETS, /* additions into them */
    CH_ED25519_WINDOWS, /* the buckets of each window added up */
    CH_ED25519_HORNER,  /* the windows put together */
    CH_ED25519_SINGLE,  /* checks one by one */
    CH_ED25519_PHASES
};

struct ch_ed25519_options {
    const char *kernel;       /* a name from ch_ed25519_kernel, or NULL: the best that this CPU and the mask allow */
    uint32_t batch_max;       /* the largest count handed to one call of verify, 1..CH_ED25519_BATCH_MAX; 0: 1024 */
    uint32_t cached_keys_max; /* decoded keys remembered between calls, rounded up to a multiple of 8; 0: none */
    /* NULL, or called at the end of each phase, by the thread that verifies: there is no clock in here. */
    void (*phase_done)(void *context, enum ch_ed25519_phase phase);
    void *phase_context;
};

struct ch_ed25519_counters {
    uint64_t items, invalid;
    uint64_t batches, batches_failed; /* random linear combinations evaluated at the top; of them not the identity */
    uint64_t batches_short;           /* of them with short terms alone, since every key had its multiple */
    uint64_t lane_items;              /* checks of one item alone; an item of a sample may have two */
    uint64_t keys_cached, keys_decoded, keys_raised; /* raised: 2^128 times the key was made */
    uint64_t key_probes;                             /* places in which keys were looked for, 24 at most for an item */
};

struct ch_ed25519;

/* A verifier. The kernel checks itself against the reference before its first use in a process.
 * CH_ERR_UNSUPPORTED: the CPU (or the mask) lacks what the named kernel needs; CH_ERR_NOT_FOUND: no such kernel;
 * CH_ERR_CORRUPT: the self-check failed; CH_ERR_NO_MEMORY; CH_ERR_INVALID: batch_max out of range. */
CH_MUST_CHECK ch_err ch_ed25519_open(const struct ch_ed25519_options *options, struct ch_ed25519 **out);
void ch_ed25519_close(struct ch_ed25519 *verifier);

/* valid[i] = whether items[i] holds, for each i < count <= batch_max. The caller keeps the bytes until it returns. */
void ch_ed25519_verify(struct ch_ed25519 *verifier, const struct ch_ed25519_item *items, size_t count, bool *valid);

/* The same verdicts, never by a shared equation: for sources that sent a bad signature before. */
void ch_ed25519_verify_each(struct ch_ed25519 *verifier, const struct ch_ed25519_item *items, size_t count,
                            bool *valid);

/* The specification: short, obvious, slow; allocates nothing. Any thread. */
bool ch_ed25519_verify_reference(const struct ch_ed25519_item *item);

/* The name of kernel `index`, best first, or NULL past the last; and whether this CPU and mask can run it. */
const char *ch_ed25519_kernel(size_t index);
bool ch_ed25519_kernel_usable(const char *name);
const char *ch_ed25519_kernel_in_use(const struct ch_ed25519 *verifier);
struct ch_ed25519_counters ch_ed25519_counters(const struct ch_ed25519 *verifier);

#endif
