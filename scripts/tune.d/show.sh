# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# What people and programs are shown: plan, check, explain, list, export, and the table after apply. Sourced, never run.
#
# Not here: what the states mean (knobs.sh).

# brief TEXT: on one line, not long, in BRIEF.
brief() {
    BRIEF=${1//$'\n'/ }
    BRIEF=${BRIEF//[$'\001'-$'\037']/ }
    if ((${#BRIEF} > 60)); then BRIEF=${BRIEF:0:57}...; fi
    [[ -n $BRIEF ]] || BRIEF="''"
}

# change_of I: `now -> wanted`, in CHANGE.
change_of() {
    local i=$1
    case ${K_KIND[i]} in
        own)
            if [[ ${K_NOW[i]} == absent ]]; then
                CHANGE="new file /${K_TARGET[i]}"
            elif [[ ${K_WANT[i]} == absent ]]; then
                CHANGE="removes /${K_TARGET[i]}, which is not needed any more"
            elif [[ ${K_NOW[i]} == "$MADE_BY"* ]]; then
                CHANGE="other text in /${K_TARGET[i]}"
            else
                CHANGE="replaces /${K_TARGET[i]}, which tune did not write; revert brings it back"
            fi
            ;;
        link)
            if [[ ${K_NOW[i]} == absent ]]; then
                CHANGE="new link /${K_TARGET[i]}"
            else
                CHANGE="/${K_TARGET[i]} -> ${K_WANT[i]}"
            fi
            ;;
        none) CHANGE=${K_NOW[i]} ;;
        *)
            brief "${K_NOW[i]}"
            CHANGE=$BRIEF
            brief "${K_WANT[i]}"
            CHANGE+=" -> $BRIEF"
            ;;
    esac
}

# about I: why, harm, check and source of a knob, in WHY HARM CHECK SOURCE.
about() {
    local key=${K_KEY[$1]} tuner=${K_TUNER[$1]}
    if [[ -n $key && -n ${KEY_WHY[$key]:-} ]]; then
        WHY=${KEY_WHY[$key]} HARM=${KEY_HARM[$key]} CHECK=${KEY_CHECK[$key]} SOURCE=${KEY_SOURCE[$key]}
    else
        WHY=${T_WHY[$tuner]} HARM=${T_HARM[$tuner]} CHECK=${T_CHECK[$tuner]} SOURCE=${T_SOURCE[$tuner]}
    fi
}

# wrapped HEAD TEXT: text of words, at most 100 columns, under a head of 10 columns.
wrapped() {
    local head=$1 line='' word
    local -a words
    read -r -d '' -a words <<<"$2" || true
    for word in "${words[@]}"; do
        if ((${#line} + ${#word} > 86)); then
            printf '      %s%-8s%s%s\n' "$DIM" "$head" "$line" "$PLAIN_INK"
            head='' line=
        fi
        line+="${line:+ }$word"
    done
    printf '      %s%-8s%s%s\n' "$DIM" "$head" "$line" "$PLAIN_INK"
}

# id_line HEAD I...: ids with commas, wrapped, under a head.
id_line() {
    local head=$1 ids='' i number=0
    shift
    for i in "$@"; do
        number=$((number + 1))
        if ((number > 12 && !VERBOSE)); then
            ids+=" and $(($# - 12)) more"
            break
        fi
        ids+="${ids:+, }${K_ID[i]}"
    done
    wrapped "$head" "$ids"
}

show_host() {
    local release=unknown
    if slurp "$ROOT/proc/sys/kernel/osrelease"; then release=$TEXT; fi
    list_of "${SHARDS[@]}"
    printf '%sCorelane on this host%s: profile %s, Linux %s%s\n' "$BOLD" "$PLAIN_INK" "$PROFILE" "$release" "${ROOT:+, tree $ROOT}"
    printf 'shards    %s on CPUs %s (%s)\n' "${#SHARDS[@]}" "${LIST:-none}" "$SHARDS_FROM"
    list_of "${REST[@]}"
    printf 'the rest  CPUs %s\n' "${LIST:-none}"
    printf 'cards     %s\n' "${NICS[*]:-none}"
}

SHOWN_MAX=4 # knobs of one family that are shown one by one, if their reasons are the same

show_plan() {
    local tuner i last shown hidden drift=0 skipped=0
    local -a changes fine absent barred notes
    show_host
    for tuner in "${TUNERS[@]}"; do
        changes=() fine=() absent=() barred=() notes=()
        for i in "${!K_ID[@]}"; do
            [[ ${K_TUNER[i]} == "$tuner" ]] || continue
            case ${K_STATE[i]} in
                drift) changes+=("$i") ;;
                skipped | unsupported) barred+=("$i") ;;
                ok) fine+=("$i") ;;
                na) absent+=("$i") ;;
                info | warn) notes+=("$i") ;;
            esac
        done
        ((${#changes[@]} + ${#fine[@]} + ${#absent[@]} + ${#barred[@]} + ${#notes[@]})) || continue
        printf '\n%s%s%s  %s\n' "$BOLD" "$tuner" "$PLAIN_INK" "${T_TITLE[$tuner]}"
        last='' shown=0 hidden=0
        for i in "${changes[@]}"; do
            drift=$((drift + 1))
            about "$i"
            if [[ $WHY == "$last" ]]; then
                if ((shown >= SHOWN_MAX && !VERBOSE)); then
                    hidden=$((hidden + 1))
                    continue
                fi
            fi
            shown=$((shown + 1))
            change_of "$i"
            printf '  %s~ %-34s%s %s\n' "$YELLOW" "${K_ID[i]}" "$PLAIN_INK" "$CHANGE"
            if [[ $WHY != "$last" ]]; then
                wrapped why "$WHY"
                wrapped harm "$HARM"
                last=$WHY
            fi
            [[ -z ${K_NOTE[i]} ]] || wrapped note "${K_NOTE[i]}"
            [[ -z ${K_SHADOW[i]} ]] || wrapped note "${K_SHADOW[i]}"
        done
        ((hidden == 0)) || printf '    and %s more of these (--verbose lists them)\n' "$hidden"
        for i in "${barred[@]}"; do
            [[ ${K_STATE[i]} == skipped ]] && skipped=$((skipped + 1))
            printf '  %s- %-34s%s %s: %s\n' "$BLUE" "${K_ID[i]}" "$PLAIN_INK" "${K_STATE[i]}" "${K_NOTE[i]}"
        done
        for i in "${notes[@]}"; do
            brief "${K_NOW[i]}"
            if [[ ${K_STATE[i]} == warn ]]; then printf '  %s! ' "$YELLOW"; else printf '  %s. ' "$DIM"; fi
            printf '%-34s%s %s\n' "${K_ID[i]}" "$PLAIN_INK" "${K_NOW[i]:+$BRIEF: }${K_NOTE[i]}"
        done
        if ((${#fine[@]})); then
            id_line as-is "${fine[@]}"
            for i in "${fine[@]}"; do
                [[ -z ${K_SHADOW[i]} ]] || wrapped note "${K_ID[i]}: ${K_SHADOW[i]}"
                [[ -z ${K_NOTE[i]} ]] || wrapped note "${K_ID[i]}: ${K_NOTE[i]}"
            done
        fi
        if ((${#absent[@]})); then
            for i in "${absent[@]}"; do wrapped N/A "${K_ID[i]}: ${K_NOTE[i]}"; done
        fi
    done
    printf '\n'
    if ((drift)); then
        printf '%s would change, nothing has been. To do it: %s apply --yes%s\n' "$drift" "$CALLED" "$CALLED_OPTIONS"
    else
        printf 'Nothing to change.\n'
    fi
}

# counts: how many knobs are in each state, in COUNT_*.
counts() {
    local i
    COUNT_UNSEEN=0 COUNT_NO_TOOL=0
    COUNT_OK=0 COUNT_DRIFT=0 COUNT_SKIPPED=0 COUNT_NA=0 COUNT_UNSUPPORTED=0 COUNT_INFO=0 COUNT_WARN=0 COUNT_SHADOW=0
    for i in "${!K_ID[@]}"; do
        case ${K_STATE[i]} in
            ok) COUNT_OK=$((COUNT_OK + 1)) ;;
            drift) COUNT_DRIFT=$((COUNT_DRIFT + 1)) ;;
            skipped) COUNT_SKIPPED=$((COUNT_SKIPPED + 1)) ;;
            na) COUNT_NA=$((COUNT_NA + 1)) ;;
            unsupported)
                COUNT_UNSUPPORTED=$((COUNT_UNSUPPORTED + 1))
                case ${K_NOTE[i]} in
                    *'not readable by this user'* | *'not permitted'* | *'ermission denied'*) COUNT_UNSEEN=$((COUNT_UNSEEN + 1)) ;;
                    *'is not installed'* | *'is not run below'*) COUNT_NO_TOOL=$((COUNT_NO_TOOL + 1)) ;;
                esac
                ;;
            info) COUNT_INFO=$((COUNT_INFO + 1)) ;;
            warn) COUNT_WARN=$((COUNT_WARN + 1)) ;;
        esac
        [[ -z ${K_SHADOW[i]} ]] || COUNT_SHADOW=$((COUNT_SHADOW + 1))
    done
}

# verdict: the exit code of check, in VERDICT: 2 if something has drifted, else 1 if something could not be looked at, else
# 0. Strictly, what was skipped, warned of or is shadowed is drift as well, and a missing tool is a reason for 1.
verdict() {
    counts
    VERDICT=0
    ((COUNT_UNSEEN == 0 && (!STRICT || COUNT_NO_TOOL == 0))) || VERDICT=1
    ((COUNT_DRIFT == 0 && (!STRICT || COUNT_SKIPPED + COUNT_WARN + COUNT_SHADOW == 0))) || VERDICT=2
}

show_check() {
    local i
    for i in "${!K_ID[@]}"; do
        case ${K_STATE[i]} in
            drift)
                change_of "$i"
                printf '%sdrift%s        %-34s %s\n' "$YELLOW" "$PLAIN_INK" "${K_ID[i]}" "$CHANGE"
                ;;
            skipped | unsupported) printf '%-12s %-34s %s\n' "${K_STATE[i]}" "${K_ID[i]}" "${K_NOTE[i]}" ;;
            warn)
                brief "${K_NOW[i]}"
                printf '%swarn%s         %-34s %s\n' "$YELLOW" "$PLAIN_INK" "${K_ID[i]}" "${K_NOW[i]:+$BRIEF: }${K_NOTE[i]}"
                ;;
        esac
        [[ -z ${K_SHADOW[i]} ]] || printf '%sshadowed%s     %-34s %s\n' "$YELLOW" "$PLAIN_INK" "${K_ID[i]}" "${K_SHADOW[i]}"
    done
    verdict
    printf 'profile %s: %s as wanted, %s drifted, %s skipped, %s shadowed, %s warnings, %s unsupported, %s N/A\n' "$PROFILE" \
        "$COUNT_OK" "$COUNT_DRIFT" "$COUNT_SKIPPED" "$COUNT_SHADOW" "$COUNT_WARN" "$COUNT_UNSUPPORTED" "$COUNT_NA"
    ((VERDICT != 1)) || printf 'Some could not be looked at, so nobody knows: run it as root, or install what is named above.\n'
    ((COUNT_DRIFT == 0)) || printf 'To see why: %s plan%s. To change it: %s apply --yes%s\n' "$CALLED" "$CALLED_OPTIONS" "$CALLED" \
        "$CALLED_OPTIONS"
}

show_json() {
    local i comma='' compliant=false want
    verdict
    ((VERDICT == 0)) && compliant=true
    json "$PROFILE"
    printf '{"version":1,"profile":%s,"compliant":%s,"strict":%s,"shards":[' "$JSON" "$compliant" \
        "$( ((STRICT)) && echo true || echo false)"
    local IFS=,
    printf '%s],"knobs":[' "${SHARDS[*]}"
    IFS=$' \t\n'
    for i in "${!K_ID[@]}"; do
        [[ ${K_STATE[i]} != left ]] || continue
        want=${K_WANT[i]}
        printf '%s\n{' "$comma"
        comma=,
        json "${K_ID[i]}" && printf '"id":%s' "$JSON"
        json "${K_TUNER[i]}" && printf ',"tuner":%s' "$JSON"
        printf ',"state":"%s"' "${K_STATE[i]}"
        json "${K_NOW[i]}" && printf ',"now":%s' "$JSON"
        json "$want" && printf ',"wanted":%s' "$JSON"
        printf ',"rule":"%s"' "${K_RULE[i]/at_least_wide/at_least}"
        json "${K_NOTE[i]}" && printf ',"note":%s' "$JSON"
        json "${K_SHADOW[i]}" && printf ',"shadowed":%s}' "$JSON"
    done
    printf '\n],"summary":{"ok":%s,"drift":%s,"skipped":%s,"shadowed":%s,"warn":%s,"info":%s,"unsupported":%s,"na":%s}}\n' \
        "$COUNT_OK" "$COUNT_DRIFT" "$COUNT_SKIPPED" "$COUNT_SHADOW" "$COUNT_WARN" "$COUNT_INFO" "$COUNT_UNSUPPORTED" "$COUNT_NA"
}

# rows HEAD INK I...: one part of the table after apply, families that are long in one line.
rows() {
    local head=$1 ink=$2 i tuner text
    shift 2
    printf '%s%-12s%s %s\n' "$ink" "$head" "$PLAIN_INK" "$#"
    local -A size=() seen=()
    for i in "$@"; do
        tuner="${K_TUNER[i]} ${K_NOTE[i]}"
        size[$tuner]=$((${size[$tuner]:-0} + 1))
    done
    for i in "$@"; do
        tuner="${K_TUNER[i]} ${K_NOTE[i]}"
        text=${K_NOTE[i]}
        if [[ $head == Applied ]]; then
            change_of "$i"
            text=$CHANGE${text:+; $text}
        elif [[ $head == Failed && ${K_KIND[i]} =~ ^(file|ethtool)$ ]]; then
            brief "${K_WANT[i]}"
            text="$text (wanted $BRIEF"
            brief "${K_NOW[i]}"
            text+=", it was $BRIEF)"
        elif [[ $head == Unsupported && ${K_STATE[i]} == na ]]; then
            text="N/A: $text"
        fi
        if ((size[$tuner] > SHOWN_MAX && !VERBOSE)) && [[ $head != Failed && ${K_TUNER[i]} != sysctl ]]; then
            [[ -z ${seen[$tuner]:-} ]] || continue
            seen[$tuner]=1
            printf '  %-34s %s\n' "${K_TUNER[i]} (${size[$tuner]})" "first ${K_ID[i]}: $text"
        else
            printf '  %-34s %s\n' "${K_ID[i]}" "$text"
        fi
    done
}

# show_applied: the table. Returns 1 if something failed.
show_applied() {
    local i left=0
    local -a applied=() already=() skipped=() unsupported=() failed=()
    for i in "${!K_ID[@]}"; do
        case ${K_DONE[i]:-${K_STATE[i]}} in
            applied) applied+=("$i") ;;
            failed) failed+=("$i") ;;
            ok) already+=("$i") ;;
            skipped | drift) skipped+=("$i") ;;
            unsupported | na) unsupported+=("$i") ;;
            left) left=$((left + 1)) ;;
        esac
    done
    rows Applied "$GREEN" "${applied[@]}"
    for i in "${applied[@]}"; do [[ -z ${K_SHADOW[i]} ]] || printf '  %-34s %s\n' "${K_ID[i]}" "${K_SHADOW[i]}"; done
    printf '%-12s %s\n' Already "${#already[@]}"
    rows Skipped "$BLUE" "${skipped[@]}"
    ((left == 0)) || printf '  %s left out: of another profile, by --only or by --skip\n' "$left"
    rows Unsupported "$DIM" "${unsupported[@]}"
    rows Failed "$RED" "${failed[@]}"
    if [[ -n $TX ]]; then
        printf 'transaction %s: to take it back, type %s revert %s%s\n' "$TX" "$CALLED" "${CALLED_ROOT:+$CALLED_ROOT }" "$TX"
    fi
    ((${#failed[@]} == 0))
}

show_list() {
    local tuner key
    printf 'Tuners (for --only and --skip), and the profiles that have them:\n'
    for tuner in "${TUNERS[@]}"; do
        printf '  %-12s %-22s %s\n' "$tuner" "${T_PROFILES[$tuner]// /,}" "${T_TITLE[$tuner]}"
    done
    printf '\nKernel settings of profile %s:\n' "$PROFILE"
    for key in "${KEYS[@]}"; do
        printf '  %-36s %-9s %s%s\n' "$key" "${KEY_RULE[$key]}" "${KEY_VALUE[$key]}" "${KEY_WHEN[$key]:+ (only ${KEY_WHEN[$key]})}"
    done
    printf '\n%s explain NAME says more; names of single knobs are in %s check --json.\n' "$CALLED" "$CALLED"
}

# explain NAME: a tuner, a key, or one knob as it is here. 1 if there is no such thing.
explain() {
    local name=$1 i found=0 number=0
    if [[ -n ${T_TITLE[$name]:-} ]]; then
        printf '%s%s%s: %s\n' "$BOLD" "$name" "$PLAIN_INK" "${T_TITLE[$name]}"
        printf '      profiles %s\n' "${T_PROFILES[$name]// /, }"
        wrapped why "${T_WHY[$name]}"
        wrapped harm "${T_HARM[$name]}"
        wrapped check "${T_CHECK[$name]}"
        wrapped source "${T_SOURCE[$name]}"
        found=1
    fi
    for i in "${!K_ID[@]}"; do
        # shellcheck disable=SC2053 # a pattern on purpose
        [[ ${K_ID[i]} == $name || ${K_TUNER[i]} == "$name" ]] || continue
        if ((!found)); then
            printf '%s%s%s: a knob of the tuner %s\n' "$BOLD" "${K_ID[i]}" "$PLAIN_INK" "${K_TUNER[i]}"
            about "$i"
            wrapped why "$WHY"
            wrapped harm "$HARM"
            wrapped check "$CHECK"
            [[ -z $SOURCE ]] || wrapped source "$SOURCE"
            found=1
        fi
        number=$((number + 1))
        ((number <= 12 || VERBOSE)) || continue
        brief "${K_NOW[i]}"
        printf '  %-34s %s' "${K_ID[i]}" "${K_STATE[i]}"
        if [[ ${K_KIND[i]} != none ]]; then
            printf ', now %s, wanted' "$BRIEF"
            [[ -z ${K_RULE[i]} || ${K_RULE[i]} == equal ]] || printf ' %s' "${K_RULE[i]//_/ }"
            brief "${K_WANT[i]}"
            printf ' %s' "$BRIEF"
        elif [[ -n ${K_NOW[i]} ]]; then
            printf ', %s' "$BRIEF"
        fi
        printf '%s\n' "${K_NOTE[i]:+; ${K_NOTE[i]}}${K_SHADOW[i]:+; ${K_SHADOW[i]}}"
    done
    ((number <= 12 || VERBOSE)) || printf '    and %s more (--verbose lists them)\n' $((number - 12))
    ((found))
}

# Export: what apply would make of this host, for another tool ----------------------------------------------------

# set_by_us I: whether tune, or scripts/install by its file, gave the knob the value that it has.
set_by_us() {
    local i=$1 key=${K_KEY[$1]} line
    [[ ${K_KIND[i]} != own && ${K_KIND[i]} != link ]] || return 0 # with our text it is ours
    [[ ${SET_BEFORE["${K_TARGET[i]:-none}"]:-} != "${K_NOW[i]}" ]] || return 0
    [[ -n $key ]] || return 1
    [[ ${KEPT[$key]:-} != "${K_NOW[i]}" ]] || return 0
    for line in "${!LINES_KEY[@]}"; do
        [[ ${LINES_PLACE[line]} == /etc/sysctl.d/50-corelane.conf:* && ${LINES_KEY[line]} == "$key" ]] || continue
        [[ ${LINES_VALUE[line]} != "${K_NOW[i]}" ]] || return 0
    done
    return 1
}

# wanted_now I: the value that the knob has or gets, in VALUE. 1 if it is none that another tool should set: where the
# kernel has it of itself, as a later one may have better, and where io_uring is allowed to all.
wanted_now() {
    case ${K_STATE[$1]} in
        drift) VALUE=${K_WANT[$1]} ;;
        ok)
            [[ ${K_TUNER[$1]} != io_uring && ${K_KIND[$1]} != none ]] && set_by_us "$1" || return 1
            VALUE=${K_NOW[$1]}
            [[ ${K_FORM[$1]} != mask ]] || VALUE=${K_WANT[$1]}
            ;;
        *) return 1 ;;
    esac
}

# not_exported I FORMAT: a comment for what other tools should know of and the format cannot say, or that apply would leave.
not_exported() {
    local why
    case ${K_STATE[$1]} in
        skipped | unsupported) why=${K_NOTE[$1]} ;;
        *)
            wanted_now "$1" || return 0
            why="$2 has no place for it"
            ;;
    esac
    why=${why//[$'\001'-$'\037']/ }
    printf '# not exported: %s (%s)\n' "${K_ID[$1]}" "$why"
}

export_sysctl() {
    local i
    printf '# Profile %s of Corelane, for the host that it was made on: docs/TUNING.md.\n' "$PROFILE"
    for i in "${!K_ID[@]}"; do
        if [[ -n ${K_KEY[i]} ]] && wanted_now "$i"; then
            printf '%s = %s\n' "${K_KEY[i]}" "$VALUE"
        elif [[ ${K_ID[i]} != sysctl.d ]]; then # it is this very text
            not_exported "$i" sysctl.d
        fi
    done
}

export_script() {
    local i word
    printf '#!/bin/sh\n# Profile %s of Corelane, for the host that it was made on. No journal, no way back: scripts/tune has both.\n' "$PROFILE"
    # shellcheck disable=SC2016 # for the other script
    printf 'failed=0\nput() { printf "%%s\\n" "$2" >"$1" || failed=1; }\n'
    for i in "${!K_ID[@]}"; do
        if [[ ! ${K_KIND[i]} =~ ^(file|ethtool)$ ]] || ! wanted_now "$i"; then
            not_exported "$i" "a script of values"
            continue
        fi
        case ${K_KIND[i]} in
            file) printf 'put %q %q\n' "/${K_TARGET[i]}" "$VALUE" ;;
            ethtool)
                read -r -a word <<<"${K_TARGET[i]}"
                case ${word[1]} in
                    channels) printf 'ethtool -L %q %s %s || failed=1\n' "${word[0]}" "${word[2]}" "$VALUE" ;;
                    coalesce) printf 'ethtool -C %q %s %s || failed=1\n' "${word[0]}" "${word[2]}" "$VALUE" ;;
                    rss) printf 'ethtool -X %q %s || failed=1\n' "${word[0]}" "$VALUE" ;;
                esac
                ;;
        esac
    done
    # shellcheck disable=SC2016 # for the other script
    printf 'exit $failed\n'
}

export_ansible() {
    local i
    printf -- '# Profile %s of Corelane, for the host that it was made on: docs/TUNING.md.\n' "$PROFILE"
    for i in "${!K_ID[@]}"; do
        if ! wanted_now "$i"; then
            not_exported "$i" ansible
            continue
        fi
        json "$VALUE"
        local value=$JSON
        if [[ -n ${K_KEY[i]} ]]; then
            json "${K_KEY[i]}"
            printf -- '- name: %s\n  ansible.posix.sysctl:\n    name: %s\n    value: %s\n    sysctl_file: /%s\n    reload: false\n    sysctl_set: true\n' \
                "\"Corelane: ${K_ID[i]}\"" "$JSON" "$value" "$SYSCTL_D"
        elif [[ ${K_KIND[i]} == file ]]; then
            json "/${K_TARGET[i]}"
            printf -- '- name: %s\n  ansible.builtin.shell: %s\n  args:\n    executable: /bin/bash\n' "\"Corelane: ${K_ID[i]}\"" \
                "\"printf '%s\\\\n' '${value:1:-1}' > ${JSON:1:-1}\""
        elif [[ ${K_KIND[i]} == own && ${K_ID[i]} != sysctl.d && ${K_TUNER[i]} != boot ]]; then
            json "/${K_TARGET[i]}"
            if [[ $VALUE == absent ]]; then
                printf -- '- name: %s\n  ansible.builtin.file:\n    path: %s\n    state: absent\n' "\"Corelane: ${K_ID[i]}\"" "$JSON"
                continue
            fi
            printf -- '- name: %s\n  ansible.builtin.copy:\n    dest: %s\n    content: %s\n    mode: "0644"\n' "\"Corelane: ${K_ID[i]}\"" \
                "$JSON" "$value"
        elif [[ ${K_ID[i]} != sysctl.d ]]; then # what that would have is set by key
            not_exported "$i" "this list of tasks"
        fi
    done
}

export_tuned() {
    local i
    printf '# Profile %s of Corelane, for the host that it was made on: docs/TUNING.md.\n[main]\nsummary=Corelane, %s\n\n[sysctl]\n' \
        "$PROFILE" "$PROFILE"
    for i in "${!K_ID[@]}"; do
        [[ -n ${K_KEY[i]} ]] && wanted_now "$i" && printf '%s=%s\n' "${K_KEY[i]}" "$VALUE"
    done
    printf '\n[sysfs]\n'
    for i in "${!K_ID[@]}"; do
        [[ -z ${K_KEY[i]} && ${K_KIND[i]} == file && ${K_TARGET[i]} == sys/* ]] && wanted_now "$i" &&
            printf '/%s=%s\n' "${K_TARGET[i]}" "$VALUE"
    done
    printf '\n'
    for i in "${!K_ID[@]}"; do
        [[ -n ${K_KEY[i]} || ${K_KIND[i]} == file && ${K_TARGET[i]} == sys/* ]] && wanted_now "$i" && continue
        [[ ${K_ID[i]} == sysctl.d ]] || not_exported "$i" "a profile of tuned"
    done
    return 0
}
