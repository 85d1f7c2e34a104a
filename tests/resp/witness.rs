//! Who stands by while a hostile client is at work: a good client, and the memory of the server.
//!
//! # Rules
//! 1. The good client never stops asking; the longest it waited is known.
//! 2. Memory is resident memory: of the whole process from `/proc/PID/statm`, at its highest from `/proc/PID/status`.
//!
//! Not here: what the hostile client does.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Subject;
use super::value::Value;

/// How long the good client may wait once. The hosts of these tests are busy, and the server is not optimised: a hash of
/// some MiB takes it tens of milliseconds.
pub(crate) const GENEROUS: Duration = Duration::from_secs(15);

/// Bytes of a page, as statm counts.
const PAGE: u64 = 4096;

/// A good client, and what the server took meanwhile.
#[derive(Debug)]
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    good: JoinHandle<(u32, Duration)>,
    id: u32,
    before: u64,
}

impl Witness {
    /// Begins. The highest memory is that from here on.
    #[track_caller]
    pub(crate) fn of(subject: &Subject) -> Witness {
        let id = subject.id().expect("a child of this test");
        let before = resident(id);
        // proc(5): 5 sets the peak to what it is now.
        fs::write(format!("/proc/{id}/clear_refs"), "5").expect("it is a child");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, addr) = (Arc::clone(&stop), subject.addr);
        let good = thread::spawn(move || {
            let mut client = super::Conn::open(addr);
            let (mut count, mut longest) = (0, Duration::ZERO);
            // Once at least, however soon it is over.
            loop {
                let (start, text) = (Instant::now(), count.to_string());
                // Over all shards, and every tenth on a connection of its own.
                if count % 10 == 9 {
                    client = super::Conn::open(addr);
                }
                let key = format!("good:{}", count % 16);
                assert_eq!(client.ask(&["SET", &key, &text]), Value::ok());
                assert_eq!(client.ask(&["STRLEN", &key]).int(), i64::try_from(text.len()).ok());
                longest = longest.max(start.elapsed());
                count += 1;
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
            (count, longest)
        });
        Witness { stop, good, id, before }
    }

    /// Ends: the good client was served all the time, and the server never took `grown` bytes more than before. Gives
    /// how often it asked.
    #[track_caller]
    pub(crate) fn ends(self, what: &str, grown: u64) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let (count, longest) = self.good.join().expect("the good client is served");
        let peak = peak(self.id);
        eprintln!(
            "{what}: the good client asked {count} times and once waited {longest:?}; {} MiB, at most {} MiB",
            self.before >> 20,
            peak >> 20
        );
        assert!(count > 0 && longest < GENEROUS, "{what}: the good client once waited {longest:?}");
        assert!(
            peak <= self.before + grown,
            "{what}: from {} bytes to {peak}, more than {grown} on top",
            self.before
        );
        count
    }
}

/// Resident memory of a process, bytes.
pub(crate) fn resident(id: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{id}/statm")).expect("it runs");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second is resident") * PAGE
}

/// The most that was resident, bytes.
fn peak(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM is there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
