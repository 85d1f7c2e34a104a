//! A result as JSON: a summary for scripts, and the whole data to read back. `docs/LOADGEN_SCHEMA.md`
//! describes it.
//!
//! # Rules
//! 1. Every key is always there, so that a script need not ask: null where there is nothing to say, 0 where
//!    it is 0.
//! 2. A latency in a summary is a whole number of microseconds, rounded to nearest. The exact histograms are
//!    in `runs[].data`, which is the [`Run`] itself.
//! 3. A number that is only a lower bound is written all the same, and its key is in `lower_bounds` beside
//!    it.
//!
//! Not here: reading files and comparing them (`compare`).

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::format::percentile_key;
use super::percentiles;
use crate::model::{Floor, HostUse, Level, Outcome, Provenance, Reason, Run, SCHEMA, WorkerUse, per_second};
use crate::record::{ConnectError, Counts, ErrorKind, Errors, Latency, Value};

/// All of `runs` in one document. Each summary has the usual percentiles and those of `extra`. Where there is
/// one run the fields of its summary are at the top, too.
///
/// # Errors
/// A histogram that cannot be written: a sentence.
pub fn render(runs: &[(Run, Vec<Outcome>)], extra: &[f64]) -> Result<String, String> {
    let percents = percentiles(extra);
    let failed = |error: sonic_rs::Error| format!("cannot write the result as JSON: {error}");
    let summaries: Vec<Summary<'_>> =
        runs.iter().map(|(run, outcomes)| summary(run, outcomes, &percents)).collect();
    let alone = if summaries.len() == 1 { summaries.first() } else { None };
    let tool = runs.first().map_or("", |(run, _)| run.provenance.tool.as_str());
    let top = sonic_rs::to_string_pretty(&Top { schema: SCHEMA, tool, summary: alone }).map_err(failed)?;

    // The summaries are for eyes, too; the data is not, and would be millions of lines. No JSON string holds
    // a line break, so that text can be shifted to the right line by line.
    let mut text =
        top.strip_suffix("\n}").ok_or("the JSON writer ended an object in a way of its own")?.to_string();
    text += ",\n  \"runs\": [";
    for (at, ((run, _), summary)) in runs.iter().zip(&summaries).enumerate() {
        let summary = sonic_rs::to_string_pretty(summary).map_err(failed)?.replace('\n', "\n      ");
        let data = sonic_rs::to_string(run).map_err(failed)?;
        let comma = if at > 0 { "," } else { "" };
        text += &format!("{comma}\n    {{\n      \"summary\": {summary},\n      \"data\": {data}\n    }}");
    }
    text += "\n  ]\n}\n";
    Ok(text)
}

#[derive(Serialize)]
struct Top<'a> {
    schema: u32,
    tool: &'a str,
    #[serde(flatten)]
    summary: Option<&'a Summary<'a>>,
}

/// What a script asks of a run.
#[derive(Serialize)]
struct Summary<'a> {
    url: &'a str,
    requests: u64,
    rate: f64,
    offered_rate: Option<f64>,
    bytes_in_per_s: f64,
    bytes_out_per_s: f64,
    duration_us: u64,
    interrupted: bool,
    counts: Counts,
    errors: ErrorSummary<'a>,
    connect_errors: ConnectErrorSummary<'a>,
    response: LatencySummary<'a>,
    service: LatencySummary<'a>,
    send_lag: LatencySummary<'a>,
    own_lag: LatencySummary<'a>,
    connect: LatencySummary<'a>,
    cpu_per_request_ns: Option<f64>,
    verdict: VerdictSummary<'a>,
    slo: &'a [Outcome],
    floor: Option<Floor>,
    provenance: &'a Provenance,
    workers: &'a [WorkerUse],
    host: &'a HostUse,
}

#[derive(Serialize)]
struct VerdictSummary<'a> {
    level: Level,
    reasons: &'a [Reason],
}

#[derive(Serialize)]
struct ErrorSummary<'a> {
    total: u64,
    share: f64,
    by_kind: ByKind<'a>,
}

#[derive(Serialize)]
struct ConnectErrorSummary<'a> {
    total: u64,
    by_kind: ByConnectKind<'a>,
}

struct ByKind<'a>(&'a Errors);

impl Serialize for ByKind<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(ErrorKind::ALL.into_iter().map(|kind| (kind.name(), self.0.get(kind))))
    }
}

struct ByConnectKind<'a>(&'a Errors);

impl Serialize for ByConnectKind<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_map(ConnectError::ALL.into_iter().map(|kind| (kind.name(), self.0.get_connect(kind))))
    }
}

struct LatencySummary<'a> {
    of: &'a Latency,
    percents: &'a [f64],
}

impl Serialize for LatencySummary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut bounds: Vec<String> = Vec::new();
        let mut entry = |key: String, value: Option<Value>| -> Result<(), S::Error> {
            map.serialize_entry(&key, &value.map(|value| micros(value.ns())))?;
            if value.is_some_and(Value::is_bound) {
                bounds.push(key);
            }
            Ok(())
        };
        entry("min_us".into(), self.of.min_ns().map(Value::Exact))?;
        entry("mean_us".into(), self.of.mean())?;
        for percent in self.percents {
            entry(format!("{}_us", percentile_key(*percent)), self.of.percentile(*percent))?;
        }
        entry("max_us".into(), self.of.max())?;
        map.serialize_entry("count", &self.of.count())?;
        map.serialize_entry("bounds_count", &self.of.bounds_count())?;
        map.serialize_entry("lower_bounds", &bounds)?;
        map.end()
    }
}

fn micros(ns: u64) -> u64 {
    ns.saturating_add(500) / 1_000
}

/// To a thousandth: what is behind it is no measurement.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

fn summary<'a>(run: &'a Run, outcomes: &'a [Outcome], percents: &'a [f64]) -> Summary<'a> {
    let total = &run.total;
    let latency = |of: &'a Latency| LatencySummary { of, percents };
    Summary {
        url: &run.settings.url,
        requests: total.response.count(),
        rate: rounded(run.rate()),
        offered_rate: run.offered().map(rounded),
        bytes_in_per_s: rounded(run.bytes_in_rate()),
        bytes_out_per_s: rounded(per_second(total.counts.bytes_out, run.measured_ns)),
        duration_us: micros(run.measured_ns),
        interrupted: run.interrupted,
        counts: total.counts,
        errors: ErrorSummary {
            total: total.errors.total(),
            share: total.error_share(),
            by_kind: ByKind(&total.errors),
        },
        connect_errors: ConnectErrorSummary {
            total: total.errors.connects_total(),
            by_kind: ByConnectKind(&total.errors),
        },
        response: latency(&total.response),
        service: latency(&total.service),
        send_lag: latency(&total.send_lag),
        own_lag: latency(&total.own_lag),
        connect: latency(&total.connect),
        cpu_per_request_ns: run.cpu_per_request_ns().map(rounded),
        verdict: VerdictSummary { level: run.verdict.level, reasons: &run.verdict.reasons },
        slo: outcomes,
        floor: run.floor,
        provenance: &run.provenance,
        workers: &run.workers,
        host: &run.host,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::sample;
    use serde::Deserialize;
    use sonic_rs::{JsonContainerTrait, JsonValueTrait};

    #[derive(Deserialize)]
    struct File {
        schema: u32,
        runs: Vec<Entry>,
    }

    #[derive(Deserialize)]
    struct Entry {
        data: Run,
    }

    #[test]
    fn a_run_read_back_from_the_file_is_the_run() {
        let run = sample::first_slices(sample::failing(300.0), 9);
        let text = render(&[(run, sample::outcomes(true))], &[]).unwrap();
        let file: File = sonic_rs::from_str(&text).unwrap();
        assert_eq!(file.schema, SCHEMA);
        let again = &file.runs[0].data;
        let run = sample::first_slices(sample::failing(300.0), 9);
        assert_eq!(again.settings, run.settings);
        assert_eq!(again.provenance, run.provenance);
        assert_eq!(again.total.response.buckets(), run.total.response.buckets());
        assert_eq!(again.slices.len(), run.slices.len());
        assert_eq!(again.slices[7].tally.service.buckets(), run.slices[7].tally.service.buckets());
        assert_eq!(
            (again.workers.clone(), again.verdict.clone()),
            (run.workers.clone(), run.verdict.clone())
        );
        // And writing that again gives the same bytes.
        let twice =
            render(&[(file.runs.into_iter().next().unwrap().data, sample::outcomes(true))], &[]).unwrap();
        assert!(twice == text, "the second writing differs from the first");
    }

    #[test]
    fn a_single_run_answers_at_the_top_in_whole_microseconds() {
        let run = sample::first_slices(sample::stalled(500.0), 2);
        let (p99, count) = (run.total.response.percentile(99.0).unwrap().ns(), run.total.response.count());
        let text = render(&[(run, Vec::new())], &[99.5]).unwrap();
        let value: sonic_rs::Value = sonic_rs::from_str(&text).unwrap();
        assert_eq!(value["response"]["p99_us"].as_u64(), Some(micros(p99)));
        assert_eq!(value["requests"].as_u64(), Some(count));
        assert_eq!(value["response"]["count"].as_u64(), Some(count));
        assert!(value["response"]["p99_5_us"].is_u64());
        assert_eq!(value["response"]["lower_bounds"].as_array().unwrap().len(), 0);
        assert!((value["offered_rate"].as_f64().unwrap() - 500.0).abs() < 50.0);
        assert_eq!(value["verdict"]["level"].as_str(), Some("VALID"));
        assert_eq!(value["errors"]["by_kind"]["timeout"].as_u64(), Some(0));
        assert_eq!(value["runs"][0]["summary"]["rate"], value["rate"]);
        for (key, _) in value["runs"][0]["summary"].as_object().unwrap() {
            assert!(value.get(key).is_some(), "{key} is at the top, too");
        }
    }

    #[test]
    fn lower_bounds_are_named_and_counted() {
        let text =
            render(&[(sample::first_slices(sample::failing(500.0), 2), sample::outcomes(true))], &[99.95])
                .unwrap();
        let value: sonic_rs::Value = sonic_rs::from_str(&text).unwrap();
        let names: Vec<&str> = value["response"]["lower_bounds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        assert_eq!(names, ["mean_us", "p99_9_us", "p99_95_us", "p99_99_us", "max_us"]);
        assert!(value["response"]["bounds_count"].as_u64().unwrap() > 10);
        assert_eq!(value["connect_errors"]["by_kind"]["refused"].as_u64(), Some(7));
        assert_eq!(value["slo"][1]["met"].as_bool(), Some(false));
    }

    #[test]
    fn a_closed_loop_offers_null_and_no_samples_are_null() {
        let mut run = sample::first_slices(sample::calm(500.0), 2);
        run.total.connect.clear();
        let text = render(&[(run, Vec::new())], &[]).unwrap();
        let value: sonic_rs::Value = sonic_rs::from_str(&text).unwrap();
        assert!(value["offered_rate"].is_null());
        assert_eq!(value["connect"]["count"].as_u64(), Some(0));
        assert!(value["connect"]["p99_us"].is_null() && value["connect"]["max_us"].is_null());
    }

    #[test]
    fn several_runs_have_no_summary_at_the_top_and_none_is_no_error() {
        let text = render(
            &[
                (sample::first_slices(sample::calm(50.0), 2), Vec::new()),
                (sample::first_slices(sample::stalled(50.0), 2), Vec::new()),
            ],
            &[],
        )
        .unwrap();
        let value: sonic_rs::Value = sonic_rs::from_str(&text).unwrap();
        assert!(value.get("response").is_none());
        assert_eq!(value["runs"].as_array().unwrap().len(), 2);
        let value: sonic_rs::Value = sonic_rs::from_str(&render(&[], &[]).unwrap()).unwrap();
        assert_eq!(value["runs"].as_array().unwrap().len(), 0);
    }

    #[test]
    fn microseconds_round_to_nearest() {
        assert_eq!([0, 499, 500, 1_499, 1_500].map(micros), [0, 0, 1, 1, 2]);
    }
}
