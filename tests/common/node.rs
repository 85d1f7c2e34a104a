//! A node in the process of the test.

use std::net::SocketAddr;
use std::time::Duration;

use corelane::{App, Limits, Running, Server, Shard, ShardHost};
use crossbeam_channel::bounded;

use super::{app, sockets, until};

/// Limits for tests: few descriptors, so that they run under any `ulimit -n`, and a short drain.
pub(crate) fn limits() -> Limits {
    Limits {
        connections_max: 3_000,
        descriptors_headroom: 500,
        drain_idle: Duration::from_millis(50),
        drain_time: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// The host that nodes of this run have (`scripts/test --host`): what the variable `TEST_HOST` names, or the native one.
pub(crate) fn host() -> ShardHost {
    match std::env::var("TEST_HOST").as_deref() {
        Err(_) | Ok("native") => ShardHost::Native,
        Ok("glommio") => ShardHost::Glommio,
        Ok(other) => panic!("TEST_HOST={other}: native or glommio"),
    }
}

/// A server on any free port of loopback, not pinned: other tests run beside it. One shard, so that a test
/// knows where things are, unless it asks for more.
pub(crate) fn server() -> Server {
    let server = Server::new(([127, 0, 0, 1], 0).into()).shards(1).pin(false).signals(false);
    server.limits(limits()).host(host())
}

/// A node that drains when it is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    running: Option<Running>,
}

impl Node {
    /// The common application under the limits for tests.
    pub(crate) fn new() -> Node {
        Node::of(server())
    }

    /// The common application.
    pub(crate) fn of(server: Server) -> Node {
        Node::serving(server, app)
    }

    /// Any application.
    pub(crate) fn serving<S: 'static>(
        server: Server,
        app: impl Fn() -> App<S> + Send + Sync + 'static,
    ) -> Node {
        Node::from(server.start(move |_| app()).unwrap_or_else(|error| panic!("{error}")))
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().expect("only a drop takes it")
    }

    /// Runs `f` on a shard, between its other work.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        shard: usize,
        f: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> T {
        let (done, answer) = bounded(1);
        let handle = self.running().shards().swap_remove(shard);
        handle.send(move |shard| drop(done.send(f(shard)))).expect("the mailbox has room");
        answer.recv_timeout(super::PATIENCE).expect("the shard turns")
    }

    /// Tasks of all shards.
    pub(crate) fn tasks(&self) -> usize {
        (0..self.running().shards().len()).map(|shard| self.ask(shard, |shard| shard.tasks_alive())).sum()
    }

    /// Waits until nothing is left of what clients did: no socket, task or pooled buffer.
    #[track_caller]
    pub(crate) fn comes_to_rest(&self) {
        until("no socket is left", || sockets(self.addr) == 0);
        for shard in 0..self.running().shards().len() {
            until("no task is left", || self.ask(shard, |shard| shard.tasks_alive()) == 0);
            until("no buffer is lent", || self.ask(shard, |shard| shard.pools().stats().lent()) == 0);
        }
    }

    /// Drains and waits for the end.
    #[track_caller]
    pub(crate) fn drain(mut self) {
        let running = self.running.take().expect("only a drop takes it");
        running.drain().unwrap_or_else(|error| panic!("{error}"));
    }
}

impl From<Running> for Node {
    fn from(running: Running) -> Node {
        Node { addr: running.addr(), running: Some(running) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        if std::thread::panicking() {
            // The failed assertion is what is to be seen, not a drain that hangs for the same reason.
            running.stopper().drain();
        } else {
            running.drain().unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
