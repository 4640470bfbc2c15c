/* tests/tools/ed25519_check.c - asks every Ed25519 kernel about signatures from standard input.
 *
 * A line is `key message signature` in hex, one space between, `-` for an empty message; for each line the verdict of
 * the reference, `valid` or `invalid`, on standard output. Every kernel that this CPU and the mask can run must agree:
 * one by one, alone, in batches of each shape, and among good ones, with and without a cache of keys.
 */
#include "base/cpu.h"
#include "base/error.h"
#include "crypto/ed25519.h"

#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AGREE = 0, DISAGREE = 1, USAGE = 2, MALFORMED = 3, CANNOT_RUN = 4 };

#define LINES_MAX     CH_ED25519_BATCH_MAX /* judged together; a longer input comes in several such blocks */
#define GOOD_COUNT    67                   /* good ones around a line under test: enough for a shared equation */
#define VERIFIERS_MAX 32

struct line {
    uint8_t key[32], signature[64];
    uint8_t *message;
};

struct verifier {
    const char *kernel;
    bool cached;
    struct ch_ed25519 *v;
};

static struct line lines[LINES_MAX];
static struct ch_ed25519_item items[LINES_MAX];
static bool expected[LINES_MAX], got[LINES_MAX];
static size_t line_count, first_line = 1;
static struct verifier verifiers[VERIFIERS_MAX];
static size_t verifier_count;
static size_t disagreements;

static uint8_t good_keys[GOOD_COUNT][32], good_signatures[GOOD_COUNT][64];

static const char help[] =
    "usage: ed25519_check [--cpu-mask NAME] < LINES\n"
    "       ed25519_check --list\n"
    "\n"
    "Each line of standard input is `key message signature` in hex, `-` for an empty message. Prints `valid` or\n"
    "`invalid` for each line, by the reference, and asks every kernel that this CPU can run.\n"
    "\n"
    "  --cpu-mask NAME  only what this CPU level (all, avx512ifma, avx512, avx2, portable) leaves, or only the kernel\n"
    "                   of this name\n"
    "  --list           names the kernels, best first, and says which can run here\n"
    "  --help           this text\n"
    "\n"
    "exit status: 0 all agree; 1 a kernel or a batch shape disagrees; 2 wrong usage; 3 a malformed line;\n"
    "             4 a kernel cannot run\n";

static const char *word(bool valid)
{
    return valid ? "valid" : "invalid";
}

static void compare(const struct verifier *v, const char *shape, size_t i, bool verdict)
{
    if (verdict == expected[i])
        return;
    disagreements++;
    fprintf(stderr, "line %zu: %s%s, %s: %s, but the reference says %s\n", first_line + i, v->kernel,
            v->cached ? " with cached keys" : "", shape, word(verdict), word(expected[i]));
}

static void check_in_batches_of(const struct verifier *v, size_t batch)
{
    char shape[40];
    snprintf(shape, sizeof shape, "batches of %zu", batch);
    for (size_t from = 0; from < line_count; from += batch) {
        size_t count = line_count - from < batch ? line_count - from : batch;
        ch_ed25519_verify(v->v, items + from, count, got + from);
    }
    for (size_t i = 0; i < line_count; i++)
        compare(v, shape, i, got[i]);
}

/* Valid ones stand beside no bad one here, and of bad ones each stands alone, so that no other decides the sum. */
static void check_among_good_ones(const struct verifier *v, size_t i)
{
    struct ch_ed25519_item batch[GOOD_COUNT];
    bool verdicts[GOOD_COUNT];
    size_t place = i % GOOD_COUNT;
    for (size_t j = 0; j < GOOD_COUNT; j++)
        batch[j] = (struct ch_ed25519_item){.key = good_keys[j], .signature = good_signatures[j]};
    batch[place] = items[i];
    ch_ed25519_verify(v->v, batch, GOOD_COUNT, verdicts);
    compare(v, "among good ones", i, verdicts[place]);
    for (size_t j = 0; j < GOOD_COUNT; j++)
        if (j != place && !verdicts[j]) {
            disagreements++;
            fprintf(stderr, "line %zu: %s: makes a good signature beside it invalid\n", first_line + i, v->kernel);
        }
}

static void judge_block(void)
{
    static const size_t batches[] = {1, 7, 8, 9, 16, 64, 256, 1024, LINES_MAX};
    for (size_t i = 0; i < line_count; i++)
        expected[i] = ch_ed25519_verify_reference(&items[i]);
    for (size_t k = 0; k < verifier_count; k++) {
        const struct verifier *v = &verifiers[k];
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
            if (b == 0 || batches[b - 1] < line_count)
                check_in_batches_of(v, batches[b]);
        ch_ed25519_verify_each(v->v, items, line_count, got);
        for (size_t i = 0; i < line_count; i++)
            compare(v, "one by one", i, got[i]);
        for (size_t i = 0; i < line_count; i++)
            check_among_good_ones(v, i);
    }
    for (size_t i = 0; i < line_count; i++) {
        puts(word(expected[i]));
        free(lines[i].message);
    }
    first_line += line_count;
    line_count = 0;
}

/* Exactly `length` bytes from all of the word; NULL or what is wrong with it. */
static const char *parse_hex(const char *hex, uint8_t *to, size_t length)
{
    size_t parsed = 0;
    const char *end;
    if (strlen(hex) != 2 * length)
        return "has the wrong length";
    if (sodium_hex2bin(to, length, hex, 2 * length, NULL, &parsed, &end) != 0 || parsed != length || *end)
        return "is not hex";
    return NULL;
}

/* NULL, or what is wrong with the line. */
static const char *parse_line(char *text)
{
    static char complaint[80];
    struct line *line = &lines[line_count];
    char *rest = text, *message_hex;
    const char *wrong;
    char *key_hex = strsep(&rest, " ");
    message_hex = strsep(&rest, " ");
    char *signature_hex = strsep(&rest, " ");
    if (!signature_hex || rest)
        return "not three words with one space between";
    if ((wrong = parse_hex(key_hex, line->key, 32)) != NULL) {
        snprintf(complaint, sizeof complaint, "the key %s (64 digits)", wrong);
        return complaint;
    }
    if ((wrong = parse_hex(signature_hex, line->signature, 64)) != NULL) {
        snprintf(complaint, sizeof complaint, "the signature %s (128 digits)", wrong);
        return complaint;
    }
    size_t length = strcmp(message_hex, "-") == 0 ? 0 : strlen(message_hex) / 2;
    if (length == 0 && strcmp(message_hex, "-") != 0)
        return "the message is empty, which is written -";
    if (length > UINT32_MAX)
        return "the message is too long";
    line->message = malloc(length + 1);
    if (!line->message)
        return "no memory for the message";
    if (length && (wrong = parse_hex(message_hex, line->message, length)) != NULL) {
        free(line->message);
        snprintf(complaint, sizeof complaint, "the message %s", wrong);
        return complaint;
    }
    items[line_count] = (struct ch_ed25519_item){
        .key = line->key, .signature = line->signature, .message = line->message, .message_length = (uint32_t)length};
    line_count++;
    return NULL;
}

static int judge_input(void)
{
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&text, &capacity, stdin)) > 0) {
        if (text[length - 1] == '\n')
            text[--length] = 0;
        const char *wrong = strlen(text) != (size_t)length ? "has a zero byte" : parse_line(text);
        if (wrong) {
            size_t number = first_line + line_count;
            judge_block(); /* those before it */
            fflush(stdout);
            fprintf(stderr, "ed25519_check: line %zu is malformed: %s\n", number, wrong);
            free(text);
            return MALFORMED;
        }
        if (line_count == LINES_MAX)
            judge_block();
    }
    free(text);
    judge_block();
    if (ferror(stdin) || fflush(stdout) != 0) {
        perror("ed25519_check");
        return CANNOT_RUN;
    }
    return disagreements ? DISAGREE : AGREE;
}

static void list(void)
{
    const char *kernel;
    for (size_t i = 0; (kernel = ch_ed25519_kernel(i)) != NULL; i++)
        printf("%s%s\n", kernel, ch_ed25519_kernel_usable(kernel) ? "" : " (not on this CPU)");
}

static bool kernel_exists(const char *name)
{
    const char *kernel;
    for (size_t i = 0; (kernel = ch_ed25519_kernel(i)) != NULL; i++)
        if (strcmp(kernel, name) == 0)
            return true;
    return false;
}

/* Both verifiers of each kernel, or of the only one that is wanted. */
static int open_verifiers(const char *only)
{
    const char *kernel;
    for (size_t i = 0; (kernel = ch_ed25519_kernel(i)) != NULL; i++) {
        if (only ? strcmp(only, kernel) != 0 : !ch_ed25519_kernel_usable(kernel) || strcmp(kernel, "reference") == 0)
            continue;
        for (int cached = 0; cached < 2 && verifier_count < VERIFIERS_MAX; cached++) {
            struct verifier *v = &verifiers[verifier_count];
            struct ch_ed25519_options options = {
                .kernel = kernel, .batch_max = CH_ED25519_BATCH_MAX, .cached_keys_max = cached ? 1024 : 0};
            ch_err err = ch_ed25519_open(&options, &v->v);
            if (err != CH_OK) {
                fprintf(stderr, "ed25519_check: %s: %s\n", kernel, ch_err_text(err));
                return err == CH_ERR_CORRUPT ? DISAGREE : CANNOT_RUN; /* its self-check is held to the reference */
            }
            v->kernel = kernel;
            v->cached = cached;
            verifier_count++;
        }
    }
    return AGREE;
}

static void make_good_ones(void)
{
    for (size_t i = 0; i < GOOD_COUNT; i++) {
        uint8_t secret[64];
        crypto_sign_keypair(good_keys[i], secret);
        crypto_sign_detached(good_signatures[i], NULL, NULL, 0, secret);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"cpu-mask", required_argument, NULL, 'm'},
        {"list", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *only = NULL;
    bool listing = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint32_t mask;
        switch (option) {
        case 'm':
            if (ch_cpu_parse_mask(optarg, &mask) == CH_OK) {
                ch_cpu_set_mask(mask);
            } else if (kernel_exists(optarg)) {
                only = optarg;
            } else {
                fprintf(stderr, "ed25519_check: no CPU level and no kernel is called %s (see --list)\n", optarg);
                return USAGE;
            }
            break;
        case 'l':
            listing = true;
            break;
        case 'h':
            fputs(help, stdout);
            return AGREE;
        default:
            fputs(help, stderr);
            return USAGE;
        }
    }
    if (optind != argc) {
        fputs(help, stderr);
        return USAGE;
    }
    if (listing) {
        list();
        return AGREE;
    }
    if (sodium_init() < 0)
        return CANNOT_RUN;
    make_good_ones();
    int status = open_verifiers(only);
    if (status == AGREE)
        status = judge_input();
    while (verifier_count > 0)
        ch_ed25519_close(verifiers[--verifier_count].v);
    return status;
}
