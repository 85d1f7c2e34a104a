//! `loadgen URL`: measure, report, judge.
//!
//! Not here: measuring with others (`agents`).

use super::args::RunArgs;
use super::output::{self, is_stdout};
use super::progress::tell;
use super::session::Session;
use super::{Exit, settings};
use crate::model::{Level, Outcome, Run, Settings};
use crate::report::text;
use crate::slo::{self, Slo};

/// Measurements in a row at most.
const REPEAT_MAX: u32 = 1_000;

/// The settings of a command line that has a URL.
///
/// # Errors
/// What cannot work.
pub(crate) fn settings_of(args: &RunArgs) -> Result<Settings, String> {
    let url =
        args.url.as_deref().ok_or("no URL: write loadgen http://HOST:PORT/PATH (or see loadgen --help)")?;
    settings::settings(url, &args.traffic, &args.http, &args.others, &args.host)
}

/// How a run ends: an invalid measurement neither meets nor misses anything.
pub(crate) fn exit_of(run: &Run, outcomes: &[Outcome]) -> Exit {
    if run.verdict.level == Level::Invalid {
        Exit::Invalid
    } else if !outcomes.is_empty() && !slo::met(outcomes) {
        Exit::Missed
    } else {
        Exit::Done
    }
}

/// # Errors
/// Why nothing was measured, or not all could be written.
pub(crate) fn run(args: &RunArgs, command: &str) -> Result<Exit, String> {
    let settings = settings_of(args)?;
    let slo = args.output.slo.as_deref().map(Slo::parse).transpose()?;
    output::check(&args.output)?;
    let count = args.output.repeat;
    if !(1..=REPEAT_MAX).contains(&count) {
        return Err(format!("--repeat {count} cannot work: it goes from 1 to {REPEAT_MAX}"));
    }
    let session = Session::new(command, args.output.quiet)?;
    let look = output::look(args.output.color, output::percentiles(&args.output.percentiles)?);
    let files =
        [&args.output.json, &args.output.html, &args.output.hgrm, &args.output.hlog, &args.output.csv];
    let data_on_stdout = files.into_iter().flatten().any(|path| is_stdout(path));
    let mut runs = Vec::new();
    let (mut exit, mut printed) = (Exit::Done, Ok(()));
    for index in 1..=count {
        let label = if count > 1 { format!("[{index}/{count}] ") } else { String::new() };
        let host = &args.host;
        let measured = match host.agents.as_slice() {
            [] => session.measure(&settings, &label),
            agents => session.measure_with(agents, host.token_file.as_deref(), &settings, &label),
        };
        let run = match measured {
            // What was measured before is not lost with this one.
            Err(error) if session.asked.any() && !runs.is_empty() => {
                tell(&format!("{label}{error}"));
                break;
            }
            Err(error) => {
                if !runs.is_empty() {
                    output::write_all(&args.output, &runs)?;
                }
                return Err(error);
            }
            Ok(run) => run,
        };
        let outcomes = slo.as_ref().map(|slo| slo.check(&run)).unwrap_or_default();
        exit = exit.max(exit_of(&run, &outcomes));
        let report = text::render(&run, &outcomes, &look);
        if data_on_stdout {
            tell(report.trim_end());
        } else {
            // Where the terminal takes no more, files still may.
            printed = printed.and(output::print(&report));
        }
        runs.push((run, outcomes));
        if session.asked.any() {
            break;
        }
    }
    output::write_all(&args.output, &runs)?;
    printed?;
    Ok(exit)
}
