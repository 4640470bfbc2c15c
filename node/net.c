#include "node/net.h"

#include "base/log.h"
#include "base/time.h"
#include "dataplane/dpdk/port_dpdk.h"
#include "node/hose_gate.h"
#include "node/peers.h"
#include "node/receipts.h"
#include "node/spread.h"
#include "wire/hose.h"

#include <stdio.h>
#include <stdlib.h>

#define LOCAL_QUIC 0
#define LOCAL_HOSE 1
/* Shares of the batch pool: one QUIC peer at most half, the fire hose leaves a quarter. */
#define PEER_BATCHES_MAX  (CH_BATCH_POOL_COUNT / 2)
#define HOSE_LEAVES       (CH_BATCH_POOL_COUNT / 4)
#define BAD_SIGNATURES_MAX 10000u /* then the peer is closed */
#define TX_BURST          64
#define ANSWER_BURST      CH_PORT_BURST_MAX /* batches a poll: as many as datagrams come in */
#define HOSE_LINGER_NS    200000u /* a batch waits this long for more datagrams */
#define QUIC_COUNTERS     (sizeof(struct ch_quic_counters) / sizeof(uint64_t))

struct peer {
    uint64_t conn;
    uint8_t key[CH_KEY_BYTES];
    uint16_t validator; /* index, or CH_CORE_NOBODY */
    bool dialled, greeted, suspect;
    uint32_t batches;     /* of its on their way */
    uint64_t bad;         /* signatures */
    struct ch_bucket bucket;
    bool waits; /* it was refused a frame for want of batches or requests */
};

struct ch_net {
    struct ch_node *node;
    struct ch_port *port;
    struct ch_quic *quic;
    struct ch_peers *links; /* to the other validators; NULL: there are none */
    struct ch_state_reader *state; /* who has an account, for a node that isn't open */
    struct ch_hose_gate gate;
    bool dpdk_started;
    uint64_t now_ns;
    uint32_t peers_waiting, resume_hand; /* resume_hand: who has first choice next */
    struct peer *peers; /* connections_max; a slot is free when conn is 0 */
    uint32_t peers_max;
    struct ch_batch *hose[2]; /* being filled: honest, suspect */
    uint64_t hose_since_ns[2];
    _Atomic uint64_t quic_counters[QUIC_COUNTERS]; /* the engine's, for other threads: as of the last poll that did something */
    struct ch_packet spare; /* a buffer got and not used */
    bool has_spare;
    struct ch_receipts *receipts; /* final ones */
};

static struct peer *peer_of(struct ch_net *net, uint64_t conn)
{
    return ch_quic_user(net->quic, conn);
}

static void send_status(struct ch_net *net, uint64_t conn, uint64_t request, enum ch_status status)
{
    uint8_t body[2];
    ch_store16(body, (uint16_t)status);
    const struct ch_frame_header header = {.type = CH_FRAME_STATUS, .request = request};
    if (ch_quic_send(net->quic, conn, &header, &(struct ch_bytes){body, sizeof body}, 1) != CH_OK)
        ch_quic_hang_up(net->quic, conn, CH_QUIC_CODE_OVERLOADED, NULL); /* it asks and doesn't read */
}

/* --- QUIC: frames in ------------------------------------------------------------------------------------------- */

/* A node that isn't open lets accounts in, and registrars, without whom there would be none. */
static bool let_in(const struct ch_net *net, const uint8_t key[CH_KEY_BYTES])
{
    uint64_t serial;
    if (net->node->config.network_open || ch_peers_index(net->links, key) != CH_CORE_NOBODY ||
        ch_state_read_serial(net->state, key, &serial) == CH_OK)
        return true;
    for (unsigned i = 0; i < net->node->genesis.registrar_count; i++)
        if (memcmp(net->node->genesis.registrars[i], key, CH_KEY_BYTES) == 0)
            return true;
    return false;
}

static void on_connected(void *context, uint64_t conn, const struct ch_quic_peer *peer)
{
    struct ch_net *net = context;
    struct peer *slot = NULL;
    if (!let_in(net, peer->key)) {
        ch_quic_hang_up(net->quic, conn, CH_QUIC_CODE_NOT_ALLOWED, NULL);
        return;
    }
    for (uint32_t i = 0; i < net->peers_max && !slot; i++)
        if (!net->peers[i].conn)
            slot = &net->peers[i];
    if (!slot) {
        ch_quic_hang_up(net->quic, conn, CH_QUIC_CODE_OVERLOADED, NULL);
        return;
    }
    *slot = (struct peer){
        .conn = ch_quic_conn_of(conn),
        .validator = ch_peers_index(net->links, peer->key),
        .dialled = peer->dialled,
    };
    memcpy(slot->key, peer->key, CH_KEY_BYTES);
    ch_quic_set_user(net->quic, conn, slot);
    if (slot->validator != CH_CORE_NOBODY)
        ch_peers_connected(net->links, slot->validator, conn, slot->dialled);
    ch_count(&net->node->metrics.net_connections_opened_total, 1);
}

static void on_closed(void *context, uint64_t conn, const struct ch_quic_closed *closed)
{
    struct ch_net *net = context;
    struct peer *peer = peer_of(net, conn);
    ch_peers_closed(net->links, conn);
    if (!peer)
        return;
    net->peers_waiting -= peer->waits;
    peer->conn = 0;
    ch_count(&net->node->metrics.net_connections_closed_total, 1);
}

static bool on_hello(struct ch_net *net, struct peer *peer, uint64_t conn, const struct ch_frame_header *header,
                     const uint8_t *body)
{
    struct ch_hello hello;
    if (!ch_hello_read(body, header->length, &hello)) {
        ch_count(&net->node->metrics.net_frames_malformed_total, 1);
        ch_quic_hang_up(net->quic, conn, CH_QUIC_CODE_BAD_FRAME, "malformed HELLO");
        return true;
    }
    if (hello.version != CH_PROTOCOL_VERSION) {
        ch_quic_hang_up(net->quic, conn, CH_QUIC_CODE_WRONG_VERSION, NULL);
        return true;
    }
    if (memcmp(hello.chain_id, net->node->chain_id, CH_HASH_BYTES) != 0) {
        ch_quic_hang_up(net->quic, conn, CH_QUIC_CODE_WRONG_CHAIN, NULL);
        return true;
    }
    if (peer->dialled) { /* the answer to ours */
        peer->greeted = true;
        ch_peers_greeted(net->links, peer->validator, conn, true);
        return true;
    }
    uint8_t answer[CH_HELLO_FRAME_BYTES];
    ch_peers_hello(net->node, answer);
    const struct ch_frame_header to = {.type = CH_FRAME_HELLO, .request = header->request};
    if (ch_quic_send(net->quic, conn, &to, &(struct ch_bytes){answer, sizeof answer}, 1) == CH_OK)
        peer->greeted = true;
    if (peer->greeted && peer->validator != CH_CORE_NOBODY)
        ch_peers_greeted(net->links, peer->validator, conn, false);
    return true;
}

static void send_receipt(struct ch_net *net, uint64_t conn, uint64_t request, const struct ch_receipt *receipt)
{
    uint8_t body[2 + CH_RECEIPT_BYTES];
    ch_store16(body, 1);
    ch_receipt_write(receipt, body + 2);
    const struct ch_frame_header header = {.type = CH_FRAME_RECEIPTS, .request = request};
    if (ch_quic_send(net->quic, conn, &header, &(struct ch_bytes){body, sizeof body}, 1) != CH_OK)
        ch_quic_hang_up(net->quic, conn, CH_QUIC_CODE_OVERLOADED, NULL);
}

static bool bucket_take(struct ch_net *net, struct peer *peer, uint64_t count)
{
    uint64_t rate = net->node->config.stages_tx_rate_per_peer;
    struct ch_bucket *bucket = &peer->bucket;
    ch_bucket_refill(bucket, rate, net->now_ns);
    if (bucket->tokens < count && bucket->tokens < rate)
        return false;
    bucket->tokens -= bucket->tokens < count ? bucket->tokens : count; /* a frame above the rate empties the bucket */
    return true;
}

static void pass_batch(struct ch_net *net, struct ch_batch *batch)
{
    struct ch_ring *ring = batch->suspect ? &net->node->to_suspect : &net->node->to_verify;
    CH_ASSERT(ch_ring_push_one(ring, batch)); /* each holds all batches there are */
}

/* Waits: the frame stays with the engine, the peer's window closes; resumed when batches or requests come back. */
static bool not_now(struct ch_net *net, struct peer *peer)
{
    net->peers_waiting += !peer->waits;
    peer->waits = true;
    return false;
}

static bool on_submit(struct ch_net *net, struct peer *peer, uint64_t conn, const struct ch_frame_header *header,
                      const uint8_t *body)
{
    struct ch_node *node = net->node;
    uint32_t need = header->length / (CH_BATCH_BYTES - CH_TX_BYTES_MAX) +
                    header->length / (CH_TX_BYTES_MIN * CH_BATCH_TXS) + 1;
    if (peer->batches && peer->batches + need > PEER_BATCHES_MAX)
        return not_now(net, peer);
    if (ch_ring_count(&node->flow.free_batches) < need)
        return not_now(net, peer);
    if (!bucket_take(net, peer, header->length / 256 + 1)) {
        send_receipt(net, conn, header->request, &(struct ch_receipt){.status = CH_STATUS_RATE_LIMITED});
        ch_count(&node->metrics.early_by_status[CH_STATUS_RATE_LIMITED], 1);
        return true;
    }
    struct ch_batch *batch = NULL;
    uint32_t at = 0, total = 0;
    while (at < header->length) {
        struct ch_tx tx;
        if (ch_tx_parse(body + at, header->length - at, &tx) != CH_STATUS_OK) {
            send_receipt(net, conn, header->request, &(struct ch_receipt){.status = CH_STATUS_MALFORMED});
            ch_count(&node->metrics.early_by_status[CH_STATUS_MALFORMED], 1);
            ch_count(&node->metrics.net_frames_malformed_total, 1);
            break;
        }
        if (batch && (batch->count == CH_BATCH_TXS || CH_BATCH_BYTES - batch->bytes < tx.length)) {
            pass_batch(net, batch);
            batch = NULL;
        }
        if (!batch) {
            batch = ch_ring_pull_one(&node->flow.free_batches);
            CH_ASSERT(batch); /* `need` were there, and only this thread takes */
            batch->source = (struct ch_source){conn, header->request, header->flags};
            batch->suspect = peer->suspect;
            batch->count = batch->bytes = batch->buffer_count = 0;
            peer->batches++;
        }
        uint8_t *copy = batch->copied + batch->bytes;
        memcpy(copy, tx.bytes, tx.length);
        if (ch_tx_parse(copy, tx.length, &batch->txs[batch->count].tx) != CH_STATUS_OK)
            CH_ASSERT(!"it parsed before it was copied");
        batch->count++;
        batch->bytes += tx.length;
        at += tx.length;
        total++;
    }
    if (batch)
        pass_batch(net, batch);
    ch_count(&node->metrics.net_submit_transactions_received_total, total);
    return true;
}

static bool on_request(struct ch_net *net, struct peer *peer, uint64_t conn, const struct ch_frame_header *header,
                       const uint8_t *body)
{
    struct ch_request *request = ch_ring_pull_one(&net->node->flow.free_requests);
    if (!request)
        return not_now(net, peer);
    request->connection = conn;
    request->header = *header;
    memcpy(request->peer_key, peer->key, CH_KEY_BYTES);
    request->hashed = false;
    memcpy(request->body, body, header->length);
    bool block = header->type == CH_FRAME_PUT_OBJECT;
    CH_ASSERT(ch_ring_push_one(block ? &net->node->to_hash : &net->node->to_serve, request));
    return true;
}

/* Objects between validators. What is above a validator's share is dropped: it asks again. */
static void on_parcel(struct ch_net *net, const struct peer *peer, const struct ch_frame_header *header,
                      const uint8_t *body)
{
    struct ch_request *parcel = ch_flow_parcel_in(&net->node->flow, peer->validator, header->type);
    if (!parcel) {
        ch_count(&net->node->metrics.net_parcels_dropped_total, 1);
        return;
    }
    parcel->connection = 0;
    parcel->validator = peer->validator;
    parcel->header = *header;
    memcpy(parcel->body, body, header->length);
    CH_ASSERT(ch_ring_push_one(&net->node->to_serve, parcel));
}

static bool on_frame(void *context, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body)
{
    struct ch_net *net = context;
    struct peer *peer = peer_of(net, conn);
    if (!peer)
        return true; /* being closed */
    bool taken = true;
    if (!peer->greeted && header->type != CH_FRAME_HELLO) {
        ch_quic_hang_up(net->quic, conn, CH_QUIC_CODE_BAD_FRAME, "HELLO comes first");
        ch_count(&net->node->metrics.net_frames_malformed_total, 1);
        return true;
    }
    switch (header->type) {
    case CH_FRAME_HELLO:
        taken = on_hello(net, peer, conn, header, body);
        break;
    case CH_FRAME_SUBMIT:
        taken = on_submit(net, peer, conn, header, body);
        break;
    case CH_FRAME_GET_ACCOUNT:
    case CH_FRAME_GET_HANDLE:
    case CH_FRAME_GET_RELATIONS:
    case CH_FRAME_GET_INBOX:
    case CH_FRAME_WATCH_INBOX:
    case CH_FRAME_GET_RECORD:
    case CH_FRAME_PUT_OBJECT:
    case CH_FRAME_GET_OBJECT:
    case CH_FRAME_HAS_OBJECT:
        taken = on_request(net, peer, conn, header, body);
        break;
    default:
        if (ch_spread_frame_type(header->type) && peer->validator != CH_CORE_NOBODY) {
            on_parcel(net, peer, header, body);
            break;
        }
        if (header->type >= CH_LINK_FRAME_TYPE && peer->validator != CH_CORE_NOBODY) {
            taken = ch_peers_frame(net->links, peer->validator, conn, header, body);
            break;
        }
        send_status(net, conn, header->request, CH_STATUS_UNKNOWN_FRAME);
        break;
    }
    if (taken)
        ch_count(&net->node->metrics.net_frames_received_total, 1);
    return taken;
}

/* In turn: the first one may take all that there is, and be back for more each time. */
static void resume_waiting(struct ch_net *net)
{
    const uint32_t from = net->resume_hand;
    for (uint32_t k = 0; k < net->peers_max && net->peers_waiting; k++) {
        const uint32_t i = (from + k) % net->peers_max;
        if (!net->peers[i].conn || !net->peers[i].waits)
            continue;
        if (net->resume_hand == from)
            net->resume_hand = (i + 1) % net->peers_max;
        net->peers[i].waits = false;
        net->peers_waiting--;
        ch_quic_resume(net->quic, net->peers[i].conn);
    }
}

/* --- the fire hose --------------------------------------------------------------------------------------------- */

static void hose_pass(struct ch_net *net, unsigned which)
{
    if (net->hose[which]) {
        pass_batch(net, net->hose[which]);
        net->hose[which] = NULL;
    }
}

static struct ch_batch *hose_batch(struct ch_net *net, unsigned which, uint16_t count)
{
    struct ch_batch *batch = net->hose[which];
    if (batch && (batch->buffer_count == CH_BATCH_BUFFERS || batch->count + count > CH_BATCH_TXS)) {
        hose_pass(net, which);
        batch = NULL;
    }
    if (batch)
        return batch;
    if (ch_ring_count(&net->node->flow.free_batches) <= HOSE_LEAVES)
        return NULL;
    batch = ch_ring_pull_one(&net->node->flow.free_batches);
    if (!batch)
        return NULL;
    batch->source = (struct ch_source){0};
    batch->suspect = which == 1;
    batch->count = batch->bytes = batch->buffer_count = 0;
    net->hose[which] = batch;
    net->hose_since_ns[which] = net->now_ns;
    return batch;
}

/* Takes the datagram's buffer into a batch: true; else it goes back to the port. */
static bool hose_datagram(struct ch_net *net, const struct ch_packet *packet)
{
    struct ch_metrics *m = &net->node->metrics;
    uint16_t count;
    ch_count(&m->net_hose_datagrams_received_total, 1);
    if (!ch_hose_gate_allows(&net->gate, &packet->remote)) {
        ch_count(&m->net_hose_datagrams_forbidden_total, 1);
        return false;
    }
    if (!ch_hose_check(packet->payload, packet->length, &count) || count > CH_PORT_MTU_BYTES / CH_TX_BYTES_MIN) {
        ch_count(&m->net_hose_datagrams_malformed_total, 1);
        return false;
    }
    ch_count(&m->net_hose_transactions_received_total, count);
    uint16_t slot = ch_hose_gate_slot(&net->gate, &packet->remote);
    struct ch_batch *batch = NULL;
    if (ch_hose_gate_take(&net->gate, slot, count, net->now_ns))
        batch = hose_batch(net, net->gate.sources[slot].suspect, count);
    if (!batch) {
        ch_count(&m->net_hose_transactions_shed_total, count);
        return false;
    }
    struct ch_hose_walk walk = ch_hose_walk(packet->payload, packet->length, count);
    const uint32_t before = batch->count;
    while (ch_hose_next(&walk, &batch->txs[batch->count].tx))
        batch->txs[batch->count++].hose_slot = slot;
    if (ch_hose_surplus(&walk)) {
        batch->count = before;
        walk.left = count;
    }
    ch_count(&m->net_hose_transactions_malformed_total, walk.left);
    if (walk.left == count)
        return false;
    batch->buffers[batch->buffer_count++] = packet->handle;
    return true;
}

/* --- answers out ----------------------------------------------------------------------------------------------- */

static void answer_hose(struct ch_net *net, struct ch_batch *batch)
{
    uint64_t refused = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct ch_batch_tx *entry = &batch->txs[i];
        refused += entry->status != CH_STATUS_OK;
        if (entry->status == CH_STATUS_BAD_SIGNATURE || entry->status == CH_STATUS_BAD_APPROVAL)
            net->gate.sources[entry->hose_slot].suspect = true;
    }
    ch_count(&net->node->metrics.net_hose_transactions_refused_total, refused);
    ch_port_release(net->port, batch->buffers, batch->buffer_count);
}

static void answer_peer(struct ch_net *net, struct ch_batch *batch)
{
    uint8_t body[2 + CH_BATCH_TXS * CH_RECEIPT_BYTES];
    struct peer *peer = peer_of(net, batch->source.connection);
    uint64_t bad = 0;
    ch_store16(body, (uint16_t)batch->count);
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct ch_batch_tx *entry = &batch->txs[i];
        struct ch_receipt receipt = {.status = entry->status, .level = CH_LEVEL_EARLY};
        memcpy(receipt.tx_id, entry->id, CH_HASH_BYTES);
        ch_receipt_write(&receipt, body + 2 + (size_t)i * CH_RECEIPT_BYTES);
        bad += entry->status == CH_STATUS_BAD_SIGNATURE || entry->status == CH_STATUS_BAD_APPROVAL;
    }
    if (!peer)
        return; /* gone meanwhile */
    peer->batches--;
    const struct ch_frame_header header = {.type = CH_FRAME_RECEIPTS, .request = batch->source.request};
    if (ch_quic_send(net->quic, batch->source.connection, &header,
                     &(struct ch_bytes){body, 2 + batch->count * (size_t)CH_RECEIPT_BYTES}, 1) != CH_OK)
        ch_quic_hang_up(net->quic, batch->source.connection, CH_QUIC_CODE_OVERLOADED, NULL);
    ch_count(&net->node->metrics.net_receipts_early_sent_total, batch->count);
    peer->bad += bad;
    peer->suspect |= bad != 0;
    if (peer->bad > BAD_SIGNATURES_MAX)
        ch_quic_hang_up(net->quic, batch->source.connection, CH_QUIC_CODE_BAD_SIGNATURES, NULL);
}

static bool send_answers(struct ch_net *net)
{
    struct ch_batch *batches[ANSWER_BURST];
    uint32_t count = ch_ring_pull(&net->node->to_answer, (void **)batches, ANSWER_BURST);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < batches[i]->count; k++)
            ch_count(&net->node->metrics.early_by_status[batches[i]->txs[k].status], 1);
        if (batches[i]->source.connection)
            answer_peer(net, batches[i]);
        else
            answer_hose(net, batches[i]);
    }
    if (count)
        CH_ASSERT(ch_ring_push(&net->node->flow.free_batches, (void **)batches, count) == count);
    return count;
}

static bool send_receipts(struct ch_net *net)
{
    struct ch_payload *payload = ch_ring_pull_one(&net->node->receipts);
    if (!payload)
        return false;
    ch_receipts_send(net->receipts, payload);
    ch_flow_free_payload(&net->node->flow, payload);
    return true;
}

static bool send_replies(struct ch_net *net)
{
    struct ch_request *request;
    bool any = false;
    while ((request = ch_ring_pull_one(&net->node->replies))) {
        any = true;
        if (!request->connection) { /* to a validator */
            if (request->header.type != CH_FRAME_STATUS)
                ch_peers_answer(net->links, request->validator, &request->header, request->body);
            if (request->home == &net->node->flow.free_requests)
                atomic_fetch_sub(&net->node->links.answers[request->validator], 1);
            ch_flow_free_request(&net->node->flow, request);
            continue;
        }
        if (ch_load16(request->body) == CH_STATUS_MALFORMED) /* every answer begins with its status */
            ch_count(&net->node->metrics.net_frames_malformed_total, 1);
        ch_err err = ch_quic_send(net->quic, request->connection, &request->header,
                                  &(struct ch_bytes){request->body, request->header.length}, 1);
        if (err == CH_ERR_FULL)
            ch_quic_hang_up(net->quic, request->connection, CH_QUIC_CODE_OVERLOADED, "answers are not read");
        if (err != CH_OK && (request->header.flags & CH_FRAME_FLAG_MORE)) {
            request->header.type = CH_REQUEST_UNWATCH; /* nobody is there any more: the watch ends */
            CH_ASSERT(ch_ring_push_one(&net->node->to_serve, request));
            continue;
        }
        ch_flow_free_request(&net->node->flow, request);
    }
    return any;
}

/* --- the stage ------------------------------------------------------------------------------------------------- */

static bool receive(struct ch_net *net)
{
    struct ch_packet packets[CH_PORT_BURST_MAX];
    void *done[CH_PORT_BURST_MAX];
    size_t count = ch_port_rx(net->port, net->now_ns, packets, CH_PORT_BURST_MAX), done_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (packets[i].local == LOCAL_HOSE && hose_datagram(net, &packets[i]))
            continue;
        if (packets[i].local == LOCAL_QUIC) {
            const struct ch_quic_route from = {packets[i].remote, LOCAL_QUIC};
            ch_quic_receive(net->quic, &from, packets[i].payload, packets[i].length, net->now_ns);
        }
        done[done_count++] = packets[i].handle;
    }
    if (done_count)
        ch_port_release(net->port, done, done_count);
    ch_count(&net->node->metrics.net_datagrams_received_total, count);
    return count;
}

/* A capture can wait for room, and for the node to be ready; a network can't. */
static bool can_wait(const struct ch_net *net)
{
    return net->port->profile == CH_PORT_PCAP &&
           (!atomic_load_explicit(&net->node->ready, memory_order_relaxed) ||
            ch_ring_count(&net->node->flow.free_batches) < CH_BATCH_POOL_COUNT / 2);
}

static bool transmit(struct ch_net *net)
{
    uint32_t sent = 0;
    for (; sent < TX_BURST; sent++) {
        if (!net->has_spare && ch_port_tx_get(net->port, &net->spare) != CH_OK)
            break;
        net->has_spare = true;
        struct ch_quic_route route;
        size_t length =
            ch_quic_next_datagram(net->quic, net->spare.payload, net->spare.length, &route, net->now_ns);
        if (!length)
            break;
        net->spare.remote = route.remote;
        net->spare.local = route.local;
        net->spare.length = (uint32_t)length;
        ch_port_tx_commit(net->port, net->now_ns, &net->spare);
        net->has_spare = false;
    }
    ch_port_tx_flush(net->port);
    ch_count(&net->node->metrics.net_datagrams_sent_total, sent);
    return sent;
}

static void publish_counters(struct ch_net *net)
{
    const struct ch_quic_counters now = ch_quic_counters(net->quic);
    uint64_t values[QUIC_COUNTERS];
    memcpy(values, &now, sizeof values);
    for (size_t i = 0; i < QUIC_COUNTERS; i++)
        atomic_store_explicit(&net->quic_counters[i], values[i], memory_order_relaxed);
}

void ch_net_quic_counters(const struct ch_net *net, struct ch_quic_counters *out)
{
    uint64_t values[QUIC_COUNTERS];
    for (size_t i = 0; i < QUIC_COUNTERS; i++)
        values[i] = atomic_load_explicit(&net->quic_counters[i], memory_order_relaxed);
    memcpy(out, values, sizeof *out);
}

bool ch_net_poll(void *self, uint64_t now_ns)
{
    struct ch_net *net = self;
    net->now_ns = now_ns;
    bool worked = can_wait(net) ? false : receive(net);
    bool scarce = ch_ring_count(&net->node->flow.free_batches) < CH_BATCH_POOL_COUNT / 4 * 3;
    for (unsigned which = 0; which < 2; which++) /* where batches wait already, one more helps only when it is full */
        if (net->hose[which] && !scarce && now_ns - net->hose_since_ns[which] >= HOSE_LINGER_NS)
            hose_pass(net, which);
    worked |= send_answers(net);
    if (!ch_ring_count(&net->node->to_answer)) /* early receipts go first */
        worked |= send_receipts(net);
    worked |= send_replies(net);
    if (net->links)
        worked |= ch_peers_poll(net->links, now_ns);
    if (net->peers_waiting)
        resume_waiting(net);
    ch_quic_tick(net->quic, now_ns);
    worked |= transmit(net);
    if (worked)
        publish_counters(net);
    return worked;
}

uint64_t ch_net_deadline_ns(void *self, uint64_t now_ns)
{
    struct ch_net *net = self;
    uint64_t at_ns = ch_quic_expiry_ns(net->quic),
             links_ns = net->links ? ch_peers_deadline_ns(net->links) : UINT64_MAX;
    if (links_ns < at_ns)
        at_ns = links_ns;
    if (net->hose[0] || net->hose[1] || net->peers_waiting || ch_port_tx_pending(net->port))
        at_ns = at_ns < now_ns + HOSE_LINGER_NS ? at_ns : now_ns + HOSE_LINGER_NS;
    return at_ns;
}

void ch_net_wait(void *self, uint64_t timeout_ns)
{
    ch_port_wait(((struct ch_net *)self)->port, timeout_ns);
}

void ch_net_wake(void *self)
{
    ch_port_wake(((struct ch_net *)self)->port);
}

void ch_net_enter(void *self)
{
    const struct ch_net *net = self;
    if (net->dpdk_started && ch_dpdk_thread_enter() != CH_OK)
        ch_log(CH_LOG_NOTICE, "net: no buffer cache for this thread; it goes on slower");
}

void ch_net_leave(void *self)
{
    struct ch_net *net = self;
    ch_quic_hang_up_all(net->quic, CH_QUIC_CODE_STOPPING);
    net->now_ns = ch_time_monotonic_ns();
    ch_quic_tick(net->quic, net->now_ns);
    for (uint32_t i = 0; i < net->peers_max && transmit(net); i++)
        ;
    if (net->dpdk_started)
        ch_dpdk_thread_leave();
}

struct ch_port *ch_net_port(struct ch_net *net)
{
    return net->port;
}

static ch_err open_port(struct ch_net *net, char why[CH_PORT_WHY_BYTES])
{
    const struct ch_config *c = &net->node->config;
    struct ch_port_config config = {
        .device = c->network_interface,
        .local_count = c->network_hose_port ? 2 : 1,
        .rx_checksum = strcmp(c->network_rx_checksum, "trust") == 0 ? CH_PORT_CHECKSUM_TRUST : CH_PORT_CHECKSUM_VERIFY,
        .poll = c->stages_busy ? CH_PORT_POLL_BUSY : CH_PORT_POLL_ADAPTIVE,
    };
    struct ch_address address;
    if (ch_port_profile_parse(c->network_profile, &config.profile) != CH_OK) {
        snprintf(why, CH_PORT_WHY_BYTES, "network.profile: no profile \"%.128s\"", c->network_profile);
        return CH_ERR_INVALID;
    }
    if (ch_address_parse(c->network_address, &address, NULL) != CH_OK || address.port) {
        snprintf(why, CH_PORT_WHY_BYTES, "network.address: \"%.128s\" is no IP address", c->network_address);
        return CH_ERR_INVALID;
    }
    if (*c->network_gateway && ch_address_parse(c->network_gateway, &config.gateway4, NULL) != CH_OK) {
        snprintf(why, CH_PORT_WHY_BYTES, "network.gateway: \"%.128s\" is no IP address", c->network_gateway);
        return CH_ERR_INVALID;
    }
    const uint64_t ports[2] = {c->network_port, c->network_hose_port};
    for (unsigned i = 0; i < config.local_count; i++) {
        config.locals[i].address = address;
        config.locals[i].address.port = (uint16_t)ports[i];
        config.locals[i].prefix_bits = (uint8_t)c->network_prefix;
        config.locals[i].brief = i == LOCAL_QUIC;
    }
    if (config.profile == CH_PORT_SOCKET) {
        config.device = NULL;
        return ch_port_open_socket(&config, &net->port, why);
    }
    struct ch_dpdk_config dpdk = {.memory = CH_DPDK_MEMORY_AUTO};
    if (strcmp(c->network_hugepages, "yes") == 0)
        dpdk.memory = CH_DPDK_MEMORY_HUGEPAGES;
    else if (strcmp(c->network_hugepages, "no") == 0)
        dpdk.memory = CH_DPDK_MEMORY_ORDINARY;
    ch_err err = ch_dpdk_start(&dpdk, why);
    net->dpdk_started = err == CH_OK;
    return err == CH_OK ? ch_port_open_dpdk(&config, &net->port, why) : err;
}

ch_err ch_net_open(struct ch_node *node, struct ch_net **out, char why[CH_PORT_WHY_BYTES])
{
    const struct ch_config *c = &node->config;
    struct ch_net *net = calloc(1, sizeof *net);
    snprintf(why, CH_PORT_WHY_BYTES, "out of memory");
    if (!net)
        return CH_ERR_NO_MEMORY;
    net->node = node;
    net->peers_max = (uint32_t)c->network_connections_max;
    net->peers = calloc(net->peers_max, sizeof *net->peers);
    uint64_t salt;
    ch_err err = net->peers ? CH_OK : CH_ERR_NO_MEMORY;
    if (err == CH_OK)
        err = ch_state_reader_open(node->state, &net->state);
    ch_random(&salt, sizeof salt);
    if (err == CH_OK &&
        ch_hose_gate_init(&net->gate, c->network_hose_allow, c->stages_tx_rate_per_peer, salt) != CH_OK) {
        snprintf(why, CH_PORT_WHY_BYTES, "network.hose_allow: \"%.128s\" is no list of networks",
                 c->network_hose_allow);
        err = CH_ERR_INVALID;
    }
    if (err == CH_OK)
        err = open_port(net, why);
    const struct ch_quic_options quic = {
        .seed = node->key.seed,
        .listen = true,
        .callbacks = {.connected = on_connected, .frame = on_frame, .closed = on_closed},
        .context = net,
        .connections_max = (uint32_t)c->network_connections_max,
        .handshakes_max = (uint32_t)c->network_handshakes_max,
        .connections_per_address = (uint32_t)c->network_connections_per_address,
        .send_bytes_max = 12u << 20, /* of a client; to validators more waits in lanes (node/peers.c) */
        .send_bytes_total = 256u << 20,
        .receive_bytes_total = 256u << 20,
        .initial_rtt_ns = 1000000,
        .idle_timeout_ns = c->network_idle_seconds * 1000000000u,
    };
    if (err == CH_OK && (err = ch_quic_open(&quic, &net->quic)) != CH_OK)
        snprintf(why, CH_PORT_WHY_BYTES, "QUIC: %s", ch_err_text(err));
    if (err == CH_OK)
        err = ch_receipts_open(node, net->quic, &net->receipts);
    if (err == CH_OK && node->links.n)
        err = ch_peers_open(node, net->quic, LOCAL_QUIC, &net->links, why, CH_PORT_WHY_BYTES);
    if (err != CH_OK) {
        ch_net_close(net);
        return err;
    }
    *out = net;
    return CH_OK;
}

void ch_net_close(struct ch_net *net)
{
    if (!net)
        return;
    if (net->has_spare)
        ch_port_release(net->port, &net->spare.handle, 1);
    for (unsigned which = 0; which < 2; which++)
        if (net->hose[which])
            ch_port_release(net->port, net->hose[which]->buffers, net->hose[which]->buffer_count);
    ch_quic_close(net->quic);
    ch_peers_close(net->links);
    ch_state_reader_close(net->state);
    ch_port_close(net->port);
    if (net->dpdk_started)
        ch_dpdk_stop();
    ch_receipts_close(net->receipts);
    free(net->peers);
    free(net);
}
