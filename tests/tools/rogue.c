/* tests/tools/rogue - a peer that means harm: it holds a validator's key (or a key of its own) and sends what no honest
 * one sends. Prints one line of JSON: how many frames it got rid of, and with which code it was closed (null: it was
 * not), or why it was not let in.
 */
#include "base/prng.h"
#include "base/time.h"
#include "client/client_impl.h"
#include "consensus/core.h"
#include "consensus/message.h"
#include "crypto/keyfile.h"
#include "wire/cid.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *node, *genesis_file, *key_file;
static uint64_t count = 1000;
static struct ch_sign_key key;
static struct ch_genesis genesis;
static struct ch_committee committee;
static struct ch_prng prng;
static uint8_t body[CH_FRAME_BODY_BYTES_MAX];
static uint64_t sent;

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "rogue: %s\n", text);
    exit(1);
}

static void read_all(void)
{
    uint8_t bytes[CH_GENESIS_BYTES_MAX], chain_id[CH_HASH_BYTES], seed[CH_SIGN_SEED_BYTES];
    FILE *file = fopen(genesis_file, "re");
    size_t length = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (file)
        fclose(file);
    if (ch_genesis_decode(bytes, length, &genesis) != CH_OK)
        die("no genesis");
    ch_genesis_chain_id(bytes, length, chain_id);
    ch_committee_from_genesis(&genesis, chain_id, &committee);
    if (!key_file)
        ch_sign_key_new(&key);
    else if (ch_keyfile_read(key_file, CH_KEYFILE_VALIDATOR, NULL, seed, sizeof seed, &length) == CH_OK)
        ch_sign_key_from_seed(seed, &key);
    else
        die("no key");
}

static struct ch_client *client_of(const uint8_t *chain_id)
{
    struct ch_client *client;
    char why[CH_CLIENT_WHY_BYTES];
    const struct ch_client_options options = {.address = node, .chain_id = chain_id, .key = &key, .timeout_ms = 5000};
    if (ch_client_open(&options, &client, why) != CH_OK)
        die(why);
    return client;
}

/* Dialled once, so that what the node said is not followed by another try. */
static struct ch_client *dial_for_another_chain(void)
{
    const uint8_t other[CH_HASH_BYTES] = {1};
    struct ch_client *client = client_of(other);
    const uint64_t until_ns = ch_time_monotonic_ns() + 5000000000u;
    if (ch_client_step(client) != CH_ERR_AGAIN)
        die(ch_client_why(client));
    while (client->conn && !client->hello_done && ch_time_monotonic_ns() < until_ns)
        if (ch_client_round(client, until_ns) != CH_OK)
            die(ch_client_why(client));
    if (!client->conn && client->closed.end != CH_QUIC_END_PEER)
        die("it was not the node that closed");
    return client;
}

/* One frame more, as soon as there is room; false: the connection is gone. */
static bool hurl(struct ch_client *client, uint16_t type, size_t length)
{
    const struct ch_frame_header header = {.type = type};
    for (;;) {
        ch_err err = client->conn
                         ? ch_quic_send(client->engine, client->conn, &header, &(struct ch_bytes){body, length}, 1)
                         : CH_ERR_CLOSED;
        if (err == CH_OK) {
            sent++;
            return true;
        }
        if (err != CH_ERR_FULL)
            return false;
        if (ch_client_round(client, ch_time_monotonic_ns() + 1000000) != CH_OK)
            die(ch_client_why(client));
    }
}

static uint16_t link_type(enum ch_message_type type)
{
    return (uint16_t)(CH_FRAME_CONSENSUS + type);
}

/* Any type, any bytes, now and then as long as a frame can be. */
static bool garbage(struct ch_client *client)
{
    size_t length = ch_prng_below(&prng, 64) ? ch_prng_below(&prng, 4096) : ch_prng_below(&prng, sizeof body + 1);
    for (size_t i = 0; i < length && i < 4096; i++)
        body[i] = (uint8_t)ch_prng_next(&prng);
    return hurl(client, (uint16_t)(CH_FRAME_CONSENSUS + ch_prng_below(&prng, 32)), length);
}

/* What a client may ask, with any bytes for its body. */
static bool questions(struct ch_client *client)
{
    static const uint16_t types[] = {
        CH_FRAME_SUBMIT,     CH_FRAME_GET_ACCOUNT,   CH_FRAME_GET_HANDLE, CH_FRAME_GET_INBOX,  CH_FRAME_WATCH_INBOX,
        CH_FRAME_GET_RECORD, CH_FRAME_GET_RELATIONS, CH_FRAME_PUT_OBJECT, CH_FRAME_GET_OBJECT, CH_FRAME_HAS_OBJECT};
    const uint16_t type = types[ch_prng_below(&prng, sizeof types / sizeof *types)];
    size_t length = ch_prng_below(&prng, 64) ? ch_prng_below(&prng, 80) : ch_prng_below(&prng, sizeof body + 1);
    for (size_t i = 0; i < length && i < 4096; i++)
        body[i] = (uint8_t)ch_prng_next(&prng);
    return hurl(client, type, length);
}

/* Well-formed, and one behind the other without waiting for an answer. */
static bool greedy(struct ch_client *client)
{
    const uint8_t hash[CH_HASH_BYTES] = {1};
    struct ch_cid cid;
    ch_cid_make(CH_CID_RAW, hash, &cid);
    memcpy(body, cid.bytes, CH_CID_BYTES);
    return hurl(client, CH_FRAME_GET_OBJECT, CH_CID_BYTES);
}

/* As large as they can be, of blocks that there are not. */
static bool payloads(struct ch_client *client)
{
    ch_store64(body + 8, ch_prng_next(&prng));
    return hurl(client, link_type(CH_MESSAGE_PAYLOAD), sizeof body);
}

/* Well-formed, and dear to answer. */
static bool requests(struct ch_client *client)
{
    if (ch_prng_below(&prng, 2)) {
        ch_store64(body, 1);
        ch_store64(body + 8, UINT64_MAX);
        return hurl(client, link_type(CH_MESSAGE_GET_COMMITS), 16);
    }
    ch_store32(body, 0);
    ch_store16(body + 4, CH_MESSAGE_REFS_MAX);
    for (unsigned i = 0; i < CH_MESSAGE_REFS_MAX; i++) {
        struct ch_ref ref = {.round = 1 + i, .author = (uint16_t)(i % committee.n)};
        memcpy(body + 6 + (size_t)i * CH_REF_BYTES, &ref, CH_REF_BYTES);
    }
    return hurl(client, link_type(CH_MESSAGE_GET_BLOCKS), 6 + CH_MESSAGE_REFS_MAX * CH_REF_BYTES);
}

/* A block of this round with its signature, on parents that nobody has, or in round 1 on the genesis blocks. */
static bool block(struct ch_client *client, uint32_t round)
{
    struct ch_ref ancestors[CH_VALIDATORS_MAX];
    uint16_t me = 0, used = 0;
    while (me < committee.n && memcmp(committee.key[me], key.public_key, 32) != 0)
        me++;
    if (me == committee.n)
        die("that key is no validator's");
    for (uint16_t i = 0; i < committee.n; i++) {
        uint16_t author = i == 0 ? me : i <= me ? (uint16_t)(i - 1) : i;
        ancestors[used] = ch_committee_genesis_ref(&committee, author);
        ancestors[used++].round = round - 1;
    }
    const struct ch_block_draft draft = {.round = round,
                                         .author = me,
                                         .ancestor_count = used,
                                         .ancestors = ancestors,
                                         .timestamp_ms = ch_prng_next(&prng) >> 20};
    uint32_t length = ch_block_write(&draft, body);
    struct ch_block written;
    uint8_t digest[CH_HASH_BYTES], prefix[CH_SIGN_PREFIX_BYTES_MAX];
    ch_block_view(body, length, &written);
    ch_block_digest(&committee, &written, digest);
    ch_sign(&key, prefix, ch_sign_prefix(CH_DOMAIN_BLOCK_SIGNATURE, committee.chain_id, prefix), digest, sizeof digest,
            body + length - CH_BLOCK_SIGNATURE_BYTES);
    return hurl(client, link_type(CH_MESSAGE_HEADER), length);
}

static bool blocks(struct ch_client *client)
{
    return block(client, 2 + (uint32_t)ch_prng_below(&prng, 1u << 30));
}

static bool equivocate(struct ch_client *client)
{
    return block(client, 1);
}

static void on_connected(void *context, uint64_t conn, const struct ch_quic_peer *peer)
{
}

static bool on_frame(void *context, uint64_t conn, const struct ch_frame_header *header, const uint8_t *bytes)
{
    return true;
}

static void on_closed(void *context, uint64_t conn, const struct ch_quic_closed *closed)
{
}

/* Dials that never go on after their first datagram. */
static void half_open(void)
{
    const struct ch_quic_options options = {
        .seed = key.seed, .callbacks = {.connected = on_connected, .frame = on_frame, .closed = on_closed}};
    struct ch_quic_route route = {0}, to;
    struct sockaddr_storage address;
    uint8_t datagram[CH_QUIC_DATAGRAM_BYTES_MAX];
    if (ch_address_parse(node, &route.remote, NULL) != CH_OK)
        die("no address");
    socklen_t address_length = ch_address_to_sockaddr(&route.remote, &address);
    for (uint64_t i = 0; i < count; i++) {
        struct ch_quic *engine;
        uint64_t conn, now_ns = ch_time_monotonic_ns();
        int fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || ch_quic_open(&options, &engine) != CH_OK ||
            ch_quic_connect(engine, &route, NULL, NULL, now_ns, &conn) != CH_OK)
            die("no dial");
        size_t length = ch_quic_next_datagram(engine, datagram, sizeof datagram, &to, now_ns);
        sent += sendto(fd, datagram, length, 0, (struct sockaddr *)&address, address_length) == (ssize_t)length;
        ch_quic_close(engine);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    enum { NODE = 256, GENESIS, KEY, COUNT, SEED };
    static const struct option options[] = {{"node", 1, NULL, NODE}, {"genesis", 1, NULL, GENESIS},
                                            {"key", 1, NULL, KEY},   {"count", 1, NULL, COUNT},
                                            {"seed", 1, NULL, SEED}, {0}};
    static const struct {
        const char *name;
        bool (*once)(struct ch_client *client);
    } deeds[] = {{"garbage", garbage},
                 {"questions", questions},
                 {"greedy", greedy},
                 {"payloads", payloads},
                 {"requests", requests},
                 {"blocks", blocks},
                 {"equivocate", equivocate}};
    uint64_t seed = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case NODE:
            node = optarg;
            break;
        case GENESIS:
            genesis_file = optarg;
            break;
        case KEY:
            key_file = optarg;
            break;
        case COUNT:
            count = strtoull(optarg, NULL, 10);
            break;
        case SEED:
            seed = strtoull(optarg, NULL, 10);
            break;
        default:
            die("no such option");
        }
    if (!node || !genesis_file || optind + 1 != argc)
        die("usage: rogue --node IP:PORT --genesis FILE [--key FILE] [--count N] [--seed N] "
            "garbage|questions|greedy|payloads|requests|blocks|equivocate|half-open|wrong-chain");
    if (ch_sign_init() != CH_OK)
        die("libsodium");
    ch_prng_seed(&prng, seed);
    read_all();
    struct ch_client *client = NULL;
    if (strcmp(argv[optind], "half-open") == 0) {
        half_open();
    } else if (strcmp(argv[optind], "wrong-chain") == 0) {
        client = dial_for_another_chain();
    } else {
        size_t k = 0;
        while (k < sizeof deeds / sizeof *deeds && strcmp(deeds[k].name, argv[optind]) != 0)
            k++;
        if (k == sizeof deeds / sizeof *deeds)
            die("no such deed");
        client = client_of(committee.chain_id);
        if (ch_client_connect(client) != CH_OK) {
            printf("{\"sent\": 0, \"not_let_in\": \"%s\"}\n", ch_client_why(client));
            ch_client_close(client);
            return 0;
        }
        for (uint64_t i = 0; i < count && deeds[k].once(client);)
            i++;
        struct ch_quic_conn_stats stats;
        while (client->conn && ch_quic_conn_stats(client->engine, client->conn, &stats) == CH_OK &&
               stats.send_bytes_waiting)
            if (ch_client_round(client, ch_time_monotonic_ns() + 1000000) != CH_OK)
                die(ch_client_why(client));
    }
    if (client && client->closed.code)
        printf("{\"sent\": %llu, \"closed_with\": \"%s\"}\n", (unsigned long long)sent,
               ch_quic_code_name(client->closed.code));
    else
        printf("{\"sent\": %llu, \"closed_with\": null}\n", (unsigned long long)sent);
    ch_client_close(client);
    return 0;
}
