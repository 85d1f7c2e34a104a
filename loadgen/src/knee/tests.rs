//! The search against servers whose knee is known, and against observers that mean no good.
#![allow(clippy::unwrap_used)]

use corelane_base::Rng;
use proptest::prelude::*;

use super::*;
use crate::model::Arrivals;
use crate::plan::{Dealt, Schedule, constant_rate};

/// What a server shows at a rate, after it was left alone for so many nanoseconds.
type Server<'a> = dyn FnMut(f64, u64) -> Observation + 'a;

fn seen(rate: f64, achieved: f64, p99_ns: Value, slo_met: bool) -> Observation {
    Observation { rate, achieved, p50_ns: p99_ns, p99_ns, slo_met, generator_ok: true, errors_share: 0.0 }
}

fn simply(rate: f64, met: bool) -> Observation {
    seen(rate, rate, Value::Exact(1), met)
}

fn run(config: KneeConfig, server: &mut Server<'_>) -> Knee {
    let mut knee = Knee::new(config).unwrap();
    let mut idle_ns = 0;
    for _ in 0..=2 * config.steps_max {
        match knee.next() {
            Step::Measure { rate, .. } => {
                let observation = server(rate, idle_ns);
                idle_ns = 0;
                knee.observe(observation);
            }
            Step::Cool { ns } => idle_ns += ns,
            Step::Done(answer) => {
                assert_eq!(knee.answer(), Some(answer));
                return knee;
            }
        }
    }
    panic!("it did not end: {:?}", knee.curve());
}

/// The answer is a knee, and the true one is between it and a resolution above.
#[track_caller]
fn assert_knee(knee: &Knee, truth: f64, resolution: f64) {
    let Some(Answer::Knee { rate }) = knee.answer() else { panic!("{:?}", knee.answer()) };
    let ratio = truth / rate;
    assert!(
        (1.0 - 1e-9..=1.0 + resolution + 1e-9).contains(&ratio),
        "{rate} for {truth}: {:?}",
        knee.curve()
    );
}

fn cliff(truth: f64) -> impl FnMut(f64, u64) -> Observation {
    move |rate, _| simply(rate, rate <= truth)
}

#[test]
fn the_knee_of_a_cliff_is_found_within_the_resolution() {
    for resolution in [0.01, 0.05, 0.2] {
        let config = KneeConfig { resolution, ..KneeConfig::new(1_000.0) };
        assert_knee(&run(config, &mut cliff(61_234.0)), 61_234.0, resolution);
    }
}

#[test]
fn the_knee_of_an_m_m_1_queue_is_found() {
    // Time in the system is exponential: P99 = ln(100) / (mu - lambda).
    let (mu, limit_s) = (50_000.0, 0.001);
    let mut server = |rate: f64, _| {
        if rate >= mu {
            return seen(rate, mu, Value::AtLeast(10_000_000_000), false);
        }
        let p99_s = 100f64.ln() / (mu - rate);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let p99 = Value::Exact((p99_s * 1e9) as u64);
        seen(rate, rate, p99, p99_s <= limit_s)
    };
    let knee = run(KneeConfig::new(1_000.0), &mut server);
    assert_knee(&knee, mu - 100f64.ln() / limit_s, 0.05);
    assert_eq!(knee.recovers(), Some(true));
}

/// P(wait <= t) in an M/D/1 queue with a service time of 1 (A. K. Erlang, 1909; in this form: D. Gross et
/// al., "Fundamentals of Queueing Theory", 2008, 5.1.5).
fn m_d_1(load: f64, t: f64) -> f64 {
    let (mut sum, mut k, mut factorial) = (0.0, 0.0, 1.0);
    while k <= t {
        let x = load * (t - k);
        sum += (-x).powf(k) / factorial * x.exp();
        k += 1.0;
        factorial *= k;
    }
    (1.0 - load) * sum
}

#[test]
fn the_knee_of_a_simulated_m_d_1_queue_is_found() {
    // A queue with Poisson arrivals and a fixed service time, simulated by Lindley's recursion over our own
    // schedule; its true knee by the formula. The limit is 10 service times.
    let (service_ns, limit) = (20_000u64, 10.0);
    let (mut low, mut high) = (0.1, 0.99);
    for _ in 0..50 {
        let load = (low + high) / 2.0;
        if m_d_1(load, limit - 1.0) >= 0.99 { low = load } else { high = load }
    }
    let truth = low * 1e9 / service_ns as f64;
    let mut seed = 0;
    let mut server = |rate: f64, _| {
        seed += 1;
        let count = 60_000;
        let slots = Schedule::new(&Arrivals::Poisson, &constant_rate(rate), seed, Dealt::ALL).unwrap();
        let (mut free_ns, mut times, mut last_ns) = (0, Vec::with_capacity(count), 0);
        for slot in slots.take(count) {
            free_ns = free_ns.max(slot.at_ns) + service_ns;
            times.push(free_ns - slot.at_ns);
            last_ns = slot.at_ns;
        }
        let achieved = count as f64 * 1e9 / free_ns as f64;
        times.sort_unstable();
        let p99 = times[count * 99 / 100];
        let offered = count as f64 * 1e9 / last_ns as f64;
        seen(offered, achieved, Value::Exact(p99), p99 as f64 <= limit * service_ns as f64)
    };
    let knee = run(KneeConfig { steps_max: 100, ..KneeConfig::new(500.0) }, &mut server);
    let Some(Answer::Knee { rate }) = knee.answer() else { panic!("{:?}", knee.answer()) };
    // The P99 of 60,000 waits is itself uncertain by some percent near the knee.
    assert!((0.97..=1.08).contains(&(truth / rate)), "{rate} for {truth}");
}

#[test]
fn a_server_whose_answers_flip_now_and_then_is_still_found() {
    let truth = 61_234.0;
    let mut within = 0;
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut server = |rate: f64, _| simply(rate, (rate <= truth) != rng.chance(2, 100));
        let knee = run(KneeConfig::new(1_000.0), &mut server);
        let Some(Answer::Knee { rate }) = knee.answer() else { panic!("{seed}: {:?}", knee.answer()) };
        // Too high takes three flips at one rate.
        assert!(rate <= truth, "{seed}: {rate}");
        within += u32::from(truth / rate <= 1.05);
    }
    // Too low takes two flips of three at one of some ten rates: less than one search in a hundred.
    assert!(within >= 197, "{within} of 200");
}

#[test]
fn a_server_that_stays_slow_after_overload_is_left_to_cool_and_its_knee_found() {
    // Above 60,000/s it breaks, and then misses everything above 100/s until it had five seconds of rest.
    let truth = 60_000.0;
    let mut is_broken = false;
    let mut server = |rate: f64, idle_ns: u64| {
        is_broken = is_broken && idle_ns < 5_000_000_000;
        let met = rate <= if is_broken { 100.0 } else { truth };
        is_broken |= rate > truth;
        simply(rate, met)
    };
    let knee = run(KneeConfig::new(1_000.0), &mut server);
    assert_knee(&knee, truth, 0.05);
    assert_eq!(knee.recovers(), Some(false));
    let last: Vec<Phase> = knee.curve().iter().rev().take(4).map(|at| at.phase).collect();
    assert_eq!(last, [Phase::Recover, Phase::Recover, Phase::Overload, Phase::Confirm]);
}

#[test]
fn a_server_that_comes_back_by_itself_is_said_to() {
    assert_eq!(run(KneeConfig::new(1_000.0), &mut cliff(5e4)).recovers(), Some(true));
    // One miss right after the overload is not yet staying slow.
    let mut after_overload = 0;
    let mut server = |rate: f64, idle_ns: u64| {
        after_overload = if rate > 5e4 { 1 } else { after_overload + 1 };
        simply(rate, rate <= 5e4 && (after_overload != 2 || idle_ns > 0))
    };
    assert_eq!(run(KneeConfig::new(1_000.0), &mut server).recovers(), Some(true));
}

#[test]
fn a_generator_that_gives_out_first_makes_the_answer_at_least() {
    let (truth, own) = (1e6, 300_000.0);
    let mut server = |rate: f64, _| Observation { generator_ok: rate <= own, ..simply(rate, rate <= truth) };
    let knee = run(KneeConfig::new(1_000.0), &mut server);
    let Some(Answer::AtLeast { rate, why: Why::GeneratorLimited }) = knee.answer() else {
        panic!("{:?}", knee.answer());
    };
    assert!((1.0..=1.05).contains(&(own / rate)), "{rate}");
    assert_eq!(knee.answer().unwrap().to_string(), format!(">= {}, generator-limited", units::rate(rate)));
    assert_eq!(knee.recovers(), None);
}

#[test]
fn a_generator_that_gives_out_above_the_knee_does_not_hide_it() {
    // Climbing by two jumps over both; between them the server is seen to fail.
    let mut server = |rate: f64, _| Observation { generator_ok: rate <= 110e3, ..simply(rate, rate <= 80e3) };
    assert_knee(&run(KneeConfig::new(1_000.0), &mut server), 80e3, 0.05);
}

#[test]
fn one_bad_moment_of_the_generator_does_not_end_the_search() {
    for bad in 0..12 {
        let mut count = 0;
        let mut server = |rate: f64, _| {
            count += 1;
            Observation { generator_ok: count != bad + 1, ..simply(rate, rate <= 61_234.0) }
        };
        assert_knee(&run(KneeConfig::new(1_000.0), &mut server), 61_234.0, 0.05);
    }
}

#[test]
fn a_generator_that_is_never_fit_shows_nothing_of_the_server() {
    let mut server = |rate: f64, _| Observation { generator_ok: false, ..simply(rate, false) };
    let knee = run(KneeConfig::new(1_000.0), &mut server);
    assert_eq!(knee.answer(), Some(Answer::AtLeast { rate: 0.0, why: Why::GeneratorLimited }));
    let knee = run(KneeConfig { steps_max: 1, ..KneeConfig::new(1_000.0) }, &mut server);
    assert_eq!(knee.answer(), Some(Answer::AtLeast { rate: 0.0, why: Why::GeneratorLimited }));
}

#[test]
fn a_start_that_fails_is_descended_from() {
    assert_knee(&run(KneeConfig::new(100_000.0), &mut cliff(777.0)), 777.0, 0.05);
    let knee = run(KneeConfig::new(100_000.0), &mut cliff(100.0));
    assert_knee(&knee, 100.0, 0.05);
    assert!(knee.curve().iter().all(|at| at.rate >= 100.0));
}

#[test]
fn an_objective_that_no_rate_meets_ends_at_the_floor() {
    let knee = run(KneeConfig::new(100_000.0), &mut cliff(99.9));
    assert_eq!(knee.answer(), Some(Answer::NoneMeets { lowest: 100.0 }));
    assert_eq!(knee.answer().unwrap().to_string(), "not met at 100/s or above");
    let floor = KneeConfig { floor: 1_000.0, ..KneeConfig::new(1_000.0) };
    assert_eq!(run(floor, &mut cliff(1.0)).answer(), Some(Answer::NoneMeets { lowest: 1_000.0 }));
}

#[test]
fn a_server_that_meets_the_highest_rate_is_confirmed_there() {
    let config = KneeConfig { max: Some(50_000.0), ..KneeConfig::new(1_000.0) };
    let knee = run(config, &mut cliff(1e9));
    assert_eq!(knee.answer(), Some(Answer::AtLeast { rate: 50_000.0, why: Why::RateMax }));
    assert_eq!(knee.curve().iter().filter(|at| at.phase == Phase::Confirm).count(), 3);
    assert!(knee.curve().iter().all(|at| at.rate <= 50_000.0));
    // A start that is the maximum; a maximum just above the knee; none given.
    let config = KneeConfig { max: Some(1_000.0), ..KneeConfig::new(1_000.0) };
    let knee = run(config, &mut cliff(1e9));
    assert_eq!(knee.answer(), Some(Answer::AtLeast { rate: 1_000.0, why: Why::RateMax }));
    let config = KneeConfig { max: Some(50_000.0), ..KneeConfig::new(1_000.0) };
    assert_knee(&run(config, &mut cliff(49_000.0)), 49_000.0, 0.05);
    let knee = run(KneeConfig::new(1_000.0), &mut cliff(f64::INFINITY));
    assert_eq!(knee.answer(), Some(Answer::AtLeast { rate: RATE_MAX, why: Why::RateMax }));
}

#[test]
fn less_answered_than_offered_is_missed_whatever_the_objective_says() {
    // An objective on errors alone is met by a server that lets everything pile up.
    let mut server = |rate: f64, _| seen(rate, rate.min(40_000.0), Value::Exact(1), true);
    assert_knee(&run(KneeConfig::new(1_000.0), &mut server), 40_000.0 / ACHIEVED_MIN, 0.05);
    let judged = |achieved| Judged::of(&seen(1_000.0, achieved, Value::Exact(1), true));
    assert_eq!(
        (judged(950.0), judged(949.9), judged(f64::NAN)),
        (Judged::Met, Judged::Missed, Judged::Missed)
    );
}

#[test]
fn a_candidate_that_is_not_confirmed_is_the_new_upper_end() {
    // Met when first measured, missed when measured again: up to 40,000/s it is really met.
    let mut seen_before = std::collections::HashSet::new();
    let mut server = |rate: f64, _| {
        let first = seen_before.insert(rate.to_bits());
        simply(rate, rate <= 40_000.0 || (first && rate <= 70_000.0))
    };
    let knee = run(KneeConfig { steps_max: 200, ..KneeConfig::new(1_000.0) }, &mut server);
    assert_knee(&knee, 40_000.0, 0.05);
}

#[test]
fn the_candidate_is_measured_three_times_before_it_is_the_answer() {
    let knee = run(KneeConfig::new(1_000.0), &mut cliff(61_234.0));
    let Some(Answer::Knee { rate }) = knee.answer() else { panic!() };
    let confirmed = knee.curve().iter().filter(|at| at.phase == Phase::Confirm);
    let confirmed: Vec<_> = confirmed.map(|at| (at.rate, at.judged)).collect();
    assert_eq!(confirmed, [(rate, Judged::Met); 3]);
    let config = KneeConfig { confirmations: 5, ..KneeConfig::new(1_000.0) };
    let knee = run(config, &mut cliff(61_234.0));
    assert_eq!(knee.curve().iter().filter(|at| at.phase == Phase::Confirm).count(), 5);
}

#[test]
fn the_phases_follow_each_other_and_a_failure_is_repeated_after_a_pause() {
    let mut knee = Knee::new(KneeConfig { resolution: 0.5, ..KneeConfig::new(1_000.0) }).unwrap();
    let mut steps = Vec::new();
    loop {
        let step = knee.next();
        match step {
            Step::Measure { rate, phase } => {
                assert_eq!(knee.next(), step, "the same until it is observed");
                steps.push(format!("{} {}", phase.name(), units::rate(rate)));
                knee.observe(simply(rate, rate <= 1_500.0));
            }
            Step::Cool { ns } => steps.push(format!("cool {}", units::duration_exact(ns))),
            Step::Done(answer) => {
                steps.push(answer.to_string());
                break;
            }
        }
    }
    assert_eq!(
        steps,
        [
            "climb 1.00k/s",
            "climb 2.00k/s",
            "cool 3s",
            "climb 2.00k/s",
            "cool 6s",
            "bisect 1.41k/s",
            "confirm 1.41k/s",
            "confirm 1.41k/s",
            "confirm 1.41k/s",
            "overload 2.00k/s",
            "recover 1.41k/s",
            "1.41k/s",
        ]
    );
    assert_eq!(knee.bracket().1, Some(2_000.0));
}

#[test]
fn after_a_failure_a_rate_is_met_only_by_two_of_three() {
    let after = |votes: &[bool]| {
        let mut knee = Knee::new(KneeConfig { cool_ns: 0, ..KneeConfig::new(1_000.0) }).unwrap();
        let mut votes = votes.iter();
        loop {
            match knee.next() {
                Step::Measure { rate, phase } => match votes.next() {
                    Some(&met) => knee.observe(simply(rate, met)),
                    None => return (phase, rate),
                },
                Step::Cool { .. } => {}
                Step::Done(answer) => panic!("{answer:?}"),
            }
        }
    };
    assert_eq!(after(&[true, false]), (Phase::Climb, 2_000.0));
    assert_eq!(after(&[true, false, true]), (Phase::Climb, 2_000.0));
    assert_eq!(after(&[true, false, true, true]), (Phase::Climb, 4_000.0));
    assert_eq!(after(&[true, false, true, false]).0, Phase::Bisect);
    assert_eq!(after(&[true, false, false]).0, Phase::Bisect);
}

#[test]
fn a_pause_grows_to_four_times_the_first_and_no_further() {
    let mut knee = Knee::new(KneeConfig::new(1_000.0)).unwrap();
    let mut pauses = Vec::new();
    loop {
        match knee.next() {
            Step::Measure { rate, .. } => knee.observe(simply(rate, false)),
            Step::Cool { ns } => pauses.push(ns / 1_000_000_000),
            Step::Done(_) => break,
        }
    }
    assert_eq!(pauses[..5], [3, 6, 12, 12, 12]);
}

#[test]
fn a_search_that_runs_out_of_steps_says_what_it_has() {
    let with =
        |steps_max, truth| run(KneeConfig { steps_max, ..KneeConfig::new(1_000.0) }, &mut cliff(truth));
    assert_eq!(with(3, 1e9).answer(), Some(Answer::AtLeast { rate: 4_000.0, why: Why::StepsMax }));
    assert_eq!(with(4, 1.0).answer(), Some(Answer::NoneMeets { lowest: 250.0 }));
    // One step fewer than the whole search: the knee is known, and whether it recovers is not.
    let whole = with(60, 61_234.0);
    let steps = u32::try_from(whole.curve().len()).unwrap();
    let short = with(steps - 1, 61_234.0);
    assert_eq!(short.answer(), whole.answer());
    assert_eq!((whole.recovers(), short.recovers()), (Some(true), None));
    assert_eq!(short.curve().len() + 1, whole.curve().len());
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let mut knee = Knee::new(KneeConfig::new(1_000.0)).unwrap();
    knee.observe(simply(1.0, true));
    assert!(knee.curve().is_empty());
    knee.next();
    knee.observe(simply(1_000.0, true));
    knee.observe(simply(1_000.0, true));
    assert_eq!(knee.curve().len(), 1);
}

#[test]
fn numbers_that_make_no_search_are_refused_with_what_to_write() {
    let good = KneeConfig::new(1_000.0);
    for (bad, word) in [
        (KneeConfig { start: 0.0, ..good }, "start"),
        (KneeConfig { start: f64::NAN, ..good }, "start"),
        (KneeConfig { start: 2e9, ..good }, "start"),
        (KneeConfig { floor: 0.0, ..good }, "floor"),
        (KneeConfig { floor: 1_001.0, ..good }, "floor"),
        (KneeConfig { max: Some(999.0), ..good }, "maximum"),
        (KneeConfig { max: Some(f64::INFINITY), ..good }, "maximum"),
        (KneeConfig { resolution: 0.000_9, ..good }, "resolution"),
        (KneeConfig { resolution: 1.1, ..good }, "resolution"),
        (KneeConfig { growth: 1.09, ..good }, "growth"),
        (KneeConfig { growth: 10.1, ..good }, "growth"),
        (KneeConfig { confirmations: 0, ..good }, "confirmations"),
        (KneeConfig { confirmations: 101, ..good }, "confirmations"),
        (KneeConfig { steps_max: 0, ..good }, "steps"),
        (KneeConfig { steps_max: 10_001, ..good }, "steps"),
    ] {
        let error = Knee::new(bad).unwrap_err();
        assert!(error.contains(word), "{word}: {error}");
    }
    for edge in [
        KneeConfig { start: RATE_MAX, floor: RATE_MAX, max: Some(RATE_MAX), ..good },
        KneeConfig { resolution: 0.001, growth: 1.1, confirmations: 1, steps_max: 1, ..good },
        KneeConfig { resolution: 1.0, growth: 10.0, confirmations: 100, steps_max: 10_000, ..good },
    ] {
        assert!(Knee::new(edge).is_ok(), "{edge:?}");
    }
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1e9f64, Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), Just(0.0)]
}

prop_compose! {
    fn any_observation()(
        rate in any_number(), achieved in any_number(), ns in any::<u64>(),
        slo_met in any::<bool>(), generator_ok in any::<bool>(),
    ) -> Observation {
        let p99_ns = Value::AtLeast(ns);
        Observation { rate, achieved, p50_ns: p99_ns, p99_ns, slo_met, generator_ok, errors_share: achieved }
    }
}

prop_compose! {
    fn any_config()(
        start in 1.0..1e6f64, floor in 0.001..1.0f64, max in prop::option::of(1.0..1e3f64),
        resolution in 0.001..1.0f64, confirmations in 1u32..10, growth in 1.1..10.0f64,
        steps_max in 1u32..150,
    ) -> KneeConfig {
        KneeConfig {
            start, floor: start * floor, max: max.map(|times| start * times),
            resolution, confirmations, growth, steps_max, cool_ns: 1,
        }
    }
}

proptest! {
    #[test]
    fn it_ends_within_its_steps_whatever_is_observed(
        config in any_config(), observations in prop::collection::vec(any_observation(), 150),
        slips in any::<u64>(),
    ) {
        let mut knee = Knee::new(config).unwrap();
        let mut measured = 0;
        for _ in 0..=2 * config.steps_max {
            match knee.next() {
                Step::Measure { rate, .. } => {
                    prop_assert!(rate >= config.floor * 0.999 && rate <= config.max.unwrap_or(RATE_MAX));
                    knee.observe(observations[measured]);
                    measured += 1;
                    if (slips >> (measured % 64)) & 1 == 1 {
                        knee.observe(observations[0]);
                    }
                }
                Step::Cool { ns } => prop_assert!(ns <= 4),
                Step::Done(_) => break,
            }
        }
        let Step::Done(answer) = knee.next() else { panic!("not over after {measured}") };
        prop_assert!(measured <= config.steps_max as usize);
        prop_assert_eq!(knee.curve().len(), measured);
        let was = |rate: f64, judged| knee.curve().iter().any(|at| at.rate == rate && at.judged == judged);
        match answer {
            Answer::Knee { rate } => prop_assert!(was(rate, Judged::Met)),
            Answer::AtLeast { rate, .. } => prop_assert!(rate == 0.0 || was(rate, Judged::Met)),
            Answer::NoneMeets { lowest } => prop_assert!(was(lowest, Judged::Missed)),
        }
    }

    #[test]
    fn the_same_observations_give_the_same_search(
        config in any_config(), observations in prop::collection::vec(any_observation(), 150),
    ) {
        let run = |mut at: usize| {
            let mut server = |_: f64, _: u64| { at += 1; observations[at - 1] };
            let knee = run(config, &mut server);
            knee.curve().iter().map(|at| (at.rate.to_bits(), at.phase, at.judged)).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(0), run(0));
    }

    #[test]
    fn any_cliff_is_found_within_the_resolution(
        start in 10.0..1e5f64, truth in -6.0..9.0f64, growth in 1.6..2.0f64, resolution in 0.01..0.2f64,
    ) {
        // From a four-hundredth of the start to eight thousand times it.
        let truth = start * truth.exp();
        let config = KneeConfig { growth, resolution, steps_max: 100, ..KneeConfig::new(start) };
        let knee = run(config, &mut cliff(truth));
        let Some(Answer::Knee { rate }) = knee.answer() else { panic!("{:?}", knee.answer()) };
        prop_assert!(rate <= truth, "{} {}", rate, truth);
        prop_assert!(truth <= rate * (1.0 + resolution) * (1.0 + 1e-9), "{} {}", rate, truth);
        prop_assert!(knee.curve().len() <= 60, "{}", knee.curve().len());
    }
}
