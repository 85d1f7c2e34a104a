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

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use corelane_exec::Shard;
use corelane_proto_resp::{Parser, Step, Version};

use super::command::{Reply, Spec};
use super::shard::{CacheShard, Executed, INNER};

/// Keys that clients of a shard may wait for at once, each counted as often as it is waited for.
pub(super) const PARKED_MAX: usize = 1 << 20;

/// What is done for a client whose key is there.
pub(super) enum Then {
    /// Its command runs; the reply goes to its shard.
    Serve { wire: Vec<u8>, spec: &'static Spec, version: Version, deliver: Box<dyn FnOnce(Reply) + Send> },
    /// It is told, as often as it happens.
    Tell(Box<dyn Fn() + Send>),
}

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Then::Serve { .. } => "Serve",
            Then::Tell(_) => "Tell",
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
    /// Keys that have got a value while they were locked.
    held_back: Vec<Box<[u8]>>,
}

impl Parked {
    /// How many clients wait.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }
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
    pub(super) fn serve_parked(&self, shard: &Rc<Shard>) {
        if self.store.borrow().has_ready() || !self.parked.borrow().held_back.is_empty() {
            self.serve_ready(shard);
        }
    }

    #[cold]
    fn serve_ready(&self, shard: &Rc<Shard>) {
        let mut keys = std::mem::take(&mut self.parked.borrow_mut().held_back);
        loop {
            for key in keys {
                if self.locks.borrow().bars(&key, 0) {
                    self.parked.borrow_mut().held_back.push(key);
                } else {
                    self.serve_key(shard, &key);
                }
            }
            // What was served may have filled another key.
            let Some(next) = self.store.borrow_mut().take_ready() else { break };
            keys = vec![next];
        }
    }

    fn serve_key(&self, shard: &Rc<Shard>, key: &[u8]) {
        let numbers: Vec<u64> = match self.parked.borrow().queues.get(key) {
            Some(queue) => queue.iter().copied().collect(),
            None => return,
        };
        for number in numbers {
            if self.store.borrow_mut().kind(self.key(key)).is_none() {
                break; // all of it went to those before
            }
            let reply = {
                let parked = self.parked.borrow();
                match parked.clients.get(&number).map(|client| &client.then) {
                    None => continue,
                    Some(Then::Tell(tell)) => {
                        tell();
                        continue;
                    }
                    Some(Then::Serve { wire, spec, version, .. }) => self.try_again(wire, spec, *version),
                }
            };
            let Some(reply) = reply else { continue };
            if let Some(Client { then: Then::Serve { deliver, .. }, .. }) = self.take_parked(number) {
                deliver(reply);
            }
        }
        let _ = shard;
    }

    /// Runs the command of a parked client; none if it has to wait on.
    fn try_again(&self, wire: &[u8], spec: &'static Spec, version: Version) -> Option<Reply> {
        let mut parser = Parser::new();
        let mut unread = wire;
        let Step::Command(command) = parser.poll(&INNER, &mut unread) else {
            unreachable!("what was parked is a whole command")
        };
        let mut reply = Reply::new(version);
        let executed = self.execute(spec, &command, None, 0, &mut reply);
        (executed == Executed::Done).then_some(reply)
    }
}
