//! What a person reads: content, widths, and what is left out first.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::{Reason, Speaks};
use crate::report::sample;
use unicode_width::UnicodeWidthStr as _;

const RATE: f64 = 500.0;

fn options(width: usize, height: Option<usize>) -> TextOptions {
    TextOptions { width, height, unicode: true, ..TextOptions::default() }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// Without escape sequences.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out += before;
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    out + rest
}

#[test]
fn no_line_is_wider_than_asked_whatever_the_run() {
    let runs = [sample::calm(RATE), sample::stalled(RATE), sample::failing(RATE)];
    for mut run in runs {
        run.settings.url = format!("http://host/{}日本語", "long-path/".repeat(20));
        run.verdict.reasons.push(Reason { level: Level::Suspect, code: "x".into(), text: "word".repeat(60) });
        let all = [(false, true, None), (true, false, Some(24)), (true, true, Some(50))];
        for (at, width) in [WIDTH_MIN, 47, 48, 60, 79, 80, 81, 110, 132, 200].into_iter().enumerate() {
            let (color, unicode, height) = all[at % all.len()];
            let options = TextOptions { width, height, color, unicode, ..TextOptions::default() };
            let text = bare(&render(&run, &sample::outcomes(true), &options));
            for line in text.lines() {
                assert!(line.width() <= width, "{} columns of {width}: {line}", line.width());
            }
        }
    }
}

#[test]
fn a_width_below_the_least_is_laid_out_as_the_least() {
    let run = sample::calm(RATE);
    assert_eq!(
        render(&run, &[], &options(WIDTH_MIN - 1, None)),
        render(&run, &[], &options(WIDTH_MIN, None))
    );
    assert_ne!(
        render(&run, &[], &options(WIDTH_MIN + 1, None)),
        render(&run, &[], &options(WIDTH_MIN, None))
    );
}

#[test]
fn a_report_without_errors_fits_24_lines_of_80_columns_with_the_prompt() {
    for run in [sample::calm(RATE), sample::stalled(RATE)] {
        let text = render(&run, &sample::outcomes(false), &options(80, Some(24)));
        assert!(text.lines().count() <= 23, "{} lines:\n{text}", text.lines().count());
        for wanted in ["rate", "P50", "P99.99", "max", "response time up to", "VALID", "met"] {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
    }
}

#[test]
fn on_a_lower_screen_the_noise_floor_goes_first_and_the_verdict_never() {
    let run = sample::stalled(RATE);
    let has = |height, what| render(&run, &[], &options(80, Some(height))).contains(what);
    assert!(has(40, "null server") && has(40, "connects"));
    assert!(!has(23, "null server"));
    for height in [0, 1, 18, 19, 20] {
        assert!(has(height, "VALID") && has(height, "P99.99"), "{height}");
    }
    let calm = sample::calm(RATE);
    let text = render(&calm, &[], &options(80, Some(15)));
    assert!(
        !text.contains("connects") && !text.contains("CPU/request") && text.lines().count() <= 14,
        "{text}"
    );
}

#[test]
fn a_higher_screen_gives_the_histogram_more_rows() {
    let run = sample::stalled(RATE);
    let rows = |height| {
        let text = render(&run, &[], &options(80, Some(height)));
        text.lines().filter(|line| line.ends_with('%')).count()
    };
    assert!(rows(40) > rows(20), "{} and {}", rows(40), rows(20));
}

#[test]
fn percentiles_among_unanswered_requests_are_lower_bounds() {
    let text = render(&sample::failing(1_000.0), &[], &options(100, None));
    let line =
        |name: &str| lines(&text).into_iter().find(|line| line.starts_with(&format!("  {name} "))).unwrap();
    assert!(!line("P99").contains(">="), "{text}");
    assert!(line("P99.9").contains(">= 1."), "{text}");
    assert!(line("max").contains(">= 5."), "{text}");
    assert!(text.contains("never answered"), "{text}");
}

#[test]
fn an_open_loop_tells_three_clocks_and_a_closed_one_only_one() {
    let open = render(&sample::stalled(RATE), &[], &options(80, None));
    assert!(open.contains("response     service    send lag") && open.contains(" offered"), "{open}");
    let closed = render(&sample::calm(RATE), &[], &options(80, None));
    assert!(
        !closed.contains("send lag") && !closed.contains("offered") && closed.contains("closed loop"),
        "{closed}"
    );
}

#[test]
fn errors_are_counted_by_kind_and_good_answers_stand_alone() {
    let run = sample::failing(RATE);
    let text = render(&run, &sample::outcomes(true), &options(100, None));
    let timeouts = run.total.errors.get(crate::record::ErrorKind::Timeout);
    assert!(text.contains(&format!("{timeouts} timeouts")), "{text}");
    assert!(text.contains("7 connect refused") && !text.contains("connect refused ("), "{text}");
    assert!(text.contains("answers without an error: P50"), "{text}");
    for kind in ["read", "write", "search"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("  {kind} "))), "{text}");
    }
    assert!(text.contains("missed   p99.9 <= 50 ms (seen: >= 1.00 s)"), "{text}");
    assert!(text.contains("SUSPECT") && text.contains("suspect  ") && text.contains("note     "), "{text}");
}

#[test]
fn a_run_without_errors_says_so_and_has_no_line_for_them() {
    let text = render(&sample::calm(RATE), &[], &options(80, None));
    assert!(text.contains("no errors") && !text.contains("  errors") && !text.contains("  good"), "{text}");
}

#[test]
fn colour_is_there_only_if_asked_for_and_changes_no_word() {
    let run = sample::failing(RATE);
    let plain = render(&run, &sample::outcomes(true), &options(80, None));
    let colored = render(&run, &sample::outcomes(true), &TextOptions { color: true, ..options(80, None) });
    assert!(!plain.contains('\u{1b}'));
    assert!(colored.contains("\u{1b}["));
    let trimmed: Vec<String> = bare(&colored).lines().map(|line| line.trim_end().to_string()).collect();
    assert_eq!(trimmed, lines(&plain));
}

#[test]
fn without_unicode_every_byte_is_ascii() {
    let mut run = sample::failing(RATE);
    run.settings.url = format!("http://höst/{}", "x".repeat(100));
    let text = render(&run, &sample::outcomes(true), &TextOptions { unicode: false, ..options(80, None) });
    assert!(text.is_ascii() && text.contains('#') && text.contains("h?st"), "{text}");
    assert!(text.lines().next().unwrap().ends_with("..."), "{text}");
}

#[test]
fn words_from_outside_cannot_steer_the_terminal() {
    let mut run = sample::failing(RATE);
    let hostile = "\u{1b}]0;owned\u{7}\r\n\u{9b}2J";
    run.settings.url = hostile.into();
    run.settings.requests[0].name = hostile.into();
    run.verdict.reasons[0].text = hostile.into();
    let outcome = Outcome { term: hostile.into(), seen: hostile.into(), met: false };
    let text = render(&run, &[outcome], &options(80, None));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn a_run_in_which_nothing_happened_is_no_panic() {
    let mut run = sample::calm(10.0);
    run.total.clear();
    run.workers.clear();
    run.measured_ns = 0;
    let text = render(&run, &[], &options(80, Some(24)));
    assert!(text.contains("0/s") && text.contains("P50               -"), "{text}");
    run.total.response.record_at_least(1_000_000_000);
    let text = render(&run, &[], &options(80, Some(24)));
    assert!(text.contains(">= 1 s"), "{text}");
}

#[test]
fn extra_percentiles_are_rows_of_the_table() {
    let percentiles = crate::report::percentiles(&[99.95, 10.0]);
    let text = render(&sample::calm(RATE), &[], &TextOptions { percentiles, ..options(80, None) });
    assert!(text.contains("  P99.95 ") && text.contains("  P10 "), "{text}");
}

#[test]
fn redis_commands_have_their_names() {
    let mut run = sample::failing(RATE);
    run.settings.speaks = Speaks::Resp;
    let text = render(&run, &[], &options(80, None));
    assert!(text.contains("\n  GET ") && text.contains("\n  SET "), "{text}");
}
