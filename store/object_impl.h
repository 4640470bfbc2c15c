/* store/object_impl.h - the object store's insides: bytes, keys, index, segments. */
#ifndef CHAPPE_STORE_OBJECT_IMPL_H
#define CHAPPE_STORE_OBJECT_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/object.h"
#include "store/segments_impl.h"

#define SLOT_BYTES          CH_IO_BLOCK_BYTES /* a segment begins with two header slots */
#define DATA_START          (2 * SLOT_BYTES)
#define SALT_BYTES          32
#define RECORD_HEADER_BYTES 96
#define TAG_BYTES           16
#define UNIT_BYTES          64 /* records begin at multiples */
#define ENTRY_BYTES         64 /* of a footer */
#define BATCH_DEPTH         4
#define BATCH_SLOTS         (BATCH_DEPTH + 1)
#define BATCH_RECORDS_MAX   4096
#define NUMBERS_TRIED       8 /* for a new file, where one is there already */
#define SEGMENT_RECORDS_MAX (1u << 19) /* about: one of small records is sealed before it is full */

/* What a pool refuses now, but may be asked again: it has no cache that could forget what it was given. (A full disk
 * has: a failed sync loses what others wrote.) */
static inline bool object_passes(ch_err err)
{
    return err == CH_ERR_TIMEOUT || err == CH_ERR_POOL_FULL;
}
static inline ch_err object_refusal(ch_err err)
{
    return err == CH_ERR_POOL_FULL ? CH_ERR_NO_SPACE : err;
}

/* Of the files beneath: no answer to who puts or drops a block. */
static inline ch_err object_failure(ch_err err)
{
    return err == CH_ERR_EXISTS || err == CH_ERR_NOT_FOUND ? CH_ERR_IO : err;
}

static inline uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}
/* Bytes that a record of `length` bytes of plaintext takes. */
static inline uint32_t record_bytes(uint32_t length)
{
    return (uint32_t)round_up(RECORD_HEADER_BYTES + (uint64_t)length + TAG_BYTES, UNIT_BYTES);
}
/* Bytes that the footer of `count` records takes. */
static inline uint64_t footer_bytes(uint64_t count)
{
    return round_up(count * ENTRY_BYTES, CH_IO_BLOCK_BYTES) + CH_IO_BLOCK_BYTES;
}

/* --- object_format.c: bytes on the disk --- */

enum slot_state { SLOT_IN_USE = 1, SLOT_DESTROYED = 2 };

struct slot {
    enum slot_state state;
    enum ch_object_cipher cipher;
    uint32_t segment, incarnation;
    uint8_t salt[SALT_BYTES];
};
void object_slot_write(uint8_t block[SLOT_BYTES], const struct slot *slot, const uint8_t *master_key);
/* CH_ERR_NOT_FOUND: no slot here; CH_ERR_BAD_PASSPHRASE: one of another master key. */
ch_err object_slot_read(const uint8_t block[SLOT_BYTES], const uint8_t *master_key, struct slot *slot);

enum record_kind { RECORD_BLOCK = 1, RECORD_DROP = 2 };

struct record {
    enum record_kind kind;
    uint32_t length; /* of the plaintext; 0 for a drop */
    uint32_t segment, incarnation;
    uint64_t counter;
    struct ch_cid cid;
    struct ch_object_tag tag;
};
void object_record_write(uint8_t header[RECORD_HEADER_BYTES], const struct record *record);
bool object_record_read(const uint8_t header[RECORD_HEADER_BYTES], struct record *record);

/* Where a record lies in a segment. */
struct entry {
    uint8_t digest[CH_HASH_BYTES];
    uint32_t unit;
    uint32_t length;
    uint8_t kind, codec;
    struct ch_object_tag tag;
};
/* What a segment's trailer says of it. */
struct trailer {
    uint64_t offset; /* of the footer */
    uint32_t count;  /* entries */
    uint32_t drops;
    uint64_t data_bytes; /* of records */
    uint64_t oldest_ms;  /* UINT64_MAX: no block has an age */
};
/* Writes the footer: footer_bytes(count) bytes that will lie at `offset`. */
void object_footer_write(uint8_t *footer, const struct entry *entries, uint32_t count, uint32_t segment,
                         uint64_t offset);
/* Reads the trailing block of a segment `file_bytes` long. */
bool object_trailer_read(const uint8_t block[CH_IO_BLOCK_BYTES], uint32_t segment, uint64_t file_bytes,
                         struct trailer *trailer);
/* Reads the entries; false when the crc that the trailer names isn't theirs, or one names what can't be a record. */
bool object_footer_read(const uint8_t *footer, const struct trailer *trailer, struct entry *entries);

/* --- object_crypt.c: keys and ciphers --- */

struct object_crypt; /* one thread's */
struct object_key;
ch_err object_crypt_open(struct object_crypt **out);
void object_crypt_close(struct object_crypt *crypt);
/* The cipher can be used on this CPU. */
bool object_cipher_here(enum ch_object_cipher cipher);
ch_err object_key_new(struct object_key **out);
void object_key_free(struct object_key *key);
/* The key of a segment's incarnation. */
void object_key_derive(struct object_crypt *crypt, const uint8_t *master_key, const struct slot *slot,
                       uint32_t incarnation, struct object_key *key);
/* Where the nonces of a key begin to count: anywhere. Who puts an older copy of the disk back goes on with an
 * incarnation that was used already, and still repeats no nonce. */
uint64_t object_counter_start(void);
/* Writes the whole record: header, ciphertext, tag, zeros up to record_bytes. */
void object_record_seal(struct object_crypt *crypt, const struct object_key *key, const struct record *record,
                        const void *plain, uint8_t *to);
/* Opens a record into `plain` as its bytes come; one at a time. Its header is there; `record` stays as it is until the
 * end. `check_cid`: of a block, hash what comes out, too. */
void object_open_begin(struct object_crypt *crypt, const struct object_key *key, const uint8_t *record_start,
                       const struct record *record, void *plain, bool check_cid);
/* The first `length` bytes of its ciphertext are there, or all of it. */
void object_open_until(struct object_crypt *crypt, size_t length);
/* All is there, and the tag: false when a bit of header, ciphertext or tag isn't as it was, or the CID isn't the
 * bytes'. Before it is true, nothing in `plain` may be believed. */
bool object_open_end(struct object_crypt *crypt);

/* --- object_index.c: what no run holds yet, by print --- */

#define PRINT_BYTES 12
#define PRINT_KEY_BYTES 16
/* 96 bits of a keyed hash of a digest, the same for a master key's whole life: runs are sorted by it. */
struct print {
    uint8_t bytes[PRINT_BYTES];
};
struct print object_print(const uint8_t key[PRINT_KEY_BYTES], const uint8_t digest[CH_HASH_BYTES]);

/* Where a block's newest record lies, or what became of the block. */
struct place {
    struct print print;
    uint32_t segment; /* 0: an empty place. Of a segment that is no more: as dropped */
    uint32_t unit;
    uint32_t length : 22;
    uint32_t durable : 1;
    uint32_t damaged : 1; /* the disk changed it: the next put takes its place */
    uint32_t dropped : 1; /* there is no block: the place is that of the record that says so */
    uint32_t silent : 1;  /* dropped without a record, so the place is the block's own: expired, or lost */
    uint32_t written : 1; /* silent, and in the run that is being written */
};
_Static_assert(sizeof(struct place) == 24 && CH_BLOCK_BYTES_MAX < 1u << 22, "what a young block costs in memory");

/* By print, and of one print the newest word first. */
int object_place_order(const void *a, const void *b);

#define INDEX_PARTS 256
struct index_part {
    struct place *place;
    uint32_t capacity, count;
};

struct object_index {
    uint8_t key[PRINT_KEY_BYTES];
    struct index_part part[INDEX_PARTS];
    uint64_t silent;         /* places that are */
    _Atomic uint64_t losses; /* counts what was taken out or found damaged: what was whole then may not be any more */
};
ch_err object_index_open(struct object_index *index, const uint8_t *master_key);
void object_index_close(struct object_index *index);
struct place *object_index_find(const struct object_index *index, const struct print *print);
/* Room for this one without a failure; it and sweep are the calls that may move places. */
ch_err object_index_reserve(struct object_index *index, const struct print *print);
/* Adds, or overwrites where the print is there. After a reserve. */
void object_index_set(struct object_index *index, const struct place *place);
/* Removes those of a part that `keep` says no to, and gives back memory. (A place that moves past the end of the part
 * may be asked about twice, and kept then.) */
void object_index_sweep(struct object_index *index, unsigned part,
                        bool (*keep)(void *context, struct place *place), void *context);
/* Places in memory, in any order. */
struct places {
    struct place *place;
    size_t count, capacity;
};
/* Adds those of a part that `which` says yes to (NULL: all). */
ch_err object_index_copy(struct object_index *index, unsigned part, bool (*which)(void *context, struct place *place),
                         void *context, struct places *out);
ch_err object_places_reserve(struct places *places, size_t more);
uint64_t object_index_bytes(const struct object_index *index);

/* --- object_runs.c: the index of sealed segments, on the disk --- */

#define PAGE_HEADER_BYTES 8
#define PLACE_BYTES       24
#define PAGE_PLACES       ((CH_IO_BLOCK_BYTES - PAGE_HEADER_BYTES) / PLACE_BYTES)
#define RUN_PLACES_MAX    (1u << 30) /* the filter is written and checked at once, below 2 GiB */
#define RUN_PLACE_BYTES   26         /* of a run's file, with the filter */

struct object_run {
    _Atomic unsigned refs;
    _Atomic bool damaged; /* a page of it isn't what was written: it is made again */
    uint32_t number;      /* of its file */
    uint32_t first, last; /* the segments it is about */
    uint64_t count;
    uint32_t pages, page_capacity;
    uint64_t *page_key;   /* of the first place of each page */
    uint64_t *filter;
    uint64_t filter_blocks;
    struct ch_file *file; /* for single pages */
};

/* Those that look-ups go through, ascending by segments; it does not change, another takes its place. */
struct object_runs {
    _Atomic unsigned refs;
    uint32_t count;
    struct object_run *run[];
};

struct ch_object_store;
void object_run_unref(struct ch_object_store *store, struct object_run *run);
void object_runs_unref(struct ch_object_store *store, struct object_runs *runs);
void object_run_path(const struct ch_object_store *store, uint32_t number, char path[CH_IO_PATH_BYTES_MAX]);
/* How many places a page read from a run's file has; 0: it isn't what was written. */
uint32_t object_page_places(const struct object_run *run, const uint8_t block[CH_IO_BLOCK_BYTES], uint32_t page);
void object_page_place(const uint8_t block[CH_IO_BLOCK_BYTES], uint32_t i, struct place *place);
/* The newest word on a print, dropped ones too; `installs` (or NULL) the store's when it was looked for.
 * CH_ERR_NOT_FOUND: there is none. CH_ERR_TIMEOUT: its page is damaged, and not made again yet. Any thread, under no
 * lock. */
ch_err object_find_any(struct ch_object_store *store, const struct print *print, struct place *place,
                       uint64_t *installs);
/* The same of blocks that are there: a dropped one is CH_ERR_NOT_FOUND. */
ch_err object_find(struct ch_object_store *store, const struct print *print, struct place *place, uint64_t *installs);
/* What the table in memory has on a print; the owner's. */
bool object_find_young(struct ch_object_store *store, const struct print *print, struct place *place);
/* Sorts a footer's entries by print: who looks for all of them then goes through each run once. */
ch_err object_entries_sort(struct ch_object_store *store, struct entry **entries, uint32_t count);
/* Keeps of a sealed segment's entries the blocks that are there, *count of them. The owner's. Errors as above. */
ch_err object_entries_live(struct ch_object_store *store, uint32_t segment, struct entry **entries, uint32_t *count);

/* A run that is being written. */
struct run_writer {
    struct object_run *run; /* NULL: none */
    struct ch_file *file;
    uint8_t *memory;
    uint32_t page_places;   /* in the page that is being filled */
    uint32_t pages;         /* in memory, that one not counted */
    uint64_t offset;        /* of the memory's first page in the file */
};
/* Begins a file for about `count` places at most. */
ch_err object_run_begin(struct ch_object_store *store, uint32_t first, uint32_t last, uint64_t count,
                        struct run_writer *writer);
/* Adds a place; they come sorted. */
ch_err object_run_add(struct ch_object_store *store, struct run_writer *writer, const struct place *place);
/* Makes it durable. One without places says that its segments hold nothing: without it they would be looked through
 * again and again. */
ch_err object_run_end(struct ch_object_store *store, struct run_writer *writer, struct object_run **out);
/* Forgets it and its file, as far as the storage lets. */
void object_run_abandon(struct ch_object_store *store, struct run_writer *writer);
/* Takes the runs of the folder that are whole as far as their trailers tell; removes the others. */
ch_err object_runs_open(struct ch_object_store *store);
ch_err object_run_remove(struct ch_object_store *store, uint32_t number);
uint64_t object_runs_bytes(const struct object_runs *runs);

/* --- object_merge.c: making runs --- */

/* Places of several runs, and of memory, in one order. */
struct stream {
    struct source *source;
    unsigned count;
};
/* `places` are the stream's from now on, and it sorts them, piece by piece. */
ch_err object_stream_open(struct ch_object_store *store, struct object_run **run, unsigned run_count,
                          struct places *places, struct stream *stream);
void object_stream_close(struct ch_object_store *store, struct stream *stream);
/* The newest word on the next print. CH_ERR_NOT_FOUND: that was all. */
ch_err object_stream_next(struct ch_object_store *store, struct stream *stream, struct place *place);
/* Calls `each` for all blocks there are, in the order of prints: one pass over the runs. The owner's. */
ch_err object_pass(struct ch_object_store *store, void (*each)(void *context, const struct place *place),
                   void *context);

/* Sealed segments next to each other; last 0: none. */
struct index_span {
    uint32_t first, last;
    uint64_t records;
};
/* What is being done for the index, in steps. */
struct index_job {
    bool active, merges;
    uint32_t first, last; /* the segments that the new runs are about */
    /* From footers: */
    uint32_t next;        /* the segment whose footer comes next */
    uint32_t chunk_first; /* the first of those that the places are of */
    struct places places;
    /* Then, or from runs: */
    bool streams;
    struct stream stream;
    struct run_writer writer;
    struct object_run **made;
    uint32_t made_count;
};
/* True when something is to be done, and may be now. */
bool object_index_due(const struct ch_object_store *store);
/* A step of it. What the storage refuses is tried again later. */
ch_err object_index_step(struct ch_object_store *store);
void object_job_abandon(struct ch_object_store *store);
/* After segments came or went: how many have no run yet. */
void object_index_measure(struct ch_object_store *store);
/* After a segment was destroyed: what a run says of it counts as dropped, so nothing need be remembered of its
 * blocks. */
void object_index_segment_gone(struct ch_object_store *store, uint32_t number);
/* Runs for all sealed segments but the newest few, and the counts of each segment's blocks. */
ch_err object_index_load(struct ch_object_store *store);

/* --- the store --- */

struct object_segment {
    struct slot slot;
    uint64_t data_end;               /* where the next batch, or the footer, begins */
    uint64_t file_bytes;             /* on the disk */
    uint64_t live_bytes, data_bytes; /* of records */
    uint64_t oldest_ms;              /* of the blocks in it that have an age; UINT64_MAX: none */
    uint64_t first_ms;               /* the same, of all that ever were */
    uint32_t records, drops;         /* in the footer */
    bool sealed;
    bool unreadable; /* no footer could be made of its records: it is left alone */
    /* Until it is sealed: */
    struct ch_file *file;
    struct entry *entry;
    uint32_t entry_count, entry_capacity;
    unsigned flights;
};

enum batch_state { BATCH_FREE, BATCH_FLYING, BATCH_REFUSED, BATCH_DURABLE };

struct batch_record {
    uint64_t cookie;
    uint32_t at;                        /* in the batch */
    uint32_t moved_segment, moved_unit; /* a move: from where */
    bool has_cookie;
};

struct batch {
    uint8_t *memory; /* that the disk reads */
    uint32_t used;   /* 0: nothing in it and no place yet */
    uint32_t record_count, told;
    struct batch_record *record;
    struct object_segment *segment;
    uint64_t offset;
    enum batch_state state;
    bool refused; /* by the storage, at least once: it is written again until it is durable */
};

bool object_is_name(const uint8_t bytes[CH_CID_BYTES]);
/* A CID, or a name. */
bool object_cid_valid(const uint8_t bytes[CH_CID_BYTES]);
/* The bytes are the CID's; of a name any are. */
bool object_cid_holds(const struct ch_cid *cid, const void *bytes, size_t length);

/* A sealed segment's names of one kind, by where they lie. */
struct listing {
    unsigned kind;
    uint32_t segment; /* 0: none */
    uint64_t installs; /* when it was made */
    struct entry *entry;
    uint32_t count;
};

/* The segment that is being emptied. */
struct compaction {
    uint32_t segment; /* 0: none */
    struct entry *entry;
    uint32_t count, next;
    uint32_t in_flight; /* moves not durable yet */
};

struct ch_object_store {
    struct ch_io *io;
    char dir[CH_IO_PATH_BYTES_MAX - 32];
    struct ch_file *lock_file;
    uint8_t master_key[CH_OBJECT_KEY_BYTES];
    uint32_t segment_bytes, batch_bytes, batch_records_max;
    uint64_t low_water_bytes;
    enum ch_object_cipher cipher;
    ch_err failed;   /* sticky */
    ch_err refusing; /* why the storage did not take the last batch */
    uint64_t again_ns;        /* when what it did not take is written again */
    uint64_t again_after_ns;

    struct object_crypt *crypt;
    struct object_key *key; /* of the active segment */
    uint64_t counter;       /* of its nonces, the next one */
    struct object_segment *active;
    uint32_t next_number;

    struct batch batch[BATCH_SLOTS];
    struct batch *filling; /* its bytes are in `gather` until it is launched */
    uint8_t *gather;
    unsigned flights;
    bool flush_wanted;
    uint8_t *memory;
    size_t memory_bytes;

    struct compaction compaction;
    struct listing listing;
    struct index_job job;
    struct index_span young; /* the sealed segments behind the newest run */
    uint32_t run_places;    /* young ones that make a run */
    uint64_t merged_places; /* at most, of runs that become one */
    uint32_t next_run;      /* number of a file */
    uint64_t job_again_ns;  /* nothing is done for the index before */
    struct ch_object_reader *own_reader; /* the owner's */
    struct ch_object_stats stats;

    /* The owner writes under the write lock, readers read under the read lock. */
    pthread_rwlock_t lock;
    struct object_index index;
    struct object_runs *runs; /* never NULL once it is open */
    uint64_t installs;        /* of other runs in place of those */
    struct object_segment **segment; /* ascending */
    size_t segment_count, segment_capacity;
    _Atomic uint64_t removals; /* of segments: readers then let go of files */
    _Atomic uint32_t segment_damaged; /* whose header or footer a scrubber found so; 0: none */
    /* Readers and owner write under the write lock: blocks found damaged that nobody asked for yet, the newest kept. */
    struct ch_cid damaged[CH_OBJECT_DAMAGED_MAX];
    uint64_t damaged_first, damaged_end;
};

void object_path(const struct ch_object_store *store, uint32_t number, char path[CH_IO_PATH_BYTES_MAX]);
/* Where the first segment at or above a number is in the table. */
size_t object_segment_from(const struct ch_object_store *store, uint32_t number);
struct object_segment *object_segment_find(const struct ch_object_store *store, uint32_t number);
/* Adds a segment to the table (its number is the highest); takes it over only on success. */
ch_err object_segment_add(struct ch_object_store *store, struct object_segment *segment);
void object_segment_free(struct ch_object_store *store, struct object_segment *segment);
ch_err object_entry_add(struct object_segment *segment, const struct entry *entry);
/* A block of this age is in the segment. */
void object_note_age(struct object_segment *segment, const struct entry *entry);
/* The block at a place is dead: the counts. */
void object_note_dead(struct ch_object_store *store, const struct place *place);
/* Forgets the block at a place without a record. */
ch_err object_forget(struct ch_object_store *store, const struct place *place);
/* What a place holds isn't what was written; under no lock. `installs`: of the store when the place was looked up. */
void object_note_damage(struct ch_object_store *store, const struct ch_cid *cid, const struct place *place,
                        uint64_t installs);
/* Somebody is to be told that there is damage: to what is called so, or, all zeros, to something. Under the write
 * lock. */
void object_tell_damage(struct ch_object_store *store, const struct ch_cid *cid);
/* A record to be written. */
struct object_append {
    enum record_kind kind;
    const struct ch_cid *cid;
    const void *plain;
    uint32_t length;
    struct ch_object_tag tag;
    bool reserved; /* it may use the room below the low-water mark */
    struct batch_record record;
};
/* Puts a record into the gathering batch; *place is where it will lie. CH_ERR_FULL, CH_ERR_NO_SPACE, CH_ERR_TIMEOUT:
 * nothing happened. */
ch_err object_append(struct ch_object_store *store, const struct object_append *what, struct place *place);
/* Writes the footer of an unsealed segment with nothing in flight; closes its file. After a failure it may be called
 * again. */
ch_err object_segment_seal(struct ch_object_store *store, struct object_segment *segment);
/* Writes a slot into a segment's file and waits until it is durable. */
ch_err object_slot_store(struct ch_object_store *store, struct ch_file *file, const struct slot *slot);
/* Writes what is damaged of a sealed segment's slots again. */
ch_err object_slots_mend(struct ch_object_store *store, struct object_segment *segment);
/* Overwrites the salt in both slots; the file is open. */
ch_err object_salt_destroy(struct ch_object_store *store, struct object_segment *segment);
/* Overwrites the salt, removes the file, forgets the segment. Where the storage refuses (object_passes) it is still
 * there, and the same call goes on. */
ch_err object_segment_destroy(struct ch_object_store *store, struct object_segment *segment);
/* Fills segment table and index from the folder. */
ch_err object_recover(struct ch_object_store *store);
/* Reads the footer of a sealed segment. CH_ERR_CORRUPT where it isn't whole; *entries is the caller's. */
ch_err object_footer_load(struct ch_object_store *store, struct ch_file *file, uint32_t number, uint64_t file_bytes,
                          struct entry **entries, uint32_t *count);
/* The entries of a sealed segment; a damaged footer is made again. CH_ERR_CORRUPT: it could not be, now or before. */
ch_err object_entries(struct ch_object_store *store, struct object_segment *segment, struct entry **entries,
                      uint32_t *count);
/* Reads and opens the block at a place (not the index's word for it: compaction). CH_ERR_FULL: it has more than
 * `capacity` bytes. CH_ERR_CORRUPT: something else lies there, or only the place says that it is so long. */
ch_err object_read_at(struct ch_object_reader *reader, const uint8_t digest[CH_HASH_BYTES], const struct place *place,
                      struct record *record, void *to, size_t capacity);

#endif
