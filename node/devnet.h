/* node/devnet.h - a whole chain on one machine, for trying, showing and testing: `chappe devnet`.
 *
 * What:    a folder with one folder for each validator (1, 2, ...: what chappe init makes, around one genesis), and the
 *          processes that run in them, which outlive the command. I.pid and I.log lie beside folder I, devnet.json says
 *          what it is, switch/ is that of node/devnet_switch.h.
 *          Through sockets validator i is at 127.0.0.1:PORT+i, on hosts of its own at 10.78.0.i:PORT.
 * Not:     no keys with a passphrase, no settings: who wants others edits I/chappe.yaml between stop and start.
 * Thread:  one, the program's. Errors: `why` gets one line for people.
 */
#ifndef CHAPPE_NODE_DEVNET_H
#define CHAPPE_NODE_DEVNET_H

#include "node/devnet_switch.h"
#include "node/node.h"

#include <jansson.h>

#define CH_DEVNET_VALIDATORS_MAX (CH_SWITCH_HOSTS_MAX - 1)
#define CH_DEVNET_FOLDER_BYTES_MAX 90 /* the control sockets' addresses have 107 */

struct ch_devnet {
    char folder[CH_DEVNET_FOLDER_BYTES_MAX + 1]; /* absolute */
    uint32_t validators;                         /* numbered from 1 */
    uint16_t port;
    bool netns; /* hosts of their own, DPDK, a switch; else sockets */
    int lock;   /* held while the devnet is changed; -1: not */
};

/* Makes the folder with all keys, genesis and settings. CH_ERR_EXISTS: something else is there. */
CH_MUST_CHECK ch_err ch_devnet_create(const char *folder, uint32_t validators, uint16_t port, bool netns,
                                      bool require_relation, struct ch_devnet *out, char why[CH_NODE_WHY_BYTES]);
/* CH_ERR_NOT_FOUND: no devnet there. `change`: takes the lock; CH_ERR_BUSY: another command holds it. */
CH_MUST_CHECK ch_err ch_devnet_open(const char *folder, bool change, struct ch_devnet *out,
                                    char why[CH_NODE_WHY_BYTES]);
void ch_devnet_close(struct ch_devnet *d);

/* Starts what does not run yet, switch first, and waits until all are ready. On failure what started runs on. */
CH_MUST_CHECK ch_err ch_devnet_start(const struct ch_devnet *d, char why[CH_NODE_WHY_BYTES]);
/* Stops all, switch last. */
CH_MUST_CHECK ch_err ch_devnet_stop(const struct ch_devnet *d, char why[CH_NODE_WHY_BYTES]);

/* One validator; i in 1..validators. Starting waits until it answers on its control socket. CH_ERR_EXISTS: it runs
 * already; CH_ERR_NOT_FOUND: it doesn't. `options`: further words for chappe run, NULL at the end. */
CH_MUST_CHECK ch_err ch_devnet_start_one(const struct ch_devnet *d, uint32_t i, const char *const *options,
                                         char why[CH_NODE_WHY_BYTES]);
CH_MUST_CHECK ch_err ch_devnet_stop_one(const struct ch_devnet *d, uint32_t i, char why[CH_NODE_WHY_BYTES]);
CH_MUST_CHECK ch_err ch_devnet_kill_one(const struct ch_devnet *d, uint32_t i, char why[CH_NODE_WHY_BYTES]);

/* {"folder", "network", "validators": [{"validator", "address", "folder", "alive", "pid", "status"}], "links": [...]};
 * "status" is what the validator answers, or null. To be released by the caller. */
json_t *ch_devnet_status(const struct ch_devnet *d);
/* Asks the switch, in the words of node/devnet_switch.h. */
CH_MUST_CHECK ch_err ch_devnet_ask_switch(const struct ch_devnet *d, const char *request, char why[CH_NODE_WHY_BYTES]);
/* Moves this process to where the people are, from where the validators' addresses can be reached. */
CH_MUST_CHECK ch_err ch_devnet_enter(const struct ch_devnet *d, char why[CH_NODE_WHY_BYTES]);

#endif
