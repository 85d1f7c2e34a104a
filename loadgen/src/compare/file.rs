//! Runs from files that `loadgen --json` wrote.
//!
//! # Rules
//! 1. A file is data from elsewhere: its size, its runs and their slices are bounded, and each thing that is
//!    wrong gives one line that names the file.
//! 2. [`read_sides`] holds one file and one slice at a time: dense histograms of a whole run are 1.5 MB a
//!    slice.
//!
//! Not here: writing (`report`).

use std::io::Read as _;

use serde::Deserialize;
use sonic_rs::LazyValue;

use super::replicate::Reducer;
use super::{Replicate, Side};
use crate::host::is_nested_within;
use crate::model::{self, Floor, HostUse, Provenance, Run, Settings, Slice, Verdict, WorkerUse};
use crate::record::Tally;

/// Bytes of a file: 5 runs of 1,000 slices take about 40 MB.
pub const FILE_LEN_MAX: u64 = 256 << 20;
/// Slices of a run in a file: a day of slices of 1 s, rounded down.
pub const SLICES_MAX: usize = 86_400;
/// Runs of a file.
const RUNS_MAX: usize = 100;
/// Sides of one comparison.
pub const SIDES_MAX: usize = 8;
/// Distinct latencies of all slices of a file, 24 bytes each: 400 MB. 5 runs of 100 slices have a million.
const ENTRIES_MAX: usize = 16 << 20;
/// Slices that [`read_runs`] takes, of all runs of a file: they stay in memory, 1.5 MB each.
const SLICES_HELD_MAX: usize = 4_096;

/// The keys of a file that are looked at.
#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    schema: Option<LazyValue<'a>>,
    #[serde(borrow, default)]
    runs: Option<LazyValue<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    data: LazyValue<'a>,
}

/// A [`Run`] whose slices are left for later.
#[derive(Deserialize)]
struct Head<'a> {
    settings: Settings,
    provenance: Provenance,
    measured_ns: u64,
    interrupted: bool,
    total: Tally,
    #[serde(borrow)]
    slices: Vec<LazyValue<'a>>,
    workers: Vec<WorkerUse>,
    host: HostUse,
    floor: Option<Floor>,
    verdict: Verdict,
}

impl<'a> Head<'a> {
    fn split(self) -> (Run, Vec<LazyValue<'a>>) {
        let Head {
            settings,
            provenance,
            measured_ns,
            interrupted,
            total,
            slices,
            workers,
            host,
            floor,
            verdict,
        } = self;
        let none = Vec::new();
        let run = Run {
            settings,
            provenance,
            measured_ns,
            interrupted,
            total,
            slices: none,
            workers,
            host,
            floor,
            verdict,
        };
        (run, slices)
    }
}

/// All runs of a file, whole.
///
/// # Errors
/// One line: the file cannot be read, is not a result of `loadgen`, has another schema, or is beyond a limit.
pub fn read_runs(path: &str) -> Result<Vec<Run>, String> {
    let bytes = read(path)?;
    let mut left = SLICES_HELD_MAX;
    each(path, &bytes, |mut run, slices| {
        left = left.checked_sub(slices.len()).ok_or_else(|| {
            format!("more than {SLICES_HELD_MAX} slices in all: measure with longer slices")
        })?;
        run.slices = slices.iter().map(slice).collect::<Result<_, _>>()?;
        Ok(run)
    })
}

/// The sides that arguments name: each is one file, or several joined by commas. Their names are the
/// arguments.
///
/// # Errors
/// As [`read_runs`]; or there are fewer than two arguments, or more than [`SIDES_MAX`].
pub fn read_sides(args: &[String]) -> Result<Vec<Side>, String> {
    if args.len() < 2 {
        return Err(format!("{} result to compare: name two or more, the base first", args.len()));
    }
    if args.len() > SIDES_MAX {
        return Err(format!("{} results to compare: {SIDES_MAX} are possible at once", args.len()));
    }
    args.iter().map(|arg| read_side(arg)).collect()
}

fn read_side(arg: &str) -> Result<Side, String> {
    let mut runs = Vec::new();
    for path in arg.split(',').map(str::trim) {
        if path.is_empty() {
            return Err(format!("'{arg}' names an empty file: join files by one comma, without spaces"));
        }
        let bytes = read(path)?;
        let mut entries = 0;
        runs.extend(each(path, &bytes, |run, slices| {
            let mut reducer = Reducer::default();
            for value in &slices {
                reducer.add(&slice(value)?);
                if entries + reducer.entries() > ENTRIES_MAX {
                    return Err(format!(
                        "the file has more than {ENTRIES_MAX} distinct latencies: split it by run"
                    ));
                }
            }
            entries += reducer.entries();
            Ok::<Replicate, String>(reducer.finish(&run))
        })?);
    }
    Ok(Side { name: arg.into(), runs })
}

/// A run from its JSON, if it has no more than `slices_max` slices.
///
/// # Errors
/// One line: it is no run, or is beyond the limit.
pub(crate) fn parse_run(text: &str, slices_max: usize) -> Result<Run, String> {
    let head: Head<'_> = sonic_rs::from_str(text).map_err(|error| first_line(&error))?;
    let (mut run, slices) = head.split();
    if slices.len() > slices_max {
        return Err(format!("{} slices, and {slices_max} are possible", slices.len()));
    }
    run.slices = slices.iter().map(slice).collect::<Result<_, _>>()?;
    Ok(run)
}

fn slice(value: &LazyValue<'_>) -> Result<Slice, String> {
    sonic_rs::from_str(value.as_raw_str()).map_err(|error| format!("a slice: {}", first_line(&error)))
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("{path}: {error}");
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(format!("{path}: larger than {} MiB, which no result is", FILE_LEN_MAX >> 20));
    }
    Ok(bytes)
}

/// Brackets within brackets that a file may have; a result has about ten. Parsers have no bound of their own.
const DEPTH_MAX: u32 = 64;

/// What a parser says, without the picture that it draws below.
pub(crate) fn first_line(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}

/// Gives each run of a file to `take`, its slices apart.
fn each<T>(
    path: &str,
    bytes: &[u8],
    mut take: impl FnMut(Run, Vec<LazyValue<'_>>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let foreign = |what: String| format!("{path}: not a result of `loadgen --json`: {what}");
    let text = std::str::from_utf8(bytes).map_err(|_| foreign("it is not UTF-8".into()))?;
    if !is_nested_within(text, DEPTH_MAX) {
        return Err(foreign(format!("it is nested more than {DEPTH_MAX} deep")));
    }
    let file: File<'_> = sonic_rs::from_str(text).map_err(|error| foreign(first_line(&error)))?;
    let schema = file.schema.ok_or_else(|| foreign("it has no `schema`".into()))?;
    let mine = model::SCHEMA;
    if schema.as_raw_str().trim() != mine.to_string() {
        let found = schema.as_raw_str().chars().take(40).collect::<String>();
        return Err(format!(
            "{path}: schema {found}, and this loadgen reads schema {mine}: \
             read it with the version that wrote it"
        ));
    }
    let runs = file.runs.ok_or_else(|| foreign("it has no `runs`".into()))?;
    let entries: Vec<LazyValue<'_>> =
        sonic_rs::from_str(runs.as_raw_str()).map_err(|error| foreign(first_line(&error)))?;
    if entries.is_empty() {
        return Err(format!("{path}: it holds no run"));
    }
    if entries.len() > RUNS_MAX {
        return Err(format!("{path}: {} runs, and {RUNS_MAX} are possible", entries.len()));
    }
    let mut all = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let wrong = |what: String| format!("{path}: run {}: {what}", at + 1);
        let entry: Entry<'_> =
            sonic_rs::from_str(entry.as_raw_str()).map_err(|error| wrong(first_line(&error)))?;
        let head: Head<'_> =
            sonic_rs::from_str(entry.data.as_raw_str()).map_err(|error| wrong(first_line(&error)))?;
        let (run, slices) = head.split();
        if slices.len() > SLICES_MAX {
            return Err(wrong(format!("{} slices, and {SLICES_MAX} are possible", slices.len())));
        }
        all.push(take(run, slices).map_err(wrong)?);
    }
    Ok(all)
}
