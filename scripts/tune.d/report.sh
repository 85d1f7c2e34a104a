# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# What is only looked at: facts that matter and are not ours to change, and settings in the user's files that do nothing
# or do harm. Sourced, never run.

tuner report "server loadgen lowlat" \
    "facts that are not changed: mitigations, nohz_full, isolcpus, smt, conntrack, qdisc, tuned, cgroup, steal, cstates, \
virtual" \
    "They change what a measurement means, or what the other knobs can do." \
    "tune never touches them: most are boot parameters, or choices about security." \
    "tune check --json" \
    "docs/TUNING.md"
tuner myths "server loadgen lowlat" \
    "settings in your own sysctl and limits files that do nothing, or do harm" \
    "Recipes are copied for years after the kernel has changed." \
    "tune does not edit your files: remove the line yourself." \
    "sysctl --system; docs/TUNING.md" \
    "Documentation/networking/ip-sysctl.rst; docs/TUNING.md"

add_report() {
    local command='' path text value i name most=0
    if slurp "$ROOT/proc/cmdline"; then command=" $TEXT "; fi

    if [[ -n $CONTAINER ]]; then
        report container info "$CONTAINER" "what is one for the machine is set on the host; io_uring also needs a seccomp profile"
    fi
    [[ -z $VIRTUAL ]] || report virtual info "$VIRTUAL" "clock, power states and the real CPUs are the hypervisor's"

    text=
    for path in "$ROOT"/sys/devices/system/cpu/vulnerabilities/*; do
        slurp "$path" && [[ $TEXT == Vulnerable* ]] && text+="${text:+, }${path##*/}"
    done
    if [[ $command == *" mitigations=off "* ]]; then
        report mitigations warn off "any program can read other programs' memory; compare only with hosts that have it too"
    elif [[ -n $text ]]; then
        report mitigations warn "vulnerable: $text" "the kernel has no full mitigation here"
    elif [[ -n $command ]]; then
        report mitigations info on "never turned off by tune; both sides of a comparison must be the same"
    fi

    for name in nohz_full rcu_nocbs; do
        [[ $command =~ \ $name=([^ ]*)\  ]] && report "$name" warn "${BASH_REMATCH[1]}" \
            "makes every system call and interrupt dearer: of no use to a server that uses the kernel's TCP"
    done
    if [[ $command =~ \ isolcpus=([^ ]*)\  ]]; then
        report isolcpus info "${BASH_REMATCH[1]}" "control groups (tuner cpuset) do this at run time; --cpus of the node takes isolated ones"
    fi
    [[ $command =~ \ (intel_idle.max_cstate|processor.max_cstate|idle)=([^ ]*)\  ]] &&
        report "${BASH_REMATCH[1]}" info "${BASH_REMATCH[2]}" "for the whole host and for good; /dev/cpu_dma_latency does it while it is held open"

    if slurp "$ROOT/sys/devices/system/cpu/smt/active"; then
        if [[ $TEXT == 1 ]]; then
            report smt info on "one shard for each core; second threads are left to the rest"
        else
            report smt info off ""
        fi
    fi

    text='' i=0
    for path in "$ROOT"/sys/devices/system/cpu/cpu0/cpuidle/state[0-9]*; do
        slurp "$path/disable" && [[ $TEXT == 1 ]] && continue
        slurp "$path/latency" && is_number "$TEXT" || continue
        ((TEXT > most)) && most=$TEXT
        i=$((i + 1))
    done
    if ((i)); then
        report cstates info "$i states, up to $most us to wake up" \
            "kept shallow by whoever holds /dev/cpu_dma_latency open with a bound; cpu_wake_time has the node do it; not boot flags, and not tune"
    fi

    if slurp "$ROOT/proc/sys/net/netfilter/nf_conntrack_count" && is_number "$TEXT"; then
        value=$TEXT
        slurp "$ROOT/proc/sys/net/netfilter/nf_conntrack_max" || TEXT=0
        if is_number "$TEXT" && ((TEXT > 0 && value * 10 > TEXT * 8)); then
            report conntrack warn "$value of $TEXT" "above four fifths: beyond the maximum packets are dropped; NOTRACK for our port"
        elif ((value > 0)); then
            report conntrack info "$value of $TEXT" "each packet is looked up; NOTRACK for our port saves that"
        fi
    fi

    if slurp "$ROOT/proc/sys/net/ipv4/tcp_congestion_control"; then
        value=$TEXT
        slurp "$ROOT/proc/sys/net/core/default_qdisc" || TEXT=unknown
        report qdisc info "$TEXT, $value" "a choice about the network path, not about the server"
    fi

    [[ -z $TUNED ]] || report tuned warn "$TUNED" \
        "sets knobs again when it starts; tune export --format tuned makes a profile of these"

    for path in "$ROOT"/sys/fs/cgroup/cpu.stat "$ROOT"/sys/fs/cgroup/{system.slice,corelane.slice}/corelane.service/cpu.stat \
        "$ROOT"/sys/fs/cgroup/cpu/cpu.stat; do
        slurp "$path" || continue
        if [[ $TEXT =~ nr_throttled\ ([0-9]+) ]] && [[ ${BASH_REMATCH[1]} != 0 ]]; then
            report cgroup warn "${BASH_REMATCH[1]} times throttled" \
                "a CPU quota stops all shards for the rest of its period: ${path#"$ROOT"}"
        fi
    done

    if [[ -r $ROOT/proc/stat ]] && read -r _ _ _ _ _ _ _ _ value _ <"$ROOT/proc/stat" && is_number "${value:-x}"; then
        if ((${#value} < 15 && value > 0)); then
            report steal warn "$value ticks since boot" "the hypervisor ran something else meanwhile: measurements here are not exact"
        fi
    fi

    if [[ -f $ROOT/etc/sysctl.conf && ! -L $ROOT/etc/sysctl.conf ]]; then
        text=0
        for path in "$ROOT"/etc/sysctl.d/*.conf; do [[ $path -ef $ROOT/etc/sysctl.conf ]] && text=1; done
        for i in "${!LINES_PLACE[@]}"; do
            if ((!text)) && [[ ${LINES_PLACE[i]} == /etc/sysctl.conf:* ]]; then
                report sysctl.conf warn "not read at boot" \
                    "no link in /etc/sysctl.d leads to it: systemd-sysctl does not see it, sysctl --system does"
                break
            fi
        done
    fi
}

add_myths() {
    local i
    for i in "${!LINES_KEY[@]}"; do
        ((LINES_OWN[i])) && myth_of "${LINES_KEY[i]}" "${LINES_VALUE[i]}" || continue
        no_knob "${LINES_PLACE[i]}" myths warn "$MYTH"
        K_NOW[-1]="${LINES_KEY[i]} = ${LINES_VALUE[i]}"
    done
    nofile_myths 1048576
    for i in "${!NOFILE_PLACE[@]}"; do
        no_knob "${NOFILE_PLACE[i]}" myths warn "holds fewer connections than the node can have, and services do not read it"
        K_NOW[-1]=${NOFILE_LINE[i]}
    done
}
