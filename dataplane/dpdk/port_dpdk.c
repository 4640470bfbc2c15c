/* A port on a DPDK device: bursts of mbufs, with the link layer (dataplane/link.h) done here.
 *
 * A handle is an mbuf. Received: its payload lies where the device put it. Sent: taken from tx_pool, written in place
 * behind its headroom, queued at commit, given to the device at a flush; what the device does not take stays queued.
 */
#include "dataplane/dpdk/port_dpdk.h"

#include "dataplane/dpdk/device_impl.h"
#include "dataplane/link.h"
#include "dataplane/port_kind.h"

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_pause.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define RX_BUFFERS_DEFAULT 16384
#define TX_BUFFERS_DEFAULT 2048
#define RX_BUFFERS_MIN     2048 /* descriptors and the caches of a few threads */
#define TX_BUFFERS_MIN     512
#define RX_BUFFERS_MAX     262144
#define TX_BUFFERS_MAX     65536
#define SPIN_ROUNDS        100
#define SLEEP_FIRST_NS     UINT64_C(20000)
#define SLEEP_LAST_NS      UINT64_C(500000)
#define BLOCK_IDLE_NS      UINT64_C(10000000) /* then a device that can wake us is waited for */
#define LONG_IDLE_NS       UINT64_C(1000000000)
#define LONG_SLEEP_NS      UINT64_C(2000000)   /* long idle, on a device that can't wake us */
#define ASKING_SLEEP_NS    UINT64_C(100000000) /* while neighbours are asked for, which time out in rx */

_Static_assert(CH_LINK_HEADROOM_BYTES <= RTE_PKTMBUF_HEADROOM, "headers fit in front of a payload");

#define CONTROL UINT32_MAX /* in place of a payload's length: a frame of the link layer's own */

struct dpdk_port {
    struct ch_port port;
    struct device device;
    enum ch_port_checksum rx_checksum;
    bool busy;

    /* committed and not taken by the device: a ring as large as the pool that they come from */
    struct rte_mbuf **queue;
    uint32_t queue_mask, queue_first, queue_count, queue_control;

    /* for ch_port_wait */
    uint32_t empty_rounds;
    bool looked; /* rx was called since the last wait */
    uint64_t sleep_ns, idle_ns;

    struct ch_link link;
};

static struct dpdk_port *of(struct ch_port *port)
{
    return (struct dpdk_port *)port;
}

/* The payload's length (or CONTROL) of a frame that waits is kept in the mbuf, in the field for receive hashes. */
static void enqueue(struct dpdk_port *d, struct rte_mbuf *m, uint32_t length)
{
    CH_ASSERT(d->queue_count <= d->queue_mask);
    m->hash.usr = length;
    d->queue[(d->queue_first + d->queue_count++) & d->queue_mask] = m;
    d->queue_control += length == CONTROL;
}

static void dpdk_tx_flush(struct ch_port *port)
{
    struct dpdk_port *d = of(port);
    while (d->queue_count > 0) {
        uint32_t lengths[CH_PORT_BURST_MAX], until_end = d->queue_mask + 1 - d->queue_first;
        uint32_t count = RTE_MIN(RTE_MIN(d->queue_count, until_end), (uint32_t)CH_PORT_BURST_MAX);
        struct rte_mbuf **burst = &d->queue[d->queue_first];
        for (uint32_t i = 0; i < count; i++)
            lengths[i] = burst[i]->hash.usr; /* the device may free them at once */
        uint32_t sent = rte_eth_tx_burst(d->device.id, 0, burst, (uint16_t)count), control = 0;
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < sent; i++) {
            control += lengths[i] == CONTROL;
            bytes += lengths[i] == CONTROL ? 0 : lengths[i];
        }
        d->queue_first = (d->queue_first + sent) & d->queue_mask;
        d->queue_count -= sent;
        d->queue_control -= control;
        ch_port_count(port, CH_PORT_COUNTER_tx_sent, sent - control);
        ch_port_count(port, CH_PORT_COUNTER_tx_bytes, bytes);
        ch_port_count(port, CH_PORT_COUNTER_tx_control, control);
        if (sent < count)
            return;
    }
}

static void control_frame(void *context, const uint8_t *frame, size_t length)
{
    struct dpdk_port *d = context;
    struct rte_mbuf *m = d->queue_count <= d->queue_mask ? rte_pktmbuf_alloc(d->device.tx_pool) : NULL;
    if (!m)
        return; /* as lost on the wire: it is asked again */
    if (length > rte_pktmbuf_tailroom(m)) {
        rte_pktmbuf_free(m);
        return;
    }
    memcpy(rte_pktmbuf_append(m, (uint16_t)length), frame, length);
    enqueue(d, m, CONTROL);
}

static void resolved(void *context, void *handle, const uint8_t mac[6])
{
    struct dpdk_port *d = context;
    struct rte_mbuf *m = handle;
    memcpy(rte_pktmbuf_mtod(m, uint8_t *), mac, 6);
    enqueue(d, m, m->hash.usr);
}

static void unresolved(void *context, void *handle)
{
    struct dpdk_port *d = context;
    ch_port_count(&d->port, CH_PORT_COUNTER_tx_drop_unresolved, 1);
    rte_pktmbuf_free(handle);
}

/* True when the frame is a datagram to hand over; counts it in any case. */
static bool input(struct dpdk_port *d, uint64_t now_ns, struct rte_mbuf *m, struct ch_packet *packet)
{
    enum ch_port_checksum checksum = d->rx_checksum;
    uint64_t both = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK;
    if ((m->ol_flags & both) == (RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD))
        checksum = CH_PORT_CHECKSUM_TRUST;
    enum ch_port_counter what;
    if (m->nb_segs != 1) /* larger than a buffer */
        what = CH_PORT_COUNTER_rx_drop_truncated;
    else if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) /* of another network than ours */
        what = CH_PORT_COUNTER_rx_drop_protocol;
    else
        what = ch_link_input(&d->link, now_ns, rte_pktmbuf_mtod(m, uint8_t *), m->data_len, checksum, packet);
    packet->handle = m;
    if (what == CH_PORT_COUNTER_rx_datagrams)
        return true;
    ch_port_count(&d->port, what, 1);
    return false;
}

static size_t dpdk_rx(struct ch_port *port, uint64_t now_ns, struct ch_packet *packets, size_t count_max)
{
    struct dpdk_port *d = of(port);
    struct rte_mbuf *burst[CH_PORT_BURST_MAX], *dropped[CH_PORT_BURST_MAX];
    uint16_t room = (uint16_t)RTE_MIN(count_max, (size_t)CH_PORT_BURST_MAX);
    uint16_t received = rte_eth_rx_burst(d->device.id, 0, burst, room);
    size_t count = 0, drops = 0;
    uint64_t bytes = 0;
    for (uint16_t i = 0; i < received; i++)
        rte_prefetch0(rte_pktmbuf_mtod(burst[i], void *));
    for (uint16_t i = 0; i < received; i++) {
        if (input(d, now_ns, burst[i], &packets[count]))
            bytes += packets[count++].length;
        else
            dropped[drops++] = burst[i];
    }
    ch_port_count(port, CH_PORT_COUNTER_polls, 1);
    d->looked = true;
    if (received == 0) {
        ch_port_count(port, CH_PORT_COUNTER_polls_empty, 1);
        d->empty_rounds++;
    } else {
        d->empty_rounds = 0;
        d->idle_ns = 0;
        d->sleep_ns = SLEEP_FIRST_NS;
        ch_port_count(port, CH_PORT_COUNTER_rx_frames, received);
        ch_port_count(port, CH_PORT_COUNTER_rx_datagrams, count);
        ch_port_count(port, CH_PORT_COUNTER_rx_bytes, bytes);
        rte_pktmbuf_free_bulk(dropped, (unsigned)drops);
    }
    ch_link_tick(&d->link, now_ns);
    if (d->queue_control > 0)
        dpdk_tx_flush(port);
    return count;
}

static ch_err dpdk_tx_get(struct ch_port *port, struct ch_packet *packet)
{
    struct dpdk_port *d = of(port);
    struct rte_mbuf *m = rte_pktmbuf_alloc(d->device.tx_pool);
    if (!m) {
        ch_port_count(port, CH_PORT_COUNTER_tx_refused_no_buffer, 1);
        return CH_ERR_FULL;
    }
    packet->handle = m;
    packet->payload = rte_pktmbuf_mtod(m, uint8_t *);
    packet->length = port->payload_bytes_max;
    return CH_OK;
}

static void dpdk_tx_commit(struct ch_port *port, uint64_t now_ns, const struct ch_packet *packet)
{
    struct dpdk_port *d = of(port);
    struct rte_mbuf *m = packet->handle;
    uint8_t *room = (uint8_t *)m->buf_addr + RTE_PKTMBUF_HEADROOM, *frame = NULL;
    CH_ASSERT(packet->local < port->local_count && packet->payload >= room &&
              packet->payload + packet->length <= room + port->payload_bytes_max);
    ch_port_count(port, CH_PORT_COUNTER_tx_datagrams, 1);
    m->hash.usr = packet->length;
    enum ch_link_verdict verdict = ch_link_output(&d->link, now_ns, packet, &frame);
    if (frame) {
        m->data_off = (uint16_t)(frame - (uint8_t *)m->buf_addr);
        m->data_len = (uint16_t)(packet->payload + packet->length - frame);
        m->pkt_len = m->data_len;
    }
    switch (verdict) {
    case CH_LINK_SEND:
        enqueue(d, m, packet->length);
        break;
    case CH_LINK_WAITS:
        break;
    case CH_LINK_NO_ROUTE:
        ch_port_count(port, CH_PORT_COUNTER_tx_drop_no_route, 1);
        rte_pktmbuf_free(m);
        break;
    case CH_LINK_UNRESOLVED:
        unresolved(d, m);
        break;
    }
    if (d->queue_count >= CH_PORT_BURST_MAX)
        dpdk_tx_flush(port);
}

static size_t dpdk_tx_pending(const struct ch_port *port)
{
    const struct dpdk_port *d = (const struct dpdk_port *)port;
    return d->queue_count - d->queue_control + d->link.neighbours.waiting_count;
}

static void dpdk_release(struct ch_port *port, void *const *handles, size_t count)
{
    (void)port;
    for (size_t done = 0; done < count;) { /* free_bulk wants pointers that it may change */
        struct rte_mbuf *batch[CH_PORT_BURST_MAX];
        size_t n = RTE_MIN(count - done, (size_t)CH_PORT_BURST_MAX);
        memcpy(batch, handles + done, n * sizeof *batch);
        rte_pktmbuf_free_bulk(batch, (unsigned)n);
        done += n;
    }
}

static void sleep_up_to(struct dpdk_port *d, uint64_t ns, bool until_frame)
{
    struct pollfd fds[2] = {{.fd = d->port.wake_fd, .events = POLLIN}, {.fd = d->device.packet_fd, .events = POLLIN}};
    struct timespec timeout = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    ch_port_count(&d->port, CH_PORT_COUNTER_sleeps, 1);
    if (ppoll(fds, until_frame ? 2 : 1, &timeout, NULL) > 0 && (fds[0].revents & POLLIN)) {
        uint64_t wakes;
        ssize_t got = read(d->port.wake_fd, &wakes, sizeof wakes);
        (void)got;
        ch_port_count(&d->port, CH_PORT_COUNTER_wakeups, 1);
    }
}

static void dpdk_wait(struct ch_port *port, uint64_t timeout_ns)
{
    struct dpdk_port *d = of(port);
    d->empty_rounds += !d->looked; /* an owner that takes nothing waits too */
    d->looked = false;
    if (d->busy || d->empty_rounds < SPIN_ROUNDS) {
        atomic_store_explicit(&port->wake_wanted, 0, memory_order_relaxed);
        rte_pause();
        return;
    }
    bool long_idle = d->idle_ns >= LONG_IDLE_NS, can_block = d->idle_ns >= BLOCK_IDLE_NS && d->device.packet_fd >= 0;
    uint64_t ns = can_block ? timeout_ns : long_idle ? LONG_SLEEP_NS : d->sleep_ns;
    if (d->queue_count > 0) /* the device had no room: come back soon */
        ns = RTE_MIN(ns, SLEEP_FIRST_NS);
    if (d->link.neighbours.asked_count > 0)
        ns = RTE_MIN(ns, ASKING_SLEEP_NS);
    ns = RTE_MIN(ns, timeout_ns);
    atomic_store(&port->asleep, 1);
    if (!ch_port_wake_take(port)) {
        sleep_up_to(d, ns, can_block);
        atomic_store(&port->wake_wanted, 0);
    }
    atomic_store(&port->asleep, 0);
    d->idle_ns += ns;
    d->sleep_ns = RTE_MIN(d->sleep_ns * 2, SLEEP_LAST_NS);
}

static void dpdk_counters(struct ch_port *port, uint64_t values[CH_PORT_COUNTER_COUNT])
{
    ch_port_counters_load(port, values);
    device_counters(&of(port)->device, values);
}

static bool dpdk_link_up(struct ch_port *port)
{
    return device_link_up(&of(port)->device);
}

static void dpdk_close(struct ch_port *port)
{
    struct dpdk_port *d = of(port);
    ch_link_drain(&d->link);
    while (d->queue_count > 0) {
        rte_pktmbuf_free(d->queue[d->queue_first]);
        d->queue_first = (d->queue_first + 1) & d->queue_mask;
        d->queue_count--;
    }
    device_close(&d->device);
    ch_port_fini(port);
    free(d->queue);
    free(d);
}

static const struct ch_port_ops dpdk_ops = {
    .rx = dpdk_rx,
    .tx_get = dpdk_tx_get,
    .tx_commit = dpdk_tx_commit,
    .tx_flush = dpdk_tx_flush,
    .tx_pending = dpdk_tx_pending,
    .release = dpdk_release,
    .wait = dpdk_wait,
    .counters = dpdk_counters,
    .link_up = dpdk_link_up,
    .close = dpdk_close,
};

ch_err ch_port_open_dpdk(const struct ch_port_config *config, struct ch_port **out, char why[CH_PORT_WHY_BYTES])
{
    if (config->profile == CH_PORT_SOCKET)
        return ch_port_fail(why, CH_ERR_INVALID, "profile socket is none of DPDK");
    if (!config->device || !config->device[0])
        return ch_port_fail(why, CH_ERR_INVALID, "profile %s needs a device", ch_port_profile_name(config->profile));
    uint32_t rx_buffers = config->rx_buffers ? config->rx_buffers : RX_BUFFERS_DEFAULT;
    uint32_t tx_buffers = config->tx_buffers ? config->tx_buffers : TX_BUFFERS_DEFAULT;
    if (rx_buffers < RX_BUFFERS_MIN || rx_buffers > RX_BUFFERS_MAX || tx_buffers < TX_BUFFERS_MIN ||
        tx_buffers > TX_BUFFERS_MAX)
        return ch_port_fail(why, CH_ERR_INVALID, "%d to %d receiving and %d to %d sending buffers are possible",
                            RX_BUFFERS_MIN, RX_BUFFERS_MAX, TX_BUFFERS_MIN, TX_BUFFERS_MAX);
    struct dpdk_port *d = aligned_alloc(64, (sizeof *d + 63) / 64 * 64);
    if (!d)
        return ch_port_fail(why, CH_ERR_NO_MEMORY, "no memory for a port");
    memset(d, 0, sizeof *d);
    ch_err err = ch_port_init(&d->port, &dpdk_ops, config, why);
    if (err != CH_OK) {
        free(d);
        return err;
    }
    d->rx_checksum = config->rx_checksum;
    d->busy = config->poll == CH_PORT_POLL_BUSY;
    d->sleep_ns = SLEEP_FIRST_NS;
    err = device_open(&d->device, config, rx_buffers, tx_buffers, why);
    if (err == CH_OK) {
        uint32_t capacity = rte_align32pow2(d->device.tx_pool->size + 1);
        d->queue_mask = capacity - 1;
        d->queue = calloc(capacity, sizeof(struct rte_mbuf *));
        if (!d->queue)
            err = ch_port_fail(why, CH_ERR_NO_MEMORY, "no memory for a port");
    }
    uint64_t key = 0;
    if (err == CH_OK && getrandom(&key, sizeof key, 0) != sizeof key)
        err = ch_port_fail(why, CH_ERR_IO, "no random bytes: %m");
    struct ch_link_io io = {.context = d, .control = control_frame, .resolved = resolved, .unresolved = unresolved};
    if (err == CH_OK)
        err = ch_link_init(&d->link, config, d->device.mac, key, &io, why);
    if (err != CH_OK) {
        dpdk_close(&d->port);
        return err;
    }
    *out = &d->port;
    return CH_OK;
}
