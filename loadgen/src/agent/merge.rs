//! The runs of several processes as one run.
//!
//! # Rules
//! 1. Histograms and counters are added: a percentile of the result is that of one histogram of all.
//! 2. Slices are added by their place in time. Runs whose slices lie elsewhere are not one run.
//! 3. Counters of a host that two processes read are counted once (the larger), those of different hosts
//!    added.
//! 4. The verdict is the worst; each reason says whose it is.
//!
//! Not here: whether the parts were dealt well (the engines), when they started (`controller`).

use std::collections::BTreeMap;

use crate::model::{HostUse, Level, Provenance, Reason, Run, Slice, Verdict, WorkerUse};
use crate::record::{ConnectError, ErrorKind, Tally};

/// No counter of a part is larger: 64 parts then fit 64 bits.
const COUNT_MAX: u64 = 1 << 56;
/// No time of a worker is larger: two weeks.
const TIME_MAX_NS: u64 = 1 << 50;
/// Workers of a part.
const WORKERS_MAX: usize = 4_096;

/// Merges parts, each with the name of who made it. The settings, and what is not a sum, are those of the
/// first.
///
/// # Errors
/// One line that names the part: there is none; settings differ; slices do not lie at the same times; a
/// figure is impossible.
pub fn merge_runs(parts: Vec<(String, Run)>) -> Result<Run, String> {
    for (name, run) in &parts {
        check(run).map_err(|error| format!("{name}: {error}"))?;
    }
    let hosts = hosts(&parts);
    let host = host(&hosts);
    let provenance = provenance(&parts);
    let mut parts = parts.into_iter();
    let Some((first_name, mut all)) = parts.next() else { return Err("no run to merge".into()) };
    own(&first_name, &mut all.verdict);
    for (name, mut run) in parts {
        if run.settings != all.settings {
            return Err(format!("{name} ran with other settings than {first_name}"));
        }
        slices(&first_name, &mut all.slices, &name, &run.slices)?;
        all.total.merge(&run.total);
        all.measured_ns = all.measured_ns.max(run.measured_ns);
        all.interrupted |= run.interrupted;
        all.workers.append(&mut run.workers);
        // The slowest floor: a response may be no nearer to it than this.
        if run.floor.map(|floor| floor.p50_ns) > all.floor.map(|floor| floor.p50_ns) {
            all.floor = run.floor;
        }
        own(&name, &mut run.verdict);
        all.verdict.level = all.verdict.level.max(run.verdict.level);
        for reason in run.verdict.reasons {
            // What is to be known of a host is told once for all agents on it.
            let told = |other: &Reason| other.code == reason.code && after_name(other) == after_name(&reason);
            if reason.level > Level::Valid || !all.verdict.reasons.iter().any(told) {
                all.verdict.reasons.push(reason);
            }
        }
    }
    all.verdict.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
    (all.host, all.provenance) = (host, provenance);
    Ok(all)
}

/// Adds a reason to a verdict, in its place.
pub(super) fn add_reason(verdict: &mut Verdict, reason: Reason) {
    verdict.level = verdict.level.max(reason.level);
    verdict.reasons.push(reason);
    verdict.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
}

/// A text without the agent it is of.
fn after_name(reason: &Reason) -> &str {
    reason.text.split_once(": ").map_or(&reason.text, |(_, text)| text)
}

fn own(name: &str, verdict: &mut Verdict) {
    for reason in &mut verdict.reasons {
        reason.text = format!("{name}: {}", reason.text);
    }
}

/// A run may come from another host: sums must not overflow on what it claims.
fn check(run: &Run) -> Result<(), String> {
    std::iter::once(&run.total)
        .chain(run.slices.iter().map(|slice| &slice.tally))
        .try_for_each(check_tally)?;
    if run.workers.len() > WORKERS_MAX {
        return Err(format!("{} workers, and {WORKERS_MAX} are possible", run.workers.len()));
    }
    for worker in &run.workers {
        let WorkerUse {
            cpu: _,
            wall_ns,
            cpu_ns,
            spin_ns,
            run_delay_ns,
            enters,
            cq_overflows,
            no_buffers,
            unopened,
            hiccup_max_ns,
        } = *worker;
        let times = [wall_ns, cpu_ns, spin_ns, run_delay_ns, hiccup_max_ns];
        let counts = [enters, cq_overflows, no_buffers, u64::from(unopened)];
        if times.into_iter().chain(counts).any(|figure| figure > TIME_MAX_NS) {
            return Err("a worker with impossible figures".into());
        }
    }
    let HostUse { retransmits, listen_overflows, listen_drops, softnet_drops, .. } = &run.host;
    let counts = [retransmits, listen_overflows, listen_drops, softnet_drops];
    let figures = counts.into_iter().flatten().chain(&run.host.shard_requests);
    if figures.chain([&run.provenance.memory_bytes]).any(|&count| count > COUNT_MAX) {
        return Err("a host with impossible figures".into());
    }
    Ok(())
}

fn check_tally(tally: &Tally) -> Result<(), String> {
    let crate::record::Counts { intended, sent, completed, waited, bytes_in, bytes_out, connects, ended } =
        tally.counts;
    let counts = [intended, sent, completed, waited, bytes_in, bytes_out, connects, ended];
    let errors = ErrorKind::ALL.into_iter().map(|kind| tally.errors.get(kind));
    let connects = ConnectError::ALL.into_iter().map(|kind| tally.errors.get_connect(kind));
    let kinds = tally.kinds.iter().flat_map(|kind| [kind.answered, kind.failed]);
    match counts.into_iter().chain(errors).chain(connects).chain(kinds).find(|&count| count > COUNT_MAX) {
        Some(count) => Err(format!("a count of {count}, which cannot be")),
        None => Ok(()),
    }
}

fn slices(first: &str, all: &mut Vec<Slice>, name: &str, more: &[Slice]) -> Result<(), String> {
    let count = all.len();
    for (at, slice) in more.iter().enumerate() {
        let Some(mine) = all.get_mut(at) else {
            all.push(slice.clone());
            continue;
        };
        if mine.start_ns != slice.start_ns {
            return Err(format!(
                "slice {at} begins at {} ns in {name} and at {} ns in {first}: they did not run as one",
                slice.start_ns, mine.start_ns
            ));
        }
        // Where a run is ended early, its last slice is shorter.
        let is_last = at + 1 == count || at + 1 == more.len();
        if mine.len_ns != slice.len_ns && !is_last {
            return Err(format!(
                "slice {at} lasts {} ns in {name} and {} ns in {first}: they did not run as one",
                slice.len_ns, mine.len_ns
            ));
        }
        mine.len_ns = mine.len_ns.max(slice.len_ns);
        mine.tally.merge(&slice.tally);
    }
    Ok(())
}

/// What is known of each host: the larger of what its processes read.
fn hosts(parts: &[(String, Run)]) -> Vec<HostUse> {
    let mut all: BTreeMap<String, HostUse> = BTreeMap::new();
    for (name, run) in parts {
        let mine = all.entry(host_key(name, run)).or_default();
        let theirs = &run.host;
        mine.retransmits = mine.retransmits.max(theirs.retransmits);
        mine.listen_overflows = mine.listen_overflows.max(theirs.listen_overflows);
        mine.listen_drops = mine.listen_drops.max(theirs.listen_drops);
        mine.softnet_drops = mine.softnet_drops.max(theirs.softnet_drops);
        join(mine, theirs);
    }
    all.into_values().collect()
}

/// A host that does not say which it is, is one of its own.
fn host_key(name: &str, run: &Run) -> String {
    let id = &run.provenance.host_id;
    if id.is_empty() { format!("at {name}") } else { id.clone() }
}

/// All hosts together: counters added where they are known.
fn host(hosts: &[HostUse]) -> HostUse {
    let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    let mut all = HostUse::default();
    for one in hosts {
        all.retransmits = add(all.retransmits, one.retransmits);
        all.listen_overflows = add(all.listen_overflows, one.listen_overflows);
        all.listen_drops = add(all.listen_drops, one.listen_drops);
        all.softnet_drops = add(all.softnet_drops, one.softnet_drops);
        join(&mut all, one);
    }
    all
}

/// What is no counter of a host: the worst of it, and what the server says, which is the same for all.
fn join(mine: &mut HostUse, theirs: &HostUse) {
    mine.steal_share = match (mine.steal_share, theirs.steal_share) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    mine.same_host |= theirs.same_host;
    mine.server_cpus.extend(&theirs.server_cpus);
    mine.server_cpus.sort_unstable();
    mine.server_cpus.dedup();
    let count = mine.shard_requests.len().max(theirs.shard_requests.len());
    mine.shard_requests.resize(count, 0);
    for (mine, &theirs) in mine.shard_requests.iter_mut().zip(&theirs.shard_requests) {
        *mine = (*mine).max(theirs);
    }
}

fn provenance(parts: &[(String, Run)]) -> Provenance {
    let each_host: BTreeMap<String, &Run> =
        parts.iter().rev().map(|(name, run)| (host_key(name, run), run)).collect();
    let Some((_, first)) = parts.first() else { return Provenance::default() };
    let distinct = |of: fn(&Provenance) -> &str| {
        let mut all: Vec<&str> = parts.iter().map(|(_, run)| of(&run.provenance)).collect();
        all.sort_unstable();
        all.dedup();
        all.join(" + ")
    };
    let mut mitigations: Vec<String> =
        parts.iter().flat_map(|(_, run)| run.provenance.mitigations.iter().cloned()).collect();
    mitigations.sort_unstable();
    mitigations.dedup();
    let mut digests: Vec<&str> =
        parts.iter().filter_map(|(_, run)| run.provenance.tuning_digest.as_deref()).collect();
    digests.sort_unstable();
    digests.dedup();
    let memories = each_host.values().map(|run| run.provenance.memory_bytes);
    Provenance {
        tool: first.provenance.tool.clone(),
        commit: first.provenance.commit.clone(),
        command: first.provenance.command.clone(),
        kernel: distinct(|p| &p.kernel),
        cpu_model: distinct(|p| &p.cpu_model),
        cpus: each_host.values().fold(0, |sum: usize, run| sum.saturating_add(run.provenance.cpus)),
        memory_bytes: memories.fold(0, u64::saturating_add),
        governor: distinct(|p| &p.governor),
        mitigations,
        congestion_control: distinct(|p| &p.congestion_control),
        clocksource: distinct(|p| &p.clocksource),
        virtualised: parts.iter().any(|(_, run)| run.provenance.virtualised),
        host_id: each_host.keys().map(String::as_str).collect::<Vec<_>>().join("+"),
        tuning_digest: (!digests.is_empty()).then(|| digests.join("+")),
        started_unix_ms: parts.iter().map(|(_, run)| run.provenance.started_unix_ms).min().unwrap_or(0),
    }
}
