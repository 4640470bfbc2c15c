/* dataplane/quic_table_impl.h - a fixed table from short keys to numbers, for connection ids, addresses and peer keys.
 *
 * Keys are hashed by SipHash-2-4 under a secret of the table, because peers choose some of them. Linear probing, at
 * most half full. Thread: one owner. Memory: at open.
 */
#ifndef CHAPPE_DATAPLANE_QUIC_TABLE_IMPL_H
#define CHAPPE_DATAPLANE_QUIC_TABLE_IMPL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CH_QUIC_TABLE_KEY_BYTES 24

struct ch_quic_table_key {
    uint8_t bytes[CH_QUIC_TABLE_KEY_BYTES];
};

struct ch_quic_table_entry {
    struct ch_quic_table_key key;
    uint32_t value;
    uint32_t used;
};

struct ch_quic_table {
    uint8_t secret[16];
    struct ch_quic_table_entry *entries;
    size_t mask, count;
};

/* Room for `count_max` keys. CH_ERR_NO_MEMORY. */
CH_MUST_CHECK ch_err ch_quic_table_open(struct ch_quic_table *table, size_t count_max);
void ch_quic_table_close(struct ch_quic_table *table);

/* The number of a key, to read or change, until the next put or remove; NULL: not there. */
uint32_t *ch_quic_table_find(const struct ch_quic_table *table, const struct ch_quic_table_key *key);
/* False: the table is full. The key must not be there yet. */
CH_MUST_CHECK bool ch_quic_table_put(struct ch_quic_table *table, const struct ch_quic_table_key *key, uint32_t value);
/* Nothing happens where it isn't. */
void ch_quic_table_remove(struct ch_quic_table *table, const struct ch_quic_table_key *key);

#endif
