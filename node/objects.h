/* node/objects.h - objects over a committee of many: the spread machine (node/spread.h) bound to the object store, to
 * the other validators, and to those who ask.
 *
 * What:    answers PUT_OBJECT once n-f validators have the block, GET_OBJECT wherever the block lies, HAS_OBJECT when
 *          all of a tree is known to be stored. Answers the other validators. Restores what is missing here.
 * Thread:  serve's. Never blocks but for reads of the disk. Memory: the machine's, and
 *          CH_REQUEST_POOL_COUNT requests that wait.
 */
#ifndef CHAPPE_NODE_OBJECTS_H
#define CHAPPE_NODE_OBJECTS_H

#include "node/keeper.h"

struct ch_objects;

/* `reader` and `keeper` are serve's. For a committee of more than one. */
CH_MUST_CHECK ch_err ch_objects_open(struct ch_node *node, struct ch_object_reader *reader, struct ch_keeper *keeper,
                                     struct ch_objects **out);
void ch_objects_close(struct ch_objects *objects);

/* Takes a request with a CID and answers it in the end; a put is this account's, and its block is checked. */
void ch_objects_put(struct ch_objects *objects, struct ch_request *request, uint64_t account);
void ch_objects_get(struct ch_objects *objects, struct ch_request *request);
void ch_objects_has(struct ch_objects *objects, struct ch_request *request);

/* The object that an applied message names is kept. False: not now, later again. */
CH_MUST_CHECK bool ch_objects_name(struct ch_objects *objects, const struct ch_tx *tx);

/* A frame of another validator, which is freed. False: not now, it is offered again. */
CH_MUST_CHECK bool ch_objects_frame(struct ch_objects *objects, struct ch_request *parcel);

/* The object store's cookies of ours are odd. */
static inline bool ch_objects_is_cookie(uint64_t cookie)
{
    return cookie & 1;
}
void ch_objects_durable(struct ch_objects *objects, uint64_t cookie);

/* True when it did something; *puts: the store was given something. */
bool ch_objects_poll(struct ch_objects *objects, uint64_t now_ns, bool *puts);
uint64_t ch_objects_deadline_ns(const struct ch_objects *objects, uint64_t now_ns);

#endif
