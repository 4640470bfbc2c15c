/* tests/dataplane/ports.h - what the tests of all kinds of ports share. */
#ifndef CHAPPE_TESTS_DATAPLANE_PORTS_H
#define CHAPPE_TESTS_DATAPLANE_PORTS_H

#include "tests/test.h"

#include "dataplane/port.h"

#define SPIN_MAX 2000000 /* rounds before a test gives up */

static inline uint64_t counter(struct ch_port *port, enum ch_port_counter which)
{
    uint64_t values[CH_PORT_COUNTER_COUNT];
    ch_port_counters(port, values);
    return values[which];
}

/* The two sums that port.h promises. */
static inline void check_sums(struct ch_port *port)
{
    uint64_t v[CH_PORT_COUNTER_COUNT], dropped = 0, tx_dropped = 0;
    ch_port_counters(port, v);
    for (enum ch_port_counter c = 0; c < CH_PORT_COUNTER_COUNT; c++) {
        dropped += strncmp(ch_port_counter_name(c), "rx_drop_", 8) == 0 ? v[c] : 0;
        tx_dropped += strncmp(ch_port_counter_name(c), "tx_drop_", 8) == 0 ? v[c] : 0;
    }
    assert_int_equal(v[CH_PORT_COUNTER_rx_frames], v[CH_PORT_COUNTER_rx_datagrams] + v[CH_PORT_COUNTER_rx_arp] +
                                                       v[CH_PORT_COUNTER_rx_nd] + v[CH_PORT_COUNTER_rx_echo] + dropped);
    assert_int_equal(v[CH_PORT_COUNTER_tx_datagrams],
                     v[CH_PORT_COUNTER_tx_sent] + tx_dropped + ch_port_tx_pending(port));
}

/* Commits a datagram of `length` bytes that begins with `number`; false when there is no buffer. */
static inline bool send_number(struct ch_port *from, uint64_t now_ns, uint32_t local, const struct ch_address *to,
                               uint32_t number, uint32_t length)
{
    struct ch_packet packet;
    if (ch_port_tx_get(from, &packet) != CH_OK)
        return false;
    assert_true(packet.length >= length);
    memset(packet.payload, (int)(number & 0xff), length);
    if (length >= 4)
        ch_store32(packet.payload, number);
    packet.length = length;
    packet.remote = *to;
    packet.local = local;
    ch_port_tx_commit(from, now_ns, &packet);
    return true;
}

static inline struct ch_port_local local_at(const char *text)
{
    struct ch_port_local local;
    assert_ok(ch_address_parse(text, &local.address, &local.prefix_bits));
    return local;
}

static inline struct ch_address address_of(const char *text)
{
    return local_at(text).address;
}

#endif
