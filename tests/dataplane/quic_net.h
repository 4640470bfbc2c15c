/* tests/dataplane/quic_net.h - engines joined by a network in memory, in virtual time: delay, loss, reordering and
 * duplication come from the seed alone. Shared by the tests and the fuzz target of the QUIC engine. */
#ifndef CHAPPE_TESTS_QUIC_NET_H
#define CHAPPE_TESTS_QUIC_NET_H

#include "base/prng.h"
#include "dataplane/quic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NET_ENDS_MAX 24
#define MS           UINT64_C(1000000)
#define SECOND       (1000 * MS)

struct net;

struct end {
    struct net *net;
    struct ch_quic *engine;
    struct ch_address address;
    uint8_t seed[32];
    bool cut; /* nothing reaches or leaves it */
    /* what its callbacks saw */
    uint64_t conn; /* the last one connected or dialled */
    struct ch_quic_peer peer;
    unsigned int connected, closed_count, writable;
    struct ch_quic_closed closed;
    uint64_t frames, frame_bytes, refused;
    bool refuse_frames, echo;
    struct ch_address not_allowed;
    bool (*on_frame)(struct end *end, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body);
    void (*on_connected)(struct end *end, uint64_t conn);
    void *user;
};

struct flight {
    uint64_t at_ns, order;
    struct ch_address from, to;
    uint16_t length;
    uint8_t bytes[CH_QUIC_DATAGRAM_BYTES_MAX];
};

struct net {
    struct end ends[NET_ENDS_MAX];
    size_t end_count;
    uint64_t now_ns, order;
    uint64_t delay_ns, jitter_ns;
    uint32_t loss_permille, duplicate_permille;
    struct ch_prng prng;
    struct flight **heap; /* [1..count] */
    size_t count, capacity;
    struct flight *spare[4096];
    size_t spare_count;
    uint64_t sent, lost, duplicated, sent_bytes;
    /* Sees each datagram before it's sent; may change it. False: it is lost. */
    bool (*tap)(struct net *net, struct end *from, uint8_t *bytes, size_t *length);
    void *tap_user;
};

static inline bool flight_before(const struct flight *a, const struct flight *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static inline void net_post(struct net *n, const struct ch_address *from, const struct ch_address *to,
                            const uint8_t *bytes, size_t length, uint64_t at_ns)
{
    struct flight *f = n->spare_count ? n->spare[--n->spare_count] : malloc(sizeof *f);
    f->at_ns = at_ns;
    f->order = n->order++;
    f->from = *from;
    f->to = *to;
    f->length = (uint16_t)length;
    memcpy(f->bytes, bytes, length);
    if (++n->count >= n->capacity)
        n->heap = realloc(n->heap, (n->capacity = 2 * n->capacity + 64) * sizeof(struct flight *));
    size_t i = n->count;
    for (; i > 1 && flight_before(f, n->heap[i / 2]); i /= 2)
        n->heap[i] = n->heap[i / 2];
    n->heap[i] = f;
}

static inline struct flight *net_take(struct net *n)
{
    struct flight *first = n->heap[1], *last = n->heap[n->count--];
    size_t i = 1;
    for (size_t child; (child = 2 * i) <= n->count; i = child) {
        if (child < n->count && flight_before(n->heap[child + 1], n->heap[child]))
            child++;
        if (!flight_before(n->heap[child], last))
            break;
        n->heap[i] = n->heap[child];
    }
    n->heap[i] = last;
    return first;
}

static inline void net_spare(struct net *n, struct flight *f)
{
    if (n->spare_count < sizeof n->spare / sizeof n->spare[0])
        n->spare[n->spare_count++] = f;
    else
        free(f);
}

static inline struct end *net_end_at(struct net *n, const struct ch_address *address)
{
    for (size_t i = 0; i < n->end_count; i++)
        if (ch_address_equal(&n->ends[i].address, address))
            return &n->ends[i];
    return NULL;
}

/* All that the ends want to send now. */
static inline void net_collect(struct net *n)
{
    uint8_t bytes[CH_QUIC_DATAGRAM_BYTES_MAX];
    struct ch_quic_route route;
    for (size_t i = 0; i < n->end_count; i++) {
        struct end *e = &n->ends[i];
        size_t length;
        if (!e->engine)
            continue;
        if (ch_quic_expiry_ns(e->engine) <= n->now_ns)
            ch_quic_tick(e->engine, n->now_ns);
        while ((length = ch_quic_next_datagram(e->engine, bytes, sizeof bytes, &route, n->now_ns)) > 0) {
            n->sent++;
            n->sent_bytes += length;
            if (e->cut || (n->tap && !n->tap(n, e, bytes, &length)) ||
                ch_prng_below(&n->prng, 1000) < n->loss_permille) {
                n->lost++;
                continue;
            }
            uint64_t at_ns = n->now_ns + n->delay_ns + (n->jitter_ns ? ch_prng_below(&n->prng, n->jitter_ns) : 0);
            net_post(n, &e->address, &route.remote, bytes, length, at_ns);
            if (ch_prng_below(&n->prng, 1000) < n->duplicate_permille) {
                n->duplicated++;
                net_post(n, &e->address, &route.remote, bytes, length, at_ns + n->delay_ns / 2);
            }
        }
    }
}

/* Runs until `done` says so, nothing is under way, or until_ns. True: done. */
static inline bool net_run(struct net *n, uint64_t until_ns, bool (*done)(struct net *n))
{
    for (;;) {
        net_collect(n);
        if (done && done(n))
            return true;
        uint64_t next_ns = n->count ? n->heap[1]->at_ns : UINT64_MAX;
        for (size_t i = 0; i < n->end_count; i++) {
            uint64_t expiry_ns = n->ends[i].engine ? ch_quic_expiry_ns(n->ends[i].engine) : UINT64_MAX;
            next_ns = expiry_ns < next_ns ? expiry_ns : next_ns;
        }
        if (next_ns > until_ns) {
            n->now_ns = until_ns > n->now_ns && until_ns != UINT64_MAX ? until_ns : n->now_ns;
            return !done;
        }
        n->now_ns = next_ns > n->now_ns ? next_ns : n->now_ns;
        while (n->count && n->heap[1]->at_ns <= n->now_ns) {
            struct flight *f = net_take(n);
            struct end *to = net_end_at(n, &f->to);
            if (to && to->engine && !to->cut)
                ch_quic_receive(to->engine, &(struct ch_quic_route){.remote = f->from}, f->bytes, f->length, n->now_ns);
            net_spare(n, f);
        }
    }
}

static inline void end_connected(void *context, uint64_t conn, const struct ch_quic_peer *peer)
{
    struct end *e = context;
    e->conn = conn;
    e->peer = *peer;
    e->connected++;
    if (e->on_connected)
        e->on_connected(e, conn);
}

static inline bool end_frame(void *context, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body)
{
    struct end *e = context;
    if (e->refuse_frames || (e->on_frame && !e->on_frame(e, conn, header, body))) {
        e->refused++;
        return false;
    }
    e->frames++;
    e->frame_bytes += header->length;
    if (e->echo && ch_quic_send(e->engine, conn, header, &(struct ch_bytes){body, header->length}, 1) != CH_OK) {
        e->frames--;
        e->frame_bytes -= header->length;
        e->refused++;
        return false;
    }
    return true;
}

static inline void end_closed(void *context, uint64_t conn, const struct ch_quic_closed *closed)
{
    struct end *e = context;
    e->closed = *closed;
    e->closed_count++;
}

static inline void end_writable(void *context, uint64_t conn)
{
    struct end *e = context;
    e->writable++;
    if (e->echo)
        ch_quic_resume(e->engine, conn);
}

static inline bool end_allow(void *context, const struct ch_address *remote)
{
    const struct end *e = context;
    return !ch_address_equal(remote, &e->not_allowed);
}

static inline void net_init(struct net *n, uint64_t seed)
{
    *n = (struct net){.now_ns = 1000 * SECOND, .delay_ns = MS / 20};
    ch_prng_seed(&n->prng, seed);
}

/* One more end, 10.0.0.(1 + index), its key made from its index. */
static inline struct end *net_add(struct net *n, const struct ch_quic_options *options)
{
    size_t index = n->end_count++;
    struct end *e = &n->ends[index];
    *e = (struct end){.net = n};
    e->address = ch_address_from4((uint8_t[]){10, 0, 0, (uint8_t)(1 + index)}, 4740);
    memset(e->seed, (int)(index + 1), sizeof e->seed);
    struct ch_quic_options o = options ? *options : (struct ch_quic_options){0};
    o.seed = e->seed;
    o.context = e;
    o.callbacks = (struct ch_quic_callbacks){end_connected, end_frame, end_closed, end_writable, end_allow};
    if (ch_quic_open(&o, &e->engine) != CH_OK)
        abort();
    return e;
}

static inline uint64_t end_dial(struct end *from, const struct end *to, const uint8_t *key)
{
    struct ch_quic_route route = {.remote = to->address};
    if (ch_quic_connect(from->engine, &route, key, from, from->net->now_ns, &from->conn) != CH_OK)
        abort();
    return from->conn;
}

static inline void net_close(struct net *n)
{
    for (size_t i = 0; i < n->end_count; i++)
        ch_quic_close(n->ends[i].engine);
    while (n->count)
        free(net_take(n));
    while (n->spare_count)
        free(n->spare[--n->spare_count]);
    free(n->heap);
}

#endif
