/* client/client_impl.h - a connection's state, and requests on it. */
#ifndef CHAPPE_CLIENT_CLIENT_IMPL_H
#define CHAPPE_CLIENT_CLIENT_IMPL_H

#include "client/chappe.h"
#include "dataplane/quic.h"

/* A request under way; its owner keeps it in place until `done`. */
struct ch_request {
    uint64_t number;
    bool done;
    ch_err result; /* CH_ERR_REFUSED: status says why; CH_ERR_CLOSED: the connection was lost */
    uint16_t status;
    /* Takes an answer other than STATUS. CH_ERR_AGAIN: more will come; CH_ERR_REFUSED: after setting `status`. */
    ch_err (*answer)(struct ch_request *request, const struct ch_frame_header *header, const uint8_t *body);
    void *context;
    struct ch_request *next;
};

/* Clients of one transfer: the caller's own, and companions that get blocks from other validators. */
#define CH_CLIENT_LANES_MAX 4

struct ch_client {
    struct ch_quic *engine;
    int fd;
    uint64_t conn; /* 0: none */
    bool connected, hello_done, refused_by_host, was_connected;
    bool dialling;                        /* until HELLO, or until the attempt is given up */
    unsigned failures;                    /* attempts since the last success */
    uint64_t dial_deadline_ns, redial_ns; /* of this attempt; not before the next */
    uint64_t heard_bytes, heard_ns;       /* received, and when last */
    bool probed;                          /* since then */
    struct ch_quic_closed closed;
    struct ch_hello hello; /* the node's */
    struct ch_address remote;
    uint8_t chain_id[CH_HASH_BYTES];
    uint8_t peer_key[32];
    const uint8_t (*peer_keys)[32];
    size_t peer_key_count;
    uint64_t timeout_ns;
    int64_t clock_ms;
    uint64_t last_number;
    struct ch_request *pending;
    uint16_t status;
    char why[CH_CLIENT_WHY_BYTES];
    char (*addresses)[CH_CLIENT_ADDRESS_BYTES];
    unsigned address_count, address_at;
    const char *name; /* the address as it was given */
    struct ch_sign_key key;
    struct ch_client *companions[CH_CLIENT_LANES_MAX - 1];
    unsigned companion_count;
    bool one_by_one;                             /* the kernel can't send several datagrams by one call here */
    uint8_t datagrams[UINT16_MAX + 1];           /* of one call */
};

/* Notes why, and gives `err` back. */
__attribute__((format(printf, 3, 4))) ch_err ch_client_fail(struct ch_client *client, ch_err err, const char *format,
                                                            ...);

uint64_t ch_client_deadline_ns(const struct ch_client *client);
/* Sends a request on the connection there is. CH_ERR_CLOSED: none; CH_ERR_FULL: no room now, run a round. */
CH_MUST_CHECK ch_err ch_client_start(struct ch_client *client, struct ch_request *request, enum ch_frame_type type,
                                     uint16_t flags, const struct ch_bytes *parts, size_t part_count);
/* Forgets a request; its answers will be ignored. */
void ch_client_drop(struct ch_client *client, struct ch_request *request);
/* Waits for packets or timers, at most until the deadline, and handles them. CH_ERR_IO. */
CH_MUST_CHECK ch_err ch_client_round(struct ch_client *client, uint64_t deadline_ns);
/* The same for several clients at once. */
CH_MUST_CHECK ch_err ch_client_rounds(struct ch_client *const *clients, unsigned count, uint64_t deadline_ns);
/* The next step towards a connection, without waiting. CH_OK: there is one. CH_ERR_AGAIN: under way, go on after a
 * round. Else why this attempt came to nothing; the next call makes the next one, at the next address. */
CH_MUST_CHECK ch_err ch_client_step(struct ch_client *client);
/* Leaves this validator for the one at the next address; requests under way end with CH_ERR_CLOSED. */
void ch_client_turn(struct ch_client *client);
/* With requests waiting, now and then: a validator that has gone silent is asked for a sign of life, and given up for
 * another one, where there is one, when none comes: its requests end with CH_ERR_CLOSED. */
void ch_client_look(struct ch_client *client, uint64_t now_ns);
#define CH_CLIENT_LOOK_NS UINT64_C(500000000)
/* Opens companions to other validators, as far as there are addresses; they aren't dialled yet. */
CH_MUST_CHECK ch_err ch_client_open_companions(struct ch_client *client);
/* Connects unless connected, until the deadline; dials again as long as `patient` or until the nodes say no for good.
 */
CH_MUST_CHECK ch_err ch_client_reach(struct ch_client *client, uint64_t deadline_ns, bool patient);
/* A request from beginning to end, sent again over a new connection when it was lost. */
CH_MUST_CHECK ch_err ch_client_call(struct ch_client *client, struct ch_request *request, enum ch_frame_type type,
                                    uint16_t flags, const struct ch_bytes *parts, size_t part_count);
/* What a finished request means to the caller: notes status and why. */
CH_MUST_CHECK ch_err ch_client_outcome(struct ch_client *client, const struct ch_request *request);

#endif
