#include "node/block_index.h"

#include "consensus/core.h"

#include <stdlib.h>

#define PROOF_OFFSET 40 /* of a VOTE_CERT: u64 index | 32 digest, then the headers */

ch_err ch_block_index_open(struct ch_block_index *x, uint16_t n)
{
    *x = (struct ch_block_index){
        .n = n,
        .blocks = calloc(CH_INDEX_BLOCKS, sizeof *x->blocks),
        .commits = calloc(CH_INDEX_COMMITS, sizeof *x->commits),
    };
    if (x->blocks && x->commits)
        return CH_OK;
    ch_block_index_close(x);
    return CH_ERR_NO_MEMORY;
}

void ch_block_index_close(struct ch_block_index *x)
{
    free(x->blocks);
    free(x->commits);
    *x = (struct ch_block_index){0};
}

/* Rounds follow one another, so the newest blocks have slots of their own. Of two variants the later one is kept. */
static struct ch_block_place *slot_of(const struct ch_block_index *x, const struct ch_ref *ref)
{
    return &x->blocks[((uint64_t)ref->round * x->n + ref->author) % CH_INDEX_BLOCKS];
}

static void note_block(struct ch_block_index *x, const struct ch_committee *committee, const uint8_t *head,
                       size_t length, size_t payload_length, uint64_t position)
{
    struct ch_block block;
    uint32_t header = ch_block_length(head, length);
    if (header == 0 || header > length)
        return;
    ch_block_view(head, header, &block);
    struct ch_ref ref = {.round = block.round, .author = block.author};
    if (block.author >= x->n)
        return;
    ch_block_digest(committee, &block, ref.digest);
    *slot_of(x, &ref) = (struct ch_block_place){
        .position = position,
        .ref = ref,
        .header_length = header,
        .payload_length = (uint32_t)payload_length,
    };
}

static void note_proof(struct ch_block_index *x, const uint8_t *body, size_t length, uint64_t position)
{
    struct ch_commit_place *place = &x->commits[ch_load64(body) % CH_INDEX_COMMITS];
    struct ch_reader r = ch_reader(body + PROOF_OFFSET, length - PROOF_OFFSET);
    uint16_t count = 0;
    if (place->index != ch_load64(body))
        return;
    for (; r.left && !r.bad; count++)
        (void)ch_read(&r, ch_read32(&r));
    if (r.bad)
        return;
    place->proof_position = position + PROOF_OFFSET;
    place->proof_length = (uint32_t)(length - PROOF_OFFSET);
    place->proof_count = count;
}

void ch_block_index_note(struct ch_block_index *x, const struct ch_committee *committee, uint8_t type,
                         const uint8_t *head, size_t length, size_t payload_length, uint64_t position)
{
    struct ch_commit commit;
    switch (type) {
    case CH_RECORD_BLOCK:
    case CH_RECORD_OWN_BLOCK:
        note_block(x, committee, head, length, payload_length, position);
        break;
    case CH_RECORD_COMMIT:
        if (ch_commit_parse(head, length, &commit))
            x->commits[commit.index % CH_INDEX_COMMITS] =
                (struct ch_commit_place){.index = commit.index, .position = position, .length = (uint32_t)length};
        break;
    case CH_RECORD_VOTE_CERT:
        if (length > PROOF_OFFSET)
            note_proof(x, head, length, position);
        break;
    }
}

const struct ch_block_place *ch_block_index_block(const struct ch_block_index *x, const struct ch_ref *ref)
{
    if (ref->author >= x->n)
        return NULL;
    const struct ch_block_place *place = slot_of(x, ref);
    return place->position && ch_ref_compare(&place->ref, ref) == 0 ? place : NULL;
}

const struct ch_commit_place *ch_block_index_commit(const struct ch_block_index *x, uint64_t commit_index)
{
    const struct ch_commit_place *place = &x->commits[commit_index % CH_INDEX_COMMITS];
    return commit_index && place->index == commit_index ? place : NULL;
}
