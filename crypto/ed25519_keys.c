/* The decoded keys of validators and busy senders, which come back: sets of eight, the least recently asked for goes
 * first. The hash is keyed, so that no sender can aim its keys at one set. */
#include "crypto/ed25519_impl.h"

#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

void *ch_ed25519_array(size_t count, size_t size)
{
    size_t bytes = (count * size + 63) / 64 * 64;
    bool huge = bytes >= HUGE_PAGE_BYTES / 8;
    if (huge)
        bytes = (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    void *p = aligned_alloc(huge ? HUGE_PAGE_BYTES : 64, bytes);
    if (p && huge)
        madvise(p, bytes, MADV_HUGEPAGE); /* a hint */
    return p;
}

#define WAYS 8 /* of 8192 keys in turn, with room for 16384, 3 % are not found; with four ways 11 % */

struct set {
    uint32_t tag[WAYS]; /* of the hash; 0: empty */
    uint32_t used[WAYS];
};

struct ed25519_keys {
    uint32_t set_count, clock;
    uint64_t probes;
    uint64_t secret[4];
    struct set *sets;
    struct ed25519_known_key *entries;
};

ch_err ch_ed25519_keys_open(uint32_t keys_max, struct ed25519_keys **out)
{
    struct ed25519_keys *keys = calloc(1, sizeof *keys);
    if (!keys)
        return CH_ERR_NO_MEMORY;
    keys->set_count = (keys_max + WAYS - 1) / WAYS;
    randombytes_buf(keys->secret, sizeof keys->secret);
    if (keys->set_count) {
        keys->sets = calloc(keys->set_count, sizeof *keys->sets);
        keys->entries = ch_ed25519_array((size_t)keys->set_count * WAYS, sizeof *keys->entries);
    }
    if (keys->set_count && (!keys->sets || !keys->entries)) {
        ch_ed25519_keys_close(keys);
        return CH_ERR_NO_MEMORY;
    }
    *out = keys;
    return CH_OK;
}

void ch_ed25519_keys_close(struct ed25519_keys *keys)
{
    if (!keys)
        return;
    free(keys->sets);
    free(keys->entries);
    free(keys);
}

uint64_t ch_ed25519_keys_hash(const struct ed25519_keys *keys, const uint8_t key[32])
{
    uint64_t w[4];
    memcpy(w, key, 32);
    unsigned __int128 a = (unsigned __int128)(w[0] ^ keys->secret[0]) * (w[1] ^ keys->secret[1]);
    unsigned __int128 b = (unsigned __int128)(w[2] ^ keys->secret[2]) * (w[3] ^ keys->secret[3]);
    uint64_t x = (uint64_t)a ^ (uint64_t)(a >> 64), y = (uint64_t)b ^ (uint64_t)(b >> 64);
    unsigned __int128 c = (unsigned __int128)(x ^ keys->secret[2]) * (y ^ keys->secret[0] ^ 0x9e3779b97f4a7c15u);
    return (uint64_t)c ^ (uint64_t)(c >> 64);
}

uint64_t ch_ed25519_keys_probes(const struct ed25519_keys *keys)
{
    return keys->probes;
}

static uint32_t set_of(const struct ed25519_keys *keys, uint64_t hash)
{
    return (uint32_t)((hash >> 32) * keys->set_count >> 32);
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)hash | 1;
}

void ch_ed25519_keys_prefetch_set(const struct ed25519_keys *keys, uint64_t hash)
{
    if (keys->set_count)
        __builtin_prefetch(&keys->sets[set_of(keys, hash)]);
}

void ch_ed25519_keys_prefetch_row(const struct ed25519_keys *keys, uint64_t hash)
{
    if (!keys->set_count)
        return;
    uint32_t s = set_of(keys, hash);
    for (uint32_t way = 0; way < WAYS; way++)
        if (keys->sets[s].tag[way] == tag_of(hash)) {
            const struct ed25519_known_key *known = &keys->entries[s * WAYS + way];
            for (size_t at = 0; at < sizeof *known; at += 64)
                __builtin_prefetch((const char *)known + at);
        }
}

static struct ed25519_known_key *find(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32])
{
    if (!keys->set_count)
        return NULL;
    uint32_t s = set_of(keys, hash);
    struct set *set = &keys->sets[s];
    for (uint32_t way = 0; way < WAYS; way++) {
        struct ed25519_known_key *known = &keys->entries[s * WAYS + way];
        if (set->tag[way] == tag_of(hash) && memcmp(known->key, key, 32) == 0) {
            set->used[way] = keys->clock++;
            keys->probes += way + 1;
            return known;
        }
    }
    keys->probes += WAYS;
    return NULL;
}

const struct ed25519_known_key *ch_ed25519_keys_find(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32])
{
    return find(keys, hash, key);
}

void ch_ed25519_keys_add(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32], const struct ed25519_row *row)
{
    if (!keys->set_count)
        return;
    uint32_t s = set_of(keys, hash), oldest = 0;
    struct set *set = &keys->sets[s];
    for (uint32_t way = 0; way < WAYS; way++) {
        if (!set->tag[way]) {
            oldest = way;
            break;
        }
        if (keys->clock - set->used[way] > keys->clock - set->used[oldest])
            oldest = way;
    }
    struct ed25519_known_key *known = &keys->entries[s * WAYS + oldest];
    known->row = *row;
    known->raised = false;
    memcpy(known->key, key, 32);
    set->tag[oldest] = tag_of(hash);
    set->used[oldest] = keys->clock++;
}

void ch_ed25519_keys_raise(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32],
                           const struct ed25519_row *high)
{
    struct ed25519_known_key *known = find(keys, hash, key);
    if (!known)
        return;
    known->high = *high;
    known->raised = true;
}
