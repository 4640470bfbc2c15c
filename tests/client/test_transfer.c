/* Objects on their way to and from two nodes, of which one lies, lacks something, or is gone. */
#include "tests/test.h"

#include "client/object.h"
#include "tests/client/fake_node.h"

#define BYTES (24u << 20) /* more blocks than are under way at once */

static struct ch_prng prng;
static uint8_t chain_id[32] = {0xc5};
static struct fake_node *first, *second; /* first: NULL once it is stopped */
static struct ch_sign_key key;
static uint8_t *content;

static int setup(void **state)
{
    first = fake_node_start(chain_id);
    second = fake_node_start(chain_id);
    ch_sign_key_new(&key);
    content = test_malloc(BYTES);
    test_random_bytes(&prng, content, BYTES);
    return 0;
}

static int teardown(void **state)
{
    if (first)
        fake_node_stop(first);
    fake_node_stop(second);
    test_free(content);
    return 0;
}

/* Knows both, or the one alone. */
static struct ch_client *client_of(struct fake_node *one, struct fake_node *other)
{
    static uint8_t keys[2][32];
    struct ch_client *c;
    const char *address = other ? fake_node_address(other) : NULL;
    memcpy(keys[0], fake_node_key(first), 32);
    memcpy(keys[1], fake_node_key(second), 32);
    const struct ch_client_options options = {
        .address = fake_node_address(one),
        .others = &address,
        .other_count = other ? 1 : 0,
        .chain_id = chain_id,
        .key = &key,
        .peer_keys = (const uint8_t(*)[32])keys,
        .peer_key_count = 2,
        .timeout_ms = 20000,
    };
    assert_ok(ch_client_open(&options, &c, NULL));
    return c;
}

/* Ends the first node once so much has gone to it. */
static void stop_first(void *context, uint64_t done, uint64_t total)
{
    if (first && fake_node_blocks(first) >= 12) { /* of which some are answered */
        fake_node_stop(first);
        first = NULL;
        if (context)
            ((uint8_t *)context)[0] ^= 1;
    }
}

static bool ask_first;

static ch_err put(struct ch_client *c, ch_progress progress, void *context, struct ch_cid *root, unsigned *passes)
{
    struct ch_putter *putter;
    uint64_t length = 0;
    ch_err err;
    assert_ok(ch_putter_open(c, BYTES, progress, context, &putter));
    if (ask_first)
        ch_putter_ask_first(putter);
    *passes = 0;
    do {
        ++*passes;
        err = CH_OK;
        for (size_t at = 0; err == CH_OK && at < BYTES; at += 100000)
            err = ch_putter_add(putter, content + at, BYTES - at < 100000 ? BYTES - at : 100000);
        if (err == CH_OK)
            err = ch_putter_end(putter, root, &length);
    } while (err == CH_ERR_AGAIN && (err = ch_putter_again(putter)) == CH_OK);
    if (err == CH_OK)
        assert_int_equal(length, BYTES);
    ch_putter_close(putter);
    return err;
}

struct got {
    size_t used;
    unsigned nodes;
};

static ch_err take(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct got *got = context;
    assert_true(ch_cid_matches(cid, block, length));
    if (ch_cid_codec(cid) == CH_CID_DAG_PB) {
        got->nodes++;
        return CH_OK;
    }
    assert_true(length <= BYTES - got->used);
    assert_memory_equal(block, content + got->used, length);
    got->used += length;
    return CH_OK;
}

static void get(struct ch_client *c, const struct ch_cid *root, uint64_t length, ch_progress progress)
{
    struct got got = {0};
    ch_err err = ch_client_get_blocks(c, root, length, take, &got, progress, NULL);
    if (err != CH_OK)
        print_error("%s\n", ch_client_why(c));
    assert_ok(err);
    assert_int_equal(got.used, BYTES);
    assert_int_equal(got.nodes, 1);
}

static void lost_node_hands_over_to_the_next(void **state)
{
    struct ch_client *c = client_of(first, second);
    struct ch_cid root;
    unsigned passes;
    assert_ok(put(c, stop_first, NULL, &root, &passes));
    assert_null(first);
    assert_int_equal(passes, 2);
    assert_int_equal(fake_node_blocks(second), 25);
    get(c, &root, BYTES, NULL);
    ch_client_close(c);
}

static void content_that_changed_is_not_sent_again(void **state)
{
    struct ch_client *c = client_of(first, second);
    struct ch_cid root;
    unsigned passes;
    assert_int_equal(put(c, stop_first, content, &root, &passes), CH_ERR_CORRUPT);
    assert_int_equal(passes, 2);
    assert_int_equal(fake_node_blocks(second), 0);
    ch_client_close(c);
}

static void node_that_has_blocks_is_not_sent_them(void **state)
{
    struct ch_client *alone = client_of(second, NULL), *c;
    struct ch_cid root, again;
    unsigned passes;
    assert_ok(put(alone, NULL, NULL, &root, &passes));
    assert_int_equal(passes, 1);
    ch_client_close(alone);
    c = client_of(first, second);
    fake_node_faults(second)->hang_up_at_put = 1000; /* any put would end it */
    assert_ok(put(c, stop_first, NULL, &again, &passes));
    assert_int_equal(passes, 2);
    assert_memory_equal(root.bytes, again.bytes, CH_CID_BYTES);
    ch_client_close(c);
}

/* Another process put some of it, or all, and was ended. */
static void put_that_was_ended_goes_on_in_another_process(void **state)
{
    struct ch_client *c = client_of(second, NULL);
    struct ch_putter *putter;
    struct ch_cid root, again;
    unsigned passes;
    assert_ok(ch_putter_open(c, BYTES, NULL, NULL, &putter));
    assert_ok(ch_putter_add(putter, content, BYTES)); /* but the root */
    ch_cid_of(CH_CID_RAW, "", 0, &root);
    assert_int_equal(ch_client_has_object(c, &root), CH_ERR_REFUSED); /* answered behind the leaves */
    ch_putter_close(putter);
    ch_client_close(c);
    assert_int_equal(fake_node_blocks(second), BYTES >> 20);
    ask_first = true;
    c = client_of(second, NULL);
    assert_ok(put(c, NULL, NULL, &root, &passes));
    assert_int_equal(passes, 1);
    assert_int_equal(fake_node_blocks(second), (BYTES >> 20) + 1);
    const unsigned puts = fake_node_puts(second);
    assert_int_equal(puts, (BYTES >> 20) + 1);
    ch_client_close(c);
    c = client_of(second, NULL);
    assert_ok(put(c, NULL, NULL, &again, &passes));
    assert_int_equal(fake_node_puts(second), puts);
    assert_memory_equal(root.bytes, again.bytes, CH_CID_BYTES);
    ask_first = false;
    ch_client_close(c);
}

static void note_progress(void *context, uint64_t done, uint64_t total)
{
    uint64_t *noted = context;
    assert_true(done > noted[0] && done <= total);
    assert_int_equal(total, BYTES);
    noted[0] = done;
    noted[1]++;
}

/* Also where only the root says how long the file is. */
static void progress_is_told_up_to_the_end(void **state)
{
    struct ch_client *c = client_of(second, NULL);
    struct ch_cid root;
    unsigned passes;
    assert_ok(put(c, NULL, NULL, &root, &passes));
    for (int known = 0; known < 2; known++) {
        uint64_t noted[2] = {0, 0};
        struct got got = {0};
        assert_ok(ch_client_get_blocks(c, &root, known ? BYTES : UINT64_MAX, take, &got, note_progress, noted));
        assert_int_equal(noted[0], BYTES);
        assert_int_equal(noted[1], BYTES >> 20);
    }
    ch_client_close(c);
}

/* The object at both. */
static struct ch_cid put_at_both(void)
{
    struct ch_cid root;
    unsigned passes;
    struct ch_client *a = client_of(first, NULL), *b = client_of(second, NULL);
    assert_ok(put(a, NULL, NULL, &root, &passes));
    assert_ok(put(b, NULL, NULL, &root, &passes));
    ch_client_close(a);
    ch_client_close(b);
    return root;
}

static void node_that_lies_is_passed_over(void **state)
{
    struct ch_cid root = put_at_both();
    struct ch_client *c = client_of(first, second);
    fake_node_faults(first)->corrupt_object = 1000;
    get(c, &root, BYTES, NULL);
    assert_true(fake_node_faults(first)->corrupt_object < 1000);
    get(c, &root, UINT64_MAX, NULL);
    fake_node_faults(second)->corrupt_object = 1000;
    struct got got = {0};
    assert_int_equal(ch_client_get_blocks(c, &root, BYTES, take, &got, NULL, NULL), CH_ERR_PROTOCOL);
    ch_client_close(c);
}

static void node_that_lacks_the_object_is_passed_over(void **state)
{
    struct ch_client *alone = client_of(second, NULL), *c = client_of(first, second);
    struct ch_cid root;
    unsigned passes;
    assert_ok(put(alone, NULL, NULL, &root, &passes));
    ch_client_close(alone);
    get(c, &root, BYTES, NULL);
    struct got got = {0};
    root.bytes[CH_CID_BYTES - 1] ^= 1;
    assert_int_equal(ch_client_get_blocks(c, &root, BYTES, take, &got, NULL, NULL), CH_ERR_REFUSED);
    assert_int_equal(ch_client_status(c), CH_STATUS_NOT_FOUND);
    ch_client_close(c);
}

static void object_at_the_last_of_six_is_found(void **state)
{
    struct fake_node *more[4];
    const char *addresses[5];
    struct ch_client *alone = client_of(second, NULL), *c;
    struct ch_cid root;
    unsigned passes;
    assert_ok(put(alone, NULL, NULL, &root, &passes));
    ch_client_close(alone);
    for (unsigned i = 0; i < 4; i++) {
        more[i] = fake_node_start(chain_id);
        addresses[i] = fake_node_address(more[i]);
    }
    addresses[4] = fake_node_address(second);
    const struct ch_client_options options = {
        .address = fake_node_address(first),
        .others = addresses,
        .other_count = 5,
        .chain_id = chain_id,
        .key = &key,
        .timeout_ms = 20000,
    };
    assert_ok(ch_client_open(&options, &c, NULL));
    get(c, &root, BYTES, NULL);
    struct got got = {0};
    root.bytes[CH_CID_BYTES - 1] ^= 1; /* nobody has this one: that is told, and not by running out of time */
    assert_int_equal(ch_client_get_blocks(c, &root, BYTES, take, &got, NULL, NULL), CH_ERR_REFUSED);
    assert_int_equal(ch_client_status(c), CH_STATUS_NOT_FOUND);
    ch_client_close(c);
    for (unsigned i = 0; i < 4; i++)
        fake_node_stop(more[i]);
}

static void node_that_goes_leaves_the_rest_to_the_other(void **state)
{
    struct ch_cid root = put_at_both();
    struct ch_client *c = client_of(first, second);
    get(c, &root, BYTES, stop_first);
    assert_null(first);
    ch_client_close(c);
}

static void wrong_length_refused(void **state)
{
    struct ch_cid root = put_at_both();
    struct ch_client *c = client_of(first, second);
    struct got got = {0};
    assert_int_equal(ch_client_get_blocks(c, &root, BYTES - 1, take, &got, NULL, NULL), CH_ERR_PROTOCOL);
    assert_int_equal(got.used, 0);
    ch_client_close(c);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(lost_node_hands_over_to_the_next),
        CASE(content_that_changed_is_not_sent_again),
        CASE(node_that_has_blocks_is_not_sent_them),
        CASE(put_that_was_ended_goes_on_in_another_process),
        CASE(progress_is_told_up_to_the_end),
        CASE(node_that_lies_is_passed_over),
        CASE(node_that_lacks_the_object_is_passed_over),
        CASE(object_at_the_last_of_six_is_found),
        CASE(node_that_goes_leaves_the_rest_to_the_other),
        CASE(wrong_length_refused),
    };
    if (ch_sign_init() != CH_OK)
        return 1;
    ch_prng_seed(&prng, test_seed());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
