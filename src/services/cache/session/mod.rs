//! Session: the connections of Redis clients on one shard.
//!
//! A pipeline is worked through command by command. As long as keys are of this shard, commands run where they are
//! read and their replies leave together. With the first command for another shard the rest of the pipeline is
//! gathered: one message for each other shard (`pipeline`), and the replies are put in order when all are back. What
//! is about the connection itself waits until then.
//!
//! Commands of one connection for the same key run in the order they were sent. Commands for keys of different shards
//! within one pipeline may run at the same time; whoever needs them in order waits for the reply, or uses MULTI.
//!
//! # Rules
//! 1. Every command has exactly one reply, in order.
//! 2. Inside a call of the table nothing waits: what takes longer is a task that ends with a post.
//! 3. A wait is numbered: a post for an earlier one changes nothing.
//!
//! Reading order: here the seam to the table; `client` what is known of a connection; `dispatch` from a command to who
//! runs it; `pipeline` other shards; `multi` transactions; `blocking` commands that wait; `pubsub` messages; `connection`
//! what is about the connection; `server` what is about the node.
//!
//! Not here: sockets (`net`), what commands do to keys (`command`).

mod blocking;
mod client;
mod config;
mod connection;
mod dispatch;
mod multi;
mod pipeline;
mod pubsub;
mod server;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use corelane_exec::{Shard, Sharded};
use corelane_net::session::{ConnKey, Ending, Facts, Link, Next, Protocol, Refusal, Sessions};
use corelane_proto_resp::{Parser, Step, Version};

use super::command::Reply;
use super::lookahead::Lookahead;
use super::shard::CacheShard;
use super::transaction::{Coordinator, Outcome, Queued, Watched};
use crate::config::Secret;
pub use client::Client;
use client::{Replies, State};
pub use pubsub::Message;

/// Commands of one connection that run in one turn before others get theirs.
const COMMANDS_A_TURN: usize = 1024;

/// Bytes of replies that the scratch of a shard keeps room for. With more, they go to the connection, which then may
/// have enough for now.
const SCRATCH_KEPT: usize = 64 << 10;

/// Bytes of a reply that are copied into buffers of the pools; more are sent from where they are.
const PUT_MAX: usize = 64 << 10;

/// What is said to a connection by tasks and other shards.
#[derive(Debug)]
pub enum Post {
    /// What wait `number` was for.
    Reply {
        /// Of the wait.
        number: u64,
        /// What goes to the client.
        reply: Reply,
    },
    /// Keys are watched, or were found to be watched already.
    Watched {
        /// Of the wait.
        number: u64,
        /// With their versions; none where a shard did not answer.
        watched: Result<Vec<Watched>, super::CacheError>,
    },
    /// The commands on keys of a transaction have run.
    Executed {
        /// Of the wait.
        number: u64,
        /// What came of them.
        outcome: Result<Outcome, super::CacheError>,
        /// Its commands in order: those about the connection, which follow, and where the others were.
        plan: Vec<Option<Queued>>,
    },
    /// A message of a channel.
    Message(Rc<Message>),
    /// The connection is to end.
    Kill,
}

/// Settings of the connections of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Maxima of what a client may send.
    pub limits: corelane_proto_resp::Limits,
    /// What AUTH must give; empty asks for nothing.
    pub password: Secret,
}

impl Default for Settings {
    /// Smaller than Redis' own maxima, as unread input counts against the memory of a shard.
    fn default() -> Settings {
        let limits = corelane_proto_resp::Limits {
            bulk_bytes_max: 64 << 20,
            command_bytes_max: 128 << 20,
            ..corelane_proto_resp::Limits::default()
        };
        Settings { limits, password: Secret::default() }
    }
}

/// What Redis clients speak to, on one shard.
pub struct Resp {
    shard: Rc<Shard>,
    here: Rc<CacheShard>,
    all: Sharded<CacheShard>,
    /// The connections of each shard, to be reached from the others.
    everywhere: Everywhere,
    sessions: RefCell<Weak<Sessions<Resp>>>,
    settings: Settings,
    scratch: RefCell<Reply>,
    lookahead: RefCell<Lookahead>,
    channels: RefCell<pubsub::Channels>,
    waits: Cell<u64>,
    commands: Cell<u64>,
    /// Subscribers that were dropped because they did not take their messages.
    too_slow: Cell<u64>,
    /// EXEC runs: what would be a task of its own is a part of it.
    captured: RefCell<Option<Captured>>,
}

/// What comes later of a command that EXEC runs, if anything does.
type Captured = Option<Pin<Box<dyn Future<Output = Result<Reply, super::CacheError>>>>>;

impl std::fmt::Debug for Resp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resp({:?})", self.here.here())
    }
}

/// The table of each shard.
pub type Everywhere = Sharded<RefCell<Weak<Sessions<Resp>>>>;

impl Resp {
    /// For the connections of `shard`. `everywhere` is one for all shards.
    pub fn new(shard: &Rc<Shard>, cache: &super::Cache, everywhere: Everywhere, settings: Settings) -> Resp {
        let here = cache.shards.of(shard);
        Resp {
            shard: Rc::clone(shard),
            here,
            all: cache.shards.clone(),
            everywhere,
            sessions: RefCell::default(),
            settings,
            scratch: RefCell::default(),
            lookahead: RefCell::default(),
            channels: RefCell::default(),
            waits: Cell::new(0),
            commands: Cell::new(0),
            too_slow: Cell::new(0),
            captured: RefCell::default(),
        }
    }

    /// Commands, and subscribers that were dropped for being slow.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.commands.get(), self.too_slow.get())
    }

    /// The tables, before there is one.
    pub fn everywhere() -> Everywhere {
        Sharded::new(|_shard| RefCell::default())
    }

    fn coordinator(&self) -> Coordinator {
        Coordinator { shard: Rc::clone(&self.shard), here: Rc::clone(&self.here), all: self.all.clone() }
    }

    /// The number of the next wait.
    fn next_wait(&self, state: &mut State) -> u64 {
        let number = self.waits.get() + 1;
        self.waits.set(number);
        state.awaits = number;
        number
    }

    fn post(&self, key: ConnKey, post: Post) {
        if let Some(sessions) = self.sessions.borrow().upgrade() {
            sessions.post(key, post);
        }
    }

    /// Has `work` done as a task, and its reply written when it is.
    fn later(
        &self,
        state: &mut State,
        work: impl Future<Output = Result<Reply, super::CacheError>> + 'static,
    ) -> Next {
        if let Some(captured) = &mut *self.captured.borrow_mut() {
            *captured = Some(Box::pin(work));
            return Next::Wait;
        }
        let number = self.next_wait(state);
        let version = state.version;
        self.task(state.key, number, version, async move {
            let reply = work.await.unwrap_or_else(|error| {
                let mut reply = Reply::new(version);
                reply.error(error);
                reply
            });
            Post::Reply { number, reply }
        })
    }

    /// Has `work` done as a task that ends with a post, also if it panics or finds no place.
    fn task(
        &self,
        key: ConnKey,
        number: u64,
        version: Version,
        work: impl Future<Output = Post> + 'static,
    ) -> Next {
        let promise = Promise { sessions: self.sessions.borrow().clone(), key, number, version, kept: false };
        let task = self.shard.spawn(async move {
            let mut promise = promise;
            let post = work.await;
            promise.kept = true;
            if let Some(sessions) = promise.sessions.upgrade() {
                sessions.post(promise.key, post);
            }
        });
        // Refused for want of a task, the promise was dropped with the future, and has said so.
        if let Ok(task) = task {
            task.detach();
        }
        Next::Wait
    }

    /// Gives `reply`, which is not long but for its large values, to the client.
    #[inline]
    fn say(&self, link: &mut Link<'_>, reply: &Reply) {
        if reply.large().is_empty() && reply.bytes().len() <= PUT_MAX {
            return link.put(reply.bytes());
        }
        let say = |link: &mut Link<'_>, bytes: &[u8]| match bytes.len() {
            0 => {}
            1..=PUT_MAX => link.put(bytes),
            _ => link.push(Bytes::copy_from_slice(bytes)),
        };
        let mut done = 0;
        for (at, large) in reply.large() {
            say(link, &reply.bytes()[done..*at]);
            link.push(large.clone());
            done = *at;
        }
        say(link, &reply.bytes()[done..]);
    }

    /// Gives `reply` to the client: from where it is, if it is long.
    fn say_all(&self, link: &mut Link<'_>, reply: Reply) {
        if reply.bytes().len() <= PUT_MAX {
            return self.say(link, &reply);
        }
        let (bytes, large) = reply.into_parts();
        let (bytes, mut done) = (Bytes::from(bytes), 0);
        for (at, large) in large {
            link.push(bytes.slice(done..at));
            link.push(large);
            done = at;
        }
        link.push(bytes.slice(done..));
    }
}

/// A task's promise to say something. One that is dropped unkept says that it failed.
struct Promise {
    sessions: Weak<Sessions<Resp>>,
    key: ConnKey,
    number: u64,
    version: Version,
    kept: bool,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(sessions) = self.sessions.upgrade() {
            let mut reply = Reply::new(self.version);
            reply.error(
                "ERR the command was not finished: tasks_max, or an error of the server that its log has",
            );
            sessions.post(self.key, Post::Reply { number: self.number, reply });
        }
    }
}

impl Protocol for Resp {
    type Conn = Client;
    type Post = Post;

    fn started(&self, sessions: &Weak<Sessions<Resp>>) {
        self.sessions.replace(sessions.clone());
        self.everywhere.of(&self.shard).replace(sessions.clone());
    }

    fn open(&self, shard: &Rc<Shard>, link: &mut Link<'_>) -> Result<Client, Refusal> {
        let state = State {
            key: link.key(),
            id: (link.id() * u64::from(self.here.shards())) + u64::from(self.here.here().0) + 1,
            version: Version::Resp2,
            name: Vec::new(),
            multi: None,
            watched: Vec::new(),
            channels: 0,
            patterns: 0,
            is_guest: !self.settings.password.is_empty(),
            replies: Replies::On,
            awaits: 0,
            waiting: None,
            closing: false,
            slow_since_ms: None,
            last: "NULL",
            last_ms: shard.now().mono_ns / 1_000_000,
        };
        let mut parser = Parser::new();
        parser.set_guest(state.is_guest);
        Ok(Client { parser, state })
    }

    fn input(&self, shard: &Rc<Shard>, client: &mut Client, link: &mut Link<'_>, unread: &mut &[u8]) -> Next {
        let mut scratch = self.scratch.take();
        scratch.set_version(client.state.version);
        let next = self.work_through(shard, client, link, unread, &mut scratch);
        self.say(link, &scratch);
        scratch.clear(SCRATCH_KEPT);
        self.scratch.replace(scratch);
        next
    }

    fn post(&self, shard: &Rc<Shard>, client: &mut Client, link: &mut Link<'_>, post: Post) -> Next {
        let state = &mut client.state;
        match post {
            Post::Reply { number, reply } => {
                if number != state.awaits {
                    return Next::Same;
                }
                state.awaits = 0;
                state.waiting = None;
                if self.wants_reply(state) {
                    self.say_all(link, reply);
                }
                self.go_on(state)
            }
            Post::Watched { number, watched } => {
                if number != state.awaits {
                    self.coordinator().unwatch(watched.unwrap_or_default());
                    return Next::Same;
                }
                state.awaits = 0;
                let mut reply = Reply::new(state.version);
                match watched {
                    Ok(watched) => {
                        state.watched.extend(watched);
                        reply.ok();
                    }
                    Err(error) => reply.error(error),
                }
                self.say(link, &reply);
                self.go_on(state)
            }
            Post::Executed { number, outcome, plan } => {
                if number != state.awaits {
                    return Next::Same;
                }
                state.awaits = 0;
                match self.executed(state, outcome, plan) {
                    multi::Finished::Later => Next::Wait,
                    multi::Finished::Now(reply) => {
                        if self.wants_reply(state) {
                            self.say_all(link, reply);
                        }
                        self.go_on(state)
                    }
                }
            }
            Post::Message(message) => self.deliver(shard, state, link, &message),
            // Who ends itself hears so first.
            Post::Kill if link.is_waiting() && state.waiting.is_none() => {
                state.closing = true;
                Next::Same
            }
            Post::Kill => Next::Close,
        }
    }

    fn draining(&self, _shard: &Rc<Shard>, client: &mut Client, link: &mut Link<'_>) -> Next {
        // Who waits for a key or for messages would do so beyond the end.
        let idles = client.state.waiting.is_some() || client.state.is_subscriber() && !link.is_waiting();
        if idles { Next::Close } else { Next::Same }
    }

    fn half_closed(&self, _shard: &Rc<Shard>, client: &mut Client, link: &mut Link<'_>) -> Next {
        // Who waits for a key has left for good; a reply that is on its way is still wanted.
        if link.is_waiting() && client.state.waiting.is_none() { Next::Same } else { Next::Close }
    }

    fn undelivered(&self, _shard: &Rc<Shard>, post: Post) {
        if let Post::Watched { watched: Ok(watched), .. } = post {
            self.coordinator().unwatch(watched);
        }
    }

    fn closed(&self, _shard: &Rc<Shard>, client: Client, _why: Ending) {
        let mut state = client.state;
        state.waiting = None;
        self.unwatch(&mut state);
        self.channels.borrow_mut().leave(state.key);
    }
}

impl Resp {
    fn go_on(&self, state: &State) -> Next {
        if state.closing { Next::Close } else { Next::More { wants: 0 } }
    }

    /// Whether the client wants the reply of the command that has just run.
    fn wants_reply(&self, state: &mut State) -> bool {
        match state.replies {
            Replies::On => true,
            Replies::Off => false,
            Replies::SkipThis => {
                state.replies = Replies::On;
                false
            }
            Replies::SkipNext => {
                state.replies = Replies::SkipThis;
                false
            }
        }
    }

    #[inline]
    fn work_through(
        &self,
        shard: &Rc<Shard>,
        client: &mut Client,
        link: &mut Link<'_>,
        unread: &mut &[u8],
        scratch: &mut Reply,
    ) -> Next {
        self.here.set_now(shard);
        let Client { parser, state } = client;
        state.last_ms = shard.now().mono_ns / 1_000_000;
        let mut gathering = None;
        let mut next = Next::More { wants: 0 };
        let mut lookahead = self.lookahead.borrow_mut();
        lookahead.clear();
        let mut ahead: &[u8] = &[];
        for n in 0.. {
            if n == COMMANDS_A_TURN || link.is_full() && gathering.is_none() {
                next = Next::Again;
                break;
            }
            let before = *unread;
            if lookahead.is_empty() && parser.is_fresh() && !state.is_guest {
                ahead = before;
                lookahead.read(&self.settings.limits, ahead, &self.here);
            }
            let step = match lookahead.next(ahead) {
                Some((command, first, end)) => {
                    *unread = &ahead[end..];
                    (Step::Command(command), first)
                }
                None => (parser.poll(&self.settings.limits, unread), None),
            };
            match step {
                (Step::Command(command), first) => {
                    let raw = &before[..before.len() - unread.len()];
                    let start = scratch.bytes().len();
                    let then = self.dispatch(shard, state, &command, first, raw, &mut gathering, scratch);
                    match then {
                        dispatch::Then::Next => {
                            if state.is_guest {
                                lookahead.clear();
                            }
                            parser.set_guest(state.is_guest);
                            if state.replies != Replies::On && !self.wants_reply(state) {
                                scratch.truncate(start);
                            }
                            if scratch.bytes().len() > SCRATCH_KEPT || !scratch.large().is_empty() {
                                self.say(link, scratch);
                                scratch.clear(SCRATCH_KEPT);
                            }
                        }
                        // What is not wanted is found out reply by reply.
                        dispatch::Then::Gather if state.replies != Replies::On => break,
                        dispatch::Then::Gather => {}
                        dispatch::Then::NotYet => {
                            *unread = before;
                            break;
                        }
                        dispatch::Then::Wait => {
                            next = Next::Wait;
                            break;
                        }
                        dispatch::Then::Close => {
                            next = Next::Close;
                            break;
                        }
                    }
                }
                (Step::NeedMore { wants }, _) => {
                    next = Next::More { wants };
                    break;
                }
                (Step::Refused(error), _) => {
                    if gathering.is_some() {
                        *unread = before; // the parser says it again
                        break;
                    }
                    scratch.write().protocol_error(error);
                    next = Next::Close;
                    break;
                }
            }
        }
        match gathering {
            Some(gathering) => self.send_gathered(state, gathering),
            None => next,
        }
    }
}
