/* The profile folder, key files, and the way to a node. */
#include "client/cli_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREDENTIAL          "chappe-passphrase"
#define NODE_FILE_BYTES_MAX 4096
#define TIMEOUT_S_MAX       86400
#define TIMEOUT_S           30

void cli_path(const struct cli *cli, const char *name, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%.*s/%.1000s", PATH_MAX / 2, cli->home, name);
}

int cli_number(struct cli *cli, enum cli_option option, uint64_t preset, uint64_t largest, uint64_t *out)
{
    const char *text = cli->option[option];
    char *end = NULL;
    *out = preset;
    if (!text)
        return CH_CLI_OK;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value > largest)
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "\"%.40s\" is no number from 0 to %llu", text,
                        (unsigned long long)largest);
    *out = value;
    return CH_CLI_OK;
}

int cli_read_file(struct cli *cli, const char *path, size_t bytes_max, char **bytes, size_t *length)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (!f)
        return cli_fail(cli, CH_CLI_LOCAL, errno == ENOENT ? "NOT_FOUND" : "IO", "%s: %s", path, strerror(errno));
    char *read = malloc(bytes_max + 2);
    size_t n = read ? fread(read, 1, bytes_max + 1, f) : 0;
    bool bad = ferror(f);
    if (f != stdin)
        (void)fclose(f);
    if (!read || bad || n > bytes_max) {
        free(read);
        return cli_fail(cli, CH_CLI_LOCAL, bad ? "IO" : "FULL", "%s: %s", path, bad ? "can't be read" : "too long");
    }
    read[n] = 0;
    *bytes = read;
    *length = n;
    return CH_CLI_OK;
}

int cli_write_file(struct cli *cli, const char *path, const char *bytes, size_t length)
{
    FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "wbe");
    if (!f)
        return cli_fail(cli, CH_CLI_LOCAL, "IO", "%s: %s", path, strerror(errno));
    bool bad = fwrite(bytes, 1, length, f) != length;
    bad = (f == stdout ? fflush(f) : fclose(f)) != 0 || bad;
    return bad ? cli_fail(cli, CH_CLI_LOCAL, "IO", "%s: %s", path, strerror(errno)) : CH_CLI_OK;
}

int cli_make_home(struct cli *cli)
{
    if (mkdir(cli->home, 0700) != 0 && errno != EEXIST)
        return cli_fail(cli, CH_CLI_LOCAL, "IO", "%s: %s", cli->home, strerror(errno));
    return CH_CLI_OK;
}

int cli_load_genesis(struct cli *cli)
{
    char path[PATH_MAX], *bytes;
    size_t length;
    cli_path(cli, "chain.genesis", path);
    const char *given = cli->option[OPTION_genesis] ? cli->option[OPTION_genesis] : path;
    if (!cli->option[OPTION_genesis] && access(path, F_OK) != 0)
        return cli_fail(cli, CH_CLI_KEY, "NO_GENESIS",
                        "no chain.genesis in %s: get it from an operator of the chain and give it with --genesis",
                        cli->home);
    int code = cli_read_file(cli, given, CH_GENESIS_BYTES_MAX, &bytes, &length);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = ch_genesis_decode((const uint8_t *)bytes, length, &cli->genesis);
    if (err == CH_OK)
        ch_genesis_chain_id((const uint8_t *)bytes, length, cli->chain_id);
    free(bytes);
    if (err == CH_OK)
        return CH_CLI_OK;
    return cli_fail(cli, cli->option[OPTION_genesis] ? CH_CLI_USAGE : CH_CLI_KEY, "INVALID",
                    "%s is no genesis of a chain", given);
}

/* ---- key files ---- */

static int key_failure(struct cli *cli, ch_err err, const char *path)
{
    switch (err) {
    case CH_ERR_NOT_FOUND:
        return cli_fail(cli, CH_CLI_KEY, "NOT_FOUND", "no key file %s; chappe %s makes one", path,
                        strncmp(cli->command->name, "registrar", 9) == 0 ? "registrar new" : "account new");
    case CH_ERR_READABLE_BY_OTHERS:
        return cli_fail(cli, CH_CLI_KEY, ch_err_name(err),
                        "%s can be read by others: chmod 600 it, and think whether they did", path);
    case CH_ERR_DENIED:
        return cli_fail(cli, CH_CLI_KEY, ch_err_name(err), "%s: not a plain file of this user's own", path);
    case CH_ERR_INVALID:
        return cli_fail(cli, CH_CLI_KEY, ch_err_name(err), "%s is no key file, or one for another purpose", path);
    default:
        return cli_fail(cli, CH_CLI_KEY, ch_err_name(err), "%s: %s", path, ch_err_text(err));
    }
}

static int passphrase_failure(struct cli *cli, ch_err err)
{
    const char *file = cli->option[OPTION_passphrase_file];
    if (err == CH_ERR_NOT_FOUND)
        return file ? cli_fail(cli, CH_CLI_KEY, "NOT_FOUND", "no passphrase file %s", file)
                    : cli_fail(cli, CH_CLI_KEY, "NO_PASSPHRASE",
                               "no passphrase: no terminal to ask at; give --passphrase-file");
    return cli_fail(cli, CH_CLI_KEY, ch_err_name(err), "the passphrase: %s",
                    err == CH_ERR_INVALID ? "empty, too long, or not twice the same" : ch_err_text(err));
}

/* The passphrase of an existing file, where it has one. */
static int unlock(struct cli *cli, const char *path, enum ch_keyfile_purpose purpose)
{
    struct ch_keyfile_info info;
    char prompt[PATH_MAX + 32];
    ch_err err = ch_keyfile_inspect(path, purpose, &info);
    if (err != CH_OK)
        return key_failure(cli, err, path);
    if (!info.wrapped)
        return CH_CLI_OK;
    (void)snprintf(prompt, sizeof prompt, "Passphrase of %s: ", path);
    err = ch_passphrase_get(cli->option[OPTION_passphrase_file], CREDENTIAL, prompt, false, &cli->passphrase);
    return err == CH_OK ? CH_CLI_OK : passphrase_failure(cli, err);
}

int cli_new_passphrase(struct cli *cli)
{
    if (cli->option[OPTION_plain])
        return CH_CLI_OK;
    ch_err err =
        ch_passphrase_get(cli->option[OPTION_passphrase_file], CREDENTIAL, "New passphrase: ", true, &cli->passphrase);
    return err == CH_OK ? CH_CLI_OK : passphrase_failure(cli, err);
}

int cli_load_account(struct cli *cli)
{
    char path[PATH_MAX];
    cli_path(cli, "account.key", path);
    const char *file = cli->option[OPTION_key] ? cli->option[OPTION_key] : path;
    int code = unlock(cli, file, CH_KEYFILE_ACCOUNT);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = ch_account_load(file, &cli->passphrase, &cli->account);
    return err == CH_OK ? CH_CLI_OK : key_failure(cli, err, file);
}

int cli_load_registrar(struct cli *cli, const char *path, struct ch_sign_key *key)
{
    uint8_t seed[CH_SIGN_SEED_BYTES];
    size_t length = 0;
    int code = unlock(cli, path, CH_KEYFILE_REGISTRAR);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = ch_keyfile_read(path, CH_KEYFILE_REGISTRAR, &cli->passphrase, seed, sizeof seed, &length);
    if (err == CH_OK && length != sizeof seed)
        err = CH_ERR_INVALID;
    if (err == CH_OK)
        ch_sign_key_from_seed(seed, key);
    ch_wipe(seed, sizeof seed);
    return err == CH_OK ? CH_CLI_OK : key_failure(cli, err, path);
}

/* ---- the way to a node ---- */

/* Addresses to try, and the keys that may answer. */
struct nodes {
    char *text; /* what the addresses point into, or NULL */
    const char *address[CH_CLIENT_ADDRESSES_MAX];
    unsigned count;
    size_t key_count; /* of cli->peer_keys */
};

/* The file `node` of the profile: an address a line, and maybe the one key that may answer. */
static int nodes_of_profile(struct cli *cli, struct nodes *nodes)
{
    char path[PATH_MAX], *line_end, *word_end;
    size_t length;
    cli_path(cli, "node", path);
    if (access(path, F_OK) != 0)
        return CH_CLI_OK;
    int code = cli_read_file(cli, path, NODE_FILE_BYTES_MAX, &nodes->text, &length);
    if (code != CH_CLI_OK)
        return code;
    for (char *line = strtok_r(nodes->text, "\n", &line_end); line && nodes->count < CH_CLIENT_ADDRESSES_MAX;
         line = strtok_r(NULL, "\n", &line_end)) {
        const char *address = strtok_r(line, " \t\r", &word_end), *key = strtok_r(NULL, " \t\r", &word_end);
        if (!address || *address == '#')
            continue;
        nodes->address[nodes->count++] = address;
        if (key && !ch_hex_read(key, cli->peer_keys[nodes->key_count++], 32))
            return cli_fail(cli, CH_CLI_KEY, "INVALID", "%s: \"%.70s\" is no key", path, key);
    }
    return CH_CLI_OK;
}

static int find_nodes(struct cli *cli, struct nodes *nodes)
{
    int code = CH_CLI_OK;
    if (cli->option[OPTION_node])
        nodes->address[nodes->count++] = cli->option[OPTION_node];
    else
        code = nodes_of_profile(cli, nodes);
    if (cli->option[OPTION_node_key]) {
        nodes->key_count = 1;
        if (!ch_hex_read(cli->option[OPTION_node_key], cli->peer_keys[0], 32))
            return cli_fail(cli, CH_CLI_USAGE, "USAGE", "--node-key wants 64 hex digits");
    }
    /* The genesis knows all validators: they take over where the profile's node is lost, unless one was asked for. */
    bool pinned = cli->option[OPTION_node] || nodes->key_count > 0, any_key = nodes->key_count > 0;
    for (unsigned i = 0; i < cli->genesis.validator_count; i++) {
        const struct ch_genesis_validator *v = &cli->genesis.validators[i];
        bool known = pinned;
        for (unsigned k = 0; k < nodes->count; k++)
            known = known || strcmp(nodes->address[k], v->address) == 0;
        if (!known && nodes->count < CH_CLIENT_ADDRESSES_MAX)
            nodes->address[nodes->count++] = v->address;
        if (!any_key)
            memcpy(cli->peer_keys[nodes->key_count++], v->key, 32);
    }
    return code;
}

static int open_client(struct cli *cli, const struct nodes *nodes, const struct ch_sign_key *key, uint64_t timeout_s)
{
    char why[CH_CLIENT_WHY_BYTES] = "the genesis names no node";
    const struct ch_client_options options = {
        .address = nodes->address[0],
        .others = nodes->address + 1,
        .other_count = nodes->count - 1,
        .chain_id = cli->chain_id,
        .key = key,
        .peer_keys = (const uint8_t(*)[32])cli->peer_keys,
        .peer_key_count = nodes->key_count,
        .timeout_ms = (uint32_t)timeout_s * 1000,
    };
    ch_err err = nodes->count ? ch_client_open(&options, &cli->client, why) : CH_ERR_NOT_FOUND;
    if (err == CH_OK) {
        err = ch_client_connect(cli->client);
        (void)snprintf(why, sizeof why, "%s", ch_client_why(cli->client));
    }
    if (err == CH_OK)
        return CH_CLI_OK;
    return cli_fail(cli, err == CH_ERR_INVALID ? CH_CLI_USAGE : CH_CLI_UNREACHABLE, ch_err_name(err), "%s", why);
}

int cli_connect(struct cli *cli, const struct ch_sign_key *key)
{
    struct nodes nodes = {0};
    uint64_t timeout_s;
    int code = cli_number(cli, OPTION_timeout, TIMEOUT_S, TIMEOUT_S_MAX, &timeout_s);
    if (code == CH_CLI_OK)
        code = cli_load_genesis(cli);
    if (code == CH_CLI_OK)
        code = find_nodes(cli, &nodes);
    if (code == CH_CLI_OK)
        code = open_client(cli, &nodes, key, timeout_s ? timeout_s : 1);
    free(nodes.text);
    return code;
}

int cli_begin(struct cli *cli)
{
    int code = cli_load_account(cli);
    return code == CH_CLI_OK ? cli_connect(cli, &cli->account.sign) : code;
}

/* ---- people ---- */

int cli_find(struct cli *cli, const char *person, struct ch_account *account)
{
    uint8_t key[CH_KEY_BYTES];
    ch_err err = ch_hex_read(person, key, sizeof key) ? ch_client_get_account(cli->client, key, account)
                                                    : ch_client_get_handle(cli->client, person, account);
    if (err == CH_ERR_REFUSED && ch_client_status(cli->client) == CH_STATUS_NOT_FOUND)
        return cli_fail(cli, CH_CLI_REFUSED, "NO_SUCH_PEER", "nobody on this chain is called %.64s", person);
    if (err == CH_ERR_REFUSED && ch_client_status(cli->client) == CH_STATUS_BAD_HANDLE)
        return cli_fail(cli, CH_CLI_USAGE, "BAD_HANDLE", "\"%.64s\" is neither a handle nor a key in hex", person);
    return err == CH_OK ? CH_CLI_OK : cli_fail_client(cli, err);
}

const char *cli_name(struct cli *cli, const uint8_t key[32])
{
    struct ch_account account;
    for (unsigned i = 0; i < cli->name_count; i++)
        if (memcmp(cli->names[i].key, key, 32) == 0)
            return cli->names[i].handle;
    unsigned slot = cli->name_count < NAMES_MAX ? cli->name_count++ : NAMES_MAX - 1;
    memcpy(cli->names[slot].key, key, 32);
    ch_hex_write(key, 8, cli->names[slot].handle);
    if (ch_client_get_account(cli->client, key, &account) == CH_OK)
        (void)snprintf(cli->names[slot].handle, sizeof cli->names[slot].handle, "%.*s", (int)account.handle_length,
                       (const char *)account.handle);
    return cli->names[slot].handle;
}
