//! Several shards on simulated kernels, turned by one thread in an order that a seed chooses.
//!
//! Shards sleep as they do in the node: they announce it, and nothing but a ring or a timer ends it. A wake that
//! is lost leaves the cluster standing still with work in a lane, which `Cluster::settle` tells.
#![allow(dead_code, clippy::unwrap_used, clippy::cast_possible_truncation, unreachable_pub, missing_docs)]

use std::rc::Rc;
use std::time::Duration;

use corelane_base::{Kernel, Limits, Rng, ShardId, Wait};
use corelane_exec::{Mesh, Runtime, Shard, Turn, seats};
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Faults, Sim, SimConfig, SimKernel, World};

pub struct Node {
    pub rt: Runtime<SimKernel>,
    pub world: World,
    asleep: bool,
    /// Found nothing to do in its last turn, and will sleep if it finds nothing again: others turn in between.
    drowsy: bool,
    /// Never turned while set: a shard whose thread has no CPU.
    pub frozen: bool,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    rng: Rng,
    pub turns: u64,
}

impl Cluster {
    pub fn new(shards: usize, limits: &Limits) -> Cluster {
        Cluster::seeded(shards, limits, 0, None)
    }

    pub fn seeded(shards: usize, limits: &Limits, seed: u64, faults: Option<Faults>) -> Cluster {
        let nodes = seats(shards, limits).into_iter().enumerate().map(|(n, seat)| {
            let mut config = SimConfig { seed: seed ^ (n as u64) << 32, ..SimConfig::of(limits) };
            if let Some(faults) = &faults {
                config.faults = faults.clone();
            }
            let (kernel, world) = Sim::new(config);
            let pools = Pools::new(&PoolConfig { poison: true, ..PoolConfig::default() }).unwrap();
            let id = ShardId(u16::try_from(n).unwrap());
            let rt = Runtime::on_mesh(id, limits.clone(), pools, kernel, None, seat);
            Node { rt, world, asleep: false, drowsy: false, frozen: false }
        });
        Cluster { nodes: nodes.collect(), rng: Rng::new(seed), turns: 0 }
    }

    /// Runs `f` on a shard, as a start hook would.
    pub fn on<R>(&mut self, shard: usize, f: impl FnOnce(&Rc<Shard>, Mesh) -> R) -> R {
        self.nodes[shard].rt.awake();
        (self.nodes[shard].asleep, self.nodes[shard].drowsy) = (false, false);
        self.nodes[shard].rt.within(|shard| f(shard, shard.mesh()))
    }

    /// Spawns a task on a shard.
    pub fn spawn<F: Future<Output = ()> + 'static>(&mut self, shard: usize, f: impl FnOnce(Mesh) -> F) {
        self.on(shard, |shard, mesh| {
            let task = shard.spawn(f(mesh)).unwrap();
            task.detach();
        });
    }

    /// One turn of a shard that is awake, or its falling asleep; if all sleep, time passes until one is due. False
    /// when none ever is.
    pub fn step(&mut self) -> bool {
        for node in &mut self.nodes {
            let now_ns = node.world.now().as_nanos() as u64;
            let due = node.rt.next_deadline().is_some_and(|at| at <= now_ns);
            if node.asleep && (due || node.rt.kernel().is_rung() || node.rt.kernel().needs_enter()) {
                node.asleep = false;
                node.rt.awake();
                // Takes the ring's mark away, as the end of a sleep does.
                node.rt.kernel().enter(Wait::Until(Some(0))).unwrap();
            }
        }
        let ready: Vec<usize> =
            (0..self.nodes.len()).filter(|&n| !self.nodes[n].asleep && !self.nodes[n].frozen).collect();
        if ready.is_empty() {
            return self.pass();
        }
        let node = &mut self.nodes[ready[self.rng.index(ready.len())]];
        self.turns += 1;
        if std::mem::take(&mut node.drowsy) {
            node.asleep = node.rt.announce_sleep();
        } else {
            node.drowsy = node.rt.turn(false).unwrap() == Turn::Idle;
        }
        true
    }

    /// Lets time pass, on all clocks alike, to the first thing that is due.
    ///
    /// # Panics
    /// If a shard sleeps over work: the deadline of a call would hide that.
    fn pass(&mut self) -> bool {
        for node in self.nodes.iter_mut().filter(|node| !node.frozen) {
            let handle = node.rt.shard().handle();
            assert!(
                !handle.has_work(),
                "{:?} sleeps over work after turn {}: a wake was lost",
                node.rt,
                self.turns
            );
        }
        let awake = self.nodes.iter_mut().filter(|node| !node.frozen);
        let Some(at) = awake.filter_map(|node| node.rt.next_deadline()).min() else { return false };
        for node in &self.nodes {
            let now = node.world.now();
            node.world.advance(Duration::from_nanos(at).saturating_sub(now));
        }
        true
    }

    /// Turns until nothing is left to do, or `done` says so.
    pub fn settle(&mut self, mut done: impl FnMut() -> bool) {
        for _ in 0..2_000_000 {
            if done() || !self.step() {
                return;
            }
        }
        panic!("no end in sight");
    }
}
