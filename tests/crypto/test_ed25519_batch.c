/* Batches: every size, bad ones anywhere, equal keys and equal R, errors made to cancel, caches, guard pages, and
 * random mutations, all kernels against the reference. */
#include "tests/crypto/test_ed25519_cases.h"

#include <sodium.h>
#include <sys/mman.h>
#include <unistd.h>

static struct ch_ed25519_item items[BATCH_MAX];
static bool valid[BATCH_MAX];
/* Where a test changes bytes of good ones, it does so in copies. */
static uint8_t keys[BATCH_MAX][32], signatures[BATCH_MAX][64];
static struct ed25519_case cases[BATCH_MAX];

static const uint8_t text[] = "another message that does not matter";

static void copy_good(size_t count, size_t from)
{
    for (size_t i = 0; i < count; i++) {
        items[i] = good_item(from + i);
        memcpy(keys[i], items[i].key, 32);
        memcpy(signatures[i], items[i].signature, 64);
        items[i].key = keys[i];
        items[i].signature = signatures[i];
        valid[i] = true;
    }
}

/* Makes item i invalid in one of the ways there are. */
static void spoil(size_t i, uint64_t way)
{
    valid[i] = false;
    switch (way % 6) {
    case 0: /* the equation fails */
        add_to_s(signatures[i], 1);
        break;
    case 1: /* s >= L */
        signatures[i][63] |= 0xe0;
        break;
    case 2: /* y = 2 is on no point */
        memset(signatures[i], 0, 32);
        signatures[i][0] = 2;
        break;
    case 3:
        memset(keys[i], 0, 32);
        keys[i][0] = 2;
        break;
    case 4: /* the key of another */
        memcpy(keys[i], good_item(BATCH_MAX / 2 + i).key, 32);
        break;
    case 5: /* another message */
        items[i].message = text;
        items[i].message_length = sizeof text;
        break;
    }
}

static void check_all(const char *what, size_t count)
{
    for (size_t k = 0; k < checker_count; k++)
        check_batch(&checkers[k], what, items, count, valid);
}

static void any_count_of_good_ones_is_valid(void **state)
{
    copy_good(BATCH_MAX, 0);
    for (size_t count = 0; count <= 70; count++)
        check_all("good ones", count);
    static const size_t counts[] = {127, 128, 129, 255, 256, 257, 511, 512, 513, 777, 1024, BATCH_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i += test_full() ? 1 : 2)
        check_all("good ones", counts[i]);
}

static void bad_ones_anywhere_are_found(void **state)
{
    static const size_t counts[] = {2, 3, 8, 9, 15, 16, 17, 33, 63, 64, 65, 100, 128, 200, 257, 1024};
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 10);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t n = counts[i], bad[] = {1, 2, 1 + n / 16, n / 2, n};
        for (size_t kind = 0; kind < sizeof bad / sizeof *bad; kind++) {
            if (n > 257 && kind > 2 && !test_full())
                continue;
            copy_good(n, i * 7);
            for (size_t j = 0; j < bad[kind]; j++) {
                size_t at = bad[kind] == n ? j : ch_prng_below(&g, n);
                if (valid[at])
                    spoil(at, kind < 2 ? 0 : ch_prng_next(&g));
            }
            check_all("with bad ones", n);
        }
    }
}

static void a_bad_one_at_each_place_is_found(void **state)
{
    for (size_t at = 0; at < 70; at += test_full() ? 1 : 3) {
        copy_good(70, at);
        spoil(at, 0);
        check_all("one bad", 70);
    }
}

/* `count` cases with the secret scalars and nonces that the caller numbers; equal numbers, equal points. A negative
 * number is the negated scalar: an opposite point. */
static void make_numbered(size_t count, int (*key_number)(size_t i), int (*nonce_number)(size_t i), bool other_messages)
{
    static uint8_t number_text[BATCH_MAX][4];
    for (size_t i = 0; i < count; i++) {
        uint8_t a[32], r[32], wide[64];
        const int numbers[2] = {key_number(i), nonce_number(i)};
        for (int j = 0; j < 2; j++) {
            uint8_t label[5] = {(uint8_t)j};
            ch_store32(label + 1, (uint32_t)abs(numbers[j]));
            crypto_hash_sha512(wide, label, sizeof label);
            crypto_core_ed25519_scalar_reduce(j ? r : a, wide);
            if (numbers[j] < 0)
                crypto_core_ed25519_scalar_negate(j ? r : a, j ? r : a);
        }
        ch_store32(number_text[i], other_messages ? (uint32_t)i : 0);
        cases[i] = (struct ed25519_case){.message = number_text[i], .message_length = 4};
        sign_with(a, 0, r, 0, &cases[i]);
        memcpy(signatures[i], cases[i].signature, 64);
        memcpy(keys[i], cases[i].key, 32);
        items[i] = case_item(&cases[i]);
        items[i].key = keys[i];
        items[i].signature = signatures[i];
        valid[i] = true;
    }
}

static int always_one(size_t i)
{
    return 1;
}
static int own(size_t i)
{
    return (int)i + 10;
}
static int two_by_turns(size_t i)
{
    return 1 + (int)(i % 2);
}
static int opposite_by_turns(size_t i)
{
    return i % 2 ? 3 : -3;
}
static int in_runs(size_t i)
{
    return 1 + (int)(i / 9);
}

static void equal_keys_and_equal_commitments_change_nothing(void **state)
{
    static const struct {
        const char *what;
        int (*key)(size_t), (*nonce)(size_t);
        bool other_messages;
    } kinds[] = {
        {"one key", always_one, own, true},
        {"two keys", two_by_turns, own, true},
        {"a key and its opposite", opposite_by_turns, own, true},
        {"runs of keys", in_runs, own, true},
        {"one R", own, always_one, true},
        {"an R and its opposite", own, opposite_by_turns, true},
        {"one key, one R", always_one, always_one, true},
        {"a key and R and their opposites", opposite_by_turns, opposite_by_turns, true},
        {"one signature, many times", always_one, always_one, false},
        {"runs of signatures", in_runs, in_runs, false},
    };
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        size_t counts[] = {9, 70, 300};
        make_numbered(300, kinds[kind].key, kinds[kind].nonce, kinds[kind].other_messages);
        for (size_t i = 0; i < 3; i++)
            check_all(kinds[kind].what, counts[i]);
        spoil(3, 0);
        spoil(68, 5);
        check_all(kinds[kind].what, 70);
    }
}

/* Errors [e]B, -[e]B (and thirds of them) that vanish from the sum when coefficients are equal, or equal by place or by
 * key. Twenty draws each. */
static void errors_made_to_cancel_are_caught(void **state)
{
    static const struct {
        size_t at[3];
        int error[3];
    } attempts[] = {
        {{0, 1, 2}, {1, -1, 0}}, {{0, 8, 1}, {1, -1, 0}},    {{7, 66, 1}, {5, -5, 0}},
        {{3, 4, 5}, {1, 1, -2}}, {{0, 16, 32}, {8, -4, -4}}, {{1, 2, 64}, {1, -2, 1}},
    };
    for (int same_key = 0; same_key < 2; same_key++)
        for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
            if (same_key)
                make_numbered(BATCH, always_one, own, true);
            else
                copy_good(BATCH, i * 10);
            for (int j = 0; j < 3; j++)
                if (attempts[i].error[j]) {
                    add_to_s(signatures[attempts[i].at[j]], attempts[i].error[j]);
                    valid[attempts[i].at[j]] = false;
                }
            for (int draw = 0; draw < (test_full() ? 20 : 10); draw++) /* and as many with the cache */
                for (size_t k = 0; k < checker_count; k++) {
                    bool got[BATCH];
                    ch_ed25519_verify(checkers[k].verifier, items, BATCH, got);
                    for (size_t at = 0; at < BATCH; at++)
                        if (got[at] != valid[at])
                            fail_msg("%s: cancelling errors, attempt %zu, item %zu is %d", checkers[k].kernel, i, at,
                                     got[at]);
                }
        }
}

/* After a batch of bad ones a sample tells: no equation is spent on the next one that is bad, and one that is good ends
 * it. */
static void a_poisoned_batch_after_another_is_checked_one_by_one(void **state)
{
    enum { COUNT = 300 };
    const char *kernel;
    for (size_t index = 0; (kernel = ch_ed25519_kernel(index)) != NULL; index++) {
        struct ch_ed25519 *v;
        bool got[COUNT];
        if (!kernel_asked(kernel) || strncmp(kernel, "batch", 5) != 0)
            continue;
        assert_ok(ch_ed25519_open(&(struct ch_ed25519_options){.kernel = kernel}, &v));
        static const struct {
            bool bad;
            uint64_t batches, batches_failed; /* after it */
        } steps[] = {{false, 1, 0}, {true, 2, 1},  {true, 2, 1}, {true, 2, 1},
                     {false, 3, 1}, {false, 4, 1}, {true, 5, 2}};
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            copy_good(COUNT, i);
            for (size_t at = 0; steps[i].bad && at < COUNT; at++)
                spoil(at, 0);
            ch_ed25519_verify(v, items, COUNT, got);
            assert_memory_equal(got, valid, COUNT);
            struct ch_ed25519_counters c = ch_ed25519_counters(v);
            assert_int_equal(c.batches, steps[i].batches);
            assert_int_equal(c.batches_failed, steps[i].batches_failed);
        }
        ch_ed25519_close(v);
    }
}

/* Blocks of SHA-512 begin and end everywhere; neighbours hashed side by side differ in length. */
static void any_message_length_is_hashed_right(void **state)
{
    enum { LONG = 100000, COUNT = 560 };
    static uint8_t bytes[LONG];
    uint8_t seed[32], key[32], secret[64];
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 11);
    test_random_bytes(&g, bytes, sizeof bytes);
    test_random_bytes(&g, seed, sizeof seed);
    crypto_sign_seed_keypair(key, secret, seed);
    for (size_t i = 0; i < COUNT; i++) {
        size_t length = i == 300 ? LONG : i, cut = ch_prng_below(&g, length + 1);
        crypto_sign_detached(signatures[i], NULL, bytes, length, secret);
        items[i] = (struct ch_ed25519_item){.key = key,
                                            .signature = signatures[i],
                                            .prefix = cut ? bytes : NULL,
                                            .prefix_length = (uint32_t)cut,
                                            .message = length > cut ? bytes + cut : NULL,
                                            .message_length = (uint32_t)(length - cut)};
        valid[i] = true;
    }
    check_all("every message length", COUNT);
}

static void a_cache_of_any_size_changes_no_verdict(void **state)
{
    static const uint32_t sizes[] = {0, 1, 2, 7, 64, 4096};
    enum { POOL = 300, ROUNDS = 6 };
    const char *kernel;
    copy_good(POOL, 0);
    for (size_t i = 0; i < POOL; i += 5)
        spoil(i, i / 5); /* undecodable keys are seen again and again too */
    for (size_t index = 0; (kernel = ch_ed25519_kernel(index)) != NULL; index++) {
        if (!kernel_asked(kernel))
            continue;
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            struct ch_ed25519_options options = {.kernel = kernel, .batch_max = 128, .cached_keys_max = sizes[s]};
            struct ch_ed25519 *v;
            struct ch_prng g;
            ch_prng_seed(&g, test_seed() + 12);
            assert_ok(ch_ed25519_open(&options, &v));
            assert_string_equal(ch_ed25519_kernel_in_use(v), kernel);
            for (int round = 0; round < ROUNDS; round++) {
                struct ch_ed25519_item some[128];
                bool got[128];
                size_t chosen[128], count = 1 + ch_prng_below(&g, 128), pool = round % 2 ? 20 : POOL;
                for (size_t i = 0; i < count; i++) {
                    chosen[i] = ch_prng_below(&g, pool);
                    if (round == 2 && chosen[i] % 5 == 0)
                        chosen[i]++; /* a batch that holds */
                    some[i] = items[chosen[i]];
                }
                if (round == 4)
                    ch_ed25519_verify_each(v, some, count, got);
                else
                    ch_ed25519_verify(v, some, count, got);
                for (size_t i = 0; i < count; i++)
                    if (got[i] != valid[chosen[i]])
                        fail_msg("%s, cache of %u keys, round %d: item %zu is %d", kernel, sizes[s], round, chosen[i],
                                 got[i]);
            }
            struct ch_ed25519_counters c = ch_ed25519_counters(v);
            if (sizes[s] == 0)
                assert_int_equal(c.keys_cached, 0);
            else if (sizes[s] == 4096)
                assert_true(c.keys_cached > 0);
            ch_ed25519_close(v);
        }
    }
}

/* Good keys, and keys and commitments with a part of small order: what is kept of them after a while changes
 * nothing. */
static void keys_that_come_back_often_change_no_verdict(void **state)
{
    enum { DIFFERENT = 64, COUNT = 256, ROUNDS = 8 };
    static struct ed25519_case mixed[DIFFERENT];
    const char *kernel;
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 14);
    for (int i = 0; i < DIFFERENT; i++) {
        uint8_t wide[64], a[32], r[32];
        test_random_bytes(&g, wide, sizeof wide);
        crypto_core_ed25519_scalar_reduce(a, wide);
        test_random_bytes(&g, wide, sizeof wide);
        crypto_core_ed25519_scalar_reduce(r, wide);
        mixed[i] = (struct ed25519_case){.message = text, .message_length = sizeof text};
        sign_with(a, i % 8, r, i / 8, &mixed[i]);
        items[i] = case_item(&mixed[i]);
        assert_true(ch_ed25519_verify_reference(&items[i]));
    }
    for (size_t i = 0; i < COUNT; i++) {
        items[i] = case_item(&mixed[i % DIFFERENT]);
        memcpy(signatures[i], items[i].signature, 64);
        items[i].signature = signatures[i];
    }
    for (size_t k = 0; (kernel = ch_ed25519_kernel(k)) != NULL; k++) {
        struct ch_ed25519_options options = {.kernel = kernel, .batch_max = COUNT, .cached_keys_max = 1024};
        struct ch_ed25519 *v;
        if (!kernel_asked(kernel) || strncmp(kernel, "batch-", 6) != 0)
            continue;
        assert_ok(ch_ed25519_open(&options, &v));
        for (int round = 0; round < ROUNDS; round++) {
            size_t bad = round % 2 ? ch_prng_below(&g, COUNT) : COUNT;
            bool got[COUNT];
            if (bad < COUNT)
                add_to_s(signatures[bad], 1);
            ch_ed25519_verify(v, items, COUNT, got);
            for (size_t i = 0; i < COUNT; i++)
                if (got[i] != (i != bad))
                    fail_msg("%s, round %d: item %zu is %d", kernel, round, i, got[i]);
            if (bad < COUNT)
                memcpy(signatures[bad], case_item(&mixed[bad % DIFFERENT]).signature, 64);
        }
        struct ch_ed25519_counters c = ch_ed25519_counters(v);
        assert_int_equal(c.keys_raised, DIFFERENT); /* sixteen in each of rounds 1 to 4, which is short then */
        assert_int_equal(c.batches, ROUNDS);
        assert_int_equal(c.batches_short, ROUNDS - 4);
        assert_int_equal(c.batches_failed, ROUNDS / 2);
        ch_ed25519_close(v);
    }
}

/* Keys whose multiples are known make room for others, of which none are made at first. */
static void a_key_in_anothers_place_does_not_get_its_multiple(void **state)
{
    enum { PLACES = 8, COUNT = 32 };
    const char *kernel;
    for (size_t k = 0; (kernel = ch_ed25519_kernel(k)) != NULL; k++) {
        struct ch_ed25519_options options = {.kernel = kernel, .batch_max = COUNT, .cached_keys_max = PLACES};
        struct ch_ed25519 *v;
        if (!kernel_asked(kernel) || strncmp(kernel, "batch-", 6) != 0)
            continue;
        assert_ok(ch_ed25519_open(&options, &v));
        for (size_t batch = 0; batch < PLACES + 2; batch++) {
            bool got[COUNT];
            for (size_t i = 0; i < COUNT; i++)
                items[i] = good_item(batch < PLACES ? batch : PLACES + i % PLACES);
            ch_ed25519_verify(v, items, COUNT, got);
            for (size_t i = 0; i < COUNT; i++)
                assert_true(got[i]);
        }
        struct ch_ed25519_counters c = ch_ed25519_counters(v);
        assert_int_equal(c.batches_short, PLACES); /* of one key each; then eight at a time, twice */
        assert_int_equal(c.keys_cached, PLACES);
        assert_int_equal(c.batches_failed, 0);
        ch_ed25519_close(v);
    }
}

/* A key that was only almost seen before must not be taken for it. */
static void a_key_that_differs_in_one_bit_is_not_found_in_the_cache(void **state)
{
    for (int bit = 0; bit < 256; bit += test_full() ? 1 : 5) {
        copy_good(BATCH, 0);
        check_all("before", 3);
        keys[1][bit / 8] ^= 1 << bit % 8;
        valid[1] = false;
        check_all("one bit of a known key", 3);
    }
}

struct guarded {
    uint8_t *map;
    size_t page;
};

/* `length` bytes with a page that faults right behind them, or right before them. */
static uint8_t *guard(struct guarded *m, const void *bytes, size_t length, bool behind)
{
    m->page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (length + m->page - 1) / m->page * m->page + (length == 0 ? m->page : 0);
    m->map = mmap(NULL, room + 2 * m->page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(m->map, MAP_FAILED);
    assert_int_equal(mprotect(m->map + m->page, room, PROT_READ | PROT_WRITE), 0);
    uint8_t *at = m->map + m->page + (behind ? room - length : 0);
    if (length)
        memcpy(at, bytes, length);
    m->page = room + 2 * m->page; /* what there is to unmap */
    return at;
}

static void nothing_outside_the_buffers_is_touched(void **state)
{
    enum { COUNT = 70 };
    static struct guarded maps[4 * COUNT + 2];
    static const size_t counts[] = {1, 2, 7, 8, 9, 16, 17, COUNT};
    for (int behind = 0; behind < 2; behind++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            size_t used = 0, count = counts[c];
            copy_good(count, c * 50);
            for (size_t i = 0; i < count; i++) {
                items[i].key = guard(&maps[used++], items[i].key, 32, behind);
                items[i].signature = guard(&maps[used++], items[i].signature, 64, behind);
                items[i].prefix = guard(&maps[used++], items[i].prefix, items[i].prefix_length, behind);
                items[i].message = guard(&maps[used++], items[i].message, items[i].message_length, behind);
            }
            void *list = guard(&maps[used++], items, count * sizeof *items, behind);
            bool *got = (bool *)guard(&maps[used++], valid, count * sizeof *valid, behind);
            for (size_t k = 0; k < checker_count; k++)
                for (int each = 0; each < 2; each++) {
                    memset(got, 0, count);
                    if (each)
                        ch_ed25519_verify_each(checkers[k].verifier, list, count, got);
                    else
                        ch_ed25519_verify(checkers[k].verifier, list, count, got);
                    for (size_t i = 0; i < count; i++)
                        assert_true(got[i]);
                }
            while (used--)
                munmap(maps[used].map, maps[used].page);
        }
    }
}

/* Random changes to good and to mixed-order signatures; the reference says what is right. */
static void mutated_signatures_get_the_verdict_of_the_reference(void **state)
{
    enum { POOL = 64, SIZE = 200 };
    static uint8_t messages[SIZE][400];
    static struct ed25519_case mixed[POOL];
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 13);
    for (int i = 0; i < POOL; i++) {
        uint8_t wide[64], a[32], r[32];
        test_random_bytes(&g, wide, sizeof wide);
        crypto_core_ed25519_scalar_reduce(a, wide);
        test_random_bytes(&g, wide, sizeof wide);
        crypto_core_ed25519_scalar_reduce(r, wide);
        mixed[i] = (struct ed25519_case){.message = text, .message_length = (uint32_t)ch_prng_below(&g, sizeof text)};
        sign_with(a, i % 8, r, i / 8, &mixed[i]);
    }
    for (int round = 0; round < (test_full() ? 2000 : 30); round++) {
        size_t count = 1 + ch_prng_below(&g, round % 3 ? 40 : SIZE);
        uint64_t mutated_of_256 = (uint64_t[]){0, 3, 20, 128, 256}[ch_prng_below(&g, 5)];
        for (size_t i = 0; i < count; i++) {
            struct ch_ed25519_item from =
                ch_prng_below(&g, 4) ? good_item(ch_prng_next(&g)) : case_item(&mixed[ch_prng_below(&g, POOL)]);
            uint8_t *key = keys[i], *signature = signatures[i];
            size_t length = from.prefix_length + from.message_length;
            memcpy(key, from.key, 32);
            memcpy(signature, from.signature, 64);
            if (from.prefix_length)
                memcpy(messages[i], from.prefix, from.prefix_length);
            if (from.message_length)
                memcpy(messages[i] + from.prefix_length, from.message, from.message_length);
            int changes = ch_prng_below(&g, 256) < mutated_of_256 ? 1 + (int)ch_prng_below(&g, 2) : 0;
            while (changes--)
                switch (ch_prng_below(&g, 10)) {
                case 0:
                    signature[ch_prng_below(&g, 32)] ^= 1 << ch_prng_below(&g, 8);
                    break;
                case 1:
                    signature[32 + ch_prng_below(&g, 32)] ^= 1 << ch_prng_below(&g, 8);
                    break;
                case 2:
                    key[ch_prng_below(&g, 32)] ^= 1 << ch_prng_below(&g, 8);
                    break;
                case 3:
                    messages[i][ch_prng_below(&g, sizeof messages[i])] ^= 1 << ch_prng_below(&g, 8);
                    break;
                case 4:
                    length = ch_prng_below(&g, sizeof messages[i] + 1);
                    break;
                case 5:
                    test_random_bytes(&g, signature + 32 * ch_prng_below(&g, 2), 32);
                    break;
                case 6:
                    memcpy(signature, small_order[ch_prng_below(&g, SMALL_ORDER)], 32);
                    break;
                case 7:
                    memcpy(key, small_order[ch_prng_below(&g, SMALL_ORDER)], 32);
                    break;
                case 8:
                    memset(signature + 32, 0, 32);
                    break;
                case 9:
                    memcpy(signature, good_item(ch_prng_next(&g)).signature, ch_prng_below(&g, 2) ? 32 : 64);
                    break;
                }
            size_t cut = ch_prng_below(&g, length + 1);
            items[i] = (struct ch_ed25519_item){.key = key,
                                                .signature = signature,
                                                .prefix = messages[i],
                                                .prefix_length = (uint32_t)cut,
                                                .message = messages[i] + cut,
                                                .message_length = (uint32_t)(length - cut)};
            valid[i] = ch_ed25519_verify_reference(&items[i]);
        }
        check_all("mutated", count);
    }
}

static void options_out_of_range_are_refused(void **state)
{
    struct ch_ed25519 *v = NULL;
    assert_int_equal(ch_ed25519_open(&(struct ch_ed25519_options){.kernel = "lanes-abacus"}, &v), CH_ERR_NOT_FOUND);
    assert_int_equal(ch_ed25519_open(&(struct ch_ed25519_options){.batch_max = CH_ED25519_BATCH_MAX + 1}, &v),
                     CH_ERR_INVALID);
    assert_false(ch_ed25519_kernel_usable("lanes-abacus"));
    const char *kernel, *best = NULL;
    for (size_t i = 0; (kernel = ch_ed25519_kernel(i)) != NULL; i++) {
        if (ch_ed25519_kernel_usable(kernel))
            best = best ? best : kernel;
        else
            assert_int_equal(ch_ed25519_open(&(struct ch_ed25519_options){.kernel = kernel}, &v), CH_ERR_UNSUPPORTED);
    }
    assert_null(v);
    assert_ok(ch_ed25519_open(&(struct ch_ed25519_options){0}, &v));
    assert_string_equal(ch_ed25519_kernel_in_use(v), best);
    copy_good(1024, 0);
    ch_ed25519_verify(v, items, 1024, valid);
    for (size_t i = 0; i < 1024; i++)
        assert_true(valid[i]);
    ch_ed25519_close(v);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_count_of_good_ones_is_valid),
        cmocka_unit_test(bad_ones_anywhere_are_found),
        cmocka_unit_test(a_bad_one_at_each_place_is_found),
        cmocka_unit_test(equal_keys_and_equal_commitments_change_nothing),
        cmocka_unit_test(errors_made_to_cancel_are_caught),
        cmocka_unit_test(a_poisoned_batch_after_another_is_checked_one_by_one),
        cmocka_unit_test(any_message_length_is_hashed_right),
        cmocka_unit_test(a_cache_of_any_size_changes_no_verdict),
        cmocka_unit_test(keys_that_come_back_often_change_no_verdict),
        cmocka_unit_test(a_key_in_anothers_place_does_not_get_its_multiple),
        cmocka_unit_test(a_key_that_differs_in_one_bit_is_not_found_in_the_cache),
        cmocka_unit_test(nothing_outside_the_buffers_is_touched),
        cmocka_unit_test(mutated_signatures_get_the_verdict_of_the_reference),
        cmocka_unit_test(options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ed25519_suite(argc, argv, run);
}
