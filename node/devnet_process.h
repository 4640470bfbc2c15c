/* node/devnet_process.h - processes that outlive the command which started them, and are found again through a file.
 *
 * What:    a pid file names a process by its number, its start time and the machine's boot: a number that another
 *          process has by now is never taken for it. Signals go through a pidfd, so they can't hit another one either.
 * Thread:  one, the program's. Memory: none kept; a found process holds a descriptor until ch_process_forget.
 */
#ifndef CHAPPE_NODE_DEVNET_PROCESS_H
#define CHAPPE_NODE_DEVNET_PROCESS_H

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct ch_process {
    pid_t pid;
    int fd; /* pidfd */
};

/* The process that the file names, if it still runs; false: nobody. */
bool ch_process_find(const char *pid_file, struct ch_process *out);
void ch_process_forget(struct ch_process *process);
/* Waits for its end for at most `patience_ms`; true: it has ended. */
bool ch_process_ended(const struct ch_process *process, int patience_ms);
CH_MUST_CHECK ch_err ch_process_signal(const struct ch_process *process, int signal);

/* fork(), with a child in a session of its own: standard input empty, output appended to `log`, every other descriptor
 * closed but `keep` (-1: none), which becomes 3. *child: 0 in the child, which must end in exec or _exit; in the parent
 * its number, which the file then names. */
CH_MUST_CHECK ch_err ch_process_fork(const char *pid_file, const char *log, int keep, pid_t *child);

#endif
