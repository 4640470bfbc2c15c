/* Messages applied a second: ledger rules, replay window, log tree, inbox and id indices with the merging of their
 * runs, and LMDB's commits, on one core. Signatures, hashing of transactions and the log on disk are other stages'
 * work.
 *
 *   bench_state FOLDER [accounts [messages [batch [io_uring|nometasync]]]]
 *
 * Every account is bound to the next two; a message goes from a random account to one of those it is bound to. */
#include "base/prng.h"
#include "base/time.h"
#include "node/state_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MESSAGE_BYTES 300u
#define SETUP_BATCH   10000u
#define START_MS      1700000000000ull

static uint8_t *keys;
static uint64_t accounts = 1000000, messages = 5000000, batch = 20000;

static void check(ch_err err, const char *what)
{
    if (err == CH_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, ch_err_text(err));
    exit(1);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t written_bytes(void)
{
    char line[128];
    unsigned long long bytes = 0;
    FILE *io = fopen("/proc/self/io", "r");
    while (io && fgets(line, sizeof line, io))
        if (sscanf(line, "write_bytes: %llu", &bytes) == 1)
            break;
    if (io)
        fclose(io);
    return bytes;
}

/* Straight into the rows: registering by transaction is bounded by its curve arithmetic. */
static void make_accounts(struct ch_state *state, struct ch_ledger_head *head)
{
    struct ch_prng g;
    ch_prng_seed(&g, 1);
    for (uint64_t i = 0; i < accounts * 4; i++)
        ch_store64(keys + 8 * i, ch_prng_next(&g));
    for (uint64_t i = 0; i < accounts;) {
        check(ch_state_begin(state), "begin");
        for (uint64_t end = i + SETUP_BATCH; i < end && i < accounts; i++) {
            struct ch_account row = {.registered_commit = 1, .registered_ms = START_MS};
            memcpy(row.key, keys + 32 * i, 32);
            row.handle_length =
                (uint8_t)snprintf((char *)row.handle, sizeof row.handle, "a%llu", (unsigned long long)i);
            check(ch_state_account_put(state, i, &row), "account");
        }
        check(ch_state_commit(state, 0, 0, "", 0), "commit");
    }
    head->accounts = accounts;
    for (uint64_t i = 0; i < 2 * accounts;) {
        check(ch_state_begin(state), "begin");
        for (uint64_t end = i + SETUP_BATCH; i < end && i < 2 * accounts; i++) {
            uint64_t one = i / 2, other = (one + 1 + i % 2) % accounts;
            bool swap = memcmp(keys + 32 * one, keys + 32 * other, 32) > 0;
            uint64_t smaller = swap ? other : one, larger = swap ? one : other;
            struct ch_relation row = {.since_ms = START_MS, .state = CH_RELATION_BOUND};
            memcpy(row.smaller, keys + 32 * smaller, 32);
            memcpy(row.larger, keys + 32 * larger, 32);
            check(ch_state_relation_put(state, i, smaller, larger, &row), "relation");
        }
        check(ch_state_commit(state, 0, 0, "", 0), "commit");
    }
    head->relations = 2 * accounts;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "bench_state FOLDER [accounts [messages [batch [io_uring|nometasync]]]]\n");
        return 2;
    }
    if (argc > 2)
        accounts = strtoull(argv[2], NULL, 0);
    if (argc > 3)
        messages = strtoull(argv[3], NULL, 0);
    if (argc > 4)
        batch = strtoull(argv[4], NULL, 0);
    if (accounts < 4 || batch < 1)
        return 2;
    keys = malloc(accounts * 32);
    uint8_t(*bytes)[MESSAGE_BYTES] = calloc(batch, sizeof *bytes);
    uint8_t(*ids)[CH_HASH_BYTES] = calloc(batch, sizeof *ids);
    struct ch_tx *txs = calloc(batch, sizeof *txs);
    struct ch_ledger_item *items = calloc(batch, sizeof *items);
    struct ch_receipt *receipts = calloc(batch, sizeof *receipts);
    if (!keys || !bytes || !ids || !txs || !items || !receipts)
        return 1;

    struct ch_state *state;
    struct ch_io *io;
    check(ch_io_uring_open(&io), "io_uring");
    struct ch_state_options so = {
        .folder = argv[1], .io = io, .nometasync = argc > 5 && strcmp(argv[5], "nometasync") == 0, .seed = 7};
    check(ch_state_open(&so, &state), argv[1]);
    if (ch_state_meta(state)->accounts) {
        fprintf(stderr, "%s is not empty\n", argv[1]);
        return 2;
    }
    struct ch_ledger_head head = {.commit_time_ms = START_MS};
    uint64_t began = ch_time_monotonic_ns();
    make_accounts(state, &head);
    printf("%llu accounts, %llu relations made in %.1f s\n", (unsigned long long)accounts,
           (unsigned long long)head.relations, 1e-9 * (double)(ch_time_monotonic_ns() - began));

    static struct ch_genesis genesis;
    ch_genesis_defaults(&genesis, 1);
    genesis.start_ms = START_MS;
    genesis.limits.window_back_ms = 2000; /* so that ids expire as fast as they come */
    struct ch_ledger_options lo = {.genesis = &genesis, .head = &head, .rows = ch_state_rows(state), .seed = 9};
    struct ch_ledger *ledger;
    check(ch_ledger_open(&lo, &ledger), "ledger");

    static const uint8_t filler[256];
    struct ch_prng g;
    ch_prng_seed(&g, 2);
    double apply_cpu = 0, commit_cpu = 0;
    uint64_t applied = 0, committed_ns = 0, wall_ns = 0, written = written_bytes();
    for (uint64_t commit = 1; applied < messages; commit++) {
        uint64_t now_ms = START_MS + applied / 300; /* as if 300 k/s arrived */
        double a;
        for (uint64_t i = 0; i < batch; i++) {
            uint64_t one = ch_prng_below(&g, accounts), other = (one + 1 + ch_prng_below(&g, 2)) % accounts;
            bool back = ch_prng_next(&g) & 1;
            struct ch_tx tx = {.kind = CH_TX_MESSAGE,
                               .sender = keys + 32 * (back ? other : one),
                               .peer = keys + 32 * (back ? one : other),
                               .timestamp_ms = now_ms,
                               .commitment = filler,
                               .inline_bytes = filler,
                               .inline_length = MESSAGE_BYTES - CH_TX_BYTES_MIN - 110};
            if (ch_tx_encode(&tx, bytes[i]) != MESSAGE_BYTES ||
                ch_tx_parse(bytes[i], MESSAGE_BYTES, &txs[i]) != CH_STATUS_OK)
                return 1;
            for (unsigned k = 0; k < 4; k++)
                ch_store64(ids[i] + 8 * k, ch_prng_next(&g));
            items[i] = (struct ch_ledger_item){&txs[i], ids[i], (applied + i) * MESSAGE_BYTES, true, true};
        }
        uint64_t from_ns = ch_time_monotonic_ns();
        check(ch_state_begin(state), "begin");
        a = cpu_seconds();
        check(ch_ledger_apply(ledger, commit, now_ms, items, batch, receipts), "apply");
        double b = cpu_seconds();
        uint8_t row[CH_LEDGER_HEAD_BYTES];
        ch_ledger_head_write(ch_ledger_head(ledger), row);
        uint64_t commit_ns = ch_time_monotonic_ns();
        check(ch_state_commit(state, commit, commit, row, sizeof row), "commit");
        uint64_t to_ns = ch_time_monotonic_ns();
        apply_cpu += b - a;
        commit_cpu += cpu_seconds() - b;
        committed_ns += to_ns - commit_ns;
        wall_ns += to_ns - from_ns;
        for (uint64_t i = 0; i < batch; i++)
            if (receipts[i].status != CH_STATUS_OK) {
                fprintf(stderr, "refused: %s\n", ch_status_name(receipts[i].status));
                return 1;
            }
        applied += batch;
        if (applied / (messages / 5 + 1) != (applied - batch) / (messages / 5 + 1) || applied >= messages)
            printf("%9llu messages: %.0f a second; CPU %.0f ns in apply, %.0f ns in commit each; %.0f bytes written "
                   "each\n",
                   (unsigned long long)applied, (double)applied / (1e-9 * (double)wall_ns),
                   1e9 * apply_cpu / (double)applied, 1e9 * commit_cpu / (double)applied,
                   (double)(written_bytes() - written) / (double)applied);
    }
    struct ch_state_counters c = ch_state_counters(state);
    printf(
        "commit: %.2f ms each; %llu entries merged in %llu merges, %u runs; cache misses: accounts %.1f %%, relations "
        "%.1f %%\n",
        1e-6 * (double)committed_ns / ((double)applied / (double)batch), (unsigned long long)c.entries_merged,
        (unsigned long long)c.merges, c.runs,
        100.0 * (double)c.accounts_missed / (double)(c.accounts_hit + c.accounts_missed),
        100.0 * (double)c.relations_missed / (double)(c.relations_hit + c.relations_missed));
    ch_ledger_close(ledger);
    ch_state_close(state);
    ch_io_close(io);
    return 0;
}
