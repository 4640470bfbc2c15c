/* tests/client/fake_node.h - a node as far as a client sees it: the peer protocol over a socket, a ledger of a few rows
 * in memory, and misbehaviour on demand. One thread of its own; flags are set by the test. */
#ifndef CHAPPE_TESTS_CLIENT_FAKE_NODE_H
#define CHAPPE_TESTS_CLIENT_FAKE_NODE_H

#include "crypto/sign.h"

#include <stdatomic.h>
#include <stdint.h>

struct fake_node;

/* What to do wrong, once for each count left. */
struct fake_faults {
    _Atomic int hang_up_before_final; /* a SUBMIT is applied, then the connection closed */
    _Atomic int silent;               /* any request is not answered */
    _Atomic int overloaded;           /* a PUT_OBJECT is refused */
    _Atomic int corrupt_object;       /* a GET_OBJECT gives a changed byte */
    _Atomic int corrupt_proof;        /* a signed receipt has a changed path */
    _Atomic int forge_record;         /* a record has a changed byte */
    _Atomic int hang_up_at_put;       /* the connection is closed when a block comes */
    _Atomic int refuse_status;        /* a SUBMIT is refused with this status, early */
    _Atomic int refuse_frame;         /* the same as a whole: its receipt names no transaction */
};

struct fake_node *fake_node_start(const uint8_t chain_id[32]);
/* For a chain whose genesis needs the node's key first; before anybody connects. */
void fake_node_set_chain(struct fake_node *node, const uint8_t chain_id[32]);
void fake_node_stop(struct fake_node *node);
const char *fake_node_address(const struct fake_node *node);
const uint8_t *fake_node_key(const struct fake_node *node);
struct fake_faults *fake_node_faults(struct fake_node *node);
/* How often a transaction was applied; how many blocks are stored, and how many came. */
unsigned fake_node_applied(const struct fake_node *node);
unsigned fake_node_blocks(const struct fake_node *node);
unsigned fake_node_puts(const struct fake_node *node);

#endif
