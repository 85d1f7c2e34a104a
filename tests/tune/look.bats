# Commands that only look: plan, check, explain, list, export.
# shellcheck disable=SC2012,SC2016,SC2030,SC2031,SC2115,SC2153,SC2143 # each test is a subshell; texts for others

load helper

@test "plan has no effect" {
    local kind profile before
    for kind in big vm container; do
        plant "$kind"
        before=$(picture)
        for profile in server loadgen lowlat; do
            run tune plan --profile "$profile"
            exits 0
        done
        same "$before"
        [[ ! -e $TREE/var/lib/corelane ]]
        teardown
    done
}

@test "plan is the default, and no other looking command has an effect" {
    plant vm
    local before
    before=$(picture)
    run tune
    exits 0
    has "nothing has been"
    run tune check
    run tune check --json --strict
    run tune list
    run tune explain irq
    for format in sysctl ansible script tuned; do
        run tune export --format $format
        exits 0
    done
    same "$before"
}

@test "plan says what would change, why, and when that hurts" {
    plant vm
    run tune plan
    has "AllowedCPUs and isolcpus are not considered: --cpus says otherwise"
    has "net.core.somaxconn                 4096 -> 16384"
    has "why     A burst of new connections"
    has "harm    A longer queue hides"
    has "as-is   net.ipv4.tcp_syncookies"
}

@test "a knob that is absent is N/A, not a failure" {
    plant vm
    rm "$TREE/proc/sys/net/core/somaxconn" "$TREE/sys/kernel/mm/transparent_hugepage/enabled"
    run tune plan
    exits 0
    has "N/A     net.core.somaxconn: absent here"
    run tune apply --yes
    exits 0
    has "net.core.somaxconn                 N/A: absent here"
    has "Failed       0"
    [[ ! -e $TREE/proc/sys/net/core/somaxconn ]]
}

@test "a tree without /proc and /sys is all N/A" {
    OWN=$(mktemp -d "$TREES/test.XXXXXX") TREE=$OWN/tree
    mkdir "$TREE"
    run tune plan
    exits 0
    run tune check
    exits 0
    run tune apply --yes --profile lowlat
    exits 0
    has "Applied      0"
    [[ -z $(find "$TREE" -type f -not -path '*/var/lib/*') ]]
}

@test "check answers with 0, 2 or 1" {
    plant vm
    run tune check
    exits 2
    tune apply --yes >/dev/null
    run tune check
    exits 0
    run tune check --strict
    exits 2
    run tune check --profile nonsense
    exits 1
    run tune check --bogus
    exits 1
    run "$TUNE" check --root "$OWN/nowhere"
    exits 1
}

@test "check answers with 1 if something could not be looked at, and strictly also without a tool" {
    plant big
    printf '#!/bin/sh\necho "netlink error: Operation not permitted"\nexit 1\n' >"$TREE/usr/sbin/ethtool"
    run tune check --profile lowlat --only eno1.rx-usecs
    exits 1
    has "Some could not be looked at"
    run tune check --profile lowlat --only eno1.rx-usecs --json
    exits 1
    has '"compliant":false'
    # What has drifted is known to have.
    run tune check --profile lowlat --only eno1.rx-usecs,net.core.somaxconn
    exits 2
    rm "$TREE/usr/sbin/ethtool"
    run tune check --profile lowlat --only eno1.rx-usecs
    exits 0
    run tune check --profile lowlat --only eno1.rx-usecs --strict
    exits 1
}

@test "no program of another root is run unasked" {
    plant big
    printf '#!/bin/sh\ntouch "%s/run"\n' "$OWN" >"$TREE/usr/sbin/ethtool"
    cp "$TREE/usr/sbin/ethtool" "$TREE/usr/bin/systemctl"
    TUNE_TREE_PROGRAMS='' run tune apply --yes --profile lowlat --only coalesce,cpuset
    exits 0
    has "ethtool is not run below another root"
    [[ -e $TREE/etc/systemd/system/corelane.slice && ! -e $OWN/run ]]
    tune apply --yes --profile lowlat --only coalesce >/dev/null || true
    [[ -e $OWN/run ]] # the test would have seen it
}

@test "check --json is JSON, whatever is in the files" {
    plant big
    printf 'net.ipv4.tcp_fack = "a\\b\t\001\377\n' >"$TREE/etc/sysctl.d/50-odd.conf"
    tune check --json >"$OWN/out" || (($? == 2))
    python3 - "$OWN/out" <<'PYTHON'
import json, sys
got = json.load(open(sys.argv[1]))
assert got["version"] == 1 and got["compliant"] is False and len(got["shards"]) == 32, got["shards"]
knobs = {knob["id"]: knob for knob in got["knobs"]}
assert len(knobs) == len(got["knobs"]), "ids are not unique"
assert knobs["net.core.somaxconn"]["state"] == "drift" and knobs["net.core.somaxconn"]["wanted"] == "16384"
assert sum(got["summary"][state] for state in ("ok", "drift", "skipped", "warn", "info", "unsupported", "na")) == len(knobs)
PYTHON
}

@test "a file of sysctl.d that is read after ours is named with its line" {
    plant vm
    printf '\n# mine\nnet.core.somaxconn = 512\nvm.swappiness = 5\n' >"$TREE/etc/sysctl.d/95-mine.conf"
    printf 'net.ipv4.tcp_max_syn_backlog = 1\n' >"$TREE/etc/sysctl.d/50-before.conf"
    run tune plan
    has "shadowed by /etc/sysctl.d/95-mine.conf:3, which sets 512"
    has_not "95-mine.conf:4" # better than asked for
    has_not "50-before.conf"
    # The same name in /etc hides the one of the distribution.
    mkdir -p "$TREE/usr/lib/sysctl.d"
    printf 'vm.zone_reclaim_mode = 1\n' >"$TREE/usr/lib/sysctl.d/95-mine.conf"
    printf 'net/ipv4/tcp_slow_start_after_idle=1\n' >"$TREE/usr/lib/sysctl.d/96-slashes.conf"
    run tune plan
    has_not zone_reclaim_mode,
    has_not "/usr/lib/sysctl.d/95-mine.conf"
    has "shadowed by /usr/lib/sysctl.d/96-slashes.conf:1"
}

@test "what tuned manages is named, through its includes" {
    plant big
    run tune plan
    has "managed by tuned:network-latency"
    has "tuned                              network-latency"
    run tune explain vm.swappiness
    has "managed by tuned:network-latency"
}

@test "myths in the user's own files are named with file and line" {
    plant big
    run tune plan
    has "/etc/sysctl.d/99-sysctl.conf:2     net.ipv4.tcp_tw_recycle = 1: gone since"
    has "/etc/sysctl.d/99-sysctl.conf:3     net.ipv4.tcp_low_latency = 1: does nothing"
    has "/etc/sysctl.d/10-site.conf:1       net.ipv4.tcp_max_tw_buckets = 5000: must not be lowered"
    has_not "50-default.conf"
}

@test "a recipe that is often copied is named line by line where it does harm, and nowhere else" {
    plant vm
    cat >"$TREE/etc/sysctl.d/50-recipe.conf" <<'RECIPE'
net.core.rmem_max = 134217728
net.core.wmem_max = 134217728
net.ipv4.tcp_rmem = 4096 65536 134217728
net.ipv4.tcp_wmem = 4096 65536 134217728
net.core.netdev_max_backlog = 5000
net.ipv4.tcp_congestion_control = bbr
vm.swappiness = 10
vm.dirty_ratio = 15
vm.dirty_background_ratio = 5
RECIPE
    printf '* soft nofile 65536\n* hard nofile 65536\n' >"$TREE/etc/security/limits.conf"
    run tune check
    has "50-recipe.conf:1"
    has "50-recipe.conf:2"
    has "50-recipe.conf:3     net.ipv4.tcp_rmem = 4096 65536 134217728: the middle figure, 65536, is lower"
    has "the last figure, 134217728, lets one slow peer"
    has "50-recipe.conf:4     net.ipv4.tcp_wmem = 4096 65536 134217728: the last figure"
    has "/etc/security/limits.conf:2        * hard nofile 65536: holds fewer connections"
    has_not "limits.conf:1"
    local line
    for line in 5 6 7 8 9; do has_not "50-recipe.conf:$line"; done
}

@test "every tuner and every key of every profile is explained" {
    plant container
    local profile
    local -a names
    for profile in server loadgen lowlat; do
        mapfile -t names < <(tune list --profile "$profile" | sed -n 's/^  \([a-z][a-z0-9_.-]*\) .*/\1/p')
        ((${#names[@]} > 20))
        run tune explain "${names[@]}" --profile "$profile"
        exits 0
        for field in why harm check source; do
            [[ $(grep -c "^ *$field  " <<<"$output") == "${#names[@]}" ]]
        done
    done
    run tune explain nonsense
    exits 1
    has "tune list"
}

@test "profiles are valid files of sysctl.d with all their fields" {
    local file
    for file in "$BATS_TEST_DIRNAME"/../../sysctl/*.conf; do
        run grep -vE '^(#( .*)?|[a-z0-9_.]+ = [0-9]+( [0-9]+)*)?$' "$file"
        [[ -z $output ]]
    done
    # A key without a rule is refused with its place.
    plant vm
    cp -a "$BATS_TEST_DIRNAME/../../scripts" "$BATS_TEST_DIRNAME/../../sysctl" "$OWN/"
    printf 'vm.dirty_ratio = 5\n' >>"$OWN/sysctl/10-server.conf"
    run "$OWN/scripts/tune" plan --root "$TREE"
    exits 1
    has "10-server.conf:"
    has "vm.dirty_ratio has no '# rule:' line"
}

@test "every key, tuner and myth has its place in docs/TUNING.md" {
    local page=$BATS_TEST_DIRNAME/../../docs/TUNING.md name
    while read -r name; do
        grep -qF "| \`$name\` |" "$page" || { echo "no row: $name" && return 1; }
    done < <(sed -n 's/^\([a-z][a-z0-9_.]*\) = .*/\1/p' "$BATS_TEST_DIRNAME"/../../sysctl/*.conf | sort -u
        sed -n 's/^tuner \([a-z_-]*\) .*/\1/p' "$BATS_TEST_DIRNAME"/../../scripts/tune.d/*.sh
        sed -n '/^myth_of/,/^}/s/^        \([a-z][a-z0-9_.*]*\)).*/\1/p' "$BATS_TEST_DIRNAME"/../../scripts/tune.d/conf.sh)
    # And the values that it gives are those of the files.
    while read -r name value; do
        grep -F "| \`$name\` |" "$page" | grep -qF "$value" || { echo "another value: $name" && return 1; }
    done < <(sed -n 's/^\([a-z][a-z0-9_.]*\) = \(.*\)/\1 \2/p' "$BATS_TEST_DIRNAME"/../../sysctl/*.conf)
}

@test "exports are what they say" {
    plant big
    printf '4096 131072 33554432\n' >"$TREE/proc/sys/net/ipv4/tcp_rmem"
    run tune export --format sysctl
    has "net.core.somaxconn = 16384"
    has_not tcp_rmem # the kernel has more of itself
    has_not io_uring # others may want to forbid it
    [[ -z $(grep -vE '^(#.*|[a-z0-9_.]+ = [0-9 -]+)$' <<<"$output") ]]
    tune export --format script >"$OWN/script"
    sh -n "$OWN/script"
    run cat "$OWN/script"
    has "put /proc/sys/vm/swappiness 10"
    has "ethtool -X eno1 equal 16"
    has "# not exported: eno1.queues (16 -> 32 resets the link for seconds: add --disruptive to do it)"
    has "# not exported: limits.unit (a script of values has no place for it)"
    has_not "not exported: net.core.somaxconn"
    run tune export --format sysctl
    has "# not exported: eno1.irq.205 (sysctl.d has no place for it)"
    run tune export --format tuned
    has "# not exported: eno1.irq.205 (a profile of tuned has no place for it)"
    has_not $'\n/proc/'
    has "/sys/class/net/eno1/queues/tx-2/xps_cpus="
    run tune export --format ansible
    has "# not exported: eno1.rss (this list of tasks has no place for it)"
    teardown
    plant vm
    printf '[always] madvise never\n' >"$TREE/sys/kernel/mm/transparent_hugepage/enabled"
    run tune export --format tuned
    has "[sysctl]"
    has "/sys/kernel/mm/transparent_hugepage/enabled=madvise"
    run tune export --format ansible
    has "ansible.posix.sysctl"
    if python3 -c 'import yaml' 2>/dev/null; then python3 -c 'import sys, yaml; yaml.safe_load(sys.stdin)' <<<"$output"; fi
    run tune export --format xml
    exits 1
}

@test "an export has what has drifted and what tune set, and not what merely is so" {
    plant vm
    printf '16384\n' >"$TREE/proc/sys/net/core/somaxconn"
    run tune export --format sysctl
    has "vm.swappiness = 10"
    has_not somaxconn
    has_not zone_reclaim
    tune apply --yes --only vm.swappiness >/dev/null
    run tune export --format sysctl
    has "vm.swappiness = 10"
    # What scripts/install wrote is ours as well: it must not lose it when it is run again.
    printf 'net.core.somaxconn = 16384\n' >"$TREE/etc/sysctl.d/50-corelane.conf"
    run tune export --format sysctl
    has "net.core.somaxconn = 16384"
}

@test "colours only on a terminal, and never with NO_COLOR" {
    plant vm
    run env -u NO_COLOR "$TUNE" plan --root "$TREE"
    has_not $'\e['
    command -v script >/dev/null || skip "no script(1) here"
    run env -u NO_COLOR TERM=xterm script -qec "'$TUNE' plan --root '$TREE'" /dev/null
    has $'\e['
    run env NO_COLOR=1 TERM=xterm script -qec "'$TUNE' plan --root '$TREE'" /dev/null
    has_not $'\e['
}

@test "mistakes on the command line say what to type" {
    plant vm
    run tune aply
    exits 1
    has "plan, check, apply, revert"
    run tune apply
    exits 1
    has "apply --yes"
    run tune plan --only nonsense
    exits 1
    has "no tuner, setting or knob is called 'nonsense'"
    run tune plan --cpus 0-x
    exits 1
    has "type it as 2-5,8"
    run tune plan --cpus 7
    exits 1
    has "CPU 7 is not online"
    run tune plan --nics eth7
    exits 1
    run tune plan --memlock lots
    exits 1
    has "256M"
    run tune plan --profile
    exits 1
    run tune plan --only '$(reboot)'
    exits 1
    run tune check net.core.somaxconn
    exits 1
    run tune revert --only vm.swappiness
    exits 1
    has "whole transactions"
    run tune plan --json
    exits 1
    run tune apply --yes --all
    exits 1
}
