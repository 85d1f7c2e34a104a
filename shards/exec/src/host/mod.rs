//! Who gives a shard its thread.
//!
//! [`Host::Native`]: the thread is the shard's, and sleeps in its kernel. `Host::Glommio` (feature `glommio`): the thread
//! is an executor's, the shard one of its tasks, and code on the shard may use all of glommio. What drives a shard is
//! written once, as a future of [`Host::turn`]s, and [`run`] runs it on either.
//!
//! # Rules
//! 1. On the native host a turn is over when its future was polled once: nothing there waits but the kernel.
//! 2. A shard is made, turned and dropped inside the future that [`run`] was given: tasks left on it may hold what only
//!    its host can drop.
//!
//! Not here: what a turn does (`turn`), which host a node has (its configuration).

#[cfg(feature = "glommio")]
mod glommio;
#[cfg(feature = "glommio")]
mod guard;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use corelane_base::{Kernel, Limits, Signal};
use corelane_pools::Chain;

use crate::turn::Runtime;

#[cfg(feature = "glommio")]
pub(crate) use glommio::wake_here;
#[cfg(feature = "glommio")]
pub use glommio::{Executor, SHARES, yield_to_shard};

/// What a shard's thread is to be.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The shard's own.
    Native,
    /// An executor of glommio.
    #[cfg(feature = "glommio")]
    Glommio(Executor),
}

impl Kind {
    /// glommio on this CPU (none: where the thread may run now), within these limits. None where this build has no
    /// glommio.
    #[cfg_attr(not(feature = "glommio"), allow(unused_variables))]
    pub fn glommio(cpu: Option<usize>, limits: &Limits) -> Option<Kind> {
        #[cfg(feature = "glommio")]
        return Some(Kind::Glommio(Executor::new(cpu, limits)));
        #[cfg(not(feature = "glommio"))]
        None
    }
}

/// What a shard turns on.
#[derive(Debug)]
pub enum Host {
    /// Its own thread.
    Native,
    /// A task of glommio.
    #[cfg(feature = "glommio")]
    Glommio(glommio::Guest),
}

impl Host {
    /// Takes what a sleep on this host needs, a descriptor of the process: no turn fails for it later. The first turn
    /// that would sleep does it otherwise.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn settle<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        match self {
            Host::Native => {
                let _ = runtime; // it sleeps in its ring
                Ok(())
            }
            #[cfg(feature = "glommio")]
            Host::Glommio(guest) => guest.settle(runtime),
        }
    }

    /// One turn; sleeps at its end if nothing is left to do. Between two turns the host may run other tasks.
    ///
    /// # Errors
    /// When the kernel refuses to be entered, or the host to wait: nothing can go on then.
    #[inline]
    pub async fn turn<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        match self {
            Host::Native => runtime.turn(true).map(|_| ()),
            #[cfg(feature = "glommio")]
            Host::Glommio(guest) => guest.turn(runtime).await,
        }
    }

    /// Turns until [`Shard::stop`](crate::Shard::stop) was called.
    ///
    /// # Errors
    /// As [`Host::turn`].
    pub async fn run<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        while !runtime.shard().is_stopping() {
            self.turn(runtime).await?;
        }
        Ok(())
    }

    /// Whether the thread is the shard's own.
    pub fn is_native(&self) -> bool {
        matches!(self, Host::Native)
    }
}

/// Starts what all glommio hosts of the process share: a thread that runs where the calling one may. Without, the first
/// host starts it, on its own CPU. Nothing where this build has no glommio.
///
/// # Errors
/// `EAGAIN`: no further thread.
pub fn prepare() -> io::Result<()> {
    #[cfg(feature = "glommio")]
    guard::prepare()?;
    Ok(())
}

/// Runs `main` on this thread, on a host of this kind, to its end. A glommio host with a CPU leaves the thread pinned
/// to it.
///
/// # Errors
/// The executor could not be made: `EMFILE`, `ENOMEM`, too little memory that may be locked.
///
/// # Panics
/// When `main` does, or, on the native host, when it waits for anything but [`Host::turn`].
pub fn run<F, Fut>(kind: &Kind, main: F) -> io::Result<Fut::Output>
where
    F: FnOnce(Host) -> Fut + 'static,
    Fut: Future + 'static,
{
    match kind {
        Kind::Native => match pin!(main(Host::Native)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(out) => Ok(out),
            Poll::Pending => unreachable!("rule 1: something waited for what the native host does not have"),
        },
        #[cfg(feature = "glommio")]
        Kind::Glommio(executor) => glommio::run(executor, main),
    }
}
