//! What the tests of the whole program share: an application, nodes to serve it, a client of their own.
//!
//! A test starts what it needs on port 0 and ends it: a [`Node`] in this process drains when it is dropped,
//! a [`Process`] is killed. Nothing here asks how many CPUs there are.
//!
//! Not here: the assertions.

// Each test program uses its part of this; tests have a clock of their own.
#![allow(dead_code, unused_imports, clippy::disallowed_methods)]

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod node;
pub(crate) mod process;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) use app::{app, pattern};
pub(crate) use client::{Answer, Client, Cut};
pub(crate) use node::{Node, limits, server};
pub(crate) use process::{Process, redis_server, tool};

/// How long anything may take that only a fault can delay. The hosts of these tests are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until it is so. Panics with `what` when it never is.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "after {PATIENCE:?} it is still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sockets of a listening port that a process still owns: every state but LISTEN, TIME_WAIT and orphans.
pub(crate) fn sockets(addr: SocketAddr) -> usize {
    let port = format!(":{:04X}", addr.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel lists its sockets");
    let owned = |line: &&str| {
        // sl local remote state queues timer retransmits uid timeout inode
        let mut columns = line.split_ascii_whitespace();
        let here = columns.nth(1).is_some_and(|local| local.ends_with(&port));
        let state = columns.nth(1).unwrap_or_default();
        here && !matches!(state, "0A" | "06") && columns.nth(5).is_some_and(|inode| inode != "0")
    };
    table.lines().skip(1).filter(owned).count()
}
