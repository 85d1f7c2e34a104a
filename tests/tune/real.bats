# On the real kernel: a network namespace of its own, and looking at this host.
# shellcheck disable=SC2012,SC2016,SC2030,SC2031,SC2115,SC2153,SC2143 # each test is a subshell; texts for others

load helper

setup() {
    NAMESPACE=
}

teardown() {
    [[ -z $NAMESPACE ]] || ip netns del "$NAMESPACE"
    [[ -z ${OWN:-} ]] || rm -rf -- "$OWN"
}

# settings: all kernel settings of the namespace's network, but those that only count.
settings() {
    ip netns exec "$NAMESPACE" bash -c 'cd /proc/sys/net && grep -rsH "" core ipv4 | grep -vE "entropy|random|route/flush" | sort'
}

@test "in a network namespace: apply, check, revert, and every key is back" {
    ((EUID == 0)) || skip "needs root for a network namespace"
    command -v ip >/dev/null || skip "ip is not installed"
    NAMESPACE=corelane-tune-$$
    if ! ip netns add "$NAMESPACE" 2>/dev/null; then
        NAMESPACE=
        skip "no network namespace can be made here"
    fi
    # The journal goes to the real place: not beside one that is in use.
    if compgen -G '/var/lib/corelane/tune/*.journal' >/dev/null; then skip "this host has open transactions of tune"; fi
    local before host
    before=$(settings)
    host=$(cat /proc/sys/vm/swappiness /proc/sys/net/core/somaxconn /sys/kernel/mm/transparent_hugepage/enabled)
    run ip netns exec "$NAMESPACE" "$TUNE" apply --yes --profile server --runtime-only
    exits 0
    has "net.core.somaxconn"
    has "Failed       0"
    [[ $(ip netns exec "$NAMESPACE" cat /proc/sys/net/core/somaxconn) -ge 16384 ]]
    # What is one for the machine was not touched from here.
    [[ $host == "$(cat /proc/sys/vm/swappiness /proc/sys/net/core/somaxconn /sys/kernel/mm/transparent_hugepage/enabled)" ]]
    run ip netns exec "$NAMESPACE" "$TUNE" check --profile server --runtime-only
    exits 0
    run ip netns exec "$NAMESPACE" "$TUNE" revert
    exits 0
    diff <(printf '%s\n' "$before") <(settings)
}

@test "plan, check and explain look at this host as any user" {
    run "$TUNE" plan
    exits 0
    run "$TUNE" check --json
    ((status == 0 || status == 2 || (status == 1 && EUID != 0)))
    python3 -m json.tool <<<"$output" >/dev/null
    if ((EUID == 0)) && command -v setpriv >/dev/null; then
        run setpriv --reuid 65534 --regid 65534 --clear-groups "$TUNE" plan
        exits 0
        run setpriv --reuid 65534 --regid 65534 --clear-groups "$TUNE" apply --yes
        exits 1
        has "needs root"
    fi
}

@test "whether io_uring works is asked as the user of the service, without taking its addresses" {
    ((EUID == 0)) || skip "needs root to be another user"
    OWN=$(mktemp -d "$TREES/test.XXXXXX")
    mkdir "$OWN/bin"
    printf '#!/bin/sh\n[ "$*" = "-u corelane" ] && echo 990 || echo root\n' >"$OWN/bin/id"
    printf '#!/bin/sh\necho "setpriv $*" >>"%s/log"\n' "$OWN" >"$OWN/bin/setpriv"
    printf '#!/bin/sh\necho "corelane $*" >>"%s/log"\n' "$OWN" >"$OWN/bin/corelane"
    chmod 755 "$OWN"/bin/*
    PATH=$OWN/bin:$PATH run "$TUNE" plan --only io_uring.probe
    exits 0
    has "corelane check as corelane: it would start"
    [[ $(<"$OWN/log") == "setpriv --reuid corelane --regid corelane --init-groups $OWN/bin/corelane check" ]]
    # There is no such user yet.
    printf '#!/bin/sh\n[ "$*" = "-un" ] && echo root\n' >"$OWN/bin/id"
    rm "$OWN/log"
    PATH=$OWN/bin:$PATH run "$TUNE" plan --only io_uring.probe
    has "corelane check as root: it would start"
    [[ $(<"$OWN/log") == "corelane check" ]]
}
