/* A flood of keys that all have the same hash, which no sender can aim at, but chance may come near: each verdict is
 * right, the places looked at are bounded, and the keys of others stay known. The hash is replaced when this program is
 * linked. */
#include "crypto/ed25519.h"
#include "crypto/ed25519_impl.h"
#include "tests/test.h"

#include <sodium.h>

#define HONEST     64
#define FLOOD      2000
#define COUNT      (HONEST + FLOOD)
#define BATCH      500
#define WAYS       8  /* of a set of the cache */
#define PROBES_MAX 24 /* for an item, as crypto/ed25519.h says */

static uint8_t keys[COUNT][32], signatures[COUNT][64];
static struct ch_ed25519_item items[COUNT];
static const uint8_t message[] = "one for all";

uint64_t __real_ch_ed25519_keys_hash(const struct ed25519_keys *known, const uint8_t key[32]);
uint64_t __wrap_ch_ed25519_keys_hash(const struct ed25519_keys *known, const uint8_t key[32]);

/* Honest keys keep their hash, in the upper half of the sets; all others have one. */
uint64_t __wrap_ch_ed25519_keys_hash(const struct ed25519_keys *known, const uint8_t key[32])
{
    for (int i = 0; i < HONEST; i++)
        if (memcmp(keys[i], key, 32) == 0)
            return __real_ch_ed25519_keys_hash(known, key) | UINT64_C(1) << 63;
    return 77;
}

static int make_items(void **state)
{
    static const uint8_t one[32] = {1};
    if (sodium_init() < 0)
        return -1;
    for (size_t i = 0; i < COUNT; i++) {
        uint8_t seed[crypto_sign_SEEDBYTES] = {(uint8_t)i, (uint8_t)(i >> 8)}, secret[64];
        crypto_sign_seed_keypair(keys[i], secret, seed);
        crypto_sign_detached(signatures[i], NULL, message, sizeof message, secret);
        if (i % 100 == 77)
            crypto_core_ed25519_scalar_add(signatures[i] + 32, signatures[i] + 32, one);
        items[i] = (struct ch_ed25519_item){
            .key = keys[i], .signature = signatures[i], .message = message, .message_length = sizeof message};
    }
    return 0;
}

static void verify(struct ch_ed25519 *v, size_t first, size_t count)
{
    bool valid[BATCH];
    ch_ed25519_verify(v, items + first, count, valid);
    for (size_t i = 0; i < count; i++)
        if (valid[i] != ((first + i) % 100 != 77))
            fail_msg("%s: item %zu is %d", ch_ed25519_kernel_in_use(v), first + i, valid[i]);
}

static void a_flood_of_colliding_keys_is_bounded_and_displaces_no_others(void **state)
{
    const char *kernel;
    for (size_t k = 0; (kernel = ch_ed25519_kernel(k)) != NULL; k++) {
        struct ch_ed25519_options options = {.kernel = kernel, .batch_max = BATCH, .cached_keys_max = 4096};
        struct ch_ed25519 *v;
        if (!ch_ed25519_kernel_usable(kernel) || strcmp(kernel, "reference") == 0)
            continue;
        assert_ok(ch_ed25519_open(&options, &v));
        verify(v, 0, HONEST);
        assert_int_equal(ch_ed25519_counters(v).keys_decoded, HONEST);
        for (int round = 0; round < 2; round++)
            for (size_t first = HONEST; first < COUNT; first += BATCH) {
                struct ch_ed25519_counters before = ch_ed25519_counters(v), after;
                verify(v, first, BATCH);
                after = ch_ed25519_counters(v);
                assert_in_range(after.key_probes - before.key_probes, BATCH, PROBES_MAX * BATCH);
                assert_int_equal(after.keys_decoded + after.keys_cached - before.keys_decoded - before.keys_cached,
                                 BATCH);
                /* A round is longer than a set, so what comes again was forgotten. */
                assert_int_equal(after.keys_cached, 0);
            }
        struct ch_ed25519_counters before = ch_ed25519_counters(v), after;
        verify(v, 0, HONEST);
        after = ch_ed25519_counters(v);
        assert_int_equal(after.keys_cached - before.keys_cached, HONEST);
        assert_int_equal(after.keys_decoded, before.keys_decoded);
        ch_ed25519_close(v);
    }
}

/* In the batch's own table too: then a key has several rows, and is added up several times. */
static void equal_keys_beside_colliding_ones_keep_their_verdicts(void **state)
{
    enum { DIFFERENT = 20, BATCHES = 4 };
    struct ch_ed25519_item some[BATCH];
    bool valid[BATCH];
    struct ch_ed25519_options options = {.batch_max = BATCH, .cached_keys_max = 4096};
    struct ch_ed25519 *v;
    assert_ok(ch_ed25519_open(&options, &v));
    for (int batch = 0; batch < BATCHES; batch++) {
        for (size_t i = 0; i < BATCH; i++)
            some[i] = items[HONEST + i % DIFFERENT];
        ch_ed25519_verify(v, some, BATCH, valid);
        for (size_t i = 0; i < BATCH; i++)
            assert_int_equal(valid[i], (HONEST + i % DIFFERENT) % 100 != 77);
    }
    assert_true(ch_ed25519_counters(v).key_probes <= PROBES_MAX * BATCH * BATCHES);
    ch_ed25519_close(v);
}

static void a_full_set_forgets_the_key_that_was_not_asked_for_the_longest(void **state)
{
    struct ed25519_keys *known;
    struct ed25519_row row = {{0}};
    assert_ok(ch_ed25519_keys_open(4096, &known));
    for (size_t i = 0; i < FLOOD; i++) {
        row.w[0] = i;
        ch_ed25519_keys_add(known, 77, keys[HONEST + i], &row);
        if (i >= WAYS - 1) /* this one is asked for again and again */
            assert_non_null(ch_ed25519_keys_find(known, 77, keys[HONEST]));
    }
    for (size_t i = 1; i < FLOOD; i++) {
        const struct ed25519_known_key *found = ch_ed25519_keys_find(known, 77, keys[HONEST + i]);
        assert_int_equal(found != NULL, i > FLOOD - WAYS);
        if (found)
            assert_int_equal(found->row.w[0], i);
    }
    ch_ed25519_keys_close(known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_of_colliding_keys_is_bounded_and_displaces_no_others),
        cmocka_unit_test(equal_keys_beside_colliding_ones_keep_their_verdicts),
        cmocka_unit_test(a_full_set_forgets_the_key_that_was_not_asked_for_the_longest),
    };
    return cmocka_run_group_tests(tests, make_items, NULL);
}
