/* Many frames both ways over a bad network, checked byte by byte. */
#include "quic_net.h"
#include "tests/test.h"

#define FRAME_BODY_BYTES_MAX 200000

static struct net net;

/* One direction: what is sent and what must come are drawn from the same seed. */
struct flow {
    struct ch_prng out, in;
    uint64_t bytes_out, bytes_in, bytes_total, request_out, request_in;
    bool bad;
};
static struct flow flows[2]; /* of ends[0] (server), ends[1] (client), by sender */
static uint8_t noise[FRAME_BODY_BYTES_MAX + 256];

/* Mostly small, some of many packets, now and then empty. */
static size_t draw(struct ch_prng *g, size_t *from)
{
    uint64_t kind = ch_prng_below(g, 100);
    size_t length = kind < 90   ? ch_prng_below(g, 1500)
                    : kind < 99 ? ch_prng_below(g, 20000)
                                : ch_prng_below(g, FRAME_BODY_BYTES_MAX);
    *from = ch_prng_below(g, 256);
    return length;
}

static void fill(struct end *e)
{
    struct flow *f = &flows[e - net.ends];
    while (f->bytes_out < f->bytes_total) {
        struct ch_prng before = f->out;
        size_t from, length = draw(&f->out, &from), half = length / 2;
        struct ch_bytes parts[2] = {{noise + from, half}, {noise + from + half, length - half}};
        ch_err err =
            ch_quic_send(e->engine, e->conn, &(struct ch_frame_header){.type = 2, .request = f->request_out}, parts, 2);
        if (err == CH_ERR_FULL) {
            f->out = before;
            return;
        }
        assert_ok(err);
        f->bytes_out += length;
        f->request_out++;
    }
}

static bool check(struct end *e, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body)
{
    struct flow *f = &flows[e == net.ends];
    size_t from, length = draw(&f->in, &from);
    f->bad |= header->length != length || header->request != f->request_in || memcmp(body, noise + from, length) != 0;
    f->request_in++;
    f->bytes_in += length;
    return true;
}

static bool all_there(struct net *n)
{
    for (int i = 0; i < 2; i++)
        if (n->ends[i].connected)
            fill(&n->ends[i]);
    return (flows[0].bytes_in >= flows[0].bytes_total && flows[1].bytes_in >= flows[1].bytes_total) ||
           n->ends[0].closed_count + n->ends[1].closed_count > 0;
}

static void transfer(const struct ch_quic_options *options, uint64_t bytes_out, uint64_t bytes_back, uint64_t until_ns)
{
    struct ch_quic_options server = *options;
    server.listen = true;
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    test_random_bytes(&g, noise, sizeof noise);
    memset(flows, 0, sizeof flows);
    flows[0].bytes_total = bytes_back;
    flows[1].bytes_total = bytes_out;
    for (int i = 0; i < 2; i++) {
        ch_prng_seed(&flows[i].out, test_seed() + 10 + (uint64_t)i);
        flows[i].in = flows[i].out;
    }
    struct end *s = net_add(&net, &server), *c = net_add(&net, options);
    s->on_frame = c->on_frame = check;
    end_dial(c, s, NULL);
    assert_true(net_run(&net, net.now_ns + until_ns, all_there));
    assert_int_equal(s->closed_count + c->closed_count, 0);
    for (int i = 0; i < 2; i++) {
        assert_false(flows[i].bad);
        assert_int_equal(flows[i].request_in, flows[i].request_out);
        assert_int_equal(flows[i].bytes_in, flows[i].bytes_out);
    }
    net_run(&net, net.now_ns + SECOND, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ch_quic_usage(net.ends[i].engine).send_bytes, 0);
        assert_true(ch_quic_usage(net.ends[i].engine).receive_bytes <= 8192);
    }
}

static int start(void **state)
{
    net_init(&net, test_seed());
    return 0;
}

static int finish(void **state)
{
    net_close(&net);
    return 0;
}

static void clean_network_all_arrives(void **state)
{
    transfer(&(struct ch_quic_options){.initial_rtt_ns = MS}, 20 << 20, 20 << 20, 600 * SECOND);
    assert_int_equal(net.lost, 0);
}

static void loss_reordering_duplication_all_arrives(void **state)
{
    uint64_t bytes = test_full() ? 500 << 20 : 50 << 20;
    net.loss_permille = 10;
    net.duplicate_permille = 10;
    net.jitter_ns = MS / 10;
    transfer(&(struct ch_quic_options){.initial_rtt_ns = MS}, bytes, bytes, 36000 * SECOND);
    assert_true(net.lost > 0 && net.duplicated > 0);
}

static void heavy_loss_on_a_long_path_all_arrives(void **state)
{
    net.loss_permille = 100;
    net.delay_ns = 40 * MS;
    transfer(&(struct ch_quic_options){0}, 2 << 20, 1 << 20, 36000 * SECOND);
}

static void small_windows_all_arrives(void **state)
{
    net.loss_permille = 5;
    transfer(&(struct ch_quic_options){.stream_window_bytes = 16 << 10,
                                       .connection_window_bytes = 20 << 10,
                                       .send_bytes_max = CH_QUIC_FRAME_BYTES_MAX,
                                       .datagram_bytes_max = CH_QUIC_DATAGRAM_BYTES_MIN,
                                       .initial_rtt_ns = MS},
             4 << 20, 4 << 20, 3600 * SECOND);
}

/* QUIC lets keys change every third probe timeout at most, so this one must last. */
static void keys_change_on_the_way(void **state)
{
    net.loss_permille = 1;
    net.delay_ns = 5 * MS;
    transfer(&(struct ch_quic_options){.initial_rtt_ns = MS,
                                       .key_update_bytes = 256 << 10,
                                       .stream_window_bytes = 128 << 10,
                                       .path_carries_max = true},
             8 << 20, 8 << 20, 3600 * SECOND);
    uint64_t updates =
        ch_quic_counters(net.ends[0].engine).key_updates + ch_quic_counters(net.ends[1].engine).key_updates;
    assert_in_range(updates, 4, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, start, finish)
        CASE(clean_network_all_arrives),
        CASE(loss_reordering_duplication_all_arrives),
        CASE(heavy_loss_on_a_long_path_all_arrives),
        CASE(small_windows_all_arrives),
        CASE(keys_change_on_the_way),
    };
    return cmocka_run_group_tests_name("dataplane/quic_transfer", tests, NULL, NULL);
}
