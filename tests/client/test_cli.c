/* The chat command line, run as a process of its own against a node in a thread. */
#include "tests/test.h"

#include "client/cli.h"
#include "crypto/sign.h"
#include "tests/client/fake_node.h"
#include "wire/genesis.h"
#include "wire/status.h"

#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define AS_CHAPPE "chappe" /* the name under which this program is the command line itself */

static char folder[] = "test_cli.XXXXXX", here[256];
static char output[1 << 16], errors[1 << 16];
static struct fake_node *node;
static uint8_t chain_id[32];

static void slurp(const char *name, char *to, size_t capacity)
{
    FILE *f = fopen(name, "rb");
    size_t n = f ? fread(to, 1, capacity - 1, f) : 0;
    to[n] = 0;
    if (f)
        fclose(f);
}

static void spill(const char *name, const void *bytes, size_t length)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}

/* Runs a command line without a terminal; words end with NULL. Its exit code; output and errors hold what it said. */
static int run(const char *first, ...)
{
    char *argv[32] = {(char *)AS_CHAPPE};
    int argc = 1, status = 0;
    pid_t child;
    va_list args;
    va_start(args, first);
    for (const char *word = first; word && argc < 31; word = va_arg(args, const char *))
        argv[argc++] = (char *)word;
    va_end(args);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "out", O_RDWR | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&files, 2, "err", O_RDWR | O_CREAT | O_TRUNC, 0600);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    assert_int_equal(posix_spawn(&child, "/proc/self/exe", &files, &attributes, argv, environ), 0);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    slurp("out", output, sizeof output);
    slurp("err", errors, sizeof errors);
    return WEXITSTATUS(status);
}
#define RUN(...) run(__VA_ARGS__, NULL)

static json_t *answer(void)
{
    json_t *o = json_loads(output, 0, NULL);
    assert_non_null(o);
    return o;
}

/* The name in {"error": {"name": ...}}. */
static const char *error_name(void)
{
    static char name[64];
    json_t *o = answer();
    const char *found = json_string_value(json_object_get(json_object_get(o, "error"), "name"));
    snprintf(name, sizeof name, "%s", found ? found : "");
    json_decref(o);
    return name;
}

static int setup_group(void **state)
{
    if (!mkdtemp(folder) || !getcwd(here, sizeof here) || chdir(folder) != 0)
        return -1;
    unsetenv("CHAPPE_PASSPHRASE_FILE");
    unsetenv("CREDENTIALS_DIRECTORY");
    unsetenv("CHAPPE_HOME");
    setenv("HOME", ".", 1);
    return ch_sign_init() == CH_OK ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    return remove(path);
}

static int teardown_group(void **state)
{
    return chdir(here) == 0 ? nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) : -1;
}

/* A chain whose validator is the node and whose registrar is made by the command line, in the folder r. */
static int setup_chain(void **state)
{
    static struct ch_genesis g;
    static uint8_t bytes[CH_GENESIS_BYTES_MAX];
    if (RUN("registrar", "new", "--home", "r", "--plain", "--json") != 0)
        return -1;
    json_t *o = answer();
    const char *hex = json_string_value(json_object_get(o, "key"));
    ch_genesis_defaults(&g, 1);
    strcpy(g.name, "test");
    g.start_ms = 1;
    g.validator_count = g.registrar_count = 1;
    g.validators[0].stake = 1;
    for (int i = 0; i < 32; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return -1;
        g.registrars[0][i] = (uint8_t)byte;
    }
    json_decref(o);
    /* The node's key is in the genesis and the chain's id in the node's mouth: it learns the id last. */
    node = fake_node_start(chain_id);
    memcpy(g.validators[0].key, fake_node_key(node), 32);
    snprintf(g.validators[0].address, sizeof g.validators[0].address, "%s", fake_node_address(node));
    size_t length = ch_genesis_encode(&g, bytes);
    ch_genesis_chain_id(bytes, length, chain_id);
    fake_node_set_chain(node, chain_id);
    spill("genesis", bytes, length);
    return length && RUN("account", "new", "--home", "a", "--plain", "--genesis", "genesis") == 0 &&
                   RUN("account", "new", "--home", "b", "--plain", "--genesis", "genesis") == 0
               ? 0
               : -1;
}

static int teardown_chain(void **state)
{
    fake_node_stop(node);
    return nftw("a", remove_one, 16, FTW_DEPTH | FTW_PHYS) | nftw("b", remove_one, 16, FTW_DEPTH | FTW_PHYS) |
           nftw("r", remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void register_both(void)
{
    for (int i = 0; i < 2; i++) {
        const char *home = i ? "b" : "a", *handle = i ? "bob" : "alice";
        assert_int_equal(RUN("register", handle, "--home", home, "--request", "request"), 0);
        assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                             "--out", "approval"),
                         0);
        assert_int_equal(RUN("register", "--home", home, "--approval", "approval"), 0);
        assert_non_null(strstr(output, handle));
    }
}

static void help_of_every_command_teaches(void **state)
{
    static const char *const commands[] = {"register", "bind",   "accept", "refuse", "unbind", "confirm", "relations",
                                           "rotate",   "revoke", "whois",  "send",   "inbox",  "watch",   "fetch"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_true(ch_cli_knows(commands[i]));
        assert_int_equal(RUN(commands[i], "--help"), 0);
        assert_non_null(strstr(output, "Usage: chappe"));
        assert_non_null(strstr(output, "--json"));
        assert_non_null(strstr(output, "Exit codes"));
        assert_string_equal(errors, "");
    }
    assert_int_equal(RUN("account", "new", "--help"), 0);
    assert_int_equal(RUN("registrar", "approve", "--help"), 0);
    assert_non_null(strstr(output, "reserved:"));
    assert_int_equal(RUN("account", "--help"), 0);
    assert_non_null(strstr(output, "account new"));
    assert_false(ch_cli_knows("run"));
    assert_false(ch_cli_knows("acc"));
}

static void nonsense_is_usage(void **state)
{
    assert_int_equal(RUN("help"), CH_CLI_OK);
    assert_non_null(strstr(output, "account new"));
    assert_int_equal(RUN("nonsense"), CH_CLI_USAGE);
    assert_non_null(strstr(errors, "\"nonsense\" is no command"));
    assert_int_equal(RUN("account", "new", "--home", "n", "--plain", "--node", "nowhere"), CH_CLI_USAGE);
    assert_int_equal(RUN("account", "new", "--home", "n", "--plain", "--node", "127.0.0.1"), CH_CLI_USAGE);
    assert_int_equal(RUN("account"), CH_CLI_USAGE);
    assert_int_equal(RUN("account", "old"), CH_CLI_USAGE);
    assert_int_equal(RUN("bind"), CH_CLI_USAGE);
    assert_int_equal(RUN("bind", "a", "b"), CH_CLI_USAGE);
    assert_int_equal(RUN("bind", "alice", "--attach", "x"), CH_CLI_USAGE);
    assert_non_null(strstr(errors, "--attach"));
    assert_int_equal(RUN("bind", "alice", "--home"), CH_CLI_USAGE);
    assert_int_equal(RUN("send", "alice"), CH_CLI_USAGE);
    assert_int_equal(RUN("inbox", "--from", "-1"), CH_CLI_USAGE);
    assert_int_equal(RUN("inbox", "--limit", "many", "--json"), CH_CLI_USAGE);
    assert_string_equal(error_name(), "USAGE");
    assert_int_equal(RUN("register", "alice"), CH_CLI_USAGE);
    assert_int_equal(RUN("register", "Not A Handle", "--request", "-"), CH_CLI_USAGE);
}

static void key_file_troubles_are_code_4(void **state)
{
    assert_int_equal(RUN("whois", "--home", "k"), CH_CLI_KEY);
    assert_non_null(strstr(errors, "account new"));
    assert_int_equal(RUN("account", "new", "--home", "k", "--json"), CH_CLI_KEY);
    assert_string_equal(error_name(), "NO_PASSPHRASE");
    spill("pass", "secret\n", 7);
    assert_int_equal(chmod("pass", 0644), 0);
    assert_int_equal(RUN("account", "new", "--home", "k", "--passphrase-file", "pass", "--json"), CH_CLI_KEY);
    assert_string_equal(error_name(), "READABLE_BY_OTHERS");
    assert_int_equal(chmod("pass", 0600), 0);
    assert_int_equal(RUN("account", "new", "--home", "k", "--passphrase-file", "pass"), 0);
    assert_int_equal(RUN("account", "new", "--home", "k", "--passphrase-file", "pass", "--json"), CH_CLI_KEY);
    assert_string_equal(error_name(), "EXISTS");
    assert_int_equal(RUN("whois", "--home", "k", "--passphrase-file", "pass", "--json"), CH_CLI_KEY);
    assert_string_equal(error_name(), "NO_GENESIS");
    spill("junk", "no genesis", 10);
    assert_int_equal(RUN("account", "new", "--home", "j", "--plain", "--genesis", "junk", "--json"), CH_CLI_USAGE);
    assert_string_equal(error_name(), "INVALID");
    spill("pass", "wrong\n", 6);
    assert_int_equal(RUN("whois", "--home", "k", "--passphrase-file", "pass", "--json"), CH_CLI_KEY);
    assert_string_equal(error_name(), "BAD_PASSPHRASE");
    assert_int_equal(RUN("whois", "--home", "k", "--json"), CH_CLI_KEY);
    assert_string_equal(error_name(), "NO_PASSPHRASE");
    assert_int_equal(chmod("k/account.key", 0640), 0);
    assert_int_equal(RUN("whois", "--home", "k", "--json"), CH_CLI_KEY);
    assert_string_equal(error_name(), "READABLE_BY_OTHERS");
}

static void node_that_is_not_there_is_code_3(void **state)
{
    assert_int_equal(RUN("whois", "--home", "a", "--node", "127.0.0.1:1", "--timeout", "2"), CH_CLI_UNREACHABLE);
    assert_int_equal(RUN("whois", "--home", "a", "--node", "nonsense"), CH_CLI_USAGE);
    /* The next one of the profile's is there, though. */
    char nodes[128];
    snprintf(nodes, sizeof nodes, "# ours\n127.0.0.1:1\n%s\n", fake_node_address(node));
    spill("a/node", nodes, strlen(nodes));
    assert_int_equal(RUN("whois", "nobody", "--home", "a", "--json"), CH_CLI_REFUSED);
    assert_string_equal(error_name(), "NO_SUCH_PEER");
    char other[65];
    memset(other, 'a', 64);
    other[64] = 0;
    assert_int_equal(RUN("whois", "--home", "a", "--node-key", other, "--json"), CH_CLI_UNREACHABLE);
    assert_string_equal(error_name(), "DENIED");
}

static void registration_goes_through_the_registrar(void **state)
{
    register_both();
    assert_int_equal(RUN("whois", "alice", "--home", "b", "--json"), 0);
    json_t *o = answer();
    assert_string_equal(json_string_value(json_object_get(o, "handle")), "alice");
    assert_string_equal(json_string_value(json_object_get(o, "status")), "active");
    /* and by key */
    char key[65];
    snprintf(key, sizeof key, "%s", json_string_value(json_object_get(o, "key")));
    json_decref(o);
    assert_int_equal(RUN("whois", key, "--home", "b"), 0);
    assert_int_equal(RUN("whois", "nobody", "--home", "b"), CH_CLI_REFUSED);
    /* The same handle again: the chain has it. */
    assert_int_equal(RUN("account", "new", "--home", "c", "--plain", "--genesis", "genesis"), 0);
    assert_int_equal(RUN("register", "alice", "--home", "c", "--request", "request"), 0);
    assert_int_equal(
        RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request", "--json"),
        CH_CLI_REFUSED);
    assert_string_equal(error_name(), "HANDLE_TAKEN");
    /* An approval is for one key. */
    assert_int_equal(RUN("register", "--home", "c", "--approval", "approval"), CH_CLI_USAGE);
    nftw("c", remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void registrar_reviews(void **state)
{
    static const char policy[] = "approval_hours: 2\nhandle_bytes_min: 4\nreserved: [admin, root]\n";
    spill("policy", policy, strlen(policy));
    static const struct {
        const char *handle, *reason;
    } refused[] = {{"bob", "HANDLE_TOO_SHORT"}, {"admin", "HANDLE_RESERVED"}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(RUN("register", refused[i].handle, "--home", "a", "--request", "request"), 0);
        assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                             "--policy", "policy", "--json"),
                         CH_CLI_REFUSED);
        assert_string_equal(error_name(), refused[i].reason);
    }
    /* One handle, two keys, neither on the chain yet. */
    assert_int_equal(RUN("register", "clara", "--home", "a", "--request", "request"), 0);
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                         "--policy", "policy", "--json"),
                     0);
    json_decref(answer());
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                         "--policy", "policy"),
                     0);
    assert_int_equal(RUN("register", "clara", "--home", "b", "--request", "request"), 0);
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                         "--policy", "policy", "--json"),
                     CH_CLI_REFUSED);
    assert_string_equal(error_name(), "APPROVED_FOR_ANOTHER");
    /* Asked, without a terminal: no. */
    spill("policy", "ask: yes\n", 9);
    assert_int_equal(RUN("register", "dora", "--home", "b", "--request", "request"), 0);
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                         "--policy", "policy", "--json"),
                     CH_CLI_REFUSED);
    assert_string_equal(error_name(), "DECLINED");
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                         "--policy", "policy", "--yes"),
                     0);
    /* A policy with a slip says where. */
    spill("policy", "approval_hours: 2\nreservd: [x]\n", 31);
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                         "--policy", "policy"),
                     CH_CLI_USAGE);
    assert_non_null(strstr(errors, "reservd"));
    spill("policy", "ask: no\napproval_hours: many\n", 29);
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                         "--policy", "policy"),
                     CH_CLI_USAGE);
    assert_non_null(strstr(errors, "many"));
    assert_non_null(strstr(errors, "line: 2"));
    /* An empty one is all defaults. */
    spill("policy", "", 0);
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request",
                         "--policy", "policy"),
                     0);
    /* Somebody else's key is no registrar's. */
    assert_int_equal(RUN("registrar", "new", "--plain", "--out", "other.key"), 0);
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--key", "other.key", "--genesis", "genesis",
                         "--request", "request", "--json"),
                     CH_CLI_REFUSED);
    assert_string_equal(error_name(), "NOT_REGISTRAR");
    spill("request", "{}", 2);
    assert_int_equal(RUN("registrar", "approve", "--home", "r", "--genesis", "genesis", "--request", "request"),
                     CH_CLI_USAGE);
}

static void conversation_passes(void **state)
{
    register_both();
    assert_int_equal(RUN("inbox", "--home", "b"), 0);
    assert_non_null(strstr(output, "No messages"));
    assert_int_equal(RUN("bind", "bob", "--home", "a"), 0);
    assert_int_equal(RUN("accept", "alice", "--home", "b", "--json"), 0);
    json_t *o = answer();
    assert_string_equal(json_string_value(json_object_get(o, "status")), "OK");
    json_decref(o);
    assert_int_equal(RUN("send", "bob", "Bonjour\nBob", "--home", "a"), 0);
    assert_int_equal(RUN("send", "bob", "\x1b[2J\xff!", "--home", "a"), 0);
    assert_int_equal(RUN("inbox", "--home", "b"), 0);
    assert_non_null(strstr(output, "alice"));
    assert_non_null(strstr(output, "Bonjour\n    Bob"));
    assert_null(strchr(output, 0x1b));
    assert_non_null(strstr(output, "\\u{1b}[2J\\xff!"));
    assert_int_equal(RUN("inbox", "--home", "b", "--from", "2", "--json"), 0);
    o = answer();
    assert_string_equal(json_string_value(json_object_get(o, "text")), "\x1b[2J\xef\xbf\xbd!");
    assert_string_equal(json_string_value(json_object_get(o, "from")), "alice");
    assert_int_equal(json_integer_value(json_object_get(o, "sequence")), 2);
    json_decref(o);
    assert_int_equal(RUN("inbox", "--home", "b", "--limit", "1"), 0);
    assert_null(strstr(output, "Bonjour"));
    assert_int_equal(RUN("watch", "--home", "b", "--from", "1", "--limit", "2"), 0);
    assert_non_null(strstr(output, "Bonjour"));
    assert_int_equal(RUN("watch", "--home", "b", "--quiet", "1"), 0);
    assert_string_equal(output, "");
    assert_int_equal(RUN("send", "bob", "", "--home", "a"), CH_CLI_USAGE);
    /* Refused by name. */
    fake_node_faults(node)->refuse_status = CH_STATUS_NOT_BOUND;
    assert_int_equal(RUN("send", "bob", "x", "--home", "a", "--json"), CH_CLI_REFUSED);
    assert_string_equal(error_name(), "NOT_BOUND");
}

static void text_is_fetched_as_it_is_and_replaces_no_file(void **state)
{
    char got[16] = "";
    register_both();
    assert_int_equal(RUN("send", "bob", "Bonjour", "--home", "a"), 0);
    assert_int_equal(RUN("fetch", "1", "--home", "b"), 0);
    assert_string_equal(output, "Bonjour");
    spill("letter", "mine", 4);
    assert_int_equal(RUN("fetch", "1", "--home", "b", "--out", "letter", "--json"), CH_CLI_REFUSED);
    assert_string_equal(error_name(), "EXISTS");
    slurp("letter", got, sizeof got);
    assert_string_equal(got, "mine");
    assert_int_equal(RUN("fetch", "1", "--home", "b", "--out", "letter", "--force", "--json"), 0);
    assert_non_null(strstr(output, "\"file\":\"letter\""));
    assert_non_null(strstr(output, "\"bytes\":7"));
    slurp("letter", got, sizeof got);
    assert_string_equal(got, "Bonjour");
    assert_int_equal(RUN("fetch", "1", "--home", "b", "--out", "no/such/folder/letter", "--json"), CH_CLI_LOCAL);
}

static void file_arrives_under_its_own_name_only_when_whole(void **state)
{
    static char content[200000], got[200001];
    memset(content, 'p', sizeof content);
    content[sizeof content - 1] = 0;
    register_both();
    spill("picture.png", content, sizeof content);
    assert_int_equal(RUN("send", "bob", "regarde", "--attach", "picture.png", "--home", "a"), 0);
    assert_int_equal(RUN("inbox", "--home", "b"), 0);
    assert_non_null(strstr(output, "picture.png"));
    assert_non_null(strstr(output, "regarde"));
    assert_int_equal(RUN("fetch", "1", "--home", "b", "--json"), CH_CLI_REFUSED);
    assert_string_equal(error_name(), "EXISTS");
    assert_int_equal(unlink("picture.png"), 0);
    fake_node_faults(node)->corrupt_object = 1;
    assert_int_equal(RUN("fetch", "1", "--home", "b"), CH_CLI_UNREACHABLE);
    assert_int_not_equal(access("picture.png", F_OK), 0);
    assert_int_equal(RUN("fetch", "1", "--home", "b"), 0);
    slurp("picture.png", got, sizeof got);
    assert_memory_equal(got, content, sizeof content);
    assert_int_equal(RUN("fetch", "1", "--home", "b", "--force", "--out", "picture.png"), 0);
    assert_int_equal(RUN("fetch", "9", "--home", "b"), CH_CLI_REFUSED);
    assert_int_equal(RUN("fetch", "0", "--home", "b"), CH_CLI_USAGE);
    assert_int_equal(RUN("send", "bob", "--attach", "missing", "--home", "a"), CH_CLI_LOCAL);
    assert_int_equal(RUN("send", "bob", "--attach", ".", "--home", "a"), CH_CLI_LOCAL);
    /* A long text goes to the output, and leaves nothing behind. */
    assert_int_equal(RUN("send", "bob", content + sizeof content - 5000, "--home", "a"), 0);
    assert_int_equal(RUN("inbox", "--home", "b", "--from", "2"), 0);
    assert_non_null(strstr(output, "long text"));
    assert_int_equal(RUN("fetch", "2", "--home", "b"), 0);
    assert_int_equal(strlen(output), 4999);
    /* A name that wants out of the folder. */
    assert_int_equal(rename("picture.png", ".hidden"), 0);
    assert_int_equal(RUN("send", "bob", "--attach", ".hidden", "--home", "a"), 0);
    assert_int_equal(RUN("fetch", "3", "--home", "b"), 0);
    assert_int_equal(access("_hidden", F_OK), 0);
}

static void message_for_a_lost_key_is_code_5(void **state)
{
    register_both();
    assert_int_equal(RUN("send", "bob", "x", "--home", "a"), 0);
    assert_int_equal(RUN("rotate", "--home", "b"), 0);
    assert_int_equal(RUN("send", "bob", "y", "--home", "a"), 0);
    assert_int_equal(RUN("inbox", "--home", "b"), 0); /* old and new */
    /* Alice's inbox through Bob's eyes: he can't. */
    assert_int_equal(RUN("send", "alice", "z", "--home", "b"), 0);
    assert_int_equal(RUN("inbox", "--home", "a"), 0);
    assert_int_equal(RUN("account", "new", "--home", "c", "--plain", "--genesis", "genesis"), 0);
    /* A profile restored from a copy made before the rotation. */
    static char key[1 << 15];
    FILE *f = fopen("b/account.key", "rb");
    size_t n = fread(key, 1, sizeof key, f);
    fclose(f);
    assert_true(n > 0);
    assert_int_equal(RUN("rotate", "--home", "b"), 0);
    assert_int_equal(RUN("send", "bob", "w", "--home", "a"), 0);
    spill("b/account.key", key, n);
    assert_int_equal(RUN("inbox", "--home", "b"), CH_CLI_UNREADABLE);
    assert_non_null(strstr(output, "NO_KEY"));
    assert_int_equal(RUN("fetch", "3", "--home", "b", "--json"), CH_CLI_UNREADABLE);
    assert_string_equal(error_name(), "NO_KEY");
    nftw("c", remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void revoking_asks_first(void **state)
{
    register_both();
    assert_int_equal(RUN("revoke", "--home", "a", "--json"), CH_CLI_USAGE);
    assert_string_equal(error_name(), "NOT_CONFIRMED");
    assert_int_equal(RUN("revoke", "--home", "a", "alice", "--yes"), 0);
    assert_int_equal(RUN("whois", "alice", "--home", "b", "--json"), 0);
    json_t *o = answer();
    assert_string_equal(json_string_value(json_object_get(o, "status")), "revoked");
    json_decref(o);
}

int main(int argc, char **argv)
{
    if (strcmp(argv[0], AS_CHAPPE) == 0)
        return ch_cli_main(argc, argv);
#define CHAIN(name) cmocka_unit_test_setup_teardown(name, setup_chain, teardown_chain)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_of_every_command_teaches),
        cmocka_unit_test(nonsense_is_usage),
        cmocka_unit_test(key_file_troubles_are_code_4),
        CHAIN(node_that_is_not_there_is_code_3),
        CHAIN(registration_goes_through_the_registrar),
        CHAIN(registrar_reviews),
        CHAIN(conversation_passes),
        CHAIN(text_is_fetched_as_it_is_and_replaces_no_file),
        CHAIN(file_arrives_under_its_own_name_only_when_whole),
        CHAIN(message_for_a_lost_key_is_code_5),
        CHAIN(revoking_asks_first),
    };
    return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
