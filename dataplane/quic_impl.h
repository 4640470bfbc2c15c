/* dataplane/quic_impl.h - the engine's insides, shared by quic.c (the library's side: all calls of libngtcp2 but TLS's)
 * and quic_engine.c (slots, queues, limits, the caller's side).
 */
#ifndef CHAPPE_DATAPLANE_QUIC_IMPL_H
#define CHAPPE_DATAPLANE_QUIC_IMPL_H

#include "dataplane/quic.h"
#include "dataplane/quic_table_impl.h"
#include "dataplane/quic_tls_impl.h"
#include "dataplane/stream.h"

#include <ngtcp2/ngtcp2.h>
#include <sys/queue.h>

/* Own connection ids: random, so a stranger can't guess one; all of one length, because short headers don't say it. */
#define CID_BYTES 16
/* Ids at once of one connection: the client's first guess, the library's pool of 8, and retired ones that may still
 * come. A peer that retires them faster than that is cut off. */
#define CIDS_MAX            16
#define TOKENS_MAX          4 /* stateless reset tokens of the ids that we send to: one in use, one to come, two going */
#define STATELESS_MAX       128 /* answers to strangers that wait; more are not worth sending */
#define STATELESS_BYTES     320 /* Retry is the longest: about 200 */
#define RETRY_TOKEN_LIFE_NS (10 * NGTCP2_SECONDS)
#define LINGER_NS_MAX       (1 * NGTCP2_SECONDS)

enum conn_state { CONN_FREE, CONN_LIVE, CONN_LINGERING };

struct stream {
    struct conn *conn;
    bool open, ended; /* known to the library; ended by the peer */
    struct ch_stream_in in;
    struct ch_stream_out out;
    uint64_t ungranted; /* bytes that came and were not given back to the peer's window */
};

struct conn {
    struct ch_quic *engine;
    enum conn_state state;
    uint32_t index, generation;
    uint64_t serial; /* order of being connected */
    void *user;
    struct ch_quic_peer peer;
    uint8_t expected_key[CH_QUIC_KEY_BYTES];
    struct ch_quic_tls_peer tls_peer;
    ngtcp2_conn *quic;
    gnutls_session_t tls;
    struct sockaddr_storage remote, local; /* `local` stands for all: paths never change */
    ngtcp2_path path;
    struct stream streams[CH_QUIC_STREAMS_MAX];

    bool paused, resume, want_writable, hang_up, reset_seen, counted_address, counted_key;
    bool guarded; /* it sent what the library must not see */
    bool mute;    /* the library must not be asked to write */
    uint64_t hang_up_code;
    struct ch_quic_closed closed;

    ngtcp2_cid cids[CIDS_MAX];
    uint32_t cid_count;
    struct token {
        bool used;
        uint64_t sequence;
        uint8_t bytes[NGTCP2_STATELESS_RESET_TOKENLEN];
    } tokens[TOKENS_MAX];
    bool is_ready, is_due;
    TAILQ_ENTRY(conn) ready, due;
    uint64_t expiry_ns;
    uint32_t heap_at; /* 0: not in the heap */

    uint64_t send_waiting; /* bytes in all out streams */
    uint64_t burst_bytes, sent_with_key;
    struct ch_quic_conn_stats stats;

    /* Lingering: the packet that closed it, sent again at the 1st, 2nd, 4th, 8th.. datagram that still comes. */
    uint8_t *close_packet;
    size_t close_packet_length;
    uint32_t lingered_rx;
};

struct stateless {
    struct ch_quic_route route;
    uint32_t length;
    uint8_t bytes[STATELESS_BYTES];
};

TAILQ_HEAD(conn_list, conn);

struct ch_quic {
    struct ch_quic_options options; /* with the defaults filled in; no seed */
    uint8_t own_key[CH_QUIC_KEY_BYTES];
    uint8_t retry_secret[32], reset_secret[32];
    struct ch_quic_tls tls;
    ngtcp2_callbacks callbacks;

    struct conn *conns; /* connections_max */
    uint32_t *free_slots;
    uint32_t free_count;
    struct conn **heap; /* [1..heap_count] by expiry */
    uint32_t heap_count;
    struct conn_list ready; /* may have something to write */
    struct conn_list due;   /* have something to tell the caller, or to do for it */
    uint32_t due_count;
    struct ch_quic_table cids;      /* own id, or the peer's reset token -> slot */
    struct ch_quic_table addresses; /* IPv4 or /64 -> accepted connections */
    struct ch_quic_table keys;      /* peer key -> accepted connections */
    struct ch_stream_budget send_budget, receive_budget;
    bool starved; /* a send was refused for want of send_budget */

    struct stateless stateless[STATELESS_MAX];
    uint32_t stateless_first, stateless_count;

    uint64_t serial;
    struct ch_quic_usage usage;
    struct ch_quic_counters counters;
};

/* quic_engine.c */

struct conn *ch_quic_slot_take(struct ch_quic *engine); /* NULL: none free */
void ch_quic_slot_free(struct conn *conn);
struct conn *ch_quic_slot_of_cid(const struct ch_quic *engine, const uint8_t *cid, size_t length);
bool ch_quic_cid_add(struct conn *conn, const ngtcp2_cid *cid); /* false: too many */
void ch_quic_cid_remove(struct conn *conn, const ngtcp2_cid *cid);
/* A reset carries no id of ours: what it ends with is all there is to know it by (RFC 9000 10.3.1). */
struct conn *ch_quic_slot_of_token(const struct ch_quic *engine, const uint8_t *token);
void ch_quic_token_add(struct conn *conn, uint64_t sequence, const uint8_t *token);
void ch_quic_token_remove(struct conn *conn, uint64_t sequence);
void ch_quic_mark_ready(struct conn *conn);
void ch_quic_unmark_ready(struct conn *conn);
void ch_quic_mark_due(struct conn *conn);
void ch_quic_unmark_due(struct conn *conn);
void ch_quic_timer_set(struct conn *conn, uint64_t expiry_ns); /* UINT64_MAX: none */
bool ch_quic_count_up(struct ch_quic_table *table, const struct ch_quic_table_key *key);
void ch_quic_count_down(struct ch_quic_table *table, const struct ch_quic_table_key *key);
struct ch_quic_table_key ch_quic_address_key(const struct ch_address *address);
struct ch_quic_table_key ch_quic_peer_key(const uint8_t key[CH_QUIC_KEY_BYTES]);
uint64_t ch_quic_number(const struct conn *conn, unsigned int stream);
void ch_quic_want_hang_up(struct conn *conn, enum ch_quic_code code, const char *reason);
/* The connection that `number` names, or NULL. */
struct conn *ch_quic_find_live(const struct ch_quic *engine, uint64_t number);

/* quic.c */

void ch_quic_lib_init(struct ch_quic *engine);
void ch_quic_lib_free(struct conn *conn); /* frees the library's and TLS's state */
/* Makes good a hang_up: writes the closing packet, tells the caller. */
void ch_quic_lib_hang_up(struct conn *conn, uint64_t now_ns);
void ch_quic_lib_resume(struct conn *conn, uint64_t now_ns);
void ch_quic_lib_expired(struct conn *conn, uint64_t now_ns);
/* Bytes written, or 0: nothing now, or the connection has ended. */
size_t ch_quic_lib_write(struct conn *conn, uint8_t *to, size_t room, uint64_t now_ns);

/* Ends a connection: tells the caller, frees what it held; lingers where linger_ns > 0. */
void ch_quic_conn_end(struct conn *conn, enum ch_quic_end end, uint64_t code, uint64_t linger_ns, uint64_t now_ns);

#endif
