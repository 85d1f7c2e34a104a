# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# Everything that writes to the host, and the journal that can take it back. Sourced, never run.
#
# Rules:
#  1. Before a value is written, the journal has it with the value before, and is on the disk (sync). Whatever kills us
#     in between, `revert` finds it.
#  2. What was written is read back. If it is not what was wanted, the old value is put back and the knob has failed.
#  3. `revert` restores a value only if it is still the one that we wrote. Otherwise somebody else has changed it since;
#     it is left and named. Values of an earlier boot went with it: of those only files are taken back.
#  4. A file of ours is made beside its place and renamed into it. Nothing else in /etc is ever opened for writing.
#  5. The journal is trusted only as far as root alone can have written it, and names only places that we write to.
#
# A transaction is a file NNNNNN-TIME.journal in /var/lib/corelane/tune, of lines of fields with `|` between them and the
# length of the line before its last field at the end, so that a line that was cut short or damaged shows:
#   H|1|TXID|PROFILE|BOOT           head
#   I|N|KIND|ID|FORM|TARGET|OLD|NEW intent number N
#   D|N|NOW                         done; NOW is what was read back
#   F|N|NOW                         failed, and put back as far as possible
#   R|N|HOW                         reverted: restored, same, boot, forgotten
# It is renamed to .closed once all of it is reverted. OLD is `-` for what was not there, else `+` and the value; of
# a file of ours `+MODE:UID:GID:TEXT`.
#
# Not here: which knobs there are (knobs.sh).

STATE_DIR=
TX='' TX_FILE='' TX_FD='' TX_COUNT=0
LOCK_FD=
CLOSED_MAX=32 # closed journals that are kept to be looked at

encode() {
    CODED=${1//%/%25}
    CODED=${CODED//$'\\'/%5C}
    CODED=${CODED//|/%7C}
    CODED=${CODED//$'\n'/%0A}
    CODED=${CODED//$'\r'/%0D}
    CODED=${CODED//$'\t'/%09}
}

decode() {
    printf -v DECODED '%b' "${1//%/\\x}"
}

# Makes the state directory and takes the lock. Dies if either cannot be had: nothing has been written yet.
open_state() {
    local about
    is_inside "$STATE_DIR/x" || [[ ! -e $STATE_DIR ]] || die "$STATE_DIR leads out of $ROOT"
    if [[ ! -d $STATE_DIR ]]; then
        if [[ -n $ROOT ]]; then
            # The first directory above it that is there must be below the root.
            local above=${STATE_DIR%/*}
            while [[ ! -e $above && ! -L $above ]]; do above=${above%/*}; done
            is_inside "$above/x" || die "$above leads out of $ROOT: nothing was changed"
        fi
        ERROR=$({ mkdir -p -- "${STATE_DIR%/*}" && mkdir -m 0700 -- "$STATE_DIR"; } 2>&1)
        if [[ ! -d $STATE_DIR ]]; then
            reason "$ERROR"
            die "cannot make $STATE_DIR for the journal: $REASON; nothing was changed"
        fi
    fi
    # Who could write there could make us write anywhere as root. The directory above may be the service's own, so the
    # one that was looked at is held open: whatever is put in its place later is not the one that we use.
    { exec {DIR_FD}<"$STATE_DIR"; } 2>/dev/null || die "cannot open $STATE_DIR; nothing was changed"
    about=$(stat -L -c '%u %a' -- "/proc/$$/fd/$DIR_FD") || die "cannot look at $STATE_DIR; nothing was changed"
    if [[ -L $STATE_DIR || ${about% *} != "$EUID" ]] || ((8#${about#* } & 8#022)); then
        die "$STATE_DIR is a link, of another user or writable by others (user and mode: $about): its journals cannot be" \
            "trusted; look at them, then type: chown $(id -un) $STATE_DIR; chmod 700 $STATE_DIR"
    fi
    STATE_NAME=$STATE_DIR STATE_DIR=/proc/$$/fd/$DIR_FD
    if ! { exec {LOCK_FD}>>"$STATE_DIR/lock"; } 2>/dev/null; then
        die "cannot write to $STATE_NAME (is it on a read-only or full disk?); nothing was changed"
    fi
    if ! flock -n "$LOCK_FD"; then
        slurp "$STATE_DIR/lock"
        die "another tune is at work (process ${TEXT:-unknown}): wait until it has ended; nothing was changed"
    fi
    printf '%s\n' "$$" >"$STATE_DIR/lock"
}

# journal_line FIELD...: appends a line. 1 if it could not be written whole.
journal_line() {
    local line field
    line=$1
    shift
    for field in "$@"; do
        encode "$field"
        line+="|$CODED"
    done
    { printf '%s|%s\n' "$line" "${#line}" >&"$TX_FD"; } 2>/dev/null
}

boot_id() {
    BOOT=-
    if slurp "$ROOT/proc/sys/kernel/random/boot_id"; then BOOT=$TEXT; fi
}

# Starts a transaction, at its first write.
begin() {
    local file last=0 name
    for file in "$STATE_DIR"/[0-9]*.journal "$STATE_DIR"/[0-9]*.closed; do
        name=${file##*/}
        name=${name%%-*}
        [[ $name =~ ^[0-9]{6}$ ]] && ((10#$name > last)) && last=$((10#$name))
    done
    ((last < 999999)) || die "no numbers are left for transactions: remove old .closed files in $STATE_NAME"
    printf -v TX '%06d-%(%Y%m%dT%H%M%SZ)T' $((last + 1)) -1
    TX_FILE=$STATE_DIR/$TX.journal
    TX_COUNT=0
    boot_id
    exec {TX_FD}>>"$TX_FILE" || die "cannot write to $STATE_NAME; nothing was changed"
    if ! journal_line H 1 "$TX" "$PROFILE" "$BOOT" || ! sync -- "$TX_FILE" "$STATE_DIR"; then
        rm -f -- "$TX_FILE"
        die "the journal $STATE_NAME/$TX.journal cannot be written (is the disk full?); nothing was changed"
    fi
}

# May be written to at all, whatever a journal says.
is_ours() {
    case /$1/ in */../* | */./* | *//?*) return 1 ;; esac
    case $1 in
        proc/sys/* | proc/irq/*/smp_affinity_list | sys/*) return 0 ;;
        "$SYSCTL_D" | etc/security/limits.d/90-corelane.conf) return 0 ;;
        etc/systemd/system/corelane.service.d/90-tune.conf | etc/systemd/system/corelane.slice) return 0 ;;
        etc/systemd/system/corelane-tune.service) return 0 ;;
        etc/systemd/system/multi-user.target.wants/corelane-tune.service) return 0 ;;
        etc/systemd/system/*.d/90-corelane.conf | run/systemd/system/*.d/90-corelane.conf) return 0 ;;
        run/corelane-tune/irqbalance.env) return 0 ;;
    esac
    return 1
}

# Directories that may be made for the above.
is_our_dir() {
    case $1 in
        etc/sysctl.d | etc/security | etc/security/limits.d | etc/systemd | etc/systemd/system) return 0 ;;
        etc/systemd/system/multi-user.target.wants | run/systemd | run/systemd/system | run/corelane-tune) return 0 ;;
        etc/systemd/system/*.d | run/systemd/system/*.d) [[ ${1#*/system/} != */* ]] && return 0 ;;
    esac
    return 1
}

# put_text TARGET TEXT: writes one value into a file of the kernel. 1 and REASON if it could not.
put_text() {
    local path=$ROOT/$1 text=$2 word now
    if ! is_inside "$path"; then
        REASON="leads out of $ROOT"
        return 1
    fi
    if [[ ! -e $path ]]; then
        REASON="is not there any more"
        return 1
    fi
    if [[ ${3:-} == pick ]]; then
        plain pick "$text"
        text=$PLAIN
    fi
    # Below another root no kernel moves the brackets.
    if [[ -n $ROOT && ${3:-} == pick ]] && slurp "$path" && [[ $TEXT == *\[*\]* ]]; then
        now=${TEXT//[\[\]]/}
        text=
        for word in $now; do
            if [[ $word == "$PLAIN" ]]; then text+=" [$word]"; else text+=" $word"; fi
        done
        text=${text# }
    fi
    # What bash says about it goes through a file, as a subshell for each write would take longer than the write.
    { printf '%s\n' "$text" >"$path"; } 2>"$STATE_DIR/said" && return 0
    slurp "$STATE_DIR/said"
    reason "$TEXT"
    return 1
}

# make_file NEW TARGET TEXT MODE UID GID: a new file, on the disk.
make_file() {
    umask 077
    rm -f -- "$1" && printf '%s' "$3" >"$1" && chmod "$4" -- "$1" || return 1
    if ((EUID == 0)); then chown "$5:$6" -- "$1" || return 1; fi
    sync -- "$1"
}

# put_file TARGET TEXT MODE UID GID: puts a file of ours in its place, whole or not at all. 1 and REASON if it could not.
put_file() {
    local path=$ROOT/$1 new error
    new=${path%/*}/.${path##*/}.tune-new
    if ! is_inside "$path"; then
        REASON="leads out of $ROOT"
        return 1
    fi
    error=$(make_file "$new" "$@" 2>&1 && mv -fT -- "$new" "$path" 2>&1 && sync -- "${path%/*}" 2>&1) && return 0
    rm -f -- "$new" 2>/dev/null
    reason "$error"
    return 1
}

# put KIND TARGET FORM VALUE: writes a value of any kind; `absent` for a file or link means that it goes.
put() {
    local error
    REASON=
    case $1 in
        file) put_text "$2" "$4" "$3" ;;
        own)
            if [[ $4 == absent ]]; then wipe own "$2"; else put_file "$2" "$4" 644 "$EUID" "${GROUPS[0]}"; fi
            ;;
        link)
            if ! is_inside "${ROOT}/${2%/*}/x"; then
                REASON="leads out of $ROOT"
                return 1
            fi
            # By another name first: a link cannot be replaced in one step.
            error=$(ln -sfnT -- "$4" "$ROOT/${2%/*}/.${2##*/}.tune-new" 2>&1 &&
                mv -fT -- "$ROOT/${2%/*}/.${2##*/}.tune-new" "$ROOT/$2" 2>&1) || { reason "$error" && return 1; }
            sync -- "$ROOT/${2%/*}" 2>/dev/null || true
            ;;
        ethtool) ethtool_set "$2" "$4" ;;
    esac
}

# make_dirs TARGET: the directories above a file of ours, journaled. 1 and REASON if one cannot be made.
make_dirs() {
    local dir=${1%/*} error
    local -a missing=()
    while [[ $dir == */* && ! -d $ROOT/$dir ]]; do
        missing=("$dir" "${missing[@]}")
        dir=${dir%/*}
    done
    for dir in "${missing[@]}"; do
        if ! is_inside "$ROOT/$dir"; then
            REASON="leads out of $ROOT"
            return 1
        fi
        intent mkdir "$dir" exact "$dir" - "+755" || return 1
        if ! error=$(mkdir -m 0755 -- "$ROOT/$dir" 2>&1); then
            reason "$error"
            journal_line F "$TX_COUNT" absent
            return 1
        fi
        journal_line D "$TX_COUNT" made
    done
}

# intent KIND ID FORM TARGET OLD NEW: rule 1. 1 and REASON if the journal cannot be written: then nothing may be.
intent() {
    [[ -n $TX ]] || begin
    TX_COUNT=$((TX_COUNT + 1))
    # Ctrl-C reaches sync as well as us: then once more, as what was asked for is an orderly end.
    if journal_line I "$TX_COUNT" "$@"; then
        sync -- "$TX_FILE" 2>/dev/null && return 0
        [[ -n $STOP ]] && sync -- "$TX_FILE" 2>/dev/null && return 0
    fi
    REASON="the journal cannot be written: nothing more is changed"
    BROKEN=1
    return 1
}

BROKEN=0 # 1 once the journal cannot be written

# write_knob I: writes a knob that has drifted. Its state afterwards is in K_DONE: applied, failed, unsupported.
write_knob() {
    local i=$1 kind=${K_KIND[$1]} target=${K_TARGET[$1]} form=${K_FORM[$1]} want=${K_WANT[$1]} old=- about number
    K_DONE[i]=failed
    if ((BROKEN)); then
        K_NOTE[i]="not tried: the journal cannot be written"
        return 0
    fi
    case $kind in
        file | ethtool) old=+${K_RAW[i]} ;;
        link) [[ ${K_NOW[i]} == absent ]] || old=+${K_NOW[i]} ;;
        own)
            if [[ ${K_NOW[i]} != absent ]]; then
                about=$(stat -c '%a:%u:%g:%s' -- "$ROOT/$target") || about=0:0:0:-1
                if [[ ${about##*:} != "${#K_RAW[i]}" ]]; then
                    K_NOTE[i]="is not text, or changes while it is read: /$target"
                    return 0
                fi
                old=+${about%:*}:${K_RAW[i]}
            fi
            ;;
    esac
    if [[ $kind == own || $kind == link ]] && ! make_dirs "$target"; then
        K_NOTE[i]="$REASON: the directory of /$target"
        return 0
    fi
    if ! intent "$kind" "${K_ID[i]}" "$form" "$target" "$old" "+$want"; then
        K_NOTE[i]=$REASON
        return 0
    fi
    number=$TX_COUNT
    local wrote=1 why
    put "$kind" "$target" "$form" "$want" || wrote=0
    why=$REASON
    fetch "$kind" "$target" "$form" || NOW=
    plain "$form" "$want"
    if ((wrote)) && [[ $NOW == "$PLAIN" ]]; then
        journal_line D "$number" "$NOW" || BROKEN=1
        K_DONE[i]=applied
        return 0
    fi
    # Rule 2.
    if [[ $kind == file || $kind == ethtool ]] && [[ $NOW != "${K_NOW[i]}" ]]; then
        put "$kind" "$target" "$form" "${old#+}" || true
        local got=$NOW
        fetch "$kind" "$target" "$form" || NOW=
        ((wrote)) && why="the kernel made '$got' of it"
        [[ $NOW == "${K_NOW[i]}" ]] || why+=", and the old value could not be put back"
    elif ((wrote)); then
        why="was written, and is still '$NOW'"
    fi
    journal_line F "$number" "$NOW" || BROKEN=1
    K_NOTE[i]=$why
    if [[ ${K_TUNER[i]} == irq && $why == *'Input/output error'* ]]; then
        K_DONE[i]=unsupported
        K_NOTE[i]="the kernel manages this interrupt itself"
    fi
}

# Reading and reverting -------------------------------------------------------------------------------------------

J_NUMBER=() J_KIND=() J_ID=() J_FORM=() J_TARGET=() J_OLD=() J_NEW=() J_END=() J_BACK=()
J_BOOT='' J_DAMAGE=()

# may_revert KIND TARGET: whether a journal can be about this.
may_revert() {
    case $1 in
        mkdir) is_our_dir "$2" ;;
        file | own | link) is_ours "$2" ;;
        ethtool) [[ $2 =~ ^[A-Za-z0-9_.@-]+\ (channels|coalesce|rss)\ [a-z-]+$ ]] ;;
        *) return 1 ;;
    esac
}

# read_journal FILE: its intents in J_*, in order, with how each ended (J_END: D, F or nothing) and what was read back.
# Damaged lines are named in J_DAMAGE. A last line that was cut short is none: what it announced was not begun.
read_journal() {
    local file=$1 line number=0 length body i shown=$STATE_NAME/${1##*/}
    local -a fields lines
    local -A at=()
    J_NUMBER=() J_KIND=() J_ID=() J_FORM=() J_TARGET=() J_OLD=() J_NEW=() J_END=() J_BACK=() J_BOOT='' J_DAMAGE=()
    if [[ -L $file || ! -O $file || ! -f $file ]]; then
        J_DAMAGE+=("$shown: is not a file of this user: it is not trusted")
        return 0
    fi
    mapfile -t lines <"$file"
    slurp_end "$file"
    for line in "${lines[@]}"; do
        number=$((number + 1))
        length=${line##*|} body=${line%|*}
        if [[ $line != *'|'* || ! $length =~ ^[0-9]{1,9}$ ]] || ((10#$length != ${#body})); then
            if ((number == ${#lines[@]} && !ENDS)); then continue; fi
            J_DAMAGE+=("$shown:$number: damaged; what it was about is not known")
            continue
        fi
        body+='|'
        fields=()
        while [[ -n $body ]]; do
            decode "${body%%|*}"
            fields+=("$DECODED")
            body=${body#*|}
        done
        case ${fields[0]}:${#fields[@]} in
            H:5) J_BOOT=${fields[4]} ;;
            I:8)
                if may_revert "${fields[2]}" "${fields[5]}"; then
                    at[${fields[1]}]=${#J_NUMBER[@]}
                    J_NUMBER+=("${fields[1]}") J_KIND+=("${fields[2]}") J_ID+=("${fields[3]}") J_FORM+=("${fields[4]}")
                    J_TARGET+=("${fields[5]}") J_OLD+=("${fields[6]}") J_NEW+=("${fields[7]#+}") J_END+=("") J_BACK+=("")
                else
                    J_DAMAGE+=("$shown:$number: names ${fields[5]}, which tune never writes to")
                fi
                ;;
            D:3 | F:3 | R:3)
                i=${at[${fields[1]}]:-}
                if [[ -z $i ]]; then
                    J_DAMAGE+=("$shown:$number: speaks of a write that was not announced")
                else
                    J_END[i]=${fields[0]}
                    [[ ${fields[0]} == R ]] || J_BACK[i]=${fields[2]}
                fi
                ;;
            *) J_DAMAGE+=("$shown:$number: is no line of a journal") ;;
        esac
    done
}

# slurp_end FILE: whether it ends with a newline, in ENDS.
slurp_end() {
    local all
    ENDS=1
    { IFS= read -r -d '' all <"$1" || true; } 2>/dev/null
    [[ -z $all || $all == *$'\n' ]] || ENDS=0
}

# Journals that are not reverted yet, the newest first, in OPEN.
open_journals() {
    local file
    OPEN=()
    for file in "$STATE_DIR"/[0-9][0-9][0-9][0-9][0-9][0-9]-*.journal; do OPEN=("$file" "${OPEN[@]}"); done
}

# wipe KIND TARGET: takes away a file, link or directory of ours. 1 and REASON if it cannot be.
wipe() {
    local error
    if ! is_inside "$ROOT/$2"; then
        [[ $1 == link ]] && is_inside "$ROOT/${2%/*}/x" || { REASON="leads out of $ROOT" && return 1; }
    fi
    if [[ $1 == mkdir ]]; then
        error=$(rmdir -- "$ROOT/$2" 2>&1) && return 0
    else
        error=$(rm -f -- "$ROOT/$2" 2>&1 && sync -- "$ROOT/${2%/*}" 2>&1) && return 0
    fi
    reason "$error"
    return 1
}

# revert_entry I: takes back one entry of the journal that was read. HOW is restored, same, boot, kept or left; WHY it was.
revert_entry() {
    local i=$1 kind=${J_KIND[$1]} target=${J_TARGET[$1]} form=${J_FORM[$1]} old=${J_OLD[$1]} status=0 expected was mode uid gid
    HOW=same WHY=
    if [[ $kind == own || $kind == link ]]; then rm -f -- "$ROOT/${target%/*}/.${target##*/}.tune-new" 2>/dev/null; fi
    if [[ $kind == mkdir ]]; then
        [[ -d $ROOT/$target && ! -L $ROOT/$target ]] || return 0
        if wipe mkdir "$target"; then
            HOW=restored
        else
            HOW=same WHY="/$target is kept: something else is in it"
        fi
        return 0
    fi
    # The kernel has begun anew since: what it has now is its own, or another boot's, also where it is what we wrote.
    if [[ -n $J_BOOT && $J_BOOT != "$BOOT" ]] && [[ $kind == file || $kind == ethtool || $target == run/* ]]; then
        HOW=boot
        return 0
    fi
    fetch "$kind" "$target" "$form" || status=$?
    if ((status == 1)); then
        return 0 # with what it was about, the value went
    elif ((status)); then
        HOW=left WHY="$NOTE"
        return 0
    fi
    if [[ ${J_END[i]} ]]; then expected=${J_BACK[i]}; else plain "$form" "${J_NEW[i]}" && expected=$PLAIN; fi
    case $kind in
        own) was=absent && [[ $old == - ]] || { was=${old#+*:*:*:} && IFS=: read -r mode uid gid _ <<<"${old#+}"; } ;;
        link) was=absent && [[ $old == - ]] || was=${old#+} ;;
        *) plain "$form" "${old#+}" && was=$PLAIN ;;
    esac
    [[ $NOW == "$was" ]] && return 0
    if [[ $NOW != "$expected" ]]; then
        HOW=left WHY="somebody has changed it since"
        if [[ $kind != own ]]; then WHY+=": it is '$NOW', we wrote '$expected', before it was '$was'"; fi
        return 0
    fi
    HOW=restored
    if [[ $old == - ]]; then
        wipe "$kind" "$target" || { HOW=left WHY=$REASON && return 0; }
    elif [[ $kind == own ]]; then
        [[ $mode =~ ^[0-7]{1,4}$ && $uid =~ ^[0-9]+$ && $gid =~ ^[0-9]+$ ]] || { HOW=left WHY="its journal is damaged" && return 0; }
        put_file "$target" "$was" "$mode" "$uid" "$gid" || { HOW=left WHY=$REASON && return 0; }
    elif [[ $kind == link ]]; then
        put link "$target" exact "$was" || { HOW=left WHY=$REASON && return 0; }
    else
        put "$kind" "$target" "$form" "${old#+}" || { HOW=left WHY=$REASON && return 0; }
    fi
    fetch "$kind" "$target" "$form" || true
    [[ $NOW == "$was" ]] || HOW=left WHY="was put back to '$was', and is '$NOW'"
}

# close_journal FILE: all of it is reverted.
close_journal() {
    local -a closed
    local i
    mv -fT -- "$1" "${1%.journal}.closed"
    closed=("$STATE_DIR"/[0-9]*.closed)
    for ((i = 0; i < ${#closed[@]} - CLOSED_MAX; i++)); do rm -f -- "${closed[i]}"; done
    return 0
}

# forget_old_boots: closes transactions of earlier boots that wrote no file which outlasts one: there is nothing to revert.
forget_old_boots() {
    local file i
    boot_id
    open_journals
    for file in "${OPEN[@]}"; do
        read_journal "$file"
        [[ -n $J_BOOT && $J_BOOT != "$BOOT" && ${#J_DAMAGE[@]} == 0 ]] || continue
        for i in "${!J_KIND[@]}"; do
            [[ ${J_END[i]} == R || ${J_KIND[i]} == file || ${J_KIND[i]} == ethtool ]] || continue 2
        done
        close_journal "$file"
    done
}
