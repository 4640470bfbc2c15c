/* What ZIP-215 says beyond honest signatures: points of small and of mixed order, encodings that aren't canonical,
 * scalars at their edges. All made here. */
#include "tests/crypto/test_ed25519_cases.h"

#include <sodium.h>

#define CASES_MAX 2600

static struct ed25519_case cases[CASES_MAX];
static size_t case_count;

static const uint8_t text[] = "a message that does not matter";

static struct ed25519_case *new_case(bool valid, uint32_t draws)
{
    assert_true(case_count < CASES_MAX);
    struct ed25519_case *c = &cases[case_count++];
    memset(c, 0, sizeof *c);
    c->message = text;
    c->message_length = sizeof text;
    c->valid = valid;
    c->draws = draws;
    return c;
}

static void random_scalar(struct ch_prng *g, uint8_t k[32])
{
    uint8_t wide[64];
    test_random_bytes(g, wide, sizeof wide);
    crypto_core_ed25519_scalar_reduce(k, wide);
}

/* s = 0: both sides are torsion, which the 8 clears, whatever k is. */
static void pairs_of_small_order_are_valid(void **state)
{
    case_count = 0;
    for (int a = 0; a < SMALL_ORDER; a++)
        for (int r = 0; r < SMALL_ORDER; r++) {
            struct ed25519_case *c = new_case(true, DRAWS_TORSION);
            snprintf(c->name, sizeof c->name, "small order key %d, R %d, s 0", a, r);
            memcpy(c->key, small_order[a], 32);
            memcpy(c->signature, small_order[r], 32);
        }
    check_cases(cases, case_count);
}

static void pairs_of_small_order_with_another_s_are_invalid(void **state)
{
    case_count = 0;
    for (int a = 0; a < SMALL_ORDER; a++)
        for (int r = a % 2; r < SMALL_ORDER; r += 2) {
            struct ed25519_case *c = new_case(false, DRAWS_FEW);
            snprintf(c->name, sizeof c->name, "small order key %d, R %d, s not 0", a, r);
            memcpy(c->key, small_order[a], 32);
            memcpy(c->signature, small_order[r], 32);
            add_to_s(c->signature, (a + r) % 3 ? a + r + 1 : -8);
        }
    check_cases(cases, case_count);
}

static bool is_small_order(const uint8_t encoding[32])
{
    for (int i = 0; i < SMALL_ORDER; i++)
        if (memcmp(small_order[i], encoding, 32) == 0)
            return true;
    return false;
}

/* y = p .. p + 18 with both signs, whether they decode or not, against each other and against small order. Nobody knows
 * a logarithm of those that aren't of small order, so no signature with them holds; they must not disturb either. */
static void pairs_of_non_canonical_encodings_hold_by_small_order_alone(void **state)
{
    uint8_t encodings[2 * 19 + SMALL_ORDER][32];
    size_t count = 0;
    for (int y = 0; y < 19; y++)
        for (int sign = 0; sign < 2; sign++) {
            memset(encodings[count], 0xff, 32);
            encodings[count][0] = (uint8_t)(0xed + y);
            encodings[count++][31] = sign ? 0xff : 0x7f;
        }
    size_t step = test_full() ? 1 : 3;
    memcpy(encodings[count], small_order, sizeof small_order);
    count += SMALL_ORDER;
    case_count = 0;
    for (size_t a = 0; a < count; a++)
        for (size_t r = a % step; r < count; r += step) {
            bool valid = is_small_order(encodings[a]) && is_small_order(encodings[r]);
            if (valid && a >= count - SMALL_ORDER && r >= count - SMALL_ORDER)
                continue; /* had above */
            struct ed25519_case *c = new_case(valid, valid ? DRAWS_TORSION : DRAWS_FEW);
            snprintf(c->name, sizeof c->name, "non-canonical key %02x..%02x, R %02x..%02x", encodings[a][0],
                     encodings[a][31], encodings[r][0], encodings[r][31]);
            memcpy(c->key, encodings[a], 32);
            memcpy(c->signature, encodings[r], 32);
        }
    check_cases(cases, case_count);
}

/* Honest but for a point of small order added to the key, to R, or to both; k and s are right for the sum. */
static void keys_and_commitments_of_mixed_order_are_valid(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 2);
    case_count = 0;
    for (int at = 0; at < 8; at++)
        for (int rt = 0; rt < 8; rt++) {
            uint8_t a[32], r[32];
            random_scalar(&g, a);
            random_scalar(&g, r);
            struct ed25519_case *c = new_case(true, DRAWS_TORSION);
            snprintf(c->name, sizeof c->name, "mixed order, key + %dT, R + %dT", at, rt);
            sign_with(a, at, r, rt, c);
        }
    check_cases(cases, case_count);
}

static void mixed_order_with_another_s_is_invalid(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 3);
    case_count = 0;
    for (int at = 0; at < 8; at++) {
        uint8_t a[32], r[32];
        random_scalar(&g, a);
        random_scalar(&g, r);
        struct ed25519_case *c = new_case(true, DRAWS_TORSION);
        snprintf(c->name, sizeof c->name, "mixed order, key + %dT, s + 1", at);
        sign_with(a, at, r, 7 - at, c);
        add_to_s(c->signature, 1);
        c->valid = false;
    }
    check_cases(cases, case_count);
}

/* Key and R near B and the identity: sums that meet equal and opposite points, which incomplete formulas get wrong. */
static void keys_and_commitments_near_the_base_point_are_valid(void **state)
{
    static const int near[] = {0, 1, -1, 2, -2, 3, 4, 8, -8, 16, 127, 128, -128, 255, 256, 1 << 20};
    case_count = 0;
    for (size_t i = 0; i < sizeof near / sizeof *near; i++)
        for (size_t j = 0; j < sizeof near / sizeof *near; j++) {
            uint8_t a[32], r[32];
            small_scalar(a, near[i]);
            small_scalar(r, near[j]);
            struct ed25519_case *c = new_case(true, DRAWS_PLACES);
            snprintf(c->name, sizeof c->name, "key [%d]B, R [%d]B", near[i], near[j]);
            sign_with(a, 0, r, 0, c);
        }
    check_cases(cases, case_count);
}

/* With a key of small order s may be chosen: R = [s]B + T. */
static void scalars_at_their_edges_are_valid_below_the_order(void **state)
{
    uint8_t edges[600][32];
    size_t count = 0;
    for (int v = -17; v <= 17; v++)
        small_scalar(edges[count++], v);
    uint8_t half[32], two[32]; /* (L + 1) / 2, where a centred scalar changes its sign */
    small_scalar(two, 2);
    crypto_core_ed25519_scalar_invert(half, two);
    for (int v = -3; v <= 3; v++) {
        small_scalar(edges[count], v);
        crypto_core_ed25519_scalar_add(edges[count], edges[count], half);
        count++;
    }
    for (int bit = 1; bit <= 252; bit += 1 + (bit > 32 && bit < 220) * 7) {
        uint8_t power[32] = {0};
        power[bit / 8] = (uint8_t)(1 << bit % 8);
        for (int v = -1; v <= 1; v++) {
            uint8_t d[32];
            small_scalar(d, v);
            crypto_core_ed25519_scalar_add(edges[count++], power, d);
        }
    }
    /* every window digit of one value, for windows of any width: repeated bit patterns */
    for (int pattern = 0; pattern < 256; pattern += 15) {
        memset(edges[count], pattern, 32);
        edges[count++][31] &= 0x0f;
    }
    assert_true(count <= sizeof edges / sizeof *edges);
    case_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct ed25519_case *c = new_case(true, i % 40 == 0 ? DRAWS_TORSION : DRAWS_PLACES);
        snprintf(c->name, sizeof c->name, "scalar edge %zu", i);
        memcpy(c->key, small_order[i % SMALL_ORDER], 32);
        multiply_base(c->signature, edges[i]);
        add_points(c->signature, c->signature, torsion[i % 8]);
        memcpy(c->signature + 32, edges[i], 32);
    }
    check_cases(cases, case_count);
}

/* s + jL signs the same equation; s < L strictly is what makes one signature of it. */
static void scalars_of_the_order_and_more_are_invalid(void **state)
{
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7,
                                      0xa2, 0xde, 0xf9, 0xde, 0x14, 0,    0,    0,    0,    0,    0,
                                      0,    0,    0,    0,    0,    0,    0,    0,    0,    0x10};
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 4);
    case_count = 0;
    for (int kind = 0; kind < 4; kind++) {
        struct ed25519_case *c = new_case(true, DRAWS_PLACES), first;
        uint8_t a[32], r[32];
        random_scalar(&g, a);
        random_scalar(&g, r);
        if (kind < 3) {
            sign_with(a, 0, r, 0, c);
        } else { /* s = 0 */
            memcpy(c->key, small_order[5], 32);
            memcpy(c->signature, small_order[9], 32);
        }
        snprintf(c->name, sizeof c->name, "s of kind %d", kind);
        first = *c;
        for (int j = 1; j < 16; j++) {
            uint32_t carry = 0;
            for (int i = 0; i < 32; i++) {
                carry += (uint32_t)first.signature[32 + i] + order[i];
                first.signature[32 + i] = (uint8_t)carry;
                carry >>= 8;
            }
            if (carry)
                break;
            c = new_case(false, DRAWS_PLACES);
            *c = first;
            c->valid = false;
            snprintf(c->name, sizeof c->name, "s + %dL of kind %d", j, kind);
        }
    }
    struct ed25519_case *c = new_case(false, DRAWS_PLACES);
    snprintf(c->name, sizeof c->name, "s of all ones");
    memcpy(c->key, torsion[0], 32);
    memset(c->signature, 0xff, 64);
    memcpy(c->signature, torsion[0], 32);
    check_cases(cases, case_count);
}

/* A batch of nothing but torsion: residues of small order must not add up to a wrong verdict, whatever the draw. */
static void a_batch_of_torsion_alone_is_valid(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 5);
    case_count = 0;
    static struct ch_ed25519_item items[600];
    static bool valid[600];
    for (int i = 0; i < 300; i++) {
        uint8_t a[32], r[32];
        random_scalar(&g, a);
        random_scalar(&g, r);
        struct ed25519_case *c = new_case(true, DRAWS_TORSION);
        sign_with(a, i % 8, r, i / 8 % 8, c);
    }
    for (int i = 0; i < 300; i++) {
        struct ed25519_case *c = new_case(true, DRAWS_TORSION);
        memcpy(c->key, small_order[i % SMALL_ORDER], 32);
        memcpy(c->signature, small_order[i / SMALL_ORDER % SMALL_ORDER], 32);
    }
    for (int i = 0; i < 600; i++) {
        items[i] = case_item(&cases[i]);
        valid[i] = true;
    }
    for (size_t k = 0; k < checker_count; k++)
        for (int draw = 0; draw < (test_full() ? 20 : 3); draw++) {
            check_batch(&checkers[k], "a batch of torsion", items, 600, valid);
            check_batch(&checkers[k], "a batch of mixed order", items, 70, valid);
            check_batch(&checkers[k], "a batch of small order", items + 400, 70, valid);
        }
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_of_small_order_are_valid),
        cmocka_unit_test(pairs_of_small_order_with_another_s_are_invalid),
        cmocka_unit_test(pairs_of_non_canonical_encodings_hold_by_small_order_alone),
        cmocka_unit_test(keys_and_commitments_of_mixed_order_are_valid),
        cmocka_unit_test(mixed_order_with_another_s_is_invalid),
        cmocka_unit_test(keys_and_commitments_near_the_base_point_are_valid),
        cmocka_unit_test(scalars_at_their_edges_are_valid_below_the_order),
        cmocka_unit_test(scalars_of_the_order_and_more_are_invalid),
        cmocka_unit_test(a_batch_of_torsion_alone_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ed25519_suite(argc, argv, run);
}
