/* tests/tools/submit_load - a client that hands in transactions as fast as a node takes them, or at a rate.
 *
 * Registers an account of its own (it holds the registrar's key), signs all messages beforehand, sends them to itself
 * in SUBMIT frames, and prints one line of JSON: what became of each transaction, how long the final receipts took, and
 * how the connection ended. Bad signatures are sent where asked for, and the same transactions to a second node after
 * the first has answered all of them.
 */
#include "base/merkle.h"
#include "base/time.h"
#include "client/client_impl.h"
#include "crypto/ed25519.h"
#include "crypto/keyfile.h"
#include "wire/genesis.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAMES_IN_FLIGHT_MAX 256
#define PER_FRAME_MAX        256

static struct {
    const char *node, *again, *genesis, *registrar, *handle;
    uint64_t messages, per_frame, in_flight, bad_every, rate, inline_bytes, patience_ms, with_proof;
} o = {.messages = 1000, .per_frame = 64, .in_flight = 8, .inline_bytes = 120, .patience_ms = 60000};

static struct ch_genesis genesis;
static struct ch_sign_key registrar, account;
static uint8_t chain_id[CH_HASH_BYTES], tx_prefix[CH_SIGN_PREFIX_BYTES_MAX], approve_prefix[CH_SIGN_PREFIX_BYTES_MAX];
static size_t tx_prefix_length, approve_prefix_length;

/* All transactions, one behind the other: the frames are slices of it. */
static uint8_t *bytes;
static size_t *offsets; /* messages + 1 */

static uint64_t early[CH_STATUS_NUMBERS_MAX], final[CH_STATUS_NUMBERS_MAX];
static uint64_t proofs, unanswered, *latencies_ns, latency_count;

struct frame {
    struct ch_request request;
    uint64_t started_ns;
    uint32_t open; /* transactions that wait for their last receipt */
    bool busy;
};
static struct frame frames[FRAMES_IN_FLIGHT_MAX];

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "submit_load: %s\n", text);
    exit(1);
}

static size_t finish(const struct ch_tx *tx, uint8_t *out)
{
    size_t length = ch_tx_encode(tx, out);
    if (!length)
        die("a transaction does not encode");
    ch_sign(&account, tx_prefix, tx_prefix_length, out + CH_TX_SIGNED_OFFSET, length - CH_TX_SIGNED_OFFSET, out);
    return length;
}

static void read_chain(void)
{
    uint8_t file_bytes[CH_GENESIS_BYTES_MAX], seed[CH_SIGN_SEED_BYTES];
    FILE *file = fopen(o.genesis, "re");
    size_t length = file ? fread(file_bytes, 1, sizeof file_bytes, file) : 0;
    if (file)
        fclose(file);
    if (ch_genesis_decode(file_bytes, length, &genesis) != CH_OK)
        die("no genesis");
    ch_genesis_chain_id(file_bytes, length, chain_id);
    tx_prefix_length = ch_sign_prefix(CH_DOMAIN_TX, chain_id, tx_prefix);
    approve_prefix_length = ch_sign_prefix(CH_DOMAIN_APPROVE, chain_id, approve_prefix);
    if (ch_keyfile_read(o.registrar, CH_KEYFILE_REGISTRAR, NULL, seed, sizeof seed, &length) != CH_OK ||
        length != sizeof seed)
        die("no registrar key");
    ch_sign_key_from_seed(seed, &registrar);
}

static void register_account(struct ch_client *client)
{
    uint8_t tx_bytes[CH_TX_BYTES_MAX], approval[CH_SIGNATURE_BYTES], message[CH_APPROVAL_MESSAGE_BYTES_MAX];
    struct ch_seal_key seal;
    struct ch_receipt receipt;
    uint64_t now_ms = ch_time_unix_ms();
    ch_seal_key_new(&seal);
    struct ch_tx tx = {
        .kind = CH_TX_REGISTER,
        .sender = account.public_key,
        .timestamp_ms = now_ms,
        .seal_key = seal.public_key,
        .registrar = registrar.public_key,
        .approval_expires_ms = now_ms + 60000,
        .approval = approval,
        .handle = (const uint8_t *)o.handle,
        .handle_length = (uint8_t)strlen(o.handle),
    };
    ch_sign(&registrar, approve_prefix, approve_prefix_length, message, ch_tx_approval_message(&tx, message), approval);
    size_t length = finish(&tx, tx_bytes);
    if (ch_client_submit(client, tx_bytes, length, false, &receipt) != CH_OK)
        die(ch_client_why(client));
}

/* With bad_every, the last of so many has a broken signature. */
static void sign_messages(void)
{
    uint8_t *text = calloc(1, o.inline_bytes + 1), commitment[CH_HASH_BYTES];
    bytes = malloc(o.messages * CH_TX_BYTES_MAX);
    offsets = calloc(o.messages + 1, sizeof *offsets);
    latencies_ns = calloc(2 * o.messages, sizeof *latencies_ns);
    if (!text || !bytes || !offsets || !latencies_ns)
        die("memory");
    for (uint64_t i = 0; i < o.messages; i++) {
        ch_random(commitment, sizeof commitment);
        const struct ch_tx tx = {
            .kind = CH_TX_MESSAGE,
            .sender = account.public_key,
            .peer = account.public_key,
            .timestamp_ms = ch_time_unix_ms(),
            .salt = (uint32_t)i,
            .commitment = commitment,
            .inline_bytes = text,
            .inline_length = (uint16_t)o.inline_bytes,
        };
        offsets[i + 1] = offsets[i] + finish(&tx, bytes + offsets[i]);
        if (o.bad_every && (i + 1) % o.bad_every == 0)
            bytes[offsets[i] + 40] ^= 1; /* in s */
    }
    free(text);
}

/* The proof behind the receipts of a frame: all lead to one root, which the validator signed. */
static bool proof_holds(const uint8_t *receipts, uint16_t count, struct ch_reader *r)
{
    uint8_t root[CH_HASH_BYTES], message[CH_HASH_BYTES + 4], leaf[CH_HASH_BYTES], prefix[CH_SIGN_PREFIX_BYTES_MAX];
    const uint32_t leaves = ch_read32(r);
    const uint8_t *signature = ch_read(r, CH_SIGNATURE_BYTES);
    for (uint16_t i = 0; i < count; i++) {
        const uint32_t at = ch_read32(r);
        const uint8_t length = ch_read8(r), *path = ch_read(r, (size_t)length * CH_HASH_BYTES);
        ch_merkle_leaf(receipts + (size_t)i * CH_RECEIPT_BYTES, CH_RECEIPT_BYTES, leaf);
        if (!path || !ch_merkle_root_of_path(leaf, at, leaves, (const uint8_t(*)[CH_HASH_BYTES])path, length, root) ||
            (i && memcmp(root, message, CH_HASH_BYTES) != 0))
            return false;
        memcpy(message, root, CH_HASH_BYTES);
    }
    ch_store32(message + CH_HASH_BYTES, leaves);
    const struct ch_ed25519_item item = {genesis.validators[0].key,
                                         signature,
                                         prefix,
                                         message,
                                         (uint32_t)ch_sign_prefix(CH_DOMAIN_RECEIPT, chain_id, prefix),
                                         sizeof message};
    return ch_reader_done(r) && ch_ed25519_verify_reference(&item);
}

static ch_err on_receipts(struct ch_request *request, const struct ch_frame_header *header, const uint8_t *body)
{
    static const uint8_t no_tx[CH_HASH_BYTES];
    struct frame *frame = request->context;
    struct ch_reader r = ch_reader(body, header->length);
    uint64_t now_ns = ch_time_monotonic_ns();
    uint16_t count = ch_read16(&r);
    if (header->type != CH_FRAME_RECEIPTS)
        return CH_ERR_PROTOCOL;
    if (header->flags & CH_FRAME_FLAG_SIGNED) {
        struct ch_reader proof = r;
        const uint8_t *receipts = ch_read(&proof, (size_t)count * CH_RECEIPT_BYTES);
        if (!receipts || !proof_holds(receipts, count, &proof))
            return CH_ERR_PROTOCOL;
        proofs++;
    }
    for (uint16_t i = 0; i < count; i++) {
        const uint8_t *one = ch_read(&r, CH_RECEIPT_BYTES);
        struct ch_receipt receipt;
        if (!one || !ch_receipt_read(one, &receipt) || receipt.status >= CH_STATUS_NUMBERS_MAX || !frame->open)
            return CH_ERR_PROTOCOL;
        if (receipt.level == CH_LEVEL_EARLY && memcmp(receipt.tx_id, no_tx, CH_HASH_BYTES) == 0) {
            early[receipt.status] += frame->open; /* the frame as a whole, or its rest */
            frame->open = 0;
        } else if (receipt.level == CH_LEVEL_EARLY) {
            early[receipt.status]++;
            frame->open -= receipt.status != CH_STATUS_OK;
        } else {
            final[receipt.status]++;
            frame->open--;
            latencies_ns[latency_count++] = now_ns - frame->started_ns;
        }
    }
    return frame->open ? CH_ERR_AGAIN : CH_OK;
}

/* Sends what there is to send into the free frames; returns how many are under way. */
static unsigned fill(struct ch_client *client, uint64_t *next, uint64_t begin_ns)
{
    unsigned busy = 0;
    for (unsigned f = 0; f < o.in_flight; f++) {
        struct frame *frame = &frames[f];
        if (frame->busy && frame->request.done) {
            frame->busy = false;
            unanswered += frame->open;
        }
        uint64_t now_ns = ch_time_monotonic_ns();
        bool due = !o.rate || *next * 1000000000u / o.rate <= now_ns - begin_ns;
        if (!frame->busy && *next < o.messages && due && client->conn) {
            uint64_t left = o.messages - *next, count = left < o.per_frame ? left : o.per_frame;
            struct ch_bytes part = {bytes + offsets[*next], offsets[*next + count] - offsets[*next]};
            *frame = (struct frame){
                .request = {.answer = on_receipts, .context = frame}, .started_ns = now_ns, .open = (uint32_t)count};
            ch_err err = ch_client_start(client, &frame->request, CH_FRAME_SUBMIT,
                                         o.with_proof ? CH_FRAME_FLAG_WANT_SIGNED : CH_FRAME_FLAG_WANT_FINAL, &part, 1);
            if (err == CH_OK) {
                frame->busy = true;
                *next += count;
            } else if (err != CH_ERR_FULL && err != CH_ERR_CLOSED) {
                die(ch_err_text(err));
            }
        }
        busy += frame->busy;
    }
    return busy;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_statuses(const char *name, const uint64_t *counts)
{
    const char *comma = "";
    printf(", \"%s\": {", name);
    for (uint16_t i = 0; i < CH_STATUS_NUMBERS_MAX; i++)
        if (counts[i]) {
            printf("%s\"%s\": %llu", comma, ch_status_name(i), (unsigned long long)counts[i]);
            comma = ", ";
        }
    printf("}");
}

static double percentile_ms(unsigned percent)
{
    return latency_count ? (double)latencies_ns[(latency_count - 1) * percent / 100] / 1e6 : 0;
}

static bool number(const char *text, uint64_t smallest, uint64_t largest, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text && !*end && *out >= smallest && *out <= largest;
}

static bool parse(int argc, char **argv)
{
    enum {
        NODE = 256,
        GENESIS,
        REGISTRAR,
        HANDLE,
        AGAIN,
        MESSAGES,
        PER_FRAME,
        IN_FLIGHT,
        BAD_EVERY,
        RATE,
        INLINE,
        SIGNED
    };
    static const struct option options[] = {
        {"node", 1, NULL, NODE},
        {"genesis", 1, NULL, GENESIS},
        {"registrar", 1, NULL, REGISTRAR},
        {"handle", 1, NULL, HANDLE},
        {"again", 1, NULL, AGAIN},
        {"messages", 1, NULL, MESSAGES},
        {"per-frame", 1, NULL, PER_FRAME},
        {"in-flight", 1, NULL, IN_FLIGHT},
        {"bad-every", 1, NULL, BAD_EVERY},
        {"rate", 1, NULL, RATE},
        {"inline", 1, NULL, INLINE},
        {"signed", 1, NULL, SIGNED},
        {0},
    };
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case NODE: o.node = optarg; break;
        case GENESIS: o.genesis = optarg; break;
        case REGISTRAR: o.registrar = optarg; break;
        case HANDLE: o.handle = optarg; break;
        case AGAIN: o.again = optarg; break;
        case MESSAGES: good &= number(optarg, 1, 10000000, &o.messages); break;
        case PER_FRAME: good &= number(optarg, 1, PER_FRAME_MAX, &o.per_frame); break;
        case IN_FLIGHT: good &= number(optarg, 1, FRAMES_IN_FLIGHT_MAX, &o.in_flight); break;
        case BAD_EVERY: good &= number(optarg, 1, UINT64_MAX, &o.bad_every); break;
        case RATE: good &= number(optarg, 1, 1000000000, &o.rate); break;
        case SIGNED: good &= number(optarg, 0, 1, &o.with_proof); break;
        case INLINE: good &= number(optarg, 0, 1000, &o.inline_bytes); break;
        default: good = false;
        }
    return good && o.node && o.genesis && o.registrar && o.handle && optind == argc;
}

static struct ch_client *open_client(const char *node)
{
    struct ch_client *client;
    char why[CH_CLIENT_WHY_BYTES];
    const struct ch_client_options options = {.address = node, .chain_id = chain_id, .key = &account};
    if (ch_client_open(&options, &client, why) != CH_OK)
        die(why);
    return client;
}

/* Sends all and waits for the answers; gives how many were sent. */
static uint64_t send_all(struct ch_client *client, uint64_t begin_ns)
{
    uint64_t next = 0, answered = 0, quiet_since_ns = begin_ns;
    while ((fill(client, &next, begin_ns) || next < o.messages) && client->conn) {
        uint64_t now_ns = ch_time_monotonic_ns();
        if (ch_client_round(client, now_ns + 1000000) != CH_OK)
            die(ch_client_why(client));
        uint64_t seen = early[CH_STATUS_OK] + latency_count + early[CH_STATUS_BAD_SIGNATURE];
        if (seen != answered) {
            answered = seen;
            quiet_since_ns = now_ns;
        } else if (now_ns - quiet_since_ns > o.patience_ms * 1000000) {
            die("no answer any more");
        }
    }
    return next;
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv))
        die("usage: submit_load --node IP:PORT --genesis F --registrar F --handle NAME [--messages N] [--per-frame N] "
            "[--in-flight FRAMES] [--bad-every N] [--rate N a second] [--inline BYTES] [--signed 1] [--again IP:PORT]");
    if (ch_sign_init() != CH_OK)
        die("libsodium");
    read_chain();
    ch_sign_key_new(&account);
    sign_messages(); /* before the connection is there: what it hears late, its peer would take for a long way */
    struct ch_client *client = open_client(o.node);
    register_account(client);
    uint64_t begin_ns = ch_time_monotonic_ns(), next = send_all(client, begin_ns);
    double seconds = (double)(ch_time_monotonic_ns() - begin_ns) / 1e9;
    bool closed = !client->conn;
    (void)fill(client, &(uint64_t){o.messages}, begin_ns);
    if (o.again) {
        struct ch_client *second = open_client(o.again);
        if (ch_client_connect(second) != CH_OK)
            die(ch_client_why(second));
        next += send_all(second, ch_time_monotonic_ns());
        ch_client_close(second);
    }
    qsort(latencies_ns, latency_count, sizeof *latencies_ns, by_size);
    printf("{\"sent\": %llu, \"unanswered\": %llu", (unsigned long long)next, (unsigned long long)unanswered);
    print_statuses("early", early);
    print_statuses("final", final);
    printf(", \"proofs\": %llu, \"seconds\": %.3f, \"final_p50_ms\": %.3f, \"final_p99_ms\": %.3f",
           (unsigned long long)proofs, seconds, percentile_ms(50), percentile_ms(99));
    if (closed)
        printf(", \"closed_with\": %llu", (unsigned long long)client->closed.code);
    printf("}\n");
    ch_client_close(client);
    free(bytes);
    free(offsets);
    free(latencies_ns);
    return 0;
}
