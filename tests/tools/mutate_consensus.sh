#!/bin/sh
# Breaks one rule of the consensus machine at a time, in a copy, and shows that a test notices.
# usage: mutate_consensus.sh SOURCE_ROOT [NAME]     (CC, CFLAGS from the environment)
set -eu
root=$1
only=${2:-}
. "$root/tests/tools/mutate_common.sh"

compile_all -O1 "$root"/consensus/*.c "$root"/wire/block.c "$root"/wire/genesis.c "$root"/base/error.c "$root"/base/hash.c \
    "$root"/base/time.c "$root"/tests/consensus/cluster.c "$root"/tests/consensus/test_committer.c \
    "$root"/tests/consensus/test_directed.c "$root"/tests/consensus/test_four.c \
    "$root"/tests/consensus/test_liveness.c "$root"/tests/consensus/test_one.c

link() { # program, object of the mutated file, its name
    others=$(find "$work/objects" -name '*.o' ! -name 'test_*' ! -name "$3.o")
    # shellcheck disable=SC2086
    $cc -o "$work/$1" "$work/objects/test_$1.o" $2 $others -lcmocka -lcrypto
}

# The first case that fails ends the program: that a mutation is noticed is known then.
run() { # program, seconds
    (
        ulimit -c 0
        CHAPPE_SEED=${CHAPPE_SEED:-1} CHAPPE_TEST_SIZE=short CMOCKA_TEST_ABORT=1 timeout "$2" "$work/$1" >"$work/out" 2>&1
    ) 2>/dev/null # the shell's word on who aborted
}

# Where the run ended: the case, and what the core said.
noticed() {
    case=$(sed -n 's/^\[ RUN      \] \([a-z][a-z0-9_]*\)$/\1/p' "$work/out" | tail -n 1)
    echo "$case $(grep -o 'assertion failed.*' "$work/out" | head -n 1)"
}

# name | file | test | sed expression
mutate() {
    broken "$1" "consensus/$2.c" "$4" -O1 || return 0
    link "$3" "$work/mutant.o" "$2"
    if run "$3" 120; then
        not_noticed "$1: NOT noticed by $3"
    else
        echo "$1: noticed by $3: $(noticed)"
    fi
}

for test in committer directed four liveness one; do
    link "$test" "" none
    sound "$test" run "$test" 240
done

mutate anchor_at_r_plus_2 committer committer 's/uint32_t r = round + 3; r <= core->max_round/uint32_t r = round + 2; r <= core->max_round/'
mutate certificate_of_validity_stake dag committer 's/if (stake >= core->committee.quorum_stake)$/if (stake >= core->committee.validity_stake)/'
mutate commit_with_f_certificates committer committer 's/core->cert_of, round + 2, rank, b, true) < quorum/core->cert_of, round + 2, rank, b, true) < core->committee.fault_stake/'
mutate skip_without_a_quorum_of_authors committer committer 's/bool skip = stake_of_round(core, round + 1) >= quorum/bool skip = stake_of_round(core, round + 1) > 0/'
mutate blame_counted_per_block committer committer 's/return authors_add(seen, author) ? core->committee.stake\[author\] : 0/authors_add(seen, author); return core->committee.stake[author]/'
mutate undecided_anchor_passed_over committer committer '/if (anchor->decision == CH_UNDECIDED)/{n;s/return CH_UNDECIDED/continue/}'
mutate rule_j_off pacemaker directed 's/uint32_t jump = decided_round(core) + 3;/uint32_t jump = *T;/'
mutate tip_repeat_off sync directed 's/^    repeat_due(core);/    (void)repeat_due;/'
mutate tip_answer_off sync directed 's/if (T <= PUSH_ROUNDS ||/if (T > 0 ||/'
mutate send_before_sync propose four 's/^    sync_signed(core);$/    core->lsn_synced = core->lsn; sync_durable(core);/'
mutate gc_from_the_current_commit linearise committer 's/const uint32_t gc_round = commit_gc_round(core);/core->last_commit.leader_round = round; const uint32_t gc_round = commit_gc_round(core);/'
mutate certificate_anywhere_not_below_the_anchor committer committer 's/\*leader = certified_below(core, anchor->leader, round, rank);/for (uint32_t x = 0; x < core->slots_used; x++) if (core->blocks[x].ref.round == round + 2 \&\& core->cert_of[(size_t)x * core->ranks + rank] != NONE) *leader = core->cert_of[(size_t)x * core->ranks + rank];/'
mutate unclean_blocks_referenced propose directed 's/if (!block_referable(b)) {/if (false) {/'
mutate vote_for_the_first_variant dag committer 's/votes\[k\] = parents\[i\];/votes[k] = dag_first(core, round - 1, leaders[k]);/'
mutate median_is_the_first_timestamp linearise committer 's/sum \* 2 < total/false/'
mutate subdag_without_weak_links linearise committer 's/if (ref.round <= gc_round) {/if (ref.round <= gc_round || ref.round + 3 < b.round) {/'
mutate guard_not_checked recovery one 's/guard->round > core->P ||/false \&\&/'
mutate rejoin_without_a_quorum rejoin directed 's/stake >= core->committee.quorum_stake/stake >= 1/'
mutate own_key_not_watched accept directed 's/core_halt(core, CH_HALT_KEY_IN_USE);/;/;s/core_halt(core, CH_HALT_SELF_EQUIVOCATION);.*/;/'
mutate suspended_without_bound accept directed 's/core->suspended_count\[author\] < SUSPENDED_ROUNDS \* VARIANTS_MAX/true/'
mutate commit_sync_off commit_sync directed 's/^    if (!core->lagging) {/    if (true) {/'
mutate fork_not_noticed votes directed 's/core_halt(core, CH_HALT_FORK);/;/'
mutate claims_not_renewed_on_exposure accept liveness 's/^    claims_again(core);$//'
mutate claims_stop_at_the_unexposed want liveness 's/(recharge(core, &core->wants\[id\], child_author) || visit)/recharge(core, \&core->wants[id], child_author)/'
mutate first_to_want_pays_or_nobody accept liveness 's/charged = wanted ? other_payer(core, &b, &ref, missing) : CH_CORE_NOBODY;/charged = CH_CORE_NOBODY;/'
mutate votes_of_few_leaders_kept core directed 's/core->votes_kept = CH_CORE_LAG_ROUNDS \* core->ranks;/core->votes_kept = 0;/'
mutate commits_proven_by_a_quorum commit_sync liveness 's/return stake >= core->committee.validity_stake;/return stake >= core->committee.quorum_stake;/'
mutate proofs_of_a_quorum_alone votes liveness 's/if (stake >= core->committee.validity_stake \&\& index/if (stake >= core->committee.quorum_stake \&\& index/'
mutate barren_peers_asked_again commit_sync liveness 's/^    authors_add(&in->barren, peer);$//'
mutate ranges_one_after_another commit_sync liveness 's/if (from + core->config.vote_cert_every > core->quorum_index \&\& (from > wanted || !queue_empty(in)))/if (from > wanted)/'
mutate several_questions_to_one_peer commit_sync liveness 's/if (!asked_already(in, p))/if (true)/'
mutate late_commits_thrown_away commit_sync liveness 's/if (!range || r.bad)/if (!range || r.bad || range->peer != peer || range->deadline_us <= core->now.mono_us)/'
mutate another_past_is_put_in commit_sync liveness 's/if (memcmp(commit.previous, previous, CH_HASH_BYTES) != 0)$/if (false)/;s/^        core_halt(core, CH_HALT_FORK);$//'
mutate delivered_before_durable linearise four 's/if (d->lsn > core->lsn_synced)/if (false)/'
mutate voted_before_durable propose four 's/core->durable_index/core->last_commit.index/g'
mutate own_payloads_lost linearise four 's/^        requeue_own(core, from, core->gc_round);/(void)from; (void)requeue_own;/'
mutate timers_do_not_grow pacemaker four 's/rounds += core->target - core->last_commit.leader_round - 6;/;/'
mutate commit_time_goes_back linearise four 's/if (commit.timestamp_ms < core->last_commit.timestamp_ms)/if (false)/'
mutate executor_ahead_not_noticed recovery one 's/if (applied_index > core->last_commit.index)/if (false)/'
mutate payloads_ahead_without_bound sync liveness 's/if (too_far_ahead(core, b, \*ahead_bytes))/if (false \&\& too_far_ahead(core, b, *ahead_bytes))/'
mutate pressure_ignored pacemaker four 's/if (core->pressure || core->lagging/if (core->lagging/'
mutate payload_without_commits pacemaker four 's/core->P - core->last_commit.leader_round > core->gc_depth \/ 2)/false)/'
mutate payload_that_nobody_builds_on pacemaker four 's/return stake >= core->committee.quorum_stake;$/return true;/'
mutate payload_while_lagging pacemaker four 's/if (core->pressure || core->lagging ||/if (core->pressure ||/'
mutate jump_over_the_round_being_led pacemaker liveness 's/if (jump > \*T - 1)/if (jump > *T)/;s/jump = \*T - 1;/jump = *T;/'

end
