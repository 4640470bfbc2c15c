#include "node/config.h"
#include "tests/test.h"

#include <unistd.h>

static struct ch_config config;
static char message[256];

static ch_err parse(const char *text)
{
    ch_config_defaults(&config);
    message[0] = 0;
    return ch_config_parse("chappe.yaml", (const uint8_t *)text, strlen(text), &config, message, sizeof message);
}

static void given_keys_replace_defaults(void **state)
{
    assert_ok(parse("network:\n  port: 5000\n  open: false\n  address: 10.0.0.1\nstore:\n  low_water_mib: 7\n"));
    assert_int_equal(config.network_port, 5000);
    assert_false(config.network_open);
    assert_string_equal(config.network_address, "10.0.0.1");
    assert_int_equal(config.store_low_water_mib, 7);
    assert_string_equal(config.network_profile, "socket");
    assert_int_equal(config.stages_verify_batch, 1024);
}

static void unknown_key_names_its_line_and_a_near_miss(void **state)
{
    assert_int_equal(parse("network:\n  address: 10.0.0.1\n  prot: 5000\n"), CH_ERR_INVALID);
    assert_string_equal(message, "chappe.yaml:3: unknown key \"prot\"; did you mean \"port\"?");
    assert_int_equal(config.network_port, 4740);
}

static void value_out_of_range_is_refused(void **state)
{
    assert_int_equal(parse("network:\n  port: 70000\n"), CH_ERR_INVALID);
    assert_non_null(strstr(message, "network.port is 70000; it goes from 1 to 65535"));
    assert_int_equal(parse("network:\n  port: [1]\n"), CH_ERR_INVALID);
    assert_int_equal(parse("network:\n  port: x\n"), CH_ERR_INVALID);
    assert_int_equal(parse("\t{"), CH_ERR_INVALID);
}

static void switch_that_is_neither_on_nor_off_is_refused(void **state)
{
    assert_ok(parse("network:\n  open: no\nstages:\n  busy: yes\n"));
    assert_false(config.network_open);
    assert_true(config.stages_busy);
    static const char *const bad[] = {"flase", "0", "1", "2", "on", "\"\"", "[true]", "{}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[64];
        snprintf(text, sizeof text, "network:\n  open: %s\n", bad[i]);
        assert_int_equal(parse(text), CH_ERR_INVALID);
        assert_non_null(strstr(message, "chappe.yaml:2: "));
    }
}

static void word_without_meaning_is_refused(void **state)
{
    static const struct {
        const char *text, *told;
    } cases[] = {
        {"network:\n  profile: sockets\n", "network.profile: \"sockets\" is no profile"},
        {"network:\n  address: here\n", "network.address: \"here\" is no IPv4 address"},
        {"network:\n  address: 10.0.0.1:5000\n", "network.address: \"10.0.0.1:5000\" is no IPv4 address"},
        {"network:\n  address: \"::1\"\n", "network.address: \"::1\" is no IPv4 address"},
        {"network:\n  gateway: 10.0.0\n", "network.gateway: \"10.0.0\" is no IPv4 address"},
        {"network:\n  hose_allow: 10.0.0.0/33\n", "network.hose_allow: \"10.0.0.0/33\" is no list of networks"},
        {"network:\n  hugepages: maybe\n", "network.hugepages: \"maybe\" is none of auto, yes, no"},
        {"network:\n  rx_checksum: vrefy\n", "network.rx_checksum: \"vrefy\" is none of verify, trust"},
        {"stages:\n  cpu_mask: avx3\n", "stages.cpu_mask: \"avx3\" is no set of kernels"},
        {"store:\n  objects: ceph\n", "store.objects: \"ceph\" is none of segments, rados"},
        {"store:\n  state_sync: never\n", "store.state_sync: \"never\" is none of io_uring, nometasync"},
        {"network:\n  port: 5000\n  hose_port: 5000\n", "network.hose_port: 5000 is network.port already"},
        {"network:\n  interface: \"a\\\"b\"\n", "network.interface has a character that it can't have"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(cases[i].text), CH_ERR_INVALID);
        assert_non_null(strstr(message, cases[i].told));
    }
}

static void written_file_reads_back_equal(void **state)
{
    char path[] = "/tmp/chappe-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct ch_config wrote;
    ch_config_defaults(&wrote);
    wrote.network_port = 4999;
    assert_int_equal(ch_config_write(path, &wrote), CH_ERR_EXISTS);
    unlink(path);
    assert_ok(ch_config_write(path, &wrote));
    ch_config_defaults(&config);
    assert_ok(ch_config_load(path, &config, message, sizeof message));
    assert_memory_equal(&config, &wrote, sizeof config);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(given_keys_replace_defaults),
        cmocka_unit_test(unknown_key_names_its_line_and_a_near_miss),
        cmocka_unit_test(value_out_of_range_is_refused),
        cmocka_unit_test(switch_that_is_neither_on_nor_off_is_refused),
        cmocka_unit_test(word_without_meaning_is_refused),
        cmocka_unit_test(written_file_reads_back_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
