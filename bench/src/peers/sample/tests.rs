//! What a measured window must show before it counts.
#![allow(clippy::unwrap_used)]

use super::super::loads;
use super::*;

fn load(id: &str) -> Load {
    loads::all().into_iter().find(|load| load.id == id).unwrap()
}

fn answered() -> Answered {
    Answered {
        started_ms: 1_000.0,
        window_ms: 500.0,
        completed: 10_000,
        rate: 20_000.0,
        bytes_in: 10_000 * 128,
        p50_us: Some(40.5),
        client_us: Some(7.0),
        ..Answered::default()
    }
}

fn reading(at_ms: f64, server_ms: u64, client_ms: u64, busy_ms: [u64; 2]) -> Reading {
    Reading {
        at_ms,
        server_ns: server_ms * 1_000_000,
        client_ns: client_ms * 1_000_000,
        busy_ns: busy_ms.map(|ms| ms * 1_000_000),
        rss: 10 << 20,
    }
}

#[test]
fn cost_is_the_share_of_the_cpu_by_the_rate_of_answers() {
    let (first, last) =
        (reading(1_050.0, 100, 50, [1_000, 2_000]), reading(1_450.0, 300, 150, [1_240, 2_120]));
    let sample = figures(&load("plaintext-64"), &answered(), &first, &last, 128).unwrap();
    assert_eq!(sample.busy, Some(0.5), "200 ms of 400");
    assert_eq!(sample.cpu_us, Some(25.0), "half a second of CPU for 20,000 answers");
    assert!((sample.others.unwrap() - 0.1).abs() < 1e-9, "40 ms of 400 on the server's CPU");
    assert_eq!((sample.p50_us, sample.client_us, sample.rss_kib), (Some(40.5), Some(7.0), Some(10 << 10)));
    assert_eq!((sample.cpu_s_per_gib, sample.gb_per_s), (None, None));
}

#[test]
fn a_download_costs_cpu_seconds_a_gib() {
    let many = Answered { rate: 1024.0, completed: 512, bytes_in: 512 * ((1 << 20) + 100), ..answered() };
    let (first, last) = (reading(1_000.0, 0, 0, [0, 0]), reading(1_500.0, 250, 0, [250, 0]));
    let sample = figures(&load("blob"), &many, &first, &last, (1 << 20) + 100).unwrap();
    assert_eq!(sample.cpu_s_per_gib, Some(0.5), "half of a CPU, a GiB a second");
    assert!((sample.gb_per_s.unwrap() - 1.073_741_824).abs() < 1e-9);
}

#[test]
fn readings_outside_of_the_window_do_not_count() {
    let at = |ms: f64| Reading { at_ms: ms, ..Reading::default() };
    let readings = [900.0, 999.0, 1_010.0, 1_200.0, 1_490.0, 1_510.0].map(at);
    let (first, last) = within(&readings, 1_000.0, 500.0).unwrap();
    assert_eq!((first.at_ms, last.at_ms), (1_010.0, 1_490.0));
    assert!(within(&readings[..3], 1_000.0, 500.0).is_none(), "one is not enough");
    assert!(within(&[1_010.0, 1_100.0].map(at), 1_000.0, 500.0).is_none(), "too near each other");
}

#[test]
fn answers_of_another_length_are_wrong_and_cut_ones_are_not() {
    let of = |bytes_in: u64, errors: u64| {
        check_length(&load("plaintext-64"), &Answered { bytes_in, errors, ..answered() }, 128)
    };
    assert_eq!(of(10_000 * 128, 0), Ok(()));
    assert_eq!(of(10_000 * 128 + 64 * 128, 0), Ok(()));
    assert!(matches!(of(10_000 * 100, 0), Err(Trouble::Wrong(_))));
    assert_eq!(of(10_000 * 100, 5), Ok(()), "errors are counted by themselves");
}

#[test]
fn no_answers_and_no_cpu_are_no_figures() {
    let none = Answered { completed: 0, rate: 0.0, errors: 7, ..answered() };
    let (first, last) = (reading(1_050.0, 100, 0, [0, 0]), reading(1_450.0, 100, 0, [0, 0]));
    let load = load("plaintext-64");
    assert!(matches!(figures(&load, &none, &first, &last, 128), Err(Trouble::Absent(_))));
    assert!(matches!(figures(&load, &answered(), &first, &last, 128), Err(Trouble::Absent(_))));
}

#[test]
fn a_quick_run_has_short_windows_unless_told() {
    let quick = times(&load("plaintext-64"), true, None);
    assert!((400..=700).contains(&quick.window_ms));
    assert_eq!(times(&load("plaintext-64"), false, None).window_ms, 2_000);
    assert_eq!(times(&load("plaintext-64"), true, Some(90)).window_ms, 90);
    assert!(times(&load("idle-10k"), true, Some(90)).window_ms > 1_000, "memory needs the time to open all");
}
