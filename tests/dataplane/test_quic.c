/* The QUIC engine over a network in memory, in virtual time: no sockets, no clock. */
#include "quic_net.h"
#include "tests/test.h"

static struct net net;

static const struct ch_quic_options server_defaults = {.listen = true, .initial_rtt_ns = MS};
static const struct ch_quic_options client_defaults = {.initial_rtt_ns = MS};

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

static bool first_two_connected(struct net *n)
{
    return n->ends[0].connected > 0 && n->ends[1].connected > 0;
}

static bool client_closed(struct net *n)
{
    return n->ends[1].closed_count > 0;
}

/* Server ends[0], client ends[1], connected. */
static void pair(const struct ch_quic_options *server, const struct ch_quic_options *client)
{
    struct end *s = net_add(&net, server ? server : &server_defaults);
    struct end *c = net_add(&net, client ? client : &client_defaults);
    end_dial(c, s, ch_quic_own_key(s->engine));
    assert_true(net_run(&net, net.now_ns + 2 * SECOND, first_two_connected));
}

static void send_text(struct end *e, uint64_t conn, uint16_t type, uint64_t request, const char *text)
{
    struct ch_bytes parts[2] = {{(const uint8_t *)text, strlen(text)}, {NULL, 0}};
    assert_ok(ch_quic_send(e->engine, conn, &(struct ch_frame_header){.type = type, .request = request}, parts, 2));
}

static void handshake_both_keys_known(void **state)
{
    pair(NULL, NULL);
    struct end *s = &net.ends[0], *c = &net.ends[1];
    assert_memory_equal(s->peer.key, ch_quic_own_key(c->engine), 32);
    assert_memory_equal(c->peer.key, ch_quic_own_key(s->engine), 32);
    assert_true(c->peer.dialled);
    assert_false(s->peer.dialled);
    assert_true(ch_address_equal(&s->peer.route.remote, &c->address));
    assert_ptr_equal(ch_quic_user(c->engine, c->conn), c);
    assert_int_equal(ch_quic_usage(s->engine).connections, 1);
    assert_int_equal(ch_quic_usage(s->engine).handshakes, 0);
}

static bool frames_came_back(struct net *n)
{
    return n->ends[1].frames == 2;
}

static void frame_is_answered_on_its_stream(void **state)
{
    pair(NULL, NULL);
    net.ends[0].echo = true;
    send_text(&net.ends[1], net.ends[1].conn, CH_FRAME_HELLO, 7, "hello");
    send_text(&net.ends[1], net.ends[1].conn, CH_FRAME_HELLO, 8, "");
    assert_true(net_run(&net, net.now_ns + SECOND, frames_came_back));
    assert_int_equal(net.ends[1].frame_bytes, 5);
}

static bool one_each(struct net *n)
{
    return n->ends[0].frames == 1 && n->ends[1].frames == 1;
}

static void frame_sent_before_the_handshake_arrives(void **state)
{
    struct end *s = net_add(&net, &server_defaults), *c = net_add(&net, &client_defaults);
    s->echo = true;
    end_dial(c, s, NULL);
    send_text(c, c->conn, CH_FRAME_HELLO, 1, "early");
    assert_true(net_run(&net, net.now_ns + SECOND, one_each));
}

static void wrong_pinned_key_refused(void **state)
{
    struct end *s = net_add(&net, &server_defaults), *c = net_add(&net, &client_defaults);
    end_dial(c, s, ch_quic_own_key(c->engine));
    assert_true(net_run(&net, net.now_ns + SECOND, client_closed));
    assert_int_equal(c->closed.end, CH_QUIC_END_WRONG_KEY);
    assert_false(c->closed.was_connected);
    assert_true(net_run(&net, net.now_ns + 10 * SECOND, NULL));
    assert_int_equal(s->connected, 0);
    assert_int_equal(s->closed_count, 0);
    assert_int_equal(ch_quic_usage(s->engine).connections + ch_quic_usage(s->engine).closing, 0);
    assert_int_equal(ch_quic_usage(s->engine).handshakes, 0);
    assert_int_equal(ch_quic_usage(c->engine).connections + ch_quic_usage(c->engine).closing, 0);
}

static void closed_by_the_server_client_learns_why(void **state)
{
    pair(NULL, NULL);
    ch_quic_hang_up(net.ends[0].engine, net.ends[0].conn, CH_QUIC_CODE_WRONG_CHAIN, "we are another");
    assert_true(net_run(&net, net.now_ns + SECOND, client_closed));
    assert_int_equal(net.ends[1].closed.end, CH_QUIC_END_PEER);
    assert_int_equal(net.ends[1].closed.code, CH_QUIC_CODE_WRONG_CHAIN);
    assert_string_equal(net.ends[1].closed.reason, "we are another");
    assert_int_equal(net.ends[0].closed.end, CH_QUIC_END_LOCAL);
    assert_true(net.ends[0].closed.was_connected);
    assert_int_equal(ch_quic_send(net.ends[0].engine, net.ends[0].conn, &(struct ch_frame_header){0}, NULL, 0),
                     CH_ERR_CLOSED);
    net_run(&net, net.now_ns + 5 * SECOND, NULL);
    assert_int_equal(ch_quic_usage(net.ends[0].engine).closing, 0);
    assert_int_equal(net.ends[0].closed_count, 1);
    assert_int_equal(net.ends[1].closed_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, start, finish)
        CASE(handshake_both_keys_known),
        CASE(frame_is_answered_on_its_stream),
        CASE(frame_sent_before_the_handshake_arrives),
        CASE(wrong_pinned_key_refused),
        CASE(closed_by_the_server_client_learns_why),
    };
    return cmocka_run_group_tests_name("dataplane/quic", tests, NULL, NULL);
}
