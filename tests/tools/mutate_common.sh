# What the mutation tests share; sourced with $root (the sources) and $only (a mutation's name, or nothing) set.
# shellcheck shell=sh disable=SC2034,SC2154
cc=${CC:-cc}
flags="-std=gnu17 -D_GNU_SOURCE -w ${CFLAGS:-}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
count=0
# meson's default fills every allocation, also those of the compiler. What that would show, the tests themselves see.
export MALLOC_PERTURB_=0

# Compiles the sources into $work/objects: compile_all OPTIONS SOURCES...
compile_all() {
    options=$1
    shift
    mkdir -p "$work/objects"
    for source; do
        # shellcheck disable=SC2086
        $cc $flags $options -I "$root" -c "$source" -o "$work/objects/$(basename "$source" .c).o"
    done
}

# Compiles a file with one thing broken to $work/mutant.o: broken NAME FILE EXPRESSION OPTIONS; false where that is not wanted.
broken() {
    [ -z "$only" ] || [ "$only" = "$1" ] || return 1
    count=$((count + 1))
    mkdir -p "$work/mutant/$(dirname "$2")"
    sed "$3" "$root/$2" >"$work/mutant/$2"
    if cmp -s "$root/$2" "$work/mutant/$2"; then
        not_noticed "$1: the expression changes nothing"
        return 1
    fi
    # shellcheck disable=SC2086
    $cc $flags $4 -I "$root" -c "$work/mutant/$2" -o "$work/mutant.o" || { not_noticed "$1: does not compile"; return 1; }
}

not_noticed() {
    echo "$1"
    failed=$((failed + 1))
}

# The unbroken code passes, else the rest says nothing: ends the script. sound NAME COMMAND...
sound() {
    name=$1
    shift
    if ! "$@"; then
        tail -5 "$work/out"
        echo "$name fails without any mutation"
        exit 1
    fi
}

end() {
    echo "$count mutations, $failed not noticed"
    [ "$failed" = 0 ]
}
