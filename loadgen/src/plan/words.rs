//! A plan in the words of the command line.
//!
//! Stages: `RATE@LEN` or `FROM-TO@LEN`, separated by commas: `1k@10s,1k-50k@30s,50k@10s`. Arrivals:
//! `constant`, `poisson`, `burst:N`, `trace:FILE`.
//!
//! Not here: what a plan does (`plan`), rates and durations by themselves (`units`).

use crate::model::{Arrivals, Stage};
use crate::units::{parse_duration, parse_rate_or_zero, quoted};

use super::rate::{RateOverTime, STAGES_MAX};

/// The same rate for ever.
pub fn constant_rate(rate: f64) -> Vec<Stage> {
    vec![Stage { from: rate, to: rate, len_ns: 0 }]
}

/// From one rate to another over `len_ns`; then the second for ever.
pub fn ramp(from: f64, to: f64, len_ns: u64) -> Vec<Stage> {
    vec![Stage { from, to, len_ns }]
}

/// Parses stages: `1k@10s,1k-50k@30s,50k@10s`. A rate of 0 is a pause, or the foot of a ramp.
///
/// # Errors
/// A text that names the stage and says what to write instead.
pub fn parse_stages(text: &str) -> Result<Vec<Stage>, String> {
    let count = text.split(',').count();
    if count > STAGES_MAX {
        return Err(format!("{count} stages: at most {STAGES_MAX} are taken; write a trace file instead"));
    }
    let stages: Vec<Stage> = text.split(',').map(parse_stage).collect::<Result<_, _>>()?;
    // What only shows when they stand together: too long, or nothing but pauses.
    RateOverTime::new(&stages)?;
    Ok(stages)
}

fn parse_stage(text: &str) -> Result<Stage, String> {
    let wrong =
        |what: &str| format!("stage {}: {what}; write for example 50k@10s or 1k-50k@30s", quoted(text));
    let (rates, len) = text.split_once('@').ok_or_else(|| wrong("it has no length"))?;
    let (from, to) = rates.split_once('-').unwrap_or((rates, rates));
    if from.trim().is_empty() || to.trim().is_empty() {
        return Err(wrong("it has no rate"));
    }
    let rate = |text| parse_rate_or_zero(text).map_err(|error| wrong(&error));
    let (from, to) = (rate(from)?, rate(to)?);
    match parse_duration(len).map_err(|error| wrong(&error))? {
        0 => Err(wrong("its length is zero")),
        len_ns => Ok(Stage { from, to, len_ns }),
    }
}

/// Parses the kind of arrivals: `constant`, `poisson`, `burst:32`, `trace:FILE`. The file is not opened.
///
/// # Errors
/// A text that says what to write instead.
pub fn parse_arrivals(text: &str) -> Result<Arrivals, String> {
    let wrong = |what: &str| {
        format!("arrivals {} {what}: write constant, poisson, burst:32 or trace:FILE", quoted(text))
    };
    let (kind, of) = match text.split_once(':') {
        Some((kind, of)) => (kind, Some(of)),
        None => (text, None),
    };
    match (kind, of) {
        ("constant", None) => Ok(Arrivals::Constant),
        ("poisson", None) => Ok(Arrivals::Poisson),
        ("burst", Some(size)) => match size.parse::<u32>() {
            Ok(size) if size > 0 => Ok(Arrivals::Burst(size)),
            _ => Err(wrong("has no size from 1 to 4294967295")),
        },
        ("burst", None) => Err(wrong("has no size")),
        ("trace", Some(path)) if !path.is_empty() => Ok(Arrivals::Trace(path.into())),
        ("trace", _) => Err(wrong("names no file")),
        _ => Err(wrong("are not known")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn stages_are_read_in_their_order() {
        assert_eq!(
            parse_stages("1k@10s,1k-50k@30s, 0@1m ,50k/s@500ms").unwrap(),
            [
                Stage { from: 1e3, to: 1e3, len_ns: 10 * S },
                Stage { from: 1e3, to: 5e4, len_ns: 30 * S },
                Stage { from: 0.0, to: 0.0, len_ns: 60 * S },
                Stage { from: 5e4, to: 5e4, len_ns: S / 2 },
            ]
        );
        assert_eq!(parse_stages("0-1k@2s").unwrap(), ramp(0.0, 1000.0, 2 * S));
    }

    #[test]
    fn a_stage_that_is_none_is_named_and_the_cure_with_it() {
        for text in
            ["", "50k", "50k@", "@10s", "50k@0s", "-5@1s", "5-@1s", "x@1s", "5@x", "1k@1s,", "1-2-3@1s"]
        {
            let error = parse_stages(text).unwrap_err();
            assert!(error.starts_with("stage "), "{text}: {error}");
            assert!(error.contains("50k@10s"), "{text}: {error}");
        }
    }

    #[test]
    fn stages_of_nothing_but_pauses_are_refused() {
        assert!(parse_stages("0@1s,0-0@2s").unwrap_err().contains("zero all the time"));
    }

    #[test]
    fn stages_of_more_than_ten_years_together_are_refused() {
        assert!(parse_stages("1@87600h").is_ok());
        assert!(parse_stages("1@87600h,1@1ns").unwrap_err().contains("ten years"));
    }

    #[test]
    fn there_are_so_many_stages_and_not_one_more() {
        let text = |count: usize| vec!["1@1s"; count].join(",");
        assert_eq!(parse_stages(&text(STAGES_MAX)).unwrap().len(), STAGES_MAX);
        assert!(parse_stages(&text(STAGES_MAX + 1)).unwrap_err().contains("1001 stages"));
    }

    #[test]
    fn each_kind_of_arrivals_has_its_word() {
        assert_eq!(parse_arrivals("constant"), Ok(Arrivals::Constant));
        assert_eq!(parse_arrivals("poisson"), Ok(Arrivals::Poisson));
        assert_eq!(parse_arrivals("burst:32"), Ok(Arrivals::Burst(32)));
        assert_eq!(parse_arrivals("burst:4294967295"), Ok(Arrivals::Burst(u32::MAX)));
        assert_eq!(parse_arrivals("trace:a:b.txt"), Ok(Arrivals::Trace("a:b.txt".into())));
        for text in
            ["", "burst", "burst:", "burst:0", "burst:4294967296", "burst:x", "trace", "trace:", "poisson:2"]
        {
            assert!(parse_arrivals(text).unwrap_err().contains("burst:32"), "{text}");
        }
    }
}
