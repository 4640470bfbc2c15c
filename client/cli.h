/* client/cli.h - the chat command line: what `chappe account`, `send`, `inbox` and so on do.
 *
 * The exit code says what class of thing happened; with --json, standard output says the rest.
 * Thread: one, the program's. Not: the commands of an operator (node/program).
 */
#ifndef CHAPPE_CLIENT_CLI_H
#define CHAPPE_CLIENT_CLI_H

#include <stdbool.h>

enum ch_cli_exit {
    CH_CLI_OK = 0,
    CH_CLI_REFUSED = 1,     /* by the chain, the node, or a registrar's review; the reason is named */
    CH_CLI_USAGE = 2,       /* the command line makes no sense */
    CH_CLI_UNREACHABLE = 3, /* no node answers, or what answers isn't this chain's */
    CH_CLI_KEY = 4,         /* key file, passphrase or profile missing, wrong or not closed to others */
    CH_CLI_UNREADABLE = 5,  /* a message can't be opened, or isn't what its sender signed */
    CH_CLI_LOCAL = 6,       /* this machine: a file, the disk, memory */
};

/* True when `word` is the first word of one of these commands. */
bool ch_cli_knows(const char *word);
/* Runs argv[1..]; argv[0] is the program's name. Returns the exit code. */
int ch_cli_main(int argc, char **argv);

#endif
