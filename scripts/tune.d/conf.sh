# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# What is written in files: our profiles (sysctl/*.conf, whose format 10-server.conf describes), other people's
# sysctl.d files that win over ours, tuned's profile, and recipes that do harm. Sourced, never run.
#
# Not here: values of the running kernel (knobs.sh).

KEYS=() # of the profile, in the order of the files
declare -A KEY_VALUE=() KEY_RULE=() KEY_WHY=() KEY_HARM=() KEY_CHECK=() KEY_SOURCE=() KEY_SCOPE=() KEY_TUNER=() KEY_WHEN=()

# profile_file NAME: its file in FOUND.
profile_file() {
    local file
    for file in "$SYSCTL_DIR"/[0-9][0-9]-"$1".conf; do
        FOUND=$file
        return 0
    done
    die "no profile '$1' in $SYSCTL_DIR: try server, loadgen or lowlat"
}

# load_profile FILE: adds its keys, and those of the files that it extends before them.
load_profile() {
    local file=$1 line number=0 field text key value
    local -A block=()
    [[ -r $file ]] || die "$file cannot be read: it is part of Corelane; copy sysctl/ beside scripts/"
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        if [[ -z $line ]]; then
            block=()
        elif [[ $line =~ ^#\ ([a-z]+):\ +(.*)$ ]]; then
            field=${BASH_REMATCH[1]} text=${BASH_REMATCH[2]}
            if [[ $field == extends ]]; then
                load_profile "${file%/*}/$text"
            else
                block[$field]+=${block[$field]:+ }$text
            fi
        elif [[ $line == '#'* ]]; then
            continue
        elif [[ $line =~ ^([a-z0-9_./-]+)\ *=\ *(.*[^ ])\ *$ ]]; then
            key=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
            for field in rule why harm check; do
                [[ -n ${block[$field]:-} ]] || die "$file:$number: $key has no '# $field:' line above it"
            done
            [[ ${block[rule]} =~ ^(equal|at_least|at_most)$ ]] ||
                die "$file:$number: $key has the rule '${block[rule]}': use equal, at_least or at_most"
            [[ -n ${KEY_VALUE[$key]:-} ]] || KEYS+=("$key")
            KEY_VALUE[$key]=$value
            KEY_RULE[$key]=${block[rule]}
            KEY_WHY[$key]=${block[why]}
            KEY_HARM[$key]=${block[harm]}
            KEY_CHECK[$key]=${block[check]}
            KEY_SOURCE[$key]=${block[source]:-}
            KEY_SCOPE[$key]=${block[scope]:-host}
            KEY_TUNER[$key]=${block[tuner]:-sysctl}
            KEY_WHEN[$key]=${block[when]:-}
            block=()
        else
            die "$file:$number: neither a comment nor 'key = value': $line"
        fi
    done <"$file"
}

# Lines of sysctl.d files in the order in which they count, and where each is from. Read once.
LINES_KEY=() LINES_VALUE=() LINES_PLACE=() LINES_AFTER=() LINES_OWN=()

# each_line FILE AFTER: adds the settings of a sysctl file. AFTER is 1 for a file that is read after ours.
each_line() {
    local file=$1 after=$2 line number=0 key value place
    [[ -f $file && -r $file ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        line=${line%$'\r'}
        [[ $line =~ ^[[:space:]]*([#\;].*)?$ ]] && continue
        [[ $line =~ ^[[:space:]]*-?[[:space:]]*([^=[:space:]]+)[[:space:]]*=[[:space:]]*(.*)$ ]] || continue
        key=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
        # net/ipv4/conf/eth0.1/x is net.ipv4.conf.eth0/1.x: the first separator decides (sysctl.d(5)).
        if [[ $key =~ ^[^./]*/ ]]; then
            key=${key//./$'\001'} key=${key//\//.} key=${key//$'\001'//}
        fi
        squeeze "$value"
        place=${file#"$ROOT"}:$number
        LINES_KEY+=("$key") LINES_VALUE+=("$SQUEEZED") LINES_PLACE+=("$place") LINES_AFTER+=("$after")
        case $file in
            "$ROOT"/usr/lib/* | "$ROOT"/lib/*) LINES_OWN+=(0) ;; # the distribution's
            *) LINES_OWN+=(1) ;;
        esac
    done <"$file"
}

SYSCTL_D=etc/sysctl.d/90-corelane.conf

# Reads what others set. sysctl.d(5): files by name, of one name only that of the first directory.
read_sysctl_files() {
    local dir file name conf_linked=0
    local -A of=()
    LINES_KEY=() LINES_VALUE=() LINES_PLACE=() LINES_AFTER=() LINES_OWN=()
    for dir in etc/sysctl.d run/sysctl.d usr/local/lib/sysctl.d usr/lib/sysctl.d lib/sysctl.d; do
        for file in "$ROOT/$dir"/*.conf; do
            name=${file##*/}
            [[ -n ${of[$name]:-} ]] || of[$name]=$file
            [[ $file -ef $ROOT/etc/sysctl.conf ]] && conf_linked=1
        done
    done
    # Names have no newline in any sane tree; one that has is read as two that are not there.
    while IFS= read -r name; do
        [[ -n $name && $name != 90-corelane.conf ]] || continue
        if [[ $name > 90-corelane.conf ]]; then each_line "${of[$name]:-/}" 1; else each_line "${of[$name]:-/}" 0; fi
    done < <(((${#of[@]})) && printf '%s\n' "${!of[@]}" | sort)
    # Without the link only `sysctl --system` reads it, and last.
    ((conf_linked)) || each_line "$ROOT/etc/sysctl.conf" 1
}

# shadow_of KEY: the last line after ours that sets it: its place in SHADOW_PLACE, its value in SHADOW_VALUE. 1 if none.
shadow_of() {
    local i glob
    SHADOW_PLACE='' SHADOW_VALUE=
    for i in "${!LINES_KEY[@]}"; do
        ((LINES_AFTER[i])) || continue
        glob=${LINES_KEY[i]}
        # shellcheck disable=SC2053 # a pattern on purpose: sysctl.d allows net.ipv4.conf.*.rp_filter
        if [[ $1 == $glob ]]; then SHADOW_PLACE=${LINES_PLACE[i]} SHADOW_VALUE=${LINES_VALUE[i]}; fi
    done
    [[ -n $SHADOW_PLACE ]]
}

# tuned's active profile in TUNED, and what it sets in TUNED_SETS: names of sysctl keys, and thp, governor.
TUNED=
declare -A TUNED_SETS=()
read_tuned() {
    local profile
    TUNED='' TUNED_SETS=()
    slurp "$ROOT/etc/tuned/active_profile" || return 0
    squeeze "$TEXT"
    TUNED=$SQUEEZED
    for profile in $TUNED; do
        [[ $profile == */* ]] || read_tuned_profile "$profile" 0
    done
}

read_tuned_profile() {
    local name=$1 depth=$2 dir file='' line section='' key part
    ((depth < 10)) || return 0
    for dir in etc/tuned/profiles etc/tuned usr/lib/tuned/profiles usr/lib/tuned; do
        if [[ -r $ROOT/$dir/$name/tuned.conf ]]; then
            file=$ROOT/$dir/$name/tuned.conf
            break
        fi
    done
    [[ -n $file ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        if [[ $line =~ ^[[:space:]]*\[([^]]+)\] ]]; then
            section=${BASH_REMATCH[1]}
        elif [[ $line =~ ^[[:space:]]*([^#\;=[:space:]]+)[[:space:]]*=[[:space:]]*(.*)$ ]]; then
            key=${BASH_REMATCH[1]}
            case $section/$key in
                main/include)
                    for part in ${BASH_REMATCH[2]//,/ }; do
                        [[ $part == */* ]] || read_tuned_profile "$part" $((depth + 1))
                    done
                    ;;
                sysctl*/*) TUNED_SETS[$key]=1 ;;
                vm/transparent_hugepage*) TUNED_SETS[thp]=1 ;;
                cpu/governor) TUNED_SETS[governor]=1 ;;
                irqbalance/banned_cpus) TUNED_SETS[irqbalance]=1 ;;
            esac
        fi
    done <"$file"
}

# myth_of KEY VALUE: why a setting that is often copied does nothing or does harm, in MYTH. 1 if it is none.
#
# What is set so in files of the distribution itself is not looked at.
myth_of() {
    local key=$1 value=$2 first=${2%% *} third=${2##* } own
    local -a fields
    MYTH=
    case $key in
        net.ipv4.tcp_low_latency) MYTH="does nothing since Linux 4.14" ;;
        net.ipv4.tcp_fack) MYTH="does nothing since Linux 4.15" ;;
        net.ipv4.tcp_tw_recycle)
            MYTH="gone since Linux 4.12; before, it broke connections of clients behind address translation"
            ;;
        net.ipv4.tcp_timestamps)
            [[ $value == 0 ]] && MYTH="0 loses round-trip times, protection against old segments, and tcp_tw_reuse"
            ;;
        net.ipv4.tcp_sack) [[ $value == 0 ]] && MYTH="0 makes each loss cost more; the fault that asked for it is repaired" ;;
        net.ipv4.tcp_window_scaling) [[ $value == 0 ]] && MYTH="0 limits each connection to 64 KiB in flight" ;;
        net.ipv4.tcp_fin_timeout)
            is_number "$value" && ! not_less "$value" 60 &&
                MYTH="is about FIN_WAIT_2; it does not shorten TIME_WAIT, which is 60 s and fixed"
            ;;
        net.ipv4.tcp_max_tw_buckets)
            is_number "$value" && ! not_less "$value" 65536 &&
                MYTH="must not be lowered: connections in TIME_WAIT are destroyed early, and old segments meet new ones"
            ;;
        net.ipv4.tcp_syncookies) [[ $value == 0 ]] && MYTH="0 lets a flood of SYNs lock out everybody" ;;
        net.ipv4.tcp_abort_on_overflow)
            [[ $value != 0 ]] && MYTH="resets clients in a burst that the server would have served a moment later"
            ;;
        net.ipv4.tcp_tw_reuse) [[ $value == 1 ]] && [[ $PROFILE != loadgen ]] && MYTH="1 is of no use to a server" ;;
        net.ipv4.tcp_rmem | net.ipv4.tcp_wmem)
            read -r -a fields <<<"$value"
            ((${#fields[@]} == 3)) && is_number "${fields[1]}" && is_number "${fields[2]}" || return 1
            # What the kernel itself starts with.
            [[ $key == net.ipv4.tcp_rmem ]] && own=131072 || own=16384
            if not_less "${fields[1]}" 4194304; then
                MYTH="the middle figure is what each connection starts with: ${fields[1]} bytes times connections"
            elif ! not_less "${fields[1]}" "$own"; then
                MYTH="the middle figure, ${fields[1]}, is lower than the kernel's own default, $own: each connection starts slower"
            fi
            if not_less "${fields[2]}" 67108864; then
                MYTH+="${MYTH:+; }the last figure, ${fields[2]}, lets one slow peer hold as much, and collapsing such a queue stops it for long"
            fi
            ;;
        net.core.rmem_max | net.core.wmem_max)
            is_number "$value" && not_less "$value" 134217728 &&
                MYTH="does not size TCP, which has tcp_rmem and tcp_wmem: it only lets any program ask for $value bytes a socket"
            ;;
        net.ipv4.tcp_mem)
            is_number "$third" && not_less "$third" 67108864 &&
                MYTH="counts pages, not bytes: $third pages are $((${#third} > 12 ? 0 : third / 262144)) GiB"
            ;;
        net.ipv4.ip_local_port_range)
            is_number "$first" && ! not_less "$first" 1025 &&
                MYTH="from $first on takes ports that services listen on, before they do"
            ;;
        net.core.busy_poll | net.core.busy_read)
            [[ $value != 0 ]] && MYTH="makes every poll and socket of the host spin; ask for it on the ring instead"
            ;;
        net.core.somaxconn)
            is_number "$value" && ! not_less "$value" 4096 && MYTH="is lower than the kernel's own default, 4096"
            ;;
        vm.overcommit_memory) [[ $value == 1 ]] && MYTH="1 hides a lack of memory until something is killed" ;;
        vm.drop_caches) MYTH="is a command, not a setting: it empties the page cache at each boot" ;;
        kernel.sched_*_granularity_ns | kernel.sched_migration_cost_ns | kernel.sched_latency_ns)
            MYTH="is no sysctl since Linux 5.13 (it moved to debugfs)"
            ;;
        kernel.sched_rt_runtime_us) [[ $value == -1 ]] && MYTH="-1 lets one realtime thread that spins take the host" ;;
    esac
    [[ -n $MYTH ]]
}

# nofile_myths LEAST: lines of /etc/security/limits.* that give the service's group, or everybody, fewer open files than
# the node needs: their places in NOFILE_PLACE, what they say in NOFILE_LINE. Soft limits are raised by the node itself.
nofile_myths() {
    local file line number domain kind item value
    NOFILE_PLACE=() NOFILE_LINE=()
    for file in "$ROOT"/etc/security/limits.conf "$ROOT"/etc/security/limits.d/*.conf; do
        [[ ${file##*/} != 90-corelane.conf && -f $file && -r $file ]] || continue
        number=0
        while IFS= read -r line || [[ -n $line ]]; do
            number=$((number + 1))
            read -r domain kind item value _ <<<"${line%%#*}" || true
            [[ $item == nofile && $kind != soft && $value =~ ^[0-9]{1,18}$ ]] || continue
            case $domain in '*' | corelane | @corelane) ;; *) continue ;; esac
            not_less "$value" "$1" && continue
            NOFILE_PLACE+=("${file#"$ROOT"}:$number") NOFILE_LINE+=("$domain $kind nofile $value")
        done <"$file"
    done
}
