/* Getting an object from several validators at once. A window of blocks in the tree's order moves along; each block in
 * it is asked for on one of the lanes, which are connections to validators, and given on when it and all before it are
 * there. A lane that is lost, silent, or without a block only costs the others more work. */
#include "client/object.h"

#include "base/time.h"
#include "client/client_impl.h"

#include <stdlib.h>

#define SECOND_NS     UINT64_C(1000000000)
#define SLOTS         10         /* blocks in the window */
#define LANE_DEPTH    3          /* blocks under way on a lane: one being answered, two on their way */
#define ALONE_BYTES   (4u << 20) /* a shorter object comes from one validator, if it has it */
#define BUSY_PAUSE_NS (SECOND_NS / 5)
#define CHATTER_BYTES 2048             /* received, that may be acknowledgements alone and no part of a block */
#define STALL_NS      (2 * SECOND_NS)  /* a silent lane's blocks are asked for elsewhere */
#define BLOCK_NS      (60 * SECOND_NS) /* a block that takes longer is asked for elsewhere, however its bytes trickle */

enum slot_state { WAITING, ASKED, HERE, ENTERED };

struct slot {
    struct ch_request request;
    enum slot_state state;
    struct ch_unixfs_link link;
    unsigned lane, tried; /* tried: a bit for each lane that could not give it */
    uint64_t asked_ns;
    size_t length;  /* of block */
    uint8_t *block; /* CH_BLOCK_BYTES_MAX */
};

struct lane {
    struct ch_client *client;
    unsigned under_way;
    bool open;      /* connected */
    bool failed;    /* its last attempt to connect came to nothing */
    bool hasnt;     /* it lacked a block */
    unsigned turns; /* to other validators, since the last block came */
    uint64_t received_bytes;
    uint64_t pause_until_ns;
};

struct getter {
    struct lane lanes[CH_CLIENT_LANES_MAX];
    unsigned lane_count;
    struct slot slots[SLOTS];
    uint64_t head, tail; /* of the window, counted from the first block on */
    struct slot *node;   /* the walk waits for it */
    bool walked;         /* to the end */
    struct ch_unixfs_walk walk;
    ch_err refusal; /* the last reason why a lane could not give a block, */
    uint16_t status;
    uint64_t deadline_ns, done, total; /* bytes */
    ch_block_taker take;
    void *context;
    ch_progress progress;
    void *progress_context;
};

static struct ch_client *own(struct getter *g)
{
    return g->lanes[0].client;
}

static ch_err not_the_tree(struct getter *g)
{
    return ch_client_fail(own(g), CH_ERR_PROTOCOL, "the object is not what its address and length say");
}

static ch_err on_object(struct ch_request *request, const struct ch_frame_header *header, const uint8_t *body)
{
    struct slot *slot = request->context;
    struct ch_reader r = ch_reader(body, header->length);
    request->status = ch_read16(&r);
    if (header->type != CH_FRAME_OBJECT || r.bad)
        return CH_ERR_PROTOCOL;
    if (request->status != CH_STATUS_OK)
        return CH_ERR_REFUSED;
    if (r.left > CH_BLOCK_BYTES_MAX || !ch_cid_matches(&slot->link.cid, r.at, r.left))
        return CH_ERR_PROTOCOL;
    memcpy(slot->block, r.at, r.left);
    slot->length = r.left;
    return CH_OK;
}

/* ---- lanes ---- */

static ch_err add_companions(struct getter *g)
{
    ch_err err = ch_client_open_companions(own(g));
    for (unsigned i = g->lane_count; err == CH_OK && i < 1 + own(g)->companion_count; i++)
        g->lanes[g->lane_count++] = (struct lane){.client = own(g)->companions[i - 1]};
    return err;
}

/* The requests of a lane that is lost; its client has ended them, or will ignore what comes. */
static void take_back(struct getter *g, unsigned lane)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (g->slots[i].state == ASKED && g->slots[i].lane == lane) {
            ch_client_drop(g->lanes[lane].client, &g->slots[i].request);
            g->slots[i].state = WAITING;
        }
    g->lanes[lane].under_way = 0;
}

/* The deadline moves while bytes do. */
static void notice_bytes(struct getter *g, struct lane *lane)
{
    struct ch_quic_conn_stats stats;
    if (ch_quic_conn_stats(lane->client->engine, lane->client->conn, &stats) != CH_OK)
        return;
    if (stats.rx_bytes > lane->received_bytes + CHATTER_BYTES)
        g->deadline_ns = ch_client_deadline_ns(own(g));
    else if (stats.rx_bytes >= lane->received_bytes)
        return;
    lane->received_bytes = stats.rx_bytes;
}

/* A lane that may be at another validator next time starts with a clean slate. */
static void leave(struct getter *g, unsigned lane)
{
    take_back(g, lane);
    g->lanes[lane].open = g->lanes[lane].failed = g->lanes[lane].hasnt = false;
    for (unsigned i = 0; i < SLOTS; i++)
        g->slots[i].tried &= ~(1u << lane);
}

/* Moves each lane towards a connection, and notices those that are lost. */
static void tend_lanes(struct getter *g, uint64_t now_ns)
{
    for (unsigned i = 0; i < g->lane_count; i++) {
        struct lane *lane = &g->lanes[i];
        ch_client_look(lane->client, now_ns);
        ch_err err = ch_client_step(lane->client);
        if (lane->open && err != CH_OK)
            leave(g, i);
        lane->open = err == CH_OK;
        if (err == CH_OK)
            notice_bytes(g, lane);
        if (err != CH_ERR_AGAIN)
            lane->failed = err != CH_OK;
    }
}

/* Where to ask for a block: the lane with the least to do of those that have been good for something. */
static int choose_lane(const struct getter *g, const struct slot *slot, uint64_t now_ns)
{
    int best = -1;
    for (unsigned i = 0; i < g->lane_count; i++) {
        const struct lane *lane = &g->lanes[i];
        if (!lane->open || slot->tried & 1u << i || lane->under_way >= LANE_DEPTH || now_ns < lane->pause_until_ns)
            continue;
        const struct lane *other = best < 0 ? NULL : &g->lanes[best];
        if (!other || lane->hasnt < other->hasnt || (lane->hasnt == other->hasnt && lane->under_way < other->under_way))
            best = (int)i;
    }
    /* One that lacked a block is asked for another only where no better one is left, be it busy. */
    if (best >= 0 && g->lanes[best].hasnt)
        for (unsigned i = 0; i < g->lane_count; i++)
            if (g->lanes[i].open && !g->lanes[i].hasnt && !(slot->tried & 1u << i))
                return -1;
    return best;
}

/* True when no lane is left that might give the block. */
static bool lost_for_good(const struct getter *g, const struct slot *slot)
{
    bool any_tried = false;
    for (unsigned i = 0; i < g->lane_count; i++) {
        bool tried = slot->tried & 1u << i;
        if (!tried && (g->lanes[i].open || !g->lanes[i].failed))
            return false;
        any_tried = any_tried || tried;
    }
    return any_tried;
}

/* Turns the lanes that could not give a block to validators that were not asked yet; false where all were. */
static bool turn_lanes(struct getter *g, const struct slot *slot)
{
    unsigned asked = 0, tried = slot->tried;
    bool any = false;
    for (unsigned i = 0; i < g->lane_count; i++) {
        bool again = !(tried & 1u << i); /* or another lane is at the same one */
        for (unsigned k = 0; k < i && !again; k++)
            again = tried & 1u << k && memcmp(g->lanes[i].client->peer_key, g->lanes[k].client->peer_key, 32) == 0;
        asked += !again;
    }
    for (unsigned i = 0; i < g->lane_count && asked < own(g)->address_count; i++) {
        if (!(tried & 1u << i) || ++g->lanes[i].turns >= own(g)->address_count)
            continue;
        leave(g, i);
        ch_client_turn(g->lanes[i].client);
        any = true;
    }
    return any;
}

/* ---- blocks ---- */

static ch_err ask(struct getter *g, struct slot *slot, unsigned lane, uint64_t now_ns)
{
    slot->request = (struct ch_request){.answer = on_object, .context = slot};
    const struct ch_bytes part = {slot->link.cid.bytes, CH_CID_BYTES};
    ch_err err = ch_client_start(g->lanes[lane].client, &slot->request, CH_FRAME_GET_OBJECT, 0, &part, 1);
    if (err == CH_ERR_FULL || err == CH_ERR_CLOSED)
        return CH_OK; /* later */
    if (err != CH_OK)
        return err;
    slot->state = ASKED;
    slot->lane = lane;
    slot->asked_ns = now_ns;
    g->lanes[lane].under_way++;
    return CH_OK;
}

/* A lane can't give a block. */
static ch_err cross_off(struct getter *g, struct slot *slot, ch_err why, uint16_t status)
{
    slot->tried |= 1u << slot->lane;
    g->refusal = why;
    g->status = status;
    return g->lane_count == 1 ? add_companions(g) : CH_OK;
}

static ch_err on_done(struct getter *g, struct slot *slot, uint64_t now_ns)
{
    struct lane *lane = &g->lanes[slot->lane];
    const struct ch_request *r = &slot->request;
    lane->under_way--;
    slot->state = WAITING;
    switch (r->result) {
    case CH_OK:
        slot->state = HERE;
        lane->hasnt = false;
        g->refusal = CH_OK;
        for (unsigned i = 0; i < g->lane_count; i++)
            g->lanes[i].turns = 0;
        g->deadline_ns = ch_client_deadline_ns(own(g));
        return CH_OK;
    case CH_ERR_CLOSED:
        return CH_OK;
    case CH_ERR_REFUSED:
        if (r->status == CH_STATUS_OVERLOADED || r->status == CH_STATUS_RATE_LIMITED) {
            lane->pause_until_ns = now_ns + BUSY_PAUSE_NS;
            return CH_OK;
        }
        lane->hasnt = true;
        return cross_off(g, slot, CH_ERR_REFUSED, r->status);
    default:
        return cross_off(g, slot, r->result, 0);
    }
}

/* Takes a block away from a lane that stalls. */
static void hedge(struct getter *g, struct slot *slot, uint64_t now_ns)
{
    struct lane *lane = &g->lanes[slot->lane];
    bool silent = now_ns > lane->client->heard_ns + STALL_NS && now_ns > slot->asked_ns + STALL_NS;
    bool endless = now_ns > slot->asked_ns + BLOCK_NS;
    unsigned kept = slot->tried;
    slot->tried |= 1u << slot->lane;
    if ((silent || endless) && choose_lane(g, slot, now_ns) >= 0) {
        ch_client_drop(lane->client, &slot->request);
        lane->under_way--;
        slot->state = WAITING;
        if (endless)
            kept = slot->tried;
        lane->pause_until_ns = now_ns + STALL_NS;
    }
    slot->tried = kept;
}

/* How long the file is, once its root is here. */
static void learn_total(struct getter *g)
{
    g->total = 0;
    for (size_t i = 0; i < g->walk.levels[g->walk.depth - 1].count; i++)
        g->total += g->walk.levels[g->walk.depth - 1].links[i].file_bytes;
}

/* Brings the walk on as far as there is room and the nodes are there. */
static ch_err walk_on(struct getter *g)
{
    while (!g->walked) {
        if (g->node && g->node->state != HERE)
            return CH_OK;
        if (g->node) {
            if (!ch_unixfs_walk_enter(&g->walk, &g->node->link, g->node->block, g->node->length))
                return not_the_tree(g);
            if (g->total == UINT64_MAX)
                learn_total(g);
            g->node->state = ENTERED;
            g->node = NULL;
        }
        if (g->tail - g->head == SLOTS)
            return CH_OK;
        struct slot *slot = &g->slots[g->tail % SLOTS];
        if (!ch_unixfs_walk_next(&g->walk, &slot->link)) {
            g->walked = true;
            return CH_OK;
        }
        slot->state = WAITING;
        slot->tried = 0;
        g->tail++;
        if (ch_cid_codec(&slot->link.cid) == CH_CID_DAG_PB)
            g->node = slot;
    }
    return CH_OK;
}

/* Gives on what is there, in order. */
static ch_err give_on(struct getter *g)
{
    for (; g->head < g->tail; g->head++) {
        struct slot *slot = &g->slots[g->head % SLOTS];
        bool leaf = ch_cid_codec(&slot->link.cid) == CH_CID_RAW;
        if (slot->state != (leaf ? HERE : ENTERED))
            return CH_OK;
        if (leaf && slot->link.file_bytes != UINT64_MAX && slot->length != slot->link.file_bytes)
            return not_the_tree(g);
        ch_err err = g->take(g->context, &slot->link.cid, slot->block, slot->length);
        if (err != CH_OK)
            return err;
        g->done += leaf ? slot->length : 0;
        g->total = g->total == UINT64_MAX ? g->done : g->total; /* a single block */
        if (leaf && g->progress)
            g->progress(g->progress_context, g->done, g->total);
    }
    return CH_OK;
}

static ch_err tell_refusal(struct getter *g)
{
    struct ch_request request = {.result = g->refusal, .status = g->status};
    return ch_client_outcome(own(g), &request);
}

static ch_err ask_for_blocks(struct getter *g, uint64_t now_ns)
{
    for (uint64_t i = g->head; i < g->tail; i++) {
        struct slot *slot = &g->slots[i % SLOTS];
        ch_err err = CH_OK;
        if (slot->state == ASKED && slot->request.done)
            err = on_done(g, slot, now_ns);
        else if (slot->state == ASKED)
            hedge(g, slot, now_ns);
        if (err == CH_OK && slot->state == WAITING) {
            int lane = choose_lane(g, slot, now_ns);
            if (lane >= 0)
                err = ask(g, slot, (unsigned)lane, now_ns);
            else if (lost_for_good(g, slot) && !turn_lanes(g, slot))
                err = tell_refusal(g);
        }
        if (err != CH_OK)
            return err;
    }
    return CH_OK;
}

/* The companions are dialled while the first blocks come. */
static ch_err run(struct getter *g)
{
    struct ch_client *clients[CH_CLIENT_LANES_MAX];
    ch_err err = ch_client_reach(own(g), g->deadline_ns, own(g)->was_connected);
    while (err == CH_OK) {
        uint64_t now = ch_time_monotonic_ns();
        tend_lanes(g, now);
        err = walk_on(g);
        if (err == CH_OK)
            err = ask_for_blocks(g, now);
        if (err == CH_OK)
            err = walk_on(g);
        if (err == CH_OK)
            err = give_on(g);
        if (err != CH_OK || (g->walked && g->head == g->tail))
            break;
        if (now >= g->deadline_ns && g->refusal != CH_OK)
            return tell_refusal(g);
        if (now >= g->deadline_ns)
            return ch_client_fail(own(g), CH_ERR_TIMEOUT, "%s: nothing moves any more", own(g)->name);
        for (unsigned i = 0; i < g->lane_count; i++)
            clients[i] = g->lanes[i].client;
        err = ch_client_rounds(clients, g->lane_count, now + BUSY_PAUSE_NS);
    }
    return err;
}

ch_err ch_client_get_blocks(struct ch_client *client, const struct ch_cid *root, uint64_t length, ch_block_taker take,
                            void *context, ch_progress progress, void *progress_context)
{
    struct getter *g = calloc(1, sizeof *g);
    if (!g)
        return CH_ERR_NO_MEMORY;
    g->lanes[g->lane_count++] = (struct lane){.client = client};
    g->take = take;
    g->context = context;
    g->progress = progress;
    g->progress_context = progress_context;
    g->total = length;
    g->deadline_ns = ch_client_deadline_ns(client);
    ch_unixfs_walk_begin(&g->walk, root, length);
    ch_err err = length >= ALONE_BYTES ? add_companions(g) : CH_OK;
    for (unsigned i = 0; err == CH_OK && i < SLOTS; i++) {
        g->slots[i].block = malloc(CH_BLOCK_BYTES_MAX);
        if (!g->slots[i].block)
            err = CH_ERR_NO_MEMORY;
    }
    if (err == CH_OK)
        err = run(g);
    for (unsigned i = 0; i < g->lane_count; i++)
        take_back(g, i);
    for (unsigned i = 0; i < SLOTS; i++)
        free(g->slots[i].block);
    free(g);
    return err;
}

/* Leaves alone, for who wants the bytes. */
struct leaves {
    ch_sink sink;
    void *context;
};

static ch_err take_leaf(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct leaves *l = context;
    return ch_cid_codec(cid) == CH_CID_RAW ? l->sink(l->context, block, length) : CH_OK;
}

ch_err ch_client_get_object(struct ch_client *client, const struct ch_cid *root, uint64_t length, ch_sink sink,
                            void *context, ch_progress progress, void *progress_context)
{
    struct leaves l = {sink, context};
    return ch_client_get_blocks(client, root, length, take_leaf, &l, progress, progress_context);
}
