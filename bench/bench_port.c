/* bench/bench_port.c - datagrams a second through a port, and the processor time that one costs its thread.
 *
 *   bench_port capture FILE BYTES            writes a capture of 1024 datagrams of BYTES payload, for the two below
 *   bench_port pcap FILE SECONDS             receives it over and over
 *   bench_port ring BYTES SECONDS            sends and receives in one thread
 *   bench_port socket BYTES SECONDS          the same over the loopback interface
 *   bench_port af_packet INTERFACE SECONDS   receives what comes to 10.77.0.2:9000
 *   bench_port flood ADDRESS BYTES SECONDS   sends to it from a socket of the kernel, as fast as it goes
 *
 * Received datagrams go through a ring to a second thread, which gives them back, as they go to a stage of the node;
 * `--alone` in the end: one thread does both. bench/port_against_testpmd.py runs it beside dpdk-testpmd.
 */
#include "base/bytes.h"
#include "base/time.h"
#include "dataplane/dpdk/port_dpdk.h"
#include "dataplane/packet.h"

#include <rte_ring.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HERE          "10.77.0.2:9000"
#define THERE         "10.77.0.1:9001"
#define CAPTURE_COUNT 1024
#define BURST         32
#define STAGE_ENTRIES 4096

static const uint8_t here_mac[6] = {2, 0, 10, 77, 0, 2}, there_mac[6] = {2, 0, 10, 77, 0, 1};

static struct ch_address address_of(const char *text)
{
    struct ch_address address;
    if (ch_address_parse(text, &address, NULL) != CH_OK) {
        fprintf(stderr, "%s: no address\n", text);
        exit(2);
    }
    return address;
}

static struct ch_port *open_port(enum ch_port_profile profile, const char *device, const char *address)
{
    struct ch_port_config config = {.profile = profile,
                                    .device = device,
                                    .local_count = 1,
                                    .locals = {{.address = address_of(address), .prefix_bits = 24}},
                                    .replay_forever = true};
    struct ch_port *port = NULL;
    char why[CH_PORT_WHY_BYTES];
    ch_err err =
        profile == CH_PORT_SOCKET ? ch_port_open_socket(&config, &port, why) : ch_port_open_dpdk(&config, &port, why);
    if (err != CH_OK) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    return port;
}

/* The stage behind the port. */
struct stage {
    struct ch_port *port;
    struct rte_ring *ring; /* NULL: the port's thread gives datagrams back itself */
    _Atomic bool over;
    uint64_t full; /* datagrams that the ring had no room for, given back at once */
};

static void *run_stage(void *argument)
{
    struct stage *stage = argument;
    bool entered = ch_dpdk_thread_enter() == CH_OK;
    void *handles[CH_PORT_BURST_MAX];
    for (;;) {
        unsigned n = rte_ring_sc_dequeue_burst(stage->ring, handles, CH_PORT_BURST_MAX, NULL);
        if (n > 0)
            ch_port_release(stage->port, handles, n);
        else if (atomic_load(&stage->over))
            break;
        else
            sched_yield();
    }
    if (entered)
        ch_dpdk_thread_leave();
    return NULL;
}

static size_t receive(struct stage *stage, uint64_t now_ns)
{
    struct ch_packet packets[CH_PORT_BURST_MAX];
    void *handles[CH_PORT_BURST_MAX];
    size_t n = ch_port_rx(stage->port, now_ns, packets, CH_PORT_BURST_MAX), passed = 0;
    if (n == 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        handles[i] = packets[i].handle;
    if (stage->ring)
        passed = rte_ring_sp_enqueue_burst(stage->ring, handles, (unsigned)n, NULL);
    if (passed < n) {
        ch_port_release(stage->port, handles + passed, n - passed);
        stage->full += stage->ring ? n - passed : 0;
    }
    return n;
}

static void send_burst(struct ch_port *port, uint64_t now_ns, const struct ch_address *to, uint32_t bytes)
{
    struct ch_packet packet;
    for (int i = 0; i < BURST && ch_port_tx_get(port, &packet) == CH_OK; i++) {
        packet.remote = *to;
        packet.local = 0;
        packet.length = bytes;
        ch_store64(packet.payload, (uint64_t)i);
        ch_port_tx_commit(port, now_ns, &packet);
    }
    ch_port_tx_flush(port);
}

static uint64_t thread_time_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Receives for a while; `from`, where there is one, sends a burst before each receive. */
static void run(const char *name, struct ch_port *port, struct ch_port *from, uint32_t bytes, double seconds,
                bool alone)
{
    struct stage stage = {.port = port};
    pthread_t thread;
    struct ch_packet none[1];
    if (!alone) {
        stage.ring = rte_ring_create("stage", STAGE_ENTRIES, 0, RING_F_SP_ENQ | RING_F_SC_DEQ);
        if (!stage.ring || pthread_create(&thread, NULL, run_stage, &stage) != 0) {
            fprintf(stderr, "no second thread\n");
            exit(1);
        }
    }
    uint64_t start = ch_time_monotonic_ns(), now = start, end = start + (uint64_t)(seconds * 1e9), received = 0;
    uint64_t cpu = thread_time_ns();
    while (now < end) {
        for (int i = 0; i < 16; i++) { /* looking at the clock costs as much as a small burst */
            if (from) {
                send_burst(from, now, &port->locals[0].address, bytes);
                ch_port_rx(from, now, none, 1);
            }
            size_t n = receive(&stage, now);
            received += n;
            if (n == 0 && !from)
                ch_port_wait(port, 10000000);
        }
        now = ch_time_monotonic_ns();
    }
    cpu = thread_time_ns() - cpu;
    double took = (double)(now - start) / 1e9;
    atomic_store(&stage.over, true);
    if (stage.ring) {
        pthread_join(thread, NULL);
        rte_ring_free(stage.ring);
    }
    uint64_t v[CH_PORT_COUNTER_COUNT];
    ch_port_counters(port, v);
    printf("%s%s: %.3f M datagrams/s, %.1f ns of processor each, %.0f %% of a core; %llu missed, %llu ring full\n",
           name, alone ? " (one thread)" : "", (double)received / took / 1e6,
           received ? (double)cpu / (double)received : 0.0, (double)cpu / took / 1e7,
           (unsigned long long)v[CH_PORT_COUNTER_rx_missed], (unsigned long long)stage.full);
    for (enum ch_port_counter c = 0; c < CH_PORT_COUNTER_COUNT; c++)
        if (v[c] && strncmp(ch_port_counter_name(c), "rx_drop_", 8) == 0)
            printf("  %s %llu\n", ch_port_counter_name(c), (unsigned long long)v[c]);
}

static int write_capture(const char *path, uint32_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        return 1;
    }
    const uint32_t header[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 1};
    bool good = fwrite(header, sizeof header, 1, file) == 1;
    for (uint32_t i = 0; i < CAPTURE_COUNT && good; i++) {
        uint8_t buffer[CH_FRAME_BYTES] = {0}, *payload = buffer + CH_HEADERS_BYTES4;
        struct ch_address from = address_of(THERE), to = address_of(HERE);
        ch_store32(payload, i);
        from.port = (uint16_t)(from.port + i % 64);
        uint8_t *frame = ch_frame_build_udp(payload, bytes, &from, &to, there_mac, here_mac);
        const uint32_t length = CH_HEADERS_BYTES4 + bytes, record[4] = {0, i, length, length};
        good = fwrite(record, sizeof record, 1, file) == 1 && fwrite(frame, length, 1, file) == 1;
    }
    return fclose(file) == 0 && good ? 0 : 1;
}

static int flood(const char *to_text, uint32_t bytes, double seconds)
{
    struct sockaddr_storage to;
    struct ch_address address = address_of(to_text);
    socklen_t length = ch_address_to_sockaddr(&address, &to);
    int fd = socket(to.ss_family, SOCK_DGRAM, 0);
    uint8_t payload[CH_PORT_MTU_BYTES] = {0};
    struct iovec part = {payload, bytes};
    struct mmsghdr messages[64];
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, length) != 0) {
        perror(to_text);
        return 1;
    }
    for (int i = 0; i < 64; i++)
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    uint64_t start = ch_time_monotonic_ns(), end = start + (uint64_t)(seconds * 1e9), sent = 0, now = start;
    for (; now < end; now = ch_time_monotonic_ns()) {
        int n = sendmmsg(fd, messages, 64, 0);
        sent += n > 0 ? (uint64_t)n : 0;
    }
    close(fd);
    printf("flood: %.3f M datagrams/s sent, %llu\n", (double)sent / ((double)(now - start) / 1e3),
           (unsigned long long)sent);
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "bench_port capture FILE BYTES | pcap FILE SECONDS | ring BYTES SECONDS | socket BYTES SECONDS | "
                    "af_packet INTERFACE SECONDS | flood ADDRESS BYTES SECONDS [--alone]\n");
    return 2;
}

int main(int argc, char **argv)
{
    bool alone = argc > 1 && strcmp(argv[argc - 1], "--alone") == 0;
    argc -= alone;
    if (argc < 4)
        return usage();
    const char *what = argv[1];
    uint32_t bytes =
        (uint32_t)strtoul(strcmp(what, "ring") == 0 || strcmp(what, "socket") == 0 ? argv[2] : argv[3], NULL, 10);
    double seconds = strtod(argv[argc - 1], NULL);
    bool sized = strcmp(what, "pcap") != 0 && strcmp(what, "af_packet") != 0;
    if (sized && (bytes < 8 || bytes > CH_PORT_MTU_BYTES - 48))
        return usage();
    if (strcmp(what, "capture") == 0)
        return write_capture(argv[2], bytes);
    if (strcmp(what, "flood") == 0)
        return argc == 5 ? flood(argv[2], bytes, seconds) : usage();

    char why[CH_PORT_WHY_BYTES];
    if (ch_dpdk_start(&(struct ch_dpdk_config){.memory_mib = 192}, why) != CH_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    printf("%s; ", ch_dpdk_hugepages() ? "hugepages" : "ordinary pages");
    struct ch_port *port = NULL, *from = NULL;
    if (strcmp(what, "pcap") == 0) {
        port = open_port(CH_PORT_PCAP, argv[2], HERE);
    } else if (strcmp(what, "af_packet") == 0) {
        port = open_port(CH_PORT_AF_PACKET, argv[2], HERE);
    } else if (strcmp(what, "ring") == 0) {
        port = open_port(CH_PORT_RING, "bench", HERE);
        from = open_port(CH_PORT_RING, "bench", THERE);
    } else if (strcmp(what, "socket") == 0) {
        port = open_port(CH_PORT_SOCKET, NULL, "127.0.0.1:0");
        from = open_port(CH_PORT_SOCKET, NULL, "127.0.0.1:0");
    } else {
        return usage();
    }
    run(what, port, from, bytes, seconds, alone);
    ch_port_close(from);
    ch_port_close(port);
    ch_dpdk_stop();
    return 0;
}
