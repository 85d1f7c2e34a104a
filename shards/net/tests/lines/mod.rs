//! A small protocol of lines on a simulated shard: enough of one to reach every corner of a table of sessions.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use corelane_base::{Limits, ListenerId, ShardId};
use corelane_exec::{Runtime, Shard};
use corelane_net::session::{Ending, Refusal};
use corelane_net::{ConnKey, Link, Next, Protocol, SessionConfig, Sessions};
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Faults, Peer, Sim, SimConfig, SimKernel, World};

/// What can be said to a connection from elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Post {
    /// Says it, whatever the connection is at.
    Say(String),
    /// Says it, and input goes on.
    Answer(String),
    /// Has the connection wait.
    Wait,
    Close,
    Panic,
    /// Says it, and posts as much to that other one, again and again.
    PingPong(ConnKey),
}

/// Lines ended by `\n`; the first word says what to do. All but `wait` are answered at once.
#[derive(Default)]
pub struct Lines {
    pub table: RefCell<Weak<Sessions<Lines>>>,
    /// Open connections, in the order they came.
    pub open: RefCell<Vec<ConnKey>>,
    pub closed: RefCell<Vec<(u64, Ending)>>,
    pub undelivered: RefCell<Vec<Post>>,
    /// Lines used in one call; 0 is all.
    pub budget: Cell<usize>,
    pub refuses: Cell<bool>,
    pub greeting: Cell<&'static str>,
    pub panics_at_open: Cell<bool>,
    pub panics_at_close: Cell<bool>,
    /// Once.
    pub panics_at_turn_end: Cell<bool>,
    /// Goes on after the peer's end.
    pub outlives: Cell<bool>,
    pub drains_with: Cell<Option<Next>>,
    /// Bytes seen by each call of `input`, in order.
    pub seen: RefCell<Vec<usize>>,
    pub turn_ends: Cell<usize>,
    /// Bytes of each foresight, and of `warm` none.
    pub foresaw: RefCell<Vec<usize>>,
    /// Once.
    pub panics_at_foresight: Cell<bool>,
    /// Posted by the next `turn_end`.
    pub gathered: RefCell<Vec<(ConnKey, Post)>>,
    /// What the next `turn_end` finds in the table.
    pub lists: Cell<bool>,
    pub listed: RefCell<Vec<(u64, usize)>>,
}

#[derive(Debug)]
pub struct Line {
    pub id: u64,
    /// Bytes of a block still to come, behind its line.
    block: Option<usize>,
}

impl Lines {
    fn table(&self) -> Rc<Sessions<Lines>> {
        self.table.borrow().upgrade().unwrap()
    }

    fn run(&self, shard: &Rc<Shard>, line: &str, conn: &mut Line, link: &mut Link<'_>) -> Option<Next> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.split(' ').next().unwrap().parse::<usize>().unwrap();
        match word {
            "echo" => {
                link.put(rest.as_bytes());
                link.put(b"\n");
            }
            "key" => link.put(format!("{}\n", link.key().to_bits()).as_bytes()),
            "id" => link.put(format!("{}\n", link.id()).as_bytes()),
            "peer" => link.put(format!("{:?}\n", link.peer()).as_bytes()),
            "put" => link.put(&vec![b'p'; number()]),
            "push" => link.push(Bytes::from(vec![b'b'; number()])),
            "pieces" => {
                for n in 0..number() {
                    link.push(Bytes::from(vec![b'a' + u8::try_from(n % 26).unwrap(); 5_000]));
                    link.put(b"-");
                }
            }
            "block" => conn.block = Some(number()),
            "idle" => link.set_idle(Some(Duration::from_millis(number() as u64))),
            "never" => link.set_idle(None),
            "wait" => return Some(Next::Wait),
            "later" => {
                let (table, key) = (self.table(), link.key());
                let time = Duration::from_millis(number() as u64);
                let task = async move {
                    corelane_exec::sleep(time).await;
                    table.post(key, Post::Answer("at last".into()));
                };
                shard.spawn(task).unwrap().detach();
                return Some(Next::Wait);
            }
            "to" => {
                let (bits, text) = rest.split_once(' ').unwrap();
                self.table().post(ConnKey::from_bits(bits.parse().unwrap()), Post::Say(text.into()));
            }
            "all" => {
                for &key in self.open.borrow().iter() {
                    self.table().post(key, Post::Say(rest.into()));
                }
            }
            "gather" => {
                let mut gathered = self.gathered.borrow_mut();
                gathered.push((link.key(), Post::Answer(rest.into())));
                return Some(Next::Wait);
            }
            "soon" => return Some(Next::Soon),
            "kill" => self.table().kill(ConnKey::from_bits(rest.parse().unwrap()), Next::Close),
            "reset" => self.table().kill(ConnKey::from_bits(rest.parse().unwrap()), Next::Abort),
            "list" => {
                let free = self.table().each(shard, |_, _, _| ());
                link.put(if free { b"free\n" } else { b"taken\n" });
            }
            "quit" => {
                link.put(b"bye\n");
                return Some(Next::Close);
            }
            "abort" => return Some(Next::Abort),
            "panic" => panic!("asked to"),
            other => link.put(format!("unknown: {other}\n").as_bytes()),
        }
        None
    }
}

impl Protocol for Lines {
    type Conn = Line;
    type Post = Post;

    fn started(&self, sessions: &Weak<Sessions<Lines>>) {
        *self.table.borrow_mut() = Weak::clone(sessions);
    }

    fn open(&self, _shard: &Rc<Shard>, link: &mut Link<'_>) -> Result<Line, Refusal> {
        link.put(self.greeting.get().as_bytes());
        assert!(!self.panics_at_open.get(), "asked to");
        if self.refuses.get() {
            return Err(Refusal);
        }
        self.open.borrow_mut().push(link.key());
        Ok(Line { id: link.id(), block: None })
    }

    fn input(&self, shard: &Rc<Shard>, conn: &mut Line, link: &mut Link<'_>, unread: &mut &[u8]) -> Next {
        self.seen.borrow_mut().push(unread.len());
        let mut used = 0;
        loop {
            if link.is_full() || (self.budget.get() > 0 && used == self.budget.get()) {
                return Next::Again;
            }
            if let Some(len) = conn.block {
                if unread.len() < len {
                    return Next::More { wants: len };
                }
                let sum: u64 = unread[..len].iter().map(|&byte| u64::from(byte)).sum();
                *unread = &unread[len..];
                conn.block = None;
                link.put(format!("{len} bytes: {sum}\n").as_bytes());
            }
            let Some(end) = unread.iter().position(|&byte| byte == b'\n') else {
                return Next::More { wants: unread.len() + 1 };
            };
            let line = std::str::from_utf8(&unread[..end]).unwrap();
            *unread = &unread[end + 1..];
            used += 1;
            if let Some(next) = self.run(shard, line, conn, link) {
                return next;
            }
        }
    }

    fn foresees(&self) -> bool {
        true
    }

    fn foresee(&self, bytes: &[u8]) {
        self.foresaw.borrow_mut().push(bytes.len());
        assert!(!self.panics_at_foresight.take(), "asked to");
    }

    fn warm(&self) {
        self.foresaw.borrow_mut().push(0);
    }

    fn post(&self, _shard: &Rc<Shard>, _conn: &mut Line, link: &mut Link<'_>, post: Post) -> Next {
        match post {
            Post::Say(text) => {
                link.put(format!("said: {text}\n").as_bytes());
                Next::Same
            }
            Post::Answer(text) => {
                link.put(format!("{text}\n").as_bytes());
                Next::More { wants: 0 }
            }
            Post::Wait => Next::Wait,
            Post::Close => Next::Close,
            Post::Panic => panic!("asked to"),
            Post::PingPong(other) => {
                link.put(b".");
                self.table().post(other, Post::PingPong(link.key()));
                Next::Same
            }
        }
    }

    fn half_closed(&self, _shard: &Rc<Shard>, _conn: &mut Line, link: &mut Link<'_>) -> Next {
        if link.is_waiting() || self.outlives.get() { Next::Same } else { Next::Close }
    }

    fn draining(&self, _shard: &Rc<Shard>, _conn: &mut Line, _link: &mut Link<'_>) -> Next {
        self.drains_with.get().unwrap_or(Next::Same)
    }

    fn turn_end(&self, shard: &Rc<Shard>) {
        self.turn_ends.set(self.turn_ends.get() + 1);
        assert!(!self.panics_at_turn_end.take(), "asked to");
        for (key, post) in self.gathered.take() {
            self.table().post(key, post);
        }
        if self.lists.take() {
            let mut listed = Vec::new();
            assert!(self.table().each(shard, |_, conn, facts| listed.push((conn.id, facts.unsent))));
            self.listed.replace(listed);
        }
    }

    fn closed(&self, _shard: &Rc<Shard>, conn: Line, why: Ending) {
        self.closed.borrow_mut().push((conn.id, why));
        assert!(!self.panics_at_close.get(), "asked to");
    }

    fn undelivered(&self, _shard: &Rc<Shard>, post: Post) {
        self.undelivered.borrow_mut().push(post);
    }
}

pub fn limits() -> Limits {
    Limits { connections_max: 100, descriptors_headroom: 80, ..Limits::default() }
}

pub struct Bench {
    pub rt: Runtime<SimKernel>,
    pub world: World,
    pub listener: ListenerId,
    pub table: Rc<Sessions<Lines>>,
    pub pools: Pools,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(limits(), SessionConfig::default())
    }

    pub fn with(limits: Limits, config: SessionConfig) -> Bench {
        let sim = SimConfig { free_running: false, ..SimConfig::of(&limits) };
        Bench::on(sim, limits, config)
    }

    pub fn faulty(seed: u64, faults: Faults, limits: Limits) -> Bench {
        let sim = SimConfig { free_running: false, seed, faults, ..SimConfig::of(&limits) };
        Bench::on(sim, limits, SessionConfig::default())
    }

    pub fn on(sim: SimConfig, limits: Limits, config: SessionConfig) -> Bench {
        let pools = PoolConfig { guard: false, poison: true, ..PoolConfig::default() };
        Bench::made(sim, limits, config, Pools::new(&pools).unwrap())
    }

    pub fn made(sim: SimConfig, limits: Limits, config: SessionConfig, pools: Pools) -> Bench {
        let (kernel, world) = Sim::new(sim);
        let listener = world.add_listener();
        let mut rt = Runtime::new(ShardId(0), limits, pools.clone(), kernel, None);
        let table = rt.within(|shard| {
            let table = Sessions::start(shard, Lines::default(), config);
            table.listen(shard, listener);
            table
        });
        Bench { rt, world, listener, table, pools }
    }

    pub fn lines(&self) -> &Lines {
        self.table.protocol()
    }

    pub fn connect(&mut self) -> Peer {
        let peer = self.world.connect(self.listener);
        self.settle();
        peer
    }

    pub fn turn(&mut self) {
        self.rt.turn(true).unwrap();
    }

    /// Turns until nothing is left to do at this time.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..20_000 {
            let before = (self.rt.shard().stats.completions.get(), self.rt.shard().stats.tasks_polled.get());
            self.turn();
            let after = (self.rt.shard().stats.completions.get(), self.rt.shard().stats.tasks_polled.get());
            quiet = if before == after && self.world.is_idle() { quiet + 1 } else { 0 };
            if quiet > 3 {
                return;
            }
        }
        panic!("the shard does not come to rest:\n{}", self.world.log());
    }

    /// Lets time pass in small steps.
    pub fn pass(&mut self, time: Duration) {
        let step = Duration::from_millis(100).min(time);
        let mut left = time;
        while left > Duration::ZERO {
            let now = step.min(left);
            self.world.advance(now);
            self.settle();
            left -= now;
        }
    }

    pub fn ask(&mut self, peer: &Peer, bytes: &[u8]) -> String {
        self.send(peer, bytes);
        text(peer)
    }

    /// Writes all of it, however much the link takes at once.
    pub fn send(&mut self, peer: &Peer, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = peer.write(rest);
            rest = &rest[n..];
            self.settle();
            if n == 0 {
                break;
            }
        }
        self.settle();
    }

    /// The key of a connection, as the protocol sees it.
    pub fn key_of(&mut self, peer: &Peer) -> ConnKey {
        ConnKey::from_bits(self.ask(peer, b"key\n").trim().parse().unwrap())
    }

    /// Bytes said and not taken, on all connections.
    pub fn unsent(&mut self) -> usize {
        let (table, mut sum) = (Rc::clone(&self.table), 0);
        self.rt.within(|shard| assert!(table.each(shard, |_, _, facts| sum += facts.unsent)));
        sum
    }

    /// Reads all that comes of a connection until it is over, or nothing more comes.
    pub fn drink(&mut self, peer: &Peer) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let piece = peer.take();
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
            self.settle();
        }
    }

    /// Everything is given back once the peers are gone.
    pub fn check_clean(mut self) {
        self.settle();
        assert_eq!(self.table.len(), 0, "connections left");
        assert_eq!(self.table.inbox_bytes(), 0, "inbox bytes left");
        assert_eq!(self.pools.stats().lent(), 0, "pool buffers left");
        assert_eq!(self.rt.shard().tasks_alive(), 0, "tasks left");
        assert_eq!(self.table.stats.accepted.get(), self.table.stats.closed.get());
        assert_eq!(self.lines().open.borrow().len(), self.lines().closed.borrow().len());
    }
}

pub fn text(peer: &Peer) -> String {
    String::from_utf8_lossy(&peer.take()).into_owned()
}
