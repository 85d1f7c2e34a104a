//! The load of the storm: numbered messages from every shard to every one, and a book on each shard that says
//! what was sent and what came.
//!
//! # Rules
//! 1. Messages of a pair of shards are numbered in the order of their sending; those that run at once
//!    (letters: calls and casts) and those that become tasks there (errands) each have their own row.
//! 2. A cast that is given back has no number. A call that is dropped while it waits for a credit is written
//!    down: its number alone never comes.
//! 3. A book says what went wrong (`faults`) instead of panicking: a panic on a shard is caught there.
//!
//! Not here: who turns the shards (`storm.rs`).
#![allow(unreachable_pub)]

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use corelane_base::{Rng, ShardId};
use corelane_exec::{Call, CallError, Mesh, Message, Shard, sleep, yield_now};

const LETTER: usize = 0;
const ERRAND: usize = 1;
const KINDS: usize = 2;

/// Casts that a message may cause where it is handled, one after the other.
const HOPS_MAX: u8 = 2;

/// Calls that a task has under way at most.
const OPEN_MAX: usize = 5;

/// Faults written down; the first ones tell most.
const FAULTS_MAX: usize = 10;

/// What is between this shard and one other.
#[derive(Debug, Default)]
struct Row {
    /// The number of the next message to it.
    next: [u64; KINDS],
    /// Numbers of calls to it that were dropped before they were sent.
    taken_back: [Vec<u64>; KINDS],
    /// One past the last number that came from it.
    seen: [u64; KINDS],
    /// Numbers of its messages that others overtook, or that never come.
    missing: [Vec<u64>; KINDS],
}

/// What a shard sent and got.
#[derive(Debug)]
pub struct Book {
    here: u16,
    rows: Vec<Row>,
    rng: Rng,
    pub faults: Vec<String>,
    pub handled: u64,
    pub replies: u64,
    pub refused: u64,
    pub dropped: u64,
    /// Messages handled and replies taken, for a thread that watches.
    progress: Arc<AtomicU64>,
}

/// Where a shard keeps it.
#[derive(Default)]
struct Kept(RefCell<Option<Book>>);

impl Book {
    /// Opens the book of a shard.
    pub fn open(shard: &Shard, shards: usize, seed: u64) -> Arc<AtomicU64> {
        let progress = Arc::new(AtomicU64::new(0));
        let book = Book {
            here: shard.id().0,
            rows: (0..shards).map(|_| Row::default()).collect(),
            rng: Rng::new(seed),
            faults: Vec::new(),
            handled: 0,
            replies: 0,
            refused: 0,
            dropped: 0,
            progress: Arc::clone(&progress),
        };
        let before = shard.local(Kept::default).0.replace(Some(book));
        assert!(before.is_none());
        progress
    }

    /// Takes the book of a shard.
    pub fn close(shard: &Shard) -> Book {
        shard.local(Kept::default).0.take().expect("a book is closed once")
    }

    fn with<R>(shard: &Shard, f: impl FnOnce(&mut Book) -> R) -> R {
        f(shard.local(Kept::default).0.borrow_mut().as_mut().expect("the book is open"))
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }

    fn went_on(&self) {
        self.progress.store(self.handled + self.replies, Ordering::Relaxed);
    }

    /// The number of the message that is sent now.
    fn number(&mut self, to: ShardId, kind: usize) -> u64 {
        let next = &mut self.rows[usize::from(to.0)].next[kind];
        *next += 1;
        *next - 1
    }

    fn arrived(&mut self, from: u16, kind: usize, number: u64) {
        let row = &mut self.rows[usize::from(from)];
        let seen = row.seen[kind];
        if number < seen {
            let here = self.here;
            return self.fault(format!("{from} to {here}: {number} came at {seen} (kind {kind})"));
        }
        row.missing[kind].extend(seen..number);
        row.seen[kind] = number + 1;
        self.handled += 1;
        self.went_on();
    }

    /// Compares all books: each number came once and in its turn, or was taken back.
    pub fn compare(books: &[Book]) -> Vec<String> {
        let mut faults: Vec<String> = books.iter().flat_map(|book| book.faults.iter().cloned()).collect();
        for sender in books {
            for receiver in books {
                let sent = &sender.rows[usize::from(receiver.here)];
                let came = &receiver.rows[usize::from(sender.here)];
                for kind in [LETTER, ERRAND] {
                    let mut taken_back = sent.taken_back[kind].clone();
                    taken_back.sort_unstable();
                    let mut missing = came.missing[kind].clone();
                    missing.extend(came.seen[kind]..sent.next[kind]);
                    if missing != taken_back {
                        let lost: Vec<_> =
                            missing.iter().filter(|n| taken_back.binary_search(n).is_err()).take(5).collect();
                        let odd: Vec<_> =
                            taken_back.iter().filter(|n| missing.binary_search(n).is_err()).take(5).collect();
                        faults.push(format!(
                            "{} to {}, kind {kind}: lost {lost:?}, came though taken back {odd:?}, of {}",
                            sender.here, receiver.here, sent.next[kind]
                        ));
                    }
                }
            }
        }
        faults
    }

    /// Messages sent, those taken back left out.
    pub fn sent(&self) -> u64 {
        let sent = |row: &Row| {
            (0..KINDS).map(|kind| row.next[kind] - row.taken_back[kind].len() as u64).sum::<u64>()
        };
        self.rows.iter().map(sent).sum()
    }
}

/// What the handling of a message must give.
fn answer(from: u16, to: u16, number: u64) -> u64 {
    (number << 32 ^ u64::from(from) << 16 ^ u64::from(to)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

struct Letter {
    from: u16,
    number: u64,
    hops: u8,
}

impl Message for Letter {
    type Reply = u64;

    fn handle(self, shard: &Rc<Shard>) -> u64 {
        let next = Book::with(shard, |book| {
            book.arrived(self.from, LETTER, self.number);
            ShardId(u16::try_from(book.rng.index(book.rows.len())).unwrap())
        });
        if self.hops > 0 {
            cast(&shard.mesh(), next, self.hops - 1);
        }
        answer(self.from, shard.id().0, self.number)
    }
}

/// Sends a cast. It may be refused; then it was never sent. Returns whether it was sent.
fn cast(mesh: &Mesh, to: ShardId, hops: u8) -> bool {
    let shard = corelane_exec::current();
    let number = Book::with(&shard, |book| book.number(to, LETTER));
    let sent = mesh.cast(to, Letter { from: mesh.here().0, number, hops }).is_ok();
    if !sent {
        // Nothing ran meanwhile: only a cast to the own shard runs at once, and that is never refused.
        Book::with(&shard, |book| {
            book.refused += 1;
            book.rows[usize::from(to.0)].next[LETTER] -= 1;
        });
    }
    sent
}

/// A call under way.
struct Open {
    call: Call<u64>,
    to: ShardId,
    kind: usize,
    number: u64,
}

fn call(mesh: &Mesh, to: ShardId, hops: u8) -> Open {
    let number = Book::with(&corelane_exec::current(), |book| book.number(to, LETTER));
    let call = mesh.call(to, Letter { from: mesh.here().0, number, hops });
    Open { call, to, kind: LETTER, number }
}

fn errand(mesh: &Mesh, to: ShardId, dice: u64) -> Open {
    let from = mesh.here().0;
    let number = Book::with(&corelane_exec::current(), |book| book.number(to, ERRAND));
    let call = mesh.run(to, move |shard| {
        let there = Rc::clone(shard);
        Book::with(&there, |book| book.arrived(from, ERRAND, number));
        async move {
            for _ in 0..dice % 3 {
                yield_now().await;
            }
            if dice % 64 == 9 {
                sleep(Duration::from_millis(1)).await;
            }
            answer(from, there.id().0, number)
        }
    });
    Open { call, to, kind: ERRAND, number }
}

impl Open {
    fn check(&self, mesh: &Mesh, reply: Result<u64, CallError>) {
        let here = mesh.here().0;
        let (to, number) = (self.to.0, self.number);
        Book::with(&corelane_exec::current(), |book| {
            book.replies += 1;
            book.went_on();
            if reply != Ok(answer(here, to, number)) {
                book.fault(format!(
                    "{here} to {to}: the answer to {number} is {reply:?} (kind {})",
                    self.kind
                ));
            }
        });
    }

    async fn finish(mut self, mesh: &Mesh) {
        let reply = (&mut self.call).await;
        self.check(mesh, reply);
    }

    /// Asks once, and forgets it if it has no reply yet.
    async fn ask_once(mut self, mesh: &Mesh) {
        let call = &mut self.call;
        let once = poll_fn(|cx| match Pin::new(&mut *call).poll(cx) {
            Poll::Ready(reply) => Poll::Ready(Some(reply)),
            Poll::Pending => Poll::Ready(None),
        });
        match once.await {
            Some(reply) => self.check(mesh, reply),
            None => self.forget(mesh),
        }
    }

    /// Drops the call. Whether it was sent shows in the number of those that wait.
    fn forget(self, mesh: &Mesh) {
        let waiting = |mesh: &Mesh| mesh.under_way(self.to).1;
        let before = waiting(mesh);
        drop(self.call);
        let taken_back = waiting(mesh) < before;
        Book::with(&corelane_exec::current(), |book| {
            book.dropped += 1;
            if taken_back {
                book.rows[usize::from(self.to.0)].taken_back[self.kind].push(self.number);
            }
        });
    }
}

/// One task of the load, for as long as `more` says so; then waits for what it has under way.
pub async fn load(mesh: Mesh, seed: u64, mut more: impl FnMut() -> bool) {
    let mut rng = Rng::new(seed);
    let mut open: Vec<Open> = Vec::new();
    let shards = mesh.shards();
    while more() {
        let to = ShardId(u16::try_from(rng.index(shards)).unwrap());
        let hops = u8::try_from(rng.below(u64::from(HOPS_MAX) + 1)).unwrap();
        match rng.below(10) {
            0 | 1 => call(&mesh, to, hops).finish(&mesh).await,
            2 | 3 => open.push(call(&mesh, to, hops)),
            4 | 5 => {
                if !cast(&mesh, to, hops) {
                    yield_now().await;
                }
            }
            6 => open.push(errand(&mesh, to, rng.next_u64())),
            7 => call(&mesh, to, hops).forget(&mesh),
            8 => errand(&mesh, to, rng.next_u64()).ask_once(&mesh).await,
            _ => yield_now().await,
        }
        if open.len() > OPEN_MAX {
            let one = open.swap_remove(rng.index(open.len()));
            match rng.below(8) {
                0 => one.forget(&mesh),
                1 => one.ask_once(&mesh).await,
                _ => one.finish(&mesh).await,
            }
        }
    }
    for one in open {
        one.finish(&mesh).await;
    }
}

/// For `more`: this many times.
pub fn times(n: u32) -> impl FnMut() -> bool {
    let left = Cell::new(n);
    move || left.replace(left.get().saturating_sub(1)) > 0
}

/// What a shard must show once everything is over.
pub fn at_rest(shard: &Rc<Shard>) -> Vec<String> {
    let (here, mesh, stats) = (shard.id().0, shard.mesh(), &shard.mesh_stats);
    let mut faults = Vec::new();
    let mut must_be_zero = |what: String, n: u64| {
        if n != 0 {
            faults.push(format!("shard {here}: {n} {what}"));
        }
    };
    for to in mesh.all() {
        let (sent, waiting) = mesh.under_way(to);
        must_be_zero(format!("credits not back from {}", to.0), sent as u64);
        must_be_zero(format!("calls wait for {}", to.0), waiting as u64);
        must_be_zero(format!("requests of {} not taken", to.0), mesh.lane_depth(to) as u64);
    }
    must_be_zero("tasks alive".to_owned(), shard.tasks_alive() as u64);
    must_be_zero("tasks panicked".to_owned(), shard.stats.tasks_panicked.get());
    must_be_zero("messages panicked".to_owned(), stats.panics.get());
    must_be_zero("calls late".to_owned(), stats.calls_late.get());
    must_be_zero("calls refused".to_owned(), stats.calls_refused.get());
    faults
}
