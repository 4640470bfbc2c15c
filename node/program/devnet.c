#include "node/program/devnet.h"

#include "client/cli.h"
#include "node/devnet.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help_text[] =
    "usage: chappe devnet COMMAND [--folder DIR] [--json]\n"
    "\n"
    "A whole chain on this machine: validators 1, 2, ... with their folders, logs and processes in DIR (default: ./devnet).\n"
    "Its keys have no passphrase: for trying, showing and testing.\n"
    "\n"
    "  start                    make it, if it isn't there, start it and wait until all are ready\n"
    "    --n N                  that many validators, 1 to 32 (default: 4)\n"
    "    --netns                each on a host of its own (network namespace), with DPDK, and a switch between them;\n"
    "                           as root, or in a user namespace; needs ip and ethtool. Else through the kernel's sockets\n"
    "    --port N               validator i is at 127.0.0.1, UDP port N+i; with --netns at 10.78.0.i, port N (default: 4740)\n"
    "    --no-relation          let accounts write to each other without a relation\n"
    "  status                   a line for each validator; --json has all that `chappe status` knows\n"
    "  stop [I]                 stop validator I; without I all, and take the hosts away. The chain stays for the next start\n"
    "  kill I                   end validator I as a power cut would (SIGKILL)\n"
    "  restart I                start validator I again; stop it first where it runs\n"
    "    --rejoin               its log was lost: chappe run --rejoin\n"
    "    --clock-ok             vouch for the clock: chappe run --clock-ok\n"
    "  exec [--] COMMAND ...    run a command where the validators can be reached: with --netns in the people's namespace\n"
    "\n"
    "Breaking the network, with --netns:\n"
    "  partition GROUP/GROUP    such as 1,2/3,4: nothing passes between the groups; who is in none keeps all links\n"
    "  cut A B                  what A sends does not reach B; the other direction stays\n"
    "  loss A B PERCENT         of the packets between A and B, each way; 0 ends it\n"
    "  delay A B MS             each way, up to 10000; 0 ends it\n"
    "  heal                     all links are whole again\n"
    "\n"
    "--json: every command but exec ends with the status as JSON.\n";

enum { OPTION_N = 256, OPTION_NETNS, OPTION_PORT, OPTION_NO_RELATION, OPTION_REJOIN, OPTION_CLOCK_OK };

struct request {
    const char *folder;
    bool json, netns, no_relation, rejoin, clock_ok, restarts, starts; /* the last two: an option of these was given */
    uint64_t validators, port;
    char **words; /* what is not an option */
    int count;
};

__attribute__((format(printf, 2, 3))) static int refuse(int code, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fputs("chappe: devnet ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    return code;
}

static int refuse_err(const char *command, ch_err err, const char *why)
{
    int code = CH_CLI_LOCAL;
    if (err == CH_ERR_INVALID)
        code = CH_CLI_USAGE;
    else if (err == CH_ERR_NOT_FOUND)
        code = CH_CLI_UNREACHABLE;
    else if (err == CH_ERR_EXISTS || err == CH_ERR_BUSY || err == CH_ERR_UNSUPPORTED)
        code = CH_CLI_REFUSED;
    return refuse(code, "%s: %s", command, why);
}

static bool number(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && errno == 0;
}

/* One validator's number at the head of `text`, which goes on behind it. */
static bool validator(const struct ch_devnet *d, const char *command, const char **text, uint32_t *i)
{
    char *end;
    unsigned long value = **text >= '0' && **text <= '9' ? strtoul(*text, &end, 10) : 0;
    if (value < 1 || value > d->validators) {
        refuse(CH_CLI_USAGE, "%s: \"%s\": there is no such validator, they go from 1 to %u", command, *text,
               d->validators);
        return false;
    }
    *text = end;
    *i = (uint32_t)value;
    return true;
}

static bool whole_validator(const struct ch_devnet *d, const char *command, const char *text, uint32_t *i)
{
    const char *rest = text;
    if (!validator(d, command, &rest, i))
        return false;
    if (*rest)
        refuse(CH_CLI_USAGE, "%s: \"%s\" is no validator's number", command, text);
    return !*rest;
}

static void print_links(json_t *links)
{
    size_t index;
    json_t *link;
    json_array_foreach(links, index, link) {
        printf("  link %lld to %lld:", json_integer_value(json_object_get(link, "from")),
               json_integer_value(json_object_get(link, "to")));
        bool cut = json_is_true(json_object_get(link, "cut"));
        json_int_t loss = json_integer_value(json_object_get(link, "loss_percent"));
        json_int_t delay = json_integer_value(json_object_get(link, "delay_ms"));
        printf("%s%s", cut ? " cut" : "", cut && (loss || delay) ? "," : "");
        if (loss)
            printf(" loses %lld %%%s", loss, delay ? "," : "");
        if (delay)
            printf(" delays %lld ms", delay);
        putchar('\n');
    }
}

static const char *state_of(json_t *validator, json_t *status)
{
    const char *halt = json_string_value(json_object_get(status, "halt"));
    if (!json_is_true(json_object_get(validator, "alive")))
        return "down";
    if (!json_is_object(status))
        return "no answer";
    if (halt && strcmp(halt, "none") != 0)
        return halt;
    if (!json_is_true(json_object_get(status, "ready")))
        return json_is_false(json_object_get(status, "quorum")) ? "no quorum" : "starting";
    if (!json_is_true(json_object_get(status, "signing")))
        return "not signing";
    if (json_is_false(json_object_get(status, "quorum")))
        return "no quorum";
    return json_is_true(json_object_get(status, "lagging")) ? "catching up" : "ready";
}

static void print_status(const struct ch_devnet *d, bool as_json)
{
    json_t *all = ch_devnet_status(d), *validator;
    size_t index;
    if (as_json) {
        char *text = json_dumps(all, JSON_COMPACT);
        puts(text ? text : "{}");
        free(text);
        json_decref(all);
        return;
    }
    printf("devnet of %u in %s, %s\n", d->validators, d->folder,
           d->netns ? "DPDK on hosts of their own" : "through the kernel's sockets");
    printf("  %-9s  %-15s  %7s  %-11s  %9s  %9s  %s\n", "validator", "address", "pid", "state", "round", "commit",
           "log root");
    json_array_foreach(json_object_get(all, "validators"), index, validator) {
        json_t *status = json_object_get(validator, "status");
        const char *root = json_string_value(json_object_get(status, "log_root"));
        long long pid = json_integer_value(json_object_get(validator, "pid"));
        char process[24] = "-", round[24] = "-", commit[24] = "-";
        if (pid)
            snprintf(process, sizeof process, "%lld", pid);
        if (json_is_object(status)) {
            snprintf(round, sizeof round, "%lld", json_integer_value(json_object_get(status, "round")));
            snprintf(commit, sizeof commit, "%lld", json_integer_value(json_object_get(status, "commit_index")));
        }
        printf("  %-9lld  %-15s  %7s  %-11s  %9s  %9s  %.12s\n",
               json_integer_value(json_object_get(validator, "validator")),
               json_string_value(json_object_get(validator, "address")), process, state_of(validator, status), round,
               commit, root ? root : "-");
    }
    print_links(json_object_get(all, "links"));
    json_decref(all);
}

static int start(const struct request *r)
{
    struct ch_devnet d;
    char why[CH_NODE_WHY_BYTES] = "";
    ch_err err = ch_devnet_open(r->folder, true, &d, why);
    if (err == CH_ERR_NOT_FOUND) {
        err = ch_devnet_create(r->folder, (uint32_t)(r->validators ? r->validators : 4),
                               (uint16_t)(r->port ? r->port : 4740), r->netns, !r->no_relation, &d, why);
    } else if (err == CH_OK && ((r->validators && r->validators != d.validators) || (r->port && r->port != d.port) ||
                                (r->netns && !d.netns) || r->no_relation)) {
        ch_devnet_close(&d);
        return refuse(CH_CLI_REFUSED,
                      "start: %s is there and has %u validators, port %u and %s; other options need another "
                      "--folder",
                      d.folder, d.validators, d.port, d.netns ? "--netns" : "no --netns");
    }
    if (err != CH_OK)
        return refuse_err("start", err, why);
    if ((err = ch_devnet_start(&d, why)) == CH_OK)
        print_status(&d, r->json);
    ch_devnet_close(&d);
    return err == CH_OK ? CH_CLI_OK : refuse_err("start", err, why);
}

/* What the commands with a devnet that is there do; `why` as everywhere, a negative code for a refusal already told. */
typedef ch_err command(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code);

static ch_err command_status(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code)
{
    return CH_OK;
}

static ch_err command_stop(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code)
{
    uint32_t i;
    if (!r->count)
        return ch_devnet_stop(d, why);
    if (!whole_validator(d, "stop", r->words[0], &i)) {
        *code = CH_CLI_USAGE;
        return CH_ERR_INVALID;
    }
    return ch_devnet_stop_one(d, i, why);
}

static ch_err command_kill(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code)
{
    uint32_t i;
    if (!whole_validator(d, "kill", r->words[0], &i)) {
        *code = CH_CLI_USAGE;
        return CH_ERR_INVALID;
    }
    return ch_devnet_kill_one(d, i, why);
}

static ch_err command_restart(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES],
                              int *code)
{
    const char *options[3] = {NULL};
    int count = 0;
    uint32_t i;
    if (!whole_validator(d, "restart", r->words[0], &i)) {
        *code = CH_CLI_USAGE;
        return CH_ERR_INVALID;
    }
    if (r->rejoin)
        options[count++] = "--rejoin";
    if (r->clock_ok)
        options[count++] = "--clock-ok";
    ch_err err = ch_devnet_stop_one(d, i, why);
    return err == CH_OK || err == CH_ERR_NOT_FOUND ? ch_devnet_start_one(d, i, options, why) : err;
}

static ch_err command_partition(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES],
                                int *code)
{
    uint32_t group_of[CH_DEVNET_VALIDATORS_MAX + 1] = {0}, group = 1, i;
    char request[48];
    *code = CH_CLI_USAGE;
    for (const char *text = r->words[0];;) {
        if (!validator(d, "partition", &text, &i))
            return CH_ERR_INVALID;
        if (group_of[i] || (*text && *text != ',' && *text != '/')) {
            refuse(CH_CLI_USAGE, "partition: \"%s\" is no list of groups such as 1,2/3,4", r->words[0]);
            return CH_ERR_INVALID;
        }
        group_of[i] = group;
        group += *text == '/';
        if (!*text++)
            break;
    }
    if (group < 2) {
        refuse(CH_CLI_USAGE, "partition: \"%s\" is one group; name two at least, such as 1,2/3,4", r->words[0]);
        return CH_ERR_INVALID;
    }
    *code = 0;
    ch_err err = CH_OK;
    for (uint32_t from = 1; from <= d->validators; from++)
        for (uint32_t to = 1; to <= d->validators && err == CH_OK; to++)
            if (group_of[from] && group_of[to] && group_of[from] != group_of[to]) {
                snprintf(request, sizeof request, "cut %u %u", from, to);
                err = ch_devnet_ask_switch(d, request, why);
            }
    return err;
}

/* The two validators of a link, and one of "cut", "loss", "delay" for it. */
static ch_err command_link(const struct ch_devnet *d, const struct request *r, const char *verb, uint64_t most,
                           char why[CH_NODE_WHY_BYTES], int *code)
{
    uint32_t a, b;
    uint64_t value = 0;
    char request[48];
    *code = CH_CLI_USAGE;
    if (!whole_validator(d, verb, r->words[0], &a) || !whole_validator(d, verb, r->words[1], &b))
        return CH_ERR_INVALID;
    if (a == b) {
        refuse(CH_CLI_USAGE, "%s: %u has no link to itself", verb, a);
        return CH_ERR_INVALID;
    }
    if (most && (!number(r->words[2], &value) || value > most)) {
        refuse(CH_CLI_USAGE, "%s: \"%s\" is not from 0 to %llu", verb, r->words[2], (unsigned long long)most);
        return CH_ERR_INVALID;
    }
    *code = 0;
    if (!most) {
        snprintf(request, sizeof request, "%s %u %u", verb, a, b);
        return ch_devnet_ask_switch(d, request, why);
    }
    snprintf(request, sizeof request, "%s %u %u %u", verb, a, b, (unsigned)value);
    ch_err err = ch_devnet_ask_switch(d, request, why);
    snprintf(request, sizeof request, "%s %u %u %u", verb, b, a, (unsigned)value);
    return err == CH_OK ? ch_devnet_ask_switch(d, request, why) : err;
}

static ch_err command_cut(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code)
{
    return command_link(d, r, "cut", 0, why, code);
}

static ch_err command_loss(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code)
{
    return command_link(d, r, "loss", 100, why, code);
}

static ch_err command_delay(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code)
{
    return command_link(d, r, "delay", CH_SWITCH_DELAY_MS_MAX, why, code);
}

static ch_err command_heal(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code)
{
    return ch_devnet_ask_switch(d, "heal", why);
}

static ch_err command_exec(const struct ch_devnet *d, const struct request *r, char why[CH_NODE_WHY_BYTES], int *code)
{
    ch_err err = ch_devnet_enter(d, why);
    if (err != CH_OK)
        return err;
    execvp(r->words[0], r->words);
    snprintf(why, CH_NODE_WHY_BYTES, "%.200s: %s", r->words[0], strerror(errno));
    return CH_ERR_INVALID;
}

int ch_command_devnet(int argc, char **argv)
{
    static const struct {
        const char *name;
        command *run; /* NULL: start, which needs no devnet yet */
        int least, most;
        const char *takes;
        bool changes;
    } commands[] = {
        {"start", NULL, 0, 0, "no arguments", true},
        {"status", command_status, 0, 0, "no arguments", false},
        {"stop", command_stop, 0, 1, "one validator's number or none", true},
        {"kill", command_kill, 1, 1, "a validator's number", true},
        {"restart", command_restart, 1, 1, "a validator's number", true},
        {"partition", command_partition, 1, 1, "groups of validators, such as 1,2/3,4", true},
        {"cut", command_cut, 2, 2, "two validators: from, to", true},
        {"loss", command_loss, 3, 3, "two validators and a percentage", true},
        {"delay", command_delay, 3, 3, "two validators and milliseconds", true},
        {"heal", command_heal, 0, 0, "no arguments", true},
        {"exec", command_exec, 1, 1 << 20, "a command", false},
    };
    static const struct option options[] = {
        {"folder", required_argument, NULL, 'f'},
        {"json", no_argument, NULL, 'j'},
        {"n", required_argument, NULL, OPTION_N},
        {"netns", no_argument, NULL, OPTION_NETNS},
        {"port", required_argument, NULL, OPTION_PORT},
        {"no-relation", no_argument, NULL, OPTION_NO_RELATION},
        {"rejoin", no_argument, NULL, OPTION_REJOIN},
        {"clock-ok", no_argument, NULL, OPTION_CLOCK_OK},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct request r = {.folder = "devnet"};
    struct ch_devnet d;
    char why[CH_NODE_WHY_BYTES] = "";
    if (argc < 2) {
        fputs(help_text, stderr);
        return CH_CLI_USAGE;
    }
    const char *name = argv[1][0] == '-' ? "" : argv[1];
    bool exec = strcmp(name, "exec") == 0; /* its command's options are not ours */
    optind = *name ? 2 : 1;
    for (int c; (c = getopt_long(argc, argv, exec ? "+f:h" : "f:h", options, NULL)) != -1;) {
        switch (c) {
        case 'f': r.folder = optarg; break;
        case 'j': r.json = true; break;
        case OPTION_N:
            if (!number(optarg, &r.validators) || r.validators < 1 || r.validators > CH_DEVNET_VALIDATORS_MAX)
                return refuse(CH_CLI_USAGE, "start: --n %s is not from 1 to %u", optarg, CH_DEVNET_VALIDATORS_MAX);
            r.starts = true;
            break;
        case OPTION_NETNS: r.starts = r.netns = true; break;
        case OPTION_PORT:
            if (!number(optarg, &r.port) || r.port < 1 || r.port > 65535 - CH_DEVNET_VALIDATORS_MAX)
                return refuse(CH_CLI_USAGE, "start: --port %s is not from 1 to %u", optarg,
                              65535 - CH_DEVNET_VALIDATORS_MAX);
            r.starts = true;
            break;
        case OPTION_NO_RELATION: r.starts = r.no_relation = true; break;
        case OPTION_REJOIN: r.restarts = r.rejoin = true; break;
        case OPTION_CLOCK_OK: r.restarts = r.clock_ok = true; break;
        case 'h': fputs(help_text, stdout); return CH_CLI_OK;
        default: return CH_CLI_USAGE; /* getopt has named it */
        }
    }
    r.words = argv + optind;
    r.count = argc - optind;
    size_t k = 0, known = sizeof commands / sizeof *commands;
    while (k < known && strcmp(commands[k].name, name) != 0)
        k++;
    if (k == known)
        return refuse(CH_CLI_USAGE, "\"%s\" is no command; see chappe devnet --help", argv[1]);
    if (r.count < commands[k].least || r.count > commands[k].most)
        return refuse(CH_CLI_USAGE, "%s takes %s", name, commands[k].takes);
    if (r.starts && commands[k].run)
        return refuse(CH_CLI_USAGE, "%s: --n, --netns, --port and --no-relation go with start", name);
    if (r.restarts && commands[k].run != command_restart)
        return refuse(CH_CLI_USAGE, "%s: --rejoin and --clock-ok go with restart", name);
    if (!commands[k].run)
        return start(&r);

    int code = 0;
    ch_err err = ch_devnet_open(r.folder, commands[k].changes, &d, why);
    if (err != CH_OK)
        return refuse_err(name, err, why);
    err = commands[k].run(&d, &r, why, &code);
    if (err == CH_OK && (r.json || commands[k].run == command_status))
        print_status(&d, r.json);
    ch_devnet_close(&d);
    if (err != CH_OK && !code)
        code = refuse_err(name, err, why);
    return code;
}
