//! What was found, as text, and the targets.
//!
//! Not here: measuring.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use super::{Command, Found, Load, Row, Sample};
use crate::ab::summary::{OTHERS_SHARE_MAX, Spread, align};

/// Writes the result to standard output; a reader that has gone is no error.
///
/// # Errors
/// It could not be written.
pub(super) fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

impl Found {
    fn row(&self, load: Load, subject: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.load == load && row.subject == subject)
    }

    fn cpu_us(&self, load: Load, subject: &str) -> Option<f64> {
        Some(self.row(load, subject)?.spread(|sample| sample.cpu_us)?.median)
    }

    fn ratio(&self, load: Load, subject: &str, base: &str) -> Option<f64> {
        Some(self.cpu_us(load, subject)? / self.cpu_us(load, base)?)
    }

    fn loads(&self) -> Vec<Load> {
        let mut loads: Vec<Load> = Vec::new();
        for row in &self.rows {
            if !loads.contains(&row.load) {
                loads.push(row.load);
            }
        }
        loads
    }
}

impl Row {
    fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(figure))
    }
}

/// All of it, and whether every target that can be judged was met.
pub(super) fn text(found: &Found) -> (String, bool) {
    let machine = &found.machine;
    let mut text = format!(
        "{}, {}, TCP {}\ncommit {}, {}\n{}\nserver on CPU {}, client on CPU {}; medians of {} interleaved rounds, \
         smallest and largest in brackets\n\n",
        machine.cpu,
        machine.kernel,
        machine.tcp,
        machine.commit,
        machine.date,
        machine.command,
        found.cpus[0],
        found.cpus[1],
        found.rounds,
    );
    for (name, what) in &found.subjects {
        let what = what.as_ref().map_or_else(|why| format!("not here: {why}"), Clone::clone);
        let _ = writeln!(text, "{name}: {what}");
    }
    for load in found.loads() {
        let _ = write!(text, "\n{}", table(found, load));
    }
    let _ = write!(text, "\n{}", memory(found));
    let (targets, met) = targets(found);
    let _ = write!(text, "\n{targets}");
    let others = found.rows.iter().flat_map(|row| &row.samples).map(|sample| sample.others_share);
    let most = others.fold(0.0, f64::max);
    if most > OTHERS_SHARE_MAX {
        let _ = writeln!(
            text,
            "\nothers used up to {:.0} % of one of the CPUs: measure again at rest",
            most * 1e2
        );
    }
    (text, met)
}

fn table(found: &Found, load: Load) -> String {
    let name = if load.command == Command::Get { "GET" } else { "SET" };
    let titles =
        [&format!("{name}, P={}", load.pipeline), "CPU us", "", "ops/s", "P50 us", "P99 us", "to redis"];
    let mut lines = vec![titles.map(|title| title.to_owned())];
    for row in found.rows.iter().filter(|row| row.load == load) {
        let Some(cpu) = row.spread(|sample| sample.cpu_us) else { continue };
        let median = |figure: fn(&Sample) -> f64| row.spread(figure).map_or(0.0, |spread| spread.median);
        lines.push([
            row.subject.clone(),
            format!("{:.3}", cpu.median),
            format!("[{:.3} {:.3}]", cpu.min, cpu.max),
            format!("{:.0}", median(|sample| sample.commands_per_s)),
            format!("{:.0}", median(|sample| sample.p50_us)),
            format!("{:.0}", median(|sample| sample.p99_us)),
            found.ratio(load, &row.subject, "redis").map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    align(&lines)
}

fn memory(found: &Found) -> String {
    let titles = ["memory of a small entry, bytes", "resident", "as it counts"];
    let mut lines = vec![titles.map(str::to_owned)];
    for (name, memory) in &found.memory {
        lines.push([name.clone(), format!("{:.0}", memory.resident), format!("{:.0}", memory.counted)]);
    }
    align(&lines)
}

/// What the project promises of the cache, and what was found.
fn targets(found: &Found) -> (String, bool) {
    let mut judged: Vec<(String, Option<f64>, f64)> = Vec::new();
    for (pipeline, bound) in [(1, 0.75), (16, 0.50), (64, 0.45)] {
        for (name, command) in [("GET", Command::Get), ("SET", Command::Set)] {
            let ratio = found.ratio(Load { command, pipeline }, "corelane", "redis");
            judged.push((format!("CPU of a {name} at P={pipeline}, to redis"), ratio, bound));
        }
    }
    for (name, command) in [("GET", Command::Get), ("SET", Command::Set)] {
        let ratio = found.ratio(Load { command, pipeline: 16 }, "corelane-2", "corelane");
        judged.push((format!("CPU of a {name} at P=16, two shards to one"), ratio, 1.35));
    }
    let resident =
        |name: &str| found.memory.iter().find(|(subject, _)| subject == name).map(|(_, m)| m.resident);
    let ratio = resident("corelane").zip(resident("redis")).map(|(ours, redis)| ours / redis);
    judged.push(("memory of a small entry, to redis".to_owned(), ratio, 1.0));
    let mut lines = vec![["target", "at most", "found", ""].map(str::to_owned)];
    let mut met = true;
    for (what, ratio, bound) in judged {
        let verdict = match ratio {
            Some(ratio) if ratio <= bound => "met",
            Some(_) => "MISSED",
            None => "not measured",
        };
        met &= verdict != "MISSED";
        let shown = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        lines.push([what, format!("{bound:.2}"), shown, verdict.to_owned()]);
    }
    (align(&lines), met)
}
