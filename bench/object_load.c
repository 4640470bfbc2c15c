/* object_load - clients that put objects, or get them back, as fast as a committee answers; a connection and a thread
 * each.
 *
 *   object_load put|get --node ADDRESS [--node ADDRESS]... --genesis F --account F --addresses F --bytes N --count N
 *   [--clients N]
 *
 * The account is registered already. A client has one object under way at a time, as libchappe gives it; the first goes
 * to the first node, the next to the next one. `put` writes the objects' addresses to the file that `get` reads. One
 * line of JSON: seconds, latencies, and the processor time that it took itself. The bytes stand for ciphertext: each
 * object is another one. */
#include "base/prng.h"
#include "base/time.h"
#include "client/account.h"
#include "client/object.h"
#include "wire/genesis.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define CLIENTS_MAX 64
#define MARK_BYTES  16 /* make a leaf another one */

static struct {
    const char *node[CH_CLIENT_ADDRESSES_MAX], *genesis, *account, *addresses;
    uint64_t nodes, bytes, count, clients;
    bool put;
} o = {.clients = 1};

static struct ch_genesis genesis;
static struct ch_account_keys account;
static uint8_t chain_id[CH_HASH_BYTES], content[CH_UNIXFS_LEAF_BYTES];
static struct ch_cid *cids;
static uint64_t *latency_ns, seed;
static atomic_ullong next_object;
static pthread_barrier_t begin;

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "object_load: %s: %s\n", what, why);
    exit(1);
}

static size_t read_file(const char *path, void *to, size_t most)
{
    FILE *file = fopen(path, "re");
    size_t length = file ? fread(to, 1, most, file) : 0;
    if (file)
        fclose(file);
    return length;
}

static void read_chain(void)
{
    static uint8_t bytes[CH_GENESIS_BYTES_MAX];
    size_t length = read_file(o.genesis, bytes, sizeof bytes);
    if (ch_genesis_decode(bytes, length, &genesis) != CH_OK)
        die(o.genesis, "no genesis");
    ch_genesis_chain_id(bytes, length, chain_id);
    ch_err err = ch_account_load(o.account, NULL, &account);
    if (err != CH_OK)
        die(o.account, ch_err_text(err));
}

static struct ch_client *open_client(uint64_t number)
{
    const char *others[CH_CLIENT_ADDRESSES_MAX];
    char why[CH_CLIENT_WHY_BYTES];
    struct ch_client *client;
    for (uint64_t i = 1; i < o.nodes; i++)
        others[i - 1] = o.node[(number + i) % o.nodes];
    const struct ch_client_options options = {.address = o.node[number % o.nodes],
                                              .others = others,
                                              .other_count = o.nodes - 1,
                                              .chain_id = chain_id,
                                              .key = &account.sign};
    if (ch_client_open(&options, &client, why) != CH_OK)
        die("client", why);
    if (ch_client_connect(client) != CH_OK)
        die("client", ch_client_why(client));
    return client;
}

static ch_err add_all(struct ch_putter *putter, uint64_t object, uint8_t *leaf)
{
    ch_err err = CH_OK;
    for (uint64_t at = 0; err == CH_OK && at < o.bytes; at += CH_UNIXFS_LEAF_BYTES) {
        size_t length = o.bytes - at < CH_UNIXFS_LEAF_BYTES ? (size_t)(o.bytes - at) : CH_UNIXFS_LEAF_BYTES;
        ch_store64(leaf, seed + object);
        ch_store64(leaf + 8, at);
        err = ch_putter_add(putter, leaf, length);
    }
    return err;
}

static ch_err put(struct ch_client *client, uint64_t object, uint8_t *leaf)
{
    struct ch_putter *putter;
    uint64_t length;
    ch_err err = ch_putter_open(client, o.bytes, NULL, NULL, &putter);
    if (err != CH_OK)
        return err;
    do {
        err = add_all(putter, object, leaf);
        if (err == CH_OK)
            err = ch_putter_end(putter, &cids[object], &length);
    } while (err == CH_ERR_AGAIN && (err = ch_putter_again(putter)) == CH_OK);
    ch_putter_close(putter);
    return err;
}

static ch_err take(void *context, const uint8_t *bytes, size_t length)
{
    *(uint64_t *)context += length;
    return CH_OK;
}

static ch_err get(struct ch_client *client, uint64_t object)
{
    uint64_t taken = 0;
    ch_err err = ch_client_get_object(client, &cids[object], o.bytes, take, &taken, NULL, NULL);
    return err == CH_OK && taken != o.bytes ? CH_ERR_CORRUPT : err;
}

static void *run(void *number)
{
    struct ch_client *client = open_client((uint64_t)(uintptr_t)number);
    uint8_t *leaf = malloc(sizeof content);
    if (!leaf)
        die("client", "memory");
    memcpy(leaf, content, sizeof content);
    pthread_barrier_wait(&begin); /* all are connected */
    pthread_barrier_wait(&begin);
    for (uint64_t object; (object = atomic_fetch_add(&next_object, 1)) < o.count;) {
        uint64_t from_ns = ch_time_monotonic_ns();
        if ((o.put ? put(client, object, leaf) : get(client, object)) != CH_OK)
            die(o.put ? "put" : "get", ch_client_why(client));
        latency_ns[object] = ch_time_monotonic_ns() - from_ns;
    }
    ch_client_close(client);
    free(leaf);
    return NULL;
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool number(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text && !*end && *out && *out <= most;
}

static bool parse(int argc, char **argv)
{
    enum { NODE = 256, GENESIS, ACCOUNT, ADDRESSES, BYTES, COUNT, CLIENTS };
    static const struct option options[] = {
        {"node", 1, NULL, NODE},       {"genesis", 1, NULL, GENESIS},
        {"account", 1, NULL, ACCOUNT}, {"addresses", 1, NULL, ADDRESSES},
        {"bytes", 1, NULL, BYTES},     {"count", 1, NULL, COUNT},
        {"clients", 1, NULL, CLIENTS}, {0},
    };
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case NODE:
            if (o.nodes == CH_CLIENT_ADDRESSES_MAX)
                return false;
            o.node[o.nodes++] = optarg;
            break;
        case GENESIS: o.genesis = optarg; break;
        case ACCOUNT: o.account = optarg; break;
        case ADDRESSES: o.addresses = optarg; break;
        case BYTES: good &= number(optarg, UINT64_C(1) << 40, &o.bytes); break;
        case COUNT: good &= number(optarg, UINT64_C(1) << 24, &o.count); break;
        case CLIENTS: good &= number(optarg, CLIENTS_MAX, &o.clients); break;
        default: good = false;
        }
    if (!good || optind + 1 != argc || !o.nodes || !o.genesis || !o.account || !o.addresses || o.bytes < MARK_BYTES ||
        !o.count)
        return false;
    o.put = strcmp(argv[optind], "put") == 0;
    return o.put || strcmp(argv[optind], "get") == 0;
}

/* All but the clients: what they have in common. */
static void prepare(void)
{
    struct ch_prng g;
    if (ch_sign_init() != CH_OK)
        die("libsodium", "does not start");
    read_chain();
    cids = calloc(o.count, sizeof *cids);
    latency_ns = calloc(o.count, sizeof *latency_ns);
    if (!cids || !latency_ns || pthread_barrier_init(&begin, NULL, (unsigned)o.clients + 1))
        die("start", "memory");
    ch_random((uint8_t *)&seed, sizeof seed);
    ch_prng_seed(&g, seed);
    for (size_t at = 0; at < sizeof content; at += 8)
        ch_store64(content + at, ch_prng_next(&g));
    if (!o.put && read_file(o.addresses, cids, o.count * sizeof *cids) != o.count * sizeof *cids)
        die(o.addresses, "fewer addresses than objects");
}

int main(int argc, char **argv)
{
    pthread_t thread[CLIENTS_MAX];
    if (!parse(argc, argv)) {
        fprintf(
            stderr,
            "usage: object_load put|get --node ADDRESS... --genesis F --account F --addresses F --bytes N --count N "
            "[--clients N]\n");
        return 2;
    }
    prepare();
    for (uint64_t i = 0; i < o.clients; i++)
        if (pthread_create(&thread[i], NULL, run, (void *)(uintptr_t)i))
            die("start", "no thread");
    pthread_barrier_wait(&begin);
    double cpu_s = cpu_seconds();
    uint64_t from_ns = ch_time_monotonic_ns();
    pthread_barrier_wait(&begin);
    for (uint64_t i = 0; i < o.clients; i++)
        pthread_join(thread[i], NULL);
    double seconds = 1e-9 * (double)(ch_time_monotonic_ns() - from_ns);
    cpu_s = cpu_seconds() - cpu_s;
    FILE *file = o.put ? fopen(o.addresses, "we") : NULL;
    if (o.put && (!file || fwrite(cids, sizeof *cids, o.count, file) != o.count || fclose(file)))
        die(o.addresses, "is not written");
    qsort(latency_ns, o.count, sizeof *latency_ns, ascending);
    printf("{\"seconds\": %.4f, \"bytes\": %llu, \"cpu_s\": %.4f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", seconds,
           (unsigned long long)(o.count * o.bytes), cpu_s, 1e-6 * (double)latency_ns[(o.count - 1) / 2],
           1e-6 * (double)latency_ns[(o.count - 1) * 99 / 100]);
    free(cids);
    free(latency_ns);
    return 0;
}
