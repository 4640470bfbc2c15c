/* Commit votes (13): who stands behind which commit, the proofs kept for those who lag, and the watch for forks. */
#include "consensus/core_impl.h"

static struct vote *vote_place(const struct ch_core *core, uint16_t author, uint64_t index)
{
    return &core->votes[(size_t)author * core->votes_kept + index % core->votes_kept];
}

static const struct vote *vote_for(const struct ch_core *core, uint16_t author, uint64_t index)
{
    const struct vote *v = vote_place(core, author, index);
    return v->index == index ? v : NULL;
}

static uint64_t stake_for(const struct ch_core *core, uint64_t index, const uint8_t digest[CH_HASH_BYTES])
{
    uint64_t stake = 0;
    for (uint16_t a = 0; a < core->n; a++) {
        const struct vote *v = vote_for(core, a, index);
        if (v && memcmp(v->digest, digest, CH_HASH_BYTES) == 0)
            stake += core->committee.stake[a];
    }
    return stake;
}

/* V1 */
static void check_fork(struct ch_core *core, uint64_t index, const uint8_t digest[CH_HASH_BYTES], uint64_t stake)
{
    const struct own_commit *own = &core->own_commits[index % core->own_commit_count];
    if (own->index == index && memcmp(own->digest, digest, CH_HASH_BYTES) != 0 &&
        stake >= core->committee.validity_stake)
        core_halt(core, CH_HALT_FORK);
}

/* A VOTE_CERT record for a commit that validity stake stands behind: one of them is honest, and an honest validator has
 * it on its disk. (Quorum stake is more than can be had: up to f may sign blocks and never vote, and whoever lags can't
 * have voted yet.) Skipped when too few of the headers are in memory. */
static void keep_proof(struct ch_core *core, uint64_t index, const uint8_t digest[CH_HASH_BYTES])
{
    uint64_t stake = 0;
    size_t bytes = 8 + CH_HASH_BYTES;
    uint32_t ids[CH_VALIDATORS_MAX], count = 0;
    for (uint16_t a = 0; a < core->n && stake < core->committee.validity_stake; a++) {
        const struct vote *v = vote_for(core, a, index);
        uint32_t id = v && memcmp(v->digest, digest, CH_HASH_BYTES) == 0 ? block_find(core, &v->block) : NONE;
        if (id == NONE || core->blocks[id].state == NAMED)
            continue;
        ids[count++] = id;
        bytes += 4 + (size_t)core->blocks[id].length;
        stake += core->committee.stake[a];
    }
    if (stake < core->committee.validity_stake || !core->started)
        return;
    uint8_t *record = out_room(core, bytes);
    if (!record)
        return;
    struct ch_writer w = ch_writer(record, bytes);
    ch_write64(&w, index);
    ch_write(&w, digest, CH_HASH_BYTES);
    for (uint32_t i = 0; i < count; i++)
        ch_message_item(&w, block_header(core, ids[i]), core->blocks[ids[i]].length);
    out_append(core, CH_RECORD_VOTE_CERT, (struct ch_bytes){record, w.used}, 0, 0);
    core->vote_cert_index = index;
}

void votes_tally(struct ch_core *core, const struct ch_block *block, const struct ch_ref *ref)
{
    for (unsigned i = 0; i < block->vote_count; i++) {
        const uint8_t *bytes = block->votes + (size_t)i * CH_BLOCK_VOTE_BYTES;
        const uint64_t index = ch_load64(bytes);
        struct vote *v = vote_place(core, block->author, index);
        if (index + core->votes_back <= core->last_commit.index || v->index >= index)
            continue; /* too old, or an author's second word on one commit */
        v->index = index;
        memcpy(v->digest, bytes + 8, CH_HASH_BYTES);
        v->block = *ref;
    }
}

/* Own blocks reach this before they are in the pool, so quorums are looked for at the end of the step. */
void votes_count(struct ch_core *core, const struct ch_block *block)
{
    for (unsigned i = 0; i < block->vote_count; i++) {
        const uint8_t *bytes = block->votes + (size_t)i * CH_BLOCK_VOTE_BYTES;
        const uint64_t index = ch_load64(bytes);
        if (index + core->votes_back <= core->last_commit.index)
            continue;
        const uint64_t stake = stake_for(core, index, bytes + 8);
        check_fork(core, index, bytes + 8, stake);
        if (stake >= core->committee.quorum_stake && index > core->quorum_index)
            core->quorum_index = index;
        if (stake >= core->committee.validity_stake && index >= core->vote_cert_index + core->config.vote_cert_every)
            keep_proof(core, index, bytes + 8);
    }
}

/* V1 for a commit just made: what others said about it before. */
void votes_own(struct ch_core *core, uint64_t index)
{
    for (uint16_t a = 0; a < core->n; a++) {
        const struct vote *v = vote_for(core, a, index);
        if (v)
            check_fork(core, index, v->digest, stake_for(core, index, v->digest));
    }
}

/* V2: the highest round that authors of V's stake are known to have reached. */
static uint32_t validity_round(const struct ch_core *core)
{
    uint32_t best = 0;
    for (uint16_t a = 0; a < core->n; a++) {
        uint64_t stake = 0;
        if (core->seen_round[a] <= best)
            continue;
        for (uint16_t b = 0; b < core->n; b++)
            if (core->seen_round[b] >= core->seen_round[a])
                stake += core->committee.stake[b];
        if (stake >= core->committee.validity_stake)
            best = core->seen_round[a];
    }
    return best;
}

void votes_lagging(struct ch_core *core)
{
    const uint32_t depth = core->gc_depth * 2 / 3, behind = depth < LAG_ROUNDS ? depth : LAG_ROUNDS;
    core->lagging = core->quorum_index > core->last_commit.index + core->config.lag_commits ||
                    validity_round(core) > core->quorum_round + behind;
}
