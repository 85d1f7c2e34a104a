//! What the tests of the program share: running it, reading what it says, servers for it to talk to.
//!
//! Every child is bounded in time and ended by its process number. A test that needs a tool others wrote and
//! does not find it fails on a build machine and says that it is skipped elsewhere ([`tool`]).
//!
//! Not here: the assertions.

// Tests wait for the outside, and have a clock and locks of their own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod child;
mod others;
mod ran;
mod server;

use std::time::{Duration, Instant};

pub(crate) use child::{Child, null_server};
pub(crate) use others::{Nginx, Python, Redis, corelane, tool};
pub(crate) use ran::{At, Ran, level_of, loadgen, parse, run, run_within};
pub(crate) use server::{Reply, Server};

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

/// A port of loopback that nobody listens on just now.
pub(crate) fn free_port() -> u16 {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    bound.local_addr().expect("a bound socket has an address").port()
}

/// A directory of a test's own.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written")
}
