/* What the QUIC engine carries on one core: two engines in one process, datagrams handed over in memory, time by the
 * thread's CPU clock split between the two sides. No sockets, no DPDK: their cost comes on top.
 *
 *   bench_quic [seconds for each row]
 *
 * Rows: full mutual handshakes, memory held by a connection, and frames one way by the size of their bodies. */
#include "base/time.h"
#include "dataplane/quic.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BURST    64 /* datagrams handed over at once, as a port does */
#define BODY_MAX CH_FRAME_BODY_BYTES_MAX

struct side {
    struct ch_quic *engine;
    struct ch_address address;
    double cpu_s;
    uint64_t conn, connected, frames, bytes;
    bool keep;
};

static struct side sides[2]; /* server, client */
static uint8_t (*datagrams)[CH_QUIC_DATAGRAM_BYTES_MAX];
static size_t lengths[BURST];

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void on_connected(void *context, uint64_t conn, const struct ch_quic_peer *peer)
{
    struct side *s = context;
    s->conn = conn;
    s->connected++;
    if (!s->keep && !peer->dialled)
        ch_quic_hang_up(s->engine, conn, CH_QUIC_CODE_DONE, NULL);
}

static bool on_frame(void *context, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body)
{
    struct side *s = context;
    s->frames++;
    s->bytes += header->length;
    return true;
}

static void on_closed(void *context, uint64_t conn, const struct ch_quic_closed *closed)
{
    struct side *s = context;
    if (s->keep) {
        fprintf(stderr, "connection lost: %s %s\n", ch_quic_end_name(closed->end), closed->reason);
        exit(1);
    }
}

static void open_both(bool keep)
{
    for (int i = 0; i < 2; i++) {
        uint8_t seed[CH_QUIC_SEED_BYTES];
        memset(seed, i + 1, sizeof seed);
        struct side *s = &sides[i];
        *s = (struct side){.keep = keep, .address = ch_address_from4((uint8_t[]){10, 0, 0, (uint8_t)(i + 1)}, 4740)};
        struct ch_quic_options o = {.seed = seed,
                                    .listen = i == 0,
                                    .callbacks = {.connected = on_connected, .frame = on_frame, .closed = on_closed},
                                    .context = s,
                                    .connections_max = 16384,
                                    .connections_per_address = 16384,
                                    .connections_per_key = 16384,
                                    .handshakes_max = 16384,
                                    .path_carries_max = true,
                                    .initial_rtt_ns = 1000000};
        if (ch_quic_open(&o, &s->engine) != CH_OK)
            exit(1);
    }
}

static void close_both(void)
{
    ch_quic_close(sides[0].engine);
    ch_quic_close(sides[1].engine);
}

/* A burst from `from` to the other. */
static size_t pass(int from)
{
    struct side *a = &sides[from], *b = &sides[!from];
    struct ch_quic_route route;
    double start = cpu_seconds();
    size_t count = 0;
    uint64_t now_ns = ch_time_monotonic_ns();
    if (ch_quic_expiry_ns(a->engine) <= now_ns)
        ch_quic_tick(a->engine, now_ns);
    while (count < BURST && (lengths[count] = ch_quic_next_datagram(a->engine, datagrams[count],
                                                                    CH_QUIC_DATAGRAM_BYTES_MAX, &route, now_ns)))
        count++;
    double middle = cpu_seconds();
    for (size_t i = 0; i < count; i++)
        ch_quic_receive(b->engine, &(struct ch_quic_route){.remote = a->address}, datagrams[i], lengths[i], now_ns);
    a->cpu_s += middle - start;
    b->cpu_s += cpu_seconds() - middle;
    return count;
}

static void dial(void)
{
    struct ch_quic_route to = {.remote = sides[0].address};
    uint64_t conn;
    if (ch_quic_connect(sides[1].engine, &to, NULL, NULL, ch_time_monotonic_ns(), &conn) != CH_OK)
        exit(1);
}

static void handshakes(double seconds)
{
    open_both(false);
    double end_s = cpu_seconds() + seconds;
    uint64_t dialled = 0;
    for (; cpu_seconds() < end_s && dialled < 12000; dialled++) {
        double start = cpu_seconds();
        dial();
        sides[1].cpu_s += cpu_seconds() - start;
        while (pass(1) + pass(0) > 0)
            continue;
    }
    uint64_t n = sides[0].connected;
    printf("handshakes         %7llu   server %6.0f/s a core   client %6.0f/s a core\n", (unsigned long long)n,
           (double)n / sides[0].cpu_s, (double)n / sides[1].cpu_s);
    close_both();
}

static void memory(unsigned int count)
{
    open_both(true);
    size_t before = mallinfo2().uordblks;
    for (unsigned int i = 0; i < count; i++) {
        dial();
        while (pass(1) + pass(0) > 0)
            continue;
    }
    printf("memory             %7.1f KB a connection on each side, of %llu idle ones\n",
           (double)(mallinfo2().uordblks - before) / 2e3 / count, (unsigned long long)sides[0].connected);
    close_both();
}

static void frames(size_t body, double seconds)
{
    static uint8_t bytes[BODY_MAX];
    open_both(true);
    dial();
    while (sides[0].connected + sides[1].connected < 2)
        (void)(pass(1) + pass(0));
    sides[0].cpu_s = sides[1].cpu_s = 0;
    double end_s = cpu_seconds() + seconds;
    uint64_t packets_before = ch_quic_counters(sides[0].engine).rx_datagrams;
    while (cpu_seconds() < end_s) {
        double start = cpu_seconds();
        while (ch_quic_send(sides[1].engine, sides[1].conn, &(struct ch_frame_header){.type = CH_FRAME_SUBMIT},
                            &(struct ch_bytes){bytes, body}, 1) == CH_OK)
            continue;
        sides[1].cpu_s += cpu_seconds() - start;
        for (int i = 0; i < 16; i++)
            (void)(pass(1) + pass(0));
    }
    double sent = sides[1].cpu_s, received = sides[0].cpu_s, n = (double)sides[0].frames, b = (double)sides[0].bytes;
    double packets = (double)(ch_quic_counters(sides[0].engine).rx_datagrams - packets_before);
    printf("frames of %7zu B  sender %8.2f k/s %6.2f Gbit/s   receiver %8.2f k/s %6.2f Gbit/s   %4.0f / %4.0f ns a "
           "packet\n",
           body, n / sent / 1e3, 8e-9 * b / sent, n / received / 1e3, 8e-9 * b / received, 1e9 * sent / packets,
           1e9 * received / packets);
    close_both();
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    datagrams = calloc(BURST, sizeof *datagrams);
    if (!datagrams || seconds <= 0)
        return 1;
    handshakes(seconds);
    memory(500);
    frames(32, seconds);
    frames(250, seconds);
    frames(4096, seconds);
    frames(65536, seconds);
    frames(BODY_MAX, seconds);
    free(datagrams);
    return 0;
}
