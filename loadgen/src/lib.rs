//! `loadgen`: a load generator whose numbers can be believed.
//!
//! It sends requests over sockets of its own io_uring, by a schedule that knows nothing of answers or as fast as
//! connections are answered; it keeps every request, the unanswered ones as lower bounds; and it judges each run:
//! VALID, SUSPECT or INVALID, with reasons. `docs/LOADGEN.md` says what the figures mean and how they mislead, to
//! those who use the program.
//!
//! # Reading order
//! 1. What a run is: [`model`] (what is asked, what is found), [`record`] (latencies with lower bounds).
//! 2. How it is made: [`plan`] (when requests are due), [`protocol`] with [`http1`], [`resp`] and [`echo`] (what is
//!    sent, where an answer ends), [`worker`] (one thread), [`engine`] (a whole run), [`agent`] (one run of several
//!    hosts).
//! 3. Whether it can be believed: [`host`] (what the system says), [`null`] and [`floor`] (what the generator itself
//!    costs), [`verdict`].
//! 4. What follows from it: [`slo`], [`knee`] (the highest rate that is good enough), [`compare`] (is B different
//!    from A).
//! 5. How it is told: [`report`], with [`units`]; [`cli`], the program. [`draw`] are random numbers for requests.
//!
//! # As a library
//! One run, from settings to figures; it takes as long as warm-up, window and drain together:
//!
//! ```no_run
//! use loadgen::engine::{self, Part, Unwatched};
//! use loadgen::model::{Arrivals, Loop, RequestSpec, RespSpec, Settings, Speaks};
//! use loadgen::verdict::{self, Bounds};
//!
//! const MS: u64 = 1_000_000;
//! let get = RequestSpec { weight: 1, method: "GET".into(), path: "/".into(), ..RequestSpec::default() };
//! let settings = Settings {
//!     url: "http://127.0.0.1:8080/".into(), // as reports show it
//!     speaks: Speaks::Http1,
//!     host: "127.0.0.1".into(),
//!     port: 8080,
//!     requests: vec![get],
//!     resp: RespSpec::default(), // for Speaks::Resp
//!     echo_len: 0,               // for Speaks::Echo
//!     traffic: Loop::Open { arrivals: Arrivals::Poisson, stages: loadgen::plan::constant_rate(5_000.0) },
//!     connections: 64,
//!     pipeline: 1,
//!     requests_per_connection: 0, // never closed by us
//!     ramp_ns: 0,
//!     warmup_ns: 1_000 * MS,
//!     duration_ns: 10_000 * MS,
//!     timeout_ns: 5_000 * MS,
//!     drain_ns: 5_000 * MS,
//!     slice_ns: 100 * MS,
//!     seed: 1,
//!     threads: 1,
//!     cpus: vec![1], // not the server's
//!     busy_poll: false,
//!     sources: Vec::new(),
//!     expect_status: Vec::new(), // all below 400 are good
//! };
//! let mut run = engine::run(&settings, Part::WHOLE, "my test", &mut Unwatched)?;
//! run.verdict = verdict::judge(&run, &Bounds::default());
//! for reason in &run.verdict.reasons {
//!     println!("{:?} {}: {}", reason.level, reason.code, reason.text);
//! }
//! if let Some(p99) = run.total.response.percentile(99.0) {
//!     // A bound says: this much or more. It must never pass for a figure.
//!     println!("P99 {}{} ns", if p99.is_bound() { ">= " } else { "" }, p99.ns());
//! }
//! # Ok::<(), loadgen::engine::RunError>(())
//! ```
//!
//! A program that judges many runs reads `verdict.level` first: figures of an INVALID run mean nothing.
//!
//! Not here: anything of the server (`corelane`): this crate must be able to disagree with it. TLS and HTTP/2.

#![forbid(unsafe_code)]

pub mod agent;
pub mod cli;
pub mod compare;
pub mod draw;
pub mod echo;
pub mod engine;
pub mod floor;
pub mod host;
pub mod http1;
pub mod knee;
pub mod model;
pub mod null;
pub mod plan;
pub mod protocol;
pub mod record;
pub mod report;
pub mod resp;
pub mod slo;
pub mod units;
pub mod verdict;
pub mod worker;
