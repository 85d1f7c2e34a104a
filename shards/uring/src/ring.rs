//! The ring of one shard: what it is made of, entering the kernel, and the end of it.
//!
//! Not here: the operations themselves (`kernel.rs`).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use corelane_base::{Completion, Kernel, KernelStats, ListenerId, Wait};
use corelane_pools::Chain;
use corelane_sys::{MapOptions, RawAddr, Refusal};
use io_uring::{IoUring, opcode, squeue, types};

use crate::buffers::Buffers;
use crate::enter::Gate;
use crate::error::{SetupError, errno_of};
use crate::features::{Features, Lacking, Why};
use crate::flights::{CANCEL_ALL, Flights, QUIET, TIMER, TIMER_END, WAKE, Whose};
use crate::message::Messages;
use crate::peer::V4_ROOM;
use crate::setup;
use crate::wake::Wake;

/// A sleep without an end, where the kernel wants one: a year.
const AN_AGE_S: u64 = 365 * 24 * 3600;

/// How long a dropped ring waits for its operations to end before it leaks what they own.
const LAST_WAIT_NS: u64 = 2_000_000_000;

/// What to ask the kernel for. The fields of `Limits` of the same names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RingConfig {
    /// Places of the submission queue. Full: [`Kernel::push`] gives the operation back.
    pub entries: u32,
    /// Places of the completion queue. Full: the kernel keeps the rest, and an enter brings them.
    pub completion_entries: u32,
    /// Buffers of the receive ring, a power of two. All lent: receives end with `ENOBUFS`.
    pub recv_buffers: u16,
    /// Bytes of one of them.
    pub recv_buffer_bytes: u32,
    /// Slots of the descriptor table: sockets and files open at once. Full: accepted connections are closed
    /// by the kernel, and the accept says `ENFILE`.
    pub descriptors: u32,
    /// Features to leave off even where the kernel has them.
    pub without: Features,
}

impl RingConfig {
    /// Operations under way at once that own something or are repeated by the ring. Full: [`Kernel::push`]
    /// gives the operation back.
    ///
    /// One send and one repeated receive for each socket, and as many others as completions have places.
    pub const fn flights_max(&self) -> u32 {
        self.descriptors.saturating_mul(2).saturating_add(self.completion_entries)
    }
}

/// io_uring as the kernel of one shard; see the crate's header for its rules.
pub struct Ring {
    pub(crate) io: ManuallyDrop<IoUring>,
    gate: Gate,
    pub(crate) granted: Features,
    /// Sockets of the ring's table can be bound (6.11).
    pub(crate) can_bind: bool,
    lacking: Vec<Lacking>,
    pub(crate) flights: ManuallyDrop<Flights>,
    pub(crate) buffers: ManuallyDrop<Buffers>,
    pub(crate) messages: Messages,
    listeners: Vec<Option<OwnedFd>>,
    /// Made inside, to be popped before those of the kernel.
    pub(crate) ready: VecDeque<Completion<Chain>>,
    /// Entries of the table of flights to arm as soon as the queue has room.
    pub(crate) waiting: VecDeque<u32>,
    /// Entries that [`corelane_base::Op::Cancel`] finds by token.
    pub(crate) by_token: HashMap<u64, u32>,
    /// Address blocks, kept for the next; boxed because the kernel has their addresses.
    #[allow(clippy::vec_box)]
    pub(crate) peers: Vec<Box<RawAddr>>,
    /// The room of the address that is expected next.
    pub(crate) peer_room: u32,
    pub(crate) wake: Arc<Wake>,
    pub(crate) wake_armed: bool,
    timer_armed: bool,
    /// What a timer's entry points to (rule 3): it may stay in the queue when the enter that pushed it returns.
    timer: Box<types::Timespec>,
    /// Operations with the kernel that will have a last completion.
    pub(crate) under_way: u64,
    /// The ring is being dropped: nothing is repeated.
    pub(crate) closing: bool,
    pub(crate) stats: KernelStats,
    pub(crate) failed_unseen: u64,
    /// The wall clock, and until when it is not read again.
    pub(crate) unix_s: u64,
    pub(crate) unix_until_ns: u64,
    _one_thread: PhantomData<*const ()>,
}

impl Ring {
    /// Makes a ring on the calling thread, which alone may use and drop it.
    ///
    /// Maps and touches the receive buffers (4 MiB by default): about a millisecond.
    ///
    /// # Errors
    /// See [`SetupError`]. A feature the kernel does not have is no error: see [`Ring::lacking`].
    ///
    /// # Panics
    /// If `entries` is below 2, if `recv_buffers` is no power of two up to 32768, or `recv_buffer_bytes` is 0 or above 2^30:
    /// `Limits::check` is stricter.
    pub fn new(config: &RingConfig) -> Result<Ring, SetupError> {
        Ring::with_memory(config, &MapOptions::default())
    }

    /// As [`Ring::new`], with receive buffers on a memory node or of huge pages. What the system refuses of that
    /// is no error: see [`Ring::refusals`].
    ///
    /// # Errors
    /// As [`Ring::new`].
    ///
    /// # Panics
    /// As [`Ring::new`].
    pub fn with_memory(config: &RingConfig, memory: &MapOptions) -> Result<Ring, SetupError> {
        assert!(config.entries >= 2, "a queued accept takes two places");
        let mut wake =
            Wake::new().map_err(|error| SetupError::Other { errno: errno_of(&error), step: "eventfd" })?;
        let mut made = setup::make(config)?;
        if made.granted.contains(Features::MSG_RING)
            && let Err(error) = wake.open_to(&made.io)
        {
            made.lack(Features::MSG_RING, Why::Refused(errno_of(&error)));
        }
        let (count, bytes) = (config.recv_buffers, config.recv_buffer_bytes);
        let buffers = |io: &_, ring| Buffers::new(io, count, bytes, ring, memory);
        let buffers = match buffers(&made.io, made.granted.contains(Features::BUFFER_RING)) {
            Err(SetupError::Buffers { errno: errno @ libc::EINVAL })
                if made.granted.contains(Features::BUFFER_RING) =>
            {
                made.lack(Features::BUFFER_RING, Why::Refused(errno));
                buffers(&made.io, false)
            }
            answer => answer,
        };
        let buffers = match buffers {
            Ok(buffers) => buffers,
            Err(error) => {
                made.gate.unregister();
                return Err(error);
            }
        };
        let places = made.io.params().sq_entries() as usize;
        Ok(Ring {
            io: ManuallyDrop::new(made.io),
            gate: made.gate,
            granted: made.granted,
            can_bind: made.can_bind,
            lacking: made.lacking,
            flights: ManuallyDrop::new(Flights::new(config.flights_max())),
            buffers: ManuallyDrop::new(buffers),
            messages: Messages::new(places),
            listeners: Vec::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            by_token: HashMap::new(),
            peers: Vec::new(),
            peer_room: V4_ROOM,
            wake: Arc::new(wake),
            wake_armed: false,
            timer_armed: false,
            timer: Box::default(),
            under_way: 0,
            closing: false,
            stats: KernelStats::default(),
            failed_unseen: 0,
            unix_s: 0,
            unix_until_ns: 0,
            _one_thread: PhantomData,
        })
    }

    /// What the ring has.
    pub fn granted(&self) -> Features {
        self.granted
    }

    /// What it does without, and why.
    pub fn lacking(&self) -> &[Lacking] {
        &self.lacking
    }

    /// What the system refused of the wishes for the receive buffers' memory. They work without, slower.
    pub fn refusals(&self) -> &[Refusal] {
        self.buffers.refusals()
    }

    /// Takes a listening socket.
    ///
    /// # Panics
    /// At 65,536 listeners.
    pub fn add_listener(&mut self, listener: OwnedFd) -> ListenerId {
        let free = self.listeners.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.listeners.push(None);
            self.listeners.len() - 1
        });
        let Ok(id) = u16::try_from(at) else { panic!("more than 65536 listeners") };
        self.listeners[at] = Some(listener);
        ListenerId(id)
    }

    /// Closes a listener. End its accepts first: until then the kernel keeps it open. False if there is none
    /// of that number.
    pub fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.get_mut(usize::from(id.0)).is_some_and(|place| place.take().is_some())
    }

    /// The descriptor of a listener, to read or set its options.
    pub fn listener_fd(&self, id: ListenerId) -> Option<BorrowedFd<'_>> {
        self.listeners.get(usize::from(id.0))?.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn listener_raw(&self, id: ListenerId) -> Option<RawFd> {
        self.listeners.get(usize::from(id.0))?.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Operations under way that own something or are repeated by the ring.
    pub fn flights(&self) -> u32 {
        self.flights.count()
    }

    /// Operations pushed with [`corelane_base::Token::NONE`] that failed.
    pub fn failed_unseen(&self) -> u64 {
        self.failed_unseen
    }

    /// Places free in the submission queue.
    #[inline]
    pub(crate) fn has_place(&mut self) -> bool {
        !self.io.submission().is_full()
    }

    pub(crate) fn places_free(&mut self) -> usize {
        let queue = self.io.submission();
        queue.capacity() - queue.len()
    }

    /// Queues an entry; there must be a place.
    ///
    /// What `entry` points to must stay as rules 2 and 3 say.
    #[inline]
    pub(crate) fn queue(&mut self, entry: &squeue::Entry) {
        // SAFETY: rules 2 and 3, which every caller keeps by putting what the entry points to into the table
        // of flights or the messages before.
        let pushed = unsafe { self.io.submission().push(entry) };
        assert!(pushed.is_ok(), "no place was left");
    }

    /// Queues an entry that will have a last completion.
    #[inline]
    pub(crate) fn queue_counted(&mut self, entry: &squeue::Entry) {
        self.under_way += 1;
        self.queue(entry);
    }

    /// What the ring itself has to push, as far as there is room. False if some is left.
    #[inline]
    fn catch_up(&mut self) -> bool {
        self.buffers.publish();
        if self.wake_armed && self.waiting.is_empty() && !self.buffers.owes() {
            return true;
        }
        self.catch_up_slowly()
    }

    #[cold]
    fn catch_up_slowly(&mut self) -> bool {
        if !self.wake_armed && !self.closing {
            if !self.has_place() {
                return false;
            }
            let poll = opcode::PollAdd::new(types::Fd(self.wake.fd()), libc::POLLIN as u32).multi(true);
            self.queue_counted(&poll.build().user_data(WAKE));
            self.wake_armed = true;
        }
        self.give_back(0);
        while let Some(&index) = self.waiting.front() {
            if !self.arm(index) {
                return false;
            }
            self.waiting.pop_front();
        }
        !self.buffers.owes()
    }

    /// Without `buffer_ring`: queues what gives buffers back, as far as that leaves `places` free.
    #[cold]
    pub(crate) fn give_back(&mut self, places: usize) {
        while self.places_free() > places {
            let Some((entry, first, count)) = self.buffers.give_back() else { break };
            let name = Whose::provide(first, count);
            self.queue(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(name));
        }
    }

    /// For kernels without `ext_arg`: an operation that ends the sleep. False if there is no room for it.
    fn set_timer(&mut self, time: types::Timespec) -> bool {
        if self.timer_armed {
            if !self.has_place() {
                return false;
            }
            self.queue(&opcode::TimeoutRemove::new(TIMER).build().user_data(TIMER_END));
            self.timer_armed = false;
        }
        if !self.has_place() {
            return false;
        }
        *self.timer = time;
        let entry = opcode::Timeout::new(&raw const *self.timer).build();
        self.queue(&entry.user_data(TIMER));
        self.timer_armed = true;
        true
    }

    /// Whether the kernel has completions beyond the queue.
    fn overflowed(&mut self) -> bool {
        self.io.submission().cq_overflow()
    }

    pub(crate) fn enter_ring(&mut self, wait: Wait) -> io::Result<()> {
        self.enter_for(wait, 0, 0)
    }

    /// As `enter`, and a sleep lasts for `more` completions beyond those of what it hands over, or for `min_us`
    /// microseconds, whichever is first; after that, for the first.
    pub(crate) fn enter_for(&mut self, wait: Wait, more: u32, min_us: u32) -> io::Result<()> {
        let more = if min_us == 0 { 0 } else { more };
        let time = match wait {
            // Without an end of its own, a sleep would end with the time for several (io_cqring_min_timer_wakeup).
            Wait::Until(None) if more > 0 => Some(types::Timespec::new().sec(AN_AGE_S)),
            Wait::No | Wait::Until(Some(0)) | Wait::Until(None) => None,
            Wait::Until(Some(ns)) => Some(types::Timespec::from(Duration::from_nanos(ns))),
        };
        let mut sleep = !matches!(wait, Wait::No | Wait::Until(Some(0)));
        loop {
            let caught_up = self.catch_up();
            let mut sleep_now = sleep && caught_up && self.ready.is_empty();
            let mut arg = None;
            if let Some(time) = &time
                && sleep_now
            {
                if self.granted.contains(Features::EXT_ARG) {
                    arg = Some(time);
                } else {
                    sleep_now = self.set_timer(*time);
                }
            }
            if self.overflowed() {
                self.stats.cq_overflows += 1;
            }
            let count = self.places_used();
            self.stats.enters += 1;
            let (completions, min_us) = match sleep_now {
                true if more > 0 => (count + more, min_us),
                _ => (u32::from(sleep_now), 0),
            };
            let answer = self.gate.enter(count, completions, arg, min_us);
            let taken = match answer {
                Ok(taken) => taken,
                Err(error) => match errno_of(&error) {
                    // The sleep is over, for whatever reason. The operations were taken before it.
                    libc::ETIME | libc::EINTR => {
                        sleep = false;
                        count - self.places_used()
                    }
                    // Completions must be taken first, or there is no memory just now.
                    libc::EBUSY | libc::EAGAIN => 0,
                    // Completions were lost; `stats` shows how many.
                    libc::EBADR => 0,
                    _ => return Err(error),
                },
            };
            self.stats.submitted += u64::from(taken);
            let left = self.places_used();
            if left == 0 {
                self.messages.clear();
            }
            if sleep_now {
                sleep = false;
            }
            let more = left > 0 || !caught_up;
            if taken == 0 || !(more || (sleep && self.ready.is_empty())) {
                return Ok(());
            }
        }
    }

    #[allow(clippy::cast_possible_truncation)] // at most 2^15 places
    fn places_used(&mut self) -> u32 {
        self.io.submission().len() as u32
    }

    /// Something inside ended. Timers own nothing, so nobody waits for their end.
    pub(crate) fn internal(&mut self, user_data: u64, result: i32, more: bool) {
        match user_data {
            WAKE => {
                self.wake_armed = more;
                self.under_way -= u64::from(!more);
            }
            CANCEL_ALL => self.under_way -= 1,
            TIMER if result == -libc::ETIME => self.timer_armed = false,
            TIMER | TIMER_END | QUIET => {}
            _ => unreachable!("a completion of nobody: {user_data:#x}"),
        }
    }

    /// Ends everything and waits for it. False if something is left.
    fn wind_up(&mut self) -> bool {
        self.closing = true;
        self.cancel_repeats();
        let deadline = self.clock().mono_ns + LAST_WAIT_NS;
        let mut cancelled = false;
        loop {
            if !cancelled && self.has_place() {
                let all = types::CancelBuilder::any().all();
                self.queue_counted(&opcode::AsyncCancel2::new(all).build().user_data(CANCEL_ALL));
                cancelled = true;
            }
            if self.enter_ring(Wait::Until(Some(20_000_000))).is_err() {
                return false;
            }
            while let Some(completion) = self.pop() {
                drop(completion);
            }
            if self.under_way == 0 {
                return true;
            }
            if self.clock().mono_ns >= deadline {
                return false;
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.wake.retire();
        let ended = self.wind_up();
        self.gate.unregister();
        // SAFETY: dropped here and nowhere else; nothing uses the field after.
        unsafe { ManuallyDrop::drop(&mut self.io) };
        if ended {
            // SAFETY: as above, and rule 5: the kernel has ended every operation.
            unsafe {
                ManuallyDrop::drop(&mut self.flights);
                ManuallyDrop::drop(&mut self.buffers);
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("granted", &self.granted)
            .field("flights", &self.flights.count())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use corelane_base::Token;
    use corelane_pools::{PoolConfig, Pools};

    use super::*;
    use crate::flights::Flight;

    #[test]
    fn what_an_operation_without_an_end_owns_is_leaked_after_two_seconds() {
        let config = RingConfig {
            entries: 8,
            completion_entries: 16,
            recv_buffers: 2,
            recv_buffer_bytes: 64,
            descriptors: 8,
            without: Features::NONE,
        };
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        let mut ring = Ring::new(&config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ring.add_listener(listener.into());
        // An operation the kernel never answers.
        assert!(ring.flights.has_room());
        let mut data = pools.get(10).unwrap();
        data.put(b"x");
        ring.flights.insert(Token::new(0, 0, 0, 0), Flight::Send(Chain::from(data)));
        ring.under_way += 1;
        let start = ring.clock().mono_ns;
        drop(ring);
        let mut clock = Ring::new(&config).unwrap();
        let waited = clock.clock().mono_ns - start;
        assert!((LAST_WAIT_NS..2 * LAST_WAIT_NS).contains(&waited), "{waited} ns");
        assert_eq!(pools.stats().lent(), 1, "freed under the kernel");
    }
}
