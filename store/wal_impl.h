/* store/wal_impl.h - the log's insides: its frames, its state, and how it is found again after a restart. */
#ifndef CHAPPE_STORE_WAL_IMPL_H
#define CHAPPE_STORE_WAL_IMPL_H

#include <stdatomic.h>

#include "store/segments_impl.h"
#include "store/wal.h"

#define FRAME_HEADER_BYTES 64
#define FRAME_SLOTS        (CH_WAL_DEPTH + FRAMES_WAITING)
#define FRAMES_WAITING     2 /* complete when a place in flight becomes free: syncs often end together */
#define ZERO_BYTES         (1u << 20) /* what a new segment is filled with, at a time */

/* A frame's header as a value; wal_frame.c has the byte table. */
struct frame_header {
    uint32_t header_crc, records_crc;
    uint32_t length; /* header and records, without padding */
    uint32_t record_count;
    uint32_t previous_crc; /* the previous frame's header_crc */
    uint64_t generation;   /* raised at each open: frames of an abandoned tail never fit again */
    uint64_t lsn;          /* of the first record, or of the next one when there is none */
    uint64_t durable_lsn;  /* at the time of writing: a promise */
    uint64_t log_id;       /* drawn when the log was made */
    ch_wal_position position;
};

static inline uint32_t segment_of(ch_wal_position position)
{
    return (uint32_t)(position >> CH_WAL_SEGMENT_SHIFT);
}
static inline uint32_t offset_of(ch_wal_position position)
{
    return (uint32_t)position;
}
static inline ch_wal_position position_at(uint32_t segment, uint32_t offset)
{
    return (ch_wal_position)segment << CH_WAL_SEGMENT_SHIFT | offset;
}
/* A length filled up to whole blocks. */
static inline uint32_t blocks(uint32_t length)
{
    return (length + CH_IO_BLOCK_BYTES - 1) & ~(uint32_t)(CH_IO_BLOCK_BYTES - 1);
}

/* Completes the frame of `length` bytes whose records lie at `frame` + FRAME_HEADER_BYTES: fills in both crcs of
 * `header`, writes it, and zeroes the padding. */
void ch_wal_frame_seal(uint8_t *frame, struct frame_header *header);
/* Reads a header of FRAME_HEADER_BYTES; false when it isn't one or its own crc says no. */
bool ch_wal_frame_parse(const uint8_t *frame, struct frame_header *header);
/* True when the records that follow a parsed header are the ones that were written: crc, count and lengths fit. */
bool ch_wal_frame_whole(const uint8_t *frame, const struct frame_header *header);
/* The record at `offset` in a whole frame; gives the offset of the next one. */
uint32_t ch_wal_frame_record(const uint8_t *frame, uint32_t offset, uint8_t *type, struct ch_bytes *body);

/* An open segment, held by the log while it is the current one and by each frame in flight. */
struct segment {
    struct ch_file *file;
    unsigned holders;
};

enum frame_state { FRAME_FREE, FRAME_WAITING, FRAME_FLYING, FRAME_DURABLE };

struct frame {
    uint8_t *memory;
    uint32_t used; /* 0: nothing in it and no place yet */
    uint32_t record_count;
    uint64_t lsn;
    ch_wal_position position;
    struct segment *segment; /* once it is complete */
    enum frame_state state;
};

enum prepare_state { PREPARE_NONE, PREPARE_WRITING, PREPARE_SYNCING, PREPARE_NO_SPACE };

struct ch_wal {
    struct ch_io *io;
    char dir[CH_IO_PATH_BYTES_MAX - 32];
    struct ch_file *lock;
    uint32_t segment_bytes, frame_bytes_max;
    uint64_t log_id, generation;
    ch_err failed; /* sticky */

    /* Records gather in `filling`, whose memory is this thread's alone. A complete frame is copied to memory that the
     * disk reads: number modulo FRAME_SLOTS is the slot, [oldest, flying) fly, [flying, next) wait. */
    struct frame filling;
    struct frame frame[FRAME_SLOTS];
    uint64_t oldest, flying, next;
    unsigned flights; /* requests in flight, the preparation's included */
    bool flush_wanted;
    uint8_t *memory, *zeros; /* one piece: the slots', then ZERO_BYTES of zeros */
    size_t memory_bytes;

    struct segment *current;
    uint32_t current_number, last_number; /* last: the last one that is ready */
    uint32_t offset;                      /* where the filling frame begins, or will */
    uint32_t previous_crc; /* of the last complete frame */
    uint64_t next_lsn, durable_lsn;
    uint32_t durable_segment; /* of the last durable frame: never cut */

    enum prepare_state prepare;
    struct ch_file *prepare_file;
    uint32_t prepare_offset;

    /* Written by the owner, read by readers. */
    _Alignas(64) _Atomic uint32_t first_number;
    _Atomic ch_wal_position durable_end;
};

/* The path of a segment, or of another file of the log when `number` is 0. */
void ch_wal_path(const struct ch_wal *wal, uint32_t number, const char *name, char path[CH_IO_PATH_BYTES_MAX]);
/* Enters segment `number` at `offset`. */
ch_err ch_wal_enter(struct ch_wal *wal, uint32_t number, uint32_t offset);
/* A further segment of zeros, durable, at last_number + 1; blocks (start only). */
ch_err ch_wal_add_segment(struct ch_wal *wal);
/* Finds the log's segments and end, replays, and leaves `wal` ready for the opening frame. */
ch_err ch_wal_recover(struct ch_wal *wal, const struct ch_wal_options *options);

#endif
