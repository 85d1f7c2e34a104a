# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# Tuners: governor, clocksource, cpuset, workqueue. Sourced, never run.

tuner governor "loadgen lowlat" \
    "CPUs at full clock (scaling_governor, energy_performance_preference)" \
    "A CPU that was idle takes up to milliseconds to get to speed, which is in the tail of whoever woke it." \
    "Heat and power; a hotter package may boost less." \
    "cat /sys/devices/system/cpu/cpufreq/policy*/scaling_governor; turbostat" \
    "Documentation/admin-guide/pm/cpufreq.rst, intel_pstate.rst, amd-pstate.rst"
tuner clocksource "server loadgen lowlat" \
    "the time from the CPU's own counter (tsc)" \
    "Reading hpet or acpi_pm is a trip to the chipset: a microsecond or more, each time anything asks for the time." \
    "If the kernel has taken tsc off its list it had found it wrong: then it is not set. In a guest the hypervisor's clock \
is left." \
    "cat /sys/devices/system/clocksource/clocksource0/{available,current}_clocksource; dmesg | grep -i tsc" \
    "Documentation/virt/kvm/x86/timekeeping.rst"
tuner cpuset "lowlat" \
    "everything but the node kept off the CPUs of shards (AllowedCPUs of systemd's slices)" \
    "A job that runs on the CPU of a shard stops all of its connections for as long. Control groups do it at run time, as \
the kernel's guide recommends over isolcpus." \
    "All other services share the CPUs that are left: with too few of them they starve." \
    "systemctl show -p AllowedCPUs system.slice user.slice init.scope; systemd-cgtop" \
    "systemd.resource-control(5); Documentation/admin-guide/cpu-isolation.rst"
tuner workqueue "lowlat" \
    "unbound kernel workers kept off the CPUs of shards" \
    "Write-back and other kernel work runs on any CPU otherwise." \
    "The same work on fewer CPUs." \
    "cat /sys/devices/virtual/workqueue/cpumask" \
    "Documentation/core-api/workqueue.rst; Documentation/admin-guide/cpu-isolation.rst"

add_governor() {
    local policy name path found=0
    for policy in "$ROOT"/sys/devices/system/cpu/cpufreq/policy[0-9]*; do
        found=1
        name=${policy##*/} path=${policy#"$ROOT"/}
        # This one first: with the governor `performance` some drivers refuse it. Taken back in the other order.
        if [[ -e $policy/energy_performance_preference ]]; then
            slurp "$policy/energy_performance_available_preferences" || TEXT=performance
            if [[ " $TEXT " == *" performance "* ]]; then
                machine_knob "$name.epp" governor file "$path/energy_performance_preference" words equal performance
            else
                no_knob "$name.epp" governor unsupported "the driver offers only: $TEXT"
            fi
        fi
        slurp "$policy/scaling_available_governors" || TEXT=performance
        if [[ " $TEXT " == *" performance "* ]]; then
            machine_knob "$name.governor" governor file "$path/scaling_governor" words equal performance
            [[ -z ${TUNED_SETS[governor]:-} || ${K_STATE[-1]} == left ]] || K_NOTE[-1]="managed by tuned:$TUNED"
        else
            no_knob "$name.governor" governor unsupported "the driver offers only: $TEXT"
        fi
    done
    ((found)) || no_knob governor governor na "no cpufreq here${VIRTUAL:+: the hypervisor has the clock}"
}

add_clocksource() {
    local dir=sys/devices/system/clocksource/clocksource0 available now
    if ! slurp "$ROOT/$dir/current_clocksource"; then
        no_knob clocksource clocksource na "absent here"
        return 0
    fi
    now=$TEXT
    slurp "$ROOT/$dir/available_clocksource" || TEXT=
    available=" $TEXT "
    case $now in
        tsc | hpet | acpi_pm | jiffies | refined-jiffies | pit)
            if [[ $now != tsc && $available != *" tsc "* ]]; then
                no_knob clocksource clocksource warn "is $now, and the kernel does not offer tsc: dmesg | grep -i tsc says why"
            elif [[ $now != tsc && -n $VIRTUAL ]]; then
                no_knob clocksource clocksource warn "is $now in a guest: ask for the hypervisor's clock or an invariant tsc"
            else
                machine_knob clocksource clocksource file "$dir/current_clocksource" words equal tsc
            fi
            ;;
        *) no_knob clocksource clocksource info "is $now: the clock of this platform is left" ;;
    esac
}

# no_rest TUNER: says why there is nothing to keep off the CPUs of shards. 1 if there is.
no_rest() {
    ((${#REST[@]} == 0)) || return 1
    no_knob "$1" "$1" na "no CPU is left beside the shards: give them fewer by --cpus"
}

add_cpuset() {
    local unit list text
    no_rest cpuset && return 0
    if [[ ! -d $ROOT/run/systemd/system ]]; then
        no_knob cpuset cpuset na "systemd does not run here"
        return 0
    fi
    if [[ ! -r $ROOT/sys/fs/cgroup/cgroup.controllers ]]; then
        no_knob cpuset cpuset unsupported "needs control groups version 2 at /sys/fs/cgroup"
        return 0
    fi
    if [[ -d $ROOT/sys/fs/cgroup/system.slice/corelane.service ]]; then
        no_knob cpuset cpuset skipped "corelane.service runs in system.slice, which would be moved off its CPUs: \
systemctl stop corelane, then this again"
        return 0
    fi
    list_of "${REST[@]}"
    list=$LIST
    # The node gets a slice of its own, beside those that are kept off.
    if ((!RUNTIME_ONLY)); then
        machine_knob cpuset.corelane.slice cpuset own etc/systemd/system/corelane.slice exact equal \
            "$MADE_BY"$'\n[Unit]\nDescription=Corelane, on CPUs of its own\n'
        machine_knob cpuset.corelane.service cpuset own etc/systemd/system/corelane.service.d/90-corelane.conf exact equal \
            "$MADE_BY"$'\n[Service]\nSlice=corelane.slice\n'
    fi
    for unit in system.slice user.slice init.scope; do
        if [[ $unit == *.slice ]]; then text=Slice; else text=Scope; fi
        if ((!RUNTIME_ONLY)); then
            machine_knob "cpuset.$unit" cpuset own "etc/systemd/system/$unit.d/90-corelane.conf" exact equal \
                "$MADE_BY"$'\n['"$text"$']\nAllowedCPUs='"$list"$'\n'
        fi
        # systemd makes the file when it reads the above; where it is there already it holds from now on.
        if [[ -e $ROOT/sys/fs/cgroup/$unit/cpuset.cpus ]]; then
            machine_knob "cpuset.$unit.now" cpuset file "sys/fs/cgroup/$unit/cpuset.cpus" list equal "$list"
        fi
    done
}

add_workqueue() {
    local dir=sys/devices/virtual/workqueue
    no_rest workqueue && return 0
    mask_of "${REST[@]}"
    machine_knob workqueue.all workqueue file "$dir/cpumask" mask equal "$MASK"
    machine_knob workqueue.writeback workqueue file "$dir/writeback/cpumask" mask equal "$MASK"
}
