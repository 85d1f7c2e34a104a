//! Words and numbers, there and back, and what stands on each edge.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn a_rate_is_read_with_and_without_a_unit() {
    for (text, wanted) in [
        ("200", 200.0),
        ("50k", 50_000.0),
        ("50K", 50_000.0),
        ("1.5M", 1_500_000.0),
        ("3000/s", 3000.0),
        (" 2k/s ", 2000.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1G", 1e9),
    ] {
        assert_eq!(parse_rate(text), Ok(wanted), "{text}");
    }
}

#[test]
fn a_rate_that_is_none_says_what_to_write() {
    for text in [
        "0", "0k", "0.0/s", "-5", "-0", "", "k", "abc", "1e3", "inf", "NaN", "5/m", "5kk", "1.2.3", "+5", ".",
    ] {
        let error = parse_rate(text).unwrap_err();
        assert!(error.contains("50k"), "{text}: {error}");
    }
    assert!(parse_rate("5m").unwrap_err().contains("write M"));
}

#[test]
fn a_rate_of_one_a_nanosecond_is_the_last_that_is_taken() {
    assert_eq!(parse_rate("1000000000"), Ok(RATE_MAX));
    assert!(parse_rate("1000000001").unwrap_err().contains("above 1G/s"));
    assert!(parse_rate(&"9".repeat(400)).is_err());
}

#[test]
fn zero_is_a_rate_only_where_a_ramp_starts() {
    assert_eq!(parse_rate_or_zero("0"), Ok(0.0));
    assert!(parse_rate_or_zero("-1").is_err());
}

#[test]
fn a_duration_is_read_in_every_unit_and_exactly() {
    for (text, wanted) in [
        ("10s", 10 * NS_S),
        ("10", 10 * NS_S),
        ("0.5", NS_S / 2),
        ("250ms", 250 * NS_MS),
        ("5us", 5_000),
        ("5µs", 5_000),
        ("7ns", 7),
        ("0.1us", 100),
        ("1.5ns", 2),
        ("1m30s", 90 * NS_S),
        ("2h", 2 * NS_HOUR),
        ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ("2 min", 2 * NS_MIN),
        ("0", 0),
        ("0.000000001", 1),
        ("1234567.123456789s", 1_234_567_123_456_789),
    ] {
        assert_eq!(parse_duration(text), Ok(wanted), "{text}");
    }
}

#[test]
fn a_duration_that_is_none_says_what_to_write() {
    for text in ["", "s", "-1s", "5 parsecs", "1m30", "30s1m", "1s1s", "1e3s", "1..2s", "inf", "10 10"] {
        let error = parse_duration(text).unwrap_err();
        assert!(error.contains("250ms"), "{text}: {error}");
    }
}

#[test]
fn ten_years_is_the_longest_duration() {
    assert_eq!(parse_duration("87600h"), Ok(DURATION_NS_MAX));
    assert!(parse_duration("87600h1ns").unwrap_err().contains("ten years"));
    assert!(parse_duration("99999999999999999999h").unwrap_err().contains("ten years"));
    assert!(parse_duration("999999999999999999999h").unwrap_err().contains("not understood"));
}

#[test]
fn a_size_has_binary_units_unless_it_says_otherwise() {
    for (text, wanted) in [
        ("512", 512),
        ("512B", 512),
        ("4k", 4096),
        ("4KiB", 4096),
        ("4kB", 4000),
        ("1.5k", 1536),
        ("1MiB", 1 << 20),
        ("1MB", 1_000_000),
        ("2G", 2 << 30),
        ("0", 0),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse_size(text), Ok(wanted), "{text}");
    }
    for text in ["", "x", "-1", "4q", "0.1", "1.0001k", "18446744073709551616", "17179869184G"] {
        assert!(parse_size(text).unwrap_err().contains("4k"), "{text}");
    }
}

#[test]
fn a_count_has_decimal_units_and_is_whole() {
    for (text, wanted) in
        [("64", 64), ("100k", 100_000), ("1.5M", 1_500_000), ("2G", 2_000_000_000), ("0", 0)]
    {
        assert_eq!(parse_count(text), Ok(wanted), "{text}");
    }
    for text in ["", "1.5", "1KiB", "-3", "20000000000G"] {
        assert!(parse_count(text).unwrap_err().contains("100k"), "{text}");
    }
}

#[test]
fn percentiles_are_read_in_the_order_they_were_written() {
    assert_eq!(parse_percentiles("50, 99.5,p99.99,100"), Ok(vec![50.0, 99.5, 99.99, 100.0]));
    for text in ["", "0", "50,,99", "100.1", "999", "-5", "1e1", "inf", "+5", "median"] {
        assert!(parse_percentiles(text).unwrap_err().contains("99.9"), "{text}");
    }
}

#[test]
fn a_list_of_percentiles_has_a_longest() {
    let list = |count: usize| vec!["50"; count].join(",");
    assert_eq!(parse_percentiles(&list(PERCENTILES_MAX)).unwrap().len(), PERCENTILES_MAX);
    assert!(parse_percentiles(&list(PERCENTILES_MAX + 1)).unwrap_err().contains("65 percentiles"));
}

#[test]
fn a_share_is_read_as_percent_or_as_a_part_of_one() {
    assert_eq!(parse_share("0.1%"), Ok(0.001));
    assert_eq!(parse_share("0.001"), Ok(0.001));
    assert_eq!(parse_share("0"), Ok(0.0));
    assert_eq!(parse_share("99.9 %"), Ok(99.9 / 100.0));
    assert!(parse_share("1").unwrap_err().contains("percent"));
    assert!(parse_share("100%").unwrap_err().contains("anything"));
    for text in ["", "%", "-1%", "x", "1e-3", "NaN", ".", "1.1.1"] {
        assert!(parse_share(text).unwrap_err().contains("0.1%"), "{text}");
    }
}

#[test]
fn a_duration_for_people_has_three_digits_and_never_a_thousand_of_a_unit() {
    for (ns, wanted) in [
        (0, "0 ns"),
        (1, "1 ns"),
        (812, "812 ns"),
        (999, "999 ns"),
        (1_000, "1.00 us"),
        (9_994, "9.99 us"),
        (9_996, "10.0 us"),
        (34_100, "34.1 us"),
        (99_960, "100 us"),
        (999_499, "999 us"),
        (999_500, "1.00 ms"),
        (1_270_000, "1.27 ms"),
        (999_999_999, "1.00 s"),
        (2_000_000_000, "2.00 s"),
        (119 * NS_S, "119 s"),
        (120 * NS_S, "2.00 min"),
        (7200 * NS_S, "2.00 h"),
        (5_000 * NS_HOUR, "5000 h"),
    ] {
        assert_eq!(duration(ns), wanted, "{ns}");
    }
    assert!(duration(u64::MAX).ends_with(" h"));
}

#[test]
fn a_lower_bound_is_printed_as_one() {
    assert_eq!(value(Value::Exact(4_200_000)), "4.20 ms");
    assert_eq!(value(Value::AtLeast(1_000_000_000)), ">= 1.00 s");
}

#[test]
fn a_rate_for_people_has_three_digits() {
    for (number, wanted) in [
        (0.0, "0/s"),
        (0.012_34, "0.0123/s"),
        (0.999, "1.00/s"),
        (3.333, "3.33/s"),
        (812.0, "812/s"),
        (999.5, "1.00k/s"),
        (48_912.0, "48.9k/s"),
        (999_499.0, "999k/s"),
        (999_500.0, "1.00M/s"),
        (1_200_000.0, "1.20M/s"),
        (1e9, "1.00G/s"),
        (1e13, "10000G/s"),
        (f64::NAN, "?/s"),
        (f64::INFINITY, "?/s"),
        (-1.0, "?/s"),
    ] {
        assert_eq!(rate(number), wanted, "{number}");
    }
}

#[test]
fn bytes_for_people_are_in_powers_of_1024() {
    for (number, wanted) in [
        (0.0, "0 B"),
        (7.0, "7 B"),
        (812.0, "812 B"),
        (2.5, "2.50 B"),
        (1023.0, "1.00 KiB"),
        (34_918.4, "34.1 KiB"),
        (1_258_291.2, "1.20 MiB"),
        (f64::NAN, "? B"),
    ] {
        assert_eq!(bytes(number), wanted, "{number}");
    }
    assert_eq!(bytes_rate(1_258_291.2), "1.20 MiB/s");
}

#[test]
fn a_count_is_cut_into_thousands() {
    for (number, wanted) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(count(number), wanted);
    }
    assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
}

#[test]
fn a_share_is_never_rounded_to_none_or_to_all() {
    for (share, wanted) in [
        (0.0, "0%"),
        (1e-9, "<0.001%"),
        (0.000_012_3, "0.00123%"),
        (0.001, "0.1%"),
        (0.01, "1%"),
        (0.125, "12.5%"),
        (0.5, "50%"),
        (0.9996, "99.96%"),
        (0.999_99, ">99.99%"),
        (1.0, "100%"),
        (1.5, "150%"),
        (f64::NAN, "?%"),
    ] {
        assert_eq!(percent(share), wanted, "{share}");
    }
}

#[test]
fn an_error_shows_what_was_written_shortened_and_without_control_characters() {
    let error = parse_rate(&format!("\u{1b}[31m{}", "x".repeat(100))).unwrap_err();
    assert!(!error.contains('\u{1b}'), "{error}");
    assert!(error.contains("..."), "{error}");
    assert!(error.len() < 200, "{error}");
}

proptest! {
    #[test]
    fn an_exact_duration_reads_back_as_itself(ns in 0..=DURATION_NS_MAX) {
        prop_assert_eq!(parse_duration(&duration_exact(ns)), Ok(ns));
    }

    #[test]
    fn a_duration_for_people_is_within_half_of_its_last_digit(ns in 1_000u64..100_000_000_000_000) {
        let back = parse_duration(&duration(ns)).unwrap();
        prop_assert!((back as f64 - ns as f64).abs() <= 0.005_001 * ns as f64, "{} {}", ns, duration(ns));
    }

    #[test]
    fn a_rate_that_was_displayed_reads_back_as_itself(rate in 1e-6..1e9f64) {
        prop_assert_eq!(parse_rate(&rate.to_string()), Ok(rate));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,30}") {
        let _ = (parse_rate(&text), parse_duration(&text), parse_size(&text), parse_count(&text));
        let _ = (parse_percentiles(&text), parse_share(&text));
    }
}
