# Taking back: all of it, part of it, after a crash, after others.
# shellcheck disable=SC2012,SC2016,SC2030,SC2031,SC2115,SC2153,SC2143 # each test is a subshell; texts for others

load helper

@test "apply then revert is the identity" {
    local kind profile before
    for kind in big vm container; do
        for profile in server loadgen lowlat; do
            # Of the big one the longest alone, for its time.
            [[ $kind != big || $profile == lowlat ]] || continue
            plant "$kind"
            before=$(picture)
            run tune apply --yes --profile "$profile" --disruptive --hugepages 8
            exits 0
            run tune revert
            exits 0
            same "$before"
            teardown
        done
    done
}

@test "several transactions are taken back the last one first" {
    plant vm
    local before
    before=$(picture)
    tune apply --yes --profile server >/dev/null
    tune apply --yes --profile loadgen >/dev/null
    tune apply --yes --profile lowlat >/dev/null
    run tune revert --all
    exits 0
    same "$before"
}

@test "a transaction is not taken away from under a later one" {
    plant vm
    local before
    tune apply --yes --only net.core.somaxconn >/dev/null
    before=$(picture)
    printf '4096\n' >"$TREE/proc/sys/net/core/somaxconn"
    tune apply --yes --only net.core.somaxconn >/dev/null
    run tune revert 000001
    exits 1
    has "000002-"
    has "revert that first"
    [[ $(value proc/sys/net/core/somaxconn) == 16384 ]]
    run tune revert --all
    exits 0
    [[ $(value proc/sys/net/core/somaxconn) == 4096 ]]
}

@test "a value that somebody changed since is left and named" {
    plant vm
    tune apply --yes >/dev/null
    printf '33\n' >"$TREE/proc/sys/vm/swappiness"
    printf '# mine\n' >>"$TREE/etc/sysctl.d/90-corelane.conf"
    run tune revert
    exits 1
    has "left      vm.swappiness                      somebody has changed it since: it is '33', we wrote '10', before it was '60'"
    has "left      sysctl.d"
    has "left 2"
    [[ $(value proc/sys/vm/swappiness) == 33 ]]
    [[ $(value proc/sys/net/core/somaxconn) == 4096 ]]
    # Once it is as we wrote it, the same command ends the work.
    printf '10\n' >"$TREE/proc/sys/vm/swappiness"
    run tune revert
    exits 1
    [[ $(value proc/sys/vm/swappiness) == 60 ]]
    run tune revert --all --forget
    exits 0
    run tune revert
    exits 0
    has "nothing to revert"
    [[ -e $TREE/etc/sysctl.d/90-corelane.conf ]]
}

@test "revert twice is revert once" {
    plant vm
    run tune revert
    exits 0
    has "nothing to revert"
    tune apply --yes >/dev/null
    local txid
    txid=$(basename "$TREE"/var/lib/corelane/tune/*.journal .journal)
    run tune revert "$txid"
    exits 0
    local after
    after=$(picture)
    run tune revert "$txid"
    exits 0
    has "was reverted before"
    run tune revert --all
    exits 0
    same "$after"
    run tune revert 000777
    exits 1
}

@test "killed before any of its syncs, the journal still reverts" {
    plant vm
    local before n=0
    before=$(picture)
    while n=$((n + 1)) && killed_at "$n" "$TUNE" apply --yes --only sysctl --root "$TREE"; do
        run tune revert --all
        exits 0
        same "$before"
        ((n < 60))
    done
    ((n > 8)) # it was killed at least as often as it writes
    run tune revert --all
    same "$before"
}

@test "killed after any of its syncs, the journal still reverts" {
    plant vm
    mkdir "$TREE/etc/systemd"
    local before n=0
    before=$(picture)
    while n=$((n + 1)) && AFTER=1 killed_at "$n" "$TUNE" apply --yes --only limits.unit,vm.swappiness --root "$TREE"; do
        run tune revert --all
        exits 0
        same "$before"
        ((n < 60))
    done
    ((n > 6))
}

@test "killed while it reverts, the same command ends the work" {
    plant vm
    local before n=0
    before=$(picture)
    tune apply --yes --only sysctl >/dev/null
    while n=$((n + 1)) && killed_at "$n" "$TUNE" revert --all --root "$TREE"; do ((n < 60)); done
    run tune revert --all
    exits 0
    same "$before"
}

@test "killed between a write and the line that says so, the journal still reverts" {
    plant vm
    local before journal
    before=$(picture)
    tune apply --yes --only sysctl >/dev/null
    journal=$(echo "$TREE"/var/lib/corelane/tune/*.journal)
    sed -i '/^D|/d' "$journal"
    run tune revert
    exits 0
    same "$before"
}

@test "killed in the middle of a write that takes its time, the lock holds until it has ended" {
    plant big
    local before pid journal
    before=$(picture)
    printf '1.5\n' >"$TREE/ethtool/eno1/slow"
    "$TUNE" apply --yes --only eno1.rss --root "$TREE" >/dev/null 3>&- &
    pid=$!
    for _ in {1..100}; do
        journal=$(echo "$TREE"/var/lib/corelane/tune/*.journal)
        if [[ -s $journal ]] && grep -q '^I|1|ethtool' "$journal"; then break; fi
        sleep 0.05
    done
    run tune apply --yes
    exits 1
    has "another tune is at work (process $pid)"
    kill -9 "$pid"
    wait "$pid" || true
    run tune revert
    exits 1
    has "another tune is at work"
    sleep 2
    rm "$TREE/ethtool/eno1/slow"
    [[ $(value ethtool/eno1/rss) == "equal 16" ]]
    run tune revert
    exits 0
    same "$before"
}

@test "asked to stop, it ends what it has begun and says what it has not done" {
    plant big
    local before pid
    before=$(picture)
    printf '1\n' >"$TREE/ethtool/eno1/slow"
    "$TUNE" apply --yes --only eno1.rss,net.core.somaxconn,xps --root "$TREE" >"$OWN/out" 3>&- &
    pid=$!
    for _ in {1..100}; do
        if grep -qs '^I|.*ethtool' "$TREE"/var/lib/corelane/tune/*.journal; then break; fi
        sleep 0.05
    done
    kill -TERM "$pid"
    wait "$pid" || true
    run cat "$OWN/out"
    has "not done: interrupted"
    has "Failed       0"
    rm "$TREE/ethtool/eno1/slow"
    run tune revert
    exits 0
    same "$before"
}

@test "after a boot the values are the kernel's own, also where they are what was written" {
    plant vm
    tune apply --yes >/dev/null
    printf '99999999-2222-3333-4444-555555555555\n' >"$TREE/proc/sys/kernel/random/boot_id"
    printf '45\n' >"$TREE/proc/sys/vm/swappiness" # the new kernel's own
    run tune revert
    exits 0
    has "left 0"
    [[ $(value proc/sys/vm/swappiness) == 45 ]]
    [[ $(value proc/sys/net/core/somaxconn) == 16384 ]]
    # Files outlast a boot, so they are taken back.
    [[ ! -e $TREE/etc/sysctl.d/90-corelane.conf ]]
}

@test "transactions of earlier boots of which nothing is left are closed" {
    plant vm
    local boot
    for boot in 1 2 3; do
        printf '%s\n' "$boot" >"$TREE/proc/sys/kernel/random/boot_id"
        printf '4096\n' >"$TREE/proc/sys/net/core/somaxconn"
        tune apply --yes --runtime-only --only net.core.somaxconn >/dev/null
    done
    [[ $(ls "$TREE"/var/lib/corelane/tune/*.journal | wc -l) == 1 ]]
}

@test "what has gone since, such as a card, is no failure" {
    plant big
    tune apply --yes --only xps,rss >/dev/null
    rm -r "$TREE/sys/class/net/eno1" "$TREE/sys/devices/pci0000:00/0000:04:00.0"
    run tune revert
    exits 0
}
