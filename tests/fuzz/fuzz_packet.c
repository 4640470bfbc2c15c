/* A stream of Ethernet frames into the input path of a host: u16 length ‖ frame, again and again. What comes out as a
 * datagram lies inside its frame; what the host sends is itself a frame that another host would not refuse as
 * malformed; nothing that waits is lost. */
#include "base/bytes.h"
#include "dataplane/link.h"

#include <stdlib.h>

#define WAITING 4

static uint8_t given_back[WAITING];

static void control(void *context, const uint8_t *frame, size_t length)
{
    CH_ASSERT(length >= CH_ETHERNET_BYTES && length <= CH_FRAME_BYTES);
    uint8_t *copy = malloc(length);
    CH_ASSERT(copy);
    memcpy(copy, frame, length);
    struct ch_frame parsed;
    ch_frame_parse(copy, length, false, &parsed);
    /* an echo to an address that no host has is answered to it, and only there */
    CH_ASSERT(parsed.kind == CH_FRAME_ARP || parsed.kind == CH_FRAME_ICMP);
    CH_ASSERT(parsed.kind == CH_FRAME_ARP || ch_frame_checksum_holds(&parsed));
    free(copy);
}

static void gone(void *handle)
{
    uint8_t *mark = handle;
    CH_ASSERT(mark >= given_back && mark < given_back + WAITING && !*mark);
    *mark = 1;
}

static void resolved(void *context, void *handle, const uint8_t mac[6])
{
    CH_ASSERT(!(mac[0] & 1));
    gone(handle);
}

static void unresolved(void *context, void *handle)
{
    gone(handle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ch_link link;
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    static const char *const targets[WAITING] = {"10.1.0.2:9", "192.0.2.1:9", "[fd01::2]:9", "[2001:db8::1]:9"};
    struct ch_port_config config = {.local_count = 2};
    struct ch_link_io io = {NULL, control, resolved, unresolved};
    char why[CH_PORT_WHY_BYTES];
    CH_ASSERT(ch_address_parse("10.1.0.1/24:5000", &config.locals[0].address, &config.locals[0].prefix_bits) == CH_OK);
    CH_ASSERT(ch_address_parse("[fd01::1]/64:5000", &config.locals[1].address, &config.locals[1].prefix_bits) == CH_OK);
    CH_ASSERT(ch_address_parse("10.1.0.254", &config.gateway4, NULL) == CH_OK);
    CH_ASSERT(ch_address_parse("fe80::fe", &config.gateway6, NULL) == CH_OK);
    CH_ASSERT(ch_link_init(&link, &config, mac, 1, &io, why) == CH_OK);
    uint64_t now_ns = UINT64_C(1000000000);
    ch_link_tick(&link, now_ns);

    memset(given_back, 0, sizeof given_back);
    uint8_t buffer[WAITING][CH_LINK_HEADROOM_BYTES + 8];
    for (size_t i = 0; i < WAITING; i++) {
        struct ch_packet packet = {
            .payload = buffer[i] + CH_LINK_HEADROOM_BYTES, .handle = &given_back[i], .length = 8, .local = i / 2};
        uint8_t *frame;
        memset(packet.payload, 0, 8);
        CH_ASSERT(ch_address_parse(targets[i], &packet.remote, NULL) == CH_OK);
        CH_ASSERT(ch_link_output(&link, now_ns, &packet, &frame) == CH_LINK_WAITS);
    }

    struct ch_reader r = ch_reader(data, size);
    while (r.left > 2 && !r.bad) {
        size_t length = ch_read16(&r) % (CH_FRAME_BYTES + 1);
        if (length > r.left)
            length = r.left;
        uint8_t *frame = malloc(length ? length : 1);
        CH_ASSERT(frame);
        ch_read_to(&r, frame, length);
        struct ch_packet out = {0};
        enum ch_port_counter what = ch_link_input(&link, now_ns, frame, length, CH_PORT_CHECKSUM_VERIFY, &out);
        CH_ASSERT(what < CH_PORT_COUNTER_COUNT);
        if (what == CH_PORT_COUNTER_rx_datagrams)
            CH_ASSERT(out.local < 2 && out.remote.port && out.payload >= frame &&
                      out.payload + out.length <= frame + length);
        free(frame);
        now_ns += UINT64_C(300000000);
        ch_link_tick(&link, now_ns);
    }
    ch_link_drain(&link);
    for (size_t i = 0; i < WAITING; i++)
        CH_ASSERT(given_back[i] == 1);
    return 0;
}
