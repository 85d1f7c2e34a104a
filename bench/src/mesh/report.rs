//! Samples to a table and to JSON.
//!
//! Not here: how samples are taken (`mod.rs`), medians and ranges (`ab::summary`).

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::{CAPACITY, Case, Options, PAUSE, Sample, Way};
use crate::ab::machine::Machine;
use crate::ab::summary::{OTHERS_SHARE_MAX, Spread, align};

/// All samples of one way in one case, one a round.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) case: Case,
    pub(crate) way: Way,
    pub(crate) samples: Vec<Sample>,
}

impl Series {
    pub(crate) fn new(case: Case, way: Way) -> Series {
        Series { case, way, samples: Vec::new() }
    }

    pub(crate) fn name(&self) -> String {
        format!("{} at {}", name(self.way), name(self.case))
    }

    fn spread(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(figure))
    }

    /// How many times as long this way takes as `base`: quotient of the medians, range of the quotients within
    /// each round.
    fn ratio(&self, base: &Series) -> Option<Spread> {
        let rounds = Spread::of(self.samples.iter().zip(&base.samples).map(|(own, base)| own.ns / base.ns))?;
        let median = self.spread(|s| Some(s.ns))?.median / base.spread(|s| Some(s.ns))?.median;
        Some(Spread { median, ..rounds })
    }
}

/// What `--json` holds.
#[derive(Serialize)]
pub(crate) struct Results<'r> {
    pub(crate) machine: &'r Machine,
    pub(crate) cpus: [usize; 2],
    pub(crate) rounds: u32,
    pub(crate) window_ms: u32,
    pub(crate) others_share: f64,
    pub(crate) series: &'r [Series],
}

fn name<T: ValueEnum>(value: T) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn title(case: Case) -> &'static str {
    match case {
        Case::CallAwake => "round trip of a call, both awake",
        Case::CallWakesTarget => "round trip of a call, target asleep, caller awake",
        Case::CallBothSleep => "round trip of a call, both sleep while they wait",
        Case::CallMany => "a call of 64 under way at once, both awake",
        Case::OneWayAwake => "messages one way, both awake",
        Case::OneWaySleeps => "messages one way, receiver sleeps when there is nothing",
    }
}

const COLUMNS: [&str; 7] = ["way", "ns", "min..max", "p99 ns", "ratio", "min..max", "M/s"];

fn row(series: &Series, base: &Series) -> Option<[String; 7]> {
    let ns = series.spread(|s| Some(s.ns))?;
    let ratio = series.ratio(base)?;
    let p99 = series.spread(|s| s.ns_p99).map_or_else(|| "-".to_owned(), |p99| format!("{:.0}", p99.median));
    let rate = if series.case.is_one_way() || series.case == Case::CallMany {
        format!("{:.1}", 1e3 / ns.median)
    } else {
        "-".to_owned()
    };
    Some([
        name(series.way),
        format!("{:.1}", ns.median),
        format!("{:.1}..{:.1}", ns.min, ns.max),
        p99,
        format!("{:.2}", ratio.median),
        format!("{:.2}..{:.2}", ratio.min, ratio.max),
        rate,
    ])
}

fn table(series: &[&Series]) -> String {
    let Some(base) = series.first() else { return String::new() };
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    lines.extend(series.iter().filter_map(|series| row(series, base)));
    align(&lines)
}

/// Prints the tables, and writes the samples where asked. `Ok(false)`: `--strict` was missed.
///
/// # Errors
/// If something cannot be written.
pub(crate) fn print(
    results: &Results<'_>,
    cases: &[Case],
    ways: &[Way],
    options: &Options,
) -> Result<bool, String> {
    if let Some(path) = &options.json {
        let text = sonic_rs::to_string_pretty(results).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let Machine { cpu, kernel, commit, date, command, .. } = results.machine;
    let [caller, target] = results.cpus;
    let mut text = format!(
        "machine  {cpu}; caller on CPU {caller}, target on CPU {target}\nkernel   {kernel}\ncommit   {commit}\n\
         date     {date}\ncommand  {command}\nrounds   {} of {} ms, interleaved; medians; ratio to {}\n\
         queues   {CAPACITY} places; {} us between calls to a sleeper\n",
        results.rounds,
        results.window_ms,
        ways.first().map_or_else(String::new, |&way| name(way)),
        PAUSE.as_micros(),
    );
    let mut passed = true;
    for &case in cases {
        let of: Vec<&Series> = results.series.iter().filter(|series| series.case == case).collect();
        text += &format!("\n{} ({})\n{}", title(case), name(case), table(&of));
        let Some(ours) = of.iter().find(|series| series.way == Way::Corelane) else { continue };
        for other in of.iter().filter(|other| !matches!(other.way, Way::Corelane | Way::Lane)) {
            let Some(ratio) = other.ratio(ours).filter(|ratio| ratio.median < 1.0) else { continue };
            passed = false;
            text += &format!("FASTER   {}: {:.2} of Corelane's time\n", other.name(), ratio.median);
        }
    }
    if results.others_share > OTHERS_SHARE_MAX {
        let percent = 100.0 * results.others_share;
        text += &format!(
            "NOISY    others used {percent:.0} % of the two CPUs in a round: repeat on a quiet machine\n"
        );
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(passed || !options.strict),
    }
}
