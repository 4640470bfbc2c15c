/* dataplane/link.h - a host on an Ethernet that the kernel doesn't know: takes frames, gives UDP datagrams, and back.
 *
 * What:     answers ARP (RFC 826), IPv6 neighbour discovery (RFC 4861) and echo requests for its own addresses; finds
 *           neighbours and goes through a gateway for what is not on the link; builds frames, verifies those that come.
 * Not:      no device: frames go out by `struct ch_link_io`. No router: it forwards nothing, believes no redirect.
 * Thread:   one owner. Memory: all inside. Time: comes in.
 * Believes: an answer to its own question; what an ARP or neighbour message says about an address it knows already; the
 *           sender of a question to itself, when the address is on the link and nobody has to be forgotten for it.
 */
#ifndef CHAPPE_DATAPLANE_LINK_H
#define CHAPPE_DATAPLANE_LINK_H

#include "dataplane/neighbour.h"
#include "dataplane/packet.h"

#define CH_LINK_HEADROOM_BYTES CH_HEADERS_BYTES6

/* How a link reaches its device. `handle` is what ch_link_output was given. */
struct ch_link_io {
    void *context;
    /* sends a frame of its own (a copy is taken); may be lost */
    void (*control)(void *context, const uint8_t *frame, size_t length);
    /* a datagram that waited can go: its frame has the Ethernet address now */
    void (*resolved)(void *context, void *handle, const uint8_t mac[6]);
    /* a datagram that waited is given up */
    void (*unresolved)(void *context, void *handle);
};

struct ch_link {
    struct ch_link_io io;
    uint8_t mac[6];
    size_t local_count;
    struct ch_port_local locals[CH_PORT_LOCALS_MAX];
    struct ch_address gateway[2]; /* IPv4, IPv6 */
    bool has_gateway[2];
    bool announced;
    uint64_t tick_ns; /* of the last look at timeouts */
    struct ch_neighbours neighbours;
};

/* Checks addresses, prefixes and gateways of the configuration. `mac`: the device's. `key`: random. CH_ERR_INVALID with
 * one line in `why`. */
CH_MUST_CHECK ch_err ch_link_init(struct ch_link *link, const struct ch_port_config *config, const uint8_t mac[6],
                                  uint64_t key, const struct ch_link_io *io, char why[CH_PORT_WHY_BYTES]);
/* Takes a frame, answers it where it asks for that. Returns the counter that it belongs to: rx_datagrams (then `out`
 * has all but the handle), rx_arp, rx_nd, rx_echo or an rx_drop_*. The frame's bytes may be written over. */
enum ch_port_counter ch_link_input(struct ch_link *link, uint64_t now_ns, uint8_t *frame, size_t length,
                                   enum ch_port_checksum checksum, struct ch_packet *out);

enum ch_link_verdict { CH_LINK_SEND, CH_LINK_WAITS, CH_LINK_NO_ROUTE, CH_LINK_UNRESOLVED };

/* Writes the headers in front of packet->payload (CH_LINK_HEADROOM_BYTES of room). SEND: *frame is where the frame
 * begins, send it now; WAITS: the link keeps packet->handle until io.resolved or io.unresolved, *frame is set likewise;
 * else the handle is the caller's to drop. */
enum ch_link_verdict ch_link_output(struct ch_link *link, uint64_t now_ns, const struct ch_packet *packet,
                                    uint8_t **frame);

/* The first time: says who we are (gratuitous ARP, unsolicited neighbour advertisements) and asks for the gateways.
 * Then: asks again, gives up. Cheap; call it often. */
void ch_link_tick(struct ch_link *link, uint64_t now_ns);
/* Gives up all that waits. */
void ch_link_drain(struct ch_link *link);

#endif
