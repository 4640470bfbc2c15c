#include "node/peers.h"

#include "base/log.h"
#include "base/time.h"

#include <stdlib.h>

#define DIAL_AGAIN_MIN_NS 100000000u
#define DIAL_AGAIN_MAX_NS 3000000000u
#define SILENCE_NS        6000000000u /* a validator repeats its tip every 2.5 s and two idle rounds; three times that */
#define LISTEN_EVERY_NS   500000000u
#define REFUSED_MAX       256u /* messages that do not hold, of an honest validator there are none */
#define SHUT_NS           10000000000u
#define AHEAD_BYTES_MAX   (1u << 20) /* in a connection's send buffer before lanes wait: as much as the other side grants */
#define LANES_AGAIN_NS    5000000u   /* they go on as acknowledgements come; and so often, where memory was short */

struct link {
    struct ch_quic_route route;
    uint64_t dialled, accepted; /* connections, 0: none */
    bool dialled_greeted, accepted_greeted;
    unsigned paused; /* lanes, a bit each: its share of their messages is with order */
    struct ch_lanes lanes;
    uint64_t dial_at_ns, again_ns;
    unsigned refused;           /* as far as it was shut out for */
    uint64_t shut_until_ns;
    uint64_t heard_bytes, heard_ns; /* of both connections, and when that last grew */
};

struct ch_peers {
    struct ch_node *node;
    struct ch_links *links;
    struct ch_quic *quic;
    uint64_t now_ns, listen_at_ns;
    struct link link[CH_VALIDATORS_MAX];
};

ch_err ch_peers_open(struct ch_node *node, struct ch_quic *quic, uint32_t local, struct ch_peers **out, char *why,
                     size_t why_bytes)
{
    struct ch_peers *p = calloc(1, sizeof *p);
    if (!p)
        return CH_ERR_NO_MEMORY;
    p->node = node;
    p->links = &node->links;
    p->quic = quic;
    for (uint32_t i = 0; i < node->genesis.validator_count; i++) {
        const struct ch_genesis_validator *validator = &node->genesis.validators[i];
        uint16_t index = 0;
        while (memcmp(node->committee.key[index], validator->key, CH_KEY_BYTES) != 0)
            index++;
        struct link *link = &p->link[index];
        link->again_ns = DIAL_AGAIN_MIN_NS;
        link->route.local = local;
        if (ch_address_parse(validator->address, &link->route.remote, NULL) != CH_OK || !link->route.remote.port) {
            snprintf(why, why_bytes, "the genesis names \"%.128s\" as a validator's address: not IP:PORT",
                     validator->address);
            free(p);
            return CH_ERR_INVALID;
        }
    }
    *out = p;
    return CH_OK;
}

void ch_peers_close(struct ch_peers *p)
{
    for (uint16_t i = 0; p && i < p->links->n; i++)
        ch_lanes_clear(&p->link[i].lanes);
    free(p);
}

uint16_t ch_peers_index(const struct ch_peers *p, const uint8_t key[CH_KEY_BYTES])
{
    for (uint16_t i = 0; p && i < p->links->n; i++)
        if (i != p->links->me && memcmp(p->node->committee.key[i], key, CH_KEY_BYTES) == 0)
            return i;
    return CH_CORE_NOBODY;
}

/* Odd while one of the two connections is greeted. */
static void tell(struct ch_peers *p, uint16_t index)
{
    const struct link *link = &p->link[index];
    bool up = link->dialled_greeted || link->accepted_greeted;
    if (up == (atomic_load_explicit(&p->links->up[index], memory_order_relaxed) & 1))
        return;
    atomic_fetch_add(&p->links->up[index], 1);
    ch_log(CH_LOG_NOTICE, "validator %u is %s", index, up ? "connected" : "gone");
    struct ch_bell *order = p->links->to_order[CH_LANE_LIVE].consumer;
    if (atomic_load(&order->sleeping))
        ch_bell_ring(order);
}

void ch_peers_hello(const struct ch_node *node, uint8_t body[CH_HELLO_FRAME_BYTES])
{
    const struct ch_metrics *m = &node->metrics;
    struct ch_hello own = {
        .version = CH_PROTOCOL_VERSION,
        .role = CH_ROLE_VALIDATOR,
        .epoch = node->committee.epoch,
        .time_ms = ch_time_unix_ms(),
        .index = node->me,
        .last_commit = atomic_load_explicit(&m->order_commit_index, memory_order_relaxed),
        .round = (uint32_t)atomic_load_explicit(&m->order_round, memory_order_relaxed),
        .gc_round = (uint32_t)atomic_load_explicit(&m->order_gc_round, memory_order_relaxed),
    };
    memcpy(own.chain_id, node->chain_id, CH_HASH_BYTES);
    ch_hello_write(&own, body);
}

void ch_peers_connected(struct ch_peers *p, uint16_t index, uint64_t conn, bool dialled)
{
    if (!dialled)
        return; /* it has the word */
    uint8_t body[CH_HELLO_FRAME_BYTES];
    ch_peers_hello(p->node, body);
    const struct ch_frame_header header = {.type = CH_FRAME_HELLO};
    if (ch_quic_send(p->quic, conn, &header, &(struct ch_bytes){body, sizeof body}, 1) != CH_OK)
        ch_quic_hang_up(p->quic, conn, CH_QUIC_CODE_OVERLOADED, NULL);
}

void ch_peers_greeted(struct ch_peers *p, uint16_t index, uint64_t conn, bool dialled)
{
    struct link *link = &p->link[index];
    conn = ch_quic_conn_of(conn);
    if (p->now_ns < link->shut_until_ns) {
        ch_quic_hang_up(p->quic, conn, CH_QUIC_CODE_BAD_SIGNATURES, NULL);
        return;
    }
    if (dialled && conn == link->dialled) {
        link->dialled_greeted = true;
        link->again_ns = DIAL_AGAIN_MIN_NS;
    } else if (!dialled) { /* the newest counts: the one before may be a dead process's */
        link->accepted = conn;
        link->accepted_greeted = true;
    }
    tell(p, index);
}

void ch_peers_closed(struct ch_peers *p, uint64_t conn)
{
    conn = ch_quic_conn_of(conn);
    for (uint16_t i = 0; p && i < p->links->n; i++) {
        struct link *link = &p->link[i];
        if (link->dialled == conn) {
            link->dialled = 0;
            link->dialled_greeted = false;
            link->dial_at_ns = p->now_ns + link->again_ns;
            link->again_ns = link->again_ns * 2 < DIAL_AGAIN_MAX_NS ? link->again_ns * 2 : DIAL_AGAIN_MAX_NS;
        } else if (link->accepted == conn) {
            link->accepted = 0;
            link->accepted_greeted = false;
        } else {
            continue;
        }
        tell(p, i);
    }
}

bool ch_peers_frame(struct ch_peers *p, uint16_t index, uint64_t conn, const struct ch_frame_header *header,
                    const uint8_t *body)
{
    struct ch_links *links = p->links;
    struct ch_message *m = NULL;
    if (p->now_ns < p->link[index].shut_until_ns) { /* of a connection beside the two */
        ch_quic_hang_up(p->quic, conn, CH_QUIC_CODE_BAD_SIGNATURES, NULL);
        return true;
    }
    const uint16_t type = (uint16_t)(header->type - CH_LINK_FRAME_TYPE);
    const enum ch_lane lane = ch_link_lane(type);
    if (atomic_load_explicit(&links->waiting[lane][index], memory_order_relaxed) < ch_link_share(lane))
        m = ch_ring_pull_one(&links->free_in);
    if (!m) {
        p->link[index].paused |= 1u << lane;
        return false;
    }
    atomic_fetch_add(&links->waiting[lane][index], 1);
    m->peer = index;
    m->type = type;
    m->lane = lane;
    m->length = header->length;
    memcpy(m->body, body, header->length);
    CH_ASSERT(ch_ring_push_one(&links->to_order[lane], m)); /* it holds all there are */
    return true;
}

/* 0: none is there. */
static uint64_t connection(const struct link *link, bool bulk)
{
    uint64_t live = link->dialled_greeted ? link->dialled : 0, other = link->accepted_greeted ? link->accepted : 0;
    return bulk ? (other ? other : live) : (live ? live : other);
}

static void count_sent(struct ch_peers *p, bool sent)
{
    ch_count(sent ? &p->node->metrics.net_peer_messages_sent_total : &p->node->metrics.net_peer_messages_lost_total, 1);
}

/* At once: nothing waits before it but what lanes have put ahead where there is one connection alone. */
static void send_live(struct ch_peers *p, uint16_t index, const struct ch_frame_header *header, const uint8_t *body)
{
    const uint64_t conn = connection(&p->link[index], false);
    if (conn) /* a full buffer loses it: the machine repeats */
        count_sent(p, ch_quic_send(p->quic, conn, header, &(struct ch_bytes){body, header->length}, 1) == CH_OK);
}

/* F7: as much as is on its way in time, the rest waits its turn. */
static void send_waiting(struct ch_peers *p, uint16_t index)
{
    struct ch_lanes *lanes = &p->link[index].lanes;
    const uint64_t conn = connection(&p->link[index], true);
    const struct ch_lane_frame *frame;
    struct ch_quic_conn_stats stats;
    enum ch_lane lane;
    while ((frame = ch_lanes_next(lanes, &lane))) {
        if (!conn || ch_quic_conn_stats(p->quic, conn, &stats) != CH_OK) {
            ch_lanes_clear(lanes);
            return;
        }
        if (stats.send_bytes_waiting >= AHEAD_BYTES_MAX)
            return;
        ch_err err =
            ch_quic_send(p->quic, conn, &frame->header, &(struct ch_bytes){frame->body, frame->header.length}, 1);
        if (err == CH_ERR_FULL)
            return;
        count_sent(p, err == CH_OK);
        ch_lanes_taken(lanes, lane);
    }
}

static void wait_in(struct ch_peers *p, uint16_t index, enum ch_lane lane, struct ch_lane_frame *frame)
{
    if (!connection(&p->link[index], true))
        return;
    if (!frame || !ch_lanes_put(&p->link[index].lanes, lane, frame))
        count_sent(p, false); /* it is full: who misses it asks again */
    else
        send_waiting(p, index);
}

void ch_peers_answer(struct ch_peers *p, uint16_t index, const struct ch_frame_header *header, const uint8_t *body)
{
    struct ch_lane_frame *frame = ch_lane_frame_new(header, body);
    wait_in(p, index, CH_LANE_SYNC, frame);
    ch_lane_frame_release(frame);
}

static void send_message(struct ch_peers *p, const struct ch_message *m)
{
    const struct ch_frame_header header = {.type = (uint16_t)(CH_LINK_FRAME_TYPE + m->type), .length = m->length};
    struct ch_lane_frame *frame = m->bulk ? ch_lane_frame_new(&header, m->body) : NULL;
    for (uint16_t i = 0; i < p->links->n; i++) {
        if (i == p->links->me || (m->peer != CH_CORE_NOBODY && m->peer != i))
            continue;
        if (m->bulk)
            wait_in(p, i, m->lane, frame);
        else
            send_live(p, i, &header, m->body);
    }
    ch_lane_frame_release(frame);
}

static uint64_t bytes_of(struct ch_peers *p, uint64_t conn)
{
    struct ch_quic_conn_stats stats;
    return conn && ch_quic_conn_stats(p->quic, conn, &stats) == CH_OK ? stats.rx_bytes : 0;
}

/* Who says nothing for long is gone, long before its connections time out: others want to know whether there is a
 * quorum. */
static void listen_to_all(struct ch_peers *p)
{
    uint64_t silence_ns = SILENCE_NS + 6 * p->node->config.stages_idle_round_ms * UINT64_C(1000000);
    p->listen_at_ns = p->now_ns + LISTEN_EVERY_NS;
    for (uint16_t i = 0; i < p->links->n; i++) {
        struct link *link = &p->link[i];
        uint64_t bytes = bytes_of(p, link->dialled) + bytes_of(p, link->accepted);
        if (bytes != link->heard_bytes || !(link->dialled_greeted || link->accepted_greeted)) {
            link->heard_bytes = bytes;
            link->heard_ns = p->now_ns;
        } else if (p->now_ns - link->heard_ns > silence_ns) {
            link->heard_ns = p->now_ns;
            ch_quic_hang_up(p->quic, link->dialled, CH_QUIC_CODE_DONE, "silent");
            ch_quic_hang_up(p->quic, link->accepted, CH_QUIC_CODE_DONE, "silent");
        }
    }
}

/* Each message that does not hold costs order the check of up to hundreds of signatures. */
static void shut_out(struct ch_peers *p, uint16_t index)
{
    struct link *link = &p->link[index];
    unsigned refused = atomic_load_explicit(&p->links->refused[index], memory_order_relaxed);
    if (refused - link->refused < REFUSED_MAX)
        return;
    link->refused = refused;
    link->shut_until_ns = p->now_ns + SHUT_NS;
    ch_log(CH_LOG_WARNING, "validator %u sends what does not hold: shut out for 10 s", index);
    ch_quic_hang_up(p->quic, link->dialled, CH_QUIC_CODE_BAD_SIGNATURES, NULL);
    ch_quic_hang_up(p->quic, link->accepted, CH_QUIC_CODE_BAD_SIGNATURES, NULL);
}

static bool has_room_again(const struct ch_peers *p, uint16_t index)
{
    for (unsigned lane = 0; lane < CH_LANES; lane++)
        if (p->link[index].paused >> lane & 1 &&
            atomic_load_explicit(&p->links->waiting[lane][index], memory_order_relaxed) < ch_link_share(lane) / 2)
            return true;
    return false;
}

bool ch_peers_poll(struct ch_peers *p, uint64_t now_ns)
{
    struct ch_message *m;
    bool worked = false;
    p->now_ns = now_ns;
    if (now_ns >= p->listen_at_ns)
        listen_to_all(p);
    for (uint16_t i = 0; i < p->links->n; i++) {
        struct link *link = &p->link[i];
        shut_out(p, i);
        if (i != p->links->me && !link->dialled && now_ns >= link->dial_at_ns && now_ns >= link->shut_until_ns) {
            ch_err err =
                ch_quic_connect(p->quic, &link->route, p->node->committee.key[i], NULL, now_ns, &link->dialled);
            link->dialled = err == CH_OK ? ch_quic_conn_of(link->dialled) : 0;
            link->dial_at_ns = now_ns + DIAL_AGAIN_MAX_NS;
            worked = true;
        }
        if (has_room_again(p, i)) {
            link->paused = 0;
            ch_quic_resume(p->quic, link->dialled);
            ch_quic_resume(p->quic, link->accepted);
        }
        send_waiting(p, i);
    }
    while ((m = ch_ring_pull_one(&p->links->to_net))) {
        send_message(p, m);
        CH_ASSERT(ch_ring_push_one(&p->links->free_out, m));
        worked = true;
    }
    return worked;
}

uint64_t ch_peers_deadline_ns(const struct ch_peers *p)
{
    uint64_t at_ns = p->listen_at_ns;
    for (uint16_t i = 0; i < p->links->n; i++) {
        const struct link *link = &p->link[i];
        uint64_t dial_ns = link->dial_at_ns > link->shut_until_ns ? link->dial_at_ns : link->shut_until_ns;
        if (i != p->links->me && !link->dialled && dial_ns < at_ns)
            at_ns = dial_ns;
        if (link->paused && p->now_ns + 1000000 < at_ns)
            at_ns = p->now_ns + 1000000; /* room comes without a bell */
        if (!ch_lanes_empty(&link->lanes) && p->now_ns + LANES_AGAIN_NS < at_ns)
            at_ns = p->now_ns + LANES_AGAIN_NS;
    }
    return at_ns;
}
