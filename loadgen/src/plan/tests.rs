//! Schedules against what they promise: the same for any number of workers, the right counts, no drift.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use proptest::prelude::*;

use super::*;

const S: u64 = 1_000_000_000;

fn stages() -> Vec<Stage> {
    parse_stages("1k@1s,1k-5k@2s,0@500ms,5k-200@1s,0-300@1s,300@1s").unwrap()
}

fn all(arrivals: &Arrivals, stages: &[Stage], seed: u64) -> Schedule {
    Schedule::new(arrivals, stages, seed, Dealt::ALL).unwrap()
}

fn count_between(arrivals: &Arrivals, stages: &[Stage], seed: u64, from_ns: u64, to_ns: u64) -> u64 {
    let mut schedule = all(arrivals, stages, seed);
    schedule.skip_to(from_ns);
    schedule.skip_to(to_ns)
}

fn kinds() -> impl Strategy<Value = Arrivals> {
    prop_oneof![Just(Arrivals::Constant), Just(Arrivals::Poisson), (1u32..40).prop_map(Arrivals::Burst)]
}

fn some_stages() -> impl Strategy<Value = Vec<Stage>> {
    let stage = (0u32..3_000, 0u32..3_000, 0u64..2_000_000_000);
    let stage = stage.prop_map(|(from, to, len_ns)| Stage { from: from.into(), to: to.into(), len_ns });
    prop::collection::vec(stage, 1..6).prop_filter("some request", |stages| RateOverTime::new(stages).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_the_workers_keep_is_the_whole_schedule_however_many_they_are(
        arrivals in kinds(), stages in some_stages(), seed in any::<u64>(), of in 1u64..20,
    ) {
        let whole: Vec<Slot> = all(&arrivals, &stages, seed).take(400).collect();
        let mut kept = Vec::new();
        for index in 0..of {
            let mut worker = Schedule::new(&arrivals, &stages, seed, Dealt { index, of }).unwrap();
            while let Some(slot) = worker.peek().filter(|slot| slot.number < 400) {
                prop_assert_eq!(slot.number % of, index);
                prop_assert_eq!(worker.next(), Some(slot));
                kept.push(slot);
            }
        }
        kept.sort_by_key(|slot| slot.number);
        prop_assert_eq!(kept, whole);
    }

    #[test]
    fn numbers_go_up_by_one_and_times_never_go_back(
        arrivals in kinds(), stages in some_stages(), seed in any::<u64>(),
    ) {
        let mut before = 0;
        for (number, slot) in all(&arrivals, &stages, seed).take(500).enumerate() {
            prop_assert_eq!(slot.number, number as u64);
            prop_assert!(slot.at_ns >= before, "{} after {}", slot.at_ns, before);
            before = slot.at_ns;
        }
    }

    #[test]
    fn constant_arrivals_come_as_the_integral_of_the_rate_says(
        stages in some_stages(), from_ns in 0u64..4_000_000_000, len_ns in 0u64..3_000_000_000,
    ) {
        let to_ns = from_ns + len_ns;
        let expected = all(&Arrivals::Constant, &stages, 0).expected_between(from_ns, to_ns);
        let count = count_between(&Arrivals::Constant, &stages, 0, from_ns, to_ns);
        // A window of length x holds x rounded down or up.
        prop_assert!((count as f64 - expected).abs() <= 1.0 + 1e-5, "{} for {}", count, expected);
    }
}

#[test]
fn a_constant_schedule_is_exact_after_an_hour() {
    let slots = all(&Arrivals::Constant, &constant_rate(50_000.0), 0);
    let mut worker = Schedule::new(
        &Arrivals::Constant,
        &constant_rate(50_000.0),
        0,
        Dealt { index: 7, of: 9_973 }, // a prime: all kinds of numbers come by
    )
    .unwrap();
    for (number, slot) in slots.take(1_000).enumerate() {
        assert_eq!(slot.at_ns, number as u64 * 20_000);
    }
    let mut last = 0;
    while let Some(slot) = worker.next().filter(|slot| slot.at_ns <= 3_600 * S) {
        assert_eq!(slot.at_ns, slot.number * 20_000);
        last = slot.number;
    }
    assert!(last > 180_000_000 - 9_973);
}

#[test]
fn a_gap_that_is_no_whole_nanosecond_is_rounded_and_does_not_add_up() {
    // 333,333.3 ns; 7,812.5 ns, which is a tie every other time; a tie every third time, where the gap
    // itself is no float; 1,000 ns for ten hours.
    for (rate, of) in [(3_000u64, 99_991), (128_000, 999_983), (3_072, 50), (1_000_000, 99_999_989)] {
        let slots =
            Schedule::new(&Arrivals::Constant, &constant_rate(rate as f64), 0, Dealt { index: 1, of });
        for slot in slots.unwrap().take_while(|slot| slot.at_ns <= 36_000 * S) {
            let twice = u128::from(slot.number) * u128::from(S) * 2;
            let wanted = (twice + u128::from(rate)) / (2 * u128::from(rate));
            assert_eq!(u128::from(slot.at_ns), wanted, "{slot:?} at {rate}");
        }
    }
}

#[test]
fn a_schedule_after_a_stage_starts_where_the_stage_ends() {
    let stages = parse_stages("1k@10s,0@5s,100@10s").unwrap();
    let mut slots = all(&Arrivals::Constant, &stages, 0);
    assert_eq!(slots.skip_to(10 * S), 10_000);
    assert_eq!(slots.next(), Some(Slot { number: 10_000, at_ns: 15 * S }));
    assert_eq!(slots.next(), Some(Slot { number: 10_001, at_ns: 15 * S + 10_000_000 }));
    assert_eq!(slots.skip_to(25 * S), 998);
    assert_eq!(slots.next(), Some(Slot { number: 11_000, at_ns: 25 * S }));
}

#[test]
fn a_ramp_has_each_request_where_the_integral_reaches_its_number() {
    // From 0 to 1000/s in 10 s: slot n at sqrt(n / 50) s.
    for slot in all(&Arrivals::Constant, &ramp(0.0, 1_000.0, 10 * S), 0).take(5_000) {
        let wanted = (slot.number as f64 / 50.0).sqrt() * 1e9;
        assert!((slot.at_ns as f64 - wanted).abs() <= 0.501, "{slot:?} {wanted}");
    }
    // And down again: mirrored in time, so that slot n of the fall is as far from its end as slot 5000 - n
    // from 0.
    for slot in all(&Arrivals::Constant, &ramp(1_000.0, 0.0, 10 * S), 0) {
        let wanted = 1e10 - ((5_000 - slot.number) as f64 / 50.0).sqrt() * 1e9;
        assert!((slot.at_ns as f64 - wanted).abs() <= 0.501, "{slot:?} {wanted}");
    }
}

#[test]
fn a_long_steep_ramp_is_exact_at_its_far_end() {
    // To a million a second in an hour, and back to nothing in another: 1.8 billion requests each.
    let up = ramp(0.0, 1e6, 3_600 * S);
    let mut rate = RateOverTime::new(&up).unwrap();
    let last = rate.time_of(Position::whole(1_799_999_999)).unwrap();
    assert_eq!(last, 3_600 * S - 1_000);
    let down = ramp(1e6, 0.0, 3_600 * S);
    let mut rate = RateOverTime::new(&down).unwrap();
    assert_eq!(rate.time_of(Position::whole(1)), Some(1_000));
    // The last one is as long before the end as the first of the rise is after its begin: 84.85 ms.
    assert_eq!(rate.time_of(Position::whole(1_799_999_999)), Some(3_600 * S - 84_852_814));
    assert_eq!(rate.time_of(Position::whole(1_800_000_000)), None);
}

#[test]
fn ramps_hold_as_many_requests_as_expected_with_poisson_arrivals() {
    let stages = stages();
    let schedule = all(&Arrivals::Poisson, &stages, 0);
    for (from_ns, to_ns) in [(0, S), (S, 3 * S), (3_500_000_000, 4_500_000_000), (0, 6 * S)] {
        let expected = schedule.expected_between(from_ns, to_ns);
        let runs = 20;
        let counts = (0..runs).map(|seed| count_between(&Arrivals::Poisson, &stages, seed, from_ns, to_ns));
        let mean = counts.sum::<u64>() as f64 / runs as f64;
        let deviation = (expected / runs as f64).sqrt();
        assert!((mean - expected).abs() < 4.0 * deviation, "{from_ns}-{to_ns}: {mean} for {expected}");
    }
    assert_eq!(count_between(&Arrivals::Poisson, &stages, 1, 3 * S, 3_500_000_000), 0);
}

#[test]
fn the_integral_of_the_rate_is_that_of_its_pieces() {
    let schedule = all(&Arrivals::Constant, &stages(), 0);
    for (from_ns, to_ns, wanted) in [
        (0, S, 1_000.0),
        (S, 3 * S, 6_000.0),
        (S, 2 * S, 2_000.0),
        (3 * S, 3_500_000_000, 0.0),
        (3_500_000_000, 4_500_000_000, 2_600.0),
        (4_500_000_000, 5_500_000_000, 150.0),
        (100 * S, 110 * S, 3_000.0),
        (5, 5, 0.0),
        (7, 5, 0.0),
    ] {
        let sum = schedule.expected_between(from_ns, to_ns);
        assert!((sum - wanted).abs() < 1e-6, "{from_ns}-{to_ns}: {sum}");
    }
    for (at_ns, wanted) in
        [(0, 1_000.0), (2 * S, 3_000.0), (3_200_000_000, 0.0), (5 * S, 150.0), (1_000 * S, 300.0)]
    {
        assert!((schedule.rate_at(at_ns).unwrap() - wanted).abs() < 1e-9, "{at_ns}");
    }
}

#[test]
fn poisson_arrivals_do_not_drift() {
    let (rate, count) = (50_000.0, 1_000_000);
    for seed in [1, 2, 3] {
        let last = all(&Arrivals::Poisson, &constant_rate(rate), seed).nth(count - 1).unwrap();
        // The sum of n exponential gaps has a deviation of sqrt(n) gaps.
        let off = last.at_ns as f64 * rate / 1e9 - count as f64;
        assert!(off.abs() < 4.0 * (count as f64).sqrt(), "seed {seed}: {off} requests off");
    }
}

#[test]
fn an_early_and_a_late_poisson_gap_are_equally_exact() {
    // The stream far out is the stream near by, moved: a position loses no digits by being large.
    let mut draws = Draws::new(9);
    let (mut near, mut far) = (Position::ZERO, Position::whole(1 << 40));
    for _ in 0..10_000 {
        let draw = draws.exponential();
        (near, far) = (near.plus_gap(draw), far.plus(draw));
    }
    let mut rate = RateOverTime::new(&constant_rate(1_000_000.0)).unwrap();
    let (a, b) = (rate.time_of(near).unwrap(), rate.time_of(far).unwrap());
    assert_eq!(b - a, (1 << 40) * 1_000);
}

#[test]
fn ten_thousand_scheduled_poisson_gaps_pass_anderson_darling() {
    for seed in [0, 1, 2, 3, 42, 4711, u64::MAX] {
        let times: Vec<u64> = all(&Arrivals::Poisson, &constant_rate(50_000.0), seed)
            .take(10_001)
            .map(|slot| slot.at_ns)
            .collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let (statistic, p) = fit::anderson_darling_exponential(&gaps);
        assert!(p > 0.01, "seed {seed}: {statistic} {p}");
        assert!(fit::max_cdf_distance(&gaps) < 0.02, "seed {seed}");
    }
    let constant: Vec<f64> = vec![20_000.0; 10_000];
    assert!(fit::anderson_darling_exponential(&constant).1 < 1e-5);
}

#[test]
fn what_one_of_many_workers_keeps_of_a_poisson_schedule_is_not_poisson_and_the_union_is() {
    // Every fourth slot has gaps of a gamma distribution: that is why gaps are judged over all workers.
    let dealt = Dealt { index: 2, of: 4 };
    let slots = Schedule::new(&Arrivals::Poisson, &constant_rate(1_000.0), 5, dealt).unwrap();
    let times: Vec<u64> = slots.take(2_001).map(|slot| slot.at_ns).collect();
    let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
    assert!(fit::anderson_darling_exponential(&gaps).1 < 1e-5);
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
    let of = |seed| all(&Arrivals::Poisson, &stages(), seed).take(200).collect::<Vec<_>>();
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    // These very times: a change of the stream would make old runs unrepeatable, and must not pass unseen.
    let times: Vec<u64> = of(42).iter().take(4).map(|slot| slot.at_ns).collect();
    assert_eq!(times, [105_962, 185_254, 808_662, 2_411_129]);
}

#[test]
fn a_burst_comes_at_once_and_as_often_as_its_rate_says() {
    let mut slots = all(&Arrivals::Burst(32), &constant_rate(3_200.0), 0);
    for burst in 0..50u64 {
        for n in 0..32 {
            assert_eq!(slots.next(), Some(Slot { number: burst * 32 + n, at_ns: burst * 10_000_000 }));
        }
    }
}

#[test]
fn a_trace_is_dealt_as_it_stands_and_ends() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"0.1\n0.1\n0.25\n3\n4\n").unwrap();
    let arrivals = Arrivals::Trace(file.path().to_str().unwrap().into());
    let slots = |index| {
        let schedule = Schedule::new(&arrivals, &[], 0, Dealt { index, of: 2 }).unwrap();
        schedule.map(|slot| (slot.number, slot.at_ns / 1_000_000)).collect::<Vec<_>>()
    };
    assert_eq!(slots(0), [(0, 100), (2, 250), (4, 4_000)]);
    assert_eq!(slots(1), [(1, 100), (3, 3_000)]);
    let mut whole = Schedule::new(&arrivals, &[], 0, Dealt::ALL).unwrap();
    assert_eq!(whole.expected_between(0, 3 * S), 3.0);
    assert_eq!(whole.expected_between(100_000_000, 3 * S + 1), 4.0);
    assert_eq!(whole.rate_at(0), None);
    assert_eq!(whole.skip_to(u64::MAX), 5);
    assert_eq!((whole.peek(), whole.next(), whole.next()), (None, None, None));
}

#[test]
fn a_trace_in_memory_must_not_go_back() {
    let error = Schedule::of_trace(vec![1, 3, 2].into(), Dealt::ALL).unwrap_err();
    assert!(error.contains("arrival 3"), "{error}");
    let more_workers_than_arrivals = Schedule::of_trace(vec![1].into(), Dealt { index: 1, of: 2 }).unwrap();
    assert_eq!(more_workers_than_arrivals.peek(), None);
}

#[test]
fn a_rate_that_falls_to_zero_ends_the_schedule() {
    for arrivals in [Arrivals::Constant, Arrivals::Poisson, Arrivals::Burst(8)] {
        let slots: Vec<Slot> = all(&arrivals, &ramp(100.0, 0.0, 10 * S), 1).collect();
        assert!((400..=600).contains(&slots.len()), "{arrivals:?}: {}", slots.len());
        assert!(slots.iter().all(|slot| slot.at_ns <= 10 * S));
    }
}

#[test]
fn a_rate_so_low_that_time_ends_before_is_the_end() {
    let mut slots = all(&Arrivals::Constant, &constant_rate(1e-11), 0);
    assert_eq!(slots.next(), Some(Slot { number: 0, at_ns: 0 }));
    assert_eq!(slots.next(), None);
}

#[test]
fn the_highest_rate_is_one_a_nanosecond() {
    let last = all(&Arrivals::Constant, &constant_rate(1e9), 0).nth(5_000).unwrap();
    assert_eq!(last.at_ns, 5_000);
    assert!(RateOverTime::new(&constant_rate(1e9 + 1.0)).unwrap_err().contains("1G/s"));
}

#[test]
fn stages_that_are_none_are_refused_with_their_number() {
    let bad = |from, to| {
        let stages = [Stage { from: 1.0, to: 1.0, len_ns: 1 }, Stage { from, to, len_ns: 5 }];
        RateOverTime::new(&stages).map(|_| ()).unwrap_err()
    };
    for (from, to) in [(-1.0, 1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0), (1.0, -0.1)] {
        assert!(bad(from, to).starts_with("stage 2: "), "{}", bad(from, to));
    }
    assert!(RateOverTime::new(&[]).unwrap_err().contains("--rate"));
    assert!(RateOverTime::new(&constant_rate(0.0)).unwrap_err().contains("zero"));
    let forever = Stage { from: 1.0, to: 1.0, len_ns: u64::MAX };
    assert!(RateOverTime::new(&[forever, forever]).unwrap_err().contains("ten years"));
    let many = |count| vec![Stage { from: 1.0, to: 1.0, len_ns: 1 }; count];
    assert!(RateOverTime::new(&many(rate::STAGES_MAX)).is_ok());
    assert!(RateOverTime::new(&many(rate::STAGES_MAX + 1)).is_err());
}

#[test]
fn a_deal_that_is_none_and_a_burst_of_nothing_are_refused() {
    for dealt in [Dealt { index: 0, of: 0 }, Dealt { index: 3, of: 3 }] {
        let error = Schedule::new(&Arrivals::Constant, &constant_rate(1.0), 0, dealt).unwrap_err();
        assert!(error.starts_with("worker "), "{error}");
        assert!(Schedule::of_trace(vec![1].into(), dealt).is_err());
    }
    assert!(Schedule::new(&Arrivals::Burst(0), &constant_rate(1.0), 0, Dealt::ALL).is_err());
}
