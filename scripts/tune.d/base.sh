# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# What all parts of scripts/tune use: files below the root, numbers, lists and masks of CPUs, texts. Sourced, never run.
#
# Rules:
#  1. Nothing here writes to the host.
#  2. No program is started where bash can do it itself: a host of 64 CPUs has a thousand files to look at.
#  3. Results come back in variables named in capitals, as a subshell for each would break rule 2.
#
# Not here: what a knob is (knobs.sh), writing (journal.sh).

say() {
    printf '%s\n' "$*" >&2
}

# Ends the script: it could not do its work. Says what, and what to type.
die() {
    say "tune: $*"
    exit 1
}

# slurp PATH: the text of a file in TEXT, without newlines at its end. 1 if it cannot be read.
slurp() {
    TEXT=
    [[ -f $1 && -r $1 ]] || return 1
    { IFS= read -r -d '' TEXT <"$1" || true; } 2>/dev/null
    while [[ $TEXT == *$'\n' ]]; do TEXT=${TEXT%$'\n'}; done
    return 0
}

# squeeze TEXT: words with one space between them, in SQUEEZED.
squeeze() {
    local -a words
    local IFS=$' \t\n'
    read -r -d '' -a words <<<"$1" || true
    SQUEEZED="${words[*]}"
}

is_number() {
    [[ $1 =~ ^-?[0-9]+$ ]]
}

# not_less A B: A >= B, also past 64 bits. Both are whole numbers.
not_less() {
    local a=$1 b=$2 sign=1
    if [[ $a == -* && $b != -* ]]; then return 1; fi
    if [[ $a != -* && $b == -* ]]; then return 0; fi
    if [[ $a == -* ]]; then sign=-1 a=${a#-} b=${b#-}; fi
    while [[ $a == 0?* ]]; do a=${a#0}; done
    while [[ $b == 0?* ]]; do b=${b#0}; done
    [[ $a == "$b" ]] && return 0
    local more=1
    if ((${#a} != ${#b})); then
        ((${#a} > ${#b})) || more=0
    else
        [[ $a > $b ]] || more=0
    fi
    ((sign == 1)) || more=$((1 - more))
    ((more))
}

# cpus_of LIST: the CPUs of a list such as 0-3,8 in CPUS (an array, rising). 1 if it is none.
cpus_of() {
    CPUS=()
    local part first last i
    local -a parts seen=()
    [[ $1 =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] || return 1
    IFS=, read -r -a parts <<<"$1"
    for part in "${parts[@]}"; do
        first=$((10#${part%-*})) last=$((10#${part#*-}))
        ((first <= last && last < 8192)) || return 1
        for ((i = first; i <= last; i++)); do seen[i]=1; done
    done
    CPUS=("${!seen[@]}")
}

# list_of CPU...: their list, such as 0-3,8, in LIST.
list_of() {
    local -a seen=()
    local cpu first='' last=
    LIST=
    for cpu in "$@"; do seen[cpu]=1; done
    for cpu in "${!seen[@]}"; do
        if [[ -n $last ]] && ((cpu == last + 1)); then
            last=$cpu
            continue
        fi
        add_span "$first" "$last"
        first=$cpu last=$cpu
    done
    add_span "$first" "$last"
    LIST=${LIST#,}
}

add_span() {
    if [[ -z $1 ]]; then return 0; fi
    LIST+=,$1
    if [[ $1 != "$2" ]]; then LIST+=-$2; fi
}

# mask_of CPU...: their mask in hexadecimal, groups of 32 with commas, in MASK.
mask_of() {
    local -a words=(0)
    local cpu i word
    for cpu in "$@"; do ((words[cpu / 32] = ${words[cpu / 32]:-0} | 1 << cpu % 32)); done
    local -a used=("${!words[@]}")
    local top=${used[-1]}
    printf -v MASK '%x' "${words[top]}"
    for ((i = top - 1; i >= 0; i--)); do
        printf -v word '%08x' "${words[i]:-0}"
        MASK+=,$word
    done
}

# plain FORM TEXT: the text as it is compared, in PLAIN. Files say the same in more than one way.
#   words  blanks do not count        mask  nor do commas and zeros in front
#   list   0,1,2 is 0-2               pick  the word in [brackets] is the value
#   exact  every byte counts
plain() {
    case $1 in
        exact) PLAIN=$2 ;;
        mask)
            PLAIN=${2//[, $'\n']/}
            PLAIN=${PLAIN,,}
            if [[ $PLAIN =~ ^0+([^0].*|0)$ ]]; then PLAIN=${BASH_REMATCH[1]}; fi
            ;;
        list)
            squeeze "$2"
            PLAIN=$SQUEEZED
            # Most have one part only, and are plain.
            if [[ $PLAIN == *,* ]] && cpus_of "$PLAIN"; then
                list_of "${CPUS[@]}"
                PLAIN=$LIST
            fi
            ;;
        pick)
            if [[ $2 =~ \[([^]]*)\] ]]; then
                PLAIN=${BASH_REMATCH[1]}
            else
                squeeze "$2"
                PLAIN=$SQUEEZED
            fi
            ;;
        *)
            squeeze "$2"
            PLAIN=$SQUEEZED
            ;;
    esac
}

# json TEXT: as a JSON string in JSON. Control characters are escaped; what is not ASCII becomes `?`, as nobody says that
# it is UTF-8.
json() {
    local text=$1 i code
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    text=${text//$'\r'/\\r}
    text=${text//[$'\200'-$'\377']/?}
    if [[ $text == *[$'\001'-$'\037']* ]]; then
        local clean=
        for ((i = 0; i < ${#text}; i++)); do
            printf -v code '%d' "'${text:i:1}"
            if ((code > 0 && code < 32)); then printf -v code '\\u%04x' "$code" && clean+=$code; else clean+=${text:i:1}; fi
        done
        text=$clean
    fi
    JSON="\"$text\""
}

# reason TEXT: what bash says about a failed redirection or write, without its own part, in REASON.
reason() {
    REASON=${1##*: }
    REASON=${REASON:-no reason was given}
}

# is_inside PATH: whether the directory of PATH, links followed, is below the root. Always, where the root is /.
#
# A tree given by --root may have links that lead out of it.
is_inside() {
    [[ -n $ROOT ]] || return 0
    local real
    # Not by readlink: this is asked for each write. We stand in / otherwise.
    cd -P -- "${1%/*}" 2>/dev/null || return 1
    real=$PWD
    cd /
    [[ $real == "$ROOT" || $real == "$ROOT"/* ]] || return 1
    [[ -L $1 ]] || return 0
    real=$(readlink -f -- "$1" 2>/dev/null) || return 1
    [[ $real == "$ROOT"/* ]]
}

BOLD='' DIM='' RED='' GREEN='' YELLOW='' BLUE='' PLAIN_INK=
# Colours, if standard output is a terminal that has them and nobody set NO_COLOR.
use_ink() {
    [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]] || return 0
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' BLUE=$'\e[36m' PLAIN_INK=$'\e[0m'
}
