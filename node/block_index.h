/* node/block_index.h - where blocks and commits lie in the log, for validators that ask for old ones.
 *
 * What:    the newest CH_INDEX_BLOCKS blocks and CH_INDEX_COMMITS commits by their names; older ones give way. After a
 *          restart it holds what was replayed.
 * Memory:  tables at open, 60 MiB, touched as they fill. Thread: the order stage's.
 */
#ifndef CHAPPE_NODE_BLOCK_INDEX_H
#define CHAPPE_NODE_BLOCK_INDEX_H

#include "wire/block.h"

#define CH_INDEX_BLOCKS  (1u << 20)
#define CH_INDEX_COMMITS (1u << 18)

struct ch_block_place {
    uint64_t position; /* of the header in the log; the payload follows it. 0: unknown */
    struct ch_ref ref;
    uint32_t header_length, payload_length;
};

struct ch_commit_place {
    uint64_t index;
    uint64_t position, proof_position; /* of the commit; of the headers of its VOTE_CERT, 0: it has none */
    uint32_t length, proof_length;
    uint16_t proof_count;
};

struct ch_block_index {
    uint16_t n;
    struct ch_block_place *blocks;
    struct ch_commit_place *commits;
};

CH_MUST_CHECK ch_err ch_block_index_open(struct ch_block_index *index, uint16_t n);
void ch_block_index_close(struct ch_block_index *index);

/* After the append of a record: BLOCK, OWN_BLOCK, COMMIT or VOTE_CERT; others are not looked at. `head` is a record's
 * body as far as it is at hand: of a block at least its header. */
void ch_block_index_note(struct ch_block_index *index, const struct ch_committee *committee, uint8_t type,
                         const uint8_t *head, size_t head_length, size_t payload_length, uint64_t position);

/* NULL: not known. */
const struct ch_block_place *ch_block_index_block(const struct ch_block_index *index, const struct ch_ref *ref);
const struct ch_commit_place *ch_block_index_commit(const struct ch_block_index *index, uint64_t commit_index);

#endif
