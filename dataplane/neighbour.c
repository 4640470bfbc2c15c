#include "dataplane/neighbour.h"

#include "base/bytes.h"

void ch_neighbours_init(struct ch_neighbours *n, uint64_t key)
{
    memset(n, 0, sizeof *n);
    n->key = key;
    for (uint16_t i = 0; i < CH_NEIGHBOUR_WAITING_MAX; i++)
        n->waiting[i].next = i + 1 < CH_NEIGHBOUR_WAITING_MAX ? (uint16_t)(i + 1) : CH_NEIGHBOUR_NONE;
}

/* Two keyed multiplications, folded: the set changes with the key, and only hosts on our own link reach this table. */
static struct ch_neighbour *set_of(struct ch_neighbours *n, const struct ch_address *address)
{
    unsigned __int128 m = (unsigned __int128)(ch_load64(address->ip) ^ n->key) * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t h = (uint64_t)m ^ (uint64_t)(m >> 64);
    m = (unsigned __int128)(ch_load64(address->ip + 8) ^ h ^ (n->key << 32 | n->key >> 32)) *
        UINT64_C(0xd1342543de82ef95);
    h = (uint64_t)m ^ (uint64_t)(m >> 64);
    return &n->entries[h % CH_NEIGHBOUR_SETS * CH_NEIGHBOUR_WAYS];
}

struct ch_neighbour *ch_neighbour_find(struct ch_neighbours *n, const struct ch_address *address)
{
    struct ch_neighbour *set = set_of(n, address);
    for (size_t i = 0; i < CH_NEIGHBOUR_WAYS; i++)
        if (set[i].state != CH_NEIGHBOUR_FREE && ch_address_same_ip(&set[i].address, address))
            return &set[i];
    return NULL;
}

struct ch_neighbour *ch_neighbour_make(struct ch_neighbours *n, const struct ch_address *address, bool may_replace,
                                       uint64_t now_ns)
{
    struct ch_neighbour *entry = ch_neighbour_find(n, address), *set = set_of(n, address);
    if (entry)
        return entry;
    for (size_t i = 0; i < CH_NEIGHBOUR_WAYS; i++) {
        struct ch_neighbour *e = &set[i];
        if (e->state == CH_NEIGHBOUR_FREE) {
            entry = e;
            break;
        }
        bool takes = e->state == CH_NEIGHBOUR_KNOWN && (may_replace || !ch_neighbour_usable(e, now_ns));
        if (takes && (!entry || e->confirmed_ns < entry->confirmed_ns))
            entry = e;
    }
    if (!entry)
        return NULL;
    *entry = (struct ch_neighbour){.address = *address, .first = CH_NEIGHBOUR_NONE, .last = CH_NEIGHBOUR_NONE};
    entry->address.port = 0;
    return entry;
}

void ch_neighbour_asked(struct ch_neighbours *n, struct ch_neighbour *entry, uint64_t now_ns)
{
    entry->asked_ns = now_ns;
    if (ch_neighbour_usable(entry, now_ns))
        return; /* a question beside the use: the timeout decides */
    if (entry->state != CH_NEIGHBOUR_ASKED) {
        entry->state = CH_NEIGHBOUR_ASKED;
        entry->tries = 0;
        n->asked_count++;
    }
    entry->tries++;
}

void ch_neighbour_confirm(struct ch_neighbours *n, struct ch_neighbour *entry, const uint8_t mac[6], uint64_t now_ns)
{
    n->asked_count -= entry->state == CH_NEIGHBOUR_ASKED;
    entry->state = CH_NEIGHBOUR_KNOWN;
    memcpy(entry->mac, mac, 6);
    entry->confirmed_ns = now_ns;
}

bool ch_neighbour_wait(struct ch_neighbours *n, struct ch_neighbour *entry, void *handle)
{
    uint16_t place = n->free;
    if (place == CH_NEIGHBOUR_NONE || entry->waiting >= CH_NEIGHBOUR_WAITING_ONE)
        return false;
    n->free = n->waiting[place].next;
    n->waiting[place].handle = handle;
    n->waiting[place].next = CH_NEIGHBOUR_NONE;
    if (entry->waiting == 0)
        entry->first = place;
    else
        n->waiting[entry->last].next = place;
    entry->last = place;
    entry->waiting++;
    n->waiting_count++;
    return true;
}

void *ch_neighbour_next(struct ch_neighbours *n, struct ch_neighbour *entry)
{
    if (entry->waiting == 0)
        return NULL;
    uint16_t place = entry->first;
    void *handle = n->waiting[place].handle;
    entry->first = n->waiting[place].next;
    entry->waiting--;
    n->waiting[place].next = n->free;
    n->free = place;
    n->waiting_count--;
    return handle;
}

struct ch_neighbour *ch_neighbour_due(struct ch_neighbours *n, size_t *at, uint64_t now_ns)
{
    for (; n->asked_count > 0 && *at < CH_NEIGHBOUR_ENTRIES; ++*at) {
        struct ch_neighbour *e = &n->entries[*at];
        if (e->state == CH_NEIGHBOUR_ASKED && now_ns - e->asked_ns >= CH_NEIGHBOUR_RETRY_NS) {
            ++*at;
            return e;
        }
    }
    return NULL;
}

void ch_neighbour_forget(struct ch_neighbours *n, struct ch_neighbour *entry)
{
    CH_ASSERT(entry->waiting == 0);
    n->asked_count -= entry->state == CH_NEIGHBOUR_ASKED;
    entry->state = CH_NEIGHBOUR_FREE;
}
