#include "base/hash.h"
#include "tests/test.h"

static void hex_is(const uint8_t *bytes, const char *hex)
{
    char text[65];
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(text, hex);
}

static void fips_vectors_match(void **state)
{
    uint8_t d[32];
    ch_hash("", 0, d);
    hex_is(d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ch_hash("abc", 3, d);
    hex_is(d, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void domain_is_hashed_with_its_zero(void **state)
{
    uint8_t a[32], b[32];
    struct ch_bytes part = {(const uint8_t *)"xy", 2};
    ch_hash_domain("d", &part, 1, a);
    ch_hash("d\0xy", 4, b);
    assert_memory_equal(a, b, 32);
}

static void many_equals_one_by_one(void **state)
{
    enum { COUNT = 700, BYTES = 70000 };
    static uint8_t data[BYTES + COUNT];
    static struct ch_bytes in[COUNT];
    static uint8_t out[COUNT][32];
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    test_random_bytes(&g, data, sizeof data);
    for (int i = 0; i < COUNT; i++)
        in[i] = (struct ch_bytes){data + i, i % 97 == 3 ? BYTES : i % 41 == 0 ? 0 : ch_prng_below(&g, 2000)};
    struct ch_hash_many *many;
    assert_ok(ch_hash_many_open(&many));
    ch_hash_many(many, in, COUNT, out);
    for (int i = 0; i < COUNT; i++) {
        uint8_t d[32];
        ch_hash(in[i].data, in[i].length, d);
        assert_memory_equal(d, out[i], 32);
    }
    ch_hash_many_close(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fips_vectors_match),
        cmocka_unit_test(domain_is_hashed_with_its_zero),
        cmocka_unit_test(many_equals_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
