/* dataplane/neighbour.h - which Ethernet address an IP address on the link has, and what waits for the answer.
 *
 * What:    a cache of fixed size with timeouts, and a bounded store of datagrams (handles) that wait for a neighbour.
 *          The asking itself (ARP, neighbour solicitation) is the caller's: ch_neighbour_due says whom to ask.
 * Not:     no bytes of any protocol.
 * Thread:  one owner. Memory: inside the struct. Time: comes in.
 * Limits:  an entry's set is chosen by a keyed hash; the oldest of a full set makes room, expired ones first.
 */
#ifndef CHAPPE_DATAPLANE_NEIGHBOUR_H
#define CHAPPE_DATAPLANE_NEIGHBOUR_H

#include "dataplane/address.h"

#define CH_NEIGHBOUR_SETS        256
#define CH_NEIGHBOUR_WAYS        4
#define CH_NEIGHBOUR_ENTRIES     (CH_NEIGHBOUR_SETS * CH_NEIGHBOUR_WAYS)
#define CH_NEIGHBOUR_WAITING_MAX 256                   /* datagrams that wait in all */
#define CH_NEIGHBOUR_WAITING_ONE 16                    /* for one neighbour */
#define CH_NEIGHBOUR_FRESH_NS    UINT64_C(30000000000) /* asked again when used after this */
#define CH_NEIGHBOUR_VALID_NS    UINT64_C(60000000000) /* not used after this without an answer */
#define CH_NEIGHBOUR_RETRY_NS    UINT64_C(1000000000)
#define CH_NEIGHBOUR_TRIES       3 /* unanswered: what waits is dropped */

enum ch_neighbour_state { CH_NEIGHBOUR_FREE, CH_NEIGHBOUR_ASKED, CH_NEIGHBOUR_KNOWN };

struct ch_neighbour {
    struct ch_address address; /* port 0 */
    enum ch_neighbour_state state;
    uint8_t mac[6];
    uint8_t tries;
    uint8_t waiting;
    uint16_t first, last; /* of those that wait, in order */
    uint16_t local;       /* whose address asks */
    uint64_t confirmed_ns, asked_ns;
};

struct ch_neighbours {
    uint64_t key;
    struct ch_neighbour entries[CH_NEIGHBOUR_ENTRIES];
    struct {
        void *handle;
        uint16_t next;
    } waiting[CH_NEIGHBOUR_WAITING_MAX];
    uint16_t free; /* list of unused places in waiting */
    uint16_t waiting_count, asked_count;
};

#define CH_NEIGHBOUR_NONE UINT16_MAX

/* `key`: random, so that nobody can choose addresses that fall into one set. */
void ch_neighbours_init(struct ch_neighbours *n, uint64_t key);

/* The entry of an address, or NULL. */
struct ch_neighbour *ch_neighbour_find(struct ch_neighbours *n, const struct ch_address *address);
/* The entry of an address, new if need be; NULL when its set is full of entries in use (asked for, or valid).
 * `may_replace`: a valid entry gives way, the one confirmed longest ago. A new entry is CH_NEIGHBOUR_FREE until the
 * caller asks or confirms. */
struct ch_neighbour *ch_neighbour_make(struct ch_neighbours *n, const struct ch_address *address, bool may_replace,
                                       uint64_t now_ns);
/* The caller asks now. */
void ch_neighbour_asked(struct ch_neighbours *n, struct ch_neighbour *entry, uint64_t now_ns);
/* The neighbour said where it is. */
void ch_neighbour_confirm(struct ch_neighbours *n, struct ch_neighbour *entry, const uint8_t mac[6], uint64_t now_ns);
static inline bool ch_neighbour_usable(const struct ch_neighbour *entry, uint64_t now_ns)
{
    return entry->state == CH_NEIGHBOUR_KNOWN && now_ns - entry->confirmed_ns < CH_NEIGHBOUR_VALID_NS;
}
/* Whether a usable entry should be asked again now: older than fresh, and the last question is a while ago. */
static inline bool ch_neighbour_stale(const struct ch_neighbour *entry, uint64_t now_ns)
{
    return now_ns - entry->confirmed_ns >= CH_NEIGHBOUR_FRESH_NS && now_ns - entry->asked_ns >= CH_NEIGHBOUR_RETRY_NS;
}

/* Keeps a handle until the neighbour answers; false when too many wait. */
bool ch_neighbour_wait(struct ch_neighbours *n, struct ch_neighbour *entry, void *handle);
/* Takes the next handle that waits for an entry, in order; NULL when there is none. */
void *ch_neighbour_next(struct ch_neighbours *n, struct ch_neighbour *entry);

/* The next entry, from *at on, that was asked and is due for another try, or has had all of them (tries ==
 * CH_NEIGHBOUR_TRIES: empty it by ch_neighbour_next, then ch_neighbour_forget). NULL when there is no more. */
struct ch_neighbour *ch_neighbour_due(struct ch_neighbours *n, size_t *at, uint64_t now_ns);
void ch_neighbour_forget(struct ch_neighbours *n, struct ch_neighbour *entry);

#endif
