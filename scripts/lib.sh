# shellcheck shell=bash
# What the project's scripts share. Sourced, never run.
#
# Rules: data to standard output, talk to standard error; exit 0 done, 1 ran but something failed,
# 2 could not run.

# Talks to the person who runs the script.
say() {
    printf '%s\n' "$*" >&2
}

# Ends the script because it could not do its work.
die() {
    say "$0: $*"
    exit 2
}

# True on a build machine, where nothing may be skipped.
in_ci() {
    [[ ${CI:-} == true || ${CI:-} == 1 ]]
}

# Makes `cargo` callable on a machine where the shell does not know rustup yet.
need_cargo() {
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    command -v cargo >/dev/null || die "cargo is missing: install Rust with rustup, then run this again"
}

# need_tools COMMAND:PACKAGE...: installs the Debian packages of the commands that are missing.
#
# Installs only as root and only with apt-get. What cannot be had fails on a build machine and is
# named, with what to type, everywhere else.
need_tools() {
    local pair packages=() missing=() wanted=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
    done
    ((${#packages[@]})) || return 0
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "installing: ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        if ! apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null 2>&1; then
            apt-get update -qq >&2 || say "apt-get update failed; going on with the lists at hand"
            local package # one by one, so that one unknown name costs only itself
            for package in "${packages[@]}"; do
                apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
                    say "apt-get install $package failed"
            done
        fi
        hash -r
    fi
    for pair in "$@"; do
        if ! command -v "${pair%%:*}" >/dev/null; then
            missing+=("${pair%%:*}")
            wanted+=("${pair#*:}")
        fi
    done
    ((${#missing[@]})) || return 0
    say "missing: ${missing[*]} (as root: apt-get install ${wanted[*]})"
    in_ci && die "a build machine needs all of them"
    say "what needs them is skipped"
}

# need_program COMMAND PACKAGE PATH: installs one program out of a Debian package.
#
# For packages of servers: only the program at PATH is taken, so that no service is installed or started. Shared
# libraries that it lacks are installed as the packages that they are.
need_program() {
    command -v "$1" >/dev/null && return 0
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "installing: $1"
        local dir
        dir=$(mktemp -d)
        chmod 755 "$dir"
        (
            cd "$dir"
            apt-get download -qq "$2" >/dev/null 2>&1 ||
                { apt-get update -qq >&2 && apt-get download -qq "$2" >/dev/null; }
            dpkg -x "$2"_*.deb .
            if [[ $(ldd "$3") == *'not found'* ]]; then
                dpkg-deb -f "$2"_*.deb Depends | tr ',' '\n' | grep -oE '^ *lib[^ ]+' |
                    xargs apt-get install -y -qq --no-install-recommends >/dev/null
            fi
            install -m 755 "$3" "/usr/local/bin/$1"
        ) || say "$1 could not be installed"
        rm -rf "$dir"
        hash -r
    fi
    command -v "$1" >/dev/null && return 0
    say "missing: $1 (as root: apt-get install $2)"
    in_ci && die "a build machine needs it"
    say "the tests that need it fail or are skipped"
}

# need_module MODULE PACKAGE: installs the Debian package of a module of python3 that is missing.
need_module() {
    python3 -c "import $1" >/dev/null 2>&1 && return 0
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "installing: $2"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null ||
            say "apt-get install $2 failed"
    fi
    python3 -c "import $1" >/dev/null 2>&1 && return 0
    say "missing: the module $1 of python3 (as root: apt-get install $2)"
    in_ci && die "a build machine needs it"
    say "the tests that need it fail or are skipped"
}

stage_names=()
stage_results=()

# stage NAME COMMAND...: runs one step, prints its name before and its time after, and remembers how
# it ended for stages_end. Never ends the script itself, so one run shows every fault.
stage() {
    local name=$1 start=$SECONDS result=ok
    shift
    say "== $name"
    "$@" || result="FAILED ($?)"
    say "== $name: $result, $((SECONDS - start)) s"
    stage_names+=("$name")
    stage_results+=("$result, $((SECONDS - start)) s")
    [[ $result == ok ]] || stages_failed=1
}
stages_failed=0

# Prints every stage again with its result; returns 1 if one failed.
stages_end() {
    local i
    for i in "${!stage_names[@]}"; do
        say "$(printf '%-14s %s' "${stage_names[$i]}" "${stage_results[$i]}")"
    done
    return "$stages_failed"
}
