#include "store/state_impl.h"

#include "base/pages.h"

ch_err cache_open(struct cache *c, uint32_t capacity, uint32_t stride)
{
    *c = (struct cache){.stride = stride, .capacity = capacity, .pin = 1};
    for (c->bits = 4; 1u << c->bits < capacity; c->bits++)
        ;
    c->entries = ch_pages_alloc((size_t)capacity * stride);
    c->heads = ch_pages_alloc(sizeof *c->heads << c->bits);
    return c->entries && c->heads ? CH_OK : CH_ERR_NO_MEMORY;
}

void cache_close(struct cache *c)
{
    ch_pages_free(c->entries, (size_t)c->capacity * c->stride);
    ch_pages_free(c->heads, sizeof *c->heads << c->bits);
    *c = (struct cache){0};
}

static uint32_t evict(struct cache *c)
{
    /* Twice around clears every mark; pinned ones and the last are far fewer than the capacity. */
    for (uint64_t steps = 0; steps <= 2ull * c->capacity + 1; steps++) {
        c->hand = c->hand % c->capacity + 1;
        struct cached *entry = cache_at(c, c->hand);
        if (entry->pin == c->pin || c->hand == c->last)
            continue;
        if (entry->used) {
            entry->used = false;
            continue;
        }
        uint32_t *link = cache_head(c, entry->hash);
        while (*link != c->hand)
            link = &cache_at(c, *link)->next;
        *link = entry->next;
        return c->hand;
    }
    CH_ASSERT(!"a cache is larger than what a flush pins");
    return 0;
}

struct cached *cache_insert(struct cache *c, uint32_t hash)
{
    uint32_t at = c->count < c->capacity ? ++c->count : evict(c);
    struct cached *entry = cache_at(c, at);
    uint32_t *head = cache_head(c, hash);
    *entry = (struct cached){.hash = hash, .next = *head};
    *head = at;
    cache_use(c, entry);
    return entry;
}
