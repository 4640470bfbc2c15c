#include "tests/crypto/test_ed25519_cases.h"

#include "base/cpu.h"

#include <sodium.h>

#define CHECKERS_MAX 32
#define CACHED_KEYS  128

struct checker checkers[CHECKERS_MAX];
size_t checker_count;
uint8_t torsion[8][32];
uint8_t small_order[SMALL_ORDER][32];

static struct {
    uint8_t key[32], signature[64], text[340];
    uint32_t prefix_length, message_length;
} good[BATCH_MAX];

struct ch_ed25519_item good_item(size_t i)
{
    i %= BATCH_MAX;
    return (struct ch_ed25519_item){.key = good[i].key,
                                    .signature = good[i].signature,
                                    .prefix = good[i].text,
                                    .prefix_length = good[i].prefix_length,
                                    .message = good[i].text + good[i].prefix_length,
                                    .message_length = good[i].message_length};
}

struct ch_ed25519_item case_item(const struct ed25519_case *c)
{
    return (struct ch_ed25519_item){
        .key = c->key, .signature = c->signature, .message = c->message, .message_length = c->message_length};
}

static void make_good_ones(struct ch_prng *g)
{
    for (size_t i = 0; i < BATCH_MAX; i++) {
        uint8_t seed[32], secret[64];
        test_random_bytes(g, seed, sizeof seed);
        test_random_bytes(g, good[i].text, sizeof good[i].text);
        good[i].prefix_length = (uint32_t)ch_prng_below(g, 41);
        good[i].message_length = (uint32_t)ch_prng_below(g, 301);
        crypto_sign_seed_keypair(good[i].key, secret, seed);
        crypto_sign_detached(good[i].signature, NULL, good[i].text, good[i].prefix_length + good[i].message_length,
                             secret);
    }
}

void add_points(uint8_t sum[32], const uint8_t p[32], const uint8_t q[32])
{
    assert_int_equal(crypto_core_ed25519_add(sum, p, q), 0);
}

void small_scalar(uint8_t k[32], int value)
{
    memset(k, 0, 32);
    ch_store32(k, (uint32_t)abs(value));
    if (value < 0)
        crypto_core_ed25519_scalar_negate(k, k);
}

void multiply_base(uint8_t point[32], const uint8_t k[32])
{
    static const uint8_t identity[32] = {1};
    if (sodium_is_zero(k, 32))
        memcpy(point, identity, 32);
    else
        assert_int_equal(crypto_scalarmult_ed25519_base_noclamp(point, k), 0);
}

/* [L]P of an arbitrary P has an order that divides 8; half of all P give order 8. */
static void find_torsion(struct ch_prng *g)
{
    /* L, most significant byte first */
    static const uint8_t order[32] = {0x10, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
                                      0,    0,    0,    0,    0,    0x14, 0xde, 0xf9, 0xde, 0xa2, 0xf7,
                                      0x9c, 0xd6, 0x58, 0x12, 0x63, 0x1a, 0x5c, 0xf5, 0xd3, 0xed};
    static const uint8_t identity[32] = {1};
    for (;;) {
        uint8_t p[32], t[32];
        test_random_bytes(g, p, sizeof p);
        if (crypto_core_ed25519_add(t, p, identity) != 0)
            continue; /* not on the curve */
        memcpy(t, identity, 32);
        for (int bit = 0; bit < 256; bit++) {
            add_points(t, t, t);
            if (order[bit / 8] >> (7 - bit % 8) & 1)
                add_points(t, t, p);
        }
        memcpy(torsion[0], identity, 32);
        for (int i = 1; i < 8; i++)
            add_points(torsion[i], torsion[i - 1], t);
        if (memcmp(torsion[4], identity, 32) != 0)
            return;
    }
}

static void list_small_order_encodings(void)
{
    size_t count = 0;
    for (int i = 0; i < 8; i++) {
        uint8_t encodings[2][32];
        size_t forms = 1;
        memcpy(encodings[0], torsion[i], 32);
        if (sodium_is_zero(torsion[i] + 1, 30) && (torsion[i][31] & 0x7f) == 0 && torsion[i][0] < 19) {
            forms = 2; /* y + p fits 255 bits */
            memset(encodings[1], 0xff, 32);
            encodings[1][0] = (uint8_t)(torsion[i][0] + 0xed);
            encodings[1][31] = torsion[i][31] | 0x7f;
        }
        for (size_t form = 0; form < forms; form++) {
            memcpy(small_order[count++], encodings[form], 32);
            if (i % 4 == 0) { /* x = 0: the sign bit makes "-0" */
                memcpy(small_order[count], encodings[form], 32);
                small_order[count++][31] ^= 0x80;
            }
        }
    }
    assert_int_equal(count, SMALL_ORDER);
}

void sign_with(const uint8_t a[32], int at, const uint8_t r[32], int rt, struct ed25519_case *c)
{
    uint8_t digest[64], k[32], product[32];
    multiply_base(c->key, a);
    add_points(c->key, c->key, torsion[at]);
    multiply_base(c->signature, r);
    add_points(c->signature, c->signature, torsion[rt]);
    crypto_hash_sha512_state h;
    crypto_hash_sha512_init(&h);
    crypto_hash_sha512_update(&h, c->signature, 32);
    crypto_hash_sha512_update(&h, c->key, 32);
    crypto_hash_sha512_update(&h, c->message, c->message_length);
    crypto_hash_sha512_final(&h, digest);
    crypto_core_ed25519_scalar_reduce(k, digest);
    crypto_core_ed25519_scalar_mul(product, k, a);
    crypto_core_ed25519_scalar_add(c->signature + 32, product, r);
    c->valid = true;
}

void add_to_s(uint8_t signature[64], int delta)
{
    uint8_t d[32];
    small_scalar(d, delta);
    crypto_core_ed25519_scalar_add(signature + 32, signature + 32, d);
}

static void verdict_is(const struct checker *c, const char *what, size_t at, size_t count, bool got, bool want)
{
    if (got != want)
        fail_msg("%s%s: %s, item %zu of %zu is %s and should be %s", c->kernel, c->cached ? " (cached keys)" : "", what,
                 at, count, got ? "valid" : "invalid", want ? "valid" : "invalid");
}

void check_batch(const struct checker *c, const char *what, const struct ch_ed25519_item *items, size_t count,
                 const bool *valid)
{
    static bool got[BATCH_MAX];
    assert_true(count <= BATCH_MAX);
    size_t invalid = 0;
    for (size_t i = 0; i < count; i++)
        invalid += !valid[i];
    for (int each = 0; each < 2; each++) {
        struct ch_ed25519_counters before = ch_ed25519_counters(c->verifier);
        for (size_t i = 0; i < count; i++)
            got[i] = !valid[i];
        if (each)
            ch_ed25519_verify_each(c->verifier, items, count, got);
        else
            ch_ed25519_verify(c->verifier, items, count, got);
        for (size_t i = 0; i < count; i++)
            verdict_is(c, what, i, count, got[i], valid[i]);
        struct ch_ed25519_counters after = ch_ed25519_counters(c->verifier);
        assert_int_equal(after.items - before.items, count);
        assert_int_equal(after.invalid - before.invalid, invalid);
        if (each)
            assert_int_equal(after.batches, before.batches);
        else if (strncmp(c->kernel, "batch-", 6) == 0 && count >= BATCH && invalid == 0)
            assert_int_equal(after.batches, before.batches + 1);
        else if (strncmp(c->kernel, "lanes-", 6) == 0)
            assert_int_equal(after.batches, before.batches);
    }
}

/* A batch of good ones with the n cases at the places that this draw gives them. */
static void check_draw(const struct checker *c, const struct ed25519_case *const *cases, size_t n, size_t draw)
{
    static const size_t places[5] = {0, 1, 7, 8, BATCH - 1};
    struct ch_ed25519_item items[BATCH];
    bool want[BATCH], got[BATCH];
    size_t place[5];
    for (size_t i = 0; i < BATCH; i++) {
        items[i] = good_item(draw * BATCH + i);
        want[i] = true;
    }
    for (size_t j = 0; j < n; j++) {
        place[j] = places[(draw + j) % 5];
        items[place[j]] = case_item(cases[j]);
        want[place[j]] = cases[j]->valid;
    }
    uint64_t batches = ch_ed25519_counters(c->verifier).batches;
    ch_ed25519_verify(c->verifier, items, BATCH, got);
    for (size_t j = 0; j < n; j++)
        verdict_is(c, cases[j]->name, place[j], BATCH, got[place[j]], want[place[j]]);
    for (size_t i = 0; i < BATCH; i++)
        verdict_is(c, "a good one beside a case", i, BATCH, got[i], want[i]);
    if (strncmp(c->kernel, "batch-", 6) == 0)
        assert_true(ch_ed25519_counters(c->verifier).batches > batches);
}

/* In a short run half of the draws go without the cache, half with it. A sanitizer sees at each place what it will see:
 * more coefficients there are for the run without it. */
static void check_draws(const struct ed25519_case *const *cases, size_t n, size_t draws, size_t first)
{
#ifdef __SANITIZE_ADDRESS__
    draws = draws < DRAWS_PLACES ? draws : DRAWS_PLACES;
#endif
    if (test_full() && draws < 5)
        draws = 5;
    for (size_t k = 0; k < checker_count; k++)
        for (size_t draw = 0; draw < draws; draw++)
            if (test_full() || (draw + first) % 2 == k % 2)
                check_draw(&checkers[k], cases, n, first + draw);
}

void check_cases(const struct ed25519_case *cases, size_t count)
{
    const struct ed25519_case *group[5];
    size_t valid = 0, grouped = 0, group_max = test_full() ? 1 : 5;
    for (size_t i = 0; i < count; i++) {
        struct ch_ed25519_item item = case_item(&cases[i]);
        if (ch_ed25519_verify_reference(&item) != cases[i].valid)
            fail_msg("reference: %s should be %s", cases[i].name, cases[i].valid ? "valid" : "invalid");
        for (size_t k = 0; k < checker_count; k++)
            check_batch(&checkers[k], cases[i].name, &item, 1, &cases[i].valid);
        valid += cases[i].valid;
    }
    for (size_t i = 0; i < count; i++) {
        if (!cases[i].valid) { /* beside good ones only, so that no other bad one hides it */
            const struct ed25519_case *one = &cases[i];
            check_draws(&one, 1, cases[i].draws < 5 ? cases[i].draws : 5, i);
            continue;
        }
        group[grouped++] = &cases[i];
        valid--;
        if (grouped < group_max && valid > 0)
            continue;
        size_t draws = 0;
        for (size_t j = 0; j < grouped; j++)
            draws = group[j]->draws > draws ? group[j]->draws : draws;
        check_draws(group, grouped, draws, 0);
        grouped = 0;
    }
}

static const char *code_of(const char *kernel)
{
    const char *dash = strchr(kernel, '-');
    return dash ? dash : kernel;
}

bool kernel_asked(const char *kernel)
{
    const char *best;
    if (!ch_ed25519_kernel_usable(kernel) || strcmp(kernel, "reference") == 0)
        return false;
    for (size_t i = 0; !ch_ed25519_kernel_usable(best = ch_ed25519_kernel(i)); i++)
        ;
    return test_full() || strcmp(code_of(kernel), code_of(best)) == 0;
}

int ed25519_suite(int argc, char **argv, int (*run)(void))
{
    const char *word = argc > 1 ? argv[1] : "all";
    uint32_t mask;
    if (argc > 3 || sodium_init() < 0 || ch_cpu_parse_mask(word, &mask) != CH_OK) {
        fprintf(stderr, "usage: %s [all|avx512ifma|avx512|avx2|portable] [CASE]\n", argv[0]);
        return 2;
    }
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    ch_cpu_set_mask(mask);
    struct ch_prng g;
    char seed[24]; /* one seed for all files of the program */
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)test_seed());
    setenv("CHAPPE_SEED", seed, 1);
    ch_prng_seed(&g, test_seed());
    make_good_ones(&g);
    find_torsion(&g);
    list_small_order_encodings();
    const char *kernel;
    for (size_t i = 0; (kernel = ch_ed25519_kernel(i)) != NULL; i++) {
        if (!kernel_asked(kernel))
            continue;
        for (int cached = 0; cached < 2; cached++) {
            struct ch_ed25519_options options = {
                .kernel = kernel, .batch_max = BATCH_MAX, .cached_keys_max = cached ? CACHED_KEYS : 0};
            struct checker *c = &checkers[checker_count++];
            *c = (struct checker){.kernel = kernel, .cached = cached};
            ch_err err = ch_ed25519_open(&options, &c->verifier);
            if (err != CH_OK) {
                fprintf(stderr, "%s: %s\n", kernel, ch_err_text(err));
                return 1;
            }
        }
        printf("mask %s: kernel %s\n", word, kernel);
    }
    fflush(stdout);
    int failed = checker_count ? run() : 1;
    while (checker_count > 0)
        ch_ed25519_close(checkers[--checker_count].verifier);
    return failed;
}
