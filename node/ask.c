#include "node/ask.h"

#include "node/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define LOOK_EVERY_NS 50000000 /* whether the node stops */

struct ask {
    struct ch_request request; /* first: what serve answers */
    bool done;
};

struct ch_asks {
    struct ch_node *node;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* an answer came, or a place is free */
    struct ask ask[CH_ASKS_MAX];
    bool used[CH_ASKS_MAX];
    uint8_t *bodies;
};

struct ch_asker {
    struct ch_asks *asks;
    struct ch_object_reader *reader;
    struct ch_tree *tree; /* NULL: we are alone, all is here */
};

static void answered(void *context, struct ch_request *request)
{
    struct ch_asks *asks = context;
    pthread_mutex_lock(&asks->lock);
    ((struct ask *)(void *)request)->done = true;
    pthread_cond_broadcast(&asks->changed);
    pthread_mutex_unlock(&asks->lock);
}

ch_err ch_asks_open(struct ch_node *node, struct ch_asks **out)
{
    struct ch_asks *asks = calloc(1, sizeof *asks);
    if (!asks)
        return CH_ERR_NO_MEMORY;
    asks->node = node;
    asks->bodies = malloc((size_t)CH_ASKS_MAX * CH_FRAME_BODY_BYTES_MAX); /* pages are touched as far as answers reach */
    pthread_mutex_init(&asks->lock, NULL);
    pthread_cond_init(&asks->changed, NULL);
    for (unsigned i = 0; i < CH_ASKS_MAX && asks->bodies; i++) {
        struct ch_request *request = &asks->ask[i].request;
        request->body = asks->bodies + (size_t)i * CH_FRAME_BODY_BYTES_MAX;
        request->answered = answered;
        request->context = asks;
    }
    if (!asks->bodies) {
        ch_asks_close(asks);
        return CH_ERR_NO_MEMORY;
    }
    *out = asks;
    return CH_OK;
}

void ch_asks_close(struct ch_asks *asks)
{
    if (!asks)
        return;
    pthread_cond_destroy(&asks->changed);
    pthread_mutex_destroy(&asks->lock);
    free(asks->bodies);
    free(asks);
}

ch_err ch_asker_open(struct ch_asks *asks, struct ch_asker **out)
{
    struct ch_asker *a = calloc(1, sizeof *a);
    if (!a)
        return CH_ERR_NO_MEMORY;
    a->asks = asks;
    ch_err err = ch_object_reader_open(asks->node->objects, &a->reader);
    if (err == CH_OK && asks->node->committee.n > 1)
        err = ch_tree_open(a->reader, asks->node->committee.n, &a->tree);
    if (err == CH_OK)
        *out = a;
    else
        ch_asker_close(a);
    return err;
}

void ch_asker_close(struct ch_asker *a)
{
    if (!a)
        return;
    ch_tree_close(a->tree);
    ch_object_reader_close(a->reader);
    free(a);
}

/* Waits until something changed, a moment at most; false: the node stops. */
static bool wait_on(struct ch_asks *asks)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOOK_EVERY_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&asks->changed, &asks->lock, &until);
    return !atomic_load(&asks->node->stop);
}

/* The answer's status, and what follows it (`to` NULL: nothing is wanted). */
static ch_err ask(struct ch_asks *asks, enum ch_frame_type type, const struct ch_cid *cid, void *to, size_t capacity,
                  size_t *length)
{
    ch_err err = CH_OK;
    unsigned at = 0;
    bool goes_on = true;
    pthread_mutex_lock(&asks->lock);
    for (;;) {
        for (at = 0; at < CH_ASKS_MAX && asks->used[at]; at++)
            ;
        if (at < CH_ASKS_MAX || !goes_on)
            break;
        goes_on = wait_on(asks);
    }
    if (at == CH_ASKS_MAX) {
        pthread_mutex_unlock(&asks->lock);
        return CH_ERR_CLOSED;
    }
    struct ask *a = &asks->ask[at];
    asks->used[at] = true;
    a->done = false;
    a->request.header = (struct ch_frame_header){.type = (uint16_t)type, .length = CH_CID_BYTES};
    memcpy(a->request.body, cid->bytes, CH_CID_BYTES);
    CH_ASSERT(ch_ring_push_one(&asks->node->to_serve, &a->request)); /* it has room for all of us */
    while (!a->done && goes_on)
        goes_on = wait_on(asks);
    if (!a->done) { /* serve may still have it: its place stays taken */
        pthread_mutex_unlock(&asks->lock);
        return CH_ERR_CLOSED;
    }
    pthread_mutex_unlock(&asks->lock);
    uint16_t status = ch_load16(a->request.body);
    size_t got = a->request.header.length - 2u;
    if (status == CH_STATUS_NOT_FOUND)
        err = CH_ERR_NOT_FOUND;
    else if (status == CH_STATUS_BAD_OBJECT || status == CH_STATUS_MALFORMED)
        err = CH_ERR_INVALID;
    else if (status != CH_STATUS_OK)
        err = CH_ERR_TIMEOUT;
    else if (to && got > capacity)
        err = CH_ERR_FULL;
    if (err == CH_OK && to) {
        memcpy(to, a->request.body + 2, got);
        *length = got;
    }
    pthread_mutex_lock(&asks->lock);
    asks->used[at] = false;
    pthread_cond_broadcast(&asks->changed);
    pthread_mutex_unlock(&asks->lock);
    return err;
}

ch_err ch_asker_get(struct ch_asker *a, const struct ch_cid *cid, void *to, size_t capacity, size_t *length)
{
    ch_err err = ch_object_get(a->reader, cid, to, capacity, length);
    if (!a->tree || (err != CH_ERR_NOT_FOUND && err != CH_ERR_CORRUPT))
        return err;
    return ask(a->asks, CH_FRAME_GET_OBJECT, cid, to, capacity, length);
}

ch_err ch_asker_has_tree(struct ch_asker *a, const struct ch_cid *root, uint64_t *file_bytes)
{
    if (!a->tree)
        return ch_object_has_tree(a->reader, root, file_bytes);
    uint64_t bytes = UINT64_MAX;
    ch_err err = ch_tree_look(a->tree, root, &bytes, NULL, NULL);
    if (err == CH_ERR_NOT_FOUND) { /* unknown here: then it is made known */
        err = ask(a->asks, CH_FRAME_HAS_OBJECT, root, NULL, 0, NULL);
        bytes = UINT64_MAX;
        if (err == CH_OK)
            err = ch_tree_look(a->tree, root, &bytes, NULL, NULL);
    }
    if (err == CH_OK)
        *file_bytes = bytes;
    return err;
}
