//! Finding out: each fact from the file that has it, below a root that is `/` outside of tests.
//!
//! # Rules
//! 1. What cannot be read is left out; nothing here fails.
//! 2. Below another root nothing is asked of this kernel.
//! 3. Only asking for rings changes anything: the soft limits of this process, which rise to the hard ones.
//!
//! Not here: what follows (`rules`), asking a node (`cli`).

use std::path::{Path, PathBuf};

use corelane_sys::cgroup;
use corelane_sys::kernel;
use corelane_sys::limits::Rlimit;
use corelane_sys::numa;
use corelane_sys::topology::{self, Cpu};
use corelane_uring::{Features, Ring, SetupError};

use super::cards;
use super::facts::{CpuFacts, Facts, LimitFacts, NetFacts, Probe, RingFacts, ShardAt};
use super::sysctl::{self, Drift};
use super::text;
use crate::config::Config;
use crate::placement::{self, Wish};
use crate::preflight::{self, Host, RELEASE_CHARGED, StartError};

/// Whose limits, rights and CPUs count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// Those of this process: a node that is started from here has the same.
    Own,
    /// Those of this one.
    Process(u32),
    /// Those of a node elsewhere: nothing of it is known.
    Unknown,
}

/// Whom it is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Where `proc`, `sys` and `etc` are.
    pub root: &'a Path,
    /// Whose limits count.
    pub whose: Whose,
    /// What is to run.
    pub config: &'a Config,
    /// Ring features that are left off.
    pub without: Features,
    /// Whether to ask for the rings that a start would.
    pub probe: bool,
}

/// Asks for as many rings as there are shards, side by side, as a start would.
fn probe(limits: &corelane_base::Limits, without: Features, shards: usize) -> Result<Probe, SetupError> {
    // As a start does first. Where that fails, what is asked for next tells.
    let _ = (corelane_sys::limits::raise_nofile(), corelane_sys::limits::raise_memlock());
    let config = preflight::ring_config(limits, without);
    let rings = (0..shards).map(|_| Ring::new(&config)).collect::<Result<Vec<_>, _>>()?;
    Ok(rings.first().map_or_else(Probe::default, |ring| Probe {
        granted: ring.granted().to_string(),
        lacking: ring.lacking().iter().map(ToString::to_string).collect(),
    }))
}

impl Facts {
    /// Finds out what there is.
    pub fn gather(subject: &Subject<'_>) -> Facts {
        let Subject { root, whose, config, without, .. } = *subject;
        let pid = match whose {
            Whose::Process(pid) => Some(pid),
            Whose::Own | Whose::Unknown => None,
        };
        let who = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        let of_process = |file: &str| read(root, &format!("proc/{who}/{file}"));
        let (limits, status) = (of_process("limits"), of_process("status"));
        let limit = |name| text::rlimit(&limits, name).filter(|_| whose != Whose::Unknown);
        let (nofile, memlock) = (limit("Max open files"), limit("Max locked memory"));
        let allowed = text::cpus(text::status(&status, "Cpus_allowed_list").unwrap_or_default());
        let none = Rlimit { soft: 0, hard: 0 };
        let mut host = Host::below(root, nofile.unwrap_or(none), memlock.unwrap_or(none), allowed);
        host.nofile = nofile.map_or(u64::MAX, |limit| limit.hard); // a start raises it as far
        if pid.is_some() || host.memlock.is_some() {
            let mask = text::status(&status, "CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok());
            let exempt = mask.is_some_and(|mask| mask >> CAP_IPC_LOCK & 1 == 1);
            host.memlock = memlock.map(|limit| limit.hard).filter(|&bytes| !exempt && bytes != u64::MAX);
        }
        let settings = config.settings();
        let wish = Wish {
            shards: settings.shards,
            cpus: settings.cpus.as_deref(),
            smt: settings.smt,
            pin: settings.pin,
        };
        let cpu = cpu_facts(&host, &wish, &settings.limits);
        let shards = cpu.shards.len().max(1);
        let listens = settings.listen.len() + settings.resp_listen.len();
        let maxima = settings.limits.clone();
        let limits = LimitFacts {
            pid,
            nofile,
            nofile_wanted: preflight::descriptors_wanted(&maxima, shards, listens, without, settings.host),
            memlock: host.memlock.and(memlock),
            memlock_wanted: if host.release >= RELEASE_CHARGED {
                preflight::ring_bytes(&maxima).saturating_mul(shards as u64)
            } else {
                0
            },
        };
        let cards = cards::read(root);
        let is_numa = numa::nodes(root).iter().filter(|node| node.has_memory).count() > 1;
        let is_fast = cards.iter().any(|card| card.speed.is_some_and(|speed| speed >= 25_000));
        let forbidden = match host.check_kernel() {
            Err(StartError::Disabled { level, group }) => Some((level, group)),
            _ => None,
        };
        let ring = RingFacts {
            forbidden,
            seccomp: text::status(&status, "Seccomp").and_then(|mode| mode.parse().ok()),
            probe: subject.probe.then(|| {
                // What a start would ask for: defaults are lowered to the host.
                let mut fitted = maxima.clone();
                let is_default = |field: &str| config.is_default_limit(field);
                preflight::fit(&mut fitted, &is_default, shards, listens, (without, settings.host), &host);
                probe(&fitted, without, shards)
            }),
        };
        let thp = || read(root, "sys/kernel/mm/transparent_hugepage/enabled");
        Facts {
            release: host.release,
            ring,
            limits,
            cpu,
            net: net_facts(root, cards),
            huge_pages: settings.huge_pages.then(thp),
            drift: drift(root, is_numa, is_fast),
            watched: None,
            maxima,
            node: None,
        }
    }
}

/// Bit of `CAP_IPC_LOCK` in a capability mask (`linux/capability.h`).
const CAP_IPC_LOCK: u32 = 14;

/// A file below `root` without blanks around it; empty if it is not to be had.
fn read(root: &Path, path: &str) -> String {
    std::fs::read_to_string(root.join(path)).unwrap_or_default().trim().to_owned()
}

fn at(cpu: &Cpu) -> ShardAt {
    ShardAt { cpu: Some(cpu.id), core: Some(cpu.core), node: cpu.node }
}

fn cpu_facts(host: &Host, wish: &Wish<'_>, limits: &corelane_base::Limits) -> CpuFacts {
    let root = &host.root;
    let mut facts = CpuFacts {
        allowed: topology::read(root, &host.allowed).iter().map(at).collect(),
        named: wish.cpus.is_some(),
        quota: cgroup::cpu_quota(root),
        ..CpuFacts::default()
    };
    if let Some(quota) = &facts.quota {
        let stat = read(root, &relative(&quota.file.with_file_name("cpu.stat")));
        facts.throttled = text::field(&stat, "nr_throttled").zip(text::field(&stat, "nr_periods"));
    }
    match placement::place(wish, host, limits) {
        Err(error) => facts.refusal = Some(error.to_string()),
        Ok(placement) => {
            let cpus: Vec<usize> = placement.cpus().into_iter().flatten().collect();
            let found = topology::read(root, &cpus);
            let of = |cpu: Option<usize>| found.iter().find(|known| Some(known.id) == cpu);
            facts.shards =
                placement.cpus().into_iter().map(|cpu| of(cpu).map_or_else(ShardAt::default, at)).collect();
            facts.memory = cgroup::memory_limit(root)
                .map(|limit| (limit, placement::in_use(limits, facts.shards.len().max(1))));
        }
    }
    let governor = |cpu: usize| {
        let file = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        Some(read(root, &file)).filter(|name| !name.is_empty() && name != "performance")
    };
    let pinned = facts.shards.iter().filter_map(|at| at.cpu);
    facts.governors = pinned.filter_map(|cpu| Some((cpu, governor(cpu)?))).collect();
    let clocks = "sys/devices/system/clocksource/clocksource0";
    let current = read(root, &format!("{clocks}/current_clocksource"));
    let has_tsc = read(root, &format!("{clocks}/available_clocksource")).split(' ').any(|name| name == "tsc");
    facts.clocksource = (has_tsc && current != "tsc").then_some(current);
    facts
}

/// A path of the machine below a root.
fn relative(path: &Path) -> String {
    path.display().to_string().trim_start_matches('/').to_owned()
}

fn net_facts(root: &Path, cards: Vec<cards::Card>) -> NetFacts {
    let sysctl = |key: &str| kernel::sysctl(root, key).ok()?.parse().ok();
    let netstat = read(root, "proc/net/netstat");
    let counter = |name: &str| text::netstat(&netstat, "TcpExt", name).unwrap_or_default();
    NetFacts {
        somaxconn: sysctl("net.core.somaxconn"),
        netdev_max_backlog: sysctl("net.core.netdev_max_backlog"),
        netdev_budget: sysctl("net.core.netdev_budget"),
        listen_overflows: counter("ListenOverflows"),
        listen_drops: counter("ListenDrops"),
        syn_drops: counter("TCPReqQFullDrop"),
        softnet: text::softnet(&read(root, "proc/net/softnet_stat")),
        cards,
    }
}

/// What of `sysctl/` this host does not have. A key that this kernel lacks is none.
fn drift(root: &Path, is_numa: bool, is_fast: bool) -> Vec<Drift> {
    let rules = sysctl::parse(sysctl::SERVER).into_iter();
    let rules = rules.filter(|rule| sysctl::holds(rule.when.as_deref(), is_numa, is_fast));
    let now = |key: &str| kernel::sysctl(root, key).ok();
    rules
        .filter_map(|rule| {
            let now = now(&rule.key)?;
            (!rule.is_met_by(&now)).then_some(Drift { rule, now })
        })
        .collect()
}

/// Whether there is something below it to look at.
pub fn is_root(root: &Path) -> bool {
    [PathBuf::from("proc"), PathBuf::from("sys")].iter().any(|dir| root.join(dir).is_dir())
}
