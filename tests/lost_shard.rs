//! What the control thread says of shards that have ended.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{limits, server};
use corelane::App;

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

/// State that takes its time to be dropped.
struct Slow(bool);

impl Drop for Slow {
    fn drop(&mut self) {
        if self.0 {
            std::thread::sleep(Duration::from_millis(2_500));
        }
    }
}

#[test]
fn a_shard_that_has_ended_is_not_said_to_stand_still_while_another_one_ends() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    // Twice this is longer than a busy host keeps a shard from its CPU, and far shorter than the other one takes.
    let limits = corelane::Limits { stall_time: Duration::from_millis(500), ..limits() };
    let node = server().shards(2).limits(limits).start(|shard| App::new(Slow(shard.id.0 == 1))).unwrap();
    node.drain().unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("shard 0 has"), "{log}");
}
