#include "node/lanes.h"
#include "tests/test.h"

static struct ch_lanes lanes;
static uint8_t body[CH_FRAME_BODY_BYTES_MAX];

static bool put(enum ch_lane lane, uint32_t length)
{
    const struct ch_frame_header header = {.length = length, .request = lane};
    struct ch_lane_frame *frame = ch_lane_frame_new(&header, body);
    assert_non_null(frame);
    const bool taken = ch_lanes_put(&lanes, lane, frame);
    ch_lane_frame_release(frame);
    return taken;
}

/* Takes one and puts another of the same length in its place: the lane goes on waiting. */
static enum ch_lane take_and_refill(void)
{
    enum ch_lane lane;
    const struct ch_lane_frame *frame = ch_lanes_next(&lanes, &lane);
    assert_non_null(frame);
    assert_int_equal(frame->header.request, lane);
    const uint32_t length = frame->header.length;
    ch_lanes_taken(&lanes, lane);
    assert_true(put(lane, length));
    return lane;
}

static void lanes_that_all_wait_get_four_two_and_one(void **state)
{
    unsigned counts[CH_LANES] = {0};
    for (unsigned lane = 0; lane < CH_LANES; lane++)
        assert_true(put((enum ch_lane)lane, 1000));
    for (int i = 0; i < 700; i++)
        counts[take_and_refill()]++;
    assert_int_equal(counts[CH_LANE_LIVE], 400);
    assert_int_equal(counts[CH_LANE_FETCH], 200);
    assert_int_equal(counts[CH_LANE_SYNC], 100);
    ch_lanes_clear(&lanes);
}

/* The shares are of bytes: who sends large frames gets no more by it. */
static void shares_hold_for_frames_of_any_length(void **state)
{
    const uint32_t lengths[CH_LANES] = {300, 200000, CH_FRAME_BODY_BYTES_MAX};
    uint64_t bytes[CH_LANES] = {0}, all = 0;
    for (unsigned lane = 0; lane < CH_LANES; lane++)
        assert_true(put((enum ch_lane)lane, lengths[lane]));
    while (all < 700u << 20) {
        const enum ch_lane lane = take_and_refill();
        bytes[lane] += CH_FRAME_HEADER_BYTES + lengths[lane];
        all += CH_FRAME_HEADER_BYTES + lengths[lane];
    }
    const uint64_t seventh = 100u << 20, frame = 2u << 20;
    assert_in_range(bytes[CH_LANE_LIVE], 4 * seventh - 4 * frame, 4 * seventh + 4 * frame);
    assert_in_range(bytes[CH_LANE_FETCH], 2 * seventh - 2 * frame, 2 * seventh + 2 * frame);
    assert_in_range(bytes[CH_LANE_SYNC], seventh - frame, seventh + frame);
    ch_lanes_clear(&lanes);
}

static void lane_alone_gets_all_and_owes_nothing(void **state)
{
    unsigned counts[CH_LANES] = {0};
    assert_true(put(CH_LANE_SYNC, 1000));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(take_and_refill(), CH_LANE_SYNC);
    assert_true(put(CH_LANE_LIVE, 1000)); /* saved nothing up meanwhile: no more than four of five */
    for (int i = 0; i < 50; i++)
        counts[take_and_refill()]++;
    assert_in_range(counts[CH_LANE_LIVE], 39, 41);
    assert_in_range(counts[CH_LANE_SYNC], 9, 11);
    ch_lanes_clear(&lanes);
}

static void full_lane_refuses_and_the_others_do_not(void **state)
{
    unsigned large = 0, small = 0;
    while (put(CH_LANE_FETCH, 256 << 10))
        large++;
    assert_int_equal(large, CH_LANE_BYTES_MAX / ((256 << 10) + CH_FRAME_HEADER_BYTES));
    while (put(CH_LANE_LIVE, 10))
        small++;
    assert_int_equal(small, CH_LANE_FRAMES_MAX);
    assert_true(put(CH_LANE_SYNC, CH_FRAME_BODY_BYTES_MAX));
    for (unsigned left = large + small + 1; left; left--) {
        enum ch_lane lane;
        assert_non_null(ch_lanes_next(&lanes, &lane));
        ch_lanes_taken(&lanes, lane);
    }
    enum ch_lane lane;
    assert_true(ch_lanes_empty(&lanes));
    assert_null(ch_lanes_next(&lanes, &lane));
    assert_true(put(CH_LANE_FETCH, 256 << 10));
    ch_lanes_clear(&lanes);
}

static void frames_of_a_lane_keep_their_order(void **state)
{
    for (uint32_t i = 1; i <= 3 * CH_LANE_FRAMES_MAX; i++) {
        enum ch_lane lane;
        assert_true(put(CH_LANE_LIVE, i));
        if (i < 100)
            continue; /* 100 wait all the time, so that the queue goes round */
        assert_int_equal(ch_lanes_next(&lanes, &lane)->header.length, i - 99);
        ch_lanes_taken(&lanes, lane);
    }
    ch_lanes_clear(&lanes);
}

static void frame_for_several_lives_until_the_last_has_it(void **state)
{
    static struct ch_lanes other;
    enum ch_lane lane;
    const struct ch_frame_header header = {.length = 5};
    struct ch_lane_frame *frame = ch_lane_frame_new(&header, (const uint8_t *)"hello");
    assert_true(ch_lanes_put(&lanes, CH_LANE_LIVE, frame) && ch_lanes_put(&other, CH_LANE_LIVE, frame));
    ch_lane_frame_release(frame);
    ch_lanes_clear(&lanes);
    assert_memory_equal(ch_lanes_next(&other, &lane)->body, "hello", 5);
    ch_lanes_taken(&other, lane);
    assert_true(ch_lanes_empty(&other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_that_all_wait_get_four_two_and_one),
        cmocka_unit_test(shares_hold_for_frames_of_any_length),
        cmocka_unit_test(lane_alone_gets_all_and_owes_nothing),
        cmocka_unit_test(full_lane_refuses_and_the_others_do_not),
        cmocka_unit_test(frames_of_a_lane_keep_their_order),
        cmocka_unit_test(frame_for_several_lives_until_the_last_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
