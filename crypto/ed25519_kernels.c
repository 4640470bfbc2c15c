/* The table of kernels, best first; which of them this CPU can run, and the check before its first use in a process. */
#include "base/cpu.h"
#include "crypto/ed25519_impl.h"

#include <pthread.h>
#include <sodium.h>

static const struct ed25519_kernel kernels[] = {
    {.name = "batch-avx512ifma", .cpu = CH_CPU_AVX512IFMA, .code = &ch_ed25519_avx512ifma, .batch_min = 24},
    {.name = "lanes-avx512ifma", .cpu = CH_CPU_AVX512IFMA, .code = &ch_ed25519_avx512ifma, .batch_min = 0},
    {.name = "batch-avx2", .cpu = CH_CPU_AVX2, .code = &ch_ed25519_avx2, .batch_min = 16},
    {.name = "lanes-avx2", .cpu = CH_CPU_AVX2, .code = &ch_ed25519_avx2, .batch_min = 0},
    {.name = "batch-portable", .cpu = 0, .code = &ch_ed25519_portable, .batch_min = 8},
    {.name = "reference", .cpu = 0, .code = NULL},
};
#define KERNEL_COUNT (sizeof kernels / sizeof *kernels)

static struct {
    pthread_mutex_t lock;
    bool checked[KERNEL_COUNT], sound[KERNEL_COUNT];
    struct ed25519_row base_multiples[KERNEL_COUNT][2 * ED25519_BASE_MULTIPLES];
} process = {.lock = PTHREAD_MUTEX_INITIALIZER};

const char *ch_ed25519_kernel(size_t index)
{
    return index < KERNEL_COUNT ? kernels[index].name : NULL;
}

static bool usable(const struct ed25519_kernel *kernel)
{
    return (ch_cpu_features() & kernel->cpu) == kernel->cpu;
}

static const struct ed25519_kernel *find(const char *name)
{
    for (size_t i = 0; i < KERNEL_COUNT; i++)
        if (name ? strcmp(kernels[i].name, name) == 0 : usable(&kernels[i]))
            return &kernels[i];
    return NULL;
}

bool ch_ed25519_kernel_usable(const char *name)
{
    const struct ed25519_kernel *kernel = find(name);
    return kernel && usable(kernel);
}

const struct ed25519_row *ch_ed25519_base_multiples(const struct ed25519_kernel *kernel)
{
    return process.base_multiples[kernel - kernels];
}

#define BASE_MULTIPLES (2 * ED25519_BASE_MULTIPLES)

static bool make_base_multiples(const struct ed25519_kernel *kernel)
{
    uint8_t encodings[BASE_MULTIPLES][32];
    const uint8_t *pointers[BASE_MULTIPLES];
    bool decoded[BASE_MULTIPLES], all = true;
    ch_ed25519_encode_base_multiples(encodings);
    for (int i = 0; i < BASE_MULTIPLES; i++)
        pointers[i] = encodings[i];
    kernel->code->decode(pointers, BASE_MULTIPLES, process.base_multiples[kernel - kernels], decoded);
    for (int i = 0; i < BASE_MULTIPLES; i++)
        all = all && decoded[i];
    return all;
}

#define CHECK_ITEMS 72 /* more than the search keeps together, so that it is checked too */

/* Signatures of a fixed key, some spoilt in one of their parts: the kernel's verdicts against the reference's. */
static bool agrees_with_reference(const struct ed25519_kernel *kernel)
{
    static const uint8_t seed[crypto_sign_SEEDBYTES] = "a key for the check at the start";
    static const uint8_t prefix[] = "kernel check";
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES], secret_key[crypto_sign_SECRETKEYBYTES];
    uint8_t keys[CHECK_ITEMS][32], signatures[CHECK_ITEMS][64], messages[CHECK_ITEMS][300];
    struct ch_ed25519_item items[CHECK_ITEMS];
    bool expected[CHECK_ITEMS], valid[CHECK_ITEMS];
    crypto_sign_seed_keypair(public_key, secret_key, seed);
    memset(messages, 0, sizeof messages);
    for (uint32_t i = 0; i < CHECK_ITEMS; i++) {
        uint8_t signed_bytes[sizeof prefix + sizeof *messages];
        uint32_t length = i * 4;
        for (uint32_t j = 0; j < length; j++)
            messages[i][j] = (uint8_t)(i * 7 + j);
        memcpy(signed_bytes, prefix, sizeof prefix);
        memcpy(signed_bytes + sizeof prefix, messages[i], length);
        crypto_sign_detached(signatures[i], NULL, signed_bytes, sizeof prefix + length, secret_key);
        memcpy(keys[i], public_key, 32);
        items[i] = (struct ch_ed25519_item){.key = keys[i],
                                            .signature = signatures[i],
                                            .prefix = prefix,
                                            .prefix_length = sizeof prefix,
                                            .message = messages[i],
                                            .message_length = length};
    }
    for (int spoilt = 0; spoilt < 2; spoilt++) {
        if (spoilt) {
            signatures[3][40] ^= 1;  /* s */
            signatures[17][2] ^= 1;  /* R */
            keys[33][9] ^= 1;        /* A */
            messages[50][5] ^= 1;    /* k */
            signatures[60][63] |= 0x20; /* s past L */
        }
        for (int i = 0; i < CHECK_ITEMS; i++)
            expected[i] = ch_ed25519_verify_reference(&items[i]);
        struct ch_ed25519_options options = {.kernel = kernel->name, .batch_max = CHECK_ITEMS, .cached_keys_max = 64};
        struct ch_ed25519 *v;
        if (ch_ed25519_open(&options, &v) != CH_OK)
            return false;
        ch_ed25519_verify(v, items, CHECK_ITEMS, valid);
        bool same = memcmp(valid, expected, sizeof valid) == 0;
        ch_ed25519_verify_each(v, items, CHECK_ITEMS, valid);
        same = same && memcmp(valid, expected, sizeof valid) == 0;
        ch_ed25519_close(v);
        if (!same)
            return false;
    }
    return true;
}

ch_err ch_ed25519_choose(const char *name, const struct ed25519_kernel **out)
{
    /* The check opens verifiers of its own, in the same thread. */
    static _Thread_local bool checking;
    const struct ed25519_kernel *kernel = find(name);
    if (!kernel)
        return CH_ERR_NOT_FOUND;
    if (!usable(kernel))
        return CH_ERR_UNSUPPORTED;
    *out = kernel;
    if (!kernel->code || checking)
        return CH_OK;
    if (sodium_init() < 0)
        return CH_ERR_CORRUPT;
    size_t i = (size_t)(kernel - kernels);
    pthread_mutex_lock(&process.lock);
    if (!process.checked[i]) {
        checking = true;
        process.sound[i] = make_base_multiples(kernel) && agrees_with_reference(kernel);
        process.checked[i] = true;
        checking = false;
    }
    bool sound = process.sound[i];
    pthread_mutex_unlock(&process.lock);
    return sound ? CH_OK : CH_ERR_CORRUPT;
}
