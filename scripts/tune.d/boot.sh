# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# Tuner: boot, the unit that sets again at each boot what has no file of its own. Also what systemd is told afterwards.
# Sourced, never run.

tuner boot "server loadgen lowlat" \
    "corelane-tune.service: what has no file of its own is set again at each boot, and taken back when it stops" \
    "Values below /sys and of network cards are gone with a boot." \
    "It runs this script, from where it is now, as root at each boot." \
    "systemctl status corelane-tune; once it was started (at a boot, or by systemctl start), systemctl stop corelane-tune takes \
back all that is not a file" \
    "systemd.service(5)"

# is_safe_place: whether only root can change this script and what it reads; if not, UNSAFE is what can be changed.
is_safe_place() {
    local path=$SELF owner mode
    local -a paths=("$SELF" "$HERE"/tune.d "$HERE"/tune.d/* "$SYSCTL_DIR"/*.conf)
    while [[ -n $path ]]; do
        path=${path%/*}
        paths+=("${path:-/}")
    done
    path=$SYSCTL_DIR
    while [[ -n $path ]]; do
        paths+=("$path")
        path=${path%/*}
    done
    UNSAFE=
    while read -r owner mode path; do
        if [[ $owner != 0 ]]; then
            UNSAFE=$path
        elif ((8#$mode & 8#022)) && ! ((8#$mode & 8#1000)); then # sticky: others cannot move what is root's
            UNSAFE=$path
        fi
    done < <(stat -L -c '%u %a %n' -- "${paths[@]}" || printf '1 777 %s\n' "$SELF")
    [[ -z $UNSAFE ]]
}

add_boot() {
    local command
    ((!RUNTIME_ONLY)) || return 0
    if [[ ! -d $ROOT/run/systemd/system ]]; then
        no_knob boot.service boot na "systemd does not run here: run tune apply at each boot by what does"
        return 0
    fi
    if [[ -z $ROOT ]] && ! is_safe_place; then
        no_knob boot.service boot skipped "root would run $UNSAFE at each boot, and others than root can change it: copy \
scripts/tune, scripts/tune.d and sysctl to a directory of root, such as /usr/local/lib/corelane, and run it from there"
        return 0
    fi
    command=${SELF#"$ROOT"} # of a tree that has it, as it is called there
    if [[ ! $command =~ ^[A-Za-z0-9_./@:+\ -]+$ ]]; then
        no_knob boot.service boot skipped "systemd takes no program with such a name: $command; copy scripts/tune, \
scripts/tune.d and sysctl to /usr/local/lib/corelane, and run it from there"
        return 0
    fi
    command="\"$command\"" # there may be blanks in it
    # Of these words check_options lets nothing through that systemd would take for something else.
    local -a words=(apply --yes --runtime-only --profile "$PROFILE")
    local IFS=,
    ((${#ONLY[@]})) && words+=(--only "${ONLY[*]}")
    ((${#SKIP[@]})) && words+=(--skip "${SKIP[*]}")
    IFS=$' \t\n'
    [[ -z $WANT_CPUS ]] || words+=(--cpus "$WANT_CPUS")
    [[ -z $WANT_NICS ]] || words+=(--nics "$WANT_NICS")
    [[ -z $HUGEPAGES ]] || words+=(--hugepages "$HUGEPAGES")
    ((!DISRUPTIVE)) || words+=(--disruptive)
    machine_knob boot.service boot own etc/systemd/system/corelane-tune.service exact equal "$MADE_BY
[Unit]
Description=Host settings for Corelane, profile $PROFILE
Wants=network-online.target
After=systemd-sysctl.service network-online.target
Before=corelane.service irqbalance.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$command ${words[*]}
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
    local -a wait=()
    TOLD=
    for target in "$@"; do
        case $target in
            */systemd/system/irqbalance.service.d/* | run/corelane-tune/irqbalance.env) reload=1 irqbalance=1 ;;
            */systemd/system/*) reload=1 ;;
        esac
    done
    ((reload)) && [[ -d $ROOT/run/systemd/system ]] || return 0
    if [[ -n $ROOT && ${TUNE_TREE_PROGRAMS:-} != 1 ]]; then return 0; fi # no systemd runs there; a test has a stand-in
    if [[ -n $ROOT ]]; then program=$ROOT/usr/bin/systemctl; else program=$(command -v systemctl) || program=; fi
    [[ -x $program ]] || return 0
    # As a unit we must not wait: irqbalance comes after us, so its job waits for ours.
    [[ -z ${INVOCATION_ID:-} ]] || wait=(--no-block)
    if ! said=$(TUNE_TREE=$ROOT timeout 60 "$program" daemon-reload 2>&1); then
        TOLD="systemctl daemon-reload: ${said%%$'\n'*}"
    elif ((irqbalance)) && ! said=$(TUNE_TREE=$ROOT timeout 60 "$program" "${wait[@]}" try-restart irqbalance.service 2>&1); then
        TOLD="systemctl try-restart irqbalance: ${said%%$'\n'*}"
    fi
    [[ -z $TOLD ]]
}
