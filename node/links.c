#include "node/links.h"

#include <stdlib.h>

static struct ch_bell nobody; /* nobody sleeps on a free pool */

enum ch_lane ch_link_lane(uint16_t type)
{
    switch (type) {
    case CH_MESSAGE_PAYLOAD:
    case CH_MESSAGE_GET_PAYLOAD:
    case CH_MESSAGE_GET_BLOCKS:
    case CH_MESSAGE_BLOCKS:
        return CH_LANE_FETCH;
    case CH_MESSAGE_GET_COMMITS:
    case CH_MESSAGE_COMMITS:
        return CH_LANE_SYNC;
    default:
        return CH_LANE_LIVE;
    }
}

unsigned ch_link_share(enum ch_lane lane)
{
    static const unsigned shares[CH_LANES] = {[CH_LANE_LIVE] = 8, [CH_LANE_FETCH] = 12, [CH_LANE_SYNC] = 4};
    return shares[lane];
}

ch_err ch_links_open(struct ch_links *l, uint16_t n, uint16_t me)
{
    uint32_t in = 0, out = 32 + 8u * n;
    bool opened = true;
    l->n = n;
    l->me = me;
    static const char *const names[CH_LANES] = {"links live", "links fetch", "links sync"};
    for (unsigned lane = 0; lane < CH_LANES; lane++) {
        const uint32_t capacity = ch_link_share((enum ch_lane)lane) * n;
        opened = opened && ch_ring_open(&l->to_order[lane], names[lane], capacity, false) == CH_OK;
        l->to_order[lane].consumer = &nobody;
        in += capacity;
    }
    l->messages = calloc(in + out, sizeof *l->messages);
    l->bodies = malloc((size_t)(in + out) * CH_FRAME_BODY_BYTES_MAX); /* pages are touched as far as bodies reach */
    if (!opened || !l->messages || !l->bodies || ch_ring_open(&l->free_in, "links free in", in, false) != CH_OK ||
        ch_ring_open(&l->to_net, "links to net", out, false) != CH_OK ||
        ch_ring_open(&l->free_out, "links free out", out, false) != CH_OK) {
        ch_links_close(l);
        return CH_ERR_NO_MEMORY;
    }
    l->to_net.consumer = l->free_in.consumer = l->free_out.consumer = &nobody;
    for (uint32_t i = 0; i < in + out; i++) {
        l->messages[i].body = l->bodies + (size_t)i * CH_FRAME_BODY_BYTES_MAX;
        CH_ASSERT(ch_ring_push_one(i < in ? &l->free_in : &l->free_out, &l->messages[i]));
    }
    return CH_OK;
}

void ch_links_close(struct ch_links *l)
{
    for (unsigned lane = 0; lane < CH_LANES; lane++)
        ch_ring_close(&l->to_order[lane]);
    ch_ring_close(&l->free_in);
    ch_ring_close(&l->to_net);
    ch_ring_close(&l->free_out);
    free(l->messages);
    free(l->bodies);
    l->messages = NULL;
    l->bodies = NULL;
    l->n = 0;
}
