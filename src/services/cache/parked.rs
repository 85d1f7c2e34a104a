//! Parked: clients that wait for a key of this shard to get a value.
//!
//! One whose keys are all here is served here: its command runs again, in the turn in which the key got its value,
//! before any other command can take it. One with keys on several shards is told only, and tries again.
//!
//! # Rules
//! 1. Who waits longest for a key comes first.
//! 2. A client is taken out when it was served, or by [`CacheShard::unpark`].
//!
//! Not here: deadlines (who parks sets one), what a command does.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use corelane_proto_resp::Version;

use super::command::{Reply, Spec, blocking};
use super::shard::{CacheShard, Executed};
use super::transaction::with_command;
use super::value::Kind;

/// Keys that clients of a shard may wait for at once, each counted as often as it is waited for.
pub(super) const PARKED_MAX: usize = 1 << 20;

/// What is done for a client whose key is there.
pub(super) enum Then {
    /// Its command runs; the reply goes to its shard.
    Serve { wire: Vec<u8>, spec: &'static Spec, version: Version, deliver: Box<dyn FnOnce(Reply) + Send> },
    /// It is told, as often as it happens.
    Tell { spec: &'static Spec, tell: Box<dyn Fn() + Send> },
}

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Then::Serve { .. } => "Serve",
            Then::Tell { .. } => "Tell",
        })
    }
}

/// One client that waits.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) keys: Vec<Box<[u8]>>,
    pub(super) then: Then,
}

/// The clients that wait for keys of one shard.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// By a number of the node.
    clients: BTreeMap<u64, Client>,
    queues: HashMap<Box<[u8]>, VecDeque<u64>>,
    /// Waits in all queues.
    waits: usize,
    /// Clients whose command is to run here yet, and has to wait for a lock first.
    expected: HashSet<u64>,
    /// Keys that have got a value while they were locked.
    held_back: Vec<Box<[u8]>>,
}

impl Parked {
    /// How many clients wait.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }
}

/// A client whose command is to run here yet.
#[derive(Debug)]
pub(super) struct Expected {
    here: Rc<CacheShard>,
    number: u64,
}

impl Expected {
    /// Its number; none if it has left.
    pub(super) fn number(&self) -> Option<u64> {
        self.here.parked.borrow().expected.contains(&self.number).then_some(self.number)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.here.parked.borrow_mut().expected.remove(&self.number);
    }
}

/// The kind of value that a command waits for.
fn wanted(spec: &Spec) -> Kind {
    if spec.name.starts_with("bz") { Kind::SortedSet } else { Kind::List }
}

impl CacheShard {
    /// Parks a client. It gets back a client that finds no room.
    pub(super) fn park(&self, number: u64, client: Client) -> Result<(), Client> {
        let mut parked = self.parked.borrow_mut();
        if parked.waits + client.keys.len() > PARKED_MAX {
            return Err(client);
        }
        let mut store = self.store.borrow_mut();
        for key in &client.keys {
            parked.waits += 1;
            parked.queues.entry(key.clone()).or_default().push_back(number);
            store.await_key(self.key(key));
        }
        parked.clients.insert(number, client);
        Ok(())
    }

    /// A client's command is about to run here. As long as what this gives is there, [`CacheShard::give_up`] ends it.
    pub(super) fn expect(self: &Rc<Self>, number: u64) -> Expected {
        self.parked.borrow_mut().expected.insert(number);
        Expected { here: Rc::clone(self), number }
    }

    /// Takes a client out that has left. Where it is not parked yet, it will not be.
    pub(super) fn give_up(&self, number: u64) {
        if self.take_parked(number).is_none() {
            self.parked.borrow_mut().expected.remove(&number);
        }
    }

    /// Takes a client out. False if it has been served already.
    pub(super) fn unpark(&self, number: u64) -> bool {
        self.take_parked(number).is_some()
    }

    fn take_parked(&self, number: u64) -> Option<Client> {
        let mut parked = self.parked.borrow_mut();
        let client = parked.clients.remove(&number)?;
        let mut store = self.store.borrow_mut();
        for key in &client.keys {
            parked.waits -= 1;
            store.forget_key(self.key(key));
            if let Some(queue) = parked.queues.get_mut(key) {
                // Once for each time it was named.
                if let Some(at) = queue.iter().position(|waiting| *waiting == number) {
                    queue.remove(at);
                }
                if queue.is_empty() {
                    parked.queues.remove(key);
                }
            }
        }
        Some(client)
    }

    /// Serves the clients whose keys have got a value.
    #[inline]
    pub(super) fn serve_parked(&self) {
        if self.store.borrow().has_ready() || !self.parked.borrow().held_back.is_empty() {
            self.serve_ready();
        }
    }

    #[cold]
    fn serve_ready(&self) {
        let mut keys = std::mem::take(&mut self.parked.borrow_mut().held_back);
        loop {
            for key in keys {
                if self.locks.borrow().bars(&key, 0) {
                    self.parked.borrow_mut().held_back.push(key);
                } else {
                    self.serve_key(&key);
                }
            }
            // What was served may have filled another key.
            let Some(next) = self.store.borrow_mut().take_ready() else { break };
            keys = vec![next];
        }
    }

    fn serve_key(&self, key: &[u8]) {
        // Who is served leaves the queue; past those who wait on, it is gone through by place.
        let mut at = 0;
        while let Some(number) = self.parked_at(key, at) {
            if self.kind_of(key).is_none() {
                break; // all of it went to those before
            }
            at += 1;
            let reply = {
                let parked = self.parked.borrow();
                match parked.clients.get(&number).map(|client| &client.then) {
                    None => continue,
                    // Another kind of value is none that it waits for.
                    Some(Then::Serve { spec, .. } | Then::Tell { spec, .. })
                        if self.kind_of(key) != Some(wanted(spec)) =>
                    {
                        continue;
                    }
                    Some(Then::Tell { tell, .. }) => {
                        tell();
                        continue;
                    }
                    Some(Then::Serve { wire, spec, version, .. }) => {
                        let only = with_command(wire, |command| blocking::narrowed(spec, command, key));
                        self.try_again(&only, spec, *version)
                    }
                }
            };
            let Some(reply) = reply else { continue };
            if let Some(Client { then: Then::Serve { deliver, .. }, .. }) = self.take_parked(number) {
                at -= 1;
                deliver(reply);
            }
        }
    }

    /// Who has the place `at` of those who wait for `key`.
    fn parked_at(&self, key: &[u8], at: usize) -> Option<u64> {
        self.parked.borrow().queues.get(key)?.get(at).copied()
    }

    fn kind_of(&self, key: &[u8]) -> Option<Kind> {
        self.store.borrow_mut().kind(self.key(key))
    }

    /// Runs the command of a parked client; none if it has to wait on.
    fn try_again(&self, wire: &[u8], spec: &'static Spec, version: Version) -> Option<Reply> {
        let mut reply = Reply::new(version);
        let executed = with_command(wire, |command| self.execute(spec, command, None, 0, &mut reply));
        (executed == Executed::Done).then_some(reply)
    }
}
