# scripts/install below a directory: what it writes there, and what it refuses. tests/deploy.rs has the rest.
# shellcheck disable=SC2012,SC2016,SC2030,SC2031,SC2115,SC2153,SC2143 # each test is a subshell; texts for others

load helper

INSTALL=$BATS_TEST_DIRNAME/../../scripts/install

# place: an empty root in $TREE.
place() {
    OWN=$(mktemp -d "$TREES/test.XXXXXX") TREE=$OWN/root
    mkdir "$TREE"
}

@test "below a root only settings that are the same for every host are set" {
    place
    run "$INSTALL" --root "$TREE" --binary /bin/sh
    exits 0
    run grep -v '^#' "$TREE/etc/sysctl.d/50-corelane.conf"
    [[ $output == $'net.ipv4.tcp_slow_start_after_idle = 0\nvm.zone_reclaim_mode = 0' ]]
    run cat "$TREE/etc/sysctl.d/50-corelane.conf"
    has "#net.core.somaxconn = 16384"
    has "scripts/tune apply sets these only where they are lower"
    has_not nr_open
}
