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
    /* One's complement sums may be taken over longer words and folded later (RFC 1071 2.C): 64 bits, the carries
     * counted apart by add-with-carry, in two chains. */
    unsigned __int128 a = sum, b = 0;
    for (; length >= 32; p += 32, length -= 32) {
        a += ch_load64(p);
        b += ch_load64(p + 8);
        a += ch_load64(p + 16);
        b += ch_load64(p + 24);
    }
    for (; length >= 4; p += 4, length -= 4)
        a += ch_load32(p);
    if (length >= 2) {
        a += ch_load16(p);
        p += 2;
        length -= 2;
    }
    a += b + (length ? *p : 0);
    uint64_t low = (uint64_t)a, high = (uint64_t)(a >> 64);
    return (low & 0xffffffff) + (low >> 32) + high; /* below 2^34 while data is below 2^32 bytes */
}

uint16_t ch_checksum_end(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)~sum;
}

static uint16_t swap16(size_t v)
{
    return __builtin_bswap16((uint16_t)v);
}

/* The pseudo-header of RFC 768 and RFC 8200 8.1: addresses, protocol, length. Words are made in registers here and
 * below: bytes just written can't be read back in larger pieces without a stall. */
static uint64_t pseudo_header(const uint8_t *from, const uint8_t *to, bool is4, uint8_t protocol, size_t length)
{
    uint64_t sum = ((uint64_t)protocol << 8) + swap16(length);
    if (is4)
        return sum + ch_load32(from) + ch_load32(to);
    return ch_checksum_add(ch_checksum_add(sum, from, 16), to, 16);
}

/* The same for a message in its packet: both addresses lie right before it. */
static uint64_t pseudo_header_of(const uint8_t *message, bool is4, uint8_t protocol, size_t length)
{
    size_t size = is4 ? 4 : 16;
    return pseudo_header(message - 2 * size, message - size, is4, protocol, length);
}

static void drop(struct ch_frame *f, enum ch_port_counter why)
{
    f->kind = CH_FRAME_DROP;
    f->drop = why;
}

/* Not multicast, loopback, or IPv4 in IPv6's form. */
static bool source6_possible(const struct ch_address *from)
{
    static const uint8_t loopback[16] = {[15] = 1};
    return from->ip[0] != 0xff && memcmp(from->ip, loopback, 16) != 0 && !ch_address_is4(from);
}

static void parse_udp(struct ch_frame *f, uint8_t *udp, size_t length)
{
    if (length < CH_UDP_BYTES || ch_load16_net(udp + 4) > length)
        return drop(f, CH_PORT_COUNTER_rx_drop_truncated);
    f->from.port = ch_load16_net(udp);
    f->to.port = ch_load16_net(udp + 2);
    bool nobody = ch_load64(f->from.ip) == 0 && ch_load64(f->from.ip + 8) == 0;
    if (ch_load16_net(udp + 4) != length || f->from.port == 0 || nobody)
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
    ch_address_set4(&f->from, ip + 12);
    ch_address_set4(&f->to, ip + 16);
    if (ip[12] == 0 || ip[12] == 127 || ip[12] >= 224) /* "this network", loopback, multicast, reserved, broadcast */
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
    if (!source6_possible(&f->from) || ch_address_is4(&f->to))
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
        uint64_t sum = pseudo_header_of(udp, f->is4, PROTOCOL_UDP, length);
        return ch_checksum_end(ch_checksum_add(sum, udp, length)) == 0;
    }
    uint64_t sum = f->is4 ? 0 : pseudo_header_of(f->body, false, PROTOCOL_ICMPV6, f->body_length);
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
        uint64_t first = 0x45 | (uint64_t)swap16(CH_IPV4_BYTES + length) << 16 | (uint64_t)0x40 << 48;
        uint64_t second = hops | (uint64_t)protocol << 8 | (uint64_t)ch_load32(from->ip + 12) << 32;
        uint32_t last = ch_load32(to->ip + 12);
        uint64_t sum = (first & 0xffffffff) + (first >> 32) + (second & 0xffffffff) + (second >> 32) + last;
        ch_store64(ip, first);
        ch_store64(ip + 8, second | (uint64_t)ch_checksum_end(sum) << 16);
        ch_store32(ip + 16, last);
    } else {
        ip = body - CH_IPV6_BYTES;
        ch_store64(ip, 0x60 | (uint64_t)swap16(length) << 32 | (uint64_t)protocol << 48 | (uint64_t)hops << 56);
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
    size_t udp_length = CH_UDP_BYTES + length, skip = ch_address_is4(to) ? 12 : 0;
    uint64_t header = swap16(from->port) | (uint64_t)swap16(to->port) << 16 | (uint64_t)swap16(udp_length) << 32;
    uint64_t sum = pseudo_header(from->ip + skip, to->ip + skip, skip, PROTOCOL_UDP, udp_length);
    sum = ch_checksum_add(sum + (header & 0xffffffff) + (header >> 32), payload, length);
    uint16_t checksum = ch_checksum_end(sum);
    ch_store64(udp, header | (uint64_t)(checksum ? checksum : 0xffff) << 48); /* 0 would say "none" */
    return build_ip(udp, udp_length, PROTOCOL_UDP, HOPS, from, to, from_mac, to_mac);
}

uint8_t *ch_frame_build_icmp(uint8_t *message, size_t length, const struct ch_address *from,
                             const struct ch_address *to, const uint8_t from_mac[6], const uint8_t to_mac[6])
{
    bool is4 = ch_address_is4(to), discovery = !is4 && message[0] >= 133 && message[0] <= 137;
    ch_store16(message + 2, 0);
    uint64_t sum = is4 ? 0 : pseudo_header(from->ip, to->ip, false, PROTOCOL_ICMPV6, length);
    ch_store16(message + 2, ch_checksum_end(ch_checksum_add(sum, message, length)));
    return build_ip(message, length, is4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, discovery ? 255 : HOPS, from, to, from_mac,
                    to_mac);
}
