/* The decoded keys of validators and busy senders, which come back: sets of four, the least recently asked for goes first.
 * The hash is keyed, so that no sender can aim its keys at one set. */
#include "crypto/ed25519_impl.h"

#include <sodium.h>
#include <stdlib.h>

#define WAYS 4

struct entry {
    struct ed25519_row row;
    _Alignas(64) uint8_t key[32];
};

struct set {
    uint32_t tag[WAYS]; /* of the hash; 0: empty */
    uint32_t used[WAYS];
};

struct ed25519_keys {
    uint32_t set_count, clock;
    uint64_t secret[4];
    struct set *sets;
    struct entry *entries;
};

ch_err ch_ed25519_keys_open(uint32_t keys_max, struct ed25519_keys **out)
{
    struct ed25519_keys *keys = calloc(1, sizeof *keys);
    if (!keys)
        return CH_ERR_NO_MEMORY;
    keys->set_count = keys_max / WAYS;
    randombytes_buf(keys->secret, sizeof keys->secret);
    if (keys->set_count) {
        keys->sets = calloc(keys->set_count, sizeof *keys->sets);
        keys->entries = aligned_alloc(64, (size_t)keys->set_count * WAYS * sizeof *keys->entries);
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
            const struct entry *entry = &keys->entries[s * WAYS + way];
            __builtin_prefetch(entry->key);
            __builtin_prefetch(entry->row.w);
            __builtin_prefetch(entry->row.w + 8);
        }
}

const struct ed25519_row *ch_ed25519_keys_find(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32])
{
    if (!keys->set_count)
        return NULL;
    uint32_t s = set_of(keys, hash);
    struct set *set = &keys->sets[s];
    for (uint32_t way = 0; way < WAYS; way++) {
        const struct entry *entry = &keys->entries[s * WAYS + way];
        if (set->tag[way] == tag_of(hash) && memcmp(entry->key, key, 32) == 0) {
            set->used[way] = keys->clock++;
            return &entry->row;
        }
    }
    return NULL;
}

void ch_ed25519_keys_add(struct ed25519_keys *keys, uint64_t hash, const uint8_t key[32],
                         const struct ed25519_row *row)
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
    struct entry *entry = &keys->entries[s * WAYS + oldest];
    entry->row = *row;
    memcpy(entry->key, key, 32);
    set->tag[oldest] = tag_of(hash);
    set->used[oldest] = keys->clock++;
}
