//! Locks: keys that a transaction over several shards holds on this one, and who waits for them.
//!
//! A transaction takes its keys shard by shard, in the order of the shards, all keys of a shard at once. So whoever
//! waits holds locks only on shards before the one it waits for, and no circle of waiting can close (Havender 1968,
//! ordered resources). A plain command takes no lock: it only waits where a key of its is held.
//!
//! # Rules
//! 1. All keys of a ticket on a shard are granted at once or not at all.
//! 2. Who came first is granted first, as far as their keys are the same.
//! 3. [`Locks::release`] ends a ticket whatever it has: locks, or a place in the queue.
//!
//! Not here: who takes them and for how long (`transaction`).

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use std::cell::RefCell;

/// A transaction: its shard in the high bits, a number of that shard below. 0 is none.
pub(super) type Ticket = u64;

#[derive(Debug)]
struct Waiting {
    /// 0 for a plain command that waits until its keys are free.
    ticket: Ticket,
    number: u64,
    keys: Vec<Box<[u8]>>,
    granted: bool,
    waker: Option<Waker>,
}

/// The locks of one shard.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: HashMap<Box<[u8]>, Ticket>,
    queue: Vec<Waiting>,
    numbers: u64,
}

impl Locks {
    /// Whether no key is held.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether `key` is held by another one than `ticket`.
    pub(super) fn bars(&self, key: &[u8], ticket: Ticket) -> bool {
        self.held.get(key).is_some_and(|holder| *holder != ticket)
    }

    /// The keys that are held.
    fn all_held(&self) -> Vec<Box<[u8]>> {
        self.held.keys().cloned().collect()
    }

    fn is_free(&self, at: usize) -> bool {
        let wanted = &self.queue[at];
        let barred = wanted.keys.iter().any(|key| self.bars(key, wanted.ticket));
        let overtakes = self.queue[..at]
            .iter()
            .any(|earlier| !earlier.granted && earlier.keys.iter().any(|key| wanted.keys.contains(key)));
        !(barred || overtakes)
    }

    /// Puts a request into the queue; its number.
    fn ask(&mut self, ticket: Ticket, keys: Vec<Box<[u8]>>) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        self.queue.push(Waiting { ticket, number, keys, granted: false, waker: None });
        self.grant();
        number
    }

    /// Grants what can be granted.
    fn grant(&mut self) {
        for at in 0..self.queue.len() {
            if self.queue[at].granted || !self.is_free(at) {
                continue;
            }
            let ticket = self.queue[at].ticket;
            if ticket != 0 {
                let keys = self.queue[at].keys.clone();
                self.held.extend(keys.into_iter().map(|key| (key, ticket)));
            }
            let granted = &mut self.queue[at];
            granted.granted = true;
            if let Some(waker) = granted.waker.take() {
                waker.wake();
            }
        }
    }

    /// Ends `ticket`.
    pub(super) fn release(&mut self, ticket: Ticket) {
        self.held.retain(|_, holder| *holder != ticket);
        self.queue.retain_mut(|waiting| {
            let stays = waiting.ticket != ticket;
            if !stays && let Some(waker) = waiting.waker.take() {
                waker.wake();
            }
            stays
        });
        self.grant();
    }

    fn forget(&mut self, number: u64) {
        self.queue.retain(|waiting| waiting.number != number);
    }
}

/// Waits until its keys are granted. Dropped before, it gives up its place.
#[derive(Debug)]
pub(super) struct Acquire<'a> {
    locks: &'a RefCell<Locks>,
    number: u64,
}

/// Asks for `keys` in the name of `ticket`; with 0, waits until all are free and holds none.
pub(super) fn acquire(locks: &RefCell<Locks>, ticket: Ticket, keys: Vec<Box<[u8]>>) -> Acquire<'_> {
    let number = locks.borrow_mut().ask(ticket, keys);
    Acquire { locks, number }
}

/// Waits until none of `keys` is held; with none named, until no key is. When it returns, that is so: who waited does
/// its work before it waits again.
pub(super) async fn wait_free(locks: &RefCell<Locks>, keys: &[Box<[u8]>]) {
    loop {
        let wanted = match keys {
            [] => locks.borrow().all_held(),
            keys => keys.to_vec(),
        };
        acquire(locks, 0, wanted).await;
        // Between the grant and this moment another transaction may have taken them.
        let locks = locks.borrow();
        let is_free = match keys {
            [] => locks.is_empty(),
            keys => !keys.iter().any(|key| locks.bars(key, 0)),
        };
        if is_free {
            return;
        }
    }
}

impl Future for Acquire<'_> {
    /// False if the ticket ended meanwhile.
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut locks = self.locks.borrow_mut();
        let number = self.number;
        let Some(waiting) = locks.queue.iter_mut().find(|waiting| waiting.number == number) else {
            return Poll::Ready(false);
        };
        if waiting.granted {
            return Poll::Ready(true);
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.borrow_mut();
        locks.forget(self.number);
        locks.grant();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<Box<[u8]>> {
        names.iter().map(|name| name.as_bytes().into()).collect()
    }

    fn is_ready(acquire: &mut Acquire<'_>) -> Option<bool> {
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
