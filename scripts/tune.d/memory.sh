# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2015 # names in capitals are shared by the parts; A && B || C as an idiom
# Tuners: thp, hugepages. Sourced, never run.

tuner thp "server loadgen lowlat" \
    "transparent huge pages where a program asks for them (madvise)" \
    "With always, the kernel makes huge pages of whatever looks right, and moves memory about for it while the program \
waits. With never, huge_pages of the node has no effect. madvise leaves it to the program." \
    "Programs that gain from always and do not ask lose a few percent." \
    "cat /sys/kernel/mm/transparent_hugepage/{enabled,defrag}; grep thp_ /proc/vmstat" \
    "Documentation/admin-guide/mm/transhuge.rst"
tuner hugepages "server loadgen lowlat" \
    "huge pages of 2 MiB set aside on each memory node (only with --hugepages N)" \
    "For programs beside the node that use hugetlbfs; memory is whole at boot, and in pieces later." \
    "What is set aside is lost to everything else, used or not." \
    "grep Huge /proc/meminfo; cat /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages" \
    "Documentation/admin-guide/mm/hugetlbpage.rst"

add_thp() {
    local dir=sys/kernel/mm/transparent_hugepage want=madvise
    machine_knob thp.enabled thp file "$dir/enabled" pick equal madvise
    [[ -z ${TUNED_SETS[thp]:-} || ${K_STATE[-1]} == left ]] || K_NOTE[-1]="managed by tuned:$TUNED"
    # Any but always keeps the wait away from who did not ask.
    if fetch file "$dir/defrag" pick && [[ $NOW != always ]]; then want=$NOW; fi
    machine_knob thp.defrag thp file "$dir/defrag" pick equal "$want"
}

add_hugepages() {
    local node path found=0
    if [[ -z $HUGEPAGES ]]; then
        # Not a word about what nobody asked for.
        return 0
    fi
    for node in "${NODES[@]}"; do
        path=sys/devices/system/node/node$node/hugepages/hugepages-2048kB/nr_hugepages
        machine_knob "hugepages.node$node" hugepages file "$path" words at_least "$HUGEPAGES"
        found=1
    done
    ((found)) || no_knob hugepages hugepages na "no memory nodes in /sys/devices/system/node"
}
