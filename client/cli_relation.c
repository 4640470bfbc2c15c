/* Relations: bind, accept, refuse, unbind, confirm, relations. */
#include "client/cli_impl.h"

#include <stdio.h>

#define PAGE 100

static int relate(struct cli *cli, const char *person, enum ch_tx_kind kind, const char *done)
{
    struct ch_account peer;
    struct ch_receipt receipt;
    int code = cli_begin(cli);
    if (code == CH_CLI_OK)
        code = cli_find(cli, person, &peer);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = ch_chat_relate(cli->client, &cli->account, kind, peer.key, &receipt);
    return err == CH_OK ? cli_receipt(cli, &receipt, done, person) : cli_fail_client(cli, err);
}

int cli_bind(struct cli *cli, int operand_count, char **operands)
{
    return relate(cli, operands[0], CH_TX_BIND_REQUEST, "Asked");
}

int cli_accept(struct cli *cli, int operand_count, char **operands)
{
    return relate(cli, operands[0], CH_TX_BIND_ACCEPT, "Bound with");
}

int cli_refuse(struct cli *cli, int operand_count, char **operands)
{
    return relate(cli, operands[0], CH_TX_BIND_REFUSE, "Refused");
}

int cli_unbind(struct cli *cli, int operand_count, char **operands)
{
    return relate(cli, operands[0], CH_TX_UNBIND_REQUEST, "Unbinding from");
}

int cli_confirm_unbind(struct cli *cli, int operand_count, char **operands)
{
    return relate(cli, operands[0], CH_TX_UNBIND_CONFIRM, "Unbound from");
}

static const char *state_name(uint8_t state)
{
    static const char *const names[] = {"none", "requested", "refused", "bound", "unbinding", "unbound"};
    return state < sizeof names / sizeof *names ? names[state] : "unknown";
}

static void print_relation(struct cli *cli, const struct ch_relation *r)
{
    bool smaller = memcmp(r->smaller, cli->account.sign.public_key, 32) == 0;
    const uint8_t *peer = smaller ? r->larger : r->smaller;
    bool by_me = (r->by == 0) == smaller;
    const char *name = cli_name(cli, peer), *state = state_name(r->state);
    if (cli->option[OPTION_json]) {
        cli_json(json_pack("{s:s, s:o, s:s, s:b, s:I}", "peer", name, "key", cli_json_hex(peer, 32), "state", state,
                           "by_me", (int)by_me, "since_ms", (json_int_t)r->since_ms));
        return;
    }
    printf("%-32s %-10s since ", name, state);
    cli_print_time(r->since_ms);
    if (r->state == CH_RELATION_REQUESTED)
        printf(by_me ? "  (you asked)" : "  (%s accept %s, or refuse)", cli->program, name);
    else if (r->state == CH_RELATION_UNBINDING)
        printf(by_me ? "  (you asked)" : "  (%s confirm %s)", cli->program, name);
    printf("\n");
}

int cli_relations(struct cli *cli, int operand_count, char **operands)
{
    struct ch_relation page[PAGE];
    uint64_t from = 0, next = 0, shown = 0;
    uint16_t count;
    int code = cli_begin(cli);
    if (code != CH_CLI_OK)
        return code;
    do {
        ch_err err =
            ch_client_get_relations(cli->client, cli->account.sign.public_key, from, page, PAGE, &count, &next);
        if (err != CH_OK)
            return cli_fail_client(cli, err);
        for (unsigned i = 0; i < count; i++)
            print_relation(cli, &page[i]);
        shown += count;
        if (next != 0 && next <= from)
            return cli_fail(cli, CH_CLI_UNREACHABLE, "PROTOCOL", "the node's list of relations does not end");
        from = next;
    } while (next);
    if (!shown && !cli->option[OPTION_json])
        printf("No relations yet: %s bind PERSON\n", cli->program);
    return CH_CLI_OK;
}
