//! Pipeline: the part of one that other shards answer.
//!
//! For each shard there is one batch, so one message, whatever the number of commands. Where keys are of this shard,
//! commands run at once, and their replies wait for the others.
//!
//! Not here: what a shard does with a batch (`shard`).

use corelane_base::ShardId;
use corelane_net::session::Next;
use corelane_proto_resp::{Command, Version};
use std::rc::Rc;

use super::Resp;
use super::client::State;
use super::dispatch::Then;
use crate::services::cache::CacheError;
use crate::services::cache::batch::{Batch, Done, copy};
use crate::services::cache::command::{Gather, Reply, Spec};
use crate::services::cache::gather;

/// The place of a part: which batch, and which command of it.
type Place = (usize, usize);

#[derive(Debug)]
enum Slot {
    One(Place),
    Parts(Gather, Vec<Place>),
}

/// Commands whose replies come from several shards.
#[derive(Debug)]
pub(super) struct Gathering {
    version: Version,
    slots: Vec<Slot>,
    batches: Vec<(ShardId, Batch)>,
}

impl Gathering {
    fn new(version: Version) -> Box<Gathering> {
        Box::new(Gathering { version, slots: Vec::new(), batches: Vec::new() })
    }

    fn batch(&mut self, to: ShardId) -> (usize, &mut Batch) {
        let at = match self.batches.iter().position(|(of, _)| *of == to) {
            Some(at) => at,
            None => {
                self.batches.push((to, Batch::new(self.version, 0)));
                self.batches.len() - 1
            }
        };
        (at, &mut self.batches[at].1)
    }
}

impl Resp {
    /// Adds a command for one shard.
    pub(super) fn gather_one(
        &self,
        state: &State,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
        owner: ShardId,
        gathering: &mut Option<Box<Gathering>>,
    ) -> Then {
        let gathering = gathering.get_or_insert_with(|| Gathering::new(state.version));
        let (at, batch) = gathering.batch(owner);
        copy(&mut batch.wire, command, raw);
        batch.items.push((spec, batch.wire.len()));
        let place = (at, batch.items.len() - 1);
        gathering.slots.push(Slot::One(place));
        Then::Gather
    }

    /// Adds a command for every shard.
    pub(super) fn gather_all(
        &self,
        state: &State,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
        how: Gather,
        gathering: &mut Option<Box<Gathering>>,
    ) -> Then {
        let gathering = gathering.get_or_insert_with(|| Gathering::new(state.version));
        let places = (0..self.here.shards()).map(|to| {
            let (at, batch) = gathering.batch(ShardId(to));
            copy(&mut batch.wire, command, raw);
            batch.items.push((spec, batch.wire.len()));
            (at, batch.items.len() - 1)
        });
        let places = places.collect();
        gathering.slots.push(Slot::Parts(how, places));
        Then::Gather
    }

    /// Adds a command that is cut into parts, one for each key.
    pub(super) fn gather_split(
        &self,
        state: &State,
        spec: &'static Spec,
        command: &Command<'_>,
        how: Gather,
        gathering: &mut Option<Box<Gathering>>,
    ) -> Then {
        let gathering = gathering.get_or_insert_with(|| Gathering::new(state.version));
        let mut places = Vec::new();
        gather::each_part(spec, command, |arguments| {
            let owner = arguments.get(1).map_or(self.here.here(), |key| self.here.owner(self.here.key(key)));
            let (at, batch) = gathering.batch(owner);
            places.push((at, batch.push(spec, arguments.iter().copied())));
        });
        gathering.slots.push(Slot::Parts(how, places));
        Then::Gather
    }

    /// Sends what was gathered. The reply comes by a post.
    #[expect(
        clippy::boxed_local,
        reason = "it is boxed while it grows, so that a pipeline without it stays small"
    )]
    pub(super) fn send_gathered(&self, state: &mut State, gathering: Box<Gathering>) -> Next {
        let Gathering { version, slots, batches } = *gathering;
        let mesh = self.shard.mesh();
        let calls: Vec<_> = batches
            .into_iter()
            .map(|(to, batch)| {
                let (all, count) = (self.all.clone(), batch.items.len());
                (to, count, mesh.with(to, move |shard| all.of(shard).run(shard, batch)))
            })
            .collect();
        let (mesh, all) = (mesh.clone(), self.all.clone());
        self.later(state, async move {
            let mut answers = Vec::with_capacity(calls.len());
            for (to, count, call) in calls {
                let mut answer = call.await;
                if let Ok(done) = &mut answer
                    && let Some(rest) = done.rest.take()
                {
                    let all = all.clone();
                    let more = mesh.run(to, move |shard| {
                        let (here, shard) = (all.of(shard), Rc::clone(shard));
                        here.run_rest(shard, rest)
                    });
                    match more.await {
                        Ok(more) => append(done, more),
                        Err(error) => fail(done, count, error.into()),
                    }
                }
                answers.push(answer.unwrap_or_else(|error| {
                    let mut done = Done { reply: Reply::new(version), ends: Vec::new(), rest: None };
                    fail(&mut done, count, error.into());
                    done
                }));
            }
            Ok(assemble(version, &slots, &answers))
        })
    }
}

fn append(done: &mut Done, more: Done) {
    let start = done.reply.bytes().len();
    done.reply.append(&more.reply);
    done.ends.extend(more.ends.iter().map(|end| start + end));
}

/// Fills up the replies that did not come.
fn fail(done: &mut Done, count: usize, error: CacheError) {
    while done.ends.len() < count {
        done.reply.error(&error);
        done.ends.push(done.reply.bytes().len());
    }
}

/// The replies in the order of their commands.
fn assemble(version: Version, slots: &[Slot], answers: &[Done]) -> Reply {
    let mut reply = Reply::new(version);
    for slot in slots {
        match slot {
            Slot::One((at, n)) => reply.append_range(&answers[*at].reply, answers[*at].range(*n)),
            Slot::Parts(how, places) => {
                let parts: Vec<_> =
                    places.iter().map(|(at, n)| (&answers[*at].reply, answers[*at].range(*n))).collect();
                gather::together(*how, &parts, &mut reply);
            }
        }
    }
    reply
}
