#include "node/block_index.h"

#include "consensus/core.h"
#include "crypto/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX 1100
#define PROOF_OFFSET   40 /* of a VOTE_CERT: u64 index | 32 digest, then the headers */
#define DIGEST_BYTES   16 /* kept of a block's, to tell variants apart */
#define VARIANTS_MAX   64 /* of one author in one round that are looked through; more are not kept */
#define CUT_SLOTS      1024
#define PAGE_BYTES     4096

/* On the disk as in memory: the files are this machine's own. `run` is the process that wrote the positions. */
struct block_slot {
    uint64_t position; /* 0: none */
    uint8_t digest[DIGEST_BYTES];
    uint32_t header_length, payload_length;
    uint32_t run;
    uint32_t next; /* 1 + number of the slot in `variants` with another block of this author and round; 0: none */
};
struct commit_slot {
    uint64_t position, proof_position;
    uint32_t length, proof_length;
    uint32_t run, proof_run;
    uint32_t proof_count;
    uint32_t zero;
};
_Static_assert(sizeof(struct block_slot) == 40 && sizeof(struct commit_slot) == 40, "40 bytes each");
_Static_assert(offsetof(struct block_slot, position) == 0 && offsetof(struct commit_slot, position) == 0,
               "cut reads it");
#define SLOT_BYTES 40

struct slots {
    int fd;
    uint64_t cut;     /* slots below this lie before the log's first position */
    uint64_t punched; /* bytes given back to the disk */
};

struct ch_block_index {
    uint16_t n;
    uint32_t run;
    bool opened;
    uint64_t first, end; /* of the log when it was opened: what other runs wrote behind it never became durable */
    struct slots blocks, variants, commits;
    uint32_t variant_count;
};

static ch_err open_slots(const char *folder, const char *name, bool anew, struct slots *out)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/index/%s", folder, name);
    out->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (anew ? O_TRUNC : 0), 0600);
    if (out->fd < 0)
        return CH_ERR_IO;
    off_t data = lseek(out->fd, 0, SEEK_DATA); /* what was given back is a hole */
    if (data > 0) {
        out->punched = (uint64_t)data / PAGE_BYTES * PAGE_BYTES;
        out->cut = out->punched / SLOT_BYTES;
    }
    return CH_OK;
}

ch_err ch_block_index_open(const char *folder, uint16_t n, bool anew, struct ch_block_index **out)
{
    char path[PATH_BYTES_MAX];
    struct ch_block_index *x = calloc(1, sizeof *x);
    if (!x)
        return CH_ERR_NO_MEMORY;
    x->n = n;
    x->blocks.fd = x->variants.fd = x->commits.fd = -1;
    ch_random(&x->run, sizeof x->run);
    snprintf(path, sizeof path, "%s/index", folder);
    ch_err err = mkdir(path, 0700) == 0 || errno == EEXIST ? CH_OK : CH_ERR_IO;
    if (err == CH_OK)
        err = open_slots(folder, "blocks", anew, &x->blocks);
    if (err == CH_OK)
        err = open_slots(folder, "variants", anew, &x->variants);
    if (err == CH_OK)
        err = open_slots(folder, "commits", anew, &x->commits);
    struct stat variants;
    if (err == CH_OK && fstat(x->variants.fd, &variants) == 0)
        x->variant_count = (uint32_t)(variants.st_size / SLOT_BYTES);
    if (err != CH_OK) {
        ch_block_index_close(x);
        return err;
    }
    *out = x;
    return CH_OK;
}

void ch_block_index_close(struct ch_block_index *x)
{
    if (!x)
        return;
    const int fds[] = {x->blocks.fd, x->variants.fd, x->commits.fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(x);
}

/* What can't be read is empty. */
static void read_slot(const struct slots *file, uint64_t number, void *slot)
{
    if (pread(file->fd, slot, SLOT_BYTES, (off_t)(number * SLOT_BYTES)) != SLOT_BYTES)
        memset(slot, 0, SLOT_BYTES);
}

static bool write_slot(const struct slots *file, uint64_t number, const void *slot)
{
    return pwrite(file->fd, slot, SLOT_BYTES, (off_t)(number * SLOT_BYTES)) == SLOT_BYTES;
}

/* Positions of this run, or that were in the log when it was opened. */
static bool holds(const struct ch_block_index *x, uint64_t position, uint32_t run)
{
    return position && position >= x->first && (run == x->run || position < x->end);
}

static uint64_t number_of(const struct ch_block_index *x, const struct ch_ref *ref)
{
    return (uint64_t)ref->round * x->n + ref->author;
}

/* The block's slot: file and number, or those of the last of its author and round (found is false). A slot that holds
 * nothing ends the chain. */
static bool find_block(const struct ch_block_index *x, const struct ch_ref *ref, const struct slots **file,
                       uint64_t *number, struct block_slot *slot)
{
    *file = &x->blocks;
    *number = number_of(x, ref);
    for (unsigned i = 0; i < VARIANTS_MAX; i++) {
        read_slot(*file, *number, slot);
        bool held = holds(x, slot->position, slot->run);
        if (held && memcmp(slot->digest, ref->digest, DIGEST_BYTES) == 0)
            return true;
        if (!held)
            *slot = (struct block_slot){0};
        if (!slot->next)
            return false;
        *file = &x->variants;
        *number = slot->next - 1;
    }
    return false;
}

static void note_block(struct ch_block_index *x, const struct ch_committee *committee, const uint8_t *head,
                       size_t length, size_t payload_length, uint64_t position)
{
    struct ch_block block;
    uint32_t header = ch_block_length(head, length);
    if (header == 0 || header > length)
        return;
    ch_block_view(head, header, &block);
    struct ch_ref ref = {.round = block.round, .author = block.author};
    if (block.author >= x->n)
        return;
    ch_block_digest(committee, &block, ref.digest);
    const struct slots *file;
    uint64_t number;
    struct block_slot slot, fresh = {
                                .position = position,
                                .header_length = header,
                                .payload_length = (uint32_t)payload_length,
                                .run = x->run,
                            };
    memcpy(fresh.digest, ref.digest, DIGEST_BYTES);
    bool found = find_block(x, &ref, &file, &number, &slot);
    if (found) {
        fresh.next = slot.next;
    } else if (slot.next) {
        return;                 /* VARIANTS_MAX */
    } else if (slot.position) { /* another block of this author and round has the slot */
        if (!write_slot(&x->variants, x->variant_count, &fresh))
            return;
        slot.next = ++x->variant_count;
        fresh = slot;
    }
    (void)write_slot(file, number, &fresh);
}

static void note_commit(struct ch_block_index *x, uint64_t index, size_t length, uint64_t position)
{
    struct commit_slot slot;
    read_slot(&x->commits, index, &slot);
    if (!holds(x, slot.proof_position, slot.proof_run))
        slot = (struct commit_slot){0};
    slot.position = position;
    slot.length = (uint32_t)length;
    slot.run = x->run;
    (void)write_slot(&x->commits, index, &slot);
}

static void note_proof(struct ch_block_index *x, const uint8_t *body, size_t length, uint64_t position)
{
    struct commit_slot slot;
    struct ch_reader r = ch_reader(body + PROOF_OFFSET, length - PROOF_OFFSET);
    uint16_t count = 0;
    for (; r.left && !r.bad; count++)
        (void)ch_read(&r, ch_read32(&r));
    if (r.bad)
        return;
    read_slot(&x->commits, ch_load64(body), &slot);
    if (!holds(x, slot.position, slot.run))
        slot = (struct commit_slot){0}; /* the proof may come before the commit */
    slot.proof_position = position + PROOF_OFFSET;
    slot.proof_length = (uint32_t)(length - PROOF_OFFSET);
    slot.proof_count = count;
    slot.proof_run = x->run;
    (void)write_slot(&x->commits, ch_load64(body), &slot);
}

void ch_block_index_note(struct ch_block_index *x, const struct ch_committee *committee, uint8_t type,
                         const uint8_t *head, size_t length, size_t payload_length, uint64_t position)
{
    struct ch_commit commit;
    if (!x->opened)
        x->end = position; /* the replay has come to here: what lies before is in the log */
    switch (type) {
    case CH_RECORD_BLOCK:
    case CH_RECORD_OWN_BLOCK:
        note_block(x, committee, head, length, payload_length, position);
        break;
    case CH_RECORD_COMMIT:
        if (ch_commit_parse(head, length, &commit))
            note_commit(x, commit.index, length, position);
        break;
    case CH_RECORD_VOTE_CERT:
        if (length > PROOF_OFFSET)
            note_proof(x, head, length, position);
        break;
    }
}

void ch_block_index_opened(struct ch_block_index *x, uint64_t end)
{
    x->end = end;
    x->opened = true;
}

/* Goes on over slots of what was cut, some at a time, and gives back their pages. */
static void cut(struct slots *file, uint64_t first)
{
    uint8_t slots[64 * SLOT_BYTES];
    for (unsigned done = 0; done < CUT_SLOTS;) {
        ssize_t got = pread(file->fd, slots, sizeof slots, (off_t)(file->cut * SLOT_BYTES));
        ssize_t count = 0;
        while ((count + 1) * SLOT_BYTES <= got) {
            uint64_t position;
            memcpy(&position, slots + count * SLOT_BYTES, sizeof position);
            if (position >= first)
                break;
            count++;
        }
        file->cut += (uint64_t)count;
        done += (unsigned)count;
        if (count * SLOT_BYTES != (ssize_t)sizeof slots)
            break;
    }
    uint64_t whole = file->cut * SLOT_BYTES / PAGE_BYTES * PAGE_BYTES;
    if (whole > file->punched && fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)file->punched,
                                           (off_t)(whole - file->punched)) == 0)
        file->punched = whole;
}

void ch_block_index_cut(struct ch_block_index *x, uint64_t first)
{
    x->first = first;
    cut(&x->blocks, first);
    cut(&x->commits, first);
}

bool ch_block_index_block(struct ch_block_index *x, const struct ch_ref *ref, struct ch_block_place *out)
{
    const struct slots *file;
    uint64_t number;
    struct block_slot slot;
    if (ref->author >= x->n || !find_block(x, ref, &file, &number, &slot))
        return false;
    *out = (struct ch_block_place){slot.position, slot.header_length, slot.payload_length};
    return true;
}

bool ch_block_index_commit(struct ch_block_index *x, uint64_t commit_index, struct ch_commit_place *out)
{
    struct commit_slot slot;
    if (!commit_index || commit_index > INT64_MAX / SLOT_BYTES)
        return false;
    read_slot(&x->commits, commit_index, &slot);
    if (!holds(x, slot.position, slot.run))
        return false;
    *out = (struct ch_commit_place){.index = commit_index, .position = slot.position, .length = slot.length};
    if (holds(x, slot.proof_position, slot.proof_run)) {
        out->proof_position = slot.proof_position;
        out->proof_length = slot.proof_length;
        out->proof_count = (uint16_t)slot.proof_count;
    }
    return true;
}
