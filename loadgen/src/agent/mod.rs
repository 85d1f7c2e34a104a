//! Several loadgen processes, on one host or more, as one generator: a start at one moment, and an exact
//! merge.
//!
//! An [`Agent`] waits for a controller; [`control`] is the controller. Both speak [`wire::Message`]s over
//! TCP.
//!
//! # Calling order, on the wire
//! ```text
//! controller   Hello            Ping * 16        Plan                      Ping each second          Stop?
//! agent              Welcome           Pong            Ready    Progress...  Pong             Done or Failed
//! ```
//! One connection is one run.
//!
//! # Rules
//! 1. Settings are those of the whole run: rates and connections are totals. An engine takes part `index` of
//!    `of`.
//! 2. All traffic begins at one moment. It is sent to each agent on the agent's own monotonic clock
//!    (nanoseconds since it was started), so that a wall clock that is set does not matter.
//! 3. Results are merged by [`merge_runs`], which loses nothing.
//! 4. Who vanishes ends the run: an agent stops sending load once its controller is gone, and a controller
//!    fails once an agent is gone. A closed connection is seen at once, a silent one after
//!    [`Timing::silence_max`].
//! 5. An agent sends load where its controller says. It does not listen beyond this host without a token. The
//!    token crosses the network in the clear: it keeps out who cannot listen there, no one else.
//!
//! Not here: how a run is made ([`Engine`] is given), what is printed.

mod clock;
mod controller;
mod gather;
mod link;
mod merge;
mod server;
#[cfg(test)]
mod tests;
mod token;
pub mod wire;

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::model::{Run, Settings, Slice};

pub use clock::{Offset, PINGS, Sample, offset_of};
pub use controller::{AGENTS_MAX, Ask, control};
pub use gather::Gather;
pub use merge::merge_runs;
pub use server::Agent;
pub use token::{TOKEN_LEN_MAX, TOKEN_LEN_MIN, Token};

/// How long things may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// Between the plan and the first request: agents open their connections in that time.
    pub start_ahead: Duration,
    /// For a connect, a greeting, and every answer before a run.
    pub answer_max: Duration,
    /// A controller asks for the time this often during a run, so that neither side is silent.
    pub ping_interval: Duration,
    /// Without a byte for this long the other side is gone.
    pub silence_max: Duration,
}

impl Default for Timing {
    /// 1 s ahead, 5 s for an answer; gone after ten pings of 1 s without an answer.
    fn default() -> Timing {
        Timing {
            start_ahead: Duration::from_secs(1),
            answer_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(1),
            silence_max: Duration::from_secs(10),
        }
    }
}

/// How often a waiting thread looks whether it is to end.
const POLL: Duration = Duration::from_millis(50);

/// Which part of the run a process takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dealt {
    /// From 0.
    pub index: u64,
    /// How many parts there are.
    pub of: u64,
}

/// What performs a run.
pub trait Engine {
    /// Takes part `dealt` of the run, and begins its traffic (the warm-up, if there is one) at `start_at`.
    /// Each slice is given to `on_slice` once it is over, which does not block. Ends early, with what was
    /// measured, when `stop` is set.
    ///
    /// # Errors
    /// One line: it could not run.
    fn run(
        &self,
        settings: &Settings,
        dealt: Dealt,
        start_at: Instant,
        on_slice: &mut dyn FnMut(&Slice),
        stop: &AtomicBool,
    ) -> Result<Run, String>;
}

#[allow(clippy::disallowed_methods)] // the control plane has no shard, and runs beside the measurement
fn now() -> Instant {
    Instant::now()
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
