/* node/metrics.h - what is counted, by stage: one list that makes the counters, their export and their documentation.
 *
 * Thread: a counter has one writer, its stage; anyone reads. The exported name is chappe_<stage>_<name>.
 */
#ifndef CHAPPE_NODE_METRICS_H
#define CHAPPE_NODE_METRICS_H

#include "wire/status.h"

#include <stdatomic.h>
#include <stdint.h>

/* X(stage, name, what) */
#define CH_METRICS_NET(X)                                                                                              \
    X(net, datagrams_received_total, "UDP datagrams taken from the port")                                              \
    X(net, datagrams_sent_total, "UDP datagrams handed to the port")                                                   \
    X(net, connections_opened_total, "handshakes completed")                                                           \
    X(net, connections_closed_total, "connections that ended")                                                         \
    X(net, frames_received_total, "frames of the peer protocol taken in")                                              \
    X(net, frames_malformed_total, "frames whose body was not well-formed")                                            \
    X(net, submit_transactions_received_total, "transactions received over QUIC")                                      \
    X(net, hose_datagrams_received_total, "fire hose datagrams")                                                       \
    X(net, hose_datagrams_malformed_total, "of them not well-formed")                                                  \
    X(net, hose_datagrams_forbidden_total, "of them from a source that is not listed")                                 \
    X(net, hose_transactions_received_total, "transactions in well-formed fire hose datagrams, by their headers")      \
    X(net, hose_transactions_malformed_total, "of them not well-formed, or promised and not there")                    \
    X(net, hose_transactions_shed_total, "of them dropped because the node was busy")                                  \
    X(net, hose_transactions_refused_total, "of them refused before or at ordering, see the reasons")                  \
    X(net, receipts_early_sent_total, "early receipts")                                                                \
    X(net, receipts_final_sent_total, "final receipts")                                                                \
    X(net, receipts_undeliverable_total, "final receipts whose connection was gone or too slow")                       \
    X(net, peer_messages_sent_total, "messages to other validators")                                                   \
    X(net, peer_messages_lost_total, "of them not sent: the validator reads too slowly")                               \
    X(net, parcels_dropped_total, "frames about objects from validators above their share")
#define CH_METRICS_VERIFY(X)                                                                                           \
    X(verify, signatures_checked_total, "signatures and approvals checked")                                            \
    X(verify, signatures_bad_total, "of them bad")                                                                     \
    X(verify, batches_total, "calls of the batch verifier")                                                            \
    X(verify, suspect_signatures_total, "checked one by one because their source sent a bad one before")
#define CH_METRICS_ORDER(X)                                                                                            \
    X(order, transactions_pooled_total, "transactions taken into a payload")                                           \
    X(order, payloads_proposed_total, "payloads put into a block")                                                     \
    X(order, commits_delivered_total, "commits handed on to be applied")                                               \
    X(order, messages_received_total, "messages of other validators")                                                  \
    X(order, messages_refused_total, "of them malformed, or with a signature or payload that does not hold")           \
    X(order, messages_lost_total, "own messages not sent for want of buffers")                                         \
    X(order, payloads_received_total, "payloads of other validators' blocks")                                          \
    X(order, round, "highest round signed")                                                                            \
    X(order, gc_round, "rounds up to this one are done with")                                                          \
    X(order, commit_index, "last commit delivered")
#define CH_METRICS_LOG(X)                                                                                              \
    X(log, records_appended_total, "records appended")                                                                 \
    X(log, bytes_appended_total, "their bytes")                                                                        \
    X(log, durable_position_bytes, "how far the log is durable")
#define CH_METRICS_APPLY(X)                                                                                            \
    X(apply, transactions_applied_total, "transactions applied")                                                       \
    X(apply, transactions_refused_total, "transactions refused by the ledger, see the reasons")                        \
    X(apply, signatures_checked_total, "signatures in other validators' blocks checked")                               \
    X(apply, signature_batches_total, "calls of the batch verifier for them")                                          \
    X(apply, signatures_known_total,                                                                                   \
      "transactions in their blocks not checked again: they were, when a client sent them here")                       \
    X(apply, commits_applied_total, "commits applied")                                                                 \
    X(apply, state_commits_total, "commits of LMDB")
#define CH_METRICS_SERVE(X)                                                                                            \
    X(serve, requests_total, "reads and object requests answered")                                                     \
    X(serve, requests_refused_total, "of them with another status than OK")                                            \
    X(serve, objects_stored_total, "object blocks stored")                                                             \
    X(serve, objects_unnamed_total, "object blocks dropped because no message named them in time")                     \
    X(serve, objects_expired_total, "object blocks given up for their age")                                            \
    X(serve, object_bytes_moved_total, "bytes of live blocks moved out of half-dead segments")                         \
    X(serve, objects_refusing, "1: the object storage takes nothing now, because it is full or does not answer")       \
    X(serve, object_segments_destroyed, "object segments destroyed with their keys since the start")                   \
    X(serve, object_blocks, "object blocks stored now")                                                                \
    X(serve, object_live_bytes, "their bytes on the disk")                                                             \
    X(serve, object_disk_bytes, "bytes of all object segments")                                                        \
    X(serve, object_index_bytes, "memory of the index of object blocks")                                               \
    X(serve, watches, "inboxes watched now")                                                                           \
    X(serve, blocks_spread_total, "blocks put here that n-f validators have signed for")                               \
    X(serve, blocks_fetched_total, "blocks fetched from other validators for who asked here")                          \
    X(serve, blocks_failed_total, "blocks that could not be spread, fetched or restored in time")                      \
    X(serve, blocks_restored_total, "blocks whose part here was missing and was made again")                           \
    X(serve, blocks_restored_bytes_total, "their bytes, whole")                                                        \
    X(serve, blocks_given_up_total, "missing blocks that the others don't have either")                                \
    X(serve, block_manifests_wrong_total, "manifests that decoded to something else than the block")                   \
    X(serve, block_frames_malformed_total, "malformed or surplus frames about objects from validators")                \
    X(serve, repair_seen_total, "certificates of others looked through for what is missing here")                      \
    X(serve, repair_left, "validators whose lists are still to be looked through, ourselves included")                 \
    X(serve, repair_waiting, "blocks known to be missing here")
#define CH_METRICS_IPFS(X)                                                                                             \
    X(ipfs, requests_total, "requests of IPFS clients answered")                                                       \
    X(ipfs, requests_refused_total, "of them with another status than 200, 206 or 304")                                \
    X(ipfs, answers_broken_off_total, "answers that ended early: a reader too slow or gone, or a block missing")       \
    X(ipfs, bytes_sent_total, "bytes of blocks and CARs given")                                                        \
    X(ipfs, connections, "connections of IPFS clients now")
#define CH_METRICS_SCRUB(X)                                                                                            \
    X(scrub, bytes_read_total, "bytes of objects read again to see whether they are whole")                            \
    X(scrub, passes_total, "how often all were gone through")                                                          \
    X(scrub, blocks_damaged_total, "blocks found that the disk has changed")                                           \
    X(scrub, segments_damaged_total, "segments that could not be gone through")                                        \
    X(scrub, state_passes_total, "how often all rows of the state were gone through")

#define CH_METRICS_LIST(X)                                                                                             \
    CH_METRICS_NET(X)                                                                                                  \
    CH_METRICS_VERIFY(X) CH_METRICS_ORDER(X) CH_METRICS_LOG(X) CH_METRICS_APPLY(X) CH_METRICS_SERVE(X)                 \
    CH_METRICS_IPFS(X) CH_METRICS_SCRUB(X)

typedef atomic_uint_fast64_t ch_counter;

struct ch_metrics {
#define X(stage, name, what) ch_counter stage##_##name;
    _Alignas(64) struct {
        CH_METRICS_NET(X)
    };
    _Alignas(64) struct {
        CH_METRICS_VERIFY(X)
    };
    _Alignas(64) struct {
        CH_METRICS_ORDER(X)
    };
    _Alignas(64) struct {
        CH_METRICS_LOG(X)
    };
    _Alignas(64) struct {
        CH_METRICS_APPLY(X)
    };
    _Alignas(64) struct {
        CH_METRICS_SERVE(X)
    };
    _Alignas(64) struct { /* many writers: a thread for each connection */
        CH_METRICS_IPFS(X)
    };
    _Alignas(64) struct {
        CH_METRICS_SCRUB(X)
    };
#undef X
    /* by reason: refused before ordering (net's answers), refused by the ledger (apply); OK counts the others */
    _Alignas(64) ch_counter early_by_status[CH_STATUS_NUMBERS_MAX];
    _Alignas(64) ch_counter final_by_status[CH_STATUS_NUMBERS_MAX];
};

static inline void ch_count(ch_counter *counter, uint64_t more)
{
    /* one writer: no locked instruction */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}
/* For the counters that several verify stages share. */
static inline void ch_count_shared(ch_counter *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}
static inline void ch_gauge(ch_counter *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

#endif
