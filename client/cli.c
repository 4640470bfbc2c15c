/* The table of commands, their options and help. */
#include "client/cli_impl.h"

#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALWAYS  (HAS(home) | HAS(json) | HAS(help))
#define SECRET  (HAS(key) | HAS(passphrase_file))
#define NETWORK (HAS(genesis) | HAS(node) | HAS(node_key) | HAS(timeout))
#define ONLINE  (SECRET | NETWORK)

static const struct cli_command commands[] = {
    {"account new", "", "make an account: its keys, in a key file of its own",
     "Makes an Ed25519 key that signs and an X25519 key that messages are sealed to, and writes them, wrapped by a\n"
     "passphrase, to the profile. Nobody else ever sees them, and nobody can restore them: keep a copy.\n"
     "--genesis copies the chain's genesis into the profile; --node notes the node to talk to. Next: chappe register.",
     SECRET | HAS(plain) | HAS(genesis) | HAS(node) | HAS(node_key), 0, 0, cli_account_new},
    {"register", "[HANDLE]", "ask for a handle, then put the account on the chain",
     "Two steps, with a registrar of the chain in between:\n"
     "  chappe register alice --request alice.request    write the request; give it to the registrar\n"
     "  chappe register --approval alice.approval        with what came back, put the account on the chain\n"
     "A handle is 3 to 32 of a-z 0-9 . _ - and begins with a letter. It is yours for ever.",
     ONLINE | HAS(request) | HAS(approval), 0, 1, cli_register},
    {"registrar new", "", "make a registrar's key file",
     "Writes it to --out (default: registrar.key in the profile) and shows the public key, which the chain's genesis\n"
     "has to list.",
     HAS(passphrase_file) | HAS(plain) | HAS(out), 0, 0, cli_registrar_new},
    {"registrar approve", "", "review a registration request, and sign it",
     "Checks the request's form and keys, the policy, and on the chain that neither handle nor key is taken; shows "
     "it;\n"
     "signs it with --key (default: registrar.key in the profile); writes the approval to --out (default: standard\n"
     "output). The file `approvals` in the profile remembers what was signed, so that no two people get the same\n"
     "handle approved. The policy is a YAML file, every line optional:\n"
     "  approval_hours: 24          how long the applicant has to use it\n"
     "  handle_bytes_min: 3         shorter handles are refused\n"
     "  reserved: [admin, root]     handles that nobody gets\n"
     "  allowed: [alice, bob]       only these, if there is such a line\n"
     "  ask: yes                    show each request and ask; --yes answers",
     ONLINE | HAS(request) | HAS(policy) | HAS(out) | HAS(yes), 0, 0, cli_registrar_approve},
    {"bind", "PERSON", "ask somebody for a relation; both must agree before messages pass",
     "PERSON is a handle or a key in hex. The other one answers with chappe accept, or chappe refuse.", ONLINE, 1, 1,
     cli_bind},
    {"accept", "PERSON", "accept somebody's request", NULL, ONLINE, 1, 1, cli_accept},
    {"refuse", "PERSON", "refuse somebody's request, or withdraw one's own", NULL, ONLINE, 1, 1, cli_refuse},
    {"unbind", "PERSON", "end a relation: from now on neither may message the other",
     "The other one confirms with chappe confirm; without that the relation ends by itself after the chain's time.",
     ONLINE, 1, 1, cli_unbind},
    {"confirm", "PERSON", "confirm the end of a relation that the other one asked for", NULL, ONLINE, 1, 1,
     cli_confirm_unbind},
    {"relations", "", "list one's relations and open requests", NULL, ONLINE, 0, 0, cli_relations},
    {"rotate", "", "get a new key that messages are sealed to",
     "The old keys stay in the key file: messages sealed to them stay readable.", ONLINE, 0, 0, cli_rotate},
    {"revoke", "[PERSON]", "end an account for ever: one's own, or as its registrar",
     "A revoked account sends and receives nothing more, and its handle is not given out again. What it sent and\n"
     "received stays on the chain. Asks first; --yes answers.",
     ONLINE | HAS(as_registrar) | HAS(yes), 0, 1, cli_revoke},
    {"whois", "[PERSON]", "show a certificate as it is on the chain; without PERSON, one's own", NULL, ONLINE, 0, 1,
     cli_whois},
    {"send", "PERSON [TEXT]", "send a text, a file, or both",
     "Sealed to the recipient's key on this machine; the chain and the store see ciphertext only. TEXT - is standard\n"
     "input. A short text travels inside the transaction; a long one, and every file, is put on the store first.\n"
     "Suite 0: whoever gets hold of the recipient's key file later can read old messages (no forward secrecy).",
     ONLINE | HAS(attach), 1, 2, cli_send},
    {"inbox", "", "show messages",
     "Shows the newest 20, or from --from N on. [file] says that there is more to get: chappe fetch N.",
     ONLINE | HAS(from) | HAS(limit), 0, 0, cli_inbox},
    {"watch", "", "show messages as they come",
     "Goes on until Ctrl-C, until --limit messages have come, or until nothing has come for --quiet seconds. Begins\n"
     "with what is new, or with message --from N. A lost node is dialled again.",
     ONLINE | HAS(from) | HAS(limit) | HAS(quiet), 0, 0, cli_watch},
    {"fetch", "N", "get, open and check the file or long text of message N of the inbox",
     "Writes a file to its own name in this folder, or to --out; a text to standard output. Nothing is left under the\n"
     "name until all of it has come and is what the sender signed.",
     ONLINE | HAS(out) | HAS(force), 1, 1, cli_fetch},
    {"object cid", "FILE", "show the address that a file has as an object, without storing it",
     "The CID is that of any IPFS tool that makes version 1 with raw leaves of 1 MiB in a balanced tree of 1,024 links.",
     0, 1, 1, cli_object_cid},
    {"object import", "FILE", "put a file on the store as it is",
     "NOT sealed: whoever knows its address can read it. Meant for ciphertext, and for what is public. With --car FILE is a\n"
     "CAR (version 1) of an object, from here or from another gateway; each block is checked. Shows the address.",
     ONLINE | HAS(car), 1, 1, cli_object_import},
    {"object export", "CID", "get an object as it is, sealed or not",
     "Writes its bytes, or with --car all its blocks depth first, to --out, which without it is CID.bin or CID.car. Every\n"
     "block is checked; nothing is left under the name until all has come.",
     ONLINE | HAS(car) | HAS(out) | HAS(force), 1, 1, cli_object_export},
};
#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static const char exit_codes[] =
    "Exit codes: 0 done · 1 refused, by a named reason · 2 usage · 3 no node of this chain answers · "
    "4 key file,\npassphrase or profile · 5 a message can't be opened · 6 this machine "
    "(file, disk, memory)\n";

static const struct {
    const char *name, *value, *help;
} options[] = {
#define X(name, value, help) {#name, value, help},
    CLI_OPTION_LIST(X)
#undef X
};

static void option_name(unsigned which, char text[32])
{
    (void)snprintf(text, 32, "%s", options[which].name);
    for (char *at = text; *at; at++)
        *at = *at == '_' ? '-' : *at;
}

static void show_help(const struct cli *cli)
{
    const struct cli_command *c = cli->command;
    char name[32], left[64];
    printf("chappe %s - %s\n\nUsage: %s %s%s%s [options]\n", c->name, c->summary, cli->program, c->name,
           *c->operands ? " " : "", c->operands);
    if (c->help)
        printf("\n%s\n", c->help);
    printf("\nOptions:\n");
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        if (!((c->options | ALWAYS) & 1u << i))
            continue;
        option_name(i, name);
        (void)snprintf(left, sizeof left, "--%s%s%s", name, options[i].value ? " " : "",
                       options[i].value ? options[i].value : "");
        printf("  %-25s %s\n", left, options[i].help);
    }
    printf("\n%s", exit_codes);
}

static bool first_word_is(const struct cli_command *c, const char *word)
{
    size_t length = strcspn(c->name, " ");
    return strlen(word) == length && memcmp(c->name, word, length) == 0;
}

bool ch_cli_knows(const char *word)
{
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        if (first_word_is(&commands[i], word))
            return true;
    return false;
}

/* The command of argv[1] (and argv[2]); *words says how many it took. */
static const struct cli_command *find_command(int argc, char **argv, int *words)
{
    for (unsigned i = 0; i < COMMAND_COUNT; i++) {
        const char *space = strchr(commands[i].name, ' ');
        if (!first_word_is(&commands[i], argv[1]))
            continue;
        *words = space ? 2 : 1;
        if (!space || (argc > 2 && strcmp(argv[2], space + 1) == 0))
            return &commands[i];
    }
    return NULL;
}

static int parse_options(struct cli *cli, int argc, char **argv)
{
    struct option known[OPTION_COUNT + 1] = {0};
    char names[OPTION_COUNT][32];
    uint32_t allowed = cli->command->options | ALWAYS;
    unsigned count = 0;
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        option_name(i, names[i]);
        if (allowed & 1u << i)
            known[count++] =
                (struct option){names[i], options[i].value ? required_argument : no_argument, NULL, (int)i + 256};
    }
    optind = 0; /* glibc: begin anew, whoever parsed before */
    opterr = 0;
    for (;;) {
        int found = getopt_long(argc, argv, "h", known, NULL);
        if (found < 0)
            return CH_CLI_OK;
        if (found == 'h')
            found = OPTION_help + 256;
        if (found == '?' || found == ':')
            return cli_fail(cli, CH_CLI_USAGE, "USAGE",
                            "chappe %s has no option %s, or it lacks its value; see chappe %s --help",
                            cli->command->name, argv[optind - 1], cli->command->name);
        cli->option[found - 256] = optarg ? optarg : "";
    }
}

static int find_home(struct cli *cli)
{
    const char *given = cli->option[OPTION_home];
    if (!given)
        given = getenv("CHAPPE_HOME");
    if (given && *given) {
        if (snprintf(cli->home, sizeof cli->home, "%s", given) < PATH_MAX / 2)
            return CH_CLI_OK;
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "the name of the profile folder is too long");
    }
    const char *home = getenv("HOME");
    struct passwd *user = home && *home ? NULL : getpwuid(geteuid());
    home = home && *home ? home : user ? user->pw_dir : ".";
    if (snprintf(cli->home, sizeof cli->home, "%s/.chappe", home) < PATH_MAX / 2)
        return CH_CLI_OK;
    return cli_fail(cli, CH_CLI_USAGE, "USAGE", "the name of the home folder is too long");
}

static int run(struct cli *cli, int argc, char **argv)
{
    int code = parse_options(cli, argc, argv);
    if (code != CH_CLI_OK)
        return code;
    if (cli->option[OPTION_help]) {
        show_help(cli);
        return CH_CLI_OK;
    }
    int count = argc - optind;
    if (count < cli->command->operands_min || count > cli->command->operands_max)
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "usage: %s %s %s", cli->program, cli->command->name,
                        cli->command->operands);
    code = find_home(cli);
    if (code != CH_CLI_OK)
        return code;
    return cli->command->run(cli, count, argv + optind);
}

int ch_cli_main(int argc, char **argv)
{
    int words = 0;
    struct cli *cli = calloc(1, sizeof *cli);
    if (!cli || ch_sign_init() != CH_OK) {
        fprintf(stderr, "chappe: out of memory or without a source of randomness\n");
        free(cli);
        return CH_CLI_LOCAL;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that goes away is an error of the write */
    const char *slash = strrchr(argv[0], '/');
    cli->program = slash ? slash + 1 : argv[0];
    cli->command = argc > 1 ? find_command(argc, argv, &words) : NULL;
    int code = CH_CLI_USAGE;
    if (cli->command) {
        code = run(cli, argc - words, argv + words);
    } else {
        const char *word = argc > 1 ? argv[1] : "", *next = argc > 2 ? argv[2] : "";
        bool asked = strcmp(word, "help") == 0;
        if (*word && !asked && !ch_cli_knows(word))
            fprintf(stderr, "%s: \"%.40s\" is no command\n\n", cli->program, word);
        FILE *to = asked || strcmp(next, "--help") == 0 || strcmp(next, "-h") == 0 ? stdout : stderr;
        fprintf(to, "Usage: %s COMMAND [options]; see %s COMMAND --help\n\n", cli->program, cli->program);
        for (unsigned i = 0; i < COMMAND_COUNT; i++)
            if (argc < 2 || !ch_cli_knows(argv[1]) || first_word_is(&commands[i], argv[1]))
                fprintf(to, "  %-18s %s\n", commands[i].name, commands[i].summary);
        code = to == stdout ? CH_CLI_OK : CH_CLI_USAGE;
    }
    ch_client_close(cli->client);
    ch_account_wipe(&cli->account);
    ch_wipe(&cli->passphrase, sizeof cli->passphrase);
    free(cli);
    if (fflush(stdout) != 0 && code == CH_CLI_OK)
        code = CH_CLI_LOCAL;
    return code;
}
