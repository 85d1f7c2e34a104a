//! Hooks of a shard whose tasks are all in use.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::io;
use std::sync::{Arc, Mutex};

use common::{limits, server};
use corelane::{App, Limits};

/// The log as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fill() {
    while let Ok(task) = corelane::spawn(std::future::pending::<()>()) {
        task.detach();
    }
}

#[test]
fn hooks_that_find_no_task_are_told_of_by_name() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let limits = Limits { tasks_max: 4, ..limits() };

    // Before the start hooks: the start fails, and says why.
    let start = server().limits(limits.clone()).start(|_| {
        fill();
        App::new(()).on_start(|_| async { Ok(()) })
    });
    let error = start.unwrap_err().to_string();
    assert!(error.contains("tasks_max"), "{error}");

    // Before the drain hooks: the log says that they were not run.
    let app = |_| App::new(()).on_drain(|_| async {});
    let node = server().limits(limits).start(app).unwrap();
    node.shards()[0].send(|_| fill()).unwrap();
    node.drain().unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.lines().any(|line| line.contains("drain hooks") && line.contains("tasks_max")), "{log}");
}
