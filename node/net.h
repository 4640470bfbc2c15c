/* node/net.h - the net stage: ports, QUIC connections, peer limits, the fire hose.
 *
 * Reads: the port; early answers (to_answer), final receipts (receipts), replies of the serve stage. Writes: batches to
 * to_verify or to_suspect, requests to to_hash and to_serve. Owns: port, QUIC engine, what is known of each peer. Must
 * never: block, copy a fire hose datagram, let one peer take more than its share of the batches.
 *
 * Backpressure: with no batch free a QUIC peer's stream is not read on (its window closes); the fire hose is shed and
 * counted, and may take only what QUIC leaves.
 */
#ifndef CHAPPE_NODE_NET_H
#define CHAPPE_NODE_NET_H

#include "dataplane/port.h"
#include "dataplane/quic.h"
#include "node/node.h"

/* `why` gets one line for the operator on failure. */
CH_MUST_CHECK ch_err ch_net_open(struct ch_node *node, struct ch_net **out, char why[CH_PORT_WHY_BYTES]);
/* After its thread has ended. */
void ch_net_close(struct ch_net *net);

bool ch_net_poll(void *net, uint64_t now_ns);
uint64_t ch_net_deadline_ns(void *net, uint64_t now_ns);
void ch_net_wait(void *net, uint64_t timeout_ns);
void ch_net_wake(void *net);
/* At the start and the end of its thread; leaving tells the peers and sends what is queued. */
void ch_net_enter(void *net);
void ch_net_leave(void *net);

struct ch_port *ch_net_port(struct ch_net *net);
/* Any thread: the QUIC engine's, as of a moment ago. */
void ch_net_quic_counters(const struct ch_net *net, struct ch_quic_counters *out);

#endif
