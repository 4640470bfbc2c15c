#include "node/devnet.h"

#include "base/time.h"
#include "node/control.h"
#include "node/devnet_process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX  192
#define START_SECONDS   60
#define STOP_SECONDS    30
#define LOG_SEGMENT_MIB 4
#define OBJ_SEGMENT_MIB 64

__attribute__((format(printf, 3, 4))) static ch_err say(char why[CH_NODE_WHY_BYTES], ch_err err, const char *format,
                                                        ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(why, CH_NODE_WHY_BYTES, format, values);
    va_end(values);
    return err;
}

static const char *path_of(const struct ch_devnet *d, const char *name, char path[PATH_BYTES_MAX])
{
    snprintf(path, PATH_BYTES_MAX, "%s/%s", d->folder, name);
    return path;
}

/* "I" or "I.pid" and so on. */
static const char *path_of_one(const struct ch_devnet *d, uint32_t i, const char *ending, char path[PATH_BYTES_MAX])
{
    snprintf(path, PATH_BYTES_MAX, "%s/%u%s", d->folder, i, ending);
    return path;
}

static void ip_of(const struct ch_devnet *d, uint32_t i, char text[16])
{
    if (d->netns)
        snprintf(text, 16, "%s%u", CH_SWITCH_NETWORK, i & 255);
    else
        snprintf(text, 16, "127.0.0.1");
}

static uint16_t port_of(const struct ch_devnet *d, uint32_t i)
{
    return d->netns ? d->port : (uint16_t)(d->port + i);
}

static void address_of(const struct ch_devnet *d, uint32_t i, char text[CH_GENESIS_ADDRESS_BYTES_MAX + 1])
{
    char ip[16];
    ip_of(d, i, ip);
    snprintf(text, CH_GENESIS_ADDRESS_BYTES_MAX + 1, "%s:%u", ip, port_of(d, i));
}

static ch_err take_folder(const char *folder, struct ch_devnet *d, char why[CH_NODE_WHY_BYTES])
{
    char absolute[PATH_MAX];
    if (!realpath(folder, absolute))
        return say(why, errno == ENOENT ? CH_ERR_NOT_FOUND : CH_ERR_IO, "%s: %s", folder, strerror(errno));
    if (strlen(absolute) > CH_DEVNET_FOLDER_BYTES_MAX)
        return say(why, CH_ERR_INVALID, "%s: a path of more than %d bytes does not fit a socket's address", absolute,
                   CH_DEVNET_FOLDER_BYTES_MAX);
    snprintf(d->folder, sizeof d->folder, "%.*s", CH_DEVNET_FOLDER_BYTES_MAX, absolute);
    return CH_OK;
}

static ch_err take_lock(struct ch_devnet *d, char why[CH_NODE_WHY_BYTES])
{
    d->lock = open(d->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->lock >= 0 && flock(d->lock, LOCK_EX | LOCK_NB) == 0)
        return CH_OK;
    ch_err err = d->lock >= 0 && errno == EWOULDBLOCK ? CH_ERR_BUSY : CH_ERR_IO;
    if (d->lock >= 0)
        close(d->lock);
    return say(why, err, "%s: %s", d->folder,
               err == CH_ERR_BUSY ? "another devnet command is at work here" : strerror(errno));
}

static bool folder_is_empty(const char *folder)
{
    DIR *entries = opendir(folder);
    bool empty = entries != NULL;
    for (struct dirent *entry; empty && (entry = readdir(entries));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (entries)
        closedir(entries);
    return empty;
}

/* The keys of all, then the genesis that names them, then each folder around it. */
static ch_err make_folders(const struct ch_devnet *d, struct ch_node_init *init, char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    uint8_t keys[CH_DEVNET_VALIDATORS_MAX][32], chain_id[CH_HASH_BYTES];
    struct ch_genesis *genesis = &init->genesis;
    init->plain_keys = true;
    ch_err err = CH_OK;
    for (uint32_t i = 1; i <= d->validators && err == CH_OK; i++) {
        init->folder = path_of_one(d, i, "", path);
        if ((err = ch_node_init_key(init, why)) == CH_OK)
            memcpy(keys[i - 1], init->validator_key, 32);
    }
    genesis->validator_count = (uint16_t)d->validators;
    for (uint32_t i = 1; i <= d->validators && err == CH_OK; i++) {
        memcpy(genesis->validators[i - 1].key, keys[i - 1], 32);
        genesis->validators[i - 1].stake = 1;
        address_of(d, i, genesis->validators[i - 1].address);
    }
    for (uint32_t i = 1; i <= d->validators && err == CH_OK; i++) {
        char ip[16];
        ip_of(d, i, ip);
        ch_config_defaults(&init->config);
        snprintf(init->config.network_address, CH_CONFIG_TEXT_BYTES_MAX, "%s", ip);
        init->config.network_port = port_of(d, i);
        init->config.stages_verify_stages = 1; /* the machine is shared */
        init->config.store_log_segment_mib = LOG_SEGMENT_MIB;
        init->config.store_object_segment_mib = OBJ_SEGMENT_MIB;
        if (d->netns) {
            snprintf(init->config.network_profile, CH_CONFIG_TEXT_BYTES_MAX, "af_packet");
            snprintf(init->config.network_interface, CH_CONFIG_TEXT_BYTES_MAX, "%s", CH_SWITCH_INTERFACE);
        }
        init->folder = path_of_one(d, i, "", path);
        err = ch_node_init(init, chain_id, why);
    }
    return err;
}

ch_err ch_devnet_create(const char *folder, uint32_t validators, uint16_t port, bool netns, bool require_relation,
                        struct ch_devnet *out, char why[CH_NODE_WHY_BYTES])
{
    struct ch_devnet d = {.validators = validators, .port = port, .netns = netns, .lock = -1};
    char path[PATH_BYTES_MAX];
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return say(why, CH_ERR_IO, "%s: %s", folder, strerror(errno));
    ch_err err = take_folder(folder, &d, why);
    if (err == CH_OK)
        err = take_lock(&d, why);
    if (err != CH_OK)
        return err;
    struct ch_node_init *init = NULL;
    if (!folder_is_empty(d.folder))
        err = say(why, CH_ERR_EXISTS, "%s is not empty and no devnet; name another --folder", d.folder);
    else if (!(init = calloc(1, sizeof *init)))
        err = say(why, CH_ERR_NO_MEMORY, "%s", ch_err_text(CH_ERR_NO_MEMORY));
    if (err == CH_OK) {
        ch_genesis_defaults(&init->genesis, (uint16_t)validators);
        snprintf(init->genesis.name, sizeof init->genesis.name, "devnet");
        init->genesis.require_relation = require_relation;
        err = make_folders(&d, init, why);
    }
    free(init);
    if (err == CH_OK) { /* last: what was left half made is no devnet */
        json_t *facts =
            json_pack("{s:i, s:i, s:b}", "validators", (int)validators, "port", (int)port, "netns", (int)netns);
        if (!facts || json_dump_file(facts, path_of(&d, "devnet.json", path), JSON_INDENT(2)) != 0)
            err = say(why, CH_ERR_IO, "%s: %s", path, strerror(errno));
        json_decref(facts);
    }
    if (err != CH_OK) {
        ch_devnet_close(&d);
        return err;
    }
    *out = d;
    return CH_OK;
}

ch_err ch_devnet_open(const char *folder, bool change, struct ch_devnet *out, char why[CH_NODE_WHY_BYTES])
{
    struct ch_devnet d = {.lock = -1};
    char path[PATH_BYTES_MAX];
    int validators = 0, port = 0, netns = 0;
    ch_err err = take_folder(folder, &d, why);
    if (err == CH_ERR_NOT_FOUND)
        return say(why, err, "no devnet in %s; `chappe devnet start` makes one", folder);
    if (err != CH_OK)
        return err;
    json_t *facts = json_load_file(path_of(&d, "devnet.json", path), 0, NULL);
    if (!facts && access(path, F_OK) != 0)
        return say(why, CH_ERR_NOT_FOUND, "no devnet in %s; `chappe devnet start` makes one", folder);
    if (json_unpack(facts, "{s:i, s:i, s:b}", "validators", &validators, "port", &port, "netns", &netns) != 0 ||
        validators < 1 || validators > CH_DEVNET_VALIDATORS_MAX || port < 1 || port > 65535 - validators)
        err = say(why, CH_ERR_INVALID, "%s does not say what this devnet is", path);
    json_decref(facts);
    if (err == CH_OK && change)
        err = take_lock(&d, why);
    if (err != CH_OK)
        return err;
    d.validators = (uint32_t)validators;
    d.port = (uint16_t)port;
    d.netns = netns;
    *out = d;
    return CH_OK;
}

void ch_devnet_close(struct ch_devnet *d)
{
    if (d->lock >= 0)
        close(d->lock);
    d->lock = -1;
}

static json_t *ask(const struct ch_devnet *d, uint32_t i, const char *request)
{
    char path[PATH_BYTES_MAX], *text = NULL;
    if (ch_control_ask(path_of_one(d, i, "", path), request, &text) != CH_OK)
        return NULL;
    json_t *answer = json_loads(text, 0, NULL);
    free(text);
    return answer;
}

/* The last line that the validator wrote, without journald's priority: why it ended. */
static const char *last_words(const struct ch_devnet *d, uint32_t i, char line[256])
{
    char path[PATH_BYTES_MAX], read[256];
    FILE *log = fopen(path_of_one(d, i, ".log", path), "re");
    snprintf(line, 256, "no word of why");
    while (log && fgets(read, sizeof read, log)) {
        const char *text = read[0] == '<' && strchr(read, '>') ? strchr(read, '>') + 1 : read;
        text += strncmp(text, "chappe: ", 8) == 0 ? 8 : 0;
        if (*text > ' ')
            snprintf(line, 256, "%.*s", (int)strcspn(text, "\n"), text);
    }
    if (log)
        fclose(log);
    return line;
}

/* Until the validator answers, or (`ready`) takes work; or it ended, or `end_ms` of the monotonic clock has come. */
static ch_err wait_for(const struct ch_devnet *d, uint32_t i, bool ready, uint64_t end_ms, char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX], line[256];
    for (;;) {
        struct ch_process process;
        if (!ch_process_find(path_of_one(d, i, ".pid", path), &process))
            return say(why, CH_ERR_CLOSED, "validator %u ended: %s (%s/%u.log)", i, last_words(d, i, line), d->folder,
                       i);
        json_t *answer = ask(d, i, "status");
        bool there = answer && json_integer_value(json_object_get(answer, "pid")) == process.pid &&
                     (!ready || json_is_true(json_object_get(answer, "ready")));
        json_decref(answer);
        ch_process_forget(&process);
        if (there)
            return CH_OK;
        if (ch_time_monotonic_ns() / 1000000 > end_ms)
            return say(why, CH_ERR_TIMEOUT, "validator %u %s within %d s; see %s/%u.log", i,
                       ready ? "was not ready" : "did not answer", START_SECONDS, d->folder, i);
        usleep(50000);
    }
}

static uint64_t start_deadline_ms(void)
{
    return ch_time_monotonic_ns() / 1000000 + START_SECONDS * 1000;
}

static bool runs(const struct ch_devnet *d, uint32_t i)
{
    char path[PATH_BYTES_MAX];
    struct ch_process process;
    if (!ch_process_find(path_of_one(d, i, ".pid", path), &process))
        return false;
    ch_process_forget(&process);
    return true;
}

static const char *switch_folder(const struct ch_devnet *d, char path[PATH_BYTES_MAX])
{
    return path_of(d, "switch", path);
}

static ch_err launch(const struct ch_devnet *d, uint32_t i, const char *const *options, char why[CH_NODE_WHY_BYTES])
{
    char folder[PATH_BYTES_MAX], pid_file[PATH_BYTES_MAX], log[PATH_BYTES_MAX], network[PATH_BYTES_MAX],
        program[PATH_MAX];
    const char *words[16] = {program, "run", "--folder", path_of_one(d, i, "", folder)};
    size_t count = 4;
    while (options && *options && count < 15)
        words[count++] = *options++;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return say(why, CH_ERR_IO, "/proc/self/exe: %s", strerror(errno));
    program[length] = 0;
    if (d->netns && !ch_switch_runs(switch_folder(d, network)))
        return say(why, CH_ERR_NOT_FOUND, "the devnet's network is gone; `chappe devnet stop`, then start");
    pid_t child;
    ch_err err = ch_process_fork(path_of_one(d, i, ".pid", pid_file), path_of_one(d, i, ".log", log), -1, &child);
    if (err != CH_OK)
        return say(why, err, "validator %u: %s", i, ch_err_text(err));
    if (child == 0) {
        err = d->netns ? ch_switch_enter(network, i) : CH_OK;
        if (err == CH_OK)
            execv(program, (char *const *)words);
        fprintf(stderr, "%s\n", err != CH_OK ? "no host to run in" : strerror(errno));
        _exit(127);
    }
    return CH_OK;
}

ch_err ch_devnet_start_one(const struct ch_devnet *d, uint32_t i, const char *const *options,
                           char why[CH_NODE_WHY_BYTES])
{
    if (runs(d, i))
        return say(why, CH_ERR_EXISTS, "validator %u runs already", i);
    ch_err err = launch(d, i, options, why);
    return err == CH_OK ? wait_for(d, i, false, start_deadline_ms(), why) : err;
}

ch_err ch_devnet_start(const struct ch_devnet *d, char why[CH_NODE_WHY_BYTES])
{
    /* All clocks of a devnet are this machine's, which may have slept since. */
    static const char *const options[] = {"--clock-ok", NULL};
    char path[PATH_BYTES_MAX];
    ch_err err = CH_OK;
    if (d->netns && !ch_switch_runs(switch_folder(d, path)))
        err = ch_switch_start(path, d->validators, why, CH_NODE_WHY_BYTES);
    for (uint32_t i = 1; i <= d->validators && err == CH_OK; i++)
        if (!runs(d, i))
            err = launch(d, i, options, why);
    uint64_t end_ms = start_deadline_ms();
    for (uint32_t i = 1; i <= d->validators && err == CH_OK; i++)
        err = wait_for(d, i, true, end_ms, why);
    return err;
}

static ch_err not_running(uint32_t i, char why[CH_NODE_WHY_BYTES])
{
    return say(why, CH_ERR_NOT_FOUND, "validator %u does not run", i);
}

/* Waits for the end and takes the pid file away. */
static ch_err see_end(const struct ch_devnet *d, uint32_t i, struct ch_process *process, char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    bool ended = ch_process_ended(process, STOP_SECONDS * 1000);
    ch_process_forget(process);
    if (!ended)
        return say(why, CH_ERR_TIMEOUT, "validator %u was asked to end and still runs after %d s", i, STOP_SECONDS);
    (void)unlink(path_of_one(d, i, ".pid", path));
    return CH_OK;
}

static ch_err signal_one(const struct ch_devnet *d, uint32_t i, int signal, struct ch_process *process,
                         char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    if (!ch_process_find(path_of_one(d, i, ".pid", path), process))
        return not_running(i, why);
    ch_err err = ch_process_signal(process, signal);
    if (err != CH_OK)
        ch_process_forget(process);
    return err == CH_OK ? CH_OK : say(why, err, "validator %u: %s", i, ch_err_text(err));
}

static ch_err end_one(const struct ch_devnet *d, uint32_t i, int signal, char why[CH_NODE_WHY_BYTES])
{
    struct ch_process process;
    ch_err err = signal_one(d, i, signal, &process, why);
    return err == CH_OK ? see_end(d, i, &process, why) : err;
}

ch_err ch_devnet_stop_one(const struct ch_devnet *d, uint32_t i, char why[CH_NODE_WHY_BYTES])
{
    return end_one(d, i, SIGTERM, why);
}

ch_err ch_devnet_kill_one(const struct ch_devnet *d, uint32_t i, char why[CH_NODE_WHY_BYTES])
{
    return end_one(d, i, SIGKILL, why);
}

ch_err ch_devnet_stop(const struct ch_devnet *d, char why[CH_NODE_WHY_BYTES])
{
    struct ch_process processes[CH_DEVNET_VALIDATORS_MAX];
    bool asked[CH_DEVNET_VALIDATORS_MAX] = {false};
    char path[PATH_BYTES_MAX], one[CH_NODE_WHY_BYTES];
    ch_err result = CH_OK, err;
    for (uint32_t i = 1; i <= d->validators; i++) { /* all first, so that none waits for one that is gone */
        err = signal_one(d, i, SIGTERM, &processes[i - 1], one);
        asked[i - 1] = err == CH_OK;
        if (err != CH_OK && err != CH_ERR_NOT_FOUND)
            result = say(why, err, "%s", one);
    }
    for (uint32_t i = 1; i <= d->validators; i++)
        if (asked[i - 1] && (err = see_end(d, i, &processes[i - 1], one)) != CH_OK)
            result = say(why, err, "%s", one);
    if (d->netns && (err = ch_switch_stop(switch_folder(d, path))) != CH_OK)
        result = say(why, err, "the switch: %s", ch_err_text(err));
    return result;
}

json_t *ch_devnet_status(const struct ch_devnet *d)
{
    char path[PATH_BYTES_MAX], address[CH_GENESIS_ADDRESS_BYTES_MAX + 1], *text = NULL;
    json_t *validators = json_array(), *links = NULL;
    for (uint32_t i = 1; i <= d->validators; i++) {
        struct ch_process process = {.pid = 0};
        bool alive = ch_process_find(path_of_one(d, i, ".pid", path), &process);
        json_t *answer = alive ? ask(d, i, "status") : NULL;
        if (alive)
            ch_process_forget(&process);
        address_of(d, i, address);
        json_array_append_new(validators, json_pack("{s:i, s:s, s:s, s:b, s:I, s:o}", "validator", (int)i, "address",
                                                    address, "folder", path_of_one(d, i, "", path), "alive", (int)alive,
                                                    "pid", (json_int_t)process.pid, "status",
                                                    answer ? answer : json_null()));
    }
    if (d->netns && ch_control_ask(switch_folder(d, path), "status", &text) == CH_OK) {
        json_t *network = json_loads(text, 0, NULL);
        links = json_incref(json_object_get(network, "links"));
        json_decref(network);
    }
    free(text);
    return json_pack("{s:s, s:s, s:o, s:o}", "folder", d->folder, "network", d->netns ? "netns" : "socket",
                     "validators", validators, "links", links ? links : json_array());
}

ch_err ch_devnet_ask_switch(const struct ch_devnet *d, const char *request, char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX], *text = NULL;
    if (!d->netns)
        return say(why, CH_ERR_UNSUPPORTED,
                   "this devnet goes through the kernel's sockets: only one that was started with "
                   "--netns has a network that can be broken");
    if (ch_control_ask(switch_folder(d, path), request, &text) != CH_OK)
        return say(why, CH_ERR_NOT_FOUND, "the devnet's switch does not run");
    json_t *answer = json_loads(text, 0, NULL);
    const char *error = json_string_value(json_object_get(answer, "error"));
    ch_err err = error || !answer ? say(why, CH_ERR_INVALID, "%s: %s", request, error ? error : "no answer") : CH_OK;
    json_decref(answer);
    free(text);
    return err;
}

ch_err ch_devnet_enter(const struct ch_devnet *d, char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    ch_err err = d->netns ? ch_switch_enter(switch_folder(d, path), 0) : CH_OK;
    if (err == CH_ERR_NOT_FOUND)
        return say(why, err, "the devnet does not run");
    return err == CH_OK ? CH_OK : say(why, err, "%s: %s", d->folder, ch_err_text(err));
}
