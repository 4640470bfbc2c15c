#include "node/flow.h"

#include <stdlib.h>

static struct ch_bell nobody; /* nobody sleeps on a free pool: who found it empty has a deadline */

ch_err ch_flow_open(struct ch_flow *flow, uint32_t payload_bytes_max, uint32_t payload_items_max)
{
    *flow = (struct ch_flow){0};
    flow->batches = calloc(CH_BATCH_POOL_COUNT, sizeof *flow->batches);
    flow->payloads = calloc(CH_PAYLOAD_POOL_COUNT, sizeof *flow->payloads);
    flow->requests = calloc(CH_REQUEST_POOL_COUNT, sizeof *flow->requests);
    flow->request_bodies = malloc((size_t)CH_REQUEST_POOL_COUNT * CH_FRAME_BODY_BYTES_MAX);
    flow->works = calloc(CH_WORK_POOL_COUNT, sizeof *flow->works);
    flow->payload_bytes = malloc((size_t)payload_bytes_max * CH_PAYLOAD_POOL_COUNT);
    flow->payload_txs = calloc((size_t)payload_items_max * CH_PAYLOAD_POOL_COUNT, sizeof *flow->payload_txs);
    if (!flow->batches || !flow->payloads || !flow->works || !flow->requests || !flow->request_bodies || !flow->payload_bytes || !flow->payload_txs ||
        ch_ring_open(&flow->free_requests, "free requests", CH_REQUEST_POOL_COUNT, true) != CH_OK ||
        ch_ring_open(&flow->free_works, "free works", CH_WORK_POOL_COUNT, true) != CH_OK ||
        ch_ring_open(&flow->free_batches, "free batches", CH_BATCH_POOL_COUNT, true) != CH_OK ||
        ch_ring_open(&flow->free_payloads, "free payloads", CH_PAYLOAD_POOL_COUNT, true) != CH_OK) {
        ch_flow_close(flow);
        return CH_ERR_NO_MEMORY;
    }
    flow->free_requests.consumer = flow->free_works.consumer = flow->free_batches.consumer = flow->free_payloads.consumer = &nobody;
    for (uint32_t i = 0; i < CH_REQUEST_POOL_COUNT; i++) {
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
    return CH_OK;
}

void ch_flow_free_payload(struct ch_flow *flow, struct ch_payload *payload)
{
    CH_ASSERT(ch_ring_push_one(&flow->free_payloads, payload));
}

void ch_flow_close(struct ch_flow *flow)
{
    ch_ring_close(&flow->free_works);
    ch_ring_close(&flow->free_requests);
    ch_ring_close(&flow->free_batches);
    ch_ring_close(&flow->free_payloads);
    free(flow->batches);
    free(flow->payloads);
    free(flow->works);
    free(flow->requests);
    free(flow->request_bodies);
    free(flow->payload_bytes);
    free(flow->payload_txs);
    *flow = (struct ch_flow){0};
}
