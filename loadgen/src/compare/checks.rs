//! What speaks against comparing runs.
//!
//! # Rules
//! 1. Only the target (url, host, port) may differ between sides. All else that may change a figure and
//!    differs is named, field by field, each once.
//! 2. A text says which values, in which run, and what to do.
//!
//! Not here: whether the comparison goes on regardless (`mod`).

use std::fmt::Debug;

use super::{Problem, Replicate, Side};
use crate::model::{Level, RequestSpec, Settings};

/// Runs a side must have: fewer say nothing of how runs differ among themselves.
pub const REPLICATES_MIN: usize = 3;

/// Windows may differ by this share.
const WINDOW_SLACK: f64 = 0.01;

/// Fewer slices than this cannot be resampled in blocks to any effect.
const UNITS_MIN: usize = 8;

/// A run and what it is called.
type Named<'a> = (String, &'a Replicate);

/// All that speaks against it, refusals first.
pub(crate) fn problems(base: &Side, other: &Side) -> Vec<Problem> {
    let mut found = Vec::new();
    for side in [base, other] {
        count(side, &mut found);
    }
    let runs: Vec<Named<'_>> = [base, other]
        .into_iter()
        .flat_map(|side| {
            side.runs.iter().enumerate().map(|(n, run)| (format!("{} run {}", side.name, n + 1), run))
        })
        .collect();
    let Some(((first_name, first), rest)) = runs.split_first() else { return found };
    provenance(first_name, first, rest, &mut found);
    settings(base, other, &runs, &mut found);
    for (name, run) in &runs {
        state(name, run, &mut found);
    }
    window(first_name, first, rest, &mut found);
    order(base, other, &runs, &mut found);
    found.sort_by_key(|problem| !problem.refuses);
    found
}

fn problem(refuses: bool, code: &str, text: String) -> Problem {
    Problem { refuses, code: code.into(), text }
}

fn count(side: &Side, found: &mut Vec<Problem>) {
    let count = side.runs.len();
    if count < REPLICATES_MIN {
        let runs = if count == 1 { "run" } else { "runs" };
        let text = format!(
            "{} has {count} {runs}, and {REPLICATES_MIN} are needed to know how runs differ by themselves: \
             make more with --repeat 5, or give several files joined by commas",
            side.name
        );
        found.push(problem(true, "replicates", text));
    }
}

fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn provenance(first_name: &str, first: &Replicate, rest: &[Named<'_>], found: &mut Vec<Problem>) {
    let mut differs = |refuses, code: &str, what: &str, of: &dyn Fn(&Replicate) -> String| {
        let mine = of(first);
        if let Some((name, theirs)) = rest.iter().map(|(name, run)| (name, of(run))).find(|(_, v)| *v != mine)
        {
            let text = format!("{what} differs: {mine} in {first_name}, {theirs} in {name}");
            found.push(problem(refuses, code, text));
        }
    };
    differs(true, "host", "the host", &|run| short(&run.provenance.host_id));
    differs(true, "kernel", "the kernel", &|run| short(&run.provenance.kernel));
    differs(true, "cpu_model", "the CPU model", &|run| short(&run.provenance.cpu_model));
    differs(true, "mitigations", "what the kernel does against CPU flaws", &|run| {
        format!("{:?}", run.provenance.mitigations)
    });
    differs(true, "governor", "the frequency governor", &|run| short(&run.provenance.governor));
    differs(true, "tuning", "the tuning of the host", &|run| match &run.provenance.tuning_digest {
        Some(digest) => short(digest),
        None => "none known".into(),
    });
    differs(false, "cpus", "the number of CPUs", &|run| run.provenance.cpus.to_string());
    differs(false, "clocksource", "the clock source", &|run| short(&run.provenance.clocksource));
    differs(false, "congestion_control", "TCP congestion control", &|r| {
        short(&r.provenance.congestion_control)
    });
    differs(false, "tool", "the version of the tool", &|run| short(&run.provenance.tool));
}

fn settings(base: &Side, other: &Side, runs: &[Named<'_>], found: &mut Vec<Problem>) {
    let Some((first_name, first)) = runs.first() else { return };
    let mut seen: Vec<&str> = Vec::new();
    for (name, run) in &runs[1..] {
        for (field, mine, theirs) in differences(&first.settings, &run.settings) {
            if !seen.contains(&field) {
                seen.push(field);
                let text = format!(
                    "the setting {field} differs: {mine} in {first_name}, {theirs} in {name}: \
                     runs can be compared when they were asked the same"
                );
                found.push(problem(true, "settings", text));
            }
        }
    }
    for side in [base, other] {
        let target =
            |run: &Replicate| (run.settings.url.clone(), run.settings.host.clone(), run.settings.port);
        let Some(mine) = side.runs.first().map(target) else { continue };
        if let Some(theirs) = side.runs.iter().map(target).find(|theirs| *theirs != mine) {
            let text =
                format!("the runs of {} have different targets: {} and {}", side.name, mine.0, theirs.0);
            found.push(problem(true, "target", text));
        }
    }
    let (Some(a), Some(b)) = (base.runs.first(), other.runs.first()) else { return };
    let paths = |run: &Replicate| run.settings.requests.iter().map(|r| r.path.clone()).collect::<Vec<_>>();
    if paths(a) != paths(b) {
        let text = format!("the paths differ: {} and {}", short(&paths(a)), short(&paths(b)));
        let is_other_target = a.settings.url != b.settings.url;
        found.push(problem(!is_other_target, "paths", text));
    }
    let seeds = |side: &Side| side.runs.iter().map(|run| run.settings.seed).collect::<Vec<_>>();
    let differ = match (seeds(base), seeds(other)) {
        (a, b) if a.len() == b.len() => a != b,
        (a, b) => a.iter().chain(&b).any(|seed| Some(seed) != a.first()),
    };
    if differ {
        let text =
            "the seeds of the two sides differ: arrivals and requests are drawn alike, not the same".into();
        found.push(problem(false, "seed", text));
    }
}

/// A request without what is compared: its path, and a Host field.
fn without_target(requests: &[RequestSpec]) -> Vec<RequestSpec> {
    let mut requests = requests.to_vec();
    for request in &mut requests {
        request.path.clear();
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
    }
    requests
}

/// The settings that differ and may not, with both values. A new field does not compile until it is placed
/// here.
fn differences(a: &Settings, b: &Settings) -> Vec<(&'static str, String, String)> {
    let mut all = Vec::new();
    macro_rules! same {
        ($($field:ident),+) => {
            $(if $field != &b.$field {
                all.push((stringify!($field), short($field), short(&b.$field)));
            })+
        };
    }
    let Settings {
        url: _,
        host: _,
        port: _,
        seed: _,
        speaks,
        requests,
        resp,
        echo_len,
        traffic,
        connections,
        pipeline,
        requests_per_connection,
        ramp_ns,
        warmup_ns,
        duration_ns,
        timeout_ns,
        drain_ns,
        slice_ns,
        threads,
        cpus,
        busy_poll,
        sources,
        expect_status,
    } = a;
    same!(
        speaks,
        resp,
        echo_len,
        traffic,
        connections,
        pipeline,
        requests_per_connection,
        ramp_ns,
        warmup_ns
    );
    same!(duration_ns, timeout_ns, drain_ns, slice_ns, threads, cpus, busy_poll, sources, expect_status);
    let (mine, theirs) = (without_target(requests), without_target(&b.requests));
    if mine != theirs {
        all.push(("requests", short(&mine), short(&theirs)));
    }
    all
}

fn state(name: &str, run: &Replicate, found: &mut Vec<Problem>) {
    let reasons = || {
        let worst = run.verdict.reasons.iter().filter(|reason| reason.level == run.verdict.level);
        worst.map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("; ")
    };
    match run.verdict.level {
        Level::Valid => {}
        Level::Suspect => found.push(problem(false, "suspect", format!("{name} is SUSPECT: {}", reasons()))),
        Level::Invalid => found.push(problem(true, "invalid", format!("{name} is INVALID: {}", reasons()))),
    }
    if run.interrupted {
        let seconds = run.measured_ns as f64 / 1e9;
        let text = format!("{name} was interrupted after {seconds:.1} s: make it again");
        found.push(problem(true, "interrupted", text));
    }
}

fn window(first_name: &str, first: &Replicate, rest: &[Named<'_>], found: &mut Vec<Problem>) {
    let slack = first.measured_ns as f64 * WINDOW_SLACK;
    let is_off = |run: &Replicate| first.measured_ns.abs_diff(run.measured_ns) as f64 > slack;
    if let Some((name, run)) = rest.iter().find(|(_, run)| is_off(run)) {
        let seconds = |run: &Replicate| run.measured_ns as f64 / 1e9;
        let (mine, theirs) = (seconds(first), seconds(run));
        let text =
            format!("the windows differ by over 1 %: {mine:.3} s in {first_name}, {theirs:.3} s in {name}");
        found.push(problem(true, "window", text));
    }
    let few = |run: &Replicate| run.units.len() < UNITS_MIN;
    if let Some((name, run)) = std::iter::once((first_name, first))
        .chain(rest.iter().map(|(name, run)| (name.as_str(), *run)))
        .find(|(_, run)| few(run))
    {
        let text = format!(
            "{name} has {} slices: below {UNITS_MIN} their order says little, and intervals rest on the \
             spread of the runs; measure longer",
            run.units.len()
        );
        found.push(problem(false, "few_slices", text));
    }
}

fn order(base: &Side, other: &Side, runs: &[Named<'_>], found: &mut Vec<Problem>) {
    let start = |run: &Replicate| run.provenance.started_unix_ms;
    for (at, (name, run)) in runs.iter().enumerate() {
        let same = |earlier: &Replicate| {
            let key = |r: &Replicate| {
                (start(r), r.provenance.host_id.clone(), r.measured_ns, r.settings.url.clone())
            };
            key(earlier) == key(run) && earlier.units == run.units && earlier.rest == run.rest
        };
        if let Some((twin, _)) = runs[..at].iter().find(|(_, earlier)| start(run) > 0 && same(earlier)) {
            let text = format!("{name} and {twin} are one run: it counts once");
            found.push(problem(true, "duplicate", text));
        }
    }
    let ends = |side: &Side| {
        let starts = || side.runs.iter().map(start);
        starts().min().zip(starts().max()).filter(|&(low, _)| low > 0)
    };
    let many = base.runs.len() > 1 && other.runs.len() > 1;
    if let (Some((a_low, a_high)), Some((b_low, b_high))) = (ends(base), ends(other))
        && many
        && (a_high < b_low || b_high < a_low)
    {
        let (first, last) = if a_high < b_low { (base, other) } else { (other, base) };
        let text = format!(
            "all runs of {} were made before those of {}: a host that drifts looks like a difference; \
             `loadgen ab` makes them in turn",
            first.name, last.name
        );
        found.push(problem(false, "not_interleaved", text));
    }
}
