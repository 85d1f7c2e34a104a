//! Percentiles with and without lower bounds, merging, and what is written and read back.
#![allow(clippy::unwrap_used)]

use super::*;

const MS: u64 = 1_000_000;

fn of(exact: &[u64], bounds: &[u64]) -> Latency {
    let mut latency = Latency::default();
    exact.iter().for_each(|&ns| latency.record(ns));
    bounds.iter().for_each(|&ns| latency.record_at_least(ns));
    latency
}

/// The value, within the three digits that are kept.
#[track_caller]
fn is(value: Option<Value>, wanted: Value) {
    let value = value.unwrap();
    assert_eq!(value.is_bound(), wanted.is_bound(), "{value:?}");
    let off = (value.ns() as f64 - wanted.ns() as f64).abs();
    assert!(off <= 16.0_f64.max(wanted.ns() as f64 * 1e-3), "{value:?} is not {wanted:?}");
}

#[test]
fn a_percentile_is_the_smallest_value_with_that_share_at_or_below_it() {
    let all: Vec<u64> = (1..=1000).map(|n| n * 1_000).collect();
    let latency = of(&all, &[]);
    for (percent, us) in
        [(0.0, 1), (0.1, 1), (50.0, 500), (99.0, 990), (99.9, 999), (99.91, 1000), (100.0, 1000)]
    {
        is(latency.percentile(percent), Value::Exact(us * 1_000));
    }
    assert_eq!(Latency::default().percentile(50.0), None);
    assert_eq!(Latency::default().max(), None);
}

#[test]
fn a_percentile_among_bounds_is_a_bound() {
    // 99 answered after 1 ms, one never within a second.
    let latency = of(&[MS; 99], &[1_000 * MS]);
    is(latency.percentile(50.0), Value::Exact(MS));
    is(latency.percentile(99.0), Value::Exact(MS));
    is(latency.percentile(99.5), Value::AtLeast(1_000 * MS));
    is(latency.max(), Value::AtLeast(1_000 * MS));
}

#[test]
fn a_bound_below_a_percentile_may_stand_above_it() {
    // Four known values, and one that had lasted 1 ms when we lost sight of it: the median may be 3 or 4 ms.
    let latency = of(&[2 * MS, 3 * MS, 4 * MS, 5 * MS], &[MS]);
    is(latency.percentile(50.0), Value::AtLeast(3 * MS));
    // Where the answer is the same whatever it was, it is known.
    let latency = of(&[3 * MS; 100], &[MS]);
    is(latency.percentile(50.0), Value::Exact(3 * MS));
    is(latency.percentile(100.0), Value::AtLeast(3 * MS));
}

#[test]
fn nothing_but_bounds_is_a_bound_at_every_percentile() {
    let latency = of(&[], &[MS, 2 * MS]);
    is(latency.percentile(0.0), Value::AtLeast(MS));
    is(latency.percentile(100.0), Value::AtLeast(2 * MS));
    assert_eq!((latency.count(), latency.bounds_count(), latency.min_ns()), (2, 2, None));
}

#[test]
fn a_value_beyond_the_range_is_a_bound_of_the_range() {
    let latency = of(&[HIGH_NS], &[]);
    is(latency.max(), Value::Exact(HIGH_NS));
    let latency = of(&[2 * HIGH_NS], &[]);
    is(latency.max(), Value::AtLeast(HIGH_NS));
    assert_eq!(latency.count(), 1);
}

#[test]
fn merging_is_as_if_all_had_been_recorded_together() {
    let (one, two) = (of(&[MS, 5 * MS], &[7 * MS]), of(&[2 * MS, 9 * MS], &[3 * MS, 8 * MS]));
    let mut merged = Latency::default();
    merged.merge(&one);
    merged.merge(&two);
    let together = of(&[MS, 5 * MS, 2 * MS, 9 * MS], &[7 * MS, 3 * MS, 8 * MS]);
    assert_eq!(merged.buckets(), together.buckets());
    merged.clear();
    assert!(merged.is_empty());
    assert_eq!(merged.max(), None);
}

#[test]
fn means_and_shares_take_bounds_for_what_they_are() {
    is(of(&[MS, 3 * MS], &[]).mean(), Value::Exact(2 * MS));
    is(of(&[MS, 3 * MS], &[5 * MS]).mean(), Value::AtLeast(3 * MS));
    let latency = of(&[MS, 3 * MS], &[5 * MS, 7 * MS]);
    assert!((latency.share_above(4 * MS) - 0.5).abs() < 1e-9);
    assert!((latency.share_above(6 * MS) - 0.25).abs() < 1e-9);
    assert!(Latency::default().share_above(0).abs() < 1e-9);
}

#[test]
fn a_latency_comes_back_from_json_as_it_was() {
    for latency in [of(&[1, 100, MS, HIGH_NS], &[5 * MS]), of(&[MS], &[]), Latency::default()] {
        let text = sonic_rs::to_string(&latency).unwrap();
        let back: Latency = sonic_rs::from_str(&text).unwrap();
        assert_eq!(back.buckets(), latency.buckets());
    }
}

#[test]
fn a_histogram_of_other_bounds_or_none_at_all_is_refused() {
    let mut bytes = Vec::new();
    let mut other: Histogram<u64> = Histogram::new_with_bounds(1, 1_000, 2).unwrap();
    other.record(5).unwrap();
    V2DeflateSerializer::new().serialize(&other, &mut bytes).unwrap();
    for (exact, word) in [
        (STANDARD.encode(bytes), "other bounds"),
        ("no base64!".to_owned(), "nvalid"),
        (STANDARD.encode(b"no histogram"), ""),
        ("A".repeat(PACKED_LEN_MAX + 1), "bytes"),
    ] {
        let text = format!(r#"{{"exact":"{exact}","at_least":""}}"#);
        let error = sonic_rs::from_str::<Latency>(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn as_many_kinds_as_there_can_be_are_read_and_not_one_more() {
    let json = |count: usize| {
        let kind = r#"{"answered":0,"failed":0,"response":{"exact":"","at_least":""}}"#;
        let tally = sonic_rs::to_string(&Tally::default()).unwrap();
        tally.replace(r#""kinds":[]"#, &format!(r#""kinds":[{}]"#, vec![kind; count].join(",")))
    };
    let read: Tally = sonic_rs::from_str(&json(KINDS_MAX)).unwrap();
    assert_eq!(read.kinds.len(), KINDS_MAX);
    assert!(sonic_rs::from_str::<Tally>(&json(KINDS_MAX + 1)).is_err());
}

#[test]
fn tallies_add_up_and_can_be_used_again() {
    let mut one = Tally::default();
    one.counts.sent = 3;
    one.errors.add(ErrorKind::Timeout);
    one.errors.add_connect(ConnectError::Refused);
    one.response.record(MS);
    one.kinds.push(KindTally { answered: 1, failed: 0, response: of(&[MS], &[]) });
    let mut total = Tally::default();
    total.merge(&one);
    total.merge(&one);
    assert_eq!((total.counts.sent, total.errors.total(), total.errors.connects_total()), (6, 2, 2));
    assert_eq!((total.kinds[0].answered, total.kinds[0].response.count()), (2, 2));
    let named: Vec<_> = total.errors.iter().map(|(name, _, count)| (name, count)).collect();
    assert_eq!(named, [("timeout", 2), ("refused", 2)]);
    assert!((total.error_share() - 1.0).abs() < 1e-9);
    total.clear();
    assert_eq!((total.counts, total.errors), (Counts::default(), Errors::default()));
    assert!(total.response.is_empty() && total.kinds[0].response.is_empty());
}

#[test]
fn every_kind_of_error_has_a_place_of_its_own() {
    let mut errors = Errors::default();
    for (at, kind) in ErrorKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, at);
        errors.add_n(kind, at as u64 + 1);
    }
    for (at, kind) in ErrorKind::ALL.into_iter().enumerate() {
        assert_eq!(errors.get(kind), at as u64 + 1);
    }
    for (at, kind) in ConnectError::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, at);
    }
}
