#include "node/genesis_file.h"
#include "node/node.h"
#include "tests/test.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define KEY_B "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct ch_genesis genesis;
static char message[256];

static ch_err parse(const char *text)
{
    memset(&genesis, 0x5a, sizeof genesis);
    message[0] = 0;
    return ch_genesis_file_parse("demo.yaml", (const uint8_t *)text, strlen(text), &genesis, message, sizeof message);
}

static void given_values_replace_the_defaults_of_that_committee(void **state)
{
    assert_ok(parse("name: demo\nstart_ms: 1760000000000\nrequire_relation: false\nregistrars: [" KEY_B "]\n"
                    "validators:\n  - key: " KEY_B "\n    stake: 3\n    address: 192.0.2.1:4740\n"
                    "  - key: " KEY_A "\n    address: \"[2001:db8::1]:4740\"\n"
                    "limits:\n  window_back_ms: 3600000\nparams:\n  gc_depth: 40\n"));
    static struct ch_genesis preset;
    ch_genesis_defaults(&preset, 2);
    assert_string_equal(genesis.name, "demo");
    assert_int_equal(genesis.start_ms, 1760000000000);
    assert_false(genesis.require_relation);
    assert_int_equal(genesis.registrar_count, 1);
    assert_int_equal(genesis.registrars[0][0], 0xff);
    assert_int_equal(genesis.validator_count, 2);
    assert_int_equal(genesis.validators[0].stake, 3);
    assert_int_equal(genesis.validators[1].stake, 1);
    assert_int_equal(genesis.validators[1].key[1], 0x11);
    assert_string_equal(genesis.validators[1].address, "[2001:db8::1]:4740");
    preset.limits.window_back_ms = 3600000;
    preset.params.gc_depth = 40;
    assert_memory_equal(&genesis.limits, &preset.limits, sizeof preset.limits);
    assert_memory_equal(&genesis.params, &preset.params, sizeof preset.params);
    static uint8_t bytes[CH_GENESIS_BYTES_MAX];
    static struct ch_genesis again;
    size_t length = ch_genesis_encode(&genesis, bytes);
    assert_true(length > 0);
    assert_ok(ch_genesis_decode(bytes, length, &again));
    assert_int_equal(again.validators[0].key[0], 0); /* the order of the file doesn't matter */
}

static void name_alone_is_enough(void **state)
{
    assert_ok(parse("name: demo\n"));
    assert_int_equal(genesis.validator_count, 0);
    assert_int_equal(genesis.registrar_count, 0);
    assert_int_equal(genesis.start_ms, 0);
}

static void unknown_key_names_its_line_and_a_near_miss(void **state)
{
    assert_int_equal(parse("name: demo\nlimits:\n  window_bak_ms: 1\n"), CH_ERR_INVALID);
    assert_string_equal(message, "demo.yaml:3: unknown key \"window_bak_ms\"; did you mean \"window_back_ms\"?");
    assert_int_equal(parse("name: demo\nvalidators:\n  - key: " KEY_A "\n    adress: x\n"), CH_ERR_INVALID);
    assert_string_equal(message, "demo.yaml:4: unknown key \"adress\"; did you mean \"address\"?");
    assert_int_equal(genesis.name[0], 0x5a);
}

static void what_makes_no_chain_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "start_ms: 1\n",
        "name: \"\"\n",
        "name: demo\nregistrars: [00]\n",
        "name: demo\nregistrars: [" KEY_A ", " KEY_A "]\n",
        "name: demo\nregistrars: [zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff]\n",
        "name: demo\nvalidators:\n  - key: " KEY_A "\n",
        "name: demo\nvalidators:\n  - key: " KEY_A "\n    stake: 0\n    address: 192.0.2.1:4740\n",
        "name: demo\nvalidators:\n  - key: " KEY_A "\n    stake: many\n    address: 192.0.2.1:4740\n",
        "name: demo\nparams:\n  gc_depth: 0\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parse(bad[i]) != CH_ERR_INVALID)
            fail_msg("taken: %s", bad[i]);
        assert_true(strncmp(message, "demo.yaml:", 10) == 0);
    }
}

static void remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char inside[1024];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        assert_int_equal(lstat(inside, &info), 0);
        if (S_ISDIR(info.st_mode))
            remove_folder(inside);
        else
            unlink(inside);
    }
    closedir(folder);
    rmdir(path);
}

static void committee_that_lacks_our_key_is_refused_until_it_is_named(void **state)
{
    char folder[] = "/tmp/chappe-init-XXXXXX", why[CH_NODE_WHY_BYTES] = "", text[512], other[65];
    static struct ch_node_init init;
    struct ch_sign_key theirs;
    ch_sign_key_new(&theirs);
    for (int i = 0; i < 32; i++)
        snprintf(other + 2 * i, 3, "%02x", theirs.public_key[i]);
    uint8_t chain_id[CH_HASH_BYTES];
    assert_non_null(mkdtemp(folder));
    ch_config_defaults(&init.config);
    init.config.store_log_segment_mib = 4;
    init.folder = folder;
    init.plain_keys = true;
    snprintf(text, sizeof text, "name: demo\nvalidators:\n  - key: %s\n    address: 192.0.2.1:4740\n", other);
    assert_ok(parse(text));
    init.genesis = genesis;
    assert_int_equal(ch_node_init(&init, chain_id, why), CH_ERR_INVALID);
    const char *key = strstr(why, "validator.key is ");
    assert_non_null(key);
    snprintf(text, sizeof text,
             "name: demo\nvalidators:\n  - key: %s\n    address: 192.0.2.1:4740\n"
             "  - key: %.64s\n    address: 192.0.2.2:4740\n",
             other, key + strlen("validator.key is "));
    assert_ok(parse(text));
    init.genesis = genesis;
    assert_ok(ch_node_init(&init, chain_id, why));
    assert_memory_equal(init.validator_key, genesis.validators[1].key, 32);
    remove_folder(folder);
}

/* A key of small order, which under ZIP-215 "signs" anything; and settings that no validator could run with. */
static void what_no_validator_should_run_with_makes_nothing(void **state)
{
    char folder[] = "/tmp/chappe-init-XXXXXX", why[CH_NODE_WHY_BYTES] = "";
    static struct ch_node_init init;
    uint8_t chain_id[CH_HASH_BYTES];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(rmdir(folder), 0);
    init.folder = folder;
    init.plain_keys = true;
    init.address = "127.0.0.1:4740";
    ch_config_defaults(&init.config);
    assert_ok(parse("name: demo\n"));
    init.genesis = genesis;
    init.genesis.registrar_count = 1;
    memcpy(init.genesis.registrars[0], (uint8_t[32]){1}, 32);
    assert_int_equal(ch_node_init(&init, chain_id, why), CH_ERR_INVALID);
    assert_non_null(strstr(why, "registrar 1"));
    init.genesis.registrar_count = 0;
    snprintf(init.config.network_address, sizeof init.config.network_address, "banana");
    assert_int_equal(ch_node_init(&init, chain_id, why), CH_ERR_INVALID);
    assert_non_null(strstr(why, "network.address: \"banana\""));
    assert_int_equal(access(folder, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(given_values_replace_the_defaults_of_that_committee),
        cmocka_unit_test(name_alone_is_enough),
        cmocka_unit_test(unknown_key_names_its_line_and_a_near_miss),
        cmocka_unit_test(what_makes_no_chain_is_refused),
        cmocka_unit_test(committee_that_lacks_our_key_is_refused_until_it_is_named),
        cmocka_unit_test(what_no_validator_should_run_with_makes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
