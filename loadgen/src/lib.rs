//! `loadgen`: a load generator whose numbers can be believed.
//!
//! Reading order: `model` is what a run is asked and what it finds, `record` how latencies are kept.
//!
//! Not here: anything of the server (`corelane`): this crate must be able to disagree with it.

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
