#include "dataplane/link.h"

#include "base/bytes.h"
#include "dataplane/port_kind.h"

#define ARP_REQUEST 1
#define ARP_REPLY   2

#define ICMP4_ECHO_REPLY  0
#define ICMP4_ECHO        8
#define ICMP6_ECHO        128
#define ICMP6_ECHO_REPLY  129
#define ND_SOLICITATION   135
#define ND_ADVERTISEMENT  136
#define ND_BYTES          24 /* type, code, checksum, flags, target */
#define ND_OPTION_SOURCE  1
#define ND_OPTION_TARGET  2
#define ND_FLAG_SOLICITED 0x40
#define ND_FLAG_OVERRIDE  0x20
#define TICK_NS           UINT64_C(100000000)

static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const struct ch_address all_nodes = {.ip = {0xff, 2, [15] = 1}};
static const uint8_t unspecified[16];

static bool is_zero(const struct ch_address *a)
{
    return memcmp(a->ip, unspecified, 16) == 0;
}

static bool is_link_local(const struct ch_address *a)
{
    return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* ff02::1:ffXX:XXXX of an address (RFC 4291 2.7.1) */
static struct ch_address solicited_node(const struct ch_address *of)
{
    struct ch_address a = {.ip = {0xff, 2, [11] = 1, [12] = 0xff}};
    memcpy(a.ip + 13, of->ip + 13, 3);
    return a;
}

static void multicast_mac(const struct ch_address *group, uint8_t mac[6])
{
    mac[0] = mac[1] = 0x33; /* RFC 2464 7 */
    memcpy(mac + 2, group->ip + 12, 4);
}

/* The index of the first local with this IP, or -1. */
static int local_of(const struct ch_link *link, const struct ch_address *ip)
{
    for (size_t i = 0; i < link->local_count; i++)
        if (ch_address_same_ip(&link->locals[i].address, ip))
            return (int)i;
    return -1;
}

/* The first local on whose network this address is, or -1. */
static int local_near(const struct ch_link *link, const struct ch_address *ip)
{
    for (size_t i = 0; i < link->local_count; i++)
        if (ch_address_in_prefix(ip, &link->locals[i].address, link->locals[i].prefix_bits) ||
            (is_link_local(ip) && !ch_address_is4(&link->locals[i].address)))
            return (int)i;
    return -1;
}

ch_err ch_link_init(struct ch_link *link, const struct ch_port_config *config, const uint8_t mac[6], uint64_t key,
                    const struct ch_link_io *io, char why[CH_PORT_WHY_BYTES])
{
    char text[CH_ADDRESS_TEXT_BYTES];
    memset(link, 0, sizeof *link);
    link->io = *io;
    memcpy(link->mac, mac, 6);
    link->local_count = config->local_count;
    memcpy(link->locals, config->locals, config->local_count * sizeof *config->locals);
    for (size_t i = 0; i < link->local_count; i++) {
        const struct ch_port_local *local = &link->locals[i];
        const uint8_t *ip = local->address.ip;
        bool is4 = ch_address_is4(&local->address);
        ch_address_format(&local->address, text);
        if (local->address.port == 0)
            return ch_port_fail(why, CH_ERR_INVALID, "local address %s needs a UDP port", text);
        if (local->prefix_bits > (is4 ? 32 : 128))
            return ch_port_fail(why, CH_ERR_INVALID, "local address %s: a prefix of %u bits", text, local->prefix_bits);
        if (is4 ? ip[12] == 0 || ip[12] == 127 || ip[12] >= 224 : is_zero(&local->address) || ip[0] == 0xff)
            return ch_port_fail(why, CH_ERR_INVALID, "local address %s is none that a host can have", text);
    }
    const struct ch_address *gateways[2] = {&config->gateway4, &config->gateway6};
    for (int i = 0; i < 2; i++) {
        if (is_zero(gateways[i]))
            continue;
        ch_address_format(gateways[i], text);
        if (ch_address_is4(gateways[i]) != (i == 0) || local_near(link, gateways[i]) < 0 ||
            local_of(link, gateways[i]) >= 0)
            return ch_port_fail(why, CH_ERR_INVALID, "gateway %s is not on the network of a local address", text);
        link->gateway[i] = *gateways[i];
        link->has_gateway[i] = true;
    }
    ch_neighbours_init(&link->neighbours, key);
    return CH_OK;
}

static void send_arp(struct ch_link *link, uint16_t operation, const struct ch_address *from,
                     const struct ch_address *to, const uint8_t target_mac[6], const uint8_t frame_mac[6])
{
    uint8_t frame[CH_ETHERNET_BYTES + CH_ARP_BYTES], *arp = frame + CH_ETHERNET_BYTES;
    memcpy(frame, frame_mac, 6);
    memcpy(frame + 6, link->mac, 6);
    ch_store16_net(frame + 12, 0x0806);
    memcpy(arp, (uint8_t[6]){0, 1, 8, 0, 6, 4}, 6);
    ch_store16_net(arp + 6, operation);
    memcpy(arp + 8, link->mac, 6);
    memcpy(arp + 14, from->ip + 12, 4);
    memcpy(arp + 18, target_mac, 6);
    memcpy(arp + 24, to->ip + 12, 4);
    link->io.control(link->io.context, frame, sizeof frame);
}

/* A neighbour solicitation or advertisement about `target`, with our link-layer address as its option. */
static void send_nd(struct ch_link *link, uint8_t type, uint8_t flags, const struct ch_address *target,
                    const struct ch_address *from, const struct ch_address *to, const uint8_t frame_mac[6])
{
    uint8_t buffer[CH_ETHERNET_BYTES + CH_IPV6_BYTES + ND_BYTES + 8] = {0};
    uint8_t *message = buffer + CH_ETHERNET_BYTES + CH_IPV6_BYTES;
    message[0] = type;
    message[4] = flags;
    memcpy(message + 8, target->ip, 16);
    message[ND_BYTES] = type == ND_SOLICITATION ? ND_OPTION_SOURCE : ND_OPTION_TARGET;
    message[ND_BYTES + 1] = 1;
    memcpy(message + ND_BYTES + 2, link->mac, 6);
    uint8_t *frame = ch_frame_build_icmp(message, ND_BYTES + 8, from, to, link->mac, frame_mac);
    link->io.control(link->io.context, frame, sizeof buffer);
}

/* Asks who has an entry's address: everybody, or the one who had it last where it is still in use. */
static void ask(struct ch_link *link, struct ch_neighbour *entry, uint64_t now_ns)
{
    const struct ch_address *from = &link->locals[entry->local].address, *target = &entry->address;
    bool known = ch_neighbour_usable(entry, now_ns);
    ch_neighbour_asked(&link->neighbours, entry, now_ns);
    if (ch_address_is4(target)) {
        static const uint8_t unknown[6];
        send_arp(link, ARP_REQUEST, from, target, unknown, known ? entry->mac : broadcast);
    } else {
        struct ch_address group = solicited_node(target);
        uint8_t mac[6];
        multicast_mac(&group, mac);
        send_nd(link, ND_SOLICITATION, 0, target, from, known ? target : &group, known ? entry->mac : mac);
    }
}

/* Says who we are (RFC 5227 3, RFC 4861 7.2.6), and asks for the gateways before somebody needs them. */
static void announce(struct ch_link *link, uint64_t now_ns)
{
    for (size_t i = 0; i < link->local_count; i++) {
        const struct ch_address *own = &link->locals[i].address;
        if (local_of(link, own) != (int)i)
            continue;
        if (ch_address_is4(own)) {
            send_arp(link, ARP_REQUEST, own, own, broadcast, broadcast);
        } else {
            uint8_t mac[6];
            multicast_mac(&all_nodes, mac);
            send_nd(link, ND_ADVERTISEMENT, ND_FLAG_OVERRIDE, own, own, &all_nodes, mac);
        }
    }
    for (int i = 0; i < 2; i++) {
        struct ch_neighbour *entry =
            link->has_gateway[i] ? ch_neighbour_make(&link->neighbours, &link->gateway[i], true, now_ns) : NULL;
        if (entry) {
            entry->local = (uint16_t)local_near(link, &link->gateway[i]);
            ask(link, entry, now_ns);
        }
    }
}

/* Somebody said that `address` is at `mac`. `asked_us`: in a question to us. False when that is nothing to believe. */
static bool learn(struct ch_link *link, uint64_t now_ns, const struct ch_address *address, const uint8_t mac[6],
                  bool asked_us)
{
    struct ch_neighbours *n = &link->neighbours;
    int near = local_near(link, address);
    if ((mac[0] & 1) || memcmp(mac, unspecified, 6) == 0 || memcmp(mac, link->mac, 6) == 0 || near < 0 ||
        local_of(link, address) >= 0)
        return false;
    struct ch_neighbour *entry = ch_neighbour_find(n, address);
    if (!entry && asked_us) {
        entry = ch_neighbour_make(n, address, false, now_ns);
        if (!entry)
            return true;
        entry->local = (uint16_t)near;
    }
    if (!entry)
        return false;
    ch_neighbour_confirm(n, entry, mac, now_ns);
    for (void *handle; (handle = ch_neighbour_next(n, entry));)
        link->io.resolved(link->io.context, handle, mac);
    return true;
}

static enum ch_port_counter input_arp(struct ch_link *link, uint64_t now_ns, const uint8_t *arp)
{
    static const uint8_t ipv4_over_ethernet[6] = {0, 1, 8, 0, 6, 4};
    uint16_t operation = ch_load16_net(arp + 6);
    struct ch_address from = ch_address_from4(arp + 14, 0), to = ch_address_from4(arp + 24, 0);
    if (memcmp(arp, ipv4_over_ethernet, 6) != 0 || (operation != ARP_REQUEST && operation != ARP_REPLY))
        return CH_PORT_COUNTER_rx_drop_neighbour;
    int local = local_of(link, &to);
    bool asked_us = operation == ARP_REQUEST && local >= 0, probe = ch_load32(arp + 14) == 0; /* RFC 5227 */
    if (!(probe && asked_us) && !learn(link, now_ns, &from, arp + 8, asked_us))
        return local < 0 && operation == ARP_REQUEST ? CH_PORT_COUNTER_rx_drop_not_for_us
                                                     : CH_PORT_COUNTER_rx_drop_neighbour;
    if (asked_us)
        send_arp(link, ARP_REPLY, &link->locals[local].address, &from, arp + 8, arp + 8);
    return CH_PORT_COUNTER_rx_arp;
}

/* The link-layer address that an option of `type` gives, NULL in *mac without one; false when options break their
 * rules. */
static bool nd_option(const uint8_t *at, size_t left, uint8_t type, const uint8_t **mac)
{
    for (*mac = NULL; left > 0;) {
        size_t length = left >= 2 ? (size_t)at[1] * 8 : 0;
        if (length == 0 || length > left)
            return false;
        if (at[0] == type && length == 8)
            *mac = at + 2;
        at += length;
        left -= length;
    }
    return true;
}

static enum ch_port_counter input_solicitation(struct ch_link *link, uint64_t now_ns, const struct ch_frame *f,
                                               const uint8_t *source_mac)
{
    struct ch_address target = ch_address_from6(f->body + 8, 0);
    const uint8_t *mac;
    if (!nd_option(f->body + ND_BYTES, f->body_length - ND_BYTES, ND_OPTION_SOURCE, &mac))
        return CH_PORT_COUNTER_rx_drop_neighbour;
    int local = local_of(link, &target);
    if (local < 0)
        return CH_PORT_COUNTER_rx_drop_not_for_us;
    const struct ch_address *own = &link->locals[local].address;
    if (is_zero(&f->from)) { /* somebody wants to take our address (RFC 4862 5.4): say that it is taken */
        uint8_t group[6];
        multicast_mac(&all_nodes, group);
        if (mac)
            return CH_PORT_COUNTER_rx_drop_neighbour;
        send_nd(link, ND_ADVERTISEMENT, ND_FLAG_OVERRIDE, own, own, &all_nodes, group);
        return CH_PORT_COUNTER_rx_nd;
    }
    if (mac && !learn(link, now_ns, &f->from, mac, true))
        return CH_PORT_COUNTER_rx_drop_neighbour;
    send_nd(link, ND_ADVERTISEMENT, ND_FLAG_SOLICITED | ND_FLAG_OVERRIDE, own, own, &f->from, mac ? mac : source_mac);
    return CH_PORT_COUNTER_rx_nd;
}

static enum ch_port_counter input_advertisement(struct ch_link *link, uint64_t now_ns, const struct ch_frame *f)
{
    struct ch_address target = ch_address_from6(f->body + 8, 0);
    const uint8_t *mac;
    if (!nd_option(f->body + ND_BYTES, f->body_length - ND_BYTES, ND_OPTION_TARGET, &mac) || !mac ||
        is_zero(&f->from) || (f->to.ip[0] == 0xff && (f->body[4] & ND_FLAG_SOLICITED)) ||
        !learn(link, now_ns, &target, mac, false))
        return CH_PORT_COUNTER_rx_drop_neighbour;
    return CH_PORT_COUNTER_rx_nd;
}

static enum ch_port_counter input_echo(struct ch_link *link, struct ch_frame *f, uint8_t reply,
                                       const uint8_t *source_mac)
{
    if (is_zero(&f->from))
        return CH_PORT_COUNTER_rx_drop_malformed;
    /* back to where it came from, in the frame that it came in */
    uint8_t to_mac[6];
    memcpy(to_mac, source_mac, 6);
    f->body[0] = reply;
    uint8_t *frame = ch_frame_build_icmp(f->body, f->body_length, &f->to, &f->from, link->mac, to_mac);
    link->io.control(link->io.context, frame, (size_t)(f->body + f->body_length - frame));
    return CH_PORT_COUNTER_rx_echo;
}

static enum ch_port_counter input_icmp(struct ch_link *link, uint64_t now_ns, struct ch_frame *f,
                                       const uint8_t *ethernet)
{
    uint8_t type = f->body[0], code = f->body[1];
    bool own = local_of(link, &f->to) >= 0, multicast = ethernet[0] & 1;
    bool discovery = !f->is4 && (type == ND_SOLICITATION || type == ND_ADVERTISEMENT);
    /* to us alone; neighbour discovery also to all nodes or to those whose addresses end like ours */
    bool group = ch_address_same_ip(&f->to, &all_nodes);
    for (size_t i = 0; discovery && !group && i < link->local_count; i++) {
        struct ch_address node = solicited_node(&link->locals[i].address);
        group = !ch_address_is4(&link->locals[i].address) && ch_address_same_ip(&f->to, &node);
    }
    if (discovery ? !own && !group : !own || multicast)
        return CH_PORT_COUNTER_rx_drop_not_for_us;
    if (!ch_frame_checksum_holds(f))
        return CH_PORT_COUNTER_rx_drop_checksum;
    if (discovery) {
        if (f->hop_limit != 255 || code != 0 || f->body_length < ND_BYTES || f->body[8] == 0xff)
            return CH_PORT_COUNTER_rx_drop_neighbour;
        return type == ND_SOLICITATION ? input_solicitation(link, now_ns, f, ethernet + 6)
                                       : input_advertisement(link, now_ns, f);
    }
    if (type == (f->is4 ? ICMP4_ECHO : ICMP6_ECHO) && code == 0)
        return input_echo(link, f, f->is4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY, ethernet + 6);
    return CH_PORT_COUNTER_rx_drop_protocol;
}

static enum ch_port_counter input_udp(struct ch_link *link, struct ch_frame *f, bool multicast,
                                      enum ch_port_checksum checksum, struct ch_packet *out)
{
    int local = -1;
    bool own = false;
    for (size_t i = 0; i < link->local_count && local < 0; i++)
        if (ch_address_same_ip(&link->locals[i].address, &f->to)) {
            own = true;
            if (link->locals[i].address.port == f->to.port)
                local = (int)i;
        }
    if (!own || multicast)
        return CH_PORT_COUNTER_rx_drop_not_for_us;
    if (checksum == CH_PORT_CHECKSUM_VERIFY && !ch_frame_checksum_holds(f))
        return CH_PORT_COUNTER_rx_drop_checksum;
    if (local < 0)
        return CH_PORT_COUNTER_rx_drop_no_port;
    if (local_of(link, &f->from) >= 0)
        return CH_PORT_COUNTER_rx_drop_malformed;
    out->remote = f->from;
    out->payload = f->body;
    out->length = f->body_length;
    out->local = (uint32_t)local;
    return CH_PORT_COUNTER_rx_datagrams;
}

enum ch_port_counter ch_link_input(struct ch_link *link, uint64_t now_ns, uint8_t *frame, size_t length,
                                   enum ch_port_checksum checksum, struct ch_packet *out)
{
    if (length < CH_ETHERNET_BYTES)
        return CH_PORT_COUNTER_rx_drop_truncated;
    bool multicast = frame[0] & 1;
    /* to another, or from ourselves: a packet socket also shows what the kernel sends on the interface */
    if ((!multicast && memcmp(frame, link->mac, 6) != 0) || memcmp(frame + 6, link->mac, 6) == 0)
        return CH_PORT_COUNTER_rx_drop_not_for_us;
    struct ch_frame f;
    ch_frame_parse(frame, length, checksum == CH_PORT_CHECKSUM_TRUST, &f);
    switch (f.kind) {
    case CH_FRAME_UDP:
        return input_udp(link, &f, multicast, checksum, out);
    case CH_FRAME_ARP:
        return input_arp(link, now_ns, f.body);
    case CH_FRAME_ICMP:
        return input_icmp(link, now_ns, &f, frame);
    case CH_FRAME_DROP:
        break;
    }
    return f.drop;
}

enum ch_link_verdict ch_link_output(struct ch_link *link, uint64_t now_ns, const struct ch_packet *packet,
                                    uint8_t **frame)
{
    static const uint8_t later[6];
    const struct ch_port_local *local = &link->locals[packet->local];
    bool is4 = ch_address_is4(&packet->remote);
    const struct ch_address *hop = &packet->remote;
    if (is4 != ch_address_is4(&local->address) || packet->remote.port == 0 || (hop->ip[0] == 0xff && !is4) ||
        (is4 && (hop->ip[12] >= 224 || hop->ip[12] == 0)) || local_of(link, hop) >= 0)
        return CH_LINK_NO_ROUTE;
    if (!ch_address_in_prefix(hop, &local->address, local->prefix_bits) && !is_link_local(hop)) {
        if (!link->has_gateway[!is4])
            return CH_LINK_NO_ROUTE;
        hop = &link->gateway[!is4];
    }
    struct ch_neighbour *entry = ch_neighbour_find(&link->neighbours, hop);
    if (!entry || !ch_neighbour_usable(entry, now_ns)) {
        if (!entry)
            entry = ch_neighbour_make(&link->neighbours, hop, true, now_ns);
        if (!entry)
            return CH_LINK_UNRESOLVED;
        entry->local = (uint16_t)packet->local;
        if (entry->state != CH_NEIGHBOUR_ASKED)
            ask(link, entry, now_ns);
        *frame =
            ch_frame_build_udp(packet->payload, packet->length, &local->address, &packet->remote, link->mac, later);
        return ch_neighbour_wait(&link->neighbours, entry, packet->handle) ? CH_LINK_WAITS : CH_LINK_UNRESOLVED;
    }
    if (ch_neighbour_stale(entry, now_ns)) {
        entry->local = (uint16_t)packet->local;
        ask(link, entry, now_ns);
    }
    *frame =
        ch_frame_build_udp(packet->payload, packet->length, &local->address, &packet->remote, link->mac, entry->mac);
    return CH_LINK_SEND;
}

static void give_up(struct ch_link *link, struct ch_neighbour *entry)
{
    for (void *handle; (handle = ch_neighbour_next(&link->neighbours, entry));)
        link->io.unresolved(link->io.context, handle);
    ch_neighbour_forget(&link->neighbours, entry);
}

void ch_link_tick(struct ch_link *link, uint64_t now_ns)
{
    if (link->announced && now_ns - link->tick_ns < TICK_NS)
        return;
    if (!link->announced)
        announce(link, now_ns);
    link->announced = true;
    link->tick_ns = now_ns;
    size_t at = 0;
    for (struct ch_neighbour *entry; (entry = ch_neighbour_due(&link->neighbours, &at, now_ns));) {
        if (entry->tries >= CH_NEIGHBOUR_TRIES)
            give_up(link, entry);
        else
            ask(link, entry, now_ns);
    }
}

void ch_link_drain(struct ch_link *link)
{
    for (size_t i = 0; i < CH_NEIGHBOUR_ENTRIES; i++)
        if (link->neighbours.entries[i].state != CH_NEIGHBOUR_FREE)
            give_up(link, &link->neighbours.entries[i]);
}
