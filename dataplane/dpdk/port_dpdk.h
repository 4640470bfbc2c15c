/* dataplane/dpdk/port_dpdk.h - ports on DPDK devices: Ethernet, IP and UDP are done here, the kernel doesn't know the
 * port.
 *
 * What:    starts DPDK's environment (EAL) from our own settings, opens ports of every profile but `socket`, lets
 *          threads of ours use them well.
 * Thread:  ch_dpdk_start and ch_dpdk_stop by the main thread; ch_port_open_dpdk and ch_port_close by one at a time.
 * Not:     EAL creates no worker threads of ours: stages are ordinary threads. EAL's own run with all signals blocked.
 */
#ifndef CHAPPE_DATAPLANE_DPDK_PORT_DPDK_H
#define CHAPPE_DATAPLANE_DPDK_PORT_DPDK_H

#include "dataplane/port.h"

enum ch_dpdk_memory { CH_DPDK_MEMORY_AUTO, CH_DPDK_MEMORY_HUGEPAGES, CH_DPDK_MEMORY_ORDINARY };

/* Zeros are the defaults. */
struct ch_dpdk_config {
    enum ch_dpdk_memory memory; /* auto: hugepages where enough are free, else ordinary pages */
    uint32_t
        memory_mib; /* ordinary pages: all that ports can have (0: 128). hugepages: how much must be free (0: 64) */
    bool verbose;   /* EAL's own messages on stderr; else only what it could not do */
};

/* Starts EAL once in a process; leaves no files behind, pins no thread. CH_ERR_NO_MEMORY: hugepages asked for and too
 * few; CH_ERR_EXISTS: started before; CH_ERR_DENIED; CH_ERR_UNSUPPORTED. On failure `why` has one line. EAL can't be
 * started again after it failed or was stopped. */
CH_MUST_CHECK ch_err ch_dpdk_start(const struct ch_dpdk_config *config, char why[CH_PORT_WHY_BYTES]);
/* After every port is closed. */
void ch_dpdk_stop(void);
/* Whether hugepages are in use; false before ch_dpdk_start. */
bool ch_dpdk_hugepages(void);

/* A thread that receives, sends or releases often calls this at its start (and leave at its end): it gets a buffer
 * cache of its own. Without it everything works, slower. CH_ERR_FULL: too many threads (128). */
CH_MUST_CHECK ch_err ch_dpdk_thread_enter(void);
void ch_dpdk_thread_leave(void);

/* Opens a port as `config` says. Two `ring` ports with the same device name are each other's ends; a third is refused.
 * CH_ERR_INVALID: the configuration (why says which part); CH_ERR_NOT_FOUND: no such interface or file; CH_ERR_DENIED:
 * CAP_NET_RAW and CAP_NET_ADMIN are missing; CH_ERR_NO_MEMORY: the buffers don't fit; CH_ERR_BUSY; CH_ERR_IO: the
 * device. `why` has one line on failure. */
CH_MUST_CHECK ch_err ch_port_open_dpdk(const struct ch_port_config *config, struct ch_port **out,
                                       char why[CH_PORT_WHY_BYTES]);

#endif
