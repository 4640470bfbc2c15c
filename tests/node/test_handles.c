#include "node/handles.h"
#include "tests/test.h"

#define COUNT 50

static void names_are_unique_and_keep_what_they_stand_for(void **state)
{
    struct ch_handles handles;
    struct ch_prng g;
    uint64_t names[COUNT];
    uint32_t used = 0, next_length = 1, lengths[COUNT];
    ch_prng_seed(&g, test_seed());
    assert_ok(ch_handles_open(&handles, COUNT));
    for (int turn = 0; turn < 20000; turn++) {
        if (used < COUNT && (used == 0 || ch_prng_below(&g, 2))) {
            struct ch_handle entry = {.length = next_length, .replayed = ch_prng_below(&g, 2) ? malloc(8) : NULL};
            lengths[used] = next_length++;
            names[used] = ch_handles_add(&handles, &entry);
            assert_true(names[used] != 0);
            for (uint32_t i = 0; i < used; i++)
                assert_true(names[i] != names[used]);
            used++;
        } else {
            uint32_t which = (uint32_t)ch_prng_below(&g, used);
            assert_int_equal(ch_handles_get(&handles, names[which])->length, lengths[which]);
            ch_handles_remove(&handles, names[which]);
            names[which] = names[--used];
            lengths[which] = lengths[used];
        }
        for (uint32_t i = 0; i < used; i++)
            assert_int_equal(ch_handles_get(&handles, names[i])->length, lengths[i]);
    }
    ch_handles_close(&handles); /* with names in use: a sanitizer sees what it forgets */
}

static void all_names_can_be_in_use(void **state)
{
    struct ch_handles handles;
    bool seen[COUNT + 1] = {false};
    assert_ok(ch_handles_open(&handles, COUNT));
    for (int round = 0; round < 2; round++) {
        memset(seen, 0, sizeof seen);
        for (uint32_t i = 0; i < COUNT; i++) {
            uint64_t name = ch_handles_add(&handles, &(struct ch_handle){.position = i});
            assert_in_range(name, 1, COUNT);
            assert_false(seen[name]);
            seen[name] = true;
        }
        for (uint64_t name = 1; name <= COUNT; name++)
            ch_handles_remove(&handles, name);
    }
    ch_handles_close(&handles);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique_and_keep_what_they_stand_for),
        cmocka_unit_test(all_names_can_be_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
