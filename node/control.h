/* node/control.h - talking to a running validator on its machine: the socket "control" in its folder, and HTTP.
 *
 * What:    one request a connection on the UNIX socket (mode 0600): "status" or "stop", answered by one line of JSON.
 *          /metrics (OpenMetrics text) and /health on 127.0.0.1 where the configuration gives a port.
 * Thread:  the main thread; HTTP answers in a thread of libmicrohttpd's, from counters alone.
 */
#ifndef CHAPPE_NODE_CONTROL_H
#define CHAPPE_NODE_CONTROL_H

#include "node/node.h"

struct ch_control;
CH_MUST_CHECK ch_err ch_control_open(struct ch_node *node, struct ch_control **out, char why[CH_NODE_WHY_BYTES]);
/* Readable when somebody asks. */
int ch_control_fd(const struct ch_control *control);
/* Answers who waits; true: "stop" was asked for. */
bool ch_control_answer(struct ch_control *control);
void ch_control_close(struct ch_control *control);

/* The asking side: sends `request`, gives the answer in a malloc'd string. CH_ERR_NOT_FOUND: nobody runs there. */
CH_MUST_CHECK ch_err ch_control_ask(const char *folder, const char *request, char **answer);

#endif
