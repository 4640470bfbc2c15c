/* Cleanness (4.2): a block may be referenced once everything that it reaches in the band (clean_floor, ..) is here.
 * It only ever turns from unclean to clean: the band shrinks and what is in it stays. */
#include "consensus/core_impl.h"

static bool clean_now(struct ch_core *core, uint32_t id)
{
    struct ch_block b;
    block_view(core, id, &b);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(&b, i);
        if (ref.round <= clean_floor(core))
            continue;
        uint32_t a = block_find(core, &ref);
        if (a == NONE)
            return false;
        const struct block *x = &core->blocks[a];
        if (!x->committed && !((x->state == ACCEPTED || x->state == HELD) && x->clean))
            return false;
    }
    return true;
}

/* Who needs what a block misses: its author, or, of an exposed author's block, the honest one who builds on it (E2). */
static uint16_t claimant(const struct ch_core *core, uint32_t id)
{
    const struct block *b = &core->blocks[id];
    return authors_has(&core->exposed, b->ref.author) ? b->charged : b->ref.author;
}

static bool dirty(const struct block *b)
{
    return !b->clean && !b->committed && (b->state == ACCEPTED || b->state == HELD);
}

/* An honest claim goes down through all that is unclean below. */
static void pass_claims(struct ch_core *core)
{
    for (uint32_t r = core->max_round; r > clean_floor(core); r--)
        for (uint16_t a = 0; a < core->n; a++)
            for (uint32_t id = dag_first(core, r, a); id != NONE; id = core->blocks[id].variant_next) {
                const uint16_t who = claimant(core, id);
                struct ch_block b;
                if (!dirty(&core->blocks[id]) || authors_has(&core->exposed, who))
                    continue;
                block_view(core, id, &b);
                for (unsigned i = 0; i < b.ancestor_count; i++) {
                    struct ch_ref ref = ch_block_ancestor(&b, i);
                    uint32_t x = block_find(core, &ref);
                    if (x != NONE && dirty(&core->blocks[x]) && authors_has(&core->exposed, claimant(core, x)))
                        core->blocks[x].charged = who;
                }
            }
}

/* What it misses of the band is fetched although it can't be accepted any more. */
static void want_band(struct ch_core *core, uint32_t id)
{
    struct ch_block b;
    block_view(core, id, &b);
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(&b, i);
        if (ref.round <= clean_floor(core) || ref.round > core->gc_round || block_find(core, &ref) != NONE)
            continue;
        uint32_t want = want_get(core, &ref, core->blocks[id].sender, claimant(core, id));
        if (want != NONE)
            core->wants[want].band = true;
    }
}

bool clean_needs(struct ch_core *core, uint16_t author, const struct ch_ref *missing)
{
    const uint64_t visit = ++core->visit;
    for (uint32_t r = missing->round + 1; r <= core->max_round; r++)
        for (uint16_t a = 0; a < core->n; a++)
            for (uint32_t id = dag_first(core, r, a); id != NONE; id = core->blocks[id].variant_next) {
                struct ch_block b;
                bool reaches = false;
                if (!dirty(&core->blocks[id]))
                    continue;
                block_view(core, id, &b);
                for (unsigned i = 0; i < b.ancestor_count && !reaches; i++) {
                    const struct ch_ref ref = ch_block_ancestor(&b, i);
                    const uint32_t x = block_find(core, &ref);
                    reaches = memcmp(&ref, missing, sizeof ref) == 0 || (x != NONE && core->blocks[x].visit == visit);
                }
                if (!reaches)
                    continue;
                if (a == author)
                    return true;
                core->blocks[id].visit = visit;
            }
    return false;
}

void clean_compute(struct ch_core *core, uint32_t id)
{
    struct block *b = &core->blocks[id];
    b->clean = clean_now(core, id);
    if (b->clean)
        return;
    core->dirty_count++;
    core->clean_stale = true;
    want_band(core, id);
}

void clean_again(struct ch_core *core)
{
    if (!core->clean_stale)
        return;
    core->clean_stale = false;
    if (core->dirty_count)
        pass_claims(core);
    for (uint32_t r = clean_floor(core) + 1; core->dirty_count && r <= core->max_round; r++)
        for (uint16_t a = 0; a < core->n; a++)
            for (uint32_t id = dag_first(core, r, a); id != NONE; id = core->blocks[id].variant_next) {
                struct block *b = &core->blocks[id];
                if (b->clean || (b->state != ACCEPTED && b->state != HELD))
                    continue;
                if (b->committed || clean_now(core, id)) {
                    b->clean = true;
                    core->dirty_count--;
                } else {
                    want_band(core, id);
                }
            }
}
