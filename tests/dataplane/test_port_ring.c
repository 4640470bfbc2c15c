/* DPDK ports back to back in one process: the environment, the link layer over real mbufs, threads. */
#include "tests/dataplane/ports.h"

#include "dataplane/dpdk/port_dpdk.h"
#include "dataplane/packet.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)

static uint64_t now_ns = SECOND_NS; /* the tests' own time */

static struct ch_port *open_end(const char *link, struct ch_port_config config)
{
    config.profile = CH_PORT_RING;
    config.device = link;
    struct ch_port *port = NULL;
    char why[CH_PORT_WHY_BYTES] = "";
    if (ch_port_open_dpdk(&config, &port, why) != CH_OK)
        fail_msg("%s", why);
    return port;
}

static struct ch_port *open_plain(const char *link, const char *address4, const char *address6)
{
    return open_end(link, (struct ch_port_config){.locals = {local_at(address4), local_at(address6)},
                                                  .local_count = 2,
                                                  .rx_buffers = 8192});
}

/* One datagram, within a few rounds of both ends. */
static struct ch_packet expect_one(struct ch_port *at, struct ch_port *other)
{
    struct ch_packet packet, none;
    for (int i = 0; i < 10; i++) {
        ch_port_tx_flush(other);
        if (ch_port_rx(at, now_ns, &packet, 1) == 1)
            return packet;
        assert_int_equal(ch_port_rx(other, now_ns, &none, 1), 0);
    }
    fail_msg("nothing came");
    return packet;
}

static void first_datagram_resolves_then_both_ways(void **state)
{
    struct ch_port *a = open_plain("pair", "10.1.0.1/24:5001", "[fd01::1]/64:5001");
    struct ch_port *b = open_plain("pair", "10.1.0.2/24:5002", "[fd01::2]/64:5002");
    const uint32_t lengths[] = {0, 1, 7, 100, 1200, a->payload_bytes_max};
    for (uint32_t local = 0; local < 2; local++)
        for (uint32_t i = 0; i < 6; i++) {
            struct ch_port *from = i % 2 ? b : a, *to = i % 2 ? a : b;
            assert_true(send_number(from, now_ns, local, &to->locals[local].address, i, lengths[i]));
            struct ch_packet packet = expect_one(to, from);
            assert_int_equal(packet.length, lengths[i]);
            assert_int_equal(packet.local, local);
            assert_true(ch_address_equal(&packet.remote, &from->locals[local].address));
            for (uint32_t k = 4; k < packet.length; k++)
                assert_int_equal(packet.payload[k], i);
            ch_port_release(to, &packet.handle, 1);
        }
    assert_true(ch_port_link_up(a));
    /* b learned of a from its question and had none of its own: it sent its two announcements and two answers */
    assert_int_equal(counter(b, CH_PORT_COUNTER_tx_control), 4);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_control), 4);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_sent), 6);
    assert_int_equal(ch_port_tx_pending(a), 0);
    check_sums(a);
    check_sums(b);
    ch_port_close(a);
    ch_port_close(b);
}

static void neighbour_silent_waiting_is_bounded_then_dropped(void **state)
{
    struct ch_port *a = open_plain("quiet", "10.1.0.1/24:5001", "[fd01::1]/64:5001");
    struct ch_address silent = address_of("10.1.0.9:7");
    struct ch_packet none;
    for (uint32_t i = 0; i < 100; i++)
        assert_true(send_number(a, now_ns, 0, &silent, i, 20));
    assert_int_equal(ch_port_tx_pending(a), 16);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_drop_unresolved), 84);
    for (uint32_t host = 10; host < 60; host++) {
        silent.ip[15] = (uint8_t)host;
        for (uint32_t i = 0; i < 20; i++)
            assert_true(send_number(a, now_ns, 0, &silent, i, 20));
    }
    assert_int_equal(ch_port_tx_pending(a), 256); /* CH_NEIGHBOUR_WAITING_MAX */
    for (int second = 0; second < 5; second++) {
        now_ns += SECOND_NS;
        assert_int_equal(ch_port_rx(a, now_ns, &none, 1), 0);
    }
    assert_int_equal(ch_port_tx_pending(a), 0);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_drop_unresolved), 100 + 50 * 20);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_control), 51 * 3 + 2); /* three questions each, two announcements */
    check_sums(a);
    ch_port_close(a);
}

static void off_link_goes_through_gateway_or_is_dropped(void **state)
{
    struct ch_port *a =
        open_end("gate", (struct ch_port_config){.locals = {local_at("10.1.0.1/24:1"), local_at("[fd01::1]/64:1")},
                                                 .local_count = 2,
                                                 .gateway4 = address_of("10.1.0.2")});
    struct ch_port *b = open_plain("gate", "10.1.0.2/24:2", "[fd01::2]/64:2");
    struct ch_address far4 = address_of("192.0.2.9:2"), far6 = address_of("[2001:db8::9]:2");
    struct ch_packet none;
    assert_true(send_number(a, now_ns, 0, &far4, 1, 10));
    assert_true(send_number(a, now_ns, 1, &far6, 2, 10));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ch_port_rx(b, now_ns, &none, 1), 0);
        ch_port_tx_flush(a);
        assert_int_equal(ch_port_rx(a, now_ns, &none, 1), 0);
        ch_port_tx_flush(a);
    }
    /* the first came to b's Ethernet address, but b is no router */
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_sent), 1);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_drop_no_route), 1);
    assert_int_equal(counter(b, CH_PORT_COUNTER_rx_drop_not_for_us) >= 1, 1);
    check_sums(a);
    check_sums(b);
    ch_port_close(a);
    ch_port_close(b);
}

static void nobody_takes_buffers_run_out_then_all_arrive(void **state)
{
    struct ch_port *a = open_plain("full", "10.1.0.1/24:1", "[fd01::1]/64:1");
    struct ch_port *b = open_plain("full", "10.1.0.2/24:2", "[fd01::2]/64:2");
    struct ch_packet packets[CH_PORT_BURST_MAX];
    struct ch_packet packet;
    assert_true(send_number(a, now_ns, 0, &b->locals[0].address, 0, 10));
    packet = expect_one(b, a);
    ch_port_release(b, &packet.handle, 1);
    uint32_t sent = 1, arrived = 1;
    while (sent < 100000 && send_number(a, now_ns, 0, &b->locals[0].address, sent, 10))
        sent++;
    assert_true(sent < 100000 && counter(a, CH_PORT_COUNTER_tx_refused_no_buffer) == 1);
    for (int i = 0; i < 10000 && arrived < sent; i++) {
        size_t n = ch_port_rx(b, now_ns, packets, CH_PORT_BURST_MAX);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(ch_load32(packets[k].payload), arrived++);
            ch_port_release(b, &packets[k].handle, 1);
        }
        ch_port_tx_flush(a);
    }
    assert_int_equal(arrived, sent);
    assert_int_equal(ch_port_tx_pending(a), 0);
    check_sums(a);
    check_sums(b);
    ch_port_close(a);
    ch_port_close(b);
}

/* A stage that gets handles through a small ring, holds them for a while and gives them back. */
struct stage {
    struct ch_port *port;
    _Atomic(void *) slots[1024];
    uint32_t count;
    bool registered;
};

static void *release_elsewhere(void *argument)
{
    struct stage *stage = argument;
    stage->registered = ch_dpdk_thread_enter() == CH_OK;
    for (uint32_t done = 0; done < stage->count;) {
        void *handle = atomic_exchange(&stage->slots[done % 1024], NULL);
        if (!handle) {
            sched_yield();
            continue;
        }
        ch_port_release(stage->port, &handle, 1);
        if (++done % 256 == 0)
            ch_port_wake(stage->port);
    }
    ch_dpdk_thread_leave();
    return NULL;
}

static void handles_released_by_another_thread_none_is_missing(void **state)
{
    struct ch_port *a = open_plain("pass", "10.1.0.1/24:1", "[fd01::1]/64:1");
    struct ch_port *b = open_plain("pass", "10.1.0.2/24:2", "[fd01::2]/64:2");
    static struct stage stage;
    stage = (struct stage){.port = b, .count = test_full() ? 10000000 : 200000};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, release_elsewhere, &stage), 0);
    uint32_t sent = 0, arrived = 0;
    struct ch_packet packets[CH_PORT_BURST_MAX];
    while (arrived < stage.count) {
        while (sent < stage.count && sent < arrived + (arrived ? 1000 : 16) &&
               send_number(a, now_ns, 0, &b->locals[0].address, sent, 64))
            sent++;
        ch_port_tx_flush(a);
        assert_int_equal(ch_port_rx(a, now_ns, packets, 1), 0);
        size_t n = ch_port_rx(b, now_ns, packets, CH_PORT_BURST_MAX);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ch_load32(packets[i].payload), arrived);
            while (atomic_load(&stage.slots[arrived % 1024]))
                sched_yield();
            atomic_store(&stage.slots[arrived++ % 1024], packets[i].handle);
        }
        if (n == 0)
            ch_port_wait(b, 1000000);
    }
    pthread_join(thread, NULL);
    assert_true(stage.registered);
    assert_int_equal(counter(b, CH_PORT_COUNTER_rx_datagrams), stage.count);
    check_sums(a);
    check_sums(b);
    ch_port_close(a);
    ch_port_close(b);
}

static void idle_port_sleeps_and_wake_ends_it(void **state)
{
    struct ch_port *a = open_plain("idle", "10.1.0.1/24:1", "[fd01::1]/64:1");
    struct ch_packet none;
    for (int i = 0; i < 300; i++) {
        assert_int_equal(ch_port_rx(a, now_ns, &none, 1), 0);
        ch_port_wait(a, SECOND_NS);
    }
    uint64_t sleeps = counter(a, CH_PORT_COUNTER_sleeps);
    assert_true(sleeps > 100 && sleeps <= 201);
    ch_port_wake(a);
    ch_port_wait(a, SECOND_NS);
    assert_int_equal(counter(a, CH_PORT_COUNTER_sleeps), sleeps);
    ch_port_close(a);

    a = open_end("idle", (struct ch_port_config){
                             .locals = {local_at("10.1.0.1/24:1")}, .local_count = 1, .poll = CH_PORT_POLL_BUSY});
    for (int i = 0; i < 300; i++) {
        assert_int_equal(ch_port_rx(a, now_ns, &none, 1), 0);
        ch_port_wait(a, SECOND_NS);
    }
    assert_int_equal(counter(a, CH_PORT_COUNTER_sleeps), 0);
    ch_port_close(a);
}

static void capture_is_replayed_once_in_order(void **state)
{
    char path[] = "/tmp/chappe-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    const uint32_t header[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 1};
    assert_int_equal(fwrite(header, sizeof header, 1, file), 1);
    struct ch_address from = address_of("10.1.0.2:7"), to = address_of("10.1.0.1:9000");
    const uint8_t mac[6] = {2, 0, 10, 1, 0, 1}; /* as a port makes it from 10.1.0.1 */
    for (uint32_t i = 0; i < 1000; i++) {
        uint8_t buffer[CH_FRAME_BYTES] = {0}, *payload = buffer + CH_HEADERS_BYTES4;
        ch_store32(payload, i);
        uint8_t *frame = ch_frame_build_udp(payload, 100, &from, &to, mac, mac);
        frame[11] = 9;
        const uint32_t length = CH_HEADERS_BYTES4 + 100, record[4] = {0, i, length, length};
        assert_true(fwrite(record, sizeof record, 1, file) == 1 && fwrite(frame, length, 1, file) == 1);
    }
    assert_int_equal(fclose(file), 0);
    struct ch_port_config config = {.profile = CH_PORT_PCAP,
                                    .device = path,
                                    .locals = {local_at("10.1.0.1/24:9000")},
                                    .local_count = 1,
                                    .rx_buffers = 2048};
    struct ch_port *port = NULL;
    char why[CH_PORT_WHY_BYTES] = "";
    if (ch_port_open_dpdk(&config, &port, why) != CH_OK)
        fail_msg("%s", why);
    struct ch_packet packets[CH_PORT_BURST_MAX];
    uint32_t count = 0;
    for (int i = 0; i < 1000; i++) {
        size_t n = ch_port_rx(port, now_ns, packets, CH_PORT_BURST_MAX);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(ch_load32(packets[k].payload), count++);
            ch_port_release(port, &packets[k].handle, 1);
        }
    }
    assert_int_equal(count, 1000);
    check_sums(port);
    ch_port_close(port);
    unlink(path);
}

static void bad_configuration_is_one_clear_line(void **state)
{
    static const struct {
        struct ch_port_config config;
        ch_err err;
        const char *word;
    } cases[] = {
        {{.profile = CH_PORT_SOCKET, .local_count = 1}, CH_ERR_INVALID, "socket"},
        {{.profile = CH_PORT_RING, .local_count = 1}, CH_ERR_INVALID, "device"},
        {{.profile = CH_PORT_RING, .device = "x"}, CH_ERR_INVALID, "local addresses"},
        {{.profile = CH_PORT_RING, .device = "x", .local_count = 17}, CH_ERR_INVALID, "local addresses"},
        {{.profile = CH_PORT_RING, .device = "x", .local_count = 1, .mtu_bytes = 9000}, CH_ERR_INVALID, "MTU"},
        {{.profile = CH_PORT_RING, .device = "x", .local_count = 1, .rx_buffers = 7}, CH_ERR_INVALID, "buffers"},
        {{.profile = CH_PORT_RING, .device = "a-name-that-is-too-long", .local_count = 1}, CH_ERR_INVALID, "ring link"},
        {{.profile = CH_PORT_RING, .device = "x", .local_count = 1, .rx_buffers = 262144}, CH_ERR_NO_MEMORY, "buffers"},
        {{.profile = CH_PORT_AF_PACKET, .device = "no-such-if", .local_count = 1}, CH_ERR_NOT_FOUND, "no-such-if"},
        {{.profile = CH_PORT_AF_PACKET, .device = "lo,iface=x", .local_count = 1}, CH_ERR_NOT_FOUND, "interface"},
        {{.profile = CH_PORT_PCAP, .device = "/no/such.pcap", .local_count = 1}, CH_ERR_NOT_FOUND, "/no/such.pcap"},
        {{.profile = CH_PORT_PCAP, .device = "a,b", .local_count = 1}, CH_ERR_INVALID, "comma"},
        {{.profile = CH_PORT_PCAP, .device = "/dev/null", .local_count = 1}, CH_ERR_IO, "/dev/null"},
    };
    struct ch_port *port = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[CH_PORT_WHY_BYTES] = "";
        struct ch_port_config config = cases[i].config;
        config.locals[0] = local_at("10.1.0.1/24:1");
        if (ch_dpdk_hugepages() && cases[i].err == CH_ERR_NO_MEMORY)
            continue;
        ch_err err = ch_port_open_dpdk(&config, &port, why);
        if (err != cases[i].err || !strstr(why, cases[i].word) || strchr(why, '\n'))
            fail_msg("case %zu: %s \"%s\"", i, ch_err_name(err), why);
        assert_null(port);
    }

    static const struct {
        const char *local, *gateway4, *word;
    } links[] = {
        {"10.1.0.1/24", "0.0.0.0", "UDP port"},    {"127.0.0.1/8:1", "0.0.0.0", "none that a host"},
        {"0.0.0.0/0:1", "0.0.0.0", "none that"},   {"[::]:1", "0.0.0.0", "none that a host"},
        {"[ff02::1]:1", "0.0.0.0", "none that"},   {"10.1.0.1/24:1", "10.1.1.1", "gateway"},
        {"10.1.0.1/24:1", "10.1.0.1", "gateway"},  {"10.1.0.1/24:1", "fd01::1", "gateway"},
        {"[fd01::1]/64:1", "10.1.0.2", "gateway"},
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        char why[CH_PORT_WHY_BYTES] = "";
        struct ch_port_config config = {.profile = CH_PORT_RING, .device = "x", .local_count = 1};
        config.locals[0] = local_at(links[i].local);
        if (strcmp(links[i].gateway4, "0.0.0.0") != 0)
            config.gateway4 = address_of(links[i].gateway4);
        assert_int_equal(ch_port_open_dpdk(&config, &port, why), CH_ERR_INVALID);
        if (!strstr(why, links[i].word))
            fail_msg("case %zu: \"%s\"", i, why);
    }
    /* after all these failures the name is free, twice but not three times */
    struct ch_port *a = open_plain("x", "10.1.0.1/24:1", "[fd01::1]/64:1");
    struct ch_port *b = open_plain("x", "10.1.0.2/24:1", "[fd01::2]/64:1");
    char why[CH_PORT_WHY_BYTES] = "";
    struct ch_port_config third = {
        .profile = CH_PORT_RING, .device = "x", .local_count = 1, .locals = {local_at("10.1.0.3/24:1")}};
    assert_int_equal(ch_port_open_dpdk(&third, &port, why), CH_ERR_BUSY);
    ch_port_close(a);
    ch_port_close(b);
}

static void started_twice_is_refused(void **state)
{
    char why[CH_PORT_WHY_BYTES] = "";
    assert_int_equal(ch_dpdk_start(&(struct ch_dpdk_config){0}, why), CH_ERR_EXISTS);
}

static void threads_of_dpdk_block_all_signals(void **state)
{
    /* every thread but this one */
    char line[256];
    int threads = 0;
    FILE *list = popen("grep -H SigBlk /proc/$PPID/task/*/status", "r");
    assert_non_null(list);
    for (; fgets(line, sizeof line, list); threads++) {
        int process, thread;
        unsigned long long blocked;
        assert_int_equal(sscanf(line, "/proc/%d/task/%d/status:SigBlk: %llx", &process, &thread, &blocked), 3);
        if (thread != process) /* our own mask is popen's for a moment */
            assert_true(blocked >> (SIGTERM - 1) & 1 && blocked >> (SIGINT - 1) & 1);
    }
    pclose(list);
    assert_true(threads > 1);
    sigset_t own;
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &own), 0);
    assert_false(sigismember(&own, SIGTERM));
}

static int start(void **state)
{
    char why[CH_PORT_WHY_BYTES] = "";
    if (ch_dpdk_start(&(struct ch_dpdk_config){.memory_mib = 192}, why) != CH_OK) {
        printf("%s\n", why);
        return -1;
    }
    printf("%s\n", ch_dpdk_hugepages() ? "hugepages" : "ordinary pages");
    return 0;
}

static int stop(void **state)
{
    ch_dpdk_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(started_twice_is_refused),
        cmocka_unit_test(threads_of_dpdk_block_all_signals),
        cmocka_unit_test(bad_configuration_is_one_clear_line),
        cmocka_unit_test(capture_is_replayed_once_in_order),
        cmocka_unit_test(first_datagram_resolves_then_both_ways),
        cmocka_unit_test(neighbour_silent_waiting_is_bounded_then_dropped),
        cmocka_unit_test(off_link_goes_through_gateway_or_is_dropped),
        cmocka_unit_test(nobody_takes_buffers_run_out_then_all_arrive),
        cmocka_unit_test(handles_released_by_another_thread_none_is_missing),
        cmocka_unit_test(idle_port_sleeps_and_wake_ends_it),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
