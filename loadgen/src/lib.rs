//! `loadgen`: a load generator whose numbers can be believed.
//!
//! Reading order: `model` is what a run is asked and what it finds, `record` how latencies are kept.
//!
//! Not here: anything of the server (`corelane`): this crate must be able to disagree with it.

#![forbid(unsafe_code)]

pub mod agent;
pub mod compare;
pub mod model;
pub mod protocol;
pub mod record;
