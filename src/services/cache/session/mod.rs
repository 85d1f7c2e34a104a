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
//! what is about the connection; `server` what is about the node; `persist` snapshots; `acl` users and what they may;
//! `slowlog` what took long; `pause` and `node` what holds all of them up.
//!
//! Not here: sockets (`net`), what commands do to keys (`command`).

mod acl;
mod blocking;
mod client;
mod config;
mod connection;
mod dispatch;
mod multi;
mod node;
mod pause;
mod persist;
mod pipeline;
mod pubsub;
mod server;
mod slowlog;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;
use corelane_exec::{Shard, Sharded};
use corelane_net::session::{ConnKey, Ending, Facts, Link, Next, Protocol, Refusal, Sessions};
use corelane_proto_resp::{Parser, Step, Version};

use super::command::Reply;
use super::kept::{Counted, Total};
use super::lookahead::{Lookahead, Soon};
use super::shard::CacheShard;
use super::snapshot::Keeper;
use super::transaction::{Coordinator, Outcome, Queued, Watched};
use super::upstream::UpstreamConfig;
use crate::config::Secret;
pub use acl::{USERS_MAX, Users};
pub use client::Client;
use client::{Replies, State};
pub use node::Shutdown;
use pipeline::{Gathering, Spare};
pub use pubsub::Message;

/// Commands of one connection that run in one turn before others get theirs.
const COMMANDS_A_TURN: usize = 1024;

/// Bytes of replies that the scratch of a shard keeps room for. With more, they go to the connection before the next
/// command runs: at `output_high_water` that one waits.
const SCRATCH_KEPT: usize = 64 << 10;

/// Bytes of a reply that are copied into buffers of the pools; more are sent from where they are.
const PUT_MAX: usize = 64 << 10;

/// Bytes of long replies that all clients of a shard may leave untaken. Past it, those with the most are reset.
const UNTAKEN_BYTES_MAX: usize = 1 << 30;

/// Messages to subscribers that may wait to be delivered before who sends more of them gives way. Less than the table's
/// `posts_max`, at which nobody's input is used.
const POSTS_WAITING_MAX: usize = 4_096;

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
    /// What other shards were asked for is back.
    Gathered {
        /// Of the wait.
        number: u64,
        /// With the replies.
        gathering: Box<Gathering>,
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
    /// What wait `number` was for is over: its command is read again.
    GoOn {
        /// Of the wait.
        number: u64,
    },
    /// The connection is to end.
    Kill,
}

/// Settings of the connections of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Maxima of what a client may send.
    pub limits: corelane_proto_resp::Limits,
    /// What AUTH must give as the user `default`; empty asks for nothing.
    pub password: Secret,
    /// The snapshots of the node.
    pub snapshots: Keeper,
    /// What is behind its keys.
    pub upstream: UpstreamConfig,
    /// Further users: a name and its rules, each.
    pub users: Vec<Secret>,
    /// Whether there is DEBUG.
    pub debug: bool,
    /// What SHUTDOWN asks.
    pub shutdown: Shutdown,
}

impl Default for Settings {
    /// Smaller than Redis' own maxima, as unread input counts against the memory of a shard.
    fn default() -> Settings {
        let limits = corelane_proto_resp::Limits {
            bulk_bytes_max: 64 << 20,
            command_bytes_max: 128 << 20,
            ..corelane_proto_resp::Limits::default()
        };
        Settings {
            limits,
            password: Secret::default(),
            snapshots: Keeper::default(),
            upstream: UpstreamConfig::default(),
            users: Vec::new(),
            debug: false,
            shutdown: Shutdown::default(),
        }
    }
}

/// What Redis clients speak to, on one shard.
pub struct Resp {
    shard: Rc<Shard>,
    here: Rc<CacheShard>,
    all: Sharded<CacheShard>,
    cache: super::Cache,
    /// The connections of each shard, to be reached from the others.
    everywhere: Everywhere,
    sessions: RefCell<Weak<Sessions<Resp>>>,
    settings: Settings,
    scratch: RefCell<Reply>,
    lookahead: RefCell<Lookahead>,
    soon: RefCell<Soon>,
    channels: RefCell<pubsub::Channels>,
    users: RefCell<Arc<Users>>,
    acl_log: RefCell<acl::Log>,
    pause: RefCell<pause::Pause>,
    /// Scratch: where keys are among arguments.
    places: RefCell<Vec<usize>>,
    /// Room for what is gathered from other shards.
    gatherings: RefCell<Spare>,
    waits: Cell<u64>,
    commands: Cell<u64>,
    /// What MULTI, WATCH, subscriptions and blocked commands have kept.
    kept: Total,
    /// Long replies that clients have not taken yet.
    untaken: Total,
    /// Connections that are reset for that, and what they had unsent.
    resetting: RefCell<HashMap<ConnKey, usize>>,
    /// A command gave messages to subscribers: who sends more of them looks at how many wait.
    posts_made: Cell<bool>,
    /// Subscribers that were dropped because they did not take their messages.
    too_slow: Cell<u64>,
    /// How many they were at the last CONFIG RESETSTAT.
    commands_reset: Cell<u64>,
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
    /// For the connections of `shard`. `everywhere` is one for all shards, as are the `users` of the start.
    pub fn new(
        shard: &Rc<Shard>,
        cache: &super::Cache,
        everywhere: Everywhere,
        users: Arc<Users>,
        settings: Settings,
    ) -> Resp {
        let here = cache.shards.of(shard);
        Resp {
            shard: Rc::clone(shard),
            here,
            all: cache.shards.clone(),
            cache: cache.clone(),
            everywhere,
            sessions: RefCell::default(),
            settings,
            scratch: RefCell::default(),
            lookahead: RefCell::default(),
            soon: RefCell::default(),
            channels: RefCell::default(),
            users: RefCell::new(users),
            acl_log: RefCell::default(),
            pause: RefCell::default(),
            places: RefCell::default(),
            gatherings: RefCell::default(),
            waits: Cell::new(0),
            commands: Cell::new(0),
            kept: Total::default(),
            untaken: Total::default(),
            resetting: RefCell::default(),
            posts_made: Cell::new(false),
            too_slow: Cell::new(0),
            commands_reset: Cell::new(0),
            captured: RefCell::default(),
        }
    }

    /// What only grows, with its names.
    pub(super) fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("commands", self.commands.get()),
            ("subscribers_dropped", self.too_slow.get()),
            ("denied", self.acl_log.borrow().denied()),
            ("commands_slow", self.here.slow.kept()),
        ]
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
        self.task(state.key, number, (version, 1), async move {
            let reply = work.await.unwrap_or_else(|error| {
                let mut reply = Reply::new(version);
                reply.error(error);
                reply
            });
            Post::Reply { number, reply }
        })
    }

    /// Has `work` done as a task that ends with a post, also if it panics or finds no place: then each of its commands
    /// has an error, in the client's version of the protocol.
    fn task(
        &self,
        key: ConnKey,
        number: u64,
        (version, commands): (Version, usize),
        work: impl Future<Output = Post> + 'static,
    ) -> Next {
        let sessions = self.sessions.borrow().clone();
        let promise = Promise { sessions, key, number, version, commands, kept: false };
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
            _ => link.push(self.counted(bytes.to_vec())),
        };
        let mut done = 0;
        for (at, large) in reply.large() {
            say(link, &reply.bytes()[done..*at]);
            link.push(large.clone());
            done = *at;
        }
        say(link, &reply.bytes()[done..]);
    }

    /// Bytes that are counted until the client took them.
    fn counted(&self, bytes: Vec<u8>) -> Bytes {
        let kept = self.untaken.of(bytes.len());
        Bytes::from_owner(Counted { bytes, _kept: kept })
    }

    /// Too many bytes of long replies are not taken: the clients with the most of them are reset.
    #[cold]
    fn reset_those_with_most(&self, shard: &Shard) {
        let Some(sessions) = self.sessions.borrow().upgrade() else { return };
        let mut resetting = self.resetting.borrow_mut();
        let going: usize = resetting.values().sum();
        let mut left = self.untaken.bytes().saturating_sub(going);
        let mut all = Vec::new();
        if left > UNTAKEN_BYTES_MAX {
            sessions.each(shard, |key, _, facts| {
                if facts.unsent > PUT_MAX && !resetting.contains_key(&key) {
                    all.push((facts.unsent, key));
                }
            });
        }
        all.sort_unstable();
        while left > UNTAKEN_BYTES_MAX
            && let Some((unsent, key)) = all.pop()
        {
            tracing::warn!(unsent, "clients do not take their replies: the one with the most is reset");
            resetting.insert(key, unsent);
            sessions.kill(key, Next::Abort);
            left = left.saturating_sub(unsent);
        }
    }

    /// Gives `reply` to the client: from where it is, if it is long.
    fn say_all(&self, link: &mut Link<'_>, reply: Reply) {
        if reply.bytes().len() <= PUT_MAX {
            return self.say(link, &reply);
        }
        let (bytes, large) = reply.into_parts();
        let (bytes, mut done) = (self.counted(bytes), 0);
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
    commands: usize,
    kept: bool,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(sessions) = self.sessions.upgrade() {
            let mut reply = Reply::new(self.version);
            for _ in 0..self.commands {
                reply.error(
                    "ERR the command was not finished: tasks_max, or an error of the server that its log has",
                );
            }
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
        let users = self.users.borrow();
        let state = State {
            key: link.key(),
            id: (link.id() * u64::from(self.here.shards())) + u64::from(self.here.here().0) + 1,
            version: Version::Resp2,
            name: Vec::new(),
            multi: None,
            watched: Vec::new(),
            kept: self.kept.part(),
            channels: 0,
            patterns: 0,
            is_guest: !users.is_open(),
            user: RefCell::new(users.default_user()),
            is_guarded: Cell::new(false),
            replies: Replies::On,
            awaits: 0,
            waiting: None,
            is_held: false,
            closing: false,
            slow_since_ms: None,
            last: "NULL",
            last_ms: shard.now().mono_ns / 1_000_000,
        };
        self.look_whether_guarded(&state);
        let mut parser = Parser::new();
        parser.set_guest(state.is_guest);
        Ok(Client { parser, state })
    }

    fn input(&self, shard: &Rc<Shard>, client: &mut Client, link: &mut Link<'_>, unread: &mut &[u8]) -> Next {
        if self.untaken.bytes() > UNTAKEN_BYTES_MAX {
            return Next::Again; // this turn, those who have not taken theirs are reset
        }
        let mut scratch = self.scratch.take();
        scratch.set_version(client.state.version);
        let next = self.work_through(shard, client, link, unread, &mut scratch);
        self.say(link, &scratch);
        scratch.clear(SCRATCH_KEPT);
        self.scratch.replace(scratch);
        next
    }

    fn foresees(&self) -> bool {
        true
    }

    #[inline]
    fn foresee(&self, bytes: &[u8]) {
        self.soon.borrow_mut().see(&self.settings.limits, bytes, &self.here);
    }

    #[inline]
    fn warm(&self) {
        self.soon.borrow_mut().warm(&self.here);
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
                if self.wants_reply(state) {
                    self.say(link, &reply);
                }
                self.go_on(state)
            }
            Post::Gathered { number, gathering } => {
                if number == state.awaits {
                    state.awaits = 0;
                    if self.wants_reply(state) {
                        self.say_gathered(link, &gathering);
                    }
                    self.gatherings.borrow_mut().keep(gathering);
                    return self.go_on(state);
                }
                Next::Same
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
            Post::GoOn { number } => {
                if number != state.awaits {
                    return Next::Same;
                }
                state.awaits = 0;
                state.is_held = false;
                self.go_on(state)
            }
            // Who ends itself hears so first.
            Post::Kill if link.is_waiting() && state.waiting.is_none() && !state.is_held => {
                state.closing = true;
                Next::Same
            }
            Post::Kill => {
                // It takes no further message, however long its end takes.
                self.channels.borrow_mut().leave(state.key);
                Next::Close
            }
        }
    }

    fn draining(&self, _shard: &Rc<Shard>, client: &mut Client, link: &mut Link<'_>) -> Next {
        // Who waits for a key or for messages would do so beyond the end.
        let idles = client.state.is_held
            || client.state.waiting.is_some()
            || client.state.is_subscriber() && !link.is_waiting();
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
        if state.is_held {
            self.pause.borrow_mut().forget(state.key);
        }
        self.unwatch(&mut state);
        self.channels.borrow_mut().leave(state.key);
        self.resetting.borrow_mut().remove(&state.key);
    }

    fn turn_end(&self, shard: &Rc<Shard>) {
        if self.untaken.bytes() > UNTAKEN_BYTES_MAX {
            self.reset_those_with_most(shard);
        }
    }
}

impl Resp {
    fn go_on(&self, state: &State) -> Next {
        if state.closing { Next::Close } else { Next::More { wants: 0 } }
    }

    #[cold]
    fn posts_wait(&self) -> bool {
        let sessions = self.sessions.borrow().upgrade();
        sessions.is_some_and(|sessions| sessions.posts_waiting() >= POSTS_WAITING_MAX)
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
        self.here.slow.begin();
        let Client { parser, state } = client;
        state.last_ms = shard.now().mono_ns / 1_000_000;
        let mut gathering = None;
        let mut next = Next::More { wants: 0 };
        let mut lookahead = self.lookahead.borrow_mut();
        lookahead.clear();
        let mut ahead: &[u8] = &[];
        for n in 0.. {
            let gives_way = self.posts_made.take() && self.posts_wait();
            if n == COMMANDS_A_TURN || gives_way || link.is_full() && gathering.is_none() {
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
                            if let Some(gathering) = &mut gathering {
                                // Run at once, it has its place behind those that were sent.
                                if !gathering.ran_here(scratch) {
                                    break;
                                }
                                continue;
                            }
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
                        dispatch::Then::Hold => {
                            *unread = before;
                            next = Next::Wait;
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
        if self.here.slow.has_fresh() {
            let addr = link.peer().map_or_else(String::new, |peer| peer.to_string());
            self.here.slow.name_fresh(&addr, &state.name);
        }
        match gathering {
            Some(gathering) => self.send_gathered(state, gathering, scratch),
            None => next,
        }
    }
}
