# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# What a knob is: something of the host that has a value and that we want otherwise, or only look at.
# Tuners add knobs by `knob` and `report`; nothing else knows which there are. Sourced, never run.
#
# Kinds:
#   file     one value in a file of /proc or /sys; TARGET is its path below the root
#   own      a whole file that is ours (a drop-in); TARGET its path, WANT its text
#   link     a symbolic link that is ours; WANT what it points to
#   ethtool  TARGET is `DEVICE GROUP NAME`: channels combined, coalesce rx-usecs, rss equal
# States:
#   ok           as wanted, or better
#   drift        apply would change it
#   skipped      apply would leave it, for a reason that the operator can lift; NOTE says how
#   na           there is no such thing here
#   unsupported  it is there, but cannot be read or changed here; NOTE says why
#   info, warn   only looked at; warn is worth a look
#   left         left out by --only or --skip
#
# Not here: how it is written (journal.sh), how it is shown (show.sh).

K_ID=() K_TUNER=() K_KIND=() K_TARGET=() K_FORM=() K_RULE=() K_WANT=() K_NOW=() K_RAW=() K_STATE=() K_NOTE=() K_KEY=()
K_SHADOW=() K_DONE=()

TUNERS=()
declare -A T_TITLE=() T_PROFILES=() T_WHY=() T_HARM=() T_CHECK=() T_SOURCE=()

# tuner NAME PROFILES TITLE WHY HARM CHECK SOURCE: what `explain` says about a family of knobs, and for which profiles it is.
tuner() {
    TUNERS+=("$1")
    T_PROFILES[$1]=$2 T_TITLE[$1]=$3 T_WHY[$1]=$4 T_HARM[$1]=$5 T_CHECK[$1]=$6 T_SOURCE[$1]=$7
}

# matches PATTERN ID TUNER: whether a word of --only or --skip means this knob.
matches() {
    # shellcheck disable=SC2053 # a pattern on purpose
    [[ $3 == "$1" || $2 == $1 ]]
}

# is_chosen ID TUNER: whether --profile, --only and --skip leave it in.
is_chosen() {
    local pattern chosen=0
    if ((${#ONLY[@]})); then
        for pattern in "${ONLY[@]}"; do
            if matches "$pattern" "$1" "$2"; then chosen=1 && ONLY_MET["$pattern"]=1; fi
        done
    else
        [[ " ${T_PROFILES[$2]:-} " == *" $PROFILE "* ]] && chosen=1
    fi
    for pattern in "${SKIP[@]}"; do
        if matches "$pattern" "$1" "$2"; then chosen=0 && SKIP_MET["$pattern"]=1; fi
    done
    ((chosen))
}

# in_profile TUNER: whether its knobs are looked for at all.
in_profile() {
    [[ " ${T_PROFILES[$1]:-} " == *" $PROFILE "* ]] || ((${#ONLY[@]}))
}

# knob ID TUNER KIND TARGET FORM RULE WANT [KEY]: adds one and judges it. KEY is its name as a sysctl.
knob() {
    local i=${#K_ID[@]}
    K_ID[i]=$1 K_TUNER[i]=$2 K_KIND[i]=$3 K_TARGET[i]=$4 K_FORM[i]=$5 K_RULE[i]=$6 K_WANT[i]=$7 K_KEY[i]=${8:-}
    K_NOW[i]='' K_RAW[i]='' K_STATE[i]='' K_NOTE[i]='' K_SHADOW[i]='' K_DONE[i]=
    if is_chosen "$1" "$2"; then judge "$i"; else K_STATE[i]=left; fi
}

# no_knob ID TUNER STATE NOTE: adds one that has no value here.
no_knob() {
    local i=${#K_ID[@]}
    K_ID[i]=$1 K_TUNER[i]=$2 K_KIND[i]=none K_TARGET[i]='' K_FORM[i]='' K_RULE[i]='' K_WANT[i]='' K_KEY[i]='' K_NOW[i]='' K_RAW[i]=
    K_STATE[i]=$3 K_NOTE[i]=$4 K_SHADOW[i]='' K_DONE[i]=
    is_chosen "$1" "$2" || K_STATE[i]=left
}

# report ID STATE VALUE NOTE: something that is only looked at.
report() {
    no_knob "$1" report "$2" "$4"
    K_NOW[-1]=$3
}

# hold REASON: the last knob is not changed although it differs, until the operator lifts the reason.
hold() {
    [[ ${K_STATE[-1]} == drift ]] || return 0
    K_STATE[-1]=skipped K_NOTE[-1]=$1
}

# fetch KIND TARGET FORM: the value now: as it is in RAW, as it is compared in NOW. 1 absent, 2 not readable (NOTE).
fetch() {
    local path=$ROOT/$2
    RAW='' NOW='' NOTE=
    case $1 in
        file)
            if [[ ! -e $path ]]; then NOTE="absent here" && return 1; fi
            if ! slurp "$path"; then
                if [[ -f $path ]]; then NOTE="not readable by this user: run it as root"; else NOTE="is not a file"; fi
                return 2
            fi
            RAW=$TEXT
            if [[ -z $TEXT && $3 != list ]]; then NOTE="the kernel gives no value for it" && return 1; fi
            plain "$3" "$RAW"
            NOW=$PLAIN
            ;;
        own)
            if [[ -L $path ]]; then NOTE="is a symbolic link: not ours" && return 2; fi
            if [[ ! -e $path ]]; then NOW=absent && return 0; fi
            if [[ ! -f $path || ! -r $path ]]; then NOTE="is not a readable file" && return 2; fi
            { IFS= read -r -N 65537 RAW <"$path" || true; } 2>/dev/null
            if ((${#RAW} > 65536)); then RAW='' NOTE="is larger than 64 KiB: not ours" && return 2; fi
            NOW=$RAW
            ;;
        link)
            if [[ -L $path ]]; then
                NOW=$(readlink -- "$path") && RAW=$NOW
            elif [[ -e $path ]]; then
                NOTE="is not a symbolic link: not ours" && return 2
            else
                NOW=absent
            fi
            ;;
        ethtool) ethtool_get "$2" ;;
    esac
}

# weigh RULE NOW WANT: what the value has to become, in AIM: NOW itself if it is good enough. 1 if they cannot be compared.
#
# For several numbers each is weighed by itself; a range of ports has to be at least as wide.
weigh() {
    local rule=$1 i
    local -a now want
    AIM=$3
    [[ $rule == equal ]] && return 0
    read -r -a now <<<"$2"
    read -r -a want <<<"$3"
    ((${#now[@]} == ${#want[@]})) || return 1
    for i in "${!want[@]}"; do
        is_number "${now[i]}" && is_number "${want[i]}" || return 1
    done
    if [[ $rule == at_least_wide ]]; then
        if ((${#now[0]} < 10 && ${#now[1]} < 10 && now[1] - now[0] >= want[1] - want[0])); then
            AIM="${now[*]}"
            return 0
        fi
        not_less "${want[0]}" "${now[0]}" && want[0]=${now[0]}
        not_less "${now[1]}" "${want[1]}" && want[1]=${now[1]}
    else
        for i in "${!want[@]}"; do
            if [[ $rule == at_least ]]; then
                not_less "${now[i]}" "${want[i]}" && want[i]=${now[i]}
            else
                not_less "${want[i]}" "${now[i]}" && want[i]=${now[i]}
            fi
        done
    fi
    AIM=${want[*]}
    return 0
}

# judge I: reads the value of a knob and says what state it is in. K_WANT becomes what apply would write.
judge() {
    local i=$1
    local status=0
    fetch "${K_KIND[i]}" "${K_TARGET[i]}" "${K_FORM[i]}" || status=$?
    K_NOW[i]=$NOW K_RAW[i]=$RAW
    if ((status)); then
        ((status == 1)) && K_STATE[i]=na || K_STATE[i]=unsupported
        K_NOTE[i]=$NOTE
        return 0
    fi
    plain "${K_FORM[i]}" "${K_WANT[i]}"
    if ! weigh "${K_RULE[i]}" "$NOW" "$PLAIN"; then
        K_STATE[i]=unsupported
        K_NOTE[i]="its value '$NOW' cannot be compared with '$PLAIN'"
        return 0
    fi
    if [[ $AIM == "$NOW" ]]; then
        K_STATE[i]=ok
        return 0
    fi
    K_STATE[i]=drift
    # What is equal only in its plain form is written as the tuner gave it: masks need their commas.
    [[ ${K_RULE[i]} == equal ]] || K_WANT[i]=$AIM
}

# What the host is ------------------------------------------------------------------------------------------------

ONLINE=() # CPUs
SHARDS=() # CPUs of the shards, by number of the shard
REST=()   # CPUs that are left to everything else
SHARDS_FROM=
NODES=() # memory nodes that have memory or CPUs
VIRTUAL= # what kind of guest this is, if it is one
CONTAINER=
NAMESPACE=0 # 1 in a network namespace other than the first
declare -A NODE_OF=() SIBLINGS=()

# look_at_host: fills the above. Reads only.
look_at_host() {
    local path cpu node
    ONLINE=() NODES=() NODE_OF=() SIBLINGS=()
    if slurp "$ROOT/sys/devices/system/cpu/online" && cpus_of "$TEXT"; then ONLINE=("${CPUS[@]}"); fi
    for path in "$ROOT"/sys/devices/system/node/node[0-9]*; do
        node=${path##*node}
        NODES+=("$node")
        slurp "$path/cpulist" && cpus_of "$TEXT" || continue
        for cpu in "${CPUS[@]}"; do NODE_OF[$cpu]=$node; done
    done
    for cpu in "${ONLINE[@]}"; do
        path=$ROOT/sys/devices/system/cpu/cpu$cpu/topology
        if slurp "$path/thread_siblings_list" && cpus_of "$TEXT"; then SIBLINGS[$cpu]="${CPUS[*]}"; else SIBLINGS[$cpu]=$cpu; fi
    done
    choose_shards
    look_for_borders
}

# One shard for each physical core, as the node itself chooses: by memory node, last cache and number.
choose_shards() {
    local cpu cache
    local -a lines=()
    local -A is_shard=()
    SHARDS=() REST=()
    if [[ -n $WANT_CPUS ]]; then
        cpus_of "$WANT_CPUS" || die "--cpus '$WANT_CPUS' is no list of CPUs: type it as 2-5,8"
        SHARDS=("${CPUS[@]}")
        SHARDS_FROM="--cpus"
        local online=" ${ONLINE[*]} "
        for cpu in "${SHARDS[@]}"; do
            [[ $online == *" $cpu "* ]] || die "--cpus: CPU $cpu is not online here (${ONLINE[*]:-none is})"
        done
    else
        SHARDS_FROM="one for each core; AllowedCPUs and isolcpus are not considered: --cpus says otherwise"
        for cpu in "${ONLINE[@]}"; do
            [[ ${SIBLINGS[$cpu]%% *} == "$cpu" ]] || continue
            cache=0
            if slurp "$ROOT/sys/devices/system/cpu/cpu$cpu/cache/index3/shared_cpu_list"; then cache=${TEXT%%[,-]*}; fi
            lines+=("${NODE_OF[$cpu]:-0} $cache $cpu")
        done
        if ((${#lines[@]})); then
            while read -r _ _ cpu; do SHARDS+=("$cpu"); done < <(printf '%s\n' "${lines[@]}" | sort -n -k1,1 -k2,2 -k3,3)
        fi
    fi
    for cpu in "${SHARDS[@]}"; do is_shard[$cpu]=1; done
    for cpu in "${ONLINE[@]}"; do [[ -n ${is_shard[$cpu]:-} ]] || REST+=("$cpu"); done
}

# What walls there are around us: a container, a network namespace, a hypervisor.
look_for_borders() {
    local pid
    CONTAINER='' VIRTUAL='' NAMESPACE=0
    # The first namespace of processes has had this number since Linux 3.8. Images of containers that were made into
    # machines still have the containers' marks, so these only say which kind it is.
    pid=$(readlink -- "$ROOT/proc/self/ns/pid") || pid=unknown
    if [[ $pid != 'pid:[4026531836]' ]]; then
        if slurp "$ROOT/run/systemd/container"; then
            CONTAINER=$TEXT
        elif [[ -e $ROOT/.dockerenv ]]; then
            CONTAINER=docker
        elif [[ -e $ROOT/run/.containerenv ]]; then
            CONTAINER=podman
        elif [[ $pid != unknown ]]; then
            CONTAINER="a namespace of processes"
        fi
    fi
    # The kernel shows this one in its first network namespace only.
    if [[ -e $ROOT/proc/sys/net/core/somaxconn && ! -e $ROOT/proc/sys/net/core/netdev_max_backlog ]]; then NAMESPACE=1; fi
    if slurp "$ROOT/sys/hypervisor/type"; then
        VIRTUAL=$TEXT
    elif [[ -r $ROOT/proc/cpuinfo ]]; then
        # The first CPU says it.
        { IFS= read -r -N 4096 TEXT <"$ROOT/proc/cpuinfo" || true; } 2>/dev/null
        if [[ $TEXT == *[[:space:]]hypervisor[[:space:]]* ]]; then VIRTUAL=guest; fi
    fi
}

# beyond_border: why what is one for the whole machine is not touched from here, in WALL. 1 if it may be.
beyond_border() {
    WALL=
    if [[ -n $CONTAINER ]]; then
        WALL="one for the whole machine: set it on the host, not in a container ($CONTAINER)"
    elif ((NAMESPACE)); then
        WALL="one for the whole machine: run it outside of this network namespace"
    fi
    [[ -n $WALL ]]
}

# machine_knob: as knob, for what is one for the whole machine.
machine_knob() {
    knob "$@"
    beyond_border && hold "$WALL"
    return 0
}
