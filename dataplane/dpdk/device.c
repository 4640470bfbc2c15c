#include "dataplane/dpdk/device_impl.h"
#include "dataplane/dpdk/port_dpdk.h"
#include "dataplane/port_kind.h"

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DESCRIPTORS      1024
#define RING_ENTRIES     4096 /* frames under way on one direction of a ring link */
#define RING_LINKS_MAX   8
#define RX_CACHE         256
#define TX_CACHE         64
#define CAPABILITY_ADMIN 12 /* CAP_NET_ADMIN, CAP_NET_RAW (capabilities(7)) */
#define CAPABILITY_RAW   13
/* Frames of 2 KiB in each of the kernel's two rings with af_packet: as many as come in 5 ms at 1.5 million a second, so
 * that a sleep loses none; and what fits in the usual 8 MiB of locked memory, where a user namespace grants no more. */
#define AF_PACKET_FRAMES       8192
#define AF_PACKET_FRAMES_SMALL 1024

struct ring_link {
    char name[16];
    struct rte_ring *rings[2]; /* end 0 reads the first and writes the second, end 1 the other way round */
    struct rte_mempool *pool;  /* of both ends: frames go through without a copy */
    bool used[2];
};

static struct ring_link ring_links[RING_LINKS_MAX];
static unsigned name_counter; /* DPDK's objects want names of their own */

static struct rte_mempool *open_pool(const char *kind, uint32_t buffers, uint32_t cache)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    snprintf(name, sizeof name, "ch_%s%u", kind, name_counter++);
    return rte_pktmbuf_pool_create(name, buffers, cache, 0, RTE_MBUF_DEFAULT_BUF_SIZE, (int)rte_socket_id());
}

static ch_err no_pool(uint32_t buffers, char why[CH_PORT_WHY_BYTES])
{
    return ch_port_fail(why, CH_ERR_NO_MEMORY, "%u packet buffers (%u MiB) don't fit DPDK's memory%s", buffers,
                        (unsigned)((uint64_t)buffers * 2432 >> 20), ch_dpdk_hugepages() ? "" : " (memory_mib)");
}

/* Finds the device that a probe made. */
static ch_err probe(struct device *d, const char *name, const char *arguments, const char *what,
                    char why[CH_PORT_WHY_BYTES])
{
    char text[512];
    if ((size_t)snprintf(text, sizeof text, "%s,%s", name, arguments) >= sizeof text)
        return ch_port_fail(why, CH_ERR_INVALID, "%s: the name is too long", what);
    if (rte_dev_probe(text) != 0 || rte_eth_dev_get_port_by_name(name, &d->id) != 0)
        return ch_port_fail(why, CH_ERR_IO, "DPDK can't open %s", what);
    d->made = true;
    return CH_OK;
}

static bool has_capability(int bit)
{
    char line[128];
    unsigned long long bits = 0;
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "CapEff:", 7) == 0)
            bits = strtoull(line + 7, NULL, 16);
    if (status)
        fclose(status);
    return bits >> bit & 1;
}

/* Looks for what would make the kernel answer in our place: one of our addresses on one of its interfaces. */
static bool kernel_has(const struct ch_address *address)
{
    struct ifaddrs *all = NULL;
    bool has = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        struct ch_address its;
        socklen_t length = i->ifa_addr && i->ifa_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                             : sizeof(struct sockaddr_in);
        if (i->ifa_addr && ch_address_from_sockaddr(i->ifa_addr, length, &its) == CH_OK)
            has |= ch_address_same_ip(&its, address);
    }
    freeifaddrs(all);
    return has;
}

static bool interface_up(const struct device *d)
{
    struct ifreq request = {0};
    memcpy(request.ifr_name, d->interface, sizeof d->interface);
    return ioctl(d->control_fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) &&
           (request.ifr_flags & IFF_RUNNING);
}

/* The packet socket that the driver opened on the interface: it has the count of frames for which the ring had no room.
 */
static int find_packet_socket(const char *interface)
{
    int found = -1, index = (int)if_nametoindex(interface);
    DIR *fds = opendir("/proc/self/fd");
    for (struct dirent *d; fds && (d = readdir(fds));) {
        int fd = atoi(d->d_name), domain = 0;
        struct sockaddr_ll at;
        socklen_t length = sizeof domain, at_length = sizeof at;
        if (d->d_name[0] != '.' && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
            domain == AF_PACKET && getsockname(fd, (struct sockaddr *)&at, &at_length) == 0 && at.sll_ifindex == index)
            found = fd;
    }
    if (fds)
        closedir(fds);
    return found;
}

static ch_err open_af_packet(struct device *d, const struct ch_port_config *config, char why[CH_PORT_WHY_BYTES])
{
    const char *interface = config->device;
    if (strlen(interface) >= sizeof d->interface || strpbrk(interface, ", =/") || if_nametoindex(interface) == 0)
        return ch_port_fail(why, CH_ERR_NOT_FOUND, "there is no interface \"%.32s\"", interface);
    strcpy(d->interface, interface);
    if (!has_capability(CAPABILITY_RAW) || !has_capability(CAPABILITY_ADMIN))
        return ch_port_fail(why, CH_ERR_DENIED,
                            "af_packet on %s needs CAP_NET_RAW and CAP_NET_ADMIN (run as root, or under unshare -Urn)",
                            interface);
    d->control_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (d->control_fd < 0)
        return ch_port_fail(why, CH_ERR_IO, "no socket: %m");
    struct ifreq flags = {0};
    strcpy(flags.ifr_name, interface);
    if (ioctl(d->control_fd, SIOCGIFFLAGS, &flags) != 0 || !(flags.ifr_flags & IFF_UP))
        return ch_port_fail(why, CH_ERR_IO, "interface %s is down (ip link set %s up)", interface, interface);
    for (size_t i = 0; i < config->local_count; i++)
        if (kernel_has(&config->locals[i].address)) {
            char text[CH_ADDRESS_TEXT_BYTES];
            return ch_port_fail(why, CH_ERR_BUSY, "the kernel has the address of %s itself; with af_packet only we may",
                                ch_address_format(&config->locals[i].address, text));
        }
    char name[32], arguments[128], what[64];
    snprintf(what, sizeof what, "af_packet on %s", interface);
    ch_err err = CH_ERR_IO;
    static const int frames[] = {AF_PACKET_FRAMES, AF_PACKET_FRAMES_SMALL};
    for (size_t i = 0; i < 2 && err != CH_OK; i++) {
        snprintf(name, sizeof name, "net_af_packet_ch%u", name_counter++);
        snprintf(arguments, sizeof arguments, "iface=%s,framecnt=%d,blocksz=65536,framesz=2048", interface, frames[i]);
        err = probe(d, name, arguments, what, why);
    }
    if (err == CH_OK)
        d->packet_fd = find_packet_socket(interface);
    return err;
}

static ch_err open_pcap(struct device *d, const struct ch_port_config *config, char why[CH_PORT_WHY_BYTES])
{
    if (strpbrk(config->device, ",=\""))
        return ch_port_fail(why, CH_ERR_INVALID, "the capture's name may have no comma, quote or equals sign");
    if (access(config->device, R_OK) != 0)
        return ch_port_fail(why, errno == EACCES ? CH_ERR_DENIED : CH_ERR_NOT_FOUND,
                            "can't read the capture %.128s: %m", config->device);
    char name[32], arguments[400], what[160];
    snprintf(name, sizeof name, "net_pcap_ch%u", name_counter++);
    if ((size_t)snprintf(arguments, sizeof arguments, "rx_pcap=%s,infinite_rx=%d", config->device,
                         config->replay_forever) >= sizeof arguments)
        return ch_port_fail(why, CH_ERR_INVALID, "the capture's name is too long");
    snprintf(what, sizeof what, "the capture %.128s", config->device);
    return probe(d, name, arguments, what, why);
}

static void close_ring_link(struct ring_link *link)
{
    struct rte_mbuf *m;
    for (int i = 0; i < 2; i++) {
        while (link->rings[i] && rte_ring_dequeue(link->rings[i], (void **)&m) == 0)
            rte_pktmbuf_free(m);
        rte_ring_free(link->rings[i]);
    }
    rte_mempool_free(link->pool);
    memset(link, 0, sizeof *link);
}

static ch_err open_ring(struct device *d, const struct ch_port_config *config, uint32_t rx_buffers, uint32_t tx_buffers,
                        char why[CH_PORT_WHY_BYTES])
{
    struct ring_link *link = NULL, *unused = NULL;
    for (size_t i = 0; i < RING_LINKS_MAX; i++) {
        struct ring_link *l = &ring_links[i];
        if (l->pool && strcmp(l->name, config->device) == 0)
            link = l;
        else if (!l->pool && !unused)
            unused = l;
    }
    if (strlen(config->device) >= sizeof link->name)
        return ch_port_fail(why, CH_ERR_INVALID, "the name of a ring link has at most %zu bytes",
                            sizeof link->name - 1);
    if (!link && !unused)
        return ch_port_fail(why, CH_ERR_BUSY, "at most %d ring links", RING_LINKS_MAX);
    if (!link) {
        link = unused;
        strcpy(link->name, config->device);
        uint32_t buffers = rx_buffers + 2 * tx_buffers;
        link->pool = open_pool("ring", buffers, RX_CACHE);
        for (int i = 0; link->pool && i < 2; i++) {
            char name[RTE_RING_NAMESIZE];
            snprintf(name, sizeof name, "ch_%s_%d", config->device, i);
            link->rings[i] = rte_ring_create(name, RING_ENTRIES, (int)rte_socket_id(), RING_F_SP_ENQ | RING_F_SC_DEQ);
        }
        if (!link->pool || !link->rings[0] || !link->rings[1]) {
            close_ring_link(link);
            return no_pool(buffers, why);
        }
    }
    int end = link->used[0] ? 1 : 0;
    if (link->used[end])
        return ch_port_fail(why, CH_ERR_BUSY, "the ring link %s has both its ends", config->device);
    char name[32];
    snprintf(name, sizeof name, "ch%u", name_counter++);
    int id = rte_eth_from_rings(name, &link->rings[end], 1, &link->rings[!end], 1, rte_socket_id());
    if (id < 0) {
        if (!link->used[0])
            close_ring_link(link);
        return ch_port_fail(why, CH_ERR_NO_MEMORY, "DPDK can't make the ring port %s", config->device);
    }
    link->used[end] = true;
    d->id = (uint16_t)id;
    d->made = true;
    d->link = link;
    d->link_end = end;
    d->rx_pool = d->tx_pool = link->pool;
    return CH_OK;
}

/* Which Ethernet address is ours: the one that the configuration names, the device's, or one made from the first IP
 * address. */
static void choose_mac(struct device *d, const struct ch_port_config *config)
{
    static const uint8_t none[6];
    struct rte_ether_addr mac;
    if (memcmp(config->mac, none, 6) != 0) {
        memcpy(d->mac, config->mac, 6);
    } else if (d->profile == CH_PORT_AF_PACKET && rte_eth_macaddr_get(d->id, &mac) == 0) {
        memcpy(d->mac, mac.addr_bytes, 6);
    } else {
        d->mac[0] = 2; /* locally administered */
        memcpy(d->mac + 2, config->locals[0].address.ip + 12, 4);
    }
}

static ch_err configure(struct device *d, const struct ch_port_config *config, char why[CH_PORT_WHY_BYTES])
{
    struct rte_eth_conf plain = {0};
    uint16_t rx_descriptors = DESCRIPTORS, tx_descriptors = DESCRIPTORS;
    int result = rte_eth_dev_configure(d->id, 1, 1, &plain);
    if (result == 0)
        result = rte_eth_dev_adjust_nb_rx_tx_desc(d->id, &rx_descriptors, &tx_descriptors);
    if (result == 0)
        result = rte_eth_rx_queue_setup(d->id, 0, rx_descriptors, rte_socket_id(), NULL, d->rx_pool);
    if (result == 0)
        result = rte_eth_tx_queue_setup(d->id, 0, tx_descriptors, rte_socket_id(), NULL);
    if (result == 0)
        result = rte_eth_dev_start(d->id);
    if (result != 0) {
        ch_err err = result == -EPERM || result == -EACCES ? CH_ERR_DENIED
                     : result == -ENOMEM                   ? CH_ERR_NO_MEMORY
                                                           : CH_ERR_IO;
        return ch_port_fail(why, err, "DPDK can't start %s %s: %s", ch_port_profile_name(d->profile), config->device,
                            rte_strerror(-result));
    }
    d->started = true;
    /* Questions for our IPv6 addresses come to multicast groups, and a MAC of our own is none that the device knows. */
    struct rte_ether_addr own;
    bool other_mac = rte_eth_macaddr_get(d->id, &own) != 0 || memcmp(own.addr_bytes, d->mac, 6) != 0;
    if (d->profile == CH_PORT_AF_PACKET && (rte_eth_allmulticast_enable(d->id) != 0 || other_mac) &&
        (result = rte_eth_promiscuous_enable(d->id)) != 0)
        return ch_port_fail(why, CH_ERR_IO, "%s can't take frames to all addresses: %s", config->device,
                            rte_strerror(-result));
    return CH_OK;
}

ch_err device_open(struct device *d, const struct ch_port_config *config, uint32_t rx_buffers, uint32_t tx_buffers,
                   char why[CH_PORT_WHY_BYTES])
{
    *d = (struct device){.profile = config->profile, .packet_fd = -1, .control_fd = -1};
    ch_err err = CH_OK;
    if (config->profile == CH_PORT_RING) {
        err = open_ring(d, config, rx_buffers, tx_buffers, why);
    } else {
        d->rx_pool = open_pool("rx", rx_buffers, RX_CACHE);
        d->tx_pool = open_pool("tx", tx_buffers, TX_CACHE);
        if (!d->rx_pool || !d->tx_pool)
            err = no_pool(rx_buffers + tx_buffers, why);
        else if (config->profile == CH_PORT_AF_PACKET)
            err = open_af_packet(d, config, why);
        else
            err = open_pcap(d, config, why);
    }
    if (err == CH_OK) {
        choose_mac(d, config);
        err = configure(d, config, why);
    }
    if (err != CH_OK)
        device_close(d);
    return err;
}

void device_close(struct device *d)
{
    struct rte_eth_dev_info info = {0};
    if (d->made) {
        if (d->started) {
            rte_eth_promiscuous_disable(d->id);
            rte_eth_allmulticast_disable(d->id);
            rte_eth_dev_stop(d->id);
        }
        bool known = rte_eth_dev_info_get(d->id, &info) == 0;
        rte_eth_dev_close(d->id);
        if (known && info.device)
            rte_dev_remove(info.device);
    }
    if (d->link) {
        d->link->used[d->link_end] = false;
        if (!d->link->used[0] && !d->link->used[1])
            close_ring_link(d->link);
    } else {
        rte_mempool_free(d->rx_pool);
        rte_mempool_free(d->tx_pool);
    }
    if (d->control_fd >= 0)
        close(d->control_fd);
    d->made = d->started = false;
    d->link = NULL;
    d->rx_pool = d->tx_pool = NULL;
    d->control_fd = d->packet_fd = -1;
}

void device_counters(struct device *d, uint64_t values[CH_PORT_COUNTER_COUNT])
{
    struct rte_eth_stats stats;
    if (rte_eth_stats_get(d->id, &stats) == 0) {
        values[CH_PORT_COUNTER_rx_missed] += stats.imissed;
        values[CH_PORT_COUNTER_rx_no_buffer] += stats.rx_nombuf;
        values[CH_PORT_COUNTER_rx_errors] += stats.ierrors;
        values[CH_PORT_COUNTER_tx_errors] += stats.oerrors;
    }
    struct tpacket_stats kernel;
    socklen_t length = sizeof kernel;
    if (d->packet_fd >= 0 && getsockopt(d->packet_fd, SOL_PACKET, PACKET_STATISTICS, &kernel, &length) == 0)
        atomic_fetch_add(&d->packet_drops, kernel.tp_drops);
    values[CH_PORT_COUNTER_rx_missed] += atomic_load(&d->packet_drops);
}

bool device_link_up(struct device *d)
{
    if (d->profile == CH_PORT_AF_PACKET)
        return interface_up(d); /* the driver itself says "up" from start to stop */
    struct rte_eth_link link;
    return rte_eth_link_get_nowait(d->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}
