#include "dataplane/stream.h"
#include "tests/test.h"

/* Frames as the taker saw them: checked against a stream written from the same seed. */
struct taken {
    uint64_t frames, bytes, next_request;
    uint64_t refuse_every; /* 0: never; else each n-th offer is refused */
    uint64_t offers;
    bool bad;
};

static uint8_t body_byte(uint64_t request, size_t i)
{
    return (uint8_t)(request * 31 + i * 7);
}

static bool take(void *context, const struct ch_frame_header *header, const uint8_t *body)
{
    struct taken *t = context;
    if (t->refuse_every && ++t->offers % t->refuse_every == 0)
        return false;
    t->bad |= header->request != t->next_request || header->type != 3 || header->flags != 9;
    for (size_t i = 0; i < header->length; i++)
        t->bad |= body[i] != body_byte(header->request, i);
    t->next_request++;
    t->frames++;
    t->bytes += header->length;
    return true;
}

static size_t write_frame(uint8_t *to, uint64_t request, uint32_t length)
{
    ch_frame_header_write(&(struct ch_frame_header){length, 3, 9, request}, to);
    for (size_t i = 0; i < length; i++)
        to[CH_FRAME_HEADER_BYTES + i] = body_byte(request, i);
    return CH_FRAME_HEADER_BYTES + length;
}

/* `count` frames of up to `longest` bytes of body; the caller frees. */
static uint8_t *write_frames(struct ch_prng *g, uint64_t count, uint32_t longest, size_t *total)
{
    uint8_t *bytes = malloc(count * (CH_FRAME_HEADER_BYTES + (size_t)longest));
    *total = 0;
    for (uint64_t i = 0; i < count; i++)
        *total += write_frame(bytes + *total, i, (uint32_t)ch_prng_below(g, longest + 1));
    return bytes;
}

static void any_cutting_gives_the_same_frames(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    for (int round = 0; round < 200; round++) {
        size_t total, piece_max = 1 + ch_prng_below(&g, round % 4 ? 3000 : 5);
        uint8_t *bytes = write_frames(&g, 40, 700, &total);
        struct ch_stream_in in = {0};
        struct ch_stream_budget budget = {.most = 1 << 20};
        struct taken t = {.refuse_every = round % 3 ? 2 + ch_prng_below(&g, 9) : 0};
        for (size_t at = 0; at < total;) {
            size_t n = 1 + ch_prng_below(&g, piece_max);
            n = n < total - at ? n : total - at;
            uint8_t *piece = malloc(n); /* of its own, so that a sanitizer sees a read past it */
            memcpy(piece, bytes + at, n);
            enum ch_stream_verdict v = ch_stream_in_add(&in, &budget, piece, n, take, &t);
            assert_true(v == CH_STREAM_OK || (v == CH_STREAM_WAITS && in.waits));
            free(piece);
            at += n;
            if (in.waits && ch_prng_below(&g, 2))
                assert_int_not_equal(ch_stream_in_resume(&in, &budget, take, &t), CH_STREAM_TOO_LONG);
        }
        for (int i = 0; in.waits && i < 100; i++)
            (void)ch_stream_in_resume(&in, &budget, take, &t);
        assert_int_equal(t.frames, 40);
        assert_false(t.bad);
        assert_true(ch_stream_in_between(&in));
        ch_stream_in_free(&in, &budget);
        assert_int_equal(budget.used, 0);
        free(bytes);
    }
}

static void longest_frame_taken_one_byte_more_refused(void **state)
{
    struct ch_stream_in in = {0};
    struct ch_stream_budget budget = {.most = 4 << 20};
    struct taken t = {0};
    uint8_t *bytes = malloc(CH_FRAME_HEADER_BYTES + CH_FRAME_BODY_BYTES_MAX);
    size_t total = write_frame(bytes, 0, CH_FRAME_BODY_BYTES_MAX);
    for (size_t at = 0; at < total; at += 1400)
        assert_int_equal(ch_stream_in_add(&in, &budget, bytes + at, total - at < 1400 ? total - at : 1400, take, &t),
                         CH_STREAM_OK);
    assert_int_equal(t.bytes, CH_FRAME_BODY_BYTES_MAX);
    assert_int_equal(budget.used, 0);
    ch_store32(bytes, CH_FRAME_BODY_BYTES_MAX + 1);
    assert_int_equal(ch_stream_in_add(&in, &budget, bytes, 3, take, &t), CH_STREAM_OK);
    assert_int_equal(ch_stream_in_add(&in, &budget, bytes + 3, 20, take, &t), CH_STREAM_TOO_LONG);
    ch_stream_in_free(&in, &budget);
    ch_stream_budget_close(&budget);
    free(bytes);
}

/* Six streams get a large frame each, in turns of 1400 bytes; then again. */
static void buffers_of_large_frames_are_used_again_and_few_kept(void **state)
{
    enum { STREAMS = 6 };
    struct ch_stream_in in[STREAMS] = {0};
    struct ch_stream_budget budget = {.most = 16 << 20};
    uint8_t *bytes = malloc(CH_FRAME_HEADER_BYTES + CH_FRAME_BODY_BYTES_MAX), *kept[CH_STREAM_LARGE_MAX];
    for (uint64_t round = 0; round < 2; round++) {
        struct taken t[STREAMS] = {0};
        size_t total = write_frame(bytes, round, 1000000);
        for (size_t at = 0; at < total; at += 1400)
            for (int i = 0; i < STREAMS; i++) {
                size_t n = total - at < 1400 ? total - at : 1400;
                t[i].next_request = round;
                assert_int_equal(ch_stream_in_add(&in[i], &budget, bytes + at, n, take, &t[i]), CH_STREAM_OK);
                if (round && at == 14000 && i < CH_STREAM_LARGE_MAX)
                    assert_ptr_equal(in[i].kept, kept[CH_STREAM_LARGE_MAX - 1 - i]);
            }
        for (int i = 0; i < STREAMS; i++)
            assert_true(t[i].frames == 1 && !t[i].bad && in[i].capacity == 0);
        assert_int_equal(budget.used, 0);
        assert_int_equal(budget.larges, CH_STREAM_LARGE_MAX);
        for (int i = 0; i < CH_STREAM_LARGE_MAX; i++)
            kept[i] = budget.large[i].bytes;
    }
    ch_stream_budget_close(&budget);
    free(bytes);
}

static void claimed_length_takes_no_memory(void **state)
{
    struct ch_stream_in in = {0};
    struct ch_stream_budget budget = {.most = 64 << 10};
    struct taken t = {0};
    uint8_t bytes[4096] = {0};
    ch_store32(bytes, CH_FRAME_BODY_BYTES_MAX);
    assert_int_equal(ch_stream_in_add(&in, &budget, bytes, 100, take, &t), CH_STREAM_OK);
    assert_true(budget.used <= 8192);
    enum ch_stream_verdict v = CH_STREAM_OK;
    for (int i = 0; i < 100 && v == CH_STREAM_OK; i++)
        v = ch_stream_in_add(&in, &budget, bytes, sizeof bytes, take, &t);
    assert_int_equal(v, CH_STREAM_NO_MEMORY);
    assert_true(budget.used <= budget.most);
    ch_stream_in_free(&in, &budget);
    assert_int_equal(budget.used, 0);
}

static void queue_gives_back_what_was_put_in(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 1);
    for (int round = 0; round < 50; round++) {
        struct ch_stream_out out = {0};
        struct ch_stream_in in = {0};
        struct ch_stream_budget budget = {.most = 256 << 10}, in_budget = {.most = 4 << 20};
        struct taken t = {0};
        uint64_t queued = 0, acknowledged = 0;
        uint8_t *frame = malloc(CH_FRAME_HEADER_BYTES + 50000);
        while (queued < 60 || out.acknowledged < out.end) {
            switch (ch_prng_below(&g, 3)) {
            case 0: {
                uint32_t length = (uint32_t)ch_prng_below(&g, round % 2 ? 50000 : 300);
                uint32_t first = (uint32_t)ch_prng_below(&g, length + 1);
                if (queued == 60)
                    break;
                (void)write_frame(frame, queued, length);
                struct ch_bytes parts[3] = {{frame + CH_FRAME_HEADER_BYTES, first},
                                            {NULL, 0},
                                            {frame + CH_FRAME_HEADER_BYTES + first, length - first}};
                uint64_t end = out.end;
                ch_err err = ch_stream_out_add(
                    &out, &budget, &(struct ch_frame_header){.type = 3, .flags = 9, .request = queued}, parts, 3);
                assert_true(err == CH_OK || err == CH_ERR_FULL);
                assert_int_equal(out.end - end, err ? 0 : CH_FRAME_HEADER_BYTES + length);
                queued += err == CH_OK;
                break;
            }
            case 1: {
                struct ch_bytes pieces[3];
                size_t count = ch_stream_out_peek(&out, pieces, 3);
                assert_int_equal(count == 0, out.sent == out.end);
                size_t left = 1 + ch_prng_below(&g, 40000);
                for (size_t i = 0; i < count && left > 0; i++) {
                    size_t n = pieces[i].length < left ? pieces[i].length : left;
                    assert_int_equal(ch_stream_in_add(&in, &in_budget, pieces[i].data, n, take, &t), CH_STREAM_OK);
                    ch_stream_out_sent(&out, n);
                    left -= n;
                }
                break;
            }
            default:
                acknowledged += ch_prng_below(&g, out.sent - acknowledged + 1);
                ch_stream_out_acknowledged(&out, &budget, acknowledged);
                break;
            }
            assert_true(budget.used <= budget.most);
        }
        assert_int_equal(t.frames, 60);
        assert_false(t.bad);
        assert_int_equal(budget.used, 0);
        ch_stream_out_free(&out, &budget);
        ch_stream_in_free(&in, &in_budget);
        ch_stream_budget_close(&budget);
        ch_stream_budget_close(&in_budget);
        free(frame);
    }
}

static void body_too_long_is_not_queued(void **state)
{
    struct ch_stream_out out = {0};
    struct ch_stream_budget budget = {.most = 4 << 20};
    uint8_t *body = calloc(1, CH_FRAME_BODY_BYTES_MAX + 1);
    struct ch_bytes parts[2] = {{body, 1}, {body, CH_FRAME_BODY_BYTES_MAX}};
    assert_int_equal(ch_stream_out_add(&out, &budget, &(struct ch_frame_header){0}, parts, 2), CH_ERR_INVALID);
    assert_int_equal(budget.used, 0);
    assert_ok(ch_stream_out_add(&out, &budget, &(struct ch_frame_header){0}, parts + 1, 1));
    ch_stream_out_free(&out, &budget);
    assert_int_equal(budget.used, 0);
    ch_stream_budget_close(&budget);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cutting_gives_the_same_frames),
        cmocka_unit_test(longest_frame_taken_one_byte_more_refused),
        cmocka_unit_test(buffers_of_large_frames_are_used_again_and_few_kept),
        cmocka_unit_test(claimed_length_takes_no_memory),
        cmocka_unit_test(queue_gives_back_what_was_put_in),
        cmocka_unit_test(body_too_long_is_not_queued),
    };
    return cmocka_run_group_tests_name("dataplane/stream", tests, NULL, NULL);
}
