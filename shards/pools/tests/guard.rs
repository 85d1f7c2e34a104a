//! Guard mode kills who touches a returned buffer: shown in a child process, which must die of SIGSEGV.
#![allow(clippy::unwrap_used)]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use corelane_pools::{LARGE_LEN, MEDIUM_LEN, PoolConfig, Pools, SMALL_LEN};

/// Number of SIGSEGV on Linux (signal(7)).
const SIGSEGV: i32 = 11;

/// Set in the child: the length of the buffer, and whether to return it before the read.
const CHILD: &str = "CORELANE_GUARD_CHILD";

/// What the child runs; does nothing as an ordinary test.
#[test]
fn the_child_reads_what_it_was_told_to() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (len, when) = order.split_once(' ').unwrap();
    let pools = Pools::new(&PoolConfig { guard: true, ..PoolConfig::default() }).unwrap();
    // Neighbours stay lent: a slot is guarded alone, though small ones are shorter than a page.
    let len: usize = len.parse().unwrap();
    let (mut before, mut buf, mut after) =
        (pools.get(len).unwrap(), pools.get(len).unwrap(), pools.get(len).unwrap());
    buf.put(b"live");
    let start = buf.as_ptr();
    let kept = if when == "returned" {
        drop(buf);
        None
    } else {
        Some(buf)
    };
    before.resize_zeroed(len);
    after.resize_zeroed(len);
    // SAFETY: the address is mapped as long as `pools` lives. Whether it may be read is the question here.
    let byte = unsafe { start.read_volatile() };
    assert_eq!(byte, b'l');
    drop(kept);
}

fn run_child(len: usize, when: &str) -> std::process::ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_reads_what_it_was_told_to", "--test-threads=1"])
        .env(CHILD, format!("{len} {when}"))
        .output()
        .unwrap()
        .status
}

#[test]
fn a_read_after_the_return_faults_in_every_tier() {
    for len in [SMALL_LEN, MEDIUM_LEN, LARGE_LEN] {
        assert_eq!(run_child(len, "returned").signal(), Some(SIGSEGV), "{len}");
    }
}

#[test]
fn a_read_before_the_return_does_not() {
    for len in [SMALL_LEN, MEDIUM_LEN, LARGE_LEN] {
        assert!(run_child(len, "lent").success(), "{len}");
    }
}
