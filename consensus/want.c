/* References that are waited for (F1): by suspended children, for cleanness, or by a commit that is being installed. */
#include "consensus/core_impl.h"

static uint32_t *bucket(const struct ch_core *core, const uint8_t digest[CH_HASH_BYTES])
{
    return &core->want_buckets[(uint32_t)(ch_load64(digest) * core->hash_factor >> 32) & core->bucket_mask];
}

uint32_t want_find(const struct ch_core *core, const struct ch_ref *ref)
{
    uint32_t id = *bucket(core, ref->digest);
    while (id != NONE && memcmp(&core->wants[id].ref, ref, sizeof *ref) != 0)
        id = core->wants[id].hash_next;
    return id;
}

/* An honest child's need counts more than an exposed author's (E2). True when the want changed hands. */
static bool recharge(struct ch_core *core, struct want *w, uint16_t child_author)
{
    if (w->child_author >= core->n || !authors_has(&core->exposed, w->child_author))
        return false;
    core->wants_charged[w->child_author]--;
    core->wants_charged[child_author]++;
    w->child_author = child_author;
    return true;
}

/* And so does what that needs in turn: down the suspended blocks, whose rounds fall with each step. With `visit`, all
 * of them that have not been visited; without, as far as wants change hands. */
static void take_over(struct ch_core *core, const struct ch_ref *ref, uint16_t child_author, uint64_t visit)
{
    struct ch_block b;
    const uint32_t block = block_find(core, ref);
    if (block == NONE || core->blocks[block].state != SUSPENDED || (visit && core->blocks[block].visit == visit))
        return;
    if (visit)
        core->blocks[block].visit = visit;
    block_view(core, block, &b);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        const struct ch_ref below = ch_block_ancestor(&b, i);
        const uint32_t id = want_find(core, &below);
        if (id != NONE && (recharge(core, &core->wants[id], child_author) || visit))
            take_over(core, &below, child_author, visit);
    }
}

void claims_again(struct ch_core *core)
{
    const uint64_t visit = ++core->visit;
    for (uint16_t a = 0; a < core->n; a++)
        for (uint32_t id = core->suspended_head[a]; id != NONE; id = core->blocks[id].suspended_next) {
            const struct ch_ref *ref = &core->blocks[id].ref;
            if (!authors_has(&core->exposed, ref->author))
                take_over(core, ref, ref->author, visit);
        }
    core->clean_stale = true; /* what lies in the band is claimed again there */
}

uint32_t want_get(struct ch_core *core, const struct ch_ref *ref, uint16_t sender, uint16_t child_author)
{
    uint32_t id = want_find(core, ref);
    const bool honest = child_author < core->n && !authors_has(&core->exposed, child_author);
    if (id != NONE) {
        if (honest && recharge(core, &core->wants[id], child_author))
            take_over(core, ref, child_author, 0);
        return id;
    }
    if (core->want_free == NONE && core->wants_used == core->want_count)
        return NONE;
    id = core->want_free == NONE ? core->wants_used++ : core->want_free;
    struct want *w = &core->wants[id];
    if (id == core->want_free)
        core->want_free = w->next;
    uint32_t *head = bucket(core, ref->digest);
    *w = (struct want){.ref = *ref,
                       .deadline_us = core->now.mono_us,
                       .hash_next = *head,
                       .next = NONE,
                       .previous = core->want_last,
                       .links = NONE,
                       .sender = sender,
                       .child_author = child_author,
                       .in_use = true};
    *head = id;
    if (core->want_last != NONE)
        core->wants[core->want_last].next = id;
    else
        core->want_first = id;
    core->want_last = id;
    core->want_total++;
    if (child_author < core->n)
        core->wants_charged[child_author]++;
    if (core->fetch_at_us > core->now.mono_us)
        core->fetch_at_us = core->now.mono_us;
    if (honest)
        take_over(core, ref, child_author, 0);
    return id;
}

bool want_link(struct ch_core *core, uint32_t want, uint32_t child)
{
    if (core->link_free == NONE && core->links_used == core->link_count)
        return false;
    uint32_t link = core->link_free;
    if (link == NONE)
        link = core->links_used++;
    else
        core->link_free = core->links[link].next;
    core->links[link] = (struct link){.child = child, .next = core->wants[want].links};
    core->wants[want].links = link;
    return true;
}

void want_free(struct ch_core *core, uint32_t id)
{
    struct want *w = &core->wants[id];
    CH_ASSERT(w->in_use);
    while (w->links != NONE) {
        uint32_t link = w->links;
        w->links = core->links[link].next;
        core->links[link].next = core->link_free;
        core->link_free = link;
    }
    uint32_t *at = bucket(core, w->ref.digest);
    while (*at != id)
        at = &core->wants[*at].hash_next;
    *at = w->hash_next;
    if (w->previous != NONE)
        core->wants[w->previous].next = w->next;
    else
        core->want_first = w->next;
    if (w->next != NONE)
        core->wants[w->next].previous = w->previous;
    else
        core->want_last = w->previous;
    if (w->child_author < core->n)
        core->wants_charged[w->child_author]--;
    core->want_total--;
    w->in_use = false;
    w->next = core->want_free;
    core->want_free = id;
}

void want_unlink(struct ch_core *core, const struct ch_ref *ref, uint32_t child)
{
    uint32_t id = want_find(core, ref);
    if (id == NONE)
        return;
    struct want *w = &core->wants[id];
    for (uint32_t *at = &w->links; *at != NONE; at = &core->links[*at].next) {
        uint32_t link = *at;
        if (core->links[link].child != child)
            continue;
        *at = core->links[link].next;
        core->links[link].next = core->link_free;
        core->link_free = link;
        break;
    }
    if (w->links == NONE && !w->band && !w->installing)
        want_free(core, id);
}
