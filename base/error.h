/* base/error.h - the three kinds of failure, and the words for two of them.
 *
 * Our bug:   CH_ASSERT, always on; it aborts. Bytes from outside never reach one.
 * The world: ch_err, which must be checked (disk full, link down, wrong key file).
 * A peer:    a verdict enum of its own layer (wire/status.h), counted by reason.
 */
#ifndef CHAPPE_BASE_ERROR_H
#define CHAPPE_BASE_ERROR_H

#include <stdint.h>

/* name, number (stable: it is a program's exit detail and a metric label), text for people */
#define CH_ERR_LIST(X)                                                                                                 \
    X(OK, 0, "no error")                                                                                               \
    X(NO_MEMORY, 1, "out of memory")                                                                                   \
    X(INVALID, 2, "invalid argument or setting")                                                                       \
    X(NOT_FOUND, 3, "not found")                                                                                       \
    X(EXISTS, 4, "exists already")                                                                                     \
    X(IO, 5, "input/output error")                                                                                     \
    X(NO_SPACE, 6, "no space left")                                                                                    \
    X(DENIED, 7, "permission denied")                                                                                  \
    X(CORRUPT, 8, "stored bytes are damaged")                                                                          \
    X(FULL, 9, "a bounded queue or table is full")                                                                     \
    X(AGAIN, 10, "nothing to do yet, try again")                                                                       \
    X(CLOSED, 11, "closed by the other side")                                                                          \
    X(TIMEOUT, 12, "timed out")                                                                                        \
    X(UNSUPPORTED, 13, "not supported on this machine")                                                                \
    X(WRONG_CHAIN, 14, "belongs to another chain")                                                                     \
    X(BAD_PASSPHRASE, 15, "wrong passphrase or damaged key file")                                                      \
    X(READABLE_BY_OTHERS, 16, "the key file can be read by others (chmod 600 it)")                                     \
    X(LOG_DAMAGED, 17, "the log lost what was promised")                                                               \
    X(REFUSED, 18, "refused by the peer")                                                                              \
    X(PROTOCOL, 19, "the peer broke the protocol")                                                                     \
    X(BUSY, 20, "in use by another process")                                                                           \
    X(PRUNED, 21, "it was here and is no longer kept")                                                                 \
    X(HALTED, 22, "consensus has halted: a person must look")                                                          \
    X(POOL_FULL, 23, "the storage pool is full")

typedef enum {
#define X(name, number, text) CH_ERR_##name = number,
    CH_ERR_LIST(X)
#undef X
} ch_err;
#define CH_OK CH_ERR_OK
#define CH_MUST_CHECK __attribute__((warn_unused_result))

/* The name ("NO_SPACE") and the sentence of an error; "UNKNOWN" for a number outside the list. */
const char *ch_err_name(ch_err err);
const char *ch_err_text(ch_err err);

_Noreturn void ch_assert_failed(const char *condition, const char *file, int line);

#define CH_ASSERT(condition)                                                                                           \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0))                                                                         \
            ch_assert_failed(#condition, __FILE__, __LINE__);                                                          \
    } while (0)

#endif
