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

@test "the list is there before the first file, so an install that was ended can be taken back or done again" {
    place
    local before
    before=$(picture)
    mkdir "$OWN/bin"
    # Ends the script as it puts its third file.
    printf '#!/bin/sh\necho >>"%s/count"\n[ $(wc -l <"%s/count") -lt 3 ] && exec /usr/bin/install "$@"\nexit 1\n' "$OWN" "$OWN" >"$OWN/bin/install"
    chmod 755 "$OWN/bin/install"
    for _ in 1 2; do
        : >"$OWN/count"
        PATH=$OWN/bin:$PATH run "$INSTALL" --root "$TREE" --binary /bin/sh
        exits 1
        [[ -e $TREE/usr/local/bin/corelane && ! -e $TREE/etc/corelane/corelane.toml ]]
    done
    # The new version, ended as well, over an old one: neither is taken for a change of the user's.
    run "$INSTALL" --root "$TREE" --binary /bin/sh
    exits 0
    : >"$OWN/count"
    PATH=$OWN/bin:$PATH run "$INSTALL" --root "$TREE" --binary /bin/cat
    exits 1
    run "$INSTALL" --root "$TREE" --binary /bin/cat
    exits 0
    has_not "changed here"
    run "$INSTALL" --root "$TREE" --uninstall
    exits 0
    same "$before"
}

@test "no link leads an install out of its root" {
    local link
    for link in etc usr etc/systemd; do
        place
        mkdir -p "$OWN/outside/systemd" "$TREE/${link%/*}"
        [[ $link != etc && $link != usr ]] || rmdir "$TREE/$link" 2>/dev/null || true
        ln -s "$OWN/outside" "$TREE/$link"
        run "$INSTALL" --root "$TREE" --binary /bin/sh
        exits 2
        has "leads out of"
        [[ -z $(find "$OWN/outside" -type f) ]]
        [[ -z $(find "$TREE" -type f) ]]
        teardown
    done
    # One that stays inside is none of our business.
    place
    mkdir -p "$TREE/usr/etc"
    ln -s usr/etc "$TREE/etc"
    run "$INSTALL" --root "$TREE" --binary /bin/sh
    exits 0
    [[ -e $TREE/usr/etc/corelane/corelane.toml ]]
}

@test "a base image is named once in the Dockerfile, and its head says so" {
    local file=$BATS_TEST_DIRNAME/../../Dockerfile
    [[ $(grep -c '_IMAGE=' <(grep '^ARG' "$file")) == 1 ]]
    run head -n 6 "$file"
    has "the same base image give"
}
