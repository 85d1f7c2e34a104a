# Builds each tree once for all tests, in memory where that can be had: the journal is synced before each write.

setup_suite() {
    local kind
    if [[ -d /dev/shm && -w /dev/shm ]]; then
        TREES=$(mktemp -d /dev/shm/corelane-tune.XXXXXX)
    else
        TREES=$(mktemp -d)
    fi
    export TREES
    for kind in big vm container; do
        "$BATS_TEST_DIRNAME/trees.sh" "$kind" "$TREES/$kind"
    done
}

teardown_suite() {
    rm -rf -- "$TREES"
}
