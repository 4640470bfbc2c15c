/* store/wal.h - an append-only log whose records survive power loss.
 *
 * What:    appends records in order, says up to which one they are durable, replays them after a restart, and gives
 *          their bytes by position to other threads. One folder of segments of one size, written before their use and
 *          used again after they were cut (twice the speed of a file that grows).
 * Not:     no index, no meaning of a record (that is store/state.h and the caller).
 * Thread:  one owner for everything but ch_wal_reader, of which each reading thread has one of its own.
 * Memory:  ch_wal_open takes about (CH_WAL_DEPTH + 3) * frame_bytes_max; append copies the record there, so the
 *          caller's bytes are free again at once.
 * Durable: a record is durable when its frame and every earlier one are. Frames wait for each other's records (group
 *          commit): what is flushed while CH_WAL_FLUSH_DEPTH are in flight gathers in the next one.
 * Failure: after CH_ERR_IO, CH_ERR_NO_SPACE from ch_wal_poll or ch_wal_flush the log takes nothing more: the caller
 *          ends the process (what the disk holds is unknown) and opens the log anew. A full disk is seen before, by
 *          ch_wal_append, which refuses with CH_ERR_NO_SPACE and goes on when there is room.
 */
#ifndef CHAPPE_STORE_WAL_H
#define CHAPPE_STORE_WAL_H

#include "base/bytes.h"
#include "base/error.h"
#include "store/io.h"

#define CH_WAL_DEPTH               4 /* frames in flight; measured best on a virtual disk */
#define CH_WAL_FLUSH_DEPTH         2 /* of them, frames that left before they were large: more make each sync slower */
#define CH_WAL_SEGMENT_BYTES       (256u << 20)
#define CH_WAL_SEGMENT_BYTES_SMALL (4u << 20) /* tests and devnets */
#define CH_WAL_FRAME_BYTES_MAX     (2u << 20)
#define CH_WAL_RECORD_HEADER_BYTES 5 /* u32 length, u8 type */
#define CH_WAL_SPARE_MAX           2 /* segments kept for later use when the log is cut; the rest is given back */

struct ch_wal;
struct ch_wal_reader;

/* Where bytes lie: segment number << 32 | offset in the segment. The position of any byte of a record's body is the
 * body's position plus its distance, as no record crosses a segment. Positions grow with the log. */
typedef uint64_t ch_wal_position;
#define CH_WAL_SEGMENT_SHIFT 32
#define CH_WAL_BEGINNING     ((ch_wal_position)1 << CH_WAL_SEGMENT_SHIFT) /* where a log begins that was never cut */

struct ch_wal_record {
    uint64_t lsn;             /* 1, 2, 3, ... over all of the log's life; larger by more than one only after damage */
    ch_wal_position position; /* of the body */
    uint8_t type;
    const uint8_t *body;
    size_t length;
};

struct ch_wal_options {
    uint32_t segment_bytes;      /* multiple of 4096; 0: CH_WAL_SEGMENT_BYTES. A log keeps the size it was made with */
    uint32_t frame_bytes_max;    /* multiple of 4096, at most segment_bytes; 0: CH_WAL_FRAME_BYTES_MAX */
    ch_wal_position replay_from; /* segments before this one's are not replayed, nor read; 0: all there are */
    bool accept_damage;          /* open although promised records are lost, from the first lost one on (--rejoin) */
    /* Called for each record in order. Another result than CH_OK ends ch_wal_open with it. NULL: none. The bytes are
     * valid during the call. */
    ch_err (*replay)(void *context, const struct ch_wal_record *record);
    void *context;
};

/* Makes an empty log in `dir` (created; its parent exists) of two segments. CH_ERR_EXISTS where there is a log. */
CH_MUST_CHECK ch_err ch_wal_create(struct ch_io *io, const char *dir, const struct ch_wal_options *options);

/* Opens and replays. CH_ERR_NOT_FOUND: no log here. CH_ERR_BUSY: another process has it. CH_ERR_LOG_DAMAGED: records
 * that were promised durable are lost or unreadable: sign nothing, see docs/consensus.md 11. A damaged tail that was
 * never promised is cut off silently. CH_ERR_INVALID: options. `io` must outlive the log and is its alone. */
CH_MUST_CHECK ch_err ch_wal_open(struct ch_io *io, const char *dir, const struct ch_wal_options *options,
                                 struct ch_wal **out);
/* Waits for what is in flight; records not flushed are lost. All readers must be closed. NULL is nothing. */
void ch_wal_close(struct ch_wal *wal);

/* Appends one record: `type` and the `count` parts in order, together at most frame_bytes_max - 128 bytes.
 * Gives its lsn and the position of its body. It is written with the next flush, or when enough has gathered.
 * CH_ERR_FULL: all frames are in flight, or the next segment isn't ready: poll, then try again.
 * CH_ERR_NO_SPACE: the segment is full and there is no room for another; polling goes on trying. */
CH_MUST_CHECK ch_err ch_wal_append(struct ch_wal *wal, uint8_t type, const struct ch_bytes *parts, size_t count,
                                   uint64_t *lsn, ch_wal_position *position);
/* What was appended goes to the disk now, or as soon as fewer than CH_WAL_FLUSH_DEPTH frames are in flight. Never
 * blocks. */
CH_MUST_CHECK ch_err ch_wal_flush(struct ch_wal *wal);
/* Takes completions, starts what waits, prepares the next segment. Never blocks longer than a rename. */
CH_MUST_CHECK ch_err ch_wal_poll(struct ch_wal *wal);
/* True while the caller must poll for things to go on: something is in flight or waits (ch_io_fd wakes then). */
bool ch_wal_busy(const struct ch_wal *wal);
/* Flushes and waits until everything appended is durable. For start, stop and tests. */
CH_MUST_CHECK ch_err ch_wal_settle(struct ch_wal *wal);

/* The lsn of the last record appended, and of the last that is durable with all before it; 0: none yet. */
uint64_t ch_wal_appended_lsn(const struct ch_wal *wal);
uint64_t ch_wal_durable_lsn(const struct ch_wal *wal);
/* The first position that the log still has, and the end of what is durable. */
ch_wal_position ch_wal_first(const struct ch_wal *wal);
ch_wal_position ch_wal_durable_end(const struct ch_wal *wal);
/* Bytes of all segments on the disk. */
uint64_t ch_wal_disk_bytes(const struct ch_wal *wal);

/* Gives up every whole segment below `position`: its records are gone for readers at once. */
CH_MUST_CHECK ch_err ch_wal_cut_below(struct ch_wal *wal, ch_wal_position position);

/* A reader for one other thread. */
CH_MUST_CHECK ch_err ch_wal_reader_open(struct ch_wal *wal, struct ch_wal_reader **out);
void ch_wal_reader_close(struct ch_wal_reader *reader);
/* Bytes at `position` will be read soon: of many that are wanted first and then read, the disk fetches one beside the
 * other. (What was appended went past the page cache: its first reader finds it on the disk.) A hint, for any
 * position. */
void ch_wal_want(struct ch_wal_reader *reader, ch_wal_position position, size_t length);
/* Copies `length` durable bytes at `position` (inside one body). CH_ERR_NOT_FOUND: cut. CH_ERR_AGAIN: not durable yet.
 * The bytes are not checked: the disk may have changed them, so the caller compares a hash or signature. */
CH_MUST_CHECK ch_err ch_wal_read(struct ch_wal_reader *reader, ch_wal_position position, void *to, size_t length);

#endif
