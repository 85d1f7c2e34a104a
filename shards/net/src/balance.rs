//! Who of a group of shards gets the next connection.
//!
//! The kernel spreads connections over a `SO_REUSEPORT` group by a hash, or by the CPU that took the packet:
//! fair over many, not over few. Long-lived connections make what it did last for hours. A [`Balance`] is what
//! the shards of a group know of each other: how many connections each has, and who has room. A shard that
//! accepted one more than its share gives it to the least loaded one (`http1::hand`).
//!
//! # Rules
//! 1. `assigned` of a seat counts connections that are a shard's, or on their way to it. Whoever assigns one
//!    adds it before anything else happens; the owner takes it off when its slot is free, or the giver when it
//!    did not arrive.
//! 2. A place is taken by adding first and looking at `room` after. A drain sets `room` to 0 first and looks at
//!    `assigned` after. Both sequentially consistent: either the giver sees the drain and takes its place back,
//!    or the drain sees the newcomer and waits for it.
//! 3. The same holds between a shard that pauses (`full`, then a look at who has room) and one that frees a
//!    place (`assigned`, then a look at who pauses): a shard with a queue is rung when somebody has room.
//! 4. Everything here is an atomic or is set once. A seat is written to by others only as connections come and
//!    go, never by requests.
//!
//! Not here: what moves the socket, and what a connection is (`http1`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};

use corelane_base::{Sock, Token, Unpark};
use crossbeam_queue::ArrayQueue;

/// Sockets on their way to a shard as bare numbers. At it: the giver keeps the connection.
const INBOX_MAX: usize = 256;

/// Addresses a shard may have on their way to others. At it: the giver keeps the connection, or the taker
/// asks for the address again.
const LETTERS: usize = 64;

/// How another shard reaches this one.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) unpark: Arc<dyn Unpark>,
    /// What arrives there completes.
    pub(crate) arrival: Token,
}

/// A connection whose number is the same for every shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) sock: Sock,
    pub(crate) peer: Option<SocketAddr>,
}

/// The address of a connection that travels without one. Written by the giver while `full` is false, read by
/// the taker while it is true.
#[derive(Default)]
struct Letter {
    full: AtomicBool,
    ip: [AtomicU64; 2],
    /// Port, and from bit 16 the scope of a link-local address.
    port: AtomicU64,
}

/// One shard. On cache lines of its own: two, as they are fetched in pairs.
#[repr(align(128))]
struct Seat {
    assigned: AtomicU32,
    /// Most it takes; 0 before it listens and in a drain.
    room: AtomicU32,
    /// Its listeners are paused until somebody has room.
    full: AtomicBool,
    door: OnceLock<Door>,
    inbox: ArrayQueue<Arrival>,
    letters: Box<[Letter]>,
}

/// The shards of a listener group, and how many connections each has. Made once, shared by all of them.
pub struct Balance {
    seats: Box<[Seat]>,
    /// Seats that are `full`.
    waiting: AtomicU32,
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loads: Vec<u32> = (0..self.seats.len()).map(|shard| self.assigned(shard)).collect();
        write!(f, "Balance({loads:?})")
    }
}

/// How far above the least loaded shard one may get: an eighth, and one at least. An eighth is where a hop (two
/// operations on each side) costs more than the difference is worth.
fn slack(least: u32) -> u32 {
    (least / 8).max(1)
}

/// A seat with at most this many has room again: a little below `room`, so that a full group does not stop and
/// go with every connection.
pub(crate) fn mark(room: u32) -> u32 {
    room - room.div_ceil(64).min(room)
}

impl Balance {
    /// For `shards` shards, numbered from 0 by their [`ShardId`](corelane_base::ShardId). None takes a
    /// connection before it listens.
    pub fn new(shards: usize) -> Arc<Balance> {
        let seat = |_| Seat {
            assigned: AtomicU32::new(0),
            room: AtomicU32::new(0),
            full: AtomicBool::new(false),
            door: OnceLock::new(),
            inbox: ArrayQueue::new(INBOX_MAX),
            letters: (0..LETTERS).map(|_| Letter::default()).collect(),
        };
        Arc::new(Balance { seats: (0..shards).map(seat).collect(), waiting: AtomicU32::new(0) })
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.seats.len()
    }

    /// Connections that are `shard`'s, those on their way to it included.
    pub fn assigned(&self, shard: usize) -> u32 {
        self.seats[shard].assigned.load(SeqCst)
    }

    /// Whether `shard` takes connections: it listens and does not drain.
    pub fn is_open(&self, shard: usize) -> bool {
        self.seats[shard].room.load(Relaxed) > 0
    }

    /// `here` takes connections from now on. The second listener of a shard changes nothing.
    pub(crate) fn open(&self, here: usize, room: u32, door: impl FnOnce() -> Door) {
        let seat = &self.seats[here];
        if seat.door.get().is_none() {
            drop(seat.door.set(door()));
            seat.room.store(room, SeqCst);
        }
    }

    /// `here` takes no more. What is assigned to it by now still arrives, or is taken back.
    pub(crate) fn close(&self, here: usize) {
        self.seats[here].room.store(0, SeqCst);
        self.go_on(here);
    }

    /// Takes a place for a connection that `here` accepted, and says whose it is. It stays here unless that
    /// put this shard above the least loaded one by more than [`slack`], or it is full.
    pub(crate) fn assign(&self, here: usize) -> usize {
        // A place may be gone by the time it is taken; two further looks find another, or this shard.
        for _ in 0..3 {
            let Some((least, load)) = self.least(here) else { break };
            let seat = &self.seats[here];
            let own = seat.assigned.load(Relaxed);
            if own < seat.room.load(Relaxed) && own < load.saturating_add(slack(load)) {
                break;
            }
            if self.seats[least].assigned.fetch_add(1, SeqCst) < self.seats[least].room.load(SeqCst) {
                return least;
            }
            self.give_back(least);
        }
        self.count(here);
        here
    }

    /// The least loaded of the others that have room; of equals the next in the round.
    fn least(&self, here: usize) -> Option<(usize, u32)> {
        let count = self.seats.len();
        let others = (here + 1..here + count).map(|shard| shard % count);
        let open = others.filter_map(|shard| {
            let seat = &self.seats[shard];
            let load = seat.assigned.load(Relaxed);
            (load < seat.room.load(Relaxed)).then_some((shard, load))
        });
        open.min_by_key(|&(_, load)| load)
    }

    /// One more for `here`, wherever the rest is.
    pub(crate) fn count(&self, here: usize) {
        self.seats[here].assigned.fetch_add(1, SeqCst);
    }

    /// A connection of `here` is closed.
    pub(crate) fn leave(&self, here: usize) {
        let seat = &self.seats[here];
        let left = seat.assigned.fetch_sub(1, SeqCst) - 1;
        let room = seat.room.load(SeqCst);
        if self.waiting.load(SeqCst) > 0 && room > 0 && left <= mark(room) {
            self.ring_the_full();
        }
    }

    /// One that was assigned to `shard` by another does not come. A drain there may wait for just that.
    pub(crate) fn give_back(&self, shard: usize) {
        self.leave(shard);
        if self.seats[shard].room.load(SeqCst) == 0
            && let Some(door) = self.seats[shard].door.get()
        {
            door.unpark.unpark();
        }
    }

    /// Rule 3. Each is rung once for each time it paused.
    fn ring_the_full(&self) {
        for (shard, seat) in self.seats.iter().enumerate() {
            if self.go_on(shard)
                && let Some(door) = seat.door.get()
            {
                door.unpark.unpark();
            }
        }
    }

    /// Whether another shard than `here` takes connections now.
    pub(crate) fn has_room_beside(&self, here: usize) -> bool {
        self.least(here).is_some()
    }

    /// Says that `here` pauses its listeners. False where it must not: somebody has room.
    pub(crate) fn pause(&self, here: usize) -> bool {
        if self.has_room_beside(here) {
            return false;
        }
        if !self.seats[here].full.swap(true, SeqCst) {
            self.waiting.fetch_add(1, SeqCst);
        }
        let roomy = |(shard, seat): (usize, &Seat)| {
            let room = seat.room.load(SeqCst);
            shard != here && room > 0 && seat.assigned.load(SeqCst) <= mark(room)
        };
        if self.seats.iter().enumerate().any(roomy) {
            self.go_on(here);
            return false;
        }
        true
    }

    /// Ends the pause of `shard`; true if there was one.
    pub(crate) fn go_on(&self, shard: usize) -> bool {
        let paused = self.seats[shard].full.swap(false, SeqCst);
        if paused {
            self.waiting.fetch_sub(1, SeqCst);
        }
        paused
    }

    /// Whether the pause that `here` began stands; false once it was rung.
    pub(crate) fn is_paused(&self, here: usize) -> bool {
        self.seats[here].full.load(Relaxed)
    }

    /// How to reach a shard that was assigned to.
    pub(crate) fn door(&self, shard: usize) -> Option<&Door> {
        self.seats[shard].door.get()
    }

    /// Leaves a connection at the door of `to` and rings. False if too many are there.
    pub(crate) fn post(&self, to: usize, arrival: Arrival) -> bool {
        let seat = &self.seats[to];
        let Some(door) = seat.door.get() else { return false };
        let posted = seat.inbox.push(arrival).is_ok();
        if posted {
            door.unpark.unpark();
        }
        posted
    }

    /// Takes one that was left at the door. Asked in every turn: two loads where there is none.
    pub(crate) fn take(&self, here: usize) -> Option<Arrival> {
        let inbox = &self.seats[here].inbox;
        if inbox.is_empty() { None } else { inbox.pop() }
    }

    /// Writes down the address of a connection that `here` gives away, for the taker to [`read`](Self::read).
    /// Nothing when all letters are out.
    pub(crate) fn write(&self, here: usize, peer: SocketAddr) -> Option<u32> {
        let letters = &self.seats[here].letters;
        let at = letters.iter().position(|letter| !letter.full.load(Acquire))?;
        let letter = &letters[at];
        let (ip, scope) = match peer {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        let bits = ip.to_bits();
        #[allow(clippy::cast_possible_truncation)] // one half each
        for (word, half) in letter.ip.iter().zip([(bits >> 64) as u64, bits as u64]) {
            word.store(half, Relaxed);
        }
        letter.port.store(u64::from(peer.port()) | u64::from(scope) << 16, Relaxed);
        letter.full.store(true, Release);
        u32::try_from(at).ok()
    }

    /// What an arrival says about its letter: 0, or which shard wrote which.
    pub(crate) fn mail(&self, from: usize, letter: Option<u32>) -> u32 {
        let number = letter.map_or(0, |at| 1 + from * LETTERS + at as usize);
        u32::try_from(number).unwrap_or(0) // 65,536 shards of 64 letters are far below 2^32
    }

    /// The address in the letter of an arrival, where it has one.
    pub(crate) fn open_mail(&self, mail: u32) -> Option<SocketAddr> {
        let number = (mail as usize).checked_sub(1)?;
        self.read(number / LETTERS, u32::try_from(number % LETTERS).ok()?)
    }

    /// The address in letter `at` of `from`, which is free again afterwards. The giver reads a letter itself
    /// when the connection stayed. Mapped addresses come out as IPv4.
    pub(crate) fn read(&self, from: usize, at: u32) -> Option<SocketAddr> {
        let letter = self.seats.get(from)?.letters.get(at as usize)?;
        if !letter.full.load(Acquire) {
            return None;
        }
        let [high, low] = [0, 1].map(|half| u128::from(letter.ip[half].load(Relaxed)));
        let bits = letter.port.load(Relaxed);
        letter.full.store(false, Release);
        let ip = IpAddr::from((high << 64 | low).to_be_bytes()).to_canonical();
        let mut peer = SocketAddr::new(ip, u16::try_from(bits & 0xffff).unwrap_or(0));
        if let SocketAddr::V6(v6) = &mut peer {
            v6.set_scope_id(u32::try_from(bits >> 16).unwrap_or(0));
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests;
