/* chappe - one binary: the validator's commands here, those of people and registrars in client/. */
#include "base/hex.h"
#include "base/log.h"
#include "client/cli.h"
#include "node/control.h"
#include "node/genesis_file.h"
#include "node/program/devnet.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* Exit codes; client/cli.h has those of the other commands, with the same meaning. */
enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3, EXIT_KEY = 4, EXIT_FAILED = 6 };

static const char help_text[] =
    "chappe - a validator for on-chain encrypted messaging, and the commands to use it\n"
    "\n"
    "The validator:\n"
    "  chappe init --folder DIR      make keys, genesis, configuration and log of a new chain of one\n"
    "  chappe run --folder DIR       run the validator (stop it with Ctrl-C, SIGTERM or `chappe stop`)\n"
    "  chappe status --folder DIR    what it is doing; --json for all counters\n"
    "  chappe stop --folder DIR      stop it and wait until it has ended\n"
    "  chappe devnet start           a chain of four validators on this machine, to try and to test\n"
    "\n"
    "People and registrars:\n"
    "  chappe help                   the commands of accounts, relations and messages\n"
    "\n"
    "`chappe COMMAND --help` explains a command and its options.\n"
    "Exit codes: 0 done, 1 refused (the reason is named), 2 usage, 3 the node can't be reached,\n"
    "4 key file or passphrase, 5 a message can't be opened, 6 this machine (disk, memory, log).\n";

static const char init_help[] =
    "usage: chappe init --folder DIR [options]\n"
    "\n"
    "Makes a new chain with this machine as its only validator. DIR gets validator.key, master.key (0600),\n"
    "chain.genesis (give it to everybody), chappe.yaml (settings, explained) and the empty log. Without --registrar a\n"
    "registrar's key is made too: registrar.key.\n"
    "\n"
    "  --name NAME              of the chain (genesis; default: chappe)\n"
    "  --address IP             our address (default: 127.0.0.1)\n"
    "  --port N                 UDP port of the peer protocol (default: 4740)\n"
    "  --profile NAME           socket, or af_packet with --interface\n"
    "  --interface IF           the interface of af_packet\n"
    "  --genesis FILE           the chain as text (name, start_ms, require_relation, registrars, validators, limits,\n"
    "                           params; only the name is needed), instead of the options marked with (genesis). Where it\n"
    "                           names validators, one must be ours: the first init makes validator.key and tells its\n"
    "                           key, the second one, with that key in the file, makes the rest\n"
    "  --registrar HEX          a registrar's public key (genesis); may be given more than once\n"
    "  --hose-port N            UDP port of the fire hose (default: off), with --hose-allow NETWORKS\n"
    "  --http-port N            metrics and health on 127.0.0.1 (default: off)\n"
    "  --window-back SECONDS    how old a transaction may be (genesis; default 120)\n"
    "  --window-ids N           transactions remembered inside that window (genesis; default 4194304)\n"
    "  --no-relation            let accounts write to each other without a relation (genesis)\n"
    "  --small                  small log segments, for tests and devnets\n"
    "  --passphrase-file FILE   wraps the keys; else it is asked for\n"
    "  --plain-keys             keys without a passphrase: for tests, and disks that are guarded otherwise\n";

static const char run_help[] =
    "usage: chappe run --folder DIR [--passphrase-file FILE] [--clock-ok] [--rejoin]\n"
    "\n"
    "Runs the validator in the foreground; settings are in DIR/chappe.yaml. Under systemd it says when it is ready and\n"
    "feeds the watchdog. It ends with 0 when asked to stop, with 6 when disk, log or consensus failed: look at the last\n"
    "line it wrote. --clock-ok vouches for this machine's clock: after more than a day without a commit, or a jump of the\n"
    "clock, nothing is signed without it. --rejoin is for a validator whose disk was lost (init it again, with its old keys and\n"
    "genesis): it asks the others for its last block before it signs anything.\n";

static const char status_help[] =
    "usage: chappe status --folder DIR [--json]\n\nAsks the validator that runs in DIR.\n";
static const char stop_help[] =
    "usage: chappe stop --folder DIR\n\nStops the validator that runs in DIR and waits for its end.\n";

static int fail(int code, const char *text)
{
    fprintf(stderr, "chappe: %s\n", text);
    return code;
}

static int exit_of(ch_err err)
{
    switch (err) {
    case CH_ERR_BAD_PASSPHRASE:
    case CH_ERR_READABLE_BY_OTHERS:
        return EXIT_KEY;
    case CH_ERR_INVALID:
        return EXIT_USAGE;
    case CH_ERR_EXISTS:
        return EXIT_REFUSED;
    default:
        return EXIT_FAILED;
    }
}

static bool number(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && errno == 0;
}

static int command_init(int argc, char **argv)
{
    enum {
        NAME = 256,
        GENESIS,
        ADDRESS,
        PORT,
        PROFILE,
        INTERFACE,
        REGISTRAR,
        HOSE_PORT,
        HOSE_ALLOW,
        HTTP_PORT,
        WINDOW_BACK,
        WINDOW_IDS,
        NO_RELATION,
        SMALL,
        PASSPHRASE,
        PLAIN
    };
    static const struct option options[] = {
        {"folder", required_argument, NULL, 'f'},
        {"name", required_argument, NULL, NAME},
        {"address", required_argument, NULL, ADDRESS},
        {"port", required_argument, NULL, PORT},
        {"profile", required_argument, NULL, PROFILE},
        {"interface", required_argument, NULL, INTERFACE},
        {"registrar", required_argument, NULL, REGISTRAR},
        {"genesis", required_argument, NULL, GENESIS},
        {"hose-port", required_argument, NULL, HOSE_PORT},
        {"hose-allow", required_argument, NULL, HOSE_ALLOW},
        {"http-port", required_argument, NULL, HTTP_PORT},
        {"window-back", required_argument, NULL, WINDOW_BACK},
        {"window-ids", required_argument, NULL, WINDOW_IDS},
        {"no-relation", no_argument, NULL, NO_RELATION},
        {"small", no_argument, NULL, SMALL},
        {"passphrase-file", required_argument, NULL, PASSPHRASE},
        {"plain-keys", no_argument, NULL, PLAIN},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    static struct ch_node_init init;
    char where[CH_GENESIS_ADDRESS_BYTES_MAX + 1], why[CH_NODE_WHY_BYTES];
    const char *genesis_file = NULL;
    uint64_t window_seconds = 120;
    bool chain_options = false;
    bool good = true;
    ch_genesis_defaults(&init.genesis, 1);
    ch_config_defaults(&init.config);
    snprintf(init.genesis.name, sizeof init.genesis.name, "chappe");
    for (int c; (c = getopt_long(argc, argv, "f:h", options, NULL)) != -1;) {
        struct ch_genesis *g = &init.genesis;
        chain_options |= c == NAME || c == REGISTRAR || c == WINDOW_BACK || c == WINDOW_IDS || c == NO_RELATION;
        switch (c) {
        case GENESIS: genesis_file = optarg; break;
        case 'f': init.folder = optarg; break;
        case NAME:
            good &= *optarg && strlen(optarg) < sizeof g->name;
            snprintf(g->name, sizeof g->name, "%s", optarg);
            break;
        case ADDRESS: snprintf(init.config.network_address, CH_CONFIG_TEXT_BYTES_MAX, "%s", optarg); break;
        case PORT: good &= number(optarg, &init.config.network_port); break;
        case PROFILE: snprintf(init.config.network_profile, CH_CONFIG_TEXT_BYTES_MAX, "%s", optarg); break;
        case INTERFACE: snprintf(init.config.network_interface, CH_CONFIG_TEXT_BYTES_MAX, "%s", optarg); break;
        case REGISTRAR:
            good &=
                g->registrar_count < CH_REGISTRARS_MAX && ch_hex_read(optarg, g->registrars[g->registrar_count], 32);
            g->registrar_count += good;
            break;
        case HOSE_PORT: good &= number(optarg, &init.config.network_hose_port); break;
        case HOSE_ALLOW: snprintf(init.config.network_hose_allow, CH_CONFIG_TEXT_BYTES_MAX, "%s", optarg); break;
        case HTTP_PORT: good &= number(optarg, &init.config.network_http_port); break;
        case WINDOW_BACK: good &= number(optarg, &window_seconds) && window_seconds <= UINT64_MAX / 1000; break;
        case WINDOW_IDS: good &= number(optarg, &g->limits.window_ids); break;
        case NO_RELATION: g->require_relation = false; break;
        case SMALL: init.config.store_log_segment_mib = 4; init.config.store_object_segment_mib = 64; break;
        case PASSPHRASE: init.passphrase_file = optarg; break;
        case PLAIN: init.plain_keys = true; break;
        case 'h': fputs(init_help, stdout); return EXIT_DONE;
        default: return EXIT_USAGE;
        }
        if (!good)
            return fail(EXIT_USAGE, "init: a value is not what its option takes; see chappe init --help");
    }
    if (!init.folder || optind != argc)
        return fail(EXIT_USAGE, "init needs --folder DIR; see chappe init --help");
    if (genesis_file && chain_options)
        return fail(EXIT_USAGE, "init: --genesis says what the chain is, other options about it don't go with it");
    init.genesis.limits.window_back_ms = window_seconds * 1000;
    if (genesis_file && ch_genesis_file_load(genesis_file, &init.genesis, why, sizeof why) != CH_OK)
        return fail(EXIT_USAGE, why);
    snprintf(where, sizeof where, "%.40s:%llu", init.config.network_address,
             (unsigned long long)init.config.network_port);
    init.address = where;
    uint8_t chain_id[CH_HASH_BYTES];
    ch_err err = ch_node_init(&init, chain_id, why);
    if (err != CH_OK)
        return fail(exit_of(err), why);
    char chain_hex[65], key_hex[65];
    printf("chain %s %s\nvalidator %s at %s\n", init.genesis.name, ch_hex_write(chain_id, 32, chain_hex),
           ch_hex_write(init.validator_key, 32, key_hex), where);
    return EXIT_DONE;
}

/* --folder, --json where the command has it, and the other options of run. */
static bool parse_folder(int argc, char **argv, const char *help, const char **folder, bool *json,
                         struct ch_node_options *run, int *code)
{
    static const struct option options[] = {
        {"folder", required_argument, NULL, 'f'}, {"json", no_argument, NULL, 'j'},
        {"passphrase-file", required_argument, NULL, 'p'}, {"clock-ok", no_argument, NULL, 'c'},
        {"rejoin", no_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'}, {0},
    };
    *code = EXIT_USAGE;
    for (int c; (c = getopt_long(argc, argv, "f:h", options, NULL)) != -1;) {
        if (c == 'f')
            *folder = optarg;
        else if (c == 'j' && json)
            *json = true;
        else if (c == 'p' && run)
            run->passphrase_file = optarg;
        else if (c == 'c' && run)
            run->clock_ok = true;
        else if (c == 'r' && run)
            run->rejoin = true;
        else {
            fputs(help, c == 'h' ? stdout : stderr);
            *code = c == 'h' ? EXIT_DONE : EXIT_USAGE;
            return false;
        }
    }
    if (!*folder || optind != argc) {
        fputs(help, stderr);
        return false;
    }
    return true;
}

static int command_run(int argc, char **argv)
{
    const char *folder = NULL;
    char why[CH_NODE_WHY_BYTES] = "";
    struct ch_node *node = NULL;
    struct ch_control *control = NULL;
    struct ch_node_options options = {0};
    int code;
    if (!parse_folder(argc, argv, run_help, &folder, NULL, &options, &code))
        return code;
    options.folder = folder;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    ch_err err = ch_node_open(&options, &node, why);
    if (err == CH_OK)
        err = ch_control_open(node, &control, why);
    if (err == CH_OK)
        err = ch_node_start(node);
    if (err != CH_OK) {
        ch_control_close(control);
        ch_node_close(node);
        return fail(exit_of(err), *why ? why : ch_err_text(err));
    }
    ch_log(CH_LOG_NOTICE, "validator of %s runs: %s %s:%llu, folder %s", node->genesis.name,
           node->config.network_profile, node->config.network_address,
           (unsigned long long)node->config.network_port, folder);
#ifdef CH_ACCEPT_ALL
    ch_log(CH_LOG_WARNING, "THIS BUILD TAKES EVERY SIGNATURE FOR GOOD: it measures, it must serve nobody");
#endif
    bool stop = false, told_ready = false;
    while (!stop && !atomic_load(&node->failed)) {
        struct pollfd fds[2] = {{.fd = signal_fd, .events = POLLIN}, {.fd = ch_control_fd(control), .events = POLLIN}};
        poll(fds, 2, 500);
        stop = fds[0].revents != 0;
        stop |= ch_control_answer(control);
        ch_node_look_after(node);
        if (!told_ready && atomic_load(&node->ready)) {
            told_ready = true;
            sd_notify(0, "READY=1");
        }
        sd_notify(0, "WATCHDOG=1");
    }
    err = (ch_err)atomic_load(&node->failed);
    bool disk_low = atomic_load(&node->disk_low);
    sd_notify(0, "STOPPING=1");
    ch_control_close(control);
    ch_node_close(node);
    close(signal_fd);
    if (err != CH_OK) {
        /* LMDB tells of a write that the disk had only half the room for as of an I/O error. */
        ch_log(CH_LOG_ERROR, "the validator ends: %s%s", ch_err_text(err), disk_low ? "; its disk is full" : "");
        return EXIT_FAILED;
    }
    ch_log(CH_LOG_NOTICE, "stopped");
    return EXIT_DONE;
}

static void print_peers(const json_t *status)
{
    const json_t *peers = json_object_get(status, "peers"), *peer;
    size_t i, up = 0;
    json_array_foreach(peers, i, peer)
        up += json_is_true(json_object_get(peer, "connected"));
    if (json_array_size(peers))
        printf("committee     %zu of %zu others connected%s%s\n", up, json_array_size(peers),
               json_is_true(json_object_get(status, "quorum")) ? "" : ": NO QUORUM, nothing becomes final",
               json_is_true(json_object_get(status, "lagging")) ? ", catching up" : "");
}

static void print_objects(const json_t *status)
{
    const json_t *counters = json_object_get(status, "counters");
#define COUNT(name) json_integer_value(json_object_get(counters, "serve_" name))
    long long left = COUNT("repair_left"), missing = COUNT("repair_waiting"), restored = COUNT("blocks_restored_total");
    if (!json_array_size(json_object_get(status, "peers")))
        printf("objects       %lld blocks put here\n", COUNT("objects_stored_total"));
    else if (left || missing)
        printf("objects       restoring: %lld blocks missing, %lld lists to look through; %lld restored (%lld MiB)\n",
               missing, left, restored, COUNT("blocks_restored_bytes_total") >> 20);
    else
        printf("objects       all here; %lld blocks put here, %lld fetched from others, %lld restored\n",
               COUNT("blocks_spread_total"), COUNT("blocks_fetched_total"), restored);
#undef COUNT
}

static int command_status(int argc, char **argv)
{
    const char *folder = NULL;
    bool as_json = false;
    char *text = NULL;
    int code;
    if (!parse_folder(argc, argv, status_help, &folder, &as_json, NULL, &code))
        return code;
    if (ch_control_ask(folder, "status", &text) != CH_OK)
        return fail(EXIT_UNREACHABLE, "no validator runs in that folder");
    json_t *s = json_loads(text, 0, NULL);
    if (as_json || !s) {
        puts(text);
    } else {
        json_t *counters = json_object_get(s, "counters");
        printf("chain         %s %s\n", json_string_value(json_object_get(s, "chain")),
               json_string_value(json_object_get(s, "chain_id")));
        printf("validator     %s, pid %lld, up %lld s\n", json_string_value(json_object_get(s, "validator")),
               json_integer_value(json_object_get(s, "pid")),
               json_integer_value(json_object_get(s, "uptime_ms")) / 1000);
        printf("state         %s%s%s\n", json_is_true(json_object_get(s, "ready")) ? "ready" : "starting",
               json_is_false(json_object_get(s, "link")) ? ", link down" : "",
               json_is_true(json_object_get(s, "disk_low")) ? ", disk full: reads only" : "");
        printf("network       %s, kernel %s\n", json_string_value(json_object_get(s, "profile")),
               json_string_value(json_object_get(s, "kernel")));
        printf("consensus     round %lld, commit %lld\n", json_integer_value(json_object_get(s, "round")),
               json_integer_value(json_object_get(s, "commit_index")));
        print_peers(s);
        printf("transactions  %lld applied, %lld refused by the ledger\n",
               json_integer_value(json_object_get(counters, "apply_transactions_applied_total")),
               json_integer_value(json_object_get(counters, "apply_transactions_refused_total")));
        print_objects(s);
        printf("log           %lld bytes on disk\n", json_integer_value(json_object_get(s, "log_bytes")));
    }
    json_decref(s);
    free(text);
    return EXIT_DONE;
}

/* Ended, be it that its parent has not looked yet. */
static bool ended(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return true;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 0;
    fclose(file);
    return state == 'Z' || state == 'X';
}

static int command_stop(int argc, char **argv)
{
    const char *folder = NULL;
    char *text = NULL;
    int code;
    if (!parse_folder(argc, argv, stop_help, &folder, NULL, NULL, &code))
        return code;
    if (ch_control_ask(folder, "stop", &text) != CH_OK)
        return fail(EXIT_UNREACHABLE, "no validator runs in that folder");
    json_t *answer = json_loads(text, 0, NULL);
    pid_t pid = (pid_t)json_integer_value(json_object_get(answer, "pid"));
    json_decref(answer);
    free(text);
    for (int i = 0; i < 600; i++) {
        if (pid <= 0 || ended(pid))
            return EXIT_DONE;
        usleep(50000);
    }
    return fail(EXIT_FAILED, "it was asked to stop and still runs");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"init", command_init}, {"run", command_run}, {"status", command_status}, {"stop", command_stop},
        {"devnet", ch_command_devnet}};
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(help_text, argc < 2 ? stderr : stdout);
        return argc < 2 ? EXIT_USAGE : EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    return ch_cli_main(argc, argv);
}
