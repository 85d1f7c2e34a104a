//! Corelane floor 0: ids, limits, and the seam between a shard and its kernel.
//!
//! Reading order: [`ids`] names things, [`op`] says what a shard may ask of its kernel and what comes
//! back, [`kernel`] is the trait both io_uring and the simulator implement, [`limits`] holds every
//! maximum, [`full`] is the answer of anything bounded, [`rng`] the seeded generator of tests and jitter.
//!
//! Not here: system calls, threads, clock reads. An [`Op`] holds ids, never descriptors it opened.

#![forbid(unsafe_code)]

pub mod full;
pub mod ids;
pub mod kernel;
pub mod limits;
pub mod op;
pub mod rng;

pub use full::Full;
pub use ids::{BufferId, ListenerId, ShardId, Sock, Token};
pub use kernel::{Abilities, Clock, Kernel, KernelStats, Signal, Unpark, Wait};
pub use limits::{LimitError, Limits};
pub use op::{AcceptMode, Completion, Op, Payload, RecvMode, ShutdownHow, SockOption};
pub use rng::Rng;
