# Writing: what is changed, what never is, what fails.
# shellcheck disable=SC2012,SC2016,SC2030,SC2031,SC2115,SC2153,SC2143 # each test is a subshell; texts for others

load helper

@test "apply twice equals once" {
    local kind after
    for kind in big vm container; do
        plant "$kind"
        run tune apply --yes
        exits 0
        after=$(picture)
        run tune apply --yes
        exits 0
        has "Applied      0"
        same "$after"
        [[ $(ls "$TREE"/var/lib/corelane/tune/*.journal | wc -l) == 1 ]]
        teardown
    done
}

@test "nothing is ever lowered" {
    plant vm
    local key path
    # Better than asked for, each.
    for key in net.core.somaxconn=65535 net.ipv4.tcp_max_syn_backlog=99999 net.ipv4.tcp_max_tw_buckets=2000000 \
        net.ipv4.tcp_syncookies=2 fs.nr_open=1073741816 vm.swappiness=0; do
        path=proc/sys/${key%=*}
        printf '%s\n' "${key#*=}" >"$TREE/${path//.//}"
    done
    run tune apply --yes --only sysctl
    exits 0
    for key in net.core.somaxconn=65535 net.ipv4.tcp_max_syn_backlog=99999 net.ipv4.tcp_max_tw_buckets=2000000 \
        net.ipv4.tcp_syncookies=2 fs.nr_open=1073741816 vm.swappiness=0; do
        path=proc/sys/${key%=*}
        [[ $(value "${path//.//}") == "${key#*=}" ]]
    done
    # Nor by the file, which a later kernel reads.
    run cat "$TREE/etc/sysctl.d/90-corelane.conf"
    has_not somaxconn
    has_not nr_open
    has_not swappiness
    has slow_start_after_idle
}

@test "the file for the next boot has what was set, and not what the kernel has of itself" {
    plant vm
    # Also what an earlier apply has set until the next boot.
    tune apply --yes --runtime-only >/dev/null
    run tune check
    exits 2
    has "new file /etc/sysctl.d/90-corelane.conf"
    tune apply --yes >/dev/null
    run grep -v '^#' "$TREE/etc/sysctl.d/90-corelane.conf"
    has "net.core.somaxconn = 16384"
    has "vm.swappiness = 10"
    has_not nr_open
    has_not io_uring
    has_not zone_reclaim
    run tune check
    exits 0
}

@test "limits are not written where fs.nr_open stays below them" {
    needs_read_only
    plant vm
    printf '65536\n' >"$TREE/proc/sys/fs/nr_open"
    run with_read_only proc/sys/fs/nr_open "$TUNE" apply --yes --root "$TREE"
    exits 1
    has "not written: fs.nr_open could not be raised"
    [[ ! -e $TREE/etc/security/limits.d ]]
    run tune apply --yes
    exits 0
    grep -q '^@corelane - nofile 1048576$' "$TREE/etc/security/limits.d/90-corelane.conf"
}

@test "each figure of a triple is raised by itself, and none is lowered" {
    plant big
    printf '8192\t65536\t33554432\n' >"$TREE/proc/sys/net/ipv4/tcp_rmem"
    run tune apply --yes --only sysctl
    exits 0
    [[ $(value proc/sys/net/ipv4/tcp_rmem) == "8192 131072 33554432" ]]
    [[ $(value proc/sys/net/ipv4/tcp_wmem) == "4096 16384 16777216" ]]
    run tune apply --yes --only sysctl
    has "Applied      0"
}

@test "a range of ports is widened at both ends, and a wider one stays" {
    plant vm
    printf '2048\t40000\n' >"$TREE/proc/sys/net/ipv4/ip_local_port_range"
    tune apply --yes --profile loadgen >/dev/null
    [[ $(value proc/sys/net/ipv4/ip_local_port_range) == "2048 65535" ]]
    tune revert >/dev/null
    [[ $(value proc/sys/net/ipv4/ip_local_port_range) == "2048 40000" ]]
    printf '1100\t60000\n' >"$TREE/proc/sys/net/ipv4/ip_local_port_range"
    tune apply --yes --profile loadgen >/dev/null
    [[ $(value proc/sys/net/ipv4/ip_local_port_range) == "1100 60000" ]]
}

@test "limits that other files give are not lowered" {
    plant big
    mkdir -p "$TREE/etc/systemd/system/corelane.service.d"
    printf '[Service]\nLimitNOFILE=2000000\nLimitMEMLOCK=infinity\n' >"$TREE/etc/systemd/system/corelane.service"
    printf '@corelane hard nofile 3000000\n' >"$TREE/etc/security/limits.d/10-more.conf"
    tune apply --yes --only limits >/dev/null
    [[ ! -e $TREE/etc/systemd/system/corelane.service.d/90-tune.conf ]]
    grep -q '^@corelane - nofile 3000000$' "$TREE/etc/security/limits.d/90-corelane.conf"
    printf '[Service]\nLimitNOFILE=1024:4096\n' >"$TREE/etc/systemd/system/corelane.service.d/20-less.conf"
    tune apply --yes --only limits >/dev/null
    grep -q '^LimitNOFILE=1048576$' "$TREE/etc/systemd/system/corelane.service.d/90-tune.conf"
    run grep MEMLOCK "$TREE/etc/systemd/system/corelane.service.d/90-tune.conf"
    exits 1
}

@test "a drop-in of ours that is not needed any more goes, as it would win over more" {
    plant big
    local drop=$TREE/etc/systemd/system/corelane.service.d/90-tune.conf before
    tune apply --yes --only limits >/dev/null
    [[ -e $drop ]]
    mkdir -p "$TREE/usr/local/lib/systemd/system"
    printf '[Service]\nLimitNOFILE=2000000\nLimitMEMLOCK=infinity\n' >"$TREE/usr/local/lib/systemd/system/corelane.service"
    before=$(picture)
    run tune check --only limits
    exits 2
    has "removes /etc/systemd/system/corelane.service.d/90-tune.conf"
    run tune apply --yes --only limits
    exits 0
    [[ ! -e $drop ]]
    run tune check --only limits
    exits 0
    tune revert >/dev/null
    same "$before"
}

@test "a drop-in that is read after ours and sets less is shadowed, not ok" {
    plant big
    mkdir -p "$TREE/etc/systemd/system/corelane.service.d"
    printf '[Service]\nLimitNOFILE=4096\n' >"$TREE/etc/systemd/system/corelane.service.d/override.conf"
    tune apply --yes --only limits >/dev/null
    run tune check --only limits
    exits 0
    has "shadowed by /etc/systemd/system/corelane.service.d/override.conf, which sets LimitNOFILE=4096"
    has "profile server: 1 as wanted, 0 drifted, 1 skipped, 1 shadowed"
    run tune check --only limits --strict
    exits 2
    # One that sets more is none.
    printf '[Service]\nLimitNOFILE=4000000\n' >"$TREE/etc/systemd/system/corelane.service.d/override.conf"
    tune apply --yes --only limits >/dev/null
    run tune check --only limits --strict
    exits 0
}

@test "a limit of open files for everybody is not lowered for the group" {
    plant big
    printf '* hard nofile 4000000\n* soft nofile 5000000\n' >"$TREE/etc/security/limits.d/10-all.conf"
    tune apply --yes --only limits >/dev/null
    grep -q '^@corelane - nofile 4000000$' "$TREE/etc/security/limits.d/90-corelane.conf"
}

@test "a knob that cannot be written is Failed and named, and the others are applied" {
    needs_read_only
    plant vm
    run with_read_only proc/sys/vm/swappiness "$TUNE" apply --yes --root "$TREE"
    exits 1
    has "Failed       1"
    has "vm.swappiness"
    has "(wanted 10, it was 60)"
    [[ $(value proc/sys/net/core/somaxconn) == 16384 ]]
    [[ $(value proc/sys/vm/swappiness) == 60 ]]
    # What the kernel refused is not kept for the next boot.
    run grep swappiness "$TREE/etc/sysctl.d/90-corelane.conf"
    exits 1
}

@test "a half-failed apply can be reverted" {
    needs_read_only
    plant vm
    local before
    before=$(picture | grep -v swappiness)
    run with_read_only proc/sys/vm/swappiness "$TUNE" apply --yes --root "$TREE"
    exits 1
    run tune revert
    exits 0
    diff <(printf '%s\n' "$before") <(picture | grep -v swappiness)
    [[ $(value proc/sys/vm/swappiness) == 60 ]]
}

@test "a directory in the place of a knob is named, not written to" {
    plant vm
    rm "$TREE/proc/sys/vm/swappiness"
    mkdir "$TREE/proc/sys/vm/swappiness"
    run tune apply --yes
    exits 0
    has "vm.swappiness                      is not a file"
}

@test "a value that the card takes and does not keep is Failed" {
    plant big
    touch "$TREE/ethtool/eno1/deaf"
    local before
    before=$(picture)
    run tune apply --yes --profile lowlat --only 'eno1.*usecs'
    exits 1
    has "eno1.rx-usecs                      was written, and is still '32' (wanted 8, it was 32)"
    same "$before"
}

@test "what resets a link waits for --disruptive, and then interrupts follow the new queues" {
    plant big
    run tune apply --yes --only nic-queues,rss
    exits 0
    has "add --disruptive"
    [[ $(value ethtool/eno1/combined) == 16 ]]
    run tune apply --yes --only nic-queues,rss --disruptive
    exits 0
    [[ $(value ethtool/eno1/combined) == 32 ]]
    [[ $(value ethtool/eno1/rss) == "equal 32" ]]
}

@test "more queues than shards are not taken away" {
    plant big
    run tune apply --yes --disruptive --cpus 0-3 --nics eno1
    exits 0
    [[ $(value ethtool/eno1/combined) == 16 ]]
    [[ $(value proc/irq/205/smp_affinity_list) == 1 ]] # queue 5 of 4 shards
}

@test "queue i is on the CPU of shard i: interrupt, sends, and no RPS" {
    plant big
    tune apply --yes >/dev/null
    [[ $(value proc/irq/101/smp_affinity_list) == 0 ]]
    [[ $(value proc/irq/132/smp_affinity_list) == 31 ]]
    [[ $(value proc/irq/100/smp_affinity_list) == 0-63 ]] # not of a queue
    [[ $(value sys/class/net/ens1f0np0/queues/tx-5/xps_cpus) == 20,00000020 ]]
    [[ $(value sys/class/net/ens1f0np0/queues/rx-5/rps_cpus) == 00000000,00000000 ]]
    # The other card has 16 queues for 32 shards.
    [[ $(value sys/class/net/eno1/queues/rx-5/rps_cpus) == 200020 ]]
    [[ $(value sys/class/net/eno1/queues/rx-5/rps_flow_cnt) == 2048 ]]
    [[ $(value proc/sys/net/core/rps_sock_flow_entries) == 32768 ]]
    # The one that is down is not touched.
    [[ $(value sys/class/net/eno2/queues/rx-0/rps_cpus) == 00000000,00000000 ]]
}

@test "irqbalance keeps what its administrator set, and only ours is written" {
    plant big
    local before
    before=$(sha256sum "$TREE/etc/default/irqbalance")
    printf '40\n' >"$TREE/sys/devices/system/cpu/isolated"
    printf '(null)\n' >"$TREE/sys/devices/system/cpu/nohz_full"
    INVOCATION_ID=1 tune apply --yes --only irqbalance,irq >/dev/null
    run cat "$TREE/run/corelane-tune/irqbalance.env"
    has "IRQBALANCE_BANNED_CPULIST=0-31,40,62-63"
    has 'IRQBALANCE_ARGS="--deepestcache=2 --banirq=200'
    has "--banirq=132"
    has_not "--banirq=100 "
    [[ $before == "$(sha256sum "$TREE/etc/default/irqbalance")" ]]
    run cat "$OWN/a tree.systemctl"
    has "daemon-reload"
    has "--no-block try-restart irqbalance.service"
}

@test "irqbalance is kept only from interrupts that are set, and knows it before they are moved" {
    plant big
    tune apply --yes --skip irq >/dev/null
    [[ ! -e $TREE/run/corelane-tune ]]
    teardown
    plant big
    run tune apply --yes --only irq,irqbalance --skip eno1.irq.200
    exits 0
    has "Failed       0"
    has_not "scripts/tune: line"
    run cat "$TREE/run/corelane-tune/irqbalance.env"
    has_not "--banirq=200 "
    has "--banirq=201 "
    teardown
    plant big
    # Where an interrupt was when irqbalance was started anew.
    printf '#!/bin/sh\necho "$* $(cat "$TUNE_TREE/proc/irq/205/smp_affinity_list")" >>"$TUNE_TREE.systemctl"\n' >"$TREE/usr/bin/systemctl"
    env -u INVOCATION_ID "$TUNE" apply --yes --only irq,irqbalance --root "$TREE" >/dev/null
    [[ $(<"$OWN/a tree.systemctl") == $'daemon-reload 0-63\ntry-restart irqbalance.service 0-63' ]]
    [[ $(value proc/irq/205/smp_affinity_list) == 5 ]]
}

@test "lowlat keeps everything else off the CPUs of shards, and not a node that runs" {
    plant big
    tune apply --yes --profile lowlat --only cpuset,workqueue >/dev/null
    grep -q '^AllowedCPUs=32-63$' "$TREE/etc/systemd/system/system.slice.d/90-corelane.conf"
    [[ $(value sys/fs/cgroup/user.slice/cpuset.cpus) == 32-63 ]]
    [[ $(value sys/devices/virtual/workqueue/cpumask) == ffffffff,00000000 ]]
    teardown
    plant big
    mkdir -p "$TREE/sys/fs/cgroup/system.slice/corelane.service"
    run tune apply --yes --profile lowlat --only cpuset
    exits 0
    has "systemctl stop corelane"
    [[ ! -e $TREE/etc/systemd/system/system.slice.d ]]
}

@test "io_uring is opened for the group of the service, never for all" {
    plant vm
    printf '2\n' >"$TREE/proc/sys/kernel/io_uring_disabled"
    run tune apply --yes --only io_uring
    exits 0
    [[ $(value proc/sys/kernel/io_uring_disabled) == 1 ]]
    [[ $(value proc/sys/kernel/io_uring_group) == 990 ]]
    tune revert >/dev/null
    [[ $(value proc/sys/kernel/io_uring_disabled) == 2 ]]
    # Another group has it.
    printf '1\n' >"$TREE/proc/sys/kernel/io_uring_disabled"
    printf '7\n' >"$TREE/proc/sys/kernel/io_uring_group"
    run tune apply --yes --only io_uring
    has "usermod -aG"
    [[ $(value proc/sys/kernel/io_uring_group) == 7 ]]
    # There is no group yet.
    printf 'root:x:0:\n' >"$TREE/etc/group"
    run tune plan --only io_uring
    has "groupadd --system corelane"
}

@test "a container changes what is its own, and says what is the host's" {
    plant container
    run tune apply --yes
    exits 0
    [[ $(value proc/sys/net/core/somaxconn) == 16384 ]]
    [[ $(value proc/sys/vm/swappiness) == 60 ]]
    has "set it on the host, not in a container (docker)"
    [[ ! -e $TREE/etc/sysctl.d ]]
    run tune plan
    has "7 times throttled"
}

@test "the boot unit runs the same choice again, and its stop takes it back" {
    plant big
    tune apply --yes --skip irqbalance,thp --cpus 0-15 --nics eno1 >/dev/null
    run cat "$TREE/etc/systemd/system/corelane-tune.service"
    has "apply --yes --runtime-only --profile server --skip irqbalance,thp --cpus 0-15 --nics eno1"
    has "revert --all --runtime-only"
    [[ $(readlink "$TREE/etc/systemd/system/multi-user.target.wants/corelane-tune.service") == ../corelane-tune.service ]]
    if command -v systemd-analyze >/dev/null; then
        run systemd-analyze verify "$TREE/etc/systemd/system/corelane-tune.service"
        exits 0
        has_not "ignoring"
    fi
    # What stop does: the values go back, the files stay.
    tune revert --all --runtime-only >/dev/null
    [[ $(value proc/sys/net/core/somaxconn) == 4096 ]]
    [[ $(value proc/irq/205/smp_affinity_list) == 0-63 ]]
    [[ -e $TREE/etc/sysctl.d/90-corelane.conf ]]
    tune revert --all >/dev/null
    [[ ! -e $TREE/etc/sysctl.d/90-corelane.conf ]]
}

@test "at a boot a card that was named and is missing is Failed, and all else is done" {
    plant big
    tune apply --yes --nics eno1 >/dev/null
    run cat "$TREE/etc/systemd/system/corelane-tune.service"
    has $'\nWants=network-online.target\nAfter=systemd-sysctl.service network-online.target\n'
    teardown
    plant big
    run tune apply --yes --runtime-only --nics eno1,eth7
    exits 1
    has "Failed       1"
    has "eth7                               no such device"
    [[ $(value proc/irq/205/smp_affinity_list) == 5 ]]
    [[ $(value proc/sys/net/core/somaxconn) == 16384 ]]
    # Typed by hand it is a mistake.
    run tune apply --yes --nics eth7
    exits 1
    has "--nics: no device 'eth7'"
}

@test "--runtime-only leaves no file in /etc" {
    plant big
    local before
    before=$(cd "$TREE/etc" && find . | sort)
    tune apply --yes --runtime-only --profile lowlat --nics eno1 --skip governor >/dev/null
    [[ $before == "$(cd "$TREE/etc" && find . | sort)" ]]
    run tune check --runtime-only --profile lowlat --nics eno1 --skip governor
    exits 0
}

@test "--only and --skip take tuners, settings and patterns" {
    plant big
    tune apply --yes --only net.core.somaxconn,'eno1.xps.tx-?' --skip eno1.xps.tx-3 >/dev/null
    [[ $(value proc/sys/net/core/somaxconn) == 16384 ]]
    [[ $(value proc/sys/vm/swappiness) == 60 ]]
    [[ $(value sys/class/net/eno1/queues/tx-2/xps_cpus) == 40004,00040004 ]]
    [[ $(value sys/class/net/eno1/queues/tx-3/xps_cpus) == 00000000,00000000 ]]
    [[ ! -e $TREE/etc/systemd/system/corelane-tune.service ]]
}

@test "a file with our name that somebody else wrote comes back" {
    plant vm
    printf 'vm.dirty_ratio = 5\n' >"$TREE/etc/sysctl.d/90-corelane.conf"
    chmod 640 "$TREE/etc/sysctl.d/90-corelane.conf"
    local before
    before=$(picture)
    run tune plan
    has "which tune did not write; revert brings it back"
    tune apply --yes >/dev/null
    tune revert >/dev/null
    same "$before"
}

@test "a table that says what was done is printed also where nobody listens" {
    plant vm
    tune apply --yes | head -n 1
    run tune check
    exits 0
}
