//! Operations as futures, for what is not worth a driver: connects, files.
//!
//! # Rules
//! 1. A slot lives from the push of its operation to its last completion, whoever still waits.
//! 2. A future dropped early leaves its slot behind; what the completion then brings is dropped, and a
//!    descriptor it brings is closed.
//!
//! Not here: streams of completions (`driver`).

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corelane_base::{Op, Sock, Token};
use corelane_pools::Chain;

use crate::driver::{Data, Event};
use crate::shard::{Shard, ShardOp};

/// What an operation ended with.
#[derive(Debug)]
pub struct IoDone {
    /// Zero or more, or a negative errno.
    pub result: i32,
    /// A file buffer or chain given back.
    pub bytes: Vec<u8>,
    /// The peer of a single accept.
    pub peer: Option<SocketAddr>,
    /// A chain given back by a send.
    pub chain: Option<Chain>,
}

impl IoDone {
    /// The result as the caller wants it.
    ///
    /// # Errors
    /// The errno the kernel gave.
    pub fn check(&self) -> std::io::Result<u32> {
        u32::try_from(self.result).map_err(|_| std::io::Error::from_raw_os_error(-self.result))
    }
}

enum Slot {
    Free {
        next: u32,
    },
    Waiting {
        waker: Option<Waker>,
        keep: Option<Rc<dyn Any>>,
    },
    Done(IoDone),
    /// Nobody waits; `closes` says that a good result is a descriptor to close. What the operation works
    /// on is kept until then.
    Abandoned {
        closes: bool,
        keep: Option<Rc<dyn Any>>,
    },
}

/// Slots of the operations under way.
pub(crate) struct IoSlots {
    slots: Vec<(u16, Slot)>,
    free: u32,
}

const NIL: u32 = u32::MAX;

impl Default for IoSlots {
    fn default() -> IoSlots {
        IoSlots { slots: Vec::new(), free: NIL }
    }
}

impl IoSlots {
    fn insert(&mut self, keep: Option<Rc<dyn Any>>) -> Token {
        let index = if self.free == NIL {
            self.slots.push((0, Slot::Free { next: NIL }));
            u32::try_from(self.slots.len() - 1).unwrap_or(NIL)
        } else {
            self.free
        };
        let slot = &mut self.slots[index as usize];
        if let Slot::Free { next } = slot.1 {
            self.free = next;
        }
        slot.1 = Slot::Waiting { waker: None, keep };
        Token::new(0, 0, slot.0, index)
    }

    /// Takes out what the operations keep: when the shard ends, no completion will.
    pub(crate) fn take_kept(&mut self) -> Vec<Rc<dyn Any>> {
        let kept = self.slots.iter_mut().filter_map(|(_, slot)| match slot {
            Slot::Waiting { keep, .. } | Slot::Abandoned { keep, .. } => keep.take(),
            Slot::Free { .. } | Slot::Done(_) => None,
        });
        kept.collect()
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.0 = slot.0.wrapping_add(1);
        slot.1 = Slot::Free { next: self.free };
        self.free = index;
    }
}

/// One operation as a future. Dropping it does not undo the operation: see the module's rules.
#[must_use = "the operation is under way, but nobody would see its result"]
pub struct IoFuture {
    shard: Rc<Shard>,
    token: Token,
    closes: bool,
    taken: bool,
}

impl fmt::Debug for IoFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoFuture({:?})", self.token)
    }
}

impl Shard {
    /// Starts one operation; `make` gets the token to put into it.
    pub fn io(self: &Rc<Self>, make: impl FnOnce(Token) -> ShardOp) -> IoFuture {
        self.io_keeping(make, None)
    }

    /// As [`Shard::io`], and holds `keep` until the operation has ended, whoever still waits: for what may
    /// not be closed before.
    pub fn io_keeping(
        self: &Rc<Self>,
        make: impl FnOnce(Token) -> ShardOp,
        keep: Option<Rc<dyn Any>>,
    ) -> IoFuture {
        let token = self.io.borrow_mut().insert(keep);
        let op = make(token);
        let closes = matches!(op, Op::Socket { .. } | Op::Open { .. } | Op::Accept { .. });
        self.push(op);
        IoFuture { shard: Rc::clone(self), token, closes, taken: false }
    }

    /// A completion with owner 0.
    pub(crate) fn complete_io(&self, event: Event<'_>) {
        let index = event.token.index();
        let mut io = self.io.borrow_mut();
        let Some(slot) = io.slots.get_mut(index as usize) else {
            unreachable!("a completion for a slot that never was: {:?}", event.token);
        };
        assert_eq!(slot.0, event.token.generation(), "a completion for an older operation");
        match &mut slot.1 {
            Slot::Waiting { waker, keep } => {
                let waker = waker.take();
                let keep = keep.take();
                let mut done = IoDone { result: event.result, bytes: Vec::new(), peer: None, chain: None };
                match event.data {
                    Data::Bytes(bytes) => done.bytes = bytes,
                    Data::Peer(peer) => done.peer = Some(peer),
                    Data::Sent(chain) => done.chain = Some(chain),
                    Data::None | Data::Received(_) => {}
                }
                slot.1 = Slot::Done(done);
                drop(io);
                drop(keep);
                if let Some(w) = waker {
                    w.wake();
                }
            }
            Slot::Abandoned { closes, .. } => {
                let close = *closes && event.result >= 0;
                let slot = std::mem::replace(&mut slot.1, Slot::Free { next: NIL });
                io.release(index);
                drop(io);
                drop(slot);
                if close && let Ok(number) = u32::try_from(event.result) {
                    self.push(Op::Close { sock: Sock(number), token: Token::NONE });
                }
            }
            Slot::Done(_) | Slot::Free { .. } => unreachable!("a second completion: {:?}", event.token),
        }
    }
}

impl Future for IoFuture {
    type Output = IoDone;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoDone> {
        let shard = Rc::clone(&self.shard);
        let mut io = shard.io.borrow_mut();
        let index = self.token.index();
        let slot = &mut io.slots[index as usize].1;
        match slot {
            Slot::Waiting { waker, .. } => {
                match waker {
                    Some(w) => w.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Slot::Done(_) => {
                let Slot::Done(done) = std::mem::replace(slot, Slot::Free { next: NIL }) else {
                    unreachable!("matched above");
                };
                io.release(index);
                self.taken = true;
                Poll::Ready(done)
            }
            Slot::Abandoned { .. } | Slot::Free { .. } => panic!("an operation polled after it was done"),
        }
    }
}

impl Drop for IoFuture {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut io = self.shard.io.borrow_mut();
        let index = self.token.index();
        let slot = &mut io.slots[index as usize].1;
        match slot {
            Slot::Waiting { keep, .. } => {
                *slot = Slot::Abandoned { closes: self.closes, keep: keep.take() };
            }
            Slot::Done(done) => {
                let close = (self.closes).then(|| u32::try_from(done.result).ok()).flatten();
                io.release(index);
                drop(io);
                if let Some(number) = close {
                    self.shard.push(Op::Close { sock: Sock(number), token: Token::NONE });
                }
            }
            Slot::Abandoned { .. } | Slot::Free { .. } => {}
        }
    }
}
