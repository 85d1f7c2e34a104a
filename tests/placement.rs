//! How many shards run and where, on machines of many shapes, and what is said about it.
//!
//! Not here: files of cgroups and sysfs one by one (`corelane_sys`), pinning itself (`corelane_sys::cpu`).

#![allow(clippy::unwrap_used)]

#[path = "placement/machine.rs"]
mod machine;
mod program;

use std::collections::BTreeSet;
use std::process::Command;

use corelane::Limits;
use corelane::placement::{self, Place, Placement, Wish};
use machine::{Machine, cpus};
use program::{Node, has, is_root, run, run_with, through};

const MIB: u64 = 1 << 20;

fn shards(count: u16) -> Wish<'static> {
    Wish { shards: Some(count), ..Wish::default() }
}

fn list(range: impl IntoIterator<Item = usize>) -> Vec<usize> {
    range.into_iter().collect()
}

/// Two sockets of two caches of eight cores of two threads: 64 CPUs, 0-31 the first threads.
fn two_sockets() -> Machine {
    Machine::new(2, 2, 8, 2)
}

#[test]
fn by_default_each_physical_core_has_a_shard_and_the_other_threads_are_spare() {
    let placement = two_sockets().place(Wish::default()).unwrap();
    assert_eq!(cpus(&placement), list(0..32));
    assert_eq!(placement.spare, list(32..64));
    assert_eq!(placement.notes, [""; 0]);
    let place = |cpu| placement.shards[cpu];
    assert_eq!(place(0), Place { cpu: Some(0), node: Some(0), llc: Some(0) });
    assert_eq!(place(15), Place { cpu: Some(15), node: Some(0), llc: Some(8) });
    assert_eq!(place(31), Place { cpu: Some(31), node: Some(1), llc: Some(24) });
}

#[test]
fn with_smt_every_thread_has_a_shard_and_neighbours_share_a_cache() {
    let placement = two_sockets().place(Wish { smt: true, ..Wish::default() }).unwrap();
    let first: Vec<usize> = (0..8).chain(32..40).collect();
    assert_eq!(cpus(&placement)[..16], first);
    assert_eq!(cpus(&placement).into_iter().collect::<BTreeSet<_>>(), (0..64).collect());
    assert!(placement.spare.is_empty());
}

#[test]
fn few_shards_stay_in_one_cache_and_leave_the_core_of_cpu_0_for_last() {
    let machine = two_sockets();
    assert_eq!(machine.cpus_of(1), [1]);
    assert_eq!(machine.cpus_of(7), list(1..8));
    assert_eq!(machine.cpus_of(8), list(0..8));
    let placement = machine.place(shards(7)).unwrap();
    let idle: Vec<usize> = [0].into_iter().chain(8..33).chain(40..64).collect();
    assert_eq!(placement.spare, idle, "whole cores only");
}

#[test]
fn shards_beyond_a_cache_fill_one_node_and_beyond_a_node_the_next() {
    let machine = two_sockets();
    assert_eq!(machine.cpus_of(9), list(0..8).into_iter().chain([8]).collect::<Vec<_>>());
    assert_eq!(machine.cpus_of(16), list(0..16));
    assert_eq!(machine.cpus_of(17), list(0..17));
    // A part of a machine: the first cache has two cores left, the second node one whole cache.
    let part = two_sockets().allow([6, 7, 16, 17, 18, 19, 24]);
    assert_eq!(part.cpus_of(2), [6, 7]);
    assert_eq!(part.cpus_of(3), [16, 17, 18], "together rather than lowest");
    assert_eq!(part.cpus_of(5), [16, 17, 18, 19, 24], "one node rather than lowest");
    assert_eq!(part.cpus_of(6), [6, 7, 16, 17, 18, 19]);
}

#[test]
fn many_small_caches_are_filled_one_after_the_other() {
    let machine = Machine::new(1, 12, 8, 2);
    assert_eq!(machine.cpus_of(8), list(0..8));
    assert_eq!(machine.cpus_of(20), list(0..20));
    let placement = machine.place(shards(20)).unwrap();
    let caches: BTreeSet<_> = placement.shards.iter().map(|place| place.llc).collect();
    assert_eq!(caches, [Some(0), Some(8), Some(16)].into());
    assert!(placement.shards.iter().all(|place| place.node.is_none()), "of one node there is no choice");
    assert_eq!(cpus(&machine.place(Wish::default()).unwrap()), list(0..96));
}

#[test]
fn a_machine_of_256_cpus_is_placed_like_any_other() {
    let machine = Machine::new(2, 8, 8, 2);
    let all = machine.place(Wish::default()).unwrap();
    assert_eq!((cpus(&all), all.spare.len()), (list(0..128), 128));
    assert_eq!(cpus(&machine.place(Wish { smt: true, ..Wish::default() }).unwrap()).len(), 256);
    assert_eq!(machine.cpus_of(64), list(0..64));
    let nodes: BTreeSet<_> =
        machine.place(shards(65)).unwrap().shards.iter().map(|place| place.node).collect();
    assert_eq!(nodes.len(), 2);
}

#[test]
fn threads_of_a_core_come_only_after_all_cores_and_only_where_asked_for() {
    let machine = Machine::new(1, 2, 2, 2);
    assert_eq!(machine.cpus_of(4), list(0..4));
    let smt = |count| cpus(&machine.place(Wish { smt: true, ..shards(count) }).unwrap());
    assert_eq!(smt(4), list(0..4), "cores first");
    assert_eq!(smt(5), [0, 1, 5, 2, 3], "by cache; not the core of CPU 0");
    assert_eq!(smt(8), [0, 1, 4, 5, 2, 3, 6, 7]);
    assert_eq!(
        machine.refusal(shards(5)),
        "5 shards were asked for, and this process may use 4 physical cores with 8 threads; ask for at most 4 with \
         --shards, take the threads as well with --smt, or leave placement to the kernel with --no-pin"
    );
    let more = "9 shards were asked for, and this process may use 8 CPUs (0-7); ask for at most 4 with --shards (8 \
                with --smt), widen the cpuset or `taskset` it runs under, or leave placement to the kernel with \
                --no-pin";
    assert_eq!(machine.refusal(shards(9)), more);
    assert_eq!(machine.refusal(Wish { smt: true, ..shards(9) }), more);
    let plain = Machine::new(1, 1, 2, 1);
    assert!(
        plain.refusal(shards(3)).contains("may use 2 CPUs (0-1); ask for at most 2 with --shards, widen")
    );
}

#[test]
fn without_pins_any_number_runs_and_nobody_has_a_cpu() {
    let machine = Machine::new(1, 1, 2, 2);
    let unpinned = Wish { pin: false, ..Wish::default() };
    for (wish, count) in [
        (Wish { shards: Some(7), ..unpinned }, 7),
        (Wish { shards: Some(1024), ..unpinned }, 1024),
        (Wish { cpus: Some(&[7, 9, 11]), ..unpinned }, 3),
        (unpinned, 2),
        (Wish { smt: true, ..unpinned }, 4),
    ] {
        let placement = machine.place(wish).unwrap();
        let expected = Placement { shards: vec![Place::default(); count], ..Placement::default() };
        assert_eq!(placement, expected, "{wish:?}");
    }
}

#[test]
fn a_list_of_cpus_is_taken_as_it_is() {
    let machine = two_sockets();
    let named = |list: &[usize]| machine.place(Wish { cpus: Some(list), ..Wish::default() }).unwrap();
    let placement = named(&[40, 3, 17]);
    assert_eq!(cpus(&placement), [40, 3, 17], "in its order");
    assert_eq!(placement.shards[0], Place { cpu: Some(40), node: Some(0), llc: Some(8) });
    assert_eq!(placement.notes, [""; 0]);
    assert!(placement.spare.iter().all(|cpu| ![40, 3, 17].contains(cpu)));
    assert!(!placement.spare.contains(&machine.other(3)));
    let both = named(&[0, 5, 32]);
    assert_eq!(both.notes, ["CPUs 0 and 32 are threads of one core, and share what it has"]);
    assert_eq!(named(&[3, 3]).notes, [""; 0], "one CPU is not two threads of a core");
    let wish = Wish { cpus: Some(&[1]), ..shards(9) };
    assert_eq!(cpus(&machine.place(wish).unwrap()), [1], "it counts more than a number");
}

#[test]
fn a_cpu_that_cannot_be_used_is_named_with_the_reason() {
    let machine = two_sockets().offline(&[5, 37, 38]).allow(0..4);
    let says = |cpu: usize| machine.refusal(Wish { cpus: Some(&[1, cpu]), ..Wish::default() });
    assert_eq!(says(64), "this host has no CPU 64; choose from 0-3 with --cpus");
    assert_eq!(
        says(5),
        "CPU 5 is offline; choose from 0-3 with --cpus, or bring it up with `echo 1 > \
         /sys/devices/system/cpu/cpu5/online`"
    );
    assert!(says(6).starts_with("CPU 6 is not among those this process may use (0-3); choose from these"));
}

#[test]
fn cpus_that_are_offline_are_not_there_for_anybody() {
    let machine = Machine::new(1, 2, 4, 2).offline(&[1, 9, 10]);
    assert_eq!(cpus(&machine.place(Wish::default()).unwrap()), [0, 2, 3, 4, 5, 6, 7]);
    assert_eq!(machine.cpus_of(4), [4, 5, 6, 7], "the first cache has three cores");
    let smt = machine.place(Wish { smt: true, ..Wish::default() }).unwrap();
    assert_eq!(smt.shards.len(), 13);
    // A first thread that is off: the second one is the core.
    let machine = Machine::new(1, 1, 2, 2).offline(&[0]);
    assert_eq!(cpus(&machine.place(Wish::default()).unwrap()), [1, 2]);
}

#[test]
fn isolated_cpus_are_used_when_they_are_named_and_pointed_out_when_not() {
    let machine = Machine::new(1, 1, 8, 1).isolate("4-7").allow(0..4);
    let placement = machine.place(Wish { cpus: Some(&[4, 5]), ..Wish::default() }).unwrap();
    assert_eq!((cpus(&placement), placement.spare), (vec![4, 5], list(0..4)));
    let placement = machine.place(Wish::default()).unwrap();
    assert_eq!(cpus(&placement), list(0..4));
    assert_eq!(
        placement.notes,
        ["CPUs 4-7 are isolated from other work and not used; take them with --cpus 4-7"]
    );
    // A cpuset of them only: they are simply the ones that are allowed.
    let inside = Machine::new(1, 1, 8, 1).isolate("4-7").allow(4..8).place(Wish::default()).unwrap();
    assert_eq!((cpus(&inside), inside.notes.len()), (list(4..8), 0));
}

#[test]
fn a_machine_that_shows_no_topology_has_cores_that_share_nothing() {
    let machine = Machine::bare(4);
    let placement = machine.place(Wish::default()).unwrap();
    assert_eq!(cpus(&placement), list(0..4));
    assert!(placement.shards.iter().all(|place| (place.node, place.llc) == (None, None)));
    assert_eq!(machine.cpus_of(2), [1, 2]);
    assert_eq!(cpus(&Machine::bare(1).place(Wish::default()).unwrap()), [0]);
    let named = machine.place(Wish { cpus: Some(&[3]), ..Wish::default() }).unwrap();
    assert_eq!((cpus(&named), named.spare), (vec![3], list(0..3)));
}

#[test]
fn a_node_without_memory_is_nothing_to_ask_for() {
    let machine = two_sockets();
    machine.put("sys/devices/system/node/has_memory", "1");
    assert!(machine.place(Wish::default()).unwrap().shards.iter().all(|place| place.node.is_none()));
    // Two of three have some.
    machine.put("sys/devices/system/node/node2/cpulist", "");
    machine.put("sys/devices/system/node/has_memory", "1-2");
    let nodes: Vec<_> =
        machine.place(Wish::default()).unwrap().shards.iter().map(|place| place.node).collect();
    assert_eq!((nodes[0], nodes[31]), (None, Some(1)));
}

/// Shards by default, and what is noted, of a machine of 8 cores with such a quota, in either version.
fn with_quota(quota_us: &str) -> (usize, Vec<String>) {
    let two = Machine::new(1, 1, 8, 1).unified("/app", &[("app/cpu.max", &format!("{quota_us} 100000"))]);
    let minus = if quota_us == "max" { "-1" } else { quota_us };
    let files =
        [("cpu,cpuacct/app/cpu.cfs_quota_us", minus), ("cpu,cpuacct/app/cpu.cfs_period_us", "100000")];
    let one = Machine::new(1, 1, 8, 1).divided("/app", &files);
    let two = two.place(Wish::default()).unwrap();
    let one = one.place(Wish::default()).unwrap();
    assert_eq!(one.shards, two.shards);
    let file = |text: &String| {
        text.replace("/sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "/sys/fs/cgroup/app/cpu.max")
    };
    assert_eq!(one.notes.iter().map(file).collect::<Vec<_>>(), two.notes);
    (two.shards.len(), two.notes)
}

#[test]
fn a_quota_bounds_the_shards_to_whole_cpus_and_one_at_least() {
    assert_eq!(with_quota("max"), (8, vec![]));
    assert_eq!(with_quota("800000"), (8, vec![]));
    let (count, notes) = with_quota("400000");
    assert_eq!(count, 4);
    assert_eq!(
        notes,
        [
            "the CPU quota is 4 (/sys/fs/cgroup/app/cpu.max): 4 shards instead of 8; --shards sets another number"
        ]
    );
    assert_eq!(with_quota("150000").0, 1);
    let (count, notes) = with_quota("50000");
    assert_eq!(count, 1);
    assert_eq!(
        notes[1],
        "the CPU quota is 0.5 (/sys/fs/cgroup/app/cpu.max) and 1 shard: at full load the shard is stopped for the \
         rest of each 100 ms; raise the quota to 1 CPU"
    );
}

#[test]
fn a_number_that_was_asked_for_runs_above_the_quota_with_a_note() {
    let machine = Machine::new(1, 1, 8, 1).unified("/", &[("cpu.max", "250000 100000")]);
    let placement = machine.place(shards(3)).unwrap();
    assert_eq!(
        placement.notes,
        [
            "the CPU quota is 2.5 (/sys/fs/cgroup/cpu.max) and 3 shards: at full load shards are stopped for the rest \
          of each 100 ms; raise the quota to 3 CPUs, or run fewer with --shards"
        ]
    );
    assert_eq!(machine.place(shards(2)).unwrap().notes, [""; 0]);
    let named = machine.place(Wish { cpus: Some(&[0, 1, 2]), ..Wish::default() }).unwrap();
    assert_eq!((cpus(&named), named.notes), (list(0..3), placement.notes));
}

#[test]
fn the_tightest_of_nested_groups_counts() {
    let files = [
        ("a/cpu.max", "300000 100000"),
        ("a/b/cpu.max", "max 100000"),
        ("a/b/c/cpu.max", "600000 100000"),
        ("a/memory.max", "max"),
    ];
    let machine = Machine::new(1, 1, 8, 1).unified("/a/b/c", &files);
    let placement = machine.place(Wish::default()).unwrap();
    assert_eq!(placement.shards.len(), 3);
    assert!(placement.notes[0].contains("(/sys/fs/cgroup/a/cpu.max)"), "{:?}", placement.notes);
}

/// A machine of 8 cores with so much memory for the process.
fn with_memory(bytes: u64) -> Machine {
    Machine::new(1, 1, 8, 1).unified("/app", &[("app/memory.max", &bytes.to_string())])
}

/// The least memory with which `works`, in bytes.
fn least(works: impl Fn(&Machine) -> bool) -> u64 {
    let (mut no, mut yes) = (0, 1 << 30);
    let machine = with_memory(yes);
    assert!(works(&machine));
    while yes - no > 1 {
        let middle = no + (yes - no) / 2;
        machine.put("sys/fs/cgroup/app/memory.max", &middle.to_string());
        if works(&machine) { yes = middle } else { no = middle }
    }
    yes
}

#[test]
fn a_memory_limit_bounds_the_shards_to_what_their_pools_and_rings_take() {
    let eight =
        least(|machine| machine.place(Wish::default()).is_ok_and(|placement| placement.shards.len() == 8));
    assert_eq!(with_memory(eight).place(Wish::default()).unwrap().notes, [""; 0]);
    // Each has 62.5 MiB of medium and large slots, a receive ring of a little over 4 MiB, and some.
    let slots = 8 * (200 * (64 << 10) + 50 * MIB);
    assert!((slots + 8 * 6 * MIB..slots + 8 * 9 * MIB).contains(&eight), "{} MiB", eight / MIB);

    let placement = with_memory(eight - 1).place(Wish::default()).unwrap();
    assert_eq!(placement.shards.len(), 7);
    let said = format!(
        "the memory limit is {} MiB (/sys/fs/cgroup/app/memory.max) and 8 shards take up to {} MiB: 7 shards \
         instead of 8; --shards sets another number",
        (eight - 1) / MIB,
        eight.div_ceil(MIB)
    );
    assert_eq!(placement.notes, [said]);
    assert_eq!(with_memory(200 * MIB).place(Wish::default()).unwrap().shards.len(), 2);
    // Lanes are between each two: 8 MiB both ways with so many credits, 30 times among 6 shards, 20 among 5.
    let mut machine = with_memory(eight);
    machine.limits = Limits { mesh_credits: 65_536, ..Limits::default() };
    assert_eq!(machine.place(Wish::default()).unwrap().shards.len(), 5);
    let v1 = [("memory/app/memory.limit_in_bytes", "209715200")];
    assert_eq!(Machine::new(1, 1, 8, 1).divided("/app", &v1).place(Wish::default()).unwrap().shards.len(), 2);
}

#[test]
fn a_start_that_would_be_killed_is_refused_with_figures() {
    let enough = least(|machine| machine.place(shards(4)).is_ok());
    let placement = with_memory(enough).place(shards(4)).unwrap();
    assert_eq!(placement.shards.len(), 4);
    assert!(
        placement.notes[0].contains("once their pools are in use: the kernel may kill the node under load")
    );
    let says = with_memory(enough - 1).refusal(shards(4));
    let mib = enough.div_ceil(MIB);
    assert_eq!(
        says,
        format!(
            "4 shards need {mib} MiB at the start, and the memory limit is {} MiB (/sys/fs/cgroup/app/memory.max): \
             the kernel would kill the node; raise the limit to {mib} MiB or more, run fewer with --shards, or \
             lower recv_buffers (--limit recv_buffers=N)",
            (enough - 1) / MIB
        )
    );
    // Tables of descriptors count, a word for each.
    let mut machine = with_memory(enough);
    machine.limits = Limits { connections_max: 1 << 20, ..Limits::default() };
    let more = (4 * 8 * (((1 << 20) - 16_384) as u64) + enough).div_ceil(MIB);
    assert!(machine.refusal(shards(4)).starts_with(&format!("4 shards need {more} MiB at the start")));
    // By default it is one shard that does not fit.
    let says = with_memory(8 * MIB).refusal(Wish::default());
    assert!(says.starts_with("one shard needs ") && !says.contains("--shards"), "{says}");
    // Smaller rings fit.
    let mut machine = with_memory(enough - 1);
    machine.limits = Limits { recv_buffers: 256, ..Limits::default() };
    assert!(machine.place(shards(4)).is_ok());
}

#[test]
fn on_every_machine_any_number_of_shards_has_cpus_of_its_own_as_close_as_can_be() {
    for machine in [
        two_sockets(),
        Machine::new(1, 12, 3, 2),
        Machine::new(4, 1, 5, 1),
        Machine::new(2, 3, 4, 2).offline(&[0, 7, 30]),
        two_sockets().allow([1, 2, 9, 10, 11, 20, 33, 41, 52, 53]),
        Machine::bare(9),
    ] {
        let host = machine.host();
        let all = corelane_sys::topology::read(&host.root, &host.allowed);
        let count_by = |of: &dyn Fn(&corelane_sys::topology::Cpu) -> Option<usize>| {
            let mut counts = std::collections::BTreeMap::new();
            for core in all.iter().map(|cpu| cpu.core).collect::<BTreeSet<_>>() {
                let first = all.iter().find(|cpu| cpu.core == core).unwrap();
                *counts.entry(of(first)).or_insert(0_usize) += 1;
            }
            counts.into_values().max().unwrap()
        };
        let (largest_cache, largest_node) = (count_by(&|cpu| cpu.llc), count_by(&|cpu| cpu.node));
        let cores = all.iter().map(|cpu| cpu.core).collect::<BTreeSet<_>>().len();
        // All of the small numbers, where caches and nodes end, and a part of the rest.
        for count in (1..=all.len()).filter(|count| *count < 14 || count % 7 == 1 || *count == all.len()) {
            let wish = Wish { smt: true, ..shards(u16::try_from(count).unwrap()) };
            let placement = placement::place(&wish, &host, &Limits::default()).unwrap();
            let chosen: BTreeSet<usize> = cpus(&placement).into_iter().collect();
            assert_eq!((placement.shards.len(), chosen.len()), (count, count));
            assert!(chosen.iter().all(|cpu| machine.allowed.contains(cpu)));
            let of = |cpu: usize| all.iter().find(|one| one.id == cpu).unwrap();
            let used: BTreeSet<usize> = chosen.iter().map(|&cpu| of(cpu).core).collect();
            assert_eq!(used.len(), count.min(cores), "a core each while there are some");
            let caches: BTreeSet<_> = chosen.iter().map(|&cpu| of(cpu).llc).collect();
            let nodes: BTreeSet<_> = chosen.iter().map(|&cpu| of(cpu).node).collect();
            assert!(caches.len() == 1 || count > largest_cache, "{count}: {chosen:?}");
            assert!(nodes.len() == 1 || count > largest_node, "{count}: {chosen:?}");
            assert!(placement.spare.iter().all(|cpu| !chosen.contains(cpu)));
            assert_eq!(placement.spare.is_empty(), count == all.len());
        }
    }
}

#[test]
fn huge_pages_that_the_kernel_will_not_give_are_pointed_out() {
    const FILE: &str = "sys/kernel/mm/transparent_hugepage/enabled";
    let machine = Machine::bare(1);
    let notes = |huge_pages| {
        let demand = corelane::preflight::Demand {
            resp_listen: &[],
            listen: &[],
            admin: None,
            handed: &[],
            limits: &machine.limits,
            wish: Wish::default(),
            huge_pages,
            without: corelane::RingFeatures::NONE,
            on: corelane::ShardHost::Native,
        };
        demand.check(&machine.host()).unwrap().notes
    };
    assert_eq!(notes(true), ["huge_pages has no effect: this kernel was built without them"]);
    machine.put(FILE, "always madvise [never]");
    assert_eq!(
        notes(true),
        [format!("huge_pages has no effect: /{FILE} is never; allow them with `echo madvise > /{FILE}`")]
    );
    assert_eq!(notes(false), [""; 0]);
    for works in ["[always] madvise never", "always [madvise] never"] {
        machine.put(FILE, works);
        assert_eq!(notes(true), [""; 0]);
    }
}

/// A group of this machine with these limits, and a command that runs in it; nothing where we may make none.
struct Group(Vec<std::path::PathBuf>);

impl Group {
    fn new(controller: &str, files: &[(&str, &str)]) -> Option<Group> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let point = mounts.lines().find_map(|line| {
            let (of_mount, of_kind) = line.split_once(" - cgroup ")?;
            let has = of_kind.rsplit(' ').next()?.split(',').any(|name| name == controller);
            has.then(|| of_mount.split(' ').nth(4)).flatten()
        });
        let dir = format!("{}/corelane-test-{}-{number}", point?, std::process::id());
        std::fs::create_dir(&dir).ok()?;
        let group = Group(vec![dir.into()]);
        files.iter().all(|(file, text)| std::fs::write(group.0[0].join(file), text).is_ok()).then_some(group)
    }

    /// The program in there.
    fn program(&self, arguments: &[&str]) -> Command {
        let enter = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";
        let mut command = through("sh", &["-c", enter, "sh", self.0[0].to_str().unwrap(), program::path()]);
        command.args(["--listen", "127.0.0.1:0", "--admin", "off"]).args(arguments);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.0 {
            drop(std::fs::remove_dir(dir));
        }
    }
}

#[test]
fn the_program_sees_the_quota_and_the_memory_limit_of_its_own_group() {
    if !is_root() {
        return;
    }
    let half = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")];
    match Group::new("cpu", &half) {
        None => eprintln!("skipped: needs a writable cpu group"),
        Some(group) => {
            let ended = run(&mut group.program(&["--check", "--shards", "1"]));
            assert!(ended.out.contains("\nnote: the CPU quota is 0.5 (/sys/fs/cgroup/"), "{ended:?}");
        }
    }
    let with_memory = |mib: u64| Group::new("memory", &[("memory.limit_in_bytes", &(mib * MIB).to_string())]);
    let Some(group) = with_memory(10) else {
        eprintln!("skipped: needs a writable memory group");
        return;
    };
    let ended = run(&mut group.program(&["--shards", "1"]));
    let says = ended.refusal();
    assert!(says.contains("the memory limit is 10 MiB (/sys/fs/cgroup/"), "{says}");
    let needed = says.strip_prefix("one shard needs ").and_then(|rest| rest.split_once(" MiB at the start"));
    let needed: u64 = needed.unwrap().0.parse().unwrap();
    // With what it says it needs it runs, and the kernel has no cause to kill it.
    let group = with_memory(needed).unwrap();
    let mut node = Node::spawn(&mut group.program(&["--shards", "1", "--no-pin"]));
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
    assert!(node.said().contains("the kernel may kill the node under load"), "{}", node.said());
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn the_program_refuses_more_shards_than_it_may_have_cpus_for() {
    if !has("taskset") {
        return;
    }
    let first = corelane_sys::cpu::allowed_cpus().unwrap()[0].to_string();
    let arguments = ["-c", &first, program::path(), "--check", "--listen", "127.0.0.1:0", "--admin", "off"];
    let ended = run(through("taskset", &arguments).args(["--shards", "2"]));
    let expected =
        format!("2 shards were asked for, and this process may use 1 CPU ({first}); ask for at most 1");
    assert!(ended.refusal().starts_with(&expected), "{ended:?}");
    let ended = run(through("taskset", &arguments).args(["--shards", "2", "--no-pin"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out.matches("not pinned").count(), 2, "{ended:?}");
    assert_eq!(run_with(&["--shards", "0"]).code, Some(2));
}
