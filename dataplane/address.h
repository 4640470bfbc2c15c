/* dataplane/address.h - an IP address with a UDP port, one shape for IPv4 and IPv6.
 *
 * IPv4 is kept in its IPv4-mapped form ::ffff:a.b.c.d (RFC 4291 2.5.5.2), so two addresses are equal exactly when
 * their bytes are.
 * Thread: no state.
 */
#ifndef CHAPPE_DATAPLANE_ADDRESS_H
#define CHAPPE_DATAPLANE_ADDRESS_H

#include "base/bytes.h"
#include "base/error.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CH_ADDRESS_TEXT_BYTES 72 /* "[ipv6%scope]:port" and its zero */

struct ch_address {
    uint8_t ip[16]; /* network order; ::ffff:a.b.c.d for IPv4 */
    uint32_t scope; /* interface index of a link-local IPv6 address, else 0 */
    uint16_t port;  /* host order */
    uint16_t zero;  /* always 0, so that the struct can be compared and hashed as bytes */
};

static inline bool ch_address_is4(const struct ch_address *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(a->ip, mapped, sizeof mapped) == 0;
}
static inline bool ch_address_equal(const struct ch_address *a, const struct ch_address *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
/* The same address, whatever the port. */
static inline bool ch_address_same_ip(const struct ch_address *a, const struct ch_address *b)
{
    return memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}
/* In place and in whole words: it is done for each packet. */
static inline void ch_address_set4(struct ch_address *a, const void *ip4)
{
    ch_store64(a->ip, 0);
    ch_store64(a->ip + 8, UINT64_C(0xffff0000) | (uint64_t)ch_load32(ip4) << 32);
    a->scope = 0;
    a->port = a->zero = 0;
}
static inline struct ch_address ch_address_from4(const void *ip4, uint16_t port)
{
    struct ch_address a;
    ch_address_set4(&a, ip4);
    a.port = port;
    return a;
}
static inline struct ch_address ch_address_from6(const void *ip6, uint16_t port)
{
    struct ch_address a = {.port = port};
    memcpy(a.ip, ip6, 16);
    return a;
}

/* "192.0.2.1:4433", "[2001:db8::1]:4433", "[fe80::1%eth0]:4433"; the port may be missing ("192.0.2.1", "2001:db8::1"):
 * 0. `prefix_bits`, where given, takes an optional "/24" after the IP ("192.0.2.1/24", "192.0.2.1/24:4433"); without
 * one it is 32 or 128. No names. CH_ERR_INVALID: anything else. */
CH_MUST_CHECK ch_err ch_address_parse(const char *text, struct ch_address *out, uint8_t *prefix_bits);
/* The text of an address with its port; returns `text`. */
const char *ch_address_format(const struct ch_address *address, char text[CH_ADDRESS_TEXT_BYTES]);
/* Whether the first `prefix_bits` bits (of 32 for IPv4, of 128 for IPv6) are the same; false across families. */
bool ch_address_in_prefix(const struct ch_address *address, const struct ch_address *network, uint8_t prefix_bits);

/* To and from the kernel's structures. from_sockaddr: CH_ERR_INVALID for another family or a short length. */
socklen_t ch_address_to_sockaddr(const struct ch_address *address, struct sockaddr_storage *out);
CH_MUST_CHECK ch_err ch_address_from_sockaddr(const struct sockaddr *from, socklen_t length, struct ch_address *out);

#endif
