# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # set by bats and by setup_suite
# What the tests of scripts/tune share.
#
# Rule: a test changes a copy of a tree, never the tree.

TUNE=$BATS_TEST_DIRNAME/../../scripts/tune
export NO_COLOR=1
# The programs of our trees are stand-ins: without this tune runs none that is below --root.
export TUNE_TREE_PROGRAMS=1

# plant KIND: a copy of a tree in $TREE. It is below the test's own directory, which teardown removes.
plant() {
    OWN=$(mktemp -d "$TREES/test.XXXXXX")
    TREE="$OWN/a tree"
    cp -a "$TREES/$1" "$TREE"
}

teardown() {
    [[ -z ${OWN:-} ]] || rm -rf -- "$OWN"
}

# tune ARGUMENTS...: on the tree.
tune() {
    "$TUNE" "$@" --root "$TREE"
}

# picture: all of the tree but the journal: names, kinds, modes, owners, links, bytes.
picture() {
    (
        cd "$TREE" || exit 1
        find . -path ./var/lib/corelane -prune -o -printf '%P %y %m %U %G %l\n' | LC_ALL=C sort
        find . -path ./var/lib/corelane -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    )
}

# same BEFORE: fails, with what differs, unless the tree is as in that picture.
same() {
    diff <(printf '%s\n' "$1") <(picture)
}

# value PATH: a file of the tree on one line.
value() {
    tr -s '\t\n' '  ' <"$TREE/$1" | sed 's/ *$//'
}

# has TEXT: fails unless the output of `run` has it.
has() {
    [[ $output == *"$1"* ]] || {
        printf 'not in the output: %s\n%s\n' "$1" "$output"
        return 1
    }
}

# has_not TEXT
has_not() {
    [[ $output != *"$1"* ]] || {
        printf 'in the output: %s\n%s\n' "$1" "$output"
        return 1
    }
}

# exits NUMBER: fails unless `run` ended so.
exits() {
    ((status == $1)) || {
        printf 'ended with %s, not %s\n%s\n' "$status" "$1" "$output"
        return 1
    }
}

# with_read_only PATH COMMAND...: runs it while a file of the tree cannot be written, not even by root.
with_read_only() {
    local path=$TREE/$1 ended=0
    shift
    if ((EUID != 0)); then
        chmod 444 "$path"
        "$@" || ended=$?
        chmod 644 "$path"
        return "$ended"
    fi
    # shellcheck disable=SC2016 # expanded by the shell inside
    unshare -m bash -c 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"' _ "$path" "$@"
}

# Skips where root cannot mount, as in most containers.
needs_read_only() {
    ((EUID != 0)) || unshare -m true 2>/dev/null || skip "no namespace of mounts can be made here"
}

# killed_at N COMMAND...: runs it and kills it, by the signal that nothing catches, as it asks for the Nth sync. The sync
# is done before if AFTER=1. Returns 0 if it was killed.
killed_at() {
    local at=$1 ended=0
    shift
    mkdir -p "$OWN/bin"
    printf '0\n' >"$OWN/count"
    cat >"$OWN/bin/sync" <<SYNC
#!/bin/sh
n=\$((\$(cat "$OWN/count") + 1))
echo \$n >"$OWN/count"
if [ \$n -eq $at ]; then
    [ ${AFTER:-0} = 0 ] || /bin/sync "\$@"
    kill -9 "\$(cat "$OWN/pid")"
    exit 1
fi
exec /bin/sync "\$@"
SYNC
    chmod 755 "$OWN/bin/sync"
    # shellcheck disable=SC2016 # expanded by the shell inside
    PATH=$OWN/bin:$PATH bash -c 'echo $$ >"$1"; shift; exec "$@"' _ "$OWN/pid" "$@" >/dev/null 2>&1 || ended=$?
    ((ended == 137))
}
