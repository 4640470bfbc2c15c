/* dataplane/quic.h - the peer protocol's transport: QUIC v1, ALPN chappe/1, the peer's Ed25519 key proven by TLS 1.3.
 *
 * What:    datagrams in, datagrams out; whole frames (wire/frame.h) of many connections, dialled and accepted by one
 *          engine. Both ends show a self-signed X.509 certificate over their Ed25519 key: the key is the peer.
 *          AES-GCM only.
 * Not:     no sockets, no clock, no meaning of a frame; randomness only where QUIC and TLS ask for it.
 * Thread:  an engine belongs to one thread. Callbacks run inside receive, tick and next_datagram; from a callback all
 *          may be called but these three, ch_quic_close and ch_quic_open.
 * Memory:  tables at open; per connection what TLS and QUIC need (90 KB measured), and buffers within the options'
 *          limits. Nothing that a peer sends makes it grow past those.
 * Time:    comes in as now_ns, monotonic, never backwards. After ch_quic_expiry_ns call tick. Tests run in virtual
 *          time.
 * Paths:   a connection keeps the address it began with; datagrams for it from elsewhere are dropped (its client dials
 *          again).
 * Streams: the dialling side opens one bidirectional stream; the accepting side takes up to CH_QUIC_STREAMS_MAX over a
 *          connection's life. Unidirectional streams are never granted (libngtcp2 0.12.1 leaks them). A stream that is
 *          reset, or that ends inside a frame, closes the connection; one that ends between frames can still be
 *          answered.
 * Limits:  QUIC frames that an honest peer of this protocol does not send close the connection before the library sees
 *          them (quic_guard_impl.h says why): DATAGRAM, other streams, NEW_CONNECTION_ID with "retire prior to".
 *
 * A connection is named by a number, never 0, that is not used again. Its two lowest bits say which stream: a frame's
 * number sends the answer on the stream that the frame came on; every other function ignores them. A number whose
 * connection is gone is refused with CH_ERR_CLOSED, so other threads may keep numbers and send late answers (through
 * the owner) without harm.
 *
 * A round of the owner: receive for each datagram that came, tick, then next_datagram until it gives 0.
 */
#ifndef CHAPPE_DATAPLANE_QUIC_H
#define CHAPPE_DATAPLANE_QUIC_H

#include "dataplane/address.h"
#include "wire/frame.h"

#define CH_QUIC_KEY_BYTES          32
#define CH_QUIC_SEED_BYTES         32
#define CH_QUIC_STREAMS_MAX        4
#define CH_QUIC_DATAGRAM_BYTES_MIN 1200 /* RFC 9000 14: every path carries these */
#define CH_QUIC_DATAGRAM_BYTES_MAX 1452 /* MTU 1500 less IPv6 and UDP headers */
#define CH_QUIC_CONNECTIONS_MAX    65536
#define CH_QUIC_REASON_BYTES       96
#define CH_QUIC_FRAME_BYTES_MAX    (CH_FRAME_HEADER_BYTES + CH_FRAME_BODY_BYTES_MAX)

/* Why one end of the application closed: the code of a CONNECTION_CLOSE frame of type 0x1d. Numbers are given once and
 * for ever. name, number, text */
#define CH_QUIC_CODE_LIST(X)                                                                                           \
    X(DONE, 0, "nothing wrong, no longer needed")                                                                      \
    X(WRONG_CHAIN, 1, "the other side speaks for another chain")                                                       \
    X(WRONG_VERSION, 2, "the other side speaks another protocol version")                                              \
    X(NOT_ALLOWED, 3, "this key is not let in here")                                                                   \
    X(FRAME_TOO_LONG, 4, "a frame's body is longer than the protocol allows")                                          \
    X(BAD_FRAME, 5, "a frame is not well-formed, or not what was expected here")                                       \
    X(BAD_STREAM, 6, "a stream was reset, or ended inside a frame")                                                    \
    X(REPLACED, 7, "the same key has opened newer connections")                                                        \
    X(OVERLOADED, 8, "the node has no memory to spare for this")                                                       \
    X(BAD_SIGNATURES, 9, "too many signatures that do not hold")                                                       \
    X(RATE_LIMITED, 10, "too fast for too long")                                                                       \
    X(STOPPING, 11, "the node is stopping")

enum ch_quic_code {
#define X(name, number, text) CH_QUIC_CODE_##name = number,
    CH_QUIC_CODE_LIST(X)
#undef X
};

/* How a connection ended. */
#define CH_QUIC_END_LIST(X)                                                                                            \
    X(LOCAL, "we closed it; code is ours")                                                                             \
    X(PEER, "the peer's application closed it; code is the peer's (CH_QUIC_CODE_LIST)")                                \
    X(PEER_TRANSPORT, "the peer's QUIC or TLS gave up; code is a transport error (RFC 9000 20.1; 0x100 + TLS alert)")  \
    X(WRONG_KEY, "the peer showed another key than the one dialled")                                                   \
    X(TLS, "the handshake failed here: no common ALPN or cipher, no Ed25519 certificate, a weak key; code is 0x100 + " \
           "alert")                                                                                                    \
    X(PROTOCOL, "the peer broke QUIC's rules; code is the transport error that we named")                              \
    X(TIMEOUT, "silent for too long, or the handshake did not finish in time")                                         \
    X(RESET, "the peer knows nothing of the connection any more (stateless reset)")                                    \
    X(VERSION, "the peer does not speak QUIC v1")                                                                      \
    X(INTERNAL, "no memory or a fault of the library's")

enum ch_quic_end {
#define X(name, text) CH_QUIC_END_##name,
    CH_QUIC_END_LIST(X)
#undef X
};

struct ch_quic_closed {
    enum ch_quic_end end;
    bool was_connected; /* false: `connected` was never called for it */
    uint64_t code;
    char reason[CH_QUIC_REASON_BYTES]; /* the peer's words, cut and made printable, or ours; may be empty */
};

struct ch_quic_route {
    struct ch_address remote;
    uint32_t local; /* which of our own endpoints; kept per connection and given back, never looked into */
};

struct ch_quic_peer {
    uint8_t key[CH_QUIC_KEY_BYTES]; /* proven; never a weak one. Zeros before `connected` where none was expected */
    struct ch_quic_route route;
    bool dialled; /* by us */
    bool connected;
};

/* The caller's side. `context` is handed to each. All but connected, frame and closed may be NULL. */
struct ch_quic_callbacks {
    /* TLS is done both ways. To refuse the key: ch_quic_hang_up with a code. */
    void (*connected)(void *context, uint64_t conn, const struct ch_quic_peer *peer);
    /* A whole frame; body is header->length bytes, valid until the return. False: not taken now; the engine keeps it,
     * stops reading from this connection (the peer's stream window closes), and offers it again after ch_quic_resume.
     */
    bool (*frame)(void *context, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body);
    /* The last word on a connection, exactly once for each that was dialled or connected; the number is dead,
     * ch_quic_user still works. */
    void (*closed)(void *context, uint64_t conn, const struct ch_quic_closed *closed);
    /* After a refused send: at least half of the send buffer is free again. */
    void (*writable)(void *context, uint64_t conn);
    /* Whether a datagram from this address may reach QUIC at all. NULL: all may. */
    bool (*allow)(void *context, const struct ch_address *remote);
};

/* Zeros are the defaults, given in brackets. */
struct ch_quic_options {
    const uint8_t *seed; /* of the own Ed25519 key, CH_QUIC_SEED_BYTES; not kept after open */
    bool listen;         /* accept connections; dialling is always possible */
    struct ch_quic_callbacks callbacks;
    void *context;
    uint32_t connections_max; /* [64] dialled and accepted, closing ones included */
    uint32_t handshakes_max; /* [64] accepted and unfinished at once; beyond it every newcomer's address is validated by
                                Retry first */
    bool retry_always;       /* validate every newcomer's address */
    uint32_t connections_per_address; /* [64] accepted at once from an IPv4 address or IPv6 /64; from half of it on by
                                         Retry only */
    uint32_t connections_per_key;     /* [8] accepted at once; one more closes the key's oldest (REPLACED) */
    uint32_t stream_window_bytes;     /* [1 MiB] a peer may send ahead of us on a stream */
    uint32_t connection_window_bytes; /* [2 MiB] the same on all of a connection's streams */
    uint32_t send_bytes_max;          /* [4 MiB] unacknowledged and waiting, per connection; at least one frame */
    uint64_t send_bytes_total;        /* [64 MiB] the same of all connections */
    uint64_t receive_bytes_total; /* [64 MiB] of all parts of frames kept; who would exceed it is closed (OVERLOADED) */
    uint32_t datagram_bytes_max;  /* [1452] what we send, 1200..1452; begins at 1200 and probes the path, unless: */
    bool path_carries_max;        /* the path is known to carry datagram_bytes_max */
    uint64_t initial_rtt_ns;      /* [50 ms; 1 ms suits a LAN] until measured */
    uint64_t handshake_timeout_ns; /* [5 s] */
    uint64_t idle_timeout_ns;      /* [30 s] */
    uint64_t keep_alive_ns;        /* [0: never] a connection silent for this long is probed */
    uint64_t key_update_bytes;     /* [4 GiB] sent with one key before the next is used */
};

/* What an engine counts. name, text */
#define CH_QUIC_COUNTER_LIST(X)                                                                                        \
    X(rx_datagrams, "datagrams handed in")                                                                             \
    X(rx_bytes, "bytes of those")                                                                                      \
    X(rx_drop_not_allowed, "dropped: from an address that is not let in")                                              \
    X(rx_drop_garbage, "dropped: no QUIC packet")                                                                      \
    X(rx_drop_unknown, "dropped: for no connection of ours and not the first of one")                                  \
    X(rx_drop_other_path, "dropped: for a connection that began from another address")                                 \
    X(rx_drop_limits, "dropped: the first of a connection, beyond a limit")                                            \
    X(rx_drop_token, "dropped: Retry token forged, of another address, or old")                                        \
    X(rx_frames, "whole frames taken by the stage above")                                                              \
    X(rx_frames_refused, "frames that the stage above could not take at once")                                         \
    X(tx_datagrams, "datagrams handed out")                                                                            \
    X(tx_bytes, "bytes of those")                                                                                      \
    X(tx_frames, "frames taken for sending")                                                                           \
    X(tx_frames_refused, "frames refused because a send buffer was full")                                              \
    X(tx_retry, "Retry packets")                                                                                       \
    X(tx_version_negotiation, "version negotiation packets")                                                           \
    X(tx_stateless_reset, "stateless resets")                                                                          \
    X(tx_refusals, "newcomers told that there is no room")                                                             \
    X(tx_drop_stateless, "answers to strangers not sent: too many at once")                                            \
    X(dialled, "connections dialled")                                                                                  \
    X(accepted, "connections accepted, handshake begun")                                                               \
    X(connected, "handshakes finished, either way")                                                                    \
    X(closed_local, "connections closed by us")                                                                        \
    X(closed_peer, "connections closed by the peer")                                                                   \
    X(closed_timeout, "connections that went silent")                                                                  \
    X(closed_handshake, "handshakes that failed")                                                                      \
    X(closed_protocol, "connections closed because the peer broke QUIC's or the frames' rules")                        \
    X(closed_reset, "connections that the peer had forgotten")                                                         \
    X(closed_internal, "connections closed for want of memory or by a fault of the library's")                         \
    X(key_updates, "times that we changed a connection's keys")

struct ch_quic_counters {
#define X(name, text) uint64_t name;
    CH_QUIC_COUNTER_LIST(X)
#undef X
};

/* Gauges: as of now. */
struct ch_quic_usage {
    uint32_t connections, handshakes, closing;
    uint64_t send_bytes, receive_bytes; /* held in buffers of ours, as limited by *_bytes_total */
};

struct ch_quic_conn_stats {
    uint64_t rx_bytes, tx_bytes; /* datagrams */
    uint64_t rx_frames, tx_frames;
    uint64_t send_bytes_waiting; /* in the send buffer: not yet sent or not yet acknowledged */
    uint64_t rtt_ns, window_bytes;
};

struct ch_quic;

/* An engine. CH_ERR_INVALID: options out of range, no callbacks; CH_ERR_NO_MEMORY; CH_ERR_UNSUPPORTED: GnuTLS refuses
 * our ciphers. */
CH_MUST_CHECK ch_err ch_quic_open(const struct ch_quic_options *options, struct ch_quic **out);
/* Frees all without a word to anybody (hang up first, and send what next_datagram gives, for a good end). NULL is fine.
 */
void ch_quic_close(struct ch_quic *engine);

const uint8_t *ch_quic_own_key(const struct ch_quic *engine); /* CH_QUIC_KEY_BYTES */

/* Takes one UDP payload as it came. Anything at all may be in it. */
void ch_quic_receive(struct ch_quic *engine, const struct ch_quic_route *from, const uint8_t *bytes, size_t length,
                     uint64_t now_ns);
/* Writes the next datagram to send into `to`; gives its length, and where it goes, or 0 when there is none now.
 * room >= datagram_bytes_max. What was handed out counts as sent at now_ns. */
size_t ch_quic_next_datagram(struct ch_quic *engine, uint8_t *to, size_t room, struct ch_quic_route *route,
                             uint64_t now_ns);
/* When tick must be called at the latest; 0: at once; UINT64_MAX: nothing is under way. */
uint64_t ch_quic_expiry_ns(const struct ch_quic *engine);
/* Timeouts, retransmissions, late `closed` and `writable` calls, frames of connections resumed. Cheap when nothing is
 * due. */
void ch_quic_tick(struct ch_quic *engine, uint64_t now_ns);

/* Dials. `expected_key` NULL: any key; `connected` tells which. The first datagram comes from next_datagram.
 * CH_ERR_FULL: connections_max; CH_ERR_NO_MEMORY. */
CH_MUST_CHECK ch_err ch_quic_connect(struct ch_quic *engine, const struct ch_quic_route *to,
                                     const uint8_t *expected_key, void *user, uint64_t now_ns, uint64_t *conn);

/* Queues one frame: the parts in order are its body, copied once; header->length is set from them. Frames of a stream
 * arrive whole and in order. Before `connected`, and on the accepting side before the peer's first byte, they wait.
 * CH_ERR_FULL: no room now, nothing was queued, `writable` will tell; CH_ERR_CLOSED; CH_ERR_INVALID: longer than
 * CH_FRAME_BODY_BYTES_MAX. */
CH_MUST_CHECK ch_err ch_quic_send(struct ch_quic *engine, uint64_t conn, const struct ch_frame_header *header,
                                  const struct ch_bytes *parts, size_t part_count);

/* No more frames are taken from a connection until resume: what has come waits, the peer's window closes. Ignored for a
 * dead number. */
void ch_quic_pause(struct ch_quic *engine, uint64_t conn);
/* Offers what waits at the next tick, and reads on. */
void ch_quic_resume(struct ch_quic *engine, uint64_t conn);

/* Ends a connection with a code and words for people (NULL: the code's own text). What is queued and not yet sent is
 * dropped. `closed` follows at the next tick or next_datagram. Ignored for a dead number. */
void ch_quic_hang_up(struct ch_quic *engine, uint64_t conn, enum ch_quic_code code, const char *reason);
void ch_quic_hang_up_all(struct ch_quic *engine, enum ch_quic_code code);

/* The caller's own pointer: NULL, or the one given to connect, until set. */
void ch_quic_set_user(struct ch_quic *engine, uint64_t conn, void *user);
void *ch_quic_user(const struct ch_quic *engine, uint64_t conn);

/* CH_ERR_CLOSED: a dead number. */
CH_MUST_CHECK ch_err ch_quic_peer(const struct ch_quic *engine, uint64_t conn, struct ch_quic_peer *out);
CH_MUST_CHECK ch_err ch_quic_conn_stats(const struct ch_quic *engine, uint64_t conn, struct ch_quic_conn_stats *out);
/* The connection without its stream, to compare or to look up by. */
static inline uint64_t ch_quic_conn_of(uint64_t conn)
{
    return conn & ~UINT64_C(3);
}

struct ch_quic_counters ch_quic_counters(const struct ch_quic *engine);
struct ch_quic_usage ch_quic_usage(const struct ch_quic *engine);
const char *ch_quic_code_name(uint64_t code); /* "WRONG_CHAIN"; "UNKNOWN" */
const char *ch_quic_code_text(uint64_t code);
const char *ch_quic_end_name(enum ch_quic_end end); /* "TIMEOUT" */
const char *ch_quic_end_text(enum ch_quic_end end);

#endif
