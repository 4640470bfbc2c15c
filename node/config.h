/* node/config.h - the validator's settings: one list that makes the schema, the defaults and the commented file.
 *
 * Errors: an unknown key, a bad value: CH_ERR_INVALID with one line for people in `message`, naming file, line and, for
 * an unknown key, the nearest known one. Thread: main, before others run.
 */
#ifndef CHAPPE_NODE_CONFIG_H
#define CHAPPE_NODE_CONFIG_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* TEXT(section, name, default, what), NUMBER(section, name, default, smallest, largest, what), SWITCH(section, name,
 * default, what) */
#define CH_CONFIG_NETWORK(TEXT, NUMBER, SWITCH)                                                                        \
    TEXT(network, profile, "socket",                                                                                   \
         "socket (kernel's stack), af_packet (DPDK on an interface without an address), pcap (replays a capture)")     \
    TEXT(network, interface, "", "the interface of af_packet, the file of pcap")                                       \
    TEXT(network, address, "127.0.0.1", "our IPv4 address")                                                            \
    NUMBER(network, prefix, 24, 0, 32, "bits of our network; others go to the gateway")                                \
    TEXT(network, gateway, "", "IPv4 address of the gateway; empty: none")                                             \
    NUMBER(network, port, 4740, 1, 65535, "UDP port of the peer protocol (QUIC)")                                      \
    NUMBER(network, hose_port, 0, 0, 65535, "UDP port of the fire hose; 0: off")                                       \
    TEXT(network, hose_allow, "", "source networks of the fire hose, as 10.0.0.0/8,192.0.2.7/32")                      \
    TEXT(network, hugepages, "auto", "auto, yes or no (DPDK's memory)")                                                \
    TEXT(network, rx_checksum, "verify", "verify, or trust where a virtual link leaves checksums undone")              \
    SWITCH(network, open, true, "let keys in that have no account yet, so that newcomers can register")                \
    NUMBER(network, connections_max, 1024, 1, 65536, "QUIC connections at once")                                       \
    NUMBER(network, connections_per_address, 64, 1, 65536, "of them from one address")                                 \
    NUMBER(network, handshakes_max, 64, 1, 65536, "open handshakes above which addresses are validated first")         \
    NUMBER(network, http_port, 0, 0, 65535, "TCP port on 127.0.0.1 for /metrics and /health; 0: off")                  \
    TEXT(network, ipfs_address, "127.0.0.1", "our address for IPFS clients")                                           \
    NUMBER(network, ipfs_port, 0, 0, 65535, "TCP port for IPFS clients (HTTP, Trustless Gateway); 0: off")             \
    NUMBER(network, ipfs_connections, 64, 1, 1024, "of IPFS clients at once, 4.4 MiB each")                            \
    NUMBER(network, ipfs_connections_per_address, 16, 1, 1024, "of them from one address")                             \
    NUMBER(network, idle_seconds, 30, 1, 3600, "a silent connection is closed after this")

#define CH_CONFIG_STAGES(TEXT, NUMBER, SWITCH)                                                                         \
    NUMBER(stages, verify_stages, 0, 0, 64, "threads that verify; 0: by the number of cores")                          \
    SWITCH(stages, busy, false, "poll without sleeping; only for those who own their cores")                           \
    TEXT(stages, cpu_mask, "all", "kernels to choose from: all, avx512ifma, avx512, avx2, portable")                   \
    NUMBER(stages, verify_batch, 1024, 16, 8192, "signatures in one batch")                                            \
    NUMBER(stages, cached_keys, 65536, 0, 1048576, "decoded sender keys remembered by each verify stage")              \
    NUMBER(stages, min_round_ms, 0, 0, 10000, "shortest time between our blocks under load; 0: by the committee")      \
    NUMBER(stages, idle_round_ms, 500, 1, 10000, "the same when nothing is pending")                                   \
    NUMBER(stages, tx_rate_per_peer, 200000, 1, 100000000, "transactions a second from one peer")                      \
    NUMBER(stages, tx_rate_per_account, 200000, 1, 100000000,                                                          \
           "transactions a second of one account, whoever brings them")

#define CH_CONFIG_STORE(TEXT, NUMBER, SWITCH)                                                                          \
    NUMBER(store, log_segment_mib, 256, 4, 2048, "size of a log segment")                                              \
    NUMBER(store, log_keep_mib, 0, 0, 1ull << 40, "older segments are given up above this; 0: no limit")               \
    NUMBER(store, log_keep_hours, 0, 0, 1ull << 20, "transactions older than this are given up; 0: no limit")          \
    TEXT(store, objects, "segments", "where objects are kept: segments (files here), or rados (a Ceph pool)")          \
    TEXT(store, rados_config, "/etc/ceph/ceph.conf", "file that names Ceph's monitors and the keyring")                \
    TEXT(store, rados_user, "chappe", "Ceph's name for us, without client.")                                           \
    TEXT(store, rados_pool, "chappe", "the pool")                                                                      \
    NUMBER(store, rados_timeout_seconds, 5, 1, 600, "without an answer of Ceph for so long, objects are refused")      \
    NUMBER(store, object_segment_mib, 1024, 16, 2048, "size of an object segment; in a pool at most 64")               \
    NUMBER(store, object_keep_hours, 0, 0, 1ull << 20, "objects older than this are given up; 0: no limit")            \
    NUMBER(store, object_quota_mib, 0, 0, 1ull << 40, "what an account may store here, in objects; 0: no limit")       \
    NUMBER(store, upkeep_mib_s, 16, 0, 65536, "rate of scrubbing and compacting; 0: neither")                          \
    NUMBER(store, repair_mib, 32, 1, 65536, "MiB of objects a second that are restored from the other validators")     \
    NUMBER(store, low_water_mib, 1024, 1, 1048576, "free disk space below which new work is refused")                  \
    TEXT(store, state_sync, "io_uring", "who makes the state durable: io_uring, or nometasync (LMDB itself)")

#define CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)                                                                           \
    CH_CONFIG_NETWORK(TEXT, NUMBER, SWITCH)                                                                            \
    CH_CONFIG_STAGES(TEXT, NUMBER, SWITCH)                                                                             \
    CH_CONFIG_STORE(TEXT, NUMBER, SWITCH)

#define CH_CONFIG_TEXT_BYTES_MAX 255

struct ch_config {
#define TEXT(section, name, preset, what) char section##_##name[CH_CONFIG_TEXT_BYTES_MAX + 1];
#define NUMBER(section, name, preset, smallest, largest, what) uint64_t section##_##name;
#define SWITCH(section, name, preset, what) bool section##_##name;
    CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
};

void ch_config_defaults(struct ch_config *config);
/* Whether a validator can be run with it: numbers in their range, words that mean something. `message` names the
 * key. */
CH_MUST_CHECK ch_err ch_config_check(const struct ch_config *config, char *message, size_t message_bytes);
/* Reads a file over the defaults. */
CH_MUST_CHECK ch_err ch_config_load(const char *path, struct ch_config *config, char *message, size_t message_bytes);
/* The same from bytes; `name` stands for the file in messages. */
CH_MUST_CHECK ch_err ch_config_parse(const char *name, const uint8_t *bytes, size_t length, struct ch_config *config,
                                     char *message, size_t message_bytes);
/* Writes every key with its meaning and value in `config`; CH_ERR_EXISTS rather than overwrite. */
CH_MUST_CHECK ch_err ch_config_write(const char *path, const struct ch_config *config);

#endif
