/* store/io.h - the one seam between the store and a disk: files, and an asynchronous queue of writes, reads and syncs.
 *
 * What:    blocking calls for what is rare (open, create, list, rename, ...), a queue for what is frequent. Behind it:
 *          io_uring with registered buffers and files (ch_io_uring_open), or a simulated disk that loses, tears and
 *          reorders what was not synced, and whose k-th call fails (store/io_sim.h).
 * Not:     no buffering, no retries. After a failed sync nobody knows what the disk holds: the caller gives up.
 * Thread:  the queue (submit, poll, wait) and every call that changes something belong to one owner thread.
 *          ch_io_open for reading, ch_io_read, ch_io_want, ch_io_size, ch_io_close_file and ch_io_free_bytes may come
 *          from any thread (with the simulated disk: from one thread, as all calls).
 * Which:   frames and batches are written, and blocks read, by the queue, from memory made by ch_io_memory and
 *          registered. Blocking are: what a start reads, slots and footers, and single small records, which ch_io_read
 *          fetches out of the page cache in less time than a turn of the queue takes (docs/decisions/0088).
 * Memory:  bytes given to a submit stay the caller's and must stay as they are until its completion was polled.
 * Limits:  CH_IO_PATH_BYTES_MAX, CH_IO_DEPTH_MAX requests in flight. Direct files: memory, offset and length are
 *          multiples of CH_IO_BLOCK_BYTES.
 * Errors:  CH_ERR_NO_SPACE (disk or quota full), CH_ERR_NOT_FOUND, CH_ERR_EXISTS, CH_ERR_DENIED, CH_ERR_BUSY,
 *          CH_ERR_NO_MEMORY; everything else is CH_ERR_IO. A short write is a failed write.
 */
#ifndef CHAPPE_STORE_IO_H
#define CHAPPE_STORE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CH_IO_BLOCK_BYTES    4096 /* a page, and no disk's block is larger */
#define CH_IO_PATH_BYTES_MAX 1024
#define CH_IO_DEPTH_MAX      64

struct ch_io;
struct ch_file;

enum ch_io_flags {
    CH_IO_READ = 0,        /* for reading alone, by the page cache, without read-ahead */
    CH_IO_WRITE = 1 << 0,  /* for reading and writing */
    CH_IO_CREATE = 1 << 1, /* with CH_IO_WRITE: must not exist yet */
    CH_IO_DIRECT = 1 << 2, /* past the page cache where the file system can (tmpfs can't), else by it */
};

/* Opens io_uring. CH_ERR_UNSUPPORTED where the kernel or a seccomp filter refuses it. */
CH_MUST_CHECK ch_err ch_io_uring_open(struct ch_io **out);
/* Another queue on the same disk, for another thread. Files opened by one queue belong to it. */
CH_MUST_CHECK ch_err ch_io_open_another(struct ch_io *io, struct ch_io **out);
/* All requests must have been polled, all files closed. NULL is nothing. */
void ch_io_close(struct ch_io *io);

/* A folder, mode 0700, also when it is there already. */
CH_MUST_CHECK ch_err ch_io_make_dir(struct ch_io *io, const char *path);
CH_MUST_CHECK ch_err ch_io_open(struct ch_io *io, const char *path, unsigned flags, struct ch_file **out);
/* Nothing of this file may be in flight. NULL is nothing. */
void ch_io_close_file(struct ch_io *io, struct ch_file *file);
CH_MUST_CHECK ch_err ch_io_size(struct ch_io *io, struct ch_file *file, uint64_t *bytes);
/* The file is `bytes` long and has its space on the disk: later writes inside it don't meet a full disk (except on
 * file systems that copy on write). What was beyond its end reads as zeros. */
CH_MUST_CHECK ch_err ch_io_allocate(struct ch_io *io, struct ch_file *file, uint64_t bytes);
/* Cuts the file to `bytes`. */
CH_MUST_CHECK ch_err ch_io_truncate(struct ch_io *io, struct ch_file *file, uint64_t bytes);
/* Reads up to `length` bytes; *got is less only at the end of the file. */
CH_MUST_CHECK ch_err ch_io_read(struct ch_io *io, struct ch_file *file, void *to, size_t length, uint64_t offset,
                                size_t *got);
/* These bytes of a file that is read by the page cache will be read soon: the disk begins with it. Never blocks. A
 * hint. */
void ch_io_want(struct ch_io *io, struct ch_file *file, size_t length, uint64_t offset);
CH_MUST_CHECK ch_err ch_io_write(struct ch_io *io, struct ch_file *file, const void *from, size_t length,
                                 uint64_t offset);
/* The file's bytes and size are durable (fdatasync). */
CH_MUST_CHECK ch_err ch_io_sync(struct ch_io *io, struct ch_file *file);
/* Takes the file's lock until it is closed; CH_ERR_BUSY where another process has it. */
CH_MUST_CHECK ch_err ch_io_lock(struct ch_io *io, struct ch_file *file);
/* Calls `each` for every plain file of the folder, in no order. */
CH_MUST_CHECK ch_err ch_io_list(struct ch_io *io, const char *dir, void (*each)(void *context, const char *name),
                                void *context);
/* Renames, replacing `to`; durable after ch_io_sync_dir. */
CH_MUST_CHECK ch_err ch_io_rename(struct ch_io *io, const char *from, const char *to);
CH_MUST_CHECK ch_err ch_io_unlink(struct ch_io *io, const char *path);
CH_MUST_CHECK ch_err ch_io_sync_dir(struct ch_io *io, const char *dir);
/* Bytes that this process may still fill on the file system of `dir`. */
CH_MUST_CHECK ch_err ch_io_free_bytes(struct ch_io *io, const char *dir, uint64_t *bytes);

/* Memory for requests: block-aligned, zeroed. More than 1 MiB is in huge pages of 2 MiB where the system has them, as a
 * disk moves a request of few pages faster: measured a third for writes of 512 KiB, twice for reads of 1 MiB. NULL:
 * none. */
void *ch_io_memory(size_t bytes);
/* Gives it back; `bytes` as it was asked for. NULL is nothing. */
void ch_io_memory_free(void *memory, size_t bytes);
/* memcpy to memory for requests, past the cache. What a disk (above all a virtual one) has read lies in another core's
 * cache: plain stores there were measured twenty times slower than these. So gather in ordinary memory and copy
 * once. */
void ch_io_copy(void *to, const void *from, size_t bytes);

/* Makes `memory` (block-aligned, at most 1 GiB) the fast place for requests: pinned once instead of for each request.
 * It takes the place of what was registered before; NULL before the memory is freed. A hint: where locked memory is
 * limited (RLIMIT_MEMLOCK) requests from it are merely slower. */
void ch_io_register(struct ch_io *io, void *memory, size_t bytes);

enum ch_io_kind { CH_IO_OP_READ, CH_IO_OP_WRITE, CH_IO_OP_SYNC };

struct ch_io_request {
    enum ch_io_kind kind;
    bool then_sync; /* CH_IO_OP_WRITE: the completion comes after a sync that began after the write (one linked pair) */
    struct ch_file *file;
    struct ch_file *after_sync_of; /* CH_IO_OP_WRITE: the write begins when a sync of this file, begun with the submit, has
                                      not failed; NULL: at once. One linked chain, one completion */
    void *data;
    uint32_t length;
    uint64_t offset;
    uint64_t cookie;
};

struct ch_io_done {
    uint64_t cookie;
    ch_err err;
};

/* Puts a request into flight. Requests end in any order. CH_ERR_FULL: CH_IO_DEPTH_MAX are in flight, and no change. */
CH_MUST_CHECK ch_err ch_io_submit(struct ch_io *io, const struct ch_io_request *request);
/* Takes up to `max` completions, never blocks; returns how many. A read that meets the end of the file is CH_ERR_IO. */
size_t ch_io_poll(struct ch_io *io, struct ch_io_done *done, size_t max);
/* Blocks until a completion can be polled; returns at once when nothing is in flight. */
CH_MUST_CHECK ch_err ch_io_wait(struct ch_io *io);
/* A descriptor that poll(2) finds readable while a completion waits, so that an idle stage can sleep; -1 for the
 * simulated disk. */
int ch_io_fd(const struct ch_io *io);

#endif
