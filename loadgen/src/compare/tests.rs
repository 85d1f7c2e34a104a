//! Runs from seeded distributions: what is seen, what is not, and what is refused.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use corelane_base::Rng;

use super::bootstrap::{self, What};
use super::replicate::{Reducer, Replicate, UNITS_MAX, Unit};
use super::*;
use crate::model::{
    self, Level, Loop, Provenance, Reason, RequestSpec, RespSpec, Run, Settings, Slice, Speaks,
};
use crate::record::{ErrorKind, Tally};

pub(crate) fn settings() -> Settings {
    Settings {
        url: "http://127.0.0.1:8080/".into(),
        speaks: Speaks::Http1,
        host: "127.0.0.1".into(),
        port: 8080,
        requests: vec![RequestSpec {
            weight: 1,
            method: "GET".into(),
            path: "/".into(),
            ..RequestSpec::default()
        }],
        resp: RespSpec::default(),
        echo_len: 64,
        traffic: Loop::Closed { think_ns: 0, think_exponential: false },
        connections: 64,
        pipeline: 1,
        requests_per_connection: 0,
        ramp_ns: 0,
        warmup_ns: 1_000_000_000,
        duration_ns: 1_000_000_000,
        timeout_ns: 1_000_000_000,
        drain_ns: 1_000_000_000,
        slice_ns: 100_000_000,
        seed: 1,
        threads: 1,
        cpus: vec![0],
        busy_poll: false,
        sources: Vec::new(),
        expect_status: Vec::new(),
    }
}

pub(crate) fn provenance() -> Provenance {
    Provenance {
        tool: "loadgen 0.1.0".into(),
        kernel: "6.18".into(),
        cpu_model: "a CPU".into(),
        cpus: 2,
        governor: "none".into(),
        mitigations: vec!["meltdown: not affected".into()],
        host_id: "0123".into(),
        ..Provenance::default()
    }
}

/// A run with these slices of 100 ms, and a total that is their sum.
pub(crate) fn run_of(tallies: Vec<Tally>) -> Run {
    let len_ns = 100_000_000;
    let mut total = Tally::default();
    tallies.iter().for_each(|tally| total.merge(tally));
    let slices: Vec<Slice> =
        (0u64..).zip(tallies).map(|(at, tally)| Slice { start_ns: at * len_ns, len_ns, tally }).collect();
    Run {
        settings: settings(),
        provenance: provenance(),
        measured_ns: len_ns * slices.len() as u64,
        interrupted: false,
        total,
        slices,
        workers: vec![model::WorkerUse { cpu_ns: 1_000_000, ..model::WorkerUse::default() }],
        host: model::HostUse::default(),
        floor: None,
        verdict: model::Verdict::default(),
    }
}

pub(crate) fn tally_of(latencies: &[u64]) -> Tally {
    let mut tally = Tally::default();
    for &ns in latencies {
        tally.response.record(ns);
        tally.service.record(ns);
    }
    let count = latencies.len() as u64;
    (tally.counts.completed, tally.counts.intended, tally.counts.sent) = (count, count, count);
    tally
}

/// Uniform above 0, below 1.
fn unit(rng: &mut Rng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * unit(rng).ln()).sqrt() * (std::f64::consts::TAU * unit(rng)).cos()
}

/// Exponential latencies of `mean_ns`, ten slices, `count` in each.
fn exponential(rng: &mut Rng, mean_ns: f64, count: usize) -> Run {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let one = |rng: &mut Rng| (-mean_ns * unit(rng).ln()) as u64;
    run_of((0..10).map(|_| tally_of(&(0..count).map(|_| one(rng)).collect::<Vec<_>>())).collect())
}

fn sides(seed: u64, ratio: f64, runs: usize, count: usize) -> (Side, Side) {
    let mut rng = Rng::new(seed);
    let mut side = |name, mean| {
        Side::new(name, &(0..runs).map(|_| exponential(&mut rng, mean, count)).collect::<Vec<_>>())
    };
    (side("a.json", 1e6), side("b.json", 1e6 * ratio))
}

fn options() -> Options {
    Options { resamples: RESAMPLES_MIN, ..Options::default() }
}

fn metric_of<'a>(comparison: &'a Comparison, name: &str) -> &'a Metric {
    comparison.metrics.iter().find(|metric| metric.name == name).unwrap()
}

/// Slices whose latencies are scaled by what `noise` says of each, without the dense histograms of a [`Run`].
fn light(rng: &mut Rng, slices: usize, mut noise: impl FnMut(&mut Rng) -> f64) -> Replicate {
    let units = (0..slices).map(|_| {
        let scale = noise(rng);
        let mut values: Vec<u64> = (0..12)
            .map(|_| {
                // A grid of 5 %, so that tables stay small.
                let grid = (-unit(rng).ln() * scale).ln() / 0.05;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let ns = (1e9 * (grid.round() * 0.05).exp()) as u64;
                ns
            })
            .collect();
        values.sort_unstable();
        let response = values.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u64, 0)).collect();
        Unit { len_ns: 500_000_000, completed: 12, requests: 12, response, ..Unit::default() }
    });
    let units = units.collect();
    static EMPTY: LazyLock<Replicate> = LazyLock::new(|| Replicate::of(&run_of(Vec::new())));
    Replicate { units, measured_ns: 500_000_000 * slices as u64, ..EMPTY.clone() }
}

/// How many of 200 comparisons of alike sides contain "the same": the interval of this module, that of
/// resampled rounds and blocks, and that of single slices resampled without regard to runs or order.
fn coverage(mut make: impl FnMut(&mut Rng) -> Replicate) -> [u32; 3] {
    let what = What::Latency { service: false, percent: 50.0 };
    let mut rng = Rng::new(20);
    let mut contained = [0; 3];
    for seed in 0..200u64 {
        let mut runs: Vec<Replicate> = (0..6).map(|_| make(&mut rng)).collect();
        let readings = |runs: &[Replicate], salt: u64, draws| -> Vec<_> {
            let read = |(n, run): (usize, &Replicate)| {
                let seed = (seed << 16) + salt + n as u64;
                bootstrap::read(run, &[what], draws, bootstrap::block_len(run.units.len(), 500_000_000), seed)
                    .remove(0)
            };
            runs.iter().enumerate().map(read).collect()
        };
        let (a, b) = (readings(&runs[..3], 0, 40), readings(&runs[3..], 9, 40));
        let (a, b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
        let ours = bootstrap::change(&a, &b, true).interval;
        contained[0] += u32::from(ours.low <= 0.0 && ours.high >= 0.0);

        // Rounds drawn again, each with its own blocks.
        let mut draws: Vec<f64> = (0..40)
            .map(|n| {
                let one = |rng: &mut Rng| {
                    let round = rng.index(3);
                    b[round].draw(n).low - a[round].draw(n).low
                };
                (0..3).map(|_| one(&mut rng)).sum::<f64>() / 3.0
            })
            .collect();
        draws.sort_unstable_by(f64::total_cmp);
        contained[1] += u32::from(draws[1] <= 0.0 && draws[38] >= 0.0);

        // All slices of a side in one pot.
        let mut pots = Vec::new();
        for _ in 0..2 {
            let mut pot = runs.remove(0);
            for run in runs.drain(..2) {
                pot.units.extend(run.units);
            }
            pots.push(bootstrap::read(&pot, &[what], 40, 1, seed).remove(0));
        }
        let naive = bootstrap::change_within(&[&pots[0]], &[&pots[1]]);
        contained[2] += u32::from(naive.low <= 0.0 && naive.high >= 0.0);
    }
    contained
}

#[test]
fn alike_sides_are_called_different_about_once_in_twenty() {
    let [ours, ..] = coverage(|rng| light(rng, 8, |_| 1.0));
    assert!((180..=198).contains(&ours), "{ours} of 200");
}

#[test]
fn runs_that_settle_elsewhere_each_time_are_no_difference() {
    let [ours, rounds, naive] = coverage(|rng| {
        let scale = (0.5 * normal(rng)).exp();
        light(rng, 8, |_| scale)
    });
    assert!((180..=198).contains(&ours), "{ours} of 200");
    assert!(rounds < 170, "resampled rounds: {rounds} of 200");
    assert!(naive < 120, "all slices in one pot: {naive} of 200");
}

#[test]
fn slow_slices_in_bursts_are_no_difference() {
    let [ours, _, naive] = coverage(|rng| {
        let mut is_slow = rng.chance(1, 2);
        light(rng, 16, |rng| {
            is_slow ^= rng.chance(1, 5);
            if is_slow { 2.0 } else { 1.0 }
        })
    });
    assert!((180..=199).contains(&ours), "{ours} of 200");
    assert!(naive < 165, "all slices in one pot: {naive} of 200");
}

#[test]
fn blocks_are_less_sure_as_single_slices_where_slow_ones_come_in_bursts() {
    let mut run = light(&mut Rng::new(5), 40, |_| 1.0);
    for (at, unit) in run.units.iter_mut().enumerate() {
        unit.completed = if at / 8 % 2 == 0 { 100 } else { 200 };
    }
    let width = |block| {
        let of = |seed| bootstrap::read(&run, &[What::Rate], 400, block, seed).remove(0);
        let interval = bootstrap::change_within(&[&of(1)], &[&of(2)]);
        interval.high - interval.low
    };
    assert!(width(8) > 1.7 * width(1), "{} and {}", width(8), width(1));
}

#[test]
fn a_tenth_more_is_seen_in_every_percentile_and_has_the_right_sign() {
    let (a, b) = sides(1, 1.1, 3, 1_000);
    let comparison = compare(&a, &b, &Options { service: true, ..options() }).unwrap();
    for name in ["response_p50", "response_p99", "service_p50", "service_p99"] {
        let metric = metric_of(&comparison, name);
        assert_eq!(metric.finding, Finding::Worse, "{metric:?}");
        assert!((metric.change.exact().unwrap() - 1.1).abs() < 0.05, "{metric:?}");
        let interval = metric.interval.unwrap();
        assert!(interval.low.unwrap() < 1.1, "{metric:?}");
        assert!(interval.high.unwrap() > 1.1, "{metric:?}");
    }
    assert_eq!(metric_of(&comparison, "rate").finding, Finding::NoDifference);
    let back = compare(&b, &a, &options()).unwrap();
    assert_eq!(metric_of(&back, "response_p50").finding, Finding::Better);
    assert!(comparison.is_worse());
    assert!(!back.is_worse());
}

#[test]
fn a_higher_rate_is_better_and_a_lower_one_worse() {
    let (a, mut b) = sides(2, 1.0, 3, 100);
    for run in &mut b.runs {
        run.units.iter_mut().for_each(|unit| unit.completed = 120);
    }
    let of = |a: &Side, b: &Side| metric_of(&compare(a, b, &options()).unwrap(), "rate").clone();
    let metric = of(&a, &b);
    assert_eq!(metric.finding, Finding::Better);
    assert!((metric.change.exact().unwrap() - 1.2).abs() < 1e-9);
    assert_eq!(of(&b, &a).finding, Finding::Worse);
}

#[test]
fn a_change_counts_when_all_of_its_interval_is_beyond_the_threshold() {
    let (a, b) = sides(1, 1.1, 3, 1_000);
    let of = |threshold| {
        let comparison = compare(&a, &b, &Options { threshold, ..options() }).unwrap();
        metric_of(&comparison, "response_p50").clone()
    };
    let low = of(0.0).interval.unwrap().low.unwrap() - 1.0;
    assert_eq!(of(low - 1e-6).finding, Finding::Worse);
    assert_eq!(of(low + 1e-6).finding, Finding::NoDifference);
}

#[test]
fn a_difference_of_one_bucket_is_none() {
    let side = |name, ns: u64| Side::new(name, &[0; 3].map(|_| run_of(vec![tally_of(&[ns; 50]); 10])));
    let (a, b) = (side("a", 1_000_000), side("b", 1_000_512));
    let of = |b: &Side| metric_of(&compare(&a, b, &options()).unwrap(), "response_p50").clone();
    assert_ne!(of(&b).base, of(&b).other, "they are told apart");
    assert_eq!(of(&b).finding, Finding::NoDifference);
    assert_eq!(of(&side("c", 1_003_000)).finding, Finding::Worse);
}

#[test]
fn values_of_a_run_are_those_of_its_merged_histograms() {
    let mut rng = Rng::new(9);
    let mut run = exponential(&mut rng, 1e6, 100);
    let mut late = Tally::default();
    late.response.record(77_000_000);
    late.response.record_at_least_n(500_000, 30);
    run.total.merge(&late);
    let replicate = Replicate::of(&run);
    for percent in [1.0, 50.0, 90.0, 97.0, 99.0, 100.0] {
        let what = What::Latency { service: false, percent };
        let read = bootstrap::read(&replicate, &[what], 0, 1, 0)[0].value.unwrap();
        let value = run.total.response.percentile(percent).unwrap();
        assert_eq!(read.low, value.ns() as f64, "P{percent}");
        assert_eq!(read.high > read.low, value.is_bound(), "P{percent}");
    }
    let read = bootstrap::read(&replicate, &[What::Rate], 0, 1, 0)[0].value.unwrap();
    assert!((read.low - run.rate()).abs() < 1e-6);
}

#[test]
fn long_runs_are_cut_into_fewer_units_and_lose_nothing() {
    for slices in [UNITS_MAX, UNITS_MAX + 1, 2 * UNITS_MAX + 1] {
        let mut reducer = Reducer::default();
        let mut slice = Slice { len_ns: 10, ..Slice::default() };
        for at in 0..slices {
            slice.tally.clear();
            slice.tally.response.record(1_000 * at as u64);
            slice.tally.counts.completed = 1;
            reducer.add(&slice);
        }
        let mut head = run_of(Vec::new());
        head.measured_ns = 10 * slices as u64;
        let run = reducer.finish(&head);
        assert!((UNITS_MAX / 2..=UNITS_MAX).contains(&run.units.len()), "{}", run.units.len());
        assert_eq!(run.units.iter().map(|unit| unit.completed).sum::<u64>(), slices as u64);
        assert_eq!(run.units.iter().map(|unit| unit.len_ns).sum::<u64>(), 10 * slices as u64);
        assert!(run.units.iter().all(|unit| unit.len_ns <= run.units[0].len_ns));
    }
}

/// `share` of the requests of B were never answered within a second.
fn censored(share: usize) -> (Side, Side) {
    let side = |name, seed: u64, hung: usize| {
        let mut rng = Rng::new(seed);
        let mut one = || {
            let mut run = exponential(&mut rng, 1e6, 100);
            for slice in &mut run.slices {
                slice.tally.response.record_at_least_n(1_000_000_000, hung as u64);
                slice.tally.errors.add_n(ErrorKind::Timeout, hung as u64);
            }
            run.total = Tally::default();
            run.slices.iter().for_each(|slice| run.total.merge(&slice.tally));
            run
        };
        Side::new(name, &[one(), one(), one()])
    };
    (side("a", 3, 0), side("b", 4, share))
}

#[test]
fn a_bound_on_one_side_is_a_bound_on_the_change() {
    let (a, b) = censored(5);
    let comparison = compare(&a, &b, &options()).unwrap();
    let metric = metric_of(&comparison, "response_p99");
    assert_eq!((metric.other.high, metric.change.high, metric.interval.unwrap().high), (None, None, None));
    assert!(metric.change.low.unwrap() > 100.0);
    assert_eq!(metric.finding, Finding::Worse, "even the lower bound is");
    assert!(text(&comparison, 80, false).contains(">=x"), "{}", text(&comparison, 80, false));
    let back = compare(&b, &a, &options()).unwrap();
    let metric = metric_of(&back, "response_p99");
    assert_eq!(metric.change.low, None);
    assert_eq!(metric.finding, Finding::Better);
    assert!(text(&back, 80, false).contains("<=-"), "{}", text(&back, 80, false));
    assert!(
        metric_of(&comparison, "response_p50").change.exact().is_some(),
        "known where bounds do not reach"
    );
}

#[test]
fn bounds_on_both_sides_leave_the_change_unknown() {
    let (_, b) = censored(5);
    let comparison = compare(&b, &b.clone(), &options()).unwrap();
    let metric = metric_of(&comparison, "response_p99");
    assert_eq!(metric.change, Span { low: None, high: None });
    assert_eq!(metric.finding, Finding::Unknown);
    let text = text(&comparison, 80, false);
    let line = text.lines().find(|line| line.starts_with("P99")).unwrap();
    assert_eq!(line.matches("unknown").count(), 3, "{line}");
}

#[test]
fn shares_of_errors_are_compared_by_their_difference() {
    let (a, b) = censored(5);
    let comparison = compare(&a, &b, &options()).unwrap();
    let metric = metric_of(&comparison, "errors");
    assert_eq!(metric.kind, ChangeKind::Difference);
    assert!((metric.change.exact().unwrap() - 5.0 / 105.0).abs() < 1e-9);
    assert_eq!(metric.finding, Finding::Worse);
    let same = compare(&a, &a.clone(), &options()).unwrap();
    assert_eq!(metric_of(&same, "errors").finding, Finding::NoDifference);
}

#[test]
fn a_side_that_answers_nothing_is_a_rate_below_one() {
    let (a, _) = sides(3, 1.0, 3, 100);
    let dead = Side::new("dead", &[0; 3].map(|_| run_of(vec![Tally::default(); 10])));
    let comparison = compare(&a, &dead, &options()).unwrap();
    let metric = metric_of(&comparison, "rate");
    assert_eq!(metric.finding, Finding::Worse);
    assert_eq!(metric.change.low, None);
    assert_eq!(metric_of(&comparison, "response_p50").finding, Finding::Unknown);
    assert!(comparison.metrics.iter().all(|metric| metric.name != "cpu_per_request"), "nothing to divide by");
}

#[test]
fn the_same_seed_gives_the_same_comparison_and_another_seed_another() {
    let (a, b) = sides(4, 1.05, 3, 50);
    let of = |seed| compare(&a, &b, &Options { seed, ..options() }).unwrap().metrics;
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn sides_of_unlike_size_are_not_paired() {
    let (a, _) = sides(5, 1.0, 3, 200);
    let (_, b) = sides(6, 1.3, 4, 200);
    let comparison = compare(&a, &b, &options()).unwrap();
    assert!(!comparison.paired);
    assert_eq!(metric_of(&comparison, "response_p50").finding, Finding::Worse);
}

/// The codes of what speaks against comparing three runs with three, the last of which was changed.
fn codes(change: impl FnOnce(&mut Replicate)) -> Vec<(String, bool)> {
    let (a, mut b) = light_sides(3);
    change(&mut b.runs[2]);
    found(&a, &b)
}

fn found(a: &Side, b: &Side) -> Vec<(String, bool)> {
    checks::problems(a, b).into_iter().map(|problem| (problem.code, problem.refuses)).collect()
}

fn light_sides(runs: usize) -> (Side, Side) {
    let mut rng = Rng::new(8);
    let mut side = |name: &str, start: u64| {
        let mut runs: Vec<Replicate> = (0..runs).map(|_| light(&mut rng, 10, |_| 1.0)).collect();
        for (at, run) in (0u64..).zip(&mut runs) {
            run.provenance.started_unix_ms = 1_000 + 2 * at + start;
        }
        Side { name: name.into(), runs }
    };
    (side("a", 0), side("b", 1))
}

#[test]
fn each_thing_that_differs_is_refused_by_itself_and_nothing_else_is() {
    let refused = |code: &str| vec![(code.to_owned(), true)];
    assert_eq!(codes(|_| {}), vec![]);
    assert_eq!(codes(|run| run.provenance.host_id = "4567".into()), refused("host"));
    assert_eq!(codes(|run| run.provenance.kernel = "6.19".into()), refused("kernel"));
    assert_eq!(codes(|run| run.provenance.cpu_model = "another".into()), refused("cpu_model"));
    assert_eq!(codes(|run| run.provenance.mitigations.clear()), refused("mitigations"));
    assert_eq!(codes(|run| run.provenance.governor = "powersave".into()), refused("governor"));
    assert_eq!(codes(|run| run.provenance.tuning_digest = Some("9".into())), refused("tuning"));
    assert_eq!(codes(|run| run.interrupted = true), refused("interrupted"));
    assert_eq!(codes(|run| run.verdict.level = Level::Invalid), refused("invalid"));
    assert_eq!(codes(|run| run.settings.port = 81), refused("target"), "within one side");
    assert_eq!(codes(|run| run.provenance.cpus = 4), vec![("cpus".into(), false)]);
    assert_eq!(codes(|run| run.provenance.tool = "loadgen 0.2.0".into()), vec![("tool".into(), false)]);
    assert_eq!(codes(|run| run.verdict.level = Level::Suspect), vec![("suspect".into(), false)]);
    assert_eq!(codes(|run| run.settings.seed = 2), vec![("seed".into(), false)]);
    assert_eq!(codes(|run| drop(run.units.drain(..3))), vec![("few_slices".into(), false)]);
    assert_eq!(codes(|run| drop(run.units.drain(..2))), vec![]);
}

#[test]
fn windows_may_differ_by_one_per_cent() {
    assert_eq!(codes(|run| run.measured_ns += run.measured_ns / 100), vec![]);
    assert_eq!(codes(|run| run.measured_ns += run.measured_ns / 100 + 1), vec![("window".into(), true)]);
    assert_eq!(codes(|run| run.measured_ns -= run.measured_ns / 100 + 1), vec![("window".into(), true)]);
}

#[test]
fn each_setting_that_differs_is_named_with_both_values() {
    let (a, b) = light_sides(3);
    let differ = |change: fn(&mut Settings)| {
        let mut b = b.clone();
        b.runs.iter_mut().for_each(|run| change(&mut run.settings));
        checks::problems(&a, &b)
    };
    type Case = (&'static str, fn(&mut Settings));
    let cases: [Case; 17] = [
        ("speaks", |s| s.speaks = Speaks::Echo),
        ("requests", |s| s.requests[0].method = "PUT".into()),
        ("resp", |s| s.resp.keys = 5),
        ("echo_len", |s| s.echo_len = 65),
        ("traffic", |s| s.traffic = Loop::Closed { think_ns: 1, think_exponential: false }),
        ("connections", |s| s.connections = 65),
        ("pipeline", |s| s.pipeline = 2),
        ("requests_per_connection", |s| s.requests_per_connection = 1),
        ("ramp_ns", |s| s.ramp_ns = 1),
        ("warmup_ns", |s| s.warmup_ns = 1),
        ("duration_ns", |s| s.duration_ns = 1),
        ("timeout_ns", |s| s.timeout_ns = 1),
        ("drain_ns", |s| s.drain_ns = 1),
        ("slice_ns", |s| s.slice_ns = 1),
        ("threads", |s| s.threads = 2),
        ("cpus", |s| s.cpus = vec![1]),
        ("expect_status", |s| s.expect_status = vec![200]),
    ];
    for (field, change) in cases {
        let problems = differ(change);
        assert_eq!(problems.len(), 1, "{field}: {problems:?}");
        assert!(problems[0].refuses);
        assert!(problems[0].text.contains(&format!("the setting {field} differs: ")), "{problems:?}");
    }
    let problems = differ(|s| s.connections = 65);
    assert!(problems[0].text.contains("64 in a run 1, 65 in b run 1"), "{problems:?}");
    assert_eq!(differ(|s| (s.connections, s.pipeline) = (65, 2)).len(), 2, "one line each");
}

#[test]
fn the_target_may_differ_between_sides_and_its_path_is_remarked() {
    let (a, mut b) = light_sides(3);
    for run in &mut b.runs {
        (run.settings.url, run.settings.host, run.settings.port) =
            ("http://other:1/".into(), "other".into(), 1);
        run.settings.requests[0].headers.push(("Host".into(), "other:1".into()));
    }
    assert_eq!(found(&a, &b), vec![]);
    b.runs.iter_mut().for_each(|run| run.settings.requests[0].path = "/other".into());
    assert_eq!(found(&a, &b), vec![("paths".into(), false)]);
    b.runs.iter_mut().for_each(|run| run.settings.url = a.runs[0].settings.url.clone());
    assert_eq!(found(&a, &b), vec![("paths".into(), true)]);
}

#[test]
fn seeds_may_change_from_round_to_round() {
    let (mut a, mut b) = light_sides(3);
    for side in [&mut a, &mut b] {
        (0u64..).zip(&mut side.runs).for_each(|(at, run)| run.settings.seed = at);
    }
    assert_eq!(found(&a, &b), vec![]);
}

#[test]
fn three_replicates_are_enough_and_two_are_not() {
    let (a, b) = light_sides(3);
    assert_eq!(found(&a, &b), vec![]);
    let (a, b) = light_sides(2);
    let refused = compare(&a, &b, &options()).unwrap_err();
    assert_eq!(refused.problems.len(), 2, "both sides");
    let text = refused.to_string();
    assert!(text.contains("a has 2 runs, and 3 are needed"), "{text}");
    assert!(text.contains("--repeat 5"), "{text}");
    let none =
        compare(&a, &Side { name: "c".into(), runs: Vec::new() }, &Options { force: true, ..options() });
    assert!(none.unwrap_err().to_string().contains("c has 0 runs"));
}

#[test]
fn force_turns_refusals_into_warnings_above_the_table() {
    let (a, b) = light_sides(1);
    let comparison = compare(&a, &b, &Options { force: true, ..options() }).unwrap();
    assert_eq!(comparison.warnings.len(), 2);
    assert!(comparison.metrics[1].interval.unwrap().low.is_some(), "of the blocks alone");
    let text = text(&comparison, 80, false);
    assert!(text.starts_with("FORCED: a has 1 run, and 3 are needed"), "{text}");
    assert!(text.find("FORCED").unwrap() < text.find("B to A").unwrap());
}

#[test]
fn one_run_given_twice_counts_once() {
    let (a, mut b) = light_sides(3);
    b.runs[2] = b.runs[1].clone();
    assert_eq!(found(&a, &b), vec![("duplicate".into(), true)]);
}

#[test]
fn sides_that_were_not_made_in_turn_are_remarked() {
    let (a, mut b) = light_sides(3);
    b.runs.iter_mut().for_each(|run| run.provenance.started_unix_ms += 100);
    assert_eq!(found(&a, &b), vec![("not_interleaved".into(), false)]);
}

#[test]
fn reasons_of_a_run_that_is_not_valid_are_told() {
    let (a, mut b) = light_sides(3);
    b.runs[0].verdict.level = Level::Invalid;
    let text = "the client was saturated".to_owned();
    b.runs[0].verdict.reasons = vec![Reason { level: Level::Invalid, code: "cpu".into(), text }];
    let refused = compare(&a, &b, &options()).unwrap_err().to_string();
    assert!(refused.contains("b run 1 is INVALID: the client was saturated"), "{refused}");
}

#[test]
fn options_out_of_range_are_refused_even_by_force() {
    let (a, b) = light_sides(3);
    let of = |options: Options| {
        compare(&a, &b, &Options { force: true, ..options }).unwrap_err().problems.remove(0).code
    };
    assert_eq!(of(Options { resamples: RESAMPLES_MIN - 1, ..options() }), "resamples");
    assert_eq!(of(Options { resamples: RESAMPLES_MAX + 1, ..options() }), "resamples");
    assert_eq!(of(Options { percentiles: vec![100.1], ..options() }), "percentiles");
    assert_eq!(of(Options { percentiles: vec![f64::NAN], ..options() }), "percentiles");
    assert_eq!(of(Options { threshold: -0.1, ..options() }), "threshold");
    assert_eq!(compare_all(&[a], &options()).unwrap_err().problems[0].code, "sides");
}

#[test]
fn every_other_side_is_compared_with_the_first() {
    let (a, b) = light_sides(3);
    let mut c = b.clone();
    c.name = "c".into();
    let all = compare_all(&[a, b, c], &options()).unwrap();
    let names: Vec<_> = all.iter().map(|one| (one.base.name.as_str(), one.other.name.as_str())).collect();
    assert_eq!(names, [("a", "b"), ("a", "c")]);
}

#[test]
fn a_comparison_goes_through_json_unchanged() {
    let (a, b) = censored(5);
    let comparison = compare(&a, &b, &options()).unwrap();
    let json = sonic_rs::to_string(&comparison).unwrap();
    assert!(json.contains(r#""high":null"#), "a bound");
    assert_eq!(sonic_rs::from_str::<Comparison>(&json).unwrap(), comparison);
}

#[test]
fn a_long_path_loses_its_start_and_neither_its_file_nor_the_count_of_runs() {
    let (mut a, mut b) = sides(7, 1.0, 3, 20);
    a.name = format!("{}/a.json", "/directory".repeat(5));
    b.runs.iter_mut().for_each(|run| run.settings.url = format!("http://127.0.0.1:8080/{}", "p".repeat(60)));
    let text = text(&compare(&a, &b, &Options { force: true, ..options() }).unwrap(), 80, false);
    let line = |letter| text.lines().find(|line| line.starts_with(letter)).unwrap();
    let (a, b) = (line("A  "), line("B  "));
    assert!(a.starts_with("A  ...") && a.ends_with("/a.json  http://127.0.0.1:8080/  (3 runs)"), "{a}");
    assert!(b.contains("  http://127.0.0.1:8080/ppp") && b.ends_with("...  (3 runs)"), "{b}");
    assert_eq!((a.len(), b.len()), (80, 80));
}

#[test]
fn the_table_fits_80_columns_with_the_largest_of_everything() {
    let (a, mut b) = sides(7, 1.0, 3, 20);
    b.name = "n".repeat(200);
    let mut comparison = compare(&a, &b, &options()).unwrap();
    comparison.warnings.push(Problem { refuses: true, code: "x".into(), text: "w".repeat(300) });
    let span = |low, high| Span { low: Some(low), high: Some(high) };
    for metric in &mut comparison.metrics {
        let is_ratio = metric.kind == ChangeKind::Ratio;
        metric.base = Span { low: Some(if is_ratio { 3.456e12 } else { 0.9999 }), high: None };
        metric.other = span(if is_ratio { 9.999e8 } else { 0.9999 }, if is_ratio { 9.999e8 } else { 0.9999 });
        metric.change = if is_ratio { span(1.0012, 1.0012) } else { span(-0.9999, -0.9999) };
        metric.interval = Some(if is_ratio { span(0.001, 1e9) } else { span(-1.0, 1.0) });
        metric.finding = Finding::NoDifference;
    }
    let plain = text(&comparison, 80, false);
    for line in plain.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let colored = text(&comparison, 80, true);
    assert!(colored.contains("\x1b[33mFORCED"));
    assert!(!plain.contains('\x1b'));
}

#[test]
fn a_table_reads_as_it_should() {
    let (a, b) = sides(1, 1.1, 3, 1_000);
    let comparison = compare(&a, &b, &Options { threshold: 0.02, ..Options::default() }).unwrap();
    let text = text(&comparison, 80, false);
    println!("{text}");
    let line = text.lines().find(|line| line.starts_with("P50")).unwrap();
    assert!(line.ends_with("worse"), "{line}");
    assert!(line.contains("us     +"), "{line}");
    let line = text.lines().find(|line| line.starts_with("errors")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>().join(" "),
        "errors 0% 0% 0.000 pp [0.000, 0.000] no difference seen"
    );
    assert!(text.contains("beyond 2%"), "{text}");
    let colored = super::text(&comparison, 80, true);
    assert!(colored.contains("\x1b[31mworse\x1b[0m"), "{colored}");
}

fn file_of(runs: &[Run]) -> String {
    let runs: Vec<String> = runs
        .iter()
        .map(|run| format!(r#"{{"summary":{{"rate":1}},"data":{}}}"#, sonic_rs::to_string(run).unwrap()))
        .collect();
    format!(r#"{{"schema":1,"tool":"loadgen","runs":[{}]}}"#, runs.join(","))
}

fn with_file<T>(text: &str, act: impl FnOnce(&str) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, text).unwrap();
    act(path.to_str().unwrap())
}

#[test]
fn a_file_gives_the_runs_that_were_written() {
    let mut rng = Rng::new(1);
    let runs = [exponential(&mut rng, 1e6, 20), exponential(&mut rng, 1e6, 20)];
    with_file(&file_of(&runs), |path| {
        let read = read_runs(path).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].settings, runs[1].settings);
        assert_eq!(read[1].slices.len(), 10);
        let percentile = |run: &Run| run.slices[3].tally.response.percentile(90.0);
        assert_eq!(percentile(&read[1]), percentile(&runs[1]));
        let sides = read_sides(&[format!("{path},{path}"), path.to_owned()]).unwrap();
        assert_eq!((sides[0].runs.len(), sides[1].runs.len()), (4, 2), "files of one side are joined");
        let whole = Replicate::of(&runs[0]);
        assert_eq!((&sides[1].runs[0].units, &sides[1].runs[0].rest), (&whole.units, &whole.rest));
        assert_eq!(sides[1].name, path);
    });
}

#[test]
fn what_is_no_result_is_told_in_one_line_with_the_file() {
    let runs = [run_of(vec![tally_of(&[5])])];
    let good = file_of(&runs);
    let cases = [
        ("", "not a result"),
        ("{", "not a result"),
        ("[1,2]", "not a result"),
        ("{}", "no `schema`"),
        (r#"{"schema":1}"#, "no `runs`"),
        (r#"{"schema":1,"runs":7}"#, "not a result"),
        (r#"{"schema":1,"runs":[]}"#, "holds no run"),
        (r#"{"schema":1,"runs":[{}]}"#, "run 1: "),
        (r#"{"schema":1,"runs":[{"data":{"settings":1}}]}"#, "run 1: "),
        (&good.replace("\"schema\":1", "\"schema\":2"), "schema 2, and this loadgen reads schema 1"),
        (&good.replace("\"schema\":1", "\"schema\":\"new\""), "schema \"new\""),
        (&good.replace("\"start_ns\":0", "\"start_ns\":\"x\""), "run 1: a slice: "),
        (&good[..good.len() / 2], "not a result"),
    ];
    for (text, part) in cases {
        with_file(text, |path| {
            for error in [read_runs(path).unwrap_err(), read_sides(&[path.into(), path.into()]).unwrap_err()]
            {
                assert!(error.contains(part), "{text:.60}: {error}");
                assert!(error.starts_with(path), "{error}");
                assert_eq!(error.lines().count(), 1, "{error}");
            }
        });
    }
    assert!(read_runs("/nonexistent/x.json").unwrap_err().starts_with("/nonexistent/x.json: "));
}

#[test]
fn one_side_is_nothing_to_compare_and_eight_is_the_most() {
    let names = |count: usize| vec!["x.json".to_owned(); count];
    assert!(read_sides(&names(1)).unwrap_err().contains("name two or more"));
    assert!(read_sides(&names(SIDES_MAX)).unwrap_err().starts_with("x.json"), "it looks for the file");
    assert!(read_sides(&names(SIDES_MAX + 1)).unwrap_err().contains("8 are possible"));
    assert!(read_sides(&["a.json, ,b.json".into(), "c".into()]).is_err());
}

#[test]
#[ignore = "a measurement of the cost, by hand and in release"]
fn cost_of_two_sides_of_five_runs_of_a_hundred_slices() {
    let mut rng = Rng::new(1);
    let mut side = |name: &str| {
        let one = |rng: &mut Rng| {
            let slice = |rng: &mut Rng| {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let all: Vec<u64> = (0..5_000).map(|_| (-1e6 * unit(rng).ln()) as u64).collect();
                tally_of(&all)
            };
            run_of((0..100).map(|_| slice(rng)).collect())
        };
        Side::new(name, &(0..5).map(|_| one(&mut rng)).collect::<Vec<_>>())
    };
    let (a, b) = (side("a"), side("b"));
    #[allow(clippy::disallowed_methods)] // a measurement
    let start = std::time::Instant::now();
    let comparison = compare(&a, &b, &Options::default()).unwrap();
    println!("{}", text(&comparison, 80, false));
    println!("{:?}, {} units", start.elapsed(), a.runs[0].units.len());
}
