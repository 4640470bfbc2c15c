#include "node/hose_gate.h"

#include <stdio.h>

ch_err ch_hose_gate_init(struct ch_hose_gate *gate, const char *allow, uint64_t rate, uint64_t salt)
{
    *gate = (struct ch_hose_gate){.rate = rate, .salt = salt};
    for (const char *at = allow; *at;) {
        char word[CH_ADDRESS_TEXT_BYTES];
        size_t length = strcspn(at, ",");
        if (length >= sizeof word || gate->network_count == CH_HOSE_NETWORKS_MAX)
            return CH_ERR_INVALID;
        memcpy(word, at, length);
        word[length] = 0;
        ch_err err = ch_address_parse(word, &gate->networks[gate->network_count].address,
                                      &gate->networks[gate->network_count].prefix_bits);
        if (err != CH_OK)
            return err;
        gate->network_count++;
        at += length + (at[length] == ',');
    }
    return CH_OK;
}

bool ch_hose_gate_allows(const struct ch_hose_gate *gate, const struct ch_address *source)
{
    for (uint32_t i = 0; i < gate->network_count; i++)
        if (ch_address_in_prefix(source, &gate->networks[i].address, gate->networks[i].prefix_bits))
            return true;
    return false;
}

uint16_t ch_hose_gate_slot(const struct ch_hose_gate *gate, const struct ch_address *source)
{
    uint64_t a, b;
    memcpy(&a, source->ip, 8);
    memcpy(&b, source->ip + 8, 8);
    uint64_t hash = (a ^ gate->salt) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ (hash >> 29) ^ b) * 0xbf58476d1ce4e5b9u;
    return (uint16_t)((hash >> 32) % CH_HOSE_SOURCES);
}

bool ch_hose_gate_take(struct ch_hose_gate *gate, uint16_t slot, uint64_t count, uint64_t now_ns)
{
    return ch_bucket_take(&gate->sources[slot].bucket, gate->rate, count, now_ns);
}
