#include "node/retention.h"

#include "store/state.h"
#include "store/wal.h"

#include <stdlib.h>

struct ch_retention {
    struct ch_node *node;
    struct ch_state_reader *state;
    uint64_t oldest; /* log index: those below were too old the last time */
};

ch_err ch_retention_open(struct ch_node *node, struct ch_retention **out)
{
    struct ch_retention *r = calloc(1, sizeof *r);
    if (!r)
        return CH_ERR_NO_MEMORY;
    r->node = node;
    ch_err err = ch_state_reader_open(node->state, &r->state);
    if (err != CH_OK) {
        ch_retention_close(r);
        return err;
    }
    *out = r;
    return CH_OK;
}

void ch_retention_close(struct ch_retention *r)
{
    if (!r)
        return;
    ch_state_reader_close(r->state);
    free(r);
}

/* The position of the first transaction committed at or after `since_ms`; UINT64_MAX: all are older. Times grow along
 * the log. */
static ch_err position_since(struct ch_retention *r, uint64_t since_ms, uint64_t *position)
{
    uint64_t step = 1, end = r->oldest;
    struct ch_log_entry entry;
    *position = UINT64_MAX;
    for (;;) { /* doubling steps over the old ones, then halving back to the last of them */
        ch_err err = ch_state_read_log_entry(r->state, end + step - 1, &entry);
        if (err != CH_OK && err != CH_ERR_NOT_FOUND)
            return err;
        bool old = err == CH_OK && entry.commit_time_ms < since_ms;
        if (err == CH_OK && !old)
            *position = entry.position;
        if (old) {
            end += step;
            step *= 2;
        } else if (step == 1) {
            break;
        } else {
            step /= 2;
        }
    }
    r->oldest = end;
    return CH_OK;
}

ch_err ch_retention_look(struct ch_retention *r, uint64_t now_unix_ms)
{
    struct ch_node *node = r->node;
    const struct ch_config *config = &node->config;
    uint64_t keep_from = 0;
    if (config->store_log_keep_mib) {
        uint64_t segments = config->store_log_keep_mib / config->store_log_segment_mib + 1; /* the last is being filled */
        uint64_t last = ch_wal_durable_end(node->wal) >> CH_WAL_SEGMENT_SHIFT;
        if (last >= segments)
            keep_from = (last - segments + 1) << CH_WAL_SEGMENT_SHIFT;
    }
    if (config->store_log_keep_hours) {
        uint64_t keep_ms = config->store_log_keep_hours * 3600 * 1000, since;
        ch_err err = now_unix_ms > keep_ms ? position_since(r, now_unix_ms - keep_ms, &since) : CH_ERR_INVALID;
        if (err != CH_OK)
            return err;
        if (since > keep_from)
            keep_from = since;
    }
    uint64_t replay_from = atomic_load(&node->replay_from);
    atomic_store(&node->log_keep_from, keep_from < replay_from ? keep_from : replay_from);
    return CH_OK;
}
