# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# Tuners of network cards: nic-queues, rss, irq, irqbalance, xps, rps, coalesce. Sourced, never run.
#
# One idea: queue i of a card belongs to shard i. Its interrupt, its receive work and its sends stay on that shard's CPU.
# With more queues than shards they wrap around; with fewer, RPS shares a queue among its shards.
#
# Not here: which CPUs shards have (knobs.sh).

tuner nic-queues "server lowlat" \
    "a queue of the card for each shard (ethtool -L)" \
    "A queue has its own interrupt, so each shard can take its packets on its own CPU." \
    "Changing the number resets the link for seconds, so it is done with --disruptive only. Never lowered." \
    "ethtool -l DEVICE" \
    "Documentation/networking/scaling.rst; ethtool(8)"
tuner rss "server lowlat" \
    "packets spread evenly over the queues (ethtool -X)" \
    "A table of the card says which queue a flow goes to; an uneven one makes one shard the bottleneck." \
    "Flows move to other queues once, and a few packets may be reordered. A table that was shaped by hand is left." \
    "ethtool -x DEVICE" \
    "Documentation/networking/scaling.rst; ethtool(8)"
tuner irq "server lowlat" \
    "the interrupt of queue i on the CPU of shard i" \
    "What the packet touched is in the caches of the CPU that took it." \
    "Interrupts that the kernel manages itself cannot be moved. With a card on the other memory node packets cross it." \
    "cat /proc/irq/N/effective_affinity_list; again after a minute, in case something moves it back" \
    "Documentation/core-api/irq/irq-affinity.rst"
tuner irqbalance "server lowlat" \
    "irqbalance keeps its hands off these interrupts and CPUs" \
    "It would move them back within ten seconds. It goes on balancing all others. By files in /run that the boot unit \
makes anew, as numbers of interrupts change; /etc/default/irqbalance is read, not written." \
    "None, as long as some CPUs are left to it." \
    "systemctl show -p Environment,EnvironmentFiles irqbalance; cat /run/corelane-tune/irqbalance.env" \
    "irqbalance(1), systemd.exec(5)"
tuner xps "server lowlat" \
    "sends of shard i by queue i" \
    "No lock is shared with another CPU, and the completion comes back to the one that sent." \
    "None known. N/A with one queue." \
    "cat /sys/class/net/DEVICE/queues/tx-*/xps_cpus" \
    "Documentation/networking/scaling.rst"
tuner rps "server lowlat" \
    "off with a queue for each shard; else the queue's packets shared among its shards (RPS, RFS)" \
    "RPS hands packets to other CPUs by an interrupt between them. That is waste with enough queues, and the only way to \
use more than one CPU without." \
    "Costs CPU time for each packet that is handed over. With very short connections the table of RFS does not help." \
    "cat /sys/class/net/DEVICE/queues/rx-*/rps_cpus; cat /proc/net/softnet_stat (column 10)" \
    "Documentation/networking/scaling.rst"
tuner coalesce "lowlat" \
    "interrupts at once instead of gathered (ethtool -C)" \
    "A card waits up to rx-usecs for more packets before it interrupts; adaptive settings make that time vary." \
    "More interrupts, so more CPU time at high packet rates." \
    "ethtool -c DEVICE" \
    "ethtool(8)"

NICS=()      # cards that are looked at
MISSED_NICS=() # cards that --nics names and that are not there
ETHTOOL=     # the program, if there is one
declare -A E_OUT=() IRQ_NAME=()

find_nics() {
    local path dev
    local -a named=()
    NICS=() MISSED_NICS=()
    if [[ -n $WANT_NICS ]]; then
        IFS=, read -r -a named <<<"$WANT_NICS"
        for dev in "${named[@]}"; do
            if [[ $dev =~ ^[A-Za-z0-9_.@-]+$ && -d $ROOT/sys/class/net/$dev ]]; then
                NICS+=("$dev")
            elif [[ $COMMAND == apply && $RUNTIME_ONLY == 1 && $dev =~ ^[A-Za-z0-9_.@-]+$ ]]; then
                # At a boot: a card that has failed is no reason to leave all else undone.
                MISSED_NICS+=("$dev")
            else
                die "--nics: no device '$dev' in $ROOT/sys/class/net: ls shows what there is"
            fi
        done
    else
        for path in "$ROOT"/sys/class/net/*; do
            dev=${path##*/}
            [[ -e $path/device && $dev =~ ^[A-Za-z0-9_.@-]+$ ]] || continue
            if slurp "$path/operstate" && [[ $TEXT == down ]]; then continue; fi
            NICS+=("$dev")
        done
    fi
    ETHTOOL=
    if [[ -n $ROOT ]]; then
        # Ours would look at this machine, and a program of the tree would be run as whoever we are: only tests ask for it.
        [[ ${TUNE_TREE_PROGRAMS:-} == 1 && -x $ROOT/usr/sbin/ethtool ]] && ETHTOOL=$ROOT/usr/sbin/ethtool
    else
        ETHTOOL=$(PATH=$PATH:/usr/sbin:/sbin command -v ethtool) || ETHTOOL=
    fi
    E_OUT=()
}

# ethtool_out FLAG DEVICE: what it says, in OUT. 1 and NOTE if it fails. Asked once.
ethtool_out() {
    local name="$1 $2" status=0
    if [[ -z ${E_OUT[$name]+x} ]]; then
        OUT=$(TUNE_TREE=$ROOT timeout 20 "$ETHTOOL" "$1" "$2" 2>&1) || status=$?
        E_OUT[$name]=$status:$OUT
    fi
    status=${E_OUT[$name]%%:*} OUT=${E_OUT[$name]#*:}
    ((status == 0)) && return 0
    NOTE="ethtool $1 $2: ${OUT%%$'\n'*}"
    return 1
}

# ethtool_get "DEVICE GROUP NAME": as fetch. Also MOST, the maximum, for channels.
ethtool_get() {
    local dev group name line now=0
    read -r dev group name <<<"$1"
    RAW='' NOW='' MOST=
    if [[ -z $ETHTOOL && -n $ROOT ]]; then
        NOTE="ethtool is not run below another root: do this on the host itself"
        return 2
    elif [[ -z $ETHTOOL ]]; then
        NOTE="ethtool is not installed: apt-get install ethtool, then this again"
        return 2
    fi
    if [[ ! -e $ROOT/sys/class/net/$dev ]]; then NOTE="absent here" && return 1; fi
    case $group in
        channels)
            ethtool_out -l "$dev" || return 2
            while IFS= read -r line; do
                [[ $line == Current* ]] && now=1
                [[ $line =~ ^Combined:[[:space:]]*([0-9]+) ]] || continue
                if ((now)); then NOW=${BASH_REMATCH[1]}; else MOST=${BASH_REMATCH[1]}; fi
            done <<<"$OUT"
            NOTE="the driver has no combined channels"
            ;;
        coalesce)
            ethtool_out -c "$dev" || return 2
            while IFS= read -r line; do
                case $name in
                    adaptive-rx) [[ $line =~ ^Adaptive\ RX:\ *(on|off) ]] && NOW=${BASH_REMATCH[1]} ;;
                    adaptive-tx) [[ $line =~ ^Adaptive.*TX:\ *(on|off) ]] && NOW=${BASH_REMATCH[1]} ;;
                    *) [[ $line =~ ^$name:[[:space:]]*([0-9]+) ]] && NOW=${BASH_REMATCH[1]} ;;
                esac
            done <<<"$OUT"
            NOTE="the driver does not have it"
            ;;
        rss)
            ethtool_out -x "$dev" || return 2
            read_rss_table
            NOTE="the card has no table"
            ;;
    esac
    RAW=$NOW
    [[ -n $NOW ]] || return 1
}

# The table in OUT as words for ethtool -X, in NOW: `equal N`, `weight A B ...`, or `shaped` if neither gives it again.
read_rss_table() {
    local line queue i top=0 last=-1 runs=1 even=1
    local -a table=() counts=()
    MOST=
    while IFS= read -r line; do
        [[ $line =~ with\ ([0-9]+)\ RX\ ring ]] && MOST=${BASH_REMATCH[1]}
        if [[ $line =~ ^[[:space:]]*[0-9]+:[[:space:]]*([0-9[:space:]]+)$ ]]; then
            for queue in ${BASH_REMATCH[1]}; do table+=("$((10#$queue))"); done
        elif ((${#table[@]})); then
            break
        fi
    done <<<"$OUT"
    ((${#table[@]})) || return 0
    for queue in "${table[@]}"; do ((queue > top)) && top=$queue; done
    for i in "${!table[@]}"; do
        queue=${table[i]}
        ((queue == i % (top + 1))) || even=0
        ((queue >= last)) || runs=0
        last=$queue
        counts[queue]=$((${counts[queue]:-0} + 1))
    done
    if ((even)); then
        NOW="equal $((top + 1))"
    elif ((runs)); then
        NOW=weight
        for ((i = 0; i <= top; i++)); do NOW+=" ${counts[i]:-0}"; done
    else
        NOW=shaped
    fi
}

# ethtool_set "DEVICE GROUP NAME" VALUE. 1 and REASON if it fails.
ethtool_set() {
    local dev group name said key
    local -a words
    read -r dev group name <<<"$1"
    if [[ -z $ETHTOOL ]]; then
        REASON="ethtool is not installed"
        return 1
    fi
    read -r -a words <<<"$2"
    for key in "${words[@]}"; do
        [[ $key =~ ^[a-z0-9]+$ ]] || { REASON="'$2' is no value for ethtool" && return 1; }
    done
    for key in "${!E_OUT[@]}"; do
        if [[ $key == *" $dev" ]]; then unset "E_OUT[$key]"; fi
    done
    case $group in
        channels) said=$(TUNE_TREE=$ROOT timeout 60 "$ETHTOOL" -L "$dev" "$name" "${words[@]}" 2>&1) && return 0 ;;
        coalesce) said=$(TUNE_TREE=$ROOT timeout 60 "$ETHTOOL" -C "$dev" "$name" "${words[@]}" 2>&1) && return 0 ;;
        rss) said=$(TUNE_TREE=$ROOT timeout 60 "$ETHTOOL" -X "$dev" "${words[@]}" 2>&1) && return 0 ;;
    esac
    REASON="ethtool: ${said%%$'\n'*}"
    return 1
}

# add_missed_nics: a row for each card that was named and is not there.
add_missed_nics() {
    local dev
    for dev in "${MISSED_NICS[@]}"; do
        no_knob "$dev" nic-queues drift "no such device in /sys/class/net: none of its settings was made"
        K_STATE[-1]=drift K_DONE[-1]=failed
    done
}

# no_nic TUNER: for tuners that have nothing to do here. 1 if there are cards.
no_nic() {
    ((${#NICS[@]})) && return 1
    no_knob "$1" "$1" na "no network card with a driver here"
}

add_nic_queues() {
    local dev want
    no_nic nic-queues && return 0
    for dev in "${NICS[@]}"; do
        if ! is_chosen "$dev.queues" nic-queues; then
            no_knob "$dev.queues" nic-queues left ""
            continue
        fi
        want=${#SHARDS[@]} MOST=
        if ethtool_get "$dev channels combined" && [[ -n $MOST ]] && ((MOST < want)); then want=$MOST; fi
        if [[ -n $ETHTOOL && -z $MOST ]]; then
            no_knob "$dev.queues" nic-queues unsupported "${NOTE:-the driver has no combined channels}"
            continue
        fi
        machine_knob "$dev.queues" nic-queues ethtool "$dev channels combined" words at_least "$want"
        ((DISRUPTIVE)) || hold "${K_NOW[-1]} -> $want resets the link for seconds: add --disruptive to do it"
    done
}

add_rss() {
    local dev now least
    no_nic rss && return 0
    for dev in "${NICS[@]}"; do
        if ! is_chosen "$dev.rss" rss; then
            no_knob "$dev.rss" rss left ""
            continue
        fi
        now='' MOST=
        ethtool_get "$dev rss equal" && now=$NOW
        least=${#SHARDS[@]}
        [[ -n $MOST ]] && ((MOST < least)) && least=$MOST
        if [[ $now == shaped ]]; then
            no_knob "$dev.rss" rss skipped "was shaped by hand and could not be put back: ethtool -X $dev equal $MOST, if you want it even"
            continue
        fi
        # Even over at least as many queues as there are shards is right.
        if [[ $now == equal\ * ]] && ((${now#equal } >= least)); then least=${now#equal }; else least=${MOST:-$least}; fi
        machine_knob "$dev.rss" rss ethtool "$dev rss equal" words equal "equal $least"
    done
}

# What /proc/interrupts calls each interrupt.
read_interrupts() {
    local line irq
    IRQ_NAME=()
    [[ -r $ROOT/proc/interrupts ]] || return 0
    while IFS= read -r line; do
        irq=${line%%:*}
        irq=${irq// /}
        [[ $irq =~ ^[0-9]+$ && $line == *:* ]] && IRQ_NAME[$irq]=${line##*[[:space:]]}
    done <"$ROOT/proc/interrupts"
}

# queue_of NAME: the number of the queue that an interrupt of this name belongs to, in QUEUE. 1 if to none.
queue_of() {
    QUEUE=
    if [[ $1 =~ ([Tt]x-?[Rr]x|[Rr]x|[Tt]x|fp)-([0-9]+)$ || $1 =~ (input|output)\.([0-9]+)$ ||
        $1 =~ (_comp|mlx4-)([0-9]+)@ || $1 =~ (_comp)([0-9]+)$ || $1 =~ (ntfy-b[^0-9]*)([0-9]+)@ ]]; then
        QUEUE=$((10#${BASH_REMATCH[2]}))
        return 0
    fi
    return 1
}

BANNED_IRQS=() # interrupts that irqbalance has to leave alone
add_irq() {
    local dev dir irq found
    BANNED_IRQS=()
    no_nic irq && return 0
    read_interrupts
    for dev in "${NICS[@]}"; do
        found=0
        # Of virtio the PCI device is one further up.
        for dir in "$ROOT/sys/class/net/$dev"/device/{msi_irqs,../msi_irqs}; do
            [[ -d $dir ]] || continue
            while IFS= read -r irq; do
                [[ $irq =~ ^[0-9]+$ ]] && queue_of "${IRQ_NAME[$irq]:-}" || continue
                found=1
                ((${#SHARDS[@]})) || continue
                machine_knob "$dev.irq.$irq" irq file "proc/irq/$irq/smp_affinity_list" list equal \
                    "${SHARDS[QUEUE % ${#SHARDS[@]}]}"
                # What is in its place, or is about to be put there. All others are irqbalance's to move.
                [[ ${K_STATE[-1]} == ok || ${K_STATE[-1]} == drift ]] && BANNED_IRQS+=("$irq")
            done < <(printf '%s\n' "$dir"/* | sed 's|.*/||' | sort -n)
            break
        done
        ((found)) || no_knob "$dev.irq" irq na "no interrupts of queues found for it in /proc/interrupts"
        show_effective "$dev"
    done
}

# show_effective DEVICE: interrupts that are as wanted, and come in elsewhere all the same: the controller has the last word,
# or none has come since.
show_effective() {
    local i wrong=0 first=''
    [[ -z $ROOT ]] || return 0 # files do not move interrupts
    for i in "${!K_ID[@]}"; do
        [[ ${K_ID[i]} == "$1".irq.* && ${K_STATE[i]} == ok ]] || continue
        slurp "/${K_TARGET[i]/%smp_affinity_list/effective_affinity_list}" && [[ -n $TEXT ]] || continue
        [[ $TEXT != "${K_NOW[i]}" ]] || continue
        wrong=$((wrong + 1))
        first=${first:-${K_ID[i]} wants CPU ${K_NOW[i]} and comes in on $TEXT}
    done
    ((wrong == 0)) || no_knob "$1.irq.effective" irq info "$wrong not moved yet: $first; look again after some traffic"
}

# setting_of NAME FILE...: what files for EnvironmentFile= give a variable at last, in VALUE.
setting_of() {
    local name=$1 file line
    VALUE=
    shift
    for file in "$@"; do
        [[ -r $file ]] || continue
        while IFS= read -r line || [[ -n $line ]]; do
            [[ $line =~ ^[[:space:]]*$name=(.*)$ ]] || continue
            VALUE=${BASH_REMATCH[1]%"${BASH_REMATCH[1]##*[![:space:]]}"}
            if [[ $VALUE =~ ^\"(.*)\"$ || $VALUE =~ ^\'(.*)\'$ ]]; then VALUE=${BASH_REMATCH[1]}; fi
        done <"$file"
    done
}

add_irqbalance() {
    local dir unit='' line variable='' irq args text theirs
    local -a files=()
    for dir in etc run usr/local/lib usr/lib lib; do
        if [[ -r $ROOT/$dir/systemd/system/irqbalance.service ]]; then
            unit=$ROOT/$dir/systemd/system/irqbalance.service
            break
        fi
    done
    if [[ -z $unit ]]; then
        no_knob irqbalance irqbalance na "irqbalance is not installed: nothing moves interrupts back"
        return 0
    fi
    if ((${#BANNED_IRQS[@]} == 0)); then
        no_knob irqbalance irqbalance na "no interrupts of queues to be kept from it: none is set by the tuner irq"
        return 0
    fi
    while IFS= read -r line; do
        if [[ $line =~ ^EnvironmentFile=-?(/[^[:space:]]+) ]]; then files+=("$ROOT${BASH_REMATCH[1]}"); fi
        if [[ $line =~ ^ExecStart=.*irqbalance.*\$\{?([A-Z_]+) ]]; then variable=${BASH_REMATCH[1]}; fi
    done <"$unit"
    if [[ -z $variable ]]; then
        no_knob irqbalance irqbalance unsupported "its unit takes no arguments from the environment: add --banirq=N for \
interrupts ${BANNED_IRQS[*]} to ExecStart by systemctl edit irqbalance"
        return 0
    fi
    if [[ ! -d $ROOT/run/systemd/system ]]; then
        no_knob irqbalance irqbalance unsupported "systemd does not run here: start irqbalance with --banirq=N for \
interrupts ${BANNED_IRQS[*]}"
        return 0
    fi
    setting_of "$variable" "${files[@]}"
    args=$VALUE
    for irq in "${BANNED_IRQS[@]}"; do
        [[ " $args " == *" --banirq=$irq "* ]] || args+="${args:+ }--banirq=$irq"
    done
    text="$MADE_BY"$'\n'
    if ((${#REST[@]})); then
        setting_of IRQBALANCE_BANNED_CPULIST "${files[@]}"
        theirs=()
        if cpus_of "$VALUE"; then theirs=("${CPUS[@]}"); fi
        # Without a list of ours it keeps off these by itself.
        for line in isolated nohz_full; do
            if slurp "$ROOT/sys/devices/system/cpu/$line" && cpus_of "$TEXT"; then theirs+=("${CPUS[@]}"); fi
        done
        list_of "${SHARDS[@]}" "${theirs[@]}"
        text+="IRQBALANCE_BANNED_CPULIST=$LIST"$'\n'
    fi
    text+="$variable=\"$args\""$'\n'
    machine_knob irqbalance.env irqbalance own run/corelane-tune/irqbalance.env exact equal "$text"
    # A later file wins over an earlier one, so what the administrator has is kept, but for these two.
    machine_knob irqbalance.unit irqbalance own run/systemd/system/irqbalance.service.d/90-corelane.conf exact equal \
        "$MADE_BY"$'\n[Service]\nEnvironmentFile=-/run/corelane-tune/irqbalance.env\n'
    [[ -z ${TUNED_SETS[irqbalance]:-} || ${K_STATE[-1]} == left ]] || K_NOTE[-1]="managed by tuned:$TUNED"
}

# shards_of QUEUE QUEUES: the CPUs of the shards that a queue serves, in OF_QUEUE.
shards_of() {
    local i
    OF_QUEUE=()
    for ((i = $1; i < ${#SHARDS[@]}; i += $2)); do OF_QUEUE+=("${SHARDS[i]}"); done
}

# device_knob: as knob, for what belongs to a device; a container may see a device that is not its own.
device_knob() {
    knob "$@"
    if [[ -n $CONTAINER ]]; then hold "the card is the host's: set it there, not in a container ($CONTAINER)"; fi
}

add_xps() {
    local dev i count cpu
    local -a queues with
    no_nic xps && return 0
    for dev in "${NICS[@]}"; do
        queues=("$ROOT/sys/class/net/$dev/queues"/tx-[0-9]*)
        count=${#queues[@]}
        if ((count < 2)); then
            no_knob "$dev.xps" xps na "the card has one queue to send by"
            continue
        fi
        for ((i = 0; i < count && i < ${#SHARDS[@]}; i++)); do
            shards_of "$i" "$count"
            with=()
            for cpu in "${OF_QUEUE[@]}"; do
                # shellcheck disable=SC2206 # numbers
                with+=(${SIBLINGS[$cpu]:-$cpu})
            done
            mask_of "${with[@]}"
            device_knob "$dev.xps.tx-$i" xps file "sys/class/net/$dev/queues/tx-$i/xps_cpus" mask equal "$MASK"
        done
    done
}

add_rps() {
    local dev i count entries=32768 each
    local -a queues
    no_nic rps && return 0
    for dev in "${NICS[@]}"; do
        queues=("$ROOT/sys/class/net/$dev/queues"/rx-[0-9]*)
        count=${#queues[@]}
        if ((count == 0)); then
            no_knob "$dev.rps" rps na "the card shows no queues"
            continue
        fi
        if ((count < ${#SHARDS[@]})); then
            # The table is one for the machine; each queue has its part of it, a power of two.
            if [[ " ${K_ID[*]} " != *" net.core.rps_sock_flow_entries "* ]]; then
                machine_knob net.core.rps_sock_flow_entries rps file proc/sys/net/core/rps_sock_flow_entries words at_least \
                    $entries
            fi
            each=$entries
            while ((each * count > entries && each > 1)); do each=$((each / 2)); done
        fi
        for ((i = 0; i < count; i++)); do
            if ((count < ${#SHARDS[@]})); then
                shards_of "$i" "$count"
                mask_of "${OF_QUEUE[@]}"
                device_knob "$dev.rps.rx-$i" rps file "sys/class/net/$dev/queues/rx-$i/rps_cpus" mask equal "$MASK"
                device_knob "$dev.rfs.rx-$i" rps file "sys/class/net/$dev/queues/rx-$i/rps_flow_cnt" words at_least "$each"
            else
                device_knob "$dev.rps.rx-$i" rps file "sys/class/net/$dev/queues/rx-$i/rps_cpus" mask equal 0
            fi
        done
    done
}

add_coalesce() {
    local dev name
    no_nic coalesce && return 0
    for dev in "${NICS[@]}"; do
        for name in adaptive-rx adaptive-tx; do
            machine_knob "$dev.$name" coalesce ethtool "$dev coalesce $name" words equal off
        done
        machine_knob "$dev.rx-usecs" coalesce ethtool "$dev coalesce rx-usecs" words at_most 8
    done
}
