//! The kernel the code under test sees.
//!
//! # Rules
//! 1. Time passes in `enter` (and, where configured, by reading the clock), never otherwise; nothing here
//!    sleeps.
//! 2. The bytes of a lent buffer stand here from `pop` to `recycle`.
//! 3. A sleep with nothing to wait for and no end returns at once: there is nobody else to end it but
//!    another thread, which gets a chance to run.
//!
//! Not here: what happens in the world meanwhile (`state` and below).

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corelane_base::{Abilities, BufferId, Clock, Completion, Kernel, KernelStats, Op, Payload, Unpark, Wait};
use corelane_pools::Chain;

use crate::config::Fault;
use crate::state::{Owed, Shared, nanos, run_due};

/// A sleep of this length (146 years) or more is one without end: nobody jumps there.
const FOREVER_NS: u64 = 1 << 62;

/// A deterministic kernel: a fake clock, fake links, files in memory, faults from a seed. Made by
/// [`Sim::new`](crate::Sim::new).
pub struct SimKernel {
    shared: Shared,
    lent: Vec<Option<Vec<u8>>>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Unpark for Bell {
    fn unpark(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl SimKernel {
    pub(crate) fn new(shared: Shared) -> SimKernel {
        let buffers = shared.borrow().config.recv_buffers;
        SimKernel { shared, lent: (0..buffers).map(|_| None).collect(), bell: Arc::default() }
    }

    /// Whether somebody unparked it since the last sleep: its next one ends at once. For tests that run several
    /// kernels on one thread.
    pub fn is_rung(&self) -> bool {
        self.bell.0.load(Ordering::Acquire)
    }

    /// Everything that can be done without time passing.
    fn settle(&self) {
        loop {
            run_due(&self.shared);
            let mut state = self.shared.borrow_mut();
            state.do_work();
            if !state.has_due_event() {
                return state.flush_ready();
            }
        }
    }

    /// Lets time pass until something is there or `end` is reached.
    fn sleep(&self, end: Option<u64>) {
        loop {
            let mut state = self.shared.borrow_mut();
            if !state.queue.is_empty()
                || !state.overflow.is_empty()
                || self.bell.0.swap(false, Ordering::AcqRel)
            {
                return;
            }
            let event = state.next_event_at().filter(|&time| end.is_none_or(|end| time <= end));
            let end = end.filter(|_| state.config.free_running);
            let Some(target) = event.or(end) else {
                drop(state);
                return std::thread::yield_now();
            };
            let target = target.max(state.now);
            if state.roll(Fault::EarlyReturn) {
                let part = target - state.now;
                state.now += state.rng.below(part.saturating_add(1));
                state.note("early", 0, 0);
                return;
            }
            state.now = target;
            drop(state);
            self.settle();
            if event.is_none() {
                return;
            }
        }
    }
}

impl Kernel for SimKernel {
    type Bytes = Chain;

    fn push(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        let mut state = self.shared.borrow_mut();
        state.check(&op);
        let full = state.submissions.len() >= state.config.submission_entries as usize
            || state.under_way >= state.config.operations_max;
        if full || state.roll(Fault::SubmissionFull) {
            state.note("push full", 0, 0);
            return Err(op);
        }
        state.book(&op);
        state.submissions.push_back(op);
        Ok(())
    }

    fn needs_enter(&self) -> bool {
        let state = self.shared.borrow();
        state.has_due() || !state.submissions.is_empty() || !state.overflow.is_empty()
    }

    fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        let mut state = self.shared.borrow_mut();
        state.stats.enters += 1;
        let end = match wait {
            Wait::No => None,
            Wait::Until(limit) => {
                Some(limit.filter(|&limit| limit < FOREVER_NS).map(|limit| state.now.saturating_add(limit)))
            }
        };
        state.now = state.now.saturating_add(nanos(state.config.turn_cost));
        if state.roll(Fault::EmptyEnter) {
            state.note("empty enter", 0, 0);
            return Ok(());
        }
        state.flush_overflow();
        drop(state);
        // What is due comes before what is new, so that the order of rule 2 of `state` holds.
        run_due(&self.shared);
        let mut state = self.shared.borrow_mut();
        let all = state.submissions.len();
        let some = if all > 0 && state.roll(Fault::PartialSubmit) { state.rng.index(all) } else { all };
        state.submit(some);
        drop(state);
        self.settle();
        match end {
            Some(end) if some == all => self.sleep(end),
            _ => {}
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Completion<Chain>> {
        let mut state = self.shared.borrow_mut();
        let done = state.queue.pop_front()?;
        state.stats.completed += 1;
        let completion = done.completion;
        state.note("pop", completion.token.to_bits(), i64::from(completion.result));
        if let Some(slot) = done.opens.and_then(|slot| state.slots[slot as usize].as_mut()) {
            slot.known = true;
        }
        if !completion.more {
            state.owed -= 1;
            let (Owed::Recv(slot) | Owed::Send(slot) | Owed::Other(slot)) = done.ends else {
                return Some(completion);
            };
            if let Some(slot) = state.slots.get_mut(slot as usize).and_then(Option::as_mut) {
                match done.ends {
                    Owed::Nothing => {}
                    Owed::Recv(_) => slot.owed_recv = false,
                    Owed::Send(_) => slot.owed_send = false,
                    Owed::Other(_) => slot.owed_other -= 1,
                }
            }
        }
        if let Payload::Received(buffer) = completion.payload {
            self.lent[buffer.0 as usize] = done.bytes;
        }
        Some(completion)
    }

    fn received(&self, buffer: BufferId, len: u32) -> &[u8] {
        match self.lent.get(buffer.0 as usize).and_then(Option::as_ref) {
            Some(bytes) if bytes.len() >= len as usize => &bytes[..len as usize],
            Some(bytes) => {
                let has = bytes.len();
                self.shared.borrow().violation(&format!("{len} bytes of {buffer:?}, which received {has}"))
            }
            None => self.shared.borrow().violation(&format!("bytes of {buffer:?}, which is not lent")),
        }
    }

    fn recycle(&mut self, buffer: BufferId) {
        let taken = self.lent.get_mut(buffer.0 as usize).and_then(Option::take);
        if taken.is_none() {
            self.shared.borrow().violation(&format!("recycle of {buffer:?}, which is not lent"));
        }
        let mut state = self.shared.borrow_mut();
        state.note("recycle", buffer.0.into(), 0);
        state.free_buffers.push_back(buffer);
    }

    fn clock(&mut self) -> Clock {
        let mut state = self.shared.borrow_mut();
        state.now = state.now.saturating_add(nanos(state.config.clock_cost));
        let unix_s =
            (state.config.unix_start + state.now / 1_000_000_000).saturating_add_signed(state.unix_shift);
        Clock { mono_ns: state.now, unix_s }
    }

    fn unpark(&self) -> Arc<dyn Unpark> {
        Arc::clone(&self.bell) as Arc<dyn Unpark>
    }

    fn abilities(&self) -> Abilities {
        let peer_name = self.shared.borrow().config.peer_name;
        Abilities { hand: false, shared_socks: false, peer_name, sock_options: true, bind: true }
    }

    fn stats(&self) -> KernelStats {
        self.shared.borrow().stats
    }
}

impl std::fmt::Debug for SimKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let handles = Rc::strong_count(&self.shared);
        f.debug_struct("SimKernel").field("handles", &handles).finish_non_exhaustive()
    }
}
