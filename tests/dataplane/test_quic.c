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

static void silent_peer_times_out_on_both_sides(void **state)
{
    struct ch_quic_options server = server_defaults, client = client_defaults;
    server.idle_timeout_ns = client.idle_timeout_ns = 2 * SECOND;
    pair(&server, &client);
    net.ends[0].cut = true;
    send_text(&net.ends[1], net.ends[1].conn, CH_FRAME_HELLO, 1, "anybody?");
    net_run(&net, net.now_ns + 10 * SECOND, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(net.ends[i].closed_count, 1);
        assert_int_equal(net.ends[i].closed.end, CH_QUIC_END_TIMEOUT);
        assert_true(net.ends[i].closed.was_connected);
        assert_int_equal(ch_quic_usage(net.ends[i].engine).connections, 0);
        assert_int_equal(ch_quic_usage(net.ends[i].engine).send_bytes, 0);
    }
    assert_int_equal(ch_quic_expiry_ns(net.ends[0].engine), UINT64_MAX);
}

static void keep_alive_keeps_a_silent_connection(void **state)
{
    struct ch_quic_options server = server_defaults, client = client_defaults;
    server.idle_timeout_ns = client.idle_timeout_ns = 2 * SECOND;
    client.keep_alive_ns = SECOND / 2;
    pair(&server, &client);
    net_run(&net, net.now_ns + 30 * SECOND, NULL);
    assert_int_equal(net.ends[0].closed_count + net.ends[1].closed_count, 0);
}

static void nobody_there_dialling_times_out(void **state)
{
    struct end *s = net_add(&net, &server_defaults), *c = net_add(&net, &client_defaults);
    s->cut = true;
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + 60 * SECOND, client_closed);
    assert_int_equal(c->closed.end, CH_QUIC_END_TIMEOUT);
    assert_false(c->closed.was_connected);
}

static void restarted_server_resets_old_connections(void **state)
{
    pair(NULL, NULL);
    struct end *s = &net.ends[0], *c = &net.ends[1];
    ch_quic_close(s->engine);
    struct ch_quic_options o = server_defaults;
    o.seed = s->seed;
    o.context = s;
    o.callbacks = (struct ch_quic_callbacks){end_connected, end_frame, end_closed, end_writable, NULL};
    assert_ok(ch_quic_open(&o, &s->engine));
    send_text(c, c->conn, CH_FRAME_HELLO, 1, "still there?");
    uint64_t before_ns = net.now_ns;
    assert_true(net_run(&net, net.now_ns + SECOND, client_closed));
    assert_int_equal(c->closed.end, CH_QUIC_END_RESET);
    assert_true(net.now_ns - before_ns < SECOND);
    assert_true(ch_quic_counters(s->engine).tx_stateless_reset > 0);
}

static bool all_clients_connected(struct net *n)
{
    for (size_t i = 1; i < n->end_count; i++)
        if (n->ends[i].connected == 0)
            return false;
    return n->ends[0].connected == n->end_count - 1;
}

static void many_handshakes_beyond_the_limit_go_through_retry(void **state)
{
    struct ch_quic_options server = server_defaults;
    server.handshakes_max = 3;
    struct end *s = net_add(&net, &server);
    for (int i = 0; i < 16; i++)
        end_dial(net_add(&net, &client_defaults), s, ch_quic_own_key(s->engine));
    assert_true(net_run(&net, net.now_ns + 5 * SECOND, all_clients_connected));
    struct ch_quic_counters n = ch_quic_counters(s->engine);
    assert_int_equal(n.tx_retry, 13);
    assert_int_equal(n.accepted, 16);
    assert_int_equal(n.rx_drop_token, 0);
}

static void retry_always_every_address_is_validated(void **state)
{
    struct ch_quic_options server = server_defaults;
    server.retry_always = true;
    pair(&server, NULL);
    assert_int_equal(ch_quic_counters(net.ends[0].engine).tx_retry, 1);
}

static struct ch_address elsewhere(uint32_t i)
{
    return ch_address_from4((uint8_t[]){192, 0, (uint8_t)(i >> 8), (uint8_t)i}, 999);
}

/* Replays a client's datagram from another address: what a thief of a Retry token would do. */
static bool tap_steal_token(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    if (from == &n->ends[1] && *length >= CH_QUIC_DATAGRAM_BYTES_MIN) {
        struct ch_address thief = elsewhere(7);
        net_post(n, &thief, &n->ends[0].address, bytes, *length, n->now_ns);
    }
    return true;
}

static void retry_token_of_another_address_refused(void **state)
{
    struct ch_quic_options server = server_defaults;
    server.retry_always = true;
    net.tap = tap_steal_token;
    pair(&server, NULL);
    struct ch_quic_counters n = ch_quic_counters(net.ends[0].engine);
    assert_int_equal(n.rx_drop_token, 1);
    assert_int_equal(n.accepted, 1);
}

static void spoofed_first_datagrams_bounded_and_forgotten(void **state)
{
    struct ch_quic_options server = server_defaults, client = client_defaults;
    server.handshakes_max = 8;
    server.connections_max = 32;
    client.connections_max = 300;
    struct end *s = net_add(&net, &server), *c = net_add(&net, &client);
    uint8_t bytes[CH_QUIC_DATAGRAM_BYTES_MAX];
    struct ch_quic_route route;
    for (uint32_t i = 0; i < 300; i++) {
        end_dial(c, s, NULL);
        size_t length = ch_quic_next_datagram(c->engine, bytes, sizeof bytes, &route, net.now_ns);
        struct ch_quic_route from = {.remote = elsewhere(i)};
        ch_quic_receive(s->engine, &from, bytes, length, net.now_ns);
    }
    assert_int_equal(ch_quic_usage(s->engine).handshakes, 8);
    struct ch_quic_counters n = ch_quic_counters(s->engine);
    assert_int_equal(n.accepted, 8);
    assert_int_equal(n.tx_retry + n.tx_drop_stateless, 292);
    c->cut = true;
    net_run(&net, net.now_ns + 20 * SECOND, NULL);
    assert_int_equal(ch_quic_usage(s->engine).connections + ch_quic_usage(s->engine).handshakes, 0);
    assert_int_equal(s->closed_count, 0);
}

static void spoofed_address_does_not_lock_its_owner_out(void **state)
{
    struct ch_quic_options server = server_defaults, client = client_defaults;
    server.connections_per_address = 4;
    client.connections_max = 64;
    struct end *s = net_add(&net, &server), *c = net_add(&net, NULL), *spoofer = net_add(&net, &client);
    uint8_t bytes[CH_QUIC_DATAGRAM_BYTES_MAX];
    struct ch_quic_route route;
    for (int i = 0; i < 40; i++) {
        end_dial(spoofer, s, NULL);
        size_t length = ch_quic_next_datagram(spoofer->engine, bytes, sizeof bytes, &route, net.now_ns);
        ch_quic_receive(s->engine, &(struct ch_quic_route){.remote = c->address}, bytes, length, net.now_ns);
    }
    spoofer->cut = true;
    end_dial(c, s, NULL);
    assert_true(net_run(&net, net.now_ns + 2 * SECOND, first_two_connected));
}

static void connections_of_one_address_are_limited(void **state)
{
    struct ch_quic_options server = server_defaults;
    server.connections_per_address = 3;
    struct end *s = net_add(&net, &server), *c = net_add(&net, &client_defaults);
    for (int i = 0; i < 5; i++)
        end_dial(c, s, NULL);
    net_run(&net, net.now_ns + 2 * SECOND, NULL);
    assert_int_equal(s->connected, 3);
    assert_int_equal(c->connected, 3);
    assert_int_equal(c->closed_count, 2);
    assert_int_equal(c->closed.end, CH_QUIC_END_PEER_TRANSPORT);
    assert_int_equal(c->closed.code, 2); /* CONNECTION_REFUSED */
    assert_int_equal(ch_quic_counters(s->engine).rx_drop_limits, 2);
}

static void one_more_of_a_key_replaces_the_oldest(void **state)
{
    struct ch_quic_options server = server_defaults;
    server.connections_per_key = 2;
    struct end *s = net_add(&net, &server), *c = net_add(&net, &client_defaults);
    for (unsigned int i = 1; i <= 4; i++) {
        end_dial(c, s, NULL);
        net_run(&net, net.now_ns + SECOND, NULL);
        assert_int_equal(s->connected, i);
        assert_int_equal(c->closed_count, i > 2 ? i - 2 : 0);
    }
    assert_int_equal(c->closed.end, CH_QUIC_END_PEER);
    assert_int_equal(c->closed.code, CH_QUIC_CODE_REPLACED);
    assert_int_equal(ch_quic_usage(s->engine).connections, 2);
}

static void full_server_refuses_and_takes_the_next_when_there_is_room(void **state)
{
    struct ch_quic_options server = server_defaults;
    server.connections_max = 2;
    struct end *s = net_add(&net, &server), *c = net_add(&net, &client_defaults);
    uint64_t first = end_dial(c, s, NULL);
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + SECOND, NULL);
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + SECOND, NULL);
    assert_int_equal(c->connected, 2);
    assert_int_equal(c->closed_count, 1);
    assert_false(c->closed.was_connected);
    ch_quic_hang_up(c->engine, first, CH_QUIC_CODE_DONE, NULL);
    net_run(&net, net.now_ns + 2 * SECOND, NULL);
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + SECOND, NULL);
    assert_int_equal(c->connected, 3);
    uint64_t conn;
    assert_int_equal(
        ch_quic_connect(s->engine, &(struct ch_quic_route){.remote = c->address}, NULL, NULL, net.now_ns, &conn),
        CH_ERR_FULL);
}

static void address_not_allowed_never_reaches_quic(void **state)
{
    struct end *s = net_add(&net, &server_defaults), *c = net_add(&net, &client_defaults);
    s->not_allowed = c->address;
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + 10 * SECOND, NULL);
    assert_int_equal(c->closed.end, CH_QUIC_END_TIMEOUT);
    struct ch_quic_counters n = ch_quic_counters(s->engine);
    assert_true(n.rx_datagrams > 0);
    assert_int_equal(n.rx_drop_not_allowed, n.rx_datagrams);
    assert_int_equal(n.accepted + n.tx_datagrams, 0);
}

static bool tap_other_version(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    if (from == &n->ends[1] && !n->tap_user) {
        memcpy(bytes + 1, (uint8_t[]){0x1a, 0x2a, 0x3a, 0x4a}, 4);
        n->tap_user = n;
    }
    return true;
}

static void unknown_version_is_told_ours(void **state)
{
    net.tap = tap_other_version;
    pair(NULL, NULL);
    assert_int_equal(ch_quic_counters(net.ends[0].engine).tx_version_negotiation, 1);
}

/* Answers the client's first datagram with version negotiation that has another version than ours. */
static bool tap_only_other_versions(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    if (from != &n->ends[1] || n->tap_user)
        return false;
    n->tap_user = n;
    const uint8_t *dcid = bytes + 6, *scid = dcid + bytes[5] + 1;
    uint8_t vn[64] = {0xc0}, *at = vn + 5;
    *at++ = scid[-1];
    memcpy(at, scid, scid[-1]);
    at += scid[-1];
    *at++ = dcid[-1];
    memcpy(at, dcid, dcid[-1]);
    at += dcid[-1];
    memcpy(at, (uint8_t[]){0xff, 0, 0, 0x1d}, 4);
    net_post(n, &n->ends[0].address, &from->address, vn, (size_t)(at + 4 - vn), n->now_ns);
    return false;
}

static void server_without_our_version_ends_the_dialling(void **state)
{
    struct end *s = net_add(&net, &server_defaults), *c = net_add(&net, &client_defaults);
    net.tap = tap_only_other_versions;
    end_dial(c, s, NULL);
    assert_true(net_run(&net, net.now_ns + SECOND, client_closed));
    assert_int_equal(c->closed.end, CH_QUIC_END_VERSION);
}

static bool tap_copy_from_elsewhere(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    if (from == &n->ends[1]) {
        struct ch_address other = elsewhere(1);
        net_post(n, &other, &n->ends[0].address, bytes, *length, n->now_ns);
        net_post(n, &from->address, &n->ends[0].address, bytes, *length, n->now_ns + MS);
        return false;
    }
    return true;
}

static void datagrams_of_a_connection_from_elsewhere_dropped(void **state)
{
    pair(NULL, NULL);
    net.ends[0].echo = true;
    net.tap = tap_copy_from_elsewhere;
    uint64_t before = ch_quic_counters(net.ends[0].engine).rx_drop_other_path;
    send_text(&net.ends[1], net.ends[1].conn, CH_FRAME_HELLO, 1, "here");
    assert_true(net_run(&net, net.now_ns + SECOND, one_each));
    assert_true(ch_quic_counters(net.ends[0].engine).rx_drop_other_path > before);
    assert_true(ch_address_equal(&net.ends[0].peer.route.remote, &net.ends[1].address));
}

/* A hundred frames of 20 kB against a receiver that takes none: what waits is bounded on both sides, and nothing is
 * lost. */
static uint64_t next_request;
static bool frames_in_order(struct end *end, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body)
{
    assert_int_equal(header->request, next_request);
    next_request++;
    return true;
}

static void refused_frames_stop_the_sender_and_come_later(void **state)
{
    struct ch_quic_options server = server_defaults, client = client_defaults;
    server.stream_window_bytes = 128 << 10;
    server.connection_window_bytes = 256 << 10;
    client.send_bytes_max = CH_QUIC_FRAME_BYTES_MAX;
    pair(&server, &client);
    struct end *s = &net.ends[0], *c = &net.ends[1];
    static uint8_t body[20000];
    uint64_t queued = 0;
    next_request = 0;
    s->refuse_frames = true;
    s->on_frame = frames_in_order;
    for (int round = 0; round < 20; round++) {
        while (ch_quic_send(c->engine, c->conn, &(struct ch_frame_header){.type = 1, .request = queued},
                            &(struct ch_bytes){body, sizeof body}, 1) == CH_OK)
            queued++;
        net_run(&net, net.now_ns + SECOND, NULL);
    }
    assert_int_equal(s->refused, 1);
    assert_in_range(queued, CH_QUIC_FRAME_BYTES_MAX / 20016, (CH_QUIC_FRAME_BYTES_MAX + (128 << 10)) / 20016);
    assert_in_range(ch_quic_usage(s->engine).receive_bytes, 100 << 10, 256 << 10);
    assert_in_range(ch_quic_usage(c->engine).send_bytes, 1 << 20, CH_QUIC_FRAME_BYTES_MAX + (32 << 10));
    assert_int_equal(c->writable, 0);
    s->refuse_frames = false;
    ch_quic_resume(s->engine, s->conn);
    net_run(&net, net.now_ns + 5 * SECOND, NULL);
    assert_int_equal(s->frames, queued);
    assert_int_equal(c->writable, 1);
    assert_int_equal(ch_quic_usage(s->engine).receive_bytes, 0);
    assert_int_equal(ch_quic_usage(c->engine).send_bytes, 0);
    assert_int_equal(s->closed_count + c->closed_count, 0);
}

static void pause_holds_frames_back_until_resume(void **state)
{
    pair(NULL, NULL);
    struct end *s = &net.ends[0], *c = &net.ends[1];
    ch_quic_pause(s->engine, s->conn);
    send_text(c, c->conn, CH_FRAME_HELLO, 1, "wait");
    net_run(&net, net.now_ns + SECOND, NULL);
    assert_int_equal(s->frames, 0);
    ch_quic_resume(s->engine, s->conn);
    net_run(&net, net.now_ns + SECOND, NULL);
    assert_int_equal(s->frames, 1);
    assert_int_equal(s->refused, 0);
}

static void more_kept_than_all_may_keep_is_cut_off(void **state)
{
    struct ch_quic_options server = server_defaults, client = client_defaults;
    server.stream_window_bytes = server.connection_window_bytes = 2 << 20;
    server.receive_bytes_total = 2 * CH_QUIC_FRAME_BYTES_MAX;
    struct end *s = net_add(&net, &server), *c = net_add(&net, &client);
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX];
    s->refuse_frames = true;
    for (int i = 0; i < 4; i++) {
        uint64_t conn = end_dial(c, s, NULL);
        assert_ok(ch_quic_send(c->engine, conn, &(struct ch_frame_header){.type = 1},
                               &(struct ch_bytes){body, sizeof body}, 1));
        net_run(&net, net.now_ns + 2 * SECOND, NULL);
        assert_true(ch_quic_usage(s->engine).receive_bytes <= server.receive_bytes_total);
    }
    assert_true(c->closed_count >= 2);
    assert_int_equal(c->closed.end, CH_QUIC_END_PEER);
    assert_int_equal(c->closed.code, CH_QUIC_CODE_OVERLOADED);
}

static void send_buffer_of_all_is_bounded_and_the_refused_are_told(void **state)
{
    struct ch_quic_options client = client_defaults;
    client.send_bytes_total = 2 << 20;
    struct end *s = net_add(&net, &server_defaults), *c = net_add(&net, &client);
    static uint8_t body[900000];
    uint64_t conns[3];
    for (int i = 0; i < 3; i++)
        conns[i] = end_dial(c, s, NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ch_quic_send(c->engine, conns[i], &(struct ch_frame_header){.type = 1},
                                      &(struct ch_bytes){body, sizeof body}, 1),
                         i < 2 ? CH_OK : CH_ERR_FULL);
    net_run(&net, net.now_ns + 5 * SECOND, NULL);
    assert_int_equal(s->frames, 2);
    assert_int_equal(c->writable, 1);
}

static void numbers_of_dead_connections_do_no_harm(void **state)
{
    pair(NULL, NULL);
    struct end *s = &net.ends[0], *c = &net.ends[1];
    uint64_t old = s->conn;
    ch_quic_hang_up(c->engine, c->conn, CH_QUIC_CODE_DONE, NULL);
    net_run(&net, net.now_ns + 5 * SECOND, NULL);
    struct ch_quic_peer peer;
    struct ch_quic_conn_stats stats;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ch_quic_send(s->engine, old, &(struct ch_frame_header){0}, NULL, 0), CH_ERR_CLOSED);
        assert_int_equal(ch_quic_peer(s->engine, old, &peer), CH_ERR_CLOSED);
        assert_int_equal(ch_quic_conn_stats(s->engine, old, &stats), CH_ERR_CLOSED);
        assert_null(ch_quic_user(s->engine, old));
        ch_quic_pause(s->engine, old);
        ch_quic_resume(s->engine, old);
        ch_quic_hang_up(s->engine, old, CH_QUIC_CODE_DONE, NULL);
        ch_quic_hang_up(s->engine, UINT64_MAX, CH_QUIC_CODE_DONE, NULL);
        /* The second time round another connection has the same place. */
        end_dial(c, s, NULL);
        net_run(&net, net.now_ns + SECOND, NULL);
        assert_int_not_equal(s->conn, old);
    }
    assert_int_equal(s->connected, 3);
    assert_int_equal(s->closed_count, 1);
    assert_ok(ch_quic_peer(s->engine, s->conn, &peer));
    assert_ok(ch_quic_conn_stats(s->engine, s->conn, &stats));
    assert_true(stats.rx_bytes > 1200);
}

static bool hang_up_at_once(struct end *end, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body)
{
    ch_quic_hang_up(end->engine, conn, CH_QUIC_CODE_BAD_FRAME, NULL);
    return true;
}

static void hang_up_from_a_callback_drops_what_follows(void **state)
{
    pair(NULL, NULL);
    struct end *s = &net.ends[0], *c = &net.ends[1];
    s->on_frame = hang_up_at_once;
    for (int i = 0; i < 5; i++)
        send_text(c, c->conn, 99, 0, "x");
    assert_true(net_run(&net, net.now_ns + SECOND, client_closed));
    assert_int_equal(s->frames, 1);
    assert_int_equal(c->closed.code, CH_QUIC_CODE_BAD_FRAME);
    assert_string_equal(c->closed.reason, ch_quic_code_text(CH_QUIC_CODE_BAD_FRAME));
}

static void refuse_the_key(struct end *end, uint64_t conn)
{
    ch_quic_hang_up(end->engine, conn, CH_QUIC_CODE_NOT_ALLOWED, NULL);
}

static void key_not_let_in_is_told_so(void **state)
{
    struct end *s = net_add(&net, &server_defaults), *c = net_add(&net, &client_defaults);
    s->on_connected = refuse_the_key;
    end_dial(c, s, NULL);
    send_text(c, c->conn, CH_FRAME_HELLO, 1, "hello");
    assert_true(net_run(&net, net.now_ns + SECOND, client_closed));
    assert_int_equal(c->closed.code, CH_QUIC_CODE_NOT_ALLOWED);
    assert_int_equal(s->frames, 0);
}

static bool tap_mangle(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    switch (ch_prng_below(&n->prng, 8)) {
    case 0:
        *length = ch_prng_below(&n->prng, *length);
        break;
    case 1:
        for (uint64_t flips = 1 + ch_prng_below(&n->prng, 4); flips > 0; flips--)
            bytes[ch_prng_below(&n->prng, ch_prng_below(&n->prng, 2) ? 40 : *length)] ^=
                (uint8_t)(1u << ch_prng_below(&n->prng, 8));
        break;
    case 2: {
        uint8_t noise[CH_QUIC_DATAGRAM_BYTES_MAX];
        size_t size = 1 + ch_prng_below(&n->prng, sizeof noise);
        for (size_t i = 0; i < size; i++)
            noise[i] = (uint8_t)ch_prng_next(&n->prng);
        if (ch_prng_below(&n->prng, 2))
            memcpy(noise, bytes, *length < 30 ? *length : 30);
        net_post(n, &from->address, &n->ends[from == n->ends].address, noise, size, n->now_ns);
        break;
    }
    default:
        break;
    }
    return *length > 0;
}

static void mangled_datagrams_never_harm_the_next_client(void **state)
{
    struct end *s = net_add(&net, &server_defaults), *c = net_add(&net, &client_defaults);
    s->echo = true;
    net.tap = tap_mangle;
    for (int round = 0; round < (test_full() ? 400 : 40); round++) {
        uint64_t conn = end_dial(c, s, NULL);
        for (int i = 0; i < 20; i++)
            send_text(c, conn, 5, 0, "some bytes to answer");
        net_run(&net, net.now_ns + SECOND, NULL);
        ch_quic_hang_up(c->engine, conn, CH_QUIC_CODE_DONE, NULL);
        net_run(&net, net.now_ns + 2 * SECOND, NULL);
    }
    assert_true(c->frames > 0);
    net.tap = NULL;
    net_run(&net, net.now_ns + 60 * SECOND, NULL);
    assert_int_equal(ch_quic_usage(s->engine).connections + ch_quic_usage(s->engine).closing, 0);
    assert_int_equal(ch_quic_usage(s->engine).send_bytes + ch_quic_usage(s->engine).receive_bytes, 0);
    unsigned int before = s->connected;
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + SECOND, NULL);
    assert_int_equal(s->connected, before + 1);
}

static void options_out_of_range_refused(void **state)
{
    uint8_t seed[32] = {1};
    struct ch_quic *engine;
    struct ch_quic_options good = {.seed = seed,
                                   .callbacks = {.connected = end_connected, .frame = end_frame, .closed = end_closed}};
    struct ch_quic_options bad[6];
    for (int i = 0; i < 6; i++)
        bad[i] = good;
    bad[0].seed = NULL;
    bad[1].callbacks.frame = NULL;
    bad[2].datagram_bytes_max = 1199;
    bad[3].send_bytes_max = 1 << 20;
    bad[4].connections_max = CH_QUIC_CONNECTIONS_MAX + 1;
    bad[5].receive_bytes_total = 1000;
    for (int i = 0; i < 6; i++)
        assert_int_equal(ch_quic_open(&bad[i], &engine), CH_ERR_INVALID);
    assert_ok(ch_quic_open(&good, &engine));
    ch_quic_close(engine);
    ch_quic_close(NULL);
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
        CASE(silent_peer_times_out_on_both_sides),
        CASE(keep_alive_keeps_a_silent_connection),
        CASE(nobody_there_dialling_times_out),
        CASE(restarted_server_resets_old_connections),
        CASE(many_handshakes_beyond_the_limit_go_through_retry),
        CASE(retry_always_every_address_is_validated),
        CASE(retry_token_of_another_address_refused),
        CASE(spoofed_first_datagrams_bounded_and_forgotten),
        CASE(spoofed_address_does_not_lock_its_owner_out),
        CASE(connections_of_one_address_are_limited),
        CASE(one_more_of_a_key_replaces_the_oldest),
        CASE(full_server_refuses_and_takes_the_next_when_there_is_room),
        CASE(address_not_allowed_never_reaches_quic),
        CASE(unknown_version_is_told_ours),
        CASE(server_without_our_version_ends_the_dialling),
        CASE(datagrams_of_a_connection_from_elsewhere_dropped),
        CASE(refused_frames_stop_the_sender_and_come_later),
        CASE(pause_holds_frames_back_until_resume),
        CASE(more_kept_than_all_may_keep_is_cut_off),
        CASE(send_buffer_of_all_is_bounded_and_the_refused_are_told),
        CASE(numbers_of_dead_connections_do_no_harm),
        CASE(hang_up_from_a_callback_drops_what_follows),
        CASE(key_not_let_in_is_told_so),
        CASE(mangled_datagrams_never_harm_the_next_client),
        CASE(options_out_of_range_refused),
    };
    return cmocka_run_group_tests_name("dataplane/quic", tests, NULL, NULL);
}
