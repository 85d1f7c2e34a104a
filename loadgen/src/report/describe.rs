//! A run in words: what was asked, where, what it cost. Used by the text and the HTML report alike.
//!
//! Nothing here is escaped for markup; words from outside are harmless for a terminal.
//!
//! Not here: layout (`text`, `html`).

use super::format::{count, duration, harmless, percent, plural, rate, utc};
use crate::model::{Arrivals, Loop, Provenance, Run, Settings, Speaks, Stage, WorkerUse};
use hdrhistogram::Histogram;

/// What was asked, as the user wrote it; the method before it where it is not GET.
pub(super) fn target(settings: &Settings) -> String {
    let method = match settings.requests.as_slice() {
        [one] if settings.speaks == Speaks::Http1 && one.method != "GET" => format!("{} ", one.method),
        _ => String::new(),
    };
    harmless(&format!("{method}{}", settings.url))
}

/// `open loop, Poisson, 50.0k/s` or `closed loop`, and what goes with it.
pub(super) fn traffic(settings: &Settings) -> String {
    match &settings.traffic {
        Loop::Closed { think_ns: 0, .. } => "closed loop".into(),
        Loop::Closed { think_ns, think_exponential } => {
            let drawn = if *think_exponential { ", exponential" } else { "" };
            format!("closed loop, {} think time{drawn}", duration(*think_ns))
        }
        Loop::Open { arrivals: Arrivals::Trace(path), .. } => format!("open loop, trace {}", harmless(path)),
        Loop::Open { arrivals, stages } => {
            let kind = match arrivals {
                Arrivals::Constant => "constant".into(),
                Arrivals::Poisson => "Poisson".into(),
                Arrivals::Burst(size) => format!("bursts of {size}"),
                Arrivals::Trace(_) => unreachable!("the arm above"),
            };
            format!("open loop, {kind} {}", stages_text(stages))
        }
    }
}

fn stages_text(stages: &[Stage]) -> String {
    let (Some(first), Some(last)) = (stages.first(), stages.last()) else { return "no rate".into() };
    #[allow(clippy::float_cmp)] // as the user wrote them
    let flat = stages.iter().all(|stage| stage.from == first.from && stage.to == first.from);
    if flat {
        return rate(first.from);
    }
    let range = format!("{} to {}", rate(first.from), rate(last.to));
    if stages.len() == 1 { range } else { format!("{range} in {} stages", stages.len()) }
}

/// `64 connections x 16, 2 threads, 10.0 s`.
pub(super) fn shape(run: &Run) -> String {
    let settings = &run.settings;
    let mut text = plural(settings.connections.into(), "connection");
    if settings.pipeline > 1 {
        text += &format!(" x {} in flight", settings.pipeline);
    }
    text += &format!(", {}", plural(settings.threads.into(), "thread"));
    match settings.cpus.as_slice() {
        [] => {}
        [cpu] => text += &format!(" on CPU {cpu}"),
        cpus => text += &format!(" on CPUs {}", ranges(cpus)),
    }
    text += &format!(", {}", duration(run.measured_ns));
    if run.interrupted {
        text += &format!(" of {} (ended early)", duration(settings.duration_ns));
    }
    text
}

/// `0-3,8`.
pub(super) fn ranges(numbers: &[usize]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for number in sorted {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => parts.push((number, number)),
        }
    }
    let word = |(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(word).collect::<Vec<_>>().join(",")
}

/// What the `index`-th of several requests is called.
pub(super) fn kind_name(settings: &Settings, index: usize) -> String {
    match (settings.speaks, index) {
        (Speaks::Resp, 0) => "GET".into(),
        (Speaks::Resp, 1) => "SET".into(),
        _ => match settings.requests.get(index) {
            Some(request) if !request.name.is_empty() => harmless(&request.name),
            Some(request) => harmless(&format!("{} {}", request.method, request.path)),
            None => format!("request {}", index + 1),
        },
    }
}

/// Response times of requests with a good answer; `None` where every answer was good, or none was.
///
/// What was answered with an error is taken out of the response times by subtracting its histogram. What was
/// not answered is not in them.
pub(super) fn good_only(run: &Run) -> Option<Histogram<u64>> {
    let failed = run.total.failed.exact();
    if failed.is_empty() {
        return None;
    }
    let mut good = run.total.response.exact().clone();
    good.subtract(failed).ok()?;
    (!good.is_empty()).then_some(good)
}

/// Share of its time a worker worked: CPU time without what it polled away.
pub(super) fn busy_share(worker: &WorkerUse) -> f64 {
    let work = worker.cpu_ns.saturating_sub(worker.spin_ns);
    if worker.wall_ns == 0 { 0.0 } else { work as f64 / worker.wall_ns as f64 }
}

/// `3.91 us CPU/request; workers 61% and 63% busy; 2.10 requests/syscall`. `None` without workers.
pub(super) fn client_cost(run: &Run) -> Option<String> {
    let mut busy: Vec<f64> = run.workers.iter().map(busy_share).collect();
    busy.sort_by(f64::total_cmp);
    let mut parts = Vec::new();
    if let Some(ns) = run.cpu_per_request_ns() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a duration, not negative
        parts.push(format!("{} CPU/request", duration(ns.round() as u64)));
    }
    let whole = |share: &f64| format!("{:.0}%", share * 100.0);
    parts.push(match busy.as_slice() {
        [] => return None,
        [one] => format!("worker {} busy", whole(one)),
        [low, high] => format!("workers {} and {} busy", whole(low), whole(high)),
        [low, .., high] => format!("{} workers {} to {} busy", busy.len(), whole(low), whole(high)),
    });
    let enters: u64 = run.workers.iter().map(|worker| worker.enters).sum();
    if enters > 0 {
        let each = run.total.counts.completed as f64 / enters as f64;
        parts.push(format!("{} requests/syscall", super::format::compact(each)));
    }
    Some(parts.join("; "))
}

/// Name and value of each thing that was asked, for a table.
pub(super) fn settings_rows(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut rows = vec![("target", target(settings)), ("traffic", traffic(settings))];
    let mut row = |name, text: String| rows.push((name, text));
    row("connections", count(settings.connections.into()));
    row("in flight on each", count(settings.pipeline.into()));
    if settings.requests_per_connection > 0 {
        row("requests per connection", count(settings.requests_per_connection));
    }
    match settings.speaks {
        Speaks::Http1 => {}
        Speaks::Echo => row("message", plural(settings.echo_len.into(), "byte")),
        Speaks::Resp => {
            let resp = settings.resp;
            let spread = if resp.zipf == 0.0 { "uniform".into() } else { format!("zipf {}", resp.zipf) };
            row("GET share", percent(resp.get_share));
            row("keys", format!("{}, {spread}", count(resp.keys)));
            row("value", plural(resp.value_len.into(), "byte"));
        }
    }
    for request in settings.requests.iter().filter(|_| settings.speaks == Speaks::Http1) {
        let mut text = format!("{} {}", request.method, request.path);
        if settings.requests.len() > 1 {
            text = format!("{} (weight {}): {text}", request.name, request.weight);
        }
        for (name, value) in &request.headers {
            text += &format!("; {name}: {value}");
        }
        if !request.body.is_empty() {
            text += &format!("; body of {}", plural(request.body.len() as u64, "byte"));
        }
        row("request", harmless(&text));
    }
    if !settings.expect_status.is_empty() {
        let list: Vec<String> = settings.expect_status.iter().map(u16::to_string).collect();
        row("statuses taken", list.join(", "));
    }
    let cpus = if settings.cpus.is_empty() { "not pinned".into() } else { ranges(&settings.cpus) };
    row("threads", format!("{}, CPUs {cpus}", count(settings.threads.into())));
    if !settings.sources.is_empty() {
        let list: Vec<String> = settings.sources.iter().map(ToString::to_string).collect();
        row(
            "source addresses",
            if list.len() > 4 { plural(list.len() as u64, "address") } else { list.join(", ") },
        );
    }
    if settings.ramp_ns > 0 {
        row("ramp", duration(settings.ramp_ns));
    }
    row("warm-up", duration(settings.warmup_ns));
    row("window", duration(settings.duration_ns));
    row("timeout", duration(settings.timeout_ns));
    row("drain", duration(settings.drain_ns));
    row("seed", settings.seed.to_string());
    rows
}

/// Name and value of each fact of where and by what, for a table and for comments.
pub(super) fn provenance_rows(of: &Provenance) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("command", of.command.clone()),
        ("tool", of.tool.clone()),
        ("commit", of.commit.clone().unwrap_or_else(|| "not known".into())),
        ("started", utc(of.started_unix_ms)),
        ("kernel", of.kernel.clone()),
        ("CPU", format!("{} ({})", of.cpu_model, plural(of.cpus as u64, "CPU"))),
        ("memory", super::format::bytes(of.memory_bytes as f64)),
        ("virtualised", if of.virtualised { "yes" } else { "no" }.into()),
        ("governor", of.governor.clone()),
        ("clock source", of.clocksource.clone()),
        ("congestion control", of.congestion_control.clone()),
        ("host", of.host_id.clone()),
        ("tuning digest", of.tuning_digest.clone().unwrap_or_else(|| "none".into())),
    ];
    rows.extend(of.mitigations.iter().map(|text| ("mitigation", text.clone())));
    rows.iter_mut().for_each(|(_, text)| *text = harmless(text));
    rows
}

/// Name and value of each fact of how host and network treated the run.
pub(super) fn host_rows(run: &Run) -> Vec<(&'static str, String)> {
    let host = &run.host;
    let known = |number: Option<u64>| number.map_or_else(|| "not known".into(), count);
    let mut rows = vec![
        ("TCP segments sent again", known(host.retransmits)),
        ("listen queue overflows", known(host.listen_overflows)),
        ("listen queue drops", known(host.listen_drops)),
        ("packets dropped at a CPU", known(host.softnet_drops)),
        ("stolen by the hypervisor", host.steal_share.map_or_else(|| "not known".into(), percent)),
        ("target on this host", if host.same_host { "yes" } else { "no" }.into()),
    ];
    if !host.server_cpus.is_empty() {
        rows.push(("CPUs of the server", ranges(&host.server_cpus)));
    }
    if !host.shard_requests.is_empty() {
        let list: Vec<String> = host.shard_requests.iter().map(|number| count(*number)).collect();
        rows.push(("requests by server shard", list.join(" / ")));
    }
    if let Some(floor) = &run.floor {
        let (p50, p99) = (duration(floor.p50_ns), duration(floor.p99_ns));
        rows.push((
            "noise floor",
            format!("P50 {p50}, P99 {p99} against the null server at {}", rate(floor.rate)),
        ));
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_rate_that_changes_says_from_what_to_what() {
        let stage = |from, to| Stage { from, to, len_ns: 1 };
        assert_eq!(stages_text(&[stage(50e3, 50e3)]), "50.0k/s");
        assert_eq!(stages_text(&[stage(1e3, 50e3)]), "1.00k/s to 50.0k/s");
        assert_eq!(stages_text(&[stage(1e3, 2e3), stage(2e3, 9e3)]), "1.00k/s to 9.00k/s in 2 stages");
        assert_eq!(stages_text(&[]), "no rate");
    }

    #[test]
    fn cpus_in_a_row_are_a_range() {
        assert_eq!(ranges(&[3, 1, 2, 8, 8]), "1-3,8");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn good_answers_are_all_answers_less_the_bad_ones() {
        let run = sample::failing(1_000.0);
        let good = good_only(&run).unwrap();
        assert_eq!(good.len(), run.total.response.exact().len() - run.total.failed.exact().len());
        assert!(good_only(&sample::calm(1_000.0)).is_none());
    }

    #[test]
    fn polling_is_not_work() {
        let worker = WorkerUse { wall_ns: 100, cpu_ns: 90, spin_ns: 40, ..WorkerUse::default() };
        assert!((busy_share(&worker) - 0.5).abs() < 1e-9);
        assert!(busy_share(&WorkerUse::default()).abs() < 1e-9);
    }
}
