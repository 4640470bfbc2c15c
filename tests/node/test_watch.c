#include "node/watch.h"
#include "tests/test.h"

static struct ch_watches table;

static const uint8_t *account(uint32_t number)
{
    static uint8_t key[CH_KEY_BYTES];
    memset(key, 0, sizeof key);
    ch_store32(key, number);
    return key;
}

static int open_table(void **state)
{
    return ch_watches_open(&table) == CH_OK ? 0 : -1;
}

static int close_table(void **state)
{
    ch_watches_close(&table);
    return 0;
}

static uint32_t count_of(const uint8_t *key)
{
    uint32_t count = 0;
    for (struct ch_watch *w = ch_watches_of(&table, key, NULL); w; w = ch_watches_of(&table, key, w))
        count++;
    return count;
}

static void watch_is_found_by_account_and_by_request_until_removed(void **state)
{
    struct ch_watch *one = ch_watches_add(&table, 11, 1, account(1), 5);
    struct ch_watch *two = ch_watches_add(&table, 12, 1, account(1), 1);
    ch_watches_add(&table, 11, 2, account(2), 1);
    ch_watches_add(&table, 11, 3, account(1 + CH_WATCHES_MAX), 1); /* the same bucket as account 1 */
    assert_int_equal(one->next_sequence, 5);
    assert_int_equal(table.used, 4);
    assert_int_equal(table.due, 4);
    assert_int_equal(count_of(account(1)), 2);
    assert_ptr_equal(ch_watches_find(&table, 12, 1), two);
    assert_null(ch_watches_find(&table, 12, 2));
    one->due = false;
    table.due--;
    ch_watches_remove(&table, one);
    ch_watches_remove(&table, two);
    assert_int_equal(table.used, 2);
    assert_int_equal(table.due, 2);
    assert_int_equal(count_of(account(1)), 0);
    assert_int_equal(count_of(account(1 + CH_WATCHES_MAX)), 1);
    assert_null(ch_watches_find(&table, 11, 1));
}

static void ninth_watch_of_an_account_replaces_its_first(void **state)
{
    for (uint64_t i = 1; i <= CH_WATCHES_OF_ONE_MAX + 1; i++)
        ch_watches_add(&table, 7, i, account(3), 1);
    assert_int_equal(count_of(account(3)), CH_WATCHES_OF_ONE_MAX);
    assert_null(ch_watches_find(&table, 7, 1));
    assert_non_null(ch_watches_find(&table, 7, 2));
    assert_non_null(ch_watches_find(&table, 7, CH_WATCHES_OF_ONE_MAX + 1));
}

static void full_table_makes_room_for_a_new_watch(void **state)
{
    for (uint32_t i = 0; i < CH_WATCHES_MAX + 100; i++) {
        struct ch_watch *added = ch_watches_add(&table, 1 + i, 1, account(i), 1);
        assert_ptr_equal(ch_watches_of(&table, account(i), NULL), added);
    }
    assert_int_equal(table.used, CH_WATCHES_MAX);
    assert_int_equal(table.due, CH_WATCHES_MAX);
    uint32_t there = 0;
    for (uint32_t i = 0; i < CH_WATCHES_MAX + 100; i++)
        there += count_of(account(i));
    assert_int_equal(there, CH_WATCHES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(watch_is_found_by_account_and_by_request_until_removed, open_table,
                                        close_table),
        cmocka_unit_test_setup_teardown(ninth_watch_of_an_account_replaces_its_first, open_table, close_table),
        cmocka_unit_test_setup_teardown(full_table_makes_room_for_a_new_watch, open_table, close_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
