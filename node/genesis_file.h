/* node/genesis_file.h - a chain's beginning as text for people, from which `chappe init` makes the canonical bytes.
 *
 *   name: demo
 *   start_ms: 1760000000000        # Unix time; left out: now
 *   require_relation: true
 *   registrars: [64 hexadecimal digits, ...]
 *   validators:
 *     - key: 64 hexadecimal digits
 *       stake: 1
 *       address: "192.0.2.1:4740"
 *   limits: {window_back_ms: 120000, ...}      # the names of struct ch_genesis_limits
 *   params: {leaders_per_round: 2, ...}        # the names of struct ch_genesis_params
 *
 * What is left out has the default of wire/genesis.h for that many validators (for one, where none is named).
 * Errors: as node/yaml.h. Thread: no state.
 */
#ifndef CHAPPE_NODE_GENESIS_FILE_H
#define CHAPPE_NODE_GENESIS_FILE_H

#include "wire/genesis.h"

/* The genesis is untouched on failure, and `message` has one line for people. */
CH_MUST_CHECK ch_err ch_genesis_file_parse(const char *name, const uint8_t *bytes, size_t length,
                                           struct ch_genesis *genesis, char *message, size_t message_bytes);
CH_MUST_CHECK ch_err ch_genesis_file_load(const char *path, struct ch_genesis *genesis, char *message,
                                          size_t message_bytes);
/* Validators and registrars with keys of small order, for which anybody can sign: CH_ERR_INVALID, and which. The
 * canonical bytes of a genesis say nothing about it. */
CH_MUST_CHECK ch_err ch_genesis_check_keys(const struct ch_genesis *genesis, char *message, size_t message_bytes);

#endif
