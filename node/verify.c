#include "node/verify.h"

#include "base/time.h"
#include "node/tree.h"
#include "node/tx_check.h"

#include <stdlib.h>

/* Senders known to be accounts: direct-mapped, so that a busy sender costs no look-up in the state. */
#define KNOWN_SLOTS 65536u

/* Batches taken in one poll: with CH_BATCH_TXS each they hold more than any verify_batch. */
#define BATCHES_MAX 64

struct ch_verify {
    struct ch_node *node;
    struct ch_bell *next;
    struct ch_ed25519 *verifier;
    struct ch_hash_many *hasher;
    struct ch_state_reader *state;
    struct ch_object_reader *objects;
    struct ch_tree *tree; /* NULL: we are alone */
    struct ch_tx_prefixes prefixes;
    uint32_t items_max;
    /* scratch of one poll, items_max each */
    struct ch_ed25519_item *items;
    struct ch_batch_tx **item_tx;
    bool *item_is_approval;
    bool *valid;
    uint8_t (*approvals)[CH_APPROVAL_MESSAGE_BYTES_MAX];
    struct ch_bytes *hash_inputs;
    uint8_t (*hashes)[CH_HASH_BYTES];
    uint8_t (*known)[CH_KEY_BYTES];
};

static bool is_registrar(const struct ch_genesis *genesis, const uint8_t *key)
{
    for (unsigned i = 0; i < genesis->registrar_count; i++)
        if (memcmp(genesis->registrars[i], key, CH_KEY_BYTES) == 0)
            return true;
    return false;
}

static bool sender_known(struct ch_verify *v, const uint8_t *key)
{
    uint8_t *slot = v->known[ch_load32(key) % KNOWN_SLOTS];
    if (memcmp(slot, key, CH_KEY_BYTES) == 0)
        return true;
    uint64_t serial;
    if (ch_state_read_serial(v->state, key, &serial) != CH_OK)
        return false;
    memcpy(slot, key, CH_KEY_BYTES);
    return true;
}

/* Admission that costs no signature check: what the ledger would refuse anyway, and strangers. */
static enum ch_status admit(struct ch_verify *v, const struct ch_tx *tx, uint64_t now_ms)
{
    const struct ch_genesis_limits *limits = &v->node->genesis.limits;
    uint64_t commit_ms = atomic_load_explicit(&v->node->commit_ms, memory_order_relaxed);
    if (commit_ms > limits->window_back_ms && tx->timestamp_ms < commit_ms - limits->window_back_ms)
        return CH_STATUS_TOO_OLD;
    if (tx->timestamp_ms > commit_ms + limits->window_ahead_ms && tx->timestamp_ms > now_ms + limits->window_ahead_ms)
        return CH_STATUS_TOO_EARLY;
    if (tx->kind == CH_TX_REGISTER)
        return is_registrar(&v->node->genesis, tx->registrar) ? CH_STATUS_OK : CH_STATUS_NOT_REGISTRAR;
    if (!sender_known(v, tx->sender) && !(tx->kind == CH_TX_REVOKE && is_registrar(&v->node->genesis, tx->sender)))
        return CH_STATUS_NO_SUCH_ACCOUNT;
    return CH_STATUS_OK;
}

static void add_items(struct ch_verify *v, struct ch_batch_tx *entry, size_t *count)
{
    size_t more = ch_tx_items(&v->prefixes, &entry->tx, v->items + *count, v->approvals[*count]);
    for (size_t i = 0; i < more; i++, (*count)++) {
        v->item_tx[*count] = entry;
        v->item_is_approval[*count] = i == 1;
    }
}

/* A message that names an object is proposed only while we know that it is stored: here, or over the committee. */
static enum ch_status object_here(struct ch_verify *v, const struct ch_tx *tx)
{
    if (!tx->location)
        return CH_STATUS_OK;
    struct ch_cid root;
    uint64_t file_bytes = tx->object_size;
    memcpy(root.bytes, tx->location, CH_CID_BYTES);
    ch_err err = v->tree ? ch_tree_look(v->tree, &root, &file_bytes, NULL, NULL)
                         : ch_object_has_tree(v->objects, &root, &file_bytes);
    if (err == CH_ERR_TIMEOUT)
        return CH_STATUS_STORE_AWAY;
    return err == CH_OK && file_bytes == tx->object_size ? CH_STATUS_OK : CH_STATUS_NO_SUCH_OBJECT;
}

static void check(struct ch_verify *v, struct ch_batch **batches, uint32_t batch_count, bool each)
{
    struct ch_metrics *metrics = &v->node->metrics;
    uint64_t now_ms = ch_time_unix_ms();
    size_t items = 0, hashes = 0;
    for (uint32_t b = 0; b < batch_count; b++)
        for (uint32_t i = 0; i < batches[b]->count; i++) {
            struct ch_batch_tx *entry = &batches[b]->txs[i];
            v->hash_inputs[hashes++] = (struct ch_bytes){entry->tx.bytes, entry->tx.length};
            entry->status = (uint16_t)admit(v, &entry->tx, now_ms);
            entry->approval_ok = false;
            if (entry->status == CH_STATUS_OK)
                add_items(v, entry, &items);
        }
    ch_hash_many(v->hasher, v->hash_inputs, hashes, v->hashes);
#ifdef CH_ACCEPT_ALL /* a build that measures the rest of the pipeline; its program says so */
    memset(v->valid, true, items);
#else
    if (items && each)
        ch_ed25519_verify_each(v->verifier, v->items, items, v->valid);
    else if (items)
        ch_ed25519_verify(v->verifier, v->items, items, v->valid);
#endif
    uint64_t bad = 0;
    for (size_t i = 0; i < items; i++) {
        struct ch_batch_tx *entry = v->item_tx[i];
        if (v->item_is_approval[i]) {
            entry->approval_ok = v->valid[i];
            if (!v->valid[i] && entry->status == CH_STATUS_OK)
                entry->status = CH_STATUS_BAD_APPROVAL;
        } else if (!v->valid[i]) {
            entry->status = CH_STATUS_BAD_SIGNATURE;
        }
        bad += !v->valid[i];
    }
    hashes = 0;
    for (uint32_t b = 0; b < batch_count; b++) {
        batches[b]->found_bad = false;
        for (uint32_t i = 0; i < batches[b]->count; i++) {
            struct ch_batch_tx *entry = &batches[b]->txs[i];
            memcpy(entry->id, v->hashes[hashes++], CH_HASH_BYTES);
            batches[b]->found_bad |=
                entry->status == CH_STATUS_BAD_SIGNATURE || entry->status == CH_STATUS_BAD_APPROVAL;
            if (entry->status == CH_STATUS_OK)
                entry->status = (uint16_t)object_here(v, &entry->tx);
        }
    }
    ch_count_shared(&metrics->verify_signatures_checked_total, items);
    ch_count_shared(&metrics->verify_signatures_bad_total, bad);
    ch_count_shared(each ? &metrics->verify_suspect_signatures_total : &metrics->verify_batches_total,
                    each ? items : items != 0);
}

/* Blocks hashed in one poll: small ones together, of large ones one, so that transactions don't wait long. */
#define BLOCKS_MAX       16
#define BLOCKS_BYTES_MAX (256u << 10)

/* Tells serve whether the blocks are their CIDs'. Not those of strangers, nor what is no put, which serve refuses. */
static bool hash_blocks(struct ch_verify *v)
{
    struct ch_request *request[BLOCKS_MAX];
    struct ch_bytes input[BLOCKS_MAX];
    uint8_t digest[BLOCKS_MAX][CH_HASH_BYTES];
    uint32_t count = 0, hashed = 0;
    size_t bytes = 0;
    while (count < BLOCKS_MAX && bytes < BLOCKS_BYTES_MAX &&
           (request[count] = ch_ring_pull_one(&v->node->to_hash)) != NULL) {
        struct ch_request *r = request[count++];
        r->hashed = r->header.length >= CH_CID_BYTES && sender_known(v, r->peer_key);
        if (!r->hashed)
            continue;
        input[hashed] = (struct ch_bytes){r->body + CH_CID_BYTES, r->header.length - (size_t)CH_CID_BYTES};
        bytes += input[hashed++].length;
    }
    if (hashed)
        ch_hash_many(v->hasher, input, hashed, digest);
    for (uint32_t i = 0, at = 0; i < count; i++) {
        struct ch_cid cid;
        if (request[i]->hashed) {
            memcpy(cid.bytes, request[i]->body, CH_CID_BYTES);
            (void)ch_cid_check_digest(&cid, digest[at], input[at].data, input[at].length, &request[i]->block);
            at++;
        }
        CH_ASSERT(ch_ring_push_one(&v->node->to_serve, request[i]));
    }
    return count;
}

bool ch_verify_poll(void *self, uint64_t now_ns)
{
    struct ch_verify *v = self;
    struct ch_batch *batches[BATCHES_MAX];
    uint32_t count = 0, items = 0;
    /* What is taken must fit to_order: it holds every batch of the pool, so it always does. */
    while (count < BATCHES_MAX && items + 2 * CH_BATCH_TXS <= v->items_max) {
        struct ch_batch *batch = ch_ring_pull_one(&v->node->to_verify);
        if (!batch)
            break;
        batches[count++] = batch;
        items += 2 * batch->count; /* a registration has two signatures */
    }
    bool each = false;
    bool blocks = hash_blocks(v);
    if (v->next && (ch_ring_count(&v->node->to_verify) || ch_ring_count(&v->node->to_hash)) &&
        atomic_load(&v->next->sleeping))
        ch_bell_ring(v->next);
    if (count) {
        check(v, batches, count, false);
        CH_ASSERT(ch_ring_push(&v->node->to_order, (void **)batches, count) == count);
    }
    struct ch_batch *suspect = ch_ring_pull_one(&v->node->to_suspect);
    if (suspect) {
        each = true;
        check(v, &suspect, 1, true);
        CH_ASSERT(ch_ring_push_one(&v->node->to_order, suspect));
    }
    return count || each || blocks;
}

ch_err ch_verify_open(struct ch_node *node, struct ch_verify **out)
{
    struct ch_verify *v = calloc(1, sizeof *v);
    if (!v)
        return CH_ERR_NO_MEMORY;
    v->node = node;
    ch_tx_prefixes_init(&v->prefixes, node->chain_id);
    v->items_max = (uint32_t)node->config.stages_verify_batch;
    if (v->items_max < 2 * CH_BATCH_TXS)
        v->items_max = 2 * CH_BATCH_TXS;
    const struct ch_ed25519_options options = {
        .batch_max = v->items_max,
        .cached_keys_max = (uint32_t)node->config.stages_cached_keys,
    };
    ch_err err = ch_ed25519_open(&options, &v->verifier);
    if (err == CH_OK)
        err = ch_hash_many_open(&v->hasher);
    if (err == CH_OK)
        err = ch_state_reader_open(node->state, &v->state);
    if (err == CH_OK)
        err = ch_object_reader_open(node->objects, &v->objects);
    if (err == CH_OK && node->committee.n > 1)
        err = ch_tree_open(v->objects, node->committee.n, &v->tree);
    v->items = calloc(v->items_max, sizeof *v->items);
    v->item_tx = calloc(v->items_max, sizeof *v->item_tx);
    v->item_is_approval = calloc(v->items_max, sizeof *v->item_is_approval);
    v->valid = calloc(v->items_max, sizeof *v->valid);
    v->approvals = calloc(v->items_max, sizeof *v->approvals);
    v->hash_inputs = calloc(v->items_max, sizeof *v->hash_inputs);
    v->hashes = calloc(v->items_max, sizeof *v->hashes);
    v->known = calloc(KNOWN_SLOTS, sizeof *v->known);
    if (err == CH_OK && (!v->items || !v->item_tx || !v->item_is_approval || !v->valid || !v->approvals ||
                         !v->hash_inputs || !v->hashes || !v->known))
        err = CH_ERR_NO_MEMORY;
    if (err != CH_OK) {
        ch_verify_close(v);
        return err;
    }
    v->known[0][0] = 1; /* an empty slot 0 would be the key of all zeros; so it holds one that belongs elsewhere */
    *out = v;
    return CH_OK;
}

void ch_verify_close(struct ch_verify *v)
{
    if (!v)
        return;
    ch_ed25519_close(v->verifier);
    ch_hash_many_close(v->hasher);
    ch_state_reader_close(v->state);
    ch_tree_close(v->tree);
    ch_object_reader_close(v->objects);
    free(v->items);
    free(v->item_tx);
    free(v->item_is_approval);
    free(v->valid);
    free(v->approvals);
    free(v->hash_inputs);
    free(v->hashes);
    free(v->known);
    free(v);
}

void ch_verify_set_next(struct ch_verify *v, struct ch_bell *next)
{
    v->next = next;
}

const char *ch_verify_kernel(const struct ch_verify *v)
{
    return ch_ed25519_kernel_in_use(v->verifier);
}
