#!/usr/bin/env bash
# Builds the trees that scripts/tune is tested on: hosts, as far as tune looks at them.
#
#   big        bare metal: 2 memory nodes, 32 cores of 2 threads, an mlx5 and an ixgbe card, cpufreq, systemd, irqbalance,
#              tuned, and sysctl files as they are found in the wild
#   vm         2 CPUs, one virtio card with one queue, no cpufreq, no systemd; marks of a container that mean nothing
#   container  what a container sees: kernel settings of its own network namespace, all others the host's
#
# Files below proc/ and sys/ are plain files: nothing in them reacts. Programs of a tree (ethtool, systemctl) are stand-ins
# that keep what they are told in files.
set -euo pipefail

usage() {
    printf 'usage: tests/tune/trees.sh big|vm|container DIR\n\nBuilds one tree in DIR, which must not be there yet.\n'
}

# put PATH TEXT: one file, with its directories.
put() {
    local dir=$TREE/${1%/*}
    [[ -d $dir ]] || mkdir -p "$dir"
    printf '%s\n' "$2" >"$TREE/$1"
}

# sysctls KEY VALUE...
sysctls() {
    while (($#)); do
        put "proc/sys/${1//.//}" "$2"
        shift 2
    done
}

# What any Linux shows: settings of the first network namespace and of the machine.
common() {
    sysctls net.core.somaxconn 4096 net.ipv4.tcp_max_syn_backlog 2048 net.ipv4.tcp_syncookies 1 \
        net.ipv4.tcp_max_tw_buckets 131072 net.ipv4.tcp_slow_start_after_idle 1 net.ipv4.tcp_tw_reuse 2 \
        net.ipv4.tcp_timestamps 1 net.ipv4.ip_local_port_range $'32768\t60999' net.ipv4.tcp_congestion_control cubic \
        net.ipv4.tcp_rmem $'4096\t131072\t6291456' net.ipv4.tcp_wmem $'4096\t16384\t4194304' \
        fs.nr_open 1048576 vm.swappiness 60 vm.zone_reclaim_mode 0 kernel.io_uring_disabled 0 kernel.io_uring_group -1 \
        kernel.osrelease 6.18.44 kernel.random.boot_id 11111111-2222-3333-4444-555555555555
    mkdir -p "$TREE"/{etc,run,var/lib,usr/bin,usr/sbin,proc/irq,proc/self/ns,sys/class/net}
    ln -s 'pid:[4026531836]' "$TREE/proc/self/ns/pid"
    put etc/group $'root:x:0:\ncorelane:x:990:'
}

# What only the first network namespace, and what only a machine has.
machine() {
    sysctls net.core.netdev_max_backlog 1000 net.core.rps_sock_flow_entries 0 net.core.default_qdisc pfifo_fast \
        vm.stat_interval 1 vm.compaction_proactiveness 20 kernel.nmi_watchdog 1 kernel.timer_migration 1 \
        kernel.numa_balancing 1
    put sys/kernel/mm/transparent_hugepage/enabled '[always] madvise never'
    put sys/kernel/mm/transparent_hugepage/defrag 'always defer defer+madvise [madvise] never'
    put proc/cmdline 'BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet'
    put proc/stat 'cpu  10 0 10 1000 0 0 0 0 0 0'
    put etc/security/limits.conf '# nothing'
}

# cpu N NODE SIBLINGS CACHE
cpu() {
    put "sys/devices/system/cpu/cpu$1/topology/thread_siblings_list" "$3"
    put "sys/devices/system/cpu/cpu$1/cache/index3/shared_cpu_list" "$4"
}

# card NAME PCI DRIVER QUEUES NODE SPEED: a device with its queues; interrupts are added by `interrupt`.
card() {
    local device=sys/devices/pci0000:00/$2 i zeros
    mkdir -p "$TREE/$device/msi_irqs" "$TREE/$device/net/$1" "$TREE/sys/bus/pci/drivers/$3"
    ln -s "../../devices/pci0000:00/$2/net/$1" "$TREE/sys/class/net/$1"
    ln -s ../../../"$2" "$TREE/$device/net/$1/device"
    ln -s ../../../bus/pci/drivers/"$3" "$TREE/$device/driver"
    put "$device/numa_node" "$5"
    put "$device/net/$1/operstate" up
    put "$device/net/$1/speed" "$6"
    zeros=0
    ((CPUS > 32)) && zeros=00000000,00000000
    for ((i = 0; i < $4; i++)); do
        put "$device/net/$1/queues/rx-$i/rps_cpus" "$zeros"
        put "$device/net/$1/queues/rx-$i/rps_flow_cnt" 0
        put "$device/net/$1/queues/tx-$i/xps_cpus" "$zeros"
    done
}

# interrupt NUMBER NAME PCI: one of a card.
interrupt() {
    INTERRUPTS+=$(printf '%4d: %10d %10d  PCI-MSIX-0000:%s   %d-edge      %s' "$1" 0 7 "$3" "$1" "$2")$'\n'
    put "proc/irq/$1/smp_affinity_list" "0-$((CPUS - 1))"
    put "proc/irq/$1/effective_affinity_list" 1
    put "sys/devices/pci0000:00/$3/msi_irqs/$1" msix
}

# program PATH: a stand-in, from standard input.
program() {
    mkdir -p "$TREE/${1%/*}"
    cat >"$TREE/$1"
    chmod 755 "$TREE/$1"
}

big() {
    local i node
    CPUS=64
    common
    machine
    put sys/devices/system/cpu/online 0-63
    put sys/devices/system/cpu/smt/active 1
    for ((i = 0; i < 64; i++)); do
        node=$((i % 32 / 16))
        cpu "$i" "$node" "$((i % 32)),$((i % 32 + 32))" "$((node * 16))-$((node * 16 + 15)),$((node * 16 + 32))-$((node * 16 + 47))"
        put "sys/devices/system/cpu/cpufreq/policy$i/scaling_governor" powersave
        put "sys/devices/system/cpu/cpufreq/policy$i/scaling_available_governors" 'performance powersave'
        put "sys/devices/system/cpu/cpufreq/policy$i/energy_performance_preference" balance_performance
        put "sys/devices/system/cpu/cpufreq/policy$i/energy_performance_available_preferences" \
            'default performance balance_performance balance_power power'
    done
    put sys/devices/system/node/node0/cpulist 0-15,32-47
    put sys/devices/system/node/node1/cpulist 16-31,48-63
    for node in 0 1; do put "sys/devices/system/node/node$node/hugepages/hugepages-2048kB/nr_hugepages" 0; done
    for i in 0 1 2; do
        put "sys/devices/system/cpu/cpu0/cpuidle/state$i/latency" "$((i * 85))"
        put "sys/devices/system/cpu/cpu0/cpuidle/state$i/disable" 0
    done
    put sys/devices/system/cpu/vulnerabilities/spectre_v2 'Mitigation: Enhanced IBRS'
    put sys/devices/system/clocksource/clocksource0/current_clocksource hpet
    put sys/devices/system/clocksource/clocksource0/available_clocksource 'tsc hpet acpi_pm '
    put sys/devices/virtual/workqueue/cpumask ffffffff,ffffffff
    put sys/devices/virtual/workqueue/writeback/cpumask ffffffff,ffffffff
    put sys/fs/cgroup/cgroup.controllers 'cpuset cpu io memory pids'
    put sys/fs/cgroup/cpu.stat $'usage_usec 1\nnr_periods 0\nnr_throttled 0'
    for i in system.slice user.slice init.scope; do put "sys/fs/cgroup/$i/cpuset.cpus" ''; done
    put proc/cpuinfo $'processor\t: 0\nflags\t\t: fpu vme sse2 constant_tsc nonstop_tsc\n'
    INTERRUPTS=$'            CPU0       CPU1\n'
    card ens1f0np0 0000:3b:00.0 mlx5_core 32 1 100000
    interrupt 100 mlx5_async0@pci:0000:3b:00.0 0000:3b:00.0
    for ((i = 0; i < 32; i++)); do interrupt $((101 + i)) "mlx5_comp$i@pci:0000:3b:00.0" 0000:3b:00.0; done
    card eno1 0000:04:00.0 ixgbe 16 0 10000
    for ((i = 0; i < 16; i++)); do interrupt $((200 + i)) "eno1-TxRx-$i" 0000:04:00.0; done
    interrupt 216 eno1 0000:04:00.0
    put proc/interrupts "${INTERRUPTS}NMI:          0          0   Non-maskable interrupts"
    card eno2 0000:04:00.1 ixgbe 2 0 10000
    put sys/devices/pci0000:00/0000:04:00.1/net/eno2/operstate down
    mkdir -p "$TREE/sys/devices/virtual/net/lo"
    ln -s ../../devices/virtual/net/lo "$TREE/sys/class/net/lo"

    mkdir -p "$TREE"/{etc/systemd/system/multi-user.target.wants,run/systemd/system,etc/security/limits.d,etc/sysctl.d}
    # shellcheck disable=SC2016 # systemd expands it
    put usr/lib/systemd/system/irqbalance.service '[Unit]
Description=irqbalance daemon
[Service]
EnvironmentFile=-/usr/lib/irqbalance/defaults.env
EnvironmentFile=-/etc/default/irqbalance
ExecStart=/usr/sbin/irqbalance --foreground $IRQBALANCE_ARGS'
    put etc/default/irqbalance $'# IRQBALANCE_ARGS=\nIRQBALANCE_ARGS="--deepestcache=2"\nIRQBALANCE_BANNED_CPULIST=62-63'
    put usr/lib/sysctl.d/50-default.conf $'-net.ipv4.conf.all.rp_filter = 2\nkernel.sysrq = 16'
    put etc/sysctl.conf $'# tuning of 2014\nnet.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_low_latency=1\nnet.core.somaxconn = 1024'
    ln -s ../sysctl.conf "$TREE/etc/sysctl.d/99-sysctl.conf"
    put etc/sysctl.d/10-site.conf $'net.ipv4.tcp_max_tw_buckets = 5000\nvm/swappiness = 30'
    put etc/tuned/active_profile network-latency
    put usr/lib/tuned/network-latency/tuned.conf $'[main]\ninclude=latency-performance\n[sysctl]\nkernel.numa_balancing=0\n[vm]\ntransparent_hugepages=never'
    put usr/lib/tuned/latency-performance/tuned.conf $'[sysctl]\nvm.swappiness=10\n[cpu]\ngovernor=performance'

    put ethtool/ens1f0np0/combined 16
    put ethtool/ens1f0np0/most 63
    put ethtool/eno1/combined 16
    put ethtool/eno1/most 63
    for i in ens1f0np0 eno1; do
        put "ethtool/$i/adaptive-rx" on
        put "ethtool/$i/adaptive-tx" on
        put "ethtool/$i/rx-usecs" 32
    done
    put ethtool/ens1f0np0/rss 'equal 32'
    put ethtool/eno1/rss 'weight 100 20 8'
    ethtool_stand_in
    program usr/bin/systemctl <<'SYSTEMCTL'
#!/bin/sh
echo "$*" >>"$TUNE_TREE.systemctl"
SYSTEMCTL
}

# A card of these trees, as ethtool 6 shows it. ethtool/DEVICE/slow makes it take its time when it sets something;
# ethtool/DEVICE/deaf makes it accept and do nothing.
ethtool_stand_in() {
    program usr/sbin/ethtool <<'ETHTOOL'
#!/usr/bin/env bash
dir=$TUNE_TREE/ethtool/$2
[[ -d $dir ]] || { echo "netlink error: no device matches name"; exit 1; }
get() { cat "$dir/$1"; }
set_one() {
    if [[ -e $dir/slow ]]; then sleep "$(<"$dir/slow")"; fi
    if [[ -e $dir/deaf ]]; then exit 0; fi
    printf '%s\n' "$2" >"$dir/$1"
}
case $1 in
    -l) printf 'Channel parameters for %s:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t%s\nCurrent hardware settings:\nRX:\t\tn/a\nCombined:\t%s\n' "$2" "$(get most)" "$(get combined)" ;;
    -L) set_one combined "$4" ;;
    -c) printf 'Coalesce parameters for %s:\nAdaptive RX: %s  TX: %s\nrx-usecs:\t%s\nrx-frames:\tn/a\n' "$2" "$(get adaptive-rx)" "$(get adaptive-tx)" "$(get rx-usecs)" ;;
    -C) set_one "$3" "$4" ;;
    -x)
        [[ -e $dir/rss ]] || { echo "Cannot get RX flow hash settings: Operation not supported" >&2; exit 1; }
        read -r kind numbers <"$dir/rss"
        table=()
        case $kind in
            equal) for ((i = 0; i < 128; i++)); do table+=($((i % numbers))); done ;;
            weight)
                queue=0
                for n in $numbers; do
                    for ((i = 0; i < n; i++)); do table+=("$queue"); done
                    queue=$((queue + 1))
                done
                ;;
            *) table=($numbers) ;;
        esac
        printf 'RX flow hash indirection table for %s with %s RX ring(s):\n' "$2" "$(get combined)"
        for ((i = 0; i < ${#table[@]}; i += 8)); do
            printf '%5d: ' "$i"
            printf ' %5d' "${table[@]:i:8}"
            printf '\n'
        done
        printf 'RSS hash key:\n6d:5a:56:da\n'
        ;;
    -X) shift 2 && set_one rss "$*" ;;
    *) exit 1 ;;
esac
ETHTOOL
}

vm() {
    CPUS=2
    common
    machine
    sysctls net.ipv4.tcp_rmem $'4096\t131072\t33554432' kernel.numa_balancing 0 kernel.nmi_watchdog 0
    put sys/devices/system/cpu/online 0-1
    put sys/devices/system/cpu/smt/active 0
    cpu 0 0 0 0-1
    cpu 1 0 1 0-1
    put sys/devices/system/node/node0/cpulist 0-1
    put sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages 0
    put sys/kernel/mm/transparent_hugepage/enabled 'always [madvise] never'
    put sys/devices/system/clocksource/clocksource0/current_clocksource kvm-clock
    put sys/devices/system/clocksource/clocksource0/available_clocksource 'kvm-clock tsc '
    put sys/devices/virtual/workqueue/cpumask 3
    put sys/devices/virtual/workqueue/writeback/cpumask 3
    put proc/cpuinfo $'processor\t: 0\nflags\t\t: fpu hypervisor sse2\n'
    put proc/stat 'cpu  10 0 10 1000 0 0 0 55 0 0'
    INTERRUPTS=$'            CPU0       CPU1\n'
    card eth0 0000:00:03.0 virtio_net 1 -1 -1
    interrupt 37 virtio2-config 0000:00:03.0
    interrupt 38 virtio2-input.0 0000:00:03.0
    interrupt 39 virtio2-output.0 0000:00:03.0
    # One queue: the kernel gives no mask to send by.
    : >"$TREE/sys/devices/pci0000:00/0000:00:03.0/net/eth0/queues/tx-0/xps_cpus"
    put proc/interrupts "$INTERRUPTS"
    put ./.dockerenv ''
    mkdir -p "$TREE/etc/sysctl.d"
    put etc/sysctl.conf '# nothing'
    ln -s ../sysctl.conf "$TREE/etc/sysctl.d/99-sysctl.conf"
}

container() {
    CPUS=4
    common
    ln -sfn 'pid:[4026532500]' "$TREE/proc/self/ns/pid"
    put ./.dockerenv ''
    put sys/devices/system/cpu/online 0-3
    local i
    for i in 0 1 2 3; do cpu "$i" 0 "$i" 0-3; done
    put sys/devices/system/node/node0/cpulist 0-3
    put sys/kernel/mm/transparent_hugepage/enabled '[always] madvise never'
    put proc/cpuinfo $'processor\t: 0\nflags\t\t: fpu sse2\n'
    put sys/fs/cgroup/cpu.stat $'usage_usec 1\nnr_periods 100\nnr_throttled 7'
    mkdir -p "$TREE/sys/devices/virtual/net/eth0/queues/rx-0"
    ln -s ../../devices/virtual/net/eth0 "$TREE/sys/class/net/eth0"
}

case ${1:-} in
    big | vm | container) ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
esac
(($# == 2)) || { usage >&2 && exit 2; }
[[ ! -e $2 ]] || { printf '%s is there already\n' "$2" >&2 && exit 2; }
mkdir -p "$2"
TREE=$(cd "$2" && pwd -P)
INTERRUPTS=
"$1"
