/* dataplane/port_kind.h - what a kind of port (sockets, DPDK) is made from. Only for those who write one. */
#ifndef CHAPPE_DATAPLANE_PORT_KIND_H
#define CHAPPE_DATAPLANE_PORT_KIND_H

#include "dataplane/port.h"

#define CH_PORT_IP_UDP_BYTES 48 /* IPv6 and UDP headers: what a payload leaves of the MTU, kept for both families */

/* Writes the line into `why` and returns `err`. */
__attribute__((format(printf, 3, 4))) ch_err ch_port_fail(char why[CH_PORT_WHY_BYTES], ch_err err, const char *format,
                                                          ...);

/* Fills the common part from a configuration, checks what both kinds need, opens wake_fd. On failure nothing is open.
 */
CH_MUST_CHECK ch_err ch_port_init(struct ch_port *port, const struct ch_port_ops *ops,
                                  const struct ch_port_config *config, char why[CH_PORT_WHY_BYTES]);
/* Closes wake_fd. */
void ch_port_fini(struct ch_port *port);

/* Whether a wake came since the last call; takes it. */
static inline bool ch_port_wake_take(struct ch_port *port)
{
    return atomic_load_explicit(&port->wake_wanted, memory_order_relaxed) && atomic_exchange(&port->wake_wanted, 0);
}

/* Adds to a counter; only the owner thread writes counters, so a load and a store do. */
static inline void ch_port_count(struct ch_port *port, enum ch_port_counter counter, uint64_t n)
{
    uint64_t value = atomic_load_explicit(&port->counters[counter], memory_order_relaxed);
    atomic_store_explicit(&port->counters[counter], value + n, memory_order_relaxed);
}

static inline void ch_port_counters_load(struct ch_port *port, uint64_t values[CH_PORT_COUNTER_COUNT])
{
    for (size_t i = 0; i < CH_PORT_COUNTER_COUNT; i++)
        values[i] = atomic_load_explicit(&port->counters[i], memory_order_relaxed);
}

#endif
