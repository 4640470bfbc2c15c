/* node/handles.h - the consensus machine's names for payloads, and where each one's bytes are.
 *
 * The machine names a payload until its block is far below the last commit; the bytes are needed only until the block
 * is delivered, and are in the log from its append on. So a name outlives the buffer. During a replay, bytes out of the
 * log are kept on the heap until they are delivered or released.
 * Thread: the order stage's. Memory: the table at open; replayed bytes at most what the machine holds undelivered.
 */
#ifndef CHAPPE_NODE_HANDLES_H
#define CHAPPE_NODE_HANDLES_H

#include "node/flow.h"

struct ch_handle {
    struct ch_payload *payload; /* the buffer, until delivered; NULL then */
    uint8_t *replayed;          /* or the bytes out of the log */
    uint64_t position;          /* of the first byte in the log, once appended */
    uint32_t length;
    bool own;     /* of a block of ours: its signatures were verified here */
    bool requeue; /* when released, its transactions are offered again */
    uint32_t next_free;
};

struct ch_handles {
    struct ch_handle *table;
    uint32_t count, free; /* free: index + 1 of the first free one, 0: none */
};

CH_MUST_CHECK ch_err ch_handles_open(struct ch_handles *handles, uint32_t count);
void ch_handles_close(struct ch_handles *handles);
/* A new name, never 0. The table holds all that a machine may name, so there is always one. */
uint64_t ch_handles_add(struct ch_handles *handles, const struct ch_handle *entry);
struct ch_handle *ch_handles_get(struct ch_handles *handles, uint64_t handle);
void ch_handles_remove(struct ch_handles *handles, uint64_t handle);

#endif
