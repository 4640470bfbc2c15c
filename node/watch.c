#include "node/watch.h"

#include <stdlib.h>

#define BUCKETS CH_WATCHES_MAX

static uint32_t bucket_of(const uint8_t *account)
{
    return ch_load32(account) % BUCKETS; /* keys of registered accounts: making many in one bucket gains nothing but this list */
}

ch_err ch_watches_open(struct ch_watches *table)
{
    *table = (struct ch_watches){.free = 0};
    table->watches = calloc(CH_WATCHES_MAX, sizeof *table->watches);
    table->buckets = malloc(BUCKETS * sizeof *table->buckets);
    if (!table->watches || !table->buckets) {
        ch_watches_close(table);
        return CH_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < BUCKETS; i++)
        table->buckets[i] = -1;
    for (int32_t i = 0; i < CH_WATCHES_MAX; i++)
        table->watches[i].next = i + 1 < CH_WATCHES_MAX ? i + 1 : -1;
    return CH_OK;
}

void ch_watches_close(struct ch_watches *table)
{
    free(table->watches);
    free(table->buckets);
    *table = (struct ch_watches){.free = -1};
}

void ch_watches_remove(struct ch_watches *table, struct ch_watch *watch)
{
    int32_t index = (int32_t)(watch - table->watches);
    int32_t *link = &table->buckets[bucket_of(watch->account)];
    while (*link != index)
        link = &table->watches[*link].next;
    *link = watch->next;
    table->due -= watch->due;
    watch->connection = 0;
    watch->next = table->free;
    table->free = index;
    table->used--;
}

struct ch_watch *ch_watches_add(struct ch_watches *table, uint64_t connection, uint64_t request,
                                const uint8_t account[CH_KEY_BYTES], uint64_t from_sequence)
{
    struct ch_watch *oldest = NULL;
    uint32_t count = 0;
    for (struct ch_watch *w = ch_watches_of(table, account, NULL); w; w = ch_watches_of(table, account, w)) {
        oldest = w; /* new ones go to the front of the list */
        count++;
    }
    if (count >= CH_WATCHES_OF_ONE_MAX)
        ch_watches_remove(table, oldest);
    if (table->free < 0) {
        table->hand = (table->hand + 1) % CH_WATCHES_MAX;
        ch_watches_remove(table, &table->watches[table->hand]);
    }
    int32_t index = table->free;
    struct ch_watch *watch = &table->watches[index];
    table->free = watch->next;
    *watch = (struct ch_watch){.connection = connection, .request = request, .next_sequence = from_sequence, .due = true};
    memcpy(watch->account, account, CH_KEY_BYTES);
    int32_t *bucket = &table->buckets[bucket_of(account)];
    watch->next = *bucket;
    *bucket = index;
    table->used++;
    table->due++;
    return watch;
}

struct ch_watch *ch_watches_find(struct ch_watches *table, uint64_t connection, uint64_t request)
{
    for (uint32_t i = 0; i < CH_WATCHES_MAX; i++)
        if (table->watches[i].connection == connection && table->watches[i].request == request)
            return &table->watches[i];
    return NULL;
}

struct ch_watch *ch_watches_of(struct ch_watches *table, const uint8_t account[CH_KEY_BYTES],
                               const struct ch_watch *previous)
{
    int32_t at = previous ? previous->next : table->buckets[bucket_of(account)];
    for (; at >= 0; at = table->watches[at].next)
        if (memcmp(table->watches[at].account, account, CH_KEY_BYTES) == 0)
            return &table->watches[at];
    return NULL;
}
