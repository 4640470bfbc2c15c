/* What a new block says (6), and what happens once it is signed. */
#include "consensus/core_impl.h"

struct choice {
    uint32_t id[CH_VALIDATORS_MAX]; /* block chosen of each author, NONE */
    uint64_t parents;               /* stake at round - 1 */
};

/* 6.2a: among equivocating variants prefer one that votes for the leader that a quorum votes for. */
static bool votes_with_quorum(struct ch_core *core, uint32_t id, uint32_t round)
{
    for (uint32_t k = 0; k < core->committee.params.wait_ranks && k < core->ranks; k++) {
        const uint32_t leader = core->vote_of[(size_t)id * core->ranks + k];
        struct authors seen = {0};
        uint64_t stake = 0;
        for (uint16_t a = 0; leader != NONE && a < core->n; a++)
            for (uint32_t v = dag_first(core, round - 1, a); v != NONE; v = core->blocks[v].variant_next)
                if (core->vote_of[(size_t)v * core->ranks + k] == leader && authors_add(&seen, a))
                    stake += core->committee.stake[a];
        if (stake < core->committee.quorum_stake)
            return false;
    }
    return true;
}

/* The clean block of (r, author) to reference from `round`; NONE without. */
static uint32_t pick(struct ch_core *core, uint32_t r, uint16_t author, uint32_t round)
{
    uint32_t first = NONE, preferred = NONE, count = 0;
    for (uint32_t id = dag_first(core, r, author); id != NONE; id = core->blocks[id].variant_next) {
        const struct block *b = &core->blocks[id];
        if (b->state != ACCEPTED)
            continue;
        if (!block_referable(b)) {
            core->counters.unclean_left_out++;
            continue;
        }
        count++;
        if (first == NONE)
            first = id;
        if (r == round - 1 && preferred == NONE && count > 1 && votes_with_quorum(core, id, round))
            preferred = id;
    }
    if (count > 1 && preferred != NONE && !votes_with_quorum(core, first, round))
        return preferred;
    return first;
}

static void note_included(struct ch_core *core, uint32_t id, uint32_t *included)
{
    struct ch_block b;
    if (core->blocks[id].state == NAMED)
        return;
    block_view(core, id, &b);
    if (b.round > included[b.author])
        included[b.author] = b.round;
    for (unsigned i = 0; i < b.ancestor_count; i++) {
        struct ch_ref ref = ch_block_ancestor(&b, i);
        if (ref.round > included[ref.author])
            included[ref.author] = ref.round;
    }
}

static void choose_parents(struct ch_core *core, uint32_t round, struct choice *c, uint32_t *included)
{
    const uint16_t me = core->config.me;
    const uint32_t quorum = core->committee.quorum_stake;
    for (int exposed = 0; exposed < 2 && round > 1; exposed++) /* exposed authors only where S6 needs them */
        for (uint16_t a = 0; a < core->n; a++) {
            if (a == me || c->id[a] != NONE || authors_has(&core->exposed, a) != (exposed == 1))
                continue;
            if (exposed && c->parents >= quorum)
                break;
            c->id[a] = pick(core, round - 1, a, round);
            if (c->id[a] == NONE)
                continue;
            c->parents += core->committee.stake[a];
            note_included(core, c->id[a], included);
        }
}

static void choose_weak_links(struct ch_core *core, uint32_t round, struct choice *c, uint32_t *included)
{
    for (uint16_t a = 0; a < core->n; a++) {
        if (a == core->config.me || c->id[a] != NONE || authors_has(&core->exposed, a))
            continue;
        uint32_t top = core->last_round[a] < round ? core->last_round[a] : round - 1;
        for (uint32_t r = top; r > core->gc_round && r > included[a] && c->id[a] == NONE; r--)
            c->id[a] = pick(core, r, a, round);
        if (c->id[a] == NONE)
            continue;
        note_included(core, c->id[a], included);
        core->counters.weak_links++;
    }
}

static uint16_t gather_votes(struct ch_core *core, uint8_t *out)
{
    const uint64_t most = core->committee.params.max_votes;
    uint64_t from = core->voted_index + 1, count = 0;
    if (core->durable_index >= from && core->durable_index - from >= most)
        from = core->durable_index - most + 1;
    for (uint64_t i = from; i <= core->durable_index; i++) {
        const struct own_commit *own = &core->own_commits[i % core->own_commit_count];
        if (own->index != i)
            continue; /* from before a restart, not known any more */
        ch_store64(out + count * CH_BLOCK_VOTE_BYTES, i);
        memcpy(out + count * CH_BLOCK_VOTE_BYTES + 8, own->digest, CH_HASH_BYTES);
        count++;
    }
    return (uint16_t)count;
}

bool propose(struct ch_core *core, uint32_t round, bool payload)
{
    const uint16_t me = core->config.me;
    struct choice choice = {.parents = core->own_last.round == round - 1 ? core->committee.stake[me] : 0};
    uint32_t included[CH_VALIDATORS_MAX];
    struct ch_ref ancestors[CH_VALIDATORS_MAX];
    uint16_t count = 0;
    if (!blocks_left(core))
        return false;
    memcpy(included, core->included, sizeof included);
    for (uint16_t a = 0; a < core->n; a++)
        choice.id[a] = NONE;
    choose_parents(core, round, &choice, included);
    if (round == 1) { /* the genesis blocks */
        for (uint16_t a = 0; a < core->n; a++)
            if (a != me)
                choice.parents += core->committee.stake[a];
    } else {
        choose_weak_links(core, round, &choice, included);
    }
    if (choice.parents < core->committee.quorum_stake)
        return false; /* an unclean parent: what it misses is being fetched */
    ancestors[count++] = core->own_last;
    for (uint16_t a = 0; a < core->n; a++) {
        if (a == me)
            continue;
        if (round == 1)
            ancestors[count++] = ch_committee_genesis_ref(&core->committee, a);
        else if (choice.id[a] != NONE)
            ancestors[count++] = core->blocks[choice.id[a]].ref;
    }
    memcpy(core->included, included, sizeof included);
    struct ch_block_draft draft = {
        .epoch = core->committee.epoch,
        .round = round,
        .author = me,
        .ancestor_count = count,
        .timestamp_ms = core->now.unix_ms,
        .ancestors = ancestors,
        .votes = core->vote_bytes,
    };
    draft.vote_count = gather_votes(core, core->vote_bytes);
    memset(&core->draft_payload, 0, sizeof core->draft_payload);
    if (payload && core->stash.handle) {
        core->draft_payload = core->stash;
        memset(&core->stash, 0, sizeof core->stash);
        draft.payload_length = core->draft_payload.length;
        draft.payload_items = core->draft_payload.items;
        memcpy(draft.payload_root, core->draft_payload.root, CH_HASH_BYTES);
    }
    core->draft_length = ch_block_write(&draft, core->draft);
    struct ch_block b;
    ch_block_view(core->draft, core->draft_length, &b);
    ch_block_digest(&core->committee, &b, core->draft_digest);
    core->stage = SIGN_SIGNATURE;
    struct ch_core_action *action = out_push(core, CH_ACTION_SIGN);
    action->sign.domain = CH_DOMAIN_BLOCK_SIGNATURE;
    memcpy(action->sign.message, core->draft_digest, CH_HASH_BYTES);
    action->sign.length = CH_HASH_BYTES;
    return true;
}

void propose_payload(struct ch_core *core, const struct ch_core_event *event)
{
    if (core->stage != SIGN_PAYLOAD)
        return;
    core->stage = SIGN_IDLE;
    core->stash_refused = event->payload.length == 0;
    if (core->stash_refused)
        return;
    CH_ASSERT(event->payload.handle && event->payload.length <= core->committee.params.max_payload &&
              event->payload.items <= core->committee.params.max_items);
    core->stash.handle = event->payload.handle;
    core->stash.length = event->payload.length;
    core->stash.items = event->payload.items;
    memcpy(core->stash.root, event->payload.root, CH_HASH_BYTES);
}

void propose_signed(struct ch_core *core, const struct ch_core_event *event)
{
    if (core->stage != SIGN_SIGNATURE || memcmp(event->signature.message, core->draft_digest, CH_HASH_BYTES) != 0)
        return;
    core->stage = SIGN_IDLE;
    struct ch_block b;
    ch_block_view(core->draft, core->draft_length, &b);
    struct ch_ref ref = {.round = b.round, .author = b.author};
    memcpy(ref.digest, core->draft_digest, CH_HASH_BYTES);
    uint32_t id = b.round > core->gc_round && round_in_memory(core, b.round) ? block_new(core, &ref) : NONE;
    if (id == NONE) { /* overtaken while it was signed; it never leaves this node */
        if (core->draft_payload.handle && !core->stash.handle)
            core->stash = core->draft_payload;
        return;
    }
    struct block *x = &core->blocks[id];
    memcpy(core->draft + core->draft_length - CH_BLOCK_SIGNATURE_BYTES, event->signature.bytes,
           CH_BLOCK_SIGNATURE_BYTES);
    memcpy(block_header(core, id), core->draft, core->draft_length);
    memcpy(core->own_header, core->draft, core->draft_length);
    core->own_header_length = core->draft_length;
    x->length = core->draft_length;
    x->handle = core->draft_payload.handle;
    x->payload_length = b.payload_length;
    x->payload_items = b.payload_items;
    x->timestamp_ms = b.timestamp_ms;
    x->payload_here = true;
    x->sender = b.author;
    authors_add(&x->known, b.author);
    core->P = b.round;
    core->own_last = ref;
    core->has_signed = true;
    core->last_sign_us = core->now.mono_us;
    if (b.vote_count)
        core->voted_index = ch_load64(b.votes + (size_t)(b.vote_count - 1) * CH_BLOCK_VOTE_BYTES);
    x->lsn = out_append(core, CH_RECORD_OWN_BLOCK, (struct ch_bytes){block_header(core, id), x->length}, x->handle,
                        x->payload_length);
    core->own_last_lsn = x->lsn;
    core->sync_now = true;
    core->guard.epoch = core->committee.epoch;
    core->guard.round = b.round;
    memcpy(core->guard.digest, ref.digest, CH_HASH_BYTES);
    core->guard_changed = true;
    core->own_unsynced[(core->own_unsynced_head + core->own_unsynced_count++) % core->config.own_unsynced_max] =
        (struct own_unsynced){ref, x->lsn};
    core->counters.blocks_own++;
    votes_tally(core, &b, &ref);
    accept_own(core, id);
    votes_count(core, &b);
    sync_signed(core);
}
