# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# Tuner: boot, the unit that sets again at each boot what has no file of its own. Also what systemd is told afterwards.
# Sourced, never run.

tuner boot "server loadgen lowlat" \
    "corelane-tune.service: what has no file of its own is set again at each boot, and taken back when it stops" \
    "Values below /sys and of network cards are gone with a boot." \
    "It runs this script, from where it is now, as root at each boot." \
    "systemctl status corelane-tune; systemctl stop corelane-tune takes back all that is not a file" \
    "systemd.service(5)"

# quoted TEXT: as one word of a command line in a unit, in QUOTED (systemd.service(5), systemd.syntax(7)).
quoted() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//%/%%}
    text=${text//\$/\$\$}
    QUOTED="\"$text\""
}

add_boot() {
    local command='' word joined
    ((!RUNTIME_ONLY)) || return 0
    if [[ ! -d $ROOT/run/systemd/system ]]; then
        no_knob boot.service boot na "systemd does not run here: run tune apply at each boot by what does"
        return 0
    fi
    quoted "$SELF"
    command=$QUOTED
    local -a words=(apply --yes --runtime-only --profile "$PROFILE")
    local IFS=,
    ((${#ONLY[@]})) && words+=(--only "${ONLY[*]}")
    ((${#SKIP[@]})) && words+=(--skip "${SKIP[*]}")
    IFS=$' \t\n'
    [[ -z $WANT_CPUS ]] || words+=(--cpus "$WANT_CPUS")
    [[ -z $WANT_NICS ]] || words+=(--nics "$WANT_NICS")
    [[ -z $HUGEPAGES ]] || words+=(--hugepages "$HUGEPAGES")
    ((!DISRUPTIVE)) || words+=(--disruptive)
    joined=$command
    for word in "${words[@]}"; do
        if [[ $word =~ ^[A-Za-z0-9_./,-]+$ ]]; then joined+=" $word"; else quoted "$word" && joined+=" $QUOTED"; fi
    done
    machine_knob boot.service boot own etc/systemd/system/corelane-tune.service exact equal "$MADE_BY
[Unit]
Description=Host settings for Corelane, profile $PROFILE
After=systemd-sysctl.service systemd-udev-settle.service network.target
Before=corelane.service irqbalance.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$joined
ExecStop=$command revert --all --runtime-only
TimeoutSec=180

[Install]
WantedBy=multi-user.target
"
    machine_knob boot.enabled boot link etc/systemd/system/multi-user.target.wants/corelane-tune.service exact equal \
        ../corelane-tune.service
}

# tell_systemd TARGET...: after these files have changed. Says what failed in TOLD; empty if nothing.
tell_systemd() {
    local target reload=0 irqbalance=0 program said
    TOLD=
    for target in "$@"; do
        case $target in
            */systemd/system/irqbalance.service.d/* | run/corelane-tune/irqbalance.env) reload=1 irqbalance=1 ;;
            */systemd/system/*) reload=1 ;;
        esac
    done
    ((reload)) && [[ -d $ROOT/run/systemd/system ]] || return 0
    if [[ -n $ROOT ]]; then program=$ROOT/usr/bin/systemctl; else program=$(command -v systemctl) || program=; fi
    [[ -x $program ]] || return 0
    if ! said=$(TUNE_TREE=$ROOT timeout 60 "$program" daemon-reload 2>&1); then
        TOLD="systemctl daemon-reload: ${said%%$'\n'*}"
    elif ((irqbalance)) && ! said=$(TUNE_TREE=$ROOT timeout 60 "$program" --no-block try-restart irqbalance.service 2>&1); then
        # Without waiting: at boot irqbalance comes after us.
        TOLD="systemctl try-restart irqbalance: ${said%%$'\n'*}"
    fi
    [[ -z $TOLD ]]
}
