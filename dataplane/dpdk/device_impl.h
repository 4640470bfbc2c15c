/* dataplane/dpdk/device_impl.h - the DPDK device behind a port: one file knows each profile. */
#ifndef CHAPPE_DATAPLANE_DPDK_DEVICE_IMPL_H
#define CHAPPE_DATAPLANE_DPDK_DEVICE_IMPL_H

#include "dataplane/port.h"

#include <rte_mempool.h>

/* A device found or made, configured and started. */
struct device {
    enum ch_port_profile profile;
    bool made, started; /* what close has to undo */
    uint16_t id;
    uint8_t mac[6];
    int packet_fd; /* af_packet: the driver's socket, for its drop count and for sleeping on; else -1. Not ours to close
                    */
    int control_fd; /* af_packet: for asking the interface's flags; else -1 */
    char interface[16];
    struct ring_link *link; /* ring, and which of its ends */
    int link_end;
    struct rte_mempool *rx_pool, *tx_pool;
    _Atomic uint64_t packet_drops; /* read so far: the kernel forgets when read */
};

/* Opens what the profile says, with its pools (rx_pool is unused by ring ports, whose frames are the other end's).
 * CH_ERR_* as ch_port_open_dpdk; on failure nothing is left. */
CH_MUST_CHECK ch_err device_open(struct device *d, const struct ch_port_config *config, uint32_t rx_buffers,
                                 uint32_t tx_buffers, char why[CH_PORT_WHY_BYTES]);
/* Stops and takes back; also half of it. */
void device_close(struct device *d);
/* What the device and the kernel counted, added to `values`. */
void device_counters(struct device *d, uint64_t values[CH_PORT_COUNTER_COUNT]);
bool device_link_up(struct device *d);

#endif
