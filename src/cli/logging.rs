//! The log: formatted where it happens, written by a thread of its own.
//!
//! Between the two stands a queue of [`LINES_MAX`] lines. When it is full a line is dropped and counted, never
//! waited for: a slow terminal or disk does not stop a shard. How many were dropped is logged while it runs
//! and said at the end.
//!
//! Not here: which lines there are.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use corelane::config::LogFormat;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

use super::{CannotRun, tell};

/// Lines that may wait to be written: a second of a warning for each request at a rate far beyond what
/// anybody reads. Full: the line is dropped and counted.
const LINES_MAX: usize = 8192;

/// How often dropped lines are looked for.
const WATCH_PERIOD: Duration = Duration::from_secs(5);

/// A log that runs. [`Logging::end`] writes what is queued.
pub(crate) struct Logging {
    writer: WorkerGuard,
    dropped: ErrorCounter,
    reported: Arc<AtomicUsize>,
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Starts the log to standard error, for the whole process.
///
/// # Errors
/// A filter that is not understood, or no thread for it.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<Logging, CannotRun> {
    let filter: Targets = filter.parse()?;
    let (lines, writer) = queue(std::io::stderr(), LINES_MAX);
    let dropped = lines.error_counter();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colors = std::io::stderr().is_terminal() && !no_color;
    tracing::subscriber::set_global_default(subscriber(lines, filter, format, colors))?;
    std::panic::set_hook(Box::new(log_panic));

    let (stop, stopped) = bounded::<()>(1);
    let reported = Arc::new(AtomicUsize::new(0));
    let (counter, told) = (dropped.clone(), Arc::clone(&reported));
    let thread = std::thread::Builder::new().name("log-watch".to_owned()).spawn(move || {
        while stopped.recv_timeout(WATCH_PERIOD) == Err(RecvTimeoutError::Timeout) {
            report(&counter, &told);
        }
    })?;
    Ok(Logging { writer, dropped, reported, watch: Some((stop, thread)) })
}

impl Logging {
    /// Writes what is queued, and says how many lines were dropped since that was last said.
    pub(crate) fn end(mut self) {
        if let Some((stop, thread)) = self.watch.take() {
            drop(stop);
            drop(thread.join());
        }
        drop(self.writer);
        let left = self.dropped.dropped_lines() - self.reported.load(Ordering::Relaxed);
        if left > 0 {
            tell(format_args!("corelane: {left} log lines were dropped: the queue of {LINES_MAX} was full"));
        }
    }
}

fn report(dropped: &ErrorCounter, reported: &AtomicUsize) {
    let now = dropped.dropped_lines();
    let before = reported.load(Ordering::Relaxed);
    if now > before {
        tracing::warn!(lines = now - before, in_all = now, "log lines were dropped: the queue was full");
        // If this one was dropped as well, the next report counts from before it.
        if dropped.dropped_lines() == now {
            reported.store(now, Ordering::Relaxed);
        }
    }
}

fn queue(to: impl Write + Send + 'static, lines_max: usize) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(lines_max).lossy(true).thread_name("log").finish(to)
}

fn subscriber(
    lines: NonBlocking,
    filter: Targets,
    format: LogFormat,
    colors: bool,
) -> impl Subscriber + Send + Sync + 'static {
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => layer.with_ansi(colors).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    Registry::default().with(layer.with_filter(filter))
}

/// A panic goes the way of every other line: the default hook would write from the shard itself.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let text = info.payload_as_str().unwrap_or("no text");
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(thread = thread.name().unwrap_or("unnamed"), place, "panicked: {text}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Takes lines only while it is let.
    struct Gate(crossbeam_channel::Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _closed = self.0.recv().is_err();
            drop(self.1.send(bytes.to_vec()));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_lines_and_never_waits() {
        let (open, gate) = bounded::<()>(0);
        let (written, lines) = bounded(100);
        let (queue, guard) = queue(Gate(gate, written), 4);
        let dropped = queue.error_counter();
        let subscriber = subscriber(queue, "info".parse().unwrap(), LogFormat::Text, false);
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..100 {
                tracing::info!(n, "line");
                tracing::debug!(n, "filtered");
            }
        });
        let lost = dropped.dropped_lines();
        // Four wait; one more may be in the hands of the writer.
        assert!((95..=96).contains(&lost), "{lost}");
        drop(open);
        let lines: Vec<Vec<u8>> = lines.iter().take(100 - lost).collect();
        let lines: Vec<String> = lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        drop(guard);
        assert!(lines[0].contains("INFO") && lines[0].contains("line n=0"), "{}", lines[0]);
    }

    #[test]
    fn json_lines_are_objects_with_their_fields_at_the_top() {
        let (written, lines) = bounded(16);
        let (queue, guard) = queue(Gate(bounded(0).1, written), 16);
        let subscriber = subscriber(queue, "info".parse().unwrap(), LogFormat::Json, true);
        tracing::subscriber::with_default(subscriber, || tracing::warn!(shard = 3, "odd \"text\""));
        let line = lines.recv().unwrap();
        drop(guard);
        let value: sonic_rs::Value = sonic_rs::from_slice(&line).unwrap();
        use sonic_rs::{JsonContainerTrait, JsonValueTrait};
        assert!(value.is_object() && value.as_object().is_some());
        assert_eq!(value["shard"].as_i64(), Some(3));
        assert_eq!(value["message"].as_str(), Some("odd \"text\""));
        assert_eq!(value["level"].as_str(), Some("WARN"));
    }
}
