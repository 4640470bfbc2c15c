/* dataplane/packet.h - Ethernet, IPv4, IPv6, UDP, ARP and ICMP as bytes: what a frame is, and headers for a new one.
 *
 * What:    RFC 894/791/768/826/792 and 2464/8200/4443/4861, as far as a host with UDP alone needs them.
 * Not:     no addresses of our own, no state, no answers (dataplane/link.h); no fragments, IP options, extension
 *          headers, VLAN tags.
 * Thread:  no state. Errors: a frame that is not to be used is a drop reason, one of the port's rx_drop_* counters.
 */
#ifndef CHAPPE_DATAPLANE_PACKET_H
#define CHAPPE_DATAPLANE_PACKET_H

#include "dataplane/port.h"

#define CH_ETHERNET_BYTES 14
#define CH_IPV4_BYTES     20
#define CH_IPV6_BYTES     40
#define CH_UDP_BYTES      8
#define CH_HEADERS_BYTES4 (CH_ETHERNET_BYTES + CH_IPV4_BYTES + CH_UDP_BYTES)
#define CH_HEADERS_BYTES6 (CH_ETHERNET_BYTES + CH_IPV6_BYTES + CH_UDP_BYTES)
#define CH_ARP_BYTES      28 /* of an ARP message for IPv4 over Ethernet */
#define CH_FRAME_BYTES    (CH_ETHERNET_BYTES + CH_PORT_MTU_BYTES)

enum ch_frame_kind { CH_FRAME_UDP, CH_FRAME_ARP, CH_FRAME_ICMP, CH_FRAME_DROP };

/* A frame taken apart; the pointers are into it. */
struct ch_frame {
    enum ch_frame_kind kind;
    enum ch_port_counter drop; /* CH_FRAME_DROP: why */
    bool is4;
    struct ch_address from, to; /* UDP, ICMP: IP addresses; UDP: with the ports */
    uint8_t *body;              /* UDP: the datagram's payload; ICMP: the message; ARP: the message */
    uint32_t body_length;
    uint8_t hop_limit;
};

/* Takes apart headers and lengths, up to and with those of UDP; verifies the IPv4 header's checksum unless `trust`. */
void ch_frame_parse(uint8_t *bytes, size_t length, bool trust, struct ch_frame *out);
/* Whether the UDP or ICMP checksum of a parsed frame holds. UDP over IPv4 may have none (RFC 768), over IPv6 not. */
bool ch_frame_checksum_holds(const struct ch_frame *frame);

/* Writes Ethernet, IP and UDP headers, with checksums, in front of `length` bytes of payload (which has room for them
 * in front); returns where the frame begins. The addresses are of one family. */
uint8_t *ch_frame_build_udp(uint8_t *payload, size_t length, const struct ch_address *from, const struct ch_address *to,
                            const uint8_t from_mac[6], const uint8_t to_mac[6]);
/* Writes Ethernet and IP headers in front of an ICMP message, and its checksum into it; returns where the frame begins.
 */
uint8_t *ch_frame_build_icmp(uint8_t *message, size_t length, const struct ch_address *from,
                             const struct ch_address *to, const uint8_t from_mac[6], const uint8_t to_mac[6]);

/* The sum of 16-bit words that the Internet checksum (RFC 1071) is made from, as it lies in memory, not yet folded. */
uint64_t ch_checksum_add(uint64_t sum, const void *data, size_t length);
/* Folded and inverted: store it with ch_store16. Over data that holds its right checksum it gives 0. */
uint16_t ch_checksum_end(uint64_t sum);

static inline uint16_t ch_load16_net(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline void ch_store16_net(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

#endif
