//! Corelane floor 3: a deterministic kernel for tests.
//!
//! [`Sim::new`] gives a [`SimKernel`], which the code under test drives like a real one, and a [`World`],
//! with which the test plays everything outside: it connects [`Peer`]s, serves addresses, lets time pass,
//! places files, and chooses what goes wrong. No socket, no file, no thread and no real time is used; the
//! same [`SimConfig::seed`] and the same calls give the same events ([`World::trace`]).
//!
//! A test runs the code under test turn by turn and lets its peers act between turns, or by
//! [`World::after`]. An `enter` that may sleep jumps the clock to what happens next. Where the code under
//! test breaks a rule of `corelane_base::op`, the simulation panics, names the rule, the seed and the last
//! events; [`World::check_quiet`] does so for what was left behind.
//!
//! Reading order: [`SimConfig`] and [`Fault`], the world, the peer; then `state` (how events and completions
//! move), `rules` (what may be pushed), `submit`, `net`, `files` (what operations do).
//!
//! Not here: several shards in one world; UDP, Unix sockets; real time.

#![forbid(unsafe_code)]

mod config;
mod disk;
mod files;
mod kernel;
mod link;
mod log;
mod net;
mod peer;
mod rules;
mod seeds;
mod state;
mod submit;
mod world;

use std::cell::RefCell;
use std::rc::Rc;

pub use config::{Fault, Faults, SimConfig};
pub use disk::Disk;
pub use kernel::SimKernel;
pub use peer::Peer;
pub use seeds::{SEED_VARIABLE, Seeds, seeds};
pub use world::{Server, World};

/// Makes simulations.
#[derive(Debug)]
pub struct Sim;

impl Sim {
    /// A kernel for the code under test, and the world around it for the test.
    ///
    /// # Panics
    /// Where a size is 0 that cannot be.
    #[allow(clippy::new_ret_no_self)] // the two halves are all there is
    pub fn new(config: SimConfig) -> (SimKernel, World) {
        let shared = Rc::new(RefCell::new(state::State::new(config)));
        (SimKernel::new(Rc::clone(&shared)), World::of(&shared))
    }
}
