/* Test vectors of others, from the folder in CHAPPE_VECTORS (the meson option `vectors`); skipped where there is none.
 *
 * Expected under ZIP-215, which neither collection was made for:
 * Wycheproof (C2SP/wycheproof, ed25519_test.json): as labelled, but tcId 151 is valid: its R is y = 1 with the sign
 * bit, a "-0" that RFC 8032 refuses. CCTV (C2SP/CCTV, ed25519vectors.json): valid, except for those with the flag
 * `reencoded_k` without `low_order_A`: they hold only if k is hashed over re-encoded points; with A of low order k does
 * not matter.
 */
#include "tests/crypto/test_ed25519_cases.h"

#include <jansson.h>
#include <sodium.h>

#define CASES_MAX 1200

static struct ed25519_case cases[CASES_MAX];
static uint8_t messages[1 << 18];

static json_t *load(const char *name)
{
    const char *folder = test_option("CHAPPE_VECTORS");
    if (!folder) {
        print_message("SKIP: CHAPPE_VECTORS is not set\n");
        skip();
    }
    char path[4096];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *json = json_load_file(path, 0, &error);
    if (!json)
        fail_msg("%s: %s, line %d", path, error.text, error.line);
    return json;
}

static size_t hex_field(const json_t *object, const char *field, uint8_t *to, size_t capacity)
{
    const char *hex = json_string_value(json_object_get(object, field));
    size_t length = 0;
    assert_non_null(hex);
    assert_int_equal(sodium_hex2bin(to, capacity, hex, strlen(hex), NULL, &length, NULL), 0);
    return length;
}

static void wycheproof_is_as_labelled_but_151(void **state)
{
    json_t *json = load("wycheproof_ed25519.json"), *group, *test;
    size_t count = 0, used = 0, malformed = 0, i, j;
    json_array_foreach(json_object_get(json, "testGroups"), i, group)
    {
        json_array_foreach(json_object_get(group, "tests"), j, test)
        {
            assert_true(count < CASES_MAX);
            struct ed25519_case *c = &cases[count];
            uint8_t signature[128];
            int id = (int)json_integer_value(json_object_get(test, "tcId"));
            const char *result = json_string_value(json_object_get(test, "result"));
            memset(c, 0, sizeof *c);
            c->draws = DRAWS_PLACES;
            c->valid = strcmp(result, "valid") == 0 || id == 151;
            snprintf(c->name, sizeof c->name, "Wycheproof %d", id);
            if (hex_field(test, "sig", signature, sizeof signature) != 64) {
                assert_false(c->valid); /* a signature of another length has no place in an item */
                malformed++;
                continue;
            }
            memcpy(c->signature, signature, 64);
            assert_int_equal(hex_field(json_object_get(group, "publicKey"), "pk", c->key, 32), 32);
            c->message = messages + used;
            c->message_length = (uint32_t)hex_field(test, "msg", messages + used, sizeof messages - used);
            used += c->message_length;
            count++;
        }
    }
    assert_int_equal(count + malformed, json_integer_value(json_object_get(json, "numberOfTests")));
    assert_true(count >= 100);
    check_cases(cases, count);
    json_decref(json);
}

static bool has_flag(const json_t *test, const char *name)
{
    const json_t *flag;
    size_t i;
    json_array_foreach(json_object_get(test, "flags"), i,
                       flag) if (strcmp(json_string_value(flag), name) == 0) return true;
    return false;
}

static void cctv_is_valid_but_for_reencoded_hashes(void **state)
{
    json_t *json = load("cctv_ed25519.json"), *test;
    size_t count = 0, used = 0, i;
    json_array_foreach(json, i, test)
    {
        assert_true(count < CASES_MAX);
        struct ed25519_case *c = &cases[count++];
        memset(c, 0, sizeof *c);
        c->valid = !has_flag(test, "reencoded_k") || has_flag(test, "low_order_A");
        c->draws = DRAWS_TORSION;
        snprintf(c->name, sizeof c->name, "CCTV %d", (int)json_integer_value(json_object_get(test, "number")));
        assert_int_equal(hex_field(test, "key", c->key, 32), 32);
        assert_int_equal(hex_field(test, "sig", c->signature, 64), 64);
        const char *message = json_string_value(json_object_get(test, "msg")); /* text, not hex */
        assert_non_null(message);
        c->message_length = (uint32_t)strlen(message);
        assert_true(used + c->message_length <= sizeof messages);
        memcpy(messages + used, message, c->message_length);
        c->message = messages + used;
        used += c->message_length;
    }
    assert_true(count >= 900);
    check_cases(cases, count);
    json_decref(json);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wycheproof_is_as_labelled_but_151),
        cmocka_unit_test(cctv_is_valid_but_for_reencoded_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ed25519_suite(argc, argv, run);
}
