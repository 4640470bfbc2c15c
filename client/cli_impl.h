/* client/cli_impl.h - what the commands share: options, profile, connection, printing. */
#ifndef CHAPPE_CLIENT_CLI_IMPL_H
#define CHAPPE_CLIENT_CLI_IMPL_H

#include "base/hex.h"
#include "client/chat.h"
#include "client/cli.h"
#include "wire/genesis.h"

#include <jansson.h>
#include <limits.h>

/* name (its underscores are hyphens on the command line), what stands behind it (NULL: a switch), help */
#define CLI_OPTION_LIST(X)                                                                                             \
    X(home, "DIR", "profile folder (default: $CHAPPE_HOME, else ~/.chappe)")                                           \
    X(key, "FILE", "key file (default: account.key in the profile)")                                                   \
    X(genesis, "FILE", "the chain's genesis (default: chain.genesis in the profile)")                                  \
    X(node, "ADDRESS",                                                                                                 \
      "the one node to talk to, as 192.0.2.1:4740 (default: the profile's, then the genesis's validators)")            \
    X(node_key, "HEX", "the only key that node may show (default: any validator's of the genesis)")                    \
    X(passphrase_file, "FILE",                                                                                         \
      "file with the key file's passphrase (else $CHAPPE_PASSPHRASE_FILE, a systemd\n"                                 \
      "                            credential chappe-passphrase, or the terminal)")                                    \
    X(timeout, "SECONDS", "how long to wait for an answer (default 30)")                                               \
    X(json, NULL, "answer in JSON on standard output, one object a line")                                              \
    X(help, NULL, "this text")                                                                                         \
    X(plain, NULL, "no passphrase: the key file is protected by its mode alone (tests, devnets)")                      \
    X(yes, NULL, "don't ask")                                                                                          \
    X(request, "FILE", "the registration request; - is standard output or input")                                      \
    X(approval, "FILE", "the registrar's approval, or the JSON itself; - is standard input")                           \
    X(policy, "FILE", "what this registrar approves (YAML, see above)")                                                \
    X(out, "FILE", "where to write to; - is standard output")                                                          \
    X(as_registrar, "FILE", "sign with this registrar's key file instead of the account's")                            \
    X(attach, "FILE", "send this file")                                                                                \
    X(from, "N", "begin with message N of the inbox (they count 1, 2, 3 ...)")                                         \
    X(limit, "N", "at most N messages")                                                                                \
    X(quiet, "SECONDS", "end when nothing has come for so long (default: never)")                                      \
    X(force, NULL, "replace a file that exists")                                                                       \
    X(car, NULL, "as a CAR: all blocks in one file, each with its CID")

enum cli_option {
#define X(name, value, help) OPTION_##name,
    CLI_OPTION_LIST(X)
#undef X
        OPTION_COUNT
};
#define HAS(name) (1u << OPTION_##name)

struct cli;

struct cli_command {
    const char *name;     /* one or two words */
    const char *operands; /* as help shows them */
    const char *summary;
    const char *help; /* paragraphs; NULL: the summary says it */
    uint32_t options; /* besides home, json and help */
    int operands_min, operands_max;
    int (*run)(struct cli *cli, int operand_count, char **operands);
};

#define NAMES_MAX 256 /* senders remembered within one command */

struct cli {
    const char *program;
    const struct cli_command *command;
    const char *option[OPTION_COUNT]; /* NULL: not given; a switch: "" */
    char home[PATH_MAX];
    struct ch_genesis genesis;
    uint8_t chain_id[CH_HASH_BYTES];
    struct ch_account_keys account;
    struct ch_passphrase passphrase;
    uint8_t peer_keys[CH_VALIDATORS_MAX][32];
    struct ch_client *client;
    struct {
        uint8_t key[32];
        char handle[CH_HANDLE_BYTES_MAX + 1];
    } names[NAMES_MAX];
    unsigned name_count;
    bool bar_shown;
};

/* ---- saying (cli_print.c) ---- */

/* Says what went wrong, on standard error or as JSON, and gives `code` back. `name` is a stable word. */
__attribute__((format(printf, 4, 5))) int cli_fail(struct cli *cli, enum ch_cli_exit code, const char *name,
                                                   const char *format, ...);
/* The same for an error of the library's. */
int cli_fail_client(struct cli *cli, ch_err err);
/* Prints a JSON object and frees it. */
void cli_json(json_t *object);
json_t *cli_json_hex(const uint8_t *bytes, size_t length);
/* Somebody else's text: as a JSON string, bytes that are no UTF-8 replaced; or to the terminal, controls made visible,
 * lines after the first set in by `indent`. */
json_t *cli_json_text(const uint8_t *text, size_t length);
void cli_print_text(const uint8_t *text, size_t length, int indent);
void cli_print_size(uint64_t bytes); /* "5.0 MB" */
void cli_print_time(uint64_t unix_ms);
/* A ch_progress that draws a bar on a terminal; context is the cli. */
void cli_progress(void *context, uint64_t done, uint64_t total);
/* A receipt, after what was done in words ("Bound with bob"). */
int cli_receipt(struct cli *cli, const struct ch_receipt *receipt, const char *what, const char *who);
/* Asks on the terminal; true for yes, or --yes. False without a terminal. */
bool cli_confirm(struct cli *cli, const char *question);

/* ---- profile and connection (cli_profile.c); each says itself what is wrong and returns its exit code ---- */

/* "HOME/name". */
void cli_path(const struct cli *cli, const char *name, char path[PATH_MAX]);
int cli_number(struct cli *cli, enum cli_option option, uint64_t preset, uint64_t largest, uint64_t *out);
int cli_read_file(struct cli *cli, const char *path, size_t bytes_max, char **bytes, size_t *length);
/* Writes anew, or to standard output for "-". */
int cli_write_file(struct cli *cli, const char *path, const char *bytes, size_t length);
int cli_make_home(struct cli *cli);
/* A file beside `wanted` that gets its name when all of it is there; without `wanted`, one without a name. */
struct cli_target {
    char path[PATH_MAX], partial[PATH_MAX + 16];
    int fd;
    int error; /* errno of a write */
};
int cli_target_open(struct cli *cli, const char *wanted, struct cli_target *target);
ch_err cli_target_write(void *target, const uint8_t *bytes, size_t length); /* a ch_sink */
/* Durable, and under its name; CH_CLI_REFUSED where that is taken, unless --force. */
int cli_target_keep(struct cli *cli, struct cli_target *target);
int cli_target_copy_out(struct cli *cli, struct cli_target *target); /* all of it to standard output */
void cli_target_close(struct cli_target *target);                    /* what was not kept is gone */
int cli_load_genesis(struct cli *cli);
int cli_load_account(struct cli *cli);
/* A registrar's key. */
int cli_load_registrar(struct cli *cli, const char *path, struct ch_sign_key *key);
/* A passphrase for a new key file, empty with --plain. */
int cli_new_passphrase(struct cli *cli);
/* Genesis and connection, with `key` as our own. */
int cli_connect(struct cli *cli, const struct ch_sign_key *key);
/* Account, genesis and connection. */
int cli_begin(struct cli *cli);
/* A handle or a key in hex: the certificate. */
int cli_find(struct cli *cli, const char *person, struct ch_account *account);
/* The handle of a key, or the beginning of the key. */
const char *cli_name(struct cli *cli, const uint8_t key[32]);

/* ---- commands ---- */

int cli_account_new(struct cli *cli, int operand_count, char **operands);
int cli_register(struct cli *cli, int operand_count, char **operands);
int cli_registrar_new(struct cli *cli, int operand_count, char **operands);
int cli_registrar_approve(struct cli *cli, int operand_count, char **operands);
int cli_rotate(struct cli *cli, int operand_count, char **operands);
int cli_revoke(struct cli *cli, int operand_count, char **operands);
int cli_whois(struct cli *cli, int operand_count, char **operands);
int cli_bind(struct cli *cli, int operand_count, char **operands);
int cli_accept(struct cli *cli, int operand_count, char **operands);
int cli_refuse(struct cli *cli, int operand_count, char **operands);
int cli_unbind(struct cli *cli, int operand_count, char **operands);
int cli_confirm_unbind(struct cli *cli, int operand_count, char **operands);
int cli_relations(struct cli *cli, int operand_count, char **operands);
int cli_send(struct cli *cli, int operand_count, char **operands);
int cli_inbox(struct cli *cli, int operand_count, char **operands);
int cli_watch(struct cli *cli, int operand_count, char **operands);
int cli_fetch(struct cli *cli, int operand_count, char **operands);
int cli_object_cid(struct cli *cli, int operand_count, char **operands);
int cli_object_import(struct cli *cli, int operand_count, char **operands);
int cli_object_export(struct cli *cli, int operand_count, char **operands);

#endif
