/* node/watch.h - who watches which inbox: a bounded table, found by account.
 *
 * Memory: CH_WATCHES_MAX entries at open; the oldest watch gives way to a new one. Thread: serve's.
 */
#ifndef CHAPPE_NODE_WATCH_H
#define CHAPPE_NODE_WATCH_H

#include "wire/frame.h"

#define CH_WATCHES_MAX         65536
#define CH_WATCHES_OF_ONE_MAX  8 /* of one account; a ninth replaces the first */

struct ch_watch {
    uint64_t connection; /* 0: free */
    uint64_t request;
    uint8_t account[CH_KEY_BYTES];
    uint64_t next_sequence; /* the first that wasn't sent */
    bool due;               /* there may be something to send */
    int32_t next;           /* in its bucket, or among the free; -1: last */
};

struct ch_watches {
    struct ch_watch *watches;
    int32_t *buckets;
    int32_t free;
    uint32_t used;
    uint32_t due; /* of them */
    uint32_t hand; /* where the next one to give way is looked for */
};

CH_MUST_CHECK ch_err ch_watches_open(struct ch_watches *table);
void ch_watches_close(struct ch_watches *table);
struct ch_watch *ch_watches_add(struct ch_watches *table, uint64_t connection, uint64_t request,
                                const uint8_t account[CH_KEY_BYTES], uint64_t from_sequence);
void ch_watches_remove(struct ch_watches *table, struct ch_watch *watch);
struct ch_watch *ch_watches_find(struct ch_watches *table, uint64_t connection, uint64_t request);
/* The next watch of this account after `previous` (NULL: the first); NULL at the end. */
struct ch_watch *ch_watches_of(struct ch_watches *table, const uint8_t account[CH_KEY_BYTES],
                               const struct ch_watch *previous);

#endif
