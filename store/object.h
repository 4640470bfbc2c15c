/* store/object.h - blocks of objects by their CID: encrypted on the disk, durable before "stored" is said.
 *
 * What:    appends blocks to segments, each under a key of its own; gives a block, or whether all of a tree is there,
 *          to other threads; drops blocks; moves what is alive out of half-dead segments and destroys those with their
 *          keys.
 * Not:     no spreading over validators, no quotas, no knowledge of who needs a block (the caller drops).
 * Thread:  one owner; any number of ch_object_reader, each one thread's. They share the index under a lock that the
 *          owner takes for the time of a table entry, or of a 256th of the table; none reads the disk under it.
 * Memory:  about 14 MiB of buffers; of index 28 to 35 bytes for each of the newest blocks (about a million at most, and
 *          those expired or found damaged lately), 1.8 to 2 for each older one, whose places lie in runs on the disk.
 * Durable: a put is durable when its cookie comes out of ch_object_poll. Puts gather while earlier ones are in flight,
 *          so that many share one sync. What is not durable no reader sees.
 * Secrecy: content is encrypted with AES-256-GCM (libipsec-mb) or XChaCha20-Poly1305 (libsodium), named in each
 *          segment; CIDs and lengths are not. A destroyed segment's salt is overwritten: without it the master key
 *          opens nothing.
 * Bad sectors: what the disk does not give counts as what it changed: a block is to be put again, a footer or the index
 * is
 *          made again.
 * Failure: after another error than those named at a call, the store takes nothing more: the caller ends the process.
 */
#ifndef CHAPPE_STORE_OBJECT_H
#define CHAPPE_STORE_OBJECT_H

#include "base/bytes.h"
#include "base/error.h"
#include "store/io.h"
#include "wire/cid.h"

#define CH_OBJECT_KEY_BYTES     32
#define CH_OBJECT_SEGMENT_BYTES (1u << 30)
#define CH_OBJECT_BATCH_BYTES   ((2u << 20) + 4096) /* two largest blocks; four batches in flight */
#define CH_OBJECT_RUN_PLACES    (1u << 19) /* 15 MiB of memory until then */
#define CH_OBJECT_TREE_NODES    1100 /* nodes of a tree of 1 TiB: what ch_object_has_tree reads at most */
#define CH_OBJECT_DAMAGED_MAX   256  /* damaged blocks remembered until they are asked for */

/* Records that aren't blocks: kept under a name that their bytes don't follow from, in one of a few kinds. A name is
 * put, got and dropped like a CID; the first bytes put under it stay until it is dropped. */
#define CH_OBJECT_NAME_KINDS 8

struct ch_object_store;
struct ch_object_reader;

/* Whose a block is and since when: kept with it, for quotas and age. All zero: nobody's, and of no age. */
struct ch_object_tag {
    uint64_t owner;
    uint64_t put_ms;
    uint32_t charge_bytes; /* what it counts against its owner's quota, where that isn't its length; else 0 */
};
/* The name of kind 1..CH_OBJECT_NAME_KINDS for a hash. No block can be made whose CID would take its place. */
void ch_object_name(unsigned kind, const uint8_t hash[32], struct ch_cid *name);

enum ch_object_cipher { CH_OBJECT_CIPHER_AUTO, CH_OBJECT_AES_256_GCM, CH_OBJECT_XCHACHA20_POLY1305 };

struct ch_object_options {
    const uint8_t *master_key;    /* CH_OBJECT_KEY_BYTES; copied, wiped at close */
    uint32_t segment_bytes;       /* for new segments, multiple of 4096; 0: CH_OBJECT_SEGMENT_BYTES */
    uint32_t batch_bytes;         /* multiple of 4096, at most a quarter of a segment; 0: CH_OBJECT_BATCH_BYTES */
    uint64_t low_water_bytes;     /* the disk keeps so much free: no new segment below it */
    uint64_t again_after_ns;      /* until what the storage did not take is written again; 0: with the next poll */
    uint32_t run_bytes_max;       /* of the file of a merged run; 0: no limit. A pool has one */
    uint32_t run_places;          /* records in sealed segments that make a run; 0: CH_OBJECT_RUN_PLACES */
    enum ch_object_cipher cipher; /* for new segments. AUTO: AES where the CPU has it */
};

/* Opens `dir` (created; its parent exists), goes through the index (24 bytes a block, in sequence), makes again what is
 * missing of it, finishes what a crash left unfinished. CH_ERR_BUSY:
 * another process has it. CH_ERR_BAD_PASSPHRASE: segments are there and `master_key` isn't theirs. CH_ERR_UNSUPPORTED:
 * AES is asked for, or used by a segment, and the CPU has none. `io` must outlive the store and is its alone. */
CH_MUST_CHECK ch_err ch_object_open(struct ch_io *io, const char *dir, const struct ch_object_options *options,
                                    struct ch_object_store **out);
/* Waits for what is in flight; puts not flushed are lost. All readers must be closed. NULL is nothing. */
void ch_object_close(struct ch_object_store *store);

/* Takes a block whose CID was checked, in whatever thread has time for that: the owner hashes nothing. (Copied:
 * encrypted into the batch.) CH_OK: `cookie` will come out of ch_object_poll. CH_ERR_EXISTS: it is stored and durable
 * already; no cookie. CH_ERR_INVALID: more than CH_BLOCK_BYTES_MAX, or than a batch holds. CH_ERR_FULL: poll, then try
 * again. CH_ERR_NO_SPACE: the low-water mark is reached; works again when there is room. CH_ERR_TIMEOUT: the storage
 * does not answer; works again when it does. A block that was found damaged is repaired by putting it again: until that
 * is durable it is not there. */
CH_MUST_CHECK ch_err ch_object_put_for(struct ch_object_store *store, const struct ch_cid_block *block,
                                       const struct ch_object_tag *tag, uint64_t cookie);
/* The same for a record under a name. `reserved`: also below the low-water mark, for the few small records that
 * something already promised depends on. */
CH_MUST_CHECK ch_err ch_object_put_record(struct ch_object_store *store, const struct ch_cid *name, const void *bytes,
                                          size_t length, const struct ch_object_tag *tag, bool reserved,
                                          uint64_t cookie);
/* Either of them, nobody's; a block is hashed here, by the owner. CH_ERR_INVALID, too: the bytes aren't those that the
 * CID names. */
CH_MUST_CHECK ch_err ch_object_put(struct ch_object_store *store, const struct ch_cid *cid, const void *block,
                                   size_t length, uint64_t cookie);
/* Forgets a block, at once for readers; durable with the cookie. CH_ERR_NOT_FOUND, CH_ERR_FULL, CH_ERR_NO_SPACE,
 * CH_ERR_TIMEOUT as above. */
CH_MUST_CHECK ch_err ch_object_drop(struct ch_object_store *store, const struct ch_cid *cid, uint64_t cookie);
/* A block that is withheld counts as not there for ch_object_length and ch_object_has_tree, but can be got, and a put
 * writes it again. Not over a restart; ended by compaction. */
void ch_object_withhold(struct ch_object_store *store, const struct ch_cid *cid, bool withhold);
/* What was taken goes to the disk now, or as soon as fewer than four batches are in flight. Never blocks. */
CH_MUST_CHECK ch_err ch_object_flush(struct ch_object_store *store);
/* Gives up to `max` cookies of what became durable; *count how many. Seals a segment that is full (blocks for the time
 * of writing its footer), and does a step of what the index needs: writing or merging runs, making a damaged one
 * again. */
CH_MUST_CHECK ch_err ch_object_poll(struct ch_object_store *store, uint64_t *cookies, size_t max, size_t *count);
/* While the storage takes nothing (full, or it does not answer) what it was given is written again and again, and
 * nothing more is taken. Who doesn't want to wait so long gets the cookies back, those that `which` says true to: they
 * will not come out of ch_object_poll; their blocks may be stored all the same. *why: CH_ERR_NO_SPACE, CH_ERR_TIMEOUT,
 * or CH_OK when it takes what it gets, and there are none. */
size_t ch_object_give_up(struct ch_object_store *store, bool (*which)(uint64_t cookie), uint64_t *cookies, size_t max,
                         ch_err *why);
/* True while the caller must poll for things to go on. */
bool ch_object_busy(const struct ch_object_store *store);

/* Moves up to about `bytes_max` bytes of live blocks, *moved how many, out of the segment that has most to gain, and
 * destroys it when all of it has moved (blocks for its reads). Call it as often as the rate allows, with polls in
 * between. CH_ERR_NOT_FOUND: no segment is half dead. CH_ERR_NO_SPACE: nowhere to move to, CH_ERR_TIMEOUT: the
 * storage does not answer; later again.
 * A damaged footer that it or a scrubber meets is made again from the records (blocks for reading the segment).
 * CH_ERR_CORRUPT: it could not be; that segment is left alone from then on. */
CH_MUST_CHECK ch_err ch_object_compact(struct ch_object_store *store, uint64_t bytes_max, uint64_t *moved);

/* Forgets blocks with an age before `before_ms`, those of one sealed segment, and tells of each; compaction then
 * destroys the segment with its key. A segment that is being filled is sealed first when it has such blocks. After a
 * crash some may be there again until the next call. CH_ERR_NOT_FOUND: there are none. CH_ERR_CORRUPT: as for
 * ch_object_compact; nothing of that segment was forgotten. */
CH_MUST_CHECK ch_err ch_object_expire(struct ch_object_store *store, uint64_t before_ms,
                                      void (*gone)(void *context, const struct ch_object_tag *tag, size_t length),
                                      void *context);
/* Calls `each` for every block stored, in no order. Reads every footer and, for each 8 million records, the index: for
 * the start. CH_ERR_TIMEOUT: the disk has changed the index, and it is being made again. */
CH_MUST_CHECK ch_err ch_object_each(struct ch_object_store *store,
                                    void (*each)(void *context, const struct ch_cid *cid,
                                                 const struct ch_object_tag *tag, size_t length),
                                    void *context);
/* The hashes of up to `max` names of a kind that are stored, in the order of the disk from *cursor on (0: all), *count
 * how many; moves the cursor behind them. *end: there are no more now; what comes later lies behind the cursor, what is
 * moved by compaction too (and is given again). The owner's; reads the index of each sealed segment that it enters. */
CH_MUST_CHECK ch_err ch_object_list(struct ch_object_store *store, unsigned kind, uint64_t *cursor,
                                    uint8_t (*hashes)[32], size_t max, size_t *count, bool *end);

struct ch_object_stats {
    uint64_t blocks, live_bytes, disk_bytes, segments, index_bytes;
    uint64_t segments_damaged; /* unreadable header: their blocks are missing, the files are left alone */
    uint64_t footers_rebuilt;  /* index of a segment read anew from its records */
    uint64_t runs, runs_made, runs_merged; /* of the index: there are, were written, became part of larger ones */
    uint64_t runs_remade;      /* as the disk had changed them */
    uint64_t segments_destroyed;
    uint64_t blocks_lost; /* found damaged by compaction, or with the footer of their segment, and given up here */
    ch_err refusing;      /* as ch_object_give_up tells */
};
void ch_object_stats(const struct ch_object_store *store, struct ch_object_stats *stats);

/* Up to `max` blocks that any reader or compaction found damaged since the last call; at most the newest
 * CH_OBJECT_DAMAGED_MAX. They are to be put again. Zeros: one that nobody can name any more. Any thread. */
size_t ch_object_damaged(struct ch_object_store *store, struct ch_cid *cids, size_t max);

CH_MUST_CHECK ch_err ch_object_reader_open(struct ch_object_store *store, struct ch_object_reader **out);
void ch_object_reader_close(struct ch_object_reader *reader);
/* Copies the block's bytes to `to` (CH_BLOCK_BYTES_MAX hold any), decrypted and checked against the CID.
 * CH_ERR_NOT_FOUND. CH_ERR_CORRUPT: the disk changed it, or does not give it; the others have it. CH_ERR_FULL:
 * `capacity` is too small. CH_ERR_TIMEOUT: the storage does not answer, or the disk has changed the part of the index
 * that would tell, and it is being made again; so for all that look a block up, the owner's too. */
CH_MUST_CHECK ch_err ch_object_get(struct ch_object_reader *reader, const struct ch_cid *cid, void *to, size_t capacity,
                                   size_t *length);
/* The same, and whose the block is. */
CH_MUST_CHECK ch_err ch_object_get_tagged(struct ch_object_reader *reader, const struct ch_cid *cid, void *to,
                                          size_t capacity, size_t *length, struct ch_object_tag *tag);
/* The block's length, without reading it. CH_ERR_NOT_FOUND, also where it was found damaged: it is to be put again. */
CH_MUST_CHECK ch_err ch_object_length(struct ch_object_reader *reader, const struct ch_cid *cid, size_t *length);
/* Whose the block is, and its length. CH_ERR_NOT_FOUND, CH_ERR_CORRUPT as above. */
CH_MUST_CHECK ch_err ch_object_tag(struct ch_object_reader *reader, const struct ch_cid *cid, struct ch_object_tag *tag,
                                   size_t *length);
/* Counts what the store dropped, gave up or found damaged: as long as it stays the same nothing has gone. Any
 * thread. */
uint64_t ch_object_losses(const struct ch_object_reader *reader);
/* CH_OK when every block of the tree under `root` is there, CH_ERR_NOT_FOUND when one is missing; *file_bytes is the
 * file's length. Reads the nodes, not the leaves, and not those again that were whole, as for walk_tree below.
 * CH_ERR_INVALID: a node isn't one of a UnixFS file, lengths don't agree, or the tree has more than
 * CH_OBJECT_TREE_NODES nodes. CH_ERR_CORRUPT as above. */
CH_MUST_CHECK ch_err ch_object_has_tree(struct ch_object_reader *reader, const struct ch_cid *root,
                                        uint64_t *file_bytes);
/* Calls `each` for the blocks of the tree under `root`, it too, leaves also where they are not there; not again for
 * those of a subtree that was whole when this reader told them, while nothing was dropped, lost or found damaged since.
 * Results as above. */
CH_MUST_CHECK ch_err ch_object_walk_tree(struct ch_object_reader *reader, const struct ch_cid *root,
                                         void (*each)(void *context, const struct ch_cid *cid), void *context);

/* Reads up to about `bytes_max` bytes of sealed segments from the disk itself, going on where the last call of this
 * reader ended, and calls `damaged` for each block that is no longer what it was: to be put again. *passed:
 * all were gone through, and the index, the next call begins anew; *read how many bytes. The caller sets the rate.
 * CH_ERR_CORRUPT: a segment's footer is damaged (ch_object_compact makes it again); the next call goes on behind that
 * segment. */
CH_MUST_CHECK ch_err ch_object_scrub(struct ch_object_reader *reader, uint64_t bytes_max,
                                     void (*damaged)(void *context, const struct ch_cid *cid), void *context,
                                     uint64_t *read, bool *passed);

#endif
