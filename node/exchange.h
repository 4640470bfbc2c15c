/* node/exchange.h - the consensus machine's messages and payloads, between order and the links (node/links.h).
 *
 * What:    turns messages into events: checks their form and signatures, gathers payloads. Turns the machine's sending
 *          into messages. Answers what only the log can: looks up where it lies, and lets serve read it there.
 * Thread:  the order stage's. Memory: tables at open; a payload that came is on the heap until it is delivered, at most
 *          what the machine expects, and CH_EXCHANGE_EARLY messages of each validator that came before they were
 *          expected.
 */
#ifndef CHAPPE_NODE_EXCHANGE_H
#define CHAPPE_NODE_EXCHANGE_H

#include "node/handles.h"
#include "node/node.h"

#define CH_EXCHANGE_EARLY 4

struct ch_exchange;

/* `handles` gets the payloads that come; it outlives the exchange. `log_is_new`: nothing of an earlier log is there. */
CH_MUST_CHECK ch_err ch_exchange_open(struct ch_node *node, struct ch_handles *handles, bool log_is_new,
                                      struct ch_exchange **out);
void ch_exchange_close(struct ch_exchange *x);

/* The next event, or false. What it points to holds until the next call: the machine must have taken it by then. */
bool ch_exchange_next(struct ch_exchange *x, struct ch_core_event *event);

/* What the machine asks for: SEND, SEND_PAYLOAD, EXPECT_PAYLOAD, FORGET_PAYLOAD, SERVE_BLOCKS, SERVE_COMMITS. */
void ch_exchange_act(struct ch_exchange *x, const struct ch_core_action *action);

/* The machine says that this validator sent what no honest one sends: it counts as a message that does not hold. */
void ch_exchange_misbehaved(struct ch_exchange *x, uint16_t peer);

/* A record is in the log, `position` is its body's. */
void ch_exchange_logged(struct ch_exchange *x, uint8_t type, struct ch_bytes head, size_t payload_length,
                        uint64_t position);
/* The log was replayed up to `end`; it begins at `first` now (node/block_index.h). */
void ch_exchange_log_opened(struct ch_exchange *x, uint64_t end);
void ch_exchange_log_cut(struct ch_exchange *x, uint64_t first);

#endif
