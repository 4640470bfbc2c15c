#!/bin/sh
# Breaks one thing at a time, in a copy, and shows that the simulator notices: each of its invariants can fail.
# usage: mutate_sim.sh SOURCE_ROOT BUILD_ROOT [NAME]     (CC, CFLAGS from the environment)
set -eu
root=$1
build=$2
only=${3:-}
. "$root/tests/tools/mutate_common.sh"

# The mutant stands before the libraries, so that its file is not taken from them.
link() { # parts of the simulator, its own build of the machine or the common one, objects before them
    # shellcheck disable=SC2086
    $cc -o "$work/sim" $3 -Wl,--whole-archive "$build/tests/sim/lib$1.a" -Wl,--no-whole-archive $2 \
        "$build/tests/sim/libsim_log.a" \
        "$build/libchappe_ledger.a" "$build/libchappe_store.a" "$build/libchappe_wire.a" "$build/libchappe_crypto.a" \
        "$build/libchappe_base.a" -lcrypto -lsodium -llmdb -lisal -lIPSec_MB -luring -lpthread
}

# name | file | small or large world | mode | what must be said | sed expression
mutate() {
    parts=sim_parts machine=$build/libchappe_consensus.a small=
    [ "$3" = large ] || { parts=sim_parts_small; machine=$build/tests/sim/libconsensus_small.a; small=-DCH_SMALL_WORLD; }
    broken "$1" "$2" "$6" "-O1 $small" || return 0
    link $parts "$machine" "$work/mutant.o"
    if timeout 900 "$work/sim" --seeds 300 --until-one-fails --mode "$4" >"$work/out" 2>&1; then
        not_noticed "$1: NOT noticed"
    elif grep -qE "$5" "$work/out"; then
        echo "$1: noticed: $(grep -m1 -E "$5" "$work/out" | cut -c1-120)"
    else
        not_noticed "$1: noticed, but not as $5: $(head -n 1 "$work/out" | cut -c1-120)"
    fi
}

c=consensus
mutate commits_collect_by_local_rounds $c/linearise.c large safety 'I1:|FORK' \
    's/int64_t bound = (int64_t)core->last_commit.leader_round - core->gc_depth;/int64_t bound = (int64_t)core->quorum_round - 2 - core->gc_depth;/'
mutate certificate_of_validity_stake $c/dag.c large safety 'I2:|I1:|SAFETY' \
    's/if (stake >= core->committee.quorum_stake)$/if (stake >= core->committee.validity_stake)/'
mutate blocks_delivered_twice $c/linearise.c large safety 'I3:' 's/^    b->committed = true;/    b->committed = b->ref.round % 7 != 0;/'
mutate history_left_out $c/linearise.c large safety 'I4:' \
    's/if (ref.round <= gc_round) {/if (ref.round <= gc_round || ref.round + 3 < b.round) {/'
mutate rejoined_at_once $c/rejoin.c large safety 'I5:|KEY_IN_USE|SELF_EQUIVOCATION' \
    's/if (stake >= core->committee.quorum_stake) {/if (true) {/'
mutate sent_before_it_is_durable $c/propose.c large safety 'I6:' \
    's/^    sync_signed(core);$/    core->lsn_synced = core->lsn; sync_durable(core);/'
mutate rule_j_off $c/pacemaker.c large safety 'I7:' 's/uint32_t jump = decided_round(core) + 3;/uint32_t jump = *T;/'
mutate accepted_without_ancestors $c/accept.c large safety 'I8:' 's/^        x->waiting++;$//'
mutate suspended_without_bound $c/accept.c small safety 'I9:' \
    's/core->suspended_count\[author\] < SUSPENDED_ROUNDS \* VARIANTS_MAX/true/;s/core->wants_charged\[author\] + missing <= WANTS_PER_AUTHOR \* core->n/true/'
mutate window_forgotten_at_restart ledger/ledger.c large safety 'I10:' \
    's/^    if (timestamp_ms < l->window.floor_ms)$/    if (true)/'
mutate delivery_lost_at_restart $c/recovery.c large safety 'I11:' \
    's/if (commit.index > applied_index \&\& !replay_delivery/if (commit.index > applied_index + 1 \&\& !replay_delivery/'
mutate seed_of_its_own $c/core.c large safety 'I12:' \
    's/ch_prng_seed(&core->prng, config->seed);/static uint64_t own; ch_prng_seed(\&core->prng, config->seed + own++);/'
mutate tip_repeat_off $c/sync.c large liveness 'I13:|nothing is going to happen' \
    's/^    repeat_due(core);/    (void)repeat_due;/;s/^    return core->repeat_since_us + .*$/    return NEVER;/'
mutate payloads_never_taken $c/pacemaker.c large liveness 'I14:' 's/const bool payload = payload_allowed(core, round, T);/const bool payload = false; (void)payload_allowed;/'
mutate leaders_not_waited_for $c/pacemaker.c large liveness 'I15:' \
    's/pacemaker_min_delay_ms(core) \* 1000 : 0;/pacemaker_min_delay_ms(core) * 100 : 0;/;s/^            if (dag_first(core, round - 1, author) == NONE \&\& .*$/            if (author == CH_CORE_NOBODY)/'
mutate fetched_without_a_pause $c/sync.c large liveness 'I16:' 's/return ms \* 1000 + ch_prng_below.*$/return 1000;/'
mutate log_durable_too_early store/wal.c large safety 'W1:|assertion' \
    's/w->oldest < w->flying \&\& w->frame\[w->oldest % FRAME_SLOTS\].state == FRAME_DURABLE/w->oldest < w->flying/'
mutate guard_ahead_not_noticed $c/recovery.c large safety 'W2:' 's/guard->round > core->P ||/false \&\&/'
mutate guard_after_the_answer node/log.c large safety 'W2:' 's/^    log->guard_count++;$/    log->guard_count++; log->synced = upto;/'

end
