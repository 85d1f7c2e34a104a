//! Pause: CLIENT PAUSE and UNPAUSE.
//!
//! While a pause lasts, every connection has its commands looked at, as those of users with few rights (`acl`). One whose
//! command has to wait stops there: the command stays unread until the pause is over.
//!
//! # Rules
//! 1. A shard has one pause and one timer for it. A further pause can only make it longer, or stricter.
//! 2. `CLIENT PAUSE` and `CLIENT UNPAUSE` are never held up.
//!
//! Not here: commands about single connections (`connection`).

use std::rc::Rc;
use std::time::Duration;

use corelane_exec::Shard;
use corelane_net::session::{ConnKey, Sessions};
use corelane_proto_resp::Command;

use super::client::{Client, State};
use super::dispatch::Then;
use super::server::all_of;
use super::{Post, Resp};
use crate::services::cache::command::{Flags, Reply, Spec, parse};

/// A year. Who asks for more has this.
const MS_MAX: u64 = 365 * 24 * 3_600_000;

/// What a shard has of a pause.
#[derive(Debug, Default)]
pub(super) struct Pause {
    now: Option<Until>,
    timer: Option<corelane_exec::Task<()>>,
    /// Connections that wait for its end, with the numbers of their waits.
    held: Vec<(ConnKey, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Until {
    mono_ns: u64,
    /// Not only writes.
    all: bool,
}

impl Pause {
    /// A connection that was held up is gone.
    pub(super) fn forget(&mut self, key: ConnKey) {
        self.held.retain(|(held, _)| *held != key);
    }

    pub(super) fn is_on(&self) -> bool {
        self.now.is_some()
    }
}

/// Whether a command changes keys, or is a message to others.
fn writes(state: &State, spec: &Spec) -> bool {
    let one = |spec: &Spec| spec.flags.has(Flags::WRITE) || spec.name == "publish";
    one(spec)
        || spec.name == "exec"
            && state.multi.as_ref().is_some_and(|multi| multi.queued.iter().any(|queued| one(queued.spec)))
}

impl Resp {
    /// Holds a connection up whose command has to wait. None: it has not.
    pub(super) fn hold(&self, state: &mut State, spec: &Spec, behind: bool) -> Option<Then> {
        let until = self.pause.borrow().now?;
        let is_free = matches!(spec.name, "client|pause" | "client|unpause");
        if is_free || !(until.all || writes(state, spec)) {
            return None;
        }
        if behind {
            return Some(Then::NotYet);
        }
        let number = self.next_wait(state);
        state.is_held = true;
        self.pause.borrow_mut().held.push((state.key, number));
        Some(Then::Hold)
    }

    /// CLIENT PAUSE.
    pub(super) fn client_pause(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let all = match command.get(3) {
            None => true,
            Some(mode) if parse::is(mode, "all") => true,
            Some(mode) if parse::is(mode, "write") => false,
            Some(_) => {
                reply.error("ERR CLIENT PAUSE mode must be WRITE or ALL");
                return Then::Next;
            }
        };
        let ms = match parse::integer(&command[2]) {
            Some(ms @ 0..) => ms.unsigned_abs(),
            Some(_) => {
                reply.error("ERR timeout is negative");
                return Then::Next;
            }
            None => {
                reply.error("ERR timeout is not an integer or out of range");
                return Then::Next;
            }
        };
        tracing::info!(client = state.id, ms, all, "CLIENT PAUSE");
        let ms = ms.min(MS_MAX);
        let end = self.shard.now().mono_ns.saturating_add(ms.saturating_mul(1_000_000));
        self.on_all(state, move |shard, sessions| {
            sessions.protocol().pause(shard, sessions, Until { mono_ns: end, all });
        })
    }

    /// CLIENT UNPAUSE.
    pub(super) fn client_unpause(&self, state: &mut State) -> Then {
        self.on_all(state, |shard, sessions| sessions.protocol().resume(shard, sessions, false))
    }

    fn on_all(
        &self,
        state: &mut State,
        ask: impl Fn(&Rc<Shard>, &Sessions<Resp>) + Clone + Send + 'static,
    ) -> Then {
        let calls = self.each_table(ask);
        let version = state.version;
        self.later(state, async move {
            all_of(calls).await?;
            let mut reply = Reply::new(version);
            reply.ok();
            Ok(reply)
        });
        Then::Wait
    }

    fn pause(&self, shard: &Rc<Shard>, sessions: &Sessions<Resp>, more: Until) {
        let now_ns = shard.now().mono_ns;
        let until = match self.pause.borrow().now {
            // One that is over has nothing to add, also where its timer has yet to run.
            Some(own) if own.mono_ns > now_ns => {
                Until { mono_ns: own.mono_ns.max(more.mono_ns), all: own.all || more.all }
            }
            _ => more,
        };
        let time = Duration::from_nanos(until.mono_ns.saturating_sub(now_ns));
        let of = self.sessions.borrow().clone();
        let timer = shard.spawn(async move {
            corelane_exec::sleep(time).await;
            if let Some((sessions, shard)) = of.upgrade().zip(corelane_exec::try_current()) {
                sessions.protocol().resume(&shard, &sessions, true);
            }
        });
        // Without a timer it would never end.
        let Ok(timer) = timer else {
            tracing::error!("no task is free for the end of a pause: this shard does not pause");
            return;
        };
        let old = {
            let mut pause = self.pause.borrow_mut();
            pause.now = Some(until);
            pause.timer.replace(timer)
        };
        if let Some(old) = old {
            old.cancel();
        }
        sessions.each(shard, |_, client: &Client, _| self.look_whether_guarded(&client.state));
    }

    fn resume(&self, shard: &Rc<Shard>, sessions: &Sessions<Resp>, by_timer: bool) {
        let held = {
            let mut pause = self.pause.borrow_mut();
            pause.now = None;
            match pause.timer.take() {
                Some(timer) if by_timer => timer.detach(), // it is what runs just now
                Some(timer) => timer.cancel(),
                None => {}
            }
            std::mem::take(&mut pause.held)
        };
        sessions.each(shard, |_, client: &Client, _| self.look_whether_guarded(&client.state));
        for (key, number) in held {
            sessions.post(key, Post::GoOn { number });
        }
    }
}
