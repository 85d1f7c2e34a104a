//! Locks: keys that a transaction over several shards holds on this one, and who waits for them.
//!
//! A transaction takes its keys shard by shard, in the order of the shards, all keys of a shard at once. So whoever
//! waits holds locks only on shards before the one it waits for, and no circle of waiting can close (Havender 1968,
//! ordered resources). A plain command takes no lock: it only waits where a key of its is held.
//!
//! Each key has a queue. A request is granted once it is first in the queues of all its keys, and none is held. That
//! costs a step for each of its keys, however many others wait.
//!
//! # Rules
//! 1. All keys of a request are granted at once or not at all.
//! 2. Who came first is granted first, as far as their keys are the same.
//! 3. [`Locks::release`] ends a ticket whatever it has: locks, or a place in the queues.
//!
//! Not here: who takes them and for how long (`transaction`).

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A transaction: its shard in the high bits, a number of that shard below. 0 is none.
pub(super) type Ticket = u64;

type Name = Box<[u8]>;

#[derive(Debug, Default)]
struct Lock {
    /// 0 where nobody holds it.
    holder: Ticket,
    queue: VecDeque<u64>,
}

#[derive(Debug)]
struct Request {
    /// 0 for a plain command that waits until its keys are free.
    ticket: Ticket,
    /// Each once.
    keys: Vec<Name>,
    granted: bool,
    waker: Option<Waker>,
}

/// The locks of one shard.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Of the keys that are held or waited for.
    locks: HashMap<Name, Lock>,
    held: usize,
    requests: HashMap<u64, Request>,
    /// What each ticket holds, and what it waits for.
    tickets: HashMap<Ticket, (Vec<Name>, Option<u64>)>,
    numbers: u64,
}

impl Locks {
    /// Whether no key is held.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// How many keys are held.
    pub(super) fn len(&self) -> usize {
        self.held
    }

    /// Whether `key` is held by another one than `ticket`.
    pub(super) fn bars(&self, key: &[u8], ticket: Ticket) -> bool {
        self.locks.get(key).is_some_and(|lock| lock.holder != 0 && lock.holder != ticket)
    }

    /// The keys that are held.
    fn all_held(&self) -> Vec<Name> {
        self.locks.iter().filter(|(_, lock)| lock.holder != 0).map(|(key, _)| key.clone()).collect()
    }

    /// Puts a request for `keys` into their queues, in the name of `ticket`; with 0 it waits until all are free, and
    /// holds none. Its number, for [`Granted`]. Done where the message is handled, so that a release that comes behind
    /// finds it.
    pub(super) fn ask(&mut self, ticket: Ticket, mut keys: Vec<Name>) -> u64 {
        keys.sort_unstable();
        keys.dedup();
        self.numbers += 1;
        let number = self.numbers;
        for key in &keys {
            self.locks.entry(key.clone()).or_default().queue.push_back(number);
        }
        if ticket != 0 {
            self.tickets.entry(ticket).or_default().1 = Some(number);
        }
        self.requests.insert(number, Request { ticket, keys, granted: false, waker: None });
        self.grant(vec![number]);
        number
    }

    /// Grants those of `numbers` that can be, and those behind them that then can.
    fn grant(&mut self, mut numbers: Vec<u64>) {
        while let Some(number) = numbers.pop() {
            let Some(request) = self.requests.get(&number).filter(|request| !request.granted) else {
                continue;
            };
            let is_free = request.keys.iter().all(|key| {
                let lock = self.locks.get(key);
                lock.is_some_and(|lock| {
                    lock.queue.front() == Some(&number) && (lock.holder == 0 || lock.holder == request.ticket)
                })
            });
            if is_free {
                numbers.extend(self.give(number));
            }
        }
    }

    /// Gives a request its keys. Who may be next.
    fn give(&mut self, number: u64) -> Vec<u64> {
        let Some(request) = self.requests.get_mut(&number) else { return Vec::new() };
        request.granted = true;
        if let Some(waker) = request.waker.take() {
            waker.wake();
        }
        let (ticket, keys) = (request.ticket, request.keys.clone());
        let mut next = Vec::new();
        for key in &keys {
            let Some(lock) = self.locks.get_mut(key) else { continue };
            lock.queue.pop_front();
            if ticket == 0 {
                next.extend(lock.queue.front());
            } else if lock.holder == 0 {
                lock.holder = ticket;
                self.held += 1;
            }
            self.tidy(key);
        }
        if ticket != 0 {
            let of = self.tickets.entry(ticket).or_default();
            of.0.extend(keys);
            of.1 = None;
        }
        next
    }

    /// Forgets a key that nobody holds and nobody waits for.
    fn tidy(&mut self, key: &Name) {
        if self.locks.get(key).is_some_and(|lock| lock.holder == 0 && lock.queue.is_empty()) {
            self.locks.remove(key);
        }
    }

    /// Ends `ticket`.
    pub(super) fn release(&mut self, ticket: Ticket) {
        let Some((held, waits)) = self.tickets.remove(&ticket) else { return };
        if let Some(number) = waits {
            self.give_up(number);
        }
        let mut next = Vec::new();
        for key in &held {
            let Some(lock) = self.locks.get_mut(key).filter(|lock| lock.holder == ticket) else { continue };
            lock.holder = 0;
            self.held -= 1;
            next.extend(lock.queue.front());
            self.tidy(key);
        }
        self.grant(next);
    }

    /// Takes a request away. One that waits hears of it.
    fn give_up(&mut self, number: u64) {
        let Some(request) = self.requests.remove(&number) else { return };
        if request.granted {
            return;
        }
        if let Some(waker) = request.waker {
            waker.wake();
        }
        let mut next = Vec::new();
        for key in &request.keys {
            let Some(lock) = self.locks.get_mut(key) else { continue };
            lock.queue.retain(|one| *one != number);
            next.extend(lock.queue.front());
            self.tidy(key);
        }
        if let Some(of) = self.tickets.get_mut(&request.ticket) {
            of.1 = None;
        }
        self.grant(next);
    }
}

/// Waits until a request is granted: true; false if its ticket ended before. Dropped before, it gives up its place.
#[derive(Debug)]
pub(super) struct Granted<'a> {
    locks: &'a RefCell<Locks>,
    number: u64,
}

impl Granted<'_> {
    /// Of the request that [`Locks::ask`] gave this number.
    pub(super) fn of(locks: &RefCell<Locks>, number: u64) -> Granted<'_> {
        Granted { locks, number }
    }
}

impl Future for Granted<'_> {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut locks = self.locks.borrow_mut();
        match locks.requests.get_mut(&self.number) {
            None => Poll::Ready(false),
            Some(request) if request.granted => Poll::Ready(true),
            Some(request) => {
                request.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        self.locks.borrow_mut().give_up(self.number);
    }
}

/// Waits until none of `keys` is held; with none named, until no key is. When it returns, that is so: who waited does
/// its work before it waits again.
pub(super) async fn wait_free(locks: &RefCell<Locks>, keys: &[Name]) {
    loop {
        // Between a grant and the moment it is seen, another transaction may have taken them.
        let wanted = {
            let locks = locks.borrow();
            let is_free = match keys {
                [] => locks.is_empty(),
                keys => !keys.iter().any(|key| locks.bars(key, 0)),
            };
            match keys {
                _ if is_free => return,
                [] => locks.all_held(),
                keys => keys.to_vec(),
            }
        };
        let number = locks.borrow_mut().ask(0, wanted);
        Granted::of(locks, number).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<Box<[u8]>> {
        names.iter().map(|name| name.as_bytes().into()).collect()
    }

    fn acquire(locks: &RefCell<Locks>, ticket: Ticket, keys: Vec<Name>) -> Granted<'_> {
        let number = locks.borrow_mut().ask(ticket, keys);
        Granted::of(locks, number)
    }

    fn is_ready(acquire: &mut Granted<'_>) -> Option<bool> {
        match Pin::new(acquire).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(granted) => Some(granted),
            Poll::Pending => None,
        }
    }

    #[test]
    fn keys_are_granted_together_and_in_the_order_of_asking() {
        let locks = RefCell::new(Locks::default());
        let mut first = acquire(&locks, 1, keys(&["a", "b"]));
        assert_eq!(is_ready(&mut first), Some(true));
        let mut second = acquire(&locks, 2, keys(&["b", "c"]));
        let mut third = acquire(&locks, 3, keys(&["c"]));
        let mut other = acquire(&locks, 4, keys(&["d"]));
        assert_eq!(is_ready(&mut second), None);
        assert_eq!(is_ready(&mut third), None, "it must not overtake");
        assert_eq!(is_ready(&mut other), Some(true));
        assert!(locks.borrow().bars(b"a", 2) && !locks.borrow().bars(b"a", 1));
        drop(first); // the place in the queue, not the locks
        assert_eq!(is_ready(&mut second), None);
        locks.borrow_mut().release(1);
        assert_eq!(is_ready(&mut second), Some(true));
        assert_eq!(is_ready(&mut third), None);
        locks.borrow_mut().release(2);
        assert_eq!(is_ready(&mut third), Some(true));
    }

    #[test]
    fn a_request_that_is_given_up_bars_nobody() {
        let locks = RefCell::new(Locks::default());
        let held = acquire(&locks, 1, keys(&["a"]));
        let given_up = acquire(&locks, 2, keys(&["a", "b"]));
        let mut behind = acquire(&locks, 3, keys(&["b"]));
        assert_eq!(is_ready(&mut behind), None);
        drop(given_up);
        assert_eq!(is_ready(&mut behind), Some(true));
        drop(held);
    }

    #[test]
    fn a_ticket_that_ends_while_it_waits_is_not_granted_later() {
        let locks = RefCell::new(Locks::default());
        let held = acquire(&locks, 1, keys(&["a"]));
        let mut waits = acquire(&locks, 2, keys(&["a"]));
        assert_eq!(is_ready(&mut waits), None);
        locks.borrow_mut().release(2);
        assert_eq!(is_ready(&mut waits), Some(false));
        locks.borrow_mut().release(1);
        assert!(locks.borrow().is_empty());
        drop(held);
    }

    #[test]
    fn who_waits_for_free_keys_finds_them_free_however_late_it_looks() {
        for named in [keys(&["a"]), Vec::new()] {
            let locks = RefCell::new(Locks::default());
            let first = acquire(&locks, 1, keys(&["a"]));
            let mut waits = std::pin::pin!(wait_free(&locks, &named));
            let poll =
                |waits: Pin<&mut _>| Future::poll(waits, &mut Context::from_waker(Waker::noop())).is_ready();
            assert!(!poll(waits.as_mut()));
            locks.borrow_mut().release(1);
            // It was granted, but before it looks, another one takes the key.
            let second = acquire(&locks, 2, keys(&["a"]));
            assert!(!poll(waits.as_mut()));
            locks.borrow_mut().release(2);
            assert!(poll(waits.as_mut()));
            drop((first, second));
        }
    }

    #[test]
    fn many_who_wait_for_the_same_keys_come_one_after_the_other() {
        let locks = RefCell::new(Locks::default());
        let all: Vec<_> = (1..=2_000).map(|ticket| acquire(&locks, ticket, keys(&["a", "b", "a"]))).collect();
        for (ticket, mut one) in (1..).zip(all) {
            assert_eq!(is_ready(&mut one), Some(true), "{ticket}");
            locks.borrow_mut().release(ticket);
        }
        let locks = locks.into_inner();
        assert!(locks.is_empty() && locks.locks.is_empty() && locks.tickets.is_empty());
        assert!(locks.requests.is_empty(), "{:?}", locks.requests);
    }

    #[test]
    fn random_requests_are_never_granted_a_key_that_another_one_holds_and_all_end() {
        let mut rng = corelane_base::Rng::new(5);
        for _ in 0..200 {
            let locks = RefCell::new(Locks::default());
            let mut waiting: Vec<(Ticket, Vec<Name>, Granted<'_>)> = Vec::new();
            let mut held: Vec<(Ticket, Vec<Name>)> = Vec::new();
            for ticket in 1..60 {
                let names = ["a", "b", "c", "d"];
                let wanted: Vec<&str> = names.into_iter().filter(|_| rng.chance(1, 2)).collect();
                let wanted = keys(&wanted);
                let plain = rng.chance(1, 4);
                let one = acquire(&locks, if plain { 0 } else { ticket }, wanted.clone());
                waiting.push((if plain { 0 } else { ticket }, wanted, one));
                for _ in 0..rng.below(3) {
                    if rng.chance(1, 3) && !waiting.is_empty() {
                        let (ticket, _, one) = waiting.swap_remove(rng.index(waiting.len()));
                        drop(one);
                        locks.borrow_mut().release(ticket);
                    }
                    if rng.chance(1, 2) && !held.is_empty() {
                        let (ticket, _) = held.swap_remove(rng.index(held.len()));
                        locks.borrow_mut().release(ticket);
                    }
                }
                settle(&mut waiting, &mut held);
            }
            while !(waiting.is_empty() && held.is_empty()) {
                assert!(!held.is_empty(), "nobody holds anything, and {} wait", waiting.len());
                let (ticket, _) = held.swap_remove(rng.index(held.len()));
                locks.borrow_mut().release(ticket);
                settle(&mut waiting, &mut held);
            }
            assert!(locks.borrow().is_empty() && locks.borrow().locks.is_empty());
        }
    }

    /// Moves what was granted to what is held.
    fn settle(waiting: &mut Vec<(Ticket, Vec<Name>, Granted<'_>)>, held: &mut Vec<(Ticket, Vec<Name>)>) {
        let mut at = 0;
        while at < waiting.len() {
            if is_ready(&mut waiting[at].2) != Some(true) {
                at += 1;
                continue;
            }
            let (ticket, keys, _) = waiting.swap_remove(at);
            if ticket != 0 {
                let twice = held.iter().any(|(_, others)| others.iter().any(|key| keys.contains(key)));
                assert!(!twice, "{ticket} has a key that another one holds");
                held.push((ticket, keys));
            }
        }
    }

    #[test]
    fn a_plain_command_waits_and_holds_nothing() {
        let locks = RefCell::new(Locks::default());
        let held = acquire(&locks, 1, keys(&["a"]));
        let mut plain = acquire(&locks, 0, keys(&["a"]));
        assert_eq!(is_ready(&mut plain), None);
        locks.borrow_mut().release(1);
        assert_eq!(is_ready(&mut plain), Some(true));
        assert!(locks.borrow().is_empty());
        drop(held);
    }
}
