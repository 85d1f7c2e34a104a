//! Whether the generator itself was in the way: late, busy, or kept from running.
//!
//! Not here: what its host did (`surroundings`), what came out (`outcome`).

use super::text::{count, percent, time, value};
use super::{Bounds, level_of, reason, share};
use crate::model::{Level, Loop, Reason, Run, WorkerUse};
use crate::record::Latency;

/// Whether it is an open loop.
fn is_open(run: &Run) -> bool {
    matches!(run.settings.traffic, Loop::Open { .. })
}

/// The worker with the largest share, and how large that is. Workers without a window are left out.
fn worst(run: &Run, part_ns: fn(&WorkerUse) -> u64) -> Option<(String, f64)> {
    let with_window = run.workers.iter().enumerate().filter(|(_, worker)| worker.wall_ns > 0);
    let shares = with_window.map(|(index, worker)| (index, worker, share(part_ns(worker), worker.wall_ns)));
    let (index, worker, share) = shares.max_by(|a, b| a.2.total_cmp(&b.2))?;
    Some((name(index, worker), share))
}

fn name(index: usize, worker: &WorkerUse) -> String {
    match worker.cpu {
        Some(cpu) => format!("worker {index} on CPU {cpu}"),
        None => format!("worker {index}"),
    }
}

/// The lowest value of the bucket that `ns` is in: what was recorded was no less.
fn at_least(of: &Latency, ns: u64) -> u64 {
    of.exact().lowest_equivalent(ns)
}

/// Late by its own fault.
pub(super) fn own_lag(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let lag = &run.total.own_lag;
    let (p99, p50) = (lag.percentile(99.0)?, run.total.response.percentile(50.0)?);
    let p99_ns = at_least(lag, p99.ns());
    let late = lag.share_above(bounds.late_ns);
    let cure = if is_open(run) {
        "give the workers CPUs of their own (--cpus), add --threads, or lower --rate"
    } else {
        "give the workers CPUs of their own (--cpus), or add --threads"
    };
    let lag_text =
        format!("our own send lag has a P99 of {} against a response P50 of {}", value(p99), value(p50));
    if p99_ns > bounds.own_lag_invalid_ns && p99_ns > p50.ns() {
        let bound = time(bounds.own_lag_invalid_ns);
        let text = format!("{lag_text} (bound: {bound}, and the P50): this measures the generator; {cure}");
        return reason(Level::Invalid, "own_lag", text);
    }
    let saturates = matches!(run.settings.traffic, Loop::Closed { think_ns: 0, .. });
    let most = if saturates { bounds.own_lag_share_closed } else { bounds.own_lag_share };
    if p99_ns > bounds.own_lag_ns && p99_ns as f64 > p50.ns() as f64 * most {
        let (part, least) = (percent(most), time(bounds.own_lag_ns));
        let text = format!("{lag_text} (bound: {part} of it, and {least}): the generator was late; {cure}");
        return reason(Level::Suspect, "own_lag", text);
    }
    if late > bounds.late_share {
        let (seen, than, bound) = (percent(late), time(bounds.late_ns), percent(bounds.late_share));
        let text = format!(
            "{seen} of the requests were sent more than {than} late by our own fault (bound: {bound}): {cure}"
        );
        return reason(Level::Suspect, "own_lag", text);
    }
    None
}

/// A worker had no time left.
pub(super) fn cpu_saturated(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let (who, busy) = worst(run, |worker| worker.cpu_ns.saturating_sub(worker.spin_ns))?;
    let bound = if is_open(run) { bounds.cpu_share_open } else { bounds.cpu_share_closed };
    if busy <= bound {
        return None;
    }
    let seen = format!("{who} worked {} of the time (bound: {})", percent(busy), percent(bound));
    let text = if is_open(run) {
        format!("{seen}: requests wait in the generator; add --threads, or lower --rate")
    } else {
        format!("{seen}: generator-limited, the server could have done more; add --threads")
    };
    reason(Level::Suspect, "cpu_saturated", text)
}

/// Somebody else ran on our CPU.
pub(super) fn run_delay(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let (who, waited) = worst(run, |worker| worker.run_delay_ns)?;
    let (suspect, invalid) = (bounds.run_delay_share, bounds.run_delay_share_invalid);
    let level = level_of(waited, suspect, invalid)?;
    let bound = percent(if level == Level::Invalid { invalid } else { suspect });
    let text = format!(
        "{who} was ready to run and had no CPU for {} of the time (bound: {bound}): something else runs \
         there; move it away, or choose other CPUs with --cpus",
        percent(waited)
    );
    reason(level, "run_delay", text)
}

/// A worker stood still for a while.
pub(super) fn hiccup(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let longest = run.workers.iter().enumerate().max_by_key(|(_, worker)| worker.hiccup_max_ns);
    let (index, worker) = longest?;
    let gap_ns = worker.hiccup_max_ns;
    let of_window = share(gap_ns, worker.wall_ns);
    let seen =
        format!("{} did not look at the clock for {} while work was due", name(index, worker), time(gap_ns));
    let cure = "keep other work off its CPU (--cpus), or repeat the run";
    if gap_ns > bounds.hiccup_ns && of_window > bounds.hiccup_share {
        let (part, bound, least) = (percent(of_window), percent(bounds.hiccup_share), time(bounds.hiccup_ns));
        let text = format!(
            "{seen}, {part} of the window (bound: {bound}, and {least}): the slowest {part} of the answers \
             may be slow by our own fault; {cure}"
        );
        return reason(Level::Suspect, "hiccup", text);
    }
    let p99_ns = run.total.response.percentile(99.0).map_or(0, crate::record::Value::ns);
    let beyond_tail = gap_ns > bounds.hiccup_least_ns && gap_ns as f64 > p99_ns as f64 * bounds.hiccup_p99s;
    if gap_ns > bounds.hiccup_ns || beyond_tail {
        let bound = if beyond_tail {
            format!("{} times the response P99", bounds.hiccup_p99s)
        } else {
            time(bounds.hiccup_ns)
        };
        let text = format!("{seen} (bound: {bound}): the largest response times may be ours; {cure}");
        return reason(Level::Valid, "hiccup", text);
    }
    None
}

/// The ring lost its order.
pub(super) fn cq_overflow(run: &Run, _: &Bounds) -> Option<Reason> {
    let overflows: u64 = run.workers.iter().map(|worker| worker.cq_overflows).sum();
    if overflows == 0 {
        return None;
    }
    let seen = count(overflows, "completion queue overflow");
    let text = format!("{seen} in the workers (bound: 0): answers were seen late; add --threads");
    reason(Level::Suspect, "cq_overflow", text)
}

/// Answers came faster than buffers were given back.
pub(super) fn no_buffers(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let without: u64 = run.workers.iter().map(|worker| worker.no_buffers).sum();
    if without == 0 {
        return None;
    }
    let part = share(without, run.total.counts.completed.max(1));
    let level = if part > bounds.no_buffers_share { Level::Suspect } else { Level::Valid };
    let text = format!(
        "{} found no buffer, {} of the answers (suspect above {}): they were read a turn later; add \
         --threads",
        count(without, "receive"),
        percent(part),
        percent(bounds.no_buffers_share)
    );
    reason(level, "no_buffers", text)
}
