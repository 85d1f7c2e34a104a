//! Micro benches of the system calls that a turn, or a wake of another thread, makes.
//!
//! Not here: the ring's own calls (`uring`).

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use std::net::SocketAddr;

use corelane_sys::{EventFd, RawAddr};
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// `CLOCK_MONOTONIC`, once a turn and once more before a sleep.
#[divan::bench]
fn read_the_clock() -> u64 {
    corelane_sys::clock::mono_ns()
}

#[divan::bench]
fn ask_for_the_cpu() -> usize {
    corelane_sys::cpu::current_cpu().unwrap()
}

/// What a thread pays that wakes a shard: one write(2). Nobody waits.
#[divan::bench]
fn notify_an_event(bencher: Bencher<'_, '_>) {
    let event = EventFd::new().unwrap();
    bencher.bench_warm(|| event.notify());
    assert!(event.drain() > 0);
}

#[divan::bench]
fn notify_and_drain_an_event(bencher: Bencher<'_, '_>) {
    let event = EventFd::new().unwrap();
    bencher.bench_warm(|| {
        event.notify();
        assert_eq!(event.drain(), 1);
    });
}

/// From a socket address to what the kernel takes, and back: a connect, and an accept that asks for the peer.
#[divan::bench(args = ["v4", "v6"])]
fn convert_an_address(bencher: Bencher<'_, '_>, family: &str) {
    let text = if family == "v4" { "203.0.113.207:56324" } else { "[2001:db8::8a2e:370:7334]:56324" };
    let addr: SocketAddr = text.parse().unwrap();
    bencher.bench_warm(|| {
        let raw = RawAddr::from(black_box(addr));
        assert_eq!(raw.to_socket_addr(), Some(addr));
    });
}
