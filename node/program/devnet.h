/* node/program/devnet.h - the commands of `chappe devnet`; node/devnet.h has what they do. */
#ifndef CHAPPE_NODE_PROGRAM_DEVNET_H
#define CHAPPE_NODE_PROGRAM_DEVNET_H

/* argv[0] is "devnet". Returns the exit code (client/cli.h). */
int ch_command_devnet(int argc, char **argv);

#endif
