//! Instructions of fixed inputs, and whether they rose: `bench icount`.
//!
//! The program runs itself under callgrind, once with few and once with many operations of a case. The difference is
//! the operations': start, set-up and end cancel out. A count hardly depends on the machine's load, so a rise of a few
//! percent shows where a time would not; what an instruction costs (a miss, a branch) it does not know.
//!
//! # Rules
//! 1. A case is measured in processes of its own: what ran before it does not change it.
//! 2. Only figures of the same compiler, target, libraries and tool are compared for success or failure.
//!
//! Reading order: `cases` what is counted, on `replay` where a shard is needed; `valgrind` one run; `figure`,
//! `baseline` and `report` what it means.
//!
//! Not here: times (`compare`, `mesh`), the kernel, the ring's part (`scripts/icount`).

mod baseline;
mod cases;
mod figure;
mod replay;
mod report;
mod valgrind;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use baseline::{Baseline, Environment};
use cases::Case;
use figure::{Figure, Percent};
use report::Verdict;
use valgrind::{Counted, Valgrind};

/// The checked-in baseline of this repository.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/icount.toml");

/// Runs that differ by more than this are remarked.
const SPREAD_MAX: &str = "0.5%";

/// What `icount` is asked to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this case, or those of a group (`h1/`); may be given several times.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// How much more than its baseline a case may take.
    #[arg(long, value_name = "PERCENT", default_value = "3%")]
    max_rise: Percent,
    /// Write what was measured as the new baseline.
    #[arg(long)]
    update: bool,
    /// Measure each case so often: the median counts, and the spread is shown.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// Print the cases and what each does; measure nothing.
    #[arg(long)]
    list: bool,
    /// The file of figures to compare with [default: bench/icount.toml of the repository this was built from]
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// What a child of `icount` is asked to do.
#[derive(clap::Args)]
pub(crate) struct CaseOptions {
    case: String,
    ops: u64,
}

/// Measures, prints the table, and says whether nothing rose.
///
/// # Errors
/// When it could not run: no valgrind, a case that fails, no baseline, a case that does not exist.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let cases = chosen(&options.cases)?;
    if options.list {
        return list(&cases).map(|()| true);
    }
    let path = options.baseline.as_deref().unwrap_or(Path::new(BASELINE));
    if options.update && options.baseline.is_none() && baseline::profile() != "release" {
        return Err(
            "the baseline holds figures of a release build: cargo run --release -p bench -- icount --update"
                .to_owned(),
        );
    }
    let whole = options.cases.is_empty();
    // Read before time is spent. Nothing of it is needed for a whole new one: it may be missing, or torn by a merge.
    let before = match Baseline::read(path) {
        Err(error) if !options.update || (!whole && path.exists()) => return Err(error),
        read => read.ok(),
    };
    let valgrind = Valgrind::find()?;
    let (figures, spreads, cpu) = measure(&valgrind, &cases, options.runs)?;
    let here = Environment::here(cpu, valgrind.version()?);
    if options.update {
        let next = updated(before.clone(), &here, &figures, whole)?;
        next.write(path)?;
        let empty = Baseline { environment: here, figures: Default::default() };
        let rows = report::compare(&figures, &before.unwrap_or(empty), whole, options.max_rise);
        print(&report::table(&rows, &spreads))?;
        eprintln!("icount: wrote {}: the commit says why figures changed", path.display());
        return Ok(true);
    }
    let Some(base) = before else { unreachable!("read above, or an error") };
    let rows = report::compare(&figures, &base, whole, options.max_rise);
    print(&report::table(&rows, &spreads))?;
    Ok(judge(&rows, &base.environment.differences(&here), options.max_rise))
}

/// Does a case, and says on which CPU. For a child under callgrind.
///
/// # Errors
/// When there is no such case, or the count is no multiple of a round.
pub(crate) fn run_case(options: &CaseOptions) -> Result<bool, String> {
    let case = cases::all().into_iter().find(|case| case.name == options.case);
    let case = case.ok_or_else(|| unknown(&options.case))?;
    if options.ops == 0 || !options.ops.is_multiple_of(cases::ROUND) {
        return Err(format!("{} operations: a multiple of {} is needed", options.ops, cases::ROUND));
    }
    print(&format!("{}\n", baseline::cpu()))?;
    (case.run)(options.ops);
    Ok(true)
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

fn list(cases: &[Case]) -> Result<(), String> {
    let lines = cases.iter().map(|case| format!("{:<24}{}\n", case.name, case.about));
    print(&lines.collect::<String>())
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = cases::all().iter().map(|case| case.name).collect();
    format!("there is no case `{name}`; there are {}", names.join(", "))
}

/// The cases of these names and groups, in the order of all; all where none is named.
fn chosen(names: &[String]) -> Result<Vec<Case>, String> {
    let fits =
        |case: &Case, name: &str| case.name == name || (name.ends_with('/') && case.name.starts_with(name));
    let all = cases::all();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|case| fits(case, name))) {
        return Err(unknown(name));
    }
    let named = |case: &Case| names.is_empty() || names.iter().any(|name| fits(case, name));
    Ok(all.into_iter().filter(named).collect())
}

type Measured<'c> = (Vec<(&'c str, Figure)>, Vec<String>, String);

/// The figure of each case, the spread of its runs where there are several, and the CPU that valgrind presents.
fn measure<'c>(valgrind: &Valgrind, cases: &'c [Case], runs: u8) -> Result<Measured<'c>, String> {
    let runs = usize::from(runs);
    // In this order, so that both halves of a figure are made about the same time.
    let jobs: Vec<(&Case, u64)> = cases
        .iter()
        .flat_map(|case| std::iter::repeat_n([(case, case.few()), (case, case.many())], runs).flatten())
        .collect();
    let counted = count_all(valgrind, &jobs)?;
    let mut figures = Vec::new();
    let mut spreads = Vec::new();
    for (case, counted) in cases.iter().zip(counted.chunks_exact(2 * runs)) {
        let both = counted.chunks_exact(2).map(|two| {
            Figure::between((two[0].instructions, case.few()), (two[1].instructions, case.many()))
        });
        let mut all =
            both.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{}: {error}", case.name))?;
        all.sort_unstable();
        let (least, most) = (all[0], all[runs - 1]);
        figures.push((case.name, all[runs / 2]));
        if runs > 1 {
            let unsteady = SPREAD_MAX.parse().is_ok_and(|limit| most.rose(least, limit));
            let mark = if unsteady { " UNSTEADY" } else { "" };
            spreads.push(format!("{}{mark}", most.change(least)));
        }
    }
    let cpu = counted.first().map_or_else(String::new, |counted| counted.cpu.clone());
    Ok((figures, spreads, cpu))
}

/// Runs all jobs, as many at a time as there are CPUs: a count does not depend on what else runs.
fn count_all(valgrind: &Valgrind, jobs: &[(&Case, u64)]) -> Result<Vec<Counted>, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((case, ops)) = jobs.get(at) else { return Ok(done) };
            match valgrind.count(at, case.name, *ops) {
                Ok(counted) => done.push((at, counted)),
                Err(error) => {
                    next.store(jobs.len(), Ordering::Relaxed);
                    return Err(format!("{}, {ops} times: {error}", case.name));
                }
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut all = Vec::with_capacity(jobs.len());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let done: Result<Vec<_>, String> =
                worker.join().unwrap_or_else(|_| Err("a thread that waits for valgrind panicked".to_owned()));
            all.extend(done?);
        }
        Ok::<(), String>(())
    })?;
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, counted)| counted).collect())
}

/// The baseline to be written: only what was measured, or also the rest of the one before.
fn updated(
    before: Option<Baseline>,
    here: &Environment,
    figures: &[(&str, Figure)],
    whole: bool,
) -> Result<Baseline, String> {
    let mut next = Baseline { environment: here.clone(), figures: Default::default() };
    if let Some(before) = before
        && !whole
    {
        let differences = before.environment.differences(here);
        if !differences.is_empty() {
            return Err(format!(
                "the other figures of the baseline were measured elsewhere ({}): update all cases",
                differences.join("; ")
            ));
        }
        next.figures = before.figures;
    }
    next.figures.extend(figures.iter().map(|(name, figure)| ((*name).to_owned(), *figure)));
    Ok(next)
}

/// Says what is wrong, to standard error; true where nothing is.
fn judge(rows: &[report::Row], differences: &[String], rise: Percent) -> bool {
    let named = |verdict: Verdict| {
        let names: Vec<&str> =
            rows.iter().filter(|row| row.verdict == verdict).map(|row| row.case.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let mut good = true;
    let again = "cargo run --release -p bench -- icount --update";
    if !differences.is_empty() {
        eprintln!("icount: WARNING: the baseline was measured elsewhere, so no rise is a failure here:");
        differences.iter().for_each(|difference| eprintln!("icount:   {difference}"));
    }
    if let Some(names) = named(Verdict::Rose) {
        eprintln!("icount: rose by more than {rise}: {names}");
        if differences.is_empty() {
            eprintln!("icount: if that is intended, run `{again}` and say why in the commit");
            good = false;
        }
    }
    if let Some(names) = named(Verdict::Fell) {
        eprintln!("icount: fell by more than {rise}: {names}; `{again}` keeps what was won");
    }
    if let Some(names) = named(Verdict::New) {
        eprintln!("icount: no baseline for {names}: `{again}`");
        good = false;
    }
    if let Some(names) = named(Verdict::Gone) {
        eprintln!("icount: the baseline has what is no case: {names}: `{again}`");
        good = false;
    }
    good
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_case_has_a_baseline_and_every_baseline_a_case() {
        let baseline = Baseline::read(Path::new(BASELINE)).unwrap();
        let mut cases: Vec<String> = cases::all().iter().map(|case| case.name.to_owned()).collect();
        cases.sort_unstable();
        assert_eq!(baseline.figures.keys().cloned().collect::<Vec<_>>(), cases);
        assert_eq!(baseline.environment.profile, "release");
    }

    #[test]
    fn a_case_is_chosen_by_name_or_with_its_group() {
        let names = |names: &[&str]| -> Result<Vec<&str>, String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Ok(chosen(&names)?.iter().map(|case| case.name).collect())
        };
        assert_eq!(
            names(&["pool/small", "lane/"]).unwrap(),
            ["lane/push-pop", "lane/push-pop-x16", "pool/small"]
        );
        assert_eq!(names(&[]).unwrap().len(), cases::all().len());
        let error = names(&["pool"]).unwrap_err();
        assert!(error.contains("`pool`") && error.contains("pool/small"), "{error}");
    }

    #[test]
    fn an_update_of_some_cases_keeps_the_others_but_not_those_measured_elsewhere() {
        let before = Baseline::read(Path::new(BASELINE)).unwrap();
        let here = before.environment.clone();
        let figures = [("pool/small", "1.5".parse().unwrap())];
        let next = updated(Some(before.clone()), &here, &figures, false).unwrap();
        assert_eq!(next.figures.len(), before.figures.len());
        assert_eq!(next.figures["pool/small"], figures[0].1);
        let whole = updated(Some(before.clone()), &here, &figures, true).unwrap();
        assert_eq!(whole.figures.len(), 1, "what is no case any more goes");
        let elsewhere = Environment { libc: "another".to_owned(), ..here };
        let error = updated(Some(before), &elsewhere, &figures, false).unwrap_err();
        assert!(error.contains("`another`"), "{error}");
    }
}
