/* tests/crypto/test_ed25519_cases.h - signatures whose verdict is known, and every way to ask for it.
 *
 * Each suite runs under one CPU mask (its first argument, "all" without one) and asks every kernel usable there but the
 * reference, which it holds them to, with and without a key cache; a short run asks the best code there alone: what is
 * slower is the best under another mask. Failures name the kernel, the case and the place in the batch.
 */
#ifndef CHAPPE_TESTS_TEST_ED25519_CASES_H
#define CHAPPE_TESTS_TEST_ED25519_CASES_H

#include "crypto/ed25519.h"
#include "tests/test.h"

/* The largest batch of the suites, and the one a case stands in: enough for the shared equation to be used. */
#define BATCH_MAX 1100
#define BATCH     67

/* How often a case stands in a batch, each time with other coefficients. A full run gives each case the five places. */
#define DRAWS_TORSION 20
#define DRAWS_PLACES  5
#define DRAWS_FEW     2

struct ed25519_case {
    char name[64];
    uint8_t key[32], signature[64];
    const uint8_t *message; /* kept by the caller */
    uint32_t message_length;
    bool valid;
    uint32_t draws; /* of coefficients: one of the DRAWS */
};

struct checker {
    const char *kernel;
    bool cached;
    struct ch_ed25519 *verifier;
};

/* One pair per usable kernel: [2i] without a cache, [2i + 1] with one. */
extern struct checker checkers[];
extern size_t checker_count;

/* Whether the suite asks this kernel. */
bool kernel_asked(const char *kernel);

/* main of every suite: libsodium, the mask, the checkers, the tests or one of them. */
int ed25519_suite(int argc, char **argv, int (*run)(void));

/* The i-th of BATCH_MAX honest signatures by as many keys, messages of 0..300 bytes behind a prefix of 0..40. */
struct ch_ed25519_item good_item(size_t i);
struct ch_ed25519_item case_item(const struct ed25519_case *c);

/* The reference, then every checker: alone, one by one, and in a batch of good ones at positions 0, 1, 7, 8 and last.
 * In a short run up to five valid cases share a batch, each at another of the positions. */
void check_cases(const struct ed25519_case *cases, size_t count);
/* valid[i] is what this checker says of items[i], by verify and by verify_each, and what the counters say of it. */
void check_batch(const struct checker *c, const char *what, const struct ch_ed25519_item *items, size_t count,
                 const bool *valid);

/* A point of order 8 and its multiples, canonical: torsion[i] = [i]T. */
extern uint8_t torsion[8][32];
/* Every encoding that ZIP-215 decodes to a point of small order: 8 canonical, 2 with "-0", 4 with y + p. */
#define SMALL_ORDER 14
extern uint8_t small_order[SMALL_ORDER][32];

/* Scalars are 32 bytes below L. Key = [a]B + torsion[at], R = [r]B + torsion[rt], s = r + H(R, key, message) a: valid
 * for every a, r, at, rt. */
void sign_with(const uint8_t a[32], int at, const uint8_t r[32], int rt, struct ed25519_case *c);
/* s + delta mod L for a signed small delta, in place. */
void add_to_s(uint8_t signature[64], int delta);
/* [k]B for a scalar, the identity for 0. */
void multiply_base(uint8_t point[32], const uint8_t k[32]);
void add_points(uint8_t sum[32], const uint8_t p[32], const uint8_t q[32]);
void small_scalar(uint8_t k[32], int value); /* value mod L */

#endif
