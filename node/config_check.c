/* What a setting may be, beyond its form: the ranges of the list, and the words that mean something. */
#include "base/cpu.h"
#include "dataplane/port.h"
#include "node/config.h"
#include "node/hose_gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool one_of(const char *value, const char *a, const char *b, const char *c)
{
    return strcmp(value, a) == 0 || strcmp(value, b) == 0 || (c && strcmp(value, c) == 0);
}

/* The ports can do IPv6; the prefix and the genesis's address that init makes can't yet. */
static bool is_address(const char *text)
{
    struct ch_address address;
    return ch_address_parse(text, &address, NULL) == CH_OK && address.port == 0 && ch_address_is4(&address);
}

static bool are_networks(const char *text)
{
    struct ch_hose_gate *gate = malloc(sizeof *gate);
    bool good = gate && ch_hose_gate_init(gate, text, 1, 0) == CH_OK;
    free(gate);
    return good;
}

/* What the configuration file could not hold, or an operator could not see. */
static bool is_plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == '"' || *text == '\\' || *text == 0x7f)
            return false;
    return true;
}

ch_err ch_config_check(const struct ch_config *c, char *message, size_t message_bytes)
{
#define TEXT(section, name, preset, what)                                                                              \
    if (!is_plain(c->section##_##name)) {                                                                              \
        snprintf(message, message_bytes, "%s.%s has a character that it can't have", #section, #name);                 \
        return CH_ERR_INVALID;                                                                                         \
    }
#define NUMBER(section, name, preset, smallest, largest, what)                                                         \
    if (c->section##_##name + 1 < (uint64_t)(smallest) + 1 || c->section##_##name > (uint64_t)(largest)) {             \
        snprintf(message, message_bytes, "%s.%s is %llu; it goes from %llu to %llu", #section, #name,                  \
                 (unsigned long long)c->section##_##name, (unsigned long long)(smallest),                              \
                 (unsigned long long)(largest));                                                                       \
        return CH_ERR_INVALID;                                                                                         \
    }
#define SWITCH(section, name, preset, what)
    CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
    enum ch_port_profile profile;
    uint32_t mask;
    const struct {
        bool good;
        const char *name, *value, *what;
    } checks[] = {
        {ch_port_profile_parse(c->network_profile, &profile) == CH_OK, "network.profile", c->network_profile,
         "no profile"},
        {is_address(c->network_address), "network.address", c->network_address, "no IPv4 address"},
        {!*c->network_gateway || is_address(c->network_gateway), "network.gateway", c->network_gateway,
         "no IPv4 address"},
        {are_networks(c->network_hose_allow), "network.hose_allow", c->network_hose_allow, "no list of networks"},
        {one_of(c->network_hugepages, "auto", "yes", "no"), "network.hugepages", c->network_hugepages,
         "none of auto, yes, no"},
        {one_of(c->network_rx_checksum, "verify", "trust", NULL), "network.rx_checksum", c->network_rx_checksum,
         "none of verify, trust"},
        {ch_cpu_parse_mask(c->stages_cpu_mask, &mask) == CH_OK, "stages.cpu_mask", c->stages_cpu_mask,
         "no set of kernels"},
        {one_of(c->store_objects, "segments", "rados", NULL), "store.objects", c->store_objects,
         "none of segments, rados"},
        {one_of(c->store_state_sync, "io_uring", "nometasync", NULL), "store.state_sync", c->store_state_sync,
         "none of io_uring, nometasync"},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].good) {
            snprintf(message, message_bytes, "%s: \"%.100s\" is %s", checks[i].name, checks[i].value, checks[i].what);
            return CH_ERR_INVALID;
        }
    if (c->network_hose_port && c->network_hose_port == c->network_port) {
        snprintf(message, message_bytes, "network.hose_port: %llu is network.port already",
                 (unsigned long long)c->network_port);
        return CH_ERR_INVALID;
    }
    return CH_OK;
}
