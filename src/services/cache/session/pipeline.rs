//! Pipeline: the part of one that other shards answer.
//!
//! For each shard there is one batch, so one message, whatever the number of commands. Where keys are of this shard,
//! commands run at once, and their replies wait for the others.
//!
//! # Rules
//! 1. Commands for the same shard run in the order they were sent: behind one of this shard that cannot run yet, all
//!    others of this shard go into its batch.
//! 2. The room that a pipeline needs is used again by the next: once there is enough, only its calls and its task are
//!    allocated, however many commands it has.
//!
//! Not here: what a shard does with a batch (`shard`).

use corelane_base::ShardId;
use corelane_net::session::{Link, Next};
use corelane_proto_resp::{Command, Version};
use std::rc::Rc;

use super::client::{Replies, State};
use super::dispatch::Then;
use super::{PUT_MAX, Post, Resp, SCRATCH_KEPT};
use crate::services::cache::CacheError;
use crate::services::cache::batch::{Batch, Done, copy, empty};
use crate::services::cache::command::{Gather, Reply, Spec};
use crate::services::cache::gather;

/// Pipelines whose room is kept, and batches; and what each keeps at most.
const SPARE_MAX: usize = 64;
const SLOTS_KEPT: usize = 1 << 10;
const HERE_KEPT: usize = 16 << 10;

/// The place of a part: which batch, and which command of it.
type Place = (usize, usize);

#[derive(Debug)]
enum Slot {
    /// Run here: where its reply ends among those made here.
    Here(usize),
    One(Place),
    Parts(Gather, Vec<Place>),
}

/// Commands whose replies come from several shards.
#[derive(Debug, Default)]
pub struct Gathering {
    version: Version,
    /// Bytes of replies before the first of these.
    said: usize,
    slots: Vec<Slot>,
    batches: Vec<(ShardId, Batch)>,
    /// A command of the own shard waits for its turn there,
    asks_here: bool,
    /// and the first that does so may take its time: a transaction or the second tier is in its way, or there are too many
    /// bytes of replies.
    waits: bool,
    /// Replies made here, while others are awaited.
    here: Reply,
    answers: Vec<Done>,
}

impl Gathering {
    /// Whether a command of the own shard waits for its turn there.
    #[inline]
    pub(super) fn asks_here(&self) -> bool {
        self.asks_here
    }

    /// A command was run here, and its reply is the last in `scratch`. False if there are so many bytes of them now that
    /// what follows has to wait.
    #[inline]
    pub(super) fn ran_here(&mut self, scratch: &Reply) -> bool {
        let end = scratch.bytes().len() - self.said;
        self.slots.push(Slot::Here(end));
        end <= SCRATCH_KEPT && scratch.large().is_empty()
    }

    /// Appends the replies in the order of the commands.
    fn assemble(&self, reply: &mut Reply) {
        let mut begun = 0;
        for slot in &self.slots {
            match slot {
                Slot::Here(end) => {
                    reply.append_range(&self.here, begun..*end);
                    begun = *end;
                }
                Slot::One((at, n)) => {
                    reply.append_range(&self.answers[*at].reply, self.answers[*at].range(*n))
                }
                Slot::Parts(how, places) => {
                    let answers = &self.answers;
                    let parts: Vec<_> =
                        places.iter().map(|(at, n)| (&answers[*at].reply, answers[*at].range(*n))).collect();
                    gather::together(*how, &parts, reply);
                }
            }
        }
    }
}

/// Room of pipelines that are over.
#[derive(Debug, Default)]
pub(super) struct Spare {
    #[expect(clippy::vec_box, reason = "they travel in their boxes, which are used again too")]
    gatherings: Vec<Box<Gathering>>,
    batches: Vec<Batch>,
}

impl Spare {
    fn gathering(&mut self, version: Version, said: usize) -> Box<Gathering> {
        let mut gathering = self.gatherings.pop().unwrap_or_default();
        gathering.version = version;
        gathering.said = said;
        gathering
    }

    fn batch(&mut self, version: Version) -> Batch {
        match self.batches.pop() {
            Some(mut batch) => {
                batch.version = version;
                batch
            }
            None => Batch::new(version, 0),
        }
    }

    /// Keeps the room of what is over.
    pub(super) fn keep(&mut self, mut gathering: Box<Gathering>) {
        for done in gathering.answers.drain(..) {
            if self.batches.len() < SPARE_MAX {
                self.batches.push(Batch::again(done, gathering.version));
            }
        }
        empty(&mut gathering.slots, SLOTS_KEPT);
        gathering.batches.clear();
        (gathering.asks_here, gathering.waits) = (false, false);
        gathering.here.clear(HERE_KEPT);
        if self.gatherings.len() < SPARE_MAX {
            self.gatherings.push(gathering);
        }
    }
}

impl Resp {
    /// What is gathered, from the first command on; `reply` has the replies before it.
    fn gathering<'g>(
        &self,
        state: &State,
        gathering: &'g mut Option<Box<Gathering>>,
        reply: &Reply,
    ) -> &'g mut Gathering {
        gathering
            .get_or_insert_with(|| self.gatherings.borrow_mut().gathering(state.version, reply.bytes().len()))
    }

    /// The batch for a shard, and its number.
    fn batch<'g>(&self, gathering: &'g mut Gathering, to: ShardId) -> (usize, &'g mut Batch) {
        let at = match gathering.batches.iter().position(|(of, _)| *of == to) {
            Some(at) => at,
            None => {
                gathering.asks_here |= to == self.here.here();
                gathering.batches.push((to, self.gatherings.borrow_mut().batch(gathering.version)));
                gathering.batches.len() - 1
            }
        };
        (at, &mut gathering.batches[at].1)
    }

    /// Adds a command as it came; its place.
    fn place(
        &self,
        gathering: &mut Gathering,
        to: ShardId,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
    ) -> Place {
        let (at, batch) = self.batch(gathering, to);
        copy(&mut batch.wire, command, raw);
        batch.items.push((spec, batch.wire.len()));
        (at, batch.items.len() - 1)
    }

    /// Adds a command for one shard.
    #[expect(clippy::too_many_arguments, reason = "as of `dispatch`")]
    pub(super) fn gather_one(
        &self,
        state: &State,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
        owner: ShardId,
        gathering: &mut Option<Box<Gathering>>,
        reply: &Reply,
    ) -> Then {
        let gathering = self.gathering(state, gathering, reply);
        // What is for this shard alone and could run would have run.
        gathering.waits |= owner == self.here.here() && !gathering.asks_here;
        let place = self.place(gathering, owner, spec, command, raw);
        gathering.slots.push(Slot::One(place));
        Then::Gather
    }

    /// Adds a command for every shard.
    #[expect(clippy::too_many_arguments, reason = "as of `dispatch`")]
    pub(super) fn gather_all(
        &self,
        state: &State,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
        how: Gather,
        gathering: &mut Option<Box<Gathering>>,
        reply: &Reply,
    ) -> Then {
        let gathering = self.gathering(state, gathering, reply);
        let places = (0..self.here.shards()).map(|to| self.place(gathering, ShardId(to), spec, command, raw));
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
        reply: &Reply,
    ) -> Then {
        let gathering = self.gathering(state, gathering, reply);
        let mut places = Vec::new();
        gather::each_part(spec, command, |arguments| {
            let owner = arguments.get(1).map_or(self.here.here(), |key| self.here.owner(self.here.key(key)));
            let (at, batch) = self.batch(gathering, owner);
            places.push((at, batch.push(spec, arguments.iter().copied())));
        });
        gathering.slots.push(Slot::Parts(how, places));
        Then::Gather
    }

    /// Sends what was gathered, and takes the replies made here since from `scratch`. The others come by a post; what was
    /// said before is sent with them.
    pub(super) fn send_gathered(
        &self,
        state: &mut State,
        mut gathering: Box<Gathering>,
        scratch: &mut Reply,
    ) -> Next {
        gathering.here.append_range(scratch, gathering.said..scratch.bytes().len());
        scratch.truncate(gathering.said);
        self.here.count(&mut gathering.here);
        let is_soon = !gathering.waits && !self.here.is_tiered();
        let mesh = self.shard.mesh();
        let calls: Vec<_> = gathering
            .batches
            .drain(..)
            .map(|(to, batch)| {
                let (all, count) = (self.all.clone(), batch.items.len());
                (to, count, mesh.with(to, move |shard| all.of(shard).run(shard, batch)))
            })
            .collect();
        let number = self.next_wait(state);
        let all = self.all.clone();
        let version = state.version;
        self.task(state.key, number, (version, gathering.slots.len()), async move {
            for (to, count, call) in calls {
                let mut answer = call.await;
                if let Ok(done) = &mut answer
                    && let Some(rest) = done.rest.take()
                {
                    let all = all.clone();
                    let more = mesh.run(to, move |shard| {
                        let (here, shard) = (all.of(shard), Rc::clone(shard));
                        here.run_rest(shard, *rest)
                    });
                    match more.await {
                        Ok(more) => done.append(&more),
                        Err(error) => fail(done, count, error.into()),
                    }
                }
                gathering.answers.push(answer.unwrap_or_else(|error| {
                    let mut done = Done::new(version);
                    fail(&mut done, count, error.into());
                    done
                }));
            }
            Post::Gathered { number, gathering }
        });
        // Whether the replies before are wanted is known; whether these are, when they are here.
        if is_soon && state.replies == Replies::On { Next::Soon } else { Next::Wait }
    }

    /// Gives what was gathered to the client.
    pub(super) fn say_gathered(&self, link: &mut Link<'_>, gathering: &Gathering) {
        let len = gathering.answers.iter().fold(gathering.here.len(), |sum, done| sum + done.reply.len());
        if len > PUT_MAX {
            let mut reply = Reply::new(gathering.version);
            gathering.assemble(&mut reply);
            return self.say_all(link, reply);
        }
        let mut scratch = self.scratch.take();
        scratch.set_version(gathering.version);
        gathering.assemble(&mut scratch);
        self.say(link, &scratch);
        scratch.clear(SCRATCH_KEPT);
        self.scratch.replace(scratch);
    }
}

/// Fills up the replies that did not come.
fn fail(done: &mut Done, count: usize, error: CacheError) {
    while done.ends.len() < count {
        done.reply.error(&error);
        done.ends.push(done.reply.bytes().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_of_64_pipelines_and_64_batches_and_of_none_that_was_long() {
        let mut spare = Spare::default();
        for n in 0..=SPARE_MAX {
            let mut gathering = Box::new(Gathering::default());
            let mut batch = Batch::new(Version::Resp2, 0);
            batch.wire.resize(if n == 0 { 17 << 10 } else { 16 << 10 }, b'x');
            batch.wire.shrink_to_fit();
            let mut done = batch.begin();
            done.spent = batch;
            gathering.answers.push(done);
            gathering.slots.resize_with(if n == 0 { SLOTS_KEPT + 1 } else { SLOTS_KEPT }, || Slot::Here(0));
            gathering.slots.shrink_to_fit();
            spare.keep(gathering);
        }
        assert_eq!((spare.gatherings.len(), spare.batches.len()), (SPARE_MAX, SPARE_MAX));
        let wires: Vec<usize> = spare.batches.iter().map(|batch| batch.wire.capacity()).collect();
        let slots: Vec<usize> = spare.gatherings.iter().map(|one| one.slots.capacity()).collect();
        assert_eq!((wires[0], wires[1]), (0, 16 << 10), "past the bound, and on it");
        assert_eq!((slots[0], slots[1]), (0, SLOTS_KEPT));
        assert!(spare.batches.iter().all(|batch| batch.wire.is_empty() && batch.items.is_empty()));
    }
}
