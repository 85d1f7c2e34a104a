//! How many shards run, and where.
//!
//! Pure over a [`Host`]: what CPUs share, quotas and memory limits are read below its root, so that tests can
//! show machines that are not this one. The same host and wish give the same placement.
//!
//! # Rules
//! 1. A list of CPUs is taken as it is, and a number of shards is kept or refused. Only what was left to the
//!    node is fitted to the host, and each time that takes a shard away there is a note.
//! 2. A start that the kernel would kill for its memory is refused.
//!
//! Which CPUs are taken is the policy of `choose`. By default that is one for each physical core the process
//! may use, at most as many as its CPU quota has whole CPUs: a shard that is stopped in the middle of a period
//! has all its connections wait.
//!
//! Not here: pinning (`boot`), the memory of a shard's node (`corelane_sys::numa`).

mod choose;
mod memory;

use corelane_base::Limits;
use corelane_sys::cgroup::{self, CpuQuota, MemoryLimit};
use corelane_sys::cpu::format_cpu_list;
use corelane_sys::numa;
use corelane_sys::topology::{self, Cpu};

use crate::config::SHARDS_MAX;
use crate::preflight::{CpuRefusal, Host, StartError};
use choose::Core;
pub(crate) use memory::{in_use, mib};

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wish<'a> {
    /// How many shards; none leaves it to the node.
    pub shards: Option<u16>,
    /// The CPU of each shard; none leaves it to the node. Where both are given, this one counts.
    pub cpus: Option<&'a [usize]>,
    /// Whether a second thread of a core is as good as a core.
    pub smt: bool,
    /// Whether shards stay on their CPUs.
    pub pin: bool,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Wish { shards: None, cpus: None, smt: false, pin: true }
    }
}

/// Where one shard runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Its CPU; none if it is not pinned.
    pub cpu: Option<usize>,
    /// The memory node of that CPU; none where there is nothing to choose: one node, or none with memory there.
    pub node: Option<usize>,
    /// The lowest CPU that shares the last level of cache with it, if the machine says so.
    pub llc: Option<usize>,
}

/// Where all shards run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placement {
    /// By shard number; neighbours are close.
    pub shards: Vec<Place>,
    /// What the user may want to know, one line each.
    pub notes: Vec<String>,
    /// Allowed CPUs for everything else: those of cores without a shard; where there are none, idle threads of
    /// cores with one; else, and without pins, none.
    pub spare: Vec<usize>,
}

impl Placement {
    /// The CPUs of the shards, in their order; none of those that are not pinned.
    pub fn cpus(&self) -> Vec<Option<usize>> {
        self.shards.iter().map(|place| place.cpu).collect()
    }
}

/// Places what `wish` asks for on `host`. Reads a few files for each core.
///
/// # Errors
/// [`StartError::Cpu`] for a CPU that cannot be used, [`StartError::Shards`] for more shards than CPUs,
/// [`StartError::Memory`] for a start that the kernel would kill.
pub fn place(wish: &Wish<'_>, host: &Host, limits: &Limits) -> Result<Placement, StartError> {
    let mut placement = match wish.cpus {
        Some(cpus) if !cpus.is_empty() => named(cpus, wish.pin, host)?,
        _ => chosen(wish, host, limits)?,
    };
    let shards = placement.shards.len();
    placement.notes.extend(quota_note(host, shards));
    placement.notes.extend(check_memory(host, limits, shards)?);
    Ok(placement)
}

/// Rule 1: these CPUs.
fn named(cpus: &[usize], pin: bool, host: &Host) -> Result<Placement, StartError> {
    if !pin {
        return Ok(unpinned(cpus.len()));
    }
    let isolated = topology::isolated(&host.root);
    for &cpu in cpus {
        let why = match topology::is_online(&host.root, cpu) {
            _ if !host.has_cpu(cpu) => CpuRefusal::Missing,
            Some(false) => CpuRefusal::Offline,
            _ if host.allowed.contains(&cpu) || isolated.contains(&cpu) => continue,
            _ => CpuRefusal::Forbidden,
        };
        return Err(StartError::Cpu { cpu, why, allowed: host.allowed.clone() });
    }
    let others = host.allowed.iter().copied().filter(|cpu| !cpus.contains(cpu));
    let all = topology::read(&host.root, &cpus.iter().copied().chain(others).collect::<Vec<_>>());
    let (found, _) = all.split_at(cpus.len());
    let notes = found.iter().enumerate().filter_map(|(at, cpu)| {
        let other = found[..at].iter().find(|other| other.core == cpu.core && other.id != cpu.id)?;
        Some(format!("CPUs {} and {} are threads of one core, and share what it has", other.id, cpu.id))
    });
    let notes = notes.collect();
    Ok(pinned(found, &choose::cores(&all), notes, host))
}

/// What is left to the node.
fn chosen(wish: &Wish<'_>, host: &Host, limits: &Limits) -> Result<Placement, StartError> {
    let cores = choose::cores(&topology::read(&host.root, &host.allowed));
    let usable = if wish.smt { host.allowed.len() } else { cores.len() };
    let mut notes = Vec::new();
    let count = match wish.shards {
        Some(count) if wish.pin && usize::from(count) > usable => {
            let (wanted, cores, cpus) = (usize::from(count), cores.len(), host.allowed.clone());
            return Err(StartError::Shards { wanted, cores, cpus });
        }
        Some(count) => usize::from(count),
        None => fitted(usable, host, limits, &mut notes),
    };
    if !wish.pin {
        return Ok(Placement { notes, ..unpinned(count) });
    }
    let unused = topology::isolated(&host.root);
    if !unused.is_empty() && unused.iter().all(|cpu| !host.allowed.contains(cpu)) {
        let list = format_cpu_list(&unused);
        notes.push(format!(
            "CPUs {list} are isolated from other work and not used; take them with --cpus {list}"
        ));
    }
    Ok(pinned(&choose::choose(&cores, count), &cores, notes, host))
}

/// How many shards of at most `usable` this host has CPU time and memory for; at least one.
fn fitted(usable: usize, host: &Host, limits: &Limits, notes: &mut Vec<String>) -> usize {
    let mut count = usable.clamp(1, usize::from(SHARDS_MAX));
    if let Some(quota) = cgroup::cpu_quota(&host.root)
        && quota.cpus_floor() < count
    {
        let fits = quota.cpus_floor().max(1);
        if fits < count {
            notes.push(format!("{}: {}; --shards sets another number", said(&quota), instead(fits, count)));
        }
        count = fits;
    }
    if let Some(limit) = cgroup::memory_limit(&host.root) {
        let fits = (1..=count).rev().find(|&count| memory::in_use(limits, count) <= limit.bytes).unwrap_or(1);
        if fits < count {
            let wanted = mib(memory::in_use(limits, count));
            notes.push(format!(
                "{} and {count} shards take up to {wanted} MiB: {}; --shards sets another number",
                limited(&limit),
                instead(fits, count)
            ));
        }
        count = fits;
    }
    count
}

/// What to know about CPU time when `shards` run.
fn quota_note(host: &Host, shards: usize) -> Option<String> {
    let quota = cgroup::cpu_quota(&host.root).filter(|quota| quota.cpus_floor() < shards)?;
    let one = if shards == 1 { "the shard is" } else { "shards are" };
    Some(format!(
        "{} and {}: at full load {one} stopped for the rest of each {} ms; raise the quota to {}{}",
        said(&quota),
        counted(shards),
        quota.period_us.div_ceil(1000),
        if shards == 1 { "1 CPU".to_owned() } else { format!("{shards} CPUs") },
        if shards == 1 { "" } else { ", or run fewer with --shards" }
    ))
}

/// Rule 2, and what to know about memory when `shards` run.
fn check_memory(host: &Host, limits: &Limits, shards: usize) -> Result<Option<String>, StartError> {
    let Some(limit) = cgroup::memory_limit(&host.root) else { return Ok(None) };
    let (first, later) = (memory::at_start(limits, shards), memory::in_use(limits, shards));
    if first > limit.bytes {
        return Err(StartError::Memory { shards, wanted: first, limit });
    }
    Ok((later > limit.bytes).then(|| {
        format!(
            "{} and {} take up to {} MiB once their pools are in use: the kernel may kill the node under load; \
             raise the limit{}, or lower pool_large (--limit pool_large=N)",
            limited(&limit),
            counted(shards),
            mib(later),
            if shards == 1 { "" } else { ", run fewer with --shards" }
        )
    }))
}

fn unpinned(shards: usize) -> Placement {
    Placement { shards: vec![Place::default(); shards], ..Placement::default() }
}

/// Shards on `cpus`, of all `cores` that are allowed or named.
fn pinned(cpus: &[Cpu], cores: &[Core], notes: Vec<String>, host: &Host) -> Placement {
    let nodes = numa::nodes(&host.root);
    let with_memory = |id: &usize| nodes.iter().any(|node| node.id == *id && node.has_memory);
    let is_choice = nodes.iter().filter(|node| node.has_memory).count() > 1;
    let place = |cpu: &Cpu| Place {
        cpu: Some(cpu.id),
        node: cpu.node.filter(|id| is_choice && with_memory(id)),
        llc: cpu.llc,
    };
    let taken = |id: &usize| cpus.iter().any(|cpu| cpu.id == *id);
    let idle = cores.iter().filter(|core| !core.ids().any(|id| taken(&id)));
    let mut spare: Vec<usize> = idle.flat_map(Core::ids).collect();
    if spare.is_empty() {
        spare = host.allowed.iter().copied().filter(|id| !taken(id)).collect();
    }
    spare.sort_unstable();
    Placement { shards: cpus.iter().map(place).collect(), notes, spare }
}

fn said(quota: &CpuQuota) -> String {
    format!("the CPU quota is {quota} ({})", quota.file.display())
}

fn limited(limit: &MemoryLimit) -> String {
    format!("the memory limit is {} MiB ({})", limit.bytes >> 20, limit.file.display())
}

fn instead(count: usize, of: usize) -> String {
    format!("{} instead of {of}", counted(count))
}

fn counted(shards: usize) -> String {
    if shards == 1 { "1 shard".to_owned() } else { format!("{shards} shards") }
}
