/* docs/consensus.md 8: weighted sampling without replacement, static schedule (version 0, everybody eligible). */
#include "consensus/core_impl.h"

void schedule_leaders(const struct ch_core *core, uint32_t round, uint16_t *authors)
{
    const struct ch_committee *c = &core->committee;
    if (core->config.leaders) {
        core->config.leaders(core->config.leaders_context, round, authors);
        return;
    }
    const uint32_t version = 0;
    struct authors taken = {0};
    uint64_t left = c->stake_total;
    for (uint16_t k = 0; k < core->ranks; k++) {
        uint8_t digest[CH_HASH_BYTES];
        const struct ch_bytes parts[] = {{c->chain_id, CH_HASH_BYTES},
                                         {(const uint8_t *)&c->epoch, 4},
                                         {(const uint8_t *)&version, 4},
                                         {(const uint8_t *)&round, 4},
                                         {(const uint8_t *)&k, 2}};
        ch_hash_domain("chappe/leader/1", parts, 5, digest);
        uint64_t x = ch_load64(digest) % left;
        uint16_t a = 0;
        while (authors_has(&taken, a) || x >= c->stake[a]) {
            if (!authors_has(&taken, a))
                x -= c->stake[a];
            a++;
        }
        authors[k] = a;
        authors_add(&taken, a);
        left -= c->stake[a];
    }
}
