#include "node/links.h"

#include <stdlib.h>

static struct ch_bell nobody; /* nobody sleeps on a free pool */

ch_err ch_links_open(struct ch_links *l, uint16_t n, uint16_t me)
{
    uint32_t in = (uint32_t)CH_LINK_SHARE * n, out = 32 + 8u * n;
    l->n = n;
    l->me = me;
    l->messages = calloc(in + out, sizeof *l->messages);
    l->bodies = malloc((size_t)(in + out) * CH_FRAME_BODY_BYTES_MAX); /* pages are touched as far as bodies reach */
    if (!l->messages || !l->bodies || ch_ring_open(&l->to_order, "links to order", in, false) != CH_OK ||
        ch_ring_open(&l->free_in, "links free in", in, false) != CH_OK ||
        ch_ring_open(&l->to_net, "links to net", out, false) != CH_OK ||
        ch_ring_open(&l->free_out, "links free out", out, false) != CH_OK) {
        ch_links_close(l);
        return CH_ERR_NO_MEMORY;
    }
    l->to_order.consumer = l->to_net.consumer = l->free_in.consumer = l->free_out.consumer = &nobody;
    for (uint32_t i = 0; i < in + out; i++) {
        l->messages[i].body = l->bodies + (size_t)i * CH_FRAME_BODY_BYTES_MAX;
        CH_ASSERT(ch_ring_push_one(i < in ? &l->free_in : &l->free_out, &l->messages[i]));
    }
    return CH_OK;
}

void ch_links_close(struct ch_links *l)
{
    ch_ring_close(&l->to_order);
    ch_ring_close(&l->free_in);
    ch_ring_close(&l->to_net);
    ch_ring_close(&l->free_out);
    free(l->messages);
    free(l->bodies);
    l->messages = NULL;
    l->bodies = NULL;
    l->n = 0;
}
