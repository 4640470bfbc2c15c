#!/bin/sh
# Breaks what is kept of known keys in one place at a time, in a copy, and shows that the test named beside it notices:
# the check at a kernel's first use doesn't, since no key comes back in it. With the portable kernel.
# usage: mutate_ed25519.sh SOURCE_ROOT [NAME]     (CC, CFLAGS from the environment)
set -eu
root=$1
only=${2:-}
. "$root/tests/tools/mutate_common.sh"

# The other kernels are never run.
cat >"$work/others.c" <<'EOF'
#include "crypto/ed25519_impl.h"
const struct ed25519_kernel_code ch_ed25519_avx512ifma, ch_ed25519_avx2;
EOF
compile_all -O2 "$root"/base/cpu.c "$root"/base/error.c "$root"/base/time.c "$root"/crypto/ed25519_batch.c \
    "$root"/crypto/ed25519_kernels.c "$root"/crypto/ed25519_keys.c "$root"/crypto/ed25519_point.c \
    "$root"/crypto/ed25519_portable.c "$root"/crypto/ed25519_ref.c "$root"/tests/crypto/test_ed25519_batch.c \
    "$root"/tests/crypto/test_ed25519_cases.c "$work/others.c"

run() { # object of the mutated file, its name, the case
    others=$(find "$work/objects" -name '*.o' ! -name "$2.o")
    # shellcheck disable=SC2086
    $cc -o "$work/test" $1 $others -lcmocka -lsodium -ljansson -lpthread
    CHAPPE_SEED=${CHAPPE_SEED:-1} CHAPPE_TEST_SIZE=short timeout 120 "$work/test" portable "$3" >"$work/out" 2>&1
}

# name | file | case that must fail | sed expression
mutate() {
    broken "$1" "crypto/$2.c" "$4" -O2 || return 0
    if ! run "$work/mutant.o" "$2" "$3" && grep -q "^\[  FAILED  \] $3\$" "$work/out"; then
        echo "$1: noticed by $3: $(grep -o '0x[0-9a-f]* != 0x[0-9a-f]*\|[0-9]* != [0-9]*\|batch-portable, .*' "$work/out" | head -1)"
    else
        not_noticed "$1: NOT noticed by $3"
    fi
}

often=keys_that_come_back_often_change_no_verdict
another=a_key_in_anothers_place_does_not_get_its_multiple
sound $often run "" none $often
sound $another run "" none $another

mutate known_high_row_is_the_low_one ed25519_batch $often 's/= found->high;/= found->row;/'
mutate kept_high_row_is_the_low_one ed25519_keys $often 's/known->high = \*high;/known->high = known->row;/'
mutate short_terms_without_high_rows ed25519_batch $often 's/v->split = v->unraised_count <= share;/v->split = true;/'
mutate high_rows_never_kept ed25519_keys $often 's/known->raised = true;/;/'
mutate high_row_of_the_key_before ed25519_keys $another 's/known->raised = false;/;/'

end
