//! One worker on one thread, for `valgrind --tool=callgrind`: the difference of two runs is user-space instructions
//! a request, whatever else the machine does.
//!
//! `client_icount http://127.0.0.1:PORT/PATH CONNECTIONS PIPELINE REQUESTS` asks at least that often in a closed loop and
//! prints how often it was. The server runs apart (`loadgen null`).
//!
//! Not here: threads, reports, judgement.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::net::ToSocketAddrs;

use corelane_pools::{PoolConfig, Pools};
use corelane_uring::{Features, Ring, RingConfig};
use loadgen::http1::Http1;
use loadgen::model::{RequestSpec, Slice};
use loadgen::worker::{Config, Slices, Stage, Traffic, Worker};

/// Slices go nowhere.
struct Nowhere;

impl Slices for Nowhere {
    fn exchange(&mut self, mut slice: Slice) -> Result<Slice, Slice> {
        slice.tally.clear();
        Ok(slice)
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, connections, pipeline, requests] = words.as_slice() else {
        eprintln!("usage: client_icount http://HOST:PORT/PATH CONNECTIONS PIPELINE REQUESTS");
        std::process::exit(2);
    };
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let request =
        RequestSpec { weight: 1, method: "GET".into(), path: format!("/{path}"), ..RequestSpec::default() };
    let protocol = Http1::new(&[request], host, 1, &[], false).unwrap();
    let connections: u32 = connections.parse().unwrap();
    let ring = Ring::new(&RingConfig {
        entries: 1024,
        completion_entries: 4096,
        recv_buffers: 256,
        recv_buffer_bytes: 4096,
        descriptors: connections + 64,
        without: Features::NONE,
    });
    let config = Config {
        target: host.to_socket_addrs().unwrap().next().unwrap(),
        sources: Vec::new(),
        connections,
        pipeline: pipeline.parse().unwrap(),
        traffic: Traffic::Closed { think_ns: 0, exponential: false },
        requests_per_connection: 0,
        ramp_ns: 0,
        warmup_ns: 0,
        duration_ns: 3_600_000_000_000,
        drain_ns: 1_000_000_000,
        timeout_ns: 60_000_000_000,
        slice_ns: 3_600_000_000_000,
        seed: 1,
        index: 0,
        of: 1,
        kinds: 1,
        busy_poll: false,
    };
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let mut worker = Worker::new(ring.unwrap(), pools, protocol, config);
    let wanted: u64 = requests.parse().unwrap();
    while worker.stage() != Stage::Done {
        worker.turn(&mut Nowhere).unwrap();
        if worker.stage() == Stage::Ready {
            worker.start(corelane_sys::clock::mono_ns());
        }
        if worker.counters().answers >= wanted {
            worker.stop();
        }
    }
    println!("{}", worker.counters().answers);
}
