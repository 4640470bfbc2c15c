#include "base/cpu.h"
#include "base/hex.h"
#include "tests/test.h"

static void reader_past_its_end_turns_bad_and_stays_so(void **state)
{
    const uint8_t bytes[] = {1, 2, 0, 3, 0, 0, 0};
    struct ch_reader r = ch_reader(bytes, sizeof bytes);
    assert_int_equal(ch_read8(&r), 1);
    assert_int_equal(ch_read16(&r), 2);
    assert_int_equal(ch_read32(&r), 3);
    assert_true(ch_reader_done(&r));
    assert_int_equal(ch_read8(&r), 0);
    assert_true(r.bad);
    assert_false(ch_reader_done(&r));
    assert_null(ch_read(&r, 0));
}

static void writer_past_its_end_writes_nothing(void **state)
{
    uint8_t bytes[6] = {0};
    struct ch_writer w = ch_writer(bytes, 5);
    ch_write32(&w, 0x01020304);
    ch_write16(&w, 0xffff);
    assert_true(w.bad);
    ch_write8(&w, 7);
    assert_int_equal(w.used, 4);
    assert_int_equal(bytes[4], 0);
    assert_int_equal(bytes[0], 4);
}

static void prng_repeats_its_seed(void **state)
{
    struct ch_prng a, b;
    ch_prng_seed(&a, test_seed());
    ch_prng_seed(&b, test_seed());
    for (int i = 0; i < 100; i++)
        assert_true(ch_prng_next(&a) == ch_prng_next(&b));
    for (int i = 0; i < 1000; i++)
        assert_true(ch_prng_below(&a, 7) < 7);
}

static void cpu_mask_takes_features_away(void **state)
{
    uint32_t mask;
    assert_ok(ch_cpu_parse_mask("portable", &mask));
    ch_cpu_set_mask(mask);
    assert_int_equal(ch_cpu_features() & (CH_CPU_AVX2 | CH_CPU_AVX512 | CH_CPU_AVX512IFMA), 0);
    assert_int_equal(ch_cpu_parse_mask("avx1024", &mask), CH_ERR_INVALID);
    ch_cpu_set_mask(CH_CPU_ALL);
}

static void hex_reads_back_what_it_wrote(void **state)
{
    const uint8_t bytes[] = {0x00, 0x1f, 0xab, 0xff};
    uint8_t back[4] = {0};
    char text[9];
    assert_string_equal(ch_hex_write(bytes, 4, text), "001fabff");
    assert_true(ch_hex_read(text, back, 4));
    assert_memory_equal(back, bytes, 4);
    assert_true(ch_hex_read("001FAbFf", back, 4));
    assert_memory_equal(back, bytes, 4);
}

static void hex_that_is_not_all_digits_or_of_another_length_is_refused(void **state)
{
    static const char *const bad[] = {"",         "0",        "001fabf",  "001fabff0", "001fab f",
                                      " 01fabff", "0x1fabff", "+01fabff", "001fabfg"};
    uint8_t bytes[4];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *text = strdup(bad[i]); /* so that a read beyond its end is found */
        assert_false(ch_hex_read(text, bytes, 4));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_past_its_end_turns_bad_and_stays_so),
        cmocka_unit_test(writer_past_its_end_writes_nothing),
        cmocka_unit_test(prng_repeats_its_seed),
        cmocka_unit_test(hex_reads_back_what_it_wrote),
        cmocka_unit_test(hex_that_is_not_all_digits_or_of_another_length_is_refused),
        cmocka_unit_test(cpu_mask_takes_features_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
