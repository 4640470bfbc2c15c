/* tests/store/lmdb_calls.h - the writes and syncs that LMDB itself makes, as a simulated disk sees them.
 *
 * The linker hands LMDB's pwrite, writev and fdatasync to us (its static library, --wrap). A call on a mirrored file is
 * done on the simulated disk first, which may fail it, then on the real file, which LMDB has mapped into memory.
 * What the store writes to that file through the seam goes to both, too.
 */
#ifndef CHAPPE_TESTS_STORE_LMDB_CALLS_H
#define CHAPPE_TESTS_STORE_LMDB_CALLS_H

#include "store/io_sim.h"

/* Makes `path` of the present folder a real file with the bytes of the simulated one, both where there is neither, and
 * mirrors it. The io's own open of that path, and its writes, are watched. One io has one mirror. `path` NULL: only the
 * moments of the io are told. */
void lmdb_mirror(struct ch_sim_disk *disk, struct ch_io *io, const char *path);
/* Before the io is closed. */
void lmdb_mirror_end(struct ch_io *io);

/* Called at every call on a mirrored io and of LMDB on its file: a moment in which the power may fail. */
extern void (*lmdb_moment)(void);
/* Transactions begin with room for so many dirty pages, so that LMDB spills; 0: with LMDB's own. */
extern uint32_t lmdb_dirty_room;
/* How many writes there were, and of them before the transaction's commit (spills). */
extern uint64_t lmdb_writes, lmdb_spills;

#endif
