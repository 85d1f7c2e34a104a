//! What is seen while a run is under way: a line that is redrawn on a terminal, a line a second elsewhere.
//!
//! Everything goes to standard error; it may be closed without harm.
//!
//! Not here: the report (`report`).

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::signals::Asked;
use crate::engine::{Order, Watch};
use crate::model::{Settings, Slice, per_second};
use crate::record::{Latency, Value};
use crate::units;
use crate::worker::Stage;

/// How often a line is printed where none can be redrawn, ns.
const LINE_NS: u64 = 1_000_000_000;

/// Talks to the person at the terminal. A closed pipe is no error.
pub(crate) fn tell(line: &str) {
    drop(writeln!(stderr(), "{line}"));
}

/// The progress of one run.
pub(crate) struct Progress {
    asked: Asked,
    label: String,
    total_ns: u64,
    warmup_ns: u64,
    bar: Option<ProgressBar>,
    quiet: bool,
    said_opening: bool,
    said_stop: bool,
    /// What came since the last line.
    since: Slice,
    response: Latency,
    errors: u64,
}

impl Progress {
    /// `label` goes before everything: which run of several it is.
    pub(crate) fn new(settings: &Settings, asked: Asked, quiet: bool, label: &str) -> Progress {
        let bar = (!quiet && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{prefix}{bar:20} {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(label.to_owned());
            bar
        });
        Progress {
            asked,
            label: label.to_owned(),
            total_ns: settings.duration_ns,
            warmup_ns: settings.warmup_ns,
            bar,
            quiet,
            said_opening: false,
            said_stop: false,
            since: Slice::default(),
            response: Latency::default(),
            errors: 0,
        }
    }

    /// Clears the line.
    pub(crate) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None if self.quiet => {}
            None => tell(&format!("{}{text}", self.label)),
        }
    }
}

fn percentile(latency: &Latency, percent: f64) -> String {
    latency.percentile(percent).map_or_else(|| "-".into(), |value: Value| units::value(value))
}

impl Watch for Progress {
    fn order(&mut self) -> Order {
        let order = self.asked.order();
        if order != Order::GoOn && !self.said_stop {
            self.said_stop = true;
            let text = "ending early: waiting for answers; Ctrl-C again to end at once";
            match &self.bar {
                Some(bar) => bar.set_message(text),
                None => tell(text),
            }
        }
        order
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("{}note: {text}", self.label)),
            None => tell(&format!("{}note: {text}", self.label)),
        }
    }

    fn opening(&mut self, open: u32, of: u32) {
        if self.bar.is_some() {
            self.say(&format!("opening connections: {open} of {of}"));
        } else if !self.said_opening && of >= 1000 {
            self.said_opening = true;
            self.say(&format!("opening {of} connections"));
        }
    }

    fn stage(&mut self, stage: Stage) {
        match stage {
            Stage::WarmUp if self.warmup_ns > 0 => {
                self.say(&format!("warming up for {}", units::duration(self.warmup_ns)));
            }
            Stage::Drain if self.bar.is_some() => self.say("waiting for the last answers"),
            _ => {}
        }
        if let Some(bar) = &self.bar
            && stage == Stage::WarmUp
        {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    fn slice(&mut self, slice: &Slice) {
        // The last slice is what came after the window.
        if self.quiet || slice.start_ns >= self.total_ns {
            return;
        }
        self.since.len_ns += slice.len_ns;
        self.since.tally.counts.merge(&slice.tally.counts);
        self.response.merge(&slice.tally.response);
        self.errors += slice.tally.errors.total();
        let done = slice.start_ns + slice.len_ns;
        // On a terminal half as often again: what a person can follow.
        let every = if self.bar.is_some() { LINE_NS / 2 } else { LINE_NS };
        if self.since.len_ns < every && done < self.total_ns {
            return;
        }
        let left = self.total_ns.saturating_sub(done);
        let rate = per_second(self.since.tally.counts.completed, self.since.len_ns);
        let text = format!(
            "{:>4.1} s  {}  p50 {}  p99 {}  errors {}  {:.0} s left",
            done as f64 / 1e9,
            units::rate(rate),
            percentile(&self.response, 50.0),
            percentile(&self.response, 99.0),
            self.errors,
            left as f64 / 1e9
        );
        if let Some(bar) = &self.bar {
            bar.set_position(done.min(self.total_ns) * 1000 / self.total_ns.max(1));
        }
        if !self.said_stop {
            self.say(&text);
        }
        self.since = Slice::default();
        self.response.clear();
    }
}
