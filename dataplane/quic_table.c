#include "dataplane/quic_table_impl.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

ch_err ch_quic_table_open(struct ch_quic_table *table, size_t count_max)
{
    size_t size = 16;
    while (size < 2 * count_max)
        size *= 2;
    struct ch_quic_table_entry *entries = calloc(size, sizeof *entries);
    if (!entries)
        return CH_ERR_NO_MEMORY;
    *table = (struct ch_quic_table){.entries = entries, .mask = size - 1};
    randombytes_buf(table->secret, sizeof table->secret);
    return CH_OK;
}

void ch_quic_table_close(struct ch_quic_table *table)
{
    free(table->entries);
    *table = (struct ch_quic_table){0};
}

static size_t home(const struct ch_quic_table *table, const struct ch_quic_table_key *key)
{
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, key->bytes, sizeof key->bytes, table->secret);
    return (size_t)hash & table->mask;
}

/* Where the key is, or the free entry where it would be. */
static size_t seek(const struct ch_quic_table *table, const struct ch_quic_table_key *key)
{
    size_t at = home(table, key);
    while (table->entries[at].used && memcmp(&table->entries[at].key, key, sizeof *key) != 0)
        at = (at + 1) & table->mask;
    return at;
}

uint32_t *ch_quic_table_find(const struct ch_quic_table *table, const struct ch_quic_table_key *key)
{
    struct ch_quic_table_entry *entry = &table->entries[seek(table, key)];
    return entry->used ? &entry->value : NULL;
}

bool ch_quic_table_put(struct ch_quic_table *table, const struct ch_quic_table_key *key, uint32_t value)
{
    if (table->count > table->mask / 2)
        return false;
    struct ch_quic_table_entry *entry = &table->entries[seek(table, key)];
    CH_ASSERT(!entry->used);
    *entry = (struct ch_quic_table_entry){*key, value, 1};
    table->count++;
    return true;
}

void ch_quic_table_remove(struct ch_quic_table *table, const struct ch_quic_table_key *key)
{
    size_t hole = seek(table, key);
    if (!table->entries[hole].used)
        return;
    table->entries[hole].used = 0;
    table->count--;
    /* Move back what stands behind the hole and would no longer be found (Knuth 6.4, algorithm R). */
    for (size_t at = (hole + 1) & table->mask; table->entries[at].used; at = (at + 1) & table->mask) {
        size_t from = home(table, &table->entries[at].key);
        if (((at - from) & table->mask) < ((at - hole) & table->mask))
            continue;
        table->entries[hole] = table->entries[at];
        table->entries[at].used = 0;
        hole = at;
    }
}
