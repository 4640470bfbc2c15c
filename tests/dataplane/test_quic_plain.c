/* The engine and its library against peers that break the rules inside the encryption: packet protection is taken away
 * (quic_plain.h), and datagrams are changed on the way. Whatever comes, the process lives, memory is given back, and
 * the next honest client is served. */
#include "quic_net.h"
#include "quic_plain.h"
#include "tests/test.h"

static struct net net;
static struct end *victim; /* datagrams to it are changed */
static uint32_t change_permille;

static struct ch_prng *bend; /* NULL: none */

static void bend_parameters(ngtcp2_transport_params *p, struct ch_prng *g)
{
    static const uint64_t numbers[] = {0, 1, 2, 1000, 65536, (UINT64_C(1) << 60) - 1, (UINT64_C(1) << 62) - 1};
#define ANY   numbers[ch_prng_below(g, sizeof numbers / sizeof numbers[0])]
#define MAYBE if (ch_prng_below(g, 4) == 0)
    MAYBE p->initial_max_stream_data_bidi_local = ANY;
    MAYBE p->initial_max_stream_data_bidi_remote = ANY;
    MAYBE p->initial_max_stream_data_uni = ANY;
    MAYBE p->initial_max_data = ANY;
    MAYBE p->initial_max_streams_bidi = ch_prng_below(g, 2) ? 4 : UINT64_C(1) << 60;
    MAYBE p->initial_max_streams_uni = ch_prng_below(g, 2) ? 4 : UINT64_C(1) << 60;
    MAYBE p->max_idle_timeout = MS * (ANY % (UINT64_C(1) << 40));
    MAYBE p->max_udp_payload_size = 1200 + ch_prng_below(g, 65000);
    MAYBE p->active_connection_id_limit = 2 + ch_prng_below(g, 7); /* the library takes no more of its own */
    MAYBE p->ack_delay_exponent = ch_prng_below(g, 21);
    MAYBE p->max_ack_delay = MS * ch_prng_below(g, 16384);
    MAYBE p->max_datagram_frame_size = ANY;
    MAYBE p->disable_active_migration = !p->disable_active_migration;
    MAYBE p->grease_quic_bit = 1;
#undef MAYBE
#undef ANY
}

int __real_ngtcp2_conn_client_new_versioned(ngtcp2_conn **conn, const ngtcp2_cid *dcid, const ngtcp2_cid *scid,
                                            const ngtcp2_path *path, uint32_t version, int callbacks_version,
                                            const ngtcp2_callbacks *callbacks, int settings_version,
                                            const ngtcp2_settings *settings, int params_version,
                                            const ngtcp2_transport_params *params, const ngtcp2_mem *mem, void *user);
int __wrap_ngtcp2_conn_client_new_versioned(ngtcp2_conn **conn, const ngtcp2_cid *dcid, const ngtcp2_cid *scid,
                                            const ngtcp2_path *path, uint32_t version, int callbacks_version,
                                            const ngtcp2_callbacks *callbacks, int settings_version,
                                            const ngtcp2_settings *settings, int params_version,
                                            const ngtcp2_transport_params *params, const ngtcp2_mem *mem, void *user);
int __wrap_ngtcp2_conn_client_new_versioned(ngtcp2_conn **conn, const ngtcp2_cid *dcid, const ngtcp2_cid *scid,
                                            const ngtcp2_path *path, uint32_t version, int callbacks_version,
                                            const ngtcp2_callbacks *callbacks, int settings_version,
                                            const ngtcp2_settings *settings, int params_version,
                                            const ngtcp2_transport_params *params, const ngtcp2_mem *mem, void *user)
{
    ngtcp2_transport_params bent = *params;
    if (bend)
        bend_parameters(&bent, bend);
    return __real_ngtcp2_conn_client_new_versioned(conn, dcid, scid, path, version, callbacks_version, callbacks,
                                                   settings_version, settings, params_version, &bent, mem, user);
}

static int start(void **state)
{
    net_init(&net, test_seed());
    bend = NULL;
    change_permille = 0;
    return 0;
}

static int finish(void **state)
{
    net_close(&net);
    return 0;
}

static bool tap_change(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    struct ch_prng *g = &n->prng;
    if (from == victim || ch_prng_below(g, 1000) >= change_permille)
        return true;
    switch (ch_prng_below(g, 4)) {
    case 0:
        for (uint64_t i = 1 + ch_prng_below(g, 3); i > 0; i--)
            bytes[ch_prng_below(g, *length)] ^= (uint8_t)(1u << ch_prng_below(g, 8));
        break;
    case 1:
        bytes[ch_prng_below(g, *length)] = (uint8_t)ch_prng_next(g);
        break;
    default:
        plain_insert(bytes, length, CH_QUIC_DATAGRAM_BYTES_MAX, g);
        break;
    }
    return true;
}

/* The connection may be gone already; that is what an attack can do to its own. */
static void offer(struct end *e, uint64_t conn, size_t length)
{
    static const uint8_t body[3000];
    ch_err err =
        ch_quic_send(e->engine, conn, &(struct ch_frame_header){.type = 1}, &(struct ch_bytes){body, length}, 1);
    assert_true(err == CH_OK || err == CH_ERR_CLOSED);
}

static void attack(bool at_server)
{
    static const uint32_t permille[] = {5, 30, 200, 1000};
    struct ch_quic_options server = {
        .listen = true, .initial_rtt_ns = MS, .connections_max = 8, .idle_timeout_ns = 2 * SECOND};
    struct ch_quic_options client = server;
    client.listen = false;
    struct end *s = net_add(&net, &server), *c = net_add(&net, &client);
    s->echo = true;
    victim = at_server ? s : c;
    net.tap = tap_change;
    for (int round = 0; round < (test_full() ? 4000 : 300); round++) {
        change_permille = permille[round % 4];
        uint64_t conn = end_dial(c, s, NULL);
        for (int i = 0; i < 10; i++)
            offer(c, conn, ch_prng_below(&net.prng, 3000));
        net_run(&net, net.now_ns + 200 * MS, NULL);
        offer(c, conn, 10);
        net_run(&net, net.now_ns + 200 * MS, NULL);
        ch_quic_hang_up(c->engine, conn, CH_QUIC_CODE_DONE, NULL);
        net_run(&net, net.now_ns + SECOND, NULL);
    }
    assert_true(s->connected > 20);
    change_permille = 0;
    bend = NULL;
    net_run(&net, net.now_ns + 60 * SECOND, NULL);
    for (int i = 0; i < 2; i++) {
        struct ch_quic_usage usage = ch_quic_usage(net.ends[i].engine);
        assert_int_equal(usage.connections + usage.handshakes + usage.closing, 0);
        assert_int_equal(usage.send_bytes + usage.receive_bytes, 0);
    }
    unsigned int before = s->connected;
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + SECOND, NULL);
    assert_int_equal(s->connected, before + 1);
}

static void hostile_client_server_lives(void **state)
{
    attack(true);
}

static void hostile_client_with_strange_parameters_server_lives(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 5);
    bend = &g;
    attack(true);
}

static void hostile_server_client_lives(void **state)
{
    attack(false);
}

static bool client_closed(struct net *n)
{
    return n->ends[1].closed_count > 0;
}

/* The QUIC frames of the next datagram from the client. */
static struct ch_bytes extra;
static bool tap_extra(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    if (from != &n->ends[1] || extra.length == 0 || (bytes[0] & 0x80))
        return true;
    memcpy(bytes + *length - PLAIN_TAG_BYTES, extra.data, extra.length);
    *length += extra.length;
    memset(bytes + *length - PLAIN_TAG_BYTES, 0, PLAIN_TAG_BYTES);
    extra.length = 0;
    return true;
}

static void client_sends(const uint8_t *frames, size_t length)
{
    struct end *s = net_add(&net, &(struct ch_quic_options){.listen = true, .initial_rtt_ns = MS});
    struct end *c = net_add(&net, &(struct ch_quic_options){.initial_rtt_ns = MS});
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + SECOND, NULL);
    assert_int_equal(s->connected, 1);
    net.tap = tap_extra;
    extra = (struct ch_bytes){frames, length};
    assert_ok(ch_quic_send(c->engine, c->conn, &(struct ch_frame_header){.type = 1}, NULL, 0));
    assert_true(net_run(&net, net.now_ns + SECOND, client_closed));
    assert_int_equal(s->closed_count, 1);
}

static void over_long_frame_closed_by_name(void **state)
{
    uint8_t frames[64];
    struct ch_writer w = ch_writer(frames, sizeof frames);
    uint8_t header[CH_FRAME_HEADER_BYTES];
    ch_frame_header_write(&(struct ch_frame_header){.length = CH_FRAME_BODY_BYTES_MAX + 1}, header);
    plain_varint(&w, 0x0e); /* STREAM, offset and length */
    plain_varint(&w, 4);
    plain_varint(&w, 0);
    plain_varint(&w, sizeof header);
    ch_write(&w, header, sizeof header);
    client_sends(frames, w.used);
    assert_int_equal(net.ends[1].closed.end, CH_QUIC_END_PEER);
    assert_int_equal(net.ends[1].closed.code, CH_QUIC_CODE_FRAME_TOO_LONG);
    assert_int_equal(ch_quic_counters(net.ends[0].engine).closed_protocol, 1);
}

static void stream_ended_inside_a_frame_closed_by_name(void **state)
{
    /* STREAM 4, length 3, FIN: less than a header. */
    client_sends((const uint8_t[]){0x0b, 4, 3, 1, 2, 3}, 6);
    assert_int_equal(net.ends[1].closed.code, CH_QUIC_CODE_BAD_STREAM);
}

static void stream_reset_closed_by_name(void **state)
{
    client_sends((const uint8_t[]){0x0b, 4, 0, 0x04, 8, 0, 0}, 7); /* 4: ended between frames, fine; 8: reset */
    assert_int_equal(net.ends[1].closed.end, CH_QUIC_END_PEER);
    assert_int_equal(net.ends[1].closed.code, CH_QUIC_CODE_BAD_STREAM);
}

static void unidirectional_stream_refused(void **state)
{
    client_sends((const uint8_t[]){0x0a, 2, 1, 1}, 4);
    assert_int_equal(net.ends[1].closed.end, CH_QUIC_END_PEER_TRANSPORT);
    assert_int_equal(net.ends[1].closed.code, 10); /* PROTOCOL_VIOLATION */
}

static void fifth_stream_refused(void **state)
{
    client_sends((const uint8_t[]){0x0a, 16, 1, 1}, 4);
    assert_int_equal(net.ends[1].closed.end, CH_QUIC_END_PEER_TRANSPORT);
    assert_int_equal(net.ends[1].closed.code, 10);
}

/* libngtcp2 0.12.1 aborts when it's told twice to retire one id. */
static void id_retired_twice_closed(void **state)
{
    uint8_t frames[160];
    struct ch_writer w = ch_writer(frames, sizeof frames);
    static const uint8_t sequence_and_prior[3][2] = {{2, 2}, {1, 0}, {1, 0}};
    for (int i = 0; i < 3; i++) {
        ch_write8(&w, 0x18);
        ch_write(&w, sequence_and_prior[i], 2);
        ch_write8(&w, 16);
        memset(ch_write_room(&w, 32), 0x70 + (i > 0), 32);
    }
    client_sends(frames, w.used);
    assert_int_equal(net.ends[1].closed.code, 10);
    assert_int_equal(net.ends[0].closed.end, CH_QUIC_END_PROTOCOL);
}

/* The ClientHello's extension 0x39, quic_transport_parameters, becomes one that nobody knows. */
static bool tap_no_parameters(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    if (from != &n->ends[1])
        return false; /* the client would notice; a hostile one would not */
    static const uint8_t alpn[] = "chappe/1";
    for (uint8_t *at = bytes; memmem(bytes, *length, alpn, sizeof alpn - 1) && at + 4 < bytes + *length; at++)
        if (at[0] == 0 && at[1] == 0x39 && at[2] == 0 && at[3] > 30 && at[3] < 150) {
            at[1] = 0xf9;
            n->tap_user = n;
        }
    return true;
}

/* libngtcp2 0.12.1 aborts when it writes its first own packet then. */
static void client_without_transport_parameters_dropped(void **state)
{
    struct end *s = net_add(&net, &(struct ch_quic_options){.listen = true, .initial_rtt_ns = MS});
    struct end *c = net_add(&net, &(struct ch_quic_options){.initial_rtt_ns = MS});
    net.tap = tap_no_parameters;
    end_dial(c, s, NULL);
    net_run(&net, net.now_ns + SECOND, NULL);
    assert_non_null(net.tap_user);
    assert_true(ch_quic_counters(s->engine).accepted > 0);
    assert_int_equal(ch_quic_usage(s->engine).handshakes, 0);
    assert_int_equal(s->connected, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, start, finish)
        CASE(over_long_frame_closed_by_name),
        CASE(stream_ended_inside_a_frame_closed_by_name),
        CASE(stream_reset_closed_by_name),
        CASE(unidirectional_stream_refused),
        CASE(fifth_stream_refused),
        CASE(id_retired_twice_closed),
        CASE(client_without_transport_parameters_dropped),
        CASE(hostile_client_server_lives),
        CASE(hostile_client_with_strange_parameters_server_lives),
        CASE(hostile_server_client_lives),
    };
    return cmocka_run_group_tests_name("dataplane/quic_plain", tests, NULL, NULL);
}
