//! Turns: what a host may do between them, what they took, and what a shard that ends leaves behind.
#![allow(clippy::unwrap_used)]

mod cluster;

use std::rc::Rc;

use cluster::Cluster;
use corelane_base::{Limits, Op, ShardId, Token};
use corelane_exec::{Shard, Turn};
use corelane_sim::{Fault, Faults};

#[test]
fn a_shard_whose_host_spawned_a_task_or_sent_a_message_since_its_turn_does_not_sleep() {
    let mut cluster = Cluster::new(2, &Limits::default());
    cluster.settle(|| false);
    let rt = &mut cluster.nodes[0].rt;
    while rt.turn(false).unwrap() == Turn::Busy {}
    rt.within(|shard| shard.spawn(async {}).unwrap().detach());
    assert!(!rt.announce_sleep(), "slept over a task");
    while rt.turn(false).unwrap() == Turn::Busy {}
    rt.within(|shard| shard.mesh().cast(ShardId(1), Nothing).unwrap());
    assert!(!rt.announce_sleep(), "slept over a message that nobody was shown");
    while rt.turn(false).unwrap() == Turn::Busy {}
    rt.within(|shard| shard.push(Op::Cancel { target: Token::new(0, 0, 0, 0), token: Token::NONE }));
    assert!(!rt.announce_sleep(), "slept over an operation");
    while rt.turn(false).unwrap() == Turn::Busy {}
    assert!(rt.announce_sleep());
    rt.awake();
}

struct Nothing;

impl corelane_exec::Message for Nothing {
    type Reply = ();
    fn handle(self, _: &Rc<Shard>) {}
}

#[test]
fn a_sleeper_is_woken_for_what_a_shard_sent_in_its_last_turn_although_its_kernel_took_nothing() {
    let mut cluster = Cluster::new(2, &Limits::default());
    cluster.settle(|| false);
    let mut first = cluster.nodes.remove(0);
    first.world.set_faults(Faults::none().with(Fault::SubmissionFull, 1.0));
    first.rt.awake();
    first.rt.within(|shard| {
        let last = async {
            corelane_exec::mesh().cast(ShardId(1), Nothing).unwrap();
            corelane_exec::current().stop();
        };
        shard.spawn(last).unwrap().detach();
    });
    first.rt.run().unwrap();
    drop(first);
    let sleeper = &mut cluster.nodes[0].rt;
    assert!(sleeper.shard().handle().has_work(), "it was sent");
    assert!(sleeper.kernel().is_rung(), "and nobody rang");
}
