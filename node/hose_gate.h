/* node/hose_gate.h - the fire hose's sources: who may send, how much, and whose signatures were bad.
 *
 * What:    an allow-list of networks, and a bounded table of the sources inside it: a token bucket and a mark for each.
 * Memory:  CH_HOSE_SOURCES entries; more sources share entries, and so their bucket and mark. Thread: net's.
 */
#ifndef CHAPPE_NODE_HOSE_GATE_H
#define CHAPPE_NODE_HOSE_GATE_H

#include "dataplane/address.h"
#include "node/bucket.h"

#define CH_HOSE_SOURCES      4096
#define CH_HOSE_NETWORKS_MAX 32

struct ch_hose_source {
    struct ch_bucket bucket;
    bool suspect;
};

struct ch_hose_gate {
    struct {
        struct ch_address address;
        uint8_t prefix_bits;
    } networks[CH_HOSE_NETWORKS_MAX];
    uint32_t network_count;
    uint64_t rate; /* transactions a second and source */
    uint64_t salt; /* which sources share an entry can't be chosen from outside */
    struct ch_hose_source sources[CH_HOSE_SOURCES];
};

/* `allow` as in the configuration: "10.0.0.0/8,192.0.2.7". CH_ERR_INVALID: not that. */
CH_MUST_CHECK ch_err ch_hose_gate_init(struct ch_hose_gate *gate, const char *allow, uint64_t rate, uint64_t salt);
bool ch_hose_gate_allows(const struct ch_hose_gate *gate, const struct ch_address *source);
uint16_t ch_hose_gate_slot(const struct ch_hose_gate *gate, const struct ch_address *source);
/* Takes `count` tokens; false when the source is too fast. */
bool ch_hose_gate_take(struct ch_hose_gate *gate, uint16_t slot, uint64_t count, uint64_t now_ns);

#endif
