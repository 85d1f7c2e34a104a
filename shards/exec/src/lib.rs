//! Corelane floor 4: the shard. What one core runs, and the only loop it runs.
//!
//! Reading order: [`turn`] is the loop; [`shard`] what it owns and what code on it may ask; [`driver`] how
//! connection tables hook into it; [`task`] futures; [`timer`] the wheel; [`io`] operations as futures, [`fs`] files among them;
//! [`mod@blocking`] the way out for what must block; [`remote`] what other threads may touch; [`mod@mesh`] calls from
//! shard to shard, [`sharded`] state that each has a part of; [`watch`] what a shard shows of its turns; [`host`] who
//! gives it its thread.
//!
//! Not here: any protocol, any system call (the kernel comes in as a parameter).

pub mod blocking;
pub mod driver;
pub mod fs;
mod gather;
pub mod host;
pub mod io;
pub mod mesh;
pub mod remote;
pub mod shard;
pub mod sharded;
pub mod stats;
pub mod task;
pub mod timer;
pub mod turn;
pub mod watch;

pub use blocking::{BlockingError, BlockingPool, blocking};
pub use driver::{Data, Driver, Event};
pub use host::Host;
pub use io::{IoDone, IoFuture};
pub use mesh::{Call, CallError, Mesh, Message, Seat, mesh, seats};
pub use remote::{Remote, ShardHandle};
pub use shard::{Shard, ShardOp, current, try_current};
pub use sharded::Sharded;
pub use stats::Stats;
pub use task::{Task, TaskError, spawn, yield_now};
pub use timer::{Elapsed, Sleep, TimerKey, sleep, timeout};
pub use turn::{Runtime, Turn};
pub use watch::note;
