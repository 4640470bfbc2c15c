/* 11.2: guard and log were lost, the key was kept. Nothing is signed until a quorum of the others has said, each with
 * its highest own block, how far the chain was; an own block of a higher round than R* + 1 can't exist. */
#include "consensus/core_impl.h"

#include <stdlib.h>

#define ASK_AGAIN_US 1000000

struct rejoin {
    uint8_t nonce[CH_HASH_BYTES];
    bool replied[CH_VALIDATORS_MAX];
    struct ch_ref highest[CH_VALIDATORS_MAX]; /* round 0: has signed nothing */
    uint64_t ask_at_us, done_lsn;
};

bool rejoin_open(struct ch_core *core)
{
    core->rejoin = core->rejoin_memory = calloc(1, sizeof *core->rejoin);
    if (!core->rejoin)
        return false;
    for (unsigned i = 0; i < 4; i++)
        ch_store64(core->rejoin->nonce + 8 * i, ch_prng_next(&core->prng));
    return true;
}

void rejoin_close(struct ch_core *core)
{
    free(core->rejoin_memory);
}

void rejoin_i_am(struct ch_core *core, uint16_t peer, const uint8_t *body, size_t length)
{
    struct rejoin *re = core->rejoin;
    const size_t fixed = CH_HASH_BYTES + CH_BLOCK_SIGNATURE_BYTES;
    struct ch_block b;
    if (!re || length < fixed || memcmp(body, re->nonce, CH_HASH_BYTES) != 0)
        return;
    struct ch_ref ref = {.author = peer};
    if (length > fixed) {
        if (ch_block_parse(&core->committee, body + fixed, length - fixed, &b) != CH_BLOCK_OK || b.author != peer)
            return;
        ref.round = b.round;
        ch_block_digest(&core->committee, &b, ref.digest);
        accept_header(core, peer, body + fixed, (uint32_t)(length - fixed), FETCHED);
    }
    if (re->replied[peer] && re->highest[peer].round > ref.round)
        return;
    re->replied[peer] = true;
    re->highest[peer] = ref;
}

/* b: a reply counts once its block is accepted here, so that rounds made up don't count. */
static bool counts(const struct ch_core *core, uint16_t peer)
{
    const struct rejoin *re = core->rejoin;
    if (!re->replied[peer])
        return false;
    if (re->highest[peer].round == 0)
        return true;
    uint32_t id = block_find(core, &re->highest[peer]);
    return id != NONE && core->blocks[id].state == ACCEPTED;
}

/* c */
static void finish(struct ch_core *core, uint32_t highest)
{
    const uint16_t me = core->config.me;
    for (uint32_t r = core->floor_round + 1; r <= core->max_round; r++) {
        uint32_t id = dag_first(core, r, me);
        if (id == NONE || core->blocks[id].state == NAMED)
            continue;
        core->own_last = core->blocks[id].ref;
        core->own_header_length = core->blocks[id].length;
        memcpy(core->own_header, block_header(core, id), core->own_header_length);
        if (r > highest)
            highest = r;
    }
    core->P = highest + 1;
    core->guard.round = core->P;
    memset(core->guard.digest, 0, CH_HASH_BYTES);
    core->guard_changed = core->sync_now = true;
    core->rejoin->done_lsn = ++core->lsn; /* no record: the guard alone */
    core->own_last_lsn = core->lsn;
}

void rejoin_run(struct ch_core *core)
{
    struct rejoin *re = core->rejoin;
    const uint16_t me = core->config.me;
    uint64_t stake = 0;
    uint32_t highest = 0;
    if (!re || !core->started)
        return;
    if (re->done_lsn) {
        if (core->lsn_synced < re->done_lsn)
            return;
        core->counters.rejoined++;
        out_report(core, me, CH_REPORT_REJOINED);
        core->rejoin = NULL;
        return;
    }
    for (uint16_t a = 0; a < core->n; a++) {
        if (a == me || !counts(core, a))
            continue;
        stake += core->committee.stake[a];
        if (re->highest[a].round > highest)
            highest = re->highest[a].round;
    }
    if (stake >= core->committee.quorum_stake) {
        finish(core, highest);
        return;
    }
    if (core->now.mono_us < re->ask_at_us)
        return;
    re->ask_at_us = core->now.mono_us + ASK_AGAIN_US;
    for (uint16_t a = 0; a < core->n; a++)
        if (a != me && authors_has(&core->up, a) && !counts(core, a))
            out_send(core, a, CH_MESSAGE_WHO_AM_I, CH_LANE_LIVE, (struct ch_bytes){re->nonce, CH_HASH_BYTES});
}

uint64_t rejoin_deadline(const struct ch_core *core)
{
    return core->rejoin && !core->rejoin->done_lsn ? core->rejoin->ask_at_us : NEVER;
}
