/* node/peers.h - the connections to the other validators, and the messages over them.
 *
 * What:    dials every other validator of the committee, again and again, at the address that the genesis names; sends
 *          and takes the consensus machine's messages (node/links.h). Each pair has two connections, one dialled by
 *          each: what is live goes over the one that we dialled, payloads and old blocks over the other, so that
 *          neither waits behind the other. Where one is missing the other carries both.
 * Thread:  net's.
 */
#ifndef CHAPPE_NODE_PEERS_H
#define CHAPPE_NODE_PEERS_H

#include "dataplane/quic.h"
#include "node/node.h"

struct ch_peers;

/* For a committee of n > 1; `local` is the port's endpoint to dial from. CH_ERR_INVALID with `why`: an address of the
 * genesis is none. */
CH_MUST_CHECK ch_err ch_peers_open(struct ch_node *node, struct ch_quic *quic, uint32_t local, struct ch_peers **out,
                                   char *why, size_t why_bytes);
void ch_peers_close(struct ch_peers *peers);

/* The validator with this key, or CH_CORE_NOBODY; `peers` may be NULL. Ours counts as nobody. */
uint16_t ch_peers_index(const struct ch_peers *peers, const uint8_t key[CH_KEY_BYTES]);

/* What we say of ourselves, to validators and to clients. */
void ch_peers_hello(const struct ch_node *node, uint8_t body[CH_HELLO_FRAME_BYTES]);

/* From the engine's callbacks: a validator's connection is there; it has said HELLO; any connection is gone. */
void ch_peers_connected(struct ch_peers *peers, uint16_t index, uint64_t conn, bool dialled);
void ch_peers_greeted(struct ch_peers *peers, uint16_t index, uint64_t conn, bool dialled);
void ch_peers_closed(struct ch_peers *peers, uint64_t conn);
/* A frame of type CH_LINK_FRAME_TYPE and above; false: not now, the engine keeps it. */
bool ch_peers_frame(struct ch_peers *peers, uint16_t index, uint64_t conn, const struct ch_frame_header *header,
                    const uint8_t *body);

/* An answer that serve took out of the log; may be lost. */
void ch_peers_answer(struct ch_peers *peers, uint16_t index, const struct ch_frame_header *header, const uint8_t *body);

/* Dials, sends, reads on where there is room again. True when it did something. */
bool ch_peers_poll(struct ch_peers *peers, uint64_t now_ns);
uint64_t ch_peers_deadline_ns(const struct ch_peers *peers);

#endif
