#include "dataplane/packet.h"

#include "base/bytes.h"

#define TYPE_IPV4 0x0800
#define TYPE_ARP  0x0806
#define TYPE_IPV6 0x86dd

#define PROTOCOL_ICMP   1
#define PROTOCOL_UDP    17
#define PROTOCOL_ICMPV6 58
#define HOPS            64

uint64_t ch_checksum_add(uint64_t sum, const void *data, size_t length)
{
    const uint8_t *p = data;
    /* one's complement sums may be taken over 32-bit words and folded later (RFC 1071 2.C) */
    for (; length >= 16; p += 16, length -= 16)
        sum += (uint64_t)ch_load32(p) + ch_load32(p + 4) + ch_load32(p + 8) + ch_load32(p + 12);
    for (; length >= 2; p += 2, length -= 2)
        sum += ch_load16(p);
    return length ? sum + *p : sum;
}

uint16_t ch_checksum_end(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)~sum;
}

/* The pseudo-header of RFC 768 and RFC 8200 8.1. Addresses, a zero, protocol, length: in either family the sum is the
 * same kind. */
static uint64_t pseudo_header(const struct ch_address *from, const struct ch_address *to, bool is4, uint8_t protocol,
                              size_t length)
{
    size_t skip = is4 ? 12 : 0;
    uint64_t sum = ch_checksum_add(0, from->ip + skip, 16 - skip);
    sum = ch_checksum_add(sum, to->ip + skip, 16 - skip);
    uint8_t rest[4] = {0, protocol};
    ch_store16_net(rest + 2, (uint16_t)length);
    return ch_checksum_add(sum, rest, 4);
}

static void drop(struct ch_frame *f, enum ch_port_counter why)
{
    f->kind = CH_FRAME_DROP;
    f->drop = why;
}

static bool source_possible(const struct ch_address *from, bool is4)
{
    if (is4) /* not "this network", loopback, multicast, reserved or broadcast */
        return from->ip[12] != 0 && from->ip[12] != 127 && from->ip[12] < 224;
    static const uint8_t loopback[16] = {[15] = 1};
    return from->ip[0] != 0xff && memcmp(from->ip, loopback, 16) != 0 && !ch_address_is4(from);
}

static void parse_udp(struct ch_frame *f, uint8_t *udp, size_t length)
{
    if (length < CH_UDP_BYTES || ch_load16_net(udp + 4) > length)
        return drop(f, CH_PORT_COUNTER_rx_drop_truncated);
    static const uint8_t unspecified[16];
    f->from.port = ch_load16_net(udp);
    f->to.port = ch_load16_net(udp + 2);
    if (ch_load16_net(udp + 4) != length || f->from.port == 0 || memcmp(f->from.ip, unspecified, 16) == 0)
        return drop(f, CH_PORT_COUNTER_rx_drop_malformed);
    f->kind = CH_FRAME_UDP;
    f->body = udp + CH_UDP_BYTES;
    f->body_length = (uint32_t)(length - CH_UDP_BYTES);
}

static void parse_icmp(struct ch_frame *f, uint8_t *icmp, size_t length)
{
    if (length < 8)
        return drop(f, CH_PORT_COUNTER_rx_drop_truncated);
    f->kind = CH_FRAME_ICMP;
    f->body = icmp;
    f->body_length = (uint32_t)length;
}

static void parse4(struct ch_frame *f, uint8_t *ip, size_t left, bool trust)
{
    if (left < CH_IPV4_BYTES)
        return drop(f, CH_PORT_COUNTER_rx_drop_truncated);
    size_t header = (size_t)(ip[0] & 15) * 4, length = ch_load16_net(ip + 2);
    if (ip[0] >> 4 != 4 || header < CH_IPV4_BYTES || length < header)
        return drop(f, CH_PORT_COUNTER_rx_drop_malformed);
    if (left < length)
        return drop(f, CH_PORT_COUNTER_rx_drop_truncated);
    if (!trust && ch_checksum_end(ch_checksum_add(0, ip, header)) != 0)
        return drop(f, CH_PORT_COUNTER_rx_drop_checksum);
    if (ch_load16_net(ip + 6) & 0x3fff) /* more fragments, or an offset */
        return drop(f, CH_PORT_COUNTER_rx_drop_fragment);
    if (header > CH_IPV4_BYTES)
        return drop(f, CH_PORT_COUNTER_rx_drop_options);
    f->is4 = true;
    f->hop_limit = ip[8];
    f->from = ch_address_from4(ip + 12, 0);
    f->to = ch_address_from4(ip + 16, 0);
    if (!source_possible(&f->from, true))
        return drop(f, CH_PORT_COUNTER_rx_drop_malformed);
    if (ip[9] == PROTOCOL_UDP)
        return parse_udp(f, ip + header, length - header);
    if (ip[9] == PROTOCOL_ICMP)
        return parse_icmp(f, ip + header, length - header);
    drop(f, CH_PORT_COUNTER_rx_drop_protocol);
}

static void parse6(struct ch_frame *f, uint8_t *ip, size_t left)
{
    if (left < CH_IPV6_BYTES)
        return drop(f, CH_PORT_COUNTER_rx_drop_truncated);
    size_t length = ch_load16_net(ip + 4);
    if (ip[0] >> 4 != 6)
        return drop(f, CH_PORT_COUNTER_rx_drop_malformed);
    if (left < CH_IPV6_BYTES + length)
        return drop(f, CH_PORT_COUNTER_rx_drop_truncated);
    f->is4 = false;
    f->hop_limit = ip[7];
    f->from = ch_address_from6(ip + 8, 0);
    f->to = ch_address_from6(ip + 24, 0);
    if (!source_possible(&f->from, false) || ch_address_is4(&f->to))
        return drop(f, CH_PORT_COUNTER_rx_drop_malformed);
    switch (ip[6]) {
    case PROTOCOL_UDP:
        return parse_udp(f, ip + CH_IPV6_BYTES, length);
    case PROTOCOL_ICMPV6:
        return parse_icmp(f, ip + CH_IPV6_BYTES, length);
    case 44:
        return drop(f, CH_PORT_COUNTER_rx_drop_fragment);
    case 0: /* hop-by-hop, routing, ESP, AH, destination options, mobility, HIP, shim6 */
    case 43:
    case 50:
    case 51:
    case 60:
    case 135:
    case 139:
    case 140:
        return drop(f, CH_PORT_COUNTER_rx_drop_options);
    default:
        return drop(f, CH_PORT_COUNTER_rx_drop_protocol);
    }
}

void ch_frame_parse(uint8_t *bytes, size_t length, bool trust, struct ch_frame *out)
{
    out->body = NULL;
    out->body_length = 0;
    out->drop = CH_PORT_COUNTER_COUNT;
    if (length < CH_ETHERNET_BYTES)
        return drop(out, CH_PORT_COUNTER_rx_drop_truncated);
    uint8_t *body = bytes + CH_ETHERNET_BYTES;
    size_t left = length - CH_ETHERNET_BYTES;
    switch (ch_load16_net(bytes + 12)) {
    case TYPE_IPV4:
        return parse4(out, body, left, trust);
    case TYPE_IPV6:
        return parse6(out, body, left);
    case TYPE_ARP:
        if (left < CH_ARP_BYTES)
            return drop(out, CH_PORT_COUNTER_rx_drop_truncated);
        out->kind = CH_FRAME_ARP;
        out->body = body;
        out->body_length = CH_ARP_BYTES;
        return;
    default:
        return drop(out, CH_PORT_COUNTER_rx_drop_protocol);
    }
}

bool ch_frame_checksum_holds(const struct ch_frame *f)
{
    if (f->kind == CH_FRAME_UDP) {
        const uint8_t *udp = f->body - CH_UDP_BYTES;
        size_t length = f->body_length + CH_UDP_BYTES;
        if (ch_load16(udp + 6) == 0)
            return f->is4;
        uint64_t sum = pseudo_header(&f->from, &f->to, f->is4, PROTOCOL_UDP, length);
        return ch_checksum_end(ch_checksum_add(sum, udp, length)) == 0;
    }
    uint64_t sum = f->is4 ? 0 : pseudo_header(&f->from, &f->to, false, PROTOCOL_ICMPV6, f->body_length);
    return ch_checksum_end(ch_checksum_add(sum, f->body, f->body_length)) == 0;
}

static uint8_t *build_ip(uint8_t *body, size_t length, uint8_t protocol, uint8_t hops, const struct ch_address *from,
                         const struct ch_address *to, const uint8_t from_mac[6], const uint8_t to_mac[6])
{
    uint8_t *ip;
    bool is4 = ch_address_is4(to);
    if (is4) {
        ip = body - CH_IPV4_BYTES;
        /* identification 0 is right for what is never fragmented (RFC 6864 4.1): "don't fragment" is set */
        memcpy(ip, (uint8_t[12]){0x45, 0, 0, 0, 0, 0, 0x40, 0, hops, protocol, 0, 0}, 12);
        ch_store16_net(ip + 2, (uint16_t)(CH_IPV4_BYTES + length));
        memcpy(ip + 12, from->ip + 12, 4);
        memcpy(ip + 16, to->ip + 12, 4);
        ch_store16(ip + 10, ch_checksum_end(ch_checksum_add(0, ip, CH_IPV4_BYTES)));
    } else {
        ip = body - CH_IPV6_BYTES;
        memcpy(ip, (uint8_t[8]){0x60, 0, 0, 0, 0, 0, protocol, hops}, 8);
        ch_store16_net(ip + 4, (uint16_t)length);
        memcpy(ip + 8, from->ip, 16);
        memcpy(ip + 24, to->ip, 16);
    }
    uint8_t *frame = ip - CH_ETHERNET_BYTES;
    memcpy(frame, to_mac, 6);
    memcpy(frame + 6, from_mac, 6);
    ch_store16_net(frame + 12, is4 ? TYPE_IPV4 : TYPE_IPV6);
    return frame;
}

uint8_t *ch_frame_build_udp(uint8_t *payload, size_t length, const struct ch_address *from, const struct ch_address *to,
                            const uint8_t from_mac[6], const uint8_t to_mac[6])
{
    uint8_t *udp = payload - CH_UDP_BYTES;
    size_t udp_length = CH_UDP_BYTES + length;
    ch_store16_net(udp, from->port);
    ch_store16_net(udp + 2, to->port);
    ch_store16_net(udp + 4, (uint16_t)udp_length);
    ch_store16(udp + 6, 0);
    uint64_t sum = pseudo_header(from, to, ch_address_is4(to), PROTOCOL_UDP, udp_length);
    uint16_t checksum = ch_checksum_end(ch_checksum_add(sum, udp, udp_length));
    ch_store16(udp + 6, checksum ? checksum : 0xffff); /* 0 would say "none" */
    return build_ip(udp, udp_length, PROTOCOL_UDP, HOPS, from, to, from_mac, to_mac);
}

uint8_t *ch_frame_build_icmp(uint8_t *message, size_t length, const struct ch_address *from,
                             const struct ch_address *to, const uint8_t from_mac[6], const uint8_t to_mac[6])
{
    bool is4 = ch_address_is4(to), discovery = !is4 && message[0] >= 133 && message[0] <= 137;
    ch_store16(message + 2, 0);
    uint64_t sum = is4 ? 0 : pseudo_header(from, to, false, PROTOCOL_ICMPV6, length);
    ch_store16(message + 2, ch_checksum_end(ch_checksum_add(sum, message, length)));
    return build_ip(message, length, is4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, discovery ? 255 : HOPS, from, to, from_mac,
                    to_mac);
}
