#include "tests/test.h"
#include "wire/car.h"

#define BLOCKS 3
static const char *const blocks[BLOCKS] = {"", "one block", "another block, longer than the one before"};

struct taken {
    unsigned count, stop_at;
};

static ch_err take(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct taken *taken = context;
    struct ch_cid expected;
    assert_true(taken->count < BLOCKS);
    assert_int_equal(length, strlen(blocks[taken->count]));
    ch_cid_of(CH_CID_RAW, blocks[taken->count], length, &expected);
    assert_memory_equal(cid->bytes, expected.bytes, CH_CID_BYTES);
    assert_memory_equal(block, blocks[taken->count], length);
    return ++taken->count == taken->stop_at ? CH_ERR_IO : CH_OK;
}

static size_t write_car(uint8_t *to, size_t ends[BLOCKS + 1])
{
    struct ch_cid root;
    ch_cid_of(CH_CID_RAW, blocks[0], strlen(blocks[0]), &root);
    ch_car_header(&root, to);
    size_t used = ends[0] = CH_CAR_HEADER_BYTES;
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct ch_cid cid;
        size_t length = strlen(blocks[i]);
        ch_cid_of(CH_CID_RAW, blocks[i], length, &cid);
        used += ch_car_section(&cid, length, to + used);
        memcpy(to + used, blocks[i], length);
        used += length;
        ends[i + 1] = used;
    }
    return used;
}

static enum ch_car_verdict read_car(const uint8_t *bytes, size_t length, size_t piece, struct taken *taken)
{
    struct ch_car_reader *reader;
    struct ch_cid root;
    enum ch_car_verdict verdict = CH_CAR_OK;
    assert_ok(ch_car_reader_open(take, taken, &reader));
    for (size_t at = 0; at < length && verdict == CH_CAR_OK; at += piece)
        verdict = ch_car_reader_add(reader, bytes + at, length - at < piece ? length - at : piece);
    verdict = ch_car_reader_end(reader, &root);
    ch_car_reader_close(reader);
    return verdict;
}

static void pieces_of_any_size_give_the_blocks(void **state)
{
    uint8_t car[1024];
    size_t ends[BLOCKS + 1], length = write_car(car, ends);
    for (size_t piece = 1; piece <= length; piece++) {
        struct taken taken = {0};
        assert_int_equal(read_car(car, length, piece, &taken), CH_CAR_OK);
        assert_int_equal(taken.count, BLOCKS);
    }
}

static void cut_anywhere_between_blocks_only_is_good(void **state)
{
    uint8_t car[1024];
    size_t ends[BLOCKS + 1], length = write_car(car, ends);
    for (size_t cut = 0; cut < length; cut++) {
        struct taken taken = {0};
        bool whole = false;
        for (unsigned i = 0; i <= BLOCKS; i++)
            whole = whole || ends[i] == cut;
        enum ch_car_verdict expected = whole ? CH_CAR_OK : cut < CH_CAR_HEADER_BYTES ? CH_CAR_NO_CAR : CH_CAR_CUT;
        assert_int_equal(read_car(car, cut, 7, &taken), expected);
    }
}

static void any_flipped_bit_is_refused(void **state)
{
    uint8_t car[1024];
    size_t ends[BLOCKS + 1], length = write_car(car, ends);
    for (size_t bit = 0; bit < 8 * length; bit++) {
        struct taken taken = {0};
        if (bit / 8 >= 18 && bit / 8 < 50) /* the root's digest: who reads compares it with what he asked for */
            continue;
        car[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(read_car(car, length, 11, &taken), CH_CAR_OK);
        car[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void taker_that_stops_ends_it(void **state)
{
    uint8_t car[1024];
    size_t ends[BLOCKS + 1], length = write_car(car, ends);
    struct taken taken = {.stop_at = 2};
    assert_int_equal(read_car(car, length, length, &taken), CH_CAR_STOPPED);
    assert_int_equal(taken.count, 2);
}

static void block_beyond_the_limit_is_refused(void **state)
{
    uint8_t car[1024];
    size_t ends[BLOCKS + 1];
    struct taken taken = {0};
    (void)write_car(car, ends);
    static const uint8_t lengths[][4] = {{0xa5, 0x80, 0x40, 0}, {0xff, 0xff, 0xff, 0xff}, {0x23, 0, 0, 0}};
    for (size_t i = 0; i < 3; i++) {
        memcpy(car + CH_CAR_HEADER_BYTES, lengths[i], 4);
        assert_int_equal(read_car(car, CH_CAR_HEADER_BYTES + 4, 1, &taken), CH_CAR_BAD_SECTION);
    }
    assert_int_equal(taken.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_any_size_give_the_blocks),
        cmocka_unit_test(cut_anywhere_between_blocks_only_is_good),
        cmocka_unit_test(any_flipped_bit_is_refused),
        cmocka_unit_test(taker_that_stops_ends_it),
        cmocka_unit_test(block_beyond_the_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
