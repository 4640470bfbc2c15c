/* Frames as bytes, the neighbour cache, and the link layer's answers, on plain buffers. */
#include "tests/dataplane/ports.h"

#include "dataplane/link.h"

#define SECOND_NS UINT64_C(1000000000)

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1}, their_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* A link, and what it sent. */
struct host {
    struct ch_link link;
    uint8_t control[64][CH_FRAME_BYTES];
    size_t control_length[64], control_count;
    void *resolved[64], *unresolved[512];
    uint8_t resolved_mac[6];
    size_t resolved_count, unresolved_count;
};

static struct host host; /* the one under test */
static uint64_t now_ns;

static void on_control(void *context, const uint8_t *frame, size_t length)
{
    struct host *h = context;
    assert_true(length <= CH_FRAME_BYTES);
    if (h->control_count == 64)
        return;
    memcpy(h->control[h->control_count], frame, length);
    h->control_length[h->control_count++] = length;
}

static void on_resolved(void *context, void *handle, const uint8_t mac[6])
{
    struct host *h = context;
    memcpy(h->resolved_mac, mac, 6);
    h->resolved[h->resolved_count++] = handle;
}

static void on_unresolved(void *context, void *handle)
{
    struct host *h = context;
    h->unresolved[h->unresolved_count++] = handle;
}

static int fresh_host(void **state)
{
    struct ch_port_config config = {
        .locals = {local_at("10.1.0.1/24:5000"), local_at("[fd01::1]/64:5000"), local_at("10.1.0.1/24:6000")},
        .local_count = 3,
        .gateway4 = address_of("10.1.0.254"),
        .gateway6 = address_of("[fe80::fe]")};
    struct ch_link_io io = {&host, on_control, on_resolved, on_unresolved};
    char why[CH_PORT_WHY_BYTES] = "";
    memset(&host, 0, sizeof host);
    now_ns = 1000 * SECOND_NS;
    if (ch_link_init(&host.link, &config, our_mac, test_seed(), &io, why) != CH_OK)
        fail_msg("%s", why);
    ch_link_tick(&host.link, now_ns);
    host.control_count = 0;
    return 0;
}

/* Frames to us, in a buffer of exactly their size so that the sanitizer sees each byte read too far. */
struct bytes {
    size_t length;
    uint8_t data[CH_FRAME_BYTES + 8];
};

static struct ch_packet last;

static enum ch_port_counter take_as(const uint8_t *data, size_t length, enum ch_port_checksum checksum)
{
    uint8_t *exact = malloc(length ? length : 1);
    memcpy(exact, data, length);
    enum ch_port_counter what = ch_link_input(&host.link, now_ns, exact, length, checksum, &last);
    static uint8_t payload[CH_FRAME_BYTES];
    if (what == CH_PORT_COUNTER_rx_datagrams) {
        assert_true(last.payload >= exact && last.payload + last.length <= exact + length);
        memcpy(payload, last.payload, last.length);
        last.payload = payload;
    }
    free(exact);
    return what;
}

static enum ch_port_counter take(const struct bytes *b)
{
    return take_as(b->data, b->length, CH_PORT_CHECKSUM_VERIFY);
}

static struct bytes udp(const char *from, const char *to, size_t length)
{
    struct bytes b;
    uint8_t buffer[CH_LINK_HEADROOM_BYTES + CH_PORT_MTU_BYTES];
    struct ch_address f = address_of(from), t = address_of(to);
    for (size_t i = 0; i < length; i++)
        buffer[CH_LINK_HEADROOM_BYTES + i] = (uint8_t)(i * 7 + length);
    uint8_t *frame = ch_frame_build_udp(buffer + CH_LINK_HEADROOM_BYTES, length, &f, &t, their_mac, our_mac);
    b.length = (size_t)(buffer + CH_LINK_HEADROOM_BYTES + length - frame);
    memcpy(b.data, frame, b.length);
    return b;
}

static struct bytes icmp(const char *from, const char *to, const uint8_t *message, size_t length)
{
    struct bytes b;
    uint8_t buffer[CH_LINK_HEADROOM_BYTES + CH_PORT_MTU_BYTES];
    struct ch_address f = address_of(from), t = address_of(to);
    memcpy(buffer + CH_LINK_HEADROOM_BYTES, message, length);
    uint8_t *frame = ch_frame_build_icmp(buffer + CH_LINK_HEADROOM_BYTES, length, &f, &t, their_mac, our_mac);
    b.length = (size_t)(buffer + CH_LINK_HEADROOM_BYTES + length - frame);
    memcpy(b.data, frame, b.length);
    return b;
}

/* A neighbour solicitation (135) or advertisement (136) with one option (1 source, 2 target) of 8 bytes. */
static struct bytes discovery(uint8_t type, const char *from, const char *to, const char *target, uint8_t flags,
                              uint8_t option)
{
    uint8_t message[32] = {type};
    struct ch_address t = address_of(target);
    message[4] = flags;
    memcpy(message + 8, t.ip, 16);
    message[24] = option;
    message[25] = 1;
    memcpy(message + 26, their_mac, 6);
    return icmp(from, to, message, option ? 32 : 24);
}

static struct bytes arp(uint16_t operation, const char *sender, const char *target)
{
    struct bytes b = {.length = CH_ETHERNET_BYTES + CH_ARP_BYTES};
    struct ch_address s = address_of(sender), t = address_of(target);
    memcpy(b.data, operation == 1 ? everybody : our_mac, 6);
    memcpy(b.data + 6, their_mac, 6);
    memcpy(b.data + 12, (uint8_t[8]){8, 6, 0, 1, 8, 0, 6, 4}, 8);
    ch_store16_net(b.data + 20, operation);
    memcpy(b.data + 22, their_mac, 6);
    memcpy(b.data + 28, s.ip + 12, 4);
    memcpy(b.data + 38, t.ip + 12, 4);
    return b;
}

/* Sets an IPv4 header's checksum again after a change. */
static void fix4(struct bytes *b)
{
    ch_store16(b->data + 24, 0);
    ch_store16(b->data + 24, ch_checksum_end(ch_checksum_add(0, b->data + 14, (size_t)(b->data[14] & 15) * 4)));
}

#define FROM4 "10.1.0.2:77"
#define TO4   "10.1.0.1:5000"
#define FROM6 "[fd01::2]:77"
#define TO6   "[fd01::1]:5000"

static void checksum_is_that_of_rfc_1071(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    uint8_t data[300];
    for (int round = 0; round < 2000; round++) {
        size_t length = ch_prng_below(&g, sizeof data + 1);
        if (round % 3 == 0)
            memset(data, 0xff, sizeof data);
        else
            test_random_bytes(&g, data, length);
        uint32_t sum = 0; /* the RFC's own way: 16-bit words in network order */
        for (size_t i = 0; i < length; i++)
            sum += (uint32_t)data[i] << (i % 2 ? 0 : 8);
        while (sum >> 16)
            sum = (sum & 0xffff) + (sum >> 16);
        uint8_t checksum[2];
        ch_store16(checksum, ch_checksum_end(ch_checksum_add(0, data, length)));
        assert_int_equal(ch_load16_net(checksum), (uint16_t)~sum);
    }
    /* its example, section 3 */
    static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    uint8_t checksum[2];
    ch_store16(checksum, ch_checksum_end(ch_checksum_add(0, example, 8)));
    assert_int_equal(ch_load16_net(checksum), 0xffff & ~0xddf2);
}

static void datagrams_of_every_length_come_back_whole(void **state)
{
    for (size_t length = 0; length <= CH_PORT_MTU_BYTES - 48; length++)
        for (int six = 0; six < 2; six++) {
            struct bytes b = udp(six ? FROM6 : FROM4, six ? TO6 : TO4, length);
            assert_int_equal(take(&b), CH_PORT_COUNTER_rx_datagrams);
            assert_int_equal(last.length, length);
            assert_int_equal(last.local, six);
            struct ch_address from = address_of(six ? FROM6 : FROM4);
            assert_true(ch_address_equal(&last.remote, &from));
            for (size_t i = 0; i < length; i++)
                assert_int_equal(last.payload[i], (uint8_t)(i * 7 + length));
        }
    struct bytes b = udp(FROM4, "10.1.0.1:6000", 5); /* a second port on the same address */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_datagrams);
    assert_int_equal(last.local, 2);
}

static void padding_of_short_frames_is_cut_off(void **state)
{
    struct bytes b = udp(FROM4, TO4, 3);
    memset(b.data + b.length, 0xee, 60 - b.length);
    b.length = 60;
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_datagrams);
    assert_int_equal(last.length, 3);
}

static struct bytes sample(int kind)
{
    uint8_t echo[40] = {8, 0, 0, 0, 1, 2, 3, 4}, echo6[40] = {128, 0, 0, 0, 1, 2, 3, 4};
    switch (kind) {
    case 0:
        return udp(FROM4, TO4, 50);
    case 1:
        return udp(FROM6, TO6, 50);
    case 2:
        return arp(1, "10.1.0.2", "10.1.0.1");
    case 3:
        return icmp(FROM4, TO4, echo, sizeof echo);
    case 4:
        return icmp(FROM6, TO6, echo6, sizeof echo6);
    default:
        return discovery(135, FROM6, TO6, "fd01::1", 0, 1);
    }
}
#define SAMPLES 6

static bool is_drop(enum ch_port_counter what)
{
    return strncmp(ch_port_counter_name(what), "rx_drop_", 8) == 0;
}

static void truncated_at_every_length_is_dropped(void **state)
{
    for (int kind = 0; kind < SAMPLES; kind++) {
        struct bytes b = sample(kind);
        assert_false(is_drop(take(&b)));
        host.control_count = 0;
        for (size_t length = 0; length < b.length; length++)
            assert_int_equal(take_as(b.data, length, CH_PORT_CHECKSUM_VERIFY), CH_PORT_COUNTER_rx_drop_truncated);
        for (size_t length = 0; length < b.length; length++) /* nor is anything read that is not there */
            assert_int_equal(take_as(b.data, length, CH_PORT_CHECKSUM_TRUST), CH_PORT_COUNTER_rx_drop_truncated);
        assert_int_equal(host.control_count, 0);
    }
}

static void bit_flipped_is_dropped_or_changes_nothing(void **state)
{
    for (int kind = 0; kind < 2; kind++) {
        struct bytes good = sample(kind);
        size_t taken = 0;
        for (size_t bit = 0; bit < good.length * 8; bit++) {
            struct bytes b = good;
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            enum ch_port_counter what = take(&b);
            if (what == CH_PORT_COUNTER_rx_datagrams) {
                struct ch_address from = address_of(kind ? FROM6 : FROM4);
                taken++;
                assert_true(ch_address_equal(&last.remote, &from) && last.length == 50 && (int)last.local == kind);
                assert_memory_equal(last.payload, good.data + good.length - 50, 50);
            } else {
                assert_true(is_drop(what));
            }
        }
        /* nothing protects the sender's Ethernet address; nor, in IPv6, traffic class, flow label and hop limit */
        assert_int_equal(taken, 48 + (kind ? 28 + 8 : 0));
    }
    for (int kind = 2; kind < SAMPLES; kind++) {
        struct bytes good = sample(kind);
        for (size_t bit = 0; bit < good.length * 8; bit++) {
            struct bytes b = good;
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            enum ch_port_counter what = take(&b);
            host.control_count = 0;
            if (kind >= 3 && bit >= 8 * (size_t)(CH_ETHERNET_BYTES + (kind == 3 ? 20 : 40)))
                assert_int_equal(what, CH_PORT_COUNTER_rx_drop_checksum);
        }
    }
}

static void each_malformation_has_its_reason(void **state)
{
    struct bytes b;
#define EXPECT(reason) assert_string_equal(ch_port_counter_name(take(&b)), #reason)
    b = udp(FROM4, TO4, 10), b.data[5] = 9;
    EXPECT(rx_drop_not_for_us);
    b = udp(FROM4, TO4, 10), memcpy(b.data, everybody, 6);
    EXPECT(rx_drop_not_for_us);
    b = udp(FROM4, TO4, 10), memcpy(b.data + 6, our_mac, 6);
    EXPECT(rx_drop_not_for_us);
    b = udp(FROM4, "10.1.0.9:5000", 10);
    EXPECT(rx_drop_not_for_us);
    b = udp(FROM4, "10.1.0.1:5001", 10);
    EXPECT(rx_drop_no_port);
    b = udp(FROM6, "[fd01::1]:6000", 10);
    EXPECT(rx_drop_no_port);
    b = udp(FROM4, TO4, 10), ch_store16_net(b.data + 12, 0x8100);
    EXPECT(rx_drop_protocol);
    b = udp(FROM4, TO4, 10), b.data[23] = 6, fix4(&b);
    EXPECT(rx_drop_protocol);
    b = udp(FROM6, TO6, 10), b.data[20] = 6;
    EXPECT(rx_drop_protocol);
    b = udp(FROM4, TO4, 10), b.data[20] |= 0x20, fix4(&b); /* more fragments */
    EXPECT(rx_drop_fragment);
    b = udp(FROM4, TO4, 10), b.data[21] = 1, fix4(&b); /* an offset */
    EXPECT(rx_drop_fragment);
    b = udp(FROM6, TO6, 10), b.data[20] = 44;
    EXPECT(rx_drop_fragment);
    b = udp(FROM4, TO4, 10), b.data[14] = 0x46, fix4(&b);
    EXPECT(rx_drop_options);
    for (size_t i = 0; i < 8; i++) {
        b = udp(FROM6, TO6, 10), b.data[20] = (uint8_t[8]){0, 43, 50, 51, 60, 135, 139, 140}[i];
        EXPECT(rx_drop_options);
    }
    b = udp(FROM4, TO4, 10), b.data[24] ^= 1;
    EXPECT(rx_drop_checksum);
    b = udp(FROM4, TO4, 10), b.data[b.length - 1] ^= 1;
    EXPECT(rx_drop_checksum);
    assert_int_equal(take_as(b.data, b.length, CH_PORT_CHECKSUM_TRUST), CH_PORT_COUNTER_rx_datagrams);
    b = udp(FROM4, TO4, 10), ch_store16(b.data + 40, 0); /* none */
    EXPECT(rx_datagrams);
    b = udp(FROM6, TO6, 10), ch_store16(b.data + 60, 0);
    EXPECT(rx_drop_checksum);
    b = udp(FROM4, TO4, 10), b.data[14] = 0x65, fix4(&b);
    EXPECT(rx_drop_malformed);
    b = udp(FROM4, TO4, 10), b.data[14] = 0x44;
    EXPECT(rx_drop_malformed);
    b = udp(FROM4, TO4, 10), ch_store16_net(b.data + 16, 19);
    EXPECT(rx_drop_malformed);
    b = udp(FROM6, TO6, 10), b.data[14] = 0x45;
    EXPECT(rx_drop_malformed);
    b = udp(FROM4, TO4, 10), ch_store16_net(b.data + 38, 17); /* UDP says less than IP */
    EXPECT(rx_drop_malformed);
    b = udp(FROM4, TO4, 10), ch_store16_net(b.data + 38, 19);
    EXPECT(rx_drop_truncated);
    b = udp(FROM4, TO4, 10), ch_store16_net(b.data + 38, 7);
    EXPECT(rx_drop_malformed);
    static const char *const sources[] = {"127.0.0.1:7", "224.0.0.1:7", "255.255.255.255:7",
                                          "0.0.0.0:7",   "10.1.0.2:0",  "10.1.0.1:7"};
    for (size_t i = 0; i < 6; i++) {
        b = udp(sources[i], TO4, 10);
        EXPECT(rx_drop_malformed);
    }
    static const char *const sources6[] = {"[::]:7", "[::1]:7", "[ff02::1]:7", "[fd01::2]:0", "[fd01::1]:7"};
    for (size_t i = 0; i < 5; i++) {
        b = udp(sources6[i], TO6, 10);
        EXPECT(rx_drop_malformed);
    }
    /* an IPv4 address in IPv6's form is none that IPv6 carries */
    b = udp(FROM6, TO6, 10), memcpy(b.data + 22, (uint8_t[16]){[10] = 0xff, [11] = 0xff, [12] = 10}, 16);
    EXPECT(rx_drop_malformed);
    uint8_t unreachable[8] = {3};
    b = icmp(FROM4, TO4, unreachable, 8);
    EXPECT(rx_drop_protocol);
    unreachable[0] = 1;
    b = icmp(FROM6, TO6, unreachable, 8);
    EXPECT(rx_drop_protocol);
#undef EXPECT
    assert_int_equal(host.control_count, 0);
}

static void random_frames_are_dropped_and_nothing_is_sent(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    for (int round = 0; round < (test_full() ? 2000000 : 100000); round++) {
        struct bytes b = {.length = ch_prng_below(&g, 200)};
        test_random_bytes(&g, b.data, b.length);
        if (b.length >= 14) {
            memcpy(b.data, our_mac, 6);
            ch_store16_net(b.data + 12, (uint16_t[]){0x0800, 0x86dd, 0x0806}[round % 3]);
        }
        if (b.length >= 16 && round % 3 < 2 && round % 5)
            b.data[14] = round % 3 ? 0x60 : 0x45;
        assert_true(is_drop(take(&b)));
    }
    assert_int_equal(host.control_count, 0);
}

static void arp_request_is_answered_and_sender_learned(void **state)
{
    struct bytes b = arp(1, "10.1.0.2", "10.1.0.1");
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_arp);
    assert_int_equal(host.control_count, 1);
    assert_int_equal(host.control_length[0], 42);
    static const uint8_t answer[42] = {2, 0, 0, 0, 0, 2, 2, 0,  0, 0, 0, 1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
                                       2, 2, 0, 0, 0, 0, 1, 10, 1, 0, 1, 2, 0, 0, 0, 0, 2, 10, 1, 0, 2};
    assert_memory_equal(host.control[0], answer, 42);
    struct ch_address them = address_of("10.1.0.2");
    struct ch_neighbour *n = ch_neighbour_find(&host.link.neighbours, &them);
    assert_true(n && ch_neighbour_usable(n, now_ns));
    assert_memory_equal(n->mac, their_mac, 6);

    b = arp(1, "0.0.0.0", "10.1.0.1"); /* somebody probes for our address */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_arp);
    assert_int_equal(host.control_count, 2);
}

static void arp_that_was_not_asked_for_is_not_believed(void **state)
{
    static const struct {
        uint16_t operation;
        const char *sender, *target;
    } cases[] = {
        {2, "10.1.0.3", "10.1.0.1"}, /* an answer without a question */
        {1, "10.1.0.3", "10.1.0.3"}, /* gratuitous, of one that we don't know */
        {1, "10.1.0.3", "10.1.0.4"}, /* a question to another */
        {1, "10.2.0.3", "10.1.0.1"}, /* not on the link */
        {2, "10.1.0.1", "10.1.0.1"}, /* our own address */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = arp(cases[i].operation, cases[i].sender, cases[i].target);
        struct ch_address sender = address_of(cases[i].sender);
        assert_true(is_drop(take(&b)));
        assert_null(ch_neighbour_find(&host.link.neighbours, &sender));
    }
    struct bytes b = arp(1, "10.1.0.3", "10.1.0.1");
    b.data[22] = 0xff; /* a group as sender */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = arp(1, "10.1.0.3", "10.1.0.1"), memset(b.data + 22, 0, 6);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = arp(3, "10.1.0.3", "10.1.0.1");
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = arp(1, "10.1.0.3", "10.1.0.1"), b.data[18] = 8;
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    assert_int_equal(host.control_count, 0);
}

static void neighbour_solicitation_is_answered_and_sender_learned(void **state)
{
    struct bytes b = discovery(135, FROM6, "ff02::1:ff00:1", "fd01::1", 0, 1);
    memcpy(b.data, (uint8_t[6]){0x33, 0x33, 0xff, 0, 0, 1}, 6);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_nd);
    assert_int_equal(host.control_count, 1);
    const uint8_t *f = host.control[0], *nd = f + 54;
    struct ch_address us = address_of(TO6), them = address_of(FROM6);
    assert_memory_equal(f, their_mac, 6);
    assert_memory_equal(f + 22, us.ip, 16);
    assert_memory_equal(f + 38, them.ip, 16);
    assert_int_equal(f[21], 255);
    assert_true(nd[0] == 136 && nd[1] == 0 && nd[4] == 0x60 && nd[24] == 2 && nd[25] == 1);
    assert_memory_equal(nd + 8, us.ip, 16);
    assert_memory_equal(nd + 26, our_mac, 6);
    them.port = 0;
    assert_non_null(ch_neighbour_find(&host.link.neighbours, &them));

    b = discovery(135, "::", "ff02::1:ff00:1", "fd01::1", 0, 0); /* duplicate address detection of ours */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_nd);
    assert_int_equal(host.control_count, 2);
    assert_memory_equal(host.control[1], ((uint8_t[6]){0x33, 0x33, 0, 0, 0, 1}), 6);
}

static void neighbour_discovery_against_its_rules_is_dropped(void **state)
{
    struct bytes b = discovery(135, FROM6, TO6, "fd01::9", 0, 1);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_not_for_us);
    b = discovery(135, FROM6, TO6, "fd01::1", 0, 1), b.data[21] = 254; /* came through a router */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = discovery(135, FROM6, TO6, "ff02::1", 0, 1);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = discovery(135, "::", "ff02::1:ff00:1", "fd01::1", 0, 1); /* no address but a link-layer one */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = discovery(135, "[fd02::2]", TO6, "fd01::1", 0, 1); /* not on the link */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = discovery(136, FROM6, TO6, "fd01::2", 0x60, 2); /* an answer without a question */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = discovery(136, FROM6, "ff02::1", "fd01::2", 0x60, 2);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    uint8_t message[40] = {135};
    struct ch_address target = address_of("fd01::1");
    memcpy(message + 8, target.ip, 16);
    message[24] = 1; /* an option of length 0 would never end */
    b = icmp(FROM6, TO6, message, 32);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    message[25] = 2; /* longer than the message */
    b = icmp(FROM6, TO6, message, 32);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = icmp(FROM6, TO6, message, 25);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    b = icmp(FROM6, TO6, message, 20); /* too short for a target */
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_neighbour);
    assert_int_equal(host.control_count, 0);
}

static void echo_is_answered_with_the_same_bytes(void **state)
{
    for (int six = 0; six < 2; six++) {
        uint8_t message[100] = {six ? 128 : 8, 0, 0, 0, 9, 8, 7, 6};
        for (size_t i = 8; i < sizeof message; i++)
            message[i] = (uint8_t)i;
        struct bytes b = icmp(six ? FROM6 : FROM4, six ? TO6 : TO4, message, sizeof message);
        assert_int_equal(take(&b), CH_PORT_COUNTER_rx_echo);
        const uint8_t *f = host.control[six], *reply = f + (six ? 54 : 34);
        assert_int_equal(host.control_length[six], b.length);
        assert_memory_equal(f, their_mac, 6);
        assert_memory_equal(f + 6, our_mac, 6);
        assert_int_equal(reply[0], six ? 129 : 0);
        assert_memory_equal(reply + 4, message + 4, sizeof message - 4);
        struct ch_frame parsed;
        uint8_t copy[CH_FRAME_BYTES];
        memcpy(copy, f, b.length);
        ch_frame_parse(copy, b.length, false, &parsed);
        assert_true(parsed.kind == CH_FRAME_ICMP && ch_frame_checksum_holds(&parsed));
        b = icmp(six ? FROM6 : FROM4, six ? "ff02::1" : "10.1.0.255", message, sizeof message);
        assert_int_equal(take(&b), CH_PORT_COUNTER_rx_drop_not_for_us);
    }
    assert_int_equal(host.control_count, 2);
}

/* What happens to a datagram sent now. `handle` is its name. */
static enum ch_link_verdict send_to(const char *to, uint32_t local, uintptr_t handle)
{
    static uint8_t buffer[CH_LINK_HEADROOM_BYTES + 64];
    uint8_t *frame = NULL;
    struct ch_packet packet = {.remote = address_of(to),
                               .payload = buffer + CH_LINK_HEADROOM_BYTES,
                               .handle = (void *)handle,
                               .length = 20,
                               .local = local};
    enum ch_link_verdict verdict = ch_link_output(&host.link, now_ns, &packet, &frame);
    if (verdict == CH_LINK_SEND) {
        uint8_t expected[6];
        memcpy(expected, frame, 6);
        assert_memory_equal(expected, their_mac, 6);
    }
    return verdict;
}

static void unknown_neighbour_is_asked_and_answer_releases_in_order(void **state)
{
    assert_int_equal(send_to("10.1.0.2:9", 0, 1), CH_LINK_WAITS);
    assert_int_equal(send_to("10.1.0.2:10", 2, 2), CH_LINK_WAITS);
    assert_int_equal(host.control_count, 1); /* asked once */
    assert_memory_equal(host.control[0], everybody, 6);
    struct bytes b = arp(2, "10.1.0.2", "10.1.0.1");
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_arp);
    assert_int_equal(host.resolved_count, 2);
    assert_true(host.resolved[0] == (void *)1 && host.resolved[1] == (void *)2);
    assert_memory_equal(host.resolved_mac, their_mac, 6);
    assert_int_equal(send_to("10.1.0.2:9", 0, 3), CH_LINK_SEND);

    assert_int_equal(send_to("[fd01::2]:9", 1, 4), CH_LINK_WAITS);
    assert_int_equal(host.control_count, 2);
    assert_memory_equal(host.control[1], ((uint8_t[6]){0x33, 0x33, 0xff, 0, 0, 2}), 6);
    b = discovery(136, FROM6, TO6, "fd01::2", 0x60, 2);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_nd);
    assert_int_equal(host.resolved_count, 3);
    assert_int_equal(send_to("[fd01::2]:9", 1, 5), CH_LINK_SEND);
}

static void silent_neighbour_is_asked_three_times_then_given_up(void **state)
{
    for (uintptr_t i = 1; i <= CH_NEIGHBOUR_WAITING_ONE; i++)
        assert_int_equal(send_to("10.1.0.3:9", 0, i), CH_LINK_WAITS);
    assert_int_equal(send_to("10.1.0.3:9", 0, 99), CH_LINK_UNRESOLVED);
    for (int tenth = 0; tenth < 40; tenth++) {
        now_ns += SECOND_NS / 10;
        ch_link_tick(&host.link, now_ns);
    }
    size_t questions = 0;
    for (size_t i = 0; i < host.control_count; i++)
        questions += host.control[i][41] == 3 && host.control[i][13] == 6;
    assert_int_equal(questions, 3);
    assert_int_equal(host.unresolved_count, CH_NEIGHBOUR_WAITING_ONE);
    for (uintptr_t i = 0; i < CH_NEIGHBOUR_WAITING_ONE; i++)
        assert_true(host.unresolved[i] == (void *)(i + 1));
    assert_int_equal(host.link.neighbours.waiting_count, 0);
    assert_int_equal(send_to("10.1.0.3:9", 0, 1), CH_LINK_WAITS); /* asked anew */
}

static void waiting_in_all_is_bounded_and_drained_at_the_end(void **state)
{
    uintptr_t waits = 0;
    for (int n = 2; n < 42; n++)
        for (int i = 0; i < 10; i++) {
            char to[32];
            snprintf(to, sizeof to, "10.1.0.%d:9", n);
            waits += send_to(to, 0, waits + 1) == CH_LINK_WAITS;
        }
    assert_int_equal(waits, CH_NEIGHBOUR_WAITING_MAX);
    ch_link_drain(&host.link);
    assert_int_equal(host.unresolved_count, waits);
    assert_int_equal(host.link.neighbours.waiting_count, 0);
    assert_int_equal(host.link.neighbours.asked_count, 0);
}

static void stale_neighbour_is_asked_again_while_in_use_and_expires(void **state)
{
    struct bytes b = arp(1, "10.1.0.2", "10.1.0.1");
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_arp);
    host.control_count = 0;
    now_ns += CH_NEIGHBOUR_FRESH_NS - 1;
    assert_int_equal(send_to("10.1.0.2:9", 0, 1), CH_LINK_SEND);
    assert_int_equal(host.control_count, 0);
    now_ns += 1;
    assert_int_equal(send_to("10.1.0.2:9", 0, 2), CH_LINK_SEND);
    assert_int_equal(send_to("10.1.0.2:9", 0, 3), CH_LINK_SEND);
    assert_int_equal(host.control_count, 1); /* beside the use, to that host alone, once a second */
    assert_memory_equal(host.control[0], their_mac, 6);
    now_ns += CH_NEIGHBOUR_VALID_NS - CH_NEIGHBOUR_FRESH_NS;
    assert_int_equal(send_to("10.1.0.2:9", 0, 4), CH_LINK_WAITS);
    b = arp(2, "10.1.0.2", "10.1.0.1");
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_arp);
    assert_int_equal(send_to("10.1.0.2:9", 0, 5), CH_LINK_SEND);
}

static void off_link_goes_to_the_gateway_of_its_family(void **state)
{
    assert_int_equal(send_to("192.0.2.5:9", 0, 1), CH_LINK_WAITS); /* the gateway was asked for at the start */
    struct bytes b = arp(2, "10.1.0.254", "10.1.0.1");
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_arp);
    assert_int_equal(host.resolved_count, 1);
    assert_int_equal(send_to("198.51.100.1:9", 0, 2), CH_LINK_SEND);
    assert_int_equal(send_to("[2001:db8::5]:9", 1, 3), CH_LINK_WAITS);
    b = discovery(136, "[fe80::fe]", TO6, "fe80::fe", 0x60, 2);
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_nd);
    assert_int_equal(send_to("[2001:db8::6]:9", 1, 4), CH_LINK_SEND);
    static const char *const nowhere[] = {"[fd01::2]:9", "224.0.0.1:9", "255.255.255.255:9",
                                          "0.0.0.0:9",   "10.1.0.1:9",  "10.1.0.2:0"};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(send_to(nowhere[i], 0, 5), CH_LINK_NO_ROUTE);
    assert_int_equal(send_to("[ff02::1]:9", 1, 5), CH_LINK_NO_ROUTE);
}

static void flood_of_questions_forgets_nobody_in_use(void **state)
{
    struct bytes b = arp(2, "10.1.0.254", "10.1.0.1");
    assert_int_equal(take(&b), CH_PORT_COUNTER_rx_arp);
    for (int i = 0; i < 100000; i++) {
        char sender[48];
        snprintf(sender, sizeof sender, "[fd01::%x:%x]", i >> 12 | 0x8000, i & 0xfff);
        b = discovery(135, sender, TO6, "fd01::1", 0, 1);
        assert_int_equal(take(&b), CH_PORT_COUNTER_rx_nd); /* answered, remembered or not */
        if (i % 50 == 0)
            host.control_count = 0;
    }
    assert_int_equal(send_to("192.0.2.5:9", 0, 1), CH_LINK_SEND);
    assert_int_equal(send_to("[fd01::5]:9", 1, 1), CH_LINK_WAITS); /* and we can still ask for others */
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, fresh_host)
    const struct CMUnitTest tests[] = {
        CASE(checksum_is_that_of_rfc_1071),
        CASE(datagrams_of_every_length_come_back_whole),
        CASE(padding_of_short_frames_is_cut_off),
        CASE(truncated_at_every_length_is_dropped),
        CASE(bit_flipped_is_dropped_or_changes_nothing),
        CASE(each_malformation_has_its_reason),
        CASE(random_frames_are_dropped_and_nothing_is_sent),
        CASE(arp_request_is_answered_and_sender_learned),
        CASE(arp_that_was_not_asked_for_is_not_believed),
        CASE(neighbour_solicitation_is_answered_and_sender_learned),
        CASE(neighbour_discovery_against_its_rules_is_dropped),
        CASE(echo_is_answered_with_the_same_bytes),
        CASE(unknown_neighbour_is_asked_and_answer_releases_in_order),
        CASE(silent_neighbour_is_asked_three_times_then_given_up),
        CASE(waiting_in_all_is_bounded_and_drained_at_the_end),
        CASE(stale_neighbour_is_asked_again_while_in_use_and_expires),
        CASE(off_link_goes_to_the_gateway_of_its_family),
        CASE(flood_of_questions_forgets_nobody_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
