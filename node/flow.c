#include "node/flow.h"

#include <stdlib.h>

static struct ch_bell nobody; /* nobody sleeps on a free pool: who found it empty has a deadline */

static ch_err open_parcels(struct ch_flow *flow, uint32_t others)
{
    uint32_t in = others * (CH_PARCELS_IN + CH_PARCELS_TOLD), count = in + CH_PARCELS_OUT;
    flow->parcels_in_count = in;
    flow->parcels = calloc(count, sizeof *flow->parcels);
    flow->parcel_bodies = malloc((size_t)count * CH_FRAME_BODY_BYTES_MAX); /* pages are touched as far as bodies reach */
    if (!flow->parcels || !flow->parcel_bodies ||
        ch_ring_open(&flow->free_parcels_in, "free parcels in", in, true) != CH_OK ||
        ch_ring_open(&flow->free_parcels_out, "free parcels out", CH_PARCELS_OUT, true) != CH_OK)
        return CH_ERR_NO_MEMORY;
    flow->free_parcels_in.consumer = flow->free_parcels_out.consumer = &nobody;
    for (uint32_t i = 0; i < count; i++) {
        struct ch_request *parcel = &flow->parcels[i];
        parcel->home = i < in ? &flow->free_parcels_in : &flow->free_parcels_out;
        parcel->body = flow->parcel_bodies + (size_t)i * CH_FRAME_BODY_BYTES_MAX;
        CH_ASSERT(ch_ring_push_one(parcel->home, parcel));
    }
    return CH_OK;
}

static atomic_uint *share_of(struct ch_flow *flow, uint16_t validator, uint16_t frame_type)
{
    return frame_type == CH_FRAME_OBJECT_STORED ? &flow->told_of[validator] : &flow->parcels_of[validator];
}

struct ch_request *ch_flow_parcel_in(struct ch_flow *flow, uint16_t validator, uint16_t frame_type)
{
    atomic_uint *share = share_of(flow, validator, frame_type);
    if (atomic_load(share) >= (frame_type == CH_FRAME_OBJECT_STORED ? CH_PARCELS_TOLD : CH_PARCELS_IN))
        return NULL;
    struct ch_request *parcel = ch_ring_pull_one(&flow->free_parcels_in);
    if (parcel)
        atomic_fetch_add(share, 1);
    return parcel;
}

void ch_flow_free_request(struct ch_flow *flow, struct ch_request *request)
{
    if (request->home == &flow->free_parcels_in)
        atomic_fetch_sub(share_of(flow, request->validator, request->header.type), 1);
    CH_ASSERT(ch_ring_push_one(request->home, request));
}

ch_err ch_flow_open(struct ch_flow *flow, uint32_t payload_bytes_max, uint32_t payload_items_max, uint32_t others)
{
    *flow = (struct ch_flow){0};
    flow->batches = calloc(CH_BATCH_POOL_COUNT, sizeof *flow->batches);
    flow->payloads = calloc(CH_PAYLOAD_POOL_COUNT, sizeof *flow->payloads);
    flow->requests = calloc(CH_REQUEST_POOL_COUNT, sizeof *flow->requests);
    flow->request_bodies = malloc((size_t)CH_REQUEST_POOL_COUNT * CH_FRAME_BODY_BYTES_MAX);
    flow->works = calloc(CH_WORK_POOL_COUNT, sizeof *flow->works);
    flow->payload_bytes = malloc((size_t)payload_bytes_max * CH_PAYLOAD_POOL_COUNT);
    flow->payload_txs = calloc((size_t)payload_items_max * CH_PAYLOAD_POOL_COUNT, sizeof *flow->payload_txs);
    if (!flow->batches || !flow->payloads || !flow->works || !flow->requests || !flow->request_bodies ||
        !flow->payload_bytes || !flow->payload_txs ||
        ch_ring_open(&flow->free_requests, "free requests", CH_REQUEST_POOL_COUNT, true) != CH_OK ||
        ch_ring_open(&flow->free_works, "free works", CH_WORK_POOL_COUNT, true) != CH_OK ||
        ch_ring_open(&flow->free_batches, "free batches", CH_BATCH_POOL_COUNT, true) != CH_OK ||
        ch_ring_open(&flow->free_payloads, "free payloads", CH_PAYLOAD_POOL_COUNT, true) != CH_OK) {
        ch_flow_close(flow);
        return CH_ERR_NO_MEMORY;
    }
    flow->free_requests.consumer = flow->free_works.consumer = flow->free_batches.consumer =
        flow->free_payloads.consumer = &nobody;
    for (uint32_t i = 0; i < CH_REQUEST_POOL_COUNT; i++) {
        flow->requests[i].home = &flow->free_requests;
        flow->requests[i].body = flow->request_bodies + (size_t)i * CH_FRAME_BODY_BYTES_MAX;
        CH_ASSERT(ch_ring_push_one(&flow->free_requests, &flow->requests[i]));
    }
    for (uint32_t i = 0; i < CH_WORK_POOL_COUNT; i++)
        CH_ASSERT(ch_ring_push_one(&flow->free_works, &flow->works[i]));
    for (uint32_t i = 0; i < CH_BATCH_POOL_COUNT; i++)
        CH_ASSERT(ch_ring_push_one(&flow->free_batches, &flow->batches[i]));
    for (uint32_t i = 0; i < CH_PAYLOAD_POOL_COUNT; i++) {
        struct ch_payload *payload = &flow->payloads[i];
        payload->bytes_max = payload_bytes_max;
        payload->count_max = payload_items_max;
        payload->bytes = flow->payload_bytes + (size_t)i * payload_bytes_max;
        payload->txs = flow->payload_txs + (size_t)i * payload_items_max;
        CH_ASSERT(ch_ring_push_one(&flow->free_payloads, payload));
    }
    ch_err err = others ? open_parcels(flow, others) : CH_OK;
    if (err != CH_OK)
        ch_flow_close(flow);
    return err;
}

void ch_payload_take_apart(struct ch_payload *p)
{
    uint16_t length;
    p->count = 0;
    for (uint32_t at = 0; p->count < p->count_max && (length = ch_tx_length(p->bytes + at, p->length - at)) != 0;
         at += length) {
        struct ch_payload_tx *entry = &p->txs[p->count++];
        *entry = (struct ch_payload_tx){.offset = at};
        ch_hash(p->bytes + at, length, entry->id);
    }
}

void ch_flow_free_payload(struct ch_flow *flow, struct ch_payload *payload)
{
    CH_ASSERT(ch_ring_push_one(&flow->free_payloads, payload));
}

void ch_flow_close(struct ch_flow *flow)
{
    ch_ring_close(&flow->free_works);
    ch_ring_close(&flow->free_requests);
    ch_ring_close(&flow->free_parcels_in);
    ch_ring_close(&flow->free_parcels_out);
    ch_ring_close(&flow->free_batches);
    ch_ring_close(&flow->free_payloads);
    free(flow->batches);
    free(flow->payloads);
    free(flow->works);
    free(flow->requests);
    free(flow->parcels);
    free(flow->parcel_bodies);
    free(flow->request_bodies);
    free(flow->payload_bytes);
    free(flow->payload_txs);
    *flow = (struct ch_flow){0};
}
