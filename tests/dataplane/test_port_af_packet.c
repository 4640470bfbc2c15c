/* A port on one end of a veth pair, the kernel's sockets on the other, in a network namespace that ends with the
 * process. */
#include "tests/dataplane/ports.h"

#include "dataplane/dpdk/port_dpdk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SKIPPED   77
#define WAIT_NS   UINT64_C(2000000)
#define ROUND_MAX 5000 /* of at most WAIT_NS: what a test waits for at most */

static const char *const own[2] = {"10.77.0.2/24:9000", "[fd77::2]/64:9000"};
static const char *const kernel[2] = {"10.77.0.1:9001", "[fd77::1]:9001"};

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return written;
}

/* A namespace of our own: as root, or as root of a user namespace. */
static bool enter_namespace(void)
{
    uid_t uid = getuid();
    if (unshare(CLONE_NEWNET) == 0)
        return true;
    char map[64];
    snprintf(map, sizeof map, "0 %u 1", uid);
    return unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 && write_file("/proc/self/uid_map", map);
}

static bool make_veth(void)
{
    return system("ip link add cha type veth peer name chb && ip link set cha addrgenmode none && "
                  "ip addr add 10.77.0.1/24 dev chb && ip link set lo up && ip link set cha up && ip link set chb up "
                  "&& ip addr add fd77::1/64 dev chb nodad") == 0;
}

/* Whether the kernel leaves checksums to the "hardware", which on veth nobody computes. */
static void set_checksum_offload(const char *interface, bool on)
{
    struct ethtool_value value = {.cmd = ETHTOOL_STXCSUM, .data = on};
    struct ifreq request = {.ifr_data = (char *)&value};
    strcpy(request.ifr_name, interface);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(ioctl(fd, SIOCETHTOOL, &request), 0);
    close(fd);
}

static struct ch_port *open_port(struct ch_port_config config)
{
    struct ch_port *port = NULL;
    char why[CH_PORT_WHY_BYTES] = "";
    config.profile = CH_PORT_AF_PACKET;
    config.device = "cha";
    config.local_count = 2;
    config.locals[0] = local_at(own[0]);
    config.locals[1] = local_at(own[1]);
    config.rx_buffers = 8192;
    if (ch_port_open_dpdk(&config, &port, why) != CH_OK)
        fail_msg("%s", why);
    return port;
}

static int kernel_socket(int family)
{
    struct sockaddr_storage at;
    struct ch_address address = address_of(kernel[family]);
    socklen_t length = ch_address_to_sockaddr(&address, &at);
    int fd = socket(at.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0), bytes = 8 << 20;
    assert_true(fd >= 0);
    (void)!setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    if (bind(fd, (struct sockaddr *)&at, length) != 0)
        fail_msg("bind: %s", strerror(errno));
    return fd;
}

static void kernel_send(int fd, int family, const void *data, size_t length)
{
    struct sockaddr_storage to;
    struct ch_address address = address_of(own[family]);
    socklen_t to_length = ch_address_to_sockaddr(&address, &to);
    assert_int_equal(sendto(fd, data, length, 0, (struct sockaddr *)&to, to_length), length);
}

/* Runs the port until `fd` has something to read, which it reads; -1 when nothing comes. */
static ssize_t run_until_readable(struct ch_port *port, int fd, void *data, size_t length)
{
    struct ch_packet none;
    for (int i = 0; i < ROUND_MAX; i++) {
        ssize_t got = recv(fd, data, length, MSG_DONTWAIT);
        if (got >= 0)
            return got;
        assert_int_equal(ch_port_rx(port, ch_time_monotonic_ns(), &none, 1), 0);
        ch_port_tx_flush(port);
        ch_port_wait(port, WAIT_NS);
    }
    return -1;
}

static bool run_until_received(struct ch_port *port, struct ch_packet *packet)
{
    for (int i = 0; i < ROUND_MAX; i++) {
        if (ch_port_rx(port, ch_time_monotonic_ns(), packet, 1) == 1)
            return true;
        ch_port_wait(port, WAIT_NS);
    }
    return false;
}

static void kernel_socket_and_port_exchange_datagrams(void **state)
{
    struct ch_port *port = open_port((struct ch_port_config){0});
    const uint32_t lengths[] = {1, 2, 99, 1252, port->payload_bytes_max};
    assert_true(ch_port_link_up(port));
    for (int family = 0; family < 2; family++) {
        int fd = kernel_socket(family);
        struct ch_address to = address_of(kernel[family]);
        for (uint32_t i = 0; i < 5; i++) {
            uint8_t data[2048], back[2048];
            memset(data, (int)i, sizeof data);
            /* the first goes out before anybody knows an Ethernet address */
            assert_true(send_number(port, ch_time_monotonic_ns(), (uint32_t)family, &to, i, lengths[i]));
            ch_port_tx_flush(port);
            assert_int_equal(run_until_readable(port, fd, back, sizeof back), lengths[i]);
            if (lengths[i] < 4)
                assert_memory_equal(back, data, lengths[i]);
            else
                assert_memory_equal(back + 4, data + 4, lengths[i] - 4);
            kernel_send(fd, family, data, lengths[i]);
            struct ch_packet packet;
            assert_true(run_until_received(port, &packet));
            assert_int_equal(packet.length, lengths[i]);
            assert_memory_equal(packet.payload, data, lengths[i]);
            assert_true(ch_address_equal(&packet.remote, &to));
            assert_int_equal(packet.local, family);
            ch_port_release(port, &packet.handle, 1);
        }
        close(fd);
    }
    assert_true(counter(port, CH_PORT_COUNTER_rx_arp) > 0 && counter(port, CH_PORT_COUNTER_rx_nd) > 0);
    assert_int_equal(counter(port, CH_PORT_COUNTER_rx_drop_checksum), 0);
    check_sums(port);
    ch_port_close(port);
}

static void kernel_asks_echo_port_answers(void **state)
{
    struct ch_port *port = open_port((struct ch_port_config){0});
    for (int family = 0; family < 2; family++) {
        int fd = family == 0 ? socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) : socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
        assert_true(fd >= 0);
        struct sockaddr_storage to;
        struct ch_address address = address_of(own[family]);
        address.port = 0;
        socklen_t length = ch_address_to_sockaddr(&address, &to);
        uint8_t request[64] = {[0] = family == 0 ? ICMP_ECHO : ICMP6_ECHO_REQUEST, [4] = 0x12, [5] = 0x34, [7] = 1};
        memset(request + 8, 0x5a, 56);
        if (family == 0) /* the kernel does this for IPv6 only */
            ch_store16(request + 2, (uint16_t) ~(0x0008 + 0x3412 + 0x0100 + 28 * 0x5a5a % 0xffff));
        uint32_t sum = 0;
        request[2] = request[3] = 0;
        for (size_t i = 0; i < sizeof request; i += 2)
            sum += ch_load16(request + i);
        sum = (sum >> 16) + (sum & 0xffff);
        sum += sum >> 16;
        if (family == 0)
            ch_store16(request + 2, (uint16_t)~sum);
        assert_int_equal(sendto(fd, request, sizeof request, 0, (struct sockaddr *)&to, length), sizeof request);
        bool answered = false;
        for (int i = 0; i < 20 && !answered; i++) {
            uint8_t packet[256];
            ssize_t got = run_until_readable(port, fd, packet, sizeof packet);
            const uint8_t *icmp = packet + (family == 0 ? 20 : 0);
            answered = got >= (ssize_t)sizeof request && icmp[0] == (family == 0 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY) &&
                       memcmp(icmp + 4, request + 4, 60) == 0;
        }
        assert_true(answered);
        close(fd);
    }
    assert_int_equal(counter(port, CH_PORT_COUNTER_rx_echo), 2);
    check_sums(port);
    ch_port_close(port);
}

static void checksums_left_to_hardware_verify_drops_trust_takes(void **state)
{
    uint8_t data[100] = {1};
    set_checksum_offload("chb", true);
    for (int trust = 0; trust < 2; trust++) {
        struct ch_port *port =
            open_port((struct ch_port_config){.rx_checksum = trust ? CH_PORT_CHECKSUM_TRUST : CH_PORT_CHECKSUM_VERIFY});
        int fd = kernel_socket(0);
        struct ch_packet packet;
        kernel_send(fd, 0, data, sizeof data);
        uint64_t bad = 0;
        bool got = false;
        for (int i = 0; i < ROUND_MAX && !got && bad == 0; i++) {
            got = ch_port_rx(port, ch_time_monotonic_ns(), &packet, 1) == 1;
            bad = counter(port, CH_PORT_COUNTER_rx_drop_checksum);
            ch_port_wait(port, WAIT_NS);
        }
        assert_int_equal(got, trust);
        assert_int_equal(bad, !trust);
        if (got)
            ch_port_release(port, &packet.handle, 1);
        close(fd);
        ch_port_close(port);
    }
    set_checksum_offload("chb", false);
}

/* The kernel sends as fast as it can while the port is left alone for a while: all are received or counted as missed.
 */
static void flood_every_datagram_received_or_counted(void **state)
{
    struct ch_port *port = open_port((struct ch_port_config){0});
    int fd = kernel_socket(0);
    uint32_t sent = 0, count = test_full() ? 500000 : 50000, arrived = 0, quiet = 0;
    struct ch_packet packets[CH_PORT_BURST_MAX];
    uint8_t data[300] = {0};
    while (quiet < 200) {
        for (int i = 0; i < 25000 && sent < count; i++) {
            ch_store32(data, sent++);
            kernel_send(fd, 0, data, sizeof data);
        }
        for (;;) {
            size_t n = ch_port_rx(port, ch_time_monotonic_ns(), packets, CH_PORT_BURST_MAX);
            for (size_t i = 0; i < n; i++)
                ch_port_release(port, &packets[i].handle, 1);
            arrived += (uint32_t)n;
            quiet = n ? 0 : quiet + 1;
            if (n == 0)
                break;
        }
        ch_port_wait(port, WAIT_NS);
    }
    uint64_t missed = counter(port, CH_PORT_COUNTER_rx_missed);
    assert_true(arrived > 0 && missed > 0);
    assert_int_equal(arrived, counter(port, CH_PORT_COUNTER_rx_datagrams));
    /* the kernel's own traffic (router solicitations) can be among the missed, and the first may wait for ARP and be
     * lost there */
    printf("%u sent, %u received, %llu missed\n", sent, arrived, (unsigned long long)missed);
    assert_true(arrived + missed >= sent - 1000 && arrived <= sent);
    check_sums(port);
    close(fd);
    ch_port_close(port);
}

static void link_down_is_seen_and_address_of_the_kernel_refused(void **state)
{
    struct ch_port *port = open_port((struct ch_port_config){0}), *other = NULL;
    char why[CH_PORT_WHY_BYTES] = "";
    assert_int_equal(system("ip link set chb down"), 0);
    assert_false(ch_port_link_up(port));
    assert_int_equal(system("ip link set chb up && ip addr add fd77::1/64 dev chb nodad"), 0);
    /* the kernel tells of the carrier a little after the command's end */
    for (int tries = 0; tries < 500 && !ch_port_link_up(port); tries++)
        usleep(10000);
    assert_true(ch_port_link_up(port));
    ch_port_close(port);

    struct ch_port_config config = {
        .profile = CH_PORT_AF_PACKET, .device = "cha", .local_count = 1, .locals = {local_at("10.77.0.1/24:9000")}};
    assert_int_equal(ch_port_open_dpdk(&config, &other, why), CH_ERR_BUSY);
    assert_non_null(strstr(why, "10.77.0.1"));
    assert_int_equal(system("ip link set cha down"), 0);
    config.locals[0] = local_at(own[0]);
    assert_int_equal(ch_port_open_dpdk(&config, &other, why), CH_ERR_IO);
    assert_non_null(strstr(why, "down"));
    assert_int_equal(system("ip link set cha up"), 0);
}

static int start(void **state)
{
    char why[CH_PORT_WHY_BYTES] = "";
    if (ch_dpdk_start(&(struct ch_dpdk_config){0}, why) == CH_OK)
        return 0;
    printf("%s\n", why);
    return -1;
}

static int stop(void **state)
{
    ch_dpdk_stop();
    return 0;
}

int main(void)
{
    if (!enter_namespace() || !make_veth()) {
        printf("skipped: no network namespace with a veth pair can be made here\n");
        return SKIPPED;
    }
    set_checksum_offload("chb", false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernel_socket_and_port_exchange_datagrams),
        cmocka_unit_test(kernel_asks_echo_port_answers),
        cmocka_unit_test(checksums_left_to_hardware_verify_drops_trust_takes),
        cmocka_unit_test(flood_every_datagram_received_or_counted),
        cmocka_unit_test(link_down_is_seen_and_address_of_the_kernel_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
