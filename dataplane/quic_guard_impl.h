/* dataplane/quic_guard_impl.h - looks at the frames of each decrypted packet before the library does.
 *
 * Why:    libngtcp2 0.12.1 as packaged has its asserts on, and a peer can reach some of them (tests/dataplane/
 *         test_quic_plain.c found two): one datagram would end the node. What no honest peer sends isn't shown to it.
 * What:   every frame must be whole (RFC 9000 19), allowed in its kind of packet (12.4) and by what we granted: the
 *         dialling side's bidirectional streams, no DATAGRAM. NEW_CONNECTION_ID never with "retire prior to", because
 *         the library aborts when an id is retired twice.
 * Thread: no state. Cost: a few ns a frame.
 */
#ifndef CHAPPE_DATAPLANE_QUIC_GUARD_IMPL_H
#define CHAPPE_DATAPLANE_QUIC_GUARD_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a packet's payload may go on. `one_rtt`: a short header; else Initial or Handshake. `from_dialler`: who sent
 * it. */
bool ch_quic_guard(const uint8_t *payload, size_t length, bool one_rtt, bool from_dialler);

#endif
