/* tests/tools/hose_pcap - makes capture files of fire hose datagrams, for tcpreplay to send.
 *
 * One file registers accounts, the other sends messages among them, some of them bad in ways that are counted: the last
 * line says how many of each kind there are. All from a seed, but for the time. Chain: any whose registrar key is
 * given; messages go to their own sender, so no relation is needed.
 */
#include "base/prng.h"
#include "base/time.h"
#include "crypto/keyfile.h"
#include "crypto/sign.h"
#include "wire/genesis.h"
#include "wire/hose.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAME_HEAD     42 /* Ethernet 14, IPv4 20, UDP 8 */
#define PAYLOAD_MAX    1472
#define MESSAGE_INLINE 120 /* with 112 + 110 bytes around it: 342 a transaction */
#define THREADS        2

static struct {
    uint8_t source_mac[6], target_mac[6], source_ip[4], target_ip[4];
    uint16_t port;
    uint64_t accounts, messages, bad_every, duplicate_every, stranger_every, seed;
    const char *genesis, *registrar, *registrations_file, *messages_file;
} o = {.port = 4741, .accounts = 1000, .messages = 100000, .seed = 1};

static struct ch_genesis genesis;
static struct ch_sign_key registrar, *accounts;
static uint8_t tx_prefix[CH_SIGN_PREFIX_BYTES_MAX], approve_prefix[CH_SIGN_PREFIX_BYTES_MAX];
static size_t tx_prefix_length, approve_prefix_length;
static uint64_t now_ms;

static void die(const char *text)
{
    fprintf(stderr, "hose_pcap: %s\n", text);
    exit(1);
}

static size_t finish(const struct ch_tx *tx, const struct ch_sign_key *key, uint8_t *out)
{
    size_t length = ch_tx_encode(tx, out);
    if (!length)
        die("a transaction does not encode");
    ch_sign(key, tx_prefix, tx_prefix_length, out + CH_TX_SIGNED_OFFSET, length - CH_TX_SIGNED_OFFSET, out);
    return length;
}

static size_t registration(uint64_t index, uint8_t *out)
{
    char handle[CH_HANDLE_BYTES_MAX + 1];
    uint8_t approval[CH_SIGNATURE_BYTES], message[CH_APPROVAL_MESSAGE_BYTES_MAX];
    struct ch_seal_key seal;
    snprintf(handle, sizeof handle, "hose%llu", (unsigned long long)index);
    ch_seal_key_new(&seal);
    struct ch_tx tx = {
        .kind = CH_TX_REGISTER,
        .sender = accounts[index].public_key,
        .timestamp_ms = now_ms,
        .seal_key = seal.public_key,
        .registrar = registrar.public_key,
        .approval_expires_ms = now_ms + 3600000,
        .approval = approval,
        .handle = (const uint8_t *)handle,
        .handle_length = (uint8_t)strlen(handle),
    };
    size_t length = ch_tx_approval_message(&tx, message);
    ch_sign(&registrar, approve_prefix, approve_prefix_length, message, length, approval);
    return finish(&tx, &accounts[index], out);
}

/* Message `index`; every bad_every-th has a broken signature, every stranger_every-th an unknown sender. */
static size_t message(uint64_t index, uint8_t *out)
{
    uint8_t text[MESSAGE_INLINE], commitment[CH_HASH_BYTES];
    struct ch_prng g;
    struct ch_sign_key stranger;
    ch_prng_seed(&g, o.seed ^ index);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)ch_prng_next(&g);
    memcpy(commitment, text, sizeof commitment);
    const struct ch_sign_key *from = &accounts[ch_prng_below(&g, o.accounts)];
    if (o.stranger_every && index % o.stranger_every == 1) {
        ch_sign_key_new(&stranger);
        from = &stranger;
    }
    const struct ch_tx tx = {
        .kind = CH_TX_MESSAGE,
        .sender = from->public_key,
        .peer = from->public_key,
        .timestamp_ms = now_ms,
        .salt = (uint32_t)index,
        .commitment = commitment,
        .inline_bytes = text,
        .inline_length = sizeof text,
    };
    size_t length = finish(&tx, from, out);
    if (o.bad_every && index % o.bad_every == 2)
        out[40] ^= 1; /* in s */
    return length;
}

static uint32_t sum(const uint8_t *bytes, size_t length, uint32_t start)
{
    for (size_t i = 0; i + 1 < length; i += 2)
        start += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    return length & 1 ? start + ((uint32_t)bytes[length - 1] << 8) : start;
}

static uint16_t fold(uint32_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return htons((uint16_t)~s);
}

static void write_frame(FILE *file, uint8_t *frame, size_t payload)
{
    static uint32_t number;
    uint16_t total = htons((uint16_t)(28 + payload)), udp = htons((uint16_t)(8 + payload)), port = htons(o.port), check;
    uint32_t length = (uint32_t)(FRAME_HEAD + payload);
    const uint32_t record[4] = {0, number++, length, length};
    memset(frame, 0, FRAME_HEAD);
    memcpy(frame, o.target_mac, 6);
    memcpy(frame + 6, o.source_mac, 6);
    frame[12] = 8;
    frame[14] = 0x45;
    memcpy(frame + 16, &total, 2);
    frame[22] = 64;
    frame[23] = 17;
    memcpy(frame + 26, o.source_ip, 4);
    memcpy(frame + 30, o.target_ip, 4);
    check = fold(sum(frame + 14, 20, 0));
    memcpy(frame + 24, &check, 2);
    memcpy(frame + 34, &port, 2);
    memcpy(frame + 36, &port, 2);
    memcpy(frame + 38, &udp, 2);
    check = fold(sum(frame + 26, 8 + 8 + payload, 17 + (uint32_t)(8 + payload)));
    memcpy(frame + 40, check ? &check : &(uint16_t){0xffff}, 2);
    if (fwrite(record, sizeof record, 1, file) != 1 || fwrite(frame, length, 1, file) != 1)
        die("can't write");
}

static FILE *open_capture(const char *path)
{
    static const uint32_t head[6] = {0xa1b2c3d4, 4u << 16 | 2, 0, 0, 65535, 1};
    FILE *file = fopen(path, "we");
    if (!file || fwrite(head, sizeof head, 1, file) != 1)
        die("can't write the capture");
    return file;
}

struct packer {
    FILE *file;
    uint8_t frame[FRAME_HEAD + PAYLOAD_MAX];
    size_t used;
    uint16_t count;
};

static void flush(struct packer *p)
{
    if (!p->count)
        return;
    ch_hose_header_write(p->frame + FRAME_HEAD, p->count, (uint16_t)p->used);
    write_frame(p->file, p->frame, p->used);
    p->count = 0;
    p->used = 0;
}

static void pack(struct packer *p, const uint8_t *tx, size_t length)
{
    if (p->count && p->used + length > PAYLOAD_MAX)
        flush(p);
    if (!p->count)
        p->used = CH_HOSE_HEADER_BYTES;
    memcpy(p->frame + FRAME_HEAD + p->used, tx, length);
    p->used += length;
    p->count++;
}

/* Signing takes the time: it is done in chunks by a few threads. */
struct share {
    uint64_t first, count;
    uint8_t (*out)[CH_TX_BYTES_MAX];
    uint16_t *lengths;
};

static void *sign_share(void *self)
{
    struct share *s = self;
    for (uint64_t i = 0; i < s->count; i++)
        s->lengths[i] = (uint16_t)message(s->first + i, s->out[i]);
    return NULL;
}

static void write_messages(void)
{
    enum { CHUNK = 4096 };
    struct packer p = {.file = open_capture(o.messages_file)};
    static uint8_t bytes[THREADS * CHUNK][CH_TX_BYTES_MAX];
    static uint16_t lengths[THREADS * CHUNK];
    for (uint64_t at = 0; at < o.messages;) {
        pthread_t threads[THREADS];
        struct share shares[THREADS];
        uint64_t done = 0;
        for (unsigned t = 0; t < THREADS; t++) {
            uint64_t left = o.messages - at - done, count = left < CHUNK ? left : CHUNK;
            shares[t] = (struct share){at + done, count, bytes + done, lengths + done};
            done += count;
            if (pthread_create(&threads[t], NULL, sign_share, &shares[t]) != 0)
                die("no thread");
        }
        for (unsigned t = 0; t < THREADS; t++)
            pthread_join(threads[t], NULL);
        for (uint64_t i = 0; i < done; i++) {
            pack(&p, bytes[i], lengths[i]);
            if (o.duplicate_every && (at + i) % o.duplicate_every == 3)
                pack(&p, bytes[i], lengths[i]);
        }
        at += done;
    }
    flush(&p);
    if (fclose(p.file) != 0)
        die("can't write the capture");
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
    return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6;
}

static void read_chain(void)
{
    static uint8_t bytes[CH_GENESIS_BYTES_MAX];
    uint8_t chain_id[CH_HASH_BYTES], seed[CH_SIGN_SEED_BYTES];
    size_t length;
    FILE *file = fopen(o.genesis, "re");
    if (!file)
        die("no genesis");
    length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    if (ch_genesis_decode(bytes, length, &genesis) != CH_OK)
        die("bad genesis");
    ch_genesis_chain_id(bytes, length, chain_id);
    tx_prefix_length = ch_sign_prefix(CH_DOMAIN_TX, chain_id, tx_prefix);
    approve_prefix_length = ch_sign_prefix(CH_DOMAIN_APPROVE, chain_id, approve_prefix);
    if (ch_keyfile_read(o.registrar, CH_KEYFILE_REGISTRAR, NULL, seed, sizeof seed, &length) != CH_OK || length != 32)
        die("no registrar key");
    ch_sign_key_from_seed(seed, &registrar);
}

int main(int argc, char **argv)
{
    enum { SOURCE_MAC = 256, TARGET_MAC, SOURCE_IP, TARGET_IP, PORT, ACCOUNTS, MESSAGES, BAD, DUPLICATE, STRANGER, SEED,
           GENESIS, REGISTRAR, REGISTRATIONS, OUT };
    static const struct option options[] = {
        {"source-mac", 1, NULL, SOURCE_MAC}, {"target-mac", 1, NULL, TARGET_MAC}, {"source-ip", 1, NULL, SOURCE_IP},
        {"target-ip", 1, NULL, TARGET_IP}, {"port", 1, NULL, PORT}, {"accounts", 1, NULL, ACCOUNTS},
        {"messages", 1, NULL, MESSAGES}, {"bad-every", 1, NULL, BAD}, {"duplicate-every", 1, NULL, DUPLICATE},
        {"stranger-every", 1, NULL, STRANGER}, {"seed", 1, NULL, SEED}, {"genesis", 1, NULL, GENESIS},
        {"registrar", 1, NULL, REGISTRAR}, {"registrations", 1, NULL, REGISTRATIONS}, {"out", 1, NULL, OUT}, {0},
    };
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case SOURCE_MAC: good &= parse_mac(optarg, o.source_mac); break;
        case TARGET_MAC: good &= parse_mac(optarg, o.target_mac); break;
        case SOURCE_IP: good &= inet_pton(AF_INET, optarg, o.source_ip) == 1; break;
        case TARGET_IP: good &= inet_pton(AF_INET, optarg, o.target_ip) == 1; break;
        case PORT: o.port = (uint16_t)strtoul(optarg, NULL, 10); break;
        case ACCOUNTS: o.accounts = strtoull(optarg, NULL, 10); break;
        case MESSAGES: o.messages = strtoull(optarg, NULL, 10); break;
        case BAD: o.bad_every = strtoull(optarg, NULL, 10); break;
        case DUPLICATE: o.duplicate_every = strtoull(optarg, NULL, 10); break;
        case STRANGER: o.stranger_every = strtoull(optarg, NULL, 10); break;
        case SEED: o.seed = strtoull(optarg, NULL, 10); break;
        case GENESIS: o.genesis = optarg; break;
        case REGISTRAR: o.registrar = optarg; break;
        case REGISTRATIONS: o.registrations_file = optarg; break;
        case OUT: o.messages_file = optarg; break;
        default: good = false;
        }
    if (!good || !o.genesis || !o.registrar || !o.registrations_file || !o.messages_file || !o.accounts)
        die("usage: hose_pcap --genesis F --registrar F --registrations OUT --out OUT --target-mac M --source-mac M "
            "--target-ip A --source-ip A [--port N] [--accounts N] [--messages N] [--bad-every N] [--duplicate-every N] "
            "[--stranger-every N] [--seed N]");
    if (ch_sign_init() != CH_OK)
        die("libsodium");
    read_chain();
    now_ms = ch_time_unix_ms();
    accounts = calloc(o.accounts, sizeof *accounts);
    if (!accounts)
        die("memory");
    struct packer p = {.file = open_capture(o.registrations_file)};
    for (uint64_t i = 0; i < o.accounts; i++) {
        uint8_t tx[CH_TX_BYTES_MAX];
        ch_sign_key_new(&accounts[i]);
        pack(&p, tx, registration(i, tx));
    }
    flush(&p);
    if (fclose(p.file) != 0)
        die("can't write the capture");
    write_messages();
    uint64_t bad = 0, duplicates = 0, strangers = 0, copies = 0;
    for (uint64_t i = 0; i < o.messages; i++) { /* what a copy of a stranger's or a bad one is refused for comes first */
        bool copy = o.duplicate_every && i % o.duplicate_every == 3;
        bool stranger = o.stranger_every && i % o.stranger_every == 1;
        bool broken = !stranger && o.bad_every && i % o.bad_every == 2;
        copies += copy;
        strangers += stranger ? 1 + copy : 0;
        bad += broken ? 1 + copy : 0;
        duplicates += copy && !stranger && !broken;
    }
    printf("{\"accounts\": %llu, \"messages\": %llu, \"transactions\": %llu, \"bad\": %llu, \"duplicates\": %llu, "
           "\"strangers\": %llu}\n",
           (unsigned long long)o.accounts, (unsigned long long)o.messages,
           (unsigned long long)(o.messages + copies), (unsigned long long)bad, (unsigned long long)duplicates,
           (unsigned long long)strangers);
    return 0;
}
