/* node/block_index.h - where blocks and commits lie in the log, for validators that ask for old ones.
 *
 * What:    every block and commit that the log has, by name, in files of fixed slots in DIR/index: of a block by round
 *          and author, of a commit by its index. What a restart does not replay is there from before.
 * Not:     not durable: written by the page cache, so that a power loss may take what is younger than half a minute;
 *          the replay of a restart notes that again (it reaches back over the ledger's window). Nor trusted: a slot
 *          names its block's digest, and one that points behind the end that the log had at the start counts for
 *          nothing.
 * Memory:  none that grows. Disk: 40 bytes a block and a commit, given back as the log is cut.
 * Thread:  the order stage's. Calls are short reads and writes in the page cache; one of an old page may wait for the
 *          disk.
 * Errors:  after the open, a slot that can't be written or read is as if the log did not have the block: another
 *          validator is asked for it.
 */
#ifndef CHAPPE_NODE_BLOCK_INDEX_H
#define CHAPPE_NODE_BLOCK_INDEX_H

#include "wire/block.h"

struct ch_block_place {
    uint64_t position; /* of the header in the log; the payload follows it */
    uint32_t header_length, payload_length;
};

struct ch_commit_place {
    uint64_t index;
    uint64_t position, proof_position; /* of the commit; of the headers of its VOTE_CERT, 0: it has none */
    uint32_t length, proof_length;
    uint16_t proof_count;
};

struct ch_block_index;

/* `folder`: the validator's. `anew`: the log was made anew, and what the index says of the one before is thrown
 * away. */
CH_MUST_CHECK ch_err ch_block_index_open(const char *folder, uint16_t n, bool anew, struct ch_block_index **out);
void ch_block_index_close(struct ch_block_index *index);

/* After the append of a record: BLOCK, OWN_BLOCK, COMMIT or VOTE_CERT; others are not looked at. `head` is a record's
 * body as far as it is at hand: of a block at least its header. */
void ch_block_index_note(struct ch_block_index *index, const struct ch_committee *committee, uint8_t type,
                         const uint8_t *head, size_t head_length, size_t payload_length, uint64_t position);
/* The log is open and what it replays was noted; further appends lie at `end` and behind. */
void ch_block_index_opened(struct ch_block_index *index, uint64_t end);
/* The log begins at `first` now. */
void ch_block_index_cut(struct ch_block_index *index, uint64_t first);

/* False: not known. */
CH_MUST_CHECK bool ch_block_index_block(struct ch_block_index *index, const struct ch_ref *ref,
                                        struct ch_block_place *out);
CH_MUST_CHECK bool ch_block_index_commit(struct ch_block_index *index, uint64_t commit_index,
                                         struct ch_commit_place *out);

#endif
