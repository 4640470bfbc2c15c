/* bench/bench_ed25519.c - the cost of one Ed25519 verification, by every way to do it on this machine.
 *
 * Everything is measured in one run, in rounds: each round takes one sample of each row, and right before it one of
 * libsodium on as many cores, which the sample is compared with, so that a change of clock or of other load meets both.
 * 8192 signatures by distinct keys, 256-byte messages; what comes out is checked after each sample, outside the time.
 */
#include "base/error.h"
#include "base/time.h"
#include "crypto/ed25519.h"
#ifdef __x86_64__
#include "bench/ed25519_counted.h"
#endif

#include <getopt.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POOL           CH_ED25519_BATCH_MAX
#define MESSAGE_BYTES  256
#define CORES_MAX      2
#define KERNELS_MAX    16
#define ROWS_MAX       512
#define ROUNDS_MAX     11
#define ROUNDS_QUICK   3
#define SINGLE_SAMPLE  48 /* signatures of a sample that is verified one by one: 2 ms of libsodium */
#define WARM_UPS       18
#define BATCH_SAMPLE   512 /* at least that many where batches are small */
#define PHASE_ROUNDS   200
#define PHASE_WARM_UPS (POOL / 1024 * WARM_UPS) /* every key is shown to the caches so often */
#define COUNT_ROUNDS   4
#define PHASE_SINGLE   8                        /* signatures of libsodium in each of those */

enum method { LIBSODIUM, OPENSSL, REFERENCE, KERNEL };

struct row {
    enum method method;
    size_t kernel; /* in kernels, for KERNEL */
    const char *name;
    uint32_t batch, bad; /* signatures in a batch, bad ones among them */
    bool cached;
    uint32_t cores;
    double ns[ROUNDS_MAX], ratio[ROUNDS_MAX]; /* by round */
};

static struct row rows[ROWS_MAX];
static size_t row_count;

static struct {
    const char *name;
    struct ch_ed25519 *verifier[2][CORES_MAX]; /* without a cache, with one; one for each core */
} kernels[KERNELS_MAX];
static size_t kernel_count;

static uint8_t keys[POOL][32], signatures[POOL][64], bad_signatures[POOL][64], messages[POOL][MESSAGE_BYTES];
static EVP_PKEY *openssl_keys[POOL];

static const char help[] =
    "usage: bench_ed25519 [--quick] [--json | --phases]\n"
    "\n"
    "Measures libsodium, OpenSSL (prepared keys, one context), the reference, and every kernel that this CPU can run.\n"
    "\n"
    "  --quick  3 rounds instead of 11, batches up to 1024\n"
    "  --json   an array of {kernel, batch, keys, poisoned, cores, median_ns_per_signature, ratio_to_libsodium}\n"
    "  --phases what the phases of a batch take, with the best kernel: the fastest of 200 rounds; and with AVX-512 IFMA\n"
    "           what share of it the multiplier alone would need: its instructions, counted, at the rate measured first\n"
    "  --help   this text\n"
    "\n"
    "time:      of the thread on one core, that passes on two\n"
    "keys:      new: every key is decoded; cached: every key was seen before, and often\n"
    "poisoned:  the share of bad signatures in every batch: 0, one in each batch, or 1: all, the floor\n"
    "spread:    from the first to the third quartile of the rounds, in percent of the median\n"
    "ratio:     to libsodium on as many cores, measured right before\n";

static void fail(const char *what)
{
    fprintf(stderr, "bench_ed25519: %s\n", what);
    exit(1);
}

static void make_pool(void)
{
    static const uint8_t one[32] = {1};
    for (size_t i = 0; i < POOL; i++) {
        uint8_t secret[64];
        crypto_sign_keypair(keys[i], secret);
        randombytes_buf(messages[i], MESSAGE_BYTES);
        crypto_sign_detached(signatures[i], NULL, messages[i], MESSAGE_BYTES, secret);
        memcpy(bad_signatures[i], signatures[i], 64);
        crypto_core_ed25519_scalar_add(bad_signatures[i] + 32, signatures[i] + 32, one);
        openssl_keys[i] = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, keys[i], 32);
        if (!openssl_keys[i])
            fail("OpenSSL has no Ed25519");
    }
}

static void open_kernels(void)
{
    const char *name;
    for (size_t i = 0; (name = ch_ed25519_kernel(i)) != NULL && kernel_count < KERNELS_MAX; i++) {
        if (!ch_ed25519_kernel_usable(name) || strcmp(name, "reference") == 0)
            continue;
        kernels[kernel_count].name = name;
        for (int cached = 0; cached < 2; cached++)
            for (int core = 0; core < CORES_MAX; core++) {
                /* four times the keys, so that sets of the cache don't overflow */
                struct ch_ed25519_options options = {
                    .kernel = name, .batch_max = POOL, .cached_keys_max = cached ? 4 * POOL : 0};
                ch_err err = ch_ed25519_open(&options, &kernels[kernel_count].verifier[cached][core]);
                if (err != CH_OK) {
                    fprintf(stderr, "bench_ed25519: %s: %s\n", name, ch_err_text(err));
                    exit(1);
                }
            }
        kernel_count++;
    }
}

static void add_row(struct row row)
{
    CH_ASSERT(row_count < ROWS_MAX);
    rows[row_count++] = row;
}

static void list_rows(bool quick)
{
    static const uint32_t batches[] = {16, 64, 256, 1024, POOL};
    size_t sizes = sizeof batches / sizeof *batches - quick;
    for (uint32_t cores = 1; cores <= CORES_MAX; cores++) {
        add_row((struct row){.method = LIBSODIUM, .name = "libsodium", .batch = 1, .cores = cores});
        add_row((struct row){.method = OPENSSL, .name = "openssl", .batch = 1, .cores = cores});
        add_row((struct row){.method = REFERENCE, .name = "reference", .batch = 1, .cores = cores});
        for (size_t k = 0; k < kernel_count; k++)
            for (size_t i = 0; i < sizes; i++) {
                struct row row = {
                    .method = KERNEL, .kernel = k, .name = kernels[k].name, .batch = batches[i], .cores = cores};
                if (cores > 1 && row.batch != 1024)
                    continue;
                for (int cached = 0; cached < 2; cached++) {
                    row.cached = cached;
                    row.bad = 0;
                    add_row(row);
                    if (cores > 1)
                        continue;
                    row.bad = 1;
                    add_row(row);
                    row.bad = row.batch;
                    add_row(row);
                }
            }
    }
}

/* One core's part of a sample. */
struct work {
    const struct row *row;
    uint32_t core;
    size_t from; /* in the pool */
    struct ch_ed25519_item items[POOL];
    bool valid[POOL];
    size_t count, wrong;
    uint64_t start_ns, end_ns;
    pthread_barrier_t *together;
};

static void verify_all(struct work *w)
{
    const struct row *row = w->row;
    static _Thread_local EVP_MD_CTX *context;
    switch (row->method) {
    case LIBSODIUM:
        for (size_t i = 0; i < w->count; i++)
            w->valid[i] = crypto_sign_verify_detached(w->items[i].signature, w->items[i].message, MESSAGE_BYTES,
                                                      w->items[i].key) == 0;
        break;
    case OPENSSL:
        context = EVP_MD_CTX_new();
        for (size_t i = 0; i < w->count; i++) {
            EVP_PKEY *key = openssl_keys[(w->from + i) % POOL];
            EVP_MD_CTX_reset(context);
            w->valid[i] = EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
                          EVP_DigestVerify(context, w->items[i].signature, 64, w->items[i].message, MESSAGE_BYTES) == 1;
        }
        EVP_MD_CTX_free(context);
        break;
    case REFERENCE:
        for (size_t i = 0; i < w->count; i++)
            w->valid[i] = ch_ed25519_verify_reference(&w->items[i]);
        break;
    case KERNEL:
        for (size_t i = 0; i < w->count; i += row->batch)
            ch_ed25519_verify(kernels[row->kernel].verifier[row->cached][w->core], w->items + i, row->batch,
                              w->valid + i);
        break;
    }
}

static bool is_bad(const struct row *row, size_t i)
{
    size_t batch = i / row->batch, at = i % row->batch;
    return row->bad == row->batch || (row->bad == 1 && at == (batch * 7919 + 11) % row->batch);
}

/* One core: the time of this thread alone, so that others on the machine don't count. More: the time that passes. */
static uint64_t now_ns(uint32_t cores)
{
    struct timespec t;
    if (cores > 1)
        return ch_time_monotonic_ns();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *run_work(void *argument)
{
    struct work *w = argument;
    w->count = w->row->method == KERNEL ? (w->row->batch > BATCH_SAMPLE ? w->row->batch : BATCH_SAMPLE) : SINGLE_SAMPLE;
    for (size_t i = 0; i < w->count; i++) {
        size_t at = (w->from + i) % POOL;
        w->items[i] = (struct ch_ed25519_item){.key = keys[at],
                                               .signature = is_bad(w->row, i) ? bad_signatures[at] : signatures[at],
                                               .message = messages[at],
                                               .message_length = MESSAGE_BYTES};
    }
    /* One more before: a run of such batches is measured, and what it makes the verifier expect. */
    if (w->row->method == KERNEL)
        ch_ed25519_verify(kernels[w->row->kernel].verifier[w->row->cached][w->core], w->items, w->row->batch, w->valid);
    if (w->together)
        pthread_barrier_wait(w->together);
    w->start_ns = now_ns(w->row->cores);
    verify_all(w);
    w->end_ns = now_ns(w->row->cores);
    w->wrong = 0;
    for (size_t i = 0; i < w->count; i++)
        w->wrong += w->valid[i] == is_bad(w->row, i);
    return NULL;
}

/* Nanoseconds for each signature, over all cores together. */
static double sample(const struct row *row)
{
    static struct work work[CORES_MAX];
    static size_t from;
    pthread_t threads[CORES_MAX];
    pthread_barrier_t together;
    pthread_barrier_init(&together, NULL, row->cores);
    for (uint32_t core = 0; core < row->cores; core++) {
        struct work *w = &work[core];
        w->row = row;
        w->core = core;
        w->from = from;
        w->together = &together;
        from = (from + 1024) % POOL; /* neither the same signatures in a row, nor another set for each row */
        if (core > 0 && pthread_create(&threads[core], NULL, run_work, w) != 0)
            fail("no thread");
    }
    run_work(&work[0]);
    uint64_t start = work[0].start_ns, end = work[0].end_ns;
    size_t count = work[0].count, wrong = work[0].wrong;
    for (uint32_t core = 1; core < row->cores; core++) {
        pthread_join(threads[core], NULL);
        start = work[core].start_ns < start ? work[core].start_ns : start;
        end = work[core].end_ns > end ? work[core].end_ns : end;
        count += work[core].count;
        wrong += work[core].wrong;
    }
    pthread_barrier_destroy(&together);
    if (wrong) {
        fprintf(stderr, "bench_ed25519: %s, batch %u: %zu of %zu verdicts are wrong\n", row->name, row->batch, wrong,
                count);
        exit(1);
    }
    return (double)(end - start) / (double)count;
}

/* Every verifier with a cache sees every key, so often that it has all that it keeps of one that comes back: it makes
 * that for one in sixteen at a time. */
static void warm_up(void)
{
    for (size_t k = 0; k < kernel_count; k++)
        for (int run = 0; run < CORES_MAX * WARM_UPS; run++) {
            int core = run % CORES_MAX;
            static struct ch_ed25519_item items[POOL];
            static bool valid[POOL];
            for (size_t i = 0; i < POOL; i++)
                items[i] = (struct ch_ed25519_item){.key = keys[i],
                                                    .signature = signatures[i],
                                                    .message = messages[i],
                                                    .message_length = MESSAGE_BYTES};
            ch_ed25519_verify(kernels[k].verifier[1][core], items, POOL, valid);
        }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double quantile(double *values, int count, double q)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[(int)(q * (count - 1) + 0.5)];
}

static void print_table(int rounds)
{
    printf("%-18s %6s %7s %9s %6s %13s %8s %8s\n", "kernel", "batch", "keys", "poisoned", "cores", "ns/signature",
           "spread", "ratio");
    for (size_t i = 0; i < row_count; i++) {
        struct row *r = &rows[i];
        double median = quantile(r->ns, rounds, 0.5);
        double spread = 100 * (quantile(r->ns, rounds, 0.75) - quantile(r->ns, rounds, 0.25)) / median;
        printf("%-18s %6u %7s %9.4g %6u %13.0f %7.1f%% %8.2f\n", r->name, r->batch, r->cached ? "cached" : "new",
               (double)r->bad / r->batch, r->cores, median, spread, quantile(r->ratio, rounds, 0.5));
    }
}

static void print_json(int rounds)
{
    json_t *array = json_array();
    for (size_t i = 0; i < row_count; i++) {
        struct row *r = &rows[i];
        json_array_append_new(array, json_pack("{s:s, s:i, s:s, s:f, s:i, s:f, s:f}", "kernel", r->name, "batch",
                                               (int)r->batch, "keys", r->cached ? "cached" : "new", "poisoned",
                                               (double)r->bad / r->batch, "cores", (int)r->cores,
                                               "median_ns_per_signature", quantile(r->ns, rounds, 0.5),
                                               "ratio_to_libsodium", quantile(r->ratio, rounds, 0.5)));
    }
    if (json_dumpf(array, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) != 0)
        fail("cannot write");
    putchar('\n');
    json_decref(array);
}

/* The phases of one size of batch: each keeps the least that it took. */
struct phases {
    uint32_t batch;
    bool cached, each; /* each: one by one */
    struct ch_ed25519 *verifier;
    uint64_t last_ns, now_ns[CH_ED25519_PHASES], least_ns[CH_ED25519_PHASES], least_total_ns;
    uint64_t last_halves, halves[CH_ED25519_PHASES]; /* see ed25519_counted.h; of COUNT_ROUNDS */
};

static const char *const phase_names[CH_ED25519_PHASES] = {
    [CH_ED25519_LOOK_UP] = "parse, look up keys",
    [CH_ED25519_DECODE_KEYS] = "decode keys",
    [CH_ED25519_DECODE_R] = "decode R",
    [CH_ED25519_HASH] = "SHA-512",
    [CH_ED25519_RAISE] = "2^128 times a key",
    [CH_ED25519_COEFFICIENTS] = "coefficients",
    [CH_ED25519_TERMS] = "terms",
    [CH_ED25519_DIGITS] = "digits",
    [CH_ED25519_SORT] = "sort",
    [CH_ED25519_BUCKETS] = "bucket additions",
    [CH_ED25519_WINDOWS] = "buckets to windows",
    [CH_ED25519_HORNER] = "windows together",
    [CH_ED25519_SINGLE] = "one by one",
};

static void phase_done(void *context, enum ch_ed25519_phase phase)
{
    struct phases *p = context;
    uint64_t now = ch_time_monotonic_ns();
    p->now_ns[phase] += now - p->last_ns;
    p->last_ns = now;
}

static void run_phases(struct phases *p, const struct ch_ed25519_item *items)
{
    static bool valid[POOL];
    memset(p->now_ns, 0, sizeof p->now_ns);
    uint64_t start = p->last_ns = ch_time_monotonic_ns();
    if (p->each)
        ch_ed25519_verify_each(p->verifier, items, p->batch, valid);
    else
        ch_ed25519_verify(p->verifier, items, p->batch, valid);
    uint64_t total = ch_time_monotonic_ns() - start;
    p->least_total_ns = total < p->least_total_ns ? total : p->least_total_ns;
    for (int phase = 0; phase < CH_ED25519_PHASES; phase++)
        if (p->now_ns[phase] < p->least_ns[phase])
            p->least_ns[phase] = p->now_ns[phase];
    for (size_t i = 0; i < p->batch; i++)
        if (!valid[i])
            fail("a verdict is wrong");
}

#ifdef __x86_64__

/* The copy's; named as it names them. */
ch_err counted_ed25519_open(const struct ch_ed25519_options *options, struct ch_ed25519 **out);
void counted_ed25519_close(struct ch_ed25519 *verifier);
void counted_ed25519_verify(struct ch_ed25519 *verifier, const struct ch_ed25519_item *items, size_t count,
                            bool *valid);
void counted_ed25519_verify_each(struct ch_ed25519 *verifier, const struct ch_ed25519_item *items, size_t count,
                                 bool *valid);

static void phase_counted(void *context, enum ch_ed25519_phase phase)
{
    struct phases *p = context;
    p->halves[phase] += bench_multiplier_halves - p->last_halves;
    p->last_halves = bench_multiplier_halves;
}

/* What the phases of a column ask of the multiplier. */
static void count_phases(struct phases *p, const struct ch_ed25519_item *items)
{
    static bool valid[POOL];
    struct ch_ed25519_options options = {.batch_max = p->batch,
                                         .cached_keys_max = p->cached ? 4 * POOL : 0,
                                         .phase_done = phase_counted,
                                         .phase_context = p};
    struct ch_ed25519 *v;
    if (counted_ed25519_open(&options, &v) != CH_OK)
        fail("no verifier that counts");
    for (int round = 0; round < WARM_UPS + COUNT_ROUNDS; round++) {
        if (round == WARM_UPS)
            memset(p->halves, 0, sizeof p->halves);
        p->last_halves = bench_multiplier_halves;
        if (p->each && round >= WARM_UPS)
            counted_ed25519_verify_each(v, items, p->batch, valid);
        else
            counted_ed25519_verify(v, items, p->batch, valid);
    }
    counted_ed25519_close(v);
}

static void print_share(const char *name, const struct phases columns[], size_t count, int phase, double halves_ns)
{
    printf("%-20s", name);
    for (size_t c = 0; c < count; c++) {
        double halves = 0, took = (double)columns[c].least_total_ns;
        for (int i = 0; i < CH_ED25519_PHASES; i++)
            if (phase == i || phase == CH_ED25519_PHASES)
                halves += (double)columns[c].halves[i] / COUNT_ROUNDS;
        if (phase < CH_ED25519_PHASES)
            took = (double)columns[c].least_ns[phase];
        if (halves == 0)
            printf(" %12s", "");
        else
            printf(" %5.0f %5.1f%%", halves * halves_ns / columns[c].batch, 100 * halves * halves_ns / took);
    }
    putchar('\n');
}

/* The bound of the multiplier's port: ns a signature, and the share of the time that this is. */
static void print_bound(struct phases columns[], size_t count, const struct ch_ed25519_item *items,
                        double multiplier_ns, double libsodium_ns)
{
    for (size_t c = 0; c < count; c++)
        count_phases(&columns[c], items);
    printf("\nthe multiplier alone: ns a signature at %.3f ns an instruction of 512 bits, and its share of the above\n",
           multiplier_ns);
    for (int phase = 0; phase < CH_ED25519_PHASES; phase++) {
        uint64_t any = 0;
        for (size_t c = 0; c < count; c++)
            any += columns[c].halves[phase];
        if (any)
            print_share(phase_names[phase], columns, count, phase, multiplier_ns / 2);
    }
    print_share("all", columns, count, CH_ED25519_PHASES, multiplier_ns / 2);
    printf("%-20s", "x libsodium, bound");
    for (size_t c = 0; c < count; c++) {
        double halves = 0;
        for (int i = 0; i < CH_ED25519_PHASES; i++)
            halves += (double)columns[c].halves[i] / COUNT_ROUNDS;
        printf(" %12.2f", libsodium_ns * columns[c].batch / (halves * multiplier_ns / 2));
    }
    putchar('\n');
}

#endif

static void print_phases(void)
{
    static struct phases columns[] = {{64, false, true},    {64, true, true},    {64, false, false},
                                      {64, true, false},    {256, false, false}, {256, true, false},
                                      {1024, false, false}, {1024, true, false}};
    enum { COLUMNS = sizeof columns / sizeof *columns };
    static struct ch_ed25519_item items[POOL];
    uint64_t libsodium_ns = UINT64_MAX;
#ifdef __x86_64__
    double multiplier_ns = 0;
    bool counted =
        strcmp(ch_ed25519_kernel(0), "batch-avx512ifma") == 0 && ch_ed25519_kernel_usable("batch-avx512ifma");
    if (counted)
        multiplier_ns = bench_multiplier_ns();
#endif
    for (size_t i = 0; i < POOL; i++)
        items[i] = (struct ch_ed25519_item){
            .key = keys[i], .signature = signatures[i], .message = messages[i], .message_length = MESSAGE_BYTES};
    for (size_t c = 0; c < COLUMNS; c++) {
        struct ch_ed25519_options options = {.batch_max = columns[c].batch,
                                             .cached_keys_max = columns[c].cached ? 4 * POOL : 0,
                                             .phase_done = phase_done,
                                             .phase_context = &columns[c]};
        if (ch_ed25519_open(&options, &columns[c].verifier) != CH_OK)
            fail("no verifier");
    }
    for (int round = 0; round < PHASE_WARM_UPS + PHASE_ROUNDS; round++) {
        size_t from = (size_t)round * 1024 % POOL;
        if (round == PHASE_WARM_UPS)
            for (size_t c = 0; c < COLUMNS; c++) {
                memset(columns[c].least_ns, 0xff, sizeof columns[c].least_ns);
                columns[c].least_total_ns = UINT64_MAX;
            }
        uint64_t start = ch_time_monotonic_ns();
        for (size_t i = from; i < from + PHASE_SINGLE; i++)
            if (crypto_sign_verify_detached(signatures[i], messages[i], MESSAGE_BYTES, keys[i]) != 0)
                fail("libsodium's verdict is wrong");
        uint64_t took = (ch_time_monotonic_ns() - start) / PHASE_SINGLE;
        libsodium_ns = took < libsodium_ns ? took : libsodium_ns;
        for (size_t c = 0; c < COLUMNS; c++)
            run_phases(&columns[c], items + from);
    }
    printf("%-20s", "ns a signature");
    for (size_t c = 0; c < COLUMNS; c++)
        printf(" %5u %-6s", columns[c].batch, columns[c].cached ? "cached" : "new");
    printf("\n%-20s", "");
    for (size_t c = 0; c < COLUMNS; c++)
        printf(" %12s", columns[c].each ? "lanes" : "batch");
    for (int phase = 0; phase < CH_ED25519_PHASES; phase++) {
        printf("\n%-20s", phase_names[phase]);
        for (size_t c = 0; c < COLUMNS; c++)
            printf(" %12.1f", (double)columns[c].least_ns[phase] / columns[c].batch);
    }
    printf("\n%-20s", "all");
    for (size_t c = 0; c < COLUMNS; c++)
        printf(" %12.1f", (double)columns[c].least_total_ns / columns[c].batch);
    printf("\n%-20s", "x libsodium");
    for (size_t c = 0; c < COLUMNS; c++)
        printf(" %12.2f", (double)libsodium_ns * columns[c].batch / (double)columns[c].least_total_ns);
    printf("\n%s, libsodium %.1f us\n", ch_ed25519_kernel_in_use(columns[0].verifier), (double)libsodium_ns / 1000);
#ifdef __x86_64__
    if (counted)
        print_bound(columns, COLUMNS, items, multiplier_ns, (double)libsodium_ns);
#endif
    for (size_t c = 0; c < COLUMNS; c++)
        ch_ed25519_close(columns[c].verifier);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"quick", no_argument, NULL, 'q'},
        {"json", no_argument, NULL, 'j'},
        {"phases", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool quick = false, json = false, phases = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'q':
            quick = true;
            break;
        case 'j':
            json = true;
            break;
        case 'p':
            phases = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            fputs(help, stderr);
            return 2;
        }
    if (optind != argc || (json && phases)) {
        fputs(help, stderr);
        return 2;
    }
    if (sodium_init() < 0)
        fail("libsodium does not start");
    make_pool();
    if (phases) {
        print_phases();
        return fflush(stdout) == 0 ? 0 : 1;
    }
    open_kernels();
    list_rows(quick);
    warm_up();
    int rounds = quick ? ROUNDS_QUICK : ROUNDS_MAX;
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < row_count; i++) {
            const struct row libsodium = {.method = LIBSODIUM, .name = "libsodium", .batch = 1, .cores = rows[i].cores};
            double base = sample(&libsodium);
            rows[i].ns[round] = sample(&rows[i]);
            rows[i].ratio[round] = base / rows[i].ns[round];
        }
    if (json)
        print_json(rounds);
    else
        print_table(rounds);
    for (size_t k = 0; k < kernel_count; k++)
        for (int cached = 0; cached < 2; cached++)
            for (int core = 0; core < CORES_MAX; core++)
                ch_ed25519_close(kernels[k].verifier[cached][core]);
    for (size_t i = 0; i < POOL; i++)
        EVP_PKEY_free(openssl_keys[i]);
    return fflush(stdout) == 0 ? 0 : 1;
}
