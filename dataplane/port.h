/* dataplane/port.h - UDP datagrams in bursts, whatever carries them: a DPDK device, or the kernel's sockets.
 *
 * What:     received datagrams come as (remote, local, payload in place, handle); what is sent is written in place into
 *           a buffer that keeps room for the headers in front. A handle can travel on to other stages and end there.
 * Not:      no QUIC, no limits by peer, no meaning of a payload; no TCP, no fragments.
 * Profiles: `socket` is opened by ch_port_open_socket (dataplane, no DPDK); all others by ch_port_open_dpdk
 *           (dataplane/dpdk/port_dpdk.h).
 * Thread:   open, rx, tx_*, wait by one owner thread at a time (the net stage).
 *           ch_port_release, ch_port_wake, ch_port_counters, ch_port_link_up: any.
 * Memory:   all buffers at open. Those held by others (not yet released) are missing for receiving: with all gone,
 *           newcomers are dropped and counted.
 * Time:     comes in as now_ns (CLOCK_MONOTONIC); only ch_port_wait sleeps.
 */
#ifndef CHAPPE_DATAPLANE_PORT_H
#define CHAPPE_DATAPLANE_PORT_H

#include "base/error.h"
#include "dataplane/address.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CH_PORT_LOCALS_MAX 16   /* own endpoints of a port */
#define CH_PORT_BURST_MAX  64   /* datagrams by one call of rx, and commits kept before a port sends by itself */
#define CH_PORT_WHY_BYTES  256  /* one line for the operator: why a port could not be opened */
#define CH_PORT_MTU_BYTES  1500 /* when the configuration says none */

/* What carries the packets. number, name, text */
#define CH_PORT_PROFILE_LIST(X)                                                                                        \
    X(SOCKET, 0, "socket", "UDP sockets of the kernel through io_uring; needs no rights")                              \
    X(AF_PACKET, 1, "af_packet",                                                                                       \
      "an interface without kernel address, through DPDK; needs CAP_NET_RAW and CAP_NET_ADMIN")                        \
    X(RING, 2, "ring", "in one process, two ports back to back, through DPDK; tests and the bench suite")              \
    X(PCAP, 3, "pcap", "a capture file replayed through DPDK; what is sent is thrown away")

enum ch_port_profile {
#define X(symbol, number, name, text) CH_PORT_##symbol = number,
    CH_PORT_PROFILE_LIST(X)
#undef X
};

enum ch_port_checksum { CH_PORT_CHECKSUM_VERIFY, CH_PORT_CHECKSUM_TRUST };
enum ch_port_poll { CH_PORT_POLL_ADAPTIVE, CH_PORT_POLL_BUSY };

/* One own endpoint: where datagrams are taken for, and where those sent come from. */
struct ch_port_local {
    struct ch_address
        address;         /* socket: 0.0.0.0 or :: (IPv6 only) are fine, and port 0: any free one; else all given */
    uint8_t prefix_bits; /* of the network on the link; only dpdk ports use it */
    bool brief;          /* its datagrams are all released before the next rx; sockets then take many at once */
};

/* Zeros are the defaults. */
struct ch_port_config {
    enum ch_port_profile profile;
    const char *device; /* af_packet: the interface; pcap: the file; ring: the name of the link between two ports;
                           socket: NULL */
    struct ch_port_local locals[CH_PORT_LOCALS_MAX];
    size_t local_count;         /* 1.. */
    struct ch_address gateway4; /* next hop for what is not on the link; all zeros: there is none. dpdk only, as all
                                   below but the buffers */
    struct ch_address gateway6;
    uint8_t mac[6]; /* zeros: the device's own (ring, pcap: made from the first local address) */
    enum ch_port_checksum rx_checksum;
    enum ch_port_poll poll;
    bool replay_forever;      /* pcap: start again at the file's end */
    uint16_t mtu_bytes;       /* 0: CH_PORT_MTU_BYTES; 1280..1500 */
    uint32_t rx_buffers;      /* 0: 16384 (dpdk), 4096 (socket); up to 262144 (socket: 32768). Stages' held ones too */
    uint32_t tx_buffers;      /* 0: 2048 (dpdk), 1024 (socket); up to 65536 */
    uint32_t socket_rx_bytes; /* socket: the kernel's receive queue; 0: 4 MiB (bounded by net.core.rmem_max without
                                 CAP_NET_ADMIN) */
};

/* One datagram. As received: all fields set. To be sent: ch_port_tx_get sets payload, length (the room) and handle. */
struct ch_packet {
    struct ch_address remote;
    uint8_t *payload;
    void *handle;
    uint32_t length;
    uint32_t local; /* index into the configuration's locals */
};

/* Everything that a port counts. Two sums hold exactly, when nothing is under way:
 *   rx_frames = rx_datagrams + rx_arp + rx_nd + rx_echo + every rx_drop_*
 *   tx_datagrams = tx_sent + every tx_drop_* + what waits in the port (ch_port_tx_pending)
 * rx_missed, rx_no_buffer and rx_errors come from the device or the kernel and are not in rx_frames. rx_missed is
 * exact on sockets (receive queue full) and af_packet (its ring full); on ring ports the sender sees a full ring.
 * name, text */
#define CH_PORT_COUNTER_LIST(X)                                                                                        \
    X(rx_frames, "frames (socket: datagrams) taken from the device")                                                   \
    X(rx_datagrams, "datagrams handed to the stage above")                                                             \
    X(rx_bytes, "payload bytes of those")                                                                              \
    X(rx_arp, "ARP frames used")                                                                                       \
    X(rx_nd, "IPv6 neighbour solicitations and advertisements used")                                                   \
    X(rx_echo, "echo requests answered or left unanswered for want of a buffer or a neighbour")                        \
    X(rx_drop_truncated, "dropped: ends before its headers or lengths say so, or is larger than a buffer")             \
    X(rx_drop_not_for_us, "dropped: another MAC address, or an IP address that is not ours")                           \
    X(rx_drop_no_port, "dropped: UDP to a port of ours that nobody listens on")                                        \
    X(rx_drop_protocol, "dropped: an Ethernet type, IP protocol or ICMP type that is not spoken here")                 \
    X(rx_drop_malformed, "dropped: header fields that contradict each other, or a source that no host may use")        \
    X(rx_drop_fragment, "dropped: IP fragments")                                                                       \
    X(rx_drop_options, "dropped: IPv4 options or IPv6 extension headers")                                              \
    X(rx_drop_checksum, "dropped: IPv4 header, UDP or ICMP checksum wrong (or missing in IPv6)")                       \
    X(rx_drop_neighbour, "dropped: ARP or neighbour discovery that breaks its rules or was not asked for")             \
    X(rx_missed, "lost before us: the device or the kernel had no room")                                               \
    X(rx_no_buffer, "lost before us: every receive buffer was held by a stage")                                        \
    X(rx_errors, "lost before us: receive errors of the device or the socket")                                         \
    X(tx_datagrams, "datagrams committed for sending")                                                                 \
    X(tx_sent, "datagrams given to the device or the kernel")                                                          \
    X(tx_bytes, "payload bytes of those")                                                                              \
    X(tx_errors, "of tx_sent and tx_control, lost by the device as far as it tells")                                   \
    X(tx_control, "own ARP, neighbour discovery and echo frames given to the device")                                  \
    X(tx_drop_no_route, "not sent: not on the link and no gateway, or the wrong family for the local address")         \
    X(tx_drop_unresolved, "not sent: the neighbour did not answer, or too many waited for one")                        \
    X(tx_drop_error, "not sent: the device or the kernel refused it")                                                  \
    X(tx_refused_no_buffer, "ch_port_tx_get refused: no buffer free, the device does not keep up")                     \
    X(polls, "calls of rx")                                                                                            \
    X(polls_empty, "of those without a frame")                                                                         \
    X(sleeps, "times that the port's thread slept in ch_port_wait")                                                    \
    X(wakeups, "of those ended by ch_port_wake")

enum ch_port_counter {
#define X(name, text) CH_PORT_COUNTER_##name,
    CH_PORT_COUNTER_LIST(X)
#undef X
        CH_PORT_COUNTER_COUNT
};

struct ch_port;

/* The two kinds. Only ch_port_* below call these. */
struct ch_port_ops {
    size_t (*rx)(struct ch_port *port, uint64_t now_ns, struct ch_packet *packets, size_t count_max);
    ch_err (*tx_get)(struct ch_port *port, struct ch_packet *packet);
    void (*tx_commit)(struct ch_port *port, uint64_t now_ns, const struct ch_packet *packet);
    void (*tx_flush)(struct ch_port *port);
    size_t (*tx_pending)(const struct ch_port *port);
    void (*release)(struct ch_port *port, void *const *handles, size_t count);
    void (*wait)(struct ch_port *port, uint64_t timeout_ns);
    void (*counters)(struct ch_port *port, uint64_t values[CH_PORT_COUNTER_COUNT]);
    bool (*link_up)(struct ch_port *port);
    void (*close)(struct ch_port *port);
};

/* What both kinds begin with. Read it freely; the port's own thread writes the counters, others read them relaxed. */
struct ch_port {
    const struct ch_port_ops *ops;
    enum ch_port_profile profile;
    uint32_t payload_bytes_max; /* of a datagram sent, either family: mtu - 48 */
    size_t local_count;
    struct ch_port_local locals[CH_PORT_LOCALS_MAX]; /* as bound: a port that was 0 is the one that the kernel chose */
    int wake_fd;                                     /* eventfd */
    _Alignas(64) _Atomic uint32_t asleep;            /* written by the owner */
    _Atomic uint32_t wake_wanted;                    /* set by ch_port_wake, taken by wait */
    _Alignas(64) _Atomic uint64_t counters[CH_PORT_COUNTER_COUNT];
};

/* Binds a UDP socket for each local endpoint of `config` (profile `socket`), on one io_uring. Not for the DPDK
 * profiles. CH_ERR_INVALID: the configuration; CH_ERR_BUSY: an address in use; CH_ERR_DENIED; CH_ERR_UNSUPPORTED:
 * io_uring is missing or too old (Linux 6.1 has all it needs); CH_ERR_NO_MEMORY; CH_ERR_IO. On failure `why` has the
 * one line to show. */
CH_MUST_CHECK ch_err ch_port_open_socket(const struct ch_port_config *config, struct ch_port **out,
                                         char why[CH_PORT_WHY_BYTES]);

/* Closes a port; NULL is fine. Every handle must be back, and no other thread may use the port any more. Datagrams
 * still waiting are dropped. */
void ch_port_close(struct ch_port *port);

/* Takes up to count_max (1..CH_PORT_BURST_MAX) datagrams; the handles are the caller's until released. Never blocks.
 * Neighbours are answered, and their timeouts run, here: call it at least every few seconds. Order within one remote is
 * as received. */
static inline size_t ch_port_rx(struct ch_port *port, uint64_t now_ns, struct ch_packet *packets, size_t count_max)
{
    return port->ops->rx(port, now_ns, packets, count_max);
}

/* A buffer to write into: packet->payload, packet->length (= payload_bytes_max of room), packet->handle. The caller
 * then sets remote, local, length and commits, or gives the handle back by ch_port_release. CH_ERR_FULL: none free;
 * flush and come again after the next rx. */
CH_MUST_CHECK static inline ch_err ch_port_tx_get(struct ch_port *port, struct ch_packet *packet)
{
    return port->ops->tx_get(port, packet);
}

/* Takes a filled buffer to send from locals[packet->local] to packet->remote; the handle is gone. payload may have been
 * moved forward inside the buffer (payload >= as given, payload + length within the room). It leaves at the next flush,
 * or before when CH_PORT_BURST_MAX wait. Never fails: what can't be sent is dropped and counted, as on any network. */
static inline void ch_port_tx_commit(struct ch_port *port, uint64_t now_ns, const struct ch_packet *packet)
{
    port->ops->tx_commit(port, now_ns, packet);
}

/* Hands all that is committed to the device. What it does not take now stays for the next flush (tx_get refuses when
 * that is too much). */
static inline void ch_port_tx_flush(struct ch_port *port)
{
    port->ops->tx_flush(port);
}

/* Datagrams committed and not yet sent nor dropped: waiting for a flush, for the device, for a neighbour, or in the
 * kernel's hands. */
static inline size_t ch_port_tx_pending(const struct ch_port *port)
{
    return port->ops->tx_pending(port);
}

/* Gives handles back, from any thread, in any order. Each exactly once. */
static inline void ch_port_release(struct ch_port *port, void *const *handles, size_t count)
{
    port->ops->release(port, handles, count);
}

/* Call when a round of the owner found nothing to do. A wake that came before the call counts: it returns at once.
 * `socket`: sleeps until a datagram comes, ch_port_wake, or timeout_ns.
 * dpdk: returns at once for the first 100 empty rounds, then sleeps 20 us doubling to 500 us, never longer than
 * timeout_ns, cut short by ch_port_wake. After a second without a frame: 2 ms. On af_packet it sleeps
 * until a frame comes, once none came for 10 ms.
 * With poll `busy` it never sleeps. */
static inline void ch_port_wait(struct ch_port *port, uint64_t timeout_ns)
{
    port->ops->wait(port, timeout_ns);
}

/* Ends the owner's wait, from any thread: call after putting something into a ring that the owner reads. Costs a system
 * call only when the owner sleeps. */
void ch_port_wake(struct ch_port *port);

/* The counters as of now, any thread. */
static inline void ch_port_counters(struct ch_port *port, uint64_t values[CH_PORT_COUNTER_COUNT])
{
    port->ops->counters(port, values);
}
/* "rx_frames", and its sentence; NULL past the last. */
const char *ch_port_counter_name(enum ch_port_counter counter);
const char *ch_port_counter_text(enum ch_port_counter counter);

/* Whether the link is up: asks the device (not for every packet). Sockets: always. */
static inline bool ch_port_link_up(struct ch_port *port)
{
    return port->ops->link_up(port);
}

/* "af_packet" to CH_PORT_AF_PACKET. CH_ERR_NOT_FOUND. */
CH_MUST_CHECK ch_err ch_port_profile_parse(const char *name, enum ch_port_profile *profile);
const char *ch_port_profile_name(enum ch_port_profile profile);

#endif
