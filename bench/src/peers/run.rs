//! The order of things: load after load, round after round, server after server.
//!
//! # Rules
//! 1. A server that does not run, or answers wrongly, is out for the rest of that load; the others go on.
//!    Corelane must run wherever it is here: for it, that is as bad as a wrong answer.
//! 2. What was found of it until then is kept, with the reason beside it.
//! 3. An interrupted run has no result.
//!
//! Not here: a single sample (`sample`), the plan (`plan`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::client::Times;
use super::figures::{main_figure, median};
use super::loads::{Load, Mode, PEAK};
use super::model::{Kind, Row, Scenario};
use super::plan::{Progress, Step, What, clock, steps_of};
use super::sample::{self, Bench, Seen, sample};
use super::server::Trouble;
use super::subjects::{Part, Server, is_peer};
use super::syscalls;

/// What is to be measured, and how.
pub(super) struct Task {
    pub(super) servers: Vec<Server>,
    pub(super) loads: Vec<Load>,
    pub(super) quick: bool,
    pub(super) rounds: Option<u32>,
    pub(super) window_ms: Option<u64>,
    /// When later rounds are left out.
    pub(super) budget: Option<Duration>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) scenarios: Vec<Scenario>,
    pub(super) rows: Vec<Row>,
    pub(super) notes: Vec<String>,
    /// Answers that were wrong or missing, and a Corelane that did not run, one line each.
    pub(super) wrong: Vec<String>,
    pub(super) elapsed: Duration,
}

impl Task {
    fn times(&self, load: &Load) -> Times {
        sample::times(load, self.quick, self.window_ms)
    }

    /// Every step, in order.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, load) in self.loads.iter().enumerate() {
            let runs = |place: &usize| self.servers[*place].part(load) == Part::Runs;
            let servers: Vec<usize> = (0..self.servers.len()).filter(runs).collect();
            let rounds = self.rounds.unwrap_or(load.rounds[usize::from(!self.quick)]);
            let calls = counts_calls(load);
            steps.extend(steps_of(index, load, self.times(load), rounds, &servers, calls));
        }
        steps
    }

    /// A row for each server that has a part in each load, with the reason of those that cannot.
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for load in &self.loads {
            for server in &self.servers {
                let absent = match server.part(load) {
                    Part::Outside => continue,
                    Part::Cannot(why) => Some(why),
                    Part::Runs => None,
                };
                rows.push(Row {
                    subject: server.subject.name.clone(),
                    scenario: load.id.to_owned(),
                    absent,
                    answer_len: None,
                    syscalls: None,
                    samples: Vec::new(),
                });
            }
        }
        rows
    }
}

/// System calls are counted where requests come one by one, and where they come sixteen at a time.
fn counts_calls(load: &Load) -> bool {
    load.mode == Mode::Closed && [PEAK, "pipelined-16"].contains(&load.id)
}

/// A run under way.
struct Run<'r> {
    task: &'r Task,
    bench: &'r Bench<'r>,
    found: Found,
    progress: Progress,
    /// Where servers failed: their place in the list, by load.
    out: Vec<(usize, usize)>,
    /// Codes for which loadgen called windows invalid, and how many.
    invalid: BTreeMap<String, u32>,
    windows: u32,
    began: Instant,
}

/// Does all of it.
///
/// # Errors
/// The user ended it.
pub(super) fn measure(task: &Task, bench: &Bench<'_>) -> Result<Found, Trouble> {
    let steps = task.steps();
    let scenarios = task.loads.iter().map(Load::scenario).collect();
    let mut run = Run {
        task,
        bench,
        found: Found { scenarios, rows: task.rows(), ..Found::default() },
        progress: Progress::of(&steps),
        out: Vec::new(),
        invalid: BTreeMap::new(),
        windows: 0,
        began: Instant::now(),
    };
    eprintln!("{} steps, about {}", steps.len(), clock(run.progress.left()));
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        if run.is_out_of_time(step) {
            // The rest of the load: a round is whole, or it is not.
            let rest = steps[at..].iter().take_while(|other| other.load == step.load);
            at += run.leave_out(step, &rest.copied().collect::<Vec<_>>());
            continue;
        }
        run.step(step)?;
        at += 1;
    }
    Ok(run.end())
}

impl Run<'_> {
    /// Whether a new round begins for which there is no time.
    fn is_out_of_time(&self, step: &Step) -> bool {
        let Some(budget) = self.task.budget else { return false };
        let first = |what| match what {
            What::Round(round) => round > 1 && !self.is_under_way(step.load, round),
            What::Calls => false,
        };
        first(step.what) && self.began.elapsed() + self.progress.left() > budget
    }

    fn is_under_way(&self, load: usize, round: u32) -> bool {
        let id = self.task.loads[load].id;
        let mut rows = self.found.rows.iter().filter(|row| row.scenario == id);
        rows.any(|row| row.samples.len() >= round as usize)
    }

    /// Leaves out the rounds of `rest`, which is of one load; how many steps those are.
    fn leave_out(&mut self, first: &Step, rest: &[Step]) -> usize {
        let rounds: Vec<Step> = rest.iter().take_while(|step| step.what != What::Calls).copied().collect();
        rounds.iter().for_each(|step| self.progress.skipped(step));
        if let What::Round(round) = first.what {
            let id = self.task.loads[first.load].id;
            self.found.notes.push(format!("out of time: {id} has {} rounds only", round - 1));
        }
        rounds.len()
    }

    fn step(&mut self, step: &Step) -> Result<(), Trouble> {
        let (load, server) = (&self.task.loads[step.load], &self.task.servers[step.server]);
        let begin = Instant::now();
        let did = if self.out.contains(&(step.load, step.server)) {
            None
        } else {
            Some(match step.what {
                What::Round(_) => self.round(step, load, server)?,
                What::Calls => self.calls(load, server)?,
            })
        };
        self.bench.stop.check()?;
        match did {
            None => self.progress.skipped(step),
            Some(said) => {
                self.progress.done(step, begin.elapsed());
                let what = match step.what {
                    What::Round(round) => format!("round {round}"),
                    What::Calls => "system calls".to_owned(),
                };
                let name = &server.subject.name;
                eprintln!("{}  {} {what} {name}: {said}", self.progress.text(), load.id);
            }
        }
        Ok(())
    }

    /// One sample; what to say of it.
    fn round(&mut self, step: &Step, load: &Load, server: &Server) -> Result<String, Trouble> {
        let rate = self.rate_of(load);
        if load.kind() == Kind::Open && rate.is_none() {
            let why = format!("no rate: nothing was measured at {PEAK}");
            return Ok(self.take_out(step, why));
        }
        match sample(self.bench, server, load, self.task.times(load), rate) {
            Ok(seen) => Ok(self.keep(load, server, seen)),
            Err(Trouble::Interrupted) => Err(Trouble::Interrupted),
            Err(Trouble::Absent(why)) if is_peer(&server.subject) => Ok(self.take_out(step, why)),
            Err(Trouble::Absent(why) | Trouble::Wrong(why)) => {
                self.found.wrong.push(format!("{} at {}: {why}", server.subject.name, load.id));
                Ok(self.take_out(step, why))
            }
        }
    }

    fn calls(&mut self, load: &Load, server: &Server) -> Result<String, Trouble> {
        let calls = syscalls::per_request(self.bench, server, load, None)?;
        self.row(load, server).syscalls = calls;
        Ok(calls.map_or_else(|| "could not be counted".to_owned(), |calls| format!("{calls:.3}/request")))
    }

    fn keep(&mut self, load: &Load, server: &Server, seen: Seen) -> String {
        self.windows += 1;
        for code in seen.invalid {
            *self.invalid.entry(code).or_default() += 1;
        }
        let row = self.row(load, server);
        row.answer_len = Some(seen.answer_len);
        row.samples.push(seen.sample);
        let figure = main_figure(load.kind())(&seen.sample).unwrap_or_default();
        let said = match load.kind() {
            Kind::Closed => format!("{figure:.3} us/request"),
            Kind::Open => format!("P99 {figure:.0} us"),
            Kind::Download => format!("{figure:.3} s/GiB"),
            Kind::Idle => format!("{figure:.0} bytes/connection"),
        };
        match seen.sample.errors {
            0 => said,
            errors => format!("{said}, {errors} ERRORS"),
        }
    }

    /// A server that failed has no more rounds in this load.
    fn take_out(&mut self, step: &Step, why: String) -> String {
        let (load, server) = (&self.task.loads[step.load], &self.task.servers[step.server]);
        self.out.push((step.load, step.server));
        let said = why.clone();
        let row = self.row(load, server);
        let kept = row.samples.len();
        row.absent = Some(why);
        if kept > 0 {
            let note = format!("{} at {} after {kept} rounds: {said}", server.subject.name, load.id);
            self.found.notes.push(note);
        }
        said
    }

    fn row(&mut self, load: &Load, server: &Server) -> &mut Row {
        let name = &server.subject.name;
        let mut rows = self.found.rows.iter_mut();
        match rows.find(|row| row.scenario == load.id && row.subject == *name) {
            Some(row) => row,
            None => unreachable!("{name} runs at {}, so it has a row", load.id),
        }
    }

    /// The rate of an open loop: a share of the slowest peak; hand-written loops do not count.
    fn rate_of(&mut self, load: &Load) -> Option<f64> {
        let Mode::Open(percent) = load.mode else { return None };
        let limits =
            self.task.servers.iter().map(|server| &server.subject).filter(|subject| subject.is_limit);
        let limits: Vec<&str> = limits.map(|subject| subject.name.as_str()).collect();
        let rate = slowest(&self.found.rows, &limits)? * f64::from(percent) / 100.0;
        let mut scenarios = self.found.scenarios.iter_mut();
        if let Some(scenario) = scenarios.find(|scenario| scenario.id == load.id) {
            scenario.rate = Some(rate);
        }
        Some(rate)
    }

    fn end(mut self) -> Found {
        for row in &self.found.rows {
            let errors = super::figures::errors(row);
            if errors > 0 {
                let line =
                    format!("{} at {}: {errors} answers wrong, late or missing", row.subject, row.scenario);
                // A peer that cannot bear a load is a finding about it, not about this run.
                let mut subjects = self.task.servers.iter().map(|server| &server.subject);
                if subjects.any(|subject| subject.name == row.subject && is_peer(subject)) {
                    self.found.notes.push(format!("ERRORS: {line}"));
                } else {
                    self.found.wrong.push(line);
                }
            }
        }
        self.found.notes.extend(self.found.wrong.iter().map(|line| format!("WRONG: {line}")));
        if !self.invalid.is_empty() {
            let list: Vec<String> =
                self.invalid.iter().map(|(code, count)| format!("{code} in {count}")).collect();
            let note = format!("loadgen calls some of {} windows invalid: {}", self.windows, list.join(", "));
            self.found.notes.push(note);
        }
        self.found.elapsed = self.began.elapsed();
        self.found
    }
}

/// The smallest median rate at [`PEAK`] but for the subjects `left_out`; with nothing else, theirs.
fn slowest(rows: &[Row], left_out: &[&str]) -> Option<f64> {
    let at_peak = || rows.iter().filter(|row| row.scenario == PEAK);
    let is_whole = |row: &Row| row.absent.is_none() && super::figures::errors(row) == 0;
    let rate = |row: &Row| is_whole(row).then(|| median(row, |sample| sample.rate)).flatten();
    let peers = at_peak().filter(|row| !left_out.contains(&row.subject.as_str()));
    peers
        .filter_map(rate)
        .min_by(f64::total_cmp)
        .or_else(|| at_peak().filter_map(rate).min_by(f64::total_cmp))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::super::figures::tests::row;
    use super::super::loads;
    use super::super::subjects::{self, Places};
    use super::*;

    fn task(subjects: &[&str], loads: &[&str]) -> Task {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let places = Places { programs: PathBuf::from("/nonexistent"), peers: Vec::new() };
        Task {
            servers: subjects::chosen(&names(subjects), &places).unwrap(),
            loads: loads::chosen(&names(loads)).unwrap(),
            quick: true,
            rounds: None,
            window_ms: None,
            budget: None,
        }
    }

    #[test]
    fn what_cannot_run_is_a_row_and_no_step() {
        let task = task(&["limit-uring", "corelane-2", "hyper"], &["plaintext-64", "json-64"]);
        let rows = task.rows();
        let shown: Vec<_> = rows.iter().map(|row| (row.scenario.as_str(), row.subject.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("plaintext-64", "limit-uring"),
                ("plaintext-64", "hyper"),
                ("json-64", "limit-uring"),
                ("json-64", "hyper")
            ]
        );
        assert!(rows[0].absent.is_none() && rows[1..].iter().all(|row| row.absent.is_some()));
        // The rounds of the one that runs, and its system calls.
        let steps = task.steps();
        assert_eq!(steps.len(), task.loads[0].rounds[0] as usize + 1);
        assert!(steps.iter().all(|step| (step.load, step.server) == (0, 0)));
    }

    #[test]
    fn a_quick_run_with_everybody_is_planned_to_end_within_ten_minutes() {
        let mut task = task(&["all"], &["all"]);
        task.servers.iter_mut().for_each(|server| server.subject.absent = None);
        let left = Progress::of(&task.steps()).left();
        assert!(left < super::super::QUICK_MAX, "{left:?}");
    }

    #[test]
    fn the_rate_of_an_open_loop_follows_from_the_slowest_that_is_no_limit() {
        let rows = [
            row("limit-epoll", PEAK, &[20.0]),
            row("corelane", PEAK, &[5.0]),
            row("hyper", PEAK, &[8.0, 10.0, 12.0]),
            row("hyper", "plaintext-512", &[100.0]),
            row("nginx", PEAK, &[]),
        ];
        assert_eq!(slowest(&rows, &["limit-epoll"]), Some(1e5));
        assert_eq!(slowest(&rows[..1], &["limit-epoll"]), Some(5e4), "better than none");
        assert_eq!(slowest(&[], &[]), None);
    }
}
