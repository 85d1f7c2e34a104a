//! Machines that are made up, and what the rules find on them.
//!
//! Not here: troubles that this machine can have (`tests/doctor.rs`).

#![allow(clippy::unwrap_used)]

use std::path::Path;

use corelane_uring::{Features, SetupError};

use super::*;
use crate::config::{Config, Layers, keys};

/// A host of two memory nodes with four cores each, SMT off, and a card on node 0. Nothing is wrong with it.
struct Machine {
    root: tempfile::TempDir,
    flags: Vec<(&'static str, String)>,
    limits: Vec<String>,
}

const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     \n\
Max open files            1024                 1048576              files     \n\
Max locked memory         unlimited            unlimited            bytes     \n";

const NETSTAT: &str = "\
TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDrop
TcpExt: 0 0 0 0
IpExt: InNoRoutes ListenOverflows
IpExt: 7 9
";

impl Machine {
    fn new() -> Machine {
        let machine = Machine { root: tempfile::tempdir().unwrap(), flags: Vec::new(), limits: Vec::new() };
        machine.put("proc/sys/kernel/osrelease", "6.18.1-generic\n");
        machine.put("proc/sys/kernel/io_uring_disabled", "0\n");
        machine.put("proc/self/limits", LIMITS);
        machine.put("proc/self/status", "CapEff:\t0000000000000000\nSeccomp:\t0\nCpus_allowed_list:\t0-7\n");
        for cpu in 0..8 {
            let dir = format!("sys/devices/system/cpu/cpu{cpu}");
            machine.put(&format!("{dir}/topology/core_cpus_list"), &format!("{cpu}\n"));
            machine.put(&format!("{dir}/cpufreq/scaling_governor"), "performance\n");
        }
        machine.put("sys/devices/system/cpu/online", "0-7\n");
        machine.put("sys/devices/system/node/node0/cpulist", "0-3\n");
        machine.put("sys/devices/system/node/node1/cpulist", "4-7\n");
        machine.put("sys/devices/system/node/has_memory", "0-1\n");
        machine.put("proc/net/netstat", NETSTAT);
        machine.put("proc/net/softnet_stat", "000186a0 00000000 00000000 0 0 0 0 0 0 0 0 0 00000000\n");
        for rule in parse_sysctl(sysctl::SERVER) {
            let key = rule.key.replace('.', "/");
            machine.put(&format!("proc/sys/{key}"), &rule.value);
        }
        let clocks = "sys/devices/system/clocksource/clocksource0";
        machine.put(&format!("{clocks}/current_clocksource"), "tsc\n");
        machine.put(&format!("{clocks}/available_clocksource"), "tsc hpet acpi_pm\n");
        machine.card("eth0", 0, 4);
        machine.set("cpus", "0-3")
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A card whose interrupts come to the first CPUs of its node.
    fn card(&self, name: &str, node: usize, queues: usize) {
        let dir = format!("sys/class/net/{name}");
        self.put(&format!("{dir}/device/numa_node"), &node.to_string());
        self.put(&format!("{dir}/operstate"), "up\n");
        for queue in 0..queues {
            let irq = 40 + 10 * node + queue;
            self.put(&format!("{dir}/queues/rx-{queue}/rps_cpus"), "0\n");
            self.put(&format!("{dir}/device/msi_irqs/{irq}"), "msix\n");
            self.put(&format!("proc/irq/{irq}/effective_affinity_list"), &(4 * node + queue).to_string());
        }
    }

    fn set(mut self, key: &'static str, value: &str) -> Machine {
        self.flags.retain(|(name, _)| *name != key);
        self.flags.push((key, value.to_owned()));
        self
    }

    fn limit(mut self, text: &str) -> Machine {
        self.limits.push(text.to_owned());
        self
    }

    fn facts(&self) -> Facts {
        let flags = self.flags.iter().map(|(name, value)| (keys::find(name).unwrap(), value.clone()));
        let layers = Layers { flags: flags.collect(), limits: self.limits.clone(), ..Layers::default() };
        let config = Config::load(&layers).unwrap();
        let (root, without) = (self.root.path(), Features::NONE);
        Facts::gather(&Subject { root, whose: Whose::Own, config: &config, without, probe: false })
    }

    /// The names of what is found.
    #[track_caller]
    fn ids(&self) -> Vec<&'static str> {
        ids(&diagnose(&self.facts()))
    }

    /// The one finding of that name.
    #[track_caller]
    fn one(&self, id: &str) -> Finding {
        one(&self.facts(), id)
    }
}

fn ids(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.id).collect()
}

#[track_caller]
fn one(facts: &Facts, id: &str) -> Finding {
    let all = diagnose(facts);
    let found: Vec<&Finding> = all.iter().filter(|finding| finding.id == id).collect();
    assert_eq!(found.len(), 1, "{id} in {:?}", ids(&all));
    found[0].clone()
}

#[test]
fn on_a_machine_where_all_is_well_there_is_nothing_to_do() {
    assert_eq!(Machine::new().ids(), [""; 0]);
}

#[test]
fn a_machine_that_shows_nothing_is_not_blamed_for_it() {
    let root = tempfile::tempdir().unwrap();
    let config = Config::default();
    let subject = Subject {
        root: root.path(),
        whose: Whose::Own,
        config: &config,
        without: Features::NONE,
        probe: false,
    };
    assert_eq!(ids(&diagnose(&Facts::gather(&subject))), [""; 0]);
    assert!(!is_root(root.path()) && is_root(Path::new("/")));
}

#[test]
fn an_old_kernel_and_a_sysctl_that_forbids_rings_block_a_start() {
    let machine = Machine::new();
    machine.put("proc/sys/kernel/osrelease", "5.15.0-91-generic\n");
    let finding = machine.one("kernel");
    assert_eq!(
        (finding.severity, finding.evidence.as_str()),
        (Severity::Blocks, "this kernel is Linux 5.15")
    );

    let machine = Machine::new();
    machine.put("proc/sys/kernel/io_uring_disabled", "2\n");
    let finding = machine.one("io-uring-sysctl");
    assert_eq!(finding.evidence, "kernel.io_uring_disabled is 2");
    assert!(finding.command.starts_with("scripts/tune apply --yes --only io_uring "), "{finding}");
    machine.put("proc/sys/kernel/io_uring_disabled", "1\n");
    machine.put("proc/sys/kernel/io_uring_group", "970\n");
    let command = machine.one("io-uring-sysctl").command;
    assert!(command.contains("getent group 970") && command.contains("${SUDO_USER:-"), "{command}");
    machine.put("proc/self/status", "Groups:\t970\nCpus_allowed_list:\t0-7\n");
    assert_eq!(machine.ids(), [""; 0], "it is in the group");
    machine.put("proc/self/status", "Cpus_allowed_list:\t0-7\n");
    machine.put("proc/sys/kernel/io_uring_group", "-1\n");
    assert!(
        machine.one("io-uring-sysctl").command.contains("kernel.io_uring_group=\"$(getent group corelane")
    );
}

#[test]
fn each_refusal_of_a_ring_has_its_own_cause_and_cure() {
    let mut facts = Machine::new().facts();
    let mut found = |error, seccomp| {
        facts.ring.probe = Some(Err(error));
        facts.ring.seccomp = Some(seccomp);
        let all = diagnose(&facts);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].severity, Severity::Blocks);
        (all[0].id, all[0].command.clone())
    };
    let (id, command) = found(SetupError::Disabled { errno: 1 }, 2);
    assert_eq!(id, "io-uring-refused");
    assert!(command.contains("--security-opt seccomp=deploy/seccomp-io_uring.json"), "{command}");
    let (id, command) = found(SetupError::Disabled { errno: 1 }, 0);
    assert!(id == "io-uring-refused" && command.starts_with("journalctl -k"), "{command}");
    let (id, command) = found(SetupError::Enosys, 0);
    assert!(id == "io-uring-missing" && command.starts_with("grep CONFIG_IO_URING="), "{command}");
    assert_eq!(found(SetupError::Enosys, 2).0, "io-uring-missing");
    let (id, command) = found(SetupError::Memlock { errno: 12 }, 0);
    assert!(id == "memlock" && command.contains("--memlock="), "{command}");
    assert_eq!(found(SetupError::Table { descriptors: 9, errno: 24 }, 0).0, "nofile");
    assert_eq!(found(SetupError::TooOld { missing: "x" }, 0).0, "kernel");
    assert_eq!(found(SetupError::Other { errno: 5, step: "map" }, 0).0, "io-uring-refused");
    let lacking = vec!["zero_copy: masked".to_owned()];
    facts.ring.probe = Some(Ok(Probe { granted: String::new(), lacking: lacking.clone() }));
    assert_eq!(diagnose(&facts), []);
    let lacking = [lacking, vec!["message_ring: not in this kernel".to_owned()]].concat();
    facts.ring.probe = Some(Ok(Probe { granted: String::new(), lacking }));
    assert_eq!(one(&facts, "ring-features").evidence, "rings lack message_ring: not in this kernel");
}

#[test]
fn limits_that_are_too_small_are_named_with_the_number_that_is_enough() {
    let machine = Machine::new();
    let facts = machine.facts();
    let (files, locked) = (facts.limits.nofile_wanted, facts.limits.memlock_wanted);
    assert!(files > 16_384 + 1_024 && locked > 4 * 150_000, "{files} {locked}");
    let with = |files: u64, locked: u64| {
        let text = format!("Max open files  64  {files}  files\nMax locked memory  64  {locked}  bytes\n");
        machine.put("proc/self/limits", &text);
        machine.ids()
    };
    assert_eq!(with(files, locked), [""; 0], "just enough");
    assert_eq!(with(files - 1, locked), ["nofile"]);
    let finding = machine.one("nofile");
    assert!(finding.evidence.contains(&format!("{} (hard), and {files} are needed", files - 1)), "{finding}");
    assert!(finding.command.contains(&format!("--nofile={files}:{files}")), "{finding}");
    assert!(finding.command.contains(&format!(" LimitNOFILE={files}; ")), "{finding}");
    assert_eq!(with(files, locked - 1), ["memlock"]);
    let finding = machine.one("memlock");
    assert!(finding.command.contains(&format!("--memlock={0}:{0}", 2 * locked)), "{finding}");
    machine.put("proc/self/status", "CapEff:\t0000000000004000\nCpus_allowed_list:\t0-7\n");
    assert_eq!(machine.ids(), [""; 0], "the limit does not apply to CAP_IPC_LOCK");
    machine.put("proc/self/status", "CapEff:\t0\nCpus_allowed_list:\t0-7\n");
    machine.put("proc/sys/kernel/osrelease", "6.6.1\n");
    assert_eq!(machine.ids(), [""; 0], "this kernel does not charge rings");
}

#[test]
fn a_shard_on_the_other_node_than_the_card_is_named_with_the_cpus_that_are_near() {
    let finding = Machine::new().set("cpus", "0,1,5,2").one("nic-node");
    assert_eq!(finding.evidence, "eth0 is on memory node 0, and there are shard 3 on CPU 5 of node 1");
    assert_eq!(finding.command, "corelane --cpus 0-3");
    // Six shards do not find room near the card: four do.
    let finding = Machine::new().set("cpus", "1-6").one("nic-node");
    assert_eq!(finding.command, "corelane --cpus 0-5");
    // Eight shards need all cores.
    assert!(!Machine::new().set("cpus", "0-7").ids().contains(&"nic-node"));
    // A card on each node: every shard is near one.
    let machine = Machine::new().set("cpus", "0,1,4,5");
    machine.card("eth1", 1, 4);
    assert_eq!(machine.ids(), [""; 0]);
    // A machine that does not say where the card is.
    let machine = Machine::new().set("cpus", "4-7");
    machine.put("sys/class/net/eth0/device/numa_node", "-1\n");
    assert!(!machine.ids().contains(&"nic-node"));
}

#[test]
fn two_shards_on_one_core_are_a_pair_and_one_of_each_is_offered() {
    let machine = Machine::new();
    for (cpu, core) in [(0, "0,2"), (2, "0,2"), (1, "1,3"), (3, "1,3")] {
        machine.put(&format!("sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"), core);
    }
    let finding = machine.one("smt-pair");
    assert_eq!(finding.evidence, "CPUs 0 and 2 (shard 2) are one core; CPUs 1 and 3 (shard 3) are one core");
    assert_eq!(finding.command, "corelane --cpus 0-1");
    assert!(!machine.set("cpus", "0,3").ids().contains(&"smt-pair"));
}

fn with_cgroup(machine: &Machine) {
    machine.put("proc/self/cgroup", "0::/app\n");
    machine.put(
        "proc/self/mountinfo",
        "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n",
    );
}

#[test]
fn a_quota_below_the_shards_or_one_that_was_used_up_hurts() {
    let machine = Machine::new();
    with_cgroup(&machine);
    machine.put("sys/fs/cgroup/app/cpu.max", "400000 100000\n");
    assert_eq!(machine.ids(), [""; 0], "a CPU for each shard");
    machine.put("sys/fs/cgroup/app/cpu.stat", "usage_usec 1\nnr_periods 90\nnr_throttled 12\n");
    let finding = machine.one("cpu-quota");
    assert!(finding.evidence.contains("was used up in 12 of 90 periods since the boot"), "{finding}");
    machine.put("sys/fs/cgroup/app/cpu.stat", "nr_periods 90\nnr_throttled 0\n");
    machine.put("sys/fs/cgroup/app/cpu.max", "250000 100000\n");
    let finding = machine.one("cpu-quota");
    assert!(
        finding.evidence.starts_with("the CPU quota is 2.5 (/sys/fs/cgroup/app/cpu.max) for 4 shards"),
        "{finding}"
    );
    assert!(finding.command.contains("CPUQuota=400%"), "{finding}");
}

#[test]
fn memory_that_pools_may_grow_past_is_named_before_the_kernel_kills() {
    let machine = Machine::new();
    with_cgroup(&machine);
    machine.put("sys/fs/cgroup/app/memory.max", "200000000\n");
    let ids = machine.ids();
    assert!(ids == ["memory-limit"] || ids == ["placement"], "{ids:?}");
    machine.put("sys/fs/cgroup/app/memory.max", "1000000\n");
    let finding = machine.one("placement");
    assert_eq!(finding.severity, Severity::Blocks);
    machine.put("sys/fs/cgroup/app/memory.max", "max\n");
    assert_eq!(machine.ids(), [""; 0]);
}

#[test]
fn a_cpu_that_is_not_there_blocks_and_those_that_are_there_are_offered() {
    let finding = Machine::new().set("cpus", "0,99").one("placement");
    assert!(finding.evidence.contains("99"), "{finding}");
    assert_eq!(finding.command, "corelane --cpus 0-7");
    let finding = Machine::new().set("shards", "3").set("cpus", "auto").one("idle-cores");
    assert_eq!((finding.severity, finding.command.as_str()), (Severity::Advice, "corelane --cpus 0-7"));
}

#[test]
fn clocks_that_are_slow_are_advice() {
    let machine = Machine::new();
    machine.put("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n");
    machine.put("sys/devices/system/cpu/cpu7/cpufreq/scaling_governor", "powersave\n");
    assert_eq!(machine.one("governor").evidence, "the clock of CPUs 2 is governed by powersave");
    machine.put("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    assert_eq!(machine.ids(), ["governor", "clocksource"]);
    machine.put("sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet\n");
    assert_eq!(machine.ids(), ["governor"], "there is no tsc to be had");
}

#[test]
fn queues_and_interrupts_that_do_not_fit_the_shards_are_advice() {
    let machine = Machine::new();
    machine.put("sys/class/net/eth0/queues/rx-4/rps_cpus", "0\n");
    assert_eq!(machine.one("nic-queues").evidence, "eth0 has 5 receive queues for 4 shards");
    let machine = Machine::new();
    machine.put("proc/irq/41/effective_affinity_list", "6-7\n");
    machine.put("proc/irq/42/effective_affinity_list", "3,6\n");
    let finding = machine.one("irq-node");
    assert!(finding.evidence.starts_with("1 of 4 interrupts of eth0 come to CPUs of another"), "{finding}");
    machine.put("sys/class/net/eth0/operstate", "down\n");
    assert_eq!(machine.ids(), [""; 0], "a card that is down serves nobody");
}

#[test]
fn an_overflow_of_a_listener_is_named_with_the_queue_that_was_too_short() {
    let machine = Machine::new();
    machine.put("proc/sys/net/core/somaxconn", "16384\n");
    machine.put("proc/net/netstat", &NETSTAT.replace("TcpExt: 0 0 0 0", "TcpExt: 0 21 23 5"));
    let finding = machine.one("listen-overflow");
    assert!(finding.evidence.starts_with("21 connections found the queue of a listener full since the boot"));
    assert!(finding.evidence.contains("23 were dropped in all"), "{finding}");
    assert_eq!(finding.command, "corelane --limit backlog=16384");
    assert_eq!(machine.ids(), ["listen-overflow", "syn-queue"]);
    // Only what came while we watched counts.
    let before = machine.facts();
    assert_eq!(ids(&diagnose(&machine.facts().since(&before, "within 1s"))), [""; 0]);
    machine.put("proc/net/netstat", &NETSTAT.replace("TcpExt: 0 0 0 0", "TcpExt: 0 22 24 5"));
    let watched = machine.facts().since(&before, "within 1s");
    assert!(one(&watched, "listen-overflow").evidence.starts_with("1 connections found"), "{watched:?}");
}

#[test]
fn a_backlog_that_the_kernel_cuts_down_is_named() {
    let machine = Machine::new().limit("backlog=20000");
    let finding = machine.one("backlog-capped");
    assert_eq!(finding.evidence, "backlog is 20000, and net.core.somaxconn 16384");
    assert!(finding.command.starts_with("sysctl -w net.core.somaxconn=20000 "), "{finding}");
    machine.put("proc/sys/net/core/somaxconn", "20000\n");
    assert_eq!(machine.ids(), [""; 0]);
}

#[test]
fn packets_that_are_dropped_or_left_are_named_by_cpu() {
    let machine = Machine::new();
    machine.put(
        "proc/net/softnet_stat",
        "0000ffff 00000000 00000001 0 0 0 0 0 0 0 0 0 00000000\n0000ffff 0000000a 00000010 0 0 0 0 0 0 0 0 0 00000005\n",
    );
    machine.put("proc/sys/net/core/netdev_max_backlog", "1000\n");
    let finding = machine.one("softnet-drops");
    assert!(finding.evidence.contains("CPU 5 dropped 10 "), "{finding}");
    assert_eq!(finding.command, "sysctl -w net.core.netdev_max_backlog=5000");
    assert!(machine.one("softnet-squeezed").evidence.ends_with(": CPU 5 16 times for 65535 packets"));
}

#[test]
fn huge_pages_that_the_kernel_never_gives_are_named() {
    let mut facts = Machine::new().facts();
    facts.huge_pages = Some("always madvise [never]".to_owned());
    assert_eq!(ids(&diagnose(&facts)), ["huge-pages"]);
    facts.huge_pages = Some("always [madvise] never".to_owned());
    assert_eq!(diagnose(&facts), []);
}

#[test]
fn settings_of_the_sysctl_files_are_compared_and_a_better_one_is_no_drift() {
    let machine = Machine::new();
    machine.put("proc/sys/net/ipv4/tcp_max_tw_buckets", "1000000\n");
    assert_eq!(machine.ids(), [""; 0], "larger than asked for");
    machine.put("proc/sys/net/ipv4/tcp_max_tw_buckets", "16384\n");
    let finding = machine.one("sysctl");
    assert_eq!(
        finding.evidence,
        "net.ipv4.tcp_max_tw_buckets is 16384, and sysctl/10-server.conf wants 262144"
    );
    assert_eq!(finding.command, "scripts/tune apply --yes --only net.ipv4.tcp_max_tw_buckets");
    machine.put("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n");
    assert_eq!(machine.ids(), ["sysctl", "sysctl"]);
    std::fs::remove_file(machine.root.path().join("proc/sys/net/ipv4/tcp_max_tw_buckets")).unwrap();
    let finding = machine.one("sysctl");
    assert!(finding.evidence.starts_with("net.ipv4.tcp_slow_start_after_idle is 1, "), "{finding}");
}

#[test]
fn every_key_of_the_sysctl_files_is_understood() {
    for text in [
        sysctl::SERVER,
        include_str!("../../sysctl/20-loadgen.conf"),
        include_str!("../../sysctl/30-lowlat.conf"),
    ] {
        let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains('=')).count();
        let rules = parse_sysctl(text);
        assert!(lines > 2 && rules.len() == lines, "{lines} {rules:?}");
        for rule in rules {
            assert!(rule.why.len() > 20 && !rule.harm.is_empty(), "{rule:?}");
            assert!(rule.is_met_by(&rule.value), "{rule:?}");
        }
    }
}

#[test]
fn values_are_compared_number_by_number_and_ranges_by_their_width() {
    let text = "# rule: at_least\n# why: a\n# why: b\n# harm: c\nnet.ipv4.tcp_rmem = 4096 131072 16777216\n\n\
                # rule: at_least\n# why: a\n# harm: b\nnet.ipv4.ip_local_port_range = 10240 65535\n\n\
                # rule: at_most\n# why: a\n# harm: b\nvm.swappiness = 10\n\n\
                # why: no rule\n# harm: b\na.b = 1\n\n# rule: worst\n# why: a\n# harm: b\na.c = 1\n\n\
                # rule: equal\n# why: a\n# harm: b\nnet.x = bbr\n";
    let rules = parse_sysctl(text);
    let keys: Vec<&str> = rules.iter().map(|rule| rule.key.as_str()).collect();
    assert_eq!(keys, ["net.ipv4.tcp_rmem", "net.ipv4.ip_local_port_range", "vm.swappiness", "net.x"]);
    assert_eq!(rules[0].why, "a b");
    assert!(rules[0].is_met_by("4096\t131072\t33554432"));
    assert!(!rules[0].is_met_by("4096 87380 33554432") && !rules[0].is_met_by("4096 131072"));
    assert!(rules[1].is_met_by("1024 65000") && !rules[1].is_met_by("32768 60999"));
    assert!(rules[2].is_met_by("1") && !rules[2].is_met_by("60") && !rules[2].is_met_by("low"));
    assert!(rules[3].is_met_by("bbr") && !rules[3].is_met_by("cubic"));
    assert!(!sysctl::holds(Some("moon"), true, true) && sysctl::holds(Some("numa"), true, false));
}

const METRICS: &str = "\
# HELP corelane_shard_up Whether the shard answered this scrape.
corelane_shard_up{shard=\"0\"} 1
corelane_shard_up{shard=\"1\"} 1
corelane_shard_saturation_ratio{shard=\"0\"} 0.2
corelane_http1_accept_paused_total{shard=\"1\"} 0
http_requests_total{shard=\"0\",status=\"2xx\"} 9
corelane_uptime_seconds 3
";

/// What is found at a node that says this besides.
fn at_node(more: &str) -> Vec<Finding> {
    let mut facts = Machine::new().facts();
    facts.node = Some(NodeNumbers::read("http://n", &format!("{METRICS}{more}")));
    diagnose(&facts)
}

#[test]
fn a_node_that_is_well_has_no_findings_and_one_that_is_silent_has_one() {
    assert_eq!(at_node(""), []);
    let mut facts = Machine::new().facts();
    for text in
        ["", "<html>", "corelane_shard_up{shard=\"x\"} 1\n{shard=\"0\"} 1\ncorelane{shard=\"0\"} NaN\n"]
    {
        facts.node = Some(NodeNumbers::read("http://n", text));
        assert_eq!(one(&facts, "node-silent").evidence, "http://n: its answer has no series of a shard");
    }
    facts.node = Some(NodeNumbers::silent("http://n", "it answers 401".to_owned()));
    assert_eq!(one(&facts, "node-silent").severity, Severity::Blocks);
}

#[test]
fn what_a_node_counts_is_named_with_the_shard_and_the_limit_to_raise() {
    let found = |name: &str, value: &str| {
        let all = at_node(&format!("{name}{{shard=\"1\"}} {value}\n"));
        assert_eq!(all.len(), 1, "{all:?}");
        (all[0].id, all[0].evidence.clone(), all[0].command.clone())
    };
    let (id, evidence, command) = found("corelane_http1_accept_paused_total", "4");
    assert_eq!(id, "accept-paused");
    assert!(evidence.ends_with(": 4, 4 of them on shard 1"), "{evidence}");
    assert!(command.starts_with("corelane --limit connections_max=32768 "), "{command}");
    let (id, evidence, command) = found("corelane_mesh_credits_in_use_max", "110");
    assert_eq!((id, command.as_str()), ("lanes-full", "corelane --limit mesh_credits=256"));
    assert!(evidence.starts_with("shard 1 has 110 of 128 requests"), "{evidence}");
    assert_eq!(at_node("corelane_mesh_credits_in_use_max{shard=\"1\"} 102\n"), [], "below 80 %");
    assert_eq!(found("corelane_mesh_calls_refused_total", "1").0, "lanes-full");
    assert_eq!(found("corelane_exec_stalls_total", "1").0, "stalls");
    assert_eq!(found("corelane_shard_saturation_ratio", "0.95").0, "saturated");
    assert_eq!(found("corelane_http1_tasks_full_total", "2").0, "refused");
    assert_eq!(found("corelane_kernel_dropped_total", "2").0, "completions-lost");
    let (id, _, command) = found("corelane_http1_recv_no_buffers_total", "2");
    assert_eq!((id, command.as_str()), ("no-buffers", "corelane --limit recv_buffers=2048"));
    let (id, _, command) = found("corelane_kernel_cq_overflows_total", "2");
    assert_eq!((id, command.as_str()), ("completions-late", "corelane --limit completion_entries=16384"));
    let down = at_node("corelane_shard_up{shard=\"2\"} 0\n");
    assert_eq!(ids(&down), ["shard-down"]);
    assert!(down[0].evidence.ends_with(": 2"), "{down:?}");
}

#[test]
fn counters_of_a_node_count_from_the_first_look_unless_it_began_anew() {
    let with = |value: u32| {
        let mut facts = Machine::new().facts();
        let text = format!("{METRICS}corelane_exec_stalls_total{{shard=\"0\"}} {value}\n");
        facts.node = Some(NodeNumbers::read("http://n", &text));
        facts
    };
    assert_eq!(ids(&diagnose(&with(5).since(&with(5), "within 1s"))), [""; 0]);
    let grown = one(&with(7).since(&with(5), "within 1s"), "stalls");
    assert!(grown.evidence.ends_with(": 2, 2 of them on shard 0"), "{grown}");
    let anew = one(&with(3).since(&with(5), "within 1s"), "stalls");
    assert!(anew.evidence.ends_with(": 3, 3 of them on shard 0"), "{anew}");
}

#[test]
fn every_finding_has_a_rule_and_a_row_on_the_page() {
    let page = include_str!("../../docs/DOCTOR.md");
    let rules = [
        include_str!("rules/host.rs"),
        include_str!("rules/cpus.rs"),
        include_str!("rules/net.rs"),
        include_str!("rules/node.rs"),
    ]
    .concat();
    for id in IDS {
        assert!(rules.contains(&format!("(\"{id}\", ")), "no rule gives {id}");
        assert!(page.contains(&format!("\n| `{id}` |")), "docs/DOCTOR.md has no row for {id}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, IDS.len(), "a row of something else");
}

#[test]
fn what_was_looked_at_is_summed_up_in_a_line_each() {
    let summary = Machine::new().facts().summary();
    let of = |name: &str| summary.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    assert_eq!(of("shards"), "4 of 8 CPUs, on CPUs 0-3, memory nodes 0");
    assert_eq!(of("cards"), "eth0 (node 0, 4 receive queues, 4 interrupts)");
    assert_eq!(of("lost"), "0 connections by listeners, 0 packets by CPUs, since the boot");
    assert!(of("open files").starts_with("1048576, "), "{summary:?}");
    assert_eq!(of("rings"), "not asked for");
}

#[test]
fn the_worst_comes_first_and_the_text_has_all_five_parts() {
    let machine = Machine::new();
    machine.put("proc/sys/vm/swappiness", "60\n");
    machine.put("proc/sys/kernel/io_uring_disabled", "2\n");
    machine.put("proc/net/netstat", &NETSTAT.replace("TcpExt: 0 0 0 0", "TcpExt: 0 1 1 0"));
    let all = diagnose(&machine.facts());
    assert_eq!(ids(&all), ["io-uring-sysctl", "listen-overflow", "sysctl"]);
    let text = all[0].to_string();
    assert!(text.starts_with("blocks: io-uring-sysctl: kernel.io_uring_disabled is 2\n  cause   "), "{text}");
    for part in ["\n  type    ", "\n  effect  ", "\n  risk    "] {
        assert!(text.contains(part), "{text}");
    }
    let json = sonic_rs::to_string(&all[0]).unwrap();
    assert!(json.starts_with(r#"{"id":"io-uring-sysctl","severity":"blocks","evidence":""#), "{json}");
}
