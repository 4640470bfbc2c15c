/* node/devnet_switch.h - a network for a devnet on one machine: hosts in network namespaces, and the switch between
 * them.
 *
 * What:    a process that holds the namespaces: host 0 is the people's (interface people0, 10.78.0.254/24, the kernel's
 *          stack), host i the validator's i (interface node0 without an address, for DPDK; 10.78.0.i by agreement).
 *          Each has a virtual cable to the switch, which is the process itself: it passes Ethernet frames from cable to
 *          cable, and on each directed link it can lose, delay or cut them.
 * Rights:  root, or a user namespace of its own. With the process all that it made is gone.
 * Control: the socket FOLDER/control, asked with ch_control_ask of node/control.h; "status" | "heal" | "cut FROM TO" |
 *          "loss FROM TO PERCENT" | "delay FROM TO MS"; answered by one line of JSON, {"error": text} when refused.
 * Limits:  CH_SWITCH_HOSTS_MAX hosts; 8,192 frames wait on a delayed link, more are lost.
 * Why own: kernels are built without netem, and a committee's network has to be broken on every machine.
 */
#ifndef CHAPPE_NODE_DEVNET_SWITCH_H
#define CHAPPE_NODE_DEVNET_SWITCH_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CH_SWITCH_HOSTS_MAX    33 /* the people's, and validators: what one machine can sensibly run */
#define CH_SWITCH_NETWORK      "10.78.0."
#define CH_SWITCH_INTERFACE    "node0"
#define CH_SWITCH_DELAY_MS_MAX 10000

/* Starts it in `folder` (made here; control, pid and log lie in it) for hosts 0 to `validators`. */
CH_MUST_CHECK ch_err ch_switch_start(const char *folder, uint32_t validators, char *why, size_t why_bytes);
bool ch_switch_runs(const char *folder);
/* Ends it and with it its hosts; nothing to do is CH_OK. */
CH_MUST_CHECK ch_err ch_switch_stop(const char *folder);
/* Moves the calling process, which has one thread, to a host. */
CH_MUST_CHECK ch_err ch_switch_enter(const char *folder, uint32_t host);

#endif
