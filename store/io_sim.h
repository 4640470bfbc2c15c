/* store/io_sim.h - a simulated disk behind the seam: what was not synced may be lost, torn or reordered, and any one
 * call can be made to fail.
 *
 * What:    files in memory with two contents, what a reader sees and what is durable, and the writes in between.
 *          Requests end in a seeded random order. A sync makes durable the writes that had ended when it began, no
 *          other. Renames, creations and removals are durable from ch_io_sync_dir on; before, a prefix of them may
 *          survive.
 * Power:   ch_sim_disk_after_power_loss gives the disk as a power loss at this instant could leave it: of every
 *          unsynced write, also one in flight, any 512-byte sectors may have arrived. The disk itself goes on.
 * Thread:  one thread for a disk and everything opened on it.
 */
#ifndef CHAPPE_STORE_IO_SIM_H
#define CHAPPE_STORE_IO_SIM_H

#include "store/io.h"

struct ch_sim_disk;

CH_MUST_CHECK ch_err ch_sim_disk_open(uint64_t seed, struct ch_sim_disk **out);
/* Everything opened on it must be closed. NULL is nothing. */
void ch_sim_disk_close(struct ch_sim_disk *disk);
/* A queue on the disk; each stage has its own, as with the real one. */
CH_MUST_CHECK ch_err ch_sim_io_open(struct ch_sim_disk *disk, struct ch_io **out);

CH_MUST_CHECK ch_err ch_sim_disk_after_power_loss(const struct ch_sim_disk *disk, uint64_t seed,
                                                  struct ch_sim_disk **out);

/* Gives the disk as the next process finds it when this one was killed: it reads all writes that had ended and perhaps
 * those in flight, but they are no more durable than before. */
CH_MUST_CHECK ch_err ch_sim_disk_after_kill(const struct ch_sim_disk *disk, uint64_t seed, struct ch_sim_disk **out);

/* How many calls and requests there were. */
uint64_t ch_sim_disk_calls(const struct ch_sim_disk *disk);
/* Call number `call` (from 1; 0: none) fails with `err`: a write leaves any part of itself behind, after a failed sync
 * its writes never become durable (Linux marks the pages clean). */
void ch_sim_disk_fail_at(struct ch_sim_disk *disk, uint64_t call, ch_err err);
/* Files may grow to `bytes` together; beyond it is CH_ERR_NO_SPACE. No limit at first. */
void ch_sim_disk_set_capacity(struct ch_sim_disk *disk, uint64_t bytes);
/* These bytes of a file can't be read, until all of them are written: every such read is CH_ERR_IO. */
void ch_sim_disk_set_bad(struct ch_sim_disk *disk, const char *path, uint64_t offset, uint64_t length);
/* The bytes of a file as a reader sees them, to be damaged; NULL where there is no such file. */
uint8_t *ch_sim_disk_bytes(struct ch_sim_disk *disk, const char *path, size_t *length);

#endif
