# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# Tuners: sysctl, numa (both from the profile's file), io_uring. Sourced, never run.
#
# Not here: the format of the files (conf.sh).

tuner sysctl "server loadgen lowlat" \
    "kernel settings of sysctl/*.conf, and /etc/sysctl.d/90-corelane.conf that keeps them" \
    "Each key has a reason of its own: tune explain KEY. The file sets them again at each boot." \
    "See each key. A later kernel may have a better default than a value in the file: after an upgrade, revert --all, reboot, apply." \
    "tune check; sysctl KEY" \
    "sysctl/*.conf"
tuner numa "server lowlat" \
    "no sampling of memory by faults (kernel.numa_balancing)" \
    "Shards are pinned and have their memory on their own node; the kernel would unmap it to find that out." \
    "Programs on the same host that are not pinned lose the help." \
    "grep numa_ /proc/vmstat; numastat -p corelane" \
    "Documentation/admin-guide/sysctl/kernel.rst"
tuner io_uring "server loadgen lowlat" \
    "whether the node may use io_uring (kernel.io_uring_disabled, kernel.io_uring_group)" \
    "Without io_uring there is no node. 0 allows it to all; 1 to root and to one group, which is what we ask for where it \
was forbidden." \
    "More of the kernel can be reached by the members of that group. 0 is never set by tune." \
    "sysctl kernel.io_uring_disabled kernel.io_uring_group; corelane check" \
    "Documentation/admin-guide/sysctl/kernel.rst (Linux 6.6)"

# annotate KEY: what else sets the key of the last knob.
annotate() {
    local i=${#K_ID[@]}
    i=$((i - 1))
    [[ ${K_STATE[i]} != left ]] || return 0
    if [[ -n ${TUNED_SETS[$1]:-} ]]; then K_NOTE[i]="managed by tuned:$TUNED"; fi
    if shadow_of "$1"; then
        plain "${K_FORM[i]}" "${K_WANT[i]}"
        if weigh "${K_RULE[i]}" "$SHADOW_VALUE" "$PLAIN" && [[ $AIM == "$SHADOW_VALUE" ]]; then return 0; fi
        K_SHADOW[i]="shadowed by $SHADOW_PLACE, which sets $SHADOW_VALUE and is read after ours"
    fi
}

# holds_here CONDITION: whether the `when` of a key is met, and in WALL what it is, if not.
holds_here() {
    local dev
    case $1 in
        '') return 0 ;;
        numa)
            WALL="one memory node only"
            ((${#NODES[@]} > 1))
            ;;
        nic_25g)
            WALL="no card of 25 Gbit/s or more"
            for dev in "${NICS[@]}"; do
                slurp "$ROOT/sys/class/net/$dev/speed" && is_number "$TEXT" && ((${#TEXT} < 10 && TEXT >= 25000)) && return 0
            done
            return 1
            ;;
        *) die "$SYSCTL_DIR has the condition '$1', which this version does not know" ;;
    esac
}

add_sysctl() {
    local key tuner path rule
    for key in "${KEYS[@]}"; do
        tuner=${KEY_TUNER[$key]} rule=${KEY_RULE[$key]}
        if ! holds_here "${KEY_WHEN[$key]}"; then
            no_knob "$key" "$tuner" na "$WALL"
            K_KEY[-1]=$key
            continue
        fi
        [[ $key == net.ipv4.ip_local_port_range && $rule == at_least ]] && rule=at_least_wide
        path=proc/sys/${key//.//}
        if [[ ${KEY_SCOPE[$key]} == netns ]]; then
            knob "$key" "$tuner" file "$path" words "$rule" "${KEY_VALUE[$key]}" "$key"
        else
            machine_knob "$key" "$tuner" file "$path" words "$rule" "${KEY_VALUE[$key]}" "$key"
        fi
        annotate "$key"
    done
}

# The group of the service in GID. 1 if there is none.
service_group() {
    local line
    GID=
    [[ -r $ROOT/etc/group ]] || return 1
    while IFS= read -r line; do
        if [[ $line == corelane:* && $line =~ ^[^:]*:[^:]*:([0-9]+): ]]; then GID=${BASH_REMATCH[1]}; fi
    done <"$ROOT/etc/group"
    [[ -n $GID ]]
}

add_io_uring() {
    local path=proc/sys/kernel/io_uring_disabled disabled group id=kernel.io_uring_disabled
    if ! slurp "$ROOT/$path"; then
        no_knob "$id" io_uring na "this kernel has no switch for it (before Linux 6.6)"
        return 0
    fi
    disabled=$TEXT
    if [[ $disabled == 0 ]]; then
        machine_knob "$id" io_uring file "$path" words at_most 0 "$id"
        annotate "$id"
    elif ! service_group; then
        no_knob "$id" io_uring skipped "is $disabled, and there is no group 'corelane' to open it for: type \
groupadd --system corelane, then this again (or, for everybody: sysctl -w kernel.io_uring_disabled=0)"
    else
        slurp "$ROOT/proc/sys/kernel/io_uring_group" || TEXT=-1
        group=$TEXT
        if [[ $group != -1 && $group != "$GID" ]]; then
            no_knob "$id" io_uring skipped "is $disabled, open for group $group: leave that, and type \
usermod -aG \"\$(getent group $group | cut -d: -f1)\" corelane"
        else
            machine_knob kernel.io_uring_group io_uring file proc/sys/kernel/io_uring_group words equal "$GID" \
                kernel.io_uring_group
            machine_knob "$id" io_uring file "$path" words at_most 1 "$id"
            annotate "$id"
        fi
    fi
    probe_io_uring
}

# What the program itself says, where it is installed: it makes rings, lets go of them, and binds nothing. As the user of
# the service, if we can be that: root may do what the service may not.
probe_io_uring() {
    local program said status=0 user
    local -a as=()
    [[ -z $ROOT ]] && is_chosen io_uring.probe io_uring || return 0
    program=$(command -v corelane) || return 0
    user=$(id -un)
    if ((EUID == 0)) && id -u corelane >/dev/null 2>&1 && command -v setpriv >/dev/null; then
        as=(setpriv --reuid corelane --regid corelane --init-groups) user=corelane
    fi
    said=$(timeout 10 "${as[@]}" "$program" check 2>&1) || status=$?
    if ((status == 0)); then
        no_knob io_uring.probe io_uring info "corelane check as $user: it would start"
    else
        said=${said//$'\n'/ }
        no_knob io_uring.probe io_uring warn "corelane check as $user ended with $status: ${said:0:300}"
    fi
}

# read_set_before: what open transactions of this boot have set, by its path, in SET_BEFORE. Nothing, if this user may not see them.
declare -A SET_BEFORE=()
read_set_before() {
    local file i
    SET_BEFORE=()
    [[ -d $STATE_DIR && -O $STATE_DIR && -r $STATE_DIR ]] || return 0
    STATE_NAME=${STATE_NAME:-$STATE_DIR}
    boot_id
    open_journals
    for file in "${OPEN[@]}"; do
        read_journal "$file"
        [[ $J_BOOT == "$BOOT" ]] || continue
        for i in "${!J_KIND[@]}"; do
            [[ ${J_KIND[i]} =~ ^(file|ethtool)$ && ${J_END[i]} == D ]] && SET_BEFORE["${J_TARGET[i]}"]=${J_BACK[i]}
        done
    done
}

declare -A KEPT=() # what our file in sysctl.d has now
# sysctl_text: its text in WANT_TEXT: what has to be set, and what we have set.
#
# Not what the kernel has of itself: a later kernel may have more, or its administrator less, and the file would win.
sysctl_text() {
    local i key value line partial=0
    KEPT=()
    if [[ -f $ROOT/$SYSCTL_D && -r $ROOT/$SYSCTL_D ]]; then
        while IFS= read -r line; do
            [[ $line =~ ^([a-z0-9_./-]+)\ =\ (.*)$ ]] && KEPT[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
        done <"$ROOT/$SYSCTL_D"
    fi
    ((${#ONLY[@]} + ${#SKIP[@]})) && partial=1
    WANT_TEXT="$MADE_BY
# Profile $PROFILE. What each key is for: tune explain KEY.
"
    line=
    for i in "${!K_ID[@]}"; do
        key=${K_KEY[i]}
        [[ -n $key ]] || continue
        value=
        case ${K_STATE[i]}:${K_DONE[i]} in
            drift:failed | drift:unsupported) ;;
            drift:*) value=${K_WANT[i]} ;;
            ok:*)
                if [[ ${KEPT[$key]:-} == "${K_NOW[i]}" || ${SET_BEFORE["${K_TARGET[i]}"]:-} == "${K_NOW[i]}" ]]; then
                    value=${K_NOW[i]}
                fi
                ;;
            left:*) ((partial)) && value=${KEPT[$key]:-} ;;
        esac
        [[ -z $value ]] || line+="$key = $value"$'\n'
    done
    [[ -n $line ]] || WANT_TEXT=
    WANT_TEXT+=$line
}

add_sysctl_file() {
    read_set_before
    sysctl_text
    ((!RUNTIME_ONLY)) || return 0
    if [[ -z $WANT_TEXT ]]; then
        [[ -e $ROOT/$SYSCTL_D ]] || return 0
        WANT_TEXT="$MADE_BY"$'\n'
    fi
    machine_knob sysctl.d sysctl own "$SYSCTL_D" exact equal "$WANT_TEXT"
}
