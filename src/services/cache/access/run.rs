//! Any command on keys, by its words: to the shard that has them, or to all that have some.
//!
//! Not here: what commands do (`command`), transactions over several shards (`transaction`).

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use corelane_base::ShardId;
use corelane_exec::{Shard, current};
use corelane_proto_resp::{Command, Version};

use super::Value;
use crate::services::cache::batch::{Batch, encode};
use crate::services::cache::command::{self, Gather, Reply, Run, Spec};
use crate::services::cache::session::Settings;
use crate::services::cache::shard::CacheShard;
use crate::services::cache::transaction::{Coordinator, Outcome, Queued, with_command};
use crate::services::cache::{Cache, CacheError};
use crate::services::cache::{gather, keys};

/// The protocol in which commands reply here: the one that tells types apart.
const VERSION: Version = Version::Resp3;

/// Who runs a command.
enum Plan {
    /// It is not run: why.
    Refused(Reply),
    /// One shard.
    One(&'static Spec, ShardId),
    /// Several shards, each a part of it.
    Parts(&'static Spec, Vec<(ShardId, Vec<u8>)>, Gather),
    /// Several shards, as one.
    Together(&'static Spec),
    /// Every shard, in a way of its own.
    Later(Pin<Box<dyn Future<Output = Result<Reply, CacheError>>>>),
}

impl Cache {
    /// Runs a command on keys, as a Redis client would: `cache.run(&["HSET", "user:7", "name", "Ada"])`. Where its keys are
    /// on several shards, it is what it is for such a client: split (`MGET`, `DEL`, ...), or a transaction.
    ///
    /// Not the commands of connections and of the node (`AUTH`, `INFO`, `PUBLISH`, `MULTI`). One that waits (`BLPOP`)
    /// does not: with nothing there it gives nothing at once, as within `MULTI`.
    ///
    /// # Errors
    /// [`CacheError::Reply`] with the words of Redis where the command is wrong or fails; [`CacheError::Call`],
    /// [`CacheError::Busy`]: try again; [`CacheError::TooLarge`] past what a client may send.
    pub async fn run<A: AsRef<[u8]>>(&self, words: &[A]) -> Result<Value, CacheError> {
        check(words)?;
        let shard = current();
        let here = self.here(&shard);
        let mut wire = Vec::new();
        encode(&mut wire, words.iter().map(AsRef::as_ref));
        let reply = match with_command(&wire, |command| self.plan(&shard, &here, command)) {
            Plan::Refused(reply) => reply,
            Plan::Later(work) => work.await?,
            Plan::One(spec, owner) => self.ask(&shard, spec, vec![(owner, wire)], None).await?,
            Plan::Parts(spec, parts, how) => self.ask(&shard, spec, parts, Some(how)).await?,
            Plan::Together(spec) => {
                let coordinator = Coordinator { shard, here, all: self.shards.clone() };
                match coordinator.run(vec![Queued { spec, wire }], Vec::new(), VERSION).await? {
                    Outcome::Ran(reply) | Outcome::Blocked(reply) => reply,
                    Outcome::Changed => return Err(CacheError::Busy), // nothing is watched
                }
            }
        };
        match Value::of(&reply) {
            Some(Value::Error(text)) => Err(CacheError::Reply(String::from_utf8_lossy(&text).into_owned())),
            Some(value) => Ok(value),
            None => Err(CacheError::Reply("ERR the reply of the command could not be read".to_owned())),
        }
    }

    fn plan(&self, shard: &Rc<Shard>, here: &CacheShard, command: &Command<'_>) -> Plan {
        let mut reply = Reply::new(VERSION);
        let spec = match command::find(command) {
            Ok(spec) => spec,
            Err(unfit) => {
                unfit.reply(command, &mut reply);
                return Plan::Refused(reply);
            }
        };
        let mut places = Vec::new();
        spec.keys.find(command, &mut places);
        let mut owners = places.iter().filter_map(|&at| command.get(at)).map(|key| here.owner(here.key(key)));
        let first = owners.next().unwrap_or(here.here());
        let is_one = owners.all(|owner| owner == first);
        match spec.run {
            Run::Connection if spec.name == "scan" => {
                match keys::scan(shard, &self.shards, command, VERSION) {
                    Ok(work) => Plan::Later(Box::pin(work)),
                    Err(said) => Plan::Refused(said),
                }
            }
            Run::Connection if spec.name == "randomkey" => {
                Plan::Later(Box::pin(keys::random_key(shard, &self.shards, VERSION)))
            }
            Run::Connection => {
                reply.error(format_args!(
                    "ERR '{}' is about a connection or the node: only commands on keys are run here",
                    spec.name
                ));
                Plan::Refused(reply)
            }
            Run::All(_, how) if here.shards() > 1 => {
                let mut wire = Vec::new();
                encode(&mut wire, command.iter());
                Plan::Parts(spec, (0..here.shards()).map(|to| (ShardId(to), wire.clone())).collect(), how)
            }
            // One that is malformed says so itself, wherever it runs.
            Run::Split(_, how) if !is_one && gather::is_whole(spec, command) => {
                Plan::Parts(spec, gather::split(spec, command, here), how)
            }
            Run::Data(_) if !is_one => Plan::Together(spec),
            Run::Data(_) | Run::Split(..) | Run::All(..) => Plan::One(spec, first),
        }
    }

    /// Sends each part to its shard, one message for each, and puts the replies together.
    async fn ask(
        &self,
        shard: &Rc<Shard>,
        spec: &'static Spec,
        parts: Vec<(ShardId, Vec<u8>)>,
        how: Option<Gather>,
    ) -> Result<Reply, CacheError> {
        let mut batches: Vec<(ShardId, Batch)> = Vec::new();
        let mut places = Vec::with_capacity(parts.len());
        for (to, wire) in parts {
            let at = match batches.iter().position(|(of, _)| *of == to) {
                Some(at) => at,
                None => {
                    batches.push((to, Batch::new(VERSION, 0)));
                    batches.len() - 1
                }
            };
            places.push((at, batches[at].1.push_raw(spec, &wire)));
        }
        let mesh = shard.mesh();
        let calls: Vec<_> = batches
            .into_iter()
            .map(|(to, batch)| {
                let cache = self.clone();
                (to, mesh.with(to, move |shard| cache.here(shard).run(shard, batch)))
            })
            .collect();
        let mut all = Vec::with_capacity(calls.len());
        for (to, call) in calls {
            let mut done = call.await?;
            if let Some(rest) = done.rest.take() {
                let cache = self.clone();
                let run = move |shard: &Rc<Shard>| cache.here(shard).run_rest(Rc::clone(shard), *rest);
                done.append(&mesh.run(to, run).await?);
            }
            all.push(done);
        }
        let mut reply = Reply::new(VERSION);
        match how {
            None => all.iter().for_each(|done| reply.append(&done.reply)),
            Some(how) => {
                let replies: Vec<_> =
                    places.into_iter().map(|(at, n)| (&all[at].reply, all[at].range(n))).collect();
                gather::together(how, &replies, &mut reply);
            }
        }
        Ok(reply)
    }
}

/// What a Redis client could not send, nobody can.
fn check<A: AsRef<[u8]>>(words: &[A]) -> Result<(), CacheError> {
    let limits = Settings::default().limits;
    let too_large = |len: usize, max: u32| CacheError::TooLarge { len: len as u64, max: max.into() };
    if words.is_empty() {
        return Err(CacheError::Reply("ERR a command needs a name".to_owned()));
    }
    if words.len() > limits.arguments_max as usize {
        return Err(too_large(words.len(), limits.arguments_max));
    }
    let mut sum = 0_usize;
    for word in words {
        let len = word.as_ref().len();
        sum = sum.saturating_add(len);
        if len > limits.bulk_bytes_max as usize {
            return Err(too_large(len, limits.bulk_bytes_max));
        }
    }
    if sum > limits.command_bytes_max as usize {
        return Err(too_large(sum, limits.command_bytes_max));
    }
    Ok(())
}
