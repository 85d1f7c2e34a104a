# Journals, trees and places that somebody has meddled with, or that are broken.
# shellcheck disable=SC2012,SC2016,SC2030,SC2031,SC2115,SC2153,SC2143 # each test is a subshell; texts for others

load helper

journal() {
    echo "$TREE"/var/lib/corelane/tune/*.journal
}

@test "a journal whose last line was cut short reverts all that was announced" {
    plant vm
    local before cut
    before=$(picture)
    for cut in 1 7 30; do
        tune apply --yes --only sysctl >/dev/null
        truncate -s "-$cut" "$(journal)"
        run tune revert
        exits 0
        same "$before"
        rm -rf "$TREE/var/lib/corelane"
    done
}

@test "damaged lines are named with file and line, and the others are reverted" {
    plant vm
    tune apply --yes --only sysctl >/dev/null
    # One intent is damaged: its knob cannot be known.
    sed -i '2s/net/nut/' "$(journal)"
    sed -i '2s/|[0-9]*$/|9/' "$(journal)"
    run tune revert
    exits 1
    has ".journal:2: damaged"
    [[ $(value proc/sys/net/core/somaxconn) == 16384 ]]
    [[ $(value proc/sys/vm/swappiness) == 60 ]]
    [[ ! -e $TREE/etc/sysctl.d/90-corelane.conf ]]
}

@test "a journal of garbage changes nothing" {
    plant vm
    tune apply --yes --only vm.swappiness >/dev/null
    local before
    before=$(picture)
    head -c 4000 /dev/urandom >"$(journal)"
    run tune revert
    exits 1
    has "damaged"
    same "$before"
    printf 'I|1|file\n$(touch %s/owned)|`id`|%%00|||\n' "$OWN" >"$(journal)"
    run tune revert
    exits 1
    [[ ! -e $OWN/owned ]]
    same "$before"
}

# forge TEXT: a line with its right length.
forge() {
    printf '%s|%s\n' "$1" "${#1}"
}

@test "a journal cannot make us write where tune never writes" {
    plant vm
    printf 'secret\n' >"$TREE/etc/shadow"
    tune apply --yes --only vm.swappiness >/dev/null
    local before target
    before=$(picture)
    for target in etc/shadow proc/sys/../../etc/shadow etc/sysctl.d/../shadow /etc/shadow etc/systemd/system/ssh.service \
        sys/../etc/shadow etc/sysctl.d/99-sysctl.conf; do
        {
            forge "H|1|000009-X|server|x"
            forge "I|1|own|x|exact|$target|+644:0:0:owned|+secret%0A"
            forge "D|1|secret%0A"
        } >"$(journal)"
        run tune revert
        exits 1
        has "which tune never writes to"
        same "$before"
    done
    {
        forge "I|1|ethtool|x|words|eth0 channels -s;reboot|+1|+2"
        forge "I|2|mkdir|x|exact|etc|-|+755"
        forge "I|3|shell|x|exact|etc|-|+755"
        forge "R|9|restored"
    } >"$(journal)"
    run tune revert
    exits 1
    same "$before"
}

@test "journals in a place where others can write are not trusted" {
    plant vm
    tune apply --yes --only vm.swappiness >/dev/null
    chmod 777 "$TREE/var/lib/corelane/tune"
    run tune revert
    exits 1
    has "cannot be trusted"
    run tune apply --yes
    exits 1
    chmod 700 "$TREE/var/lib/corelane/tune"
    mv "$TREE/var/lib/corelane/tune" "$OWN/elsewhere"
    ln -s "$OWN/elsewhere" "$TREE/var/lib/corelane/tune"
    run tune revert
    exits 1
    [[ $(value proc/sys/vm/swappiness) == 10 ]]
}

@test "a tree with links that lead out of it does not make us write outside" {
    plant vm
    mkdir -p "$OWN/outside/d"
    printf '60\n' >"$OWN/outside/value"
    rm "$TREE/proc/sys/vm/swappiness"
    ln -s "$OWN/outside/value" "$TREE/proc/sys/vm/swappiness"
    rm -r "$TREE/etc/security"
    mkdir "$OWN/outside/security"
    ln -s "$OWN/outside/security" "$TREE/etc/security"
    run tune apply --yes
    exits 1
    has "leads out of"
    [[ $(<"$OWN/outside/value") == 60 ]]
    [[ -z $(ls -A "$OWN/outside/security") ]]
    teardown
    plant vm
    mkdir "$OWN/outside"
    rm -r "$TREE/var"
    ln -s "$OWN/outside" "$TREE/var"
    run tune apply --yes
    exits 1
    [[ -z $(ls -A "$OWN/outside") ]]
    [[ $(value proc/sys/vm/swappiness) == 60 ]]
}

@test "a link in the place of a file of ours is not followed" {
    plant vm
    printf 'theirs\n' >"$TREE/etc/theirs"
    ln -s ../theirs "$TREE/etc/sysctl.d/90-corelane.conf"
    run tune apply --yes
    exits 0
    has "is a symbolic link: not ours"
    [[ $(<"$TREE/etc/theirs") == theirs ]]
}

@test "without a place for the journal nothing is changed" {
    plant vm
    local before
    rm -r "$TREE/var"
    printf 'a file\n' >"$TREE/var"
    before=$(picture)
    run tune apply --yes
    exits 1
    has "nothing was changed"
    same "$before"
}

@test "a journal that cannot be written any more ends the writing" {
    plant vm
    local before
    before=$(picture)
    # The disk takes what it has, then no more: the second sync and all later ones fail.
    mkdir "$OWN/bin"
    printf '#!/bin/sh\nn=$(($(cat "%s/count") + 1)); echo $n >"%s/count"; [ $n -lt 3 ] && exec /bin/sync "$@"; exit 1\n' "$OWN" "$OWN" >"$OWN/bin/sync"
    chmod 755 "$OWN/bin/sync"
    printf '0\n' >"$OWN/count"
    PATH=$OWN/bin:$PATH run tune apply --yes --only sysctl
    exits 1
    has "Applied      1"
    has "the journal cannot be written"
    run tune revert
    exits 0
    same "$before"
}

@test "odd names: a root with blanks, quotes and a slash at its end; the script in such a place" {
    plant vm
    local odd="$OWN/it's \"odd\" \$HOME %n" before
    mkdir "$odd"
    cp -a "$TREES/big" "$odd/tree"
    cp -a "$BATS_TEST_DIRNAME/../../scripts" "$BATS_TEST_DIRNAME/../../sysctl" "$odd/"
    TREE=$odd/tree
    before=$(picture)
    run "$odd/scripts/tune" apply --yes --root "$TREE//" --only boot,vm.swappiness
    exits 0
    run grep ExecStart= "$TREE/etc/systemd/system/corelane-tune.service"
    has 'it'"'"'s \"odd\" $$HOME %%n/scripts/tune" apply'
    cd "$odd"
    run scripts/tune revert --root tree/
    exits 0
    same "$before"
}

@test "values that are no numbers are not compared, and not written" {
    plant vm
    printf 'lots\n' >"$TREE/proc/sys/net/core/somaxconn"
    printf '1 2\n' >"$TREE/proc/sys/net/ipv4/tcp_max_syn_backlog"
    printf '%s\n' 99999999999999999999999 >"$TREE/proc/sys/fs/nr_open"
    : >"$TREE/proc/sys/vm/swappiness"
    run tune apply --yes --only sysctl
    exits 0
    has "net.core.somaxconn                 its value 'lots' cannot be compared"
    [[ $(value proc/sys/net/core/somaxconn) == lots ]]
    [[ $(value proc/sys/net/ipv4/tcp_max_syn_backlog) == "1 2" ]]
    [[ $(value proc/sys/fs/nr_open) == 99999999999999999999999 ]]
}

@test "a file of ours that is no text is not lost" {
    plant vm
    printf 'a\0b\n' >"$TREE/etc/sysctl.d/90-corelane.conf"
    local before
    before=$(sha256sum "$TREE/etc/sysctl.d/90-corelane.conf")
    run tune apply --yes
    exits 1
    has "is not text"
    [[ $before == "$(sha256sum "$TREE/etc/sysctl.d/90-corelane.conf")" ]]
}

@test "a knob that is no file is not waited for, and a huge file is not ours" {
    plant vm
    rm "$TREE/proc/sys/vm/swappiness"
    mkfifo "$TREE/proc/sys/vm/swappiness"
    head -c 70000 /dev/zero | tr '\0' '#' >"$TREE/etc/sysctl.d/90-corelane.conf"
    run timeout 20 "$TUNE" apply --yes --root "$TREE"
    exits 0
    has "vm.swappiness                      is not a file"
    has "is larger than 64 KiB"
}
