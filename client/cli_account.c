/* Accounts and their registrars: account new, register, registrar new, registrar approve, rotate, revoke, whois. */
#include "client/application.h"
#include "client/cli_impl.h"
#include "client/review.h"

#include "base/time.h"
#include "dataplane/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOUR_MS UINT64_C(3600000)

/* Copies the genesis and notes the node, where they were given. */
static int keep_profile(struct cli *cli)
{
    char path[PATH_MAX], line[PATH_MAX], *bytes;
    size_t length;
    int code = CH_CLI_OK;
    struct ch_address node;
    if (cli->option[OPTION_node] && (ch_address_parse(cli->option[OPTION_node], &node, NULL) != CH_OK || !node.port))
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "--node wants an address as 192.0.2.1:4740");
    if (cli->option[OPTION_genesis]) {
        code = cli_load_genesis(cli);
        if (code == CH_CLI_OK)
            code = cli_read_file(cli, cli->option[OPTION_genesis], CH_GENESIS_BYTES_MAX, &bytes, &length);
        if (code != CH_CLI_OK)
            return code;
        cli_path(cli, "chain.genesis", path);
        code = cli_write_file(cli, path, bytes, length);
        free(bytes);
    }
    if (code == CH_CLI_OK && cli->option[OPTION_node]) {
        const char *key = cli->option[OPTION_node_key] ? cli->option[OPTION_node_key] : "";
        int n = snprintf(line, sizeof line, "%.500s %.64s\n", cli->option[OPTION_node], key);
        cli_path(cli, "node", path);
        code = cli_write_file(cli, path, line, (size_t)n);
    }
    return code;
}

int cli_account_new(struct cli *cli, int operand_count, char **operands)
{
    char path[PATH_MAX], hex[65];
    int code = cli_make_home(cli);
    if (code != CH_CLI_OK)
        return code;
    cli_path(cli, "account.key", path);
    const char *file = cli->option[OPTION_key] ? cli->option[OPTION_key] : path;
    if (access(file, F_OK) == 0)
        return cli_fail(cli, CH_CLI_KEY, "EXISTS", "%s exists already; an account is never overwritten", file);
    code = keep_profile(cli);
    if (code == CH_CLI_OK)
        code = cli_new_passphrase(cli);
    if (code != CH_CLI_OK)
        return code;
    ch_account_new(&cli->account);
    ch_err err = ch_account_save(&cli->account, file, &cli->passphrase, false);
    if (err != CH_OK)
        return cli_fail(cli, CH_CLI_KEY, ch_err_name(err), "%s: %s", file, ch_err_text(err));
    if (cli->option[OPTION_json]) {
        cli_json(json_pack("{s:o, s:o, s:s}", "key", cli_json_hex(cli->account.sign.public_key, 32), "seal_key",
                           cli_json_hex(ch_account_seal_key(&cli->account)->key.public_key, 32), "file", file));
        return CH_CLI_OK;
    }
    ch_hex_write(cli->account.sign.public_key, 32, hex);
    printf("New account in %s\n  key %s\nNext: %s register HANDLE --request FILE\n", file, hex, cli->program);
    return CH_CLI_OK;
}

/* ---- registering ---- */

static int write_application(struct cli *cli, const struct ch_approval *application, bool approved, const char *path)
{
    json_t *object = ch_application_write(application, cli->chain_id, approved);
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    char line[CH_APPLICATION_BYTES_MAX];
    int length = text ? snprintf(line, sizeof line, "%s\n", text) : -1;
    json_decref(object);
    free(text);
    if (length < 0)
        return cli_fail(cli, CH_CLI_LOCAL, "NO_MEMORY", "out of memory");
    return cli_write_file(cli, path, line, (size_t)length);
}

static int read_application(struct cli *cli, const char *from, bool approved, struct ch_approval *out)
{
    char why[CH_REVIEW_WHY_BYTES], *text = NULL;
    size_t length = strlen(from);
    bool is_json = *from == '{';
    int code = is_json ? CH_CLI_OK : cli_read_file(cli, from, CH_APPLICATION_BYTES_MAX, &text, &length);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = ch_application_read(is_json ? from : text, length, cli->chain_id, approved, out, why);
    free(text);
    if (err == CH_ERR_WRONG_CHAIN)
        return cli_fail(cli, CH_CLI_REFUSED, "WRONG_CHAIN", "the %s is for another chain",
                        approved ? "approval" : "request");
    if (err != CH_OK)
        return cli_fail(cli, CH_CLI_USAGE, "MALFORMED", "%s: %s", is_json ? "the approval" : from, why);
    return CH_CLI_OK;
}

static int write_request(struct cli *cli, const char *handle)
{
    struct ch_approval application = {0};
    if (!handle || !ch_handle_valid((const uint8_t *)handle, strlen(handle)))
        return cli_fail(cli, CH_CLI_USAGE, "BAD_HANDLE", "%s", ch_status_text(CH_STATUS_BAD_HANDLE));
    int code = cli_load_account(cli);
    if (code == CH_CLI_OK)
        code = cli_load_genesis(cli);
    if (code != CH_CLI_OK)
        return code;
    (void)snprintf(application.handle, sizeof application.handle, "%s", handle);
    memcpy(application.key, cli->account.sign.public_key, 32);
    memcpy(application.seal_key, ch_account_seal_key(&cli->account)->key.public_key, 32);
    const char *path = cli->option[OPTION_request];
    code = write_application(cli, &application, false, path);
    if (code == CH_CLI_OK && strcmp(path, "-") != 0) {
        if (cli->option[OPTION_json])
            cli_json(json_pack("{s:s}", "request", path));
        else
            printf("Request for \"%s\" in %s: give it to a registrar of the chain\nNext: %s register --approval FILE\n",
                   handle, path, cli->program);
    }
    return code;
}

int cli_register(struct cli *cli, int operand_count, char **operands)
{
    struct ch_approval approval;
    struct ch_receipt receipt;
    const char *handle = operand_count ? operands[0] : NULL;
    if (!cli->option[OPTION_request] == !cli->option[OPTION_approval])
        return cli_fail(cli, CH_CLI_USAGE, "USAGE",
                        "either --request FILE (first) or --approval FILE (then); see %s register --help",
                        cli->program);
    if (cli->option[OPTION_request])
        return write_request(cli, handle);
    int code = cli_load_genesis(cli);
    if (code == CH_CLI_OK)
        code = read_application(cli, cli->option[OPTION_approval], true, &approval);
    if (code == CH_CLI_OK && handle && strcmp(handle, approval.handle) != 0)
        code = cli_fail(cli, CH_CLI_USAGE, "USAGE", "the approval is for \"%s\"", approval.handle);
    if (code == CH_CLI_OK)
        code = cli_begin(cli);
    if (code != CH_CLI_OK)
        return code;
    /* Whether the approval holds is the chain's to say; but it must be for the key that signs. */
    if (memcmp(approval.key, cli->account.sign.public_key, 32) != 0)
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "the approval is for another key than this profile's");
    ch_err err = ch_chat_register(cli->client, &cli->account, &approval, &receipt);
    return err == CH_OK ? cli_receipt(cli, &receipt, "Registered as", approval.handle) : cli_fail_client(cli, err);
}

/* ---- registrars ---- */

int cli_registrar_new(struct cli *cli, int operand_count, char **operands)
{
    char path[PATH_MAX], hex[65];
    struct ch_sign_key key;
    int code = cli->option[OPTION_out] ? CH_CLI_OK : cli_make_home(cli);
    if (code == CH_CLI_OK)
        code = cli_new_passphrase(cli);
    if (code != CH_CLI_OK)
        return code;
    cli_path(cli, "registrar.key", path);
    const char *file = cli->option[OPTION_out] ? cli->option[OPTION_out] : path;
    ch_sign_key_new(&key);
    ch_err err = ch_keyfile_write(file, CH_KEYFILE_REGISTRAR, key.public_key, key.seed, sizeof key.seed,
                                  &cli->passphrase, false);
    ch_wipe(key.seed, sizeof key.seed);
    if (err == CH_ERR_EXISTS)
        return cli_fail(cli, CH_CLI_KEY, "EXISTS", "%s exists already; a key is never overwritten", file);
    if (err != CH_OK)
        return cli_fail(cli, CH_CLI_KEY, ch_err_name(err), "%s: %s", file, ch_err_text(err));
    ch_hex_write(key.public_key, 32, hex);
    if (cli->option[OPTION_json])
        cli_json(json_pack("{s:s, s:s}", "key", hex, "file", file));
    else
        printf("New registrar's key in %s\n  key %s\n", file, hex);
    return CH_CLI_OK;
}

/* Neither handle nor key may be on the chain. */
static int check_unique(struct cli *cli, const struct ch_approval *a)
{
    struct ch_account taken;
    ch_err err = ch_client_get_handle(cli->client, a->handle, &taken);
    if (err == CH_OK)
        return cli_fail(cli, CH_CLI_REFUSED, "HANDLE_TAKEN", "\"%s\": %s", a->handle,
                        ch_status_text(CH_STATUS_HANDLE_TAKEN));
    if (err != CH_ERR_REFUSED || ch_client_status(cli->client) != CH_STATUS_NOT_FOUND)
        return cli_fail_client(cli, err);
    err = ch_client_get_account(cli->client, a->key, &taken);
    if (err == CH_OK)
        return cli_fail(cli, CH_CLI_REFUSED, "KEY_TAKEN", "%s", ch_status_text(CH_STATUS_KEY_TAKEN));
    if (err != CH_ERR_REFUSED || ch_client_status(cli->client) != CH_STATUS_NOT_FOUND)
        return cli_fail_client(cli, err);
    return CH_CLI_OK;
}

static int ask_registrar(struct cli *cli, const struct ch_policy *policy, const struct ch_approval *a)
{
    char question[256], hex[65];
    if (!policy->ask)
        return CH_CLI_OK;
    ch_hex_write(a->key, 32, hex);
    (void)snprintf(question, sizeof question, "Give \"%s\" to %s?", a->handle, hex);
    return cli_confirm(cli, question)
               ? CH_CLI_OK
               : cli_fail(cli, CH_CLI_REFUSED, "DECLINED", "the registrar did not say yes (--yes says it)");
}

static int sign_approval(struct cli *cli, const struct ch_sign_key *registrar, const struct ch_policy *policy,
                         struct ch_approval *a)
{
    char path[PATH_MAX];
    uint64_t now = ch_time_unix_ms();
    ch_approve(registrar, cli->chain_id, now + policy->approval_hours * HOUR_MS, a);
    int code = cli_make_home(cli);
    if (code != CH_CLI_OK)
        return code;
    cli_path(cli, "approvals", path);
    ch_err err = ch_review_note(path, a, now);
    if (err == CH_ERR_EXISTS)
        return cli_fail(cli, CH_CLI_REFUSED, "APPROVED_FOR_ANOTHER",
                        "this handle or key has another approval that still holds (see %s)", path);
    if (err != CH_OK)
        return cli_fail(cli, CH_CLI_LOCAL, ch_err_name(err), "%s: %s", path, ch_err_text(err));
    const char *out = cli->option[OPTION_out] ? cli->option[OPTION_out] : "-";
    code = write_application(cli, a, true, out);
    if (code != CH_CLI_OK || strcmp(out, "-") == 0)
        return code;
    if (cli->option[OPTION_json])
        cli_json(json_pack("{s:s, s:s}", "approval", out, "handle", a->handle));
    else
        printf("Approved \"%s\" for %u hours: %s\n", a->handle, policy->approval_hours, out);
    return CH_CLI_OK;
}

static int review(struct cli *cli, const struct ch_sign_key *registrar, const struct ch_policy *policy)
{
    struct ch_approval application;
    char why[CH_REVIEW_WHY_BYTES];
    bool listed = false;
    int code = cli_load_genesis(cli);
    if (code != CH_CLI_OK)
        return code;
    for (unsigned i = 0; i < cli->genesis.registrar_count; i++)
        listed = listed || memcmp(cli->genesis.registrars[i], registrar->public_key, 32) == 0;
    if (!listed)
        return cli_fail(cli, CH_CLI_REFUSED, "NOT_REGISTRAR", "this key is no registrar of this chain");
    code = read_application(cli, cli->option[OPTION_request], false, &application);
    if (code != CH_CLI_OK)
        return code;
    const char *reason = ch_review(policy, &application, why);
    if (reason)
        return cli_fail(cli, CH_CLI_REFUSED, reason, "%s", why);
    code = cli_connect(cli, registrar);
    if (code == CH_CLI_OK)
        code = check_unique(cli, &application);
    if (code == CH_CLI_OK)
        code = ask_registrar(cli, policy, &application);
    return code == CH_CLI_OK ? sign_approval(cli, registrar, policy, &application) : code;
}

int cli_registrar_approve(struct cli *cli, int operand_count, char **operands)
{
    char path[PATH_MAX], why[CH_REVIEW_WHY_BYTES];
    struct ch_sign_key registrar;
    struct ch_policy *policy;
    if (!cli->option[OPTION_request])
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "--request FILE is needed");
    ch_err err = ch_policy_load(cli->option[OPTION_policy], &policy, why);
    if (err != CH_OK)
        return cli_fail(cli, CH_CLI_USAGE, "BAD_POLICY", "the policy: %s", why);
    cli_path(cli, "registrar.key", path);
    int code = cli_load_registrar(cli, cli->option[OPTION_key] ? cli->option[OPTION_key] : path, &registrar);
    if (code == CH_CLI_OK)
        code = review(cli, &registrar, policy);
    ch_wipe(registrar.seed, sizeof registrar.seed);
    ch_policy_free(policy);
    return code;
}

/* ---- living with an account ---- */

int cli_rotate(struct cli *cli, int operand_count, char **operands)
{
    char path[PATH_MAX], words[48];
    struct ch_account own;
    struct ch_receipt receipt;
    int code = cli_begin(cli);
    if (code != CH_CLI_OK)
        return code;
    cli_path(cli, "account.key", path);
    const char *file = cli->option[OPTION_key] ? cli->option[OPTION_key] : path;
    ch_err err = ch_client_get_account(cli->client, cli->account.sign.public_key, &own);
    if (err == CH_ERR_REFUSED && ch_client_status(cli->client) == CH_STATUS_NOT_FOUND)
        return cli_fail(cli, CH_CLI_REFUSED, "NO_SUCH_ACCOUNT", "%s", ch_status_text(CH_STATUS_NO_SUCH_ACCOUNT));
    if (err != CH_OK)
        return cli_fail_client(cli, err);
    err = ch_account_add_seal_key(&cli->account, own.seal_epoch + 1);
    if (err == CH_OK)
        err = ch_account_save(&cli->account, file, &cli->passphrase, true);
    if (err != CH_OK)
        return cli_fail(cli, CH_CLI_KEY, ch_err_name(err), "%s: %s", file, ch_err_text(err));
    err = ch_chat_rotate(cli->client, &cli->account, &receipt);
    (void)snprintf(words, sizeof words, "%u", own.seal_epoch + 1);
    return err == CH_OK ? cli_receipt(cli, &receipt, "New seal key, epoch", words) : cli_fail_client(cli, err);
}

int cli_revoke(struct cli *cli, int operand_count, char **operands)
{
    char question[128];
    struct ch_sign_key registrar = {0};
    struct ch_account account;
    struct ch_receipt receipt;
    const char *file = cli->option[OPTION_as_registrar];
    if (file && operand_count == 0)
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "whom?");
    int code = file ? cli_load_registrar(cli, file, &registrar) : cli_load_account(cli);
    const struct ch_sign_key *signer = file ? &registrar : &cli->account.sign;
    char own[65];
    ch_hex_write(signer->public_key, 32, own);
    if (code == CH_CLI_OK)
        code = cli_connect(cli, signer);
    if (code == CH_CLI_OK)
        code = cli_find(cli, operand_count ? operands[0] : own, &account);
    if (code != CH_CLI_OK)
        goto done;
    (void)snprintf(question, sizeof question, "End the account \"%.*s\" for ever?", (int)account.handle_length,
                   (const char *)account.handle);
    if (!cli_confirm(cli, question)) {
        code = cli_fail(cli, CH_CLI_USAGE, "NOT_CONFIRMED", "nothing was done (--yes answers yes)");
        goto done;
    }
    ch_err err = ch_chat_revoke(cli->client, signer, account.key, &receipt);
    code = err == CH_OK ? cli_receipt(cli, &receipt, "Revoked", cli_name(cli, account.key)) : cli_fail_client(cli, err);
done:
    ch_wipe(&registrar, sizeof registrar);
    return code;
}

int cli_whois(struct cli *cli, int operand_count, char **operands)
{
    char own[65], key[65], seal_key[65], registrar[65];
    struct ch_account a;
    int code = cli_begin(cli);
    if (code != CH_CLI_OK)
        return code;
    ch_hex_write(cli->account.sign.public_key, 32, own);
    code = cli_find(cli, operand_count ? operands[0] : own, &a);
    if (code != CH_CLI_OK)
        return code;
    const char *status = a.status == CH_ACCOUNT_ACTIVE ? "active" : "revoked";
    ch_hex_write(a.key, 32, key);
    ch_hex_write(a.seal_key, 32, seal_key);
    ch_hex_write(a.registrar, 32, registrar);
    if (cli->option[OPTION_json]) {
        cli_json(json_pack("{s:s#, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I}", "handle", (const char *)a.handle,
                           (int)a.handle_length, "key", key, "seal_key", seal_key, "seal_epoch",
                           (json_int_t)a.seal_epoch, "registrar", registrar, "status", status, "registered_ms",
                           (json_int_t)a.registered_ms, "registered_commit", (json_int_t)a.registered_commit,
                           "inbox_sequence", (json_int_t)a.inbox_sequence));
        return CH_CLI_OK;
    }
    printf("%.*s, %s\n  key        %s\n  seal key   %s (epoch %u)\n  registrar  %s\n  registered ",
           (int)a.handle_length, (const char *)a.handle, status, key, seal_key, a.seal_epoch, registrar);
    cli_print_time(a.registered_ms);
    printf(", commit %llu\n  inbox      %llu messages\n", (unsigned long long)a.registered_commit,
           (unsigned long long)a.inbox_sequence);
    return CH_CLI_OK;
}
