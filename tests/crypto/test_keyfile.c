#include "tests/test.h"

#include "crypto/keyfile.h"
#include "crypto/sign.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[128], passphrase_path[128];
static struct ch_prng prng;
static const uint8_t public_part[CH_KEYFILE_PUBLIC_BYTES] = {7, 7, 7};
static struct ch_passphrase right = {.length = 5, .text = "right"}, wrong = {.length = 5, .text = "wrong"};

static int setup(void **state)
{
    strcpy(folder, "test_keyfile.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/key", folder);
    snprintf(passphrase_path, sizeof passphrase_path, "%s/pass", folder);
    unsetenv("CHAPPE_PASSPHRASE_FILE");
    unsetenv("CREDENTIALS_DIRECTORY");
    return 0;
}

static int teardown(void **state)
{
    (void)unlink(path);
    (void)unlink(passphrase_path);
    return rmdir(folder);
}

static size_t slurp(const char *name, uint8_t *to, size_t capacity)
{
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    size_t n = fread(to, 1, capacity, f);
    fclose(f);
    return n;
}

static void spill(const char *name, const void *bytes, size_t length, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), length);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void write_key(const struct ch_passphrase *passphrase, uint8_t secret[32])
{
    test_random_bytes(&prng, secret, 32);
    assert_ok(ch_keyfile_write(path, CH_KEYFILE_ACCOUNT, public_part, secret, 32, passphrase, true));
}

static void secret_comes_back(void **state)
{
    uint8_t secret[32], out[64];
    size_t length = 0;
    struct ch_keyfile_info info;
    const struct ch_passphrase *each[] = {NULL, &right};
    for (int i = 0; i < 2; i++) {
        write_key(each[i], secret);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_ok(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, each[i], out, sizeof out, &length));
        assert_int_equal(length, 32);
        assert_memory_equal(out, secret, 32);
        assert_ok(ch_keyfile_inspect(path, CH_KEYFILE_ACCOUNT, &info));
        assert_int_equal(info.wrapped, i == 1);
        assert_memory_equal(info.public_part, public_part, 32);
    }
}

static void wrapped_secret_is_not_in_the_file(void **state)
{
    uint8_t secret[32], file[512];
    write_key(&right, secret);
    size_t n = slurp(path, file, sizeof file);
    assert_null(memmem(file, n, secret, 8));
    assert_null(memmem(file, n, right.text, right.length));
}

static void wrong_or_missing_passphrase_refused(void **state)
{
    uint8_t secret[32], out[64] = {0xee};
    size_t length = 99;
    write_key(&right, secret);
    assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, &wrong, out, sizeof out, &length),
                     CH_ERR_BAD_PASSPHRASE);
    assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length), CH_ERR_BAD_PASSPHRASE);
    assert_int_equal(length, 99);
    assert_int_equal(out[0], 0xee);
}

static void other_purpose_or_too_long_refused(void **state)
{
    uint8_t secret[32], out[64];
    size_t length;
    write_key(NULL, secret);
    assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_VALIDATOR, NULL, out, sizeof out, &length), CH_ERR_INVALID);
    assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, 31, &length), CH_ERR_FULL);
}

/* Every byte changed, every truncation, one byte more. A plain file, so that it takes no time; its bytes take the same
 * way but for the key. */
static void tampered_file_refused(void **state)
{
    uint8_t secret[32], file[512], bad[512], out[64];
    size_t length;
    write_key(NULL, secret);
    size_t n = slurp(path, file, sizeof file);
    assert_int_equal(n, 96 + 32 + 16);
    for (size_t i = 0; i < n; i++) {
        memcpy(bad, file, n);
        bad[i] ^= (uint8_t)(1u << ch_prng_below(&prng, 8));
        if (i == 8)
            bad[i] = 2; /* 1 would ask for a passphrase with costs out of range: also refused, below */
        spill(path, bad, n, 0600);
        assert_int_not_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, &right, out, sizeof out, &length), CH_OK);
        spill(path, file, i, 0600);
        assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, &right, out, sizeof out, &length), CH_ERR_INVALID);
    }
    memcpy(bad, file, n);
    bad[n] = 0;
    spill(path, bad, n + 1, 0600);
    assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length), CH_ERR_INVALID);
    spill(path, file, n, 0600);
    assert_ok(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length));
}

static void forged_cost_refused_before_it_is_paid(void **state)
{
    uint8_t secret[32], file[512], out[64];
    size_t length;
    write_key(&right, secret);
    size_t n = slurp(path, file, sizeof file);
    ch_store64(file + 16, 1ull << 40);
    spill(path, file, n, 0600);
    assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, &right, out, sizeof out, &length), CH_ERR_INVALID);
    ch_store64(file + 16, CH_KEYFILE_MEMORY_BYTES);
    ch_store32(file + 12, 1u << 30);
    spill(path, file, n, 0600);
    assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, &right, out, sizeof out, &length), CH_ERR_INVALID);
}

static void readable_by_others_refused(void **state)
{
    uint8_t secret[32], out[64];
    size_t length;
    write_key(NULL, secret);
    for (unsigned bit = 0; bit < 6; bit++) {
        assert_int_equal(chmod(path, 0600u | 1u << bit), 0);
        assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length),
                         CH_ERR_READABLE_BY_OTHERS);
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_ok(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length));
}

static void link_folder_and_fifo_refused(void **state)
{
    uint8_t secret[32], out[64];
    size_t length;
    char other[160];
    write_key(NULL, secret);
    snprintf(other, sizeof other, "%s/link", folder);
    assert_int_equal(symlink("key", other), 0);
    assert_int_equal(ch_keyfile_read(other, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length), CH_ERR_DENIED);
    unlink(other);
    assert_int_equal(mkfifo(other, 0600), 0);
    assert_int_equal(ch_keyfile_read(other, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length), CH_ERR_DENIED);
    unlink(other);
    assert_int_equal(ch_keyfile_read(folder, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length), CH_ERR_DENIED);
    assert_int_equal(ch_keyfile_read(other, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length), CH_ERR_NOT_FOUND);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_int_equal(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length), CH_ERR_DENIED);
    }
}

static void existing_file_kept_unless_replaced(void **state)
{
    uint8_t first[32], second[32] = {1}, out[64];
    size_t length;
    write_key(NULL, first);
    assert_int_equal(ch_keyfile_write(path, CH_KEYFILE_ACCOUNT, public_part, second, 32, NULL, false), CH_ERR_EXISTS);
    assert_ok(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length));
    assert_memory_equal(out, first, 32);
    assert_ok(ch_keyfile_write(path, CH_KEYFILE_ACCOUNT, public_part, second, 32, NULL, true));
    assert_ok(ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, NULL, out, sizeof out, &length));
    assert_memory_equal(out, second, 32);
    /* teardown's rmdir fails if a temporary file was left */
}

static void passphrase_taken_from_file_environment_credential(void **state)
{
    struct ch_passphrase p;
    spill(passphrase_path, "tr\xc3\xa8s long\n", 11, 0600);
    assert_ok(ch_passphrase_get(passphrase_path, NULL, NULL, false, &p));
    assert_int_equal(p.length, 10);
    assert_string_equal(p.text, "tr\xc3\xa8s long");
    assert_int_equal(ch_passphrase_get(NULL, NULL, NULL, false, &p), CH_ERR_NOT_FOUND);
    setenv("CHAPPE_PASSPHRASE_FILE", passphrase_path, 1);
    assert_ok(ch_passphrase_get(NULL, NULL, NULL, false, &p));
    unsetenv("CHAPPE_PASSPHRASE_FILE");
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    assert_ok(ch_passphrase_get(NULL, "pass", NULL, false, &p));
    assert_int_equal(p.length, 10);
    assert_int_equal(ch_passphrase_get(NULL, "none", NULL, false, &p), CH_ERR_NOT_FOUND);
}

static void bad_passphrase_files_refused(void **state)
{
    struct ch_passphrase p;
    static char long_one[CH_PASSPHRASE_BYTES_MAX + 2];
    memset(long_one, 'x', sizeof long_one);
    spill(passphrase_path, "open", 4, 0644);
    assert_int_equal(ch_passphrase_get(passphrase_path, NULL, NULL, false, &p), CH_ERR_READABLE_BY_OTHERS);
    spill(passphrase_path, "\n", 1, 0600);
    assert_int_equal(ch_passphrase_get(passphrase_path, NULL, NULL, false, &p), CH_ERR_INVALID);
    spill(passphrase_path, "a\0b", 3, 0600);
    assert_int_equal(ch_passphrase_get(passphrase_path, NULL, NULL, false, &p), CH_ERR_INVALID);
    spill(passphrase_path, long_one, CH_PASSPHRASE_BYTES_MAX + 1, 0600);
    assert_int_equal(ch_passphrase_get(passphrase_path, NULL, NULL, false, &p), CH_ERR_INVALID);
    spill(passphrase_path, long_one, CH_PASSPHRASE_BYTES_MAX, 0600);
    assert_ok(ch_passphrase_get(passphrase_path, NULL, NULL, false, &p));
    assert_int_equal(p.length, CH_PASSPHRASE_BYTES_MAX);
}

struct entry {
    ch_err err;
    struct ch_passphrase passphrase;
};

/* Types `typed` at a terminal of a process of its own; *screen is what the terminal showed. */
static struct entry type(const char *typed, bool again, char *screen, size_t capacity)
{
    struct entry entry = {.err = CH_ERR_IO};
    int terminal, results[2];
    assert_int_equal(pipe(results), 0);
    pid_t child = forkpty(&terminal, NULL, NULL, NULL);
    if (child == 0) {
        entry.err = ch_passphrase_get(NULL, NULL, "Speak: ", again, &entry.passphrase);
        _exit(write(results[1], &entry, sizeof entry) == sizeof entry ? 0 : 1);
    }
    close(results[1]);
    size_t used = 0;
    bool sent = false;
    for (ssize_t n; (n = read(terminal, screen + used, capacity - 1 - used)) > 0;) {
        used += (size_t)n;
        screen[used] = 0;
        if (!sent && strstr(screen, "Speak: ")) { /* echo is off by now */
            assert_int_equal(write(terminal, typed, strlen(typed)), (ssize_t)strlen(typed));
            sent = true;
        }
    }
    assert_int_equal(read(results[0], &entry, sizeof entry), sizeof entry);
    close(results[0]);
    close(terminal);
    assert_int_equal(waitpid(child, NULL, 0), child);
    return entry;
}

static void passphrase_typed_without_echo(void **state)
{
    char screen[512] = "";
    struct entry entry = type("open sesame\n", false, screen, sizeof screen);
    assert_int_equal(entry.err, CH_OK);
    assert_string_equal(entry.passphrase.text, "open sesame");
    assert_null(strstr(screen, "sesame"));
    entry = type("one\none\n", true, screen, sizeof screen);
    assert_int_equal(entry.err, CH_OK);
    entry = type("one\ntwo\n", true, screen, sizeof screen);
    assert_int_equal(entry.err, CH_ERR_INVALID);
}

/* RFC 8032 section 7.1, TEST 2 and 3: split over prefix and message in every way. */
static void signature_is_that_of_rfc_8032(void **state)
{
    static const uint8_t seed[32] = {0xc5, 0xaa, 0x8d, 0xf4, 0x3f, 0x9f, 0x83, 0x7b, 0xed, 0xb7, 0x44,
                                     0x2f, 0x31, 0xdc, 0xb7, 0xb1, 0x66, 0xd3, 0x85, 0x35, 0x07, 0x6f,
                                     0x09, 0x4b, 0x85, 0xce, 0x3a, 0x2e, 0x0b, 0x44, 0x58, 0xf7};
    static const uint8_t begins[8] = {0x62, 0x91, 0xd6, 0x57, 0xde, 0xec, 0x24, 0x02};
    static const uint8_t message[2] = {0xaf, 0x82};
    struct ch_sign_key key;
    uint8_t signature[64];
    ch_sign_key_from_seed(seed, &key);
    assert_int_equal(key.public_key[0], 0xfc);
    assert_int_equal(key.public_key[31], 0x25);
    for (size_t cut = 0; cut <= 2; cut++) {
        ch_sign(&key, message, cut, message + cut, 2 - cut, signature);
        assert_memory_equal(signature, begins, sizeof begins);
        assert_int_equal(signature[63], 0x0a);
    }
}

static void weak_keys_named(void **state)
{
    struct ch_sign_key key;
    struct ch_seal_key seal;
    ch_sign_key_new(&key);
    ch_seal_key_new(&seal);
    assert_true(ch_sign_key_strong(key.public_key));
    assert_true(ch_seal_key_strong(seal.public_key));
    uint8_t weak[32] = {1}; /* the identity, and 1 in X25519: both of small order */
    assert_false(ch_sign_key_strong(weak));
    assert_false(ch_seal_key_strong(weak));
    weak[0] = 0;
    assert_false(ch_sign_key_strong(weak));
    assert_false(ch_seal_key_strong(weak));
    /* p + 1: the identity again, not canonical */
    memset(weak, 0xff, 32);
    weak[0] = 0xee;
    weak[31] = 0x7f;
    assert_false(ch_sign_key_strong(weak));
    assert_false(ch_seal_key_strong(weak));
    /* order 8 in X25519 */
    static const uint8_t eight[32] = {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
                                      0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
                                      0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00};
    assert_false(ch_seal_key_strong(eight));
}

int main(void)
{
    if (ch_sign_init() != CH_OK)
        return 1;
    umask(0);
    ch_prng_seed(&prng, test_seed());
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(secret_comes_back),
        CASE(wrapped_secret_is_not_in_the_file),
        CASE(wrong_or_missing_passphrase_refused),
        CASE(other_purpose_or_too_long_refused),
        CASE(tampered_file_refused),
        CASE(forged_cost_refused_before_it_is_paid),
        CASE(readable_by_others_refused),
        CASE(link_folder_and_fifo_refused),
        CASE(existing_file_kept_unless_replaced),
        CASE(passphrase_taken_from_file_environment_credential),
        CASE(bad_passphrase_files_refused),
        CASE(passphrase_typed_without_echo),
        cmocka_unit_test(signature_is_that_of_rfc_8032),
        cmocka_unit_test(weak_keys_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
