#include "dataplane/quic_guard_impl.h"
#include "tests/test.h"

#include "quic_plain.h"

#define FRAME(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

enum { LONG = 1, DIALLER = 2, LISTENER = 4, ALL = 7 };

static const uint8_t new_id[] = {0x18, 1, 0, 8, 1, 2, 3, 4, 5,  6,  7,  8,  0,  1,
                                 2,    3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* What may stand where: in Initial and Handshake packets, in 1-RTT packets of the dialling side, of the accepting side.
 */
static const struct {
    const char *what;
    const uint8_t *frame;
    size_t length;
    int allowed;
} cases[] = {
    {"padding", FRAME(0x00), ALL},
    {"ping", FRAME(0x01), ALL},
    {"ack of 5..3", FRAME(0x02, 5, 0, 0, 2), ALL},
    {"ack of 9, 5..4", FRAME(0x02, 9, 0, 1, 0, 2, 1), ALL},
    {"ack below zero", FRAME(0x02, 5, 0, 0, 6), 0},
    {"ack range below zero", FRAME(0x02, 9, 0, 1, 0, 6, 2), 0},
    {"ack with ecn", FRAME(0x03, 5, 0, 0, 2, 1, 1, 1), ALL},
    {"reset stream", FRAME(0x04, 0, 0, 0), DIALLER | LISTENER},
    {"stop sending", FRAME(0x05, 4, 0), DIALLER | LISTENER},
    {"crypto", FRAME(0x06, 0, 2, 7, 7), ALL},
    {"new token", FRAME(0x07, 2, 7, 7), LISTENER},
    {"stream to the end", FRAME(0x08, 0, 1, 2, 3), DIALLER | LISTENER},
    {"stream with all", FRAME(0x0f, 12, 9, 2, 7, 7), DIALLER | LISTENER},
    {"stream of the accepting side", FRAME(0x0a, 1, 1, 7), 0},
    {"unidirectional stream", FRAME(0x0a, 2, 1, 7), 0},
    {"fifth stream", FRAME(0x0a, 16, 1, 7), 0},
    {"max data", FRAME(0x10, 9), DIALLER | LISTENER},
    {"max stream data", FRAME(0x11, 0, 9), DIALLER | LISTENER},
    {"max streams", FRAME(0x12, 9), DIALLER | LISTENER},
    {"max unidirectional streams", FRAME(0x13, 9), DIALLER | LISTENER},
    {"data blocked", FRAME(0x14, 9), DIALLER | LISTENER},
    {"stream data blocked", FRAME(0x15, 0, 9), DIALLER | LISTENER},
    {"streams blocked", FRAME(0x16, 9), DIALLER | LISTENER},
    {"new id", new_id, sizeof new_id, DIALLER | LISTENER},
    {"new id, older retired", FRAME(0x18, 1, 1, 1, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 0},
    {"new id of no length", FRAME(0x18, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 0},
    {"retire id", FRAME(0x19, 0), DIALLER | LISTENER},
    {"path challenge", FRAME(0x1a, 0, 1, 2, 3, 4, 5, 6, 7), DIALLER | LISTENER},
    {"path response", FRAME(0x1b, 0, 1, 2, 3, 4, 5, 6, 7), DIALLER | LISTENER},
    {"close", FRAME(0x1c, 0, 0, 2, 'n', 'o'), ALL},
    {"close of the application", FRAME(0x1d, 0, 2, 'n', 'o'), DIALLER | LISTENER},
    {"handshake done", FRAME(0x1e), LISTENER},
    {"unknown type", FRAME(0x1f), 0},
    {"datagram", FRAME(0x31, 1, 7), 0},
    {"type of two bytes", FRAME(0x41, 0), 0},
    {"nothing", FRAME(), 0},
};

static void each_frame_only_where_it_belongs(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int got = (ch_quic_guard(cases[i].frame, cases[i].length, false, true) ? LONG : 0) |
                  (ch_quic_guard(cases[i].frame, cases[i].length, true, true) ? DIALLER : 0) |
                  (ch_quic_guard(cases[i].frame, cases[i].length, true, false) ? LISTENER : 0);
        if (got != cases[i].allowed)
            fail_msg("%s: %d, not %d", cases[i].what, got, cases[i].allowed);
    }
}

static void cut_frame_refused(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool to_the_end = cases[i].length > 0 && (cases[i].frame[0] & ~5) == 0x08;
        for (size_t cut = 1; cut < cases[i].length && !to_the_end && cases[i].frame[0] != 0; cut++) {
            uint8_t *piece = malloc(cut);
            memcpy(piece, cases[i].frame, cut);
            if (ch_quic_guard(piece, cut, true, false))
                fail_msg("%s, %zu bytes of it", cases[i].what, cut);
            free(piece);
        }
    }
}

static void any_bytes_read_within_their_end(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    size_t good = 0;
    for (int round = 0; round < 200000; round++) {
        uint8_t bytes[256];
        struct ch_writer w = ch_writer(bytes, sizeof bytes);
        for (uint64_t n = 1 + ch_prng_below(&g, 3); n > 0; n--)
            plain_frame(&w, &g);
        size_t length = ch_prng_below(&g, 2) ? w.used : ch_prng_below(&g, w.used + 1);
        if (length > 0 && ch_prng_below(&g, 2))
            bytes[ch_prng_below(&g, length)] = (uint8_t)ch_prng_next(&g);
        uint8_t *piece = malloc(length ? length : 1);
        memcpy(piece, bytes, length);
        good += ch_quic_guard(piece, length, ch_prng_below(&g, 2), ch_prng_below(&g, 2));
        free(piece);
    }
    assert_in_range(good, 1000, 150000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_frame_only_where_it_belongs),
        cmocka_unit_test(cut_frame_refused),
        cmocka_unit_test(any_bytes_read_within_their_end),
    };
    return cmocka_run_group_tests_name("dataplane/quic_guard", tests, NULL, NULL);
}
