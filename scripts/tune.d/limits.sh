# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# Tuner: limits, the open files and locked memory of the service and of people who log in. Sourced, never run.

tuner limits "server loadgen lowlat" \
    "open files and locked memory: a drop-in of corelane.service, and limits.d for people" \
    "A connection is a file. Rings and registered buffers are locked memory, counted for each user over all processes. \
The node raises its soft limits to the hard ones itself. /etc/security/limits.* is read at log-in only: services do not \
see it, so both files are needed." \
    "Programs that close every possible descriptor get slow with a large limit; with --memlock infinity a leak may pin all \
memory." \
    "systemctl show -p LimitNOFILE,LimitMEMLOCK corelane; cat /proc/PID/limits; ulimit -Hn -Hl" \
    "systemd.exec(5), limits.conf(5), getrlimit(2)"

# bytes_of TEXT: a size with K, M or G, or infinity, as bytes in BYTES. 1 if it is none.
bytes_of() {
    local text=${1##*:} unit=1
    BYTES=
    case $text in
        infinity | unlimited) BYTES=infinity && return 0 ;;
        *K) unit=1024 ;;
        *M) unit=1048576 ;;
        *G) unit=1073741824 ;;
    esac
    text=${text%[KMG]}
    [[ $text =~ ^[0-9]{1,9}$ || $text =~ ^[0-9]{1,18}$ && $unit == 1 ]] || return 1
    BYTES=$((10#$text * unit))
}

# unit_limit NAME: what the unit and its other drop-ins set, as bytes or infinity in BYTES; empty if nothing. LATER is the
# file that sets it, if that is read after ours, and LATER_VALUE what it says.
unit_limit() {
    local dir file name line value=
    local -A of=()
    LATER='' LATER_VALUE=
    for dir in etc run usr/local/lib usr/lib lib; do
        if [[ -r $ROOT/$dir/systemd/system/corelane.service ]]; then
            of[.unit]=$ROOT/$dir/systemd/system/corelane.service
            break
        fi
    done
    for dir in etc run usr/local/lib usr/lib lib; do
        for file in "$ROOT/$dir"/systemd/system/corelane.service.d/*.conf; do
            name=${file##*/}
            [[ $name == 90-tune.conf || -n ${of[$name]:-} ]] || of[$name]=$file
        done
    done
    ((${#of[@]})) || { BYTES= && return 0; }
    while IFS= read -r name; do
        [[ -r ${of[$name]:-} ]] || continue
        while IFS= read -r line || [[ -n $line ]]; do
            [[ $line =~ ^[[:space:]]*$1[[:space:]]*=[[:space:]]*([^[:space:]]+) ]] || continue
            value=${BASH_REMATCH[1]}
            if [[ $name != .unit && $name > 90-tune.conf ]]; then LATER=${of[$name]#"$ROOT"} LATER_VALUE=$value; fi
        done <"${of[$name]}"
    done < <(printf '%s\n' "${!of[@]}" | sort)
    bytes_of "$value" || BYTES=
}

# more LIMIT LIMIT: the higher of two, in MORE.
more() {
    if [[ $1 == infinity || $2 == infinity ]]; then
        MORE=infinity
    elif not_less "${1:-0}" "${2:-0}"; then
        MORE=$1
    else
        MORE=$2
    fi
}

# pam_limit DOMAIN ITEM: the highest hard limit that other files give it, or everybody, in BYTES (of memlock: bytes);
# empty if nothing. Ours for the domain would win over one for everybody.
pam_limit() {
    local file domain kind item value best=
    for file in "$ROOT"/etc/security/limits.conf "$ROOT"/etc/security/limits.d/*.conf; do
        [[ ${file##*/} != 90-corelane.conf && -r $file ]] || continue
        while read -r domain kind item value _ || [[ -n $domain ]]; do
            [[ $domain == "$1" || $domain == '*' ]] && [[ $item == "$2" && $kind != soft ]] || continue
            bytes_of "${value/#-1/infinity}" || continue
            [[ $2 == memlock && $BYTES != infinity ]] && BYTES=$((BYTES * 1024))
            more "${best:-0}" "$BYTES"
            best=$MORE
        done <"$file"
    done
    BYTES=$best
}

# add_unit_limits NOFILE MEMLOCK: our drop-in, with what the unit has less of.
add_unit_limits() {
    local file=etc/systemd/system/corelane.service.d/90-tune.conf text='' shadow='' name want
    for name in LimitNOFILE LimitMEMLOCK; do
        want=$1
        [[ $name == LimitNOFILE ]] || want=$2
        unit_limit "$name"
        more "${BYTES:-0}" "$want"
        [[ -z $BYTES || $MORE != "$BYTES" ]] || continue
        text+="$name=$want"$'\n'
        [[ -z $LATER ]] || shadow+="${shadow:+; }shadowed by $LATER, which sets $name=$LATER_VALUE and is read after ours"
    done
    if [[ -n $text ]]; then
        machine_knob limits.unit limits own "$file" exact equal "$MADE_BY"$'\n[Service]\n'"$text"
    elif [[ ! -e $ROOT/$file && ! -L $ROOT/$file ]]; then
        no_knob limits.unit limits ok "corelane.service has as much already"
    elif slurp "$ROOT/$file" && [[ ! -L $ROOT/$file && $TEXT == "$MADE_BY"* ]]; then
        # It would win with what was enough once.
        machine_knob limits.unit limits own "$file" exact equal absent
    else
        no_knob limits.unit limits skipped "corelane.service has as much already, but tune did not write /$file, which wins: \
remove it, if it has less"
    fi
    [[ -n $shadow && ${K_STATE[-1]} != left ]] || return 0
    K_SHADOW[-1]=$shadow
    # Written, it is not as wanted all the same.
    if [[ ${K_STATE[-1]} == ok ]]; then K_STATE[-1]=skipped K_NOTE[-1]="has no effect: remove the line that is read after it"; fi
}

add_limits() {
    local nofile=1048576 memlock text domain of_pam
    ((!RUNTIME_ONLY)) || return 0
    # As much as fs.nr_open allows, or will.
    if slurp "$ROOT/proc/sys/fs/nr_open" && is_number "$TEXT" && ! not_less "$TEXT" "$nofile"; then
        is_chosen fs.nr_open sysctl && [[ -n ${KEY_VALUE[fs.nr_open]:-} ]] && ! beyond_border || nofile=$TEXT
    fi
    if [[ -n $MEMLOCK ]]; then
        bytes_of "$MEMLOCK" || die "--memlock '$MEMLOCK' is no size: type bytes, 256M, or infinity"
        memlock=$BYTES
    else
        memlock=$((${#SHARDS[@]} * 8388608))
        ((memlock >= 67108864)) || memlock=67108864
    fi

    if [[ ! -d $ROOT/etc/systemd && ! -d $ROOT/usr/lib/systemd ]]; then
        no_knob limits.unit limits na "no systemd here; start the node with: ulimit -n $nofile"
    else
        add_unit_limits "$nofile" "$memlock"
    fi

    if [[ ! -d $ROOT/etc/security ]]; then
        no_knob limits.login limits na "no /etc/security here: log-ins do not read limits"
    else
        text=
        for domain in @corelane ${WANT_USER:+"$WANT_USER"}; do
            pam_limit "$domain" nofile
            of_pam=$BYTES
            more "${of_pam:-0}" "$nofile"
            text+="$domain - nofile ${MORE/infinity/unlimited}"$'\n'
            pam_limit "$domain" memlock
            of_pam=$BYTES
            more "${of_pam:-0}" "$memlock"
            [[ $MORE == infinity ]] && MORE=unlimited || MORE=$((MORE / 1024))
            text+="$domain - memlock $MORE"$'\n'
        done
        machine_knob limits.login limits own etc/security/limits.d/90-corelane.conf exact equal \
            "$MADE_BY"$'\n# domain type item value (memlock in KiB). For log-ins only: services do not read this.\n'"$text"
    fi
}
