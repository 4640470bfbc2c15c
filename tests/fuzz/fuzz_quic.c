/* Datagrams into a server that has one honest client, packet protection taken away (tests/dataplane/quic_plain.h).
 *
 * Input: steps of 1 byte kind | 2 bytes length, little-endian | that many bytes:
 *   0 a datagram from a stranger          1 a datagram in the client's name
 *   2 frames for the client's next 1-RTT  3 changes for the client's next datagram, each 2 bytes place | 1 byte to xor
 *   4 as 2, for the server's next         5 as 3, for the server's next
 *   6 time passes: first byte x 8 ms
 * The client dials at the start; steps 2 and 4 make it (the server) send something to carry them. */
#include "tests/dataplane/quic_net.h"
#include "tests/dataplane/quic_plain.h"

static struct net net;
static struct ch_bytes frames[2], changes[2];

static bool tap(struct net *n, struct end *from, uint8_t *bytes, size_t *length)
{
    size_t side = (size_t)(from - n->ends);
    struct ch_bytes *f = &frames[side], *x = &changes[side];
    if (f->length > 0 && !(bytes[0] & 0x80) && *length + f->length <= CH_QUIC_DATAGRAM_BYTES_MAX) {
        memcpy(bytes + *length - PLAIN_TAG_BYTES, f->data, f->length);
        *length += f->length;
        memset(bytes + *length - PLAIN_TAG_BYTES, 0, PLAIN_TAG_BYTES);
        f->length = 0;
    }
    for (; x->length >= 3; x->data += 3, x->length -= 3)
        bytes[ch_load16(x->data) % *length] ^= x->data[2];
    return true;
}

static void say(struct end *e)
{
    ch_err err = ch_quic_send(e->engine, e->conn, &(struct ch_frame_header){.type = 1}, NULL, 0);
    CH_ASSERT(err == CH_OK || err == CH_ERR_CLOSED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ch_reader r = ch_reader(data, size);
    struct ch_quic_options options = {
        .listen = true, .initial_rtt_ns = MS, .connections_max = 8, .idle_timeout_ns = SECOND};
    net_init(&net, 1);
    struct end *server = net_add(&net, &options), *client = net_add(&net, &options);
    struct ch_address stranger = ch_address_from4((uint8_t[]){192, 0, 2, 1}, 5);
    memset(frames, 0, sizeof frames);
    memset(changes, 0, sizeof changes);
    net.tap = tap;
    server->echo = true;
    end_dial(client, server, NULL);
    while (r.left > 0 && !r.bad) {
        uint8_t kind = ch_read8(&r) % 7;
        size_t length = ch_read16(&r);
        struct ch_bytes bytes = {r.at, length < r.left ? length : r.left};
        size_t fits = bytes.length < CH_QUIC_DATAGRAM_BYTES_MAX ? bytes.length : CH_QUIC_DATAGRAM_BYTES_MAX;
        (void)ch_read(&r, bytes.length);
        /* Frames need the handshake; datagrams and changes meet it half done. */
        net_run(&net, net.now_ns + (kind == 2 || kind == 4 ? 20 * MS : MS / 20), NULL);
        switch (kind) {
        case 0:
        case 1:
            net_post(&net, kind ? &client->address : &stranger, &server->address, bytes.data, fits, net.now_ns);
            break;
        case 2:
        case 4:
            frames[kind == 2] = bytes;
            say(kind == 2 ? client : server);
            break;
        case 3:
        case 5:
            changes[kind == 3] = bytes;
            break;
        default:
            net_run(&net, net.now_ns + (bytes.length ? bytes.data[0] * 8 * MS : 0), NULL);
            break;
        }
    }
    net_run(&net, net.now_ns + 30 * SECOND, NULL);
    for (int i = 0; i < 2; i++) {
        struct ch_quic_usage usage = ch_quic_usage(net.ends[i].engine);
        CH_ASSERT(usage.handshakes == 0 && usage.connections == 0 && usage.closing == 0);
        CH_ASSERT(usage.send_bytes == 0 && usage.receive_bytes == 0);
    }
    net_close(&net);
    return 0;
}
