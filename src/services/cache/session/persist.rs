//! Persist: SAVE, BGSAVE and LASTSAVE.
//!
//! Not here: when else snapshots are made (`snapshot`).

use corelane_proto_resp::Command;

use super::Resp;
use super::client::State;
use super::dispatch::Then;
use crate::services::cache::CacheError;
use crate::services::cache::command::{Reply, Spec, parse};
use crate::services::cache::snapshot::SnapshotError;

/// An error of a snapshot as a reply.
fn said(error: &SnapshotError) -> String {
    match error {
        SnapshotError::Busy => "ERR Background save already in progress".to_owned(),
        other => format!("ERR {other}"),
    }
}

impl Resp {
    pub(super) fn persist(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        reply: &mut Reply,
    ) -> Then {
        let keeper = self.settings.snapshots.clone();
        if spec.name == "lastsave" {
            reply.integer(i64::try_from(keeper.last_save()).unwrap_or(i64::MAX));
            return Then::Next;
        }
        // Nothing but another snapshot can be under way here, so that SCHEDULE never has to wait for anything.
        let is_plain = command.len() == 1 || command.len() == 2 && parse::is(&command[1], "schedule");
        if !is_plain {
            reply.error(parse::SYNTAX);
            return Then::Next;
        }
        let running = match keeper.begin() {
            Ok(running) => running,
            Err(error) => {
                reply.error(said(&error));
                return Then::Next;
            }
        };
        let cache = self.cache.clone();
        let work = async move { keeper.save(&cache, running).await };
        if spec.name == "save" {
            let version = state.version;
            self.later(state, async move {
                work.await.map_err(|error| CacheError::Reply(said(&error)))?;
                let mut reply = Reply::new(version);
                reply.ok();
                Ok(reply)
            });
            return Then::Wait;
        }
        let task = self.shard.spawn(async move {
            let _ = work.await; // the log and INFO say what came of it
        });
        match task {
            Ok(task) => {
                task.detach();
                reply.write().simple(b"Background saving started");
            }
            Err(full) => reply.error(format_args!("ERR no task is free for it: {full}")),
        }
        Then::Next
    }
}
