#include "node/scrub.h"

#include "base/log.h"

#include <sodium.h>
#include <stdlib.h>

#define PIECE_BYTES (1u << 20)
#define SECOND_NS   1000000000ull
#define REST_NS     (600 * SECOND_NS) /* between two passes, however little there is */
#define ENTRIES     512u              /* of the state, at a time: about PIECE_BYTES */

struct ch_scrub {
    struct ch_node *node;
    struct ch_object_reader *reader;
    struct ch_state_reader *state;
    uint64_t due_ns, state_due_ns;
};

static void damaged(void *self, const struct ch_cid *cid)
{
    struct ch_scrub *s = self;
    char digest[2 * CH_HASH_BYTES + 1];
    sodium_bin2hex(digest, sizeof digest, ch_cid_digest(cid), CH_HASH_BYTES);
    ch_log(CH_LOG_ERROR, "objects: the disk has changed the block with SHA-256 %s", digest);
    ch_count(&s->node->metrics.scrub_blocks_damaged_total, 1);
}

static void scrub_state(struct ch_scrub *s, uint64_t now_ns, uint64_t rate)
{
    bool passed;
    ch_err err = ch_state_check(s->state, ENTRIES, &passed);
    ch_count(&s->node->metrics.scrub_state_passes_total, passed);
    s->state_due_ns = now_ns + (passed ? REST_NS : PIECE_BYTES * SECOND_NS / rate);
    if (err == CH_OK)
        return;
    s->state_due_ns = UINT64_MAX;
    ch_log(CH_LOG_ERROR, "the state is damaged: %s", ch_err_text(err));
    if (ch_wal_first(s->node->wal) != CH_WAL_BEGINNING) {
        ch_log(CH_LOG_ERROR, "the log has been cut and can't make it anew; reads may fail");
        return;
    }
    int none = CH_OK;
    atomic_store(&s->node->state_damaged, true);
    atomic_compare_exchange_strong(&s->node->failed, &none, (int)err);
}

static void scrub_objects(struct ch_scrub *s, uint64_t now_ns, uint64_t rate)
{
    uint64_t read;
    bool passed;
    ch_err err = ch_object_scrub(s->reader, PIECE_BYTES, damaged, s, &read, &passed);
    ch_count(&s->node->metrics.scrub_bytes_read_total, read);
    ch_count(&s->node->metrics.scrub_passes_total, passed);
    s->due_ns = now_ns + (read + 1) * SECOND_NS / rate;
    if (passed)
        s->due_ns = now_ns + REST_NS;
    if (err == CH_ERR_TIMEOUT) { /* the storage does not answer: the next call goes on where this one was */
        s->due_ns = now_ns + SECOND_NS;
    } else if (err != CH_OK) { /* a footer, or the disk refuses to read: the next call goes on behind it */
        ch_log(CH_LOG_ERROR, "objects: a segment can't be scrubbed: %s", ch_err_text(err));
        ch_count(&s->node->metrics.scrub_segments_damaged_total, 1);
        s->due_ns = now_ns + SECOND_NS;
    }
}

bool ch_scrub_poll(void *self, uint64_t now_ns)
{
    struct ch_scrub *s = self;
    uint64_t rate = s->node->config.store_upkeep_mib_s << 20;
    bool objects = rate && now_ns >= s->due_ns, state = rate && now_ns >= s->state_due_ns;
    if (objects)
        scrub_objects(s, now_ns, rate);
    if (state)
        scrub_state(s, now_ns, rate);
    return objects || state;
}

uint64_t ch_scrub_deadline_ns(void *self, uint64_t now_ns)
{
    const struct ch_scrub *s = self;
    if (!s->node->config.store_upkeep_mib_s)
        return UINT64_MAX;
    return s->due_ns < s->state_due_ns ? s->due_ns : s->state_due_ns;
}

ch_err ch_scrub_open(struct ch_node *node, struct ch_scrub **out)
{
    struct ch_scrub *s = calloc(1, sizeof *s);
    if (!s)
        return CH_ERR_NO_MEMORY;
    s->node = node;
    ch_err err = ch_object_reader_open(node->objects, &s->reader);
    if (err == CH_OK)
        err = ch_state_reader_open(node->state, &s->state);
    if (err != CH_OK) {
        ch_scrub_close(s);
        return err;
    }
    *out = s;
    return CH_OK;
}

void ch_scrub_close(struct ch_scrub *s)
{
    if (!s)
        return;
    ch_object_reader_close(s->reader);
    ch_state_reader_close(s->state);
    free(s);
}
