/* wire/status.h - what became of a request: one list for ledger, node, library and documentation.
 *
 * Numbers are given once and for ever. CH_STATUS_OK is the only good one; every other names why it was refused.
 */
#ifndef CHAPPE_WIRE_STATUS_H
#define CHAPPE_WIRE_STATUS_H

#include <stdint.h>

#define CH_STATUS_LIST(X)                                                                                              \
    X(OK, 0, "done")                                                                                                   \
    /* every transaction */                                                                                            \
    X(MALFORMED, 1, "the bytes are not a well-formed transaction or request")                                          \
    X(BAD_SIGNATURE, 2, "the sender's signature does not hold")                                                        \
    X(TOO_OLD, 3, "the timestamp is older than the window allows")                                                     \
    X(TOO_EARLY, 4, "the timestamp is further ahead than the window allows")                                           \
    X(DUPLICATE, 5, "this transaction was applied before")                                                             \
    X(WINDOW_FULL, 6, "the chain's replay window has no room; try again in a moment")                                  \
    X(NO_SUCH_ACCOUNT, 7, "the sender has no account on this chain")                                                   \
    X(REVOKED, 8, "the sender's account is revoked")                                                                   \
    /* registration */                                                                                                 \
    X(BAD_HANDLE, 16, "a handle is 3 to 32 of a-z 0-9 . _ - and begins with a letter")                                 \
    X(WEAK_KEY, 17, "the key is not canonical or of small order")                                                      \
    X(NOT_REGISTRAR, 18, "the approval names no registrar of this chain")                                              \
    X(BAD_APPROVAL, 19, "the registrar's signature does not hold")                                                     \
    X(APPROVAL_EXPIRED, 20, "the registrar's approval has expired")                                                    \
    X(KEY_TAKEN, 21, "the key is registered already")                                                                  \
    X(HANDLE_TAKEN, 22, "the handle is taken")                                                                         \
    /* relations and messages */                                                                                       \
    X(NO_SUCH_PEER, 32, "the other one has no account on this chain")                                                  \
    X(PEER_REVOKED, 33, "the other one's account is revoked")                                                          \
    X(SELF, 34, "the other one is the sender")                                                                         \
    X(NOT_ALLOWED, 35, "the sender may not do this")                                                                   \
    X(NO_REQUEST, 36, "there is no open request to answer")                                                            \
    X(ALREADY_REQUESTED, 37, "the sender has asked already")                                                           \
    X(REFUSED_RECENTLY, 38, "the other one refused a short time ago")                                                  \
    X(ALREADY_BOUND, 39, "the two are bound already")                                                                  \
    X(NOT_BOUND, 40, "the two are not bound")                                                                          \
    X(UNBINDING, 41, "one of the two has asked to unbind")                                                             \
    X(NOT_UNBINDING, 42, "nobody has asked to unbind")                                                                 \
    X(TOO_MANY_REQUESTS, 43, "the sender has too many open requests")                                                  \
    /* admission: this node, now; another node or time may say otherwise */                                            \
    X(RATE_LIMITED, 64, "too fast; slow down")                                                                         \
    X(NO_SUCH_OBJECT, 65, "the store does not have the object")                                                        \
    X(QUOTA, 66, "the object quota is used up")                                                                        \
    X(DISK_FULL, 67, "the node's disk is nearly full; it takes no new work")                                           \
    X(OVERLOADED, 68, "the node's queue is full; try again")                                                           \
    X(STOPPING, 69, "the node is stopping")                                                                            \
    X(STORE_AWAY, 70, "the storage that the node keeps objects in does not answer; try again")                         \
    /* reading and the protocol */                                                                                     \
    X(NOT_FOUND, 80, "no such thing")                                                                                  \
    X(PRUNED, 81, "it was here and is no longer kept")                                                                 \
    X(NOT_PERMITTED, 82, "not yours to read")                                                                          \
    X(BAD_OBJECT, 83, "the bytes do not hash to the address")                                                          \
    X(UNKNOWN_FRAME, 84, "the node does not know this frame")                                                          \
    X(WRONG_CHAIN, 85, "the other side speaks for another chain")                                                      \
    X(WRONG_VERSION, 86, "the other side speaks another protocol version")

enum ch_status {
#define X(name, number, text) CH_STATUS_##name = number,
    CH_STATUS_LIST(X)
#undef X
        CH_STATUS_NUMBERS_MAX = 96
};

/* "BAD_HANDLE" and its sentence; "UNKNOWN" for a number outside the list. */
const char *ch_status_name(uint16_t status);
const char *ch_status_text(uint16_t status);

#endif
